//! Scenarios by name: what is tried on every seed.

mod byzantine;
mod disks;
mod network;

use std::collections::BTreeSet;
use std::time::Duration;

use consensus::simulation::Channel;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::{Fault, Links, Scenario, When};

/// Blocks of an epoch, where a scenario is about epochs: few, so that many pass.
const SHORT: u64 = 16;

/// Name, what it tries, and how it is made from a seed.
type Named = (&'static str, &'static str, fn(u64) -> Scenario);

pub const SCENARIOS: [Named; 35] = [
    ("calm", "four validators, no faults", |seed| {
        scenario(seed, &[])
    }),
    (
        "chance",
        "kills, cuts and power failures without plan",
        chance,
    ),
    ("epochs", "twenty epochs under one key", epochs),
    (
        "epoch-crash",
        "a validator dies at each step of handing the key on",
        epoch_crash,
    ),
    (
        "epoch-power",
        "all lose power at each step of handing the key on",
        epoch_power,
    ),
    (
        "epoch-fail",
        "too few deal in two epochs: those who had the key go on, and hand it on later",
        epoch_fail,
    ),
    (
        "epoch-cut",
        "the network falls apart around the end of an epoch",
        epoch_cut,
    ),
    (
        "liars",
        "a third of the clocks lie, by hours, by a little, into both directions",
        liars,
    ),
    (
        "drawn",
        "four of seven sit, drawn by lot in each epoch",
        drawn,
    ),
    (
        "follow",
        "of seven four sit, drawn by lot; the others follow, told by all, with a lie in four answers",
        follow,
    ),
    (
        "follow-crash",
        "the same with a newcomer that follows first, deaths at all steps, and power failures",
        follow_crash,
    ),
    (
        "join",
        "a newcomer enters, fetches the state under load, sits, and its vote is needed",
        join,
    ),
    (
        "join-crash",
        "a newcomer dies at each step of coming in",
        join_crash,
    ),
    (
        "replaced",
        "four newcomers come and all founders go",
        replaced,
    ),
    (
        "pruned",
        "all keep four epochs; one is killed, all lose power, a newcomer joins",
        pruned,
    ),
    (
        "late",
        "three newcomers come one by one under a flood and with loss, one founder goes",
        network::late,
    ),
    (
        "one-way",
        "validators that hear nobody, or that nobody hears, and partitions",
        network::one_way,
    ),
    (
        "weather",
        "distances change, messages overtake each other and are lost",
        network::weather,
    ),
    (
        "flood",
        "one account floods the leaders; the transfers of others are not late",
        network::flood,
    ),
    (
        "regions",
        "seven in five regions of the world, as measured, with epochs",
        network::regions,
    ),
    (
        "world",
        "fifty in five regions of the world, as measured",
        network::world,
    ),
    (
        "far",
        "fifty with a round trip of 100 ms between any two",
        network::far,
    ),
    ("silent", "a third says nothing", byzantine::silent),
    (
        "withheld",
        "a third withholds its dealings",
        byzantine::withheld,
    ),
    (
        "moody",
        "a third withholds now this, now that: no beacon is bent or missing",
        byzantine::moody,
    ),
    ("stale", "a third repeats old messages", byzantine::stale),
    (
        "garbled",
        "a third sends messages with a bit turned",
        byzantine::garbled,
    ),
    (
        "twins",
        "a third is there twice: it proposes, votes and deals in contradiction",
        byzantine::twins,
    ),
    (
        "accused",
        "one of four is there twice: caught, it loses its bond, leads no more and is drawn no more",
        byzantine::accused,
    ),
    (
        "witnesses",
        "two of seven witnesses lie: a host that answers is not flagged, one that does not is",
        byzantine::witnesses,
    ),
    (
        "watched",
        "a newcomer takes a founder's seat, and looks at hosts as he did",
        byzantine::watched,
    ),
    (
        "disk-full",
        "disks fill up in the middle of a block, with and without a power failure after it",
        disks::full,
    ),
    (
        "disk-torn",
        "power fails again and again: any half of what was not synced is kept",
        disks::torn,
    ),
    (
        "disk-sick",
        "writes and syncs of the engines' files fail here and there",
        disks::sick,
    ),
    (
        "grinders",
        "two of seven choose their tickets by each beacon they know",
        byzantine::grinders,
    ),
];

pub fn named(name: &str, seed: u64) -> Option<Scenario> {
    let (_, _, make) = SCENARIOS.iter().find(|(known, _, _)| *known == name)?;
    Some(make(seed))
}

pub fn scenario(seed: u64, faults: &[(u64, Fault)]) -> Scenario {
    Scenario {
        seed,
        validators: 4,
        newcomers: 0,
        seats: 100,
        transfers: 200,
        links: Links::NEAR,
        epoch_blocks: 64,
        epochs: 0,
        step_ms: 50,
        bad: Vec::new(),
        twins: Vec::new(),
        supervised: false,
        spoiled: 0,
        live: false,
        accused: false,
        watched: false,
        steady: false,
        following: false,
        transfer_max: None,
        blocks_max: None,
        keep: None,
        faults: faults
            .iter()
            .map(|(ms, fault)| (When::After(Duration::from_millis(*ms)), fault.clone()))
            .collect(),
    }
}

/// As near as otherwise; so many messages of a hundred come through.
pub fn lossy(percent: u8) -> Links {
    Links::Same {
        ms: 20,
        jitter_ms: 5,
        percent,
    }
}

/// Faults without plan; at the end all is well again, and all must be applied.
pub fn chance(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut dead = BTreeSet::new();
    let mut faults = Vec::new();
    let mut ms = 0;
    for _ in 0..12 {
        ms += rng.random_range(50..1_500);
        let at = rng.random_range(0..4);
        let fault = match rng.random_range(0..8) {
            0 => Fault::Cut(vec![at]),
            1 => Fault::Cut(vec![at, (at + 1) % 4]),
            2 | 3 => Fault::Heal,
            4 => {
                dead.clear();
                Fault::PowerFailure
            }
            _ if dead.insert(at) => Fault::Kill(at),
            _ => {
                dead.remove(&at);
                Fault::Start(at)
            }
        };
        faults.push((ms, fault));
    }
    faults.push((ms, Fault::Heal));
    faults.extend(dead.into_iter().map(|at| (ms + 500, Fault::Start(at))));
    let mut scenario = scenario(seed, &faults);
    scenario.links = lossy([100, 95][rng.random_range(0..2)]);
    scenario.epoch_blocks = SHORT;
    scenario
}

fn short(seed: u64, epochs: u64) -> Scenario {
    Scenario {
        transfers: (epochs * SHORT) as u32,
        epoch_blocks: SHORT,
        epochs,
        ..scenario(seed, &[])
    }
}

/// Blocks of an epoch that is long enough for eight to hand the key on: a network of more than six
/// is refused in [`SHORT`] ones.
const EIGHT: u64 = 20;

fn of_eight(seed: u64, epochs: u64) -> Scenario {
    Scenario {
        epoch_blocks: EIGHT,
        ..short(seed, epochs)
    }
}

fn epochs(seed: u64) -> Scenario {
    short(seed, 20)
}

/// The heights at which something of the handing over happens, from the second epoch on: the
/// first dealings, the last ones, the first logs, the middle of them, the last block but one,
/// the last, and the first of the next committee.
fn steps() -> impl Iterator<Item = u64> {
    let within = [1, 7, 8, 11, 14, 15, 16];
    (1..).zip(within).map(|(epoch, at)| epoch * SHORT + at)
}

fn epoch_crash(seed: u64) -> Scenario {
    let faults = steps().flat_map(|height| {
        let at = ((seed + height) % 4) as usize;
        // It comes back within the epoch, or in the next.
        let away = 2 + (seed + height) % 9;
        [
            (When::Height(height), Fault::Kill(at)),
            (When::Height(height + away), Fault::Start(at)),
        ]
    });
    let mut faults: Vec<_> = faults.collect();
    faults.sort_by_key(|(when, _)| match when {
        When::Height(height) => *height,
        When::After(_) => 0,
    });
    Scenario {
        faults,
        ..short(seed, 10)
    }
}

fn epoch_power(seed: u64) -> Scenario {
    Scenario {
        faults: steps()
            .map(|height| (When::Height(height), Fault::PowerFailure))
            .collect(),
        ..short(seed, 9)
    }
}

/// Two of four deal nothing in the second epoch and in the fourth, while power fails somewhere.
fn epoch_fail(seed: u64) -> Scenario {
    let first = (seed % 4) as usize;
    let second = (first + 1 + (seed / 4 % 3) as usize) % 4;
    let mut faults = Vec::new();
    for epoch in [1, 3] {
        let silence =
            |channels: &[Channel]| [first, second].map(|at| Fault::Withhold(at, channels.to_vec()));
        // All is dealt as soon as an epoch begins.
        let begins = epoch * SHORT;
        faults.extend(silence(&[Channel::Ceremony]).map(|fault| at(begins - 2, fault)));
        faults.push(at(begins + seed % (SHORT - 1), Fault::PowerFailure));
        faults.extend(silence(&[]).map(|fault| at(begins + SHORT - 1, fault)));
    }
    Scenario {
        faults,
        spoiled: 2,
        ..short(seed, 7)
    }
}

fn epoch_cut(seed: u64) -> Scenario {
    let lone = (seed % 4) as usize;
    let half = vec![lone, (lone + 1) % 4];
    let ends = |epoch: u64| epoch * SHORT + SHORT - 2 + seed % 3;
    let steps = [
        (ends(1), Fault::Cut(vec![lone])),
        (ends(1) + 9, Fault::Heal),
        (ends(3), Fault::Cut(half)),
    ];
    let mut faults: Vec<_> = steps
        .into_iter()
        .map(|(height, fault)| (When::Height(height), fault))
        .collect();
    // Without a quorum no height comes: time must heal it.
    faults.push((When::After(Duration::from_secs(40)), Fault::Heal));
    Scenario {
        faults,
        ..short(seed, 8)
    }
}

/// Two of seven: as many as are borne.
fn liars(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let first = rng.random_range(0..7);
    let second = (first + rng.random_range(1..7)) % 7;
    let lies = [3_600_000, -3_600_000, 900, -900, 1_100, i64::MAX, i64::MIN];
    let lie = |n: u64, rng: &mut StdRng| {
        let at = [first, second][(n % 2) as usize];
        let off = lies[rng.random_range(0..lies.len())];
        (
            When::After(Duration::from_millis(400 * n)),
            Fault::Lie(at, off),
        )
    };
    Scenario {
        validators: 7,
        faults: (1..=20).map(|n| lie(n, &mut rng)).collect(),
        ..of_eight(seed, 3)
    }
}

fn drawn(seed: u64) -> Scenario {
    Scenario {
        validators: 7,
        seats: 4,
        ..of_eight(seed, 12)
    }
}

fn follow(seed: u64) -> Scenario {
    Scenario {
        // Else all have been submitted before anybody follows.
        steady: true,
        following: true,
        ..drawn(seed)
    }
}

fn follow_crash(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = vec![at(3, Fault::Enter(7)), at(3, Fault::Join(7))];
    let mut height = 2 * EIGHT;
    while height < 12 * EIGHT {
        height += rng.random_range(1..EIGHT / 2);
        let dies = rng.random_range(0..8);
        match rng.random_range(0..5) {
            0 => faults.push(at(height, Fault::PowerFailure)),
            // Nobody may wait for a height that needs who is dead.
            _ => faults.extend([at(height, Fault::Kill(dies)), at(0, Fault::Start(dies))]),
        }
    }
    Scenario {
        newcomers: 1,
        faults,
        ..follow(seed)
    }
}

/// From the epoch in which they enter, those who come sit in the fourth.
const SITS_AFTER: u64 = 4;

fn at(height: u64, fault: Fault) -> (When, Fault) {
    (When::Height(height), fault)
}

fn after(ms: u64, fault: Fault) -> (When, Fault) {
    (When::After(Duration::from_millis(ms)), fault)
}

fn join(seed: u64) -> Scenario {
    let enters = 3 + seed % SHORT;
    let sits = (enters / SHORT + SITS_AFTER + 1) * SHORT;
    let dies = (seed % 4) as usize;
    Scenario {
        newcomers: 1,
        faults: vec![
            at(enters, Fault::Enter(4)),
            at(enters, Fault::Join(4)),
            // Five sit, of whom four must vote.
            at(sits + 2, Fault::Kill(dies)),
            at(sits + 20, Fault::Start(dies)),
        ],
        ..short(seed, 10)
    }
}

fn join_crash(seed: u64) -> Scenario {
    let mut faults = vec![at(3, Fault::Enter(4)), at(3, Fault::Join(4))];
    // At once after the state is there, then on and on until it sits.
    for (turn, height) in (0..).zip([2, 3, 4, 5].map(|epoch| epoch * SHORT + seed % SHORT)) {
        faults.push(at(if turn == 0 { 0 } else { height }, Fault::Kill(4)));
        faults.push(at(height + 1 + seed % 5, Fault::Start(4)));
    }
    Scenario {
        newcomers: 1,
        faults,
        ..short(seed, 10)
    }
}

fn pruned(seed: u64) -> Scenario {
    let dies = (seed % 4) as usize;
    // What it begins with is forgotten by the others and itself when the power fails.
    let enters = 2 * SHORT + seed % SHORT;
    Scenario {
        newcomers: 1,
        keep: Some(4 * SHORT),
        faults: vec![
            at(5 * SHORT + 2, Fault::Kill(dies)),
            at(6 * SHORT + 1, Fault::Start(dies)),
            at(enters, Fault::Enter(4)),
            at(enters, Fault::Join(4)),
            at(12 * SHORT + seed % SHORT, Fault::PowerFailure),
        ],
        ..short(seed, 14)
    }
}

fn replaced(seed: u64) -> Scenario {
    let mut faults: Vec<_> = (4..8).map(|n| at(3 + seed % 8, Fault::Enter(n))).collect();
    faults.extend((4..8).map(|n| at(3, Fault::Join(n))));
    faults.extend((0..4).map(|n| at(4 * SHORT + seed % SHORT, Fault::Leave(n))));
    Scenario {
        newcomers: 4,
        faults,
        ..of_eight(seed, 12)
    }
}
