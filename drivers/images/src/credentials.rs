//! The credentials that `docker login`, `podman login` or `skopeo login` left on this machine.
//!
//! Looked for in the order in which those clients write: `$DOCKER_CONFIG/config.json` or
//! `~/.docker/config.json`, then `$REGISTRY_AUTH_FILE`, then containers' `auth.json`. An entry
//! for `host/namespace` wins over one for `host`. A credential program gets a bounded time.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FILE_MAX: u64 = 1 << 20;
const ANSWER_MAX: u64 = 64 << 10;
/// A program may have to ask its user to unlock a keychain.
const PROGRAM_TIME: Duration = Duration::from_secs(20);
const DOCKER_HUB: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

/// How a registry may be shown who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    Password {
        user: String,
        password: String,
    },
    /// Good for fetching tokens.
    Identity(String),
    /// Itself a token.
    Token(String),
}

/// Files to look for credentials in; none by default, as on hosts.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
    program_time: Option<Duration>,
}

impl Credentials {
    /// Those of the user who runs this program.
    pub fn of_user() -> Self {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let home = set("HOME");
        let under_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let docker = set("DOCKER_CONFIG").or_else(|| under_home(".docker"));
        let runtime = set("XDG_RUNTIME_DIR")
            .unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", nix::unistd::getuid())));
        let containers = set("XDG_CONFIG_HOME").or_else(|| under_home(".config"));
        let files = [
            docker.map(|d| d.join("config.json")),
            set("REGISTRY_AUTH_FILE"),
            Some(runtime.join("containers/auth.json")),
            // Where containers keeps it for root.
            Some(PathBuf::from(format!(
                "/run/containers/{}/auth.json",
                nix::unistd::getuid()
            ))),
            containers.map(|d| d.join("containers/auth.json")),
        ];
        Self {
            files: files.into_iter().flatten().collect(),
            program_time: None,
        }
    }

    /// Those of one file only.
    pub fn of_file(path: &Path) -> Self {
        Self {
            files: vec![path.into()],
            program_time: None,
        }
    }

    /// Gives credential programs so long instead of 20 s.
    pub fn with_program_time(mut self, time: Duration) -> Self {
        self.program_time = Some(time);
        self
    }

    /// What is kept for a repository; `None` if nothing is.
    ///
    /// Errors: a file that cannot be read, or a credential program that fails, in words.
    pub(crate) async fn of(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Login>, String> {
        for file in &self.files {
            let Some(config) = read(file).await? else {
                continue;
            };
            let time = self.program_time.unwrap_or(PROGRAM_TIME);
            if let Some(login) = find(&config, registry, repository, time).await? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

/// `None` if there is no such file.
async fn read(path: &Path) -> Result<Option<Value>, String> {
    let bad = |why: String| {
        format!(
            "the credentials in {} cannot be read: {why}",
            path.display()
        )
    };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        // Also a folder that this user may not enter: no credentials of theirs.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound
                    | std::io::ErrorKind::PermissionDenied
                    | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(bad(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX)
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| bad(e.to_string()))?;
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| bad(e.to_string()))
}

/// `https://index.docker.io/v1/` → `index.docker.io`.
fn bare(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    key.strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key)
}

/// How much of the repository's name a key names; `None` if it names another place.
fn fits(key: &str, registry: &str, repository: &str) -> Option<usize> {
    let key = bare(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let same = host == registry || (DOCKER_HUB.contains(&host) && DOCKER_HUB.contains(&registry));
    let under = path.is_empty()
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (same && under).then_some(path.len())
}

async fn find(
    config: &Value,
    registry: &str,
    repository: &str,
    time: Duration,
) -> Result<Option<Login>, String> {
    let helpers = config["credHelpers"].as_object();
    let helper = helpers
        .into_iter()
        .flatten()
        .find(|(key, _)| fits(key, registry, "").is_some())
        .and_then(|(key, helper)| Some((key.as_str(), helper.as_str()?)));
    let hub = DOCKER_HUB.contains(&registry);
    let shared = config["credsStore"].as_str().map(|helper| {
        let key = if hub {
            "https://index.docker.io/v1/"
        } else {
            registry
        };
        (key, helper)
    });
    if let Some((key, helper)) = helper.or(shared)
        && let Some(login) = ask(helper, key, time).await?
    {
        return Ok(Some(login));
    }
    let best = config["auths"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, entry)| Some((fits(key, registry, repository)?, entry)))
        .filter_map(|(length, entry)| Some((length, login(entry)?)))
        .max_by_key(|(length, _)| *length);
    Ok(best.map(|(_, login)| login))
}

fn login(entry: &Value) -> Option<Login> {
    let text = |key: &str| entry[key].as_str().filter(|t| !t.is_empty());
    if let Some(token) = text("registrytoken") {
        return Some(Login::Token(token.into()));
    }
    if let Some(token) = text("identitytoken") {
        return Some(Login::Identity(token.into()));
    }
    let decoded = text("auth")
        .and_then(|auth| BASE64.decode(auth).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = match &decoded {
        Some(pair) => pair.split_once(':')?,
        None => (text("username")?, text("password")?),
    };
    Some(Login::Password {
        user: user.into(),
        // Some clients pad it with zeros.
        password: password.trim_end_matches('\0').into(),
    })
}

/// Asks `docker-credential-<helper>`. `None`: it knows nothing of this registry.
async fn ask(helper: &str, key: &str, time: Duration) -> Result<Option<Login>, String> {
    let program = format!("docker-credential-{helper}");
    let plain = helper
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !plain {
        return Err(format!("{program:?} is no name of a credential program"));
    }
    let failed = |why: String| format!("{program} gave no credentials for {key}: {why}");
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("it does not start: {e}")))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut input) = input {
            // One that needs no question may have closed its input.
            let _ = input.write_all(key.as_bytes()).await;
        }
        let mut bytes = Vec::new();
        if let Some(output) = output {
            output.take(ANSWER_MAX).read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, bytes))
    };
    let (status, bytes) = tokio::time::timeout(time, talk)
        .await
        .map_err(|_| failed(format!("it did not answer within {} s", time.as_secs_f32())))?
        .map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&bytes).trim().to_string();
        if said.to_ascii_lowercase().contains("not found") {
            return Ok(None);
        }
        let said: String = said.chars().take(200).collect();
        return Err(failed(format!("{status} {said}")));
    }
    let answer: Value = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_string();
    let (user, secret) = (text("Username"), text("Secret"));
    Ok(match (user.as_str(), secret.is_empty()) {
        (_, true) => None,
        ("<token>", _) => Some(Login::Identity(secret)),
        _ => Some(Login::Password {
            user,
            password: secret,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_registries_in_many_ways() {
        for (key, registry, repository, expected) in [
            (
                "https://index.docker.io/v1/",
                "docker.io",
                "library/x",
                Some(0),
            ),
            ("docker.io", "index.docker.io", "x", Some(0)),
            ("ghcr.io", "ghcr.io", "acme/web", Some(0)),
            ("https://ghcr.io", "ghcr.io", "acme/web", Some(0)),
            ("http://localhost:5000/v2/", "localhost:5000", "x", Some(0)),
            ("ghcr.io/acme", "ghcr.io", "acme/web", Some(4)),
            ("ghcr.io/acme", "ghcr.io", "acmes/web", None),
            ("ghcr.io/acme/web", "ghcr.io", "acme/web", Some(8)),
            ("ghcr.io", "ghcr.io.evil.example", "x", None),
            ("quay.io", "ghcr.io", "x", None),
        ] {
            assert_eq!(
                fits(key, registry, repository),
                expected,
                "{key} {registry}"
            );
        }
    }

    #[tokio::test]
    async fn files_say_it_in_many_ways() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("config.json");
        let pair = BASE64.encode("ann:pass:word");
        std::fs::write(
            &file,
            serde_json::json!({ "auths": {
                "a.example": { "auth": pair },
                "a.example/team": { "username": "team", "password": "t" },
                "b.example": { "auth": "", "identitytoken": "id" },
                "c.example": { "registrytoken": "reg" },
                "d.example": {},
                "e.example": { "auth": "%%%" },
            }})
            .to_string(),
        )
        .expect("written");
        let password = |user: &str, password: &str| {
            Some(Login::Password {
                user: user.into(),
                password: password.into(),
            })
        };
        let credentials = Credentials::of_file(&file);
        for (registry, repository, expected) in [
            ("a.example", "x", password("ann", "pass:word")),
            ("a.example", "team/x", password("team", "t")),
            ("b.example", "x", Some(Login::Identity("id".into()))),
            ("c.example", "x", Some(Login::Token("reg".into()))),
            ("d.example", "x", None),
            ("e.example", "x", None),
            ("f.example", "x", None),
        ] {
            let found = credentials.of(registry, repository).await.expect("read");
            assert!(found == expected, "{registry}");
        }
        let none = Credentials::of_file(&dir.path().join("none"));
        assert!(none.of("a.example", "x").await == Ok(None));
        std::fs::write(&file, "{").expect("written");
        let error = credentials.of("a.example", "x").await.err().expect("bad");
        assert!(error.contains("config.json cannot be read"), "{error}");
    }
}
