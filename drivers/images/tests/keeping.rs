//! What a host keeps: layers that changed on disk are noticed, unused images go.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use images::{ImageError, Room};
use world::{Fake, Faults, Guard, digest_of, store, umoci_image};

/// Flips a byte and sets the time back, as no honest program would.
fn flip(path: &std::path::Path) {
    let before = std::fs::metadata(path).expect("there");
    let mut bytes = std::fs::read(path).expect("read");
    bytes[0] ^= 1;
    std::fs::write(path, bytes).expect("written");
    let file = std::fs::File::options()
        .write(true)
        .open(path)
        .expect("open");
    file.set_modified(before.modified().expect("a time"))
        .expect("set");
}

#[tokio::test]
async fn a_layer_that_changed_on_disk_never_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    umoci_image(&layout, "v1", "hello", 2);
    let fake = Fake::start(&layout, Guard::Open, Faults::default()).await;
    let image = fake.pinned("v1");
    let at = dir.path().join("store");
    let read = |ready: &images::ReadyImage| {
        std::fs::read_to_string(ready.layers[1].join("0")).expect("there")
    };
    let kept = store(&at);
    let ready = kept.ensure(&image, |_, _| ()).await.expect("ready");
    let first = fake.asked.lock().expect("not poisoned").len();
    // Nothing changed: nothing is asked for.
    kept.ensure(&image, |_, _| ()).await.expect("ready");
    assert_eq!(fake.asked.lock().expect("not poisoned").len(), first);

    // In the same run of the agent, and after its restart: fetched anew.
    for reopen in [false, true] {
        flip(&ready.layers[1].join("0"));
        assert_ne!(read(&ready), "hello 0");
        let reopened = reopen.then(|| store(&at));
        let kept = reopened.as_ref().unwrap_or(&kept);
        let again = kept.ensure(&image, |_, _| ()).await.expect("ready");
        assert_eq!(read(&again), "hello 0");
        let asked = fake.asked.lock().expect("not poisoned").len();
        assert_eq!(asked, first + 1 + usize::from(reopen));
    }
    // A copy of the folder is as good as it was.
    let copy = dir.path().join("copy");
    let (from, to) = (at.display().to_string(), copy.display().to_string());
    world::run("cp", &["-a", &from, &to]);
    let asked = fake.asked.lock().expect("not poisoned").len();
    let copied = store(&copy);
    let ready = copied.ensure(&image, |_, _| ()).await.expect("ready");
    assert_eq!(fake.asked.lock().expect("not poisoned").len(), asked);
    // And if it cannot be had again, it does not start.
    flip(&ready.layers[0].join("1"));
    let diffs: Vec<_> = std::fs::read_dir(layout.join("blobs/sha256"))
        .expect("read")
        .flatten()
        .collect();
    for blob in diffs {
        std::fs::write(blob.path(), b"something else").expect("written");
    }
    let error = copied.ensure(&image, |_, _| ()).await.expect_err("refused");
    assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
    assert!(!ready.layers[0].exists());
}

#[tokio::test]
async fn unused_images_go_and_used_ones_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    for (tag, text) in [("a", "same"), ("b", "other")] {
        umoci_image(&layout, tag, text, 1);
    }
    // `c` is `a` with one more layer: they share the first. (Made like `a`, its first layer would be
    // another as soon as a second has passed.)
    let first = format!("{}:a", layout.display());
    world::run("umoci", &["tag", "--image", &first, "c"]);
    let more = layout.with_extension("more");
    std::fs::write(&more, "more").expect("written");
    let (image, source) = (
        format!("{}:c", layout.display()),
        more.display().to_string(),
    );
    world::run("umoci", &["insert", "--image", &image, &source, "/more"]);
    let fake = Fake::start(&layout, Guard::Open, Faults::default()).await;
    let at = dir.path().join("store");
    let kept = store(&at);
    let mut ready = Vec::new();
    for tag in ["a", "b", "c"] {
        let image = kept
            .ensure(&fake.pinned(tag), |_, _| ())
            .await
            .expect("ready");
        ready.push(image);
    }
    let listed = images::list(&at);
    let names: Vec<&str> = listed.iter().map(|i| i.reference.as_str()).collect();
    assert_eq!(names.len(), 3);
    assert!(listed.iter().all(|i| i.bytes > 0 && i.layers >= 1));

    let none = BTreeSet::new();
    let roomy = Room {
        store_percent_max: 100,
        free_percent_min: 0,
        age_max: Duration::from_secs(3_600),
        age_min: Duration::ZERO,
    };
    // There is room: all stay.
    assert!(kept.prune(&none, &roomy).expect("pruned").images.is_empty());
    // No room, but used a moment ago.
    let crowded = Room {
        store_percent_max: 0,
        ..roomy
    };
    let patient = Room {
        age_min: Duration::from_secs(3_600),
        ..crowded
    };
    assert!(
        kept.prune(&none, &patient)
            .expect("pruned")
            .images
            .is_empty()
    );
    // No room: what no allocation uses goes, what it shares with others stays.
    let in_use = BTreeSet::from([digest_of(&layout, "a")]);
    let strict = Room {
        age_min: Duration::from_millis(1),
        ..crowded
    };
    // The image in use is marked as used now; the clock must pass for the others only.
    while images::list(&at).iter().any(|i| now_ms() < i.used_ms + 5) {
        tokio::task::yield_now().await;
    }
    let pruned = kept.prune(&in_use, &strict).expect("pruned");
    assert_eq!(pruned.images.len(), 2, "{pruned:?}");
    assert!(ready[0].layers.iter().all(|l| l.exists()));
    assert!(!ready[1].layers[0].exists());
    assert!(!ready[2].layers[0].exists() && ready[2].layers[1].exists());
    assert_eq!(images::list(&at).len(), 1);
    assert_eq!(
        std::fs::read_dir(at.join("aside")).expect("read").count(),
        0
    );
    // What went comes back when it is asked for.
    kept.ensure(&fake.pinned("c"), |_, _| ())
        .await
        .expect("ready");
    assert!(ready[2].layers[0].exists());
}

fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}
