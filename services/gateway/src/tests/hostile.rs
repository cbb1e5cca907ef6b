//! What strangers send to try a gateway: each gets its answer or its end in time, and nobody else
//! waits for it.

use super::*;
use crate::limits::WRITE_PAUSE;

const NAME: &str = "web.app.localhost";
/// What a busy machine may need.
const PATIENCE: Duration = Duration::from_secs(60);

async fn stage() -> (Process, Chain, Process, Running) {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let (validator, gateway) = gateway_with(&chain).await;
    (web, chain, validator, gateway)
}

/// How many answers there are in `text`, and the first one's status.
fn answers(text: &str) -> (usize, Option<u16>) {
    let status = text.get(9..12).and_then(|s| s.parse().ok());
    (text.matches("HTTP/1.1 ").count(), status)
}

#[tokio::test]
async fn no_request_hides_in_another() {
    let (_web, _chain, _validator, gateway) = stage().await;
    let hidden = "GET /headers HTTP/1.1\r\nHost: web.app.localhost\r\nX-Hidden: yes\r\n\r\n";
    let length = hidden.len();
    let with = |lines: &str, body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: {NAME}\r\n{lines}\r\n\r\n{body}")
    };
    let refused = [
        // Two lengths.
        with(
            &format!("Content-Length: 0\r\nContent-Length: {length}"),
            hidden,
        ),
        with(
            &format!("Content-Length: {length}\r\nContent-Length: 0"),
            hidden,
        ),
        with(&format!("Content-Length: 0, {length}"), hidden),
        with(&format!("Content-Length: +{length}"), hidden),
        with(&format!("Content-Length: 0x{length:x}"), hidden),
        with("Content-Length: 18446744073709551616", hidden),
        with("Content-Length: -1", hidden),
        // Codings that one side may read and the other not.
        with(
            "Transfer-Encoding: chunked, identity",
            &format!("0\r\n\r\n{hidden}"),
        ),
        with("Transfer-Encoding: identity", &format!("0\r\n\r\n{hidden}")),
        with(
            "Transfer-Encoding: chunked, chunked",
            &format!("0\r\n\r\n{hidden}"),
        ),
        with("Transfer-Encoding: xchunked", &format!("0\r\n\r\n{hidden}")),
        with(
            "Transfer-Encoding: \"chunked\"",
            &format!("0\r\n\r\n{hidden}"),
        ),
        with(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            hidden,
        ),
        with("Transfer-Encoding : chunked", &format!("0\r\n\r\n{hidden}")),
        with(
            "Transfer-Encoding:\u{b}chunked",
            &format!("0\r\n\r\n{hidden}"),
        ),
        with(
            "X: a\r\n Transfer-Encoding: chunked",
            &format!("0\r\n\r\n{hidden}"),
        ),
        with(
            "X: a\rTransfer-Encoding: chunked",
            &format!("0\r\n\r\n{hidden}"),
        ),
        with("X: \0", hidden),
        // Who it is for.
        with("Host: web.app.localhost", hidden),
        with("Host: localhost", hidden),
        format!(
            "GET http://{NAME}/headers HTTP/1.1\r\nHost: {NAME}\r\nHost: {NAME}\r\n\r\n{hidden}"
        ),
        format!("GET http://{NAME}/headers HTTP/1.1\r\n\r\n{hidden}"),
        format!("GET /headers HTTP/1.1\r\n\r\n{hidden}"),
        // Lines that are none.
        format!("GET /a b HTTP/1.1\r\nHost: {NAME}\r\n\r\n{hidden}"),
        format!("GET /\u{1} HTTP/1.1\r\nHost: {NAME}\r\n\r\n{hidden}"),
        format!("GET / HTTP/1.1x\r\nHost: {NAME}\r\n\r\n{hidden}"),
        format!("GET / HTTP/9.9\r\nHost: {NAME}\r\n\r\n{hidden}"),
        format!("G\u{e4}T / HTTP/1.1\r\nHost: {NAME}\r\n\r\n{hidden}"),
    ];
    for text in refused {
        let mut stream = gateway.raw(&text).await;
        let answer = read_until(&mut stream, "\0").await;
        assert_eq!(answers(&answer), (1, Some(400)), "{text:?}: {answer}");
        assert!(!answer.contains("x-hidden"), "{text:?}: {answer}");
    }
    // Chunks go before a length, which is not passed on, and what follows is not read (RFC 9112,
    // section 6.1).
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6",
    ] {
        let text = with(lines, &format!("0\r\n\r\n{hidden}"));
        let text = text.replacen("/echo", "/headers", 1);
        let mut stream = gateway.raw(&text).await;
        let answer = read_until(&mut stream, "\0").await;
        assert!(
            matches!(answers(&answer), (1, Some(200 | 400))),
            "{lines}: {answer}"
        );
        for said in ["x-hidden: yes", "content-length: 5", "content-length: 6"] {
            assert!(!answer.contains(said), "{lines}: {answer}");
        }
    }
    // Bodies whose chunks are no chunks: whatever is answered, what follows is no request.
    for body in [
        "5\r\nhello",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "0\r\n\n",
    ] {
        let text = with("Transfer-Encoding: chunked", &format!("{body}{hidden}"));
        let mut stream = gateway.raw(&text).await;
        let answer = read_until(&mut stream, "\0").await;
        let (count, status) = answers(&answer);
        assert!(count <= 1, "{body:?}: {answer}");
        assert!(!answer.contains("x-hidden: yes"), "{body:?}: {answer}");
        assert!(
            matches!(status, None | Some(200 | 400 | 408 | 502)),
            "{body:?}: {answer}"
        );
    }
    // What is well-formed is two requests, and the line's own host goes before the header.
    let text = with("Content-Length: 5", "hello") + hidden;
    let mut stream = gateway.raw(&text).await;
    let answer = read_until(&mut stream, "x-hidden: yes").await;
    assert_eq!(answers(&answer), (2, Some(200)), "{answer}");
    let text = format!("GET http://{NAME}/headers?x HTTP/1.1\r\nHost: other.example\r\n\r\n");
    let mut stream = gateway.raw(&text).await;
    let answer = read_until(&mut stream, "via: ").await;
    for line in [
        "/headers?x\n",
        "host: web.app.localhost\n",
        "x-forwarded-host: web.app.localhost\n",
    ] {
        assert!(answer.contains(line), "{answer}");
    }
    assert_eq!(gateway.get(NAME, "/").await.text(), "web");
}

#[tokio::test]
async fn heads_too_large_or_too_slow_end() {
    let (_web, _chain, _validator, gateway) = stage().await;
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n{lines}\r\n");
    let many: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    for (text, status) in [
        (head(&many), 431),
        (head(&format!("X: {}\r\n", "y".repeat(1 << 20))), 431),
        (head(&"x: y\r\n".repeat(101)), 431),
        (head(&"x: y\r\n".repeat(90)), 200),
        (head(&format!("X: {}\r\n", "y".repeat(60 << 10))), 200),
        (
            format!(
                "GET /{} HTTP/1.1\r\nHost: {NAME}\r\n\r\n",
                "y".repeat(1 << 20)
            ),
            414,
        ),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        let write = async {
            let _ = writing.write_all(text.as_bytes()).await;
        };
        let read = async {
            while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
                match reading.read_buf(&mut answer).await {
                    Ok(1..) => {}
                    _ => break,
                }
            }
        };
        let both = async { tokio::join!(write, read) };
        tokio::time::timeout(PATIENCE, both).await.expect("in time");
        let answer = String::from_utf8_lossy(&answer);
        let said = answers(&answer).1;
        let is_long = text.starts_with("GET /y");
        assert!(
            said == Some(status) || is_long && said == Some(431),
            "{:?}: {answer}",
            &text[..60]
        );
    }
    // A byte now and then, without end: time counts from the first one.
    let dawdling = async {
        let mut stream = gateway.raw("GET / HTTP/1.1\r\nX: y").await;
        while stream.write_all(b"y").await.is_ok() {
            let mut buffer = [0; 512];
            match tokio::time::timeout(Duration::from_millis(150), stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(n)) => {
                    let said = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    assert!(!said.contains(" 200 "), "{said}");
                }
                Err(_) => {}
            }
        }
    };
    let dawdling = tokio::time::timeout(PATIENCE, dawdling);
    let clients = futures::future::join_all((0..100).map(|_| dawdling_of(&gateway)));
    // Meanwhile others are answered.
    let others = async {
        for _ in 0..50 {
            assert_eq!(gateway.get(NAME, "/").await.text(), "web");
        }
    };
    let (ended, _, ()) = tokio::join!(dawdling, clients, others);
    ended.expect("it is not heard out");
}

/// One more head that never ends.
async fn dawdling_of(gateway: &Running) {
    let mut stream = gateway
        .raw("GET / HTTP/1.1\r\nHost: web.app.localhost\r\nX: ")
        .await;
    let said = read_until(&mut stream, "\0").await;
    assert!(!said.contains(" 200 "), "{said}");
}

#[tokio::test]
async fn a_replica_that_says_nothing_is_not_waited_for_without_end() {
    let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let chain = Chain::new(vec![route("web.app", port, vec![upstream(1, LOCAL)])]);
    let (_validator, gateway) = gateway_with(&chain).await;
    let asked = [
        "GET / HTTP/1.1\r\n",
        "HEAD / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n",
    ];
    let upgrade = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let all = asked.into_iter().chain([upgrade]).map(async |head| {
        let mut stream = gateway.raw(&format!("{head}Host: {NAME}\r\n\r\n")).await;
        if head.starts_with("POST") {
            stream.write_all(b"xy").await.unwrap();
        }
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(answers(&answer), (1, Some(504)), "{head}: {answer}");
    });
    futures::future::join_all(all).await;
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_a_request() {
    let (_web, _chain, _validator, gateway) = stage().await;
    let wish = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let mut stream = gateway.raw(&wish("/")).await;
    let answer = read_until(&mut stream, "web").await;
    assert_eq!(answers(&answer), (1, Some(200)), "{answer}");
    // The connection goes on with requests.
    stream.write_all(wish("/headers").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "via: ").await;
    assert!(answer.contains("upgrade: websocket"), "{answer}");
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_little_and_end() {
    let piece = Bytes::from(vec![0; 1 << 16]);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = sent.clone();
    let router = replica_router("web").route(
        "/endless",
        axum::routing::get(move || async move {
            let pieces = std::iter::repeat_with(move || {
                counted.fetch_add(1 << 16, Ordering::Relaxed);
                Ok::<_, std::io::Error>(piece.clone())
            });
            axum::body::Body::from_stream(futures::stream::iter(pieces))
        }),
    );
    let web = Process::start(loopback(1, 0), router).await;
    let chain = chain_of(&web);
    let (_validator, gateway) = gateway_with(&chain).await;
    // By HTTP/2: a client that gives no more room, and answers pings.
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let handshake = builder.handshake(hyper_util::rt::TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..20 {
        let request = http::Request::get(format!("http://{NAME}/endless"))
            .body(http_body_util::Empty::<Bytes>::new())
            .unwrap();
        unread.push(sender.send_request(request).await.unwrap());
    }
    let ended = tokio::time::timeout(PATIENCE + WRITE_PAUSE, connection);
    let _ = ended.await.expect("a client that does not read is let go");
    // Each stream held what buffers hold on the way, not what there was to send.
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 20 * (16 << 20), "{sent}");
    drop(unread);
    assert_eq!(gateway.get(NAME, "/").await.text(), "web");
}
