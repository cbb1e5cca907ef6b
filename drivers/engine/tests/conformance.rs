//! One table of cases over every runtime that is installed; runs as root.

mod bench;

use std::os::unix::fs::chown;
use std::time::{Duration, Instant};

use bench::*;
use engine::{Engine, EngineError, Mount, MountFrom, Phase, Runtime, StartFault, UserSpec};

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
            source: MountFrom::Tmpfs(types::TmpfsSpec::of(1 << 20)),
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

    // A part of a volume, whose content is a stranger's: no link leads out of it.
    let volume = bench.folder.path().join("parts");
    std::fs::create_dir(&volume).expect("made");
    chown(&volume, Some(UIDS), Some(UIDS)).expect("owned");
    std::fs::write(volume.join("file"), "one file\n").expect("written");
    std::os::unix::fs::symlink(bench.folder.path(), volume.join("out")).expect("linked");
    std::os::unix::fs::symlink("fresh/inner", volume.join("in")).expect("linked");
    let part = |target: &str, path: &str| Mount {
        target: target.into(),
        source: MountFrom::Part {
            directory: volume.clone(),
            path: path.into(),
        },
        read_only: false,
    };
    let script = "cat /file; echo x > /data/y; ls /link; busybox stat -c '%u %g' /data";
    let mut spec = bench.spec("part", script);
    spec.user.uid = 7;
    spec.user.gid = 8;
    spec.mounts = vec![
        part("/data", "fresh/inner"),
        part("/file", "file"),
        part("/link", "in"),
    ];
    let (_, said) = bench.run(&spec).await;
    for text in ["one file", "y", "7 8"] {
        assert!(said.lines().any(|line| line == text), "{name}: {said}");
    }
    assert!(volume.join("fresh/inner/y").exists());
    let mut spec = bench.spec("part-out", "true");
    spec.mounts = vec![part("/data", "out/volume")];
    let refused = bench.engine.start(&spec).await.expect_err("it leads out");
    assert!(refused.to_string().contains("out/volume"), "{refused}");
    assert_eq!(
        std::fs::read_dir(bench.folder.path().join("volume"))
            .expect("there")
            .count(),
        1
    );

    // A secret is a file in memory, for whom it is meant; nothing of it lies on the disk.
    let mut spec = bench.spec(
        "secret",
        "cat /run/secrets/a; cat /run/secrets/b; echo x > /run/secrets/a; \
         busybox stat -c '%a %u %g' /run/secrets/a; busybox stat -f -c %T /run/secrets/a; echo end; sleep 60",
    );
    spec.user.uid = 1000;
    let secret = |target: &str, text: &str, uid| Mount {
        target: target.into(),
        source: MountFrom::Memory {
            content: engine::Hidden::new(text.into()),
            uid,
            gid: 7,
            mode: 0o400,
        },
        read_only: true,
    };
    spec.mounts = vec![
        secret("/run/secrets/a", "the-first-value\n", 1000),
        secret("/run/secrets/b", "the-other-value\n", 0),
    ];
    bench.engine.start(&spec).await.expect("starts");
    until("its end", async || {
        bench.log("secret").iter().any(|l| l.text == "end")
    })
    .await;
    let texts = bench.log("secret").into_iter().map(|l| l.text);
    let said = texts.collect::<Vec<_>>().join("\n");
    for part in [
        "the-first-value",
        "400 1000 7",
        "tmpfs",
        "Permission denied",
    ] {
        assert!(said.contains(part), "{name}: no {part:?} in {said}");
    }
    assert!(said.contains("Read-only file system"), "{name}: {said}");
    let upper = bench.folder.path();
    let found = std::process::Command::new("grep")
        .args(["-rlE", "the-(first|other)-value", "--exclude=*.log"])
        .arg(upper)
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{name}");
    bench.engine.remove("secret").await.expect("removed");

    // What a service asks for of its rights, and no more; beside its process too.
    let asks = "exec 2>&1; busybox grep -E 'CapBnd|CapEff' /proc/self/status; ulimit -n; ulimit -Hc; \
        cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax /proc/self/oom_score_adj; \
        busybox df -k /dev/shm | busybox tail -1; echo x > /proc/sys/net/core/somaxconn; id -G";
    let mut spec = bench.spec("rights", &format!("{asks}; echo end; sleep 60"));
    spec.netns = bench.netns();
    spec.user.additional = vec![44];
    let named = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    let setting = |name: &str, value: &str| (name.to_string(), value.to_string());
    let limit = |n| types::Ulimit {
        soft: Some(n),
        hard: Some(n),
    };
    spec.process = types::ProcessSpec {
        cap_drop: named(&["ALL"]),
        cap_add: named(&["CHOWN", "SYS_PTRACE"]),
        sysctls: [
            setting("net.core.somaxconn", "77"),
            setting("kernel.msgmax", "9000"),
        ]
        .into(),
        ulimits: [("nofile".into(), limit(99)), ("core".into(), limit(0))].into(),
        shm_bytes: 3 << 20,
        oom_score_adj: 321,
        cpu_shares: 256,
        ..Default::default()
    };
    let status = bench.engine.start(&spec).await.expect("starts");
    if let Some(cpu) = status.cgroups.get("cpu") {
        // A quarter of what half a core weighs.
        let shares = std::fs::read_to_string(cpu.join("cpu.shares")).expect("read");
        assert_eq!(shares.trim(), "128", "{name}");
    }
    until("its end", async || {
        bench.log("rights").iter().any(|l| l.text == "end")
    })
    .await;
    let texts = bench.log("rights").into_iter().map(|l| l.text);
    let own = texts.collect::<Vec<_>>().join("\n");
    let (_, beside) = bench.exec("rights", asks, false, b"").await;
    for said in [&own, &beside] {
        let lines: Vec<&str> = said.lines().collect();
        for line in [
            "CapBnd:\t0000000000080001",
            "CapEff:\t0000000000080001",
            "99",
            "0",
            "77",
            "9000",
        ] {
            assert!(lines.contains(&line), "{name}: no {line:?} in {said}");
        }
        assert!(said.contains(" 3072 "), "{name}: {said}");
        assert!(said.contains("Read-only file system"), "{name}: {said}");
        assert!(lines.contains(&"0 44"), "{name}: {said}");
    }
    assert!(own.lines().any(|l| l == "321"), "{name}: {own}");
    bench.engine.remove("rights").await.expect("removed");
    nix::mount::umount(&bench.folder.path().join("netns")).expect("the last user is gone");

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
    let error = bench.engine.start(&spec).await;
    let error = error.expect_err("nothing to start");
    let absent = StartFault::NotFound("no-such-command".into());
    assert!(
        matches!(&error, EngineError::Start { fault, .. } if *fault == absent),
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
