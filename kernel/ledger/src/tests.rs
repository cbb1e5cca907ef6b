//! The rules together, as stories.

use types::{
    AllocationId, Amount, DeploymentId, MountSource, MountSpec, PortSpec, Protocol, SecretKey,
    Usage, VolumeSpec,
};

use crate::deployment::{Call as Deploy, Funding};
use crate::lease::Desired;
use crate::world::{World, deploy, id, line, project, report, service};
use crate::{
    BlockEnv, Call, Genesis, Params, RejectKind, State, Tariff, Transaction, account, host,
};

#[test]
fn a_deployment_from_deploy_to_refund() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    world.host(11, 2000);
    let mut web = service(500, 2);
    web.ports.push(PortSpec {
        target: 80,
        published: Some(8080),
        protocol: Protocol::Tcp,
    });
    world
        .ask(1, deploy(project("shop", &[("web", web.clone())])))
        .expect("deployed");
    let d = world.state.project(&id(1), "shop").expect("there");
    let hosts: Vec<_> = [1, 2]
        .map(|n| {
            world
                .state
                .allocations
                .get(&AllocationId(n))
                .expect("placed")
                .host
        })
        .into();
    assert_ne!(hosts[0], hosts[1]);
    let before = world.state.account(&id(1)).balance();
    assert_eq!(before, Amount::credits(100));

    // Somebody else wants the port; the owner's other project may have the name.
    let mut other = project("shop", &[("web", web.clone())]);
    let refused = world.ask(2, deploy(other.clone())).expect_err("port taken");
    assert_eq!(refused.kind, RejectKind::Conflict);
    other.services.get_mut("web").expect("there").ports.clear();
    world.ask(2, deploy(other)).expect("deployed");
    let theirs = world.state.project(&id(2), "shop").expect("there");
    let label = &world.state.deployments.get(&theirs).expect("there").label;
    assert_eq!(*label, format!("shop-{}", id(2).short()));

    // One second of half a core.
    let who = if hosts[0] == id(10) { 10 } else { 11 };
    let placed = world
        .state
        .allocations
        .get(&AllocationId(1))
        .expect("there")
        .placed_ms;
    world.block(2_000, &[]);
    let usage = Usage {
        cpu_ns: 500_000_000,
        ..Usage::default()
    };
    world
        .ask(who, report(1, vec![line(1, 1, placed + 1000, usage)]))
        .expect("settled");
    let paid = before.0 - world.state.account(&id(1)).balance().0;
    assert_eq!(paid, 1_400_000);
    assert_eq!(world.state.account(&id(who)).spendable, Amount(1_400_000));

    // A release that changes nothing moves nothing; one that scales down removes one.
    web.replicas = 1;
    world
        .ask(1, deploy(project("shop", &[("web", web)])))
        .expect("deployed");
    let removed = world
        .state
        .allocations
        .get(&AllocationId(2))
        .expect("there");
    assert_eq!(removed.desired, Desired::Remove);
    assert_eq!(
        world
            .state
            .allocations
            .get(&AllocationId(1))
            .expect("there")
            .desired,
        Desired::Run
    );

    let refused = world
        .ask(
            2,
            Call::Deployment(Deploy::Remove {
                deployment: d,
                volumes: false,
            }),
        )
        .expect_err("not the owner");
    assert_eq!(refused.kind, RejectKind::Forbidden);
    world
        .ask(
            1,
            Call::Deployment(Deploy::Remove {
                deployment: d,
                volumes: false,
            }),
        )
        .expect("removed");
    for (allocation, host, interval) in [(1, who, 2), (2, 21 - who, 1)] {
        let known = world
            .state
            .allocations
            .get(&AllocationId(allocation))
            .expect("there");
        let mut last = line(allocation, 2, world.state.time_ms(), known.usage);
        last.last = true;
        world
            .ask(host, report(interval, vec![last]))
            .expect("settled");
    }
    let account = world.state.account(&id(1));
    assert_eq!(
        (account.held, account.spendable.0),
        (Amount::ZERO, before.0 - paid)
    );
}

#[test]
fn funds_end_in_a_freeze_and_a_top_up_thaws() {
    let mut params = Params::dev();
    params.tariff = Tariff {
        cpu: Amount::credits(1),
        ..Tariff::FIXED
    };
    params.escrow_target_ms = 20_000;
    params.host_timeout_ms = u64::MAX / 4;
    let mut world = World::new(params);
    world.host(10, 2000);
    // 1 credit a second at worst: 100 credits are not five minutes.
    let refused = world
        .ask(1, deploy(project("p", &[("a", service(1000, 1))])))
        .expect_err("too dear");
    assert_eq!(refused.kind, RejectKind::Funds);
    world
        .ask(1, deploy(project("p", &[("a", service(250, 1))])))
        .expect("deployed");
    let d = DeploymentId(world.state.globals.deployments);
    let placed = world.state.time_ms();
    let mut second = 0;
    while world.state.deployments.get(&d).expect("there").funding != Funding::Frozen {
        second += 5;
        assert!(second < 1000, "never frozen");
        world.block(4_900, &[]);
        let usage = Usage {
            cpu_ns: second * 250_000_000,
            ..Usage::default()
        };
        let due = line(1, second, placed + second * 1000, usage);
        world
            .ask(10, report(second / 5, vec![due]))
            .expect("settled");
    }
    // 400 seconds of a quarter core are paid for; it stopped before that, not long before.
    assert!((370..400).contains(&second), "{second}");
    let allocation = world.state.allocations.get(&AllocationId(1)).expect("kept");
    assert_eq!(allocation.desired, Desired::Freeze);
    let refused = world
        .ask(1, deploy(project("p", &[("a", service(100, 1))])))
        .expect_err("frozen");
    assert_eq!(refused.kind, RejectKind::Funds);
    world
        .ask(
            2,
            Call::Account(account::Call::Transfer {
                to: id(1),
                amount: Amount::credits(90),
                memo: String::new(),
            }),
        )
        .expect("topped up");
    assert_eq!(
        world.state.deployments.get(&d).expect("there").funding,
        Funding::Low
    );
    assert_eq!(
        world
            .state
            .allocations
            .get(&AllocationId(1))
            .expect("kept")
            .desired,
        Desired::Run
    );
}

/// Also where the block moves replicas once its transactions are done.
#[test]
fn a_transactions_events_are_told_from_its_blocks() {
    let mut world = World::new(Params::dev());
    world.host(10, 2_000);
    let spec = project("p", &[("web", service(100, 1))]);
    world.ask(1, deploy(spec)).expect("deployed");
    world.runs(1);
    world.host(11, 2_000);
    let drained = host::Call::Drain {
        host: id(10),
        draining: true,
    };
    let priced = host::Call::SetPrice {
        host: id(11),
        price_multiplier_milli: 800,
    };
    let both = [
        world.sign(10, Call::Host(drained)),
        world.sign(11, Call::Host(priced)),
    ];
    let executed = world.block(100, &both);
    let caused = |n: usize| executed.outcomes[n].caused(&executed.events);
    let first = [crate::Event::Host(host::Event::HostDraining {
        host: id(10),
        draining: true,
    })];
    let second = [crate::Event::Host(host::Event::HostPriced {
        host: id(11),
        price_multiplier_milli: 800,
    })];
    assert_eq!((caused(0), caused(1)), (&first[..], &second[..]));
    assert!(
        matches!(executed.events.last(), Some(crate::Event::Deployment(_))),
        "the successor is placed after them: {:?}",
        executed.events
    );
}

#[test]
fn what_is_refused_and_why() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    let cyclic = {
        let (mut a, mut b) = (service(100, 1), service(100, 1));
        a.depends_on
            .insert("b".into(), types::DependencyCondition::ServiceStarted);
        b.depends_on
            .insert("a".into(), types::DependencyCondition::ServiceStarted);
        project("p", &[("a", a), ("b", b)])
    };
    let undeclared = {
        let mut a = service(100, 1);
        a.mounts.push(MountSpec {
            source: MountSource::Volume("data".into()),
            target: "/data".into(),
            read_only: false,
        });
        project("p", &[("a", a)])
    };
    for (spec, kind, words) in [
        (
            project("Bad", &[("a", service(1, 1))]),
            RejectKind::Invalid,
            "project name",
        ),
        (project("p", &[]), RejectKind::Invalid, "no services"),
        (
            project("p", &[("a", service(0, 1))]),
            RejectKind::Invalid,
            "cpus",
        ),
        (
            project("p", &[("a", service(3000, 1))]),
            RejectKind::NoHost,
            "1 by resources",
        ),
        (
            project("p", &[("a", service(1, 2000))]),
            RejectKind::Invalid,
            "replicas",
        ),
        (cyclic, RejectKind::Invalid, "circle"),
        (undeclared, RejectKind::Invalid, "data is not declared"),
    ] {
        let refused = world.ask(1, deploy(spec)).expect_err(words);
        assert_eq!(refused.kind, kind, "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
        assert!(world.state.deployments.is_empty() && world.state.index.ports.is_empty());
    }
    // Only the nonce is used up.
    assert_eq!(world.state.account(&id(1)).spendable, Amount::credits(100));
    let replayed = world.sign(1, Call::Host(host::Call::Heartbeat));
    world.block(1, std::slice::from_ref(&replayed));
    let executed = world.block(1, &[replayed, vec![1, 2, 3], Vec::new()]);
    let kinds: Vec<_> = executed
        .outcomes
        .iter()
        .map(|o| o.rejection.as_ref().map(|r| r.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            Some(RejectKind::Stale),
            Some(RejectKind::Invalid),
            Some(RejectKind::Invalid)
        ]
    );
    // A flipped signature among good ones is found.
    let mut bad = world.sign(1, Call::Account(account::Call::Faucet { to: id(5) }));
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let good = world.sign(2, Call::Account(account::Call::Faucet { to: id(6) }));
    let env = BlockEnv {
        height: world.state.height() + 1,
        time_ms: world.state.time_ms() + 1,
        ..BlockEnv::default()
    };
    let executed = world
        .state
        .execute(env, &[bad, good], &|_| false)
        .expect("conserved");
    assert_eq!(
        executed.outcomes[0].rejection.as_ref().map(|r| r.kind),
        Some(RejectKind::Signature)
    );
    assert_eq!(executed.outcomes[1].rejection, None);
}

#[test]
fn usage_beyond_the_reservation_is_refused_whole() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    world
        .ask(
            1,
            deploy(project(
                "p",
                &[("a", service(500, 1)), ("b", service(500, 1))],
            )),
        )
        .expect("deployed");
    let placed = world.state.time_ms();
    world.block(2_000, &[]);
    let honest = line(
        1,
        1,
        placed + 1000,
        Usage {
            cpu_ns: 100,
            ..Usage::default()
        },
    );
    for lie in [
        Usage {
            cpu_ns: 1_000_000_001,
            ..Usage::default()
        },
        Usage {
            memory_byte_ms: (256 << 20) * 2000 + 1,
            ..Usage::default()
        },
        Usage {
            storage_byte_ms: (1 << 30) * 2000 + 1,
            ..Usage::default()
        },
        Usage {
            bandwidth_bits: 10_000 * 2000 + 1,
            ..Usage::default()
        },
        Usage {
            rx_bytes: (1 << 20) + 10_000 * 2000 / 4 + 1,
            ..Usage::default()
        },
    ] {
        let refused = world
            .ask(
                10,
                report(1, vec![honest.clone(), line(2, 1, placed + 1000, lie)]),
            )
            .expect_err("too much");
        assert_eq!(refused.kind, RejectKind::Invalid);
    }
    assert_eq!(
        world
            .state
            .allocations
            .get(&AllocationId(1))
            .expect("there")
            .sequence,
        0
    );
    let future = line(1, 1, world.state.time_ms() + 3000, Usage::default());
    assert!(world.ask(10, report(1, vec![future])).is_err());
    assert!(
        world.ask(1, report(1, vec![honest.clone()])).is_err(),
        "not a host"
    );
    assert_eq!(
        world
            .ask(10, report(2, vec![honest.clone()]))
            .expect_err("not next")
            .kind,
        RejectKind::Stale
    );
    world.ask(10, report(1, vec![honest])).expect("settled");
    let back = line(1, 2, placed + 1500, Usage::default());
    assert!(
        world
            .ask(10, report(2, vec![back]))
            .expect_err("went back")
            .why
            .contains("went back")
    );
}

#[test]
fn a_silent_host_is_offline_and_takes_nothing() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    world
        .ask(1, deploy(project("p", &[("a", service(500, 1))])))
        .expect("deployed");
    world.pass(4, &[10]);
    assert!(!world.state.hosts.get(&id(10)).expect("known").online);
    let refused = world
        .ask(1, deploy(project("q", &[("a", service(1, 1))])))
        .expect_err("no host");
    assert_eq!(refused.kind, RejectKind::NoHost);
    // What is removed from a host that is gone ends by itself.
    world
        .ask(
            1,
            Call::Deployment(Deploy::Remove {
                deployment: DeploymentId(1),
                volumes: true,
            }),
        )
        .expect("removed");
    assert!(
        world
            .state
            .allocations
            .get(&AllocationId(1))
            .expect("kept")
            .closed
    );
    assert_eq!(world.state.account(&id(1)).held, Amount::ZERO);
    world
        .ask(10, Call::Host(host::Call::Heartbeat))
        .expect("back");
    world.pass(11, &[]);
    world
        .ask(1, deploy(project("q", &[("a", service(1, 1))])))
        .expect("placed again");
}

#[test]
fn a_replica_returns_to_its_volume() {
    let mut world = World::new(Params::dev());
    for who in 10..16 {
        world.host(who, 2000);
    }
    let mut db = service(100, 1);
    db.mounts.push(MountSpec {
        source: MountSource::Volume("data".into()),
        target: "/data".into(),
        read_only: false,
    });
    let mut spec = project("p", &[("db", db)]);
    spec.volumes.insert("data".into(), VolumeSpec::default());
    world.ask(1, deploy(spec.clone())).expect("deployed");
    let first = world
        .state
        .allocations
        .get(&AllocationId(1))
        .expect("there")
        .host;
    for cpu in [200, 300, 400] {
        spec.services
            .get_mut("db")
            .expect("there")
            .resources
            .cpu_millis = cpu;
        world.ask(1, deploy(spec.clone())).expect("deployed");
        let newest = AllocationId(world.state.globals.allocations);
        assert_eq!(
            world.state.allocations.get(&newest).expect("there").host,
            first
        );
    }
}

/// A map out of order says the same but is not the transaction that was signed.
#[test]
fn only_one_form_of_a_transaction_is_taken() {
    let mut world = World::new(Params::dev());
    let mut spec = project("p", &[("a", service(1, 1))]);
    spec.volumes.insert("aa".into(), VolumeSpec::default());
    spec.volumes.insert("bb".into(), VolumeSpec::default());
    let good = world.sign(1, deploy(spec));
    assert!(crate::decode(&good).is_ok());
    let entry = |name: &[u8; 2]| [&[2, 0, 0, 0][..], name, &[0; 4]].concat();
    let sorted = [entry(b"aa"), entry(b"bb")].concat();
    let at = good.windows(sorted.len()).position(|w| w == sorted);
    let at = at.expect("the map is there");
    let mut swapped = good.clone();
    swapped[at..at + sorted.len()].copy_from_slice(&[entry(b"bb"), entry(b"aa")].concat());
    let refused = crate::decode(&swapped).expect_err("out of order");
    assert!(refused.why.contains("canonical"), "{refused}");
    let mut longer = good;
    longer.push(0);
    assert!(crate::decode(&longer).is_err());
    assert!(crate::decode(&vec![0; Transaction::BYTES_MAX + 1]).is_err());
}

/// What is read from disk is believed only as far as it adds up.
#[test]
fn a_state_that_cannot_be_is_not_loaded() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    world
        .ask(1, deploy(project("p", &[("a", service(500, 1))])))
        .expect("deployed");
    let good = world.state.save();
    let loaded = State::load(&good).expect("loads");
    assert_eq!(loaded.records(), world.state.records());
    let mut richer = world.state.clone();
    richer.globals.supply = Amount(richer.globals.supply.0 + 1);
    let mut unheld = world.state.clone();
    unheld.accounts.get_mut(&id(1)).expect("there").held = Amount::ZERO;
    let mut crowded = world.state.clone();
    crowded
        .hosts
        .get_mut(&id(10))
        .expect("there")
        .free
        .cpu_millis += 1;
    let mut homeless = world.state.clone();
    homeless.hosts.remove(&id(10));
    for bad in [richer, unheld, crowded, homeless] {
        assert!(State::load(&bad.save()).is_err());
    }
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        assert!(State::load(&good[..cut]).is_err());
    }
    assert!(State::load(&[good, vec![0]].concat()).is_err());
}

/// Had a rule lost or made money, or promised a host twice, the block would not stand.
#[test]
fn a_broken_invariant_stops_the_block() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    let before = world.state.clone();
    let mut made = before.clone();
    made.accounts.get_mut(&id(1)).expect("there").spendable.0 += 1;
    assert!(matches!(
        crate::invariant::check(&before, &made),
        Err(crate::BrokenInvariant::Conservation { .. })
    ));
    let mut moved = before.clone();
    let account = moved.accounts.get_mut(&id(1)).expect("there");
    account.spendable.0 -= 1;
    account.held.0 += 1;
    assert_eq!(
        crate::invariant::check(&before, &moved),
        Err(crate::BrokenInvariant::Escrow(id(1)))
    );
    let mut twice = before.clone();
    twice.hosts.get_mut(&id(10)).expect("there").free.cpu_millis -= 1;
    assert_eq!(
        crate::invariant::check(&before, &twice),
        Err(crate::BrokenInvariant::Capacity(id(10)))
    );
}

#[test]
fn a_genesis_is_checked_by_its_founder() {
    let good = Genesis {
        name: "test".into(),
        time_ms: 0,
        params: Params::dev(),
        balances: vec![(id(1), Amount(1)), (id(2), Amount(u128::MAX - 1))],
        faucet: id(1),
        validators: Vec::new(),
        watchers: Vec::new(),
        origin: None,
    };
    assert_eq!(good.check(), Ok(()));
    let many = |n: u8| {
        let founder = |n| crate::lots::Founder {
            key: SecretKey::from_seed([n; 32]).public(),
            address: "10.0.0.1:9000".into(),
        };
        let mut genesis = good.clone();
        genesis.params.epoch_blocks = 16;
        genesis.validators = (0..n).map(founder).collect();
        genesis.check().map_err(|e| e.to_string())
    };
    assert_eq!(many(6), Ok(()));
    let why = many(7).expect_err("an epoch too short for them");
    assert!(why.contains("it takes 18"), "{why}");
    let changes: [fn(&mut Genesis); 4] = [
        |g| g.balances.push((id(3), Amount(1))),
        |g| g.balances.push((id(1), Amount::ZERO)),
        |g| g.params.tariff.cpu = Amount(1 << 64),
        |g| g.params.report_interval_ms = 0,
    ];
    for change in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(bad.check().is_err());
    }
}
