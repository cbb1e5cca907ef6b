//! What this machine can do, found by doing it.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use types::Resources;

use crate::{ContainerSpec, EngineError, Missing, Runtime, UserSpec, bundle, cgroup, payload};

/// Of the container that is tried.
const UIDS: u32 = 231_072;

/// `close_range` that marks; everything else that is used is older.
fn is_new_enough(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    let found = (number().unwrap_or(0), number().unwrap_or(0));
    found >= (5, 11)
}

fn missing(missing: &str, why: &str, next: &str) -> EngineError {
    EngineError::Missing(Missing {
        missing: missing.into(),
        why: why.into(),
        next: next.into(),
    })
}

/// Checks that need no child process.
pub fn machine(cgroup_parent: &str) -> Result<(), EngineError> {
    // SAFETY: asks who we are.
    if unsafe { libc::geteuid() } != 0 {
        return Err(missing(
            "root rights are missing",
            "containers with limits and trusted metering need cgroups, mounts and network devices",
            "Start the host with sudo",
        ));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if !is_new_enough(&release) {
        return Err(missing(
            &format!("kernel {} is too old", release.trim()),
            "commands in running containers need 5.11",
            "Update the system: Debian 12 and Ubuntu 22.04 have a newer one",
        ));
    }
    let mounts = cgroup::mounts();
    if mounts.is_empty() {
        return Err(missing(
            "no cgroup file system is mounted",
            "limits and metering are kept by cgroups",
            "Mount one: mount -t cgroup2 none /sys/fs/cgroup",
        ));
    }
    if cgroup::version() == 1 {
        for controller in ["cpu", "cpuacct", "memory", "pids"] {
            if !mounts.contains_key(controller) {
                return Err(missing(
                    &format!("the cgroup controller {controller} is not mounted"),
                    "it is needed to limit and to meter containers",
                    "Mount all v1 controllers, or boot with cgroup v2",
                ));
            }
        }
    } else if let Some(at) = mounts.get("") {
        let controllers =
            std::fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
        for controller in ["cpu", "memory", "pids"] {
            if !controllers.split_whitespace().any(|c| c == controller) {
                return Err(missing(
                    &format!("the cgroup controller {controller} is not available"),
                    "it is needed to limit and to meter containers",
                    "Enable it in the kernel or in the cgroup above",
                ));
            }
        }
    }
    let probe = format!("{}/probe", cgroup_parent.trim_end_matches('/'));
    for at in mounts.values() {
        let directory = at.join(probe.trim_start_matches('/'));
        let made =
            std::fs::create_dir_all(&directory).and_then(|()| std::fs::remove_dir(&directory));
        if let Err(error) = made {
            return Err(missing(
                &format!("cgroups cannot be made under {}", at.display()),
                &error.to_string(),
                "Run the host outside of a container, or delegate a cgroup to it",
            ));
        }
    }
    Ok(())
}

/// What of the kernel's is used one by one, tried in a shim of its own.
pub fn shim(folder: &Path) -> i32 {
    let tried = kernel(folder);
    payload::answer(&tried);
    i32::from(tried.is_err())
}

fn kernel(folder: &Path) -> Result<(), Missing> {
    let lacks = |missing: &str, why: String, next: &str| Missing {
        missing: missing.into(),
        why,
        next: next.into(),
    };
    const OUTSIDE: &str = "Run the host as root outside of a container, or in a privileged one";
    bundle::isolate().map_err(|why| lacks("mounts cannot be made", why, OUTSIDE))?;
    let (low, up, work, at) = (
        folder.join("low"),
        folder.join("up"),
        folder.join("work"),
        Path::new(bundle::BASE).join("rootfs"),
    );
    for made in [&low, &up, &work, &at] {
        std::fs::create_dir_all(made).map_err(|e| {
            let next = "Choose a --data folder on a disk that can be written to";
            lacks("the data folder cannot be used", e.to_string(), next)
        })?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        low.display(),
        up.display(),
        work.display()
    );
    let overlay = mount(
        Some("overlay"),
        &at,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    );
    overlay.map_err(|error| {
        let next = match error {
            Errno::ENODEV => "Load it: modprobe overlay",
            Errno::EINVAL => {
                "Choose a --data folder on ext4, xfs or btrfs: this one cannot be laid over"
            }
            _ => OUTSIDE,
        };
        lacks("overlay mounts do not work", error.desc().into(), next)
    })?;
    let allow = libc::SECCOMP_RET_ERRNO;
    // SECCOMP_GET_ACTION_AVAIL.
    // SAFETY: asks about a number that lives through the call.
    let filters = unsafe { libc::syscall(libc::SYS_seccomp, 2, 0, &raw const allow) };
    Errno::result(filters).map_err(|error| {
        let next = "Use a kernel with CONFIG_SECCOMP_FILTER";
        lacks("system calls cannot be filtered", error.desc().into(), next)
    })?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(|error| {
        let next = match error {
            Errno::ENOSPC => "Allow them: sysctl -w user.max_user_namespaces=15000",
            Errno::EPERM => "Allow them: sysctl -w kernel.unprivileged_userns_clone=1, or run outside of a container",
            _ => "Use a kernel with CONFIG_USER_NS",
        };
        lacks("user namespaces do not work", error.desc().into(), next)
    })
}

/// A container of nothing but our own first process, which ends at once.
pub fn container(folder: &Path) -> ContainerSpec {
    ContainerSpec {
        id: "probe".into(),
        args: Vec::new(),
        env: vec!["PATH=/".into()],
        cwd: "/".into(),
        user: UserSpec::default(),
        hostname: "probe".into(),
        terminal: false,
        stdin_open: false,
        init: true,
        read_only: false,
        lower: vec![folder.join("low")],
        upper: folder.join("layer"),
        mounts: Vec::new(),
        netns: Default::default(),
        hosts: String::new(),
        resolv_conf: String::new(),
        uid_base: UIDS,
        limits: Resources {
            cpu_millis: 100,
            memory_bytes: 32 << 20,
            disk_bytes: 1 << 20,
            bandwidth_kbps: 1_000,
        },
        pids: 16,
        stop_signal: libc::SIGTERM,
        labels: Default::default(),
        process: Default::default(),
        nests: false,
    }
}

/// It did not start, though the kernel has what is needed.
pub fn not_started(runtime: Runtime, why: &str) -> EngineError {
    let said = why.to_lowercase();
    let next = if said.contains("not permitted") || said.contains("permission denied") {
        "Run the host as root outside of a container, or in a privileged one"
    } else if said.contains("cgroup") {
        "Look at what is mounted below /sys/fs/cgroup, and whether another program holds it"
    } else {
        "Look at the kernel's log with dmesg, or try another --engine: libcontainer, runc or crun"
    };
    let what = format!("{} started no container", runtime.name());
    missing(&what, why, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        for (release, good) in [
            ("6.18.5", true),
            ("5.11.0-rc1", true),
            ("5.10.0-26-amd64", false),
            ("4.19.0", false),
            ("10.0", true),
            ("", false),
            ("next", false),
        ] {
            assert_eq!(is_new_enough(release), good, "{release}");
        }
    }
}
