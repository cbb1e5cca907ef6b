//! Run what the ledger placed here: pull, start, watch, meter, report.
//!
//! ```text
//! plan (long poll) ──► agent ──► one worker per allocation ──► images, net, engine
//!                        │            │ status      │ counters
//!                        │            ▼             ▼
//!                        └──────► reporter ◄──── books (one per allocation)
//!                                     │
//!                                     ▼ ReportStatus, ReportUsage
//! ```
//!
//! Invariants: one worker owns a container's life; the last reading is taken before a cgroup
//! or an interface goes; a record is on disk before its report is signed; containers are
//! children of their shims, so this process may die at any time without ending one.
//! Start at [`run`].

mod agent;
mod beat;
mod bond;
mod book;
mod builds;
mod clock;
mod config;
mod durable;
mod exec;
mod fence;
mod health;
mod hooks;
mod http;
mod joining;
mod ledger_link;
mod logs;
mod machine;
mod neighbours;
mod policy;
mod prepare;
mod reporter;
mod room;
mod secrets;
mod shared;
mod shelf;
mod volume;
mod worker;

pub use agent::{run, tag};
pub use builds::{Builder, builder};
pub use config::Config;
pub use machine::{machine_digest, machine_resources};
pub use shelf::Shelf;
