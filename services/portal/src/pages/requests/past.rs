//! Requests by hour, day and month: what the gateway wrote down, also of services that are gone.

use std::sync::Arc;

use api::{PastStep, RequestPast, RequestsPast};
use maud::{Markup, html};
use sdk::SdkError;
use words::{bytes, plural};

use super::super::analytics::tabs;
use super::super::explorer::now_of;
use super::super::measured::csv_of;
use super::super::range::Range;
use super::super::shown;
use super::{PATIENCE, Services, acts, latency};
use crate::app::App;
use crate::index::query;
use crate::people::Login;
use crate::ui::{self, Bar, Figure, Place, Slice, Tone, cli, donut, empty, kpi, legend};
use crate::web::{Page, Trouble, Visitor};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const MONTHS: usize = 12;

/// Of one bar: its label, and when it begins and ends.
#[derive(Debug, PartialEq)]
struct Step {
    label: String,
    from_ms: u64,
    until_ms: u64,
}

/// The steps of a range, the last one with `now_ms` in it, and by what they are asked for.
fn steps(range: &str, now_ms: u64) -> (PastStep, Vec<Step>) {
    let even = |count: u64, step_ms: u64, label: fn(u64) -> String| {
        let last = now_ms / step_ms;
        let each = last.saturating_sub(count - 1)..=last;
        let step = |n: u64| Step {
            label: label(n * step_ms),
            from_ms: n * step_ms,
            until_ms: (n + 1) * step_ms,
        };
        each.map(step).collect()
    };
    match range {
        "7d" => (PastStep::Day, even(7, DAY_MS, words::day)),
        "4w" => (PastStep::Day, even(28, DAY_MS, words::day)),
        "12m" => {
            let mut months = Vec::new();
            let mut at_ms = now_ms;
            while months.len() < MONTHS {
                let month = types::Month::of(at_ms);
                months.push(Step {
                    label: words::MONTHS[month.number() as usize - 1].into(),
                    from_ms: month.from_ms(),
                    until_ms: month.until_ms(),
                });
                let Some(before) = month.from_ms().checked_sub(1) else {
                    break;
                };
                at_ms = before;
            }
            months.reverse();
            (PastStep::Day, months)
        }
        _ => (
            PastStep::Hour,
            even(24, HOUR_MS, |ms| words::clock(ms)[..5].into()),
        ),
    }
}

/// What is drawn of the five classes of answers: word and colour.
const ANSWERS: [(&str, u8); 3] = [("Answered", 1), ("Refused, 4xx", 2), ("Failed, 5xx", 4)];

/// Of 1xx to 5xx.
fn drawn(answers: [u64; 5]) -> [u64; 3] {
    let [informed, answered, redirected, refused, failed] = answers;
    [informed + answered + redirected, refused, failed]
}

fn bars(rows: &[RequestPast], steps: &[Step]) -> Vec<Bar> {
    let of = |step: &Step| {
        let mut sums = [0; 3];
        let span = step.from_ms..step.until_ms;
        for row in rows.iter().filter(|r| span.contains(&r.at_ms)) {
            for (sum, n) in sums.iter_mut().zip(drawn(row.answers)) {
                *sum += n;
            }
        }
        let [answered, refused, failed] = sums;
        let all = plural(answered + refused + failed, "request", "requests");
        Bar {
            label: step.label.clone(),
            parts: sums.map(|n| n as f64).to_vec(),
            plan: None,
            title: format!("{}: {all}, {refused} refused, {failed} failed", step.label),
        }
    };
    steps.iter().map(of).collect()
}

/// Sums of all rows by class, and each service's.
fn sum_up(rows: &[RequestPast], names: &words::Names) -> ([u64; 5], Services) {
    let (mut classes, mut services) = ([0; 5], Services::new());
    for row in rows {
        for (sum, n) in classes.iter_mut().zip(row.answers) {
            *sum += n;
        }
        let key = (names.project(&row.deployment), row.service.clone());
        let one = services.entry(key).or_default();
        let requests = row.answers.iter().sum();
        let latencies = (row.p50_us, row.p95_us);
        one.add(requests, row.answers[4], row.sent, latencies);
    }
    (classes, services)
}

/// What is known of a range.
struct Told {
    range: Range,
    by: PastStep,
    steps: Vec<Step>,
    asked: Result<RequestsPast, SdkError>,
    names: Arc<words::Names>,
}

async fn ask(app: &App, login: &Login, range: Range) -> Result<Told, Trouble> {
    let (by, steps) = steps(range.name, now_of(app));
    let since_ms = steps.first().map_or(0, |s| s.from_ms);
    let client = login.client(app);
    let asked = client.requests_past(&login.key, login.account(), by, since_ms);
    let asked = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(asked) => asked,
        Err(_) => Err(SdkError::Unreachable {
            url: client.url().into(),
            why: "the gateway takes too long".into(),
        }),
    };
    let names = app.index.ask(query::names).await?;
    Ok(Told {
        range,
        by,
        steps,
        asked,
        names,
    })
}

/// What a reader has to know of the figures before he believes them.
fn caveats(told: &Told) -> Markup {
    let since_ms = told.steps.first().map_or(0, |s| s.from_ms);
    html! {
        @match &told.asked {
            Err(error) => (ui::alert(Tone::Warn, html! { p { "Nothing is known: the gateway does not tell, or not to your role. " span.dim { (error) } } })),
            Ok(RequestsPast { begun_ms: None, .. }) => (ui::alert(Tone::Info, html! { p { "The gateway keeps no past: its operator starts it with " code { "--data DIR" } ", and it writes down from then on." } })),
            Ok(past) => {
                @if let Some(begun_ms) = past.begun_ms.filter(|at| *at > since_ms) {
                    (ui::alert(Tone::Info, html! { p { "The gateway writes down since " (words::utc(begun_ms)) " UTC: nothing is known of what was before." } }))
                }
                @if past.cut { (ui::alert(Tone::Warn, html! { p { "There are more than " (words::grouped(RequestsPast::ROWS_MAX as u128)) " steps of services: the rest is not in these figures. Choose a shorter range." } })) }
            }
        }
    }
}

/// Requests over time by what they were answered, on a card of that width.
fn by_step(told: &Told, width: &str) -> Markup {
    let step = match told.range.name {
        "24h" => "By hour",
        "12m" => "By month",
        _ => "By day",
    };
    let rows = told.asked.as_ref().map_or(&[][..], |past| &past.rows);
    let some = rows.iter().any(|row| row.answers.iter().any(|n| *n > 0));
    html! {
        section class={ "card " (width) } {
            header { div { h2 { "Requests" } p.sub { (step) ", all services" } } div.more { (legend(&ANSWERS)) } }
            @if !some { (empty("activity", "No request is known in this time", "The gateway writes down what comes to published ports and names.", None)) }
            @else { (ui::counts(&bars(rows, &told.steps), &ANSWERS.map(|a| a.1), "Requests over time by answer", "requests", true)) }
        }
    }
}

/// The same for a page about more than requests, below what is to be known of it.
pub(in crate::pages) async fn card(
    app: &App,
    login: &Login,
    range: Range,
) -> Result<(Markup, Markup), Trouble> {
    let told = ask(app, login, range).await?;
    Ok((caveats(&told), by_step(&told, "s12")))
}

/// `GET /analytics/requests?range=24h`, and longer.
pub(super) async fn page(app: &App, visitor: &Visitor, range: Range) -> Page {
    let told = ask(app, visitor.login()?, range).await?;
    let rows = told.asked.as_ref().map_or(&[][..], |past| &past.rows);
    let (classes, services) = sum_up(rows, &told.names);
    let known = told.asked.as_ref().is_ok_and(|p| p.begun_ms.is_some());
    let figure = |n: u64| known.then(|| words::grouped(n.into()));
    let requests: u64 = classes.iter().sum();
    let worst = services.values().filter_map(|s| s.p95_us_worst).max();
    let sent: u128 = services.values().map(|s| u128::from(s.sent)).sum();
    let slices: Vec<Slice> = [
        ("1xx, told first", 3),
        ("2xx, answered", 1),
        ("3xx, sent elsewhere", 5),
        ("4xx, refused", 2),
        ("5xx, failed", 4),
    ]
    .into_iter()
    .zip(classes)
    .filter(|(_, count)| *count > 0)
    .map(|((label, colour), count)| Slice {
        label: label.into(),
        count,
        colour,
    })
    .collect();
    let content = html! {
        div.pagehead {
            div { h1 { "Analytics" } p.sub { "Requests, as the gateway saw them, the last " (told.range.title) ", UTC" } }
            (acts(told.range.name))
        }
        (tabs("/analytics/requests"))
        (caveats(&told))
        div.grid {
            (kpi(Figure { label: "Requests", value: figure(requests), unit: "", note: html! { "also to jobs that are gone" }, spark: None }))
            (kpi(Figure { label: "Failed", value: figure(classes[4]), unit: "", note: html! { "answers from 500 up" }, spark: None }))
            (kpi(Figure { label: "Sent", value: known.then(|| bytes(sent)), unit: "", note: html! { "to clients, without headers" }, spark: None }))
            (kpi(Figure { label: "Worst p95", value: worst.map(|us| latency(Some(us))), unit: "", note: html! { "of " @if told.by == PastStep::Hour { "an hour" } @else { "a day" } " of a service" }, spark: None }))
        }
        div.grid {
            (by_step(&told, "s8"))
            section.card.s4 { header { div { h2 { "By answer" } p.sub { "HTTP status" } } } (donut(&slices, "request", "requests")) }
            section.card.flush.s12 {
                header { div { h2 { "By service" } p.sub { "p50 is that of the middle step, by requests, p95 that of the worst" } } }
                @if services.is_empty() { (empty("rocket", "No service was asked", "Those with published ports or names stand here.", None)) }
                @else { div.tablewrap { table.cards {
                    thead { tr { th { "Service" } th.num { "Requests" } th.num { "Failed" } th.num { "p50" } th.num { "p95" } th.num { "Sent" } } }
                    tbody { @for ((job, service), one) in &services { tr {
                        td.wrap { a.row href=(format!("/jobs/{job}")) { (service) } span.second { (job) } }
                        td.num data-l="Requests" { (words::grouped(one.requests.into())) }
                        td.num data-l="Failed" { (one.error_words()) }
                        td.num data-l="p50" { (latency(one.half_us())) }
                        td.num data-l="p95" { (latency(one.p95_us_worst)) }
                        td.num data-l="Sent" { (bytes(one.sent.into())) }
                    } } }
                } } }
            }
        }
        (cli(&format!("runrig stats --since {} --by {}", range.since, told.by.name())))
    };
    shown(app, visitor, Place::Analytics, "Requests", content).await
}

pub(super) async fn csv(app: &App, login: &Login, range: Range) -> Result<String, Trouble> {
    let told = ask(app, login, range).await?;
    let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    let rows = told.asked?.rows.into_iter().map(|row| {
        let mut fields = vec![
            words::utc(row.at_ms),
            (row.step_ms / HOUR_MS).to_string(),
            row.deployment.to_string(),
            told.names.project(&row.deployment),
            row.service,
        ];
        fields.extend(row.answers.iter().map(u64::to_string));
        fields.extend([row.received.to_string(), row.sent.to_string()]);
        fields.extend([number(row.p50_us), number(row.p95_us)]);
        fields
    });
    let head = "from_utc,hours,deployment,project,service,answers_1xx,answers_2xx,answers_3xx,answers_4xx,answers_5xx,received_bytes,sent_bytes,p50_us,p95_us";
    Ok(csv_of(head, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-01 00:30 UTC.
    const NOW: u64 = 1_772_325_000_000;

    #[test]
    fn steps_end_with_the_one_that_goes_on() {
        for (range, by, count, first, last) in [
            ("24h", PastStep::Hour, 24, "01:00", "00:00"),
            ("7d", PastStep::Day, 7, "23 Feb", "1 Mar"),
            ("4w", PastStep::Day, 28, "2 Feb", "1 Mar"),
            ("12m", PastStep::Day, 12, "Apr", "Mar"),
        ] {
            let (asked, steps) = steps(range, NOW);
            assert_eq!((asked, steps.len()), (by, count), "{range}");
            let ends = [&steps[0].label, &steps[count - 1].label];
            assert_eq!(ends, [first, last], "{range}");
            let gap = steps.windows(2).find(|w| w[0].until_ms != w[1].from_ms);
            assert_eq!(gap, None, "{range}");
            let now = steps[count - 1].from_ms..steps[count - 1].until_ms;
            assert!(now.contains(&NOW), "{range}");
        }
        assert!(steps("12m", 5).1.len() == 1, "no month before the first");
    }

    #[test]
    fn classes_and_services_are_summed() {
        let row = |deployment, at_ms, answers| RequestPast {
            deployment: types::DeploymentId(deployment),
            service: "web".into(),
            at_ms,
            step_ms: DAY_MS,
            answers,
            received: 1,
            sent: 5,
            p50_us: Some(100),
            p95_us: Some(900),
        };
        let (_, steps) = steps("7d", NOW);
        let rows = [
            row(1, steps[5].from_ms, [1, 20, 3, 4, 5]),
            row(2, steps[6].from_ms, [0, 1, 0, 0, 0]),
        ];
        let (classes, services) = sum_up(&rows, &words::Names::default());
        assert_eq!(classes, [1, 21, 3, 4, 5]);
        let requests: Vec<_> = services.values().map(|s| (s.requests, s.errors)).collect();
        assert_eq!(requests, [(33, 5), (1, 0)]);
        let bars = bars(&rows, &steps);
        assert_eq!(bars[5].parts, [24.0, 4.0, 5.0]);
        assert_eq!(bars[6].parts, [1.0, 0.0, 0.0]);
        assert_eq!(bars[4].parts, [0.0; 3]);
    }
}
