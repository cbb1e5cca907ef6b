//! A secret reaches every replica, also one that takes the place of another whose host is
//! gone, and lies nowhere in the clear. Commands beside a service's own run when they should.

use fixtures::{Cloud, found_in, free_ports, until};
use serde_json::Value;

const COMPOSE: &str = r#"
name: sealed
secrets:
  password: { file: ./password.txt }
  token: { environment: TOKEN }
volumes: { data: }
services:
  web:
    image: busybox
    command: ["sh", "-c", "sha256sum /run/secrets/password /etc/token; exec httpd -f -p 8080"]
    user: "1000:1000"
    secrets:
      - password
      - { source: token, target: /etc/token, uid: "7", gid: "1000", mode: "0440" }
    expose: [8080]
    stop_signal: SIGKILL
    deploy: { replicas: 2 }
  alone:
    image: busybox
    command: ["sleep", "100000"]
    stop_signal: SIGKILL
    secrets: [{ source: password, target: other }]
    post_start:
      - { command: ["sh", "-c", "echo $$GREETING > /tmp/hello"], user: "1000", environment: { GREETING: hi } }
  tidy:
    image: busybox
    command: ["sleep", "100000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    pre_stop: [{ command: ["sh", "-c", "echo bye > /data/bye"] }]
"#;

struct World {
    cloud: Cloud,
    compose: String,
}

impl World {
    fn text(&self, row: &Value, key: &str) -> String {
        row[key].as_str().unwrap_or_default().to_string()
    }

    /// Replicas of a service that run, on hosts but `except`.
    fn running(&self, service: &str, except: &str) -> Vec<Value> {
        let rows = self.cloud.rows(service).into_iter();
        rows.filter(|r| r["state"] == "running" && r["host"] != except)
            .collect()
    }

    fn inside(&self, row: &Value, command: &[&str]) -> String {
        let allocation = self.text(row, "allocation");
        let (_, out, err) = self
            .cloud
            .run(&[&["exec", &allocation, "--"], command].concat());
        format!("{out}{err}")
    }
}

#[test]
fn a_secret_follows_its_replica_and_lies_nowhere_in_the_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::busybox());
    let chance: u64 = rand::random();
    let (password, token) = (
        format!("pass-{chance:x}-word"),
        format!("to-{chance:x}-ken"),
    );
    let values = [password.clone(), token.clone()];
    cloud.file("password.txt", &password);
    cloud.file(".env", &format!("TOKEN={token}\n"));
    let compose = cloud.file("compose.yaml", COMPOSE);
    let world = World { cloud, compose };
    let up = ["up", "-f", &world.compose, "--yes", "--wait"];
    world.cloud.good(&up);

    every_replica_has_it(&world, &password, &token);
    hooks_ran(&world);
    a_lost_host_is_made_good(&world, &password);

    // Nothing shows it, and no file has it.
    let mut shown = String::new();
    for row in world.cloud.rows("web") {
        shown += &world
            .cloud
            .good(&["inspect", &world.text(&row, "allocation")]);
    }
    for args in [
        &["ps", "-a", "--json"][..],
        &["logs", "web"],
        &["bill", "--json"],
        &["releases", "sealed", "--json"],
        &["inspect", "sealed"],
        &["events", "--json", "--past"],
    ] {
        let (_, out, err) = world.cloud.run(args);
        shown += &format!("{out}{err}");
    }
    assert!(shown.contains("sealed"), "{shown}");
    assert!(values.iter().all(|v| !shown.contains(v.as_str())), "shown");
    assert_eq!(found_in(&world.cloud.data(), &values), "");

    a_changed_value_is_a_release(&world, &up, &password);
    one_is_kept_outside_of_projects(&world, &token);
    assert_eq!(found_in(&world.cloud.data(), &values), "");
    world.cloud.good(&["down", "sealed", "--volumes"]);
}

fn every_replica_has_it(world: &World, password: &str, token: &str) {
    let rows = world.running("web", "");
    assert_eq!(rows.len(), 2);
    assert_ne!(rows[0]["host"], rows[1]["host"]);
    for row in &rows {
        assert_eq!(
            world.inside(row, &["cat", "/run/secrets/password"]),
            password
        );
        assert_eq!(world.inside(row, &["cat", "/etc/token"]), token);
        let stat = [
            "busybox",
            "stat",
            "-c",
            "%a %u %g",
            "/run/secrets/password",
            "/etc/token",
        ];
        assert_eq!(world.inside(row, &stat), "400 1000 1000\n440 7 1000\n");
        let write = world.inside(row, &["sh", "-c", "echo x > /run/secrets/password"]);
        assert!(!write.is_empty(), "it can be written to");
    }
    // A container that is started anew has it again.
    let row = &rows[0];
    world.cloud.good(&["restart", "sealed/web"]);
    until("it is started again and has it", || {
        world.inside(row, &["cat", "/run/secrets/password"]) == password
    });
}

fn hooks_ran(world: &World) {
    let alone = &world.running("alone", "")[0];
    let told = ["busybox", "stat", "-c", "%u", "/tmp/hello"];
    assert_eq!(world.inside(alone, &told), "1000\n");
    assert_eq!(world.inside(alone, &["cat", "/tmp/hello"]), "hi\n");
    world.cloud.good(&["stop", "sealed/tidy"]);
    until("it has stopped", || {
        world
            .cloud
            .rows("tidy")
            .iter()
            .all(|r| r["state"] == "exited")
    });
    world.cloud.good(&["start", "sealed/tidy"]);
    until("what is to be done before a stop was done", || {
        let rows = world.running("tidy", "");
        rows.iter()
            .any(|row| world.inside(row, &["cat", "/data/bye"]) == "bye\n")
    });
}

/// A host and a validator fall off the network while nobody is there who knows the value.
fn a_lost_host_is_made_good(world: &World, password: &str) {
    let alone = &world.running("alone", "")[0];
    let host = world.text(alone, "host");
    let _silent = world.cloud.hold(&host.replace("dev-", "host-"));
    let _gone = world.cloud.hold("validator-3");
    for (service, file, count) in [
        ("alone", "/run/secrets/other", 1),
        ("web", "/run/secrets/password", 2),
    ] {
        until("the replacement has the secret", || {
            let rows = world.running(service, &host);
            let knows = |row| world.inside(row, &["cat", file]) == password;
            rows.len() == count && rows.iter().all(knows)
        });
    }
}

fn a_changed_value_is_a_release(world: &World, up: &[&str], password: &str) {
    let said = world.cloud.run(up).2;
    assert!(said.contains("is up to date"), "{said}");
    let fresh = format!("{password}-2");
    world.cloud.file("password.txt", &fresh);
    world.cloud.good(up);
    until("all have the new value", || {
        let rows = world.running("web", "");
        let knows = |row| world.inside(row, &["cat", "/run/secrets/password"]) == fresh;
        rows.len() == 2 && rows.iter().all(knows)
    });
    let diff = world.cloud.good(&["diff", "sealed"]);
    assert!(
        diff.contains("\n+      mark:") && diff.contains("\n-      mark:"),
        "{diff}"
    );
    assert!(!diff.contains(password), "{diff}");
}

/// Under a name of the account's, for any of its projects; a new version with the next `up`.
fn one_is_kept_outside_of_projects(world: &World, token: &str) {
    let cloud = &world.cloud;
    let keep = |value: &str| -> Value {
        let file = cloud.file("kept.txt", value);
        let kept = cloud.json(&["secret", "create", "Api.key", &file]);
        std::fs::remove_file(file).expect("removed");
        kept["version"].clone()
    };
    let compose = r#"
name: outside
secrets: { key: { external: true, name: Api.key } }
services:
  user: { image: busybox, command: ["sleep", "100000"], stop_signal: SIGKILL, secrets: [key] }
"#;
    let compose = cloud.file("outside.yaml", compose);
    let up = ["up", "-f", &compose, "--yes", "--wait"];
    let (code, _, err) = cloud.run(&up);
    assert!(code == 3 && err.contains("runrig secret create"), "{err}");
    assert_eq!(keep(token), 1);
    assert_eq!(keep(token), 1, "the same value is the same version");
    cloud.good(&up);
    let inside = || {
        let rows = world.running("user", "");
        rows.last()
            .map(|row| world.inside(row, &["cat", "/run/secrets/key"]))
    };
    assert_eq!(inside().as_deref(), Some(token));
    let fresh = format!("{token}-2");
    assert_eq!(keep(&fresh), 2);
    cloud.good(&up);
    until("it has the new value", || inside().as_ref() == Some(&fresh));
    let all = cloud.json(&["secret", "ls"]);
    assert_eq!(all[0]["name"], "Api.key");
    let known = cloud.json(&["secret", "inspect", "Api.key"]);
    assert_eq!(known[0]["versions"].as_array().map(Vec::len), Some(2));
    assert_eq!(found_in(&cloud.data(), &[token.to_string()]), "");
    // What runs goes on when it is forgotten; what begins finds nothing.
    cloud.good(&["secret", "rm", "Api.key"]);
    cloud.good(&["restart", "outside"]);
    until("it has it still", || inside().as_ref() == Some(&fresh));
    assert_eq!(cloud.run(&up).0, 3);
    assert_eq!(cloud.json(&["secret", "ls"]), serde_json::json!([]));
}
