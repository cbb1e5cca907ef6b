//! Which network, and as whom: contexts, keys, and the order in which settings win.
//!
//! Flags, then `RUNRIG_*`, then `.runrig.toml` of the project (this folder or one above),
//! then `$XDG_CONFIG_HOME/runrig/config.toml`. Keys lie apart from it, each in a file that
//! only its owner may read.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdk::Client;
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, SecretKey};

use crate::failure::{self, Failure, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Of gateways or validators; the next is asked when one does not answer.
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Group key that certifies every block, hex: what `receipt --verify` trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_key: Option<String>,
    /// Of the key that acts for the account by a grant: made by `runrig login`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<AccountId>,
    /// URL of the web pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal: Option<String>,
}

/// What a project's folder may say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    context: Option<String>,
    url: Option<String>,
    account: Option<AccountId>,
}

/// Given on the command line or by `RUNRIG_*` (clap has put the flag first).
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub context: Option<String>,
    pub url: Option<String>,
    pub account: Option<String>,
    pub key: Option<PathBuf>,
    /// What is read is verified, against a block that is no older.
    pub verify: Option<Duration>,
    /// Of each transaction.
    pub tip: Option<Amount>,
}

/// The folder of the user's settings.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// `$NAME`, or `fallback` under the home directory.
pub fn base_dir(name: &str, fallback: &str) -> Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    // The specification wants relative paths ignored.
    set(name)
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(fallback)))
        .ok_or_else(|| {
            Failure::usage(
                "no place for settings",
                format!("neither {name} nor HOME is set"),
                "Set HOME.",
            )
        })
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{what} {}", path.display());
    Failure::new(failure::FAILED, what, error.to_string(), "")
}

/// Whole or not at all, readable by its owner only.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

pub fn create_private_dir(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// A new key, or the one that is in `path` already.
pub fn key_file(path: &Path) -> Result<SecretKey> {
    match read_key(path)? {
        Some(key) => Ok(key),
        None => {
            let key = SecretKey::random(&mut rand::rng());
            write_key(path, &key)?;
            Ok(key)
        }
    }
}

pub fn write_key(path: &Path, key: &SecretKey) -> Result {
    if let Some(folder) = path.parent() {
        create_private_dir(folder).map_err(|e| io("make", folder, &e))?;
    }
    write_private(path, format!("{}\n", key.to_hex()).as_bytes()).map_err(|e| io("write", path, &e))
}

/// `None` if there is no such file. One that others may read is refused.
pub fn read_key(path: &Path) -> Result<Option<SecretKey>> {
    use std::os::unix::fs::PermissionsExt;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("read", path, &error)),
    };
    let mode = std::fs::metadata(path)
        .map_err(|e| io("read", path, &e))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            failure::SIGNATURE,
            format!("key file {}", path.display()),
            format!("others may read it (mode {:03o})", mode & 0o777),
            format!("Run `chmod 600 {}`.", path.display()),
        ));
    }
    SecretKey::from_hex(&text).map(Some).map_err(|e| {
        Failure::usage(
            format!("key file {}", path.display()),
            e.to_string(),
            "Put the right file back, or name another with --key.",
        )
    })
}

impl Home {
    pub fn open() -> Result<Self> {
        Ok(Self(base_dir("XDG_CONFIG_HOME", ".config")?.join("runrig")))
    }

    #[cfg(test)]
    pub fn at(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    pub fn config_path(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The newest block of a network, by its key, that was verified.
    pub fn checkpoint_path(&self, network_key: &[u8]) -> PathBuf {
        let name = types::Digest::of(network_key).hex();
        self.0.join("checkpoints").join(&name[..32])
    }

    pub fn key_path(&self, account: &AccountId) -> PathBuf {
        self.0.join("keys").join(account.to_string())
    }

    pub fn read(&self) -> Result<ConfigFile> {
        let path = self.config_path();
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ConfigFile::default()),
            Err(error) => Err(io("read", &path, &error)),
        }
    }

    pub fn write(&self, config: &ConfigFile) -> Result {
        create_private_dir(&self.0).map_err(|e| io("make", &self.0, &e))?;
        let text = toml::to_string(config).map_err(|e| {
            Failure::new(
                failure::FAILED,
                "settings cannot be written",
                e.to_string(),
                "",
            )
        })?;
        let path = self.config_path();
        write_private(&path, text.as_bytes()).map_err(|e| io("write", &path, &e))
    }

    /// Adds or replaces a context and makes it the current one.
    pub fn adopt(&self, name: &str, context: Context, key: Option<&SecretKey>) -> Result {
        if let Some(key) = key {
            write_key(&self.key_path(&AccountId::of(&key.public())), key)?;
        }
        let mut config = self.read()?;
        config.contexts.insert(name.to_string(), context);
        config.current = Some(name.to_string());
        self.write(&config)
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        Failure::usage(
            format!("{} cannot be read", path.display()),
            e.to_string().trim().to_string(),
            "Correct it, or move it away and start anew.",
        )
    })
}

fn project_file(start: &Path) -> Result<ProjectFile> {
    for folder in start.ancestors() {
        let path = folder.join(".runrig.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => return parse(&path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("read", &path, &error)),
        }
    }
    Ok(ProjectFile::default())
}

/// Everything a command needs to speak to a network.
#[derive(Clone)]
pub struct Session {
    /// Of the context; shown before dangerous acts.
    pub name: String,
    pub client: Client,
    pub network_key: Option<String>,
    account: Option<AccountId>,
    key_path: Option<PathBuf>,
    /// The key was named beside the account: it may be another one that acts for it.
    delegated: bool,
    /// The key is one of `runrig login`.
    logged_in: bool,
    /// What is read is verified, against a block that is no older.
    pub verify: Option<Duration>,
}

impl Session {
    /// As the account of the key file, at one gateway.
    pub fn at(name: &str, url: String, key: &Path) -> Result<Self> {
        Ok(Self {
            name: name.to_string(),
            client: Client::new([url])?,
            network_key: None,
            account: None,
            key_path: Some(key.to_path_buf()),
            delegated: false,
            logged_in: false,
            verify: None,
        })
    }

    pub fn open(overrides: &Overrides) -> Result<Self> {
        let home = Home::open()?;
        let here = std::env::current_dir().unwrap_or_default();
        Self::resolve(&home, &project_file(&here)?, overrides)
    }

    fn resolve(home: &Home, project: &ProjectFile, overrides: &Overrides) -> Result<Self> {
        let config = home.read()?;
        let name = overrides
            .context
            .clone()
            .or_else(|| project.context.clone())
            .or_else(|| config.current.clone());
        let context = match &name {
            Some(name) => config.contexts.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = config.contexts.keys().map(String::as_str).collect();
                Failure::new(
                    failure::NOT_FOUND,
                    format!("context {name}"),
                    if known.is_empty() {
                        "there is none yet".to_string()
                    } else {
                        format!("known are {}", known.join(", "))
                    },
                    "See `runrig context ls`.",
                )
            })?,
            None => Context::default(),
        };
        let urls = match overrides.url.clone().or_else(|| project.url.clone()) {
            Some(url) => url.split(',').map(|u| u.trim().to_string()).collect(),
            None => context.urls.clone(),
        };
        if urls.is_empty() {
            return Err(Failure::new(
                failure::LOGIN,
                "not logged in",
                "there is no context yet, and no --url",
                "Log in with `runrig login URL` of a portal, start a cloud here with `runrig dev`, \
                 or make a key with `runrig context create NAME --url URL`.",
            ));
        }
        let account = match &overrides.account {
            Some(text) => Some(text.parse().map_err(|e: types::IdError| {
                Failure::usage("--account", e.to_string(), "See `runrig context show`.")
            })?),
            // Who names a key asks as its account.
            None if overrides.key.is_some() => None,
            None => project.account.or(context.account),
        };
        let of_login = context
            .key
            .filter(|_| overrides.key.is_none() && account == context.account);
        let key_path = overrides
            .key
            .clone()
            .or_else(|| of_login.or(account).map(|a| home.key_path(&a)));
        Ok(Self {
            name: name.unwrap_or_else(|| urls.join(",")),
            client: Client::new(urls)?.tipping(overrides.tip.unwrap_or_default()),
            network_key: context.network_key,
            account,
            key_path,
            delegated: overrides.key.is_some() || of_login.is_some(),
            logged_in: of_login.is_some(),
            verify: overrides.verify,
        })
    }

    /// Who asks. Needs no key.
    pub fn account(&self) -> Result<AccountId> {
        match self.account {
            Some(account) => Ok(account),
            None => Ok(AccountId::of(&self.key()?.public())),
        }
    }

    /// The key is one of `runrig login`, which its owner may take back.
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// Signs a call of the account and returns when it is applied. With another key than the
    /// account's own, on its behalf: the ledger knows what that key may.
    pub async fn submit(&self, call: ledger::Call) -> Result<api::TransactionView> {
        let (account, key) = (self.account()?, self.key()?);
        let own = account == AccountId::of(&key.public());
        let on_behalf = if own { Vec::new() } else { vec![account] };
        Ok(self.client.submit_for(&key, &on_behalf, call).await?)
    }

    pub fn key(&self) -> Result<SecretKey> {
        let login = |why: String| {
            Failure::new(
                failure::LOGIN,
                format!("no key for context {}", self.name),
                why,
                "Log in with `runrig login`, make an account with `runrig context create`, or name a key with --key FILE.",
            )
        };
        let path = self
            .key_path
            .as_ref()
            .ok_or_else(|| login("it has no account".into()))?;
        let key = read_key(path)?.ok_or_else(|| login(format!("{} is missing", path.display())))?;
        match self.account {
            Some(account) if !self.delegated && account != AccountId::of(&key.public()) => {
                Err(login(format!("{} is another account's", path.display())))
            }
            _ => Ok(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::at(&folder.path().join("runrig"));
        (folder, home)
    }

    #[test]
    fn settings_round_trip_and_keys_stay_private() {
        let (_folder, home) = home();
        assert_eq!(home.read().expect("empty"), ConfigFile::default());
        let key = SecretKey::from_seed([7; 32]);
        let account = AccountId::of(&key.public());
        let context = Context {
            urls: vec!["http://127.0.0.1:8700".into()],
            account: Some(account),
            network_key: Some("ab".into()),
            ..Context::default()
        };
        home.adopt("dev", context.clone(), Some(&key))
            .expect("written");
        let read = home.read().expect("read");
        assert_eq!(read.current.as_deref(), Some("dev"));
        assert_eq!(read.contexts["dev"], context);
        let text = std::fs::read_to_string(home.config_path()).expect("a file");
        assert!(!text.contains(&key.to_hex()));
        let path = home.key_path(&account);
        let mode = std::fs::metadata(&path)
            .expect("a key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("chmod");
        assert_eq!(read_key(&path).expect_err("readable by all").exit, 8);
    }

    #[test]
    fn flags_win_over_project_over_user() {
        let (_folder, home) = home();
        for name in ["one", "two", "three"] {
            let context = Context {
                urls: vec![format!("http://{name}")],
                ..Context::default()
            };
            home.adopt(name, context, None).expect("written");
        }
        let none = Overrides::default();
        let project = ProjectFile {
            context: Some("two".into()),
            ..ProjectFile::default()
        };
        let open = |p: &ProjectFile, o: &Overrides| Session::resolve(&home, p, o).map(|s| s.name);
        assert_eq!(open(&ProjectFile::default(), &none), Ok("three".into()));
        assert_eq!(open(&project, &none), Ok("two".into()));
        let flag = Overrides {
            context: Some("one".into()),
            ..Overrides::default()
        };
        assert_eq!(open(&project, &flag), Ok("one".into()));
        let missing = Overrides {
            context: Some("four".into()),
            ..Overrides::default()
        };
        assert_eq!(open(&project, &missing).map_err(|f| f.exit), Err(3));
    }

    #[test]
    fn without_a_key_one_is_asked_to_log_in() {
        let (_folder, home) = home();
        let overrides = Overrides {
            url: Some("http://127.0.0.1:1".into()),
            ..Overrides::default()
        };
        let session = Session::resolve(&home, &ProjectFile::default(), &overrides).expect("open");
        assert_eq!(session.account().map_err(|f| f.exit), Err(4));
    }

    #[test]
    fn a_wrong_file_is_named() {
        let (_folder, home) = home();
        home.write(&ConfigFile::default()).expect("written");
        std::fs::write(home.config_path(), "curent = \"x\"").expect("written");
        let failure = home.read().expect_err("a typo");
        assert_eq!(failure.exit, 2);
        assert!(failure.to_string().contains("curent"), "{failure}");
    }
}
