//! Bound what an account spends in a month on what runs: told early, stopped in its order, nothing
//! deleted.
//!
//! 1. **What counts** is what hosts are paid for usage out of the account's escrow, when they are
//!    paid. Payments, fees, bonds and entries do not: somebody signs each of them.
//! 2. **A month** is the calendar's, in UTC, by block time.
//! 3. **Hard is hard.** A settlement takes no more than the limit leaves ([`room`]); the rest stays due,
//!    and the next month's first settlement takes it. So in no month is more taken, whatever hosts report.
//! 4. **Stopped before that.** A project runs on only while the limit bears what it and all that stop
//!    after it can use until two more reports have come. So a host that reports in time is paid for what ran.
//!    What stays is storage: it goes on being counted, and is paid up to the limit.
//! 5. **The order.** Of n projects the first stops at nine tenths of the limit, the last at all of it, the
//!    others at even steps between ([`State::stops`]). Never does one run on that stops before one that
//!    was stopped.
//! 6. **Who lowers a limit still pays what was used**: what had been spent by then, and what may
//!    have been used and not been reported, is taken in that month even so ([`Limit::owed`]).

mod apply;
mod call;
mod event;
mod state;

pub(crate) use apply::{apply, bears, count, pass_time, refused, review_changed, room};
pub use call::Call;
pub use event::Event;
pub use state::{Limit, Notice, ORDER_MAX, Stop};

#[cfg(test)]
mod tests;

#[cfg(doc)]
use crate::State;
