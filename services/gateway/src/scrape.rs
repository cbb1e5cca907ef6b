//! Figures of one deployment for its owner's Prometheus: what its replicas use, asked of their
//! hosts, and what this gateway has served for it.

use std::fmt::Write as _;

use api::{Caller, Grant, Stats};
use futures::StreamExt;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use ledger::account::Role;
use serde::Deserialize;
use types::{AccountId, AllocationId, DeploymentId};

use crate::directory::ask;
use crate::figures;
use crate::limits::{ANSWER_BYTES_MAX, SCRAPE_TIME, SCRAPED_AT_ONCE, SCRAPED_MAX};
use crate::outgoing::{Outgoing, Reply};
use crate::page;
use crate::proxy::Gateway;

#[derive(Deserialize)]
struct Placed {
    allocation: AllocationId,
    owner: AccountId,
    replica: u32,
    closed: bool,
}

struct Used {
    replica: u32,
    stats: Stats,
}

type Figure = (&'static str, &'static str, &'static str, fn(&Stats) -> u64);

const FIGURES: [Figure; 8] = [
    (
        "runrig_replica_cpu_millis",
        "gauge",
        "Of one core, in thousandths, in the last second.",
        |s| s.cpu_millis,
    ),
    (
        "runrig_replica_cpu_limit_millis",
        "gauge",
        "Reserved, in thousandths of a core.",
        |s| s.cpu_limit_millis,
    ),
    (
        "runrig_replica_memory_bytes",
        "gauge",
        "Memory in use.",
        |s| s.memory_bytes,
    ),
    (
        "runrig_replica_memory_limit_bytes",
        "gauge",
        "Memory reserved.",
        |s| s.memory_limit_bytes,
    ),
    ("runrig_replica_disk_bytes", "gauge", "On disk.", |s| {
        s.disk_bytes
    }),
    (
        "runrig_replica_received_bytes_total",
        "counter",
        "Received by its container.",
        |s| s.rx_bytes,
    ),
    (
        "runrig_replica_sent_bytes_total",
        "counter",
        "Sent by its container.",
        |s| s.tx_bytes,
    ),
    (
        "runrig_replica_processes",
        "gauge",
        "Processes and threads.",
        |s| s.pids,
    ),
];

/// `id` as it stands in the path.
pub async fn answer(gateway: &Gateway, id: &str, request: &Request<Incoming>) -> Response<Reply> {
    let refused = |status, kind: &str, why: String| {
        let next = "Make a token with `runrig stats --token PROJECT` in the owner's context.";
        page::problem(status, kind, &format!("figures of {id}"), why, next)
    };
    let Ok(deployment) = id.parse::<DeploymentId>() else {
        return refused(
            StatusCode::NOT_FOUND,
            "not_found",
            "it is not the id of a deployment".into(),
        );
    };
    let header = request.headers().get(Grant::HEADER);
    let text = header.and_then(|v| v.to_str().ok());
    let scope = Grant::metrics(deployment);
    let account = match Grant::check(text, &scope, api::now_ms()) {
        Ok(account) => account,
        Err(error) => return refused(StatusCode::UNAUTHORIZED, "login", error.to_string()),
    };
    let path = format!("/v1/allocations?deployment={deployment}");
    let placed: Vec<Placed> = match ask(gateway, &path, id).await {
        Ok(placed) => placed,
        Err(response) => return *response,
    };
    let Some(owner) = placed.first().map(|p| p.owner) else {
        let why = "nothing of it has a place".into();
        return refused(StatusCode::NOT_FOUND, "not_found", why);
    };
    if account == owner {
        let why = "the owner's own key signed it, so nobody could call it back".into();
        return refused(StatusCode::FORBIDDEN, "forbidden", why);
    }
    let caller = Caller {
        account,
        through: None,
    };
    let may = gateway
        .grants
        .may(caller, owner, Role::Viewer, api::now_ms());
    match may.await {
        Ok(true) => {}
        Ok(false) => {
            let why = "the token was called back, or is another account's".into();
            return refused(StatusCode::FORBIDDEN, "forbidden", why);
        }
        Err(error) => {
            let why = format!("the ledger was not asked whether it is good: {error}");
            return refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why);
        }
    }
    let open = placed.into_iter().filter(|p| !p.closed).take(SCRAPED_MAX);
    let asked = open.map(|p| async move {
        let stats = stats(gateway, p.allocation, header?).await?;
        Some(Used {
            replica: p.replica,
            stats,
        })
    });
    let mut used: Vec<Used> = futures::stream::iter(asked)
        .buffered(SCRAPED_AT_ONCE)
        .filter_map(|used| async move { used })
        .collect()
        .await;
    used.sort_by_key(|u| u.stats.allocation);
    let mut body = text_of(deployment, &used);
    let table = gateway.table.load();
    let own = table.services_of(deployment).map(|s| &**s);
    let own: Vec<_> = own.filter(|s| s.owner == owner).collect();
    figures::of_services(&mut body, &own);
    page::text(body)
}

fn text_of(deployment: DeploymentId, used: &[Used]) -> String {
    let mut text = String::new();
    for (name, kind, help, of) in FIGURES {
        figures::head(&mut text, name, kind, help);
        for Used { replica, stats } in used {
            // Names of services are letters, digits, `-`, `.` and `_`.
            let _ = writeln!(
                text,
                "{name}{{deployment=\"{deployment}\",service=\"{}\",replica=\"{replica}\",allocation=\"{}\"}} {}",
                stats.service,
                stats.allocation,
                of(stats),
            );
        }
    }
    text
}

/// `None` of a host that does not answer in time: a scrape has what there is.
async fn stats(gateway: &Gateway, id: AllocationId, token: &HeaderValue) -> Option<Stats> {
    let asked = async {
        let agent = gateway.directory.agent(gateway, id).await.ok()?;
        let request = Request::get(format!("http://{agent}/v1/allocations/{id}/stats"))
            .header(HOST, agent.as_str())
            .header(Grant::HEADER, token)
            .body(Outgoing::empty())
            .ok()?;
        let response = gateway.client.request(request).await.ok()?;
        let good = response.status() == StatusCode::OK;
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes = body.collect().await.ok()?.to_bytes();
        let stats: Stats = serde_json::from_slice(bytes.trim_ascii()).ok()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        (good && stats.allocation == id && stats.service.bytes().all(plain)).then_some(stats)
    };
    tokio::time::timeout(SCRAPE_TIME, asked).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of metrics with the values of their samples, as Prometheus reads the format: a
    /// metric's samples lie together, after its help and its type.
    fn parsed(text: &str) -> Vec<(String, String, Vec<(String, f64)>)> {
        let mut all: Vec<(String, String, Vec<(String, f64)>)> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(!help.is_empty());
                assert!(all.iter().all(|(known, ..)| known != name), "{name} twice");
                all.push((name.into(), String::new(), Vec::new()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                let last = all.last_mut().expect("help comes first");
                assert_eq!(last.0, name);
                last.1 = kind.into();
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = series.split_once('{').expect("labels");
                let labels = labels.strip_suffix('}').expect("labels end");
                for label in labels.split(',') {
                    let (key, value) = label.split_once('=').expect("a label");
                    assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                    assert!(value.starts_with('"') && value.ends_with('"') && value.len() >= 2);
                }
                let last = all.last_mut().expect("help comes first");
                assert_eq!(last.0, name, "{line}");
                last.2
                    .push((labels.into(), value.parse().expect("a number")));
            }
        }
        all
    }

    #[test]
    fn what_is_told_is_what_prometheus_reads() {
        let used: Vec<Used> = (1..=2)
            .map(|n| Used {
                replica: n,
                stats: Stats {
                    allocation: AllocationId(n.into()),
                    service: "web".into(),
                    at_ms: 1,
                    cpu_millis: 250,
                    cpu_limit_millis: 500,
                    memory_bytes: 1 << 20,
                    memory_limit_bytes: 1 << 30,
                    disk_bytes: 0,
                    rx_bytes: 10,
                    tx_bytes: 20,
                    pids: 3,
                },
            })
            .collect();
        let metrics = parsed(&text_of(DeploymentId(7), &used));
        assert_eq!(metrics.len(), FIGURES.len());
        for (name, kind, samples) in &metrics {
            assert_eq!(samples.len(), 2, "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
        let (labels, value) = &metrics[0].2[1];
        assert_eq!(
            labels,
            "deployment=\"d-7\",service=\"web\",replica=\"2\",allocation=\"a-2\""
        );
        assert_eq!(*value, 250.0);
    }
}
