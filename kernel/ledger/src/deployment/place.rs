//! Place the replicas of a release: on distinct hosts of distinct owners while there are
//! enough, and where their volumes are.

use std::collections::{BTreeMap, BTreeSet};

use scheduler::{Fleet, Placement, Reason, Request};
use types::{
    AllocationId, AllocationStatus, Amount, DeploymentId, HostId, MountSource, ServiceSpec, Usage,
};

use super::apply::gone;
use super::{Deployment, Event};
use crate::execute::Context;
use crate::lease::{Allocation, Desired};
use crate::state::State;
use crate::{RejectKind, Rejection};

/// Ended allocations looked through for where a volume was.
const FORMER_MAX: usize = 256;

/// Places every replica that the release wants and that is not there.
///
/// Errors: `NoHost` if one fits nowhere; what was placed before it must then be undone.
pub(super) fn place_all(context: &mut Context, id: &DeploymentId) -> Result<(), Rejection> {
    let Some(deployment) = context.state.deployments.get(id).cloned() else {
        return Err(gone(id));
    };
    let mut homes = Homes::of(&context.state, &deployment);
    let mut there: BTreeMap<&str, Vec<(u32, HostId)>> = BTreeMap::new();
    let live: Vec<Allocation> = deployment
        .allocations
        .iter()
        .filter_map(|a| context.state.allocations.get(a))
        .filter(|a| a.desired != Desired::Remove)
        .cloned()
        .collect();
    for a in &live {
        there
            .entry(&a.service)
            .or_default()
            .push((a.replica, a.host));
    }
    for (name, service) in &deployment.spec.services {
        let kept = there.remove(name.as_str()).unwrap_or_default();
        let replicas: BTreeSet<u32> = kept.iter().map(|(replica, _)| *replica).collect();
        let mut spread = Spread::new(service);
        for (_, host) in kept {
            spread.avoid(&context.state.index.fleet, host);
        }
        for replica in (1..=service.replicas).filter(|r| !replicas.contains(r)) {
            let home = homes.find(name, replica, service);
            let fleet = &context.state.index.fleet;
            let mut placement = spread
                .place(fleet, home, context.env.height)
                .map_err(|reason| no_host(name, replica, service, &reason))?;
            if home.is_some_and(|home| home != placement.host) {
                placement.reason.relaxed.push("host of its volumes".into());
            }
            spread.avoid(fleet, placement.host);
            homes.note(service, placement.host);
            take_seat(
                context,
                (*id, &deployment),
                (name, replica, service),
                placement,
            );
        }
    }
    Ok(())
}

/// Where the replicas of one service may go.
struct Spread {
    request: Request,
    /// Rules let go so far. What is free only shrinks while a service is placed, so a rule
    /// that one replica could not keep stays let go for the next.
    relaxed: Vec<String>,
}

impl Spread {
    fn new(service: &ServiceSpec) -> Self {
        Self {
            request: Request {
                resources: service.resources,
                ..Request::default()
            },
            relaxed: Vec::new(),
        }
    }

    fn avoid(&mut self, fleet: &Fleet, host: HostId) {
        if self.relaxed.len() < 2 {
            self.request.avoid_hosts.insert(host);
        }
        if let Some(entry) = fleet.get(&host).filter(|_| self.relaxed.is_empty()) {
            self.request.avoid_owners.insert(entry.owner);
        }
    }

    /// Owners, then hosts, are let go if nothing fits otherwise.
    fn place(
        &mut self,
        fleet: &Fleet,
        home: Option<HostId>,
        height: u64,
    ) -> Result<Placement, Reason> {
        self.request.prefer = home;
        loop {
            let none = match fleet.place(&self.request, height) {
                Ok(mut placement) => {
                    placement.reason.relaxed.clone_from(&self.relaxed);
                    return Ok(placement);
                }
                Err(none) => none,
            };
            if !self.request.avoid_owners.is_empty() {
                self.request.avoid_owners.clear();
                self.relaxed.push("distinct owners".into());
            } else if !self.request.avoid_hosts.is_empty() {
                self.request.avoid_hosts.clear();
                self.relaxed.push("distinct hosts".into());
            } else {
                return Err(none.reason);
            }
        }
    }
}

/// Where replicas were, and where named volumes are.
#[derive(Default)]
struct Homes {
    replica: BTreeMap<(String, u32), HostId>,
    volume: BTreeMap<String, HostId>,
}

impl Homes {
    fn of(state: &State, deployment: &Deployment) -> Self {
        let mut homes = Self::default();
        let former = deployment.ended.len().saturating_sub(FORMER_MAX);
        let ended = deployment.ended.get(former..).unwrap_or_default();
        for id in ended.iter().chain(&deployment.allocations) {
            let Some(a) = state.allocations.get(id) else {
                continue;
            };
            homes.replica.insert((a.service.clone(), a.replica), a.host);
            if let Some(service) = state.service_of(*id) {
                homes.note(service, a.host);
            }
        }
        homes
    }

    /// The replica's own former host; else one where another service has its volume.
    fn find(&self, name: &str, replica: u32, service: &ServiceSpec) -> Option<HostId> {
        let mut named = volumes(service).peekable();
        named.peek()?;
        let own = self.replica.get(&(name.to_string(), replica));
        own.or_else(|| named.find_map(|v| self.volume.get(v)))
            .copied()
    }

    fn note(&mut self, service: &ServiceSpec, host: HostId) {
        for volume in volumes(service) {
            self.volume.insert(volume.clone(), host);
        }
    }
}

fn volumes(service: &ServiceSpec) -> impl Iterator<Item = &String> {
    service.mounts.iter().filter_map(|m| match &m.source {
        MountSource::Volume(name) => Some(name),
        MountSource::Anonymous | MountSource::Tmpfs(_) => None,
    })
}

/// Reserves the place and opens the lease.
fn take_seat(
    context: &mut Context,
    (id, deployment): (DeploymentId, &Deployment),
    (name, replica, service): (&str, u32, &ServiceSpec),
    placement: Placement,
) {
    let host = placement.host;
    context.state.fleet_mut().reserve(&host, &service.resources);
    if let Some(record) = context.state.hosts.get_mut(&host) {
        // It fits, or the block's check would find the host over-committed.
        let free = record.free.checked_sub(&service.resources);
        record.free = free.unwrap_or_default();
    }
    context.state.globals.allocations += 1;
    let allocation = AllocationId(context.state.globals.allocations);
    let now = context.env.time_ms;
    let record = Allocation {
        deployment: id,
        release: deployment.release,
        service: name.into(),
        replica,
        host,
        desired: Desired::Run,
        generation: 0,
        reserved: service.resources,
        rates: context.state.globals.params.tariff,
        placed_ms: now,
        status: AllocationStatus::default(),
        status_ms: now,
        settled_ms: now,
        sequence: 0,
        usage: Usage::default(),
        charged: [Amount::ZERO; 5],
        closed: false,
        reason: placement.reason,
    };
    context.state.allocations.insert(allocation, record);
    context.state.index.by_host.insert((host, allocation));
    if let Some(deployment) = context.state.deployments.get_mut(&id) {
        deployment.allocations.push(allocation);
    }
    context.emit(crate::Event::Deployment(Event::AllocationPlaced {
        deployment: id,
        allocation,
        service: name.into(),
        replica,
        host,
    }));
}

fn no_host(name: &str, replica: u32, service: &ServiceSpec, reason: &Reason) -> Rejection {
    let counts: Vec<String> = reason
        .dropped
        .iter()
        .map(|d| format!("{} by {}", d.hosts, d.rule))
        .collect();
    let r = &service.resources;
    let why = format!(
        "no host fits replica {replica} ({} CPU, {} MiB memory, {} MiB disk, {} kbit/s); hosts dropped: {}",
        milli(r.cpu_millis),
        r.memory_bytes >> 20,
        r.disk_bytes >> 20,
        r.bandwidth_kbps,
        if counts.is_empty() {
            "none, there are no hosts".into()
        } else {
            counts.join(", ")
        },
    );
    Rejection::new(
        RejectKind::NoHost,
        format!("service {name}"),
        why,
        "Ask for less under deploy.resources, free something with `runrig down`, or let a host join.",
    )
}

/// Thousandths as a decimal number.
fn milli(n: u32) -> String {
    let text = format!("{}.{:03}", n / 1000, n % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
