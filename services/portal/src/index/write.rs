//! Write certified blocks.

use api::{BlockView, EventView, TransactionStatus, TransactionView};
use ledger::{Call, Event, account, deployment, host, lease};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use types::{AccountId, Amount, DeploymentId, Resource};

use super::reset;
use crate::words::{self, Names};

/// Signs of life and reports older than so many blocks are forgotten: they are most of a
/// chain, and the API still has them.
const ROUTINE_KEPT: u64 = 20_000;
const HOUR_MS: u64 = 3_600_000;

/// A block that was checked, with its events.
pub struct Certified {
    pub view: BlockView,
    pub header: light::Header,
    pub events: Vec<EventView>,
}

/// Where the index is.
pub struct Done {
    pub height: u64,
    /// Digest of the last block.
    pub tip: Option<String>,
    /// Number of the next event.
    pub events: u64,
}

/// An index of another network is dropped.
pub fn begin(connection: &mut Connection, network: &str) -> rusqlite::Result<Done> {
    let kept: Option<String> = connection
        .query_row("SELECT value FROM facts WHERE name = 'network'", [], |r| {
            r.get(0)
        })
        .optional()?;
    if kept.as_deref() != Some(network) {
        reset(connection)?;
        connection.execute("INSERT INTO facts VALUES ('network', ?1)", [network])?;
    }
    let last = connection
        .query_row(
            "SELECT height, digest FROM blocks ORDER BY height DESC LIMIT 1",
            [],
            |r| Ok((r.get::<_, u64>(0)?, r.get::<_, String>(1)?)),
        )
        .optional()?;
    let events: Option<u64> =
        connection.query_row("SELECT max(sequence) + 1 FROM events", [], |r| r.get(0))?;
    let (height, tip) = last.map_or((0, None), |(height, tip)| (height, Some(tip)));
    Ok(Done {
        height,
        tip,
        events: events.unwrap_or(0),
    })
}

/// All of them, or none.
pub fn take(connection: &mut Connection, blocks: Vec<Certified>) -> rusqlite::Result<()> {
    let mut names = super::query::names(connection)?;
    let change = connection.transaction()?;
    let mut height = 0;
    for block in &blocks {
        height = block.header.height;
        change
            .prepare_cached("INSERT INTO blocks VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                height,
                block.header.time_ms,
                block.header.digest().hex(),
                hex::encode(block.header.proposer),
                block.view.transactions.len() as u64,
                block.events.len() as u64,
            ])?;
        // Names that the block's own sentences need.
        for event in &block.events {
            learn(&change, &mut names, &event.event, block.header.time_ms)?;
        }
        transactions(&change, &names, block)?;
        for event in &block.events {
            write_event(&change, &names, event)?;
        }
    }
    change.execute(
        "DELETE FROM transactions WHERE routine = 1 AND height < ?1",
        [height.saturating_sub(ROUTINE_KEPT)],
    )?;
    change.commit()
}

fn learn(
    change: &Transaction,
    names: &mut Names,
    event: &Event,
    time_ms: u64,
) -> rusqlite::Result<()> {
    match event {
        Event::Host(host::Event::HostRegistered {
            host, name, owner, ..
        }) => {
            names.hosts.insert(*host, name.clone());
            change.execute(
                "INSERT OR REPLACE INTO hosts VALUES (?1, ?2, ?3)",
                params![host.to_string(), name, owner.to_string()],
            )?;
        }
        Event::Deployment(deployment::Event::Deployed {
            deployment,
            owner,
            project,
            ..
        }) => {
            names.projects.insert(*deployment, project.clone());
            change.execute(
                "INSERT OR IGNORE INTO deployments VALUES (?1, ?2, ?3, ?4)",
                params![deployment.0, owner.to_string(), project, time_ms],
            )?;
        }
        _ => {}
    }
    Ok(())
}

fn transactions(change: &Transaction, names: &Names, block: &Certified) -> rusqlite::Result<()> {
    let mut insert = change.prepare_cached(
        "INSERT OR REPLACE INTO transactions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for (position, view) in block.view.transactions.iter().enumerate() {
        let sender = view.sender.as_ref();
        let (kind, words) = match (&view.call, sender) {
            (Some(call), Some(sender)) => (words::kind(call), words::call(call, sender, names)),
            _ => ("unreadable", "Bytes that are no transaction".into()),
        };
        let refused = match view.status {
            TransactionStatus::Rejected => Some(
                view.rejection
                    .as_ref()
                    .map_or_else(|| "rejected".into(), |r| r.why.clone()),
            ),
            _ => None,
        };
        insert.execute(params![
            view.id.hex(),
            block.header.height,
            position as u64,
            block.header.time_ms,
            sender.map(|s| s.to_string()),
            kind,
            words,
            refused,
            view.call.as_ref().is_some_and(is_routine),
            actor(view).map(|a| a.to_string()),
        ])?;
    }
    Ok(())
}

/// Whom the sender let do this: a key of its own, or a member, by whatever key.
fn actor(view: &TransactionView) -> Option<AccountId> {
    match view.on_behalf.as_slice() {
        [.., member, _] => Some(*member),
        _ => view.signer,
    }
}

fn is_routine(call: &Call) -> bool {
    matches!(
        call,
        Call::Host(host::Call::Heartbeat | host::Call::Announce(_)) | Call::Lease(_)
    )
}

/// What an event is about.
#[derive(Default)]
struct About {
    kind: &'static str,
    deployment: Option<DeploymentId>,
    host: Option<String>,
    receipt: Option<u64>,
    amount: Option<Amount>,
    failed: bool,
    accounts: Vec<String>,
}

fn about(event: &Event) -> About {
    use deployment::Event as D;
    let of = |kind, deployment: &DeploymentId| About {
        kind,
        deployment: Some(*deployment),
        ..About::default()
    };
    match event {
        Event::Account(account::Event::Transferred {
            from, to, amount, ..
        }) => About {
            kind: "transfer",
            amount: Some(*amount),
            accounts: vec![from.to_string(), to.to_string()],
            ..About::default()
        },
        Event::Account(
            account::Event::Granted {
                account, to: other, ..
            }
            | account::Event::Revoked {
                account,
                from: other,
            },
        ) => About {
            kind: "keys",
            accounts: vec![account.to_string(), other.to_string()],
            ..About::default()
        },
        Event::Host(event) => {
            let host = match event {
                host::Event::HostRegistered { host, .. }
                | host::Event::HostOnline { host }
                | host::Event::HostOffline { host, .. }
                | host::Event::HostCordoned { host, .. }
                | host::Event::HostDraining { host, .. }
                | host::Event::HostPriced { host, .. }
                | host::Event::HostAllotted { host, .. }
                | host::Event::HostLeft { host, .. } => Some(host.to_string()),
                #[allow(unreachable_patterns, reason = "events are added")]
                _ => None,
            };
            About {
                kind: "host",
                accounts: host.iter().cloned().collect(),
                host,
                failed: matches!(event, host::Event::HostOffline { .. }),
                ..About::default()
            }
        }
        Event::Witness(ledger::witness::Event::HostFlagged { host, .. }) => About {
            kind: "host",
            accounts: vec![host.to_string()],
            host: Some(host.to_string()),
            failed: true,
            ..About::default()
        },
        Event::Deployment(event) => match event {
            D::Deployed {
                deployment, owner, ..
            } => About {
                accounts: vec![owner.to_string()],
                ..of("deploy", deployment)
            },
            D::AllocationPlaced {
                deployment, host, ..
            } => About {
                host: Some(host.to_string()),
                ..of("placement", deployment)
            },
            D::AllocationLeaves { deployment, .. } => of("placement", deployment),
            D::Unplaced { deployment, .. } => About {
                failed: true,
                ..of("unplaced", deployment)
            },
            D::ReleaseStuck { deployment, .. } => About {
                failed: true,
                ..of("release", deployment)
            },
            D::RolledBack {
                deployment, why, ..
            } => About {
                failed: !why.is_empty(),
                ..of("release", deployment)
            },
            D::ReleaseGood { deployment, .. } => of("release", deployment),
            D::FundsLow { deployment, .. } | D::Thawed { deployment } => of("funds", deployment),
            D::Frozen { deployment } => About {
                failed: true,
                ..of("funds", deployment)
            },
            D::Closed { deployment, refund } => About {
                amount: Some(*refund),
                ..of("removal", deployment)
            },
            D::Removed { deployment } => of("removal", deployment),
            D::SetRunning { deployment, .. } | D::Restarted { deployment, .. } => {
                of("control", deployment)
            }
            #[allow(unreachable_patterns, reason = "events are added")]
            _ => About {
                kind: "deploy",
                ..About::default()
            },
        },
        Event::Lease(event) => match event {
            lease::Event::StatusChanged {
                deployment,
                host,
                status,
                ..
            } => About {
                host: Some(host.to_string()),
                failed: status.state == types::RunState::Failed
                    || (status.state == types::RunState::Exited
                        && status.exit_code.is_some_and(|c| c != 0)),
                ..of("status", deployment)
            },
            lease::Event::Settled(receipt) => About {
                host: Some(receipt.host.to_string()),
                receipt: Some(receipt.id.0),
                amount: Some(receipt.amount),
                accounts: vec![receipt.payer.to_string(), receipt.payee.to_string()],
                ..of("receipt", &receipt.deployment)
            },
            lease::Event::LeaseClosed { deployment, .. } => of("lease", deployment),
            #[allow(unreachable_patterns, reason = "events are added")]
            _ => About {
                kind: "lease",
                ..About::default()
            },
        },
        #[allow(unreachable_patterns, reason = "domains are added")]
        _ => About {
            kind: "other",
            ..About::default()
        },
    }
}

fn write_event(change: &Transaction, names: &Names, view: &EventView) -> rusqlite::Result<()> {
    let about = about(&view.event);
    change
        .prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute(params![
            view.sequence,
            view.height,
            view.time_ms,
            about.kind,
            words::event(&view.event, names),
            about.deployment.map(|d| d.0),
            about.host,
            about.receipt,
            about.amount.map(|a| a.0.to_string()),
            about.failed,
        ])?;
    let mut mention = change.prepare_cached("INSERT OR IGNORE INTO accounts VALUES (?1, ?2)")?;
    for account in about.accounts {
        mention.execute(params![account, view.sequence])?;
    }
    if let Event::Lease(lease::Event::Settled(receipt)) = &view.event {
        charge(change, receipt)?;
    }
    Ok(())
}

/// Adds a receipt to its hour.
fn charge(change: &Transaction, receipt: &lease::Receipt) -> rusqlite::Result<()> {
    let hour = receipt.until_ms / HOUR_MS;
    let host = receipt.host.to_string();
    let key = params![hour, receipt.deployment.0, receipt.service, host];
    let before = change
        .prepare_cached(
            "SELECT cpu, memory, storage, bandwidth, transfer FROM charges
             WHERE hour = ?1 AND deployment = ?2 AND service = ?3 AND host = ?4",
        )?
        .query_row(key, |row| {
            let mut sums = [0u128; 5];
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum = row.get::<_, String>(at)?.parse().unwrap_or(0);
            }
            Ok(sums)
        })
        .optional()?;
    let mut sums = before.unwrap_or_default();
    let mut moved = 0u64;
    for charge in &receipt.charges {
        if let Some(at) = Resource::ALL.iter().position(|r| *r == charge.resource) {
            sums[at] = sums[at].saturating_add(charge.amount.0);
        }
        if charge.resource == Resource::Transfer {
            moved = u64::try_from(charge.counted).unwrap_or(u64::MAX);
        }
    }
    let sums = sums.map(|s| s.to_string());
    change
        .prepare_cached(
            "INSERT INTO charges VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 1)
             ON CONFLICT DO UPDATE SET cpu = ?7, memory = ?8, storage = ?9, bandwidth = ?10,
             transfer = ?11, moved = moved + ?12, receipts = receipts + 1",
        )?
        .execute(params![
            hour,
            receipt.deployment.0,
            receipt.service,
            host,
            receipt.payer.to_string(),
            receipt.payee.to_string(),
            sums[0],
            sums[1],
            sums[2],
            sums[3],
            sums[4],
            moved.min(i64::MAX as u64),
        ])?;
    Ok(())
}
