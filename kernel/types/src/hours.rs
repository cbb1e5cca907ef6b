//! Hours of a week, in UTC: when a host takes work.
//!
//! Whole hours, one bit each, Monday 0 h first; at least one is open. As text,
//! `mon-fri 20-8, sat-sun 0-24`: days, then from which hour until which, over midnight where the
//! second is the smaller. Each week has one text ([`Hours`]'s `Display`), and that is read as it.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;
const DAY: usize = 24;
const WEEK: usize = 168;
/// 1970 began on a Thursday.
const EPOCH_HOUR: u64 = 72;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const TEXT_BYTES_MAX: usize = 1_000;

/// At least one hour of a week: bit `i % 8` of byte `i / 8` is hour `i`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, BorshSerialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Hours([u8; WEEK / 8]);

/// From an hour of a day until another, 1 to 24; of the next day where it is not the later one.
pub type Span = (u8, u8);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    #[error("no hour is open: write some, such as mon-fri 20-8")]
    Never,
    #[error("the text is longer than {TEXT_BYTES_MAX} bytes")]
    Long,
    #[error("{0:?} is no day: write mon, tue, wed, thu, fri, sat or sun, or two such as mon-fri")]
    Day(String),
    #[error("{0:?} are no hours: write whole ones such as 8-18, 0-24 or, over midnight, 20-8")]
    Span(String),
    #[error("{0} has no hours: write them behind it, such as {0} 20-8")]
    NoSpan(String),
}

impl Hours {
    /// `bits`: as they are kept; `None` if no hour is open.
    pub fn new(bits: [u8; WEEK / 8]) -> Option<Self> {
        bits.iter().any(|byte| *byte != 0).then_some(Self(bits))
    }

    /// Counted from any Monday 0 h.
    fn bit(&self, hour: u64) -> bool {
        let at = (hour % WEEK as u64) as usize;
        self.0[at / 8] >> (at % 8) & 1 == 1
    }

    /// Is hour 0 to 23 of `day` (0: Monday) open?
    pub fn opens(&self, day: u64, hour: u64) -> bool {
        self.bit(day.saturating_mul(DAY as u64).saturating_add(hour))
    }

    /// At `ms` since 1970.
    pub fn is_open(&self, ms: u64) -> bool {
        self.bit(ms / HOUR_MS + EPOCH_HOUR)
    }

    /// The first moment behind `ms` at which it opens or closes; `None` if it never does.
    pub fn changes_after(&self, ms: u64) -> Option<u64> {
        let (hour, open) = (ms / HOUR_MS, self.is_open(ms));
        (1..WEEK as u64)
            .map(|more| hour.saturating_add(more).saturating_mul(HOUR_MS))
            .find(|at| self.is_open(*at) != open)
    }

    /// Since when it is as it is at `ms`; `None` if it never changes, or did not since 1970.
    pub fn since(&self, ms: u64) -> Option<u64> {
        let (hour, open) = (ms / HOUR_MS, self.is_open(ms));
        (1..WEEK as u64)
            .map_while(|less| hour.checked_sub(less))
            .find(|hour| self.bit(hour + EPOCH_HOUR) != open)
            .map(|hour| (hour + 1) * HOUR_MS)
    }

    /// What begins on each day, Monday first, in order. A time that goes on for more than a day
    /// is cut at midnight.
    pub fn days(&self) -> [Vec<Span>; 7] {
        let whole = |day: usize| (0..DAY).all(|hour| self.opens(day as u64, hour as u64));
        let runs: [Vec<(usize, usize)>; 7] = std::array::from_fn(|day| self.runs(day));
        // Of a day that runs over midnight: from when until when on the next.
        let over = |day: usize| {
            let (from, until) = runs[day].last().copied()?;
            let (head, end) = runs[(day + 1) % 7].first().copied()?;
            (until == DAY && head == 0 && end < from).then_some((from, end))
        };
        std::array::from_fn(|day| {
            let before = over((day + 6) % 7);
            let mut spans = Vec::new();
            for (from, until) in &runs[day] {
                if *from == 0 && before.is_some() {
                    continue;
                }
                let mut until = *until;
                if let Some((_, end)) = over(day).filter(|(start, _)| start == from) {
                    until = end;
                } else if until == DAY && *from > 0 && whole((day + 1) % 7) {
                    // So `mon-fri 20-8, sat 0-24` keeps its Friday: all of Saturday is open anyway.
                    let like = (0..7).filter_map(over).find(|(start, _)| start == from);
                    until = like.map_or(DAY, |(_, end)| end);
                }
                spans.push((*from as u8, until as u8));
            }
            spans
        })
    }

    /// Open hours of a day that follow each other: from, until.
    fn runs(&self, day: usize) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for hour in (0..DAY).filter(|hour| self.opens(day as u64, *hour as u64)) {
            match runs.last_mut() {
                Some((_, until)) if *until == hour => *until += 1,
                _ => runs.push((hour, hour + 1)),
            }
        }
        runs
    }

    /// `Mon 20:00 UTC`: the day and hour of a moment.
    pub fn moment(ms: u64) -> String {
        let minutes = ms / 60_000;
        let hour = (ms / HOUR_MS + EPOCH_HOUR) % WEEK as u64;
        let (day, hour) = (hour as usize / DAY, hour as usize % DAY);
        let mut name = DAYS[day].to_string();
        name[..1].make_ascii_uppercase();
        format!("{name} {hour:02}:{:02} UTC", minutes % 60)
    }

    /// `mon`, from 0.
    pub fn day_name(day: usize) -> &'static str {
        DAYS[day % 7]
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.days();
        let (mut day, mut first) = (0, true);
        while day < days.len() {
            let alike = days[day..].iter().take_while(|d| **d == days[day]).count();
            let last = day + alike - 1;
            if !days[day].is_empty() {
                f.write_str(if first { "" } else { ", " })?;
                f.write_str(DAYS[day])?;
                if last > day {
                    write!(f, "-{}", DAYS[last])?;
                }
                for (from, until) in &days[day] {
                    write!(f, " {from}-{until}")?;
                }
                first = false;
            }
            day = last + 1;
        }
        Ok(())
    }
}

impl fmt::Debug for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hours({self})")
    }
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(HoursError::Long);
        }
        let mut bits = [0u8; WEEK / 8];
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let mut words = entry.split_whitespace();
            let days = words.next().unwrap_or_default();
            let (first, count) = read_days(days)?;
            let spans: Vec<(usize, usize)> = words.map(read_span).collect::<Result<_, _>>()?;
            if spans.is_empty() {
                return Err(HoursError::NoSpan(days.into()));
            }
            for day in first..first + count {
                for (from, length) in &spans {
                    for hour in *from..from + length {
                        let at = (day * DAY + hour) % WEEK;
                        bits[at / 8] |= 1 << (at % 8);
                    }
                }
            }
        }
        Self::new(bits).ok_or(HoursError::Never)
    }
}

/// The first, and how many.
fn read_days(text: &str) -> Result<(usize, usize), HoursError> {
    let wrong = || HoursError::Day(text.into());
    let number = |name: &str| {
        let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
        found.ok_or_else(wrong)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    Ok((first, (last + 7 - first) % 7 + 1))
}

/// From when, and for how many hours.
fn read_span(text: &str) -> Result<(usize, usize), HoursError> {
    let wrong = || HoursError::Span(text.into());
    let number = |part: &str| {
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| part.parse::<usize>().ok()).flatten();
        number.filter(|n| *n <= DAY).ok_or_else(wrong)
    };
    let (from, until) = text.split_once('-').ok_or_else(wrong)?;
    let (from, until) = (number(from)?, number(until)?);
    if from == until || from == DAY {
        return Err(wrong());
    }
    Ok((
        from,
        if until > from {
            until - from
        } else {
            until + DAY - from
        },
    ))
}

impl TryFrom<String> for Hours {
    type Error = HoursError;

    fn try_from(text: String) -> Result<Self, HoursError> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl BorshDeserialize for Hours {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let bits = <[u8; WEEK / 8]>::deserialize_reader(reader)?;
        Self::new(bits).ok_or_else(|| std::io::Error::other(HoursError::Never))
    }
}

#[cfg(test)]
mod tests;
