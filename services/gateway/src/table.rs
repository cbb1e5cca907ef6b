//! Where things are: an immutable snapshot of the routes, made for looking up.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use api::{KnownRoutes, ServiceKey};
use http::uri::Authority;
use imbl::{HashMap, OrdMap, OrdSet};
use types::{AccountId, AllocationId, DeploymentId, Digest, PortSpec, Protocol};

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
    pub ports: Vec<PortSpec>,
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
    /// Replicas passed over because of their address.
    refused: usize,
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

    fn published_ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let ports = self.ports.iter();
        ports.filter_map(|port| Some((port.protocol, port.published?)))
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

/// What is known of a replica, whether it is chosen or not.
#[derive(Clone, Debug, Default)]
struct Placed {
    load: Arc<Load>,
    /// Where it is reached through, if not directly.
    agent: Option<Arc<str>>,
    /// Among those that requests go to.
    chosen: bool,
}

/// Cloning is cheap: a table shares with the next one what both say.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// False until a validator has been heard.
    pub known: bool,
    pub height: u64,
    /// In order of deployments.
    pub services: OrdMap<ServiceKey, Arc<Service>>,
    domains: HashMap<String, Arc<Service>>,
    /// Who asks for a domain: the first has it.
    domain_claims: OrdSet<(String, ServiceKey)>,
    pub published: OrdMap<(Protocol, u16), Published>,
    /// Who asks for a port: the first has it.
    port_claims: OrdSet<((Protocol, u16), ServiceKey)>,
    replicas: HashMap<AllocationId, Placed>,
    pub refused: usize,
}

/// Sorts before all keys.
fn first_key() -> ServiceKey {
    (DeploymentId(0), String::new())
}

impl Table {
    /// The table as it is after `changed` services have become what `routes` say, at `height`.
    /// Costs what changed; how busy replicas are is taken over.
    pub fn next(
        &self,
        routes: &KnownRoutes,
        changed: &BTreeSet<ServiceKey>,
        height: u64,
        machine: Digest,
        trust: Trust,
    ) -> Self {
        let mut table = Self {
            known: true,
            height,
            ..self.clone()
        };
        let mut domains = BTreeSet::new();
        let mut ports = BTreeSet::new();
        for key in changed {
            if let Some(before) = self.services.get(key) {
                table.forget(key, before, &mut domains, &mut ports);
            }
        }
        for key in changed {
            let Some(route) = routes.services().get(key) else {
                continue;
            };
            let service = Arc::new(table.service_of(self, route, machine, trust));
            domains.insert(service.domain.to_ascii_lowercase());
            let domain = (service.domain.to_ascii_lowercase(), key.clone());
            table.domain_claims.insert(domain);
            for port in service.published_ports() {
                ports.insert(port);
                table.port_claims.insert((port, key.clone()));
            }
            table.services.insert(key.clone(), service);
        }
        for domain in domains {
            table.settle_domain(domain);
        }
        if self.published.len() >= PUBLISHED_MAX {
            // A port that has become free is another's.
            ports.extend(table.port_claims.iter().map(|(port, _)| *port));
        }
        for port in ports {
            table.settle_port(port);
        }
        let count = table.services.len();
        match count == self.services.len() {
            true => {
                let services = changed.iter().filter_map(|key| table.services.get(key));
                services.for_each(|service| service.tally.share_among(count));
            }
            false => {
                let services = table.services.values();
                services.for_each(|service| service.tally.share_among(count));
            }
        }
        table
    }

    /// Takes out what `service` has put in.
    fn forget(
        &mut self,
        key: &ServiceKey,
        service: &Service,
        domains: &mut BTreeSet<String>,
        ports: &mut BTreeSet<(Protocol, u16)>,
    ) {
        let domain = service.domain.to_ascii_lowercase();
        self.domain_claims.remove(&(domain.clone(), key.clone()));
        domains.insert(domain);
        for port in service.published_ports() {
            self.port_claims.remove(&(port, key.clone()));
            ports.insert(port);
        }
        let others = service.others.iter().map(|(allocation, _)| *allocation);
        let ready = service.replicas.iter().map(|r| r.allocation);
        for allocation in ready.chain(others) {
            self.replicas.remove(&allocation);
        }
        self.refused -= service.refused;
        self.services.remove(key);
    }

    /// The oldest deployment keeps a name.
    fn settle_domain(&mut self, domain: String) {
        let claims = self.domain_claims.range((domain.clone(), first_key())..);
        let first = claims.take_while(|(claimed, _)| *claimed == domain).next();
        match first.and_then(|(_, key)| self.services.get(key)) {
            Some(service) => self.domains.insert(domain, service.clone()),
            None => self.domains.remove(&domain),
        };
    }

    fn settle_port(&mut self, port: (Protocol, u16)) {
        let claims = self.port_claims.range((port, first_key())..);
        let mut claims = claims.take_while(|(claimed, _)| *claimed == port);
        let first = claims.next().and_then(|(_, key)| self.services.get(key));
        let published = first.and_then(|service| {
            let mut ports = service.ports.iter();
            let asked = ports.find(|p| (p.protocol, p.published) == (port.0, Some(port.1)))?;
            Some(Published {
                service: service.clone(),
                target: asked.target,
                contenders: claims.count(),
            })
        });
        match published {
            Some(published) => {
                let known = self.published.contains_key(&port);
                if known || self.published.len() < PUBLISHED_MAX {
                    self.published.insert(port, published);
                }
            }
            None => drop(self.published.remove(&port)),
        }
    }

    fn service_of(
        &mut self,
        before: &Self,
        route: &api::Route,
        machine: Digest,
        trust: Trust,
    ) -> Service {
        let now_ms = uptime_ms();
        let mut replicas = Vec::with_capacity(route.replicas.len());
        // Better somebody who may not answer than nobody.
        let any = route.replicas.iter().any(|u| u.ready);
        let chosen = |u: &api::Upstream| u.ready || (!any && u.unheard);
        let mut others = Vec::new();
        let mut refused = 0;
        for upstream in &route.replicas {
            let allocation = upstream.allocation;
            let load = before.replicas.get(&allocation);
            let load = load.map(|known| known.load.clone()).unwrap_or_default();
            let mut placed = Placed {
                load: load.clone(),
                ..Placed::default()
            };
            if !chosen(upstream) {
                others.push((allocation, load));
            } else if let Some(replica) = replica(upstream, route.http_port, load, machine, trust) {
                replica.load.is_ready_at(now_ms);
                placed.chosen = true;
                if let Reach::Tunnel(agent) = &replica.reach {
                    placed.agent = Some(agent.clone());
                }
                replicas.push(replica);
            } else {
                refused += 1;
                continue;
            }
            self.replicas.insert(allocation, placed);
        }
        self.refused += refused;
        let key = (route.deployment, route.service.clone());
        let known = before.services.get(&key);
        Service {
            deployment: route.deployment,
            owner: route.owner,
            tally: known.map(|s| s.tally.clone()).unwrap_or_default(),
            name: route.service.clone(),
            domain: route.domain.clone(),
            ports: route.ports.clone(),
            http_port: route.http_port,
            frozen: route.frozen,
            scale: route.scale.clone(),
            placed: route.replicas.len(),
            replicas,
            others,
            refused,
            next: AtomicUsize::new(known.map_or(0, |s| s.next.load(Ordering::Relaxed))),
        }
    }

    /// `name` in lower case, without the gateway's own domain.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.domains.get(name)
    }

    /// Of one deployment.
    pub fn services_of(&self, deployment: DeploymentId) -> impl Iterator<Item = &Arc<Service>> {
        let from = (deployment, String::new());
        let all = self.services.range(from..).map(|(_, service)| service);
        all.take_while(move |service| service.deployment == deployment)
    }

    /// It is among those that requests go to.
    pub fn has(&self, allocation: AllocationId) -> bool {
        self.replicas.get(&allocation).is_some_and(|r| r.chosen)
    }

    pub fn agent(&self, allocation: AllocationId) -> Option<&Arc<str>> {
        self.replicas.get(&allocation)?.agent.as_ref()
    }
}

fn replica(
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

#[cfg(test)]
mod tests;
