//! What a browser is told of good proofs, of every byte of them changed, and of anything else.

use fixtures::Certified;
use ledger::account::{Account, Call};
use ledger::lease::{Charge, Receipt};
use ledger::{RejectKind, Rejection, Transaction, TransactionBody};
use types::{AllocationId, DeploymentId, Resource, SecretKey, Usage};

use super::*;

const HEIGHT: u64 = 7;
const PAYEE: AccountId = AccountId([2; 20]);

fn asked(about: About, proof: &impl Serialize) -> Request {
    Request {
        about,
        key: hex::encode(Certified::by(1).network_key()),
        now_ms: HEIGHT * 1_000 + 1_500,
        seen: None,
        proof: serde_json::to_string(proof).expect("JSON"),
    }
}

fn told(request: &Request) -> Answer {
    check(&serde_json::to_vec(request).expect("JSON"))
}

fn receipt() -> Receipt {
    let charge = |resource| Charge {
        resource,
        counted: 20,
        rate: Amount(resource.counted_per_unit()),
        amount: Amount(20),
    };
    Receipt {
        id: ReceiptId(3),
        deployment: DeploymentId(1),
        release: 1,
        service: "<b>web</b>".into(),
        allocation: AllocationId(1),
        host: AccountId([3; 20]),
        payer: AccountId([1; 20]),
        payee: PAYEE,
        interval: 1,
        root: Digest::default(),
        record: Digest::default(),
        sequence: 1,
        from_ms: 0,
        until_ms: 86_400_000,
        total: Usage::default(),
        charges: Resource::ALL.map(charge).to_vec(),
        amount: Amount(20 * Resource::ALL.len() as u128),
    }
}

fn proof_of_receipt() -> ReceiptProof {
    let settled = |receipt| ledger::Event::Lease(ledger::lease::Event::Settled(receipt));
    let before = Receipt {
        id: ReceiptId(2),
        ..receipt()
    };
    ReceiptProof {
        event: Certified::by(1).event(HEIGHT, &[settled(before), settled(receipt())]),
        usage: None,
    }
}

fn transfer() -> Transaction {
    let key = SecretKey::from_seed([5; 32]);
    let body = TransactionBody {
        network: Digest::default(),
        key: key.public().into(),
        on_behalf: Vec::new(),
        nonce: 1,
        expires: 100,
        tip: types::Amount::ZERO,
        call: ledger::Call::Account(Call::Transfer {
            to: PAYEE,
            amount: Amount::credits(2),
            memo: "</script>".into(),
        }),
    };
    Transaction::sign(body, &key)
}

fn rejection() -> Rejection {
    Rejection {
        kind: RejectKind::Invalid,
        what: "transfer".into(),
        why: "there is too little".into(),
        next: "Send less.".into(),
    }
}

fn at() -> (u64, u64) {
    (HEIGHT, HEIGHT * 1_000)
}

fn record() -> (Account, RecordsProof) {
    let account = Account {
        spendable: Amount::credits(10),
        held: Amount::credits(2),
        ..Account::default()
    };
    let shown = Certified::by(1).record(at(), ACCOUNTS, &PAYEE, &account);
    (account, shown)
}

fn machine() -> Host {
    Host {
        name: "<i>barn</i>".into(),
        address: String::new(),
        owner: PAYEE,
        machine: Digest::default(),
        offer: types::Offer {
            capacity: types::Resources::default(),
            architecture: String::new(),
            region: String::new(),
            price_multiplier_milli: 1_000,
            builds: false,
        },
        allotment: None,
        free: types::Resources::default(),
        online: true,
        cordoned: false,
        draining: false,
        hours: None,
        hours_ms: 0,
        closed: false,
        closing: false,
        turn_ms: 0,
        registered_ms: 0,
        last_seen_ms: 0,
        silent: 0,
        flaps: 0,
        trusted_ms: 0,
        plan: 0,
        interval: 0,
        bond: Amount::ZERO,
        earned: Amount::credits(3),
        record: ledger::host::Record::default(),
        mesh: None,
        joined: None,
    }
}

/// One of each that holds.
fn all_good() -> [Request; 5] {
    let signed = transfer();
    [
        asked(About::Receipt(ReceiptId(3)), &proof_of_receipt()),
        asked(
            About::Transaction(signed.id()),
            &Certified::by(1).when(HEIGHT, Some((&signed, None))),
        ),
        asked(About::Block(HEIGHT), &Certified::by(1).when(HEIGHT, None)),
        asked(
            About::Host(PAYEE),
            &Certified::by(1).record(at(), HOSTS, &PAYEE, &machine()),
        ),
        asked(About::Account(PAYEE), &record().1),
    ]
}

#[test]
fn what_holds_is_said_in_a_sentence() {
    let said = all_good().map(|request| {
        let answer = told(&request);
        assert!(answer.good, "{answer:?}");
        assert!(answer.steps.iter().all(|s| s.good) && answer.steps.len() >= 2);
        assert!(answer.steps[0].what.starts_with("block 7 is certified"));
        answer.said
    });
    let [receipt, transaction, block, host, account] = said;
    let (payer, payee) = (AccountId([1; 20]), PAYEE);
    assert_eq!(
        receipt,
        format!(
            "Receipt r-3: 0.0000000001 credits from account {payer} to account {payee}, for use until 1970-01-02 00:00:00 UTC."
        )
    );
    assert!(
        transaction.contains("2 credits") && transaction.ends_with(": applied in block 7."),
        "{transaction}"
    );
    assert_eq!(
        block,
        "Block 7 is final: made not before 1970-01-01 00:00:07 UTC."
    );
    assert!(
        host.starts_with("Host <i>barn</i> is online, offers 0 cores")
            && host.ends_with("and has earned 3 credits: after block 7."),
        "{host}"
    );
    assert_eq!(
        account,
        "The account has 12 credits, of which 10 may be spent and 2 are in escrow: after block 7."
    );
}

#[test]
fn another_networks_proof_is_refused() {
    for mut request in all_good() {
        request.key = hex::encode(Certified::by(2).network_key());
        let answer = told(&request);
        assert!(!answer.good && answer.seen.is_none(), "{answer:?}");
        let why = "It does not hold: the certificate was not made by this network's committee.";
        assert_eq!(answer.said, why);
        for (key, why) in [
            ("", "the network key cannot be read"),
            ("abc", "not hex"),
            ("<script>", "not hex"),
            (&"00".repeat(96), "the network key cannot be read"),
        ] {
            request.key = key.into();
            let answer = told(&request);
            assert!(!answer.good && answer.said.contains(why), "{answer:?}");
        }
    }
}

#[test]
fn nothing_holds_once_it_is_changed() {
    for request in all_good() {
        let good = told(&request);
        // Letters and digits, one after the other: what is signed, and ways to it.
        let places = (0..request.proof.len()).filter(|at| {
            let byte = request.proof.as_bytes()[*at];
            byte.is_ascii_alphanumeric() && at % 7 == 3
        });
        for at in places {
            let mut proof = request.proof.clone().into_bytes();
            proof[at] = if proof[at] == b'1' { b'2' } else { b'1' };
            let proof = String::from_utf8(proof).expect("text");
            let changed = Request {
                proof,
                ..request.clone()
            };
            let answer = told(&changed);
            // What no root commits to (an optional field's name) changes nothing of what is said.
            let same = answer.said == good.said;
            let lost = answer.said == good.said.replace(": applied in", ": in");
            assert!(!answer.good || same || lost, "{at}: {answer:?}");
        }
        for other in [ReceiptId(2), ReceiptId(4)] {
            let asked_for = match request.about {
                About::Receipt(_) => About::Receipt(other),
                About::Transaction(_) => About::Transaction(Digest::of(b"other")),
                About::Block(_) => About::Block(other.0),
                About::Account(_) => About::Account(AccountId([other.0 as u8; 20])),
                About::Host(_) => About::Host(AccountId([other.0 as u8; 20])),
            };
            // The payee's is the one that is shown.
            if asked_for != request.about {
                let changed = Request {
                    about: asked_for,
                    ..request.clone()
                };
                assert!(!told(&changed).good, "{asked_for:?}");
            }
        }
    }
}

#[test]
fn what_came_of_a_transaction_is_proved_too() {
    let signed = transfer();
    let about = About::Transaction(signed.id());
    let view = Certified::by(1).when(HEIGHT, Some((&signed, Some(rejection()))));
    let answer = told(&asked(about, &view));
    assert!(answer.good, "{answer:?}");
    assert!(
        answer
            .said
            .ends_with(": asked for and rejected in block 7.")
    );
    let last = &answer.steps[answer.steps.len() - 2].what;
    assert!(
        last.ends_with("it was rejected: there is too little"),
        "{last}"
    );
    // That of the same transaction in a block where it was applied.
    let mut swapped = view.clone();
    let applied = Certified::by(1).when(HEIGHT, Some((&signed, None)));
    let other = applied.transaction.expect("shown");
    let shown = swapped.transaction.as_mut().expect("shown");
    (shown.outcome, shown.outcome_path) = (other.outcome, other.outcome_path);
    let answer = told(&asked(about, &swapped));
    assert!(answer.said.contains("not in the block"), "{answer:?}");
    // Whoever shows nothing proves nothing of it.
    let mut silent = view;
    silent.transaction.as_mut().expect("shown").outcome = None;
    let answer = told(&asked(about, &silent));
    assert!(
        answer.good && answer.said.ends_with(": in block 7."),
        "{answer:?}"
    );
}

#[test]
fn an_account_is_of_now_and_never_older_than_what_was_seen() {
    let [.., mut request] = all_good();
    let seen = told(&request).seen.expect("a block");
    assert_eq!(seen.height, HEIGHT);
    request.seen = Some(seen.clone());
    assert!(told(&request).good);
    request.seen = Some(Checkpoint {
        height: HEIGHT + 1,
        ..seen.clone()
    });
    let answer = told(&request);
    assert!(answer.said.contains("is older than block 8"), "{answer:?}");
    request.seen = Some(Checkpoint {
        block: Digest::of(b"another"),
        ..seen
    });
    let answer = told(&request);
    assert!(answer.said.contains("has signed two"), "{answer:?}");
    request.seen = None;
    request.now_ms = HEIGHT * 1_000 + AGE_MAX_MS + 1;
    let answer = told(&request);
    assert!(answer.said.contains("60 s are allowed"), "{answer:?}");
}

#[test]
fn whatever_it_is_given_there_is_an_answer() {
    let deep = "[".repeat(100_000);
    let cases = ["", "null", "{}", "[]", "\u{0}", &deep];
    for case in cases {
        let answer = check(case.as_bytes());
        assert!(
            !answer.good && answer.said.contains("cannot be read"),
            "{answer:?}"
        );
        for mut request in all_good() {
            request.proof = case.into();
            let answer = told(&request);
            assert!(
                !answer.good && answer.said.contains("cannot be read"),
                "{answer:?}"
            );
        }
    }
    assert!(!check(&[0xff; 64]).good);
}
