//! Processes that a measurement starts: ended with it, and what they cost read from /proc.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Asked to end; killed after so long.
const GRACE: Duration = Duration::from_secs(45);
const LOOK: Duration = Duration::from_millis(10);

/// A child in a group of its own; dropping it ends the group.
pub struct Process {
    child: Child,
}

/// CPU and memory of one process or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// User and system time since it began.
    pub cpu: Duration,
    /// Resident now; a page that several share counts for each in part.
    pub memory_bytes: u64,
    /// Handed to the disk since it began.
    pub written_bytes: u64,
}

impl Process {
    /// Output goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(Self {
            child: command.spawn()?,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        // Not reaped yet, so the number is still this child's.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        self.signal(Signal::SIGTERM);
        let asked = Instant::now();
        while !self.has_ended() {
            if asked.elapsed() > GRACE {
                self.signal(Signal::SIGKILL);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Cost {
    /// Of a process that runs.
    pub fn of(pid: u32) -> io::Result<Self> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let bad = || io::Error::other(format!("/proc/{pid} cannot be understood"));
        let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let ticks = ticks(&read("stat")?).ok_or_else(bad)?;
        let number = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        };
        Ok(Self {
            cpu: Duration::from_secs_f64(ticks as f64 / per_second),
            memory_bytes: number(&read("smaps_rollup")?, "Pss:").unwrap_or(0) * 1024,
            written_bytes: number(&read("io")?, "write_bytes:").unwrap_or(0),
        })
    }

    /// Together; those that have ended count nothing.
    pub fn of_all(pids: impl IntoIterator<Item = u32>) -> Self {
        pids.into_iter()
            .filter_map(|pid| Self::of(pid).ok())
            .fold(Self::default(), |sum, one| Self {
                cpu: sum.cpu + one.cpu,
                memory_bytes: sum.memory_bytes + one.memory_bytes,
                written_bytes: sum.written_bytes + one.written_bytes,
            })
    }
}

/// User and system time of a line of /proc/PID/stat. The name in brackets may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = after_name.next()?.parse().ok()?;
    let system: u64 = after_name.next()?.parse().ok()?;
    Some(user + system)
}

/// `pid` and all that descend from it.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|c| c.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// Full path of a program in PATH.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_end_of_a_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(ticks(&format!("7 (a) b) {rest}")), Some(300));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn a_child_is_of_the_family_and_ends_with_its_guard() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::start(command, &folder.path().join("log")).expect("starts");
        let pid = process.pid();
        assert!(family(std::process::id()).contains(&pid));
        assert!(Cost::of(pid).is_ok());
        drop(process);
        assert!(Cost::of(pid).is_err());
    }
}
