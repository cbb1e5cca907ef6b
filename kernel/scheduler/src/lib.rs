//! Plan placements from a snapshot of the hosts.
//!
//! Deterministic and integer; the cost of a decision does not depend on the number of hosts.

mod reason;

pub use reason::{Candidate, Dropped, Reason, Term};
