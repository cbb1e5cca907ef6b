use std::collections::BTreeSet;
use std::time::Duration;

use commonware_p2p::simulated::Link;
use commonware_utils::{Probability, probability};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::{Fault, Report, Scenario, run};

fn scenario(seed: u64, faults: &[(u64, Fault)]) -> Scenario {
    Scenario {
        seed,
        transfers: 200,
        link: link(probability!(1, 1)),
        epoch_blocks: 64,
        epochs: 0,
        faults: faults
            .iter()
            .map(|(ms, fault)| (Duration::from_millis(*ms), fault.clone()))
            .collect(),
    }
}

fn link(success_rate: Probability) -> Link {
    Link {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        success_rate,
    }
}

fn played(scenario: &Scenario) -> Report {
    let report = run(scenario).expect("runs");
    println!("{report:?}");
    assert!(report.certificates > 0);
    report
}

#[test]
fn same_seed_same_digest() {
    let faults = [
        (2_000, Fault::Kill(1)),
        (4_000, Fault::Cut(vec![0])),
        (5_000, Fault::Heal),
        (6_000, Fault::Start(1)),
        (8_000, Fault::PowerFailure),
    ];
    let first = played(&scenario(1, &faults));
    assert_eq!(first, played(&scenario(1, &faults)));
    assert_ne!(first.digest, played(&scenario(2, &faults)).digest);
}

#[test]
fn each_validator_dies_and_comes_back() {
    let faults: Vec<_> = (0..4)
        .flat_map(|at| {
            let ms = 1_500 + at as u64 * 2_500;
            [(ms, Fault::Kill(at)), (ms + 2_000, Fault::Start(at))]
        })
        .collect();
    played(&scenario(3, &faults));
}

#[test]
fn no_quorum_no_progress_no_harm() {
    let faults = [
        (2_000, Fault::Cut(vec![0, 1])),
        (5_000, Fault::Heal),
        (6_000, Fault::Kill(2)),
        (6_050, Fault::Kill(3)),
        (8_000, Fault::Start(3)),
        (9_000, Fault::Start(2)),
    ];
    let report = played(&scenario(4, &faults));
    assert!(report.empty_views > 0);
}

#[test]
fn power_fails_again_and_again() {
    let faults: Vec<_> = (1..=4).map(|n| (n * 1_730, Fault::PowerFailure)).collect();
    played(&scenario(5, &faults));
}

#[test]
fn one_message_in_ten_is_lost() {
    let mut lossy = scenario(6, &[(3_000, Fault::Kill(3)), (6_000, Fault::Start(3))]);
    lossy.link = link(probability!(9, 10));
    played(&lossy);
}

/// Faults without plan; at the end all is well again, and all must be applied.
fn chance(seed: u64) -> Scenario {
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
    scenario.link = link([probability!(1, 1), probability!(95, 100)][rng.random_range(0..2)]);
    scenario
}

/// More of them: `SEEDS=1000..1100 cargo test -p sim chance`.
#[test]
fn chance_finds_nothing() {
    let range = std::env::var("SEEDS").unwrap_or_else(|_| "10..13".into());
    let (from, to) = range.split_once("..").expect("SEEDS=FROM..TO");
    for seed in from.parse().expect("a seed")..to.parse().expect("a seed") {
        let scenario = chance(seed);
        println!("seed {seed}: {:?}", scenario.faults);
        played(&scenario);
    }
}
