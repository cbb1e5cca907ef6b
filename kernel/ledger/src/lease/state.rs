use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AllocationStatus, Amount, DeploymentId, HostId, Resources, Usage};

use crate::Tariff;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Allocation {
    pub deployment: DeploymentId,
    pub release: u32,
    pub service: String,
    pub replica: u32,
    pub host: HostId,
    pub desired: Desired,
    /// When a draining replica is removed; 0 if it does not drain.
    pub leave_ms: u64,
    /// Since when it drains; 0 if it does not.
    pub drain_ms: u64,
    /// Grows when the container must be started anew on request.
    pub generation: u32,
    pub reserved: Resources,
    /// Locked when the lease began.
    pub rates: Tariff,
    pub placed_ms: u64,
    pub status: AllocationStatus,
    pub status_ms: u64,
    /// Its host has said at least once that it is ready.
    pub was_ready: bool,
    /// Settled up to here.
    pub settled_ms: u64,
    pub sequence: u64,
    pub usage: Usage,
    /// Cores in use between its last two reports, in thousandths, and when that was; 0 if it is
    /// not known: it was not ready all the time.
    pub cpu_millis: u32,
    pub cpu_ms: u64,
    /// Charged so far, per resource in the order of [`types::Resource::ALL`].
    pub charged: [Amount; 5],
    pub closed: bool,
    /// Why it is where it is.
    pub reason: scheduler::Reason,
}

#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    Run,
    /// Serves what it has begun and gets nothing new: another replica has its seat.
    Drain,
    /// Stopped on request; keeps its place and its data.
    Stop,
    /// No funds, or its owner's limit; keeps its place and its data.
    Freeze,
    Remove,
}
