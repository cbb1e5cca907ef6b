//! One network of ten thousand hosts: what its ledger costs a validator.
//!
//! **The hosts are simulated**: keys that sign what an agent would say, no process and no
//! container behind them. **The ledger is real**: each block is executed by the code that
//! validators run, roots and invariants included, and lists are made by the code that
//! answers the API. Times are CPU of the one thread that does it: what else runs on the machine
//! does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use api::KnownRoutes;
use ledger::lease::UsageLine;
use ledger::{
    BlockEnv, Call, Executed, Genesis, Params, State, Transaction, TransactionBody, deployment,
    host, lease,
};
use types::{
    AccountId, Amount, DeploymentId, DeploymentSpec, Digest, Health, HostId, ImageRef, Offer,
    Resources, RunState, SecretKey, ServiceSpec, Usage, merkle_root,
};
use validator::lists::{self, Whose};
use validator::route_book::{self, RouteBook};
use validator::views;

use crate::figure::{Bound, Figure, Found, milliseconds};

const HOSTS: u64 = 10_000;
const OWNERS: u64 = 1_000;
/// Each in as many replicas.
const PROJECTS: u64 = 1_000;
const REPLICAS: u32 = 100;
/// Between blocks of a busy network.
const BLOCK_MS: u64 = 100;
/// Transactions in the blocks that are measured.
const BEATS: u64 = 1_000;
const REPORTS: u64 = 200;

struct Network {
    state: State,
    keys: BTreeMap<AccountId, SecretKey>,
    hosts: Vec<HostId>,
    nonces: BTreeMap<AccountId, u64>,
}

fn key(kind: u8, n: u64) -> SecretKey {
    let mut seed = [kind; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(seed)
}

fn id(key: &SecretKey) -> AccountId {
    AccountId::of(&key.public())
}

fn registration(n: u64) -> host::Call {
    host::Call::Register {
        name: format!("host-{n}"),
        address: format!("http://10.{}.{}.{}:7000", n >> 16, (n >> 8) & 255, n & 255),
        offer: Offer {
            capacity: Resources {
                // Room for twelve of the replicas below: five in six are taken.
                cpu_millis: 6_000,
                memory_bytes: 16 << 30,
                disk_bytes: 200 << 30,
                bandwidth_kbps: 10_000_000,
            },
            architecture: "amd64".into(),
            region: ["eu", "us", "as"][(n % 3) as usize].into(),
            price_multiplier_milli: 1000,
            builds: false,
        },
        // One of about three hosts of its owner.
        owner: id(&key(3, n / 3)),
        machine: Digest::of(&n.to_le_bytes()),
        invitation: None,
    }
}

fn project(n: u64, replicas: u32) -> DeploymentSpec {
    let service = ServiceSpec {
        image: ImageRef {
            reference: "docker.io/library/busybox:latest".into(),
            digest: Digest::of(b"image"),
        },
        replicas,
        ..ServiceSpec::default()
    };
    DeploymentSpec {
        project: format!("project-{n}"),
        services: BTreeMap::from([("web".into(), service)]),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        logs: Default::default(),
    }
}

impl Network {
    fn new() -> Self {
        let owners: Vec<SecretKey> = (0..OWNERS).map(|n| key(1, n)).collect();
        let machines: Vec<SecretKey> = (0..HOSTS).map(|n| key(2, n)).collect();
        let mut params = Params::dev();
        // Who is silent is measured apart; until then all are there.
        params.host_timeout_ms = 86_400_000;
        let genesis = Genesis {
            name: "scale".into(),
            time_ms: 1_700_000_000_000,
            params,
            balances: owners
                .iter()
                .map(|key| (id(key), Amount::credits(10_000)))
                .collect(),
            faucet: AccountId([0; 20]),
            watchers: Vec::new(),
            origin: None,
            validators: Vec::new(),
        };
        let hosts = machines.iter().map(id).collect();
        let all = owners.into_iter().chain(machines);
        Self {
            state: State::genesis(&genesis),
            keys: all.map(|key| (id(&key), key)).collect(),
            hosts,
            nonces: BTreeMap::new(),
        }
    }

    fn sign(&mut self, who: AccountId, call: Call) -> Result<Vec<u8>> {
        let key = self.keys.get(&who).context("a key of the network")?;
        let nonce = self.nonces.entry(who).or_default();
        *nonce += 1;
        let body = TransactionBody {
            network: self.state.globals.network,
            key: key.public().into(),
            on_behalf: Vec::new(),
            nonce: *nonce,
            expires: self.state.height() + 100,
            tip: types::Amount::ZERO,
            call,
        };
        Ok(borsh::to_vec(&Transaction::sign(body, key))?)
    }

    fn execute(&self, transactions: &[Vec<u8>], known: bool) -> Result<Executed> {
        let env = BlockEnv {
            height: self.state.height() + 1,
            time_ms: self.state.time_ms() + BLOCK_MS,
            ..BlockEnv::default()
        };
        Ok(self.state.execute(env, transactions, &|_| known)?)
    }

    /// Moves on by a block in which everything must be applied.
    fn block(&mut self, calls: Vec<(AccountId, Call)>) -> Result<()> {
        let signed = |(who, call)| self.sign(who, call);
        let transactions = calls.into_iter().map(signed).collect::<Result<Vec<_>>>()?;
        let executed = self.execute(&transactions, true)?;
        self.follow(executed)
    }

    fn follow(&mut self, executed: Executed) -> Result<()> {
        let refused = executed.outcomes.iter().find_map(|o| o.rejection.as_ref());
        ensure!(refused.is_none(), "a block was refused: {refused:?}");
        self.state = executed.state;
        Ok(())
    }

    fn deploy(&self, owner: u64, n: u64, replicas: u32) -> (AccountId, Call) {
        let call = deployment::Call::Deploy {
            spec: project(n, replicas),
            price_max_hour: None,
        };
        (id(&key(1, owner % OWNERS)), Call::Deployment(call))
    }

    /// What the host would say once its containers run.
    fn statuses(&self, who: HostId) -> Call {
        let statuses = self.state.allocations_on(&who).map(|(id, a)| {
            let mut status = a.status.clone();
            status.state = RunState::Running;
            status.pid = 4_000 + id.0 as u32;
            let octets = (id.0 as u32).to_be_bytes();
            let address = [10, octets[1], octets[2], octets[3]];
            status.addresses.insert("default".into(), address);
            (id, status)
        });
        Call::Lease(lease::Call::ReportStatus {
            plan: self.state.hosts.get(&who).map_or(0, |h| h.plan),
            statuses: statuses.collect(),
        })
    }

    /// One of its replicas that was well is sick.
    fn unready(&self, who: HostId) -> Option<Call> {
        let mut all = self.state.allocations_on(&who);
        let (id, allocation) = all.find(|(_, a)| a.status.is_ready())?;
        let mut status = allocation.status.clone();
        status.health = Health::Unhealthy;
        Some(Call::Lease(lease::Call::ReportStatus {
            plan: self.state.hosts.get(&who).map_or(0, |h| h.plan),
            statuses: vec![(id, status)],
        }))
    }

    /// Usage of all that runs there: a tenth of what is reserved.
    fn usage(&self, who: HostId) -> Call {
        let until_ms = self.state.time_ms();
        let line = |(id, a): (_, &lease::Allocation)| {
            let ms = u128::from(until_ms.saturating_sub(a.placed_ms));
            UsageLine {
                allocation: id,
                sequence: a.sequence + 1,
                until_ms,
                total: Usage {
                    cpu_ns: (ms * u128::from(a.reserved.cpu_millis) * 100) as u64,
                    memory_byte_ms: ms * u128::from(a.reserved.memory_bytes) / 10,
                    ..a.usage
                },
                record: Digest::of(&id.0.to_le_bytes()),
                last: false,
            }
        };
        Call::Lease(lease::Call::ReportUsage {
            interval: self.state.hosts.get(&who).map_or(0, |h| h.interval) + 1,
            root: Digest::default(),
            lines: self.state.allocations_on(&who).map(line).collect(),
        })
    }
}

/// CPU that this thread has taken.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to `time` only.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0, "every kernel counts it");
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Resident memory of this process.
pub(crate) fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Rounds of each figure by its name, in the order of their first.
pub(crate) struct Rounds {
    bench: &'static str,
    all: Vec<(String, &'static str, Option<Bound>, Vec<f64>)>,
}

impl Rounds {
    pub(crate) fn of(bench: &'static str) -> Self {
        let all = Vec::new();
        Self { bench, all }
    }

    pub(crate) fn add(&mut self, name: &str, unit: &'static str, value: f64, goal: Option<Bound>) {
        let known = self.all.iter_mut().find(|(n, ..)| n == name);
        match known {
            Some((.., rounds)) => rounds.push(value),
            None => self.all.push((name.into(), unit, goal, vec![value])),
        }
    }

    /// Times `work` and returns what it made.
    pub(crate) fn time<T>(
        &mut self,
        name: &str,
        (unit, per): (&'static str, f64),
        most: Option<f64>,
        work: impl FnOnce() -> T,
    ) -> T {
        let started = thread_cpu();
        let made = black_box(work());
        let scale = match unit {
            "µs" => 1e3,
            _ => 1.0,
        };
        let value = milliseconds(thread_cpu().saturating_sub(started)) * scale / per;
        self.add(name, unit, value, most.map(Bound::AtMost));
        made
    }

    pub(crate) fn figures(self) -> Vec<Figure> {
        let bench = self.bench;
        let figure = |(name, unit, goal, rounds)| {
            let figure = Figure::of(bench, name, unit, rounds)?;
            Some(match goal {
                Some(goal) => figure.goal(goal),
                None => figure,
            })
        };
        self.all.into_iter().filter_map(figure).collect()
    }
}

/// The network as it stands: every host registered, every replica placed and running, every
/// release good, usage settled once.
fn settled(found: &mut Rounds) -> Result<Network> {
    let mut network = Network::new();
    let hosts = network.hosts.clone();
    for (batch, ids) in hosts.chunks(1_000).enumerate() {
        let calls = ids.iter().enumerate().map(|(at, id)| {
            let n = (batch * 1_000 + at) as u64;
            (*id, Call::Host(registration(n)))
        });
        network.block(calls.collect())?;
    }
    for first in (0..PROJECTS).step_by(10) {
        let calls = (first..first + 10).map(|n| network.deploy(n, n, REPLICAS));
        let calls = calls.collect();
        network.block(calls)?;
    }
    for say in [Network::statuses, Network::usage] {
        for ids in hosts.chunks(500) {
            let calls = ids.iter().map(|id| (*id, say(&network, *id)));
            let calls = calls.collect();
            network.block(calls)?;
        }
    }
    let mut longest = Duration::ZERO;
    let rolling = |network: &Network| {
        let mut all = network.state.deployments.iter();
        all.any(|(_, d)| d.rollout.is_some())
    };
    while rolling(&network) {
        let started = thread_cpu();
        network.block(Vec::new())?;
        longest = longest.max(thread_cpu().saturating_sub(started));
    }
    found.add(
        "longest block while 1,000 releases become good",
        "ms",
        milliseconds(longest),
        Some(Bound::AtMost(50.0)),
    );
    Ok(network)
}

fn blocks(network: &mut Network, found: &mut Rounds, round: usize) -> Result<()> {
    found.time("a block with nothing in it", ("ms", 1.0), Some(1.0), || {
        network.execute(&[], true)
    })?;
    let hosts = network.hosts.clone();
    let beat = Call::Host(host::Call::Heartbeat);
    let signed = |network: &mut Network, call: &Call| {
        let sign = |id: &HostId| network.sign(*id, call.clone());
        hosts[..BEATS as usize]
            .iter()
            .map(sign)
            .collect::<Result<Vec<_>>>()
    };
    let beats = signed(network, &beat)?;
    let bytes = beats.iter().map(Vec::len).sum::<usize>() as f64 / BEATS as f64;
    found.add("a heartbeat that is a transaction", "bytes", bytes, None);
    let per = BEATS as f64;
    found.time(
        "CPU of a heartbeat that is a transaction, signature checked here",
        ("µs", per),
        None,
        || network.execute(&beats, false),
    )?;
    let executed = found.time(
        "CPU of a heartbeat that is a transaction, signature known",
        ("µs", per),
        None,
        || network.execute(&beats, true),
    )?;
    network.follow(executed)?;

    let from = (round * REPORTS as usize) % hosts.len();
    let chosen = &hosts[from..from + REPORTS as usize];
    let reports = chosen
        .iter()
        .map(|id| {
            let call = network.usage(*id);
            network.sign(*id, call)
        })
        .collect::<Result<Vec<_>>>()?;
    let lines: usize = chosen
        .iter()
        .map(|id| network.state.allocations_on(id).count())
        .sum();
    let bytes = reports.iter().map(Vec::len).sum::<usize>() as f64 / lines as f64;
    found.add("usage of an allocation in a report", "bytes", bytes, None);
    let executed = found.time(
        "CPU to settle an allocation of a usage report",
        ("µs", lines as f64),
        Some(60.0),
        || network.execute(&reports, true),
    )?;
    found.time(
        "CPU of the block's roots, per allocation settled",
        ("µs", lines as f64),
        None,
        || {
            let leaves: Vec<Vec<u8>> = executed
                .events
                .iter()
                .filter_map(|e| borsh::to_vec(e).ok())
                .collect();
            let root = executed.state.root();
            (merkle_root(&leaves), root)
        },
    );
    network.follow(executed)
}

fn placements(network: &mut Network, found: &mut Rounds, round: usize) -> Result<()> {
    let n = PROJECTS + 10 * round as u64;
    for (name, unit, replicas, most) in [
        ("block that places one replica", "ms", 1u32, 5.0),
        ("block that places 100 replicas", "ms", 100, 50.0),
    ] {
        let (who, call) = network.deploy(n, n + u64::from(replicas), replicas);
        let transaction = network.sign(who, call)?;
        let executed = found.time(name, (unit, 1.0), Some(most), || {
            network.execute(&[transaction], true)
        })?;
        network.follow(executed)?;
        let id = DeploymentId(network.state.globals.deployments);
        let call = deployment::Call::Remove {
            deployment: id,
            volumes: false,
        };
        let transaction = network.sign(who, Call::Deployment(call))?;
        let executed = network.execute(&[transaction], true)?;
        network.follow(executed)?;
    }
    Ok(())
}

fn lists(state: &State, found: &mut Rounds) -> Result<()> {
    let owner = id(&key(1, 7));
    let host = state.hosts.iter().map(|(id, _)| *id).nth(7);
    let host = host.context("a host")?;
    let page = found.time(
        "`ps`: an owner's 100 allocations",
        ("ms", 1.0),
        Some(10.0),
        || {
            let whose = Whose {
                owner: Some(owner),
                ..Whose::default()
            };
            lists::allocations(state, whose, false, 0)
        },
    )?;
    ensure!(page.next.is_none(), "an owner's allocations fill a page");
    found.time(
        "page of 1,000 hosts, the first",
        ("ms", 1.0),
        Some(20.0),
        || lists::hosts(state, 0),
    )?;
    found.time(
        "page of 1,000 hosts, the last",
        ("ms", 1.0),
        Some(20.0),
        || lists::hosts(state, HOSTS as usize - lists::ROWS_MAX),
    )?;
    found.time("page of deployments", ("ms", 1.0), Some(100.0), || {
        lists::deployments(state, None, false, 0)
    })?;
    found
        .time("a host's plan, made", ("ms", 1.0), Some(10.0), || {
            views::plan(state, host)
        })
        .context("a plan")?;
    found.time(
        "money counted (`/v1/supply`)",
        ("ms", 1.0),
        Some(100.0),
        || state.supply(),
    );
    Ok(())
}

/// The table of routes: followed by a validator, told to a gateway that knows the last one.
fn routes(network: &mut Network, found: &mut Rounds) -> Result<()> {
    let bytes = |told: &api::Routes| serde_json::to_vec(told);
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let before = memory_bytes();
    let mut book = RouteBook::new(network.state.globals.network);
    found.time(
        "table of routes, made at a start",
        ("ms", 1.0),
        Some(2_000.0),
        || {
            book.follow(&network.state);
        },
    );
    let grown = memory_bytes().saturating_sub(before);
    if grown > 0 {
        let most = Some(Bound::AtMost(256.0));
        found.add(
            "memory of the table of routes",
            "MiB",
            mebibytes(grown as usize),
            most,
        );
    }
    let mut known = KnownRoutes::default();
    let all = found.time(
        "all routes, told once to a new gateway",
        ("ms", 1.0),
        None,
        || bytes(&book.told(None)),
    )?;
    found.add("all routes", "MiB", mebibytes(all.len()), None);
    known
        .take(serde_json::from_slice(&all)?)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;

    let hosts = network.hosts.clone();
    let calls = hosts[..REPORTS as usize]
        .iter()
        .map(|id| (*id, network.usage(*id)));
    let calls = calls.collect();
    network.block(calls)?;
    found.time(
        "routes after a block of 200 usage reports, followed",
        ("ms", 1.0),
        Some(10.0),
        || book.follow(&network.state),
    );
    ensure!(
        book.told(Some(network.state.height() - 1))
            .routes
            .is_empty(),
        "usage changes no routes"
    );
    let (host, call) = network
        .hosts
        .iter()
        .find_map(|id| Some((*id, network.unready(*id)?)))
        .context("a host with a replica")?;
    network.block(vec![(host, call)])?;
    found.time(
        "routes after one replica is not ready any more, followed",
        ("ms", 1.0),
        Some(10.0),
        || book.follow(&network.state),
    );
    let after = known.known().map(|(_, height)| height);
    let told = found.time(
        "its change, told to a gateway",
        ("ms", 1.0),
        Some(1.0),
        || bytes(&book.told(after)),
    )?;
    let most = Some(Bound::AtMost(4_096.0));
    found.add("its change", "bytes", told.len() as f64, most);
    let taken = found.time(
        "its change, read by a gateway",
        ("ms", 1.0),
        Some(1.0),
        || Ok::<_, serde_json::Error>(known.take(serde_json::from_slice(&told)?)),
    )?;
    let changed = taken.map_err(|e| anyhow::anyhow!("{e:?}"))?;
    ensure!(changed.len() == 1, "one service changes: {changed:?}");
    let mut fresh = KnownRoutes::default();
    let routes = route_book::routes(&network.state);
    let whole = api::Routes {
        routes,
        ..api::Routes::default()
    };
    ensure!(fresh.take(whole).is_ok(), "all is told");
    ensure!(
        fresh.services() == known.services(),
        "changes lead to the whole"
    );
    let call = network.statuses(host);
    network.block(vec![(host, call)])
}

fn keeping(network: &Network, found: &mut Rounds) -> Result<()> {
    let state = &network.state;
    found.time("a copy of the state", ("µs", 1.0), Some(100.0), || {
        state.clone()
    });
    let bytes = found.time("state written to memory, whole", ("ms", 1.0), None, || {
        state.save()
    });
    found.add(
        "state on disk",
        "MiB",
        bytes.len() as f64 / f64::from(1 << 20),
        None,
    );
    let before = memory_bytes();
    let loaded = found.time(
        "state read and every invariant checked, as at a start",
        ("ms", 1.0),
        Some(5_000.0),
        || State::load(&bytes),
    )?;
    let grown = memory_bytes().saturating_sub(before);
    if grown > 0 {
        found.add(
            "memory of a state that was read",
            "MiB",
            grown as f64 / f64::from(1 << 20),
            None,
        );
    }
    ensure!(
        loaded.records() == state.records(),
        "the state changed on disk"
    );
    Ok(())
}

/// Silence: `lost` hosts are not heard any more, and their replicas get other places.
fn silence(network: &Network, found: &mut Rounds, lost: u64) -> Result<()> {
    let mut params = network.state.params().clone();
    params.host_timeout_ms = Params::dev().host_timeout_ms;
    let mut other = Network {
        state: network.state.clone(),
        keys: network.keys.clone(),
        hosts: network.hosts.clone(),
        nonces: network.nonces.clone(),
    };
    other.state.globals.params = params;
    let (_, timeout_ms) = other.state.liveness();
    found.add(
        "silence until a host counts as lost",
        "ms",
        timeout_ms as f64,
        None,
    );
    let used = |id: &&HostId| other.state.allocations_on(id).next().is_some();
    let gone: BTreeSet<HostId> = other
        .hosts
        .iter()
        .filter(used)
        .take(lost as usize)
        .copied()
        .collect();
    let heard: Vec<HostId> = other
        .hosts
        .iter()
        .filter(|id| !gone.contains(id))
        .copied()
        .collect();
    let beat = || Call::Host(host::Call::Heartbeat);
    // Blocks come meanwhile, or nobody could have been heard.
    let mut late = None;
    for _ in 0..timeout_ms / 2_000 + 2 {
        let mut first = true;
        for ids in heard.chunks(2_000) {
            let sign = |id: &HostId| other.sign(*id, beat());
            let beats = ids.iter().map(sign).collect::<Result<Vec<_>>>()?;
            let env = BlockEnv {
                height: other.state.height() + 1,
                time_ms: other.state.time_ms() + if first { 2_000 } else { 1 },
                ..BlockEnv::default()
            };
            first = false;
            let started = thread_cpu();
            let executed = other.state.execute(env, &beats, &|_| true)?;
            let took = milliseconds(thread_cpu().saturating_sub(started));
            let gone = executed
                .events
                .iter()
                .any(|e| matches!(e, ledger::Event::Host(host::Event::HostOffline { .. })));
            if gone && late.is_none() {
                let placed = executed.events.iter().filter(|e| {
                    matches!(
                        e,
                        ledger::Event::Deployment(deployment::Event::AllocationPlaced { .. })
                    )
                });
                late = Some((took, placed.count()));
            }
            other.follow(executed)?;
        }
    }
    let (took, placed) = late.context("a host that is silent is lost")?;
    ensure!(placed > 0, "the replicas of a lost host get other places");
    let name =
        format!("block in which {lost} silent hosts are lost and their replicas placed anew");
    found.add(&name, "ms", took, None);
    Ok(())
}

/// Ten thousand simulated hosts with a hundred thousand allocations on the real ledger.
pub fn scale(rounds: usize) -> Result<Found> {
    let mut found = Rounds::of("scale");
    let before = memory_bytes();
    let started = Instant::now();
    let mut network = settled(&mut found)?;
    found.add(
        "all of it made, block by block",
        "s",
        started.elapsed().as_secs_f64(),
        None,
    );
    found.add(
        "memory of the state and its keys",
        "MiB",
        memory_bytes().saturating_sub(before) as f64 / f64::from(1 << 20),
        Some(Bound::AtMost(1_024.0)),
    );
    let running = network.state.allocations.len();
    ensure!(
        running as u64 == PROJECTS * u64::from(REPLICAS),
        "{running} allocations are there"
    );
    for round in 0..rounds {
        blocks(&mut network, &mut found, round)?;
        placements(&mut network, &mut found, round)?;
        lists(&network.state, &mut found)?;
        routes(&mut network, &mut found)?;
        keeping(&network, &mut found)?;
    }
    silence(&network, &mut found, 1)?;
    Ok(Found {
        figures: found.figures(),
        left_out: Vec::new(),
    })
}
