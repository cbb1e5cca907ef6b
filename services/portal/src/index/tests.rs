//! The index, in a file and on a server.

mod heard;
mod lent;
mod operate;
mod starts;

use bench::Postgres;
use ledger::lease::{Charge, Event as Lease, Receipt};
use types::{AccountId, AllocationId, Amount, DeploymentId, Digest, ReceiptId, Resource, Usage};

use super::query::{self, Side};
use super::store::{Row, Value};
use super::write::{self, Certified, Done};
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
            handing: None,
        },
        events: events.collect(),
        header,
    }
}

fn deployed(number: u64, project: &str) -> ledger::Event {
    ledger::Event::Deployment(ledger::deployment::Event::Deployed {
        deployment: DeploymentId(number),
        owner: PAYER,
        project: project.into(),
        release: 1,
        changed: Vec::new(),
    })
}

/// A server of this test.
async fn server() -> Postgres {
    let started = tokio::task::spawn_blocking(Postgres::start).await;
    started
        .expect("run")
        .expect("PostgreSQL (cargo xtask test installs it)")
}

fn on(server: &Postgres) -> Place {
    Place::Server(server.url("bench", "postgres").parse().expect("a URL"))
}

/// What a test needs of both kinds of index, each empty, and what they lie on.
struct Both {
    places: [Place; 2],
    _server: Postgres,
    _folder: tempfile::TempDir,
}

async fn both() -> Both {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server().await;
    Both {
        places: [Place::File(folder.path().join("index.sqlite")), on(&server)],
        _server: server,
        _folder: folder,
    }
}

async fn opened(place: &Place) -> Index {
    Index::open(place.clone()).await.expect("opened")
}

async fn take(index: &Index, after: Done, blocks: Vec<Certified>) -> Result<bool> {
    index.change(move |s| write::take(s, &after, blocks)).await
}

/// More than any integer of SQL holds.
const LARGE: u128 = u64::MAX as u128 * 5;

fn blocks() -> Vec<Certified> {
    vec![
        block(
            1,
            0,
            vec![deployed(1, "shop"), receipt(1, 7, LARGE), receipt(2, 7, 3)],
        ),
        block(
            2,
            3,
            vec![
                receipt(3, 8, 4),
                deployed(2, "nul\0 \u{1f980} '; DROP TABLE blocks"),
            ],
        ),
    ]
}

#[tokio::test]
async fn charges_add_up_exactly() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        assert_eq!((begun.height, begun.events), (0, 0));
        assert!(take(&index, begun, blocks()).await.expect("taken"));
        let done = index.begin("one".into()).await.expect("asked");
        assert_eq!((done.height, done.events), (2, 5));
        let rows = index
            .ask(|s| query::charges(s, Side::Payer, &PAYER, 0, None, 10))
            .await
            .expect("asked");
        let sums: Vec<Amount> = rows.iter().map(|r| r.amount()).collect();
        assert_eq!(sums, [Amount(LARGE + 3), Amount(4)]);
        assert_eq!(rows[0].moved, 20);
        let first = rows[0].clone();
        let behind = index
            .ask(move |s| query::charges(s, Side::Payer, &PAYER, 0, Some(&first), 10))
            .await
            .expect("asked");
        assert_eq!(behind.len(), 1);
        assert_eq!(behind[0].amount(), Amount(4));
        let top = index
            .ask(|s| query::top(s, &PAYER, query::Spent::Host, 0, 3))
            .await
            .expect("asked");
        assert_eq!(top, [(HOST.to_string(), Amount(LARGE + 7))]);
        let ever = |side, account| index.ask(move |s| query::ever(s, side, &account));
        for (side, account) in [(Side::Payer, PAYER), (Side::Payee, PAYEE)] {
            let sum = ever(side, account).await.expect("asked");
            assert_eq!(sum, Amount(LARGE + 7), "{side:?}");
        }
        assert_eq!(ever(Side::Payee, PAYER).await.expect("asked"), Amount::ZERO);
        let totals = index.ask(query::totals).await.expect("asked");
        assert_eq!(totals.paid, Amount(LARGE + 7));
        for (side, account, count) in [
            (Side::Payee, PAYEE, 2),
            (Side::Payee, PAYER, 0),
            (Side::Payer, HOST, 0),
        ] {
            let found = index
                .ask(move |s| query::charges(s, side, &account, 0, None, 10))
                .await
                .expect("asked");
            assert_eq!(found.len(), count, "{side:?}");
        }
        let of = |filter: EventFilter| index.ask(move |s| query::events(s, &filter, 10));
        let mine = of(EventFilter {
            account: Some(PAYER),
            before: Some(3),
            ..Default::default()
        });
        let mine = mine.await.expect("asked");
        assert_eq!(
            mine.iter().map(|e| e.receipt).collect::<Vec<_>>(),
            [Some(2), Some(1), None]
        );
        let other = of(EventFilter {
            deployment: Some(DeploymentId(3)),
            ..Default::default()
        });
        assert!(other.await.expect("asked").is_empty());
    }
}

/// Everything that pages ask.
fn all(s: &Store) -> Result<String> {
    let filter = EventFilter {
        deployment: Some(DeploymentId(1)),
        host: Some(HOST.to_string()),
        account: Some(PAYER),
        kind: Some("receipt".into()),
        height: Some(1),
        before: Some(u64::MAX),
    };
    let digest = blocks()[1].header.digest().hex();
    Ok(format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        query::names(s)?.projects,
        query::blocks(s, None, 10)?,
        query::blocks(s, Some(2), 1)?,
        query::height_of(s, &digest)?,
        query::transactions(s, None, true, 10)?,
        query::transactions_of(s, &PAYER, 10)?,
        query::last_acts(s, &PAYER)?,
        query::events(s, &EventFilter::default(), 10)?,
        query::events(s, &filter, 10)?,
        query::charges(s, Side::Payee, &PAYEE, 8, None, 10)?,
        query::activity(s, &PAYER, 0)?,
        query::totals(s)?,
        query::per_minute(s, 60_000, 3)?,
    ))
}

#[tokio::test]
async fn sums_of_months_are_some_rows_and_items_go_page_by_page() {
    const JOBS: u64 = 7;
    let both = both().await;
    let mut answers = Vec::new();
    for place in &both.places {
        let index = opened(place).await;
        // Two months, in two steps: what the second adds falls on rows of the first.
        for step in 0..2 {
            let begun = index.begin("one".into()).await.expect("begun");
            let mut events = Vec::new();
            for number in 0..JOBS {
                for hour in [7, 24 * 40] {
                    let ledger::Event::Lease(Lease::Settled(mut one)) = receipt(1, hour, 5) else {
                        panic!("a receipt");
                    };
                    one.deployment = DeploymentId(number + 4);
                    events.push(ledger::Event::Lease(Lease::Settled(one)));
                }
            }
            let step = vec![block(step + 1, begun.events, events)];
            assert!(take(&index, begun, step).await.expect("taken"));
        }
        let (january, february) = (1970 * 12, 1970 * 12 + 1);
        let sums = |side, of: AccountId| {
            index.ask(move |s| query::sums_of(s, side, &of, january - 3..=february))
        };
        let spent = sums(Side::Payer, PAYER).await.expect("asked");
        let amounts: Vec<_> = spent.iter().map(|r| (r.month, r.amount())).collect();
        let each = Amount(u128::from(JOBS) * 10);
        assert_eq!(amounts, [(january, each), (february, each)]);
        assert_eq!(sums(Side::Payee, PAYEE).await.expect("asked").len(), 2);
        assert!(sums(Side::Payee, PAYER).await.expect("asked").is_empty());
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let after = before.clone();
            let part = index
                .ask(move |s| query::items_of(s, Side::Payer, &PAYER, january, after.as_ref(), 3));
            let part = part.await.expect("asked");
            let Some(last) = part.last() else { break };
            before = Some((last.month, last.subject.clone()));
            assert!(part.len() <= 3);
            all.extend(part);
        }
        assert_eq!(all.len() as u64, 2 * JOBS);
        assert!(all.iter().all(|row| row.amount() == Amount(10)));
        assert_eq!(all[0].month, february);
        assert_eq!(all[0].subject, query::subject_of(DeploymentId(JOBS + 3)));
        let receipts = index.ask(query::totals).await.expect("asked").receipts;
        assert_eq!(receipts, 4 * JOBS);
        answers.push((spent, all));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_file_and_a_server_answer_alike_and_so_does_an_index_made_anew() {
    let both = both().await;
    let mut answers = Vec::new();
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        let empty = index.ask(all).await.expect("asked");
        take(&index, begun, blocks()).await.expect("taken");
        let full = index.ask(all).await.expect("asked");
        assert_ne!(empty, full);
        answers.push((
            empty,
            full.replace('\0', "\u{fffd}").replace("\\0", "\u{fffd}"),
        ));
    }
    assert_eq!(answers[0], answers[1]);
    let index = opened(&both.places[1]).await;
    index
        .change(|s| s.batch("DROP SCHEMA runrig_index CASCADE"))
        .await
        .expect("given up");
    let begun = index.begin("two".into()).await.expect("begun");
    take(&index, begun, blocks()).await.expect("taken");
    assert_eq!(index.ask(all).await.expect("asked"), answers[1].1);
}

#[tokio::test]
async fn an_index_of_another_network_is_made_anew_in_a_file_and_refused_on_a_server() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        take(&index, begun, blocks()).await.expect("taken");
    }
    let file = opened(&both.places[0]).await;
    let anew = file.begin("two".into()).await.expect("begun");
    assert_eq!((anew.height, anew.tip), (0, None));
    let server = opened(&both.places[1]).await;
    let said = server
        .begin("two".into())
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        said.contains("another network (one)") && said.contains("of its own"),
        "{said}"
    );
    // Nobody is shown what is of the other.
    let shown = server.ask(query::totals).await.expect_err("refused");
    assert!(shown.to_string().contains("another network"), "{shown}");
    let kept = server.begin("one".into()).await.expect("begun");
    assert_eq!(kept.height, 2);
    assert_eq!(server.ask(query::totals).await.expect("asked").events, 5);
}

#[tokio::test]
async fn an_older_index_is_kept_until_it_can_be_made_anew() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        take(&index, begun, blocks()).await.expect("taken");
        assert!(!index.is_old().await.expect("asked"));
        index
            .change(|s| s.execute("UPDATE facts SET value = '1' WHERE name = 'version'", &[]))
            .await
            .expect("written");
        let index = opened(place).await;
        assert!(index.is_old().await.expect("asked"));
        let said = index.ask(query::totals).await.expect_err("closed");
        assert!(said.to_string().contains("another version"), "{said}");
        let kept = index.change(|s| s.rows("SELECT height FROM blocks", &[]));
        assert_eq!(kept.await.expect("asked").len(), 2);
        // Whoever knows that the chain has all goes on.
        assert_eq!(index.begin("one".into()).await.expect("begun").height, 0);
        assert_eq!(index.ask(query::totals).await.expect("asked").events, 0);
        assert!(!index.is_old().await.expect("asked"));
    }
}

#[tokio::test]
async fn what_ends_early_leaves_nothing() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        // The third has the first's height.
        let mut wrong = blocks();
        wrong.push(block(1, 5, Vec::new()));
        take(&index, begun, wrong).await.expect_err("refused");
        let begun = index.begin("one".into()).await.expect("begun");
        assert_eq!((begun.height, begun.events), (0, 0));
        let panics = index.change(|s| {
            s.transaction(|s| -> Result<()> {
                s.execute("INSERT INTO hosts VALUES ('a', 'b', 'c')", &[])?;
                panic!("in the middle")
            })
        });
        panics.await.expect_err("it panics");
        assert!(take(&index, begun, blocks()).await.expect("goes on"));
        let hosts = index.ask(|s| query::named(s, "")).await.expect("asked");
        assert!(hosts.is_empty());
    }
}

#[tokio::test]
async fn portals_on_one_index_take_turns() {
    let both = both().await;
    for place in &both.places {
        let portals = [
            opened(place).await,
            opened(place).await,
            opened(place).await,
        ];
        let mut tasks = Vec::new();
        for portal in &portals {
            let portal = portal.clone();
            tasks.push(tokio::spawn(async move {
                let mut taken = 0;
                loop {
                    let done = portal.begin("one".into()).await.expect("begun");
                    if done.height == 60 {
                        return taken;
                    }
                    let (height, events) = (done.height + 1, done.events);
                    let next = block(height, events, vec![receipt(height, 7, 1)]);
                    taken += u64::from(take(&portal, done, vec![next]).await.expect("taken"));
                }
            }));
        }
        let mut taken = 0;
        for task in tasks {
            taken += task.await.expect("ran");
        }
        assert_eq!(taken, 60, "each block once");
        let charges = portals[0]
            .ask(|s| query::charges(s, Side::Payer, &PAYER, 0, None, 10))
            .await
            .expect("asked");
        assert_eq!(charges[0].amount(), Amount(60));
    }
}

#[tokio::test]
async fn a_search_has_no_wildcards() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        index
            .change(|s| s.execute("INSERT INTO hosts VALUES ('aa', 'Dev-1', 'bb')", &[]))
            .await
            .expect("written");
        for (text, found) in [
            ("dev", 1),
            ("DEV", 1),
            ("a", 1),
            ("%", 0),
            ("_ev-1", 0),
            ("'; DROP TABLE hosts; --", 0),
            ("dev-1", 1),
        ] {
            let rows = index
                .ask(move |s| query::named(s, text))
                .await
                .expect("asked");
            assert_eq!(rows.len(), found, "{text}");
        }
    }
}

#[tokio::test]
async fn a_session_that_is_lost_is_made_anew() {
    let server = server().await;
    let index = opened(&on(&server)).await;
    index.begin("one".into()).await.expect("begun");
    index.ask(query::totals).await.expect("asked");
    let other = opened(&on(&server)).await;
    let ended = other.change(|s| {
        s.rows(
            "SELECT CAST(count(pg_terminate_backend(pid)) AS BIGINT) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            &[],
        )
    });
    assert_eq!(ended.await.expect("ended"), [Row(vec![Value::Number(2)])]);
    // The first question may be the one that hears of it.
    while index.ask(query::totals).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    while index.begin("one".into()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said() {
    let server = server().await;
    let index = opened(&on(&server)).await;
    index
        .change(|s| {
            s.batch("CREATE ROLE guest LOGIN PASSWORD 'right'")?;
            s.batch("CREATE DATABASE empty")
        })
        .await
        .expect("made");
    let access = server.folder().join("data/pg_hba.conf");
    let rules = std::fs::read_to_string(&access).expect("read");
    std::fs::write(&access, format!("local all guest scram-sha-256\n{rules}")).expect("written");
    index
        .change(|s| s.batch("SELECT pg_reload_conf()"))
        .await
        .expect("read anew");
    let nobody = "postgres://portal:secret@127.0.0.1:1/index".to_string();
    let wrong = server.url("guest:secret", "empty");
    let none = server.url("guest:right", "none");
    let not_its_own = server.url("guest:right", "empty");
    for (url, why, next) in [
        (nobody, "does not answer", "is the server running"),
        (wrong, "password authentication failed", "mend the password"),
        (none, "does not exist", "createdb"),
        (not_its_own, "permission denied", "ALTER DATABASE"),
    ] {
        // A server reads its rules anew in a moment.
        let said = loop {
            let opened = Index::open(Place::Server(url.parse().expect("a URL"))).await;
            match opened {
                Err(error) => break format!("{error:#}"),
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        };
        assert!(said.contains(why) && said.contains(next), "{said}");
        assert!(
            !said.contains("secret") && !said.contains("right:"),
            "{said}"
        );
    }
    for (url, why) in [
        ("mysql://x", "at no URL of PostgreSQL"),
        ("postgres://secret@:bad:port/x", "the URL of the index"),
        ("postgres:///x", "names no host"),
        (
            "postgres://u:secret@h/x?sslmode=sure",
            "an sslmode that is none",
        ),
        (
            "postgres://u:secret@h/x?sslrootcert=/nowhere",
            "sslmode=verify-full too",
        ),
        (
            "postgres://u:secret@h/x?sslmode=require&sslrootcert=/nowhere",
            "sslrootcert /nowhere",
        ),
        (
            "postgres://u:secret@h/x?sslrootcert",
            "the URL of the index",
        ),
    ] {
        let said = url.parse::<Address>().err().expect("refused").to_string();
        assert!(said.contains(why) && !said.contains("secret"), "{said}");
    }
    index
        .change(|s| s.execute("UPDATE facts SET value = '999' WHERE name = 'version'", &[]))
        .await
        .expect("written");
    let newer = Index::open(on(&server)).await.err().expect("refused");
    assert!(newer.to_string().contains("upgrade this portal"), "{newer}");
    let newer = index.begin("one".into()).await.expect_err("refused");
    assert!(newer.to_string().contains("number 999"), "{newer}");
}

#[test]
fn a_server_that_is_too_old_is_refused() {
    let old = server::enough(130_022).expect_err("refused").to_string();
    assert!(
        old.contains("PostgreSQL 13") && old.contains("14 or newer"),
        "{old}"
    );
    server::enough(140_000).expect("enough");
}

/// Only who shows a certificate of the authority that was named is spoken to.
#[tokio::test]
async fn a_server_is_reached_by_tls_and_must_be_who_it_says() {
    let pair = |name: &str| rcgen::generate_simple_self_signed([name.to_string()]).expect("made");
    let (own, other) = (pair("127.0.0.1"), pair("127.0.0.1"));
    let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let started = tokio::task::spawn_blocking(move || bench::Postgres::secured(&cert, &key)).await;
    let server = started.expect("no panic").expect("it starts");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (own, other) = (file("own", own.cert.pem()), file("other", other.cert.pem()));
    let url = server.tcp_url("bench", "postgres");
    let open = |query: String| {
        let place = format!("{url}?{query}").parse().map(Place::Server);
        async move { Index::open(place?).await }
    };
    let index = open(format!(
        "sslmode=verify-full&sslrootcert={own}&connect_timeout=5"
    ));
    let index = index.await.expect("opened");
    let encrypted = index.change(|s| {
        s.rows(
            "SELECT CAST(count(*) AS BIGINT) FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()",
            &[],
        )
    });
    assert_eq!(
        encrypted.await.expect("asked"),
        [Row(vec![Value::Number(1)])]
    );
    for query in [
        format!("sslmode=require&sslrootcert={other}"),
        "sslmode=require".into(),
    ] {
        let why = format!("{:#}", open(query.clone()).await.err().expect("refused"));
        assert!(why.contains("sslrootcert"), "{query}: {why}");
    }
    open("sslmode=prefer".into()).await.expect("without TLS");
}
