//! Why a command did not run, as the kernel or the runtime said it.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The image or the request is wrong: trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StartFault {
    #[error(
        "the command {0:?} is not in the image. Look for it in the image's PATH, or set `command:` or `entrypoint:`"
    )]
    NotFound(String),
    #[error(
        "the command {command:?} cannot be executed: {why}. Make it executable in the image, or set `command:` or `entrypoint:`"
    )]
    NotExecutable { command: String, why: String },
    #[error(
        "the working directory {path:?} cannot be entered: {why}. Set `working_dir:` to a directory of the image"
    )]
    NoDirectory { path: String, why: String },
}

impl StartFault {
    /// As a shell and Docker have it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable { .. } | Self::NoDirectory { .. } => 126,
        }
    }

    /// What `execve` answered; `exists`: the file is there.
    pub(crate) fn of_exec(command: &str, error: Errno, exists: bool) -> Self {
        let why = match error {
            Errno::ENOENT | Errno::ENOTDIR if !exists => return Self::NotFound(command.into()),
            Errno::ENOENT => "its interpreter or loader is not in the image",
            Errno::ENOEXEC => {
                "it is neither a program for this machine nor a script that begins with #!"
            }
            Errno::E2BIG => "its arguments and variables are too long",
            Errno::EISDIR => "it is a directory",
            other => other.desc(),
        };
        Self::NotExecutable {
            command: command.into(),
            why: why.to_lowercase(),
        }
    }

    /// From the words of a runtime that is a program of its own: it has no others.
    pub(crate) fn of_words(said: &str, command: &str, cwd: &str) -> Option<Self> {
        let said = said.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|w| said.contains(w));
        if has(&["chdir", "working directory", "cwd"]) {
            let errors = [Errno::ENOTDIR, Errno::EACCES, Errno::ELOOP, Errno::ENOENT];
            let why = errors.iter().map(|e| e.desc().to_lowercase());
            return Some(Self::NoDirectory {
                path: cwd.into(),
                why: why.into_iter().find(|w| said.contains(w))?,
            });
        }
        if !has(&["exec", "executable", "start container"]) {
            return None;
        }
        let errors = [
            (
                ["permission denied", "open executable: operation not"].as_slice(),
                Errno::EACCES,
            ),
            (&["exec format error"], Errno::ENOEXEC),
            (&["is a directory"], Errno::EISDIR),
            (
                &["not found in $path", "no such file", "not a directory"],
                Errno::ENOENT,
            ),
        ];
        let (_, error) = errors.into_iter().find(|(words, _)| has(words))?;
        Some(Self::of_exec(command, error, false))
    }
}

/// What a shim answers when there is nothing to attend.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Fault(StartFault),
    Other(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl From<StartFault> for Failure {
    fn from(fault: StartFault) -> Self {
        Self::Fault(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_say() {
        let not = |why: &str| {
            Some(StartFault::NotExecutable {
                command: "x".into(),
                why: why.into(),
            })
        };
        let table = [
            (
                "exec: \"x\": executable file not found in $PATH",
                Some(StartFault::NotFound("x".into())),
            ),
            (
                "executable file `x` not found in $PATH: No such file or directory",
                Some(StartFault::NotFound("x".into())),
            ),
            ("exec: \"/x\": permission denied", not("permission denied")),
            (
                "open executable: Operation not permitted",
                not("permission denied"),
            ),
            ("exec: \"/x\": is a directory", not("it is a directory")),
            (
                "exec /x: exec format error",
                not("it is neither a program for this machine nor a script that begins with #!"),
            ),
            (
                "chdir to cwd (\"/d\") set in config.json failed: not a directory",
                Some(StartFault::NoDirectory {
                    path: "/d".into(),
                    why: "not a directory".into(),
                }),
            ),
            ("mount `overlay` to `merged`: Permission denied", None),
            ("executing hook: something else", None),
        ];
        for (said, fault) in table {
            assert_eq!(StartFault::of_words(said, "x", "/d"), fault, "{said}");
        }
    }

    #[test]
    fn codes_are_the_shells() {
        let code = |error, exists| StartFault::of_exec("x", error, exists).exit_code();
        assert_eq!(code(Errno::ENOENT, false), 127);
        assert_eq!(code(Errno::ENOENT, true), 126);
        assert_eq!(code(Errno::EACCES, true), 126);
        assert_eq!(code(Errno::ENOEXEC, true), 126);
    }
}
