use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount};

use super::Notice;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Set {
        account: AccountId,
        alert: Option<Amount>,
        limit: Option<Amount>,
        order: Vec<String>,
    },
    /// Once in a month for each notice, unless the limit is set anew.
    Told {
        account: AccountId,
        notice: Notice,
        /// In this month so far.
        spent: Amount,
        /// Of what: the alert, or the limit.
        of: Amount,
    },
}
