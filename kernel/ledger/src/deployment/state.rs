use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, AllocationId, Amount, DeploymentSpec};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Deployment {
    pub owner: AccountId,
    pub spec: DeploymentSpec,
    pub release: u32,
    /// Part of its domain: the project name, with a suffix if another owner had it first.
    pub label: String,
    pub created_ms: u64,
    pub updated_ms: u64,
    /// Live allocations (not yet closed), in order.
    pub allocations: Vec<AllocationId>,
    /// Closed ones, for the bill.
    pub ended: Vec<AllocationId>,
    pub removed: bool,
    pub remove_volumes: bool,
    pub escrow: Amount,
    /// Paid out of it so far.
    pub charged: Amount,
    pub funding: Funding,
    /// Ledger time at which funds end at the worst-case burn, as far as known.
    pub dry_ms: u64,
    /// When the ledger looks at the funds again.
    pub due_ms: u64,
}

#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Funding {
    Good,
    /// Alerted.
    Low,
    Frozen,
}
