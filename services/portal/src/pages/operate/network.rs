//! How validators, the committee and hosts stand now.

use std::collections::BTreeMap;

use api::{HostView, MemberView, MembersView, ValidatorQueue};
use axum::extract::State;
use maud::{Markup, html};
use words::{brief, plural};

use super::tabs;
use crate::app::App;
use crate::index::{operate, query};
use crate::pages::explorer::{behind, now_of};
use crate::pages::hosts::host_state;
use crate::pages::shown;
use crate::ui::{
    self, Bar, Figure, Place, Slice, Tone, badge, cli, donut, empty, icon, kpi, meter, when,
};
use crate::web::{Page, Visitor};

const MINUTES: u64 = 61;
const DAY_MS: u64 = 86_400_000;
/// A head so much older than the newest is behind.
const BEHIND_MS: u64 = 5_000;

/// Where a validator sits, as a tone and words.
fn seat(member: &MemberView) -> (Tone, String) {
    match (member.place, member.seats.first()) {
        _ if member.convicted.is_some() => (Tone::Bad, "Convicted".into()),
        (Some(place), _) => (Tone::Ok, format!("Sits, place {place}")),
        (None, Some(epoch)) => (Tone::Info, format!("From epoch {epoch}")),
        (None, None) if member.leaving.is_some() => (Tone::Warn, "Leaving".into()),
        (None, None) if member.other_duties => (Tone::Info, "Other duties".into()),
        (None, None) => (Tone::Plain, "No seat".into()),
    }
}

fn validators(
    members: &MembersView,
    queues: &[ValidatorQueue],
    missed: &BTreeMap<String, u64>,
) -> Markup {
    let of: BTreeMap<_, _> = queues
        .iter()
        .filter_map(|q| q.queue.as_ref().map(|said| (said.validator, said)))
        .collect();
    let newest = of.values().map(|q| q.time_ms).max().unwrap_or(0);
    let silent = queues.iter().filter(|q| q.queue.is_none());
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "Validator" } th { "Seat" } th { "State" } th.num { "Head" } th.num { "Finality" } th.num { "Missed, 24 h" } th.num { "Led of 100" } th.num { "Peers" } th.num { "Waiting" } } }
            tbody {
                @for member in &members.members {
                    @let (tone, words) = seat(member);
                    @let said = of.get(&member.key);
                    @let key = member.key.to_string();
                    tr {
                        td { span.mono.strong title=(key) { (brief(&key)) } span.second { (member.address) } }
                        td data-l="Seat" { (badge(tone, &words)) }
                        td data-l="State" { @match said {
                            Some(q) if q.time_ms + BEHIND_MS < newest => { (badge(Tone::Warn, "Behind")) }
                            Some(_) => { (badge(Tone::Ok, "Answers")) }
                            None => { span.dim title="The gateway does not ask it" { "not known" } }
                        } }
                        @if let Some(q) = said {
                            td.num data-l="Head" { (words::grouped(q.height.into())) }
                            td.num data-l="Finality" { span.nowrap title="Its clock less the time of the last final block" { (q.late_ms) " ms" } }
                        } @else { td.num data-l="Head" { "–" } td.num data-l="Finality" { "–" } }
                        td.num data-l="Missed, 24 h" { @match missed.get(&key) { Some(times) => { a href="/operate/incidents?kind=turns" { (plural(*times, "turn", "turns")) } } None => { "0" } } }
                        td.num data-l="Led of 100" { (member.led) }
                        td.num data-l="Peers" { @match said { Some(q) => { (q.peers) } None => { "–" } } }
                        td.num data-l="Waiting" { @match said { Some(q) => { a href="/operate/queue" { (words::grouped(q.waiting.into())) } } None => { "–" } } }
                    }
                }
                @for one in silent { tr {
                    td { span.mono.strong { (one.address) } span.second.wrap { (one.why) } }
                    td data-l="Seat" { span.dim { "not known" } }
                    td data-l="State" { (badge(Tone::Bad, "Silent")) }
                    @for _ in 0..6 { td.num {} }
                } }
            }
        } }
    }
}

fn committee(members: &MembersView) -> Markup {
    let blocks = members.epoch_blocks.max(1);
    let done = members.height % blocks;
    let sits = |epoch: u64| {
        let seated = members.members.iter().filter(|m| m.seats.contains(&epoch));
        seated.count() as u64
    };
    html! {
        section.card.s4 {
            header { div { h2 { "Committee" } p.sub { "Epoch " (words::grouped(members.epoch.into())) } } }
            div.row { span.ink2 { "Blocks of this epoch" } span.num.strong { (done) " / " (blocks) } }
            (meter(done.into(), blocks.into(), "full"))
            dl.facts {
                @for epoch in members.epoch..=members.epoch + 3 {
                    dt { @if epoch == members.epoch { "Sit now" } @else { "Drawn for epoch " (words::grouped(epoch.into())) } }
                    dd { @match sits(epoch) { 0 => { span.dim { "not decided yet" } } n => { (plural(n, "validator", "validators")) } } }
                }
                dt { "May be drawn" } dd { (plural(members.members.len() as u64, "validator", "validators")) }
                dt { "A validator bonds" } dd { (ui::credits(members.bond)) " credits" }
            }
        }
    }
}

fn hosts_by_state(hosts: &[HostView], now_ms: u64) -> Vec<Slice> {
    let states = [
        ("Online", 1),
        ("On trial", 3),
        ("Draining", 2),
        ("Closed", 5),
        ("Takes no new work", 6),
        ("Silent", 4),
    ];
    let slices = states.map(|(label, colour)| Slice {
        label: label.into(),
        count: hosts
            .iter()
            .filter(|h| host_state(h, now_ms).1 == label)
            .count() as u64,
        colour,
    });
    slices.into_iter().filter(|s| s.count > 0).collect()
}

/// One bar for each full minute.
fn minutes(counts: &[u64], until_ms: u64) -> Vec<Bar> {
    let last = until_ms / 60_000;
    let first = last.saturating_sub(counts.len() as u64);
    counts
        .iter()
        .enumerate()
        .map(|(at, count)| {
            let label = words::clock((first + at as u64) * 60_000)[..5].to_string();
            Bar {
                title: format!("{label}: {count}"),
                label,
                parts: vec![*count as f64],
                plan: None,
            }
        })
        .collect()
}

/// `GET /operate`
pub async fn network(State(app): State<App>, visitor: Visitor) -> Page {
    let status = app.client.status().await?;
    let members = app.client.members().await?;
    let queues = app.client.queues().await?;
    let hosts = app.client.hosts().await?;
    let now = now_of(&app);
    let until = status.time_ms;
    let (transactions, placed, missed, (without, waiting)) = app
        .index
        .ask(move |store| {
            Ok((
                query::per_minute(store, until, MINUTES)?,
                operate::placed_per_minute(store, until, MINUTES)?,
                operate::missed(store, until.saturating_sub(DAY_MS))?,
                operate::wait_counts(store, until.saturating_sub(DAY_MS))?,
            ))
        })
        .await?;
    // The minute that has not ended says nothing yet.
    let full = |counts: &[u64]| counts[..counts.len().saturating_sub(1)].to_vec();
    let (transactions, placed) = (full(&transactions), full(&placed));
    let answering = queues.iter().filter(|q| q.queue.is_some()).count();
    let seated = members.members.iter().filter(|m| m.place.is_some()).count();
    let online = hosts.iter().filter(|h| h.online).count();
    let stale = behind(&app);
    let per_second = |counts: &[u64]| {
        let last = counts.last().copied().unwrap_or(0);
        stale
            .is_none()
            .then(|| format!("{:.1}", last as f64 / 60.0))
    };
    let lines = |counts: &[u64]| {
        let values: Vec<f64> = counts.iter().map(|n| *n as f64).collect();
        ui::spark(&values)
    };
    let content = html! {
        div.pagehead { div { h1 { "Network" } p.sub { (status.name) ", as its validators answer now" } } div.acts { a.btn href="/operate/incidents" { (icon("triangle-alert")) "Incidents" } } }
        (tabs("/operate"))
        @if let Some(said) = &stale { (said) }
        div.grid {
            (kpi(Figure { label: "Finalised block", value: Some(words::grouped(status.height.into())), unit: "", note: html! { (when(status.time_ms, now)) " ago" }, spark: None }))
            (kpi(Figure { label: "Validators that answer", value: Some(answering.to_string()), unit: &format!("of {}", queues.len()), note: html! { (plural(seated as u64, "seat", "seats")) " in the committee" }, spark: None }))
            (kpi(Figure { label: "Hosts online", value: Some(online.to_string()), unit: &format!("of {}", hosts.len()), note: html! { a href="/explorer/hosts" { "All hosts" } }, spark: None }))
            (kpi(Figure { label: "Throughput", value: per_second(&transactions), unit: "transactions/s", note: html! { "in the last full minute" }, spark: lines(&transactions) }))
        }
        div.grid {
            section.card.flush.s12 {
                header { div { h2 { "Validators" } p.sub { "Asked through this portal's gateway a moment ago; seats by the ledger, missed turns by headers of blocks" } } }
                (validators(&members, &queues, &missed))
            }
            (committee(&members))
            section.card.s4 {
                header { div { h2 { "Hosts" } p.sub { "By state" } } div.more { a href="/explorer/hosts" { "All hosts" (icon("chevron-right")) } } }
                @if hosts.is_empty() { (empty("server", "No host has joined", "A machine joins with one command.", Some(("/hosts/new", "Lend a machine")))) }
                @else { (donut(&hosts_by_state(&hosts, now), "host", "hosts")) }
            }
            section.card.s4 {
                header { div { h2 { "Placements" } p.sub { "Replicas given a place, the last hour" } } div.more { a href="/operate/placements" { "Without a place" (icon("chevron-right")) } } }
                dl.facts {
                    dt { "In the last hour" } dd.strong { (words::grouped(placed.iter().map(|n| u128::from(*n)).sum())) }
                    dt { "Most in a minute" } dd { (placed.iter().max().copied().unwrap_or(0)) }
                    dt { "A second, last full minute" } dd { @match per_second(&placed) { Some(rate) => { (rate) } None => { span.dim { "not known" } } } }
                    dt { "Had no place, 24 h" } dd { a href="/operate/placements" { (plural(without, "replica", "replicas")) } }
                    dt { "Not placed since" } dd { @if waiting > 0 { span.warn { (plural(waiting, "replica", "replicas")) } } @else { "none" } }
                }
            }
            section.card.s12 {
                header { div { h2 { "Transactions" } p.sub { "In blocks of each minute of the last hour, reports of hosts among them" } } }
                @if transactions.iter().all(|n| *n == 0) { (empty("activity", "None in this hour", "No block of the last hour has a transaction, or the index has just begun.", None)) }
                @else { (ui::counts(&minutes(&transactions, until), &[1], "Transactions by minute", "transactions", true)) }
            }
        }
        (cli("runrig network status"))
    };
    shown(&app, &visitor, Place::Operate, "Network", content).await
}
