use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use types::{
    AutoscaleSpec, DependencyCondition, DeploymentSpec, Digest, ImageRef, MountSource, PortSpec,
    Protocol, RestartPolicy, ScaleTarget, ServiceSpec,
};

use super::*;

const ENVIRONMENT: [(&str, &str); 4] = [
    ("SET", "value"),
    ("EMPTY", ""),
    ("OTHER", "other"),
    ("PORT", "8080"),
];

fn environment() -> BTreeMap<String, String> {
    ENVIRONMENT
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

/// A folder in memory.
pub(crate) struct Files<'a>(pub &'a [(&'a str, &'a str)]);

impl Folder for Files<'_> {
    fn text(&self, path: &str) -> Result<Option<String>, String> {
        if path == "locked.env" {
            return Err("permission denied".into());
        }
        let found = self.0.iter().find(|(name, _)| *name == path);
        Ok(found.map(|(_, text)| text.to_string()))
    }

    fn kind(&self, path: &str) -> Kind {
        let below = |name: &str| path.is_empty() || name.starts_with(&format!("{path}/"));
        match path {
            "empty" => Kind::Empty,
            "socket" => Kind::Other,
            _ if self.0.iter().any(|(name, _)| *name == path) => Kind::File,
            _ if self.0.iter().any(|(name, _)| below(name)) => Kind::Folder,
            _ => Kind::Missing,
        }
    }
}

const FOLDER: &[(&str, &str)] = &[
    ("web.env", "A=1\nB=\"two $SET\"\n"),
    ("more.env", "B=3\nC=$B\n"),
    ("raw.env", "A='as $it' # is\nSET\n"),
    ("bad.env", "A=1\nnot a line\n"),
    ("labels.env", "one=1\nboth=file\n"),
];

/// `files`, one over the other, in a folder that holds `folder`.
pub(crate) fn read_files(
    files: &[(&str, &str)],
    folder: &[(&str, &str)],
    profiles: &[&str],
) -> Result<Project, Problems> {
    read(Inputs {
        files: files
            .iter()
            .map(|(name, text)| Source { name, text })
            .collect(),
        environment: environment(),
        project: None,
        profiles: profiles.iter().map(|p| p.to_string()).collect(),
        directory: "/home/me/My Project",
        folder: &Files(folder),
    })
}

fn try_read(text: &str) -> Result<Project, Problems> {
    read_files(&[("compose.yaml", text)], FOLDER, &[])
}

/// A file with one service `web` of these further lines (at its depth).
fn with(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "services:\n  web:\n    image: nginx\n{}  db:\n    image: redis\nvolumes: {{ data: }}\nnetworks: {{ back: }}\n",
        lines.concat()
    )
}

fn service(lines: &str) -> ServiceSpec {
    let text = with(lines);
    let mut project = try_read(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    project.services.remove("web").unwrap().spec
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

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
            |s| s.mounts[0].source == MountSource::Tmpfs(64 << 20) && s.mounts[1].target == "/d",
        ),
        ("tmpfs: /run", |s| {
            s.mounts[0].source == MountSource::Tmpfs(0)
        }),
        ("tmpfs: ['/run:size=1g,ro']", |s| {
            s.mounts[0].source == MountSource::Tmpfs(1 << 30) && s.mounts[0].read_only
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
            "deploy: { update_config: { parallelism: 0, order: stop-first, delay: 2s, monitor: 1m, failure_action: continue } }",
            |s| {
                s.update
                    == types::UpdatePolicy {
                        parallelism: 0,
                        order: types::UpdateOrder::StopFirst,
                        on_failure: types::UpdateFailure::Continue,
                        monitor_ms: Some(60_000),
                        delay_ms: 2_000,
                    }
            },
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

/// What each line is refused for, at which line of the file, under which key.
#[test]
fn each_refusal_names_its_line_and_key() {
    let table = [
        (
            "privileged: true",
            4,
            "services.web.privileged",
            "not supported",
        ),
        ("secrets: [a]", 4, "services.web.secrets", "not supported"),
        (
            "network_mode: host",
            4,
            "services.web.network_mode",
            "not supported",
        ),
        ("imag: x", 4, "services.web.imag", "not a key of a service"),
        (
            "tty: true\ntty: true",
            5,
            "services.web",
            "stands here twice",
        ),
        ("tty: maybe", 4, "services.web.tty", "cannot be read"),
        ("command: 'a \"b'", 4, "services.web.command", "left open"),
        (
            "command: { a: b }",
            4,
            "services.web.command",
            "a mapping stands here",
        ),
        (
            "ports: ['99999:80']",
            4,
            "services.web.ports[0]",
            "is no port",
        ),
        (
            "ports: ['80', '1-3:1-2']",
            4,
            "services.web.ports[1]",
            "differ in length",
        ),
        (
            "ports: ['8000-8010:80']",
            4,
            "services.web.ports[0]",
            "differ in length",
        ),
        (
            "ports: ['10.0.0.1:80:80']",
            4,
            "services.web.ports[0]",
            "cannot be had",
        ),
        (
            "ports: ['1-9999:1-9999']",
            4,
            "services.web.ports[0]",
            "in one range",
        ),
        (
            "ports: ['80:80', '80:81']",
            4,
            "services.web.ports",
            "published twice",
        ),
        (
            "ports: '80:80'",
            4,
            "services.web.ports",
            "a single value stands here",
        ),
        (
            "ports:\n- published: 80",
            5,
            "services.web.ports[0]",
            "target is missing",
        ),
        (
            "volumes:\n- data:/d\n- ./gone:/src:ro",
            6,
            "services.web.volumes[1]",
            "does not exist",
        ),
        (
            "volumes: ['/srv/files:/x']",
            4,
            "services.web.volumes[0]",
            "cannot be mounted",
        ),
        (
            "volumes: ['~/files:/x']",
            4,
            "services.web.volumes[0]",
            "cannot be mounted",
        ),
        (
            "volumes: ['./socket:/x']",
            4,
            "services.web.volumes[0]",
            "neither a file",
        ),
        (
            "volumes:\n- { type: bind, source: ./gone, target: /x, bind: { create_host_path: false } }",
            5,
            "services.web.volumes[0]",
            "does not exist",
        ),
        (
            "volumes: ['./web.env:/x', '/x']",
            2,
            "services.web",
            "two volumes",
        ),
        ("configs: [gone]", 4, "services.web.configs", "not declared"),
        (
            "configs: [{ source: a, mode: 999 }]",
            4,
            "services.web.configs[0].mode",
            "cannot be read",
        ),
        (
            "volumes: ['/var/run/docker.sock:/x']",
            4,
            "services.web.volumes[0]",
            "cannot be mounted",
        ),
        (
            "volumes: ['C:\\a:/x']",
            4,
            "services.web.volumes[0]",
            "cannot be mounted",
        ),
        (
            "volumes:\n- { type: bind, source: /, target: /x }",
            5,
            "services.web.volumes[0]",
            "cannot be mounted",
        ),
        (
            "volumes: ['gone:/d']",
            4,
            "services.web.volumes",
            "is not declared",
        ),
        (
            "volumes: ['data:/a/../b']",
            4,
            "services.web.volumes[0]",
            "no place",
        ),
        (
            "volumes: ['data:/a', '/a/']",
            2,
            "services.web",
            "two volumes",
        ),
        (
            "networks: [gone]",
            4,
            "services.web.networks",
            "is not declared",
        ),
        (
            "networks: { back: { ipv4_address: 1.2.3.4 } }",
            4,
            "services.web.networks.back.ipv4_address",
            "not supported",
        ),
        (
            "depends_on: [gone]",
            4,
            "services.web.depends_on",
            "no service",
        ),
        ("depends_on: [web]", 4, "services.web.depends_on", "circle"),
        (
            "healthcheck: { interval: 5s }",
            4,
            "services.web.healthcheck",
            "test is missing",
        ),
        (
            "healthcheck:\n  test: x\n  interval: soon",
            6,
            "services.web.healthcheck.interval",
            "cannot be read",
        ),
        (
            "healthcheck: { test: x, retries: 0 }",
            4,
            "services.web.healthcheck.retries",
            "retries is 0",
        ),
        (
            "restart: sometimes",
            4,
            "services.web.restart",
            "cannot be read",
        ),
        (
            "stop_grace_period: 1h",
            4,
            "services.web.stop_grace_period",
            "too long",
        ),
        (
            "stop_signal: 99",
            4,
            "services.web.stop_signal",
            "cannot be read",
        ),
        (
            "cap_add: [NET_ADMIN]",
            4,
            "services.web.cap_add[0]",
            "is not given",
        ),
        (
            "sysctls:\n  vm.max_map_count: 262144",
            5,
            "services.web.sysctls.vm.max_map_count",
            "is not given",
        ),
        (
            "sysctls: { net.core.somaxconn: many }",
            4,
            "services.web.sysctls.net.core.somaxconn",
            "is no value",
        ),
        (
            "ulimits: { nofile: { soft: 9 } }",
            4,
            "services.web.ulimits.nofile",
            "both needed",
        ),
        (
            "ulimits: { nofile: { soft: 9, hard: 8 } }",
            4,
            "services.web.ulimits.nofile",
            "above hard",
        ),
        (
            "extra_hosts: [host.docker.internal:host-gateway]",
            4,
            "services.web.extra_hosts[0]",
            "not supported",
        ),
        (
            "network_mode: service:db",
            4,
            "services.web.network_mode",
            "not supported",
        ),
        (
            "security_opt: [seccomp:unconfined]",
            4,
            "services.web.security_opt[0]",
            "not supported",
        ),
        ("links: [gone]", 4, "services.web.links", "no service"),
        (
            "platform: windows/amd64",
            4,
            "services.web.platform",
            "cannot be read",
        ),
        ("cpus: 0", 4, "services.web.cpus", "out of bounds"),
        (
            "mem_limit: 1k",
            4,
            "services.web.mem_limit",
            "out of bounds",
        ),
        (
            "pids_limit: -1",
            4,
            "services.web.pids_limit",
            "cannot be read",
        ),
        (
            "cpus: 1\ndeploy:\n  resources:\n    limits:\n      cpus: 2",
            8,
            "services.web.deploy.resources.limits.cpus",
            "two places",
        ),
        (
            "scale: 2\ndeploy: { replicas: 3 }",
            5,
            "services.web.deploy.replicas",
            "two places",
        ),
        (
            "deploy: { mode: global }",
            4,
            "services.web.deploy.mode",
            "replicated",
        ),
        (
            "deploy: { placement: { constraints: [node.labels.disk == ssd] } }",
            4,
            "services.web.deploy.placement.constraints[0]",
            "cannot be asked for",
        ),
        (
            "x-runrig: { disks: 1 }",
            4,
            "services.web.x-runrig.disks",
            "not known here",
        ),
        (
            "x-runrig:\n  autoscale: { max: 3, limit: 1 }",
            5,
            "services.web.x-runrig.autoscale.limit",
            "not known here",
        ),
        (
            "x-runrig:\n  autoscale:\n    min: 2",
            5,
            "services.web.x-runrig.autoscale",
            "max is missing",
        ),
        (
            "x-runrig: { autoscale: { min: 4, max: 3 } }",
            4,
            "services.web.x-runrig.autoscale",
            "min is above max",
        ),
        (
            "deploy:\n  x-runrig: { autoscale: { max: 3, cpu: 50, requests: 3 } }",
            5,
            "services.web.deploy.x-runrig.autoscale.requests",
            "two targets",
        ),
        (
            "x-runrig: { autoscale: { min: 0, max: 3 } }",
            4,
            "services.web.x-runrig",
            "no TCP port",
        ),
        (
            "env_file: gone.env",
            4,
            "services.web.env_file",
            "does not exist",
        ),
        (
            "env_file: locked.env",
            4,
            "services.web.env_file",
            "cannot be read",
        ),
        ("user: a b", 4, "services.web.user", "cannot be read"),
        (
            "working_dir: app",
            4,
            "services.web.working_dir",
            "cannot be read",
        ),
        (
            "hostname: a/b",
            4,
            "services.web.hostname",
            "cannot be read",
        ),
        (
            "environment: { A: '${B:?say B}' }",
            4,
            "services.web.environment.A",
            "say B",
        ),
        (
            "environment: { A: '$1' }",
            4,
            "services.web.environment.A",
            "is not a variable",
        ),
        (
            "environment: [=x]",
            4,
            "services.web.environment[0]",
            "is no name",
        ),
        ("<<: 3", 4, "services.web", "<< needs"),
    ];
    for (lines, line, key, what) in table {
        let problems = try_read(&with(lines)).expect_err(lines).0;
        assert!(
            problems
                .iter()
                .any(|p| p.line == line && p.key == key && p.what.contains(what)),
            "{lines}: {problems:#?}"
        );
    }
}

#[test]
fn whole_files_that_are_refused() {
    let deep = "[".repeat(100);
    let long = format!("x-a: \"{}\"", "a".repeat(1 << 20));
    for (text, line, what) in [
        ("", 0, "empty"),
        ("services:", 1, "no services"),
        ("just text", 1, "a single value"),
        (
            "services: { web: { image: a } }\nbuild: x",
            2,
            "not known here",
        ),
        (
            "services: { web: { image: a } }\ninclude: [x]",
            2,
            "does not exist",
        ),
        (
            "services: { web: { image: a } }\nname: Bad Name",
            2,
            "cannot name",
        ),
        ("services: { web: {} }", 1, "image is missing"),
        ("services: { 'a b': { image: a } }", 1, "is no name"),
        (
            "services: { web: { image: a } }\n---\na: b",
            2,
            "second document",
        ),
        (
            "services: { web: { image: a } }\nnetworks: { n: { external: true } }",
            2,
            "outside",
        ),
        (
            "services: { web: { image: a } }\nvolumes: { n: { driver: nfs } }",
            2,
            "driver",
        ),
        ("a: &a [*a]", 1, ""),
        ("a: !other null", 1, "tag"),
        ("a: b: c", 1, "not YAML"),
        ("a: \"unclosed", 1, "not YAML"),
        (&deep, 1, "levels"),
        (&long, 0, "bytes"),
    ] {
        let problems = try_read(text).expect_err(text).0;
        assert!(
            problems
                .iter()
                .any(|p| (p.line == line || line == 1) && p.what.contains(what)),
            "{}: {problems:#?}",
            &text[..text.len().min(80)]
        );
    }
    bombs_end_soon();
}

fn bombs_end_soon() {
    let mut lists = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    let mut maps = String::from("a0: &a0 { k: v }\n");
    for i in 1..40 {
        let before = i - 1;
        lists.push_str(&format!(
            "a{i}: &a{i} [*a{before}, *a{before}, *a{before}]\n"
        ));
        maps.push_str(&format!("a{i}: &a{i} {{ <<: [*a{before}, *a{before}] }}\n"));
    }
    for text in [lists, maps] {
        let problems = try_read(&text).unwrap_err().0;
        assert!(
            problems[0].what.contains("aliases written out"),
            "{problems:?}"
        );
        assert!(problems[0].line > 1);
    }
    let fill = "${SET:-".repeat(10_000);
    assert!(try_read(&format!("x-a: '{fill}'")).is_err());
}

#[test]
fn all_problems_are_told_at_once_in_order() {
    let problems = try_read(&with("privileged: true\nuts: host\ncpus: none")).unwrap_err();
    let lines: Vec<usize> = problems.0.iter().map(|p| p.line).collect();
    assert_eq!(lines, [4, 5, 6]);
    let text = problems.to_string();
    assert!(
        text.starts_with("compose.yaml:4:5: services.web.privileged: "),
        "{text}"
    );
    let of_a_file = try_read(&with("env_file: bad.env")).unwrap_err().0;
    assert_eq!(
        (of_a_file[0].file.as_str(), of_a_file[0].line),
        ("bad.env", 2)
    );
}

#[test]
fn anchors_and_merge_keys() {
    let project = try_read(
        "x-base: &base
  image: one
  restart: always
  environment: &env { A: '1', B: '${NEVER:?overridden}' }
x-more: &more { tty: true, restart: 'no' }
services:
  web:
    <<: [*base, *more]
    image: two
    environment:
      <<: *env
      B: '2'
",
    )
    .unwrap_err();
    // The base itself is filled in too, where it stands.
    assert_eq!(project.0[0].line, 4);
    let project = try_read(
        "x-base: &base
  image: one
  restart: always
  environment: &env { A: '1', B: '1' }
x-more: &more { tty: true, restart: 'no' }
services:
  web:
    <<: [*base, *more]
    image: two
    environment:
      <<: *env
      B: '2'
  copy: *base
",
    )
    .unwrap();
    let web = &project.services["web"].spec;
    assert_eq!(web.image.reference, "two");
    assert_eq!(web.restart, RestartPolicy::Always);
    assert!(web.tty);
    assert_eq!(
        (web.environment["A"].as_str(), web.environment["B"].as_str()),
        ("1", "2")
    );
    assert_eq!(project.services["copy"].spec.image.reference, "one");
}

#[test]
fn interpolation_as_compose_documents_it() {
    let set = environment();
    let lookup = |name: &str| set.get(name).cloned();
    for (text, value) in [
        ("$SET", Some("value")),
        ("${SET}", Some("value")),
        ("a${SET}b$OTHER.c", Some("avaluebother.c")),
        ("$SET_x", Some("")),
        ("${NOPE}", Some("")),
        ("${NOPE:-d}", Some("d")),
        ("${EMPTY:-d}", Some("d")),
        ("${SET:-d}", Some("value")),
        ("${NOPE-d}", Some("d")),
        ("${EMPTY-d}", Some("")),
        ("${NOPE-}", Some("")),
        ("${SET:?e}", Some("value")),
        ("${EMPTY?e}", Some("")),
        ("${EMPTY:?e}", None),
        ("${NOPE?e}", None),
        ("${NOPE:?}", None),
        ("${SET:+r}", Some("r")),
        ("${EMPTY:+r}", Some("")),
        ("${EMPTY+r}", Some("r")),
        ("${NOPE+r}", Some("")),
        ("${NOPE:-${OTHER}}", Some("other")),
        ("${NOPE:-${ALSO:-$SET}-x}", Some("value-x")),
        ("${NOPE:?${SET}}", None),
        ("${SET:+${OTHER}}", Some("other")),
        ("${NOPE:-{\"a\":{}}}", Some("{\"a\":{}}")),
        ("$$SET", Some("$SET")),
        ("$${SET}", Some("${SET}")),
        ("$$$SET", Some("$value")),
        ("100%", Some("100%")),
        ("$", None),
        ("$1", None),
        ("${", None),
        ("${}", None),
        ("${1}", None),
        ("${SET", None),
        ("${SET!x}", None),
        ("${SET:x}", None),
    ] {
        let mut unset = Default::default();
        let found = template::substitute(text, &lookup, &mut unset);
        assert_eq!(found.ok().as_deref(), value, "{text}");
        assert!(!unset.contains("SET") && !unset.contains("EMPTY"));
    }
    let project = try_read("services: { web: { image: 'a${NOPE}', hostname: 'b$NOPE' } }").unwrap();
    assert_eq!(project.warnings.len(), 1);
    assert!(project.warnings[0].what.contains("NOPE is not set"));
}

#[test]
fn environment_files() {
    let outside = |name: &str| (name == "OUT").then(|| "side".to_string());
    for (text, values) in [
        ("A=b", vec![("A", "b")]),
        (
            "\u{feff}# c\n\n  A = b \r\nB:c\n",
            vec![("A", "b"), ("B", "c")],
        ),
        ("export A=b", vec![("A", "b")]),
        ("exported=b", vec![("exported", "b")]),
        ("A=", vec![("A", "")]),
        ("OUT\nGONE\n", vec![("OUT", "side")]),
        ("A=b # c", vec![("A", "b")]),
        ("A=b#c", vec![("A", "b#c")]),
        ("A= # c", vec![("A", "")]),
        ("A='b # $c' # d", vec![("A", "b # $c")]),
        ("A=\"b # c\"", vec![("A", "b # c")]),
        ("A='it\\'s'", vec![("A", "it's")]),
        ("A='x\\ny'", vec![("A", "x\\ny")]),
        ("A=\"x\\ny\\t\\\"\\\\\"", vec![("A", "x\ny\t\"\\")]),
        ("A=\"x\ny\"\nB=z", vec![("A", "x\ny"), ("B", "z")]),
        ("A='x\ny'", vec![("A", "x\ny")]),
        (
            "A=1\nB=$A-${C:-d}\nC=\"$OUT\"",
            vec![("A", "1"), ("B", "1-d"), ("C", "side")],
        ),
        ("A=\"\\$B $$C\"", vec![("A", "$B $C")]),
        ("A=b=c", vec![("A", "b=c")]),
    ] {
        let found = parse_env_file_with(".env", text, &outside).unwrap();
        let values: BTreeMap<String, String> = values
            .into_iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        assert_eq!(found, values, "{text}");
    }
    for (text, line) in [
        ("A=1\nnot good=x y z", 2),
        ("A=1\n=x", 2),
        ("A='x", 1),
        ("A=\"x\\\"", 1),
        ("A='x' y", 1),
        ("\n\nA=$(", 3),
        ("A=${B:?no}", 1),
    ] {
        assert_eq!(parse_env_file(text).expect_err(text).line, line, "{text}");
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
fn warnings_are_told() {
    for (lines, what) in [
        ("container_name: x", "container_name"),
        ("environment: { DB_PASSWORD: hunter2 }", "secret"),
        ("ports: ['127.0.0.1:80:80']", "127.0.0.1"),
        ("command: a && b", "&"),
        (
            "cpus: 1\ndeploy: { resources: { reservations: { cpus: 0.5 } } }",
            "differ",
        ),
    ] {
        let project = try_read(&with(lines)).unwrap();
        assert!(
            project
                .warnings
                .iter()
                .any(|w| w.what.contains(what) && w.line >= 2),
            "{lines}: {:?}",
            project.warnings
        );
    }
    for quiet in [
        "environment: { DB_PASSWORD_FILE: /run/x, DB_PASSWORD: '' }",
        "stdin_open: true",
        "init: true",
    ] {
        assert!(
            try_read(&with(quiet)).unwrap().warnings.is_empty(),
            "{quiet}"
        );
    }
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

fn pinned(project: Project) -> DeploymentSpec {
    let files = project.files().into_iter().map(|source| {
        let digest = Digest::of(format!("{source:?}").as_bytes());
        let reference = "registry.runrig/me/files:x".to_string();
        (source, ImageRef { reference, digest })
    });
    let files = files.collect();
    let images = project
        .images()
        .into_iter()
        .map(|written| {
            let (reference, digest) = match written.split_once('@') {
                Some((reference, digest)) => (reference.to_string(), digest.parse().unwrap()),
                None => (written.clone(), Digest::of(written.as_bytes())),
            };
            (written, ImageRef { reference, digest })
        })
        .collect();
    project.pin(&images, &files).unwrap()
}

#[test]
fn an_image_without_digest_is_not_pinned() {
    let project = try_read("services: { web: { image: nginx } }").unwrap();
    let problems = project.pin(&BTreeMap::new(), &BTreeMap::new()).unwrap_err();
    assert_eq!(problems.0[0].key, "services.web");
}

#[test]
fn files_of_the_project_are_mounted() {
    let text = "services:
  web:
    image: nginx
    volumes:
      - ./web.env:/a:ro
      - ${PWD}/web.env:/b:ro,z
      - { type: bind, source: conf, target: /c, read_only: true }
      - ./conf:/d
      - ./data/db:/e
      - ./empty:/f
      - /etc/localtime:/etc/localtime:ro
      - { type: image, source: alpine, target: /g, image: { subpath: /etc/ } }
    configs:
      - app
      - { source: text, target: /etc/text, uid: '5', gid: 6, mode: 0440 }
configs:
  app: { file: ./conf/app.conf }
  text: { content: \"port=${SET} $$x\" }
";
    let folder = [("web.env", ""), ("conf/app.conf", "a"), ("conf/b", "b")];
    let mut environment = environment();
    environment.insert("PWD".into(), "/home/me/My Project".into());
    let inputs = Inputs {
        files: vec![Source {
            name: "compose.yaml",
            text,
        }],
        environment,
        project: None,
        profiles: BTreeSet::new(),
        directory: "/home/me/My Project",
        folder: &Files(&folder),
    };
    let project = read(inputs).unwrap_or_else(|e| panic!("{e}"));
    let web = &project.services["web"];
    let files: Vec<(&str, &Content, bool)> = web
        .files
        .iter()
        .map(|f| (f.target.as_str(), &f.source.content, f.read_only))
        .collect();
    let path = |p: &str| Content::Path(p.into());
    assert_eq!(
        files,
        [
            ("/a", &path("web.env"), true),
            ("/b", &path("web.env"), true),
            ("/c", &path("conf"), true),
            ("/d", &path("conf"), false),
            ("/app", &path("conf/app.conf"), true),
            ("/etc/text", &Content::Text("port=value $x".into()), true),
        ]
    );
    let owner = web.files[5].source.owner.unwrap();
    assert_eq!((owner.uid, owner.gid, owner.mode), (5, 6, 0o440));
    assert_eq!(project.files().len(), 4, "the same file is packed once");
    assert_eq!(project.images().len(), 2);
    assert!(
        project
            .volumes
            .contains_key("path.data/db".replace('/', ".").as_str())
    );
    assert!(project.volumes.contains_key("path.empty"));
    let told = |what: &str| project.warnings.iter().any(|w| w.what.contains(what));
    assert!(told("copied for each replica") && told("localtime is not mounted"));
    assert!(told("becomes the volume") && told("looks like a secret"));
    let spec = pinned(project);
    let web = &spec.services["web"];
    assert_eq!(web.mounts.len(), 9);
    let image = |m: &types::MountSpec| match &m.source {
        MountSource::Image(mount) => Some(mount.path.clone()),
        _ => None,
    };
    assert_eq!(
        web.mounts.iter().filter_map(image).collect::<Vec<_>>()[..2],
        ["etc", "content"]
    );
    let again = try_read(&to_compose(&spec)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(pinned(again), spec);
}

#[test]
fn out_and_in_again() {
    let spec = pinned(
        try_read(&with(
            "command: ['a b', '$$HOME', \"x\\ny\\u2028\\\"\", 'null', '']
entrypoint: []
environment: { A: '1', 'odd key': 'y: # $$', T: \"tab\\t\" }
ports: ['8080:80', '53:53/udp', 3000]
expose: [9]
volumes: ['data:/d:ro', /cache]
tmpfs: ['/run:size=1m', /t]
networks: { back: { aliases: [x] }, default: }
depends_on: { db: { condition: service_started } }
healthcheck: { test: [CMD, a, '$$b'], interval: 7s }
restart: on-failure:4
user: 5:6
working_dir: /w
hostname: h
labels: { l: m }
stop_signal: INT
stop_grace_period: 3s
read_only: true
tty: true
scale: 0
cpus: 1.234
mem_limit: 77m
pids_limit: 3
x-runrig: { disk: 2g, bandwidth: 3mbit, autoscale: { min: 0, max: 3, cpu: 60%, idle: 90s } }
cap_add: [SYS_PTRACE]
cap_drop: [ALL]
group_add: [audio]
sysctls: { kernel.sem: 1 2 3 4 }
ulimits: { nofile: { soft: 1, hard: -1 } }
shm_size: 9m
oom_score_adj: 3
domainname: d.org
extra_hosts: ['a=1.2.3.4', 'a=::1']
dns_search: [d.org]
dns_opt: [ndots:1]
platform: linux/amd64
deploy:
  restart_policy: { condition: on-failure, max_attempts: 4, delay: 2s }
  update_config: { parallelism: 3, order: stop-first, failure_action: pause }
  placement: { constraints: [node.labels.region != eu, node.id == 7], max_replicas_per_node: 1 }",
        ))
        .unwrap(),
    );
    let text = to_compose(&spec);
    let again = try_read(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    assert_eq!(pinned(again), spec, "{text}");
}

#[test]
fn what_becomes_of_logs_is_read_and_written() {
    let key = "ab".repeat(32);
    let file = |logs: &str| {
        format!(
            "services: {{ web: {{ image: nginx }} }}\nx-runrig: {{ logs: {{ {logs} }} }}\nname: a\n"
        )
    };
    let receivers = "[{ loki: 'https://a/push' }, { otlp: 'http://b:4318' }]";
    let said = format!("keep: 2d, size: 5MiB, readers: [\"{key}\"], export: {receivers}");
    let spec = pinned(try_read(&file(&said)).unwrap());
    assert_eq!(spec.logs.bytes_max, Some(5 << 20));
    assert_eq!(spec.logs.age_ms_max, Some(2 * 86_400_000));
    assert_eq!((spec.logs.readers.len(), spec.logs.exports.len()), (1, 2));
    let text = to_compose(&spec);
    assert_eq!(pinned(try_read(&text).unwrap()), spec, "{text}");
    for wrong in [
        "keep: 1s",
        "keep: 90d",
        "size: 1k",
        "readers: [me]",
        "export: [{ loki: 'ftp://a' }]",
        "export: [{ otlp: 'https://me:secret@a' }]",
        "export: [{}]",
        "days: 3",
    ] {
        let problems = try_read(&file(wrong)).unwrap_err();
        assert!(
            problems.0[0].key.starts_with("x-runrig.logs."),
            "{wrong}: {problems}"
        );
    }
}

/// No pattern repeated is slow to refuse, or to read.
#[test]
fn large_files_end_soon() {
    for piece in [
        "[",
        "{",
        "- ",
        "a: ",
        "? ",
        ": ",
        "&a ",
        "*a ",
        "!x ",
        "\"",
        "'",
        "|\n ",
        ">\n ",
        "# \n",
        "\n",
        "%",
        "---\n",
        "a\n",
        "a: b\n",
        "- a\n",
        "[],",
        "{},",
        "\t",
        "\u{85}",
        "a:\n ",
        ",",
        "]",
        "}",
        "x-a: [a, b]\n",
        "\\",
        "\r\n",
        "@",
        "`",
        "${A",
        "$$",
        "${A:-",
        " ",
        "- [\n",
        "- {a: b}\n",
    ] {
        let started = std::time::Instant::now();
        for before in [
            "",
            "x-a: [",
            "x-a: \"",
            "services: { a: { image: b, command: \"",
        ] {
            let times = ((1 << 18) - before.len()) / piece.len();
            let _ = try_read(&format!("{before}{}", piece.repeat(times)));
        }
        let _ = parse_env_file(&piece.repeat((1 << 18) / piece.len()));
        let spent = started.elapsed();
        assert!(spent.as_secs() < 10, "{piece:?} took {spent:?}");
    }
}

#[test]
fn line_ends_and_marks_of_other_systems() {
    let text = with("command: [a]\ntty: true").replace('\n', "\r\n");
    assert!(
        try_read(&format!("\u{feff}{text}")).unwrap().services["web"]
            .spec
            .tty
    );
    let problems = try_read(&text.replace("tty", "ttys")).unwrap_err().0;
    assert_eq!(problems[0].line, 5);
}

fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "services:",
        "web:",
        "image: a",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "ports",
        ": ",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: ",
        "${",
        "$A",
        ":-",
        "}",
        "#",
        "|",
        ">",
        "---",
        "!x",
        "volumes",
        "deploy",
        "healthcheck",
        "test",
        "é",
        "\u{2028}",
        "\t",
        "1",
        "1-2",
        "/",
        ",",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = try_read(&text);
        let _ = try_read(&with(&format!("command: {text}")));
        let _ = parse_env_file(&text);
        let _ = value::words(&text);
        let _ = value::bytes(&text);
        let _ = value::duration_ms(&text);
    }

    #[test]
    fn no_yaml_panics(text in fragments()) {
        let _ = try_read(&text);
        let _ = try_read(&with(&text));
        let _ = parse_env_file(&text);
    }

    #[test]
    fn any_value_survives_out_and_in(value in any::<String>(), key in "[A-Z]{1,8}") {
        prop_assume!(!value.contains('\0'));
        let mut spec = pinned(try_read("services: { web: { image: nginx } }").unwrap());
        let web = spec.services.get_mut("web").unwrap();
        web.environment.insert(key, value.clone());
        web.command = Some(vec![value]);
        let text = to_compose(&spec);
        let again = try_read(&text).map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
        prop_assert_eq!(pinned(again), spec);
    }
}
