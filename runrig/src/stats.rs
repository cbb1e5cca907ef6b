//! `stats`: what replicas use, and have used.

mod past;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use api::{Grant, PastStep, RequestSample, Stats, StatsSample};
use clap::{Args, ValueEnum};
use futures::StreamExt;
use ledger::account::{self, Role};
use sdk::SdkError;
use serde::Serialize;
use types::{AccountId, AllocationId, DeploymentId, SecretKey};

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::job::{self, Jobs};
use crate::output;
use crate::units;

/// Rows for people of one replica; the steps are made longer until they fit.
const ROWS_MAX: usize = 20;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig stats\n  runrig stats --no-stream shop/web\n  runrig stats --since 1h web\n  runrig stats --since 28d --by day\n  runrig stats --json | jq .memory_bytes"
)]
pub struct StatsArgs {
    /// Service, project, project/service, d-1 or a-1; all of yours if not said
    jobs: Vec<String>,
    /// Once, instead of every second
    #[arg(long)]
    no_stream: bool,
    /// What was used from then on, also by replicas that are gone: 1h, 2026-01-31T12:00:00Z
    #[arg(long)]
    since: Option<String>,
    /// Only before then
    #[arg(long, requires = "since")]
    until: Option<String>,
    /// Requests to each service in each hour or day, as the gateway wrote them down; also to those
    /// that are gone
    #[arg(long, requires = "since", conflicts_with = "until")]
    by: Option<By>,
    /// A token with which a Prometheus may read one project's figures for 90 days, and how
    #[arg(long, conflicts_with = "since")]
    token: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// Kept for 35 days
    Hour,
    /// Kept for 400 days
    Day,
}

impl From<By> for PastStep {
    fn from(by: By) -> Self {
        match by {
            By::Hour => Self::Hour,
            By::Day => Self::Day,
        }
    }
}

/// How long a token is good.
const TOKEN_MS: u64 = 90 * 86_400_000;

pub async fn stats(session: &Session, args: &StatsArgs, json: bool) -> Result {
    let key = session.key()?;
    if args.token {
        return token(session, args, json).await;
    }
    if let Some(since) = units::moment("--since", args.since.as_deref())? {
        if let Some(by) = args.by {
            return past::requests(session, &args.jobs, by.into(), since, json).await;
        }
        let until = units::moment("--until", args.until.as_deref())?;
        return history(session, args, since, until, json).await;
    }
    let lively = !json && output::colour();
    loop {
        let jobs = Jobs::of(session).await?;
        let chosen = jobs.allocations(&args.jobs)?;
        let samples = futures::stream::iter(chosen.iter().map(|a| {
            let (client, key) = (&session.client, &key);
            async move {
                let mut samples = pin!(client.stats(key, a.allocation, false).await?);
                samples.next().await.transpose()
            }
        }));
        let samples: Vec<std::result::Result<Option<Stats>, SdkError>> =
            samples.buffered(16).collect().await;
        let mut good = Vec::new();
        let mut last_error = None;
        for sample in samples {
            match sample {
                Ok(sample) => good.extend(sample),
                Err(error) => last_error = Some(error),
            }
        }
        let asked = chosen.iter().map(|a| a.deployment).collect();
        let requests = requests(session, &key, asked, None).await;
        let good: Vec<Row> = good
            .into_iter()
            .map(|stats| Row {
                requests: requests.now.get(&stats.allocation).map(Requests::of),
                stats,
            })
            .collect();
        if let (true, Some(error)) = (good.is_empty(), last_error) {
            return Err(error.into());
        }
        if json {
            good.iter().for_each(output::json_line);
        } else {
            let clear = if lively && !args.no_stream {
                "\x1b[2J\x1b[H"
            } else {
                ""
            };
            output::data(format!("{clear}{}", stats_table(&good)));
        }
        if args.no_stream {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A line of `stats --json`.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    stats: Stats,
    /// As the gateway saw them; `null` if it does not know.
    requests: Option<Requests>,
}

fn latency(us: Option<u64>) -> String {
    match us {
        None => "–".into(),
        Some(us) if us < 10_000 => format!("{:.1}ms", us as f64 / 1_000.0),
        Some(us) => format!("{}ms", us / 1_000),
    }
}

/// How a replica answered in a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Requests {
    per_second: f64,
    /// Answers from 500 up of all, in hundredths; `null` without a request.
    error_percent: Option<f64>,
    /// What half, and 95 in 100, did not exceed; `null` without a request.
    p50_us: Option<u64>,
    p95_us: Option<u64>,
}

impl Requests {
    fn of(sample: &RequestSample) -> Self {
        let asked = sample.requests as f64;
        Self {
            per_second: asked * 1_000.0 / sample.step_ms.max(1) as f64,
            error_percent: (sample.requests > 0).then(|| sample.errors as f64 * 100.0 / asked),
            p50_us: sample.p50_us,
            p95_us: sample.p95_us,
        }
    }

    /// Cells: a rate, a share, two latencies.
    fn cells(of: Option<&Self>) -> [String; 4] {
        let Some(requests) = of else {
            return std::array::from_fn(|_| "unknown".into());
        };
        let errors = requests.error_percent;
        [
            format!("{:.1}", requests.per_second),
            errors.map_or("–".into(), |share| format!("{share:.1}%")),
            latency(requests.p50_us),
            latency(requests.p95_us),
        ]
    }
}

/// What the gateway has measured: the last seconds of each replica, and steps of its history.
#[derive(Default)]
struct Measured {
    now: BTreeMap<AllocationId, RequestSample>,
    history: BTreeMap<AllocationId, Vec<RequestSample>>,
}

/// Of a gateway that does not tell, nothing is known: that is no failure.
async fn requests(
    session: &Session,
    key: &SecretKey,
    deployments: BTreeSet<DeploymentId>,
    span: Option<(u64, Option<u64>)>,
) -> Measured {
    let client = &session.client;
    let asked = deployments
        .into_iter()
        .map(|id| client.requests(key, id, span));
    let answers: Vec<_> = futures::stream::iter(asked).buffered(16).collect().await;
    let mut measured = Measured::default();
    for figures in answers.into_iter().flatten() {
        let now = figures.now.into_iter().map(|s| (s.allocation, s));
        measured.now.extend(now);
        for sample in figures.history {
            let of = measured.history.entry(sample.allocation).or_default();
            of.push(sample);
        }
    }
    measured
}

fn stats_table(samples: &[Row]) -> String {
    let headers = [
        "ALLOCATION",
        "SERVICE",
        "CPU",
        "MEMORY",
        "DISK",
        "NET IN",
        "NET OUT",
        "PIDS",
        "REQ/S",
        "ERRORS",
        "P50",
        "P95",
    ];
    let rows: Vec<Vec<String>> = samples
        .iter()
        .map(|row| {
            let s = &row.stats;
            let used = [
                s.allocation.to_string(),
                s.service.clone(),
                format!(
                    "{:.1}% of {}",
                    s.cpu_millis as f64 / 10.0,
                    words::cores(s.cpu_limit_millis)
                ),
                format!(
                    "{} / {}",
                    units::bytes(s.memory_bytes),
                    units::bytes(s.memory_limit_bytes)
                ),
                units::bytes(s.disk_bytes),
                units::bytes(s.rx_bytes),
                units::bytes(s.tx_bytes),
                s.pids.to_string(),
            ];
            let requests = Requests::cells(row.requests.as_ref());
            used.into_iter().chain(requests).collect()
        })
        .collect();
    output::table(&headers, &rows, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
}

async fn token(session: &Session, args: &StatsArgs, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    let deployment = match jobs.select(&args.jobs)?[..] {
        [one] => one.deployment,
        _ => {
            return Err(Failure::usage(
                "stats --token",
                "a token is for one project",
                "Name it: `runrig stats --token shop`.",
            ));
        }
    };
    let scope = Grant::metrics(deployment.deployment);
    let height = session.client.status().await?.height;
    let until_ms = session.client.block(height).await?.time_ms + TOKEN_MS;
    // Signs this token and is forgotten: to take back its grant is to call back the token.
    let signer = SecretKey::random(&mut rand::rng());
    let to = AccountId::of(&signer.public());
    let call = account::Call::Grant {
        to,
        role: Role::Viewer,
        limit: None,
        expires_ms: Some(until_ms),
        label: format!("figures of {}", deployment.deployment),
    };
    session.submit(ledger::Call::Account(call)).await?;
    let token = Grant::issue(&signer, &scope, until_ms);
    let path = format!("/v1/deployments/{}/metrics", deployment.deployment);
    let url = session.client.url();
    if json {
        output::json(&serde_json::json!({
            "url": format!("{url}{path}"),
            "token": token,
            "key": to,
            "until_ms": until_ms,
        }));
        return Ok(());
    }
    let (scheme, target) = url.split_once("://").unwrap_or(("http", url));
    output::say(format!(
        "Good until {}. `runrig account keys ls` lists it; to call it back: runrig account keys revoke {to}\nFor prometheus.yml, under scrape_configs:",
        units::time(until_ms)
    ));
    output::data(format!(
        "- job_name: {}\n  scheme: {scheme}\n  metrics_path: {path}\n  authorization: {{ credentials: {token} }}\n  static_configs: [{{ targets: [\"{target}\"] }}]",
        deployment.project
    ));
    Ok(())
}

async fn history(
    session: &Session,
    args: &StatsArgs,
    since_ms: u64,
    until_ms: Option<u64>,
    json: bool,
) -> Result {
    let key = session.key()?;
    let chosen = job::past(session, &args.jobs).await?;
    let asked = chosen.iter().map(|a| a.deployment).collect();
    let measured = requests(session, &key, asked, Some((since_ms, until_ms))).await;
    let of = |id: AllocationId| measured.history.get(&id).map_or(&[][..], Vec::as_slice);
    let reads = chosen.iter().map(|a| {
        let (client, key) = (&session.client, &key);
        async move {
            let read = client.history(key, a.allocation, since_ms, until_ms).await;
            (a, read)
        }
    });
    let mut reads = futures::stream::iter(reads).buffered(16);
    let (mut rows, mut shown, mut last_error) = (Vec::new(), 0, None);
    while let Some((allocation, read)) = reads.next().await {
        match read {
            Ok(samples) if json => {
                shown += samples.len();
                let asked = of(allocation.allocation);
                for sample in samples {
                    let requests = within(asked, &sample);
                    output::json_line(&PastRow { sample, requests });
                }
            }
            Ok(samples) => {
                shown += samples.len();
                let asked = of(allocation.allocation);
                let steps = fewer(&samples, ROWS_MAX);
                rows.extend(steps.iter().map(|s| history_row(s, within(asked, s))));
            }
            // What ended long ago is kept no more.
            Err(error) if error.kind() == "not_found" => {}
            Err(error) => {
                output::say(format!("{}: {error}", allocation.allocation));
                last_error = Some(error);
            }
        }
    }
    if let (0, Some(error)) = (shown, last_error) {
        return Err(error.into());
    }
    if !json {
        let headers = [
            "FROM",
            "FOR",
            "ALLOCATION",
            "SERVICE",
            "CPU",
            "MOST",
            "MEMORY",
            "MOST",
            "NET IN",
            "NET OUT",
            "REQ/S",
            "ERRORS",
            "P50",
            "P95",
        ];
        let right = [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        output::data(output::table(&headers, &rows, &right));
    }
    Ok(())
}

/// A line of `stats --since --json`.
#[derive(Serialize)]
struct PastRow {
    #[serde(flatten)]
    sample: StatsSample,
    requests: Option<Requests>,
}

/// What a gateway saw in the minutes that begin within `step`; `None` if it saw none. Latencies
/// are the worst of the minutes.
fn within(minutes: &[RequestSample], step: &StatsSample) -> Option<Requests> {
    let span = step.at_ms..step.at_ms.saturating_add(step.step_ms);
    let inside = minutes.iter().filter(|m| span.contains(&m.at_ms));
    let all = inside.cloned().reduce(|sum, minute| RequestSample {
        step_ms: sum.step_ms + minute.step_ms,
        requests: sum.requests + minute.requests,
        errors: sum.errors + minute.errors,
        p50_us: sum.p50_us.max(minute.p50_us),
        p95_us: sum.p95_us.max(minute.p95_us),
        ..sum
    });
    all.as_ref().map(Requests::of)
}

/// The same in at most `count` longer steps.
fn fewer(samples: &[StatsSample], count: usize) -> Vec<StatsSample> {
    let each = samples.len().div_ceil(count).max(1);
    samples
        .chunks(each)
        .map(|part| {
            let mean = |of: fn(&StatsSample) -> u64| {
                part.iter().map(of).sum::<u64>() / part.len().max(1) as u64
            };
            let most = |of: fn(&StatsSample) -> u64| part.iter().map(of).max().unwrap_or(0);
            StatsSample {
                step_ms: part.iter().map(|s| s.step_ms).sum(),
                cpu_millis: mean(|s| s.cpu_millis),
                cpu_millis_max: most(|s| s.cpu_millis_max),
                memory_bytes: mean(|s| s.memory_bytes),
                memory_bytes_max: most(|s| s.memory_bytes_max),
                rx_bytes: part.iter().map(|s| s.rx_bytes).sum(),
                tx_bytes: part.iter().map(|s| s.tx_bytes).sum(),
                ..part[0].clone()
            }
        })
        .collect()
}

fn history_row(s: &StatsSample, requests: Option<Requests>) -> Vec<String> {
    let percent = |millis: u64| format!("{:.1}%", millis as f64 / 10.0);
    let used = [
        units::time(s.at_ms),
        units::age(s.step_ms),
        s.allocation.to_string(),
        format!("{}.{}", s.service, s.replica),
        percent(s.cpu_millis),
        percent(s.cpu_millis_max),
        units::bytes(s.memory_bytes),
        units::bytes(s.memory_bytes_max),
        units::bytes(s.rx_bytes),
        units::bytes(s.tx_bytes),
    ];
    let requests = Requests::cells(requests.as_ref());
    used.into_iter().chain(requests).collect()
}
