//! What users asked for: compose projects with releases, escrow and their wishes.

mod apply;
mod call;
mod check;
mod event;
mod place;
mod quote;
mod state;

pub(crate) use apply::{apply, close_if_ended};
pub use call::Call;
pub use event::Event;
pub use quote::{Change, QuoteLine, QuoteOutcome};
pub use state::{Deployment, Funding};

#[cfg(test)]
mod tests;
