//! Quotes, bills, receipts and their proofs, supply.

use api::{Bill, BillLine, EventProof, Quote, QuoteLine, QuoteRequest, Supply};
use axum::Json;
use axum::extract::{Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::Event;
use ledger::lease::Receipt;
use serde::Deserialize;
use types::{AccountId, Amount, DeploymentId, ReceiptId, Resource, merkle_path};

use crate::http::{Answer, App, Refused};

/// Receipts named on a bill's line: the last ones.
const RECEIPTS_MAX: usize = 20;
/// Allocations on one bill.
const BILLED_MAX: usize = 10_000;
/// Blocks between one and the next certified one.
const DESCENDANTS_MAX: u64 = 64;

pub async fn supply(State(app): State<App>) -> Json<Supply> {
    let state = app.state();
    let (expected, spendable, escrow) = state.supply();
    Json(Supply {
        height: state.height(),
        expected,
        sum: Amount(spendable.0 + escrow.0),
        spendable,
        escrow,
    })
}

pub async fn quote(State(app): State<App>, Json(request): Json<QuoteRequest>) -> Answer<Quote> {
    let state = app.state();
    let owner = request.owner;
    let spec = request.spec;
    let (balance, outcome) = tokio::task::spawn_blocking(move || {
        (state.account(&owner).balance(), state.quote(owner, &spec))
    })
    .await
    .map_err(|e| Refused::internal(&e.into()))?;
    Ok(Json(Quote {
        lines: outcome
            .lines
            .into_iter()
            .map(|l| QuoteLine {
                service: l.service,
                replicas: l.replicas,
                resource: l.resource,
                usage: l.resource.quoted(l.counted),
                unit: l.resource.unit().into(),
                rate: l.rate,
                amount_hour: l.amount_hour,
            })
            .collect(),
        total_hour: outcome.total_hour,
        transfer_gib: outcome.transfer_gib,
        escrow: outcome.escrow,
        balance,
        changes: outcome.changes,
        refusal: outcome.refusal,
    }))
}

#[derive(Deserialize)]
pub struct BillFilter {
    owner: Option<AccountId>,
    deployment: Option<DeploymentId>,
}

/// Release → service → allocation → resource; the total is the sum of the lines.
pub async fn bill(State(app): State<App>, Query(filter): Query<BillFilter>) -> Answer<Bill> {
    let state = app.state();
    let deployments: Vec<DeploymentId> = match (filter.deployment, filter.owner) {
        (Some(id), _) => vec![id],
        (None, Some(owner)) => state.deployments_of(&owner).map(|(id, _)| id).collect(),
        (None, None) => return Err(Refused::invalid("bill", "say whose: owner= or deployment=")),
    };
    let owner = match (filter.owner, deployments.first()) {
        (Some(owner), _) => owner,
        (None, first) => first
            .and_then(|id| state.deployments.get(id))
            .map(|d| d.owner)
            .ok_or_else(|| Refused::not_found("this deployment", "See `runrig ps -a`."))?,
    };
    let mut lines = Vec::new();
    let all = deployments
        .iter()
        .filter_map(|id| Some((*id, state.deployments.get(id)?)))
        .flat_map(|(id, d)| {
            d.ended
                .iter()
                .chain(&d.allocations)
                .map(move |a| (id, d, *a))
        });
    for (id, deployment, number) in all.take(BILLED_MAX) {
        let Some(allocation) = state.allocations.get(&number) else {
            continue;
        };
        let receipts = app.index.receipts_of(&number, RECEIPTS_MAX);
        for (resource, amount) in Resource::ALL.into_iter().zip(allocation.charged) {
            lines.push(BillLine {
                deployment: id,
                project: deployment.spec.project.clone(),
                release: allocation.release,
                service: allocation.service.clone(),
                allocation: number,
                host: allocation.host,
                resource,
                usage: resource.quoted(allocation.usage.counted(resource)),
                unit: resource.unit().into(),
                rate: allocation.rates.rate(resource),
                amount,
                receipts: receipts.clone(),
            });
        }
    }
    lines.sort_by(|a, b| {
        let key = |l: &BillLine| {
            (
                l.deployment,
                l.release,
                l.service.clone(),
                l.allocation,
                l.resource,
            )
        };
        key(a).cmp(&key(b))
    });
    Ok(Json(Bill {
        owner,
        height: state.height(),
        total: Amount(lines.iter().map(|l| l.amount.0).sum()),
        lines,
        tariff: state.params().tariff,
    }))
}

fn receipt_id(text: &str) -> Result<ReceiptId, Refused> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        Refused::not_found(&format!("receipt {shown}"), "See `runrig bill --json`.")
    })
}

pub async fn receipt(State(app): State<App>, Path(id): Path<String>) -> Answer<Receipt> {
    let id = receipt_id(&id)?;
    let missing = || Refused::not_found(&id.to_string(), "See `runrig bill --json`.");
    let at = app.index.receipt(id).ok_or_else(missing)?;
    let block = app.read_block(at.height).await?.ok_or_else(missing)?;
    match block.events.into_iter().nth(at.index as usize) {
        Some(Event::Lease(ledger::lease::Event::Settled(receipt))) => Ok(Json(receipt)),
        _ => Err(missing()),
    }
}

pub async fn receipt_proof(State(app): State<App>, Path(id): Path<String>) -> Answer<EventProof> {
    let id = receipt_id(&id)?;
    let missing = || Refused::not_found(&id.to_string(), "See `runrig bill --json`.");
    let at = app.index.receipt(id).ok_or_else(missing)?;
    let block = app.read_block(at.height).await?.ok_or_else(missing)?;
    let events = &block.record.events;
    let mut descendants = Vec::new();
    let mut certificate = block.record.certificate.clone();
    for height in (at.height + 1..).take(DESCENDANTS_MAX as usize) {
        if certificate.is_some() {
            break;
        }
        let Some(next) = app.read_block(height).await? else {
            break;
        };
        descendants.push(BASE64.encode(&next.record.header));
        certificate.clone_from(&next.record.certificate);
    }
    let certificate = certificate.ok_or_else(missing)?;
    Ok(Json(EventProof {
        header: BASE64.encode(&block.record.header),
        descendants,
        certificate: BASE64.encode(certificate),
        event: BASE64.encode(&events[at.index as usize]),
        index: at.index.into(),
        count: events.len() as u64,
        path: merkle_path(events, at.index as usize).ok_or_else(missing)?,
    }))
}
