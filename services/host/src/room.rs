//! Keep room on the disk: images that nothing here uses go, by the policy of [`images::Room`],
//! and volumes that their owner has removed while this host could not be told. What is offered
//! follows the disk: when it fills up, nothing new is placed here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::PlannedAllocation;
use images::Room;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use types::{DeploymentId, Digest, Offer, Resources};

use crate::machine::machine_resources;
use crate::shared::Shared;
use crate::volume;

const EVERY: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(2);
/// Left for the agent's own books and logs.
const KEPT_BYTES: u64 = 64 << 20;
/// What is offered goes up and down by steps of one in so many.
const STEPS: u64 = 16;

/// Digests of the images that an allocation is started from and has mounted.
fn images_of(planned: &PlannedAllocation) -> Vec<Digest> {
    planned.spec.images().map(|image| image.digest).collect()
}

/// Looks again and again, first when the agent has run for longer than what was in use a
/// moment ago is spared: what an allocation that went while it was down still runs on.
pub async fn keep(shared: Arc<Shared>) {
    let room = Room::default();
    let mut ticks = interval_at(Instant::now() + room.age_min, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Without a plan it is not known what is in use.
        let Some(plan) = shared.plan() else { continue };
        let own: BTreeSet<Digest> = plan.allocations.iter().flat_map(images_of).collect();
        let Some(in_use) = shared.shelf.in_use(plan.host, own) else {
            continue;
        };
        let images = shared.images.clone();
        let pruned = tokio::task::spawn_blocking(move || images.prune(&in_use, &room)).await;
        match pruned {
            Ok(Ok(pruned)) if pruned.images.is_empty() => {}
            Ok(Ok(pruned)) => tracing::info!(
                images = pruned.images.join(", "),
                bytes = pruned.bytes,
                "unused images are gone"
            ),
            Ok(Err(error)) => tracing::warn!(%error, "unused images cannot be removed"),
            Err(error) => tracing::error!(%error, "unused images cannot be removed"),
        }
    }
}

/// What of `offered` can be promised: all that is promised already, and what will still be
/// free when all of that is used. `held` of it is used now.
fn promise(offered: u64, promised: u64, held: u64, free: u64) -> u64 {
    let due = promised.saturating_sub(held);
    let more = free.saturating_sub(due).saturating_sub(KEPT_BYTES);
    let most = promised.saturating_add(more);
    if most >= offered {
        return offered;
    }
    let step = (offered / STEPS).max(1);
    (most / step * step).max(promised.min(offered))
}

/// Free bytes where the agent keeps everything.
fn free_bytes(shared: &Shared) -> std::io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(&shared.config.data)?;
    Ok(disk.blocks_available() * disk.fragment_size())
}

/// Tells the ledger when the disk holds less than is offered, and when it holds that again;
/// and offers what the host's owner lends by now, as far as the machine has it.
pub async fn offer(shared: Arc<Shared>, registration: ledger::host::Call) {
    let ledger::host::Call::Register { offer: first, .. } = &registration else {
        return;
    };
    let machine = match machine_resources(&shared.config.data) {
        Ok(machine) => machine,
        Err(error) => {
            tracing::warn!(%error, "the machine cannot be measured");
            first.capacity
        }
    };
    // The disk that is free now, and what was used of it when it was offered.
    let disk_bytes = machine.disk_bytes.max(first.capacity.disk_bytes);
    let machine = Resources {
        disk_bytes,
        ..machine
    };
    let mut said = first.capacity;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(plan) = shared.plan() else { continue };
        let whole = lent(first.capacity, plan.allotment, machine);
        let free = match free_bytes(&shared) {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "the disk cannot be measured");
                continue;
            }
        };
        let promised = plan.allocations.iter();
        let promised = promised.map(|a| a.spec.resources.disk_bytes).sum();
        let books = shared.open_books();
        let held = books
            .iter()
            .map(|b| b.lock().expect("not poisoned").disk_bytes());
        let offered = whole.disk_bytes;
        let now = promise(offered, promised, held.sum(), free);
        let little = now != offered && now < said.disk_bytes.saturating_add(offered / STEPS);
        let disk_bytes = match now > said.disk_bytes && little {
            true => said.disk_bytes,
            false => now,
        };
        let now = Resources {
            disk_bytes,
            ..whole
        };
        if now == said {
            continue;
        }
        match shared
            .link
            .submit(ledger::Call::Host(with(&registration, now)))
            .await
        {
            Ok(()) => {
                if disk_bytes < offered {
                    tracing::warn!(
                        free,
                        offered = disk_bytes,
                        of = offered,
                        "what is offered follows the disk"
                    );
                } else {
                    tracing::info!(offered = ?now, "what is offered has changed");
                }
                said = now;
            }
            Err(error) => tracing::warn!(%error, "what is offered cannot be told"),
        }
    }
}

/// What its owner says on the ledger, as far as there is that much; else what the agent was
/// `started` with.
fn lent(started: Resources, allotment: Option<Resources>, machine: Resources) -> Resources {
    allotment.map_or(started, |wanted| wanted.at_most(&machine))
}

fn with(registration: &ledger::host::Call, wanted: Resources) -> ledger::host::Call {
    let mut call = registration.clone();
    if let ledger::host::Call::Register {
        offer: Offer { capacity, .. },
        ..
    } = &mut call
    {
        *capacity = wanted;
    }
    call
}

/// Volumes whose owner has removed them with their project while this host was not heard: the
/// ledger did not wait for it. Nothing else is ever deleted here: what a project that has only
/// ended has stored stays.
pub async fn removed_volumes(shared: Arc<Shared>) {
    let mut plans = shared.plans.clone();
    // Ended, and what they stored stays.
    let mut kept = BTreeSet::new();
    loop {
        // Whenever something may have ended; then, what nobody could say is asked again.
        let changed = tokio::time::timeout(EVERY, plans.changed()).await;
        if changed.is_ok_and(|c| c.is_err()) {
            return;
        }
        tokio::time::sleep(LOOK).await;
        plans.mark_unchanged();
        for deployment in stored(&shared) {
            if kept.contains(&deployment) {
                continue;
            }
            let here = |plan: &api::HostPlan| {
                let mut placed = plan.allocations.iter();
                placed.any(|a| a.deployment == deployment)
            };
            // Its worker knows what to do.
            if shared.plan().is_none_or(|plan| here(&plan)) {
                continue;
            }
            match shared.link.client().deployment(deployment).await {
                Ok(view) if view.removed && view.volumes_removed => {
                    let path = shared.folder("volumes").join(deployment.to_string());
                    tracing::info!(%deployment, "its owner has removed its volumes");
                    let gone = tokio::task::spawn_blocking(move || volume::delete(&path)).await;
                    if let Ok(Err(error)) = gone {
                        tracing::warn!(%deployment, %error, "volumes");
                    }
                }
                Ok(view) if view.removed => {
                    kept.insert(deployment);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%deployment, %error, "whether its volumes stay"),
            }
        }
    }
}

/// Deployments that have volumes here.
fn stored(shared: &Shared) -> Vec<DeploymentId> {
    let folders = std::fs::read_dir(shared.folder("volumes"));
    let names = folders
        .into_iter()
        .flatten()
        .flatten()
        .map(|f| f.file_name());
    names.filter_map(|n| n.to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn an_owner_lends_what_the_machine_has() {
        let of = |cpu_millis, memory| Resources {
            cpu_millis,
            memory_bytes: memory * GIB,
            ..Resources::default()
        };
        let (started, machine) = (of(2_000, 2), of(8_000, 16));
        assert_eq!(lent(started, None, machine), started);
        assert_eq!(lent(started, Some(of(1_000, 4)), machine), of(1_000, 4));
        assert_eq!(lent(started, Some(of(9_000, 1)), machine), of(8_000, 1));
    }

    #[test]
    fn no_more_is_promised_than_the_disk_holds() {
        let offered = 160 * GIB;
        assert_eq!(promise(offered, 0, 0, 500 * GIB), offered);
        assert_eq!(promise(offered, 20 * GIB, 0, 161 * GIB), offered);
        // Others use the disk: what is left, by whole steps.
        assert_eq!(promise(offered, 20 * GIB, 0, 100 * GIB), 90 * GIB);
        // What is used already needs no more room.
        assert_eq!(promise(offered, 20 * GIB, 20 * GIB, 100 * GIB), 110 * GIB);
        // Full: only what is promised stays promised.
        assert_eq!(promise(offered, 20 * GIB, 5 * GIB, 0), 20 * GIB);
        assert_eq!(promise(offered, 0, 0, KEPT_BYTES), 0);
        assert_eq!(promise(0, 0, 0, GIB), 0);
    }
}
