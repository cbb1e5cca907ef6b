//! Keep room on the disk: images that nothing here uses go, by the policy of [`images::Room`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::PlannedAllocation;
use images::Room;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use types::Digest;

use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(300);

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
        let in_use: BTreeSet<Digest> = plan.allocations.iter().flat_map(images_of).collect();
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
