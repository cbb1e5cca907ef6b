//! The first page of who is logged in: what runs, what it uses, what it costs.

use std::collections::BTreeMap;

use api::JobState;
use axum::extract::{Query, State};
use maud::{Markup, html};
use sdk::JobQuery;
use serde::Deserialize;
use types::{Amount, Month};
use words::{MONTHS, bytes, month_of, plural};

use super::explorer::{happenings, now_of};
use super::jobs::{slices, table};
use super::limit::{grown, notices, runs_out};
use super::shown;
use crate::app::App;
use crate::index::query::{self, Side};
use crate::index::{EventFilter, HourRow};
use crate::ui::{
    self, Bar, Figure, Place, Tone, alert, cli, donut, empty, icon, kpi, legend, skeleton, submit,
};
use crate::web::{Page, Right, Visitor, url};

const HOUR_MS: u64 = 3_600_000;
/// Jobs in the table, and of those that are frozen.
const ROWS: usize = 8;
const FROZEN_SHOWN: usize = 5;
/// What the ledger charges for, as legends name it; the order of [`types::Resource::ALL`].
pub const RESOURCES: [(&str, u8); 5] = [
    ("CPU", 1),
    ("Memory", 3),
    ("Storage", 5),
    ("Bandwidth", 2),
    ("Transfer", 6),
];

/// An amount as a length in a chart: pictures may round, tables do not.
pub fn length(amount: Amount) -> f64 {
    amount.0 as f64 / types::CREDIT as f64
}

#[derive(Deserialize)]
pub struct Welcome {
    welcome: Option<String>,
}

/// Charges by month, at most the last `count`, the last one with what it will come to.
pub fn by_month(rows: &[HourRow], now_ms: u64, count: usize) -> Vec<Bar> {
    let mut sums: BTreeMap<(i64, usize), [Amount; 5]> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry(month_of(row.hour * HOUR_MS)).or_default();
        for (sum, amount) in sum.iter_mut().zip(row.amounts) {
            sum.0 = sum.0.saturating_add(amount.0);
        }
    }
    let (year, month) = month_of(now_ms);
    let until = Month::of(now_ms).until_ms();
    (0..count as i64)
        .rev()
        .map(|back| {
            let at = year * 12 + month as i64 - back;
            let key = (at.div_euclid(12), at.rem_euclid(12) as usize);
            let parts = sums.get(&key).copied().unwrap_or_default();
            let total = Amount(parts.iter().map(|part| part.0).sum());
            let plan = match back {
                0 => grown(total, rows, now_ms, until).filter(|_| !total.is_zero()),
                _ => None,
            };
            Bar {
                label: MONTHS[key.1].to_string(),
                parts: parts.map(length).to_vec(),
                plan: plan.map(length),
                title: format!("{} {}: {total} credits", MONTHS[key.1], key.0),
            }
        })
        .collect()
}

pub fn sum(rows: &[HourRow]) -> Amount {
    Amount(rows.iter().map(|r| r.amount().0).sum())
}

fn checklist(visitor: &Visitor, passkey: bool, funded: bool, gift: Amount) -> Markup {
    html! {
        section.card.s7 {
            header { div { h2 { "Four steps to a running container" } p.sub { "About a minute" } } }
            ol.steps {
                li.done { span.strong { "Create an account" } span.dim { @if passkey { "Its key is your passkey." } @else { "Its key is sealed by your password." } } }
                li.done[funded] {
                    span.strong { "Get starter credits" }
                    @if funded { span.dim { "They are here." } }
                    @else if visitor.lack(Right::Pay, "take credits").is_some() { span.dim { "Taken from the faucet by the role " (Right::Pay.roles()) "." } }
                    @else if !gift.is_zero() { div.row { span.dim { (words::credits(gift)) " test credits from this network's faucet." } (submit(visitor, "/wallet/topup", "small", html! { (icon("gift")) "Get them" })) } }
                    @else { span.dim { "Ask somebody for a transfer." } }
                }
                li { span.strong { "Deploy a compose file or an image" } span.dim { "You see the price before anything starts." } }
                li { span.strong { "Open its address" } span.dim { "Every service gets one through the gateway." } }
            }
            div.row { a.btn.primary href="/jobs/new" { (icon("plus")) "Create job" } a.btn href="/hosts/new" { (icon("server")) "Or lend a machine" } }
        }
    }
}

/// `GET /`
pub async fn overview(
    State(app): State<App>,
    visitor: Visitor,
    Query(welcome): Query<Welcome>,
) -> Page {
    let Some(login) = &visitor.login else {
        return Ok(super::welcome::welcome(&app, &visitor).await);
    };
    let me = login.account();
    // What runs, with the latest rows; and what is frozen, if anything is.
    let latest = JobQuery {
        state: Some("all".into()),
        count: Some(ROWS),
        ..JobQuery::default()
    };
    let jobs = app.client.jobs(me, &latest).await?;
    let frozen = match jobs.count(JobState::Frozen) {
        0 => Vec::new(),
        _ => {
            let query = JobQuery {
                state: Some(JobState::Frozen.name().into()),
                count: Some(FROZEN_SHOWN),
                ..JobQuery::default()
            };
            app.client.jobs(me, &query).await?.rows
        }
    };
    let account = app.client.account(me).await?;
    let limit = app.client.limit_in_short(me).await?;
    let now = now_of(&app);
    let hour = now / HOUR_MS;
    let month = Month::of(now).from_ms() / HOUR_MS;
    let (charges, activity, events) = app
        .index
        .ask(move |c| {
            let filter = EventFilter {
                account: Some(me),
                ..EventFilter::default()
            };
            Ok((
                query::by_hour(c, Side::Payer, &me, hour.saturating_sub(24 * 366))?,
                query::activity(c, &me, hour.saturating_sub(24))?,
                query::events(c, &filter, 5)?,
            ))
        })
        .await?;
    let (running, alive) = (jobs.count(JobState::Running), jobs.alive());
    let (changes, failures) = (activity.changes, activity.failures);
    let this_month: Vec<HourRow> = charges
        .iter()
        .filter(|c| c.hour >= month)
        .cloned()
        .collect();
    let today: Vec<&HourRow> = charges.iter().filter(|c| c.hour + 24 > hour).collect();
    let hourly = |of: &dyn Fn(&HourRow) -> f64| -> Vec<f64> {
        let first = hour.saturating_sub(23);
        let mut out = vec![0.0; 24];
        for row in today.iter().filter(|r| r.hour >= first) {
            out[(row.hour - first).min(23) as usize] += of(row);
        }
        out
    };
    let moved: u128 = today.iter().map(|r| u128::from(r.moved)).sum();
    let rows: Vec<_> = jobs
        .rows
        .iter()
        .filter(|j| j.state != JobState::Removed)
        .cloned()
        .collect();
    let apps = match login.look() {
        Some(look) => Some(super::space::on_overview(&app, look).await?),
        None => None,
    };
    let content = html! {
        @if welcome.welcome.is_some() {
            (alert(Tone::Ok, html! {
                p.strong { "Welcome, " (login.title()) }
                p { @if account.balance.is_zero() { "Your account is made. The network gave no starter credits yet." } @else { (words::credits(account.balance)) " test credits are on your account, from this network's faucet." } @if !login.person.has_passkey() { " " a href="/settings" { "Save your recovery file" } " before you forget your password." } }
            }))
        }
        (notices(&limit, runs_out(&charges, account.balance, now)))
        @for job in &frozen {
            (alert(Tone::Warn, html! { p.strong { (job.project) " is frozen for lack of funds" } p { "Its data is kept. It runs again as soon as your account has credits." } }))
        }
        @let unsaid = jobs.count(JobState::Frozen).saturating_sub(frozen.len() as u64);
        @if unsaid > 0 {
            (alert(Tone::Warn, html! { p { a href="/jobs?status=frozen" { (plural(unsaid, "more job is", "more jobs are")) " frozen" } "." } }))
        }
        div.pagehead {
            div { h1 { "Overview" } }
            div.acts { a.btn.primary href="/jobs/new" { (icon("plus")) "Create job" } }
        }
        @if let Some(apps) = &apps { (apps) }
        @if alive == 0 && charges.is_empty() {
            div.grid {
                (checklist(&visitor, login.person.has_passkey(), !account.balance.is_zero(), account.gift))
                section.card.s5 {
                    header { div { h2 { "Your account" } p.sub { "By the ledger, at block " (words::grouped(account.height.into())) } } }
                    dl.facts {
                        dt { "Balance" } dd.strong { (words::credits(account.balance)) " credits" }
                        dt { "Handle" } dd { "@" (login.person.handle) }
                        dt { "Account" } dd.mono { (me) }
                    }
                }
            }
        } @else {
            div.grid {
                (kpi(Figure { label: "Running jobs", value: Some(running.to_string()), unit: &format!("of {alive}"), note: html! { (plural(jobs.ready, "replica", "replicas")) " ready" }, spark: None }))
                (kpi(Figure { label: "Failure rate, 24 h", value: (changes > 0).then(|| format!("{:.1}", 100.0 * failures as f64 / changes as f64)), unit: "%", note: html! { (plural(failures, "failure", "failures")) " in " (plural(changes, "change of state", "changes of state")) }, spark: None }))
                (kpi(Figure { label: "Traffic, 24 h", value: Some(bytes(moved)), unit: "", note: html! { "in and out, as it was settled" }, spark: ui::spark(&hourly(&|r| r.moved as f64)) }))
                (kpi(Figure { label: "Spent this month", value: Some(words::credits(sum(&this_month))), unit: "credits", note: html! { a href="/bills" { "Every line of it" } }, spark: ui::spark(&hourly(&|r| length(r.amount()))) }))
            }
            div.grid {
                section.card.s8 {
                    header {
                        div { h2 { "Resource use" } p.sub { "Share of what running replicas reserved, since this page opened" } }
                        div.more { (legend(&[("CPU", 1), ("Memory", 2)])) }
                    }
                    div.live data-stream="/live/use" data-text="use-words" {
                        @if jobs.ready > 0 { (skeleton("Asking the hosts, every other second")) }
                        @else { (empty("activity", "Measured while you look", "Hosts send a sample every other second, as long as a replica runs.", None)) }
                    }
                    p.foot-note id="use-words" { "Not known yet." }
                }
                section.card.s4 {
                    header { div { h2 { "Jobs by status" } p.sub { "All that you have deployed" } } }
                    (donut(&slices(&jobs), "job", "jobs"))
                }
            }
            div.grid {
                section.card.s7 {
                    header { div { h2 { "Monthly cost" } p.sub { "Credits, by what was used; dashed: if the month goes on so" } } }
                    div { (legend(&RESOURCES)) }
                    (ui::bars(&by_month(&charges, now, 8), &RESOURCES.map(|r| r.1), "Cost by month and resource", false))
                }
                section.card.s5 {
                    header { div { h2 { "Settled on chain" } p.sub { "Receipts anyone can check" } } div.more { a href=(format!("/explorer/accounts/{me}")) { "Explorer" } (icon("chevron-right")) } }
                    @if events.is_empty() { (empty("receipt-text", "Nothing settled yet", "Hosts report use every few seconds while something runs.", None)) } @else { (happenings(&events, now)) }
                }
            }
            section.card.flush {
                header { div { h2 { "Jobs" } } div.more { a href="/jobs" { "All jobs" } (icon("chevron-right")) } }
                @if rows.is_empty() { (empty("rocket", "Nothing runs", "Create a job to see it here.", Some(("/jobs/new", "Create job")))) } @else { (table(&rows, now, None)) }
            }
            script defer src=(url("uplot.js")) {}
            link rel="stylesheet" href=(url("uplot.css"));
        }
        (cli("runrig ls"))
    };
    shown(&app, &visitor, Place::Overview, "Overview", content).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_projected_once_an_hour_is_known() {
        // 2026-11-21 12:00.
        let now = 1_795_262_400_000;
        let row = |hours_ago: u64| HourRow {
            hour: now / HOUR_MS - hours_ago,
            amounts: [
                Amount::credits(1),
                Amount::ZERO,
                Amount::ZERO,
                Amount::ZERO,
                Amount::ZERO,
            ],
            moved: 0,
            receipts: 1,
        };
        let bars = by_month(&[row(1)], now, 3);
        assert_eq!(
            bars.iter().map(|b| b.label.as_str()).collect::<Vec<_>>(),
            ["Sep", "Oct", "Nov"]
        );
        // A credit an hour for nine days and a half.
        assert_eq!(bars[2].plan, Some(1.0 + 228.0));
        assert_eq!(by_month(&[row(0)], now, 3)[2].plan, None);
        // What was spent before the last day does not go on.
        assert_eq!(by_month(&[row(60)], now, 3)[2].plan, Some(1.0));
    }
}
