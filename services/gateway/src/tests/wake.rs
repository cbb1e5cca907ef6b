//! Services that sleep: whoever asks waits for a replica, but not for ever and not in masses.

use futures::future::join_all;

use super::*;
use crate::limits::WAITING_SHARE;

fn asleep(port: u16, replicas: Vec<api::Upstream>, stopped: bool) -> api::Route {
    api::Route {
        scale: Some(api::RouteScale {
            min: 0,
            wanted: replicas.len() as u32,
            stopped,
            why: String::new(),
        }),
        ..route("web.nap", port, replicas)
    }
}

async fn gateway_of(chain: &Chain) -> (Process, Running) {
    let validator = validator(chain.clone()).await;
    let gateway = Running::start(&[&validator], None).await;
    gateway.heard(chain).await;
    (validator, gateway)
}

async fn waiting(gateway: &Running) -> usize {
    let text = gateway.get("localhost", "/metrics").await;
    let line = text
        .text()
        .lines()
        .find_map(|l| l.strip_prefix("runrig_gateway_waiting_requests "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_request_waits_for_the_first_replica_and_for_it_to_listen() {
    // The port is known, but nobody listens there yet.
    let listener = TcpListener::bind(loopback(2, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let chain = Chain::new(vec![asleep(address.port(), Vec::new(), false)]);
    let (_validator, gateway) = gateway_of(&chain).await;
    let host = "web.nap.localhost";
    let asking = join_all([
        gateway.send("GET", host, "/", &[], Bytes::new()),
        gateway.send("POST", host, "/echo", &[], "hello".into()),
    ]);
    let starting = async {
        eventually("both wait", async || waiting(&gateway).await == 2).await;
        chain.set(vec![asleep(
            address.port(),
            vec![upstream(1, [127, 0, 0, 2])],
            false,
        )]);
        eventually("both are let go", async || waiting(&gateway).await == 0).await;
        Process::start(address, replica_router("awake")).await
    };
    let (answers, _replica) = tokio::join!(asking, starting);
    assert_eq!((answers[0].status, answers[0].text()), (200, "awake"));
    assert_eq!((answers[1].status, answers[1].text()), (200, "hello"));
}

#[tokio::test]
async fn nobody_waits_for_ever_nor_in_masses_nor_for_what_is_stopped() {
    let chain = Chain::new(vec![asleep(80, Vec::new(), false)]);
    let (_validator, gateway) = gateway_of(&chain).await;
    let count = WAITING_SHARE as usize + 10;
    let all = join_all((0..count).map(|_| gateway.get("web.nap.localhost", "/"))).await;
    for answer in &all {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.headers.contains_key("retry-after"));
    }
    let refused = all.iter().filter(|a| a.text().contains("too many"));
    assert_eq!(refused.count(), 10);
    chain.set(vec![asleep(80, Vec::new(), true)]);
    gateway.heard(&chain).await;
    let answer = gateway.get("web.nap.localhost", "/").await;
    assert!(
        answer.text().contains("stopped by its owner"),
        "{}",
        answer.text()
    );
}
