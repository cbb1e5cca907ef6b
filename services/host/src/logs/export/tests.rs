//! Against receivers that fail, and an agent that is started again.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use journal::{Position, Source};
use types::LogPolicy;

use super::*;
use crate::logs::receiver::{self, until};

#[derive(Clone, Default)]
struct Seen {
    down: Arc<AtomicBool>,
    bodies: Arc<Mutex<Vec<(String, Value)>>>,
}

async fn take(State(seen): State<Seen>, uri: Uri, body: String) -> StatusCode {
    if seen.down.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let value = serde_json::from_str(&body).expect("JSON");
    let mut bodies = seen.bodies.lock().expect("not poisoned");
    bodies.push((uri.path().to_string(), value));
    StatusCode::NO_CONTENT
}

impl Seen {
    /// Lines by way of `path`, as they came.
    fn lines(&self, path: &str) -> Vec<String> {
        let bodies = self.bodies.lock().expect("not poisoned");
        let mut all = Vec::new();
        for (_, body) in bodies.iter().filter(|(at, _)| at == path) {
            for stream in body["streams"].as_array().into_iter().flatten() {
                assert_eq!(stream["stream"]["service"], "web");
                let values = stream["values"].as_array().expect("a list");
                all.extend(
                    values
                        .iter()
                        .map(|v| v[1].as_str().expect("text").to_string()),
                );
            }
            for resource in body["resourceLogs"].as_array().into_iter().flatten() {
                let records = &resource["scopeLogs"][0]["logRecords"];
                for record in records.as_array().expect("a list") {
                    assert!(record["timeUnixNano"].is_string(), "{record}");
                    let text = record["body"]["stringValue"].as_str();
                    all.push(text.expect("text").to_string());
                }
            }
        }
        all
    }
}

fn append(store: &Store, texts: std::ops::Range<u64>) {
    let lines: Vec<Line> = texts
        .clone()
        .map(|n| Line {
            at_ms: 1_000,
            source: Source::Stdout,
            text: n.to_string(),
        })
        .collect();
    let stream = store.find(AllocationId(1)).expect("there");
    let position = Position {
        number: texts.end,
        ..Position::default()
    };
    let mut journal = stream.journal.lock();
    journal.append(&lines, position).expect("kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_arrives_once_though_receiver_and_sender_were_down() {
    let seen = Seen::default();
    seen.down.store(true, Ordering::Relaxed);
    let address = receiver::serve(Router::new().fallback(take).with_state(seen.clone())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let to = |kind, path: &str| LogExport {
        kind,
        url: format!("http://{address}{path}"),
    };
    let policy = LogPolicy {
        exports: vec![
            to(ExportKind::Loki, "/loki/api/v1/push"),
            to(ExportKind::Otlp, "/otlp"),
        ],
        ..LogPolicy::default()
    };
    receiver::kept(folder.path(), policy);

    let begin = || {
        let store = Arc::new(Store::open(folder.path()).expect("opened"));
        let (exports, task) = receiver::begin(store.clone());
        (store, exports, task)
    };
    let (store, exports, task) = begin();
    append(&store, 0..1_200);
    until("it was tried", || {
        let of = exports.of(DeploymentId(1));
        of.len() == 2 && of.iter().all(|p| p.failures > 0 && p.error.is_some())
    })
    .await;
    assert!(seen.bodies.lock().expect("not poisoned").is_empty());
    seen.down.store(false, Ordering::Relaxed);
    let paths = ["/loki/api/v1/push", "/otlp/v1/logs"];
    let whole = |count: u64| {
        let expected: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        paths.iter().all(|path| seen.lines(path) == expected)
    };
    until("all have arrived", || whole(1_200)).await;
    until("that is on disk", || {
        let on_disk = receiver::written(folder.path());
        on_disk.len() == 2 && on_disk.iter().all(|p| p.sent == 1_200)
    })
    .await;

    // The agent is started again; lines that policy let go meanwhile are counted.
    task.abort();
    drop((store, exports));
    let (store, exports, task) = begin();
    append(&store, 1_200..1_300);
    until("the rest has arrived, once", || whole(1_300)).await;
    let dropped = |exports: &Exports| {
        exports
            .of(DeploymentId(1))
            .iter()
            .map(|p| p.dropped)
            .collect::<Vec<_>>()
    };
    assert_eq!(dropped(&exports), [0, 0]);
    task.abort();
    drop(exports);
    append(&store, 1_300..1_310);
    store
        .find(AllocationId(1))
        .expect("there")
        .journal
        .lock()
        .prune(0, 0)
        .expect("pruned");
    drop(store);
    let (store, exports, _task) = begin();
    append(&store, 1_310..1_311);
    until("what is lost is told", || dropped(&exports) == [10, 10]).await;
    until("and what follows is sent", || {
        paths
            .iter()
            .all(|path| seen.lines(path).last().is_some_and(|l| l == "1310"))
    })
    .await;
}

#[test]
fn what_is_taken_in_part_is_told() {
    let count = |answer: &str| match partly(answer.as_bytes()) {
        Err(Failure::Partly(count, why)) => Some((count, why)),
        _ => None,
    };
    for whole in [
        "",
        "{}",
        "not json",
        r#"{"partialSuccess":{"rejectedDataPoints":"0"}}"#,
    ] {
        assert_eq!(count(whole), None, "{whole}");
    }
    let said = r#"{"partialSuccess":{"rejectedDataPoints":"7","errorMessage":"too old"}}"#;
    assert_eq!(count(said), Some((7, "it took not all: too old".into())));
    let number = r#"{"partialSuccess":{"rejectedLogRecords":7}}"#;
    assert_eq!(count(number).map(|c| c.0), Some(7));
}

#[test]
fn only_the_internet_is_sent_to() {
    for (ip, public) in [
        ("93.184.216.34", true),
        ("2606:2800:220:1::1", true),
        ("127.0.0.1", false),
        ("10.1.2.3", false),
        ("169.254.169.254", false),
        ("100.64.0.1", false),
        ("0.0.0.0", false),
        ("::1", false),
        ("fe80::1", false),
        ("fd00::1", false),
        ("::ffff:127.0.0.1", false),
        ("64:ff9b::a00:1", false),
        ("2002:7f00:1::", false),
    ] {
        assert_eq!(is_public(ip.parse().expect("an address")), public, "{ip}");
    }
}
