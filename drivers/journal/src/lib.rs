//! Keep what workloads print and use: append, search, resume.
//!
//! A [`Journal`] holds the lines of one allocation over all its containers, in a folder:
//!
//! ```text
//! append ─► tail-<first>   plain blocks, at most 1 MiB     torn end is cut off at opening
//!              │ full
//!              ▼
//!           seg-<first>    zstd blocks of 64 KiB and an index by time    never changes
//! ```
//!
//! Invariants: lines are numbered from 0 without a gap, and keep their numbers; where the lines
//! came from ([`Position`]) is in the same block as the lines, so a writer that was killed goes
//! on behind the last line that was kept; every block has a checksum, and one that does not hold
//! is never shown. Reading does not hold up writing. Knows nothing of ledgers, owners or
//! networks. Source: RFD 11.
//!
//! [`Ring`] keeps figures over time in a file of fixed size.

mod block;
mod filter;
mod journal;
mod merge;
mod pack;
mod ring;
mod segment;

pub use block::{Position, Source};
pub use filter::{Filter, PATTERN_MAX, PatternError};
pub use journal::{Journal, Page, Shared};
pub use merge::Merge;
pub use pack::{pack, unpack};
pub use ring::{Kept, Ring, SPAN_MS, Sample};

/// Longer lines are cut by who writes them; what is longer still is not taken.
pub const LINE_MAX: usize = 64 << 10;

/// One line, as a workload printed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since 1970, by its host's clock.
    pub at_ms: u64,
    pub source: Source,
    /// Without the line end.
    pub text: String,
}
