use types::{AllocationId, Amount, DeploymentId, MountSource, MountSpec, Resources, TmpfsSpec};

use super::Call;
use crate::lease::Desired;
use crate::world::{World, deploy, id, line, project, report, service};
use crate::{Params, RejectKind};

fn world(hosts: u8) -> World {
    let mut world = World::new(Params::dev());
    for who in 10..10 + hosts {
        world.host(who, 8000);
    }
    world
}

fn desired(world: &World, allocation: u64) -> Desired {
    let id = AllocationId(allocation);
    world.state.allocations.get(&id).expect("there").desired
}

#[test]
fn a_quote_says_what_the_hosts_ask_that_would_be_chosen() {
    let mut world = World::new(Params::dev());
    world.host(10, 4_000);
    let price = |milli| {
        crate::Call::Host(crate::host::Call::SetPrice {
            host: id(10),
            price_multiplier_milli: milli,
        })
    };
    let spec = project("p", &[("a", service(500, 2)), ("b", service(250, 1))]);
    let full = world.state.quote(id(1), &spec);
    assert_eq!(
        full.asked_hour(),
        full.total_hour,
        "it asks all of the rates"
    );
    world.ask(10, price(700)).expect("set");
    let quote = world.state.quote(id(1), &spec);
    assert_eq!(quote.total_hour, full.total_hour, "the ceiling stays");
    let seats: Vec<(&str, u32)> = quote
        .places
        .iter()
        .map(|p| (p.service.as_str(), p.replica))
        .collect();
    assert_eq!(seats, [("a", 1), ("a", 2), ("b", 1)]);
    assert!(quote.places.iter().all(|p| p.host == id(10)));
    // Each rate is rounded down.
    let (asked, seven) = (quote.asked_hour().0, full.total_hour.0 * 7 / 10);
    assert!(
        asked <= seven && asked > seven * 999 / 1_000,
        "{asked} {seven}"
    );
    // What runs keeps its rates; what comes new has those of then.
    world.ask(1, deploy(spec.clone())).expect("deployed");
    world.ask(10, price(1_000)).expect("set");
    assert_eq!(world.state.quote(id(1), &spec).asked_hour().0, asked);
    // What would be refused is nowhere.
    let much = project("q", &[("a", service(100_000, 1))]);
    let refused = world.state.quote(id(1), &much);
    assert!(refused.refusal.is_some() && refused.places.is_empty());
    assert_eq!(refused.asked_hour(), Amount::ZERO);
}

#[test]
fn what_was_quoted_may_be_the_limit() {
    let mut world = world(1);
    let spec = project("p", &[("a", service(500, 1))]);
    let quote = world.state.quote(id(1), &spec);
    assert_eq!(quote.refusal, None);
    let with_limit = |limit| {
        crate::Call::Deployment(Call::Deploy {
            spec: spec.clone(),
            price_max_hour: Some(Amount(limit)),
        })
    };
    let refused = world.ask(1, with_limit(quote.total_hour.0 - 1));
    assert!(refused.expect_err("too dear").why.contains("limit"));
    world.ask(1, with_limit(quote.total_hour.0)).expect("fits");
    let escrow = world
        .state
        .deployments
        .get(&DeploymentId(1))
        .map(|d| d.escrow);
    assert_eq!(escrow, Some(quote.escrow));
}

/// A host must know how to end what a release has dropped.
#[test]
fn a_dropped_service_is_ended_by_the_spec_it_was_started_with() {
    let mut world = world(2);
    let (web, db) = (service(100, 1), service(200, 1));
    world
        .ask(
            1,
            deploy(project("p", &[("db", db.clone()), ("web", web.clone())])),
        )
        .expect("deployed");
    let mut slower = web.clone();
    slower.stop_grace_ms = 1;
    world
        .ask(1, deploy(project("p", &[("web", slower.clone())])))
        .expect("deployed");
    let spec = |world: &World, n| world.state.service_of(AllocationId(n)).cloned();
    assert_eq!(
        [desired(&world, 1), desired(&world, 2)],
        [Desired::Remove, Desired::Run]
    );
    assert_eq!(spec(&world, 1), Some(db.clone()));
    assert_eq!(spec(&world, 2), Some(web));
    assert_eq!(spec(&world, 3), Some(slower.clone()));
    // Further releases do not change what it runs by, however many.
    for grace in 2..20 {
        slower.stop_grace_ms = grace;
        world
            .ask(1, deploy(project("p", &[("db", slower.clone())])))
            .expect("deployed");
    }
    assert_eq!(spec(&world, 1), Some(db));
}

#[test]
fn up_starts_what_was_stopped() {
    let mut world = world(1);
    let spec = project("p", &[("a", service(100, 1))]);
    world.ask(1, deploy(spec.clone())).expect("deployed");
    let stop = crate::Call::Deployment(Call::SetRunning {
        deployment: DeploymentId(1),
        service: None,
        running: false,
    });
    world.ask(1, stop).expect("stopped");
    assert_eq!(desired(&world, 1), Desired::Stop);
    world.ask(1, deploy(spec)).expect("deployed");
    assert_eq!(desired(&world, 1), Desired::Run);
    assert_eq!(world.state.globals.allocations, 1);
}

#[test]
fn a_restart_makes_a_new_generation_and_nothing_else() {
    let mut world = world(1);
    let spec = project("p", &[("a", service(100, 1)), ("b", service(100, 1))]);
    world.ask(1, deploy(spec)).expect("deployed");
    let restart = |service: Option<&str>| {
        crate::Call::Deployment(Call::Restart {
            deployment: DeploymentId(1),
            service: service.map(Into::into),
        })
    };
    world.ask(1, restart(Some("b"))).expect("restarted");
    let generations: Vec<_> = world
        .state
        .allocations
        .iter()
        .map(|(_, a)| a.generation)
        .collect();
    assert_eq!(generations, [0, 1]);
    let refused = world.ask(1, restart(Some("c"))).expect_err("unknown");
    assert_eq!(refused.kind, RejectKind::NotFound);
    let refused = world.ask(2, restart(None)).expect_err("not the owner");
    assert_eq!(refused.kind, RejectKind::Forbidden);
}

#[test]
fn scaling_down_gives_back_what_need_not_be_held() {
    let mut world = world(1);
    world
        .ask(1, deploy(project("p", &[("a", service(100, 5))])))
        .expect("deployed");
    let full = world.state.account(&id(1)).held;
    world
        .ask(1, deploy(project("p", &[("a", service(100, 1))])))
        .expect("deployed");
    // Four of five run until their host says that they have ended.
    assert_eq!(world.state.account(&id(1)).held, full);
    let lines = (2..=5)
        .map(|n| {
            let mut last = line(n, 1, world.state.time_ms(), Default::default());
            last.last = true;
            last
        })
        .collect();
    world.ask(10, report(1, lines)).expect("ended");
    let held = world.state.account(&id(1)).held;
    assert!(held.0 <= full.0 / 5 + 5, "{held} of {full}");
}

#[test]
fn replicas_are_spread_over_hosts_and_owners_while_they_can() {
    let mut world = world(3);
    world
        .ask(1, deploy(project("p", &[("a", service(10, 5))])))
        .expect("deployed");
    let placed: Vec<_> = world
        .state
        .allocations
        .iter()
        .map(|(_, a)| a.clone())
        .collect();
    let first: std::collections::BTreeSet<_> = placed[..3].iter().map(|a| a.host).collect();
    assert_eq!(first.len(), 3);
    assert!(placed[..3].iter().all(|a| a.reason.relaxed.is_empty()));
    for late in &placed[3..] {
        assert_eq!(late.reason.relaxed, ["distinct owners", "distinct hosts"]);
    }
}

#[test]
fn a_spec_is_bounded_key_by_key() {
    let mut world = world(1);
    let refusal = |world: &mut World, change: &dyn Fn(&mut types::ServiceSpec)| {
        let mut a = service(100, 1);
        change(&mut a);
        let refused = world
            .ask(1, deploy(project("p", &[("a", a)])))
            .expect_err("refused");
        assert_eq!(refused.kind, RejectKind::Invalid, "{refused}");
        assert!(refused.what.contains("service a"), "{refused}");
    };
    let mount = |source, target: &str| {
        let target = target.to_string();
        move |s: &mut types::ServiceSpec| {
            s.mounts.push(MountSpec {
                source: MountSource::clone(&source),
                target: target.clone(),
                read_only: false,
            });
        }
    };
    for target in ["", "/", "//", "/.", "relative", "/a/../b", "/a\0b"] {
        refusal(&mut world, &mount(MountSource::Anonymous, target));
    }
    let tmpfs = |bytes, uid, mode| {
        let gid = 0;
        MountSource::Tmpfs(TmpfsSpec {
            bytes,
            uid,
            gid,
            mode,
        })
    };
    for wrong in [
        tmpfs(u64::MAX, 0, 0o755),
        tmpfs(0, 70_000, 0o755),
        tmpfs(0, 0, 0o10000),
    ] {
        refusal(&mut world, &mount(wrong, "/t"));
    }
    refusal(&mut world, &|s| {
        mount(MountSource::Anonymous, "/a")(s);
        mount(MountSource::Anonymous, "/a/./")(s);
    });
    refusal(&mut world, &|s| s.resources = Resources::default());
    refusal(&mut world, &|s| s.resources.memory_bytes = u64::MAX);
    refusal(&mut world, &|s| s.resources.disk_bytes = 0);
    refusal(&mut world, &|s| s.resources.bandwidth_kbps = 0);
    refusal(&mut world, &|s| s.pids = 0);
    refusal(&mut world, &|s| s.working_dir = Some("relative".into()));
    refusal(&mut world, &|s| s.hostname = Some("a\nb".into()));
    refusal(&mut world, &|s| s.user = Some("a b".into()));
    refusal(&mut world, &|s| s.stop_signal = Some("TERM; rm".into()));
    refusal(&mut world, &|s| s.image.reference = "a b".into());
    refusal(&mut world, &|s| s.image.reference = String::new());
    refusal(&mut world, &|s| s.command = Some(vec!["a\0".into()]));
    refusal(&mut world, &|s| {
        s.environment.insert("A=B".into(), String::new());
    });
    refusal(&mut world, &|s| {
        s.networks.insert("back".into(), Vec::new());
    });
    refusal(&mut world, &|s| {
        s.depends_on
            .insert("b".into(), types::DependencyCondition::ServiceStarted);
    });
    for published in [0, 80] {
        refusal(&mut world, &move |s| {
            for target in [1, 2] {
                s.ports.push(types::PortSpec {
                    target,
                    published: Some(published),
                    protocol: types::Protocol::Tcp,
                });
            }
        });
    }
    let health = |change: fn(&mut types::HealthCheck)| {
        move |s: &mut types::ServiceSpec| {
            let mut check = types::HealthCheck {
                test: vec!["true".into()],
                interval_ms: 1000,
                timeout_ms: 1000,
                retries: 3,
                start_period_ms: 0,
                start_interval_ms: 0,
            };
            change(&mut check);
            s.healthcheck = Some(check);
        }
    };
    refusal(&mut world, &health(|h| h.timeout_ms = 99));
    refusal(&mut world, &health(|h| h.interval_ms = 0));
    refusal(&mut world, &health(|h| h.retries = 0));
    assert!(world.state.deployments.is_empty());
    world
        .ask(1, deploy(project("p", &[("a", service(100, 1))])))
        .expect("as it was");
}

#[test]
fn a_removed_deployment_is_nobodys() {
    let mut world = world(1);
    // Nothing placed: it closes at once, and its name and port are free again.
    world
        .ask(1, deploy(project("p", &[("a", service(100, 0))])))
        .expect("deployed");
    let remove = || {
        crate::Call::Deployment(Call::Remove {
            deployment: DeploymentId(1),
            volumes: false,
        })
    };
    world.ask(1, remove()).expect("removed");
    let again = world.ask(1, remove()).expect_err("gone");
    assert_eq!(again.kind, RejectKind::Conflict);
    assert_eq!(world.state.live().count(), 0);
    world
        .ask(1, deploy(project("p", &[("a", service(100, 1))])))
        .expect("deployed");
    assert_eq!(world.state.project(&id(1), "p"), Some(DeploymentId(2)));
}

/// A release of which one replica fits nowhere: no plan, route, reservation or credit moves.
#[test]
fn all_replicas_are_placed_or_nothing_changes() {
    let mut world = world(2);
    let mut spec = project("p", &[("a", service(100, 2))]);
    world.ask(1, deploy(spec.clone())).expect("deployed");
    let without = |world: &World| {
        let mut state = world.state.clone();
        state.accounts.get_mut(&id(1)).expect("there").nonce = 0;
        state.accounts.get_mut(&id(1)).expect("there").nonces = 0;
        (state.globals.height, state.globals.time_ms) = (0, 0);
        state.records()
    };
    let before = without(&world);
    spec.services.insert("a".into(), service(200, 2));
    spec.services.insert("z".into(), service(9000, 1));
    let refused = world.ask(1, deploy(spec)).expect_err("too large");
    assert_eq!(refused.kind, RejectKind::NoHost);
    assert!(refused.why.contains("2 by resources"), "{refused}");
    assert!(world.events.is_empty());
    assert_eq!(without(&world), before);
}

#[test]
fn a_host_has_at_most_as_many_replicas_as_it_may() {
    let mut world = world(2);
    let mut web = service(100, 3);
    web.placement.replicas_per_host_max = 1;
    let refused = world
        .ask(1, deploy(project("p", &[("web", web.clone())])))
        .expect_err("two hosts, one each");
    assert_eq!(refused.kind, RejectKind::NoHost);
    web.replicas = 2;
    world
        .ask(1, deploy(project("p", &[("web", web.clone())])))
        .expect("fits");
    let host = |n| {
        world
            .state
            .allocations
            .get(&AllocationId(n))
            .map(|a| a.host)
    };
    assert!(host(1).is_some() && host(1) != host(2));
    let own = host(1).expect("there");
    let constraint = |equal| types::PlacementConstraint {
        of: types::HostFeature::Host,
        equal,
        value: own.to_string(),
    };
    let mut tied = service(100, 2);
    tied.placement.constraints = vec![constraint(true)];
    let mut free = service(100, 1);
    free.placement.constraints = vec![constraint(false)];
    let spec = project("q", &[("free", free), ("tied", tied)]);
    world.ask(1, deploy(spec)).expect("fits");
    let hosts: Vec<bool> = world
        .state
        .allocations
        .iter()
        .filter(|(_, a)| a.deployment == DeploymentId(2))
        .map(|(_, a)| (a.service == "tied") == (a.host == own))
        .collect();
    assert_eq!(hosts, [true; 3]);
}

#[test]
fn what_processes_and_names_ask_for_is_bounded() {
    let mut world = world(1);
    let refusal = |world: &mut World, change: &dyn Fn(&mut types::ServiceSpec)| {
        let mut a = service(100, 1);
        change(&mut a);
        let refused = world
            .ask(1, deploy(project("p", &[("a", a)])))
            .expect_err("refused");
        assert_eq!(refused.kind, RejectKind::Invalid, "{refused}");
        assert!(refused.what.contains("service a"), "{refused}");
    };
    refusal(&mut world, &|s| s.restart_delay_ms = u32::MAX);
    refusal(&mut world, &|s| s.restart_window_ms = u32::MAX);
    refusal(&mut world, &|s| {
        s.process.cap_add.insert("NET_ADMIN".into());
    });
    refusal(&mut world, &|s| {
        s.process.cap_drop.insert("x y".into());
    });
    refusal(&mut world, &|s| {
        let value = ("vm.max_map_count".to_string(), "1".to_string());
        s.process.sysctls.extend([value]);
    });
    refusal(&mut world, &|s| {
        let (soft, hard) = (None, Some(1));
        let limit = ("nofile".to_string(), types::Ulimit { soft, hard });
        s.process.ulimits.extend([limit]);
    });
    refusal(&mut world, &|s| s.process.oom_score_adj = 1_001);
    refusal(&mut world, &|s| s.process.shm_bytes = u64::MAX);
    refusal(&mut world, &|s| {
        s.process.groups.insert("a:b c".into());
    });
    refusal(&mut world, &|s| s.names.domainname = Some("a b".into()));
    refusal(&mut world, &|s| s.names.dns_search = vec!["a\nb".into()]);
    refusal(&mut world, &|s| {
        let address = std::net::IpAddr::from([1, 2, 3, 4]);
        s.names.extra_hosts = [("a\nb".to_string(), vec![address])].into();
    });
}

fn building() -> types::ServiceSpec {
    types::ServiceSpec {
        build: Some(types::BuildSpec {
            outputs: ["acme/web:1.2".to_string()].into(),
            ..types::BuildSpec::default()
        }),
        ..service(100, 1)
    }
}

#[test]
fn what_builds_goes_to_a_host_that_does() {
    let mut world = world(2);
    let build = || deploy(project("p", &[("web", building())]));
    let refused = world.ask(1, build()).expect_err("no host builds");
    assert_eq!(refused.kind, RejectKind::NoHost);
    assert!(refused.next.contains("buildah"), "{refused}");
    let builder = 11;
    let mut call = crate::world::registration(builder, 4_000);
    if let crate::host::Call::Register { offer, .. } = &mut call {
        offer.builds = true;
    }
    world
        .ask(builder, crate::Call::Host(call))
        .expect("registered");
    world.ask(1, build()).expect("placed");
    let placed = world.state.allocations.get(&AllocationId(1));
    assert_eq!(placed.map(|a| a.host), Some(id(builder)));
}

#[test]
fn a_build_is_bounded() {
    let mut world = world(1);
    let mut refusal = |change: &dyn Fn(&mut types::ServiceSpec, &mut types::BuildSpec)| {
        let mut service = building();
        let mut build = service.build.take().expect("one");
        change(&mut service, &mut build);
        service.build = Some(build);
        let refused = world
            .ask(1, deploy(project("p", &[("a", service)])))
            .expect_err("refused");
        assert_eq!(refused.kind, RejectKind::Invalid, "{refused}");
    };
    refusal(&|s, _| s.replicas = 2);
    refusal(&|s, _| s.restart = types::RestartPolicy::Always);
    refusal(&|_, b| b.outputs.clear());
    for output in [
        "web", "Web:1", "../web:1", "a//b:1", "web:", "web:.1", "web:a b", ":1",
    ] {
        refusal(&|_, b| {
            b.outputs.insert(output.into());
        });
    }
    refusal(&|_, b| {
        b.bases.insert("base".into(), types::ImageRef::default());
    });
    refusal(&|_, b| {
        b.contexts.insert("../x".into());
    });
    refusal(&|_, b| {
        b.args.insert("a=b".into(), String::new());
    });
    refusal(&|_, b| {
        b.labels.insert("long".into(), "x".repeat(40_000));
    });
    refusal(&|_, b| b.seconds_max = 0);
    refusal(&|_, b| b.seconds_max = types::BuildSpec::SECONDS_MAX + 1);
}
