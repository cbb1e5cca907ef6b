//! What a network does: distance, loss, ways that lead in one direction only, floods.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{SHORT, after, at, of_eight, scenario, short};
use crate::{Fault, Links, Scenario};

/// Fifty, so that it takes minutes: not more than some twenty blocks.
fn fifty(seed: u64, links: Links) -> Scenario {
    Scenario {
        validators: 50,
        transfers: 40,
        links,
        // A quorum must each lead a block of the second half, to deal: it would take 150 at
        // least. The first half, in which they deal, is what there is time for.
        epoch_blocks: 256,
        step_ms: 5,
        live: true,
        ..scenario(seed, &[])
    }
}

pub fn world(seed: u64) -> Scenario {
    fifty(seed, Links::World { percent: 100 })
}

/// A round trip of 100 ms between any two.
pub fn far(seed: u64) -> Scenario {
    let links = Links::Same {
        ms: 50,
        jitter_ms: 3,
        percent: 100,
    };
    fifty(seed, links)
}

/// Five regions, seven validators, and epochs.
pub fn regions(seed: u64) -> Scenario {
    Scenario {
        validators: 7,
        links: Links::World { percent: 99 },
        ..of_eight(seed, 3)
    }
}

/// One or two are deaf, or dumb, or apart; then others; in the end nobody is.
pub fn one_way(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut scenario = short(seed, 4);
    let mut ms = 0;
    for _ in 0..8 {
        ms += rng.random_range(300..2_500);
        let one = rng.random_range(0..4);
        let some = match rng.random_range(0..3) {
            0 => vec![one, (one + 1) % 4],
            _ => vec![one],
        };
        let fault = match rng.random_range(0..5) {
            0 | 1 => Fault::Deafen(some),
            2 | 3 => Fault::Silence(some),
            _ => Fault::Cut(some),
        };
        scenario.faults.push(after(ms, fault));
        if rng.random_range(0..2) == 0 {
            ms += rng.random_range(300..2_500);
            scenario.faults.push(after(ms, Fault::Heal));
        }
    }
    scenario.faults.push(after(ms + 2_000, Fault::Heal));
    scenario
}

/// Ways get longer and shorter, messages overtake each other and up to a third is lost.
pub fn weather(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut scenario = short(seed, 3);
    for turn in 1..=12 {
        let links = Links::Same {
            ms: rng.random_range(1..150),
            jitter_ms: rng.random_range(0..80),
            percent: rng.random_range(67..=100),
        };
        scenario
            .faults
            .push(after(turn * 1_000, Fault::Weather(links)));
    }
    scenario.faults.push(after(13_000, Fault::Heal));
    scenario
}

/// One account submits two thousand transfers a second to each of four, in rising order and with
/// gaps. Others wait no more than a block longer than without it: of 99 in 100, four.
pub fn flood(seed: u64) -> Scenario {
    let faults = [(1_000, Fault::Flood(100)), (8_000, Fault::Flood(0))];
    Scenario {
        live: true,
        transfer_max: Some(Duration::from_secs(5)),
        blocks_max: Some(5),
        ..scenario(seed, &faults)
    }
}

/// Three come one after the other, while an account floods and messages are lost, and take the
/// place of one who goes.
pub fn late(seed: u64) -> Scenario {
    let mut faults = vec![after(500, Fault::Flood(20))];
    for n in 0..3 {
        faults.push(at(3 + n * (5 + seed % 7), Fault::Enter(4 + n as usize)));
    }
    faults.extend((4..7).map(|n| at(4, Fault::Join(n))));
    faults.push(at(
        6 * SHORT + seed % SHORT,
        Fault::Leave((seed % 4) as usize),
    ));
    faults.push(at(8 * SHORT, Fault::Flood(0)));
    Scenario {
        newcomers: 3,
        links: super::lossy(97),
        faults,
        ..of_eight(seed, 11)
    }
}
