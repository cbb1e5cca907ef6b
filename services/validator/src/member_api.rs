//! Who may be drawn, and what a newcomer starts from.

use api::{ConvictionView, LeavingView, MemberView, MembersView, TicketView};
use axum::Json;
use axum::extract::State as From;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use ledger::State;
use ledger::lots::AHEAD;

use crate::answer::{Answer, Named, Refused};
use crate::http::App;

pub async fn members(From(app): From<App>) -> Answer<MembersView> {
    let index = app.index.clone();
    let view = app.compute(move |state| view(&state, &|key| index.led(key)));
    Ok(Json(view.await?))
}

/// What convicts leaders, as far as this validator saw it.
pub async fn doubles(From(app): From<App>) -> Answer<Vec<types::DoubleProposal>> {
    Ok(Json(app.handle.doubles()))
}

fn view(state: &State, led: &dyn Fn(&[u8; 32]) -> u64) -> MembersView {
    let (epoch, params) = (state.epoch(), state.params());
    let (witnesses, screeners) = (state.witnesses(epoch), state.screeners(epoch));
    let member = |(key, validator): (&types::PublicKey, &ledger::validator::Validator)| {
        let place = |epoch| {
            let seats = state.committee(epoch)?;
            Some(seats.iter().position(|s| s.key == *key)? as u64 + 1)
        };
        let drawn = state.drawings.get(&epoch);
        let payroll = drawn.and_then(|d| d.lineup.as_ref());
        MemberView {
            key: *key,
            owner: validator.owner,
            address: validator.address.clone(),
            api: validator.api.clone(),
            bond: validator.bond,
            until: validator.until,
            place: place(epoch),
            other_duties: payroll.is_some_and(|lineup| lineup.payroll.contains(key)),
            seats: (epoch..=epoch + AHEAD)
                .filter(|e| place(*e).is_some())
                .collect(),
            led: led(&key.0),
            witness: params.witness_ms > 0 && witnesses.contains(key),
            witnessed: state
                .duties
                .iter()
                .filter_map(|(_, duties)| Some(duties.by.get(key)?.witnessed))
                .sum(),
            screener: screeners.contains(key),
            screened: state
                .duties
                .iter()
                .filter_map(|(_, duties)| Some(duties.by.get(key)?.screened))
                .sum(),
            earned: types::Amount(
                state
                    .duties
                    .iter()
                    .filter_map(|(_, duties)| Some(duties.by.get(key)?.earned.0))
                    .sum(),
            ),
            convicted: validator.convicted.map(|c| ConvictionView {
                epoch: c.epoch,
                view: c.view,
                height: c.height,
                lost: c.lost,
            }),
            leaving: validator.leaving.as_ref().map(|leaving| LeavingView {
                to: leaving.to,
                from: leaving.from,
                returns: leaving.from.saturating_add(params.bond_epochs),
            }),
        }
    };
    MembersView {
        height: state.height(),
        epoch,
        bond: params.validator_bond,
        ticket_bits: params.ticket_bits,
        ticket_epochs: params.ticket_epochs,
        epoch_blocks: params.epoch_blocks,
        ticket: state
            .ticket_epoch()
            .map(|(epoch, beacon)| TicketView { epoch, beacon }),
        members: state.validators.iter().map(member).collect(),
    }
}

fn bytes(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// The newest state that newcomers may start from: canonical bytes of an `Offer`.
pub async fn offer(From(app): From<App>) -> Result<Response, Refused> {
    let offered = app.compute_with(|handle| {
        let offer = handle.offer()?;
        Ok(offer.map(|offer| borsh::to_vec(&offer)).transpose()?)
    });
    let offer = offered
        .await?
        .map_err(|e: anyhow::Error| Refused::internal(&e))?;
    offer.map(bytes).ok_or_else(|| {
        Refused::not_found(
            "a state to start from",
            "One is kept at the end of each epoch; ask again, or another validator.",
        )
    })
}

/// A piece of it, with its proof.
pub async fn piece(
    From(app): From<App>,
    Named((height, number)): Named<(u64, u32)>,
) -> Result<Response, Refused> {
    let read = app.compute_with(move |handle| handle.piece(height, number));
    let piece = read.await?.map_err(|e| Refused::internal(&e))?;
    piece.map(bytes).ok_or_else(|| {
        Refused::not_found(
            &format!("piece {number} of the state of block {height}"),
            "States of the last two epochs are kept: see /v1/sync.",
        )
    })
}
