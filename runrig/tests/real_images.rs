//! An app of four services on images of Debian packages: nginx, redis, python, busybox.
//!
//! What scripts rely on is checked key by key: names, types, units of each `--json`.

use fixtures::{Cloud, credits, decimal, free_ports, get, settled, until};
use serde_json::Value;

const APP: &str = r#"
import http.server, os, socket, sys

def redis(*words):
    with socket.create_connection((os.environ["STORE"], 6379), timeout=5) as s:
        s.sendall(b"*%d\r\n" % len(words))
        for word in words:
            s.sendall(b"$%d\r\n%s\r\n" % (len(word), word))
        return s.makefile("rb").readline().decode().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            text = redis(b"PING")
        elif self.path == "/count":
            text = redis(b"INCR", b"hits")
        else:
            text = os.environ["GREETING"]
        body = (text + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *args):
        # In one write: others print at the same time.
        sys.stdout.write("app: " + form % args + "\n")

http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"#;

fn site(web: u16, api: u16) -> String {
    format!(
        r#"
name: site
services:
  web:
    image: nginx
    ports: ["{web}:80"]
  store:
    image: redis
    command: ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no",
              "--appendonly", "yes", "--appendfsync", "always"]
    volumes: ["data:/data"]
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 1s
      retries: 30
  app:
    image: app
    ports: ["{api}:8000"]
    environment:
      GREETING: ${{GREETING:-hello}} from ${{WHO}}
      STORE: store
    depends_on:
      store:
        condition: service_healthy
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1:8000/health"]
      interval: 1s
      retries: 30
  worker:
    image: busybox
    command: ["sh", "-c", "while :; do wget -q -O - http://app:8000/count; sleep 1; done"]
    depends_on:
      app:
        condition: service_healthy
volumes:
  data: {{}}
"#
    )
}

/// Stays up and can be looked out of.
fn stranger() -> &'static str {
    r#"
name: stranger
services:
  spy:
    image: busybox
    command: ["sleep", "100000"]
    stop_signal: SIGKILL
  friend:
    image: busybox
    command: ["httpd", "-f", "-p", "6379", "-h", "/etc"]
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:6379/hostname"]
      interval: 1s
      retries: 30
"#
}

struct World {
    cloud: Cloud,
    web: String,
    api: String,
    before: i128,
    site: String,
}

impl World {
    fn redis(&self, words: &[&str]) -> String {
        let args = [&["exec", "store", "--", "redis-cli"], words].concat();
        self.cloud.good(&args).trim().to_string()
    }
}

#[test]
fn four_services_of_debian_packages() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    for image in [
        fixtures::busybox(),
        fixtures::nginx(),
        fixtures::redis(),
        fixtures::python("app", &[("main.py", APP)]),
    ] {
        cloud.load(&image);
    }
    cloud.file(".env", "WHO=compose\n");
    let (web, api) = (cloud.port(0), cloud.port(1));
    let world = World {
        web: format!("127.0.0.1:{web}"),
        api: format!("127.0.0.1:{api}"),
        before: credits(&cloud.json(&["wallet", "balance"])["balance"]),
        site: site(web, api),
        cloud,
    };
    deploys(&world);
    answers(&world);
    is_seen(&world);
    keeps_data(&world);
    keeps_apart(&world);
    ends_and_is_billed(&world);
}

fn deploys(world: &World) {
    let up = world.cloud.up(&world.site);
    assert!(
        up["deployment"]
            .as_str()
            .is_some_and(|d| d.starts_with("d-")),
        "{up}"
    );
    let endpoints = up["endpoints"].as_array().expect("endpoints");
    for (service, address) in [("web", &world.web), ("app", &world.api)] {
        let published = |e: &&Value| {
            e["service"] == service && e["url"].as_str() == Some(&format!("http://{address}"))
        };
        let found = endpoints.iter().find(published);
        let port = found
            .and_then(|e| e["port"].as_u64())
            .map(|p| p.to_string());
        assert_eq!(port.as_deref(), address.split(':').nth(1), "{up}");
    }
}

fn answers(world: &World) {
    let (cloud, gateway) = (&world.cloud, world.cloud.gateway());
    until("nginx at its port", || {
        get(&world.web, "x", "/").status == 200
    });
    assert_eq!(get(&world.web, "x", "/").text(), "a page from nginx\n");
    assert_eq!(get(&world.web, "x", "/none").status, 404);
    until("nginx by its name", || {
        get(&gateway, "web.site.localhost", "/").text() == "a page from nginx\n"
    });
    until("python at its port", || {
        get(&world.api, "x", "/").status == 200
    });
    assert_eq!(get(&world.api, "x", "/").text(), "hello from compose\n");
    until("python by its name", || {
        get(&gateway, "app.site.localhost", "/health").text() == "+PONG\n"
    });
    until("the worker counts in redis, through python", || {
        cloud.good(&["logs", "worker"]).contains(":3")
    });
}

fn is_seen(world: &World) {
    let cloud = &world.cloud;
    let ps = cloud.json(&["ps"]);
    let rows = ps.as_array().expect("an array");
    assert_eq!(rows.len(), 4, "{ps}");
    for row in rows {
        for key in ["service", "allocation", "host", "state"] {
            assert!(
                row[key].as_str().is_some_and(|t| !t.is_empty()),
                "{key}: {row}"
            );
        }
        assert_eq!(row["state"], "running", "{row}");
        let pid = row["pid"].as_u64().expect("a number");
        let ours = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
        assert!(ours.contains("runrig"), "{ours}");
    }

    // nginx writes its logs to /dev/stdout, as user www-data.
    until("nginx's access log", || {
        cloud.good(&["logs", "web"]).contains("GET /none")
    });
    let lines = cloud.json_lines(&["logs", "app", "-n", "5"]);
    assert!(!lines.is_empty() && lines.len() <= 5);
    for line in &lines {
        assert_eq!(line["service"], "app");
        assert!(
            line["at_ms"].as_u64() > Some(0) && line["stream"] == "stdout",
            "{line}"
        );
        assert!(
            line["text"]
                .as_str()
                .is_some_and(|t| t.starts_with("app: ")),
            "{line}"
        );
    }

    assert_eq!(
        cloud.good(&["exec", "app", "--", "python3", "-c", "print(6*7)"]),
        "42\n"
    );
    let (code, out, err) = cloud.run(&[
        "exec",
        "store",
        "--",
        "sh",
        "-c",
        "id -un; echo e >&2; exit 3",
    ]);
    assert_eq!((code, out.as_str(), err.as_str()), (3, "redis\n", "e\n"));
    let (code, _, err) = cloud.run(&["exec", "web", "--", "no-such-program"]);
    assert!(
        code != 0 && err.contains("no-such-program"),
        "{code}: {err}"
    );
    // A command joins its container entirely: users are those of the inside.
    let joined = "for n in cgroup ipc mnt net pid user uts; do \
        [ \"$(busybox readlink /proc/self/ns/$n)\" = \"$(busybox readlink /proc/1/ns/$n)\" ] \
        || echo $n; done; cat /proc/[0-9]*/status";
    let at_work = cloud.good(&["exec", "web", "--", "sh", "-c", joined]);
    assert!(at_work.starts_with("Name:"), "not joined: {at_work}");
    assert!(
        at_work.contains("Uid:\t33\t"),
        "nginx's worker is not www-data: {at_work}"
    );

    let stats = cloud.json_lines(&["stats", "--no-stream"]);
    assert_eq!(stats.len(), 4, "{stats:?}");
    for one in &stats {
        for key in [
            "memory_bytes",
            "memory_limit_bytes",
            "pids",
            "rx_bytes",
            "tx_bytes",
        ] {
            assert!(one[key].as_u64() > Some(0), "{key}: {one}");
        }
        assert!(
            one["cpu_millis"].is_u64() && one["disk_bytes"].is_u64(),
            "{one}"
        );
    }

    let status = cloud.json(&["chain", "status"]);
    assert!(status["height"].as_u64() > Some(0), "{status}");
    assert_eq!(status["validators"].as_array().map(Vec::len), Some(4));
}

/// Over a restart and over a release that changes nothing.
fn keeps_data(world: &World) {
    let cloud = &world.cloud;
    assert_eq!(world.redis(&["set", "kept", "over everything"]), "OK");
    let pid = || cloud.rows("store")[0]["pid"].as_u64();
    let first = pid();
    cloud.good(&["restart", "store"]);
    until("another redis", || {
        let row = &cloud.rows("store")[0];
        row["state"] == "running" && row["pid"].as_u64() != first && row["health"] == "healthy"
    });
    assert_eq!(world.redis(&["get", "kept"]), "over everything");

    let second = pid();
    let release = cloud.rows("store")[0]["release"].as_u64();
    let up = cloud.up(&world.site);
    assert!(up["release"].as_u64() >= release, "{up}");
    assert_eq!(
        pid(),
        second,
        "a release that changes nothing restarts nothing"
    );
    assert_eq!(world.redis(&["get", "kept"]), "over everything");
}

/// Another project reaches its own, and nothing of this one.
fn keeps_apart(world: &World) {
    let cloud = &world.cloud;
    cloud.up(stranger());
    let spy = |script: &str| cloud.run(&["exec", "spy", "--", "sh", "-c", script]).0;
    let own = cloud.rows("friend")[0]["addresses"]["default"].clone();
    let own = own.as_str().expect("an address");
    until("its own by name", || {
        spy("wget -q -O /dev/null http://friend:6379/hostname") == 0
    });
    assert_eq!(spy(&format!("nc -w 5 {own} 6379 </dev/null")), 0);
    let store = cloud.rows("store")[0]["addresses"]["default"].clone();
    let store = store.as_str().expect("an address");
    assert_ne!(spy(&format!("nc -w 2 {store} 6379 </dev/null")), 0);
    assert_ne!(
        spy("nc -w 2 store 6379 </dev/null"),
        0,
        "another project's name"
    );
    assert_ne!(spy("wget -q -O - http://app:8000/"), 0);
    // Its name server is the machine, which shows it nothing else.
    let gateway = world.cloud.gateway();
    let port = gateway.split(':').nth(1).expect("a port");
    let machine = "$(busybox sed -n 's/nameserver //p' /etc/resolv.conf)";
    assert_eq!(spy(&format!("nc -w 5 {machine} 53 </dev/null")), 0);
    assert_ne!(spy(&format!("nc -w 2 {machine} {port} </dev/null")), 0);
}

fn ends_and_is_billed(world: &World) {
    let cloud = &world.cloud;
    cloud.good(&["down", "site", "--volumes"]);
    cloud.good(&["down", "stranger"]);
    assert_eq!(cloud.json(&["ps"]), serde_json::json!([]));
    let bill = settled(cloud);
    let lines = bill["lines"].as_array().expect("lines");
    for service in ["web", "store", "app", "worker", "spy", "friend"] {
        for (resource, unit) in [
            ("cpu", "core_s"),
            ("memory", "gib_s"),
            ("storage", "gib_s"),
            ("bandwidth", "mbit_s"),
            ("transfer", "bytes"),
        ] {
            let line = lines
                .iter()
                .find(|l| l["service"] == service && l["resource"] == resource)
                .unwrap_or_else(|| panic!("{service} has no line for {resource}: {bill}"));
            assert_eq!(line["unit"], unit);
            assert!(
                line["allocation"]
                    .as_str()
                    .is_some_and(|a| a.starts_with("a-")),
                "{line}"
            );
            assert!(decimal(&line["usage"]) > 0.0, "{line}");
            assert!(decimal(&line["rate"]) > 0.0, "{line}");
            let owed = decimal(&line["usage"]) * credits(&line["rate"]) as f64;
            let amount = credits(&line["amount"]) as f64;
            assert!((owed - 1.0..=owed + 1e-3).contains(&amount), "{line}");
        }
    }
    let after = credits(&cloud.json(&["wallet", "balance"])["balance"]);
    assert_eq!(world.before - after, credits(&bill["total"]));
    // Nothing answers any more.
    until("the ports are closed", || {
        get(&world.web, "x", "/").status == 0
    });
}
