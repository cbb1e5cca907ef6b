//! Records of the state as the API shows them.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    AllocationView, DeploymentView, HostPlan, HostView, Peer, PlannedAllocation, Route, Routes,
    Upstream, WhyView,
};
use ledger::State;
use ledger::deployment::Funding;
use ledger::lease::Allocation;
use types::{AllocationId, Amount, DeploymentId, HostId, Protocol, ServiceSpec};

/// Allocations that a deployment's view lists.
const LISTED_MAX: usize = 1_000;

pub fn host(state: &State, id: HostId) -> Option<HostView> {
    let host = state.hosts.get(&id)?;
    Some(HostView {
        host: id,
        name: host.name.clone(),
        address: host.address.clone(),
        owner: host.owner,
        offer: host.offer.clone(),
        free: host.free,
        online: host.online,
        cordoned: host.cordoned,
        last_seen_ms: host.last_seen_ms,
        allocations: state.allocations_on(&id).count() as u32,
        earned: host.earned,
        interval: host.interval,
    })
}

pub fn allocation(state: &State, id: AllocationId) -> Option<AllocationView> {
    let allocation = state.allocations.get(&id)?;
    let deployment = state.deployments.get(&allocation.deployment)?;
    let host = state.hosts.get(&allocation.host);
    let service = deployment.spec.services.get(&allocation.service);
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
        funding: deployment.funding,
        escrow: deployment.escrow,
        charged: deployment.charged,
        dry_ms: deployment.dry_ms,
        allocations: deployment
            .allocations
            .iter()
            .take(LISTED_MAX)
            .filter_map(|a| allocation(state, *a))
            .collect(),
    })
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
        let Some(spec) = deployment.spec.services.get(&placed.service) else {
            // Its service is gone from the release: only removal is left.
            allocations.push(planned(
                number,
                placed,
                deployment,
                &removed_service(placed),
            ));
            continue;
        };
        allocations.push(planned(number, placed, deployment, spec));
    }
    let peers = deployments
        .iter()
        .filter_map(|d| state.deployments.get(d))
        .flat_map(|d| d.allocations.iter().map(move |a| (d, a)))
        .filter_map(|(deployment, number)| {
            let peer = state.allocations.get(number)?;
            let there = state.hosts.get(&peer.host);
            let spec = deployment.spec.services.get(&peer.service);
            Some(Peer {
                deployment: peer.deployment,
                allocation: *number,
                service: peer.service.clone(),
                replica: peer.replica,
                host: peer.host,
                same_machine: there.is_some_and(|h| h.machine == host.machine),
                networks: spec.map(|s| s.networks.clone()).unwrap_or_default(),
                status: peer.status.clone(),
            })
        })
        .collect();
    Some(HostPlan {
        host: id,
        plan: host.plan,
        height: state.height(),
        time_ms: state.time_ms(),
        params: state.params().clone(),
        interval: host.interval,
        allocations,
        peers,
    })
}

fn planned(
    number: AllocationId,
    placed: &Allocation,
    deployment: &ledger::deployment::Deployment,
    spec: &ServiceSpec,
) -> PlannedAllocation {
    let networks: BTreeMap<String, bool> = deployment
        .spec
        .networks
        .iter()
        .map(|(name, network)| (name.clone(), network.internal))
        .collect();
    PlannedAllocation {
        allocation: number,
        deployment: placed.deployment,
        project: deployment.spec.project.clone(),
        owner: deployment.owner,
        release: placed.release,
        service: placed.service.clone(),
        replica: placed.replica,
        spec: spec.clone(),
        networks,
        desired: placed.desired,
        generation: placed.generation,
        remove_volumes: deployment.removed && deployment.remove_volumes,
        status: placed.status.clone(),
        sequence: placed.sequence,
        usage: placed.usage,
    }
}

fn removed_service(placed: &Allocation) -> ServiceSpec {
    ServiceSpec {
        image: types::ImageRef {
            reference: String::new(),
            digest: types::Digest::default(),
        },
        entrypoint: None,
        command: None,
        environment: BTreeMap::new(),
        user: None,
        working_dir: None,
        hostname: None,
        labels: BTreeMap::new(),
        ports: Vec::new(),
        expose: Vec::new(),
        mounts: Vec::new(),
        networks: BTreeMap::new(),
        depends_on: BTreeMap::new(),
        healthcheck: None,
        restart: types::RestartPolicy::No,
        stop_signal: None,
        stop_grace_ms: 10_000,
        read_only: false,
        tty: false,
        replicas: 0,
        resources: placed.reserved,
        pids: 1,
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

/// Where requests go, over all live deployments.
pub fn routes(state: &State) -> Routes {
    let mut routes = Vec::new();
    for (id, deployment) in state.live() {
        for (name, service) in &deployment.spec.services {
            let replicas = deployment
                .allocations
                .iter()
                .filter_map(|a| Some((*a, state.allocations.get(a)?)))
                .filter(|(_, a)| a.service == *name)
                .filter_map(|(number, a)| {
                    let host = state.hosts.get(&a.host)?;
                    Some(Upstream {
                        allocation: number,
                        host: a.host,
                        host_address: host.address.clone(),
                        machine: host.machine,
                        address: *a.status.addresses.values().next()?,
                        ready: host.online && a.status.is_ready(),
                    })
                })
                .collect();
            let tcp = service.ports.iter().find(|p| p.protocol == Protocol::Tcp);
            routes.push(Route {
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
                frozen: deployment.funding == Funding::Frozen,
                replicas,
            });
        }
    }
    Routes {
        height: state.height(),
        routes,
    }
}
