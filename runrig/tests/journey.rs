//! The whole cloud as its user meets it: found, deploy, look, pay, verify, remove. Runs as
//! root; needs nft and Debian's mirrors.

use fixtures::{Cloud, free_ports, get, until};
use serde_json::Value;

/// Decimal credits → 10⁻¹² credit.
fn units(value: &Value) -> i128 {
    let amount: types::Amount = value.as_str().expect("text").parse().expect("an amount");
    amount.0 as i128
}

fn compose(port: u16) -> String {
    format!(
        r#"
name: shop
services:
  web:
    image: busybox
    command: ["httpd", "-f", "-p", "8080", "-h", "/etc"]
    ports: ["{port}:8080"]
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/hostname"]
      interval: 1s
      timeout: 2s
      retries: 20
    deploy:
      replicas: 2
  client:
    image: busybox
    restart: always
    command: ["sh", "-c", "while :; do wget -q -O - http://web:8080/hostname; sleep 0.5; done"]
    depends_on:
      web:
        condition: service_healthy
"#
    )
}

#[test]
fn from_nothing_to_a_verified_receipt() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    let gateway = cloud.gateway();
    let published = format!("127.0.0.1:{}", cloud.port(0));
    cloud.load(&fixtures::busybox());

    // A wrong file changes nothing and names its line.
    let wrong = "name: wrong\nservices:\n  a:\n    image: busybox\n    privilegd: true\n";
    let wrong = cloud.file("wrong.yaml", wrong);
    let (code, _, err) = cloud.run(&["up", "-f", &wrong, "--yes"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("privilegd") && err.contains('5'), "{err}");

    let before = units(&cloud.json(&["wallet", "balance"])["balance"]);
    let up = cloud.up(&compose(cloud.port(0)));
    let endpoints = up["endpoints"].as_array();
    assert!(endpoints.is_some_and(|e| !e.is_empty()), "{up}");

    // What runs: two webs on different hosts.
    let runs = |r: &Value| r["state"] == "running" && r["pid"].as_u64() > Some(0);
    // On a machine that others have taken, hosts fall silent, and what was there has a new place.
    until("three that run", || {
        let ps = cloud.json(&["ps"]);
        let rows = ps.as_array().expect("a list");
        rows.len() == 3 && rows.iter().all(runs)
    });
    let hosts = cloud.json(&["host", "ls"]);
    let silent = |h: &Value| h["trusted_ms"] != 0 || h["online"] != true;
    let (web, hosts) = (cloud.rows("web"), hosts.as_array().expect("a list"));
    if !hosts.iter().any(silent) {
        assert_ne!(web[0]["host"], web[1]["host"]);
    }

    // Reached by published port and by name; services reach each other.
    until("the published port", || {
        get(&published, "x", "/hostname").status == 200
    });
    until("the name", || {
        get(&gateway, "web.shop.localhost", "/hostname").status == 200
    });
    until("a service's name", || {
        cloud.good(&["logs", "client", "-n", "50"]).contains("a-")
    });
    let script = "echo in; exit 7";
    let (code, out, _) = cloud.run(&["exec", "client", "--", "sh", "-c", script]);
    assert_eq!((code, out.trim()), (7, "in"));

    // A death for lack of memory is shown as what it is.
    let hungry = "name: hungry\nservices:\n  eater:\n    image: busybox\n    command: [\"tail\", \"/dev/zero\"]\n    mem_limit: 32m\n";
    let hungry = cloud.file("hungry.yaml", hungry);
    // It may die before `up` returns, which then says so.
    let (code, _, err) = cloud.run(&["up", "-f", &hungry, "--yes"]);
    assert!(code == 0 || err.contains("out of memory"), "{err}");
    until("the kill for memory", || {
        let ps = cloud.json(&["ps", "-a"]);
        ps.as_array()
            .expect("a list")
            .iter()
            .any(|r| r["oom_killed"] == true)
    });
    cloud.good(&["down", "hungry"]);

    // All goes on after a restart of the whole cloud.
    cloud.end();
    cloud.resume();
    until("the services after a restart", || {
        get(&published, "x", "/hostname").status == 200
    });

    // The bill re-adds to the last unit of the balance's change.
    cloud.good(&["down", "shop"]);
    until("the last lease's end", || {
        cloud.json(&["wallet", "balance"])["held"].as_str() == Some("0")
    });
    let bill = cloud.json(&["bill"]);
    let lines = bill["lines"].as_array().expect("lines");
    let sum: i128 = lines.iter().map(|l| units(&l["amount"])).sum();
    let after = units(&cloud.json(&["wallet", "balance"])["balance"]);
    assert_eq!(sum, units(&bill["total"]));
    assert_eq!(before - after, sum);
    for resource in ["cpu", "memory", "storage", "bandwidth", "transfer"] {
        let used = |l: &Value| l["resource"] == resource && l["usage"].as_str() != Some("0");
        assert!(lines.iter().any(used), "no {resource} was used");
    }
    let supply = cloud.json(&["chain", "supply"]);
    assert_eq!(supply["expected"], supply["sum"]);
    let said = cloud.good(&["receipt", "r-1", "--verify"]);
    assert!(said.contains("certified"), "{said}");
    let status = cloud.json(&["chain", "status"]);
    assert_eq!(status["validators"].as_array().map(Vec::len), Some(4));

    // Nothing is left mounted.
    cloud.end();
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read");
    assert!(
        !mounts.contains(&folder.path().display().to_string()),
        "{mounts}"
    );
}
