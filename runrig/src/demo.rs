//! The page of the demo: a web server small enough to be an image by itself.
//!
//! No async runtime and no dependency: one thread per connection, at most 64 of them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

static SERVED: AtomicU64 = AtomicU64::new(0);
static OPEN: AtomicUsize = AtomicUsize::new(0);
const OPEN_MAX: usize = 64;
const REQUEST_MAX: usize = 16 * 1024;

fn port() -> u16 {
    let set = std::env::var("PORT").ok();
    set.and_then(|p| p.parse().ok()).unwrap_or(8080)
}

/// Whether the server of this container answers: its health check.
pub fn check() -> std::io::Result<()> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port()).into(), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    match &answer[9..] {
        b"200" => Ok(()),
        _ => Err(std::io::Error::other("it does not answer 200")),
    }
}

/// Serves until it is killed. `PORT` says where; 8080 if not set.
pub fn run() -> std::io::Result<()> {
    // As the first process of a container, signals without a handler are ignored.
    // SAFETY: the handler only calls `_exit`, which is async-signal-safe.
    unsafe {
        let stop = stop as extern "C" fn(i32);
        libc::signal(libc::SIGTERM, stop as libc::sighandler_t);
        libc::signal(libc::SIGINT, stop as libc::sighandler_t);
    }
    let port = port();
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening on port {port}");
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if OPEN.fetch_add(1, Ordering::Relaxed) >= OPEN_MAX {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let spawned = std::thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(move || {
                let _ = serve(stream);
                OPEN.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

extern "C" fn stop(_signal: i32) {
    // SAFETY: ends the process at once; nothing is left to save.
    unsafe { libc::_exit(0) }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        if count == 0 || request.len() + count > REQUEST_MAX {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
    }
    let line = String::from_utf8_lossy(&request);
    let line = line.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/healthz") => ("200 OK", "text/plain", "ok\n".to_string()),
        ("GET" | "HEAD", "/" | "/index.html") => {
            let count = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
            println!("{line} #{count}");
            ("200 OK", "text/html; charset=utf-8", page(count))
        }
        _ => ("404 Not Found", "text/plain", "nothing here\n".to_string()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

fn page(count: u64) -> String {
    // A container is called after its allocation.
    let hostname = std::env::var("HOSTNAME").unwrap_or_else(|_| "unknown".into());
    let hostname = escape(hostname.trim());
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hello from Runrig</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 17px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 12vh auto; padding: 0 1.5rem }}
h1 {{ font-size: 1.8rem; margin-bottom: .3rem }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem }}
dt {{ opacity: .65 }} dd {{ margin: 0; font-family: ui-monospace, monospace }}
</style>
<h1>Hello from Runrig</h1>
<p>This container was placed by a ledger, is metered by its host, and is paid for by the
account that deployed it.</p>
<dl>
<dt>Allocation</dt><dd>{hostname}</dd>
<dt>Pages served here</dt><dd id="count">{count}</dd>
</dl>
<p>Reload: another replica may answer.</p>
</html>
"#
    )
}

fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '<' => "&lt;".chars().collect::<Vec<_>>(),
            '>' => "&gt;".chars().collect(),
            '&' => "&amp;".chars().collect(),
            other => vec![other],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let _ = serve(stream);
        });
        let mut client = TcpStream::connect(address).expect("connected");
        client.write_all(request).expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("answered");
        server.join().expect("served");
        answer
    }

    #[test]
    fn answers_a_page_and_its_health() {
        let answer = ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Hello from Runrig"));
        assert!(ask(b"GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
        assert!(ask(b"GET /none HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert_eq!(escape("<a&b>"), "&lt;a&amp;b&gt;");
    }
}
