//! Quotes, bills, receipts and their proofs, supply.

use api::{
    Bill, BillLine, EarlierLine, EventProof, Quote, QuoteLine, QuoteRequest, QuotedPlace, Supply,
};
use axum::Json;
use axum::extract::State as From;
use ledger::deployment::{Deployment, Earlier};
use ledger::lease::Receipt;
use ledger::{Event, State};
use serde::Deserialize;
use types::{AccountId, AllocationId, Amount, DeploymentId, ReceiptId, Resource};

use crate::answer::{Answer, Asked, Named, Refused, Sent};
use crate::http::App;

/// Receipts named on a bill's line: the last ones.
const RECEIPTS_MAX: usize = 20;
/// Allocations on one bill; more are billed by deployment.
const BILLED_MAX: usize = 10_000;

pub async fn supply(From(app): From<App>) -> Answer<Supply> {
    app.compute(|state| {
        let supply = state.supply();
        Json(Supply {
            height: state.height(),
            expected: supply.expected,
            sum: supply.sum(),
            spendable: supply.spendable,
            escrow: supply.escrow,
            bonds: supply.bonds,
            fund: state
                .account(&ledger::validator::fund_account(&state.globals.network))
                .spendable,
        })
    })
    .await
}

pub async fn quote(From(app): From<App>, Sent(request): Sent<QuoteRequest>) -> Answer<Quote> {
    app.compute(move |state| {
        let outcome = state.quote(request.owner, &request.spec);
        Json(Quote {
            asked_hour: outcome.asked_hour(),
            places: (outcome.places.iter())
                .map(|p| {
                    let host = state.hosts.get(&p.host);
                    QuotedPlace {
                        service: p.service.clone(),
                        replica: p.replica,
                        host: p.host,
                        host_name: host.map_or_else(|| p.host.to_string(), |h| h.name.clone()),
                        price_multiplier_milli: host
                            .map_or(1_000, |h| h.offer.price_multiplier_milli),
                        amount_hour: p.amount_hour,
                    }
                })
                .collect(),
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
            balance: state.account(&request.owner).balance(),
            changes: outcome.changes,
            refusal: outcome.refusal,
        })
    })
    .await
}

#[derive(Clone, Copy, Deserialize)]
pub struct BillFilter {
    owner: Option<AccountId>,
    deployment: Option<DeploymentId>,
}

/// Release → service → allocation → resource; the total is the sum of the lines.
pub async fn bill(From(app): From<App>, Asked(filter): Asked<BillFilter>) -> Answer<Bill> {
    let index = app.index.clone();
    app.compute(move |state| {
        let bill = itemise(&state, filter, |allocation| {
            index.receipts_of(allocation, RECEIPTS_MAX)
        });
        bill.map(Json)
    })
    .await?
}

/// A bill is whole or refused: a part of it would not add up.
fn itemise(
    state: &State,
    filter: BillFilter,
    receipts_of: impl Fn(AllocationId) -> anyhow::Result<Vec<ReceiptId>>,
) -> Result<Bill, Refused> {
    let deployments: Vec<(DeploymentId, &Deployment)> = match (filter.deployment, filter.owner) {
        (Some(id), owner) => {
            let found = state.deployments.get(&id);
            let own = found.filter(|d| owner.is_none_or(|owner| d.owner == owner));
            let missing = || Refused::not_found(&id.to_string(), "See `runrig ps -a`.");
            vec![(id, own.ok_or_else(missing)?)]
        }
        (None, Some(owner)) => state.deployments_of(&owner).collect(),
        (None, None) => return Err(Refused::invalid("bill", "say whose: owner= or deployment=")),
    };
    let owner = filter.owner.or(deployments.first().map(|(_, d)| d.owner));
    let billed: usize = deployments
        .iter()
        .map(|(_, d)| d.ended.len() + d.allocations.len())
        .sum();
    if billed > BILLED_MAX {
        let mut refused = Refused::invalid(
            "bill",
            format!("it has {billed} allocations, more than the {BILLED_MAX} of one answer"),
        );
        refused.1.next = "Ask for one: `runrig bill JOB`.".into();
        return Err(refused);
    }
    let mut lines = Vec::with_capacity(billed * Resource::ALL.len());
    let mut earlier = Vec::new();
    for (id, deployment) in deployments {
        earlier.extend(earlier_lines(id, deployment));
        for number in deployment.ended.iter().chain(&deployment.allocations) {
            let Some(allocation) = state.allocations.get(number) else {
                continue;
            };
            let receipts = receipts_of(*number).map_err(|e| Refused::internal(&e))?;
            for (resource, amount) in Resource::ALL.into_iter().zip(allocation.charged) {
                lines.push(BillLine {
                    deployment: id,
                    project: deployment.spec.project.clone(),
                    release: allocation.release,
                    service: allocation.service.clone(),
                    allocation: *number,
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
    }
    lines.sort_by(|a, b| {
        (
            a.deployment,
            a.release,
            &a.service,
            a.allocation,
            a.resource,
        )
            .cmp(&(
                b.deployment,
                b.release,
                &b.service,
                b.allocation,
                b.resource,
            ))
    });
    let mut bill = Bill {
        owner: owner.unwrap_or(AccountId([0; 20])),
        height: state.height(),
        total: Amount::ZERO,
        lines,
        earlier,
        tariff: state.params().tariff,
    };
    bill.total = bill.sum();
    Ok(bill)
}

fn earlier_lines(
    id: DeploymentId,
    deployment: &Deployment,
) -> impl Iterator<Item = EarlierLine> + '_ {
    let line = move |service: &String, of: &Earlier, at: usize, resource: Resource| EarlierLine {
        deployment: id,
        project: deployment.spec.project.clone(),
        service: service.clone(),
        allocations: of.allocations,
        releases: of.releases,
        resource,
        usage: resource.quoted(of.counted[at]),
        unit: resource.unit().into(),
        amount: of.charged[at],
    };
    deployment.earlier.iter().flat_map(move |(service, of)| {
        let all = Resource::ALL.into_iter().enumerate();
        all.map(move |(at, resource)| line(service, of, at, resource))
    })
}

fn receipt_id(text: &str) -> Result<ReceiptId, Refused> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        Refused::not_found(&format!("receipt {shown}"), "See `runrig bill --json`.")
    })
}

pub async fn receipt(From(app): From<App>, Named(id): Named<String>) -> Answer<Receipt> {
    let id = receipt_id(&id)?;
    let missing = || app.gone(&id.to_string(), None, "See `runrig bill --json`.");
    let at = app.index.receipt(id).map_err(|e| Refused::internal(&e))?;
    let at = at.ok_or_else(missing)?;
    let block = app.read_block(at.height).await?.ok_or_else(missing)?;
    match block.events.get(at.index as usize) {
        Some(Event::Lease(ledger::lease::Event::Settled(receipt))) => Ok(Json(receipt.clone())),
        _ => Err(missing()),
    }
}

pub async fn receipt_proof(From(app): From<App>, Named(id): Named<String>) -> Answer<EventProof> {
    let id = receipt_id(&id)?;
    let missing = || app.gone(&id.to_string(), None, "See `runrig bill --json`.");
    let at = app.index.receipt(id).map_err(|e| Refused::internal(&e))?;
    let at = at.ok_or_else(missing)?;
    let block = app.read_block(at.height).await?.ok_or_else(missing)?;
    Ok(Json(app.event_proof(&block, at.index as usize).await?))
}
