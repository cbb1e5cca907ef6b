//! To the receivers that owners name: Loki, OTLP over HTTP; lines, and what replicas use
//! ([`figures`]).
//!
//! One task per project and receiver reads the journals behind its own cursor, so what a
//! receiver has not taken lies where it lies anyway: nothing is buffered, no container waits,
//! and when policy lets lines go before a receiver took them they are counted as dropped. The
//! cursor is on disk after each answer: a line is sent again only if this process dies between
//! the answer and that, or if the answer was lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use journal::{Filter, Line};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use types::{AllocationId, DeploymentId, Digest, ExportKind, LogExport};

use super::figures::{self, Figures, Totals};
use super::{Meta, Store};
use crate::durable;
use crate::machine::now_ms;

/// How often projects are looked at for new receivers, and journals for new lines.
const EVERY: Duration = Duration::from_millis(500);
const ANSWER_TIME: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Lines of one allocation, and of all, in one request.
const LINES_EACH: usize = 500;
const LINES_MAX: usize = 2_000;
/// Receivers that one host serves.
const RECEIVERS_MAX: usize = 200;
/// What a receiver may answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How it stands with a receiver; on disk, and shown to the owner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    pub url: String,
    #[serde(default)]
    pub kind: Option<ExportKind>,
    /// Number of the next line to send; of figures, from when on they are sent.
    pub next: BTreeMap<AllocationId, u64>,
    /// What was sent of figures that only grow.
    #[serde(default)]
    pub totals: BTreeMap<AllocationId, Totals>,
    pub sent: u64,
    /// Let go by policy before they were sent, or refused by the receiver for good.
    pub dropped: u64,
    /// Requests that failed since one went well.
    pub failures: u32,
    pub error: Option<String>,
}

type Key = (DeploymentId, ExportKind, String);

/// All receivers of this host.
#[derive(Default)]
pub struct Exports(Mutex<BTreeMap<Key, (AbortHandle, Arc<Mutex<Progress>>)>>);

impl Exports {
    /// How it stands with a project's receivers.
    pub fn of(&self, deployment: DeploymentId) -> Vec<Progress> {
        let all = self.0.lock().expect("not poisoned");
        all.iter()
            .filter(|((of, ..), _)| *of == deployment)
            .map(|(_, (_, progress))| progress.lock().expect("not poisoned").clone())
            .collect()
    }

    /// Serves the receivers that policies name, for as long as it is polled. With `private`
    /// also ones on this machine's and private networks.
    pub async fn keep(&self, store: Arc<Store>, private: bool) -> std::convert::Infallible {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let mut wanted: BTreeMap<Key, LogExport> = BTreeMap::new();
            for stream in store.all() {
                let meta = stream.meta();
                for export in meta.policy.exports {
                    let key = (meta.deployment, export.kind, export.url.clone());
                    wanted.insert(key, export);
                }
            }
            let mut all = self.0.lock().expect("not poisoned");
            all.retain(|key, (task, _)| {
                let stays = wanted.contains_key(key);
                if !stays {
                    task.abort();
                }
                stays
            });
            for (key, export) in wanted {
                if all.contains_key(&key) || all.len() >= RECEIVERS_MAX {
                    continue;
                }
                let receiver = Receiver::open(store.clone(), key.0, export, private);
                let progress = receiver.progress.clone();
                let task = tokio::spawn(receiver.serve()).abort_handle();
                all.insert(key, (task, progress));
            }
        }
    }
}

impl Drop for Exports {
    fn drop(&mut self) {
        let all = self.0.lock().expect("not poisoned");
        all.values().for_each(|(task, _)| task.abort());
    }
}

struct Receiver {
    store: Arc<Store>,
    deployment: DeploymentId,
    export: LogExport,
    private: bool,
    path: PathBuf,
    progress: Arc<Mutex<Progress>>,
}

/// What goes into one request.
#[derive(Default)]
pub(super) struct Batch {
    parts: Vec<(Meta, Vec<(u64, Line)>)>,
    pub figures: Vec<Figures>,
    pub next: BTreeMap<AllocationId, u64>,
    pub totals: BTreeMap<AllocationId, Totals>,
    pub lost: u64,
    /// Or points.
    pub lines: usize,
}

enum Failure {
    /// Trying again may help.
    Later(String),
    /// These lines will never be taken.
    Never(String),
    /// So many of them were not taken, the others were.
    Partly(u64, String),
}

impl Receiver {
    fn open(store: Arc<Store>, deployment: DeploymentId, export: LogExport, private: bool) -> Self {
        let name = match export.kind {
            ExportKind::Loki | ExportKind::Otlp => {
                Digest::of_value("runrig-export", &(deployment, &export.url))
            }
            ExportKind::Metrics => Digest::of_value("runrig-figures", &(deployment, &export.url)),
        };
        let name = name.to_string();
        let path = store
            .root()
            .join("exports")
            .join(format!("{}.json", &name[..16]));
        let known = durable::read::<Progress>(&path).ok().flatten();
        let progress = Progress {
            url: export.url.clone(),
            kind: Some(export.kind),
            ..known.unwrap_or_default()
        };
        Self {
            store,
            deployment,
            export,
            private,
            path,
            progress: Arc::new(Mutex::new(progress)),
        }
    }

    async fn serve(self) {
        let receiver = Arc::new(self);
        let mut pause = PAUSE_MIN;
        loop {
            let gathering = receiver.clone();
            let batch = tokio::task::spawn_blocking(move || gathering.gather()).await;
            let Ok(batch) = batch else { return };
            if batch.lines == 0 && batch.lost == 0 {
                let every = match receiver.export.kind {
                    ExportKind::Metrics => figures::EVERY,
                    ExportKind::Loki | ExportKind::Otlp => EVERY,
                };
                tokio::time::sleep(every).await;
                continue;
            }
            let sent = match batch.lines {
                0 => Ok(()),
                _ => receiver.send(&batch).await,
            };
            match sent {
                Err(Failure::Later(why)) => {
                    {
                        let mut progress = receiver.progress.lock().expect("not poisoned");
                        progress.failures = progress.failures.saturating_add(1);
                        progress.error = Some(why);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                taken => {
                    receiver.settle(batch, taken.err());
                    pause = PAUSE_MIN;
                }
            }
        }
    }

    fn gather(&self) -> Batch {
        if self.export.kind == ExportKind::Metrics {
            let mut progress = self.progress.lock().expect("not poisoned");
            return figures::gather(&self.store, self.deployment, &mut progress, now_ms());
        }
        let next = {
            let progress = self.progress.lock().expect("not poisoned");
            progress.next.clone()
        };
        let mut batch = Batch::default();
        for stream in self.store.all() {
            let meta = stream.meta();
            if meta.deployment != self.deployment || batch.lines >= LINES_MAX {
                continue;
            }
            let from = next.get(&meta.allocation).copied().unwrap_or(0);
            let page = stream.journal.read(from, &Filter::default(), LINES_EACH);
            if page.next > from {
                batch.next.insert(meta.allocation, page.next);
            }
            batch.lost += page.lost;
            batch.lines += page.lines.len();
            if !page.lines.is_empty() {
                batch.parts.push((meta, page.lines));
            }
        }
        batch
    }

    fn settle(&self, batch: Batch, refused: Option<Failure>) {
        let kept = {
            let mut progress = self.progress.lock().expect("not poisoned");
            progress.next.extend(batch.next);
            progress.totals.extend(batch.totals);
            progress.dropped += batch.lost;
            progress.failures = 0;
            progress.error = None;
            match refused {
                None => progress.sent += batch.lines as u64,
                Some(Failure::Partly(rejected, why)) => {
                    let rejected = rejected.min(batch.lines as u64);
                    progress.sent += batch.lines as u64 - rejected;
                    progress.dropped += rejected;
                    progress.error = Some(why);
                }
                Some(Failure::Never(why) | Failure::Later(why)) => {
                    progress.dropped += batch.lines as u64;
                    progress.error = Some(why);
                }
            }
            progress.clone()
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = std::fs::create_dir_all(folder)
            .map_err(Into::into)
            .and_then(|()| durable::write_whole(&self.path, &kept));
        if let Err(error) = written {
            tracing::warn!(%error, "how far a receiver has come");
        }
    }

    fn otlp_url(&self, path: &str) -> String {
        let base = self.export.url.trim_end_matches('/');
        format!("{}{path}", base.strip_suffix(path).unwrap_or(base))
    }

    async fn send(&self, batch: &Batch) -> Result<(), Failure> {
        let later = |why: String| Failure::Later(why);
        let (url, body) = match self.export.kind {
            ExportKind::Loki => (self.export.url.clone(), loki(batch)),
            ExportKind::Otlp => (self.otlp_url("/v1/logs"), otlp(batch)),
            ExportKind::Metrics => (self.otlp_url("/v1/metrics"), figures::otlp(&batch.figures)),
        };
        let url: reqwest::Url = url
            .parse()
            .map_err(|_| Failure::Never(format!("{url} is no address")))?;
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_TIME);
        if !self.private {
            // What was checked is what is connected to: the name is not looked up again.
            let host = url.host_str().unwrap_or_default().to_string();
            let port = url.port_or_known_default().unwrap_or(80);
            let bare = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_string();
            let found = tokio::net::lookup_host((bare.as_str(), port)).await;
            let found: Vec<_> = found.map_err(|e| later(e.to_string()))?.collect();
            if found.is_empty() || !found.iter().all(|a| is_public(a.ip())) {
                return Err(later(
                    "its address is not a public one: this host sends to no other".into(),
                ));
            }
            client = client.resolve_to_addrs(&host, &found);
        }
        let client = client.build().map_err(|e| later(e.to_string()))?;
        let mut answer = client
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .map_err(|e| later(e.without_url().to_string()))?;
        let status = answer.status().as_u16();
        match status {
            200..300 if self.export.kind == ExportKind::Loki => Ok(()),
            200..300 => {
                let mut body = Vec::new();
                while let Ok(Some(more)) = answer.chunk().await {
                    body.extend_from_slice(&more);
                    if body.len() > ANSWER_BYTES_MAX {
                        return Ok(());
                    }
                }
                partly(&body)
            }
            // Set up wrongly, or asked too much: it may be put right.
            401 | 403 | 404 | 408 | 429 => Err(later(format!("it answers {status}"))),
            400..500 => Err(Failure::Never(format!("it answers {status}"))),
            _ => Err(later(format!("it answers {status}"))),
        }
    }
}

/// An OTLP receiver took the request and not all that is in it.
fn partly(answer: &[u8]) -> Result<(), Failure> {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
        return Ok(());
    };
    let part = &answer["partialSuccess"];
    let counts = ["rejectedLogRecords", "rejectedDataPoints"].map(|key| &part[key]);
    // 64 bits are a text in this JSON, and a number to some.
    let count = |v: &Value| v.as_u64().or_else(|| v.as_str()?.parse().ok());
    match counts.into_iter().find_map(count).filter(|n| *n > 0) {
        None => Ok(()),
        Some(rejected) => {
            let why = part["errorMessage"].as_str().unwrap_or_default();
            let why: String = why.chars().filter(|c| !c.is_control()).take(200).collect();
            Err(Failure::Partly(rejected, format!("it took not all: {why}")))
        }
    }
}

/// Reached through the internet, and not a network that this host happens to be in.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || shared
                || a == 0
                || a >= 240)
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_public(ip.into()),
            // Global unicast, without what leads to IPv4 (6to4, NAT64 is outside of it).
            None => ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[0] != 0x2002,
        },
    }
}

/// Told apart within a millisecond and in order, the same each time a line is sent.
fn nanoseconds(sequence: u64, line: &Line) -> String {
    let ns = u128::from(line.at_ms) * 1_000_000 + u128::from(sequence % 1_000_000);
    ns.to_string()
}

fn labels(meta: &Meta) -> [(&'static str, String); 5] {
    [
        ("project", meta.project.clone()),
        ("service", meta.service.clone()),
        ("replica", meta.replica.to_string()),
        ("release", meta.release.to_string()),
        ("allocation", meta.allocation.to_string()),
    ]
}

fn loki(batch: &Batch) -> Value {
    let mut streams = Vec::new();
    for (meta, lines) in &batch.parts {
        let mut by_source: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (sequence, line) in lines {
            let value = json!([nanoseconds(*sequence, line), line.text]);
            by_source.entry(line.source.name()).or_default().push(value);
        }
        for (source, values) in by_source {
            let mut stream: BTreeMap<&str, String> = labels(meta).into();
            stream.insert("stream", source.into());
            streams.push(json!({ "stream": stream, "values": values }));
        }
    }
    json!({ "streams": streams })
}

pub(super) fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// An allocation, as OTLP has it.
pub(super) fn resource(meta: &Meta) -> Value {
    let mut attributes: Vec<Value> = labels(meta)
        .iter()
        .map(|(key, value)| attribute(&format!("runrig.{key}"), value))
        .collect();
    attributes.push(attribute("service.name", &meta.service));
    attributes.push(attribute("service.namespace", &meta.project));
    attributes.push(attribute(
        "service.instance.id",
        &meta.allocation.to_string(),
    ));
    json!({ "attributes": attributes })
}

fn otlp(batch: &Batch) -> Value {
    let resources = batch.parts.iter().map(|(meta, lines)| {
        let records = lines.iter().map(|(sequence, line)| {
            json!({
                "timeUnixNano": nanoseconds(*sequence, line),
                "observedTimeUnixNano": nanoseconds(*sequence, line),
                "body": { "stringValue": line.text },
                "attributes": [
                    attribute("log.iostream", line.source.name()),
                    { "key": "runrig.sequence", "value": { "intValue": sequence.to_string() } },
                ],
            })
        });
        json!({
            "resource": resource(meta),
            "scopeLogs": [{
                "scope": { "name": "runrig" },
                "logRecords": records.collect::<Vec<_>>(),
            }],
        })
    });
    json!({ "resourceLogs": resources.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests;
