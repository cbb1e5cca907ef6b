//! The agent's calls to the ledger.

use std::sync::Arc;
use std::time::Duration;

use ledger::Call;
use sdk::{Client, SdkError};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use types::{HostId, SecretKey};

use crate::clock::Clock;

/// Signs as the host. One urgent transaction at a time: nonces follow each other without races.
pub struct LedgerLink {
    client: Client,
    /// Who may act for whom.
    pub grants: sdk::Grants,
    key: SecretKey,
    pub host: HostId,
    turn: Mutex<()>,
    /// When the ledger last took something.
    heard: std::sync::Mutex<Instant>,
}

impl LedgerLink {
    pub fn new(client: Client, key: SecretKey) -> Self {
        Self {
            host: HostId::of(&key.public()),
            grants: sdk::Grants::new(client.clone()),
            client,
            key,
            turn: Mutex::new(()),
            heard: std::sync::Mutex::new(Instant::now()),
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns when the ledger has applied the call; a rejection is an error.
    ///
    /// What is not urgent waits for a block that is made anyway; what is urgent need not wait
    /// for that, and finds a nonce left free.
    pub async fn submit(&self, call: Call) -> Result<(), SdkError> {
        /// Nonces left to what is urgent.
        const AHEAD: u64 = 2;
        if call.is_urgent() {
            let _turn = self.turn.lock().await;
            self.client.submit_and_wait(&self.key, call).await?;
        } else {
            self.client
                .submit_ahead(&self.key, &[], call, AHEAD)
                .await?;
        }
        *self.heard.lock().expect("not poisoned") = Instant::now();
        Ok(())
    }

    /// Asks for what is for this host alone.
    pub async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
    ) -> Result<T, SdkError> {
        client.get_signed(path, &self.key).await
    }

    /// When the ledger last took something from this host.
    pub fn heard(&self) -> Instant {
        *self.heard.lock().expect("not poisoned")
    }
}

/// Validators that lag behind may not know a host yet.
const UNKNOWN: Duration = Duration::from_secs(5);

/// Follows the host's plan. Keeps the last known one while no validator answers. Returns when
/// the ledger does not know the host any more: it has left.
pub async fn follow(
    link: Arc<LedgerLink>,
    clock: Arc<Clock>,
    plans: watch::Sender<Option<Arc<api::HostPlan>>>,
) {
    let mut after = 0;
    let mut unknown: Option<Instant> = None;
    let mut pause = Duration::from_millis(100);
    loop {
        match link.client.host_plan(link.host, after, 20_000).await {
            Ok(plan) => {
                clock.heard(plan.time_ms);
                unknown = None;
                pause = Duration::from_millis(100);
                if plan.plan != after || plans.borrow().is_none() {
                    after = plan.plan;
                    plans.send_replace(Some(Arc::new(plan)));
                }
            }
            Err(error) if error.kind() == "not_found" && plans.borrow().is_some() => {
                let since = *unknown.get_or_insert_with(Instant::now);
                if since.elapsed() > UNKNOWN {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                unknown = None;
                tracing::warn!(%error, "the plan cannot be read; running work goes on");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}
