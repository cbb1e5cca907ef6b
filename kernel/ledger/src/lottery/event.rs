use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Digest, LotteryId};

use super::{Draw, Terms};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Created {
        lottery: LotteryId,
        terms: Terms,
    },
    Entered {
        lottery: LotteryId,
        account: AccountId,
        /// Number of the first of them.
        first: u32,
        count: u32,
    },
    /// The entries are fixed.
    Closed {
        lottery: LotteryId,
        terms: Terms,
        entries: u32,
        root: Digest,
        /// The first whose beacon may decide.
        draw_epoch: u64,
    },
    Drawn {
        lottery: LotteryId,
        draw: Draw,
    },
    /// Too few had entered: each has its price back.
    Refunded {
        lottery: LotteryId,
        entries: u32,
    },
}
