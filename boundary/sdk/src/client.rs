//! One client for all roles behind a gateway (or for a validator's or a host's own API).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{
    AccountView, AllocationView, Bill, BlockView, ChainStatus, DeploymentView, DutiesView,
    EventProof, Head, HostPlan, HostView, JobsView, LimitView, LotsView, NetworkFile, Problem,
    Quote, QuoteRequest, RecordsProof, ReleaseView, RequestAuth, Routes, Stats, Submit, SubmitMany,
    Submitted, SubmittedOne, Supply, TokenView, TransactionStatus, TransactionView, UsageProof,
    UseView, WhenView, WhyView,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borsh::BorshSerialize;
use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use ledger::witness::{Look, Target};
use ledger::{Call, Transaction, TransactionBody};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::{
    AccountId, AccountKey, AllocationId, Amount, DeploymentId, HostId, PublicKey, ReceiptId,
    SecretKey, Signature,
};

use crate::error::SdkError;
use crate::jobs::JobQuery;
use crate::logs::escaped;
use crate::newest::Newest;

/// Longest wait of one request for a transaction.
const WAIT_MS: u64 = 10_000;
/// All of them together.
const INCLUDED_S: u64 = 60;
/// So long a transaction is sent again while nobody answers.
const LOST: Duration = Duration::from_secs(20);
/// So often a nonce is chosen anew.
const STALE_MAX: u32 = 5;
/// A transaction is good for so many blocks.
const EXPIRES_AFTER: u64 = 300;
const LINE_MAX: usize = 1 << 20;
/// A cut stream is opened again after so long, so often in a row.
pub(crate) const AGAIN: Duration = Duration::from_millis(500);
pub(crate) const FAILURES_MAX: u32 = 60;
/// A peer that is gone without a word is found out so.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Pages of a list that are read at the most.
const PAGES_MAX: usize = 1_000;
/// Header of lists and events: the number that the next page, or this stream, starts from.
const EVENTS_NEXT: &str = "runrig-next";

#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    urls: Arc<Vec<String>>,
    /// The one that answered last.
    at: Arc<AtomicUsize>,
    newest: Arc<Mutex<Newest>>,
    /// Whom the keys of signed requests act for.
    through: Option<AccountId>,
    /// Of each transaction that is signed here.
    tip: Amount,
}

impl Client {
    /// `urls` of gateways or validators; the next is asked when one does not answer, or tells
    /// nothing new for long.
    pub fn new(urls: impl IntoIterator<Item = String>) -> Result<Self, SdkError> {
        let urls: Vec<String> = urls
            .into_iter()
            .map(|u| u.trim_end_matches('/').to_string())
            .collect();
        let bad = |why: String| SdkError::Unreachable {
            url: urls
                .first()
                .cloned()
                .unwrap_or_else(|| "(no address)".into()),
            why,
        };
        if urls.is_empty() {
            return Err(bad("no address was given".into()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .no_proxy()
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .build()
            .map_err(|e| bad(e.to_string()))?;
        Ok(Self {
            http,
            urls: Arc::new(urls),
            at: Arc::new(AtomicUsize::new(0)),
            newest: Arc::new(Mutex::new(Newest::new(Instant::now()))),
            through: None,
            tip: Amount::ZERO,
        })
    }

    /// The same, whose transactions pay `tip` each for a place before others.
    pub fn tipping(self, tip: Amount) -> Self {
        Self { tip, ..self }
    }

    /// The same, whose signed requests say that their key acts for `account`, which gave it a
    /// grant: what others let that account do, the key may then do too.
    pub fn through(&self, account: AccountId) -> Self {
        Self {
            through: Some(account),
            ..self.clone()
        }
    }

    /// The header that a request is signed by.
    pub fn signed(&self, key: &SecretKey, method: &str, path: &str) -> String {
        RequestAuth::sign(key, method, path, api::now_ms())
            .through(self.through)
            .to_string()
    }

    pub fn url(&self) -> &str {
        &self.urls[self.at.load(Ordering::Relaxed) % self.urls.len()]
    }

    /// Boxed, as is what reads an answer: what every call has in common is compiled here, and not in
    /// each crate that makes one.
    pub(crate) fn send<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        body: Option<Vec<u8>>,
        key: Option<&'a SecretKey>,
        timeout: Option<Duration>,
    ) -> BoxFuture<'a, Result<reqwest::Response, SdkError>> {
        self.ask_each(method, path, body, key, timeout).boxed()
    }

    async fn ask_each(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        key: Option<&SecretKey>,
        timeout: Option<Duration>,
    ) -> Result<reqwest::Response, SdkError> {
        let mut last = None;
        for _ in 0..self.urls.len() {
            let at = self.at.load(Ordering::Relaxed);
            let base = &self.urls[at % self.urls.len()];
            let mut request = self.http.request(method.clone(), format!("{base}{path}"));
            if let Some(timeout) = timeout {
                request = request.timeout(timeout);
            }
            if let Some(key) = key {
                let auth = self.signed(key, method.as_str(), path);
                request = request.header(RequestAuth::HEADER, auth);
            }
            if let Some(body) = &body {
                request = request
                    .header("content-type", "application/json")
                    .body(body.clone());
            }
            let failed = match request.send().await {
                Ok(response) => {
                    let head = response.headers().get(Head::HEADER);
                    let head = head.and_then(|h| h.to_str().ok()?.parse().ok());
                    match checked(base, response).await {
                        Err(error @ SdkError::Unreachable { .. }) => error,
                        answered => {
                            let mut newest = self.newest.lock().expect("not poisoned");
                            if newest.stands_still(head, Instant::now()) {
                                self.at.store(at + 1, Ordering::Relaxed);
                            }
                            return answered;
                        }
                    }
                }
                Err(error) => SdkError::Unreachable {
                    url: base.clone(),
                    why: root(&error),
                },
            };
            last = Some(failed);
            self.at.store(at + 1, Ordering::Relaxed);
        }
        Err(last.unwrap_or(SdkError::Late(0)))
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, SdkError> {
        self.get_within(path, Duration::from_secs(15)).await
    }

    /// All pages of a list; `path` has a query. Of what changes meanwhile a row may be missing.
    async fn listed<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, SdkError> {
        let mut all: Vec<T> = Vec::new();
        let mut from = 0;
        for _ in 0..PAGES_MAX {
            let limit = Some(Duration::from_secs(15));
            let path = format!("{path}&from={from}");
            let response = self.send(Method::GET, &path, None, None, limit).await?;
            let next = next_of(&response);
            all.append(&mut self.read(response).await?);
            match next {
                Some(next) if next > from => from = next,
                _ => return Ok(all),
            }
        }
        Err(self.unreadable(&"a list without an end"))
    }

    async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<T, SdkError> {
        let response = self
            .send(Method::GET, path, None, None, Some(limit))
            .await?;
        self.read(response).await
    }

    /// With the caller's signature: for what only an owner may see.
    pub async fn get_signed<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &SecretKey,
    ) -> Result<T, SdkError> {
        let limit = Some(Duration::from_secs(15));
        let response = self.send(Method::GET, path, None, Some(key), limit).await?;
        self.read(response).await
    }

    /// Takes away what only its owner may.
    pub async fn delete_signed(&self, path: &str, key: &SecretKey) -> Result<(), SdkError> {
        let limit = Some(Duration::from_secs(15));
        self.send(Method::DELETE, path, None, Some(key), limit)
            .await?;
        Ok(())
    }

    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, SdkError> {
        let body = serde_json::to_vec(body).map_err(|e| self.unreadable(&e))?;
        let limit = Duration::from_millis(WAIT_MS + 10_000);
        let response = self
            .send(Method::POST, path, Some(body), None, Some(limit))
            .await?;
        self.read(response).await
    }

    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        response: reqwest::Response,
    ) -> Result<T, SdkError> {
        let bytes = self.whole(response).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.unreadable(&e))
    }

    fn whole(&self, response: reqwest::Response) -> BoxFuture<'_, Result<Vec<u8>, SdkError>> {
        let read = async {
            let bytes = response.bytes().await;
            bytes.map(Vec::from).map_err(|e| self.unreadable(&e))
        };
        read.boxed()
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> SdkError {
        SdkError::Unreadable {
            url: self.url().into(),
            why: error.to_string(),
        }
    }

    // --- chain

    pub async fn status(&self) -> Result<ChainStatus, SdkError> {
        self.get("/v1/status").await
    }

    pub async fn lots(&self, epoch: u64) -> Result<LotsView, SdkError> {
        self.get(&format!("/v1/lots/{epoch}")).await
    }

    pub async fn duties(&self, epoch: u64) -> Result<DutiesView, SdkError> {
        self.get(&format!("/v1/duties/{epoch}")).await
    }

    /// `what`: a transaction's id, or a height.
    pub async fn when(&self, what: &str) -> Result<WhenView, SdkError> {
        self.get(&format!("/v1/when/{what}")).await
    }

    pub async fn network(&self) -> Result<NetworkFile, SdkError> {
        self.get("/v1/network").await
    }

    pub async fn params(&self) -> Result<ledger::Params, SdkError> {
        self.get("/v1/params").await
    }

    pub async fn supply(&self) -> Result<Supply, SdkError> {
        self.get("/v1/supply").await
    }

    pub async fn block(&self, height: u64) -> Result<BlockView, SdkError> {
        self.get(&format!("/v1/blocks/{height}")).await
    }

    /// What is asked of the witness `key` now; `None`: nothing.
    pub async fn look_of(&self, key: &PublicKey) -> Result<Option<Look>, SdkError> {
        match self.get(&format!("/v1/witness/{key}")).await {
            Ok(look) => Ok(Some(look)),
            Err(SdkError::Refused(problem)) if problem.kind == "not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the witness with this lot looks at.
    pub async fn look_at(&self, key: &PublicKey, lot: &Signature) -> Result<Vec<Target>, SdkError> {
        self.get(&format!("/v1/witness/{key}/{}", hex::encode(lot.0)))
            .await
    }

    pub async fn account(&self, id: AccountId) -> Result<AccountView, SdkError> {
        self.get(&format!("/v1/accounts/{id}")).await
    }

    /// What it may spend in a month, has spent, and what stops first.
    pub async fn limit(&self, id: AccountId) -> Result<LimitView, SdkError> {
        self.get(&format!("/v1/accounts/{id}/limit")).await
    }

    /// The same without the list of what stops.
    pub async fn limit_in_short(&self, id: AccountId) -> Result<LimitView, SdkError> {
        self.get(&format!("/v1/accounts/{id}/limit?count=0")).await
    }

    /// Records of `table`, or that there are none, proved under a certified block; for
    /// [`crate::verify_records`].
    pub async fn records<K: BorshSerialize>(
        &self,
        table: &str,
        keys: &[K],
    ) -> Result<RecordsProof, SdkError> {
        let hex: Vec<String> = keys
            .iter()
            .map(|key| hex::encode(borsh::to_vec(key).expect("writing to memory does not fail")))
            .collect();
        self.get(&format!("/v1/records/{table}?keys={}", hex.join(",")))
            .await
    }

    pub async fn transaction(&self, id: &types::Digest) -> Result<TransactionView, SdkError> {
        self.get(&format!("/v1/transactions/{id}")).await
    }

    /// Signs `call` and returns when it is applied. A nonce that somebody else used first is
    /// chosen anew; a transaction whose answer was lost is sent again, and counts once.
    pub async fn submit_and_wait(
        &self,
        key: &SecretKey,
        call: Call,
    ) -> Result<TransactionView, SdkError> {
        self.submit_ahead(key, &[], call, 0).await
    }

    /// As [`Self::submit_and_wait`], for the last account of `on_behalf`: each gave a grant to the
    /// one before it, the first to the key's own account.
    pub async fn submit_for(
        &self,
        key: &SecretKey,
        on_behalf: &[AccountId],
        call: Call,
    ) -> Result<TransactionView, SdkError> {
        self.submit_ahead(key, on_behalf, call, 0).await
    }

    /// As [`Self::submit_and_wait`], but leaves `ahead` nonces to what is sent meanwhile.
    pub async fn submit_ahead(
        &self,
        key: &SecretKey,
        on_behalf: &[AccountId],
        call: Call,
        ahead: u64,
    ) -> Result<TransactionView, SdkError> {
        let sender = AccountId::of(&key.public());
        let started = Instant::now();
        let network = self.status().await?.network;
        let mut refusal = None;
        for _ in 0..STALE_MAX {
            let account = self.account(sender).await?;
            let body = TransactionBody {
                network,
                key: key.public().into(),
                on_behalf: on_behalf.to_vec(),
                nonce: account.nonce + 1 + ahead,
                expires: account.height + EXPIRES_AFTER,
                tip: self.tip,
                call: call.clone(),
            };
            let transaction = Transaction::sign(body, key);
            let view = match self.submit_one(&transaction, started).await {
                Ok(view) => view,
                Err(error) if error.kind() == "stale" => {
                    refusal = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if view.status == TransactionStatus::Applied {
                return Ok(view);
            }
            match view.rejection {
                Some(r) if r.kind == ledger::RejectKind::Stale => {
                    refusal = Some(SdkError::rejected(r));
                }
                Some(rejection) => return Err(SdkError::rejected(rejection)),
                None => return Err(self.unreadable(&"a rejection without a reason")),
            }
        }
        Err(refusal.unwrap_or(SdkError::Late(started.elapsed().as_secs())))
    }

    /// What is to be signed by a key that is elsewhere: good for `blocks` from now.
    pub async fn prepare(
        &self,
        key: AccountKey,
        on_behalf: &[AccountId],
        call: Call,
        blocks: u64,
    ) -> Result<TransactionBody, SdkError> {
        let network = self.status().await?.network;
        let account = self.account(key.account()).await?;
        Ok(TransactionBody {
            network,
            key,
            on_behalf: on_behalf.to_vec(),
            nonce: account.nonce + 1,
            expires: account.height + blocks,
            tip: self.tip,
            call,
        })
    }

    /// Submits what somebody signed and returns when it is applied.
    pub async fn submit_signed(
        &self,
        transaction: &Transaction,
    ) -> Result<TransactionView, SdkError> {
        let view = self.submit_one(transaction, Instant::now()).await?;
        match view.rejection {
            _ if view.status == TransactionStatus::Applied => Ok(view),
            Some(rejection) => Err(SdkError::rejected(rejection)),
            None => Err(self.unreadable(&"a rejection without a reason")),
        }
    }

    /// Sends until its outcome is known; what is `stale` then was never included.
    async fn submit_one(
        &self,
        transaction: &Transaction,
        started: Instant,
    ) -> Result<TransactionView, SdkError> {
        let bytes = borsh::to_vec(transaction).map_err(|e| self.unreadable(&e))?;
        let submit = Submit {
            transaction: BASE64.encode(bytes),
        };
        loop {
            let path = format!("/v1/transactions?wait_ms={WAIT_MS}");
            let known = match self.post::<_, Submitted>(&path, &submit).await {
                Ok(submitted) => submitted.result,
                Err(error) if error.is_transient() && started.elapsed() < LOST => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match known {
                Some(view) if is_final(&view) => return Ok(view),
                _ if started.elapsed().as_secs() > INCLUDED_S => {
                    return Err(SdkError::Late(INCLUDED_S));
                }
                _ => {}
            }
        }
    }

    /// Submits signed transactions, canonical bytes, at most [`SubmitMany::MAX`], without
    /// waiting for their outcomes. One answer for each, in order: its id or why it is refused.
    pub async fn submit_many(
        &self,
        transactions: &[Vec<u8>],
    ) -> Result<Vec<SubmittedOne>, SdkError> {
        let transactions = transactions.iter().map(|t| BASE64.encode(t)).collect();
        let body = SubmitMany {
            transactions,
            screened: None,
        };
        let answers: Vec<SubmittedOne> = self.post("/v1/transactions/batch", &body).await?;
        Ok(answers)
    }

    /// Submits one signed transaction, canonical bytes, once; holds until its outcome is
    /// known, at most `wait_ms`.
    pub async fn submit_bytes(&self, bytes: &[u8], wait_ms: u64) -> Result<Submitted, SdkError> {
        let transaction = BASE64.encode(bytes);
        self.post(
            &format!("/v1/transactions?wait_ms={wait_ms}"),
            &Submit { transaction },
        )
        .await
    }

    // --- what runs

    /// `None`: a machine has joined with it, its time is over, or there never was such a one.
    pub async fn token(&self, id: AccountId) -> Result<Option<TokenView>, SdkError> {
        match self.get(&format!("/v1/tokens/{id}")).await {
            Ok(token) => Ok(Some(token)),
            Err(SdkError::Refused(problem)) if problem.kind == "not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Those of an account that no machine has joined with yet.
    pub async fn tokens_of(&self, owner: AccountId) -> Result<Vec<TokenView>, SdkError> {
        self.get(&format!("/v1/accounts/{owner}/tokens")).await
    }

    pub async fn hosts(&self) -> Result<Vec<HostView>, SdkError> {
        self.listed("/v1/hosts?").await
    }

    /// By id or name.
    pub async fn host(&self, host: &str) -> Result<HostView, SdkError> {
        self.get(&format!("/v1/hosts/{host}")).await
    }

    /// Held back by the server while the plan is still number `after`.
    pub async fn host_plan(
        &self,
        host: HostId,
        after: u64,
        wait_ms: u64,
    ) -> Result<HostPlan, SdkError> {
        let path = format!("/v1/hosts/{host}/plan?after={after}&wait_ms={wait_ms}");
        self.get_within(&path, Duration::from_millis(wait_ms + 10_000))
            .await
    }

    /// What has changed since what is `known` (a table, if it had a name, and a height), or all
    /// there is. Held back by the server while nothing has.
    pub async fn routes(
        &self,
        known: Option<(Option<types::Digest>, u64)>,
        wait_ms: u64,
    ) -> Result<Routes, SdkError> {
        let mut path = format!("/v1/routes?wait_ms={wait_ms}");
        if let Some((table, after)) = known {
            path += &format!("&after={after}");
            path += &table.map(|t| format!("&table={t}")).unwrap_or_default();
        }
        self.get_within(&path, Duration::from_millis(wait_ms + 10_000))
            .await
    }

    pub async fn deployments(
        &self,
        owner: AccountId,
        all: bool,
    ) -> Result<Vec<DeploymentView>, SdkError> {
        self.listed(&format!("/v1/deployments?owner={owner}&all={all}"))
            .await
    }

    /// The live ones of an account with these names, at most 64.
    pub async fn deployments_named(
        &self,
        owner: AccountId,
        names: &[&str],
    ) -> Result<Vec<DeploymentView>, SdkError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = escaped(&names.join(","));
        self.listed(&format!("/v1/deployments?owner={owner}&names={names}"))
            .await
    }

    /// How many deployments of an account are in which state, and a page of those that fit.
    pub async fn jobs(&self, owner: AccountId, query: &JobQuery) -> Result<JobsView, SdkError> {
        self.get(&query.path(owner)).await
    }

    /// What replicas of an account used that were there since then: `count` rows from number `from`.
    pub async fn jobs_use(
        &self,
        owner: AccountId,
        since_ms: u64,
        (from, count): (usize, usize),
    ) -> Result<UseView, SdkError> {
        let path =
            format!("/v1/jobs/use?owner={owner}&since_ms={since_ms}&from={from}&count={count}");
        self.get(&path).await
    }

    /// Which ports from `first` to `last` are published.
    pub async fn ports(&self, first: u16, last: u16) -> Result<Vec<api::PublishedPort>, SdkError> {
        self.get(&format!("/v1/ports?first={first}&last={last}"))
            .await
    }

    pub async fn deployment(&self, id: DeploymentId) -> Result<DeploymentView, SdkError> {
        self.get(&format!("/v1/deployments/{id}")).await
    }

    /// Releases of a deployment that are kept, the latest first.
    pub async fn releases(&self, id: DeploymentId) -> Result<Vec<ReleaseView>, SdkError> {
        self.get(&format!("/v1/deployments/{id}/releases")).await
    }

    pub async fn allocations(
        &self,
        owner: AccountId,
        all: bool,
    ) -> Result<Vec<AllocationView>, SdkError> {
        self.listed(&format!("/v1/allocations?owner={owner}&all={all}"))
            .await
    }

    /// All that a deployment ever had, in order of their numbers.
    pub async fn allocations_of(&self, id: DeploymentId) -> Result<Vec<AllocationView>, SdkError> {
        self.listed(&format!("/v1/allocations?deployment={id}&all=true"))
            .await
    }

    /// All that are on a host now.
    pub async fn allocations_on(&self, host: HostId) -> Result<Vec<AllocationView>, SdkError> {
        self.listed(&format!("/v1/allocations?host={host}&all=false"))
            .await
    }

    pub async fn allocation(&self, id: AllocationId) -> Result<AllocationView, SdkError> {
        self.get(&format!("/v1/allocations/{id}")).await
    }

    pub async fn why(&self, id: AllocationId) -> Result<WhyView, SdkError> {
        self.get(&format!("/v1/allocations/{id}/why")).await
    }

    // --- money

    pub async fn quote(&self, request: &QuoteRequest) -> Result<Quote, SdkError> {
        self.post("/v1/quote", request).await
    }

    pub async fn bill(
        &self,
        owner: AccountId,
        deployment: Option<DeploymentId>,
    ) -> Result<Bill, SdkError> {
        let deployment = deployment
            .map(|d| format!("&deployment={d}"))
            .unwrap_or_default();
        self.get(&format!("/v1/bill?owner={owner}{deployment}"))
            .await
    }

    pub async fn receipt(&self, id: ReceiptId) -> Result<ledger::lease::Receipt, SdkError> {
        self.get(&format!("/v1/receipts/{id}")).await
    }

    pub async fn receipt_proof(&self, id: ReceiptId) -> Result<EventProof, SdkError> {
        self.get(&format!("/v1/receipts/{id}/proof")).await
    }

    pub async fn usage(&self, id: AllocationId, sequence: u64) -> Result<UsageProof, SdkError> {
        self.get(&format!("/v1/allocations/{id}/usage/{sequence}"))
            .await
    }

    // --- streams

    pub async fn stats(
        &self,
        key: &SecretKey,
        id: AllocationId,
        stream: bool,
    ) -> Result<impl Stream<Item = Result<Stats, SdkError>> + Send + use<>, SdkError> {
        let path = format!("/v1/allocations/{id}/stats?stream={stream}");
        let response = self.send(Method::GET, &path, None, Some(key), None).await?;
        Ok(ndjson(self.url().to_string(), response))
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> SdkError {
        SdkError::Unreachable {
            url: self.url().into(),
            why: root(error),
        }
    }
}

/// The number that the answer's header names.
pub(crate) fn next_of(response: &reqwest::Response) -> Option<u64> {
    let value = response.headers().get(EVENTS_NEXT)?;
    value.to_str().ok()?.parse().ok()
}

fn is_final(view: &TransactionView) -> bool {
    matches!(
        view.status,
        TransactionStatus::Applied | TransactionStatus::Rejected
    )
}

/// The innermost cause says most.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

pub(crate) async fn checked(
    url: &str,
    response: reqwest::Response,
) -> Result<reqwest::Response, SdkError> {
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => Err(SdkError::Refused(problem)),
        Err(_) if code.is_server_error() => Err(SdkError::Unreachable {
            url: url.into(),
            why: format!("HTTP {code}"),
        }),
        Err(_) => Err(SdkError::Unreadable {
            url: url.into(),
            why: format!(
                "HTTP {code}: {}",
                text.chars().take(200).collect::<String>()
            ),
        }),
    }
}

/// Lines of a body, each at most [`LINE_MAX`] bytes.
pub(crate) fn lines(
    response: reqwest::Response,
) -> impl Stream<Item = Result<Vec<u8>, reqwest::Error>> + Send {
    let body = response.bytes_stream().boxed();
    futures::stream::try_unfold(
        (body, BytesMut::new()),
        |(mut body, mut buffer)| async move {
            loop {
                if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                    let line = buffer.split_to(end + 1);
                    return Ok(Some((line[..end].to_vec(), (body, buffer))));
                }
                match body.try_next().await? {
                    Some(more) if buffer.len() + more.len() <= LINE_MAX => {
                        buffer.extend_from_slice(&more)
                    }
                    _ => return Ok(None),
                }
            }
        },
    )
}

pub(crate) fn ndjson<T: DeserializeOwned + Send>(
    url: String,
    response: reqwest::Response,
) -> impl Stream<Item = Result<T, SdkError>> + Send {
    lines(response).map(move |line| {
        let line = line.map_err(|e| SdkError::Unreachable {
            url: url.clone(),
            why: root(&e),
        })?;
        serde_json::from_slice(&line).map_err(|e| SdkError::Unreadable {
            url: url.clone(),
            why: e.to_string(),
        })
    })
}
