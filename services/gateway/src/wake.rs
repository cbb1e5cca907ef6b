//! Requests for a service of which nothing runs: they wait here while a replica is started.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledger::deployment::{Call, DemandLine};
use sdk::Client;
use tokio::time::Instant;
use types::SecretKey;

use crate::limits::{WAITING_SHARE, WAKE_AGAIN, WAKE_AGAIN_MAX, WAKE_TIME};
use crate::proxy::Gateway;
use crate::table::Service;
use crate::tally::Tally;

/// Counts as waiting while it lives.
struct Waiting(Arc<Tally>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Has `service`, which is autoscaled and has no ready replica, started if it sleeps, and
/// returns it with its first ready one.
///
/// Errors: why there is none, for whoever asked.
pub async fn wait(gateway: &Gateway, service: &Arc<Service>) -> Result<Arc<Service>, String> {
    let tally = service.tally.clone();
    if tally.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_SHARE {
        tally.waiting.fetch_sub(1, Ordering::Relaxed);
        return Err("it is being started, and too many requests wait for it already".into());
    }
    let _waiting = Waiting(tally);
    let Ok(_place) = gateway.waiting.try_acquire() else {
        return Err("too many requests wait at this gateway for services that start".into());
    };
    let until = Instant::now() + WAKE_TIME;
    let mut changes = gateway.changes.subscribe();
    loop {
        changes.mark_unchanged();
        let Some(now) = gateway.renewed(service) else {
            return Err("it has been removed".into());
        };
        if !now.replicas.is_empty() {
            return Ok(now);
        }
        let why = match &now.scale {
            _ if now.frozen => {
                return Err("it is stopped for lack of funds, or by its owner's limit".into());
            }
            None => return Err("none of its replicas is ready".into()),
            Some(scale) if scale.wanted == 0 && !gateway.wakes => {
                return Err(
                    "it sleeps, and this gateway has no key to have it started with".into(),
                );
            }
            Some(scale) if scale.stopped => return Err("it is stopped by its owner".into()),
            Some(scale) => {
                if scale.wanted == 0 {
                    gateway.sleepers.notify_one();
                }
                let refusal = gateway.refusal.load();
                match (&**refusal, scale.why.as_str()) {
                    (Some(refusal), _) if scale.wanted == 0 => refusal.clone(),
                    (_, "") => "it is starting, and not ready yet".to_string(),
                    (_, why) => format!("it cannot be started now: {why}"),
                }
            }
        };
        match tokio::time::timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err("the gateway ends".into()),
            Err(_) => return Err(why),
        }
    }
}

/// Tells the ledger which services somebody waits for, as soon as somebody does and again
/// while nothing is started.
pub async fn call(gateway: Arc<Gateway>, client: Client, key: SecretKey) {
    loop {
        gateway.sleepers.notified().await;
        let mut pause = WAKE_AGAIN;
        loop {
            let lines = sleepers(&gateway);
            if lines.is_empty() {
                break;
            }
            let call = ledger::Call::Deployment(Call::ReportDemand { lines });
            let told = client.submit_and_wait(&key, call).await;
            let refusal = told.err().map(|error| {
                tracing::warn!(%error, "services that requests wait for cannot be woken");
                "it sleeps, and this gateway cannot have it started now".to_string()
            });
            gateway.refusal.store(Arc::new(refusal));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(WAKE_AGAIN_MAX);
        }
    }
}

/// A line for each service that sleeps while somebody waits for it.
fn sleepers(gateway: &Gateway) -> Vec<DemandLine> {
    let table = gateway.table.load();
    let asleep = table.services.values().filter(|service| {
        let scale = service.scale.as_ref();
        scale.is_some_and(|scale| scale.wanted == 0 && !scale.stopped)
    });
    asleep
        .filter_map(|service| {
            let waiting = service.tally.waiting.load(Ordering::Relaxed);
            (waiting > 0).then(|| DemandLine {
                deployment: service.deployment,
                service: service.name.clone(),
                under_way_milli: 0,
                per_second_milli: 0,
                waiting,
                open: Vec::new(),
            })
        })
        .take(crate::demand::LINES_MAX)
        .collect()
}
