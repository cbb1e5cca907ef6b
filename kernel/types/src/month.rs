//! Days and months of the calendar, in UTC: what bills and limits are cut by.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 86_400_000;

/// A calendar month in UTC, counted from January 1970.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Month(pub u64);

impl Month {
    /// In which `ms` since 1970 lies.
    pub fn of(ms: u64) -> Self {
        let (year, month, _) = civil((ms / DAY_MS) as i64);
        Self(((year - 1970) * 12 + i64::from(month) - 1) as u64)
    }

    pub fn year(self) -> i64 {
        1970 + (self.0 / 12) as i64
    }

    /// 1 to 12.
    pub fn number(self) -> u32 {
        (self.0 % 12) as u32 + 1
    }

    /// Its first millisecond.
    pub fn from_ms(self) -> u64 {
        let days = days_from_civil(self.year(), self.number().into(), 1);
        (days as u64).saturating_mul(DAY_MS)
    }

    /// The first millisecond of the next.
    pub fn until_ms(self) -> u64 {
        Self(self.0 + 1).from_ms()
    }
}

/// `2026-11`.
impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year(), self.number())
    }
}

/// Days since 1970-01-01 as year, month (1 to 12) and day, in the proleptic Gregorian calendar.
pub fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The other way round. A day beyond the month's last is one of the next month.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_one_and_the_same() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_778, (2026, 11, 21)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date);
            let (year, month, day) = date;
            assert_eq!(days_from_civil(year, month.into(), day.into()), days);
        }
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month.into(), day.into()), days);
        }
    }

    #[test]
    fn a_month_is_from_its_first_millisecond_to_its_last() {
        let february = Month::of(951_782_400_000);
        assert_eq!(february.to_string(), "2000-02");
        let days = (february.until_ms() - february.from_ms()) / DAY_MS;
        assert_eq!(days, 29);
        for n in (0..4_000).chain([120_000]) {
            let month = Month(n);
            assert_eq!(Month::of(month.from_ms()), month);
            assert_eq!(Month::of(month.until_ms() - 1), month);
            assert_eq!(Month::of(month.until_ms()), Month(n + 1));
            assert!((28..=31).contains(&((month.until_ms() - month.from_ms()) / DAY_MS)));
        }
        // No time is out of reach.
        let last = Month::of(u64::MAX);
        assert_eq!(last.until_ms(), u64::MAX);
    }
}
