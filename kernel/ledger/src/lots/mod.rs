//! Who may be drawn to vote, who was, and by what chance.
//!
//! An epoch's drawing takes three steps, each at its height, three epochs before: the
//! candidates freeze in the first block; some block tells the beacon, which nobody knew then;
//! in the middle the lot falls. No beacon by then: those who sat go on.

mod apply;
mod event;
mod state;

pub use apply::AHEAD;
pub(crate) use apply::{founding, pass_time};
pub use event::Event;
pub use state::{Drawing, Founder};

#[cfg(test)]
mod tests;
