//! A fifth validator joins a network of four founders and gets a seat; a founder leaves and gets
//! its bond; the network goes on under the same key, and cannot without the fifth.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::{MemberView, MembersView};
use fixtures::{Program, Running, free_addresses};
use ledger::{Call, account};
use sdk::Client;
use types::{AccountId, Amount, PublicKey, SecretKey};

const BOND: u64 = 300;
const EPOCH_BLOCKS: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(240);

struct Stage {
    folder: PathBuf,
    client: Client,
}

impl Stage {
    fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(&self.folder).expect("reads").flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let end: Vec<&str> = text.lines().rev().take(12).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                all += &format!("--- {}\n{}\n", entry.path().display(), end.join("\n"));
            }
        }
        all
    }

    async fn until(&self, what: &str, good: impl Fn(&MembersView) -> bool) -> MembersView {
        let from = Instant::now();
        let mut last = None;
        loop {
            if let Ok(view) = self.client.members().await {
                if good(&view) {
                    return view;
                }
                last = Some(view);
            }
            assert!(
                from.elapsed() < PATIENCE,
                "{what}: not in time\n{last:#?}\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn member<'a>(view: &'a MembersView, key: &PublicKey) -> Option<&'a MemberView> {
    view.members.iter().find(|m| m.key == *key)
}

fn sits(view: &MembersView, key: &PublicKey) -> bool {
    member(view, key).is_some_and(|m| m.place.is_some())
}

/// Transfers one after the other, so that blocks come quickly, until told to stop.
async fn feed(client: Client, payer: SecretKey, on: Arc<AtomicBool>) {
    let to = AccountId::of(&SecretKey::from_seed([7; 32]).public());
    while on.load(Ordering::Relaxed) {
        let amount = Amount(1);
        let memo = String::new();
        let call = Call::Account(account::Call::Transfer { to, amount, memo });
        // A validator that was asked may just have been killed.
        let _ = client.submit_and_wait(&payer, call).await;
    }
}

fn key_file(path: &Path) -> SecretKey {
    let text = std::fs::read_to_string(path).expect("a key");
    SecretKey::from_hex(text.trim()).expect("a key")
}

fn hex_bytes(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hex")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_joins_a_founder_leaves_and_the_key_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::new(env!("CARGO_BIN_EXE_runrig"), folder.path());
    let path = |name: &str| program.file(name);
    let all = free_addresses(10);
    let (p2p, api) = (&all[..5], &all[5..]);
    let (blocks, bond) = (EPOCH_BLOCKS.to_string(), BOND.to_string());
    let net = path("net");
    let mut init = vec!["network", "init", "--out", &net, "--epoch-blocks", &blocks];
    init.extend(["--bond", &bond, "--bond-epochs", "1"]);
    for at in 0..4 {
        init.extend(["--p2p-base", &p2p[at], "--api-base", &api[at]]);
    }
    program.good(&init);
    let file = path("net/network.json");
    let mut founders: Vec<Running> = (1..=4)
        .map(|n| {
            let data = path(&format!("net/validator-{n}"));
            let args = ["validator", "run", "--data", &data, "--network", &file];
            program.start(&format!("founder-{n}"), &args)
        })
        .collect();
    let urls: Vec<String> = api[1..4].iter().map(|a| format!("http://{a}")).collect();
    let stage = Stage {
        folder: folder.path().into(),
        client: Client::new(urls.clone()).expect("a client"),
    };
    let view = stage
        .until("the founders sit", |v| v.height > 1 && v.ticket.is_some())
        .await;
    assert_eq!(view.members.len(), 4);
    assert!(view.members.iter().all(|m| m.bond == Amount::credits(BOND)));
    let network = stage.client.network().await.expect("a file");
    let leaver = hex_bytes(&network.validators[0].key);
    let leaver = PublicKey(leaver.try_into().expect("a key"));

    let on = Arc::new(AtomicBool::new(true));
    let feeder = Client::new(urls[1..].iter().cloned()).expect("a client");
    let payer = key_file(&folder.path().join("net/keys/founder"));
    let fed = tokio::spawn(feed(feeder, payer, on.clone()));

    // Without money it is told what to do, and to whom to send it.
    let (data, url) = (path("fifth"), urls[0].clone());
    let join = [
        "validator",
        "join",
        "--network",
        &url,
        "--data",
        &data,
        "--p2p",
        &p2p[4],
        "--http",
        &api[4],
    ];
    let (code, _, said) = program.run(&join);
    assert_eq!(code, 6, "{said}");
    let owner = key_file(&folder.path().join("fifth/owner.key"));
    let account = AccountId::of(&owner.public());
    assert!(said.contains(&account.to_string()), "{said}");
    let gift = Call::Account(account::Call::Faucet { to: account });
    stage
        .client
        .submit_and_wait(&owner, gift)
        .await
        .expect("a gift");
    let mut fifth = program.start("fifth", &join);
    let view = stage
        .until("the fifth is entered", |v| v.members.len() == 5)
        .await;
    let newcomer = view.members.iter().find(|m| m.owner == account);
    let newcomer = newcomer.expect("its owner's").key;
    assert_eq!(
        stage.client.account(account).await.expect("one").balance.0 + Amount::credits(BOND).0,
        network.genesis.params.faucet.0
    );

    // A founder leaves at once; it sits through what it is drawn for.
    let (one, heir) = (path("net/validator-1"), SecretKey::from_seed([9; 32]));
    let heir = AccountId::of(&heir.public());
    let to = heir.to_string();
    let leave = [
        "validator",
        "leave",
        "--data",
        &one,
        "--network",
        &file,
        "--to",
        &to,
    ];
    program.good(&leave);
    // Another validator than the one that told the command may be a block behind.
    stage
        .until("the founder leaves", |v| {
            member(v, &leaver).is_some_and(|m| m.leaving.is_some())
        })
        .await;
    let led = |v: &MembersView| member(v, &newcomer).is_some_and(|m| m.led > 0);
    let view = stage
        .until("the fifth sits and leads", |v| sits(v, &newcomer) && led(v))
        .await;
    let first_seat = view.epoch;
    let view = stage
        .until("the founder's bond is back", |v| {
            member(v, &leaver).is_none()
        })
        .await;
    assert!(view.epoch > first_seat || !sits(&view, &leaver));
    let back = stage.client.account(heir).await.expect("one").balance;
    assert_eq!(back, Amount::credits(BOND));
    founders[0].kill();

    // Of the four that sit three must vote: with one more dead, the fifth is one of them.
    founders[1].kill();
    let others = Client::new(urls[1..].iter().cloned()).expect("a client");
    let stage = Stage {
        client: others,
        ..stage
    };
    let from = stage.client.status().await.expect("a head").height;
    let goes_on = |v: &MembersView| v.height > from + 2 * EPOCH_BLOCKS;
    stage.until("it goes on with the fifth", goes_on).await;
    let status = program.good(&["validator", "status", "--data", &data]);
    assert!(status.contains("sits"), "{status}");

    // All under the one key, from the founders' first block to a drawing after the change.
    let epoch = stage.client.members().await.expect("members").epoch;
    let trusted = hex_bytes(&network.network_key);
    let mut handed = 0;
    for epoch in ledger::lots::AHEAD..=epoch {
        let view = stage.client.lots(epoch).await.expect("a drawing");
        let steps = sdk::verify_lots(&trusted, &network.genesis, &view);
        assert!(steps.iter().all(|s| s.good), "{steps:#?}");
        let last = &steps.last().expect("a step").what;
        handed += u64::from(last.contains("handed the network's key, unchanged"));
    }
    assert!(handed >= 5, "{handed} times in {epoch} epochs");

    // Nothing of the network's past was replayed: its blocks begin where it joined.
    let own = Client::new([format!("http://{}", api[4])]).expect("a client");
    assert!(own.block(1).await.is_err());
    let supply = own.supply().await.expect("a supply");
    assert_eq!((supply.sum, supply.expected), (supply.expected, supply.sum));

    // Without it, nothing more is final.
    fifth.kill();
    let stopped = stage.client.status().await.expect("a head").height;
    let mut still = 0;
    let mut last = stopped;
    while still < 30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = stage.client.status().await.expect("a head").height;
        still = if now == last { still + 1 } else { 0 };
        last = now;
        assert!(now < stopped + 4, "two of four cannot agree");
    }
    // It is back, and so are blocks.
    let _fifth = program.start("fifth-again", &join);
    stage
        .until("it goes on again", |v| v.height > last + 2)
        .await;
    on.store(false, Ordering::Relaxed);
    fed.abort();
}
