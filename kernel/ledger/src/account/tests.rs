use std::collections::BTreeSet;

use proptest::prelude::*;
use types::Amount;

use super::{Account, Call};
use crate::world::{World, id};
use crate::{Params, RejectKind};

fn transfer(to: u8, credits: u64) -> crate::Call {
    crate::Call::Account(Call::Transfer {
        to: id(to),
        amount: Amount::credits(credits),
        memo: String::new(),
    })
}

proptest! {
    /// A set that never forgets takes what the window takes, as far as the window reaches.
    #[test]
    fn each_nonce_is_taken_once(nonces in prop::collection::vec(0u64..300, 1..400)) {
        let mut account = Account::default();
        let mut used = BTreeSet::new();
        for nonce in nonces {
            let highest = used.last().copied().unwrap_or(0u64);
            let within = nonce.abs_diff(highest) <= 64;
            let free = nonce > 0 && within && !used.contains(&nonce);
            prop_assert_eq!(account.check_nonce(nonce).is_ok(), free, "{} of {:?}", nonce, used);
            if free {
                account.use_nonce(nonce);
                used.insert(nonce);
            }
        }
    }
}

#[test]
fn the_ends_of_the_number_line() {
    let account = Account {
        nonce: u64::MAX,
        nonces: u64::MAX,
        ..Account::default()
    };
    for nonce in [0, 1, u64::MAX - 65, u64::MAX - 64, u64::MAX - 1, u64::MAX] {
        assert!(account.check_nonce(nonce).is_err());
    }
    assert!(Account::default().check_nonce(u64::MAX).is_err());
}

#[test]
fn refused_and_why() {
    let mut world = World::new(Params::dev());
    let long = crate::Call::Account(Call::Transfer {
        to: id(2),
        amount: Amount(1),
        memo: "x".repeat(141),
    });
    for (call, kind) in [
        (transfer(1, 5), RejectKind::Invalid),
        (transfer(2, 0), RejectKind::Invalid),
        (transfer(2, 101), RejectKind::Funds),
        (long, RejectKind::Invalid),
    ] {
        assert_eq!(world.ask(1, call).expect_err("refused").kind, kind);
    }
    // The nonces are used up, the money is not.
    assert_eq!(world.state.account(&id(1)).nonce, 4);
    world.ask(1, transfer(2, 100)).expect("all of it");
    assert_eq!(world.state.account(&id(1)).balance(), Amount::ZERO);
}

#[test]
fn the_faucet_gives_once_to_each() {
    let mut world = World::new(Params::dev());
    let ask = |to| crate::Call::Account(Call::Faucet { to: id(to) });
    world.ask(7, ask(8)).expect("given");
    assert_eq!(world.state.account(&id(8)).spendable, Amount::credits(1000));
    let again = world.ask(9, ask(8)).expect_err("once");
    assert_eq!(again.kind, RejectKind::Conflict);
    let mut params = Params::dev();
    params.faucet = Amount::ZERO;
    let mut world = World::new(params);
    assert!(world.ask(7, ask(8)).is_err());
}

#[test]
fn what_has_expired_or_is_meant_for_another_network_is_stale() {
    let mut world = World::new(Params::dev());
    let good = world.sign(1, transfer(2, 1));
    let good = crate::decode(&good).expect("decodes");
    assert_eq!(world.state.admit(&good), Ok(()));
    // It expires at height 10: it may be the tenth block's, not the eleventh's.
    for height in 1..=10 {
        assert_eq!(world.state.admit(&good), Ok(()), "before {height}");
        world.block(10, &[]);
    }
    let expired = world.state.admit(&good).expect_err("expired");
    assert_eq!(expired.kind, RejectKind::Stale);
    let mut elsewhere = good.clone();
    elsewhere.body.network = Default::default();
    elsewhere.body.expires = u64::MAX;
    let refused = world.state.admit(&elsewhere).expect_err("other network");
    assert_eq!(refused.kind, RejectKind::Stale);
}
