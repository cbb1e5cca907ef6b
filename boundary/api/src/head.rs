//! How far who answers has come.

use std::fmt;
use std::str::FromStr;

/// The finalised head of a validator, said with each of its answers, in the header
/// [`Head::HEADER`]: `<height> <time>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    pub height: u64,
    /// Of its block: milliseconds since 1970.
    pub time_ms: u64,
}

impl Head {
    pub const HEADER: &'static str = "runrig-head";
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.height, self.time_ms)
    }
}

impl FromStr for Head {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (height, time) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Self {
            height: height.parse()?,
            time_ms: time.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let head = Head {
            height: 7,
            time_ms: 1_795_294_713_479,
        };
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "7", "7 ", " 7", "7 -1", "x 1", "7 1 2"] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong:?}");
        }
    }
}
