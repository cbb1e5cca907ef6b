//! Where a host's links to other hosts end, for those that share a deployment with it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, HostId, PublicKey};

use super::apply::is_address;
use crate::execute::Context;
use crate::{RejectKind, Rejection};

/// Hosts link to each other by key; the ledger is their address book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct MeshPoint {
    /// The host's own: its id is the digest of it.
    pub key: PublicKey,
    /// UDP. None for a host that nobody reaches from outside.
    pub address: Option<SocketAddr>,
    /// `http://ip:port` of the gateway that passes on what is sent to it.
    pub relay: Option<String>,
}

/// The host says where it is; those that share a deployment with it hear of it.
pub(super) fn announce(
    context: &mut Context,
    id: HostId,
    point: MeshPoint,
) -> Result<(), Rejection> {
    let reject = |why: &str, next: &str| {
        let what = format!("host {id}");
        Err(Rejection::new(RejectKind::Invalid, what, why, next))
    };
    if AccountId::of(&point.key) != id {
        return reject("the key is not the host's", "Sign with the host's key.");
    }
    let whole = |a: &SocketAddr| a.port() != 0 && !a.ip().is_unspecified();
    if point.address.is_some_and(|a| !whole(&a)) {
        let why = "others cannot send to that address";
        return reject(why, "Give one with --mesh-advertise IP:PORT.");
    }
    if point.relay.as_ref().is_some_and(|r| !is_address(r)) {
        let why = "its relay is not http://ip:port";
        return reject(why, "Give one with --relay.");
    }
    let host = context.state.hosts.get_mut(&id);
    let changed = host.is_some_and(|host| {
        let changed = host.mesh.as_ref() != Some(&point);
        host.mesh = Some(point);
        changed
    });
    if changed {
        let placed = context.state.allocations_on(&id);
        let deployments: BTreeSet<_> = placed.map(|(_, a)| a.deployment).collect();
        for deployment in deployments {
            context.touch(deployment);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Call;
    use crate::world::{World, deploy, id, key, project, service};
    use crate::{Params, RejectKind};

    fn point(of: u8) -> MeshPoint {
        MeshPoint {
            key: key(of).public(),
            address: "203.0.113.7:7070".parse().ok(),
            relay: Some("http://203.0.113.1:8700".into()),
        }
    }

    #[test]
    fn neighbours_hear_where_a_host_is() {
        let mut world = World::new(Params::dev());
        world.host(10, 1000);
        world.host(11, 1000);
        world.host(12, 1000);
        let deployed = world.ask(1, deploy(project("p", &[("a", service(1000, 2))])));
        deployed.expect("placed");
        let plan = |world: &World, host| world.state.hosts.get(&id(host)).map(|h| h.plan);
        let on = |world: &World, host| world.state.allocations_on(&id(host)).count();
        let (used, idle): (Vec<u8>, Vec<u8>) =
            [10, 11, 12].into_iter().partition(|h| on(&world, *h) > 0);
        assert_eq!((used.len(), idle.len()), (2, 1));
        let announce = |of: u8| crate::Call::Host(Call::Announce(point(of)));
        let before: Vec<_> = [used[1], idle[0]].map(|h| plan(&world, h)).into();
        world.ask(used[0], announce(used[0])).expect("announced");
        let after: Vec<_> = [used[1], idle[0]].map(|h| plan(&world, h)).into();
        assert!(after[0] > before[0] && after[1] == before[1]);
        // The same again is no news.
        world.ask(used[0], announce(used[0])).expect("announced");
        assert_eq!(plan(&world, used[1]), after[0]);
        let known = world.state.hosts.get(&id(used[0])).expect("there");
        assert_eq!(known.mesh, Some(point(used[0])));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut world = World::new(Params::dev());
        world.host(10, 1000);
        let mut ask = |who: u8, point: MeshPoint| {
            let asked = world.ask(who, crate::Call::Host(Call::Announce(point)));
            asked.map_err(|r| r.kind)
        };
        assert_eq!(ask(1, point(1)), Err(RejectKind::NotFound), "no host");
        assert_eq!(ask(10, point(11)), Err(RejectKind::Invalid), "not its key");
        for address in ["0.0.0.0:7070", "203.0.113.7:0"] {
            let mut bad = point(10);
            bad.address = address.parse().ok();
            assert_eq!(ask(10, bad), Err(RejectKind::Invalid), "{address}");
        }
        for relay in ["https://x:1", "http://x", "http://user@x:1", ""] {
            let mut bad = point(10);
            bad.relay = Some(relay.into());
            assert_eq!(ask(10, bad), Err(RejectKind::Invalid), "{relay}");
        }
        assert_eq!(ask(10, point(10)), Ok(()));
    }
}
