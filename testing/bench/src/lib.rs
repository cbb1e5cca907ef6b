//! Measure how fast the parts are on this machine.
//!
//! A measurement makes its own load from a fixed seed and returns figures; whoever calls it
//! prints them. Start at [`ledger()`] or [`scheduler()`].

mod figure;
mod gateway;
mod ledger;
mod network;
mod portal;
mod postgres;
mod process;
mod scale;
mod scheduler;
mod start;
mod state;
mod up;

pub use figure::{Beside, Bound, Figure, Found, Goal};
pub use gateway::gateway;
pub use ledger::{finality, ledger};
pub use portal::portal;
pub use postgres::Postgres;
pub use scale::scale;
pub use scheduler::scheduler;
pub use start::start;
pub use state::state;
pub use up::{idle, up_to_answer};
