//! Call the public API: sign, submit, follow, verify.
//!
//! Start at [`Client`].

mod client;
mod copied;
mod copies;
mod error;
mod events;
mod exec;
mod grants;
mod incidents;
mod jobs;
mod logs;
mod newest;
mod rounds;
mod splice;
mod tunnel;
mod validators;
mod watch;

pub use client::Client;
pub use copied::CopiedLog;
pub use error::SdkError;
pub use events::EventFilter;
pub use exec::{ExecInput, ExecOutput, ExecStream};
pub use grants::Grants;
pub use incidents::{IncidentChange, IncidentKind, IncidentNote, incidents};
pub use jobs::JobQuery;
pub use logs::LogQuery;
pub use splice::splice;
pub use verify::{
    Checkpoint, OfRecord, Sight, Step, Trust, outcome, verify_lots, verify_lottery, verify_receipt,
    verify_records, verify_when,
};
pub use watch::{News, Note, Watch, Watched};

#[cfg(test)]
mod tests;
