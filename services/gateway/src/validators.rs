//! The validators: which answer, which to ask next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use api::ValidatorQueue;
use futures::future::join_all;
use http::uri::Authority;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::limits::{ANSWER_BYTES_MAX, BEHIND_MS, PROBE_EVERY, PROBE_TIME, VALIDATOR_REST};
use crate::outgoing::Outgoing;
use crate::proxy::Gateway;
use crate::table::{authority, uptime_ms};

pub struct Validator {
    pub address: Authority,
    rests_until_ms: AtomicU64,
    /// Time of its head when it was asked last; 0 if it has not said.
    head_ms: AtomicU64,
}

impl Validator {
    fn head_ms(&self) -> u64 {
        self.head_ms.load(Ordering::Relaxed)
    }

    pub fn is_healthy(&self) -> bool {
        self.rests_until_ms.load(Ordering::Relaxed) <= uptime_ms()
    }

    pub fn failed(&self) {
        let until = uptime_ms() + VALIDATOR_REST.as_millis() as u64;
        self.rests_until_ms.store(until, Ordering::Relaxed);
    }
}

pub struct Validators {
    pub all: Vec<Validator>,
    at: AtomicUsize,
    /// What they said of themselves last, and when.
    queues: Mutex<Option<(Instant, Arc<Vec<ValidatorQueue>>)>>,
}

impl Validators {
    pub fn new(urls: &[String]) -> Result<Self> {
        let all = urls
            .iter()
            .map(|url| {
                let address = authority(url).with_context(|| {
                    format!("{url} is not a validator's address: write http://host:port")
                })?;
                Ok(Validator {
                    address,
                    rests_until_ms: AtomicU64::new(0),
                    head_ms: AtomicU64::new(0),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        anyhow::ensure!(!all.is_empty(), "a gateway needs a validator's address");
        Ok(Self {
            all,
            at: AtomicUsize::new(0),
            queues: Mutex::default(),
        })
    }

    /// The time of the newest head that at least one honest validator has come to.
    fn newest_ms(&self) -> u64 {
        let mut heads: Vec<u64> = self.all.iter().map(Validator::head_ms).collect();
        heads.sort_unstable_by(|a, b| b.cmp(a));
        let liars = (heads.len() - 1) / 3;
        heads[liars]
    }

    pub fn is_behind(&self, validator: &Validator) -> bool {
        validator.head_ms().saturating_add(BEHIND_MS) < self.newest_ms()
    }

    /// In the order to ask: healthy ones first, then those that have fallen behind the others;
    /// of each from the one that answered last.
    pub fn in_order(&self) -> Vec<&Validator> {
        let at = self.at.load(Ordering::Relaxed);
        let count = self.all.len();
        let mut order: Vec<_> = (0..count).map(|i| &self.all[(at + i) % count]).collect();
        order.sort_by_cached_key(|v| (!v.is_healthy(), self.is_behind(v)));
        order
    }

    /// Index of the one to ask first.
    pub fn first(&self) -> usize {
        let first = self.in_order().first().copied();
        self.all
            .iter()
            .position(|v| first.is_some_and(|f| std::ptr::eq(v, f)))
            .unwrap_or_default()
    }

    pub fn answered(&self, validator: &Validator) {
        if let Some(at) = self.all.iter().position(|v| std::ptr::eq(v, validator)) {
            self.at.store(at, Ordering::Relaxed);
        }
    }
}

/// How each validator stands. However many ask, a validator is asked once in [`PROBE_EVERY`].
pub async fn queues(gateway: &Gateway) -> Arc<Vec<ValidatorQueue>> {
    let mut known = gateway.validators.queues.lock().await;
    if let Some((at, queues)) = &*known
        && at.elapsed() < PROBE_EVERY
    {
        return queues.clone();
    }
    let all = gateway.validators.all.iter().map(|validator| async move {
        let answer = tokio::time::timeout(PROBE_TIME, queue(gateway, validator)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer in {PROBE_TIME:?}")));
        let (queue, why) = match answer {
            Ok(queue) => (Some(queue), String::new()),
            Err(why) => (None, why),
        };
        ValidatorQueue {
            address: validator.address.to_string(),
            queue,
            why,
        }
    });
    let queues = Arc::new(join_all(all).await);
    *known = Some((Instant::now(), queues.clone()));
    queues
}

async fn queue(gateway: &Gateway, validator: &Validator) -> Result<api::QueueView, String> {
    let request = Request::get(format!("http://{}/v1/queue", validator.address))
        .header(http::header::HOST, validator.address.as_str())
        .body(Outgoing::empty())
        .map_err(|e| e.to_string())?;
    let response = gateway.client.request(request).await;
    let response = response.map_err(|_| "it cannot be reached".to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| format!("its answer cannot be read: {e}"))
}

/// Asks each validator every second, so that one that hangs is known before a request is.
pub async fn probe(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(PROBE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let probes = gateway.validators.all.iter().map(|validator| {
            let gateway = &gateway;
            async move {
                let uri = format!("http://{}/v1/status", validator.address);
                let Ok(request) = Request::get(uri).body(Outgoing::empty()) else {
                    return;
                };
                let answer = tokio::time::timeout(PROBE_TIME, gateway.client.request(request));
                match answer.await {
                    Ok(Ok(response)) if response.status() == StatusCode::OK => {
                        validator.rests_until_ms.store(0, Ordering::Relaxed);
                        let head = response.headers().get(api::Head::HEADER);
                        let head = head.and_then(|h| h.to_str().ok()?.parse::<api::Head>().ok());
                        let head_ms = head.map_or(0, |head| head.time_ms);
                        validator.head_ms.store(head_ms, Ordering::Relaxed);
                    }
                    _ => validator.failed(),
                }
            }
        });
        join_all(probes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_who_has_fallen_behind_and_one_liar_of_four_tells_nothing() {
        let order = |heads: &[u64]| -> Vec<usize> {
            let urls: Vec<_> = (0..heads.len()).map(|n| format!("http://v:{n}")).collect();
            let all = Validators::new(&urls).expect("addresses");
            for (validator, head_ms) in all.all.iter().zip(heads) {
                validator.head_ms.store(*head_ms, Ordering::Relaxed);
            }
            let number = |v: &Validator| v.address.port_u16().map(usize::from);
            all.in_order().into_iter().filter_map(number).collect()
        };
        assert_eq!(order(&[9_000]), [0]);
        assert_eq!(
            order(&[9_000, 9_900, 14_000, 13_900]),
            [0, 1, 2, 3],
            "within five seconds"
        );
        assert_eq!(order(&[8_000, 14_000, 14_000, 14_000]), [1, 2, 3, 0]);
        assert_eq!(order(&[0, 14_000, 0, 14_000]), [1, 3, 0, 2], "has not said");
        assert_eq!(
            order(&[9_000, u64::MAX, 9_000, 9_000]),
            [0, 1, 2, 3],
            "one lies"
        );
        assert_eq!(order(&[u64::MAX; 4]), [0, 1, 2, 3]);
    }
}
