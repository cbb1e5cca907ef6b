//! Vote on blocks and answer questions about the ledger.

mod config;

pub use config::Config;
