//! Get manifests and blobs from registries, and put them into the network's own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;
use types::{Digest, ImageRef};

use crate::ImageError;
use crate::reference::{NETWORK_REGISTRY, parse, pinned};

const MANIFEST_MAX: usize = 4 << 20;
const MANIFESTS: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const QUIET: Duration = Duration::from_secs(60);

/// Adds what proves who asks: name and value of a header for a method and a path.
pub type Signer = Arc<dyn Fn(&str, &str) -> (String, String) + Send + Sync>;

/// How registries are reached.
#[derive(Clone, Default)]
pub struct Access {
    /// URL behind which [`NETWORK_REGISTRY`] is: a gateway.
    pub network: Option<String>,
    /// For tags in the network's registry. Reading by digest needs none.
    pub signer: Option<Signer>,
    /// Use the credentials that `docker login` left. Hosts have none.
    pub docker_login: bool,
}

pub struct Source {
    client: Client,
    http: reqwest::Client,
    access: Access,
}

fn failed(operation: &'static str, reference: &str, why: impl ToString) -> ImageError {
    ImageError::Failed {
        operation,
        reference: reference.into(),
        why: why.to_string(),
    }
}

fn explained(
    operation: &'static str,
    reference: &Reference,
    error: OciDistributionError,
) -> ImageError {
    let (reference, why) = (reference.whole(), error.to_string());
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => {
            ImageError::NotFound { reference, why }
        }
        OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::UnauthorizedError { .. } => ImageError::Denied { reference, why },
        OciDistributionError::RegistryError { .. }
            if why.contains("MANIFEST_UNKNOWN") || why.contains("NAME_UNKNOWN") =>
        {
            ImageError::NotFound { reference, why }
        }
        OciDistributionError::RegistryError { .. }
            if why.contains("UNAUTHORIZED") || why.contains("DENIED") =>
        {
            ImageError::Denied { reference, why }
        }
        _ => failed(operation, &reference, why),
    }
}

impl Source {
    pub fn new(access: Access) -> Self {
        let plain = |protocol| ClientConfig {
            protocol,
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(QUIET),
            ..ClientConfig::default()
        };
        Self {
            client: Client::new(plain(ClientProtocol::HttpsExcept(local_registries()))),
            http: reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(5))
                .read_timeout(QUIET)
                .no_proxy()
                .build()
                .unwrap_or_default(),
            access,
        }
    }

    fn network(&self, reference: &Reference) -> Result<Option<String>, ImageError> {
        if reference.registry() != NETWORK_REGISTRY {
            return Ok(None);
        }
        match &self.access.network {
            Some(url) => Ok(Some(url.trim_end_matches('/').to_string())),
            None => Err(failed(
                "find",
                &reference.whole(),
                "no network is known here",
            )),
        }
    }

    fn auth(&self, reference: &Reference) -> RegistryAuth {
        if self.access.docker_login {
            docker_login(reference.resolve_registry()).unwrap_or(RegistryAuth::Anonymous)
        } else {
            RegistryAuth::Anonymous
        }
    }

    async fn get(
        &self,
        base: &str,
        path: &str,
        reference: &Reference,
    ) -> Result<reqwest::Response, ImageError> {
        let name = reference.whole();
        let mut request = self.http.get(format!("{base}{path}"));
        for kind in MANIFESTS {
            request = request.header("accept", *kind);
        }
        if let Some(signer) = &self.access.signer {
            let (header, value) = signer("GET", path);
            request = request.header(header, value);
        }
        let response = request.send().await.map_err(|e| {
            failed(
                "fetch",
                &name,
                format!("the network's registry does not answer: {e}"),
            )
        })?;
        let why = format!("HTTP {}", response.status());
        match response.status().as_u16() {
            200 => Ok(response),
            404 => Err(ImageError::NotFound {
                reference: name,
                why,
            }),
            401 | 403 => Err(ImageError::Denied {
                reference: name,
                why,
            }),
            _ => Err(failed("fetch", &name, why)),
        }
    }

    /// Bytes of the manifest and what they hash to; by tag or by digest, unchecked.
    pub async fn manifest(&self, reference: &Reference) -> Result<(Vec<u8>, Digest), ImageError> {
        let bytes: Vec<u8> = match self.network(reference)? {
            Some(base) => {
                let at = reference.digest().or(reference.tag()).unwrap_or("latest");
                let path = format!("/v2/{}/manifests/{at}", reference.repository());
                let response = self.get(&base, &path, reference).await?;
                bounded(response, MANIFEST_MAX)
                    .await
                    .map_err(|why| failed("fetch", &reference.whole(), why))?
            }
            None => {
                let auth = self.auth(reference);
                let (bytes, _) = self
                    .client
                    .pull_manifest_raw(reference, &auth, MANIFESTS)
                    .await
                    .map_err(|e| explained("fetch", reference, e))?;
                bytes.to_vec()
            }
        };
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }

    /// Streams a blob into `file`; returns what its bytes hash to. At most `most` bytes.
    pub async fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        file: &Path,
        most: u64,
    ) -> Result<Digest, ImageError> {
        let name = reference.whole();
        let io = |e: std::io::Error| failed("keep", &name, e);
        let mut stream: futures::stream::BoxStream<'static, Result<Bytes, String>> =
            match self.network(reference)? {
                Some(base) => {
                    let path = format!("/v2/{}/blobs/{digest}", reference.repository());
                    let response = self.get(&base, &path, reference).await?;
                    response
                        .bytes_stream()
                        .map(|b| b.map_err(|e| e.to_string()))
                        .boxed()
                }
                None => {
                    let auth = self.auth(reference);
                    self.client
                        .auth(reference, &auth, oci_client::RegistryOperation::Pull)
                        .await
                        .map_err(|e| explained("fetch", reference, e))?;
                    let text = digest.to_string();
                    let stream = self
                        .client
                        .pull_blob_stream(reference, text.as_str())
                        .await
                        .map_err(|e| explained("fetch", reference, e))?;
                    stream.stream.map(|b| b.map_err(|e| e.to_string())).boxed()
                }
            };
        let mut out = tokio::fs::File::create(file).await.map_err(io)?;
        let mut hasher = Sha256::new();
        let mut bytes = 0u64;
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                // The client checks digests too: let our own comparison say what is wrong.
                Err(why) if why.contains("igest") => break,
                Err(why) => return Err(failed("fetch", &name, why)),
            };
            bytes += chunk.len() as u64;
            if bytes > most {
                return Err(failed(
                    "fetch",
                    &name,
                    format!("a blob is larger than {most} bytes"),
                ));
            }
            hasher.update(&chunk);
            out.write_all(&chunk).await.map_err(io)?;
        }
        out.flush().await.map_err(io)?;
        Ok(Digest(hasher.finalize().into()))
    }
}

async fn bounded(response: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let mut stream = response.bytes_stream();
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| e.to_string())?;
        if all.len() + chunk.len() > most {
            return Err(format!("more than {most} bytes"));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Registries on this machine speak plain HTTP.
fn local_registries() -> Vec<String> {
    let mut all = vec!["localhost".to_string(), "127.0.0.1".to_string()];
    for port in [5000, 5001, 8700] {
        all.push(format!("localhost:{port}"));
        all.push(format!("127.0.0.1:{port}"));
    }
    if let Ok(more) = std::env::var("RUNRIG_INSECURE_REGISTRIES") {
        all.extend(more.split(',').map(|r| r.trim().to_string()));
    }
    all
}

/// What `docker login` keeps for a registry.
fn docker_login(registry: &str) -> Option<RegistryAuth> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .map(std::path::PathBuf::from)
        .or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".docker")))?;
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()?;
    let names = match registry {
        "index.docker.io" | "docker.io" => vec![
            "https://index.docker.io/v1/",
            "docker.io",
            "index.docker.io",
        ],
        other => vec![other],
    };
    for name in names {
        let helper = config["credHelpers"][name]
            .as_str()
            .or(config["credsStore"].as_str());
        if let Some(helper) = helper
            && let Some(auth) = from_helper(helper, name)
        {
            return Some(auth);
        }
        let entry = &config["auths"][name];
        if let Some(auth) = entry["auth"].as_str()
            && let Ok(decoded) = BASE64.decode(auth)
            && let Ok(text) = String::from_utf8(decoded)
            && let Some((user, password)) = text.split_once(':')
        {
            return Some(RegistryAuth::Basic(user.into(), password.into()));
        }
    }
    None
}

fn from_helper(helper: &str, registry: &str) -> Option<RegistryAuth> {
    use std::io::Write;
    let plain = helper
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let mut child = plain
        .then(|| {
            std::process::Command::new(format!("docker-credential-{helper}"))
                .arg("get")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .ok()
        })
        .flatten()?;
    child.stdin.take()?.write_all(registry.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(RegistryAuth::Basic(
        answer["Username"].as_str()?.into(),
        answer["Secret"].as_str()?.into(),
    ))
}

/// Pins a reference: tag → digest of the manifest or index it names now.
pub async fn resolve(reference: &str, access: &Access) -> Result<ImageRef, ImageError> {
    let parsed = parse(reference)?;
    let (_, digest) = Source::new(access.clone()).manifest(&parsed).await?;
    if let Some(wanted) = parsed.digest()
        && wanted != digest.to_string()
    {
        return Err(ImageError::Corrupt {
            reference: parsed.whole(),
            what: "the manifest".into(),
            expected: wanted.parse().unwrap_or_default(),
            actual: digest,
        });
    }
    Ok(ImageRef {
        reference: parsed.whole(),
        digest,
    })
}

/// Where [`push`] and [`copy`] put images.
struct Target<'a> {
    http: reqwest::Client,
    base: &'a str,
    repository: &'a str,
    signer: &'a Signer,
}

impl Target<'_> {
    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        kind: &str,
        body: reqwest::Body,
    ) -> Result<reqwest::StatusCode, ImageError> {
        let (header, value) = (self.signer)(method.as_str(), path);
        let response = self
            .http
            .request(method, format!("{}{path}", self.base.trim_end_matches('/')))
            .header(header, value)
            .header("content-type", kind)
            .body(body)
            .send()
            .await
            .map_err(|e| failed("push", self.repository, e))?;
        let code = response.status();
        if code.is_success() || code.as_u16() == 404 {
            return Ok(code);
        }
        let said: String = response
            .text()
            .await
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect();
        Err(failed(
            "push",
            self.repository,
            format!("HTTP {code}: {said}"),
        ))
    }

    async fn blob(&self, digest: &Digest, file: &Path) -> Result<(), ImageError> {
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let there = self
            .send(reqwest::Method::HEAD, &path, "", reqwest::Body::default())
            .await?;
        if there.is_success() {
            return Ok(());
        }
        let file = tokio::fs::File::open(file)
            .await
            .map_err(|e| failed("push", self.repository, e))?;
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        let kind = "application/octet-stream";
        let code = self
            .send(reqwest::Method::POST, &path, kind, file.into())
            .await?;
        match code.as_u16() {
            201 => Ok(()),
            other => Err(failed("push", self.repository, format!("HTTP {other}"))),
        }
    }

    async fn manifest(&self, name: &str, bytes: Vec<u8>) -> Result<(), ImageError> {
        let kind = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|m| Some(m["mediaType"].as_str()?.to_string()))
            .unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".into());
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        match self
            .send(reqwest::Method::PUT, &path, &kind, bytes.into())
            .await?
            .as_u16()
        {
            201 => Ok(()),
            other => Err(failed("push", self.repository, format!("HTTP {other}"))),
        }
    }
}

/// Digests that a manifest names: (config and layers, manifests of an index).
pub fn names(manifest: &[u8]) -> Option<(Vec<Digest>, Vec<Digest>)> {
    let manifest: Value = serde_json::from_slice(manifest).ok()?;
    let digest = |value: &Value| crate::reference::digest(value["digest"].as_str()?);
    let list = |key: &str| -> Option<Vec<Digest>> {
        match manifest[key].as_array() {
            Some(all) => all.iter().map(digest).collect(),
            None => Some(Vec::new()),
        }
    };
    let mut blobs = list("layers")?;
    if manifest["config"].is_object() {
        blobs.push(digest(&manifest["config"])?);
    }
    Some((blobs, list("manifests")?))
}

/// Puts an opened image into the network's registry under `tag`.
///
/// `registry`: URL of a gateway; `repository`: `<account>/<name>`.
pub async fn push(
    image: &crate::LocalImage,
    registry: &str,
    repository: &str,
    tag: &str,
    signer: &Signer,
) -> Result<ImageRef, ImageError> {
    let target = Target {
        http: reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap_or_default(),
        base: registry,
        repository,
        signer,
    };
    let bytes =
        std::fs::read(image.blob(&image.manifest)).map_err(|e| failed("push", repository, e))?;
    let mut waiting = vec![(image.manifest, bytes)];
    let mut ready = Vec::new();
    while let Some((digest, bytes)) = waiting.pop() {
        let (blobs, manifests) = names(&bytes)
            .ok_or_else(|| failed("push", repository, "its manifest cannot be read"))?;
        for blob in blobs {
            target.blob(&blob, &image.blob(&blob)).await?;
        }
        for inner in manifests {
            // An index may name platforms that were not exported.
            if let Ok(bytes) = std::fs::read(image.blob(&inner)) {
                waiting.push((inner, bytes));
            }
        }
        ready.push((digest, bytes));
    }
    while let Some((digest, bytes)) = ready.pop() {
        let name = if digest == image.manifest {
            tag.to_string()
        } else {
            digest.to_string()
        };
        target.manifest(&name, bytes).await?;
    }
    Ok(ImageRef {
        reference: format!("{NETWORK_REGISTRY}/{repository}:{tag}"),
        digest: image.manifest,
    })
}

/// Copies a (private) image into the network's registry, so that hosts need no credentials.
pub async fn copy(
    from: &ImageRef,
    access: &Access,
    registry: &str,
    repository: &str,
    signer: &Signer,
) -> Result<ImageRef, ImageError> {
    let source = Source::new(access.clone());
    let folder = tempfile::tempdir().map_err(|e| failed("copy", &from.reference, e))?;
    let reference = pinned(from)?;
    let image = crate::LocalImage {
        name: None,
        manifest: from.digest,
        layout: folder.path().into(),
    };
    let keep = |digest: &Digest, bytes: &[u8]| -> Result<(), ImageError> {
        let path = image.blob(digest);
        std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))
            .and_then(|()| std::fs::write(path, bytes))
            .map_err(|e| failed("copy", &from.reference, e))
    };
    let mut waiting = vec![from.digest];
    while let Some(digest) = waiting.pop() {
        let at = reference.clone_with_digest(digest.to_string());
        let (bytes, actual) = source.manifest(&at).await?;
        if actual != digest {
            return Err(ImageError::Corrupt {
                reference: at.whole(),
                what: "the manifest".into(),
                expected: digest,
                actual,
            });
        }
        keep(&digest, &bytes)?;
        let (blobs, manifests) = names(&bytes)
            .ok_or_else(|| failed("copy", &from.reference, "its manifest cannot be read"))?;
        for blob in blobs {
            let path = image.blob(&blob);
            if !path.exists() {
                let actual = source.blob(&at, &blob, &path, u64::MAX).await?;
                if actual != blob {
                    return Err(ImageError::Corrupt {
                        reference: at.whole(),
                        what: "a blob".into(),
                        expected: blob,
                        actual,
                    });
                }
            }
        }
        waiting.extend(manifests);
    }
    push(&image, registry, repository, "copied", signer).await
}
