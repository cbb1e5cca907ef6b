use types::{AllocationId, Amount, CREDIT, DeploymentId, Usage};

use crate::deployment::{Deployment, Funding};
use crate::lease::Desired;
use crate::world::{World, deploy, id, line, project, report, service};
use crate::{Call, Event, Params, Tariff, account, deployment};

/// A quarter of a core costs a quarter of a credit a second; escrow is for 20 seconds.
fn dear() -> World {
    let mut params = Params::dev();
    params.tariff = Tariff {
        cpu: Amount::credits(1),
        ..Tariff::FIXED
    };
    params.escrow_target_ms = 20_000;
    params.alert_ms = 200_000;
    params.host_timeout_ms = 1_000_000_000;
    let mut world = World::new(params);
    world.host(10, 2000);
    world
        .ask(1, deploy(project("p", &[("a", service(250, 1))])))
        .expect("deployed");
    world
}

fn pay(world: &mut World, from: u8, to: u8, amount: Amount) {
    let call = account::Call::Transfer {
        to: id(to),
        amount,
        memo: String::new(),
    };
    world.ask(from, Call::Account(call)).expect("paid");
}

fn record(world: &World) -> &Deployment {
    world
        .state
        .deployments
        .get(&DeploymentId(1))
        .expect("there")
}

fn used(world: &World, sequence: u64, seconds: u64) -> Call {
    let usage = Usage {
        cpu_ns: seconds * 250_000_000,
        ..Usage::default()
    };
    let one = line(1, sequence, world.state.time_ms(), usage);
    report(sequence, vec![one])
}

/// What a host was not paid stays due: the sum does not depend on when money was short.
#[test]
fn what_could_not_be_paid_is_paid_after_the_top_up() {
    let mut world = dear();
    let all = world.state.account(&id(1)).spendable;
    pay(&mut world, 1, 2, all);
    let escrow = record(&world).escrow;
    assert!(escrow < Amount::credits(6), "{escrow}");
    world.block(40_000, &[]);
    let call = used(&world, 1, 40);
    world.ask(10, call).expect("settled");
    assert_eq!(world.state.account(&id(10)).spendable, escrow);
    assert_eq!(record(&world).funding, Funding::Frozen);
    assert_eq!(world.state.account(&id(1)).balance(), Amount::ZERO);

    // Less than what is due and five minutes more: it stays frozen, and owes.
    pay(&mut world, 2, 1, Amount::credits(77));
    assert_eq!(record(&world).funding, Funding::Frozen);
    pay(&mut world, 2, 1, Amount::credits(10));
    assert_eq!(record(&world).funding, Funding::Good);
    world.block(1_000, &[]);
    let call = used(&world, 2, 40);
    world.ask(10, call).expect("settled");
    assert_eq!(world.state.account(&id(10)).spendable, Amount(10 * CREDIT));
    assert_eq!(record(&world).charged, Amount(10 * CREDIT));
}

#[test]
fn an_alert_comes_once_and_before_the_freeze() {
    let mut world = dear();
    let mut told = Vec::new();
    let mut second = 0;
    while record(&world).funding != Funding::Frozen {
        second += 10;
        assert!(second < 1_000, "never frozen");
        world.block(9_900, &[]);
        told.extend(world.events.clone());
        let call = used(&world, second / 10, second - 1);
        world.ask(10, call).expect("settled");
        told.extend(world.events.clone());
    }
    let low = |e: &Event| matches!(e, Event::Deployment(deployment::Event::FundsLow { .. }));
    let frozen = |e: &Event| matches!(e, Event::Deployment(deployment::Event::Frozen { .. }));
    assert_eq!(told.iter().filter(|e| low(e)).count(), 1);
    assert!(told.iter().position(low) < told.iter().position(frozen));
    // Everything is kept, and nothing starts until there is money.
    let allocation = world.state.allocations.get(&AllocationId(1)).expect("kept");
    assert!(!allocation.closed);
    let start = deployment::Call::SetRunning {
        deployment: DeploymentId(1),
        service: None,
        running: true,
    };
    let _ = world.ask(1, Call::Deployment(start));
    let allocation = world.state.allocations.get(&AllocationId(1)).expect("kept");
    assert_eq!(allocation.desired, Desired::Freeze);
}

#[test]
fn removal_pays_what_was_used_and_returns_the_rest() {
    let mut world = dear();
    let before = world.state.account(&id(1)).balance();
    world.block(10_000, &[]);
    let remove = deployment::Call::Remove {
        deployment: DeploymentId(1),
        volumes: false,
    };
    world.ask(1, Call::Deployment(remove)).expect("removed");
    let usage = Usage {
        cpu_ns: 2_500_000_000,
        ..Usage::default()
    };
    let mut last = line(1, 1, world.state.time_ms(), usage);
    last.last = true;
    world.ask(10, report(1, vec![last])).expect("settled");
    let account = world.state.account(&id(1));
    assert_eq!(account.held, Amount::ZERO);
    assert_eq!(before.0 - account.spendable.0, 5 * CREDIT / 2);
}
