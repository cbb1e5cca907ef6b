//! A command beside a container's own process, in all of its namespaces, with its limits and
//! no right more. The same for every runtime: none of them is asked.
//!
//! ```text
//! shim ── fork ──► A: joins the cgroups and the namespaces ── fork ──► B: loses its rights,
//!   │                                                                    becomes the command
//!   └── waits for B, whose parent it becomes when A ends
//! ```

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::fault::{Failure, StartFault};
use crate::shim::{Order, State};
use crate::{ExecRequest, UserSpec, cgroup, handover, payload, rights, runtime, seccomp, terminal};

/// The command once it runs; 0 before.
static COMMAND: AtomicI32 = AtomicI32::new(0);

/// Nobody listens any more: the command ends, and the shim with it.
extern "C" fn end(_: libc::c_int) {
    let pid = COMMAND.load(Ordering::SeqCst);
    // SAFETY: both calls may be made in a handler; they touch no memory.
    unsafe {
        if pid > 0 {
            libc::kill(-pid, libc::SIGKILL);
            libc::kill(pid, libc::SIGKILL);
        } else {
            libc::_exit(143);
        }
    }
}

/// `shim exec`: standard input, output and error are the command's; with a terminal, standard
/// input is a socket on which the agent waits for it.
pub fn run(root: &Path, id: &str, request: &str) -> i32 {
    // SAFETY: plain requests about this process; the handler is above.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0);
    }
    let started = prepare(root, id, request).and_then(|(order, state, request)| {
        // Until it is known whom to end, the wish to end waits.
        hold_back(true);
        let handler = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler only does what handlers may.
        unsafe { libc::signal(libc::SIGTERM, handler) };
        start(&order, &state, &request)
    });
    match started {
        Ok(pid) => {
            COMMAND.store(pid, Ordering::SeqCst);
            hold_back(false);
            // The ends are the command's alone: it closes them when it wants to.
            payload::let_go(0..3);
            runtime::wait_code(pid)
        }
        Err(Failure::Fault(fault)) => {
            eprintln!("{fault}");
            fault.exit_code()
        }
        Err(Failure::Other(why)) => {
            eprintln!("the command cannot be run: {why}");
            126
        }
    }
}

fn hold_back(on: bool) {
    let how = if on {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    // SAFETY: the set is ours and lives through the calls.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(how, &raw const set, std::ptr::null_mut());
    }
}

fn prepare(root: &Path, id: &str, request: &str) -> Result<(Order, State, ExecRequest), Failure> {
    let folder = root.join("containers").join(id);
    let read = |name: &str| {
        std::fs::read(folder.join(name)).map_err(|_| "its container is gone".to_string())
    };
    let unreadable = |e: serde_json::Error| format!("what it is to do cannot be read: {e}");
    let order: Order = serde_json::from_slice(&read("order.json")?).map_err(unreadable)?;
    let state: State = serde_json::from_slice(&read("state.json")?).map_err(unreadable)?;
    let request = serde_json::from_str(request).map_err(unreadable)?;
    Ok((order, state, request))
}

/// The host's number of the process that has become the command.
fn start(order: &Order, state: &State, request: &ExecRequest) -> Result<i32, Failure> {
    let init = state
        .container
        .open()
        .ok_or("its container has ended".to_string())?;
    let pipe = || std::io::pipe().map_err(|e| format!("make a pipe: {e}"));
    let ((said, say), (mut told, tell)) = (pipe()?, pipe()?);
    let shim = state.shim.open();
    let shim = shim.ok_or_else(|| "its shim has ended".to_string())?;
    // SAFETY: this process has one thread.
    let first = unsafe { libc::fork() };
    if first < 0 {
        return Err(Failure::Other("the machine has no process left".into()));
    }
    if first == 0 {
        // SAFETY: still one thread.
        let second = join(&order.cgroup, &shim, &init).map(|()| unsafe { libc::fork() });
        let failure = match second {
            Err(why) => Some(Failure::Other(why)),
            Ok(0) => Some(command(order, request)),
            Ok(-1) => {
                let why = "the container's limit of processes is reached, or it is ending";
                Some(Failure::Other(why.into()))
            }
            Ok(pid) => {
                // A shim that is gone needs no number.
                let _ = nix::unistd::write(&tell, &pid.to_ne_bytes());
                None
            }
        };
        if let Some(failure) = failure {
            payload::report(say.as_fd(), &failure);
        }
        // SAFETY: ends this process without what the shim wanted done at its own end.
        unsafe { libc::_exit(126) };
    }
    drop((say, tell));
    let mut bytes = [0; 4];
    let pid = told
        .read_exact(&mut bytes)
        .map(|()| i32::from_ne_bytes(bytes));
    let mut status = 0;
    // SAFETY: `status` is ours and lives through the call.
    unsafe { libc::waitpid(first, &raw mut status, 0) };
    payload::reported(said)?;
    pid.map_err(|_| Failure::Other("the container ended meanwhile".into()))
}

/// The cgroups first: afterwards their files are out of reach. Before, some may only be
/// mounted where the shim is.
fn join(path: &str, shim: &OwnedFd, init: &OwnedFd) -> Result<(), String> {
    enter(
        shim,
        libc::CLONE_NEWNS,
        "see what the container's shim sees",
    )?;
    cgroup::join(path)?;
    // Nobody inside may look into a process that still holds what is outside.
    // SAFETY: a plain request about this process.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let all = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    enter(init, all, "join the container's namespaces")
}

fn enter(process: &OwnedFd, namespaces: i32, what: &str) -> Result<(), String> {
    // SAFETY: a plain request about this process and a descriptor of ours.
    match unsafe { libc::setns(process.as_raw_fd(), namespaces) } {
        0 => Ok(()),
        _ => Err(format!("{what}: {}", std::io::Error::last_os_error())),
    }
}

/// Inside of the container, root in it, with every right there: loses them and becomes the
/// command. Returns only what failed.
fn command(order: &Order, request: &ExecRequest) -> Failure {
    let user = request.user.as_ref().unwrap_or(&order.spec.user);
    let cwd = request.cwd.as_deref().unwrap_or(&order.spec.cwd);
    match bare(request, user, cwd, &order.spec.process) {
        Ok(()) => {
            let env = environment(&order.spec.env, &request.env, user);
            payload::become_program(&request.args, &env).into()
        }
        Err(failure) => failure,
    }
}

fn bare(
    request: &ExecRequest,
    user: &UserSpec,
    cwd: &str,
    process: &types::ProcessSpec,
) -> Result<(), Failure> {
    let step = |what: &str, done: nix::Result<()>| {
        done.map_err(|e| Failure::Other(format!("{what}: {}", e.desc().to_lowercase())))
    };
    step("begin a session", nix::unistd::setsid().map(|_| ()))?;
    // Root of the container, not of the machine, before anything of it is touched.
    let root = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    step(
        "be root inside",
        nix::unistd::setresgid(root.1, root.1, root.1),
    )?;
    step(
        "be root inside",
        nix::unistd::setresuid(root.0, root.0, root.0),
    )?;
    if request.terminal {
        let failed = |e: std::io::Error| format!("open a terminal: {e}");
        let (master, slave) = terminal::open_here().map_err(failed)?;
        terminal::own(&slave, user.uid, user.gid).map_err(failed)?;
        terminal::resize(&master, request.rows, request.columns);
        handover::send(&std::io::stdin(), b"t", &master).map_err(failed)?;
        terminal::enter(&slave);
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    for (name, limit, soft, hard) in rights::limits(process) {
        let set = nix::sys::resource::setrlimit(limit, soft, hard);
        step(&format!("limit {name}"), set)?;
    }
    nix::unistd::chdir(cwd).map_err(|e| StartFault::NoDirectory {
        path: cwd.into(),
        why: e.desc().to_lowercase(),
    })?;
    // SAFETY: plain requests about this process; every structure lives through its call.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        for number in 0..64 {
            if rights::mask(process) & (1 << number) == 0 {
                // The kernel does not know all numbers.
                libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0);
            }
        }
        let nothing = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        step(
            "refuse new rights",
            nix::errno::Errno::result(nothing).map(|_| ()),
        )?;
    }
    let groups: Vec<_> = user
        .additional
        .iter()
        .map(|g| nix::unistd::Gid::from_raw(*g))
        .collect();
    step("set the groups", nix::unistd::setgroups(&groups))?;
    let (uid, gid) = (user.uid.into(), user.gid.into());
    step("set the group", nix::unistd::setresgid(gid, gid, gid))?;
    step("set the user", nix::unistd::setresuid(uid, uid, uid))?;
    let kept = if user.uid == 0 {
        rights::mask(process)
    } else {
        0
    };
    step("set capabilities", keep(kept))?;
    seccomp::apply(false)?;
    hold_back(false);
    Ok(())
}

/// Effective and permitted; nothing is inherited.
fn keep(mask: u64) -> nix::Result<()> {
    // struct __user_cap_header_struct of version 3, and its two data structures: effective,
    // permitted, inheritable; the lower 32 bits first.
    let header = [0x2008_0522_u32, 0];
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    // SAFETY: both live through the calls and have the kernel's layout.
    let set = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr())
    };
    nix::errno::Errno::result(set).map(|_| ())
}

/// The container's own variables, then those asked for; a home if nobody names one.
fn environment(own: &[String], asked: &[String], user: &UserSpec) -> Vec<String> {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_string();
    let mut all = std::collections::BTreeMap::new();
    for pair in own.iter().chain(asked) {
        all.insert(name(pair), pair.clone());
    }
    all.entry("HOME".into())
        .or_insert_with(|| format!("HOME={}", payload::home(user.uid)));
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_asked_for_come_before_the_containers_own() {
        let texts = |all: &[&str]| -> Vec<String> { all.iter().map(|t| t.to_string()).collect() };
        let user = UserSpec::default();
        let all = environment(
            &texts(&["A=1", "B=2", "HOME=/x"]),
            &texts(&["B=3", "C="]),
            &user,
        );
        assert_eq!(all, ["A=1", "B=3", "C=", "HOME=/x"]);
    }
}
