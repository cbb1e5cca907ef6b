use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, ProposalId};

use super::{Change, Phase};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Proposed {
        proposal: ProposalId,
        proposer: AccountId,
        change: Change,
        /// How many may vote.
        members: u32,
    },
    Cast {
        proposal: ProposalId,
        account: AccountId,
        yes: bool,
    },
    /// It is decided, or in effect.
    Moved { proposal: ProposalId, phase: Phase },
}
