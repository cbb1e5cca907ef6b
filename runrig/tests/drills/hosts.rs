//! Hosts that are lost, cut off, flapping, drained.

use std::time::Duration;

use fixtures::{is_given_work, signal, until};

use crate::World;
use crate::stage::{Drill, alive, named, pid, replicas, role, text};

/// The machine is gone, its containers with it; later it is back.
pub fn a_host_is_lost(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "lost-host");
    let rows = cloud.rows("web");
    let lost = &rows[0];
    let (gone, host) = (&lost["allocation"], text(&lost["host"]));
    drill.strikes();
    let held = cloud.hold(&role(host));
    signal(pid(lost), libc::SIGKILL);
    drill.is_over_when("two replicas serve elsewhere", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(a, _)| a != gone)
    });
    drop(held);
    until("the host is back, with nothing of the site", || {
        let back = named(cloud, host);
        back["online"] == true && back["allocations"] == 0
    });
    drill.end();
}

/// A host that cannot be heard goes on serving; when it is heard again its replicas are no
/// longer its own, and are ended.
pub fn a_host_is_cut_off(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "partitioned-host");
    let rows = cloud.rows("web");
    let cut = &rows[0];
    let host = text(&cut["host"]).to_string();
    let pid = pid(cut);
    drill.strikes();
    let held = cloud.hold(&role(&host));
    drill.is_over_when("its replica has a successor", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(_, h)| *h != host)
    });
    assert!(alive(pid), "nobody was there to end it");
    drop(held);
    until("it has ended what is no longer its own", || !alive(pid));
    drill.end();
}

/// Short silences, one after the other: no storm of replicas.
pub fn a_host_flaps(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "flapping-host");
    let before = cloud.json(&["chain", "status"])["allocations"].as_u64();
    let host = text(&cloud.rows("web")[0]["host"]).to_string();
    drill.strikes();
    for _ in 0..3 {
        let held = cloud.hold(&role(&host));
        std::thread::sleep(Duration::from_secs(2));
        drop(held);
        std::thread::sleep(Duration::from_secs(1));
    }
    drill.is_over_when("two replicas serve", || replicas(cloud).len() == 2);
    let after = cloud.json(&["chain", "status"])["allocations"].as_u64();
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after - before <= 3, "{before} → {after}");
    }
    drill.end();
}

pub fn a_host_is_drained(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "drain");
    let host = text(&cloud.rows("web")[0]["host"]).to_string();
    let key = cloud.data().join(role(&host)).join("host.key");
    let key = key.to_str().expect("text");
    drill.strikes();
    cloud.good(&["host", "drain", &host, "--key", key, "--wait"]);
    drill.is_over_when("two replicas serve elsewhere", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|(_, h)| *h != host)
    });
    cloud.good(&["host", "drain", &host, "--key", key, "--undo"]);
    drill.end();
}

fn stores(name: &str, host: &str) -> String {
    format!(
        r#"
name: {name}
volumes: {{ data: {{}} }}
services:
  store:
    image: busybox
    command: ["sh", "-c", "echo kept > /data/file; sleep 600"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    deploy:
      placement: {{ constraints: ["node.id == {host}"] }}
"#
    )
}

/// What its owner removed while nobody could tell the host goes when it is back; what he did
/// not remove stays.
pub fn volumes_are_removed_meanwhile(world: &World) {
    let cloud = &world.cloud;
    let host = "dev-2";
    let id = named(cloud, host)["host"].clone();
    until("the host is given work", || {
        is_given_work(&named(cloud, host))
    });
    let folders = ["thrown", "kept"].map(|name| {
        cloud.up(&stores(name, text(&id)));
        let deployment = cloud.json(&["inspect", name])[0]["deployment"].clone();
        let volumes = cloud.data().join(role(host)).join("volumes");
        volumes.join(text(&deployment))
    });
    let file = |folder: &std::path::Path| folder.join("data/file").exists();
    until("both have stored something", || {
        folders.iter().all(|f| file(f))
    });
    let mut drill = Drill::begin(cloud, "removed-meanwhile");
    drill.strikes();
    let held = cloud.hold(&role(host));
    until("the host counts as lost", || {
        named(cloud, host)["online"] == false
    });
    cloud.good(&["down", "thrown", "--volumes"]);
    cloud.good(&["down", "kept"]);
    assert!(folders.iter().all(|f| file(f)), "nobody was there to do it");
    drop(held);
    drill.is_over_when("what was thrown away is gone", || !folders[0].exists());
    until("nothing runs there", || {
        named(cloud, host)["allocations"] == 0
    });
    assert!(file(&folders[1]), "what its owner did not remove stays");
    drill.end();
}
