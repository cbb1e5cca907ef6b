//! How soon what was asked for runs, and what went wrong with it, by the owner of the deployment.
//!
//! A replica waits from the block that found no place for it to the one that gave it one: nothing, where
//! that is the same block. It starts from there until its host first reports that it is ready. All
//! times are the chain's.

use anyhow::Result;
use ledger::{Event, deployment, lease};
use types::{AccountId, AllocationStatus, DeploymentId, RunState};

use super::store::{Store, values};

/// Causes of failures that are told apart in one answer.
const CAUSES_MAX: usize = 12;

/// After [`super::lent::take`], and before its block's waits are over. `failed`: something went wrong
/// by it.
pub fn take(store: &Store, view: &api::EventView, failed: bool) -> Result<()> {
    if failed {
        fails(store, view)?;
    }
    match &view.event {
        Event::Deployment(deployment::Event::AllocationPlaced {
            deployment,
            allocation,
            service,
            replica,
            ..
        }) => {
            let Some(owner) = owner(store, *deployment)? else {
                return Ok(());
            };
            let asked_ms = asked(store, *deployment, service, *replica)?;
            let wait_ms = view
                .time_ms
                .saturating_sub(asked_ms.unwrap_or(view.time_ms));
            store.execute(
                "INSERT INTO starts VALUES ($1, $2, $3, $4, NULL) ON CONFLICT DO NOTHING",
                values![allocation.0, owner, view.time_ms, wait_ms],
            )?;
        }
        Event::Lease(lease::Event::StatusChanged {
            allocation, status, ..
        }) if status.is_ready() => {
            store.execute(
                "UPDATE starts SET ready_ms = $1 WHERE allocation = $2 AND ready_ms IS NULL",
                values![view.time_ms, allocation.0],
            )?;
        }
        _ => {}
    }
    Ok(())
}

fn fails(store: &Store, view: &api::EventView) -> Result<()> {
    let Some(cause) = cause(&view.event) else {
        return Ok(());
    };
    // What is told to leave ends well however it exits.
    if let Event::Lease(lease::Event::StatusChanged { allocation, .. }) = &view.event {
        let row = store.row(
            "SELECT allocation FROM runs WHERE allocation = $1 AND leaves = 0",
            values![allocation.0],
        )?;
        if row.is_none() {
            return Ok(());
        }
    }
    let of = view.event.deployment().map(|id| owner(store, id));
    if let Some(owner) = of.transpose()?.flatten() {
        store.execute(
            "INSERT INTO failures VALUES ($1, $2, $3, $4)",
            values![view.sequence, owner, view.time_ms, cause],
        )?;
    }
    Ok(())
}

fn owner(store: &Store, id: DeploymentId) -> Result<Option<String>> {
    let row = store.row(
        "SELECT owner FROM deployments WHERE deployment = $1",
        values![id.0],
    )?;
    row.map(|row| row.get(0)).transpose()
}

/// Since when a replica that has no place waits.
fn asked(store: &Store, id: DeploymentId, service: &str, replica: u32) -> Result<Option<u64>> {
    let row = store.row(
        "SELECT min(from_ms) FROM waits
         WHERE deployment = $1 AND service = $2 AND replica = $3 AND until_ms IS NULL",
        values![id.0, service, u64::from(replica)],
    )?;
    row.map_or(Ok(None), |row| row.get(0))
}

/// What went wrong, in few kinds; `None`: nothing of a deployment's.
fn cause(event: &Event) -> Option<String> {
    use deployment::Event as D;
    let kind = match event {
        Event::Lease(lease::Event::StatusChanged { status, .. }) => return Some(ended(status)),
        Event::Deployment(event) => match event {
            D::TriedAgain { .. } => "Not made ready in time",
            D::Unplaced { .. } => "No host fits",
            D::ReleaseStuck { .. } | D::RolledBack { .. } => "A release failed",
            D::Frozen { .. } => "Funds ended",
            D::Limited { .. } => "The month's limit",
            _ => return None,
        },
        _ => return None,
    };
    Some(kind.into())
}

fn ended(status: &AllocationStatus) -> String {
    match (status.state, status.exit_code) {
        _ if status.oom_killed => "Out of memory".into(),
        (RunState::Exited, Some(code)) => format!("Exited with {code}"),
        _ => "Could not be run".into(),
    }
}

/// What half, and what 95 in 100, did not exceed, in milliseconds, and of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    pub count: u64,
    pub half_ms: u64,
    pub p95_ms: u64,
}

/// `None`: there was none.
fn spread(store: &Store, what: &str, owner: &AccountId, since_ms: u64) -> Result<Option<Spread>> {
    let of = format!("FROM starts WHERE owner = $1 AND placed_ms >= $2 AND {what} IS NOT NULL");
    let given = || values![owner.to_string(), since_ms].to_vec();
    let row = store.row(&format!("SELECT count(*) {of}"), &given())?;
    let count: u64 = row.map_or(Ok(0), |row| row.get(0))?;
    let at = |percent: u64| {
        let place = (count * percent).div_ceil(100).saturating_sub(1);
        let sql = format!("SELECT {what} {of} ORDER BY 1 LIMIT 1 OFFSET {place}");
        let row = store.row(&sql, &given())?;
        row.map(|row| row.get::<u64>(0)).transpose()
    };
    Ok(match (at(50)?, at(95)?) {
        (Some(half_ms), Some(p95_ms)) => Some(Spread {
            count,
            half_ms,
            p95_ms,
        }),
        _ => None,
    })
}

/// From when a place was asked for to when there was one, of replicas that were placed since then.
pub fn waited(store: &Store, owner: &AccountId, since_ms: u64) -> Result<Option<Spread>> {
    spread(store, "wait_ms", owner, since_ms)
}

/// From when there was a place to when it was ready, of replicas that were placed since then.
pub fn started(store: &Store, owner: &AccountId, since_ms: u64) -> Result<Option<Spread>> {
    spread(store, "(ready_ms - placed_ms)", owner, since_ms)
}

/// Of replicas placed since then, how many never were ready.
pub fn never_ready(store: &Store, owner: &AccountId, since_ms: u64) -> Result<u64> {
    let row = store.row(
        "SELECT count(*) FROM starts WHERE owner = $1 AND placed_ms >= $2 AND ready_ms IS NULL",
        values![owner.to_string(), since_ms],
    )?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Failures since then by cause, the most frequent first.
pub fn failures(store: &Store, owner: &AccountId, since_ms: u64) -> Result<Vec<(String, u64)>> {
    let rows = store.rows(
        &format!(
            "SELECT cause, count(*) FROM failures WHERE owner = $1 AND time_ms >= $2
             GROUP BY cause ORDER BY 2 DESC, 1 LIMIT {CAUSES_MAX}"
        ),
        values![owner.to_string(), since_ms],
    )?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}
