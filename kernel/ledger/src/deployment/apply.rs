use std::collections::{BTreeMap, BTreeSet};

use scheduler::Request;
use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentId, DeploymentSpec, HostId,
    MountSource, NetworkSpec, ServiceSpec, Usage,
};

use super::check::check;
use super::{Call, Deployment, Event, Funding};
use crate::execute::Context;
use crate::funds::START_MS;
use crate::lease::{self, Allocation, Desired};
use crate::state::published;
use crate::{RejectKind, Rejection};

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Deploy {
            spec,
            price_max_hour,
        } => {
            check(&spec, &context.state.globals.params)?;
            let (before, events) = (context.state.clone(), context.events.len());
            deploy(context, sender, spec, price_max_hour).inspect_err(|_| {
                context.state = before;
                context.events.truncate(events);
            })
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
            "Top up with `runrig wallet topup`; it then thaws by itself.",
        ));
    }
    let changed = changed_services(&deployment.spec, &spec);
    if existing.is_some() {
        context.state.index.unclaim(&deployment);
    }
    deployment.spec = spec;
    deployment.release += 1;
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
    place_all(context, &id)?;

    let state = &context.state;
    let deployment = state.deployments.get(&id).ok_or_else(|| gone(&id))?;
    let hour = state.burn_hour(deployment);
    if let Some(max) = price_max_hour.filter(|max| hour > *max) {
        return Err(Rejection::new(
            RejectKind::Funds,
            what,
            format!("it costs up to {hour} credits an hour, your limit is {max}"),
            "Ask for less or raise the limit.",
        ));
    }
    let needed = Amount(hour.0.saturating_mul(START_MS.into()) / 3_600_000);
    let funds = deployment.escrow.0 + state.account(&owner).spendable.0;
    if funds < needed.0 {
        return Err(Rejection::new(
            RejectKind::Funds,
            what,
            format!(
                "five minutes cost up to {needed} credits, {} are there",
                Amount(funds)
            ),
            "Top up with `runrig wallet topup`, or ask for less.",
        ));
    }
    context.fund(&id);
    context.state.bump(&id);
    Ok(())
}

fn gone(id: &DeploymentId) -> Rejection {
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
        format!("{name}-{owner}"),
    ]
    .into_iter()
    .find(|l| !taken(l))
    .unwrap_or_else(|| format!("{name}-{}", context.state.globals.deployments))
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
    context.state.bump_host(&host);
    if context.state.hosts.get(&host).is_none_or(|h| !h.online) {
        lease::close(context, id);
    }
}

/// Places every replica that the release wants and that is not there.
fn place_all(context: &mut Context, id: &DeploymentId) -> Result<(), Rejection> {
    let Some(deployment) = context.state.deployments.get(id).cloned() else {
        return Err(gone(id));
    };
    for (name, service) in &deployment.spec.services {
        for replica in 1..=service.replicas {
            let there = context.state.deployments.get(id).is_some_and(|d| {
                d.allocations.iter().any(|a| {
                    context.state.allocations.get(a).is_some_and(|a| {
                        a.service == *name && a.replica == replica && a.desired != Desired::Remove
                    })
                })
            });
            if !there {
                place(context, id, &deployment, name, service, replica)?;
            }
        }
    }
    Ok(())
}

/// Host that holds the volumes of this replica.
fn volume_host(
    context: &Context,
    id: &DeploymentId,
    name: &str,
    service: &ServiceSpec,
    replica: u32,
) -> Option<HostId> {
    let volumes: BTreeSet<&str> = named_volumes(service).collect();
    if volumes.is_empty() {
        return None;
    }
    let deployment = context.state.deployments.get(id)?;
    let all = || {
        deployment
            .allocations
            .iter()
            .rev()
            .chain(deployment.ended.iter().rev())
            .filter_map(|a| context.state.allocations.get(a))
    };
    all()
        .find(|a| a.service == name && a.replica == replica)
        .or_else(|| {
            all().find(|a| {
                deployment
                    .spec
                    .services
                    .get(&a.service)
                    .is_some_and(|s| named_volumes(s).any(|v| volumes.contains(v)))
            })
        })
        .map(|a| a.host)
}

fn named_volumes(service: &ServiceSpec) -> impl Iterator<Item = &str> {
    service.mounts.iter().filter_map(|m| match &m.source {
        MountSource::Volume(name) => Some(name.as_str()),
        _ => None,
    })
}

fn place(
    context: &mut Context,
    id: &DeploymentId,
    deployment: &Deployment,
    name: &str,
    service: &ServiceSpec,
    replica: u32,
) -> Result<(), Rejection> {
    let height = context.env.height;
    let siblings: Vec<HostId> = context
        .state
        .deployments
        .get(id)
        .into_iter()
        .flat_map(|d| &d.allocations)
        .filter_map(|a| context.state.allocations.get(a))
        .filter(|a| a.service == name && a.desired != Desired::Remove)
        .map(|a| a.host)
        .collect();
    let owners = siblings
        .iter()
        .filter_map(|h| Some(context.state.hosts.get(h)?.owner))
        .collect();
    let strict = Request {
        resources: service.resources,
        architecture: None,
        avoid_hosts: siblings.into_iter().collect(),
        avoid_owners: owners,
        prefer: volume_host(context, id, name, service, replica),
    };
    let owners_relaxed = Request {
        avoid_owners: BTreeSet::new(),
        ..strict.clone()
    };
    let hosts_relaxed = Request {
        avoid_hosts: BTreeSet::new(),
        ..owners_relaxed.clone()
    };
    let fleet = &context.state.index.fleet;
    let found = fleet
        .place(&strict, height)
        .or_else(|first| {
            if strict.avoid_owners.is_empty() {
                return Err(first);
            }
            let mut placement = fleet
                .place(&owners_relaxed, height)
                .map_err(|_| first.clone())?;
            placement.reason.relaxed.push("distinct owners".into());
            Ok(placement)
        })
        .or_else(|first| {
            if strict.avoid_hosts.is_empty() {
                return Err(first);
            }
            let mut placement = fleet
                .place(&hosts_relaxed, height)
                .map_err(|_| first.clone())?;
            placement
                .reason
                .relaxed
                .extend(["distinct owners".into(), "distinct hosts".into()]);
            Ok(placement)
        });
    let placement = found.map_err(|none| {
        let counts: Vec<String> = none
            .reason
            .dropped
            .iter()
            .map(|d| format!("{} by {}", d.hosts, d.rule))
            .collect();
        let r = &service.resources;
        let why = format!(
            "no host fits replica {replica} ({} CPU, {} MiB memory, {} MiB disk, {} Mbit/s); hosts dropped: {}",
            f_milli(r.cpu_millis),
            r.memory_bytes >> 20,
            r.disk_bytes >> 20,
            r.bandwidth_kbps / 1000,
            if counts.is_empty() { "none, there are no hosts".into() } else { counts.join(", ") },
        );
        Rejection::new(
            RejectKind::NoHost,
            format!("service {name}"),
            why,
            "See what is free with `runrig host ls`; ask for less, or let a host join.",
        )
    })?;
    let host = placement.host;
    context.state.fleet_mut().reserve(&host, &service.resources);
    if let Some(record) = context.state.hosts.get_mut(&host) {
        record.free = record
            .free
            .checked_sub(&service.resources)
            .unwrap_or_default();
    }
    context.state.globals.allocations += 1;
    let allocation = AllocationId(context.state.globals.allocations);
    let record = Allocation {
        deployment: *id,
        release: deployment.release,
        service: name.into(),
        replica,
        host,
        desired: Desired::Run,
        generation: 0,
        reserved: service.resources,
        rates: context.state.globals.params.tariff,
        placed_ms: context.env.time_ms,
        status: AllocationStatus::default(),
        status_ms: context.env.time_ms,
        settled_ms: context.env.time_ms,
        sequence: 0,
        usage: Usage::default(),
        charged: [Amount::ZERO; 5],
        closed: false,
        reason: placement.reason,
    };
    context.state.allocations.insert(allocation, record);
    context.state.index.by_host.insert((host, allocation));
    if let Some(deployment) = context.state.deployments.get_mut(id) {
        deployment.allocations.push(allocation);
    }
    context.emit(crate::Event::Deployment(Event::AllocationPlaced {
        deployment: *id,
        allocation,
        service: name.into(),
        replica,
        host,
    }));
    Ok(())
}

/// Thousandths as a decimal number.
fn f_milli(n: u32) -> String {
    let text = format!("{}.{:03}", n / 1000, n % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
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
    }
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
    context.state.bump(&id);
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
            allocation.generation += 1;
        }
    }
    context.emit(crate::Event::Deployment(Event::Restarted {
        deployment: id,
        service,
    }));
    context.fund(&id);
    context.state.bump(&id);
    Ok(())
}
