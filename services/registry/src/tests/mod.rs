//! The registry over HTTP: its own clients, the specification's, and strangers.

mod clients;
mod conformance;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::response::IntoResponse as _;
use images::{Access, ImageError, Signer, Store, StoreConfig};
use ledger::account::Role;
use types::{AccountId, ImageRef, SecretKey};

use crate::{Config, http, serve};

struct World {
    url: String,
    folder: tempfile::TempDir,
    registry: Arc<http::Registry>,
}

impl World {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::over(folder, change).await
    }

    /// On what is in `folder` already.
    async fn over(folder: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            data: folder.path().join("registry"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            network: Vec::new(),
            blob_bytes_max: 1 << 30,
            account_bytes_max: 1 << 30,
            disk_bytes_min: 0,
        };
        change(&mut config);
        let listener = tokio::net::TcpListener::bind(config.listen)
            .await
            .expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let registry = http::open(config).expect("opens");
        let router = http::routed(registry.clone());
        tokio::spawn(serve::serve(listener, router, std::future::pending()));
        Self {
            url,
            folder,
            registry,
        }
    }

    fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

async fn world() -> World {
    World::start(|_| ()).await
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

/// A ledger that knows these grants, by who gave them, and gives everybody credits.
async fn ledger_of(given: Vec<(u8, u8, Role)>) -> String {
    let ledger = axum::Router::new().fallback(move |uri: axum::http::Uri| {
        let given = given.clone();
        async move {
            let id = uri.path().rsplit('/').next().unwrap_or_default().parse();
            let Ok(by) = id else {
                let problem = api::Problem {
                    kind: "not_found".into(),
                    what: "host".into(),
                    why: "there is none".into(),
                    next: String::new(),
                };
                return (axum::http::StatusCode::NOT_FOUND, axum::Json(problem)).into_response();
            };
            let grants = given.iter().filter(|(from, ..)| account(*from) == by);
            let grants = grants.map(|(_, to, role)| {
                let grant = ledger::account::Grant {
                    role: *role,
                    limit: None,
                    expires_ms: None,
                    label: String::new(),
                    since_ms: 0,
                    spent: types::Amount::ZERO,
                    counted_ms: 0,
                };
                (account(*to), grant)
            });
            axum::Json(api::AccountView {
                account: by,
                balance: types::Amount::credits(1),
                spendable: types::Amount::credits(1),
                held: types::Amount::ZERO,
                nonce: 0,
                height: 1,
                gift: types::Amount::ZERO,
                grants: grants.collect(),
                retired: false,
            })
            .into_response()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, ledger).await });
    url
}

#[tokio::test]
async fn whom_an_account_lets_act_reads_and_writes_by_his_role() {
    let grants = vec![
        (1, 2, Role::Developer),
        (1, 3, Role::Viewer),
        (2, 4, Role::Owner),
        (3, 5, Role::Owner),
    ];
    let url = ledger_of(grants).await;
    let world = World::start(|config| config.network = vec![url]).await;
    let (image, pinned) = pushed(&world).await;
    // By his own key, or by one that says whose it is.
    for (asks, through, reads, writes) in [
        (2, None, true, true),
        (3, None, true, false),
        (4, None, false, false),
        (4, Some(2), true, true),
        (5, Some(3), true, false),
        (5, Some(2), false, false),
        (6, Some(1), false, false),
    ] {
        let case = format!("{asks} through {through:?}");
        let by: Signer = Arc::new(move |method, path| {
            let auth = api::RequestAuth::sign(&key(asks), method, path, api::now_ms())
                .through(through.map(account));
            (api::RequestAuth::HEADER.into(), auth.to_string())
        });
        let access = Access {
            network: Some(world.url.clone()),
            signer: Some(by.clone()),
            ..Access::default()
        };
        let read = images::resolve(&pinned.reference, &access).await;
        assert_eq!(read.is_ok(), reads, "{case}");
        let repository = format!("{}/demo", account(1));
        let written = images::push(&image, &world.url, &repository, "v2", &by).await;
        assert_eq!(written.is_ok(), writes, "{case}");
    }
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
        let hex = digest.trim_start_matches("sha256:");
        let path = match what {
            "manifest" => format!("repositories/{}/demo/_manifests/{hex}", account(1)),
            _ => format!("blobs/{hex}"),
        };
        let path = world.folder.path().join("registry").join(path);
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
async fn who_writes_exists_on_the_ledger() {
    // A ledger that knows one account.
    let rich = account(1);
    let ledger = axum::Router::new().fallback(move |uri: axum::http::Uri| async move {
        let id = uri.path().rsplit('/').next().unwrap_or_default().parse();
        let account = id.expect("an account");
        let balance = types::Amount::credits(u64::from(account == rich));
        axum::Json(api::AccountView {
            account,
            balance,
            spendable: balance,
            held: types::Amount::default(),
            nonce: 0,
            height: 1,
            gift: types::Amount::default(),
            grants: Default::default(),
            retired: false,
        })
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = tokio::spawn(async move { axum::serve(listener, ledger).await });
    let world = World::start(|config| config.network = vec![url]).await;
    pushed(&world).await;
    let poor = conformance::Client::new(&world, 2);
    let answer = poor.ask("POST", "/blobs/uploads/", &[], b"").await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("no account"), "{}", answer.text());
    // With the ledger away, who is known may go on, and all may read.
    server.abort();
    let _ = server.await;
    let known = conformance::Client::new(&world, 1);
    let answer = known.ask("POST", "/blobs/uploads/", &[], b"").await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let third = conformance::Client::new(&world, 3);
    let answer = third.ask("POST", "/blobs/uploads/", &[], b"").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn what_an_older_registry_kept_is_still_there() {
    let world = world().await;
    let (_, pinned) = pushed(&world).await;
    // As it was: content for everyone, manifests apart from their bytes.
    let root = world.folder.path().join("registry");
    let repository = root.join(format!("repositories/{}/demo", account(1)));
    let manifests = repository.join("_manifests");
    let file = manifests.join(pinned.digest.hex());
    let whole = std::fs::read(&file).expect("read");
    let end = whole.iter().position(|b| *b == b'\n').expect("a line");
    std::fs::write(
        root.join("blobs").join(pinned.digest.hex()),
        &whole[end + 1..],
    )
    .expect("written");
    std::fs::write(&file, &whole[..end]).expect("written");
    std::fs::remove_dir_all(repository.join("_blobs")).expect("removed");
    std::fs::remove_file(root.join("linked")).expect("removed");
    let World { folder, .. } = world;
    let world = World::over(folder, |_| ()).await;
    store(&world, "host")
        .ensure(&pinned, |_, _| ())
        .await
        .expect("ready");
}
