//! What a validator says of what it keeps no more.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use api::Problem;
use ledger::Params;
use reqwest::StatusCode;

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
async fn who_was_away_for_longer_than_all_keep_is_told_so() {
    let mut network = Network::with(4, quick());
    let mut running = Vec::new();
    for n in 0..4 {
        let one = network.start_keeping(n, Some(KEEP)).await;
        network.file.validators[n].api = one.url();
        running.push(one);
    }
    let late = running.pop().expect("the fourth");
    until("they make blocks", async || {
        late.client()
            .status()
            .await
            .is_ok_and(|status| status.height > 2)
    })
    .await;
    let status = late.client().status().await.expect("a status");
    late.stop().await;
    // The others serve a block for as long as the fourth might still be told of it by their engines.
    // It may have made some more before it stopped.
    let next = status.height + 64 + 256;
    let http = reqwest::Client::builder().no_proxy().build();
    let http = http.expect("a client");
    let payer = running[0].client();
    for one in &running {
        let url = format!("{}/v1/blocks/{next}", one.url());
        loop {
            let answer = http.get(&url).send().await.expect("an answer");
            if answer.status() == StatusCode::GONE {
                break;
            }
            // Blocks come quickly where something waits.
            let paid = payer.submit_and_wait(&key(200), transfer(id(3), 1)).await;
            assert_eq!(paid.expect("applied").rejection, None);
        }
    }

    let late = network.start_keeping(3, Some(KEEP)).await;
    let why = async || late.client().status().await.ok()?.own?.stuck;
    until("it finds out", async || why().await.is_some()).await;
    let why = why().await.expect("said");
    let still = late.client().status().await.expect("a status").height;
    assert!(still >= status.height, "it serves what it has");
    let next = format!("keep block {} no more", still + 1);
    assert!(why.contains("the 3 others") && why.contains(&next), "{why}");
    assert!(why.contains("runrig validator join"), "{why}");
    late.stop().await;
    for one in running {
        one.stop().await;
    }
}
