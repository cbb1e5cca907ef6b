//! One table of cases over every runtime that is installed; runs as root.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::{
    ContainerSpec, Engine, EngineConfig, EngineError, ExecInput, ExecOutput, ExecRequest, LogLine,
    Mount, MountFrom, OciEngine, Phase, Runtime, UserSpec,
};
use types::Resources;

const UIDS: u32 = 231_072;

struct Bench {
    engine: OciEngine,
    runtime: Runtime,
    folder: tempfile::TempDir,
    parent: String,
}

fn busybox() -> &'static Path {
    let path = Path::new("/bin/busybox");
    assert!(
        path.exists(),
        "/bin/busybox is missing: apt-get install busybox-static (cargo xtask test does it)"
    );
    path
}

impl Bench {
    fn new(runtime: Runtime) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let parent = format!("/runrig/test-{}-{}", runtime.name(), std::process::id());
        let engine = Self::open(folder.path(), runtime, &parent);
        let rootfs = folder.path().join("rootfs");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "data"] {
            std::fs::create_dir_all(rootfs.join(name)).expect("made");
        }
        std::fs::copy(busybox(), rootfs.join("bin/busybox")).expect("copied");
        for name in [
            "sh", "cat", "echo", "id", "sleep", "hostname", "mount", "stty", "touch", "ls", "dd",
            "unshare", "env", "pwd", "yes", "head",
        ] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).expect("linked");
        }
        own(&rootfs);
        Self {
            engine,
            runtime,
            folder,
            parent,
        }
    }

    fn open(folder: &Path, runtime: Runtime, parent: &str) -> OciEngine {
        OciEngine::open(EngineConfig {
            root: folder.join("engine"),
            runtime,
            shim: vec![env!("CARGO_BIN_EXE_engine-shim").into()],
            cgroup_parent: parent.into(),
        })
        .expect("opens")
    }

    fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            args: ["sh", "-c", script].map(String::from).into(),
            env: vec!["PATH=/bin".into(), "GREETING=hello".into()],
            cwd: "/".into(),
            user: UserSpec::default(),
            hostname: "box".into(),
            terminal: false,
            read_only: false,
            lower: vec![self.folder.path().join("rootfs")],
            upper: self.folder.path().join("upper").join(id),
            mounts: Vec::new(),
            netns: PathBuf::new(),
            hosts: "127.0.0.1 localhost\n".into(),
            resolv_conf: "nameserver 192.0.2.1\n".into(),
            uid_base: UIDS,
            limits: Resources {
                cpu_millis: 500,
                memory_bytes: 64 << 20,
                disk_bytes: 1 << 30,
                bandwidth_kbps: 1000,
            },
            pids: 32,
            stop_signal: libc::SIGTERM,
            labels: Default::default(),
        }
    }

    /// A namespace with nothing but lo.
    fn netns(&self) -> PathBuf {
        let path = self.folder.path().join("netns");
        std::fs::write(&path, "").expect("written");
        let at = path.clone();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("made");
            nix::mount::mount(
                Some("/proc/thread-self/ns/net"),
                &at,
                None::<&str>,
                nix::mount::MsFlags::MS_BIND,
                None::<&str>,
            )
            .expect("kept");
        })
        .join()
        .expect("no panic");
        path
    }

    fn log(&self, id: &str) -> Vec<LogLine> {
        std::fs::read_to_string(self.engine.log_path(id))
            .unwrap_or_default()
            .lines()
            .map(|l| serde_json::from_str(l).expect("a log line"))
            .collect()
    }

    /// Runs `spec` to its end: exit code and what it said.
    async fn run(&self, spec: &ContainerSpec) -> (i32, String) {
        self.engine
            .start(spec)
            .await
            .unwrap_or_else(|e| panic!("{} {}: {e}", self.runtime.name(), spec.id));
        let exit = self.engine.wait(&spec.id).await.expect("ends");
        let said: Vec<String> = self.log(&spec.id).into_iter().map(|l| l.text).collect();
        self.engine.remove(&spec.id).await.expect("removed");
        (exit.code, said.join("\n"))
    }

    async fn exec(&self, id: &str, script: &str, terminal: bool, input: &[u8]) -> (i32, String) {
        let request = ExecRequest {
            args: ["sh", "-c", script].map(String::from).into(),
            env: vec!["MORE=yes".into()],
            cwd: None,
            user: None,
            terminal,
            rows: 33,
            columns: 77,
        };
        let mut session = self.engine.exec(id, request).await.expect("exec");
        if !input.is_empty() {
            session
                .input
                .send(ExecInput::Stdin(input.into()))
                .await
                .expect("sent");
        }
        if !terminal {
            session
                .input
                .send(ExecInput::StdinClosed)
                .await
                .expect("sent");
        }
        let mut said = Vec::new();
        loop {
            match session.output.recv().await.expect("an exit comes last") {
                ExecOutput::Stdout(data) | ExecOutput::Stderr(data) => said.extend(data),
                ExecOutput::Exit(code) => {
                    return (code, String::from_utf8_lossy(&said).replace('\r', ""));
                }
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.folder.path().join("netns"));
        // The parents of the cgroups that the engine made and removed.
        for at in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = std::fs::remove_dir(at.path().join(self.parent.trim_start_matches('/')));
        }
    }
}

fn own(path: &Path) {
    let mut stack = vec![path.to_path_buf()];
    while let Some(at) = stack.pop() {
        std::os::unix::fs::lchown(&at, Some(UIDS), Some(UIDS)).expect("owned");
        if at.symlink_metadata().expect("there").is_dir() {
            stack.extend(
                std::fs::read_dir(&at)
                    .expect("read")
                    .flatten()
                    .map(|e| e.path()),
            );
        }
    }
}

async fn until(what: &str, mut good: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !good().await {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn conform(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    let capabilities = bench
        .engine
        .probe()
        .await
        .expect("this machine runs containers");
    assert_eq!(capabilities.engine, name);

    // What a container sees of itself.
    let mut spec = bench.spec("sees", "echo $GREETING; pwd; hostname; id -u; id -g; cat /etc/hosts /etc/resolv.conf; cat /proc/self/status | busybox grep -E 'CapEff|NoNewPrivs|Seccomp:'; cat /proc/self/uid_map; exit 7");
    spec.cwd = "/tmp".into();
    let (code, said) = bench.run(&spec).await;
    assert_eq!(code, 7, "{name}: {said}");
    for line in [
        "hello",
        "/tmp",
        "box",
        "127.0.0.1 localhost",
        "nameserver 192.0.2.1",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t00000000a80425fb",
    ] {
        assert!(
            said.lines().any(|l| l == line),
            "{name}: no {line:?} in {said}"
        );
    }
    assert!(said.contains("231072"), "{name}: {said}");

    // Another user has no rights; the root file system may be read-only; mounts are there.
    let mut spec = bench.spec("user", "id; touch /x; touch /data/y && touch /scratch/z && ls /data; cat /proc/self/status | busybox grep CapEff");
    spec.user = UserSpec {
        uid: 1000,
        gid: 1000,
        additional: vec![44],
    };
    spec.read_only = true;
    let volume = bench.folder.path().join("volume");
    std::fs::create_dir(&volume).expect("made");
    chown(&volume, Some(UIDS + 1000), Some(UIDS + 1000)).expect("owned");
    spec.mounts = vec![
        Mount {
            target: "/data".into(),
            source: MountFrom::Directory(volume.clone()),
            read_only: false,
        },
        Mount {
            target: "/scratch".into(),
            source: MountFrom::Tmpfs(1 << 20),
            read_only: false,
        },
    ];
    let (_, said) = bench.run(&spec).await;
    assert!(
        said.contains("uid=1000 gid=1000 groups=44") || said.contains("groups=1000,44"),
        "{name}: {said}"
    );
    assert!(said.contains("Read-only file system"), "{name}: {said}");
    assert!(said.lines().any(|l| l == "y"), "{name}: {said}");
    assert!(said.contains("CapEff:\t0000000000000000"), "{name}: {said}");
    assert!(volume.join("y").exists());

    // Denied: mounts, new namespaces; masked: kernel memory.
    let (_, said) = bench
        .run(&bench.spec(
            "denied",
            "mount -t tmpfs x /tmp; unshare -n true; busybox wc -c < /proc/timer_list",
        ))
        .await;
    assert!(said.contains("mount: permission denied"), "{name}: {said}");
    assert!(said.contains("Operation not permitted"), "{name}: {said}");
    assert!(said.lines().any(|l| l == "0"), "{name}: {said}");

    // No signal comes in ignored or blocked: neither what the shim minds nor what the agent
    // was started with.
    // SAFETY: sets what this process does on a signal that nobody here uses.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    let die =
        "for s in HUP PIPE INT USR2; do sh -c \"kill -$s \\$\\$; echo survived\"; done; echo end";
    let first = bench.spec("signals", &format!("{die}; sleep 60"));
    bench.engine.start(&first).await.expect("starts");
    until("its end", async || {
        bench.log("signals").iter().any(|l| l.text == "end")
    })
    .await;
    let texts = bench.log("signals").into_iter().map(|l| l.text);
    let own = texts.collect::<Vec<_>>().join("\n");
    let (_, beside) = bench.exec("signals", die, false, b"").await;
    for said in [own, beside] {
        assert!(
            said.contains("end") && !said.contains("survived"),
            "{name}: {said}"
        );
    }
    bench.engine.remove("signals").await.expect("removed");
    let mut first = bench.spec("mask", "");
    first.args = vec!["cat".into(), "/proc/self/status".into()];
    let (_, said) = bench.run(&first).await;
    let mask = |field: &str| {
        let line = said.lines().find_map(|l| l.strip_prefix(field));
        u64::from_str_radix(line.expect("a line").trim(), 16).expect("a number")
    };
    // The C library's own two: `posix_spawn` ignores them for each child, runtimes too.
    let own = 3 << 31;
    assert_eq!((mask("SigBlk:"), mask("SigIgn:") & !own), (0, 0), "{name}");

    // The writable layer stays over a restart of the allocation.
    let first = bench.spec("layer", "echo kept > /kept");
    assert_eq!(bench.run(&first).await.0, 0);
    assert_eq!(
        bench.run(&bench.spec("layer", "cat /kept")).await.0,
        0,
        "{name}"
    );

    // A command that is not there starts nothing and leaves nothing.
    let mut spec = bench.spec("absent", "");
    spec.args = vec!["no-such-command".into()];
    let error = bench
        .engine
        .start(&spec)
        .await
        .expect_err("nothing to start");
    assert!(
        matches!(error, EngineError::Start { .. }),
        "{name}: {error}"
    );
    assert!(bench.engine.list().await.expect("lists").is_empty());

    // Memory: killed at the limit, and it is said so.
    let (code, _) = {
        let spec = bench.spec("oom", "busybox tail /dev/zero");
        bench.engine.start(&spec).await.expect("starts");
        let exit = bench.engine.wait("oom").await.expect("ends");
        assert!(exit.oom_killed, "{name}: {exit:?}");
        bench.engine.remove("oom").await.expect("removed");
        (exit.code, ())
    };
    assert_eq!(code, 137, "{name}");

    // Processes: the limit holds.
    let (_, said) = bench
        .run(&bench.spec(
            "pids",
            "for i in $(busybox seq 60); do sleep 2 & done; wait",
        ))
        .await;
    assert!(
        said.contains("can't fork") || said.contains("Resource temporarily"),
        "{name}: {said}"
    );

    // CPU: half a core is half a core, and the meter says the same.
    let spec = bench.spec("cpu", "while :; do :; done");
    let status = bench.engine.start(&spec).await.expect("starts");
    let source = meter::Source {
        cgroups: status.cgroups,
        interfaces: vec![],
        directories: vec![],
    };
    let (before, at) = (meter::read(&source).expect("read"), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = meter::read(&source).expect("read").cpu_ns - before.cpu_ns;
    let share = used as f64 / at.elapsed().as_nanos() as f64;
    // Less on a busy machine; never more.
    assert!((0.01..0.56).contains(&share), "{name}: {share}");
    let began = Instant::now();
    let exit = bench
        .engine
        .stop("cpu", libc::SIGTERM, Duration::from_millis(300))
        .await
        .expect("stops");
    assert!(
        began.elapsed() < Duration::from_secs(5) && exit.code == 137,
        "{name}: {exit:?}"
    );
    bench.engine.remove("cpu").await.expect("removed");

    // Both streams, exec with and without a terminal, adoption by another agent, stop signal.
    let mut spec = bench.spec(
        "long",
        "trap 'echo bye; exit 3' TERM; echo out; echo err >&2; while :; do sleep 0.05; done",
    );
    spec.netns = bench.netns();
    let status = bench.engine.start(&spec).await.expect("starts");
    assert!(status.pid > 0 && status.phase == Phase::Running);
    until("both streams", async || {
        let log = bench.log("long");
        log.iter().any(|l| l.stream == "stdout" && l.text == "out")
            && log.iter().any(|l| l.stream == "stderr" && l.text == "err")
    })
    .await;
    let (code, said) = bench
        .exec("long", "cat; echo $MORE; exit 9", false, b"typed\n")
        .await;
    assert_eq!((code, said.as_str()), (9, "typed\nyes\n"), "{name}");
    let (code, said) = bench
        .exec(
            "long",
            "until stty size; do sleep 0.05; done; test -t 0 && echo tty; exit 4",
            true,
            b"",
        )
        .await;
    assert_eq!(code, 4, "{name}: {said}");
    assert!(
        said.contains("33 77") && said.contains("tty"),
        "{name}: {said}"
    );
    let (code, said) = bench.exec("long", "exec no-such-thing", false, b"").await;
    assert_eq!(code, 127, "{name}: {said}");
    // Exec sees the container's network, not the machine's.
    let (_, said) = bench
        .exec(
            "long",
            "ls /proc/self/net/dev >/dev/null; busybox wc -l < /proc/self/net/dev",
            false,
            b"",
        )
        .await;
    assert_eq!(
        said.trim(),
        "3",
        "{name}: only lo below two lines of heading"
    );
    let other = Bench::open(bench.folder.path(), runtime, &bench.parent);
    let found = other.list().await.expect("lists");
    assert_eq!(
        (found.len(), found[0].pid, found[0].phase),
        (1, status.pid, Phase::Running)
    );
    let exit = other
        .stop("long", libc::SIGTERM, Duration::from_secs(10))
        .await
        .expect("stops");
    assert_eq!(exit.code, 3, "{name}");
    assert!(bench.log("long").iter().any(|l| l.text == "bye"));
    other.remove("long").await.expect("removed");

    // Many at once.
    let started = Instant::now();
    let specs: Vec<_> = (0..8)
        .map(|n| bench.spec(&format!("many-{n}"), "exit 0"))
        .collect();
    let codes = futures_join(specs.iter().map(|s| bench.run(s))).await;
    assert!(codes.iter().all(|(code, _)| *code == 0), "{name}");
    println!(
        "{name}: eight containers in {} ms",
        started.elapsed().as_millis()
    );

    // Nothing is left behind.
    nix::mount::umount(&bench.folder.path().join("netns")).expect("the last user is gone");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read");
    assert!(!mounts.contains(&bench.folder.path().display().to_string()));
    for at in std::fs::read_dir("/sys/fs/cgroup").expect("read").flatten() {
        let parent = at.path().join(bench.parent.trim_start_matches('/'));
        let children = std::fs::read_dir(&parent).into_iter().flatten().flatten();
        assert_eq!(
            children.filter(|c| c.path().is_dir()).count(),
            0,
            "{name}: {}",
            parent.display()
        );
    }
}

async fn futures_join<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut out = Vec::new();
    let mut pending: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(move |cx| {
        pending.retain_mut(|f| match f.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => {
                out.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() {
            std::task::Poll::Ready(std::mem::take(&mut out))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

fn installed(runtime: Runtime) -> bool {
    runtime == Runtime::Libcontainer
        || std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|p| p.join(runtime.name()).exists())
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libcontainer() {
    conform(Runtime::Libcontainer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runc() {
    assert!(
        installed(Runtime::Runc),
        "runc is missing: apt-get install runc"
    );
    conform(Runtime::Runc).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crun() {
    assert!(
        installed(Runtime::Crun),
        "crun is missing: apt-get install crun"
    );
    conform(Runtime::Crun).await;
}
