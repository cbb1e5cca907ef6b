//! What this machine is and has.

use std::path::Path;

use anyhow::{Context, Result};
use types::{Digest, Resources};

/// Left to the operating system and the agent when nothing else is said.
const MEMORY_KEPT: u64 = 512 << 20;
const BANDWIDTH_KBPS: u32 = 1_000_000;

/// Names the machine, not the agent: see [`api::machine_digest`].
pub fn machine_digest() -> Result<Digest> {
    let path = "/proc/sys/kernel/random/boot_id";
    let boot = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(api::machine_digest(&boot))
}

/// All of this machine less what it needs itself. Disk: what is free where `data` lies.
pub fn machine_resources(data: &Path) -> Result<Resources> {
    let cores = std::thread::available_parallelism().context("count the cores")?;
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches(" kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .context("/proc/meminfo has no MemTotal")?
        * 1024;
    let disk = nix::sys::statvfs::statvfs(data)
        .with_context(|| format!("measure the disk under {}", data.display()))?;
    let free = disk.blocks_available() * disk.fragment_size();
    Ok(Resources {
        cpu_millis: u32::try_from(cores.get() * 1000).unwrap_or(u32::MAX),
        memory_bytes: total.saturating_sub(MEMORY_KEPT).max(total / 2),
        disk_bytes: free / 10 * 9,
        bandwidth_kbps: BANDWIDTH_KBPS,
    })
}

pub use api::now_ms;
