use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::HostId;

use super::Flag;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A quorum of witnesses got no answer from what the host said was running.
    HostFlagged { host: HostId, flag: Flag },
}
