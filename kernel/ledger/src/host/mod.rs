//! Machines that run containers: their offers, what is free of them, whether they live.

mod apply;
mod call;
mod event;
mod hours;
mod mesh;
mod record;
mod state;
mod token;
mod watch;

pub(crate) use apply::{apply, is_name, pass_time};
pub use call::Call;
pub use event::Event;
pub use hours::LEAD_MS;
pub use mesh::MeshPoint;
pub use record::Record;
pub use state::Host;
pub use token::{Invitation, Joined, OPEN_MAX, OPEN_MS_MAX, Token};
pub(crate) use watch::{Verdict, follow_committee, judge, standing};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
