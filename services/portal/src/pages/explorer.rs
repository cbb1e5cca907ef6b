//! The explorer: blocks, transactions, accounts, hosts, receipts, the network. No login.
//!
//! Lists come from the index; what one page is about is asked of the API, so that it is the
//! ledger's word. Every proof stands beside the command that checks it, and a button that has the
//! browser check it.

use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use browser::About;
use maud::{Markup, html};
use serde::Deserialize;
use types::{AccountId, Amount, Digest, ReceiptId};
use words::{brief, cores, plural, utc};

use super::{proof, shown};
use crate::app::App;
use crate::index::query::{self, PAGE};
use crate::index::{BlockRow, EventFilter, EventRow, TransactionRow};
use crate::ui::{
    self, Figure, Place, Tone, alert, badge, cli, copy, credits, crumbs, empty, feed, icon, kpi,
    pager, when,
};
use crate::web::{Page, Trouble, Visitor};

/// Rows of the lists on the first page.
const LATEST: usize = 8;

#[derive(Deserialize)]
pub struct Before {
    before: Option<u64>,
    all: Option<String>,
}

/// What the index lacks, if it lacks anything.
pub fn behind(app: &App) -> Option<Markup> {
    let progress = app.progress.borrow().clone();
    if let Some(trouble) = &progress.trouble {
        return Some(alert(
            Tone::Warn,
            html! {
                p.strong { "These lists are not up to date" }
                p { "They end at block " (words::grouped(progress.height.into())) ". The index waits: " (trouble) }
            },
        ));
    }
    (progress.head > progress.height + 50).then(|| {
        alert(
            Tone::Info,
            html! {
                p.strong { "The index is being made" }
                p { "It has " (words::grouped(progress.height.into())) " of " (words::grouped(progress.head.into())) " blocks; lists grow until it is done." }
            },
        )
    })
}

fn event_icon(kind: &str) -> &'static str {
    match kind {
        "transfer" => "arrow-left-right",
        "host" => "server",
        "deploy" | "release" => "rocket",
        "placement" | "unplaced" => "map-pin",
        "status" => "activity",
        "receipt" => "receipt-text",
        "funds" => "coins",
        "removal" | "lease" => "box",
        _ => "info",
    }
}

/// Happenings as a list; a receipt leads to its page.
pub fn happenings(rows: &[EventRow], now_ms: u64) -> Markup {
    html! {
        ul.feed {
            @for row in rows {
                (feed(
                    event_icon(&row.kind),
                    &row.words,
                    html! {
                        a href=(format!("/explorer/blocks/{}", row.height)) { "Block " (words::grouped(row.height.into())) }
                        @if let Some(receipt) = row.receipt { " · " a href=(format!("/explorer/receipts/r-{receipt}")) { "receipt r-" (receipt) } }
                        " · " (when(row.time_ms, now_ms)) " ago"
                    },
                    row.amount.map(credits),
                ))
            }
        }
    }
}

fn block_table(rows: &[BlockRow], now_ms: u64) -> Markup {
    html! {
        div.tablewrap {
            table.cards {
                thead { tr { th { "Block" } th { "Age" } th.num { "Transactions" } th.num { "Events" } th { "Led by" } } }
                tbody {
                    @for row in rows {
                        tr {
                            td { a.row href=(format!("/explorer/blocks/{}", row.height)) { (words::grouped(row.height.into())) } }
                            td data-l="Age" { (when(row.time_ms, now_ms)) }
                            td.num data-l="Transactions" { (row.transactions) }
                            td.num data-l="Events" { (row.events) }
                            td data-l="Led by" { span.mono.dim title=(row.proposer) { (brief(&row.proposer)) } }
                        }
                    }
                }
            }
        }
    }
}

fn transaction_table(rows: &[TransactionRow], now_ms: u64) -> Markup {
    html! {
        div.tablewrap {
            table.cards {
                thead { tr { th { "What" } th { "Kind" } th { "Block" } th { "Age" } th { "Transaction" } } }
                tbody {
                    @for row in rows {
                        tr {
                            td.wrap {
                                a.row href=(format!("/explorer/transactions/{}", row.id)) { (row.words) }
                                @if let Some(why) = &row.refused { span.second.bad { "Rejected: " (why) } }
                            }
                            td data-l="Kind" { span.tag { (row.kind) } }
                            td data-l="Block" { a href=(format!("/explorer/blocks/{}", row.height)) { (words::grouped(row.height.into())) } }
                            td data-l="Age" { (when(row.time_ms, now_ms)) }
                            td data-l="Id" { span.mono.dim title=(row.id) { (brief(&row.id)) } }
                        }
                    }
                }
            }
        }
    }
}

async fn latest_part(app: &App) -> Result<Markup, Trouble> {
    let (blocks, transactions) = app
        .index
        .ask(|c| {
            Ok((
                query::blocks(c, None, LATEST)?,
                query::transactions(c, None, false, LATEST)?,
            ))
        })
        .await?;
    let now = now_of(app);
    Ok(html! {
        div.grid {
            section.card.flush.s5 {
                header { div { h2 { "Latest blocks" } p.sub { "Each certified by the committee" } } div.more { a href="/explorer/blocks" { "All blocks" } (icon("chevron-right")) } }
                @if blocks.is_empty() { (empty("box", "No block yet", "The index has just begun.", None)) }
                @else {
                    div.tablewrap tabindex="0" { table {
                        thead { tr { th { "Block" } th.num { "Transactions" } th.num { "Age" } } }
                        tbody { @for row in &blocks { tr {
                            td { a.row href=(format!("/explorer/blocks/{}", row.height)) { (words::grouped(row.height.into())) } }
                            td.num { (row.transactions) }
                            td.num { (when(row.time_ms, now)) }
                        } } }
                    } }
                }
            }
            section.card.s7 {
                header { div { h2 { "Latest transactions" } p.sub { "What hosts report by themselves is left out" } } div.more { a href="/explorer/transactions" { "All transactions" } (icon("chevron-right")) } }
                @if transactions.is_empty() { (empty("arrow-left-right", "Nothing was asked yet", "Deploys, transfers and registrations come here.", None)) }
                @else {
                    ul.feed {
                        @for row in &transactions {
                            li {
                                span.ic { (icon(transaction_icon(&row.kind))) }
                                div.tx {
                                    span.wrap { a href=(format!("/explorer/transactions/{}", row.id)) { (row.words) } }
                                    span.second { "Block " (words::grouped(row.height.into())) " · " (when(row.time_ms, now)) " ago" @if row.refused.is_some() { " · " span.bad { "rejected" } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    })
}

fn transaction_icon(kind: &str) -> &'static str {
    match kind {
        "transfer" => "arrow-left-right",
        "test credits" => "gift",
        "deploy" | "rollback" => "rocket",
        "removal" => "trash-2",
        "control" => "power",
        "status report" => "activity",
        "usage report" => "gauge",
        _ => "server",
    }
}

/// The chain's time, as far as known.
pub fn now_of(app: &App) -> u64 {
    let tick = *app.tick.borrow();
    api::now_ms().max(tick.time_ms)
}

/// `GET /explorer/latest`: what the first page reads again.
pub async fn latest(State(app): State<App>) -> Page {
    Ok(latest_part(&app).await?.into_response())
}

/// `GET /explorer`
pub async fn home(State(app): State<App>, visitor: Visitor) -> Page {
    let hosts = app.client.hosts().await?;
    let status = app.client.status().await?;
    let until = status.time_ms;
    let (totals, minutes) = app
        .index
        .ask(move |c| Ok((query::totals(c)?, query::per_minute(c, until, 31)?)))
        .await?;
    let online = hosts.iter().filter(|h| h.online).count();
    let cpu: u64 = hosts
        .iter()
        .filter(|h| h.online)
        .map(|h| u64::from(h.offer.capacity.cpu_millis))
        .sum();
    let free: u64 = hosts
        .iter()
        .filter(|h| h.online)
        .map(|h| u64::from(h.free.cpu_millis))
        .sum();
    // The minute that has not ended says nothing yet.
    let full: Vec<f64> = minutes
        .iter()
        .rev()
        .skip(1)
        .rev()
        .map(|n| *n as f64)
        .collect();
    let last = full.last().copied().unwrap_or(0.0);
    let late = behind(&app).is_some();
    let content = html! {
        div.hero {
            h1 { "Explorer" }
            p { "Everything that the network " (status.name) " has agreed on, open to everyone, in plain words, with proofs." }
            form.bigsearch action="/explorer/search" {
                (icon("search"))
                label.sr for="find" { "Search the ledger" }
                input.in id="find" name="q" type="search" placeholder="Block, transaction, account, host, r-1, d-3, a-7 or @handle" maxlength="100" autocomplete="off";
                button.btn.primary { "Search" }
            }
        }
        @if let Some(said) = behind(&app) { (said) }
        div.grid {
            (kpi(Figure { label: "Finalised block", value: Some(words::grouped(status.height.into())), unit: "", note: html! { (plural(status.validators.len() as u64, "validator", "validators")) " · " (when(status.time_ms, now_of(&app))) " ago" }, spark: None }))
            (kpi(Figure { label: "Transactions", value: (!late).then(|| format!("{last:.0}")), unit: "in the last minute", note: html! { (words::grouped(totals.events.into())) " events in all" }, spark: if late { None } else { ui::spark(&full) } }))
            (kpi(Figure { label: "Hosts online", value: Some(online.to_string()), unit: &format!("of {}", hosts.len()), note: html! { (cores(free)) " of " (cores(cpu)) " cores are free" }, spark: None }))
            (kpi(Figure { label: "Paid to hosts", value: Some(words::credits(totals.paid)), unit: "credits", note: html! { "in " (plural(totals.receipts, "receipt", "receipts")) }, spark: None }))
        }
        div data-refresh="/explorer/latest" data-every="3" { (latest_part(&app).await?) }
        (cli("runrig chain status"))
    };
    shown(&app, &visitor, Place::Explorer, "Explorer", content).await
}

/// `GET /explorer/blocks`
pub async fn blocks(State(app): State<App>, visitor: Visitor, Query(page): Query<Before>) -> Page {
    let rows = app
        .index
        .ask(move |c| query::blocks(c, page.before, PAGE))
        .await?;
    let next = (rows.len() == PAGE)
        .then(|| {
            rows.last()
                .map(|r| format!("/explorer/blocks?before={}", r.height))
        })
        .flatten();
    let range = match (rows.first(), rows.last()) {
        (Some(a), Some(b)) => format!(
            "Blocks {} to {}",
            words::grouped(a.height.into()),
            words::grouped(b.height.into())
        ),
        _ => "No blocks".into(),
    };
    let content = html! {
        div.pagehead { div { h1 { "Blocks" } p.sub { "Final as soon as they are here: each is under a certificate of the whole committee." } } }
        @if let Some(said) = behind(&app) { (said) }
        div.card.flush {
            (block_table(&rows, now_of(&app)))
            (pager(&range, page.before.map(|_| "/explorer/blocks"), next.as_deref()))
        }
        @if let Some(row) = rows.first() { (cli(&format!("runrig chain block {}", row.height))) }
    };
    shown(&app, &visitor, Place::Blocks, "Blocks", content).await
}

/// `GET /explorer/blocks/{height}`
pub async fn block(State(app): State<App>, visitor: Visitor, Path(height): Path<String>) -> Page {
    let wrong = || {
        Trouble::missing(format!(
            "There is no block {}",
            height.chars().take(30).collect::<String>()
        ))
    };
    let number: u64 = height.parse().map_err(|_| wrong())?;
    let block = app.client.block(number).await.map_err(|e| match e.kind() {
        "not_found" => wrong(),
        _ => e.into(),
    })?;
    let names = app.index.ask(query::names).await?;
    let filter = EventFilter {
        height: Some(number),
        ..EventFilter::default()
    };
    let events = app
        .index
        .ask(move |c| query::events(c, &filter, 200))
        .await?;
    let certified = certified(&app, &block);
    let clock = app.client.when(&number.to_string()).await.ok();
    let now = now_of(&app);
    let last = app.tick.borrow().height;
    let content = html! {
        (crumbs(&[("/explorer", "Explorer"), ("/explorer/blocks", "Blocks")]))
        div.pagehead {
            div { h1 { "Block " (words::grouped(number.into())) } }
            div.acts {
                @if number > 1 { a.btn.small href=(format!("/explorer/blocks/{}", number - 1)) { (icon("chevron-left")) "Before" } }
                @if number < last { a.btn.small href=(format!("/explorer/blocks/{}", number + 1)) { "After" (icon("chevron-right")) } }
            }
        }
        div.grid {
            section.card.s5 {
                header { div { h2 { "What it is" } } div.more { (certified) } }
                p.sentence { "Made " (when(block.time_ms, now)) " ago with " (plural(block.transactions.len() as u64, "transaction", "transactions")) ", which caused " (plural(events.len() as u64, "event", "events")) "." }
                dl.facts {
                    dt { "Time" } dd { (utc(block.time_ms)) " UTC" }
                    (between(clock.as_ref()))
                    dt { "Block" } dd.mono { (block.block.hex()) (copy(&block.block.hex(), "the block's digest")) }
                    dt { "Before it" } dd { @if number > 1 { a.mono href=(format!("/explorer/blocks/{}", number - 1)) { (brief(&block.parent.hex())) } } @else { span.mono { (brief(&block.parent.hex())) } } }
                    dt { "State root" } dd.mono { (block.state_root.hex()) }
                    dt { "Events root" } dd.mono { (block.events_root.hex()) }
                    dt { "Certificate" } dd { @if block.certificate.is_empty() { "under that of a later block" } @else { (block.certificate.len() / 4 * 3) " bytes" } }
                }
            }
            div.s7.stack {
                section.card {
                    header { div { h2 { "Transactions" } p.sub { "In the order in which they were executed" } } }
                    @if block.transactions.is_empty() { (empty("arrow-left-right", "None", "Blocks are made also when nobody asks for anything.", None)) }
                    @else {
                        ul.feed {
                            @for one in &block.transactions {
                                @let (kind, said) = match (&one.call, &one.sender) {
                                    (Some(call), Some(sender)) => (words::kind(call), words::call(call, sender, &names)),
                                    _ => ("unreadable", "Bytes that are no transaction".to_string()),
                                };
                                li {
                                    span.ic { (icon(transaction_icon(kind))) }
                                    div.tx {
                                        span.wrap { a href=(format!("/explorer/transactions/{}", one.id.hex())) { (said) } }
                                        span.second { (kind) " · " span.mono { (brief(&one.id.hex())) } @if let Some(r) = &one.rejection { " · " span.bad { "rejected: " (r.why) } } }
                                    }
                                }
                            }
                        }
                    }
                }
                @if !events.is_empty() {
                    section.card {
                        header { div { h2 { "Events" } p.sub { "Leaves of the events root" } } }
                        (happenings(&events, now))
                    }
                }
            }
            @if clock.is_some() { (proof::card(&app, About::Block(number))) }
        }
        (cli(&format!("runrig chain when {number}")))
    };
    proof::shown_with_check(
        &app,
        &visitor,
        Place::Blocks,
        &format!("Block {number}"),
        content,
    )
    .await
}

/// Between which times something came about, by the clocks that validators signed.
fn between(clock: Option<&api::WhenView>) -> Markup {
    html! {
        @if let Some(clock) = clock {
            dt { "Not before" } dd { (utc(clock.not_before_ms)) " UTC, by the clocks in its block" }
            dt { "Not after" } dd {
                @match clock.not_after_ms {
                    Some(ms) => { (utc(ms)) " UTC, by the clocks of a later one" }
                    None => { "told by the blocks to come" }
                }
            }
        }
    }
}

/// Whether this portal itself finds the block certified by the network key.
fn certified(app: &App, block: &api::BlockView) -> Markup {
    use base64::Engine as _;
    let decode = |text: &str| {
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap_or_default()
    };
    if block.certificate.is_empty() {
        return badge(Tone::Plain, "Final through a later block");
    }
    let Some(network) = app.network.get() else {
        return badge(Tone::Plain, "Not checked yet");
    };
    match light::verify_block(
        &network.key,
        &decode(&block.header),
        &[],
        &decode(&block.certificate),
    ) {
        Ok(_) => badge(Tone::Ok, "Certificate checked"),
        Err(error) => html! { (badge(Tone::Bad, "Certificate wrong")) span.sr { (error) } },
    }
}

/// `GET /explorer/transactions`
pub async fn transactions(
    State(app): State<App>,
    visitor: Visitor,
    Query(page): Query<Before>,
) -> Page {
    let all = page.all.is_some();
    let rows = app
        .index
        .ask(move |c| query::transactions(c, page.before, all, PAGE))
        .await?;
    let more = if all { "&all=1" } else { "" };
    let next = (rows.len() == PAGE)
        .then(|| {
            rows.last()
                .map(|r| format!("/explorer/transactions?before={}{more}", r.height))
        })
        .flatten();
    let content = html! {
        div.pagehead {
            div { h1 { "Transactions" } p.sub { "What accounts and hosts have asked of the ledger" } }
            div.acts {
                nav.seg aria-label="Which transactions" {
                    a href="/explorer/transactions" aria-current=[(!all).then_some("true")] { "By people" }
                    a href="/explorer/transactions?all=1" aria-current=[all.then_some("true")] { "With hosts' reports" }
                }
            }
        }
        @if let Some(said) = behind(&app) { (said) }
        div.card.flush {
            @if rows.is_empty() { (empty("arrow-left-right", "None", "Deploys, transfers and registrations come here.", None)) }
            @else { (transaction_table(&rows, now_of(&app))) }
            (pager(&plural(rows.len() as u64, "transaction", "transactions"), page.before.map(|_| if all { "/explorer/transactions?all=1" } else { "/explorer/transactions" }), next.as_deref()))
        }
        @if let Some(row) = rows.first() { (cli(&format!("runrig chain tx {}", row.id))) }
    };
    shown(&app, &visitor, Place::Transactions, "Transactions", content).await
}

/// `GET /explorer/transactions/{id}`
pub async fn transaction(State(app): State<App>, visitor: Visitor, Path(id): Path<String>) -> Page {
    let missing = || {
        Trouble::missing(format!(
            "There is no transaction {}",
            brief(&id.chars().take(80).collect::<String>())
        ))
    };
    let text = id.strip_prefix("sha256:").unwrap_or(&id);
    let digest: Digest = format!("sha256:{text}").parse().map_err(|_| missing())?;
    let view = app.client.transaction(&digest).await?;
    if view.status == api::TransactionStatus::Unknown {
        return Err(missing());
    }
    let names = app.index.ask(query::names).await?;
    let said = match (&view.call, &view.sender) {
        (Some(call), Some(sender)) => words::call(call, sender, &names),
        _ => "A transaction that is not read yet".into(),
    };
    let (tone, state) = match view.status {
        api::TransactionStatus::Applied => (Tone::Ok, "Applied"),
        api::TransactionStatus::Rejected => (Tone::Bad, "Rejected"),
        _ => (Tone::Info, "Waiting"),
    };
    let raw = serde_json::to_string_pretty(&view.call).unwrap_or_default();
    let clock = match view.height {
        Some(_) => app.client.when(&digest.to_string()).await.ok(),
        None => None,
    };
    let content = html! {
        (crumbs(&[("/explorer", "Explorer"), ("/explorer/transactions", "Transactions")]))
        div.pagehead { div { h1 { "Transaction" } } div.acts { (badge(tone, state)) } }
        div.grid {
            section.card.s7 {
                p.sentence { (said) "." }
                dl.facts {
                    dt { "Id" } dd.mono { (digest.hex()) (copy(&digest.hex(), "the id")) }
                    dt { "Kind" } dd { (view.call.as_ref().map_or("unreadable", words::kind)) }
                    @if let Some(sender) = &view.sender { dt { "Of" } dd { a.mono href=(format!("/explorer/accounts/{sender}")) { (sender) } } }
                    @if let Some(signer) = &view.signer { dt { "Signed by" } dd { @if view.sender == view.signer { "its own key" } @else { a.mono href=(format!("/explorer/accounts/{signer}")) { (signer) } ", which it lets act" } } }
                    @if let Some(height) = view.height { dt { "Block" } dd { a href=(format!("/explorer/blocks/{height}")) { (words::grouped(height.into())) } } }
                    dt { "Fee" } dd { @if view.height.is_some() { (credits(view.fee)) " credits" } @else { "not charged yet" } }
                    (between(clock.as_ref()))
                }
                @if let Some(rejection) = &view.rejection {
                    (alert(Tone::Bad, html! { p.strong { (rejection.why) } p { (rejection.next) } }))
                }
            }
            section.card.s5 {
                header { div { h2 { "What it caused" } } }
                @if view.events.is_empty() { (empty("activity", "Nothing", "It changed no more than its sender's counter, or waits.", None)) }
                @else {
                    ul.feed { @for event in &view.events { (feed("activity", &words::event(event, &names), html! {}, None)) } }
                }
            }
            @if view.call.is_some() {
                section.card.s12 {
                    details { summary { "As it was signed" } div.code.soft tabindex="0" { (raw) } }
                }
            }
            @if clock.is_some() { (proof::card(&app, About::Transaction(digest))) }
        }
        @match clock {
            Some(_) => { (cli(&format!("runrig chain when {}", digest.hex()))) }
            None => { (cli(&format!("runrig chain tx {}", digest.hex()))) }
        }
    };
    proof::shown_with_check(&app, &visitor, Place::Transactions, "Transaction", content).await
}

/// `GET /explorer/accounts/{id}`
pub async fn account(State(app): State<App>, visitor: Visitor, Path(id): Path<String>) -> Page {
    let account: AccountId = id
        .parse()
        .map_err(|_| Trouble::missing("There is no such account"))?;
    let view = app.client.account(account).await?;
    let host = app.client.host(&id).await.ok();
    let filter = EventFilter {
        account: Some(account),
        ..EventFilter::default()
    };
    let (events, sent) = app
        .index
        .ask(move |c| {
            Ok((
                query::events(c, &filter, 25)?,
                query::transactions_of(c, &account, 25)?,
            ))
        })
        .await?;
    let now = now_of(&app);
    let content = html! {
        (crumbs(&[("/explorer", "Explorer")]))
        div.pagehead {
            div { h1 { "Account " (brief(&id)) } p.sub.mono.wrap { (id) " " (copy(&id, "the account's id")) } }
            @if let Some(host) = &host { div.acts { a.btn.small href=(format!("/explorer/hosts/{}", host.host)) { (icon("server")) "It is host " (host.name) } } }
        }
        div.grid {
            (kpi(Figure { label: "Balance", value: Some(words::credits(view.balance)), unit: "credits", note: html! { "by the ledger, at block " (words::grouped(view.height.into())) }, spark: None }))
            (kpi(Figure { label: "May be spent", value: Some(words::credits(view.spendable)), unit: "credits", note: html! {}, spark: None }))
            (kpi(Figure { label: "In escrow", value: Some(words::credits(view.held)), unit: "credits", note: html! { "for what runs" }, spark: None }))
            (kpi(Figure { label: "Transactions signed", value: Some(words::grouped(view.nonce.into())), unit: "", note: html! {}, spark: None }))
        }
        div.grid {
            section.card.s6 {
                header { div { h2 { "What happened" } p.sub { "Payments, receipts and deploys" } } }
                @if events.is_empty() { (empty("activity", "Nothing yet", "No event names this account.", None)) } @else { (happenings(&events, now)) }
            }
            section.card.s6 {
                header { div { h2 { "What it signed" } p.sub { "The latest 25" } } }
                @if sent.is_empty() { (empty("arrow-left-right", "Nothing yet", "This account has signed no transaction.", None)) }
                @else {
                    ul.feed { @for row in &sent { (feed(transaction_icon(&row.kind), &row.words, html! { a href=(format!("/explorer/transactions/{}", row.id)) { span.mono { (brief(&row.id)) } } " · " (when(row.time_ms, now)) " ago" @if row.refused.is_some() { " · " span.bad { "rejected" } } }, None)) } }
                }
            }
        }
        div.grid { (proof::card(&app, About::Account(account))) }
        (cli(&format!("runrig chain account {id} --verify")))
    };
    proof::shown_with_check(&app, &visitor, Place::Explorer, "Account", content).await
}

/// `GET /explorer/receipts/{id}`: what was charged, and the proof, checked here and now.
pub async fn receipt(State(app): State<App>, visitor: Visitor, Path(id): Path<String>) -> Page {
    let number: ReceiptId = id
        .parse()
        .map_err(|_| Trouble::missing("There is no such receipt"))?;
    let receipt = app.client.receipt(number).await?;
    let shown = app.client.receipt_proof(number).await?;
    let usage = proof::usage_of(&app, &receipt).await;
    let key = app.network.get().map(|n| n.key.clone()).unwrap_or_default();
    let (steps, _) = sdk::verify_receipt(&key, number, &shown, usage.as_ref());
    let good = !steps.is_empty() && steps.iter().all(|s| s.good);
    let names = app.index.ask(query::names).await?;
    let host = names.host(&receipt.host);
    let content = html! {
        (crumbs(&[("/explorer", "Explorer")]))
        div.pagehead { div { h1 { "Receipt " (number) } } div.acts { @if good { (badge(Tone::Ok, "Proof checked")) } @else { (badge(Tone::Bad, "Proof does not hold")) } } }
        div.grid {
            section.card.s6 {
                p.sentence { "Host " (host) " was paid " (credits(receipt.amount)) " credits for " (words::span(receipt.until_ms.saturating_sub(receipt.from_ms))) " of " (names.project(&receipt.deployment)) "’s " (receipt.service) "." }
                dl.facts {
                    dt { "From" } dd { (utc(receipt.from_ms)) " UTC" }
                    dt { "Until" } dd { (utc(receipt.until_ms)) " UTC" }
                    dt { "Replica" } dd { (receipt.allocation) " of " (receipt.deployment) ", release " (receipt.release) }
                    dt { "Host" } dd { a href=(format!("/explorer/hosts/{}", receipt.host)) { (host) } }
                    dt { "Payer" } dd { a.mono href=(format!("/explorer/accounts/{}", receipt.payer)) { (receipt.payer) } }
                    dt { "Payee" } dd { a.mono href=(format!("/explorer/accounts/{}", receipt.payee)) { (receipt.payee) } }
                    dt { "Exact amount" } dd.mono { (receipt.amount) }
                }
            }
            section.card.s6 {
                header { div { h2 { "Proof" } p.sub { "Checked by this portal just now; check it yourself with the command below" } } }
                ul.feed {
                    @for step in &steps {
                        li { span class={ "ic " (if step.good { "ok" } else { "bad" }) } { (icon(if step.good { "circle-check" } else { "circle-x" })) } div.tx { span.wrap { (step.what) } } }
                    }
                    @if usage.is_none() { li { span.ic { (icon("circle-help")) } div.tx { span { "The host's own record" } span.second { "not known: the host does not answer now" } } } }
                }
            }
            section.card.flush.s12 {
                header { div { h2 { "Lines" } p.sub { "Use since the receipt before × rate" } } }
                div.tablewrap tabindex="0" { table {
                    thead { tr { th { "Resource" } th.num { "Use" } th { "Unit" } th.num { "Rate" } th.num { "Credits" } } }
                    tbody { @for charge in &receipt.charges { tr {
                        td { (charge.resource.name()) }
                        td.num.mono { (charge.resource.quoted(charge.counted)) }
                        td { (charge.resource.unit()) }
                        td.num.mono { (charge.rate) }
                        td.num.mono { (charge.amount) }
                    } } }
                } }
            }
            (proof::card(&app, About::Receipt(number)))
        }
        (cli(&format!("runrig receipt {number} --verify")))
    };
    proof::shown_with_check(
        &app,
        &visitor,
        Place::Explorer,
        &format!("Receipt {number}"),
        content,
    )
    .await
}

/// `GET /explorer/network`: health, prices, supply.
pub async fn network(State(app): State<App>, visitor: Visitor) -> Page {
    let status = app.client.status().await?;
    let params = app.client.params().await?;
    let supply = app.client.supply().await?;
    let gateway: Option<serde_json::Value> = app.client.get("/v1/gateway").await.ok();
    let healthy = |address: &str| -> Option<bool> {
        let bare = address.split("://").last()?;
        let all = gateway.as_ref()?.get("validators")?.as_array()?;
        let found = all.iter().find(|v| v["address"] == bare)?;
        found["healthy"].as_bool()
    };
    let progress = app.progress.borrow().clone();
    let tariff = &params.tariff;
    let hour = |rate: Amount| Amount(rate.0 * 3600);
    let prices: [(&str, Amount, &str); 5] = [
        (
            "One core for an hour",
            hour(tariff.cpu),
            "only while it computes",
        ),
        (
            "One GiB of memory for an hour",
            hour(tariff.memory),
            "of what is in use",
        ),
        (
            "One GiB of disk for a month",
            Amount(tariff.storage.0 * 3600 * 24 * 30),
            "of what is written",
        ),
        (
            "One Mbit/s for an hour",
            hour(Amount(tariff.bandwidth.0)),
            "of what is reserved",
        ),
        (
            "One GiB in or out",
            Amount(tariff.transfer.0 << 30),
            "through the host's network",
        ),
    ];
    let good = supply.sum == supply.expected;
    let content = html! {
        div.pagehead { div { h1 { "Network and prices" } p.sub { (status.name) } } }
        (super::drawn::tabs("/explorer/network"))
        @if let Some(said) = behind(&app) { (said) }
        div.grid {
            section.card.flush.s7 {
                header { div { h2 { "Prices" } p.sub { "The network's rates; each host asks 50 to 100 % of them" } } }
                div.tablewrap tabindex="0" { table {
                    thead { tr { th { "What" } th { "Counted" } th.num { "Credits" } } }
                    tbody { @for (what, price, how) in &prices { tr { td.strong { (what) } td.dim { (how) } td.num.strong { (credits(*price)) } } } }
                } }
            }
            section.card.s5 {
                header { div { h2 { "Supply" } p.sub { "Added up by the ledger at block " (words::grouped(supply.height.into())) } } div.more { @if good { (badge(Tone::Ok, "Adds up")) } @else { (badge(Tone::Bad, "Does not add up")) } } }
                dl.facts {
                    dt { "Made at the beginning" } dd { (credits(supply.expected)) }
                    dt { "In accounts" } dd { (credits(supply.spendable)) }
                    dt { "In escrow" } dd { (credits(supply.escrow)) }
                    dt { "Sum now" } dd.strong { (credits(supply.sum)) }
                }
            }
            section.card.flush.s7 {
                header { div { h2 { "Validators" } p.sub { "Who led how many of the last 100 blocks" } } }
                div.tablewrap { table.cards {
                    thead { tr { th { "Validator" } th { "Address" } th { "State" } th.num { "Led" } } }
                    tbody { @for one in &status.validators { tr {
                        td { span.mono title=(one.key) { (brief(&one.key)) } }
                        td.mono data-l="Address" { (one.address) }
                        td data-l="State" { @match healthy(&one.address) { Some(true) => { (badge(Tone::Ok, "Answers")) } Some(false) => { (badge(Tone::Bad, "Silent")) } None => { span.dim { "not known" } } } }
                        td.num data-l="Led" { (one.led) }
                    } } }
                } }
            }
            section.card.s5 {
                header { div { h2 { "Health" } } }
                dl.facts {
                    dt { "Height" } dd { (words::grouped(status.height.into())) }
                    dt { "Block time" } dd { (utc(status.time_ms)) " UTC" }
                    dt { "Waiting transactions" } dd { (status.queued) " at the validator that answered" }
                    dt { "Index of this portal" } dd { "block " (words::grouped(progress.height.into())) " of " (words::grouped(progress.head.into())) }
                    dt { "Usage reports every" } dd { (words::span(params.report_interval_ms)) }
                    dt { "A host is silent after" } dd { (params.host_timeout_ms) " ms" }
                    dt { "Network key" } dd.mono.wrap { (brief(&status.network_key)) (copy(&status.network_key, "the network key")) }
                }
            }
        }
        (cli("runrig chain params"))
        (cli("runrig chain supply"))
    };
    shown(
        &app,
        &visitor,
        Place::Network,
        "Network and prices",
        content,
    )
    .await
}
