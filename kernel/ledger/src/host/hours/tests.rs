use types::{AllocationId, AllocationStatus, DeploymentId, MountSource, MountSpec, RunState};

use super::*;
use crate::deployment::Deployment;
use crate::host::Call;
use crate::lease::{Call as Lease, Desired};
use crate::world::{World, deploy, id, line, project, registration, report, service};
use crate::{Params, RejectKind};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// The world begins on a Thursday, at 0:16. Closed for an hour from one on.
const PAUSE: &str = "mon-wed 0-24, thu 0-1 2-24, fri-sun 0-24";

fn hours(text: &str) -> Hours {
    text.parse().expect(text)
}

fn say(world: &mut World, who: u8, host: u8, text: Option<&str>) -> Result<(), RejectKind> {
    let call = Call::SetHours {
        host: id(host),
        hours: text.map(hours),
    };
    world.ask(who, crate::Call::Host(call)).map_err(|r| r.kind)
}

fn until(world: &mut World, ms: u64) {
    world.block(ms - world.state.time_ms(), &[]);
}

fn host(world: &World, who: u8) -> &Host {
    world.state.hosts.get(&id(who)).expect("there")
}

fn told(world: &World) -> Vec<&Event> {
    let all = world.events.iter();
    all.filter_map(|e| match e {
        crate::Event::Host(event) => Some(event),
        _ => None,
    })
    .collect()
}

fn deployment(world: &World) -> &Deployment {
    let known = world.state.deployments.get(&DeploymentId(1));
    known.expect("there")
}

/// Allocation, host, what is wanted of it.
fn placed(world: &World) -> Vec<(u64, u8, Desired)> {
    let live = deployment(world).allocations.iter();
    live.map(|n| {
        let a = world.state.allocations.get(n).expect("there");
        let who = (0..=255).find(|who| id(*who) == a.host).expect("ours");
        (n.0, who, a.desired)
    })
    .collect()
}

fn stateful() -> types::ServiceSpec {
    let mut db = service(500, 1);
    db.mounts.push(MountSpec {
        source: MountSource::Volume("data".into()),
        target: "/data".into(),
        read_only: false,
    });
    db
}

/// Hosts 10 and up, of which the one that runs the service pauses at one.
fn pausing(hosts: u8, spec: types::ServiceSpec) -> (World, u8) {
    let mut world = World::new(Params::dev());
    for who in 10..10 + hosts {
        world.host(who, 4_000);
    }
    let mut project = project("p", &[("web", spec)]);
    project.volumes.insert("data".into(), Default::default());
    world.ask(1, deploy(project)).expect("deployed");
    world.runs(1);
    world.pass(4, &[]);
    let from = placed(&world)[0].1;
    say(&mut world, from, from, Some(PAUSE)).expect("set");
    (world, from)
}

#[test]
fn a_week_is_looked_at_when_it_turns_and_before() {
    for (text, now, seen) in [
        (Some(PAUSE), 0, (false, false, 50 * MINUTE)),
        (Some(PAUSE), 50 * MINUTE - 1, (false, false, 50 * MINUTE)),
        (Some(PAUSE), 50 * MINUTE, (false, true, HOUR)),
        (Some(PAUSE), HOUR, (true, false, 2 * HOUR)),
        (Some(PAUSE), 2 * HOUR, (false, false, 169 * HOUR - LEAD_MS)),
        (Some("mon-sun 0-24"), 0, (false, false, 0)),
        (None, 0, (false, false, 0)),
    ] {
        let hours = text.map(hours);
        assert_eq!(gate(hours.as_ref(), now), seen, "{text:?} {now}");
    }
}

#[test]
fn the_host_and_its_owner_say_its_hours_and_nobody_else() {
    let mut world = World::new(Params::dev());
    let Call::Register {
        name,
        address,
        offer,
        machine,
        ..
    } = registration(10, 4_000)
    else {
        panic!("another call");
    };
    let owned = Call::Register {
        name,
        address,
        offer,
        machine,
        owner: id(1),
        invitation: None,
    };
    world.ask(10, crate::Call::Host(owned)).expect("joined");
    let refused = say(&mut world, 2, 10, Some(PAUSE));
    assert_eq!(refused, Err(RejectKind::Forbidden));
    let refused = say(&mut world, 1, 11, Some(PAUSE));
    assert_eq!(refused, Err(RejectKind::NotFound));
    assert_eq!(host(&world, 10).hours, None);
    for (who, text) in [(1, Some(PAUSE)), (10, Some("mon 0-1")), (1, None)] {
        say(&mut world, who, 10, text).expect("set");
        assert_eq!(host(&world, 10).hours, text.map(hours));
        let said = Event::HostHours {
            host: id(10),
            hours: text.map(hours),
        };
        assert!(told(&world).contains(&&said));
    }
    // An agent that starts anew does not change them.
    say(&mut world, 1, 10, Some(PAUSE)).expect("set");
    let mut again = registration(10, 4_000);
    if let Call::Register { owner, .. } = &mut again {
        *owner = id(1);
    }
    world.ask(10, crate::Call::Host(again)).expect("again");
    assert_eq!(host(&world, 10).hours, Some(hours(PAUSE)));
}

#[test]
fn what_runs_moves_when_its_host_closes_and_work_comes_when_it_opens() {
    let (mut world, from) = pausing(2, service(500, 1));
    let other = 21 - from;
    assert!(!host(&world, from).closed && !host(&world, from).closing);
    let wish = |name: &str| deploy(project(name, &[("a", service(100, 1))]));
    // Soon it closes: nothing new, though its neighbour has less room.
    until(&mut world, 51 * MINUTE);
    assert!(host(&world, from).closing && !host(&world, from).closed);
    world.pass(1, &[]);
    world.ask(2, wish("soon")).expect("deployed");
    world.runs(2);
    assert_eq!(world.state.allocations_on(&id(from)).count(), 1);
    assert_eq!(placed(&world), [(1, from, Desired::Run)]);
    until(&mut world, HOUR);
    let closed = Event::HostClosed {
        host: id(from),
        until_ms: 2 * HOUR,
    };
    assert!(told(&world).contains(&&closed), "{:?}", told(&world));
    assert!(host(&world, from).closed && !host(&world, from).draining);
    // The successor first; the old one goes once it is good.
    assert_eq!(
        placed(&world),
        [(1, from, Desired::Run), (3, other, Desired::Run)]
    );
    world.runs(3);
    world.pass(6, &[]);
    world.ends(1);
    assert_eq!(placed(&world), [(3, other, Desired::Run)]);
    assert_eq!(world.state.allocations_on(&id(from)).count(), 0);
    until(&mut world, 2 * HOUR);
    let opened = Event::HostOpened {
        host: id(from),
        until_ms: Some(169 * HOUR),
        missed_ms: None,
    };
    assert!(told(&world).contains(&&opened), "{:?}", told(&world));
    // What has moved stays, what is new may come.
    world.pass(1, &[]);
    assert_eq!(placed(&world), [(3, other, Desired::Run)]);
    world.ask(2, wish("later")).expect("deployed");
    assert_eq!(world.state.allocations_on(&id(from)).count(), 1);
}

#[test]
fn what_fits_nowhere_else_runs_on_and_stays_when_it_opens() {
    let (mut world, from) = pausing(1, service(500, 1));
    until(&mut world, HOUR);
    assert_eq!(placed(&world), [(1, from, Desired::Run)]);
    assert_eq!(deployment(&world).unplaced.len(), 1, "it is said");
    world.host(30, 4_000);
    world.pass(6, &[]);
    assert_eq!(placed(&world)[1].1, 30, "a host has come");
    // It opens before the successor is good: that one goes.
    until(&mut world, 2 * HOUR);
    world.pass(10, &[]);
    assert_eq!(placed(&world)[0], (1, from, Desired::Run));
    assert_eq!(deployment(&world).unplaced, []);
}

#[test]
fn what_has_its_data_there_stays_and_its_release_waits() {
    let (mut world, from) = pausing(2, stateful());
    until(&mut world, HOUR);
    world.pass(6, &[]);
    assert_eq!(placed(&world), [(1, from, Desired::Run)]);
    assert_eq!(deployment(&world).unplaced, [], "nobody is alarmed");
    let mut next = project("p", &[("web", stateful())]);
    next.volumes.insert("data".into(), Default::default());
    next.services.get_mut("web").expect("there").pids += 1;
    let refused = world.ask(1, deploy(next.clone())).expect_err("later");
    assert_eq!(refused.kind, RejectKind::NoHost);
    let until_words = "outside its hours until Thu 02:00 UTC";
    assert!(refused.why.ends_with(until_words), "{}", refused.why);
    until(&mut world, 2 * HOUR);
    world.pass(1, &[]);
    world.ask(1, deploy(next)).expect("deployed");
    world.pass(1, &[]);
    world.ends(1);
    world.pass(1, &[]);
    let homes: Vec<u8> = placed(&world).iter().map(|(_, who, _)| *who).collect();
    assert_eq!(homes, [from]);
}

#[test]
fn a_drain_by_hand_and_hours_do_not_undo_each_other() {
    let (mut world, from) = pausing(2, service(500, 1));
    let drain = |draining| {
        crate::Call::Host(Call::Drain {
            host: id(from),
            draining,
        })
    };
    world.ask(from, drain(true)).expect("drains");
    until(&mut world, HOUR);
    until(&mut world, 2 * HOUR);
    let now = host(&world, from);
    assert!(now.draining && !now.closed);
    let free = |world: &World| {
        let fleet = &world.state.index.fleet;
        fleet.get(&id(from)).expect("known").available
    };
    assert!(!free(&world));
    world.ask(from, drain(false)).expect("no more");
    assert!(free(&world));
    // Closed, no drain opens it; without hours it is open at once.
    say(&mut world, from, from, Some("mon 0-1")).expect("set");
    world.ask(from, drain(false)).expect("nothing to undo");
    assert!(host(&world, from).closed && !free(&world));
    say(&mut world, from, from, None).expect("always");
    assert!(free(&world));
    let opened = Event::HostOpened {
        host: id(from),
        until_ms: None,
        missed_ms: None,
    };
    assert!(told(&world).contains(&&opened));
}

/// It goes dark with somebody else's data on it.
fn silences(said_ms: u64, dark_ms: u64) -> u64 {
    let (mut world, from) = pausing(1, stateful());
    say(&mut world, from, from, None).expect("always");
    until(&mut world, said_ms);
    say(&mut world, from, from, Some(PAUSE)).expect("set");
    until(&mut world, dark_ms);
    world.pass(40, &[from]);
    assert!(!host(&world, from).online);
    host(&world, from).record.silent_ms
}

#[test]
fn who_is_away_outside_his_hours_loses_no_name_by_it() {
    let week = 168 * HOUR;
    // Said long before, and dark while it is closed.
    assert_eq!(silences(20 * MINUTE, week + HOUR + MINUTE), 0);
    // Dark while it should be there.
    assert!(silences(20 * MINUTE, week + 3 * HOUR) > 0);
    // Said when the machine was about to go.
    assert!(silences(HOUR - 2 * MINUTE, HOUR + MINUTE) > 0);
}

#[test]
fn who_is_away_outside_his_hours_is_missed_when_they_begin() {
    let week = 168 * HOUR;
    let (mut world, from) = pausing(1, stateful());
    until(&mut world, week + HOUR + MINUTE);
    while host(&world, from).online {
        world.pass(1, &[from]);
    }
    let excuse = |event: &Event| match event {
        Event::HostOffline { excused, .. } => Some(*excused),
        _ => None,
    };
    assert_eq!(told(&world).into_iter().find_map(excuse), Some(true));
    until(&mut world, week + 2 * HOUR);
    let missed = |event: &Event| match event {
        Event::HostOpened { missed_ms, .. } => *missed_ms,
        _ => None,
    };
    let missed = told(&world).into_iter().find_map(missed);
    assert_eq!(missed, Some(world.state.time_ms()));
}

#[test]
fn a_report_counts_as_late_from_when_the_host_should_have_been_there() {
    for (at_ms, late) in [
        (HOUR + 50 * MINUTE, false),
        (2 * HOUR + 5_000, false),
        (2 * HOUR + 50 * MINUTE, true),
    ] {
        let week = 168 * HOUR;
        let (mut world, from) = pausing(1, stateful());
        // Blocks go on, so that silence is the host's own.
        until(&mut world, week + HOUR + MINUTE);
        world.pass(40, &[from]);
        assert!(!host(&world, from).online);
        let quiet = world.state.globals.awake_ms;
        until(&mut world, week + at_ms);
        world.state.globals.awake_ms = quiet;
        let known = world
            .state
            .allocations
            .get(&AllocationId(1))
            .expect("there");
        let (usage, sequence) = (known.usage, known.sequence + 1);
        let until_ms = known.settled_ms + 1_000;
        let interval = host(&world, from).interval + 1;
        let lines = vec![line(1, sequence, until_ms, usage)];
        world.ask(from, report(interval, lines)).expect("settled");
        assert_eq!(host(&world, from).record.late_ms > 0, late, "{at_ms}");
    }
}

/// A host that comes and goes leaves nothing behind, and an hour that many missed is made up for.
#[test]
fn what_is_due_follows_the_records() {
    let (mut world, from) = pausing(2, service(500, 1));
    let due = |world: &World| world.state.index.turns.clone();
    assert_eq!(due(&world).len(), 1);
    assert_eq!(
        due(&world),
        crate::State::load(&world.state.save())
            .expect("loads")
            .index
            .turns
    );
    // Blocks that stop for a month.
    until(&mut world, 31 * 24 * HOUR);
    assert_eq!(due(&world).len(), 1);
    assert!(
        due(&world)
            .iter()
            .all(|(at, _)| *at > world.state.time_ms())
    );
    world
        .ask(from, crate::Call::Host(Call::Heartbeat))
        .expect("there");
    let remove = crate::deployment::Call::Remove {
        deployment: DeploymentId(1),
        volumes: true,
    };
    world
        .ask(1, crate::Call::Deployment(remove))
        .expect("removed");
    let gone = AllocationStatus {
        state: RunState::Removed,
        ..AllocationStatus::default()
    };
    let open: Vec<u64> = world
        .state
        .allocations_on(&id(from))
        .map(|(id, _)| id.0)
        .collect();
    for n in open {
        world.ends(n);
        let statuses = vec![(AllocationId(n), gone.clone())];
        let call = Lease::ReportStatus { plan: 0, statuses };
        let _ = world.ask(from, crate::Call::Lease(call));
    }
    world
        .ask(from, crate::Call::Host(Call::Leave))
        .expect("left");
    assert_eq!(due(&world).len(), 0);
}
