//! A network of validators from a seed: crashes, partitions, power failures.
//!
//! The validators are the product's own: consensus, ledger, queues, forwarding, restart. Only
//! clock, network and disk are simulated, so that a run is a function of its [`Scenario`].
//!
//! Checked after every step: no two validators finalise different blocks at a height; no
//! transaction is applied twice; heights follow without gap, also over restarts. At the end:
//! every transfer was applied, on every validator; balances are what the transfers make of
//! the first ones; the supply is whole; certificates are good under the one network key.

mod client;
mod network;
mod scenario;
pub mod scenarios;
mod witness;

pub use scenario::{Fault, Report, Scenario, When, run};

#[cfg(test)]
mod tests;
