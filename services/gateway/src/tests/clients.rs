//! Clients and services that people have, unmodified: curl, gRPC's own library, a WebSocket
//! library, and what old or odd ones send.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::Certificates;

const NAME: &str = "web.app.localhost";

/// Exit code, stdout and stderr.
async fn run(mut command: Command) -> (i32, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("it is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A service in Python; ended when dropped.
struct Service {
    child: Child,
    port: u16,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/clients");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(folder.join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn service(script: &str) -> Service {
    let mut command = python(script);
    let mut child = command
        .arg("127.0.0.1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let port = line.trim().parse();
    let service = Service {
        child,
        port: port.unwrap_or_default(),
    };
    assert_ne!(service.port, 0, "{script} did not start: {line}");
    service
}

struct Stage {
    chain: Chain,
    gateway: Running,
    _validator: Process,
    folder: tempfile::TempDir,
}

impl Stage {
    /// A gateway with TLS, and `NAME` at this port.
    async fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chain = Chain::new(vec![route("web.app", port, vec![upstream(1, LOCAL)])]);
        let validator = validator(chain.clone()).await;
        let certificates = Certificates::Authority(folder.path().join("authority"));
        let gateway = Running::with_tls(vec![validator.url()], None, Some(certificates)).await;
        gateway.heard(&chain).await;
        Self {
            chain,
            gateway,
            _validator: validator,
            folder,
        }
    }

    fn authority(&self) -> PathBuf {
        crate::authority_file(&self.folder.path().join("authority"))
    }

    fn curl(&self, scheme: &str, path: &str, arguments: &[&str]) -> Command {
        let port = match scheme {
            "https" => self.gateway.secure.unwrap().port(),
            _ => self.gateway.address.port(),
        };
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "60", "--noproxy", "*"])
            .arg("--cacert")
            .arg(self.authority())
            .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
            .args(arguments)
            .arg(format!("{scheme}://{NAME}:{port}{path}"));
        command
    }

    /// What curl prints; it must be content.
    async fn curled(&self, scheme: &str, path: &str, arguments: &[&str]) -> String {
        let (code, out, err) = run(self.curl(scheme, path, arguments)).await;
        assert_eq!(code, 0, "{scheme} {path} {arguments:?}: {out}{err}");
        out
    }
}

/// Answers each connection's first request with what `answer` makes of its head, byte for byte,
/// and closes.
async fn verbatim(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let head = read_until(&mut stream, "\r\n\r\n").await;
                let _ = stream.write_all(answer(&head).as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn curl_in_each_version() {
    let web = Process::start(loopback(1, 0), replica_router("web")).await;
    let stage = Stage::new(web.address.port()).await;
    let told = ["-w", "%{http_version} %{http_code}\n"];
    for (scheme, version, spoken) in [
        ("https", "--http2", "2"),
        ("https", "--http1.1", "1.1"),
        ("https", "--http1.0", "1"),
        ("http", "--http2-prior-knowledge", "2"),
        // What asks for HTTP/2 by an upgrade goes on as it is.
        ("http", "--http2", "1.1"),
        ("http", "--http1.1", "1.1"),
        ("http", "--http1.0", "1"),
    ] {
        let arguments = [&[version], told.as_slice()].concat();
        let out = stage.curled(scheme, "/headers?q", &arguments).await;
        assert!(
            out.ends_with(&format!("{spoken} 200\n")),
            "{version}: {out}"
        );
        for line in ["/headers?q\n", &format!("x-forwarded-proto: {scheme}\n")] {
            assert!(out.contains(line), "{scheme} {version}: {out}");
        }
        assert!(!out.contains("http2-settings"), "{out}");
        let out = stage.curled(scheme, "/", &[version, "-I"]).await;
        assert!(
            out.to_lowercase().contains("content-length: 3\r\n"),
            "{out}"
        );
    }
    // Two requests on one connection of HTTP/1.0 that is kept.
    let twice = [
        "--http1.0",
        "-H",
        "Connection: keep-alive",
        "-w",
        "%{num_connects} ",
    ];
    let mut command = stage.curl("http", "/", &twice);
    command.arg(format!(
        "http://{NAME}:{}/late",
        stage.gateway.address.port()
    ));
    let (code, out, err) = run(command).await;
    assert!(code == 0 && out.starts_with("web1 late"), "{out}{err}");
    let large = stage.folder.path().join("large");
    let bytes: Vec<u8> = (0..(8u32 << 20))
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    std::fs::write(&large, &bytes).unwrap();
    let (from, to) = (
        large.display().to_string(),
        stage.folder.path().join("back"),
    );
    let from = format!("@{from}");
    // Uploads: with and without asking first (`Expect: 100-continue`), with and without a length.
    for (scheme, version) in [
        ("https", "--http2"),
        ("http", "--http2-prior-knowledge"),
        ("http", "--http1.1"),
        ("http", "--http1.0"),
    ] {
        for header in [
            "Expect: 100-continue",
            "Expect:",
            "Transfer-Encoding: chunked",
        ] {
            if version == "--http1.0" && header.starts_with("Transfer") {
                continue;
            }
            let output = to.display().to_string();
            let arguments = [version, "-H", header, "--data-binary", &from, "-o", &output];
            stage.curled(scheme, "/echo", &arguments).await;
            let back = std::fs::read(&to).unwrap();
            assert!(back == bytes, "{scheme} {version} {header}: {}", back.len());
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_trailers_pass() {
    let service = verbatim(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let answer = match path {
            "/204" => "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            "/trailers" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                 4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n"
            }
            "/103" => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "/close" => "HTTP/1.0 200 OK\r\n\r\nuntil it closes",
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        };
        answer.into()
    })
    .await;
    let stage = Stage::new(service.port()).await;
    for (scheme, version) in [
        ("https", "--http2"),
        ("https", "--http1.1"),
        ("http", "--http2-prior-knowledge"),
        ("http", "--http1.1"),
        ("http", "--http1.0"),
    ] {
        let told = "%{http_code} %{size_download}\n";
        for (path, more, expected) in [
            ("/204", &[][..], "204 0\n"),
            ("/304", &[], "304 0\n"),
            ("/head", &["-I", "-o", "/dev/null"], "200 0\n"),
            ("/103", &[], "ok200 2\n"),
            ("/close", &[], "until it closes200 15\n"),
            ("/trailers", &[], "body200 4\n"),
        ] {
            let arguments = [&[version, "-w", told], more].concat();
            let out = stage.curled(scheme, path, &arguments).await;
            assert_eq!(out, expected, "{scheme} {version} {path}");
        }
        // curl shows trailers among the headers.
        if version != "--http1.0" {
            let arguments = [version, "-D", "-", "-H", "TE: trailers"];
            let out = stage.curled(scheme, "/trailers", &arguments).await;
            assert!(
                out.to_lowercase().contains("x-sum: 42"),
                "{scheme} {version}: {out}"
            );
        }
    }
}

#[tokio::test]
async fn an_early_refusal_of_an_upload_arrives() {
    let service = verbatim(|_| {
        "HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much".into()
    })
    .await;
    let stage = Stage::new(service.port()).await;
    let large = stage.folder.path().join("large");
    std::fs::write(&large, vec![b'x'; 24 << 20]).unwrap();
    let from = format!("@{}", large.display());
    for (scheme, version) in [
        ("https", "--http2"),
        ("https", "--http1.1"),
        ("http", "--http2-prior-knowledge"),
        ("http", "--http1.1"),
    ] {
        for header in [
            "Expect:",
            "Expect: 100-continue",
            "Transfer-Encoding: chunked",
        ] {
            let arguments = [
                version,
                "-H",
                header,
                "--data-binary",
                &from,
                "-w",
                " %{http_code}",
            ];
            let out = stage.curled(scheme, "/", &arguments).await;
            assert_eq!(out, "too much 413", "{scheme} {version} {header}");
            // The gateway's own refusals arrive too.
            let nobody = [&["-H", "Host: nobody.app.localhost"], arguments.as_slice()].concat();
            let out = stage.curled(scheme, "/", &nobody).await;
            assert!(out.ends_with(" 404"), "{scheme} {version} {header}: {out}");
        }
    }
}

#[tokio::test]
async fn events_arrive_one_by_one_and_end_with_the_client() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel::<&str>();
    let (ask, asked) = tokio::sync::watch::channel(0u32);
    let router = axum::Router::new().route(
        "/events",
        axum::routing::get(move || async move {
            struct Told(tokio::sync::mpsc::UnboundedSender<&'static str>);
            impl Drop for Told {
                fn drop(&mut self) {
                    let _ = self.0.send("ended");
                }
            }
            let state = (0u32, asked.clone(), Told(told.clone()));
            let events = futures::stream::unfold(state, |(n, mut asked, told)| async move {
                asked.wait_for(|asked| *asked > n).await.ok()?;
                let event = Ok::<_, std::io::Error>(format!("data: {n}\n\n"));
                Some((event, (n + 1, asked, told)))
            });
            let kind = [("content-type", "text/event-stream")];
            (kind, axum::body::Body::from_stream(events))
        }),
    );
    let web = Process::start(loopback(1, 0), router).await;
    let stage = Stage::new(web.address.port()).await;
    for (scheme, version) in [
        ("https", "--http2"),
        ("https", "--http1.1"),
        ("http", "--http2-prior-knowledge"),
        ("http", "--http1.1"),
        ("http", "--http1.0"),
    ] {
        ask.send_replace(0);
        let mut command = stage.curl(scheme, "/events", &["-N", version]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for n in 0..5 {
            // It is sent only when the one before has been read.
            ask.send_replace(n + 1);
            lines = tokio::task::spawn_blocking(move || {
                assert_eq!(lines.next().unwrap().unwrap(), format!("data: {n}"));
                assert_eq!(lines.next().unwrap().unwrap(), "");
                lines
            })
            .await
            .unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), heard.recv());
        assert_eq!(ended.await.unwrap(), Some("ended"), "{scheme} {version}");
    }
}

#[tokio::test]
async fn grpc_by_its_own_library() {
    let service = service("rpc_server.py");
    let stage = Stage::new(service.port).await;
    let good = async |address: SocketAddr, authority: Option<PathBuf>| {
        let mut client = python("rpc_client.py");
        client.arg(address.to_string()).arg(NAME).args(authority);
        let (code, out, err) = run(client).await;
        assert_eq!((code, out.trim()), (0, "good"), "{err}");
    };
    good(stage.gateway.address, None).await;
    good(stage.gateway.secure.unwrap(), Some(stage.authority())).await;
}

#[tokio::test]
async fn websocket_by_a_library() {
    let service = service("websocket_server.py");
    let stage = Stage::new(service.port).await;
    let good = async |address: SocketAddr, authority: Option<PathBuf>| {
        let mut client = python("websocket_client.py");
        let silence = crate::limits::BODY_PAUSE + Duration::from_secs(1);
        client.env("SILENCE", silence.as_secs().to_string());
        client.arg(address.to_string()).arg(NAME).args(authority);
        let (code, out, err) = run(client).await;
        assert_eq!((code, out.trim()), (0, "good"), "{err}");
    };
    good(stage.gateway.address, None).await;
    good(stage.gateway.secure.unwrap(), Some(stage.authority())).await;
    // And by way of another host's agent.
    let agent = agent(([127, 0, 0, 1], service.port).into()).await;
    stage
        .chain
        .set(vec![route("web.app", 80, vec![tunnelled(2, &agent)])]);
    stage.gateway.heard(&stage.chain).await;
    good(stage.gateway.address, None).await;
}
