use types::{AccountId, Digest};

use super::{Call, Event, Invitation, Joined, OPEN_MAX, OPEN_MS_MAX};
use crate::world::{World, id, key, registration};
use crate::{Params, RejectKind, account};

const HOUR_MS: u64 = 3_600_000;

fn invite(token: u8, until_ms: u64) -> crate::Call {
    let token = id(token);
    crate::Call::Host(Call::Invite { token, until_ms })
}

/// Account 1 lets a machine join with token 50, for an hour.
fn invited() -> World {
    let mut world = World::new(Params::dev());
    let until = world.state.time_ms() + HOUR_MS;
    world.ask(1, invite(50, until)).expect("invited");
    world
}

/// Host `who` registers for `owner`, by `token` as `of` has signed with it.
fn join(world: &World, (who, of): (u8, u8), owner: u8, token: u8) -> crate::Call {
    let mut call = registration(who, 2_000);
    if let Call::Register {
        owner: named,
        invitation,
        ..
    } = &mut call
    {
        *named = id(owner);
        let network = &world.state.globals.network;
        *invitation = Some(Invitation::of(&key(token), network, &id(of)));
    }
    crate::Call::Host(call)
}

/// What it says of itself, changed.
fn but(
    mut call: crate::Call,
    change: impl FnOnce(&mut types::Offer, &mut Option<Invitation>),
) -> crate::Call {
    if let crate::Call::Host(Call::Register {
        offer, invitation, ..
    }) = &mut call
    {
        change(offer, invitation);
    }
    call
}

fn kind(result: Result<(), crate::Rejection>) -> Option<RejectKind> {
    result.err().map(|r| r.kind)
}

fn joined(world: &World, host: u8) -> Option<Joined> {
    let host = world.state.hosts.get(&id(host));
    host.and_then(|h| h.joined)
}

fn open(world: &World, owner: u8) -> Vec<AccountId> {
    let owner = id(owner);
    let tokens = world.state.tokens_of(&owner);
    tokens.map(|(token, _)| token).collect()
}

#[test]
fn a_machine_joins_by_a_token_once() {
    let mut world = invited();
    let made = world.state.time_ms();
    assert_eq!(open(&world, 1), [id(50)]);
    let call = join(&world, (10, 10), 1, 50);
    world.ask(10, call.clone()).expect("joined");
    let host = world.state.hosts.get(&id(10)).expect("there");
    let told = Event::HostJoined {
        host: id(10),
        owner: id(1),
        token: id(50),
        made_ms: made,
    };
    assert_eq!(host.owner, id(1));
    assert!(world.events.contains(&crate::Event::Host(told)));
    let by = joined(&world, 10).expect("by a token");
    let now = world.state.time_ms();
    assert_eq!(
        (by.token, by.made_ms, by.joined_ms),
        (id(50), made, now),
        "for those who look later"
    );
    assert!(open(&world, 1).is_empty() && world.state.tokens.is_empty());
    // Nobody else does.
    let second = join(&world, (11, 11), 1, 50);
    assert_eq!(kind(world.ask(11, second)), Some(RejectKind::NotFound));
    assert!(world.state.hosts.get(&id(11)).is_none());
    // Its agent starts anew, with the token and without; an answer was lost and it says it again.
    world.ask(10, call.clone()).expect("again");
    let mut without = registration(10, 2_000);
    if let Call::Register { owner, .. } = &mut without {
        *owner = id(1);
    }
    world
        .ask(10, crate::Call::Host(without))
        .expect("without it");
    assert_eq!(joined(&world, 10), Some(by));
    // Given away, and back: what was used up stays used up.
    world
        .ask(10, crate::Call::Host(registration(10, 2_000)))
        .expect("its own");
    assert_eq!(joined(&world, 10), None);
    assert_eq!(kind(world.ask(10, call)), Some(RejectKind::NotFound));
}

#[test]
fn an_owner_takes_a_token_back() {
    let back = |token| crate::Call::Host(Call::Uninvite { token: id(token) });
    let mut world = invited();
    for (name, who, token) in [("another's", 2, 50), ("never made", 1, 51)] {
        let refused = kind(world.ask(who, back(token)));
        assert_eq!(refused, Some(RejectKind::NotFound), "{name}");
        assert_eq!(open(&world, 1), [id(50)], "{name}");
    }
    world.ask(1, back(50)).expect("taken back");
    let told = Event::HostUninvited {
        owner: id(1),
        token: id(50),
    };
    assert!(world.events.contains(&crate::Event::Host(told)));
    assert!(open(&world, 1).is_empty() && world.state.tokens.is_empty());
    let call = join(&world, (10, 10), 1, 50);
    assert_eq!(kind(world.ask(10, call)), Some(RejectKind::NotFound));
    assert_eq!(
        kind(world.ask(1, back(50))),
        Some(RejectKind::NotFound),
        "twice"
    );
    // What was used up is not taken back: the machine is there.
    let mut world = invited();
    let call = join(&world, (10, 10), 1, 50);
    world.ask(10, call).expect("joined");
    assert_eq!(kind(world.ask(1, back(50))), Some(RejectKind::NotFound));
    assert!(joined(&world, 10).is_some());
}

/// Each way in which a token lets nobody in; it stays as it was.
#[test]
fn a_token_is_for_whom_it_was_made_and_while_it_is_good() {
    for (name, who, owner, token, refused) in [
        ("never made", (10, 10), 1, 51, RejectKind::NotFound),
        ("of another owner", (10, 10), 2, 50, RejectKind::Forbidden),
        (
            "for the host itself",
            (10, 10),
            10,
            50,
            RejectKind::Forbidden,
        ),
        ("signed for another", (10, 11), 1, 50, RejectKind::Signature),
    ] {
        let mut world = invited();
        let call = join(&world, who, owner, token);
        assert_eq!(kind(world.ask(10, call)), Some(refused), "{name}");
        assert!(world.state.hosts.is_empty(), "{name}");
        assert_eq!(open(&world, 1), [id(50)], "{name}");
    }
    let mut world = invited();
    let good = join(&world, (10, 10), 1, 50);
    let elsewhere = Invitation::of(&key(50), &Digest::default(), &id(10));
    let call = but(good.clone(), |_, invitation| *invitation = Some(elsewhere));
    assert_eq!(kind(world.ask(10, call)), Some(RejectKind::Signature));
    // What is wrong with the machine is said, and the token is there for the next try.
    let call = but(good.clone(), |offer, _| offer.capacity.cpu_millis = 0);
    assert_eq!(kind(world.ask(10, call)), Some(RejectKind::Invalid));
    assert_eq!(open(&world, 1), [id(50)]);
    // Good to its last millisecond.
    let before = world.state.clone();
    let until_ms = before.tokens.get(&id(50)).expect("open").until_ms;
    let left = until_ms - before.time_ms();
    let transaction = world.sign(10, good);
    let executed = world.block(left - 1, std::slice::from_ref(&transaction));
    assert_eq!(executed.outcomes[0].rejection, None);
    world.state = before;
    let executed = world.block(left, &[transaction]);
    let refused = executed.outcomes[0].rejection.clone().expect("late");
    assert_eq!(refused.kind, RejectKind::NotFound);
    assert!(refused.next.contains("runrig host invite"), "{refused}");
    assert!(world.state.tokens.is_empty() && world.state.hosts.is_empty());
}

#[test]
fn tokens_are_few_and_end_soon() {
    let mut world = World::new(Params::dev());
    // A block is 100 ms later than the one before.
    for ahead in [0, 100, 100 + OPEN_MS_MAX + 1, 1 << 62] {
        let until = world.state.time_ms() + ahead;
        let refused = world.ask(1, invite(50, until));
        assert_eq!(kind(refused), Some(RejectKind::Invalid), "{ahead}");
        assert!(world.state.tokens.is_empty());
    }
    let most = world.state.time_ms() + 100 + OPEN_MS_MAX;
    world.ask(1, invite(50, most)).expect("24 hours");
    let again = world.ask(2, invite(50, most));
    assert_eq!(kind(again), Some(RejectKind::Conflict), "there is one");
    let soon = world.state.time_ms() + HOUR_MS;
    for token in 51..50 + OPEN_MAX as u8 {
        world.ask(1, invite(token, soon)).expect("room");
    }
    let full = world.ask(1, invite(90, soon));
    assert_eq!(kind(full), Some(RejectKind::Conflict));
    world.ask(2, invite(90, soon)).expect("another's");
    // One that is used makes room, and so do those whose time is over.
    let call = join(&world, (10, 10), 1, 51);
    world.ask(10, call).expect("joined");
    world.ask(1, invite(91, soon)).expect("room again");
    world.block(HOUR_MS, &[]);
    assert_eq!(open(&world, 1), [id(50)]);
    assert!(open(&world, 2).is_empty());
    world.block(OPEN_MS_MAX, &[]);
    assert!(world.state.tokens.is_empty());
}

#[test]
fn a_block_forgets_a_bounded_number_and_past_ones_let_nobody_in() {
    let mut world = World::new(Params::dev());
    let until_ms = world.state.time_ms() + 1_000;
    // As if many accounts had invited.
    for n in 0..1_500u32 {
        let mut token = AccountId::default();
        token.0[..4].copy_from_slice(&n.to_be_bytes());
        let made = super::Token {
            owner: token,
            made_ms: 0,
            until_ms,
        };
        world.state.tokens.insert(token, made);
    }
    let last = super::Token {
        owner: id(1),
        made_ms: 0,
        until_ms,
    };
    // Those before it in the order of ids go first.
    assert!(id(50).0[..4] > [0, 0, 5, 0xdc][..]);
    world.state.tokens.insert(id(50), last);
    world.state.reindex();
    world.state.forget_changed();
    let call = join(&world, (10, 10), 1, 50);
    let transaction = world.sign(10, call);
    let executed = world.block(1_000, &[transaction]);
    let refused = executed.outcomes[0].rejection.as_ref().expect("past");
    assert_eq!(refused.kind, RejectKind::NotFound);
    assert_eq!(world.state.tokens.len(), 501);
    world.block(1, &[]);
    assert!(world.state.tokens.is_empty());
}

/// Pay that is given away harms nobody.
#[test]
fn without_a_token_a_host_names_whom_it_wants_paid() {
    let mut world = World::new(Params::dev());
    let mut call = registration(10, 2_000);
    if let Call::Register { owner, .. } = &mut call {
        *owner = id(1);
    }
    world.ask(10, crate::Call::Host(call)).expect("given away");
    assert_eq!(joined(&world, 10), None);
    // He who owns it by then may still let it join: a host of his changes nothing else.
    let until = world.state.time_ms() + HOUR_MS;
    world.ask(1, invite(50, until)).expect("invited");
    let call = join(&world, (10, 10), 1, 50);
    world.ask(10, call).expect("joined");
    assert!(joined(&world, 10).is_some() && world.state.tokens.is_empty());
}

#[test]
fn a_member_invites_in_his_companys_name() {
    let mut world = World::new(Params::dev());
    let grant = crate::Call::Account(account::Call::Grant {
        to: id(30),
        role: account::Role::Admin,
        limit: None,
        expires_ms: None,
        label: String::new(),
    });
    world.ask(1, grant).expect("granted");
    let until = world.state.time_ms() + HOUR_MS;
    world
        .ask_for(30, &[1], invite(50, until))
        .expect("an admin does");
    assert_eq!(open(&world, 1), [id(50)]);
    assert!(open(&world, 30).is_empty());
}
