//! Failures that a cloud must get over by itself, on real processes and containers under a
//! steady load of idempotent requests: none of them may fail.
//!
//! `cargo xtask drill NAME` runs one and prints its figures; the tests run all. Runs as root;
//! needs nft and Debian's mirrors.

use std::time::{Duration, Instant};

use fixtures::{Cloud, Load, Outcome, credits, free_ports, get, signal, until};
use serde_json::Value;

const SITE: &str = "web.site.localhost";

fn site(colour: &str, command: &str) -> String {
    format!(
        r#"
name: site
services:
  web:
    image: busybox
    command: {command}
    environment: {{ COLOUR: "{colour}" }}
    ports: ["8080"]
    stop_grace_period: 1s
    restart: unless-stopped
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"]
      interval: 1s
      timeout: 2s
      retries: 10
    deploy:
      replicas: 2
"#
    )
}

const SERVES: &str = r#"["sh", "-c", "mkdir -p /srv && echo $$COLOUR > /srv/index.html && exec httpd -f -p 8080 -h /srv"]"#;

struct Drill<'a> {
    cloud: &'a Cloud,
    name: &'static str,
    load: Load,
    began: Instant,
    /// How long until the cloud was whole again.
    recovered: Option<Duration>,
}

impl<'a> Drill<'a> {
    fn begin(cloud: &'a Cloud, name: &'static str) -> Self {
        until("the site answers", || {
            get(&cloud.gateway(), SITE, "/").status == 200
        });
        Self {
            cloud,
            name,
            load: Load::begin(cloud.gateway(), SITE),
            began: Instant::now(),
            recovered: None,
        }
    }

    fn strikes(&mut self) {
        self.began = Instant::now();
    }

    fn is_over_when(&mut self, what: &str, good: impl FnMut() -> bool) {
        until(what, good);
        self.recovered = Some(self.began.elapsed());
    }

    /// One line of verdict; no request may have failed, and no unit may be charged twice.
    fn end(self) -> Outcome {
        let outcome = self.load.end();
        let supply = self.cloud.json(&["chain", "supply"]);
        let recovered = self.recovered.unwrap_or_default().as_secs_f64();
        println!(
            "drill {}: {} requests, {} failed, slowest {:.0} ms, whole again after {recovered:.1} s, \
             units charged twice: {}",
            self.name,
            outcome.sent,
            outcome.failed.len(),
            outcome.slowest.as_secs_f64() * 1e3,
            credits(&supply["sum"]) - credits(&supply["expected"]),
        );
        assert_eq!(supply["sum"], supply["expected"]);
        assert!(outcome.sent > 0);
        let told = outcome.failed.first();
        assert!(told.is_none(), "{}: the first failed: {told:?}", self.name);
        outcome
    }
}

fn deployment(cloud: &Cloud) -> Value {
    cloud.json(&["inspect", "site"])[0].clone()
}

fn healthy(row: &Value) -> bool {
    row["state"] == "running" && row["health"] == "healthy"
}

/// Replicas of the site that are meant to run: allocation → host.
fn replicas(cloud: &Cloud) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("text").to_string();
    let rows = cloud.rows("web");
    let serving = rows.iter().filter(|r| healthy(r));
    serving
        .map(|r| (text(&r["allocation"]), text(&r["host"])))
        .collect()
}

/// `dev-2` is the role `host-2`.
fn role(host: &str) -> String {
    host.replace("dev-", "host-")
}

fn a_release_rolls(cloud: &Cloud) {
    let mut drill = Drill::begin(cloud, "rolling-release");
    let before = replicas(cloud);
    drill.strikes();
    let file = cloud.file("compose.yaml", &site("green", SERVES));
    cloud.good(&["up", "-f", &file, "--yes", "--wait"]);
    drill.is_over_when("the old replicas are gone", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|r| !before.contains(r))
    });
    assert_eq!(get(&cloud.gateway(), SITE, "/").text().trim(), "green");
    drill.end();
}

fn a_bad_release_is_undone(cloud: &Cloud) {
    let mut drill = Drill::begin(cloud, "bad-release");
    let before = replicas(cloud);
    let release = deployment(cloud)["release"].as_u64().expect("a number");
    drill.strikes();
    let file = cloud.file("bad.yaml", &site("red", r#"["sh", "-c", "exit 3"]"#));
    let (code, _, err) = cloud.run(&["up", "-f", &file, "--yes", "--wait"]);
    assert_eq!(code, 1, "{err}");
    drill.is_over_when("the old release is back", || {
        deployment(cloud)["good"].as_u64() == Some(release + 2)
    });
    assert_eq!(replicas(cloud), before);
    let why = deployment(cloud)["setback"]["why"].to_string();
    assert!(why.contains("code 3") || why.contains("in vain"), "{why}");
    drill.end();
}

/// The machine is gone, its containers with it; later it is back.
fn a_host_is_lost(cloud: &Cloud) {
    let mut drill = Drill::begin(cloud, "lost-host");
    let rows = cloud.rows("web");
    let lost = &rows[0];
    let (gone, host) = (&lost["allocation"], lost["host"].as_str().expect("text"));
    drill.strikes();
    let held = cloud.hold(&role(host));
    let pid = lost["pid"].as_u64().expect("a pid");
    signal(u32::try_from(pid).expect("a pid"), libc::SIGKILL);
    drill.is_over_when("two replicas serve elsewhere", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(a, _)| a != gone)
    });
    drop(held);
    until("the host is back, with nothing of the site", || {
        let hosts = cloud.json(&["host", "ls"]);
        let back = hosts.as_array().expect("a list").iter();
        let mut named = back.filter(|h| h["name"] == host);
        named.all(|h| h["online"] == true && h["allocations"] == 0)
    });
    drill.end();
}

/// A host that cannot be heard goes on serving; when it is heard again its replicas are no
/// longer its own, and are ended.
fn a_host_is_cut_off(cloud: &Cloud) {
    let mut drill = Drill::begin(cloud, "partitioned-host");
    let rows = cloud.rows("web");
    let cut = &rows[0];
    let host = cut["host"].as_str().expect("text").to_string();
    let pid = cut["pid"].as_u64().expect("a pid");
    drill.strikes();
    let held = cloud.hold(&role(&host));
    drill.is_over_when("its replica has a successor", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(_, h)| *h != host)
    });
    let alive = || std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(alive(), "nobody was there to end it");
    drop(held);
    until("it has ended what is no longer its own", || !alive());
    drill.end();
}

/// Short silences, one after the other: no storm of replicas.
fn a_host_flaps(cloud: &Cloud) {
    let mut drill = Drill::begin(cloud, "flapping-host");
    let before = cloud.json(&["chain", "status"])["allocations"].as_u64();
    let host = cloud.rows("web")[0]["host"]
        .as_str()
        .expect("text")
        .to_string();
    drill.strikes();
    for _ in 0..3 {
        let held = cloud.hold(&role(&host));
        std::thread::sleep(Duration::from_secs(2));
        drop(held);
        std::thread::sleep(Duration::from_secs(1));
    }
    drill.is_over_when("two replicas serve", || replicas(cloud).len() == 2);
    let after = cloud.json(&["chain", "status"])["allocations"].as_u64();
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after - before <= 3, "{before} → {after}");
    }
    drill.end();
}

fn a_host_is_drained(cloud: &Cloud) {
    let mut drill = Drill::begin(cloud, "drain");
    let host = cloud.rows("web")[0]["host"]
        .as_str()
        .expect("text")
        .to_string();
    let key = cloud.data().join(role(&host)).join("host.key");
    let key = key.to_str().expect("text");
    drill.strikes();
    cloud.good(&["host", "drain", &host, "--key", key, "--wait"]);
    drill.is_over_when("two replicas serve elsewhere", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(_, h)| *h != host)
    });
    cloud.good(&["host", "drain", &host, "--key", key, "--undo"]);
    drill.end();
}

/// No validator answers: what runs serves, is restarted when it crashes, and is metered.
fn the_ledger_stands_still(cloud: &Cloud) {
    let mut drill = Drill::begin(cloud, "no-control-plane");
    let rows = cloud.rows("web");
    let pid = rows[0]["pid"].as_u64().expect("a pid");
    drill.strikes();
    let held: Vec<_> = (1..=4)
        .map(|n| cloud.hold(&format!("validator-{n}")))
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    signal(u32::try_from(pid).expect("a pid"), libc::SIGKILL);
    std::thread::sleep(Duration::from_secs(pause_s()));
    drop(held);
    drill.is_over_when("blocks go on, and the crashed replica runs again", || {
        let now = cloud.rows("web");
        let all = now.len() == 2 && now.iter().all(healthy);
        all && now.iter().all(|r| r["pid"].as_u64() != Some(pid))
    });
    let hosts = cloud.json(&["host", "ls"]);
    let mut hosts = hosts.as_array().expect("a list").iter();
    assert!(hosts.all(|h| h["online"] == true), "nobody was lost");
    drill.end();
}

/// How long the ledger stands still: seconds in the tests, ten minutes in a long drill.
fn pause_s() -> u64 {
    match std::env::var_os("RUNRIG_DRILL_LONG") {
        Some(_) => 600,
        None => 6,
    }
}

type Failure = (&'static str, fn(&Cloud));

const DRILLS: [Failure; 7] = [
    ("rolling-release", a_release_rolls),
    ("bad-release", a_bad_release_is_undone),
    ("lost-host", a_host_is_lost),
    ("partitioned-host", a_host_is_cut_off),
    ("flapping-host", a_host_flaps),
    ("drain", a_host_is_drained),
    ("no-control-plane", the_ledger_stands_still),
];

/// One cloud for all, one failure after the other.
#[test]
fn the_cloud_gets_over_each_failure_without_a_lost_request() {
    let wanted = std::env::var("RUNRIG_DRILL").unwrap_or_else(|_| "all".into());
    let drills: Vec<_> = DRILLS
        .iter()
        .filter(|(name, _)| wanted == "all" || wanted == *name)
        .collect();
    let names: Vec<_> = DRILLS.iter().map(|(name, _)| *name).collect();
    assert!(!drills.is_empty(), "there are {}", names.join(", "));
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::busybox());
    cloud.up(&site("blue", SERVES));
    for (_, drill) in drills {
        drill(&cloud);
        until("it is quiet again", || {
            let now = cloud.rows("web");
            now.len() == 2 && now.iter().all(healthy) && deployment(&cloud)["rollout"].is_null()
        });
    }
    cloud.good(&["down", "site"]);
}
