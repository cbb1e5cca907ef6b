//! Money: whole numbers of 10⁻¹² credit.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One credit in the smallest unit.
pub const CREDIT: u128 = 1_000_000_000_000;

/// An amount of money in 10⁻¹² credit. Never negative, never rounded by this type.
///
/// Shown, and read, as a decimal string of credits (`"1.5"`), with no digit lost.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Amount(pub u128);

impl Amount {
    pub const ZERO: Self = Self(0);

    pub const fn credits(n: u64) -> Self {
        Self(n as u128 * CREDIT)
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / CREDIT, self.0 % CREDIT);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{part:012}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an amount of credits: write for example 12 or 0.5 (at most 12 decimals)")]
pub struct AmountError(String);

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let bad = || AmountError(text.chars().take(40).collect());
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || part.len() > 12 || !all_digits(whole) || !all_digits(part) {
            return Err(bad());
        }
        if text.contains('.') && part.is_empty() {
            return Err(bad());
        }
        let whole: u128 = whole.parse().map_err(|_| bad())?;
        let part: u128 = format!("{part:0<12}").parse().map_err(|_| bad())?;
        whole
            .checked_mul(CREDIT)
            .and_then(|w| w.checked_add(part))
            .map(Self)
            .ok_or_else(bad)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_and_read_back() {
        for (units, text) in [
            (0, "0"),
            (1, "0.000000000001"),
            (CREDIT, "1"),
            (CREDIT * 3 / 2, "1.5"),
            (u128::from(u64::MAX) * CREDIT, "18446744073709551615"),
        ] {
            assert_eq!(Amount(units).to_string(), text);
            assert_eq!(text.parse(), Ok(Amount(units)));
        }
    }

    #[test]
    fn refuses_what_is_not_an_amount() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e3",
            "0.0000000000001",
            " 1",
            "1 ",
            "340282366920938463463374607431768211456",
        ] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }
}
