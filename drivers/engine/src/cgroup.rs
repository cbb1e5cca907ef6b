//! Where a process's cgroups are, what they say, and how they go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::ContainerSpec;

/// Controller → mount point (v1), and the unified mount under `""` (v2).
pub fn mounts() -> BTreeMap<String, PathBuf> {
    let mut all = BTreeMap::new();
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(_), Some(at), Some(kind), Some(options)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        match kind {
            "cgroup" => {
                for option in options.split(',') {
                    if matches!(
                        option,
                        "cpu"
                            | "cpuacct"
                            | "memory"
                            | "pids"
                            | "blkio"
                            | "freezer"
                            | "devices"
                            | "cpuset"
                            | "net_cls"
                            | "net_prio"
                            | "perf_event"
                            | "hugetlb"
                            | "rdma"
                            | "misc"
                    ) {
                        all.entry(option.to_string()).or_insert_with(|| at.into());
                    }
                }
            }
            "cgroup2" => {
                all.entry(String::new()).or_insert_with(|| at.into());
            }
            _ => {}
        }
    }
    all
}

/// Every hierarchy, named ones without a controller too.
pub fn hierarchies() -> std::collections::BTreeSet<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let at = words.next()?;
            matches!(words.next()?, "cgroup" | "cgroup2").then(|| at.into())
        })
        .collect()
}

/// 1 if the controllers that limit are mounted apart, else 2.
///
/// Looked up once in a process: a start asks several times, and a fork has its parent's answer.
pub fn version() -> u8 {
    static VERSION: OnceLock<u8> = OnceLock::new();
    *VERSION.get_or_init(|| {
        if mounts().contains_key("memory") {
            1
        } else {
            2
        }
    })
}

/// Directories of the cgroups at `path` (`/runrig/…`), one per mount point.
pub fn directories(path: &str) -> BTreeMap<String, PathBuf> {
    let path = path.trim_start_matches('/');
    let version = version();
    mounts()
        .into_iter()
        .filter(|(controller, _)| (version == 1) != controller.is_empty())
        .map(|(controller, at)| (controller, at.join(path)))
        .filter(|(_, at)| at.is_dir())
        .collect()
}

/// Those of every hierarchy that we see, named ones and ones without a limit too.
pub fn everywhere(path: &str) -> Vec<PathBuf> {
    let path = path.trim_start_matches('/');
    let all = hierarchies().into_iter().map(|at| at.join(path));
    all.filter(|at| at.is_dir()).collect()
}

/// Moves this process into the cgroups at `path`, wherever there are any.
pub fn join(path: &str) -> Result<(), String> {
    for directory in everywhere(path) {
        std::fs::write(directory.join("cgroup.procs"), "0")
            .map_err(|e| format!("join the cgroup {}: {e}", directory.display()))?;
    }
    Ok(())
}

/// This process's cgroup of version 2, `/` if it has none.
pub fn of_version_2() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mine = text.lines().find_map(|line| line.strip_prefix("0::"));
    mine.unwrap_or("/").into()
}

/// Microseconds in which a quota of processor time holds.
pub const PERIOD: u32 = 100_000;

/// What a container's cgroups hold it to.
pub struct Limits {
    /// Microseconds of processor time in each [`PERIOD`].
    pub quota: i64,
    /// Weight where processors are short.
    pub shares: u64,
    /// Bytes, swap included.
    pub memory: u64,
    pub pids: u32,
}

impl Limits {
    pub fn of(spec: &ContainerSpec) -> Self {
        let cpu = spec.limits.cpu_millis;
        Self {
            quota: (i64::from(cpu) * 100).max(1_000),
            shares: {
                let part = match spec.process.cpu_shares {
                    0 => 1024,
                    part => u64::from(part),
                };
                (u64::from(cpu) * part / 1000).max(2)
            },
            memory: spec.limits.memory_bytes,
            pids: spec.pids,
        }
    }
}

const SWAP_LIMIT: &str = "memory.memsw.limit_in_bytes";

/// Whether this machine counts swap.
pub fn limits_swap() -> bool {
    version() == 2 || Path::new("/sys/fs/cgroup/memory").join(SWAP_LIMIT).exists()
}

/// Makes the v1 cgroups at `path`, one per controller, and sets what they hold to.
pub fn make_limited(path: &str, limits: &Limits) -> Result<(), String> {
    let mounts = mounts();
    for (controller, mount) in &mounts {
        // Those without a controller are of version 2.
        if controller.is_empty() {
            continue;
        }
        let mut at = mount.clone();
        for name in Path::new(path.trim_start_matches('/')) {
            at.push(name);
            match std::fs::create_dir(&at) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(format!("make the cgroup {}: {e}", at.display()));
                }
                _ if controller == "cpuset" => inherit_processors(&at)?,
                _ => {}
            }
        }
        let set = |file: &str, value: i128| {
            std::fs::write(at.join(file), value.to_string())
                .map_err(|e| format!("set {file} of {}: {e}", at.display()))
        };
        match controller.as_str() {
            "cpu" => {
                set("cpu.shares", limits.shares.into())?;
                set("cpu.cfs_period_us", PERIOD.into())?;
                set("cpu.cfs_quota_us", limits.quota.into())?;
            }
            "memory" => {
                set("memory.limit_in_bytes", limits.memory.into())?;
                if at.join(SWAP_LIMIT).exists() {
                    set(SWAP_LIMIT, limits.memory.into())?;
                }
            }
            "pids" => set("pids.max", limits.pids.into())?,
            _ => {}
        }
    }
    Ok(())
}

/// A new cpuset has no processor and takes no process, until it is told which.
fn inherit_processors(at: &Path) -> Result<(), String> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = std::fs::read_to_string(at.join(file)).unwrap_or_default();
        if !own.trim().is_empty() {
            continue;
        }
        let above = at.parent().unwrap_or(at).join(file);
        std::fs::read(&above)
            .and_then(|all| std::fs::write(at.join(file), all))
            .map_err(|e| format!("set {file} of {}: {e}", at.display()))?;
    }
    Ok(())
}

/// Did the kernel kill something in there for lack of memory?
pub fn oom_killed(directories: &BTreeMap<String, PathBuf>) -> bool {
    let (directory, file) = match (directories.get("memory"), directories.get("")) {
        (Some(directory), _) => (directory, "memory.oom_control"),
        (None, Some(directory)) => (directory, "memory.events"),
        (None, None) => return false,
    };
    std::fs::read_to_string(directory.join(file))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim() != "0")
}

/// Has the kernel prepare for a process to be moved between cgroups.
///
/// The first move after a quiet time waits until every processor knows that processes may not
/// begin or end unseen any more: seven milliseconds here. Asked for early, by a move of this
/// process to where it is, that time passes beside what else a start takes. Blocks for it,
/// if nobody asks already.
pub fn announce_move() {
    static ASKING: Mutex<()> = Mutex::new(());
    let Ok(_asking) = ASKING.try_lock() else {
        return;
    };
    let mounts = mounts();
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mine = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let mount = mounts.get(controllers.split(',').next()?)?;
        Some(mount.join(path.trim_start_matches('/')))
    });
    if let Some(mine) = mine {
        // Where it is not allowed, the start itself waits.
        let _ = std::fs::write(mine.join("cgroup.procs"), "0");
    }
}

/// Controllers that no v1 mount has on a machine whose others are mounted as v1.
fn loose() -> Vec<String> {
    if version() == 2 {
        return Vec::new();
    }
    let mounted = mounts();
    std::fs::read_to_string("/proc/cgroups")
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.starts_with('#') && line.ends_with("\t1"))
        .filter_map(|line| line.split('\t').next())
        .filter(|name| !mounted.contains_key(*name))
        .map(str::to_string)
        .collect()
}

/// crun refuses such a mix: mounts the loose controllers as v1, in the caller's own mount
/// namespace, so that they are loose again when the last container is gone.
///
/// Gives where they are mounted.
pub fn claim_loose() -> Result<Vec<PathBuf>, String> {
    let mut claimed = Vec::new();
    for controller in loose() {
        let at = Path::new("/sys/fs/cgroup").join(&controller);
        std::fs::create_dir_all(&at).map_err(|e| format!("make {}: {e}", at.display()))?;
        nix::mount::mount(
            Some("cgroup"),
            &at,
            Some("cgroup"),
            nix::mount::MsFlags::empty(),
            Some(controller.as_str()),
        )
        .map_err(|e| format!("mount the cgroup controller {controller}: {e}"))?;
        claimed.push(at);
    }
    Ok(claimed)
}

/// Where the containers of one engine are made. They stay as long as the engine, so that
/// nobody removes one just before a container is made in it.
///
/// What cannot be made is found by the engine's probe.
pub fn make(parent: &str) {
    for at in hierarchies() {
        let directory = at.join(parent.trim_start_matches('/'));
        // Somebody else may remove the empty one above meanwhile.
        let _ = (0..10).find(|_| std::fs::create_dir_all(&directory).is_ok());
    }
}

/// The cgroup at `path` and those above it, in the hierarchies at `mounts`, as far as nobody
/// uses them.
pub fn remove_empty(mounts: impl IntoIterator<Item = PathBuf>, path: &str) {
    for mount in mounts {
        let mut at = PathBuf::from(path.trim_start_matches('/'));
        while !at.as_os_str().is_empty() {
            // Those that are in use stay.
            let _ = std::fs::remove_dir(mount.join(&at));
            at.pop();
        }
    }
}

/// Kills what is left in there and removes it.
pub fn remove(path: &str) -> std::io::Result<()> {
    everywhere(path).iter().try_for_each(|d| remove_one(d))
}

fn remove_one(directory: &Path) -> std::io::Result<()> {
    for child in std::fs::read_dir(directory)?.flatten() {
        if child.file_type().is_ok_and(|t| t.is_dir()) {
            remove_one(&child.path())?;
        }
    }
    let mut last = Ok(());
    for _ in 0..100 {
        let procs = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|l| l.parse::<i32>().ok()) {
            // SAFETY: sends a signal, touches no memory.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        last = match std::fs::remove_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => return Ok(()),
        };
        std::thread::sleep(Duration::from_millis(10));
    }
    last
}
