//! Write certified blocks.

use anyhow::Result;
use api::{BlockView, EventView, TransactionStatus, TransactionView};
use ledger::{Call, Event, account, deployment, host, lease};
use types::{AccountId, Amount, DeploymentId};

use super::charged::Charged;
use super::store::{Store, values};
use super::{incidents, tables};
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
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub height: u64,
    /// Digest of the last block.
    pub tip: Option<String>,
    /// Number of the next event.
    pub events: u64,
}

/// Where an index of `network` is; an empty one becomes one.
///
/// Errors: those of [`tables::prepare`] and [`tables::belong`].
pub fn begin(store: &Store, network: &str) -> Result<Done> {
    tables::prepare(store)?;
    tables::belong(store, network)?;
    done(store)
}

fn done(store: &Store) -> Result<Done> {
    let last = store.row(
        "SELECT height, digest FROM blocks ORDER BY height DESC LIMIT 1",
        &[],
    )?;
    let events = store.row("SELECT max(sequence) + 1 FROM events", &[])?;
    Ok(Done {
        height: last.as_ref().map_or(Ok(0), |row| row.get(0))?,
        tip: last.map(|row| row.get(1)).transpose()?,
        events: events.map_or(Ok(None), |row| row.get(0))?.unwrap_or(0),
    })
}

/// All of them, or none. `false`: another portal shares the index, and it no longer ends at `after`.
pub fn take(store: &Store, after: &Done, blocks: Vec<Certified>) -> Result<bool> {
    store.transaction(|store| {
        if done(store)? != *after {
            return Ok(false);
        }
        let mut names = Names::clone(&*super::query::names(store)?);
        let mut charged = Charged::default();
        for block in &blocks {
            take_one(store, &mut names, &mut charged, block)?;
        }
        charged.write(store)?;
        let last = blocks.last().map_or(after.height, |b| b.header.height);
        store.execute(
            "DELETE FROM transactions WHERE routine = 1 AND height < $1",
            values![last.saturating_sub(ROUTINE_KEPT)],
        )?;
        Ok(true)
    })
}

fn take_one(
    store: &Store,
    names: &mut Names,
    charged: &mut Charged,
    block: &Certified,
) -> Result<()> {
    store.execute(
        "INSERT INTO blocks VALUES ($1, $2, $3, $4, $5, $6)",
        values![
            block.header.height,
            block.header.time_ms,
            block.header.digest().hex(),
            hex::encode(block.header.proposer),
            block.view.transactions.len(),
            block.events.len(),
        ],
    )?;
    // Names that the block's own sentences need.
    for event in &block.events {
        learn(store, names, &event.event, block.header.time_ms)?;
    }
    transactions(store, names, block)?;
    for event in &block.events {
        write_event(store, names, charged, event)?;
    }
    incidents::take(store, names, block)
}

fn learn(store: &Store, names: &mut Names, event: &Event, time_ms: u64) -> Result<()> {
    match event {
        Event::Host(host::Event::HostRegistered {
            host, name, owner, ..
        }) => {
            names.hosts.insert(*host, name.clone());
            store.execute(
                "INSERT INTO hosts VALUES ($1, $2, $3)
                 ON CONFLICT (host) DO UPDATE SET name = excluded.name, owner = excluded.owner",
                values![host.to_string(), name.as_str(), owner.to_string()],
            )?;
        }
        Event::Deployment(deployment::Event::Deployed {
            deployment,
            owner,
            project,
            ..
        }) => {
            names.projects.insert(*deployment, project.clone());
            store.execute(
                "INSERT INTO deployments VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                values![deployment.0, owner.to_string(), project.as_str(), time_ms],
            )?;
        }
        _ => {}
    }
    Ok(())
}

/// One whose id is there already was refused before, and names a later block now.
const TRANSACTION: &str = "
    INSERT INTO transactions VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (id) DO UPDATE SET height = excluded.height, position = excluded.position,
    time_ms = excluded.time_ms, sender = excluded.sender, kind = excluded.kind,
    words = excluded.words, refused = excluded.refused, routine = excluded.routine,
    actor = excluded.actor, signer = excluded.signer";

fn transactions(store: &Store, names: &Names, block: &Certified) -> Result<()> {
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
        store.execute(
            TRANSACTION,
            values![
                view.id.hex(),
                block.header.height,
                position,
                block.header.time_ms,
                sender.map(|s| s.to_string()),
                kind,
                words,
                refused,
                view.call.as_ref().is_some_and(is_routine),
                actor(view).map(|a| a.to_string()),
                view.signer.map(|s| s.to_string()),
            ],
        )?;
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
        Call::Host(host::Call::Heartbeat | host::Call::Announce(_))
            | Call::Lease(_)
            | Call::Witness(_)
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
        Event::Limit(event) => {
            let (account, full) = match event {
                ledger::limit::Event::Set { account, .. } => (account, false),
                ledger::limit::Event::Told {
                    account, notice, ..
                } => (account, *notice == ledger::limit::Notice::Percent(100)),
            };
            About {
                kind: "limit",
                accounts: vec![account.to_string()],
                failed: full,
                ..About::default()
            }
        }
        Event::Host(
            host::Event::HostInvited { owner, .. } | host::Event::HostUninvited { owner, .. },
        ) => About {
            kind: "host",
            accounts: vec![owner.to_string()],
            ..About::default()
        },
        Event::Host(host::Event::HostJoined { host, owner, .. }) => About {
            kind: "host",
            accounts: vec![host.to_string(), owner.to_string()],
            host: Some(host.to_string()),
            ..About::default()
        },
        Event::Host(event) => {
            let host = event.host().map(|host| host.to_string());
            About {
                kind: "host",
                accounts: host.iter().cloned().collect(),
                host,
                failed: matches!(event, host::Event::HostOffline { excused: false, .. }),
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
            D::TriedAgain {
                deployment, host, ..
            } => About {
                host: Some(host.to_string()),
                failed: true,
                ..of("placement", deployment)
            },
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
            D::Frozen { deployment } | D::Limited { deployment } => About {
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

fn write_event(
    store: &Store,
    names: &Names,
    charged: &mut Charged,
    view: &EventView,
) -> Result<()> {
    let about = about(&view.event);
    store.execute(
        "INSERT INTO events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        values![
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
        ],
    )?;
    for account in about.accounts {
        store.execute(
            "INSERT INTO accounts VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            values![account, view.sequence, about.kind],
        )?;
    }
    match &view.event {
        Event::Lease(lease::Event::Settled(receipt)) => charged.add(receipt),
        Event::Lease(lease::Event::StatusChanged { deployment, .. }) => {
            changed(store, *deployment, view.time_ms, about.failed)?;
        }
        _ => {}
    }
    Ok(())
}

/// Adds a change of state of a replica to its hour.
fn changed(store: &Store, deployment: DeploymentId, time_ms: u64, failed: bool) -> Result<()> {
    let row = store.row(
        "SELECT owner FROM deployments WHERE deployment = $1",
        values![deployment.0],
    )?;
    let Some(row) = row else { return Ok(()) };
    store.execute(
        "INSERT INTO activity VALUES ($1, $2, 1, $3)
         ON CONFLICT (owner, hour) DO UPDATE SET changes = activity.changes + 1,
         failures = activity.failures + excluded.failures",
        values![row.get::<String>(0)?, time_ms / HOUR_MS, failed],
    )?;
    Ok(())
}
