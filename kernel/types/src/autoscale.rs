//! How many replicas a service shall have, where that follows from what is asked of it.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Between `min` and `max` replicas, as many as carry `target` each.
#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct AutoscaleSpec {
    /// 0: none while nobody asks for anything; the first request starts one.
    pub min: u32,
    /// At least 1, and at least `min`.
    pub max: u32,
    pub target: ScaleTarget,
    /// Fewer replicas must have been enough for so long before there are fewer.
    pub idle_ms: u32,
}

impl AutoscaleSpec {
    pub const IDLE_MS: u32 = 60_000;
    /// What it may be, in milliseconds.
    pub const IDLE_MS_BOUNDS: std::ops::RangeInclusive<u32> = 1_000..=86_400_000;

    /// Why it makes no sense; `None` if it does.
    pub fn fault(&self) -> Option<&'static str> {
        let target = match self.target {
            ScaleTarget::Cpu(percent) => (1..=90).contains(&percent),
            ScaleTarget::Requests(count) | ScaleTarget::RequestsPerSecond(count) => {
                (1..=100_000).contains(&count)
            }
        };
        match () {
            () if self.max == 0 => Some("max is 0: at least one replica must be allowed"),
            () if self.min > self.max => Some("min is above max"),
            () if !target => {
                Some("a target is 1 to 90 percent of the cores, or 1 to 100000 requests")
            }
            () if !Self::IDLE_MS_BOUNDS.contains(&self.idle_ms) => {
                Some("idle is one second to one day")
            }
            () => None,
        }
    }
}

impl fmt::Display for AutoscaleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to {} replicas, {} each",
            self.min, self.max, self.target
        )
    }
}

/// What one replica shall carry.
#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ScaleTarget {
    /// Percent of the cores that it reserves.
    Cpu(u32),
    /// Requests and connections under way at once.
    Requests(u32),
    RequestsPerSecond(u32),
}

/// As many as an ordinary server takes at once.
impl Default for ScaleTarget {
    fn default() -> Self {
        Self::Requests(100)
    }
}

impl fmt::Display for ScaleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(percent) => write!(f, "{percent}% of its cores"),
            Self::Requests(count) => write!(f, "{count} requests at once"),
            Self::RequestsPerSecond(count) => write!(f, "{count} requests a second"),
        }
    }
}
