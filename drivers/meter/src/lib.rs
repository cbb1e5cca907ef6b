//! Count what a workload uses.
//!
//! Reads cgroup and interface counters by path, so every engine is metered alike.

mod accumulate;
mod disk;
mod read;

pub use accumulate::Accumulator;
pub use disk::disk_bytes;
pub use read::{Reading, Source, read};
