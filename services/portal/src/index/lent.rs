//! What lenders look for: each payment to them, and how what ran on their hosts ended.
//!
//! A run is a replica on a host. It ended well unless the host was silent, or the replica had failed, when
//! it was wanted last: what is told to leave, or stopped by its owner, ends well however it exits.

use std::collections::BTreeMap;

use anyhow::Result;
use ledger::{Event, deployment, host, lease};
use types::{AccountId, AllocationId, DeploymentId};

use super::query::EventRow;
use super::store::{Store, Value, values};

/// Hosts that are named in one question.
const ASKED: usize = 500;

/// After the event is in its own table. `failed`: something went wrong by it.
pub fn take(store: &Store, view: &api::EventView, failed: bool) -> Result<()> {
    use deployment::Event as D;
    match &view.event {
        Event::Lease(lease::Event::Settled(receipt)) if !receipt.amount.is_zero() => {
            store.execute(
                "INSERT INTO payouts VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                values![
                    receipt.payee.to_string(),
                    view.sequence,
                    receipt.host.to_string()
                ],
            )?;
        }
        Event::Deployment(event) => match event {
            D::AllocationPlaced {
                deployment,
                allocation,
                service,
                host,
                ..
            } => {
                store.execute(
                    "INSERT INTO runs VALUES ($1, $2, $3, $4, 0, 0, 0, NULL) ON CONFLICT DO NOTHING",
                    values![
                        allocation.0,
                        deployment.0,
                        service.as_str(),
                        host.to_string()
                    ],
                )?;
            }
            D::AllocationLeaves { allocation, .. } => leaves(store, allocation.0, true)?,
            D::AllocationStays { allocation, .. } => leaves(store, allocation.0, false)?,
            D::TriedAgain { allocation, .. } => {
                store.execute(
                    "UPDATE runs SET failed = 1, leaves = 1 WHERE allocation = $1",
                    values![allocation.0],
                )?;
            }
            D::SetRunning {
                deployment,
                service,
                running,
            } => all_leave(store, deployment.0, service.as_deref(), !running)?,
            D::Removed { deployment } | D::Frozen { deployment } | D::Limited { deployment } => {
                all_leave(store, deployment.0, None, true)?;
            }
            D::Thawed { deployment } => all_leave(store, deployment.0, None, false)?,
            _ => {}
        },
        Event::Lease(lease::Event::StatusChanged { allocation, .. }) => {
            store.execute(
                "UPDATE runs SET failed = $1
                 WHERE allocation = $2 AND leaves = 0 AND until_ms IS NULL",
                values![failed, allocation.0],
            )?;
        }
        Event::Lease(lease::Event::LeaseClosed { allocation, .. }) => {
            store.execute(
                "UPDATE runs SET until_ms = $1 WHERE allocation = $2 AND until_ms IS NULL",
                values![view.time_ms, allocation.0],
            )?;
        }
        Event::Host(host::Event::HostOffline {
            host,
            excused: false,
            ..
        }) => lost(store, host, true)?,
        Event::Host(host::Event::HostOnline { host }) => lost(store, host, false)?,
        _ => {}
    }
    Ok(())
}

fn leaves(store: &Store, allocation: u64, leaves: bool) -> Result<()> {
    store.execute(
        "UPDATE runs SET leaves = $1 WHERE allocation = $2",
        values![leaves, allocation],
    )?;
    Ok(())
}

fn all_leave(store: &Store, deployment: u64, service: Option<&str>, leaves: bool) -> Result<()> {
    store.execute(
        "UPDATE runs SET leaves = $1
         WHERE deployment = $2 AND until_ms IS NULL AND ($3 = '' OR service = $3)",
        values![leaves, deployment, service.unwrap_or("")],
    )?;
    Ok(())
}

fn lost(store: &Store, host: &AccountId, lost: bool) -> Result<()> {
    store.execute(
        "UPDATE runs SET lost = $1 WHERE host = $2 AND leaves = 0 AND until_ms IS NULL",
        values![lost, host.to_string()],
    )?;
    Ok(())
}

/// Which payments to an account; all that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct PayoutFilter {
    pub payee: AccountId,
    /// For what ran there.
    pub host: Option<AccountId>,
    /// Only before this number.
    pub before: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct PayoutRow {
    pub event: EventRow,
    /// Id of the host.
    pub host: String,
}

/// Latest first; receipts over nothing are none.
pub fn payouts(store: &Store, filter: &PayoutFilter, count: usize) -> Result<Vec<PayoutRow>> {
    let mut values: Vec<Value> = vec![
        filter.payee.to_string().into(),
        filter.before.unwrap_or(u64::MAX).into(),
    ];
    let mut of = "";
    if let Some(host) = filter.host {
        values.push(host.to_string().into());
        of = "AND p.host = $3";
    }
    let rows = store.rows(
        &format!(
            "SELECT e.sequence, e.height, e.time_ms, e.kind, e.words, e.receipt, e.amount, p.host
             FROM payouts p JOIN events e ON e.sequence = p.sequence
             WHERE p.payee = $1 AND p.sequence < $2 {of}
             ORDER BY p.sequence DESC LIMIT {count}"
        ),
        &values,
    )?;
    let payout = |row: &super::store::Row| {
        Ok(PayoutRow {
            event: super::query::event(row)?,
            host: row.get(7)?,
        })
    };
    rows.iter().map(payout).collect()
}

/// A replica on a host.
#[derive(Clone, Debug)]
pub struct Run {
    pub allocation: AllocationId,
    pub deployment: DeploymentId,
    pub service: String,
    /// Id of the host.
    pub host: String,
    /// When it ended, if it has.
    pub until_ms: Option<u64>,
}

/// That of an allocation.
pub fn run(store: &Store, allocation: u64) -> Result<Option<Run>> {
    let row = store.row(
        "SELECT deployment, service, host, until_ms FROM runs WHERE allocation = $1",
        values![allocation],
    )?;
    row.map(|row| {
        Ok(Run {
            allocation: AllocationId(allocation),
            deployment: DeploymentId(row.get(0)?),
            service: row.get(1)?,
            host: row.get(2)?,
            until_ms: row.get(3)?,
        })
    })
    .transpose()
}

/// How runs ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    pub ended: u64,
    /// Of them.
    pub well: u64,
}

/// Of each of these hosts on which any has ended, by its id.
pub fn runs(store: &Store, hosts: &[AccountId]) -> Result<BTreeMap<AccountId, Runs>> {
    let mut found = BTreeMap::new();
    for some in hosts.chunks(ASKED) {
        let ids: Vec<String> = some.iter().map(|host| format!("'{host}'")).collect();
        let rows = store.rows(
            &format!(
                "SELECT host, count(*),
                 CAST(sum(CASE WHEN failed = 0 AND lost = 0 THEN 1 ELSE 0 END) AS BIGINT)
                 FROM runs WHERE until_ms IS NOT NULL AND host IN ({}) GROUP BY host",
                ids.join(", ")
            ),
            &[],
        )?;
        for row in rows {
            if let Ok(host) = row.get::<String>(0)?.parse() {
                let (ended, well) = (row.get(1)?, row.get(2)?);
                found.insert(host, Runs { ended, well });
            }
        }
    }
    Ok(found)
}

impl Runs {
    /// In thousandths; `None`: none has ended.
    pub fn milli(self) -> Option<u32> {
        let milli = (u128::from(self.well) * 1_000).checked_div(self.ended.into())?;
        u32::try_from(milli).ok()
    }

    pub fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            ended: sum.ended + one.ended,
            well: sum.well + one.well,
        })
    }
}
