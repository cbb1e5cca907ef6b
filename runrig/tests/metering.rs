//! Each of the five metered resources against what the workload itself knows of its load.
//!
//! Workloads count their own processor time, memory, files and life, and print it; the bill
//! must say the same within 5 %. Nothing here depends on how fast the machine is.

use fixtures::{Cloud, free_ports, get, request, settled, until, usage};
use serde_json::Value;

const TOLERANCE: f64 = 0.05;
const GIB: f64 = (1u64 << 30) as f64;
const MIB: usize = 1 << 20;

/// `main.py MODE`: works, prints what it knows as one line of JSON, ends.
const LOADS: &str = r#"
import http.server, json, os, sys, threading, time

def age():
    """Seconds since this process was made."""
    ticks = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")

def tell(**known):
    print(json.dumps(dict(known, alive_s=age())), flush=True)

def burn():
    while time.process_time() < 6:
        sum(range(10000))
    tell(cpu_s=time.process_time())

def half():
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() < began + 10:
        sum(range(1000))
    tell(cpu_s=time.process_time(), window_s=time.monotonic() - began,
         window_cpu_s=time.process_time() - used)

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024

def memory():
    held, sums = [], 0
    last = time.monotonic()
    level = anonymous()
    def look():
        nonlocal last, level, sums
        now, seen = time.monotonic(), anonymous()
        # What is filled counts half for as long as that takes.
        sums += (level + seen) / 2 * (now - last)
        last, level = now, seen
    for step in range(2):
        held.append(bytearray(os.urandom(4096) * (40 << 8)))
        for _ in range(160):
            look()
            time.sleep(0.1)
    look()
    tell(byte_s=sums)

def disk():
    sums = 0
    spans = []
    for path, mib in (("/data/one", 96), ("/two", 32)):
        began = time.monotonic()
        with open(path, "wb") as f:
            for _ in range(mib):
                f.write(os.urandom(1 << 20))
            f.flush()
            os.fsync(f.fileno())
        # What is written counts half for as long as that takes.
        spans.append((path, mib << 20, (began + time.monotonic()) / 2))
    time.sleep(32)
    for path, size, began in spans:
        os.remove(path)
        sums += size * (time.monotonic() - began)
    tell(byte_s=sums)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        n = int(self.path[1:]) << 20
        self.send_response(200)
        self.send_header("Content-Length", str(n))
        self.end_headers()
        for _ in range(n >> 16):
            self.wfile.write(b"x" * 65536)

    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.send_response(204)
        self.end_headers()

def serve():
    http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()

globals()[sys.argv[1]]()
"#;

fn compose(port: u16) -> String {
    let mut text = String::from("name: loads\nvolumes: { data: {} }\nservices:\n");
    for (service, more) in [
        ("burn", "cpus: 1"),
        ("half", "cpus: 0.5"),
        (
            "memory",
            "mem_limit: 512m\n    x-runrig: { bandwidth: 3mbit }",
        ),
        (
            "disk",
            "volumes: [\"data:/data\"]\n    x-runrig: { bandwidth: 40mbit, disk: 2GiB }",
        ),
        (
            "serve",
            &format!("ports: [\"{port}:8000\"]\n    x-runrig: {{ bandwidth: 200mbit }}"),
        ),
    ] {
        text.push_str(&format!(
            "  {service}:\n    image: load\n    command: [\"python3\", \"main.py\", \"{service}\"]\n    {more}\n"
        ));
    }
    text
}

/// What `service` printed of its load, once it has.
fn known(cloud: &Cloud, service: &str) -> Value {
    let mut known = Value::Null;
    until(&format!("{service} is done"), || {
        let logs = cloud.good(&["logs", "--no-prefix", service]);
        let line = logs.lines().find(|l| l.starts_with('{'));
        known = line
            .and_then(|l| serde_json::from_str(l).ok())
            .unwrap_or_default();
        !known.is_null()
    });
    until(&format!("{service} has ended"), || {
        let ps = cloud.json(&["ps", "-a"]);
        let mut rows = ps.as_array().expect("an array").iter();
        rows.any(|r| r["service"] == service && r["state"] == "exited" && r["exit_code"] == 0)
    });
    known
}

#[test]
fn five_resources_within_five_percent() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::python("load", &[("main.py", LOADS)]));
    let port = cloud.port(0);
    let file = cloud.file("compose.yaml", &compose(port));
    cloud.good(&["up", "-f", &file, "--yes"]);

    // In through the published port, out through the gateway by name.
    let published = format!("127.0.0.1:{port}");
    let name = "serve.loads.localhost";
    until("it serves", || {
        get(&cloud.gateway(), name, "/0").status == 200
    });
    let down = get(&cloud.gateway(), name, "/24");
    assert_eq!(down.body.len(), 24 * MIB);
    let body = vec![b'y'; 16 * MIB];
    let up = request(&published, "PUT", "x", "/", &body).expect("an answer");
    assert_eq!(up.status, 204, "{}", up.head);

    let told: Vec<(&str, Value)> = ["burn", "half", "memory", "disk"]
        .map(|service| (service, known(&cloud, service)))
        .into();
    cloud.good(&["down", "loads", "--volumes"]);
    let bill = settled(&cloud);

    let mut rows = vec![("serve", "transfer", (down.body.len() + body.len()) as f64)];
    for (service, known) in &told {
        let number = |key: &str| known[key].as_f64().unwrap_or_default();
        match *service {
            "burn" => rows.push(("burn", "cpu", number("cpu_s"))),
            "half" => {
                rows.push(("half", "cpu", number("cpu_s")));
                let most = 0.5 * number("window_s") * (1.0 + TOLERANCE);
                assert!(
                    number("window_cpu_s") <= most,
                    "the limit does not hold: {known}"
                );
            }
            "memory" => {
                rows.push(("memory", "memory", number("byte_s") / GIB));
                rows.push(("memory", "bandwidth", 3.0 * number("alive_s")));
            }
            _ => {
                rows.push(("disk", "storage", number("byte_s") / GIB));
                rows.push(("disk", "bandwidth", 40.0 * number("alive_s")));
            }
        }
    }
    let mut wrong = Vec::new();
    for (service, resource, known) in rows {
        let billed = usage(&bill, service, resource);
        let off = billed / known - 1.0;
        let line = format!(
            "{service} {resource}: billed {billed:.3}, known {known:.3}, {:+.2} %",
            off * 100.0
        );
        println!("{line}");
        if off.abs() > TOLERANCE {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
