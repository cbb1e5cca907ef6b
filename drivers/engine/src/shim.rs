//! The process between the agent and one container: starts it, keeps its log, sees it end.
//!
//! Single-threaded, no runtime. It outlives the agent; what it knows lies in files beside
//! it: `state.json` once the container runs, `exit.json` when it has ended.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::fault::Failure;
use crate::log::{Log, Output};
use crate::runtime::{self, Ends};
use crate::terminal::{self, ConsoleSocket};
use crate::{
    ContainerSpec, Exit, Runtime, bundle, cgroup, enter, face, folder, hidden, payload, probe,
    zygote,
};

/// How long output is waited for after the container has ended.
const DRAIN: Duration = Duration::from_millis(500);
/// Of a service's terminal, which nobody sits at.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// What a shim is told.
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

    /// A descriptor that means this process and never a later one; `None` if it has ended.
    pub fn open(&self) -> Option<OwnedFd> {
        let fd = open_pidfd(self.pid)?;
        self.lives().then_some(fd)
    }
}

fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    // SAFETY: just made, owned by nobody else.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
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

/// Signals and mask of modes as a payload is to find them, whatever the agent was started with.
///
/// Whoever writes to a closed pipe, and whoever leads a session whose terminal goes, gets a
/// signal. The shim survives both by a handler that does nothing: unlike a signal that is
/// ignored, it does not outlive `execve`.
pub fn fresh_signals() {
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
        libc::umask(0o022);
    }
}

/// Entry of the re-executed program; never returns.
pub fn shim_main(args: &[String]) -> ! {
    fresh_signals();
    let code = match args {
        [verb, _] if verb == "zygote" => zygote::run(),
        [verb, root, id, request] if verb == "exec" => enter::run(Path::new(root), id, request),
        [verb, cgroup] if verb == "release" => release(cgroup),
        [verb, rest @ ..] if verb == "oci" => face::run(rest),
        [verb, folder] if verb == "probe" => probe::shim(Path::new(folder)),
        _ => {
            eprintln!("the shim is started by a host agent, not by hand");
            2
        }
    };
    std::process::exit(code)
}

/// What this process is called in a list of processes.
pub fn name(name: &CStr) {
    // SAFETY: reads a string that lives through the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Leads a session of its own, and is the parent of whatever its container leaves behind.
pub fn lead() {
    // SAFETY: plain requests about this process.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}

/// Follows the order at `order` until its container has ended.
pub fn start(order: &Path) -> i32 {
    // In a list of processes by name: whose shim it is.
    if let Some(id) = order.parent().and_then(Path::file_name) {
        name(&CString::new(id.as_bytes()).unwrap_or_default());
    }
    let mut order: Order = match std::fs::read(order)
        .map_err(|e| e.to_string())
        .and_then(|b| serde_json::from_slice::<Order>(&b).map_err(|e| e.to_string()))
        .and_then(|mut order| {
            // Where the answer goes, and without a buffer that would keep it.
            let agent = std::io::stdout().as_fd().try_clone_to_owned();
            let agent = std::fs::File::from(agent.map_err(|e| e.to_string())?);
            hidden::take(&mut order.spec, agent)?;
            Ok(order)
        }) {
        Ok(order) => order,
        Err(error) => {
            let why = format!("the order cannot be read: {error}");
            payload::answer(&Err::<State, _>(Failure::Other(why)));
            return 1;
        }
    };
    let ran = run(&mut order).and_then(|(state, outputs)| {
        write_file(&order.folder.join("state.json"), &state)
            .map_err(|e| format!("write state.json: {e}"))?;
        Ok((state, outputs))
    });
    match ran {
        Ok((state, streams)) => {
            payload::answer(&Ok::<_, Failure>(state.clone()));
            payload::let_go(0..3);
            attend(&order, &state, streams);
            0
        }
        Err(failure) => {
            let _ = cgroup::remove(&order.cgroup);
            payload::answer(&Err::<State, _>(failure));
            1
        }
    }
}

/// In place of a shim that was killed: removes its container's cgroups from where only a shim
/// sees them.
fn release(cgroup: &str) -> i32 {
    let tried = bundle::isolate().and_then(|()| {
        let claimed = cgroup::claim_loose()?;
        cgroup::remove(cgroup).map_err(|e| e.to_string())?;
        cgroup::remove_empty(claimed, cgroup);
        Ok(())
    });
    i32::from(tried.is_err())
}

/// What the shim holds of its container's standard input, output and error.
struct Streams {
    outputs: Vec<Output>,
    /// Nobody types; as long as it is open, nobody has ended either.
    _input: Option<OwnedFd>,
    /// Cgroup hierarchies that only we see.
    claimed: Vec<PathBuf>,
}

fn run(order: &mut Order) -> Result<(State, Streams), Failure> {
    bundle::make(&order.spec, &order.cgroup, order.runtime)?;
    // They are where they belong: this process lives on and need not know them.
    hidden::forget(&mut order.spec);
    let (order, spec) = (&*order, &order.spec);
    folder::make(&Path::new(bundle::BASE).join("rootfs"), spec)?;
    let claimed = match order.runtime {
        Runtime::Crun => cgroup::claim_loose()?,
        _ => Vec::new(),
    };
    let (pid, mut streams) = if spec.terminal {
        with_terminal(order)?
    } else {
        with_pipes(order)?
    };
    streams.claimed = claimed;
    let mine = Process::of(std::process::id() as i32)
        .ok_or_else(|| "the shim cannot see itself".to_string())?;
    let state = State {
        shim: mine,
        // A payload may have ended already; its number is still ours to reap.
        container: Process::of(pid).unwrap_or(Process { pid, started: 0 }),
        started_ms: now_ms(),
    };
    Ok((state, streams))
}

fn with_terminal(order: &Order) -> Result<(i32, Streams), Failure> {
    let spec = &order.spec;
    let at = Path::new(bundle::BASE).join("terminal");
    let socket = ConsoleSocket::bind(&at)?;
    let mut master = None;
    // The socket is there before the runtime asks for it, and read after it was written to.
    let take = || -> Result<(), String> {
        let taken = socket.take()?;
        let failed = |e: std::io::Error| format!("own the terminal: {e}");
        let slave = terminal::slave(&taken).map_err(failed)?;
        let owner = spec.uid_base + spec.user.uid;
        terminal::own(&slave, owner, spec.uid_base + spec.user.gid).map_err(failed)?;
        terminal::resize(&taken, ROWS, COLUMNS);
        master = Some(taken);
        Ok(())
    };
    let pid = runtime::start(order, Ends::Terminal(at), take)?;
    let outputs = master.map(|m| Output::new(m, "stdout"));
    Ok((
        pid,
        Streams {
            outputs: outputs.into_iter().collect(),
            _input: None,
            claimed: Vec::new(),
        },
    ))
}

fn with_pipes(order: &Order) -> Result<(i32, Streams), Failure> {
    let spec = &order.spec;
    let pipe = || -> Result<(OwnedFd, OwnedFd), String> {
        let (read, write) = std::io::pipe().map_err(|e| format!("make a pipe: {e}"))?;
        Ok((read.into(), write.into()))
    };
    let (out_read, stdout) = pipe()?;
    let (err_read, stderr) = pipe()?;
    let (stdin, input) = if spec.stdin_open {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        let null = std::fs::File::open("/dev/null").map_err(|e| e.to_string())?;
        (null.into(), None)
    };
    for end in [&stdin, &stdout, &stderr] {
        // So that /dev/stdout can be opened anew by a payload that is not root; nobody owns
        // the machine's /dev/null but the machine.
        if spec.stdin_open || !std::ptr::eq(end, &stdin) {
            let owner = spec.uid_base + spec.user.uid;
            std::os::unix::fs::fchown(end, Some(owner), Some(spec.uid_base))
                .map_err(|e| format!("own a pipe: {e}"))?;
        }
    }
    let ends = Ends::Pipes {
        stdin,
        stdout,
        stderr,
    };
    let pid = runtime::start(order, ends, || Ok(()))?;
    let outputs = vec![
        Output::new(out_read, "stdout"),
        Output::new(err_read, "stderr"),
    ];
    Ok((
        pid,
        Streams {
            outputs,
            _input: input,
            claimed: Vec::new(),
        },
    ))
}

/// Pumps the log until the container has ended, then says how.
fn attend(order: &Order, state: &State, mut streams: Streams) {
    let outputs = &mut streams.outputs;
    let mut log = Log::open(&order.log);
    // A child of ours, even if it has ended already.
    let pidfd = open_pidfd(state.container.pid);
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
                .map(|i| PollFd::new(outputs[*i].from.as_fd(), PollFlags::POLLIN))
                .collect();
            if let (Some(pidfd), None) = (&pidfd, ended) {
                fds.push(PollFd::new(pidfd.as_fd(), PollFlags::POLLIN));
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
                Some(index) => outputs[*index].pump(&mut log),
                None => ended = Some(Instant::now()),
            }
        }
    }
    for output in outputs {
        output.flush(&mut log);
    }
    let code = reap(state.container.pid);
    let oom = cgroup::oom_killed(&cgroup::directories(&order.cgroup));
    let exit = Exit {
        code,
        oom_killed: oom && code != 0,
        lost: false,
        at_ms: now_ms(),
    };
    cgroup::remove_empty(streams.claimed, &order.cgroup);
    if let Err(error) = write_file(&order.folder.join("exit.json"), &exit) {
        log.write(
            "stderr",
            format!("runrig: the exit code {code} cannot be kept: {error}").as_bytes(),
        );
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
