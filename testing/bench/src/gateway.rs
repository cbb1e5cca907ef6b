//! The gateway beside HAProxy and nginx: the same backend, the same load, in turn, in one run.
//!
//! All of it runs in a network namespace of its own, which ends with the run: no port of this
//! machine is used. The load is `wrk`, the backend an nginx that serves two files. CPU is what
//! the kernel charged the proxy's processes between the first request and the last.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use types::{AccountId, AllocationId, DeploymentId, Digest};

use crate::figure::{Bound, Figure, Found};
use crate::process::{Cost, Process, family, find};

/// Program, and the Debian package that has it.
const NEEDED: [(&str, &str); 4] = [
    ("haproxy", "haproxy"),
    ("nginx", "nginx"),
    ("wrk", "wrk"),
    ("ip", "iproute2"),
];
/// Containers' addresses are the only ones that a gateway sends requests to.
const BACKEND: &str = "10.64.0.2:8080";
const VALIDATOR: &str = "127.0.0.1:8090";
const HOST: &str = "web.bench.localhost";
/// Read of an answer that the measurement itself looks at.
const ANSWER_MAX: u64 = 64 * 1024;
const START_TIME: Duration = Duration::from_secs(20);
/// Of load, for each proxy, size and round; and before it, to warm up.
const SECONDS: u64 = 5;
const WARM_SECONDS: u64 = 1;
const CONNECTIONS: u32 = 64;
const SIZES: [(&str, usize); 2] = [("1 KiB", 1 << 10), ("1 MiB", 1 << 20)];
const PROXIES: [&str; 3] = ["runrig", "HAProxy", "nginx"];

/// What one proxy did in one round.
#[derive(Clone, Debug)]
struct Round {
    proxy: &'static str,
    size: usize,
    requests_per_s: f64,
    /// User and system time of all of the proxy's processes.
    cpu_us: f64,
    failed: u64,
}

/// Requests a second and CPU a request of `program gateway run`, HAProxy and nginx.
///
/// Errors: a network namespace cannot be made (root may), or a proxy does not start.
pub(crate) async fn gateway(program: &Path, rounds: usize) -> Result<Found> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    let mut left_out = Vec::new();
    if !missing.is_empty() {
        left_out.push(format!("gateway: apt-get install {}", missing.join(" ")));
    }
    if !nix::unistd::geteuid().is_root() {
        left_out.push("gateway: it needs root; run it with sudo".into());
    }
    if !left_out.is_empty() {
        return Ok(Found {
            figures: Vec::new(),
            left_out,
        });
    }
    let program = program.to_path_buf();
    // The namespace is the thread's own, and that of all that it starts.
    let measured = tokio::task::spawn_blocking(move || {
        std::thread::spawn(move || in_namespace(&program, rounds)).join()
    });
    let measured = measured.await?;
    let rounds = measured.map_err(|_| anyhow!("the measuring thread failed"))??;
    Ok(Found {
        figures: figures(&rounds),
        left_out,
    })
}

fn in_namespace(program: &Path, rounds: usize) -> Result<Vec<Round>> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    run(Command::new("ip").args(["address", "add", "10.64.0.2/32", "dev", "lo"]))?;
    let folder = tempfile::tempdir().context("make a folder")?;
    // nginx' workers read the files as another user.
    run(Command::new("chmod").arg("755").arg(folder.path()))?;
    for (_, size) in SIZES {
        std::fs::write(folder.path().join(size.to_string()), vec![b'x'; size])?;
    }
    let routes = Arc::new(OnceLock::new());
    let listener = TcpListener::bind(VALIDATOR).context("listen")?;
    let told = routes.clone();
    std::thread::spawn(move || tell(&listener, &told));

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let place = Place {
        folder: folder.path().into(),
        cores,
    };
    let backend = place.nginx("backend", 8080, &place.backend_config())?;
    backend.await_answer(SIZES[0].1)?;
    let mut all = Vec::new();
    for _ in 0..rounds.max(1) {
        for name in PROXIES {
            let proxy = match name {
                "runrig" => place.runrig(program, &routes)?,
                "HAProxy" => place.haproxy()?,
                _ => place.nginx(name, 8082, &place.nginx_config())?,
            };
            for (_, size) in SIZES {
                proxy.await_answer(size)?;
                load(&proxy, size, WARM_SECONDS)?;
                all.push(load(&proxy, size, SECONDS)?);
            }
        }
    }
    Ok(all)
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let of = |proxy: &str, size: usize, value: fn(&Round) -> f64| -> Vec<f64> {
        rounds
            .iter()
            .filter(|r| (r.proxy, r.size) == (proxy, size))
            .map(value)
            .collect()
    };
    let mut figures = Vec::new();
    for (text, size) in SIZES {
        for peer in &PROXIES[1..] {
            let ours = of(PROXIES[0], size, |r| r.cpu_us);
            let figure = Figure::of("gateway", format!("CPU a request, {text}"), "us", ours);
            figures.extend(figure.map(|f| {
                f.beside(*peer, &of(peer, size, |r| r.cpu_us))
                    .goal(Bound::RatioAtMost(1.0))
            }));
        }
        for peer in &PROXIES[1..] {
            let ours = of(PROXIES[0], size, |r| r.requests_per_s);
            let figure = Figure::of("gateway", format!("requests, {text}"), "1/s", ours);
            figures.extend(figure.map(|f| f.beside(*peer, &of(peer, size, |r| r.requests_per_s))));
        }
    }
    let failed = rounds.iter().filter(|r| r.proxy == PROXIES[0]);
    let failed = failed.map(|r| r.failed as f64).collect();
    let failed = Figure::of("gateway", "requests that failed", "a round", failed);
    figures.extend(failed.map(|f| f.goal(Bound::AtMost(0.0))));
    figures
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}

// --- what the gateway is told

/// One replica, on `machine`: what the gateway calls its own.
fn routes(machine: Digest) -> Result<String> {
    let upstream = api::Upstream {
        allocation: AllocationId(1),
        host: AccountId::default(),
        host_address: "http://127.0.0.1:1".into(),
        machine,
        address: [10, 64, 0, 2],
        ready: true,
        unheard: false,
        leaving: false,
    };
    let route = api::Route {
        deployment: DeploymentId(1),
        owner: AccountId::default(),
        service: "web".into(),
        domain: "web.bench".into(),
        ports: Vec::new(),
        http_port: Some(8080),
        frozen: false,
        scale: None,
        replicas: vec![upstream],
    };
    let routes = api::Routes {
        height: 1,
        routes: vec![route],
        ..api::Routes::default()
    };
    Ok(serde_json::to_string(&routes)?)
}

/// Answers as a validator whose routes never change, once they are known.
fn tell(listener: &TcpListener, routes: &Arc<OnceLock<String>>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let routes = routes.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            let mut reader = BufReader::new(&stream);
            if reader.read_line(&mut line).is_err() {
                return;
            }
            let mut header = String::new();
            while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
                header.clear();
            }
            let (mut status, mut body) = ("200 OK", "{}");
            if line.contains("/v1/routes") {
                if line.contains("after=") {
                    std::thread::sleep(Duration::from_secs(10));
                }
                match routes.get() {
                    Some(routes) => body = routes,
                    None => status = "503 Service Unavailable",
                }
            }
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        });
    }
}

// --- the proxies

/// Where configurations and logs of proxies lie, and for how many cores they are.
struct Place {
    folder: PathBuf,
    cores: usize,
}

/// A running proxy; it ends when dropped.
struct Proxy {
    name: &'static str,
    address: SocketAddr,
    process: Process,
}

impl Place {
    fn start(&self, name: &'static str, port: u16, command: Command) -> Result<Proxy> {
        let ip = match name {
            "backend" => [10, 64, 0, 2],
            _ => [127, 0, 0, 1],
        };
        let process = Process::start(command, &self.folder.join(format!("{name}.out")));
        Ok(Proxy {
            name,
            address: (ip, port).into(),
            process: process.with_context(|| format!("start {name}"))?,
        })
    }

    fn runrig(&self, program: &Path, routes: &OnceLock<String>) -> Result<Proxy> {
        let mut command = Command::new(program);
        command
            .args([
                "gateway",
                "run",
                "--network",
                &format!("http://{VALIDATOR}"),
            ])
            .args(["--listen", "127.0.0.1:8081"])
            .env("RUST_LOG", "warn");
        let proxy = self.start("runrig", 8081, command)?;
        if routes.get().is_none() {
            let _ = routes.set(self::routes(proxy.machine()?)?);
        }
        Ok(proxy)
    }

    fn haproxy(&self) -> Result<Proxy> {
        let file = self.folder.join("haproxy.cfg");
        let config = format!(
            "global\n nbthread {}\n maxconn 8192\n\
             defaults\n mode http\n timeout connect 2s\n timeout client 60s\n \
             timeout server 120s\n http-reuse always\n option forwardfor\n\
             frontend in\n bind 127.0.0.1:8083 backlog 4096\n \
             use_backend web if {{ hdr(host) -i {HOST} }}\n\
             backend web\n server one {BACKEND}\n",
            self.cores
        );
        std::fs::write(&file, config)?;
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(file);
        self.start("HAProxy", 8083, command)
    }

    fn nginx(&self, name: &'static str, port: u16, config: &str) -> Result<Proxy> {
        let file = self.folder.join(format!("{name}.conf"));
        std::fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file);
        self.start(name, port, command)
    }

    fn backend_config(&self) -> String {
        format!(
            "{} http {{ {} sendfile on; keepalive_requests 1000000000; access_log off;\n\
             server {{ listen {BACKEND} backlog=4096; root {}; }} }}\n",
            self.nginx_head("backend", 1),
            self.nginx_paths(),
            self.folder.display(),
        )
    }

    fn nginx_config(&self) -> String {
        format!(
            "{} http {{ {} access_log off; keepalive_requests 1000000000;\n\
             upstream web {{ server {BACKEND}; keepalive 64; keepalive_requests 1000000000; }}\n\
             server {{ listen 127.0.0.1:8082 backlog=4096; server_name {HOST};\n\
             location / {{ proxy_pass http://web; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
             proxy_set_header X-Forwarded-For $remote_addr; proxy_max_temp_file_size 0; }} }} }}\n",
            self.nginx_head("nginx", self.cores),
            self.nginx_paths(),
        )
    }

    fn nginx_head(&self, name: &str, workers: usize) -> String {
        format!(
            "worker_processes {workers}; daemon off; pid {0}/{name}.pid;\n\
             error_log {0}/{name}.log crit; worker_rlimit_nofile 16384;\n\
             events {{ worker_connections 8192; }}\n",
            self.folder.display()
        )
    }

    fn nginx_paths(&self) -> String {
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .fold(String::new(), |mut out, kind| {
                let _ = write!(out, "{kind}_temp_path {}/{kind}; ", self.folder.display());
                out
            })
    }
}

impl Proxy {
    /// What the gateway says that its machine is.
    fn machine(&self) -> Result<Digest> {
        let started = Instant::now();
        loop {
            let answer = self.ask("localhost", "/v1/gateway").unwrap_or_default();
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let status: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            if let Ok(machine) = serde_json::from_value(status["machine"].clone()) {
                return Ok(machine);
            }
            ensure!(
                started.elapsed() < START_TIME,
                "the gateway does not start: it answers \"{answer}\""
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns once the file of `size` bytes comes.
    fn await_answer(&self, size: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let answer = self.ask(HOST, &format!("/{size}")).unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            if started.elapsed() > START_TIME {
                let first = answer.lines().next().unwrap_or("nothing");
                bail!("{} does not serve: it answers {first}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first bytes of an answer.
    fn ask(&self, host: &str, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn cpu(&self) -> Duration {
        Cost::of_all(family(self.process.pid())).cpu
    }
}

// --- the load

fn load(proxy: &Proxy, size: usize, seconds: u64) -> Result<Round> {
    let before = proxy.cpu();
    let output = Command::new("wrk")
        .arg("-t1")
        .arg(format!("-c{CONNECTIONS}"))
        .arg(format!("-d{seconds}s"))
        .args(["-H", &format!("Host: {HOST}")])
        .arg(format!("http://{}/{size}", proxy.address))
        .output()
        .context("run wrk")?;
    let cpu = proxy.cpu().saturating_sub(before);
    let report = Report::parse(&String::from_utf8_lossy(&output.stdout))?;
    Ok(Round {
        proxy: proxy.name,
        size,
        requests_per_s: report.requests_per_s,
        cpu_us: cpu.as_secs_f64() * 1e6 / report.requests as f64,
        failed: report.failed,
    })
}

#[derive(Debug, Default, PartialEq)]
struct Report {
    requests: u64,
    requests_per_s: f64,
    failed: u64,
}

impl Report {
    fn parse(text: &str) -> Result<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [count, "requests", "in", ..] => report.requests = count.parse()?,
                ["Requests/sec:", rate] => report.requests_per_s = rate.parse()?,
                ["Non-2xx", .., count] => report.failed += count.parse().unwrap_or(0),
                ["Socket", "errors:", counts @ ..] => {
                    report.failed += counts
                        .iter()
                        .filter_map(|c| c.trim_end_matches(',').parse::<u64>().ok())
                        .sum::<u64>();
                }
                _ => {}
            }
        }
        ensure!(report.requests > 0, "no request was answered: {text}");
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let text = "  129201 requests in 3.00s, 159.21MB read\n  \
             Socket errors: connect 0, read 1, write 0, timeout 2\n  \
             Non-2xx or 3xx responses: 4\nRequests/sec:  43021.53\n";
        let report = Report::parse(text).expect("a report");
        assert_eq!(
            report,
            Report {
                requests: 129_201,
                requests_per_s: 43_021.53,
                failed: 7,
            }
        );
        assert!(Report::parse("unable to connect").is_err());
    }

    #[test]
    fn each_size_stands_beside_each_peer() {
        let round = |proxy, cpu_us| Round {
            proxy,
            size: SIZES[0].1,
            requests_per_s: 1.0,
            cpu_us,
            failed: 0,
        };
        let figures = figures(&[
            round("runrig", 2.0),
            round("HAProxy", 4.0),
            round("nginx", 1.0),
        ]);
        let ratios: Vec<_> = figures
            .iter()
            .filter(|f| f.unit == "us")
            .filter_map(|f| Some((f.beside.as_ref()?.ratio, f.goal?.met)))
            .collect();
        assert_eq!(ratios, [(0.5, true), (2.0, false)]);
    }
}
