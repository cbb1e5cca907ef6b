//! How often something may be tried: buckets that fill again with time.
//!
//! Who guesses passwords is slowed by two buckets: one of his address, one of the account that
//! he tries. The account's own bucket is two: a browser that has logged in before (it carries a
//! token of its own) is not counted with strangers, so that no stranger can lock an owner out.
//! A handle and the email that belongs to it have buckets of their own: were they one, whoever has
//! emptied the one could ask of any email whether it is the other's.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Buckets kept; full ones go first.
const KEPT_MAX: usize = 20_000;

/// What is bounded, and how: so many at once, one more after each `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// A form of a stranger, by address.
    Knock,
    /// A new account, by address.
    SignUp,
    /// A wrong password, by handle; strangers and known browsers apart.
    Guess,
    /// A deploy or a transfer, by account.
    Submit,
    /// A stream, by address.
    Stream,
    /// A command that waits to be let in, by address.
    Poll,
}

impl Act {
    fn bounds(self) -> (u32, Duration) {
        match self {
            Self::Knock => (40, Duration::from_millis(1_500)),
            Self::SignUp => (20, Duration::from_secs(20)),
            Self::Guess => (8, Duration::from_secs(20)),
            Self::Submit => (30, Duration::from_secs(1)),
            Self::Stream => (60, Duration::from_millis(500)),
            Self::Poll => (200, Duration::from_millis(100)),
        }
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    left: u32,
    since: Instant,
}

#[derive(Default)]
pub struct Limits(Mutex<HashMap<(Act, String), Bucket>>);

impl Limits {
    /// Takes one. `Err`: none is left; try again after so long.
    pub fn take(&self, act: Act, who: &str) -> Result<(), Duration> {
        self.take_at(act, who, Instant::now())
    }

    fn take_at(&self, act: Act, who: &str, now: Instant) -> Result<(), Duration> {
        let (most, refill) = act.bounds();
        let mut buckets = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if buckets.len() >= KEPT_MAX {
            buckets.retain(|(act, _), b| {
                let (most, refill) = act.bounds();
                now.duration_since(b.since) < refill * (most - b.left.min(most)).max(1)
            });
            // All of them are in use: whoever is new waits.
            if buckets.len() >= KEPT_MAX && !buckets.contains_key(&(act, who.to_string())) {
                return Err(refill);
            }
        }
        let bucket = buckets.entry((act, who.to_string())).or_insert(Bucket {
            left: most,
            since: now,
        });
        let grown = (now.duration_since(bucket.since).as_millis() / refill.as_millis()) as u32;
        if grown > 0 {
            bucket.left = bucket.left.saturating_add(grown).min(most);
            bucket.since = now;
        }
        if bucket.left == 0 {
            return Err(refill.saturating_sub(now.duration_since(bucket.since)));
        }
        bucket.left -= 1;
        Ok(())
    }

    /// Puts back one that was taken: it was no such try after all. A try is taken before it is made,
    /// so that many at once are as many.
    pub fn give_back(&self, act: Act, who: &str) {
        let (most, _) = act.bounds();
        let mut buckets = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(bucket) = buckets.get_mut(&(act, who.to_string())) {
            bucket.left = (bucket.left + 1).min(most);
        }
    }

    /// Whether one is left; takes none.
    pub fn allows(&self, act: Act, who: &str) -> bool {
        let (_, refill) = act.bounds();
        let buckets = self.0.lock().unwrap_or_else(|e| e.into_inner());
        buckets
            .get(&(act, who.to_string()))
            .is_none_or(|b| b.left > 0 || b.since.elapsed() >= refill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_and_is_nobody_elses() {
        let limits = Limits::default();
        let start = Instant::now();
        for _ in 0..8 {
            assert!(limits.take_at(Act::Guess, "a", start).is_ok());
        }
        let wait = limits.take_at(Act::Guess, "a", start).expect_err("empty");
        assert_eq!(wait, Duration::from_secs(20));
        assert!(limits.take_at(Act::Guess, "b", start).is_ok());
        assert!(limits.take_at(Act::Knock, "a", start).is_ok());
        let later = start + Duration::from_secs(21);
        assert!(limits.take_at(Act::Guess, "a", later).is_ok());
        assert!(limits.take_at(Act::Guess, "a", later).is_err());
    }

    #[test]
    fn what_was_no_guess_is_put_back_and_no_more() {
        let limits = Limits::default();
        let now = Instant::now();
        for _ in 0..20 {
            assert!(limits.take_at(Act::Guess, "a", now).is_ok());
            limits.give_back(Act::Guess, "a");
        }
        limits.give_back(Act::Guess, "a");
        limits.give_back(Act::Guess, "nobody");
        let taken = (0..20).filter(|_| limits.take_at(Act::Guess, "a", now).is_ok());
        assert_eq!(taken.count(), 8);
    }

    #[test]
    fn strangers_in_any_number_do_not_fill_memory() {
        let limits = Limits::default();
        let now = Instant::now();
        for n in 0..KEPT_MAX + 100 {
            let _ = limits.take_at(Act::Knock, &n.to_string(), now);
        }
        let kept = limits.0.lock().expect("unpoisoned").len();
        assert!(kept <= KEPT_MAX, "{kept}");
    }
}
