//! The distribution API: from a request to what answers it.
//!
//! | asked for | who may |
//! |---|---|
//! | a blob, a manifest by digest, what refers to one | all |
//! | a manifest by tag, tags, repositories | the account in front of the name, and its viewers |
//! | anything that changes something | that account and its developers, if it exists on the ledger |
//! | an upload, a manifest of an image that a host builds for it | that host too |

use std::sync::Arc;

use anyhow::{Context, Result};
use api::{Gauge, PROMETHEUS};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use ledger::account::Role;
use serde_json::json;
use types::{AccountId, Digest};

use crate::accounts::Accounts;
use crate::answer::{Answer, Refused, disk, refused};
use crate::keep::Keep;
use crate::limits::{ORPHAN_AGE, ORPHANS_SWEPT_EVERY, UPLOAD_IDLE, UPLOADS_SWEPT_EVERY};
use crate::login::{self, Tokens};
use crate::manifests::small_body;
use crate::route::Asked;
use crate::uploads::Uploads;
use crate::{Config, serve};

const FORM_BYTES_MAX: usize = 16 << 10;

pub struct Registry {
    pub keep: Arc<Keep>,
    pub config: Config,
    pub uploads: Uploads,
    tokens: Tokens,
    accounts: Accounts,
}

/// Names and values of a query, decoded.
pub struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Self {
        let pairs = axum::extract::Query::try_from_uri(uri);
        Self(pairs.map_or(Vec::new(), |axum::extract::Query(pairs)| pairs))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Runs until `shutdown`.
///
/// Boxed: an async function is compiled in each crate that awaits it, and this is a whole service.
pub fn run(config: Config, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, Result<()>> {
    run_until(config, shutdown).boxed()
}

async fn run_until(config: Config, shutdown: BoxFuture<'static, ()>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}; choose another with --listen", config.listen))?;
    let registry = open(config)?;
    let sweeper = tokio::spawn(sweep(registry.clone()));
    serve::serve(listener, routed(registry), shutdown).await;
    sweeper.abort();
    Ok(())
}

pub fn open(config: Config) -> Result<Arc<Registry>> {
    let keep =
        Keep::open(&config.data).with_context(|| format!("open {}", config.data.display()))?;
    Ok(Arc::new(Registry {
        keep: Arc::new(keep),
        uploads: Uploads::default(),
        tokens: Tokens::new(),
        accounts: Accounts::new(&config.network)?,
        config,
    }))
}

pub fn routed(registry: Arc<Registry>) -> Router {
    Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::disable())
        .with_state(registry)
}

/// Lets go of what was begun and left.
async fn sweep(registry: Arc<Registry>) {
    let mut uploads = tokio::time::interval(UPLOADS_SWEPT_EVERY);
    let mut orphans = tokio::time::interval(ORPHANS_SWEPT_EVERY);
    loop {
        tokio::select! {
            _ = uploads.tick() => registry.uploads.sweep(UPLOAD_IDLE),
            _ = orphans.tick() => match registry.keep.run(|keep| keep.sweep(ORPHAN_AGE)).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "blobs that no manifest names are gone"),
                Err(error) => tracing::error!(%error, "old blobs cannot be swept"),
            }
        }
    }
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_string();
    let asked = Asked::parse(&path);
    let repository = asked.as_ref().and_then(Asked::repository);
    let done = match &asked {
        Some(asked) => {
            let request = Request::from_parts(parts.clone(), body);
            registry.dispatch(asked, request).await
        }
        None => Err(refused(404, "NAME_UNKNOWN", "there is nothing here")),
    };
    let mut response = match done {
        Ok(response) => response,
        Err(refused) if refused.status == StatusCode::UNAUTHORIZED => refused
            .with(
                "www-authenticate",
                login::challenge(&parts.headers, repository),
            )
            .into_response(),
        Err(refused) => refused.into_response(),
    };
    if let Ok(value) = "registry/2.0".parse() {
        response
            .headers_mut()
            .insert("docker-distribution-api-version", value);
    }
    response
}

/// Errors of the disk; a limit of it is the client's to hear of.
pub fn kept(error: std::io::Error) -> Refused {
    match error.kind() {
        std::io::ErrorKind::QuotaExceeded => refused(403, "DENIED", error),
        std::io::ErrorKind::StorageFull => refused(507, "DENIED", "the registry's disk is full"),
        _ => disk(error),
    }
}

pub fn created(name: &str, digest: &Digest, kind: &str) -> Response {
    let location = format!("/v2/{name}/{kind}/{digest}");
    let headers = [
        ("location", location),
        ("docker-content-digest", digest.to_string()),
    ];
    (StatusCode::CREATED, headers).into_response()
}

/// Who asks, looked at only where it matters.
struct Caller<'a> {
    registry: &'a Registry,
    method: &'a Method,
    path: &'a str,
    headers: &'a HeaderMap,
}

impl Caller<'_> {
    fn account(&self) -> Result<api::Caller, Refused> {
        let tokens = &self.registry.tokens;
        let caller = tokens.caller(self.method, self.path, self.headers)?;
        caller.ok_or_else(|| {
            let why = "say who you are: the runrig command signs, others log in with the password of `runrig image password`";
            refused(401, "UNAUTHORIZED", why)
        })
    }

    /// The account in front of a repository's name: it asks, or who has a role from `least` up
    /// for it.
    async fn owner(&self, name: &str, least: Role) -> Result<AccountId, Refused> {
        let caller = self.account()?;
        let named = name.split('/').next().and_then(|n| n.parse().ok());
        if let Some(owner) = named
            && self.registry.accounts.lets(caller, owner, least).await?
        {
            return Ok(owner);
        }
        let account = caller.account;
        let why = format!("the repository is not under your account: name it {account}/…");
        Err(refused(403, "DENIED", why))
    }

    /// The account in front of a repository's name: it asks, or a host that builds this for it.
    async fn adder(&self, name: &str, tag: Option<&str>) -> Result<AccountId, Refused> {
        let account = self.account()?.account;
        let owner = name.split_once('/');
        let owner = owner.and_then(|(owner, name)| Some((owner.parse::<AccountId>().ok()?, name)));
        if let Some((owner, repository)) = owner
            && owner != account
            && self
                .registry
                .accounts
                .builds(account, owner, repository, tag)
                .await?
        {
            return Ok(owner);
        }
        self.writer(name).await
    }

    /// Also exists on the ledger.
    async fn writer(&self, name: &str) -> Result<AccountId, Refused> {
        let account = self.owner(name, Role::Developer).await?;
        self.registry.accounts.must_exist(account).await?;
        Ok(account)
    }
}

impl Registry {
    async fn dispatch(&self, asked: &Asked<'_>, request: Request) -> Answer {
        let (parts, body) = request.into_parts();
        let (method, headers) = (&parts.method, &parts.headers);
        let path = parts.uri.path_and_query().map_or("", |p| p.as_str());
        let query = Query::of(&parts.uri);
        let caller = Caller {
            registry: self,
            method,
            path,
            headers,
        };
        let head = *method == Method::HEAD;
        match (asked, method.as_str()) {
            (Asked::Health, "GET" | "HEAD") => Ok("ok\n".into_response()),
            (Asked::Metrics, "GET") => Ok(self.metrics()),
            // Clients learn here how to log in, and whether they are.
            (Asked::Ping, "GET" | "HEAD") => {
                if !headers.contains_key("authorization") {
                    caller.account()?;
                }
                self.tokens.caller(method, path, headers)?;
                Ok(axum::Json(json!({})).into_response())
            }
            (Asked::Token, "GET") => self.tokens.answer(headers),
            (Asked::Token, "POST") => {
                let body = small_body(body, FORM_BYTES_MAX).await?;
                let form = String::from_utf8_lossy(&body);
                let as_query: Uri = format!("/?{form}")
                    .parse()
                    .map_err(|e| refused(400, "UNSUPPORTED", e))?;
                self.tokens.answer_form(&Query::of(&as_query).0)
            }
            (Asked::Catalogue(account), "GET") => {
                caller.owner(account, Role::Viewer).await?;
                let account = account.to_string();
                let names = self.keep.run(move |keep| Ok(keep.repositories(&account)));
                let names = names.await.map_err(disk)?;
                Ok(axum::Json(json!({ "repositories": names })).into_response())
            }
            (Asked::Blob(name, digest), "GET" | "HEAD") => {
                self.read_blob(name, digest, headers, head).await
            }
            (Asked::Blob(name, digest), "DELETE") => {
                caller.writer(name).await?;
                self.delete_blob(name, digest).await
            }
            (Asked::Uploads(name), "POST") => {
                let account = caller.adder(name, None).await?;
                self.begin_upload(account, name, &query, headers, body)
                    .await
            }
            (Asked::Upload(name, id), "GET") => {
                let account = caller.adder(name, None).await?;
                self.upload_status(account, name, id).await
            }
            (Asked::Upload(name, id), "PATCH") => {
                let account = caller.adder(name, None).await?;
                self.go_on(account, name, id, headers, body).await
            }
            (Asked::Upload(name, id), "PUT") => {
                let account = caller.adder(name, None).await?;
                self.complete(account, name, id, &query, headers, body)
                    .await
            }
            (Asked::Upload(name, id), "DELETE") => {
                let account = caller.adder(name, None).await?;
                self.cancel(account, name, id)
            }
            (Asked::Manifest(name, at), "GET" | "HEAD") => {
                if crate::route::digest(at).is_none() {
                    caller.owner(name, Role::Viewer).await?;
                }
                self.read_manifest(name, at, head).await
            }
            (Asked::Manifest(name, at), "PUT") => {
                let tag = crate::route::digest(at).is_none().then_some(*at);
                let account = caller.adder(name, tag).await?;
                self.put_manifest(account, name, at, headers, body).await
            }
            (Asked::Manifest(name, at), "DELETE") => {
                caller.writer(name).await?;
                self.delete_manifest(name, at).await
            }
            (Asked::Tags(name), "GET") => {
                caller.owner(name, Role::Viewer).await?;
                self.tags(name, &query).await
            }
            (Asked::Referrers(name, digest), "GET") => self.referrers(name, digest, &query).await,
            _ => Err(refused(
                405,
                "UNSUPPORTED",
                "this method is not for this path",
            )),
        }
    }

    fn metrics(&self) -> Response {
        let gauges = [
            Gauge::new(
                "runrig_registry_uploads",
                "Uploads under way.",
                self.uploads.streams() as u64,
            ),
            Gauge::new(
                "runrig_registry_disk_free_bytes",
                "Bytes left on the disk.",
                self.keep.free(),
            ),
            Gauge::new(
                "runrig_registry_disk_kept_bytes",
                "Bytes that uploads leave free.",
                self.config.disk_bytes_min,
            ),
        ];
        ([("content-type", PROMETHEUS)], api::prometheus(&gauges)).into_response()
    }
}

/// Serves on any listener; without the sweeper, and with no end.
pub fn router(config: Config) -> Result<Router> {
    Ok(routed(open(config)?))
}
