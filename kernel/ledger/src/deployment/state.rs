use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, AllocationId, Amount, DeploymentSpec};

use super::{Earlier, Tried};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Deployment {
    pub owner: AccountId,
    pub spec: DeploymentSpec,
    pub release: u32,
    /// The last release of which every replica came good; 0 if none has yet.
    pub good: u32,
    /// Under way while the latest release has not come good.
    pub rollout: Option<Rollout>,
    /// The last release that failed.
    pub setback: Option<Setback>,
    /// Replicas that are wanted and have no place, in order.
    pub unplaced: Vec<Unplaced>,
    /// Seats whose replica could not be made ready, until one is good.
    pub tried: Vec<Tried>,
    /// Part of its domain: the project name, with a suffix if another owner had it first.
    pub label: String,
    pub created_ms: u64,
    pub updated_ms: u64,
    /// Live allocations (not yet closed), in order.
    pub allocations: Vec<AllocationId>,
    /// The last that were closed, at most [`super::ENDED_MAX`], in order.
    pub ended: Vec<AllocationId>,
    /// What those closed before come to, by service.
    pub earlier: BTreeMap<String, Earlier>,
    pub removed: bool,
    pub remove_volumes: bool,
    pub escrow: Amount,
    /// Paid out of it so far.
    pub charged: Amount,
    pub funding: Funding,
    /// Stopped by its owner's limit, everything kept.
    pub limited: bool,
    /// Ledger time at which funds end at the worst-case burn, as far as known.
    pub dry_ms: u64,
    /// When the ledger looks at the funds again.
    pub due_ms: u64,
    /// When the ledger looks at the replicas again, whatever happens; 0: not by itself.
    pub look_ms: u64,
}

impl Deployment {
    /// Stopped, everything kept: for lack of funds, or by its owner's limit.
    pub fn is_frozen(&self) -> bool {
        self.funding == Funding::Frozen || self.limited
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Rollout {
    pub since_ms: u64,
    /// It undoes a release that failed; if it fails too, it stops.
    pub back: bool,
    /// It stopped, old and new replicas are left as they are: why.
    pub stuck: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Setback {
    pub release: u32,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Unplaced {
    pub service: String,
    pub replica: u32,
    pub why: String,
    pub since_ms: u64,
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
