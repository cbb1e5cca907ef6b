//! The gateway beside HAProxy and nginx: the same backend, the same load, in turn, in one run.
//!
//! All of it runs in a network namespace of its own, which ends with the run: no port of this
//! machine is used. The load is `wrk`, the backend an nginx that serves two files. CPU is what
//! the kernel charged the proxy's processes between the first request and the last.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use types::{AccountId, AllocationId, DeploymentId, Digest};

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

#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Command that runs a gateway; it is given `--network URL --listen ADDR`.
    pub gateway: Vec<OsString>,
    /// Of load, for each proxy, size and round.
    pub seconds: u64,
    /// Each proxy is measured so often; the median by CPU is kept.
    pub rounds: usize,
    pub connections: u32,
    /// Sizes of answers in bytes.
    pub sizes: Vec<u64>,
}

/// What one proxy did with answers of one size.
#[derive(Clone, Debug)]
pub struct GatewayFigure {
    pub proxy: &'static str,
    pub body_bytes: u64,
    pub requests: u64,
    pub requests_per_s: f64,
    /// User and system time of all of the proxy's processes.
    pub cpu_us_per_request: f64,
    pub p50: String,
    pub p99: String,
    /// Answers that were none, or not 200.
    pub failed: u64,
}

/// Measures the gateway, HAProxy and nginx.
///
/// Errors: a program is missing (the message names the packages), a network namespace cannot
/// be made (root may), or a proxy does not start (the message has what it said).
pub fn gateway(options: &GatewayOptions) -> Result<Vec<GatewayFigure>, String> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "programs to compare with are missing: apt-get install {}",
            missing.join(" ")
        ));
    }
    let options = options.clone();
    // The namespace is the thread's own, and that of all that it starts.
    std::thread::spawn(move || in_namespace(&options))
        .join()
        .map_err(|_| "the measuring thread failed".to_string())?
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

fn said<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e}"))
}

fn in_namespace(options: &GatewayOptions) -> Result<Vec<GatewayFigure>, String> {
    said(
        "make a network namespace (run as root)",
        unshare(CloneFlags::CLONE_NEWNET),
    )?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    run(Command::new("ip").args(["address", "add", "10.64.0.2/32", "dev", "lo"]))?;
    let folder = said("make a folder", tempfile::tempdir())?;
    // nginx' workers read the files as another user.
    run(Command::new("chmod").arg("755").arg(folder.path()))?;
    for size in &options.sizes {
        let content = vec![b'x'; *size as usize];
        said(
            "write a file",
            std::fs::write(folder.path().join(size.to_string()), content),
        )?;
    }
    let routes = Arc::new(OnceLock::new());
    let listener = said("listen", TcpListener::bind(VALIDATOR))?;
    let told = routes.clone();
    std::thread::spawn(move || tell(&listener, &told));

    let backend = Proxy::nginx(
        "backend",
        folder.path(),
        8080,
        &backend_config(folder.path()),
    )?;
    backend.await_answer(options.sizes.first().copied().unwrap_or(0))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rounds: Vec<GatewayFigure> = Vec::new();
    for _ in 0..options.rounds.max(1) {
        for name in ["runrig", "haproxy", "nginx"] {
            let proxy = match name {
                "runrig" => Proxy::runrig(&options.gateway, &routes)?,
                "haproxy" => Proxy::haproxy(folder.path(), cores)?,
                _ => Proxy::nginx(
                    name,
                    folder.path(),
                    8082,
                    &nginx_config(folder.path(), cores),
                )?,
            };
            for size in &options.sizes {
                proxy.await_answer(*size)?;
                load(&proxy, *size, 1, options.connections)?;
                rounds.push(load(&proxy, *size, options.seconds, options.connections)?);
            }
        }
    }
    Ok(medians(rounds))
}

/// One figure per size and proxy: the median by CPU; failures are added up.
fn medians(mut rounds: Vec<GatewayFigure>) -> Vec<GatewayFigure> {
    let mut out: Vec<GatewayFigure> = Vec::new();
    rounds.sort_by(|a, b| {
        (a.body_bytes, a.cpu_us_per_request)
            .partial_cmp(&(b.body_bytes, b.cpu_us_per_request))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    for figure in &rounds {
        let of_one: Vec<&GatewayFigure> = rounds
            .iter()
            .filter(|f| (f.proxy, f.body_bytes) == (figure.proxy, figure.body_bytes))
            .collect();
        if out
            .iter()
            .any(|f| (f.proxy, f.body_bytes) == (figure.proxy, figure.body_bytes))
        {
            continue;
        }
        out.push(GatewayFigure {
            failed: of_one.iter().map(|f| f.failed).sum(),
            ..of_one[of_one.len() / 2].clone()
        });
    }
    out
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = said("start a command", command.output())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

// --- what the gateway is told

/// One replica, on `machine`: what the gateway calls its own.
fn routes(machine: Digest) -> Result<String, String> {
    let upstream = api::Upstream {
        allocation: AllocationId(1),
        host: AccountId::default(),
        host_address: "http://127.0.0.1:1".into(),
        machine,
        address: [10, 64, 0, 2],
        ready: true,
    };
    let route = api::Route {
        deployment: DeploymentId(1),
        owner: AccountId::default(),
        service: "web".into(),
        domain: "web.bench".into(),
        ports: Vec::new(),
        http_port: Some(8080),
        frozen: false,
        replicas: vec![upstream],
    };
    let routes = api::Routes {
        height: 1,
        routes: vec![route],
    };
    said("describe the routes", serde_json::to_string(&routes))
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

fn backend_config(folder: &Path) -> String {
    format!(
        "worker_processes 1;\n{}\
         http {{ {} sendfile on; tcp_nopush off; keepalive_requests 1000000000; access_log off;\n\
         server {{ listen {BACKEND} backlog=4096; root {}; }} }}\n",
        nginx_head(folder, "backend"),
        nginx_paths(folder),
        folder.display(),
    )
}

fn nginx_config(folder: &Path, cores: usize) -> String {
    format!(
        "worker_processes {cores};\n{}\
         http {{ {} access_log off; keepalive_requests 1000000000;\n\
         upstream web {{ server {BACKEND}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:8082 backlog=4096; server_name {HOST};\n\
         location / {{ proxy_pass http://web; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $remote_addr; proxy_max_temp_file_size 0; }} }} }}\n",
        nginx_head(folder, "nginx"),
        nginx_paths(folder),
    )
}

fn nginx_head(folder: &Path, name: &str) -> String {
    format!(
        "daemon off; pid {0}/{name}.pid; error_log {0}/{name}.log crit;\n\
         worker_rlimit_nofile 16384; events {{ worker_connections 8192; }}\n",
        folder.display()
    )
}

fn nginx_paths(folder: &Path) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .fold(String::new(), |mut out, kind| {
            let _ = write!(out, "{kind}_temp_path {}/{kind}; ", folder.display());
            out
        })
}

fn haproxy_config(cores: usize) -> String {
    format!(
        "global\n nbthread {cores}\n maxconn 8192\n\
         defaults\n mode http\n timeout connect 2s\n timeout client 60s\n timeout server 120s\n \
         http-reuse always\n option forwardfor\n\
         frontend in\n bind 127.0.0.1:8083 backlog 4096\n use_backend web if {{ hdr(host) -i {HOST} }}\n\
         backend web\n server one {BACKEND}\n"
    )
}

/// A running proxy; it ends when dropped.
struct Proxy {
    name: &'static str,
    address: SocketAddr,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(12);
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(name: &'static str, port: u16, command: &mut Command) -> Result<Self, String> {
        let ip = match name {
            "backend" => [10, 64, 0, 2],
            _ => [127, 0, 0, 1],
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self {
            name,
            address: (ip, port).into(),
            child: said(&format!("start {name}"), command.spawn())?,
        })
    }

    fn runrig(command: &[OsString], routes: &OnceLock<String>) -> Result<Self, String> {
        let (program, arguments) = command.split_first().ok_or("no gateway to measure")?;
        let proxy = Self::start(
            "runrig",
            8081,
            Command::new(program)
                .args(arguments)
                .args(["--network", &format!("http://{VALIDATOR}")])
                .args(["--listen", "127.0.0.1:8081"])
                .env("RUST_LOG", "warn"),
        )?;
        if routes.get().is_none() {
            let _ = routes.set(self::routes(proxy.machine()?)?);
        }
        Ok(proxy)
    }

    /// What the gateway says that its machine is.
    fn machine(&self) -> Result<Digest, String> {
        let until = Instant::now() + START_TIME;
        loop {
            let answer = self.ask("/v1/gateway").unwrap_or_default();
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let status: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            if let Ok(machine) = serde_json::from_value(status["machine"].clone()) {
                return Ok(machine);
            }
            if Instant::now() > until {
                return Err(format!("the gateway does not start: it answers {answer}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn haproxy(folder: &Path, cores: usize) -> Result<Self, String> {
        let file = folder.join("haproxy.cfg");
        said("write a file", std::fs::write(&file, haproxy_config(cores)))?;
        Self::start("haproxy", 8083, Command::new("haproxy").arg("-f").arg(file))
    }

    fn nginx(name: &'static str, folder: &Path, port: u16, config: &str) -> Result<Self, String> {
        let file = folder.join(format!("{name}.conf"));
        said("write a file", std::fs::write(&file, config))?;
        Self::start(name, port, Command::new("nginx").arg("-c").arg(file))
    }

    /// Returns once a file of `size` bytes comes.
    fn await_answer(&self, size: u64) -> Result<(), String> {
        let until = Instant::now() + START_TIME;
        loop {
            let answer = self.ask(&format!("/{size}")).unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            if Instant::now() > until {
                let first = answer.lines().next().unwrap_or("nothing").to_string();
                return Err(format!("{} does not serve: it answers {first}", self.name));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first bytes of an answer.
    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            if path.starts_with("/v1/") {
                "localhost"
            } else {
                HOST
            }
        )?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Of it and its children, in clock ticks.
    fn ticks(&self) -> u64 {
        let own = self.child.id();
        let mut sum = 0;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<u32>().ok())
            else {
                continue;
            };
            let text = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // After the name, which may hold anything: state, parent, …
            let fields: Vec<&str> = text
                .rsplit_once(") ")
                .map(|(_, rest)| rest.split(' ').collect())
                .unwrap_or_default();
            let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok());
            if pid == own || number(1) == Some(u64::from(own)) {
                sum += number(11).unwrap_or(0) + number(12).unwrap_or(0);
            }
        }
        sum
    }
}

// --- the load

fn load(proxy: &Proxy, size: u64, seconds: u64, connections: u32) -> Result<GatewayFigure, String> {
    let before = proxy.ticks();
    let output = Command::new("wrk")
        .args(["-t1", "--latency"])
        .arg(format!("-c{connections}"))
        .arg(format!("-d{seconds}s"))
        .args(["-H", &format!("Host: {HOST}")])
        .arg(format!("http://{}/{size}", proxy.address))
        .output();
    let output = said("run wrk", output)?;
    let ticks = proxy.ticks() - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let report = said("read what wrk says", Report::parse(&text))?;
    let tick_us = 1e6
        / nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
            .ok()
            .flatten()
            .unwrap_or(100) as f64;
    Ok(GatewayFigure {
        proxy: proxy.name,
        body_bytes: size,
        requests: report.requests,
        requests_per_s: report.requests_per_s,
        cpu_us_per_request: ticks as f64 * tick_us / report.requests.max(1) as f64,
        p50: report.p50,
        p99: report.p99,
        failed: report.failed,
    })
}

#[derive(Debug, Default, PartialEq)]
struct Report {
    requests: u64,
    requests_per_s: f64,
    p50: String,
    p99: String,
    failed: u64,
}

impl Report {
    fn parse(text: &str) -> Result<Self, String> {
        let mut report = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["50%", time] => report.p50 = (*time).into(),
                ["99%", time] => report.p99 = (*time).into(),
                [count, "requests", "in", ..] => {
                    report.requests = count.parse().map_err(|_| line.to_string())?;
                }
                ["Requests/sec:", rate] => {
                    report.requests_per_s = rate.parse().map_err(|_| line.to_string())?;
                }
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
        match report.requests {
            0 => Err(format!("no request was answered: {text}")),
            _ => Ok(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let text = "  Latency Distribution\n     50%    1.47ms\n     75%    1.90ms\n     \
             99%    4.17ms\n  129201 requests in 3.00s, 159.21MB read\n  \
             Socket errors: connect 0, read 1, write 0, timeout 2\n  \
             Non-2xx or 3xx responses: 4\nRequests/sec:  43021.53\n";
        let report = Report::parse(text).unwrap();
        assert_eq!(
            report,
            Report {
                requests: 129_201,
                requests_per_s: 43_021.53,
                p50: "1.47ms".into(),
                p99: "4.17ms".into(),
                failed: 7,
            }
        );
        assert!(Report::parse("unable to connect").is_err());
    }

    #[test]
    fn the_median_round_stands_for_its_proxy() {
        let round = |proxy, body_bytes, cpu| GatewayFigure {
            proxy,
            body_bytes,
            requests: 1,
            requests_per_s: 1.0,
            cpu_us_per_request: cpu,
            p50: String::new(),
            p99: String::new(),
            failed: 1,
        };
        let figures = medians(vec![
            round("a", 1, 9.0),
            round("b", 1, 4.0),
            round("a", 1, 1.0),
            round("a", 1, 3.0),
            round("a", 2, 7.0),
        ]);
        let seen: Vec<_> = figures
            .iter()
            .map(|f| (f.proxy, f.body_bytes, f.cpu_us_per_request, f.failed))
            .collect();
        assert_eq!(seen, [("a", 1, 3.0, 3), ("b", 1, 4.0, 1), ("a", 2, 7.0, 1)]);
    }
}
