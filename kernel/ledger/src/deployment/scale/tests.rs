use proptest::prelude::*;
use types::{
    AllocationId, Amount, AutoscaleSpec, DeploymentId, PortSpec, Protocol, ScaleTarget,
    ServiceSpec, Usage,
};

use super::{Calm, Load, Scale, decide};
use crate::deployment::{Call as Deploy, DemandLine, Event};
use crate::lease::Desired;
use crate::world::{GATEWAY, World, deploy, id, line, project, report, service};
use crate::{Call, Params};

const D: DeploymentId = DeploymentId(1);

fn spec(min: u32, max: u32, target: ScaleTarget) -> AutoscaleSpec {
    AutoscaleSpec {
        min,
        max,
        target,
        idle_ms: 10_000,
    }
}

fn scale(wanted: u32) -> Scale {
    Scale {
        wanted,
        changed_ms: 0,
        why: String::new(),
        stopped: false,
        calm: None,
        demand: std::collections::BTreeMap::new(),
    }
}

fn load(carried_milli: u64, unknown: Option<u32>) -> Load {
    Load {
        carried_milli,
        unknown,
        ..Load::default()
    }
}

#[test]
fn a_step_is_as_large_as_the_load_and_bounded() {
    let spec = spec(0, 10, ScaleTarget::Requests(20));
    let idle = Load {
        unknown: Some(0),
        idle: true,
        ..Load::default()
    };
    let waits = Load {
        waits: true,
        ..idle.clone()
    };
    for (what, wanted, load, expected) in [
        ("what is at the target stays", 2, load(2_000, Some(0)), 2),
        ("and what is a little above", 2, load(2_100, Some(0)), 2),
        ("more", 2, load(2_101, Some(0)), 3),
        ("twice as many at most", 2, load(9_000, Some(0)), 4),
        ("max at most", 8, load(90_000, Some(0)), 10),
        ("what is not known asks for nothing", 2, load(0, None), 2),
        ("more though not all is known", 2, load(4_000, None), 4),
        ("none wakes for a request", 0, waits, 1),
        ("and for nothing else", 0, load(5_000, Some(0)), 0),
        ("fewer only in time", 4, idle, 4),
    ] {
        let (now, _) = decide(&spec, &scale(wanted), &load, true, 1_000_000);
        assert_eq!(now, expected, "{what}");
    }
}

#[test]
fn fewer_come_once_fewer_were_enough_all_the_time() {
    let spec = spec(0, 10, ScaleTarget::Requests(20));
    let mut at = scale(4);
    let mut step = |load: &Load, steady, now| {
        let (wanted, calm) = decide(&spec, &at, load, steady, now);
        if wanted != at.wanted {
            at.changed_ms = now;
        }
        (at.wanted, at.calm) = (wanted, calm);
        (wanted, calm)
    };
    let since = |since_ms, need| Some(Calm { since_ms, need });
    // Three carry 2.4 at four fifths of the target; for a moment all four were needed.
    assert_eq!(
        step(&load(1_600, Some(0)), true, 1_000),
        (4, since(1_000, 2))
    );
    assert_eq!(
        step(&load(2_400, Some(0)), true, 6_000),
        (4, since(1_000, 3))
    );
    assert_eq!(step(&load(2_401, Some(0)), true, 9_000), (4, None));
    assert_eq!(step(&load(0, Some(0)), true, 10_000), (4, since(10_000, 1)));
    assert_eq!(step(&load(0, None), true, 12_000), (4, None), "not known");
    assert_eq!(step(&load(0, Some(0)), true, 13_000), (4, since(13_000, 1)));
    assert_eq!(
        step(&load(0, Some(0)), false, 22_000),
        (4, None),
        "a release"
    );
    assert_eq!(step(&load(0, Some(0)), true, 23_000), (4, since(23_000, 1)));
    assert_eq!(
        step(&load(0, Some(0)), true, 33_000),
        (2, None),
        "half at most"
    );
    assert_eq!(step(&load(0, Some(1)), true, 34_000), (2, since(34_000, 1)));
    assert_eq!(step(&load(0, Some(0)), true, 44_000), (1, None));
    assert_eq!(
        step(&load(0, Some(0)), true, 45_000),
        (1, None),
        "asked for"
    );
    let idle = Load {
        idle: true,
        ..load(0, Some(0))
    };
    assert_eq!(step(&idle, true, 50_000), (1, since(50_000, 0)));
    assert_eq!(step(&idle, true, 60_000), (0, None));
}

fn any_load() -> impl Strategy<Value = Load> {
    let unknown = prop::option::of(0u32..20);
    let carried = prop_oneof![Just(0u64), 0u64..30_000, any::<u64>()];
    (carried, unknown, any::<bool>(), any::<bool>()).prop_map(
        |(carried_milli, unknown, idle, waits)| Load {
            carried_milli,
            unknown,
            idle,
            waits,
        },
    )
}

proptest! {
    /// Whatever the figures say, in whatever order.
    #[test]
    fn never_above_max_nor_below_min_nor_down_without_a_figure(
        min in 0u32..4, more in 0u32..10, start in 0u32..40,
        steps in prop::collection::vec((any_load(), any::<bool>(), 0u64..20_000), 1..40),
    ) {
        let spec = spec(min, (min + more).max(1), ScaleTarget::Requests(1));
        let mut at = scale(start);
        let mut now = 0u64;
        for (load, steady, after) in steps {
            now += after;
            let (wanted, calm) = decide(&spec, &at, &load, steady, now);
            prop_assert!((spec.min..=spec.max).contains(&wanted));
            prop_assert_eq!(decide(&spec, &at, &load, steady, now), (wanted, calm));
            let before = at.wanted.clamp(spec.min, spec.max);
            if load.unknown.is_none() || !steady {
                prop_assert!(wanted >= before, "{} after {}", wanted, before);
            }
            prop_assert!(wanted <= before.max(1) * 2 && wanted >= before / 2);
            if before > 0 && wanted == 0 {
                prop_assert!(load.idle);
            }
            if wanted != at.wanted {
                at.changed_ms = now;
            }
            (at.wanted, at.calm) = (wanted, calm);
        }
    }

    /// The same load, for ever: the number settles and stays.
    #[test]
    fn a_steady_load_moves_nothing_in_the_end(carried in 0u64..12_000, start in 1u32..10) {
        let spec = spec(1, 10, ScaleTarget::Requests(1));
        let mut at = scale(start);
        let mut changes = Vec::new();
        for tick in 1u64..200 {
            let (wanted, calm) = decide(&spec, &at, &load(carried, Some(0)), true, tick * 5_000);
            if wanted != at.wanted {
                at.changed_ms = tick * 5_000;
                changes.push((tick, wanted));
            }
            (at.wanted, at.calm) = (wanted, calm);
        }
        prop_assert!(changes.iter().all(|(tick, _)| *tick < 100), "{:?}", changes);
        let all = u64::from(at.wanted);
        prop_assert!(carried <= all * 1_050 || at.wanted == 10);
    }
}

fn web(min: u32, max: u32, target: ScaleTarget) -> ServiceSpec {
    ServiceSpec {
        autoscale: Some(spec(min, max, target)),
        expose: vec![8080],
        ..service(1_000, 1)
    }
}

fn world(web: &ServiceSpec) -> World {
    let mut world = World::with_gateway(Params::dev());
    for who in 10..12 {
        world.host(who, 4_000);
    }
    world
        .ask(1, deploy(project("p", &[("web", web.clone())])))
        .expect("deployed");
    world
}

fn wanted(world: &World) -> u32 {
    world
        .state
        .scales
        .get(&(D, "web".into()))
        .expect("there")
        .wanted
}

fn why(world: &World) -> &str {
    &world
        .state
        .scales
        .get(&(D, "web".into()))
        .expect("there")
        .why
}

/// Live allocations and what is wanted of them.
fn live(world: &World) -> Vec<(u64, Desired)> {
    let all = &world.state.deployments.get(&D).expect("there").allocations;
    all.iter()
        .map(|a| (a.0, world.state.allocations.get(a).expect("there").desired))
        .collect()
}

fn demand(under_way: u32, waiting: u32, open: &[(u64, u32)]) -> Call {
    Call::Deployment(Deploy::ReportDemand {
        lines: vec![DemandLine {
            deployment: D,
            service: "web".into(),
            under_way_milli: under_way * 1_000,
            per_second_milli: 0,
            waiting,
            open: open.iter().map(|(a, n)| (AllocationId(*a), *n)).collect(),
        }],
    })
}

fn hear(world: &mut World, under_way: u32, waiting: u32, open: &[(u64, u32)]) {
    world
        .ask(GATEWAY, demand(under_way, waiting, open))
        .expect("heard");
}

/// The gateway says every other second that nobody asks.
fn quiet(world: &mut World, seconds: u64) {
    for _ in 0..seconds / 2 {
        hear(world, 0, 0, &[]);
        world.pass(2, &[]);
    }
}

#[test]
fn nobody_asks_and_it_goes_to_none_and_the_first_request_brings_it_back() {
    let mut world = world(&web(0, 3, ScaleTarget::Requests(20)));
    world.runs(1);
    world.pass(4, &[]);
    let full = world.state.account(&id(1)).held;
    assert!(full > Amount::ZERO);
    quiet(&mut world, 12);
    assert_eq!(
        (wanted(&world), live(&world)),
        (0, vec![(1, Desired::Drain)])
    );
    assert_eq!(why(&world), "nobody asked for anything for 10 s");
    quiet(&mut world, 6);
    assert_eq!(live(&world), [(1, Desired::Remove)]);
    world.ends(1);
    assert_eq!(live(&world), []);
    // Nothing runs: nothing is held.
    assert_eq!(world.state.account(&id(1)).held, Amount::ZERO);
    world.pass(20, &[]);
    assert_eq!(wanted(&world), 0);
    hear(&mut world, 0, 1, &[]);
    assert_eq!((wanted(&world), live(&world)), (1, vec![(2, Desired::Run)]));
    assert_eq!(why(&world), "a request came");
    assert_eq!(world.state.account(&id(1)).held, full);
    assert_eq!(world.state.deployments.get(&D).expect("there").release, 1);
}

#[test]
fn whoever_is_connected_is_not_cut_off_and_who_comes_in_time_finds_the_same_replica() {
    let mut world = world(&web(0, 1, ScaleTarget::Requests(20)));
    world.runs(1);
    world.pass(4, &[]);
    // A connection that says nothing keeps it.
    for _ in 0..10 {
        hear(&mut world, 0, 0, &[(1, 1)]);
        world.pass(2, &[]);
    }
    assert_eq!(wanted(&world), 1);
    quiet(&mut world, 12);
    assert_eq!(live(&world), [(1, Desired::Drain)]);
    // One that came at the last moment is left its replica.
    for _ in 0..10 {
        hear(&mut world, 0, 0, &[(1, 1)]);
        world.pass(2, &[]);
    }
    assert_eq!(live(&world), [(1, Desired::Drain)]);
    hear(&mut world, 0, 1, &[(1, 1)]);
    assert_eq!(live(&world), [(1, Desired::Run)]);
    quiet(&mut world, 12);
    // A gateway that says nothing of it any more is waited for, but not for ever.
    world.pass(250, &[]);
    assert_eq!(live(&world), [(1, Desired::Drain)]);
    world.pass(60, &[]);
    assert_eq!(live(&world), [(1, Desired::Remove)]);
}

#[test]
fn requests_bring_more_replicas_up_to_max_and_their_end_takes_them_away() {
    let mut world = world(&web(1, 3, ScaleTarget::Requests(10)));
    world.runs(1);
    world.pass(4, &[]);
    hear(&mut world, 15, 0, &[(1, 15)]);
    assert_eq!(wanted(&world), 2);
    assert_eq!(
        why(&world),
        "15 requests under way at once, 10 are for each replica"
    );
    let scaled = world.events.iter().any(|e| {
        matches!(
            e,
            crate::Event::Deployment(Event::Scaled { from: 1, to: 2, .. })
        )
    });
    assert!(scaled, "{:?}", world.events);
    world.runs(2);
    world.pass(3, &[]);
    hear(&mut world, 900, 0, &[]);
    assert_eq!((wanted(&world), live(&world).len()), (3, 3));
    world.runs(3);
    for _ in 0..6 {
        hear(&mut world, 9, 0, &[(1, 3), (2, 3), (3, 3)]);
        world.pass(2, &[]);
    }
    assert_eq!(
        live(&world)[2],
        (3, Desired::Drain),
        "nine are for two replicas"
    );
    assert_eq!(wanted(&world), 2);
    // Load is back before it has gone.
    hear(&mut world, 29, 0, &[(3, 1)]);
    assert_eq!((wanted(&world), live(&world)[2]), (3, (3, Desired::Run)));
    quiet(&mut world, 40);
    assert_eq!(wanted(&world), 1, "never below min");
}

#[test]
fn cores_in_use_bring_more_replicas_and_a_host_that_reports_nothing_none_less() {
    let mut world = world(&web(1, 4, ScaleTarget::Cpu(50)));
    world.runs(1);
    world.pass(1, &[]);
    let mut used = Usage::default();
    let mut use_cores = |world: &mut World, millis: u64| {
        let known = world
            .state
            .allocations
            .get(&AllocationId(1))
            .expect("there")
            .clone();
        let now = world.state.time_ms();
        used.cpu_ns += millis * 1_000 * (now - known.settled_ms);
        let who = (10..12).find(|n| id(*n) == known.host).expect("ours");
        let interval = world.state.hosts.get(&known.host).expect("there").interval + 1;
        let line = line(1, known.sequence + 1, now, used);
        world
            .ask(who, report(interval, vec![line]))
            .expect("settled");
    };
    // Starting is no load.
    use_cores(&mut world, 900);
    assert_eq!(wanted(&world), 1);
    world.pass(5, &[]);
    use_cores(&mut world, 450);
    assert_eq!(wanted(&world), 1);
    world.pass(5, &[]);
    use_cores(&mut world, 900);
    assert_eq!(wanted(&world), 2);
    assert!(why(&world).contains("90%"), "{}", why(&world));
    world.runs(2);
    for _ in 0..6 {
        world.pass(5, &[]);
        use_cores(&mut world, 10);
    }
    assert_eq!(wanted(&world), 2, "nothing is known of the second");
}

#[test]
fn only_a_gateway_of_the_network_is_listened_to_and_only_funds_wake() {
    let mut world = world(&web(0, 1, ScaleTarget::Requests(20)));
    let refused = world.ask(3, demand(5, 1, &[])).expect_err("a stranger");
    assert_eq!(refused.kind, crate::RejectKind::Forbidden);
    world.runs(1);
    world.pass(4, &[]);
    quiet(&mut world, 20);
    world.ends(1);
    let all = world.state.account(&id(1)).spendable;
    let gift = Call::Account(crate::account::Call::Transfer {
        to: id(2),
        amount: Amount(all.0 - 1),
        memo: String::new(),
    });
    world.ask(1, gift).expect("given");
    hear(&mut world, 0, 3, &[]);
    assert_eq!(wanted(&world), 0);
    assert!(why(&world).contains("funds"), "{}", why(&world));
    let back = Call::Account(crate::account::Call::Transfer {
        to: id(1),
        amount: Amount::credits(10),
        memo: String::new(),
    });
    world.ask(2, back).expect("given");
    hear(&mut world, 0, 3, &[]);
    assert_eq!(wanted(&world), 1);
}

#[test]
fn what_is_stopped_sleeps_whatever_is_asked() {
    let mut world = world(&web(0, 2, ScaleTarget::Requests(1)));
    world.runs(1);
    world.pass(4, &[]);
    let running = |running| {
        Call::Deployment(Deploy::SetRunning {
            deployment: D,
            service: None,
            running,
        })
    };
    world.ask(1, running(false)).expect("stopped");
    hear(&mut world, 90, 1, &[]);
    quiet(&mut world, 30);
    assert_eq!(
        (wanted(&world), live(&world)),
        (1, vec![(1, Desired::Stop)])
    );
    world.ask(1, running(true)).expect("started");
    hear(&mut world, 90, 0, &[]);
    assert_eq!(wanted(&world), 2);
}

#[test]
fn a_release_that_changes_what_sleeps_is_tried_on_one_replica() {
    let mut web = web(0, 2, ScaleTarget::Requests(20));
    let mut world = world(&web);
    world.runs(1);
    world.pass(4, &[]);
    quiet(&mut world, 20);
    world.ends(1);
    web.autoscale = Some(spec(0, 5, ScaleTarget::Requests(30)));
    let up = |world: &mut World, web: &ServiceSpec| {
        let spec = project("p", &[("web", web.clone())]);
        world.ask(1, deploy(spec)).expect("deployed");
    };
    up(&mut world, &web);
    assert_eq!(
        (wanted(&world), live(&world)),
        (0, vec![]),
        "only its bounds changed"
    );
    web.read_only = true;
    up(&mut world, &web);
    assert_eq!((wanted(&world), live(&world)), (1, vec![(2, Desired::Run)]));
    // Not taken away before it is known to be good.
    for _ in 0..20 {
        hear(&mut world, 0, 0, &[]);
        world.pass(2, &[]);
    }
    assert_eq!(wanted(&world), 1);
    world.runs(2);
    quiet(&mut world, 20);
    assert_eq!(wanted(&world), 0);
    assert_eq!(world.state.deployments.get(&D).expect("there").good, 3);
    web.autoscale = None;
    web.replicas = 2;
    world.ends(2);
    up(&mut world, &web);
    assert_eq!(live(&world).len(), 2);
    assert!(world.state.scales.is_empty());
}

#[test]
fn bounds_that_make_no_sense_are_refused_with_a_reason() {
    let target = ScaleTarget::Requests(1);
    for (min, max, target, exposed, why) in [
        (0, 0, target, true, "max is 0"),
        (3, 2, target, true, "min is above max"),
        (0, 1, ScaleTarget::Cpu(95), true, "1 to 90 percent"),
        (0, 1, target, false, "no TCP port"),
        (1, 5_000, target, true, "at most 1000"),
    ] {
        let mut world = World::new(Params::dev());
        let mut web = web(min, max, target);
        if !exposed {
            web.expose.clear();
            web.ports.push(PortSpec {
                target: 53,
                published: None,
                protocol: Protocol::Udp,
            });
        }
        let refused = world
            .ask(1, deploy(project("p", &[("web", web)])))
            .expect_err(why);
        assert!(refused.why.contains(why), "{refused}");
    }
}
