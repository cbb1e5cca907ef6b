//! Blocks, transactions and events.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{
    BlockView, EventView, HandingView, ScreenedBy, Submit, SubmitMany, Submitted, SubmittedOne,
    TransactionStatus, TransactionView, TurnsView,
};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use consensus::SubmitError;
use futures::stream;
use ledger::{Event, RejectKind, Rejection};
use serde::Deserialize;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, watch};
use types::{AccountId, DeploymentId, Digest};

use crate::answer::{Answer, Asked, Named, Refused, Sent};
use crate::http::{App, NEXT, Validator, WAIT_MS_MAX};
use crate::index::{Handle, ReadBlock};

/// Events in one page.
const PAGE_MAX: usize = 1_000;
/// Events kept ready for one who follows.
const FOLLOWED_MAX: usize = 64;
/// Blocks read for one page.
const BLOCKS_MAX: usize = 1_000;

/// So long the index may need to reach the head.
const INDEX_LAG: Duration = Duration::from_secs(5);
/// Blocks kept read.
const RECENT_MAX: u64 = 16;

type Shared = Arc<OnceCell<Option<Arc<ReadBlock>>>>;

/// The last blocks: every submitter in a block waits for the same one.
#[derive(Default)]
pub struct Recent(Mutex<BTreeMap<u64, Shared>>);

impl Recent {
    fn cell(&self, height: u64, head: u64) -> Option<Shared> {
        let from = (head + 1).saturating_sub(RECENT_MAX);
        if !(from..=head).contains(&height) {
            return None;
        }
        let mut cells = self.0.lock().expect("not poisoned");
        *cells = cells.split_off(&from);
        Some(cells.entry(height).or_default().clone())
    }
}

impl Validator {
    pub async fn read_block(&self, height: u64) -> Result<Option<Arc<ReadBlock>>, Refused> {
        let head = self.handle.head().header.height;
        match self.recent.cell(height, head) {
            Some(cell) => {
                let read = cell.get_or_try_init(|| self.read_from_disk(height));
                Ok(read.await?.clone())
            }
            None => self.read_from_disk(height).await,
        }
    }

    async fn read_from_disk(&self, height: u64) -> Result<Option<Arc<ReadBlock>>, Refused> {
        let handle = self.handle.clone();
        let read = move || {
            let record = handle.block(height)?;
            record.map(|r| ReadBlock::new(Arc::new(r))).transpose()
        };
        let block = tokio::task::spawn_blocking(read)
            .await
            .map_err(anyhow::Error::from)
            .and_then(|block| block)
            .map_err(|e| Refused::internal(&e))?;
        Ok(block.map(Arc::new))
    }

    async fn view_transaction(&self, id: Digest) -> Result<TransactionView, Refused> {
        let unknown = |status| TransactionView {
            id,
            status,
            height: None,
            rejection: None,
            fee: types::Amount::ZERO,
            sender: None,
            signer: None,
            on_behalf: Vec::new(),
            call: None,
            events: Vec::new(),
        };
        let found = self.index.transaction(&id);
        let Some(at) = found.map_err(|e| Refused::internal(&e))? else {
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

    /// A transaction that comes too late may have come before, and be what used its own nonce:
    /// whoever sends it again because he heard no answer must not take it for lost.
    async fn find_included(&self, bytes: &[u8]) -> Result<Option<TransactionView>, Refused> {
        let Ok(transaction) = ledger::decode(bytes) else {
            return Ok(None);
        };
        let judged = self.handle.head().header.height;
        let mut indexed = self.indexed.clone();
        let reached = indexed.wait_for(|height| *height >= judged);
        if !matches!(tokio::time::timeout(INDEX_LAG, reached).await, Ok(Ok(_))) {
            return Err(Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                format!("transaction {}", transaction.id()),
                "whether it is in a block already is not known here yet",
                "Try again in a moment.",
            ));
        }
        let view = self.view_transaction(transaction.id()).await?;
        Ok(Some(view).filter(|view| view.height.is_some()))
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
            let known = self.index.transaction(&id);
            let known = known.map_err(|e| Refused::internal(&e))?;
            if known.is_some()
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
        fee: outcome.fee,
        sender: decoded.as_ref().map(ledger::Transaction::sender),
        signer: decoded.as_ref().map(ledger::Transaction::signer),
        on_behalf: decoded
            .as_ref()
            .map_or_else(Vec::new, |t| t.body.on_behalf.clone()),
        call: decoded.map(|t| t.body.call),
        events: outcome.caused(&block.events).to_vec(),
    }
}

pub async fn block(State(app): State<App>, Named(height): Named<u64>) -> Answer<BlockView> {
    let block = app.read_block(height).await?.ok_or_else(|| {
        let what = format!("block {height}");
        app.gone(&what, Some(height), "See `runrig chain status`.")
    })?;
    let handing = consensus::handing(&block.record).map_err(|e| Refused::internal(&e.into()))?;
    let handing = handing.map(|handing| HandingView {
        done: handing.done,
        seats: handing.seats.into_iter().map(types::PublicKey).collect(),
        revealed: handing.revealed.into_iter().map(types::PublicKey).collect(),
    });
    app.compute(move |_| {
        let header = &block.header;
        Json(BlockView {
            height,
            time_ms: header.time_ms,
            block: header.digest(),
            parent: header.parent,
            state_root: header.state_root,
            events_root: header.events_root,
            header: BASE64.encode(&block.record.header),
            seal: BASE64.encode(block.record.seal),
            certificate: BASE64.encode(block.record.certificate.as_deref().unwrap_or_default()),
            transactions: (0..block.outcomes.len()).map(|i| view(&block, i)).collect(),
            handing,
        })
    })
    .await
}

#[derive(Deserialize)]
pub struct WaitFor {
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Deserialize)]
pub struct TurnsAsked {
    #[serde(default)]
    since_ms: u64,
    until: Option<u64>,
}

pub async fn turns(
    State(app): State<App>,
    Asked(asked): Asked<TurnsAsked>,
) -> Answer<Vec<TurnsView>> {
    let index = app.index.clone();
    let read =
        app.compute_with(move |_| index.turns(asked.since_ms, asked.until.unwrap_or(u64::MAX)));
    Ok(Json(read.await?.map_err(|e| Refused::internal(&e))?))
}

/// Final blocks from `height` on, as validators send them to each other, for who follows; none if
/// there are none within the wait.
pub async fn passed(
    State(app): State<App>,
    Named(height): Named<u64>,
    Asked(wait): Asked<WaitFor>,
) -> Result<Response, Refused> {
    if height < app.handle.begins().max(1) {
        return Err(app.gone(
            &format!("block {height}"),
            Some(height),
            "Blocks that are made begin with 1.",
        ));
    }
    let waiting = app.wait_place()?;
    let mut heads = app.handle.subscribe();
    let limit = Duration::from_millis(wait.wait_ms.min(WAIT_MS_MAX));
    let made = heads.wait_for(|head| head.header.height >= height);
    let _ = tokio::time::timeout(limit, made)
        .await
        .map(|made| made.is_ok());
    drop(waiting);
    let place = app.passing.clone().try_acquire_owned();
    let place = place.map_err(|_| Refused::busy("too many follow the chain here"))?;
    let read = app.compute_with(move |handle| handle.passed(height));
    let passed = read.await?.map_err(|e| Refused::internal(&e))?;
    let body = held(passed.into(), place);
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// Keeps its place until all of it is on its way: whoever reads slowly holds megabytes.
fn held(bytes: Bytes, place: OwnedSemaphorePermit) -> Body {
    const PART: usize = 64 << 10;
    Body::from_stream(stream::unfold((bytes, place), |(mut rest, place)| async {
        let part = rest.split_to(rest.len().min(PART));
        (!part.is_empty()).then_some((Ok::<_, Infallible>(part), (rest, place)))
    }))
}

pub async fn submit(
    State(app): State<App>,
    Asked(wait): Asked<WaitFor>,
    Sent(submit): Sent<Submit>,
) -> Answer<Submitted> {
    let bytes = BASE64
        .decode(submit.transaction)
        .map_err(|_| Refused::invalid("transaction", "it is not base64"))?;
    let bytes = Bytes::from(bytes);
    let id = match app.handle.submit(bytes.clone()) {
        Ok(id) => id,
        Err(error) => {
            let refused = refusal(error);
            let included = match refused.1.kind == RejectKind::Stale.name() {
                true => app.find_included(&bytes).await?,
                false => None,
            };
            let view = included.ok_or(refused)?;
            return Ok(Json(Submitted {
                id: view.id,
                result: Some(view),
            }));
        }
    };
    let result = match wait.wait_ms {
        0 => None,
        ms => {
            let _place = app.wait_place()?;
            Some(app.await_transaction(id, ms).await?)
        }
    };
    Ok(Json(Submitted { id, result }))
}

/// Each is queued or refused by itself; their signatures are checked in one batch.
pub async fn submit_many(
    State(app): State<App>,
    Sent(submit): Sent<SubmitMany>,
) -> Answer<Vec<SubmittedOne>> {
    let (transactions, screened) = (submit.transactions, submit.screened);
    if transactions.len() > SubmitMany::MAX {
        let why = format!("at most {} are taken in one request", SubmitMany::MAX);
        return Err(Refused::invalid("transactions", why));
    }
    let answers =
        app.compute_with(move |handle| queue_many(handle, &transactions, screened.as_ref()));
    Ok(Json(answers.await?))
}

fn queue_many(
    handle: &Handle,
    transactions: &[String],
    screened: Option<&ScreenedBy>,
) -> Vec<SubmittedOne> {
    let read: Vec<Option<Bytes>> = transactions
        .iter()
        .map(|text| BASE64.decode(text).ok().map(Bytes::from))
        .collect();
    let readable: Vec<Bytes> = read.iter().flatten().cloned().collect();
    let queued = match screened.filter(|s| s.words.len() == readable.len()) {
        Some(screened) => {
            let word =
                |text: &String| -> Option<[u8; 64]> { BASE64.decode(text).ok()?.try_into().ok() };
            // One that cannot be read counts for nothing, as one that does not hold.
            let words: Vec<[u8; 64]> = screened
                .words
                .iter()
                .map(|text| word(text).unwrap_or([0; 64]))
                .collect();
            handle.submit_screened(readable, screened.key.0, screened.epoch, &words)
        }
        None => handle.submit_many(readable),
    };
    let mut queued = queued.into_iter();
    let answer = |bytes: &Option<Bytes>| {
        let submitted = match bytes {
            Some(_) => queued.next().expect("one answer for each").map_err(refusal),
            None => Err(Refused::invalid("transaction", "it is not base64")),
        };
        let (id, problem) = match submitted {
            Ok(id) => (Some(id), None),
            Err(refused) => (None, Some(refused.1)),
        };
        SubmittedOne { id, problem }
    };
    read.iter().map(answer).collect()
}

pub fn rejected(rejection: Rejection) -> Refused {
    let code = match rejection.kind {
        RejectKind::Invalid | RejectKind::Signature => StatusCode::BAD_REQUEST,
        RejectKind::NotFound => StatusCode::NOT_FOUND,
        RejectKind::Forbidden => StatusCode::FORBIDDEN,
        RejectKind::Conflict | RejectKind::NoHost | RejectKind::Stale => StatusCode::CONFLICT,
        RejectKind::Funds => StatusCode::PAYMENT_REQUIRED,
    };
    let kind = rejection.kind.name();
    Refused::new(code, kind, rejection.what, rejection.why, &rejection.next)
}

fn refusal(error: SubmitError) -> Refused {
    match error {
        SubmitError::Refused(json) => match serde_json::from_str(&json) {
            Ok(rejection) => rejected(rejection),
            Err(_) => Refused::invalid("transaction", json),
        },
        busy => {
            let next = match busy {
                SubmitError::Quota => {
                    "Wait until some of them are in blocks, then send it again as it is; or send it from another account."
                }
                _ => "Send it again as it is in a few seconds, or to another validator.",
            };
            let (code, why) = (StatusCode::TOO_MANY_REQUESTS, busy.to_string());
            Refused::new(code, "unavailable", "transaction", why, next)
        }
    }
}

pub async fn transaction(
    State(app): State<App>,
    Named(id): Named<String>,
    Asked(wait): Asked<WaitFor>,
) -> Answer<TransactionView> {
    let id: Digest = id
        .parse()
        .map_err(|e: types::DigestError| Refused::invalid("transaction", e.to_string()))?;
    let _place = app.wait_place()?;
    let view = app.await_transaction(id, wait.wait_ms).await?;
    // Who does not wait for it asks of the past.
    if view.status == TransactionStatus::Unknown && wait.wait_ms == 0 && app.handle.begins() > 0 {
        return Err(app.gone(&format!("transaction {id}"), None, ""));
    }
    Ok(Json(view))
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct EventFilter {
    owner: Option<AccountId>,
    deployment: Option<DeploymentId>,
    /// Number of the first event wanted; the next one to come if not said.
    from: Option<u64>,
}

/// Whether `filter` asks for it.
fn concerns(state: &ledger::State, event: &Event, filter: &EventFilter) -> bool {
    let about = event.deployment();
    if filter.deployment.is_some() && filter.deployment != about {
        return false;
    }
    let Some(owner) = filter.owner else {
        return true;
    };
    let owns = |id: DeploymentId| state.deployments.get(&id).is_some_and(|d| d.owner == owner);
    match event {
        Event::Account(ledger::account::Event::Transferred { from, to, .. }) => {
            *from == owner || *to == owner
        }
        Event::Account(ledger::account::Event::Granted { account, to, .. }) => {
            *account == owner || *to == owner
        }
        Event::Account(ledger::account::Event::Revoked { account, from }) => {
            *account == owner || *from == owner
        }
        Event::Host(event) => {
            use ledger::host::Event as H;
            if let H::HostLeft { owner: of, .. }
            | H::HostInvited { owner: of, .. }
            | H::HostUninvited { owner: of, .. }
            | H::HostJoined { owner: of, .. } = event
            {
                return *of == owner;
            }
            let known = event.host().and_then(|id| state.hosts.get(&id));
            known.is_some_and(|host| host.owner == owner)
        }
        Event::Witness(ledger::witness::Event::HostFlagged { host, .. }) => {
            let known = state.hosts.get(host);
            known.is_some_and(|host| host.owner == owner)
        }
        Event::Deployment(_) | Event::Lease(_) => about.is_some_and(owns),
        Event::Validator(event) => {
            use ledger::validator::Event as V;
            match event {
                V::ValidatorRegistered { owner: of, .. }
                | V::ValidatorLeaving { owner: of, .. } => *of == owner,
                V::BondReturned { to, .. } => *to == owner,
                V::ValidatorConvicted {
                    owner: of, finder, ..
                } => *of == owner || *finder == owner,
            }
        }
        Event::Limit(event) => match event {
            ledger::limit::Event::Set { account, .. }
            | ledger::limit::Event::Told { account, .. } => *account == owner,
        },
        // Its payments concern their accounts.
        Event::Lots(_) | Event::Lottery(_) | Event::Duty(_) | Event::Vote(_) => false,
    }
}

/// Events from number `from` on, at most `most`, up to what is indexed; and the number to go
/// on from.
async fn page(
    app: &Validator,
    filter: &EventFilter,
    from: u64,
    most: usize,
) -> Result<(Vec<EventView>, u64), Refused> {
    let mut all = Vec::new();
    let mut next = from;
    let state = app.state();
    let first = app.index.first_event().map_err(|e| Refused::internal(&e))?;
    if from < first {
        let what = format!("event {from}");
        return Err(app.before(&what, &format!("events from {first} on")));
    }
    // So many blocks are read for one page at most, however few events match.
    for _ in 0..BLOCKS_MAX {
        let found = app.index.block_of(next);
        let Some((height, first)) = found.map_err(|e| Refused::internal(&e))? else {
            break;
        };
        let Some(block) = app.read_block(height).await? else {
            break;
        };
        let time_ms = block.header.time_ms;
        for (index, event) in block.events.iter().enumerate() {
            let sequence = first + index as u64;
            if sequence < next {
                continue;
            }
            if all.len() >= most {
                return Ok((all, next));
            }
            next = sequence + 1;
            if concerns(&state, event, filter) {
                all.push(EventView {
                    sequence,
                    height,
                    index: index as u32,
                    time_ms,
                    event: event.clone(),
                });
            }
        }
    }
    Ok((all, next))
}

pub async fn events(
    State(app): State<App>,
    Asked(filter): Asked<EventFilter>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if text("accept").is_some_and(|a| a.contains("application/json")) {
        let from = filter.from.unwrap_or(0);
        let (events, next) = page(&app, &filter, from, PAGE_MAX).await?;
        let mut response = Json(events).into_response();
        if next < app.index.events() {
            response.headers_mut().insert(NEXT, next.into());
        }
        return Ok(response);
    }
    // A client that comes back says where it was.
    let resumed = text("last-event-id").and_then(|v| v.parse::<u64>().ok());
    let from = resumed.map(|last| last.saturating_add(1)).or(filter.from);
    let first = from.unwrap_or_else(|| app.index.events());
    let follower = Follower {
        _place: app.wait_place()?,
        indexed: app.indexed.clone(),
        next: first,
        ready: VecDeque::new(),
        filter,
        app,
    };
    // Read only as fast as the client does.
    let stream = futures::stream::unfold(follower, |mut follower| async move {
        let view = follower.follow().await?;
        let event = sse::Event::default()
            .id(view.sequence.to_string())
            .json_data(&view)
            .ok()?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    // Who follows from now on learns where that is, and so can come back to it.
    let from = [(NEXT, first.to_string())];
    let events = Sse::new(stream).keep_alive(KeepAlive::default());
    Ok((from, events).into_response())
}

/// Someone who follows events, and where they are.
struct Follower {
    app: App,
    filter: EventFilter,
    next: u64,
    ready: VecDeque<EventView>,
    indexed: watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event, once there is one; `None` if the stream must end.
    async fn follow(&mut self) -> Option<EventView> {
        loop {
            if let Some(view) = self.ready.pop_front() {
                return Some(view);
            }
            self.indexed.mark_unchanged();
            let (events, next) = page(&self.app, &self.filter, self.next, FOLLOWED_MAX)
                .await
                .ok()?;
            let moved = next != self.next;
            self.next = next;
            self.ready = events.into();
            if !moved {
                self.indexed.changed().await.ok()?;
            }
        }
    }
}
