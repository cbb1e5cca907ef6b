//! Tell the ledger what is asked of autoscaled services: the figures that their numbers of
//! replicas follow from, signed by this gateway.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledger::deployment::{Call, DemandLine};
use sdk::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use types::{DeploymentId, SecretKey};

use crate::proxy::Gateway;
use crate::table::{Service, Table};

/// Lines in one report.
pub const LINES_MAX: usize = 500;
/// Replicas of one line.
const OPEN_MAX: usize = 20;
const SAMPLE: Duration = Duration::from_millis(200);
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(60);
/// Nonces left to calls that cannot wait.
const AHEAD: u64 = 2;

/// Of one service since the last report.
#[derive(Default)]
struct Mean {
    /// Requests and connections under way, added up over the samples.
    sum: u64,
    samples: u64,
    /// Requests and connections that had ended at the last report.
    ended: Option<u64>,
}

type Means = HashMap<(DeploymentId, String), Mean>;

/// Reports without end, as often as hosts report usage.
pub async fn report(gateway: Arc<Gateway>, client: Client, key: SecretKey) {
    let every = loop {
        match client.params().await {
            Ok(params) => break Duration::from_millis(params.report_interval_ms),
            Err(_) => tokio::time::sleep(EVERY_MIN).await,
        }
    };
    let every = every.clamp(EVERY_MIN, EVERY_MAX);
    let mut means = Means::new();
    let mut tick = tokio::time::interval(SAMPLE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut reports = JoinSet::new();
    loop {
        tick.tick().await;
        let table = gateway.table.load_full();
        sample(&table, &mut means);
        while reports.try_join_next().is_some() {}
        if last.elapsed() < every || !reports.is_empty() {
            continue;
        }
        let lines = lines(&table, &mut means, last.elapsed());
        last = Instant::now();
        if lines.is_empty() {
            continue;
        }
        let (client, key) = (client.clone(), key.clone());
        reports.spawn(async move {
            for part in lines.chunks(LINES_MAX) {
                let lines = part.to_vec();
                let call = ledger::Call::Deployment(Call::ReportDemand { lines });
                if let Err(error) = client.submit_ahead(&key, &[], call, AHEAD).await {
                    tracing::warn!(%error, "what is asked of services cannot be reported");
                    return;
                }
            }
        });
    }
}

fn scaled(table: &Table) -> impl Iterator<Item = &Arc<Service>> {
    table.services.values().filter(|s| s.scale.is_some())
}

fn sample(table: &Table, means: &mut Means) {
    for service in scaled(table) {
        let key = (service.deployment, service.name.clone());
        let mean = means.entry(key).or_default();
        let under_way: u64 = service
            .replicas
            .iter()
            .map(|r| u64::from(r.load.in_flight()))
            .sum();
        mean.sum += under_way + u64::from(service.tally.waiting.load(Ordering::Relaxed));
        mean.samples += 1;
    }
}

/// A line for each service that has more than it needs or is asked for something. `means`
/// starts anew.
fn lines(table: &Table, means: &mut Means, span: Duration) -> Vec<DemandLine> {
    let span_ms = (span.as_millis() as u64).max(1);
    let mut all = Vec::new();
    let mut next = Means::new();
    for service in scaled(table) {
        let Some(scale) = &service.scale else {
            continue;
        };
        let key = (service.deployment, service.name.clone());
        let mean = means.remove(&key).unwrap_or_default();
        let ended = service.tally.counts.ended();
        let answered = ended - mean.ended.unwrap_or(ended).min(ended);
        let ready = service.replicas.iter().map(|r| (r.allocation, &r.load));
        let others = service.others.iter().map(|(a, load)| (*a, load));
        // Those that leave first: they go once nobody is connected.
        let open = others.chain(ready).map(|(a, load)| (a, load.in_flight()));
        let milli = |sum: u64, of: u64| {
            u32::try_from(sum.saturating_mul(1_000) / of.max(1)).unwrap_or(u32::MAX)
        };
        let line = DemandLine {
            deployment: service.deployment,
            service: service.name.clone(),
            under_way_milli: milli(mean.sum, mean.samples),
            per_second_milli: milli(answered.saturating_mul(1_000), span_ms),
            waiting: service.tally.waiting.load(Ordering::Relaxed),
            open: open.filter(|(_, n)| *n > 0).take(OPEN_MAX).collect(),
        };
        let asked = line.under_way_milli > 0 || answered > 0 || !line.open.is_empty();
        if asked || scale.wanted > scale.min || !service.others.is_empty() {
            all.push(line);
        }
        let begun = Mean {
            ended: Some(ended),
            ..Mean::default()
        };
        next.insert(key, begun);
    }
    *means = next;
    all
}
