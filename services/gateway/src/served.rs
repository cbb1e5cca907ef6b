//! What one replica was asked, and how it answered: totals, the last seconds, the last hour.
//!
//! Steps begin and end with the requests that fall into them, so nothing runs while nobody asks;
//! who reads fills in the empty ones. Only what this gateway saw is in it.

use std::collections::VecDeque;

use api::{Access, RequestSample};
use types::AllocationId;

use crate::tally::LATENCY_US;

/// Length of the step that is called "now".
pub const NOW_MS: u64 = 10_000;
/// Length of a step of the history.
pub const STEP_MS: u64 = 60_000;
/// Steps of the history that are kept.
pub const STEPS_MAX: usize = 60;
/// Classes of latency: each ends at √2 times where the one before ends, the first at 64 µs.
pub const CLASSES: usize = 44;

/// Since the replica was first asked here.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By the first digit of the status: 1xx to 5xx.
    pub answers: [u64; 5],
    pub received: u64,
    pub sent: u64,
    /// By [`LATENCY_US`].
    pub latency: [u64; LATENCY_US.len() + 1],
    pub latency_us_sum: u64,
}

/// What fell into one step.
#[derive(Clone, Debug)]
struct Step {
    /// In steps since 1970.
    number: u64,
    requests: u64,
    errors: u64,
    received: u64,
    sent: u64,
    latency: [u32; CLASSES],
}

/// A step that is over.
#[derive(Clone, Copy, Debug)]
struct Past {
    number: u64,
    requests: u64,
    errors: u64,
    received: u64,
    sent: u64,
    p50_us: Option<u64>,
    p95_us: Option<u64>,
}

impl Step {
    fn new(number: u64) -> Self {
        Self {
            number,
            requests: 0,
            errors: 0,
            received: 0,
            sent: 0,
            latency: [0; CLASSES],
        }
    }

    fn add(&mut self, access: &Access) {
        self.requests += 1;
        self.errors += u64::from(access.status >= 500);
        self.received += access.received;
        self.sent += access.sent;
        let class = &mut self.latency[class_of(access.duration_us)];
        *class = class.saturating_add(1);
    }

    fn past(&self) -> Past {
        Past {
            number: self.number,
            requests: self.requests,
            errors: self.errors,
            received: self.received,
            sent: self.sent,
            p50_us: quantile(&self.latency, 50),
            p95_us: quantile(&self.latency, 95),
        }
    }
}

/// End of a class, in microseconds.
fn end_of(class: usize) -> u64 {
    let whole = 64u64 << (class / 2);
    match class % 2 {
        0 => whole,
        // √2, in thousandths.
        _ => whole * 1_414 / 1_000,
    }
}

pub fn class_of(us: u64) -> usize {
    let at = (0..CLASSES).find(|class| us <= end_of(*class));
    at.unwrap_or(CLASSES - 1)
}

/// The latency that `percent` of the requests did not exceed: the end of its class, at most
/// √2 times what it was. `None` without a request.
pub fn quantile(latency: &[u32; CLASSES], percent: u64) -> Option<u64> {
    let count: u64 = latency.iter().map(|n| u64::from(*n)).sum();
    let rank = (count * percent).div_ceil(100);
    let mut sum = 0;
    let found = latency.iter().position(|n| {
        sum += u64::from(*n);
        sum >= rank
    });
    found.filter(|_| count > 0).map(end_of)
}

/// Of one replica.
#[derive(Clone, Debug)]
pub struct Served {
    pub totals: Totals,
    last_ms: u64,
    now: Step,
    before: Option<Past>,
    minute: Step,
    minutes: VecDeque<Past>,
}

impl Served {
    pub fn new(at_ms: u64) -> Self {
        Self {
            totals: Totals::default(),
            last_ms: at_ms,
            now: Step::new(at_ms / NOW_MS),
            before: None,
            minute: Step::new(at_ms / STEP_MS),
            minutes: VecDeque::new(),
        }
    }

    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    pub fn add(&mut self, access: &Access) {
        self.last_ms = self.last_ms.max(access.at_ms);
        let totals = &mut self.totals;
        totals.answers[usize::from(access.status / 100).clamp(1, 5) - 1] += 1;
        totals.received += access.received;
        totals.sent += access.sent;
        let class = LATENCY_US.iter().position(|end| access.duration_us <= *end);
        totals.latency[class.unwrap_or(LATENCY_US.len())] += 1;
        totals.latency_us_sum += access.duration_us;
        // A clock that went back counts on in the step that there is.
        let number = (access.at_ms / NOW_MS).max(self.now.number);
        if number > self.now.number {
            self.before = Some(self.now.past());
            self.now = Step::new(number);
        }
        self.now.add(access);
        let number = (access.at_ms / STEP_MS).max(self.minute.number);
        if number > self.minute.number {
            if self.minutes.len() == STEPS_MAX {
                self.minutes.pop_front();
            }
            self.minutes.push_back(self.minute.past());
            self.minute = Step::new(number);
        }
        self.minute.add(access);
    }

    /// The step of [`NOW_MS`] that was over last at `now_ms`.
    fn now(&self, number: u64) -> Option<Past> {
        if self.now.number == number {
            return Some(self.now.past());
        }
        self.before.filter(|before| before.number == number)
    }

    /// Steps of [`STEP_MS`] that are over at `now_ms` and have a request, from `since_ms` until
    /// `until_ms`.
    fn history(&self, since_ms: u64, until_ms: u64, now_ms: u64) -> impl Iterator<Item = Past> {
        let current = Some(self.minute.past()).filter(|p| p.number < now_ms / STEP_MS);
        let all = self.minutes.iter().copied().chain(current);
        all.filter(move |past| {
            let at_ms = past.number * STEP_MS;
            (since_ms..until_ms).contains(&at_ms)
        })
    }
}

/// Which replica, and since when all that it is asked here is counted.
#[derive(Clone, Copy)]
pub struct Of<'a> {
    pub allocation: AllocationId,
    pub service: &'a str,
    pub since_ms: u64,
}

impl Of<'_> {
    fn sample(self, at_ms: u64, step_ms: u64, past: Option<Past>) -> RequestSample {
        RequestSample {
            allocation: self.allocation,
            service: self.service.to_string(),
            at_ms,
            step_ms,
            requests: past.map_or(0, |p| p.requests),
            errors: past.map_or(0, |p| p.errors),
            received: past.map_or(0, |p| p.received),
            sent: past.map_or(0, |p| p.sent),
            p50_us: past.and_then(|p| p.p50_us),
            p95_us: past.and_then(|p| p.p95_us),
        }
    }

    /// The step of [`NOW_MS`] that was over last at `now_ms`; `None` if it began before anybody
    /// counted.
    pub fn now(self, served: Option<&Served>, now_ms: u64) -> Option<RequestSample> {
        let number = (now_ms / NOW_MS).checked_sub(1)?;
        let at_ms = number * NOW_MS;
        let sample = || self.sample(at_ms, NOW_MS, served.and_then(|s| s.now(number)));
        (at_ms >= self.since_ms).then(sample)
    }

    pub fn history(
        self,
        served: &Served,
        (since_ms, until_ms): (u64, u64),
        now_ms: u64,
    ) -> Vec<RequestSample> {
        let steps = served.history(since_ms, until_ms, now_ms);
        steps
            .map(|past| self.sample(past.number * STEP_MS, STEP_MS, Some(past)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(at_ms: u64, status: u16, duration_us: u64) -> Access {
        Access {
            at_ms,
            allocation: Some(AllocationId(1)),
            ..crate::tally::tests::access(status, duration_us)
        }
    }

    const OF: Of<'static> = Of {
        allocation: AllocationId(1),
        service: "web",
        since_ms: 600_000,
    };

    #[test]
    fn what_a_step_holds_is_told_once_it_is_over() {
        let mut served = Served::new(605_000);
        for n in 0..100 {
            let status = if n < 5 { 503 } else { 200 };
            served.add(&access(
                605_000 + n,
                status,
                if n < 94 { 1_000 } else { 90_000 },
            ));
        }
        let now = |served: &Served, at| OF.now(Some(served), at);
        // Nobody counted when the step before began.
        assert_eq!(now(&served, 605_500), None);
        let told = now(&served, 610_000).expect("over");
        assert_eq!((told.at_ms, told.step_ms), (600_000, NOW_MS));
        assert_eq!(
            (told.requests, told.errors, told.received, told.sent),
            (100, 5, 100, 200)
        );
        let (p50, p95) = (told.p50_us.expect("asked"), told.p95_us.expect("asked"));
        assert!((1_000..=1_415).contains(&p50), "{p50}");
        assert!((90_000..=127_300).contains(&p95), "{p95}");
        served.add(&access(612_000, 200, 10));
        assert_eq!(now(&served, 619_999).expect("the one before").requests, 100);
        assert_eq!(now(&served, 620_000).expect("this one").requests, 1);
        // Nobody asked: that is measured, how long an answer took is not.
        let idle = now(&served, 700_000).expect("counted");
        assert_eq!((idle.requests, idle.p50_us), (0, None));
        assert_eq!(OF.now(None, 700_000), Some(idle));

        served.add(&access(665_000, 200, 10));
        let told = OF.history(&served, (0, u64::MAX), 720_000);
        let counts: Vec<_> = told.iter().map(|s| (s.at_ms, s.requests)).collect();
        assert_eq!(counts, [(600_000, 101), (660_000, 1)]);
        assert_eq!(OF.history(&served, (660_000, u64::MAX), 719_999).len(), 0);
        for n in 0..200 {
            served.add(&access(720_000 + n * STEP_MS, 200, 10));
        }
        let told = OF.history(&served, (0, u64::MAX), u64::MAX);
        assert_eq!(told.len(), STEPS_MAX + 1);
        assert_eq!(served.totals.answers, [0, 297, 0, 0, 5]);
    }

    #[test]
    fn quantiles_are_ends_of_classes() {
        let mut latency = [0; CLASSES];
        assert_eq!(quantile(&latency, 50), None);
        for us in [0, 64, 65, 1_000, 1 << 40] {
            let class = class_of(us);
            assert!(us <= end_of(class) || class == CLASSES - 1, "{us}");
            assert!(class == 0 || us > end_of(class - 1), "{us}");
            latency[class] += 1;
        }
        assert_eq!(quantile(&latency, 1), Some(64));
        assert_eq!(quantile(&latency, 100), Some(end_of(CLASSES - 1)));
    }
}
