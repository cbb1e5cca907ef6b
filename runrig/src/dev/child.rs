//! One process of a `dev` network: started, started again when it dies, ended on request.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::output;

/// A process that lived so long has not failed at its start.
const SETTLED: Duration = Duration::from_secs(20);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Hosts stop their containers first, each within its grace.
const GRACE: Duration = Duration::from_secs(40);
const LOG_BYTES_MAX: u64 = 32 << 20;
const LOG_LOOK: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Role {
    /// `validator-1`, `gateway`, `host-2` …
    pub name: String,
    pub args: Vec<String>,
    pub log: PathBuf,
    /// So many failed starts in a row are enough; `None`: never.
    pub attempts_max: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Not yet.
    Wait,
    Run,
    End,
    Kill,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Running(u32),
    /// Will not be started again; what it said last.
    GivenUp(String),
    Ended,
}

/// Keeps a role running until told otherwise.
pub async fn supervise(role: Role, mut order: watch::Receiver<Order>, state: watch::Sender<State>) {
    let mut failures = 0u32;
    // A supervisor that is gone wants nothing to run.
    let _ = order.wait_for(|order| *order != Order::Wait).await;
    loop {
        if *order.borrow() != Order::Run {
            break;
        }
        let started = Instant::now();
        let status = match spawn(&role) {
            Ok(child) => {
                state.send_replace(State::Running(child.id().unwrap_or(0)));
                watch_over(&role, child, &mut order).await
            }
            Err(error) => {
                output::say(format!("{}: cannot be started: {error}", role.name));
                None
            }
        };
        if *order.borrow() != Order::Run {
            break;
        }
        failures = if started.elapsed() > SETTLED {
            0
        } else {
            failures + 1
        };
        let words = match status {
            Some(status) => status.to_string(),
            None => "was never started".into(),
        };
        if role.attempts_max.is_some_and(|max| failures >= max) {
            let last = last_words(&role.log);
            output::say(format!(
                "{} ended ({words}) {failures} times in a row and is left alone: {last}",
                role.name
            ));
            state.send_replace(State::GivenUp(last));
            return;
        }
        let pause = (BACKOFF_MIN * 2u32.saturating_pow(failures.min(8))).min(BACKOFF_MAX);
        output::say(format!(
            "{} ended ({words}); starting it again in {:.1} s, see {}",
            role.name,
            pause.as_secs_f32(),
            role.log.display()
        ));
        state.send_replace(State::Starting);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = order.changed() => {}
        }
    }
    state.send_replace(State::Ended);
}

/// On the calling thread, which must live as long as the network does: a child is told when
/// the thread that started it dies.
fn spawn(role: &Role) -> std::io::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&role.log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(&role.args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C reaches the supervisor only.
        .process_group(0);
    let parent = std::process::id();
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                return Err(std::io::Error::other("the supervisor has ended"));
            }
            Ok(())
        });
    }
    command.spawn()
}

async fn watch_over(
    role: &Role,
    mut child: Child,
    order: &mut watch::Receiver<Order>,
) -> Option<ExitStatus> {
    let mut deadline = None;
    let mut look = tokio::time::interval(LOG_LOOK);
    loop {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = child.wait() => return status.ok(),
            _ = look.tick() => bound_log(&role.log),
            () = late => {
                output::say(format!("{} does not end; killing it", role.name));
                deadline = None;
                signal(&child, Signal::SIGKILL);
            }
            changed = order.changed() => {
                let now = if changed.is_ok() { *order.borrow() } else { Order::Kill };
                match now {
                    Order::Wait | Order::Run => {}
                    Order::End => {
                        signal(&child, Signal::SIGTERM);
                        deadline = Some(tokio::time::Instant::now() + GRACE);
                    }
                    Order::Kill => signal(&child, Signal::SIGKILL),
                }
            }
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    // Not reaped yet, so the number is still this child's.
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// A log that has grown too large is moved to `.1`; writers append, so they go on at its start.
fn bound_log(path: &Path) {
    let large = std::fs::metadata(path).is_ok_and(|m| m.len() > LOG_BYTES_MAX);
    if large
        && std::fs::copy(path, path.with_extension("log.1")).is_ok()
        && let Ok(file) = OpenOptions::new().write(true).open(path)
    {
        let _ = file.set_len(0);
    }
}

/// The last line of a log that says something.
pub fn last_words(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.take(4096).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    // An error is told over several lines: what and why, then what to do.
    let from = lines
        .iter()
        .rposition(|l| l.starts_with("error: "))
        .unwrap_or(lines.len().saturating_sub(1));
    let words = lines[from..].join(" ");
    words.trim_start_matches("error: ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.log");
        std::fs::write(
            &path,
            "INFO start\nerror: nft is missing: why\nDo this.\n\n",
        )
        .expect("written");
        assert_eq!(last_words(&path), "nft is missing: why Do this.");
        std::fs::write(&path, "one\ntwo\n").expect("written");
        assert_eq!(last_words(&path), "two");
        assert_eq!(last_words(&folder.path().join("none")), "");
    }

    #[tokio::test]
    async fn a_role_that_cannot_start_is_given_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let role = Role {
            name: "host-1".into(),
            // The test binary takes this for an unknown option and fails at once.
            args: vec!["--no-such-option".into()],
            log: folder.path().join("host-1.log"),
            attempts_max: Some(2),
        };
        let (_order, orders) = watch::channel(Order::Run);
        let (state, states) = watch::channel(State::Starting);
        supervise(role, orders, state).await;
        assert!(matches!(&*states.borrow(), State::GivenUp(words) if !words.is_empty()));
    }
}
