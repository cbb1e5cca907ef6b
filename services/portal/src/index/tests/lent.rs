//! What lenders ask, on both kinds of index.

use ledger::deployment::Event as D;
use ledger::host::Event as H;
use types::{AllocationStatus, RunState};

use super::*;
use crate::index::lent::{self, PayoutFilter, Runs};

const OTHER: AccountId = AccountId([4; 20]);

fn placed(allocation: u64, service: &str, host: AccountId) -> ledger::Event {
    ledger::Event::Deployment(D::AllocationPlaced {
        deployment: DeploymentId(1),
        allocation: AllocationId(allocation),
        service: service.into(),
        replica: 1,
        host,
    })
}

fn exited(allocation: u64, code: i32) -> ledger::Event {
    ledger::Event::Lease(Lease::StatusChanged {
        deployment: DeploymentId(1),
        allocation: AllocationId(allocation),
        service: "web".into(),
        replica: 1,
        host: HOST,
        status: AllocationStatus {
            state: RunState::Exited,
            exit_code: Some(code),
            ..AllocationStatus::default()
        },
    })
}

fn left(allocation: u64) -> ledger::Event {
    ledger::Event::Deployment(D::AllocationLeaves {
        deployment: DeploymentId(1),
        allocation: AllocationId(allocation),
        service: "web".into(),
        replica: 1,
    })
}

fn closed(allocation: u64) -> ledger::Event {
    ledger::Event::Lease(Lease::LeaseClosed {
        deployment: DeploymentId(1),
        allocation: AllocationId(allocation),
        charged: Amount::ZERO,
    })
}

fn stopped(service: Option<&str>) -> ledger::Event {
    ledger::Event::Deployment(D::SetRunning {
        deployment: DeploymentId(1),
        service: service.map(str::to_string),
        running: false,
    })
}

#[tokio::test]
async fn a_run_ends_well_unless_it_failed_while_it_was_wanted() {
    let offline = |excused| {
        ledger::Event::Host(H::HostOffline {
            host: HOST,
            last_seen_ms: 0,
            excused,
        })
    };
    let online = ledger::Event::Host(H::HostOnline { host: HOST });
    let again = ledger::Event::Deployment(D::TriedAgain {
        deployment: DeploymentId(1),
        allocation: AllocationId(1),
        service: "web".into(),
        replica: 1,
        host: HOST,
        times: 1,
        why: String::new(),
    });
    let cases = [
        (
            "told to leave, it exits as it likes",
            vec![left(1), exited(1, 137)],
            true,
        ),
        ("stopped", vec![stopped(None), exited(1, 143)], true),
        (
            "another service is stopped",
            vec![stopped(Some("db")), exited(1, 143)],
            false,
        ),
        ("it fails", vec![exited(1, 1)], false),
        (
            "it fails and comes back",
            vec![exited(1, 1), exited(1, 0)],
            true,
        ),
        ("not made ready", vec![again, exited(1, 0)], false),
        ("its host is lost", vec![offline(false), left(1)], false),
        (
            "its host is lost and heard again",
            vec![offline(false), online],
            true,
        ),
        ("outside its hours", vec![offline(true)], true),
    ];
    let both = both().await;
    for place in &both.places {
        let mut events = vec![deployed(1, "shop")];
        for (at, (_, story, _)) in (1u64..).zip(&cases) {
            events.push(placed(at, "web", HOST));
            for event in story {
                let mut event = event.clone();
                match &mut event {
                    ledger::Event::Deployment(
                        D::AllocationLeaves { allocation, .. } | D::TriedAgain { allocation, .. },
                    )
                    | ledger::Event::Lease(Lease::StatusChanged { allocation, .. }) => {
                        *allocation = AllocationId(at);
                    }
                    _ => {}
                }
                events.push(event);
            }
            events.push(closed(at));
        }
        // One that runs on.
        events.push(placed(99, "web", OTHER));
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        let taken = take(&index, begun, vec![block(1, 0, events)]).await;
        assert!(taken.expect("taken"));
        let rows = index.ask(|s| {
            let rows = s.rows("SELECT failed + lost FROM runs ORDER BY allocation", &[])?;
            rows.iter()
                .map(|row| row.get::<u64>(0))
                .collect::<Result<Vec<_>>>()
        });
        for ((what, _, well), bad) in cases.iter().zip(rows.await.expect("asked")) {
            assert_eq!(bad == 0, *well, "{what}");
        }
        let found = index.ask(|s| lent::runs(s, &[HOST, OTHER])).await;
        let well = cases.iter().filter(|(_, _, well)| *well).count() as u64;
        let ended = cases.len() as u64;
        let expected = [(HOST, Runs { ended, well })];
        assert_eq!(found.expect("asked"), expected.into());
    }
    assert_eq!(Runs::default().milli(), None);
    assert_eq!(Runs { ended: 8, well: 7 }.milli(), Some(875));
}

#[tokio::test]
async fn payments_to_a_lender_go_page_by_page_and_by_host() {
    let both = both().await;
    for place in &both.places {
        let mut events: Vec<_> = (1..=5).map(|n| receipt(n, 7, u128::from(n))).collect();
        // Over nothing, and for another host.
        events.push(receipt(6, 7, 0));
        let ledger::Event::Lease(Lease::Settled(mut other)) = receipt(7, 7, 9) else {
            panic!("a receipt");
        };
        other.host = OTHER;
        events.push(ledger::Event::Lease(Lease::Settled(other)));
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        let taken = take(&index, begun, vec![block(1, 0, events)]).await;
        assert!(taken.expect("taken"));
        let of = async |payee, host, before, count| {
            let filter = PayoutFilter {
                payee,
                host,
                before,
            };
            let rows = index.ask(move |s| lent::payouts(s, &filter, count)).await;
            let rows = rows.expect("asked").into_iter();
            let rows = rows.map(|r| (r.event.receipt.expect("one"), r.event.sequence));
            rows.collect::<Vec<_>>()
        };
        let first = of(PAYEE, None, None, 2).await;
        assert_eq!(first.iter().map(|r| r.0).collect::<Vec<_>>(), [7, 5]);
        let rest = of(PAYEE, None, Some(first[1].1), 9).await;
        assert_eq!(rest.iter().map(|r| r.0).collect::<Vec<_>>(), [4, 3, 2, 1]);
        assert_eq!(of(PAYEE, Some(OTHER), None, 9).await.len(), 1);
        // Who pays is not paid.
        assert!(of(PAYER, None, None, 9).await.is_empty());
    }
}
