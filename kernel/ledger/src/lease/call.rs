use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AllocationId, AllocationStatus, Digest, Usage};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Signed by the host that runs them.
    ReportStatus {
        /// Plan generation the host acts on.
        plan: u64,
        statuses: Vec<(AllocationId, AllocationStatus)>,
    },
    /// Signed by the host. Also counts as a heartbeat.
    ReportUsage {
        /// Host's report number: 1, 2, 3 …
        interval: u64,
        /// Merkle root over the canonical bytes of the interval's usage records, in the order of `lines`.
        root: Digest,
        lines: Vec<UsageLine>,
    },
}

/// The last record of an allocation in the interval, and its totals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct UsageLine {
    pub allocation: AllocationId,
    /// Of the usage record; greater than any reported before.
    pub sequence: u64,
    pub until_ms: u64,
    pub total: Usage,
    /// Digest of the usage record.
    pub record: Digest,
    /// Nothing will follow: the container is gone. Closes the lease of a removed allocation.
    pub last: bool,
}
