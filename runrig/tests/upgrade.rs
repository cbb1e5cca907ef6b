//! Validators are replaced by a newer program one after the other, while payments go on; and one
//! whose program is too old for the rules voted for says so and ends before they count.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fixtures::{Founded, Program};
use ledger::{Call, account};
use light::Header;
use sdk::Client;
use tokio::task::JoinHandle;
use types::{AccountId, Amount, SecretKey};

const PATIENCE: Duration = Duration::from_secs(240);
const PAYERS: u8 = 3;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn founder(folder: &Path) -> SecretKey {
    let text = std::fs::read_to_string(folder.join("net/keys/founder")).expect("a key");
    SecretKey::from_hex(text.trim()).expect("a key")
}

fn pay(to: AccountId, amount: Amount) -> Call {
    let memo = String::new();
    Call::Account(account::Call::Transfer { to, amount, memo })
}

/// Pays one unit after the other, each once the one before is applied, until told to end. How
/// often, and the blocks they are in.
fn load(urls: &[String], payer: SecretKey, on: Arc<AtomicBool>) -> JoinHandle<Vec<u64>> {
    let client = Client::new(urls.iter().cloned()).expect("a client");
    tokio::spawn(async move {
        let to = AccountId::of(&key(9).public());
        let mut heights = Vec::new();
        while on.load(Ordering::Relaxed) {
            let paid = client.submit_and_wait(&payer, pay(to, Amount(1))).await;
            let paid = paid.expect("no payment fails at its client");
            heights.push(paid.height.expect("included"));
        }
        heights
    })
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let from = Instant::now();
    while !is_so().await {
        assert!(from.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Headers of all blocks up to `height`, from 1.
async fn headers(client: &Client, height: u64) -> Vec<Header> {
    let mut all = Vec::new();
    for at in 1..=height {
        let block = client.block(at).await.expect("a block");
        let bytes = BASE64.decode(&block.header).expect("base64");
        all.push(Header::from_bytes(&bytes).expect("a header"));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_are_replaced_in_turn_and_no_payment_notices() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::new(env!("CARGO_BIN_EXE_runrig"), folder.path());
    let mut net = Founded::start(&program, "net", 4, &["--epoch-blocks", "16"]);
    let clients: Vec<Client> = net
        .urls
        .iter()
        .map(|url| Client::new([url.clone()]).expect("a client"))
        .collect();
    until("the network begins", async || {
        clients[0].status().await.is_ok_and(|s| s.height > 0)
    })
    .await;
    let any = Client::new(net.urls.iter().cloned()).expect("a client");
    let founder = founder(folder.path());
    for n in 1..=PAYERS {
        let to = AccountId::of(&key(n).public());
        let paid = any.submit_and_wait(&founder, pay(to, Amount::credits(1)));
        paid.await.expect("paid");
    }
    let on = Arc::new(AtomicBool::new(true));
    let payers: Vec<_> = (1..=PAYERS)
        .map(|n| {
            // Each asks another one first.
            let mut urls = net.urls.clone();
            urls.rotate_left(usize::from(n));
            load(&urls, key(n), on.clone())
        })
        .collect();

    for number in 1..=4 {
        let began = Instant::now();
        assert_eq!(net.validators[number - 1].end(), 0);
        let ended = began.elapsed();
        let said = net.log(&program, number);
        assert!(said.contains("asked to end"), "{said}");
        net.validators[number - 1] = net.run(&program, number);
        let data = net.data(&program, number);
        let wait = ["validator", "status", "--data", &data, "--wait", "4m"];
        let (code, out, err) = program.run(&wait);
        assert_eq!(code, 0, "{out}{err}\n{}", net.log(&program, number));
        assert!(out.contains("takes part"), "{out}{err}");
        println!(
            "validator {number}: ended in {ended:.1?}, back in its seat after {:.1?}",
            began.elapsed()
        );
    }

    on.store(false, Ordering::Relaxed);
    let mut paid = Vec::new();
    for payer in payers {
        paid.push(payer.await.expect("no payment fails at its client"));
    }
    let last = paid.iter().flatten().copied().max().expect("some paid");
    for client in &clients {
        until("all follow", async || {
            client.status().await.is_ok_and(|s| s.height >= last)
        })
        .await;
    }
    // Each was executed once, on all of them.
    let count: usize = paid.iter().map(Vec::len).sum();
    for client in &clients {
        let got = client.account(AccountId::of(&key(9).public())).await;
        assert_eq!(got.expect("one").balance, Amount(count as u128));
        for (n, heights) in (1..).zip(&paid) {
            let payer = client.account(AccountId::of(&key(n).public())).await;
            assert_eq!(payer.expect("one").nonce, heights.len() as u64);
        }
        let supply = client.supply().await.expect("a supply");
        assert_eq!(supply.sum, supply.expected);
    }
    // One chain, without a gap, and the same one everywhere.
    let all = headers(&clients[0], last).await;
    for client in &clients[1..] {
        let head = client.block(last).await.expect("a block");
        assert_eq!(head.block, all[all.len() - 1].digest());
    }
    assert!(all.windows(2).all(|two| two[1].parent == two[0].digest()));
    let gap = all.windows(2).map(|two| two[1].time_ms - two[0].time_ms);
    let missed = all.windows(2).filter(|two| two[0].epoch == two[1].epoch);
    let missed: u64 = missed.map(|two| two[1].view - two[0].view - 1).sum();
    let mut led: BTreeMap<[u8; 32], u64> = BTreeMap::new();
    for header in &all {
        *led.entry(header.proposer).or_default() += 1;
    }
    assert_eq!(led.len(), 4);
    println!(
        "{count} payments in {last} blocks; the longest time between two blocks was {} ms; {missed} turns missed",
        gap.max().unwrap_or(0)
    );
}

/// The file says that votes count after so few blocks: `network init` has no option for it.
fn hurry(file: &str) {
    let text = std::fs::read_to_string(file).expect("a network file");
    let mut network: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    network["genesis"]["params"]["vote_delay_blocks"] = 16.into();
    std::fs::write(file, network.to_string()).expect("writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_too_old_for_the_rules_says_so_and_ends_before_they_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::new(env!("CARGO_BIN_EXE_runrig"), folder.path());
    let mut net = Founded::init(&program, "net", 1, &["--epoch-blocks", "16"]);
    hurry(&net.file(&program));
    net.validators.push(net.run(&program, 1));
    let client = Client::new(net.urls.iter().cloned()).expect("a client");
    until("the network begins", async || {
        client.status().await.is_ok_and(|s| s.height > 0)
    })
    .await;
    // One payment after the other while there are any blocks, so that they come fast.
    let on = Arc::new(AtomicBool::new(true));
    let (feeder, payer, go) = (client.clone(), founder(folder.path()), on.clone());
    let fed = tokio::spawn(async move {
        let to = AccountId::of(&key(9).public());
        while go.load(Ordering::Relaxed) {
            let _ = feeder.submit_and_wait(&payer, pay(to, Amount(1))).await;
        }
    });
    until("it has a seat history", async || {
        client.status().await.is_ok_and(|s| s.height > 16)
    })
    .await;
    let (at, seat) = (&net.urls[0], format!("{}/seat", net.data(&program, 1)));
    let newer = ["--url", at, "vote", "propose", "version=2", "--seat", &seat];
    program.good(&newer);
    let proposals = client.proposals().await.expect("listed");
    let ledger::vote::Phase::Accepted { from } = proposals[0].proposal.phase else {
        panic!("{proposals:?}");
    };

    assert_eq!(net.validators[0].wait(), 1);
    on.store(false, Ordering::Relaxed);
    fed.abort();
    let said = net.log(&program, 1);
    let warned = format!("from height {from} on this network goes by version 2 of its rules");
    for words in [
        &*warned,
        "install a newer runrig before",
        "this validator stops",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // The same again, and nothing was lost.
    let mut again = net.run(&program, 1);
    assert_eq!(again.wait(), 1);
    let said = net.log(&program, 1);
    assert!(said.contains("install a newer runrig"), "{said}");
    assert!(!said.contains("damaged"), "{said}");
}
