//! Proofs, as the network sent them, for those who check them in their browsers; and where pages have
//! the button for that.

use std::time::Duration;

use api::UsageProof;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use browser::{ACCOUNTS, About, HOSTS, ReceiptProof};
use ledger::lease::Receipt;
use maud::Markup;
use types::{AccountId, Digest, HostId, ReceiptId};

use super::shown;
use crate::app::App;
use crate::ui::{Check, Place, check};
use crate::web::{Page, Programs, Trouble, Visitor, url};

/// How long a page waits for a host's own record.
const HOST_WAITS: Duration = Duration::from_secs(2);

/// The part of a page that checks what the page is about.
pub fn card(app: &App, about: About) -> Markup {
    let key = app.network.get().map(|network| hex::encode(&network.key));
    // Ids and numbers can be written.
    let named = serde_json::to_string(&about).unwrap_or_default();
    check(&Check {
        about: &named,
        proof: &path(about),
        program: browser::PROGRAM.map(|_| url("check.wasm")),
        network_key: &key.unwrap_or_default(),
    })
}

fn path(about: About) -> String {
    match about {
        About::Receipt(id) => format!("/explorer/proofs/receipts/{id}"),
        About::Transaction(id) => format!("/explorer/proofs/transactions/{}", id.hex()),
        About::Block(height) => format!("/explorer/proofs/blocks/{height}"),
        About::Account(id) => format!("/explorer/proofs/accounts/{id}"),
        About::Host(id) => format!("/explorer/proofs/hosts/{id}"),
    }
}

/// As [`shown`], a page that has a [`card`]: its program may run.
pub async fn shown_with_check(
    app: &App,
    visitor: &Visitor,
    at: Place,
    title: &str,
    content: Markup,
) -> Page {
    let mut page = shown(app, visitor, at, title, content).await?;
    if browser::PROGRAM.is_ok() {
        page.extensions_mut().insert(Programs);
    }
    Ok(page)
}

/// The host's own record, if it still answers.
pub async fn usage_of(app: &App, receipt: &Receipt) -> Option<UsageProof> {
    let asked = app.client.usage(receipt.allocation, receipt.sequence);
    tokio::time::timeout(HOST_WAITS, asked).await.ok()?.ok()
}

/// `GET /explorer/proofs/receipts/{id}`
pub async fn receipt(State(app): State<App>, Path(id): Path<String>) -> Page {
    let missing = |_| Trouble::missing("There is no such receipt");
    let number: ReceiptId = id.parse().map_err(missing)?;
    let receipt = app.client.receipt(number).await?;
    let proof = ReceiptProof {
        event: app.client.receipt_proof(number).await?,
        usage: usage_of(&app, &receipt).await,
    };
    Ok(Json(proof).into_response())
}

/// `GET /explorer/proofs/transactions/{id}`
pub async fn transaction(State(app): State<App>, Path(id): Path<String>) -> Page {
    let missing = |_| Trouble::missing("There is no such transaction");
    let id: Digest = format!("sha256:{id}").parse().map_err(missing)?;
    Ok(Json(app.client.when(&id.to_string()).await?).into_response())
}

/// `GET /explorer/proofs/blocks/{height}`
pub async fn block(State(app): State<App>, Path(height): Path<String>) -> Page {
    let missing = |_| Trouble::missing("There is no such block");
    let height: u64 = height.parse().map_err(missing)?;
    Ok(Json(app.client.when(&height.to_string()).await?).into_response())
}

/// `GET /explorer/proofs/accounts/{id}`
pub async fn account(State(app): State<App>, Path(id): Path<String>) -> Page {
    let missing = |_| Trouble::missing("There is no such account");
    let id: AccountId = id.parse().map_err(missing)?;
    Ok(Json(app.client.records(ACCOUNTS, &[id]).await?).into_response())
}

/// `GET /explorer/proofs/hosts/{id}`
pub async fn host(State(app): State<App>, Path(id): Path<String>) -> Page {
    let missing = |_| Trouble::missing("There is no such host");
    let id: HostId = id.parse().map_err(missing)?;
    Ok(Json(app.client.records(HOSTS, &[id]).await?).into_response())
}

#[cfg(test)]
mod tests;
