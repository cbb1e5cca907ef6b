use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::Amount;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Sets the sender's limit in place of the one before.
    Set {
        /// Told once a month when so much is spent; at most the limit. `None`: not told.
        alert: Option<Amount>,
        /// In a month no more is spent. `None`: no bound.
        limit: Option<Amount>,
        /// Projects, the one that stops first first; at most [`super::ORDER_MAX`], each once. The
        /// others stop after them, the newest first.
        order: Vec<String>,
    },
}
