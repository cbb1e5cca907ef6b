use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount};

use super::{Role, SpendingLimit};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Transfer {
        to: AccountId,
        amount: Amount,
        /// At most 140 bytes.
        memo: String,
    },
    /// Test networks only: the gift of [`crate::Params::faucet`], once per account.
    Faucet { to: AccountId },
    /// Lets another key, or a member, act for the account; or changes what it may.
    Grant {
        /// The account of the key.
        to: AccountId,
        role: Role,
        limit: Option<SpendingLimit>,
        /// Ledger time.
        expires_ms: Option<u64>,
        /// One line of at most 60 bytes, for all to read.
        label: String,
    },
    /// Takes that back; `from` the account itself: its first key signs no more.
    Revoke { from: AccountId },
}
