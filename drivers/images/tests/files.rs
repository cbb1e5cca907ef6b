//! Images in the files of tools that people have: `umoci`, `skopeo` and what they write.

mod world;

use std::path::Path;

use images::ImageError;
use world::{digest_of, json, put, run, umoci_image};

fn skopeo(from: &str, to: &str) {
    run("skopeo", &["--insecure-policy", "copy", "-q", from, to]);
}

fn copied(layout: &Path, kind: &str, file: &Path, name: &str) {
    let from = format!("oci:{}:v1", layout.display());
    skopeo(&from, &format!("{kind}:{}:{name}", file.display()));
}

#[test]
fn what_skopeo_and_umoci_write_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("web");
    umoci_image(&layout, "v1", "hello", 2);
    let made = images::open_archive(&layout).expect("a layout of umoci's");
    let manifest = made.images[0].manifest;
    assert_eq!(manifest, digest_of(&layout, "v1"));
    // Only a tag is kept in it: the folder is the name.
    assert_eq!(made.images[0].names, ["web:v1"]);

    let other = dir.path().join("other");
    copied(&layout, "oci", &other, "acme/web:2");
    let archive = dir.path().join("web.tar");
    copied(&layout, "oci-archive", &archive, "acme/web:2");
    for file in [&other, &archive] {
        let opened = images::open_archive(file).expect("opened");
        assert_eq!(opened.images[0].names, ["acme/web:2"], "{file:?}");
        assert_eq!(opened.images[0].manifest, manifest, "{file:?}");
    }
    let docker = dir.path().join("docker.tar");
    copied(&layout, "docker-archive", &docker, "acme/web:2");
    let opened = images::open_archive(&docker).expect("a docker archive");
    assert_eq!(opened.images[0].names, ["docker.io/acme/web:2"]);
    let image = &opened.images[0];
    let inner = json(&image.blob(&image.manifest));
    assert_eq!(inner["layers"].as_array().map(Vec::len), Some(2));

    // Compressed by whatever is at hand, and unpacked into a folder.
    run("gzip", &["-k", &docker.display().to_string()]);
    let zipped = images::open_archive(&dir.path().join("docker.tar.gz")).expect("gzipped");
    assert_eq!(zipped.images[0].manifest, image.manifest);
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).expect("made");
    let (file, into) = (docker.display().to_string(), folder.display().to_string());
    run("tar", &["-xf", &file, "-C", &into]);
    let before = run("find", &[&into]);
    let unpacked = images::open_archive(&folder).expect("a folder");
    assert_eq!(unpacked.images[0].manifest, image.manifest);
    assert_eq!(run("find", &[&into]), before, "the folder is only read");
}

#[test]
fn one_image_keeps_all_its_names() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("web");
    umoci_image(&layout, "v1", "hello", 1);
    let image = format!("{}:v1", layout.display());
    run("umoci", &["tag", "--image", &image, "v2"]);
    let opened = images::open_archive(&layout).expect("opened");
    assert_eq!(opened.images.len(), 1);
    assert_eq!(opened.images[0].names, ["web:v1", "web:v2"]);

    let file = dir.path().join("docker.tar");
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "-q",
            "--additional-tag",
            "acme/web:latest",
            "--additional-tag",
            "acme/site:3",
            &format!("oci:{image}"),
            &format!("docker-archive:{}:acme/web:3", file.display()),
        ],
    );
    let opened = images::open_archive(&file).expect("opened");
    assert_eq!(opened.images.len(), 1);
    let mut names = opened.images[0].names.clone();
    names.sort();
    assert_eq!(
        names,
        [
            "docker.io/acme/site:3",
            "docker.io/acme/web:3",
            "docker.io/acme/web:latest"
        ]
    );
}

#[test]
fn a_flipped_byte_in_a_file_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("web");
    umoci_image(&layout, "v1", "hello", 1);
    let manifest = json(
        &layout
            .join("blobs/sha256")
            .join(digest_of(&layout, "v1").hex()),
    );
    for digest in [
        &manifest["layers"][0]["digest"],
        &manifest["config"]["digest"],
    ] {
        let hex = digest.as_str().expect("text").replace("sha256:", "");
        let path = layout.join("blobs/sha256").join(hex);
        let good = std::fs::read(&path).expect("read");
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&path, bad).expect("written");
        let error = images::open_archive(&layout).err().expect("refused");
        assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
        std::fs::write(&path, good).expect("written");
    }
    images::open_archive(&layout).expect("good again");
}

fn tar(entries: &[(&str, tar::EntryType, &[u8])], to: &Path) {
    let mut tar = tar::Builder::new(std::fs::File::create(to).expect("made"));
    for (path, kind, body) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(body.len() as u64);
        // Written raw: the builder itself would refuse a path that leaves.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *body).expect("written");
    }
    tar.finish().expect("written");
}

#[test]
fn nonsense_is_refused_in_words() {
    use tar::EntryType::Regular;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("x.tar");
    let refused = |expected: &str| {
        let error = images::open_archive(&file).err().expect("refused");
        assert!(error.to_string().contains(expected), "{error}");
    };
    tar(&[("../escape", Regular, b"x")], &file);
    refused("leaves the archive");
    assert!(!dir.path().join("escape").exists());
    tar(&[("x", Regular, b"x")], &file);
    refused("neither an OCI layout nor a docker archive");
    tar(&[("manifest.json", Regular, b"[]")], &file);
    refused("no image");
    let manifest = br#"[{"Config":"../../etc/passwd","Layers":[]}]"#;
    tar(&[("manifest.json", Regular, manifest)], &file);
    refused("etc/passwd");
    let names: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    let many: Vec<_> = names
        .iter()
        .map(|n| (n.as_str(), Regular, &b""[..]))
        .collect();
    tar(&many, &file);
    refused("more than 10000 files");
    std::fs::write(&file, b"no tar at all, but long enough to be looked at").expect("written");
    refused("tar file");

    // An index that names itself in a circle cannot be made; a deep one can.
    let layout = dir.path().join("web");
    umoci_image(&layout, "v1", "hello", 1);
    let mut digest = digest_of(&layout, "v1");
    for _ in 0..10 {
        let inner = serde_json::json!({ "schemaVersion": 2, "manifests": [{ "digest": digest }] });
        digest = put(&layout, &inner).0;
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{ "digest": digest }] });
    std::fs::write(layout.join("index.json"), index.to_string()).expect("written");
    let error = images::open_archive(&layout).err().expect("refused");
    assert!(error.to_string().contains("too deeply"), "{error}");
}
