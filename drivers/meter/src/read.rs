//! One look at the counters.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the counters of one container are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Controller → directory (v1), or `""` → directory (v2).
    pub cgroups: BTreeMap<String, PathBuf>,
    /// Host ends of the container's veth pairs. Their rx is the container's tx.
    pub interfaces: Vec<String>,
    /// Writable layer and volumes: see [`crate::disk_bytes`].
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
    /// Left 0 by [`read`]: walking takes long and is done apart.
    pub disk_bytes: u64,
    /// Since the interfaces were made; seen from the container.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

fn number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim().parse().unwrap_or(u64::MAX))
}

/// The number after `key` in a file of `key number` lines.
fn field(path: &Path, key: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
        .ok_or_else(|| io::Error::other(format!("{} has no {key}", path.display())))
}

/// Fails if the cgroup is gone. Interfaces that are gone count nothing.
pub fn read(source: &Source) -> io::Result<Reading> {
    let mut reading = match source.cgroups.get("") {
        Some(directory) => version2(directory)?,
        None => version1(&source.cgroups)?,
    };
    for name in &source.interfaces {
        let statistics = Path::new("/sys/class/net").join(name).join("statistics");
        reading.rx_bytes += number(&statistics.join("tx_bytes")).unwrap_or(0);
        reading.tx_bytes += number(&statistics.join("rx_bytes")).unwrap_or(0);
    }
    Ok(reading)
}

fn version1(cgroups: &BTreeMap<String, PathBuf>) -> io::Result<Reading> {
    let directory = |controller: &str| {
        cgroups
            .get(controller)
            .ok_or_else(|| io::Error::other(format!("no {controller} cgroup")))
    };
    let memory = directory("memory")?;
    let usage = number(&memory.join("memory.usage_in_bytes"))?;
    let inactive = field(&memory.join("memory.stat"), "total_inactive_file").unwrap_or(0);
    Ok(Reading {
        cpu_ns: number(&directory("cpuacct")?.join("cpuacct.usage"))?,
        memory_bytes: usage.saturating_sub(inactive),
        memory_limit_bytes: number(&memory.join("memory.limit_in_bytes"))?,
        pids: directory("pids")
            .and_then(|d| number(&d.join("pids.current")))
            .unwrap_or(0),
        ..Reading::default()
    })
}

fn version2(directory: &Path) -> io::Result<Reading> {
    let usage = number(&directory.join("memory.current"))?;
    let inactive = field(&directory.join("memory.stat"), "inactive_file").unwrap_or(0);
    Ok(Reading {
        cpu_ns: field(&directory.join("cpu.stat"), "usage_usec")?.saturating_mul(1_000),
        memory_bytes: usage.saturating_sub(inactive),
        memory_limit_bytes: number(&directory.join("memory.max"))?,
        pids: number(&directory.join("pids.current")).unwrap_or(0),
        ..Reading::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(dir.join(name), text).expect("written");
        }
    }

    fn source(cgroups: BTreeMap<String, PathBuf>) -> Source {
        Source {
            cgroups,
            interfaces: vec!["no-such-interface".into()],
            directories: Vec::new(),
        }
    }

    #[test]
    fn both_versions_say_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = dir.path();
        write(
            at,
            &[
                ("cpuacct.usage", "5000000000\n"),
                ("memory.usage_in_bytes", "3000\n"),
                ("memory.limit_in_bytes", "9000\n"),
                ("memory.current", "3000\n"),
                ("memory.max", "9000\n"),
                (
                    "memory.stat",
                    "inactive_file 1000\ntotal_inactive_file 1000\n",
                ),
                ("pids.current", "4\n"),
                ("cpu.stat", "usage_usec 5000000\nuser_usec 1\n"),
            ],
        );
        let expected = Reading {
            cpu_ns: 5_000_000_000,
            memory_bytes: 2_000,
            memory_limit_bytes: 9_000,
            pids: 4,
            ..Reading::default()
        };
        let one = ["cpuacct", "memory", "pids"].map(|c| (c.to_string(), at.to_path_buf()));
        assert_eq!(read(&source(one.into())).expect("read"), expected);
        let two = [(String::new(), at.to_path_buf())];
        assert_eq!(read(&source(two.into())).expect("read"), expected);
        let gone = [(String::new(), at.join("gone"))];
        assert!(read(&source(gone.into())).is_err());
    }
}
