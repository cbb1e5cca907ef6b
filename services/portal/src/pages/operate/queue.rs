//! What waits for a block, validator by validator.

use api::{QueueView, ValidatorQueue};
use axum::extract::State;
use axum::response::IntoResponse;
use maud::{Markup, html};
use words::{brief, bytes, plural};

use super::tabs;
use crate::app::App;
use crate::pages::shown;
use crate::ui::{Figure, Place, Tone, alert, badge, cli, credits, empty, kpi, meter};
use crate::web::{Page, Trouble, Visitor};

fn oldest(queue: &QueueView) -> Option<u64> {
    Some(queue.height.saturating_sub(queue.oldest?))
}

fn figures(queues: &[ValidatorQueue]) -> Markup {
    let said: Vec<&QueueView> = queues.iter().filter_map(|q| q.queue.as_ref()).collect();
    let known = !said.is_empty();
    let most = said.iter().map(|q| q.waiting).max();
    let dearest = said
        .iter()
        .filter_map(|q| q.tips.first())
        .map(|one| one.tip)
        .max();
    let age = said.iter().filter_map(|q| oldest(q)).max();
    let number = |n: Option<u64>| n.map(|n| words::grouped(n.into()));
    html! {
        div.grid {
            (kpi(Figure { label: "Longest queue", value: number(most), unit: if most == Some(1) { "transaction" } else { "transactions" }, note: html! { "room for " (words::grouped(said.first().map_or(0, |q| q.waiting_max).into())) }, spark: None }))
            (kpi(Figure { label: "Waits longest", value: known.then(|| age.map_or_else(|| "–".into(), |blocks| words::grouped(blocks.into()))), unit: match age { None => "", Some(1) => "block", Some(_) => "blocks" }, note: html! { @match said.first() { Some(q) => { "forgotten after " (words::grouped(q.age_max.into())) " without a block" } None => {} } }, spark: None }))
            (kpi(Figure { label: "Highest tip waiting", value: known.then(|| dearest.map_or_else(|| "–".into(), words::credits)), unit: if dearest.is_some() { "credits" } else { "" }, note: html! { "it goes first" }, spark: None }))
            (kpi(Figure { label: "Validators asked", value: Some(said.len().to_string()), unit: &format!("of {} answer", queues.len()), note: html! { "a moment ago" }, spark: None }))
        }
    }
}

fn table(queues: &[ValidatorQueue]) -> Markup {
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "Validator" } th { "Waiting" } th.num { "Size" } th.num { "Submitted there" } th.num { "Accounts" } th.num { "Oldest" } th { "By tip" } } }
            tbody { @for one in queues { tr {
                @match &one.queue {
                    Some(q) => {
                        @let key = q.validator.to_string();
                        td { span.mono.strong title=(key) { (brief(&key)) } span.second { (one.address) } }
                        td data-l="Waiting" { (meter(q.waiting.into(), q.waiting_max.into(), "")) span.nowrap { (words::grouped(q.waiting.into())) " of " (words::grouped(q.waiting_max.into())) } }
                        td.num data-l="Size" { span.nowrap title=(format!("room for {}", bytes(q.bytes_max.into()))) { (bytes(q.bytes.into())) } }
                        td.num data-l="Submitted there" { (words::grouped(q.own.into())) }
                        td.num data-l="Accounts" { (words::grouped(q.senders.into())) }
                        td.num data-l="Oldest" { @match oldest(q) { Some(blocks) => { span.nowrap { (plural(blocks, "block", "blocks")) } } None => { "–" } } }
                        td data-l="By tip" {
                            @if q.tips.is_empty() { span.dim { "nothing waits" } }
                            div { @for one in &q.tips { span.second.nowrap { (credits(one.tip)) " credits: " b { (words::grouped(one.waiting.into())) } ", " (bytes(one.bytes.into())) } } }
                        }
                    }
                    None => {
                        td { span.mono.strong { (one.address) } span.second.wrap { (one.why) } }
                        td data-l="Waiting" { (badge(Tone::Bad, "Silent")) }
                        @for _ in 0..4 { td.num {} }
                        td { span.dim { "not known" } }
                    }
                }
            } } }
        } }
    }
}

async fn part(app: &App) -> Result<Markup, Trouble> {
    let queues = app.client.queues().await?;
    Ok(html! {
        (figures(&queues))
        section.card.flush {
            header { div { h2 { "By validator" } p.sub { "A transaction waits where it was submitted and at those who lead next, so that one may be counted at several" } } }
            @if queues.is_empty() { (empty("list", "No validator is known", "The gateway names none.", None)) } @else { (table(&queues)) }
        }
    })
}

/// `GET /operate/queue/now`: what the page reads again.
pub async fn now(State(app): State<App>) -> Page {
    Ok(part(&app).await?.into_response())
}

/// `GET /operate/queue`
pub async fn queue(State(app): State<App>, visitor: Visitor) -> Page {
    let params = app.client.params().await?;
    let now = part(&app).await?;
    let content = html! {
        div.pagehead { div { h1 { "Queue" } p.sub { "Transactions that wait for a block: the highest tip first, of one tip by turns, so that who sends much waits behind himself" } } }
        (tabs("/operate/queue"))
        @if params.fee.is_zero() { (alert(Tone::Info, html! { p { "This network asks no fee; a tip is whatever its sender gives." } })) } @else { p.sub { "Beside its tip a user's transaction costs " (credits(params.fee)) " credits; reports of hosts and validators cost nothing." } }
        div data-refresh="/operate/queue/now" data-every="3" { (now) }
        (cli("runrig network queue"))
    };
    shown(&app, &visitor, Place::Operate, "Queue", content).await
}
