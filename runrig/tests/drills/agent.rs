//! The agent of a host is upgraded, dies of its memory, gets another owner, leaves for good.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fixtures::{decimal, signal, until};

use crate::World;
use crate::rig::Rig;
use crate::stage::{Drill, alive, named, pid, replicas};

const PROGRAM: &str = env!("CARGO_BIN_EXE_runrig");

/// Does the agent on the rig work with the container that its row names?
fn knows(world: &World, rig: &Rig) -> bool {
    let id = rig.row()["allocation"].as_str().expect("text").to_string();
    world.cloud.run(&["exec", &id, "--", "id"]).0 == 0
}

/// Another binary in the place of the one that ran: the containers do not notice.
pub fn is_upgraded(world: &World) {
    let cloud = &world.cloud;
    let program = cloud.data().join("runrig-installed");
    std::fs::copy(PROGRAM, &program).expect("installed");
    let mut rig = Rig::with_a_replica(cloud, "rig-up", &program);
    let mut drill = Drill::begin(cloud, "agent-upgrade");
    let before = rig.row();
    drill.strikes();
    // As a package manager does it: the old file goes, a new one of its name comes.
    std::fs::remove_file(&program).expect("gone");
    std::fs::copy(PROGRAM, &program).expect("installed");
    rig.end();
    assert!(alive(pid(&before)), "it runs without an agent");
    rig.start(&program, None);
    drill.is_over_when("the new agent looks after its container", || {
        knows(world, &rig)
    });
    let after = rig.row();
    for field in ["allocation", "pid", "restarts"] {
        assert_eq!(after[field], before[field], "{after}");
    }
    // A crash is the new agent's to mend.
    signal(pid(&before), libc::SIGKILL);
    until("it is restarted", || {
        let now = rig.row();
        pid(&now) != pid(&before) && now["health"] == "healthy"
    });
    drill.end();
}

/// A cgroup that limits memory, until dropped.
struct Limit(PathBuf);

impl Limit {
    fn new() -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let root = if v1.exists() {
            v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let path = root.join(format!("runrig-drill-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    fn file(&self, names: [&str; 2]) -> PathBuf {
        let mut files = names.iter().map(|n| self.0.join(n));
        files.find(|f| f.exists()).expect("memory is limited here")
    }

    fn used(&self) -> u64 {
        let file = self.file(["memory.usage_in_bytes", "memory.current"]);
        let text = std::fs::read_to_string(file).expect("read");
        text.trim().parse().expect("a number")
    }

    fn set(&self, bytes: u64) {
        let file = self.file(["memory.limit_in_bytes", "memory.max"]);
        std::fs::write(file, bytes.to_string()).expect("limited");
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let root = self.0.parent().expect("a parent").join("cgroup.procs");
        let procs = std::fs::read_to_string(self.0.join("cgroup.procs"));
        for pid in procs.unwrap_or_default().lines() {
            let _ = std::fs::write(&root, pid);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The kernel kills the agent for its memory; its containers have limits of their own.
pub fn is_out_of_memory(world: &World) {
    let cloud = &world.cloud;
    let mut rig = Rig::with_a_replica(cloud, "rig-oom", Path::new(PROGRAM));
    // Again, with a limit of its own.
    rig.end();
    let limit = Limit::new();
    rig.start(Path::new(PROGRAM), Some(&limit.0));
    until("the agent looks after its container", || knows(world, &rig));
    let mut drill = Drill::begin(cloud, "agent-out-of-memory");
    let before = rig.row();
    drill.strikes();
    // Little by little, so that the agent is the largest when nothing is left.
    limit.set(limit.used() + (8 << 20));
    let procs = limit.0.join("cgroup.procs").display().to_string();
    let grows =
        "echo $$ > \"$0\"; a=x; i=0; while [ $i -lt 24 ]; do a=$a$a; i=$((i+1)); done; sleep 60";
    let hog = Command::new("sh").args(["-c", grows, &procs]).spawn();
    let mut hog = hog.expect("sh runs");
    let killed = rig.ended();
    hog.kill().expect("killed");
    hog.wait().expect("ended");
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(killed.signal(), Some(libc::SIGKILL));
    let down = Instant::now();
    assert!(
        alive(pid(&before)),
        "the container is not the agent's to take along"
    );
    std::thread::sleep(Duration::from_secs(1));
    limit.set(8 << 30);
    rig.start(Path::new(PROGRAM), None);
    drill.is_over_when("the next agent looks after its container", || {
        knows(world, &rig)
    });
    drill.tells(format!(
        "without an agent for {:.1} s",
        down.elapsed().as_secs_f64()
    ));
    let after = rig.row();
    for field in ["allocation", "pid", "restarts"] {
        assert_eq!(after[field], before[field], "{after}");
    }
    drill.end();
}

/// A host is empty before somebody else is paid for it.
pub fn changes_hands(world: &World) {
    let cloud = &world.cloud;
    let mut rig = Rig::with_a_replica(cloud, "rig-sold", Path::new(PROGRAM));
    let mut drill = Drill::begin(cloud, "host-given-away");
    drill.strikes();
    let buyer = "11".repeat(20);
    rig.end();
    rig.start_as(Path::new(PROGRAM), None, &["--owner", &buyer]);
    // Refused while something runs there, and says what to do.
    assert!(!rig.ended().success());
    let log = cloud.data().join("logs/rig-sold.log");
    let said = std::fs::read_to_string(log).expect("a log");
    assert!(said.contains("Drain it first"), "{said}");
    rig.start(Path::new(PROGRAM), None);
    until("it is heard again", || knows(world, &rig));
    cloud.good(&["host", "drain", rig.name, "--key", &rig.key(), "--wait"]);
    rig.end();
    rig.start_as(Path::new(PROGRAM), None, &["--owner", &buyer]);
    drill.is_over_when("it has its new owner", || {
        named(cloud, rig.name)["owner"] == buyer.as_str()
    });
    let bond = decimal(&named(cloud, rig.name)["bond"]);
    assert!(bond > 0.0, "it has entered with one");
    cloud.good(&["host", "leave", rig.name, "--key", &rig.key()]);
    assert!(rig.ended().success(), "its agent ends with it");
    let balance = cloud.json(&["chain", "account", &buyer])["balance"].clone();
    assert!(
        decimal(&balance) >= bond,
        "its owner has the bond: {balance}"
    );
    drill.end();
}

/// Everything moves away first; then nobody knows it any more.
pub fn leaves(world: &World) {
    let cloud = &world.cloud;
    let mut rig = Rig::with_a_replica(cloud, "rig-gone", Path::new(PROGRAM));
    let mut drill = Drill::begin(cloud, "host-leaves");
    let old = pid(&rig.row());
    drill.strikes();
    cloud.good(&["host", "leave", rig.name, "--key", &rig.key()]);
    drill.is_over_when("two replicas serve elsewhere", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(_, h)| h != rig.name)
    });
    assert!(named(cloud, rig.name).is_null(), "nobody knows it");
    let left = Instant::now();
    assert!(rig.ended().success(), "its agent ends with it");
    drill.tells(format!(
        "its agent ended {:.1} s later",
        left.elapsed().as_secs_f64()
    ));
    assert!(!alive(old), "nothing of the site is left there");
    let claims = std::fs::read_dir("/run/runrig").expect("claims").flatten();
    let own = rig.data.display().to_string();
    let mut claims = claims.filter_map(|c| std::fs::read_to_string(c.path()).ok());
    assert!(
        !claims.any(|c| c.starts_with(&own)),
        "its addresses are free"
    );
    drill.end();
}
