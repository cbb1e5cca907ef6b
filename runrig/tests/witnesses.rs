//! A host whose replica nobody can reach, while its agent goes on saying that all is well, is
//! flagged by witnesses and loses reputation; the others do not.

use std::process::Command;

use fixtures::{Cloud, free_ports, get, until};
use serde_json::Value;

const HOSTS: u16 = 3;

fn compose(port: u16) -> String {
    format!(
        r#"
name: seen
services:
  web:
    image: busybox
    command: ["sh", "-c", "mkdir /www; echo well > /www/index.html; exec httpd -f -p 8080 -h /www"]
    ports: ["{port}:8080"]
    deploy: {{ replicas: {HOSTS} }}
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"]
      interval: 1s
      retries: 20
"#
    )
}

fn flags(host: &Value) -> u64 {
    host["reputation"]["flags_milli"]
        .as_u64()
        .expect("a number")
}

/// Rounds that all witnesses together have told of, since the network began.
fn witnessed(cloud: &Cloud) -> u64 {
    let view = cloud.json(&["validator", "status"]);
    let members = view["members"].as_array().expect("a list").iter();
    members
        .map(|m| m["witnessed"].as_u64().expect("a number"))
        .sum()
}

#[test]
fn who_cannot_be_reached_though_it_says_so_is_flagged() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = env!("CARGO_BIN_EXE_runrig");
    let every = ["--witness-every", "10"];
    let cloud = Cloud::start_as(
        program,
        folder.path(),
        free_ports(),
        Vec::new(),
        HOSTS,
        &every,
    );
    cloud.load(&fixtures::busybox());
    cloud.up(&compose(cloud.port(0)));
    let healthy = || {
        let rows = cloud.rows("web");
        rows.len() == usize::from(HOSTS) && rows.iter().all(|row| row["health"] == "healthy")
    };
    until("all are healthy", healthy);
    let web = format!("127.0.0.1:{}", cloud.port(0));
    assert_eq!(get(&web, "x", "/").text(), "well\n");

    until("each of four witnesses has told twice", || {
        witnessed(&cloud) >= 8
    });
    let hosts = cloud.json(&["host", "ls"]);
    let hosts = hosts.as_array().expect("a list");
    assert!(hosts.iter().all(|host| flags(host) == 0), "{hosts:?}");

    // Its network is gone; within it all is well, as its health check says.
    let rows = cloud.rows("web");
    let (bad, pid) = (&rows[0]["host"], rows[0]["pid"].to_string());
    let cut = "for link in $(ip -o link | cut -d: -f2 | cut -d@ -f1); do [ $link = lo ] || ip link set $link down; done";
    let cut = Command::new("nsenter")
        .args(["-t", &pid, "-n", "--", "sh", "-c", cut])
        .status();
    assert!(cut.expect("nsenter").success());

    let mut flagged = Value::Null;
    until("it is flagged", || {
        let hosts = cloud.json(&["host", "ls"]);
        let hosts = hosts.as_array().expect("a list");
        for host in hosts.iter().filter(|host| host["name"] != *bad) {
            assert_eq!(flags(host), 0, "{host}");
        }
        let host = hosts.iter().find(|host| host["name"] == *bad);
        flagged = host.expect("there").clone();
        flags(&flagged) > 0
    });
    assert!(healthy(), "its agent says so still");
    assert_eq!(flagged["online"], true);

    // Its owner sees why.
    let name = bad.as_str().expect("a name");
    let shown: Value = serde_json::from_str(&cloud.good(&["host", "show", name])).expect("JSON");
    let flag = &shown["flag"];
    assert_eq!(
        (&flag["drawn"], &flag["saw"]),
        (&4.into(), &"refused".into())
    );
    assert!(
        flag["witnesses"].as_array().is_some_and(|w| w.len() >= 3),
        "{flag}"
    );
    let table = cloud.good(&["host", "ls"]);
    assert!(table.contains("1 flag of witnesses"), "{table}");
    let events = cloud.good(&["events", "--all"]);
    assert!(
        events.contains(&format!("Host {name} lost reputation")),
        "{events}"
    );
    let lots = cloud.good(&["lots", "show", "0"]);
    assert!(lots.contains("3 flag one"), "{lots}");
}
