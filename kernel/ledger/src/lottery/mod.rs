//! Lotteries: anyone opens a round, anyone enters for its price, chance that nobody chose or
//! knew decides.
//!
//! ```text
//! open ──close height, or its owner──▶ closed ──a later epoch's beacon──▶ drawn
//!                                        └──too few entries──▶ refunded
//! ```
//!
//! 1. **The entries are fixed before the chance is known.** At the close a Merkle root over all
//!    entries goes into the block; drawn is with the beacon of an epoch that begins after the
//!    close, and not before the draw height. If an epoch tells none, the next one's counts.
//! 2. **Nobody need act.** Closing, drawing and refunding happen by height; calls only come
//!    first.
//! 3. **Nothing is made or lost.** All that is paid in lies on the round's own account, to which
//!    nobody has a key. Prizes are millionths of the pot, rounded down; the rest and the deposit
//!    go to the owner. Too few entries: each gets its price back.
//! 4. **Bounds.** A round has at most 10,000 entries and 100 prizes; 1,000 rounds are open or wait
//!    at a time, 16 of one account, each with a deposit. What is over is forgotten after a week.

mod apply;
mod call;
mod event;
mod pass;
mod state;

pub(crate) use apply::apply;
pub use call::Call;
pub use event::Event;
pub(crate) use pass::pass_time;
pub use state::{
    Draw, Entry, MILLION, Phase, Round, Terms, Win, draw_epoch, draw_seed, draw_wins, entries_root,
    pot_account,
};

#[cfg(test)]
mod tests;
