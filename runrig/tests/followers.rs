//! There are more candidates than seats: who has none follows the chain over HTTP, answers as the others
//! do and takes payments; who is drawn votes; who loses its seat follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fixtures::{Founded, Program, Running, free_addresses};
use ledger::{Call, account};
use sdk::Client;
use serde_json::Value;
use types::{AccountId, Amount, SecretKey};

const PATIENCE: Duration = Duration::from_secs(240);

fn id(n: u8) -> AccountId {
    AccountId::of(&SecretKey::from_seed([n; 32]).public())
}

fn transfer(to: AccountId, amount: u128) -> Call {
    let (amount, memo) = (Amount(amount), String::new());
    Call::Account(account::Call::Transfer { to, amount, memo })
}

fn key_file(path: &str) -> SecretKey {
    let text = std::fs::read_to_string(path).expect("a key");
    SecretKey::from_hex(text.trim()).expect("a key")
}

/// So many sit, and transactions pay a fee, which no option of `network init` says.
fn seats(file: &str, many: u32) {
    let text = std::fs::read_to_string(file).expect("a network file");
    let mut network: Value = serde_json::from_str(&text).expect("JSON");
    network["genesis"]["params"]["seats_max"] = many.into();
    network["genesis"]["params"]["fee"] = serde_json::json!(Amount(10_000));
    std::fs::write(file, network.to_string()).expect("writes");
}

/// Goes on once `$good` holds, which may be awaited.
macro_rules! until {
    ($what:literal, $logs:ident, $good:expr) => {
        let from = Instant::now();
        while !$good {
            assert!(
                from.elapsed() < PATIENCE,
                "{}: not in time\n{}",
                $what,
                $logs()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
}

/// Payments one after the other while it is `on`, so that blocks come fast: an idle network's epochs are
/// long.
async fn feed(client: Client, on: Arc<AtomicBool>) {
    let payer = SecretKey::from_seed([7; 32]);
    loop {
        if on.load(Ordering::Relaxed) {
            // One that was asked may just begin anew.
            let _ = client.submit_and_wait(&payer, transfer(id(8), 1)).await;
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether the validator at `url` follows, and its losing ticket was drawn to screen in this epoch.
async fn screens(url: &str, seated: &Client) -> bool {
    let client = Client::new([url.to_string()]).expect("a client");
    let own = client.status().await.ok().and_then(|status| status.own);
    let Some(own) = own.filter(|own| own.follows) else {
        return false;
    };
    let members = seated.members().await;
    members.is_ok_and(|view| view.members.iter().any(|m| m.key == own.key && m.screener))
}

async fn follows(url: &str) -> bool {
    let client = Client::new([url.to_string()]).expect("a client");
    let status = client.status().await;
    status.is_ok_and(|status| status.own.is_some_and(|own| own.follows))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_seat_follows_and_serves_and_who_is_drawn_votes() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::new(env!("CARGO_BIN_EXE_runrig"), folder.path());
    let more = ["--epoch-blocks", "24", "--bond", "300"];
    let mut net = Founded::init(&program, "net", 3, &more);
    let file = net.file(&program);
    // Of three and more candidates for two seats some have none for several epochs.
    seats(&file, 2);
    net.validators = (1..=3).map(|n| net.run(&program, n)).collect();
    let logs = || {
        let read = |name: &str| {
            let text = std::fs::read_to_string(program.file(name)).unwrap_or_default();
            let end: Vec<&str> = text.lines().rev().take(15).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            format!("--- {name}\n{}\n", end.join("\n"))
        };
        ["net-1.log", "net-2.log", "net-3.log", "fourth.log"]
            .map(read)
            .concat()
    };
    let seated = Client::new(net.urls.iter().cloned()).expect("a client");
    // Each counts his own transactions: two who pay by one key are in each other's way.
    let payers = [7, 6].map(|n| SecretKey::from_seed([n; 32]));
    for (payer, to) in payers.iter().zip([id(7), id(6)]) {
        let gift = Call::Account(account::Call::Faucet { to });
        until!("a gift", logs, {
            seated.submit_and_wait(payer, gift.clone()).await.is_ok()
        });
    }
    let [_, payer] = payers;
    let on = Arc::new(AtomicBool::new(true));
    let fed = tokio::spawn(feed(seated.clone(), on.clone()));
    until!("an epoch is over", logs, {
        seated.status().await.is_ok_and(|head| head.height > 24)
    });
    // It is not drawn at once.
    on.store(false, Ordering::Relaxed);

    let (data, at) = (program.file("fourth"), free_addresses(2));
    let owner = program.file("net/keys/founder");
    let join = [
        "--key",
        &owner,
        "validator",
        "join",
        "--network",
        &file,
        "--data",
        &data,
        "--p2p",
        &at[0],
        "--http",
        &at[1],
    ];
    let _fourth: Running = program.start("fourth", &join);
    let url = format!("http://{}", at[1]);
    until!("the fourth follows", logs, follows(&url).await);
    let own = Client::new([url.clone()]).expect("a client");
    until!("it keeps up", logs, {
        let (own, head) = (own.status().await, seated.status().await);
        own.is_ok_and(|own| head.is_ok_and(|head| own.height + 3 >= head.height))
    });
    let status = program.good(&["validator", "status", "--data", &data]);
    assert!(status.contains("follows"), "{status}");

    // It answers as those do who sit, and what is submitted to it comes into a block.
    let founder = key_file(&owner);
    let paid = own.submit_and_wait(&founder, transfer(id(9), 5_000)).await;
    assert!(paid.is_ok(), "{paid:?}\n{}", logs());
    let balance = own.account(id(9)).await.expect("answers");
    assert_eq!(balance.balance, Amount(5_000));
    until!("all say so", logs, {
        let said = seated.account(id(9)).await;
        said.is_ok_and(|said| said.balance == Amount(5_000))
    });
    let height = own.status().await.expect("answers").height - 2;
    let (here, there) = (own.block(height).await, seated.block(height).await);
    let (here, there) = (here.expect("kept"), there.expect("kept"));
    assert_eq!(
        (here.block, here.state_root),
        (there.block, there.state_root)
    );

    // It is drawn, and makes blocks.
    on.store(true, Ordering::Relaxed);
    let key = own
        .status()
        .await
        .expect("answers")
        .own
        .expect("it is one")
        .key;
    until!("the fourth sits and leads", logs, {
        let view = seated.members().await;
        let member = view
            .ok()
            .and_then(|v| v.members.into_iter().find(|m| m.key == key));
        member.is_some_and(|m| m.place.is_some() && m.led > 0)
    });
    assert!(!follows(&url).await);

    // Of four candidates for two seats two are out. Who is for long enough follows, founder or not, and as
    // its ticket lost, it is a screener: what it brings counts for it.
    let all: Vec<String> = net.urls.iter().cloned().chain([url]).collect();
    until!("one lost its seat, follows and screens", logs, {
        let mut brought = false;
        for url in &all {
            if screens(url, &seated).await {
                on.store(false, Ordering::Relaxed);
                let screener = Client::new([url.clone()]).expect("a client");
                let _ = screener.submit_and_wait(&payer, transfer(id(9), 1)).await;
                brought = true;
            }
        }
        let view = seated.members().await;
        on.store(true, Ordering::Relaxed);
        brought && view.is_ok_and(|v| v.members.iter().any(|m| m.screened > 0))
    });
    let status = program.good(&["validator", "status", "--network", &file]);
    assert!(
        status.contains("SCREENED") && status.contains(" blocks"),
        "{status}"
    );
    let duties = program.good(&["--url", &net.urls[0], "chain", "duties"]);
    assert!(duties.contains("SCREENED"), "{duties}");
    let shown = program.good(&["--url", &net.urls[0], "lots", "show"]);
    assert!(shown.contains("screeners"), "{shown}");
    fed.abort();
}
