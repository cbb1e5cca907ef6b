use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::ProposalId;

use super::Change;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// By a member; counts as its yes.
    Propose { change: Change },
    /// By one who was a member when it was proposed; may be changed until it is decided.
    Cast { proposal: ProposalId, yes: bool },
}
