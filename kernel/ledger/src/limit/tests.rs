use proptest::prelude::*;
use types::{AllocationId, Amount, CREDIT, DeploymentId, Month, Usage};

use super::{Call, Event, Notice};
use crate::account::{self, Role};
use crate::deployment::{self, Call as Deploy};
use crate::lease::Desired;
use crate::world::{World, deploy, id, line, project, report, service};
use crate::{Params, RejectKind, Rejection, Tariff};

/// A core costs a credit a second, nothing else anything; reports come every five seconds.
fn dear() -> World {
    let mut params = Params::dev();
    params.tariff = Tariff {
        cpu: Amount::credits(1),
        memory: Amount::ZERO,
        storage: Amount::ZERO,
        bandwidth: Amount::ZERO,
        transfer: Amount::ZERO,
    };
    params.escrow_target_ms = 20_000;
    params.alert_ms = 0;
    params.host_timeout_ms = u64::MAX / 4;
    let mut world = World::new(params);
    world.host(10, 8_000);
    rich(&mut world, 1);
    world
}

fn rich(world: &mut World, who: u8) {
    let gift = account::Call::Faucet { to: id(who) };
    world
        .ask(who, crate::Call::Account(gift))
        .expect("test credits");
}

/// Of `millis` of a core.
fn run(world: &mut World, name: &str, millis: u32) -> Result<(), Rejection> {
    world.ask(1, deploy(project(name, &[("s", service(millis, 1))])))?;
    world.runs(world.state.globals.allocations);
    Ok(())
}

fn set(
    world: &mut World,
    alert: Option<u64>,
    limit: Option<u64>,
    order: &[&str],
) -> Result<(), Rejection> {
    world.ask(1, call(alert, limit, order))
}

fn call(alert: Option<u64>, limit: Option<u64>, order: &[&str]) -> crate::Call {
    crate::Call::Limit(Call::Set {
        alert: alert.map(Amount::credits),
        limit: limit.map(Amount::credits),
        order: order.iter().map(|name| name.to_string()).collect(),
    })
}

fn spent(world: &World) -> Amount {
    let month = Month::of(world.state.time_ms());
    world.state.account(&id(1)).spent_in(month)
}

fn stopped(world: &World) -> Vec<String> {
    let stops = world.state.stops(&id(1)).into_iter();
    stops.filter(|s| s.limited).map(|s| s.project).collect()
}

/// Everything that is meant to run runs for five seconds at full use, is reported, and is charged;
/// what was told.
fn interval(world: &mut World) -> Vec<Notice> {
    let running: Vec<u64> = world
        .state
        .allocations
        .iter()
        .filter(|(_, a)| a.desired == Desired::Run)
        .map(|(id, _)| id.0)
        .collect();
    world.block(4_900, &[]);
    let before = told(world);
    used(world, &running, 5_000);
    [before, told(world)].concat()
}

/// So much more used of each, in milliseconds of its whole reservation.
fn used(world: &mut World, allocations: &[u64], ms: u64) {
    let now = world.state.time_ms();
    let lines = allocations.iter().map(|id| {
        let known = world
            .state
            .allocations
            .get(&AllocationId(*id))
            .expect("there");
        let total = Usage {
            cpu_ns: known.usage.cpu_ns + u64::from(known.reserved.cpu_millis) * ms * 1_000,
            ..known.usage
        };
        line(*id, known.sequence + 1, now, total)
    });
    let lines = lines.collect();
    let next = world.state.hosts.get(&id(10)).expect("there").interval + 1;
    world.ask(10, report(next, lines)).expect("settled");
}

fn told(world: &World) -> Vec<Notice> {
    let events = world.events.iter();
    events
        .filter_map(|event| match event {
            crate::Event::Limit(Event::Told { notice, .. }) => Some(*notice),
            _ => None,
        })
        .collect()
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut world = dear();
    run(&mut world, "web", 100).expect("deployed");
    set(&mut world, Some(10), Some(500), &["web"]).expect("set");
    let names: Vec<String> = (0..65).map(|n| format!("p{n}")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).collect();
    type Row<'a> = (Option<u64>, Option<u64>, &'a [&'a str], RejectKind, &'a str);
    let rows: [Row; 4] = [
        (Some(501), Some(500), &[], RejectKind::Invalid, "above"),
        (None, Some(500), &["wep"], RejectKind::NotFound, "\"wep\""),
        (None, None, &["web", "web"], RejectKind::Invalid, "twice"),
        (None, None, &many, RejectKind::Invalid, "at most 64"),
    ];
    for (alert, limit, order, kind, why) in rows {
        let before = world.state.limits.get(&id(1)).cloned();
        let refused = set(&mut world, alert, limit, order).expect_err(why);
        assert_eq!(refused.kind, kind);
        assert!(refused.why.contains(why), "{refused}");
        assert_eq!(world.state.limits.get(&id(1)).cloned(), before);
    }
    // What was named may go and come; the rest can be changed meanwhile.
    let remove = Deploy::Remove {
        deployment: DeploymentId(1),
        volumes: false,
    };
    world
        .ask(1, crate::Call::Deployment(remove))
        .expect("removed");
    set(&mut world, Some(20), Some(600), &["web"]).expect("set");
    set(&mut world, None, None, &[]).expect("taken back");
    assert!(world.state.limits.is_empty());
    assert!(world.state.index.limit_looks.is_empty());
}

#[test]
fn owners_admins_and_who_pays_set_limits() {
    for (role, bounded) in Role::ALL.into_iter().flat_map(|r| [(r, false), (r, true)]) {
        let mut world = dear();
        let grant = account::Call::Grant {
            to: id(3),
            role,
            limit: bounded.then_some(account::SpendingLimit {
                amount: Amount::credits(50),
                every_ms: 0,
            }),
            expires_ms: None,
            label: String::new(),
        };
        world.ask(1, crate::Call::Account(grant)).expect("given");
        let done = world.ask_for(3, &[1], call(None, Some(5), &[]));
        let may = matches!(role, Role::Owner | Role::Admin | Role::Billing) && !bounded;
        assert_eq!(done.is_ok(), may, "{}", role.name());
        assert!(done.is_ok() || done.expect_err("refused").kind == RejectKind::Forbidden);
        assert_eq!(world.state.limits.get(&id(1)).is_some(), may);
        assert!(world.state.limits.get(&id(3)).is_none());
    }
}

#[test]
fn what_drains_ends_with_its_project() {
    let mut world = dear();
    let desired = |world: &World, id| {
        let known = world.state.allocations.get(&AllocationId(id));
        known.map(|a| a.desired)
    };
    run(&mut world, "web", 100).expect("deployed");
    world.runs(1);
    run(&mut world, "web", 200).expect("deployed anew");
    world.runs(2);
    while desired(&world, 1) == Some(Desired::Run) {
        world.block(500, &[]);
    }
    assert_eq!(desired(&world, 1), Some(Desired::Drain));
    set(&mut world, None, Some(0), &[]).expect("set");
    assert_eq!(desired(&world, 2), Some(Desired::Freeze));
    assert_eq!(desired(&world, 1), Some(Desired::Remove));
}

#[test]
fn projects_without_a_place_cost_a_limit_no_look() {
    let mut world = dear();
    set(&mut world, None, Some(100), &[]).expect("set");
    for n in 0..3 {
        let none = deploy(project(&format!("p{n}"), &[("s", service(100, 0))]));
        world.ask(1, none).expect("deployed");
    }
    assert_eq!(world.state.weighed_of(&id(1)).count(), 0);
    let look = |world: &World| world.state.limits.get(&id(1)).map(|l| l.look_ms);
    let month = Month::of(world.state.time_ms());
    assert_eq!(look(&world), Some(month.until_ms()));
    run(&mut world, "web", 100).expect("deployed");
    assert!(look(&world) < Some(month.until_ms()));
}

#[test]
fn projects_stop_in_order_before_the_limit_and_go_on_when_it_is_raised() {
    let mut world = dear();
    for name in ["web", "batch", "old"] {
        run(&mut world, name, 100).expect("deployed");
    }
    // Not named: after those that are, the newest first.
    set(&mut world, Some(100), Some(200), &["batch"]).expect("set");
    let stops = world.state.stops(&id(1));
    let order: Vec<_> = stops.iter().map(|s| (s.project.as_str(), s.at)).collect();
    let at = |n: u64| Some(Amount::credits(n));
    let expected = [("batch", at(180)), ("old", at(190)), ("web", at(200))];
    assert_eq!(order, expected);

    let mut seen: Vec<Vec<String>> = Vec::new();
    let mut notices = Vec::new();
    for _ in 0..220 {
        notices.extend(interval(&mut world));
        assert!(spent(&world) <= Amount::credits(200));
        if seen.last() != Some(&stopped(&world)) {
            seen.push(stopped(&world));
        }
    }
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(
        seen,
        [
            names(&[]),
            names(&["batch"]),
            names(&["batch", "old"]),
            names(&["batch", "old", "web"]),
        ]
    );
    use Notice::{Alert, Percent};
    assert_eq!(notices, [Alert, Percent(75), Percent(90), Percent(100)]);
    // A last interval is kept for what had not been reported; nothing is lost but that.
    assert!(spent(&world) >= Amount::credits(195), "{}", spent(&world));
    for n in 1..4 {
        let known = world.state.allocations.get(&AllocationId(n)).expect("kept");
        assert!(!known.closed && known.desired == Desired::Freeze);
    }

    // Nothing starts, is deployed or changed.
    let start = Deploy::SetRunning {
        deployment: DeploymentId(1),
        service: None,
        running: true,
    };
    world.ask(1, crate::Call::Deployment(start)).expect("noted");
    assert_eq!(stopped(&world).len(), 3);
    for name in ["web", "new"] {
        let refused = run(&mut world, name, 50).expect_err("no room");
        assert_eq!(refused.kind, RejectKind::Funds);
        assert!(refused.next.contains("runrig limit set"), "{refused}");
    }

    set(&mut world, None, Some(400), &["batch"]).expect("raised");
    assert!(stopped(&world).is_empty());
    let thawed = |e: &&crate::Event| {
        matches!(
            e,
            crate::Event::Deployment(deployment::Event::Thawed { .. })
        )
    };
    assert_eq!(world.events.iter().filter(thawed).count(), 3);
    for n in 1..4 {
        let known = world.state.allocations.get(&AllocationId(n)).expect("kept");
        assert_eq!(known.desired, Desired::Run);
    }
}

#[test]
fn what_was_stopped_goes_on_with_the_new_month_where_it_was_wanted() {
    let mut world = dear();
    run(&mut world, "web", 100).expect("deployed");
    set(&mut world, None, Some(50), &[]).expect("set");
    while stopped(&world).is_empty() {
        interval(&mut world);
    }
    // Asked for in the meantime, and asked for no more, in whatever order.
    for running in [false, true] {
        let asked = Deploy::SetRunning {
            deployment: DeploymentId(1),
            service: None,
            running,
        };
        world.ask(1, crate::Call::Deployment(asked)).expect("noted");
    }
    let month = Month::of(world.state.time_ms());
    let left = month.until_ms() - world.state.time_ms();
    world.block(left - 1, &[]);
    assert_eq!(stopped(&world), ["web"]);
    world.block(1, &[]);
    assert!(stopped(&world).is_empty());
    assert_eq!(spent(&world), Amount::ZERO);
    let known = world.state.allocations.get(&AllocationId(1)).expect("kept");
    assert_eq!(known.desired, Desired::Run);
}

/// It ran, with nothing left to pay it, when it was rolled back.
#[test]
fn what_is_stopped_does_not_run_by_a_rollback() {
    let mut world = dear();
    run(&mut world, "web", 100).expect("deployed");
    world.runs(1);
    let two = |replicas| deploy(project("web", &[("s", service(100, replicas))]));
    world.ask(1, two(2)).expect("deployed");
    let stop = Deploy::SetRunning {
        deployment: DeploymentId(1),
        service: None,
        running: false,
    };
    world.ask(1, crate::Call::Deployment(stop)).expect("noted");
    set(&mut world, None, Some(0), &[]).expect("set");
    let start = Deploy::SetRunning {
        deployment: DeploymentId(1),
        service: None,
        running: true,
    };
    world.ask(1, crate::Call::Deployment(start)).expect("noted");
    world.block(60_000, &[]);
    assert_eq!(stopped(&world), ["web"]);
    let stop = Deploy::SetRunning {
        deployment: DeploymentId(1),
        service: None,
        running: false,
    };
    world.ask(1, crate::Call::Deployment(stop)).expect("noted");
    let back = Deploy::Rollback {
        deployment: DeploymentId(1),
        release: None,
    };
    world
        .ask(1, crate::Call::Deployment(back))
        .expect("rolled back");
    let runs = |a: &crate::lease::Allocation| a.desired == Desired::Run;
    assert!(!world.state.allocations.iter().any(|(_, a)| runs(a)));
}

#[test]
fn who_lowers_the_limit_pays_what_was_used() {
    let mut world = dear();
    run(&mut world, "web", 1_000).expect("deployed");
    for _ in 0..4 {
        interval(&mut world);
    }
    assert_eq!(spent(&world), Amount::credits(20));
    world.block(4_900, &[]);
    set(&mut world, None, Some(1), &[]).expect("set");
    assert_eq!(stopped(&world), ["web"]);
    used(&mut world, &[1], 5_000);
    assert_eq!(spent(&world), Amount::credits(25));
    // Nothing gets out of it by lowering it again, nor more than may have been used.
    let owed = |world: &World| world.state.limits.get(&id(1)).map(|l| l.owed);
    let before = owed(&world).expect("kept");
    assert!(before <= Amount::credits(20 + 5 + 14), "{before}");
    for limit in [0, 2, 1] {
        set(&mut world, None, Some(limit), &[]).expect("set");
        assert!(owed(&world).expect("kept") <= before);
    }
}

/// A host that reports late, or lies, takes no more than the limit; what is due is paid next month.
#[test]
fn what_a_limit_does_not_bear_stays_due() {
    let mut world = dear();
    run(&mut world, "web", 1_000).expect("deployed");
    set(&mut world, None, Some(400), &[]).expect("set");
    // Nobody hears of it for longer than the limit bears.
    world.block(600_000, &[]);
    used(&mut world, &[1], 600_000);
    assert_eq!(spent(&world), Amount::credits(400));
    assert_eq!(stopped(&world), ["web"]);
    used(&mut world, &[1], 0);
    assert_eq!(spent(&world), Amount::credits(400));
    let month = Month::of(world.state.time_ms());
    let left = month.until_ms() - world.state.time_ms();
    world.block(left, &[]);
    used(&mut world, &[1], 0);
    assert_eq!(spent(&world), Amount::credits(200));
    let earned = world.state.account(&id(10)).spendable;
    assert_eq!(earned, Amount::credits(600));
}

#[test]
fn lack_of_funds_and_the_limit_are_told_apart() {
    let mut world = dear();
    run(&mut world, "web", 1_000).expect("deployed");
    set(&mut world, None, Some(0), &[]).expect("set");
    let all = world.state.account(&id(1)).spendable;
    let pay = |from: u8, to: u8, amount| {
        let memo = String::new();
        let to = id(to);
        (
            from,
            crate::Call::Account(account::Call::Transfer { to, amount, memo }),
        )
    };
    let (from, away) = pay(1, 2, all);
    world.ask(from, away).expect("paid");
    // Escrow is for twenty seconds: funds end, too.
    world.block(11_000, &[]);
    used(&mut world, &[1], 0);
    let record = |world: &World| world.state.deployments.get(&DeploymentId(1)).cloned();
    let lacks = |world: &World| record(world).map(|d| (d.funding, d.limited));
    use crate::deployment::Funding;
    assert_eq!(lacks(&world), Some((Funding::Good, true)));
    // With funds back and the limit still there nothing runs.
    let (from, back) = pay(2, 1, all);
    world.ask(from, back).expect("paid");
    assert_eq!(lacks(&world), Some((Funding::Good, true)));
    set(&mut world, None, None, &[]).expect("taken back");
    assert_eq!(lacks(&world), Some((Funding::Good, false)));
    let known = world.state.allocations.get(&AllocationId(1)).expect("kept");
    assert_eq!(known.desired, Desired::Run);
}

#[derive(Clone, Debug)]
enum Step {
    /// Project and size; at most three.
    Deploy(u8, u32),
    Remove(u64),
    Running(u64, bool),
    Set(Option<u64>, Vec<u8>),
    /// So long, and what share of it was used, in percent.
    Use(u64, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..3, 1u32..2_000).prop_map(|(p, c)| Step::Deploy(p, c)),
        1 => (1u64..6).prop_map(Step::Remove),
        1 => (1u64..6, any::<bool>()).prop_map(|(d, r)| Step::Running(d, r)),
        2 => (prop::option::weighted(0.9, 0u64..600), prop::collection::vec(0u8..3, 0..3))
            .prop_map(|(l, o)| Step::Set(l, o)),
        8 => (1u64..20_000, 0u64..=100).prop_map(|(ms, p)| Step::Use(ms, p)),
        1 => prop_oneof![1u64..90_000, Just(2_678_400_000)].prop_map(Step::Wait),
    ]
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn take(world: &mut World, step: &Step) {
    match step {
        Step::Deploy(p, millis) => {
            let _ = run(world, NAMES[*p as usize], *millis);
        }
        Step::Remove(d) => {
            let deployment = DeploymentId(*d);
            let remove = Deploy::Remove {
                deployment,
                volumes: false,
            };
            let _ = world.ask(1, crate::Call::Deployment(remove));
        }
        Step::Running(d, running) => {
            let asked = Deploy::SetRunning {
                deployment: DeploymentId(*d),
                service: None,
                running: *running,
            };
            let _ = world.ask(1, crate::Call::Deployment(asked));
        }
        Step::Set(limit, order) => {
            let order: Vec<&str> = order.iter().map(|p| NAMES[*p as usize]).collect();
            let _ = set(world, None, *limit, &order);
        }
        Step::Use(ms, percent) => {
            let open: Vec<u64> = world
                .state
                .allocations
                .iter()
                .filter(|(_, a)| !a.closed)
                .map(|(id, _)| id.0)
                .collect();
            world.block(*ms, &[]);
            used(world, &open, ms * percent / 100);
        }
        Step::Wait(ms) => {
            world.block(*ms, &[]);
        }
    }
}

/// Never is more taken than the limit, or what was owed when it was lowered; never does one run on
/// that stops before one that is stopped.
fn check(world: &World) {
    let month = Month::of(world.state.time_ms());
    let most = world.state.limits.get(&id(1)).and_then(|l| l.most(month));
    if let Some(most) = most {
        assert!(spent(world) <= most, "{} of {most}", spent(world));
    }
    let weighed: Vec<DeploymentId> = world.state.weighed_of(&id(1)).map(|(id, _)| id).collect();
    let all = world.state.deployments.iter();
    let hold = all.filter(|(_, d)| !d.allocations.is_empty() || d.limited && !d.removed);
    assert!(hold.map(|(id, _)| *id).eq(weighed));
    let stops = world.state.stops(&id(1));
    let first_free = stops.iter().position(|s| !s.limited);
    let first_free = first_free.unwrap_or(stops.len());
    assert!(stops[first_free..].iter().all(|s| !s.limited), "{stops:?}");
    for stop in &stops {
        let record = world.state.deployments.get(&stop.deployment);
        let allocations = record.iter().flat_map(|d| &d.allocations);
        let mut known = allocations.filter_map(|a| world.state.allocations.get(a));
        assert!(
            !stop.limited || known.all(|a| { !matches!(a.desired, Desired::Run | Desired::Drain) })
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// [`World::block`] checks conservation and that a reloaded state does the same.
    #[test]
    fn a_limit_holds_to_the_unit_and_the_order_is_kept(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = dear();
        for step in &steps {
            let before = (spent(&world), Month::of(world.state.time_ms()));
            take(&mut world, step);
            check(&world);
            if before.1 == Month::of(world.state.time_ms()) {
                prop_assert!(spent(&world) >= before.0);
            }
        }
        // What one account spent the other earned.
        let earned = world.state.hosts.get(&id(10)).expect("there").earned;
        let charged = world.state.deployments.iter().map(|(_, d)| d.charged.0).sum();
        prop_assert_eq!(earned, Amount(charged));
    }

    /// Into however many reports the same usage is cut, a limit lets as much be taken.
    #[test]
    fn a_limit_takes_the_same_however_usage_is_cut(
        cuts in prop::collection::vec(0u64..60_000, 0..12),
        limit in 1u64..90,
    ) {
        let sum = |cuts: &[u64]| {
            let mut world = dear();
            run(&mut world, "web", 1_000).expect("deployed");
            set(&mut world, None, Some(400), &[]).expect("set");
            world.block(60_000, &[]);
            // Lowered to something that has been used already.
            let mut done = 0;
            for cut in cuts.iter().chain([&60_000]) {
                used(&mut world, &[1], cut.saturating_sub(done));
                done = done.max(*cut);
            }
            set(&mut world, None, Some(limit), &[]).expect("set");
            used(&mut world, &[1], 0);
            spent(&world)
        };
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert_eq!(sum(&cuts), sum(&[]));
        prop_assert_eq!(sum(&[]), Amount(60 * CREDIT));
    }
}
