//! What operators ask, on both kinds of index.

use ledger::Event;
use ledger::deployment::Event as D;
use ledger::host::Event as H;
use types::PublicKey;

use super::*;
use crate::index::operate::{self, ActFilter};

const SEATS: [PublicKey; 4] = [
    PublicKey([1; 32]),
    PublicKey([2; 32]),
    PublicKey([3; 32]),
    PublicKey([4; 32]),
];

fn unplaced(replica: u32, why: &str) -> Event {
    Event::Deployment(D::Unplaced {
        deployment: DeploymentId(1),
        service: "web".into(),
        replica,
        why: why.into(),
    })
}

fn placed(replica: u32) -> Event {
    Event::Deployment(D::AllocationPlaced {
        deployment: DeploymentId(1),
        allocation: AllocationId(9),
        service: "web".into(),
        replica,
        host: HOST,
    })
}

/// A block of epoch 1 in `view` after one in `parent`, led by who has that turn.
fn led(height: u64, first: u64, parent: u64, view: u64, events: Vec<Event>) -> Certified {
    let mut block = block(height, first, events);
    block.header.epoch = 1;
    block.header.parent_view = parent;
    block.header.view = view;
    block.header.proposer = SEATS[((1 + view) % 4) as usize].0;
    block
}

fn signed(id: u8, refused: bool, call: ledger::Call) -> api::TransactionView {
    let rejection = ledger::Rejection {
        kind: ledger::RejectKind::Invalid,
        what: "transfer".into(),
        why: "it may not".into(),
        next: String::new(),
    };
    api::TransactionView {
        id: Digest([id; 32]),
        status: match refused {
            true => api::TransactionStatus::Rejected,
            false => api::TransactionStatus::Applied,
        },
        height: Some(1),
        rejection: refused.then_some(rejection),
        fee: Amount::ZERO,
        sender: Some(PAYER),
        signer: Some(AccountId([id; 20])),
        on_behalf: vec![PAYEE, PAYER],
        call: Some(call),
        events: Vec::new(),
    }
}

fn story() -> Vec<Certified> {
    let no_room = "no host fits replica 0 (1 CPU, 1 MiB memory, 0 MiB disk, 0 kbit/s); hosts dropped: 1 by online, 2 by resources";
    let mut end = block(1, 0, vec![deployed(1, "shop"), unplaced(0, no_room)]);
    end.view.handing = Some(api::HandingView {
        done: false,
        seats: SEATS.to_vec(),
        revealed: Vec::new(),
    });
    let transfer = ledger::Call::Account(ledger::account::Call::Transfer {
        to: PAYEE,
        amount: Amount(1),
        memo: String::new(),
    });
    let beat = ledger::Call::Host(ledger::host::Call::Heartbeat);
    end.view.transactions = vec![
        signed(1, false, transfer.clone()),
        signed(2, true, transfer),
        signed(3, false, beat),
    ];
    let silent = Event::Host(H::HostOffline {
        host: HOST,
        last_seen_ms: 500,
        excused: false,
    });
    vec![
        end,
        led(2, 2, 0, 1, vec![silent]),
        // Views 2 to 6 went by without a block: one leader missed two of them.
        led(
            3,
            3,
            1,
            7,
            vec![unplaced(
                1,
                "the volumes of replica 1 are on x, which is silent",
            )],
        ),
        led(
            4,
            4,
            7,
            8,
            vec![placed(0), Event::Host(H::HostOnline { host: HOST })],
        ),
    ]
}

#[tokio::test]
async fn incidents_begin_go_on_and_end() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        assert!(take(&index, begun, story()).await.expect("taken"));
        let rows = index
            .ask(|s| operate::incidents(s, None, false, 0, 0))
            .await
            .expect("asked");
        let of = |kind: &str| rows.iter().filter(|r| r.kind == kind).collect::<Vec<_>>();
        let silent = of("silent");
        assert_eq!(silent.len(), 1);
        assert_eq!((silent[0].from_ms, silent[0].until_ms), (500, Some(4_000)));
        let turns: std::collections::BTreeMap<_, _> = of("turns")
            .into_iter()
            .map(|r| (r.subject.clone(), (r.times, r.until_ms)))
            .collect();
        // Views 2 to 6 of epoch 1 are those of seats 3, 0, 1, 2, 3; view 7 that of 0, view 8 of 1.
        let expected = [
            (0, 1, Some(3_000)),
            (1, 1, Some(4_000)),
            (2, 1, None),
            (3, 2, None),
        ];
        assert_eq!(
            turns,
            expected
                .into_iter()
                .map(|(seat, times, until): (usize, u64, Option<u64>)| {
                    (SEATS[seat].to_string(), (times, until))
                })
                .collect()
        );
        let ceremony = of("ceremony");
        assert_eq!(
            (ceremony[0].subject.as_str(), ceremony[0].until_ms),
            ("1", None)
        );
        let open = index
            .ask(|s| operate::incidents(s, Some("turns"), true, 0, 0))
            .await
            .expect("asked");
        assert_eq!(open.len(), 2);
        let counts = index
            .ask(|s| operate::incident_counts(s, 4_000))
            .await
            .expect("asked");
        let turns = counts.iter().find(|c| c.name == "turns").expect("there");
        assert_eq!((turns.all, turns.open), (3, 2), "one was over before");
        let missed = index.ask(|s| operate::missed(s, 0)).await.expect("asked");
        assert_eq!(missed.values().sum::<u64>(), 5);
    }
}

#[tokio::test]
async fn a_share_that_was_shown_is_told_once() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        let mut story = story();
        story[0].view.handing = Some(api::HandingView {
            done: true,
            seats: SEATS.to_vec(),
            revealed: vec![SEATS[2]],
        });
        assert!(take(&index, begun, story).await.expect("taken"));
        let rows = index
            .ask(|s| operate::incidents(s, Some("revealed"), false, 0, 0))
            .await
            .expect("asked");
        let told: Vec<_> = rows
            .iter()
            .map(|r| (r.subject.clone(), r.until_ms))
            .collect();
        assert_eq!(told, [(SEATS[2].to_string(), Some(1_000))]);
    }
}

#[tokio::test]
async fn a_replica_waits_until_it_has_a_place_and_causes_are_counted() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        assert!(take(&index, begun, story()).await.expect("taken"));
        let asked = index.ask(|s| {
            Ok((
                operate::waits(s, None, 0, 0)?,
                operate::waits(s, Some("resources"), 0, 0)?,
                operate::cause_counts(s, 0)?,
                operate::wait_counts(s, 0)?,
                operate::wait_counts(s, 4_001)?,
                operate::placed_per_minute(s, 60_000, 2)?,
            ))
        });
        let (all, some, causes, counts, later, placed) = asked.await.expect("asked");
        let spans = |rows: &[operate::WaitRow]| {
            rows.iter()
                .map(|r| (r.replica, r.until_ms))
                .collect::<Vec<_>>()
        };
        assert_eq!(spans(&all), [(1, None), (0, Some(4_000))]);
        assert_eq!(spans(&some), [(0, Some(4_000))]);
        let causes: Vec<_> = causes
            .iter()
            .map(|c| (c.name.as_str(), c.all, c.open))
            .collect();
        assert_eq!(
            causes,
            [
                ("host of its volumes", 1, 1),
                ("online", 1, 0),
                ("resources", 1, 0)
            ]
        );
        assert_eq!((counts, later), ((2, 1), (1, 1)));
        assert_eq!(placed, [1, 0]);
    }
}

#[tokio::test]
async fn acts_are_found_by_who_signed_what_for_whom() {
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        assert!(take(&index, begun, story()).await.expect("taken"));
        let none = ActFilter::default;
        for (filter, positions) in [
            (none(), vec![1, 0]),
            (
                ActFilter {
                    routine: true,
                    ..none()
                },
                vec![2, 1, 0],
            ),
            (
                ActFilter {
                    account: Some(PAYEE),
                    ..none()
                },
                vec![1, 0],
            ),
            (
                ActFilter {
                    account: Some(HOST),
                    ..none()
                },
                vec![],
            ),
            (
                ActFilter {
                    key: Some(AccountId([2; 20])),
                    ..none()
                },
                vec![1],
            ),
            (
                ActFilter {
                    refused: Some(true),
                    ..none()
                },
                vec![1],
            ),
            (
                ActFilter {
                    refused: Some(false),
                    ..none()
                },
                vec![0],
            ),
            (
                ActFilter {
                    kind: Some("transfer".into()),
                    before: Some((1, 1)),
                    ..none()
                },
                vec![0],
            ),
            (
                ActFilter {
                    before: Some((1, 0)),
                    ..none()
                },
                vec![],
            ),
            (
                ActFilter {
                    kind: Some("deploy".into()),
                    ..none()
                },
                vec![],
            ),
        ] {
            let case = format!("{filter:?}");
            let rows = index.ask(move |s| operate::acts(s, &filter, 10)).await;
            let found: Vec<u64> = rows.expect("asked").iter().map(|r| r.position).collect();
            assert_eq!(found, positions, "{case}");
        }
    }
}
