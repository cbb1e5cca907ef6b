//! The agent's time: it goes on at the machine's pace, whatever the machine's clock is set to.
//!
//! Usage is counted by time that passes, and a clock that is put forward by an hour must not
//! cost anybody an hour. So the clock is asked once in the life of the machine; from then on
//! the kernel's count since boot tells how much later it is, also to the next agent. Where the
//! clock was wrong already, the ledger's time corrects what the ledger and users are told.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::durable;

/// Blocks and answers come so late without anything being wrong.
const TOLERANCE_MS: i64 = 5_000;

/// What the machine's clock said, for as long as the machine is not started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    boot: String,
    /// Milliseconds since 1970 when the machine was started.
    booted_ms: i64,
}

pub struct Clock {
    booted_ms: i64,
    /// The ledger's time is later by so much.
    lead_ms: AtomicI64,
}

/// Milliseconds since the machine was started, those in which it slept too.
fn up_ms() -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is ours and lives through the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

fn wall_ms() -> i64 {
    i64::try_from(api::now_ms()).unwrap_or(i64::MAX)
}

fn unsigned(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

impl Clock {
    /// Goes on from what an agent of this boot has written to `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let boot = "/proc/sys/kernel/random/boot_id";
        let boot = std::fs::read_to_string(boot).with_context(|| format!("read {boot}"))?;
        Self::of_boot(path, boot.trim())
    }

    fn of_boot(path: &Path, boot: &str) -> Result<Self> {
        let known = durable::read::<Known>(path).unwrap_or_default();
        let booted_ms = match known.filter(|k| k.boot == boot) {
            Some(known) => known.booted_ms,
            None => {
                let booted_ms = wall_ms() - up_ms();
                let boot = boot.to_string();
                durable::write(path, &Known { boot, booted_ms })?;
                booted_ms
            }
        };
        Ok(Self {
            booted_ms,
            lead_ms: AtomicI64::new(0),
        })
    }

    /// For what is counted: never goes back while the machine runs, never jumps.
    pub fn now_ms(&self) -> u64 {
        unsigned(self.booted_ms + up_ms())
    }

    /// For what the ledger and users are told, and what they say.
    pub fn ledger_ms(&self) -> u64 {
        unsigned(self.booted_ms + up_ms() + self.lead_ms.load(Ordering::Relaxed))
    }

    /// When something happened that this machine's clock dated `wall_ms` a moment ago.
    pub fn of_wall(&self, wall: u64) -> u64 {
        let ago = wall_ms().saturating_sub(i64::try_from(wall).unwrap_or(i64::MAX));
        unsigned(self.booted_ms + up_ms() - ago.max(0))
    }

    /// The ledger's time as a validator has just told it.
    pub fn heard(&self, ledger_ms: u64) {
        let ledger = i64::try_from(ledger_ms).unwrap_or(i64::MAX);
        let lead = ledger.saturating_sub(self.booted_ms + up_ms());
        let lead = if lead.abs() > TOLERANCE_MS { lead } else { 0 };
        let before = self.lead_ms.swap(lead, Ordering::Relaxed);
        if lead != 0 && (before - lead).abs() > TOLERANCE_MS {
            tracing::warn!(
                ms = -lead,
                "this machine's clock was ahead of the ledger's by so much; set it by NTP"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_boot_has_one_clock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clock");
        let first = Clock::of_boot(&path, "one").expect("opened");
        assert!(first.now_ms().abs_diff(api::now_ms()) < 60_000);
        // As if the clock had been set since.
        let set = Known {
            boot: "one".into(),
            booted_ms: first.booted_ms - 3_600_000,
        };
        durable::write(&path, &set).expect("written");
        let same = Clock::of_boot(&path, "one").expect("opened");
        assert_eq!(same.booted_ms, set.booted_ms);
        let later = Clock::of_boot(&path, "two").expect("opened");
        assert!((later.booted_ms - first.booted_ms).abs() < 60_000);
        // What ended just now by a clock that is an hour ahead of ours ended now.
        assert!(same.of_wall(api::now_ms()).abs_diff(same.now_ms()) < 60_000);
        assert!(same.of_wall(api::now_ms() + 1_000_000) <= same.now_ms());
    }

    #[test]
    fn the_ledger_is_right() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::open(&folder.path().join("clock")).expect("opened");
        let hour = 3_600_000;
        clock.heard(clock.now_ms() + hour);
        assert!(clock.ledger_ms().abs_diff(clock.now_ms() + hour) < 1_000);
        clock.heard(clock.now_ms() + 100);
        assert!(clock.ledger_ms().abs_diff(clock.now_ms()) < 1_000);
    }
}
