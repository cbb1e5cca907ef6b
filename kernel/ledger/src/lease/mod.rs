//! One replica placed on one host, what it used, what that cost.

mod apply;
mod call;
mod event;
mod state;

pub(crate) use apply::{BURST_BYTES, BURST_MS, apply, close};
pub use call::{Call, UsageLine};
pub use event::{Charge, Event, Receipt};
pub use state::{Allocation, Desired};

#[cfg(test)]
mod tests;
