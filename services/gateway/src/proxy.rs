//! One request: whose it is, where it goes, what is said when it cannot.
//!
//! | asked for | goes to |
//! |---|---|
//! | `<service>.<label>.<domain>` | a ready replica |
//! | `/v2/…` | the registry |
//! | `/v1/allocations/{id}/{logs, stats, history, inspect, exec, usage, tunnel}` | the agent of its host |
//! | `/`, `/healthz`, `/metrics`, `/v1/gateway`, `/v1/deployments/{id}/{access, requests, metrics}` | this gateway |
//! | other `/v1/…`, `/openapi.json` | a validator that answers |
//!
//! A request is tried again elsewhere only while nothing of its body has been read, and, once
//! a connection stood, only if doing it twice does no harm.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use api::{KnownRoutes, ServiceKey};
use arc_swap::ArcSwap;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, VIA};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Notify, Semaphore, watch};
use types::{AllocationId, Digest, HostId, Protocol};

use crate::Config;
use crate::client::Shares;
use crate::connect::Connector;
use crate::directory::Directory;
use crate::limits::{
    ANSWER_TIME, IDLE_MAX, IDLE_TIME, LONG_POLL_TIME, SPLICED_MAX, SPLICED_SHARE, VALIDATOR_TIME,
    WAITING_MAX,
};
use crate::outgoing::{Outgoing, Reply};
use crate::past::Past;
use crate::published::PortState;
use crate::sending::{From, SendError, Sending};
use crate::service::to_service;
use crate::table::{Service, Table, Trust, authority, machine};
use crate::tls::Tls;
use crate::validators::Validators;
use crate::{access, directory, figures, oversized, page, requests, scrape, status, validators};

pub struct Gateway {
    pub table: Arc<ArcSwap<Table>>,
    /// Moves when the table does.
    pub changes: watch::Sender<u64>,
    pub client: Client<Connector, Outgoing>,
    pub validators: Validators,
    /// Who may act for whom.
    pub grants: sdk::Grants,
    pub directory: Directory,
    /// State of the published ports, for the status.
    pub ports: Mutex<BTreeMap<(Protocol, u16), PortState>>,
    /// Requests that wait for services to start.
    pub waiting: Semaphore,
    /// A request has come for a service that sleeps.
    pub sleepers: Notify,
    /// It has a key to have services started with.
    pub wakes: bool,
    /// Why services that sleep could not be woken just now, if so.
    pub refusal: ArcSwap<Option<String>>,
    pub spliced: Arc<Semaphore>,
    /// Of the clients of published ports.
    pub shares: Shares,
    pub machine: Digest,
    pub tls: Option<Tls>,
    /// What services were asked before, if it is kept.
    pub past: Option<Arc<Past>>,
    /// Names this gateway, and this run of it, in `via`.
    pub pseudonym: String,
    pub via: HeaderValue,
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
        let pseudonym = {
            use std::hash::{BuildHasher, RandomState};
            let chance = RandomState::new().hash_one(std::process::id());
            format!("runrig-{chance:016x}")
        };
        let domain = config.domain.trim_matches('.').to_ascii_lowercase();
        let tls = match &config.tls {
            None => None,
            Some(secure) => Some(Tls::new(
                &secure.certificates,
                &domain,
                secure.listen.ip(),
                table.clone(),
            )?),
        };
        let past = match &config.data {
            None => None,
            Some(folder) => Some(Arc::new(Past::open(folder, api::now_ms())?)),
        };
        Ok(Self {
            table,
            tls,
            past,
            via: HeaderValue::try_from(format!("1.1 {pseudonym}")).context("make a name")?,
            pseudonym,
            changes: watch::Sender::new(0),
            client: builder.build(connector),
            validators: Validators::new(&config.validators)?,
            grants: sdk::Grants::new(sdk::Client::new(config.validators.iter().cloned())?),
            directory: Directory::default(),
            ports: Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            sleepers: Notify::new(),
            refusal: ArcSwap::from_pointee(None),
            wakes: config.key.is_some(),
            spliced: Arc::new(Semaphore::new(SPLICED_MAX)),
            shares: Shares::new(SPLICED_SHARE),
            machine: machine().context("read this machine's boot id")?,
            registry,
            suffix: format!(".{domain}"),
            trust,
        })
    }

    /// The service of a request whose host is written so; `None` if there is none.
    pub fn service_of(&self, host: &str) -> Option<Arc<Service>> {
        let lower = lower(bare(host));
        let name = lower.strip_suffix(self.suffix.as_str())?;
        self.table.load().service(name).cloned()
    }

    /// `service` as the newest routes have it.
    pub fn renewed(&self, service: &Service) -> Option<Arc<Service>> {
        let name = service.domain.to_ascii_lowercase();
        self.table.load().service(&name).cloned()
    }

    /// A request with these headers has passed this gateway already.
    fn has_seen(&self, headers: &HeaderMap) -> bool {
        headers.get_all(VIA).iter().any(|via| {
            let own = self.pseudonym.as_bytes();
            via.as_bytes().windows(own.len()).any(|part| part == own)
        })
    }

    /// Goes by `routes` from now on, which differ in no services but `changed` from what they
    /// were.
    pub fn update(&self, routes: &KnownRoutes, changed: &BTreeSet<ServiceKey>, height: u64) {
        let before = self.table.load();
        let table = before.next(routes, changed, height, self.machine, self.trust);
        if table.refused > before.refused {
            tracing::warn!(
                count = table.refused,
                "replicas are passed over: their hosts give addresses that are no container's"
            );
        }
        let table = Arc::new(table);
        self.table.store(table.clone());
        if let Some(past) = &self.past {
            let gone = changed
                .iter()
                .filter(|key| !table.services.contains_key(*key));
            gone.filter_map(|key| before.services.get(key))
                .for_each(|service| past.part_from(service));
        }
        self.changes.send_modify(|n| *n += 1);
    }
}

/// Without port and final dot.
fn bare(text: &str) -> &str {
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => text,
    };
    host.trim_end_matches('.')
}

fn lower(host: &str) -> Cow<'_, str> {
    match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

/// The host that a request is for, without port; `Err` if it names none or two. What the
/// request's line names goes before the header, which HTTP/1.1 must have all the same (RFC 9112,
/// section 3.2).
fn host_of(request: &Request<Incoming>) -> Result<&str, &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let said = hosts.next();
    if hosts.next().is_some() {
        return Err("it names two hosts");
    }
    let text = match (request.uri().authority(), said) {
        (_, None) if request.version() == Version::HTTP_11 => return Err("it names no host"),
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| "its host cannot be read")?,
        (None, None) if request.version() < Version::HTTP_11 => "",
        (None, None) => return Err("it names no host"),
    };
    Ok(bare(text))
}

/// Its body is sent in the one way that all agree on.
fn is_plain(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), _) if headers.contains_key(CONTENT_LENGTH) => Err("its body has two lengths"),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err("its transfer encoding is not `chunked` alone"),
    }
}

/// Whom a request is for.
enum To {
    Api,
    Service(Arc<Service>),
}

pub async fn answer(
    gateway: Arc<Gateway>,
    peer: IpAddr,
    is_secure: bool,
    request: Request<Incoming>,
) -> Response<Reply> {
    let from = From {
        client: peer,
        is_secure,
    };
    match whither(&gateway, &request) {
        Ok(To::Api) => to_api(&gateway, from, request).await,
        Ok(To::Service(service)) => to_service(&gateway, from, service, request).await,
        Err(refusal) => {
            let version = request.version();
            drop(Outgoing::new(request.into_body(), version));
            *refusal
        }
    }
}

/// Errors: the refusal of what can be for nobody.
fn whither(gateway: &Gateway, request: &Request<Incoming>) -> Result<To, Box<Response<Reply>>> {
    let refuse = |status, what: &str, why: &str| {
        Err(Box::new(page::page(request.headers(), status, what, why)))
    };
    if request.method() == Method::CONNECT {
        let why = "this is a gateway to services, not a proxy";
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "CONNECT", why);
    }
    if gateway.has_seen(request.headers()) {
        let why = "it has been here before: a service sends it back to the gateway";
        return refuse(StatusCode::LOOP_DETECTED, "the request", why);
    }
    let host = match is_plain(request.headers()).and_then(|()| host_of(request)) {
        Ok(host) => host,
        Err(why) => {
            let mut refusal = page::page(
                request.headers(),
                StatusCode::BAD_REQUEST,
                "the request",
                why,
            );
            // Where the next request would begin is not certain either.
            if request.version() < Version::HTTP_2 {
                let close = HeaderValue::from_static("close");
                refusal.headers_mut().insert(CONNECTION, close);
            }
            return Err(Box::new(refusal));
        }
    };
    let lower = lower(host);
    let Some(name) = lower.strip_suffix(gateway.suffix.as_str()) else {
        return Ok(To::Api);
    };
    let table = gateway.table.load();
    match table.service(name) {
        Some(service) => Ok(To::Service(service.clone())),
        None if table.known => {
            let why = "no service has this name; `runrig ps` shows those that run";
            refuse(StatusCode::NOT_FOUND, host, why)
        }
        None => {
            let why = "the gateway has just started and does not know the routes yet";
            refuse(StatusCode::SERVICE_UNAVAILABLE, host, why)
        }
    }
}

async fn to_api(gateway: &Gateway, from: From, request: Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path();
    match answers(path) {
        Answers::Welcome => status::welcome(gateway, request.headers()),
        Answers::Health => page::text("ok\n".into()),
        Answers::Metrics => page::text(figures::metrics(gateway)),
        Answers::Status => page::json(StatusCode::OK, &status::status(gateway)),
        Answers::Queues => page::json(StatusCode::OK, &*validators::queues(gateway).await),
        Answers::Registry => match &gateway.registry {
            Some(registry) => {
                let mut sending = Sending::new(request, from, &gateway.via);
                match sending
                    .send(gateway, registry, None, ANSWER_TIME, true)
                    .await
                {
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
        },
        Answers::Agent(id) => match id.parse::<AllocationId>() {
            Ok(id) => to_agent(gateway, from, id, request).await,
            Err(_) => page::problem(
                StatusCode::BAD_REQUEST,
                "invalid",
                id,
                "it is not the id of an allocation",
                "Write it as `runrig ps` does: a-1.",
            ),
        },
        Answers::Keeper(host) => match host.parse::<HostId>() {
            Ok(host) => to_keeper(gateway, from, host, request).await,
            Err(_) => page::problem(
                StatusCode::BAD_REQUEST,
                "invalid",
                host,
                "it is not the id of a host",
                "Write it as `runrig host ls --json` does.",
            ),
        },
        Answers::Access(id) => access::answer(gateway, id, &request).await,
        Answers::Requests(id) => requests::answer(gateway, id, &request).await,
        Answers::Past(id) => requests::past(gateway, id, &request).await,
        Answers::Scrape(id) => scrape::answer(gateway, id, &request).await,
        Answers::Validators => to_validators(gateway, from, request).await,
        Answers::Nobody => page::problem(
            StatusCode::NOT_FOUND,
            "not_found",
            path,
            "there is nothing at this path, and the host name is not a service's",
            "See /openapi.json; services are at http://<service>.<label>.<domain>.",
        ),
    }
}

/// Who answers a path of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers<'a> {
    Welcome,
    Health,
    Metrics,
    Status,
    Queues,
    Registry,
    /// Of this deployment, as it is written.
    Access(&'a str),
    /// Requests to replicas of this deployment, as it is written.
    Requests(&'a str),
    /// Requests to all services of this account, as it is written.
    Past(&'a str),
    /// Figures of this deployment, as it is written.
    Scrape(&'a str),
    /// Of the host of this allocation, as it is written.
    Agent(&'a str),
    /// Of this host, as it is written.
    Keeper(&'a str),
    Validators,
    Nobody,
}

fn answers(path: &str) -> Answers<'_> {
    match path {
        "/" => Answers::Welcome,
        "/healthz" => Answers::Health,
        "/metrics" => Answers::Metrics,
        "/v1/gateway" => Answers::Status,
        "/v1/gateway/queues" => Answers::Queues,
        "/v2" => Answers::Registry,
        "/openapi.json" => Answers::Validators,
        _ if path.starts_with("/v2/") => Answers::Registry,
        _ if of_an_account(path).is_some() => {
            Answers::Past(of_an_account(path).unwrap_or_default())
        }
        _ if of_a_keeper(path).is_some() => Answers::Keeper(of_a_keeper(path).unwrap_or_default()),
        _ => match (of_an_agent(path), of_a_deployment(path)) {
            (Some(id), _) => Answers::Agent(id),
            (None, Some((id, "access"))) => Answers::Access(id),
            (None, Some((id, "requests"))) => Answers::Requests(id),
            (None, Some((id, "metrics"))) => Answers::Scrape(id),
            _ if path.starts_with("/v1/") => Answers::Validators,
            _ => Answers::Nobody,
        },
    }
}

/// The deployment that a path names, and what is asked of it.
fn of_a_deployment(path: &str) -> Option<(&str, &str)> {
    let (id, asked) = path.strip_prefix("/v1/deployments/")?.split_once('/')?;
    (!asked.contains('/')).then_some((id, asked))
}

/// The account of a path that asks what its services were asked.
fn of_an_account(path: &str) -> Option<&str> {
    path.strip_prefix("/v1/accounts/")?
        .strip_suffix("/requests")
}

/// The allocation of a path that its host's agent answers.
fn of_an_agent(path: &str) -> Option<&str> {
    let (id, rest) = path.strip_prefix("/v1/allocations/")?.split_once('/')?;
    let verb = rest.split('/').next()?;
    matches!(
        verb,
        "logs" | "stats" | "history" | "inspect" | "exec" | "usage" | "tunnel"
    )
    .then_some(id)
}

/// The host of a path that asks for what it keeps of others' logs.
fn of_a_keeper(path: &str) -> Option<&str> {
    let (host, rest) = path.strip_prefix("/v1/hosts/")?.split_once('/')?;
    rest.starts_with("copies/").then_some(host)
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
    from: From,
    id: AllocationId,
    request: Request<Incoming>,
) -> Response<Reply> {
    let mut sending = Sending::new(request, from, &gateway.via);
    for is_last in [false, true] {
        let agent = match gateway.directory.agent(gateway, id).await {
            Ok(agent) => agent,
            Err(response) => return *response,
        };
        match sending
            .send(gateway, &agent, None, ANSWER_TIME, is_last)
            .await
        {
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

async fn to_keeper(
    gateway: &Gateway,
    from: From,
    host: HostId,
    request: Request<Incoming>,
) -> Response<Reply> {
    let agent = match directory::host(gateway, host).await {
        Ok(agent) => agent,
        Err(response) => return *response,
    };
    let mut sending = Sending::new(request, from, &gateway.via);
    match sending.send(gateway, &agent, None, ANSWER_TIME, true).await {
        Ok(response) => sending.finish(response, None),
        Err(error) => unavailable(error.status(), &format!("host {host}"), error.why()),
    }
}

async fn to_validators(
    gateway: &Gateway,
    from: From,
    mut request: Request<Incoming>,
) -> Response<Reply> {
    if let Some(refusal) = oversized::refusal(&mut request).await {
        return refusal;
    }
    let holds = request.uri().query().is_some_and(|q| q.contains("wait_ms"));
    let limit = match holds {
        true => LONG_POLL_TIME,
        false => VALIDATOR_TIME,
    };
    let mut sending = Sending::new(request, from, &gateway.via);
    let validators = gateway.validators.in_order();
    let mut failure = None;
    for (i, validator) in validators.iter().enumerate() {
        let is_last = i + 1 == validators.len();
        match sending
            .send(gateway, &validator.address, None, limit, is_last)
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

#[cfg(test)]
mod tests {
    use api::Role;

    use super::*;

    #[test]
    fn each_path_of_the_api_goes_to_who_answers_it() {
        for endpoint in api::endpoints() {
            let to = match answers(endpoint.path) {
                Answers::Welcome
                | Answers::Health
                | Answers::Metrics
                | Answers::Status
                | Answers::Queues
                | Answers::Access(_)
                | Answers::Requests(_)
                | Answers::Past(_)
                | Answers::Scrape(_) => Some(Role::Gateway),
                Answers::Registry => Some(Role::Registry),
                Answers::Agent(_) | Answers::Keeper(_) => Some(Role::Host),
                Answers::Validators => Some(Role::Validator),
                Answers::Nobody => None,
            };
            let told = to.is_some_and(|role| endpoint.roles.contains(&role));
            assert!(told, "{} goes to {to:?}", endpoint.path);
        }
        assert_eq!(answers("/nothing"), Answers::Nobody);
    }
}
