//! Clients that people have, unmodified: `skopeo` logs in, pushes, lists, pulls and deletes.

use std::path::Path;

use api::RegistryLogin;
use base64::Engine as _;

use super::{World, account, key, pushed, world};

fn password(n: u8) -> String {
    RegistryLogin::sign(&key(n), api::now_ms() / 1_000, 1).to_string()
}

/// Runs `skopeo`: whether it went well, and what it said.
async fn skopeo(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = tokio::process::Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .env("REGISTRY_AUTH_FILE", folder.join("auth.json"))
        .env("HOME", folder)
        .output()
        .await
        .expect("skopeo");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

async fn login(world: &World, folder: &Path, user: &str, password: &str) -> (bool, String) {
    let arguments = ["login", "--tls-verify=false", "-u", user, "-p", password];
    skopeo(folder, &[&arguments[..], &[world.host()]].concat()).await
}

#[tokio::test]
async fn skopeo_logs_in_and_works() {
    let world = world().await;
    let folder = world.folder.path().join("skopeo");
    std::fs::create_dir(&folder).expect("made");
    let (own, other) = (account(1).to_string(), account(2).to_string());
    for (user, password, expected) in [
        (own.as_str(), "hunter2".to_string(), false),
        (own.as_str(), password(2), false),
        ("me", password(1), false),
        (own.as_str(), password(1), true),
    ] {
        let (ok, said) = login(&world, &folder, user, &password).await;
        assert_eq!(ok, expected, "{said}");
    }
    let (image, _) = pushed(&world).await;
    let layout = image.layout.display().to_string();
    std::fs::write(
        image.layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("written");
    let size = std::fs::metadata(image.blob(&image.manifest)).expect("there");
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image.manifest, "size": size.len(),
        "annotations": { "org.opencontainers.image.ref.name": "v1" } }] });
    std::fs::write(image.layout.join("index.json"), index.to_string()).expect("written");
    let source = format!("oci:{layout}:v1");
    let target = format!("docker://{}/{own}/web/site:v1", world.host());
    let push = ["copy", "-q", "--dest-tls-verify=false", &source];
    let same = [&push[..], &[&target, "--preserve-digests"]].concat();
    let (ok, said) = skopeo(&folder, &same).await;
    assert!(ok, "{said}");
    // Another format is another manifest, of the same layers.
    let second = target.replace(":v1", ":v2");
    let formatted = [&push[..], &[&second, "--format", "v2s2"]].concat();
    let (ok, said) = skopeo(&folder, &formatted).await;
    assert!(ok, "{said}");
    // Not under another's name.
    let foreign = target.replace(&own, &other);
    let (ok, said) = skopeo(&folder, &[&push[..], &[&foreign]].concat()).await;
    assert!(!ok && said.contains("denied"), "{said}");

    let repository = target.trim_end_matches(":v1");
    let (ok, said) = skopeo(&folder, &["list-tags", "--tls-verify=false", repository]).await;
    assert!(
        ok && said.contains("\"v1\"") && said.contains("\"v2\""),
        "{said}"
    );
    let inspect = ["inspect", "--tls-verify=false", &target];
    let (ok, said) = skopeo(&folder, &inspect).await;
    assert!(ok && said.contains(&image.manifest.to_string()), "{said}");
    let back = format!("oci:{}:v1", folder.join("back").display());
    let pull = ["copy", "-q", "--preserve-digests", "--src-tls-verify=false"];
    let (ok, said) = skopeo(&folder, &[&pull[..], &[&target, &back]].concat()).await;
    assert!(ok, "{said}");
    let opened = images::open_archive(&folder.join("back")).expect("whole");
    assert_eq!(opened.images[0].manifest, image.manifest);

    // Without a login: by digest, as hosts do, and not by tag.
    let nobody = world.folder.path().join("nobody");
    std::fs::create_dir(&nobody).expect("made");
    let (ok, said) = skopeo(&nobody, &inspect).await;
    assert!(!ok && said.contains("unauthorized"), "{said}");
    let pinned = format!("{repository}@{}", image.manifest);
    let here = format!("oci:{}:v1", nobody.join("here").display());
    let (ok, said) = skopeo(&nobody, &[&pull[..], &[&pinned, &here]].concat()).await;
    assert!(ok, "{said}");

    let (ok, said) = skopeo(&folder, &["delete", "--tls-verify=false", &second]).await;
    assert!(ok, "{said}");
    let (_, said) = skopeo(&folder, &["list-tags", "--tls-verify=false", repository]).await;
    assert!(
        said.contains("\"v1\"") && !said.contains("\"v2\""),
        "{said}"
    );
}

#[tokio::test]
async fn tokens_by_every_road() {
    let world = world().await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("built");
    let url = format!("{}/v2/token", world.url);
    let (user, password) = (account(1).to_string(), password(1));
    let form = |pairs: &[(&str, &str)]| {
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        http.post(&url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(pairs.join("&"))
    };
    let anonymous = base64::engine::general_purpose::STANDARD.encode(":");
    for (what, request, status, reads) in [
        (
            "basic",
            http.get(&url).basic_auth(&user, Some(&password)),
            200,
            true,
        ),
        (
            "wrong",
            http.get(&url).basic_auth(&user, Some("x")),
            401,
            false,
        ),
        ("nobody", http.get(&url), 200, false),
        (
            "empty",
            http.get(&url)
                .header("authorization", format!("Basic {anonymous}")),
            200,
            false,
        ),
        (
            "password",
            form(&[
                ("grant_type", "password"),
                ("username", &user),
                ("password", &password),
            ]),
            200,
            true,
        ),
        (
            "refresh",
            form(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", &password),
            ]),
            200,
            true,
        ),
        ("no grant", form(&[("x", "y")]), 400, false),
    ] {
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status().as_u16(), status, "{what}");
        if status != 200 {
            continue;
        }
        let bytes = answer.bytes().await.expect("a body");
        let token: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
        let token = token["token"].as_str().expect("a token");
        let ping = http.get(format!("{}/v2/", world.url)).bearer_auth(token);
        assert_eq!(ping.send().await.expect("answered").status(), 200, "{what}");
        let path = format!("{}/v2/{user}/x/manifests/v1", world.url);
        let read = http.get(path).bearer_auth(token).send().await;
        // Nothing is there; only its owner is told so.
        let expected = if reads { 404 } else { 401 };
        assert_eq!(read.expect("answered").status(), expected, "{what}");
    }
    // Also without the token service.
    let ping = http.get(format!("{}/v2/", world.url));
    let ping = ping.basic_auth(&user, Some(&password)).send().await;
    assert_eq!(ping.expect("answered").status(), 200);
    let ping = http.get(format!("{}/v2/", world.url)).bearer_auth("old");
    assert_eq!(ping.send().await.expect("answered").status(), 401);
}
