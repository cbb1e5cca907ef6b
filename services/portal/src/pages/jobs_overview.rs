//! All jobs together: what they do, what was asked of them, what failed, how soon they run.

use api::{JobRow, JobsView};
use axum::extract::{Query, State};
use maud::{Markup, html};
use sdk::JobQuery;
use serde::Deserialize;
use words::{grouped, plural};

use super::explorer::now_of;
use super::jobs::{self, slices};
use super::range::{self, Range};
use super::requests::past;
use super::shown;
use crate::app::App;
use crate::index::starts::{self, Spread};
use crate::ui::{Figure, Place, Tone, alert, cli, donut, empty, hbars, icon, kpi};
use crate::web::{Page, Visitor};

const HERE: &str = "/jobs/overview";
/// How far back; the first if none is asked for.
const RANGES: [&str; 3] = ["7d", "4w", "12m"];

#[derive(Deserialize)]
pub struct Shown {
    range: Option<String>,
}

/// What the index tells of an account's jobs since a time.
struct Told {
    waited: Option<Spread>,
    started: Option<Spread>,
    never_ready: u64,
    failures: Vec<(String, u64)>,
}

/// Seconds with tenths below ten.
fn seconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => words::span(ms),
    }
}

fn times(label: &str, spread: Option<Spread>, of: fn(&Spread) -> u64, note: &str) -> Markup {
    kpi(Figure {
        label,
        value: spread.as_ref().map(|s| seconds(of(s))),
        unit: "",
        note: html! { @match spread { Some(s) => { (note) ", of " (plural(s.count, "replica", "replicas")) } None => { "no replica in this time" } } },
        spark: None,
    })
}

fn figures(told: &Told) -> Markup {
    let (wait, start) = ("from asked for to placed", "from placed to ready");
    html! {
        div.grid {
            (times("Queue wait, p50", told.waited, |s| s.half_ms, wait))
            (times("Queue wait, p95", told.waited, |s| s.p95_ms, wait))
            (times("Start, p50", told.started, |s| s.half_ms, start))
            (times("Start, p95", told.started, |s| s.p95_ms, start))
        }
        @if told.never_ready > 0 { p.foot-note { (plural(told.never_ready, "replica that was placed in this time was", "replicas that were placed in this time were")) " not ready yet, or never: its start is not known." } }
    }
}

fn failures(told: &Told) -> Markup {
    let rows: Vec<(String, f64, String)> = told
        .failures
        .iter()
        .map(|(cause, count)| (cause.clone(), *count as f64, grouped((*count).into())))
        .collect();
    html! {
        section.card.s6 {
            header { div { h2 { "Failures by cause" } p.sub { "From the ledger's events; what was told to stop is none" } } }
            @if rows.is_empty() { (empty("circle-check", "None", "Nothing of yours failed in this time.", None)) } @else { (hbars(&rows, 4)) }
        }
    }
}

fn states(all: &JobsView) -> Markup {
    html! {
        section.card.s6 {
            header { div { h2 { "Jobs by state" } p.sub { "All that you have deployed, now" } } div.more { a href="/jobs" { "The list" } (icon("chevron-right")) } }
            @if all.all() == 0 { (empty("rocket", "No job yet", "Paste a compose file or name an image: you see the price before anything starts.", Some(("/jobs/new", "Create your first job")))) }
            @else { (donut(&slices(all), "job", "jobs")) }
        }
    }
}

/// A job that is called as this page is.
fn namesake(rows: &[JobRow]) -> Markup {
    html! {
        @for job in rows {
            (alert(Tone::Info, html! { p { "You have a job of this name: " a href=(jobs::address(&job.project, job.deployment)) { (job.project) } "." } }))
        }
    }
}

/// `GET /jobs/overview`
pub async fn page(State(app): State<App>, visitor: Visitor, Query(asked): Query<Shown>) -> Page {
    let login = visitor.login()?;
    let me = login.account();
    let name = asked.range.as_deref().unwrap_or(RANGES[0]);
    let name = RANGES.into_iter().find(|n| *n == name).unwrap_or(RANGES[0]);
    let range = Range::of(Some(name));
    let since_ms = range.since_ms(now_of(&app));
    let told = app.index.ask(move |s| {
        Ok(Told {
            waited: starts::waited(s, &me, since_ms)?,
            started: starts::started(s, &me, since_ms)?,
            never_ready: starts::never_ready(s, &me, since_ms)?,
            failures: starts::failures(s, &me, since_ms)?,
        })
    });
    let told = told.await?;
    let query = |called: Option<&str>| JobQuery {
        name: called.map(str::to_string),
        count: Some(called.map_or(0, |_| 1)),
        ..JobQuery::default()
    };
    let all = app.client.jobs(me, &query(None)).await?;
    let called = app.client.jobs(me, &query(Some("overview"))).await?;
    let (caveats, requests) = past::card(&app, login, range).await?;
    let content = html! {
        div.pagehead {
            div { h1 { "Jobs" } p.sub { "All of yours together, the last " (range.title) } }
            div.acts { (range::links_of(&format!("{HERE}?"), name, RANGES)) }
        }
        (jobs::tabs(HERE))
        (namesake(&called.rows))
        (figures(&told))
        div.grid { (states(&all)) (failures(&told)) }
        (caveats)
        div.grid { (requests) }
        (cli("runrig ls -a"))
    };
    shown(&app, &visitor, Place::Jobs, "Overview of jobs", content).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_says_so() {
        let told = Told {
            waited: None,
            started: None,
            never_ready: 0,
            failures: Vec::new(),
        };
        let text = figures(&told).into_string();
        assert_eq!(text.matches("not known").count(), 4, "{text}");
        assert!(!text.contains("foot-note"), "{text}");
        assert!(failures(&told).into_string().contains("Nothing of yours"));
    }

    #[test]
    fn times_and_causes_are_told() {
        let spread = |half_ms, p95_ms| {
            Some(Spread {
                count: 2,
                half_ms,
                p95_ms,
            })
        };
        let told = Told {
            waited: spread(0, 400),
            started: spread(1_250, 61_000),
            never_ready: 1,
            failures: vec![("Exited with 1".into(), 3), ("<b>".into(), 1)],
        };
        let text = figures(&told).into_string();
        for expected in [
            ">0.0 s<",
            ">0.4 s<",
            ">1.2 s<",
            ">1 min<",
            "of 2 replicas",
            "1 replica that",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let text = failures(&told).into_string();
        assert!(
            text.contains("Exited with 1") && text.contains(">3<"),
            "{text}"
        );
        assert!(!text.contains("<b>"), "{text}");
    }
}
