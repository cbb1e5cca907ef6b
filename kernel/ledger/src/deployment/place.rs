//! Find a place for a replica: on distinct hosts of distinct owners while there are enough,
//! and where its volumes are.

use std::collections::BTreeMap;

use scheduler::{Fleet, Placement, Reason, Request};
use types::{
    AllocationId, AllocationStatus, Amount, DeploymentId, HostFeature, HostId, PlacementConstraint,
    ServiceSpec, Usage,
};

use super::why::{away_from_home, no_host};
use super::{Deployment, Event};
use crate::Rejection;
use crate::execute::Context;
use crate::lease::{Allocation, Desired};
use crate::state::State;

/// Rules that are let go.
const OWNERS: &str = "distinct owners";
const HOSTS: &str = "distinct hosts";
const RELIABILITY: &str = "reliability";
const TRIAL: &str = "trial after silence";

/// Hosts on trial that are looked at for one replica.
const TRIALS_MAX: usize = 1_000;

/// Where the replicas of one service may go.
#[derive(Clone)]
pub(super) struct Spread {
    request: Request,
    /// Replicas that one host may have, 0 for any number, and that each has.
    most: u32,
    there: BTreeMap<HostId, u32>,
    /// Replicas in each region, where they are to be spread; and how many one may have before
    /// it is passed over.
    regions: Option<(BTreeMap<String, u32>, u32)>,
    /// Rules let go so far. What is free only shrinks while a service is placed, so a rule
    /// that one replica could not keep stays let go for the next.
    relaxed: Vec<String>,
}

impl Spread {
    pub fn new(service: &ServiceSpec) -> Self {
        let mut constraints = service.placement.constraints.clone();
        if service.build.is_some() {
            constraints.push(PlacementConstraint {
                of: HostFeature::Builds,
                equal: true,
                value: true.to_string(),
            });
        }
        Self {
            request: Request {
                resources: service.resources,
                constraints,
                reliable: true,
                ..Request::default()
            },
            most: service.placement.replicas_per_host_max,
            there: BTreeMap::new(),
            regions: (service.placement.spread_regions).then(|| (BTreeMap::new(), 1)),
            relaxed: Vec::new(),
        }
    }

    pub fn avoid(&mut self, fleet: &Fleet, host: HostId) {
        let there = self.there.entry(host).or_default();
        *there += 1;
        if self.most > 0 && *there >= self.most {
            self.request.full_hosts.insert(host);
        }
        if !self.is_relaxed(HOSTS) {
            self.request.avoid_hosts.insert(host);
        }
        let Some(entry) = fleet.get(&host) else {
            return;
        };
        if !self.is_relaxed(OWNERS) {
            self.request.avoid_owners.insert(entry.owner);
        }
        if let Some((regions, _)) = &mut self.regions {
            *regions.entry(entry.region.clone()).or_default() += 1;
        }
    }

    fn is_relaxed(&self, rule: &str) -> bool {
        self.relaxed.iter().any(|r| r == rule)
    }

    /// A region gets a further replica only when none with fewer has an owner and a host to
    /// spare; owners, then reliability, then hosts, are let go if nothing fits otherwise.
    fn place(
        &mut self,
        fleet: &Fleet,
        home: Option<HostId>,
        height: u64,
    ) -> Result<Placement, Reason> {
        self.request.prefer = home;
        loop {
            if let Some((regions, level)) = &self.regions {
                let full = regions.iter().filter(|(_, count)| *count >= level);
                self.request.avoid_regions = full.map(|(region, _)| region.clone()).collect();
            }
            let none = match fleet.place(&self.request, height) {
                Ok(mut placement) => {
                    placement.reason.relaxed.clone_from(&self.relaxed);
                    return Ok(placement);
                }
                Err(none) => none,
            };
            if let Some((regions, level)) = &mut self.regions {
                let full = regions.values().filter(|count| *count >= level).min();
                if let Some(count) = full {
                    *level = count + 1;
                    continue;
                }
                *level = 1;
            }
            let dropped = |rule: &str| none.reason.dropped.iter().any(|d| d.rule == rule);
            if !self.request.avoid_owners.is_empty() {
                self.request.avoid_owners.clear();
                self.relaxed.push(OWNERS.into());
            } else if self.request.reliable && dropped(RELIABILITY) {
                self.request.reliable = false;
                self.relaxed.push(RELIABILITY.into());
            } else if !self.request.avoid_hosts.is_empty() {
                self.request.avoid_hosts.clear();
                self.relaxed.push(HOSTS.into());
            } else {
                return Err(none.reason);
            }
        }
    }
}

impl Spread {
    /// On none of `hosts`, as it could not be made ready there.
    pub fn set_tried(&mut self, hosts: &[HostId]) {
        self.request.tried_hosts = hosts.iter().copied().collect();
    }

    /// Where nothing else fits: hosts that were silent and must stay for a while before they are
    /// given anything. A replica there may soon be without a host again; one without a place
    /// serves nobody. Of those with the fewest replicas, the one whose trial ends first.
    fn on_trial(&self, state: &State, mut reason: Reason) -> Result<Placement, Reason> {
        let mut request = self.request.clone();
        // Silences are what brought them there.
        request.reliable = false;
        let waiting = state.index.probation.iter().take(TRIALS_MAX);
        let fitting = waiting.map(|(_, id)| *id).filter(|id| {
            let host = state.hosts.get(id);
            let there = host.is_some_and(|h| h.online && h.wants_work());
            there && state.index.fleet.keeps(id, &request)
        });
        let replicas = |id: &HostId| self.there.get(id).copied().unwrap_or(0);
        match fitting.min_by_key(replicas) {
            Some(host) => {
                reason.relaxed = [self.relaxed.clone(), vec![TRIAL.into()]].concat();
                Ok(Placement { host, reason })
            }
            None => Err(reason),
        }
    }
}

/// Where replicas were, and where named volumes are.
#[derive(Default)]
pub(super) struct Homes {
    replica: BTreeMap<(String, u32), HostId>,
    volume: BTreeMap<String, HostId>,
}

/// Where a replica with named volumes belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Its own data is there, and nowhere else.
    Own(HostId),
    /// Another replica or service has a volume of that name there.
    Shared(HostId),
}

impl Homes {
    pub fn of(state: &State, deployment: &Deployment) -> Self {
        let mut homes = Self::default();
        for id in deployment.ended.iter().chain(&deployment.allocations) {
            let (Some(a), Some(service)) = (state.allocations.get(id), state.service_of(*id))
            else {
                continue;
            };
            homes.note((&a.service, a.replica), service, a.host);
        }
        homes
    }

    pub fn find(&self, seat: (&str, u32), service: &ServiceSpec) -> Option<Home> {
        let mut named = volumes(service).peekable();
        named.peek()?;
        let own = self.replica.get(&(seat.0.to_string(), seat.1));
        let shared = named.find_map(|v| self.volume.get(v));
        own.map(|host| Home::Own(*host))
            .or(shared.map(|host| Home::Shared(*host)))
    }

    pub fn note(&mut self, seat: (&str, u32), service: &ServiceSpec, host: HostId) {
        for volume in volumes(service) {
            self.volume.insert(volume.clone(), host);
            self.replica.insert((seat.0.to_string(), seat.1), host);
        }
    }
}

/// Places one replica and opens its lease.
///
/// Errors: `NoHost` if it fits nowhere, or not where its data is; nothing has changed then.
pub(super) fn place(
    context: &mut Context,
    id: &DeploymentId,
    seat: (&str, u32),
    service: &ServiceSpec,
    spread: &mut Spread,
    homes: &mut Homes,
) -> Result<(), Rejection> {
    let home = homes.find(seat, service);
    // Hosts that have left the network have taken their volumes along.
    let home = home.filter(|home| {
        let (Home::Own(host) | Home::Shared(host)) = home;
        context.state.hosts.get(host).is_some()
    });
    let wish = home.map(|home| match home {
        Home::Own(host) | Home::Shared(host) => host,
    });
    let fleet = &context.state.index.fleet;
    let mut placement = spread
        .place(fleet, wish, context.env.height)
        .or_else(|reason| spread.on_trial(&context.state, reason))
        .map_err(|reason| no_host(seat, service, &reason))?;
    match home {
        Some(Home::Own(host)) if host != placement.host => {
            return Err(away_from_home(context, seat, &host));
        }
        Some(Home::Shared(host)) if host != placement.host => {
            placement.reason.relaxed.push("host of its volumes".into());
        }
        _ => {}
    }
    spread.avoid(fleet, placement.host);
    homes.note(seat, service, placement.host);
    take_seat(context, id, seat, service, placement);
    Ok(())
}

pub(super) fn volumes(service: &ServiceSpec) -> impl Iterator<Item = &String> {
    service.mounts.iter().filter_map(|m| m.source.volume())
}

/// Reserves the place and opens the lease.
fn take_seat(
    context: &mut Context,
    id: &DeploymentId,
    (name, replica): (&str, u32),
    service: &ServiceSpec,
    placement: Placement,
) {
    let release = context.state.deployments.get(id).map_or(0, |d| d.release);
    let host = placement.host;
    context.state.fleet_mut().reserve(&host, &service.resources);
    let mut rates = context.state.globals.params.tariff;
    if let Some(record) = context.state.hosts.get_mut(&host) {
        // It fits, or the block's check would find the host over-committed.
        let free = record.free.checked_sub(&service.resources);
        record.free = free.unwrap_or_default();
        rates = rates.part(record.offer.price_multiplier_milli);
    }
    context.state.globals.allocations += 1;
    let allocation = AllocationId(context.state.globals.allocations);
    let now = context.env.time_ms;
    let record = Allocation {
        deployment: *id,
        release,
        service: name.into(),
        replica,
        host,
        desired: Desired::Run,
        leave_ms: 0,
        drain_ms: 0,
        generation: 0,
        reserved: service.resources,
        rates,
        placed_ms: now,
        status: AllocationStatus::default(),
        status_ms: now,
        settled_ms: now,
        sequence: 0,
        usage: Usage::default(),
        cpu_millis: 0,
        cpu_ms: 0,
        was_ready: false,
        charged: [Amount::ZERO; 5],
        closed: false,
        reason: placement.reason,
    };
    context.state.allocations.insert(allocation, record);
    context.state.index.by_host.insert((host, allocation));
    if let Some(deployment) = context.state.deployments.get_mut(id) {
        deployment.allocations.push(allocation);
        context.state.index.note_weighed(*id, deployment);
    }
    context.state.forget_burn(id);
    context.emit(crate::Event::Deployment(Event::AllocationPlaced {
        deployment: *id,
        allocation,
        service: name.into(),
        replica,
        host,
    }));
}

/// Thousandths as a decimal number.
pub(crate) fn milli(n: u32) -> String {
    let text = format!("{}.{:03}", n / 1000, n % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
