//! Lenders: their hosts, how a machine joins, what they earned.

use axum::extract::State;
use maud::html;
use types::Amount;

use super::explorer::now_of;
use super::hosts::host_table;
use super::overview::{RESOURCES, length, sum};
use super::shown;
use crate::app::App;
use crate::index::query::{self, Side, Spent};
use crate::ui::{self, Bar, Figure, Place, cli, credits, empty, icon, kpi, legend};
use crate::web::{Page, Visitor};
use crate::words;

/// Hosts of which it is shown what each earned.
const HOSTS_SHOWN: usize = 50;

/// `GET /hosts`
pub async fn hosts(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let all = app.client.hosts().await?;
    let own: Vec<&api::HostView> = all.iter().filter(|h| h.owner == me).collect();
    let earned = Amount(own.iter().map(|h| h.earned.0).sum());
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

/// `GET /hosts/new`
pub async fn new(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let params = app.client.params().await?;
    let line = format!(
        "sudo runrig host join --network {} --data /var/lib/runrig --name my-machine --owner {me}",
        app.gateway
    );
    let core_day = Amount(params.tariff.cpu.0 * 86_400);
    let gib_day = Amount(params.tariff.memory.0 * 86_400);
    let content = html! {
        (ui::crumbs(&[("/hosts", "My hosts")]))
        div.pagehead { div { h1 { "Lend a machine" } p.sub { "One command; it checks the machine, offers it, and earns for what runs on it." } } }
        div.grid {
            section.card.s7 {
                header { div { h2 { "Three steps" } } }
                ol.steps {
                    li { span.strong { "Check the machine" } span.dim { "It says what is missing and how to mend it." } div.code tabindex="0" { "runrig doctor" } }
                    li { span.strong { "Join" } span.dim { "Pay goes to your account. Say --cpus, --memory and --disk to lend only a part." } div.code.soft tabindex="0" { (line) } (ui::copy(&line, "the command")) }
                    li { span.strong { "Watch it work" } span.dim { "It appears under " a href="/hosts" { "My hosts" } " within seconds, and gets work as soon as somebody deploys something that fits." } }
                }
            }
            div.s5.stack {
                section.card {
                    header { div { h2 { "What it needs" } } }
                    ul.feed {
                        (ui::feed("cpu", "Linux on amd64 or arm64, as root", html! { "kernel 5.15 or newer" }, None))
                        (ui::feed("memory-stick", "Control groups, version 1 or 2", html! { "limits and measures what runs" }, None))
                        (ui::feed("network", "A way to the gateway", html! { "others reach it directly, or through a relay" }, None))
                        (ui::feed("clock", "A clock that is right", html! { "within " (params.clock_skew_ms / 1000) " s of the network's" }, None))
                    }
                }
                section.card {
                    header { div { h2 { "What it earns" } p.sub { "For what is used, by the network's tariff" } } }
                    dl.facts {
                        dt { "A core that computes all day" } dd.strong { (credits(core_day)) " credits" }
                        dt { "A GiB of memory in use all day" } dd.strong { (credits(gib_day)) " credits" }
                        dt { "Paid" } dd { "every " (words::span(params.report_interval_ms)) ", with a receipt" }
                    }
                }
            }
        }
        (cli("runrig host join --help"))
    };
    shown(&app, &visitor, Place::Hosts, "Lend a machine", content).await
}

/// `GET /earnings`
pub async fn earnings(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let all = app.client.hosts().await?;
    let own: Vec<&api::HostView> = all.iter().filter(|h| h.owner == me).collect();
    let lifetime = Amount(own.iter().map(|h| h.earned.0).sum());
    let now = now_of(&app);
    let hour = now / 3_600_000;
    let since = hour.saturating_sub(24 * 28);
    let (rows, by_host) = app
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
                (kpi(Figure { label: "Lifetime", value: Some(words::credits(lifetime)), unit: "credits", note: html! { "by the ledger" }, spark: None }))
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
