//! What the owner of a deployment, and who meters, are told of its requests.

use api::{AccessLog, RequestAuth};
use types::{AccountId, SecretKey};

use super::*;

async fn signed(gateway: &Running, path: &str, key: Option<&SecretKey>) -> Answer {
    let header = key.map(|key| RequestAuth::sign(key, "GET", path, api::now_ms()).to_string());
    let headers: Vec<(&str, &str)> = header
        .iter()
        .map(|h| (RequestAuth::HEADER, h.as_str()))
        .collect();
    let sent = gateway.send("GET", "localhost", path, &headers, Bytes::new());
    sent.await
}

async fn asked(gateway: &Running, path: &str, key: Option<&SecretKey>) -> (u16, AccessLog) {
    let answer = signed(gateway, path, key).await;
    let log = serde_json::from_slice(&answer.body);
    (answer.status, log.unwrap_or(AccessLog { services: vec![] }))
}

#[tokio::test]
async fn the_owner_sees_each_request_and_nobody_else_does() {
    let (owner, stranger) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let mut service = route("web.app", web.address.port(), vec![upstream(1, LOCAL)]);
    service.owner = AccountId::of(&owner.public());
    let viewer = SecretKey::from_seed([3; 32]);
    let mut chain = Chain::new(vec![service]);
    chain.viewer = AccountId::of(&viewer.public());
    let (_validator, gateway) = gateway_with(&chain).await;
    let host = "web.app.localhost";
    let path = "/v1/deployments/d-1/access";
    // A client may have its answer before the request is written down: one after the other.
    let told = async |count| {
        let mut log = AccessLog { services: vec![] };
        eventually("the request has ended", async || {
            log = asked(&gateway, path, Some(&owner)).await.1;
            log.services[0].requests.len() == count
        })
        .await;
        log
    };
    assert_eq!(gateway.get(host, "/?q=1").await.status, 200);
    told(1).await;
    assert_eq!(gateway.get(host, "/nothing").await.status, 404);
    let mut log = told(2).await;
    let body = Bytes::from(vec![7; 100_000]);
    // Once the short way, once the general one.
    for (count, size) in [(3, 10), (4, 100_000)] {
        let sent = gateway
            .send("POST", host, "/echo", &[], body.slice(..size))
            .await;
        assert_eq!(sent.body.len(), size);
        log = told(count).await;
    }
    let seen: Vec<_> = log.services[0]
        .requests
        .iter()
        .map(|r| (&*r.method, &*r.path, r.status, r.received, r.sent))
        .collect();
    assert_eq!(
        seen,
        [
            ("GET", "/?q=1", 200, 0, 3),
            ("GET", "/nothing", 404, 0, 0),
            ("POST", "/echo", 200, 10, 10),
            ("POST", "/echo", 200, 100_000, 100_000),
        ]
    );
    for request in &log.services[0].requests {
        assert_eq!(request.allocation, Some(types::AllocationId(1)));
        assert_eq!(request.client, IpAddr::from([127, 0, 0, 1]));
        assert!(request.at_ms > 0 && request.retries == 0);
    }
    for (path, key, status) in [
        (path, None, 401),
        (path, Some(&stranger), 403),
        (path, Some(&viewer), 200),
        ("/v1/deployments/d-1/access?tail=x", Some(&owner), 400),
        ("/v1/deployments/d-9/access", Some(&owner), 404),
        ("/v1/deployments/x/access", Some(&owner), 404),
    ] {
        assert_eq!(asked(&gateway, path, key).await.0, status, "{path}");
    }
    for (path, key, status) in [
        ("/v1/deployments/d-1/requests", None, 401),
        ("/v1/deployments/d-1/requests", Some(&stranger), 403),
        ("/v1/deployments/d-1/requests", Some(&viewer), 200),
        ("/v1/deployments/d-1/requests?since_ms=0", Some(&owner), 200),
        ("/v1/deployments/d-1/requests?since=0", Some(&owner), 400),
        ("/v1/deployments/d-9/requests", Some(&owner), 404),
    ] {
        assert_eq!(asked(&gateway, path, key).await.0, status, "{path}");
    }
    let last = asked(&gateway, "/v1/deployments/d-1/access?tail=1", Some(&owner)).await;
    assert_eq!(last.1.services[0].requests[0].sequence, 3);
    // Who waits hears of the next one when it has come.
    let path = "/v1/deployments/d-1/access?service=web&from=4&wait_ms=20000";
    let (next, _) = tokio::join!(asked(&gateway, path, Some(&owner)), gateway.get(host, "/"));
    assert_eq!(next.1.services[0].requests[0].sequence, 4);
}

#[tokio::test]
async fn what_was_asked_outlives_the_gateway_and_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let [owner, stranger, viewer] = [1, 2, 3].map(|n| SecretKey::from_seed([n; 32]));
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let mut service = route("web.app", web.address.port(), vec![upstream(1, LOCAL)]);
    service.owner = AccountId::of(&owner.public());
    let mut chain = Chain::new(vec![service.clone()]);
    chain.viewer = AccountId::of(&viewer.public());
    let validator = validator(chain.clone()).await;
    let path = format!("/v1/accounts/{}/requests?by=day", service.owner);
    let answered = async |gateway: &Running, key: &SecretKey| {
        let told = signed(gateway, &path, Some(key)).await;
        let told: api::RequestsPast = serde_json::from_slice(&told.body).unwrap();
        assert!(told.begun_ms.is_some() && !told.cut, "{told:?}");
        assert!(told.rows.iter().all(|r| r.service == service.service));
        told.rows.iter().map(|r| r.answers[1]).sum::<u64>()
    };
    let one_life = async |requests: usize, then: &dyn Fn(), left: usize| {
        let mut gateway = Running::writing(&validator, folder.path()).await;
        gateway.heard(&chain).await;
        for _ in 0..requests {
            gateway.get("web.app.localhost", "/").await;
        }
        let log = "/v1/deployments/d-1/access";
        eventually("all have ended", async || {
            let log = asked(&gateway, log, Some(&owner)).await.1;
            log.services.iter().all(|s| s.requests.len() == requests)
        })
        .await;
        then();
        gateway.heard(&chain).await;
        let services = gateway.status().await["services"].clone();
        assert_eq!(services, left, "{services}");
        if left == 1 {
            assert_eq!(answered(&gateway, &owner).await, requests as u64);
        }
        gateway.stop();
        gateway.ended().await;
    };
    one_life(3, &|| (), 1).await;
    one_life(2, &|| chain.set(vec![]), 0).await;
    let gateway = Running::writing(&validator, folder.path()).await;
    gateway.heard(&chain).await;
    for key in [&owner, &viewer] {
        assert_eq!(answered(&gateway, key).await, 5);
    }
    let wrong = path.replace("day", "week");
    for (path, key, status) in [
        (&path, None, 401),
        (&path, Some(&stranger), 403),
        (&wrong, Some(&owner), 400),
    ] {
        let told = signed(&gateway, path, key).await;
        assert_eq!(told.status, status, "{path}: {}", told.text());
    }
    // One that writes nothing down says so.
    let (_validator, other) = gateway_with(&chain).await;
    let told = signed(&other, &path, Some(&owner)).await;
    let told: api::RequestsPast = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told, api::RequestsPast::default());
}

#[tokio::test]
async fn requests_and_bytes_are_counted_for_metering() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let published = free_port().await;
    let service = publishing(
        route("web.app", web.address.port(), vec![upstream(1, LOCAL)]),
        published,
        Protocol::Tcp,
    );
    let chain = Chain::new(vec![service]);
    let (_validator, gateway) = gateway_with(&chain).await;
    for _ in 0..3 {
        let answer = gateway
            .send(
                "POST",
                "web.app.localhost",
                "/echo",
                &[],
                Bytes::from_static(b"12345"),
            )
            .await;
        assert_eq!(answer.status, 200);
    }
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    eventually("the port opens", async || {
        TcpStream::connect(loopback(1, published)).await.is_ok()
    })
    .await;
    let mut spliced = TcpStream::connect(loopback(1, published)).await.unwrap();
    spliced.write_all(request.as_bytes()).await.unwrap();
    let received = read_until(&mut spliced, "\0").await.len();
    drop(spliced);
    let labels = "deployment=\"d-1\",service=\"web\"";
    let expected = [
        format!("runrig_gateway_requests_total{{{labels},status=\"2xx\"}} 3"),
        format!("runrig_gateway_received_bytes_total{{{labels}}} 15"),
        format!("runrig_gateway_sent_bytes_total{{{labels}}} 15"),
        format!("runrig_gateway_request_seconds_count{{{labels}}} 3"),
        format!("runrig_gateway_request_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
        format!("runrig_gateway_spliced_sent_bytes_total{{{labels}}} {received}"),
        format!(
            "runrig_gateway_spliced_received_bytes_total{{{labels}}} {}",
            request.len()
        ),
        format!("runrig_gateway_replica_resting{{{labels},allocation=\"a-1\"}} 0"),
        format!(
            "runrig_gateway_replica_requests_total{{{labels},allocation=\"a-1\",status=\"2xx\"}} 3"
        ),
        format!("runrig_gateway_replica_sent_bytes_total{{{labels},allocation=\"a-1\"}} 15"),
        format!("runrig_gateway_replica_request_seconds_count{{{labels},allocation=\"a-1\"}} 3"),
    ];
    let mut text = String::new();
    eventually("all is counted", async || {
        text = gateway
            .get("localhost", "/metrics")
            .await
            .text()
            .to_string();
        expected.iter().all(|line| text.contains(line.as_str()))
    })
    .await;
    // Each family is told once, with its kind.
    for family in text.lines().filter(|l| l.starts_with("# TYPE")) {
        assert_eq!(text.matches(family).count(), 1, "{family}");
    }
}
