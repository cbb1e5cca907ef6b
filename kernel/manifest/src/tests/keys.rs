//! What is made of each key.

use types::{
    AutoscaleSpec, DependencyCondition, MountSource, PortSpec, Protocol, RestartPolicy,
    ScaleTarget, TmpfsSpec, VolumePart,
};

use super::*;

#[test]
fn defaults() {
    let project = try_read("services: { web: { image: nginx } }").unwrap();
    assert_eq!(project.name, "myproject");
    assert!(project.warnings.is_empty());
    assert_eq!(project.images().into_iter().collect::<Vec<_>>(), ["nginx"]);
    assert!(project.networks.contains_key("default"));
    let web = &project.services["web"].spec;
    assert_eq!(web.resources.cpu_millis, 500);
    assert_eq!(web.resources.memory_bytes, 256 << 20);
    assert_eq!(web.resources.disk_bytes, 1 << 30);
    assert_eq!(web.resources.bandwidth_kbps, 10_000);
    assert_eq!(
        (web.pids, web.replicas, web.stop_grace_ms),
        (512, 1, 10_000)
    );
    assert_eq!(web.networks, [("default".to_string(), vec![])].into());
}

#[test]
fn each_key_is_obeyed() {
    type Check = fn(&ServiceSpec) -> bool;
    let table: &[(&str, Check)] = &[
        ("command: a 'b c' \"d e\" f\\ g", |s| {
            s.command == Some(strings(&["a", "b c", "d e", "f g"]))
        }),
        ("command: [\"a\", \"b c\", 3]", |s| {
            s.command == Some(strings(&["a", "b c", "3"]))
        }),
        ("command:", |s| s.command.is_none()),
        ("command: echo #x", |s| {
            s.command == Some(strings(&["echo"]))
        }),
        ("command: 'echo #x'", |s| {
            s.command == Some(strings(&["echo", "#x"]))
        }),
        ("entrypoint: []", |s| s.entrypoint == Some(vec![])),
        ("entrypoint: /run.sh now", |s| {
            s.entrypoint == Some(strings(&["/run.sh", "now"]))
        }),
        (
            "environment: { A: 1, B: true, C: 'x=y', SET: , NOPE: }",
            |s| {
                s.environment.len() == 4
                    && s.environment["A"] == "1"
                    && s.environment["B"] == "true"
                    && s.environment["C"] == "x=y"
                    && s.environment["SET"] == "value"
            },
        ),
        ("environment: [A=1, B=, SET, NOPE, 'C=$${x}']", |s| {
            s.environment.len() == 4
                && s.environment["B"].is_empty()
                && s.environment["C"] == "${x}"
        }),
        ("env_file: web.env", |s| {
            s.environment["A"] == "1" && s.environment["B"] == "two value"
        }),
        (
            "env_file: [web.env, { path: more.env }, { path: gone.env, required: false }]\nenvironment: [A=9]",
            |s| s.environment["A"] == "9" && s.environment["B"] == "3" && s.environment["C"] == "3",
        ),
        (
            "ports: ['8080:80', '53:53/udp', 3000, '127.0.0.1:1:2']",
            |s| {
                let port = |target, published, protocol| PortSpec {
                    target,
                    published,
                    protocol,
                };
                s.ports
                    == [
                        port(80, Some(8080), Protocol::Tcp),
                        port(53, Some(53), Protocol::Udp),
                        port(3000, None, Protocol::Tcp),
                        port(2, Some(1), Protocol::Tcp),
                    ]
            },
        ),
        ("ports: ['7000-7002:9000-9002']", |s| {
            s.ports.len() == 3 && s.ports[2].published == Some(7002) && s.ports[2].target == 9002
        }),
        ("healthcheck: { disable: false }", |s| {
            s.healthcheck.is_none()
        }),
        ("healthcheck: { test: x, retries: 0, interval: 0s }", |s| {
            let check = s.healthcheck.as_ref().unwrap();
            (check.retries, check.interval_ms) == (3, 30_000)
        }),
        // Several may be meant: the first that others of the project leave free.
        (
            "ports: ['8000-8010:80', '8000:81', '8001-8002:82/udp', { target: 83, published: '8000-8002' }]",
            |s| {
                let published: Vec<_> = s.ports.iter().map(|p| p.published.unwrap()).collect();
                published == [8001, 8000, 8001, 8002]
            },
        ),
        ("ports: ['3000-3002', 80, 80]", |s| {
            s.ports.len() == 4 && s.ports[..3].iter().all(|p| p.published.is_none())
        }),
        ("ports: ['${PORT}:80']", |s| {
            s.ports[0].published == Some(8080)
        }),
        (
            "ports:\n- target: 80\n  published: '8081'\n  protocol: udp\n  host_ip: 0.0.0.0",
            |s| s.ports[0].published == Some(8081) && s.ports[0].protocol == Protocol::Udp,
        ),
        ("expose: [3000, '4000-4002', 3000]", |s| {
            s.expose == [3000, 4000, 4001, 4002]
        }),
        ("volumes: ['data:/d:ro', /cache]", |s| {
            s.mounts[0].source == MountSource::Volume("data".into())
                && s.mounts[0].read_only
                && s.mounts[1].source == MountSource::Anonymous
        }),
        (
            "volumes:\n- type: tmpfs\n  target: /t\n  tmpfs: { size: 64m }\n- { type: volume, source: data, target: /d }",
            |s| {
                s.mounts[0].source == MountSource::Tmpfs(TmpfsSpec::of(64 << 20))
                    && s.mounts[1].target == "/d"
            },
        ),
        (
            "volumes: [{ type: volume, source: data, target: /d, volume: { subpath: a/./b/ } }]",
            |s| {
                s.mounts[0].source
                    == MountSource::Part(VolumePart {
                        volume: "data".into(),
                        path: "a/b".into(),
                    })
            },
        ),
        ("tmpfs: /run:mode=750,uid=7,gid=8", |s| {
            let (bytes, uid, gid, mode) = (0, 7, 8, 0o750);
            s.mounts[0].source
                == MountSource::Tmpfs(TmpfsSpec {
                    bytes,
                    uid,
                    gid,
                    mode,
                })
        }),
        (
            "volumes: [{ type: tmpfs, target: /t, tmpfs: { mode: 0o700 } }]",
            |s| matches!(&s.mounts[0].source, MountSource::Tmpfs(t) if t.mode == 0o700),
        ),
        ("annotations: { a: b, c: d }\nlabels: [a=e]", |s| {
            s.labels["a"] == "e" && s.labels["c"] == "d"
        }),
        ("container_name: the_web", |s| {
            s.networks["default"] == ["the_web"]
        }),
        ("container_name: db", |s| s.networks["default"].is_empty()),
        ("tmpfs: /run", |s| {
            s.mounts[0].source == MountSource::Tmpfs(TmpfsSpec::of(0))
        }),
        ("tmpfs: ['/run:size=1g,ro']", |s| {
            s.mounts[0].source == MountSource::Tmpfs(TmpfsSpec::of(1 << 30))
                && s.mounts[0].read_only
        }),
        ("networks: [back, default]", |s| s.networks.len() == 2),
        ("networks: { back: { aliases: [api, www] } }", |s| {
            s.networks["back"] == ["api", "www"]
        }),
        ("depends_on: [db]", |s| {
            s.depends_on["db"] == DependencyCondition::ServiceStarted
        }),
        (
            "depends_on: { db: { condition: service_completed_successfully } }",
            |s| s.depends_on["db"] == DependencyCondition::ServiceCompletedSuccessfully,
        ),
        (
            "healthcheck:\n  test: curl -f x\n  interval: 1m30s\n  timeout: 1.5s\n  retries: 5\n  start_period: 0\n  start_interval: 250ms",
            |s| {
                let check = s.healthcheck.as_ref().unwrap();
                check.test == strings(&["/bin/sh", "-c", "curl -f x"])
                    && check.interval_ms == 90_000
                    && check.timeout_ms == 1_500
                    && check.retries == 5
                    && check.start_interval_ms == 250
            },
        ),
        ("healthcheck: { test: [CMD, a, b] }", |s| {
            s.healthcheck.as_ref().unwrap().test == strings(&["a", "b"])
        }),
        ("healthcheck: { test: [CMD-SHELL, a b] }", |s| {
            s.healthcheck.as_ref().unwrap().test == strings(&["/bin/sh", "-c", "a b"])
        }),
        ("healthcheck: { test: [NONE] }", |s| {
            s.healthcheck.as_ref().unwrap().is_off()
        }),
        ("healthcheck: { disable: true }", |s| {
            s.healthcheck.as_ref().unwrap().is_off()
        }),
        ("restart: no", |s| s.restart == RestartPolicy::No),
        ("restart: 'on-failure:3'", |s| {
            s.restart == RestartPolicy::OnFailure(3)
        }),
        ("restart: unless-stopped", |s| {
            s.restart == RestartPolicy::UnlessStopped
        }),
        (
            "deploy: { restart_policy: { condition: on-failure, max_attempts: 2 } }",
            |s| s.restart == RestartPolicy::OnFailure(2),
        ),
        ("deploy: { restart_policy: { condition: any } }", |s| {
            s.restart == RestartPolicy::Always
        }),
        ("user: 1000:1000", |s| {
            s.user.as_deref() == Some("1000:1000")
        }),
        ("user: 0", |s| s.user.as_deref() == Some("0")),
        ("working_dir: /app", |s| {
            s.working_dir.as_deref() == Some("/app")
        }),
        ("hostname: box", |s| s.hostname.as_deref() == Some("box")),
        ("labels: [a=b, c]", |s| {
            s.labels["a"] == "b" && s.labels["c"].is_empty()
        }),
        ("labels: { a: 1 }", |s| s.labels["a"] == "1"),
        ("stop_signal: quit", |s| {
            s.stop_signal.as_deref() == Some("SIGQUIT")
        }),
        ("stop_signal: 15", |s| {
            s.stop_signal.as_deref() == Some("15")
        }),
        ("stop_grace_period: 1m", |s| s.stop_grace_ms == 60_000),
        ("read_only: true\ntty: yes", |s| s.read_only && s.tty),
        ("init: true\nstdin_open: true", |s| {
            s.process.init && s.process.stdin_open
        }),
        ("mem_limit: 1.5g\ncpus: 0.25\npids_limit: 99", |s| {
            s.resources.memory_bytes == 3 << 29 && s.resources.cpu_millis == 250 && s.pids == 99
        }),
        (
            "deploy: { replicas: 3, resources: { limits: { cpus: '2', memory: 1G, pids: 7 } } }",
            |s| {
                s.replicas == 3
                    && s.resources.cpu_millis == 2_000
                    && s.resources.memory_bytes == 1 << 30
                    && s.pids == 7
            },
        ),
        (
            "deploy: { resources: { reservations: { cpus: 0.1, memory: 64M } } }",
            |s| s.resources.cpu_millis == 100 && s.resources.memory_bytes == 64 << 20,
        ),
        ("scale: 2", |s| s.replicas == 2),
        ("cpu_quota: 25000", |s| s.resources.cpu_millis == 250),
        ("cpu_quota: 30000\ncpu_period: 60000", |s| {
            s.resources.cpu_millis == 500
        }),
        ("storage_opt: { size: 3g }", |s| {
            s.resources.disk_bytes == 3 << 30
        }),
        ("cap_add: [cap_chown, SYS_NICE]\ncap_drop: [all]", |s| {
            s.process.capabilities().collect::<Vec<_>>() == ["CHOWN"]
        }),
        ("sysctls: [net.core.somaxconn=1024]", |s| {
            s.process.sysctls["net.core.somaxconn"] == "1024"
        }),
        (
            "ulimits: { nproc: 65535, memlock: -1, nofile: { soft: 1, hard: -1 } }",
            |s| {
                let limit =
                    |name: &str| (s.process.ulimits[name].soft, s.process.ulimits[name].hard);
                limit("nproc") == (Some(65_535), Some(65_535))
                    && limit("memlock") == (None, None)
                    && limit("nofile") == (Some(1), None)
            },
        ),
        (
            "shm_size: 1g\noom_score_adj: 7\ngroup_add: [audio, 5]",
            |s| {
                s.process.shm_bytes == 1 << 30
                    && s.process.oom_score_adj == 7
                    && s.process.groups.len() == 2
            },
        ),
        (
            "extra_hosts: ['a=1.2.3.4', 'b:::1', 'a:5.6.7.8']\ndomainname: d.org",
            |s| {
                s.names.extra_hosts["a"].len() == 2
                    && s.names.extra_hosts["b"][0].is_ipv6()
                    && s.names.domainname.as_deref() == Some("d.org")
            },
        ),
        ("extra_hosts: { a: [1.2.3.4, '::1'], b: '[::1]' }", |s| {
            s.names.extra_hosts["a"].len() == 2 && s.names.extra_hosts["b"].len() == 1
        }),
        ("dns_search: [a.org, b.org]\ndns_opt: [ndots:2]", |s| {
            s.names.dns_search.len() == 2 && s.names.dns_options == ["ndots:2"]
        }),
        ("platform: linux/arm64/v8", |s| {
            let constraint = &s.placement.constraints[0];
            constraint.value == "arm64" && constraint.equal
        }),
        (
            "deploy: { placement: { constraints: [node.labels.region!=eu, node.platform.arch == x86_64], max_replicas_per_node: 2 } }",
            |s| {
                let all = &s.placement.constraints;
                !all[0].equal
                    && all[0].value == "eu"
                    && all[1].value == "amd64"
                    && s.placement.replicas_per_host_max == 2
            },
        ),
        (
            "volumes: [data:/data:nocopy, { type: volume, target: /a, volume: { nocopy: true } }, /b]",
            |s| s.bare.iter().eq(["/a", "/data"]),
        ),
        ("cpu_shares: 512", |s| s.process.cpu_shares == 512),
        ("cpu_shares: 4096", |s| s.process.cpu_shares == 1_024),
        ("network_mode: none\ncontainer_name: alone", |s| {
            s.offline && s.networks.is_empty()
        }),
        ("network_mode: none\nports: !reset []", |s| s.offline),
        (
            "deploy: { update_config: { parallelism: 0, order: stop-first, delay: 2s, monitor: 1m, failure_action: continue, max_failure_ratio: 0.25 } }",
            |s| {
                s.update
                    == types::UpdatePolicy {
                        parallelism: 0,
                        order: types::UpdateOrder::StopFirst,
                        on_failure: types::UpdateFailure::Continue,
                        monitor_ms: Some(60_000),
                        delay_ms: 2_000,
                        failures_permille: 250,
                    }
            },
        ),
        (
            "deploy: { restart_policy: { condition: on-failure, max_attempts: 3, window: 2m } }",
            |s| s.restart_window_ms == 120_000 && s.restart == RestartPolicy::OnFailure(3),
        ),
        ("deploy: { restart_policy: { delay: 5s } }", |s| {
            s.restart_delay_ms == 5_000 && s.restart == RestartPolicy::Always
        }),
        ("label_file: labels.env\nlabels: { both: key }", |s| {
            s.labels["one"] == "1" && s.labels["both"] == "key"
        }),
        ("env_file: [{ path: raw.env, format: raw }]", |s| {
            s.environment["A"] == "'as $it' # is" && s.environment["SET"] == "value"
        }),
        ("links: [db]", |s| s.depends_on.contains_key("db")),
        (
            "expose: [80]\nx-runrig: { autoscale: { min: 0, max: 4, requests: 100/s, idle: 5m } }",
            |s| {
                let expected = AutoscaleSpec {
                    min: 0,
                    max: 4,
                    target: ScaleTarget::RequestsPerSecond(100),
                    idle_ms: 300_000,
                };
                (s.autoscale, s.replicas) == (Some(expected), 1)
            },
        ),
        (
            "deploy: { replicas: 3, x-runrig: { autoscale: { min: 2, max: 4, cpu: 70 } } }",
            |s| {
                let target = s.autoscale.map(|a| (a.min, a.target, a.idle_ms));
                (target, s.replicas) == (Some((2, ScaleTarget::Cpu(70), 60_000)), 3)
            },
        ),
        ("x-runrig: { autoscale: { min: 2, max: 4 } }", |s| {
            s.autoscale.map(|a| a.target) == Some(ScaleTarget::Requests(100)) && s.replicas == 2
        }),
        ("x-runrig: { disk: 5GiB, bandwidth: 2.5mbit }", |s| {
            s.resources.disk_bytes == 5 << 30 && s.resources.bandwidth_kbps == 2_500
        }),
        ("x-anything: [1, 2]", |s| s.image.reference == "nginx"),
    ];
    for (lines, check) in table {
        assert!(check(&service(lines)), "{lines}: {:#?}", service(lines));
    }
}

#[test]
fn sizes_and_times() {
    for (text, bytes) in [
        ("1", Some(1)),
        ("2b", Some(2)),
        ("1k", Some(1 << 10)),
        ("1 KB", Some(1 << 10)),
        ("1.5MiB", Some(3 << 19)),
        ("0.5g", Some(1 << 29)),
        ("1x", None),
        ("", None),
        (".", None),
        ("-1", None),
        ("99999999999999999t", None),
    ] {
        assert_eq!(value::bytes(text), bytes, "{text}");
    }
    for (text, ms) in [
        ("0", Some(0)),
        ("10s", Some(10_000)),
        ("1h2m3s4ms", Some(3_723_004)),
        ("1.5m", Some(90_000)),
        ("500us", Some(0)),
        ("10", None),
        ("s", None),
        ("-1s", None),
        ("99999h", None),
    ] {
        assert_eq!(value::duration_ms(text), ms, "{text}");
    }
    assert_eq!(value::cpu_millis("0.0001"), Some(1));
    assert_eq!(value::kilobits("1gbit"), Some(1_000_000));
    assert_eq!(value::kilobits("10"), None);
}

#[test]
fn who_names_the_project() {
    let named = |text: &str, project: Option<&str>, directory: &str| {
        read(Inputs {
            files: vec![Source { name: "c", text }],
            environment: BTreeMap::new(),
            project: project.map(String::from),
            profiles: BTreeSet::new(),
            directory,
            folder: &Files(&[]),
        })
        .map(|p| p.name)
        .ok()
    };
    let plain = "services: { a: { image: b } }";
    let with_name = "name: own\nservices: { a: { image: b } }";
    assert_eq!(named(plain, None, "__My App!").as_deref(), Some("myapp"));
    assert_eq!(named(with_name, None, "dir").as_deref(), Some("own"));
    assert_eq!(
        named(with_name, Some("asked"), "dir").as_deref(),
        Some("asked")
    );
    assert_eq!(named(plain, Some("Bad"), "dir"), None);
    assert_eq!(named(plain, None, "???"), None);
}
