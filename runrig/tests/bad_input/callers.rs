//! Callers without rights to the logs, figures and commands of another's replicas.

use api::RequestAuth;
use fixtures::{Answer, exchange};
use types::SecretKey;

use crate::{World, told};

fn ask(address: &str, path: &str, auth: Option<String>) -> Answer {
    let auth = auth.map_or(String::new(), |a| {
        format!("{}: {a}\r\n", RequestAuth::HEADER)
    });
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\n{auth}Connection: close, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    exchange(address, text.as_bytes()).expect("an answer")
}

pub fn send(world: &World) {
    let data = std::fs::read(world.cloud.data().join("layout.json")).expect("a layout");
    let layout: serde_json::Value = serde_json::from_slice(&data).expect("json");
    let agent = layout["hosts"][world.host - 1]
        .as_str()
        .expect("an address");
    let now = api::now_ms();
    let sign =
        |key: &SecretKey, path: &str, at| RequestAuth::sign(key, "GET", path, at).to_string();
    for what in ["logs", "stats", "inspect", "exec"] {
        let path = format!("/v1/allocations/{}/{what}", world.allocation);
        let good = sign(&world.owner, &path, now);
        let mut bent = good.clone();
        bent.pop();
        bent.push(if good.ends_with('0') { '1' } else { '0' });
        let claims = [
            ("nobody", None),
            ("a stranger", Some(sign(&world.stranger, &path, now))),
            (
                "of long ago",
                Some(sign(&world.owner, &path, now - 3_600_000)),
            ),
            (
                "for another path",
                Some(sign(&world.owner, "/v1/allocations/a-9/logs", now)),
            ),
            ("a bent signature", Some(bent)),
            ("no signature at all", Some("x".repeat(5_000))),
            (
                "another host",
                Some(sign(&world.host_key(world.other_host), &path, now)),
            ),
        ];
        for address in [&world.cloud.gateway(), agent] {
            for (who, auth) in &claims {
                let answer = ask(address, &path, auth.clone());
                assert!(
                    (400..500).contains(&answer.status),
                    "{what} for {who} at {address}: {} {}",
                    answer.status,
                    answer.text()
                );
                told(&answer.json());
            }
        }
    }
    let answer = ask(
        &world.cloud.gateway(),
        "/v1/allocations/a-999999/logs",
        None,
    );
    assert!((400..500).contains(&answer.status), "{}", answer.head);
    told(&answer.json());
}
