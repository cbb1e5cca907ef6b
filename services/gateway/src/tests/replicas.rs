//! Which replica gets a request, and what happens when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};

use super::*;

/// Counts what it is asked, answers `status` after `pause`.
fn counting(count: &Arc<AtomicU32>, status: u16, pause: Duration) -> Router {
    let count = count.clone();
    Router::new().fallback(any(move || async move {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
        StatusCode::from_u16(status).unwrap()
    }))
}

async fn gateway_of(services: Vec<api::Route>) -> (Chain, Process, Running) {
    let chain = Chain::new(services);
    let (validator, gateway) = gateway_with(&chain).await;
    (chain, validator, gateway)
}

/// Sends one request after another on one connection; `None` where no answer came.
async fn on_one_connection(gateway: &Running, requests: &[&str]) -> Vec<Option<u16>> {
    let mut stream = gateway.raw("").await;
    let mut statuses = Vec::new();
    for request in requests {
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        statuses.push(status);
    }
    statuses
}

#[tokio::test]
async fn requests_prefer_the_quick_replica() {
    let (quick, slow) = (Arc::default(), Arc::default());
    let first = Process::start(loopback(2, 0), counting(&quick, 204, Duration::ZERO)).await;
    let port = first.address.port();
    let pause = Duration::from_millis(300);
    let _second = Process::start(loopback(3, port), counting(&slow, 204, pause)).await;
    let replicas = vec![upstream(1, [127, 0, 0, 2]), upstream(2, [127, 0, 0, 3])];
    let (_chain, _validator, gateway) = gateway_of(vec![route("web.app", port, replicas)]).await;
    for _ in 0..60 {
        assert_eq!(gateway.get("web.app.localhost", "/").await.status, 204);
    }
    let (quick, slow) = (quick.load(Ordering::Relaxed), slow.load(Ordering::Relaxed));
    assert!(slow < quick / 2 && quick + slow == 60, "{quick} and {slow}");
}

#[tokio::test]
async fn a_replica_that_dies_under_load_costs_no_request() {
    let one = Process::start(loopback(2, 0), replica_router("one")).await;
    let port = one.address.port();
    let two = Process::start(loopback(3, port), replica_router("two")).await;
    let replicas = vec![upstream(1, [127, 0, 0, 2]), upstream(2, [127, 0, 0, 3])];
    let (_chain, _validator, gateway) = gateway_of(vec![route("web.app", port, replicas)]).await;
    let gateway = Arc::new(gateway);
    let (stop, failed, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicU32::new(0)),
    );
    let clients: Vec<_> = (0..8)
        .map(|i| {
            let (gateway, stop) = (gateway.clone(), stop.clone());
            let (failed, sent) = (failed.clone(), sent.clone());
            tokio::spawn(async move {
                let paths = ["/", "/headers", "/late"];
                while !stop.load(Ordering::Relaxed) {
                    let answer = gateway.get("web.app.localhost", paths[i % 3]).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    if answer.status != 200 {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let more = async |count: u32| {
        let from = sent.load(Ordering::Relaxed);
        eventually("requests go on", async || {
            sent.load(Ordering::Relaxed) >= from + count
        })
        .await;
    };
    more(50).await;
    two.kill().await;
    more(100).await;
    let two = Process::start(loopback(3, port), replica_router("two")).await;
    eventually("it gets requests again", async || {
        gateway.get("web.app.localhost", "/").await.text() == "two"
    })
    .await;
    one.kill().await;
    more(100).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    drop(two);
}

#[tokio::test]
async fn what_is_under_way_ends_while_new_requests_go_elsewhere() {
    let old = Process::start(loopback(2, 0), replica_router("old")).await;
    let port = old.address.port();
    let _new = Process::start(loopback(3, port), replica_router("new")).await;
    let (before, after) = (upstream(1, [127, 0, 0, 2]), upstream(2, [127, 0, 0, 3]));
    let (chain, _validator, gateway) =
        gateway_of(vec![route("web.app", port, vec![before.clone()])]).await;
    let mut under_way = gateway
        .raw("GET /late HTTP/1.1\r\nHost: web.app.localhost\r\n\r\n")
        .await;
    eventually("it is under way", async || {
        let figures = gateway.get("localhost", "/metrics").await;
        figures.text().contains("allocation=\"a-1\"} 1")
            || gateway.get("web.app.localhost", "/").await.status != 200
    })
    .await;
    let mut draining = before;
    draining.ready = false;
    chain.set(vec![route("web.app", port, vec![draining, after])]);
    gateway.heard(&chain).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("web.app.localhost", "/").await.text(), "new");
    }
    let answer = read_until(&mut under_way, "late").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("late"));
}

/// Hosts that the ledger does not hear may still be there.
#[tokio::test]
async fn without_a_ready_replica_those_on_silent_hosts_are_tried() {
    let one = Process::start(loopback(2, 0), replica_router("unheard")).await;
    let port = one.address.port();
    let _two = Process::start(loopback(3, port), replica_router("ready")).await;
    let (mut silent, ready) = (upstream(1, [127, 0, 0, 2]), upstream(2, [127, 0, 0, 3]));
    (silent.ready, silent.unheard) = (false, true);
    let both = vec![silent.clone(), ready];
    let (chain, _validator, gateway) = gateway_of(vec![route("web.app", port, both)]).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("web.app.localhost", "/").await.text(), "ready");
    }
    chain.set(vec![route("web.app", port, vec![silent])]);
    gateway.heard(&chain).await;
    assert_eq!(
        gateway.get("web.app.localhost", "/").await.text(),
        "unheard"
    );
}

#[tokio::test]
async fn what_changes_something_is_sent_once() {
    // Reads a request and closes.
    let rude = TcpListener::bind(loopback(2, 0)).await.unwrap();
    let port = rude.local_addr().unwrap().port();
    let reached = Arc::new(AtomicU32::new(0));
    let count = reached.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = rude.accept().await.unwrap();
            let _ = stream.read(&mut [0; 10]).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let answered = Arc::default();
    let _good = Process::start(loopback(3, port), counting(&answered, 204, Duration::ZERO)).await;
    let bad = upstream(1, [127, 0, 0, 2]);
    let good = upstream(2, [127, 0, 0, 3]);
    let (chain, _validator, gateway) =
        gateway_of(vec![route("web.app", port, vec![bad.clone()])]).await;
    for (method, body, times) in [("POST", "x", 1), ("PATCH", "x", 1), ("POST", "", 1)] {
        let before = reached.load(Ordering::Relaxed);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answer = gateway
            .send(method, "web.app.localhost", "/", &[], body)
            .await;
        assert_eq!(answer.status, 502, "{method}: {answer:?}");
        assert_eq!(reached.load(Ordering::Relaxed) - before, times, "{method}");
    }
    chain.set(vec![route("web.app", port, vec![bad, good])]);
    gateway.heard(&chain).await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"] {
        let answer = gateway
            .send(method, "web.app.localhost", "/", &[], Bytes::new())
            .await;
        assert_eq!(answer.status, 204, "{method}: {answer:?}");
    }
}

#[tokio::test]
async fn who_says_503_is_passed_over_for_what_may_be_repeated() {
    let (tired, fresh) = (Arc::default(), Arc::default());
    let first = Process::start(loopback(2, 0), counting(&tired, 503, Duration::ZERO)).await;
    let port = first.address.port();
    let _second = Process::start(loopback(3, port), counting(&fresh, 204, Duration::ZERO)).await;
    let replicas = vec![upstream(1, [127, 0, 0, 2]), upstream(2, [127, 0, 0, 3])];
    let (chain, _validator, gateway) = gateway_of(vec![route("web.app", port, replicas)]).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("web.app.localhost", "/").await.status, 204);
    }
    // It rests after a few: the others do not ask it at all.
    assert!(tired.load(Ordering::Relaxed) <= 8);
    chain.set(vec![route(
        "web.app",
        port,
        vec![upstream(1, [127, 0, 0, 2])],
    )]);
    gateway.heard(&chain).await;
    for method in ["GET", "POST"] {
        let before = tired.load(Ordering::Relaxed);
        let answer = gateway
            .send(method, "web.app.localhost", "/", &[], Bytes::new())
            .await;
        assert_eq!(answer.status, 503);
        assert_eq!(tired.load(Ordering::Relaxed), before + 1);
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_replica_ends_costs_no_request() {
    // Says that it keeps the connection, and closes it after each answer.
    let listener = TcpListener::bind(loopback(2, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = read_until(&mut stream, "\r\n\r\n").await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    let web = route("web.app", port, vec![upstream(1, [127, 0, 0, 2])]);
    let (_chain, _validator, gateway) = gateway_of(vec![web]).await;
    let request = "GET / HTTP/1.1\r\nHost: web.app.localhost\r\n\r\n";
    let answers = on_one_connection(&gateway, &[request; 50]).await;
    assert!(answers.iter().all(|a| *a == Some(200)), "{answers:?}");
}

#[tokio::test]
async fn a_connection_goes_on_from_one_kind_of_request_to_the_next() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let services = vec![route(
        "web.app",
        web.address.port(),
        vec![upstream(1, LOCAL)],
    )];
    let (_chain, _validator, gateway) = gateway_of(services).await;
    let service = "GET / HTTP/1.1\r\nHost: web.app.localhost\r\n\r\n";
    let small = "POST /whole HTTP/1.1\r\nHost: web.app.localhost\r\nContent-Length: 3\r\n\r\nabc";
    let chunked = "POST /whole HTTP/1.1\r\nHost: web.app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let api = "GET /v1/where HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let gone = "GET / HTTP/1.1\r\nHost: gone.app.localhost\r\n\r\n";
    // All at once, and the last of them closes.
    let all = [service, small, service, chunked, api, gone, service].concat();
    let last = "GET / HTTP/1.1\r\nHost: web.app.localhost\r\nConnection: close\r\n\r\n";
    let mut stream = gateway.raw(&(all + last)).await;
    let text = read_until(&mut stream, "\0").await;
    let statuses: Vec<&str> = text
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    let expected = ["200", "200", "200", "200", "200", "404", "200", "200"];
    assert_eq!(statuses, expected, "{text}");
    assert_eq!(text.matches("abc").count(), 2, "{text}");
    // A head and a body that come piece by piece.
    let mut stream = gateway.raw("").await;
    for byte in small.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_until(&mut stream, "abc").await.ends_with("abc"));
}

#[tokio::test]
async fn large_answers_pass_whole_in_each_framing() {
    const SIZE: usize = 5 << 20;
    let content = || {
        let piece: Vec<u8> = (0..=250).collect();
        Bytes::from(piece.repeat(SIZE / 251 + 1)).slice(..SIZE)
    };
    let chunked = move || async move {
        let whole = content();
        let pieces = (0..SIZE)
            .step_by(10_007)
            .map(move |at| Ok::<_, std::io::Error>(whole.slice(at..SIZE.min(at + 10_007))));
        axum::body::Body::from_stream(futures::stream::iter(pieces))
    };
    let router = Router::new()
        .route("/length", get(move || async move { content() }))
        .route("/chunked", get(chunked));
    let web = Process::start(loopback(2, 0), router).await;
    let port = web.address.port();
    // Ends its answer with the connection.
    let closing = TcpListener::bind(loopback(3, port)).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = closing.accept().await.unwrap();
            let _ = read_until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let _ = stream.write_all(&content()).await;
        }
    });
    let services = vec![
        route("web.app", port, vec![upstream(1, [127, 0, 0, 2])]),
        route("close.app", port, vec![upstream(2, [127, 0, 0, 3])]),
    ];
    let (_chain, _validator, gateway) = gateway_of(services).await;
    for (host, path) in [
        ("web.app.localhost", "/length"),
        ("web.app.localhost", "/chunked"),
        ("close.app.localhost", "/"),
    ] {
        for _ in 0..2 {
            let answer = gateway.get(host, path).await;
            assert_eq!(answer.status, 200);
            assert!(
                answer.body == content(),
                "{host}{path}: {}",
                answer.body.len()
            );
        }
    }
    let head = gateway
        .send("HEAD", "web.app.localhost", "/length", &[], Bytes::new())
        .await;
    assert_eq!(head.headers["content-length"], SIZE.to_string().as_str());
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npartX",
    ] {
        let listener = TcpListener::bind(loopback(2, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = read_until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let web = route("web.app", port, vec![upstream(1, [127, 0, 0, 2])]);
        let (_chain, _validator, gateway) = gateway_of(vec![web]).await;
        let mut stream = gateway
            .raw("POST / HTTP/1.1\r\nHost: web.app.localhost\r\nContent-Length: 0\r\n\r\n")
            .await;
        let text = read_until(&mut stream, "\0").await;
        assert!(!text.ends_with("0\r\n\r\n") && text.len() < 300, "{text}");
    }
}

#[tokio::test]
async fn an_answer_with_two_meanings_is_not_passed_on() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "220 mail.example.org ESMTP\r\n",
    ] {
        let listener = TcpListener::bind(loopback(2, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = read_until(&mut stream, "\r\n\r\n").await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let web = route("web.app", port, vec![upstream(1, [127, 0, 0, 2])]);
        let (_chain, _validator, gateway) = gateway_of(vec![web]).await;
        let got = gateway.get("web.app.localhost", "/").await;
        assert_eq!(got.status, 502, "{answer}: {got:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_it_waits() {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let left = Arc::new(AtomicBool::new(false));
    let told = left.clone();
    let router = Router::new().route(
        "/events",
        get(move || async move {
            let told = Told(told);
            let first = futures::stream::once(async { Ok::<_, std::io::Error>("data: one\n\n") });
            let never = futures::stream::pending();
            let both = futures::StreamExt::chain(first, never);
            let body = futures::StreamExt::map(both, move |event| {
                let _held = &told;
                event
            });
            axum::body::Body::from_stream(body)
        }),
    );
    let web = Process::start(loopback(1, 0), router).await;
    let services = vec![route(
        "web.app",
        web.address.port(),
        vec![upstream(1, LOCAL)],
    )];
    let (_chain, _validator, gateway) = gateway_of(services).await;
    let mut stream = gateway
        .raw("GET /events HTTP/1.1\r\nHost: web.app.localhost\r\n\r\n")
        .await;
    // The event is here before the answer ends.
    let text = read_until(&mut stream, "data: one").await;
    assert!(text.contains("data: one"), "{text}");
    assert!(!left.load(Ordering::Relaxed));
    drop(stream);
    eventually("the replica's stream ends", async || {
        left.load(Ordering::Relaxed)
    })
    .await;
}
