//! Several files as one: `-f` over `-f`, `include`, `extends`, profiles. What is expected is
//! written down from the specification.

use types::{DependencyCondition, ServiceSpec};

use crate::tests::read_files;
use crate::{Problems, Project};

fn merged(base: &str, over: &str) -> Result<Project, Problems> {
    let file = |lines: &str| -> String {
        let lines: Vec<String> = lines.lines().map(|l| format!("    {l}\n")).collect();
        format!("services:\n  web:\n{}", lines.concat())
    };
    let base = format!(
        "{}  db: {{ image: redis }}\nnetworks: {{ a: , b: }}\nvolumes: {{ d: , e: }}\n",
        file(&format!("image: nginx\n{base}"))
    );
    read_files(
        &[("compose.yaml", &base), ("more.yaml", &file(over))],
        &[("one.env", "A=1\nB=1\n"), ("two.env", "B=2\n")],
        &[],
    )
}

#[test]
fn a_file_is_laid_over_another() {
    type Check = fn(&ServiceSpec) -> bool;
    let table: &[(&str, &str, Check)] = &[
        ("tty: true", "image: other", |s| {
            s.tty && s.image.reference == "other"
        }),
        ("command: [a, b]", "command: c", |s| {
            s.command == Some(vec!["c".into()])
        }),
        (
            "environment: [A=1, B=2]",
            "environment: { B: '3', C: '4' }",
            |s| s.environment["A"] == "1" && s.environment["B"] == "3" && s.environment["C"] == "4",
        ),
        ("labels: { a: 1 }", "labels: [a=2, b]", |s| {
            s.labels["a"] == "2" && s.labels["b"].is_empty()
        }),
        ("env_file: one.env", "env_file: [two.env]", |s| {
            s.environment["A"] == "1" && s.environment["B"] == "2"
        }),
        (
            "ports: ['80:80', '81:81']",
            "ports: ['80:80', '82:82']",
            |s| s.ports.len() == 3,
        ),
        (
            "ports: ['80:80']",
            "ports: [{ target: 80, published: 80, protocol: tcp }]",
            |s| s.ports.len() == 1,
        ),
        ("volumes: ['d:/x', '/y']", "volumes: ['e:/x:ro']", |s| {
            s.mounts.len() == 2
                && s.mounts[0].read_only
                && s.mounts[0].source == types::MountSource::Volume("e".into())
        }),
        ("expose: [1, 2]", "expose: ['2', 3]", |s| {
            s.expose == [1, 2, 3]
        }),
        ("dns_search: a.org", "dns_search: b.org", |s| {
            s.names.dns_search == ["a.org", "b.org"]
        }),
        ("networks: [a]", "networks: { b: { aliases: [x] } }", |s| {
            s.networks.len() == 2 && s.networks["b"] == ["x"]
        }),
        (
            "depends_on: [db]",
            "depends_on: { db: { condition: service_completed_successfully } }",
            |s| s.depends_on["db"] == DependencyCondition::ServiceCompletedSuccessfully,
        ),
        (
            "healthcheck: { test: [CMD, a], interval: 7s }",
            "healthcheck: { test: [CMD, b] }",
            |s| {
                let check = s.healthcheck.as_ref().unwrap();
                check.test == ["b"] && check.interval_ms == 7_000
            },
        ),
        (
            "deploy: { resources: { limits: { cpus: '1' } } }",
            "deploy: { resources: { limits: { memory: 1g } } }",
            |s| s.resources.cpu_millis == 1_000 && s.resources.memory_bytes == 1 << 30,
        ),
        (
            "ulimits: { nofile: 5 }",
            "ulimits: { nofile: { soft: 1, hard: 2 } }",
            |s| s.process.ulimits["nofile"].soft == Some(1),
        ),
        (
            "extra_hosts: ['a=1.1.1.1']",
            "extra_hosts: { a: 2.2.2.2 }",
            |s| s.names.extra_hosts["a"].len() == 1,
        ),
        ("ports: ['80:80']\ntty: true", "ports: !reset []", |s| {
            s.ports.is_empty() && s.tty
        }),
        (
            "environment: { A: a, B: b }",
            "environment: { A: !reset null }",
            |s| s.environment.len() == 1,
        ),
        ("ports: ['80:80']", "ports: !override ['81:81']", |s| {
            s.ports.len() == 1 && s.ports[0].published == Some(81)
        }),
        ("tty: true", "labels:", |s| s.tty),
    ];
    for (base, over, check) in table {
        let project = merged(base, over).unwrap_or_else(|e| panic!("{base} / {over}: {e}"));
        let spec = &project.services["web"].spec;
        assert!(check(spec), "{base} / {over}: {spec:#?}");
    }
}

#[test]
fn what_does_not_go_together_is_told_with_its_file() {
    let problems = merged("deploy: { replicas: 1 }", "deploy: many")
        .unwrap_err()
        .0;
    assert_eq!(problems[0].file, "more.yaml");
    assert_eq!(problems[0].line, 3);
    assert!(problems[0].what.contains("laid over"), "{problems:?}");
    let problems = merged("tty: true", "imagee: x").unwrap_err().0;
    assert_eq!(
        (problems[0].file.as_str(), problems[0].line),
        ("more.yaml", 3)
    );
}

#[test]
fn a_service_extends_another() {
    let folder = [
        (
            "sub/base.yaml",
            "services:\n  base: { image: b, env_file: own.env, labels: { a: base, k: v } }\n  \
             deep: { extends: base, tty: true }\n",
        ),
        ("sub/own.env", "FROM=sub\n"),
    ];
    let text = "services:
  web: { extends: { file: sub/base.yaml, service: deep }, labels: { a: own } }
  copy: { extends: web, command: [x] }
";
    let project = read_files(&[("compose.yaml", text)], &folder, &[]).unwrap();
    let copy = &project.services["copy"].spec;
    assert_eq!(copy.image.reference, "b");
    assert_eq!(copy.environment["FROM"], "sub");
    assert_eq!(
        (copy.labels["a"].as_str(), copy.labels["k"].as_str()),
        ("own", "v")
    );
    assert!(copy.tty && copy.command.is_some());
    for (text, what) in [
        (
            "services: { a: { extends: b }, b: { extends: a } }",
            "extends itself",
        ),
        ("services: { a: { extends: a } }", "extends itself"),
        ("services: { a: { extends: gone } }", "no service gone"),
        (
            "services: { a: { extends: { file: no.yaml, service: x } } }",
            "does not exist",
        ),
        (
            "services: { a: { extends: { file: sub/base.yaml } } }",
            "no service is named",
        ),
    ] {
        let problems = read_files(&[("compose.yaml", text)], &folder, &[]).unwrap_err();
        assert!(problems.to_string().contains(what), "{text}: {problems}");
    }
}

#[test]
fn a_file_includes_others() {
    let folder = [
        (
            "db/compose.yaml",
            "services: { db: { image: 'pg:${TAG}', env_file: db.env } }\nvolumes: { data: }\n",
        ),
        ("db/.env", "TAG=16\nSET=inner\n"),
        ("db/db.env", "WHERE=$SET\n"),
        ("db/over.yaml", "services: { db: { tty: true } }\n"),
        (
            "loop.yaml",
            "include: [loop.yaml]\nservices: { l: { image: l } }\n",
        ),
        ("same.yaml", "services: { web: { image: other } }\n"),
    ];
    let web = "services: { web: { image: nginx, depends_on: [db], volumes: ['data:/d'] } }\n";
    let whole = |include: &str| format!("include: {include}\n{web}");
    for include in [
        "[db/compose.yaml]",
        "[{ path: [db/compose.yaml, db/over.yaml], project_directory: db }]",
    ] {
        let project = read_files(&[("compose.yaml", &whole(include))], &folder, &[]).unwrap();
        let db = &project.services["db"].spec;
        assert_eq!(db.image.reference, "pg:16");
        // What the including project knows goes first.
        assert_eq!(db.environment["WHERE"], "value");
        assert_eq!(db.tty, include.contains("over"));
        assert!(project.volumes.contains_key("data"));
    }
    for (include, what) in [
        ("[loop.yaml]", "includes itself"),
        ("[same.yaml]", "differently"),
        ("db/compose.yaml", "needs a list"),
        ("[{ project_directory: db }]", "no file is named"),
    ] {
        let problems = read_files(&[("c", &whole(include))], &folder, &[]).unwrap_err();
        assert!(problems.to_string().contains(what), "{include}: {problems}");
    }
    // A further -f may change what was included.
    let over = ("over.yaml", "services: { db: { image: mine } }\n");
    let files = [("compose.yaml", &*whole("[db/compose.yaml]")), over];
    let project = read_files(&files, &folder, &[]).unwrap();
    assert_eq!(project.services["db"].spec.image.reference, "mine");
}

#[test]
fn profiles_choose_who_takes_part() {
    let text = "services:
  web: { image: a, depends_on: { tool: { condition: service_started, required: false } } }
  tool: { image: b, profiles: [debug, test] }
  more: { image: c, profiles: [more], depends_on: [tool] }
";
    let names = |profiles: &[&str]| {
        read_files(&[("compose.yaml", text)], &[], profiles)
            .map(|p| p.services.into_keys().collect::<Vec<_>>())
            .map_err(|p| p.0)
    };
    assert_eq!(names(&[]).unwrap(), ["web"]);
    assert_eq!(names(&["test"]).unwrap(), ["tool", "web"]);
    assert_eq!(names(&["*"]).unwrap(), ["more", "tool", "web"]);
    let problems = names(&["more"]).unwrap_err();
    assert_eq!(
        (problems[0].line, problems[0].key.as_str()),
        (4, "services.more.depends_on")
    );
    assert!(problems[0].what.contains("does not take part"));
}

#[test]
fn copies_of_copies_end_soon() {
    let big = "x".repeat(200_000);
    let mut text = format!("services:\n  s0: {{ image: a, labels: {{ l: {big} }} }}\n");
    for i in 1..100 {
        text.push_str(&format!("  s{i}: {{ extends: s{} }}\n", i - 1));
    }
    let problems = read_files(&[("compose.yaml", &text)], &[], &[]).unwrap_err();
    assert!(problems.to_string().contains("or too much"));
}
