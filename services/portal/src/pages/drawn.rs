//! The explorer's pages of what is decided by lot and by vote: who sits, lotteries, changes of the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{DutiesView, LotsView, LotteryView, ProposalView};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ledger::lottery::{self, MILLION};
use ledger::vote;
use maud::{Markup, html};
use sdk::Step;
use serde::Serialize;
use tokio::sync::Semaphore;
use types::{Digest, LotteryId, ProposalId, PublicKey};
use words::{brief, plural};

use super::shown;
use crate::app::App;
use crate::ui::{Figure, Place, Tone, badge, cli, copy, credits, crumbs, empty, icon, kpi, meter};
use crate::web::{Page, Trouble, Visitor};

/// The parts of the network's place in the explorer.
pub fn tabs(at: &str) -> Markup {
    let all = [
        ("/explorer/network", "Prices and health"),
        ("/explorer/lots", "Seats and duties"),
        ("/explorer/votes", "Votes"),
        ("/explorer/lotteries", "Lotteries"),
    ];
    html! {
        nav.tabs aria-label="Parts of the network" {
            @for (href, label) in all { a href=(href) aria-current=[(at == href).then_some("page")] { (label) } }
        }
    }
}

fn unknown(what: &str, next: &str) -> Trouble {
    Trouble::new(
        StatusCode::NOT_FOUND,
        "There is no such page",
        format!("\"{what}\" names none."),
        next,
    )
}

/// Answers that were found good.
const CHECKED_MAX: usize = 256;

/// What was checked and found good stays so: it is checked once for each answer, one at a time, as
/// anybody may open these pages.
pub struct Checked {
    good: Mutex<BTreeMap<Digest, Arc<Vec<Step>>>>,
    turn: Semaphore,
}

impl Default for Checked {
    fn default() -> Self {
        Self {
            good: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }
}

impl Checked {
    fn find(&self, of: &Digest) -> Option<Arc<Vec<Step>>> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(of).cloned()
    }

    /// Steps of `check`, which is of what `fetch` brings; of the same `answer` again, if they were
    /// good, without either.
    async fn steps<T: Send + 'static, E>(
        &self,
        answer: &impl Serialize,
        fetch: impl Future<Output = Result<T, E>>,
        check: impl FnOnce(T) -> Vec<Step> + Send + 'static,
    ) -> Result<Arc<Vec<Step>>, Trouble>
    where
        Trouble: From<E>,
    {
        let of = Digest::of(&serde_json::to_vec(answer).map_err(anyhow::Error::from)?);
        if let Some(steps) = self.find(&of) {
            return Ok(steps);
        }
        let _turn = self.turn.acquire().await;
        // Who waited may find it.
        if let Some(steps) = self.find(&of) {
            return Ok(steps);
        }
        let with = fetch.await?;
        let checked = tokio::task::spawn_blocking(move || check(with)).await;
        let steps = Arc::new(checked.map_err(anyhow::Error::from)?);
        if !steps.is_empty() && steps.iter().all(|step| step.good) {
            let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            if good.len() >= CHECKED_MAX {
                good.clear();
            }
            good.insert(of, steps.clone());
        }
        Ok(steps)
    }
}

/// What this portal itself found by the network's key, step by step.
fn checked(steps: &[Step]) -> Markup {
    let good = !steps.is_empty() && steps.iter().all(|s| s.good);
    html! {
        ul.feed {
            @for step in steps {
                li {
                    span.ic { (icon(if step.good { "check" } else { "triangle-alert" })) }
                    div.tx { span.wrap { (step.what) } @if !step.good { span.second { (badge(Tone::Bad, "Does not hold")) } } }
                }
            }
        }
        @if good { p.dim { "Checked by this portal, with nothing but the network's key. The command below does it on your own machine." } }
    }
}

fn account(id: &types::AccountId) -> Markup {
    let id = id.to_string();
    html! { a.mono href=(format!("/explorer/accounts/{id}")) title=(id) { (brief(&id)) } }
}

fn block(height: u64) -> Markup {
    html! { a href=(format!("/explorer/blocks/{height}")) { (words::grouped(height.into())) } }
}

// --- lots

/// One who sits or was drawn for other duties, and what it did.
fn lineup_rows(lots: &LotsView, duties: Option<&DutiesView>) -> Markup {
    let done: BTreeMap<PublicKey, &api::DutyLine> = duties
        .into_iter()
        .flat_map(|d| &d.validators)
        .map(|line| (line.key, line))
        .collect();
    let row = |place: Markup, key: &PublicKey, since: Option<u64>| {
        let text = key.to_string();
        let line = done.get(key);
        let count = |of: fn(&api::DutyLine) -> u64| {
            html! { @match line { Some(line) => { (words::grouped(of(line).into())) } None => { "0" } } }
        };
        html! { tr {
            td { (place) }
            td data-l="Validator" { span.mono title=(text) { (brief(&text)) } (copy(&text, "the validator's key")) }
            td.num data-l="Since epoch" { @match since { Some(epoch) => { (words::grouped(epoch.into())) } None => { "–" } } }
            td.num data-l="Blocks made" { (count(|l| l.led)) }
            td.num data-l="Clock counted" { (count(|l| l.stated)) }
            td.num data-l="Clock left out" { (count(|l| l.off)) }
            td data-l="Dealt" { @if line.is_some_and(|l| l.dealt) { (badge(Tone::Ok, "Dealt")) } @else { span.dim { "no" } } }
            td.num data-l="Looks at hosts" { (count(|l| l.witnessed)) }
            td.num data-l="Screened" { (count(|l| l.screened)) }
            td.num data-l="Earned" { @match line { Some(line) => { (credits(line.earned)) } None => { "0" } } }
        } }
    };
    let Some(lineup) = &lots.lineup else {
        return html! {};
    };
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "Place" } th { "Validator" } th.num { "Since epoch" } th.num { "Blocks made" } th.num { "Clock counted" } th.num { "Clock left out" } th { "Key handed on" } th.num { "Looks at hosts" } th.num title="Blocks with a transaction that it brought as a screener" { "Screened" } th.num { "Earned" } } }
            tbody {
                @for (place, seat) in (1u64..).zip(&lineup.committee) { (row(html! { b { (place) } }, &seat.key, Some(seat.since))) }
                @for key in &lineup.payroll { (row(html! { span.dim { "Other duties" } }, key, None)) }
            }
        } }
    }
}

/// `GET /explorer/lots`: of the present epoch.
pub async fn lots(State(app): State<App>, visitor: Visitor) -> Page {
    let members = app.client.members().await?;
    epoch_page(&app, &visitor, members.epoch).await
}

/// `GET /explorer/lots/{epoch}`
pub async fn epoch(State(app): State<App>, visitor: Visitor, Path(epoch): Path<String>) -> Page {
    let Ok(number) = epoch.parse() else {
        return Err(unknown(&epoch, "An epoch is a number: see /explorer/lots."));
    };
    epoch_page(&app, &visitor, number).await
}

async fn epoch_page(app: &App, visitor: &Visitor, epoch: u64) -> Page {
    let members = app.client.members().await?;
    let view = app.client.lots(epoch).await?;
    let duties = match epoch <= members.epoch {
        true => app.client.duties(epoch).await.ok(),
        false => None,
    };
    let steps = match app.network.get() {
        Some(known) if view.lineup.is_some() => {
            let (known, of) = (known.clone(), view.clone());
            let check = move |file: api::NetworkFile| match known.digest == file.genesis.digest() {
                true => sdk::verify_lots(&known.key, &file.genesis, &of),
                false => Vec::new(),
            };
            app.checked
                .steps(&view, app.client.network(), check)
                .await?
        }
        _ => Arc::default(),
    };
    let blocks = members.epoch_blocks.max(1);
    let (first, last) = (epoch * blocks, (epoch + 1) * blocks - 1);
    let standing = match epoch.cmp(&members.epoch) {
        std::cmp::Ordering::Less => "over".to_string(),
        std::cmp::Ordering::Equal => format!("now, {} of {blocks} blocks", members.height % blocks),
        std::cmp::Ordering::Greater => format!("to come, from block {first}"),
    };
    let seats = view.lineup.as_ref().map(|l| l.committee.len());
    let others = view.lineup.as_ref().map_or(0, |l| l.payroll.len());
    let off: u64 = duties
        .iter()
        .flat_map(|d| &d.validators)
        .map(|l| l.off)
        .sum();
    let content = html! {
        div.pagehead {
            div { h1 { "Epoch " (words::grouped(epoch.into())) } p.sub { (standing) } }
            div.acts {
                @if epoch > 0 { a.btn href=(format!("/explorer/lots/{}", epoch - 1)) { "Epoch " (epoch - 1) } }
                @if epoch < members.epoch + 3 { a.btn href=(format!("/explorer/lots/{}", epoch + 1)) { "Epoch " (epoch + 1) } }
            }
        }
        (tabs("/explorer/lots"))
        div.grid {
            (kpi(Figure { label: "Who may be drawn", value: Some(words::grouped(view.candidates.len() as u128)), unit: "validators", note: html! { "with a fresh ticket and a bond" }, spark: None }))
            (kpi(Figure { label: "Seats", value: Some(seats.map_or_else(|| "–".into(), |n| n.to_string())), unit: &format!("of {} at most", view.seats), note: html! { @match seats { None => { "the lot has not fallen yet" } Some(_) if others > 0 => { (plural(others as u64, "other", "others")) " drawn for other duties" } Some(_) => { "all who may be drawn sit while they fit" } } }, spark: None }))
            (kpi(Figure { label: "Fees", value: duties.as_ref().map(|d| words::credits(d.fees)), unit: "credits", note: html! { @match &duties { Some(d) if d.ended => { "paid out to those who did the duties" } Some(_) => { "paid out when the epoch is over" } None => { "none before it begins" } } }, spark: None }))
            (kpi(Figure { label: "Clocks left out", value: duties.as_ref().map(|_| words::grouped(off.into())), unit: "statements", note: html! { "too far from the median of the others" }, spark: None }))
        }
        div.grid {
            section.card.flush.s12 {
                header { div { h2 { "Lineup" } p.sub { "Who votes, in the order drawn; what each did in blocks " (block(first)) " to " (words::grouped(last.into())) } } div.more { a href="/operate" { "How they stand now" (icon("chevron-right")) } } }
                @if view.lineup.is_none() { (empty("clock", "The lot has not fallen", "Candidates froze three epochs before; the beacon decides in the middle of that epoch.", None)) }
                (lineup_rows(&view, duties.as_ref()))
            }
            section.card.s7 {
                header { div { h2 { "How it was drawn" } p.sub { "Candidates first, chance after" } } }
                @if epoch < ledger::lots::AHEAD { p.dim { "Nobody was drawn: in the first " (ledger::lots::AHEAD) " epochs the founders sit, by the genesis." } }
                @else if steps.is_empty() { p.dim { "Nothing to check yet." } }
                @else { (checked(&steps)) }
            }
            section.card.s5 {
                header { div { h2 { "Chance" } } }
                dl.facts {
                    dt { "Beacon" } dd.mono.wrap { @match &view.beacon { Some(beacon) => { (brief(&beacon.hex())) (copy(&beacon.hex(), "the beacon")) } None => { span.dim { @if view.lineup.is_some() { "none: who sat goes on" } @else { "not told yet" } } } } }
                    dt { "Sat before" } dd { (plural(view.before.len() as u64, "validator", "validators")) }
                    dt { "Blocks of an epoch" } dd { (blocks) }
                    dt { "A validator bonds" } dd { (credits(members.bond)) " credits" }
                }
            }
        }
        (cli(&format!("runrig lots verify {epoch}")))
    };
    shown(
        app,
        visitor,
        Place::Network,
        &format!("Epoch {epoch}"),
        content,
    )
    .await
}

// --- votes

fn standing(phase: &vote::Phase) -> (Tone, String) {
    match phase {
        vote::Phase::Open => (Tone::Info, "Open".into()),
        vote::Phase::Accepted { from } => (Tone::Ok, format!("Counts from {from}")),
        vote::Phase::Rejected => (Tone::Plain, "Rejected".into()),
        vote::Phase::Done { since } => (Tone::Ok, format!("Counts since {since}")),
    }
}

/// More than half of all must say yes.
fn tally(view: &ProposalView) -> Markup {
    html! {
        (meter(view.yes.into(), view.members.into(), ""))
        span.nowrap { b { (view.yes) } " yes, " (view.no) " no, of " (view.members) }
    }
}

/// `GET /explorer/votes`
pub async fn votes(State(app): State<App>, visitor: Visitor) -> Page {
    let all = app.client.proposals().await?;
    let content = html! {
        div.pagehead { div { h1 { "Votes" } p.sub { "On the network's rules: one vote for each account that has sat; more than half of all must say yes" } } }
        (tabs("/explorer/votes"))
        section.card.flush {
            header { div { h2 { "Proposals" } p.sub { "The latest first" } } }
            @if all.is_empty() { (empty("scroll-text", "Nothing was proposed", "Who has done an epoch's duties may propose a change of fees, rates, seats and other rules.", None)) }
            @else {
                div.tablewrap { table.cards {
                    thead { tr { th { "Proposal" } th { "Change" } th { "Stands" } th { "Said" } th.num { "Open until" } th { "By" } } }
                    tbody { @for one in &all {
                        @let (tone, words) = standing(&one.proposal.phase);
                        tr {
                            td { a.strong href=(format!("/explorer/votes/{}", one.id)) { (one.id) } }
                            td.mono.wrap data-l="Change" { (one.proposal.change) }
                            td data-l="Stands" { (badge(tone, &words)) }
                            td data-l="Said" { (tally(one)) }
                            td.num data-l="Open until" { "block " (words::grouped(one.proposal.closes.into())) }
                            td data-l="By" { (account(&one.proposal.proposer)) }
                        }
                    } }
                } }
            }
        }
        (cli("runrig vote ls"))
    };
    shown(&app, &visitor, Place::Network, "Votes", content).await
}

/// `GET /explorer/votes/{id}`
pub async fn proposal(State(app): State<App>, visitor: Visitor, Path(id): Path<String>) -> Page {
    let Ok(number) = id.parse::<ProposalId>() else {
        return Err(unknown(
            &id,
            "A proposal is for example p-1: see /explorer/votes.",
        ));
    };
    let view = app.client.proposal(number).await?;
    let (tone, words) = standing(&view.proposal.phase);
    let half = view.members / 2 + 1;
    let content = html! {
        (crumbs(&[("/explorer/votes", "Votes")]))
        div.pagehead { div { h1 { "Proposal " (view.id) } p.sub.mono.wrap { (view.proposal.change) } } div.acts { (badge(tone, &words)) } }
        div.grid {
            section.card.s5 {
                header { div { h2 { "What was said" } p.sub { "It takes " (half) " of " (view.members) } } }
                (tally(&view))
                dl.facts {
                    dt { "Proposed by" } dd { (account(&view.proposal.proposer)) }
                    dt { "Votes are taken" } dd { "below block " (words::grouped(view.proposal.closes.into())) }
                    dt { "Said nothing" } dd { (view.members - (view.yes + view.no).min(view.members)) ", which counts as no" }
                }
            }
            section.card.flush.s7 {
                header { div { h2 { "Who may vote" } p.sub { "Fixed when it was proposed" } } }
                div.tablewrap { table {
                    thead { tr { th { "Account" } th { "Said" } } }
                    tbody { @for (who, said) in &view.proposal.votes { tr {
                        td { (account(who)) }
                        td { @match said { Some(true) => { (badge(Tone::Ok, "Yes")) } Some(false) => { (badge(Tone::Bad, "No")) } None => { span.dim { "nothing" } } } }
                    } } }
                } }
            }
        }
        (cli(&format!("runrig vote show {}", view.id)))
    };
    shown(
        &app,
        &visitor,
        Place::Network,
        &format!("Proposal {id}"),
        content,
    )
    .await
}

// --- lotteries

fn round_badge(phase: lottery::Phase) -> Markup {
    match phase {
        lottery::Phase::Open => badge(Tone::Info, "Open"),
        lottery::Phase::Closed => badge(Tone::Warn, "Waits for chance"),
        lottery::Phase::Drawn => badge(Tone::Ok, "Drawn"),
        lottery::Phase::Refunded => badge(Tone::Plain, "Paid back"),
    }
}

/// Parts of a million as a percentage.
fn share(millionths: u32) -> String {
    let hundredths = u64::from(millionths) * 10_000 / u64::from(MILLION);
    match hundredths % 100 {
        0 => format!("{} %", hundredths / 100),
        part => format!("{}.{part:02} %", hundredths / 100),
    }
}

/// `GET /explorer/lotteries`
pub async fn lotteries(State(app): State<App>, visitor: Visitor) -> Page {
    let all = app.client.lotteries().await?;
    let content = html! {
        div.pagehead { div { h1 { "Lotteries" } p.sub { "Anyone may open one; entries are fixed before the beacon is known that draws from them" } } }
        (tabs("/explorer/lotteries"))
        section.card.flush {
            header { div { h2 { "Rounds" } p.sub { "The latest first" } } }
            @if all.is_empty() { (empty("hand-coins", "No round was opened", "One command opens a round, with a price, prizes and a height at which it closes.", None)) }
            @else {
                div.tablewrap { table.cards {
                    thead { tr { th { "Round" } th { "Stands" } th.num { "An entry" } th.num { "Entries" } th.num { "Pot" } th.num { "Closes" } th { "Owner" } } }
                    tbody { @for one in &all { (round_row(one)) } }
                } }
            }
        }
        (cli("runrig lottery ls"))
    };
    shown(&app, &visitor, Place::Network, "Lotteries", content).await
}

fn round_row(view: &LotteryView) -> Markup {
    let terms = &view.round.terms;
    html! { tr {
        td { a.strong.wrap href=(format!("/explorer/lotteries/{}", view.lottery)) { (terms.name) } span.second.mono { (view.lottery) } }
        td data-l="Stands" { (round_badge(view.round.phase)) }
        td.num data-l="An entry" { (credits(terms.price)) }
        td.num data-l="Entries" { (words::grouped(view.round.entries.into())) " of " (words::grouped(terms.entries_max.into())) }
        td.num data-l="Pot" { (credits(view.pot)) }
        td.num data-l="Closes" { "block " (words::grouped(terms.close_height.into())) }
        td data-l="Owner" { (account(&terms.owner)) }
    } }
}

/// `GET /explorer/lotteries/{id}`
pub async fn round(State(app): State<App>, visitor: Visitor, Path(id): Path<String>) -> Page {
    let Ok(number) = id.parse::<LotteryId>() else {
        return Err(unknown(
            &id,
            "A round is for example l-1: see /explorer/lotteries.",
        ));
    };
    let view = app.client.lottery(number).await?;
    let (terms, round) = (&view.round.terms, &view.round);
    let over = round.over_at.is_some();
    let steps = match (over, app.network.get()) {
        (true, Some(known)) => {
            let key = known.key.clone();
            let export = app.client.lottery_export(number);
            let check = move |export| sdk::verify_lottery(&key, &export);
            app.checked.steps(&view, export, check).await?
        }
        _ => Arc::default(),
    };
    let next = match (over, round.phase) {
        (true, _) => format!("runrig lottery export {number} > round.json"),
        (_, lottery::Phase::Open) => format!("runrig lottery enter {number}"),
        _ => format!("runrig lottery show {number}"),
    };
    let content = html! {
        (crumbs(&[("/explorer/lotteries", "Lotteries")]))
        div.pagehead { div { h1.wrap { (terms.name) } p.sub.mono { (view.lottery) } } div.acts { (round_badge(round.phase)) } }
        div.grid {
            (kpi(Figure { label: "Pot", value: Some(words::credits(view.pot)), unit: "credits", note: html! { "what entries paid, and " (credits(terms.stake)) " of the owner" }, spark: None }))
            (kpi(Figure { label: "Entries", value: Some(words::grouped(round.entries.into())), unit: &format!("of {}", terms.entries_max), note: html! { "paid back with fewer than " (terms.entries_min) }, spark: None }))
            (kpi(Figure { label: "An entry", value: Some(words::credits(terms.price)), unit: "credits", note: html! { "at most " (terms.per_account_max) " an account" }, spark: None }))
            (kpi(Figure { label: "Drawn by the beacon of", value: Some(format!("epoch {}", round.draw.as_ref().map_or(view.draw_epoch, |d| d.epoch))), unit: "", note: html! { "which begins at block " (words::grouped(view.draw_from.into())) }, spark: None }))
        }
        div.grid {
            section.card.flush.s7 {
                header { div { h2 { "Prizes" } p.sub { @if round.draw.is_some() { "Who won" } @else { "Shares of the pot" } } } }
                div.tablewrap { table {
                    thead { tr { th.num { "Prize" } th.num { "Share" } th { "Entry" } th { "Account" } th.num { "Credits" } } }
                    tbody { @for (at, part) in terms.prizes.iter().enumerate() {
                        @let win = round.draw.as_ref().and_then(|d| d.wins.get(at));
                        tr {
                            td.num { (at + 1) }
                            td.num { (share(*part)) }
                            td { @match win { Some(win) => { "#" (win.entry) } None => { "–" } } }
                            td { @match win { Some(win) => { (account(&win.account)) } None => { "–" } } }
                            td.num.strong { @match win { Some(win) => { (credits(win.amount)) } None => { "–" } } }
                        }
                    } }
                } }
            }
            section.card.s5 {
                header { div { h2 { "Terms and course" } } }
                dl.facts {
                    dt { "Owner" } dd { (account(&terms.owner)) }
                    dt { "Opened at" } dd { "block " (block(round.opened_at)) }
                    dt { "Entries taken" } dd { "below block " (words::grouped(terms.close_height.into())) }
                    dt { "Closed at" } dd { @match round.closed_at { Some(height) => { "block " (block(height)) } None => { span.dim { "still open" } } } }
                    dt { "Entries' root" } dd.mono.wrap { @match &round.root { Some(root) => { (brief(&root.hex())) (copy(&root.hex(), "the entries' root")) } None => { span.dim { "from the close on" } } } }
                    @if let Some(draw) = &round.draw {
                        dt { "Beacon" } dd.mono.wrap { (brief(&draw.beacon.hex())) (copy(&draw.beacon.hex(), "the beacon")) }
                        dt { "Told in" } dd { "block " (block(draw.told_at)) }
                        dt { "To the owner" } dd { (credits(draw.rest)) " credits that no prize took" }
                    }
                }
            }
            @if !steps.is_empty() {
                section.card.s12 {
                    header { div { h2 { "Drawn again" } p.sub { "From what certified blocks say" } } }
                    (checked(&steps))
                }
            }
        }
        (cli(&next))
        @if over { (cli("runrig lottery verify round.json")) }
    };
    shown(&app, &visitor, Place::Network, &terms.name, content).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_found_good_is_not_checked_again_and_nothing_else_is_kept() {
        let checked = Checked::default();
        let times = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let ask = async |answer: u32, good: bool| {
            let counted = times.clone();
            let fetch = async { Ok::<_, sdk::SdkError>(()) };
            let check = move |()| {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let what = "It is as it should be".to_string();
                vec![Step { what, good }]
            };
            let steps = checked.steps(&answer, fetch, check).await;
            assert!(steps.is_ok_and(|steps| steps[0].good == good));
            times.load(std::sync::atomic::Ordering::Relaxed)
        };
        assert_eq!((ask(1, true).await, ask(1, true).await), (1, 1));
        assert_eq!((ask(2, false).await, ask(2, false).await), (2, 3));
        for answer in 0..2 * CHECKED_MAX as u32 {
            ask(answer, true).await;
        }
        let good = checked.good.lock().expect("unpoisoned");
        assert!(good.len() <= CHECKED_MAX);
    }

    #[test]
    fn shares_are_percentages() {
        for (millionths, said) in [
            (600_000, "60 %"),
            (125_000, "12.50 %"),
            (333_333, "33.33 %"),
            (1_000_000, "100 %"),
        ] {
            assert_eq!(share(millionths), said);
        }
    }
}
