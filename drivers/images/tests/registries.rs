//! Pulls from registries that are private, busy, cut off, or lie.

mod world;

use std::sync::atomic::Ordering;

use images::{Access, Credentials, ImageError};
use serde_json::json;
use world::{
    Fake, Faults, Guard, IDENTITY, PASSWORD, USER, basic, digest_of, put, store, umoci_image,
};

struct Setting {
    dir: tempfile::TempDir,
}

impl Setting {
    fn new(layers: usize) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        umoci_image(&dir.path().join("layout"), "v1", "hello", layers);
        Self { dir }
    }

    fn layout(&self) -> std::path::PathBuf {
        self.dir.path().join("layout")
    }

    async fn fake(&self, guard: Guard, faults: Faults) -> std::sync::Arc<Fake> {
        Fake::start(&self.layout(), guard, faults).await
    }

    /// A config as `docker login` writes it.
    fn login(&self, auths: serde_json::Value) -> Access {
        let file = self.dir.path().join("config.json");
        std::fs::write(&file, json!({ "auths": auths }).to_string()).expect("written");
        Access {
            credentials: Credentials::of_file(&file),
            ..Access::default()
        }
    }
}

async fn denied(reference: &str, access: &Access) -> String {
    let error = images::resolve(reference, access)
        .await
        .expect_err("denied");
    assert!(matches!(error, ImageError::Denied { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_private_registry_wants_the_right_login() {
    let setting = Setting::new(1);
    let digest = digest_of(&setting.layout(), "v1");
    for guard in [Guard::Basic, Guard::Bearer] {
        let fake = setting.fake(guard, Faults::default()).await;
        let reference = fake.reference("v1");
        let auth = basic().replace("Basic ", "");
        let right = setting.login(json!({ fake.address(): { "auth": auth } }));
        let pinned = images::resolve(&reference, &right).await.expect("allowed");
        assert_eq!(pinned.digest, digest);
        // By digest too, and the content.
        let by_digest = format!("{}/acme/web@{digest}", fake.address());
        images::resolve(&by_digest, &right).await.expect("allowed");

        let none = Access::default();
        let error = denied(&reference, &none).await;
        assert!(error.contains("docker login"), "{error}");
        let wrong = json!({ fake.address(): { "username": USER, "password": "wrong" } });
        let error = denied(&reference, &setting.login(wrong)).await;
        assert!(
            !error.contains(PASSWORD) && !error.contains("wrong"),
            "{error}"
        );
        if guard == Guard::Bearer {
            assert!(error.contains("refused the user and password"), "{error}");
        }
        let elsewhere = setting.login(json!({ "ghcr.io": { "auth": auth } }));
        denied(&reference, &elsewhere).await;
    }
}

#[tokio::test]
async fn an_identity_token_is_redeemed() {
    let setting = Setting::new(1);
    let fake = setting.fake(Guard::Identity, Faults::default()).await;
    let entry = json!({ fake.address(): { "auth": "", "identitytoken": IDENTITY } });
    let access = setting.login(entry);
    images::resolve(&fake.reference("v1"), &access)
        .await
        .expect("allowed");
    let old = setting.login(json!({ fake.address(): { "identitytoken": "old" } }));
    denied(&fake.reference("v1"), &old).await;
}

#[tokio::test]
async fn a_busy_registry_is_left_alone_for_as_long_as_it_asks() {
    let setting = Setting::new(1);
    let limited = |times, seconds| Faults {
        limited: std::sync::Mutex::new((times, seconds)),
        ..Faults::default()
    };
    // Short: waited for.
    let fake = setting.fake(Guard::Open, limited(1, 1)).await;
    images::resolve(&fake.reference("v1"), &Access::default())
        .await
        .expect("at the second try");
    assert_eq!(fake.requests.load(Ordering::SeqCst), 2);
    // Long: said, and not asked again.
    let fake = setting.fake(Guard::Open, limited(1, 3_600)).await;
    let store = store(&setting.dir.path().join("store"));
    for _ in 0..3 {
        let error = store
            .ensure(&fake.pinned("v1"), |_, _| ())
            .await
            .expect_err("limited");
        let ImageError::Limited { seconds, .. } = &error else {
            panic!("{error}")
        };
        assert!((3_500..=3_600).contains(seconds), "{error}");
        assert!(error.is_temporary());
    }
    assert_eq!(fake.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let setting = Setting::new(1);
    for ranges_ignored in [false, true] {
        let faults = Faults {
            cuts: std::sync::Mutex::new((3, 40)),
            ranges_ignored,
            ..Faults::default()
        };
        let fake = setting.fake(Guard::Open, faults).await;
        let store = store(&setting.dir.path().join(format!("store-{ranges_ignored}")));
        let ready = store
            .ensure(&fake.pinned("v1"), |_, _| ())
            .await
            .expect("ready");
        let text = std::fs::read_to_string(ready.layers[0].join("0")).expect("there");
        assert_eq!(text, "hello 0");
        let asked = fake.asked.lock().expect("not poisoned");
        let ranged = asked.iter().filter(|a| a.contains("bytes=")).count();
        assert!(ranged >= 3, "{asked:?}");
        if !ranges_ignored {
            assert!(asked.iter().any(|a| a.ends_with("bytes=40-")), "{asked:?}");
            assert!(asked.iter().any(|a| a.ends_with("bytes=80-")), "{asked:?}");
        }
    }
    // One that never gets anywhere ends.
    let faults = Faults {
        cuts: std::sync::Mutex::new((u32::MAX, 0)),
        ..Faults::default()
    };
    let fake = setting.fake(Guard::Open, faults).await;
    let store = store(&setting.dir.path().join("store-cut"));
    let error = store
        .ensure(&fake.pinned("v1"), |_, _| ())
        .await
        .expect_err("cut");
    assert!(error.is_temporary(), "{error}");
    let left = std::fs::read_dir(setting.dir.path().join("store-cut/new"));
    assert_eq!(left.expect("read").count(), 0);
}

#[tokio::test]
async fn layers_come_several_at_once_but_not_all() {
    let setting = Setting::new(12);
    let fake = setting.fake(Guard::Open, Faults::default()).await;
    let store = store(&setting.dir.path().join("store"));
    let heard = std::sync::Mutex::new(Vec::new());
    let ready = store
        .ensure(&fake.pinned("v1"), |ready, of| {
            heard.lock().expect("not poisoned").push((ready, of));
        })
        .await
        .expect("ready");
    assert_eq!(ready.layers.len(), 12);
    for (n, layer) in ready.layers.iter().rev().enumerate() {
        assert!(layer.join(n.to_string()).exists(), "layer {n}");
    }
    let at_once = fake.at_once.load(Ordering::SeqCst);
    assert!((2..=4).contains(&at_once), "{at_once}");
    let heard = heard.lock().expect("not poisoned");
    assert_eq!((heard[0], heard.len()), ((0, 12), 13));
    assert_eq!(heard.iter().max(), Some(&(12, 12)));
}

#[tokio::test]
async fn an_index_gives_what_this_machine_runs() {
    let setting = Setting::new(1);
    let layout = setting.layout();
    let own = digest_of(&layout, "v1");
    let fake = setting.fake(Guard::Open, Faults::default()).await;
    let entry = |digest: types::Digest, cpu: &str| {
        json!({ "digest": digest, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "platform": { "os": "linux", "architecture": cpu } })
    };
    let index = |entries: Vec<serde_json::Value>| {
        let index = json!({ "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries });
        put(&layout, &index).0
    };
    let missing = types::Digest([7; 32]);
    let good = index(vec![
        entry(missing, "riscv64"),
        entry(own, images::architecture()),
    ]);
    let nested = index(vec![entry(good, images::architecture())]);
    let foreign = index(vec![entry(missing, "riscv64"), entry(missing, "s390x")]);
    let artifact = put(
        &layout,
        &json!({ "schemaVersion": 2, "layers": [],
            "config": { "mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": own } }),
    )
    .0;
    // A config for another machine, without an index that would tell.
    let manifest = world::json(&fake.blob(&own));
    let config = manifest["config"]["digest"].as_str().expect("text");
    let mut config = world::json(&fake.blob(&config.parse().expect("a digest")));
    config["architecture"] = json!("riscv64");
    let (config, size) = put(&layout, &config);
    let mut alien = manifest.clone();
    alien["config"]["digest"] = json!(config);
    alien["config"]["size"] = json!(size);
    let alien = put(&layout, &alien).0;

    let store = store(&setting.dir.path().join("store"));
    for (digest, expected) in [
        (good, Ok(own)),
        (nested, Ok(own)),
        (foreign, Err("only for linux/riscv64, linux/s390x")),
        (
            artifact,
            Err("no container image but application/vnd.cncf.helm"),
        ),
        (alien, Err("made for linux/riscv64")),
        (missing, Err("MANIFEST_UNKNOWN")),
    ] {
        let image = types::ImageRef {
            reference: fake.reference("v1"),
            digest,
        };
        match (store.ensure(&image, |_, _| ()).await, expected) {
            (Ok(ready), Ok(manifest)) => assert_eq!(ready.manifest, manifest),
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{error}");
                assert!(!error.is_temporary(), "{error}");
            }
            (got, expected) => panic!("{got:?} {expected:?}"),
        }
    }
}

#[tokio::test]
async fn faults_say_what_to_do() {
    let setting = Setting::new(1);
    let fake = setting.fake(Guard::Open, Faults::default()).await;
    for (reference, words) in [
        (fake.reference("v9"), "runrig image load"),
        (format!("{}/acme/Web", fake.address()), "lowercase"),
        ("no-such-machine.invalid/x".into(), "check the name"),
        (
            format!("{}/acme/web@sha256:12", fake.address()),
            "cannot be read",
        ),
    ] {
        let error = images::resolve(&reference, &Access::default())
            .await
            .expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
    // A tag that gives other bytes than its digest says.
    let by_digest = format!("{}/acme/web:v1@{}", fake.address(), types::Digest([1; 32]));
    let error = images::resolve(&by_digest, &Access::default())
        .await
        .expect_err("unknown");
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
}
