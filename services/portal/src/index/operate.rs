//! What operators ask the index.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use types::{AccountId, DeploymentId};

use super::query::PAGE;
use super::store::{Row, Store, Value, values};

#[derive(Clone, Debug)]
pub struct IncidentRow {
    pub kind: String,
    /// A host, a validator's key or an epoch.
    pub subject: String,
    pub height: u64,
    pub from_ms: u64,
    /// `None`: it goes on.
    pub until_ms: Option<u64>,
    /// Of missed turns.
    pub times: u64,
    pub words: String,
}

/// Of those since a time: how many there were, and how many go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub name: String,
    pub all: u64,
    pub open: u64,
}

fn counted(row: &Row) -> Result<Counted> {
    Ok(Counted {
        name: row.get(0)?,
        all: row.get(1)?,
        open: row.get(2)?,
    })
}

/// Which page of a list, from 0.
fn offset(page: usize) -> usize {
    page.saturating_mul(PAGE)
}

const GOING_ON: &str = "CAST(sum(CASE WHEN until_ms IS NULL THEN 1 ELSE 0 END) AS BIGINT)";

/// Incidents by kind that were, or go on, at `since_ms` or later.
pub fn incident_counts(store: &Store, since_ms: u64) -> Result<Vec<Counted>> {
    let rows = store.rows(
        &format!(
            "SELECT kind, count(*), {GOING_ON} FROM incidents
             WHERE until_ms IS NULL OR until_ms >= $1 GROUP BY kind ORDER BY kind"
        ),
        values![since_ms],
    )?;
    rows.iter().map(counted).collect()
}

/// The latest first; with one more than a page where there are more.
pub fn incidents(
    store: &Store,
    kind: Option<&str>,
    open: bool,
    since_ms: u64,
    page: usize,
) -> Result<Vec<IncidentRow>> {
    let mut sql = String::from(
        "SELECT kind, subject, height, from_ms, until_ms, times, words FROM incidents WHERE ",
    );
    let mut given: Vec<Value> = Vec::new();
    if open {
        sql.push_str("until_ms IS NULL");
    } else {
        given.push(since_ms.into());
        sql.push_str("(until_ms IS NULL OR until_ms >= $1)");
    }
    if let Some(kind) = kind {
        given.push(kind.into());
        sql.push_str(&format!(" AND kind = ${}", given.len()));
    }
    sql.push_str(&format!(
        " ORDER BY from_ms DESC, height DESC, subject LIMIT {} OFFSET {}",
        PAGE + 1,
        offset(page)
    ));
    let rows = store.rows(&sql, &given)?;
    rows.iter()
        .map(|row| {
            Ok(IncidentRow {
                kind: row.get(0)?,
                subject: row.get(1)?,
                height: row.get(2)?,
                from_ms: row.get(3)?,
                until_ms: row.get(4)?,
                times: row.get(5)?,
                words: row.get(6)?,
            })
        })
        .collect()
}

/// A replica that had no place.
#[derive(Clone, Debug)]
pub struct WaitRow {
    pub deployment: DeploymentId,
    pub service: String,
    pub replica: u64,
    pub from_ms: u64,
    pub until_ms: Option<u64>,
    pub why: String,
}

pub fn cause_counts(store: &Store, since_ms: u64) -> Result<Vec<Counted>> {
    let rows = store.rows(
        &format!(
            "SELECT c.cause, count(*), {GOING_ON} FROM causes c
             JOIN waits w ON w.sequence = c.sequence
             WHERE w.until_ms IS NULL OR w.until_ms >= $1 GROUP BY c.cause ORDER BY 2 DESC, 1"
        ),
        values![since_ms],
    )?;
    rows.iter().map(counted).collect()
}

/// How many had no place since then, and how many still have none.
pub fn wait_counts(store: &Store, since_ms: u64) -> Result<(u64, u64)> {
    let row = store.row(
        &format!(
            "SELECT count(*), coalesce({GOING_ON}, 0) FROM waits
             WHERE until_ms IS NULL OR until_ms >= $1"
        ),
        values![since_ms],
    )?;
    row.map_or(Ok((0, 0)), |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The latest first; with one more than a page where there are more.
pub fn waits(
    store: &Store,
    cause: Option<&str>,
    since_ms: u64,
    page: usize,
) -> Result<Vec<WaitRow>> {
    let mut given: Vec<Value> = vec![since_ms.into()];
    let of = cause.map_or(String::new(), |cause| {
        given.push(cause.into());
        "AND w.sequence IN (SELECT sequence FROM causes WHERE cause = $2)".into()
    });
    let rows = store.rows(
        &format!(
            "SELECT w.deployment, w.service, w.replica, w.from_ms, w.until_ms, w.why FROM waits w
             WHERE (w.until_ms IS NULL OR w.until_ms >= $1) {of}
             ORDER BY w.sequence DESC LIMIT {} OFFSET {}",
            PAGE + 1,
            offset(page)
        ),
        &given,
    )?;
    rows.iter()
        .map(|row| {
            Ok(WaitRow {
                deployment: DeploymentId(row.get(0)?),
                service: row.get(1)?,
                replica: row.get(2)?,
                from_ms: row.get(3)?,
                until_ms: row.get(4)?,
                why: row.get(5)?,
            })
        })
        .collect()
}

/// A signed act: by the key of `signer`, for `sender`; `actor` is the member or key that the
/// sender let do so.
#[derive(Clone, Debug)]
pub struct ActRow {
    pub id: String,
    pub height: u64,
    pub position: u64,
    pub time_ms: u64,
    pub sender: Option<String>,
    pub actor: Option<String>,
    pub signer: Option<String>,
    pub kind: String,
    pub words: String,
    pub refused: Option<String>,
}

/// Which acts; all that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct ActFilter {
    /// Its own, or done for it.
    pub account: Option<AccountId>,
    /// Signed by the key of this account.
    pub key: Option<AccountId>,
    pub kind: Option<String>,
    pub refused: Option<bool>,
    /// Signs of life and reports of hosts too.
    pub routine: bool,
    /// Only before this place in the chain: height, and number in its block.
    pub before: Option<(u64, u64)>,
}

/// The latest first.
pub fn acts(store: &Store, filter: &ActFilter, count: usize) -> Result<Vec<ActRow>> {
    let mut rules: Vec<String> = Vec::new();
    let mut given: Vec<Value> = Vec::new();
    let mut rule = |sql: &str, values: &[Value]| {
        let mut sql = sql.to_string();
        for value in values {
            given.push(value.clone());
            sql = sql.replacen('?', &format!("${}", given.len()), 1);
        }
        rules.push(sql);
    };
    if let Some(account) = &filter.account {
        let account = account.to_string();
        rule(
            "(sender = ? OR actor = ?)",
            values![account.clone(), account],
        );
    }
    if let Some(key) = &filter.key {
        rule("signer = ?", values![key.to_string()]);
    }
    if let Some(kind) = &filter.kind {
        rule("kind = ?", values![kind.as_str()]);
    }
    if let Some((height, position)) = filter.before {
        rule("height <= ?", values![height]);
        rule("(height < ? OR position < ?)", values![height, position]);
    }
    match filter.refused {
        Some(true) => rules.push("refused IS NOT NULL".into()),
        Some(false) => rules.push("refused IS NULL".into()),
        None => {}
    }
    if !filter.routine {
        rules.push("routine = 0".into());
    }
    let rules = match rules.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", rules.join(" AND ")),
    };
    let rows = store.rows(
        &format!(
            "SELECT id, height, position, time_ms, sender, actor, signer, kind, words, refused
             FROM transactions {rules} ORDER BY height DESC, position DESC LIMIT {count}"
        ),
        &given,
    )?;
    rows.iter()
        .map(|row| {
            Ok(ActRow {
                id: row.get(0)?,
                height: row.get(1)?,
                position: row.get(2)?,
                time_ms: row.get(3)?,
                sender: row.get(4)?,
                actor: row.get(5)?,
                signer: row.get(6)?,
                kind: row.get(7)?,
                words: row.get(8)?,
                refused: row.get(9)?,
            })
        })
        .collect()
}

/// Turns that each validator missed since then.
pub fn missed(store: &Store, since_ms: u64) -> Result<BTreeMap<String, u64>> {
    let rows = store.rows(
        "SELECT subject, CAST(sum(times) AS BIGINT) FROM incidents
         WHERE kind = 'turns' AND from_ms >= $1 GROUP BY subject",
        values![since_ms],
    )?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// Replicas that got a place in each of the last `count` minutes before `until_ms`, of the last
/// 10,000 placements.
pub fn placed_per_minute(store: &Store, until_ms: u64, count: u64) -> Result<Vec<u64>> {
    let last = until_ms / 60_000;
    let first = last.saturating_sub(count.saturating_sub(1));
    let rows = store.rows(
        "SELECT time_ms / 60000, count(*) FROM (
             SELECT time_ms FROM events WHERE kind = 'placement' AND host IS NOT NULL
             ORDER BY sequence DESC LIMIT 10000) AS placed
         WHERE time_ms >= $1 GROUP BY time_ms / 60000",
        values![first * 60_000],
    )?;
    let mut out = vec![0; count as usize];
    for row in &rows {
        let minute: u64 = row.get(0)?;
        let at = minute
            .checked_sub(first)
            .and_then(|at| out.get_mut(at as usize));
        if let Some(slot) = at {
            *slot = row.get(1)?;
        }
    }
    Ok(out)
}

/// All that an account ever made.
pub fn deployments_of(store: &Store, owner: &AccountId) -> Result<BTreeSet<DeploymentId>> {
    let rows = store.rows(
        "SELECT deployment FROM deployments WHERE owner = $1",
        values![owner.to_string()],
    )?;
    rows.iter()
        .map(|row| Ok(DeploymentId(row.get(0)?)))
        .collect()
}
