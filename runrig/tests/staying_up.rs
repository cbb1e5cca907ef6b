//! `kill -9` of the host agent, of a validator, of everything; a power failure; a torn write:
//! containers go on or come back, the ledger goes on, nobody pays twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fixtures::{Cloud, credits, decimal, free_ports, get, settled, until};
use serde_json::Value;

fn compose(port: u16) -> String {
    format!(
        r#"
name: lasting
volumes: {{ data: {{}} }}
services:
  web:
    image: busybox
    command: ["sh", "-c", "echo start >> /data/starts; exec httpd -f -p 8080 -h /data"]
    ports: ["{port}:8080"]
    volumes: ["data:/data"]
    restart: always
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/starts"]
      interval: 1s
      retries: 20
"#
    )
}

/// Sent away to see that blocks go on.
const GIFT: &str = "0.5";

struct World {
    cloud: Cloud,
    web: String,
}

impl World {
    fn starts(&self) -> usize {
        get(&self.web, "x", "/starts").text().lines().count()
    }

    fn row(&self) -> Value {
        self.cloud
            .rows("web")
            .into_iter()
            .next()
            .unwrap_or_default()
    }

    fn until_well(&self) {
        until("it is healthy and answers", || {
            let row = self.row();
            row["state"] == "running" && row["health"] == "healthy" && self.starts() > 0
        });
    }

    /// Everything that was ever charged makes the balance's change.
    fn money_is_right(&self, before: i128) {
        let bill = self.cloud.json(&["bill"]);
        let lines = bill["lines"].as_array().expect("lines");
        let sum: i128 = lines.iter().map(|l| credits(&l["amount"])).sum();
        assert_eq!(sum, credits(&bill["total"]));
        let supply = self.cloud.json(&["chain", "supply"]);
        assert_eq!(supply["expected"], supply["sum"]);
        // Reserved for so long: charged twice, it would be more than the time that passed.
        let placed = self.row()["placed_ms"].as_u64().expect("a time");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let lived = now.expect("after 1970").as_millis() as u64 - placed;
        let line = lines
            .iter()
            .find(|l| l["resource"] == "bandwidth")
            .expect("a line");
        assert!(
            decimal(&line["usage"]) <= 10.0 * lived as f64 / 1e3,
            "{lived}: {line}"
        );
        let balance = credits(&self.cloud.json(&["wallet", "balance"])["balance"]);
        assert!(before - balance >= sum, "{before} {balance} {sum}");
    }
}

#[test]
fn whatever_is_killed_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::busybox());
    let before = credits(&cloud.json(&["wallet", "balance"])["balance"]);
    cloud.up(&compose(cloud.port(0)));
    let web = format!("127.0.0.1:{}", cloud.port(0));
    let mut world = World { cloud, web };
    world.until_well();
    assert_eq!(world.starts(), 1);

    agent(&world);
    validator(&world);
    everything(&mut world);
    world.money_is_right(before);
    power(&mut world);
    world.money_is_right(before);
    torn(&mut world);
    world.money_is_right(before);

    world.cloud.good(&["down", "lasting", "--volumes"]);
    let bill = settled(&world.cloud);
    let after = credits(&world.cloud.json(&["wallet", "balance"])["balance"]);
    let gift = credits(&Value::from(GIFT));
    assert_eq!(before - after, credits(&bill["total"]) + gift);
}

/// Its containers go on and are found again by the next one.
fn agent(world: &World) {
    let row = world.row();
    let host = row["host"]
        .as_str()
        .expect("a host")
        .replace("dev-", "host-");
    let pid = row["pid"].as_u64().expect("a number");
    world.cloud.without(&host, || {
        assert!(
            Path::new(&format!("/proc/{pid}")).exists(),
            "the container goes on"
        );
        assert_eq!(world.starts(), 1, "it answers meanwhile");
    });
    until("the next agent knows its containers", || {
        world.cloud.run(&["exec", "web", "--", "id"]).0 == 0
    });
    let now = world.row();
    assert_eq!(
        (&now["pid"], &now["restarts"]),
        (&row["pid"], &row["restarts"]),
        "{now}"
    );
    assert_eq!(world.starts(), 1);
}

/// `height` and state root of what a validator calls its latest block.
fn head(url: &str) -> Option<(u64, String)> {
    let address = url.strip_prefix("http://")?;
    let status = get(address, address, "/v1/status").json();
    Some((
        status["height"].as_u64()?,
        status["state_root"].as_str()?.to_string(),
    ))
}

fn state_root(url: &str, height: u64) -> Option<String> {
    let address = url.strip_prefix("http://")?;
    let block = get(address, address, &format!("/v1/blocks/{height}")).json();
    Some(block["state_root"].as_str()?.to_string())
}

fn height(world: &World) -> u64 {
    world.cloud.json(&["chain", "status"])["height"]
        .as_u64()
        .expect("a height")
}

/// Blocks go on without it; it catches up to the same state.
fn validator(world: &World) {
    let grown = world.cloud.without("validator-2", || {
        let from = height(world);
        let stranger = "00".repeat(20);
        let args = ["wallet", "send", &stranger, GIFT, "--yes"];
        assert!(world.cloud.good(&args).contains("credits"));
        until("blocks go on", || height(world) > from + 3);
        height(world)
    });
    caught_up(world, 2, &[1, 3, 4], grown);
}

/// Validator `late` (from 1) is at `at_least` or later, in the same state as those of `like`.
fn caught_up(world: &World, late: usize, like: &[usize], at_least: u64) {
    let urls = world.cloud.validators();
    let url = |validator: usize| urls[validator - 1].as_str();
    until("the one that was away has caught up", || {
        head(url(late)).is_some_and(|(height, _)| height >= at_least)
    });
    let (height, root) = head(url(late)).expect("it answers");
    for other in like {
        until("another has come so far", || {
            head(url(*other)).is_some_and(|(h, _)| h >= height)
        });
        let same = state_root(url(*other), height);
        assert_eq!(same.as_ref(), Some(&root), "validator-{other}");
    }
}

/// Every process but shims and containers.
fn everything(world: &mut World) {
    let (row, from) = (world.row(), height(world));
    world.cloud.kill();
    let pid = row["pid"].as_u64().expect("a number");
    assert!(
        Path::new(&format!("/proc/{pid}")).exists(),
        "the container goes on"
    );
    world.cloud.resume();
    assert!(height(world) >= from, "the ledger is where it was");
    world.until_well();
    let now = world.row();
    assert_eq!(
        (&now["allocation"], &now["pid"]),
        (&row["allocation"], &row["pid"])
    );
    assert_eq!(world.starts(), 1);
}

/// Shims and containers too.
fn power(world: &mut World) {
    let (row, from) = (world.row(), height(world));
    world.cloud.lose_power();
    world.cloud.resume();
    assert!(height(world) >= from, "the ledger is where it was");
    until("another container", || {
        let now = world.row();
        now["state"] == "running" && now["pid"] != row["pid"]
    });
    world.until_well();
    assert_eq!(world.row()["allocation"], row["allocation"]);
    assert_eq!(world.starts(), 2, "its volume is what it was");
}

/// The newest file under `folder` that can lose its last bytes.
fn newest(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_path_buf()];
    let mut found: Option<(SystemTime, PathBuf)> = None;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let meta = entry.metadata().expect("metadata");
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.len() > 3 {
                let changed = meta.modified().expect("a time");
                if found.as_ref().is_none_or(|(at, _)| changed > *at) {
                    found = Some((changed, entry.path()));
                }
            }
        }
    }
    found.expect("a validator keeps files").1
}

fn tear(file: &Path) {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(file)
        .expect("opens");
    let length = file.metadata().expect("metadata").len();
    file.set_len(length - 3).expect("shorter");
}

/// What a torn write damaged is made anew, or is refused with what to do; and that helps.
fn torn(world: &mut World) {
    let network = world.cloud.data().join("network");
    let folder = |n: usize| network.join(format!("validator-{n}"));

    // The index is made again from the blocks; without its blocks a validator cannot go on.
    let from = height(world);
    world.cloud.kill();
    tear(&folder(4).join("index.redb"));
    tear(&folder(3).join("blocks.redb"));
    world.cloud.resume();
    caught_up(world, 4, &[1, 2], from);
    until("validator-3 says what to do", || told(world, 3));
    mend(world, 3, &folder(3));

    // Whatever was written last.
    let from = height(world);
    world.cloud.kill();
    tear(&newest(&folder(1)));
    world.cloud.resume();
    let goes_on = || head(&world.cloud.validators()[0]).is_some_and(|(h, _)| h >= from);
    until("validator-1 goes on, or says what to do", || {
        goes_on() || told(world, 1)
    });
    if told(world, 1) {
        mend(world, 1, &folder(1));
    }
    caught_up(world, 1, &[2, 3, 4], from);
}

fn told(world: &World, validator: usize) -> bool {
    let log = world
        .cloud
        .data()
        .join(format!("logs/validator-{validator}.log"));
    let log = fs::read_to_string(log).unwrap_or_default();
    log.contains("move everything there but `seat` and `vault` away")
}

/// As the message says.
fn mend(world: &mut World, validator: usize, folder: &Path) {
    let from = height(world);
    world.cloud.end();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match entry.file_name().to_str() {
            Some("seat" | "vault") => {}
            _ if path.is_dir() => fs::remove_dir_all(path).expect("removed"),
            _ => fs::remove_file(path).expect("removed"),
        }
    }
    world.cloud.resume();
    let others: Vec<usize> = (1..=4).filter(|n| *n != validator).collect();
    caught_up(world, validator, &others, from);
}
