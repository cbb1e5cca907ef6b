use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AllocationId, Amount, DeploymentId, DeploymentSpec};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A new deployment, or a new release of the sender's deployment of that project name.
    /// Replicas of services that did not change stay where they are, untouched; others are
    /// replaced by the service's [`types::UpdatePolicy`].
    Deploy {
        spec: DeploymentSpec,
        /// Refuse if the reservation costs more than this per hour.
        price_max_hour: Option<Amount>,
    },
    /// A new release like an earlier one.
    Rollback {
        deployment: DeploymentId,
        /// `None`: the last one that came good before the latest.
        release: Option<u32>,
    },
    /// Stops and removes all; escrow goes back once the last usage is settled.
    Remove {
        deployment: DeploymentId,
        /// Volumes too.
        volumes: bool,
    },
    /// Start or stop a service (`None`: all). Stopped replicas keep their place.
    SetRunning {
        deployment: DeploymentId,
        service: Option<String>,
        running: bool,
    },
    /// Start anew the containers of a service (`None`: all). Never a redeploy.
    Restart {
        deployment: DeploymentId,
        service: Option<String>,
    },
    /// What a gateway of the network sees asked of autoscaled services; signed by it.
    ReportDemand {
        /// At most 1000.
        lines: Vec<DemandLine>,
    },
}

/// What is asked of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct DemandLine {
    pub deployment: DeploymentId,
    pub service: String,
    /// Requests and connections under way, the mean since the report before, in thousandths.
    pub under_way_milli: u32,
    /// Requests answered per second since then, in thousandths.
    pub per_second_milli: u32,
    /// Requests that wait for a first replica: above 0, one is started.
    pub waiting: u32,
    /// Under way at this moment, per replica that has any.
    pub open: Vec<(AllocationId, u32)>,
}
