//! What was used of what was reserved, as the ledger has it.

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;

use super::analytics::tabs;
use super::explorer::now_of;
use super::money::csv_line;
use super::range::{self, Range};
use super::{file, settled, shown};
use crate::app::App;
use crate::index::query::{self, Side};
use crate::ui::{self, Figure, Place, cli, empty, icon, kpi};
use crate::web::{Page, Visitor};

pub(super) fn csv_of(head: &str, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut out = format!("{head}\n");
    for row in rows {
        out += &csv_line(&row);
    }
    out
}

/// Rows of one page of what was used.
const PAGE: usize = 50;
/// Rows of a file at the most.
pub(super) const FILE_MAX: usize = 100_000;
/// Rows that a file is read by.
pub(super) const ROWS_AT_ONCE: usize = 1_000;

#[derive(Deserialize)]
pub struct Shown {
    range: Option<String>,
    page: Option<usize>,
}

fn percent_of(used: u64, held: u64) -> Option<u64> {
    let percent = (u128::from(used) * 100).checked_div(held.into())?;
    u64::try_from(percent).ok()
}

fn core_hours(share: u64) -> String {
    // Of thousandths × milliseconds.
    format!("{:.3}", share as f64 / 3.6e9)
}

fn gib_hours(share: u64) -> String {
    // Of KiB × seconds.
    format!("{:.3}", share as f64 / 3.6e3 / f64::from(1 << 20))
}

fn cell(label: &str, used: u64, held: u64, words: fn(u64) -> String) -> Markup {
    html! {
        td.num data-l=(label) { span { (words(used)) " of " (words(held)) } }
    }
}

/// `GET /analytics/use`
pub async fn usage(State(app): State<App>, visitor: Visitor, Query(asked): Query<Shown>) -> Page {
    let range = Range::of(asked.range.as_deref());
    let since_ms = range.since_ms(now_of(&app));
    let owner = visitor.login()?.account();
    let wanted = asked.page.unwrap_or(1).max(1);
    let of = |page: usize| {
        app.client
            .jobs_use(owner, since_ms, ((page - 1).saturating_mul(PAGE), PAGE))
    };
    let mut found = of(wanted).await?;
    let pages = (found.found as usize).div_ceil(PAGE).max(1);
    let page = wanted.min(pages);
    if page < wanted {
        found = of(page).await?;
    }
    let now = now_of(&app);
    let since = (now / 3_600_000 + 1).saturating_sub(settled::hours(range));
    let settled = app
        .index
        .ask(move |store| query::by_hour(store, Side::Payer, &owner, since))
        .await?;
    let sum = &found.sum;
    let percent = |used, held| percent_of(used, held).map(|p| p.to_string());
    let idle = |used: u64, held: u64| held.saturating_sub(used);
    let at = |page: usize| format!("/analytics/use?range={}&page={page}", range.name);
    let content = html! {
        div.pagehead {
            div { h1 { "Analytics" } p.sub { "Use of what was reserved, by the ledger: whole lives of the replicas that ran in the last " (range.title) } }
            div.acts {
                (range::links("/analytics/use?", range.name))
                a.btn href=(format!("/analytics/use.csv?range={}", range.name)) { (icon("download")) "CSV" }
            }
        }
        (tabs("/analytics/use"))
        div.grid {
            (kpi(Figure { label: "CPU used", value: percent(sum.cpu_used, sum.cpu_held), unit: "%", note: html! { "of what was reserved" }, spark: None }))
            (kpi(Figure { label: "Memory used", value: percent(sum.memory_used, sum.memory_held), unit: "%", note: html! { "of what was reserved" }, spark: None }))
            (kpi(Figure { label: "CPU left idle", value: (sum.cpu_held > 0).then(|| core_hours(idle(sum.cpu_used, sum.cpu_held))), unit: "core hours", note: html! { "reserved, not used" }, spark: None }))
            (kpi(Figure { label: "Memory left idle", value: (sum.memory_held > 0).then(|| gib_hours(idle(sum.memory_used, sum.memory_held))), unit: "GiB hours", note: html! { "reserved, not used" }, spark: None }))
        }
        (settled::charts(&settled, now, range))
        section.card.flush {
            header { div { h2 { "By job" } p.sub { "Only what is used of CPU and memory is charged; what is idle is held back from others, and costs escrow" } } }
            @if found.rows.is_empty() { (empty("gauge", "Nothing ran in this time", "Use is on the ledger with the first report of a host.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Job" } th.num { "Replicas" } th.num { "CPU, core hours" } th.num { "Memory, GiB hours" } th.num { "CPU idle" } th.num { "Memory idle" } } }
                tbody { @for one in &found.rows { tr {
                    td.wrap { a.row href=(format!("/jobs/{}", one.project)) { (one.project) } }
                    td.num data-l="Replicas" { (one.replicas) }
                    (cell("CPU, core hours", one.cpu_used, one.cpu_held, core_hours))
                    (cell("Memory, GiB hours", one.memory_used, one.memory_held, gib_hours))
                    td.num data-l="CPU idle" { (core_hours(idle(one.cpu_used, one.cpu_held))) }
                    td.num data-l="Memory idle" { (gib_hours(idle(one.memory_used, one.memory_held))) }
                } } }
            } }
            @if pages > 1 { (ui::pager(&format!("Page {page} of {pages}, {} jobs", words::grouped(found.found.into())), (page > 1).then(|| at(page - 1)).as_deref(), (page < pages).then(|| at(page + 1)).as_deref())) } }
        }
        (cli("runrig stats"))
    };
    shown(&app, &visitor, Place::Analytics, "Use", content).await
}

/// `GET /analytics/use.csv`
pub async fn usage_csv(
    State(app): State<App>,
    visitor: Visitor,
    Query(asked): Query<Shown>,
) -> Page {
    let since_ms = Range::of(asked.range.as_deref()).since_ms(now_of(&app));
    let owner = visitor.login()?.account();
    let mut all = Vec::new();
    loop {
        let part = (all.len(), api::UseView::ROWS_MAX);
        let found = app.client.jobs_use(owner, since_ms, part).await?;
        let more = !found.rows.is_empty();
        all.extend(found.rows);
        if !more || all.len() as u64 >= found.found || all.len() >= FILE_MAX {
            break;
        }
    }
    let rows = all.into_iter().map(|one| {
        vec![
            one.project,
            one.replicas.to_string(),
            core_hours(one.cpu_used),
            core_hours(one.cpu_held),
            gib_hours(one.memory_used),
            gib_hours(one.memory_held),
        ]
    });
    let head = "project,replicas,cpu_core_hours_used,cpu_core_hours_reserved,memory_gib_hours_used,memory_gib_hours_reserved";
    let out = csv_of(head, rows);
    Ok(file("use.csv", "text/csv; charset=utf-8", out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_what_was_held_for_as_long_as_it_was_counted() {
        assert_eq!(percent_of(5, 0), None);
        assert_eq!(percent_of(1, 4), Some(25));
        // Half a core for an hour.
        assert_eq!(core_hours(500 * 3_600_000), "0.500");
        assert_eq!(gib_hours((1 << 20) * 3_600), "1.000");
    }
}
