//! What validators did, as far as blocks show it: led, stated the time, dealt, brought transactions; and
//! what they earn.
//!
//! Counted per epoch, from what each block carries, and paid out of the fees of the epoch's
//! transactions. Silence is no fault: it only earns nothing.

mod apply;
mod event;
mod pay;
mod state;

pub(crate) use apply::{note_screened, pass_time};
pub use event::Event;
pub use pay::fees_account;
pub use state::{Done, Duties, Seen};

#[cfg(test)]
mod tests;
