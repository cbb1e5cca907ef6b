use lots::{find_ticket, is_ticket, ticket};
use proptest::prelude::*;
use types::{Amount, Digest};

use super::{Call, Event, Registration};
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// `World::block` checks after each that no money came or went, and that a state read back
    /// from its bytes goes on alike.
    #[test]
    fn bonds_are_conserved(acts in proptest::collection::vec((0u8..4, 1u8..3, 30u8..35), 1..30)) {
        let mut world = world();
        step(&mut world);
        for (act, owner, identity) in acts {
            // Refusals are as good: they change nothing.
            let _ = match act {
                0 => register(&mut world, owner, identity),
                1 => leave(&mut world, owner, identity),
                _ => {
                    let next = world.state.epoch() + u64::from(act) - 1;
                    pass_to(&mut world, next);
                    Ok(())
                }
            };
            let bonds: u128 = world.state.validators.iter().map(|(_, v)| v.bond.0).sum();
            prop_assert_eq!(world.state.supply().bonds.0, bonds);
        }
    }
}
