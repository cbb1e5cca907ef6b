//! What holds for any sequence of calls, any partition of usage, any bytes.

use proptest::prelude::*;
use types::{
    AllocationId, AllocationStatus, Amount, AutoscaleSpec, CREDIT, DeploymentId, HostId, Hours,
    MountSource, MountSpec, Resource, RunState, ScaleTarget, Usage, VolumeSpec,
};

use crate::deployment::{Call as Deploy, DemandLine, fold};
use crate::lease::{Call as Lease, Desired};
use crate::world::{GATEWAY, World, deploy, id, key, line, project, registration, report, service};
use crate::{BlockEnv, Call, Params, State, Tariff, account, host, limit};

const HOUR_MS: u64 = 3_600_000;

#[derive(Clone, Debug)]
enum Step {
    Transfer(u8, u8, u64),
    Faucet(u8),
    Host(u8, u32),
    Heartbeat(u8),
    Leave(u8),
    Deploy(u8, u8, u32, u32),
    Remove(u8, u64),
    Running(u8, u64, bool),
    /// An allocation of its host's says that it runs, or that it failed.
    Status(u64, bool),
    Usage(u64, u64, bool),
    Restart(u8, u64),
    Cordon(u8, bool),
    Drain(u8, bool),
    /// Open in the hours of a day that the mask of eight names, again and again; or always.
    Hours(u8, Option<u8>),
    Rollback(u8, u64),
    /// A gateway says how much is asked of a deployment's services.
    Demand(u64, u32, u32),
    Wait(u64),
    /// Until hosts open and close.
    Hour,
    /// An account bounds what it spends, in hundredths of a credit.
    Limit(u8, Option<u64>),
    /// An account lets a machine join by a token, for so many milliseconds.
    Invite(u8, u8, u64),
    Uninvite(u8, u8),
    /// A machine joins for an account by a token, rightly or not.
    Join(u8, u8, u8),
    /// So many seconds with all hosts heard but one.
    Silence(u8, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let user = 1u8..5;
    let machine = 10u8..14;
    prop_oneof![
        (user.clone(), user.clone(), 0u64..200).prop_map(|(a, b, n)| Step::Transfer(a, b, n)),
        user.clone().prop_map(Step::Faucet),
        (machine.clone(), 0u32..8000).prop_map(|(h, c)| Step::Host(h, c)),
        machine.clone().prop_map(Step::Heartbeat),
        machine.clone().prop_map(Step::Leave),
        (user.clone(), 0u8..3, 1u32..3000, 0u32..4)
            .prop_map(|(u, p, c, r)| Step::Deploy(u, p, c, r)),
        (user.clone(), 1u64..8).prop_map(|(u, d)| Step::Remove(u, d)),
        (user, 1u64..8, any::<bool>()).prop_map(|(u, d, r)| Step::Running(u, d, r)),
        (1u64..20, prop::bool::weighted(0.8)).prop_map(|(a, good)| Step::Status(a, good)),
        (machine.clone(), any::<bool>()).prop_map(|(h, d)| Step::Drain(h, d)),
        (machine.clone(), prop::option::of(1u8..)).prop_map(|(h, m)| Step::Hours(h, m)),
        Just(Step::Hour),
        (machine.clone(), 1u64..8).prop_map(|(h, s)| Step::Silence(h, s)),
        (1u8..5, 50u8..53, 0u64..20_000).prop_map(|(u, t, ms)| Step::Invite(u, t, ms)),
        (1u8..5, 50u8..53).prop_map(|(u, t)| Step::Uninvite(u, t)),
        (machine, 1u8..5, 50u8..53).prop_map(|(h, u, t)| Step::Join(h, u, t)),
        (1u8..5, prop::option::of(0u64..10_000)).prop_map(|(u, n)| Step::Limit(u, n)),
        (1u8..5, 1u64..8).prop_map(|(u, d)| Step::Rollback(u, d)),
        (1u64..20, 0u64..4000, any::<bool>()).prop_map(|(a, u, l)| Step::Usage(a, u, l)),
        (1u8..5, 1u64..8).prop_map(|(u, d)| Step::Restart(u, d)),
        (10u8..14, any::<bool>()).prop_map(|(h, c)| Step::Cordon(h, c)),
        (1u64..8, prop_oneof![Just(0u32), 0u32..9], 0u32..2)
            .prop_map(|(d, n, w)| Step::Demand(d, n, w)),
        (1u64..40_000).prop_map(Step::Wait),
    ]
}

/// Who asks what in a step; `None`: nobody anything.
fn call(state: &State, step: &Step) -> Option<(u8, Call)> {
    let deployment = |d: &u64| DeploymentId(*d);
    Some(match step {
        Step::Transfer(a, b, n) => (
            *a,
            Call::Account(account::Call::Transfer {
                to: id(*b),
                amount: Amount::credits(*n),
                memo: String::new(),
            }),
        ),
        Step::Faucet(a) => (*a, Call::Account(account::Call::Faucet { to: id(*a) })),
        Step::Host(h, c) => (*h, Call::Host(registration(*h, *c))),
        Step::Heartbeat(h) => (*h, Call::Host(host::Call::Heartbeat)),
        Step::Leave(h) => (*h, Call::Host(host::Call::Leave)),
        Step::Cordon(h, cordoned) => (
            *h,
            Call::Host(host::Call::Cordon {
                cordoned: *cordoned,
            }),
        ),
        Step::Deploy(u, p, c, r) => {
            let mut services = [("s", service(*c, *r)), ("t", service(10, c % 3))];
            for (at, (_, service)) in services.iter_mut().enumerate() {
                service.expose = vec![80];
                service.autoscale = (c.wrapping_add(at as u32) % 3 == 0).then_some(AutoscaleSpec {
                    min: c % 2,
                    max: 1 + r,
                    target: ScaleTarget::Requests(2),
                    idle_ms: 3_000,
                });
            }
            let count = 1 + (*c % 2) as usize;
            let name = ["a", "b", "c"][*p as usize];
            (*u, deploy(project(name, &services[..count])))
        }
        Step::Remove(u, d) => (
            *u,
            Call::Deployment(Deploy::Remove {
                deployment: deployment(d),
                volumes: false,
            }),
        ),
        Step::Running(u, d, running) => (
            *u,
            Call::Deployment(Deploy::SetRunning {
                deployment: deployment(d),
                service: None,
                running: *running,
            }),
        ),
        Step::Restart(u, d) => (
            *u,
            Call::Deployment(Deploy::Restart {
                deployment: deployment(d),
                service: None,
            }),
        ),
        Step::Status(a, good) => {
            let known = state.allocations.get(&AllocationId(*a))?;
            let status = AllocationStatus {
                state: match good {
                    true => RunState::Running,
                    false => RunState::Failed,
                },
                ..AllocationStatus::default()
            };
            let statuses = vec![(AllocationId(*a), status)];
            let call = Call::Lease(Lease::ReportStatus { plan: 0, statuses });
            (machine_of(known.host)?, call)
        }
        Step::Drain(h, draining) => {
            let call = host::Call::Drain {
                host: id(*h),
                draining: *draining,
            };
            (*h, Call::Host(call))
        }
        Step::Hours(h, mask) => {
            let call = host::Call::SetHours {
                host: id(*h),
                hours: mask.and_then(|mask| Hours::new([mask; 21])),
            };
            (*h, Call::Host(call))
        }
        Step::Rollback(u, d) => (
            *u,
            Call::Deployment(Deploy::Rollback {
                deployment: deployment(d),
                release: None,
            }),
        ),
        Step::Usage(a, more, last) => {
            // Signed by the host that has it: others are refused, which is shown elsewhere.
            let known = state.allocations.get(&AllocationId(*a))?;
            let who = machine_of(known.host)?;
            let mut total = known.usage;
            total.cpu_ns += more * 1_000_000;
            total.memory_byte_ms += u128::from(*more) << 28;
            total.tx_bytes += more * 100;
            let interval = state.hosts.get(&known.host).map_or(0, |h| h.interval) + 1;
            let mut one = line(*a, known.sequence + 1, state.time_ms(), total);
            one.last = *last;
            (who, report(interval, vec![one]))
        }
        Step::Demand(d, under_way, waiting) => {
            let known = state.deployments.get(&deployment(d))?;
            let open: Vec<_> = known
                .allocations
                .iter()
                .map(|a| (*a, under_way % 3))
                .collect();
            let lines = ["s", "t"].map(|service| DemandLine {
                deployment: deployment(d),
                service: service.into(),
                under_way_milli: under_way * 1_000,
                per_second_milli: 0,
                waiting: *waiting,
                open: open.clone(),
            });
            let lines = lines.to_vec();
            (GATEWAY, Call::Deployment(Deploy::ReportDemand { lines }))
        }
        Step::Limit(u, n) => {
            let limit = n.map(|n| Amount(u128::from(n) * CREDIT / 100));
            let call = limit::Call::Set {
                alert: None,
                limit,
                order: Vec::new(),
            };
            (*u, Call::Limit(call))
        }
        Step::Invite(u, token, ms) => {
            let call = host::Call::Invite {
                token: id(*token),
                until_ms: state.time_ms() + ms,
            };
            (*u, Call::Host(call))
        }
        Step::Uninvite(u, token) => {
            let token = id(*token);
            (*u, Call::Host(host::Call::Uninvite { token }))
        }
        Step::Join(h, u, token) => {
            let mut call = registration(*h, 1_000);
            if let host::Call::Register {
                owner, invitation, ..
            } = &mut call
            {
                let network = &state.globals.network;
                *owner = id(*u);
                *invitation = Some(host::Invitation::of(&key(*token), network, &id(*h)));
            }
            (*h, Call::Host(call))
        }
        Step::Wait(_) | Step::Hour | Step::Silence(..) => return None,
    })
}

fn machine_of(host: HostId) -> Option<u8> {
    (10u8..14).find(|who| id(*who) == host)
}

/// Hosts do what they are told, and the gateway goes on to report, for as long as anything may
/// still change.
fn settle(world: &mut World) {
    for host in 10..14 {
        if world.state.hosts.get(&id(host)).is_some() {
            let call = host::Call::Drain {
                host: id(host),
                draining: false,
            };
            world.ask(host, Call::Host(call)).expect("known");
            let call = host::Call::SetHours {
                host: id(host),
                hours: None,
            };
            world.ask(host, Call::Host(call)).expect("known");
        }
    }
    for _ in 0..60 {
        let open: Vec<_> = world
            .state
            .allocations
            .iter()
            .filter(|(_, a)| !a.closed)
            .map(|(id, a)| (id.0, a.desired, a.status.state))
            .collect();
        let waits = |(_, d): (_, &crate::deployment::Deployment)| d.look_ms > 0;
        let quiet = |(_, desired, state): &(_, Desired, RunState)| match desired {
            Desired::Run => *state == RunState::Running,
            Desired::Stop | Desired::Freeze => true,
            Desired::Drain | Desired::Remove => false,
        };
        if open.iter().all(quiet) && !world.state.live().any(waits) {
            return;
        }
        for (allocation, desired, state) in open {
            match desired {
                Desired::Run | Desired::Drain if state != RunState::Running => {
                    world.runs(allocation);
                }
                Desired::Remove => world.ends(allocation),
                _ => {}
            }
        }
        let live: Vec<u64> = world.state.live().map(|(id, _)| id.0).collect();
        let quiet = live.into_iter().map(|id| Step::Demand(id, 0, 0));
        let calls: Vec<_> = quiet.filter_map(|s| call(&world.state, &s)).collect();
        let reports = calls.into_iter().map(|(who, call)| world.sign(who, call));
        let reports: Vec<_> = reports.collect();
        world.block(100, &reports);
        world.pass(1, &[]);
    }
}

/// What lets a machine join is bounded, and nobody has joined by what is open.
fn check_tokens(state: &State) {
    for user in 1..5 {
        assert!(state.tokens_of(&id(user)).count() <= host::OPEN_MAX);
    }
    for (token, open) in state.tokens.iter() {
        assert!(open.until_ms > state.time_ms(), "{token}: past");
        assert!(open.until_ms - open.made_ms <= host::OPEN_MS_MAX);
        let owned = state.tokens_of(&open.owner);
        assert!(owned.into_iter().any(|(id, _)| id == *token));
        let used = |h: &host::Host| h.joined.is_some_and(|j| j.joined_ms > open.made_ms);
        let joined = |h: &host::Host| h.joined.is_some_and(|j| j.token == *token);
        assert!(
            !state.hosts.iter().any(|(_, h)| joined(h) && used(h)),
            "{token}"
        );
    }
}

/// Each seat has one allocation, or it is said why it has none; what a deployment is follows from
/// the number of its release.
fn check_seats(state: &State) {
    for (id, deployment) in state.live() {
        let release = state.releases.get(&(id, deployment.release));
        assert_eq!(release.map(|r| &r.spec), Some(&deployment.spec), "{id}");
        if deployment.is_frozen() {
            continue;
        }
        for (name, service) in &deployment.spec.services {
            let wanted = state.wanted(id, name, service);
            if let Some(spec) = service.autoscale {
                assert!(
                    (spec.min..=spec.max).contains(&wanted),
                    "{id} {name}: {wanted}"
                );
            }
            for replica in 1..=wanted {
                let live = deployment
                    .allocations
                    .iter()
                    .filter_map(|a| state.allocations.get(a))
                    .filter(|a| a.service == *name && a.replica == replica)
                    .count();
                let told = deployment
                    .unplaced
                    .iter()
                    .any(|u| u.service == *name && u.replica == replica);
                assert!(
                    live == 1 || (live == 0 && told),
                    "{id} {name}.{replica}: {live}, {told}"
                );
            }
        }
        let services = deployment.spec.services.iter();
        let wanted: u32 = services.map(|(n, s)| state.wanted(id, n, s)).sum();
        assert!(deployment.allocations.len() as u32 <= wanted, "{id}");
        let done = deployment.unplaced.is_empty();
        assert!(
            !done || deployment.rollout.is_none(),
            "{id} {:?}",
            deployment.rollout
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// [`World::block`] checks conservation, escrow, capacity, re-execution and reload. When
    /// all is quiet again, every seat is taken.
    #[test]
    fn any_sequence_conserves_money_and_capacity(
        steps in prop::collection::vec(step(), 1..60),
        dear in any::<bool>(),
        together in 1usize..5,
    ) {
        let mut params = Params::dev();
        if dear {
            // Funds run out within minutes, so that freezing and thawing are part of it.
            params.tariff = Tariff { cpu: Amount::credits(1), ..Tariff::FIXED };
            params.escrow_target_ms = 20_000;
        }
        let mut world = World::with_gateway(params);
        for step in steps.chunks(together) {
            let mut transactions = Vec::new();
            for step in step {
                match call(&world.state, step) {
                    Some((who, call)) => transactions.push(world.sign(who, call)),
                    None => {
                        match step {
                            Step::Wait(ms) => { world.block(*ms, &[]); }
                            Step::Hour => { world.block(HOUR_MS, &[]); }
                            Step::Silence(host, seconds) => world.pass(*seconds, &[*host]),
                            _ => {}
                        }
                    }
                }
            }
            world.block(100, &transactions);
        }
        check_tokens(&world.state);
        settle(&mut world);
        check_seats(&world.state);
    }

    #[test]
    fn any_partition_of_a_usage_charges_the_same(cuts in prop::collection::vec(0u64..1_000_000_000, 0..8)) {
        let mut cuts = cuts;
        cuts.push(999_999_937);
        cuts.sort_unstable();
        let mut world = World::new(Params::dev());
        world.host(10, 2000);
        world.ask(1, deploy(project("p", &[("a", service(1000, 1))]))).expect("deployed");
        let placed = world.state.time_ms();
        world.block(1_000, &[]);
        for (n, cut) in cuts.iter().enumerate() {
            let usage = Usage {
                cpu_ns: *cut,
                memory_byte_ms: u128::from(*cut) * 199,
                storage_byte_ms: u128::from(*cut) * 3,
                bandwidth_bits: u128::from(*cut) / 101,
                rx_bytes: cut / 1003,
                tx_bytes: cut / 5001,
            };
            let n = n as u64 + 1;
            world.ask(10, report(n, vec![line(1, n, placed + 1000, usage)])).expect("settled");
        }
        let last = cuts.last().copied().expect("not empty");
        let whole: u128 = [
            (Resource::Cpu, u128::from(last)),
            (Resource::Memory, u128::from(last) * 199),
            (Resource::Storage, u128::from(last) * 3),
            (Resource::Bandwidth, u128::from(last) / 101),
            (Resource::Transfer, u128::from(last / 1003 + last / 5001)),
        ]
        .into_iter()
        .map(|(r, counted)| counted * Tariff::FIXED.rate(r).0 / r.counted_per_unit())
        .sum();
        let charged = world.state.allocations.get(&AllocationId(1)).expect("there").charged;
        prop_assert_eq!(charged.iter().map(|a| a.0).sum::<u128>(), whole);
        prop_assert_eq!(Amount::credits(100).0 - world.state.account(&id(1)).balance().0, whole);
    }

    #[test]
    fn bytes_of_strangers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let world = World::new(Params::dev());
        let env = BlockEnv { height: 1, time_ms: world.state.time_ms() + 1, ..BlockEnv::default() };
        world.state.execute(env, std::slice::from_ref(&bytes), &|_| false).expect("conserved");
        let _ = State::load(&bytes);
    }

    /// Calls that decode but that no client would make.
    #[test]
    fn calls_of_strangers_never_panic(
        which in 0usize..18,
        who in 1u8..14,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        after_ms in 1u64..100_000,
    ) {
        let mut world = furnished();
        let all = calls(&world.state);
        let mut bytes = borsh::to_vec(&all[which % all.len()]).expect("encodes");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(call) = borsh::from_slice::<Call>(&bytes) {
            let transaction = world.sign(who, call);
            world.block(after_ms, &[transaction]);
            world.block(after_ms, &[]);
        }
    }

    #[test]
    fn saved_states_with_flipped_bytes_never_panic(at: prop::sample::Index, byte: u8) {
        let mut bytes = furnished().state.save();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = State::load(&bytes);
    }
}

/// Of each deployment every ended allocation but the last `kept`.
fn fold_all(state: &mut State, kept: usize) {
    let ids: Vec<DeploymentId> = state.deployments.iter().map(|(id, _)| *id).collect();
    ids.iter().for_each(|id| fold(state, id, kept));
    state.forget_changed();
    // No block did it: the root does not know yet.
    state.reindex();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The sums are the same, and nothing else is another.
    #[test]
    fn it_does_not_matter_when_ended_allocations_are_folded(
        steps in prop::collection::vec((step(), 0usize..4), 1..50),
    ) {
        let mut whole = World::with_gateway(Params::dev());
        let mut folded = World::with_gateway(Params::dev());
        for (step, kept) in &steps {
            let closed = |a: &u64| whole.state.allocations.get(&AllocationId(*a)).is_some_and(|a| a.closed);
            if let Step::Status(a, _) | Step::Usage(a, ..) = step && closed(a) {
                // A host that speaks of what is closed is heard or refused all the same.
                continue;
            }
            let call = call(&whole.state, step);
            for world in [&mut whole, &mut folded] {
                match (&call, step) {
                    (Some((who, call)), _) => {
                        let transaction = world.sign(*who, call.clone());
                        world.block(100, &[transaction]);
                    }
                    (None, Step::Wait(ms)) => { world.block(*ms, &[]); }
                    (None, Step::Hour) => { world.block(HOUR_MS, &[]); }
                    (None, Step::Silence(host, seconds)) => world.pass(*seconds, &[*host]),
                    (None, _) => {}
                }
            }
            fold_all(&mut folded.state, *kept);
        }
        settle(&mut whole);
        settle(&mut folded);
        for world in [&mut whole, &mut folded] {
            fold_all(&mut world.state, 0);
        }
        prop_assert_eq!(whole.state.save(), folded.state.save());
    }
}

/// Two hosts, a deployment with a volume, its replicas running.
fn furnished() -> World {
    let mut world = World::new(Params::dev());
    world.host(10, 4000);
    world.host(11, 4000);
    let mut db = service(300, 2);
    db.mounts.push(MountSpec {
        source: MountSource::Volume("data".into()),
        target: "/data".into(),
        read_only: false,
    });
    let mut spec = project("p", &[("db", db), ("web", service(100, 1))]);
    spec.volumes.insert("data".into(), VolumeSpec::default());
    world.ask(1, deploy(spec)).expect("deployed");
    world
}

/// One of each kind, most of them good.
fn calls(state: &State) -> Vec<Call> {
    let deployment = DeploymentId(1);
    let spec = state
        .deployments
        .get(&deployment)
        .expect("there")
        .spec
        .clone();
    let total = Usage {
        cpu_ns: 1,
        ..Usage::default()
    };
    vec![
        Call::Account(account::Call::Transfer {
            to: id(2),
            amount: Amount(1),
            memo: "m".into(),
        }),
        Call::Account(account::Call::Faucet { to: id(3) }),
        Call::Host(registration(12, 100)),
        Call::Host(host::Call::Cordon { cordoned: true }),
        Call::Host(host::Call::Leave),
        Call::Host(host::Call::Drain {
            host: id(10),
            draining: true,
        }),
        Call::Host(host::Call::SetPrice {
            host: id(10),
            price_multiplier_milli: 700,
        }),
        Call::Host(host::Call::SetAllotment {
            host: id(10),
            allotment: types::Resources {
                cpu_millis: 1_500,
                memory_bytes: 4 << 30,
                disk_bytes: 40 << 30,
                bandwidth_kbps: 500_000,
            },
        }),
        Call::Host(host::Call::SetHours {
            host: id(10),
            hours: Hours::new([0x0f; 21]),
        }),
        Call::Host(host::Call::Invite {
            token: id(50),
            until_ms: state.time_ms() + 1_000,
        }),
        Call::Host(host::Call::Uninvite { token: id(50) }),
        Call::Host(host::Call::Heartbeat),
        deploy(spec),
        Call::Deployment(Deploy::Rollback {
            deployment,
            release: None,
        }),
        Call::Deployment(Deploy::Remove {
            deployment,
            volumes: true,
        }),
        Call::Deployment(Deploy::SetRunning {
            deployment,
            service: Some("db".into()),
            running: false,
        }),
        Call::Deployment(Deploy::Restart {
            deployment,
            service: None,
        }),
        Call::Lease(Lease::ReportStatus {
            plan: 0,
            statuses: vec![(AllocationId(1), AllocationStatus::default())],
        }),
        report(1, vec![line(1, 1, state.time_ms(), total)]),
        Call::Limit(limit::Call::Set {
            alert: Some(Amount(1)),
            limit: Some(Amount(2)),
            order: vec!["p".into()],
        }),
    ]
}
