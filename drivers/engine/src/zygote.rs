//! A process that has loaded the shim's program and waits to become shims.
//!
//! Loading the whole of it anew, and writing its addresses into memory of its own, takes a
//! sixth of a container's start and some megabytes of each shim. A fork of one that is ready
//! takes neither. It holds nothing, follows one agent and ends with it; the shims stay.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::{cgroup, handover, payload, seccomp, shim};

/// Longest path of an order: what Linux takes for a path.
const PATH_BYTES_MAX: usize = 4096;
/// Milliseconds in which a start is over.
const START_TAKES: u8 = 20;
/// So often an order is given that nobody takes.
const TRIES: usize = 3;
/// Longest answer of a shim.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The agent's side: starts the zygote when it is needed first, and anew if somebody ends it.
pub struct Zygote {
    /// Program and arguments of the zygote.
    program: Vec<String>,
    ready: Mutex<Option<Ready>>,
}

struct Ready {
    /// Closed, it tells the zygote to end.
    socket: Option<OwnedFd>,
    process: Child,
}

impl Ready {
    fn start(program: &[String]) -> std::io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let process = Command::new(&program[0])
            .args(&program[1..])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            socket: Some(ours),
            process,
        })
    }

    /// What is said to the shim comes before its answer, on the same way.
    fn order(&self, path: &Path) -> std::io::Result<UnixStream> {
        let (answer, tell) = UnixStream::pair()?;
        let socket = self.socket.as_ref();
        let socket = socket.ok_or(std::io::ErrorKind::NotConnected)?;
        handover::send(socket, path.as_os_str().as_bytes(), &tell)?;
        Ok(answer)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.process.wait();
    }
}

impl Zygote {
    /// `shim`: program and first arguments that reach [`crate::shim_main`], not empty. `root`:
    /// the engine's, by which its shims are known in a list of processes.
    pub fn new(shim: &[String], root: &Path) -> Self {
        let more = ["zygote".into(), root.display().to_string()];
        Self {
            program: shim.iter().cloned().chain(more).collect(),
            ready: Mutex::new(None),
        }
    }

    /// Makes a shim that follows the order at `path` and is handed `hidden`; gives its answer's
    /// line, empty if it ended without one. Blocks until then.
    ///
    /// Errors: no process can be made.
    pub fn follow(&self, path: &Path, hidden: &[u8]) -> std::io::Result<String> {
        let mut line = String::new();
        for _ in 0..TRIES {
            let mut shim = self.order(path)?;
            // A shim that ended too soon says why itself.
            let _ = shim.write_all(hidden);
            let _ = shim.shutdown(Shutdown::Write);
            let mut answer = BufReader::new(shim.take(ANSWER_BYTES_MAX));
            // Whoever was to take it was killed before it did: it may be given again.
            if answer.read_line(&mut line)? == 0 {
                continue;
            }
            line.clear();
            answer.read_line(&mut line)?;
            break;
        }
        Ok(line)
    }

    fn order(&self, path: &Path) -> std::io::Result<UnixStream> {
        let mut ready = self.ready.lock().unwrap_or_else(|p| p.into_inner());
        if let Some(zygote) = &*ready
            && let Ok(answer) = zygote.order(path)
        {
            return Ok(answer);
        }
        // None yet, or it has ended.
        *ready = None;
        ready.insert(Ready::start(&self.program)?).order(path)
    }
}

/// `shim zygote ROOT`: standard input is the agent's socket.
///
/// There is always one fork more than orders: the *spare*, which has done what needs no order
/// and waits for it. When it has taken one, the zygote, which sees its pipe close, makes the
/// next.
pub fn run() -> i32 {
    // Nobody waits for the shims: the kernel is not to keep their ends.
    // SAFETY: sets how a signal is taken, runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    // What is made before the fork, every shim has. One that cannot be made says so there.
    let _ = seccomp::usual();
    let _ = cgroup::version();
    loop {
        let Ok((mut taken, waiting)) = std::io::pipe() else {
            return 1;
        };
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                drop(taken);
                return spare(waiting);
            }
            -1 => return 1,
            _ => drop(waiting),
        }
        let mut ended = [0];
        // A spare that was killed has said nothing: another takes its place.
        if matches!(taken.read(&mut ended), Ok(1) | Err(_)) {
            return 0;
        }
        // A fork beside a start delays its moves between cgroups. If nobody asks for the next
        // shim already, that start goes first.
        let agent = std::io::stdin();
        let _ = poll(
            &mut [PollFd::new(agent.as_fd(), PollFlags::POLLIN)],
            START_TAKES,
        );
    }
}

/// Waits for an order and follows it. Says through `waiting` that there will be none.
fn spare(mut waiting: PipeWriter) -> i32 {
    shim::name(c"spare");
    shim::fresh_signals();
    shim::lead();
    let mut path = [0; PATH_BYTES_MAX];
    let (length, answer) = loop {
        match handover::receive(&std::io::stdin(), &mut path) {
            Ok((0, _)) | Err(_) => {
                let _ = waiting.write_all(&[0]);
                return 0;
            }
            Ok((length, Some(answer))) => break (length, answer),
            Ok((_, None)) => {}
        }
    };
    drop(waiting);
    let answer = UnixStream::from(answer);
    // An empty line: the order is taken. An agent that is gone reads none.
    let _ = (&answer).write_all(b"\n");
    // SAFETY: open descriptors of ours; takes the agent's socket out of the shim.
    unsafe { libc::dup2(answer.as_raw_fd(), 1) };
    drop(answer);
    payload::let_go(std::iter::once(0));
    shim::start(Path::new(OsStr::from_bytes(&path[..length])))
}
