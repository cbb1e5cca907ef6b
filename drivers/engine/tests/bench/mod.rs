//! What the tests stand on: an engine over a root file system of one busybox. Runs as root.
#![allow(dead_code, unused_macros)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use engine::{
    ContainerSpec, Engine, EngineConfig, ExecInput, ExecOutput, ExecRequest, ExecSession, LogLine,
    OciEngine, Runtime, UserSpec,
};
use types::Resources;

/// The same test for each runtime.
macro_rules! each {
    ($($case:ident),*) => {$(
        mod $case {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn libcontainer() {
                super::$case(Runtime::Libcontainer).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn runc() {
                assert!(installed(Runtime::Runc), "runc is missing: apt-get install runc");
                super::$case(Runtime::Runc).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn crun() {
                assert!(installed(Runtime::Crun), "crun is missing: apt-get install crun");
                super::$case(Runtime::Crun).await;
            }
        }
    )*};
}

pub const UIDS: u32 = 231_072;

pub struct Bench {
    pub engine: OciEngine,
    pub runtime: Runtime,
    pub folder: tempfile::TempDir,
    pub parent: String,
}

pub fn busybox() -> &'static Path {
    let path = Path::new("/bin/busybox");
    assert!(
        path.exists(),
        "/bin/busybox is missing: apt-get install busybox-static (cargo xtask test does it)"
    );
    path
}

impl Bench {
    pub fn new(runtime: Runtime) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let parent = format!(
            "/runrig/test-{}-{}-{serial}",
            runtime.name(),
            std::process::id()
        );
        let engine = Self::open(folder.path(), runtime, &parent);
        let rootfs = folder.path().join("rootfs");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "data"] {
            std::fs::create_dir_all(rootfs.join(name)).expect("made");
        }
        std::fs::copy(busybox(), rootfs.join("bin/busybox")).expect("copied");
        for name in [
            "sh", "cat", "echo", "id", "sleep", "hostname", "mount", "stty", "touch", "ls", "dd",
            "unshare", "env", "pwd", "yes", "head", "tty", "readlink", "kill", "vi",
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

    pub fn open(folder: &Path, runtime: Runtime, parent: &str) -> OciEngine {
        OciEngine::open(EngineConfig {
            root: folder.join("engine"),
            runtime,
            shim: vec![env!("CARGO_BIN_EXE_engine-shim").into()],
            cgroup_parent: parent.into(),
        })
        .expect("opens")
    }

    pub fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            args: ["sh", "-c", script].map(String::from).into(),
            env: vec!["PATH=/bin".into(), "GREETING=hello".into()],
            cwd: "/".into(),
            user: UserSpec::default(),
            hostname: "box".into(),
            terminal: false,
            stdin_open: false,
            init: false,
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
            process: Default::default(),
            nests: false,
        }
    }

    /// Its cgroups that are there, in every hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let parent = self.parent.trim_start_matches('/');
        let all = std::fs::read_dir("/sys/fs/cgroup").expect("read").flatten();
        let all = all.map(|at| at.path().join(parent));
        let all = all.chain([Path::new("/sys/fs/cgroup").join(parent)]);
        all.filter(|at| at.is_dir()).collect()
    }

    /// A namespace with nothing but lo.
    pub fn netns(&self) -> PathBuf {
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

    pub fn log(&self, id: &str) -> Vec<LogLine> {
        std::fs::read_to_string(self.engine.log_path(id))
            .unwrap_or_default()
            .lines()
            .map(|l| serde_json::from_str(l).expect("a log line"))
            .collect()
    }

    /// Runs `spec` to its end: exit code and what it said.
    pub async fn run(&self, spec: &ContainerSpec) -> (i32, String) {
        self.engine
            .start(spec)
            .await
            .unwrap_or_else(|e| panic!("{} {}: {e}", self.runtime.name(), spec.id));
        let exit = self.engine.wait(&spec.id).await.expect("ends");
        let said: Vec<String> = self.log(&spec.id).into_iter().map(|l| l.text).collect();
        self.engine.remove(&spec.id).await.expect("removed");
        (exit.code, said.join("\n"))
    }

    pub async fn exec(
        &self,
        id: &str,
        script: &str,
        terminal: bool,
        input: &[u8],
    ) -> (i32, String) {
        let request = ExecRequest {
            terminal,
            ..request(script)
        };
        let session = self.engine.exec(id, request).await.expect("exec");
        if !input.is_empty() {
            let sent = session.input.send(ExecInput::Stdin(input.into())).await;
            sent.expect("sent");
        }
        if !terminal {
            let sent = session.input.send(ExecInput::StdinClosed).await;
            sent.expect("sent");
        }
        to_its_end(session).await
    }
}

pub fn request(script: &str) -> ExecRequest {
    ExecRequest {
        args: ["sh", "-c", script].map(String::from).into(),
        env: vec!["MORE=yes".into()],
        cwd: None,
        user: None,
        terminal: false,
        rows: 33,
        columns: 77,
    }
}

/// Its code and what it said from now on, both streams.
pub async fn to_its_end(mut session: ExecSession) -> (i32, String) {
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

impl Drop for Bench {
    fn drop(&mut self) {
        // A test that failed in the middle leaves none running.
        let (folder, runtime) = (self.folder.path().to_path_buf(), self.runtime);
        let parent = self.parent.clone();
        let removed = std::thread::spawn(move || {
            let block = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            block.expect("a runtime").block_on(async {
                let engine = Self::open(&folder, runtime, &parent);
                for container in engine.list().await.unwrap_or_default() {
                    let _ = engine.remove(&container.id).await;
                }
            });
        });
        let _ = removed.join();
        let _ = nix::mount::umount(&self.folder.path().join("netns"));
    }
}

pub fn own(path: &Path) {
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

pub async fn until(what: &str, mut good: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !good().await {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn futures_join<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
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

pub fn installed(runtime: Runtime) -> bool {
    runtime == Runtime::Libcontainer
        || std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|p| p.join(runtime.name()).exists())
        })
}
