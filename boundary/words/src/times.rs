//! Times of the ledger, in UTC.

use types::{Month, civil};

pub const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Year and month (0 to 11) of a time.
pub fn month_of(ms: u64) -> (i64, usize) {
    let month = Month::of(ms);
    (month.year(), month.number() as usize - 1)
}

/// `2026-11-21 11:20:24` UTC.
pub fn utc(ms: u64) -> String {
    let (year, month, day) = civil((ms / 86_400_000) as i64);
    format!("{year:04}-{month:02}-{day:02} {}", clock(ms))
}

/// `21 Nov` UTC.
pub fn day(ms: u64) -> String {
    let (_, month, day) = civil((ms / 86_400_000) as i64);
    format!("{day} {}", MONTHS[month as usize - 1])
}

/// `11:20:24` UTC.
pub fn clock(ms: u64) -> String {
    let s = ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc() {
        assert_eq!(utc(1_795_260_024_092), "2026-11-21 11:20:24");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(month_of(1_795_260_024_092), (2026, 10));
    }
}
