//! Figures for Prometheus: of the gateway, and of each service for metering.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use api::Gauge;

use crate::limits::{METERED_MAX, SERVED_TOLD_MAX, SPLICED_MAX, WAITING_MAX};
use crate::proxy::Gateway;
use crate::served::Totals;
use crate::table::{Service, uptime_ms};
use crate::tally::{Counts, LATENCY_US};

pub fn metrics(gateway: &Gateway) -> String {
    let table = gateway.table.load();
    let healthy = gateway.validators.all.iter().filter(|v| v.is_healthy());
    let mut text = api::prometheus(&[
        Gauge::new(
            "runrig_gateway_routes_height",
            "Height of the ledger that the routes are of; 0 before any were heard.",
            table.height,
        ),
        Gauge::new(
            "runrig_gateway_services",
            "Services that requests go to.",
            table.services.len() as u64,
        ),
        Gauge::new(
            "runrig_gateway_refused_replicas",
            "Replicas passed over because of their address.",
            table.refused as u64,
        ),
        Gauge::new(
            "runrig_gateway_validators_healthy",
            "Validators that answer.",
            healthy.count() as u64,
        ),
        Gauge::new(
            "runrig_gateway_published_ports",
            "Ports that services publish here.",
            table.published.len() as u64,
        ),
        Gauge::new(
            "runrig_gateway_waiting_requests",
            "Requests that wait for services to start.",
            (WAITING_MAX - gateway.waiting.available_permits()) as u64,
        ),
        Gauge::new(
            "runrig_gateway_connections",
            "Connections to published ports.",
            (SPLICED_MAX - gateway.spliced.available_permits()) as u64,
        ),
    ]);
    // Services without a request are not told: they are many.
    let asked: Vec<&Service> = table
        .services
        .values()
        .map(|service| &**service)
        .filter(|service| !service.tally.counts.is_unused())
        .take(METERED_MAX)
        .collect();
    of_services(&mut text, &asked);
    text
}

/// Requests, latencies and replicas of `services`.
pub fn of_services(text: &mut String, services: &[&Service]) {
    counters(text, services);
    latencies(text, services);
    replicas(text, services);
    served(text, services);
}

pub fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn labels(service: &Service) -> String {
    // Names of services are letters, digits, `-` and `_`.
    format!(
        "deployment=\"{}\",service=\"{}\"",
        service.deployment, service.name
    )
}

type Counter = (&'static str, &'static str, fn(&Counts) -> &AtomicU64);

const COUNTERS: [Counter; 6] = [
    (
        "runrig_gateway_received_bytes_total",
        "Bytes of requests' bodies, from clients.",
        |c| &c.received,
    ),
    (
        "runrig_gateway_sent_bytes_total",
        "Bytes of answers' bodies, to clients.",
        |c| &c.sent,
    ),
    (
        "runrig_gateway_retries_total",
        "Times that a further replica was asked.",
        |c| &c.retries,
    ),
    (
        "runrig_gateway_spliced_connections_total",
        "Connections to published ports that have ended.",
        |c| &c.connections,
    ),
    (
        "runrig_gateway_spliced_received_bytes_total",
        "Bytes from clients of published ports.",
        |c| &c.spliced_received,
    ),
    (
        "runrig_gateway_spliced_sent_bytes_total",
        "Bytes to clients of published ports.",
        |c| &c.spliced_sent,
    ),
];

fn counters(text: &mut String, services: &[&Service]) {
    let name = "runrig_gateway_requests_total";
    head(text, name, "counter", "Requests answered, by status.");
    for service in services {
        let labels = labels(service);
        for (class, count) in (1..).zip(&service.tally.counts.answers) {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}{{{labels},status=\"{class}xx\"}} {count}");
        }
    }
    for (name, help, of) in COUNTERS {
        head(text, name, "counter", help);
        for service in services {
            let count = of(&service.tally.counts).load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}{{{}}} {count}", labels(service));
        }
    }
}

fn latencies(text: &mut String, services: &[&Service]) {
    let name = "runrig_gateway_request_seconds";
    head(text, name, "histogram", "From request to the answer's end.");
    for service in services {
        let counts = &service.tally.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let latency: Vec<u64> = counts.latency.iter().map(read).collect();
        let sum = read(&counts.latency_us_sum);
        histogram(text, name, &labels(service), &latency, sum);
    }
}

/// Samples of one histogram: `counts` by [`LATENCY_US`].
fn histogram(text: &mut String, name: &str, labels: &str, counts: &[u64], sum_us: u64) {
    let mut sum = 0;
    for (at, count) in counts.iter().enumerate() {
        sum += count;
        let end = match LATENCY_US.get(at) {
            Some(us) => seconds(*us),
            None => "+Inf".into(),
        };
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{end}\"}} {sum}");
    }
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", seconds(sum_us));
    let _ = writeln!(text, "{name}_count{{{labels}}} {sum}");
}

/// Of microseconds, exactly.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// Of each replica that was asked.
fn served(text: &mut String, services: &[&Service]) {
    let mut all: Vec<(String, Totals)> = Vec::new();
    for service in services {
        let labels = labels(service);
        service.tally.replicas(|counted| {
            let own = counted.iter().map(|(allocation, served)| {
                let labels = format!("{labels},allocation=\"{allocation}\"");
                (labels, served.totals.clone())
            });
            all.extend(own.take(SERVED_TOLD_MAX - all.len()));
        });
    }
    let name = "runrig_gateway_replica_requests_total";
    head(
        text,
        name,
        "counter",
        "Requests that it answered, by status.",
    );
    for (labels, totals) in &all {
        for (class, count) in (1..).zip(&totals.answers) {
            let _ = writeln!(text, "{name}{{{labels},status=\"{class}xx\"}} {count}");
        }
    }
    let bytes: [(&str, &str, fn(&Totals) -> u64); 2] = [
        (
            "runrig_gateway_replica_received_bytes_total",
            "Bytes of requests' bodies that went to it.",
            |t| t.received,
        ),
        (
            "runrig_gateway_replica_sent_bytes_total",
            "Bytes of its answers' bodies.",
            |t| t.sent,
        ),
    ];
    for (name, help, of) in bytes {
        head(text, name, "counter", help);
        for (labels, totals) in &all {
            let _ = writeln!(text, "{name}{{{labels}}} {}", of(totals));
        }
    }
    let name = "runrig_gateway_replica_request_seconds";
    let help = "From request to the answer's end, by the replica that answered.";
    head(text, name, "histogram", help);
    for (labels, totals) in &all {
        histogram(text, name, labels, &totals.latency, totals.latency_us_sum);
    }
}

fn replicas(text: &mut String, services: &[&Service]) {
    let now_ms = uptime_ms();
    let mut rows = |name: &str, help: &str, of: &dyn Fn(&crate::load::Load) -> u64| {
        head(text, name, "gauge", help);
        for service in services {
            for replica in &service.replicas {
                let (labels, value) = (labels(service), of(&replica.load));
                let allocation = replica.allocation;
                let _ = writeln!(
                    text,
                    "{name}{{{labels},allocation=\"{allocation}\"}} {value}"
                );
            }
        }
    };
    rows(
        "runrig_gateway_replica_requests",
        "Requests and connections under way.",
        &|load| u64::from(load.in_flight()),
    );
    rows(
        "runrig_gateway_replica_latency_us",
        "Moving average to the first byte of an answer, in microseconds.",
        &|load| load.latency_us(now_ms) as u64,
    );
    rows(
        "runrig_gateway_replica_resting",
        "1 while it is passed over because it failed.",
        &|load| u64::from(load.is_resting(now_ms)),
    );
}
