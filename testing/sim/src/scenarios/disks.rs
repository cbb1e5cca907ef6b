//! Disks that fail, fill up and forget.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{after, short};
use crate::{Fault, Scenario};

/// One disk after the other is full after some writes: in the middle of what a block takes.
/// Every other time the power fails while it is.
pub fn full(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut scenario = Scenario {
        supervised: true,
        ..short(seed, 4)
    };
    let mut ms = 0;
    for turn in 0..8 {
        ms += rng.random_range(300..1_500);
        let at = rng.random_range(0..4);
        let left = rng.random_range(0..40);
        scenario.faults.push(after(ms, Fault::Full(at, left)));
        ms += rng.random_range(1_000..3_000);
        if turn % 2 == 0 {
            scenario.faults.push(after(ms, Fault::PowerFailure));
        }
        scenario.faults.push(after(ms, Fault::Free(at)));
    }
    scenario
}

pub fn torn(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut scenario = short(seed, 4);
    let mut ms = 500;
    for _ in 0..10 {
        ms += rng.random_range(37..1_900);
        scenario.faults.push(after(ms, Fault::PowerFailure));
    }
    scenario
}

/// For ten seconds; then all is well again. A power failure in the middle.
pub fn sick(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let rate = rng.random_range(1..30);
    let fails = rng.random_range(3_000..9_000);
    Scenario {
        supervised: true,
        faults: vec![
            after(1_000, Fault::Sick(rate)),
            after(fails, Fault::PowerFailure),
            after(11_000, Fault::Sick(0)),
        ],
        ..short(seed, 4)
    }
}
