use types::{AccountId, Amount};

use super::{Call, Role, SpendingLimit};
use crate::deployment::Call as Deploy;
use crate::world::{World, deploy, id, project, service};
use crate::{Params, RejectKind};

fn pay(to: u8, credits: u64) -> crate::Call {
    crate::Call::Account(Call::Transfer {
        to: id(to),
        amount: Amount::credits(credits),
        memo: String::new(),
    })
}

fn grant(to: u8, role: Role) -> crate::Call {
    limited(to, role, None, None)
}

fn limited(to: u8, role: Role, limit: Option<(u64, u64)>, expires_ms: Option<u64>) -> crate::Call {
    crate::Call::Account(Call::Grant {
        to: id(to),
        role,
        limit: limit.map(|(credits, every_ms)| SpendingLimit {
            amount: Amount::credits(credits),
            every_ms,
        }),
        expires_ms,
        label: "laptop".into(),
    })
}

fn revoke(from: u8) -> crate::Call {
    crate::Call::Account(Call::Revoke { from: id(from) })
}

fn remove(deployment: u64) -> crate::Call {
    crate::Call::Deployment(Deploy::Remove {
        deployment: types::DeploymentId(deployment),
        volumes: false,
    })
}

fn kind(result: Result<(), crate::Rejection>) -> Option<RejectKind> {
    result.err().map(|r| r.kind)
}

/// Every role, everything it may be asked: one table.
#[test]
fn each_role_does_its_own_and_nothing_else() {
    let deployed = || deploy(project("shop", &[("web", service(100, 1))]));
    let demand = crate::Call::Deployment(Deploy::ReportDemand { lines: Vec::new() });
    let beat = crate::Call::Host(crate::host::Call::Heartbeat);
    let drain = crate::Call::Host(crate::host::Call::Drain {
        host: id(5),
        draining: true,
    });
    let hours = crate::Call::Host(crate::host::Call::SetHours {
        host: id(5),
        hours: None,
    });
    let invite = |token| {
        crate::Call::Host(crate::host::Call::Invite {
            token: id(token),
            until_ms: 2_000_000,
        })
    };
    let uninvite = crate::Call::Host(crate::host::Call::Uninvite { token: id(51) });
    let usage = crate::world::report(1, Vec::new());
    let calls = [
        ("deploy", deployed()),
        ("remove", remove(1)),
        ("pay", pay(2, 1)),
        ("make a developer", grant(40, Role::Developer)),
        ("make an admin", grant(41, Role::Admin)),
        ("make an owner", grant(42, Role::Owner)),
        ("drain", drain),
        ("set hours", hours),
        ("invite", invite(50)),
        ("uninvite", uninvite),
        ("report demand", demand),
        ("beat", beat),
        ("report use", usage),
    ];
    for role in Role::ALL {
        for (name, call) in &calls {
            let mut world = World::new(Params::dev());
            world.host(5, 4000);
            world.ask(1, deployed()).expect("deployed");
            world.ask(1, invite(51)).expect("invited");
            world.ask(1, grant(30, role)).expect("granted");
            let allowed = match role {
                Role::Owner => !matches!(*name, "report demand" | "beat" | "report use"),
                Role::Admin => matches!(
                    *name,
                    "deploy"
                        | "remove"
                        | "pay"
                        | "make a developer"
                        | "drain"
                        | "set hours"
                        | "invite"
                        | "uninvite"
                ),
                Role::Developer => matches!(*name, "deploy" | "remove"),
                Role::Billing => *name == "pay",
                Role::Viewer => false,
            };
            let refused = kind(world.ask_for(30, &[1], call.clone()));
            // What is said of a host that is another's is refused further on.
            let further = matches!(*name, "drain" | "set hours") && allowed;
            match allowed && !further {
                true => assert_eq!(refused, None, "{role:?} {name}"),
                false => assert_eq!(refused, Some(RejectKind::Forbidden), "{role:?} {name}"),
            }
            // A stranger to the account may nothing.
            let stranger = world.ask_for(31, &[1], call.clone());
            assert_eq!(kind(stranger), Some(RejectKind::Forbidden), "{name}");
        }
    }
}

#[test]
fn whoever_has_a_grant_gives_it_back_and_nobody_elses() {
    for role in Role::ALL {
        let mut world = World::new(Params::dev());
        world
            .ask(1, limited(30, role, Some((1, 0)), Some(u64::MAX)))
            .expect("granted");
        world.ask(1, grant(31, Role::Viewer)).expect("granted");
        let others = world.ask_for(30, &[1], revoke(31));
        assert_eq!(kind(others), Some(RejectKind::Forbidden), "{role:?}");
        let first = world.ask_for(30, &[1], revoke(1));
        assert_eq!(kind(first), Some(RejectKind::Forbidden), "{role:?}");
        world.ask_for(30, &[1], revoke(30)).expect("his own");
        let again = world.ask_for(30, &[1], revoke(30));
        assert_eq!(kind(again), Some(RejectKind::Forbidden), "{role:?}");
        assert!(!world.state.account(&id(1)).grants.contains_key(&id(30)));
        assert!(world.state.account(&id(1)).grants.contains_key(&id(31)));
    }
}

/// Who may not act for an account, or has spent what he may, comes before nobody by what it would
/// tip, and takes none of it.
#[test]
fn a_tip_is_of_ones_own_or_within_ones_limit() {
    let mut world = World::new(Params::dev());
    let tip = Amount::credits(2);
    world
        .ask(1, limited(2, Role::Owner, Some((5, 0)), None))
        .expect("granted");
    world.tip = tip;
    let send = |world: &mut World, who| {
        let bytes = world.sign_for(who, vec![id(1)], pay(3, 1));
        let decoded = crate::decode(&bytes).expect("decodes");
        let admitted = kind(world.state.admit(&decoded));
        let before = world.state.account(&id(1)).spendable;
        let executed = world.block(1, &[bytes]);
        let refused = executed.outcomes[0].rejection.as_ref().map(|r| r.kind);
        let took = before.0 - world.state.account(&id(1)).spendable.0;
        (admitted, refused, Amount(took), executed.outcomes[0].fee)
    };
    let good = (None, None, Amount::credits(3), tip);
    assert_eq!(send(&mut world, 2), good);
    // Two credits are left: enough for the tip alone.
    let partly = (None, Some(RejectKind::Funds), tip, tip);
    assert_eq!(send(&mut world, 2), partly);
    let funds = Some(RejectKind::Funds);
    assert_eq!(send(&mut world, 2), (funds, funds, Amount(0), Amount(0)));
    let forbidden = Some(RejectKind::Forbidden);
    let stranger = (forbidden, forbidden, Amount(0), Amount(0));
    assert_eq!(send(&mut world, 3), stranger);
}

#[test]
fn a_limit_holds_within_its_period_and_a_refusal_changes_nothing() {
    let mut world = World::new(Params::dev());
    world
        .ask(1, limited(30, Role::Admin, Some((10, 60_000)), None))
        .expect("granted");
    world.ask_for(30, &[1], pay(2, 6)).expect("within");
    let refused = world.ask_for(30, &[1], pay(2, 5)).expect_err("too much");
    assert_eq!(refused.kind, RejectKind::Funds);
    assert!(refused.why.contains("may spend 4 more"), "{refused}");
    assert_eq!(world.state.account(&id(1)).spendable, Amount::credits(94));
    world.ask_for(30, &[1], pay(2, 4)).expect("the rest");
    // Giving it again does not make it forget.
    world
        .ask(1, limited(30, Role::Admin, Some((10, 60_000)), None))
        .expect("changed");
    assert!(world.ask_for(30, &[1], pay(2, 1)).is_err());
    world.block(60_000, &[]);
    world.ask_for(30, &[1], pay(2, 10)).expect("a new period");
    // What has a limit or an end says nothing about who else may act.
    let more = world.ask_for(30, &[1], grant(31, Role::Developer));
    assert_eq!(kind(more), Some(RejectKind::Forbidden));
    // Escrow counts as spent.
    let mut world = World::new(Params::dev());
    world.host(5, 4000);
    world
        .ask(1, limited(30, Role::Developer, Some((0, 0)), None))
        .expect("granted");
    let call = deploy(project("shop", &[("web", service(100, 1))]));
    let refused = world.ask_for(30, &[1], call.clone());
    assert_eq!(kind(refused), Some(RejectKind::Funds));
    assert_eq!(world.state.deployments_of(&id(1)).count(), 0);
    world.ask(1, grant(30, Role::Developer)).expect("no limit");
    world.ask_for(30, &[1], call).expect("deployed");
    let of: Vec<AccountId> = world
        .state
        .deployments
        .iter()
        .map(|(_, d)| d.owner)
        .collect();
    assert_eq!(of, [id(1)]);
}

#[test]
fn a_grant_ends_by_time_and_by_revocation() {
    let mut world = World::new(Params::dev());
    let soon = world.state.time_ms() + 10_000;
    world
        .ask(1, limited(30, Role::Billing, None, Some(soon)))
        .expect("granted");
    world.ask_for(30, &[1], pay(2, 1)).expect("in time");
    world.block(10_000, &[]);
    let late = world.ask_for(30, &[1], pay(2, 1));
    assert_eq!(kind(late), Some(RejectKind::Forbidden));
    let over = limited(30, Role::Billing, None, Some(soon));
    assert_eq!(kind(world.ask(1, over)), Some(RejectKind::Invalid));

    world.ask(1, grant(30, Role::Billing)).expect("granted");
    world.ask_for(30, &[1], pay(2, 1)).expect("good");
    world.ask(1, revoke(30)).expect("revoked");
    assert!(world.ask_for(30, &[1], pay(2, 1)).is_err());
    assert_eq!(kind(world.ask(1, revoke(30))), Some(RejectKind::NotFound));
    assert_eq!(
        kind(world.ask(1, grant(1, Role::Owner))),
        Some(RejectKind::Invalid)
    );
}

#[test]
fn a_first_key_retires_only_when_another_owner_is_left() {
    let mut world = World::new(Params::dev());
    assert_eq!(kind(world.ask(1, revoke(1))), Some(RejectKind::Conflict));
    world
        .ask(1, limited(30, Role::Owner, Some((1, 0)), None))
        .expect("granted");
    assert_eq!(kind(world.ask(1, revoke(1))), Some(RejectKind::Conflict));
    world.ask(1, grant(31, Role::Owner)).expect("granted");
    world.ask_for(31, &[1], revoke(1)).expect("retired");
    assert_eq!(kind(world.ask(1, pay(2, 1))), Some(RejectKind::Forbidden));
    world.ask_for(31, &[1], pay(2, 1)).expect("the other signs");
    // The last owner does not go.
    let last = world.ask_for(31, &[1], revoke(31));
    assert_eq!(kind(last), Some(RejectKind::Conflict));
}

/// Key 30 is person 2's, and person 2 works for company 1.
#[test]
fn a_persons_key_acts_for_his_company_within_both_grants() {
    let mut world = World::new(Params::dev());
    world
        .ask(2, limited(30, Role::Admin, Some((5, 0)), None))
        .expect("granted");
    world.ask(1, grant(2, Role::Billing)).expect("granted");
    world
        .ask_for(30, &[2, 1], pay(3, 4))
        .expect("for the company");
    assert_eq!(world.state.account(&id(1)).spendable, Amount::credits(96));
    assert_eq!(world.state.account(&id(2)).spendable, Amount::credits(100));
    let over = world.ask_for(30, &[2, 1], pay(3, 4));
    assert_eq!(kind(over), Some(RejectKind::Funds));
    for path in [&[1][..], &[2, 1, 3], &[1, 2], &[3]] {
        let refused = world.ask_for(30, path, pay(3, 1));
        assert_eq!(kind(refused), Some(RejectKind::Forbidden), "{path:?}");
    }
    // By an admin's grant a person's bounded key makes no members.
    world.ask(1, grant(2, Role::Owner)).expect("granted");
    let member = world.ask_for(30, &[2, 1], grant(33, Role::Viewer));
    assert_eq!(kind(member), Some(RejectKind::Forbidden));
    world
        .ask_for(2, &[1], grant(33, Role::Viewer))
        .expect("his own key does");
}

#[test]
fn grants_are_bounded_and_those_that_ended_make_room() {
    let mut world = World::new(Params::dev());
    let soon = world.state.time_ms() + 100_000;
    for n in 0..64u8 {
        let expires = (n == 0).then_some(soon);
        world
            .ask(1, limited(30 + n, Role::Viewer, None, expires))
            .expect("room");
    }
    let more = world.ask(1, grant(100, Role::Viewer));
    assert_eq!(kind(more), Some(RejectKind::Conflict));
    world.block(100_000, &[]);
    world.ask(1, grant(100, Role::Viewer)).expect("room again");
    assert_eq!(world.state.account(&id(1)).grants.len(), 64);
}
