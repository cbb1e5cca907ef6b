//! What was drawn, with what proves it; and events and duties under their certificates.

use api::{DutyProof, EventProof, LotsView};
use axum::Json;
use axum::extract::State as From;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::Event;
use ledger::lots::{AHEAD, Event as Lots};
use types::merkle_path;

use crate::answer::{Answer, Named, Refused};
use crate::http::{App, Validator};
use crate::index::ReadBlock;

/// Blocks from one without a certificate of its own to the next that has one.
const DESCENDANTS_MAX: usize = 64;

impl Validator {
    /// Headers up to the next certificate, and that.
    async fn certificate(&self, block: &ReadBlock) -> Result<(Vec<String>, String), Refused> {
        let mut descendants = Vec::new();
        let mut certificate = block.record.certificate.clone();
        for height in (block.header.height + 1..).take(DESCENDANTS_MAX) {
            if certificate.is_some() {
                break;
            }
            let Some(next) = self.read_block(height).await? else {
                break;
            };
            descendants.push(BASE64.encode(&next.record.header));
            certificate.clone_from(&next.record.certificate);
        }
        let certificate =
            certificate.ok_or_else(|| Refused::busy("the block has no certificate yet"))?;
        Ok((descendants, BASE64.encode(certificate)))
    }

    /// Event `index` of `block`, under its certificate.
    pub async fn event_proof(
        &self,
        block: &ReadBlock,
        index: usize,
    ) -> Result<EventProof, Refused> {
        let events = &block.record.events;
        let path = merkle_path(events, index);
        let path = path.ok_or_else(|| Refused::not_found("the event", "See `runrig events`."))?;
        let (descendants, certificate) = self.certificate(block).await?;
        Ok(EventProof {
            header: BASE64.encode(&block.record.header),
            descendants,
            certificate,
            event: BASE64.encode(&events[index]),
            index: index as u64,
            count: events.len() as u64,
            path,
        })
    }

    async fn duty_proof(&self, height: u64) -> Result<Option<DutyProof>, Refused> {
        // The genesis is certified by nobody: everyone makes it anew.
        let Some(block) = self.read_block(height).await?.filter(|_| height > 0) else {
            return Ok(None);
        };
        Ok(Some(self.duty_proof_of(&block).await?))
    }

    pub async fn duty_proof_of(&self, block: &ReadBlock) -> Result<DutyProof, Refused> {
        let (descendants, certificate) = self.certificate(block).await?;
        Ok(DutyProof {
            header: BASE64.encode(&block.record.header),
            descendants,
            certificate,
            duty: BASE64.encode(&block.record.duty),
        })
    }

    /// The event by which the lot fell for `epoch`; `None`: the founders sit.
    async fn fallen(&self, epoch: u64, blocks: u64) -> Result<Option<EventProof>, Refused> {
        let Some(drawn_in) = epoch.checked_sub(AHEAD) else {
            return Ok(None);
        };
        let height = drawn_in.saturating_mul(blocks) + blocks / 2;
        let Some(block) = self.read_block(height).await? else {
            return Ok(None);
        };
        let fell = |event: &Event| matches!(event, Event::Lots(Lots::Drawn { epoch: of, .. }) if *of == epoch);
        match block.events.iter().position(fell) {
            Some(index) => Ok(Some(self.event_proof(&block, index).await?)),
            None => Ok(None),
        }
    }
}

pub async fn drawing(From(app): From<App>, Named(epoch): Named<u64>) -> Answer<LotsView> {
    let state = app.state();
    let blocks = state.params().epoch_blocks;
    let Some(drawing) = state.drawings.get(&epoch) else {
        let next = match epoch > state.epoch() {
            true => "It is to come: `runrig lots show` without an epoch shows the latest.",
            false => {
                "It is long past: the ledger keeps those of the last 64 epochs, and no validator more. Keep what `runrig lots show EPOCH --json` says while it is there."
            }
        };
        return Err(Refused::not_found(
            &format!("the drawing of epoch {epoch}"),
            next,
        ));
    };
    let before = epoch.checked_sub(1).and_then(|e| state.committee(e));
    let frozen_at = epoch.checked_sub(AHEAD).map(|e| e.saturating_mul(blocks));
    let decided = drawing.lineup.is_some();
    Ok(Json(LotsView {
        epoch,
        candidates: drawing.candidates.clone(),
        seats: drawing.seats,
        before: before.unwrap_or_default().to_vec(),
        beacon: drawing.beacon,
        lineup: drawing.lineup.clone(),
        frozen: match frozen_at {
            Some(height) => app.duty_proof(height).await?,
            None => None,
        },
        told: match drawing.told_at {
            Some(height) => app.duty_proof(height).await?,
            None => None,
        },
        fallen: if decided {
            app.fallen(epoch, blocks).await?
        } else {
            None
        },
        fallen_before: app.fallen(epoch.saturating_sub(1), blocks).await?,
        seated: match epoch.checked_mul(blocks).and_then(|h| h.checked_sub(1)) {
            Some(height) => app.duty_proof(height).await?,
            None => None,
        },
    }))
}
