//! What strangers send: transactions, host reports, compose files, images, requests for what
//! is another's, bytes without sense. Each is told what, why and what next, changes nothing,
//! and no process minds.

mod callers;
mod files;
mod garbage;
mod images;
mod reports;
mod transactions;

use std::collections::BTreeMap;
use std::path::Path;

use fixtures::{Answer, Cloud, free_ports, get, request, until};
use serde_json::Value;
use types::{AccountId, Digest, SecretKey};

struct World {
    cloud: Cloud,
    network: Digest,
    /// The account that owns what runs.
    owner: SecretKey,
    stranger: SecretKey,
    /// Its replica, the host that runs it by number, and another host.
    allocation: String,
    host: usize,
    other_host: usize,
}

/// What no bad input may change.
#[derive(Debug, PartialEq)]
struct Standing {
    roles: BTreeMap<String, u32>,
    running: Vec<(Value, Value)>,
    deployments: Value,
    supply: Value,
    stranger: Value,
}

fn key(path: &Path) -> SecretKey {
    let text = std::fs::read_to_string(path).expect("a key file");
    SecretKey::from_hex(text.trim()).expect("a key")
}

impl World {
    fn new(folder: &Path) -> Self {
        let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder, free_ports());
        cloud.load(&fixtures::busybox());
        let port = cloud.port(0);
        let compose = format!(
            "name: mine\nservices:\n  web:\n    image: busybox\n    \
             command: [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/etc\"]\n    \
             ports: [\"{port}:8080\"]\n"
        );
        cloud.up(&compose);
        let row = cloud.rows("web").remove(0);
        let name = row["host"].as_str().expect("a host");
        let host: usize = name.trim_start_matches("dev-").parse().expect("a number");
        let status = get(&cloud.gateway(), "x", "/v1/status").json();
        Self {
            network: serde_json::from_value(status["network"].clone()).expect("a digest"),
            owner: key(&cloud.data().join("keys/dev")),
            stranger: SecretKey::from_seed([7; 32]),
            allocation: row["allocation"].as_str().expect("a name").into(),
            host,
            other_host: host % 3 + 1,
            cloud,
        }
    }

    fn host_key(&self, number: usize) -> SecretKey {
        key(&self.cloud.data().join(format!("host-{number}/host.key")))
    }

    fn view(&self, path: &str) -> Value {
        let answer = get(&self.cloud.gateway(), "x", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    fn account(&self, key: &SecretKey) -> Value {
        self.view(&format!("/v1/accounts/{}", AccountId::of(&key.public())))
    }

    fn standing(&self) -> Standing {
        let row = |r: &Value| (r["allocation"].clone(), r["pid"].clone());
        let deployments = self.view("/v1/deployments");
        let deployments = deployments.as_array().expect("a list").iter();
        let supply = self.view("/v1/supply");
        Standing {
            roles: self.cloud.roles(),
            running: self.cloud.rows("web").iter().map(row).collect(),
            deployments: deployments
                .map(|d| serde_json::json!([d["project"], d["release"], d["removed"]]))
                .collect(),
            supply: serde_json::json!([supply["expected"], supply["sum"]]),
            stranger: self.account(&self.stranger)["balance"].clone(),
        }
    }

    /// Blocks are made and requests answered.
    fn lives(&self) {
        let height = || {
            self.view("/v1/status")["height"]
                .as_u64()
                .expect("a height")
        };
        let from = height();
        until("blocks go on", || height() > from);
        let web = format!("127.0.0.1:{}", self.cloud.port(0));
        until("the app answers", || {
            get(&web, "x", "/hostname").status == 200
        });
        assert_eq!(self.cloud.run(&["exec", "web", "--", "id"]).0, 0);
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        request(&self.cloud.gateway(), "POST", "x", path, body).expect("an answer")
    }
}

/// A problem as the API tells it: what, why and next are said; its kind.
fn told(problem: &Value) -> String {
    for part in ["what", "why", "next"] {
        let said = problem[part].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "nothing is said of {part}: {problem}");
    }
    problem["kind"].as_str().unwrap_or_default().to_string()
}

/// A command that failed: with `code`, and every one of `words` among what it said.
fn failed(done: (i32, String, String), code: i32, words: &[&str]) {
    let (is, out, err) = done;
    assert_eq!(is, code, "{out}{err}");
    for word in words {
        assert!(err.contains(word), "\"{word}\" is not said: {err}");
    }
}

#[test]
fn bad_input_is_told_why_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(folder.path());
    world.lives();
    let before = world.standing();
    for (name, send) in [
        ("images", images::send as fn(&World)),
        ("callers", callers::send),
        ("garbage", garbage::send),
        ("files", files::send),
        ("reports", reports::send),
        ("transactions", transactions::send),
    ] {
        eprintln!("== {name}");
        send(&world);
        world.lives();
        assert_eq!(world.standing(), before, "after {name}");
    }
}
