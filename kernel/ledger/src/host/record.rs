//! What a host's outcomes come to: hours in which it served others, times it fell silent on
//! them, reports that came late, times witnesses got no answer. Older ones count less and less.
//!
//! - Only what was settled, and only what others paid for: nobody gains or loses a name by
//!   what runs on his own host.
//! - An hour counts once, however much ran in it: many small deployments do not make a name
//!   faster than one.
//! - All is counted in milliseconds, so that it does not matter into how many reports a time
//!   is cut.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;
/// Each hour one part in so many is forgotten: half in a week.
const FORGOTTEN: u64 = 243;
/// After so many hours nothing is left that counts.
const HOURS_MAX: u64 = 4_096;
/// A silence and a flag count as much as an hour served, a late report as a quarter of one.
const SILENCE_MS: u64 = HOUR_MS;
const FLAG_MS: u64 = HOUR_MS;
const LATE_MS: u64 = HOUR_MS / 4;

#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Record {
    /// In which it served others.
    pub served_ms: u64,
    /// An hour for each silence.
    pub silent_ms: u64,
    /// A quarter of an hour for each late report.
    pub late_ms: u64,
    /// An hour for each time that a quorum of witnesses got no answer (RFD 21).
    pub flagged_ms: u64,
    /// Hours since 1970 up to which is forgotten.
    hour: u64,
    /// Up to when served time is counted.
    until_ms: u64,
}

impl Record {
    /// As it is at `now_ms`.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Self {
        let mut record = self.clone();
        let hour = now_ms / HOUR_MS;
        let hours = hour.saturating_sub(record.hour);
        record.hour = record.hour.max(hour);
        for part in [
            &mut record.served_ms,
            &mut record.silent_ms,
            &mut record.late_ms,
            &mut record.flagged_ms,
        ] {
            if hours > HOURS_MAX {
                *part = 0;
            }
            for _ in 0..hours.min(HOURS_MAX) {
                if *part == 0 {
                    break;
                }
                *part -= part.div_ceil(FORGOTTEN);
            }
        }
        record
    }

    /// A lease of somebody else's ran there from `from_ms` to `until_ms`.
    pub(crate) fn served(&mut self, from_ms: u64, until_ms: u64, now_ms: u64) {
        *self = self.at(now_ms);
        let until_ms = until_ms.min(now_ms);
        let from_ms = from_ms.max(self.until_ms);
        let more = until_ms.saturating_sub(from_ms);
        self.served_ms = self.served_ms.saturating_add(more);
        self.until_ms = self.until_ms.max(until_ms);
    }

    /// It fell silent while leases of others were on it.
    pub(crate) fn fell_silent(&mut self, now_ms: u64) {
        *self = self.at(now_ms);
        self.silent_ms = self.silent_ms.saturating_add(SILENCE_MS);
    }

    /// It reported late what others used.
    pub(crate) fn was_late(&mut self, now_ms: u64) {
        *self = self.at(now_ms);
        self.late_ms = self.late_ms.saturating_add(LATE_MS);
    }

    /// Witnesses got no answer from what it said was running.
    pub(crate) fn was_flagged(&mut self, now_ms: u64) {
        *self = self.at(now_ms);
        self.flagged_ms = self.flagged_ms.saturating_add(FLAG_MS);
    }

    pub fn silences_milli(&self) -> u64 {
        self.silent_ms.saturating_mul(1_000) / SILENCE_MS
    }

    pub fn late_milli(&self) -> u64 {
        self.late_ms.saturating_mul(1_000) / LATE_MS
    }

    pub fn flags_milli(&self) -> u64 {
        self.flagged_ms.saturating_mul(1_000) / FLAG_MS
    }

    /// What speaks against it.
    pub fn bad_ms(&self) -> u64 {
        let silent = self.silent_ms.saturating_add(self.late_ms);
        silent.saturating_add(self.flagged_ms)
    }

    /// At least so large a share of hours is served well, in 1/4096, as far as is known:
    /// see [`scheduler::reliability`].
    pub fn reliability(&self) -> i64 {
        scheduler::reliability(self.served_ms, self.bad_ms())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_is_forgotten_in_a_week_and_all_in_the_end() {
        let mut record = Record::default();
        record.served(0, 1_000 * HOUR_MS, 1_000 * HOUR_MS);
        record.fell_silent(1_000 * HOUR_MS);
        let later = record.at(1_168 * HOUR_MS);
        let share = later.served_ms * 1_000 / record.served_ms;
        assert!((495..505).contains(&share), "{share}");
        assert_eq!(later.silent_ms * 1_000 / record.silent_ms, share);
        let end = record.at(u64::MAX);
        assert_eq!((end.served_ms, end.bad_ms()), (0, 0));
    }

    #[test]
    fn more_good_hours_never_round_to_less() {
        let mut record = Record {
            served_ms: 2_887_020_001,
            silent_ms: 6 * HOUR_MS,
            late_ms: LATE_MS,
            ..Record::default()
        };
        for _ in 0..1_000 {
            let before = record.reliability();
            record.served_ms += HOUR_MS / 7;
            assert!(record.reliability() >= before, "{record:?}");
        }
    }

    proptest! {
        /// However a time is cut into reports, and however often it is looked at.
        #[test]
        fn any_partition_makes_the_same_record(
            cuts in prop::collection::vec(0u64..3 * HOUR_MS, 0..30),
            looks in prop::collection::vec(0u64..3 * HOUR_MS, 0..10),
        ) {
            let end = 3 * HOUR_MS;
            let mut whole = Record::default();
            let mut cut = Record::default();
            let mut times: Vec<(u64, bool)> = cuts.iter().map(|c| (*c, true)).collect();
            times.extend(looks.iter().map(|l| (*l, false)));
            // Each hour ends with a report of both, so that both forget the same.
            times.extend((1..=3).map(|hour| (hour * HOUR_MS - 1, true)));
            times.sort_unstable();
            let mut from = 0;
            for (at, reports) in times {
                match reports {
                    true => cut.served(from, at, at),
                    false => cut = cut.at(at),
                }
                from = if reports { at } else { from };
            }
            let mut from = 0;
            for hour in 1..=3 {
                let at = hour * HOUR_MS - 1;
                whole.served(from, at, at);
                from = at;
            }
            prop_assert_eq!(whole.at(end), cut.at(end));
        }

        /// No time counts twice, and none that has not been.
        #[test]
        fn an_hour_counts_once(spans in prop::collection::vec((0u64..100_000, 0u64..100_000), 0..40)) {
            let mut record = Record::default();
            for (from, length) in spans {
                record.served(from, from + length, 50_000);
            }
            prop_assert!(record.served_ms <= 50_000);
        }

        #[test]
        fn outcomes_move_the_bound_the_right_way(
            served in 0u64..1_000 * HOUR_MS, silences in 0u64..50,
        ) {
            let mut record = Record { served_ms: served, silent_ms: silences * HOUR_MS, ..Record::default() };
            let before = record.reliability();
            record.was_late(0);
            let late = record.reliability();
            prop_assert!(late <= before + 1, "{} after {}", late, before);
            record.fell_silent(0);
            prop_assert!(record.reliability() <= late + 1);
            let worse = record.reliability();
            record.served_ms += 10 * HOUR_MS;
            prop_assert!(record.reliability() + 1 >= worse);
        }
    }
}
