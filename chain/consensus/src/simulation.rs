//! The same node on a virtual clock, network and disk.
//!
//! Only what is outside differs: the runtime, the network, and where finalised blocks are
//! kept. A node is killed by aborting its task; it starts again on what it had on disk.

use std::sync::Arc;

use anyhow::Result;
use commonware_cryptography::ed25519;
use commonware_p2p::simulated::Oracle;
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Spawner as _};

use crate::committee::{Committee, read_key};
use crate::machine::Machine;
use crate::node::{Config, Handle, handle, open};
use crate::store::Store;
use crate::wiring::simulated::run;

pub use crate::wiring::simulated::message_bytes_max;

/// A validator's blocks and saved state: outlives the node.
#[derive(Clone)]
pub struct Disk(Arc<Store>);

impl Disk {
    pub fn new() -> Result<Self> {
        Ok(Self(Arc::new(Store::memory()?)))
    }
}

/// Identity keys of a committee, in voting order, as the simulated network names them.
pub fn keys(committee: &Committee) -> Result<Vec<ed25519::PublicKey>> {
    committee.members().map(|key| read_key(&key)).collect()
}

/// Starts a node. `config.data` is not used; `config.listen`'s port names its part of the
/// runtime's storage. The node ends with the task.
pub fn start<M: Machine>(
    context: Context,
    config: Config,
    disk: &Disk,
    oracle: Oracle<ed25519::PublicKey, Context>,
    machine: Arc<M>,
) -> Result<(Handle<M>, Task<()>)> {
    let core = Arc::new(open(&config, machine, disk.0.clone())?);
    let (handle, ends, ended) = handle(core.clone());
    let task = context.spawn(move |context| async move {
        run(context, config, core, ends, oracle).await;
        drop(ended);
    });
    Ok((handle, task))
}
