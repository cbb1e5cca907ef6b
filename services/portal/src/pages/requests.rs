//! Requests, as the gateway saw them: the last hour by minute, and hours and days that are past.

pub(super) mod past;

use std::collections::BTreeMap;
use std::time::Duration;

use api::{RequestFigures, RequestSample};
use axum::extract::{Query, State};
use futures::stream::{self, StreamExt};
use maud::{Markup, html};
use sdk::JobQuery;
use serde::Deserialize;
use words::{bytes, plural};

use super::analytics::tabs;
use super::explorer::now_of;
use super::measured::csv_of;
use super::range::{self, Range};
use super::{file, shown};
use crate::app::App;
use crate::people::Login;
use crate::ui::{self, Bar, Figure, Place, cli, empty, icon, kpi, legend};
use crate::web::{Page, Trouble, Visitor};

const MINUTE_MS: u64 = 60_000;
/// The range that is shown first, by minutes.
const HOUR: &str = "1h";
/// So long gateways remember minutes.
const MINUTES: u64 = 60;
/// Jobs that are asked about at the most, at once, and how long.
const ASKED_MAX: usize = 64;
const ASKED_AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(3);

/// Requests of one service, in the last seconds and in steps of time.
#[derive(Debug, Default, PartialEq)]
struct Service {
    per_second: f64,
    requests: u64,
    errors: u64,
    sent: u64,
    /// Of each step with requests: what half did not exceed, how many they were.
    halves: Vec<(u64, u64)>,
    p95_us_worst: Option<u64>,
}

impl Service {
    fn add_now(&mut self, sample: &RequestSample) {
        self.per_second += sample.requests as f64 * 1_000.0 / sample.step_ms.max(1) as f64;
    }

    /// One step more; of its latencies: what half and 95 in 100 did not exceed.
    fn add(&mut self, requests: u64, errors: u64, sent: u64, of: (Option<u64>, Option<u64>)) {
        self.requests += requests;
        self.errors += errors;
        self.sent = self.sent.saturating_add(sent);
        if let Some(half) = of.0 {
            self.halves.push((half, requests));
        }
        self.p95_us_worst = self.p95_us_worst.max(of.1);
    }

    /// Of the steps' halves the one in the middle, by requests.
    fn half_us(&self) -> Option<u64> {
        let mut halves = self.halves.clone();
        halves.sort_unstable();
        let all: u64 = halves.iter().map(|(_, count)| count).sum();
        let mut seen = 0;
        halves.into_iter().find_map(|(half, count)| {
            seen += count;
            (2 * seen >= all).then_some(half)
        })
    }

    fn error_percent(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors as f64 * 100.0 / self.requests as f64)
    }

    fn error_words(&self) -> String {
        let percent = self.error_percent();
        percent.map_or("–".into(), |p| format!("{p:.1} %"))
    }
}

fn latency(us: Option<u64>) -> String {
    match us {
        None => "–".into(),
        Some(us) if us < 10_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        Some(us) => format!("{} ms", us / 1_000),
    }
}

/// By job and service.
type Services = BTreeMap<(String, String), Service>;

/// What gateways told, and of how many jobs none did.
struct Told {
    services: Services,
    /// Requests and errors of each minute, by its beginning.
    minutes: BTreeMap<u64, (u64, u64)>,
    silent: usize,
    /// Jobs that were not asked about.
    left: usize,
}

fn sum_up(figures: Vec<(String, Option<RequestFigures>)>, left: usize) -> Told {
    let mut told = Told {
        services: Services::new(),
        minutes: BTreeMap::new(),
        silent: 0,
        left,
    };
    for (job, figures) in figures {
        let Some(figures) = figures else {
            told.silent += 1;
            continue;
        };
        let key = |s: &RequestSample| (job.clone(), s.service.clone());
        for sample in &figures.now {
            told.services
                .entry(key(sample))
                .or_default()
                .add_now(sample);
        }
        for sample in &figures.history {
            let one = told.services.entry(key(sample)).or_default();
            let latencies = (sample.p50_us, sample.p95_us);
            one.add(sample.requests, sample.errors, sample.sent, latencies);
            let minute = told.minutes.entry(sample.at_ms / MINUTE_MS).or_default();
            minute.0 += sample.requests;
            minute.1 += sample.errors;
        }
    }
    told
}

async fn ask(app: &App, login: &Login) -> Result<Told, Trouble> {
    let query = JobQuery {
        count: Some(ASKED_MAX),
        ..JobQuery::default()
    };
    let jobs = app.client.jobs(login.account(), &query).await?;
    let left = (jobs.found as usize).saturating_sub(jobs.rows.len());
    let client = login.client(app);
    let since_ms = api::now_ms().saturating_sub(MINUTES * MINUTE_MS);
    let asked = jobs.rows.into_iter().map(|one| {
        let (client, key) = (client.clone(), login.key.clone());
        async move {
            let asked = client.requests(&key, one.deployment, Some((since_ms, None)));
            let figures = tokio::time::timeout(PATIENCE, asked).await;
            (one.project, figures.ok().and_then(Result::ok))
        }
    });
    let figures = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    Ok(sum_up(figures, left))
}

fn minutes(told: &Told, now_ms: u64) -> Vec<Bar> {
    let last = now_ms / MINUTE_MS;
    (last.saturating_sub(MINUTES - 1)..=last)
        .map(|minute| {
            let (requests, errors) = told.minutes.get(&minute).copied().unwrap_or_default();
            let label = words::clock(minute * MINUTE_MS)[..5].to_string();
            Bar {
                title: format!(
                    "{label}: {}, {errors} failed",
                    plural(requests, "request", "requests")
                ),
                label,
                parts: vec![requests.saturating_sub(errors) as f64, errors as f64],
                plan: None,
            }
        })
        .collect()
}

const ANSWERS: [(&str, u8); 2] = [("Answered", 1), ("Failed", 4)];

#[derive(Deserialize)]
pub struct Shown {
    #[serde(default)]
    range: String,
}

/// `GET /analytics/requests`
pub async fn requests(
    State(app): State<App>,
    visitor: Visitor,
    Query(Shown { range }): Query<Shown>,
) -> Page {
    match Range::find(&range) {
        None => hour(&app, &visitor).await,
        Some(past) => past::page(&app, &visitor, past).await,
    }
}

/// Which range is shown, and the same as a file.
fn acts(name: &str) -> Markup {
    let all = std::iter::once(HOUR).chain(range::ALL.map(|r| r.name));
    html! {
        div.acts {
            (range::links_of("/analytics/requests?", name, all))
            a.btn href=(format!("/analytics/requests.csv?range={name}")) { (icon("download")) "CSV" }
        }
    }
}

async fn hour(app: &App, visitor: &Visitor) -> Page {
    let told = ask(app, visitor.login()?).await?;
    let all = told.services.values();
    let (mut requests, mut errors, mut rate) = (0, 0, 0.0);
    for one in all {
        requests += one.requests;
        errors += one.errors;
        rate += one.per_second;
    }
    let known = !told.services.is_empty();
    let worst = told.services.values().filter_map(|s| s.p95_us_worst).max();
    let content = html! {
        div.pagehead {
            div { h1 { "Analytics" } p.sub { "Requests, as the gateway saw them: minutes of the last hour, and none from before it was started" } }
            (acts(HOUR))
        }
        (tabs("/analytics/requests"))
        div.grid {
            (kpi(Figure { label: "Now", value: known.then(|| format!("{rate:.1}")), unit: "a second", note: html! { "in the last 10 s" }, spark: None }))
            (kpi(Figure { label: "Last hour", value: known.then(|| words::grouped(requests.into())), unit: "", note: html! { "requests" }, spark: None }))
            (kpi(Figure { label: "Failed", value: known.then(|| words::grouped(errors.into())), unit: "", note: html! { "answers from 500 up" }, spark: None }))
            (kpi(Figure { label: "Worst p95", value: worst.map(|us| latency(Some(us))), unit: "", note: html! { "of a minute of a replica" }, spark: None }))
        }
        @if told.silent > 0 || told.left > 0 {
            (ui::alert(ui::Tone::Warn, html! { p {
                @if told.silent > 0 { "Of " (plural(told.silent as u64, "job", "jobs")) " nothing is known: the gateway does not tell, or not to your role. " }
                @if told.left > 0 { (plural(told.left as u64, "more job is", "more jobs are")) " not in these figures: they are of the latest " (ASKED_MAX) "." }
            } }))
        }
        div.grid {
            section.card.s12 {
                header { div { h2 { "By minute" } p.sub { "The last hour, all services" } } div.more { (legend(&ANSWERS)) } }
                @if told.minutes.is_empty() { (empty("activity", "No request in the last hour", "A minute stands here once it is over, and had a request to a published port or name.", None)) }
                @else { (ui::counts(&minutes(&told, now_of(app)), &ANSWERS.map(|a| a.1), "Requests by minute", "requests", true)) }
            }
            section.card.flush.s12 {
                header { div { h2 { "By service" } p.sub { "p50 is that of the middle minute, p95 that of the worst" } } }
                @if told.services.is_empty() { (empty("rocket", "No service takes requests", "Those with published ports or names stand here.", None)) }
                @else { div.tablewrap { table.cards {
                    thead { tr { th { "Service" } th.num { "Now, a second" } th.num { "Last hour" } th.num { "Failed" } th.num { "p50" } th.num { "p95" } th.num { "Sent" } } }
                    tbody { @for ((job, service), one) in &told.services { tr {
                        td.wrap { a.row href=(format!("/jobs/{job}")) { (service) } span.second { (job) } }
                        td.num data-l="Now, a second" { (format!("{:.1}", one.per_second)) }
                        td.num data-l="Last hour" { (words::grouped(one.requests.into())) }
                        td.num data-l="Failed" { (one.error_words()) }
                        td.num data-l="p50" { (latency(one.half_us())) }
                        td.num data-l="p95" { (latency(one.p95_us_worst)) }
                        td.num data-l="Sent" { (bytes(one.sent.into())) }
                    } } }
                } } }
            }
        }
        (cli("runrig stats --since 1h"))
    };
    shown(app, visitor, Place::Analytics, "Requests", content).await
}

/// `GET /analytics/requests.csv`
pub async fn requests_csv(
    State(app): State<App>,
    visitor: Visitor,
    Query(Shown { range }): Query<Shown>,
) -> Page {
    let out = match Range::find(&range) {
        None => hour_csv(&ask(&app, visitor.login()?).await?),
        Some(past) => past::csv(&app, visitor.login()?, past).await?,
    };
    Ok(file("requests.csv", "text/csv; charset=utf-8", out))
}

fn hour_csv(told: &Told) -> String {
    let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    let rows = told.services.iter().map(|((job, service), one)| {
        vec![
            job.clone(),
            service.clone(),
            format!("{:.2}", one.per_second),
            one.requests.to_string(),
            one.errors.to_string(),
            number(one.half_us()),
            number(one.p95_us_worst),
            one.sent.to_string(),
        ]
    });
    let head = "project,service,per_second_now,requests_last_hour,errors_last_hour,p50_us_middle_minute,p95_us_worst_minute,sent_bytes";
    csv_of(head, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minute: u64, requests: u64, errors: u64, p50_us: u64) -> RequestSample {
        RequestSample {
            allocation: types::AllocationId(1),
            service: "web".into(),
            at_ms: minute * MINUTE_MS,
            step_ms: MINUTE_MS,
            requests,
            errors,
            received: 0,
            sent: 10,
            p50_us: Some(p50_us),
            p95_us: Some(2 * p50_us),
        }
    }

    #[test]
    fn minutes_of_replicas_come_to_one_line_of_their_service() {
        let figures = RequestFigures {
            now: vec![RequestSample {
                step_ms: 10_000,
                ..sample(9, 25, 0, 1)
            }],
            history: vec![
                sample(7, 10, 1, 900),
                sample(8, 90, 0, 100),
                sample(8, 20, 1, 500),
            ],
        };
        let told = sum_up(
            vec![("shop".into(), Some(figures)), ("other".into(), None)],
            0,
        );
        assert_eq!(told.silent, 1);
        let web = &told.services[&("shop".to_string(), "web".to_string())];
        assert_eq!((web.requests, web.errors, web.sent), (120, 2, 30));
        assert!((web.per_second - 2.5).abs() < 1e-9);
        assert_eq!((web.half_us(), web.p95_us_worst), (Some(100), Some(1_800)));
        assert_eq!(told.minutes[&8], (110, 1));
        let bars = minutes(&told, 8 * MINUTE_MS + 5);
        assert_eq!(bars.len(), 9, "no minute before the first");
        assert_eq!(bars[8].parts, [109.0, 1.0]);
        assert_eq!(Service::default().error_percent(), None);
        assert_eq!(Service::default().half_us(), None);
    }
}
