//! Run what the ledger placed here: pull, start, watch, meter, report.

mod config;

pub use config::Config;
