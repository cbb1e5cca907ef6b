//! How containers end, and what is left of them: nothing; runs as root.

#[macro_use]
mod bench;

use std::time::Duration;

use bench::*;
use engine::{
    Engine, EngineError, LOG_BYTES_MAX, Mount, MountFrom, Phase, Runtime, StartFault, UserSpec,
};

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(stat.rsplit(')').next(), Some("") | None) && !stat.contains(") Z ")
}

/// Of `engine`'s container: the process that keeps its log.
fn shim_of(bench: &Bench, id: &str) -> i32 {
    let path = bench
        .folder
        .path()
        .join("engine/containers")
        .join(id)
        .join("state.json");
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
    state["shim"]["pid"].as_i64().expect("a number") as i32
}

/// The container ends, its end is told, and nothing is left.
async fn a_killed_shim(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    // While somebody waits, and while nobody looks.
    for (id, waits) in [("waited", true), ("later", false)] {
        let spec = bench.spec(
            id,
            "trap '' HUP PIPE TERM; (while :; do sleep 0.1; done) & while :; do sleep 0.1; done",
        );
        let pid = bench.engine.start(&spec).await.expect("starts").pid;
        let shim = shim_of(&bench, id);
        let kill = || {
            // SAFETY: sends a signal to a process that this test started.
            unsafe { libc::kill(shim, libc::SIGKILL) };
        };
        let exit = if waits {
            let (exit, ()) = tokio::join!(bench.engine.wait(id), async { kill() });
            exit.expect("ends")
        } else {
            kill();
            until("the shim's end", async || !alive(shim as u32)).await;
            let status = bench.engine.status(id).await.expect("known");
            assert_eq!((status.phase, status.pid), (Phase::Exited, 0), "{name}");
            status.exit.expect("it ended")
        };
        assert_eq!(
            (exit.code, exit.oom_killed, exit.lost),
            (137, false, true),
            "{name}"
        );
        // The same word from now on.
        assert_eq!(bench.engine.wait(id).await.expect("ended"), exit, "{name}");
        assert!(bench.engine.exec(id, request("true")).await.is_err());
        bench.engine.remove(id).await.expect("removed");
        until("the container's end", async || !alive(pid)).await;
        assert!(
            bench.engine.list().await.expect("lists").is_empty(),
            "{name}"
        );
        for cgroup in bench.cgroups() {
            assert!(!cgroup.join(id).exists(), "{name}: {}", cgroup.display());
        }
    }
}

/// The process from which `bench`'s shims are made, as a list of processes tells it.
fn zygotes(bench: &Bench) -> Vec<i32> {
    let root = bench.folder.path().join("engine").display().to_string();
    let all = std::fs::read_dir("/proc").expect("lists").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let zygote = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        line.ends_with(&format!("zygote\0{root}\0")) && name.trim() == "engine-shim"
    };
    pids.filter(zygote).collect()
}

/// The only one, once there is no other.
async fn zygote(bench: &Bench) -> i32 {
    // A fork bears its parent's name for a moment.
    until("one zygote", async || zygotes(bench).len() == 1).await;
    zygotes(bench)[0]
}

/// Killed, it is made anew once its last fork has become a shim; it ends with its engine, and
/// the shims stay.
async fn a_zygote(runtime: Runtime) {
    let mut bench = Bench::new(runtime);
    let wait = "while :; do sleep 0.1; done";
    let start = async |bench: &Bench, id: &str| {
        let started = bench.engine.start(&bench.spec(id, wait)).await;
        started.expect("starts");
    };
    assert_eq!(zygotes(&bench), [0; 0], "none before it is needed");
    start(&bench, "first").await;
    let first = zygote(&bench).await;
    // SAFETY: sends a signal to a process that this test started.
    unsafe { libc::kill(first, libc::SIGKILL) };
    start(&bench, "second").await;
    start(&bench, "third").await;
    let second = zygote(&bench).await;
    assert_ne!(first, second);

    let next = Bench::open(bench.folder.path(), runtime, &bench.parent);
    drop(std::mem::replace(&mut bench.engine, next));
    assert!(!alive(second as u32));
    let all = bench.engine.list().await.expect("lists");
    assert_eq!(all.len(), 3);
    for container in all {
        assert_eq!(container.phase, Phase::Running);
        bench.engine.remove(&container.id).await.expect("removed");
    }
}

/// An engine takes its own cgroups away.
async fn no_cgroup_is_left(runtime: Runtime) {
    let bench = Bench::new(runtime);
    assert_eq!(bench.run(&bench.spec("short", "exit 3")).await.0, 3);
    let open = bench.cgroups();
    assert!(!open.is_empty(), "they stay while the engine is open");
    let (folder, parent) = (bench.folder.path().to_path_buf(), bench.parent.clone());
    drop(Bench::open(&folder, runtime, &parent));
    assert_eq!(bench.cgroups(), [""; 0].map(std::path::PathBuf::from));
    // And finds what it needs again.
    assert_eq!(bench.run(&bench.spec("again", "exit 4")).await.0, 4);
}

async fn what_cannot_start(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    let rootfs = bench.folder.path().join("rootfs");
    std::fs::write(rootfs.join("plain"), "text").expect("written");
    std::fs::write(rootfs.join("lost"), "#!/none\n").expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(rootfs.join("lost"), executable).expect("set");
    own(&rootfs);
    let table = [
        ("no-such-thing", "/", 127),
        ("/bin/no-such-thing", "/", 127),
        ("/plain", "/", 126),
        ("/tmp", "/", 126),
        ("sh", "/plain", 126),
        ("sh", "/plain/below", 126),
    ];
    for (command, cwd, code) in table {
        let mut spec = bench.spec("fault", "");
        spec.args = vec![command.into()];
        spec.cwd = cwd.into();
        let error = bench
            .engine
            .start(&spec)
            .await
            .expect_err("nothing to start");
        let EngineError::Start { fault, .. } = &error else {
            panic!("{name}: {command}: {error}");
        };
        assert_eq!(fault.exit_code(), code, "{name}: {command}: {error}");
        let kind = match fault {
            StartFault::NotFound(what) => what == command && code == 127,
            StartFault::NotExecutable { command: what, .. } => what == command && cwd == "/",
            StartFault::NoDirectory { path, .. } => path == cwd,
        };
        assert!(kind, "{name}: {error}");
        assert!(bench.engine.list().await.expect("lists").is_empty());
    }
    // What only the kernel finds out, when all is set up.
    let mut spec = bench.spec("late", "");
    spec.args = vec!["/lost".into()];
    match bench.engine.start(&spec).await {
        Err(EngineError::Start { fault, .. }) => assert!(fault.exit_code() >= 126, "{fault}"),
        Err(error) => panic!("{name}: {error}"),
        // Runtimes that are programs of their own do not tell.
        Ok(_) => {
            assert_ne!(runtime, Runtime::Libcontainer);
            assert_ne!(bench.engine.wait("late").await.expect("ends").code, 0);
            bench.engine.remove("late").await.expect("removed");
        }
    }
    // A working directory that is not there is made, by links inside too.
    std::os::unix::fs::symlink("/data", rootfs.join("link")).expect("linked");
    for (id, cwd, shown) in [
        ("made", "/made/by/us", "/made/by/us"),
        ("linked", "/link/../link/deep", "/data/deep"),
    ] {
        let mut spec = bench.spec(id, "busybox pwd -P; touch here && echo written");
        spec.cwd = cwd.into();
        let expected = (0, format!("{shown}\nwritten"));
        assert_eq!(bench.run(&spec).await, expected, "{name}");
    }
}

/// Two files, and no more than their bounds.
async fn a_log_turns(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    let spec = bench.spec(
        "talks",
        "yes a line of some length, again and again and again | head -n 200000; echo last",
    );
    assert_eq!(bench.run(&spec).await.0, 0);
    let path = bench.engine.log_path("talks");
    let mut old = path.clone().into_os_string();
    old.push(".1");
    for path in [path, old.into()] {
        let bytes = std::fs::metadata(&path).expect("there").len();
        assert!((1..=LOG_BYTES_MAX).contains(&bytes), "{name}: {bytes}");
    }
    assert!(!bench.engine.log_path("talks.2").exists());
    assert!(
        bench.log("talks").iter().any(|l| l.text == "last"),
        "{name}"
    );
}

/// A first process of ours: reaps, passes signals on, ends as the command does.
async fn first_process(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    let mut spec = bench.spec("reaps", "echo $$; for i in 1 2 3; do (sleep 0.2 &); done; sleep 1; ls -d /proc/[0-9]*; cat /proc/1/cmdline | busybox tr '\\0' ' '; exit 6");
    spec.init = true;
    spec.user = UserSpec {
        uid: 1000,
        gid: 1000,
        additional: vec![],
    };
    let (code, said) = bench.run(&spec).await;
    assert_eq!(code, 6, "{name}: {said}");
    let processes = said.lines().filter(|l| l.starts_with("/proc/")).count();
    assert_eq!(processes, 2, "{name}: itself and the command: {said}");
    assert!(said.contains("/dev/init sh -c"), "{name}: {said}");

    let mut spec = bench.spec(
        "told",
        "trap 'echo told; exit 5' USR1; echo ready; while :; do sleep 0.1; done",
    );
    spec.init = true;
    spec.read_only = true;
    spec.mounts = vec![Mount {
        target: "/scratch".into(),
        source: MountFrom::Tmpfs(types::TmpfsSpec::of(1 << 20)),
        read_only: false,
    }];
    bench.engine.start(&spec).await.expect("starts");
    until("its words", async || !bench.log("told").is_empty()).await;
    let exit = bench
        .engine
        .stop("told", libc::SIGUSR1, Duration::from_secs(20))
        .await;
    assert_eq!(exit.expect("stops").code, 5, "{name}");
    bench.engine.remove("told").await.expect("removed");

    let mut spec = bench.spec("owned", "busybox stat -c '%a %u %g' /scratch");
    spec.mounts = vec![Mount {
        target: "/scratch".into(),
        source: MountFrom::Tmpfs(types::TmpfsSpec {
            bytes: 1 << 20,
            uid: 7,
            gid: 8,
            mode: 0o2750,
        }),
        read_only: false,
    }];
    let (code, said) = bench.run(&spec).await;
    assert_eq!((code, said.as_str()), (0, "2750 7 8"), "{name}");

    for (script, code) in [("kill -9 $$", 137), ("exit 0", 0)] {
        let mut spec = bench.spec("ends", script);
        spec.init = true;
        assert_eq!(bench.run(&spec).await.0, code, "{name}: {script}");
    }
    let mut spec = bench.spec("absent", "");
    spec.args = vec!["no-such-thing".into()];
    spec.init = true;
    let (code, said) = bench.run(&spec).await;
    assert!(
        code == 127 && said.contains("no-such-thing"),
        "{name}: {code} {said}"
    );

    // In front at its terminal.
    let mut spec = bench.spec("shown", "tty; stty size; echo end");
    spec.init = true;
    spec.terminal = true;
    let (code, said) = bench.run(&spec).await;
    assert_eq!(
        (code, said.as_str()),
        (0, "/dev/pts/0\n24 80\nend"),
        "{name}"
    );
}

each!(
    a_killed_shim,
    a_zygote,
    no_cgroup_is_left,
    what_cannot_start,
    a_log_turns,
    first_process
);
