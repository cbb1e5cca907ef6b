use types::{Amount, Digest, LotteryId};

use super::Origin;
use crate::duty::{Seen, fees_account};
use crate::lots::Founder;
use crate::lottery::{Call, Phase, pot_account};
use crate::world::{World, id, key};
use crate::{BlockEnv, Genesis, Params, State};

const BLOCKS: u64 = 16;
const BOND: u64 = 10;

fn founders(from: u8) -> Vec<Founder> {
    let one = |n: u8| Founder {
        key: key(n).public(),
        address: format!("10.0.0.{n}:9000"),
    };
    (from..from + 4).map(one).collect()
}

fn params() -> Params {
    Params {
        epoch_blocks: BLOCKS,
        fee: Amount::credits(1),
        validator_bond: Amount::credits(BOND),
        ..Params::dev()
    }
}

fn genesis() -> Genesis {
    let bonds = (10..14).map(|n| (id(n), Amount::credits(BOND)));
    Genesis {
        name: "old".into(),
        time_ms: 1_000,
        params: params(),
        balances: bonds
            .chain([(id(1), Amount::credits(100)), (id(2), Amount::credits(50))])
            .collect(),
        faucet: id(200),
        validators: founders(10),
        watchers: Vec::new(),
        origin: None,
    }
}

/// What goes on from `state`.
fn next(state: &State) -> Genesis {
    Genesis {
        time_ms: state.time_ms() + 5,
        validators: founders(20),
        balances: Vec::new(),
        origin: Some(Origin {
            network: state.globals.network,
            height: state.height(),
            block: Digest::of(b"block"),
            state: Digest::of(b"state"),
        }),
        ..genesis()
    }
}

/// Empty blocks up to `height`, each made by validator 10.
fn run(state: State, height: u64) -> State {
    let none: &[Vec<u8>] = &[];
    (state.height()..height).fold(state, |state, at| {
        let env = BlockEnv {
            height: at + 1,
            time_ms: state.time_ms() + 1,
            seen: Seen {
                leader: Some(key(10).public()),
                ..Seen::default()
            },
            ..BlockEnv::default()
        };
        state
            .execute(env, none, &|_| true)
            .expect("conserved")
            .state
    })
}

/// A state at the end of the first epoch: account 2 has entered a lottery of account 1 that closes
/// at height 20.
fn exported() -> State {
    let mut world = World::new(params());
    world.state = State::genesis(&genesis());
    let create = Call::Create {
        name: "fair".into(),
        price: Amount::credits(1),
        stake: Amount::credits(2),
        prizes: vec![1_000_000],
        entries_min: 1,
        entries_max: 50,
        per_account_max: 20,
        close_height: 20,
        draw_height: 40,
    };
    let enter = Call::Enter {
        lottery: LotteryId(1),
        count: 3,
    };
    world.ask(1, crate::Call::Lottery(create)).expect("opened");
    world.ask(2, crate::Call::Lottery(enter)).expect("entered");
    run(world.state, BLOCKS - 1)
}

#[test]
fn all_money_is_where_it_was_and_bonds_and_fees_at_their_owners() {
    let before = exported();
    let genesis = next(&before);
    let after = State::restarted(&genesis, &before.save()).expect("goes on");
    assert_eq!((after.height(), after.time_ms()), (0, genesis.time_ms));
    assert_eq!(after.globals.network, genesis.digest());
    assert_eq!(after.supply().sum(), before.supply().sum());
    assert_eq!(after.supply().bonds, Amount::ZERO);
    for n in [1, 2] {
        assert_eq!(after.account(&id(n)), before.account(&id(n)));
    }
    // Two transactions paid a credit each, and validator 10 has made all blocks since.
    assert_eq!(after.account(&id(10)).spendable, Amount::credits(BOND + 2));
    assert_eq!(after.account(&id(11)).spendable, Amount::credits(BOND));
    assert_eq!(
        after.account(&fees_account(&genesis.digest())).spendable,
        Amount::ZERO
    );
    let pot = |state: &State| {
        let id = pot_account(&state.globals.network, LotteryId(1));
        state.account(&id).spendable
    };
    assert!(!pot(&before).is_zero());
    assert_eq!(pot(&after), pot(&before));
    let seats = after.committee(0).expect("they sit");
    assert!(
        seats
            .iter()
            .all(|s| founders(20).iter().any(|f| f.key == s.key))
    );
    // It is a state like any other, and goes on as one.
    let loaded = State::load(&after.save()).expect("loads");
    assert_eq!(loaded.save(), after.save());
}

#[test]
fn what_was_to_happen_in_so_many_blocks_happens_in_so_many() {
    let before = exported();
    let after = State::restarted(&next(&before), &before.save()).expect("goes on");
    let round = |state: &State| state.lotteries.get(&LotteryId(1)).expect("there").clone();
    assert_eq!(round(&after).terms.close_height, 20 - BLOCKS);
    let open = run(after.clone(), 3);
    assert_eq!(round(&open).phase, Phase::Open);
    let closed = run(open, 4);
    assert_eq!(round(&closed).phase, Phase::Closed);
    // A state whose round is closed keeps what fixes its entries.
    let ended = run(closed, BLOCKS - 1);
    let again = State::restarted(&next(&ended), &ended.save()).expect("goes on");
    assert_eq!(round(&again).root, round(&ended).root);
    assert!(again.entries.iter().eq(ended.entries.iter()));
}

#[test]
fn only_the_end_of_an_epoch_is_gone_on_from() {
    let before = exported();
    let mut genesis = next(&before);
    let early = run(State::genesis(&super::tests::genesis()), 3);
    assert!(State::restarted(&genesis, &early.save()).is_err());
    genesis.params.epoch_blocks = 2 * BLOCKS;
    assert!(State::restarted(&genesis, &before.save()).is_err());
    genesis.params.epoch_blocks = BLOCKS;
    genesis.time_ms = before.time_ms();
    assert!(State::restarted(&genesis, &before.save()).is_err());
    assert!(State::restarted(&next(&before), &before.save()[1..]).is_err());
}
