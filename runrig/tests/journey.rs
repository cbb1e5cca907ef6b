//! The whole cloud as its user meets it: found, deploy, look, pay, verify, remove. Runs as
//! root; needs /bin/busybox (busybox-static) and nft.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// `runrig dev` over a folder, ended in order when dropped.
struct Cloud<'a> {
    dev: Child,
    folder: &'a Path,
}

/// A port with free ones after it: `dev` takes neighbours.
fn free_ports() -> u16 {
    (20_000..60_000)
        .step_by(50)
        .find(|base| (0..45).all(|n| TcpListener::bind(("127.0.0.1", base + n)).is_ok()))
        .expect("free ports")
}

impl<'a> Cloud<'a> {
    fn start(folder: &'a Path, gateway: &str) -> Self {
        let mut dev = Command::new(env!("CARGO_BIN_EXE_runrig"))
            .args([
                "dev", "--json", "--hosts", "3", "--listen", gateway, "--data",
            ])
            .arg(folder.join("data"))
            .env("XDG_CONFIG_HOME", folder.join("config"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(dev.stdout.take().expect("piped")).lines();
        let ready = lines.next().and_then(Result::ok).unwrap_or_default();
        let ready: Value =
            serde_json::from_str(&ready).unwrap_or_else(|_| panic!("not ready: {ready}"));
        assert_eq!(ready["ready"], true, "{ready}");
        assert_eq!(ready["hosts"].as_array().map(Vec::len), Some(3), "{ready}");
        std::thread::spawn(move || lines.for_each(drop));
        Self { dev, folder }
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_runrig"))
            .args(args)
            .current_dir(self.folder)
            .env("XDG_CONFIG_HOME", self.folder.join("config"))
            .stdin(Stdio::null())
            .output()
            .expect("run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        (code, text(&output.stdout), text(&output.stderr))
    }

    fn good(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!(code, 0, "runrig {}: {out}{err}", args.join(" "));
        out
    }

    fn json(&self, args: &[&str]) -> Value {
        let out = self.good(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{}: {e}: {out}", args.join(" ")))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Cloud<'_> {
    fn drop(&mut self) {
        // SAFETY: signals a child of ours; its own children end with it.
        unsafe { libc::kill(self.dev.id() as i32, libc::SIGTERM) };
        let _ = self.dev.wait();
    }
}

fn until(what: &str, good: impl Fn() -> bool) {
    let started = Instant::now();
    while !good() {
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "{what}: not in time"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Status of an answer over HTTP; 0 without one.
fn get(address: &str, host: &str, path: &str) -> u16 {
    let answered = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    answered()
        .ok()
        .and_then(|a| a.split(' ').nth(1)?.parse().ok())
        .unwrap_or(0)
}

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
    image: bb
    command: ["httpd", "-f", "-p", "8080", "-h", "/etc"]
    ports: ["{port}:8080"]
    healthcheck:
      test: ["CMD", "/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/hostname"]
      interval: 1s
      timeout: 2s
      retries: 20
    deploy:
      replicas: 2
  client:
    image: bb
    restart: always
    command: ["sh", "-c", "while :; do busybox wget -q -O - http://web:8080/hostname; busybox sleep 0.5; done"]
    depends_on:
      web:
        condition: service_healthy
"#
    )
}

/// An OCI layout of this machine's busybox.
fn layout(folder: &Path) -> PathBuf {
    let busybox = Path::new("/bin/busybox");
    assert!(
        busybox.exists(),
        "/bin/busybox is missing: apt-get install busybox-static"
    );
    let layout = folder.join("layout");
    let image = images::demo_image(busybox, &[], &layout).expect("made");
    let size = std::fs::metadata(image.blob(&image.manifest))
        .expect("there")
        .len();
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image.manifest, "size": size,
        "annotations": { "org.opencontainers.image.ref.name": "bb:latest" } }] });
    std::fs::write(layout.join("index.json"), index.to_string()).expect("written");
    std::fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("written");
    layout
}

#[test]
fn from_nothing_to_a_verified_receipt() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = free_ports();
    let gateway = format!("127.0.0.1:{base}");
    let published = format!("127.0.0.1:{}", base + 40);
    let cloud = Cloud::start(folder.path(), &gateway);
    let layout = layout(folder.path());
    cloud.good(&["image", "load", layout.to_str().expect("text")]);

    // A wrong file changes nothing and names its line.
    let wrong = "name: wrong\nservices:\n  a:\n    image: bb\n    privilegd: true\n";
    let wrong = cloud.file("wrong.yaml", wrong);
    let (code, _, err) = cloud.run(&["up", "-f", wrong.to_str().expect("text"), "--yes"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("privilegd") && err.contains('5'), "{err}");

    let before = units(&cloud.json(&["wallet", "balance"])["balance"]);
    let file = cloud.file("compose.yaml", &compose(base + 40));
    let up = cloud.json(&["up", "-f", file.to_str().expect("text"), "--yes", "--wait"]);
    let endpoints = up["endpoints"].as_array();
    assert!(endpoints.is_some_and(|e| !e.is_empty()), "{up}");

    // What runs: two webs on different hosts.
    let ps = cloud.json(&["ps"]);
    let rows = ps.as_array().expect("a list");
    assert_eq!(rows.len(), 3, "{ps}");
    let runs = |r: &Value| r["state"] == "running" && r["pid"].as_u64() > Some(0);
    assert!(rows.iter().all(runs), "{ps}");
    let web: Vec<&Value> = rows.iter().filter(|r| r["service"] == "web").collect();
    assert_ne!(web[0]["host"], web[1]["host"]);

    // Reached by published port and by name; services reach each other.
    until("the published port", || {
        get(&published, "x", "/hostname") == 200
    });
    until("the name", || {
        get(&gateway, "web.shop.localhost", "/hostname") == 200
    });
    until("a service's name", || {
        cloud.good(&["logs", "client", "-n", "50"]).contains("a-")
    });
    let script = "echo in; exit 7";
    let (code, out, _) = cloud.run(&["exec", "client", "--", "/bin/busybox", "sh", "-c", script]);
    assert_eq!((code, out.trim()), (7, "in"));

    // A death for lack of memory is shown as what it is.
    let hungry = "name: hungry\nservices:\n  eater:\n    image: bb\n    command: [\"tail\", \"/dev/zero\"]\n    mem_limit: 32m\n";
    let hungry = cloud.file("hungry.yaml", hungry);
    // It may die before `up` returns, which then says so.
    let (code, _, err) = cloud.run(&["up", "-f", hungry.to_str().expect("text"), "--yes"]);
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
    drop(cloud);
    let cloud = Cloud::start(folder.path(), &gateway);
    until("the services after a restart", || {
        get(&published, "x", "/hostname") == 200
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
    drop(cloud);
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read");
    assert!(
        !mounts.contains(&folder.path().display().to_string()),
        "{mounts}"
    );
}
