//! Four founders make a network by a ceremony, each in a folder of his own, though they fall over in
//! the middle: the same network on all, nobody's share with anybody else; it runs, pays and hands its key
//! on. One that does not come is named, and nothing is made.

use std::path::Path;
use std::time::{Duration, Instant};

use fixtures::{Program, Running, free_addresses};
use ledger::{Call, account};
use sdk::Client;
use types::{AccountId, Amount, SecretKey};

const PATIENCE: Duration = Duration::from_secs(120);
const EPOCH_BLOCKS: u64 = 16;

/// Founders' folders, and the charter of all of them.
struct Stage {
    program: Program,
    charter: String,
    api: Vec<String>,
    p2p: Vec<String>,
}

impl Stage {
    fn new(folder: &Path, founders: u16) -> Self {
        let program = Program::new(env!("CARGO_BIN_EXE_runrig"), folder);
        let mut p2p = free_addresses(2 * founders);
        let api = p2p.split_off(founders.into());
        let charter = program.file("charter.json");
        let blocks = EPOCH_BLOCKS.to_string();
        let mut parts = Vec::new();
        for (n, (p2p, api)) in (1..).zip(p2p.iter().zip(&api)) {
            let (data, api) = (program.file(&format!("{n}")), format!("http://{api}"));
            let line = ["network", "founder", "--data", &data, "--advertise", p2p];
            program.good(&[&line[..], &["--api-advertise", &api]].concat());
            parts.push(format!("{data}/founder.json"));
        }
        let mut line = vec!["network", "charter", "--out", &charter];
        line.extend(["--epoch-blocks", &blocks]);
        for part in &parts {
            line.extend(["--founder", part]);
        }
        program.good(&line);
        Self {
            program,
            charter,
            api,
            p2p,
        }
    }

    fn data(&self, n: usize) -> String {
        self.program.file(&n.to_string())
    }

    fn found(&self, n: usize, wait: &str) -> Running {
        let (data, log) = (self.data(n), format!("found-{n}"));
        let line = [
            "network",
            "found",
            "--charter",
            &self.charter,
            "--data",
            &data,
        ];
        self.program
            .start(&log, &[&line[..], &["--wait", wait]].concat())
    }

    fn said(&self, n: usize) -> String {
        std::fs::read_to_string(self.program.file(&format!("found-{n}.log"))).unwrap_or_default()
    }

    fn until_said(&self, n: usize, what: &str) {
        let from = Instant::now();
        while !self.said(n).contains(what) {
            assert!(from.elapsed() < PATIENCE, "{what}: {}", self.said(n));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// All files in `folder` and below.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("read").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((
                path.display().to_string(),
                std::fs::read(path).expect("read"),
            )),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_found_a_network_and_nobody_knows_its_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(folder.path(), 4);
    // One comes late; while the key is made two fall over, then all.
    let mut founders: Vec<Running> = (1..4).map(|n| stage.found(n, "90s")).collect();
    stage.until_said(1, "waits for 1 of 4");
    assert!(stage.said(1).contains(&stage.p2p[3]), "{}", stage.said(1));
    founders.push(stage.found(4, "90s"));
    stage.until_said(1, "make the network's key");
    founders.drain(2..).for_each(drop);
    stage.until_said(1, "waits for 2 of 4");
    founders.clear();
    let made = |n| Path::new(&stage.data(n)).join("network.json").exists();
    assert!(!(1..=4).any(made), "{}", stage.said(1));
    // They go on; one falls over once more, and the others wait for it.
    founders.extend((1..4).map(|n| stage.found(n, "90s")));
    let mut late = stage.found(4, "90s");
    stage.until_said(4, "make the network's key");
    late.kill();
    founders.push(stage.found(4, "90s"));
    for (n, founder) in (1..).zip(&mut founders) {
        assert_eq!(founder.wait(), 0, "{}", stage.said(n));
        let said = stage.said(n);
        assert!(said.contains("all founders have it"), "{said}");
    }

    let file = std::fs::read(folder.path().join("1/network.json")).expect("there");
    let seats: Vec<Vec<u8>> = (1..=4)
        .map(|n| std::fs::read(folder.path().join(format!("{n}/seat"))).expect("a seat"))
        .collect();
    let mut vaults = std::collections::BTreeSet::new();
    for n in 1..=4 {
        let own = folder.path().join(n.to_string());
        assert_eq!(
            std::fs::read(own.join("network.json")).expect("there"),
            file
        );
        assert!(!own.join("founding").exists());
        // What it holds of the key is in its vault, sealed by its own seat.
        vaults.insert(std::fs::read(own.join("vault/0")).expect("a share"));
        let mut names: Vec<String> = Vec::new();
        for (name, bytes) in files(&own) {
            for (at, seat) in (1..=4).zip(&seats) {
                assert_eq!(seat.len(), 32, "an identity and no share");
                let holds = bytes.windows(seat.len()).any(|part| part == seat);
                assert_eq!(holds, at == n && name.ends_with("/seat"), "{name}");
            }
            names.extend(
                name.strip_prefix(&format!("{}/", own.display()))
                    .map(String::from),
            );
        }
        names.sort();
        let kept = [
            "founder.json",
            "network.json",
            "owner.key",
            "seat",
            "vault/0",
        ];
        assert_eq!(names, kept);
    }
    assert_eq!(vaults.len(), 4);

    // Once more, it changes nothing; in another network's folder neither.
    let again = ["network", "found", "--charter", &stage.charter, "--json"];
    let data = stage.data(1);
    let said = stage
        .program
        .good(&[&again[..], &["--data", &data]].concat());
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let digest = types::Digest::of(&file).to_string();
    assert_eq!(said["network_file_digest"], digest.as_str());
    assert_eq!(
        std::fs::read(folder.path().join("1/network.json")).expect("there"),
        file
    );

    let network = stage.program.file("1/network.json");
    let _validators: Vec<Running> = (1..=4)
        .map(|n| {
            let data = stage.data(n);
            let line = ["validator", "run", "--data", &data, "--network", &network];
            stage.program.start(&format!("validator-{n}"), &line)
        })
        .collect();
    let urls = stage.api.iter().map(|api| format!("http://{api}"));
    let client = Client::new(urls.collect::<Vec<_>>()).expect("a client");
    let text = std::fs::read_to_string(folder.path().join("2/owner.key")).expect("a key");
    let payer = SecretKey::from_hex(text.trim()).expect("a key");
    let heir = AccountId::of(&SecretKey::from_seed([7; 32]).public());
    let from = Instant::now();
    let mut paid = 0;
    // The key is handed on twice: what was made by all is worth as much as what was dealt.
    while client.status().await.map_or(0, |s| s.height) < 2 * EPOCH_BLOCKS + 4 {
        let call = Call::Account(account::Call::Transfer {
            to: heir,
            amount: Amount(1),
            memo: String::new(),
        });
        paid += u128::from(client.submit_and_wait(&payer, call).await.is_ok());
        assert!(from.elapsed() < PATIENCE, "{paid} transfers");
    }
    assert!(paid > 0);
    assert_eq!(
        client.account(heir).await.expect("one").balance,
        Amount(paid)
    );
    let figures = client.supply().await.expect("a supply");
    assert_eq!(figures.sum, figures.expected);
    for n in 1..=4 {
        let log = folder.path().join(format!("validator-{n}.log"));
        let log = std::fs::read_to_string(log).expect("a log");
        assert!(!log.contains("ERROR"), "{log}");
        // Shares of the second handing on lie in the vault, and those of the ceremony do not.
        let shares = folder.path().join(format!("{n}/vault"));
        assert!(shares.join("2").exists() && !shares.join("0").exists());
    }
}

#[test]
fn one_that_does_not_come_is_named_and_nothing_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(folder.path(), 4);
    let before = files(folder.path());
    let mut founders: Vec<Running> = (1..4).map(|n| stage.found(n, "10s")).collect();
    for (n, founder) in (1..).zip(&mut founders) {
        assert_eq!(founder.wait(), 124, "{}", stage.said(n));
        let said = stage.said(n);
        assert!(said.contains("1 of 4 founders were not there"), "{said}");
        assert!(said.contains("Nothing was made"), "{said}");
        assert!(said.contains(&stage.p2p[3]), "{said}");
    }
    let after = files(folder.path());
    let after = after
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".log"));
    assert_eq!(after.collect::<Vec<_>>(), before);
}
