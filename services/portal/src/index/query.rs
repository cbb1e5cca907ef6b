//! What pages ask the index.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::{AccountId, Amount, DeploymentId};

use crate::words::Names;

/// Rows of one page of a list.
pub const PAGE: usize = 50;

#[derive(Clone, Debug)]
pub struct BlockRow {
    pub height: u64,
    pub time_ms: u64,
    pub proposer: String,
    pub transactions: u64,
    pub events: u64,
}

#[derive(Clone, Debug)]
pub struct TransactionRow {
    pub id: String,
    pub height: u64,
    pub time_ms: u64,
    pub kind: String,
    pub words: String,
    pub refused: Option<String>,
}

#[derive(Clone, Debug)]
pub struct EventRow {
    pub sequence: u64,
    pub height: u64,
    pub time_ms: u64,
    pub kind: String,
    pub words: String,
    pub receipt: Option<u64>,
    pub amount: Option<Amount>,
}

/// Charges of one hour, for one service on one host.
#[derive(Clone, Debug)]
pub struct ChargeRow {
    pub hour: u64,
    pub deployment: DeploymentId,
    pub host: String,
    /// In the order of [`types::Resource::ALL`].
    pub amounts: [Amount; 5],
    /// Bytes in and out.
    pub moved: u64,
}

impl ChargeRow {
    pub fn amount(&self) -> Amount {
        Amount(self.amounts.iter().map(|a| a.0).sum())
    }
}

/// What has happened in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub events: u64,
    pub receipts: u64,
}

/// Changes of state of replicas, and how many of them were failures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    pub changes: u64,
    pub failures: u64,
}

/// Which events; all that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub deployment: Option<DeploymentId>,
    pub host: Option<String>,
    pub account: Option<AccountId>,
    pub kind: Option<String>,
    pub height: Option<u64>,
    /// Only before this number.
    pub before: Option<u64>,
}

fn block(row: &Row) -> rusqlite::Result<BlockRow> {
    Ok(BlockRow {
        height: row.get(0)?,
        time_ms: row.get(1)?,
        proposer: row.get(2)?,
        transactions: row.get(3)?,
        events: row.get(4)?,
    })
}

fn transaction(row: &Row) -> rusqlite::Result<TransactionRow> {
    Ok(TransactionRow {
        id: row.get(0)?,
        height: row.get(1)?,
        time_ms: row.get(2)?,
        kind: row.get(3)?,
        words: row.get(4)?,
        refused: row.get(5)?,
    })
}

const TRANSACTION: &str = "SELECT id, height, time_ms, kind, words, refused FROM transactions";

fn amount(text: Option<String>) -> Option<Amount> {
    text.and_then(|t| t.parse().ok()).map(Amount)
}

pub fn names(c: &Connection) -> rusqlite::Result<Names> {
    let mut names = Names::default();
    let mut hosts = c.prepare_cached("SELECT host, name FROM hosts")?;
    for row in hosts.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get(1)?)))? {
        let (host, name) = row?;
        if let Ok(host) = host.parse() {
            names.hosts.insert(host, name);
        }
    }
    let mut projects = c.prepare_cached("SELECT deployment, project FROM deployments")?;
    for row in projects.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))? {
        let (deployment, project) = row?;
        names.projects.insert(DeploymentId(deployment), project);
    }
    Ok(names)
}

pub fn blocks(
    c: &Connection,
    before: Option<u64>,
    count: usize,
) -> rusqlite::Result<Vec<BlockRow>> {
    c.prepare_cached(
        "SELECT height, time_ms, proposer, transactions, events FROM blocks
         WHERE height < ?1 ORDER BY height DESC LIMIT ?2",
    )?
    .query_map(
        params![
            before.unwrap_or(i64::MAX as u64).min(i64::MAX as u64),
            count
        ],
        block,
    )?
    .collect()
}

/// The height of a block, by its digest in hex.
pub fn height_of(c: &Connection, digest: &str) -> rusqlite::Result<Option<u64>> {
    c.query_row(
        "SELECT height FROM blocks WHERE digest = ?1",
        [digest],
        |r| r.get(0),
    )
    .optional()
}

/// Latest first, before `(height)`; heartbeats and usage reports only if `routine`.
pub fn transactions(
    c: &Connection,
    before: Option<u64>,
    routine: bool,
    count: usize,
) -> rusqlite::Result<Vec<TransactionRow>> {
    c.prepare_cached(&format!(
        "{TRANSACTION} WHERE height < ?1 AND routine <= ?2 ORDER BY height DESC, position DESC LIMIT ?3"
    ))?
    .query_map(
        params![before.unwrap_or(i64::MAX as u64).min(i64::MAX as u64), routine, count],
        transaction,
    )?
    .collect()
}

pub fn transactions_of(
    c: &Connection,
    sender: &AccountId,
    count: usize,
) -> rusqlite::Result<Vec<TransactionRow>> {
    c.prepare_cached(&format!(
        "{TRANSACTION} WHERE sender = ?1 ORDER BY height DESC, position DESC LIMIT ?2"
    ))?
    .query_map(params![sender.to_string(), count], transaction)?
    .collect()
}

/// When each of those that act for an account did so last, by the account that was let.
pub fn last_acts(c: &Connection, sender: &AccountId) -> rusqlite::Result<BTreeMap<AccountId, u64>> {
    let mut asked = c.prepare_cached(
        "SELECT actor, max(time_ms) FROM transactions WHERE sender = ?1 GROUP BY actor LIMIT 1000",
    )?;
    let mut acts = BTreeMap::new();
    for row in asked.query_map([sender.to_string()], |r| {
        Ok((r.get::<_, Option<String>>(0)?, r.get(1)?))
    })? {
        let (actor, time_ms) = row?;
        if let Some(actor) = actor.and_then(|a| a.parse().ok()) {
            acts.insert(actor, time_ms);
        }
    }
    Ok(acts)
}

/// Latest first.
pub fn events(
    c: &Connection,
    filter: &EventFilter,
    count: usize,
) -> rusqlite::Result<Vec<EventRow>> {
    let mut sql = String::from(
        "SELECT e.sequence, e.height, e.time_ms, e.kind, e.words, e.receipt, e.amount
         FROM events e",
    );
    let mut values: Vec<rusqlite::types::Value> = Vec::new();
    let mut rules: Vec<String> = Vec::new();
    let mut rule = |sql: &str, value: rusqlite::types::Value| {
        values.push(value);
        rules.push(format!("{sql} ?{}", values.len()));
    };
    if let Some(account) = &filter.account {
        sql.push_str(" JOIN accounts a ON a.sequence = e.sequence");
        rule("a.account =", account.to_string().into());
    }
    if let Some(deployment) = filter.deployment {
        rule("e.deployment =", (deployment.0 as i64).into());
    }
    if let Some(host) = &filter.host {
        rule("e.host =", host.clone().into());
    }
    if let Some(kind) = &filter.kind {
        rule("e.kind =", kind.clone().into());
    }
    if let Some(height) = filter.height {
        rule("e.height =", (height.min(i64::MAX as u64) as i64).into());
    }
    if let Some(before) = filter.before {
        rule("e.sequence <", (before.min(i64::MAX as u64) as i64).into());
    }
    if !rules.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&rules.join(" AND "));
    }
    sql.push_str(&format!(" ORDER BY e.sequence DESC LIMIT {count}"));
    c.prepare_cached(&sql)?
        .query_map(rusqlite::params_from_iter(values), |row| {
            Ok(EventRow {
                sequence: row.get(0)?,
                height: row.get(1)?,
                time_ms: row.get(2)?,
                kind: row.get(3)?,
                words: row.get(4)?,
                receipt: row.get(5)?,
                amount: amount(row.get(6)?),
            })
        })?
        .collect()
}

/// Which side of a charge an account is on.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Payer,
    Payee,
}

/// Charges from hour `since` on, in order of time.
pub fn charges(
    c: &Connection,
    side: Side,
    account: &AccountId,
    since: u64,
) -> rusqlite::Result<Vec<ChargeRow>> {
    let column = match side {
        Side::Payer => "payer",
        Side::Payee => "payee",
    };
    c.prepare_cached(&format!(
        "SELECT hour, deployment, host, cpu, memory, storage, bandwidth,
         transfer, moved FROM charges WHERE {column} = ?1 AND hour >= ?2 ORDER BY hour"
    ))?
    .query_map(params![account.to_string(), since], |row| {
        let mut amounts = [Amount::ZERO; 5];
        for (at, sum) in amounts.iter_mut().enumerate() {
            *sum = amount(row.get(3 + at)?).unwrap_or_default();
        }
        Ok(ChargeRow {
            hour: row.get(0)?,
            deployment: DeploymentId(row.get(1)?),
            host: row.get(2)?,
            amounts,
            moved: row.get(8)?,
        })
    })?
    .collect()
}

/// Status changes of an account's replicas from hour `since` on.
pub fn activity(c: &Connection, owner: &AccountId, since: u64) -> rusqlite::Result<Activity> {
    c.prepare_cached(
        "SELECT count(*), coalesce(sum(e.failed), 0) FROM events e
         JOIN deployments d ON d.deployment = e.deployment
         WHERE d.owner = ?1 AND e.kind = 'status' AND e.time_ms >= ?2",
    )?
    .query_row(params![owner.to_string(), since * 3_600_000], |row| {
        Ok(Activity {
            changes: row.get(0)?,
            failures: row.get(1)?,
        })
    })
}

pub fn totals(c: &Connection) -> rusqlite::Result<Totals> {
    let one = |sql: &str| c.query_row(sql, [], |r| r.get::<_, Option<u64>>(0));
    Ok(Totals {
        events: one("SELECT max(sequence) + 1 FROM events")?.unwrap_or(0),
        receipts: one("SELECT sum(receipts) FROM charges")?.unwrap_or(0),
    })
}

/// Transactions, routine ones apart, in each of the last `count` minutes before `until_ms`.
pub fn per_minute(c: &Connection, until_ms: u64, count: u64) -> rusqlite::Result<Vec<u64>> {
    let last = until_ms / 60_000;
    let first = last.saturating_sub(count - 1);
    let mut rows = c.prepare_cached(
        "SELECT time_ms / 60000, sum(transactions) FROM blocks
         WHERE height > (SELECT max(height) FROM blocks) - ?3 AND time_ms >= ?1 AND time_ms < ?2
         GROUP BY 1",
    )?;
    let mut out = vec![0; count as usize];
    // A minute has at most some hundred blocks: the bound keeps the scan short.
    let bound = count * 600;
    for row in rows.query_map(params![first * 60_000, (last + 1) * 60_000, bound], |r| {
        Ok((r.get::<_, u64>(0)?, r.get::<_, u64>(1)?))
    })? {
        let (minute, sum) = row?;
        if let Some(slot) = out.get_mut((minute - first) as usize) {
            *slot = sum;
        }
    }
    Ok(out)
}

/// Deployments and hosts whose name or id begins so.
pub fn named(c: &Connection, text: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let pattern: String = text
        .chars()
        .take(60)
        .flat_map(|c| match c {
            '%' | '_' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    let pattern = format!("{pattern}%");
    c.prepare_cached(
        "SELECT name, host FROM hosts WHERE name LIKE ?1 ESCAPE '\\' OR host LIKE ?1 ESCAPE '\\' LIMIT 20",
    )?
    .query_map([pattern], |r| Ok((r.get(0)?, r.get(1)?)))?
    .collect()
}
