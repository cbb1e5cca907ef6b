//! Bring the agent up, keep one worker per allocation of the plan, take it down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use engine::{Engine, EngineConfig, OciEngine, Runtime};
use futures::FutureExt;
use futures::future::BoxFuture;
use ledger::lease::Desired;
use net::{Directory, DirectoryEntry, NetworkKey};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use types::{AccountId, AllocationId, Offer, SecretKey};

use crate::book::Book;
use crate::builds::{self, Builds};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger_link::{self, LedgerLink};
use crate::machine::{machine_digest, machine_resources};
use crate::neighbours::Links;
use crate::shared::Shared;
use crate::shelf::Shelf;
use crate::worker::Worker;
use crate::{bond, fence, http, joining, logs, neighbours, reporter, room};

/// Runs until `shutdown`. Errors say what the machine lacks, before anything is offered.
///
/// Boxed: an async function is compiled in each crate that awaits it, and this is a whole service.
pub fn run(config: Config, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, Result<()>> {
    run_until(config, shutdown).boxed()
}

async fn run_until(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    for folder in [
        "state", "usage", "upper", "volumes", "images", "engine", "net", "logs", "copies",
    ] {
        let path = config.data.join(folder);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    let engine: Arc<dyn Engine> = Arc::new(open_engine(&config)?);
    let capabilities = engine.probe().await?;
    let net = Arc::new(net::Network::open(net_config(&config)).await?);
    net.probe().await?;
    for hindrance in net::hindrances().await {
        tracing::warn!("{hindrance}");
    }
    tracing::info!(?capabilities, "this machine can run containers");

    let client = sdk::Client::new([config.network.clone()])?;
    let link = Arc::new(LedgerLink::new(client, config.key.clone()));
    let shelf = open_shelf(&config)?;
    let builds = open_builds(&config)?;
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}; choose another with --listen", config.listen))?;
    let bound = listener.local_addr()?;
    let address = match &config.advertise {
        Some(address) => address.clone(),
        None => format!("http://{bound}"),
    };
    let logs = {
        let folder = config.data.join("logs");
        let opened = tokio::task::spawn_blocking(move || logs::Store::open(&folder)).await?;
        Arc::new(opened.context("open the logs that are kept here")?)
    };
    let copies = {
        let folder = config.data.join("copies");
        let opened = tokio::task::spawn_blocking(move || logs::Copies::open(&folder)).await?;
        opened.context("open the copies of logs that are kept here")?
    };
    let clock = Arc::new(Clock::open(&config.data.join("state/clock"))?);
    let (plan_sender, plans) = watch::channel(None);
    let shared = Arc::new(Shared {
        config,
        clock: clock.clone(),
        link: link.clone(),
        engine,
        net: net.clone(),
        images: shelf.store.clone(),
        shelf,
        builds,
        logs,
        exports: logs::Exports::default(),
        copies,
        plans,
        books: Mutex::new(BTreeMap::new()),
        statuses: Mutex::new(BTreeMap::new()),
        current: Mutex::new(BTreeMap::new()),
        status_changed: Notify::new(),
        usage_due: Notify::new(),
    });
    // What others run by now ends here before the ledger counts on this host again.
    fence::at_return(&shared).await;
    let builds = shared.builds.is_some();
    let (owner, invitation) = joining::owner(&shared.config, &link).await?;
    let registration = registration(&shared.config, owner, address, builds)?;
    bond::have(&shared.config, &link).await;
    // Once is enough: what it says later goes without.
    let mut first = registration.clone();
    if let ledger::host::Call::Register { invitation: by, .. } = &mut first {
        *by = invitation;
    }
    insist(&shared.config, &link, first).await?;
    let links = Arc::<Links>::default();

    let mut background = tokio::task::JoinSet::new();
    background.spawn(reporter::meter(shared.clone()).map(drop));
    background.spawn(reporter::statuses(shared.clone()).map(drop));
    background.spawn(reporter::usage(shared.clone()).map(drop));
    background.spawn(reporter::heartbeat(shared.clone()).map(drop));
    background.spawn(room::keep(shared.clone()));
    background.spawn(logs::intake(shared.clone()).map(drop));
    background.spawn({
        let shared = shared.clone();
        async move {
            let private = shared.config.private_receivers;
            shared.exports.keep(shared.logs.clone(), private).await;
        }
    });
    background.spawn(logs::room(shared.clone()).map(drop));
    background.spawn(logs::ship(shared.clone()).map(drop));
    background.spawn(room::offer(shared.clone(), registration));
    background.spawn(room::removed_volumes(shared.clone()));
    background.spawn(neighbours::keep(shared.clone(), bound, links.clone()).map(drop));
    let server = axum::serve(listener, http::router(shared.clone()));
    background.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the agent's API has stopped");
        }
    });

    let mut workers = Workers::default();
    let mut left = false;
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        () = ledger_link::follow(link, clock, plan_sender) => {
            tracing::info!("the ledger does not know this host any more: it has left");
            left = true;
            Ok(())
        }
        part = background.join_next() => Err(anyhow!("a part of the agent has stopped: {part:?}")),
        ended = workers.follow_all(&shared) => ended,
    };
    if ended.is_ok() {
        workers.end(&shared).await;
    }
    background.shutdown().await;
    neighbours::close(links).await;
    ended?;
    net.close(shared.config.stop_on_exit || left).await?;
    Ok(())
}

fn open_shelf(config: &Config) -> Result<Arc<Shelf>> {
    if let Some(shelf) = &config.images {
        ensure!(
            shelf.fits(config.uid_base),
            "agents that share images map containers to the same uids: one --uid-base for all"
        );
        return Ok(shelf.clone());
    }
    let dir = config.data.join("images");
    let shelf = Shelf::open(dir, config.uid_base, &config.network, 1)?;
    Ok(Arc::new(shelf))
}

fn open_engine(config: &Config) -> Result<OciEngine> {
    let runtime = match config.engine.as_str() {
        "libcontainer" => Runtime::Libcontainer,
        "runc" => Runtime::Runc,
        "crun" => Runtime::Crun,
        other => bail!("there is no engine \"{other}\": choose libcontainer, runc or crun"),
    };
    Ok(OciEngine::open(EngineConfig {
        root: config.data.join("engine"),
        runtime,
        shim: config.shim.clone(),
        cgroup_parent: format!("/runrig/{}", tag(&config.key)),
    })?)
}

/// Four letters that tell the bridges and cgroups of `key`'s agent from those of others here.
pub fn tag(key: &SecretKey) -> String {
    AccountId::of(&key.public()).to_string()[..4].to_string()
}

fn net_config(config: &Config) -> net::NetworkConfig {
    net::NetworkConfig {
        state: config.data.join("net"),
        tag: tag(&config.key),
        ..Default::default()
    }
}

/// `None`: building is not offered.
fn open_builds(config: &Config) -> Result<Option<Builds>> {
    if !config.builds {
        return Ok(None);
    }
    match builds::builder() {
        Ok(builder) => {
            tracing::info!(version = builder.version, "this machine can build images");
            Builds::open(&config.data, config.uid_base, builder).map(Some)
        }
        Err(missing) => {
            tracing::info!("building is not offered: {missing}");
            Ok(None)
        }
    }
}

/// What this host tells of itself when it comes.
fn registration(
    config: &Config,
    owner: AccountId,
    address: String,
    builds: bool,
) -> Result<ledger::host::Call> {
    let mut capacity = machine_resources(&config.data)?;
    if let Some(cpus) = config.cpus_millis {
        capacity.cpu_millis = cpus;
    }
    if let Some(memory) = config.memory_bytes {
        capacity.memory_bytes = memory;
    }
    if let Some(disk) = config.disk_bytes {
        capacity.disk_bytes = disk;
    }
    if let Some(bandwidth) = config.bandwidth_kbps {
        capacity.bandwidth_kbps = bandwidth;
    }
    Ok(ledger::host::Call::Register {
        name: config.name.clone(),
        address,
        offer: Offer {
            capacity,
            architecture: images::architecture().into(),
            region: config.region.clone(),
            price_multiplier_milli: 1000,
            builds,
        },
        owner,
        machine: machine_digest()?,
        invitation: None,
    })
}

/// Until the ledger has heard it, or refuses.
pub async fn insist(config: &Config, link: &LedgerLink, call: ledger::host::Call) -> Result<()> {
    let mut pause = Duration::from_millis(200);
    loop {
        match link.submit(ledger::Call::Host(call.clone())).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_rejection() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, network = %config.network, "the network does not answer yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

#[derive(Default)]
struct Workers {
    all: BTreeMap<AllocationId, (watch::Sender<Arc<api::PlannedAllocation>>, JoinHandle<()>)>,
    /// What a former agent left and nobody works on has been looked for.
    swept: bool,
}

/// An agent that fails may be started again in the same process: nothing of it goes on.
impl Drop for Workers {
    fn drop(&mut self) {
        for (_, task) in self.all.values() {
            task.abort();
        }
    }
}

impl Workers {
    /// Follows the plan, each newer one that comes, for as long as it is polled.
    async fn follow_all(&mut self, shared: &Arc<Shared>) -> Result<()> {
        let mut seen = fence::seen(shared);
        let mut plans = shared.plans.clone();
        loop {
            let changed = plans.changed().await;
            changed.context("the plan is not followed any more")?;
            let Some(plan) = plans.borrow_and_update().clone() else {
                continue;
            };
            if plan.plan < seen {
                tracing::warn!(
                    plan = plan.plan,
                    seen,
                    "an old plan is not followed; if the network was begun anew, join it with a new --data"
                );
                continue;
            }
            if plan.plan > seen {
                seen = plan.plan;
                fence::see(shared, seen);
            }
            self.follow(shared, &plan).await?;
            shared.net.set_directory(directory(&plan)).await?;
            shared.net.refill().await?;
        }
    }

    /// Tells workers what changed, ends those that have no place here any more, starts those
    /// that are new.
    async fn follow(&mut self, shared: &Arc<Shared>, plan: &api::HostPlan) -> Result<()> {
        self.all.retain(|_, (_, task)| !task.is_finished());
        let placed: BTreeSet<_> = plan.allocations.iter().map(|p| p.allocation).collect();
        for (id, (sender, _)) in &self.all {
            sender.send_if_modified(|known| {
                let ends = !placed.contains(id) && known.desired != Desired::Remove;
                if ends {
                    Arc::make_mut(known).desired = Desired::Remove;
                }
                ends
            });
        }
        if !self.swept {
            self.swept = true;
            fence::sweep(shared, plan, &self.all.keys().copied().collect()).await;
        }
        for planned in &plan.allocations {
            let id = planned.allocation;
            if let Some((sender, _)) = self.all.get(&id) {
                sender.send_if_modified(|known| {
                    let differs = known.desired != planned.desired
                        || known.generation != planned.generation
                        || known.remove_volumes != planned.remove_volumes;
                    if differs {
                        *known = Arc::new(planned.clone());
                    }
                    differs
                });
                continue;
            }
            let book = Book::open(
                id,
                shared.book_path(id),
                planned.spec.resources,
                shared.clock.now_ms(),
                planned.sequence,
                planned.usage,
            )?;
            if book.is_closed() && planned.desired == Desired::Remove {
                continue;
            }
            let book = Arc::new(Mutex::new(book));
            shared
                .books
                .lock()
                .expect("not poisoned")
                .insert(id, book.clone());
            let (sender, receiver) = watch::channel(Arc::new(planned.clone()));
            let worker = Worker::open(shared.clone(), receiver, book)?;
            let task = tokio::spawn({
                let shared = shared.clone();
                async move {
                    worker.run().await;
                    shared.books.lock().expect("not poisoned").remove(&id);
                    shared.current.lock().expect("not poisoned").remove(&id);
                }
            });
            self.all.insert(id, (sender, task));
        }
        Ok(())
    }

    /// Leaves containers to their shims, or stops them when the whole cloud ends with us.
    async fn end(self, shared: &Arc<Shared>) {
        for (_, task) in self.all.values() {
            task.abort();
        }
        if !shared.config.stop_on_exit {
            return;
        }
        let running = shared.engine.list().await.unwrap_or_default();
        futures::future::join_all(running.iter().map(|container| async {
            let grace = Duration::from_secs(5);
            if let Err(error) = shared
                .engine
                .stop(&container.id, libc::SIGTERM, grace)
                .await
            {
                tracing::warn!(id = %container.id, %error, "stop");
            }
        }))
        .await;
        // Last readings before the cgroups go; they are reported when the agent is back.
        for book in shared.open_books() {
            let mut book = book.lock().expect("not poisoned");
            book.detach(shared.clock.now_ms(), None);
            if let Err(error) = book.save() {
                tracing::error!(%error, "usage book");
            }
        }
        for container in &running {
            if let Err(error) = shared.engine.remove(&container.id).await {
                tracing::warn!(id = %container.id, %error, "remove");
            }
        }
    }
}

/// Names and addresses of all replicas that containers here may reach.
fn directory(plan: &api::HostPlan) -> Directory {
    let mut entries = Vec::new();
    for peer in plan.peers.iter().filter(|p| p.same_machine) {
        for (network, address) in &peer.status.addresses {
            entries.push(DirectoryEntry {
                network: NetworkKey {
                    deployment: peer.deployment.to_string(),
                    network: network.clone(),
                },
                names: neighbours::names(peer, network),
                address: (*address).into(),
                ready: peer.ready,
            });
        }
    }
    Directory { entries }
}
