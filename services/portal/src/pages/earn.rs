//! Lenders: their hosts, what they earned.

use super::explorer::now_of;
use super::hosts::host_table;
use super::overview::{RESOURCES, length, sum};
use super::shown;
use crate::app::App;
use crate::index::query::{self, Side, Spent};
use crate::ui::{self, Bar, Figure, Place, cli, empty, icon, kpi, legend};
use crate::web::{Page, Visitor};
use axum::extract::State;
use maud::html;
use types::Amount;

/// Hosts of which it is shown what each earned.
const HOSTS_SHOWN: usize = 50;

/// `GET /hosts`
pub async fn hosts(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let all = app.client.hosts().await?;
    let own: Vec<&api::HostView> = all.iter().filter(|h| h.owner == me).collect();
    let earned = app
        .index
        .ask(move |c| query::ever(c, Side::Payee, &me))
        .await?;
    let content = html! {
        div.pagehead { div { h1 { "My hosts" } p.sub { "Machines whose pay goes to your account" } } @if !own.is_empty() { div.acts { a.btn.primary href="/hosts/new" { (icon("plus")) "Lend a machine" } } } }
        @if own.is_empty() {
            div.card { (empty("server", "You lend no machine yet", "Any Linux machine joins with one command and earns for what runs on it.", Some(("/hosts/new", "Lend a machine")))) }
        } @else {
            div.grid {
                (kpi(Figure { label: "Online", value: Some(own.iter().filter(|h| h.online).count().to_string()), unit: &format!("of {}", own.len()), note: html! {}, spark: None }))
                (kpi(Figure { label: "Replicas on them", value: Some(own.iter().map(|h| u64::from(h.allocations)).sum::<u64>().to_string()), unit: "", note: html! {}, spark: None }))
                (kpi(Figure { label: "Earned in all", value: Some(words::credits(earned)), unit: "credits", note: html! { a href="/earnings" { "Earnings" } }, spark: None }))
                (kpi(Figure { label: "Cores let", value: Some(words::cores(own.iter().map(|h| u64::from(h.offer.capacity.cpu_millis.saturating_sub(h.free.cpu_millis))).sum())), unit: "", note: html! {}, spark: None }))
            }
            div.card.flush { (host_table(&own, "/explorer/hosts", now_of(&app))) }
        }
        (cli("runrig host ls"))
    };
    shown(&app, &visitor, Place::Hosts, "My hosts", content).await
}

/// `GET /earnings`
pub async fn earnings(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let all = app.client.hosts().await?;
    let own: Vec<&api::HostView> = all.iter().filter(|h| h.owner == me).collect();
    let now = now_of(&app);
    let hour = now / 3_600_000;
    let since = hour.saturating_sub(24 * 28);
    let (rows, by_host, lifetime) = app
        .index
        .ask(move |c| {
            let names = query::names(c)?;
            let paid = query::top(c, &me, Spent::Paid, since / 24, HOSTS_SHOWN)?;
            let name = |(id, amount): (String, Amount)| {
                let name = id.parse().map_or(id, |id| names.host(&id));
                (name, amount)
            };
            Ok((
                query::by_hour(c, Side::Payee, &me, since)?,
                paid.into_iter().map(name).collect::<Vec<_>>(),
                query::ever(c, Side::Payee, &me)?,
            ))
        })
        .await?;
    let within = |hours: u64| {
        sum(&rows
            .iter()
            .filter(|r| r.hour + hours > hour)
            .cloned()
            .collect::<Vec<_>>())
    };
    let bars: Vec<Bar> = (0..28u64)
        .rev()
        .map(|back| {
            let day = hour / 24 - back.min(hour / 24);
            let mut parts = vec![0.0; 5];
            for row in rows.iter().filter(|r| r.hour / 24 == day) {
                for (part, amount) in parts.iter_mut().zip(row.amounts) {
                    *part += length(amount);
                }
            }
            let label = words::day(day * 86_400_000);
            Bar {
                title: format!("{label}: {:.6} credits", parts.iter().sum::<f64>()),
                label,
                parts,
                plan: None,
            }
        })
        .collect();
    let ranked: Vec<_> = by_host
        .into_iter()
        .map(|(n, a)| (n, length(a), words::credits(a)))
        .collect();
    let content = html! {
        div.pagehead { div { h1 { "Earnings" } p.sub { "What hosts of yours were paid, receipt by receipt" } } }
        @if own.is_empty() && rows.is_empty() {
            div.card { (empty("hand-coins", "Nothing earned yet", "Lend a machine; it is paid every few seconds for what runs on it.", Some(("/hosts/new", "Lend a machine")))) }
        } @else {
            div.grid {
                (kpi(Figure { label: "This hour", value: Some(words::credits(within(1))), unit: "credits", note: html! { "by the index" }, spark: None }))
                (kpi(Figure { label: "Last 24 hours", value: Some(words::credits(within(24))), unit: "credits", note: html! { "by the index" }, spark: None }))
                (kpi(Figure { label: "Last 7 days", value: Some(words::credits(within(168))), unit: "credits", note: html! { "by the index" }, spark: None }))
                (kpi(Figure { label: "Lifetime", value: Some(words::credits(lifetime)), unit: "credits", note: html! { "hosts that have left too" }, spark: None }))
            }
            div.grid {
                section.card.s8 { header { div { h2 { "By day" } p.sub { "Credits, by what was used" } } div.more { (legend(&RESOURCES)) } } (ui::bars(&bars, &RESOURCES.map(|r| r.1), "Earnings by day", false)) }
                section.card.s4 { header { div { h2 { "By host" } p.sub { "The last 4 weeks" } } } @if ranked.is_empty() { (empty("server", "None", "No receipt in this time.", None)) } @else { (ui::hbars(&ranked, 1)) } }
            }
        }
        (cli("runrig wallet history"))
    };
    shown(&app, &visitor, Place::Earnings, "Earnings", content).await
}
