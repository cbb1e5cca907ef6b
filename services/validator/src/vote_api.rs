//! What is voted on.

use api::ProposalView;
use axum::Json;
use axum::extract::State as From;
use axum::response::Response;
use types::ProposalId;

use crate::answer::{Answer, Asked, Named, Refused};
use crate::http::{App, Page, answer};
use crate::lists::rows;

fn view(state: &ledger::State, id: ProposalId) -> Option<ProposalView> {
    let proposal = state.proposals.get(&id)?;
    Some(ProposalView {
        id,
        yes: proposal.count(true) as u64,
        no: proposal.count(false) as u64,
        members: proposal.votes.len() as u64,
        proposal: proposal.clone(),
    })
}

/// The latest first.
pub async fn proposals(
    From(app): From<App>,
    Asked(page): Asked<Page>,
) -> Result<Response, Refused> {
    let from = page.from.unwrap_or(0);
    app.compute(move |state| {
        let ids = state.proposals.iter().rev().map(|(id, _)| *id);
        answer(rows(ids, from, |id| view(&state, id)))
    })
    .await?
}

pub async fn proposal(From(app): From<App>, Named(text): Named<String>) -> Answer<ProposalView> {
    let state = app.state();
    let found = text.parse().ok().and_then(|id| view(&state, id));
    found.map(Json).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Refused::not_found(&format!("proposal {shown}"), "See `runrig vote ls`.")
    })
}
