//! The validators: which answer, which to ask next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use futures::future::join_all;
use http::uri::Authority;
use http::{Request, StatusCode};

use crate::limits::{PROBE_EVERY, PROBE_TIME, VALIDATOR_REST};
use crate::outgoing::Outgoing;
use crate::proxy::Gateway;
use crate::table::{authority, uptime_ms};

pub struct Validator {
    pub address: Authority,
    rests_until_ms: AtomicU64,
}

impl Validator {
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
                })
            })
            .collect::<Result<Vec<_>>>()?;
        anyhow::ensure!(!all.is_empty(), "a gateway needs a validator's address");
        Ok(Self {
            all,
            at: AtomicUsize::new(0),
        })
    }

    /// In the order to ask: healthy ones first, from the one that answered last.
    pub fn in_order(&self) -> Vec<&Validator> {
        let at = self.at.load(Ordering::Relaxed);
        let count = self.all.len();
        let mut order: Vec<_> = (0..count).map(|i| &self.all[(at + i) % count]).collect();
        order.sort_by_cached_key(|v| !v.is_healthy());
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
                    }
                    _ => validator.failed(),
                }
            }
        });
        join_all(probes).await;
    }
}
