use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{Amount, DeploymentId, DeploymentSpec};

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
}
