//! The process between the agent and one container: starts it, keeps its log, sees it end.
//!
//! Single-threaded, no runtime. It outlives the agent; what it knows lies in files beside
//! it: `state.json` once the container runs, `exit.json` when it has ended.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::runtime::{self, Ends};
use crate::{ContainerSpec, ExecRequest, Exit, LogLine, Runtime, bundle, cgroup, probe};

/// Longer lines are cut into several.
const LINE_MAX: usize = 16 << 10;
const LOG_MAX: u64 = 10 << 20;
/// How long output is waited for after the container has ended.
const DRAIN: Duration = Duration::from_millis(500);

/// What `shim start` is told.
#[derive(Serialize, Deserialize)]
pub struct Order {
    pub spec: ContainerSpec,
    pub runtime: Runtime,
    pub folder: PathBuf,
    /// Where the runtime keeps its own state.
    pub states: PathBuf,
    pub log: PathBuf,
    /// `/runrig/…` under every controller.
    pub cgroup: String,
}

/// A process, told from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks after boot.
    pub started: u64,
}

impl Process {
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain anything, even brackets.
        let rest = &stat[stat.rfind(')')? + 2..];
        let mut fields = rest.split(' ');
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, started })
    }

    pub fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub shim: Process,
    pub container: Process,
    pub started_ms: u64,
}

pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

pub fn write_file<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(value)?)?;
    std::fs::rename(fresh, path)
}

/// Signals as a payload is to find them, whatever the agent was started with.
///
/// Whoever writes to a closed pipe, and whoever leads a session whose terminal goes, gets a
/// signal. The shim survives both by a handler that does nothing: unlike a signal that is
/// ignored, it does not outlive `execve`.
fn fresh_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    // The kernel's own form: the C library keeps two signals back from its callers.
    let default = [0u64; 4];
    // SAFETY: the default action runs no code of ours (SIGKILL and SIGSTOP refuse it), the
    // handler touches nothing, action and mask are ours and live through the calls.
    unsafe {
        for number in 1..=64 {
            let old = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), old, 8);
        }
        let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::signal(libc::SIGPIPE, handler);
        libc::signal(libc::SIGHUP, handler);
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Entry of the re-executed program; never returns.
pub fn shim_main(args: &[String]) -> ! {
    fresh_signals();
    let code = match args {
        [verb, order] if verb == "start" => start(Path::new(order)),
        [verb, root, id, runtime, request] if verb == "exec" => {
            exec(Path::new(root), id, runtime, request)
        }
        [verb, folder] if verb == "probe" => probe::shim(Path::new(folder)),
        _ => {
            eprintln!("the shim is started by a host agent, not by hand");
            2
        }
    };
    std::process::exit(code)
}

fn start(order: &Path) -> i32 {
    // The agent waits for the one it started; the one that stays is its child.
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => return 1,
        0 => {}
        _ => return 0,
    }
    // SAFETY: plain requests about this process.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    let answer = |line: Result<State, String>| {
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        // An agent that died meanwhile reads the files.
        let _ = std::io::stdout().write_all(&line);
        let _ = std::io::stdout().flush();
        if let Ok(null) = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
        {
            for fd in 0..3 {
                // SAFETY: both are open descriptors of ours.
                unsafe { libc::dup2(null.as_raw_fd(), fd) };
            }
        }
    };
    let order: Order = match std::fs::read(order)
        .map_err(|e| e.to_string())
        .and_then(|b| serde_json::from_slice(&b).map_err(|e| e.to_string()))
    {
        Ok(order) => order,
        Err(error) => {
            answer(Err(format!("the order cannot be read: {error}")));
            return 1;
        }
    };
    match run(&order) {
        Ok((state, outputs)) => {
            if let Err(error) = write_file(&order.folder.join("state.json"), &state) {
                answer(Err(format!("write state.json: {error}")));
                return 1;
            }
            answer(Ok(state.clone()));
            attend(&order, &state, outputs);
            0
        }
        Err(error) => {
            let _ = cgroup::remove(&order.cgroup);
            answer(Err(error));
            1
        }
    }
}

struct Output {
    from: OwnedFd,
    stream: &'static str,
    line: Vec<u8>,
    open: bool,
}

fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("make a pipe: {e}"))
}

fn run(order: &Order) -> Result<(State, Vec<Output>), String> {
    let filters = order.runtime != Runtime::Libcontainer;
    bundle::make(&order.spec, &order.cgroup, filters)?;
    let output = |from, stream| Output {
        from,
        stream,
        line: Vec::new(),
        open: true,
    };
    let (ends, outputs) = if order.spec.terminal {
        let pty = nix::pty::openpty(None, None).map_err(|e| format!("open a terminal: {e}"))?;
        let ends = Ends {
            stdin: runtime::duplicate(&pty.slave)?,
            stdout: runtime::duplicate(&pty.slave)?,
            stderr: pty.slave,
        };
        // SAFETY: a descriptor of ours, given to the container's user.
        unsafe {
            let owner = order.spec.uid_base + order.spec.user.uid;
            libc::fchown(ends.stdin.as_raw_fd(), owner, order.spec.uid_base);
        }
        (ends, vec![output(pty.master, "stdout")])
    } else {
        let (out_read, out_write) = pipe()?;
        let (err_read, err_write) = pipe()?;
        for end in [&out_write, &err_write] {
            // So that /dev/stdout can be opened anew by a payload that is not root.
            // SAFETY: a descriptor of ours, given to the container's user.
            unsafe {
                let owner = order.spec.uid_base + order.spec.user.uid;
                libc::fchown(end.as_raw_fd(), owner, order.spec.uid_base);
            }
        }
        let null = std::fs::File::open("/dev/null").map_err(|e| e.to_string())?;
        let ends = Ends {
            stdin: null.into(),
            stdout: out_write,
            stderr: err_write,
        };
        (
            ends,
            vec![output(out_read, "stdout"), output(err_read, "stderr")],
        )
    };
    if order.runtime == Runtime::Crun {
        cgroup::claim_loose()?;
    }
    let pid = runtime::start(order.runtime, &order.states, &order.spec.id, ends)?;
    let mine = Process::of(std::process::id() as i32).ok_or("the shim cannot see itself")?;
    let state = State {
        shim: mine,
        // A payload may have ended already; its number is still ours to reap.
        container: Process::of(pid).unwrap_or(Process { pid, started: 0 }),
        started_ms: now_ms(),
    };
    Ok((state, outputs))
}

/// Pumps the log until the container has ended, then says how.
fn attend(order: &Order, state: &State, mut outputs: Vec<Output>) {
    let mut log = Log::open(&order.log);
    // SAFETY: makes a descriptor for a child of ours; -1 if it is gone already.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, state.container.pid, 0) } as i32;
    // SAFETY: just made, owned by nobody else.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    let mut ended: Option<Instant> = if pidfd.is_some() {
        None
    } else {
        Some(Instant::now())
    };
    loop {
        let open: Vec<usize> = (0..outputs.len()).filter(|i| outputs[*i].open).collect();
        let late = ended.is_some_and(|at| at.elapsed() > DRAIN);
        if late || (ended.is_some() && open.is_empty()) {
            break;
        }
        let ready: Vec<(usize, bool)> = {
            let mut fds: Vec<PollFd> = open
                .iter()
                .map(|i| {
                    PollFd::new(
                        std::os::fd::AsFd::as_fd(&outputs[*i].from),
                        PollFlags::POLLIN,
                    )
                })
                .collect();
            if let (Some(pidfd), None) = (&pidfd, ended) {
                fds.push(PollFd::new(
                    std::os::fd::AsFd::as_fd(pidfd),
                    PollFlags::POLLIN,
                ));
            }
            let limit = if ended.is_some() {
                PollTimeout::from(50u8)
            } else {
                PollTimeout::NONE
            };
            let _ = poll(&mut fds, limit);
            fds.iter()
                .enumerate()
                .map(|(at, fd)| (at, fd.any().unwrap_or(false)))
                .collect()
        };
        for (at, ready) in ready {
            if !ready {
                continue;
            }
            match open.get(at) {
                Some(index) => pump(&mut outputs[*index], &mut log),
                None => ended = Some(Instant::now()),
            }
        }
    }
    for output in &mut outputs {
        flush(output, &mut log);
    }
    let code = reap(state.container.pid);
    let oom = cgroup::oom_killed(&cgroup::directories(&order.cgroup));
    let exit = Exit {
        code,
        oom_killed: oom && code != 0,
        at_ms: now_ms(),
    };
    if order.runtime == Runtime::Crun {
        cgroup::release_claimed(&order.cgroup);
    }
    if let Err(error) = write_file(&order.folder.join("exit.json"), &exit) {
        log.write(
            "stderr",
            format!("runrig: the exit code {code} cannot be kept: {error}").as_bytes(),
        );
    }
}

fn pump(output: &mut Output, log: &mut Log) {
    let mut buffer = [0u8; 32 << 10];
    // SAFETY: reads into a buffer of ours.
    let read = unsafe {
        libc::read(
            output.from.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    if read <= 0 {
        output.open = false;
        return;
    }
    for byte in &buffer[..read as usize] {
        if *byte == b'\n' {
            log.write(output.stream, &output.line);
            output.line.clear();
        } else {
            output.line.push(*byte);
            if output.line.len() >= LINE_MAX {
                flush(output, log);
            }
        }
    }
}

fn flush(output: &mut Output, log: &mut Log) {
    if !output.line.is_empty() {
        log.write(output.stream, &output.line);
        output.line.clear();
    }
}

fn reap(pid: i32) -> i32 {
    let mut found = 255;
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and lives through the call.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if ended <= 0 {
            return found;
        }
        if ended == pid {
            found = runtime::code(status);
        }
    }
}

struct Log {
    path: PathBuf,
    file: Option<std::fs::File>,
    bytes: u64,
}

impl Log {
    fn open(path: &Path) -> Self {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .ok();
        let bytes = file
            .as_ref()
            .and_then(|f| f.metadata().ok())
            .map_or(0, |m| m.len());
        Self {
            path: path.into(),
            file,
            bytes,
        }
    }

    /// A full disk costs log lines, never the container.
    fn write(&mut self, stream: &str, line: &[u8]) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let line = LogLine {
            at_ms: now_ms(),
            stream: stream.into(),
            text,
        };
        let Ok(mut bytes) = serde_json::to_vec(&line) else {
            return;
        };
        bytes.push(b'\n');
        if self.bytes + bytes.len() as u64 > LOG_MAX {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            let _ = std::fs::rename(&self.path, old);
            *self = Self::open(&self.path);
        }
        if let Some(file) = &mut self.file
            && file.write_all(&bytes).is_ok()
        {
            self.bytes += bytes.len() as u64;
        }
    }
}

fn exec(root: &Path, id: &str, runtime: &str, request: &str) -> i32 {
    let parsed = Runtime::named(runtime).zip(serde_json::from_str::<ExecRequest>(request).ok());
    let Some((runtime, request)) = parsed else {
        eprintln!("the request cannot be read");
        return 126;
    };
    // SAFETY: plain requests about this process and its own descriptor 0.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if runtime != Runtime::Libcontainer && libc::isatty(0) == 1 {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
        }
    }
    let folder = root.join("containers").join(id);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
    let order = serde_json::from_slice::<Order>(&read("order.json"));
    // The bundle lies in the shim's mount namespace.
    let entered = serde_json::from_slice::<State>(&read("state.json"))
        .ok()
        .is_some_and(|state| {
            use nix::sched::{CloneFlags, setns, unshare};
            let open = |pid: i32, kind: &str| std::fs::File::open(format!("/proc/{pid}/ns/{kind}"));
            let (Ok(mounts), Ok(net)) = (
                open(state.shim.pid, "mnt"),
                open(state.container.pid, "net"),
            ) else {
                return false;
            };
            // The container's network is the shim's: no runtime enters it by itself.
            setns(net, CloneFlags::CLONE_NEWNET).is_ok()
                && unshare(CloneFlags::CLONE_FS).is_ok()
                && setns(mounts, CloneFlags::CLONE_NEWNS).is_ok()
        });
    let (true, Ok(order)) = (entered, order) else {
        eprintln!("the container's shim is gone; restart the container");
        return 126;
    };
    // Beside the container's own variables.
    let mut request = request;
    let mut env = order.spec.env;
    env.append(&mut request.env);
    request.env = env;
    match runtime::exec(runtime, &root.join("runtime"), id, &request) {
        Ok(code) => code,
        Err(why) => {
            eprintln!(
                "cannot run {}: {why}",
                request.args.first().map_or("", String::as_str)
            );
            if why.contains("not found") { 127 } else { 126 }
        }
    }
}

/// All of a small stream.
pub fn read_line(mut from: impl Read) -> String {
    let mut text = String::new();
    let mut byte = [0u8; 1];
    while matches!(from.read(&mut byte), Ok(1)) && byte[0] != b'\n' && text.len() < 64 << 10 {
        text.push(char::from(byte[0]));
    }
    text
}
