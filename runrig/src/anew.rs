//! Begin anew when the machine's clock is set, or a validator's part changes.
//!
//! The consensus engine keeps its deadlines, and when peers may speak again, by the time of day.
//! Set the clock back by an hour, and a running validator hears nobody for that hour. Nothing
//! of that is on disk: begun anew in the same process, it goes on as after any restart.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;

use crate::failure::Result;
use crate::roles;

/// A clock that is set by less delays a deadline by no more.
const SET_MIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Both clocks are read within so long, or read again.
const READ_WITHIN: Duration = Duration::from_millis(50);
const READS_MAX: usize = 100;

/// The time of day, and the time since boot at the same moment.
#[derive(Clone, Copy)]
struct Reading {
    day: SystemTime,
    boot: Instant,
}

impl Reading {
    fn take() -> Self {
        let mut reading = Self {
            day: SystemTime::now(),
            boot: Instant::now(),
        };
        for _ in 0..READS_MAX {
            let before = Instant::now();
            reading.day = SystemTime::now();
            reading.boot = Instant::now();
            if reading.boot - before < READ_WITHIN {
                break;
            }
        }
        reading
    }

    /// Milliseconds by which the clock was set from `self` to `later`.
    fn set_by(&self, later: &Self) -> i64 {
        let boot = later.boot.saturating_duration_since(self.boot).as_millis() as i64;
        let day = match later.day.duration_since(self.day) {
            Ok(ahead) => ahead.as_millis() as i64,
            Err(back) => -(back.duration().as_millis() as i64),
        };
        day.saturating_sub(boot)
    }
}

/// Returns when the clock has been set, and by how many milliseconds.
async fn clock_set() -> i64 {
    let mut last = Reading::take();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Reading::take();
        let by = last.set_by(&now);
        if by.unsigned_abs() >= SET_MIN.as_millis() as u64 {
            return by;
        }
        last = now;
    }
}

/// What a role wants when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    End,
    /// To begin anew.
    Again,
}

/// As [`roles::foreground`]; begins this process anew when `role` wants it, and ends `role` and does so
/// when the clock is set.
pub fn foreground<F, R>(role: F) -> Result
where
    F: FnOnce(roles::Asked) -> R,
    R: Future<Output = anyhow::Result<Then>>,
{
    let set = std::sync::Arc::new(AtomicBool::new(false));
    let (told, wanted) = (set.clone(), set.clone());
    roles::foreground(|asked| {
        let either: roles::Asked = Box::pin(async move {
            tokio::select! {
                () = asked => {}
                by_ms = clock_set() => {
                    tracing::warn!(by_ms, "the machine's clock was set: beginning anew");
                    told.store(true, Ordering::Relaxed);
                }
            }
        });
        let ended = role(either);
        async move {
            if ended.await? == Then::Again {
                wanted.store(true, Ordering::Relaxed);
            }
            Ok(())
        }
    })?;
    match set.load(Ordering::Relaxed) {
        true => Err(again().into()),
        false => Ok(()),
    }
}

/// Replaces this process by a new one of the same number, program and arguments.
fn again() -> anyhow::Error {
    let begin = || -> anyhow::Result<Infallible> {
        let mut words = std::env::args_os();
        let mut command = Command::new("/proc/self/exe");
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        Err(command.args(words).exec().into())
    };
    let Err(error) = begin().context("begin anew");
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_set_by_what_the_time_since_boot_does_not_account_for() {
        let from = Reading::take();
        let after = |day_s: i64, boot_s: u64| {
            let by = Duration::from_secs(day_s.unsigned_abs());
            let later = Reading {
                day: match day_s < 0 {
                    true => from.day - by,
                    false => from.day + by,
                },
                boot: from.boot + Duration::from_secs(boot_s),
            };
            from.set_by(&later)
        };
        assert_eq!(after(1, 1), 0);
        assert_eq!(after(3_601, 1), 3_600_000);
        assert_eq!(after(-3_599, 1), -3_600_000);
        assert_eq!(after(0, 30), -30_000);
    }
}
