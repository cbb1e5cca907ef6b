use std::net::SocketAddr;
use std::sync::Arc;

use images::{Access, ImageError, Signer, Store, StoreConfig};
use types::{AccountId, ImageRef, SecretKey};

use crate::{Config, router};

struct World {
    url: String,
    folder: tempfile::TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        data: folder.path().join("registry"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        blob_bytes_max: 1 << 30,
        disk_bytes_min: 0,
    };
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = router(config).expect("opens");
    tokio::spawn(async move { axum::serve(listener, router).await });
    World { url, folder }
}

fn signer(key: SecretKey) -> Signer {
    Arc::new(move |method, path| {
        let auth = api::RequestAuth::sign(&key, method, path, api::now_ms());
        (api::RequestAuth::HEADER.into(), auth.to_string())
    })
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn account(n: u8) -> AccountId {
    AccountId::of(&key(n).public())
}

fn store(world: &World, name: &str) -> Store {
    let own = nix::unistd::getuid().as_raw();
    Store::open(StoreConfig {
        dir: world.folder.path().join(name),
        uid_base: own,
        network_registry: Some(world.url.clone()),
        ..StoreConfig::default()
    })
    .expect("opens")
}

/// Makes an image, pushes it, and returns its pinned name.
async fn pushed(world: &World) -> (images::LocalImage, ImageRef) {
    let layout = world.folder.path().join("layout");
    let image = images::demo_image(std::path::Path::new("/bin/true"), &["x".into()], &layout)
        .expect("made");
    let repository = format!("{}/demo", account(1));
    let pinned = images::push(&image, &world.url, &repository, "v1", &signer(key(1)))
        .await
        .expect("pushed");
    (image, pinned)
}

#[tokio::test]
async fn an_owner_pushes_and_hosts_fetch_by_digest() {
    let world = world().await;
    let (image, pinned) = pushed(&world).await;
    assert_eq!(pinned.digest, image.manifest);
    // By tag with the owner's signature only.
    let mut access = Access {
        network: Some(world.url.clone()),
        signer: Some(signer(key(1))),
        ..Access::default()
    };
    assert_eq!(
        images::resolve(&pinned.reference, &access)
            .await
            .expect("resolved"),
        pinned
    );
    access.signer = Some(signer(key(2)));
    let denied = images::resolve(&pinned.reference, &access)
        .await
        .expect_err("another's");
    assert!(matches!(denied, ImageError::Denied { .. }), "{denied}");
    let denied = images::push(
        &image,
        &world.url,
        &format!("{}/demo", account(1)),
        "v2",
        &signer(key(2)),
    )
    .await;
    assert!(denied.is_err());

    // A host needs no signature: the digest is enough.
    let hosts = store(&world, "host");
    let (one, two) = tokio::join!(
        hosts.ensure(&pinned, |_, _| ()),
        hosts.ensure(&pinned, |_, _| ())
    );
    let ready = one.expect("ready");
    assert_eq!(ready.layers, two.expect("ready").layers);
    assert_eq!(ready.config.entrypoint, ["/bin/true", "x"]);
    assert!(ready.layers[0].join("bin/true").exists());
}

#[tokio::test]
async fn a_flipped_byte_never_becomes_ready() {
    let world = world().await;
    let (image, pinned) = pushed(&world).await;
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(image.blob(&image.manifest)).expect("read"))
            .expect("json");
    let blobs = [
        (image.manifest.to_string(), "manifest"),
        (
            manifest["config"]["digest"]
                .as_str()
                .expect("there")
                .to_string(),
            "config",
        ),
        (
            manifest["layers"][0]["digest"]
                .as_str()
                .expect("there")
                .to_string(),
            "layer",
        ),
    ];
    for (digest, what) in blobs {
        let path = world
            .folder
            .path()
            .join("registry/blobs")
            .join(digest.trim_start_matches("sha256:"));
        let good = std::fs::read(&path).expect("kept");
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&path, &bad).expect("written");
        let error = store(&world, what)
            .ensure(&pinned, |_, _| ())
            .await
            .expect_err("corrupt");
        assert!(
            matches!(error, ImageError::Corrupt { .. }),
            "{what}: {error}"
        );
        assert!(error.to_string().contains(what), "{error}");
        std::fs::write(&path, &good).expect("written");
        store(&world, what)
            .ensure(&pinned, |_, _| ())
            .await
            .expect("good again");
    }
}

#[tokio::test]
async fn nonsense_is_answered_in_kind() {
    let world = world().await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("built");
    let owned = format!("/v2/{}/x", account(1));
    for (method, path, code) in [
        ("GET", "/v2/".to_string(), 200),
        ("GET", "/v2/../../etc/passwd".into(), 404),
        ("GET", "/v2/a/blobs/sha256:zz".into(), 400),
        ("GET", "/v2/a/%2e%2e/blobs/x".into(), 404),
        ("POST", format!("{owned}/blobs/uploads/"), 401),
        ("PUT", format!("{owned}/manifests/latest"), 401),
        ("GET", format!("{owned}/manifests/latest"), 401),
        (
            "GET",
            format!("/v2/a/blobs/{}", types::Digest::of(b"x")),
            404,
        ),
        ("BREW", "/v2/".into(), 405),
    ] {
        let method = method.parse::<reqwest::Method>().expect("a method");
        let answer = client
            .request(method, format!("{}{path}", world.url))
            .send()
            .await
            .expect("answered");
        assert_eq!(answer.status().as_u16(), code, "{path}");
    }
    // Bytes that are not their digest are refused and gone.
    let path = format!(
        "{owned}/blobs/uploads/?digest={}",
        types::Digest::of(b"other")
    );
    let (header, value) = signer(key(1))("POST", &path);
    let answer = client
        .post(format!("{}{path}", world.url))
        .header(header, value)
        .body("bytes")
        .send()
        .await
        .expect("answered");
    assert_eq!(answer.status().as_u16(), 400);
    let left = std::fs::read_dir(world.folder.path().join("registry/uploads"))
        .expect("read")
        .count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_is_told_is_answered() {
    let world = world().await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    for endpoint in api::endpoints() {
        if !endpoint.roles.contains(&api::Role::Registry) {
            continue;
        }
        let method = format!("{:?}", endpoint.method).to_uppercase();
        let method = method.parse::<reqwest::Method>().expect("a method");
        let path = endpoint
            .path
            .replace("{account}", "someone")
            .replace("{name}", "someone/app")
            .replace("{id}", "1")
            .replace("{reference}", "latest");
        let url = format!("{}{path}", world.url);
        let response = http.request(method, url).send().await.expect("an answer");
        let (code, text) = (response.status(), response.text().await.expect("text"));
        let unknown = code == 405 || text.contains("there is nothing here");
        assert!(!unknown, "{:?} {path}: {code} {text}", endpoint.method);
    }
}
