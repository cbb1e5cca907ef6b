//! A newcomer fetches a state from validators of whom some lie, break off or are behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use api::NetworkFile;
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use ledger::lots::Founder;
use ledger::{Call, Genesis, Params, account};
use sdk::Client;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use types::{AccountId, Amount, PublicKey, SecretKey};

const BLOCKS: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(120);

fn payer() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

async fn free() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    (listener, at)
}

async fn bytes(url: String) -> Vec<u8> {
    let client = reqwest::Client::builder().no_proxy().build();
    let answer = client.expect("a client").get(url).send().await;
    let answer = answer.expect("answers").error_for_status().expect("good");
    answer.bytes().await.expect("bytes").to_vec()
}

/// Answers `/v1/sync` with `offer`, and pieces as `piece` makes them of what `honest` gives;
/// `None`: it fails.
async fn giver(offer: Vec<u8>, honest: String, piece: fn(Vec<u8>) -> Option<Vec<u8>>) -> String {
    let (listener, at) = free().await;
    let pieces = move |Path((height, number)): Path<(u64, u32)>| {
        let url = format!("{honest}/v1/sync/{height}/{number}");
        async move { piece(bytes(url).await).ok_or(StatusCode::BAD_GATEWAY) }
    };
    let router = Router::new()
        .route("/v1/sync", get(async move || offer))
        .route("/v1/sync/{height}/{number}", get(pieces));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{at}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_are_named_and_the_honest_suffice() {
    let folder = tempfile::tempdir().expect("a folder");
    let (committee, seats) = consensus::deal(1, [9; 32]).expect("dealt");
    let (listener, at) = free().await;
    let (p2p, held) = free().await;
    drop(p2p);
    let payer_id = AccountId::of(&payer().public());
    let file = NetworkFile {
        genesis: Genesis {
            name: "test".into(),
            time_ms: 1_700_000_000_000,
            params: Params {
                epoch_blocks: BLOCKS,
                ..Params::dev()
            },
            balances: vec![(payer_id, Amount::credits(1_000))],
            faucet: payer_id,
            validators: vec![Founder {
                key: PublicKey(seats[0].key()),
                address: held.to_string(),
            }],
            watchers: Vec::new(),
            origin: None,
        },
        committee: hex::encode(committee.to_bytes()),
        network_key: hex::encode(committee.network_key()),
        validators: Vec::new(),
        gateway: None,
    };
    let config = |name: &str, seat: Vec<u8>| validator::Config {
        data: folder.path().join(name),
        network: file.clone(),
        seat,
        p2p: held,
        http: at,
        whereabouts: None,
        keep_blocks: None,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(validator::run_on(
        listener,
        config("founder", seats[0].to_bytes()),
        Box::pin(async {
            let _ = stopped.await;
        }),
    ));
    let url = format!("http://{at}");
    let client = Client::new([url.clone()]).expect("a client");
    let feed = async |height: u64| {
        let from = Instant::now();
        while client.status().await.map_or(0, |s| s.height) < height {
            assert!(from.elapsed() < PATIENCE, "height {height}: not in time");
            let call = Call::Account(account::Call::Transfer {
                to: payer_id,
                amount: Amount(1),
                memo: String::new(),
            });
            let _ = client.submit_and_wait(&payer(), call).await;
        }
    };
    let newcomer = config("newcomer", consensus::Seat::from_secret([5; 32]).to_bytes());
    let early = validator::newest(&newcomer, std::slice::from_ref(&url)).await;
    let early = format!("{:#}", early.err().expect("nothing yet"));
    assert!(early.contains("end of each epoch"), "{early}");

    feed(BLOCKS + 1).await;
    let old = bytes(format!("{url}/v1/sync")).await;
    feed(2 * BLOCKS + 1).await;
    let new = bytes(format!("{url}/v1/sync")).await;
    let turned = giver(new.clone(), url.clone(), |mut piece| {
        piece[9] ^= 1;
        Some(piece)
    });
    let turned = turned.await;
    let cut = giver(new.clone(), url.clone(), |_| None).await;
    let stale = giver(old.clone(), url.clone(), Some).await;
    let mut forged = new;
    forged[20] ^= 1;
    let forged = giver(forged, url.clone(), Some).await;

    // Only liars: each is named, nothing is written.
    let lies = [turned.clone(), cut.clone()];
    let newest = validator::newest(&newcomer, &lies)
        .await
        .expect("it offers well");
    assert_eq!(newest.height(), 2 * BLOCKS - 1);
    let why = newest.adopt(&newcomer).await.expect_err("no good piece");
    let why = format!("{why:#}");
    assert!(
        why.contains(&format!("{turned}: piece 0 that it gave is wrong")),
        "{why}"
    );
    assert!(why.contains(&cut), "{why}");
    assert_eq!(validator::reached(&newcomer.data).expect("reads"), None);
    let nobody = validator::newest(&newcomer, std::slice::from_ref(&forged)).await;
    let nobody = format!("{:#}", nobody.err().expect("forged"));
    assert!(nobody.contains(&forged), "{nobody}");

    // With one who is honest it holds; who was behind or forged is told.
    let all = [turned, cut, stale.clone(), forged.clone(), url.clone()];
    let newest = validator::newest(&newcomer, &all).await.expect("offered");
    let fetched = newest.adopt(&newcomer).await.expect("fetched");
    assert_eq!(fetched.height, 2 * BLOCKS - 1);
    assert!(fetched.bytes > 500);
    for liar in [&stale, &forged] {
        assert!(
            fetched.complaints.iter().any(|c| c.contains(liar.as_str())),
            "{:?}",
            fetched.complaints
        );
    }
    let reached = validator::reached(&newcomer.data).expect("reads");
    assert_eq!(reached, Some(2 * BLOCKS - 1));
    validator::forget(&newcomer.data).expect("gone");
    assert_eq!(validator::reached(&newcomer.data).expect("reads"), None);
    let _ = stop.send(());
    running.await.expect("no panic").expect("ends well");
}
