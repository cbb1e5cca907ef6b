//! What consensus asks of the ledger.

use std::sync::Arc;

use bytes::Bytes;
use types::Digest;

use crate::committee::Member;

/// A deterministic state machine over opaque transactions.
///
/// Same state, same block, same result, on every validator, always. Nothing here may panic
/// on any input.
pub trait Machine: Send + Sync + 'static {
    /// Cheap to clone (persistent maps): one is kept per unfinalised fork.
    type State: Clone + Send + Sync + 'static;

    /// Errors: it cannot be made here.
    fn genesis(&self) -> anyhow::Result<Executed<Self::State>>;

    /// Checks each transaction alone (size, form, signature) and against `state` (network,
    /// nonce, expiry) before it is queued; one answer for each, in order. The error is for
    /// the sender, as JSON. Signatures are checked in one batch, except those of the ids
    /// that `verified` knows.
    fn admit(
        &self,
        state: &Self::State,
        transactions: &[Bytes],
        verified: &dyn Fn(&Digest) -> bool,
    ) -> Vec<Result<Admitted, String>>;

    /// Executes a block. Invalid transactions are recorded as rejected, never skipped.
    /// Signatures are checked here in one batch, except those whose id `verified` knows.
    fn execute(
        &self,
        parent: &Self::State,
        env: Env,
        transactions: &[Bytes],
        verified: &dyn Fn(&Digest) -> bool,
    ) -> Executed<Self::State>;

    /// Who is to sit in `epoch`, in any order; `None` while that is not decided, and when it
    /// is forgotten. Once said it never changes. Those of epochs 0 to 2 are decided by the
    /// genesis; those of epoch e by the middle of epoch e − 3 at the latest: an epoch for
    /// them to learn of it, one to receive their shares.
    fn committee(&self, state: &Self::State, epoch: u64) -> Option<Vec<Member>>;

    /// Whether the next block after `state` may tell the beacon of its epoch.
    fn wants_beacon(&self, state: &Self::State) -> bool;

    /// Whose word counts in `epoch` that they brought a transaction, in the order drawn; at most 31.
    fn screeners(&self, _state: &Self::State, _epoch: u64) -> Vec<[u8; 32]> {
        Vec::new()
    }

    /// Was `key` convicted of two blocks for one view? It leads no more, as long as anyone else
    /// who sits may.
    fn is_barred(&self, _state: &Self::State, _key: &[u8; 32]) -> bool {
        false
    }

    /// How long after the one before a block comes, after `state`.
    fn pace(&self, _state: &Self::State) -> Pace {
        Pace::default()
    }

    /// Commits to all of `state`: the header's state root. It follows from the state alone, whatever
    /// came before.
    fn root(&self, state: &Self::State) -> Digest;

    /// All of `state` in canonical bytes, and back: for restart.
    fn save(&self, state: &Self::State) -> Vec<u8>;
    fn load(&self, bytes: &[u8]) -> anyhow::Result<Self::State>;
}

/// Milliseconds from a block to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// On an idle network.
    pub idle_ms: u64,
    /// When transactions wait: so long they gather.
    pub busy_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            idle_ms: 900,
            busy_ms: 60,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Admitted {
    pub id: Digest,
    /// For per-sender quotas.
    pub sender: [u8; 20],
    /// Higher goes first.
    pub tip: u128,
    /// Somebody waits for it: a block is made soon. Else it goes with the next block that is
    /// made anyway.
    pub urgent: bool,
}

/// What surrounds a block's transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    pub height: u64,
    /// Milliseconds since 1970; greater than the parent's. The median of what clocks showed.
    pub time_ms: u64,
    /// Chance: digest of the beacon's signature, when this block tells it.
    pub beacon: Option<Digest>,
    /// Who made the block.
    pub leader: [u8; 32],
    /// Does it carry the log of its leader's dealing?
    pub dealt: bool,
    /// Whose clocks it was told of.
    pub stated: Arc<[Stated]>,
    /// Which screener brought which transaction, by place in the block.
    pub screened: Arc<[([u8; 32], u32)]>,
}

/// Whose clock a block was told of, and whether it was near the median.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    pub key: [u8; 32],
    pub within: bool,
}

#[derive(Clone, Debug)]
pub struct Executed<S> {
    pub state: S,
    /// Ids of the block's transactions, in order: those of [`Admitted`].
    pub ids: Vec<Digest>,
    /// Root of the candidates that this block freezes, if it does.
    pub candidates: Option<Digest>,
    /// Canonical bytes of each event, in order: leaves of the header's events root.
    pub events: Vec<Vec<u8>>,
    /// Canonical bytes of each transaction's outcome, in block order.
    pub outcomes: Vec<Vec<u8>>,
}
