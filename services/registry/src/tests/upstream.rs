//! A private image of the registry that most others are made of (Debian's `docker-registry`):
//! with the right login it is copied into the network's, and a host starts it without any.

use std::path::Path;

use images::{Access, Credentials, ImageError};

use super::{World, account, key, pushed, signer, store, world};

/// `ann` with `correct horse`, as `htpasswd -B` writes it.
const PASSWORDS: &str = "ann:$2b$04$zmq1hxpcY.4BG1cIZpc7c.tMgaRjzlY9f63bWh6hNRIBE.JI6QQpO\n";

struct Upstream {
    address: String,
    _process: tokio::process::Child,
}

impl Upstream {
    async fn start(folder: &Path) -> Self {
        std::fs::create_dir(folder).expect("made");
        // Free now, and nobody's for so short a time.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a port")
            .port();
        let address = format!("127.0.0.1:{port}");
        std::fs::write(folder.join("htpasswd"), PASSWORDS).expect("written");
        let at = folder.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\nhttp: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: here, path: {at}/htpasswd}}}}\n"
        );
        std::fs::write(folder.join("config.yml"), config).expect("written");
        let process = tokio::process::Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry");
        let up = async {
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), up)
            .await
            .expect("it listens");
        Self {
            address,
            _process: process,
        }
    }
}

async fn skopeo(arguments: &[&str]) {
    let output = tokio::process::Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .await
        .expect("skopeo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

async fn copied(world: &World, from: &types::ImageRef, access: &Access) -> types::ImageRef {
    let repository = format!("{}/private", account(1));
    let signer = signer(key(1));
    images::copy(from, access, &world.url, &repository, "v1", &signer)
        .await
        .expect("copied")
}

#[tokio::test]
async fn a_private_image_is_copied_and_starts_without_a_login() {
    let world = world().await;
    let upstream = Upstream::start(&world.folder.path().join("upstream")).await;
    // Any image will do: one of the network's, taken there by another client.
    let (_, own) = pushed(&world).await;
    let source = format!(
        "docker://{}/{}/demo@{}",
        world.host(),
        account(1),
        own.digest
    );
    let name = format!("{}/acme/web:v1", upstream.address);
    skopeo(&[
        "copy",
        "-q",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--dest-creds",
        "ann:correct horse",
        &source,
        &format!("docker://{name}"),
    ])
    .await;
    let file = world.folder.path().join("config.json");
    let host = ["--tls-verify=false", upstream.address.as_str()];
    let login = ["login", "-u", "ann", "-p", "correct horse", "--authfile"];
    let path = file.display().to_string();
    skopeo(&[&login[..], &[&path], &host[..]].concat()).await;

    let error = images::resolve(&name, &Access::default())
        .await
        .expect_err("private");
    assert!(matches!(error, ImageError::Denied { .. }), "{error}");
    let access = Access {
        credentials: Credentials::of_file(&file),
        ..Access::default()
    };
    let private = images::resolve(&name, &access).await.expect("allowed");
    assert_eq!(private.digest, own.digest);
    let ours = copied(&world, &private, &access).await;
    assert_eq!(ours.digest, own.digest);
    let ready = store(&world, "host")
        .ensure(&ours, |_, _| ())
        .await
        .expect("ready");
    assert!(ready.layers[0].join("bin/true").exists());
}
