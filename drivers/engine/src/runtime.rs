//! Create and start a bundle: with the embedded runtime, or with a program that does it.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::bundle::BASE;
use crate::fault::{Failure, StartFault};
use crate::shim::Order;
use crate::{ContainerSpec, Runtime, cgroup, payload, seccomp};

/// Standard input, output and error of the container's process.
pub enum Ends {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal that the runtime makes inside and hands over here.
    Terminal(PathBuf),
}

/// Closes the filter, becomes the payload, or says why not.
#[derive(Clone)]
struct Payload {
    /// Open until the payload runs.
    report: Arc<PipeWriter>,
    nests: bool,
}

impl Payload {
    fn run(&self, spec: &Spec) -> Failure {
        if let Err(why) = seccomp::apply(self.nests) {
            return Failure::Other(why);
        }
        let process = spec.process().as_ref();
        let args = process.and_then(|p| p.args().clone());
        let mut env: Vec<String> = std::env::vars_os()
            .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
            .collect();
        if std::env::var_os("HOME").is_none() {
            let uid = process.map_or(0, |p| p.user().uid());
            env.push(format!("HOME={}", payload::home(uid)));
        }
        payload::become_program(&args.unwrap_or_default(), &env).into()
    }
}

impl Executor for Payload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        payload::report(self.report.as_fd(), &self.run(spec));
        Err(ExecutorError::Other("the payload did not start".into()))
    }

    /// What cannot be executed says so itself, more exactly.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

pub fn failed(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Creates the bundle at [`BASE`] and starts it. `ready` is called in between, when what the
/// container is made of is there and nothing of it runs.
///
/// Returns the process id of the payload.
pub fn start(
    order: &Order,
    ends: Ends,
    ready: impl FnOnce() -> Result<(), String>,
) -> Result<i32, Failure> {
    let spec = &order.spec;
    if order.runtime != Runtime::Libcontainer {
        return start_program(order.runtime, &order.states, spec, ends, ready);
    }
    let (said, say) = pipe()?;
    if placed(order.runtime) {
        return start_placed(order, ends, ready, (said, say));
    }
    let mut container = create(spec, ends, say)?;
    ready()?;
    container.start().map_err(|e| failed(&e))?;
    payload::reported(said)?;
    number(&container)
}

/// Whether we make the cgroups and enter them before the runtime begins.
///
/// The library looks up each controller's mount anew: half a millisecond on a machine with
/// cgroup v1, an eighth of a start. With v2 there is one to look up.
pub fn placed(runtime: Runtime) -> bool {
    runtime == Runtime::Libcontainer && cgroup::version() == 1
}

/// ```text
/// shim ── fork ──► maker: joins the cgroups, creates the container in them, starts it, ends
/// ```
///
/// What the runtime makes is in the maker's cgroups from the first moment, and the shim's child
/// once the maker has ended.
fn start_placed(
    order: &Order,
    ends: Ends,
    ready: impl FnOnce() -> Result<(), String>,
    (said, say): (PipeReader, PipeWriter),
) -> Result<i32, Failure> {
    let ((mut told, mut tell), (mut hear, go)) = (pipe()?, pipe()?);
    // SAFETY: this process has one thread.
    let maker = unsafe { libc::fork() };
    if maker < 0 {
        return Err(Failure::Other("the machine has no process left".into()));
    }
    if maker == 0 {
        drop((said, told, go));
        let report = say.try_clone();
        let made = enter_cgroups(&order.cgroup)
            .map_err(Failure::Other)
            .and_then(|()| create(&order.spec, ends, say))
            .and_then(|mut container| {
                let pid = number(&container)?;
                let _ = tell.write_all(&pid.to_ne_bytes());
                // Nobody says go: the shim has failed, and removes what is in the cgroups.
                match hear.read(&mut [0]) {
                    Ok(1) => container.start().map_err(|e| Failure::Other(failed(&e))),
                    _ => Ok(()),
                }
            });
        if let (Err(failure), Ok(report)) = (made, report) {
            payload::report(report.as_fd(), &failure);
        }
        // SAFETY: ends this process without what the shim wanted done at its own end.
        unsafe { libc::_exit(0) };
    }
    drop((say, tell, hear, ends));
    let mut pid = [0; 4];
    let made = told.read_exact(&mut pid);
    let going = made.is_ok().then(ready).transpose();
    if let Ok(Some(())) = going {
        let _ = (&go).write_all(&[1]);
    }
    drop(go);
    let mut status = 0;
    // SAFETY: `status` is ours and lives through the call.
    unsafe { libc::waitpid(maker, &raw mut status, 0) };
    going?;
    payload::reported(said)?;
    made.map_err(|_| "the container's maker ended without a word".to_string())?;
    Ok(i32::from_ne_bytes(pid))
}

/// Joins the cgroups at `path`, and hides those of v1 from the runtime: where it looks for
/// cgroups it finds those of v2, and this process where it is to be.
fn enter_cgroups(path: &str) -> Result<(), String> {
    cgroup::join(path)?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("unshare mounts: {e}"))?;
    let (kind, at) = (Some("cgroup2"), "/sys/fs/cgroup");
    mount(kind, at, kind, MsFlags::empty(), None::<&str>)
        .map_err(|e| format!("mount cgroups of version 2: {e}"))
}

fn pipe() -> Result<(PipeReader, PipeWriter), String> {
    std::io::pipe().map_err(|e| format!("make a pipe: {e}"))
}

/// The container's first process waits to be started. `say` is open until it is the payload.
fn create(spec: &ContainerSpec, ends: Ends, say: PipeWriter) -> Result<Container, Failure> {
    let builder = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_root_path(Path::new(BASE).join("state"))
        .map_err(|e| failed(&e))?
        .with_executor(Payload {
            report: Arc::new(say),
            nests: spec.nests,
        });
    let builder = match ends {
        Ends::Pipes {
            stdin,
            stdout,
            stderr,
        } => builder
            .with_stdin(stdin)
            .with_stdout(stdout)
            .with_stderr(stderr),
        Ends::Terminal(socket) => builder.with_console_socket(Some(socket)),
    };
    // Our own copy of what is reported by goes with the builder.
    let made = builder
        .as_init(BASE)
        .with_systemd(false)
        .with_detach(true)
        .build();
    made.map_err(|e| fault_or(failed(&e), spec))
}

fn number(container: &Container) -> Result<i32, Failure> {
    let pid = container.pid().map(|pid| pid.as_raw());
    pid.ok_or_else(|| Failure::Other("the container has no process".into()))
}

fn start_program(
    runtime: Runtime,
    states: &Path,
    spec: &ContainerSpec,
    ends: Ends,
    ready: impl FnOnce() -> Result<(), String>,
) -> Result<i32, Failure> {
    let pid_file = format!("{BASE}/pid");
    let log = format!("{BASE}/log");
    let program = || {
        let mut command = Command::new(runtime.program());
        command.arg("--root").arg(states).args(["--log", &log]);
        command
    };
    let mut create = program();
    create.args(["create", "--bundle", BASE, "--pid-file", &pid_file]);
    match ends {
        Ends::Pipes {
            stdin,
            stdout,
            stderr,
        } => create.stdin(stdin).stdout(stdout).stderr(stderr),
        Ends::Terminal(socket) => create
            .arg("--console-socket")
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    };
    let run = |command: &mut Command| -> Result<(), Failure> {
        let status = command
            .status()
            .map_err(|e| format!("{}: {e}", runtime.program()))?;
        if status.success() {
            return Ok(());
        }
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let said = log.lines().last().unwrap_or("no reason was given");
        Err(fault_or(said.to_string(), spec))
    };
    run(create.arg(&spec.id))?;
    ready()?;
    run(program().args(["start", &spec.id]).stdin(Stdio::null()))?;
    std::fs::read_to_string(&pid_file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| Failure::Other("the runtime wrote no process id".into()))
}

fn fault_or(said: String, spec: &ContainerSpec) -> Failure {
    let command = spec.args.first().map_or("", String::as_str);
    match StartFault::of_words(&said, command, &spec.cwd) {
        Some(fault) => fault.into(),
        None => Failure::Other(said),
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
pub fn wait_code(pid: i32) -> i32 {
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
