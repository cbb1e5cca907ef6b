//! Releases, good and bad.

use fixtures::get;

use crate::World;
use crate::stage::{Drill, SERVES, SITE, deployment, replicas, site};

pub fn a_release_rolls(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "rolling-release");
    let before = replicas(cloud);
    drill.strikes();
    let file = cloud.file("compose.yaml", &site("green", SERVES));
    cloud.good(&["up", "-f", &file, "--yes", "--wait"]);
    drill.is_over_when("the old replicas are gone", || {
        let now = replicas(cloud);
        now.len() == 2 && now.iter().all(|r| !before.contains(r))
    });
    assert_eq!(get(&cloud.gateway(), SITE, "/").text().trim(), "green");
    drill.end();
}

pub fn a_bad_release_is_undone(world: &World) {
    let cloud = &world.cloud;
    let mut drill = Drill::begin(cloud, "bad-release");
    let before = replicas(cloud);
    let release = deployment(cloud)["release"].as_u64().expect("a number");
    drill.strikes();
    let file = cloud.file("bad.yaml", &site("red", r#"["sh", "-c", "exit 3"]"#));
    let (code, _, err) = cloud.run(&["up", "-f", &file, "--yes", "--wait"]);
    assert_eq!(code, 1, "{err}");
    drill.is_over_when("the old release is back", || {
        deployment(cloud)["good"].as_u64() == Some(release + 2)
    });
    assert_eq!(replicas(cloud), before);
    let why = deployment(cloud)["setback"]["why"].to_string();
    assert!(why.contains("code 3") || why.contains("in vain"), "{why}");
    drill.end();
}
