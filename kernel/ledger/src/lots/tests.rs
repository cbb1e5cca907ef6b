use types::{Digest, PublicKey};

use super::{Event, Founder};
use crate::{BlockEnv, Genesis, Params, State};

const BLOCKS: u64 = 16;

fn genesis() -> Genesis {
    Genesis {
        name: "test".into(),
        time_ms: 1,
        params: Params {
            epoch_blocks: BLOCKS,
            ..Params::dev()
        },
        balances: Vec::new(),
        faucet: types::AccountId([0; 20]),
        validators: (1..=4)
            .map(|n| Founder {
                key: PublicKey([n; 32]),
                address: format!("10.0.0.{n}:9000"),
            })
            .collect(),
        watchers: Vec::new(),
        origin: None,
    }
}

fn run(state: &mut State, until: u64, beacon_at: Option<u64>) -> Vec<Event> {
    let mut events = Vec::new();
    while state.height() < until {
        let height = state.height() + 1;
        let told = Some(height % BLOCKS) == beacon_at;
        let env = BlockEnv {
            height,
            time_ms: state.time_ms() + 1,
            beacon: told.then(|| Digest::of(&height.to_le_bytes())),
            ..BlockEnv::default()
        };
        if told {
            assert!(state.wants_beacon(), "height {height}");
        }
        let none: &[Vec<u8>] = &[];
        let executed = state.execute(env, none, &|_| false).expect("conserved");
        let root = executed.candidates;
        let lots = executed.events.into_iter().filter_map(|e| match e {
            crate::Event::Lots(event) => Some(event),
            _ => None,
        });
        let lots: Vec<_> = lots.collect();
        let frozen = lots.iter().find_map(|e| match e {
            Event::CandidatesFrozen { root, .. } => Some(*root),
            Event::Drawn { .. } => None,
        });
        assert_eq!(root, frozen);
        assert_eq!(root.is_some(), height.is_multiple_of(BLOCKS));
        events.extend(lots);
        *state = executed.state;
    }
    events
}

#[test]
fn frozen_then_chance_then_the_lot() {
    let mut state = State::genesis(&genesis());
    assert!((0..3).all(|epoch| state.committee(epoch).is_some_and(|c| c.len() == 4)));
    assert!(state.committee(3).is_none() && state.wants_beacon());
    let first = run(&mut state, BLOCKS / 2, Some(3));
    let [
        Event::Drawn {
            epoch: 3,
            beacon,
            lineup,
        },
    ] = &first[..]
    else {
        panic!("{first:?}");
    };
    assert_eq!(*beacon, Some(Digest::of(&3u64.to_le_bytes())));
    assert_eq!(lineup.committee.len(), 4);
    assert!(!state.wants_beacon(), "it was told");
    let drawing = state.drawings.get(&3).expect("kept");
    let seats = (drawing.seats, state.params().seats_max);
    assert_eq!(seats, (6, 100), "as many as have a turn in half an epoch");

    // Nobody tells the next one: the committee stays.
    let second = run(&mut state, BLOCKS + BLOCKS / 2, None);
    assert!(matches!(
        second[0],
        Event::CandidatesFrozen {
            epoch: 4,
            count: 4,
            ..
        }
    ));
    assert!(matches!(
        second[1],
        Event::Drawn {
            epoch: 4,
            beacon: None,
            ..
        }
    ));
    assert_eq!(state.committee(4), state.committee(3));
    assert!(!state.wants_beacon(), "too late");

    // A node that reads its state from disk goes on alike; what is long past is forgotten.
    let mut again = State::load(&state.save()).expect("loads");
    run(&mut state, 70 * BLOCKS, Some(5));
    run(&mut again, 70 * BLOCKS, Some(5));
    assert_eq!(state.save(), again.save());
    assert!(state.committee(5).is_none() && state.committee(72).is_some());
}
