//! Thirty hosts on one machine, all in one process but one, and a replica on each: all come up,
//! one that is killed loses its replica to another, and the bill adds up to the last unit.
//!
//! Runs as root; needs nft and Debian's mirrors.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use fixtures::{Cloud, credits, is_given_work, quiet_ports, settled, signal, until};

/// In the one process. A machine has ranges of addresses for 64, and other tests want some.
const LIGHT: u16 = 29;
/// Ports of a cloud of so many.
const PORTS: u16 = 100;
const LONE: &str = "lone";

fn compose(replicas: u16) -> String {
    format!(
        r#"
name: wide
services:
  web:
    image: busybox
    command: ["sh", "-c", "exec httpd -f -p 8080 -h /etc"]
    expose: ["8080"]
    stop_grace_period: 1s
    cpus: 0.02
    mem_limit: 16m
    x-runrig: {{ disk: 16m }}
    deploy:
      replicas: {replicas}
      placement: {{ max_replicas_per_node: 1 }}
"#
    )
}

/// Starts the agent of the host that has a process of its own.
fn join(cloud: &Cloud, more: &[&str]) -> Child {
    let path = cloud.data().join("logs/lone.log");
    let mut log = std::fs::OpenOptions::new();
    let log = log.create(true).append(true).open(path).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_runrig"));
    command
        .args(["host", "join", "--name", LONE, "--cpus", "1"])
        .args(["--memory", "256m", "--disk", "1g", "--no-builds"])
        .args(["--uid-base", "920000000"])
        .args(["--network", &format!("http://{}", cloud.gateway())])
        .args(more)
        .arg("--data")
        .arg(folder_of(cloud, LONE))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("one more"))
        .stderr(log);
    // SAFETY: an async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    command.spawn().expect("runrig host join starts")
}

fn folder_of(cloud: &Cloud, host: &str) -> PathBuf {
    cloud.data().join(host.replace("dev-", "host-"))
}

fn is_online(cloud: &Cloud, host: &str) -> bool {
    let hosts = cloud.json(&["host", "ls"]);
    let mut hosts = hosts.as_array().expect("a list").iter();
    hosts.any(|h| h["name"] == host && h["online"] == true)
}

fn drain(cloud: &Cloud, host: &str, more: &[&str]) {
    let key = folder_of(cloud, host).join("host.key");
    let key = key.display().to_string();
    cloud.good(&[&["host", "drain", host, "--key", &key], more].concat());
}

/// Where replicas run that are to run.
fn places(cloud: &Cloud) -> BTreeSet<String> {
    let runs = |r: &&serde_json::Value| r["state"] == "running" && r["desired"] == "run";
    let rows = cloud.rows("web");
    let hosts = rows.iter().filter(runs).map(|r| r["host"].as_str());
    hosts.map(|h| h.expect("a host").to_string()).collect()
}

#[test]
fn many_hosts_run_a_replica_each_and_stand_in_for_one_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = env!("CARGO_BIN_EXE_runrig");
    let cloud = Cloud::start_many(
        program,
        folder.path(),
        quiet_ports(PORTS),
        Vec::new(),
        LIGHT,
    );
    cloud.load(&fixtures::busybox());
    let before = credits(&cloud.json(&["wallet", "balance"])["balance"]);
    let mut agent = join(&cloud, &[]);
    until("the lone host is there", || is_online(&cloud, LONE));

    // One place is left free, and it is not the lone host's.
    drain(&cloud, "dev-1", &["--wait"]);
    // On a busy machine one may be taken for lost for a moment.
    until("all are given work", || {
        let hosts = cloud.json(&["host", "ls"]);
        let hosts = hosts.as_array().expect("a list");
        hosts.len() == usize::from(LIGHT) + 1 && hosts.iter().all(is_given_work)
    });
    cloud.up(&compose(LIGHT));
    let all = places(&cloud);
    assert_eq!(all.len(), usize::from(LIGHT), "{all:?}");
    assert!(all.contains(LONE) && !all.contains("dev-1"), "{all:?}");
    drain(&cloud, "dev-1", &["--undo"]);

    signal(agent.id(), libc::SIGKILL);
    agent.wait().expect("ended");
    until("its replica is elsewhere", || {
        let now = places(&cloud);
        now.len() == usize::from(LIGHT) && now.contains("dev-1") && !now.contains(LONE)
    });

    // What it left running ends with it.
    let mut agent = join(&cloud, &["--stop-on-exit"]);
    until("the lone host is back", || is_online(&cloud, LONE));
    cloud.good(&["down", "wide"]);
    let bill = settled(&cloud);
    let after = credits(&cloud.json(&["wallet", "balance"])["balance"]);
    assert_eq!(before - after, credits(&bill["total"]));
    signal(agent.id(), libc::SIGTERM);
    agent.wait().expect("ended");
}
