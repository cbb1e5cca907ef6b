//! What is asked of a witness: for those who do not follow the chain by themselves.

use axum::Json;
use axum::extract::State as From;
use ledger::witness::{Look, Target};
use types::{PublicKey, Signature};

use crate::answer::{Answer, Named, Refused};
use crate::http::App;

fn nobody() -> Refused {
    Refused::not_found(
        "such a witness of this epoch",
        "Those drawn are in `runrig lots show`.",
    )
}

pub async fn look(From(app): From<App>, Named(key): Named<PublicKey>) -> Answer<Look> {
    let look = app.compute(move |state| state.look_of(&key)).await?;
    look.map(Json).ok_or_else(nobody)
}

pub async fn targets(
    From(app): From<App>,
    Named((key, lot)): Named<(PublicKey, String)>,
) -> Answer<Vec<Target>> {
    let lot = hex::decode(lot).ok().and_then(|lot| lot.try_into().ok());
    let lot = Signature(lot.ok_or_else(nobody)?);
    let targets = app.compute(move |state| {
        let look = state.look_of(&key)?;
        // No lot but its own: nobody learns from it where others look.
        key.verify(&look.message.0, &lot).ok()?;
        Some(state.targets(&lot, look.epoch, look.round))
    });
    targets.await?.map(Json).ok_or_else(nobody)
}
