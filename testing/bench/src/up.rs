//! What a user waits for: `runrig up` to the first HTTP answer, and what a cloud costs that
//! does nothing. Both on a `runrig dev` of their own in a temporary folder.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use ledger::Event;
use ledger::deployment::Event as Deployments;
use ledger::lease::Event as Leases;
use sdk::{Client, EventFilter};
use types::RunState;

use crate::figure::{Bound, Figure, Found, milliseconds};
use crate::process::{Cost, Process, family};

const READY_LIMIT: Duration = Duration::from_secs(180);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
const IDLE_TIME: Duration = Duration::from_secs(10);
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// As the demo's, whose image every host has by then: one replica, one page.
const COMPOSE: &str = r#"
services:
  web:
    image: hello:latest
    ports: ["8080"]
    environment: { PORT: "8080" }
    deploy:
      replicas: REPLICAS
      resources: { limits: { cpus: "0.25", memory: 64M } }
"#;
const HEALTHCHECK: &str = r#"    healthcheck:
      test: ["CMD", "/bin/runrig", "demo-app", "--check"]
      interval: 10s
      timeout: 3s
      start_period: 5s
"#;

/// A `runrig dev`; ends with its guard.
struct Dev {
    process: Process,
    program: PathBuf,
    gateway: SocketAddr,
    client: Client,
    folder: tempfile::TempDir,
}

impl Dev {
    async fn start(program: &Path, more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let gateway = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program);
        command.args(["dev", "--json", "--listen", &gateway.to_string(), "--data"]);
        command.arg(folder.path().join("data")).args(more);
        command.env("XDG_CONFIG_HOME", folder.path().join("config"));
        let log = folder.path().join("dev.log");
        let process = Process::start(command, &log)?;
        let mut dev = Self {
            process,
            program: program.into(),
            gateway,
            client: Client::new([format!("http://{gateway}")])?,
            folder,
        };
        let started = Instant::now();
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said
                .lines()
                .any(|line| line.starts_with(r#"{"ready":true"#))
            {
                return Ok(dev);
            }
            let late = started.elapsed() > READY_LIMIT;
            ensure!(
                !dev.process.has_ended() && !late,
                "`runrig dev` says: {said}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args);
        command.env("XDG_CONFIG_HOME", self.folder.path().join("config"));
        command
    }

    fn compose(&self, name: &str, replicas: usize, healthcheck: bool) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.yaml"));
        let check = if healthcheck { HEALTHCHECK } else { "" };
        let text = COMPOSE.replace("REPLICAS", &replicas.to_string());
        std::fs::write(&path, format!("name: {name}{text}{check}"))?;
        Ok(path)
    }

    /// `true` once the service's page is there.
    fn answers(&self, name: &str) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(self.gateway)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(
                stream,
                "GET / HTTP/1.1\r\nHost: web.{name}.localhost\r\nConnection: close\r\n\r\n"
            )?;
            let mut start = [0; 12];
            stream.read_exact(&mut start)?;
            Ok(&start == b"HTTP/1.1 200")
        };
        ask().unwrap_or(false)
    }

    fn pids(&self) -> Vec<u32> {
        family(self.process.pid())
    }
}

fn well(what: &str, output: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what} fails: {}", said.trim());
    Ok(())
}

fn now_ms() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    milliseconds(now.unwrap_or_default())
}

/// When one `up` reached what, in milliseconds after its start.
#[derive(Debug, Default)]
struct Stages {
    /// In a block, by the block's own time.
    deployed: f64,
    /// By the time of the block that says so.
    running: f64,
    answered: f64,
    /// `up --wait` returned.
    returned: f64,
}

async fn up(dev: &Dev, name: &str, healthcheck: bool) -> Result<Stages> {
    let path = dev.compose(name, 1, healthcheck)?;
    let path = path.to_str().context("a path of plain characters")?;
    let mut command = dev.command(&["up", "-f", path, "--yes", "--wait", "--json"]);
    let (started, from_ms) = (Instant::now(), now_ms());
    let running = tokio::task::spawn_blocking(move || {
        let output = command.output();
        (output, started.elapsed())
    });
    while !dev.answers(name) {
        ensure!(started.elapsed() < ANSWER_LIMIT, "{name} never answers");
        tokio::time::sleep(LOOK).await;
    }
    let answered = milliseconds(started.elapsed());
    let (output, returned) = running.await?;
    well("up", &output?)?;
    let mut stages = Stages {
        answered,
        returned: milliseconds(returned),
        ..Stages::default()
    };
    let mut next = Some(0);
    let mut deployment = None;
    while let Some(from) = next {
        let (events, after) = dev.client.events_page(EventFilter::ALL, from).await?;
        for event in events {
            let at = event.time_ms as f64 - from_ms;
            match event.event {
                Event::Deployment(Deployments::Deployed {
                    deployment: id,
                    project,
                    ..
                }) if project == name => {
                    deployment = Some(id);
                    stages.deployed = at;
                }
                Event::Lease(Leases::StatusChanged {
                    deployment: id,
                    status,
                    ..
                }) if Some(id) == deployment
                    && status.state == RunState::Running
                    && stages.running == 0.0 =>
                {
                    stages.running = at;
                }
                _ => {}
            }
        }
        next = after;
    }
    ensure!(deployment.is_some(), "the ledger does not know {name}");
    Ok(stages)
}

/// `program` is a `runrig`.
///
/// Errors: `dev` does not come up, or a deployment does not answer.
pub(crate) async fn up_to_answer(program: &Path, rounds: usize) -> Result<Found> {
    let dev = Dev::start(program, &["--demo"]).await?;
    if dev.client.hosts().await?.is_empty() {
        return Ok(Found {
            figures: Vec::new(),
            left_out: vec!["up: no host runs on this machine; `runrig doctor` says why".into()],
        });
    }
    warm(&dev).await?;
    let mut figures = Vec::new();
    for healthcheck in [false, true] {
        let kind = if healthcheck {
            "with a health check"
        } else {
            "without a health check"
        };
        let mut all = Vec::new();
        for round in 0..=rounds {
            let name = format!("bench{}{round}", u8::from(healthcheck));
            let stages = up(&dev, &name, healthcheck).await?;
            well("down", &dev.command(&["down", &name]).output()?)?;
            // The first warms up and is not counted.
            if round > 0 {
                all.push(stages);
            }
        }
        let figure = |what: &str, pick: fn(&Stages) -> f64| {
            let rounds = all.iter().map(pick).collect();
            Figure::of("up", format!("{what}, {kind}"), "ms", rounds)
        };
        figures.extend([
            figure("to the first HTTP answer", |s| s.answered)
                .map(|f| f.goal(Bound::AtMost(1_000.0))),
            figure("of it: until the deployment is in a block", |s| s.deployed),
            figure("of it: from there until a block says it runs", |s| {
                s.running - s.deployed
            }),
            figure("of it: from there to the answer", |s| {
                s.answered - s.running
            }),
            figure("until `up --wait` returns", |s| s.returned),
        ]);
    }
    Ok(Found {
        figures: figures.into_iter().flatten().collect(),
        left_out: Vec::new(),
    })
}

/// Puts the image on every host.
async fn warm(dev: &Dev) -> Result<()> {
    let hosts = dev.client.hosts().await?.len();
    let path = dev.compose("warm", hosts, false)?;
    let path = path.to_str().context("a path of plain characters")?;
    let up = dev
        .command(&["up", "-f", path, "--yes", "--wait"])
        .output()?;
    well("up", &up)?;
    well("down", &dev.command(&["down", "warm"]).output()?)
}

/// CPU and memory of a `dev` on which nothing runs.
pub(crate) async fn idle(program: &Path, rounds: usize) -> Result<Found> {
    let dev = Dev::start(program, &[]).await?;
    tokio::time::sleep(SETTLE_TIME).await;
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (before, started) = (Cost::of_all(dev.pids()), Instant::now());
        tokio::time::sleep(IDLE_TIME).await;
        let after = Cost::of_all(dev.pids());
        let Some(spent) = after.cpu.checked_sub(before.cpu) else {
            bail!("a process of `dev` ended while it was measured");
        };
        cpu.push(spent.as_secs_f64() * 100.0 / started.elapsed().as_secs_f64());
        memory.push(after.memory_bytes as f64 / f64::from(1 << 20));
    }
    let figure = |name: &str, unit, rounds| Figure::of("idle", name, unit, rounds);
    let figures = [
        figure("CPU of all processes, of one core", "%", cpu).map(|f| f.goal(Bound::AtMost(10.0))),
        figure("memory of all processes", "MiB", memory).map(|f| f.goal(Bound::AtMost(1_024.0))),
    ];
    Ok(Found {
        figures: figures.into_iter().flatten().collect(),
        left_out: Vec::new(),
    })
}
