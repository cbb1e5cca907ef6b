//! Validators drawn as witnesses look at what hosts say is running, and say what they saw: RFD 21.
//!
//! A witness's last look at a host is its standing word on it. Of n witnesses of an epoch
//! f = ⌊(n-1)/3⌋ may lie: a host is flagged when n-f got no answer from it. So no f can flag a host
//! that answers the others, nor save one that does not. Words are of one epoch's witnesses; who is
//! drawn next begins anew.

mod apply;
mod call;
mod event;
mod state;

pub(crate) use apply::apply;
pub use call::{Call, LINES_MAX, Line, Saw, Statement};
pub use event::Event;
pub use state::{Flag, Look, Target, Watched};

#[cfg(test)]
mod tests;
