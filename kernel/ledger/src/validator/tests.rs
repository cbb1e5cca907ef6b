use lots::{find_ticket, is_ticket, ticket};
use proptest::prelude::*;
use types::{Amount, Digest, DoubleProposal, Seal};

use super::{Call, Event, Registration, fund_account};
use crate::lots::AHEAD;
use crate::world::{World, id, key};
use crate::{Params, RejectKind, Rejection};

const BLOCKS: u64 = 16;
const BITS: u32 = 4;
const BOND: u64 = 40;

fn world() -> World {
    World::new(Params {
        epoch_blocks: BLOCKS,
        ticket_bits: BITS,
        ticket_epochs: 6,
        bond_epochs: 2,
        validator_bond: Amount::credits(BOND),
        ..Params::dev()
    })
}

/// Blocks up to the first of `epoch`; each epoch's beacon is told.
fn pass_to(world: &mut World, epoch: u64) {
    while world.state.height() < epoch * BLOCKS {
        step(world);
    }
}

fn step(world: &mut World) {
    if world.state.wants_beacon() {
        world.beacon = Some(Digest::of(&world.state.height().to_le_bytes()));
    }
    world.block(1_000, &[]);
}

/// `identity` as entered by `sender`, with a fresh ticket.
fn registration(world: &World, sender: u8, identity: u8) -> Registration {
    let (epoch, beacon) = world.state.ticket_epoch().expect("a beacon");
    let public = key(identity).public();
    Registration {
        key: public,
        address: format!("10.0.0.{identity}:9000"),
        api: "http://10.0.0.1:9100".into(),
        epoch,
        nonce: find_ticket(&beacon, &public, BITS).expect("found"),
        proof: Registration::prove(&world.state.globals.network, &id(sender), &key(identity)),
    }
}

fn register(world: &mut World, sender: u8, identity: u8) -> Result<(), Rejection> {
    let registration = registration(world, sender, identity);
    ask(world, sender, Call::Register(registration))
}

fn ask(world: &mut World, sender: u8, call: Call) -> Result<(), Rejection> {
    world.ask(sender, crate::Call::Validator(call))
}

fn leave(world: &mut World, sender: u8, identity: u8) -> Result<(), Rejection> {
    let key = key(identity).public();
    ask(world, sender, Call::Leave { key, to: id(9) })
}

fn seats(world: &World, epoch: u64, identity: u8) -> bool {
    let committee = world.state.committee(epoch).expect("decided");
    committee.iter().any(|s| s.key == key(identity).public())
}

fn own(world: &World, who: u8) -> Amount {
    world.state.account(&id(who)).spendable
}

#[test]
fn who_enters_is_drawn_and_gets_the_bond_back_after_the_delay() {
    let mut world = world();
    step(&mut world);
    register(&mut world, 1, 30).expect("entered");
    assert_eq!(own(&world, 1), Amount::credits(100 - BOND));
    // Frozen with the next epoch's first block, for the third after it.
    pass_to(&mut world, 2);
    assert!(!seats(&world, AHEAD, 30) && seats(&world, AHEAD + 1, 30));
    pass_to(&mut world, AHEAD + 1);
    leave(&mut world, 1, 30).expect("taken off");
    let now = world.state.epoch();
    let last = world.state.seated_until(&key(30).public(), now);
    let again = leave(&mut world, 1, 30).expect_err("twice");
    assert_eq!(again.kind, RejectKind::Conflict);
    // A lot that was frozen before still falls on it.
    pass_to(&mut world, now + 1);
    // With nobody else to be drawn those who sat would go on for ever.
    register(&mut world, 2, 31).expect("entered");
    let mut returned = None;
    while returned.is_none() {
        step(&mut world);
        returned = world.events.iter().find_map(|event| match event {
            crate::Event::Validator(Event::BondReturned { to, amount, .. }) => Some((*to, *amount)),
            _ => None,
        });
        let seated = world
            .state
            .seated_until(&key(30).public(), world.state.epoch());
        assert!(
            returned.is_none() || seated.is_none(),
            "bonded while it sits"
        );
        assert!(world.state.epoch() < 20, "the bond comes back");
    }
    assert_eq!(returned, Some((id(9), Amount::credits(BOND))));
    assert_eq!(own(&world, 9), Amount::credits(BOND));
    assert!(world.state.epoch() >= last.expect("sat") + 1 + 2);
    assert!(world.state.validators.get(&key(30).public()).is_none());
    // Gone for good: anyone may enter that key again, with its consent.
    register(&mut world, 2, 30).expect("entered anew");
}

#[test]
fn what_is_wrong_with_an_entry_is_said() {
    let mut world = world();
    step(&mut world);
    let good = registration(&world, 1, 30);
    let tries: [(&str, RejectKind, fn(&mut Registration)); 9] = [
        ("address", RejectKind::Invalid, |r| {
            r.address = "here".into()
        }),
        ("address", RejectKind::Invalid, |r| {
            r.address = "0.0.0.0:9".into()
        }),
        ("address", RejectKind::Invalid, |r| {
            r.address = "10.0.0.1:0".into()
        }),
        ("API", RejectKind::Invalid, |r| r.api = "ftp://x".into()),
        ("API", RejectKind::Invalid, |r| {
            r.api = format!("http://{}", "x".repeat(300))
        }),
        ("validator", RejectKind::Signature, |r| {
            r.key = key(31).public()
        }),
        ("ticket", RejectKind::NotFound, |r| r.epoch = 5_000_000),
        ("ticket", RejectKind::NotFound, |r| r.epoch = 2),
        ("ticket", RejectKind::Invalid, |r| r.nonce = u64::MAX),
    ];
    for (what, kind, change) in tries {
        let mut wrong = good.clone();
        change(&mut wrong);
        let refused = ask(&mut world, 1, Call::Register(wrong)).expect_err(what);
        assert_eq!(refused.kind, kind, "{refused}");
        assert!(refused.what.contains(what), "{refused}");
    }
    let (epoch, beacon) = world.state.ticket_epoch().expect("a beacon");
    let dud = (0..).find(|n| !is_ticket(&ticket(&beacon, &good.key, *n), BITS));
    let dud = Registration {
        epoch,
        nonce: dud.expect("most are"),
        ..good.clone()
    };
    let refused = ask(&mut world, 1, Call::Register(dud)).expect_err("a dud");
    assert!(
        refused.what == "ticket" && refused.why.contains("zero bits"),
        "{refused}"
    );
    // Another's consent is no consent.
    let refused = ask(&mut world, 2, Call::Register(good.clone())).expect_err("not 2");
    assert_eq!(refused.kind, RejectKind::Signature);
    let poor = registration(&world, 7, 30);
    let refused = ask(&mut world, 7, Call::Register(poor)).expect_err("has nothing");
    assert_eq!(refused.kind, RejectKind::Funds);
    ask(&mut world, 1, Call::Register(good)).expect("entered");
    // One key once.
    let refused = register(&mut world, 2, 30).expect_err("1 owns it");
    assert_eq!(refused.kind, RejectKind::Forbidden);
    assert_eq!(
        leave(&mut world, 2, 30).map_err(|r| r.kind),
        Err(RejectKind::Forbidden)
    );
    assert_eq!(
        leave(&mut world, 2, 77).map_err(|r| r.kind),
        Err(RejectKind::NotFound)
    );
    assert_eq!(own(&world, 2), Amount::credits(100));
}

#[test]
fn a_ticket_wears_out_and_its_own_key_renews_it() {
    let mut world = world();
    step(&mut world);
    for (owner, identity) in [(1, 30), (1, 31), (2, 32)] {
        register(&mut world, owner, identity).expect("entered");
    }
    let until = |world: &World, n: u8| {
        let known = world.state.validators.get(&key(n).public());
        known.expect("there").until
    };
    let first = until(&world, 30);
    let stale = registration(&world, 1, 31);
    pass_to(&mut world, 4);
    // The identities' own accounts, which have no money.
    register(&mut world, 30, 30).expect("renewed");
    register(&mut world, 32, 32).expect("renewed");
    assert!(until(&world, 30) > first && until(&world, 31) == first);
    // 31 is drawn for no epoch after its ticket's last; two thirds are fresh, so it goes.
    pass_to(&mut world, first + 1);
    assert!(seats(&world, first, 31) && !seats(&world, first + 1, 31));
    assert!(seats(&world, first + 1, 30) && seats(&world, first + 1, 32));
    let refused = ask(&mut world, 1, Call::Register(stale)).expect_err("too old");
    assert_eq!(
        (refused.kind, refused.what.as_str()),
        (RejectKind::Conflict, "ticket")
    );
    // When all wear out at once, those who sit go on.
    let last = until(&world, 30);
    pass_to(&mut world, last + 2);
    assert!(seats(&world, last + 2, 30) && seats(&world, last + 2, 32));
    // What was taken off is not brought back by its own key.
    leave(&mut world, 1, 30).expect("taken off");
    let refused = register(&mut world, 30, 30).expect_err("taken off");
    assert_eq!(refused.kind, RejectKind::Forbidden);
    register(&mut world, 1, 30).expect("its owner thinks again");
    let known = world
        .state
        .validators
        .get(&key(30).public())
        .expect("there");
    assert_eq!(
        (known.leaving.clone(), known.bond),
        (None, Amount::credits(BOND))
    );
}

/// What convicts `identity` of two blocks for view 5 of `epoch`.
fn double(world: &World, identity: u8, epoch: u64) -> DoubleProposal {
    let network = world.state.globals.network;
    let seal = |block: &[u8]| Seal::put(&key(identity), &network, epoch, 5, Digest::of(block));
    DoubleProposal {
        leader: key(identity).public(),
        seals: [seal(b"one"), seal(b"other")],
    }
}

fn accuse(world: &mut World, sender: u8, identity: u8, epoch: u64) -> Result<(), Rejection> {
    let double = double(world, identity, epoch);
    ask(world, sender, Call::Accuse(double))
}

fn fund(world: &World) -> Amount {
    let fund = fund_account(&world.state.globals.network);
    world.state.account(&fund).spendable
}

#[test]
fn a_leader_of_two_blocks_for_one_view_loses_bond_seat_and_key() {
    let mut world = world();
    step(&mut world);
    for (owner, identity) in [(1, 30), (2, 31)] {
        register(&mut world, owner, identity).expect("entered");
    }
    pass_to(&mut world, AHEAD + 2);
    let now = world.state.epoch();
    let supply = world.state.supply();
    accuse(&mut world, 3, 30, now).expect("convicted");
    assert_eq!(world.state.supply().sum(), supply.sum());
    let tenth = Amount(Amount::credits(BOND).0 / 10);
    assert_eq!(own(&world, 3), tenth);
    assert_eq!(fund(&world).0 + tenth.0, Amount::credits(BOND).0);
    assert_eq!(own(&world, 1), Amount::credits(100 - BOND));
    let known = |world: &World| world.state.validators.get(&key(30).public()).cloned();
    let convicted = known(&world).expect("kept").convicted.expect("convicted");
    assert_eq!((convicted.epoch, convicted.view), (now, 5));
    assert_eq!(convicted.lost, Amount::credits(BOND));
    // Once, whoever asks; nobody brings it back; nobody gets a bond that is gone.
    let again = accuse(&mut world, 2, 30, now).expect_err("once");
    assert_eq!(again.kind, RejectKind::Conflict);
    for sender in [1, 30] {
        let refused = register(&mut world, sender, 30).expect_err("out");
        assert_eq!(refused.kind, RejectKind::Forbidden);
        assert!(refused.why.contains("convicted"), "{refused}");
    }
    assert!(leave(&mut world, 1, 30).is_err());
    // It sits where the lot had fallen on it already, then nowhere, and then it is forgotten: by
    // then the proof is too old to convict who enters the key anew.
    let old = double(&world, 30, now);
    // A lot that was frozen before still falls on it.
    pass_to(&mut world, now + 1);
    let last = world.state.seated_until(&key(30).public(), now);
    let last = last.expect("drawn");
    pass_to(&mut world, last + 1);
    assert!(!seats(&world, last + 1, 30) && seats(&world, last + 1, 31));
    while known(&world).is_some() {
        step(&mut world);
        assert!(world.state.epoch() <= last + 4, "it is forgotten");
        let nothing =
            |e: &crate::Event| !matches!(e, crate::Event::Validator(Event::BondReturned { .. }));
        assert!(world.events.iter().all(nothing));
    }
    register(&mut world, 2, 30).expect("entered anew");
    let stale = ask(&mut world, 3, Call::Accuse(old)).expect_err("too old");
    assert_eq!(stale.kind, RejectKind::Stale);
}

#[test]
fn who_is_leaving_loses_the_bond_all_the_same() {
    let mut world = world();
    step(&mut world);
    for (owner, identity) in [(1, 30), (2, 31)] {
        register(&mut world, owner, identity).expect("entered");
    }
    pass_to(&mut world, AHEAD + 2);
    leave(&mut world, 1, 30).expect("leaves");
    let sat = world
        .state
        .seated_until(&key(30).public(), world.state.epoch());
    let sat = sat.expect("sits");
    // Its last epoch is over, its bond is held still.
    pass_to(&mut world, sat + 2);
    accuse(&mut world, 2, 30, sat).expect("convicted");
    pass_to(&mut world, sat + 6);
    assert!(world.state.validators.get(&key(30).public()).is_none());
    assert_eq!(own(&world, 9), Amount::ZERO);
    assert_eq!(fund(&world).0, Amount::credits(BOND).0 / 10 * 9);
}

#[test]
fn what_convicts_nobody_is_refused() {
    let mut world = world();
    step(&mut world);
    register(&mut world, 1, 30).expect("entered");
    pass_to(&mut world, 2);
    let good = double(&world, 30, 2);
    let tries: [(RejectKind, fn(&mut DoubleProposal)); 6] = [
        (RejectKind::NotFound, |d| d.leader = key(31).public()),
        (RejectKind::Invalid, |d| d.seals[1] = d.seals[0]),
        (RejectKind::Invalid, |d| d.seals[1].view = 6),
        (RejectKind::Invalid, |d| {
            d.seals[1].block = Digest::of(b"third")
        }),
        (RejectKind::Stale, |d| d.seals[0].epoch = 3),
        (RejectKind::Stale, |d| d.seals[0].epoch = u64::MAX),
    ];
    for (kind, change) in tries {
        let mut wrong = good;
        change(&mut wrong);
        let refused = ask(&mut world, 2, Call::Accuse(wrong)).expect_err("convicts nobody");
        assert_eq!(refused.kind, kind, "{refused}");
    }
    assert!(!world.state.is_convicted(&key(30).public()));
    assert_eq!(fund(&world), Amount::ZERO);
    pass_to(&mut world, 5);
    let old = ask(&mut world, 2, Call::Accuse(good)).expect_err("too old");
    assert_eq!(old.kind, RejectKind::Stale);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// `World::block` checks after each that no money came or went, and that a state read back
    /// from its bytes goes on alike.
    #[test]
    fn bonds_are_conserved(acts in proptest::collection::vec((0u8..5, 1u8..3, 30u8..35), 1..30)) {
        let mut world = world();
        step(&mut world);
        for (act, owner, identity) in acts {
            // Refusals are as good: they change nothing.
            let _ = match act {
                0 => register(&mut world, owner, identity),
                1 => leave(&mut world, owner, identity),
                2 => {
                    let now = world.state.epoch();
                    accuse(&mut world, owner, identity, now)
                }
                _ => {
                    let next = world.state.epoch() + u64::from(act) - 2;
                    pass_to(&mut world, next);
                    Ok(())
                }
            };
            let bonds: u128 = world.state.validators.iter().map(|(_, v)| v.bond.0).sum();
            prop_assert_eq!(world.state.supply().bonds.0, bonds);
        }
    }
}
