//! The same node on a virtual clock, network and disk.
//!
//! Only what is outside differs: the runtime, the network, and where finalised blocks are
//! kept. A node is killed by aborting its task; it starts again on what it had on disk.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context as _, Result, ensure};
use borsh::BorshDeserialize as _;
use commonware_codec::Encode as _;
use commonware_consensus::simplex::scheme::bls12381_threshold::vrf::Seedable as _;
use commonware_consensus::simplex::types::{Finalization, Finalize, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::{Signer as _, ed25519, sha256};
use commonware_p2p::simulated::{self, Oracle};
use commonware_parallel::Sequential;
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Spawner as _};
use commonware_utils::non_empty;
use light::{BEACON_BYTES, BEACON_VIEW, NAMESPACE};

use crate::boundary::{Boundary, Piece, adopt_in};
use crate::committee::{Committee, Seat};
use crate::machine::Machine;
use crate::node::{Config, Handle, handle, open};
use crate::once::{Kept, Sealer};
use crate::scheme::Plain;
use crate::store::Store;
use crate::vault::{Sealed, Vault};
use crate::wiring::{Life, PEER_SETS, message_bytes_max, on_simulated};

mod followers;
mod terms;

pub use crate::malice::{Channel, Malice};
pub use crate::medium::Medium;
pub use crate::scheme::Known;
pub use followers::{follow, may_vote};
pub use terms::{Terms, seats};

/// How the simulated network names a validator.
pub type Key = ed25519::PublicKey;
pub type Network = Oracle<Key, Context>;

/// A validator's blocks, saved state and sealed shares: outlives the node.
#[derive(Clone, Default)]
pub struct Disk {
    /// What blocks are kept on.
    pub medium: Medium,
    sealed: Sealed,
    led: Kept,
    /// Engines that were begun anew on it; what an earlier one wrote is never read again.
    engines: Arc<AtomicU32>,
}

/// Fetches the state that `giver` offers into an empty disk, piece by piece, as a newcomer does.
/// `false`: there is none yet, or it is to be `linked` and those who vote are not linked to it there.
///
/// Errors: something of it does not hold.
pub fn join<M: Machine>(
    config: &Config,
    machine: &M,
    disk: &Disk,
    giver: &Handle<M>,
    linked: bool,
) -> Result<bool> {
    let Some(offer) = giver.offer()? else {
        return Ok(false);
    };
    let count = offer.pieces;
    let boundary = Boundary::check(config, machine, offer)?;
    if linked && !boundary.links(&config.seat.key()) {
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
    adopt_in(&Store::on(&disk.medium)?, machine, &boundary, state)?;
    Ok(true)
}

/// What the beacon of `epoch` must be: made of the shares that `seats` were dealt first, so not of
/// what anybody sends. The key is the same in all epochs, and so a beacon is.
///
/// `None`: too few of `seats` hold a share.
pub fn beacon(committee: &Committee, seats: &[Seat], epoch: u64) -> Option<[u8; BEACON_BYTES]> {
    let members = committee.output.players();
    let sharing = committee.output.public();
    let round = Round::new(Epoch::new(epoch), View::new(BEACON_VIEW));
    let proposal = Proposal::new(round, View::zero(), sha256::Digest::from([0; 32]));
    let signer = |seat: &Seat| {
        let share = seat.share.clone()?;
        Plain::signer(NAMESPACE, members.clone(), sharing.clone(), share)
    };
    let signers: Vec<Plain> = seats.iter().filter_map(signer).collect();
    let votes: Vec<_> = signers
        .iter()
        .filter_map(|signer| Finalize::sign(signer, proposal.clone()))
        .collect();
    let first = signers.first()?;
    let made = Finalization::from_finalizes(first, non_empty![@votes.iter()], &Sequential).ok()?;
    made.seed().signature.encode()[..].try_into().ok()
}

/// How the network names the validator that sits on `seat`.
pub fn key(seat: &Seat) -> Key {
    seat.identity.public_key()
}

/// A network that `validators` may join, not linked yet. It ends with the task.
pub async fn network(context: Context, validators: Vec<Key>) -> (Task<()>, Network) {
    let most = validators.len().max(384);
    let config = simulated::Config {
        max_size: message_bytes_max(),
        max_peers_per_set: NonZeroUsize::new(most).expect("more than none"),
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
    malice: Malice,
    known: Known,
) -> Result<(Handle<M>, Task<()>)> {
    let (mut handles, task) = start_lives(
        context,
        vec![(config, disk.clone())],
        network,
        machine,
        malice,
        known,
    )?;
    Ok((handles.pop().context("a life has a handle")?, task))
}

/// Starts two nodes with one identity, told apart by their ports and disks: each believes that it
/// is the only one. `malice` says who hears which of them.
pub fn start_twins<M: Machine>(
    context: Context,
    lives: [(Config, Disk); 2],
    network: Network,
    machine: Arc<M>,
    malice: Malice,
    known: Known,
) -> Result<(Vec<Handle<M>>, Task<()>)> {
    start_lives(context, lives.into(), network, machine, malice, known)
}

fn start_lives<M: Machine>(
    context: Context,
    lives: Vec<(Config, Disk)>,
    network: Network,
    machine: Arc<M>,
    malice: Malice,
    known: Known,
) -> Result<(Vec<Handle<M>>, Task<()>)> {
    let mut handles = Vec::new();
    let mut ends_of = Vec::new();
    let mut started = Vec::new();
    for (config, disk) in lives {
        let core = Arc::new(open(
            &config,
            machine.clone(),
            Arc::new(Store::on(&disk.medium)?),
            Sealer::memory(disk.led.clone(), &config.seat, config.network),
        )?);
        let vault = Vault::memory(disk.sealed.clone(), &config.seat)?;
        let (handle, ends, ended) = handle(core.clone());
        handles.push(handle);
        ends_of.push(ended);
        started.push(Life {
            prefix: format!("{}-{}-", config.listen.port(), disk.engines.load(Relaxed)),
            config,
            core,
            vault,
            ends,
        });
    }
    let task = context.spawn(move |context| async move {
        on_simulated(context, started, network, malice, known).await;
        drop(ends_of);
    });
    Ok((handles, task))
}
