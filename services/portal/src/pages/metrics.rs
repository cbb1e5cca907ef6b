//! What a job's replicas used over time, as their hosts have measured it.

mod measured;

use std::time::Duration;

use api::{AllocationView, DeploymentView, StatsSample};
use axum::extract::{Path, Query, State};
use futures::StreamExt;
use maud::{Markup, html};
use serde::Deserialize;
use words::{bytes, cores, plural};

use self::measured::{Measured, STEPS};
use super::explorer::now_of;
use super::job::head;
use super::jobs::{address, own_deployment};
use super::measured::csv_of;
use super::{file, range, shown};
use crate::app::App;
use crate::people::Login;
use crate::ui::{LINES_MAX, Line, Place, Tone, alert, cli, empty, icon, lines};
use crate::web::{Page, Trouble, Visitor};

/// Replicas that are asked for, the latest first; so many at once, each for so long.
const ASKED_MAX: usize = 48;
const AT_ONCE: usize = 12;
const PATIENCE: Duration = Duration::from_millis(1_500);

/// As far back as hosts keep figures: name in an address, in words, length.
const SPANS: [(&str, &str, u64); 3] = [
    ("1h", "the last hour", 3_600_000),
    ("24h", "the last 24 hours", 24 * 3_600_000),
    ("7d", "the last 7 days", 7 * 24 * 3_600_000),
];

#[derive(Deserialize)]
pub struct Shown {
    range: Option<String>,
}

impl Shown {
    fn span(&self) -> (&'static str, &'static str, u64) {
        let named = SPANS
            .into_iter()
            .find(|(name, ..)| self.range.as_deref() == Some(name));
        named.unwrap_or(SPANS[0])
    }
}

/// What hosts told, and of how many replicas that run nothing is known.
struct Told {
    samples: Vec<StatsSample>,
    silent: usize,
    /// Replicas that nobody was asked about, as there are too many.
    left_out: usize,
}

async fn told(
    app: &App,
    login: &Login,
    view: &DeploymentView,
    since_ms: u64,
) -> Result<Told, sdk::SdkError> {
    let client = login.client(app);
    let mut all: Vec<AllocationView> = app.client.allocations_of(view.deployment).await?;
    // What a closed one is said to be last is older than that it closed.
    all.retain(|one| !one.closed || one.status_ms >= since_ms);
    all.sort_by_key(|one| (one.closed, std::cmp::Reverse(one.placed_ms)));
    let left_out = all.len().saturating_sub(ASKED_MAX);
    let asked = all.into_iter().take(ASKED_MAX).map(|one| {
        let (client, key) = (client.clone(), login.key.clone());
        async move {
            let asked = client.history(&key, one.allocation, since_ms, None);
            let answer = tokio::time::timeout(PATIENCE, asked).await;
            (one.closed, answer.ok().and_then(Result::ok))
        }
    });
    let answers: Vec<_> = futures::stream::iter(asked)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let silent = answers
        .iter()
        .filter(|(closed, answer)| !closed && answer.is_none())
        .count();
    let samples = answers.into_iter().filter_map(|(_, answer)| answer);
    Ok(Told {
        samples: samples.flatten().collect(),
        silent,
        left_out,
    })
}

/// A line's numbers: the last that was measured, and the largest.
fn figures(points: &[Option<f64>], words: fn(f64) -> String) -> String {
    let known = || points.iter().flatten().copied();
    match (known().last(), known().reduce(f64::max)) {
        (Some(last), Some(most)) => format!("{}, {} at most", words(last), words(most)),
        _ => "not measured".into(),
    }
}

fn drawn(
    labels: &[String],
    unit: &str,
    what: &str,
    all: Vec<(String, Vec<Option<f64>>)>,
    words: fn(f64) -> String,
    wide: bool,
) -> Markup {
    let all: Vec<Line> = (1..)
        .zip(all)
        .map(|(number, (label, points))| Line {
            label,
            colour: ((number - 1) % LINES_MAX + 1) as u8,
            figures: figures(&points, words),
            points,
            projected: false,
        })
        .collect();
    let said: Vec<String> = all
        .iter()
        .take(LINES_MAX)
        .map(|line| format!("{}: {}", line.label, line.figures))
        .collect();
    html! {
        (lines(&all, labels, unit, &format!("{what}. {}", said.join("; ")), wide))
        @if all.len() > LINES_MAX { p.foot-note.in-card { "And " (all.len() - LINES_MAX) " more: in the table below" } }
    }
}

fn mib(value: f64) -> String {
    bytes((value * f64::from(1 << 20)) as u128)
}

fn in_cores(millis: u64) -> String {
    format!("{} cores", cores(millis))
}

fn core_words(value: f64) -> String {
    in_cores((value * 1_000.0) as u64)
}

fn rate(value: f64) -> String {
    format!("{}/s", bytes((value * 1_024.0) as u128))
}

fn content(view: &DeploymentView, told: &Told, since_ms: u64, span: (&str, &str, u64)) -> Markup {
    let (name, title, length) = span;
    let found = Measured::of(&told.samples, since_ms, length);
    let base = format!("{}/metrics", address(&view.project, view.deployment));
    let labels: Vec<String> = (0..STEPS)
        .map(|at| found.time_of(at))
        .map(|ms| match name {
            "7d" => words::day(ms),
            _ => words::clock(ms).chars().take(5).collect(),
        })
        .collect();
    let reserved = |replica: &str| {
        let (service, _) = replica.rsplit_once('.')?;
        Some(view.spec.services.get(service)?.resources)
    };
    html! {
        section.card {
            header {
                div { h2 { "Use over time" } p.sub { "Of " (title) ", as the replicas' hosts have measured it, replicas that are gone too; times are UTC" } }
                div.more {
                    (range::links_of(&format!("{base}?"), name, SPANS.map(|(name, ..)| name)))
                    a.btn.small href=(format!("{base}.csv?range={name}")) { (icon("download")) "CSV" }
                }
            }
            @if told.silent > 0 { (alert(Tone::Warn, html! { p.strong { "Not all is known" } p { "Of " (plural(told.silent as u64, "replica", "replicas")) " that should run nothing is known: the hosts do not answer." } })) }
            @if told.left_out > 0 { p.foot-note.in-card { (plural(told.left_out as u64, "older replica was", "older replicas were")) " not asked about." } }
            @if found.is_empty() { (empty("gauge", "Nothing was measured in this time", "Hosts measure a replica every few seconds while it runs, and keep that for a week.", None)) }
        }
        @if !found.is_empty() {
            div.grid {
                section.card.s6 { header { div { h2 { "CPU" } p.sub { "Means of each step" } } } (drawn(&labels, "cores", "CPU", found.lines(|s| s.cpu_cores()), core_words, false)) }
                section.card.s6 { header { div { h2 { "Memory" } p.sub { "Means of each step" } } } (drawn(&labels, "MiB", "Memory", found.lines(|s| s.memory_mib()), mib, false)) }
                section.card.s12 { header { div { h2 { "Network" } p.sub { "All replicas together" } } } (drawn(&labels, "KiB a second", "Network", found.network(), rate, true)) }
            }
            section.card.flush {
                header { div { h2 { "By replica" } p.sub { "Beside what is reserved for one" } } }
                div.tablewrap { table.cards {
                    thead { tr { th { "Replica" } th.num { "CPU, mean" } th.num { "CPU, at most" } th.num { "Memory, mean" } th.num { "Memory, at most" } th.num { "Received" } th.num { "Sent" } } }
                    tbody { @for (replica, sum) in found.sums() { tr {
                        @let of = reserved(replica);
                        td.wrap { span.strong { (replica) } @if let Some(of) = of { span.second { (in_cores(of.cpu_millis.into())) ", " (bytes(of.memory_bytes.into())) } } }
                        td.num data-l="CPU, mean" { (in_cores(sum.cpu_millis())) }
                        td.num data-l="CPU, at most" { (in_cores(sum.cpu_millis_max)) }
                        td.num data-l="Memory, mean" { (bytes(sum.memory_bytes().into())) }
                        td.num data-l="Memory, at most" { (bytes(sum.memory_bytes_max.into())) }
                        td.num data-l="Received" { (bytes(sum.received().into())) }
                        td.num data-l="Sent" { (bytes(sum.sent().into())) }
                    } } }
                } }
            }
        }
        (cli(&format!("runrig stats --since {name} {}", view.project)))
    }
}

/// What one page is made of.
struct Asked {
    view: DeploymentView,
    told: Told,
    since_ms: u64,
    span: (&'static str, &'static str, u64),
}

impl Asked {
    async fn of(app: &App, login: &Login, name: &str, shown: &Shown) -> Result<Self, Trouble> {
        let view = own_deployment(app, login, name).await?;
        let span = shown.span();
        let since_ms = now_of(app).saturating_sub(span.2);
        let told = told(app, login, &view, since_ms).await?;
        Ok(Self {
            view,
            told,
            since_ms,
            span,
        })
    }
}

/// `GET /jobs/{name}/metrics`
pub async fn page(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(range): Query<Shown>,
) -> Page {
    let asked = Asked::of(&app, visitor.login()?, &name, &range).await?;
    let content = html! {
        (head(&visitor, &asked.view, "/metrics"))
        (content(&asked.view, &asked.told, asked.since_ms, asked.span))
    };
    let title = format!("Metrics of {name}");
    shown(&app, &visitor, Place::Jobs, &title, content).await
}

/// `GET /jobs/{name}/metrics.csv`
pub async fn csv(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(range): Query<Shown>,
) -> Page {
    let asked = Asked::of(&app, visitor.login()?, &name, &range).await?;
    let (range, _, length) = asked.span;
    let head = "from_utc,replica,cpu_millis,memory_bytes,received_bytes,sent_bytes";
    let rows = Measured::of(&asked.told.samples, asked.since_ms, length).rows();
    let name = format!("metrics-{}-{range}.csv", asked.view.deployment);
    Ok(file(&name, "text/csv; charset=utf-8", csv_of(head, rows)))
}

#[cfg(test)]
mod tests {
    use types::{AccountId, AllocationId};

    use super::*;
    use crate::hostile_tests::deployment;
    use crate::tests::EVIL;

    fn sample(service: &str, at_ms: u64) -> StatsSample {
        StatsSample {
            allocation: AllocationId(1),
            service: service.into(),
            replica: 1,
            at_ms,
            step_ms: 10_000,
            cpu_millis: 250,
            cpu_millis_max: 400,
            memory_bytes: 64 << 20,
            memory_bytes_max: 80 << 20,
            disk_bytes: 0,
            rx_bytes: 10_240,
            tx_bytes: 20_480,
            pids: 1,
        }
    }

    fn told(samples: Vec<StatsSample>, silent: usize) -> Told {
        Told {
            samples,
            silent,
            left_out: 0,
        }
    }

    #[test]
    fn what_was_measured_is_drawn_and_what_was_not_is_said() {
        let view = deployment(AccountId::default());
        let samples = (0..6).map(|n| sample("web", 3_000_000 + n * 10_000));
        let page = content(&view, &told(samples.collect(), 0), 0, SPANS[0]).into_string();
        for part in ["web.1", "0.25 cores", "64 MiB", "80 MiB", "role=\"img\""] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("Not all is known"));
        let none = content(&view, &told(Vec::new(), 2), 0, SPANS[2]).into_string();
        assert!(none.contains("Of 2 replicas") && none.contains("Nothing was measured"));
        assert!(none.contains("runrig stats --since 7d"));
    }

    #[test]
    fn names_of_services_are_text() {
        let view = deployment(AccountId::default());
        let page = content(&view, &told(vec![sample(EVIL, 5_000)], 0), 0, SPANS[1]);
        assert!(!page.into_string().contains(EVIL));
    }
}
