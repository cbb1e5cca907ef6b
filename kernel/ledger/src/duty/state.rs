use std::collections::BTreeMap;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{Amount, PublicKey};

/// What a block shows of duties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Who made it; `None` only in tests.
    pub leader: Option<PublicKey>,
    /// Does it carry the log of its leader's dealing?
    pub dealt: bool,
    /// Whose clock it was told of, and whether that was near the median.
    pub stated: Arc<[(PublicKey, bool)]>,
    /// Which screener brought which transaction, by place in the block; each screener once.
    pub screened: Arc<[(PublicKey, u32)]>,
}

/// Of one validator in one epoch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Done {
    /// Blocks made.
    pub led: u64,
    /// Blocks that its clock went into.
    pub stated: u64,
    /// Blocks that its clock was left out of: too far from the median.
    pub off: u64,
    /// Did it deal to those who hold the key next?
    pub dealt: bool,
    /// Rounds in which it said what it saw of hosts, and the last of them.
    pub witnessed: u64,
    pub round: u64,
    /// Blocks with a transaction that it brought as a screener, which paid its fee and was applied.
    pub screened: u64,
    /// Its part of the epoch's fees, once that is over.
    pub earned: Amount,
}

/// Of one epoch.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Duties {
    pub by: BTreeMap<PublicKey, Done>,
    /// What its transactions paid.
    pub fees: Amount,
}
