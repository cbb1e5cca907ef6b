//! How good a feasible host is: integer features × weights, in 1/4096.

use types::Resources;

use crate::fleet::HostEntry;
use crate::reason::Term;

const ONE: i64 = 4096;

/// Hosts below it get nothing while others fit, in 1/4096.
pub const FLOOR: i64 = ONE / 20;

/// The heuristic vector; a learned one replaces it by vote.
const WEIGHTS: [(&str, i64); 5] = [
    // Fill what is begun: large gaps stay whole for large requests.
    ("fullness", 4),
    // Do not strand one resource behind another.
    ("imbalance", -2),
    ("reliability", 8),
    ("price", -4),
    // Its volume is there.
    ("locality", 64),
];

/// Share of `capacity` in use once `request` is there too.
fn used(free: u64, request: u64, capacity: u64) -> i64 {
    if capacity == 0 {
        return ONE;
    }
    let used = capacity.saturating_sub(free).saturating_add(request);
    (u128::from(used.min(capacity)) * ONE as u128 / u128::from(capacity)) as i64
}

const HOUR_MS: i128 = 3_600_000;
/// Parts of [`ONE`] that are counted on the way, so that more good never rounds to less.
const FINE: i128 = 1 << 16;

/// Lower bound of the share of hours that a host serves well, in 1/4096, after `good_ms` of
/// good service and `bad_ms` that speak against it: Wilson's at z = 2, an hour being a trial,
/// with one good hour lent to newcomers. Theirs is a fifth.
pub fn reliability(good_ms: u64, bad_ms: u64) -> i64 {
    let one = i128::from(ONE) * FINE;
    let good = i128::from(good_ms) + HOUR_MS;
    let n = good + i128::from(bad_ms);
    let p = good * one / n;
    let part = one * HOUR_MS / n;
    let spread = isqrt((p * (one - p) * HOUR_MS / n + part * part) as u128) as i128;
    let centre = p + 2 * part;
    ((centre - 2 * spread) * n / (n + 4 * HOUR_MS) / FINE).clamp(0, ONE.into()) as i64
}

fn isqrt(n: u128) -> u128 {
    if n < 2 {
        return n;
    }
    let mut x = 1u128 << (n.ilog2() / 2 + 1);
    loop {
        let next = (x + n / x) / 2;
        if next >= x {
            return x;
        }
        x = next;
    }
}

fn features(host: &HostEntry, request: &Resources, preferred: bool) -> [i64; 5] {
    let (free, all) = (&host.free, &host.capacity);
    let cpu = used(
        free.cpu_millis.into(),
        request.cpu_millis.into(),
        all.cpu_millis.into(),
    );
    let memory = used(free.memory_bytes, request.memory_bytes, all.memory_bytes);
    let disk = used(free.disk_bytes, request.disk_bytes, all.disk_bytes);
    [
        (cpu + memory + disk) / 3,
        (cpu - memory).abs(),
        reliability(host.good_ms, host.bad_ms),
        (i64::from(host.price_multiplier_milli) - 500) * ONE / 1500,
        if preferred { ONE } else { 0 },
    ]
}

pub fn score(host: &HostEntry, request: &Resources, preferred: bool) -> i64 {
    features(host, request, preferred)
        .into_iter()
        .zip(WEIGHTS)
        .map(|(value, (_, weight))| value * weight)
        .sum()
}

pub fn terms(host: &HostEntry, request: &Resources, preferred: bool) -> Vec<Term> {
    features(host, request, preferred)
        .into_iter()
        .zip(WEIGHTS)
        .map(|(value, (feature, weight))| Term {
            feature: feature.into(),
            value,
            weight,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = HOUR_MS as u64;

    #[test]
    fn more_good_outcomes_never_count_less() {
        for bad in [0, 1, 5, 100] {
            let mut last = 0;
            for good in 0..500 {
                let now = reliability(good * HOUR, bad * HOUR);
                assert!(
                    now + 1 >= last,
                    "{good} good, {bad} bad: {now} after {last}"
                );
                last = now;
            }
        }
        assert_eq!(reliability(0, 0), ONE / 5);
        assert!(reliability(u64::MAX, 0) > ONE * 9 / 10);
        assert!(reliability(0, u64::MAX) < ONE / 10);
        assert!(reliability(u64::MAX, u64::MAX) < ONE * 6 / 10);
        // Three silences before an hour was served: nothing new; one: yes.
        assert!(reliability(0, HOUR) >= FLOOR && reliability(0, 3 * HOUR) < FLOOR);
    }

    #[test]
    fn integer_root() {
        for n in 0..10_000u128 {
            let r = isqrt(n);
            assert!(r * r <= n && (r + 1) * (r + 1) > n);
        }
        assert_eq!(isqrt(u128::MAX), u64::MAX.into());
    }
}
