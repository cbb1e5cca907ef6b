//! The gateway between loopback validators, agents and replicas.

mod clients;
mod hostile;
mod owner;
mod protocols;
mod replicas;
mod wake;
mod world;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use std::net::IpAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use types::Protocol;

use crate::table::{Absent, Table, Trust, authority, machine};
use world::*;

#[tokio::test]
async fn requests_go_to_the_service_of_their_host() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let port = web.address.port();
    let mut frozen = route("ice.app", port, vec![upstream(2, LOCAL)]);
    frozen.frozen = true;
    let mut starting = upstream(3, LOCAL);
    starting.ready = false;
    let mut mute = route("mute.app", port, vec![upstream(4, LOCAL)]);
    mute.http_port = None;
    let chain = Chain::new(vec![
        route("web.app", port, vec![upstream(1, LOCAL)]),
        frozen,
        route("soon.app", port, vec![starting]),
        route("none.app", port, vec![]),
        mute,
    ]);
    let (_validator, gateway) = gateway_with(&chain).await;
    for (host, status, text) in [
        ("web.app.localhost", 200, "web"),
        ("WEB.App.LOCALHOST:8080", 200, "web"),
        ("web.app.localhost.", 200, "web"),
        ("ice.app.localhost", 503, "stopped for lack of funds"),
        ("soon.app.localhost", 503, "no replica is ready"),
        ("none.app.localhost", 503, "none of its replicas runs"),
        ("mute.app.localhost", 502, "neither publishes nor exposes"),
        ("gone.app.localhost", 404, "no service has this name"),
        ("localhost", 200, "A Runrig gateway"),
        ("example.org", 200, "A Runrig gateway"),
        ("[::1]:80", 200, "A Runrig gateway"),
    ] {
        let answer = gateway.get(host, "/").await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
        assert!(answer.text().contains(text), "{host}: {answer:?}");
    }
    let page = gateway
        .send(
            "GET",
            "<b>.localhost",
            "/",
            &[("accept", "text/html")],
            Bytes::new(),
        )
        .await;
    assert!(page.text().starts_with("<!doctype html>") && !page.text().contains("<b>"));
    assert_eq!(gateway.get("localhost", "/nothing").await.status, 404);
    let unplaced = gateway.get("localhost", "/v2/").await;
    assert!(unplaced.text().contains("this gateway has none"));
}

#[tokio::test]
async fn headers_of_a_hop_end_with_it() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let (_validator, gateway) = gateway_with(&chain).await;
    let answer = gateway
        .send(
            "GET",
            "web.app.localhost:99",
            "/headers?a=%20b",
            &[
                ("connection", "x-mine, keep-alive"),
                ("x-mine", "1"),
                ("x-kept", "2"),
                ("te", "gzip"),
                ("proxy-authorization", "secret"),
                ("x-forwarded-for", "6.6.6.6"),
                ("upgrade", "h2c"),
            ],
            Bytes::new(),
        )
        .await;
    let text = answer.text();
    for kept in [
        "/headers?a=%20b\n",
        "host: web.app.localhost:99\n",
        "x-kept: 2\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-forwarded-host: web.app.localhost:99\n",
    ] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    for gone in [
        "x-mine",
        "te:",
        "proxy-",
        "6.6.6.6",
        "upgrade",
        "keep-alive",
    ] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    // The form that proxies are sent names the host in the line.
    let mut stream = gateway
        .raw("GET http://web.app.localhost/headers HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
        .await;
    let text = read_until(&mut stream, "\0").await;
    assert!(text.contains("host: web.app.localhost"), "{text}");
}

#[tokio::test]
async fn bad_requests_are_refused_and_others_go_on() {
    let chain = Chain::new(vec![]);
    let (_validator, gateway) = gateway_with(&chain).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "y".repeat(100_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", " 400 "),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", " 400 "),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", " 405 "),
        ("\0\0\r\n\r\n", " 400 "),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            " 400 ",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            " 400 ",
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            " 400 ",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
            " 400 ",
        ),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", " 400 "),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            " 400 ",
        ),
        (&long, " 431 "),
        (&many, " 431 "),
    ] {
        let mut stream = gateway.raw(head).await;
        let answer = read_until(&mut stream, "\r\n").await;
        assert!(
            answer.contains(status),
            "{}: {answer}",
            &head[..head.len().min(60)]
        );
    }
    assert_eq!(gateway.get("localhost", "/v1/where").await.status, 200);
}

#[tokio::test]
async fn bodies_too_large_for_the_api_end_here() {
    let chain = Chain::new(vec![]);
    let (_validator, gateway) = gateway_with(&chain).await;
    let large = 4 << 20;
    let head = |length: &str| {
        format!("POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n")
    };
    let declared = head(&format!("Content-Length: {large}")) + &"y".repeat(large);
    let chunk = format!("{large:x}\r\n{}\r\n0\r\n\r\n", "y".repeat(large));
    let chunked = head("Transfer-Encoding: chunked") + &chunk;
    for (text, status) in [(declared, " 413 "), (chunked, " 411 ")] {
        let mut stream = gateway.raw(&text).await;
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.contains(status), "{answer}");
    }
    assert_eq!(gateway.get("localhost", "/v1/where").await.status, 200);
}

#[tokio::test]
async fn clients_that_dawdle_are_let_go() {
    let router = replica_router("web").route(
        "/endless",
        axum::routing::get(|| async {
            let piece = Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 16]));
            axum::body::Body::from_stream(futures::stream::iter(std::iter::repeat_with(
                move || {
                    piece
                        .as_ref()
                        .map(Bytes::clone)
                        .map_err(|_| std::io::Error::other(""))
                },
            )))
        }),
    );
    let web = Process::start(loopback(1, 0), router).await;
    let port = web.address.port();
    let published = free_port().await;
    let chain = Chain::new(vec![publishing(
        route("web.app", port, vec![upstream(1, LOCAL)]),
        published,
        Protocol::Tcp,
    )]);
    let (_validator, gateway) = gateway_with(&chain).await;
    // A head that never ends, a body that stops, answers that are not read.
    let head = gateway.raw("GET / HTTP/1.1\r\nHost: a\r\nX").await;
    let body = gateway
        .raw("POST /whole HTTP/1.1\r\nHost: web.app.localhost\r\nContent-Length: 9\r\n\r\nx")
        .await;
    let request = "GET /endless HTTP/1.1\r\nHost: web.app.localhost\r\n\r\n";
    let unread = gateway.raw(request).await;
    let mut spliced = TcpStream::connect(loopback(1, published)).await.unwrap();
    spliced.write_all(request.as_bytes()).await.unwrap();
    eventually("it is spliced", async || {
        gateway.status().await["connections"] == 1
    })
    .await;
    for (mut stream, answer) in [(head, ""), (body, "HTTP/1.1 408")] {
        let text = read_until(&mut stream, "\0").await;
        assert!(text.starts_with(answer), "{text}");
        assert!(!text.contains("200 OK"), "{text}");
    }
    eventually("the splice ends", async || {
        gateway.status().await["connections"] == 0
    })
    .await;
    drop((unread, spliced));
}

#[tokio::test]
async fn a_slow_replica_is_not_the_clients_fault() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let (_validator, gateway) = gateway_with(&chain).await;
    let body = Bytes::from(vec![1; 32 << 20]);
    let answer = gateway
        .send("POST", "web.app.localhost", "/lazy", &[], body)
        .await;
    assert_eq!((answer.status, answer.text()), (200, "33554432"));
}

#[test]
fn a_client_has_its_share() {
    let shares = crate::client::Shares::new(2);
    let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
    let first = shares.take(one).unwrap();
    let _second = shares.take(one).unwrap();
    assert!(shares.take(one).is_none());
    assert!(shares.take(other).is_some());
    drop(first);
    assert!(shares.take(one).is_some());
}

#[tokio::test]
async fn the_api_is_answered_by_the_next_validator_when_one_dies() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let first = validator(chain.clone()).await;
    let second = validator(chain.clone()).await;
    let gateway = Running::start(&[&first, &second], None).await;
    gateway.heard(&chain).await;
    let body = Bytes::from_static(b"{\"transaction\":\"\"}");
    let submit = async || {
        gateway
            .send("POST", "localhost", "/v1/transactions", &[], body.clone())
            .await
    };
    assert_eq!(submit().await.body, body);
    first.kill().await;
    for _ in 0..20 {
        assert_eq!(
            gateway.get("localhost", "/v1/where").await.text(),
            "a validator"
        );
        assert_eq!(submit().await.body, body);
    }
    chain.set(vec![
        route("web.app", web.address.port(), vec![upstream(1, LOCAL)]),
        route("more.app", web.address.port(), vec![upstream(2, LOCAL)]),
    ]);
    eventually("routes come from the second", async || {
        gateway.get("more.app.localhost", "/").await.status == 200
    })
    .await;
    second.kill().await;
    let answer = gateway.get("localhost", "/v1/where").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let problem: api::Problem = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem.kind, "unavailable");
    // What was known is still served.
    assert_eq!(gateway.get("web.app.localhost", "/").await.text(), "web");
    eventually("the status says so", async || {
        gateway.status().await["validators"][1]["healthy"] == false
    })
    .await;
    assert!(chain.asked.load(Ordering::Relaxed) >= 20);
}

#[tokio::test]
async fn a_validator_that_hangs_is_left_for_the_next() {
    // Takes connections and never answers, as a stopped process does.
    let hung = TcpListener::bind(loopback(1, 0)).await.unwrap();
    let address = hung.local_addr().unwrap();
    let chain = Chain::new(vec![]);
    let alive = validator(chain.clone()).await;
    let urls = [format!("http://{address}"), alive.url()];
    let gateway = Running::with_validators(urls.to_vec(), None).await;
    gateway.heard(&chain).await;
    let started = Instant::now();
    assert_eq!(
        gateway.get("localhost", "/v1/where").await.text(),
        "a validator"
    );
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "it was asked first"
    );
}

#[tokio::test]
async fn a_validator_that_has_fallen_behind_is_asked_last() {
    let (behind, current) = (Chain::new(vec![]), Chain::new(vec![]));
    let (first, second) = (
        validator_at(behind.clone(), 1_000).await,
        validator_at(current.clone(), 1_000_000).await,
    );
    let gateway = Running::start(&[&first, &second], None).await;
    eventually("it is known", async || {
        gateway.status().await["validators"][0]["behind"] == true
    })
    .await;
    let before = behind.asked.load(Ordering::Relaxed);
    for _ in 0..5 {
        gateway.get("localhost", "/v1/where").await;
    }
    assert_eq!(behind.asked.load(Ordering::Relaxed), before);
    second.kill().await;
    let answer = gateway.get("localhost", "/v1/where").await;
    assert_eq!(answer.text(), "a validator", "better than none");
}

#[tokio::test]
async fn before_any_route_is_known_it_says_so() {
    let nobody = Process::start(loopback(1, 0), axum::Router::new()).await;
    let gateway = Running::start(&[&nobody], None).await;
    let answer = gateway.get("web.app.localhost", "/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_replica_that_fails_is_passed_over() {
    let good = Process::start(loopback(2, 0), replica_router("good")).await;
    let port = good.address.port();
    // One closes every connection, one refuses them.
    let rude = TcpListener::bind(loopback(3, port)).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = rude.accept().await.unwrap();
            let _ = stream.read(&mut [0; 10]).await;
        }
    });
    let (healthy, refusing, closing) = (
        upstream(1, [127, 0, 0, 2]),
        upstream(2, [127, 0, 0, 4]),
        upstream(3, [127, 0, 0, 3]),
    );
    let chain = Chain::new(vec![
        route("refused.app", port, vec![refusing.clone(), healthy.clone()]),
        route("closed.app", port, vec![closing.clone(), healthy]),
        route("dead.app", port, vec![refusing]),
        route("rude.app", port, vec![closing]),
    ]);
    let (_validator, gateway) = gateway_with(&chain).await;
    for _ in 0..10 {
        let body = Bytes::from_static(b"hello");
        let answer = gateway
            .send("POST", "refused.app.localhost", "/echo", &[], body.clone())
            .await;
        assert_eq!(answer.body, body, "{answer:?}");
        let answer = gateway.get("closed.app.localhost", "/").await;
        assert_eq!(answer.text(), "good", "{answer:?}");
    }
    let dead = gateway.get("dead.app.localhost", "/").await;
    assert_eq!(dead.status, 502);
    assert!(
        dead.text().contains("dead.app") && dead.text().contains("a-2"),
        "{dead:?}"
    );
    let rude = gateway
        .send(
            "POST",
            "rude.app.localhost",
            "/echo",
            &[],
            Bytes::from_static(b"x"),
        )
        .await;
    assert_eq!(rude.status, 502);
}

#[tokio::test]
async fn other_protocols_pass_directly_and_through_a_tunnel() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let agent = agent(web.address).await;
    let chain = Chain::new(vec![
        route("near.app", web.address.port(), vec![upstream(1, LOCAL)]),
        route("far.app", web.address.port(), vec![tunnelled(2, &agent)]),
    ]);
    *chain.agent.lock().unwrap() = agent.url();
    let (_validator, gateway) = gateway_with(&chain).await;
    assert_eq!(gateway.get("far.app.localhost", "/").await.text(), "web");
    for (host, path) in [
        ("near.app.localhost", "/switch"),
        ("far.app.localhost", "/switch"),
        ("localhost", "/v1/allocations/a-1/exec"),
    ] {
        let mut stream = gateway
            .raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            ))
            .await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101"), "{host}: {head}");
        stream.write_all(b"to and fro").await.unwrap();
        assert_eq!(read_until(&mut stream, "fro").await, "to and fro");
    }
    let signed = gateway
        .send(
            "GET",
            "localhost",
            "/v1/allocations/a-1/logs?follow=true&tail=2",
            &[("runrig-auth", "key.1.signature")],
            Bytes::new(),
        )
        .await;
    assert!(
        signed
            .text()
            .starts_with("/v1/allocations/a-1/logs?follow=true&tail=2\n")
    );
    assert!(signed.text().contains("runrig-auth: key.1.signature\n"));
    assert_eq!(
        gateway
            .get("localhost", "/v1/allocations/a-9/logs")
            .await
            .status,
        404
    );
    assert_eq!(
        gateway
            .get("localhost", "/v1/allocations/x/logs")
            .await
            .status,
        400
    );
    agent.kill().await;
    assert_eq!(
        gateway
            .get("localhost", "/v1/allocations/a-1/logs")
            .await
            .status,
        502
    );
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let chain = Chain::new(vec![]);
    let validator = validator(chain.clone()).await;
    let router = axum::Router::new().route(
        "/v2/{*path}",
        axum::routing::any(|b: axum::body::Body| async { b }),
    );
    let registry = Process::start(loopback(1, 0), router).await;
    let gateway = Running::start(&[&validator], Some(&registry)).await;
    gateway.heard(&chain).await;
    let layer = Bytes::from(vec![7; 8 << 20]);
    let answer = gateway
        .send(
            "PUT",
            "localhost",
            "/v2/app/blobs/uploads/1",
            &[],
            layer.clone(),
        )
        .await;
    assert_eq!((answer.status, answer.body.len()), (200, layer.len()));
    assert!(answer.body == layer);
    // An event is there before the answer ends.
    let mut stream = gateway
        .raw("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let text = read_until(&mut stream, "data: one").await;
    assert!(
        text.contains("text/event-stream") && text.contains("data: one"),
        "{text}"
    );
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn published_ports_come_and_go() {
    let one = Process::start(loopback(2, 0), replica_router("one")).await;
    let port = one.address.port();
    let two = Process::start(loopback(3, port), replica_router("two")).await;
    let published = free_port().await;
    let replicas = vec![upstream(1, [127, 0, 0, 2]), upstream(2, [127, 0, 0, 3])];
    let web = publishing(route("web.app", port, replicas), published, Protocol::Tcp);
    let chain = Chain::new(vec![]);
    let (_validator, gateway) = gateway_with(&chain).await;
    let occupant = TcpListener::bind(loopback(1, published)).await.unwrap();
    chain.set(vec![web.clone()]);
    eventually("the port is seen to be in use", async || {
        let status = gateway.status().await;
        status["ports"][0]["state"] == "failed"
            && status["ports"][0]["why"]
                .as_str()
                .unwrap()
                .contains("another program")
    })
    .await;
    drop(occupant);
    let ask = async || {
        let mut stream = TcpStream::connect(loopback(1, published)).await.ok()?;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let answer = read_until(&mut stream, "\0").await;
        Some(answer.rsplit("\r\n").next()?.to_string())
    };
    eventually("the port opens", async || ask().await.is_some()).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        seen.extend(ask().await);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    two.kill().await;
    for _ in 0..8 {
        assert_eq!(ask().await.as_deref(), Some("one"));
    }
    chain.set(vec![]);
    eventually("the port closes", async || ask().await.is_none()).await;
    assert_eq!(gateway.status().await["ports"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn datagrams_are_forwarded_for_each_client() {
    let echo = UdpSocket::bind(loopback(1, 0)).await.unwrap();
    let port = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = echo.recv_from(&mut buffer).await {
            let _ = echo.send_to(&buffer[..n], from).await;
        }
    });
    let published = free_port().await;
    let dns = publishing(
        route("dns.app", port, vec![upstream(1, LOCAL)]),
        published,
        Protocol::Udp,
    );
    let chain = Chain::new(vec![dns]);
    let validator = validator(chain.clone()).await;
    let gateway = Running::start(&[&validator], None).await;
    eventually("the port opens", async || {
        gateway.status().await["ports"][0]["state"] == "open"
    })
    .await;
    for text in ["first", "second", "third"] {
        let client = UdpSocket::bind(loopback(1, 0)).await.unwrap();
        client.connect(loopback(1, published)).await.unwrap();
        for _ in 0..3 {
            client.send(text.as_bytes()).await.unwrap();
            let mut buffer = [0; 100];
            let answer = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut buffer));
            let n = answer.await.expect("an answer").unwrap();
            assert_eq!(&buffer[..n], text.as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let validator = validator(chain.clone()).await;
    let gateway = std::sync::Arc::new(Running::start(&[&validator], None).await);
    gateway.heard(&chain).await;
    let started = Instant::now();
    let requests = (0..1_000).map(|_| {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.get("web.app.localhost", "/late").await.status })
    });
    let answers = futures::future::join_all(requests).await;
    println!("1,000 requests of 300 ms at once: {:?}", started.elapsed());
    assert!(answers.into_iter().all(|a| a.unwrap() == 200));
}

#[tokio::test]
async fn what_is_under_way_ends_before_the_gateway() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let validator = validator(chain.clone()).await;
    let mut gateway = Running::start(&[&validator], None).await;
    gateway.heard(&chain).await;
    let mut under_way = gateway
        .raw("GET /late HTTP/1.1\r\nHost: web.app.localhost\r\n\r\n")
        .await;
    let mut idle = gateway.raw("").await;
    eventually("the request is under way", async || {
        // Bytes written are read in order: an answer on a later connection means they were.
        gateway.get("localhost", "/").await.status == 200
    })
    .await;
    gateway.stop();
    let answer = read_until(&mut under_way, "late").await;
    assert!(answer.ends_with("late"), "{answer}");
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    let address = gateway.address;
    gateway.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// All that is told, after `before`.
fn table_of(routes: Vec<api::Route>, before: &Table) -> Table {
    let mut known = api::KnownRoutes::default();
    let told = api::Routes {
        routes,
        ..api::Routes::default()
    };
    let changed = known.take(told).unwrap();
    let machine = machine().unwrap();
    before.next(&known, &changed, 1, machine, Trust::Containers)
}

#[test]
fn addresses_that_are_no_containers_are_refused() {
    let replicas = [
        [127, 0, 0, 1],
        [10, 64, 0, 2],
        [10, 127, 3, 4],
        [10, 0, 0, 1],
        [169, 254, 1, 1],
        [192, 168, 1, 1],
    ];
    let replicas = (0..).zip(replicas).map(|(i, a)| upstream(i, a)).collect();
    let mut far = upstream(9, [10, 64, 0, 2]);
    far.machine = types::Digest::default();
    far.host_address = "http://user@host".into();
    let routes = vec![route("a.b", 80, replicas), route("c.d", 80, vec![far])];
    let table = table_of(routes, &Table::default());
    assert_eq!(table.service("a.b").unwrap().replicas.len(), 2);
    assert_eq!(table.service("c.d").unwrap().absent(), Absent::NoneReady);
    assert_eq!(table.refused, 5);
    for (url, found) in [
        ("http://a:1", Some("a:1")),
        ("a:1/", Some("a:1")),
        ("http://a", Some("a:80")),
        ("https://a", None),
        ("http://a-1.allocation.invalid:80", None),
        ("", None),
        ("http://a/b", None),
    ] {
        assert_eq!(authority(url).as_ref().map(|a| a.as_str()), found, "{url}");
    }
}

#[test]
fn the_least_busy_replica_is_chosen_in_turn() {
    let replicas = (0..3).map(|i| upstream(i, [10, 64, 0, i as u8])).collect();
    let routes = vec![route("a.b", 80, replicas)];
    let table = table_of(routes.clone(), &Table::default());
    let service = table.service("a.b").unwrap();
    let held: Vec<_> = (0..6)
        .map(|_| service.choose(&[]).unwrap().begin())
        .collect();
    let mut all = Vec::new();
    for _ in 0..3 {
        let replica = service.choose(&all).unwrap();
        all.push(replica.allocation);
    }
    assert!(service.choose(&all).is_none());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3);
    // How busy they are is known to the next table too, and a failed one is the last choice.
    drop(held);
    let busy = service.choose(&[]).unwrap();
    let _held = busy.begin();
    let failed = service.choose(&[busy.allocation]).unwrap();
    failed.load.tell(crate::load::Outcome::Failed);
    let next = table_of(routes, &table);
    let service = next.service("a.b").unwrap();
    for _ in 0..6 {
        let chosen = service.choose(&[]).unwrap().allocation;
        assert!(chosen != busy.allocation && chosen != failed.allocation);
    }
}
