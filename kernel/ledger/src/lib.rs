//! Apply a transaction to the state; a folder per domain.
//!
//! Values in, values out: no I/O, no clock, no thread, no float, no hash-map order.
//! Every domain folder has the same files: `state` (what is kept), `call` (what may be
//! asked), `event` (what happened), `apply` (the rules), `tests`.
//!
//! Start at [`State::execute`].

pub mod account;
pub mod deployment;
pub mod duty;
pub mod host;
pub mod lease;
pub mod limit;
pub mod lots;
pub mod lottery;
pub mod validator;
pub mod vote;
pub mod witness;

mod block;
mod execute;
mod funds;
mod genesis;
mod invariant;
mod params;
mod record;
mod reject;
mod restart;
mod state;
mod table;
mod transaction;
mod tree;

pub use block::{BlockEnv, Event, Outcome};
pub use execute::{Executed, bad_signature, check_signatures, decode};
pub use genesis::{Genesis, GenesisError};
pub use invariant::BrokenInvariant;
pub use params::{Params, Tariff};
pub use record::Located;
pub use reject::{RejectKind, Rejection};
pub use restart::{Origin, RestartError};
pub use state::{Globals, State, Supply};
pub use table::Table;
pub use transaction::{Call, Transaction, TransactionBody};
pub use tree::Change;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
