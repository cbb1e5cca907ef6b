use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount};

use super::{Role, SpendingLimit};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Transferred {
        from: AccountId,
        to: AccountId,
        amount: Amount,
        memo: String,
    },
    Granted {
        account: AccountId,
        to: AccountId,
        role: Role,
        limit: Option<SpendingLimit>,
        expires_ms: Option<u64>,
    },
    /// `from` the account itself: its first key.
    Revoked { account: AccountId, from: AccountId },
}
