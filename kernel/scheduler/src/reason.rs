//! Why a replica is where it is: enough for anyone to recompute the decision.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::HostId;

#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Reason {
    /// Height whose snapshot was searched, and the seed that permuted equal hosts.
    pub height: u64,
    pub seed: u64,
    /// Hosts looked at, and how many of them each rule dropped.
    pub probed: u32,
    pub dropped: Vec<Dropped>,
    /// Best first; the first is the chosen host, the second the runner-up. At most 3 kept.
    pub candidates: Vec<Candidate>,
    /// How many were scored.
    pub scored: u32,
    /// Rules relaxed because too few hosts exist (for example `distinct owners`).
    pub relaxed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Dropped {
    pub rule: String,
    pub hosts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Candidate {
    pub host: HostId,
    pub score: i64,
    pub terms: Vec<Term>,
}

/// feature × weight = points; the score is their sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Term {
    pub feature: String,
    pub value: i64,
    pub weight: i64,
}
