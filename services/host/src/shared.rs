//! What the parts of the agent share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use engine::Engine;
use tokio::sync::{Notify, watch};
use types::{AllocationId, AllocationStatus};

use crate::book::Book;
use crate::builds::Builds;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger_link::LedgerLink;
use crate::shelf::Shelf;

pub struct Shared {
    pub config: Config,
    pub clock: Arc<Clock>,
    pub link: Arc<LedgerLink>,
    pub engine: Arc<dyn Engine>,
    pub net: Arc<net::Network>,
    pub images: Arc<images::Store>,
    /// If this host offers building.
    pub builds: Option<Builds>,
    pub logs: Arc<crate::logs::Store>,
    pub exports: crate::logs::Exports,
    /// Of other hosts' logs.
    pub copies: crate::logs::Copies,
    pub shelf: Arc<Shelf>,
    pub plans: watch::Receiver<Option<Arc<api::HostPlan>>>,
    pub books: Mutex<BTreeMap<AllocationId, Arc<Mutex<Book>>>>,
    /// What is to be reported, newest word per allocation.
    pub statuses: Mutex<BTreeMap<AllocationId, AllocationStatus>>,
    /// Current word per allocation, for those who ask this agent.
    pub current: Mutex<BTreeMap<AllocationId, Current>>,
    pub status_changed: Notify,
    /// A record should go out at once.
    pub usage_due: Notify,
}

#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Current {
    pub status: AllocationStatus,
    /// Starts so far: its containers are `a<N>-1 …`.
    pub instance: u32,
}

impl Shared {
    /// Those open now, without the lock on which ones there are.
    pub fn open_books(&self) -> Vec<Arc<Mutex<Book>>> {
        let books = self.books.lock().expect("not poisoned");
        books.values().cloned().collect()
    }

    pub fn plan(&self) -> Option<Arc<api::HostPlan>> {
        self.plans.borrow().clone()
    }

    pub fn planned(&self, allocation: AllocationId) -> Option<api::PlannedAllocation> {
        self.plan()?
            .allocations
            .iter()
            .find(|a| a.allocation == allocation)
            .cloned()
    }

    /// Containers of an allocation that works here, so far.
    pub fn instance(&self, allocation: AllocationId) -> u32 {
        let current = self.current.lock().expect("not poisoned");
        current.get(&allocation).map_or(0, |c| c.instance)
    }

    pub fn report(&self, allocation: AllocationId, instance: u32, status: &AllocationStatus) {
        self.current.lock().expect("not poisoned").insert(
            allocation,
            Current {
                status: status.clone(),
                instance,
            },
        );
        self.statuses
            .lock()
            .expect("not poisoned")
            .insert(allocation, status.clone());
        self.status_changed.notify_one();
    }

    pub fn memory_path(&self, allocation: AllocationId) -> PathBuf {
        self.folder("state").join(format!("{allocation}.json"))
    }

    pub fn book_path(&self, allocation: AllocationId) -> PathBuf {
        self.folder("state").join(format!("{allocation}.book"))
    }

    /// Usage records with their Merkle paths, for those who open a receipt.
    pub fn records_path(&self, allocation: AllocationId) -> PathBuf {
        self.folder("usage").join(format!("{allocation}.ndjson"))
    }

    /// The writable layer, over all of the allocation's containers.
    pub fn upper(&self, allocation: AllocationId) -> PathBuf {
        self.folder("upper").join(allocation.to_string())
    }

    pub fn volume(&self, deployment: types::DeploymentId, name: &str) -> PathBuf {
        self.folder("volumes")
            .join(deployment.to_string())
            .join(name)
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.config.data.join(name)
    }
}
