//! What the agent must still know after `kill -9`: one JSON file per allocation, replaced
//! atomically.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{AllocationId, AllocationStatus, HealthCheck};

/// A worker's memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    pub allocation: AllocationId,
    /// Starts so far; the running (or last) container is `instance`.
    pub instance: u32,
    /// Of the plan that the last start answered.
    pub generation: u32,
    /// Restarts by policy since `generation` began.
    pub restarts: u32,
    /// Of those, how many came before a run that was long enough to forget them.
    #[serde(default)]
    pub forgiven: u32,
    /// Its policy lets it rest; only a new generation wakes it.
    pub ended: bool,
    pub status: AllocationStatus,
    /// Addresses of its last container, which the next one gets again if it can: requests find
    /// it also while nobody can be told of new ones.
    #[serde(default)]
    pub former: Vec<Ipv4Addr>,
    /// Of the running container, by compose file and image.
    #[serde(default)]
    pub watch: Watch,
}

/// How a container is looked after, also by an agent that only finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// SIGTERM if not known.
    pub stop_signal: Option<i32>,
    pub check: Option<HealthCheck>,
}

impl Memory {
    pub fn new(allocation: AllocationId) -> Self {
        Self {
            allocation,
            instance: 0,
            generation: 0,
            restarts: 0,
            forgiven: 0,
            ended: false,
            status: AllocationStatus::default(),
            former: Vec::new(),
            watch: Watch::default(),
        }
    }

    pub fn container(&self) -> String {
        container_id(self.allocation, self.instance)
    }
}

pub fn container_id(allocation: AllocationId, instance: u32) -> String {
    format!("a{}-{instance}", allocation.0)
}

/// The allocation and instance that [`container_id`] names.
pub fn container_of(id: &str) -> Option<(AllocationId, u32)> {
    let (allocation, instance) = id.strip_prefix('a')?.split_once('-')?;
    Some((
        AllocationId(allocation.parse().ok()?),
        instance.parse().ok()?,
    ))
}

/// `None` if there is no such file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
            format!(
                "{} is not readable: move it away to begin anew",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// What is written is there when this returns, whatever happens to the machine then.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_whole(path, value)?;
    keep_names(path.parent().unwrap_or(Path::new(".")))
}

/// What was given its name in `folder` before keeps it, whatever happens to the machine then.
pub fn keep_names(folder: &Path) -> Result<()> {
    let synced = aside(|| File::open(folder).and_then(|folder| folder.sync_all()));
    synced.with_context(|| format!("write {}", folder.display()))
}

/// A slow disk holds up who writes, and none of the other tasks of its thread.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Handle::try_current().map(|h| h.runtime_flavor());
    match runtime {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// After a power cut there is what was written, or what was there before; never half of it.
pub fn write_whole<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let fresh: PathBuf = path.with_extension("new");
    let written = aside(|| {
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_data()
    });
    written.with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("replace {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_whatever_a_killed_writer_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory.json");
        assert_eq!(read::<u64>(&path).expect("none"), None);
        for (number, write) in [
            (1, write as fn(&Path, &u64) -> Result<()>),
            (2, write_whole),
            (3, write),
        ] {
            std::fs::write(path.with_extension("new"), "half of some").expect("left");
            write(&path, &number).expect("written");
            assert_eq!(read::<u64>(&path).expect("read"), Some(number));
        }
        let none = folder.path().join("none/memory.json");
        assert!(write(&none, &1).is_err() && keep_names(&folder.path().join("none")).is_err());
    }
}
