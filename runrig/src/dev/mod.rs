//! `dev`: a whole network on one machine, under one supervisor.
//!
//! ```text
//! dev ─┬─ validator 1…4      every role is a process of its own, with its own log;
//!      ├─ registry           one that dies is started again;
//!      ├─ gateway, portal    all end with the supervisor, hosts first
//!      └─ host 1…N
//! ```
//!
//! Everything lies under one data folder; a restart goes on from there. The hosts share this
//! machine: each offers all cores and its part of memory and disk. Many hosts are *light*: they
//! live in one process and share a store of images; their containers are as real.

mod child;
mod layout;
mod showcase;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use sdk::Client;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use types::{AccountId, Amount, SecretKey};

use crate::context::{self, Context, Home, Session};
use crate::failure::{self, Failure, Result};
use crate::network::{self, Founding};
use crate::{host_join, host_together, output};
use child::{Order, Role, State, supervise};
use layout::Layout;

/// From so many hosts on they are light.
const LIGHT_FROM: usize = 8;
/// Of the disk, each host offers so much at least where that is free: what containers reserve
/// there they seldom fill. Together that may be more than there is.
const DISK_THIN: u64 = 16 << 30;
/// Left to the system and the network's own processes.
const MEMORY_KEPT: u64 = 1 << 30;
/// Blocks must come within this time, and hosts after them.
const START_LIMIT: Duration = Duration::from_secs(120);
const HOSTS_LIMIT: Duration = Duration::from_secs(60);
/// The folder of the gateway's own authority.
const AUTHORITY: &str = "authority";
const POLL: Duration = Duration::from_millis(100);
const UID_FIRST: u32 = 100_000;
const UIDS: u32 = 65_536;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig dev\n  runrig dev --demo\n  runrig dev --hosts 50\n  runrig dev --hosts 5 --listen 127.0.0.1:9700 --data ./net --json"
)]
pub struct Dev {
    /// So many hosts; they share this machine
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=64))]
    hosts: u16,
    /// All hosts in one process that share a store of images, or (=false) one process each; light
    /// from 8 hosts on
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    light: Option<bool>,
    /// Everything lies here; $XDG_DATA_HOME/runrig/dev if not said
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the gateway: API, portal of services, published ports. 127.0.0.1:8700, or
    /// that of the last run
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Deploy an example made from this program, so that there is something to see
    #[arg(long)]
    demo: bool,
    /// Seconds between two looks of witnesses at hosts, of a new network, 10 at least; 0: they do
    /// not look
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = crate::network::witness_every)]
    witness_every: u64,
    /// libcontainer, runc or crun
    #[arg(long, default_value = "libcontainer", value_parser = crate::doctor::runtime)]
    engine: engine::Runtime,
}

/// The ready line with `--json`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    url: String,
    /// Of services with TLS, and the file that their clients trust.
    secure_url: Option<String>,
    /// The web pages.
    portal: Option<String>,
    authority_file: PathBuf,
    validators: Vec<String>,
    hosts: Vec<ReadyHost>,
    account: AccountId,
    context: String,
    network_file: PathBuf,
    data: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    demo: Option<String>,
}

#[derive(Debug, Serialize)]
struct ReadyHost {
    name: String,
    host: types::HostId,
    url: String,
}

/// Held while this `dev` runs; the system lets go of it with the process.
fn lock(data: &Path) -> Result<Flock<std::fs::File>> {
    let path = data.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(anyhow::Error::from)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        Failure::new(
            failure::CONFLICT,
            format!("another `runrig dev` runs on {}", data.display()),
            "two would write the same files",
            "Use that one, end it, or choose another --data.",
        )
    })
}

/// What each host offers.
struct Share {
    cores: f64,
    memory: u64,
    disk: u64,
}

fn share(data: &Path, hosts: u64) -> Result<Share> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/meminfo").map_err(anyhow::Error::from)?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib: u64 = line
        .and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or(1 << 20);
    let total = kib * 1024;
    let disk = nix::sys::statvfs::statvfs(data)
        .map_err(|e| Failure::new(failure::FAILED, "measure the disk", e.to_string(), ""))?;
    let free = disk.blocks_available() * disk.fragment_size() / 10 * 8;
    Ok(Share {
        cores: cores as f64,
        memory: total.saturating_sub(MEMORY_KEPT).max(total / 2) / hosts.max(1),
        disk: (free / hosts.max(1)).max(DISK_THIN.min(free)),
    })
}

struct Plan {
    data: PathBuf,
    layout: Layout,
    network_file: PathBuf,
    network_key: String,
    /// In groups, in the order they are ended in.
    roles: Vec<Vec<Role>>,
    hosts: usize,
}

/// Whether the hosts live in one process. What a folder was begun with stays.
fn light(asked: Option<bool>, hosts: usize, before: Option<&Layout>) -> Result<bool> {
    let known = before.map(|b| b.light.unwrap_or(false));
    match (asked, known) {
        (Some(asked), Some(known)) if asked != known => Err(Failure::usage(
            format!("--light={asked}"),
            "the hosts of this data folder were begun otherwise, and their files belong to other uids",
            "Leave --light out, or choose another --data.",
        )),
        (_, Some(known)) => Ok(known),
        (asked, None) => Ok(asked.unwrap_or(hosts >= LIGHT_FROM)),
    }
}

fn prepare(args: &Dev, hosts: usize, data: &Path) -> Result<Plan> {
    let layout_path = data.join("layout.json");
    let before = Layout::read(&layout_path);
    let mut layout = Layout::choose(args.listen, hosts, before.as_ref(), layout::LINGER)?;
    let light = light(args.light, hosts, before.as_ref())?;
    if hosts > 0 {
        layout.light = Some(light);
    }
    layout.write(&layout_path)?;
    let folder = data.join("network");
    let network_file = folder.join("network.json");
    let file = if network_file.exists() {
        // Its genesis stays; where its validators listen may have changed.
        let mut file = network::read_file(&network_file)?;
        for (validator, (p2p, api)) in file
            .validators
            .iter_mut()
            .zip(layout.p2p.iter().zip(&layout.api))
        {
            validator.p2p = p2p.to_string();
            validator.api = format!("http://{api}");
        }
        file.gateway = Some(layout.url());
        network::write_file(&network_file, &file)?;
        file
    } else {
        let founded = network::found(Founding {
            name: "dev".into(),
            p2p: layout.p2p.clone(),
            api: layout.api.clone(),
            gateway: Some(layout.url()),
            gateways: 1,
            params: ledger::Params {
                host_bond: Amount::credits(network::HOST_BOND),
                witness_ms: args.witness_every * 1_000,
                ..ledger::Params::dev()
            },
            // Signs of life of many hosts on one busy machine would be late on the ledger.
            watched: light,
        })?;
        founded.write(&folder)?;
        founded.file
    };
    let logs = data.join("logs");
    context::create_private_dir(&logs).map_err(anyhow::Error::from)?;
    let role = |name: String, args: Vec<String>, attempts_max| Role {
        log: logs.join(format!("{name}.log")),
        name,
        args,
        attempts_max,
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<_>>();
    let validators = (1..=file.validators.len()).map(|i| {
        let mut args = words("validator run --data");
        args.push(text(&folder.join(format!("validator-{i}"))));
        args.extend(["--network".into(), text(&network_file)]);
        role(format!("validator-{i}"), args, None)
    });
    let validators = validators.collect();
    let registry = {
        let mut args = words(&format!("registry run --listen {} --data", layout.registry));
        args.push(text(&data.join("registry")));
        args.extend(["--network".into(), text(&network_file)]);
        role("registry".into(), args, None)
    };
    let gateway = {
        let (listen, ip) = (layout.gateway, layout.gateway.ip());
        let mut args = words(&format!(
            "gateway run --listen {listen} --publish {ip} --domain localhost --registry http://{} --network",
            layout.registry
        ));
        args.push(text(&network_file));
        args.extend(["--data".into(), text(&data.join("gateway"))]);
        let key = folder.join(network::gateway_key(1));
        // A network of an earlier version has none.
        if key.exists() {
            args.extend(["--key".into(), text(&key)]);
        }
        if let Some(secure) = layout.secure {
            args.extend(["--tls-listen".into(), secure.to_string()]);
            args.extend(["--tls-authority".into(), text(&data.join(AUTHORITY))]);
        }
        role("gateway".into(), args, None)
    };
    let portal = layout.portal.map(|listen| {
        let mut args = words(&format!(
            "portal run --network {} --listen {listen} --data",
            layout.url()
        ));
        args.push(text(&data.join("portal")));
        role("portal".into(), args, None)
    });
    let share = share(data, hosts as u64)?;
    let mut host_roles = Vec::new();
    let mut joins = Vec::new();
    let mut tags = BTreeSet::new();
    for (index, listen) in layout.hosts.iter().take(hosts).enumerate() {
        let number = index + 1;
        let owner = context::key_file(&data.join(format!("keys/owner-{number}")))?;
        let folder = data.join(format!("host-{number}"));
        distinct_key(&folder, &mut tags)?;
        // Layers that are shared have one owner.
        let uids = if light { 0 } else { index as u32 };
        let mut join = words(&format!(
            "--network {} --name dev-{number} --listen {listen} --cpus {} --memory {} --disk {} --owner {} --engine {} --uid-base {} --stop-on-exit --private-receivers --data",
            layout.url(),
            share.cores,
            share.memory,
            share.disk,
            AccountId::of(&owner.public()),
            args.engine.name(),
            UID_FIRST + uids * UIDS,
        ));
        join.push(text(&folder));
        joins.push(join);
    }
    if light {
        let file = data.join("hosts.json");
        host_together::write(&file, &joins)?;
        let args = ["host".into(), "together".into(), text(&file)];
        host_roles.push(role("hosts".into(), args.into(), Some(4)));
    } else {
        for (index, join) in joins.into_iter().enumerate() {
            let args = [words("host join"), join].concat();
            host_roles.push(role(format!("host-{}", index + 1), args, Some(4)));
        }
    }
    Ok(Plan {
        data: data.to_path_buf(),
        network_key: file.network_key,
        network_file,
        roles: vec![
            host_roles,
            [gateway, registry].into_iter().chain(portal).collect(),
            validators,
        ],
        hosts,
        layout,
    })
}

/// Makes the host's key, such that bridges and cgroups of hosts on this machine, which are named
/// by its first letters, are told apart: of fifty keys two are alike in every fiftieth case.
fn distinct_key(folder: &Path, tags: &mut BTreeSet<String>) -> Result {
    let path = folder.join(host_join::KEY);
    loop {
        let known = path.exists();
        let key = context::key_file(&path)?;
        if tags.insert(host::tag(&key)) || known {
            return Ok(());
        }
        std::fs::remove_file(&path).map_err(anyhow::Error::from)?;
    }
}

/// The processes that run, group by group.
struct Running {
    groups: Vec<(watch::Sender<Order>, JoinSet<()>)>,
    /// Of the first group: the hosts.
    hosts: Vec<(Role, watch::Receiver<State>)>,
    others: Vec<(Role, watch::Receiver<State>)>,
}

impl Running {
    fn start(plan: &Plan) -> Self {
        let mut running = Self {
            groups: Vec::new(),
            hosts: Vec::new(),
            others: Vec::new(),
        };
        for (index, roles) in plan.roles.iter().enumerate() {
            // Hosts have nobody to join before there is a ledger.
            let first = if index == 0 { Order::Wait } else { Order::Run };
            let (order, orders) = watch::channel(first);
            let mut tasks = JoinSet::new();
            for role in roles {
                let (state, states) = watch::channel(State::Starting);
                let list = if index == 0 {
                    &mut running.hosts
                } else {
                    &mut running.others
                };
                list.push((role.clone(), states));
                tasks.spawn(supervise(role.clone(), orders.clone(), state));
            }
            running.groups.push((order, tasks));
        }
        running
    }

    fn let_hosts_join(&self) {
        if let Some((order, _)) = self.groups.first() {
            order.send_if_modified(|order| {
                let waits = *order == Order::Wait;
                if waits {
                    *order = Order::Run;
                }
                waits
            });
        }
    }

    /// Hosts first, so that they can still report their last readings.
    async fn end(&mut self) {
        for (order, tasks) in &mut self.groups {
            order.send_replace(Order::End);
            while tasks.join_next().await.is_some() {}
        }
    }

    async fn kill(&mut self) {
        for (order, _) in &self.groups {
            order.send_replace(Order::Kill);
        }
        for (_, tasks) in &mut self.groups {
            while tasks.join_next().await.is_some() {}
        }
    }
}

fn late(what: &str, running: &Running) -> Failure {
    let silent = running
        .others
        .iter()
        .find(|(_, state)| !matches!(*state.borrow(), State::Running(_)));
    let (why, next) = match silent {
        Some((role, _)) => (
            format!(
                "{} does not run: {}",
                role.name,
                child::last_words(&role.log)
            ),
            format!("See {}.", role.log.display()),
        ),
        None => (
            "the processes run, but do not agree".into(),
            "See the logs folder.".into(),
        ),
    };
    Failure::new(failure::TIMED_OUT, what, why, next)
}

/// Returns when the chain makes blocks, the gateway answers, the account has credits and the
/// hosts that can run are registered.
async fn until_ready(plan: &Plan, running: &Running, demo: bool, json: bool) -> Result {
    let started = Instant::now();
    let client = Client::new([plan.layout.url()])?;
    loop {
        match client.status().await {
            Ok(status) if status.height > 0 => break,
            _ if started.elapsed() > START_LIMIT => {
                return Err(late("the network does not make blocks", running));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
    running.let_hosts_join();
    let key = context::key_file(&plan.data.join("keys/dev"))?;
    let account = fund(&client, &key).await?;
    let hosts = await_hosts(plan, running, &client).await?;
    let home = Home::open()?;
    let context = Context {
        urls: vec![plan.layout.url()],
        account: Some(account),
        network_key: Some(plan.network_key.clone()),
        key: None,
        portal: plan.layout.portal_url(),
    };
    home.adopt("dev", context, Some(&key))?;
    let demo = if !demo {
        None
    } else if hosts.is_empty() {
        output::say("no demo: no host runs here");
        None
    } else {
        let session = Session::at("dev", plan.layout.url(), &plan.data.join("keys/dev"))?;
        match showcase::deploy(&session, &plan.data).await {
            Ok(url) => Some(url),
            // The network is there all the same.
            Err(failure) => {
                output::say(format!("the demo does not run: {failure}"));
                None
            }
        }
    };
    let ready = Ready {
        ready: true,
        url: plan.layout.url(),
        secure_url: plan.layout.secure_url(),
        portal: plan.layout.portal_url(),
        authority_file: gateway::authority_file(&plan.data.join(AUTHORITY)),
        validators: plan.layout.api_urls(),
        hosts,
        account,
        context: "dev".into(),
        network_file: plan.network_file.clone(),
        data: plan.data.clone(),
        demo,
    };
    if json {
        output::json_line(&ready);
    } else {
        say_ready(&ready, &client, started).await;
    }
    Ok(())
}

async fn say_ready(ready: &Ready, client: &Client, started: Instant) {
    let balance = client.account(ready.account).await.map(|a| a.balance);
    output::data(format!(
        "ready in {:.1} s: {} ({} validators, {} hosts)",
        started.elapsed().as_secs_f32(),
        ready.url,
        ready.validators.len(),
        ready.hosts.len()
    ));
    if let Some(secure_url) = &ready.secure_url {
        output::say(format!(
            "with TLS too: {secure_url}; clients trust {}",
            ready.authority_file.display()
        ));
    }
    if let Some(portal) = &ready.portal {
        output::say(format!("web pages: {portal}"));
    }
    output::say(format!(
        "account {} with {} credits; context \"{}\" is current\ndata and logs in {}",
        ready.account,
        balance.unwrap_or_default(),
        ready.context,
        ready.data.display()
    ));
    match &ready.demo {
        Some(url) => output::say(format!("the demo answers at {url}")),
        None => output::say("next: `runrig up` beside a compose file, or `runrig dev --demo`"),
    }
    output::say("Ctrl-C ends everything; the data is kept.");
}

/// Starter credits, if the account has none yet.
async fn fund(client: &Client, key: &SecretKey) -> Result<AccountId> {
    let account = AccountId::of(&key.public());
    if client.account(account).await?.balance == Amount::ZERO {
        let call = ledger::Call::Account(ledger::account::Call::Faucet { to: account });
        match client.submit_and_wait(key, call).await {
            Ok(_) => {}
            // Taken before and spent: no reason not to start.
            Err(error) if error.is_rejection() => {
                output::say(format!("no starter credits: {error}"))
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(account)
}

async fn await_hosts(plan: &Plan, running: &Running, client: &Client) -> Result<Vec<ReadyHost>> {
    let started = Instant::now();
    loop {
        let all = client.hosts().await?;
        let online: Vec<ReadyHost> = (1..=plan.hosts)
            .filter_map(|number| {
                let name = format!("dev-{number}");
                all.iter().find(|h| h.online && h.name == name)
            })
            .map(|h| ReadyHost {
                name: h.name.clone(),
                host: h.host,
                url: h.address.clone(),
            })
            .collect();
        let roles = running.hosts.iter();
        let given_up = roles
            .filter(|(_, state)| matches!(*state.borrow(), State::GivenUp(_)))
            .count()
            // One process may stand for all of them.
            * (plan.hosts / running.hosts.len().max(1));
        if online.len() + given_up >= plan.hosts {
            if given_up > 0 {
                output::say(
                    "this machine cannot run all of its hosts (see above); the ledger and the gateway run. `runrig doctor` says more.",
                );
            }
            return Ok(online);
        }
        if started.elapsed() > HOSTS_LIMIT {
            let missing = plan.hosts - online.len();
            output::say(format!(
                "{missing} of {} hosts have not registered yet; see {}",
                plan.hosts,
                plan.data.join("logs").display()
            ));
            return Ok(online);
        }
        tokio::time::sleep(POLL).await;
    }
}

pub fn data_dir(given: Option<&Path>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => context::base_dir("XDG_DATA_HOME", ".local/share")?.join("runrig/dev"),
    };
    let made = context::create_private_dir(&path).and_then(|()| path.canonicalize());
    made.map_err(|e| {
        Failure::usage(
            format!("data folder {}", path.display()),
            e.to_string(),
            "Choose another with --data.",
        )
    })
}

pub async fn run(args: &Dev, json: bool) -> Result {
    let data = data_dir(args.data.as_deref())?;
    let _lock = lock(&data)?;
    let mut hosts = usize::from(args.hosts);
    if hosts > 0
        && let Err(failure) = crate::doctor::can_host(args.engine).await
    {
        output::say(format!("no hosts: {failure}"));
        output::say("The ledger and the gateway run all the same; others' machines may join.");
        hosts = 0;
    }
    let plan = prepare(args, hosts, &data)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(anyhow::Error::from)?;
    output::say(format!(
        "starting {} validators, a registry, a gateway, a portal and {} hosts",
        layout::VALIDATORS,
        plan.hosts
    ));
    let mut running = Running::start(&plan);
    let result = tokio::select! {
        ready = until_ready(&plan, &running, args.demo, json) => match ready {
            Ok(()) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        },
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    output::say("ending: hosts stop their containers first; Ctrl-C again kills");
    let killed = tokio::select! {
        () = running.end() => false,
        _ = tokio::signal::ctrl_c() => true,
    };
    if killed {
        running.kill().await;
        return Err(Failure::interrupted());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Dev {
        Dev {
            witness_every: 30,
            hosts: 3,
            data: None,
            listen: "127.0.0.1:0".parse().ok(),
            demo: false,
            light: None,
            engine: engine::Runtime::Libcontainer,
        }
    }

    #[test]
    fn two_on_the_same_data_are_kept_apart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let held = lock(folder.path()).expect("the first");
        assert_eq!(lock(folder.path()).map(|_| ()).map_err(|f| f.exit), Err(5));
        drop(held);
        assert!(lock(folder.path()).is_ok());
    }

    #[test]
    fn a_restart_goes_on_with_the_same_network() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = prepare(&args(), 2, folder.path()).expect("prepared");
        assert_eq!(
            first.roles.iter().map(Vec::len).collect::<Vec<_>>(),
            [2, 3, 4]
        );
        let again = prepare(&args(), 1, folder.path()).expect("prepared");
        assert_eq!(first.network_key, again.network_key);
        let one = network::read_file(&first.network_file).expect("read");
        assert_eq!(one.gateway, Some(again.layout.url()));
        let uid = |role: &Role| role.args.iter().position(|a| a == "--uid-base");
        assert!(uid(&first.roles[0][1]).is_some());
        assert!(first.roles[0][1].args.contains(&"165536".to_string()));
    }

    #[test]
    fn many_hosts_are_one_process_and_stay_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let many = prepare(&args(), LIGHT_FROM, folder.path()).expect("prepared");
        assert_eq!(many.roles.iter().map(Vec::len).next(), Some(1));
        let few = prepare(&args(), 2, folder.path()).expect("prepared");
        assert_eq!(few.roles[0][0].name, "hosts");
        let apart = Dev {
            light: Some(false),
            ..args()
        };
        let refused = prepare(&apart, 2, folder.path()).err().expect("refused");
        assert_eq!(refused.exit, 2);
    }
}
