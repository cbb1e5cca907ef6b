//! The distribution API.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use api::RequestAuth;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use types::Digest;

use crate::Config;
use crate::keep::Keep;

const MANIFEST_MAX: usize = 4 << 20;
const UPLOADS_MAX: usize = 32;
const NAME_MAX: usize = 200;

struct Registry {
    keep: Keep,
    config: Config,
    next: AtomicU64,
    uploads: Semaphore,
}

type App = Arc<Registry>;

/// Runs until `shutdown`.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}; choose another with --listen", config.listen))?;
    let router = router(config)?;
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
        .context("the registry has stopped")
}

pub fn router(config: Config) -> Result<Router> {
    let keep =
        Keep::open(&config.data).with_context(|| format!("open {}", config.data.display()))?;
    keep.forget_abandoned()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as u64);
    let app = Arc::new(Registry {
        keep,
        config,
        next: AtomicU64::new(now),
        uploads: Semaphore::new(UPLOADS_MAX),
    });
    Ok(Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::disable())
        .with_state(app))
}

struct Refused(StatusCode, &'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.1, "message": self.2 }] });
        (
            self.0,
            [("content-type", "application/json")],
            body.to_string(),
        )
            .into_response()
    }
}

fn refused(code: u16, name: &'static str, why: impl ToString) -> Refused {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    Refused(code, name, why.to_string())
}

fn disk(error: std::io::Error) -> Refused {
    tracing::error!(%error, "the registry's disk");
    refused(500, "UNKNOWN", "the registry's disk failed")
}

type Answer = Result<Response, Refused>;

/// What a path is about.
enum Asked<'a> {
    Ping,
    /// Ours: names of an account's repositories.
    Catalogue(&'a str),
    Blob(&'a str),
    Uploads(&'a str),
    Upload(&'a str, u64),
    Manifest(&'a str, &'a str),
    Tags(&'a str),
    Referrers,
}

fn asked(path: &str) -> Option<Asked<'_>> {
    let path = path.strip_prefix("/v2")?;
    if path.is_empty() || path == "/" {
        return Some(Asked::Ping);
    }
    let path = path.strip_prefix('/')?;
    if let Some(account) = path.strip_prefix("_accounts/") {
        return is_name(account).then_some(Asked::Catalogue(account));
    }
    let split = |word: &str| path.rsplit_once(word).filter(|(name, _)| is_name(name));
    if let Some((name, rest)) = split("/blobs/uploads/") {
        return match rest {
            "" => Some(Asked::Uploads(name)),
            id => id.parse().ok().map(|id| Asked::Upload(name, id)),
        };
    }
    if let Some(name) = path.strip_suffix("/blobs/uploads").filter(|n| is_name(n)) {
        return Some(Asked::Uploads(name));
    }
    if let Some(name) = path.strip_suffix("/tags/list").filter(|n| is_name(n)) {
        return Some(Asked::Tags(name));
    }
    if let Some((_, digest)) = split("/blobs/") {
        return Some(Asked::Blob(digest));
    }
    if split("/referrers/").is_some() {
        return Some(Asked::Referrers);
    }
    split("/manifests/").map(|(name, at)| Asked::Manifest(name, at))
}

/// Lower-case parts between slashes; none begins with a dot or an underscore.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.split('/').all(|part| {
            part.bytes()
                .next()
                .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        })
}

fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !tag.ends_with(".writing")
}

async fn answer(State(app): State<App>, request: Request) -> Response {
    match dispatch(&app, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn dispatch(app: &Registry, request: Request) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_string();
    let query = parts.uri.query().unwrap_or_default().to_string();
    let full = parts
        .uri
        .path_and_query()
        .map_or(path.clone(), ToString::to_string);
    let Some(asked) = asked(&path) else {
        return Err(refused(404, "NAME_UNKNOWN", "there is nothing here").into_response());
    };
    let method = parts.method;
    let headers = &parts.headers;
    let owned = |name: &str| owner(&method, &full, headers, name);
    let done = match (&asked, method.as_str()) {
        (Asked::Ping, "GET" | "HEAD") => Ok("{}".into_response()),
        (Asked::Catalogue(account), "GET") => match owned(account) {
            Ok(()) => Ok(
                axum::Json(json!({ "repositories": app.keep.repositories(account) }))
                    .into_response(),
            ),
            Err(refused) => Err(refused),
        },
        (Asked::Blob(digest), "GET" | "HEAD") => {
            app.blob(digest, headers, method == Method::HEAD).await
        }
        (Asked::Uploads(name), "POST") => match owned(name) {
            Ok(()) => app.begin(name, &query, body).await,
            Err(refused) => Err(refused),
        },
        (Asked::Upload(name, id), "PATCH") => match owned(name) {
            Ok(()) => app.go_on(name, *id, body).await,
            Err(refused) => Err(refused),
        },
        (Asked::Upload(name, id), "PUT") => match owned(name) {
            Ok(()) => app.complete(name, *id, &query, body).await,
            Err(refused) => Err(refused),
        },
        (Asked::Manifest(name, at), "GET" | "HEAD") => {
            let open = at.parse::<Digest>().is_ok();
            match if open { Ok(()) } else { owned(name) } {
                Ok(()) => app.manifest(name, at, method == Method::HEAD).await,
                Err(refused) => Err(refused),
            }
        }
        (Asked::Manifest(name, at), "PUT") => match owned(name) {
            Ok(()) => app.put_manifest(name, at, headers, body).await,
            Err(refused) => Err(refused),
        },
        (Asked::Manifest(name, tag), "DELETE") => match owned(name) {
            Ok(()) => match app.keep.untag(name, tag).await {
                Ok(()) => Ok(StatusCode::ACCEPTED.into_response()),
                Err(_) => Err(refused(404, "MANIFEST_UNKNOWN", "there is no such tag")),
            },
            Err(refused) => Err(refused),
        },
        (Asked::Tags(name), "GET") => match owned(name) {
            Ok(()) => match app.keep.tags(name) {
                Some(tags) => Ok(axum::Json(json!({ "name": name, "tags": tags })).into_response()),
                None => Err(refused(404, "NAME_UNKNOWN", "there is no such repository")),
            },
            Err(refused) => Err(refused),
        },
        (Asked::Referrers, "GET") => {
            let index = json!({ "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] });
            let kind = [("content-type", "application/vnd.oci.image.index.v1+json")];
            Ok((kind, index.to_string()).into_response())
        }
        _ => Err(refused(
            405,
            "UNSUPPORTED",
            "this method is not for this path",
        )),
    };
    done.map_err(IntoResponse::into_response)
}

/// The account in front of a repository's name must have signed the request.
fn owner(method: &Method, path: &str, headers: &HeaderMap, name: &str) -> Result<(), Refused> {
    let header = headers
        .get(RequestAuth::HEADER)
        .and_then(|v| v.to_str().ok());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let account = RequestAuth::check(header, method.as_str(), path, now)
        .map_err(|e| refused(401, "UNAUTHORIZED", e))?;
    if name.split('/').next() == Some(account.to_string().as_str()) {
        return Ok(());
    }
    Err(refused(
        403,
        "DENIED",
        "the repository belongs to another account",
    ))
}

fn wanted_digest(query: &str) -> Result<Option<Digest>, Refused> {
    let Some(text) = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("digest="))
    else {
        return Ok(None);
    };
    text.replace("%3A", ":")
        .replace("%3a", ":")
        .parse()
        .map(Some)
        .map_err(|e: types::DigestError| refused(400, "DIGEST_INVALID", e))
}

impl Registry {
    async fn blob(&self, digest: &str, headers: &HeaderMap, head: bool) -> Answer {
        let digest: Digest = digest
            .parse()
            .map_err(|e: types::DigestError| refused(400, "DIGEST_INVALID", e))?;
        let mut file = tokio::fs::File::open(self.keep.blob(&digest))
            .await
            .map_err(|_| refused(404, "BLOB_UNKNOWN", "there is no such blob"))?;
        let size = file.metadata().await.map_err(disk)?.len();
        let (from, to, code) = match range(headers, size) {
            Some(Some((from, to))) => (from, to, StatusCode::PARTIAL_CONTENT),
            Some(None) => return Err(refused(416, "UNSUPPORTED", "no such range")),
            None => (0, size, StatusCode::OK),
        };
        file.seek(std::io::SeekFrom::Start(from))
            .await
            .map_err(disk)?;
        let mut response = Response::builder()
            .status(code)
            .header("content-type", "application/octet-stream")
            .header("accept-ranges", "bytes")
            .header("docker-content-digest", digest.to_string())
            .header("content-length", to - from);
        if code == StatusCode::PARTIAL_CONTENT {
            response = response.header("content-range", format!("bytes {from}-{}/{size}", to - 1));
        }
        let body = if head {
            Body::empty()
        } else {
            let limited = tokio::io::AsyncReadExt::take(file, to - from);
            Body::from_stream(ReaderStream::with_capacity(limited, 1 << 17))
        };
        response.body(body).map_err(|e| refused(500, "UNKNOWN", e))
    }

    /// All at once if the digest is told, else step by step.
    async fn begin(&self, name: &str, query: &str, body: Body) -> Answer {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.keep.upload(id);
        tokio::fs::File::create(&path).await.map_err(disk)?;
        if let Some(digest) = wanted_digest(query)? {
            self.append(id, body).await?;
            return self.publish(name, id, &digest).await;
        }
        if let Some(digest) = query.split('&').find_map(|p| p.strip_prefix("mount=")) {
            let known = digest
                .replace("%3A", ":")
                .replace("%3a", ":")
                .parse::<Digest>();
            if let Ok(digest) = known.as_ref().map(|d| d.to_owned())
                && self.keep.blob(&digest).exists()
            {
                let _ = tokio::fs::remove_file(&path).await;
                return Ok(created(name, &digest, "blobs"));
            }
        }
        Ok(under_way(StatusCode::ACCEPTED, name, id, 0))
    }

    async fn append(&self, id: u64, body: Body) -> Result<u64, Refused> {
        let _place = self
            .uploads
            .try_acquire()
            .map_err(|_| refused(429, "TOOMANYREQUESTS", "too many uploads at once"))?;
        let path = self.keep.upload(id);
        let mut file = tokio::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .await
            .map_err(|_| refused(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload"))?;
        let mut bytes = file.metadata().await.map_err(disk)?.len();
        let mut checked = 0;
        let mut stream = body.into_data_stream();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
            let Some(chunk) =
                next.map_err(|_| refused(408, "BLOB_UPLOAD_INVALID", "nothing came for a minute"))?
            else {
                break;
            };
            let chunk: Bytes = chunk.map_err(|e| refused(400, "BLOB_UPLOAD_INVALID", e))?;
            bytes += chunk.len() as u64;
            if bytes > self.config.blob_bytes_max {
                let _ = tokio::fs::remove_file(&path).await;
                let most = self.config.blob_bytes_max;
                return Err(refused(
                    413,
                    "SIZE_INVALID",
                    format!("a blob has at most {most} bytes"),
                ));
            }
            if bytes / (64 << 20) >= checked {
                checked = bytes / (64 << 20) + 1;
                if self.keep.free() < self.config.disk_bytes_min {
                    let _ = tokio::fs::remove_file(&path).await;
                    return Err(refused(
                        507,
                        "UNSUPPORTED",
                        "the registry's disk is nearly full",
                    ));
                }
            }
            file.write_all(&chunk).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        Ok(bytes)
    }

    async fn go_on(&self, name: &str, id: u64, body: Body) -> Answer {
        let bytes = self.append(id, body).await?;
        Ok(under_way(StatusCode::ACCEPTED, name, id, bytes))
    }

    async fn complete(&self, name: &str, id: u64, query: &str, body: Body) -> Answer {
        let digest = wanted_digest(query)?
            .ok_or_else(|| refused(400, "DIGEST_INVALID", "say which: ?digest=sha256:…"))?;
        self.append(id, body).await?;
        self.publish(name, id, &digest).await
    }

    async fn publish(&self, name: &str, id: u64, digest: &Digest) -> Answer {
        let whole = self
            .keep
            .finish(&self.keep.upload(id), digest)
            .await
            .map_err(disk)?;
        if !whole {
            let why = "the bytes are not what the digest says";
            return Err(refused(400, "DIGEST_INVALID", why));
        }
        Ok(created(name, digest, "blobs"))
    }

    async fn manifest(&self, name: &str, at: &str, head: bool) -> Answer {
        let unknown = || refused(404, "MANIFEST_UNKNOWN", "there is no such manifest");
        let digest = match at.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) if is_tag(at) => self.keep.tag(name, at).await.ok_or_else(unknown)?,
            Err(_) => return Err(refused(400, "TAG_INVALID", "that is no tag")),
        };
        let (kind, bytes) = self
            .keep
            .manifest(name, &digest)
            .await
            .ok_or_else(unknown)?;
        Response::builder()
            .header("content-type", kind)
            .header("docker-content-digest", digest.to_string())
            .header("content-length", bytes.len())
            .body(if head { Body::empty() } else { bytes.into() })
            .map_err(|e| refused(500, "UNKNOWN", e))
    }

    async fn put_manifest(&self, name: &str, at: &str, headers: &HeaderMap, body: Body) -> Answer {
        let bytes = axum::body::to_bytes(body, MANIFEST_MAX)
            .await
            .map_err(|_| refused(413, "SIZE_INVALID", "a manifest has at most 4 MiB"))?;
        let parsed: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| refused(400, "MANIFEST_INVALID", e))?;
        let named = parsed["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(parsed["config"].is_object().then_some(&parsed["config"]));
        for blob in named {
            let digest = blob["digest"]
                .as_str()
                .and_then(|d| d.parse::<Digest>().ok());
            if !digest.is_some_and(|d| self.keep.blob(&d).exists()) {
                return Err(refused(
                    400,
                    "MANIFEST_BLOB_UNKNOWN",
                    "push its blobs first",
                ));
            }
        }
        let tag = match at.parse::<Digest>() {
            Ok(digest) if digest == Digest::of(&bytes) => None,
            Ok(_) => {
                return Err(refused(
                    400,
                    "DIGEST_INVALID",
                    "the manifest is not what its digest says",
                ));
            }
            Err(_) if is_tag(at) => Some(at),
            Err(_) => {
                return Err(refused(
                    400,
                    "TAG_INVALID",
                    "a tag has letters, digits, . _ and -",
                ));
            }
        };
        let kind = headers
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .filter(|k| k.len() < 200)
            .unwrap_or("application/vnd.oci.image.manifest.v1+json");
        let digest = self
            .keep
            .put_manifest(name, kind, &bytes, tag)
            .await
            .map_err(disk)?;
        Ok(created(name, &digest, "manifests"))
    }
}

/// `None`: no range asked. `Some(None)`: one that cannot be.
fn range(headers: &HeaderMap, size: u64) -> Option<Option<(u64, u64)>> {
    let text = headers
        .get("range")?
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?;
    let (from, to) = text.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let to = match to {
        "" => size,
        to => to.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    Some((from < to).then_some((from, to)))
}

fn created(name: &str, digest: &Digest, kind: &str) -> Response {
    let location = format!("/v2/{name}/{kind}/{digest}");
    let headers = [
        ("location", location),
        ("docker-content-digest", digest.to_string()),
    ];
    (StatusCode::CREATED, headers).into_response()
}

fn under_way(code: StatusCode, name: &str, id: u64, bytes: u64) -> Response {
    let headers = [
        ("location", format!("/v2/{name}/blobs/uploads/{id}")),
        ("docker-upload-uuid", id.to_string()),
        ("range", format!("0-{}", bytes.saturating_sub(1))),
    ];
    (code, headers).into_response()
}
