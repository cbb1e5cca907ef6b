//! A network of validators from a seed: crashes, partitions, power failures.
//!
//! The validators are the product's own: consensus, ledger, queues, forwarding, restart. Only
//! clock, network and disk are simulated, so that a run is a function of its [`Scenario`].
//!
//! Checked after every step: no two validators finalise different blocks at a height; no
//! transaction is applied twice; heights follow without gap, also over restarts; whole states are
//! the same at the same height, and the supply in them whole; beacons are what the network's key
//! makes of the epoch, whatever is withheld; drawings are what frozen candidates and beacon make.
//! While a quorum is well, blocks come. At the end: every transfer was applied, on every
//! validator; balances are what the transfers make of the first ones; certificates are good under
//! the one network key; nobody of good will took another for a liar, or could be accused of two
//! proposals.

mod client;
mod following;
mod hosts;
mod letter;
mod lineup;
mod links;
mod network;
mod scenario;
pub mod scenarios;
mod trace;
mod witness;

pub use lineup::{Lineup, SIZES, measure};
pub use links::Links;
pub use scenario::{Fault, Report, Scenario, When, run, run_traced};
pub use trace::{LEGEND, Trace};
