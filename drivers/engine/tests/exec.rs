//! Commands beside a container's own process, and terminals; runs as root.

#[macro_use]
mod bench;

use bench::*;
use engine::{Engine, ExecInput, ExecOutput, ExecRequest, ExecSession, Runtime, UserSpec};

const RIGHTS: &str = "for n in user pid ipc uts mnt net cgroup; do readlink /proc/self/ns/$n; done; \
    cat /proc/self/uid_map /proc/self/gid_map /proc/self/cgroup; \
    busybox grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; \
    pwd; ulimit -n; umask; echo $HOME $GREETING $PATH";

/// Nothing more than the container's own process has, and nothing of the machine's.
async fn no_more_rights(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    let users = [(0, 0, vec![]), (1000, 1001, vec![44])];
    let netns = bench.netns();
    for (uid, gid, additional) in users {
        let id = format!("rights-{uid}");
        let mut spec = bench.spec(&id, &format!("{RIGHTS}; sleep 60"));
        spec.netns = netns.clone();
        spec.cwd = "/tmp".into();
        spec.user = UserSpec {
            uid,
            gid,
            additional,
        };
        bench.engine.start(&spec).await.expect("starts");
        until("its rights", async || {
            bench.log(&id).iter().any(|l| l.text.contains("hello"))
        })
        .await;
        let own: Vec<String> = bench.log(&id).into_iter().map(|l| l.text).collect();
        let (_, beside) = bench.exec(&id, RIGHTS, false, b"").await;
        assert_eq!(own, beside.lines().collect::<Vec<_>>(), "{name}");
        assert!(beside.contains("231072"), "{name}: {beside}");
        assert!(beside.contains("NoNewPrivs:\t1"), "{name}: {beside}");
        let (_, other) = bench.exec(&id, "cat /proc/1/cgroup", false, b"").await;
        assert!(
            other
                .lines()
                .all(|l| l.ends_with(":/") || l.contains("/..")),
            "{name}: a container is at the root of its cgroups: {other}"
        );
        // Another user than the container's own.
        let asked = ExecRequest {
            user: Some(UserSpec {
                uid: 7,
                gid: 8,
                additional: vec![9],
            }),
            cwd: Some("/etc".into()),
            env: vec!["GREETING=other".into()],
            ..request(
                "id -u; id -g; id -G; pwd; echo $GREETING; busybox grep CapEff /proc/self/status",
            )
        };
        let session = bench.engine.exec(&id, asked).await.expect("exec");
        let (code, said) = to_its_end(session).await;
        let expected = "7\n8\n8 9\n/etc\nother\nCapEff:\t0000000000000000\n";
        assert_eq!((code, said.as_str()), (0, expected), "{name}");
        bench.engine.remove(&id).await.expect("removed");
    }
}

/// What cannot run says why, with a shell's codes.
async fn what_cannot_run(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    let spec = bench.spec("host", "echo '#!/none' > /tmp/lost; busybox chmod 755 /tmp/lost; echo x > /tmp/plain; echo made; sleep 60");
    bench.engine.start(&spec).await.expect("starts");
    until("the files", async || !bench.log("host").is_empty()).await;
    let table = [
        ("no-such-thing", None, 127, "is not in the image"),
        ("/tmp/plain", None, 126, "permission denied"),
        ("/tmp", None, 126, "directory"),
        ("/tmp/lost", None, 126, "interpreter"),
        ("true", Some("/nowhere"), 126, "\"/nowhere\""),
        ("true", Some("/tmp/plain"), 126, "not a directory"),
    ];
    for terminal in [false, true] {
        for (command, cwd, code, why) in table {
            let asked = ExecRequest {
                args: vec![command.into()],
                cwd: cwd.map(String::from),
                terminal,
                ..request("")
            };
            let session = bench.engine.exec("host", asked).await.expect("exec");
            let (found, said) = to_its_end(session).await;
            assert_eq!(found, code, "{name}: {command}: {said}");
            assert!(said.contains(why), "{name}: {command}: {said}");
        }
    }
    bench.engine.remove("host").await.expect("removed");
}

/// Sees what is said, waits for words, types.
struct Screen {
    session: ExecSession,
    shown: String,
}

impl Screen {
    async fn open(bench: &Bench, id: &str, script: &str) -> Self {
        let asked = ExecRequest {
            terminal: true,
            ..request(script)
        };
        Self {
            session: bench.engine.exec(id, asked).await.expect("exec"),
            shown: String::new(),
        }
    }

    /// Until `words` are shown; they are forgotten with all before them.
    async fn sees(&mut self, words: &str) {
        while !self.shown.contains(words) {
            match self.session.output.recv().await {
                Some(ExecOutput::Stdout(data) | ExecOutput::Stderr(data)) => {
                    self.shown.push_str(&String::from_utf8_lossy(&data));
                }
                other => panic!("{words:?} did not come: {other:?} after {:?}", self.shown),
            }
        }
        let at = self.shown.find(words).expect("there") + words.len();
        self.shown.drain(..at);
    }

    async fn types(&mut self, text: &str) {
        let sent = self.session.input.send(ExecInput::Stdin(text.into())).await;
        sent.expect("sent");
    }

    async fn resize(&mut self, rows: u16, columns: u16) {
        let sent = self
            .session
            .input
            .send(ExecInput::Resize { rows, columns })
            .await;
        sent.expect("sent");
    }
}

async fn terminals(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    bench
        .engine
        .start(&bench.spec("host", "sleep 60"))
        .await
        .expect("starts");
    // A name and a size from the first moment, for another user too.
    let (code, said) = bench
        .exec(
            "host",
            "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; exit 4",
            true,
            b"",
        )
        .await;
    assert_eq!(
        (code, said.as_str()),
        (4, "/dev/pts/0\n33 77\nall\n"),
        "{name}"
    );
    let asked = ExecRequest {
        terminal: true,
        user: Some(UserSpec {
            uid: 1000,
            gid: 1000,
            additional: vec![],
        }),
        ..request("echo named > $(tty); echo held > /dev/tty")
    };
    let session = bench.engine.exec("host", asked).await.expect("exec");
    assert_eq!(
        to_its_end(session).await,
        (0, "named\nheld\n".into()),
        "{name}"
    );

    // Resized in the middle: the program is told. Typed lines come, Ctrl-C interrupts,
    // Ctrl-D ends.
    let mut screen = Screen::open(&bench, "host", "trap 'stty size' WINCH; trap 'echo stopped' INT; echo ready; while :; do read line && echo got $line; test \"$line\" = end && exit 5; done").await;
    screen.sees("ready").await;
    screen.resize(50, 132).await;
    screen.sees("50 132").await;
    screen.types("words\n").await;
    screen.sees("got words").await;
    screen.types("\x03").await;
    screen.sees("stopped").await;
    screen.types("end\n").await;
    screen.sees("got end").await;
    assert_eq!(to_its_end(screen.session).await.0, 5, "{name}");
    assert_eq!(
        bench.exec("host", "cat", true, b"line\n\x04").await,
        (0, "line\nline\n".into()),
        "{name}"
    );

    // A program that takes the whole screen.
    let mut screen = Screen::open(&bench, "host", "vi /tmp/note && cat /tmp/note").await;
    screen.sees("/tmp/note").await;
    screen.types("ihello there\x1b").await;
    screen.sees("hello there").await;
    screen.types(":wq\n").await;
    let (code, said) = to_its_end(screen.session).await;
    assert!(code == 0 && said.contains("hello there"), "{name}: {said}");

    // Who leaves ends what he ran, with a terminal and without, what ignores him too.
    let stubborn = "trap '' HUP TERM INT; echo ready; while :; do sleep 0.1; done";
    let stays = async || {
        let look =
            "for p in /proc/[0-9]*; do busybox grep -q 'echo [r]eady' $p/cmdline && echo $p; done";
        bench
            .exec("host", look, false, b"")
            .await
            .1
            .contains("/proc/")
    };
    for terminal in [false, true] {
        let asked = ExecRequest {
            terminal,
            ..request(stubborn)
        };
        let session = bench.engine.exec("host", asked).await.expect("exec");
        let mut screen = Screen {
            session,
            shown: String::new(),
        };
        screen.sees("ready").await;
        assert!(stays().await, "{name}");
        drop(screen);
        until("the end of what nobody listens to", async || !stays().await).await;
    }

    // A service's own terminal.
    let mut spec = bench.spec(
        "own",
        "tty; stty size; test -t 1 && echo all; echo typed | cat > /dev/console; sleep 60",
    );
    spec.terminal = true;
    spec.user = UserSpec {
        uid: 1000,
        gid: 1000,
        additional: vec![],
    };
    bench.engine.start(&spec).await.expect("starts");
    until("its words", async || bench.log("own").len() >= 4).await;
    let said: Vec<String> = bench.log("own").into_iter().map(|l| l.text).collect();
    assert_eq!(said, ["/dev/pts/0", "24 80", "all", "typed"], "{name}");
    let (_, said) = bench.exec("own", "tty", true, b"").await;
    assert_eq!(said, "/dev/pts/1\n", "{name}");
    for id in ["own", "host"] {
        bench.engine.remove(id).await.expect("removed");
    }
}

/// Input that stays open, and input that is at its end.
async fn inputs(runtime: Runtime) {
    let bench = Bench::new(runtime);
    let name = runtime.name();
    assert_eq!(
        bench.run(&bench.spec("closed", "cat; echo end")).await,
        (0, "end".into()),
        "{name}"
    );
    let mut spec = bench.spec("open", "echo begun; cat; echo end");
    spec.stdin_open = true;
    spec.user = UserSpec {
        uid: 1000,
        gid: 1000,
        additional: vec![],
    };
    bench.engine.start(&spec).await.expect("starts");
    until("its begin", async || !bench.log("open").is_empty()).await;
    // It can be written to from beside.
    let (code, _) = bench
        .exec("open", "echo hello > /proc/1/fd/0", false, b"")
        .await;
    assert_eq!(code, 0, "{name}");
    until("what was written", async || {
        bench.log("open").iter().any(|l| l.text == "hello")
    })
    .await;
    assert!(bench.log("open").iter().all(|l| l.text != "end"), "{name}");
    bench.engine.remove("open").await.expect("removed");
}

each!(no_more_rights, what_cannot_run, terminals, inputs);
