//! A newcomer fetches a state, and whoever follows blocks, from validators of whom some lie, break
//! off or are behind.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::NetworkFile;
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ledger::{Call, Genesis, Params, account, lots};
use sdk::Client;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
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

/// A validator that runs until it is told not to.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<validator::Ended>>,
}

impl Running {
    fn start(listener: TcpListener, config: validator::Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(validator::run_on(listener, config, Box::pin(stopped)));
        Self { stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("no panic").expect("ends well");
    }
}

/// The one validator of a network, and what others are told of that.
struct Founder {
    folder: tempfile::TempDir,
    file: NetworkFile,
    p2p: SocketAddr,
    at: SocketAddr,
    client: Client,
    running: Running,
}

impl Founder {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (committee, seats) = consensus::deal(1, [9; 32]).expect("dealt");
        let (listener, at) = free().await;
        let (held, p2p) = free().await;
        drop(held);
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
                validators: vec![lots::Founder {
                    key: PublicKey(seats[0].key()),
                    address: p2p.to_string(),
                }],
                watchers: Vec::new(),
                origin: None,
            },
            committee: hex::encode(committee.to_bytes()),
            network_key: hex::encode(committee.network_key()),
            validators: Vec::new(),
            gateway: None,
        };
        let own = config_of(&folder, &file, "founder", &seats[0], (p2p, at));
        Self {
            client: Client::new([format!("http://{at}")]).expect("a client"),
            running: Running::start(listener, own),
            folder,
            file,
            p2p,
            at,
        }
    }

    fn config(&self, name: &str, seat: &consensus::Seat, http: SocketAddr) -> validator::Config {
        config_of(&self.folder, &self.file, name, seat, (self.p2p, http))
    }

    async fn height(&self) -> u64 {
        self.client.status().await.map_or(0, |s| s.height)
    }

    /// Has something done until there are so many blocks.
    async fn feed(&self, height: u64) {
        let from = Instant::now();
        while self.height().await < height {
            assert!(from.elapsed() < PATIENCE, "height {height}: not in time");
            let call = Call::Account(account::Call::Transfer {
                to: AccountId::of(&payer().public()),
                amount: Amount(1),
                memo: String::new(),
            });
            let _ = self.client.submit_and_wait(&payer(), call).await;
        }
    }
}

fn config_of(
    folder: &tempfile::TempDir,
    file: &NetworkFile,
    name: &str,
    seat: &consensus::Seat,
    (p2p, http): (SocketAddr, SocketAddr),
) -> validator::Config {
    validator::Config {
        data: folder.path().join(name),
        network: file.clone(),
        seat: seat.to_bytes(),
        p2p,
        http,
        whereabouts: None,
        keep_blocks: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_are_named_and_the_honest_suffice() {
    let founder = Founder::start().await;
    let url = format!("http://{}", founder.at);
    let newcomer = founder.config(
        "newcomer",
        &consensus::Seat::from_secret([5; 32]),
        founder.at,
    );
    let early = validator::newest(&newcomer, std::slice::from_ref(&url)).await;
    let early = format!("{:#}", early.err().expect("nothing yet"));
    assert!(early.contains("end of each epoch"), "{early}");

    founder.feed(BLOCKS + 1).await;
    let old = bytes(format!("{url}/v1/sync")).await;
    founder.feed(2 * BLOCKS + 1).await;
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
    founder.running.stop().await;
}

/// Answers `/v1/follow/{height}` with what `lie` makes of what `honest` gives.
async fn passer(honest: String, lie: fn(Vec<u8>) -> Response) -> String {
    let (listener, at) = free().await;
    let blocks = move |Path(height): Path<u64>| {
        let url = format!("{honest}/v1/follow/{height}");
        async move { lie(bytes(url).await) }
    };
    let router = Router::new().route("/v1/follow/{height}", get(blocks));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{at}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_among_liars_comes_to_what_is_certified() {
    let founder = Founder::start().await;
    let url = format!("http://{}", founder.at);
    founder.feed(BLOCKS + 1).await;
    let lies: [fn(Vec<u8>) -> Response; 6] = [
        |mut blocks| {
            let at = blocks.len() / 2;
            blocks[at] ^= 1;
            blocks.into_response()
        },
        |mut blocks| {
            blocks.truncate(blocks.len() / 2);
            blocks.into_response()
        },
        |_| StatusCode::GONE.into_response(),
        |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        // Nothing new, whatever there is.
        |_| vec![0u8; 4].into_response(),
        // More than there may be.
        |_| vec![0u8; consensus::PASSED_BYTES_MAX + 1].into_response(),
    ];
    let (listener, at) = free().await;
    let mut own = founder.config("follower", &consensus::Seat::from_secret([6; 32]), at);
    let newest = validator::newest(&own, std::slice::from_ref(&url)).await;
    newest.expect("offered").adopt(&own).await.expect("fetched");
    let begins = validator::reached(&own.data).expect("reads");
    let peer = |n: u8, api: String| api::ValidatorAddress {
        key: hex::encode([n; 32]),
        p2p: founder.p2p.to_string(),
        api,
    };
    for (n, lie) in (100..).zip(lies) {
        let liar = passer(url.clone(), lie).await;
        own.network.validators.push(peer(n, liar));
    }
    // The only one who gives what holds does so every other time: all are asked again and again.
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let moody = passer(url, |mut blocks| {
        let last = blocks.len() - 1;
        blocks[last] ^= (ASKED.fetch_add(1, Relaxed) % 2) as u8;
        blocks.into_response()
    });
    own.network.validators.push(peer(99, moody.await));
    let follower = Running::start(listener, own);
    let client = Client::new([format!("http://{at}")]).expect("a client");
    let reach = async |wanted: u64| {
        let from = Instant::now();
        while client.status().await.map_or(0, |s| s.height) < wanted {
            assert!(from.elapsed() < PATIENCE, "it does not come to {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    reach(begins.expect("a state") + 1).await;
    let wanted = founder.height().await + 2 * BLOCKS;
    founder.feed(wanted).await;
    reach(wanted).await;
    let honest = founder.client.block(wanted).await.expect("kept");
    let followed = client.block(wanted).await.expect("kept");
    assert_eq!(followed.header, honest.header);
    assert!(ASKED.load(Relaxed) > 1, "it came there by one answer");
    follower.stop().await;
    founder.running.stop().await;
}
