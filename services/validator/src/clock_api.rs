//! When something happened, by the clocks of validators; and what duties they did.

use api::{DutiesView, DutyLine, TransactionProof, WhenView};
use axum::Json;
use axum::extract::State as From;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use light::Duty;
use types::{Digest, merkle_path};

use crate::answer::{Answer, Named, Refused};
use crate::http::{App, Validator};
use crate::index::ReadBlock;

/// Later blocks that are looked at for a quorum that had seen a block final.
const LATER_MAX: u64 = 64;

impl Validator {
    /// The first later block by whose clock a quorum had seen `height` final, and when.
    async fn seen_final(
        &self,
        height: u64,
    ) -> Result<Option<(u64, std::sync::Arc<ReadBlock>)>, Refused> {
        for later in height + 1..=height.saturating_add(LATER_MAX) {
            let Some(block) = self.read_block(later).await? else {
                break;
            };
            let duty = Duty::from_bytes(&block.header, &block.record.duty)
                .map_err(|e| Refused::internal(&e.into()))?;
            if let Some(time_ms) = duty.clock.and_then(|clock| clock.seen_final(height)) {
                return Ok(Some((time_ms, block)));
            }
        }
        Ok(None)
    }
}

/// `what`: a transaction's id, or a height.
pub async fn when(From(app): From<App>, Named(what): Named<String>) -> Answer<WhenView> {
    let shown: String = what.chars().take(64).collect();
    let missing = || {
        app.gone(
            &format!("transaction or block {shown}"),
            what.parse().ok(),
            "Name a transaction (64 hex digits) or a height: see `runrig events` and `runrig chain status`.",
        )
    };
    let (height, index) = match (what.parse::<u64>(), what.parse::<Digest>()) {
        (Ok(height), _) if what.len() < 20 => (height, None),
        (_, Ok(id)) => {
            let found = app.index.transaction(&id);
            let at = found.map_err(|e| Refused::internal(&e))?;
            let at = at.ok_or_else(missing)?;
            (at.height, Some(at.index as usize))
        }
        _ => return Err(missing()),
    };
    if height == 0 {
        let what = "the genesis is nobody's word: it carries its own time";
        return Err(Refused::invalid("when", what));
    }
    let block = app.read_block(height).await?.ok_or_else(missing)?;
    let transaction = match index {
        None => None,
        Some(index) => {
            let all = &block.record.transactions;
            let path = merkle_path(all, index).ok_or_else(missing)?;
            let outcomes = &block.record.outcomes;
            let outcome_path = merkle_path(outcomes, index);
            Some(TransactionProof {
                outcome: outcome_path
                    .as_ref()
                    .map(|_| BASE64.encode(&outcomes[index])),
                outcome_path: outcome_path.unwrap_or_default(),
                transaction: BASE64.encode(&all[index]),
                index: index as u64,
                count: all.len() as u64,
                path,
            })
        }
    };
    let seen = app.seen_final(height).await?;
    Ok(Json(WhenView {
        height,
        transaction,
        not_before_ms: block.header.time_ms,
        not_after_ms: seen.as_ref().map(|(time_ms, _)| *time_ms),
        made: app.duty_proof_of(&block).await?,
        seen: match &seen {
            Some((_, later)) => Some(app.duty_proof_of(later).await?),
            None => None,
        },
    }))
}

pub async fn duties(From(app): From<App>, Named(epoch): Named<u64>) -> Answer<DutiesView> {
    let state = app.state();
    let Some(duties) = state.duties.get(&epoch) else {
        return Err(Refused::not_found(
            &format!("duties of epoch {epoch}"),
            "They are kept for 64 epochs: `runrig chain duties` shows those of this one.",
        ));
    };
    let lines = duties.by.iter();
    let lines = lines.map(|(key, done)| DutyLine::of(*key, done));
    Ok(Json(DutiesView {
        epoch,
        fees: duties.fees,
        ended: state.height() / state.params().epoch_blocks.max(1) > epoch,
        validators: lines.collect(),
    }))
}
