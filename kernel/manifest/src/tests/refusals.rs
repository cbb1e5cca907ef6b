//! What is refused, what is warned of, and where it is said to stand.

use super::*;

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
        ("secrets: [a]", 4, "services.web.secrets", "not declared"),
        (
            "build: { context: ., secrets: [{ source: a, target: b }] }",
            4,
            "services.web.build",
            "not declared",
        ),
        (
            "secrets: [{ source: a, uid: 70000 }]",
            4,
            "services.web.secrets[0].uid",
            "too large",
        ),
        (
            "secrets: [{ source: a, driver: vault }]",
            4,
            "services.web.secrets[0].driver",
            "not known",
        ),
        (
            "post_start: [{ user: root }]",
            4,
            "services.web.post_start[0]",
            "no command",
        ),
        (
            "pre_stop: [{ command: a, privileged: true }]",
            4,
            "services.web.pre_stop[0].privileged",
            "not supported",
        ),
        (
            "network_mode: host",
            4,
            "services.web.network_mode",
            "not supported",
        ),
        (
            "network_mode: none\nports: [80]",
            5,
            "services.web.ports",
            "cannot be combined",
        ),
        (
            "network_mode: none\nnetworks: [default]",
            5,
            "services.web.networks",
            "cannot be combined",
        ),
        ("pull_policy: sometimes", 4, "services.web.pull_policy", ""),
        (
            "deploy: { update_config: { max_failure_ratio: 1.5 } }",
            4,
            "services.web.deploy.update_config.max_failure_ratio",
            "out of bounds",
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
            "ports: ['80:8000-8010']",
            4,
            "services.web.ports[0]",
            "differ in length",
        ),
        (
            "ports: ['80:80', '80-80:81', '80-81:82', '80-81:83']",
            4,
            "services.web.ports",
            "published twice",
        ),
        (
            "ports: ['80:80', '81:81', '80-81:83']",
            4,
            "services.web.ports",
            "no port of 80-81 is left",
        ),
        (
            "volumes: [{ type: volume, source: data, target: /d, volume: { subpath: ../x } }]",
            4,
            "services.web.volumes[0].volume.subpath",
            "cannot be read",
        ),
        (
            "volumes: [{ type: volume, source: data, target: /d, volume: { subpath: /x } }]",
            4,
            "services.web.volumes[0].volume.subpath",
            "cannot be read",
        ),
        (
            "volumes: [{ type: volume, target: /d, volume: { subpath: x } }]",
            4,
            "services.web.volumes[0]",
            "has no name",
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
            "healthcheck: { test: x, interval: 50ms }",
            4,
            "services.web.healthcheck.interval",
            "too short",
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
fn warnings_are_told() {
    for (lines, what) in [
        ("cpu_shares: 2048", "cpu_shares"),
        (
            "deploy: { placement: { preferences: [{ spread: node.labels.rack }] } }",
            "spreads nothing",
        ),
        ("logging: { driver: syslog }", "driver syslog"),
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
        "cpu_shares: 512",
        "pull_policy: missing",
        "pull_policy: every_1h30m",
        "depends_on: { db: { condition: service_started, restart: true } }",
    ] {
        assert!(
            try_read(&with(quiet)).unwrap().warnings.is_empty(),
            "{quiet}"
        );
    }
}
