//! What the agent answers: logs, exec, stats, inspect to a deployment's owner; usage records
//! to anyone who checks a receipt; tunnels to gateways.

mod copies;

use std::sync::Arc;
use std::time::Duration;

use api::{Gauge, Grant, PROMETHEUS, Problem, RequestAuth};
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use ledger::account::Role;
use tokio::sync::Semaphore;
use types::{AccountId, AllocationId, RunState};

use crate::durable::container_id;
use crate::shared::Shared;
use crate::{exec, logs};

/// Streams (logs, exec, stats, tunnels) at once.
const STREAMS_MAX: usize = 2_000;

struct Agent {
    shared: Arc<Shared>,
    streams: Arc<Semaphore>,
}

/// Who asks: a key's account, and whom it acts for by a grant in which role.
struct Asks {
    account: AccountId,
    through: Option<(AccountId, Role)>,
}

impl Asks {
    /// Whether one of both may, by `may`, what takes a role from `least` up.
    fn any(&self, least: Role, may: impl Fn(AccountId) -> bool) -> bool {
        let through = |(account, role): (AccountId, Role)| role <= least && may(account);
        may(self.account) || self.through.is_some_and(through)
    }
}

pub fn router(shared: Arc<Shared>) -> Router {
    let agent = Arc::new(Agent {
        shared,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    });
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, handler)| {
            router.route(path, handler)
        })
        .with_state(agent)
}

fn routes() -> Vec<(&'static str, MethodRouter<Arc<Agent>>)> {
    vec![
        ("/healthz", get(|| async { "ok\n" })),
        ("/metrics", get(metrics)),
        ("/v1/status", get(status)),
        ("/v1/allocations/{id}/logs", get(log_lines)),
        ("/v1/allocations/{id}/stats", get(stats)),
        ("/v1/allocations/{id}/history", get(history)),
        ("/v1/allocations/{id}/inspect", get(inspect)),
        ("/v1/allocations/{id}/exec", get(exec_socket)),
        ("/v1/allocations/{id}/usage/{sequence}", get(usage)),
        ("/v1/allocations/{id}/tunnel/{port}", get(tunnel)),
        ("/v1/hosts/{host}/copies/{id}", get(copies::list)),
        (
            "/v1/hosts/{host}/copies/{id}/{first}",
            get(copies::give)
                .put(copies::take)
                .layer(DefaultBodyLimit::max(api::LogCopy::BYTES_MAX)),
        ),
    ]
}

struct Refused(StatusCode, Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

fn refused(code: StatusCode, kind: &str, what: String, why: &str, next: &str) -> Refused {
    let problem = Problem {
        kind: kind.into(),
        what,
        why: why.into(),
        next: next.into(),
    };
    Refused(code, problem)
}

impl Agent {
    fn planned(&self, id: &str) -> Result<api::PlannedAllocation, Refused> {
        id.parse::<AllocationId>()
            .ok()
            .and_then(|id| self.shared.planned(id))
            .ok_or_else(|| {
                refused(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    format!("allocation {}", id.chars().take(20).collect::<String>()),
                    "it is not on this host",
                    "See `runrig ps -a`.",
                )
            })
    }

    /// Who asks, and the most that he may.
    ///
    /// A key that says for whom it acts counts as him, within its role, if the ledger knows the
    /// grant; else it is only itself. What the plan says of the key itself needs no ledger.
    async fn asks(
        &self,
        what: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Asks, Refused> {
        let now_ms = self.shared.clock.ledger_ms();
        let caller = self.caller(what, method, uri, headers)?;
        let through = match caller.through {
            None => None,
            Some(person) => {
                let grants = &self.shared.link.grants;
                let role = grants.role(caller.account, person, now_ms).await;
                role.unwrap_or_else(|error| {
                    tracing::warn!("a grant of {person} is not known: {error}");
                    None
                })
                .map(|role| (person, role))
            }
        };
        Ok(Asks {
            account: caller.account,
            through,
        })
    }

    /// The key that asks, and whom it says it acts for.
    fn caller(
        &self,
        what: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<api::Caller, Refused> {
        let header = headers
            .get(RequestAuth::HEADER)
            .and_then(|v| v.to_str().ok());
        let path = uri.path_and_query().map_or(uri.path(), |p| p.as_str());
        let now_ms = self.shared.clock.ledger_ms();
        RequestAuth::caller(header, method.as_str(), path, now_ms).map_err(|e| {
            refused(
                StatusCode::UNAUTHORIZED,
                "login",
                what.into(),
                &e.to_string(),
                "Choose the owner's context with `runrig context use`.",
            )
        })
    }

    fn forbidden(what: String) -> Refused {
        refused(
            StatusCode::FORBIDDEN,
            "forbidden",
            what,
            "it belongs to another account",
            "Choose the owner's context with `runrig context use`.",
        )
    }

    /// The owner, and who develops for him, look inside.
    async fn owned(
        &self,
        id: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<api::PlannedAllocation, Refused> {
        self.served(id, Role::Developer, method, uri, headers).await
    }

    /// The owner, and who acts for him in a role from `least` up.
    async fn served(
        &self,
        id: &str,
        least: Role,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<api::PlannedAllocation, Refused> {
        let planned = self.planned(id)?;
        let what = format!("allocation {}", planned.allocation);
        let asks = self.asks(&what, method, uri, headers).await?;
        let now_ms = self.shared.clock.ledger_ms();
        match asks.any(least, |account| planned.serves(account, least, now_ms)) {
            true => Ok(planned),
            false => Err(Self::forbidden(what)),
        }
    }

    /// The owner and whom he lets see, or who has his token for the figures of the deployment.
    async fn counted(
        &self,
        id: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<api::PlannedAllocation, Refused> {
        let Some(header) = headers.get(Grant::HEADER) else {
            return self.served(id, Role::Viewer, method, uri, headers).await;
        };
        let planned = self.planned(id)?;
        let what = format!("allocation {}", planned.allocation);
        let scope = Grant::metrics(planned.deployment);
        let now_ms = self.shared.clock.ledger_ms();
        match Grant::check(header.to_str().ok(), &scope, now_ms) {
            // What the owner's own key signs, nobody could call back.
            Ok(account)
                if account != planned.owner && planned.serves(account, Role::Viewer, now_ms) =>
            {
                Ok(planned)
            }
            Ok(_) => Err(Self::forbidden(what)),
            Err(error) => Err(refused(
                StatusCode::UNAUTHORIZED,
                "login",
                what,
                &error.to_string(),
                "Make a token with `runrig stats --token PROJECT` in the owner's context.",
            )),
        }
    }

    /// What an allocation printed and used, also of one that is gone: for its owner and whom he
    /// names.
    async fn kept(
        &self,
        id: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Arc<logs::Stream>, Refused> {
        let known = id.parse().ok().and_then(|id| self.shared.logs.find(id));
        let stream = match known {
            Some(stream) => stream,
            None => {
                let planned = self.planned(id)?;
                self.shared.logs.of(&planned).map_err(|error| {
                    refused(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "unavailable",
                        format!("the log of {}", planned.allocation),
                        &error.to_string(),
                        "Tell the host's owner.",
                    )
                })?
            }
        };
        let meta = stream.meta();
        let what = format!("allocation {}", meta.allocation);
        let asks = self.asks(&what, method, uri, headers).await?;
        let now_ms = self.shared.clock.ledger_ms();
        let planned = self.planned(id).ok();
        let serves = |account| {
            let served = |p: &api::PlannedAllocation| p.serves(account, Role::Viewer, now_ms);
            meta.may_read(account) || planned.as_ref().is_some_and(served)
        };
        match asks.any(Role::Viewer, serves) {
            true => Ok(stream),
            false => Err(Self::forbidden(what)),
        }
    }

    fn current(&self, id: AllocationId) -> crate::shared::Current {
        self.shared
            .current
            .lock()
            .expect("not poisoned")
            .get(&id)
            .cloned()
            .unwrap_or_default()
    }

    fn stream(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Refused> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "host".into(),
                "too many open streams",
                "Try again in a moment.",
            )
        })
    }

    /// Containers that run.
    fn running(&self) -> usize {
        let current = self.shared.current.lock().expect("not poisoned");
        let running = |c: &&crate::shared::Current| c.status.state == RunState::Running;
        current.values().filter(running).count()
    }
}

async fn metrics(State(agent): State<Arc<Agent>>) -> impl IntoResponse {
    let shared = &agent.shared;
    let plan = shared.plan();
    let planned = plan.as_ref().map_or(0, |p| p.allocations.len());
    let unreported = shared.statuses.lock().expect("not poisoned").len();
    let streams = STREAMS_MAX.saturating_sub(agent.streams.available_permits());
    let gauges = [
        Gauge::new(
            "runrig_host_plan",
            "Number of the plan that is followed.",
            plan.as_ref().map_or(0, |p| p.plan),
        ),
        Gauge::new(
            "runrig_host_plan_height",
            "Height of the ledger that the plan is of.",
            plan.as_ref().map_or(0, |p| p.height),
        ),
        Gauge::new(
            "runrig_host_allocations",
            "Allocations of the plan.",
            planned as u64,
        ),
        Gauge::new(
            "runrig_host_running",
            "Containers that run.",
            agent.running() as u64,
        ),
        Gauge::new(
            "runrig_host_unreported_statuses",
            "Changes of state that the ledger has not been told yet.",
            unreported as u64,
        ),
        Gauge::new(
            "runrig_host_streams",
            "Open streams: logs, exec, stats, tunnels.",
            streams as u64,
        ),
    ];
    ([("content-type", PROMETHEUS)], api::prometheus(&gauges))
}

async fn status(State(agent): State<Arc<Agent>>) -> Json<api::AgentStatus> {
    let shared = &agent.shared;
    let running = agent.running();
    Json(api::AgentStatus {
        host: shared.link.host,
        key: shared.config.key.public(),
        engine: shared.config.engine.clone(),
        plan: shared.plan().map_or(0, |p| p.plan),
        running: running as u32,
    })
}

async fn log_lines(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    Query(query): Query<logs::Query>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let stream = agent.kept(&id, &method, &uri, &headers).await?;
    let permit = agent.stream()?;
    let filter = query.filter().map_err(|why| {
        refused(
            StatusCode::BAD_REQUEST,
            "invalid",
            "the filter of a log".into(),
            &why.to_string(),
            "Correct the pattern: a regular expression of the crate regex, without look-around.",
        )
    })?;
    // What was printed a moment ago is part of the answer.
    let (shared, taken) = (agent.shared.clone(), stream.clone());
    let _ = tokio::task::spawn_blocking(move || logs::catch_up(&shared, &taken)).await;
    let lines = logs::stream(stream, &query, filter);
    let lines = futures::StreamExt::inspect(lines, move |_| {
        let _held = &permit;
    });
    Ok(ndjson(Body::from_stream(lines)))
}

async fn history(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    Query(query): Query<logs::HistoryQuery>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let stream = agent.kept(&id, &method, &uri, &headers).await?;
    let _permit = agent.stream()?;
    let read = tokio::task::spawn_blocking(move || logs::history(&stream, query)).await;
    Ok(ndjson(Body::from(read.unwrap_or_default())))
}

fn ndjson(body: Body) -> Response {
    ([("content-type", "application/x-ndjson")], body).into_response()
}

#[derive(serde::Deserialize)]
struct StatsQuery {
    #[serde(default)]
    stream: bool,
}

async fn stats(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    Query(query): Query<StatsQuery>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let planned = agent.counted(&id, &method, &uri, &headers).await?;
    let permit = agent.stream()?;
    let shared = agent.shared.clone();
    let lines = futures::stream::unfold(0u64, move |round| {
        let (shared, planned) = (shared.clone(), planned.clone());
        let _held = &permit;
        async move {
            if round > 0 {
                if !query.stream {
                    return None;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            shared.planned(planned.allocation)?;
            let mut line = serde_json::to_vec(&sample(&shared, &planned)).ok()?;
            line.push(b'\n');
            Some((Ok::<_, std::io::Error>(Bytes::from(line)), round + 1))
        }
    });
    Ok(ndjson(Body::from_stream(lines)))
}

fn sample(shared: &Shared, planned: &api::PlannedAllocation) -> api::Stats {
    let book = shared
        .books
        .lock()
        .expect("not poisoned")
        .get(&planned.allocation)
        .cloned();
    let (reading, cpu_millis) = book.map_or((None, 0), |book| {
        let book = book.lock().expect("not poisoned");
        (book.last_reading, book.cpu_millis_now)
    });
    let reading = reading.unwrap_or_default();
    api::Stats {
        allocation: planned.allocation,
        service: planned.service.clone(),
        at_ms: shared.clock.ledger_ms(),
        cpu_millis,
        cpu_limit_millis: planned.spec.resources.cpu_millis.into(),
        memory_bytes: reading.memory_bytes,
        memory_limit_bytes: planned.spec.resources.memory_bytes,
        disk_bytes: reading.disk_bytes,
        rx_bytes: reading.rx_bytes,
        tx_bytes: reading.tx_bytes,
        pids: reading.pids,
    }
}

async fn inspect(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Refused> {
    let planned = agent.owned(&id, &method, &uri, &headers).await?;
    let current = agent.current(planned.allocation);
    let container = container_id(planned.allocation, current.instance);
    let engine = agent.shared.engine.status(&container).await.ok();
    let network = agent.shared.net.attachments().await.remove(&container);
    Ok(Json(serde_json::json!({
        "allocation": planned.allocation,
        "host": agent.shared.link.host,
        "plan": planned,
        "status": current.status,
        "container": engine,
        "network": network,
        "receivers": agent.shared.exports.of(planned.deployment),
    })))
}

async fn exec_socket(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    let planned = agent.owned(&id, &method, &uri, &headers).await?;
    let current = agent.current(planned.allocation);
    if current.status.state != RunState::Running {
        return Err(refused(
            StatusCode::CONFLICT,
            "conflict",
            format!("allocation {}", planned.allocation),
            "its container does not run",
            "See `runrig ps -a`, then `runrig start`.",
        ));
    }
    let permit = agent.stream()?;
    let container = container_id(planned.allocation, current.instance);
    let shared = agent.shared.clone();
    Ok(upgrade
        .max_message_size(1 << 20)
        .on_upgrade(move |socket| async move {
            exec::serve(shared, planned, container, socket).await;
            drop(permit);
        }))
}

async fn usage(
    State(agent): State<Arc<Agent>>,
    Path((id, sequence)): Path<(String, u64)>,
) -> Result<Json<api::UsageProof>, Refused> {
    let missing = || {
        refused(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("usage record {sequence}"),
            "this host does not keep it (any more)",
            "The receipt itself can still be verified.",
        )
    };
    let id: AllocationId = id.parse().map_err(|_| missing())?;
    let path = agent.shared.records_path(id);
    let _permit = agent.stream()?;
    tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        [path.clone(), path.with_extension("1.ndjson")]
            .into_iter()
            .filter_map(|p| std::fs::File::open(p).ok())
            .flat_map(|f| std::io::BufReader::new(f).lines().map_while(Result::ok))
            .filter_map(|line| serde_json::from_str::<api::UsageProof>(&line).ok())
            .find(|proof| proof.record.sequence == sequence)
    })
    .await
    .ok()
    .flatten()
    .map(Json)
    .ok_or_else(missing)
}

/// Bytes to a port that the service publishes or exposes; for its owner, to any port.
async fn tunnel(
    State(agent): State<Arc<Agent>>,
    Path((id, port)): Path<(String, u16)>,
    mut request: Request,
) -> Result<Response, Refused> {
    let headers = request.headers();
    let signed = headers.contains_key(RequestAuth::HEADER);
    let planned = match signed {
        true => {
            agent
                .owned(&id, request.method(), request.uri(), headers)
                .await?
        }
        false => agent.planned(&id)?,
    };
    let closed = |why: &str| {
        refused(
            StatusCode::BAD_GATEWAY,
            "unavailable",
            format!("port {port} of {}", planned.allocation),
            why,
            "See `runrig ps`.",
        )
    };
    let open = signed
        || planned.spec.ports.iter().any(|p| p.target == port)
        || planned.spec.expose.contains(&port);
    if !open {
        return Err(closed("the service neither publishes nor exposes it"));
    }
    let permit = agent.stream()?;
    let current = agent.current(planned.allocation);
    let address = current
        .status
        .addresses
        .values()
        .next()
        .copied()
        .ok_or_else(|| closed("its container does not run"))?;
    let upstream = tokio::time::timeout(
        Duration::from_secs(3),
        tokio::net::TcpStream::connect((std::net::Ipv4Addr::from(address), port)),
    )
    .await
    .map_err(|_| closed("no answer within 3 s"))?
    .map_err(|e| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => closed(api::NOBODY_LISTENS),
        _ => closed(&e.to_string()),
    })?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _held = permit;
        let mut upstream = upstream;
        if let Ok(client) = upgraded.await {
            sdk::splice(&mut TokioIo::new(client), &mut upstream).await;
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "runrig-tunnel")
        .body(Body::empty())
        .map_err(|e| closed(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_routed_is_what_is_told() {
        let mut paths: Vec<&str> = routes().into_iter().map(|(path, _)| path).collect();
        paths.sort_unstable();
        assert_eq!(paths, api::paths_of(api::Role::Host));
    }
}
