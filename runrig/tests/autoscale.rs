//! A service that sleeps while nobody asks, on real processes and containers: to none and back
//! on the first request, up under load and down again, without a failed request.
//!
//! Runs as root; needs nft and Debian's mirrors.

use std::time::{Duration, Instant};

use fixtures::{Cloud, Load, Outcome, credits, free_ports, get, until};
use serde_json::Value;

const HOST: &str = "web.nap.localhost";

/// One client who asks a few times a second is for one replica.
const NAP: &str = r#"
name: nap
services:
  web:
    image: busybox
    command: ["sh", "-c", "mkdir -p /srv && echo awake > /srv/index.html && exec httpd -f -p 8080 -h /srv"]
    expose: ["8080"]
    stop_grace_period: 1s
    cpus: 0.1
    mem_limit: 32m
    x-runrig: { disk: 64m, autoscale: { min: 0, max: 3, requests: 6/s, idle: 6s } }
"#;

fn deployment(cloud: &Cloud) -> Value {
    cloud.json(&["inspect", "nap"])[0].clone()
}

fn running(cloud: &Cloud) -> usize {
    let rows = cloud.rows("web");
    let serves = |r: &&Value| r["state"] == "running" && r["desired"] == "run";
    rows.iter().filter(serves).count()
}

fn asleep(cloud: &Cloud) -> bool {
    deployment(cloud)["scales"]["web"]["wanted"] == 0 && cloud.rows("web").is_empty()
}

fn none_failed(what: &str, outcome: &Outcome) {
    println!(
        "{what}: {} requests, {} failed, slowest {:.0} ms",
        outcome.sent,
        outcome.failed.len(),
        outcome.slowest.as_secs_f64() * 1e3
    );
    assert!(outcome.sent > 0);
    assert!(outcome.failed.is_empty(), "{what}: {:?}", outcome.failed);
}

#[test]
fn a_service_sleeps_wakes_for_a_request_and_follows_its_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::busybox());
    cloud.up(NAP);

    until("it sleeps", || asleep(&cloud));
    let at_rest = deployment(&cloud);
    assert_eq!(
        credits(&at_rest["escrow"]),
        0,
        "nothing is held for what sleeps"
    );
    let (_, _, told) = cloud.run(&["ps", "nap"]);
    assert!(told.contains("asleep"), "{told}");
    assert_eq!(cloud.json(&["ls"])[0]["state"], "asleep");

    let asked = Instant::now();
    let answer = get(&cloud.gateway(), HOST, "/");
    println!("first answer after {:.2} s", asked.elapsed().as_secs_f64());
    assert_eq!((answer.status, answer.text().trim()), (200, "awake"));
    let woken = deployment(&cloud);
    assert_eq!(woken["charged"], at_rest["charged"], "sleep costs nothing");
    assert_eq!(woken["release"], 1, "to wake is no release");

    let steady = Load::of(1, Duration::from_millis(300), cloud.gateway(), HOST);
    let rush = Load::begin(cloud.gateway(), HOST);
    until("load has brought more, up to max", || running(&cloud) == 3);
    none_failed("rush", &rush.end());
    until("they went with it", || running(&cloud) == 1);
    none_failed("up and down", &steady.end());
    until("it sleeps again", || asleep(&cloud));
    let events = cloud.good(&["events"]);
    for words in [
        "web goes from 1 to 0 replicas: nobody asked",
        "from 0 to 1 replica: a request came",
    ] {
        assert!(events.contains(words), "{events}");
    }

    // Stopped on request it is not woken.
    cloud.good(&["stop", "nap/web"]);
    let refused = get(&cloud.gateway(), HOST, "/");
    assert_eq!(refused.status, 503);
    assert!(
        refused.text().contains("stopped by its owner"),
        "{}",
        refused.text()
    );
    assert!(
        refused.head.to_ascii_lowercase().contains("retry-after"),
        "{}",
        refused.head
    );

    cloud.good(&["scale", "nap/web", "--min", "1", "--cpu", "70", "--wait"]);
    let scaled = deployment(&cloud);
    assert_eq!(scaled["spec"]["services"]["web"]["autoscale"]["max"], 3);
    assert_eq!(running(&cloud), 1);
    cloud.good(&["down", "nap"]);
}
