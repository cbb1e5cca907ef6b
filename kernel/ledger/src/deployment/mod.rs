//! What users asked for: compose projects with releases, escrow and their wishes.

mod call;
mod event;
mod state;

pub use call::Call;
pub use event::Event;
pub use state::{Deployment, Funding};
