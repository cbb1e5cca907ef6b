//! HTTP/2, gRPC and TLS, with real clients.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::Certificates;

async fn http2<B>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<B>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn clients_of_http2_are_served_by_replicas_of_http1() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let (_validator, gateway) = gateway_with(&chain).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let sender: SendRequest<Full<Bytes>> = http2(stream).await;
    let ask = |method: &str, path: &str, body: Bytes| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://web.app.localhost{path}"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "6.6.6.6")
            .body(Full::new(body))
            .unwrap();
        let mut sender = sender.clone();
        async move {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            (
                status,
                response.into_body().collect().await.unwrap().to_bytes(),
            )
        }
    };
    let (status, body) = ask("GET", "/headers?x", Bytes::new()).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, 200);
    for line in [
        "/headers?x\n",
        "host: web.app.localhost\n",
        "cookie: a=1; b=2\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-host: web.app.localhost\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // Many at once on one connection, with bodies both ways.
    let body = Bytes::from(vec![5; 300_000]);
    let answers = futures::future::join_all((0..50).map(|_| ask("POST", "/echo", body.clone())));
    for (status, echoed) in answers.await {
        assert!(status == 200 && echoed == body);
    }
    assert_eq!(ask("GET", "/nothing", Bytes::new()).await.0, 404);
}

/// Echoes each message as it comes, then says how it went in trailers.
async fn grpc_replica(at: std::net::SocketAddr) -> std::net::SocketAddr {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = |request: http::Request<Incoming>| async move {
        assert_eq!(request.version(), http::Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        let host = request.uri().authority().unwrap().to_string();
        let body = request.into_body().into_data_stream();
        let frames = body.map(|data| data.map(Frame::data));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let end = futures::stream::once(async { Ok(Frame::trailers(trailers)) });
        let response = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("x-authority", host)
            .body(StreamBody::new(frames.chain(end)))
            .unwrap();
        Ok::<_, std::convert::Infallible>(response)
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(echo);
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

#[tokio::test]
async fn grpc_streams_both_ways_with_trailers() {
    let address = grpc_replica(loopback(2, 0)).await;
    // The other replica is not there: what was not sent is sent to the next.
    let replicas = vec![upstream(2, [127, 0, 0, 3]), upstream(1, [127, 0, 0, 2])];
    let chain = Chain::new(vec![route("rpc.app", address.port(), replicas)]);
    let (_validator, gateway) = gateway_with(&chain).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let sender = http2(stream).await;
    for _ in 0..4 {
        let (messages, queue) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = futures::stream::unfold(queue, |mut queue| async {
            let data = queue.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(Frame::data(data)), queue))
        });
        let request = http::Request::post("http://rpc.app.localhost/echo.Echo/Both")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(StreamBody::new(Box::pin(frames)))
            .unwrap();
        let mut response = sender.clone().send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-authority"], "rpc.app.localhost");
        // Each message is answered before the next is sent.
        for text in ["one", "two", "three"] {
            messages
                .send(Bytes::from_static(text.as_bytes()))
                .await
                .unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text);
        }
        drop(messages);
        let end = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
    }
}

fn connector(authority: &Path, protocols: &[&str]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    gateway: &Running,
    connector: &TlsConnector,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(gateway.secure.unwrap()).await?;
    let name = ServerName::try_from(name.to_string()).unwrap();
    connector.connect(name, stream).await
}

async fn secure_gateway(certificates: Certificates) -> (Chain, [Process; 2], Running) {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let validator = validator(chain.clone()).await;
    let gateway = Running::with_tls(vec![validator.url()], None, Some(certificates)).await;
    gateway.heard(&chain).await;
    (chain, [web, validator], gateway)
}

#[tokio::test]
async fn an_own_authority_signs_for_names_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::Authority(folder.path().join("authority"));
    let ca = crate::authority_file(&folder.path().join("authority"));
    let (_chain, _processes, gateway) = secure_gateway(certificates.clone()).await;
    let plain = connector(&ca, &[]);
    for (name, is_served) in [
        ("web.app.localhost", true),
        ("WEB.app.localhost", true),
        ("localhost", true),
        ("127.0.0.1", true),
        ("gone.app.localhost", false),
        ("app.localhost", false),
        ("example.org", false),
        ("xlocalhost", false),
    ] {
        let stream = connect(&gateway, &plain, name).await;
        assert_eq!(stream.is_ok(), is_served, "{name}: {:?}", stream.err());
    }
    let mut stream = connect(&gateway, &plain, "web.app.localhost")
        .await
        .unwrap();
    let request = "GET /headers HTTP/1.1\r\nHost: web.app.localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("x-forwarded-proto: https"), "{text}");
    // Large bodies and other protocols pass as well.
    let mut stream = connect(&gateway, &plain, "web.app.localhost")
        .await
        .unwrap();
    let body = vec![3; 1 << 20];
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: web.app.localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).await.unwrap();
    assert!(echoed.ends_with(&body));
    let mut stream = connect(&gateway, &plain, "web.app.localhost")
        .await
        .unwrap();
    let switch = "GET /switch HTTP/1.1\r\nHost: web.app.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nto and fro";
    stream.write_all(switch.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"to and fro") {
        assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
    }
    // HTTP/2 by agreement.
    let both = connector(&ca, &["h2", "http/1.1"]);
    let stream = connect(&gateway, &both, "web.app.localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2(stream).await;
    let request = http::Request::get("https://web.app.localhost/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "web"
    );
    // The authority outlives the gateway; its key is nobody else's to read.
    let (_chain, _processes, again) = secure_gateway(certificates).await;
    assert!(connect(&again, &plain, "web.app.localhost").await.is_ok());
    let key = std::fs::metadata(folder.path().join("authority/ca-key.pem")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.permissions());
    assert_eq!(mode & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    let elsewhere = Certificates::Authority(other.path().into());
    let (_chain, _processes, foreign) = secure_gateway(elsewhere).await;
    assert!(
        connect(&foreign, &plain, "web.app.localhost")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn certificates_from_files_are_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut trusted = String::new();
    for name in ["first.example", "web.app.localhost"] {
        let made = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
        let chain = folder.path().join(format!("{name}.pem"));
        let key = folder.path().join(format!("{name}.key"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        trusted.push_str(&made.cert.pem());
        files.push((chain, key));
    }
    let all = folder.path().join("all.pem");
    std::fs::write(&all, trusted).unwrap();
    let table = Arc::default();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let new = |files: Vec<_>| {
        let certificates = Certificates::Files(files);
        crate::tls::Tls::new(
            &certificates,
            "localhost",
            [0; 4].into(),
            Arc::clone(&table),
        )
    };
    assert!(new(vec![]).is_err());
    assert!(new(vec![(empty.clone(), files[0].1.clone())]).is_err());
    assert!(new(vec![(files[0].0.clone(), empty)]).is_err());
    assert!(new(vec![(files[0].0.clone(), files[1].1.clone())]).is_err());
    let (_chain, _processes, gateway) = secure_gateway(Certificates::Files(files)).await;
    let plain = connector(&all, &[]);
    for (name, is_served) in [
        ("web.app.localhost", true),
        ("first.example", true),
        ("other.example", false),
    ] {
        let stream = connect(&gateway, &plain, name).await;
        assert_eq!(stream.is_ok(), is_served, "{name}: {:?}", stream.err());
    }
}

#[tokio::test]
async fn a_request_that_comes_back_is_refused() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let chain = chain_of(&web);
    let (_validator, gateway) = gateway_with(&chain).await;
    let host = "web.app.localhost";
    let seen = gateway.get(host, "/headers").await;
    let via = seen
        .text()
        .lines()
        .find_map(|l| l.strip_prefix("via: "))
        .unwrap();
    for (host, via, status) in [
        (host, via, 508),
        (host, &format!("1.0 other, {via}"), 508),
        ("localhost", via, 508),
        (host, "1.1 other", 200),
    ] {
        let answer = gateway
            .send("GET", host, "/headers", &[("via", via)], Bytes::new())
            .await;
        assert_eq!(answer.status, status, "{host} {via}: {answer:?}");
    }
}
