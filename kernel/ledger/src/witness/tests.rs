use proptest::prelude::*;
use types::{Amount, RunState};

use super::{Call, Event, LINES_MAX, Saw, Statement, Target};
use crate::world::{World, deploy, id, key, project, service};
use crate::{Params, RejectKind, Rejection, account};

const ROUND_MS: u64 = 4_000;

/// Founders 101 and on; a replica of account 1 on each of two hosts, said to be running.
fn world(founders: u8) -> World {
    let params = Params {
        witness_ms: ROUND_MS,
        ..Params::dev()
    };
    with(params, founders)
}

fn with(params: Params, founders: u8) -> World {
    let founders: Vec<u8> = (101..101 + founders).collect();
    let mut world = World::founded(params, &[], &founders);
    world.host(10, 1_000);
    world.host(11, 1_000);
    run(&mut world, 1, "p", 1..=2);
    pass(&mut world);
    world
}

/// `account` deploys two replicas, one on each host.
fn run(world: &mut World, account: u8, name: &str, allocations: std::ops::RangeInclusive<u64>) {
    let mut web = service(300, 2);
    web.expose = vec![80];
    let deployed = world.ask(account, deploy(project(name, &[("web", web)])));
    deployed.expect("placed");
    for allocation in allocations {
        world.report_state(allocation, |status| {
            status.state = RunState::Running;
            let address = [10, 64, 0, allocation as u8];
            status.addresses = [("default".to_string(), address)].into();
        });
    }
}

/// To the middle of the round after the next one.
fn pass(world: &mut World) {
    let until = (world.state.time_ms() / ROUND_MS + 2) * ROUND_MS + ROUND_MS / 2;
    while world.state.time_ms() < until {
        world.pass(1, &[]);
    }
}

fn saw(world: &World, who: u8, saw: impl Fn(&Target) -> Saw) -> Statement {
    let look = world.state.look_of(&key(who).public()).expect("a witness");
    let lot = key(who).sign(&look.message.0);
    let targets = world.state.targets(&lot, look.epoch, look.round);
    let line = |target: &Target| super::Line {
        allocation: target.allocation,
        saw: saw(target),
    };
    Statement {
        epoch: look.epoch,
        round: look.round,
        height: look.height,
        lot,
        nonce: [who; 16],
        lines: targets.iter().map(line).collect(),
    }
}

fn tell(world: &mut World, who: u8, statement: Statement) -> Result<(), Rejection> {
    world.ask(who, crate::Call::Witness(Call::State(statement)))
}

/// All that runs on host 11 answers like this, on others promptly.
fn eleven(how: Saw) -> impl Fn(&Target) -> Saw {
    move |target| match target.host == id(11) {
        true => how,
        false => Saw::Prompt,
    }
}

fn flags(world: &World, host: u8) -> u64 {
    let host = world.state.hosts.get(&id(host)).expect("there");
    host.record.flags_milli() / 1_000
}

#[test]
fn a_quorum_without_an_answer_flags_a_host_once() {
    let mut world = world(4);
    for who in 101..104 {
        assert_eq!(flags(&world, 11), 0, "before {who}");
        let statement = saw(&world, who, eleven(Saw::Refused));
        assert_eq!(statement.lines.len(), 2);
        tell(&mut world, who, statement).expect("taken");
    }
    assert_eq!((flags(&world, 10), flags(&world, 11)), (0, 1));
    let told = world.events.iter().find_map(|event| match event {
        crate::Event::Witness(Event::HostFlagged { host, flag }) => Some((*host, flag.clone())),
        _ => None,
    });
    let (host, flag) = told.expect("told");
    assert_eq!((host, flag.saw, flag.drawn), (id(11), Saw::Refused, 4));
    assert_eq!(flag.witnesses.len(), 3);
    let kept = world.state.watched.get(&id(11)).expect("kept");
    assert_eq!(kept.flag.as_ref(), Some(&flag), "its owner sees why");
    // Placement goes by it.
    let bad = |host| {
        let host = world.state.hosts.get(&id(host)).expect("there");
        host.record.bad_ms()
    };
    assert!(bad(11) > bad(10));
    // More of the same costs no more within the hour.
    for _ in 0..3 {
        pass(&mut world);
        for who in 101..105 {
            let statement = saw(&world, who, eleven(Saw::Unreachable));
            tell(&mut world, who, statement).expect("taken");
        }
    }
    assert_eq!(flags(&world, 11), 1);
}

#[test]
fn the_last_look_counts() {
    let mut world = world(4);
    for who in [101, 102] {
        let statement = saw(&world, who, eleven(Saw::Refused));
        tell(&mut world, who, statement).expect("taken");
    }
    pass(&mut world);
    for who in [101, 102] {
        let statement = saw(&world, who, eleven(Saw::Slow));
        tell(&mut world, who, statement).expect("taken");
    }
    for who in [103, 104] {
        let statement = saw(&world, who, eleven(Saw::Refused));
        tell(&mut world, who, statement).expect("taken");
    }
    let watched = world.state.watched.get(&id(11)).expect("kept");
    assert_eq!(watched.against.count_ones(), 2);
    assert_eq!(flags(&world, 11), 0, "two of four: a blip");
}

#[test]
fn what_is_not_the_hosts_fault_is_not_counted() {
    let refused = |mut world: World| {
        for who in 101..105 {
            let statement = saw(&world, who, eleven(Saw::Refused));
            tell(&mut world, who, statement).expect("taken");
        }
        flags(&world, 11)
    };
    // It has said in this round that the replica has ended, or that it is not well.
    let mut said = world(4);
    let on_eleven = said.state.allocations_on(&id(11)).next().expect("one").0;
    let statements: Vec<_> = (101..105)
        .map(|who| saw(&said, who, eleven(Saw::Refused)))
        .collect();
    said.report_state(on_eleven.0, |status| {
        status.health = types::Health::Unhealthy
    });
    for (who, statement) in (101..).zip(statements) {
        tell(&mut said, who, statement).expect("taken");
    }
    assert_eq!(flags(&said, 11), 0);
    // The whole host is silent: that has its own price.
    let mut silent = world(4);
    silent.pass(6, &[11]);
    assert_eq!(refused(silent), 0);
    // All of one account's replicas take connections and say nothing: that may be its own doing.
    let silence = |mut world: World| {
        for who in 101..105 {
            let statement = saw(&world, who, eleven(Saw::Silent));
            tell(&mut world, who, statement).expect("taken");
        }
        flags(&world, 11)
    };
    assert_eq!(silence(world(4)), 0);
    let mut two = world(4);
    run(&mut two, 2, "q", 3..=4);
    pass(&mut two);
    assert_eq!(silence(two), 1, "two accounts' replicas at once are not");
    // One that answers is enough: the other's network is its owner's affair.
    let mut two = world(4);
    run(&mut two, 2, "q", 3..=4);
    pass(&mut two);
    for who in 101..105 {
        let statement = saw(&two, who, |target| match target.allocation.0 {
            1 | 2 => Saw::Refused,
            _ => Saw::Prompt,
        });
        tell(&mut two, who, statement).expect("taken");
    }
    assert_eq!(flags(&two, 11), 0);
}

#[test]
fn nobody_makes_or_loses_a_name_on_his_own_host() {
    let params = Params {
        witness_ms: ROUND_MS,
        ..Params::dev()
    };
    let mut world = World::founded(params, &[], &[101]);
    world.host(10, 1_000);
    let gift = crate::Call::Account(account::Call::Transfer {
        to: id(10),
        amount: Amount::credits(50),
        memo: String::new(),
    });
    world.ask(1, gift).expect("given");
    let mut web = service(300, 1);
    web.expose = vec![80];
    let deployed = world.ask(10, deploy(project("own", &[("web", web)])));
    deployed.expect("placed");
    world.report_state(1, |status| {
        status.state = RunState::Running;
        status.addresses = [("default".to_string(), [10, 64, 0, 1])].into();
    });
    pass(&mut world);
    assert!(saw(&world, 101, |_| Saw::Refused).lines.is_empty());
}

#[test]
fn only_witnesses_are_asked_and_once_a_round() {
    let mut world = world(4);
    let good = saw(&world, 101, |_| Saw::Prompt);
    let kind = |told: Result<(), Rejection>| told.map_err(|r| r.kind);
    let refused = kind(tell(&mut world, 1, good.clone()));
    assert_eq!(refused, Err(RejectKind::Forbidden), "a stranger");
    let refused = kind(tell(&mut world, 102, good.clone()));
    assert_eq!(refused, Err(RejectKind::Signature), "another's lot");
    let mut twice = good.clone();
    twice.lines.extend(good.lines.clone());
    let refused = kind(tell(&mut world, 101, twice));
    assert_eq!(refused, Err(RejectKind::Invalid));
    let mut many = good.clone();
    many.lines = (0..=LINES_MAX as u64)
        .map(|n| super::Line {
            allocation: types::AllocationId(n),
            saw: Saw::Refused,
        })
        .collect();
    let refused = kind(tell(&mut world, 101, many.clone()));
    assert_eq!(refused, Err(RejectKind::Invalid));
    many.lines.truncate(LINES_MAX);
    tell(&mut world, 101, many).expect("what it need not look at is passed over");
    let refused = kind(tell(&mut world, 101, good.clone()));
    assert_eq!(refused, Err(RejectKind::Conflict), "twice");
    pass(&mut world);
    let refused = kind(tell(&mut world, 102, good));
    assert_eq!(refused, Err(RejectKind::Stale), "of a round long over");
    assert!(
        world
            .state
            .look_of(&key(101).public())
            .is_some_and(|l| !l.told)
    );
    assert!(world.state.look_of(&key(1).public()).is_none());
}

#[test]
fn who_leaves_is_forgotten_and_a_network_may_do_without() {
    let mut world = world(1);
    world.host(12, 1_000);
    for _ in 0..2 {
        let statement = saw(&world, 101, |_| Saw::Prompt);
        tell(&mut world, 101, statement).expect("taken");
        pass(&mut world);
    }
    let params = Params {
        witness_ms: 0,
        ..Params::dev()
    };
    let world = with(params, 1);
    assert!(world.state.look_of(&key(101).public()).is_none());
}

/// Witnesses are paid like all others who work: out of the fees, to the unit.
#[test]
fn a_witness_earns_of_the_fees() {
    let mut world = with(
        Params {
            witness_ms: ROUND_MS,
            fee: Amount(1_000_003),
            epoch_blocks: 64,
            ..Params::dev()
        },
        4,
    );
    let epoch = world.state.epoch();
    for who in [101, 102] {
        let statement = saw(&world, who, |_| Saw::Prompt);
        tell(&mut world, who, statement).expect("taken");
    }
    assert_eq!(world.state.epoch(), epoch, "told within it");
    let fees = world.state.duties.get(&epoch).expect("begun").fees;
    assert!(!fees.is_zero());
    while world.state.epoch() == epoch {
        world.pass(1, &[]);
    }
    let duties = world.state.duties.get(&epoch).expect("kept");
    let earned: u128 = duties.by.values().map(|d| d.earned.0).sum();
    assert_eq!(earned, fees.0);
    for who in [101, 102] {
        let done = duties.by.get(&key(who).public()).expect("did");
        assert_eq!(done.witnessed, 1);
        assert!(done.earned.0.abs_diff(fees.0 / 2) <= 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// As many liars as are borne, whatever they say and when: who answers is not flagged, who
    /// does not is, as soon as the honest have looked.
    #[test]
    fn liars_flag_nobody_and_save_nobody(
        founders in 1u8..11,
        first in 0u8..10,
        lies in prop::collection::vec((0usize..5, 0usize..5, any::<bool>()), 12),
        dies in 0usize..3,
    ) {
        const ALL: [Saw; 5] =
            [Saw::Prompt, Saw::Slow, Saw::Silent, Saw::Refused, Saw::Unreachable];
        let mut world = world(founders);
        let liars = (founders - 1) / 3;
        let is_liar = |n: u8| (n + founders - first % founders) % founders < liars;
        let mut lies = lies.into_iter().cycle();
        for round in 0..4 {
            let dead = round >= dies;
            for n in 0..founders {
                let who = 101 + n;
                let (ten, other, early) = lies.next().expect("endless");
                let statement = if is_liar(n) {
                    saw(&world, who, |t| ALL[if t.host == id(10) { ten } else { other }])
                } else {
                    saw(&world, who, eleven(if dead { Saw::Refused } else { Saw::Prompt }))
                };
                if !is_liar(n) || early {
                    tell(&mut world, who, statement).expect("taken");
                }
                prop_assert_eq!(flags(&world, 10), 0);
                prop_assert!(dead || flags(&world, 11) == 0);
            }
            // Of ten witnesses each looks at a host in four of five rounds.
            pass(&mut world);
        }
        prop_assert_eq!(flags(&world, 11), 1);
    }
}
