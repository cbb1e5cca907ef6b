//! What pages ask the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use types::{AccountId, Amount, DeploymentId};
use words::{Names, month_of};

use super::store::{Row, Store, Value, values};
use super::tables;

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
    pub service: String,
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

/// Charges of one hour, all of an account.
#[derive(Clone, Debug)]
pub struct HourRow {
    pub hour: u64,
    /// In the order of [`types::Resource::ALL`].
    pub amounts: [Amount; 5],
    /// Bytes in and out.
    pub moved: u64,
    pub receipts: u64,
}

impl HourRow {
    pub fn amount(&self) -> Amount {
        Amount(self.amounts.iter().map(|a| a.0).sum())
    }
}

/// What has happened in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub events: u64,
    pub receipts: u64,
    /// What all receipts come to.
    pub paid: Amount,
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

fn block(row: &Row) -> Result<BlockRow> {
    Ok(BlockRow {
        height: row.get(0)?,
        time_ms: row.get(1)?,
        proposer: row.get(2)?,
        transactions: row.get(3)?,
        events: row.get(4)?,
    })
}

fn transaction(row: &Row) -> Result<TransactionRow> {
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

/// Those of the five resources, from column `first` on.
fn amounts(row: &Row, first: usize) -> Result<[Amount; 5]> {
    let mut amounts = [Amount::ZERO; 5];
    for (at, sum) in amounts.iter_mut().enumerate() {
        *sum = amount(row.get(first + at)?).unwrap_or_default();
    }
    Ok(amounts)
}

/// Names of all hosts and deployments. Those of deployments never change: a session reads only what
/// has come since it last did.
pub fn names(store: &Store) -> Result<Arc<Names>> {
    let network = tables::network(store)?;
    let known = &mut *store.known().borrow_mut();
    if known.network != network {
        known.names = Arc::default();
        known.network = network;
    }
    let last = known.names.projects.last_key_value();
    let rows = store.rows(
        "SELECT deployment, project FROM deployments WHERE deployment > $1",
        values![last.map_or(0, |(id, _)| id.0)],
    )?;
    let mut hosts = BTreeMap::new();
    for row in store.rows("SELECT host, name FROM hosts", &[])? {
        if let Ok(host) = row.get::<String>(0)?.parse() {
            hosts.insert(host, row.get(1)?);
        }
    }
    if !rows.is_empty() || known.names.hosts != hosts {
        let names = Arc::make_mut(&mut known.names);
        names.hosts = hosts;
        for row in rows {
            names
                .projects
                .insert(DeploymentId(row.get(0)?), row.get(1)?);
        }
    }
    Ok(known.names.clone())
}

pub fn blocks(store: &Store, before: Option<u64>, count: usize) -> Result<Vec<BlockRow>> {
    let rows = store.rows(
        "SELECT height, time_ms, proposer, transactions, events FROM blocks
         WHERE height < $1 ORDER BY height DESC LIMIT $2",
        values![before.unwrap_or(u64::MAX), count],
    )?;
    rows.iter().map(block).collect()
}

/// The height of a block, by its digest in hex.
pub fn height_of(store: &Store, digest: &str) -> Result<Option<u64>> {
    let row = store.row(
        "SELECT height FROM blocks WHERE digest = $1",
        values![digest],
    )?;
    row.map(|row| row.get(0)).transpose()
}

/// Latest first, before `(height)`; heartbeats and usage reports only if `routine`.
pub fn transactions(
    store: &Store,
    before: Option<u64>,
    routine: bool,
    count: usize,
) -> Result<Vec<TransactionRow>> {
    let rows = store.rows(
        &format!(
            "{TRANSACTION} WHERE height < $1 AND routine <= $2
             ORDER BY height DESC, position DESC LIMIT $3"
        ),
        values![before.unwrap_or(u64::MAX), routine, count],
    )?;
    rows.iter().map(transaction).collect()
}

pub fn transactions_of(
    store: &Store,
    sender: &AccountId,
    count: usize,
) -> Result<Vec<TransactionRow>> {
    let rows = store.rows(
        &format!("{TRANSACTION} WHERE sender = $1 ORDER BY height DESC, position DESC LIMIT $2"),
        values![sender.to_string(), count],
    )?;
    rows.iter().map(transaction).collect()
}

/// When each of those that act for an account did so last, by the account that was let.
pub fn last_acts(store: &Store, sender: &AccountId) -> Result<BTreeMap<AccountId, u64>> {
    let rows = store.rows(
        "SELECT actor, max(time_ms) FROM transactions WHERE sender = $1 GROUP BY actor LIMIT 1000",
        values![sender.to_string()],
    )?;
    let mut acts = BTreeMap::new();
    for row in rows {
        let actor: Option<String> = row.get(0)?;
        if let Some(actor) = actor.and_then(|a| a.parse().ok()) {
            acts.insert(actor, row.get(1)?);
        }
    }
    Ok(acts)
}

pub(super) fn event(row: &Row) -> Result<EventRow> {
    Ok(EventRow {
        sequence: row.get(0)?,
        height: row.get(1)?,
        time_ms: row.get(2)?,
        kind: row.get(3)?,
        words: row.get(4)?,
        receipt: row.get(5)?,
        amount: amount(row.get(6)?),
    })
}

/// The first of its kind on a host since then; of receipts, the first that came to something.
pub fn first_on(store: &Store, host: &str, kind: &str, since_ms: u64) -> Result<Option<EventRow>> {
    let row = store.row(
        "SELECT sequence, height, time_ms, kind, words, receipt, amount FROM events
         WHERE host = $1 AND kind = $2 AND time_ms >= $3 AND (amount IS NULL OR amount <> '0')
         ORDER BY sequence LIMIT 1",
        values![host, kind, since_ms],
    )?;
    row.as_ref().map(event).transpose()
}

/// Latest first.
pub fn events(store: &Store, filter: &EventFilter, count: usize) -> Result<Vec<EventRow>> {
    let mut sql = String::from(
        "SELECT e.sequence, e.height, e.time_ms, e.kind, e.words, e.receipt, e.amount
         FROM events e",
    );
    let mut values: Vec<Value> = Vec::new();
    let mut rules: Vec<String> = Vec::new();
    let mut rule = |sql: &str, value: Value| {
        values.push(value);
        rules.push(format!("{sql} ${}", values.len()));
    };
    // The key of the table that names fewest: the order of its rows is that of the answer.
    let order = match &filter.account {
        Some(account) => {
            sql.push_str(" JOIN accounts a ON a.sequence = e.sequence");
            rule("a.account =", account.to_string().into());
            "a"
        }
        None => "e",
    };
    if let Some(deployment) = filter.deployment {
        rule("e.deployment =", deployment.0.into());
    }
    if let Some(host) = &filter.host {
        rule("e.host =", host.as_str().into());
    }
    if let Some(kind) = &filter.kind {
        rule(&format!("{order}.kind ="), kind.as_str().into());
    }
    if let Some(height) = filter.height {
        rule("e.height =", height.into());
    }
    if let Some(before) = filter.before {
        rule(&format!("{order}.sequence <"), before.into());
    }
    if !rules.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&rules.join(" AND "));
    }
    sql.push_str(&format!(" ORDER BY {order}.sequence DESC LIMIT {count}"));
    store.rows(&sql, &values)?.iter().map(event).collect()
}

/// Which side of a charge an account is on.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Payer,
    Payee,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
        }
    }
}

/// What sums by day are of.
#[derive(Clone, Copy, Debug)]
pub enum Spent {
    /// Paid for a deployment.
    Job,
    /// Paid to a host's owner, for use of the host.
    Host,
    /// What a host of its own brought in.
    Paid,
}

impl Spent {
    pub fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Host => "host",
            Self::Paid => "paid",
        }
    }
}

/// Charges from hour `since` on, in order of time: `count` rows behind `after`.
pub fn charges(
    store: &Store,
    side: Side,
    account: &AccountId,
    since: u64,
    after: Option<&ChargeRow>,
    count: usize,
) -> Result<Vec<ChargeRow>> {
    let column = side.name();
    let (hour, deployment, service, host) = after.map_or((0, 0, "", ""), |row| {
        (row.hour, row.deployment.0, &*row.service, &*row.host)
    });
    let rows = store.rows(
        &format!(
            "SELECT hour, deployment, service, host, cpu, memory, storage, bandwidth, transfer, moved
             FROM charges WHERE {column} = $1 AND hour >= $2
             AND (hour, deployment, service, host) > ($3, $4, $5, $6)
             ORDER BY hour, deployment, service, host LIMIT $7"
        ),
        values![
            account.to_string(),
            since.max(hour),
            hour,
            deployment,
            service,
            host,
            count
        ],
    )?;
    let charge = |row: &Row| {
        Ok(ChargeRow {
            hour: row.get(0)?,
            deployment: DeploymentId(row.get(1)?),
            service: row.get(2)?,
            host: row.get(3)?,
            amounts: amounts(row, 4)?,
            moved: row.get(9)?,
        })
    };
    rows.iter().map(charge).collect()
}

/// Months since the year 0.
pub fn month_number(ms: u64) -> u64 {
    let (year, month) = month_of(ms);
    year.unsigned_abs() * 12 + month as u64
}

/// A deployment as the subject of sums by month: texts in the order of their numbers.
pub fn subject_of(deployment: DeploymentId) -> String {
    format!("{:020}", deployment.0)
}

/// Charges of one month: for a job, to a host, or all of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonthRow {
    /// See [`month_number`].
    pub month: u64,
    /// See [`subject_of`], or a host's id; empty: all.
    pub subject: String,
    /// In the order of [`types::Resource::ALL`].
    pub amounts: [Amount; 5],
}

impl MonthRow {
    pub fn amount(&self) -> Amount {
        Amount(self.amounts.iter().map(|a| a.0).sum())
    }
}

fn month(row: &Row) -> Result<MonthRow> {
    Ok(MonthRow {
        month: row.get(0)?,
        subject: row.get(1)?,
        amounts: amounts(row, 2)?,
    })
}

/// What an account paid, or was paid, in each of these months, in order of time.
pub fn sums_of(
    store: &Store,
    side: Side,
    account: &AccountId,
    months: std::ops::RangeInclusive<u64>,
) -> Result<Vec<MonthRow>> {
    // Named one by one, each is found by its key, however many jobs the month has.
    let months: Vec<String> = months.map(|month| month.to_string()).collect();
    let rows = store.rows(
        &format!(
            "SELECT month, subject, cpu, memory, storage, bandwidth, transfer FROM months
             WHERE account = $1 AND side = $2 AND subject = '' AND month IN ({}) ORDER BY month",
            months.join(", ")
        ),
        values![account.to_string(), side.name()],
    )?;
    rows.iter().map(month).collect()
}

/// What an account has paid, or was paid, in all: also by or for what is there no more.
pub fn ever(store: &Store, side: Side, account: &AccountId) -> Result<Amount> {
    let rows = store.rows(
        "SELECT month, subject, cpu, memory, storage, bandwidth, transfer FROM months
         WHERE account = $1 AND side = $2 AND subject = ''",
        values![account.to_string(), side.name()],
    )?;
    let rows: Vec<MonthRow> = rows.iter().map(month).collect::<Result<_>>()?;
    Ok(Amount(rows.iter().map(|row| row.amount().0).sum()))
}

/// What an account paid for each job, or was paid for each host, from month `since` on, the latest
/// first: `count` rows behind `before`.
pub fn items_of(
    store: &Store,
    side: Side,
    account: &AccountId,
    since: u64,
    before: Option<&(u64, String)>,
    count: usize,
) -> Result<Vec<MonthRow>> {
    let (last, subject) = before.map_or((u64::MAX, ""), |(month, subject)| (*month, subject));
    let rows = store.rows(
        "SELECT month, subject, cpu, memory, storage, bandwidth, transfer FROM months
         WHERE account = $1 AND side = $2 AND month >= $3 AND (month, subject) < ($4, $5)
         AND subject <> '' ORDER BY month DESC, subject DESC LIMIT $6",
        values![
            account.to_string(),
            side.name(),
            since,
            last,
            subject,
            count
        ],
    )?;
    rows.iter().map(month).collect()
}

/// A deployment as everyone may know it.
#[derive(Clone, Debug)]
pub struct Deployed {
    pub deployment: DeploymentId,
    pub owner: String,
    pub project: String,
    /// When it was first deployed.
    pub time_ms: u64,
}

pub fn deployed(store: &Store, id: DeploymentId) -> Result<Option<Deployed>> {
    let row = store.row(
        "SELECT owner, project, time_ms FROM deployments WHERE deployment = $1",
        values![id.0],
    )?;
    row.map(|row| {
        Ok(Deployed {
            deployment: id,
            owner: row.get(0)?,
            project: row.get(1)?,
            time_ms: row.get(2)?,
        })
    })
    .transpose()
}

/// Whether an account has ever deployed, and whether a host was ever registered for it.
pub fn uses(store: &Store, account: &AccountId) -> Result<(bool, bool)> {
    let any = |sql: &str| {
        let row = store.row(sql, values![account.to_string()])?;
        Ok::<bool, anyhow::Error>(row.is_some())
    };
    Ok((
        any("SELECT 1 FROM deployments WHERE owner = $1 LIMIT 1")?,
        any("SELECT 1 FROM hosts WHERE owner = $1 LIMIT 1")?,
    ))
}

/// The project of a deployment.
pub fn project(store: &Store, id: DeploymentId) -> Result<Option<String>> {
    let sql = "SELECT project FROM deployments WHERE deployment = $1";
    let row = store.row(sql, values![id.0])?;
    row.map(|row| row.get(0)).transpose()
}

/// The name of a host.
pub fn host_name(store: &Store, id: &str) -> Result<Option<String>> {
    let row = store.row("SELECT name FROM hosts WHERE host = $1", values![id])?;
    row.map(|row| row.get(0)).transpose()
}

/// What an account paid, or was paid, in each hour from `since` on, in order of time.
pub fn by_hour(store: &Store, side: Side, account: &AccountId, since: u64) -> Result<Vec<HourRow>> {
    let rows = store.rows(
        "SELECT hour, cpu, memory, storage, bandwidth, transfer, moved, receipts
         FROM hours WHERE account = $1 AND side = $2 AND hour >= $3 ORDER BY hour",
        values![account.to_string(), side.name(), since],
    )?;
    let hour = |row: &Row| {
        Ok(HourRow {
            hour: row.get(0)?,
            amounts: amounts(row, 1)?,
            moved: row.get(6)?,
            receipts: row.get(7)?,
        })
    };
    rows.iter().map(hour).collect()
}

/// What an account paid, or was paid, from day `since` (of 1970) on: the `count` jobs or hosts
/// with the most, by their ids.
pub fn top(
    store: &Store,
    account: &AccountId,
    of: Spent,
    since: u64,
    count: usize,
) -> Result<Vec<(String, Amount)>> {
    // No integer of SQL holds the sums: ranks are found by about how much they are, and then they
    // are added up to the unit.
    let rows = store.rows(
        "SELECT subject FROM days WHERE account = $1 AND spent = $2 AND day >= $3 GROUP BY subject
         ORDER BY sum(CAST(amount AS DOUBLE PRECISION)) DESC, subject LIMIT $4",
        values![account.to_string(), of.name(), since, count],
    )?;
    let mut ranked: Vec<(String, Amount)> = Vec::new();
    for row in rows {
        let subject: String = row.get(0)?;
        let days = store.rows(
            "SELECT amount FROM days
             WHERE account = $1 AND spent = $2 AND day >= $3 AND subject = $4",
            values![account.to_string(), of.name(), since, subject.as_str()],
        )?;
        let mut sum = Amount::ZERO;
        for day in days {
            sum.0 = sum
                .0
                .saturating_add(amount(day.get(0)?).unwrap_or_default().0);
        }
        ranked.push((subject, sum));
    }
    ranked.sort_by_key(|(_, amount)| std::cmp::Reverse(*amount));
    Ok(ranked)
}

/// Status changes of an account's replicas from hour `since` on.
pub fn activity(store: &Store, owner: &AccountId, since: u64) -> Result<Activity> {
    let row = store.row(
        "SELECT CAST(coalesce(sum(changes), 0) AS BIGINT), CAST(coalesce(sum(failures), 0) AS BIGINT)
         FROM activity WHERE owner = $1 AND hour >= $2",
        values![owner.to_string(), since],
    )?;
    row.map_or(Ok(Activity::default()), |row| {
        Ok(Activity {
            changes: row.get(0)?,
            failures: row.get(1)?,
        })
    })
}

pub fn totals(store: &Store) -> Result<Totals> {
    let one = |sql: &str| -> Result<u64> {
        let row = store.row(sql, &[])?;
        Ok(row.map_or(Ok(None), |row| row.get(0))?.unwrap_or(0))
    };
    Ok(Totals {
        events: one("SELECT max(sequence) + 1 FROM events")?,
        receipts: one("SELECT count FROM counters WHERE name = 'receipts'")?,
        paid: super::charged::paid(store)?,
    })
}

/// Transactions, routine ones apart, in each of the last `count` minutes before `until_ms`.
pub fn per_minute(store: &Store, until_ms: u64, count: u64) -> Result<Vec<u64>> {
    let last = until_ms / 60_000;
    let first = last.saturating_sub(count - 1);
    // A minute has at most some hundred blocks: the bound keeps the scan short.
    let bound = count * 600;
    let rows = store.rows(
        "SELECT time_ms / 60000, CAST(sum(transactions) AS BIGINT) FROM blocks
         WHERE time_ms >= $1 AND time_ms < $2 AND height > (SELECT max(height) FROM blocks) - $3
         GROUP BY 1",
        values![first * 60_000, (last + 1) * 60_000, bound],
    )?;
    let mut out = vec![0; count as usize];
    for row in rows {
        let minute: u64 = row.get(0)?;
        if let Some(slot) = out.get_mut((minute - first) as usize) {
            *slot = row.get(1)?;
        }
    }
    Ok(out)
}

/// Hosts whose name or id begins so.
pub fn named(store: &Store, text: &str) -> Result<Vec<(String, String)>> {
    let pattern: String = text
        .chars()
        .take(60)
        .flat_map(|c| match c {
            '%' | '_' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    let rows = store.rows(
        "SELECT name, host FROM hosts
         WHERE lower(name) LIKE lower($1) ESCAPE '\\' OR host LIKE lower($1) ESCAPE '\\' LIMIT 20",
        values![format!("{pattern}%")],
    )?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}
