//! Real validators on loopback, spoken to over HTTP as anyone would.

#[path = "network/evidence.rs"]
mod evidence;
#[path = "network/pruning.rs"]
mod pruning;
#[path = "network/records.rs"]
mod records;
#[path = "network/rules.rs"]
mod rules;
#[path = "network/turns.rs"]
mod turns;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use api::{NetworkFile, ValidatorAddress};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use ledger::lease::UsageLine;
use ledger::lots::Founder;
use ledger::{Call, Genesis, Params, account, deployment, host, lease};
use sdk::{Client, EventFilter};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use types::{
    AccountId, AllocationStatus, Amount, DeploymentSpec, Digest, ImageRef, Offer, PortSpec,
    Protocol, PublicKey, Resource, Resources, RunState, SecretKey, ServiceSpec, Usage, UsageRecord,
    merkle_path, merkle_root,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn id(n: u8) -> AccountId {
    AccountId::of(&key(n).public())
}

struct Network {
    file: NetworkFile,
    seats: Vec<Vec<u8>>,
    folder: tempfile::TempDir,
}

struct Running {
    api: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<anyhow::Result<validator::Ended>>,
}

impl Running {
    fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    fn client(&self) -> Client {
        Client::new([self.url()]).expect("a client")
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.ended.await.expect("no panic").expect("ends well");
    }
}

impl Network {
    fn new(validators: u32) -> Self {
        Self::with(validators, Params::dev())
    }

    fn with(validators: u32, params: Params) -> Self {
        let (committee, seats) = consensus::deal(validators, [9; 32]).expect("dealt");
        let addresses = fixtures::free_addresses(seats.len() as u16);
        let genesis = Genesis {
            name: "test".into(),
            time_ms: 1_700_000_000_000,
            params,
            balances: vec![(id(200), Amount::credits(1_000_000))],
            faucet: id(200),
            validators: seats
                .iter()
                .zip(&addresses)
                .map(|(seat, at)| Founder {
                    key: PublicKey(seat.key()),
                    address: at.to_string(),
                })
                .collect(),
            watchers: Vec::new(),
            origin: None,
        };
        let file = NetworkFile {
            genesis,
            committee: hex::encode(committee.to_bytes()),
            network_key: hex::encode(committee.network_key()),
            validators: seats
                .iter()
                .zip(&addresses)
                .map(|(seat, at)| ValidatorAddress {
                    key: hex::encode(seat.key()),
                    p2p: at.to_string(),
                    api: String::new(),
                })
                .collect(),
            gateway: None,
        };
        Self {
            file,
            seats: seats.iter().map(consensus::Seat::to_bytes).collect(),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// All of its validators listen for hosts.
    fn watched(validators: u32) -> Self {
        let mut network = Self::new(validators);
        let seats = network.seats.iter();
        let keys = seats.map(|s| consensus::Seat::from_bytes(s).expect("a seat").key());
        network.file.genesis.watchers = keys.map(PublicKey).collect();
        network
    }

    fn config(&self, n: usize, api: SocketAddr, keep: Option<NonZeroU64>) -> validator::Config {
        validator::Config {
            data: self.folder.path().join(n.to_string()),
            network: self.file.clone(),
            seat: self.seats[n].clone(),
            p2p: self.file.validators[n].p2p.parse().expect("an address"),
            http: api,
            whereabouts: None,
            keep_blocks: keep,
        }
    }

    async fn start_all(&self) -> Vec<Running> {
        let mut running = Vec::new();
        for n in 0..self.seats.len() {
            running.push(self.start(n).await);
        }
        running
    }

    async fn start(&self, n: usize) -> Running {
        self.start_keeping(n, None).await
    }

    /// As [`Self::start`]; of blocks only the last `keep` are kept.
    async fn start_keeping(&self, n: usize, keep: Option<NonZeroU64>) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let api = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let config = self.config(n, api, keep);
        let asked = Box::pin(async {
            let _ = stopped.await;
        });
        let ended = tokio::spawn(validator::run_on(listener, config, asked));
        let running = Running { api, stop, ended };
        let client = running.client();
        let from = Instant::now();
        while client.status().await.is_err() {
            assert!(!running.ended.is_finished(), "the validator has ended");
            assert!(from.elapsed() < PATIENCE, "the validator does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running
    }
}

fn transfer(to: AccountId, credits: u64) -> Call {
    Call::Account(account::Call::Transfer {
        to,
        amount: Amount::credits(credits),
        memo: "thanks".into(),
    })
}

fn register(name: &str, owner: AccountId) -> Call {
    Call::Host(host::Call::Register {
        name: name.into(),
        address: "http://127.0.0.1:1".into(),
        offer: Offer {
            capacity: Resources {
                cpu_millis: 8_000,
                memory_bytes: 16 << 30,
                disk_bytes: 100 << 30,
                bandwidth_kbps: 1_000_000,
            },
            price_multiplier_milli: 1000,
            architecture: "amd64".into(),
            region: String::new(),
            builds: false,
        },
        owner,
        machine: Digest::of(name.as_bytes()),
        invitation: None,
    })
}

fn spec() -> DeploymentSpec {
    let service = ServiceSpec {
        image: ImageRef {
            reference: "localhost/web:1".into(),
            digest: Digest::of(b"image"),
        },
        ports: vec![PortSpec {
            target: 80,
            published: Some(8080),
            protocol: Protocol::Tcp,
        }],
        networks: [("default".to_string(), Vec::new())].into(),
        resources: Resources {
            cpu_millis: 1_000,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            bandwidth_kbps: 10_000,
        },
        pids: 100,
        ..ServiceSpec::default()
    };
    DeploymentSpec {
        project: "shop".into(),
        services: [("web".to_string(), service)].into(),
        networks: [(
            "default".to_string(),
            types::NetworkSpec { internal: false },
        )]
        .into(),
        volumes: Default::default(),
        logs: Default::default(),
    }
}

/// A validator alone, and an account that has its gift.
async fn endowed() -> (Network, Running, Client) {
    let network = Network::new(1);
    let running = network.start(0).await;
    let client = running.client();
    give(&client).await;
    (network, running, client)
}

/// The faucet's gift, to account 1.
async fn give(client: &Client) {
    let gift = Call::Account(account::Call::Faucet { to: id(1) });
    client.submit_and_wait(&key(1), gift).await.expect("a gift");
}

/// Asks for `what` again and again until it is so.
async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let from = Instant::now();
    while !is_so().await {
        assert!(from.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Faucet, host, deployment, running, used once and settled; the receipt's id.
async fn run_something(client: &Client) -> types::ReceiptId {
    give(client).await;
    client
        .submit_and_wait(&key(50), register("alpha", id(2)))
        .await
        .expect("a host");
    let quote = client
        .quote(&api::QuoteRequest {
            owner: id(1),
            spec: spec(),
        })
        .await
        .expect("a quote");
    assert_eq!(quote.refusal, None);
    assert_eq!(quote.lines.len(), 4);
    let deploy = Call::Deployment(deployment::Call::Deploy {
        spec: spec(),
        price_max_hour: None,
    });
    client
        .submit_and_wait(&key(1), deploy)
        .await
        .expect("deployed");
    let plan = client.host_plan(id(50), 0, 1_000).await.expect("a plan");
    let planned = &plan.allocations[0];
    assert_eq!(
        (planned.service.as_str(), planned.spec.replicas),
        ("web", 1)
    );
    let status = AllocationStatus {
        state: RunState::Running,
        pid: 77,
        addresses: [("default".to_string(), [10, 0, 0, 2])].into(),
        ..AllocationStatus::default()
    };
    let report = Call::Lease(lease::Call::ReportStatus {
        plan: plan.plan,
        statuses: vec![(planned.allocation, status)],
    });
    client
        .submit_and_wait(&key(50), report)
        .await
        .expect("running");
    let now = client.status().await.expect("a head").time_ms;
    let view = client.allocation(planned.allocation).await.expect("one");
    let span_ms = now - view.placed_ms;
    let total = Usage {
        cpu_ns: span_ms * 300_000,
        memory_byte_ms: u128::from(span_ms) << 29,
        storage_byte_ms: u128::from(span_ms) << 20,
        bandwidth_bits: u128::from(span_ms) * 10_000,
        rx_bytes: 20,
        tx_bytes: 30,
    };
    let record = UsageRecord {
        allocation: planned.allocation,
        sequence: 1,
        instance: 0,
        until_ms: now,
        total,
        previous: Digest::default(),
    };
    let leaves = [borsh::to_vec(&record).expect("encodes")];
    let usage = Call::Lease(lease::Call::ReportUsage {
        interval: 1,
        root: merkle_root(&leaves),
        lines: vec![UsageLine {
            allocation: planned.allocation,
            sequence: 1,
            until_ms: now,
            total,
            record: record.digest(),
            last: false,
        }],
    });
    let settled = client
        .submit_and_wait(&key(50), usage)
        .await
        .expect("settled");
    let receipt = settled.events.iter().find_map(|e| match e {
        ledger::Event::Lease(lease::Event::Settled(receipt)) => Some(receipt.id),
        _ => None,
    });
    let receipt = receipt.expect("a receipt");
    let usage = api::UsageProof {
        root: merkle_root(&leaves),
        record,
        index: 0,
        count: 1,
        path: merkle_path(&leaves, 0).expect("a path"),
    };
    let proof = client.receipt_proof(receipt).await.expect("a proof");
    let network_key = hex::decode(&client.network().await.expect("a file").network_key);
    let network_key = network_key.expect("hex");
    let (steps, opened) = sdk::verify_receipt(&network_key, receipt, &proof, Some(&usage));
    assert!(steps.iter().all(|s| s.good), "{steps:#?}");
    assert_eq!(opened, client.receipt(receipt).await.ok());
    let mut forged = proof;
    forged.count += 1;
    let (steps, opened) = sdk::verify_receipt(&network_key, receipt, &forged, None);
    assert!(opened.is_none() && steps.iter().any(|s| !s.good));
    receipt
}

async fn check_money(client: &Client) -> (Amount, Amount) {
    let bill = client.bill(id(1), None).await.expect("a bill");
    assert_eq!(bill.lines.len(), Resource::ALL.len());
    assert_eq!(
        bill.total.0,
        bill.lines.iter().map(|l| l.amount.0).sum::<u128>()
    );
    let transfer = bill.lines.iter().find(|l| l.resource == Resource::Transfer);
    assert_eq!(transfer.expect("five lines").usage, "50");
    let payer = client.account(id(1)).await.expect("an account").balance;
    let payee = client.account(id(2)).await.expect("an account").balance;
    assert!(bill.total.0 > 0);
    assert_eq!(payer.0 + bill.total.0, Params::dev().faucet.0);
    assert_eq!(payee, bill.total);
    let supply = client.supply().await.expect("a supply");
    assert_eq!(supply.sum, supply.expected);
    (payer, bill.total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_placed_billed_and_proven_and_survives_a_restart() {
    let network = Network::new(1);
    let running = network.start(0).await;
    let client = running.client();
    let receipt = run_something(&client).await;
    let money = check_money(&client).await;
    let (events, _) = client
        .events_page(EventFilter::ALL, 0)
        .await
        .expect("events");
    let numbers: Vec<u64> = events.iter().map(|e| e.sequence).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let routes = client.routes(None, 0).await.expect("routes");
    assert_eq!(routes.routes[0].domain, "web.shop");
    assert!(routes.routes[0].replicas[0].ready);
    running.stop().await;

    // The same, with the index as it was, and once more without it.
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(network.folder.path().join("0/index.redb")).expect("removed");
        }
        let running = network.start(0).await;
        let client = running.client();
        eventually("the receipt is found again", async || {
            client.receipt(receipt).await.is_ok()
        })
        .await;
        assert_eq!(check_money(&client).await, money);
        let (again, _) = client
            .events_page(EventFilter::ALL, 0)
            .await
            .expect("events");
        assert_eq!(again[..events.len()], events);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_port_for_others_says_so_and_changes_nothing() {
    let network = Network::new(1);
    let config = network.config(0, "127.0.0.1:0".parse().expect("an address"), None);
    let data = config.data.clone();
    let held = TcpListener::bind(config.p2p).await.expect("a port");
    let ended = validator::run(config, Box::pin(std::future::pending())).await;
    let why = format!("{:#}", ended.expect_err("refused"));
    assert!(why.contains("choose another with --p2p"), "{why}");
    assert!(!data.exists(), "nothing is written");
    drop(held);
    network.start(0).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_answer_alike_and_followers_miss_nothing() {
    let network = Network::new(4);
    let running = network.start_all().await;
    let clients: Vec<Client> = running.iter().map(Running::client).collect();
    let follower = clients[3].clone();
    let followed = tokio::spawn(async move {
        let events = follower.events(EventFilter::of(id(1)), Some(0)).take(6);
        events
            .map(|e| e.expect("an event"))
            .collect::<Vec<_>>()
            .await
    });
    give(&clients[0]).await;
    for n in 0..5 {
        let view = clients[n % 4]
            .submit_and_wait(&key(1), transfer(id(3), 2))
            .await;
        let view = view.expect("applied");
        let height = view.height.expect("included");
        for client in &clients {
            eventually("a validator fell behind", async || {
                client.status().await.expect("a head").height >= height
            })
            .await;
        }
    }
    let followed = tokio::time::timeout(PATIENCE, followed).await;
    let followed = followed.expect("six events in time").expect("no panic");
    assert!(followed.is_sorted_by(|a, b| a.sequence < b.sequence));
    for client in &clients {
        assert_eq!(
            client.account(id(3)).await.expect("one").balance,
            Amount::credits(10)
        );
    }
    let height = followed[0].height;
    let first = clients[0].block(height).await.expect("a block").block;
    for client in &clients[1..] {
        assert_eq!(client.block(height).await.expect("a block").block, first);
    }
    for validator in running {
        validator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_wakes_for_what_concerns_him_only() {
    let (_network, running, client) = endowed().await;
    client
        .submit_and_wait(&key(50), register("alpha", id(2)))
        .await
        .expect("a host");
    let plan = client.host_plan(id(50), 0, 0).await.expect("a plan");
    let routes = client.routes(None, 0).await.expect("routes");

    // A transfer is nobody's plan and nobody's route.
    let payer = key(1);
    let (sleeping_plan, sleeping_routes) = (client.clone(), client.clone());
    let started = Instant::now();
    let held = tokio::join!(
        client.submit_and_wait(&payer, transfer(id(3), 1)),
        sleeping_plan.host_plan(id(50), plan.plan, 1_500),
        sleeping_routes.routes(Some((routes.table, routes.height)), 1_500),
    );
    assert!(started.elapsed() >= Duration::from_millis(1_500));
    assert_eq!(held.1.expect("a plan").plan, plan.plan);
    let routes = held.2.expect("routes");
    assert!(routes.routes.is_empty());

    let deploy = Call::Deployment(deployment::Call::Deploy {
        spec: spec(),
        price_max_hour: None,
    });
    let started = Instant::now();
    let woken = tokio::join!(
        client.submit_and_wait(&payer, deploy),
        sleeping_plan.host_plan(id(50), plan.plan, 25_000),
        sleeping_routes.routes(Some((routes.table, routes.height)), 25_000),
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    woken.0.expect("deployed");
    assert_eq!(woken.1.expect("a plan").allocations.len(), 1);
    let told = woken.2.expect("routes");
    assert_eq!((told.since, told.routes.len()), (Some(routes.height), 1));
    // Who knows another table, or none by name, is told all.
    let other = Some((Some(types::Digest::of(b"other")), told.height));
    for known in [None, Some((None, 0)), other] {
        let all = client.routes(known, 25_000).await.expect("routes");
        assert_eq!(
            (all.since, all.table, all.routes.len()),
            (None, told.table, 1)
        );
    }
    running.stop().await;
}

/// Ids of the first `count` events of a stream.
async fn ids(url: &str, last: Option<&str>, count: usize) -> Vec<String> {
    let http = reqwest::Client::builder().no_proxy().build();
    let mut request = http.expect("a client").get(url);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.expect("a stream");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.bytes_stream();
    let mut text = String::new();
    let read = async {
        while text.matches("\n\n").count() < count {
            let more = body.next().await.expect("goes on").expect("bytes");
            text.push_str(std::str::from_utf8(&more).expect("text"));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("in time");
    let ids = text.lines().filter_map(|l| l.strip_prefix("id: "));
    ids.take(count).map(String::from).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_resumes_where_it_was_cut() {
    let (_network, running, client) = endowed().await;
    for to in [3, 4, 3] {
        client
            .submit_and_wait(&key(1), transfer(id(to), 1))
            .await
            .expect("applied");
    }
    let url = format!("{}/v1/events", running.url());
    assert_eq!(
        ids(&format!("{url}?from=0"), None, 4).await,
        ["0", "1", "2", "3"]
    );
    assert_eq!(
        ids(&format!("{url}?from=0"), Some("1"), 2).await,
        ["2", "3"]
    );
    let mine = format!("{url}?from=0&owner={}", id(3));
    assert_eq!(ids(&mine, None, 2).await, ["1", "3"]);
    // Without a number: from now on. A number that cannot follow any does no harm.
    let next = tokio::spawn(async move { ids(&url, None, 1).await });
    let most = format!("{}/v1/events?owner={}", running.url(), id(9));
    let waits = ids(&most, Some("18446744073709551615"), 1);
    let quiet = tokio::time::timeout(Duration::from_millis(300), waits).await;
    assert!(quiet.is_err());
    let metrics = format!("{}/metrics", running.url());
    let from = Instant::now();
    let http = reqwest::Client::builder().no_proxy().build();
    let http = http.expect("a client");
    // Once the follower is there, one thing happens.
    loop {
        let text = http.get(&metrics).send().await.expect("an answer").text();
        if text
            .await
            .expect("text")
            .contains("\nrunrig_waiting_requests 1\n")
        {
            break;
        }
        assert!(from.elapsed() < PATIENCE, "the follower does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client
        .submit_and_wait(&key(1), transfer(id(4), 1))
        .await
        .expect("applied");
    assert_eq!(next.await.expect("no panic"), ["4"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_in_the_apis_words() {
    let network = Network::new(1);
    let running = network.start(0).await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let big = format!("{{\"transaction\":\"{}\"}}", "A".repeat(600 * 1024));
    let quiet = "{\"transaction\":\"AAAA\"}".to_string();
    let sent = |bytes: Vec<u8>| format!("{{\"transaction\":\"{}\"}}", BASE64.encode(bytes));
    let body = ledger::TransactionBody {
        network: running.client().status().await.expect("a head").network,
        key: key(1).public().into(),
        on_behalf: Vec::new(),
        nonce: 1,
        expires: 100,
        tip: types::Amount::ZERO,
        call: transfer(id(2), 1),
    };
    // Of another key than the one it names; and in order, but for an old height.
    let forged = ledger::Transaction::sign(body.clone(), &key(2));
    let forged = sent(borsh::to_vec(&forged).expect("encodes"));
    let late = ledger::TransactionBody { expires: 0, ..body };
    let late = ledger::Transaction::sign(late, &key(1));
    let late = sent(borsh::to_vec(&late).expect("encodes"));
    for (method, path, body, code, kind) in [
        ("GET", "/v1/nothing", None, 404, "not_found"),
        ("DELETE", "/v1/status", None, 405, "invalid"),
        ("GET", "/v1/blocks/many", None, 400, "invalid"),
        ("GET", "/v1/blocks/99999999", None, 404, "not_found"),
        ("GET", "/v1/accounts/me", None, 400, "invalid"),
        ("GET", "/v1/hosts/nobody", None, 404, "not_found"),
        ("GET", "/v1/hosts/nobody/plan?after=x", None, 400, "invalid"),
        ("GET", "/v1/deployments/d-7", None, 404, "not_found"),
        ("GET", "/v1/allocations", None, 400, "invalid"),
        ("GET", "/v1/allocations/a-1/why", None, 404, "not_found"),
        ("GET", "/v1/bill", None, 400, "invalid"),
        ("GET", "/v1/bill?deployment=d-9", None, 404, "not_found"),
        ("GET", "/v1/receipts/r-0", None, 404, "not_found"),
        (
            "GET",
            "/v1/receipts/r-18446744073709551615/proof",
            None,
            404,
            "not_found",
        ),
        ("GET", "/v1/events?from=-1", None, 400, "invalid"),
        (
            "POST",
            "/v1/transactions",
            Some("{".to_string()),
            400,
            "invalid",
        ),
        ("POST", "/v1/transactions", Some(big), 413, "invalid"),
        ("POST", "/v1/transactions", Some(quiet), 400, "invalid"),
        ("POST", "/v1/transactions", Some(forged), 400, "signature"),
        ("POST", "/v1/transactions", Some(late), 409, "stale"),
        ("POST", "/v1/quote", Some("{}".to_string()), 422, "invalid"),
    ] {
        let method = method.parse::<reqwest::Method>().expect("a method");
        let url = format!("{}{path}", running.url());
        let mut request = http.request(method, url);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), code, "{path}");
        let problem: api::Problem = response.json().await.expect(path);
        assert_eq!(problem.kind, kind, "{path}: {problem:?}");
        assert!(
            !problem.why.is_empty() && !problem.next.is_empty(),
            "{path}"
        );
    }
    let metrics = http.get(format!("{}/metrics", running.url()));
    let text = metrics
        .send()
        .await
        .expect("metrics")
        .text()
        .await
        .expect("text");
    assert!(text.contains("\nrunrig_height "), "{text}");
    running.stop().await;
}

/// Who heard no answer sends again, at whatever time, and pays once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_is_what_was_applied() {
    let (_network, running, client) = endowed().await;
    let payment = client.prepare(key(1).public().into(), &[], transfer(id(3), 2), 50);
    let payment = ledger::Transaction::sign(payment.await.expect("a head"), &key(1));
    for _ in 0..3 {
        let view = client.submit_signed(&payment).await.expect("applied");
        assert_eq!(view.id, payment.id());
        let paid = client.account(id(3)).await.expect("one").balance;
        assert_eq!(paid, Amount::credits(2));
    }
    let other = client.prepare(key(1).public().into(), &[], transfer(id(3), 3), 50);
    let mut other = other.await.expect("a head");
    other.nonce = payment.body.nonce;
    let other = ledger::Transaction::sign(other, &key(1));
    let error = client.submit_signed(&other).await.expect_err("used");
    assert_eq!(error.kind(), "stale");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_batch_is_taken_or_refused_by_itself() {
    let (network, running, client) = endowed().await;
    let at = client.account(id(1)).await.expect("an account");
    let sign = |ahead: u64, by: u8| {
        let body = ledger::TransactionBody {
            network: network.file.genesis.digest(),
            key: key(1).public().into(),
            on_behalf: Vec::new(),
            nonce: at.nonce + ahead,
            expires: at.height + 100,
            tip: types::Amount::ZERO,
            call: transfer(id(3), 1),
        };
        borsh::to_vec(&ledger::Transaction::sign(body, &key(by))).expect("encodes")
    };
    let batch = vec![
        sign(1, 1),
        sign(2, 9),
        b"junk".to_vec(),
        sign(2, 1),
        sign(1, 1),
    ];
    let answers = client.submit_many(&batch).await.expect("answers");
    let kinds: Vec<Option<&str>> = answers
        .iter()
        .map(|a| a.problem.as_ref().map(|p| p.kind.as_str()))
        .collect();
    let expected = [None, Some("signature"), Some("invalid"), None, None];
    assert_eq!(kinds, expected);
    assert_eq!(answers[0].id, answers[4].id);
    let from = Instant::now();
    while client.account(id(3)).await.expect("an account").balance != Amount::credits(2) {
        assert!(from.elapsed() < PATIENCE, "the good ones are not applied");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let many = vec![Vec::new(); api::SubmitMany::MAX + 1];
    let refused = client.submit_many(&many).await.expect_err("too many");
    assert_eq!(refused.kind(), "invalid");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drawing_is_checked_from_certified_headers_alone() {
    let network = Network::with(
        2,
        Params {
            epoch_blocks: 16,
            ..Params::dev()
        },
    );
    let running = [network.start(0).await, network.start(1).await];
    let client = running[0].client();
    let from = Instant::now();
    let mut turn = 0;
    // Past the middle of the second epoch: its candidates froze in a block of its own.
    let view = loop {
        assert!(from.elapsed() < PATIENCE, "the lot does not fall");
        turn += 1;
        let gift = Call::Account(account::Call::Transfer {
            to: id(turn),
            amount: Amount(1),
            memo: String::new(),
        });
        client
            .submit_and_wait(&key(200), gift)
            .await
            .expect("applied");
        match client.lots(4).await {
            Ok(view) if view.fallen.is_some() => break view,
            _ => {}
        }
    };
    let genesis = &network.file.genesis;
    let trusted = hex::decode(&network.file.network_key).expect("hex");
    let steps = sdk::verify_lots(&trusted, genesis, &view);
    assert!(steps.iter().all(|s| s.good), "{steps:?}");
    assert!(
        steps.iter().any(|s| s.what.contains("the beacon ")),
        "{steps:?}"
    );
    let first = client.lots(3).await.expect("drawn from the genesis");
    let steps = sdk::verify_lots(&trusted, genesis, &first);
    assert!(steps.iter().all(|s| s.good), "{steps:?}");

    let doubt = |change: &dyn Fn(&mut api::LotsView)| {
        let mut other = view.clone();
        change(&mut other);
        let steps = sdk::verify_lots(&trusted, genesis, &other);
        let last = steps.last().expect("a step").clone();
        assert!(!last.good, "{last:?}");
        last.what
    };
    let changed = doubt(&|v| v.candidates[0].ticket = Digest::of(b"better"));
    assert!(changed.contains("ticket"), "{changed}");
    let changed = doubt(&|v| v.candidates[0].key = key(9).public());
    assert!(changed.contains("key"), "{changed}");
    doubt(&|v| v.beacon = Some(Digest::of(b"luck")));
    doubt(&|v| v.told.clone_from(&first.told));
    doubt(&|v| v.fallen.clone_from(&first.fallen));
    doubt(&|v| v.frozen = None);
    doubt(&|v| {
        let lineup = v.lineup.as_mut().expect("fallen");
        lineup.committee.truncate(1);
    });
    for one in running {
        one.stop().await;
    }
}

/// Beats of host 50 to all of `validators`, until dropped.
struct Speaking {
    _until: std::sync::mpsc::Sender<()>,
}

impl Speaking {
    fn start(network: Digest, validators: Vec<SocketAddr>) -> Self {
        const PERIOD: Duration = Duration::from_millis(200);
        let (speaking, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let beats = api::Beats::new(&key(50), &network, [1; 32], api::now_ms(), 200);
            for number in 1..=api::BEATS {
                for validator in &validators {
                    let sent = socket.send_to(&beats.datagram(number), validator);
                    sent.expect("loopback takes it");
                }
                let pause = ended.recv_timeout(PERIOD);
                if pause == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        });
        Self { _until: speaking }
    }
}

async fn await_online(client: &Client, online: bool) {
    eventually("the host comes or goes", async || {
        client.host("alpha").await.expect("there").online == online
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_lose_a_host_that_they_do_not_hear_and_have_it_back() {
    let network = Network::watched(4);
    let running = network.start_all().await;
    let client = running[0].client();
    client
        .submit_and_wait(&key(50), register("alpha", id(2)))
        .await
        .expect("a host");
    let addresses: Vec<SocketAddr> = running.iter().map(|r| r.api).collect();
    let id = network.file.genesis.digest();
    let timeout = Params::dev().host_timeout_ms;

    // It says nothing on the ledger, for twice as long as it may be silent.
    let speaking = Speaking::start(id, addresses.clone());
    let since = client.status().await.expect("a head").time_ms;
    eventually("time goes by", async || {
        client.status().await.expect("a head").time_ms >= since + 2 * timeout
    })
    .await;
    assert!(client.host("alpha").await.expect("there").online);

    drop(speaking);
    await_online(&client, false).await;
    let speaking = Speaking::start(id, addresses);
    await_online(&client, true).await;
    drop(speaking);
    for one in running {
        one.stop().await;
    }
}
