//! How soon a container's payload runs: the engine beside plain `crun run` and `runc run` of
//! the same bundle, in turn.
//!
//! The clock runs from the call to the payload's first word. The peers find the bundle ready,
//! its overlay mounted; the engine makes both anew each time.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use engine::{
    ContainerSpec, Engine as _, EngineConfig, Mount, MountFrom, OciEngine, Runtime, UserSpec,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use types::Resources;

use crate::figure::{Bound, Figure, Found, median, milliseconds};
use crate::process::find;

/// Of each engine in a round.
const STARTS: usize = 10;
const START_LIMIT: Duration = Duration::from_secs(20);
const UIDS: u32 = 1_310_720;
const BUSYBOX: &str = "/bin/busybox";
const SAY: &str = "echo ready > /said/word";
/// Where the shim lays out a bundle, in a mount namespace of its own.
const BUNDLE: &str = "/mnt";

/// `program` is a `runrig`, which has the shim in it.
///
/// Errors: a container does not start.
pub(crate) async fn start(program: &Path, rounds: usize) -> Result<Found> {
    let mut left_out = Vec::new();
    if !nix::unistd::Uid::effective().is_root() {
        left_out.push("start of containers: it needs root; run it with sudo".into());
    }
    if !Path::new(BUSYBOX).exists() {
        left_out.push("start of containers: apt-get install busybox-static".into());
    }
    if !left_out.is_empty() {
        return Ok(Found {
            figures: Vec::new(),
            left_out,
        });
    }
    let stage = Stage::new(program)?;
    let mut peers = Vec::new();
    for runtime in [Runtime::Crun, Runtime::Runc] {
        match find(runtime.name()) {
            Some(program) => peers.push((stage.peer(runtime, program).await?, Vec::new())),
            None => left_out.push(format!(
                "start beside {name} run: apt-get install {name}",
                name = runtime.name()
            )),
        }
    }
    let ours = stage.engine(Runtime::Libcontainer)?;
    let mut own = Vec::new();
    for round in 0..=rounds {
        let (mut times, mut theirs) = (Vec::new(), vec![Vec::new(); peers.len()]);
        for number in 0..STARTS {
            let id = format!("own-{round}-{number}");
            times.push(milliseconds(stage.start(&ours, &id).await?));
            for ((peer, _), times) in peers.iter().zip(&mut theirs) {
                times.push(milliseconds(
                    peer.run(&stage, &format!("{round}-{number}"))?,
                ));
            }
        }
        // The first warms up and is not counted.
        if round > 0 {
            own.extend(median(&times));
            for ((_, rounds), times) in peers.iter_mut().zip(theirs) {
                rounds.extend(median(&times));
            }
        }
    }
    let mut figures = Vec::new();
    for (peer, rounds) in &peers {
        let figure = Figure::of(
            "start",
            "libcontainer, call to first word",
            "ms",
            own.clone(),
        );
        let figure = figure.map(|f| f.beside(format!("plain {} run", peer.runtime.name()), rounds));
        figures.extend(figure.map(|f| match peer.runtime {
            Runtime::Crun => f.goal(Bound::RatioAtMost(1.2)),
            _ => f,
        }));
    }
    if peers.is_empty() {
        figures.extend(Figure::of(
            "start",
            "libcontainer, call to first word",
            "ms",
            own,
        ));
    }
    for (peer, _) in peers {
        peer.end().await;
    }
    Ok(Found { figures, left_out })
}

/// What all containers share: a root file system, and a pipe into which each says its word.
struct Stage {
    program: PathBuf,
    cgroup: String,
    said: File,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        let root = at("rootfs");
        for name in ["bin", "etc", "proc", "sys", "dev", "said"] {
            std::fs::create_dir_all(root.join(name))?;
        }
        std::fs::copy(BUSYBOX, root.join("bin/busybox"))?;
        for name in ["sh", "sleep"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
        }
        // The container's root makes what is mounted over.
        for name in ["", "bin", "etc", "proc", "sys", "dev", "said"] {
            chown(root.join(name), Some(UIDS), Some(UIDS))?;
        }
        std::fs::create_dir(at("said"))?;
        let word = at("said").join("word");
        nix::unistd::mkfifo(&word, nix::sys::stat::Mode::S_IRUSR)?;
        std::fs::set_permissions(&word, PermissionsExt::from_mode(0o666))?;
        let said = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(word)?;
        Ok(Self {
            program: program.into(),
            cgroup: format!("/runrig/bench-{}", std::process::id()),
            said,
            folder,
        })
    }

    fn engine(&self, runtime: Runtime) -> Result<OciEngine> {
        Ok(OciEngine::open(EngineConfig {
            root: self.folder.path().join(runtime.name()),
            runtime,
            shim: vec![self.program.display().to_string(), "shim".into()],
            cgroup_parent: self.cgroup.clone(),
        })?)
    }

    fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            args: ["sh", "-c", script].map(String::from).into(),
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            user: UserSpec::default(),
            hostname: "bench".into(),
            terminal: false,
            stdin_open: false,
            init: false,
            read_only: false,
            lower: vec![self.folder.path().join("rootfs")],
            upper: self.folder.path().join("upper").join(id),
            mounts: vec![Mount {
                target: "/said".into(),
                source: MountFrom::Directory(self.folder.path().join("said")),
                read_only: false,
            }],
            netns: PathBuf::new(),
            hosts: "127.0.0.1 localhost\n".into(),
            resolv_conf: String::new(),
            uid_base: UIDS,
            limits: Resources {
                cpu_millis: 2_000,
                memory_bytes: 256 << 20,
                disk_bytes: 1 << 30,
                bandwidth_kbps: 1_000,
            },
            pids: 32,
            stop_signal: libc::SIGTERM,
            labels: Default::default(),
            process: Default::default(),
            nests: false,
        }
    }

    /// Call to first word; the container is gone afterwards.
    async fn start(&self, engine: &OciEngine, id: &str) -> Result<Duration> {
        let spec = self.spec(id, SAY);
        let started = Instant::now();
        engine.start(&spec).await?;
        self.hear()?;
        let spent = started.elapsed();
        engine.wait(id).await?;
        engine.remove(id).await?;
        Ok(spent)
    }

    /// Returns with the payload's word.
    fn hear(&self) -> Result<()> {
        let limit = PollTimeout::try_from(START_LIMIT)?;
        let mut ready = [PollFd::new(self.said.as_fd(), PollFlags::POLLIN)];
        ensure!(
            poll(&mut ready, limit)? > 0,
            "a payload never said its word"
        );
        let mut word = [0; 64];
        let read = (&self.said).read(&mut word)?;
        ensure!(&word[..read] == b"ready\n", "a payload said something else");
        Ok(())
    }

    /// A container that lends its bundle, which `program` then runs by itself.
    async fn peer(&self, runtime: Runtime, program: PathBuf) -> Result<Peer> {
        let lender = self.engine(runtime)?;
        let id = format!("lends-{}", runtime.name());
        let status = lender.start(&self.spec(&id, "exec sleep 100000")).await?;
        let shim = parent(status.pid).context("the shim of a container")?;
        let base = PathBuf::from(format!("/proc/{shim}/root{BUNDLE}"));
        let config = serde_json::from_slice(&std::fs::read(base.join("config.json"))?)?;
        let bundle = base.join("plain");
        std::fs::create_dir(&bundle)?;
        let states = self.folder.path().join(format!("plain-{}", runtime.name()));
        std::fs::create_dir(&states)?;
        Ok(Peer {
            runtime,
            program,
            mounts: File::open(format!("/proc/{shim}/ns/mnt"))?,
            config,
            bundle,
            states,
            lender,
            id,
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The parent of the cgroups that the engine made and removed, under each controller.
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for at in hierarchies.flatten() {
            let _ = std::fs::remove_dir(at.path().join(self.cgroup.trim_start_matches('/')));
        }
        let root = Path::new("/sys/fs/cgroup").join(self.cgroup.trim_start_matches('/'));
        let _ = std::fs::remove_dir(root);
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

struct Peer {
    runtime: Runtime,
    program: PathBuf,
    /// Mount namespace in which the bundle lies.
    mounts: File,
    config: Value,
    /// Seen from outside of it.
    bundle: PathBuf,
    states: PathBuf,
    lender: OciEngine,
    id: String,
}

impl Peer {
    /// As [`Stage::start`], by the program alone.
    fn run(&self, stage: &Stage, name: &str) -> Result<Duration> {
        let id = format!("{}-{name}", self.runtime.name());
        let mut config = self.config.clone();
        config["process"]["args"] = json!(["sh", "-c", SAY]);
        config["root"]["path"] = json!(format!("{BUNDLE}/rootfs"));
        config["linux"]["cgroupsPath"] = json!(format!("{}/{id}", stage.cgroup));
        std::fs::write(
            self.bundle.join("config.json"),
            serde_json::to_vec(&config)?,
        )?;
        let mounts = self.mounts.try_clone()?;
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.states);
        command.args(["run", "--bundle", &format!("{BUNDLE}/plain"), &id]);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(setns(&mounts, CloneFlags::CLONE_NEWNS)?));
        }
        let started = Instant::now();
        let child = command.spawn()?;
        let heard = stage.hear();
        let spent = started.elapsed();
        let ended = child.wait_with_output()?;
        if heard.is_err() || !ended.status.success() {
            bail!(
                "{} run fails: {}",
                self.runtime.name(),
                String::from_utf8_lossy(&ended.stderr).trim()
            );
        }
        Ok(spent)
    }

    async fn end(self) {
        let _ = self.lender.remove(&self.id).await;
    }
}
