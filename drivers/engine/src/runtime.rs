//! Create and start a bundle: with the embedded runtime, or with a program that does it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::get_executor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use crate::bundle::BASE;
use crate::{ExecRequest, Runtime, seccomp};

/// Standard input, output and error of the container's process.
pub struct Ends {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl Ends {
    fn stdio(self) -> (Stdio, Stdio, Stdio) {
        (self.stdin.into(), self.stdout.into(), self.stderr.into())
    }
}

/// Takes the terminal, closes the filter, becomes the payload.
#[derive(Clone)]
struct Payload;

impl Executor for Payload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        // SAFETY: asks about and claims our own descriptor 0; no memory is passed.
        unsafe {
            if libc::isatty(0) == 1 {
                libc::ioctl(0, libc::TIOCSCTTY, 0);
            }
        }
        for program in seccomp::programs().map_err(ExecutorError::Other)? {
            seccompiler::apply_filter(&program).map_err(|e| ExecutorError::Other(e.to_string()))?;
        }
        get_executor().exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        get_executor().validate(spec)
    }
}

fn failed(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Starts the bundle at [`BASE`]; returns the process id of the payload.
pub fn start(runtime: Runtime, states: &Path, id: &str, ends: Ends) -> Result<i32, String> {
    match runtime {
        Runtime::Libcontainer => {
            let mut container = ContainerBuilder::new(id.to_string(), SyscallType::default())
                .with_root_path(states)
                .map_err(|e| failed(&e))?
                .with_executor(Payload)
                .with_stdin(ends.stdin)
                .with_stdout(ends.stdout)
                .with_stderr(ends.stderr)
                .as_init(BASE)
                .with_systemd(false)
                .with_detach(true)
                .build()
                .map_err(|e| failed(&e))?;
            container.start().map_err(|e| failed(&e))?;
            container
                .pid()
                .map(|pid| pid.as_raw())
                .ok_or_else(|| "the container has no process".into())
        }
        Runtime::Runc | Runtime::Crun => {
            let pid_file = format!("{BASE}/pid");
            let (stdin, stdout, stderr) = ends.stdio();
            let log = format!("{BASE}/log");
            let made = Command::new(runtime.program())
                .arg("--root")
                .arg(states)
                .args([
                    "--log",
                    &log,
                    "create",
                    "--bundle",
                    BASE,
                    "--pid-file",
                    &pid_file,
                    id,
                ])
                .stdin(stdin)
                .stdout(stdout)
                .stderr(stderr)
                .status()
                .map_err(|e| format!("{}: {e}", runtime.program()))?;
            let said = || {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                log.lines()
                    .last()
                    .unwrap_or("no reason was given")
                    .to_string()
            };
            if !made.success() {
                return Err(said());
            }
            let started = Command::new(runtime.program())
                .arg("--root")
                .arg(states)
                .args(["--log", &log, "start", id])
                .stdin(Stdio::null())
                .status()
                .map_err(|e| format!("{}: {e}", runtime.program()))?;
            if !started.success() {
                return Err(said());
            }
            std::fs::read_to_string(&pid_file)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| "the runtime wrote no process id".into())
        }
    }
}

/// Runs a command beside the container's own on our standard descriptors; returns its code.
pub fn exec(
    runtime: Runtime,
    states: &Path,
    id: &str,
    request: &ExecRequest,
) -> Result<i32, String> {
    match runtime {
        Runtime::Libcontainer => {
            let container = Container::load(states.join(id)).map_err(|e| failed(&e))?;
            drop(container);
            let own = |fd: &dyn AsFd| -> Result<OwnedFd, String> {
                fd.as_fd().try_clone_to_owned().map_err(|e| e.to_string())
            };
            let env = request
                .env
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            let user = request.user.as_ref();
            let pid = ContainerBuilder::new(id.to_string(), SyscallType::default())
                .with_root_path(states)
                .map_err(|e| failed(&e))?
                .with_executor(Payload)
                .with_stdin(own(&std::io::stdin())?)
                .with_stdout(own(&std::io::stdout())?)
                .with_stderr(own(&std::io::stderr())?)
                .as_tenant()
                .with_container_args(request.args.clone())
                .with_env(env)
                .with_cwd(request.cwd.clone())
                .with_no_new_privs(true)
                .with_user(user.map(|u| u.uid))
                .with_group(user.map(|u| u.gid))
                .with_additional_gids(user.map(|u| u.additional.clone()).unwrap_or_default())
                .with_detach(true)
                .build()
                .map_err(|e| failed(&e))?;
            Ok(wait_code(pid.as_raw()))
        }
        Runtime::Runc | Runtime::Crun => {
            let mut command = Command::new(runtime.program());
            command.arg("--root").arg(states).arg("exec");
            if request.terminal {
                command.arg("--tty");
            }
            for pair in &request.env {
                command.args(["--env", pair]);
            }
            if let Some(cwd) = &request.cwd {
                command.args(["--cwd", cwd]);
            }
            if let Some(user) = &request.user {
                command.args(["--user", &format!("{}:{}", user.uid, user.gid)]);
            }
            let status = command
                .arg(id)
                .args(&request.args)
                .status()
                .map_err(|e| format!("{}: {e}", runtime.program()))?;
            Ok(status.code().unwrap_or(255))
        }
    }
}

/// As a shell reports it.
pub fn code(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    }
}

/// Reaps until `pid` has ended.
fn wait_code(pid: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and lives through the call.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if ended == pid {
            return code(status);
        }
        if ended < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return 255;
        }
    }
}

/// A copy of a descriptor, for both ends of a terminal.
pub fn duplicate(fd: &impl AsFd) -> Result<OwnedFd, String> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|e| format!("duplicate descriptor {}: {e}", fd.as_fd().as_raw_fd()))
}
