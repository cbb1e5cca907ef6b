//! What waits at validators for a block.

use serde::{Deserialize, Serialize};
use types::{Amount, PublicKey};
use utoipa::ToSchema;

/// How a validator stands, and what waits there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Whose answer it is.
    #[schema(value_type = String)]
    pub validator: PublicKey,
    /// Its head.
    pub height: u64,
    pub time_ms: u64,
    /// Its own clock less the head's time.
    pub late_ms: u64,
    pub epoch: u64,
    /// Turns of the epoch in which no block was finalised.
    pub missed: u64,
    /// Validators that it is connected to.
    pub peers: u64,
    /// Transactions that wait there, and their bytes.
    pub waiting: u64,
    pub bytes: u64,
    /// What there is room for.
    pub waiting_max: u64,
    pub bytes_max: u64,
    /// Those of them that were submitted there.
    pub own: u64,
    /// Accounts that they are of.
    pub senders: u64,
    /// Height of the head when the one that waits longest came.
    pub oldest: Option<u64>,
    /// Blocks after which one that was never included is forgotten.
    pub age_max: u64,
    /// By tip, dearest first, at most twenty.
    pub tips: Vec<TipView>,
}

/// What waits for one tip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TipView {
    #[schema(value_type = String)]
    pub tip: Amount,
    pub waiting: u64,
    pub bytes: u64,
}

/// One of a gateway's validators, as it answers there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidatorQueue {
    /// `host:port` of its API.
    pub address: String,
    /// `None`: it does not answer, and why.
    pub queue: Option<QueueView>,
    pub why: String,
}
