//! What this machine can do, found by doing it.

use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::{EngineError, Missing, bundle, cgroup};

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

/// In a shim of its own: mounts and namespaces. Says on standard output what fails.
pub fn shim(folder: &Path) -> i32 {
    let tried = || -> Result<(), String> {
        bundle::isolate()?;
        let (low, up, work, at) = (
            folder.join("low"),
            folder.join("up"),
            folder.join("work"),
            Path::new(bundle::BASE).join("rootfs"),
        );
        for made in [&low, &up, &work, &at] {
            std::fs::create_dir_all(made).map_err(|e| format!("make {}: {e}", made.display()))?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            low.display(),
            up.display(),
            work.display()
        );
        mount(
            Some("overlay"),
            &at,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(|e| format!("mount an overlay: {e}"))?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
            .map_err(|e| format!("make a user namespace: {e}"))
    };
    match tried() {
        Ok(()) => 0,
        Err(why) => {
            println!("{why}");
            1
        }
    }
}
