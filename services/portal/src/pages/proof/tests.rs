//! What the browser's program gets from this portal is what it takes; where the button is, and where
//! it is not.

use axum::Router;
use axum::routing::get;
use browser::{Answer, Request};
use fixtures::Certified;
use ledger::account::Account;
use ledger::lease::Event as Lease;
use ledger::{Call, Transaction, TransactionBody};
use types::{AllocationId, Amount, DeploymentId, SecretKey, Usage};

use super::*;
use crate::app::Network;
use crate::tests::{Site, served};

const HEIGHT: u64 = 7;
const PAYEE: AccountId = AccountId([2; 20]);

fn receipt_of_ledger() -> Receipt {
    Receipt {
        id: ReceiptId(3),
        deployment: DeploymentId(1),
        release: 1,
        service: "web".into(),
        allocation: AllocationId(1),
        host: AccountId([3; 20]),
        payer: AccountId([1; 20]),
        payee: PAYEE,
        interval: 1,
        root: Digest::default(),
        record: Digest::default(),
        sequence: 1,
        from_ms: 0,
        until_ms: 3_600_000,
        total: Usage::default(),
        charges: Vec::new(),
        amount: Amount::ZERO,
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
        call: Call::Account(ledger::account::Call::Transfer {
            to: PAYEE,
            amount: Amount::credits(2),
            memo: String::new(),
        }),
    };
    Transaction::sign(body, &key)
}

fn account_view() -> api::AccountView {
    api::AccountView {
        account: PAYEE,
        balance: Amount::credits(12),
        spendable: Amount::credits(12),
        held: Amount::ZERO,
        nonce: 0,
        height: HEIGHT,
        gift: Amount::ZERO,
        grants: Default::default(),
        retired: false,
    }
}

/// A portal over a network that proves these.
async fn site(now_ms: u64) -> Site {
    let network = Certified::by(1);
    let settled = ledger::Event::Lease(Lease::Settled(receipt_of_ledger()));
    let event = network.event(HEIGHT, &[settled]);
    let signed = transfer();
    let whens = [
        (
            signed.id().to_string(),
            network.when(HEIGHT, Some((&signed, None))),
        ),
        (HEIGHT.to_string(), network.when(HEIGHT, None)),
    ];
    let record = Account {
        spendable: Amount::credits(12),
        ..Account::default()
    };
    let records = network.record((HEIGHT, now_ms), ACCOUNTS, &PAYEE, &record);
    let mut router = Router::new()
        .route(
            "/v1/receipts/{id}",
            get(|| async { Json(receipt_of_ledger()) }),
        )
        .route("/v1/receipts/{id}/proof", get(|| async { Json(event) }))
        .route("/v1/accounts/{id}", get(|| async { Json(account_view()) }))
        .route("/v1/records/accounts", get(|| async { Json(records) }));
    for (what, view) in whens {
        router = router.route(&format!("/v1/when/{what}"), get(|| async { Json(view) }));
    }
    let site = Site::on(served(router).await).await;
    let known = Network {
        name: "test".into(),
        digest: Digest::default(),
        key: network.network_key(),
    };
    site.app.network.set(known).expect("once");
    site
}

async fn checked(site: &Site, about: About, now_ms: u64) -> Answer {
    let sent = site.get(&path(about), "").await;
    assert_eq!(sent.status(), 200, "{about:?}");
    let network = site.app.network.get().expect("known");
    let request = Request {
        about,
        key: hex::encode(&network.key),
        now_ms,
        seen: None,
        proof: sent.text().await.expect("text"),
    };
    browser::check(&serde_json::to_vec(&request).expect("JSON"))
}

#[tokio::test]
async fn proofs_come_as_the_program_takes_them() {
    let now_ms = api::now_ms();
    let site = site(now_ms).await;
    for (about, said) in [
        (About::Receipt(ReceiptId(3)), "Receipt r-3"),
        (About::Transaction(transfer().id()), "applied in block 7"),
        (About::Block(HEIGHT), "Block 7 is final"),
        (About::Account(PAYEE), "has 12 credits"),
    ] {
        let answer = checked(&site, about, now_ms).await;
        assert!(answer.good && answer.said.contains(said), "{answer:?}");
    }
    // As the page says it, the program understands what it is about.
    let named = serde_json::to_string(&About::Receipt(ReceiptId(3))).expect("JSON");
    assert_eq!(named, "{\"receipt\":\"r-3\"}");
    for nothing in [
        "receipts/x",
        "receipts/r-3%2Fproof",
        "transactions/abc",
        "blocks/-1",
        "accounts/1",
    ] {
        let path = format!("/explorer/proofs/{nothing}");
        assert_eq!(site.get(&path, "").await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn pages_have_the_button_or_say_why_not_and_the_command_always() {
    let site = site(api::now_ms()).await;
    let pages = [
        (
            "/explorer/receipts/r-3".to_string(),
            "runrig receipt r-3 --verify".to_string(),
        ),
        (
            format!("/explorer/accounts/{PAYEE}"),
            format!("runrig chain account {PAYEE} --verify"),
        ),
    ];
    for (path, command) in pages {
        let page = site.get(&path, "").await;
        let policy = page.headers()["content-security-policy"]
            .to_str()
            .expect("text")
            .to_string();
        let page = page.text().await.expect("a page");
        assert!(page.contains(&command), "{page}");
        let part = match browser::PROGRAM {
            Ok(_) => format!("data-program=\"{}\"", url("check.wasm")),
            Err(why) => why.to_string(),
        };
        assert!(page.contains(&part), "{path}: {part}: {page}");
        assert_eq!(
            policy.contains("'wasm-unsafe-eval'"),
            browser::PROGRAM.is_ok()
        );
    }
    let other = site.get("/login", "").await;
    let policy = other.headers()["content-security-policy"]
        .to_str()
        .expect("text");
    assert!(!policy.contains("unsafe"), "{policy}");
}

/// Where this build has it: it comes small, as what it is, and may be kept.
#[tokio::test]
async fn the_program_is_an_asset_like_others() {
    let Ok(program) = browser::PROGRAM else {
        assert_eq!(url("check.wasm"), "");
        return;
    };
    assert!(program.starts_with(b"\0asm"));
    let site = site(0).await;
    let answer = site.get(url("check.wasm"), "").await;
    assert_eq!(answer.headers()["content-type"], "application/wasm");
    assert!(
        answer.headers()["cache-control"]
            .to_str()
            .expect("text")
            .contains("immutable")
    );
    assert_eq!(answer.bytes().await.expect("read"), program);
}
