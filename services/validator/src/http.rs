//! Bring the validator up; routes, limits, errors; what is read from the head.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use api::ValidatorView;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use consensus::{Committee, Member, Seat};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use types::{AccountId, AllocationId, DeploymentId, Digest, HostId, Protocol, SecretKey};

use crate::answer::{Answer, Asked, Named, Refused};
use crate::chain_api::Recent;
use crate::config::Config;
use crate::index::{Handle, Index};
use crate::jobs::Looks;
use crate::ledger_machine::LedgerMachine;
use crate::lists::{self, Rows, Whose};
use crate::route_book::RouteBook;
use crate::routes::router;
use crate::serve::serve;
use crate::views;
use crate::{accuse, follow, left_behind, renewal, witness};

/// Requests that wait for something (plans, routes, events) at once.
const WAITING_MAX: usize = 4_096;
/// Answers computed over many records at once: more would only share the cores.
const COMPUTING_MAX: usize = 4;
const COMPUTING_WAIT: Duration = Duration::from_secs(10);
/// For the table of routes to follow the head.
const ROUTED_WAIT: Duration = Duration::from_secs(10);
/// For the block that this validator made last to be decided before it ends.
const LAST_TURN: Duration = Duration::from_secs(2);
/// Other validators asked about this one's own entry.
const OTHERS_MAX: usize = 32;
/// Answers of up to 32 MiB to those who follow, on their way at once.
const PASSING_MAX: usize = 64;
/// After so long others than these are asked.
const OTHERS_TURN_MS: u64 = 60_000;
pub const WAIT_MS_MAX: u64 = 30_000;
/// Header of a cut answer: `from` of the next page.
pub const NEXT: &str = "runrig-next";

pub struct Validator {
    pub handle: Handle,
    pub index: Arc<Index>,
    /// Height up to which the index reaches: moves after the head.
    pub indexed: watch::Receiver<u64>,
    pub network: api::NetworkFile,
    pub route_book: Arc<RwLock<RouteBook>>,
    /// How far `route_book` has followed.
    routed: watch::Receiver<Routed>,
    /// The last blocks, read once for all who ask.
    pub recent: Recent,
    /// At accounts' deployments, for all who ask about one block.
    pub looks: Arc<Looks>,
    /// This validator's identity.
    pub own: [u8; 32],
    /// Else it follows.
    pub votes: bool,
    /// Why this validator cannot go on by itself, and what to do.
    pub stuck: Mutex<Option<String>>,
    /// For what validators ask of one another.
    pub peers: reqwest::Client,
    waiting: Arc<Semaphore>,
    computing: Arc<Semaphore>,
    /// For answers that are read.
    pub passing: Arc<Semaphore>,
}

/// Heights of the table of routes.
#[derive(Clone, Copy, Debug, Default)]
struct Routed {
    /// Of the state that it is of.
    height: u64,
    /// Its last change.
    changed: u64,
}

pub type App = Arc<Validator>;

/// Why a validator has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Asked,
    /// It followed and is to vote from now on, or the other way round: run it again.
    Turned,
    /// It follows, and nobody keeps the blocks any more that come next: fetch the state anew.
    LeftBehind,
}

/// Runs until `shutdown`, as one that votes or follows, or until that changes; fails if the node ends
/// before.
///
/// Boxed: an async function is compiled in each crate that awaits it, and this is a whole service.
pub fn run(config: Config, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, Result<Ended>> {
    run_until(config, shutdown).boxed()
}

async fn run_until(config: Config, shutdown: impl Future<Output = ()>) -> Result<Ended> {
    let listener = TcpListener::bind(config.http)
        .await
        .with_context(|| format!("listen on {}; choose another with --http", config.http))?;
    run_with(listener, config, shutdown).await
}

/// As [`run`], with the API on `listener`.
pub fn run_on(
    listener: TcpListener,
    config: Config,
    shutdown: BoxFuture<'static, ()>,
) -> BoxFuture<'static, Result<Ended>> {
    run_with(listener, config, shutdown).boxed()
}

async fn run_with(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<Ended> {
    let index_path = config.data.join("index.redb");
    let node = node_config(&config)?;
    let identity = SecretKey::from_seed(node.seat.secret());
    let watch_at = listener.local_addr()?;
    let network = node.network;
    let own = node.seat.key();
    let renewer = SecretKey::from_seed(node.seat.secret());
    let accuser = SecretKey::from_seed(node.seat.secret());
    let witness_key = SecretKey::from_seed(node.seat.secret());
    let screener = SecretKey::from_seed(node.seat.secret());
    let own_url = format!("http://{}", listener.local_addr()?);
    let renewing = config.whereabouts.clone();
    let renewing = renewing.map(|at| (own_url.clone(), renewer, at));
    let peers = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(3))
        .no_proxy()
        .build()?;
    let machine = Arc::new(LedgerMachine::in_folder(
        config.network.genesis.clone(),
        &config.data,
    ));
    let damaged = consensus::damaged(&config.data);
    let started = move || -> Result<_> {
        if consensus::may_vote(&node, machine.as_ref())? {
            let at = node.listen;
            // The engine would only break off. Who follows listens to nobody.
            drop(std::net::TcpListener::bind(at).with_context(|| {
                format!("listen for other validators on {at}; choose another with --p2p")
            })?);
            return Ok((consensus::start(node, machine)?, None));
        }
        let (handle, follower, outbox) = consensus::follow(&node, machine)?;
        Ok((handle, Some((follower, outbox))))
    };
    let (handle, followed) = tokio::task::spawn_blocking(started).await??;
    let votes = followed.is_none();
    if !votes {
        tracing::info!("this validator follows, and does not sit: see `runrig validator status`");
    }
    let (stop_sender, stop) = watch::channel(false);
    let result = async {
        let head = handle.head();
        let height = head.header.height;
        if let Some(why) = head.state.too_old(height + 1) {
            anyhow::bail!(why);
        }
        let index = Arc::new(Index::open(&index_path, network, height)?);
        let (sender, indexed) = watch::channel(index.height());
        let route_book = Arc::new(RwLock::new(RouteBook::new(network)));
        let (route_sender, routed) = watch::channel(Routed::default());
        let app = Arc::new(Validator {
            handle: handle.clone(),
            index: index.clone(),
            indexed,
            route_book: route_book.clone(),
            routed,
            network: config.network,
            recent: Recent::default(),
            looks: Arc::default(),
            own,
            votes,
            stuck: Mutex::default(),
            peers,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            computing: Arc::new(Semaphore::new(COMPUTING_MAX)),
            passing: Arc::new(Semaphore::new(PASSING_MAX)),
        });
        if let Err(error) =
            crate::watch::start(handle.clone(), network, identity, watch_at, stop.clone())
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "this validator does not hear hosts and does not vote on who is silent"
            );
        }
        let witness = witness::Witness {
            handle: handle.clone(),
            key: witness_key,
            others: others_of(&app),
            own: own_url.clone(),
        };
        let looking = left_behind::keep(app.clone(), stop.clone());
        let _looking = votes.then(|| AbortOnDrop(tokio::spawn(looking)));
        let (follower, outbox) = followed.unzip();
        let _passing = outbox.map(|outbox| {
            AbortOnDrop(tokio::spawn(follow::pass_on(app.clone(), outbox, screener)))
        });
        let follows = app.clone();
        let following = async move {
            match follower {
                Some(follower) => follow::keep(&follows, follower).await,
                None => std::future::pending().await,
            }
        };
        let turned = follow::turned(handle.clone(), own, votes);
        let _witnessing = AbortOnDrop(tokio::spawn(witness.keep(stop.clone())));
        let accusing = accuse::keep(handle.clone(), accuser, stop.clone());
        let _accusing = AbortOnDrop(tokio::spawn(accusing));
        let _renewing = renewing.map(|(own, identity, at)| {
            let urls = others_and(&app, own);
            AbortOnDrop(tokio::spawn(renewal::keep(urls, identity, at)))
        });
        let mut indexing = tokio::spawn(keep_index(handle.clone(), index, sender, stop.clone()));
        let routing = keep_routes(handle.clone(), route_book, route_sender);
        let _routing = AbortOnDrop(tokio::spawn(routing));
        let mut serving = tokio::spawn(serve(listener, router(app), stop));
        let result = tokio::select! {
            () = shutdown => {
                // What it leads is not left to the others' patience.
                let _ = tokio::time::timeout(LAST_TURN, handle.rest()).await;
                Ok(Ended::Asked)
            }
            () = turned => {
                tracing::info!(votes, "the part that this validator takes changes: it begins anew");
                Ok(Ended::Turned)
            }
            () = following => Ok(Ended::LeftBehind),
            () = handle.ended() => Err(anyhow::anyhow!("consensus has ended: see the log above")
                .context(damaged)),
            _ = &mut serving => Err(anyhow::anyhow!("the API has stopped")),
            indexed = &mut indexing => match indexed {
                Ok(Err(error)) => Err(error.context("the index has stopped")),
                _ => Err(anyhow::anyhow!("the index has stopped")),
            },
        };
        stop_sender.send_replace(true);
        if !serving.is_finished() {
            let _ = serving.await;
        }
        if !indexing.is_finished() {
            let _ = indexing.await;
        }
        result
    }
    .await;
    handle.stop().await;
    result
}

/// Ends what it holds when it is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// URLs of the other validators, and then `own`.
fn others_and(app: &Validator, own: String) -> Vec<String> {
    let mut urls = others_of(app);
    urls.push(own);
    urls
}

pub(crate) fn others_of(app: &Validator) -> Vec<String> {
    let own_key = hex::encode(app.own);
    let founders = app.network.validators.iter();
    let founders = founders.filter(|v| v.key != own_key).map(|v| v.api.clone());
    let state = app.state();
    let entered = state.validators.iter();
    let entered = entered
        .filter(|(key, _)| key.0 != app.own)
        .map(|(_, v)| v.api.clone());
    let mut urls: Vec<String> = founders.chain(entered).filter(|u| !u.is_empty()).collect();
    // Not the same ones always: keys can be made so that they come first.
    let turn = (api::now_ms() / OTHERS_TURN_MS) as usize;
    let many = urls.len().max(1);
    urls.rotate_left(turn.wrapping_mul(OTHERS_MAX) % many);
    urls.truncate(OTHERS_MAX);
    urls
}

pub(crate) fn node_config(config: &Config) -> Result<consensus::Config> {
    let committee =
        hex::decode(&config.network.committee).context("the network file's committee")?;
    let addresses = config
        .network
        .validators
        .iter()
        .filter(|v| {
            // As in the genesis: the ledger knows better where it is now.
            let founders = config.network.genesis.validators.iter();
            let mut same = founders.filter(|f| f.address == v.p2p);
            !same.any(|f| hex::encode(f.key.0) == v.key)
        })
        .map(|v| {
            let key = hex::decode(&v.key).ok().and_then(|k| k.try_into().ok());
            Ok(Member {
                key: key.context("a validator's key in the network file")?,
                address: v
                    .p2p
                    .parse()
                    .with_context(|| format!("validator address {}", v.p2p))?,
            })
        })
        .collect::<Result<_>>()?;
    let genesis = &config.network.genesis;
    Ok(consensus::Config {
        data: config.data.clone(),
        committee: Committee::from_bytes(&committee)?,
        seat: Seat::from_bytes(&config.seat)?,
        listen: config.p2p,
        addresses,
        epoch_blocks: NonZeroU64::new(genesis.params.epoch_blocks)
            .context("the network file's epochs have no blocks")?,
        network: genesis.digest(),
        genesis_ms: genesis.time_ms,
        keep: config.keep_blocks,
    })
}

async fn keep_index(
    handle: Handle,
    index: Arc<Index>,
    indexed: watch::Sender<u64>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut heads = handle.subscribe();
    let mut warned = false;
    loop {
        let head = {
            let head = heads.borrow_and_update();
            let coming = head.state.upgrade();
            if let Some((from, version)) = coming.filter(|(_, v)| *v > ledger::vote::VERSION)
                && !std::mem::replace(&mut warned, true)
            {
                tracing::warn!(
                    "from height {from} on this network goes by version {version} of its rules, which this program does not know: install a newer runrig before, or this validator stops there"
                );
            }
            head.header.height
        };
        if index.height() < head {
            let (handle, index) = (handle.clone(), index.clone());
            let height = tokio::task::spawn_blocking(move || index.catch_up(&handle)).await??;
            indexed.send_replace(height);
        }
        let behind = index.height() < head;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            changed = heads.changed(), if !behind => changed.context("consensus has ended")?,
            () = std::future::ready(()), if behind => {}
        }
    }
}

/// Follows the head with the table of routes, for as long as there are heads.
async fn keep_routes(handle: Handle, book: Arc<RwLock<RouteBook>>, routed: watch::Sender<Routed>) {
    let mut heads = handle.subscribe();
    loop {
        let head = heads.borrow_and_update().clone();
        let book = book.clone();
        let followed = tokio::task::spawn_blocking(move || {
            let mut book = book.write().expect("not poisoned");
            let before = book.follow(&head.state);
            let at = Routed {
                height: book.height(),
                changed: book.changed(),
            };
            (at, before)
        });
        match followed.await {
            Ok((at, before)) => {
                routed.send_replace(at);
                tokio::task::spawn_blocking(|| drop(before));
            }
            Err(error) => {
                tracing::error!(%error, "the table of routes is no longer followed");
                return;
            }
        };
        if heads.changed().await.is_err() {
            return;
        }
    }
}

impl Validator {
    /// A place among those who wait; refused when there are too many.
    pub fn wait_place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let place = self.waiting.clone().try_acquire_owned();
        place.map_err(|_| Refused::busy("too many requests wait"))
    }

    fn own_part(&self, state: &ledger::State) -> api::OwnView {
        let key = types::PublicKey(self.own);
        let seats = state.committee(state.epoch());
        api::OwnView {
            key,
            sits: seats.is_some_and(|seats| seats.iter().any(|s| s.key == key)),
            holds_share: self.handle.key_share().is_some(),
            led: self.index.led_last(&self.own),
            follows: !self.votes,
            stuck: self.stuck.lock().expect("not poisoned").clone(),
        }
    }

    pub fn waiting_requests(&self) -> u64 {
        WAITING_MAX.saturating_sub(self.waiting.available_permits()) as u64
    }

    pub fn state(&self) -> ledger::State {
        self.handle.head().state.clone()
    }

    /// Runs what takes time apart from those that answer at once, a few at a time.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(ledger::State) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        self.compute_with(|handle| work(handle.head().state.clone()))
            .await
    }

    /// As [`Self::compute`], for what does more than read the state.
    pub async fn compute_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Handle) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let place = tokio::time::timeout(COMPUTING_WAIT, self.computing.clone().acquire_owned());
        let Ok(Ok(place)) = place.await else {
            return Err(Refused::busy("too many large requests wait"));
        };
        let handle = self.handle.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&handle)
        })
        .await
        .map_err(|e| Refused::internal(&e.into()))
    }
}

/// A header tells where the next page begins.
pub fn answer(page: serde_json::Result<Rows>) -> Result<Response, Refused> {
    let page = page.map_err(|e| Refused::internal(&e.into()))?;
    let mut response = ([(CONTENT_TYPE, "application/json")], page.json).into_response();
    if let Some(next) = page.next {
        response.headers_mut().insert(NEXT, next.into());
    }
    Ok(response)
}

#[derive(Deserialize)]
pub struct Wait {
    after: Option<u64>,
    wait_ms: Option<u64>,
}

fn wait_limit(wait_ms: Option<u64>) -> Duration {
    Duration::from_millis(wait_ms.unwrap_or(0).min(WAIT_MS_MAX))
}

pub async fn status(State(app): State<App>) -> Json<api::ChainStatus> {
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
        own: Some(app.own_part(&head.state)),
    })
}

pub async fn network(State(app): State<App>) -> Json<api::NetworkFile> {
    Json(app.network.clone())
}

pub async fn params(State(app): State<App>) -> Json<ledger::Params> {
    Json(app.state().params().clone())
}

pub async fn account(State(app): State<App>, Named(id): Named<String>) -> Answer<api::AccountView> {
    let id: AccountId = id
        .parse()
        .map_err(|e: types::IdError| Refused::invalid("account", e.to_string()))?;
    let state = app.state();
    let account = state.account(&id);
    let gift = match account.faucet_used {
        true => types::Amount::ZERO,
        false => state.params().faucet,
    };
    Ok(Json(api::AccountView {
        account: id,
        balance: account.balance(),
        spendable: account.spendable,
        held: account.held,
        nonce: account.nonce,
        height: state.height(),
        gift,
        grants: account.grants,
        retired: account.retired,
    }))
}

#[derive(Deserialize)]
pub struct Stops {
    count: Option<usize>,
}

pub async fn limit(
    State(app): State<App>,
    Named(id): Named<String>,
    Asked(stops): Asked<Stops>,
) -> Answer<api::LimitView> {
    let id: AccountId = id
        .parse()
        .map_err(|e: types::IdError| Refused::invalid("account", e.to_string()))?;
    let count = stops.count.unwrap_or(api::LimitView::LISTED_MAX);
    let view = app.compute(move |state| views::limit(&state, id, count));
    Ok(Json(view.await?))
}

fn account_id(text: &str) -> Result<AccountId, Refused> {
    let wrong = |e: types::IdError| Refused::invalid("account", e.to_string());
    text.parse().map_err(wrong)
}

pub async fn token(State(app): State<App>, Named(id): Named<String>) -> Answer<api::TokenView> {
    let id = account_id(&id)?;
    let next = "Make one with `runrig host invite`.";
    views::token(&app.state(), id)
        .map(Json)
        .ok_or_else(|| Refused::not_found(&format!("token {id}"), next))
}

pub async fn tokens_of(
    State(app): State<App>,
    Named(id): Named<String>,
) -> Answer<Vec<api::TokenView>> {
    let (id, state) = (account_id(&id)?, app.state());
    let open = state.tokens_of(&id);
    Ok(Json(
        open.filter_map(|(id, _)| views::token(&state, id))
            .collect(),
    ))
}

#[derive(Deserialize)]
pub struct Page {
    pub from: Option<usize>,
}

pub async fn hosts(State(app): State<App>, Asked(page): Asked<Page>) -> Result<Response, Refused> {
    let from = page.from.unwrap_or(0);
    app.compute(move |state| answer(lists::hosts(&state, from)))
        .await?
}

fn find_host(state: &ledger::State, text: &str) -> Result<HostId, Refused> {
    text.parse()
        .ok()
        .filter(|id| state.hosts.get(id).is_some())
        .or_else(|| state.host_named(text))
        .ok_or_else(|| Refused::not_found(&format!("host {text}"), "See `runrig host ls`."))
}

pub async fn host(State(app): State<App>, Named(id): Named<String>) -> Answer<api::HostView> {
    let state = app.state();
    let id = find_host(&state, &id)?;
    views::host(&state, id)
        .map(Json)
        .ok_or_else(|| Refused::not_found("host", "See `runrig host ls`."))
}

pub async fn plan(
    State(app): State<App>,
    Named(id): Named<String>,
    Asked(wait): Asked<Wait>,
) -> Answer<api::HostPlan> {
    let _place = app.wait_place()?;
    let deadline = tokio::time::Instant::now() + wait_limit(wait.wait_ms);
    let mut heads = app.handle.subscribe();
    let host = find_host(&app.state(), &id)?;
    loop {
        let number = {
            let head = heads.borrow_and_update();
            // One that has left is told at once.
            head.state.hosts.get(&host).map_or(u64::MAX, |h| h.plan)
        };
        let waits = wait.after.is_some_and(|after| number <= after);
        if !waits
            || tokio::time::timeout_at(deadline, heads.changed())
                .await
                .is_err()
        {
            let plan = app.compute(move |state| views::plan(&state, host)).await?;
            return plan
                .map(Json)
                .ok_or_else(|| Refused::not_found("host", "See `runrig host ls`."));
        }
    }
}

#[derive(Deserialize)]
pub struct RoutesKnown {
    after: Option<u64>,
    table: Option<Digest>,
    wait_ms: Option<u64>,
}

/// What has changed since what the reader knows, or all; held back while nothing has.
pub async fn routes(
    State(app): State<App>,
    Asked(known): Asked<RoutesKnown>,
) -> Result<Response, Refused> {
    let _place = app.wait_place()?;
    let deadline = tokio::time::Instant::now() + wait_limit(known.wait_ms);
    let head = app.handle.head().header.height;
    let mut routed = app.routed.clone();
    // What was final when it was asked for is told.
    let caught_up = routed.wait_for(|routed| routed.height >= head);
    if !matches!(
        tokio::time::timeout(ROUTED_WAIT, caught_up).await,
        Ok(Ok(_))
    ) {
        return Err(Refused::busy("the table of routes is behind the ledger"));
    }
    let table = app.route_book.read().expect("not poisoned").table();
    let same = known.table.is_none_or(|asked| asked == table);
    if let Some(after) = known.after.filter(|_| same) {
        let news = routed.wait_for(|routed| routed.changed > after);
        let _ = tokio::time::timeout_at(deadline, news).await;
    }
    let after = known.after.filter(|_| known.table == Some(table));
    let book = app.route_book.clone();
    app.compute(move |_| {
        let told = book.read().expect("not poisoned").told(after);
        let json = serde_json::to_vec(&told).map_err(|e| Refused::internal(&e.into()))?;
        Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
    })
    .await?
}

#[derive(Deserialize)]
pub struct Filter {
    owner: Option<AccountId>,
    deployment: Option<DeploymentId>,
    host: Option<HostId>,
    #[serde(default)]
    all: bool,
    /// Of deployments, apart by commas.
    names: Option<String>,
    from: Option<usize>,
}

pub async fn deployments(
    State(app): State<App>,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Refused> {
    let from = filter.from.unwrap_or(0);
    let Some(names) = filter.names else {
        let page = move |state: ledger::State| {
            answer(lists::deployments(&state, filter.owner, filter.all, from))
        };
        return app.compute(page).await?;
    };
    let Some(owner) = filter.owner else {
        return Err(Refused::invalid("names", "say whose: owner="));
    };
    let count = names.split(',').count();
    if count > lists::NAMES_MAX {
        let why = format!("they are {count}, at most {} at once", lists::NAMES_MAX);
        return Err(Refused::invalid("names", why));
    }
    app.compute(move |state| {
        let names = names.split(',').collect();
        answer(lists::named(&state, owner, &names, from))
    })
    .await?
}

#[derive(Deserialize)]
pub struct PortRange {
    first: Option<u16>,
    last: Option<u16>,
}

/// At most two for each number: bounded by what a port is.
pub async fn ports(
    State(app): State<App>,
    Asked(range): Asked<PortRange>,
) -> Answer<Vec<api::PublishedPort>> {
    let (first, last) = (range.first.unwrap_or(1), range.last.unwrap_or(u16::MAX));
    app.compute(move |state| {
        let wanted = (first <= last).then_some(first..=last);
        let state = &state;
        let of = |protocol| {
            let ports = wanted.clone().into_iter().flatten();
            ports.filter_map(move |port| {
                let deployment = state.publisher(protocol, port)?;
                Some(api::PublishedPort {
                    protocol,
                    port,
                    deployment,
                })
            })
        };
        Json(of(Protocol::Tcp).chain(of(Protocol::Udp)).collect())
    })
    .await
}

pub async fn releases(
    State(app): State<App>,
    Named(id): Named<String>,
) -> Answer<Vec<api::ReleaseView>> {
    let next = "See `runrig ps -a`.";
    let id: DeploymentId = id.parse().map_err(|_| Refused::not_found(&id, next))?;
    views::releases(&app.state(), id)
        .map(Json)
        .ok_or_else(|| Refused::not_found(&id.to_string(), next))
}

pub async fn deployment(
    State(app): State<App>,
    Named(id): Named<String>,
) -> Answer<api::DeploymentView> {
    let next = "See `runrig ps -a`.";
    let id: DeploymentId = id.parse().map_err(|_| Refused::not_found(&id, next))?;
    views::deployment(&app.state(), id)
        .map(Json)
        .ok_or_else(|| Refused::not_found(&id.to_string(), next))
}

pub async fn allocations(
    State(app): State<App>,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Refused> {
    if filter.owner.is_none() && filter.deployment.is_none() && filter.host.is_none() {
        let why = "say whose: owner=, deployment= or host=";
        return Err(Refused::invalid("allocations", why));
    }
    app.compute(move |state| {
        let whose = Whose {
            deployment: filter.deployment,
            owner: filter.owner,
            host: filter.host,
        };
        let from = filter.from.unwrap_or(0);
        answer(lists::allocations(&state, whose, filter.all, from))
    })
    .await?
}

pub fn allocation_id(text: &str) -> Result<AllocationId, Refused> {
    text.parse()
        .map_err(|_| Refused::not_found(&format!("allocation {text}"), "See `runrig ps -a`."))
}

/// `view` of an allocation whose record is kept, else why there is none.
fn of_allocation<V>(
    app: &App,
    name: &str,
    view: impl FnOnce(&ledger::State, AllocationId) -> Option<V>,
) -> Answer<V> {
    let (id, state) = (allocation_id(name)?, app.state());
    view(&state, id).map(Json).ok_or_else(|| {
        let mut refused = Refused::not_found(name, "See `runrig ps -a`.");
        if state.is_folded(id) {
            refused.1.why = format!(
                "it ended long ago: of the allocations of a deployment that have ended, the last \
                 {} are kept, and sums of the others",
                ledger::deployment::ENDED_MAX
            );
            refused.1.next = "See `runrig bill` for the sums.".into();
        }
        refused
    })
}

pub async fn allocation(
    State(app): State<App>,
    Named(id): Named<String>,
) -> Answer<api::AllocationView> {
    of_allocation(&app, &id, views::allocation)
}

pub async fn keepers(State(app): State<App>, Named(id): Named<String>) -> Answer<Vec<api::Keeper>> {
    views::keepers(&app.state(), allocation_id(&id)?)
        .map(Json)
        .ok_or_else(|| Refused::not_found(&id, "See `runrig ps -a`."))
}

pub async fn why(State(app): State<App>, Named(id): Named<String>) -> Answer<api::WhyView> {
    of_allocation(&app, &id, views::why)
}
