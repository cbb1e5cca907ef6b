//! What users asked for: compose projects with releases, escrow and their wishes.

mod apply;
mod call;
mod check;
mod demand;
mod earlier;
mod event;
mod place;
mod quote;
mod release;
mod scale;
mod seats;
mod state;
mod why;

pub(crate) use apply::{apply, close_if_ended, retire_one};
pub use call::{Call, DemandLine};
pub(crate) use demand::weigh;
pub(crate) use earlier::fold;
pub use earlier::{ENDED_MAX, Earlier};
pub use event::Event;
pub(crate) use place::milli;
pub use quote::{Change, QuoteLine, QuoteOutcome, QuotedPlace};
pub use release::{Cause, Release};
pub use scale::{Calm, Demand, Scale};
pub(crate) use seats::tend;
pub use seats::{RETRY_MS, Tried};
pub use state::{Deployment, Funding, Rollout, Setback, Unplaced};
pub use why::{NO_HOSTS, VOLUMES, causes};

#[cfg(test)]
mod tests;
