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
    /// Removed once it has drained: another replica has its seat, or nobody wants it any more.
    AllocationLeaves {
        deployment: DeploymentId,
        allocation: AllocationId,
        service: String,
        replica: u32,
    },
    /// A wanted replica has no place, and why; the ledger goes on trying.
    Unplaced {
        deployment: DeploymentId,
        service: String,
        replica: u32,
        why: String,
    },
    /// Its host could not make it ready: it ends, and is placed again, elsewhere if there is
    /// somewhere else; and why.
    TriedAgain {
        deployment: DeploymentId,
        allocation: AllocationId,
        service: String,
        replica: u32,
        /// Where it failed.
        host: HostId,
        /// So many tries have failed.
        times: u32,
        why: String,
    },
    /// It is wanted again before it was gone.
    AllocationStays {
        deployment: DeploymentId,
        allocation: AllocationId,
        service: String,
        replica: u32,
    },
    /// An autoscaled service shall have another number of replicas, and why.
    Scaled {
        deployment: DeploymentId,
        service: String,
        from: u32,
        to: u32,
        why: String,
    },
    /// Every replica of the release has come good.
    ReleaseGood {
        deployment: DeploymentId,
        release: u32,
    },
    /// The release failed and stays as it is.
    ReleaseStuck {
        deployment: DeploymentId,
        release: u32,
        why: String,
    },
    /// `release` is the same as `to` again; `from` failed for the reason given, or, if there
    /// is none, the owner asked for it.
    RolledBack {
        deployment: DeploymentId,
        from: u32,
        to: u32,
        release: u32,
        why: String,
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
    /// It runs again: funds came, or its owner's limit allows it.
    Thawed {
        deployment: DeploymentId,
    },
    /// Its owner's limit was reached: stopped, everything kept.
    Limited {
        deployment: DeploymentId,
    },
}
