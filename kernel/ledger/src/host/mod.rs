//! Machines that run containers: their offers, what is free of them, whether they live.

mod call;
mod event;
mod state;

pub use call::Call;
pub use event::Event;
pub use state::Host;
