use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{Amount, LotteryId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Opens a round; takes the stake and the deposit.
    Create {
        /// 1 to 64 bytes.
        name: String,
        /// At least a millionth of a credit.
        price: Amount,
        stake: Amount,
        /// 1 to 100, in millionths of the pot, each above 0.
        prizes: Vec<u32>,
        entries_min: u32,
        /// At most 10,000.
        entries_max: u32,
        per_account_max: u32,
        close_height: u64,
        draw_height: u64,
    },
    /// Buys `count` entries, 1 to 100.
    Enter { lottery: LotteryId, count: u32 },
    /// By the owner: closes before the close height.
    Close { lottery: LotteryId },
    /// By anyone: draws, if the beacon is there and the block has not come to it.
    Draw { lottery: LotteryId },
}
