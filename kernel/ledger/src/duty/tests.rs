use proptest::prelude::*;
use types::Amount;

use super::{Done, Seen};
use crate::world::{World, id, key};
use crate::{BlockEnv, Call, Params, RejectKind, account};

#[test]
fn what_blocks_show_is_counted_by_epoch() {
    let mut world = World::new(Params {
        epoch_blocks: 16,
        ..Params::dev()
    });
    let (a, b) = (key(1).public(), key(2).public());
    for height in 1..=16u64 {
        let env = BlockEnv {
            height,
            time_ms: world.state.time_ms() + 1,
            seen: Seen {
                leader: Some(if height % 4 == 0 { b } else { a }),
                dealt: height == 9,
                stated: [(a, true), (b, height != 3)].into(),
                ..Seen::default()
            },
            ..BlockEnv::default()
        };
        let none: &[Vec<u8>] = &[];
        let executed = world.state.execute(env, none, &|_| false);
        world.state = executed.expect("conserved").state;
    }
    let first = &world.state.duties.get(&0).expect("kept").by;
    let done = |led, stated, off, dealt| Done {
        led,
        stated,
        off,
        dealt,
        ..Done::default()
    };
    assert_eq!(first.get(&a), Some(&done(12, 15, 0, true)));
    assert_eq!(first.get(&b), Some(&done(3, 14, 1, false)));
    let second = &world.state.duties.get(&1).expect("begun").by;
    assert_eq!(second.get(&b), Some(&done(1, 1, 0, false)));
}

fn paying(fee: u128) -> World {
    World::new(Params {
        epoch_blocks: 16,
        fee: Amount(fee),
        ..Params::dev()
    })
}

fn pay(world: &mut World, from: u8, to: u8) -> Vec<u8> {
    world.sign(
        from,
        Call::Account(account::Call::Transfer {
            to: id(to),
            amount: Amount(1_000),
            memo: String::new(),
        }),
    )
}

/// A block that shows what `seen` says.
fn block(world: &mut World, seen: Seen, transactions: &[Vec<u8>]) -> crate::Executed {
    let env = BlockEnv {
        height: world.state.height() + 1,
        time_ms: world.state.time_ms() + 1,
        seen,
        ..BlockEnv::default()
    };
    let executed = world.state.execute(env, transactions, &|_| false);
    let executed = executed.expect("conserved");
    world.state = executed.state.clone();
    executed
}

#[test]
fn each_pays_its_fee_and_what_serves_the_network_is_free() {
    let mut world = paying(7);
    let before = world.state.account(&id(1)).balance().0;
    let good = pay(&mut world, 1, 2);
    // Refused, for it moves nothing; but it took its place.
    let refused = pay(&mut world, 1, 1);
    let executed = block(&mut world, Seen::default(), &[good, refused]);
    let fees: Vec<u128> = executed.outcomes.iter().map(|o| o.fee.0).collect();
    assert_eq!(fees, [7, 7]);
    assert!(executed.outcomes[1].rejection.is_some());
    assert_eq!(world.state.account(&id(1)).balance().0, before - 1_000 - 14);
    assert_eq!(world.state.duties.get(&0).expect("begun").fees, Amount(14));

    // Who has nothing may take the gift and speak as a host, and nothing else.
    let poor = pay(&mut world, 9, 2);
    let decoded = crate::decode(&poor).expect("decodes");
    let admitted = world.state.admit(&decoded).expect_err("cannot pay");
    assert_eq!(admitted.kind, RejectKind::Funds);
    let executed = block(&mut world, Seen::default(), &[poor]);
    assert_eq!(executed.outcomes[0].fee, Amount::ZERO);
    let why = executed.outcomes[0].rejection.clone().expect("refused");
    assert_eq!(why.kind, RejectKind::Funds);
    let gift = Call::Account(account::Call::Faucet { to: id(9) });
    let gift = world.sign(9, gift);
    let executed = block(&mut world, Seen::default(), &[gift]);
    assert_eq!(executed.outcomes[0].rejection, None);
    assert_eq!(executed.outcomes[0].fee, Amount::ZERO);
}

#[test]
fn a_tip_is_paid_beside_the_fee_and_only_out_of_what_there_is() {
    let mut world = paying(7);
    let before = world.state.account(&id(1)).balance().0;
    world.tip = Amount(5);
    let tipped = pay(&mut world, 1, 2);
    let executed = block(&mut world, Seen::default(), &[tipped]);
    assert_eq!(executed.outcomes[0].fee, Amount(12));
    assert_eq!(world.state.account(&id(1)).balance().0, before - 1_000 - 12);
    assert_eq!(world.state.duties.get(&0).expect("begun").fees, Amount(12));

    for tip in [world.state.account(&id(1)).spendable, Amount(u128::MAX)] {
        world.tip = tip;
        let dear = pay(&mut world, 1, 2);
        let decoded = crate::decode(&dear).expect("decodes");
        let refused = world.state.admit(&decoded).expect_err("more than there is");
        assert_eq!(refused.kind, RejectKind::Funds);
        let executed = block(&mut world, Seen::default(), &[dear]);
        assert_eq!(executed.outcomes[0].fee, Amount::ZERO);
        assert!(executed.outcomes[0].rejection.is_some());
    }
}

#[test]
fn who_brings_what_pays_its_fee_is_paid_once_a_block() {
    let mut world = paying(1_000);
    let (a, b) = (key(50).public(), key(51).public());
    let owner = key(1).public();
    let good = pay(&mut world, 1, 2);
    // Refused, for it moves nothing.
    let refused = pay(&mut world, 1, 1);
    let free = world.sign(9, Call::Account(account::Call::Faucet { to: id(9) }));
    let seen = Seen {
        screened: [
            (a, 0),
            (b, 1),
            (key(52).public(), 2),
            (key(53).public(), 9),
            (owner, 0),
        ]
        .into(),
        ..Seen::default()
    };
    block(&mut world, seen, &[good, refused, free]);
    let by = &world.state.duties.get(&0).expect("begun").by;
    assert_eq!(by.get(&a).map(|done| done.screened), Some(1));
    // Refused, free, not there, its own.
    for other in [b, key(52).public(), key(53).public(), owner] {
        assert_eq!(by.get(&other), None);
    }
    while world.state.height() < 16 {
        block(&mut world, Seen::default(), &[]);
    }
    assert_eq!(world.state.account(&id(50)).balance(), Amount(2_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whoever pays and whoever works: rewards are fees and tips, to the unit, epoch by epoch.
    #[test]
    fn rewards_are_fees(
        fee in 1u128..1_000_000_007,
        tip in 0u128..1_000_000_007,
        blocks in prop::collection::vec((0usize..4, 0u8..5, 0u8..8), 48..70),
    ) {
        let mut world = paying(fee);
        world.tip = Amount(tip);
        let fees_at = super::fees_account(&world.state.globals.network);
        let workers: Vec<_> = (50..54).map(|n| key(n).public()).collect();
        let (mut paid, mut earned) = (0u128, 0u128);
        for (leader, working, transfers) in blocks {
            let working = usize::from(working);
            let seen = Seen {
                leader: (working > 0).then(|| workers[leader]),
                dealt: transfers == 3,
                stated: workers[..working.min(4)].iter().map(|k| (*k, leader != 1)).collect(),
                screened: (0..u32::from(transfers)).map(|at| (workers[at as usize % 4], at)).take(working).collect(),
            };
            let payments: Vec<_> = (0..transfers).map(|_| pay(&mut world, 1, 2)).collect();
            let executed = block(&mut world, seen, &payments);
            paid += executed.outcomes.iter().map(|o| o.fee.0).sum::<u128>();
            for event in &executed.events {
                if let crate::Event::Duty(super::Event::Paid { epoch, fees }) = event {
                    let duties = world.state.duties.get(epoch).expect("kept");
                    let whole: u128 = duties.by.values().map(|d| d.earned.0).sum();
                    prop_assert_eq!(whole, fees.0);
                    earned += whole;
                }
            }
            prop_assert_eq!(world.state.account(&fees_at).spendable.0, paid - earned);
        }
        let held: u128 = (50..54).map(|n| world.state.account(&id(n)).balance().0).sum();
        prop_assert_eq!(held, earned);
    }
}
