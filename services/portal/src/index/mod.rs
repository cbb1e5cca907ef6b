//! Blocks, transactions, events and charges in SQL, for lists, search and charts.
//!
//! Follows the API, believes nothing that is not certified ([`follow`]), and can be made again
//! from the chain at any time. Never the truth for money.

mod follow;
pub mod query;
mod write;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use rusqlite::Connection;

pub use follow::follow;
pub use query::{BlockRow, ChargeRow, EventFilter, EventRow, TransactionRow};

/// Changes with the tables: an index of another number is made anew.
const VERSION: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, digest TEXT NOT NULL,
    proposer TEXT NOT NULL, transactions INTEGER NOT NULL, events INTEGER NOT NULL);
CREATE INDEX blocks_digest ON blocks (digest);
CREATE TABLE transactions (
    id TEXT PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, sender TEXT, kind TEXT NOT NULL, words TEXT NOT NULL,
    refused TEXT, routine INTEGER NOT NULL, actor TEXT) WITHOUT ROWID;
CREATE INDEX transactions_height ON transactions (height, position);
CREATE INDEX transactions_sender ON transactions (sender, height);
CREATE INDEX transactions_actor ON transactions (sender, actor, time_ms);
CREATE INDEX transactions_routine ON transactions (routine, height);
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, height INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    kind TEXT NOT NULL, words TEXT NOT NULL, deployment INTEGER, host TEXT, receipt INTEGER,
    amount TEXT, failed INTEGER NOT NULL);
CREATE INDEX events_height ON events (height);
CREATE INDEX events_deployment ON events (deployment, sequence);
CREATE INDEX events_host ON events (host, sequence);
CREATE INDEX events_kind ON events (kind, sequence);
CREATE TABLE accounts (
    account TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (account, sequence)) WITHOUT ROWID;
CREATE TABLE charges (
    hour INTEGER NOT NULL, deployment INTEGER NOT NULL, service TEXT NOT NULL, host TEXT NOT NULL,
    payer TEXT NOT NULL, payee TEXT NOT NULL, cpu TEXT NOT NULL, memory TEXT NOT NULL,
    storage TEXT NOT NULL, bandwidth TEXT NOT NULL, transfer TEXT NOT NULL,
    moved INTEGER NOT NULL, receipts INTEGER NOT NULL,
    PRIMARY KEY (hour, deployment, service, host)) WITHOUT ROWID;
CREATE INDEX charges_payer ON charges (payer, hour);
CREATE INDEX charges_payee ON charges (payee, hour);
CREATE TABLE hosts (host TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE deployments (
    deployment INTEGER PRIMARY KEY, owner TEXT NOT NULL, project TEXT NOT NULL, time_ms INTEGER NOT NULL);
CREATE INDEX deployments_owner ON deployments (owner);
";

/// How far the index is, and what keeps it from going on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks up to here are in it.
    pub height: u64,
    /// The network's head, as last heard.
    pub head: u64,
    pub trouble: Option<String>,
}

/// One connection that writes, one that reads; neither waits for the other.
#[derive(Clone)]
pub struct Index(Arc<Connections>);

struct Connections {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

fn held(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(|e| e.into_inner())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

impl Index {
    /// Opens the index, or makes it: an index of another version is dropped.
    pub fn open(path: &Path) -> Result<Self> {
        let writer = connect(path).with_context(|| format!("open {}", path.display()))?;
        let version: i64 = writer.pragma_query_value(None, "user_version", |r| r.get(0))?;
        if version != VERSION {
            reset(&writer)?;
        }
        let reader = connect(path)?;
        Ok(Self(Arc::new(Connections {
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
        })))
    }

    /// Asks the index on a thread that may wait for the disk.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let index = self.clone();
        let answer = tokio::task::spawn_blocking(move || question(&held(&index.0.reader))).await?;
        Ok(answer?)
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let index = self.clone();
        let done = tokio::task::spawn_blocking(move || change(&mut held(&index.0.writer))).await?;
        Ok(done?)
    }
}

/// Drops every table and makes them anew.
fn reset(connection: &Connection) -> rusqlite::Result<()> {
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for table in tables {
        connection.execute_batch(&format!("DROP TABLE \"{table}\""))?;
    }
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "user_version", VERSION)
}

#[cfg(test)]
mod tests;
