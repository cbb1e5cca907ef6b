use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, PublicKey};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Entered, or entered again: it may be drawn for epochs up to `until`.
    ValidatorRegistered {
        key: PublicKey,
        owner: AccountId,
        address: String,
        bond: Amount,
        until: u64,
    },
    /// It will be drawn no more.
    ValidatorLeaving {
        key: PublicKey,
        owner: AccountId,
        /// First epoch in which it does not sit, as far as the lots have fallen.
        from: u64,
    },
    /// Gone, and the bond with it.
    BondReturned {
        key: PublicKey,
        to: AccountId,
        amount: Amount,
    },
    /// It sealed two blocks for one view.
    ValidatorConvicted {
        key: PublicKey,
        owner: AccountId,
        epoch: u64,
        view: u64,
        /// Its bond: `reward` went to `finder`, the rest to the fund.
        lost: Amount,
        finder: AccountId,
        reward: Amount,
    },
}
