use proptest::prelude::*;
use types::{Amount, Digest, ProposalId, Resource};

use super::{Call, Change, Phase};
use crate::duty::Seen;
use crate::genesis::check_params;
use crate::validator::fund_account;
use crate::world::{World, id, key};
use crate::{BlockEnv, Params, RejectKind, State, account};

const BLOCKS: u64 = 16;
const FIRST: ProposalId = ProposalId(1);

/// Accounts 1, 2 and 3 have done an epoch's duties.
fn world() -> World {
    founded(&[])
}

fn founded(founders: &[u8]) -> World {
    let params = Params {
        epoch_blocks: BLOCKS,
        vote_blocks: 20,
        vote_delay_blocks: 10,
        ..Params::dev()
    };
    let mut world = World::founded(params, &[], founders);
    run(&mut world, BLOCKS);
    world
}

fn run(world: &mut World, height: u64) {
    while world.state.height() < height {
        let env = BlockEnv {
            height: world.state.height() + 1,
            time_ms: world.state.time_ms() + 1,
            beacon: world
                .state
                .wants_beacon()
                .then(|| Digest::of(&world.state.height().to_le_bytes())),
            seen: Seen {
                leader: Some(key(1).public()),
                dealt: false,
                stated: [(key(2).public(), true), (key(3).public(), true)].into(),
                ..Seen::default()
            },
        };
        let none: &[Vec<u8>] = &[];
        let executed = world.state.execute(env.clone(), none, &|_| false);
        let executed = executed.expect("conserved");
        let again = State::load(&world.state.save()).expect("loads");
        let again = again.execute(env, none, &|_| false).expect("conserved");
        assert_eq!(again.state.save(), executed.state.save());
        world.state = executed.state;
    }
}

fn propose(change: Change) -> crate::Call {
    crate::Call::Vote(Call::Propose { change })
}

fn cast(yes: bool) -> crate::Call {
    crate::Call::Vote(Call::Cast {
        proposal: FIRST,
        yes,
    })
}

fn phase(world: &World) -> Phase {
    world.state.proposals.get(&FIRST).expect("kept").phase
}

const FEE: Change = Change::Fee(Amount(5));

#[test]
fn more_than_half_of_all_members_decide_and_time_passes_before_it_counts() {
    let mut world = world();
    world.ask(1, propose(FEE)).expect("proposed");
    assert_eq!(phase(&world), Phase::Open, "one of three");
    let stranger = world.ask(9, cast(true)).expect_err("no seat");
    assert_eq!(stranger.kind, RejectKind::Forbidden);
    world.ask(2, cast(false)).expect("cast");
    world.ask(2, cast(true)).expect("changed his mind");
    // At height 20 and ten blocks more: the next epoch begins at 32.
    assert_eq!(phase(&world), Phase::Accepted { from: 32 });
    let late = world.ask(3, cast(false)).expect_err("decided");
    assert_eq!(late.kind, RejectKind::Conflict);
    run(&mut world, 31);
    assert_eq!(world.state.params().fee, Amount::ZERO);
    run(&mut world, 32);
    assert_eq!(world.state.params().fee, Amount(5));
    assert_eq!(phase(&world), Phase::Done { since: 32 });
}

#[test]
fn half_against_or_silence_rejects() {
    let mut world = world();
    world.ask(1, propose(FEE)).expect("proposed");
    world.ask(2, cast(false)).expect("cast");
    assert_eq!(phase(&world), Phase::Open);
    world.ask(3, cast(false)).expect("cast");
    assert_eq!(phase(&world), Phase::Rejected);

    let mut world = self::world();
    world.ask(1, propose(FEE)).expect("proposed");
    let closes = world.state.proposals.get(&FIRST).expect("kept").closes;
    run(&mut world, closes - 1);
    assert_eq!(phase(&world), Phase::Open);
    run(&mut world, closes);
    assert_eq!(phase(&world), Phase::Rejected);
}

#[test]
fn credits_are_no_votes_and_seats_are_forgotten() {
    let mut world = world();
    // The faucet's account holds nearly all there is.
    let rich = world.ask(200, propose(FEE)).expect_err("no seat");
    assert_eq!(rich.kind, RejectKind::Forbidden);
    for _ in 0..4 {
        world.ask(1, propose(FEE)).expect("proposed");
    }
    let many = world.ask(1, propose(FEE)).expect_err("the fifth");
    assert_eq!(many.kind, RejectKind::Conflict);
    world.state.globals.height = 70 * BLOCKS;
    let old = world.ask(2, propose(FEE)).expect_err("long ago");
    assert_eq!(old.kind, RejectKind::Forbidden);
    assert!(world.state.account(&id(2)).nonce > 0);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = world();
    for change in [
        Change::Fee(Amount(u128::MAX)),
        Change::Rate {
            resource: Resource::Cpu,
            rate: Amount(u128::MAX),
        },
        Change::BlockMs { idle: 10, busy: 60 },
        Change::BlockMs {
            idle: 60_001,
            busy: 60,
        },
        Change::Version(1),
        Change::Version(3),
        Change::Seats(0),
        Change::Seats(129),
        // Too many for the length of an epoch.
        Change::Seats(7),
        Change::TicketEpochs(3),
        Change::TicketBits(19),
        Change::BondEpochs(0),
        Change::VoteBlocks { open: 0, delay: 1 },
        Change::VoteBlocks { open: 1, delay: 0 },
        Change::WitnessMs(u64::MAX),
        Change::Pay {
            to: id(9),
            amount: Amount::ZERO,
        },
    ] {
        let refused = world.ask(1, propose(change)).expect_err("refused");
        assert_eq!(refused.kind, RejectKind::Invalid, "{change:?}");
    }
}

#[test]
fn a_program_that_is_too_old_knows_it_before() {
    let mut world = world();
    world.ask(1, propose(Change::Version(2))).expect("proposed");
    assert_eq!(world.state.upgrade(), None);
    world.ask(2, cast(true)).expect("cast");
    assert_eq!(world.state.upgrade(), Some((32, 2)));
    assert_eq!(world.state.too_old(31), None);
    let why = world.state.too_old(32).expect("too old");
    assert!(
        why.contains("version 2") && why.contains("height 32"),
        "{why}"
    );
    run(&mut world, 31);
    assert_eq!(world.state.globals.version, 1);
    run(&mut world, 32);
    assert_eq!(world.state.globals.version, 2);
    assert!(world.state.too_old(33).is_some());
}

fn fund(world: &World) -> types::AccountId {
    fund_account(&world.state.globals.network)
}

/// Account 1 gives the fund so much.
fn give(world: &mut World, amount: u128) {
    let call = account::Call::Transfer {
        to: fund(world),
        amount: Amount(amount),
        memo: String::new(),
    };
    world.ask(1, crate::Call::Account(call)).expect("given");
}

/// Proposed by account 1, accepted by 2.
fn accept(world: &mut World, change: Change) -> ProposalId {
    world.ask(1, propose(change)).expect("proposed");
    let proposal = ProposalId(world.state.globals.proposals);
    let yes = Call::Cast {
        proposal,
        yes: true,
    };
    world.ask(2, crate::Call::Vote(yes)).expect("cast");
    proposal
}

#[test]
fn each_change_changes_what_it_names_and_nothing_else() {
    for change in [
        Change::Seats(6),
        Change::WitnessMs(0),
        Change::TicketEpochs(9),
        Change::TicketBits(3),
        Change::BondEpochs(3),
        Change::VoteBlocks { open: 7, delay: 9 },
        Change::BlockMs {
            idle: 700,
            busy: 70,
        },
    ] {
        let mut world = world();
        let mut expected = world.state.params().clone();
        match change {
            Change::Seats(seats) => expected.seats_max = seats,
            Change::WitnessMs(every) => expected.witness_ms = every,
            Change::TicketEpochs(epochs) => expected.ticket_epochs = epochs,
            Change::TicketBits(bits) => expected.ticket_bits = bits,
            Change::BondEpochs(epochs) => expected.bond_epochs = epochs,
            Change::VoteBlocks { open, delay } => {
                (expected.vote_blocks, expected.vote_delay_blocks) = (open, delay);
            }
            Change::BlockMs { idle, busy } => {
                (expected.block_idle_ms, expected.block_busy_ms) = (idle, busy);
            }
            _ => unreachable!("not in the list"),
        }
        accept(&mut world, change);
        run(&mut world, 31);
        assert_ne!(*world.state.params(), expected, "{change:?} waits");
        run(&mut world, 32);
        assert_eq!(*world.state.params(), expected, "{change:?}");
    }
}

#[test]
fn fewer_seats_are_drawn_once_candidates_freeze_by_the_new_number() {
    let mut world = founded(&[1, 2, 3, 4, 5, 6]);
    accept(&mut world, Change::Seats(4));
    // It counts from the first block of epoch 2, which freezes the candidates of epoch 5.
    run(&mut world, 2 * BLOCKS + BLOCKS / 2);
    let seats = |world: &World, epoch| world.state.committee(epoch).map(<[_]>::len);
    assert_eq!((seats(&world, 4), seats(&world, 5)), (Some(6), Some(4)));
    let drawing = |epoch| world.state.drawings.get(&epoch).expect("kept");
    assert_eq!((drawing(4).seats, drawing(5).seats), (6, 4));
    let lineup = drawing(5).lineup.as_ref().expect("fallen");
    assert_eq!(lineup.payroll.len(), 2, "the others do other duties");
    let before = world.state.committee(4).expect("drawn");
    let beacon = drawing(5).beacon.expect("told");
    let checked = |seats| {
        let drawing = drawing(5);
        let rules = lots::Rules::of(seats);
        let (all, root) = (&drawing.candidates, drawing.root());
        lots::check(5, all, &root, before, &beacon, rules, lineup)
    };
    assert_eq!(checked(4), Ok(()));
    let doubt = checked(6).expect_err("another number of seats");
    assert!(doubt.to_string().contains("the number of seats"), "{doubt}");
}

#[test]
fn the_fund_pays_what_was_voted_for_and_no_more() {
    let mut world = world();
    give(&mut world, 50);
    let pay = |amount| Change::Pay {
        to: id(9),
        amount: Amount(amount),
    };
    let much = world.ask(1, propose(pay(51))).expect_err("too much");
    assert_eq!(much.kind, RejectKind::Funds);
    let itself = Change::Pay {
        to: fund(&world),
        amount: Amount(1),
    };
    let itself = world.ask(1, propose(itself)).expect_err("to itself");
    assert_eq!(itself.kind, RejectKind::Invalid);

    let supply = world.state.supply().sum();
    let first = accept(&mut world, pay(30));
    let second = accept(&mut world, pay(30));
    let balance = |world: &World, of| world.state.account(&of).spendable;
    run(&mut world, 31);
    assert_eq!(balance(&world, id(9)), Amount::ZERO);
    run(&mut world, 32);
    assert_eq!(balance(&world, id(9)), Amount(30));
    assert_eq!(balance(&world, fund(&world)), Amount(20));
    let phase = |world: &World, id| world.state.proposals.get(&id).expect("kept").phase;
    assert_eq!(phase(&world, first), Phase::Done { since: 32 });
    assert_eq!(phase(&world, second), Phase::Accepted { from: 48 });
    run(&mut world, 64);
    assert_eq!(phase(&world, second), Phase::Rejected, "not enough is left");
    assert_eq!(world.state.supply().sum(), supply);
    assert_eq!(balance(&world, id(9)), Amount(30), "once");
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0u32..140).prop_map(Change::Seats),
        (0u64..60).prop_map(Change::TicketEpochs),
        (0u32..24).prop_map(Change::TicketBits),
        (0u64..20).prop_map(Change::BondEpochs),
        (0u64..100_000_000).prop_map(Change::WitnessMs),
        (0u64..40, 0u64..40).prop_map(|(open, delay)| Change::VoteBlocks { open, delay }),
        (0u64..70_000, 0u64..2_000).prop_map(|(idle, busy)| Change::BlockMs { idle, busy }),
        any::<u128>().prop_map(|fee| Change::Fee(Amount(fee))),
        (5u8..9, 0u128..60).prop_map(|(to, amount)| Change::Pay {
            to: id(to),
            amount: Amount(amount),
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Blocks are checked for the supply as they are executed.
    #[test]
    fn whatever_is_voted_the_rules_stay_sound_and_the_fund_pays_only_who_was_voted_for(
        steps in prop::collection::vec((any_change(), 0u8..5, any::<bool>(), 0u64..20), 1..12),
    ) {
        let mut world = world();
        give(&mut world, 100);
        for (change, who, yes, blocks) in steps {
            let _ = world.ask(who + 1, propose(change));
            let proposal = ProposalId(world.state.globals.proposals);
            for voter in [2, 3, 9] {
                let _ = world.ask(voter, crate::Call::Vote(Call::Cast { proposal, yes }));
            }
            let height = world.state.height() + blocks;
            run(&mut world, height);
            prop_assert!(check_params(world.state.params()).is_ok());
            let paid: u128 = world
                .state
                .proposals
                .iter()
                .filter(|(_, p)| matches!(p.phase, Phase::Done { .. }))
                .map(|(_, p)| match p.change {
                    Change::Pay { amount, .. } => amount.0,
                    _ => 0,
                })
                .sum();
            let left = world.state.account(&fund(&world)).spendable.0;
            prop_assert_eq!(left + paid, 100);
            let got: u128 = (5..9).map(|n| world.state.account(&id(n)).spendable.0).sum();
            prop_assert_eq!(got, paid);
        }
    }
}
