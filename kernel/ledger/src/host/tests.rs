use types::{AllocationId, Amount, Resources, Usage};

use super::{Call, Record};
use crate::world::{World, deploy, id, line, project, registration, report, service};
use crate::{Params, RejectKind};

fn registered(world: &mut World, change: impl FnOnce(&mut Call)) -> Result<(), RejectKind> {
    let mut call = registration(10, 2000);
    change(&mut call);
    world.ask(10, crate::Call::Host(call)).map_err(|r| r.kind)
}

fn with_address(text: &str) -> impl FnOnce(&mut Call) {
    let text = text.to_string();
    move |call| {
        if let Call::Register { address, .. } = call {
            *address = text;
        }
    }
}

fn with_capacity(change: impl FnOnce(&mut Resources)) -> impl FnOnce(&mut Call) {
    move |call| {
        if let Call::Register { offer, .. } = call {
            change(&mut offer.capacity);
        }
    }
}

#[test]
fn an_address_is_an_ip_or_name_and_a_port_and_nothing_else() {
    let mut world = World::new(Params::dev());
    for bad in [
        "",
        "http://",
        "https://10.0.0.1:80",
        "http://10.0.0.1",
        "http://10.0.0.1:0",
        "http://10.0.0.1:99999",
        "http://10.0.0.1:80/path",
        "http://user@10.0.0.1:80",
        "http://10.0.0.1:80?x",
        "http://[::1:80",
    ] {
        let refused = registered(&mut world, with_address(bad));
        assert_eq!(refused, Err(RejectKind::Invalid), "{bad}");
    }
    for good in [
        "http://10.0.0.1:80",
        "http://host-1.example:7801",
        "http://[::1]:80",
    ] {
        assert_eq!(registered(&mut world, with_address(good)), Ok(()), "{good}");
    }
}

#[test]
fn an_offer_is_bounded() {
    let mut world = World::new(Params::dev());
    let changes: [fn(&mut Resources); 4] = [
        |c| c.cpu_millis = u32::MAX,
        |c| c.memory_bytes = u64::MAX,
        |c| c.disk_bytes = u64::MAX,
        |c| c.memory_bytes = 0,
    ];
    for change in changes {
        let refused = registered(&mut world, with_capacity(change));
        assert_eq!(refused, Err(RejectKind::Invalid));
    }
    let refused = registered(&mut world, |call| {
        if let Call::Register { offer, .. } = call {
            offer.architecture = "x\n86".into();
        }
    });
    assert_eq!(refused, Err(RejectKind::Invalid));
}

#[test]
fn a_host_bonds_when_it_enters_and_its_owner_gets_that_back_when_it_leaves() {
    let mut world = World::new(Params {
        host_bond: Amount::credits(5),
        faucet: Amount::credits(6),
        ..Params::dev()
    });
    let enter = |world: &mut World| {
        registered(world, |call| {
            if let Call::Register { owner, .. } = call {
                *owner = id(11);
            }
        })
    };
    assert_eq!(enter(&mut world), Err(RejectKind::Funds));
    assert!(world.state.hosts.is_empty());
    let gift = crate::account::Call::Faucet { to: id(10) };
    world.ask(10, crate::Call::Account(gift)).expect("a gift");
    let whole = world.state.supply();
    for _ in 0..2 {
        assert_eq!(enter(&mut world), Ok(()));
        assert_eq!(world.state.account(&id(10)).spendable, Amount::credits(1));
        assert_eq!(world.state.supply().bonds, Amount::credits(5));
    }
    // What newcomers bond from now on is none of its business.
    let mut params = world.state.params().clone();
    params.host_bond = Amount::credits(7);
    world.state.globals.params = params;
    assert_eq!(enter(&mut world), Ok(()));
    let left = world.ask(10, crate::Call::Host(Call::Leave));
    left.expect("nothing is placed there");
    assert_eq!(world.state.account(&id(11)).spendable, Amount::credits(5));
    assert_eq!(world.state.supply().bonds, Amount::ZERO);
    assert_eq!(world.state.supply().sum(), whole.sum());
}

/// A machine whose disk has filled up must be able to come back.
#[test]
fn capacity_never_falls_below_what_is_reserved() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    world
        .ask(1, deploy(project("p", &[("a", service(1500, 1))])))
        .expect("deployed");
    assert_eq!(
        registered(&mut world, with_capacity(|c| c.cpu_millis = 1000)),
        Ok(())
    );
    let host = world.state.hosts.get(&id(10)).expect("there");
    assert_eq!(host.offer.capacity.cpu_millis, 1500);
    assert_eq!(host.free.cpu_millis, 0);
    assert_eq!(
        registered(&mut world, |call| {
            if let Call::Register { owner, .. } = call {
                *owner = id(3);
            }
        }),
        Err(RejectKind::Conflict)
    );
}

#[test]
fn the_owner_of_one_host_may_cordon_it() {
    let mut world = World::new(Params::dev());
    let mut call = registration(10, 2000);
    if let Call::Register { owner, .. } = &mut call {
        *owner = id(3);
    }
    world.ask(10, crate::Call::Host(call)).expect("registered");
    let cordon = || crate::Call::Host(Call::Cordon { cordoned: true });
    assert_eq!(
        world.ask(4, cordon()).expect_err("stranger").kind,
        RejectKind::NotFound
    );
    world.ask(3, cordon()).expect("owner");
    assert!(world.state.hosts.get(&id(10)).expect("there").cordoned);
    let refused = world.ask(1, deploy(project("p", &[("a", service(10, 1))])));
    assert_eq!(refused.expect_err("cordoned").kind, RejectKind::NoHost);
    world
        .ask(3, crate::Call::Host(Call::Leave))
        .expect("nothing is placed");
    assert!(world.state.hosts.is_empty());
    assert_eq!(world.state.account(&id(3)).spendable, Amount::ZERO);
}

/// Its agent still knows the last plan of the first stay, and follows no older one.
#[test]
fn plans_go_on_above_those_of_a_former_stay() {
    let mut world = World::new(Params::dev());
    let plan = |world: &World| world.state.hosts.get(&id(10)).expect("there").plan;
    world.host(10, 2000);
    for cpus in [1, 2, 1, 2] {
        lent(&mut world, 10, |r| r.cpu_millis = cpus * 1_000).expect("lent");
    }
    let seen = plan(&world);
    let leave = || crate::Call::Host(Call::Leave);
    world.ask(10, leave()).expect("nothing is placed there");
    world.host(10, 2000);
    assert!(plan(&world) > seen, "{} after {seen}", plan(&world));
}

fn record(world: &World) -> &Record {
    &world.state.hosts.get(&id(10)).expect("there").record
}

/// The host reports that its first allocation has used nothing more.
fn reports(world: &mut World) {
    let known = world
        .state
        .allocations
        .get(&AllocationId(1))
        .expect("there");
    let sequence = known.sequence + 1;
    let interval = world.state.hosts.get(&id(10)).expect("there").interval + 1;
    let one = line(1, sequence, world.state.time_ms(), Usage::default());
    world.ask(10, report(interval, vec![one])).expect("settled");
}

/// A day with host 10 and a deployment of account `payer` on it: it serves, is late once, and
/// falls silent once.
fn day(payer: u8) -> World {
    let mut world = World::new(Params::dev());
    world.host(10, 2_000);
    let gift = crate::account::Call::Transfer {
        to: id(10),
        amount: Amount::credits(50),
        memo: String::new(),
    };
    world.ask(1, crate::Call::Account(gift)).expect("given");
    world
        .ask(payer, deploy(project("p", &[("web", service(100, 1))])))
        .expect("deployed");
    world.runs(1);
    for _ in 0..10 {
        world.pass(5, &[]);
        reports(&mut world);
    }
    world.pass(30, &[]);
    reports(&mut world);
    world.pass(10, &[10]);
    world
}

#[test]
fn a_host_has_the_name_that_it_made_with_others() {
    let mut world = day(1);
    let made = record(&world).clone();
    assert!((80_000..=82_000).contains(&made.served_ms), "{made:?}");
    assert_eq!((made.silent_ms, made.late_ms), (3_600_000, 900_000));
    // While it was away, nobody could be served; what it says afterwards is late.
    world.pass(10, &[]);
    reports(&mut world);
    let after = record(&world);
    assert!(after.late_ms > made.late_ms && after.reliability() < 820);
}

#[test]
fn what_an_owner_runs_on_his_own_host_makes_no_name() {
    let world = day(10);
    assert_eq!(*record(&world), Record::default());
}

#[test]
fn a_host_with_a_bad_name_gets_work_only_if_nobody_else_can() {
    let mut world = World::new(Params::dev());
    world.host(10, 2_000);
    world
        .ask(1, deploy(project("p", &[("web", service(100, 1))])))
        .expect("deployed");
    world.runs(1);
    for _ in 0..3 {
        world.pass(6, &[10]);
        world.pass(1, &[]);
    }
    assert_eq!(record(&world).silent_ms, 3 * 3_600_000);
    world.pass(100, &[]);
    world.host(11, 1_000);
    for (name, project_name) in ["b", "c", "d"].iter().zip(["b", "c", "d"]) {
        let wish = deploy(project(project_name, &[(*name, service(400, 1))]));
        world.ask(1, wish).expect("deployed");
    }
    let placed = |n: u64| {
        world
            .state
            .allocations
            .get(&AllocationId(n))
            .expect("there")
    };
    let last = world.state.globals.allocations;
    assert_eq!(
        [placed(last - 2).host, placed(last - 1).host],
        [id(11), id(11)]
    );
    let dropped = &placed(last - 2).reason.dropped;
    assert!(
        dropped.iter().any(|d| d.rule == "reliability"),
        "{dropped:?}"
    );
    assert_eq!(placed(last).host, id(10));
    assert_eq!(placed(last).reason.relaxed, ["reliability"]);
}

fn priced(world: &mut World, who: u8, milli: u32) -> Result<(), RejectKind> {
    let call = Call::SetPrice {
        host: id(10),
        price_multiplier_milli: milli,
    };
    world.ask(who, crate::Call::Host(call)).map_err(|r| r.kind)
}

#[test]
fn a_host_may_ask_less_for_what_begins_from_then_on() {
    let mut world = World::new(Params::dev());
    world.host(10, 4_000);
    let one = |name: &str| deploy(project(name, &[("a", service(500, 1))]));
    world.ask(1, one("before")).expect("deployed");
    assert_eq!(priced(&mut world, 1, 700), Err(RejectKind::Forbidden));
    for milli in [0, 499, 1_001, u32::MAX] {
        assert_eq!(priced(&mut world, 10, milli), Err(RejectKind::Invalid));
    }
    priced(&mut world, 10, 700).expect("set");
    world.ask(1, one("after")).expect("deployed");
    let rates = |world: &World, n: u64| {
        let known = world.state.allocations.get(&AllocationId(n));
        known.expect("there").rates
    };
    let tariff = Params::dev().tariff;
    assert_eq!(rates(&world, 1), tariff, "locked when it began");
    assert_eq!(rates(&world, 2).cpu.0 * 1_000, tariff.cpu.0 * 700);
    // An agent that starts anew does not change it.
    world.host(10, 4_000);
    let host = world.state.hosts.get(&id(10)).expect("there");
    assert_eq!(host.offer.price_multiplier_milli, 700);
    // What it used is charged by that: a second of half a core.
    world.block(1_000, &[]);
    let until = world.state.time_ms();
    let usage = Usage {
        cpu_ns: 500_000_000,
        ..Usage::default()
    };
    let lines = vec![line(1, 1, until, usage), line(2, 1, until, usage)];
    world.ask(10, report(1, lines)).expect("settled");
    let paid = |n: u64| {
        let known = world.state.allocations.get(&AllocationId(n));
        known.expect("there").charged[0].0
    };
    assert!(paid(1) > 0 && paid(2) * 1_000 == paid(1) * 700);
}

#[test]
fn of_two_equal_hosts_the_cheaper_is_chosen() {
    for cheap in [10, 11] {
        let mut world = World::new(Params::dev());
        world.host(10, 4_000);
        world.host(11, 4_000);
        let call = Call::SetPrice {
            host: id(cheap),
            price_multiplier_milli: 600,
        };
        world.ask(cheap, crate::Call::Host(call)).expect("set");
        let wish = deploy(project("p", &[("a", service(500, 1))]));
        world.ask(1, wish).expect("deployed");
        assert_eq!(world.state.allocations_on(&id(cheap)).count(), 1);
    }
}

fn lent(world: &mut World, who: u8, change: impl FnOnce(&mut Resources)) -> Result<(), RejectKind> {
    let host = world.state.hosts.get(&id(10)).expect("there");
    let mut allotment = host.allotment.unwrap_or(host.offer.capacity);
    change(&mut allotment);
    let call = Call::SetAllotment {
        host: id(10),
        allotment,
    };
    world.ask(who, crate::Call::Host(call)).map_err(|r| r.kind)
}

#[test]
fn an_owner_lends_more_or_less_of_a_host_that_has_joined() {
    let mut world = World::new(Params::dev());
    world.host(10, 4_000);
    let wish = |name: &str, cpu| deploy(project(name, &[("a", service(cpu, 1))]));
    world.ask(1, wish("before", 1_500)).expect("deployed");
    let offered = |world: &World| {
        let host = world.state.hosts.get(&id(10)).expect("there");
        (host.offer.capacity.cpu_millis, host.free.cpu_millis)
    };
    assert_eq!(offered(&world), (4_000, 2_500));
    assert_eq!(
        lent(&mut world, 1, |r| r.cpu_millis = 2_000),
        Err(RejectKind::Forbidden)
    );
    for change in [
        (|r| r.cpu_millis = 0) as fn(&mut Resources),
        |r| r.memory_bytes = 0,
        |r| r.disk_bytes = u64::MAX,
    ] {
        assert_eq!(lent(&mut world, 10, change), Err(RejectKind::Invalid));
    }
    // Less than what is promised there: it is drained first.
    assert_eq!(
        lent(&mut world, 10, |r| r.cpu_millis = 1_499),
        Err(RejectKind::Conflict)
    );
    assert_eq!(offered(&world), (4_000, 2_500), "nothing has changed");
    let plan = |world: &World| world.state.hosts.get(&id(10)).expect("there").plan;
    let before = plan(&world);
    lent(&mut world, 10, |r| r.cpu_millis = 2_000).expect("less");
    assert_eq!(offered(&world), (2_000, 500));
    assert!(plan(&world) > before, "its agent hears of it");
    let full = world.ask(1, wish("full", 1_000)).map_err(|r| r.kind);
    assert_eq!(full, Err(RejectKind::NoHost));
    // An agent that starts anew with what it was started with does not change it.
    world.host(10, 4_000);
    assert_eq!(offered(&world), (2_000, 500));
    // More comes when the agent offers it.
    lent(&mut world, 10, |r| r.cpu_millis = 6_000).expect("more");
    assert_eq!(offered(&world), (2_000, 500));
    world.host(10, 5_000);
    assert_eq!(
        offered(&world),
        (5_000, 3_500),
        "as far as the machine has it"
    );
    world.ask(1, wish("full", 1_000)).expect("there is room");
}
