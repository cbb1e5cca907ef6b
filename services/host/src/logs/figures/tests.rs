//! Against a receiver that takes nothing but what OTLP's JSON allows.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use journal::Sample;
use types::{AllocationId, ExportKind, LogExport, LogPolicy};

use super::*;
use crate::logs::receiver::{self, until};

/// The messages of opentelemetry-proto's metrics service, as far as they are sent; a key that
/// they do not have is an error.
mod strict {
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub struct Request {
        pub resource_metrics: Vec<ResourceMetrics>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub struct ResourceMetrics {
        pub resource: Resource,
        pub scope_metrics: Vec<ScopeMetrics>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Resource {
        pub attributes: Vec<Attribute>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Attribute {
        pub key: String,
        pub value: Text,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub struct Text {
        pub string_value: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ScopeMetrics {
        pub scope: Scope,
        pub metrics: Vec<Metric>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Scope {
        pub name: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Metric {
        pub name: String,
        pub unit: String,
        pub description: String,
        pub gauge: Option<Gauge>,
        pub sum: Option<Sum>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub struct Gauge {
        pub data_points: Vec<Point>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub struct Sum {
        pub data_points: Vec<Point>,
        pub aggregation_temporality: u8,
        pub is_monotonic: bool,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub struct Point {
        /// 64 bits are texts.
        pub start_time_unix_nano: String,
        pub time_unix_nano: String,
        pub as_int: Option<String>,
        pub as_double: Option<f64>,
        #[serde(default)]
        pub attributes: Vec<Attribute>,
    }
}

/// Metric, direction, end in milliseconds, value.
type Told = (String, String, u64, f64);

#[derive(Clone)]
struct Seen {
    answer: Arc<AtomicU16>,
    told: Arc<Mutex<Vec<Told>>>,
}

async fn take(
    State(seen): State<Seen>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, &'static str) {
    let answer = StatusCode::from_u16(seen.answer.load(Ordering::Relaxed)).expect("a status");
    if !answer.is_success() {
        return (answer, "");
    }
    assert_eq!(uri.path(), "/v1/metrics");
    assert_eq!(headers["content-type"], "application/json");
    let request: strict::Request = serde_json::from_str(&body).expect("OTLP");
    let mut told = seen.told.lock().expect("not poisoned");
    for resource in request.resource_metrics {
        let attributes = &resource.resource.attributes;
        let service = attributes.iter().find(|a| a.key == "service.name");
        assert_eq!(service.expect("named").value.string_value, "web");
        for scope in resource.scope_metrics {
            assert_eq!(scope.scope.name, "runrig");
            for metric in scope.metrics {
                assert!(!metric.unit.is_empty() && metric.description.ends_with('.'));
                let points = match (metric.gauge, metric.sum) {
                    (Some(gauge), None) => gauge.data_points,
                    (None, Some(sum)) => {
                        assert!(sum.aggregation_temporality == 2 && sum.is_monotonic);
                        sum.data_points
                    }
                    both => panic!("one of them: {both:?}"),
                };
                for point in points {
                    let ns = |text: &str| text.parse::<u64>().expect("whole") / 1_000_000;
                    let end = ns(&point.time_unix_nano);
                    assert!(ns(&point.start_time_unix_nano) < end);
                    let value = match (point.as_int, point.as_double) {
                        (Some(whole), None) => whole.parse().expect("a number"),
                        (None, Some(number)) => number,
                        both => panic!("one of them: {both:?}"),
                    };
                    let mut directions = point
                        .attributes
                        .iter()
                        .map(|a| a.value.string_value.clone());
                    let direction = directions.next().unwrap_or_default();
                    told.push((metric.name.clone(), direction, end, value));
                }
            }
        }
    }
    (StatusCode::OK, r#"{"partialSuccess":{}}"#)
}

impl Seen {
    fn of(&self, metric: &str, direction: &str) -> Vec<(u64, f64)> {
        let told = self.told.lock().expect("not poisoned");
        let found = told.iter().filter(|t| t.0 == metric && t.1 == direction);
        found.map(|t| (t.2, t.3)).collect()
    }
}

fn stats(folder: &std::path::Path, policy: LogPolicy) -> std::path::PathBuf {
    receiver::kept(folder, policy).join("stats")
}

fn sample(n: u64) -> Sample {
    Sample {
        cpu_millis: 250,
        cpu_millis_max: 250 + n,
        memory_bytes: 1 << 20,
        memory_bytes_max: 2 << 20,
        disk_bytes: 7,
        rx_bytes: 100,
        tx_bytes: 10,
        pids: 3,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_arrives_once_though_receiver_and_sender_were_down() {
    let seen = Seen {
        answer: Arc::new(AtomicU16::new(503)),
        told: Arc::default(),
    };
    let address = receiver::serve(Router::new().fallback(take).with_state(seen.clone())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let export = LogExport {
        kind: ExportKind::Metrics,
        url: format!("http://{address}/v1/metrics"),
    };
    let policy = LogPolicy {
        exports: vec![export],
        ..LogPolicy::default()
    };
    let kept = stats(folder.path(), policy);
    let now = crate::machine::now_ms();
    let first = now - now % STEP_MS - 20 * STEP_MS;
    let mut ring = Ring::open(&kept).expect("opened");
    let mut add = |steps: std::ops::Range<u64>| {
        for step in steps {
            ring.add(first + step * STEP_MS + 1, &sample(step))
                .expect("added");
        }
    };
    add(0..10);
    let begin = || receiver::begin(Arc::new(Store::open(folder.path()).expect("opened")));
    let (exports, task) = begin();
    until("it was tried", || {
        let of = exports.of(DeploymentId(1));
        of.len() == 1 && of[0].failures > 0
    })
    .await;
    seen.answer.store(200, Ordering::Relaxed);
    let whole = |steps: u64| {
        let ends: Vec<u64> = (1..=steps).map(|n| first + n * STEP_MS).collect();
        let cpu = seen.of("container.cpu.usage", "");
        let got: Vec<u64> = seen
            .of("container.network.io", "receive")
            .iter()
            .map(|p| p.0)
            .collect();
        got == ends && cpu.iter().all(|p| p.1 == 0.25) && cpu.len() as u64 == steps
    };
    until("all have arrived, once and in order", || whole(10)).await;
    let sums = |direction: &str| -> Vec<f64> {
        let points = seen.of("container.network.io", direction);
        points.iter().map(|p| p.1).collect()
    };
    assert_eq!(sums("transmit").last(), Some(&100.0));
    until("that is on disk", || {
        receiver::written(folder.path())
            .iter()
            .any(|p| p.sent == 10)
    })
    .await;

    // The agent is started again, and more was used: sums go on where they were.
    task.abort();
    drop(exports);
    add(10..12);
    let (exports, _task) = begin();
    until("the rest has arrived", || whole(12)).await;
    let expected: Vec<f64> = (1..=12).map(|n| f64::from(n) * 100.0).collect();
    assert_eq!(sums("receive"), expected);
    assert_eq!(exports.of(DeploymentId(1))[0].dropped, 0);
    assert_eq!(
        seen.of("container.filesystem.usage", "")
            .last()
            .map(|p| p.1),
        Some(7.0)
    );
    assert_eq!(
        seen.of("runrig.container.processes", "")
            .last()
            .map(|p| p.1),
        Some(3.0)
    );
}

/// Who was away for hours gets them by coarser steps; what would be a request without end is cut.
#[test]
fn what_is_older_comes_by_coarser_steps_and_in_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = stats(folder.path(), LogPolicy::default());
    let store = Store::open(folder.path()).expect("opened");
    let now = 100_000 * HOUR_MS + 5_000;
    let mut ring = Ring::open(&kept).expect("opened");
    let began = now - 4 * HOUR_MS;
    let mut at = began;
    while at < now {
        ring.add(at, &sample(0)).expect("added");
        at += STEP_MS;
    }
    let mut progress = Progress::default();
    progress
        .next
        .insert(AllocationId(1), began - began % 60_000);
    let (mut steps, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let batch = gather(&store, DeploymentId(1), &mut progress, now);
        assert!(batch.lines <= STEPS_EACH && batch.lost == 0);
        if batch.lines == 0 {
            break;
        }
        for figures in &batch.figures {
            steps.extend(figures.kept.iter().map(|k| k.step_ms));
            ends.extend(figures.kept.iter().map(|k| k.at_ms + k.step_ms));
        }
        progress.next.extend(batch.next);
        progress.totals.extend(batch.totals);
    }
    assert!(ends.windows(2).all(|w| w[0] < w[1]), "each once, in order");
    assert_eq!(ends.last(), Some(&(now - now % STEP_MS)));
    assert_eq!(steps.first(), Some(&60_000));
    assert_eq!(steps.last(), Some(&STEP_MS));
    let sum = progress.totals[&AllocationId(1)].rx_bytes;
    let whole = 4 * 360 * 100;
    assert!((whole - 100..=whole).contains(&sum), "{sum}");
    // A replica that is gone is asked for no more.
    let next = progress.next[&AllocationId(1)];
    let batch = gather(&store, DeploymentId(1), &mut progress, now + 2 * HOUR_MS);
    assert!(batch.lines == 0 && progress.next[&AllocationId(1)] > next);
}
