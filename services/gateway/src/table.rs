//! Where things are: an immutable snapshot of the routes, made for looking up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::uri::Authority;
use types::{AccountId, AllocationId, DeploymentId, Digest, Protocol};

use crate::limits::PUBLISHED_MAX;
use crate::load::{InFlight, Load};
use crate::tally::Tally;

/// One choice in so many does not ask what it costs.
const EXPLORED: usize = 16;

/// Which addresses a route may send this machine to. Routes carry what hosts say of
/// themselves: without a bound a host could aim a gateway at its own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// 10.64.0.0/10, where containers are.
    Containers,
    /// Loopback too.
    #[cfg(test)]
    Loopback,
}

impl Trust {
    fn allows(self, address: Ipv4Addr) -> bool {
        let [a, b, _, _] = address.octets();
        match self {
            Self::Containers => a == 10 && (64..128).contains(&b),
            #[cfg(test)]
            Self::Loopback => address.is_loopback() || Self::Containers.allows(address),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On this machine.
    Direct(Ipv4Addr),
    /// Through the agent at this address (`host:port`).
    Tunnel(Arc<str>),
}

#[derive(Debug)]
pub struct Replica {
    pub allocation: AllocationId,
    pub reach: Reach,
    /// What the HTTP client is told; `None` without HTTP port.
    pub http: Option<Authority>,
    pub load: Arc<Load>,
}

impl Replica {
    pub fn begin(&self) -> InFlight {
        self.load.begin()
    }
}

#[derive(Debug)]
pub struct Service {
    pub deployment: DeploymentId,
    pub name: String,
    pub domain: String,
    pub http_port: Option<u16>,
    pub frozen: bool,
    /// Of an autoscaled one.
    pub scale: Option<api::RouteScale>,
    pub placed: usize,
    /// Ready ones.
    pub replicas: Vec<Replica>,
    /// How the others do: those that leave may still be connected to.
    pub others: Vec<(AllocationId, Arc<Load>)>,
    pub owner: AccountId,
    pub tally: Arc<Tally>,
    next: AtomicUsize,
}

/// Why a service cannot be reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    Frozen,
    Unplaced,
    NoneReady,
}

impl Service {
    /// A ready replica that is not in `tried`: of two in turn the one where a request costs
    /// less (latency times requests under way), now and then the other so that its latency is
    /// known. One that rests only if there is no other.
    pub fn choose(&self, tried: &[AllocationId]) -> Option<&Replica> {
        let untried = |r: &&Replica| !tried.contains(&r.allocation);
        if let [only] = self.replicas.as_slice() {
            return Some(only).filter(untried);
        }
        let now_ms = uptime_ms();
        let awake = |r: &&Replica| !r.load.is_resting(now_ms);
        let count = self.replicas.len();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = |first: usize| {
            let at = move |i| (first + i) % count.max(1);
            (0..count).map(move |i| &self.replicas[at(i)])
        };
        let first = in_turn(turn % count.max(1));
        // Who comes second is by chance: gateways that know the same do not all choose the same.
        let second = in_turn((scattered(turn) % count.max(1) as u64) as usize);
        let one = first.clone().filter(untried).find(awake);
        let Some(one) = one else {
            return first.filter(untried).min_by(|a, b| cheaper(a, b, now_ms));
        };
        if turn % EXPLORED == EXPLORED - 1 {
            return Some(one);
        }
        let other = second
            .filter(untried)
            .filter(awake)
            .find(|r| r.allocation != one.allocation);
        match other {
            Some(other) if cheaper(other, one, now_ms).is_lt() => Some(other),
            _ => Some(one),
        }
    }

    pub fn absent(&self) -> Absent {
        match (self.frozen, self.placed) {
            (true, _) => Absent::Frozen,
            (false, 0) => Absent::Unplaced,
            (false, _) => Absent::NoneReady,
        }
    }
}

fn cheaper(a: &Replica, b: &Replica, now_ms: u64) -> std::cmp::Ordering {
    let (a, b) = (a.load.cost(now_ms), b.load.cost(now_ms));
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}

/// Numbers in order become numbers without (splitmix64), others in each process.
fn scattered(number: usize) -> u64 {
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let seed = *SEED.get_or_init(|| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0)
    });
    let mut z = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A published port leads here.
#[derive(Clone, Debug)]
pub struct Published {
    pub service: Arc<Service>,
    pub target: u16,
    /// Further services that ask for the same port and do not get it.
    pub contenders: usize,
}

#[derive(Debug, Default)]
pub struct Table {
    /// False until a validator has been heard.
    pub known: bool,
    pub height: u64,
    /// In order of deployments.
    pub services: Vec<Arc<Service>>,
    domains: HashMap<String, Arc<Service>>,
    pub published: BTreeMap<(Protocol, u16), Published>,
    agents: HashMap<AllocationId, Arc<str>>,
    /// Of all replicas that have an address.
    loads: HashMap<AllocationId, Arc<Load>>,
    ready: HashSet<AllocationId>,
    tallies: HashMap<(DeploymentId, String), Arc<Tally>>,
    pub refused: usize,
}

impl Table {
    /// The snapshot of `routes`; how busy replicas are is taken over from `before`.
    pub fn new(routes: api::Routes, before: &Self, machine: Digest, trust: Trust) -> Self {
        let mut table = Self {
            known: true,
            height: routes.height,
            ..Self::default()
        };
        let now_ms = uptime_ms();
        let mut in_order = routes.routes;
        in_order.sort_by_key(|route| route.deployment);
        for route in in_order {
            let mut replicas = Vec::with_capacity(route.replicas.len());
            let placed = route.replicas.len();
            // Better somebody who may not answer than nobody.
            let any = route.replicas.iter().any(|u| u.ready);
            let chosen = |u: &api::Upstream| u.ready || (!any && u.unheard);
            let mut others = Vec::new();
            for upstream in route.replicas {
                let load = before
                    .loads
                    .get(&upstream.allocation)
                    .cloned()
                    .unwrap_or_default();
                if !chosen(&upstream) {
                    table.loads.insert(upstream.allocation, load.clone());
                    others.push((upstream.allocation, load));
                    continue;
                }
                let Some(replica) =
                    table.replica(&upstream, route.http_port, load.clone(), machine, trust)
                else {
                    table.refused += 1;
                    continue;
                };
                load.is_ready_at(now_ms);
                table.loads.insert(upstream.allocation, load);
                table.ready.insert(upstream.allocation);
                replicas.push(replica);
            }
            let key = (route.deployment, route.service.clone());
            let tally = before.tallies.get(&key).cloned().unwrap_or_default();
            table.tallies.insert(key, tally.clone());
            let service = Arc::new(Service {
                deployment: route.deployment,
                owner: route.owner,
                tally,
                name: route.service,
                domain: route.domain,
                http_port: route.http_port,
                frozen: route.frozen,
                scale: route.scale,
                placed,
                replicas,
                others,
                next: AtomicUsize::new(0),
            });
            for port in &route.ports {
                let Some(number) = port.published else {
                    continue;
                };
                let key = (port.protocol, number);
                if let Some(taken) = table.published.get_mut(&key) {
                    taken.contenders += 1;
                } else if table.published.len() < PUBLISHED_MAX {
                    let published = Published {
                        service: service.clone(),
                        target: port.target,
                        contenders: 0,
                    };
                    table.published.insert(key, published);
                }
            }
            table.services.push(service.clone());
            // The oldest deployment keeps a name.
            table
                .domains
                .entry(service.domain.to_ascii_lowercase())
                .or_insert(service);
        }
        for tally in table.tallies.values() {
            tally.share_among(table.tallies.len());
        }
        table
    }

    fn replica(
        &mut self,
        upstream: &api::Upstream,
        http_port: Option<u16>,
        load: Arc<Load>,
        machine: Digest,
        trust: Trust,
    ) -> Option<Replica> {
        let (reach, host) = if upstream.machine == machine {
            let address = Ipv4Addr::from(upstream.address);
            if !trust.allows(address) {
                return None;
            }
            (Reach::Direct(address), address.to_string())
        } else {
            let agent: Arc<str> = authority(&upstream.host_address)?.as_str().into();
            self.agents.insert(upstream.allocation, agent.clone());
            let host = format!("{}{TUNNEL_SUFFIX}", upstream.allocation);
            (Reach::Tunnel(agent), host)
        };
        Some(Replica {
            allocation: upstream.allocation,
            reach,
            http: http_port.and_then(|port| format!("{host}:{port}").parse().ok()),
            load,
        })
    }

    /// `name` in lower case, without the gateway's own domain.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.domains.get(name)
    }

    /// It is among the ready ones.
    pub fn has(&self, allocation: AllocationId) -> bool {
        self.ready.contains(&allocation)
    }

    pub fn agent(&self, allocation: AllocationId) -> Option<&Arc<str>> {
        self.agents.get(&allocation)
    }
}

/// Ends the names that stand for a tunnel to an allocation; no address of a host ends so.
pub const TUNNEL_SUFFIX: &str = ".allocation.invalid";

/// `host:port` of an `http://` URL or of a bare address.
pub fn authority(url: &str) -> Option<Authority> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority: Authority = rest.trim_end_matches('/').parse().ok()?;
    let usable = !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && !authority.host().ends_with(TUNNEL_SUFFIX);
    match (usable, authority.port_u16()) {
        (false, _) => None,
        (true, Some(_)) => Some(authority),
        (true, None) => format!("{}:80", authority.host()).parse().ok(),
    }
}

/// Milliseconds since the first call: for marks that live in atomics.
pub fn uptime_ms() -> u64 {
    uptime_ms_at(Instant::now())
}

/// The same at `now`, for who knows it already.
pub fn uptime_ms_at(now: Instant) -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    now.saturating_duration_since(start).as_millis() as u64
}

/// Names this machine as host agents do: equal digests reach each other's containers.
pub fn machine() -> std::io::Result<Digest> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(api::machine_digest(&boot))
}
