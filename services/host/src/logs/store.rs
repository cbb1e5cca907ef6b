//! All journals of this host: one folder per allocation, with what is known of it beside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use api::PlannedAllocation;
use journal::{Journal, Ring, Sample};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use types::{AccountId, AllocationId, DeploymentId, LogPolicy};

use crate::durable;
use crate::machine::now_ms;

/// Whose the lines are, also when the plan does not name the allocation any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub allocation: AllocationId,
    pub deployment: DeploymentId,
    pub project: String,
    pub owner: AccountId,
    pub release: u32,
    pub service: String,
    pub replica: u32,
    pub policy: LogPolicy,
    /// When the replica was gone for good; its lines stay by policy.
    pub ended_ms: Option<u64>,
}

impl Meta {
    fn of(planned: &PlannedAllocation) -> Self {
        Self {
            allocation: planned.allocation,
            deployment: planned.deployment,
            project: planned.project.clone(),
            owner: planned.owner,
            release: planned.release,
            service: planned.service.clone(),
            replica: planned.replica,
            policy: planned.logs.clone(),
            ended_ms: None,
        }
    }

    /// The owner, or one whom he names.
    pub fn may_read(&self, account: AccountId) -> bool {
        let named = |key| AccountId::of(key) == account;
        account == self.owner || self.policy.readers.iter().any(named)
    }
}

/// What is kept of one allocation.
pub struct Stream {
    pub folder: PathBuf,
    pub journal: journal::Shared,
    meta: RwLock<Meta>,
    ring: Mutex<Option<Counted>>,
    /// Moves when lines come, or when it is known that none will.
    news: watch::Sender<()>,
    /// One at a time takes lines in.
    pub intake: Mutex<()>,
    pub gone: AtomicBool,
}

struct Counted {
    ring: Ring,
    /// Counters at the reading before.
    rx_bytes: u64,
    tx_bytes: u64,
}

impl Stream {
    fn open(folder: PathBuf, meta: Meta) -> std::io::Result<Self> {
        Ok(Self {
            journal: journal::Shared::new(Journal::open(&folder)?),
            folder,
            meta: RwLock::new(meta),
            ring: Mutex::new(None),
            news: watch::Sender::new(()),
            intake: Mutex::new(()),
            gone: AtomicBool::new(false),
        })
    }

    pub fn meta(&self) -> Meta {
        self.meta.read().expect("not poisoned").clone()
    }

    pub fn has_ended(&self) -> bool {
        self.meta.read().expect("not poisoned").ended_ms.is_some()
    }

    pub fn changed(&self) {
        self.news.send_replace(());
    }

    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub fn ring_path(&self) -> PathBuf {
        self.folder.join("stats")
    }

    fn set(&self, change: impl FnOnce(&mut Meta)) {
        let mut meta = self.meta.write().expect("not poisoned");
        let mut fresh = meta.clone();
        change(&mut fresh);
        if fresh == *meta {
            return;
        }
        if let Err(error) = durable::write(&self.folder.join(META), &fresh) {
            tracing::error!(allocation = %fresh.allocation, %error, "what is known of a log");
        }
        *meta = fresh;
    }

    /// Adds a reading of the container's counters to its history.
    pub fn count(&self, reading: &meter::Reading, cpu_millis: u64) {
        let mut counted = self.ring.lock().expect("not poisoned");
        if counted.is_none() {
            *counted = Ring::open(&self.ring_path()).ok().map(|ring| Counted {
                ring,
                rx_bytes: reading.rx_bytes,
                tx_bytes: reading.tx_bytes,
            });
        }
        let Some(counted) = counted.as_mut() else {
            return;
        };
        // A container that was started again counts from nothing.
        let more = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let sample = Sample {
            cpu_millis,
            cpu_millis_max: cpu_millis,
            memory_bytes: reading.memory_bytes,
            memory_bytes_max: reading.memory_bytes,
            disk_bytes: reading.disk_bytes,
            rx_bytes: more(reading.rx_bytes, counted.rx_bytes),
            tx_bytes: more(reading.tx_bytes, counted.tx_bytes),
            pids: reading.pids,
        };
        (counted.rx_bytes, counted.tx_bytes) = (reading.rx_bytes, reading.tx_bytes);
        if let Err(error) = counted.ring.add(now_ms(), &sample) {
            tracing::debug!(%error, "history of what a container uses");
        }
    }
}

const META: &str = "meta.json";

/// See the module's documentation.
pub struct Store {
    root: PathBuf,
    streams: RwLock<BTreeMap<AllocationId, Arc<Stream>>>,
}

impl Store {
    /// Opens what lies at `root`. A journal that cannot be read is left alone and told of.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let mut streams = BTreeMap::new();
        for entry in std::fs::read_dir(root)? {
            let folder = entry?.path();
            let meta = durable::read::<Meta>(&folder.join(META));
            let stream = match meta {
                Ok(Some(meta)) => Stream::open(folder.clone(), meta).map_err(Into::into),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match stream {
                Ok(stream) => {
                    let id = stream.meta().allocation;
                    streams.insert(id, Arc::new(stream));
                }
                Err(error) => {
                    tracing::error!(folder = %folder.display(), %error, "a log cannot be read");
                }
            }
        }
        Ok(Self {
            root: root.into(),
            streams: RwLock::new(streams),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn find(&self, id: AllocationId) -> Option<Arc<Stream>> {
        self.streams.read().expect("not poisoned").get(&id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Stream>> {
        let streams = self.streams.read().expect("not poisoned");
        streams.values().cloned().collect()
    }

    /// The stream of an allocation of the plan, with what the plan says of it.
    pub fn of(&self, planned: &PlannedAllocation) -> std::io::Result<Arc<Stream>> {
        if let Some(stream) = self.find(planned.allocation) {
            stream.set(|meta| meta.policy.clone_from(&planned.logs));
            return Ok(stream);
        }
        let folder = self.root.join(planned.allocation.to_string());
        std::fs::create_dir_all(&folder)?;
        let meta = Meta::of(planned);
        durable::write(&folder.join(META), &meta).map_err(std::io::Error::other)?;
        let stream = Arc::new(Stream::open(folder, meta)?);
        let mut streams = self.streams.write().expect("not poisoned");
        // Somebody may have been faster; the journal has one writer.
        Ok(streams.entry(planned.allocation).or_insert(stream).clone())
    }

    /// Nothing more will be printed; readers who wait are told.
    pub fn end(&self, id: AllocationId) {
        if let Some(stream) = self.find(id) {
            stream.set(|meta| meta.ended_ms = meta.ended_ms.or(Some(now_ms())));
            stream.changed();
        }
    }

    /// Lets all go that is kept of `id`.
    pub fn remove(&self, id: AllocationId) -> std::io::Result<()> {
        let stream = self.streams.write().expect("not poisoned").remove(&id);
        if let Some(stream) = stream {
            stream.gone.store(true, Ordering::Relaxed);
            stream.changed();
            std::fs::remove_dir_all(&stream.folder)?;
        }
        Ok(())
    }
}
