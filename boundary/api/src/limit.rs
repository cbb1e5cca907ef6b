//! What an account may spend in a month.

use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, DeploymentId};
use utoipa::ToSchema;

/// What an account may spend in a month on what runs, and has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitView {
    #[schema(value_type = String)]
    pub account: AccountId,
    pub height: u64,
    /// The month in UTC, of ledger time.
    pub from_ms: u64,
    pub until_ms: u64,
    #[schema(value_type = String)]
    pub spent: Amount,
    #[schema(value_type = Option<String>)]
    pub alert: Option<Amount>,
    #[schema(value_type = Option<String>)]
    pub limit: Option<Amount>,
    /// What may be taken this month at most: the limit, or what had been used when it was lowered.
    #[schema(value_type = Option<String>)]
    pub most: Option<Amount>,
    /// As it was set: projects, the one that stops first first.
    pub order: Vec<String>,
    /// Projects in the order in which they stop: as many as were asked for, at most
    /// [`LimitView::LISTED_MAX`].
    pub stops: Vec<StopView>,
    /// How many there are, listed or not; and how many of them the limit has stopped.
    pub projects: u64,
    pub limited: u64,
}

impl LimitView {
    pub const LISTED_MAX: usize = 1_000;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopView {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub project: String,
    /// It stops when about so much is spent.
    #[schema(value_type = Option<String>)]
    pub at: Option<Amount>,
    /// The limit has stopped it.
    pub limited: bool,
}
