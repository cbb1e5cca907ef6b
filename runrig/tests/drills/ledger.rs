//! The ledger stands still: nobody can be told anything, and what runs goes on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fixtures::{Cloud, decimal, signal, until};
use serde_json::Value;

use crate::World;
use crate::stage::{Drill, Trace, alive, healthy, pid, role, text};

/// Of each replica, unless its service says otherwise.
const MBIT: f64 = 10.0;
/// What a busy machine may need to say something.
const GAP_S: u64 = 8;
/// Between two reports of usage the newest seconds are not billed yet: more or fewer of them.
const LATE_S: f64 = 3.0;

/// What `row`'s agent remembers of it.
fn memory(cloud: &Cloud, row: &Value) -> Value {
    let file = PathBuf::from("state").join(format!("{}.json", text(&row["allocation"])));
    let path = cloud.data().join(role(text(&row["host"]))).join(file);
    let bytes = std::fs::read(path).expect("an agent remembers");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn now_s() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs_f64()
}

/// Seconds of `row`'s life that are not billed: by what is reserved, which costs by the second.
pub fn unbilled_s(cloud: &Cloud, row: &Value) -> f64 {
    let bill = cloud.json(&["bill"]);
    let lines = bill["lines"].as_array().expect("lines").iter();
    let mut own =
        lines.filter(|l| l["allocation"] == row["allocation"] && l["resource"] == "bandwidth");
    let billed = own.next().map_or(0.0, |l| decimal(&l["usage"])) / MBIT;
    now_s() - row["placed_ms"].as_f64().expect("a time") / 1e3 - billed
}

/// The seconds at which `row` has said that it lives.
fn said(cloud: &Cloud, row: &Value) -> Vec<u64> {
    let logs = cloud.good(&["logs", "--no-prefix", text(&row["allocation"])]);
    logs.lines().filter_map(|l| l.parse().ok()).collect()
}

/// No validator answers: what runs serves, is restarted when it crashes, keeps its log and is
/// metered.
pub fn stands_still(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "no-control-plane");
    let rows = cloud.rows("web");
    let (crashes, steady) = (&rows[0], &rows[1]);
    let before_s = unbilled_s(cloud, steady);
    drill.strikes();
    let from = now_s();
    let held: Vec<_> = (1..=4)
        .map(|n| cloud.hold(&format!("validator-{n}")))
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let old = pid(crashes);
    signal(old, libc::SIGKILL);
    let crashed = Instant::now();
    let again = || memory(cloud, crashes)["status"]["pid"].as_u64();
    until("it is restarted while nobody can be told", || {
        again().is_some_and(|now| now != 0 && now != u64::from(old))
    });
    drill.tells(format!(
        "restarted in {:.1} s",
        crashed.elapsed().as_secs_f64()
    ));
    std::thread::sleep(Duration::from_secs(pause_s()).saturating_sub(crashed.elapsed()));
    assert!(alive(pid(steady)), "what did not crash goes on");
    let away = now_s() - from;
    drop(held);
    let height = cloud.json(&["chain", "status"])["height"].clone();
    let mut trace = Trace::default();
    drill.is_over_when("blocks go on, and both replicas are known to run", || {
        let now = cloud.rows("web");
        let of = |r: &Value| {
            [&r["allocation"], &r["state"], &r["health"], &r["pid"]].map(Value::to_string)
        };
        let moved = cloud.json(&["chain", "status"])["height"] != height;
        trace.see(format!(
            "{:?}, {old} was killed, blocks go on: {moved}",
            now.iter().map(of).collect::<Vec<_>>()
        ));
        let all = now.len() == 2 && now.iter().all(healthy);
        all && now.iter().all(|r| r["pid"].as_u64() != Some(old.into()))
    });
    drill.tells(format!("the ledger was away for {away:.0} s"));
    let hosts = cloud.json(&["host", "ls"]);
    let hosts = hosts.as_array().expect("a list").iter();
    let mut hosts = hosts.filter(|h| text(&h["name"]).starts_with("dev-"));
    assert!(hosts.all(|h| h["online"] == true), "nobody was lost");

    let mut late = f64::MAX;
    until("all of that time is billed", || {
        late = unbilled_s(cloud, steady);
        late < before_s + LATE_S
    });
    assert!(late >= 0.0, "{late} s more are billed than it has lived");
    drill.tells(format!(
        "unbilled seconds {before_s:.1} before, {late:.1} after"
    ));
    let said = said(cloud, steady);
    let (first, last) = (from as u64, (from + away) as u64);
    let meanwhile = said.iter().filter(|at| (first..=last).contains(at)).count();
    drill.tells(format!("{meanwhile} log lines kept of that time"));
    let gaps = said.windows(2).map(|pair| pair[1] - pair[0]);
    let widest = gaps.max().unwrap_or(u64::MAX);
    assert!(widest <= GAP_S, "a gap of {widest} s in the log");
    drill.end();
}

/// How long the ledger stands still: seconds in the tests, ten minutes in a long drill.
fn pause_s() -> u64 {
    match std::env::var_os("RUNRIG_DRILL_LONG") {
        Some(_) => 600,
        None => 6,
    }
}
