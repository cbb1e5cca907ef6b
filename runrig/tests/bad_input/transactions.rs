//! Transactions that are oversized, malformed, replayed, wrongly signed or stale.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fixtures::credits;
use ledger::{Call, Transaction, TransactionBody, account, deployment};
use serde_json::{Value, json};
use types::{AccountId, Amount, Digest, SecretKey};

use crate::{World, told};

pub fn signed(world: &World, key: &SecretKey, ahead: u64, call: Call) -> Transaction {
    let nonce = world.account(key)["nonce"].as_u64().expect("a number") + ahead;
    let height = world.view("/v1/status")["height"]
        .as_u64()
        .expect("a height");
    let body = TransactionBody {
        network: world.network,
        key: key.public().into(),
        on_behalf: Vec::new(),
        nonce,
        expires: height + 500,
        tip: types::Amount::ZERO,
        call,
    };
    Transaction::sign(body, key)
}

pub fn bytes(transaction: &Transaction) -> Vec<u8> {
    borsh::to_vec(transaction).expect("encodes")
}

/// Sends canonical bytes and waits for their fate: none if they were applied, else the kind
/// of refusal, whoever refused.
pub fn submit(world: &World, bytes: &[u8]) -> Option<String> {
    let body = json!({ "transaction": BASE64.encode(bytes) }).to_string();
    let answer = world.post("/v1/transactions?wait_ms=30000", body.as_bytes());
    let said = answer.json();
    if answer.status != 200 {
        assert!(
            (400..500).contains(&answer.status),
            "{}: {said}",
            answer.status
        );
        return Some(told(&said));
    }
    match &said["result"]["rejection"] {
        Value::Null => {
            assert_eq!(said["result"]["status"], "applied", "{said}");
            None
        }
        rejection => Some(told(rejection)),
    }
}

fn gift(to: &SecretKey, amount: Amount) -> Call {
    Call::Account(account::Call::Transfer {
        to: AccountId::of(&to.public()),
        amount,
        memo: String::new(),
    })
}

pub fn send(world: &World) {
    let (owner, stranger) = (&world.owner, &world.stranger);
    let third = SecretKey::from_seed([8; 32]);
    let credit = gift(&third, Amount::credits(1));

    // Bodies that are no requests.
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"{\"transaction\": 7}",
        b"{\"transaction\": \"***\"}",
        b"\xff\xfe\x00",
    ] {
        let answer = world.post("/v1/transactions", body);
        assert!((400..500).contains(&answer.status), "{}", answer.head);
        told(&answer.json());
    }
    for size in [300 << 10, 20 << 20] {
        let body = json!({ "transaction": "A".repeat(size) }).to_string();
        let answer = world.post("/v1/transactions", body.as_bytes());
        assert!((400..500).contains(&answer.status), "{}", answer.head);
        told(&answer.json());
    }

    // Bytes that are no transaction, or not quite.
    let good = bytes(&signed(world, owner, 1, credit.clone()));
    let longer = [&good[..], &[0]].concat();
    let empty: &[u8] = &[];
    for bad in [
        empty,
        &[0xff; 300],
        &good[..good.len() - 1],
        &good[..40],
        &longer,
    ] {
        assert!(submit(world, bad).is_some());
    }
    let memo = Call::Account(account::Call::Transfer {
        to: AccountId::of(&third.public()),
        amount: Amount(1),
        memo: "x".repeat(Transaction::BYTES_MAX),
    });
    let oversized = bytes(&signed(world, owner, 1, memo));
    assert!(submit(world, &oversized).is_some());

    // Signed by another, or changed after it was signed.
    let mut stolen = signed(world, owner, 1, gift(stranger, Amount::credits(5)));
    stolen.signature = types::Proof::Ed25519(stranger.sign(&stolen.body.signed_digest().0));
    assert_eq!(submit(world, &bytes(&stolen)).as_deref(), Some("signature"));
    let mut changed = signed(world, owner, 1, gift(&third, Amount(1)));
    changed.body.call = gift(stranger, Amount::credits(5));
    assert_eq!(
        submit(world, &bytes(&changed)).as_deref(),
        Some("signature")
    );

    // Of another network, of the past, of a nonce far away.
    let base = signed(world, owner, 1, gift(stranger, Amount::credits(5))).body;
    let resigned = |change: &dyn Fn(&mut TransactionBody)| {
        let mut body = base.clone();
        change(&mut body);
        bytes(&Transaction::sign(body, owner))
    };
    for stale in [
        resigned(&|b| b.network = Digest([3; 32])),
        resigned(&|b| b.expires = 1),
        resigned(&|b| b.nonce = 0),
        resigned(&|b| b.nonce = u64::MAX),
    ] {
        let kind = submit(world, &stale);
        assert!(
            matches!(kind.as_deref(), Some("stale" | "invalid")),
            "{kind:?}"
        );
    }

    // Twice is once.
    let before = credits(&world.account(&third)["balance"]);
    let once = bytes(&signed(world, owner, 1, credit));
    assert_eq!(submit(world, &once), None);
    for _ in 0..3 {
        assert_ne!(submit(world, &once).as_deref(), Some(""));
    }
    let after = credits(&world.account(&third)["balance"]);
    assert_eq!(after - before, Amount::credits(1).0 as i128);

    // More than one has; what is another's.
    let rich = signed(world, stranger, 1, gift(&third, Amount::credits(1)));
    assert_eq!(submit(world, &bytes(&rich)).as_deref(), Some("funds"));
    let most = signed(world, owner, 1, gift(&third, Amount(u128::MAX)));
    assert_eq!(submit(world, &bytes(&most)).as_deref(), Some("funds"));
    let deployment = world.cloud.rows("web")[0]["deployment"].clone();
    let deployment = serde_json::from_value(deployment).expect("an id");
    for call in [
        deployment::Call::Remove {
            deployment,
            volumes: true,
        },
        deployment::Call::Restart {
            deployment,
            service: None,
        },
        deployment::Call::SetRunning {
            deployment,
            service: None,
            running: false,
        },
    ] {
        let meddling = signed(world, stranger, 2, Call::Deployment(call));
        let kind = submit(world, &bytes(&meddling));
        assert_eq!(kind.as_deref(), Some("forbidden"));
    }
}
