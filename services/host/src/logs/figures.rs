//! What replicas use, for OTLP receivers: from the history that is kept anyway, behind a cursor.
//!
//! A receiver that was away gets what it missed when it is back: of the last hour by 10 s, of
//! the last day by minutes, of the last week by 10 minutes, as [`journal::Ring`] has it. Only
//! steps that are over are sent, each once. Bytes are sums that only grow, from when the first
//! of a replica was sent; the sums are on disk with the cursor.

use std::collections::BTreeMap;
use std::time::Duration;

use journal::{Kept, Ring};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::DeploymentId;

use super::export::{Batch, Progress, attribute, resource};
use super::{Meta, Store};

/// How often it is looked for steps that are over.
pub const EVERY: Duration = Duration::from_secs(2);
const STEP_MS: u64 = 10_000;
const HOUR_MS: u64 = 3_600_000;
/// Steps of one allocation, and of all, in one request.
const STEPS_EACH: usize = 100;
const STEPS_MAX: usize = 1_000;

/// Bytes of an allocation since `start_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub start_ms: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// Steps of one allocation, and what was sent before them.
pub(super) struct Figures {
    pub meta: Meta,
    pub before: Totals,
    pub kept: Vec<Kept>,
}

/// What is to be sent next. Where nothing was used the cursor goes on by itself.
pub(super) fn gather(
    store: &Store,
    deployment: DeploymentId,
    progress: &mut Progress,
    now_ms: u64,
) -> Batch {
    let mut batch = Batch::default();
    progress.next.retain(|id, _| store.find(*id).is_some());
    progress.totals.retain(|id, _| store.find(*id).is_some());
    for stream in store.all() {
        let meta = stream.meta();
        if meta.deployment != deployment || batch.lines >= STEPS_MAX {
            continue;
        }
        let id = meta.allocation;
        let first = now_ms.saturating_sub(HOUR_MS - STEP_MS);
        let mut from = progress.next.get(&id).copied().unwrap_or(first);
        if meta.ended_ms.is_some_and(|ended| from >= ended + STEP_MS) {
            continue;
        }
        let oldest = now_ms.saturating_sub(journal::SPAN_MS);
        if from < oldest {
            batch.lost += (oldest - from).div_ceil(600_000);
            from = oldest;
        }
        let mut kept = Ring::read(&stream.ring_path(), from, u64::MAX, now_ms);
        kept.retain(|k| k.at_ms >= from && k.at_ms + k.step_ms <= now_ms);
        kept.truncate(STEPS_EACH.min(STEPS_MAX - batch.lines));
        let Some(last) = kept.last() else {
            // Nothing is ever added to a step that is over.
            let over = (now_ms - now_ms % STEP_MS).max(from);
            let beyond = now_ms.saturating_sub(HOUR_MS - STEP_MS);
            let next = if from < beyond { beyond } else { over };
            progress.next.insert(id, next);
            continue;
        };
        batch.next.insert(id, last.at_ms + last.step_ms);
        let start_ms = kept.first().map_or(0, |k| k.at_ms);
        let before = progress.totals.get(&id).copied().unwrap_or(Totals {
            start_ms,
            ..Totals::default()
        });
        let sum = |of: fn(&Kept) -> u64| kept.iter().map(of).fold(0, u64::saturating_add);
        let after = Totals {
            start_ms: before.start_ms,
            rx_bytes: before.rx_bytes.saturating_add(sum(|k| k.sample.rx_bytes)),
            tx_bytes: before.tx_bytes.saturating_add(sum(|k| k.sample.tx_bytes)),
        };
        batch.totals.insert(id, after);
        batch.lines += kept.len();
        batch.figures.push(Figures { meta, before, kept });
    }
    batch
}

fn nanoseconds(ms: u64) -> String {
    (u128::from(ms) * 1_000_000).to_string()
}

/// One point of each step, at its end.
fn gauge(name: &str, unit: &str, what: &str, kept: &[Kept], of: impl Fn(&Kept) -> Value) -> Value {
    let points = kept.iter().map(|k| {
        let (key, value) = match of(k) {
            Value::String(whole) => ("asInt", Value::String(whole)),
            number => ("asDouble", number),
        };
        json!({
            "startTimeUnixNano": nanoseconds(k.at_ms),
            "timeUnixNano": nanoseconds(k.at_ms + k.step_ms),
            key: value,
        })
    });
    let points: Vec<Value> = points.collect();
    json!({ "name": name, "unit": unit, "description": what, "gauge": { "dataPoints": points } })
}

/// Names are OpenTelemetry's for containers where it has one.
pub(super) fn otlp(figures: &[Figures]) -> Value {
    let resources = figures.iter().map(|f| {
        let kept = &f.kept[..];
        let whole = |n: u64| Value::String(n.to_string());
        let cores = |milli: u64| json!(milli as f64 / 1_000.0);
        let mut metrics = vec![
            gauge(
                "container.cpu.usage",
                "{cpu}",
                "Cores in use, the mean of a step.",
                kept,
                |k| cores(k.sample.cpu_millis),
            ),
            gauge(
                "runrig.container.cpu.usage.max",
                "{cpu}",
                "Cores in use, the most within a step.",
                kept,
                |k| cores(k.sample.cpu_millis_max),
            ),
            gauge(
                "container.memory.usage",
                "By",
                "Memory in use, the mean of a step.",
                kept,
                |k| whole(k.sample.memory_bytes),
            ),
            gauge(
                "runrig.container.memory.usage.max",
                "By",
                "Memory in use, the most within a step.",
                kept,
                |k| whole(k.sample.memory_bytes_max),
            ),
            gauge(
                "container.filesystem.usage",
                "By",
                "Writable layer and volumes.",
                kept,
                |k| whole(k.sample.disk_bytes),
            ),
            gauge(
                "runrig.container.processes",
                "{process}",
                "Processes and threads.",
                kept,
                |k| whole(k.sample.pids),
            ),
        ];
        metrics.push(network(f));
        json!({
            "resource": resource(&f.meta),
            "scopeMetrics": [{ "scope": { "name": "runrig" }, "metrics": metrics }],
        })
    });
    json!({ "resourceMetrics": resources.collect::<Vec<_>>() })
}

fn network(f: &Figures) -> Value {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::from([
        ("receive", f.before.rx_bytes),
        ("transmit", f.before.tx_bytes),
    ]);
    let mut points = Vec::new();
    for k in &f.kept {
        for (direction, more) in [
            ("receive", k.sample.rx_bytes),
            ("transmit", k.sample.tx_bytes),
        ] {
            let sum = sums.entry(direction).or_default();
            *sum = sum.saturating_add(more);
            points.push(json!({
                "startTimeUnixNano": nanoseconds(f.before.start_ms),
                "timeUnixNano": nanoseconds(k.at_ms + k.step_ms),
                "asInt": sum.to_string(),
                "attributes": [attribute("network.io.direction", direction)],
            }));
        }
    }
    json!({
        "name": "container.network.io",
        "unit": "By",
        "description": "Bytes over its interfaces.",
        // Cumulative: what Prometheus takes too.
        "sum": { "dataPoints": points, "aggregationTemporality": 2, "isMonotonic": true },
    })
}

#[cfg(test)]
mod tests;
