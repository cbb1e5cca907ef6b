use types::{
    AllocationId, DeploymentId, MountSource, MountSpec, RunState, ServiceSpec, UpdateFailure,
    UpdateOrder,
};

use crate::deployment::{Call, Cause, Deployment, Event};
use crate::lease::{Allocation, Desired};
use crate::world::{World, deploy, id, project, registration, service};
use crate::{Params, host};

const D: DeploymentId = DeploymentId(1);

fn world(hosts: u8) -> World {
    let mut world = World::new(Params::dev());
    for who in 10..10 + hosts {
        world.host(who, 4000);
    }
    world
}

fn up(world: &mut World, web: &ServiceSpec) {
    let spec = project("p", &[("web", web.clone())]);
    world.ask(1, deploy(spec)).expect("deployed");
}

fn deployment(world: &World) -> &Deployment {
    world.state.deployments.get(&D).expect("there")
}

fn allocation(world: &World, n: u64) -> &Allocation {
    world
        .state
        .allocations
        .get(&AllocationId(n))
        .expect("there")
}

fn who(world: &World, n: u64) -> u8 {
    let host = allocation(world, n).host;
    (0..=255).find(|who| id(*who) == host).expect("ours")
}

/// What is meant to run, by number.
fn wanted(world: &World) -> Vec<(u64, Desired)> {
    let live = &deployment(world).allocations;
    live.iter()
        .map(|a| (a.0, allocation(world, a.0).desired))
        .collect()
}

fn events(world: &World) -> Vec<&Event> {
    world
        .events
        .iter()
        .filter_map(|e| match e {
            crate::Event::Deployment(event) => Some(event),
            _ => None,
        })
        .collect()
}

fn with_volume(mut service: ServiceSpec) -> ServiceSpec {
    service.mounts.push(MountSpec {
        source: MountSource::Volume("data".into()),
        target: "/data".into(),
        read_only: false,
    });
    service
}

/// Two replicas of a first release, good.
fn two_good(hosts: u8) -> (World, ServiceSpec) {
    let mut world = world(hosts);
    let web = service(1000, 2);
    up(&mut world, &web);
    world.runs(1);
    world.runs(2);
    world.pass(4, &[]);
    assert_eq!(deployment(&world).good, 1);
    assert_eq!(deployment(&world).rollout, None);
    (world, web)
}

#[test]
fn a_release_replaces_one_replica_after_the_other_and_each_serves_until_its_successor_is_good() {
    let (mut world, mut web) = two_good(3);
    web.stop_grace_ms = 1;
    up(&mut world, &web);
    let run = |n| (n, Desired::Run);
    assert_eq!(wanted(&world), [run(1), run(2), run(3)]);
    // Not good before it has been ready for the time that the policy says.
    world.runs(3);
    world.pass(1, &[]);
    assert_eq!(wanted(&world), [run(1), run(2), run(3)]);
    world.pass(3, &[]);
    let (first, second) = (wanted(&world), deployment(&world).clone());
    assert_eq!(first[0], (1, Desired::Drain), "{first:?}");
    assert_eq!(first.len(), 4, "the second seat follows: {first:?}");
    assert_eq!((second.good, second.rollout.is_some()), (1, true));
    world.pass(2, &[]);
    assert_eq!(wanted(&world)[0], (1, Desired::Remove));
    world.ends(1);
    world.runs(4);
    world.pass(6, &[]);
    world.ends(2);
    assert_eq!(wanted(&world), [run(3), run(4)]);
    assert_eq!(deployment(&world).good, 2);
    assert_eq!(deployment(&world).rollout, None);
}

#[test]
fn a_release_that_fails_is_undone_and_says_why() {
    let (mut world, good) = two_good(3);
    let mut bad = good.clone();
    bad.stop_grace_ms = 1;
    up(&mut world, &bad);
    world.report_state(3, |s| {
        s.state = RunState::Exited;
        s.exit_code = Some(3);
    });
    let deployment = deployment(&world);
    assert_eq!(deployment.release, 3);
    assert_eq!(deployment.spec.services["web"], good);
    let setback = deployment.setback.as_ref().expect("told");
    assert_eq!(setback.release, 2);
    assert!(setback.why.contains("exited with code 3"), "{setback:?}");
    let release = world.state.releases.get(&(D, 3)).expect("kept");
    assert!(matches!(&release.cause, Cause::RolledBack { to: 1, why } if *why == setback.why));
    // Nobody of the good ones was touched, and the release that is like theirs is good.
    assert_eq!(
        wanted(&world),
        [(1, Desired::Run), (2, Desired::Run), (3, Desired::Remove)]
    );
    assert_eq!((deployment.good, &deployment.rollout), (3, &None));
}

#[test]
fn a_first_release_that_fails_stays_and_says_why() {
    let mut world = world(1);
    up(&mut world, &service(100, 1));
    world.report_state(1, |s| {
        s.state = RunState::Failed;
        s.message = "no such program".into();
    });
    let rollout = deployment(&world).rollout.clone().expect("under way");
    let why = rollout.stuck.expect("stuck");
    assert!(why.contains("no such program"), "{why}");
    assert_eq!(deployment(&world).release, 1);
    // It comes good after all.
    world.runs(1);
    world.pass(4, &[]);
    assert_eq!(deployment(&world).good, 1);
}

#[test]
fn policies_pause_and_continue() {
    for (policy, left) in [(UpdateFailure::Pause, 3), (UpdateFailure::Continue, 4)] {
        let (mut world, mut web) = two_good(3);
        web.update.on_failure = policy;
        web.stop_grace_ms = 1;
        up(&mut world, &web);
        world.report_state(3, |s| s.state = RunState::Failed);
        world.pass(5, &[]);
        assert_eq!(wanted(&world).len(), left, "{policy:?}");
        assert_eq!(deployment(&world).release, 2);
        let stuck = deployment(&world)
            .rollout
            .as_ref()
            .expect("on")
            .stuck
            .is_some();
        assert_eq!(stuck, policy == UpdateFailure::Pause);
    }
}

#[test]
fn as_many_may_fail_as_the_policy_says() {
    // Of four replicas a quarter is one.
    for (permille, fail, goes_back) in [(0, 1, true), (250, 1, false), (250, 2, true)] {
        let mut world = world(4);
        let mut web = service(500, 4);
        up(&mut world, &web);
        (1..=4).for_each(|n| world.runs(n));
        world.pass(4, &[]);
        assert_eq!(deployment(&world).good, 1);
        web.update.parallelism = 0;
        web.update.failures_permille = permille;
        web.stop_grace_ms = 1;
        up(&mut world, &web);
        (5..=8).skip(fail).for_each(|n| world.runs(n));
        for n in (5..=8).take(fail) {
            world.report_state(n, |s| s.state = RunState::Failed);
        }
        world.pass(5, &[]);
        let back = deployment(&world).release == 3;
        assert_eq!(back, goes_back, "{permille} {fail}");
        if !goes_back {
            assert_eq!(deployment(&world).good, 2);
        }
    }
}

/// `web` is restarted with `db`, `far` with `web`, `own` with none.
fn with_dependents() -> [(&'static str, ServiceSpec); 4] {
    let after = |other: &str, restart: bool| {
        let mut service = service(100, 1);
        let started = types::DependencyCondition::ServiceStarted;
        service.depends_on.insert(other.into(), started);
        if restart {
            service.restart_with.insert(other.into());
        }
        service
    };
    [
        ("db", service(100, 1)),
        ("far", after("web", true)),
        ("own", after("db", false)),
        ("web", after("db", true)),
    ]
}

/// How often each was started anew, by service.
fn generations(world: &World) -> Vec<(String, u32)> {
    let live = deployment(world).allocations.iter();
    let mut all: Vec<_> = live
        .map(|a| allocation(world, a.0))
        .filter(|a| a.desired == Desired::Run)
        .map(|a| (a.service.clone(), a.generation))
        .collect();
    all.sort();
    all
}

#[test]
fn what_wants_it_is_restarted_with_what_it_depends_on() {
    let counts = |[db, far, own, web]: [u32; 4]| {
        let all = [("db", db), ("far", far), ("own", own), ("web", web)];
        all.map(|(name, n)| (name.to_string(), n)).to_vec()
    };
    let mut world = world(2);
    let mut services = with_dependents();
    world
        .ask(1, deploy(project("p", &services)))
        .expect("deployed");
    (1..=4).for_each(|n| world.runs(n));
    world.pass(4, &[]);
    let restart = |service: &str| {
        crate::Call::Deployment(Call::Restart {
            deployment: D,
            service: Some(service.into()),
        })
    };
    world.ask(1, restart("db")).expect("restarted");
    assert_eq!(generations(&world), counts([1, 1, 0, 1]));
    world.ask(1, restart("web")).expect("restarted");
    assert_eq!(generations(&world), counts([1, 2, 0, 2]));
    world.ask(1, restart("own")).expect("restarted");
    assert_eq!(generations(&world), counts([1, 2, 1, 2]));

    // After an update, once the new one is good, and in place.
    services[0].1.stop_grace_ms = 1;
    world
        .ask(1, deploy(project("p", &services)))
        .expect("deployed");
    let before: Vec<_> = generations(&world).split_off(2);
    assert_eq!(before, counts([0, 2, 1, 2])[1..], "not before it is good");
    world.runs(5);
    world.pass(4, &[]);
    assert_eq!(deployment(&world).good, 2);
    assert_eq!(generations(&world), counts([0, 3, 1, 3]));
    world.pass(4, &[]);
    assert_eq!(generations(&world), counts([0, 3, 1, 3]), "once");

    // What changed itself has begun anew anyway, and a change of nobody restarts nobody.
    services[0].1.stop_grace_ms = 2;
    services[3].1.stop_grace_ms = 2;
    world
        .ask(1, deploy(project("p", &services)))
        .expect("deployed");
    (6..=7).for_each(|n| world.runs(n));
    world.pass(4, &[]);
    assert_eq!(deployment(&world).good, 3);
    assert_eq!(generations(&world), counts([0, 4, 1, 0]));
    services[3].1.restart_with.clear();
    world
        .ask(1, deploy(project("p", &services)))
        .expect("deployed");
    world.pass(4, &[]);
    assert_eq!(deployment(&world).good, 4);
    assert_eq!(generations(&world), counts([0, 4, 1, 0]));
}

#[test]
fn stop_first_and_named_volumes_end_before_they_begin() {
    for stateful in [false, true] {
        let mut world = world(3);
        let mut web = service(1000, 1);
        if stateful {
            web = with_volume(web);
        } else {
            web.update.order = UpdateOrder::StopFirst;
        }
        let mut spec = project("p", &[("web", web.clone())]);
        spec.volumes
            .insert("data".into(), types::VolumeSpec::default());
        world.ask(1, deploy(spec.clone())).expect("deployed");
        world.runs(1);
        world.pass(4, &[]);
        web.stop_grace_ms = 1;
        spec.services.insert("web".into(), web);
        world.ask(1, deploy(spec)).expect("deployed");
        assert_eq!(wanted(&world), [(1, Desired::Remove)]);
        world.pass(2, &[]);
        assert_eq!(wanted(&world).len(), 1, "it has not ended yet");
        world.ends(1);
        assert_eq!(wanted(&world), [(2, Desired::Run)]);
        if stateful {
            assert_eq!(who(&world, 2), who(&world, 1));
        }
    }
}

#[test]
fn what_has_no_room_beside_its_predecessor_takes_its_place() {
    let mut world = world(1);
    let mut web = service(3000, 1);
    up(&mut world, &web);
    world.runs(1);
    world.pass(4, &[]);
    web.stop_grace_ms = 1;
    up(&mut world, &web);
    assert_eq!(wanted(&world), [(1, Desired::Remove)]);
    world.ends(1);
    assert_eq!(wanted(&world), [(2, Desired::Run)]);
    // What would not even fit then is refused, and the old one serves on.
    world.runs(2);
    world.pass(4, &[]);
    web.resources.cpu_millis = 5000;
    let spec = project("p", &[("web", web)]);
    world.ask(1, deploy(spec)).expect_err("too large");
    assert_eq!(wanted(&world), [(2, Desired::Run)]);
}

#[test]
fn replicas_of_a_silent_host_get_other_places() {
    let (mut world, _) = two_good(3);
    let lost = who(&world, 1);
    world.pass(3, &[lost]);
    assert_eq!(wanted(&world).len(), 2, "not yet");
    world.pass(1, &[lost]);
    assert_eq!(wanted(&world).len(), 3);
    let new = who(&world, 3);
    assert_ne!(new, lost);
    assert_ne!(new, who(&world, 2), "still on distinct hosts");
    world.runs(3);
    world.pass(4, &[lost]);
    assert_eq!(wanted(&world), [(2, Desired::Run), (3, Desired::Run)]);
    assert!(allocation(&world, 1).closed);
    // It is back: nothing is its own any more, and nothing new comes for a while.
    world.pass(1, &[]);
    assert!(world.state.hosts.get(&id(lost)).expect("there").online);
    assert!(
        !world
            .state
            .index
            .fleet
            .get(&id(lost))
            .expect("there")
            .available
    );
    world.pass(11, &[]);
    assert!(
        world
            .state
            .index
            .fleet
            .get(&id(lost))
            .expect("there")
            .available
    );
}

#[test]
fn a_host_that_is_soon_back_keeps_what_it_has() {
    let (mut world, _) = two_good(3);
    let lost = who(&world, 1);
    world.pass(4, &[lost]);
    assert_eq!(wanted(&world).len(), 3);
    world.pass(1, &[]);
    assert_eq!(
        wanted(&world),
        [(1, Desired::Run), (2, Desired::Run), (3, Desired::Remove)]
    );
}

#[test]
fn a_host_that_flaps_waits_longer_each_time() {
    let (mut world, _) = two_good(3);
    let lost = who(&world, 1);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        world.pass(4, &[lost]);
        world.pass(1, &[]);
        let host = world.state.hosts.get(&id(lost)).expect("there");
        pauses.push((host.trusted_ms - world.state.time_ms()) / 1000);
    }
    assert_eq!(pauses, [10, 20, 40]);
}

/// A replica without a place serves nobody.
#[test]
fn a_host_on_trial_is_taken_where_nothing_else_fits() {
    let (mut world, _) = two_good(3);
    let lost = who(&world, 1);
    for _ in 0..4 {
        world.pass(4, &[lost]);
        world.pass(1, &[]);
    }
    let trial = |world: &World| {
        let host = world.state.hosts.get(&id(lost)).expect("there");
        host.trusted_ms > world.state.time_ms() + 30_000
    };
    assert!(trial(&world));
    for host in (0..=255).filter(|n| *n != lost) {
        if world.state.hosts.get(&id(host)).is_some() {
            let drain = crate::host::Call::Drain {
                host: id(host),
                draining: true,
            };
            world.ask(host, crate::Call::Host(drain)).expect("drains");
        }
    }
    assert!(trial(&world));
    let all = wanted(&world).into_iter();
    let there: Vec<_> = all.filter(|(n, _)| who(&world, *n) == lost).collect();
    assert!(!there.is_empty(), "{:?}", wanted(&world));
}

#[test]
fn what_has_its_data_on_a_silent_host_waits_for_it() {
    let mut world = world(2);
    let mut spec = project("p", &[("db", with_volume(service(1000, 1)))]);
    spec.volumes
        .insert("data".into(), types::VolumeSpec::default());
    world.ask(1, deploy(spec)).expect("deployed");
    world.runs(1);
    world.pass(4, &[]);
    let lost = who(&world, 1);
    world.pass(4, &[lost]);
    assert_eq!(wanted(&world), [(1, Desired::Run)]);
    let unplaced = &deployment(&world).unplaced;
    assert_eq!(unplaced.len(), 1);
    assert!(unplaced[0].why.contains("is silent"), "{unplaced:?}");
    world.pass(20, &[lost]);
    assert_eq!(deployment(&world).unplaced.len(), 1);
    world.pass(1, &[]);
    assert_eq!(deployment(&world).unplaced, []);
    assert_eq!(wanted(&world), [(1, Desired::Run)]);
}

#[test]
fn what_fits_nowhere_is_said_once_and_tried_again() {
    let mut world = world(2);
    let web = service(3000, 2);
    up(&mut world, &web);
    world.runs(1);
    world.runs(2);
    world.pass(4, &[]);
    let lost = who(&world, 1);
    let mut said = 0;
    for _ in 0..12 {
        world.pass(1, &[lost]);
        said += events(&world)
            .iter()
            .filter(|e| matches!(e, Event::Unplaced { .. }))
            .count();
    }
    assert_eq!(said, 1);
    assert!(deployment(&world).unplaced[0].why.contains("no host fits"));
    world
        .ask(20, crate::Call::Host(registration(20, 4000)))
        .expect("a third");
    world.pass(6, &[lost]);
    assert_eq!(deployment(&world).unplaced, []);
    assert_eq!(who(&world, 3), 20);
}

#[test]
fn draining_moves_everything_before_anything_ends() {
    let (mut world, _) = two_good(3);
    let from = who(&world, 1);
    let drain = |draining| {
        crate::Call::Host(host::Call::Drain {
            host: id(from),
            draining,
        })
    };
    world.ask(1, drain(true)).expect_err("not its owner");
    world.ask(from, drain(true)).expect("drains");
    assert_eq!(wanted(&world).len(), 3);
    assert_ne!(who(&world, 3), from);
    assert_eq!(wanted(&world)[0], (1, Desired::Run));
    world.runs(3);
    world.pass(3, &[]);
    assert_eq!(wanted(&world)[0], (1, Desired::Drain));
    world.pass(3, &[]);
    world.ends(1);
    let leave = crate::Call::Host(host::Call::Leave);
    world.ask(from, leave).expect("nothing is left there");
}

/// Blocks that stop say nothing about hosts.
#[test]
fn nobody_is_lost_when_the_ledger_itself_was_down() {
    let (mut world, _) = two_good(3);
    world.block(600_000, &[]);
    world.pass(2, &[]);
    assert!(world.state.hosts.iter().all(|(_, h)| h.online));
    assert_eq!(wanted(&world).len(), 2);
    // Who does not speak up then is lost.
    let lost = who(&world, 1);
    world.block(600_000, &[]);
    world.pass(5, &[lost]);
    assert!(!world.state.hosts.get(&id(lost)).expect("there").online);
}

#[test]
fn an_owner_rolls_back() {
    let (mut world, first) = two_good(3);
    let mut second = first.clone();
    second.replicas = 1;
    up(&mut world, &second);
    let back = |release| {
        crate::Call::Deployment(Call::Rollback {
            deployment: D,
            release,
        })
    };
    world.ask(2, back(None)).expect_err("not the owner");
    world.ask(1, back(Some(9))).expect_err("there is none");
    world.ask(1, back(Some(1))).expect("rolled back");
    assert_eq!(deployment(&world).release, 3);
    assert_eq!(deployment(&world).spec.services["web"], first);
}

#[test]
fn old_releases_are_forgotten_but_for_the_last_good_one() {
    let mut world = world(1);
    let mut web = service(10, 1);
    up(&mut world, &web);
    world.runs(1);
    world.pass(4, &[]);
    for replicas in (2..40).map(|n| 1 + n % 2) {
        web.replicas = replicas;
        up(&mut world, &web);
        world.pass(1, &[]);
    }
    let kept: Vec<u32> = world.state.releases_of(D).map(|(n, _)| n).collect();
    assert!(kept.len() < 30, "{kept:?}");
    assert_eq!(kept.first(), Some(&1));
}

fn stop(world: &mut World) {
    let stop = crate::Call::Deployment(Call::SetRunning {
        deployment: D,
        service: None,
        running: false,
    });
    world.ask(1, stop).expect("stopped");
}

#[test]
fn what_is_stopped_beside_its_successor_keeps_one_place() {
    let (mut world, _) = two_good(3);
    let lost = who(&world, 1);
    world.pass(4, &[lost]);
    assert_eq!(wanted(&world).len(), 3, "a successor stands by");
    stop(&mut world);
    assert_eq!(wanted(&world), [(2, Desired::Stop), (3, Desired::Stop)]);
}

/// Replicas that were stopped stay where they are and as they are.
#[test]
fn what_is_stopped_is_left_alone() {
    let (mut world, _) = two_good(3);
    stop(&mut world);
    let lost = who(&world, 1);
    world.pass(10, &[lost]);
    assert_eq!(wanted(&world), [(1, Desired::Stop), (2, Desired::Stop)]);
}

#[test]
fn replicas_are_spread_over_regions_if_asked_for() {
    let regions = ["a", "a", "a", "a", "b", "b"];
    let mut world = World::new(Params::dev());
    for (who, region) in (10..).zip(regions) {
        let mut call = registration(who, 4000);
        if let host::Call::Register { offer, .. } = &mut call {
            offer.region = region.into();
        }
        world.ask(who, crate::Call::Host(call)).expect("registered");
    }
    let mut web = service(100, 4);
    web.placement.spread_regions = true;
    up(&mut world, &web);
    let region = |n| regions[usize::from(who(&world, n)) - 10];
    let in_b = (1..=4).filter(|n| region(*n) == "b").count();
    assert_eq!(in_b, 2);
}

#[test]
fn a_release_comes_back_as_its_rollback_policy_says() {
    let mut world = world(3);
    let mut web = service(100, 3);
    web.rollback = Some(types::UpdatePolicy {
        parallelism: 0,
        ..web.update
    });
    up(&mut world, &web);
    (1..=3).for_each(|n| world.runs(n));
    world.pass(4, &[]);
    let mut other = web.clone();
    other.command = Some(vec!["other".into()]);
    up(&mut world, &other);
    let of = |world: &World, release| {
        let live = deployment(world).allocations.iter();
        live.filter(|a| allocation(world, a.0).release == release)
            .count()
    };
    assert_eq!(of(&world, 2), 1);
    for next in 4..=6 {
        world.runs(next);
        world.pass(6, &[]);
    }
    assert_eq!(of(&world, 2), 3);
    let back = crate::Call::Deployment(Call::Rollback {
        deployment: D,
        release: Some(1),
    });
    world.ask(1, back).expect("rolled back");
    assert_eq!(of(&world, 3), 3);
}

/// Its host could not make it ready.
fn fails(world: &mut World, n: u64) {
    world.report_state(n, |s| {
        s.state = RunState::Failed;
        s.message = "the image cannot be had".into();
    });
}

fn live(world: &World) -> Vec<u64> {
    let all = wanted(world).into_iter();
    all.filter(|(_, desired)| *desired == Desired::Run)
        .map(|(n, _)| n)
        .collect()
}

#[test]
fn what_a_host_could_not_start_is_tried_on_each_other_host_ever_later() {
    let mut world = world(3);
    up(&mut world, &service(100, 1));
    let mut on = Vec::new();
    for (n, pause) in [(1, 30), (2, 60), (3, 120), (4, 240)] {
        on.push(who(&world, n));
        fails(&mut world, n);
        world.pass(pause - 1, &[]);
        assert_eq!(live(&world), [n], "not before {pause} s");
        while live(&world) == [n] {
            world.pass(1, &[]);
        }
        let told = events(&world).into_iter().find_map(|e| match e {
            Event::TriedAgain { times, why, .. } => Some((u64::from(*times), why.as_str())),
            _ => None,
        });
        let why = "could not be started: the image cannot be had";
        assert_eq!(told, Some((n, why)));
        assert_eq!(live(&world), [n + 1]);
        world.ends(n);
    }
    let reason = &allocation(&world, 3).reason;
    let dropped = |rule: &str| {
        reason
            .dropped
            .iter()
            .find(|d| d.rule == rule)
            .map(|d| d.hosts)
    };
    assert_eq!(dropped("tried in vain"), Some(2), "{reason:?}");
    assert_eq!(dropped("replicas per host"), None, "{reason:?}");
    on[..3].sort();
    assert_eq!(
        on[..3],
        [10, 11, 12],
        "each once, before any is tried again"
    );
    let tried = &deployment(&world).tried[0];
    assert_eq!((tried.times, tried.hosts.len()), (4, 3));
    // A good one ends it, and the release is good.
    world.runs(5);
    world.pass(4, &[]);
    assert_eq!(deployment(&world).tried, []);
    assert_eq!(deployment(&world).good, 1);
}

#[test]
fn the_only_host_tries_again() {
    let mut world = world(1);
    up(&mut world, &service(4000, 1));
    fails(&mut world, 1);
    world.pass(31, &[]);
    world.ends(1);
    world.pass(6, &[]);
    assert_eq!(live(&world), [2], "though it has room for one only");
}

#[test]
fn what_was_not_ready_for_ten_minutes_is_tried_elsewhere() {
    let mut world = world(2);
    up(&mut world, &service(100, 1));
    world.report_state(1, |s| {
        s.message = "no route to the registry; trying again".into()
    });
    world.pass(590, &[]);
    assert_eq!(live(&world), [1]);
    world.pass(60, &[]);
    assert_eq!(live(&world), [2]);
    assert_ne!(who(&world, 1), who(&world, 2));
}

#[test]
fn who_ran_or_keeps_data_or_replaces_is_not_tried_elsewhere() {
    type Change = fn(&mut ServiceSpec);
    let plain: Change = |_| {};
    let ended: fn(&mut World) = |world| {
        world.report_state(1, |s| {
            s.state = RunState::Exited;
            s.exit_code = Some(1);
        });
    };
    let cut_off: fn(&mut World) = |world| {
        world.runs(1);
        fails(world, 1);
    };
    let failed: fn(&mut World) = |world| fails(world, 1);
    let keeps: Change = |web| *web = with_volume(web.clone());
    for (what, change, happens) in [
        ("ended by itself", plain, ended),
        ("used more than it may", plain, cut_off),
        ("keeps data", keeps, failed),
    ] {
        let mut world = world(3);
        let mut web = service(100, 1);
        change(&mut web);
        let mut spec = project("p", &[("web", web.clone())]);
        if !web.mounts.is_empty() {
            spec.volumes
                .insert("data".into(), types::VolumeSpec::default());
        }
        world.ask(1, deploy(spec)).expect("deployed");
        happens(&mut world);
        world.pass(120, &[]);
        assert_eq!(live(&world), [1], "{what}");
    }
    // A release that fails while there is an earlier one: by its policy.
    let (mut world, mut web) = two_good(3);
    web.update.on_failure = UpdateFailure::Pause;
    web.stop_grace_ms = 1;
    up(&mut world, &web);
    fails(&mut world, 3);
    world.pass(120, &[]);
    assert_eq!(live(&world), [1, 2, 3]);
}
