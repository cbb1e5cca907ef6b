//! Logs survive what they are of: a release that is replaced, an agent that is killed, a replica
//! whose host falls silent, a project that is removed. No line is shown twice, none is missing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use fixtures::{Cloud, free_ports, get, until};
use serde_json::Value;

fn compose(word: &str, port: u16) -> String {
    format!(
        r#"
name: diary
x-runrig: {{ logs: {{ keep: 1d, size: 10MiB }} }}
services:
  talk:
    image: busybox
    command: ["sh", "-c", "i=0; while true; do echo {word} $$i; echo odd $$i >&2; i=$$((i+1)); sleep 0.1; done"]
    stop_grace_period: 0s
  web:
    image: busybox
    command: ["sh", "-c", "mkdir /w; echo hi > /w/index.html; exec httpd -f -p 8080 -h /w"]
    ports: ["{port}:8080"]
"#
    )
}

/// `runrig logs -f`, read in the background.
struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Following {
    fn begin(folder: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_runrig"))
            .args(args)
            .env("XDG_CONFIG_HOME", folder.join("config"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, kept) = (child.stdout.take().expect("piped"), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("JSON");
                kept.lock().expect("not poisoned").push(value);
            }
        });
        Self { child, lines }
    }

    fn lines(&self) -> Vec<Value> {
        self.lines.lock().expect("not poisoned").clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(line: &Value) -> &str {
    line["text"].as_str().expect("text")
}

/// Each replica's lines are numbered from 0 without gap, and what it counts aloud agrees.
fn is_whole(lines: &[Value]) {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    let mut spoken: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in lines {
        let allocation = line["allocation"].as_str().expect("an id");
        let sequence = line["sequence"].as_u64().expect("a number");
        assert_eq!(
            next.insert(allocation, sequence + 1).unwrap_or(0),
            sequence,
            "{line}"
        );
        let (word, number) = text(line).split_once(' ').expect("two words");
        let number: u64 = number.parse().unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(
            spoken.insert((allocation, word), number + 1).unwrap_or(0),
            number,
            "{line}"
        );
    }
}

fn replicas(lines: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for line in lines {
        let id = line["allocation"].as_str().expect("an id").to_string();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

#[test]
fn logs_outlive_what_they_are_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::busybox());
    cloud.up(&compose("first", cloud.port(0)));
    let talk = || cloud.json_lines(&["logs", "talk"]);
    until("it talks", || talk().len() > 5);
    let following = Following::begin(folder.path(), &["logs", "-f", "--json", "talk"]);
    until("it is followed", || following.lines().len() > 5);

    // A release is replaced: its lines stay, before those of the next one.
    cloud.up(&compose("second", cloud.port(0)));
    until("both are told, in order", || {
        let lines = talk();
        let second = lines.iter().position(|l| text(l).starts_with("second"));
        replicas(&lines).len() == 2 && second.is_some_and(|at| lines[at]["release"] == 2)
    });
    is_whole(&talk());
    let times: Vec<u64> = talk()
        .iter()
        .map(|l| l["at_ms"].as_u64().expect("a time"))
        .collect();
    assert!(times.is_sorted(), "{times:?}");

    resume(&cloud, folder.path());
    agent_is_killed(&cloud, &talk, &following);
    searched(&cloud);
    used_and_asked(&cloud);
    host_falls_silent(&cloud, &talk);
    host_is_lost(&cloud, folder.path(), &talk);
    until("the reader has seen it all", || {
        replicas(&following.lines()).len() >= 3
    });
    is_whole(&following.lines());

    cloud.good(&["down", "diary"]);
    until("what is removed can be read", || {
        let lines = cloud.json_lines(&["logs", "diary/talk"]);
        replicas(&lines).len() >= 3
    });
}

/// Called again and again with a file, it shows each line once.
fn resume(cloud: &Cloud, folder: &Path) {
    let file = folder.join("cursor").display().to_string();
    let mut all = Vec::new();
    until("it was called often", || {
        let more = cloud.json_lines(&["logs", "--resume", &file, "talk"]);
        all.extend(more);
        all.iter().filter(|l| text(l).starts_with("second")).count() > 40
    });
    let mut by_replica: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in all {
        let id = line["allocation"].as_str().expect("an id").to_string();
        by_replica.entry(id).or_default().push(line);
    }
    by_replica.values().for_each(|lines| is_whole(lines));
}

fn agent_is_killed(cloud: &Cloud, talk: &dyn Fn() -> Vec<Value>, following: &Following) {
    until("the former release has ended", || {
        cloud.rows("talk").len() == 1
    });
    let row = cloud.rows("talk").into_iter().next().expect("a row");
    let host = row["host"]
        .as_str()
        .expect("a host")
        .replace("dev-", "host-");
    let before = talk().len();
    cloud.without(&host, || {
        // The container goes on talking to its shim.
        std::thread::sleep(std::time::Duration::from_millis(500));
    });
    until("it is read again", || {
        let (code, out, _) = cloud.run(&["logs", "--json", "talk"]);
        code == 0 && out.lines().count() > before + 20
    });
    is_whole(&talk());
    let now = talk().len();
    until("following went on", || following.lines().len() >= now);
    is_whole(&following.lines());
}

fn searched(cloud: &Cloud) {
    let all = cloud.json_lines(&["logs", "talk"]);
    let some = cloud.json_lines(&["logs", "--grep", "^first [0-9]*3$", "talk"]);
    let fits = |l: &&Value| text(l).starts_with("first") && text(l).ends_with('3');
    let expected: Vec<&Value> = all.iter().filter(fits).collect();
    assert_eq!(some.iter().collect::<Vec<_>>(), expected);

    let tail = cloud.json_lines(&["logs", "-n", "2", "--stream", "stderr", "talk"]);
    assert_eq!(tail.len(), 4, "two of each replica: {tail:?}");
    assert!(tail.iter().all(|l| l["stream"] == "stderr"));

    // From the second on in which the tenth was written, and before the one of the fiftieth.
    let second = |line: &Value| line["at_ms"].as_u64().expect("a time") / 1000;
    let (since, until) = (second(&all[10]), second(&all[50]));
    let part = cloud.json_lines(&[
        "logs",
        "--since",
        &since.to_string(),
        "--until",
        &until.to_string(),
        "talk",
    ]);
    let between = |l: &&Value| (since..until).contains(&second(l));
    assert_eq!(
        part.iter().collect::<Vec<_>>(),
        all.iter().filter(between).collect::<Vec<_>>()
    );

    let (code, _, error) = cloud.run(&["logs", "--grep", "(", "talk"]);
    assert!(code != 0 && error.contains("unclosed group"), "{error}");
}

fn used_and_asked(cloud: &Cloud) {
    let web = format!("127.0.0.1:{}", cloud.port(0));
    until("it answers", || get(&web, "x", "/").text() == "hi\n");
    let host = format!(
        "web.diary.localhost:{}",
        cloud.gateway().rsplit_once(':').expect("a port").1
    );
    for _ in 0..3 {
        get(&cloud.gateway(), &host, "/index.html?day=1");
    }
    until("requests are told", || {
        let args = ["logs", "--access", "--grep", "day=1", "web"];
        cloud.json_lines(&args).len() == 3
    });
    let token = cloud.json(&["stats", "--token", "diary"]);
    let path = token["url"]
        .as_str()
        .and_then(|u| u.split_once("/v1/"))
        .expect("a URL")
        .1;
    let scrape = |token: &str| {
        let head = format!(
            "GET /v1/{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n",
            cloud.gateway()
        );
        fixtures::exchange(&cloud.gateway(), head.as_bytes()).expect("answered")
    };
    let good = token["token"].as_str().expect("a token");
    until("a Prometheus reads figures of both services", || {
        let text = scrape(good).text();
        [
            "service=\"talk\"",
            "service=\"web\"",
            "runrig_replica_memory_bytes",
            "runrig_gateway_requests_total",
            "runrig_gateway_replica_requests_total",
        ]
        .iter()
        .all(|word| text.contains(word))
    });
    assert!(
        !scrape(&good.replace('1', "2"))
            .text()
            .contains("runrig_replica")
    );
    let key = token["key"].as_str().expect("a key");
    let listed = cloud.json(&["account", "keys", "ls"]);
    let label = listed["grants"][key]["label"].as_str();
    assert!(
        label.is_some_and(|l| l.starts_with("figures of d-")),
        "{listed}"
    );
    cloud.good(&["account", "keys", "revoke", key]);
    until("a token that was called back opens nothing", || {
        let text = scrape(good).text();
        text.contains("called back") && !text.contains("runrig_replica")
    });
    until("requests of the last seconds are told", || {
        get(&cloud.gateway(), &host, "/index.html?day=2");
        let rows = cloud.json_lines(&["stats", "--no-stream", "web"]);
        let rate = |row: &Value| row["requests"]["per_second"].as_f64();
        rows.iter().any(|row| rate(row) > Some(0.0))
    });
    assert!(
        cloud
            .good(&["stats", "--no-stream", "talk"])
            .contains("unknown")
    );
    until("use is told", || {
        let samples = cloud.json_lines(&["stats", "--since", "1h", "talk"]);
        let used = samples
            .iter()
            .filter(|s| s["memory_bytes"].as_u64() > Some(0));
        let of: std::collections::BTreeSet<String> =
            used.map(|s| s["allocation"].to_string()).collect();
        of.len() == 2
    });
    assert!(
        cloud
            .good(&["stats", "--since", "1h", "talk"])
            .contains("talk.1")
    );
}

fn host_falls_silent(cloud: &Cloud, talk: &dyn Fn() -> Vec<Value>) {
    let row = cloud.rows("talk").into_iter().next().expect("a row");
    let host = row["host"]
        .as_str()
        .expect("a host")
        .replace("dev-", "host-");
    let held = cloud.hold(&host);
    until("another one talks", || {
        cloud
            .rows("talk")
            .iter()
            .any(|r| r["allocation"] != row["allocation"] && r["state"] == "running")
    });
    drop(held);
    until("all is told", || replicas(&talk()).len() == 3);
    is_whole(&talk());
}

/// Parts of copies that hosts keep of `allocation`: the keeper's name, the file, and the number
/// behind its last line.
fn copies(cloud: &Cloud, allocation: &str) -> Vec<(String, PathBuf, u64)> {
    let mut found = Vec::new();
    for host in std::fs::read_dir(cloud.data()).expect("a folder") {
        let host = host.expect("a file").path();
        let name = host
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .to_string();
        let parts = std::fs::read_dir(host.join("copies").join(allocation));
        for part in parts.into_iter().flatten() {
            let part = part.expect("a file").path();
            let numbers = part
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .to_string();
            let next = numbers
                .split('-')
                .nth(1)
                .map(|n| u64::from_str_radix(n, 16));
            if let Some(Ok(next)) = next {
                found.push((name.clone(), part, next));
            }
        }
    }
    found
}

/// Killed, and what it kept of logs is gone with it.
fn host_is_lost(cloud: &Cloud, folder: &Path, talk: &dyn Fn() -> Vec<Value>) {
    let row = cloud.rows("talk").into_iter().next().expect("a row");
    let allocation = row["allocation"].as_str().expect("an id").to_string();
    let host = row["host"]
        .as_str()
        .expect("a host")
        .replace("dev-", "host-");
    let of_it = |lines: Vec<Value>| -> Vec<Value> {
        let ours = |l: &Value| l["allocation"] == allocation.as_str();
        lines.into_iter().filter(ours).collect()
    };
    until("it has said something", || of_it(talk()).len() > 20);
    let before = of_it(talk());
    until("a second host has that", || {
        let newest = copies(cloud, &allocation)
            .into_iter()
            .map(|(.., next)| next)
            .max();
        newest >= Some(before.len() as u64)
    });
    // Of a follower: where it was when the host was lost.
    let cursor = folder.join("lost").display().to_string();
    let seen = of_it(cloud.json_lines(&["logs", "--resume", &cursor, "talk"]));
    cloud.without(&host, || {
        std::fs::remove_dir_all(cloud.data().join(&host).join("logs")).expect("removed");
        until("another one talks", || {
            let rows = cloud.rows("talk");
            let mut others = rows.iter().filter(|r| r["allocation"] != row["allocation"]);
            others.any(|r| r["state"] == "running")
        });
        let (code, out, err) = cloud.run(&["logs", "--json", "talk"]);
        assert_eq!(code, 0, "{err}");
        let lines = out
            .lines()
            .map(|l| serde_json::from_str(l).expect("JSON"))
            .collect();
        let lines = of_it(lines);
        is_whole(&lines);
        assert_eq!(lines[..before.len()], before, "{err}");
        assert!(
            err.contains("from its copy on dev-") && err.contains("is missing until"),
            "{err}"
        );
        let some = of_it(cloud.json_lines(&["logs", "--grep", "odd 1$", "talk"]));
        assert!(
            some.iter().all(|l| text(l) == "odd 1") && some.len() == 1,
            "{some:?}"
        );
        let tail = of_it(cloud.json_lines(&["logs", "-n", "3", &allocation]));
        assert_eq!(tail[..], lines[lines.len() - 3..]);
        let more = of_it(cloud.json_lines(&["logs", "--resume", &cursor, "talk"]));
        is_whole(&[&seen[..], &more[..]].concat());
        nobody_else_reads(cloud, &allocation);
    });
    until("it is told when its host is back, too", || {
        of_it(talk()).len() >= before.len()
    });
    is_whole(&of_it(talk()));
}

/// A keeper has no words of it, and gives nothing to strangers.
fn nobody_else_reads(cloud: &Cloud, allocation: &str) {
    let hosts = cloud.json(&["host", "ls"]);
    for (keeper, file, _) in copies(cloud, allocation) {
        let bytes = std::fs::read(&file).expect("read");
        for word in ["second", "odd", "\u{28}\u{b5}\u{2f}\u{fd}"] {
            let word = word.as_bytes();
            assert!(
                !bytes.windows(word.len()).any(|w| w == word),
                "{}",
                file.display()
            );
        }
        let name = keeper.replace("host-", "dev-");
        let mut all = hosts.as_array().expect("a list").iter();
        let host = all.find(|h| h["name"] == name.as_str()).expect("a host");
        let path = format!(
            "/v1/hosts/{}/copies/{allocation}",
            host["host"].as_str().expect("an id")
        );
        for path in [path.clone(), format!("{path}/0")] {
            let ask = |header: &str| {
                let gateway = cloud.gateway();
                let head = format!(
                    "GET {path} HTTP/1.1\r\nhost: {gateway}\r\n{header}connection: close\r\n\r\n"
                );
                fixtures::exchange(&gateway, head.as_bytes())
                    .expect("answered")
                    .status
            };
            assert_eq!(ask(""), 401, "nobody");
            let stranger = types::SecretKey::from_seed([9; 32]);
            let signed = api::RequestAuth::sign(&stranger, "GET", &path, api::now_ms());
            let header = format!("{}: {signed}\r\n", api::RequestAuth::HEADER);
            assert_eq!(ask(&header), 404, "a stranger");
        }
    }
}
