//! Plan placements from a snapshot of the hosts.
//!
//! Deterministic and integer; the cost of a decision does not depend on the number of hosts:
//! a bitmap grid over free resources names the cells that can hold a request, a canonical
//! walk takes the first feasible hosts, a linear score chooses among them. Ties go to the
//! lowest rank, never to chance. Every decision carries its [`Reason`].
//!
//! Start at [`Fleet::place`].

mod fleet;
mod grid;
mod place;
mod reason;
mod score;

pub use fleet::{Fleet, HostEntry};
pub use place::{NoFit, Placement, Request, fulfils};
pub use reason::{Candidate, Dropped, Reason, Term};
pub use score::reliability;

#[cfg(test)]
mod tests;
