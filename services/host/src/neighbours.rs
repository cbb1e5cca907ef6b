//! Links to the hosts that share a deployment with this one, as the plan names them.
//!
//! The plan says who they are and which replicas they hold; the networks here give those
//! replicas addresses; the mesh carries what goes between. Only what all three agree on is
//! carried.
//!
//! Where many agents live in one process the mesh is opened, and the network told where it is,
//! when the plan first names a replica on another machine: it watches all interfaces of this
//! one, which come and go with every container, and for many hosts that would be most of what
//! they do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use api::{HostPlan, Peer};
use ledger::host::MeshPoint;
use mesh::{Local, Mesh, NetworkId, Place, Table};
use net::{NetworkKey, Places, Remote};
use types::{AllocationId, HostId};

use crate::agent::{insist, tag};
use crate::config::Config;
use crate::durable;
use crate::shared::Shared;

/// Links, once they are needed.
pub type Links = OnceLock<Arc<Neighbours>>;

pub struct Neighbours {
    mesh: Mesh,
    tunnel: String,
    /// For others to find this host by.
    point: MeshPoint,
}

/// `http://ip:port` of a URL that others may be told.
fn relay(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    url.starts_with("http://").then(|| url.to_string())
}

/// Where `config` says that links end; else beside the agent's API.
fn reached_at(config: &Config, bound: SocketAddr) -> Option<SocketAddr> {
    let told = config.advertise.as_deref();
    let told = told.and_then(|url| url.strip_prefix("http://")?.parse::<SocketAddr>().ok());
    let beside = told.map(|t| SocketAddr::new(t.ip(), bound.port()));
    let here = (!bound.ip().is_unspecified()).then_some(bound);
    config.mesh_advertise.or(beside).or(here)
}

/// Links this host to others; one of many in a process as soon as there are any to be linked to.
/// `api` is where the agent's API listens.
pub async fn keep(
    shared: Arc<Shared>,
    api: SocketAddr,
    links: Arc<Links>,
) -> std::convert::Infallible {
    let mut plans = shared.plans.clone();
    let needed = |plan: &Option<Arc<HostPlan>>| plan.as_deref().is_some_and(has_far);
    let alone = shared.config.images.is_none();
    if (alone || plans.wait_for(needed).await.is_ok())
        && let Some(neighbours) = Neighbours::open(&shared.config, api).await
    {
        let neighbours = links.get_or_init(|| Arc::new(neighbours)).clone();
        let call = ledger::host::Call::Announce(neighbours.point.clone());
        if let Err(error) = insist(&shared.config, &shared.link, call).await {
            tracing::error!(
                error = format!("{error:#}"),
                "others are not told where links end"
            );
        }
        neighbours.follow(shared).await;
    }
    std::future::pending().await
}

/// Says goodbye, so that other hosts need not wait for the silence. After [`keep`] has ended.
pub async fn close(links: Arc<Links>) {
    let opened = Arc::into_inner(links).and_then(OnceLock::into_inner);
    if let Some(neighbours) = opened.and_then(Arc::into_inner) {
        neighbours.mesh.close().await;
    }
}

fn has_far(plan: &HostPlan) -> bool {
    far(plan).next().is_some()
}

impl Neighbours {
    /// `api` is where the agent's API listens. Without what this needs (a kernel with tun, a
    /// port) the host still serves, but reaches no replicas on other machines.
    async fn open(config: &Config, api: SocketAddr) -> Option<Self> {
        let tunnel = format!("r{}t", tag(&config.key));
        let relays = config.relays.clone();
        let open = |listen| {
            Mesh::open(mesh::Config {
                key: config.key.clone(),
                listen,
                relays: relays.clone(),
                tunnel: tunnel.clone(),
            })
        };
        let opened = match config.mesh {
            Some(listen) => open(listen).await,
            None => match open(api).await {
                Ok(mesh) => Ok(mesh),
                // That port may be another program's as far as UDP goes.
                Err(_) => open(SocketAddr::new(api.ip(), 0)).await,
            },
        };
        let mesh = match opened {
            Ok(mesh) => mesh,
            Err(error) => {
                tracing::warn!(%error, "containers here will not reach those on other machines");
                return None;
            }
        };
        let address = mesh.address().and_then(|bound| reached_at(config, bound));
        tracing::info!(bound = ?mesh.address(), told = ?address, ?relays, "links to other hosts");
        let point = MeshPoint {
            key: config.key.public(),
            address,
            relay: relays.first().and_then(|url| relay(url)),
        };
        Some(Self {
            mesh,
            tunnel,
            point,
        })
    }

    /// Follows the plan, the networks here and the links for as long as it is polled.
    async fn follow(&self, shared: Arc<Shared>) {
        let mut plans = shared.plans.clone();
        let mut places = shared.net.places();
        let mut up = self.mesh.up();
        loop {
            let plan = plans.borrow_and_update().clone();
            if let Some(plan) = plan {
                self.mesh.set_peers(peers(&plan));
                let known = up.borrow_and_update().clone();
                let remotes = remotes(&plan, |host| known.get(host) == Some(&true));
                if let Err(error) = shared.net.set_remotes(&self.tunnel, remotes).await {
                    tracing::warn!(%error, "names of replicas on other machines");
                }
                let places = places.borrow_and_update().clone();
                self.mesh.set_table(table(&plan, &places));
            }
            let changed = tokio::select! {
                changed = plans.changed() => changed.is_ok(),
                changed = places.changed() => changed.is_ok(),
                changed = up.changed() => changed.is_ok(),
            };
            if !changed {
                return;
            }
        }
    }
}

fn far(plan: &HostPlan) -> impl Iterator<Item = &Peer> {
    plan.peers.iter().filter(|p| !p.same_machine)
}

fn peers(plan: &HostPlan) -> BTreeMap<HostId, Option<Place>> {
    let place = |point: &MeshPoint| Place {
        key: point.key,
        addresses: point.address.into_iter().collect(),
        relay: point.relay.clone(),
    };
    far(plan)
        .map(|peer| (peer.host, peer.mesh.as_ref().map(place)))
        .collect()
}

/// By all names that a container may ask for `peer` by on `network`.
pub fn names(peer: &Peer, network: &str) -> Vec<String> {
    let mut names = vec![
        peer.service.to_lowercase(),
        format!("{}-{}", peer.service.to_lowercase(), peer.replica),
        peer.allocation.to_string(),
    ];
    if let Some(aliases) = peer.networks.get(network) {
        names.extend(aliases.iter().map(|a| a.to_lowercase()));
    }
    names
}

/// A replica keeps its address while it restarts, but is not named meanwhile.
fn remotes(plan: &HostPlan, is_up: impl Fn(&HostId) -> bool) -> Vec<Remote> {
    let mut remotes = Vec::new();
    for peer in far(plan) {
        let default = "default".to_string();
        let networks: Vec<&String> = match peer.networks.is_empty() {
            true => vec![&default],
            false => peer.networks.keys().collect(),
        };
        for network in networks {
            let there = peer.status.addresses.contains_key(network);
            remotes.push(Remote {
                network: NetworkKey {
                    deployment: peer.deployment.to_string(),
                    network: network.clone(),
                },
                replica: peer.allocation.0,
                names: if there { names(peer, network) } else { vec![] },
                ready: peer.ready && is_up(&peer.host),
            });
        }
    }
    remotes
}

fn table(plan: &HostPlan, places: &Places) -> Table {
    let id = |n: &NetworkKey| NetworkId::of(&n.deployment, &n.network);
    // The last container of each allocation on each network.
    let mut last: BTreeMap<(NetworkId, AllocationId), (u32, Local)> = BTreeMap::new();
    for (network, container, address) in &places.containers {
        let Some((allocation, instance)) = durable::container_of(container) else {
            continue;
        };
        let local = Local {
            network: id(network),
            replica: allocation.0,
            address: *address,
        };
        let known = last.entry((local.network, allocation));
        let known = known.or_insert((instance, local));
        if known.0 <= instance {
            *known = (instance, local);
        }
    }
    let hosts: BTreeMap<u64, HostId> = far(plan).map(|p| (p.allocation.0, p.host)).collect();
    let remotes = places.aliases.iter().filter_map(|alias| {
        Some(mesh::Remote {
            network: id(&alias.network),
            replica: alias.replica,
            host: *hosts.get(&alias.replica)?,
            alias: alias.address,
        })
    });
    Table::new(last.into_values().map(|(_, local)| local), remotes)
}
