use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest, LotteryId, merkle_root};

/// Prizes are counted in parts of it.
pub const MILLION: u32 = 1_000_000;

/// What was agreed when the round was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Terms {
    pub owner: AccountId,
    /// At most 64 bytes.
    pub name: String,
    /// Of one entry.
    pub price: Amount,
    /// What the owner adds to the pot.
    pub stake: Amount,
    /// Shares of the pot in millionths, the first prize first; at most 100, together at most a
    /// million.
    pub prizes: Vec<u32>,
    /// With fewer, all is paid back.
    pub entries_min: u32,
    pub entries_max: u32,
    pub per_account_max: u32,
    /// Entries are taken in blocks below it.
    pub close_height: u64,
    /// The beacon of an epoch that begins before is not drawn with.
    pub draw_height: u64,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Open,
    /// The entries are fixed; the beacon is to come.
    Closed,
    Drawn,
    /// Too few had entered.
    Refunded,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Round {
    pub terms: Terms,
    pub phase: Phase,
    pub opened_at: u64,
    pub entries: u32,
    /// Height of the close.
    pub closed_at: Option<u64>,
    /// Over all entries, in order; from the close on.
    pub root: Option<Digest>,
    pub draw: Option<Draw>,
    /// Height from which nothing changes any more.
    pub over_at: Option<u64>,
}

/// What chance decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Draw {
    /// Whose beacon it was.
    pub epoch: u64,
    /// Height of the block that told it.
    pub told_at: u64,
    pub beacon: Digest,
    /// The first prize first.
    pub wins: Vec<Win>,
    /// To the owner: what no prize took.
    pub rest: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Win {
    /// Number of the entry, from 0.
    pub entry: u32,
    pub account: AccountId,
    pub amount: Amount,
}

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    pub account: AccountId,
    /// Height of its block.
    pub height: u64,
}

impl Round {
    /// All that may be won.
    pub fn pot(&self) -> Amount {
        let paid = self.terms.price.0.saturating_mul(self.entries.into());
        Amount(paid.saturating_add(self.terms.stake.0))
    }
}

/// Where a round's money lies. No key makes this id.
pub fn pot_account(network: &Digest, id: LotteryId) -> AccountId {
    let digest = Digest::of_value("runrig-lottery-pot", &(network, id));
    AccountId(digest.0[..20].try_into().expect("20 of 32 bytes"))
}

/// Fixes the entries of a round, in the order of their numbers.
pub fn entries_root(id: LotteryId, entries: &[Entry]) -> Digest {
    let leaves: Vec<Vec<u8>> = (0u32..)
        .zip(entries)
        .map(|(number, entry)| {
            borsh::to_vec(&(id, number, entry)).expect("writing to memory does not fail")
        })
        .collect();
    merkle_root(&leaves)
}

/// The first epoch whose beacon may be drawn with: it begins after the close, and not before
/// the draw height.
pub fn draw_epoch(closed_at: u64, draw_height: u64, epoch_blocks: u64) -> u64 {
    let blocks = epoch_blocks.max(1);
    (closed_at / blocks + 1).max(draw_height.div_ceil(blocks))
}

/// The chance of one round: it follows from the beacon, and from what was fixed before.
pub fn draw_seed(network: &Digest, id: LotteryId, root: &Digest, beacon: &Digest) -> Digest {
    Digest::of_value("runrig-lottery-draw", &(network, id, root, beacon))
}

/// Who wins what, and what is left of the pot. `of`: whose an entry is.
pub fn draw_wins(
    terms: &Terms,
    pot: Amount,
    entries: u32,
    seed: &Digest,
    of: impl Fn(u32) -> AccountId,
) -> (Vec<Win>, Amount) {
    let drawn = lots::shuffled(seed, entries.into(), terms.prizes.len());
    let wins: Vec<Win> = drawn
        .into_iter()
        .zip(&terms.prizes)
        .map(|(entry, share)| {
            let entry = u32::try_from(entry).unwrap_or(u32::MAX);
            Win {
                entry,
                account: of(entry),
                amount: share_of(pot, *share),
            }
        })
        .collect();
    let won = wins.iter().map(|w| w.amount.0).sum();
    (wins, pot.saturating_sub(Amount(won)))
}

/// `millionths` of `pot`, rounded down.
fn share_of(pot: Amount, millionths: u32) -> Amount {
    // In two parts, so that no pot overflows.
    let million = u128::from(MILLION);
    let share = u128::from(millionths.min(MILLION));
    Amount(pot.0 / million * share + pot.0 % million * share / million)
}
