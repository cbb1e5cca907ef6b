//! Deploy, remove, start, stop and restart: what an owner may ask of a project.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    AccountId, AllocationId, Amount, DeploymentId, DeploymentSpec, NetworkSpec, ServiceSpec,
};

use super::check::check;
use super::quote::{quote_lines, total_hour};
use super::{Call, Cause, Deployment, Event, Funding, Release, Rollout, demand, release, seats};
use crate::execute::Context;
use crate::funds::{START_MS, worst};
use crate::lease::{self, Desired};
use crate::state::published;
use crate::{RejectKind, Rejection, Tariff, limit};

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Deploy {
            spec,
            price_max_hour,
        } => {
            check(&spec, &context.state.globals.params)?;
            context.attempt(|context| deploy(context, sender, spec, price_max_hour))
        }
        Call::Rollback {
            deployment,
            release,
        } => context.attempt(|context| roll_back(context, sender, deployment, release)),
        Call::Remove {
            deployment,
            volumes,
        } => remove(context, sender, deployment, volumes),
        Call::SetRunning {
            deployment,
            service,
            running,
        } => set_running(context, sender, deployment, service, running),
        Call::Restart {
            deployment,
            service,
        } => restart(context, sender, deployment, service),
        Call::ReportDemand { lines } => demand::report(context, sender, lines),
    }
}

fn deploy(
    context: &mut Context,
    owner: AccountId,
    spec: DeploymentSpec,
    price_max_hour: Option<Amount>,
) -> Result<(), Rejection> {
    let now = context.env.time_ms;
    let what = format!("project {}", spec.project);
    let existing = context.state.project(&owner, &spec.project);
    ports_are_free(context, &owner, existing, &spec).map_err(|why| {
        let next = "Publish another port, or none: every service is reachable by its domain.";
        Rejection::new(RejectKind::Conflict, what.clone(), why, next)
    })?;
    let id = match existing {
        Some(id) => id,
        None => {
            context.state.globals.deployments += 1;
            DeploymentId(context.state.globals.deployments)
        }
    };
    let deployment = match context.state.deployments.get(&id) {
        Some(known) => known.clone(),
        None => Deployment {
            owner,
            label: label(context, &owner, &spec.project),
            spec: DeploymentSpec {
                project: spec.project.clone(),
                services: BTreeMap::new(),
                networks: BTreeMap::new(),
                volumes: BTreeMap::new(),
                logs: Default::default(),
            },
            release: 0,
            good: 0,
            rollout: None,
            setback: None,
            unplaced: Vec::new(),
            tried: Vec::new(),
            created_ms: now,
            updated_ms: now,
            allocations: Vec::new(),
            ended: Vec::new(),
            earlier: BTreeMap::new(),
            removed: false,
            remove_volumes: false,
            escrow: Amount::ZERO,
            charged: Amount::ZERO,
            funding: Funding::Good,
            limited: false,
            dry_ms: now,
            due_ms: now,
            look_ms: 0,
        },
    };
    if deployment.limited {
        return Err(limit::refused(&context.state, &owner, what));
    }
    if deployment.funding == Funding::Frozen {
        return Err(Rejection::new(
            RejectKind::Funds,
            what,
            "it is frozen for lack of funds",
            "See `runrig wallet balance`; top it up and it thaws by itself.",
        ));
    }
    let funds = Amount(deployment.escrow.0 + context.state.account(&owner).spendable.0);
    check_price(
        &spec,
        &context.state.globals.params.tariff,
        price_max_hour,
        funds,
    )?;
    let changed = changed_services(&deployment.spec, &spec);
    context.state.index.by_owner.insert((owner, id));
    context.state.deployments.insert(id, deployment);
    let release = begin_release(context, &id, spec, Cause::Deployed);
    context.emit(crate::Event::Deployment(Event::Deployed {
        deployment: id,
        owner,
        project: what.trim_start_matches("project ").into(),
        release,
        changed: changed.into_iter().collect(),
    }));
    set_out(context, id)?;
    match limit::bears(context, &owner, &id) {
        true => Ok(()),
        false => Err(limit::refused(&context.state, &owner, what)),
    }
}

/// Begins to bring the latest release about.
///
/// Errors: `NoHost`, as [`seats::fill`].
fn set_out(context: &mut Context, id: DeploymentId) -> Result<(), Rejection> {
    wake(context, &id);
    seats::fill(context, &id)?;
    context.fund(&id);
    context.touch(id);
    Ok(())
}

/// Makes `spec` what the deployment shall be; its number.
pub(super) fn begin_release(
    context: &mut Context,
    id: &DeploymentId,
    spec: DeploymentSpec,
    cause: Cause,
) -> u32 {
    let now = context.env.time_ms;
    let Some(mut deployment) = context.state.deployments.get(id).cloned() else {
        return 0;
    };
    if deployment.release > 0 {
        context.state.index.unclaim(&deployment);
    }
    let old = std::mem::replace(&mut deployment.spec, spec.clone());
    let back = matches!(&cause, Cause::RolledBack { why, .. } if !why.is_empty());
    deployment.release = deployment.release.saturating_add(1);
    deployment.updated_ms = now;
    deployment.rollout = Some(Rollout {
        since_ms: now,
        back,
        stuck: None,
    });
    let number = deployment.release;
    context.state.index.claim(*id, &deployment);
    context.state.deployments.insert(*id, deployment);
    let release = Release {
        spec,
        made_ms: now,
        cause,
    };
    context.state.releases.insert((*id, number), release);
    release::prune(context, id);
    demand::begin(context, id, &old);
    number
}

/// Errors: which port is published by whom.
pub(super) fn ports_are_free(
    context: &Context,
    owner: &AccountId,
    id: Option<DeploymentId>,
    spec: &DeploymentSpec,
) -> Result<(), String> {
    for (protocol, port) in published(spec) {
        let holder = context.state.index.ports.get(&(protocol, port)).copied();
        if let Some(holder) = holder.filter(|h| Some(*h) != id) {
            let whose = match context.state.deployments.get(&holder) {
                Some(d) if d.owner == *owner => format!("your project {}", d.spec.project),
                _ => "another account's project".into(),
            };
            return Err(format!("port {port}/{protocol} is published by {whose}"));
        }
    }
    Ok(())
}

fn roll_back(
    context: &mut Context,
    sender: AccountId,
    id: DeploymentId,
    release: Option<u32>,
) -> Result<(), Rejection> {
    owned(context, &sender, &id, None)?;
    let latest = context.state.deployments.get(&id).map_or(0, |d| d.release);
    let reject = |why: String| {
        let next = "See `runrig releases`.";
        Err(Rejection::new(
            RejectKind::NotFound,
            format!("deployment {id}"),
            why,
            next,
        ))
    };
    let to = match release {
        Some(to) => to,
        None => {
            let good = context.state.deployments.get(&id).map_or(0, |d| d.good);
            let mut earlier = context.state.releases_of(id).map(|(n, _)| n);
            let before = earlier.rfind(|n| *n < latest);
            match (good > 0 && good < latest).then_some(good).or(before) {
                Some(to) => to,
                None => return reject("it has no earlier release".into()),
            }
        }
    };
    let Some(known) = context.state.releases.get(&(id, to)) else {
        return reject(format!("release {to} is not kept"));
    };
    let spec = known.spec.clone();
    ports_are_free(context, &sender, Some(id), &spec).map_err(|why| {
        let next = "Remove what publishes it, or deploy with another port.";
        Rejection::new(RejectKind::Conflict, format!("deployment {id}"), why, next)
    })?;
    let cause = Cause::RolledBack {
        to,
        why: String::new(),
    };
    let number = begin_release(context, &id, spec, cause);
    context.emit(crate::Event::Deployment(Event::RolledBack {
        deployment: id,
        from: latest,
        to,
        release: number,
        why: String::new(),
    }));
    set_out(context, id)
}

/// Before anything is placed: who cannot pay is told so at once.
fn check_price(
    spec: &DeploymentSpec,
    tariff: &Tariff,
    price_max_hour: Option<Amount>,
    funds: Amount,
) -> Result<(), Rejection> {
    let reject = |why, next| {
        let what = format!("project {}", spec.project);
        Err(Rejection::new(RejectKind::Funds, what, why, next))
    };
    let hour = total_hour(&quote_lines(spec, tariff));
    if let Some(max) = price_max_hour.filter(|max| hour > *max) {
        return reject(
            format!("it costs {hour} credits an hour, your limit is {max}"),
            "Ask for less or raise the limit.",
        );
    }
    let needed = spec.services.values().fold(0u128, |sum, service| {
        let one = worst(&service.resources, tariff, START_MS, false);
        sum.saturating_add(one.0.saturating_mul(service.replicas.into()))
    });
    if funds.0 < needed {
        return reject(
            format!(
                "five minutes cost up to {} credits, {funds} are there",
                Amount(needed)
            ),
            "See `runrig wallet balance`; top it up, or ask for less.",
        );
    }
    Ok(())
}

pub(super) fn gone(id: &DeploymentId) -> Rejection {
    Rejection::new(
        RejectKind::NotFound,
        format!("deployment {id}"),
        "there is none",
        "See `runrig ps -a`.",
    )
}

/// First part of the domain: the project's name while nobody else has it.
fn label(context: &Context, owner: &AccountId, project: &str) -> String {
    let name = project.replace(['_', '.'], "-");
    let taken = |label: &String| context.state.index.labels.contains_key(label);
    [
        name.clone(),
        format!("{name}-{}", owner.short()),
        format!("{name}-{}", &owner.to_string()[..16]),
    ]
    .into_iter()
    .find(|l| !taken(l))
    .unwrap_or_else(|| {
        let mut labels = (1u64..).map(|n| format!("{name}-{n}"));
        labels.find(|l| !taken(l)).unwrap_or(name)
    })
}

/// Services whose containers must be made anew; added and removed ones too.
pub(super) fn changed_services(old: &DeploymentSpec, new: &DeploymentSpec) -> BTreeSet<String> {
    old.services
        .keys()
        .chain(new.services.keys())
        .filter(|name| !same_service(old, new, name))
        .cloned()
        .collect()
}

/// Would a container of the one do as a container of the other?
pub(super) fn same_service(old: &DeploymentSpec, new: &DeploymentSpec, name: &str) -> bool {
    let (Some(a), Some(b)) = (old.services.get(name), new.services.get(name)) else {
        return false;
    };
    let networks = |spec: &DeploymentSpec, service: &ServiceSpec| -> Vec<NetworkSpec> {
        let named = service.networks.keys();
        named
            .map(|n| spec.networks.get(n).cloned().unwrap_or_default())
            .collect()
    };
    let b_like_a = ServiceSpec {
        replicas: a.replicas,
        autoscale: a.autoscale,
        update: a.update,
        rollback: a.rollback,
        restart_with: a.restart_with.clone(),
        ..b.clone()
    };
    *a == b_like_a && networks(old, a) == networks(new, b)
}

/// What was stopped and is deployed again runs again, unless the release changed it.
fn wake(context: &mut Context, id: &DeploymentId) {
    let Some(deployment) = context.state.deployments.get(id) else {
        return;
    };
    let stopped: Vec<AllocationId> = deployment
        .allocations
        .iter()
        .filter(|a| {
            context.state.allocations.get(a).is_some_and(|a| {
                let release = context.state.releases.get(&(*id, a.release));
                a.desired == Desired::Stop
                    && release.is_some_and(|r| same_service(&r.spec, &deployment.spec, &a.service))
            })
        })
        .copied()
        .collect();
    let wanted = desired(context, id, true);
    for id in stopped {
        context.state.set_desired(&id, wanted);
    }
}

/// Marks an allocation for removal; where its host is silent, the lease ends at once.
pub(crate) fn retire_one(context: &mut Context, id: AllocationId) {
    let Some(allocation) = context.state.set_desired(&id, Desired::Remove) else {
        return;
    };
    allocation.leave_ms = 0;
    let host = allocation.host;
    context.touch_host(host);
    if context.state.hosts.get(&host).is_none_or(|h| !h.online) {
        lease::close(context, id);
    }
}

fn owned(
    context: &Context,
    sender: &AccountId,
    id: &DeploymentId,
    service: Option<&String>,
) -> Result<Vec<AllocationId>, Rejection> {
    let deployment = context.state.deployments.get(id).ok_or_else(|| gone(id))?;
    let what = format!("deployment {id}");
    if deployment.owner != *sender {
        return Err(Rejection::new(
            RejectKind::Forbidden,
            what,
            "it belongs to another account",
            "Choose the owner's context with `runrig context use`.",
        ));
    }
    if deployment.removed {
        return Err(Rejection::new(
            RejectKind::Conflict,
            what,
            "it is removed",
            "Deploy it again with `runrig up`.",
        ));
    }
    if let Some(service) = service.filter(|s| !deployment.spec.services.contains_key(*s)) {
        return Err(Rejection::new(
            RejectKind::NotFound,
            what,
            format!("it has no service {service}"),
            "See `runrig ps`.",
        ));
    }
    Ok(deployment
        .allocations
        .iter()
        .filter(|a| {
            context
                .state
                .allocations
                .get(a)
                .is_some_and(|a| service.is_none_or(|s| a.service == *s))
        })
        .copied()
        .collect())
}

fn remove(
    context: &mut Context,
    sender: AccountId,
    id: DeploymentId,
    volumes: bool,
) -> Result<(), Rejection> {
    let allocations = owned(context, &sender, &id, None)?;
    if let Some(deployment) = context.state.deployments.get(&id).cloned() {
        context.state.index.unclaim(&deployment);
    }
    seats::look_no_more(context, &id);
    demand::end(context, &id);
    if let Some(deployment) = context.state.deployments.get_mut(&id) {
        deployment.removed = true;
        deployment.unplaced.clear();
        deployment.rollout = None;
        deployment.remove_volumes = volumes;
        deployment.updated_ms = context.env.time_ms;
        context.state.index.note_funding(id, deployment);
        context.state.index.note_weighed(id, deployment);
    }
    context.touch(id);
    context.emit(crate::Event::Deployment(Event::Removed { deployment: id }));
    let nothing_placed = allocations.is_empty();
    for allocation in allocations {
        retire_one(context, allocation);
    }
    if nothing_placed {
        close_if_ended(context, &id);
    }
    Ok(())
}

/// All leases of a removed deployment have ended: what is left of the escrow goes back.
pub(crate) fn close_if_ended(context: &mut Context, id: &DeploymentId) {
    let Some(deployment) = context.state.deployments.get(id) else {
        return;
    };
    if !deployment.removed || !deployment.allocations.is_empty() {
        return;
    }
    let (owner, escrow) = (deployment.owner, deployment.escrow);
    let refund = context.draw(id, escrow);
    context.credit(owner, refund);
    context.state.index.clear_due(id);
    context.emit(crate::Event::Deployment(Event::Closed {
        deployment: *id,
        refund,
    }));
    context.thaw(&owner);
}

fn set_running(
    context: &mut Context,
    sender: AccountId,
    id: DeploymentId,
    service: Option<String>,
    running: bool,
) -> Result<(), Rejection> {
    let allocations = owned(context, &sender, &id, service.as_ref())?;
    let wanted = desired(context, &id, running);
    for allocation in allocations {
        if stays(context, &allocation) {
            context.state.set_desired(&allocation, wanted);
        }
    }
    demand::hold(context, &id, service.as_ref(), !running);
    context.emit(crate::Event::Deployment(Event::SetRunning {
        deployment: id,
        service,
        running,
    }));
    context.fund(&id);
    context.touch(id);
    Ok(())
}

/// It is not on its way out.
fn stays(context: &Context, id: &AllocationId) -> bool {
    let known = context.state.allocations.get(id);
    known.is_some_and(|a| !matches!(a.desired, Desired::Remove | Desired::Drain))
}

fn desired(context: &Context, id: &DeploymentId, running: bool) -> Desired {
    let frozen = context
        .state
        .deployments
        .get(id)
        .is_some_and(Deployment::is_frozen);
    match (running, frozen) {
        (false, _) => Desired::Stop,
        (true, true) => Desired::Freeze,
        (true, false) => Desired::Run,
    }
}

fn restart(
    context: &mut Context,
    sender: AccountId,
    id: DeploymentId,
    service: Option<String>,
) -> Result<(), Rejection> {
    let allocations = owned(context, &sender, &id, service.as_ref())?;
    let wanted = desired(context, &id, true);
    for allocation in allocations {
        if stays(context, &allocation)
            && let Some(allocation) = context.state.set_desired(&allocation, wanted)
        {
            allocation.generation = allocation.generation.saturating_add(1);
        }
    }
    demand::hold(context, &id, service.as_ref(), false);
    context.emit(crate::Event::Deployment(Event::Restarted {
        deployment: id,
        service: service.clone(),
    }));
    if let Some(service) = service {
        restart_dependents(context, &id, &[service].into());
    }
    context.fund(&id);
    context.touch(id);
    Ok(())
}

/// Starts anew, where they run, the services that want it when one of `causes` was restarted or
/// updated; none of `causes` themselves.
pub(super) fn restart_dependents(
    context: &mut Context,
    id: &DeploymentId,
    causes: &BTreeSet<String>,
) {
    let Some(deployment) = context.state.deployments.get(id) else {
        return;
    };
    let mut found = causes.clone();
    // Each round finds one more at least, so there are no more of them than services.
    loop {
        let services = deployment.spec.services.iter();
        let mut more = services.filter(|(name, service)| {
            !found.contains(*name) && service.restart_with.iter().any(|of| found.contains(of))
        });
        match more.next().map(|(name, _)| name.clone()) {
            Some(name) => found.insert(name),
            None => break,
        };
    }
    let allocations = deployment.allocations.clone();
    for service in found.difference(causes) {
        for allocation in &allocations {
            if let Some(allocation) = context.state.allocations.get_mut(allocation)
                && allocation.service == *service
                && allocation.desired == Desired::Run
            {
                allocation.generation = allocation.generation.saturating_add(1);
            }
        }
        context.emit(crate::Event::Deployment(Event::Restarted {
            deployment: *id,
            service: Some(service.clone()),
        }));
    }
}
