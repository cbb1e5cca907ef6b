//! Each payment to a lender, with its receipt: a page at a time, by host, and as a file.

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use types::HostId;
use words::Names;

use super::explorer::{behind, now_of};
use super::measured::{FILE_MAX, ROWS_AT_ONCE, csv_of};
use super::{file, shown};
use crate::app::App;
use crate::index::lent::{self, PayoutFilter, PayoutRow};
use crate::index::query::{self, PAGE};
use crate::ui::{Place, cli, credits, crumbs, empty, icon, pager, when};
use crate::web::{Page, Visitor};

/// Hosts in the filter's list.
const HOSTS_MAX: usize = 500;

#[derive(Deserialize)]
pub struct Asked {
    host: Option<String>,
    before: Option<u64>,
}

impl Asked {
    /// What names no host finds all.
    fn host(&self) -> Option<HostId> {
        self.host.as_deref()?.trim().parse().ok()
    }
}

/// The latest first.
pub fn table(rows: &[PayoutRow], names: &Names, now: u64) -> Markup {
    let host = |id: &str| match id.parse() {
        Ok(id) => names.host(&id),
        Err(_) => words::brief(id),
    };
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "Receipt" } th { "Host" } th { "For" } th { "Block" } th { "When" } th.num { "Credits" } } }
            tbody { @for row in rows {
                @let event = &row.event;
                tr {
                    td { @if let Some(id) = event.receipt { a.row href=(format!("/explorer/receipts/r-{id}")) { "r-" (id) } } }
                    td data-l="Host" { a href=(format!("/explorer/hosts/{}", row.host)) { (host(&row.host)) } }
                    td.wrap data-l="For" { (event.words) }
                    td data-l="Block" { a href=(format!("/explorer/blocks/{}", event.height)) { (words::grouped(event.height.into())) } }
                    td data-l="When" { span.nowrap { (when(event.time_ms, now)) " ago" } }
                    td.num.strong data-l="Credits" { @if let Some(amount) = event.amount { (credits(amount)) } }
                }
            } }
        } }
    }
}

/// `GET /earnings/payouts`
pub async fn page(State(app): State<App>, visitor: Visitor, Query(asked): Query<Asked>) -> Page {
    let payee = visitor.login()?.account();
    let host = asked.host();
    let filter = PayoutFilter {
        payee,
        host,
        before: asked.before,
    };
    let (mut rows, names) = app
        .index
        .ask(move |store| {
            Ok((
                lent::payouts(store, &filter, PAGE + 1)?,
                query::names(store)?,
            ))
        })
        .await?;
    let more = rows.len() > PAGE;
    rows.truncate(PAGE);
    let all = app.client.hosts().await?;
    let mut own: Vec<(&str, HostId)> = all
        .iter()
        .filter(|h| h.owner == payee)
        .map(|h| (&*h.name, h.host))
        .collect();
    own.sort_unstable();
    own.truncate(HOSTS_MAX);
    let of = host.map(|host| format!("host={host}&")).unwrap_or_default();
    let base = format!("/earnings/payouts?{of}");
    let next = rows
        .last()
        .filter(|_| more)
        .map(|last| format!("{base}before={}", last.event.sequence));
    let first = asked.before.map(|_| base.trim_end_matches(['?', '&']));
    let now = now_of(&app);
    let until = match (rows.first(), rows.last()) {
        (Some(a), Some(b)) => format!(
            "{} UTC back to {} UTC",
            words::utc(a.event.time_ms),
            words::utc(b.event.time_ms)
        ),
        _ => String::new(),
    };
    let content = html! {
        (crumbs(&[("/earnings", "Earnings")]))
        div.pagehead {
            div { h1 { "Payouts" } p.sub { "Each payment to your account for what ran on a host, with its receipt" } }
            div.acts { a.btn href=(format!("/earnings/payouts.csv?{of}")) { (icon("download")) "CSV" } }
        }
        @if let Some(said) = behind(&app) { (said) }
        div.card.flush {
            header {
                form.filters action="/earnings/payouts" {
                    label.sr for="host" { "Host" }
                    select.short id="host" name="host" {
                        option value="" selected[host.is_none()] { "All hosts" }
                        @for (name, id) in &own { option value=(id) selected[host == Some(*id)] { (name) } }
                        @if let Some(id) = host.filter(|id| own.iter().all(|(_, own)| own != id)) { option value=(id) selected { (names.host(&id)) } }
                    }
                    button.btn { (icon("funnel")) "Filter" }
                }
            }
            @if rows.is_empty() {
                @if host.is_some() { (empty("funnel", "No payment matches", "Nothing was paid to you for this host.", Some(("/earnings/payouts", "Show all")))) }
                @else { (empty("receipt-text", "Nothing was paid yet", "Each report of use of what runs on your hosts is paid at once.", Some(("/hosts/new", "Lend a machine")))) }
            } @else {
                (table(&rows, &names, now))
                (pager(&until, first, next.as_deref()))
            }
        }
        p.foot-note { "A receipt over nothing is no payment: those stand in the explorer only." }
        (cli("runrig wallet history"))
    };
    shown(&app, &visitor, Place::Earnings, "Payouts", content).await
}

/// `GET /earnings/payouts.csv`: the newest of what the filter finds.
pub async fn csv(State(app): State<App>, visitor: Visitor, Query(asked): Query<Asked>) -> Page {
    let mut filter = PayoutFilter {
        payee: visitor.login()?.account(),
        host: asked.host(),
        before: asked.before,
    };
    let mut out = Vec::new();
    loop {
        let of = filter.clone();
        let (rows, names) = app
            .index
            .ask(move |store| {
                Ok((
                    lent::payouts(store, &of, ROWS_AT_ONCE)?,
                    query::names(store)?,
                ))
            })
            .await?;
        filter.before = rows.last().map(|row| row.event.sequence);
        let whole = rows.len() == ROWS_AT_ONCE;
        out.extend(rows.into_iter().map(|row| {
            let event = row.event;
            let name = row.host.parse().map_or(String::new(), |id| names.host(&id));
            vec![
                words::utc(event.time_ms),
                event
                    .receipt
                    .map(|id| format!("r-{id}"))
                    .unwrap_or_default(),
                row.host,
                name,
                event.height.to_string(),
                event.amount.map(|a| a.to_string()).unwrap_or_default(),
                event.words,
            ]
        }));
        if !whole || out.len() >= FILE_MAX {
            break;
        }
    }
    let head = "time_utc,receipt,host,host_name,block,credits,for";
    let out = csv_of(head, out);
    Ok(file("payouts.csv", "text/csv; charset=utf-8", out))
}
