//! Hosts of the network: what each has, what of it is let, what happened on it.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use browser::About;
use maud::{Markup, html};
use types::{HostId, Hours};
use words::{bytes, cores};

use super::explorer::{happenings, now_of};
use super::host_list::Filter;
use super::{lend, proof, shown};
use crate::app::App;
use crate::index::lent::{self, Runs};
use crate::index::{EventFilter, query};
use crate::ui::{Figure, Place, Tone, badge, cli, credits, crumbs, empty, icon, kpi, meter, when};
use crate::web::{Page, Trouble, Visitor};

/// State of a host as a tone and a word.
pub fn host_state(host: &api::HostView, now_ms: u64) -> (Tone, &'static str) {
    match host {
        // It may be away.
        h if h.closed => (Tone::Info, "Closed"),
        h if !h.online => (Tone::Bad, "Silent"),
        h if h.draining => (Tone::Warn, "Draining"),
        h if h.cordoned => (Tone::Warn, "Takes no new work"),
        h if h.trusted_ms > now_ms => (Tone::Info, "On trial"),
        _ => (Tone::Ok, "Online"),
    }
}

/// The same as a badge, with when it opens again.
fn state_badge(host: &api::HostView, now_ms: u64) -> Markup {
    let (tone, word) = host_state(host, now_ms);
    match host.closed_until_ms(now_ms) {
        Some(ms) => badge(tone, &format!("{word} until {}", Hours::moment(ms))),
        None => badge(tone, word),
    }
}

fn used(host: &api::HostView) -> [(&'static str, u128, u128, String); 3] {
    let (has, free) = (&host.offer.capacity, &host.free);
    let cpu = u64::from(has.cpu_millis.saturating_sub(free.cpu_millis));
    let memory = has.memory_bytes.saturating_sub(free.memory_bytes);
    let disk = has.disk_bytes.saturating_sub(free.disk_bytes);
    [
        (
            "CPU",
            cpu.into(),
            has.cpu_millis.into(),
            format!("{} / {} cores", cores(cpu), cores(has.cpu_millis.into())),
        ),
        (
            "Memory",
            memory.into(),
            has.memory_bytes.into(),
            format!(
                "{} / {}",
                bytes(memory.into()),
                bytes(has.memory_bytes.into())
            ),
        ),
        (
            "Disk",
            disk.into(),
            has.disk_bytes.into(),
            format!("{} / {}", bytes(disk.into()), bytes(has.disk_bytes.into())),
        ),
    ]
}

/// A table of hosts: what each has and what of it is let; `runs`: how what ran there ended.
pub fn host_table(
    hosts: &[&api::HostView],
    now_ms: u64,
    runs: Option<&BTreeMap<HostId, Runs>>,
) -> Markup {
    html! {
        div.tablewrap {
            table.cards {
                thead { tr { th { "Host" } th { "State" } th { "CPU let" } th { "Memory let" } th { "Disk let" } th.num { "Replicas" } th.num { "Earned" } @if runs.is_some() { th.num { "Ended well" } } th { "Last heard" } } }
                tbody {
                    @for host in hosts {
                        tr {
                            td { a.row href=(format!("/explorer/hosts/{}", host.host)) { (host.name) } span.second { (host.offer.architecture) " · " @if host.offer.region.is_empty() { "region not said" } @else { (host.offer.region) } } }
                            td data-l="State" { (state_badge(host, now_ms)) }
                            @for (label, part, whole, said) in used(host) { td data-l=(label) { (meter(part, whole, "")) span.nowrap { (said) } } }
                            td.num data-l="Replicas" { (host.allocations) }
                            td.num.strong data-l="Earned" { (credits(host.earned)) }
                            @if let Some(runs) = runs { td.num data-l="Ended well" { (ended_well(runs.get(&host.host).copied().unwrap_or_default())) } }
                            td data-l="Last heard" { span { (when(host.last_seen_ms, now_ms)) " ago" } }
                        }
                    }
                }
            }
        }
    }
}

/// The part of what ran there that ended well.
fn ended_well(runs: Runs) -> Markup {
    html! {
        @match runs.milli() {
            Some(milli) => { span.nowrap { b { (words::percent(milli)) } " of " (words::grouped(runs.ended.into())) } }
            None => { span.dim { "none ended" } }
        }
    }
}

/// `GET /explorer/hosts`
pub async fn list(State(app): State<App>, visitor: Visitor, Query(filter): Query<Filter>) -> Page {
    let hosts = app.client.hosts().await?;
    let now = now_of(&app);
    let listed = filter.of(&hosts, now);
    let sum =
        |of: fn(&api::HostView) -> u128| hosts.iter().filter(|h| h.online).map(of).sum::<u128>();
    let content = html! {
        div.pagehead { div { h1 { "Hosts" } p.sub { "Machines that run what the ledger places on them" } } div.acts { a.btn href="/hosts/new" { (icon("plus")) "Lend a machine" } } }
        div.grid {
            (kpi(Figure { label: "Online", value: Some(hosts.iter().filter(|h| h.online).count().to_string()), unit: &format!("of {}", hosts.len()), note: html! {}, spark: None }))
            (kpi(Figure { label: "Free cores", value: Some(cores(sum(|h| h.free.cpu_millis.into()) as u64)), unit: &format!("of {}", cores(sum(|h| h.offer.capacity.cpu_millis.into()) as u64)), note: html! { "of hosts that are online" }, spark: None }))
            (kpi(Figure { label: "Free memory", value: Some(bytes(sum(|h| h.free.memory_bytes.into()))), unit: "", note: html! { "of " (bytes(sum(|h| h.offer.capacity.memory_bytes.into()))) }, spark: None }))
            (kpi(Figure { label: "Free disk", value: Some(bytes(sum(|h| h.free.disk_bytes.into()))), unit: "", note: html! { "of " (bytes(sum(|h| h.offer.capacity.disk_bytes.into()))) }, spark: None }))
        }
        div.card.flush {
            header { (listed.form("/explorer/hosts")) }
            (listed.table("/explorer/hosts", now, None))
        }
        (cli("runrig host ls"))
    };
    shown(&app, &visitor, Place::NetworkHosts, "Hosts", content).await
}

/// `GET /explorer/hosts/{id}`
pub async fn one(State(app): State<App>, visitor: Visitor, Path(id): Path<String>) -> Page {
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || id.len() > 64 {
        return Err(Trouble::missing("There is no such host"));
    }
    let host = app.client.host(&id).await?;
    let filter = EventFilter {
        host: Some(host.host.to_string()),
        ..EventFilter::default()
    };
    let id = host.host;
    let (events, runs) = app
        .index
        .ask(move |c| Ok((query::events(c, &filter, 25)?, lent::runs(c, &[id])?)))
        .await?;
    let now = now_of(&app);
    let account = host.host.to_string();
    let me = visitor.login.as_ref().map(|login| login.account());
    let own = me == Some(host.owner);
    let market = app.client.hosts().await?;
    let content = html! {
        (crumbs(&[("/explorer", "Explorer"), ("/explorer/hosts", "Hosts")]))
        div.pagehead { div { h1 { (host.name) } p.sub.mono.wrap { (account) } } div.acts { (state_badge(&host, now)) } }
        div.grid {
            section.card.s6 {
                header { div { h2 { "What it lends" } p.sub { "Reserved of what it offers" } } }
                div.stack {
                    @for (label, part, whole, said) in used(&host) {
                        div { div.row { span.ink2 { (label) } span.num.strong { (said) } } (meter(part, whole, "full")) }
                    }
                }
            }
            section.card.s6 {
                header { div { h2 { "What is known of it" } } }
                dl.facts {
                    dt { "Owner, who is paid" } dd { a.mono href=(format!("/explorer/accounts/{}", host.owner)) { (host.owner) } }
                    dt { "Asks" } dd { (words::percent(host.offer.price_multiplier_milli)) " of the network's rates" }
                    dt { "Takes work" } dd { (words::in_hours(host.hours.as_ref())) }
                    dt { "Earned in all" } dd { (credits(host.earned)) " credits" }
                    dt { "Replicas on it" } dd { (host.allocations) }
                    dt { "Runs that ended well" } dd { (ended_well(runs.get(&id).copied().unwrap_or_default())) }
                    dt { "Usage reports" } dd { (words::grouped(host.interval.into())) }
                    dt { "Last heard" } dd { (when(host.last_seen_ms, now)) " ago" }
                    dt { "Bandwidth" } dd { (host.offer.capacity.bandwidth_kbps / 1000) " Mbit/s offered, " (host.free.bandwidth_kbps / 1000) " free" }
                    dt { "Reputation" } dd { (reputation(&host.reputation)) }
                    @if let Some(flag) = &host.flag {
                        dt { "Flagged by witnesses" } dd { (when(flag.time_ms, now)) " ago: " (flag.witnesses.len()) " of " (flag.drawn) " got no answer from what it said was running (" (flag.saw) ", " span.mono { (flag.allocation) } ")" }
                    }
                    dt { "Region" } dd { @if host.offer.region.is_empty() { "not said by its owner" } @else { (host.offer.region) } }
                }
            }
            (lend::market(&host, &market))
            @if own { (lend::forms(&visitor, &host)) }
            section.card.s12 {
                header { div { h2 { "What happened on it" } } }
                @if events.is_empty() { (empty("activity", "Nothing yet", "No event names this host.", None)) } @else { (happenings(&events, now)) }
            }
            (proof::card(&app, About::Host(host.host)))
        }
        (cli(&format!("runrig host show {} --verify", host.name)))
    };
    proof::shown_with_check(&app, &visitor, Place::NetworkHosts, &host.name, content).await
}

/// `0.86 of 1`, and what speaks against it.
fn reputation(r: &api::Reputation) -> String {
    let mut words = vec![of_one(r.reliability_milli)];
    words.extend(against(r));
    words.join(", ")
}

/// `0.860 of 1`
pub fn of_one(milli: u32) -> String {
    format!("{}.{:03} of 1", milli / 1_000, milli % 1_000)
}

/// What speaks against a host, as `fell silent twice`.
pub fn against(r: &api::Reputation) -> Vec<String> {
    let mut words = Vec::new();
    for (milli, what) in [
        (r.silences_milli, "fell silent"),
        (r.late_milli, "reported late"),
        (r.flags_milli, "gave witnesses no answer"),
    ] {
        // What is all but forgotten is not worth a word.
        match (milli + 500) / 1_000 {
            0 => {}
            count => words.push(format!("{what} {}", times(count))),
        }
    }
    words
}

fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        count => format!("{count} times"),
    }
}
