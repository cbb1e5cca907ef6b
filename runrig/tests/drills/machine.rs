//! What a machine does to those on it: disks that are full or slow, clocks that jump.

use std::time::{Duration, Instant};

use fixtures::{Cloud, get, until};

use crate::World;
use crate::ledger::unbilled_s;
use crate::stage::{Drill, SERVES, SITE, named, replicas, role, site, text};

const HOUR_MS: i64 = 3_600_000;
/// What a busy machine may need to report usage.
const LATE_S: f64 = 8.0;

/// Of each step, in seconds: longer in a long drill.
fn while_s() -> u64 {
    match std::env::var_os("RUNRIG_DRILL_LONG") {
        Some(_) => 60,
        None => 1,
    }
}

fn rolls(cloud: &Cloud, colour: &str) {
    let file = cloud.file("compose.yaml", &site(colour, SERVES));
    cloud.good(&["up", "-f", &file, "--yes", "--wait"]);
    assert_eq!(get(&cloud.gateway(), SITE, "/").text().trim(), colour);
}

/// One replica, of another project than the site.
const LONE: &str = r#"
name: lone
services:
  lone:
    image: busybox
    command: ["sleep", "infinity"]
    stop_grace_period: 1s
"#;

/// A replica that comes to it fails, and is tried elsewhere; what runs there goes on.
pub fn a_host_starts_nothing(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "broken-host");
    // Whichever it comes to is the broken one.
    let disks = (1..).zip(&world.disks);
    let mut broken: Vec<_> = disks
        .map(|(n, disk)| (format!("dev-{n}"), disk.cover("upper")))
        .collect();
    let file = cloud.file("lone.yaml", LONE);
    let (code, _, said) = cloud.run(&["up", "-f", &file, "--yes"]);
    assert!(
        code != 0 && said.contains("could not be started"),
        "{code} {said}"
    );
    let failed = cloud.rows("lone")[0].clone();
    let at = text(&failed["host"]);
    broken.retain(|(host, _)| host == at);
    assert_eq!(broken.len(), 1, "{at}");
    drill.strikes();
    drill.is_over_when("it runs elsewhere", || {
        let rows = cloud.rows("lone");
        rows.iter()
            .any(|r| r["state"] == "running" && r["host"] != at)
    });
    let told = cloud.good(&["events"]);
    assert!(told.contains("tried again"), "{told}");
    drop(broken);
    cloud.good(&["down", "lone"]);
    drill.end();
}

/// What serves there goes on, nothing new comes, and what was used is billed once there is room.
pub fn a_disk_is_full(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "full-disk");
    let row = cloud.rows("web")[0].clone();
    let (host, id) = (text(&row["host"]), text(&row["allocation"]));
    let number: usize = role(host)["host-".len()..].parse().expect("a number");
    let before_s = unbilled_s(cloud, &row);
    drill.strikes();
    let full = world.disks[number - 1].fill();
    let noticed = Instant::now();
    until("the host says that it has no room", || {
        named(cloud, host)["free"]["disk_bytes"] == 0
    });
    drill.tells(format!(
        "said after {:.1} s",
        noticed.elapsed().as_secs_f64()
    ));
    let (code, _, said) = cloud.run(&["exec", id, "--", "sh", "-c", "echo x > /srv/x"]);
    assert!(code != 0 && said.contains("No space left"), "{code} {said}");
    assert!(replicas(cloud).iter().any(|(a, _)| a == id), "it serves on");
    // A release finds room elsewhere.
    rolls(cloud, "full");
    until("the new replicas are on other hosts", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(_, h)| h != host)
    });
    drop(full);
    drill.is_over_when("the host says that it has room again", || {
        let free = &named(cloud, host)["free"]["disk_bytes"];
        free.as_u64().is_some_and(|bytes| bytes > 0)
    });
    until("what ended there is settled and gone", || {
        named(cloud, host)["allocations"] == 0
    });
    let late = unbilled_s(cloud, &row);
    assert!(late >= 0.0, "{late} s more are billed than it has lived");
    drill.tells(format!("unbilled seconds {before_s:.1} before"));
    drill.end();
}

/// Each change of a file takes long on one host and on one validator.
pub fn a_disk_is_slow(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "slow-disk");
    let host = role(text(&cloud.rows("web")[0]["host"]));
    let slow_ms = 200;
    drill.strikes();
    let slow = [host.as_str(), "validator-3"].map(|name| {
        let pid = cloud.pid(name);
        world.faults.disk(pid, slow_ms)
    });
    let began = Instant::now();
    rolls(cloud, "slow");
    drill.tells(format!(
        "a release in {:.1} s with {slow_ms} ms for each change of a file",
        began.elapsed().as_secs_f64()
    ));
    std::thread::sleep(Duration::from_secs(while_s()));
    let hosts = cloud.json(&["host", "ls"]);
    let hosts = hosts.as_array().expect("a list").iter();
    let mut hosts = hosts.filter(|h| text(&h["name"]).starts_with("dev-"));
    assert!(hosts.all(|h| h["online"] == true), "slow is not lost");
    drop(slow);
    drill.is_over_when("two replicas serve", || replicas(cloud).len() == 2);
    drill.end();
}

/// Time is what the ledger says: nobody pays for an hour that a clock was put forward.
pub fn a_hosts_clock_jumps(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "host-clock");
    let row = cloud.rows("web")[0].clone();
    let id = text(&row["allocation"]);
    let agent = cloud.pid(&role(text(&row["host"])));
    let before_s = unbilled_s(cloud, &row);
    drill.strikes();
    let mut worst = before_s;
    for ms in [HOUR_MS, -24 * HOUR_MS] {
        let jumped = world.faults.clock(agent, ms);
        std::thread::sleep(Duration::from_secs(while_s()));
        until("its time is billed, and no more", || {
            let now = unbilled_s(cloud, &row);
            worst = worst.max(now);
            assert!(now >= 0.0, "{now} s more are billed than it has lived");
            now < before_s + LATE_S
        });
        assert_eq!(cloud.run(&["exec", id, "--", "id"]).0, 0);
        drop(jumped);
        std::thread::sleep(Duration::from_secs(1));
    }
    drill.is_over_when("its time is billed as before", || {
        unbilled_s(cloud, &row) < before_s + LATE_S
    });
    drill.tells(format!(
        "unbilled seconds {before_s:.1} before, {worst:.1} at worst; jumps of +1 h and -24 h"
    ));
    let same = cloud.rows("web");
    assert!(same.iter().any(|r| r["pid"] == row["pid"]), "nothing moved");
    drill.end();
}

/// One of four: blocks go on, and their time is everybody else's.
pub fn a_validators_clock_jumps(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "validator-clock");
    let pid = cloud.pid("validator-2");
    let status = || cloud.json(&["chain", "status"]);
    let height = || status()["height"].as_u64().expect("a height");
    drill.strikes();
    for ms in [HOUR_MS, -HOUR_MS] {
        let jumped = world.faults.clock(pid, ms);
        let (from, began) = (height(), Instant::now());
        std::thread::sleep(Duration::from_secs(while_s()));
        until("blocks go on", || height() > from + 2);
        drill.tells(format!(
            "{:.1} blocks/s at {:+} h",
            (height() - from) as f64 / began.elapsed().as_secs_f64(),
            ms / HOUR_MS
        ));
        let off = status()["time_ms"]
            .as_u64()
            .expect("a time")
            .abs_diff(api::now_ms());
        assert!(off < 60_000, "the ledger's time is {off} ms off");
        drop(jumped);
    }
    let network = std::fs::read(cloud.data().join("network/network.json")).expect("a network");
    let network: serde_json::Value = serde_json::from_slice(&network).expect("JSON");
    let at = text(&network["validators"][1]["api"]);
    let (from, began) = (height(), Instant::now());
    drill.is_over_when("blocks go on, there too", || {
        let (_, out, _) = cloud.run(&["--url", at, "--json", "chain", "status"]);
        let there: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        height() > from + 2 && there["height"].as_u64() > Some(from + 2)
    });
    drill.tells(format!(
        "{:.1} blocks/s after",
        (height() - from) as f64 / began.elapsed().as_secs_f64()
    ));
    drill.end();
}
