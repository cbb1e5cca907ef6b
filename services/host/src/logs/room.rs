//! How much is kept: what the owner wishes, within what the host bears.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::DeploymentId;

use super::Stream;
use crate::machine::now_ms;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(5);
/// Of a project on this host, if its owner does not say.
const PROJECT_BYTES: u64 = 100 << 20;
pub(super) const AGE_MS: u64 = 7 * 86_400_000;
/// Of a project on this host, whatever its owner says.
const PROJECT_BYTES_MAX: u64 = 1 << 30;
const AGE_MS_MAX: u64 = 45 * 86_400_000;
/// Of all projects.
const HOST_BYTES_MAX: u64 = 10 << 30;
/// Histories of replicas that are gone stay so long.
const GONE_MS: u64 = AGE_MS;

/// Lets go what is beyond the bounds, again and again.
pub async fn keep(shared: Arc<Shared>) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let shared = shared.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || once(&shared)).await {
            tracing::error!(%error, "room for logs");
        }
    }
}

fn once(shared: &Shared) {
    let mut projects: BTreeMap<DeploymentId, Vec<Arc<Stream>>> = BTreeMap::new();
    let all = shared.logs.all();
    for stream in &all {
        let deployment = stream.meta().deployment;
        projects.entry(deployment).or_default().push(stream.clone());
    }
    let now = now_ms();
    for streams in projects.into_values() {
        // The newest allocation knows the latest release's policy.
        let policy = streams.last().map(|s| s.meta().policy).unwrap_or_default();
        let age = policy.age_ms_max.unwrap_or(AGE_MS).min(AGE_MS_MAX);
        for stream in &streams {
            let oldest = stream.journal.lock().oldest_ms();
            if oldest > 0 && oldest < now.saturating_sub(age) {
                prune(stream, u64::MAX, now.saturating_sub(age));
            }
        }
        let bytes = policy.bytes_max.unwrap_or(PROJECT_BYTES);
        within(&streams, bytes.min(PROJECT_BYTES_MAX));
    }
    within(&all, HOST_BYTES_MAX);
    for stream in all {
        let meta = stream.meta();
        let (empty, gone) = {
            let journal = stream.journal.lock();
            let gone = meta.ended_ms.is_some_and(|at| at + GONE_MS < now);
            (journal.first() == journal.next(), gone)
        };
        if empty
            && gone
            && let Err(error) = shared.logs.remove(meta.allocation)
        {
            tracing::warn!(allocation = %meta.allocation, %error, "an old log");
        }
    }
}

/// Lets the oldest lines of all go until together they have at most `bytes_max`.
fn within(streams: &[Arc<Stream>], bytes_max: u64) {
    let mut sized: Vec<(u64, u64, &Arc<Stream>)> = streams
        .iter()
        .map(|stream| {
            let journal = stream.journal.lock();
            (journal.oldest_ms(), journal.bytes(), stream)
        })
        .collect();
    let mut total: u64 = sized.iter().map(|(_, bytes, _)| bytes).sum();
    if total <= bytes_max {
        return;
    }
    sized.sort_by_key(|(oldest, ..)| *oldest);
    for (_, bytes, stream) in sized {
        let more = total.saturating_sub(bytes_max);
        if more == 0 {
            return;
        }
        prune(stream, bytes.saturating_sub(more), 0);
        total = total - bytes + stream.journal.lock().bytes();
    }
}

fn prune(stream: &Stream, bytes_max: u64, since_ms: u64) {
    if let Err(error) = stream.journal.lock().prune(bytes_max, since_ms) {
        tracing::warn!(folder = %stream.folder.display(), %error, "old lines cannot go");
    }
}
