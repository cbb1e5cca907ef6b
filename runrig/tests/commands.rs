//! What a network's members and strangers do from the command line, each end to end on validators
//! that are processes: a lottery, a drawing that is checked, a time, an accusation, votes.

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
use serde_json::Value;
use types::{AccountId, Amount, Digest, DoubleProposal, Seal, SecretKey, Signature};

const PATIENCE: Duration = Duration::from_secs(240);
/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

struct Stage {
    program: Program,
    net: Founded,
    client: Client,
    key: String,
}

impl Stage {
    fn json(&self, args: &[&str]) -> Value {
        let out = self.program.good(&[&["--json"], args].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    }

    /// What a command that must fail says.
    fn bad(&self, args: &[&str]) -> String {
        let (code, out, err) = self.program.run(args);
        assert!(code > 0, "{args:?}: {code}: {out}{err}");
        out + &err
    }

    fn write(&self, name: &str, value: &Value) -> String {
        let path = self.program.file(name);
        std::fs::write(&path, value.to_string()).expect("writes");
        path
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let from = Instant::now();
        while !is_so().await {
            assert!(from.elapsed() < PATIENCE, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn balance(&self, of: AccountId) -> Amount {
        self.client.account(of).await.expect("an account").balance
    }

    fn seat(&self, number: usize) -> String {
        format!("{}/seat", self.net.data(&self.program, number))
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn id(n: u8) -> AccountId {
    AccountId::of(&key(n).public())
}

/// Votes count after so few blocks, which no option of `network init` says.
fn hurry(file: &str) {
    let text = std::fs::read_to_string(file).expect("a network file");
    let mut network: Value = serde_json::from_str(&text).expect("JSON");
    network["genesis"]["params"]["vote_delay_blocks"] = 1.into();
    std::fs::write(file, network.to_string()).expect("writes");
}

/// Payments one after the other, so that blocks come fast.
async fn feed(client: Client, on: Arc<AtomicBool>) {
    while on.load(Ordering::Relaxed) {
        let (to, amount, memo) = (id(8), Amount(1), String::new());
        let call = Call::Account(account::Call::Transfer { to, amount, memo });
        let paid = client.submit_and_wait(&key(7), call).await;
        paid.expect("paid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_network_offers_works_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::new(env!("CARGO_BIN_EXE_runrig"), folder.path());
    let more = ["--epoch-blocks", "16", "--bond", "300"];
    let mut net = Founded::init(&program, "net", 3, &more);
    hurry(&net.file(&program));
    net.validators = (1..=3).map(|n| net.run(&program, n)).collect();
    let (file, founder) = (net.file(&program), program.file("net/keys/founder"));
    let create = [
        "--key",
        &founder,
        "context",
        "create",
        "net",
        "--network",
        &file,
    ];
    let at = net.urls.join(",");
    program.good(&[&create[..], &["--at", &at]].concat());
    let client = Client::new(net.urls.iter().cloned()).expect("a client");
    let network = sdk_file(&file);
    let stage = Stage {
        program,
        net,
        client,
        key: network["network_key"].as_str().expect("hex").into(),
    };
    stage
        .until("the network begins", async || {
            stage.client.status().await.is_ok_and(|s| s.height > 0)
        })
        .await;
    let gift = Call::Account(account::Call::Faucet { to: id(7) });
    stage
        .client
        .submit_and_wait(&key(7), gift)
        .await
        .expect("a gift");
    let on = Arc::new(AtomicBool::new(true));
    let fed = tokio::spawn(feed(stage.client.clone(), on.clone()));

    let entered = lottery(&stage);
    when(&stage, &entered).await;
    drawing(&stage).await;
    accusation(&stage, folder.path()).await;
    votes(&stage).await;

    let supply = stage.json(&["chain", "supply"]);
    assert_eq!(supply["sum"], supply["expected"]);
    on.store(false, Ordering::Relaxed);
    fed.await.expect("no payment fails");
}

fn sdk_file(path: &str) -> Value {
    let text = std::fs::read_to_string(path).expect("a network file");
    serde_json::from_str(&text).expect("JSON")
}

/// Create, enter, close, draw, export, verify offline. The transaction that entered.
fn lottery(stage: &Stage) -> String {
    let create = |name: &str, min: &str| {
        let args = [
            "lottery", "create", name, "--price", "1", "--prizes", "60%,30%", "--close", "+60",
            "--min", min,
        ];
        let made = stage.json(&args);
        made["lottery"].as_str().expect("an id").to_string()
    };
    let (drawn, few) = (create("summer", "2"), create("winter", "5"));
    let enter = |id: &str| stage.json(&["lottery", "enter", id, "--count", "3", "--yes"]);
    let entered = enter(&drawn);
    enter(&few);
    for id in [&drawn, &few] {
        stage.program.good(&["lottery", "close", id]);
        let late = stage.bad(&["lottery", "enter", id, "--yes"]);
        assert!(late.contains("closed") || late.contains("closes"), "{late}");
    }
    let over = stage.json(&["lottery", "draw", &drawn]);
    assert_eq!(over["round"]["phase"], "drawn", "{over}");
    let said = stage.program.good(&["lottery", "draw", &few]);
    assert!(said.contains("each has its price back"), "{said}");

    let export = stage.json(&["lottery", "export", &drawn]);
    let offline = |value: &Value| {
        let file = stage.write("round.json", value);
        let trusted = ["--network-key", &stage.key];
        let args = ["--url", NOBODY, "lottery", "verify", &file];
        stage.program.run(&[&args[..], &trusted[..]].concat())
    };
    let (code, out, err) = offline(&export);
    assert_eq!(code, 0, "{out}{err}");
    let mut changed = export.clone();
    changed["entries"][0]["account"] = id(9).to_string().into();
    let (code, out, err) = offline(&changed);
    assert!(
        code > 0 && (out + &err).contains("left out or changed"),
        "{code}"
    );
    entered["transaction"].as_str().expect("an id").into()
}

async fn when(stage: &Stage, transaction: &str) {
    let view = stage.json(&["chain", "when", transaction]);
    assert_eq!(view["verified"], true, "{view}");
    let (from, to) = (&view["not_before_ms"], &view["not_after_ms"]);
    assert!(from.as_u64() <= to.as_u64() && to.is_u64(), "{view}");
    let nobody = "0".repeat(64);
    let unknown = stage.bad(&["chain", "when", &nobody]);
    assert!(unknown.contains("there is none"), "{unknown}");
}

/// Show, verify; and what was changed fails with the reason.
async fn drawing(stage: &Stage) {
    let epoch = "5";
    stage
        .until("the lot falls", async || {
            let view = stage.client.lots(5).await;
            view.is_ok_and(|v| v.fallen.is_some())
        })
        .await;
    // The lot of the epoch after next has fallen; a slow machine may find it begun.
    stage
        .until("an epoch is drawn that has not begun", async || {
            let head = stage.client.status().await.expect("a head").height;
            let ahead = (head / 16 + 2).to_string();
            let verified = stage.program.good(&["lots", "verify", &ahead]);
            verified.contains("not certified yet")
        })
        .await;
    let said = stage.program.good(&["lots", "show", epoch]);
    assert!(
        said.contains("3 candidates") && said.contains("sits"),
        "{said}"
    );
    let view = stage.json(&["lots", "show", epoch]);
    let file = stage.write("five.json", &view);
    let from_file = ["lots", "verify", epoch, "--file", &file];
    stage.program.good(&from_file);
    let alone = [&["--url", "http://127.0.0.1:9"][..], &from_file].concat();
    stage.program.good(&alone);
    let other = Digest::of(b"other").to_string();
    let key = key(9).public().to_string();
    let changes: [(&str, &dyn Fn(&mut Value), &str); 4] = [
        (
            "ticket",
            &|v| v["candidates"][0]["ticket"] = other.clone().into(),
            "or a ticket",
        ),
        (
            "key",
            &|v| v["candidates"][0]["key"] = key.clone().into(),
            "changed (a key",
        ),
        (
            "beacon",
            &|v| v["beacon"] = other.clone().into(),
            "certified block",
        ),
        ("seats", &|v| v["seats"] = 2.into(), "number of seats"),
    ];
    for (what, change, reason) in changes {
        let mut forged = view.clone();
        change(&mut forged);
        let file = stage.write("forged.json", &forged);
        let said = stage.bad(&["lots", "verify", epoch, "--file", &file]);
        assert!(said.contains(reason), "{what}: {said}");
    }
}

/// Two seals of the third validator for one view: one is of a block that became final.
async fn accusation(stage: &Stage, folder: &Path) {
    let seat = std::fs::read(folder.join("net/validator-3/seat")).expect("a seat");
    let seat = consensus::Seat::from_bytes(&seat).expect("a seat");
    let culprit = SecretKey::from_seed(seat.secret());
    let status = stage.client.status().await.expect("a head");
    let mut height = status.height;
    let (header, seal) = loop {
        let block = stage.client.block(height).await.expect("a block");
        let header = BASE64.decode(&block.header).expect("base64");
        let header = Header::from_bytes(&header).expect("a header");
        if header.proposer == culprit.public().0 {
            break (header, BASE64.decode(&block.seal).expect("base64"));
        }
        height -= 1;
    };
    let real = Seal {
        epoch: header.epoch,
        view: header.view,
        block: header.digest(),
        signature: Signature(seal.try_into().expect("64 bytes")),
    };
    let other = Digest::of(b"another block");
    let double = DoubleProposal {
        leader: culprit.public(),
        seals: [
            real,
            Seal::put(&culprit, &status.network, header.epoch, header.view, other),
        ],
    };
    let once = DoubleProposal {
        seals: [real, real],
        ..double
    };
    let write = |name: &str, double: &DoubleProposal| {
        stage.write(name, &serde_json::to_value(double).expect("JSON"))
    };
    let said = stage.bad(&["validator", "accuse", &write("once.json", &once)]);
    assert!(said.contains("same block"), "{said}");
    let finder = std::fs::read_to_string(folder.join("net/keys/founder")).expect("a key");
    let finder = SecretKey::from_hex(finder.trim()).expect("a key");
    let finder = AccountId::of(&finder.public());
    let before = stage.balance(finder).await;
    let file = write("double.json", &double);
    stage.program.good(&["validator", "accuse", &file]);
    let after = stage.balance(finder).await;
    assert_eq!(after.0 - before.0, Amount::credits(30).0, "a tenth");
    let again = stage.bad(&["validator", "accuse", &file]);
    assert!(again.contains("convicted"), "{again}");
    let view = stage.json(&["validator", "status"]);
    let members = view["members"].as_array().expect("a list");
    let convicted = members.iter().filter(|m| !m["convicted"].is_null());
    let lost: Vec<&Value> = convicted.map(|m| &m["convicted"]["lost"]).collect();
    assert_eq!(lost, ["300"], "{view}");
}

/// A fee, fewer seats, and money out of the fund to which the lost bond went.
async fn votes(stage: &Stage) {
    let to = id(9).to_string();
    let pay = format!("pay=200/{to}");
    let much = stage.bad(&[
        "vote",
        "propose",
        "pay=271/0000000000000000000000000000000000000001",
        "--seat",
        &stage.seat(1),
    ]);
    assert!(
        much.contains("the network's fund has 270 credits"),
        "{much}"
    );
    let stranger = stage.bad(&["vote", "propose", "fee=0.001"]);
    assert!(stranger.contains("no seat history"), "{stranger}");
    for change in ["fee=0.001", "seats=2", &pay] {
        let made = stage.json(&["vote", "propose", change, "--seat", &stage.seat(1)]);
        let id = made["id"].as_str().expect("an id").to_string();
        stage
            .program
            .good(&["vote", "cast", &id, "yes", "--seat", &stage.seat(2)]);
        stage
            .until("it counts", async || {
                let shown = stage.program.good(&["vote", "show", &id]);
                assert!(shown.contains(change), "{shown}");
                shown.contains("counts since height")
            })
            .await;
    }
    let params = stage.json(&["chain", "params"]);
    assert_eq!(
        (&params["fee"], &params["seats_max"]),
        (&"0.001".into(), &2.into())
    );
    assert_eq!(stage.balance(id(9)).await, Amount::credits(200));
    assert_eq!(stage.json(&["chain", "supply"])["fund"], "70");
    let to = id(9).to_string();
    let sent = stage.json(&["wallet", "send", &to, "1", "--yes", "--tip", "0.25"]);
    assert_eq!(sent["fee"], "0.251", "{sent}");
    let transaction = sent["transaction"].as_str().expect("an id");
    let height = sent["height"].to_string();
    for args in [
        &["vote", "ls"][..],
        &["vote", "show", "p-1"],
        &["lottery", "ls"],
        &["chain", "params"],
        &["chain", "duties"],
        &["chain", "tx", transaction],
        &["chain", "block", &height],
        &["account", "keys", "ls"],
    ] {
        let (code, out, said) = stage.program.run(&[&["--verify"], args].concat());
        assert_eq!(code, 0, "{args:?}: {out}{said}");
        assert!(said.contains('✓'), "{args:?}: {said}");
    }
    let dear = stage.bad(&["wallet", "send", &to, "1", "--yes", "--tip", "100000000"]);
    assert!(dear.contains("its fee and tip are"), "{dear}");
    assert_eq!(stage.balance(id(9)).await, Amount::credits(201));
    // The drawings from then on are of two seats, and hold.
    let latest = stage.client.status().await.expect("a head").height / 16 + 4;
    stage
        .until("the lot falls", async || {
            let view = stage.client.lots(latest).await;
            view.is_ok_and(|v| v.seats == 2 && v.fallen.is_some())
        })
        .await;
    let (code, out, err) = stage.program.run(&["lots", "verify", &latest.to_string()]);
    assert!(
        code == 0 && (out.clone() + &err).contains("2 seats at most"),
        "{out}{err}"
    );
    let listed = stage.program.good(&["vote", "ls"]);
    assert!(listed.contains("seats=2"), "{listed}");
}
