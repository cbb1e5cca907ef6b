//! What was used, what it cost, what failed, over a range of time.

use axum::extract::{Query, State};
use maud::{Markup, html};
use sdk::JobQuery;
use serde::Deserialize;
use types::{Amount, DeploymentId};
use words::{bytes, plural};

use super::explorer::now_of;
use super::jobs::slices;
use super::measured::{FILE_MAX, ROWS_AT_ONCE};
use super::money::csv_line;
use super::overview::{RESOURCES, by_month, length, sum};
use super::range::{self, Range};
use super::{file, shown};
use crate::app::App;
use crate::index::HourRow;
use crate::index::query::{self, ChargeRow, Side, Spent};
use crate::ui::{self, Bar, Figure, Place, cli, donut, empty, hbars, icon, kpi, legend};
use crate::web::{Page, Visitor};

/// Jobs and hosts of which the cost is shown.
const RANKED: usize = 8;

#[derive(Deserialize)]
pub struct Shown {
    range: Option<String>,
}

/// What kinds of analytics there are.
pub(super) fn tabs(at: &str) -> Markup {
    let all = [
        ("/analytics", "Cost"),
        ("/analytics/requests", "Requests"),
        ("/analytics/use", "Use"),
    ];
    html! {
        nav.tabs aria-label="Kinds of analytics" {
            @for (href, label) in all { a href=(href) aria-current=[(at == href).then_some("page")] { (label) } }
        }
    }
}

/// Charges in bars of `step` hours.
fn in_steps(rows: &[HourRow], hour: u64, back: u64, step: u64) -> Vec<Bar> {
    let first = (hour + 1).saturating_sub(back);
    let count = back.div_ceil(step);
    (0..count)
        .map(|at| {
            let (from, to) = (first + at * step, first + (at + 1) * step);
            let mut parts = vec![0.0; 5];
            for row in rows.iter().filter(|r| (from..to).contains(&r.hour)) {
                for (part, amount) in parts.iter_mut().zip(row.amounts) {
                    *part += length(amount);
                }
            }
            let ms = from * 3_600_000;
            let label = if step == 1 {
                words::clock(ms)[..5].to_string()
            } else {
                words::day(ms)
            };
            let total: f64 = parts.iter().sum();
            Bar {
                title: format!("{label}: {total:.6} credits"),
                label,
                parts,
                plan: None,
            }
        })
        .collect()
}

/// `GET /analytics`
pub async fn analytics(
    State(app): State<App>,
    visitor: Visitor,
    Query(asked): Query<Shown>,
) -> Page {
    let me = visitor.login()?.account();
    let range = Range::of(asked.range.as_deref());
    let (name, back) = (range.name, range.hours);
    let now = now_of(&app);
    let hour = now / 3_600_000;
    let since = (hour + 1).saturating_sub(back);
    let (charges, activity, jobs_cost, hosts_cost) = app
        .index
        .ask(move |c| {
            let names = query::names(c)?;
            let top = |of| query::top(c, &me, of, since / 24, RANKED);
            let job = |(id, amount): (String, Amount)| {
                let name = id.parse().map_or(id, |id| names.project(&DeploymentId(id)));
                (name, amount)
            };
            let host = |(id, amount): (String, Amount)| {
                let name = id.parse().map_or(id, |id| names.host(&id));
                (name, amount)
            };
            Ok((
                query::by_hour(c, Side::Payer, &me, since)?,
                query::activity(c, &me, since)?,
                top(Spent::Job)?.into_iter().map(job).collect::<Vec<_>>(),
                top(Spent::Host)?.into_iter().map(host).collect::<Vec<_>>(),
            ))
        })
        .await?;
    let none = JobQuery {
        count: Some(0),
        ..JobQuery::default()
    };
    let all = app.client.jobs(me, &none).await?;
    let bars = if name == "12m" {
        by_month(&charges, now, 12)
    } else {
        in_steps(&charges, hour, back, range.step)
    };
    let (changes, failures) = (activity.changes, activity.failures);
    let ranked = |rows: Vec<(String, Amount)>| {
        rows.into_iter()
            .map(|(n, a)| (n, length(a), words::credits(a)))
            .collect::<Vec<_>>()
    };
    let receipts: u64 = charges.iter().map(|r| r.receipts).sum();
    let moved: u128 = charges.iter().map(|r| u128::from(r.moved)).sum();
    let (jobs, hosts) = (ranked(jobs_cost), ranked(hosts_cost));
    let whole_days = format!(
        "The most, since {} 00:00 UTC",
        words::day(since / 24 * 86_400_000)
    );
    let content = html! {
        div.pagehead {
            div { h1 { "Analytics" } p.sub { "From settled receipts and events, the last " (range.title) } }
            div.acts {
                (range::links("/analytics?", name))
                a.btn href=(format!("/analytics.csv?range={name}")) { (icon("download")) "CSV" }
            }
        }
        (tabs("/analytics"))
        div.grid {
            (kpi(Figure { label: "Cost", value: Some(words::credits(sum(&charges))), unit: "credits", note: html! { "settled" }, spark: None }))
            (kpi(Figure { label: "Traffic", value: Some(bytes(moved)), unit: "", note: html! { "in and out, settled" }, spark: None }))
            (kpi(Figure { label: "Failures", value: Some(failures.to_string()), unit: "", note: html! { "of " (plural(changes, "change of state", "changes of state")) }, spark: None }))
            (kpi(Figure { label: "Receipts", value: Some(words::grouped(receipts.into())), unit: "", note: html! { "each with its proof" }, spark: None }))
        }
        div.grid {
            section.card.s8 {
                header { div { h2 { "Cost" } p.sub { "Credits, by what was used" } } div.more { (legend(&RESOURCES)) } }
                @if charges.is_empty() { (empty("chart-area", "No charge in this time", "Lines come with the first settled receipt.", None)) }
                @else { (ui::bars(&bars, &RESOURCES.map(|r| r.1), "Cost over time by resource", false)) }
            }
            section.card.s4 { header { div { h2 { "Jobs by status" } p.sub { "All that you have deployed, now" } } } (donut(&slices(&all), "job", "jobs")) }
            section.card.s6 { header { div { h2 { "Cost by job" } p.sub { (whole_days) } } } @if jobs.is_empty() { (empty("rocket", "None", "No job was charged in this time.", None)) } @else { (hbars(&jobs, 1)) } }
            section.card.s6 { header { div { h2 { "Cost by host" } p.sub { (whole_days) } } } @if hosts.is_empty() { (empty("server", "None", "No host was paid in this time.", None)) } @else { (hbars(&hosts, 3)) } }
        }
        (cli("runrig bill --json"))
    };
    shown(&app, &visitor, Place::Analytics, "Analytics", content).await
}

/// `GET /analytics.csv`
pub async fn csv(State(app): State<App>, visitor: Visitor, Query(asked): Query<Shown>) -> Page {
    let me = visitor.login()?.account();
    let back = Range::of(asked.range.as_deref()).hours;
    let since = (now_of(&app) / 3_600_000 + 1).saturating_sub(back);
    let names = app.index.ask(query::names).await?;
    let mut out = String::from(
        "hour_utc,deployment,project,host,cpu,memory,storage,bandwidth,transfer,sum,bytes\n",
    );
    let (mut last, mut count): (Option<ChargeRow>, usize) = (None, 0);
    // Others read between two parts.
    while count < FILE_MAX {
        let part = app.index.ask(move |store| {
            query::charges(store, Side::Payer, &me, since, last.as_ref(), ROWS_AT_ONCE)
        });
        let part = part.await?;
        count += part.len();
        last = part.last().cloned();
        if last.is_none() {
            break;
        }
        for row in &part {
            out += &line(row, &names);
        }
    }
    Ok(file("analytics.csv", "text/csv; charset=utf-8", out))
}

fn line(row: &ChargeRow, names: &words::Names) -> String {
    let mut fields = vec![
        words::utc(row.hour * 3_600_000),
        row.deployment.to_string(),
        names.project(&row.deployment),
        row.host.clone(),
    ];
    fields.extend(row.amounts.iter().map(ToString::to_string));
    fields.extend([row.amount().to_string(), row.moved.to_string()]);
    csv_line(&fields)
}
