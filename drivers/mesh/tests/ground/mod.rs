//! What the tests stand on: machines that are network namespaces with ways between them, and
//! on each machine an agent's networks and its mesh. Runs as root.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh::{Admit, Config, Local, Mesh, NetworkId, Place, Relay, Table};
use net::{AttachRequest, Attachment, Directory, Network, NetworkConfig, NetworkKey};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::Runtime;
use types::{AccountId, HostId, SecretKey};

/// Nine tenths of a machine may be taken by others, for seconds at once.
const PATIENCE: Duration = Duration::from_secs(240);

/// Waits for `good`, for as long as a busy machine may take.
pub fn until(what: &str, mut good: impl FnMut() -> bool) {
    let started = Instant::now();
    while !good() {
        assert!(started.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn ip(line: &str) {
    let done = Command::new("ip").args(line.split(' ')).output();
    let done = done.expect("ip (iproute2) runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {line}: {said}");
}

/// A network namespace with a name, until dropped.
pub struct Space {
    pub name: String,
}

impl Space {
    pub fn new(name: &str) -> Self {
        let name = format!("rt{}-{name}", std::process::id());
        ip(&format!("netns add {name}"));
        let space = Self { name };
        space.ip("link set lo up");
        space
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// In here.
    pub fn ip(&self, line: &str) {
        ip(&format!("-n {} {line}", self.name));
    }

    pub fn run(&self, program: &str, args: &[&str]) {
        let done = Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(args)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {args:?}: {said}");
    }

    /// A wire to `other`, with an address at either end.
    pub fn wire(&self, name: &str, own: &str, other: &Space, its: &str) {
        self.ip(&format!(
            "link add {name} type veth peer name {name} netns {}",
            other.name
        ));
        for (space, address) in [(self, own), (other, its)] {
            space.ip(&format!("addr add {address} dev {name}"));
            space.ip(&format!("link set {name} up"));
        }
    }

    /// Passes on what is not for itself.
    pub fn route(&self) {
        inside(&self.path(), || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("written");
        });
    }

    /// What leaves by `interface` carries its address, and only answers come back.
    pub fn hide_behind(&self, interface: &str) {
        self.route();
        let rules = format!(
            "table ip hide {{\n\
             chain out {{\ntype nat hook postrouting priority 100\n\
             oifname \"{interface}\" masquerade\n}}\n\
             chain in {{\ntype filter hook forward priority 0\n\
             iifname \"{interface}\" ct state established,related accept\n\
             iifname \"{interface}\" drop\n}}\n\
             chain self {{\ntype filter hook input priority 0\n\
             iifname \"{interface}\" ct state established,related accept\n\
             iifname \"{interface}\" drop\n}}\n}}"
        );
        self.run("nft", &[&rules]);
    }

    pub fn runtime(&self) -> Runtime {
        let path = self.path();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || enter(&path))
            .build()
            .expect("a runtime")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

fn enter(path: &Path) {
    let file = std::fs::File::open(path).expect("the namespace is there");
    setns(file, CloneFlags::CLONE_NEWNET).expect("entered");
}

/// Runs `work` in a thread of its own in the namespace at `path`.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(path);
            work()
        });
        inside.join().expect("no panic inside")
    })
}

/// A replica as the plan names it.
#[derive(Clone)]
pub struct Replica {
    pub number: u64,
    pub host: HostId,
    pub network: NetworkKey,
    pub name: &'static str,
    pub ready: bool,
}

/// An agent on a machine of its own: networks and mesh, and what the plan tells them.
pub struct Agent {
    pub id: HostId,
    pub key: SecretKey,
    pub network: Option<Network>,
    pub mesh: Option<Mesh>,
    tunnel: String,
    state: PathBuf,
    tag: String,
    relays: Vec<String>,
    runtime: Option<Runtime>,
    space: PathBuf,
}

pub fn key(deployment: &str, network: &str) -> NetworkKey {
    NetworkKey {
        deployment: deployment.into(),
        network: network.into(),
    }
}

impl Agent {
    pub fn new(space: &Space, folder: &Path, tag: &str, relays: &[String]) -> Self {
        let key = SecretKey::random(&mut rand::rng());
        let mut agent = Self {
            id: AccountId::of(&key.public()),
            key,
            network: None,
            mesh: None,
            tunnel: format!("r{tag}t"),
            state: folder.join(tag),
            tag: tag.into(),
            relays: relays.to_vec(),
            runtime: None,
            space: space.path(),
        };
        agent.begin(space);
        agent
    }

    /// Again, after it has died.
    pub fn begin(&mut self, space: &Space) {
        self.runtime = Some(space.runtime());
        self.start();
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("runs")
    }

    fn start(&mut self) {
        let config = NetworkConfig {
            state: self.state.clone(),
            tag: self.tag.clone(),
            upstreams: vec![],
        };
        let mesh = Config {
            key: self.key.clone(),
            listen: "0.0.0.0:7070".parse().expect("an address"),
            relays: self.relays.clone(),
            tunnel: self.tunnel.clone(),
        };
        let (network, mesh) = self.within(async move {
            let network = Network::open(config).await.expect("networks");
            network.probe().await.expect("this machine can");
            (network, Mesh::open(mesh).await.expect("a mesh"))
        });
        self.network = Some(network);
        self.mesh = Some(mesh);
    }

    /// Runs in this machine's namespace.
    pub fn within<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        let runtime = self.runtime();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&self.space);
                runtime.block_on(work)
            });
            inside.join().expect("no panic inside")
        })
    }

    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("open")
    }

    pub fn mesh(&self) -> &Mesh {
        self.mesh.as_ref().expect("open")
    }

    pub fn attach(&self, number: u64, networks: &[NetworkKey]) -> Attachment {
        let request = AttachRequest {
            container: format!("a{number}-1"),
            networks: networks.iter().map(|n| (n.clone(), false)).collect(),
            bandwidth_kbps: 8_000_000,
            former: vec![],
        };
        let attached = self.network().attach(&request);
        self.within(attached).expect("attached")
    }

    /// What an agent does with a plan.
    pub fn follow(&self, replicas: &[Replica], places: &BTreeMap<HostId, Place>) {
        let mut directory = Directory::default();
        let mut remotes = Vec::new();
        let known = self.network().places();
        for r in replicas {
            if r.host != self.id {
                remotes.push(net::Remote {
                    network: r.network.clone(),
                    replica: r.number,
                    names: vec![r.name.into()],
                    ready: r.ready,
                });
                continue;
            }
            let places = known.borrow();
            let container = format!("a{}-1", r.number);
            let mut all = places.containers.iter();
            let found = all.find(|(network, id, _)| *network == r.network && *id == container);
            if let Some((_, _, address)) = found {
                directory.entries.push(net::DirectoryEntry {
                    network: r.network.clone(),
                    names: vec![r.name.into()],
                    address: *address,
                    ready: r.ready,
                });
            }
        }
        let network = self.network();
        self.within(async {
            network.set_directory(directory).await.expect("set");
            let set = network.set_remotes(&self.tunnel, remotes).await;
            set.expect("set");
        });
        let places_now = known.borrow().clone();
        let id = |n: &NetworkKey| NetworkId::of(&n.deployment, &n.network);
        let number = |container: &str| -> u64 {
            let number = container[1..].split('-').next().expect("a number");
            number.parse().expect("a number")
        };
        let containers = places_now.containers.iter();
        let locals = containers.map(|(network, container, address)| Local {
            network: id(network),
            replica: number(container),
            address: *address,
        });
        let host = |replica: u64| {
            let mut all = replicas.iter();
            all.find(|r| r.number == replica).map(|r| r.host)
        };
        let aliases = places_now.aliases.iter();
        let far = aliases.filter_map(|alias| {
            Some(mesh::Remote {
                network: id(&alias.network),
                replica: alias.replica,
                host: host(alias.replica)?,
                alias: alias.address,
            })
        });
        self.mesh().set_table(Table::new(locals, far));
        let peers = replicas.iter().filter(|r| r.host != self.id);
        let peers = peers.map(|r| (r.host, places.get(&r.host).cloned()));
        self.within(async { self.mesh().set_peers(peers.collect()) });
    }

    pub fn place(&self, address: Option<&str>, relay: Option<String>) -> Place {
        let address = address.map(|ip| format!("{ip}:7070").parse().expect("an address"));
        Place {
            key: self.key.public(),
            addresses: address.into_iter().collect::<Vec<SocketAddr>>(),
            relay,
        }
    }

    /// As `kill -9` would: nothing is said to anybody, networks stay.
    pub fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.mesh = None;
        self.network = None;
    }

    pub fn close(mut self) {
        let (mesh, network) = (self.mesh.take(), self.network.take());
        self.within(async move {
            if let Some(mesh) = mesh {
                mesh.close().await;
            }
            if let Some(network) = network {
                network.close(true).await.expect("closed");
            }
        });
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

/// A relay on the machine `space`.
pub struct RelayHere {
    runtime: Runtime,
    relay: Arc<Relay>,
    admitted: Arc<Mutex<BTreeSet<HostId>>>,
}

impl RelayHere {
    pub fn new(space: &Space, listen: &str) -> Self {
        let admitted: Arc<Mutex<BTreeSet<HostId>>> = Arc::default();
        let known = admitted.clone();
        let admit: Box<Admit> = Box::new(move |host| {
            let admitted = known.lock().expect("not poisoned").contains(&host);
            Box::pin(std::future::ready(admitted))
        });
        let runtime = space.runtime();
        let rate = NonZeroU32::new(100 << 20).expect("not zero");
        let listen = listen.parse().expect("an address");
        let relay = inside(&space.path(), || {
            runtime.block_on(Relay::open(listen, rate, admit))
        });
        let relay = Arc::new(relay.expect("a relay"));
        let serving = relay.clone();
        runtime.spawn(async move { serving.serve().await });
        Self {
            runtime,
            relay,
            admitted,
        }
    }

    pub fn admit(&self, hosts: &[HostId]) {
        let mut admitted = self.admitted.lock().expect("not poisoned");
        admitted.extend(hosts);
    }

    pub fn close(self) {
        self.runtime.block_on(self.relay.close());
        self.runtime.shutdown_timeout(Duration::from_secs(2));
    }
}

/// Interfaces of agents and mounts below `folder` that are still there.
pub fn left_behind(folder: &tempfile::TempDir, spaces: &[&Space]) -> Vec<String> {
    let mut left = Vec::new();
    for space in spaces {
        let shown = Command::new("ip")
            .args(["-n", &space.name, "-br", "link"])
            .output()
            .expect("ip runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let ours = shown.lines().filter(|l| l.starts_with("rm"));
        left.extend(ours.map(String::from));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read");
    let folder = folder.path().display().to_string();
    let ours = mounts.lines().filter(|m| m.contains(&folder));
    left.extend(ours.map(String::from));
    left
}

/// The addresses that a container is told for `name`.
pub fn resolve(from: &Attachment, name: &str) -> Vec<Ipv4Addr> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.push(name.len() as u8);
    question.extend_from_slice(name.as_bytes());
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    inside(&from.netns, || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bound");
        let limit = Some(Duration::from_secs(2));
        socket.set_read_timeout(limit).expect("set");
        socket.send_to(&question, (from.dns, 53)).expect("sent");
        let mut answer = [0; 512];
        let Ok(read) = socket.recv(&mut answer) else {
            return Vec::new();
        };
        let answers = u16::from_be_bytes([answer[6], answer[7]]);
        let places = (0..usize::from(answers)).map(|n| read - 4 - n * 16);
        let address = |at: usize| <[u8; 4]>::try_from(&answer[at..at + 4]).expect("four bytes");
        places.map(|at| Ipv4Addr::from(address(at))).collect()
    })
}
