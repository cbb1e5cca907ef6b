//! Vote on blocks and answer questions about the ledger.
//!
//! Two halves that meet at the finalised head: consensus on threads of its own, and an HTTP
//! API that reads the head's state. What the state does not keep (past events, receipts,
//! transactions) is indexed from the blocks on disk; the index can be rebuilt at any time
//! and is never the truth for money. Start at [`run`].

mod accuse;
mod answer;
mod begins;
mod chain_api;
mod clock_api;
mod config;
mod follow;
mod http;
mod index;
mod jobs;
mod ledger_machine;
mod left_behind;
pub mod lists;
mod lots_api;
mod lottery_api;
mod member_api;
mod metrics;
mod money_api;
mod probe;
mod record_api;
mod renewal;
pub mod route_book;
mod routes;
mod secret_api;
mod serve;
mod state_sync;
mod turns;
pub mod views;
mod vote_api;
pub mod watch;
pub mod witness;
mod witness_api;

pub use accuse::accusation;
pub use config::Config;
pub use http::{Ended, run, run_on};
pub use ledger_machine::{LedgerMachine, ORIGIN_FILE};
pub use renewal::{Whereabouts, keep as keep_ticket};
pub use state_sync::{Fetched, Newest, forget, newest, newest_of, reached};
