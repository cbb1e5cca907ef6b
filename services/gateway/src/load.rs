//! How replicas do: requests under way, latency, failures; and how often requests may be
//! tried again.
//!
//! A replica's figures outlive the snapshots of the routes. All are atomics that are read and
//! written without order: a choice made on a figure that is a request old is as good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::limits::{
    REST, REST_MAX, RETRY_EVERY, RETRY_SECOND, RETRY_STORE, STARTING_TIME, UNWELL_MAX,
};
use crate::table::uptime_ms;

/// After so long a latency counts for 1/e of what it was: a replica that was slow is tried again.
const MEMORY_MS: f32 = 5_000.0;
/// Of a replica that has not answered yet: little, so that it is asked.
const UNKNOWN_US: f32 = 200.0;

/// Latency to the first byte of an answer, as a moving average that rises faster than it falls
/// (peak-sensitive EWMA): half the way to a slower answer, a quarter to a quicker one.
#[derive(Debug, Default)]
struct Latency {
    /// Bits of an `f32`; 0 is none yet.
    us: AtomicU32,
    at_ms: AtomicU64,
}

impl Latency {
    fn heard(&self, took: Duration, now_ms: u64) {
        let sample = took.as_micros().min(600_000_000) as f32 + 1.0;
        let before = f32::from_bits(self.us.load(Ordering::Relaxed));
        let value = match before {
            0.0 => sample,
            _ if sample > before => f32::midpoint(before, sample),
            _ => {
                let keep = self.kept(now_ms).min(0.75);
                before * keep + sample * (1.0 - keep)
            }
        };
        self.us.store(value.to_bits(), Ordering::Relaxed);
        self.at_ms.store(now_ms, Ordering::Relaxed);
    }

    fn is_known(&self) -> bool {
        self.us.load(Ordering::Relaxed) != 0
    }

    fn kept(&self, now_ms: u64) -> f32 {
        match now_ms.saturating_sub(self.at_ms.load(Ordering::Relaxed)) {
            0..100 => 1.0,
            age => (-(age as f32) / MEMORY_MS).exp(),
        }
    }

    fn us(&self, now_ms: u64) -> f32 {
        match f32::from_bits(self.us.load(Ordering::Relaxed)) {
            0.0 => UNKNOWN_US,
            us => us * self.kept(now_ms) + 1.0,
        }
    }
}

/// What became of a request at a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with its first byte after so long.
    Answered(Duration),
    /// It answered that it cannot serve (502, 503, 504).
    Unwell,
    /// It could not be reached, broke off or was silent.
    Failed,
}

/// How one replica does.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU32,
    /// When it was first told to be ready, plus one; 0 if it was not yet.
    ready_ms: AtomicU64,
    latency: Latency,
    unwell: AtomicU32,
    /// Rests in a row: each is twice as long as the one before.
    rests: AtomicU32,
    rests_until_ms: AtomicU64,
}

/// Held while a request or connection uses a replica.
#[derive(Debug)]
pub struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Load {
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// It is ready, as the ledger has it.
    pub fn is_ready_at(&self, now_ms: u64) {
        let since = &self.ready_ms;
        let _ = since.compare_exchange(0, now_ms + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It runs since a moment ago and has never answered: it may not listen yet.
    pub fn is_starting(&self, now_ms: u64) -> bool {
        let since = self.ready_ms.load(Ordering::Relaxed);
        let fresh = since > 0 && now_ms < since + STARTING_TIME.as_millis() as u64;
        fresh && !self.latency.is_known()
    }

    pub fn latency_us(&self, now_ms: u64) -> f32 {
        self.latency.us(now_ms)
    }

    pub fn tell(&self, outcome: Outcome) {
        self.tell_at(outcome, uptime_ms());
    }

    pub fn tell_at(&self, outcome: Outcome, now_ms: u64) {
        match outcome {
            Outcome::Answered(took) => {
                self.latency.heard(took, now_ms);
                // Written only when it changes: answers are many, failures few.
                if self.unwell.load(Ordering::Relaxed) != 0 {
                    self.unwell.store(0, Ordering::Relaxed);
                }
                if self.rests.load(Ordering::Relaxed) != 0 && !self.is_resting(now_ms) {
                    self.rests.store(0, Ordering::Relaxed);
                }
            }
            Outcome::Unwell => {
                if self.unwell.fetch_add(1, Ordering::Relaxed) + 1 >= UNWELL_MAX {
                    self.unwell.store(0, Ordering::Relaxed);
                    self.rest(now_ms);
                }
            }
            Outcome::Failed => self.rest(now_ms),
        }
    }

    fn rest(&self, now_ms: u64) {
        // Requests that fail together are one failure.
        if self.is_resting(now_ms) {
            return;
        }
        let before = self.rests.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = (REST * 2_u32.pow(before)).min(REST_MAX);
        let until = now_ms + pause.as_millis() as u64;
        self.rests_until_ms.store(until, Ordering::Relaxed);
    }

    pub fn is_resting(&self, now_ms: u64) -> bool {
        self.rests_until_ms.load(Ordering::Relaxed) > now_ms
    }

    /// What a request costs there: the lower, the better. Those that rest come last.
    pub fn cost(&self, now_ms: u64) -> (bool, f32) {
        let waiting = self.in_flight() as f32 + 1.0;
        (self.is_resting(now_ms), self.latency.us(now_ms) * waiting)
    }
}

/// How many more requests of a service may be tried again: a share of its requests and a few
/// per second, so that retries never multiply a failure.
#[derive(Debug)]
pub struct Budget {
    /// In hundredths of a retry.
    left: AtomicU32,
    at_s: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: AtomicU32::new(RETRY_STORE * 100),
            at_s: AtomicU64::new(0),
        }
    }
}

impl Budget {
    /// A request has come.
    pub fn earn(&self) {
        let left = self.left.load(Ordering::Relaxed);
        if left < RETRY_STORE * 100 {
            self.add(100 / RETRY_EVERY);
        }
    }

    fn add(&self, hundredths: u32) {
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some((left + hundredths).min(RETRY_STORE * 100))
            });
    }

    /// True if one may be tried again; it is then taken.
    pub fn spend(&self) -> bool {
        self.spend_at(uptime_ms() / 1_000)
    }

    fn spend_at(&self, now_s: u64) -> bool {
        let before = self.at_s.swap(now_s, Ordering::Relaxed);
        let seconds = now_s.saturating_sub(before).min(60) as u32;
        if seconds > 0 {
            self.add(seconds * RETRY_SECOND * 100);
        }
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(100)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn latency_rises_faster_than_it_falls() {
        let latency = Latency::default();
        assert_eq!(latency.us(0), UNKNOWN_US);
        latency.heard(ms(1), 0);
        latency.heard(ms(100), 10);
        assert!((50_000.0..51_000.0).contains(&latency.us(10)));
        latency.heard(ms(1), 20);
        let after_one = latency.us(20);
        assert!((37_000.0..39_000.0).contains(&after_one), "{after_one}");
        // Unasked it is believed to be fast again in time.
        assert!(latency.us(5_020) < after_one / 2.0);
        assert!(latency.us(60_020) < 100.0);
        for i in 0..50 {
            latency.heard(ms(1), 20 + i);
        }
        assert!(latency.us(70) < 1_100.0);
    }

    #[test]
    fn a_replica_that_fails_rests_longer_each_time() {
        let load = Load::default();
        let now = uptime_ms();
        let rested = |at| {
            load.rest(at);
            load.rests_until_ms.load(Ordering::Relaxed) - at
        };
        let first = rested(now);
        assert_eq!(first, REST.as_millis() as u64);
        load.rest(now + 1);
        assert_eq!(load.rests_until_ms.load(Ordering::Relaxed), now + first);
        let mut at = now;
        let mut all = vec![first];
        for _ in 0..8 {
            at += all[all.len() - 1];
            all.push(rested(at));
        }
        assert!(
            all.windows(2)
                .all(|w| w[1] == (w[0] * 2).min(REST_MAX.as_millis() as u64))
        );
        assert!(load.cost(at).0 && !load.cost(at + REST_MAX.as_millis() as u64).0);
    }

    #[test]
    fn answers_that_refuse_count_only_in_a_row() {
        let load = Load::default();
        for _ in 0..3 {
            for _ in 1..UNWELL_MAX {
                load.tell(Outcome::Unwell);
            }
            load.tell(Outcome::Answered(ms(1)));
        }
        assert!(!load.is_resting(uptime_ms()));
        for _ in 0..UNWELL_MAX {
            load.tell(Outcome::Unwell);
        }
        assert!(load.is_resting(uptime_ms()));
    }

    #[test]
    fn retries_are_a_share_of_the_requests_and_a_few_per_second() {
        let budget = Budget::default();
        let spent = (0..10_000).filter(|_| budget.spend_at(0)).count();
        assert_eq!(spent, RETRY_STORE as usize);
        for _ in 0..1_000 {
            budget.earn();
        }
        let spent = (0..10_000).filter(|_| budget.spend_at(0)).count();
        assert_eq!(spent, 1_000 / RETRY_EVERY as usize);
        let spent = (0..10_000).filter(|_| budget.spend_at(3)).count();
        assert_eq!(spent, 3 * RETRY_SECOND as usize);
    }
}
