//! Whether what has ended starts again, and when: as Compose has it.

use std::time::Duration;

use engine::Exit;
use types::RestartPolicy;

/// A container that ran this long starts its restart pauses from the beginning.
const STABLE: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Does it start again after `restarts` restarts? What did not end by itself always does.
pub fn again(policy: RestartPolicy, exit: &Exit, restarts: u32) -> bool {
    exit.lost
        || match policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(most) => exit.code != 0 && (most == 0 || restarts < most),
        }
}

/// Pauses that double from a tenth of a second to a minute.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: PAUSE_MIN }
    }
}

impl Pauses {
    /// After it ran for `ran`.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            *self = Self::default();
        }
        self.take()
    }

    /// After a start that did not come about: the machine or the network is at fault.
    pub fn after_trouble(&mut self) -> Duration {
        self.take().max(Duration::from_secs(1))
    }

    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_starts_again() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let exit = |code| Exit {
            code,
            oom_killed: false,
            lost: false,
            at_ms: 0,
        };
        for (policy, code, restarts, expected) in [
            (No, 0, 0, false),
            (No, 1, 0, false),
            (Always, 0, 9, true),
            (Always, 1, 9, true),
            (UnlessStopped, 0, 9, true),
            (UnlessStopped, 137, 9, true),
            (OnFailure(0), 0, 0, false),
            (OnFailure(0), 1, 900, true),
            (OnFailure(2), 1, 0, true),
            (OnFailure(2), 1, 1, true),
            (OnFailure(2), 1, 2, false),
            (OnFailure(2), 0, 0, false),
        ] {
            let found = again(policy, &exit(code), restarts);
            assert_eq!(found, expected, "{policy:?} {code} {restarts}");
            let lost = Exit {
                lost: true,
                ..exit(code)
            };
            assert!(again(policy, &lost, restarts), "{policy:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_again_after_a_good_run() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let all: Vec<u128> = (0..12).map(|_| pauses.after(short).as_millis()).collect();
        assert_eq!(all[..4], [100, 200, 400, 800]);
        assert_eq!(all[9..], [51_200, 60_000, 60_000]);
        assert_eq!(pauses.after(STABLE).as_millis(), 100);
        assert_eq!(pauses.after_trouble().as_millis(), 1_000);
    }
}
