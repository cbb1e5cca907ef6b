//! What validators did, as far as blocks show it: led, stated the time, dealt.
//!
//! Counted per epoch, from what each block carries. Silence is no fault: it only counts nothing.

mod apply;
mod state;

pub(crate) use apply::pass_time;
pub use state::{Done, Duties, Seen};

#[cfg(test)]
mod tests;
