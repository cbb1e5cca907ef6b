//! Which hosts are served: those that the ledger knows.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sdk::{Client, SdkError};
use tokio::sync::Semaphore;
use types::HostId;

/// A host that the ledger knew so shortly ago is not asked about again.
const FRESH: Duration = Duration::from_secs(60);
/// Remembered for the time when no validator answers.
const KNOWN_MAX: usize = 10_000;
/// Questions to validators at once; strangers make us ask.
const ASKING_MAX: usize = 16;

pub struct Guests {
    client: Client,
    known: Mutex<BTreeMap<HostId, Instant>>,
    asking: Semaphore,
}

impl Guests {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
            asking: Semaphore::new(ASKING_MAX),
        }
    }

    pub async fn admits(&self, host: HostId) -> bool {
        let seen = self.known().get(&host).copied();
        if seen.is_some_and(|at| at.elapsed() < FRESH) {
            return true;
        }
        let Ok(_asking) = self.asking.try_acquire() else {
            return seen.is_some();
        };
        match self.client.host(&host.to_string()).await {
            Ok(_) => {
                let mut known = self.known();
                if known.len() < KNOWN_MAX || known.contains_key(&host) {
                    known.insert(host, Instant::now());
                }
                true
            }
            Err(SdkError::Refused(_)) => {
                self.known().remove(&host);
                false
            }
            Err(error) => {
                tracing::warn!(%error, "whether a host is of this network is not known now");
                seen.is_some()
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<HostId, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
