//! A third of seven validators, as many as are borne, are of bad will.

use consensus::simulation::Channel;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{EIGHT, SHORT, after, at, of_eight, short};
use crate::{Fault, Scenario};

const ALL: [Channel; 8] = [
    Channel::Votes,
    Channel::Certificates,
    Channel::Resolver,
    Channel::Backfill,
    Channel::Blocks,
    Channel::Transactions,
    Channel::Ceremony,
    Channel::Clocks,
];

/// Seven, of whom the two that the seed names are bad.
fn seven(seed: u64, epochs: u64) -> (Scenario, StdRng) {
    let mut rng = StdRng::seed_from_u64(seed);
    let first = rng.random_range(0..7);
    let second = (first + rng.random_range(1..7)) % 7;
    let scenario = Scenario {
        validators: 7,
        bad: vec![first, second],
        live: true,
        ..of_eight(seed, epochs)
    };
    (scenario, rng)
}

/// `fault` for each of the bad, at once.
fn from_the_start(scenario: &mut Scenario, fault: impl Fn(usize) -> Fault) {
    let bad = scenario.bad.iter();
    scenario.faults = bad.map(|bad| after(0, fault(*bad))).collect();
}

pub fn silent(seed: u64) -> Scenario {
    let (mut scenario, _) = seven(seed, 3);
    from_the_start(&mut scenario, |bad| Fault::Withhold(bad, ALL.to_vec()));
    scenario
}

pub fn withheld(seed: u64) -> Scenario {
    let (mut scenario, _) = seven(seed, 4);
    from_the_start(&mut scenario, |bad| {
        Fault::Withhold(bad, vec![Channel::Ceremony])
    });
    scenario
}

/// What they withhold changes by chance, all the time: a vote that would make a beacon, the block
/// that would tell it, a log.
pub fn moody(seed: u64) -> Scenario {
    let (mut scenario, mut rng) = seven(seed, 4);
    for turn in 0..30 {
        let channels = ALL.into_iter().filter(|_| rng.random_range(0..3) == 0);
        let bad = scenario.bad[turn % 2];
        let fault = Fault::Withhold(bad, channels.collect());
        scenario.faults.push(after(turn as u64 * 400, fault));
    }
    scenario
}

pub fn stale(seed: u64) -> Scenario {
    let (mut scenario, _) = seven(seed, 3);
    from_the_start(&mut scenario, |bad| Fault::Repeat(bad, 2));
    scenario
}

pub fn garbled(seed: u64) -> Scenario {
    let (mut scenario, _) = seven(seed, 3);
    from_the_start(&mut scenario, |bad| {
        Fault::Garble(bad, 1 + (seed % 8) as u32)
    });
    scenario
}

/// Each of the bad is there twice, with one key: proposals, votes, dealings and statements
/// contradict each other. Who hears which of them changes.
pub fn twins(seed: u64) -> Scenario {
    let (mut scenario, mut rng) = seven(seed, 3);
    scenario.twins = scenario.bad.clone();
    for turn in 0..16 {
        let bad = scenario.bad[turn % 2];
        let hears = (0..7).filter(|n| *n != bad && rng.random_range(0..2) == 0);
        let fault = Fault::Part(bad, hears.collect());
        scenario.faults.push(after(300 + turn as u64 * 700, fault));
    }
    scenario
}

/// Four of seven sit. Two try for a better place with each beacon that they know.
pub fn grinders(seed: u64) -> Scenario {
    let (mut scenario, mut rng) = seven(seed, 8);
    scenario.seats = 4;
    let bad = std::mem::take(&mut scenario.bad);
    let mut turns = [0, 0];
    for epoch in 1..7 {
        for (who, turn) in bad.iter().zip(&mut turns) {
            *turn += 1;
            let height = epoch * EIGHT + rng.random_range(1..EIGHT - 1);
            scenario.faults.push(at(height, Fault::Grind(*who, *turn)));
        }
    }
    scenario.faults.sort_by_key(|(when, _)| match when {
        crate::When::Height(height) => *height,
        crate::When::After(_) => 0,
    });
    scenario
}

/// One of four, each life heard by some: with the one that more hear there is a quorum, so that
/// one of two blocks for a view may become final.
pub fn accused(seed: u64) -> Scenario {
    let twice = (seed % 4) as usize;
    Scenario {
        bad: vec![twice],
        twins: vec![twice],
        accused: true,
        faults: Vec::new(),
        // The lots of three epochs ahead have fallen when it is convicted.
        ..short(seed, 6)
    }
}

/// The bad two say of each host the contrary of what is; validators die and come back meanwhile.
pub fn witnesses(seed: u64) -> Scenario {
    let (mut scenario, mut rng) = seven(seed, 0);
    let good: Vec<usize> = (0..7).filter(|n| !scenario.bad.contains(n)).collect();
    let dies = good[rng.random_range(0..good.len())];
    let ms = rng.random_range(1_000..8_000);
    scenario.faults = vec![
        after(ms, Fault::Kill(dies)),
        after(ms + 3_000, Fault::Start(dies)),
    ];
    scenario.watched = true;
    scenario.epoch_blocks = 64;
    scenario.epochs = 1;
    scenario
}

/// A newcomer comes, a founder goes: who sits then looks at hosts.
pub fn watched(seed: u64) -> Scenario {
    Scenario {
        newcomers: 1,
        watched: true,
        transfers: 0,
        faults: vec![
            at(3 + seed % 8, Fault::Enter(4)),
            at(3, Fault::Join(4)),
            at(4 * SHORT + seed % SHORT, Fault::Leave((seed % 4) as usize)),
        ],
        ..short(seed, 10)
    }
}
