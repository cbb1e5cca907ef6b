//! How long messages take from one validator to another.

use std::time::Duration;

use commonware_p2p::simulated::Link;
use commonware_utils::{Probability, probability};

/// Round trips between 50 machines in five regions, in tenths of a millisecond; line: from.
///
/// Measured between PlanetLab nodes: Zhu et al., "Network Latency Estimation for Personal Devices:
/// A Matrix Completion Approach", IEEE/ACM ToN 25(2), 2017 (github.com/uofa-rzhu3/NetLatency-Data,
/// MIT licence). Five nodes far apart were taken, each with the nine nearest to it. Of medians
/// between regions the least is 65 ms, the largest 302 ms.
const WAN: &str = include_str!("wan.csv");

/// What lies between validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// The same between any two: half a round trip in milliseconds, how much it varies
    /// (standard deviation), and how many messages of a hundred come through.
    Same {
        ms: u64,
        jitter_ms: u64,
        percent: u8,
    },
    /// As measured between five regions of the world, and as much loss as was asked for.
    World { percent: u8 },
}

impl Links {
    pub const NEAR: Self = Self::Same {
        ms: 20,
        jitter_ms: 5,
        percent: 100,
    };

    fn chance(percent: u8) -> Probability {
        Probability::new(u64::from(percent.min(100)), 100).unwrap_or(probability!(1, 1))
    }

    /// The way from one validator to another; each has its number.
    pub fn between(&self, from: usize, to: usize) -> Link {
        match *self {
            Self::Same {
                ms,
                jitter_ms,
                percent,
            } => Link {
                latency: Duration::from_millis(ms),
                jitter: Duration::from_millis(jitter_ms),
                success_rate: Self::chance(percent),
            },
            Self::World { percent } => {
                let tenths = round_trip(from, to);
                let half = Duration::from_micros(tenths * 50);
                Link {
                    latency: half,
                    jitter: half / 20,
                    success_rate: Self::chance(percent),
                }
            }
        }
    }
}

/// In tenths of a millisecond. Validators are dealt to the five regions in turn; there are
/// more of them than machines in none.
fn round_trip(from: usize, to: usize) -> u64 {
    let place = |n: usize| n % 5 * 10 + n / 5 % 10;
    let line = WAN.lines().nth(place(from)).unwrap_or_default();
    let found = line.split(',').nth(place(to));
    found.and_then(|n| n.parse().ok()).unwrap_or_default()
}
