//! Tell when who answers may have fallen behind.

use std::time::{Duration, Instant};

use api::Head;

/// After so long without a newer head another is asked.
const STILL_MAX: Duration = Duration::from_secs(10);

/// The newest head that was heard of, and when.
#[derive(Debug)]
pub(crate) struct Newest {
    height: u64,
    since: Instant,
}

impl Newest {
    pub fn new(now: Instant) -> Self {
        Self {
            height: 0,
            since: now,
        }
    }

    /// Whether it is time to ask somebody else: by what is heard, nothing has happened for long.
    pub fn stands_still(&mut self, head: Option<Head>, now: Instant) -> bool {
        let Some(head) = head else {
            return false;
        };
        let still = head.height <= self.height;
        if still && now.saturating_duration_since(self.since) < STILL_MAX {
            return false;
        }
        self.since = now;
        self.height = self.height.max(head.height);
        still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_is_asked_each_time_that_nothing_new_was_heard_for_long() {
        let began = Instant::now();
        let mut newest = Newest::new(began);
        let mut hears = |seconds, height| {
            let head = Head { height, time_ms: 0 };
            newest.stands_still(Some(head), began + Duration::from_secs(seconds))
        };
        assert!(!hears(0, 7));
        assert!(!hears(9, 7), "not for long");
        assert!(!hears(12, 8), "news, if late");
        assert!(!hears(21, 8));
        assert!(hears(22, 8), "ten seconds without any");
        assert!(
            !hears(23, 5),
            "the next has come less far: it is heard for as long"
        );
        assert!(hears(32, 6));
        assert!(!hears(33, 20));
        assert!(
            !newest.stands_still(None, began + Duration::from_secs(99)),
            "who says nothing of it"
        );
    }
}
