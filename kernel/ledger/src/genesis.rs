//! The first state of a network, as a file everyone starts from.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest};

use crate::Params;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    pub name: String,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub params: Params,
    /// All money there is: the sum is the supply. The faucet's pool is one of them.
    pub balances: Vec<(AccountId, Amount)>,
    /// Pays the faucet's gifts.
    pub faucet: AccountId,
}

impl Genesis {
    pub fn digest(&self) -> Digest {
        Digest::of_value("runrig-genesis", self)
    }
}
