//! Turns in which no block was made, and ceremonies that failed.

use serde::{Deserialize, Serialize};
use types::PublicKey;
use utoipa::ToSchema;

/// What a block shows of those who vote; blocks that show nothing have no row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnsView {
    pub height: u64,
    pub time_ms: u64,
    pub epoch: u64,
    /// Whose turns passed without a block since its parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<MissedView>,
    /// Of those who had missed a turn: who leads this block, or sits no more after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub over: Vec<PublicKey>,
    /// In an epoch's last block: was the network's key handed on to those drawn for the next one?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_on: Option<bool>,
    /// In an epoch's last block: whose shares of the key for the next one were shown to all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub revealed: Vec<PublicKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissedView {
    #[schema(value_type = String)]
    pub validator: PublicKey,
    pub times: u64,
}

impl TurnsView {
    /// Rows of one answer at most.
    pub const MAX: usize = 1_000;
}
