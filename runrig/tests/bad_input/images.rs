//! Images whose config, layers or digests lie.

use std::fs;
use std::path::{Path, PathBuf};

use fixtures::Image;
use serde_json::{Value, json};
use types::Digest;

use crate::World;

fn busybox(config: Value) -> Image {
    Image {
        config,
        ..fixtures::busybox()
    }
}

fn blob(layout: &Path, digest: &Value) -> PathBuf {
    let hex = digest
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:");
    layout.join("blobs/sha256").join(hex)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("json")
}

fn put(layout: &Path, bytes: &[u8]) -> (Value, usize) {
    let digest = Digest::of(bytes);
    let at = layout.join("blobs/sha256").join(digest.hex());
    fs::write(at, bytes).expect("written");
    (json!(digest), bytes.len())
}

/// Changes the config's bytes and the manifest, and names both rightly again.
fn rewrite(
    layout: &Path,
    config: impl FnOnce(Vec<u8>) -> Vec<u8>,
    manifest: impl FnOnce(&mut Value),
) {
    let index = layout.join("index.json");
    let mut top = read(&index);
    let mut inner = read(&blob(layout, &top["manifests"][0]["digest"]));
    let bytes = fs::read(blob(layout, &inner["config"]["digest"])).expect("a config");
    let (digest, size) = put(layout, &config(bytes));
    inner["config"]["digest"] = digest;
    inner["config"]["size"] = json!(size);
    manifest(&mut inner);
    let (digest, size) = put(layout, &serde_json::to_vec(&inner).expect("json"));
    top["manifests"][0]["digest"] = digest;
    top["manifests"][0]["size"] = json!(size);
    fs::write(index, top.to_string()).expect("written");
}

fn edited(change: impl FnOnce(&mut Value)) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    |bytes| {
        let mut config: Value = serde_json::from_slice(&bytes).expect("json");
        change(&mut config);
        serde_json::to_vec(&config).expect("json")
    }
}

/// Loads and runs it: one of both must fail, saying one of `words`; nothing may run.
fn never_runs(world: &World, name: &str, layout: &Path, words: &[&str]) -> Option<String> {
    let cloud = &world.cloud;
    let (code, _, said) = cloud.run(&["image", "load", &layout.display().to_string()]);
    let said = if code == 0 {
        let text = "name: liar\nservices:\n  lies:\n    image: busybox\n";
        let file = cloud.file("liar.yaml", text);
        let (code, out, said) = cloud.run(&["up", "-f", &file, "--yes", "--wait"]);
        let running = |r: &Value| r["state"] == "running";
        if code == 0 || cloud.rows("lies").iter().any(running) {
            return Some(format!("{name} runs: {out}{said}"));
        }
        // It may not even have come as far as a deployment.
        cloud.run(&["down", "liar", "--volumes"]);
        said
    } else {
        said
    };
    let lower = said.to_lowercase();
    let good = words.iter().any(|w| lower.contains(w)) && !lower.contains("panicked");
    (!good).then(|| format!("{name}: {said}"))
}

pub fn send(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let run = json!({ "Cmd": ["sleep", "1000"] });
    let keep = |bytes| bytes;
    let mut wrong = Vec::new();
    let mut number = 0;
    let mut layout = |config: &Value| {
        number += 1;
        busybox(config.clone()).write(&folder.path().join(number.to_string()))
    };

    let at = layout(&run);
    let another = json!(Digest([9; 32]));
    rewrite(
        &at,
        edited(|c| c["rootfs"]["diff_ids"][1] = another),
        |_| {},
    );
    wrong.extend(never_runs(world, "a wrong diff_id", &at, &["corrupt"]));

    let at = layout(&run);
    rewrite(&at, edited(|c| c["rootfs"]["diff_ids"] = json!([])), |_| {});
    wrong.extend(never_runs(world, "no diff_ids", &at, &["layers", "diff"]));

    let at = layout(&run);
    let labels = json!({ "long": "x".repeat(20 << 20) });
    rewrite(&at, edited(|c| c["config"]["Labels"] = labels), |_| {});
    never_runs(
        world,
        "a huge config",
        &at,
        &["large", "more than", "at most"],
    );

    let at = layout(&run);
    rewrite(&at, |_| b"no json at all".to_vec(), |_| {});
    wrong.extend(never_runs(
        world,
        "a config that is not JSON",
        &at,
        &["description"],
    ));

    let at = layout(&run);
    rewrite(
        &at,
        edited(|c| c["config"]["Cmd"] = json!({ "a": 1 })),
        |_| {},
    );
    wrong.extend(never_runs(
        world,
        "a command that is no list",
        &at,
        &["not a list", "what to run"],
    ));

    let at = layout(&run);
    rewrite(&at, edited(|c| c["architecture"] = json!("s390x")), |_| {});
    never_runs(
        world,
        "another architecture",
        &at,
        &["s390x", "architecture"],
    );

    let at = layout(&run);
    rewrite(&at, keep, |m| {
        m["layers"][1]["digest"] = json!(Digest([5; 32]))
    });
    wrong.extend(never_runs(
        world,
        "a layer that is not there",
        &at,
        &["05050505"],
    ));

    let at = layout(&run);
    let manifest = read(&blob(
        &at,
        &read(&at.join("index.json"))["manifests"][0]["digest"],
    ));
    let layer = blob(&at, &manifest["layers"][1]["digest"]);
    let mut bytes = fs::read(&layer).expect("a layer");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Not in place: the layer is shared with the store of built ones.
    fs::remove_file(&layer).expect("removed");
    fs::write(&layer, bytes).expect("written");
    wrong.extend(never_runs(world, "a flipped byte", &at, &["corrupt"]));

    let at = layout(&run);
    let (digest, size) = put(&at, &[7; 5_000]);
    let diff = digest.clone();
    rewrite(&at, edited(|c| c["rootfs"]["diff_ids"][1] = diff), |m| {
        m["layers"][1] = json!({ "digest": digest, "size": size,
            "mediaType": "application/vnd.oci.image.layer.v1.tar" });
    });
    wrong.extend(never_runs(
        world,
        "a layer that is no tar",
        &at,
        &["layer", "tar"],
    ));

    for (name, config, words) in [
        ("no command", json!({}), &["what to run"][..]),
        (
            "a missing entrypoint",
            json!({ "Entrypoint": ["/no/such"] }),
            &["/no/such"],
        ),
        (
            "a folder as entrypoint",
            json!({ "Entrypoint": ["/etc"] }),
            &["/etc"],
        ),
        (
            "an unknown user",
            json!({ "Cmd": ["sleep", "9"], "User": "ghost" }),
            &["ghost"],
        ),
        (
            "an absurd user",
            json!({ "Cmd": ["sleep", "9"], "User": "99999999999" }),
            &["99999999999"],
        ),
        (
            "a folder that is a file",
            json!({ "Cmd": ["sleep", "9"], "WorkingDir": "/etc/passwd/x" }),
            &["/etc/passwd"],
        ),
    ] {
        let at = layout(&config);
        wrong.extend(never_runs(world, name, &at, words));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The right one is what the name stands for again.
    world.cloud.load(&fixtures::busybox());
}
