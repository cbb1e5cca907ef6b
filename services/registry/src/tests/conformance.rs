//! The OCI distribution specification, 1.1, as tables of requests and answers.

use std::time::Duration;

use serde_json::{Value, json};
use types::Digest;

use super::{World, account, key, signer, world};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Speaks for one account about its repository `x`.
pub struct Client {
    http: reqwest::Client,
    url: String,
    pub repository: String,
    signer: images::Signer,
}

#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answered {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("json")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn code(&self) -> String {
        let code = &self.json()["errors"][0]["code"];
        code.as_str().unwrap_or_default().to_string()
    }
}

impl Client {
    pub fn new(world: &World, n: u8) -> Self {
        Self {
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("built"),
            url: world.url.clone(),
            repository: format!("{}/x", account(n)),
            signer: signer(key(n)),
        }
    }

    /// `path` from the repository on, or whole if it begins with `/v2`.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answered {
        let path = match path.starts_with("/v2") || path == "/metrics" {
            true => path.to_string(),
            false => format!("/v2/{}{path}", self.repository),
        };
        let (header, value) = (self.signer)(method, &path);
        let method = method.parse::<reqwest::Method>().expect("a method");
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .header(header, value)
            .body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("answered");
        Answered {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.expect("a body").to_vec(),
        }
    }

    async fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, &[], b"").await
    }

    async fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/blobs/uploads/?digest={digest}");
        let answer = self.ask("POST", &path, &[], bytes).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    async fn put(&self, at: &str, manifest: &Value) -> (Digest, Answered) {
        let bytes = serde_json::to_vec(manifest).expect("json");
        let kind = manifest["mediaType"]
            .as_str()
            .unwrap_or(MANIFEST)
            .to_string();
        let path = format!("/manifests/{at}");
        let answer = self
            .ask("PUT", &path, &[("content-type", &kind)], &bytes)
            .await;
        (Digest::of(&bytes), answer)
    }

    /// A manifest with a config of `text`, under `tag`.
    async fn image(&self, tag: &str, text: &str) -> Digest {
        let (digest, answer) = self.put(tag, &self.manifest(text).await).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    async fn manifest(&self, text: &str) -> Value {
        let config = self.blob(text.as_bytes()).await;
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config, "size": text.len() } })
    }
}

#[tokio::test]
async fn pull() {
    let world = world().await;
    let client = Client::new(&world, 1);
    let image = client.image("v1", "config").await;
    let blob = Digest::of(b"config");
    let nothing = Digest::of(b"nothing");
    for (path, status, code) in [
        ("/v2/".to_string(), 200, ""),
        (format!("/manifests/{image}"), 200, ""),
        ("/manifests/v1".into(), 200, ""),
        (format!("/blobs/{blob}"), 200, ""),
        ("/manifests/v2".into(), 404, "MANIFEST_UNKNOWN"),
        (format!("/manifests/{nothing}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/blobs/{nothing}"), 404, "BLOB_UNKNOWN"),
        ("/blobs/sha256:zz".into(), 400, "DIGEST_INVALID"),
        (
            format!("/blobs/sha512:{}", "0".repeat(128)),
            400,
            "DIGEST_INVALID",
        ),
        ("/manifests/sha256:zz".into(), 400, "DIGEST_INVALID"),
        ("/manifests/.x".into(), 400, "MANIFEST_INVALID"),
        (format!("/v2/other/blobs/{blob}"), 404, "BLOB_UNKNOWN"),
        ("/v2/".to_string() + "UPPER/tags/list", 404, "NAME_UNKNOWN"),
    ] {
        let answer = client.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        if status >= 400 {
            assert_eq!(answer.code(), code, "{path}");
        }
        let head = client.ask("HEAD", &path, &[], b"").await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    let answer = client.get("/manifests/v1").await;
    assert_eq!(answer.header("content-type"), Some(MANIFEST));
    let shown = image.to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(shown.as_str()));
    assert_eq!(Digest::of(&answer.body), image);
    let head = client
        .ask("HEAD", &format!("/blobs/{blob}"), &[], b"")
        .await;
    assert_eq!(head.header("content-length"), Some("6"));
    let path = format!("/blobs/{blob}");
    for (range, status, body, told) in [
        ("bytes=0-1", 206, "co", "bytes 0-1/6"),
        ("bytes=4-", 206, "ig", "bytes 4-5/6"),
        ("bytes=-1", 206, "g", "bytes 5-5/6"),
        ("bytes=6-", 416, "", "bytes */6"),
    ] {
        let answer = client.ask("GET", &path, &[("range", range)], b"").await;
        assert_eq!(answer.status, status, "{range}");
        assert_eq!(answer.header("content-range"), Some(told), "{range}");
        if status == 206 {
            assert_eq!(answer.text(), body, "{range}");
        }
    }
}

#[tokio::test]
async fn push_in_every_way() {
    let world = world().await;
    let client = Client::new(&world, 1);
    let octets = ("content-type", "application/octet-stream");
    let begin = async || {
        let begun = client.ask("POST", "/blobs/uploads/", &[], b"").await;
        assert_eq!(begun.status, 202);
        begun.header("location").expect("a place").to_string()
    };
    // POST, then PUT.
    let place = begin().await;
    let digest = Digest::of(b"one");
    let path = format!("{place}?digest={}", digest.to_string().replace(':', "%3A"));
    let done = client.ask("PUT", &path, &[octets], b"one").await;
    assert_eq!(done.status, 201, "{}", done.text());
    let location = done.header("location").expect("a place").to_string();
    assert_eq!(client.get(&location).await.body, b"one");
    assert_eq!(client.get(&place).await.status, 404);

    // In pieces, in order, with a question in between.
    let place = begin().await;
    let piece = async |range: &str, bytes: &[u8]| {
        client
            .ask("PATCH", &place, &[octets, ("content-range", range)], bytes)
            .await
    };
    let late = piece("3-5", b"two").await;
    assert_eq!(
        (late.status, late.code().as_str()),
        (416, "BLOB_UPLOAD_INVALID")
    );
    let first = piece("0-2", b"one").await;
    assert_eq!((first.status, first.header("range")), (202, Some("0-2")));
    assert_eq!(piece("0-2", b"one").await.status, 416);
    assert_eq!(piece("3-99", b"two").await.status, 400);
    assert_eq!(piece("x", b"two").await.status, 400);
    let status = client.get(&place).await;
    assert_eq!((status.status, status.header("range")), (204, Some("0-2")));
    assert_eq!(piece("3-5", b"two").await.status, 202);
    let digest = Digest::of(b"onetwothree");
    let path = format!("{place}?digest={digest}");
    let last = ("content-range", "6-10");
    let done = client.ask("PUT", &path, &[octets, last], b"three").await;
    assert_eq!(done.status, 201, "{}", done.text());

    // Mounted from a repository that has it; else an upload is begun.
    let other = format!("/v2/{}/y/blobs/uploads/", account(1));
    for (from, status) in [("x", 201), ("z", 202)] {
        let path = format!("{other}?mount={digest}&from={}/{from}", account(1));
        assert_eq!(client.ask("POST", &path, &[], b"").await.status, status);
    }
    let path = format!("/v2/{}/y/blobs/{digest}", account(1));
    assert_eq!(client.get(&path).await.body, b"onetwothree");

    // Bytes that are not their digest's are gone, and so is the upload.
    let path = format!("/blobs/uploads/?digest={digest}");
    let wrong = client.ask("POST", &path, &[octets], b"wrong").await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (400, "DIGEST_INVALID")
    );
    let place = begin().await;
    let path = format!("{place}?digest={digest}");
    assert_eq!(client.ask("PUT", &path, &[], b"wrong").await.status, 400);
    assert_eq!(client.get(&place).await.status, 404);
    let place = begin().await;
    assert_eq!(client.ask("PUT", &place, &[], b"x").await.status, 400);
    // Given up by its client.
    assert_eq!(client.ask("DELETE", &place, &[], b"").await.status, 204);
    assert_eq!(client.get(&place).await.status, 404);

    // Another account's uploads are not there.
    let place = begin().await;
    let other = Client::new(&world, 2);
    let stolen = place.replace(&account(1).to_string(), &account(2).to_string());
    for place in [&place, &stolen] {
        let answer = other.ask("PATCH", place, &[octets], b"x").await;
        assert!(matches!(answer.status, 403 | 404), "{}", answer.text());
    }
    assert_eq!(client.get(&place).await.status, 204);
    // What nobody goes on with is gone, files and all.
    world.registry.uploads.sweep(Duration::ZERO);
    assert_eq!(client.get(&place).await.status, 404);
    let left = std::fs::read_dir(world.folder.path().join("registry/uploads"));
    assert_eq!(left.expect("read").count(), 0);
}

#[tokio::test]
async fn manifests_are_checked() {
    let world = world().await;
    let client = Client::new(&world, 1);
    let good = client.manifest("config").await;
    let changed = |key: &str, value: Value| {
        let mut manifest = good.clone();
        manifest[key] = value;
        manifest
    };
    let missing = json!([{ "digest": Digest::of(b"missing"), "size": 7 }]);
    for (manifest, code) in [
        (changed("layers", missing), "MANIFEST_BLOB_UNKNOWN"),
        (changed("schemaVersion", json!(1)), "MANIFEST_INVALID"),
        (
            changed("layers", json!([{ "digest": "sha512:1" }])),
            "MANIFEST_INVALID",
        ),
        (
            changed("subject", json!({ "digest": "x" })),
            "MANIFEST_INVALID",
        ),
        (json!([]), "MANIFEST_INVALID"),
    ] {
        let (_, answer) = client.put("v1", &manifest).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code));
    }
    for (at, kind, body, code) in [
        ("v1", MANIFEST, "no json", "MANIFEST_INVALID"),
        ("v1", "text/plain", &good.to_string(), "MANIFEST_INVALID"),
        (
            &Digest::of(b"x").to_string(),
            MANIFEST,
            &good.to_string(),
            "DIGEST_INVALID",
        ),
        ("a%20b", MANIFEST, &good.to_string(), "MANIFEST_INVALID"),
    ] {
        let path = format!("/manifests/{at}");
        let headers = [("content-type", kind)];
        let answer = client.ask("PUT", &path, &headers, body.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{at}");
    }
    let big = vec![b' '; (4 << 20) + 1];
    let answer = client.ask("PUT", "/manifests/v1", &[], &big).await;
    assert_eq!(answer.status, 413);
    assert_eq!(client.get("/tags/list").await.status, 404);
}

#[tokio::test]
async fn tags_come_in_pages_and_do_not_meet() {
    let world = world().await;
    let client = Client::new(&world, 1);
    // Such pairs once shared a file while they were written.
    let tags = ["v1.10", "v1.2", "v1.3", "v1.writing", "v2", "x"];
    let pushed = &client;
    let images: Vec<Digest> = futures::future::join_all(
        tags.iter()
            .map(|tag| async move { pushed.image(tag, &format!("config {tag}")).await }),
    )
    .await;
    for (tag, image) in tags.iter().zip(&images) {
        let answer = client.get(&format!("/manifests/{tag}")).await;
        assert_eq!(Digest::of(&answer.body), *image, "{tag}");
    }
    let all = client.get("/tags/list").await;
    assert_eq!(
        all.json(),
        json!({ "name": client.repository, "tags": tags })
    );
    assert_eq!(all.header("link"), None);
    let mut next = Some("/tags/list?n=2".to_string());
    let mut seen = Vec::new();
    while let Some(path) = next {
        let page = client.get(&path).await;
        let names = page.json()["tags"].as_array().expect("tags").clone();
        assert!(names.len() <= 2);
        seen.extend(names);
        next = page.header("link").map(|link| {
            assert!(link.ends_with("; rel=\"next\""), "{link}");
            link[1..link.find('>').expect("an end")].to_string()
        });
    }
    assert_eq!(json!(seen), json!(tags));
    for (query, expected) in [
        ("n=0", json!([])),
        ("last=v1.3", json!(["v1.writing", "v2", "x"])),
        ("n=1&last=v2", json!(["x"])),
        ("last=zzz", json!([])),
    ] {
        let page = client.get(&format!("/tags/list?{query}")).await;
        assert_eq!(page.json()["tags"], expected, "{query}");
    }
    assert_eq!(client.get("/tags/list?n=x").await.status, 400);
    let catalogue = client.get(&format!("/v2/_accounts/{}", account(1))).await;
    assert_eq!(catalogue.json(), json!({ "repositories": ["x"] }));
}

#[tokio::test]
async fn deletion() {
    let world = world().await;
    let client = Client::new(&world, 1);
    let image = client.image("v1", "config").await;
    client.image("v2", "config").await;
    let other = client.image("v3", "other").await;
    // A tag goes alone.
    assert_eq!(
        client.ask("DELETE", "/manifests/v1", &[], b"").await.status,
        202
    );
    assert_eq!(
        client.ask("DELETE", "/manifests/v1", &[], b"").await.status,
        404
    );
    assert_eq!(client.get(&format!("/manifests/{image}")).await.status, 200);
    // A manifest goes with its tags, and no others.
    let path = format!("/manifests/{image}");
    assert_eq!(client.ask("DELETE", &path, &[], b"").await.status, 202);
    assert_eq!(client.get(&path).await.status, 404);
    assert_eq!(client.get("/manifests/v2").await.status, 404);
    assert_eq!(client.get("/tags/list").await.json()["tags"], json!(["v3"]));
    assert_eq!(client.get(&format!("/manifests/{other}")).await.status, 200);
    // A blob goes from this repository only, its bytes with the last.
    let blob = Digest::of(b"config");
    let mount = format!(
        "/v2/{}/y/blobs/uploads/?mount={blob}&from={}",
        account(1),
        client.repository
    );
    assert_eq!(client.ask("POST", &mount, &[], b"").await.status, 201);
    let content = world.folder.path().join("registry/blobs").join(blob.hex());
    let path = format!("/blobs/{blob}");
    assert_eq!(client.ask("DELETE", &path, &[], b"").await.status, 202);
    assert_eq!(client.ask("DELETE", &path, &[], b"").await.status, 404);
    assert_eq!(client.get(&path).await.status, 404);
    let elsewhere = format!("/v2/{}/y/blobs/{blob}", account(1));
    assert_eq!(client.get(&elsewhere).await.status, 200);
    assert!(content.exists());
    assert_eq!(client.ask("DELETE", &elsewhere, &[], b"").await.status, 202);
    assert!(!content.exists());
    // Others may not.
    let stranger = Client::new(&world, 2);
    for path in [format!("/manifests/{other}"), "/manifests/v3".into()] {
        let path = format!("/v2/{}{path}", client.repository);
        assert_eq!(stranger.ask("DELETE", &path, &[], b"").await.status, 403);
    }
    // What no manifest names goes in time; what one names stays.
    let orphan = client.blob(b"orphan").await;
    assert_eq!(
        world
            .registry
            .keep
            .sweep(Duration::from_secs(60))
            .expect("swept"),
        0
    );
    assert_eq!(world.registry.keep.sweep(Duration::ZERO).expect("swept"), 1);
    assert_eq!(client.get(&format!("/blobs/{orphan}")).await.status, 404);
    let kept = Digest::of(b"other");
    assert_eq!(client.get(&format!("/blobs/{kept}")).await.status, 200);
}

#[tokio::test]
async fn referrers() {
    let world = world().await;
    let client = Client::new(&world, 1);
    let image = client.image("v1", "config").await;
    let none = client.get(&format!("/referrers/{image}")).await;
    assert_eq!((none.status, &none.json()["manifests"]), (200, &json!([])));
    assert_eq!(
        none.header("content-type"),
        Some("application/vnd.oci.image.index.v1+json")
    );
    let refer = async |kind: &str, subject: Digest| {
        let mut manifest = client.manifest("{}").await;
        manifest["artifactType"] = json!(kind);
        manifest["annotations"] = json!({ "kind": kind });
        manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
        let digest = Digest::of(&serde_json::to_vec(&manifest).expect("json"));
        let (_, answer) = client.put(&digest.to_string(), &manifest).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let told = subject.to_string();
        assert_eq!(answer.header("oci-subject"), Some(told.as_str()));
        digest
    };
    let signature = refer("application/vnd.example.signature+json", image).await;
    let sbom = refer("application/vnd.example.sbom", image).await;
    // A subject may come later than what refers to it.
    refer("application/vnd.example.sbom", Digest::of(b"later")).await;
    let all = client.get(&format!("/referrers/{image}")).await.json();
    let listed = all["manifests"].as_array().expect("manifests");
    assert_eq!(listed.len(), 2);
    let found = listed
        .iter()
        .find(|d| d["digest"] == json!(sbom))
        .expect("listed");
    assert_eq!(found["artifactType"], "application/vnd.example.sbom");
    assert_eq!(found["annotations"]["kind"], "application/vnd.example.sbom");
    assert_eq!(found["mediaType"], MANIFEST);
    assert!(found["size"].as_u64() > Some(0));
    let path = format!("/referrers/{image}?artifactType=application/vnd.example.signature%2Bjson");
    let some = client.get(&path).await;
    assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
    let some = some.json();
    let some = some["manifests"].as_array().expect("manifests");
    assert_eq!((some.len(), &some[0]["digest"]), (1, &json!(signature)));
    // Gone with the manifest.
    let path = format!("/manifests/{signature}");
    assert_eq!(client.ask("DELETE", &path, &[], b"").await.status, 202);
    let left = client.get(&format!("/referrers/{image}")).await.json();
    assert_eq!(left["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(client.get("/referrers/x").await.status, 400);
}

#[tokio::test]
async fn limits() {
    let world = World::start(|config| {
        config.blob_bytes_max = 1_000;
        config.account_bytes_max = 3_000;
    })
    .await;
    let client = Client::new(&world, 1);
    let upload = async |n: u8, size: usize| {
        let bytes = vec![n; size];
        let path = format!("/blobs/uploads/?digest={}", Digest::of(&bytes));
        client.ask("POST", &path, &[], &bytes).await.status
    };
    assert_eq!(upload(0, 1_001).await, 413);
    for n in 1..=3 {
        assert_eq!(upload(n, 1_000).await, 201);
    }
    // The same again takes nothing more; something else does.
    assert_eq!(upload(4, 1).await, 403);
    let path = format!("/blobs/{}", Digest::of(&[1; 1_000]));
    assert_eq!(client.ask("DELETE", &path, &[], b"").await.status, 202);
    assert_eq!(upload(4, 1).await, 201);
    // Each account has its own.
    let other = Client::new(&world, 2);
    other.blob(&[5; 1_000]).await;
    // A restart counts anew.
    let World { folder, .. } = world;
    let world = World::over(folder, |config| config.account_bytes_max = 3_000).await;
    assert_eq!(world.registry.keep.used(&account(1).to_string()), 2_001);

    let client = Client::new(&world, 3);
    let mut begun = 0;
    let refused = loop {
        let answer = client.ask("POST", "/blobs/uploads/", &[], b"").await;
        if answer.status != 202 {
            break answer;
        }
        begun += 1;
    };
    assert_eq!((begun, refused.status), (50, 429));
    assert!(refused.header("retry-after").is_some());
    let metrics = client.get("/metrics").await;
    assert!(metrics.text().contains("runrig_registry_disk_free_bytes"));
}

#[tokio::test]
async fn nonsense_is_answered_in_kind() {
    let world = world().await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("built");
    let owned = format!("/v2/{}/x", account(1));
    for (method, path, code) in [
        ("GET", "/healthz".to_string(), 200),
        ("GET", "/v2/".to_string(), 401),
        ("GET", "/v2/../../etc/passwd".into(), 404),
        ("GET", "/v2/a/blobs/sha256:zz".into(), 400),
        ("GET", "/v2/a/%2e%2e/blobs/x".into(), 404),
        ("POST", format!("{owned}/blobs/uploads/"), 401),
        ("PUT", format!("{owned}/manifests/latest"), 401),
        ("GET", format!("{owned}/manifests/latest"), 401),
        ("GET", format!("{owned}/tags/list"), 401),
        ("GET", format!("{owned}/blobs/uploads/0"), 401),
        ("GET", format!("/v2/a/blobs/{}", Digest::of(b"x")), 404),
        ("BREW", "/v2/".into(), 405),
        ("POST", "/v2/token".into(), 400),
    ] {
        let method = method.parse::<reqwest::Method>().expect("a method");
        let answer = http
            .request(method, format!("{}{path}", world.url))
            .send()
            .await
            .expect("answered");
        assert_eq!(answer.status().as_u16(), code, "{path}");
        let challenge = answer.headers().get("www-authenticate");
        assert_eq!(challenge.is_some(), code == 401, "{path}");
    }
    // A head that never ends is not waited for with memory.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(world.host())
        .await
        .expect("connected");
    let line = [b'a'; 1 << 16];
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(&line).await.is_ok() {
        sent += line.len();
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(sent < 64 << 20);
}
