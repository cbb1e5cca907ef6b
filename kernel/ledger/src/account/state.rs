use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Month};

use super::Grant;

#[derive(
    Default, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Account {
    /// May be spent at will.
    pub spendable: Amount,
    /// In escrow for the account's own deployments; still the account's.
    pub held: Amount,
    /// Highest nonce used.
    pub nonce: u64,
    /// Bit i: nonce - 1 - i was used.
    pub nonces: u64,
    pub faucet_used: bool,
    /// The month in which something that runs was last charged, and what was charged in it.
    pub month: Month,
    pub spent: Amount,
    /// Who else may act for it, at most 64.
    pub grants: BTreeMap<AccountId, Grant>,
    /// Its first key signs no more; others do.
    pub retired: bool,
}

impl Account {
    /// What the owner calls his balance: it changes only by payments and charges.
    pub fn balance(&self) -> Amount {
        Amount(self.spendable.0 + self.held.0)
    }

    /// What was charged in `month`, the present one, for what runs.
    pub fn spent_in(&self, month: Month) -> Amount {
        if self.month == month {
            self.spent
        } else {
            Amount::ZERO
        }
    }
}
