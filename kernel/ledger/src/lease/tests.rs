use types::{AllocationId, AllocationStatus, HostId, RunState};

use super::Call;
use crate::world::{World, deploy, id, project, service};
use crate::{Params, RejectKind, Rejection, lease};

fn status(world: &mut World, who: u8, status: AllocationStatus) -> Result<(), Rejection> {
    let call = Call::ReportStatus {
        plan: 0,
        statuses: vec![(AllocationId(1), status)],
    };
    world.ask(who, crate::Call::Lease(call))
}

fn running(address: [u8; 4]) -> AllocationStatus {
    AllocationStatus {
        state: RunState::Running,
        pid: 7,
        addresses: [("default".to_string(), address)].into(),
        ..AllocationStatus::default()
    }
}

/// Two hosts, one allocation; the host that has it and the one that has not.
fn world() -> (World, u8, u8) {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    world.host(11, 2000);
    world
        .ask(1, deploy(project("p", &[("a", service(500, 1))])))
        .expect("deployed");
    let host = world
        .state
        .allocations
        .get(&AllocationId(1))
        .map(|a| a.host);
    let (has, other) = if host == Some(id(10)) {
        (10, 11)
    } else {
        (11, 10)
    };
    (world, has, other)
}

fn plan(world: &World, host: HostId) -> u64 {
    world.state.hosts.get(&host).expect("there").plan
}

#[test]
fn only_its_host_speaks_for_an_allocation() {
    let (mut world, has, other) = world();
    let good = running([10, 0, 0, 2]);
    let refused = status(&mut world, other, good.clone()).expect_err("another's");
    assert_eq!(refused.kind, RejectKind::Forbidden);
    assert!(status(&mut world, 1, good.clone()).is_err(), "not a host");
    status(&mut world, has, good).expect("its own");
    let unknown = Call::ReportStatus {
        plan: 0,
        statuses: vec![(AllocationId(99), AllocationStatus::default())],
    };
    let refused = world
        .ask(has, crate::Call::Lease(unknown))
        .expect_err("unknown");
    assert_eq!(refused.kind, RejectKind::NotFound);
}

#[test]
fn a_status_is_sane() {
    let (mut world, has, _) = world();
    // Gateways and peers connect to these: never to themselves or to everyone.
    for address in [
        [0; 4],
        [127, 0, 0, 1],
        [169, 254, 169, 254],
        [224, 0, 0, 1],
        [255; 4],
    ] {
        let refused = status(&mut world, has, running(address)).expect_err("not an address");
        assert_eq!(refused.kind, RejectKind::Invalid);
    }
    let removed = AllocationStatus {
        state: RunState::Removed,
        ..AllocationStatus::default()
    };
    let refused = status(&mut world, has, removed).expect_err("nobody asked");
    assert_eq!(refused.kind, RejectKind::Invalid);
    let chatty = AllocationStatus {
        message: "x".repeat(401),
        ..AllocationStatus::default()
    };
    assert!(status(&mut world, has, chatty).is_err());
    let ahead = Call::ReportStatus {
        plan: u64::MAX,
        statuses: Vec::new(),
    };
    assert!(world.ask(has, crate::Call::Lease(ahead)).is_err());
}

#[test]
fn plans_and_routes_change_with_what_peers_see_and_only_then() {
    let (mut world, has, other) = world();
    let (before, aside) = (plan(&world, id(has)), plan(&world, id(other)));
    status(&mut world, has, running([10, 0, 0, 2])).expect("taken");
    assert_eq!(plan(&world, id(has)), before + 1);
    assert_eq!(plan(&world, id(other)), aside);
    assert_eq!(world.state.globals.routes_height, world.state.height());
    let quiet = AllocationStatus {
        pid: 8,
        message: "pulled".into(),
        ..running([10, 0, 0, 2])
    };
    status(&mut world, has, quiet.clone()).expect("taken");
    assert_eq!(plan(&world, id(has)), before + 1);
    assert!(world.state.globals.routes_height < world.state.height());
    // The same again is no news at all.
    let events = world.events.len();
    status(&mut world, has, quiet).expect("taken");
    assert_eq!((events, world.events.len()), (1, 0));
}

#[test]
fn a_closed_lease_is_shown_as_removed() {
    let (mut world, has, _) = world();
    status(&mut world, has, running([10, 0, 0, 2])).expect("taken");
    let remove = crate::deployment::Call::Remove {
        deployment: types::DeploymentId(1),
        volumes: false,
    };
    world
        .ask(1, crate::Call::Deployment(remove))
        .expect("removed");
    let mut last = crate::world::line(1, 1, world.state.time_ms(), Default::default());
    last.last = true;
    world
        .ask(has, crate::world::report(1, vec![last.clone()]))
        .expect("ended");
    let closed = world.state.allocations.get(&AllocationId(1)).expect("kept");
    assert!(closed.closed);
    assert_eq!(closed.status.state, RunState::Removed);
    assert_eq!(closed.status.pid, 0);
    assert!(closed.status.addresses.is_empty());
    // Late words about it change nothing; late usage is refused.
    status(&mut world, has, running([10, 0, 0, 2])).expect("passed over");
    last.sequence = 2;
    assert!(world.ask(has, crate::world::report(2, vec![last])).is_err());
    let still = world.state.allocations.get(&AllocationId(1)).expect("kept");
    assert_eq!(still.status.state, RunState::Removed);
    let _: &lease::Allocation = still;
}
