//! Where requests go: the table of routes, made from the state and followed block by block.
//!
//! The book has one stamp for each service and each replica, live or gone: the height at which
//! it was last seen to change. What changed since a height is read off the stamps, so a reader
//! may be as old as it likes; only what is gone is forgotten, the oldest first, once there is
//! more of it than [`GONE_MAX`]. Memory is bounded by what is live and that.
//!
//! A stamp may be later than the change, never earlier: a reader may hear something twice and
//! misses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Gone, Route, RouteScale, Routes, Upstream};
use ledger::State;
use ledger::deployment::{Deployment, Funding, Scale};
use ledger::host::Host;
use ledger::lease::{Allocation, Desired};
use types::{AllocationId, DeploymentId, Digest, HostId, Protocol, ServiceSpec};

use crate::views::takes_requests;

/// Of services and replicas that are no longer there.
const GONE_MAX: usize = 1 << 16;
/// Changes with what is told, or how it follows from the state.
const RULES: u32 = 1;

/// A service, or a replica of it; a service comes before its replicas.
type Thing = (DeploymentId, Arc<str>, Option<AllocationId>);

#[derive(Debug)]
enum What {
    /// Without replicas.
    Service(Box<Route>),
    Replica(Box<Upstream>),
    Gone,
}

#[derive(Debug)]
struct Line {
    changed: u64,
    what: What,
}

/// Where requests go, and since when.
#[derive(Debug)]
pub struct RouteBook {
    table: Digest,
    /// What it was made from.
    state: Option<State>,
    height: u64,
    /// Last height at which a line changed.
    changed: u64,
    /// From heights before this one it is not known what has gone since.
    floor: u64,
    lines: BTreeMap<Thing, Line>,
    /// All lines by their stamps.
    stamps: BTreeSet<(u64, Thing)>,
    /// Those of what is gone.
    gone: BTreeSet<(u64, Thing)>,
    gone_max: usize,
}

impl RouteBook {
    /// Of `network`, with nothing in it.
    pub fn new(network: Digest) -> Self {
        Self {
            table: Digest::of_value("runrig-routes", &(network, RULES)),
            state: None,
            height: 0,
            changed: 0,
            floor: 0,
            lines: BTreeMap::new(),
            stamps: BTreeSet::new(),
            gone: BTreeSet::new(),
            gone_max: GONE_MAX,
        }
    }

    /// Names the table: see [`Routes::table`].
    pub fn table(&self) -> Digest {
        self.table
    }

    /// Of the state that it has followed to.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Last height at which something changed, as far as this book has followed.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Brings the book up to `state`, a later one of the same network. Costs what changed.
    /// The state that it followed before is given back: to free what only that one holds takes
    /// about as long again, and who asks for routes need not wait for it.
    pub fn follow(&mut self, state: &State) -> Option<State> {
        let before = self.state.replace(state.clone());
        self.height = state.height();
        match &before {
            Some(before) => {
                for id in affected(before, state) {
                    self.set(id, routes_of(state, id));
                }
            }
            None => {
                for (id, _) in state.live() {
                    self.set(id, routes_of(state, id));
                }
                // What was before this state is not known.
                self.floor = self.height;
                self.changed = self.height;
            }
        }
        self.forget();
        before
    }

    /// Forgets of what is gone as much as there is too much of, the oldest first.
    fn forget(&mut self) {
        while self.gone.len() > self.gone_max {
            let Some(oldest) = self.gone.pop_first() else {
                break;
            };
            self.floor = oldest.0;
            self.stamps.remove(&oldest);
            self.lines.remove(&oldest.1);
        }
    }

    /// From now on requests for `deployment` go by `routes`.
    fn set(&mut self, deployment: DeploymentId, routes: Vec<Route>) {
        let mut now = BTreeMap::new();
        for mut route in routes {
            let service: Arc<str> = route.service.as_str().into();
            for upstream in std::mem::take(&mut route.replicas) {
                let thing = (deployment, service.clone(), Some(upstream.allocation));
                now.insert(thing, What::Replica(Box::new(upstream)));
            }
            now.insert((deployment, service, None), What::Service(Box::new(route)));
        }
        let first = (deployment, Arc::from(""), None);
        let end = (
            DeploymentId(deployment.0.saturating_add(1)),
            Arc::from(""),
            None,
        );
        let left: Vec<Thing> = self
            .lines
            .range(first..end)
            .filter(|(thing, line)| !matches!(line.what, What::Gone) && !now.contains_key(*thing))
            .map(|(thing, _)| thing.clone())
            .collect();
        for thing in left {
            self.write(thing, What::Gone);
        }
        for (thing, what) in now {
            let same = match (self.lines.get(&thing).map(|line| &line.what), &what) {
                (Some(What::Service(a)), What::Service(b)) => a == b,
                (Some(What::Replica(a)), What::Replica(b)) => a == b,
                _ => false,
            };
            if !same {
                self.write(thing, what);
            }
        }
    }

    fn write(&mut self, thing: Thing, what: What) {
        let changed = self.height;
        self.changed = changed;
        let is_gone = matches!(what, What::Gone);
        if let Some(before) = self.lines.insert(thing.clone(), Line { changed, what }) {
            let stamp = (before.changed, thing.clone());
            self.stamps.remove(&stamp);
            self.gone.remove(&stamp);
        }
        if is_gone {
            self.gone.insert((changed, thing.clone()));
        }
        self.stamps.insert((changed, thing));
    }

    /// What a reader is told that knows this table as it was at `after`: what changed since,
    /// or all of it if that is not known.
    pub fn told(&self, after: Option<u64>) -> Routes {
        let mut routes = Routes {
            height: self.height,
            table: Some(self.table),
            ..Routes::default()
        };
        let Some(after) = after.filter(|after| *after >= self.floor) else {
            for ((deployment, service, _), line) in &self.lines {
                add(&mut routes, (*deployment, service), line, None);
            }
            return routes;
        };
        routes.since = Some(after);
        // A validator that is behind has nothing to add to what is known.
        routes.height = self.height.max(after);
        if after >= self.changed {
            return routes;
        }
        let first = (
            after.saturating_add(1),
            (DeploymentId(0), Arc::from(""), None),
        );
        let things: BTreeSet<&Thing> = self.stamps.range(first..).map(|(_, t)| t).collect();
        for thing in things {
            let Some(line) = self.lines.get(thing) else {
                continue;
            };
            let key = (thing.0, &thing.1);
            if let What::Gone = line.what {
                routes.gone.push(Gone {
                    deployment: thing.0,
                    service: thing.1.to_string(),
                    allocation: thing.2,
                });
                continue;
            }
            let service = self.lines.get(&(thing.0, thing.1.clone(), None));
            add(&mut routes, key, line, service);
        }
        routes
    }
}

/// Adds `line` to the last of `routes`; `service` begins it if the line does not.
fn add(routes: &mut Routes, key: (DeploymentId, &Arc<str>), line: &Line, service: Option<&Line>) {
    let begun = |route: &Route| route.deployment == key.0 && *route.service == **key.1;
    match &line.what {
        What::Service(route) => routes.routes.push((**route).clone()),
        What::Replica(upstream) => {
            if !routes.routes.last().is_some_and(begun)
                && let Some(What::Service(route)) = service.map(|line| &line.what)
            {
                routes.routes.push((**route).clone());
            }
            if let Some(route) = routes.routes.last_mut().filter(|route| begun(route)) {
                route.replicas.push((**upstream).clone());
            }
        }
        What::Gone => {}
    }
}

/// Deployments whose routes may differ between two states.
fn affected(before: &State, now: &State) -> BTreeSet<DeploymentId> {
    let mut ids = BTreeSet::new();
    for (id, before, now) in now.deployments.differences(&before.deployments) {
        if before.map(deployment_part) != now.map(deployment_part) {
            ids.insert(*id);
        }
    }
    for (_, before, now) in now.allocations.differences(&before.allocations) {
        if before.map(allocation_part) != now.map(allocation_part) {
            ids.extend(before.or(now).map(|a| a.deployment));
        }
    }
    for (key, before, now) in now.scales.differences(&before.scales) {
        let part = |scale: &Scale| (scale.wanted, scale.stopped, scale.why.clone());
        if before.map(part) != now.map(part) {
            ids.insert(key.0);
        }
    }
    for (id, before_it, now_it) in now.hosts.differences(&before.hosts) {
        if before_it.map(host_part) != now_it.map(host_part) {
            let on = |state: &State, id: &HostId| -> Vec<DeploymentId> {
                state
                    .allocations_on(id)
                    .map(|(_, a)| a.deployment)
                    .collect()
            };
            ids.extend(on(before, id));
            ids.extend(on(now, id));
        }
    }
    ids
}

/// A deployment has another spec only with another release, which is compared for it: usage
/// changes deployments in every block, and a spec may be long.
fn deployment_part(deployment: &Deployment) -> impl PartialEq + use<'_> {
    let Deployment {
        owner,
        release,
        unplaced,
        label,
        allocations,
        removed,
        funding,
        limited,
        ..
    } = deployment;
    let frozen = *funding == Funding::Frozen || *limited;
    (
        release,
        removed,
        frozen,
        owner,
        unplaced,
        label,
        allocations,
    )
}

fn allocation_part(allocation: &Allocation) -> impl PartialEq + use<'_> {
    let status = &allocation.status;
    let address = status.addresses.values().next();
    (
        (&allocation.service, allocation.host, allocation.desired),
        (address, status.is_ready()),
    )
}

fn host_part(host: &Host) -> impl PartialEq + use<'_> {
    (&host.address, host.machine, host.online)
}

/// Where requests go, over all live deployments.
pub fn routes(state: &State) -> Vec<Route> {
    let ids = state.live().map(|(id, _)| id);
    ids.flat_map(|id| routes_of(state, id)).collect()
}

/// One for each service of a deployment, none if it is removed.
fn routes_of(state: &State, id: DeploymentId) -> Vec<Route> {
    let Some(deployment) = state.deployments.get(&id).filter(|d| !d.removed) else {
        return Vec::new();
    };
    let mut replicas: BTreeMap<&str, Vec<Upstream>> = BTreeMap::new();
    for number in &deployment.allocations {
        if let Some((service, upstream)) = upstream(state, *number) {
            replicas.entry(service).or_default().push(upstream);
        }
    }
    let services = deployment.spec.services.iter();
    let route = |(name, service): (&String, &ServiceSpec)| {
        let tcp = service.ports.iter().find(|p| p.protocol == Protocol::Tcp);
        Route {
            deployment: id,
            owner: deployment.owner,
            service: name.clone(),
            domain: format!(
                "{}.{}",
                name.replace(['_', '.'], "-").to_lowercase(),
                deployment.label
            ),
            ports: service.ports.clone(),
            http_port: tcp.map(|p| p.target).or(service.expose.first().copied()),
            frozen: deployment.is_frozen(),
            scale: route_scale(state, id, deployment, name, service),
            replicas: replicas.remove(name.as_str()).unwrap_or_default(),
        }
    };
    services.map(route).collect()
}

fn route_scale(
    state: &State,
    id: DeploymentId,
    deployment: &Deployment,
    name: &str,
    service: &ServiceSpec,
) -> Option<RouteScale> {
    let scale = state.scales.get(&(id, name.to_string()))?;
    let unplaced = deployment.unplaced.iter().find(|u| u.service == name);
    Some(RouteScale {
        min: service.autoscale?.min,
        wanted: scale.wanted,
        stopped: scale.stopped,
        why: match unplaced {
            Some(unplaced) => unplaced.why.clone(),
            None if scale.wanted == 0 => scale.why.clone(),
            None => String::new(),
        },
    })
}

/// A replica that has an address, and its service.
fn upstream(state: &State, number: AllocationId) -> Option<(&str, Upstream)> {
    let allocation = state.allocations.get(&number)?;
    let host = state.hosts.get(&allocation.host)?;
    let upstream = Upstream {
        allocation: number,
        host: allocation.host,
        host_address: host.address.clone(),
        machine: host.machine,
        address: *allocation.status.addresses.values().next()?,
        ready: takes_requests(allocation, Some(host)),
        leaving: allocation.desired == Desired::Drain,
        unheard: !host.online && allocation.desired == Desired::Run && allocation.status.is_ready(),
    };
    Some((&allocation.service, upstream))
}

#[cfg(test)]
mod tests;
