//! Write certified blocks.

use anyhow::Result;
use api::{BlockView, EventView, TransactionStatus, TransactionView};
use ledger::{
    Call, Event, account, deployment, host, lease, limit, lottery, validator, vote, witness,
};
use types::{AccountId, Amount, DeploymentId, RunState};
use words::Names;

use super::charged::Charged;
use super::store::{Store, values};
use super::{incidents, lent, starts, tables};

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

/// What an event is called in lists.
fn kind(event: &Event) -> &'static str {
    use deployment::Event as D;
    match event {
        Event::Account(account::Event::Transferred { .. }) => "transfer",
        Event::Account(account::Event::Granted { .. } | account::Event::Revoked { .. }) => "keys",
        Event::Limit(_) => "limit",
        Event::Host(_) | Event::Witness(_) => "host",
        Event::Deployment(event) => match event {
            D::Deployed { .. } => "deploy",
            D::AllocationPlaced { .. }
            | D::AllocationLeaves { .. }
            | D::AllocationStays { .. }
            | D::TriedAgain { .. }
            | D::Scaled { .. } => "placement",
            D::Unplaced { .. } => "unplaced",
            D::ReleaseGood { .. } | D::ReleaseStuck { .. } | D::RolledBack { .. } => "release",
            D::FundsLow { .. } | D::Thawed { .. } | D::Frozen { .. } | D::Limited { .. } => "funds",
            D::Removed { .. } | D::Closed { .. } => "removal",
            D::SetRunning { .. } | D::Restarted { .. } => "control",
        },
        Event::Lease(lease::Event::StatusChanged { .. }) => "status",
        Event::Lease(lease::Event::Settled(_)) => "receipt",
        Event::Lease(lease::Event::LeaseClosed { .. }) => "lease",
        Event::Validator(_) => "validator",
        Event::Lots(_) => "lots",
        Event::Duty(_) => "duty",
        Event::Vote(_) => "vote",
        Event::Lottery(_) => "lottery",
    }
}

/// Did something go wrong by it?
fn failed(event: &Event) -> bool {
    use deployment::Event as D;
    match event {
        Event::Limit(limit::Event::Told { notice, .. }) => *notice == limit::Notice::Percent(100),
        Event::Host(host::Event::HostOffline { excused, .. }) => !excused,
        Event::Witness(_) => true,
        Event::Deployment(D::RolledBack { why, .. }) => !why.is_empty(),
        Event::Deployment(event) => matches!(
            event,
            D::TriedAgain { .. }
                | D::Unplaced { .. }
                | D::ReleaseStuck { .. }
                | D::Frozen { .. }
                | D::Limited { .. }
        ),
        Event::Lease(lease::Event::StatusChanged { status, .. }) => {
            let code = status.exit_code.unwrap_or_default();
            status.state == RunState::Failed || (status.state == RunState::Exited && code != 0)
        }
        _ => false,
    }
}

/// In whose lists it stands; a host's id is an account's.
fn accounts(event: &Event) -> Vec<AccountId> {
    match event {
        Event::Account(event) => match event {
            account::Event::Transferred { from, to, .. } => vec![*from, *to],
            account::Event::Granted { account, to, .. } => vec![*account, *to],
            account::Event::Revoked { account, from } => vec![*account, *from],
        },
        Event::Limit(limit::Event::Set { account, .. } | limit::Event::Told { account, .. }) => {
            vec![*account]
        }
        Event::Host(
            host::Event::HostInvited { owner, .. } | host::Event::HostUninvited { owner, .. },
        ) => vec![*owner],
        Event::Host(host::Event::HostJoined { host, owner, .. }) => vec![*host, *owner],
        Event::Host(event) => event.host().into_iter().collect(),
        Event::Witness(witness::Event::HostFlagged { host, .. }) => vec![*host],
        Event::Deployment(deployment::Event::Deployed { owner, .. }) => vec![*owner],
        Event::Lease(lease::Event::Settled(receipt)) => vec![receipt.payer, receipt.payee],
        Event::Validator(event) => {
            use validator::Event as V;
            match event {
                V::ValidatorRegistered { owner, .. } | V::ValidatorLeaving { owner, .. } => {
                    vec![*owner]
                }
                V::BondReturned { to, .. } => vec![*to],
                V::ValidatorConvicted { owner, finder, .. } => vec![*owner, *finder],
            }
        }
        Event::Vote(vote::Event::Proposed { proposer, .. }) => vec![*proposer],
        Event::Vote(vote::Event::Cast { account, .. }) => vec![*account],
        Event::Lottery(lottery::Event::Entered { account, .. }) => vec![*account],
        _ => Vec::new(),
    }
}

fn amount(event: &Event) -> Option<Amount> {
    match event {
        Event::Account(account::Event::Transferred { amount, .. }) => Some(*amount),
        Event::Deployment(deployment::Event::Closed { refund, .. }) => Some(*refund),
        Event::Lease(lease::Event::Settled(receipt)) => Some(receipt.amount),
        _ => None,
    }
}

fn write_event(
    store: &Store,
    names: &Names,
    charged: &mut Charged,
    view: &EventView,
) -> Result<()> {
    let event = &view.event;
    let kind = kind(event);
    let receipt = match event {
        Event::Lease(lease::Event::Settled(receipt)) => Some(receipt.id.0),
        _ => None,
    };
    store.execute(
        "INSERT INTO events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        values![
            view.sequence,
            view.height,
            view.time_ms,
            kind,
            words::event(event, names),
            event.deployment().map(|d| d.0),
            event.host().map(|host| host.to_string()),
            receipt,
            amount(event).map(|a| a.0.to_string()),
            failed(event),
        ],
    )?;
    for account in accounts(event) {
        store.execute(
            "INSERT INTO accounts VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            values![account.to_string(), view.sequence, kind],
        )?;
    }
    lent::take(store, view, failed(event))?;
    starts::take(store, view, failed(event))?;
    match event {
        Event::Lease(lease::Event::Settled(receipt)) => charged.add(receipt),
        Event::Lease(lease::Event::StatusChanged { deployment, .. }) => {
            changed(store, *deployment, view.time_ms, failed(event))?;
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
