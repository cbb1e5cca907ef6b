//! One request: whose it is, where it goes, what is said when it cannot.
//!
//! | asked for | goes to |
//! |---|---|
//! | `<service>.<label>.<domain>` | a ready replica |
//! | `/v2/…` | the registry |
//! | `/v1/allocations/{id}/{logs, stats, inspect, exec, usage, tunnel}` | the agent of its host |
//! | `/v1/gateway` | this gateway |
//! | other `/v1/…`, `/openapi.json`, `/metrics` | a validator that answers |
//!
//! A request is tried again elsewhere only while nothing of its body has been read, and, once
//! a connection stood, only if doing it twice does no harm.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Semaphore, watch};
use types::{AllocationId, Digest, Protocol};

use crate::Config;
use crate::client::Shares;
use crate::connect::Connector;
use crate::directory::Directory;
use crate::limits::{
    ANSWER_TIME, ATTEMPTS_MAX, IDLE_MAX, IDLE_TIME, LONG_POLL_TIME, SPLICED_MAX, SPLICED_SHARE,
    VALIDATOR_TIME,
};
use crate::outgoing::{Outgoing, Reply};
use crate::published::PortState;
use crate::table::{InFlight, Service, Table, Trust, authority, machine};
use crate::upgrade::{Upgrade, strip_hop_by_hop};
use crate::validators::Validators;
use crate::{page, status};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

pub struct Gateway {
    pub table: Arc<ArcSwap<Table>>,
    /// Moves when the table does.
    pub changes: watch::Sender<u64>,
    pub client: Client<Connector, Outgoing>,
    pub validators: Validators,
    pub directory: Directory,
    /// State of the published ports, for the status.
    pub ports: Mutex<BTreeMap<(Protocol, u16), PortState>>,
    pub spliced: Arc<Semaphore>,
    /// Of the clients of published ports.
    pub shares: Shares,
    pub machine: Digest,
    registry: Option<Authority>,
    /// `.localhost`
    suffix: String,
    trust: Trust,
}

impl Gateway {
    pub fn new(config: &Config, trust: Trust) -> Result<Self> {
        let table = Arc::new(ArcSwap::from_pointee(Table::default()));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_MAX)
            .set_host(false);
        let connector = Connector {
            table: table.clone(),
        };
        let registry = match &config.registry {
            None => None,
            Some(url) => Some(authority(url).with_context(|| {
                format!("{url} is not the registry's address: write http://host:port")
            })?),
        };
        Ok(Self {
            table,
            changes: watch::Sender::new(0),
            client: builder.build(connector),
            validators: Validators::new(&config.validators)?,
            directory: Directory::default(),
            ports: Mutex::default(),
            spliced: Arc::new(Semaphore::new(SPLICED_MAX)),
            shares: Shares::new(SPLICED_SHARE),
            machine: machine().context("read this machine's boot id")?,
            registry,
            suffix: format!(".{}", config.domain.trim_matches('.').to_ascii_lowercase()),
            trust,
        })
    }

    /// Takes `routes` for what is true from now on.
    pub fn update(&self, routes: api::Routes) {
        let before = self.table.load();
        let table = Table::new(routes, &before, self.machine, self.trust);
        if table.refused > before.refused {
            tracing::warn!(
                count = table.refused,
                "replicas are passed over: their hosts give addresses that are no container's"
            );
        }
        self.table.store(Arc::new(table));
        self.changes.send_modify(|n| *n += 1);
    }
}

/// The host that a request is for, without port; `Err` if it names none or two.
fn host_of(request: &Request<Incoming>) -> Result<&str, &'static str> {
    let text = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut hosts = request.headers().get_all(HOST).iter();
            match (hosts.next(), hosts.next()) {
                (Some(host), None) => host.to_str().map_err(|_| "its host cannot be read")?,
                (None, _) if request.version() < Version::HTTP_11 => "",
                (None, _) => return Err("it names no host"),
                (Some(_), Some(_)) => return Err("it names two hosts"),
            }
        }
    };
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => text,
    };
    Ok(host.trim_end_matches('.'))
}

pub async fn answer(
    gateway: Arc<Gateway>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<Reply> {
    if request.method() == Method::CONNECT {
        return page::page(
            request.headers(),
            StatusCode::METHOD_NOT_ALLOWED,
            "CONNECT",
            "this is a gateway to services, not a proxy",
        );
    }
    let host = match host_of(&request) {
        Ok(host) => host,
        Err(why) => {
            return page::page(
                request.headers(),
                StatusCode::BAD_REQUEST,
                "the request",
                why,
            );
        }
    };
    let lower = match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    };
    let Some(name) = lower.strip_suffix(gateway.suffix.as_str()) else {
        return to_api(&gateway, peer, request).await;
    };
    let table = gateway.table.load();
    match table.service(name).cloned() {
        Some(service) => {
            drop(table);
            to_service(&gateway, peer, &service, request).await
        }
        None if table.known => page::page(
            request.headers(),
            StatusCode::NOT_FOUND,
            host,
            "no service has this name; `runrig ps` shows those that run",
        ),
        None => page::page(
            request.headers(),
            StatusCode::SERVICE_UNAVAILABLE,
            host,
            "the gateway has just started and does not know the routes yet",
        ),
    }
}

/// A request taken apart, ready to be sent to one upstream after another.
struct Sending {
    parts: Parts,
    path: PathAndQuery,
    body: Outgoing,
    upgrade: Option<Upgrade>,
}

enum SendError {
    /// No answer in time.
    Late,
    /// The client stopped sending.
    Stalled,
    Failed {
        error: ClientError,
        /// It may be sent elsewhere.
        again: bool,
    },
}

impl SendError {
    fn again(&self, sending: &Sending) -> bool {
        match self {
            Self::Late => sending.is_harmless() && sending.body.is_whole(),
            Self::Stalled => false,
            Self::Failed { again, .. } => *again,
        }
    }

    fn why(&self) -> String {
        match self {
            Self::Late => "no answer in time".into(),
            Self::Stalled => "the client stopped sending".into(),
            Self::Failed { error, .. } => {
                let mut cause: &dyn std::error::Error = error;
                while let Some(next) = cause.source() {
                    cause = next;
                }
                cause.to_string()
            }
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Failed { .. } => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Sending {
    fn new(mut request: Request<Incoming>, peer: IpAddr) -> Self {
        let upgrade = Upgrade::wanted(&mut request);
        let (mut parts, body) = request.into_parts();
        parts.extensions.clear();
        parts.version = Version::HTTP_11;
        let path = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            parts.headers.insert(HOST, host);
        }
        strip_hop_by_hop(&mut parts.headers);
        // What a stranger says about where it comes from is not passed on.
        if let Ok(address) = HeaderValue::from_str(&peer.to_string()) {
            parts.headers.insert(FORWARDED_FOR, address);
        }
        let http = HeaderValue::from_static("http");
        parts.headers.insert(FORWARDED_PROTO, http);
        if let Some(host) = parts.headers.get(HOST).cloned() {
            parts.headers.insert(FORWARDED_HOST, host);
        }
        if let Some(upgrade) = &upgrade {
            upgrade.ask(&mut parts.headers);
        }
        Self {
            parts,
            path,
            body: Outgoing::new(body),
            upgrade,
        }
    }

    /// Doing it twice does no harm.
    fn is_harmless(&self) -> bool {
        self.parts.method.is_idempotent()
    }

    async fn send(
        &mut self,
        gateway: &Gateway,
        upstream: &Authority,
        limit: Duration,
        is_last: bool,
    ) -> Result<Response<Incoming>, SendError> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(upstream.clone());
        uri.path_and_query = Some(self.path.clone());
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.headers_mut() = match is_last {
            true => std::mem::take(&mut self.parts.headers),
            false => self.parts.headers.clone(),
        };
        let mut answer = std::pin::pin!(gateway.client.request(request));
        let mut sent = self.body.pieces();
        loop {
            match tokio::time::timeout(limit, answer.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(_)) if self.body.is_stalled() => return Err(SendError::Stalled),
                Ok(Err(error)) => {
                    let again = self.body.is_whole() && (error.is_connect() || self.is_harmless());
                    return Err(SendError::Failed { error, again });
                }
                // Time counts from the body's last piece: an upload takes as long as it takes.
                Err(_) if self.body.pieces() != sent => sent = self.body.pieces(),
                Err(_) => return Err(SendError::Late),
            }
        }
    }

    /// The upstream's answer for the client.
    fn finish(self, mut response: Response<Incoming>, held: Option<InFlight>) -> Response<Reply> {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match self.upgrade {
            Some(upgrade) if switches => {
                upgrade.join(&mut response, held);
                let (mut parts, _) = response.into_parts();
                parts.extensions.clear();
                Response::from_parts(parts, Reply::own(""))
            }
            _ if switches => page::problem(
                StatusCode::BAD_GATEWAY,
                "unavailable",
                "the service",
                "it changed the protocol unasked",
                "Correct the service.",
            ),
            _ => {
                let (mut parts, body) = response.into_parts();
                parts.extensions.clear();
                strip_hop_by_hop(&mut parts.headers);
                Response::from_parts(parts, Reply::passed(body, held))
            }
        }
    }
}

async fn to_service(
    gateway: &Gateway,
    peer: IpAddr,
    service: &Service,
    request: Request<Incoming>,
) -> Response<Reply> {
    if service.frozen || service.replicas.is_empty() {
        return page::absent(request.headers(), service);
    }
    if service.http_port.is_none() {
        return page::page(
            request.headers(),
            StatusCode::BAD_GATEWAY,
            &service.domain,
            "it neither publishes nor exposes a TCP port that requests could go to",
        );
    }
    let accept = request.headers().get(http::header::ACCEPT).cloned();
    let mut sending = Sending::new(request, peer);
    let attempts = ATTEMPTS_MAX.min(service.replicas.len());
    let mut tried: Vec<AllocationId> = Vec::new();
    loop {
        let replica = service.choose(&tried).filter(|r| r.http.is_some());
        let Some((replica, upstream)) = replica.and_then(|r| Some((r, r.http.as_ref()?))) else {
            return page::absent(&sending.parts.headers, service);
        };
        let held = replica.begin();
        let is_last = tried.len() + 1 >= attempts;
        match sending.send(gateway, upstream, ANSWER_TIME, is_last).await {
            Ok(response) => return sending.finish(response, Some(held)),
            Err(error) => {
                if matches!(&error, SendError::Failed { error, .. } if error.is_connect()) {
                    replica.failed();
                }
                tracing::debug!(
                    service = %service.domain, allocation = %replica.allocation,
                    why = error.why(), "a replica did not answer"
                );
                tried.push(replica.allocation);
                // A slow replica is not the reason to make a second one slow.
                if is_last || matches!(error, SendError::Late) || !error.again(&sending) {
                    let mut headers = http::HeaderMap::new();
                    headers.extend(accept.map(|a| (http::header::ACCEPT, a)));
                    let why = match &error {
                        SendError::Stalled => error.why(),
                        _ => format!("replica {} failed: {}", replica.allocation, error.why()),
                    };
                    return page::page(&headers, error.status(), &service.domain, &why);
                }
            }
        }
    }
}

async fn to_api(gateway: &Gateway, peer: IpAddr, request: Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path();
    match path {
        "/" => return status::welcome(gateway, request.headers()),
        "/v1/gateway" => return page::json(StatusCode::OK, &status::status(gateway)),
        _ => {}
    }
    if path == "/v2" || path.starts_with("/v2/") {
        return match &gateway.registry {
            Some(registry) => {
                let mut sending = Sending::new(request, peer);
                match sending.send(gateway, registry, ANSWER_TIME, true).await {
                    Ok(response) => sending.finish(response, None),
                    Err(error) => unavailable(error.status(), "the registry", error.why()),
                }
            }
            None => page::problem(
                StatusCode::NOT_FOUND,
                "not_found",
                "the registry",
                "this gateway has none",
                "Load images with `runrig image load`, or name another registry.",
            ),
        };
    }
    if let Some(id) = of_an_agent(path) {
        let Ok(id) = id.parse::<AllocationId>() else {
            return page::problem(
                StatusCode::BAD_REQUEST,
                "invalid",
                id,
                "it is not the id of an allocation",
                "Write it as `runrig ps` does: a-1.",
            );
        };
        return to_agent(gateway, peer, id, request).await;
    }
    if path.starts_with("/v1/") || matches!(path, "/openapi.json" | "/metrics") {
        return to_validators(gateway, peer, request).await;
    }
    page::problem(
        StatusCode::NOT_FOUND,
        "not_found",
        path,
        "there is nothing at this path, and the host name is not a service's",
        "See /openapi.json; services are at http://<service>.<label>.<domain>.",
    )
}

/// The allocation of a path that its host's agent answers.
fn of_an_agent(path: &str) -> Option<&str> {
    let (id, rest) = path.strip_prefix("/v1/allocations/")?.split_once('/')?;
    let verb = rest.split('/').next()?;
    matches!(
        verb,
        "logs" | "stats" | "inspect" | "exec" | "usage" | "tunnel"
    )
    .then_some(id)
}

fn unavailable(status: StatusCode, what: &str, why: String) -> Response<Reply> {
    page::problem(
        status,
        "unavailable",
        what,
        format!("it did not answer: {why}"),
        "Try again in a moment.",
    )
}

async fn to_agent(
    gateway: &Gateway,
    peer: IpAddr,
    id: AllocationId,
    request: Request<Incoming>,
) -> Response<Reply> {
    let mut sending = Sending::new(request, peer);
    for is_last in [false, true] {
        let agent = match gateway.directory.agent(gateway, id).await {
            Ok(agent) => agent,
            Err(response) => return *response,
        };
        match sending.send(gateway, &agent, ANSWER_TIME, is_last).await {
            Ok(response) => return sending.finish(response, None),
            Err(error) => {
                // It may have moved: ask again where it is.
                gateway.directory.forget(id);
                if is_last || !error.again(&sending) {
                    return unavailable(error.status(), &format!("the host of {id}"), error.why());
                }
            }
        }
    }
    unavailable(StatusCode::BAD_GATEWAY, "the host", "gone".into())
}

async fn to_validators(
    gateway: &Gateway,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<Reply> {
    let holds = request.uri().query().is_some_and(|q| q.contains("wait_ms"));
    let limit = match holds {
        true => LONG_POLL_TIME,
        false => VALIDATOR_TIME,
    };
    let mut sending = Sending::new(request, peer);
    let validators = gateway.validators.in_order();
    let mut failure = None;
    for (i, validator) in validators.iter().enumerate() {
        let is_last = i + 1 == validators.len();
        match sending
            .send(gateway, &validator.address, limit, is_last)
            .await
        {
            Ok(response) => {
                let turned_away = response.status() == StatusCode::SERVICE_UNAVAILABLE;
                if turned_away && !is_last && sending.is_harmless() && sending.body.is_whole() {
                    continue;
                }
                gateway.validators.answered(validator);
                return sending.finish(response, None);
            }
            Err(error) => {
                if !matches!(error, SendError::Stalled) {
                    validator.failed();
                }
                if !error.again(&sending) {
                    return unavailable(error.status(), "the validator", error.why());
                }
                failure = Some(error);
            }
        }
    }
    let why = failure.map_or_else(|| "none is left".into(), |e| e.why());
    page::problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "the validators",
        format!("none of {} answers: {why}", validators.len()),
        "Try again in a moment; services that run go on.",
    )
}
