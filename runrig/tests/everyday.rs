//! What people do with what runs: copy files, lead a port home, run one command; and what an
//! image and a compose file say of a container's life. One cloud for all of it.

use std::io::{BufRead, BufReader};
use std::process::Child;

use fixtures::{Cloud, File, Image, Layer, free_ports, get, until};
use serde_json::{Value, json};

const COMPOSE: &str = r#"
name: everyday
services:
  web:
    image: tools
    command: ["httpd", "-f", "-p", "8080", "-h", "/tmp"]
    expose: [8080]
    container_name: the.site
    tmpfs: ["/own:size=1m,mode=0750,uid=7,gid=8"]
    volumes: [/filled, { type: volume, target: /empty, volume: { nocopy: true } }]
    healthcheck: { disable: true }
  checked:
    image: tools
    cpus: 0.2
    command: ["sleep", "100000"]
    stop_grace_period: 1s
  tended:
    image: busybox
    cpus: 0.2
    command: ["sleep", "100000"]
    init: true
  untended:
    image: busybox
    cpus: 0.2
    command: ["sleep", "100000"]
    stop_grace_period: 1s
  seen:
    image: busybox
    cpus: 0.2
    command: ["sh", "-c", "test -t 1 && echo a terminal; exec sleep 100000"]
    tty: true
    stop_grace_period: 1s
  alone:
    image: held
    command: ["sleep", "100000"]
    network_mode: none
    pull_policy: missing
    cpu_shares: 256
    cpus: 0.1
    mem_limit: 32m
    x-runrig: { disk: 100m }
    depends_on: { web: { condition: service_started, restart: true } }
    stop_grace_period: 1s
  steady:
    image: busybox
    cpus: 0.2
    command: ["sh", "-c", "sleep 1; exit 1"]
    deploy: { restart_policy: { condition: on-failure, max_attempts: 1, window: 500ms } }
  greedy:
    image: busybox
    cpus: 0.2
    command: ["sh", "-c", "dd if=/dev/zero of=/fill bs=1M count=60; exec sleep 100000"]
    x-runrig: { disk: 30m }
    stop_grace_period: 1s
  parts:
    image: busybox
    cpus: 0.1
    mem_limit: 32m
    command: ["sleep", "100000"]
    user: "7:8"
    volumes:
      - { type: volume, source: data, target: /one, volume: { subpath: one/inner } }
      - { type: volume, source: data, target: /two, volume: { subpath: two } }
    stop_grace_period: 1s
  asked:
    image: tools
    cpus: 0.2
    command: ["sh", "-c", "trap 'echo asked kindly; exit 3' USR1; echo ready; while :; do sleep 0.1; done"]
    healthcheck: { test: [NONE] }
    stop_grace_period: 60s
volumes: { data: }
"#;

/// With a check of its own, and a signal that it wants to be stopped by.
fn tools() -> Image {
    let mut image = fixtures::busybox();
    image.name = "tools:latest".into();
    let tar = File::link("usr/bin/tar", "busybox");
    let there = ["filled/one", "empty/one"].map(|path| File::text(path, "of the image"));
    image
        .layers
        .push(Layer::Files([vec![tar], there.to_vec()].concat()));
    let second = 1_000_000_000u64;
    image.config = json!({
        "Healthcheck": { "Test": ["CMD-SHELL", "test -e /tmp/good"], "Interval": second,
            "Timeout": 5 * second, "Retries": 2 },
        "StopSignal": "SIGUSR1",
    });
    image
}

fn row(cloud: &Cloud, service: &str) -> Value {
    let ps = cloud.json(&["ps", "-a"]);
    let mut rows = ps.as_array().expect("a list").iter();
    rows.find(|r| r["service"] == service)
        .unwrap_or_else(|| panic!("no {service}: {ps}"))
        .clone()
}

#[test]
fn a_day_with_what_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::busybox());
    cloud.load(&tools());
    cloud.load(&held("first"));
    let file = cloud.file("compose.yaml", COMPOSE);
    // Not good by then: one of them is unhealthy until it is helped.
    until("there is room for all", || {
        cloud.run(&["up", "-f", &file, "--yes", "--detach"]).0 == 0
    });
    for service in [
        "web", "checked", "tended", "untended", "seen", "alone", "asked", "parts",
    ] {
        until("it runs", || row(&cloud, service)["state"] == "running");
    }

    files_go_in_and_out(&cloud);
    let stat = [
        "exec", "web", "--", "busybox", "stat", "-c", "%a %u %g", "/own",
    ];
    assert_eq!(cloud.good(&stat), "750 7 8\n");
    let volumes = ["exec", "web", "--", "ls", "-A", "/filled", "/empty"];
    assert_eq!(cloud.good(&volumes), "/empty:\n\n/filled:\none\n");
    let page = [
        "exec",
        "tended",
        "--",
        "wget",
        "-q",
        "-O",
        "-",
        "http://the.site:8080/page.html",
    ];
    assert_eq!(cloud.good(&page), "a page from here\n");
    let script = "touch /one/a && touch /two/b && cd / && find one two";
    let parts = ["exec", "parts", "--", "sh", "-c", script];
    assert_eq!(cloud.good(&parts), "one\none/a\ntwo\ntwo/b\n");
    one_of_several_ports(&cloud);
    a_host_is_lent_and_priced(&cloud);
    much_goes_through(&cloud);
    nobody_reaches_who_has_no_network(&cloud);
    what_depends_on_it_is_restarted_with_it(&cloud);
    an_image_stays_where_it_is_not_missing(&cloud);
    a_port_leads_home(&cloud);
    an_image_says_how_it_is(&cloud);
    orphans_are_reaped(&cloud);
    until("a terminal", || {
        cloud.good(&["logs", "seen"]).contains("a terminal")
    });
    until("the disk's limit", || {
        row(&cloud, "greedy")["message"]
            .as_str()
            .is_some_and(|why| why.contains("out of disk"))
    });
    until("a good run makes restarts forgotten", || {
        row(&cloud, "steady")["restarts"].as_u64() >= Some(3)
    });
    one_command_runs(&cloud);
    a_stop_is_kind_after_an_agent(&cloud);
    a_limit_stops_and_lets_go_on(&cloud);
    cloud.good(&["down", "everyday"]);
}

/// More than all buffers on the way hold, both ways at once, and to a command that reads none
/// of it.
fn much_goes_through(cloud: &Cloud) {
    let much: Vec<u8> = (0..4 << 20).map(|n: u32| (n % 251) as u8).collect();
    let (code, out, err) = cloud.fed(&["exec", "-i", "web", "--", "cat"], &much);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out == much, "{} of {} bytes", out.len(), much.len());
    for _ in 0..5 {
        let deaf = ["exec", "-i", "web", "--", "sh", "-c", "echo said; exit 3"];
        let (code, out, err) = cloud.fed(&deaf, &much);
        assert_eq!(
            (code, out.as_slice(), err.as_str()),
            (3, &b"said\n"[..], "")
        );
    }
}

fn files_go_in_and_out(cloud: &Cloud) {
    let page = cloud.file("page.html", "a page from here\n");
    cloud.good(&["cp", &page, "web:/tmp/"]);
    let inside = cloud.good(&["exec", "web", "--", "cat", "/tmp/page.html"]);
    assert_eq!(inside, "a page from here\n");
    let script = "mkdir -p /tmp/kept/deep && echo one > /tmp/kept/deep/one";
    cloud.good(&["exec", "web", "--", "sh", "-c", script]);
    let out = cloud.data().with_file_name("out");
    std::fs::create_dir(&out).expect("made");
    let shown = out.display().to_string();
    cloud.good(&["cp", "everyday/web:/tmp/kept", &shown]);
    let read = std::fs::read_to_string(out.join("kept/deep/one"));
    assert_eq!(read.expect("copied"), "one\n");
    let (code, _, err) = cloud.run(&["cp", "web:/tmp/none", &shown]);
    assert!(code != 0 && err.contains("none"), "{code} {err}");
}

/// Says in a file which one it is.
fn held(which: &str) -> Image {
    let mut image = fixtures::busybox();
    image.name = "held:latest".into();
    image
        .layers
        .push(Layer::Files(vec![File::text("which", which)]));
    image
}

fn inside(cloud: &Cloud, service: &str, command: &[&str]) -> (i32, String) {
    let (code, out, err) = cloud.run(&[&["exec", service, "--"], command].concat());
    (code, format!("{out}{err}"))
}

fn nobody_reaches_who_has_no_network(cloud: &Cloud) {
    let (_, interfaces) = inside(cloud, "alone", &["ls", "/sys/class/net"]);
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["lo"]);
    let (_, routes) = inside(cloud, "alone", &["cat", "/proc/net/route"]);
    assert_eq!(routes.lines().count(), 1, "only the title: {routes}");
    let id = row(cloud, "web")["allocation"].clone();
    let web = cloud.json(&["inspect", id.as_str().expect("an id")]);
    let address = web[0]["status"]["addresses"]["default"].as_array();
    let address: Vec<String> = address
        .unwrap_or_else(|| panic!("{web}"))
        .iter()
        .map(Value::to_string)
        .collect();
    let page = format!("http://{}:8080/page.html", address.join("."));
    let fetch = ["wget", "-q", "-O", "-", &page];
    assert_eq!(inside(cloud, "tended", &fetch).0, 0, "others reach it");
    let (code, said) = inside(cloud, "alone", &fetch);
    assert!(code != 0 && said.contains("unreachable"), "{code} {said}");
    // The machine's own addresses neither, nor a name.
    let (code, said) = inside(cloud, "alone", &["wget", "-O", "-", "http://web:8080"]);
    assert!(code != 0 && said.contains("bad address"), "{code} {said}");
    let (code, said) = inside(cloud, "tended", &["wget", "-O", "-", "http://alone"]);
    assert!(code != 0 && said.contains("bad address"), "{code} {said}");
    let addresses = &row(cloud, "alone")["addresses"];
    assert!(
        addresses.as_object().is_none_or(|a| a.is_empty()),
        "{addresses}"
    );
}

fn what_depends_on_it_is_restarted_with_it(cloud: &Cloud) {
    let pid = |service: &str| row(cloud, service)["pid"].as_u64();
    let (alone, tended) = (pid("alone"), pid("tended"));
    cloud.good(&["restart", "everyday/web"]);
    until("the dependent is started anew", || {
        row(cloud, "alone")["state"] == "running" && pid("alone") != alone
    });
    assert_eq!(pid("tended"), tended, "nobody else is");
    until("it serves again", || {
        row(cloud, "web")["state"] == "running"
    });
    let page = cloud.data().with_file_name("page.html");
    cloud.good(&["cp", &page.display().to_string(), "web:/tmp/"]);
}

fn an_image_stays_where_it_is_not_missing(cloud: &Cloud) {
    cloud.load(&held("second"));
    let up = |text: &str| -> Value {
        let file = cloud.file("compose.yaml", text);
        // What is there already is left alone, so it may be asked twice.
        until("it is deployed", || {
            cloud.run(&["up", "-f", &file, "--yes", "--detach"]).0 == 0
        });
        row(cloud, "alone")["release"].clone()
    };
    let which = || inside(cloud, "alone", &["cat", "/which"]).1;
    let release = up(COMPOSE);
    assert_eq!(which(), "first");
    let never = COMPOSE.replace("pull_policy: missing", "pull_policy: never");
    assert_eq!(up(&never), release);
    let daily = COMPOSE.replace("pull_policy: missing", "pull_policy: daily");
    assert_eq!(up(&daily), release);
    up(&COMPOSE.replace("pull_policy: missing", "pull_policy: every_1ms"));
    until("it is looked up anew", || which() == "second");
    let other = COMPOSE
        .replace("pull_policy: missing", "pull_policy: never")
        .replace("image: held", "image: held:other");
    let file = cloud.file("compose.yaml", &other);
    let (code, _, err) = cloud.run(&["up", "-f", &file, "--yes"]);
    assert!(
        code == 3 && err.contains("pull_policy is never"),
        "{code} {err}"
    );
}

/// Ended when dropped.
struct Forward(Child);

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_port_leads_home(cloud: &Cloud) {
    let args = ["port-forward", "everyday/web", "0:8080", "--json"];
    let mut forward = Forward(cloud.spawn(&args));
    let out = forward.0.stdout.take().expect("piped");
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).expect("a line");
    let said: Value = serde_json::from_str(&line).expect("json");
    let local = said["local"].as_str().expect("an address");
    for _ in 0..2 {
        let answer = get(local, "web", "/page.html");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "a page from here\n")
        );
    }
}

fn an_image_says_how_it_is(cloud: &Cloud) {
    assert_eq!(row(cloud, "web")["health"], "none", "its check is off");
    let health = |is: &str| {
        until(is, || row(cloud, "checked")["health"] == is);
    };
    health("unhealthy");
    cloud.good(&["exec", "checked", "--", "touch", "/tmp/good"]);
    health("healthy");
}

/// A process whose parent has gone becomes the first one's, which waits for it, or does not.
fn orphans_are_reaped(cloud: &Cloud) {
    let orphan = |service: &str| {
        let script = "sh -c 'sleep 0.1 & echo $!'";
        let out = cloud.good(&["exec", service, "--", "sh", "-c", script]);
        let pid: u32 = out.trim().parse().expect("a pid");
        format!("/proc/{pid}/stat")
    };
    let state = |service: &str, stat: &str| cloud.run(&["exec", service, "--", "cat", stat]).1;
    let left = orphan("untended");
    until("nobody waits for it", || {
        state("untended", &left).contains(") Z ")
    });
    let taken = orphan("tended");
    until("it is reaped", || state("tended", &taken).is_empty());
    let first = cloud.good(&["exec", "tended", "--", "cat", "/proc/1/cmdline"]);
    assert!(!first.starts_with("sleep"), "{first}");
}

fn one_command_runs(cloud: &Cloud) {
    let (code, out, err) =
        cloud.run(&["run", "--rm", "-y", "busybox", "sh", "-c", "echo x; exit 5"]);
    assert_eq!((code, out.as_str()), (5, "x\n"), "{err}");
    cloud.good(&[
        "run", "-d", "-y", "--name", "single", "-e", "A=b c", "busybox", "sleep", "100000",
    ]);
    let said = cloud.good(&["exec", "single", "--", "sh", "-c", "echo $A"]);
    assert_eq!(said, "b c\n");
    let (code, _, err) = cloud.run(&["run", "-d", "-y", "--name", "single", "busybox"]);
    assert!(code == 5 && err.contains("single"), "{code} {err}");
    cloud.good(&["rm", "-f", "single"]);
    let names = cloud.json(&["ls"]);
    let names: Vec<&Value> = names.as_array().expect("a list").iter().collect();
    assert!(
        names.iter().all(|p| p["project"] == "everyday"),
        "{names:?}"
    );
}

/// What may be published at several is published at the first that nobody has, and stays there.
fn one_of_several_ports(cloud: &Cloud) {
    let first = cloud.port(10);
    let range = format!("{first}-{}", first + 1);
    let up = |project: &str, replicas: u32| {
        let text = format!(
            "services: {{ web: {{ image: tools, command: [sleep, '100000'], ports: ['{range}:8080'], \
             stop_grace_period: 1s, healthcheck: {{ disable: true }}, scale: {replicas}, cpus: 0.1, mem_limit: 32m }} }}"
        );
        let file = cloud.file("range.yaml", &text);
        cloud.run(&["up", "-f", &file, "-p", project, "--yes", "--detach"])
    };
    let published = |project: &str, at: u16| {
        let (code, _, err) = up(project, 1);
        let said = format!("port 8080 of web is published at {at}, of {range}");
        assert!(code == 0 && err.contains(&said), "{code} {err}");
    };
    published("range-a", first);
    published("range-b", first + 1);
    let (code, _, err) = up("range-c", 1);
    assert!(
        code != 0 && err.contains(&format!("at none of {range}")),
        "{code} {err}"
    );
    cloud.good(&["down", "range-a"]);
    // It could be at the first now, but whoever knows it knows it where it is.
    published("range-b", first + 1);
    published("range-c", first);
    cloud.good(&["down", "range-b"]);
    cloud.good(&["down", "range-c"]);
}

/// The key of the account that owns a host of `runrig dev`.
fn owner_key(cloud: &Cloud, host: &str) -> String {
    let number = host.trim_start_matches("dev-");
    let key = cloud.data().join(format!("keys/owner-{number}"));
    key.to_string_lossy().into_owned()
}

/// An owner asks less and lends less, then more: the agent obeys, and a quote tells what is asked.
fn a_host_is_lent_and_priced(cloud: &Cloud) {
    let hosts = cloud.json(&["host", "ls"]);
    let hosts = hosts.as_array().expect("a list");
    let busy = hosts.iter().find(|h| h["allocations"].as_u64() > Some(0));
    let host = busy.expect("one where something runs");
    let name = host["name"].as_str().expect("a name");
    let key = owner_key(cloud, name);
    let as_host = |args: &[&str]| {
        let args = [args, &["--key", &key]].concat();
        cloud.run(&args)
    };
    let offered = |what: &str| {
        let all = cloud.json(&["host", "show", name]);
        all["offer"]["capacity"][what].as_u64().expect("a number")
    };
    let (cpus, memory) = (offered("cpu_millis"), offered("memory_bytes"));
    let (code, _, err) = as_host(&["host", "set", name, "--cpus", "0.001"]);
    assert!(
        code != 0 && err.contains("runrig host drain"),
        "{code} {err}"
    );
    let (code, _, err) = as_host(&["host", "set", name]);
    assert!(
        code == 2 && err.contains("nothing to change"),
        "{code} {err}"
    );
    let less = format!("{}", memory - (1 << 20));
    let (code, _, err) = as_host(&["host", "set", name, "--memory", &less]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        (offered("cpu_millis"), offered("memory_bytes")),
        (cpus, memory - (1 << 20))
    );
    // More, as far as the machine has it: the agent says so.
    let more = format!("{}", memory + (1 << 20));
    let (code, _, err) = as_host(&["host", "set", name, "--memory", &more]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(offered("memory_bytes"), memory + (1 << 20), "{err}");
    for host in hosts {
        let name = host["name"].as_str().expect("a name");
        cloud.good(&[
            "host",
            "price",
            name,
            "50",
            "--key",
            &owner_key(cloud, name),
        ]);
    }
    let text = "services: { web: { image: tools, cpus: 0.1, mem_limit: 32m } }";
    let file = cloud.file("priced.yaml", text);
    let quote = cloud.json(&["up", "-f", &file, "-p", "priced", "--dry-run"]);
    let amount = |key: &str| -> f64 {
        quote[key]
            .as_str()
            .and_then(|t| t.parse().ok())
            .expect("an amount")
    };
    let half = amount("asked_hour") / amount("total_hour");
    assert!((0.49..=0.5001).contains(&half), "{half} {quote}");
    assert_eq!(quote["places"][0]["price_multiplier_milli"], 500);
    let (_, _, err) = cloud.run(&["up", "-f", &file, "-p", "priced", "--dry-run"]);
    assert!(
        err.contains("asks 50 %") && err.contains("at most"),
        "{err}"
    );
    for host in hosts {
        let name = host["name"].as_str().expect("a name");
        cloud.good(&[
            "host",
            "price",
            name,
            "100",
            "--key",
            &owner_key(cloud, name),
        ]);
    }
}

/// What is spent is known, a limit that it is above stops all, and everything is kept.
fn a_limit_stops_and_lets_go_on(cloud: &Cloud) {
    let shown = cloud.json(&["limit", "show"]);
    let spent: f64 = shown["spent"]
        .as_str()
        .and_then(|t| t.parse().ok())
        .expect("an amount");
    assert!(spent > 0.0, "{shown}");
    assert_eq!(
        (&shown["limit"], &shown["alert"]),
        (&Value::Null, &Value::Null)
    );
    for (args, exit, next) in [
        (vec!["--alert", "3", "--limit", "2"], 2, "at most the limit"),
        (vec!["--order", "every-day"], 3, "runrig ls"),
        (vec!["--limit", "much"], 2, "none"),
        (vec![], 2, "--limit"),
    ] {
        let args = [&["limit", "set"], args.as_slice()].concat();
        let (code, _, err) = cloud.run(&args);
        assert!(code == exit && err.contains(next), "{code} {err}");
    }
    assert_eq!(cloud.json(&["limit", "show"])["order"], json!([]));

    let kept = ["exec", "web", "--", "touch", "/filled/kept"];
    cloud.good(&kept);
    let set = [
        "limit", "set", "--alert", "0", "--limit", "0", "--order", "everyday",
    ];
    let shown = cloud.json(&set);
    assert_eq!(shown["stops"][0]["project"], "everyday", "{shown}");
    assert_eq!(shown["stops"][0]["limited"], true, "{shown}");
    until("it is stopped", || row(cloud, "web")["state"] == "frozen");
    let table = cloud.good(&["limit", "show"]);
    assert!(table.contains("stopped by the limit"), "{table}");
    let all = cloud.json(&["ls"]);
    let named = |p: &&Value| p["project"] == "everyday";
    let project = all.as_array().and_then(|all| all.iter().find(named));
    assert_eq!(
        project.map(|p| &p["state"]),
        Some(&json!("limited")),
        "{all}"
    );
    let text = "services: { web: { image: tools, cpus: 0.1, mem_limit: 32m } }";
    let file = cloud.file("more.yaml", text);
    let (code, _, err) = cloud.run(&["up", "-f", &file, "-p", "more", "--yes"]);
    assert!(
        code == 6 && err.contains("runrig limit set"),
        "{code} {err}"
    );

    // What is not said stays.
    let shown = cloud.json(&["limit", "set", "--alert", "none", "--limit", "none"]);
    assert_eq!(shown["order"], json!(["everyday"]));
    until("it runs again", || row(cloud, "web")["state"] == "running");
    let there = ["exec", "web", "--", "ls", "/filled"];
    assert!(cloud.good(&there).contains("kept"));
    let shown = cloud.json(&["limit", "set", "--order", ""]);
    assert_eq!(shown["order"], json!([]));
}

/// The agent that stops it is not the one that started it.
fn a_stop_is_kind_after_an_agent(cloud: &Cloud) {
    let before = row(cloud, "asked");
    assert_eq!(before["state"], "running", "{before}");
    let host = before["host"].as_str().expect("a host");
    cloud.without(&host.replace("dev-", "host-"), || ());
    until("the new agent has found it", || {
        let now = row(cloud, "asked");
        now["state"] == "running" && now["pid"] == before["pid"]
    });
    cloud.good(&["stop", "everyday/asked"]);
    until("it has stopped", || {
        row(cloud, "asked")["state"] == "exited"
    });
    assert_eq!(row(cloud, "asked")["exit_code"], 3);
    until("it said goodbye", || {
        cloud.good(&["logs", "asked"]).contains("asked kindly")
    });
}
