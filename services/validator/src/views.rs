//! Records of the state as the API shows them.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    AllocationView, DeploymentView, EarlierView, HostPlan, HostView, Keeper, LimitView, LogCopy,
    Peer, PlannedAllocation, ReleaseView, Reputation, ScaleView, StopView, TokenView, WhyView,
};
use ledger::deployment::{Deployment, Earlier, Scale};
use ledger::host::Record;
use ledger::lease::{Allocation, Desired};
use ledger::{Params, State};
use types::{AccountId, AllocationId, Amount, DeploymentId, Digest, HostId, Month, ServiceSpec};

pub fn host(state: &State, id: HostId) -> Option<HostView> {
    let host = state.hosts.get(&id)?;
    Some(HostView {
        host: id,
        name: host.name.clone(),
        address: host.address.clone(),
        owner: host.owner,
        offer: host.offer.clone(),
        free: host.free,
        allotment: host.allotment,
        online: host.online,
        cordoned: host.cordoned,
        draining: host.draining,
        hours: host.hours,
        closed: host.closed,
        trusted_ms: host.trusted_ms,
        last_seen_ms: match host.online && !state.globals.watchers.is_empty() {
            // Those who listen would have said otherwise.
            true => state.time_ms(),
            false => host.last_seen_ms,
        },
        allocations: state.allocations_on(&id).count() as u32,
        earned: host.earned,
        bond: host.bond,
        interval: host.interval,
        reputation: reputation(&host.record.at(state.time_ms())),
        flag: state.watched.get(&id).and_then(|w| w.flag.clone()),
        joined: host.joined,
    })
}

/// `None`: its time is over, too.
pub fn token(state: &State, id: AccountId) -> Option<TokenView> {
    let token = state.tokens.get(&id)?;
    (state.time_ms() < token.until_ms).then_some(TokenView {
        token: id,
        owner: token.owner,
        made_ms: token.made_ms,
        until_ms: token.until_ms,
    })
}

fn reputation(record: &Record) -> Reputation {
    Reputation {
        reliability_milli: (record.reliability().max(0) * 1_000 / 4_096) as u32,
        served_ms: record.served_ms,
        silences_milli: record.silences_milli(),
        late_milli: record.late_milli(),
        flags_milli: record.flags_milli(),
    }
}

/// Hosts for copies of an allocation's log: those that come first in the order of ids behind a
/// point that its own id draws, of other owners, online and without hours before others. So all agree, and it
/// changes only where a host comes or goes.
pub fn keepers(state: &State, id: AllocationId) -> Option<Vec<Keeper>> {
    /// Hosts that are looked at.
    const LOOKED: usize = 64;
    let source = state.allocations.get(&id)?.host;
    let owner = state.hosts.get(&source).map(|h| h.owner);
    let drawn = Digest::of_value("runrig-log-keeper", &id);
    let mut point = source;
    let length = point.0.len();
    point.0.copy_from_slice(&drawn.0[..length]);
    let around = state.hosts.range(point..).chain(state.hosts.range(..point));
    let others = around.filter(|(host, _)| **host != source).take(LOOKED);
    let mut found: Vec<_> = others.collect();
    found.sort_by_key(|(_, host)| {
        let near = owner == Some(host.owner);
        // One with hours of its own is away now and then.
        (!host.online, host.draining, near, host.hours.is_some())
    });
    let keeper = |(id, host): (&HostId, &ledger::host::Host)| Keeper {
        host: *id,
        name: host.name.clone(),
        address: host.address.clone(),
        online: host.online,
    };
    let best = found.into_iter().take(LogCopy::KEEPERS);
    Some(best.map(keeper).collect())
}

pub fn allocation(state: &State, id: AllocationId) -> Option<AllocationView> {
    let allocation = state.allocations.get(&id)?;
    let deployment = state.deployments.get(&allocation.deployment)?;
    let host = state.hosts.get(&allocation.host);
    let service = state.service_of(id);
    Some(AllocationView {
        allocation: id,
        deployment: allocation.deployment,
        project: deployment.spec.project.clone(),
        owner: deployment.owner,
        release: allocation.release,
        service: allocation.service.clone(),
        replica: allocation.replica,
        host: allocation.host,
        host_name: host.map_or_else(|| allocation.host.to_string(), |h| h.name.clone()),
        heard: host.is_some_and(|h| h.online),
        desired: allocation.desired,
        generation: allocation.generation,
        reserved: allocation.reserved,
        placed_ms: allocation.placed_ms,
        status: allocation.status.clone(),
        status_ms: allocation.status_ms,
        usage: allocation.usage,
        charged: Amount(allocation.charged.iter().map(|a| a.0).sum()),
        closed: allocation.closed,
        image: service
            .map(|s| s.image.reference.clone())
            .unwrap_or_default(),
    })
}

/// With the `count` projects that stop first.
pub fn limit(state: &State, account: AccountId, count: usize) -> LimitView {
    let month = Month::of(state.time_ms());
    let limit = state.limits.get(&account).cloned().unwrap_or_default();
    let (projects, limited) = state.stops_counted(&account);
    let stops = match count {
        0 => Vec::new(),
        _ => state.stops(&account),
    };
    LimitView {
        account,
        height: state.height(),
        from_ms: month.from_ms(),
        until_ms: month.until_ms(),
        spent: state.account(&account).spent_in(month),
        alert: limit.alert,
        limit: limit.limit,
        most: limit.most(month),
        order: limit.order,
        projects,
        limited,
        stops: stops
            .into_iter()
            .take(count.min(LimitView::LISTED_MAX))
            .map(|stop| StopView {
                deployment: stop.deployment,
                project: stop.project,
                at: stop.at,
                limited: stop.limited,
            })
            .collect(),
    }
}

pub fn deployment(state: &State, id: DeploymentId) -> Option<DeploymentView> {
    let deployment = state.deployments.get(&id)?;
    Some(DeploymentView {
        deployment: id,
        owner: deployment.owner,
        project: deployment.spec.project.clone(),
        label: deployment.label.clone(),
        release: deployment.release,
        spec: deployment.spec.clone(),
        created_ms: deployment.created_ms,
        removed: deployment.removed,
        volumes_removed: deployment.removed && deployment.remove_volumes,
        funding: deployment.funding,
        limited: deployment.limited,
        escrow: deployment.escrow,
        charged: deployment.charged,
        dry_ms: deployment.dry_ms,
        good: deployment.good,
        rollout: deployment.rollout.clone(),
        setback: deployment.setback.clone(),
        unplaced: deployment.unplaced.clone(),
        tried: deployment.tried.clone(),
        scales: scales(state, id),
        allocations: deployment
            .allocations
            .iter()
            .take(DeploymentView::LISTED_MAX)
            .filter_map(|a| allocation(state, *a))
            .collect(),
        earlier: earlier(deployment),
    })
}

fn earlier(deployment: &Deployment) -> BTreeMap<String, EarlierView> {
    let view = |of: &Earlier| EarlierView {
        allocations: of.allocations,
        releases: of.releases,
        charged: Amount(of.charged.iter().map(|a| a.0).sum()),
    };
    let all = deployment.earlier.iter();
    all.map(|(service, of)| (service.clone(), view(of)))
        .collect()
}

fn scales(state: &State, id: DeploymentId) -> BTreeMap<String, ScaleView> {
    let view = |scale: &Scale| ScaleView {
        wanted: scale.wanted,
        changed_ms: scale.changed_ms,
        why: scale.why.clone(),
        stopped: scale.stopped,
    };
    let all = state.scales_of(id);
    all.map(|(name, scale)| (name.clone(), view(scale)))
        .collect()
}

/// The releases of a deployment that are kept, latest first.
pub fn releases(state: &State, id: DeploymentId) -> Option<Vec<ReleaseView>> {
    let deployment = state.deployments.get(&id)?;
    let all = state.releases_of(id).map(|(number, release)| ReleaseView {
        release: number,
        made_ms: release.made_ms,
        cause: release.cause.clone(),
        latest: number == deployment.release,
        good: number == deployment.good,
        spec: release.spec.clone(),
    });
    Some(all.rev().collect())
}

/// What `id` should run, and the replicas beside which it runs.
pub fn plan(state: &State, id: HostId) -> Option<HostPlan> {
    let host = state.hosts.get(&id)?;
    let mut deployments = BTreeSet::new();
    let mut allocations = Vec::new();
    for (number, placed) in state.allocations_on(&id) {
        let Some(deployment) = state.deployments.get(&placed.deployment) else {
            continue;
        };
        deployments.insert(placed.deployment);
        // As its own release had it: a replica on its way out still is what it was.
        let Some(spec) = state.service_of(number) else {
            continue;
        };
        allocations.push(planned(state, number, placed, deployment, spec));
    }
    let peers = deployments
        .iter()
        .filter_map(|d| state.deployments.get(d))
        .flat_map(|d| &d.allocations)
        .filter_map(|number| {
            let peer = state.allocations.get(number)?;
            let there = state.hosts.get(&peer.host);
            let spec = state.service_of(*number);
            Some(Peer {
                deployment: peer.deployment,
                allocation: *number,
                service: peer.service.clone(),
                replica: peer.replica,
                host: peer.host,
                same_machine: there.is_some_and(|h| h.machine == host.machine),
                networks: spec.map(|s| s.networks.clone()).unwrap_or_default(),
                status: peer.status.clone(),
                mesh: there
                    .filter(|h| h.machine != host.machine)
                    .and_then(|h| h.mesh.clone()),
                ready: takes_requests(peer, there),
            })
        })
        .collect();
    Some(HostPlan {
        host: id,
        plan: host.plan,
        height: state.height(),
        time_ms: state.time_ms(),
        params: {
            let (heartbeat_ms, host_timeout_ms) = state.liveness();
            Params {
                heartbeat_ms,
                host_timeout_ms,
                ..state.params().clone()
            }
        },
        interval: host.interval,
        allotment: host.allotment,
        allocations,
        peers,
    })
}

fn planned(
    state: &State,
    number: AllocationId,
    placed: &Allocation,
    deployment: &Deployment,
    spec: &ServiceSpec,
) -> PlannedAllocation {
    let networks: BTreeMap<String, bool> = deployment
        .spec
        .networks
        .iter()
        .map(|(name, network)| (name.clone(), network.internal))
        .collect();
    let owner = state.accounts.get(&deployment.owner);
    let delegates = owner.into_iter().flat_map(|owner| &owner.grants);
    PlannedAllocation {
        delegates: delegates
            .map(|(account, grant)| api::Delegate {
                account: *account,
                role: grant.role,
                until_ms: grant.expires_ms,
            })
            .collect(),
        allocation: number,
        deployment: placed.deployment,
        project: deployment.spec.project.clone(),
        owner: deployment.owner,
        release: placed.release,
        service: placed.service.clone(),
        replica: placed.replica,
        spec: spec.clone(),
        networks,
        logs: deployment.spec.logs.clone(),
        desired: placed.desired,
        generation: placed.generation,
        remove_volumes: deployment.removed && deployment.remove_volumes,
        status: placed.status.clone(),
        sequence: placed.sequence,
        usage: placed.usage,
    }
}

pub fn why(state: &State, id: AllocationId) -> Option<WhyView> {
    let allocation = state.allocations.get(&id)?;
    let names = allocation
        .reason
        .candidates
        .iter()
        .filter_map(|c| Some((c.host.to_string(), state.hosts.get(&c.host)?.name.clone())))
        .collect();
    Some(WhyView {
        allocation: id,
        service: allocation.service.clone(),
        replica: allocation.replica,
        host: allocation.host,
        reason: allocation.reason.clone(),
        names,
    })
}

/// Wanted there, ready, and its host is heard.
pub fn takes_requests(allocation: &Allocation, host: Option<&ledger::host::Host>) -> bool {
    let heard = host.is_some_and(|h| h.online);
    heard && allocation.desired == Desired::Run && allocation.status.is_ready()
}
