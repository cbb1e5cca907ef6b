//! Follow the chain without a seat: blocks come over the API of those who sit, and what clients
//! submit goes there. RFD 21.
//!
//! One is asked at a time, and the next in turn once it gives nothing, what is wrong, or what leaves us
//! behind the network: who gives a block at a time holds nobody back.

use std::sync::Arc;
use std::time::Duration;

use api::{ScreenedBy, SubmitMany};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use consensus::PASSED_BYTES_MAX;
use tokio::sync::Semaphore;
use types::{Digest, PublicKey, SecretKey};

use crate::http::{App, others_of};
use crate::index::{Follower, Handle, Outbox};

/// For the block after the newest to be made.
const WAIT_MS: u64 = 5_000;
const ANSWER: Duration = Duration::from_secs(12);
/// Between those asked, when one had nothing.
const PAUSE: Duration = Duration::from_millis(200);
/// A head that is older is not yet the network's.
const FRESH_MS: u64 = 15_000;
/// Of transactions in one request, with room for the rest of it.
const BATCH_BYTES: usize = api::BODY_BYTES_MAX - 1_024;
const PASS_ON: Duration = Duration::from_secs(5);
/// Requests that bring transactions, at once.
const BRINGING_MAX: usize = 32;

/// What one of the others gave.
enum Given {
    /// So many new blocks, or none yet.
    Taken(bool),
    /// It keeps them no more.
    Forgotten,
    Failed(String),
}

/// Keeps up until the node ends; returns when the others keep no more what comes next.
pub(crate) async fn keep(app: &App, follower: Follower) {
    let mut turn: usize = rand::random_range(0..1_024);
    let (mut forgotten, mut silent) = (0, 0);
    loop {
        let others = others_of(app);
        let asked = others.len();
        let Some(url) = others.get(turn % asked.max(1)) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match ask(app, &follower, url).await {
            Given::Taken(true) => {
                (forgotten, silent) = (0, 0);
                turn += usize::from(!is_fresh(&app.handle));
                continue;
            }
            Given::Taken(false) => (forgotten, silent) = (0, 0),
            Given::Forgotten => forgotten += 1,
            Given::Failed(why) => {
                tracing::debug!(%url, %why, "another is asked for blocks");
                silent += 1;
            }
        }
        // As many as there are, one after the other, and all who answered say so.
        if forgotten > 0 && forgotten + silent >= asked {
            if is_left_behind(app, &others).await {
                return;
            }
            (forgotten, silent) = (0, 0);
        }
        if silent >= asked {
            tracing::warn!(
                "none of the {asked} others gives blocks that hold; they are asked again"
            );
            (forgotten, silent) = (0, 0);
        }
        turn += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the others say what only a later state helps against: who lies, or answers alone that it keeps
/// no more, is not believed without a certificate of it.
async fn is_left_behind(app: &App, others: &[String]) -> bool {
    let head = app.handle.head().header.height;
    let epoch = app.network.genesis.params.epoch_blocks;
    match crate::newest_of(&app.network, others).await {
        Ok(newest) => newest.height() >= head.saturating_add(2 * epoch),
        Err(error) => {
            tracing::debug!("nobody offers a state: {error:#}");
            false
        }
    }
}

fn is_fresh(handle: &Handle) -> bool {
    let made = handle.head().header.time_ms;
    api::now_ms().saturating_sub(made) < FRESH_MS
}

async fn ask(app: &App, follower: &Follower, url: &str) -> Given {
    let from = app.handle.head().header.height + 1;
    let answer = tokio::time::timeout(ANSWER, read(app, url, from)).await;
    let bytes = match answer {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => return Given::Forgotten,
        Ok(Err(why)) => return Given::Failed(why),
        Err(_) => return Given::Failed("it does not answer in time".into()),
    };
    let checking = follower.clone();
    let checked = tokio::task::spawn_blocking(move || checking.check(&bytes)).await;
    let checked = match checked {
        Ok(Ok(checked)) => checked,
        Ok(Err(why)) => return Given::Failed(format!("{why:#}")),
        Err(error) => return Given::Failed(error.to_string()),
    };
    let some = !checked.is_empty();
    match follower.take(checked).await {
        Ok(()) => Given::Taken(some),
        Err(error) => Given::Failed(format!("{error:#}")),
    }
}

/// `None`: it is asked for what it does not keep any more.
async fn read(app: &App, url: &str, from: u64) -> Result<Option<Vec<u8>>, String> {
    let url = format!("{url}/v1/follow/{from}?wait_ms={WAIT_MS}");
    let mut response = app.peers.get(url).send().await.map_err(|e| e.to_string())?;
    match response.status() {
        code if code.is_success() => {}
        StatusCode::GONE => return Ok(None),
        code => return Err(format!("HTTP {code}")),
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| e.to_string())? {
        if body.len() + part.len() > PASSED_BYTES_MAX {
            return Err("its answer is too long".into());
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body))
}

/// Returns when this validator, which `votes` or not, has its part changed by the end of an epoch.
pub(crate) async fn turned(handle: Handle, own: [u8; 32], votes: bool) {
    let mut heads = handle.subscribe();
    let mut known = None;
    loop {
        heads.borrow_and_update();
        let reading = handle.clone();
        let linked = tokio::task::spawn_blocking(move || reading.linked(&own, known)).await;
        match linked {
            Ok(Ok(Some((height, linked)))) => {
                // Who is behind may be linked no more by now.
                if linked != votes && (votes || is_fresh(&handle)) {
                    return;
                }
                if !votes && known != Some((height, linked)) {
                    tracing::debug!(
                        height,
                        "an epoch is over: this validator follows, and does not sit"
                    );
                }
                known = Some((height, linked));
            }
            Ok(Err(error)) => tracing::warn!("{error:#}"),
            _ => {}
        }
        if heads.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Brings what clients submitted here to those who make the next blocks; as a screener with its word, by
/// `key`, on each.
pub(crate) async fn pass_on(app: App, mut outbox: Outbox, key: SecretKey) {
    let blocks = app.network.genesis.params.epoch_blocks;
    let bringing = Arc::new(Semaphore::new(BRINGING_MAX));
    while let Some((leaders, transactions)) = outbox.next().await {
        let urls: Vec<String> = leaders.iter().filter_map(|key| url_of(&app, key)).collect();
        let head = app.handle.head();
        let epoch = light::epoch_of(head.header.height + 1, blocks);
        let screens = head.state.screeners(epoch).contains(&key.public());
        let network = &head.header.network;
        for batch in batches(&transactions) {
            let word = |(id, _): &(Digest, Bytes)| light::screen(&key, network, epoch, id);
            let body = SubmitMany {
                transactions: batch
                    .iter()
                    .map(|(_, bytes)| BASE64.encode(bytes))
                    .collect(),
                screened: screens.then(|| ScreenedBy {
                    key: key.public(),
                    epoch,
                    words: batch.iter().map(|one| BASE64.encode(word(one))).collect(),
                }),
            };
            let body = Arc::new(body);
            for url in &urls {
                // A leader that is slow holds up nobody else's; what finds no place goes to the next term's.
                let Ok(place) = bringing.clone().try_acquire_owned() else {
                    continue;
                };
                let (app, url, body) = (app.clone(), url.clone(), body.clone());
                tokio::spawn(async move {
                    bring(&app, &url, &body).await;
                    drop(place);
                });
            }
        }
    }
}

/// As many as one request may have, each.
fn batches(transactions: &[(Digest, Bytes)]) -> Vec<&[(Digest, Bytes)]> {
    let (mut batches, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, (_, transaction)) in transactions.iter().enumerate() {
        // In base64, quoted, with a word.
        let more = transaction.len().div_ceil(3) * 4 + 100;
        if at > from && (bytes + more > BATCH_BYTES || at - from == SubmitMany::MAX) {
            batches.push(&transactions[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += more;
    }
    if from < transactions.len() {
        batches.push(&transactions[from..]);
    }
    batches
}

async fn bring(app: &App, url: &str, body: &SubmitMany) {
    let url = format!("{url}/v1/transactions/batch");
    let sent = app.peers.post(&url).json(body).timeout(PASS_ON).send();
    let told = async { sent.await?.error_for_status() };
    // Whoever is not reached is one term less: what is in no block goes to those after.
    if let Err(error) = told.await {
        tracing::debug!(%error, %url, "a leader is not told of transactions");
    }
}

/// Where the API of the validator with `key` is, as the ledger or the network file says.
fn url_of(app: &App, key: &PublicKey) -> Option<String> {
    let state = app.state();
    let entered = state.validators.get(key).map(|v| v.api.clone());
    let founder = || {
        let founder = app.network.validators.iter();
        let mut founder = founder.filter(|v| v.key == hex::encode(key.0));
        founder.next().map(|v| v.api.clone())
    };
    let known = entered.filter(|url| !url.is_empty()).or_else(founder)?;
    Some(known).filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fits_into_a_request_and_none_is_lost() {
        let sizes = [1, 200_000, 200_000, 256 << 10, 256 << 10, 10, 10];
        let all: Vec<(Digest, Bytes)> = sizes
            .iter()
            .map(|bytes| (Digest::default(), Bytes::from(vec![0; *bytes])))
            .collect();
        let cut: Vec<usize> = batches(&all).iter().map(|b| b.len()).collect();
        assert_eq!(cut, [2, 1, 1, 3]);
        let many = vec![(Digest::default(), Bytes::from_static(b"t")); 2 * SubmitMany::MAX + 1];
        let cut: Vec<usize> = batches(&many).iter().map(|b| b.len()).collect();
        assert_eq!(cut, [SubmitMany::MAX, SubmitMany::MAX, 1]);
        assert!(batches(&[]).is_empty());
    }
}
