//! What a service was asked: counts for metering, the last requests for its owner.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use api::Access;
use tokio::sync::watch;
use types::AllocationId;

use crate::limits::{
    ACCESS_ALL_MAX, ACCESS_MAX, ACCESS_MIN, ACCESS_PATH_MAX, SERVED_ALL_MAX, SERVED_MAX, SERVED_MIN,
};
use crate::load::Budget;
use crate::past::{Asked, HOUR_MS};
use crate::served::Served;

/// Ends of the classes of latency in [`Counts`], in microseconds; a last one has the rest.
pub const LATENCY_US: [u64; 9] = [
    1_000, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000,
];

/// Of a gateway that writes nothing down.
const HOURS_MAX: usize = 2;

/// Of one service since this gateway started; they outlive the snapshots of the routes.
#[derive(Debug, Default)]
pub struct Counts {
    /// By the first digit of the status: 1xx to 5xx.
    pub answers: [AtomicU64; 5],
    /// Of bodies, from clients.
    pub received: AtomicU64,
    /// Of bodies, to clients.
    pub sent: AtomicU64,
    pub retries: AtomicU64,
    /// Until the answer has ended, by [`LATENCY_US`].
    pub latency: [AtomicU64; LATENCY_US.len() + 1],
    pub latency_us_sum: AtomicU64,
    /// To published ports.
    pub connections: AtomicU64,
    pub spliced_received: AtomicU64,
    pub spliced_sent: AtomicU64,
}

#[derive(Debug, Default)]
struct Recent {
    next: u64,
    entries: VecDeque<Access>,
    replicas: BTreeMap<AllocationId, Served>,
    /// By their number since 1970; until somebody writes them down, or no more than the last ones.
    hours: BTreeMap<u64, Asked>,
}

#[derive(Debug)]
pub struct Tally {
    pub counts: Counts,
    pub budget: Budget,
    /// Ended requests to keep: fewer when services are many.
    kept: AtomicUsize,
    /// Replicas to count for: fewer when services are many.
    counted: AtomicUsize,
    /// Milliseconds since 1970: all requests since then are counted.
    pub since_ms: u64,
    /// Requests that wait for a first replica.
    pub waiting: AtomicU32,
    recent: Mutex<Recent>,
    /// Moves with `recent` while somebody waits.
    news: watch::Sender<()>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            budget: Budget::default(),
            kept: AtomicUsize::new(ACCESS_MAX),
            counted: AtomicUsize::new(SERVED_MAX),
            since_ms: api::now_ms(),
            waiting: AtomicU32::new(0),
            recent: Mutex::default(),
            news: watch::Sender::new(()),
        }
    }
}

/// What is to be kept of a path.
pub fn shown(path: &[u8]) -> Box<str> {
    let part = &path[..path.len().min(ACCESS_PATH_MAX)];
    String::from_utf8_lossy(part).into()
}

fn add(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

impl Counts {
    /// Requests and connections that have ended.
    pub fn ended(&self) -> u64 {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.answers.iter().map(read).sum::<u64>() + read(&self.connections)
    }

    /// Nobody has asked yet.
    pub fn is_unused(&self) -> bool {
        let used = |counter: &AtomicU64| counter.load(Ordering::Relaxed) > 0;
        !self.answers.iter().any(used) && !used(&self.connections)
    }
}

impl Recent {
    /// Counts for the replica that answered; of too many, the one that was asked the longest ago
    /// is forgotten.
    fn count(&mut self, allocation: AllocationId, access: &Access, replicas_max: usize) {
        if let Some(served) = self.replicas.get_mut(&allocation) {
            return served.add(access);
        }
        while self.replicas.len() >= replicas_max {
            let oldest = self
                .replicas
                .iter()
                .min_by_key(|(_, served)| served.last_ms());
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.replicas.remove(&oldest);
        }
        let mut served = Served::new(access.at_ms);
        served.add(access);
        self.replicas.insert(allocation, served);
    }
}

impl Tally {
    /// What each replica was asked, as `read` sees it.
    pub fn replicas<T>(&self, read: impl FnOnce(&BTreeMap<AllocationId, Served>) -> T) -> T {
        read(&self.recent.lock().expect("not poisoned").replicas)
    }

    /// Shares the room for ended requests among so many services.
    pub fn share_among(&self, services: usize) {
        let each = (ACCESS_ALL_MAX / services.max(1)).clamp(ACCESS_MIN, ACCESS_MAX);
        self.kept.store(each, Ordering::Relaxed);
        let each = (SERVED_ALL_MAX / services.max(1)).clamp(SERVED_MIN, SERVED_MAX);
        self.counted.store(each, Ordering::Relaxed);
    }

    /// Counts a request that has ended and keeps it for the owner; its sequence is given here.
    pub fn ended(&self, mut access: Access) {
        let counts = &self.counts;
        let class = usize::from(access.status / 100).clamp(1, 5) - 1;
        add(&counts.answers[class], 1);
        add(&counts.received, access.received);
        add(&counts.sent, access.sent);
        add(&counts.retries, u64::from(access.retries));
        let at = LATENCY_US
            .iter()
            .position(|end| access.duration_us <= *end)
            .unwrap_or(LATENCY_US.len());
        add(&counts.latency[at], 1);
        add(&counts.latency_us_sum, access.duration_us);

        let kept = self.kept.load(Ordering::Relaxed);
        let mut recent = self.recent.lock().expect("not poisoned");
        if let Some(allocation) = access.allocation {
            recent.count(allocation, &access, self.counted.load(Ordering::Relaxed));
        }
        let hour = access.at_ms / HOUR_MS;
        recent.hours.entry(hour).or_default().add(&access);
        if recent.hours.len() > HOURS_MAX {
            recent.hours.pop_first();
        }
        access.sequence = recent.next;
        recent.next += 1;
        while recent.entries.len() >= kept {
            recent.entries.pop_front();
        }
        recent.entries.push_back(access);
        drop(recent);
        if self.news.receiver_count() > 0 {
            self.news.send_replace(());
        }
    }

    /// What was asked since the last time, by hours.
    pub fn take_hours(&self) -> BTreeMap<u64, Asked> {
        std::mem::take(&mut self.recent.lock().expect("not poisoned").hours)
    }

    /// A connection to a published port has ended.
    pub fn spliced(&self, received: u64, sent: u64) {
        add(&self.counts.connections, 1);
        add(&self.counts.spliced_received, received);
        add(&self.counts.spliced_sent, sent);
    }

    /// The last `count` requests, or those from sequence `from` on if it is given: then the
    /// first `count` of them.
    pub fn recent(&self, from: Option<u64>, count: usize) -> Vec<Access> {
        let recent = self.recent.lock().expect("not poisoned");
        let entries = &recent.entries;
        let start = match from {
            None => entries.len().saturating_sub(count),
            Some(from) => entries.partition_point(|a| a.sequence < from),
        };
        entries.iter().skip(start).take(count).cloned().collect()
    }

    /// Returns once there is a request of sequence `from` or later, or `limit` has passed.
    pub async fn wait(&self, from: u64, limit: Duration) {
        let mut news = self.news.subscribe();
        let heard = async {
            while self.recent.lock().expect("not poisoned").next <= from {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limit, heard).await;
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A request that has ended.
    pub fn access(status: u16, duration_us: u64) -> Access {
        Access {
            sequence: 0,
            at_ms: 1,
            client: [127, 0, 0, 1].into(),
            protocol: "HTTP/1.1".into(),
            method: "GET".into(),
            path: shown(b"/"),
            status,
            received: 1,
            sent: 2,
            duration_us,
            allocation: None,
            retries: 0,
        }
    }

    #[test]
    fn requests_are_counted_and_the_last_are_kept() {
        let tally = Tally::default();
        for (status, duration_us) in [(200, 10), (404, 1_001), (503, u64::from(u32::MAX))] {
            tally.ended(access(status, duration_us));
        }
        let read = |counters: &[AtomicU64]| -> Vec<u64> {
            counters.iter().map(|c| c.load(Ordering::Relaxed)).collect()
        };
        assert_eq!(read(&tally.counts.answers), [0, 1, 0, 1, 1]);
        assert_eq!(read(&tally.counts.latency), [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(tally.counts.sent.load(Ordering::Relaxed), 6);
        for _ in 0..2 * ACCESS_MAX {
            tally.ended(access(200, 1));
        }
        assert_eq!(tally.recent(None, usize::MAX).len(), ACCESS_MAX);
        let next = 2 * ACCESS_MAX as u64 + 3;
        let sequences = |from, count| -> Vec<u64> {
            let entries = tally.recent(from, count);
            entries.iter().map(|a| a.sequence).collect()
        };
        assert_eq!(sequences(None, 2), [next - 2, next - 1]);
        assert_eq!(sequences(Some(next - 1), 9), [next - 1]);
        assert_eq!(sequences(Some(next), 9), [] as [u64; 0]);
        // Those that are gone are not waited for.
        assert_eq!(sequences(Some(0), 1), [next - ACCESS_MAX as u64]);
    }

    #[test]
    fn a_path_is_cut() {
        assert_eq!(&*shown(&[b'a'; 5_000]), "a".repeat(ACCESS_PATH_MAX));
        assert_eq!(&*shown(b"/\xff"), "/\u{fffd}");
    }
}
