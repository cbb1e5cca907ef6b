use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount};

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
}
