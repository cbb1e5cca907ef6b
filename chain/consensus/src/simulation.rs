//! The same node on a virtual clock, network and disk.
//!
//! Only what is outside differs: the runtime, the network, and where finalised blocks are
//! kept. A node is killed by aborting its task; it starts again on what it had on disk.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use borsh::BorshDeserialize as _;
use commonware_cryptography::{Signer as _, ed25519};
use commonware_p2p::simulated::{self, Oracle};
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Spawner as _};
use commonware_utils::NZUsize;

use crate::boundary::{Boundary, Piece, adopt_in};
use crate::committee::Seat;
use crate::machine::Machine;
use crate::node::{Config, Handle, handle, open};
use crate::once::{Kept, Sealer};
use crate::store::Store;
use crate::vault::{Sealed, Vault};
use crate::wiring::{PEER_SETS, message_bytes_max, on_simulated};

/// How the simulated network names a validator.
pub type Key = ed25519::PublicKey;
pub type Network = Oracle<Key, Context>;

/// A validator's blocks, saved state and sealed shares: outlives the node.
#[derive(Clone)]
pub struct Disk {
    store: Arc<Store>,
    sealed: Sealed,
    led: Kept,
}

impl Disk {
    pub fn new() -> Result<Self> {
        Ok(Self {
            store: Arc::new(Store::memory()?),
            sealed: Sealed::default(),
            led: Kept::default(),
        })
    }
}

/// Fetches the state that `giver` offers into an empty disk, piece by piece, as a newcomer does.
/// `false`: there is none yet that links to it.
///
/// Errors: something of it does not hold.
pub fn join<M: Machine>(
    config: &Config,
    machine: &M,
    disk: &Disk,
    giver: &Handle<M>,
) -> Result<bool> {
    let Some(offer) = giver.offer()? else {
        return Ok(false);
    };
    let count = offer.pieces;
    let boundary = Boundary::check(config, machine, offer)?;
    if !boundary.links(&config.seat.key()) {
        return Ok(false);
    }
    let mut state = Vec::new();
    for number in 0..count {
        let bytes = giver.piece(boundary.header.height, number)?;
        let piece = Piece::try_from_slice(&bytes.context("a piece is missing")?)?;
        ensure!(
            boundary.holds(&piece, number, count),
            "piece {number} is not of the state that is named"
        );
        state.extend(piece.bytes);
    }
    adopt_in(&disk.store, machine, &boundary, state)?;
    Ok(true)
}

/// How the network names the validator that sits on `seat`.
pub fn key(seat: &Seat) -> Key {
    seat.identity.public_key()
}

/// A network that `validators` may join, not linked yet. It ends with the task.
pub async fn network(context: Context, validators: Vec<Key>) -> (Task<()>, Network) {
    let config = simulated::Config {
        max_size: message_bytes_max(),
        max_peers_per_set: NZUsize!(384),
        disconnect_on_block: true,
        tracked_peer_sets: PEER_SETS,
    };
    let (network, oracle) = simulated::Network::new_with_peers(context, config, validators).await;
    (network.start(), oracle)
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
    let sealer = Sealer::memory(disk.led.clone(), &config.seat, config.network);
    let core = Arc::new(open(&config, machine, disk.store.clone(), sealer)?);
    let vault = Vault::memory(disk.sealed.clone(), &config.seat)?;
    let (handle, ends, ended) = handle(core.clone());
    let task = context.spawn(move |context| async move {
        on_simulated(context, config, core, vault, ends, network).await;
        drop(ended);
    });
    Ok((handle, task))
}
