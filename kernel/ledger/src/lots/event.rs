use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Only these may be drawn for the epoch.
    CandidatesFrozen {
        epoch: u64,
        count: u32,
        root: Digest,
    },
    /// Who sits in the epoch is decided.
    Drawn {
        epoch: u64,
        /// `None`: nobody told it in time, and those who sat go on.
        beacon: Option<Digest>,
        lineup: lots::Lineup,
    },
}
