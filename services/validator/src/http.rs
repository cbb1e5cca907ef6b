//! Bring the validator up; routes, limits, errors; what is read from the head.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::{Problem, ValidatorView};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use consensus::{Committee, Peer, Seat};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use types::{AccountId, AllocationId, DeploymentId, HostId};

use crate::config::Config;
use crate::index::{Handle, Index};
use crate::ledger_machine::LedgerMachine;
use crate::{chain_api, money_api, views};

/// Requests that wait for something (plans, routes, events) at once.
const WAITING_MAX: usize = 4_096;
pub const WAIT_MS_MAX: u64 = 30_000;
const BODY_MAX: usize = 512 * 1024;
/// Rows in one answer.
pub const ROWS_MAX: usize = 1_000;

pub struct Validator {
    pub handle: Handle,
    pub index: Arc<Index>,
    /// Height up to which the index reaches: moves after the head.
    pub indexed: watch::Receiver<u64>,
    pub network: api::NetworkFile,
    waiting: Arc<Semaphore>,
}

pub type App = Arc<Validator>;

/// Runs until `shutdown`, or fails if the node ends before.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let committee =
        hex::decode(&config.network.committee).context("the network file's committee")?;
    let peers = config
        .network
        .validators
        .iter()
        .map(|v| {
            let key = hex::decode(&v.key).ok().and_then(|k| k.try_into().ok());
            Ok(Peer {
                key: key.context("a validator's key in the network file")?,
                address: v
                    .p2p
                    .parse()
                    .with_context(|| format!("validator address {}", v.p2p))?,
            })
        })
        .collect::<Result<_>>()?;
    let genesis = config.network.genesis.clone();
    let node = consensus::Config {
        data: config.data,
        committee: Committee::from_bytes(&committee)?,
        seat: Seat::from_bytes(&config.seat)?,
        listen: config.p2p,
        peers,
        network: genesis.digest(),
        genesis_ms: genesis.time_ms,
    };
    let machine = Arc::new(LedgerMachine::new(genesis));
    let handle = tokio::task::spawn_blocking(move || consensus::start(node, machine)).await??;
    let index = Arc::new(Index::default());
    let (sender, indexed) = watch::channel(0);
    let indexing = tokio::spawn(keep_index(handle.clone(), index.clone(), sender));
    let app = Arc::new(Validator {
        handle: handle.clone(),
        index,
        indexed,
        network: config.network,
        waiting: Arc::new(Semaphore::new(WAITING_MAX)),
    });
    let listener = tokio::net::TcpListener::bind(config.http)
        .await
        .with_context(|| format!("listen on {}; choose another with --http", config.http))?;
    let server = axum::serve(listener, router(app));
    let result = tokio::select! {
        () = shutdown => Ok(()),
        () = handle.ended() => Err(anyhow::anyhow!("consensus has ended; see the log above")),
        served = server => served.context("the API has stopped"),
        indexed = indexing => match indexed {
            Ok(Err(error)) => Err(error.context("the index has stopped")),
            _ => Err(anyhow::anyhow!("the index has stopped")),
        },
    };
    handle.stop().await;
    result
}

async fn keep_index(handle: Handle, index: Arc<Index>, indexed: watch::Sender<u64>) -> Result<()> {
    let mut heads = handle.subscribe();
    loop {
        heads.mark_unchanged();
        let (handle, index) = (handle.clone(), index.clone());
        let height = tokio::task::spawn_blocking(move || index.catch_up(&handle)).await??;
        indexed.send_if_modified(|known| std::mem::replace(known, height) != height);
        if heads.borrow().header.height <= height && heads.changed().await.is_err() {
            return Ok(());
        }
    }
}

pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/network", get(network))
        .route("/v1/params", get(params))
        .route("/v1/supply", get(money_api::supply))
        .route("/v1/blocks/{height}", get(chain_api::block))
        .route("/v1/accounts/{id}", get(account))
        .route("/v1/hosts", get(hosts))
        .route("/v1/hosts/{id}", get(host))
        .route("/v1/hosts/{id}/plan", get(plan))
        .route("/v1/deployments", get(deployments))
        .route("/v1/deployments/{id}", get(deployment))
        .route("/v1/allocations", get(allocations))
        .route("/v1/allocations/{id}", get(allocation))
        .route("/v1/allocations/{id}/why", get(why))
        .route("/v1/routes", get(routes))
        .route("/v1/quote", post(money_api::quote))
        .route("/v1/transactions", post(chain_api::submit))
        .route("/v1/transactions/{id}", get(chain_api::transaction))
        .route("/v1/events", get(chain_api::events))
        .route("/v1/bill", get(money_api::bill))
        .route("/v1/receipts/{id}", get(money_api::receipt))
        .route("/v1/receipts/{id}/proof", get(money_api::receipt_proof))
        .fallback(|| async { Refused::not_found("this path", "See the API's documentation.") })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(app)
}

/// An error as the API says it.
pub struct Refused(pub StatusCode, pub Problem);

impl Refused {
    pub fn new(
        code: StatusCode,
        kind: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: &str,
    ) -> Self {
        let problem = Problem {
            kind: kind.into(),
            what: what.into(),
            why: why.into(),
            next: next.into(),
        };
        Self(code, problem)
    }

    pub fn not_found(what: &str, next: &str) -> Self {
        let what: String = what.chars().take(100).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            what,
            "there is none",
            next,
        )
    }

    pub fn invalid(what: &str, why: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            what,
            why,
            "Correct the request.",
        )
    }

    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!(%error, "answering a request");
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(
            code,
            "unavailable",
            "this validator",
            "it cannot read its own data",
            "Ask another.",
        )
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

pub type Answer<T> = Result<Json<T>, Refused>;

impl Validator {
    /// A place among those who wait; refused when there are too many.
    pub fn wait_place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Refused> {
        self.waiting.clone().try_acquire_owned().map_err(|_| {
            let code = StatusCode::SERVICE_UNAVAILABLE;
            Refused::new(
                code,
                "unavailable",
                "this validator",
                "too many requests wait",
                "Try again in a moment.",
            )
        })
    }

    pub fn state(&self) -> ledger::State {
        self.handle.head().state.clone()
    }
}

#[derive(Deserialize)]
pub struct Wait {
    after: Option<u64>,
    wait_ms: Option<u64>,
}

impl Wait {
    fn limit(&self) -> Duration {
        Duration::from_millis(self.wait_ms.unwrap_or(0).min(WAIT_MS_MAX))
    }
}

async fn status(State(app): State<App>) -> Json<api::ChainStatus> {
    let head = app.handle.head();
    Json(api::ChainStatus {
        network: head.header.network,
        name: app.network.genesis.name.clone(),
        height: head.header.height,
        time_ms: head.header.time_ms,
        block: head.header.digest(),
        state_root: head.header.state_root,
        network_key: app.network.network_key.clone(),
        validators: app
            .network
            .validators
            .iter()
            .map(|v| ValidatorView {
                key: v.key.clone(),
                address: v.api.clone(),
                led: hex::decode(&v.key)
                    .ok()
                    .and_then(|k| k.try_into().ok())
                    .map_or(0, |key| app.index.led(&key)),
            })
            .collect(),
        queued: app.handle.queued() as u64,
    })
}

async fn network(State(app): State<App>) -> Json<api::NetworkFile> {
    Json(app.network.clone())
}

async fn params(State(app): State<App>) -> Json<ledger::Params> {
    Json(app.state().params().clone())
}

async fn metrics(State(app): State<App>) -> String {
    let head = app.handle.head();
    let state = &head.state;
    let mut text = String::new();
    for (name, help, value) in [
        (
            "runrig_height",
            "Height of the finalised head.",
            head.header.height,
        ),
        (
            "runrig_head_time_milliseconds",
            "Ledger time of the head.",
            head.header.time_ms,
        ),
        (
            "runrig_queued_transactions",
            "Transactions that wait here.",
            app.handle.queued() as u64,
        ),
        ("runrig_accounts", "Accounts.", state.accounts.len() as u64),
        (
            "runrig_hosts",
            "Registered hosts.",
            state.hosts.len() as u64,
        ),
        (
            "runrig_deployments",
            "Deployments ever made.",
            state.deployments.len() as u64,
        ),
        (
            "runrig_allocations",
            "Allocations ever made.",
            state.allocations.len() as u64,
        ),
        (
            "runrig_index_height",
            "Height up to which history is indexed.",
            app.index.height(),
        ),
    ] {
        text.push_str(&format!(
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
        ));
    }
    text
}

async fn account(State(app): State<App>, Path(id): Path<String>) -> Answer<api::AccountView> {
    let id: AccountId = id
        .parse()
        .map_err(|e: types::IdError| Refused::invalid("account", e.to_string()))?;
    let state = app.state();
    let account = state.account(&id);
    Ok(Json(api::AccountView {
        account: id,
        balance: account.balance(),
        spendable: account.spendable,
        held: account.held,
        nonce: account.nonce,
        height: state.height(),
    }))
}

#[derive(Deserialize)]
struct Page {
    from: Option<usize>,
}

async fn hosts(State(app): State<App>, Query(page): Query<Page>) -> Json<Vec<api::HostView>> {
    let state = app.state();
    let ids = state.hosts.iter().map(|(id, _)| *id);
    Json(
        ids.skip(page.from.unwrap_or(0))
            .take(ROWS_MAX)
            .filter_map(|id| views::host(&state, id))
            .collect(),
    )
}

fn find_host(state: &ledger::State, text: &str) -> Result<HostId, Refused> {
    text.parse()
        .ok()
        .filter(|id| state.hosts.get(id).is_some())
        .or_else(|| state.host_named(text))
        .ok_or_else(|| Refused::not_found(&format!("host {text}"), "See `runrig host ls`."))
}

async fn host(State(app): State<App>, Path(id): Path<String>) -> Answer<api::HostView> {
    let state = app.state();
    let id = find_host(&state, &id)?;
    views::host(&state, id)
        .map(Json)
        .ok_or_else(|| Refused::not_found("host", "See `runrig host ls`."))
}

async fn plan(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Answer<api::HostPlan> {
    let _place = app.wait_place()?;
    let deadline = tokio::time::Instant::now() + wait.limit();
    let mut heads = app.handle.subscribe();
    let host = find_host(&app.state(), &id)?;
    loop {
        heads.mark_unchanged();
        let state = app.state();
        let number = state.hosts.get(&host).map_or(0, |h| h.plan);
        let waits = wait.after.is_some_and(|after| after == number);
        if !waits
            || tokio::time::timeout_at(deadline, heads.changed())
                .await
                .is_err()
        {
            return views::plan(&state, host)
                .map(Json)
                .ok_or_else(|| Refused::not_found("host", "See `runrig host ls`."));
        }
    }
}

/// All routes; held back until they differ from those at height `after`.
async fn routes(State(app): State<App>, Query(wait): Query<Wait>) -> Answer<api::Routes> {
    let _place = app.wait_place()?;
    let deadline = tokio::time::Instant::now() + wait.limit();
    let mut heads = app.handle.subscribe();
    let mut known = None;
    loop {
        heads.mark_unchanged();
        let routes = views::routes(&app.state());
        let fresh = match (&known, wait.after) {
            (_, None) => true,
            // The asker's height is ours now: from here on, wait for a difference.
            (None, Some(after)) => after != routes.height,
            (Some(known), Some(_)) => *known != routes.routes,
        };
        if fresh {
            return Ok(Json(routes));
        }
        known = Some(routes.routes.clone());
        if tokio::time::timeout_at(deadline, heads.changed())
            .await
            .is_err()
        {
            return Ok(Json(routes));
        }
    }
}

#[derive(Deserialize)]
struct Filter {
    owner: Option<AccountId>,
    deployment: Option<DeploymentId>,
    host: Option<HostId>,
    #[serde(default)]
    all: bool,
}

async fn deployments(
    State(app): State<App>,
    Query(filter): Query<Filter>,
) -> Answer<Vec<api::DeploymentView>> {
    let state = app.state();
    let ids: Vec<DeploymentId> = match filter.owner {
        Some(owner) => state
            .deployments_of(&owner)
            .filter(|(_, d)| filter.all || !d.removed)
            .map(|(id, _)| id)
            .collect(),
        None => state.live().map(|(id, _)| id).collect(),
    };
    Ok(Json(
        ids.into_iter()
            .take(ROWS_MAX)
            .filter_map(|id| views::deployment(&state, id))
            .collect(),
    ))
}

async fn deployment(State(app): State<App>, Path(id): Path<String>) -> Answer<api::DeploymentView> {
    let next = "See `runrig ps -a`.";
    let id: DeploymentId = id.parse().map_err(|_| Refused::not_found(&id, next))?;
    views::deployment(&app.state(), id)
        .map(Json)
        .ok_or_else(|| Refused::not_found(&id.to_string(), next))
}

async fn allocations(
    State(app): State<App>,
    Query(filter): Query<Filter>,
) -> Answer<Vec<api::AllocationView>> {
    let state = app.state();
    let of = |d: &ledger::deployment::Deployment| -> Vec<AllocationId> {
        let ended = d.ended.iter().filter(|_| filter.all);
        ended.chain(&d.allocations).copied().collect()
    };
    let ids: Vec<AllocationId> = if let Some(id) = filter.deployment {
        state.deployments.get(&id).map(of).unwrap_or_default()
    } else if let Some(owner) = filter.owner {
        state
            .deployments_of(&owner)
            .flat_map(|(_, d)| of(d))
            .collect()
    } else if let Some(host) = filter.host {
        state.allocations_on(&host).map(|(id, _)| id).collect()
    } else {
        return Err(Refused::invalid(
            "allocations",
            "say whose: owner=, deployment= or host=",
        ));
    };
    // The newest, if there are too many.
    let from = ids.len().saturating_sub(ROWS_MAX);
    Ok(Json(
        ids[from..]
            .iter()
            .filter_map(|id| views::allocation(&state, *id))
            .collect(),
    ))
}

pub fn allocation_id(text: &str) -> Result<AllocationId, Refused> {
    text.parse()
        .map_err(|_| Refused::not_found(&format!("allocation {text}"), "See `runrig ps -a`."))
}

async fn allocation(State(app): State<App>, Path(id): Path<String>) -> Answer<api::AllocationView> {
    views::allocation(&app.state(), allocation_id(&id)?)
        .map(Json)
        .ok_or_else(|| Refused::not_found(&id, "See `runrig ps -a`."))
}

async fn why(State(app): State<App>, Path(id): Path<String>) -> Answer<api::WhyView> {
    views::why(&app.state(), allocation_id(&id)?)
        .map(Json)
        .ok_or_else(|| Refused::not_found(&id, "See `runrig ps -a`."))
}
