//! `logs`, `stats`, `events`: what happens, as it happens.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::{AllocationView, EventView, LogLine, Stats};
use clap::Args;
use futures::StreamExt;
use ledger::Event;
use sdk::{Client, LogQuery, SdkError};
use tokio::sync::mpsc;
use types::{AllocationId, RunState, SecretKey};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::job::Jobs;
use crate::output;
use crate::ps::describe;
use crate::units;

/// How often new replicas are looked for while following.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const QUEUED_MAX: usize = 1_000;
/// So often in a row nothing runs before following ends.
const ENDED_LOOKS: u32 = 3;
/// More lines than one millisecond holds.
const TAIL_MORE: usize = 1_000;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig logs web\n  runrig logs -f -n 100 shop\n  runrig logs --since 10m -t a-1"
)]
pub struct Logs {
    /// Service, project, project/service, d-1 or a-1; all of yours if not said
    jobs: Vec<String>,
    /// Go on with what is to come
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each replica
    #[arg(short = 'n', long, value_name = "N", value_parser = tail)]
    tail: Option<Tail>,
    /// Only from then on: 10m, 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long)]
    since: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// No names before the lines
    #[arg(long)]
    no_prefix: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tail(Option<usize>);

fn tail(text: &str) -> std::result::Result<Tail, String> {
    if text == "all" {
        return Ok(Tail(None));
    }
    let number = text
        .parse()
        .map_err(|_| "write a number, or all".to_string())?;
    Ok(Tail(Some(number)))
}

pub fn since(text: Option<&str>) -> Result<Option<u64>> {
    text.map(|t| units::since_ms(t, units::now_ms()))
        .transpose()
        .map_err(|why| Failure::usage("--since", why, "See `runrig help`."))
}

const PREFIX_COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

struct LogPrinter {
    json: bool,
    timestamps: bool,
    prefix: bool,
    width: usize,
}

impl LogPrinter {
    fn plain(json: bool) -> Self {
        Self {
            json,
            timestamps: false,
            prefix: false,
            width: 0,
        }
    }

    fn print(&self, line: &LogLine) {
        if self.json {
            return output::json_line(line);
        }
        let mut text = String::new();
        if self.prefix {
            let name = format!("{}.{}", line.service, line.replica);
            let padded = format!("{name:<width$} |", width = self.width);
            if output::colour() {
                let colour =
                    PREFIX_COLOURS[(line.allocation.0 % PREFIX_COLOURS.len() as u64) as usize];
                text.push_str(&format!("\x1b[{colour}m{padded}\x1b[0m "));
            } else {
                text.push_str(&padded);
                text.push(' ');
            }
        }
        if self.timestamps {
            text.push_str(&units::time(line.at_ms));
            text.push(' ');
        }
        text.push_str(&output::tame(&line.text));
        output::data(text);
    }
}

pub async fn logs(session: &Session, args: &Logs, json: bool) -> Result {
    let key = session.key()?;
    let jobs = Jobs::of(session).await?;
    let chosen = jobs.allocations(&args.jobs)?;
    let wanted = args.tail.and_then(|t| t.0);
    let query = LogQuery {
        follow: false,
        // Following goes on after the last line, so all lines of its millisecond are counted.
        tail: wanted.map(|n| if args.follow { n + TAIL_MORE } else { n }),
        since_ms: since(args.since.as_deref())?,
    };
    let width = chosen
        .iter()
        .map(|a| a.service.len() + 3)
        .max()
        .unwrap_or(0);
    let printer = LogPrinter {
        json,
        timestamps: args.timestamps,
        prefix: !args.no_prefix,
        width,
    };
    // What is past is sorted over all replicas; what comes is shown as it comes.
    let mut past = Vec::new();
    let mut failures = Vec::new();
    let reads = chosen
        .iter()
        .map(|a| read_past(&session.client, &key, a.allocation, query));
    let reads = futures::stream::iter(reads).buffer_unordered(16);
    let mut reads = pin!(reads);
    let mut followed = Vec::new();
    while let Some((id, read)) = reads.next().await {
        match read {
            Ok(mut lines) => {
                let last = lines.last().map(|l| l.at_ms);
                let seen = lines
                    .iter()
                    .rev()
                    .take_while(|l| Some(l.at_ms) == last)
                    .count();
                followed.push((id, last, seen));
                let more = wanted.map_or(0, |n| lines.len().saturating_sub(n));
                past.extend(lines.drain(more..));
            }
            Err(error) => {
                failures.push((id, error));
                followed.push((id, None, 0));
            }
        }
    }
    past.sort_by_key(|l| l.at_ms);
    past.iter().for_each(|line| printer.print(line));
    let none_answered = !failures.is_empty() && failures.len() == chosen.len();
    for (id, error) in &failures {
        output::say(format!("{id}: {error}"));
    }
    if !args.follow {
        return match failures.pop() {
            Some((_, error)) if none_answered => Err(error.into()),
            _ => Ok(()),
        };
    }
    let (sender, mut lines) = mpsc::channel(QUEUED_MAX);
    let mut known = BTreeSet::new();
    for (id, at_ms, seen) in followed {
        known.insert(id);
        let silent = failures.iter().any(|(failed, _)| *failed == id);
        // Of a host that did not answer only what is new is shown, if not all was asked for.
        let from = query
            .since_ms
            .or(wanted.filter(|_| silent).map(|_| units::now_ms()));
        let cursor = at_ms.or(from).map(|at| (at, seen));
        follow(&session.client, &key, id, cursor, sender.clone());
    }
    let mut look = tokio::time::interval(LOOK_AGAIN);
    let mut ended = 0;
    loop {
        tokio::select! {
            Some(line) = lines.recv() => printer.print(&line),
            _ = look.tick() => {
                let jobs = match Jobs::read(&session.client, session.account()?).await {
                    Ok(jobs) => jobs,
                    Err(_) => continue,
                };
                let chosen = match jobs.allocations(&args.jobs) {
                    Ok(chosen) => chosen,
                    // What was named is removed, or all of it.
                    Err(failure) if failure.exit == failure::NOT_FOUND => Vec::new(),
                    Err(failure) => return Err(failure),
                };
                // As with Compose: over once nothing that was named will write any more. What a
                // host has not sent yet gets a moment.
                ended = match chosen.iter().all(|a| has_ended(a)) && !args.jobs.is_empty() {
                    true => ended + 1,
                    false => 0,
                };
                if ended >= ENDED_LOOKS && lines.is_empty() {
                    return Ok(());
                }
                for fresh in chosen.into_iter().filter(|a| !known.contains(&a.allocation)).collect::<Vec<_>>() {
                    known.insert(fresh.allocation);
                    follow(&session.client, &key, fresh.allocation, None, sender.clone());
                }
            }
        }
    }
}

/// For good: it is not started again unless somebody says so.
fn has_ended(a: &AllocationView) -> bool {
    a.closed || matches!(a.status.state, RunState::Exited | RunState::Failed)
}

async fn read_past(
    client: &Client,
    key: &SecretKey,
    id: AllocationId,
    query: LogQuery,
) -> (AllocationId, std::result::Result<Vec<LogLine>, SdkError>) {
    let read = async {
        let mut lines = pin!(client.logs(key, id, query).await?);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line?);
        }
        Ok(all)
    };
    (id, read.await)
}

/// Sends the lines after `cursor` on, until nobody listens or the allocation is gone.
fn follow(
    client: &Client,
    key: &SecretKey,
    id: AllocationId,
    cursor: Option<(u64, usize)>,
    sender: mpsc::Sender<LogLine>,
) {
    let mut lines = Box::pin(client.follow_logs(key, id, cursor));
    tokio::spawn(async move {
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => {
                    if sender.send(line).await.is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == "not_found" => return,
                Err(error) => return output::say(format!("{id} is followed no more: {error}")),
            }
        }
    });
}

/// Prints what one replica wrote and writes, without names, until it is gone; `shown` counts
/// the lines.
pub async fn print(session: &Session, id: AllocationId, json: bool, shown: &AtomicUsize) -> Result {
    let printer = LogPrinter::plain(json);
    let mut lines = pin!(session.client.follow_logs(&session.key()?, id, None));
    while let Some(line) = lines.next().await {
        printer.print(&line?);
        shown.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// All that one replica wrote; empty if its host does not answer.
pub async fn past(session: &Session, id: AllocationId) -> Vec<LogLine> {
    let Ok(key) = session.key() else {
        return Vec::new();
    };
    let (_, lines) = read_past(&session.client, &key, id, LogQuery::default()).await;
    lines.unwrap_or_default()
}

/// What came after the first `shown` lines.
pub async fn print_rest(session: &Session, id: AllocationId, json: bool, shown: usize) {
    let Ok(key) = session.key() else { return };
    let (_, lines) = read_past(&session.client, &key, id, LogQuery::default()).await;
    let printer = LogPrinter::plain(json);
    let lines = lines.unwrap_or_default();
    lines
        .iter()
        .skip(shown)
        .for_each(|line| printer.print(line));
}

/// The last lines of one replica, for reports of failure; empty if its host does not answer.
pub async fn last_lines(session: &Session, id: AllocationId, count: usize) -> Vec<String> {
    let Ok(key) = session.key() else {
        return Vec::new();
    };
    let query = LogQuery {
        tail: Some(count),
        ..LogQuery::default()
    };
    let (_, lines) = read_past(&session.client, &key, id, query).await;
    let lines = lines.unwrap_or_default();
    lines.iter().map(|l| output::tame(&l.text)).collect()
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig stats\n  runrig stats --no-stream shop/web\n  runrig stats --json | jq .memory_bytes"
)]
pub struct StatsArgs {
    /// Service, project, project/service, d-1 or a-1; all of yours if not said
    jobs: Vec<String>,
    /// Once, instead of every second
    #[arg(long)]
    no_stream: bool,
}

pub async fn stats(session: &Session, args: &StatsArgs, json: bool) -> Result {
    let key = session.key()?;
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

fn stats_table(samples: &[Stats]) -> String {
    let headers = [
        "ALLOCATION",
        "SERVICE",
        "CPU",
        "MEMORY",
        "DISK",
        "NET IN",
        "NET OUT",
        "PIDS",
    ];
    let rows: Vec<Vec<String>> = samples
        .iter()
        .map(|s| {
            vec![
                s.allocation.to_string(),
                s.service.clone(),
                format!(
                    "{:.1}% of {}",
                    s.cpu_millis as f64 / 10.0,
                    units::cores(s.cpu_limit_millis)
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
            ]
        })
        .collect();
    output::table(&headers, &rows, &[2, 3, 4, 5, 6, 7])
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig events\n  runrig events -f --json\n  runrig events --since 1h --all"
)]
pub struct Events {
    /// Go on with what is to come
    #[arg(short, long)]
    follow: bool,
    /// Only from then on: 10m, 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long)]
    since: Option<String>,
    /// Everyone's, not only those of your account
    #[arg(long)]
    all: bool,
}

pub async fn events(session: &Session, args: &Events, json: bool) -> Result {
    let owner = if args.all {
        None
    } else {
        Some(session.account()?)
    };
    let since = since(args.since.as_deref())?;
    let show = |event: &EventView| {
        if json {
            output::json_line(event);
        } else {
            output::data(event_words(event));
        }
    };
    // Following alone starts now; the past is asked for by --since, as `docker events` has it.
    let mut next = None;
    if !args.follow || since.is_some() {
        let mut past = pin!(session.client.past_events(owner, 0));
        while let Some(event) = past.next().await {
            let event = event?;
            next = Some(event.sequence + 1);
            if since.is_none_or(|since| event.time_ms >= since) {
                show(&event);
            }
        }
    }
    if !args.follow {
        return Ok(());
    }
    let mut stream = pin!(session.client.events(owner, next));
    while let Some(event) = stream.next().await {
        show(&event?);
    }
    Err(Failure::new(
        failure::FAILED,
        "the stream of events has ended",
        "",
        "Try again.",
    ))
}

fn event_words(view: &EventView) -> String {
    use ledger::account::Event as A;
    use ledger::deployment::Event as D;
    use ledger::host::Event as H;
    use ledger::lease::Event as L;
    use ledger::lots::Event as O;
    let of = |service: &Option<String>| service.clone().unwrap_or_else(|| "all services".into());
    let words = match &view.event {
        Event::Account(A::Transferred {
            from,
            to,
            amount,
            memo,
        }) => format!(
            "{amount} credits from {} to {} {memo}",
            from.short(),
            to.short()
        ),
        Event::Lots(O::CandidatesFrozen { epoch, count, .. }) => {
            format!("{count} candidates for the committee of epoch {epoch}")
        }
        Event::Lots(O::Drawn {
            epoch,
            beacon,
            lineup,
        }) => {
            let seats = lineup.committee.len();
            match beacon {
                Some(_) => format!("{seats} validators drawn to sit in epoch {epoch}"),
                None => format!("{seats} validators go on in epoch {epoch}: no beacon in time"),
            }
        }
        Event::Host(event) => match event {
            H::HostRegistered { name, host, .. } => {
                format!("host {name} ({}) registered", host.short())
            }
            H::HostOnline { host } => format!("host {} online", host.short()),
            H::HostOffline { host, .. } => format!("host {} offline", host.short()),
            H::HostCordoned { host, cordoned } => {
                let words = if *cordoned {
                    "takes no new work"
                } else {
                    "takes work again"
                };
                format!("host {} {words}", host.short())
            }
            H::HostDraining { host, draining } => {
                let words = if *draining {
                    "is drained: what runs there moves"
                } else {
                    "is drained no more"
                };
                format!("host {} {words}", host.short())
            }
            H::HostLeft { host } => format!("host {} left", host.short()),
        },
        Event::Deployment(event) => match event {
            D::Deployed {
                deployment,
                project,
                release,
                changed,
                ..
            } => format!(
                "{project} ({deployment}) release {release}: {}",
                changed.join(", ")
            ),
            D::Removed { deployment } => format!("{deployment} removed"),
            D::Closed { deployment, refund } => {
                format!("{deployment} closed, {refund} credits back")
            }
            D::SetRunning {
                deployment,
                service,
                running,
            } => {
                let words = if *running { "to run" } else { "to stop" };
                format!("{deployment} {} {words}", of(service))
            }
            D::Restarted {
                deployment,
                service,
            } => format!("{deployment} {} to restart", of(service)),
            D::AllocationPlaced {
                deployment,
                allocation,
                service,
                replica,
                host,
            } => format!(
                "{deployment} {service}.{replica} placed as {allocation} on {}",
                host.short()
            ),
            D::AllocationLeaves {
                deployment,
                allocation,
                service,
                replica,
            } => format!("{deployment} {service}.{replica} ({allocation}) leaves"),
            D::Unplaced {
                deployment,
                service,
                replica,
                why,
            } => format!("{deployment} {service}.{replica} has no place yet: {why}"),
            D::AllocationStays {
                deployment,
                allocation,
                service,
                replica,
            } => format!("{deployment} {service}.{replica} ({allocation}) stays after all"),
            D::Scaled {
                deployment,
                service,
                from,
                to,
                why,
            } => format!("{deployment} {service} from {from} to {to} replicas: {why}"),
            D::ReleaseGood {
                deployment,
                release,
            } => format!("{deployment} release {release} is good"),
            D::ReleaseStuck {
                deployment,
                release,
                why,
            } => format!("{deployment} release {release} is stuck: {why}"),
            D::RolledBack {
                deployment,
                from,
                to,
                release,
                why,
            } => {
                let because = if why.is_empty() { "on request" } else { why };
                format!(
                    "{deployment} back from release {from} to {to}, as release {release}: {because}"
                )
            }
            D::FundsLow {
                deployment,
                until_ms,
            } => format!("{deployment} funds last until {}", units::time(*until_ms)),
            D::Frozen { deployment } => {
                format!("{deployment} frozen for lack of funds; all is kept")
            }
            D::Thawed { deployment } => format!("{deployment} runs again"),
        },
        Event::Lease(event) => match event {
            L::StatusChanged {
                deployment,
                allocation,
                service,
                replica,
                status,
                ..
            } => {
                let state = describe(
                    status.state,
                    status.health,
                    status.exit_code,
                    status.oom_killed,
                );
                let text = format!(
                    "{deployment} {service}.{replica} ({allocation}) {state} {}",
                    status.message
                );
                text.trim_end().to_string()
            }
            L::Settled(r) => format!(
                "{} {} ({}) charged {}",
                r.deployment, r.service, r.allocation, r.amount
            ),
            L::LeaseClosed {
                deployment,
                allocation,
                charged,
            } => format!("{deployment} {allocation} ended, {charged} credits in all"),
        },
    };
    let time = output::dim(&units::time(view.time_ms));
    format!("{time}  {}", output::printable(&words))
}
