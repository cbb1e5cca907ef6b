use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, AllocationId, Amount, DeploymentId, HostId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Deployed {
        deployment: DeploymentId,
        owner: AccountId,
        project: String,
        release: u32,
        changed: Vec<String>,
    },
    Removed {
        deployment: DeploymentId,
    },
    /// All allocations have ended; what was left of the escrow went back.
    Closed {
        deployment: DeploymentId,
        refund: Amount,
    },
    SetRunning {
        deployment: DeploymentId,
        service: Option<String>,
        running: bool,
    },
    Restarted {
        deployment: DeploymentId,
        service: Option<String>,
    },
    AllocationPlaced {
        deployment: DeploymentId,
        allocation: AllocationId,
        service: String,
        replica: u32,
        host: HostId,
    },
    /// Funds will not last `alert_ms` any more.
    FundsLow {
        deployment: DeploymentId,
        until_ms: u64,
    },
    /// Funds ran out: stopped, everything kept.
    Frozen {
        deployment: DeploymentId,
    },
    Thawed {
        deployment: DeploymentId,
    },
}
