//! Readings over all instances of a container → counters that only grow.

use serde::{Deserialize, Serialize};
use types::{Resources, Usage};

use crate::Reading;

/// Time between two readings that is believed. Longer gaps (the agent was away) count for
/// memory and storage with the last value up to this.
const GAP_MS_MAX: u64 = 3_600_000;

/// Integrates by the left rule: what was seen last holds until the next look.
///
/// Never claims more than the reservation allows since the lease began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accumulator {
    reserved: Resources,
    total: Usage,
    started_ms: u64,
    at_ms: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    running: bool,
    instance: u32,
    cpu_ns: u64,
    rx_bytes: u64,
    tx_bytes: u64,
    /// Used before this accumulator began (another agent's word to the ledger).
    base: Usage,
}

/// What a counter has grown by; one that went back began anew.
fn growth(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

impl Accumulator {
    /// Goes on from `base` at `now_ms`.
    pub fn continuing(reserved: Resources, base: Usage, now_ms: u64) -> Self {
        Self {
            reserved,
            total: base,
            started_ms: now_ms,
            at_ms: now_ms,
            memory_bytes: 0,
            disk_bytes: 0,
            running: false,
            instance: 0,
            cpu_ns: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            base,
        }
    }

    /// A look at the running container `instance` (1, 2, …: each begins its counters at 0).
    pub fn add(&mut self, instance: u32, reading: &Reading, now_ms: u64) {
        if self.instance == instance {
            self.pass(now_ms);
        } else {
            self.running = false;
            self.pass(now_ms);
            self.instance = instance;
            (self.cpu_ns, self.rx_bytes, self.tx_bytes) = (0, 0, 0);
        }
        self.total.cpu_ns += growth(self.cpu_ns, reading.cpu_ns);
        self.total.rx_bytes += growth(self.rx_bytes, reading.rx_bytes);
        self.total.tx_bytes += growth(self.tx_bytes, reading.tx_bytes);
        self.cpu_ns = reading.cpu_ns;
        self.rx_bytes = reading.rx_bytes;
        self.tx_bytes = reading.tx_bytes;
        self.memory_bytes = reading.memory_bytes;
        self.disk_bytes = reading.disk_bytes;
        self.running = true;
        self.clamp();
    }

    /// Nothing runs: only what lies on disk counts.
    pub fn idle(&mut self, now_ms: u64, disk_bytes: Option<u64>) {
        self.pass(now_ms);
        self.running = false;
        self.memory_bytes = 0;
        if let Some(bytes) = disk_bytes {
            self.disk_bytes = bytes;
        }
        self.clamp();
    }

    pub fn total(&self) -> Usage {
        self.total
    }

    /// As last seen.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    fn pass(&mut self, now_ms: u64) {
        let ms = now_ms.saturating_sub(self.at_ms).min(GAP_MS_MAX);
        self.at_ms = self.at_ms.max(now_ms);
        let elapsed = u128::from(ms);
        self.total.storage_byte_ms +=
            u128::from(self.disk_bytes.min(self.reserved.disk_bytes)) * elapsed;
        if self.running {
            self.total.memory_byte_ms +=
                u128::from(self.memory_bytes.min(self.reserved.memory_bytes)) * elapsed;
            self.total.bandwidth_bits += u128::from(self.reserved.bandwidth_kbps) * elapsed;
        }
    }

    /// A shaper or a scheduler may let a burst pass; the ledger would refuse it.
    fn clamp(&mut self) {
        let ms = u128::from(self.at_ms.saturating_sub(self.started_ms));
        let most = |per_ms: u128| u64::try_from(per_ms * ms).unwrap_or(u64::MAX);
        let cpu = most(u128::from(self.reserved.cpu_millis) * 1_000).saturating_add(500_000_000);
        self.total.cpu_ns = self.total.cpu_ns.min(self.base.cpu_ns.saturating_add(cpu));
        let bytes = most(u128::from(self.reserved.bandwidth_kbps)) / 8 + (512 << 10);
        self.total.rx_bytes = self
            .total
            .rx_bytes
            .min(self.base.rx_bytes.saturating_add(bytes));
        self.total.tx_bytes = self
            .total
            .tx_bytes
            .min(self.base.tx_bytes.saturating_add(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: Resources = Resources {
        cpu_millis: 1000,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        bandwidth_kbps: 8_000,
    };

    fn reading(cpu_ms: u64, memory: u64, disk: u64, bytes: u64) -> Reading {
        Reading {
            cpu_ns: cpu_ms * 1_000_000,
            memory_bytes: memory,
            disk_bytes: disk,
            rx_bytes: bytes,
            tx_bytes: 2 * bytes,
            ..Reading::default()
        }
    }

    #[test]
    fn over_restarts_and_reloads_nothing_is_lost_or_doubled() {
        let mut meter = Accumulator::continuing(RESERVED, Usage::default(), 0);
        meter.add(1, &reading(0, 100, 10, 0), 1_000);
        meter.add(1, &reading(500, 200, 10, 50), 2_000);
        let text = serde_json::to_string(&meter).expect("encodes");
        let mut meter: Accumulator = serde_json::from_str(&text).expect("decodes");
        meter.add(1, &reading(700, 200, 10, 60), 3_000);
        meter.idle(4_000, None);
        // A new container counts from 0, even if it is already further than the last one was.
        meter.add(2, &reading(800, 300, 20, 70), 6_000);
        meter.idle(7_000, Some(5));
        meter.idle(8_000, None);
        let expected = Usage {
            cpu_ns: 1_500_000_000,
            memory_byte_ms: (100 + 200 + 200 + 300) * 1_000,
            storage_byte_ms: 10 * 5_000 + 20 * 1_000 + 5 * 1_000,
            bandwidth_bits: 8_000 * 4_000,
            rx_bytes: 130,
            tx_bytes: 260,
        };
        assert_eq!(meter.total(), expected);
    }

    #[test]
    fn never_more_than_the_reservation() {
        let mut meter = Accumulator::continuing(RESERVED, Usage::default(), 0);
        meter.add(1, &reading(60_000, 5 << 30, 5 << 30, 1 << 40), 1_000);
        meter.add(1, &reading(60_000, 0, 0, 1 << 40), 2_000);
        let used = meter.total();
        assert!(used.cpu_ns <= 3_000_000_000);
        assert!(used.memory_byte_ms <= (1 << 30) * 2_000);
        assert!(used.storage_byte_ms <= (1 << 30) * 2_000);
        assert!(u128::from(used.rx_bytes) <= 8_000 * 2_000 / 8 + (1 << 19));
    }
}
