//! Deploy, remove, start, stop and restart: what an owner may ask of a project.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    AccountId, AllocationId, Amount, DeploymentId, DeploymentSpec, NetworkSpec, ServiceSpec,
};

use super::check::check;
use super::place::place_all;
use super::quote::{quote_lines, total_hour};
use super::{Call, Deployment, Event, Funding};
use crate::execute::Context;
use crate::funds::{START_MS, worst};
use crate::lease::{self, Desired};
use crate::state::published;
use crate::{RejectKind, Rejection, Tariff};

/// Allocations listed with a deployment, ended ones included.
const HISTORY_MAX: usize = 20_000;

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Deploy {
            spec,
            price_max_hour,
        } => {
            check(&spec, &context.state.globals.params)?;
            context.attempt(|context| deploy(context, sender, spec, price_max_hour))
        }
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
    for (protocol, port) in published(&spec) {
        let holder = context.state.index.ports.get(&(protocol, port)).copied();
        if let Some(holder) = holder.filter(|h| Some(*h) != existing) {
            let other = context.state.deployments.get(&holder);
            let whose = match other {
                Some(d) if d.owner == owner => format!("your project {}", d.spec.project),
                _ => "another account's project".into(),
            };
            return Err(Rejection::new(
                RejectKind::Conflict,
                what,
                format!("port {port}/{protocol} is published by {whose}"),
                "Publish another port, or none: every service is reachable by its domain.",
            ));
        }
    }
    let id = match existing {
        Some(id) => id,
        None => {
            context.state.globals.deployments += 1;
            DeploymentId(context.state.globals.deployments)
        }
    };
    let mut deployment = match context.state.deployments.get(&id) {
        Some(known) => known.clone(),
        None => Deployment {
            owner,
            label: label(context, &owner, &spec.project),
            spec: DeploymentSpec {
                project: spec.project.clone(),
                services: BTreeMap::new(),
                networks: BTreeMap::new(),
                volumes: BTreeMap::new(),
            },
            release: 0,
            created_ms: now,
            updated_ms: now,
            allocations: Vec::new(),
            ended: Vec::new(),
            removed: false,
            remove_volumes: false,
            escrow: Amount::ZERO,
            charged: Amount::ZERO,
            funding: Funding::Good,
            dry_ms: now,
            due_ms: now,
        },
    };
    if deployment.funding == Funding::Frozen {
        return Err(Rejection::new(
            RejectKind::Funds,
            what,
            "it is frozen for lack of funds",
            "See `runrig wallet balance`; top it up and it thaws by itself.",
        ));
    }
    if deployment.ended.len() + deployment.allocations.len() > HISTORY_MAX {
        return Err(Rejection::new(
            RejectKind::Invalid,
            what,
            format!("it has had {HISTORY_MAX} allocations, more than one bill may list"),
            "Remove it with `runrig down` and deploy it again.",
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
    keep_specs(context, &deployment, &changed);
    if existing.is_some() {
        context.state.index.unclaim(&deployment);
    }
    deployment.spec = spec;
    deployment.release = deployment.release.saturating_add(1);
    deployment.updated_ms = now;
    let release = deployment.release;
    context.state.index.claim(id, &deployment);
    context.state.index.by_owner.insert((owner, id));
    context.state.deployments.insert(id, deployment);
    context.emit(crate::Event::Deployment(Event::Deployed {
        deployment: id,
        owner,
        project: what.trim_start_matches("project ").into(),
        release,
        changed: changed.iter().cloned().collect(),
    }));

    retire(context, &id, &changed);
    wake(context, &id);
    place_all(context, &id)?;
    context.fund(&id);
    context.touch(id);
    Ok(())
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
    let networks = |spec: &DeploymentSpec, service: &ServiceSpec| -> Vec<NetworkSpec> {
        let named = service.networks.keys();
        named
            .map(|n| spec.networks.get(n).cloned().unwrap_or_default())
            .collect()
    };
    old.services
        .keys()
        .chain(new.services.keys())
        .filter(
            |name| match (old.services.get(*name), new.services.get(*name)) {
                (Some(a), Some(b)) => {
                    let b_like_a = ServiceSpec {
                        replicas: a.replicas,
                        ..b.clone()
                    };
                    *a != b_like_a || networks(old, a) != networks(new, b)
                }
                _ => true,
            },
        )
        .cloned()
        .collect()
}

/// Hosts end what a release drops by the spec it was started with.
fn keep_specs(context: &mut Context, old: &Deployment, changed: &BTreeSet<String>) {
    for id in &old.allocations {
        let Some(service) = context.state.allocations.get(id).map(|a| &a.service) else {
            continue;
        };
        if let Some(spec) = old.spec.services.get(service)
            && changed.contains(service)
            && context.state.retired.get(id).is_none()
        {
            context.state.retired.insert(*id, spec.clone());
        }
    }
}

/// What was stopped and is deployed again runs again.
fn wake(context: &mut Context, id: &DeploymentId) {
    let deployment = context.state.deployments.get(id);
    let all = deployment.map_or_else(Vec::new, |d| d.allocations.clone());
    for id in all {
        let stopped = context.state.allocations.get(&id);
        if stopped.is_some_and(|a| a.desired == Desired::Stop)
            && let Some(allocation) = context.state.allocations.get_mut(&id)
        {
            allocation.desired = Desired::Run;
        }
    }
}

/// Marks for removal what the release does not want any more.
fn retire(context: &mut Context, id: &DeploymentId, changed: &BTreeSet<String>) {
    let Some(deployment) = context.state.deployments.get(id) else {
        return;
    };
    let leaving: Vec<AllocationId> = deployment
        .allocations
        .iter()
        .filter(|a| {
            context.state.allocations.get(a).is_some_and(|a| {
                let replicas = deployment
                    .spec
                    .services
                    .get(&a.service)
                    .map_or(0, |s| s.replicas);
                a.desired != Desired::Remove
                    && (changed.contains(&a.service) || a.replica > replicas)
            })
        })
        .copied()
        .collect();
    for allocation in leaving {
        retire_one(context, allocation);
    }
}

fn retire_one(context: &mut Context, id: AllocationId) {
    let Some(allocation) = context.state.allocations.get_mut(&id) else {
        return;
    };
    allocation.desired = Desired::Remove;
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
    if let Some(deployment) = context.state.deployments.get_mut(&id) {
        deployment.removed = true;
        deployment.remove_volumes = volumes;
        deployment.updated_ms = context.env.time_ms;
        context.state.index.note_funding(id, deployment);
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
        if let Some(allocation) = context.state.allocations.get_mut(&allocation)
            && allocation.desired != Desired::Remove
        {
            allocation.desired = wanted;
        }
    }
    context.emit(crate::Event::Deployment(Event::SetRunning {
        deployment: id,
        service,
        running,
    }));
    context.fund(&id);
    context.touch(id);
    Ok(())
}

fn desired(context: &Context, id: &DeploymentId, running: bool) -> Desired {
    let frozen = context
        .state
        .deployments
        .get(id)
        .is_some_and(|d| d.funding == Funding::Frozen);
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
        if let Some(allocation) = context.state.allocations.get_mut(&allocation)
            && allocation.desired != Desired::Remove
        {
            allocation.desired = wanted;
            allocation.generation = allocation.generation.saturating_add(1);
        }
    }
    context.emit(crate::Event::Deployment(Event::Restarted {
        deployment: id,
        service,
    }));
    context.fund(&id);
    context.touch(id);
    Ok(())
}
