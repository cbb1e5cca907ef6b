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
mod steady;
mod up;

use std::path::Path;

use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;

pub use figure::{Beside, Bound, Figure, Found, Goal};
pub use postgres::Postgres;
pub use scale::scale;
pub use scheduler::scheduler;
pub use state::state;

/// Boxed, so that it is compiled here and not where it is awaited.
pub type Measuring<'a> = BoxFuture<'a, Result<Found>>;

/// Committed transfers a second, and what bounds them. `program` is a `runrig`, here and below.
pub fn ledger(program: &Path, rounds: usize) -> Measuring<'_> {
    ledger::ledger(program, rounds).boxed()
}

/// From submit to final of a transaction that has the network to itself.
pub fn finality(program: &Path, rounds: usize) -> Measuring<'_> {
    ledger::finality(program, rounds).boxed()
}

/// CPU of a block and memory of a validator under a small load, minute by minute.
pub fn steady(program: &Path, rounds: usize) -> Measuring<'_> {
    steady::steady(program, rounds).boxed()
}

/// Time to start a container, of each engine.
pub fn start(program: &Path, rounds: usize) -> Measuring<'_> {
    start::start(program, rounds).boxed()
}

/// From `runrig up` to the first answer.
pub fn up_to_answer(program: &Path, rounds: usize) -> Measuring<'_> {
    up::up_to_answer(program, rounds).boxed()
}

/// CPU and memory of a `dev` on which nothing runs.
pub fn idle(program: &Path, rounds: usize) -> Measuring<'_> {
    up::idle(program, rounds).boxed()
}

/// Requests a second and CPU a request, beside HAProxy and nginx.
pub fn gateway(program: &Path, rounds: usize) -> Measuring<'_> {
    gateway::gateway(program, rounds).boxed()
}

/// Time for each page, for somebody with ten thousand jobs.
pub fn portal(program: &Path, rounds: usize) -> Measuring<'_> {
    portal::portal(program, rounds).boxed()
}
