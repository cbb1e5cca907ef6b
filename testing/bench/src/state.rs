//! What a large state costs a validator: a million accounts, and ten million.
//!
//! The ledger's own code on accounts that are numbers; each block's transfers are signed, and their
//! signatures not checked: that is measured by `ledger`. Times are CPU of the one thread.

use anyhow::{Context as _, Result};
use ledger::{BlockEnv, Call, Genesis, Params, State, Transaction, TransactionBody, account};
use lots::{Candidate, Rules};
use types::{AccountId, Amount, Digest, PublicKey, SecretKey, state_key};

use crate::figure::{Bound, Found};
use crate::scale::{Rounds, memory_bytes};

/// Of a block that is measured, each of another account.
const TRANSFERS: u64 = 1_000;
const PROOFS: u64 = 1_000;
const CANDIDATES: u64 = 1_000_000;
const SIZES: [u64; 2] = [1_000_000, 10_000_000];
/// What the largest takes, and some.
const MEMORY_EACH: u64 = 1_200;

fn sender(n: u64) -> SecretKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(seed)
}

fn stranger(n: u64) -> AccountId {
    let digest = Digest::of_value("bench-account", &n);
    AccountId(digest.0[..20].try_into().expect("20 of 32 bytes"))
}

fn genesis(accounts: u64) -> Genesis {
    let senders = (0..TRANSFERS).map(|n| AccountId::of(&sender(n).public()));
    let strangers = (TRANSFERS..accounts).map(stranger);
    Genesis {
        name: "state".into(),
        time_ms: 1_700_000_000_000,
        params: Params::dev(),
        balances: senders
            .chain(strangers)
            .map(|id| (id, Amount::credits(100)))
            .collect(),
        faucet: stranger(0),
        validators: Vec::new(),
        watchers: Vec::new(),
        origin: None,
    }
}

/// A transfer from each sender to some other account.
fn transfers(state: &State, round: u64, accounts: u64) -> Result<Vec<Vec<u8>>> {
    let signed = (0..TRANSFERS).map(|n| {
        let key = sender(n);
        let to = stranger(TRANSFERS + (n * 7_919 + round * 104_729) % (accounts - TRANSFERS));
        let body = TransactionBody {
            network: state.globals.network,
            key: key.public().into(),
            on_behalf: Vec::new(),
            nonce: round + 1,
            expires: state.height() + 10,
            tip: types::Amount::ZERO,
            call: Call::Account(account::Call::Transfer {
                to,
                amount: Amount(1),
                memo: String::new(),
            }),
        };
        borsh::to_vec(&Transaction::sign(body, &key)).context("encode")
    });
    signed.collect()
}

fn memory_free() -> u64 {
    let all = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = all.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Each size once in each round; of those that do not fit into memory it says so.
pub fn state(rounds: usize) -> Result<Found> {
    let mut found = Rounds::of("state");
    let mut left_out = Vec::new();
    for accounts in SIZES {
        if memory_free() < accounts * MEMORY_EACH {
            left_out.push(format!(
                "a state of {accounts} accounts: it takes {} GiB of free memory",
                (accounts * MEMORY_EACH) >> 30
            ));
            continue;
        }
        // The largest takes minutes: what is counted is CPU of one thread.
        let rounds = if accounts > CANDIDATES { 1 } else { rounds };
        for round in 0..rounds {
            measure(&mut found, accounts, round == 0)?;
        }
    }
    for _ in 0..rounds {
        draw(&mut found);
    }
    Ok(Found {
        figures: found.figures(),
        left_out,
    })
}

/// `fresh`: nothing was given back before, so what is taken is the state's.
fn measure(found: &mut Rounds, accounts: u64, fresh: bool) -> Result<()> {
    let of = |what: &str| format!("{} M accounts: {what}", accounts / 1_000_000);
    let each = accounts as f64;
    let before = memory_bytes();
    let mut state = State::genesis(&genesis(accounts));
    let taken = memory_bytes().saturating_sub(before) as f64;
    if fresh {
        found.add(&of("memory of an account"), "bytes", taken / each, None);
    }
    let saved = found.time(&of("written down"), ("ms", 1.0), None, || state.save());
    found.add(
        &of("on disk, an account"),
        "bytes",
        saved.len() as f64 / each,
        None,
    );
    found.time(
        &of("named whole, at an epoch's end"),
        ("ms", 1.0),
        None,
        || light::snapshot_root(&saved),
    );
    let loaded = found.time(
        &of("read, checked and hashed, at a start"),
        ("ms", 1.0),
        None,
        || State::load(&saved),
    )?;
    drop(saved);
    anyhow::ensure!(loaded.root() == state.root(), "a state has two roots");
    drop(loaded);
    for round in 0..10 {
        let signed = transfers(&state, round, accounts)?;
        let env = BlockEnv {
            height: state.height() + 1,
            time_ms: state.time_ms() + 60,
            ..BlockEnv::default()
        };
        let executed = found.time(
            &of("a transfer in a block of 1,000, signature apart"),
            ("µs", TRANSFERS as f64),
            None,
            || state.execute(env, &signed, &|_| true),
        )?;
        found.time(
            &of("of that, for the root, a changed record"),
            ("µs", executed.changes.len() as f64),
            None,
            || state.root_after(&executed.changes),
        );
        state = executed.state;
    }
    proofs(found, &state, &of)
}

fn proofs(found: &mut Rounds, state: &State, of: &dyn Fn(&str) -> String) -> Result<()> {
    let keys: Vec<Digest> = (0..PROOFS)
        .map(|n| state_key("accounts", &stranger(TRANSFERS + n * 997)))
        .collect();
    let made = found.time(&of("a proof made"), ("µs", PROOFS as f64), None, || {
        keys.iter().map(|key| state.prove(key)).collect::<Vec<_>>()
    });
    let root = state.root();
    let good = found.time(
        &of("a proof checked, certificate apart"),
        ("µs", PROOFS as f64),
        Some(2_000.0),
        || {
            let mut all = keys.iter().zip(&made);
            all.all(|(key, (value, proof))| proof.holds(&root, key, value.as_ref()))
        },
    );
    anyhow::ensure!(good, "a proof does not hold");
    let mut longest = 0;
    for (_, proof) in &made {
        longest = longest.max(borsh::to_vec(proof)?.len());
    }
    let whole = longest + light::Header::BYTES + CERTIFICATE_BYTES;
    let most = Some(Bound::AtMost(2_048.0));
    found.add(
        &of("the longest of 1,000 proofs, with header and certificate"),
        "bytes",
        whole as f64,
        most,
    );
    Ok(())
}

/// Whatever the committee.
const CERTIFICATE_BYTES: usize = 131;

fn draw(found: &mut Rounds) {
    let candidates: Vec<Candidate> = (0..CANDIDATES)
        .map(|n| Candidate {
            key: PublicKey(Digest::of_value("bench-key", &n).0),
            address: format!("10.{}.{}.{}:8710", n >> 16, (n >> 8) & 255, n & 255),
            ticket: Digest::of_value("bench-ticket", &n),
        })
        .collect();
    let rules = Rules {
        seats: 100,
        payroll: 100,
    };
    let beacon = Digest::of(b"beacon");
    let before = lots::draw(3, &candidates, &[], &Digest::of(b"before"), rules).committee;
    found.time(
        "a committee drawn from a million candidates",
        ("ms", 1.0),
        Some(1_000.0),
        || lots::draw(4, &candidates, &before, &beacon, rules),
    );
}
