//! How soon things run and why they fail, on both kinds of index.

use ledger::deployment::Event as D;
use types::{AllocationStatus, RunState};

use super::*;
use crate::index::starts::{self, Spread};

fn unplaced(replica: u32) -> ledger::Event {
    ledger::Event::Deployment(D::Unplaced {
        deployment: DeploymentId(1),
        service: "web".into(),
        replica,
        why: "no host".into(),
    })
}

fn placed(allocation: u64, replica: u32) -> ledger::Event {
    ledger::Event::Deployment(D::AllocationPlaced {
        deployment: DeploymentId(1),
        allocation: AllocationId(allocation),
        service: "web".into(),
        replica,
        host: HOST,
    })
}

fn told(allocation: u64, state: RunState, code: Option<i32>, oom_killed: bool) -> ledger::Event {
    ledger::Event::Lease(Lease::StatusChanged {
        deployment: DeploymentId(1),
        allocation: AllocationId(allocation),
        service: "web".into(),
        replica: 1,
        host: HOST,
        status: AllocationStatus {
            state,
            exit_code: code,
            oom_killed,
            message: "<script>".into(),
            ..AllocationStatus::default()
        },
    })
}

fn ready(allocation: u64) -> ledger::Event {
    told(allocation, RunState::Running, None, false)
}

#[tokio::test]
async fn waits_and_starts_are_counted_from_the_blocks_that_tell_of_them() {
    let leaves = ledger::Event::Deployment(D::AllocationLeaves {
        deployment: DeploymentId(1),
        allocation: AllocationId(1),
        service: "web".into(),
        replica: 1,
    });
    let exited = |code| told(1, RunState::Exited, Some(code), false);
    // A block a second.
    let stories = vec![
        vec![deployed(1, "shop"), placed(1, 1), unplaced(2), unplaced(3)],
        vec![ready(1)],
        vec![exited(1), told(1, RunState::Failed, None, false)],
        vec![ready(1), exited(1), exited(0)],
        vec![placed(2, 2), told(1, RunState::Exited, Some(137), true)],
        vec![leaves, exited(143)],
        vec![placed(3, 2)],
        vec![ready(2)],
    ];
    let both = both().await;
    for place in &both.places {
        let index = opened(place).await;
        let begun = index.begin("one".into()).await.expect("begun");
        let mut first = 0;
        let blocks = (1..).zip(&stories).map(|(height, events)| {
            let block = block(height, first, events.clone());
            first += events.len() as u64;
            block
        });
        let blocks = blocks.collect();
        assert!(take(&index, begun, blocks).await.expect("taken"));
        let asked = index.ask(|s| {
            let of = |who, since| {
                Ok::<_, anyhow::Error>((
                    starts::waited(s, who, since)?,
                    starts::started(s, who, since)?,
                    starts::never_ready(s, who, since)?,
                    starts::failures(s, who, since)?,
                ))
            };
            Ok((of(&PAYER, 0)?, of(&PAYER, 6_000)?, of(&PAYEE, 0)?))
        });
        let (all, late, nobody) = asked.await.expect("asked");
        let spread = |count, half_ms, p95_ms| {
            Some(Spread {
                count,
                half_ms,
                p95_ms,
            })
        };
        assert_eq!(all.0, spread(3, 0, 4_000), "of 0, 4 and 0 seconds");
        assert_eq!(all.1, spread(2, 1_000, 3_000));
        assert_eq!(all.2, 1);
        let cause = |name: &str, count| (name.to_string(), count);
        assert_eq!(
            all.3,
            [
                cause("Exited with 1", 2),
                cause("No host fits", 2),
                cause("Could not be run", 1),
                cause("Out of memory", 1),
            ],
            "and not what was told to leave"
        );
        assert_eq!((late.0, late.1), (spread(1, 0, 0), None));
        assert_eq!(late.3, []);
        assert_eq!(nobody, (None, None, 0, Vec::new()));
    }
}
