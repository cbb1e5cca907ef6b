//! Blocks, transactions and events.

use std::convert::Infallible;
use std::time::Duration;

use api::{BlockView, EventView, Submit, Submitted, TransactionStatus, TransactionView};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use consensus::SubmitError;
use ledger::{Event, RejectKind, Rejection};
use serde::Deserialize;
use tokio::sync::mpsc;
use types::{AccountId, DeploymentId, Digest};

use crate::http::{Answer, App, Refused, Validator, WAIT_MS_MAX};
use crate::index::ReadBlock;

/// Events in one page.
const PAGE_MAX: usize = 1_000;

impl Validator {
    pub async fn read_block(&self, height: u64) -> Result<Option<ReadBlock>, Refused> {
        let handle = self.handle.clone();
        tokio::task::spawn_blocking(move || handle.block(height)?.map(ReadBlock::new).transpose())
            .await
            .map_err(anyhow::Error::from)
            .and_then(|r| r)
            .map_err(|e| Refused::internal(&e))
    }

    async fn view_transaction(&self, id: Digest) -> Result<TransactionView, Refused> {
        let unknown = |status| TransactionView {
            id,
            status,
            height: None,
            rejection: None,
            sender: None,
            call: None,
            events: Vec::new(),
        };
        let Some(at) = self.index.transaction(&id) else {
            return Ok(unknown(if self.handle.is_queued(&id) {
                TransactionStatus::Pending
            } else {
                TransactionStatus::Unknown
            }));
        };
        match self.read_block(at.height).await? {
            Some(block) => Ok(view(&block, at.index as usize)),
            None => Ok(unknown(TransactionStatus::Unknown)),
        }
    }

    /// Waits until the index reaches a block with `id`, at most `wait_ms`.
    async fn await_transaction(
        &self,
        id: Digest,
        wait_ms: u64,
    ) -> Result<TransactionView, Refused> {
        let limit = Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
        let deadline = tokio::time::Instant::now() + limit;
        let mut indexed = self.indexed.clone();
        loop {
            indexed.mark_unchanged();
            let known = self.index.transaction(&id).is_some();
            if known
                || tokio::time::timeout_at(deadline, indexed.changed())
                    .await
                    .is_err()
            {
                return self.view_transaction(id).await;
            }
        }
    }
}

fn view(block: &ReadBlock, index: usize) -> TransactionView {
    let outcome = &block.outcomes[index];
    let decoded = ledger::decode(&block.record.transactions[index]).ok();
    TransactionView {
        id: outcome.transaction,
        status: match &outcome.rejection {
            None => TransactionStatus::Applied,
            Some(_) => TransactionStatus::Rejected,
        },
        height: Some(block.header.height),
        rejection: outcome.rejection.clone(),
        sender: decoded.as_ref().map(ledger::Transaction::sender),
        call: decoded.map(|t| t.body.call),
        events: block.caused(index).to_vec(),
    }
}

pub async fn block(State(app): State<App>, Path(height): Path<u64>) -> Answer<BlockView> {
    let block = app.read_block(height).await?.ok_or_else(|| {
        Refused::not_found(&format!("block {height}"), "See `runrig chain status`.")
    })?;
    let header = &block.header;
    Ok(Json(BlockView {
        height,
        time_ms: header.time_ms,
        block: header.digest(),
        parent: header.parent,
        state_root: header.state_root,
        events_root: header.events_root,
        header: BASE64.encode(&block.record.header),
        certificate: BASE64.encode(block.record.certificate.as_deref().unwrap_or_default()),
        transactions: (0..block.outcomes.len()).map(|i| view(&block, i)).collect(),
    }))
}

#[derive(Deserialize)]
pub struct WaitFor {
    #[serde(default)]
    wait_ms: u64,
}

pub async fn submit(
    State(app): State<App>,
    Query(wait): Query<WaitFor>,
    Json(submit): Json<Submit>,
) -> Answer<Submitted> {
    let bytes = BASE64
        .decode(submit.transaction)
        .map_err(|_| Refused::invalid("transaction", "it is not base64"))?;
    let id = app.handle.submit(bytes.into()).map_err(refusal)?;
    let result = match wait.wait_ms {
        0 => None,
        ms => {
            let _place = app.wait_place()?;
            Some(app.await_transaction(id, ms).await?)
        }
    };
    Ok(Json(Submitted { id, result }))
}

pub fn rejected(rejection: Rejection) -> Refused {
    let (code, kind) = match rejection.kind {
        RejectKind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
        RejectKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        RejectKind::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
        RejectKind::Conflict => (StatusCode::CONFLICT, "conflict"),
        RejectKind::Funds => (StatusCode::PAYMENT_REQUIRED, "funds"),
        RejectKind::NoHost => (StatusCode::CONFLICT, "no_host"),
        RejectKind::Stale => (StatusCode::CONFLICT, "stale"),
    };
    Refused::new(code, kind, rejection.what, rejection.why, &rejection.next)
}

fn refusal(error: SubmitError) -> Refused {
    match error {
        SubmitError::Refused(json) => match serde_json::from_str(&json) {
            Ok(rejection) => rejected(rejection),
            Err(_) => Refused::invalid("transaction", json),
        },
        busy => {
            let code = StatusCode::TOO_MANY_REQUESTS;
            Refused::new(
                code,
                "unavailable",
                "transaction",
                busy.to_string(),
                "Try again in a moment.",
            )
        }
    }
}

pub async fn transaction(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(wait): Query<WaitFor>,
) -> Answer<TransactionView> {
    let id: Digest = id
        .parse()
        .map_err(|e: types::DigestError| Refused::invalid("transaction", e.to_string()))?;
    let _place = app.wait_place()?;
    Ok(Json(app.await_transaction(id, wait.wait_ms).await?))
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct EventFilter {
    owner: Option<AccountId>,
    deployment: Option<DeploymentId>,
    /// Number of the first event wanted; the next one to come if not said.
    from: Option<u64>,
}

/// What an event is about.
fn concerns(state: &ledger::State, event: &Event, filter: &EventFilter) -> bool {
    if filter.owner.is_none() && filter.deployment.is_none() {
        return true;
    }
    let deployment = deployment_of(event);
    if let (Event::Account(ledger::account::Event::Transferred { from, to, .. }), Some(owner)) =
        (event, filter.owner)
    {
        return filter.deployment.is_none() && (*from == owner || *to == owner);
    }
    let Some(id) = deployment else { return false };
    filter.deployment.is_none_or(|wanted| wanted == id)
        && filter
            .owner
            .is_none_or(|owner| state.deployments.get(&id).is_some_and(|d| d.owner == owner))
}

fn deployment_of(event: &Event) -> Option<DeploymentId> {
    use ledger::deployment::Event as D;
    use ledger::lease::Event as L;
    match event {
        Event::Deployment(event) => Some(match event {
            D::Deployed { deployment, .. }
            | D::Removed { deployment }
            | D::Closed { deployment, .. }
            | D::SetRunning { deployment, .. }
            | D::Restarted { deployment, .. }
            | D::AllocationPlaced { deployment, .. }
            | D::FundsLow { deployment, .. }
            | D::Frozen { deployment }
            | D::Thawed { deployment } => *deployment,
        }),
        Event::Lease(event) => Some(match event {
            L::StatusChanged { deployment, .. } | L::LeaseClosed { deployment, .. } => *deployment,
            L::Settled(receipt) => receipt.deployment,
        }),
        Event::Account(_) | Event::Host(_) => None,
    }
}

/// Events from number `from` on, up to what is indexed or the page is full; and the number
/// to go on from.
async fn page(
    app: &Validator,
    filter: &EventFilter,
    from: u64,
) -> Result<(Vec<EventView>, u64), Refused> {
    let mut all = Vec::new();
    let mut next = from;
    let state = app.state();
    // So many blocks are read for one page at most, however few events match.
    for _ in 0..PAGE_MAX {
        let Some(height) = app.index.block_of(next) else {
            break;
        };
        let Some(block) = app.read_block(height).await? else {
            break;
        };
        let first = app.index.events_before(height);
        for (index, event) in block.events.iter().enumerate() {
            let sequence = first + index as u64;
            if sequence < next {
                continue;
            }
            next = sequence + 1;
            if concerns(&state, event, filter) {
                all.push(EventView {
                    sequence,
                    height,
                    index: index as u32,
                    time_ms: block.header.time_ms,
                    event: event.clone(),
                });
            }
        }
        if all.len() >= PAGE_MAX {
            break;
        }
    }
    Ok((all, next))
}

pub async fn events(
    State(app): State<App>,
    Query(filter): Query<EventFilter>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let end = app.index.events_before(u64::MAX);
    let json = headers
        .get("accept")
        .and_then(|v| v.to_str().ok())
        .is_some_and(|a| a.contains("application/json"));
    if json {
        let (events, _) = page(&app, &filter, filter.from.unwrap_or(0)).await?;
        return Ok(Json(events).into_response());
    }
    // A client that comes back says where it was.
    let resumed = headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<u64>().ok())
        .map(|last| last + 1);
    let from = resumed.or(filter.from).unwrap_or(end);
    let place = app.wait_place()?;
    let (sender, receiver) = mpsc::channel::<EventView>(256);
    tokio::spawn(async move {
        let _place = place;
        let mut indexed = app.indexed.clone();
        let mut next = from;
        loop {
            indexed.mark_unchanged();
            let Ok((events, after)) = page(&app, &filter, next).await else {
                return;
            };
            let moved = after != next;
            next = after;
            for event in events {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            if !moved {
                tokio::select! {
                    changed = indexed.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        let view = receiver.recv().await?;
        let event = sse::Event::default()
            .id(view.sequence.to_string())
            .json_data(&view)
            .unwrap_or_default();
        Some((Ok::<_, Infallible>(event), receiver))
    });
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::default())
        .into_response())
}
