//! What the tests of this crate stand on: images that `umoci` makes, and a small registry that
//! can be private, slow, broken or in a hurry.

#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use images::{Store, StoreConfig};
use serde_json::{Value, json};
use types::{Digest, ImageRef};

/// Runs a program; its output if it went well.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A layout `folder` with the image `tag` of one file per layer: `/<n>` with `<text> <n>`.
pub fn umoci_image(folder: &Path, tag: &str, text: &str, layers: usize) {
    let at = folder.display().to_string();
    if !folder.join("oci-layout").exists() {
        run("umoci", &["init", "--layout", &at]);
    }
    let image = format!("{at}:{tag}");
    run("umoci", &["new", "--image", &image]);
    let file = folder.with_extension("content");
    for n in 0..layers {
        std::fs::write(&file, format!("{text} {n}")).expect("written");
        let source = file.display().to_string();
        run(
            "umoci",
            &["insert", "--image", &image, &source, &format!("/{n}")],
        );
    }
    let command = ["config", "--image", &image, "--config.cmd", "/0"];
    run("umoci", &command);
    std::fs::remove_file(file).expect("removed");
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("json")
}

/// Digest of what a layout calls `tag`.
pub fn digest_of(layout: &Path, tag: &str) -> Digest {
    let index = json(&layout.join("index.json"));
    let named = |m: &&Value| m["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let manifests = index["manifests"].as_array().expect("manifests");
    let found = manifests.iter().find(named).expect("the tag");
    found["digest"]
        .as_str()
        .expect("text")
        .parse()
        .expect("a digest")
}

pub fn put(layout: &Path, value: &Value) -> (Digest, usize) {
    let bytes = serde_json::to_vec(value).expect("json");
    let digest = Digest::of(&bytes);
    std::fs::write(layout.join("blobs/sha256").join(digest.hex()), &bytes).expect("written");
    (digest, bytes.len())
}

pub fn store(folder: &Path) -> Store {
    Store::open(StoreConfig {
        dir: folder.into(),
        uid_base: nix::unistd::getuid().as_raw(),
        ..StoreConfig::default()
    })
    .expect("opens")
}

/// Who may read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    Open,
    Basic,
    /// Tokens for a password.
    Bearer,
    /// Tokens for an identity token only.
    Identity,
}

pub const USER: &str = "ann";
pub const PASSWORD: &str = "correct horse";
pub const IDENTITY: &str = "identity";

/// What goes wrong.
#[derive(Default)]
pub struct Faults {
    /// Answers 429 with this `Retry-After`, so many times.
    pub limited: Mutex<(u32, u64)>,
    /// Blobs break off after so many bytes, so often.
    pub cuts: Mutex<(u32, usize)>,
    pub ranges_ignored: bool,
}

pub struct Fake {
    layout: PathBuf,
    guard: Guard,
    pub faults: Faults,
    pub tags: Mutex<HashMap<String, Digest>>,
    /// Requests for content, as `METHOD path range`.
    pub asked: Mutex<Vec<String>>,
    pub requests: AtomicU64,
    under_way: AtomicUsize,
    pub at_once: AtomicUsize,
    address: Mutex<String>,
}

impl Fake {
    /// Serves `layout` as `<address>/acme/web`, each tag of its index as a tag.
    pub async fn start(layout: &Path, guard: Guard, faults: Faults) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let address = listener.local_addr().expect("bound").to_string();
        let index = json(&layout.join("index.json"));
        let entries = index["manifests"].as_array().cloned().unwrap_or_default();
        let tags = entries.iter().filter_map(|m| {
            let tag = m["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
            Some((tag.to_string(), m["digest"].as_str()?.parse().ok()?))
        });
        let fake = Arc::new(Self {
            layout: layout.into(),
            guard,
            faults,
            tags: Mutex::new(tags.collect()),
            asked: Mutex::default(),
            requests: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            address: Mutex::new(address),
        });
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub fn address(&self) -> String {
        self.address.lock().expect("not poisoned").clone()
    }

    pub fn reference(&self, tag: &str) -> String {
        format!("{}/acme/web:{tag}", self.address())
    }

    pub fn pinned(&self, tag: &str) -> ImageRef {
        ImageRef {
            reference: self.reference(tag),
            digest: self.tags.lock().expect("not poisoned")[tag],
        }
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.layout.join("blobs/sha256").join(digest.hex())
    }

    fn may(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get("authorization").and_then(|v| v.to_str().ok());
        match self.guard {
            Guard::Open => true,
            Guard::Basic => shown == Some(&basic()),
            Guard::Bearer | Guard::Identity => shown == Some("Bearer a-token"),
        }
    }

    async fn token(&self, headers: &HeaderMap, uri: &Uri, body: Bytes) -> Response {
        let scope = uri.query().unwrap_or_default();
        let body = String::from_utf8_lossy(&body);
        let right = match self.guard {
            Guard::Identity => {
                body.contains("grant_type=refresh_token") && body.contains("refresh_token=identity")
            }
            _ => {
                let shown = headers.get("authorization").and_then(|v| v.to_str().ok());
                scope.contains("repository%3Aacme%2Fweb%3Apull") && shown == Some(&basic())
            }
        };
        match right {
            true => {
                axum::Json(json!({ "access_token": "a-token", "expires_in": 300 })).into_response()
            }
            false => StatusCode::UNAUTHORIZED.into_response(),
        }
    }

    fn challenge(&self) -> String {
        match self.guard {
            Guard::Basic => r#"Basic realm="here""#.into(),
            _ => format!(
                r#"Bearer realm="http://{}/token",service="fake",scope="repository:acme/web:pull""#,
                self.address()
            ),
        }
    }
}

pub fn basic() -> String {
    format!("Basic {}", BASE64.encode(format!("{USER}:{PASSWORD}")))
}

fn refused(code: u16, name: &str) -> Response {
    let body = json!({ "errors": [{ "code": name, "message": "said the registry" }] });
    let code = StatusCode::from_u16(code).expect("a status");
    (code, axum::Json(body)).into_response()
}

async fn answer(State(fake): State<Arc<Fake>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 16).await.expect("short");
    let path = parts.uri.path();
    if path == "/token" {
        return fake.token(&parts.headers, &parts.uri, body).await;
    }
    fake.requests.fetch_add(1, Ordering::SeqCst);
    {
        let mut limited = fake.faults.limited.lock().expect("not poisoned");
        if limited.0 > 0 {
            limited.0 -= 1;
            let mut response = refused(429, "TOOMANYREQUESTS");
            let headers = response.headers_mut();
            headers.insert("retry-after", limited.1.to_string().parse().expect("text"));
            return response;
        }
    }
    if !fake.may(&parts.headers) {
        let mut response = refused(401, "UNAUTHORIZED");
        let challenge = fake.challenge().parse().expect("text");
        response.headers_mut().insert("www-authenticate", challenge);
        return response;
    }
    let range = parts.headers.get("range").and_then(|v| v.to_str().ok());
    let line = format!("{} {path} {}", parts.method, range.unwrap_or_default());
    fake.asked.lock().expect("not poisoned").push(line);
    if let Some(at) = path.strip_prefix("/v2/acme/web/manifests/") {
        let digest = at
            .parse()
            .ok()
            .or_else(|| fake.tags.lock().expect("not poisoned").get(at).copied());
        let bytes = digest.and_then(|d| std::fs::read(fake.blob(&d)).ok());
        return match bytes {
            Some(bytes) => bytes.into_response(),
            None => refused(404, "MANIFEST_UNKNOWN"),
        };
    }
    let bytes = path
        .strip_prefix("/v2/acme/web/blobs/")
        .and_then(|d| d.parse().ok())
        .and_then(|d: Digest| std::fs::read(fake.blob(&d)).ok());
    match bytes {
        Some(bytes) => content(fake, bytes, range).await,
        None => refused(404, "BLOB_UNKNOWN"),
    }
}

async fn content(fake: Arc<Fake>, bytes: Vec<u8>, range: Option<&str>) -> Response {
    let now = fake.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    fake.at_once.fetch_max(now, Ordering::SeqCst);
    // Others that come at once get the time to be seen.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    fake.under_way.fetch_sub(1, Ordering::SeqCst);
    let from = range
        .filter(|_| !fake.faults.ranges_ignored)
        .and_then(|r| r.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok())
        .unwrap_or(0)
        .min(bytes.len());
    let size = bytes.len();
    let rest = Bytes::from(bytes).slice(from..);
    let mut response = Response::builder().header("content-length", rest.len());
    if from > 0 {
        let range = format!("bytes {from}-{}/{size}", size - 1);
        response = response.status(206).header("content-range", range);
    }
    let cut = {
        let mut cuts = fake.faults.cuts.lock().expect("not poisoned");
        let cut = (cuts.0 > 0 && rest.len() > cuts.1).then_some(cuts.1);
        cuts.0 -= u32::from(cut.is_some());
        cut
    };
    let body = match cut {
        None => Body::from(rest),
        Some(most) => {
            let start = rest.slice(..most);
            let cut = async {
                // So that what came before is on its way.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                Err(std::io::Error::other("cut"))
            };
            let start = futures::stream::once(async { Ok(start) });
            Body::from_stream(start.chain(futures::stream::once(cut)))
        }
    };
    response.body(body).expect("a response")
}
