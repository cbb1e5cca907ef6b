//! The same node on a virtual clock, network and disk.
//!
//! Only what is outside differs: the runtime, the network, and where finalised blocks are
//! kept. A node is killed by aborting its task; it starts again on what it had on disk.

use std::sync::Arc;

use anyhow::Result;
use commonware_cryptography::ed25519;
use commonware_p2p::simulated::{self, Oracle};
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Spawner as _};
use commonware_utils::NZUsize;

use crate::committee::{Committee, read_key};
use crate::machine::Machine;
use crate::node::{Config, Handle, handle, open};
use crate::store::Store;
use crate::wiring::{message_bytes_max, on_simulated};

/// How the simulated network names a validator.
pub type Key = ed25519::PublicKey;
pub type Network = Oracle<Key, Context>;

/// A validator's blocks and saved state: outlives the node.
#[derive(Clone)]
pub struct Disk(Arc<Store>);

impl Disk {
    pub fn new() -> Result<Self> {
        Ok(Self(Arc::new(Store::memory()?)))
    }
}

/// Identity keys of a committee, in voting order.
pub fn keys(committee: &Committee) -> Result<Vec<Key>> {
    committee.members().map(|key| read_key(&key)).collect()
}

/// A network of the committee's members, not linked yet. It ends with the task.
pub async fn network(context: Context, committee: &Committee) -> Result<(Task<()>, Network)> {
    let members = keys(committee)?;
    let config = simulated::Config {
        max_size: message_bytes_max(members.len()),
        max_peers_per_set: NZUsize!(128),
        disconnect_on_block: true,
        tracked_peer_sets: NZUsize!(1),
    };
    let (network, oracle) = simulated::Network::new_with_peers(context, config, members).await;
    Ok((network.start(), oracle))
}

/// Starts a node. `config.data` is not used; `config.listen`'s port names its part of the
/// runtime's storage. The node ends with the task.
pub fn start<M: Machine>(
    context: Context,
    config: Config,
    disk: &Disk,
    network: Network,
    machine: Arc<M>,
) -> Result<(Handle<M>, Task<()>)> {
    let core = Arc::new(open(&config, machine, disk.0.clone())?);
    let (handle, ends, ended) = handle(core.clone());
    let task = context.spawn(move |context| async move {
        on_simulated(context, config, core, ends, network).await;
        drop(ended);
    });
    Ok((handle, task))
}
