use ledger::lease::{Charge, Event as Lease, Receipt};
use types::{AccountId, AllocationId, Amount, DeploymentId, Digest, ReceiptId, Resource, Usage};

use super::query::{self, Side};
use super::write::{self, Certified};
use super::*;

const PAYER: AccountId = AccountId([1; 20]);
const PAYEE: AccountId = AccountId([2; 20]);
const HOST: AccountId = AccountId([3; 20]);

fn receipt(number: u64, hour: u64, amount: u128) -> ledger::Event {
    let charge = |resource| Charge {
        resource,
        counted: 10,
        rate: Amount(1),
        amount: Amount(if resource == Resource::Cpu { amount } else { 0 }),
    };
    ledger::Event::Lease(Lease::Settled(Receipt {
        id: ReceiptId(number),
        deployment: DeploymentId(1),
        release: 1,
        service: "web".into(),
        allocation: AllocationId(1),
        host: HOST,
        payer: PAYER,
        payee: PAYEE,
        interval: number,
        root: Digest::default(),
        record: Digest::default(),
        sequence: number,
        from_ms: 0,
        until_ms: hour * 3_600_000,
        total: Usage::default(),
        charges: Resource::ALL.map(charge).to_vec(),
        amount: Amount(amount),
    }))
}

fn block(height: u64, first: u64, events: Vec<ledger::Event>) -> Certified {
    let mut header = light::Header::from_bytes(&[0; light::Header::BYTES]).expect("a header");
    header.height = height;
    header.time_ms = height * 1_000;
    let events = events
        .into_iter()
        .enumerate()
        .map(|(at, event)| api::EventView {
            sequence: first + at as u64,
            height,
            index: at as u32,
            time_ms: height * 1_000,
            event,
        });
    Certified {
        view: api::BlockView {
            height,
            time_ms: height * 1_000,
            block: header.digest(),
            parent: Digest::default(),
            state_root: Digest::default(),
            events_root: Digest::default(),
            header: String::new(),
            seal: String::new(),
            certificate: String::new(),
            transactions: Vec::new(),
        },
        events: events.collect(),
        header,
    }
}

#[tokio::test]
async fn charges_add_up_exactly_and_an_index_of_another_network_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = Index::open(&folder.path().join("index.sqlite")).expect("opened");
    let begun = index
        .change(|c| write::begin(c, "one"))
        .await
        .expect("begun");
    assert_eq!((begun.height, begun.events), (0, 0));
    // More than any integer of SQL holds.
    let large = u128::from(u64::MAX) * 5;
    let blocks = vec![
        block(1, 0, vec![receipt(1, 7, large), receipt(2, 7, 3)]),
        block(2, 2, vec![receipt(3, 8, 4)]),
    ];
    index
        .change(|c| write::take(c, blocks))
        .await
        .expect("taken");
    let done = index
        .change(|c| write::begin(c, "one"))
        .await
        .expect("asked");
    assert_eq!((done.height, done.events), (2, 3));
    let rows = index
        .ask(|c| query::charges(c, Side::Payer, &PAYER, 0))
        .await
        .expect("asked");
    let sums: Vec<Amount> = rows.iter().map(|r| r.amount()).collect();
    assert_eq!(sums, [Amount(large + 3), Amount(4)]);
    assert_eq!(rows[0].moved, 20);
    for (side, account, count) in [
        (Side::Payee, PAYEE, 2),
        (Side::Payee, PAYER, 0),
        (Side::Payer, HOST, 0),
    ] {
        let found = index
            .ask(move |c| query::charges(c, side, &account, 0))
            .await
            .expect("asked");
        assert_eq!(found.len(), count, "{side:?}");
    }
    let of = |filter: EventFilter| index.ask(move |c| query::events(c, &filter, 10));
    let mine = of(EventFilter {
        account: Some(PAYER),
        before: Some(2),
        ..Default::default()
    });
    let mine = mine.await.expect("asked");
    assert_eq!(
        mine.iter().map(|e| e.receipt).collect::<Vec<_>>(),
        [Some(2), Some(1)]
    );
    let other = of(EventFilter {
        deployment: Some(DeploymentId(2)),
        ..Default::default()
    });
    assert!(other.await.expect("asked").is_empty());

    let anew = index
        .change(|c| write::begin(c, "two"))
        .await
        .expect("begun");
    assert_eq!((anew.height, anew.tip), (0, None));
}

#[tokio::test]
async fn a_search_has_no_wildcards() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = Index::open(&folder.path().join("index.sqlite")).expect("opened");
    index
        .change(|c| c.execute("INSERT INTO hosts VALUES ('aa', 'dev-1', 'bb')", []))
        .await
        .expect("written");
    for (text, found) in [
        ("dev", 1),
        ("%", 0),
        ("_ev-1", 0),
        ("'; DROP TABLE hosts; --", 0),
        ("dev-1", 1),
    ] {
        let text = text.to_string();
        let rows = index
            .ask(move |c| query::named(c, &text))
            .await
            .expect("asked");
        assert_eq!(rows.len(), found);
    }
}
