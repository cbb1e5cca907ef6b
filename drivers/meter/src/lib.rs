//! Count what a workload uses.
//!
//! Reads cgroup and interface counters by path, so every engine is metered alike.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the counters of one container are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Controller → directory (v1), or `""` → directory (v2).
    pub cgroups: BTreeMap<String, PathBuf>,
    /// Host ends of the container's veth pairs. Their rx is the container's tx.
    pub interfaces: Vec<String>,
    /// Writable layer and volumes: bytes on disk are counted by walking them.
    pub directories: Vec<PathBuf>,
}

/// One look at the counters of one container instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Since the cgroup was made.
    pub cpu_ns: u64,
    /// Working set: usage less inactive file cache.
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    pub pids: u64,
    pub disk_bytes: u64,
    /// Since the interfaces were made; seen from the container.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}
