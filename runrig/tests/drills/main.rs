//! Failures that a cloud must get over by itself, on real processes and containers under a
//! steady load of idempotent requests: none of them may fail.
//!
//! `cargo xtask drill NAME` runs one and prints its figures; the tests run all. Runs as root;
//! needs nft and Debian's mirrors.

mod agent;
mod hosts;
mod ledger;
mod machine;
mod releases;
mod rig;
mod stage;

use fixtures::{Cloud, Disk, Faults, free_ports, until};

use stage::{SERVES, deployment, healthy, site};

/// The cloud, and what it stands on.
pub struct World {
    pub cloud: Cloud,
    pub faults: Faults,
    /// Of each host, the first one's first.
    pub disks: Vec<Disk>,
}

type Failure = (&'static str, fn(&World));

const DRILLS: [Failure; 17] = [
    ("rolling-release", releases::a_release_rolls),
    ("bad-release", releases::a_bad_release_is_undone),
    ("lost-host", hosts::a_host_is_lost),
    ("partitioned-host", hosts::a_host_is_cut_off),
    ("flapping-host", hosts::a_host_flaps),
    ("drain", hosts::a_host_is_drained),
    ("removed-meanwhile", hosts::volumes_are_removed_meanwhile),
    ("full-disk", machine::a_disk_is_full),
    ("slow-disk", machine::a_disk_is_slow),
    ("broken-host", machine::a_host_starts_nothing),
    ("host-clock", machine::a_hosts_clock_jumps),
    ("validator-clock", machine::a_validators_clock_jumps),
    ("agent-upgrade", agent::is_upgraded),
    ("agent-out-of-memory", agent::is_out_of_memory),
    ("host-given-away", agent::changes_hands),
    ("host-leaves", agent::leaves),
    ("no-control-plane", ledger::stands_still),
];

/// `all`, or those that are named, in their order and as often.
fn drills(wanted: &str) -> Vec<Failure> {
    if wanted == "all" {
        return DRILLS.into();
    }
    let named = |name| DRILLS.into_iter().find(|(n, _)| *n == name);
    let all = DRILLS.map(|(name, _)| name).join(", ");
    let one = |name| named(name).unwrap_or_else(|| panic!("no drill {name:?}: there are {all}"));
    wanted.split(',').map(one).collect()
}

/// One cloud for all, one failure after the other.
#[test]
fn the_cloud_gets_over_each_failure_without_a_lost_request() {
    let wanted = std::env::var("RUNRIG_DRILL").unwrap_or_else(|_| "all".into());
    let drills = drills(&wanted);
    let folder = tempfile::tempdir().expect("a folder");
    let faults = Faults::new(folder.path());
    let data = folder.path().join("data");
    let disks = (1..=3).map(|n| Disk::new(&data.join(format!("host-{n}"))));
    let disks = disks.collect();
    let program = env!("CARGO_BIN_EXE_runrig");
    let environment = faults.environment();
    let mut world = World {
        cloud: Cloud::start_with(program, folder.path(), free_ports(), environment),
        faults,
        disks,
    };
    let cloud = &world.cloud;
    cloud.load(&fixtures::busybox());
    cloud.up(&site("blue", SERVES));
    for (_, drill) in drills {
        drill(&world);
        until("it is quiet again", || {
            let now = cloud.rows("web");
            now.len() == 2 && now.iter().all(healthy) && deployment(cloud)["rollout"].is_null()
        });
    }
    cloud.good(&["down", "site"]);
    world.cloud.end();
    let logs = std::fs::read_dir(data.join("logs")).expect("a folder");
    for log in logs.flatten() {
        let text = std::fs::read_to_string(log.path()).expect("read");
        for sign in ["panicked at", "without calling"] {
            let line = text.lines().find(|l| l.contains(sign));
            assert_eq!(line, None, "{}", log.path().display());
        }
    }
}
