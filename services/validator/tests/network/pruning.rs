//! What a validator says of what it keeps no more; and one that was away for too long.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use api::Problem;
use ledger::Params;
use reqwest::StatusCode;
use sdk::Client;

use super::{Network, id, key, transfer};

const KEEP: NonZeroU64 = NonZeroU64::new(64).expect("not zero");

/// Hundreds of blocks on a machine that does much else take their time.
const PATIENCE: Duration = Duration::from_secs(300);

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let from = Instant::now();
    while !is_so().await {
        assert!(from.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn is_gone(client: &Client, height: u64) -> bool {
    let block = client.block(height).await;
    block.is_err_and(|error| error.to_string().contains("forgets what is older"))
}

fn quick() -> Params {
    Params {
        epoch_blocks: 16,
        block_idle_ms: 100,
        block_busy_ms: 10,
        ..Params::dev()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_is_answered_with_410_and_whom_to_ask() {
    let mut network = Network::with(1, quick());
    // Named as one to ask; nobody need be there.
    let mut other = network.file.validators[0].clone();
    other.key = "00".repeat(32);
    other.api = "http://127.0.0.1:1".into();
    network.file.validators.push(other);
    let running = network.start_keeping(0, Some(KEEP)).await;
    let client = running.client();
    let paid = client.submit_and_wait(&key(200), transfer(id(3), 1)).await;
    let paid = paid.expect("applied");
    let (height, id) = (paid.height.expect("included"), paid.id);
    let http = reqwest::Client::builder().no_proxy().build();
    let http = http.expect("a client");
    let ask = async |path: &str| {
        let request = http.get(format!("{}{path}", running.url()));
        let request = request.header("accept", "application/json");
        request.send().await.expect("an answer")
    };
    // The index forgets last, by 256 blocks.
    until("the index forgets", async || {
        ask("/v1/events?from=0").await.status() == StatusCode::GONE
    })
    .await;

    for path in [
        format!("/v1/blocks/{height}"),
        format!("/v1/transactions/{id}"),
        format!("/v1/when/{id}"),
        format!("/v1/when/{height}"),
        "/v1/receipts/r-0".into(),
        "/v1/receipts/r-0/proof".into(),
        "/v1/events?from=0".into(),
    ] {
        let answer = ask(&path).await;
        assert_eq!(answer.status(), StatusCode::GONE, "{path}");
        let problem: Problem = answer.json().await.expect("a problem");
        assert_eq!(problem.kind, "not_found", "{path}");
        assert!(problem.why.contains("forgets what is older"), "{problem:?}");
        assert!(problem.next.contains("http://127.0.0.1:1"), "{problem:?}");
    }
    // What is not yet there, and who waits for what may come.
    let coming = ask("/v1/blocks/99999999").await.status();
    assert_eq!(coming, StatusCode::NOT_FOUND);
    let waits = ask(&format!("/v1/transactions/{id}?wait_ms=10")).await;
    assert_eq!(waits.status(), StatusCode::OK);

    // Nor do votes of past epochs pile up.
    let engine = std::fs::read_dir(network.folder.path().join("0/engine")).expect("reads");
    let names = engine.map(|entry| entry.expect("reads").file_name());
    let votes = names.filter(|n| n.to_string_lossy().starts_with("simplex_consensus_"));
    let votes = votes.count();
    assert!(votes <= 3, "{votes} epochs' votes");

    // Who sat, and how that was drawn, is kept: long after its blocks are gone.
    let view = client.lots(4).await.expect("kept");
    let trusted = hex::decode(&network.file.network_key).expect("hex");
    let steps = sdk::verify_lots(&trusted, &network.file.genesis, &view);
    assert!(steps.iter().all(|s| s.good), "{steps:?}");
    let mut later = view.clone();
    later.fallen = None;
    let steps = sdk::verify_lots(&trusted, &network.file.genesis, &later);
    let last = steps.last().expect("a step");
    assert!(!last.good && last.what.contains("began later"), "{last:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_away_for_longer_than_all_keep_finds_out_and_says_what_to_do() {
    let mut network = Network::with(4, quick());
    let mut running = Vec::new();
    for n in 0..3 {
        running.push(network.start_keeping(n, Some(KEEP)).await);
    }
    let client = running[0].client();
    for (validator, at) in network.file.validators.iter_mut().zip(&running) {
        validator.api = at.url();
    }
    for at in &running {
        let client = at.client();
        until("all forget", async || is_gone(&client, 1).await).await;
    }
    let late = network.start_keeping(3, Some(KEEP)).await;
    let own = late.client();
    until("it finds out", async || {
        let status = own.status().await.expect("answers");
        let stuck = status.own.and_then(|own| own.stuck);
        stuck.is_some_and(|why| {
            why.contains("keep block 1 no more") && why.contains("`runrig validator join`")
        })
    })
    .await;
    let well = client.status().await.expect("answers").own;
    assert_eq!(well.expect("its own").stuck, None);
    late.stop().await;
    for one in running {
        one.stop().await;
    }
}
