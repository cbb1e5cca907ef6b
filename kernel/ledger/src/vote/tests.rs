use types::{Amount, ProposalId, Resource};

use super::{Call, Change, Phase};
use crate::duty::Seen;
use crate::world::{World, id, key};
use crate::{BlockEnv, Params, RejectKind, State};

const BLOCKS: u64 = 16;
const FIRST: ProposalId = ProposalId(1);

/// Accounts 1, 2 and 3 have done an epoch's duties.
fn world() -> World {
    let mut world = World::new(Params {
        epoch_blocks: BLOCKS,
        vote_blocks: 20,
        vote_delay_blocks: 10,
        ..Params::dev()
    });
    run(&mut world, BLOCKS);
    world
}

fn run(world: &mut World, height: u64) {
    while world.state.height() < height {
        let env = BlockEnv {
            height: world.state.height() + 1,
            time_ms: world.state.time_ms() + 1,
            seen: Seen {
                leader: Some(key(1).public()),
                dealt: false,
                stated: [(key(2).public(), true), (key(3).public(), true)].into(),
            },
            ..BlockEnv::default()
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
