//! Take in what gateways and hosts say of the load of autoscaled services, and have as many
//! replicas as [`super::scale`] says.

use std::collections::BTreeMap;

use types::{
    AccountId, AllocationId, AutoscaleSpec, DeploymentId, DeploymentSpec, ScaleTarget, ServiceSpec,
};

use super::apply::same_service;
use super::call::DemandLine;
use super::scale::{Demand, Load, Scale, decide};
use super::{Deployment, Event};
use crate::execute::Context;
use crate::funds::{START_MS, worst};
use crate::lease::{Allocation, Desired};
use crate::state::State;
use crate::{RejectKind, Rejection};

const LINES_MAX: usize = 1_000;
/// Replicas with something under way, over all lines of a report.
const OPEN_MAX: usize = 10_000;
/// A gateway that has said nothing for so long has no connections any more.
const GATEWAY_LOST_MS: u64 = 300_000;
/// Figures are good for so many report intervals.
const FRESH_INTERVALS: u64 = 3;
/// A replica on its way out is left to those who are connected to it at most so long.
const DRAIN_MAX_MS: u64 = 600_000;
/// A gateway has heard of a change by then.
const HEARD_MS: u64 = 1_000;

/// What a gateway sees asked of services. Lines of services that are gone, or that do not go
/// by it, are passed over: they changed meanwhile.
pub(super) fn report(
    context: &mut Context,
    gateway: AccountId,
    lines: Vec<DemandLine>,
) -> Result<(), Rejection> {
    let reject =
        |kind, why: String, next: &str| Err(Rejection::new(kind, "report of demand", why, next));
    if !context.state.globals.params.gateways.contains(&gateway) {
        let next = "Run the gateway with the key of one that `runrig chain params` names.";
        let why = format!("{gateway} is no gateway of this network");
        return reject(RejectKind::Forbidden, why, next);
    }
    let open: usize = lines.iter().map(|l| l.open.len()).sum();
    if lines.len() > LINES_MAX || open > OPEN_MAX {
        let why = format!("{} lines with {open} replicas are too many", lines.len());
        return reject(RejectKind::Invalid, why, "Report in several parts.");
    }
    let now = context.env.time_ms;
    context.state.globals.gateways.insert(gateway, now);
    for line in lines {
        let key = (line.deployment, line.service);
        let Some(scale) = context.state.scales.get_mut(&key) else {
            continue;
        };
        let demand = Demand {
            at_ms: now,
            under_way_milli: line.under_way_milli.into(),
            per_second_milli: line.per_second_milli.into(),
            waiting: line.waiting,
            open: line.open.into_iter().filter(|(_, n)| *n > 0).collect(),
        };
        scale.demand.insert(gateway, demand);
        weigh_service(context, &key.0, &key.1);
    }
    Ok(())
}

/// Looks at the autoscaled services of a deployment anew, after figures have come.
pub(crate) fn weigh(context: &mut Context, id: &DeploymentId) {
    for name in names(&context.state, id) {
        weigh_service(context, id, &name);
    }
}

fn weigh_service(context: &mut Context, id: &DeploymentId, name: &String) {
    let key = (*id, name.clone());
    let state = &context.state;
    let (Some(deployment), Some(scale)) = (state.deployments.get(id), state.scales.get(&key))
    else {
        return;
    };
    let service = deployment.spec.services.get(name);
    let Some((service, spec)) = service.and_then(|s| Some((s, s.autoscale?))) else {
        return;
    };
    if deployment.removed || scale.stopped || deployment.is_frozen() {
        return;
    }
    let now = context.env.time_ms;
    let load = load(state, deployment, name, &spec, scale, now);
    let rollout = deployment.rollout.as_ref();
    let steady = rollout.is_none_or(|r| r.stuck.is_some());
    let (wanted, calm) = decide(&spec, scale, &load, steady, now);
    let from = scale.wanted;
    let poor = from == 0 && wanted > 0 && !is_paid_for(state, deployment, service);
    let why = match () {
        () if poor => "not started: its owner's funds do not last for five minutes".into(),
        () if wanted == from => scale.why.clone(),
        () => words(&spec, &load, from, wanted),
    };
    let wanted = if poor { 0 } else { wanted };
    if (wanted, calm, &why) == (from, scale.calm, &scale.why) {
        return;
    }
    if let Some(scale) = context.state.scales.get_mut(&key) {
        scale.calm = calm;
        scale.why.clone_from(&why);
        if wanted != from {
            scale.wanted = wanted;
            scale.changed_ms = now;
        }
    }
    if poor {
        // Whoever asks is told why.
        context.touch_routes();
    }
    if wanted != from {
        context.emit(crate::Event::Deployment(Event::Scaled {
            deployment: *id,
            service: name.clone(),
            from,
            to: wanted,
            why,
        }));
        context.touch(*id);
    }
}

/// Five minutes of one replica at the worst case.
fn is_paid_for(state: &State, deployment: &Deployment, service: &ServiceSpec) -> bool {
    let tariff = &state.globals.params.tariff;
    let needed = worst(&service.resources, tariff, START_MS, false);
    let purse = state.account(&deployment.owner).spendable;
    deployment.escrow.0.saturating_add(purse.0) >= needed.0
}

fn load(
    state: &State,
    deployment: &Deployment,
    name: &str,
    spec: &AutoscaleSpec,
    scale: &Scale,
    now: u64,
) -> Load {
    let intervals = state.globals.params.report_interval_ms;
    let fresh_ms = now.saturating_sub(intervals.saturating_mul(FRESH_INTERVALS));
    let (known, all_known) = known_demand(state, scale, fresh_ms, now);
    let asked = |of: fn(&Demand) -> u64, each: u32| -> (u64, Option<u32>) {
        let sum = known.iter().map(|d| of(d)).fold(0, u64::saturating_add);
        (sum / u64::from(each.max(1)), all_known.then_some(0))
    };
    let (carried_milli, unknown) = match spec.target {
        ScaleTarget::Cpu(percent) => cpu(state, deployment, name, percent, fresh_ms),
        ScaleTarget::Requests(each) => asked(|d| d.under_way_milli, each),
        ScaleTarget::RequestsPerSecond(each) => asked(|d| d.per_second_milli, each),
    };
    Load {
        carried_milli,
        unknown,
        idle: all_known && known.iter().all(|d| d.is_none()),
        waits: known.iter().any(|d| d.waiting > 0),
    }
}

/// Fresh words of gateways, and whether each gateway that serves has said one.
fn known_demand<'a>(
    state: &State,
    scale: &'a Scale,
    fresh_ms: u64,
    now: u64,
) -> (Vec<&'a Demand>, bool) {
    let fresh = scale.demand.iter().filter(|(_, d)| d.at_ms >= fresh_ms);
    let fresh: BTreeMap<&AccountId, &Demand> = fresh.collect();
    let mut serving = gateways(state, now).peekable();
    let all = serving.peek().is_some() && serving.all(|gateway| fresh.contains_key(gateway));
    (fresh.into_values().collect(), all)
}

/// Gateways that serve.
fn gateways(state: &State, now: u64) -> impl Iterator<Item = &AccountId> {
    let heard = state.globals.gateways.iter();
    heard
        .filter(move |(_, at)| at.saturating_add(GATEWAY_LOST_MS) >= now)
        .map(|(gateway, _)| gateway)
}

/// What the replicas carry, by the usage that their hosts reported; and of how many nothing is
/// known.
fn cpu(
    state: &State,
    deployment: &Deployment,
    name: &str,
    percent: u32,
    fresh_ms: u64,
) -> (u64, Option<u32>) {
    let (mut carried, mut unknown) = (0u64, 0u32);
    let all = deployment.allocations.iter();
    let own = |a: &&Allocation| a.service == name && a.desired == Desired::Run;
    for allocation in all.filter_map(|a| state.allocations.get(a)).filter(own) {
        let heard = state.hosts.get(&allocation.host).is_some_and(|h| h.online);
        let fresh = allocation.cpu_ms >= fresh_ms && allocation.status.is_ready();
        if !heard || !fresh {
            unknown = unknown.saturating_add(1);
            continue;
        }
        let target = u64::from(allocation.reserved.cpu_millis).saturating_mul(percent.into());
        let used = u64::from(allocation.cpu_millis).saturating_mul(100 * 1_000);
        carried = carried.saturating_add(used / target.max(1));
    }
    (carried, Some(unknown))
}

/// Thousandths as a number with one decimal.
fn decimal(milli: u64) -> String {
    let tenths = milli.saturating_add(50) / 100;
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        tenth => format!("{}.{tenth}", tenths / 10),
    }
}

/// Why there are `to` replicas and no longer `from`.
fn words(spec: &AutoscaleSpec, load: &Load, from: u32, to: u32) -> String {
    let seconds = spec.idle_ms / 1_000;
    let asked = |each: u32| decimal(load.carried_milli.saturating_mul(each.into()));
    match (from, to, spec.target) {
        (0, ..) => "a request came".into(),
        (_, 0, _) => format!("nobody asked for anything for {seconds} s"),
        _ if to < from => format!("{to} would have been enough for {seconds} s"),
        (.., ScaleTarget::Cpu(percent)) => format!(
            "they used {}% of a replica's cores together, {percent}% are to be used of each",
            load.carried_milli.saturating_mul(percent.into()) / 1_000
        ),
        (.., ScaleTarget::Requests(each)) => format!(
            "{} requests under way at once, {each} are for each replica",
            asked(each)
        ),
        (.., ScaleTarget::RequestsPerSecond(each)) => format!(
            "{} requests a second, {each} are for each replica",
            asked(each)
        ),
    }
}

/// Each autoscaled service of a new release has its number: the one that it had, within the
/// new bounds. One that sleeps and has changed starts a replica, so that it is seen whether
/// the release is good.
pub(super) fn begin(context: &mut Context, id: &DeploymentId, old: &DeploymentSpec) {
    let Some(deployment) = context.state.deployments.get(id) else {
        return;
    };
    let new = deployment.spec.clone();
    let before: BTreeMap<String, Scale> = context
        .state
        .scales_of(*id)
        .map(|(name, scale)| (name.clone(), scale.clone()))
        .collect();
    let spec = |name: &String| new.services.get(name).and_then(|s| s.autoscale);
    for name in before.keys().filter(|name| spec(name).is_none()) {
        context.state.scales.remove(&(*id, name.clone()));
    }
    for (name, service) in &new.services {
        let Some(spec) = service.autoscale else {
            continue;
        };
        let mut scale = before.get(name).cloned().unwrap_or_else(|| Scale {
            wanted: service.replicas,
            changed_ms: context.env.time_ms,
            why: "as it was deployed".into(),
            stopped: false,
            calm: None,
            demand: BTreeMap::new(),
        });
        let least = match same_service(old, &new, name) {
            true => spec.min,
            false => spec.min.max(1),
        };
        let wanted = scale.wanted.max(least).min(spec.max);
        if wanted != scale.wanted {
            scale.why = "as it was deployed".into();
            scale.changed_ms = context.env.time_ms;
        }
        (scale.wanted, scale.calm, scale.stopped) = (wanted, None, false);
        context.state.scales.insert((*id, name.clone()), scale);
    }
}

/// Its owner stops or starts a service, or all of them.
pub(super) fn hold(
    context: &mut Context,
    id: &DeploymentId,
    service: Option<&String>,
    stopped: bool,
) {
    for name in names(&context.state, id) {
        if service.is_none_or(|s| *s == name)
            && let Some(scale) = context.state.scales.get_mut(&(*id, name))
        {
            scale.stopped = stopped;
            scale.calm = None;
        }
    }
}

fn names(state: &State, id: &DeploymentId) -> Vec<String> {
    state.scales_of(*id).map(|(name, _)| name.clone()).collect()
}

/// A removed deployment has no numbers.
pub(super) fn end(context: &mut Context, id: &DeploymentId) {
    for name in names(&context.state, id) {
        context.state.scales.remove(&(*id, name));
    }
}

/// Somebody may still be connected to a replica that is on its way out: a gateway says so, or
/// has not said yet that nobody is. Only where gateways report, and for ten minutes at most.
pub(super) fn is_in_use(state: &State, id: AllocationId, now: u64) -> bool {
    let Some(allocation) = state.allocations.get(&id) else {
        return false;
    };
    let key = (allocation.deployment, allocation.service.clone());
    let Some(scale) = state.scales.get(&key) else {
        return false;
    };
    if allocation.drain_ms.saturating_add(DRAIN_MAX_MS) <= now {
        return false;
    }
    gateways(state, now).any(|gateway| match scale.demand.get(gateway) {
        Some(demand) if demand.at_ms >= allocation.drain_ms.saturating_add(HEARD_MS) => {
            demand.open.contains_key(&id)
        }
        _ => true,
    })
}

impl State {
    /// Where the autoscaled services of a deployment stand, by name.
    pub fn scales_of(&self, id: DeploymentId) -> impl Iterator<Item = (&String, &Scale)> {
        self.scales
            .range((id, String::new())..)
            .take_while(move |((of, _), _)| *of == id)
            .map(|((_, name), scale)| (name, scale))
    }

    /// Replicas that a service shall have now.
    pub fn wanted(&self, id: DeploymentId, name: &str, service: &ServiceSpec) -> u32 {
        let scale = service.autoscale.and(self.scales.get(&(id, name.into())));
        scale.map_or(service.replicas, |scale| scale.wanted)
    }
}
