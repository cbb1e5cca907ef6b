use proptest::prelude::*;
use types::{Amount, Digest, LotteryId};

use super::{Call, Event, Phase, Round, draw_seed, draw_wins, entries_root, pot_account};
use crate::world::{World, id};
use crate::{BlockEnv, Params, RejectKind, State};

const BLOCKS: u64 = 16;
const FIRST: LotteryId = LotteryId(1);

fn world() -> World {
    World::new(Params {
        epoch_blocks: BLOCKS,
        ..Params::dev()
    })
}

/// Closes at 10, a credit an entry, three prizes: a half, a third, a tenth.
fn terms() -> Call {
    Call::Create {
        name: "fair".into(),
        price: Amount::credits(1),
        stake: Amount::credits(2),
        prizes: vec![500_000, 333_333, 100_000],
        entries_min: 3,
        entries_max: 50,
        per_account_max: 20,
        close_height: 10,
        draw_height: 10,
    }
}

fn changed(change: impl FnOnce(&mut Call)) -> Call {
    let mut call = terms();
    change(&mut call);
    call
}

fn enter(count: u32) -> crate::Call {
    crate::Call::Lottery(Call::Enter {
        lottery: FIRST,
        count,
    })
}

/// Blocks up to `height`; the beacon of each epoch in `told` comes in its third block.
fn run(world: &mut World, height: u64, told: &[u64]) {
    while world.state.height() < height {
        let next = world.state.height() + 1;
        let tells = next % BLOCKS == 3 && told.contains(&(next / BLOCKS));
        let env = BlockEnv {
            height: next,
            time_ms: world.state.time_ms() + 1,
            beacon: tells.then(|| Digest::of(&next.to_le_bytes())),
            ..BlockEnv::default()
        };
        let none: &[Vec<u8>] = &[];
        let executed = world.state.execute(env.clone(), none, &|_| false);
        let executed = executed.expect("conserved");
        let again = State::load(&world.state.save()).expect("loads");
        let again = again.execute(env, none, &|_| false).expect("conserved");
        assert_eq!(again.state.save(), executed.state.save());
        world.state = executed.state;
        world.events.extend(executed.events);
    }
}

fn round(world: &World) -> Round {
    world.state.lotteries.get(&FIRST).expect("there").clone()
}

fn balance(world: &World, who: u8) -> Amount {
    world.state.account(&id(who)).balance()
}

#[test]
fn entered_closed_by_height_and_drawn_with_a_later_beacon() {
    let mut world = world();
    world
        .ask(1, crate::Call::Lottery(terms()))
        .expect("created");
    world.ask(2, enter(20)).expect("entered");
    world.ask(1, enter(3)).expect("the owner too");
    let full = world.ask(2, enter(1)).expect_err("20 of an account");
    assert_eq!(full.kind, RejectKind::Conflict);
    let before = (balance(&world, 1).0, balance(&world, 2).0);
    assert_eq!(before.1, Amount::credits(80).0);

    world.events.clear();
    run(&mut world, 10, &[0]);
    let closed = round(&world);
    assert_eq!((closed.phase, closed.closed_at), (Phase::Closed, Some(10)));
    let late = world.ask(2, enter(1)).expect_err("closed");
    assert_eq!(late.kind, RejectKind::Conflict);
    let early = crate::Call::Lottery(Call::Draw { lottery: FIRST });
    let early = world.ask(2, early).expect_err("no beacon yet");
    assert_eq!(early.kind, RejectKind::Conflict);

    // The first epoch after the close tells none: the next one counts.
    run(&mut world, 2 * BLOCKS + 2, &[0]);
    assert_eq!(round(&world).phase, Phase::Closed);
    world.events.clear();
    run(&mut world, 2 * BLOCKS + 3, &[2]);
    let drawn = round(&world);
    let draw = drawn.draw.clone().expect("drawn");
    assert_eq!(
        (drawn.phase, draw.epoch, draw.told_at),
        (Phase::Drawn, 2, 35)
    );
    assert_eq!(draw.wins.len(), 3);
    let amounts: Vec<u128> = draw.wins.iter().map(|w| w.amount.0).collect();
    let pot = Amount::credits(25).0;
    assert_eq!(amounts, [pot / 2, pot * 333_333 / 1_000_000, pot / 10]);
    assert_eq!(amounts.iter().sum::<u128>() + draw.rest.0, pot);
    let event = crate::Event::Lottery(Event::Drawn {
        lottery: FIRST,
        draw: draw.clone(),
    });
    assert!(world.events.contains(&event));

    // Anyone finds the same from what the blocks told.
    let entries: Vec<_> = (0..23)
        .map(|n| world.state.entries.get(&(FIRST, n)).expect("kept").clone())
        .collect();
    let root = entries_root(FIRST, &entries);
    assert_eq!(drawn.root, Some(root));
    let network = world.state.globals.network;
    let seed = draw_seed(&network, FIRST, &root, &draw.beacon);
    let of = |n: u32| entries[n as usize].account;
    let again = draw_wins(&drawn.terms, drawn.pot(), 23, &seed, of);
    assert_eq!(again, (draw.wins.clone(), draw.rest));

    // All that was paid in has been paid out, the deposit too.
    let pot_left = world.state.account(&pot_account(&network, FIRST)).balance();
    assert_eq!(pot_left, Amount::ZERO);
    let after = balance(&world, 1).0 + balance(&world, 2).0;
    assert_eq!(after, before.0 + before.1 + pot + Amount::credits(1).0);
    let over = crate::Call::Lottery(Call::Draw { lottery: FIRST });
    assert_eq!(
        world.ask(2, over).expect_err("over").kind,
        RejectKind::Conflict
    );
}

#[test]
fn too_few_have_their_price_back() {
    let mut world = world();
    world
        .ask(1, crate::Call::Lottery(terms()))
        .expect("created");
    world.ask(2, enter(2)).expect("entered");
    let close = || crate::Call::Lottery(Call::Close { lottery: FIRST });
    let other = world.ask(2, close()).expect_err("not his");
    assert_eq!(other.kind, RejectKind::Forbidden);
    world.ask(1, close()).expect("closed early");
    assert_eq!(round(&world).phase, Phase::Refunded);
    assert_eq!(balance(&world, 1), Amount::credits(100));
    assert_eq!(balance(&world, 2), Amount::credits(100));
    run(&mut world, 3 * BLOCKS, &[1, 2]);
    assert_eq!(round(&world).draw, None);
}

#[test]
fn what_is_over_is_forgotten_after_a_week() {
    let mut world = world();
    world
        .ask(1, crate::Call::Lottery(terms()))
        .expect("created");
    world.ask(2, enter(1)).expect("entered");
    run(&mut world, 10, &[]);
    assert_eq!(round(&world).phase, Phase::Refunded);
    world.state.globals.height += 600_000;
    world.block(1, &[]);
    assert!(world.state.lotteries.is_empty() && world.state.entries.is_empty());
    // The number is not given out again.
    let again = changed(|c| {
        if let Call::Create {
            close_height,
            draw_height,
            ..
        } = c
        {
            (*close_height, *draw_height) = (700_000, 700_000);
        }
    });
    world.ask(1, crate::Call::Lottery(again)).expect("created");
    assert!(world.state.lotteries.get(&LotteryId(2)).is_some());
}

#[test]
fn refused_and_why() {
    let mut world = world();
    type Change = fn(&mut Call);
    let changes: [Change; 12] = [
        |c| {
            if let Call::Create { name, .. } = c {
                name.clear()
            }
        },
        |c| {
            if let Call::Create { name, .. } = c {
                *name = "x".repeat(65)
            }
        },
        |c| {
            if let Call::Create { price, .. } = c {
                *price = Amount(1)
            }
        },
        |c| {
            if let Call::Create { prizes, .. } = c {
                prizes.clear()
            }
        },
        |c| {
            if let Call::Create { prizes, .. } = c {
                *prizes = vec![600_000, 400_001]
            }
        },
        |c| {
            if let Call::Create { prizes, .. } = c {
                prizes.push(0)
            }
        },
        |c| {
            if let Call::Create { entries_max, .. } = c {
                *entries_max = 10_001
            }
        },
        |c| {
            if let Call::Create { entries_min, .. } = c {
                *entries_min = 51
            }
        },
        |c| {
            if let Call::Create {
                per_account_max, ..
            } = c
            {
                *per_account_max = 0
            }
        },
        |c| {
            if let Call::Create { close_height, .. } = c {
                *close_height = 1
            }
        },
        |c| {
            if let Call::Create { draw_height, .. } = c {
                *draw_height = 9
            }
        },
        |c| {
            if let Call::Create { draw_height, .. } = c {
                *draw_height = u64::MAX
            }
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let refused = world.ask(1, crate::Call::Lottery(changed(change)));
        assert_eq!(
            refused.expect_err("refused").kind,
            RejectKind::Invalid,
            "{at}"
        );
    }
    let rich = changed(|c| {
        if let Call::Create {
            stake,
            close_height,
            draw_height,
            ..
        } = c
        {
            (*stake, *close_height, *draw_height) = (Amount::credits(100), 90, 90);
        }
    });
    let poor = world
        .ask(1, crate::Call::Lottery(rich))
        .expect_err("100 and a deposit");
    assert_eq!(poor.kind, RejectKind::Funds);
    assert_eq!(
        world.ask(2, enter(1)).expect_err("none").kind,
        RejectKind::NotFound
    );

    let far = || {
        changed(|c| {
            if let Call::Create {
                close_height,
                draw_height,
                stake,
                ..
            } = c
            {
                (*close_height, *draw_height, *stake) = (90, 90, Amount::ZERO);
            }
        })
    };
    for _ in 0..16 {
        world.ask(1, crate::Call::Lottery(far())).expect("created");
    }
    let many = world
        .ask(1, crate::Call::Lottery(far()))
        .expect_err("17 of one account");
    assert_eq!(many.kind, RejectKind::Conflict);
    for (count, kind) in [(0, RejectKind::Invalid), (101, RejectKind::Invalid)] {
        assert_eq!(world.ask(2, enter(count)).expect_err("refused").kind, kind);
    }
    assert_eq!(
        world.ask(9, enter(1)).expect_err("poor").kind,
        RejectKind::Funds
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is bought, whenever it closes: each unit that was paid in is paid out.
    #[test]
    fn each_unit_comes_out_again(
        price in 1_000_000u128..10_000_000_000_000,
        stake in 0u128..1_000_000_000_000,
        prizes in prop::collection::vec(1u32..250_000, 1..5),
        least in 1u32..8,
        bought in prop::collection::vec((1u8..=2, 1u32..8), 0..4),
        early in any::<bool>(),
    ) {
        let mut world = world();
        let whole = balance(&world, 1).0 + balance(&world, 2).0;
        let create = Call::Create {
            name: "any".into(),
            price: Amount(price),
            stake: Amount(stake),
            prizes,
            entries_min: least,
            entries_max: 20,
            per_account_max: 15,
            close_height: 12,
            draw_height: 12,
        };
        world.ask(1, crate::Call::Lottery(create)).expect("created");
        for (who, count) in bought {
            let _ = world.ask(who, enter(count));
        }
        let network = world.state.globals.network;
        let pot = world.state.account(&pot_account(&network, FIRST)).balance().0;
        prop_assert_eq!(balance(&world, 1).0 + balance(&world, 2).0 + pot, whole);
        prop_assert_eq!(round(&world).pot().0 + Amount::credits(1).0, pot);
        if early {
            world.ask(1, crate::Call::Lottery(Call::Close { lottery: FIRST })).expect("closed");
        }
        run(&mut world, 2 * BLOCKS, &[1]);
        let over = round(&world);
        let drawn = over.entries >= least;
        prop_assert_eq!(over.phase, if drawn { Phase::Drawn } else { Phase::Refunded });
        prop_assert_eq!(balance(&world, 1).0 + balance(&world, 2).0, whole);
        prop_assert!(world.state.account(&pot_account(&network, FIRST)).balance().is_zero());
    }
}
