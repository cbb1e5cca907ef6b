//! Lotteries, and what proves them.

use api::{LotteryExport, LotteryView};
use axum::Json;
use axum::extract::State as From;
use axum::response::Response;
use ledger::lottery::{Event, Round, draw_epoch};
use types::LotteryId;

use crate::answer::{Answer, Asked, Named, Refused};
use crate::http::{App, Page, Validator, answer};
use crate::lists::rows;

fn lottery_id(text: &str) -> Result<LotteryId, Refused> {
    text.parse().map_err(|_| missing(text))
}

fn missing(text: &str) -> Refused {
    let shown: String = text.chars().take(40).collect();
    Refused::not_found(&format!("lottery {shown}"), "See `runrig lottery ls`.")
}

fn view(state: &ledger::State, lottery: LotteryId, round: &Round) -> LotteryView {
    let blocks = state.params().epoch_blocks.max(1);
    let closes = round.closed_at.unwrap_or(round.terms.close_height);
    let epoch = draw_epoch(closes, round.terms.draw_height, blocks);
    LotteryView {
        lottery,
        pot: round.pot(),
        draw_epoch: epoch,
        draw_from: epoch.saturating_mul(blocks),
        round: round.clone(),
    }
}

/// The latest first.
pub async fn lotteries(
    From(app): From<App>,
    Asked(page): Asked<Page>,
) -> Result<Response, Refused> {
    let from = page.from.unwrap_or(0);
    app.compute(move |state| {
        let ids = state.lotteries.iter().rev().map(|(id, _)| *id);
        let row = |id| Some(view(&state, id, state.lotteries.get(&id)?));
        answer(rows(ids, from, row))
    })
    .await?
}

pub async fn lottery(From(app): From<App>, Named(text): Named<String>) -> Answer<LotteryView> {
    let id = lottery_id(&text)?;
    let state = app.state();
    let round = state.lotteries.get(&id).ok_or_else(|| missing(&text))?;
    Ok(Json(view(&state, id, round)))
}

impl Validator {
    async fn lottery_event(
        &self,
        height: u64,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Option<api::EventProof>, Refused> {
        let Some(block) = self.read_block(height).await? else {
            return Ok(None);
        };
        let is = |event: &ledger::Event| matches!(event, ledger::Event::Lottery(e) if wanted(e));
        match block.events.iter().position(is) {
            Some(index) => Ok(Some(self.event_proof(&block, index).await?)),
            None => Ok(None),
        }
    }
}

/// All that proves a round.
pub async fn export(From(app): From<App>, Named(text): Named<String>) -> Answer<LotteryExport> {
    let id = lottery_id(&text)?;
    let state = app.state();
    let round = state.lotteries.get(&id).ok_or_else(|| missing(&text))?;
    let entries = state.entries.range((id, 0)..=(id, u32::MAX));
    let entries = entries.map(|(_, entry)| entry.clone()).collect();
    let closed = match round.closed_at {
        Some(height) => {
            let is = |e: &Event| matches!(e, Event::Closed { lottery, .. } if *lottery == id);
            app.lottery_event(height, is).await?
        }
        None => None,
    };
    let over = match round.over_at {
        Some(height) => {
            let is = |e: &Event| matches!(e, Event::Drawn { lottery, .. } | Event::Refunded { lottery, .. } if *lottery == id);
            app.lottery_event(height, is).await?
        }
        None => None,
    };
    let told = match &round.draw {
        Some(draw) => match app.read_block(draw.told_at).await? {
            Some(block) => Some(app.duty_proof_of(&block).await?),
            None => None,
        },
        None => None,
    };
    Ok(Json(LotteryExport {
        lottery: id,
        round: round.clone(),
        entries,
        closed,
        told,
        over,
    }))
}
