//! Bytes without sense, and clients that dawdle, on every port that the cloud listens on.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use fixtures::{exchange, get};
use serde_json::Value;

use crate::World;

/// Half-said requests that are held open at once, at each port.
const DAWDLERS: usize = 200;

/// The same bytes in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn addresses(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|v| addresses(v, found)),
        Value::Object(all) => all.values().for_each(|v| addresses(v, found)),
        _ => {}
    }
}

/// Says `bytes`, then no more; whether and what the other side answers is its own affair.
fn say(address: &str, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address) else {
        panic!("nobody listens at {address}");
    };
    let limit = Some(Duration::from_secs(10));
    stream.set_write_timeout(limit).expect("set");
    // It may hang up at the first wrong byte.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
}

pub fn send(world: &World) {
    let data = std::fs::read(world.cloud.data().join("layout.json")).expect("a layout");
    let layout: Value = serde_json::from_slice(&data).expect("json");
    let mut ports = Vec::new();
    addresses(&layout, &mut ports);
    assert!(ports.len() >= 13, "{layout}");
    ports.push(format!("127.0.0.1:{}", world.cloud.port(0)));

    let header = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(1 << 20));
    let many: String = (0..20_000).map(|n| format!("A{n}: b\r\n")).collect();
    let many = format!("GET /v1/status HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    let path = format!(
        "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n",
        "../%2e%2e/".repeat(9_000)
    );
    let said: Vec<Vec<u8>> = vec![
        noise(64 << 10),
        vec![0; 64 << 10],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /v1/status\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: \x00\xff\r\n\r\n".to_vec(),
        b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"
            .to_vec(),
        b"POST /v1/quote HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx"
            .to_vec(),
        b"POST /v1/quote HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        header.into_bytes(),
        many.into_bytes(),
        path.into_bytes(),
    ];
    for port in &ports {
        for bytes in &said {
            say(port, bytes);
        }
    }

    // Each port has its share of clients that never come to an end of their request.
    let mut dawdlers = Vec::new();
    for port in &ports {
        for _ in 0..DAWDLERS {
            if let Ok(mut stream) = TcpStream::connect(port) {
                let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nA: ");
                dawdlers.push(stream);
            }
        }
    }
    // Others are served meanwhile, at each of them that serves.
    let gateway = world.cloud.gateway();
    assert_eq!(get(&gateway, "x", "/v1/status").status, 200);
    for url in world.cloud.validators() {
        let address = url.trim_start_matches("http://");
        assert_eq!(get(address, "x", "/v1/status").status, 200, "{url}");
    }
    let web = format!("127.0.0.1:{}", world.cloud.port(0));
    assert_eq!(get(&web, "x", "/hostname").status, 200);
    for host in layout["hosts"].as_array().expect("a list") {
        let address = host.as_str().expect("an address");
        assert_eq!(get(address, "x", "/v1/status").status, 200, "{address}");
    }
    world.lives();
    drop(dawdlers);

    // Paths, queries and numbers that lead nowhere are told so.
    for path in [
        "/v1/blocks/99999999999999999999",
        "/v1/blocks/-1",
        "/v1/accounts/nobody",
        "/v1/allocations/a-x",
        "/v1/transactions/zz",
        "/v1/events?from=x",
        "/v1/bill?owner=%ff%fe",
        "/v1/receipts/r-99999999/proof",
        "/v1/hosts/%00",
        "/v1/nothing/here",
    ] {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(&gateway, text.as_bytes()).expect("an answer");
        let told = answer.text();
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {} {told}",
            answer.status
        );
        crate::told(&answer.json());
    }
}
