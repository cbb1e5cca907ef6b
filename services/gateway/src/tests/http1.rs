//! What is taken the short way, and where messages end.

use super::*;

const VIA: &str = "runrig-0123456789abcdef";

fn parsed(text: &[u8]) -> (Parsed, String) {
    let forward = Forward::new([9, 8, 7, 6].into(), true, VIA);
    let mut out = b"before".to_vec();
    let parsed = request(text, &forward, &mut out);
    (parsed, String::from_utf8(out).unwrap())
}

#[test]
fn a_regular_request_is_written_for_a_replica() {
    let text = b"GET /a?b=%20 HTTP/1.1\r\nHost: Web.app:80\r\nConnection: keep-alive\r\n\
        Keep-Alive: 5\r\nAccept: text/html,*/*\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=x\r\n\
        x_forwarded_proto: ftp\r\nX-Real-IP: 1\r\nProxy-Authorization: secret\r\nX-Kept:  2 \r\n\
        Via: 1.1 other\r\nContent-Length: 5\r\n\r\nhello";
    let (request, out) = parsed(text);
    let Parsed::Request(request) = request else {
        panic!("{request:?}")
    };
    assert_eq!(&text[request.path.clone()], b"/a?b=%20");
    assert_eq!(&text[request.host.clone()], b"Web.app:80");
    assert_eq!(&text[request.head_bytes..], b"hello");
    assert_eq!(request.body_bytes, 5);
    assert!(!request.closes && request.wants_html && request.method == Method::Get);
    assert_eq!(
        out,
        "GET /a?b=%20 HTTP/1.1\r\nHost: Web.app:80\r\nAccept: text/html,*/*\r\nX-Kept: 2\r\n\
         Via: 1.1 other\r\nContent-Length: 5\r\nx-forwarded-for: 9.8.7.6\r\n\
         x-forwarded-proto: https\r\nvia: 1.1 runrig-0123456789abcdef\r\n\
         x-forwarded-host: Web.app:80\r\n\r\n"
    );
}

#[test]
fn what_is_not_regular_is_left_to_the_general_server() {
    let with = |line: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
    let cases = [
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(),
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "BREW / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(),
        with("Host: b"),
        with("Transfer-Encoding: chunked"),
        with("Transfer-Encoding : chunked"),
        with("Transfer-Encoding: chunked\r\nContent-Length: 3"),
        with("transfer-encoding: xchunked"),
        with("Content-Length: 1\r\nContent-Length: 1"),
        with("Content-Length: 1\r\nContent-Length: 2"),
        with("Content-Length: 1, 1"),
        with("Content-Length: +1"),
        with("Content-Length: 0x1"),
        with("Content-Length: -1"),
        with("Content-Length:"),
        with("Content-Length: 99999999999999999999"),
        with("X: a\r\n folded"),
        with("X: a\r\n\tfolded"),
        with("X : a"),
        with("X\u{0}: a"),
        with("X: a\u{0}"),
        with("X: a\rb"),
        with("Upgrade: websocket\r\nConnection: Upgrade"),
        with("Connection: close, x-secret"),
        with("Expect: 100-continue"),
        with("TE: trailers"),
        with("Trailer: x"),
        with("HTTP2-Settings: x"),
        with(&format!("Via: 1.0 a, 1.1 {VIA}")),
        with(&"X: y\r\n".repeat(HEADERS_MAX)),
    ];
    for case in cases {
        assert_eq!(parsed(case.as_bytes()).0, Parsed::Unusual, "{case:?}");
    }
    let whole = with("X: y");
    for end in 0..whole.len() {
        let cut = &whole.as_bytes()[..end];
        assert_eq!(parsed(cut).0, Parsed::More, "{end}");
    }
}

fn answered(text: &str, to_head: bool) -> Result<Option<(Answer, String)>, &'static str> {
    let mut out = Vec::new();
    let answer = answer(text.as_bytes(), to_head, false, || [b'n'; 29], &mut out)?;
    Ok(answer.map(|a| (a, String::from_utf8(out).unwrap())))
}

#[test]
fn an_answer_ends_in_one_way() {
    let chunked = || Framing::Chunked(Chunks::default());
    for (head, to_head, framing, is_kept, closes) in [
        (
            "200 OK\r\nContent-Length: 7",
            false,
            Framing::Length(7),
            true,
            false,
        ),
        (
            "200 OK\r\nContent-Length: 7",
            true,
            Framing::Length(0),
            true,
            false,
        ),
        (
            "304 Not Modified\r\nContent-Length: 7",
            false,
            Framing::Length(0),
            true,
            false,
        ),
        ("204 No Content", false, Framing::Length(0), true, false),
        (
            "200 OK\r\nTransfer-Encoding: chunked",
            false,
            chunked(),
            true,
            false,
        ),
        (
            "200 OK\r\nContent-Length: 1\r\nConnection: Close",
            false,
            Framing::Length(1),
            false,
            false,
        ),
        ("200 OK", false, Framing::Close, false, true),
        // Two equal lengths are one; a length beside chunks is none.
        (
            "200 OK\r\nContent-Length: 1\r\nContent-Length: 1",
            false,
            Framing::Length(1),
            true,
            false,
        ),
        (
            "200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            false,
            chunked(),
            false,
            false,
        ),
    ] {
        let text = format!("HTTP/1.1 {head}\r\n\r\nbody");
        let (answer, out) = answered(&text, to_head).unwrap().unwrap();
        assert_eq!(answer.framing, framing, "{head}");
        assert_eq!((answer.is_kept, answer.closes), (is_kept, closes), "{head}");
        assert_eq!(&text[answer.head_bytes..], "body");
        let lengths = out.matches("content-length").count();
        assert!(lengths <= 1, "{out}");
        assert!(lengths == 0 || !out.contains("transfer-encoding"), "{out}");
        assert_eq!(out.contains("connection: close\r\n"), closes, "{out}");
        assert!(out.contains("date: nnn") && out.ends_with("\r\n\r\n"));
    }
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: a,b,c,d,e,f,g,h,i\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
    ] {
        assert!(answered(bad, false).is_err(), "{bad:?}");
    }
    assert_eq!(answered("HTTP/1.1 200 OK\r\nA: b\r\n", false), Ok(None));
}

#[test]
fn headers_of_the_replicas_hop_end_here() {
    let text = "HTTP/1.1 200 Fine\r\nDate: then\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\n\
        Keep-Alive: 1\r\nUpgrade: h2\r\nTrailer: x\r\nProxy-Connection: 1\r\nSet-Cookie: a\r\n\
        Set-Cookie: b\r\nContent-Length: 0\r\n\r\n";
    let (_, out) = answered(text, false).unwrap().unwrap();
    assert_eq!(
        out,
        "HTTP/1.1 200 Fine\r\nDate: then\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
         content-length: 0\r\n\r\n"
    );
}

#[test]
fn chunks_end_where_they_say() {
    let body = "5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: a\r\nb: c\r\n\r\n";
    let text = format!("{body}GET");
    // However the bytes are cut, they end at the same place.
    for size in 1..text.len() {
        let mut framing = Framing::Chunked(Chunks::default());
        let mut passed = 0;
        let ends = text.as_bytes().chunks(size).any(|piece| {
            let (count, ends) = framing.take(piece).unwrap();
            passed += count;
            assert!(ends || count == piece.len());
            ends
        });
        assert!(ends && passed == body.len(), "{size}: {passed}");
    }
    for bad in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "5 x\n",
        "5\n",
        "5\r\nhello0",
        "5\r\nhello\n",
        "0\r\n\n",
        "0\r\na\n",
        "1000000000000000\r\n",
        "0x5\r\n",
        "5;\u{1}\r\n",
    ] {
        let taken = Framing::Chunked(Chunks::default()).take(bad.as_bytes());
        assert!(taken.is_err(), "{bad:?}: {taken:?}");
    }
    let long = format!("5;{}", "x".repeat(1_000));
    assert!(
        Framing::Chunked(Chunks::default())
            .take(long.as_bytes())
            .is_err()
    );
    let long = format!("0\r\n{}", "x".repeat(10_000));
    assert!(
        Framing::Chunked(Chunks::default())
            .take(long.as_bytes())
            .is_err()
    );
}

#[test]
fn what_strangers_say_of_their_origin_is_known_in_each_spelling() {
    for (name, is) in [
        ("x-forwarded-for", true),
        ("X_Forwarded_Host", true),
        ("X-FORWARDED-ANYTHING", true),
        ("Forwarded", true),
        ("x-real_ip", true),
        ("x-forwarded", false),
        ("x-forwarded-", false),
        ("forwarded-x", false),
        ("from", false),
        ("", false),
        ("x-real-ipé", false),
    ] {
        assert_eq!(is_about_origin(name), is, "{name}");
    }
}
