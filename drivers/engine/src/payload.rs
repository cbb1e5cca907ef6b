//! The last steps of a process before it is the payload; the same for a container's first
//! process and for one that joins it.

use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

use crate::fault::{Failure, StartFault};

/// Longest /etc/passwd that is looked into for a home.
const PASSWD_MAX: u64 = 1 << 20;

/// Becomes `args` with the variables `env`; returns only if it did not.
///
/// A name without a slash is looked for in the payload's own PATH, as a shell does it.
pub fn become_program(args: &[String], env: &[String]) -> StartFault {
    let command = args.first().map_or("", String::as_str);
    // A 0 inside cannot be passed on: what is before it is taken, as the kernel would.
    let text = |text: &String| -> CString {
        let end = text.find('\0').unwrap_or(text.len());
        CString::new(&text[..end]).unwrap_or_default()
    };
    let arguments: Vec<CString> = args.iter().map(text).collect();
    let variables: Vec<CString> = env.iter().map(text).collect();
    let places = candidates(command, env);
    let (mut error, mut exists) = (Errno::ENOENT, false);
    for place in &places {
        let Err(answer) = nix::unistd::execve(place, &arguments, &variables);
        let found = is_there(place);
        match answer {
            Errno::ENOENT | Errno::ENOTDIR if !found => {}
            // Another of the same name further on may be executable.
            Errno::EACCES => (error, exists) = (refusal(place), true),
            _ => return StartFault::of_exec(command, answer, found),
        }
    }
    StartFault::of_exec(command, error, exists)
}

fn candidates(command: &str, env: &[String]) -> Vec<CString> {
    let place = |text: String| CString::new(text).ok();
    if command.is_empty() {
        return Vec::new();
    }
    if command.contains('/') {
        return place(command.into()).into_iter().collect();
    }
    let path = env.iter().find_map(|pair| pair.strip_prefix("PATH="));
    path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .split(':')
        .filter_map(|folder| {
            place(match folder {
                "" => format!("./{command}"),
                folder => format!("{folder}/{command}"),
            })
        })
        .collect()
}

fn is_there(place: &CStr) -> bool {
    nix::unistd::access(place, nix::unistd::AccessFlags::F_OK).is_ok()
}

/// A directory answers as a file without the right does.
fn refusal(place: &CStr) -> Errno {
    match nix::sys::stat::stat(place) {
        Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => Errno::EISDIR,
        _ => Errno::EACCES,
    }
}

/// By the container's /etc/passwd, whatever lies there.
pub fn home(uid: u32) -> String {
    let read = || -> Option<String> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open("/etc/passwd")
            .ok()
            .filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?;
        let mut text = String::new();
        file.take(PASSWD_MAX).read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let home = fields.get(5).filter(|h| !h.is_empty())?;
            (fields[2].parse() == Ok(uid)).then(|| home.to_string())
        })
    };
    read().unwrap_or_else(|| "/".into())
}

/// Says to the shim what failed; nobody else could.
pub fn report(to: BorrowedFd<'_>, failure: &Failure) {
    let bytes = serde_json::to_vec(failure).unwrap_or_default();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match nix::unistd::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// What was reported until every process that could report became its payload or ended.
pub fn reported(mut from: std::io::PipeReader) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    from.by_ref()
        .take(64 << 10)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("hear from the container: {e}"))?;
    match serde_json::from_slice(&bytes) {
        _ if bytes.is_empty() => Ok(()),
        Ok(failure) => Err(failure),
        Err(error) => Err(Failure::Other(format!("hear from the container: {error}"))),
    }
}

/// Standard output of a shim that answers with one line.
pub fn answer(line: &impl serde::Serialize) {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    // An agent that died meanwhile reads the files.
    let _ = std::io::stdout().write_all(&bytes);
    let _ = std::io::stdout().flush();
}

/// Lets go of what the agent gave us as standard input, output and error `fds`.
pub fn let_go(fds: impl Iterator<Item = i32>) {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    if let Ok(null) = null {
        for fd in fds {
            // SAFETY: both are open descriptors of ours.
            unsafe { libc::dup2(null.as_raw_fd(), fd) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_command_is_looked_for() {
        let env = |path: &str| vec!["A=b".to_string(), format!("PATH={path}")];
        let found = |command: &str, env: &[String]| -> Vec<String> {
            let all = candidates(command, env);
            all.iter().map(|c| c.to_string_lossy().into()).collect()
        };
        assert_eq!(found("x", &env("/a:/b")), ["/a/x", "/b/x"]);
        assert_eq!(found("x", &env("/a:")), ["/a/x", "./x"]);
        assert_eq!(found("./x", &env("/a")), ["./x"]);
        assert_eq!(found("", &env("/a")), [""; 0]);
        assert_eq!(found("x", &[]).len(), 6);
    }

    #[test]
    fn what_cannot_be_executed_is_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(at("plain"), "text").expect("written");
        std::fs::create_dir(at("folder")).expect("made");
        let code = |command: String| become_program(&[command], &[]).exit_code();
        assert_eq!(code(at("absent")), 127);
        assert_eq!(code(at("plain/below")), 127);
        assert_eq!(code(at("plain")), 126);
        assert_eq!(code(at("folder")), 126);
        assert_eq!(become_program(&[], &[]).exit_code(), 127);
    }
}
