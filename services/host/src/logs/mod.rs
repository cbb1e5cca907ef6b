//! What the containers here print and use: taken from their shims, kept, searched, passed on.
//!
//! ```text
//! container ─► shim ─► its file ─► intake ─► journal ─► serve (logs, history)
//!                      (20 MiB)              │       └► export (Loki, OTLP)
//! meter ─────────────────────────► ring ─► figures (OTLP metrics)
//!                                            ├► room: what policy and host allow
//!                                            └► ship ─► copies of a second host
//! ```
//!
//! Invariants: a shim never waits for any of this; a line that was taken is in the journal once,
//! with its number, whenever this process dies; what a replica left behind stays when the
//! replica, its release or its project is gone, until policy lets it go; only the owner and
//! whom he names read. Source: RFD 11; of copies RFD 17.

mod copies;
mod export;
mod figures;
mod intake;
#[cfg(test)]
mod receiver;
mod room;
mod serve;
mod ship;
mod store;

pub use copies::{Copies, Declined};
pub use export::Exports;
pub use intake::{catch_up, follow as intake, remove as remove_file, take};
pub use room::keep as room;
pub use serve::{HistoryQuery, Query, history, stream};
pub use ship::{host_of, send as ship};
pub use store::{Meta, Store, Stream};
