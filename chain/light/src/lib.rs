//! Check certificates and proofs; nothing else.
//!
//! No I/O and no clock: also runs in other people's programs. Everything starts from bytes
//! and the network key; a certificate is 131 bytes whatever the committee.
//!
//! Start at [`verify_block`], then [`verify_event`] or, for what is so now, [`verify_record`];
//! for who votes, [`verify_epoch_change`].

mod certificate;
mod clock;
mod epoch;
mod export;
mod screened;
mod turns;

pub use clock::{
    Agreed, CLOCK_BOUND_MS, Clock, STATED_WITHIN, Statement, clock_quorum, is_stated, state_time,
};
pub use epoch::{EpochChange, verify_epoch_change};
pub use export::Export;
pub use screened::{Screened, is_screened, screen};
pub use turns::{lineup, turn_of, turns};

use borsh::{BorshDeserialize, BorshSerialize};
use certificate::{Certificate, NetworkKey};
use types::{Digest, StateProof, merkle_verify, record_digest, state_key};

/// Separates Runrig's signatures from those of other programs.
pub const NAMESPACE: &[u8] = b"RUNRIG";

/// What a certificate signs: a block without its transactions.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Header {
    pub network: Digest,
    /// Run of blocks with one committee; [`epoch_of`] the height.
    pub epoch: u64,
    pub height: u64,
    /// Consensus view in which it was proposed; views are counted anew in each epoch.
    pub view: u64,
    /// View of the parent; 0 in an epoch's first block.
    pub parent_view: u64,
    /// Milliseconds since 1970, by agreement ([`Clock`]); greater than the parent's.
    pub time_ms: u64,
    pub parent: Digest,
    /// Identity key of its leader.
    pub proposer: [u8; 32],
    /// Merkle root over the transactions' bytes.
    pub payload_root: Digest,
    /// Names the block's [`Duty`].
    pub duty: Digest,
    /// Merkle root over the outcomes' canonical bytes, one per transaction.
    pub outcomes_root: Digest,
    /// Merkle root over the events' canonical bytes.
    pub events_root: Digest,
    /// Commits to every record as it is after this block: see [`verify_record`].
    pub state_root: Digest,
}

impl Header {
    /// Canonical bytes are always so many.
    pub const BYTES: usize = 8 * 5 + 32 * 8;

    pub fn to_bytes(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("writing to memory does not fail")
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LightError> {
        Self::try_from_slice(bytes).map_err(|_| LightError::Header)
    }

    /// Names the block; what certificates sign.
    pub fn digest(&self) -> Digest {
        Digest::of_value("runrig-header", self)
    }
}

/// What a block does for its epoch and for the time, beside its transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Duty {
    /// What clocks showed: the header's time follows from it.
    pub clock: Option<Clock>,
    /// Of the handing over of the key: a dealer's log, or, in an epoch's last block, who sits
    /// in the next one.
    pub ceremony: Option<Vec<u8>>,
    /// The epoch's beacon: the threshold signature over its view [`BEACON_VIEW`].
    pub beacon: Option<[u8; BEACON_BYTES]>,
    /// In what order those who sit in the next epoch lead: places among their keys, ascending, as
    /// [`lineup`] reads them; in an epoch's last block, and in the genesis for the first epoch.
    pub lineup: Option<Vec<u8>>,
    /// Root of the candidates that are frozen with this block.
    pub candidates: Option<Digest>,
    /// [`snapshot_root`] of the whole state after this block; in an epoch's last block.
    pub snapshot: Option<Digest>,
    /// Of screeners, in the order drawn, each once: a transaction that it brought.
    pub screened: Vec<Screened>,
}

impl Duty {
    /// What the header says of it; all zeros when there is nothing.
    pub fn digest(&self) -> Digest {
        if *self == Self::default() {
            return Digest::default();
        }
        Digest::of_value("runrig-duty", self)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("writing to memory does not fail")
    }

    /// The duty that `header` names.
    pub fn from_bytes(header: &Header, bytes: &[u8]) -> Result<Self, LightError> {
        let duty = Self::try_from_slice(bytes).map_err(|_| LightError::Duty)?;
        if duty.digest() == header.duty {
            Ok(duty)
        } else {
            Err(LightError::Duty)
        }
    }
}

/// A compressed signature.
pub const BEACON_BYTES: usize = 48;

/// The view of each epoch whose threshold signature is the epoch's beacon. Fixed, so that no
/// leader chooses it: a view ends with a certificate whether its leader speaks or not.
pub const BEACON_VIEW: u64 = 2;

/// The epoch of a height, where epochs have `blocks` blocks.
pub fn epoch_of(height: u64, blocks: u64) -> u64 {
    height / blocks.max(1)
}

/// Height of an epoch's last block.
pub fn epoch_end(epoch: u64, blocks: u64) -> u64 {
    epoch
        .saturating_add(1)
        .saturating_mul(blocks.max(1))
        .saturating_sub(1)
}

/// Bytes of a snapshot that are proved together.
pub const SNAPSHOT_CHUNK_BYTES: usize = 64 << 10;

/// Names a whole state: Merkle root over its canonical bytes in chunks.
pub fn snapshot_root(state: &[u8]) -> Digest {
    let chunks: Vec<&[u8]> = state.chunks(SNAPSHOT_CHUNK_BYTES).collect();
    types::merkle_root(&chunks)
}

/// The chance that a beacon gives.
pub fn beacon_digest(signature: &[u8; BEACON_BYTES]) -> Digest {
    Digest::of_value("runrig-beacon", signature)
}

/// Whether `seed` is the beacon of `epoch`: signed by the network's committee over the one
/// fixed view.
pub fn verify_beacon(
    network_key: &[u8],
    epoch: u64,
    seed: &[u8; BEACON_BYTES],
) -> Result<(), LightError> {
    let key = NetworkKey::from_bytes(network_key)?;
    if key.has_seeded(epoch, BEACON_VIEW, seed) {
        Ok(())
    } else {
        Err(LightError::Beacon(epoch))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    #[error("the header cannot be read")]
    Header,
    #[error("the network key cannot be read")]
    Key,
    #[error("the certificate cannot be read")]
    Certificate,
    #[error("the certificate is for another block")]
    OtherBlock,
    #[error("the certificate was not made by this network's committee")]
    Forged,
    #[error("header {0} does not follow from the one before")]
    Chain(u64),
    #[error("the event is not in that block")]
    Event,
    #[error("the record is not in the state after that block, or not so")]
    Record,
    #[error("this is not the duty that the header names")]
    Duty,
    #[error("the block's clock has statements that are old, twice or not their makers'")]
    Clock,
    #[error("this is no export of a ledger's state, or it is cut or changed in its form")]
    Export,
    #[error("block {0} does not end an epoch: it names no state")]
    NoSnapshot(u64),
    #[error("this is not the state that block {0} names: it was changed")]
    OtherState(u64),
    #[error("block {0} does not say who votes after it")]
    NoChange(u64),
    #[error("the key that block {0} hands on is not the network's")]
    OtherKey(u64),
    #[error("the beacon of epoch {0} was not made by this network's committee")]
    Beacon(u64),
}

/// The header, if the network's committee finalised it.
///
/// `descendants`: headers of the following blocks, without gap, up to the one that the
/// certificate names; empty if it names this block. (A block is also final when a
/// descendant is.)
pub fn verify_block(
    network_key: &[u8],
    header: &[u8],
    descendants: &[Vec<u8>],
    certificate: &[u8],
) -> Result<Header, LightError> {
    let first = Header::from_bytes(header)?;
    let mut last = first.clone();
    for bytes in descendants {
        let next = Header::from_bytes(bytes)?;
        if next.parent != last.digest() || next.height != last.height + 1 {
            return Err(LightError::Chain(next.height));
        }
        last = next;
    }
    let key = NetworkKey::from_bytes(network_key)?;
    let certificate = Certificate::from_bytes(certificate)?;
    if certificate.block != last.digest() {
        return Err(LightError::OtherBlock);
    }
    match certificate.is_good(&key) {
        true => Ok(first),
        false => Err(LightError::Forged),
    }
}

/// Whether `event` (canonical bytes) is number `index` of the `count` events of a block.
pub fn verify_event(
    header: &Header,
    event: &[u8],
    index: u64,
    count: u64,
    path: &[Digest],
) -> Result<(), LightError> {
    if merkle_verify(&header.events_root, event, index, count, path) {
        Ok(())
    } else {
        Err(LightError::Event)
    }
}

/// Whether after the block of `header` the record of `table` under `key` has these canonical bytes;
/// with `None`: whether there is no such record.
///
/// `proof`: canonical bytes of a [`StateProof`]. How old the block is, is for the caller to judge.
pub fn verify_record<K: BorshSerialize>(
    header: &Header,
    table: &str,
    key: &K,
    record: Option<&[u8]>,
    proof: &[u8],
) -> Result<(), LightError> {
    let value = record.map(|bytes| record_digest(table, bytes));
    let read = Some(proof).filter(|bytes| bytes.len() <= StateProof::BYTES_MAX);
    let read = read.and_then(|bytes| StateProof::try_from_slice(bytes).ok());
    let key = state_key(table, key);
    match read {
        Some(proof) if proof.holds(&header.state_root, &key, value.as_ref()) => Ok(()),
        _ => Err(LightError::Record),
    }
}

#[cfg(test)]
mod tests;
