//! What the agent must still know after `kill -9`: one JSON file per allocation, replaced
//! atomically.

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

pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let fresh: PathBuf = path.with_extension("new");
    std::fs::write(&fresh, bytes).with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("replace {}", path.display()))
}
