//! What runs or lies here and is no longer this host's goes before the host serves again.
//!
//! The ledger gives the replicas of a host that was silent to others. When the host is back,
//! its old containers must not serve beside the new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use types::AllocationId;

use crate::durable::{self, Memory};
use crate::shared::Shared;
use crate::worker;

/// For a container that nobody wants any more.
const GRACE: Duration = Duration::from_secs(10);
/// How long answers that are older than what this host has seen already are taken for the
/// word of a validator that lags behind.
const STALE: Duration = Duration::from_secs(20);

/// Before the host is heard of again: asks what is still its own.
///
/// Returns without doing anything if nothing is here or nobody knows; running work goes on
/// while no validator answers.
pub async fn at_return(shared: &Shared) {
    let here = here(shared).await;
    if here.is_empty() {
        return;
    }
    let (seen, began) = (seen(shared), tokio::time::Instant::now());
    let mut pause = Duration::from_millis(200);
    loop {
        match shared.link.client().host_plan(shared.link.host, 0, 0).await {
            Ok(plan) if plan.plan >= seen => return clear(shared, &plan, here).await,
            // A host that nobody knows, or a ledger that has not heard of what we did.
            Err(error) if error.is_rejection() => return,
            Ok(_) if began.elapsed() > STALE => return,
            Ok(plan) => tracing::warn!(answered = plan.plan, seen, "an old plan; asking again"),
            Err(error) => tracing::warn!(%error, "what is still ours is not known yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Ends and removes what `plan` does not place here; `working` look after themselves.
pub async fn sweep(shared: &Shared, plan: &api::HostPlan, working: &BTreeSet<AllocationId>) {
    let mut here = here(shared).await;
    here.retain(|allocation, _| !working.contains(allocation));
    clear(shared, plan, here).await;
}

/// The number of the newest plan that this host has acted on.
pub fn seen(shared: &Shared) -> u64 {
    durable::read(&path(shared)).ok().flatten().unwrap_or(0)
}

pub fn see(shared: &Shared, plan: u64) {
    if let Err(error) = durable::write(&path(shared), &plan) {
        tracing::error!(%error, "the plan's number is not kept");
    }
}

fn path(shared: &Shared) -> std::path::PathBuf {
    shared.folder("state").join("plan")
}

/// Allocations with containers or files here, and those containers.
async fn here(shared: &Shared) -> BTreeMap<AllocationId, Vec<String>> {
    let mut all: BTreeMap<AllocationId, Vec<String>> = BTreeMap::new();
    for container in shared.engine.list().await.unwrap_or_default() {
        if let Some((allocation, _)) = durable::container_of(&container.id) {
            all.entry(allocation).or_default().push(container.id);
        }
    }
    let files = std::fs::read_dir(shared.folder("state"));
    for file in files.into_iter().flatten().flatten() {
        let name = file.file_name();
        let allocation = name.to_str().and_then(|n| n.strip_suffix(".json"));
        if let Some(allocation) = allocation.and_then(|a| a.parse().ok()) {
            all.entry(allocation).or_default();
        }
    }
    all
}

async fn clear(
    shared: &Shared,
    plan: &api::HostPlan,
    mut here: BTreeMap<AllocationId, Vec<String>>,
) {
    for planned in &plan.allocations {
        here.remove(&planned.allocation);
    }
    let each = here.into_iter().map(|(allocation, containers)| async move {
        let memory = durable::read::<Memory>(&shared.memory_path(allocation));
        let memory = memory.ok().flatten();
        let signal = memory.as_ref().and_then(|m| m.watch.stop_signal);
        for container in &containers {
            tracing::warn!(%container, "no longer this host's: it is ended");
            end(shared, container, signal.unwrap_or(libc::SIGTERM)).await;
        }
        let instances = memory.map_or(0, |m| m.instance);
        if let Err(error) = worker::forget(shared, allocation, instances) {
            tracing::error!(%allocation, %error, "what is no longer this host's");
        }
    });
    futures::future::join_all(each).await;
}

async fn end(shared: &Shared, container: &str, signal: i32) {
    if let Err(error) = shared.engine.stop(container, signal, GRACE).await {
        tracing::warn!(%container, %error, "stop");
    }
    if let Err(error) = shared.engine.remove(container).await {
        tracing::error!(%container, %error, "remove");
    }
    if let Err(error) = shared.net.detach(container).await {
        tracing::error!(%container, %error, "detach");
    }
}
