//! Keep every seat taken: each replica of each service of the latest release has one
//! allocation that serves, on a host that is there.
//!
//! A *seat* is a service and a replica number. Whatever happens to a deployment (a release, a
//! report, a host that falls silent, comes back, is drained or closes), all of its
//! seats are looked at anew, and what to do follows from what is there, not from what happened:
//!
//! - **A successor serves before its predecessor goes** (start first): the old allocation is
//!   drained once the new one is *good*, ready for as long as the service's policy says. So
//!   for releases, for hosts that are drained or close, and for those that fall silent: if a silent
//!   host is back before the successor is good, the successor goes instead.
//! - **One writer per volume**: a replica with named volumes ends before its successor
//!   begins, on the same host. While that host is silent the replica waits for it: no data is
//!   ever left behind without a word.
//! - **What leaves and is wanted again stays**, as when load comes back to an autoscaled service;
//!   such a one is left to those who are connected to it, see [`demand::is_in_use`].
//! - **At most `parallelism` seats of a service are between two replicas**, so a release that
//!   does not come good stops at the first. By the service's policy the deployment then goes
//!   back to its last good release, stops, or goes on.
//! - **What fits nowhere now is said and tried again**, and so is, elsewhere, what a host could not
//!   make ready ([`Tried`]).

mod again;

use std::collections::{BTreeMap, BTreeSet};

pub use again::Tried;
use types::{
    AllocationId, AllocationStatus, DeploymentId, Health, HostId, RunState, ServiceSpec,
    UpdateFailure, UpdateOrder, UpdatePolicy,
};

use super::apply::{
    begin_release, changed_services, ports_are_free, restart_dependents, retire_one, same_service,
};
use super::place::{Homes, Spread, place, volumes};
use super::why::away_from_home;
use super::{Cause, Deployment, Event, Setback, Unplaced, demand, release};
use crate::Rejection;
use crate::execute::Context;
use crate::lease::{Allocation, Desired};

/// How long a replica serves what it has begun, after new requests go elsewhere.
const DRAIN_MS: u64 = 2_000;
/// What has no place is tried again this often.
pub const RETRY_MS: u64 = 5_000;
/// A replica that is not ready after so long has failed: pulling a large image counts.
const PROGRESS_MS: u64 = 600_000;
/// Ready for so long is good, where neither health check nor policy says better.
const UNCHECKED_MS: u64 = 3_000;
/// So many restarts without ever being ready are a failure.
const RESTARTS_MAX: u32 = 3;

/// Looks after a deployment whose circumstances may have changed.
pub(crate) fn tend(context: &mut Context, id: &DeploymentId) {
    // A release that is rolled back is looked at twice: as it was, and as it is then.
    for _ in 0..2 {
        let Some(tending) = Tending::begin(context, id) else {
            look_no_more(context, id);
            return;
        };
        let again = tending.run(context, false).unwrap_or(false);
        if !again {
            return;
        }
    }
}

/// Takes the seats of a new release: those that are empty, and of each service that changed
/// as many as are replaced at a time.
///
/// Errors: `NoHost` if one fits nowhere; what was done before it must then be undone.
pub(super) fn fill(context: &mut Context, id: &DeploymentId) -> Result<(), Rejection> {
    match Tending::begin(context, id) {
        Some(tending) => tending.run(context, true).map(|_| ()),
        None => Ok(()),
    }
}

pub(super) fn look_no_more(context: &mut Context, id: &DeploymentId) {
    look_at(context, id, 0);
}

fn look_at(context: &mut Context, id: &DeploymentId, look_ms: u64) {
    let before = context.state.deployments.get(id).map_or(0, |d| d.look_ms);
    if before == look_ms {
        return;
    }
    context.state.index.looks.remove(&(before, *id));
    if look_ms > 0 {
        context.state.index.looks.insert((look_ms, *id));
    }
    if let Some(deployment) = context.state.deployments.get_mut(id) {
        deployment.look_ms = look_ms;
    }
}

/// One allocation as seen from its seat.
#[derive(Clone)]
struct Member {
    id: AllocationId,
    release: u32,
    host: HostId,
    /// It runs what the latest release says.
    fresh: bool,
    /// Its host is heard.
    heard: bool,
    /// Its host is being drained or, for what can move, outside its hours.
    leaving: bool,
    verdict: Verdict,
}

impl Member {
    fn fits(&self) -> bool {
        self.fresh && self.heard && !self.leaving
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Verdict {
    /// Ready for long enough, or ended well by itself; since when.
    Good(u64),
    /// Look again then.
    Wait(u64),
    Failed(String),
}

#[derive(Default)]
struct Seat {
    live: Vec<Member>,
    /// Drains, and would do.
    back: Option<Member>,
    /// Allocations on their way out that have not ended yet.
    ending: u32,
    /// Stopped by the owner.
    held: Vec<Member>,
}

/// One look at a deployment.
struct Tending {
    id: DeploymentId,
    deployment: Deployment,
    homes: Homes,
    seats: BTreeMap<(String, u32), Seat>,
    /// Earliest time at which something changes by itself.
    look_ms: u64,
    unplaced: Vec<Unplaced>,
    tried: Vec<Tried>,
    failing: Option<(UpdateFailure, String)>,
    /// The latest release is an earlier one again.
    back: bool,
    /// Nothing of the latest release is still to come.
    settled: bool,
    changed: bool,
}

impl Tending {
    /// `None` where there is nothing to look after.
    fn begin(context: &mut Context, id: &DeploymentId) -> Option<Self> {
        let mut deployment = context.state.deployments.get(id)?.clone();
        if deployment.removed || deployment.is_frozen() {
            return None;
        }
        for (name, service) in &mut deployment.spec.services {
            service.replicas = context.state.wanted(*id, name, service);
        }
        let latest = context.state.releases.get(&(*id, deployment.release));
        let mut tending = Self {
            id: *id,
            back: latest.is_some_and(|r| matches!(r.cause, Cause::RolledBack { .. })),
            homes: Homes::of(&context.state, &deployment),
            tried: deployment.tried.clone(),
            deployment,
            seats: BTreeMap::new(),
            look_ms: u64::MAX,
            unplaced: Vec::new(),
            failing: None,
            settled: true,
            changed: false,
        };
        for allocation in tending.deployment.allocations.clone() {
            tending.take_in(context, allocation);
        }
        Some(tending)
    }

    fn policy(&self, service: &ServiceSpec) -> UpdatePolicy {
        let back = service.rollback.filter(|_| self.back);
        back.unwrap_or(service.update)
    }

    /// Puts an allocation into its seat; ends what has drained.
    fn take_in(&mut self, context: &mut Context, id: AllocationId) {
        let now = context.env.time_ms;
        let Some(allocation) = context.state.allocations.get(&id).cloned() else {
            return;
        };
        let latest = &self.deployment.spec;
        let release = context.state.releases.get(&(self.id, allocation.release));
        let fresh = match release {
            _ if allocation.release == self.deployment.release => {
                latest.services.contains_key(&allocation.service)
            }
            Some(release) => same_service(&release.spec, latest, &allocation.service),
            None => false,
        };
        let host = context.state.hosts.get(&allocation.host);
        let heard = host.is_some_and(|h| h.online);
        // What has its data there stays: it could run nowhere else in the meantime.
        let moves = latest
            .services
            .get(&allocation.service)
            .is_none_or(|s| volumes(s).next().is_none());
        let leaving = host.is_some_and(|h| h.draining || (h.closed && moves));
        let key = (allocation.service.clone(), allocation.replica);
        let mut allocation = allocation;
        let drains = allocation.desired == Desired::Drain;
        if drains && allocation.leave_ms <= now && demand::is_in_use(&context.state, id, now) {
            allocation.leave_ms = now + DRAIN_MS;
            if let Some(kept) = context.state.allocations.get_mut(&id) {
                kept.leave_ms = allocation.leave_ms;
            }
        }
        let drained = drains && allocation.leave_ms <= now;
        if drained || (allocation.desired == Desired::Stop && !fresh) {
            self.end(context, id);
            self.seats.entry(key).or_default().ending += u32::from(heard);
            return;
        }
        let service = self.deployment.spec.services.get(&allocation.service);
        let monitor_ms = match service.and_then(|s| self.policy(s).monitor_ms) {
            Some(ms) => ms.into(),
            // Only time can tell that a replica stays up whose health nobody checks.
            None if allocation.status.health == Health::None => UNCHECKED_MS,
            None => 0,
        };
        let seat = self.seats.entry(key).or_default();
        let member = Member {
            id,
            release: allocation.release,
            host: allocation.host,
            fresh,
            heard,
            leaving,
            verdict: verdict(&allocation, monitor_ms, now),
        };
        match allocation.desired {
            Desired::Run => seat.live.push(member),
            Desired::Stop | Desired::Freeze => seat.held.push(member),
            Desired::Drain => {
                seat.ending += 1;
                if member.fits() {
                    seat.back = Some(member);
                }
                self.look(allocation.leave_ms);
            }
            Desired::Remove => seat.ending += 1,
        }
    }

    fn look(&mut self, at_ms: u64) {
        self.look_ms = self.look_ms.min(at_ms);
    }

    /// `true` if the deployment has gone back to an earlier release.
    fn run(mut self, context: &mut Context, strict: bool) -> Result<bool, Rejection> {
        let services = std::mem::take(&mut self.deployment.spec.services);
        self.end_unwanted(context, &services);
        for (name, service) in &services {
            self.tend_service(context, name, service, strict)?;
        }
        self.deployment.spec.services = services;
        let back = self.conclude(context);
        if self.changed {
            context.fund(&self.id);
            context.touch(self.id);
        }
        Ok(back)
    }

    fn end_unwanted(&mut self, context: &mut Context, services: &BTreeMap<String, ServiceSpec>) {
        for ((name, replica), seat) in std::mem::take(&mut self.seats) {
            let wanted = services.get(&name).map_or(0, |s| s.replicas);
            if replica <= wanted {
                self.seats.insert((name, replica), seat);
                continue;
            }
            for member in &seat.live {
                match services.contains_key(&name) {
                    true => self.drain(context, member),
                    false => self.end(context, member.id),
                }
            }
        }
    }

    fn tend_service(
        &mut self,
        context: &mut Context,
        name: &str,
        service: &ServiceSpec,
        strict: bool,
    ) -> Result<(), Rejection> {
        let policy = self.policy(service);
        let stateful = volumes(service).next().is_some();
        let mut spread = Spread::new(service);
        let (mut empty, mut old) = (Vec::new(), Vec::new());
        let mut moving = 0u32;
        let mut good_ms = 0u64;
        let mut tolerated = policy.failures_of(service.replicas);
        for replica in 1..=service.replicas {
            let mut seat = self
                .seats
                .remove(&(name.to_string(), replica))
                .unwrap_or_default();
            let idle = seat.live.is_empty() && seat.held.is_empty();
            if let (true, Some(back)) = (idle, seat.back.take()) {
                self.keep(context, back.id);
                seat.ending = seat.ending.saturating_sub(1);
                seat.live.push(back);
            }
            for member in &seat.live {
                spread.avoid(&context.state.index.fleet, member.host);
            }
            let fitting = || seat.live.iter().filter(|m| m.fits());
            let good = fitting().filter_map(|m| match m.verdict {
                Verdict::Good(since) => Some((m, since)),
                _ => None,
            });
            if let Some((best, since)) = good.max_by_key(|(m, _)| m.id) {
                if best.release == self.deployment.release {
                    good_ms = good_ms.max(since);
                }
                self.forget_tried((name, replica));
                for other in seat.live.iter().filter(|m| m.id != best.id) {
                    self.drain(context, other);
                }
            } else if fitting().count() == seat.live.len()
                && !strict
                && self.try_again(context, (name, replica), service, &seat.live)
            {
                empty.push(replica);
            } else if fitting().next().is_some() {
                let replaces = seat.ending > 0 || seat.live.len() > 1;
                let on_failure = match tolerated {
                    0 => policy.on_failure,
                    _ => UpdateFailure::Continue,
                };
                let failed = self.wait_for(context, name, replica, fitting(), on_failure);
                let ours = fitting().any(|m| m.release == self.deployment.release);
                let goes_on = failed && on_failure == UpdateFailure::Continue;
                tolerated -= u32::from(failed && tolerated > 0);
                moving += u32::from((ours || replaces) && !goes_on);
            } else if !seat.held.is_empty() {
                self.keep_one_place(context, &seat.held);
            } else if !seat.live.is_empty() {
                old.push((replica, seat.live));
            } else if seat.ending > 0 && (stateful || policy.order == UpdateOrder::StopFirst) {
                self.settled = false;
                moving += 1;
            } else {
                empty.push(replica);
            }
        }
        for replica in empty {
            self.try_place(context, (name, replica), service, &mut spread, strict)?;
            moving += 1;
        }
        for (replica, members) in old {
            let seat = (name, replica);
            let heard: Vec<&Member> = members.iter().filter(|m| m.heard).collect();
            let moved = heard.iter().all(|m| m.fresh);
            if stateful && moved {
                // Nothing has changed but that its host is silent or wants to be rid of it.
                let why = away_from_home(context, seat, &members[0].host).why;
                self.leave_unplaced(context, seat, why);
                continue;
            }
            if heard.is_empty() {
                self.try_place(context, seat, service, &mut spread, strict && !stateful)?;
                continue;
            }
            self.settled = false;
            let stuck = self
                .deployment
                .rollout
                .as_ref()
                .is_some_and(|r| r.stuck.is_some());
            if (policy.parallelism > 0 && moving >= policy.parallelism) || (stuck && !moved) {
                continue;
            }
            let next_ms = good_ms.saturating_add(policy.delay_ms.into());
            if good_ms > 0 && next_ms > context.env.time_ms {
                self.look(next_ms);
                continue;
            }
            moving += 1;
            let stop_first = stateful || (policy.order == UpdateOrder::StopFirst && !moved);
            if !stop_first {
                let placed = self.place(context, seat, service, &mut spread);
                let Err(none) = placed else { continue };
                if moved || !room_after(context, &heard, service) {
                    self.put_off(context, seat, none, strict)?;
                    continue;
                }
            } else if !room_after(context, &heard, service) {
                let host = heard[0].host;
                let none = away_from_home(context, seat, &host);
                self.put_off(context, seat, none, strict)?;
                continue;
            }
            // What takes its place fits once it has gone.
            for member in &members {
                self.end(context, member.id);
            }
        }
        Ok(())
    }

    /// A seat that was stopped while a successor stood by keeps one of its places, on a host that
    /// is there.
    fn keep_one_place(&mut self, context: &mut Context, held: &[Member]) {
        let Some(kept) = held.iter().filter(|m| m.heard).max_by_key(|m| m.id) else {
            return;
        };
        for other in held.iter().filter(|m| m.id != kept.id) {
            self.end(context, other.id);
        }
    }

    /// Nobody in the seat is good yet; `true` if one has failed.
    fn wait_for<'a>(
        &mut self,
        context: &Context,
        name: &str,
        replica: u32,
        members: impl Iterator<Item = &'a Member>,
        on_failure: UpdateFailure,
    ) -> bool {
        let mut failed = false;
        for member in members {
            let ours = member.release == self.deployment.release;
            match &member.verdict {
                Verdict::Good(_) => {}
                Verdict::Wait(until) => {
                    self.look(*until);
                    self.settled &= !ours;
                }
                Verdict::Failed(why) if ours && self.deployment.rollout.is_some() => {
                    failed = true;
                    if on_failure != UpdateFailure::Continue {
                        let host = context.state.hosts.get(&member.host);
                        let host = host.map_or("a host", |h| &h.name);
                        let why = format!("{name}.{replica} on {host}: {why}");
                        self.failing.get_or_insert((on_failure, why));
                    }
                }
                Verdict::Failed(_) => failed = true,
            }
        }
        failed
    }

    fn place(
        &mut self,
        context: &mut Context,
        seat: (&str, u32),
        service: &ServiceSpec,
        spread: &mut Spread,
    ) -> Result<(), Rejection> {
        let (id, homes) = (self.id, &mut self.homes);
        let release = self.deployment.release;
        let mut found = false;
        if let Some(tried) = self.tried.iter().find(|t| t.is_of(seat, release)) {
            let mut elsewhere = spread.clone();
            elsewhere.set_tried(&tried.hosts);
            found = place(context, &id, seat, service, &mut elsewhere, homes).is_ok();
            if found {
                elsewhere.set_tried(&[]);
                *spread = elsewhere;
            }
        }
        if !found {
            place(context, &id, seat, service, spread, homes)?;
        }
        self.settled = false;
        self.changed = true;
        Ok(())
    }

    fn try_place(
        &mut self,
        context: &mut Context,
        seat: (&str, u32),
        service: &ServiceSpec,
        spread: &mut Spread,
        strict: bool,
    ) -> Result<(), Rejection> {
        match self.place(context, seat, service, spread) {
            Ok(()) => Ok(()),
            Err(none) => self.put_off(context, seat, none, strict),
        }
    }

    /// Strictly, an error; else it is said and tried again.
    fn put_off(
        &mut self,
        context: &mut Context,
        seat: (&str, u32),
        none: Rejection,
        strict: bool,
    ) -> Result<(), Rejection> {
        if strict {
            return Err(none);
        }
        self.leave_unplaced(context, seat, none.why);
        Ok(())
    }

    fn leave_unplaced(&mut self, context: &mut Context, seat: (&str, u32), why: String) {
        let now = context.env.time_ms;
        self.settled = false;
        self.look(now + RETRY_MS);
        let before = self
            .deployment
            .unplaced
            .iter()
            .find(|u| u.service == seat.0 && u.replica == seat.1);
        let since_ms = before.map_or(now, |u| u.since_ms);
        if before.is_none() {
            context.emit(crate::Event::Deployment(Event::Unplaced {
                deployment: self.id,
                service: seat.0.into(),
                replica: seat.1,
                why: why.clone(),
            }));
        }
        self.unplaced.push(Unplaced {
            service: seat.0.into(),
            replica: seat.1,
            why,
            since_ms,
        });
    }

    /// Ends a replica gently if it serves, else at once.
    fn drain(&mut self, context: &mut Context, member: &Member) {
        let now = context.env.time_ms;
        let serves = |a: &Allocation| a.status.is_ready() && member.heard;
        if !context
            .state
            .allocations
            .get(&member.id)
            .is_some_and(serves)
        {
            return self.end(context, member.id);
        }
        if let Some(allocation) = context.state.set_desired(&member.id, Desired::Drain) {
            allocation.leave_ms = now + DRAIN_MS;
            allocation.drain_ms = now;
        }
        self.look(now + DRAIN_MS);
        self.say_it_leaves(context, member.id);
    }

    /// What drains serves again.
    fn keep(&mut self, context: &mut Context, id: AllocationId) {
        self.changed = true;
        if let Some(allocation) = context.state.set_desired(&id, Desired::Run) {
            (allocation.leave_ms, allocation.drain_ms) = (0, 0);
            let event = Event::AllocationStays {
                deployment: self.id,
                allocation: id,
                service: allocation.service.clone(),
                replica: allocation.replica,
            };
            context.emit(crate::Event::Deployment(event));
        }
    }

    fn end(&mut self, context: &mut Context, id: AllocationId) {
        let drained = context
            .state
            .allocations
            .get(&id)
            .is_some_and(|a| a.desired == Desired::Drain);
        if !drained {
            self.say_it_leaves(context, id);
        }
        retire_one(context, id);
        self.changed = true;
    }

    fn say_it_leaves(&mut self, context: &mut Context, id: AllocationId) {
        self.changed = true;
        if let Some(allocation) = context.state.allocations.get(&id) {
            let event = Event::AllocationLeaves {
                deployment: self.id,
                allocation: id,
                service: allocation.service.clone(),
                replica: allocation.replica,
            };
            context.emit(crate::Event::Deployment(event));
        }
    }

    /// What the look says of the release as a whole; `true` if it is undone.
    fn conclude(&mut self, context: &mut Context) -> bool {
        let id = self.id;
        let look = (self.look_ms < u64::MAX).then_some(self.look_ms);
        look_at(context, &id, look.unwrap_or(0));
        let unplaced = std::mem::take(&mut self.unplaced);
        if unplaced != self.deployment.unplaced
            && let Some(deployment) = context.state.deployments.get_mut(&id)
        {
            deployment.unplaced = unplaced;
        }
        let (mut tried, release) = (std::mem::take(&mut self.tried), self.deployment.release);
        let services = &self.deployment.spec.services;
        tried.retain(|t| {
            let wanted = services.get(&t.service).map_or(0, |s| s.replicas);
            t.release == release && t.replica <= wanted
        });
        if tried != self.deployment.tried
            && let Some(deployment) = context.state.deployments.get_mut(&id)
        {
            deployment.tried = tried;
        }
        let Some(mut rollout) = self.deployment.rollout.clone() else {
            return false;
        };
        let release = self.deployment.release;
        if let Some((on_failure, why)) = self.failing.take() {
            if on_failure == UpdateFailure::Rollback && !rollout.back {
                match self.go_back(context, &why) {
                    Ok(true) => return true,
                    Ok(false) => {}
                    Err(port) => tell_stuck(context, &id, release, &mut rollout, &port),
                }
            }
            if rollout.stuck.is_none() {
                tell_stuck(context, &id, release, &mut rollout, &why);
            }
        } else {
            rollout.stuck = None;
            if self.settled {
                self.restart_after(context);
                if let Some(deployment) = context.state.deployments.get_mut(&id) {
                    deployment.good = release;
                    deployment.rollout = None;
                }
                release::prune(context, &id);
                context.emit(crate::Event::Deployment(Event::ReleaseGood {
                    deployment: id,
                    release,
                }));
                return false;
            }
        }
        if self.deployment.rollout.as_ref() != Some(&rollout)
            && let Some(deployment) = context.state.deployments.get_mut(&id)
        {
            deployment.rollout = Some(rollout);
        }
        false
    }

    /// The release has come good: what wants to be started again after what it depends on was
    /// updated, and was not updated itself, is.
    fn restart_after(&mut self, context: &mut Context) {
        let (id, good) = (self.id, self.deployment.good);
        let since = context.state.releases_of(id).filter(|(n, _)| *n >= good);
        let specs: Vec<_> = since.map(|(_, release)| &release.spec).collect();
        let pairs = specs.windows(2);
        let changed = pairs.flat_map(|pair| changed_services(pair[0], pair[1]));
        let changed: BTreeSet<String> = changed.collect();
        if good > 0 && !changed.is_empty() {
            restart_dependents(context, &id, &changed);
            self.changed = true;
        }
    }

    /// Back to the last good release. `Ok(false)`: there is none.
    ///
    /// Errors: why it cannot be had.
    fn go_back(&self, context: &mut Context, why: &str) -> Result<bool, String> {
        let (id, from, to) = (self.id, self.deployment.release, self.deployment.good);
        let Some(known) = context.state.releases.get(&(id, to)) else {
            return Ok(false);
        };
        let spec = known.spec.clone();
        ports_are_free(context, &self.deployment.owner, Some(id), &spec)
            .map_err(|port| format!("{why}; release {to} cannot be had back, as {port}"))?;
        let why = why.to_string();
        let cause = Cause::RolledBack {
            to,
            why: why.clone(),
        };
        let release = begin_release(context, &id, spec, cause);
        set_back(context, &id, from, &why);
        context.emit(crate::Event::Deployment(Event::RolledBack {
            deployment: id,
            from,
            to,
            release,
            why,
        }));
        context.touch(id);
        Ok(true)
    }
}

fn tell_stuck(
    context: &mut Context,
    id: &DeploymentId,
    release: u32,
    rollout: &mut super::Rollout,
    why: &str,
) {
    rollout.stuck = Some(why.into());
    set_back(context, id, release, why);
    context.emit(crate::Event::Deployment(Event::ReleaseStuck {
        deployment: *id,
        release,
        why: why.into(),
    }));
}

fn set_back(context: &mut Context, id: &DeploymentId, release: u32, why: &str) {
    if let Some(deployment) = context.state.deployments.get_mut(id) {
        deployment.setback = Some(Setback {
            release,
            why: why.into(),
        });
    }
}

/// May the service be on the host of one of `members`, and is there room, once that one has
/// gone?
fn room_after(context: &Context, members: &[&Member], service: &ServiceSpec) -> bool {
    members.iter().any(|member| {
        let entry = context.state.index.fleet.get(&member.host);
        let constraints = &service.placement.constraints;
        if !entry.is_some_and(|e| scheduler::fulfils(&member.host, e, constraints)) {
            return false;
        }
        let host = context.state.hosts.get(&member.host);
        let old = context.state.allocations.get(&member.id);
        let free = host.zip(old).and_then(|(host, old)| {
            host.wants_work()
                .then(|| host.free.checked_add(&old.reserved))?
        });
        free.is_some_and(|free| service.resources.fits_in(&free))
    })
}

fn verdict(allocation: &Allocation, monitor_ms: u64, now: u64) -> Verdict {
    let status: &AllocationStatus = &allocation.status;
    let since = allocation.status_ms;
    if status.is_ready() {
        let good_ms = since.saturating_add(monitor_ms);
        return match good_ms <= now {
            true => Verdict::Good(since),
            false => Verdict::Wait(good_ms),
        };
    }
    let said = |what: String| match status.message.is_empty() {
        true => Verdict::Failed(what),
        false => Verdict::Failed(format!("{what}: {}", status.message)),
    };
    let code = status.exit_code.unwrap_or(-1);
    match status.state {
        RunState::Exited if status.exit_code == Some(0) => Verdict::Good(since),
        RunState::Exited if status.oom_killed => said("it ran out of memory".into()),
        RunState::Exited if status.exit_code.is_some() => said(format!("exited with code {code}")),
        RunState::Failed => said("could not be started".into()),
        RunState::Running if status.health == Health::Unhealthy => said("is unhealthy".into()),
        _ if status.restarts >= RESTARTS_MAX => {
            said(format!("was started {} times in vain", status.restarts + 1))
        }
        _ if allocation.placed_ms.saturating_add(PROGRESS_MS) <= now => {
            said("was not ready within ten minutes".into())
        }
        _ => Verdict::Wait(allocation.placed_ms.saturating_add(PROGRESS_MS)),
    }
}

#[cfg(test)]
mod tests;
