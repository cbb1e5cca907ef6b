//! Make an OCI bundle in a mount namespace of the shim's own: it vanishes with its users.
//!
//! Everything lies on a private tmpfs at `/mnt`, where a user namespace can reach it however
//! closed the host's data folder is.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::{ContainerSpec, MountFrom, Runtime, cgroup, folder, hidden, rights, runtime, seccomp};

/// The private tmpfs.
pub const BASE: &str = "/mnt";

/// A container's first process if it asks for one: runs in any image.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
/// Where it lies: not in the writable layer.
const INIT_AT: &str = "/dev/init";

/// /dev/shm when nothing is said.
const SHM_BYTES: u64 = 64 << 20;

fn step<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e}"))
}

fn bind(from: &Path, to: &Path, recursive: bool) -> Result<(), String> {
    let flags = if recursive {
        MsFlags::MS_BIND | MsFlags::MS_REC
    } else {
        MsFlags::MS_BIND
    };
    step(
        &format!("bind {} to {}", from.display(), to.display()),
        mount(Some(from), to, None::<&str>, flags, None::<&str>),
    )
}

/// A mount namespace of our own that no change leaves.
pub fn isolate() -> Result<(), String> {
    step("unshare mounts", unshare(CloneFlags::CLONE_NEWNS))?;
    step(
        "make mounts private",
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        ),
    )?;
    step(
        "mount a tmpfs",
        mount_tmpfs(Path::new(BASE), "mode=755,size=4m"),
    )
}

fn mount_tmpfs(at: &Path, options: &str) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
}

/// The files of [`MountFrom::Memory`], on a tmpfs of their own that is never swapped out where
/// the kernel can do that (6.4 and later).
fn secrets(spec: &ContainerSpec, base: &Path) -> Result<Vec<(usize, PathBuf)>, String> {
    let folder = base.join("secrets");
    let mut files = Vec::new();
    for (index, wanted) in spec.mounts.iter().enumerate() {
        let MountFrom::Memory {
            content,
            uid,
            gid,
            mode,
        } = &wanted.source
        else {
            continue;
        };
        if files.is_empty() {
            step("make a folder", std::fs::create_dir(&folder))?;
            let options = format!("mode=755,size={}", hidden::BYTES_MAX + (1 << 20));
            let mounted = mount_tmpfs(&folder, &format!("{options},noswap"))
                .or_else(|_| mount_tmpfs(&folder, &options));
            step("mount a tmpfs", mounted)?;
        }
        let path = folder.join(index.to_string());
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.bytes()));
        step("write a secret", file)?;
        let (uid, gid) = (spec.uid_base + uid, spec.uid_base + gid);
        step("set an owner", chown(&path, Some(uid), Some(gid)))?;
        let mode = std::fs::Permissions::from_mode(*mode);
        step("set a mode", std::fs::set_permissions(&path, mode))?;
        files.push((index, path));
    }
    Ok(files)
}

/// Mounts and writes everything that `spec` needs; the bundle is [`BASE`] afterwards, and the
/// cgroups at `cgroup` are made if `runtime` is not to do that.
pub fn make(spec: &ContainerSpec, cgroup: &str, runtime: Runtime) -> Result<(), String> {
    if runtime::placed(runtime) {
        cgroup::make_limited(cgroup, &cgroup::Limits::of(spec))?;
    }
    isolate()?;
    let base = Path::new(BASE);
    overlay(spec, base)?;
    if !spec.netns.as_os_str().is_empty() {
        let netns = step(
            "open the network namespace",
            std::fs::File::open(&spec.netns),
        )?;
        step(
            "enter the network namespace",
            setns(netns, CloneFlags::CLONE_NEWNET),
        )?;
        rights::write_network_settings(&spec.process)?;
    }
    let sys = base.join("sys");
    step("make a folder", std::fs::create_dir(&sys))?;
    let read_only =
        MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    step(
        "mount sysfs",
        mount(Some("sysfs"), &sys, Some("sysfs"), read_only, None::<&str>),
    )?;
    for (name, text) in [
        ("hosts", &spec.hosts),
        ("resolv.conf", &spec.resolv_conf),
        ("hostname", &format!("{}\n", spec.hostname)),
    ] {
        let path = base.join(name);
        step("write a file", std::fs::write(&path, text))?;
        step(
            "set a mode",
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)),
        )?;
        step(
            "set an owner",
            chown(&path, Some(spec.uid_base), Some(spec.uid_base)),
        )?;
    }
    if spec.init {
        let path = base.join("init");
        step("write the first process", std::fs::write(&path, INIT))?;
        let executable = std::fs::Permissions::from_mode(0o755);
        step("set a mode", std::fs::set_permissions(&path, executable))?;
    }
    let mut volumes = secrets(spec, base)?;
    for (index, wanted) in spec.mounts.iter().enumerate() {
        if let MountFrom::Directory(from) = &wanted.source {
            let to = base.join(format!("v{index}"));
            match from.is_file() {
                true => step("make a file", std::fs::write(&to, ""))?,
                false => step("make a folder", std::fs::create_dir(&to))?,
            }
            bind(from, &to, false)?;
            volumes.push((index, to));
        }
        if let MountFrom::Part { directory, path } = &wanted.source {
            let part = folder::part(directory, path, spec);
            let (part, is_file) = step(&format!("the part {path} of a volume"), part)?;
            let to = base.join(format!("v{index}"));
            match is_file {
                true => step("make a file", std::fs::write(&to, ""))?,
                false => step("make a folder", std::fs::create_dir(&to))?,
            }
            let from = format!("/proc/self/fd/{}", part.as_raw_fd());
            bind(Path::new(&from), &to, false)?;
            volumes.push((index, to));
        }
    }
    let config = config(spec, cgroup, &volumes, runtime);
    let bytes = step("write the configuration", serde_json::to_vec(&config))?;
    step(
        "write the configuration",
        std::fs::write(base.join("config.json"), bytes),
    )
}

fn overlay(spec: &ContainerSpec, base: &Path) -> Result<(), String> {
    let (upper, work) = (spec.upper.join("fs"), spec.upper.join("work"));
    for folder in [&upper, &work] {
        step("make the writable layer", std::fs::create_dir_all(folder))?;
    }
    step(
        "own the writable layer",
        chown(&upper, Some(spec.uid_base), Some(spec.uid_base)),
    )?;
    // Bound to short names: the options of one mount are at most a page long.
    let mut lower = Vec::new();
    for (index, layer) in spec.lower.iter().enumerate() {
        let at = base.join(format!("l{index}"));
        step("make a folder", std::fs::create_dir(&at))?;
        bind(layer, &at, false)?;
        lower.push(at.display().to_string());
    }
    let at = base.join("u");
    step("make a folder", std::fs::create_dir(&at))?;
    bind(&spec.upper, &at, false)?;
    let rootfs = base.join("rootfs");
    step("make a folder", std::fs::create_dir(&rootfs))?;
    let options = format!(
        "lowerdir={},upperdir={BASE}/u/fs,workdir={BASE}/u/work",
        lower.join(":")
    );
    step(
        "mount the overlay",
        mount(
            Some("overlay"),
            &rootfs,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        ),
    )
}

fn config(
    spec: &ContainerSpec,
    cgroup: &str,
    volumes: &[(usize, PathBuf)],
    runtime: Runtime,
) -> Value {
    let limits = cgroup::Limits::of(spec);
    let root = spec.user.uid == 0;
    let none: [&str; 0] = [];
    let mut all = rights::names(&spec.process);
    if spec.nests {
        all.push("CAP_SYS_ADMIN".into());
    }
    let active = if root { json!(all) } else { json!(none) };
    let mut memory = json!({ "limit": limits.memory });
    if cgroup::limits_swap() {
        memory["swap"] = json!(limits.memory);
    }
    let shm = match spec.process.shm_bytes {
        0 => SHM_BYTES,
        bytes => bytes,
    };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", format!("size={shm}")] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "bind", "source": format!("{BASE}/sys"),
            "options": ["bind", "ro", "nosuid", "noexec", "nodev"] }),
    ];
    for name in ["hosts", "hostname", "resolv.conf"] {
        mounts.push(
            json!({ "destination": format!("/etc/{name}"), "type": "bind",
            "source": format!("{BASE}/{name}"), "options": ["bind", "nosuid", "noexec", "nodev"] }),
        );
    }
    let mut args = spec.args.clone();
    if spec.init {
        args.insert(0, INIT_AT.into());
        mounts.push(
            json!({ "destination": INIT_AT, "type": "bind", "source": format!("{BASE}/init"),
            "options": ["bind", "ro", "nosuid", "nodev"] }),
        );
    }
    for (index, wanted) in spec.mounts.iter().enumerate() {
        let access = if wanted.read_only { "ro" } else { "rw" };
        mounts.push(match &wanted.source {
            MountFrom::Tmpfs(tmpfs) => {
                let (uid, gid) = (tmpfs.uid, tmpfs.gid);
                let mut options = vec![
                    "nosuid".to_string(),
                    "nodev".into(),
                    format!("mode={:o}", tmpfs.mode),
                    format!("size={}", tmpfs.bytes),
                    access.into(),
                ];
                if (uid, gid) != (0, 0) {
                    options.extend([format!("uid={uid}"), format!("gid={gid}")]);
                }
                json!({ "destination": wanted.target, "type": "tmpfs", "source": "tmpfs",
                    "options": options })
            }
            MountFrom::Directory(_) | MountFrom::Part { .. } | MountFrom::Memory { .. } => {
                let source = volumes.iter().find(|(i, _)| *i == index).map(|(_, at)| at);
                json!({ "destination": wanted.target, "type": "bind", "source": source,
                    "options": ["bind", "nosuid", "nodev", access] })
            }
        });
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": spec.terminal,
            "user": { "uid": spec.user.uid, "gid": spec.user.gid, "additionalGids": spec.user.additional },
            "args": args,
            "env": spec.env,
            "cwd": spec.cwd,
            "capabilities": {
                "bounding": all, "effective": active, "permitted": active,
                "inheritable": none, "ambient": none,
            },
            "noNewPrivileges": true,
            "rlimits": rights::oci_limits(&spec.process),
        },
        "root": { "path": "rootfs", "readonly": spec.read_only },
        "hostname": spec.hostname,
        "mounts": mounts,
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "user" }, { "type": "cgroup" },
            ],
            "uidMappings": [{ "containerID": 0, "hostID": spec.uid_base, "size": 65536 }],
            "gidMappings": [{ "containerID": 0, "hostID": spec.uid_base, "size": 65536 }],
            "sysctl": rights::oci_settings(&spec.process),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                "/sys/firmware", "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    });
    if spec.process.oom_score_adj > 0 {
        config["process"]["oomScoreAdj"] = json!(spec.process.oom_score_adj);
    }
    // The embedded runtime's payload closes the filter itself.
    if runtime != Runtime::Libcontainer {
        config["linux"]["seccomp"] = seccomp::oci(spec.nests);
    }
    if runtime::placed(runtime) {
        config["linux"]["cgroupsPath"] = json!(cgroup::of_version_2());
    } else {
        config["linux"]["cgroupsPath"] = json!(cgroup);
        config["linux"]["resources"] = json!({
            "cpu": { "quota": limits.quota, "period": cgroup::PERIOD, "shares": limits.shares },
            "memory": memory,
            "pids": { "limit": limits.pids },
        });
    }
    config
}
