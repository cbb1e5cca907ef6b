//! One way to speak SQL to both databases: statements are written once, with `$1` for values.
//!
//! Only what both understand alike is used: whole numbers of 64 bits and texts, and SQL that has
//! the same meaning in SQLite and in PostgreSQL. Sums are cast (`CAST(sum(x) AS BIGINT)`), upserts
//! name their key, texts are compared by `lower(…)` where case does not matter.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use words::Names;

use super::embedded::Embedded;
use super::server::{Address, Server};

/// What a column holds, or a statement is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    None,
    Number(i64),
    Text(String),
}

impl From<u64> for Value {
    /// What no column can hold is the largest that it can.
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        (number as u64).into()
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Number(yes.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// `values![height, name]`: what stands for `$1`, `$2`.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::index::store::Value::from($value)),*] };
}
pub(super) use values;

/// What Rust makes of a column.
pub trait Column: Sized {
    fn of(value: &Value) -> Option<Self>;
}

impl Column for u64 {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
}

impl Column for String {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::None => Some(None),
            some => T::of(some).map(Some),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    /// The column at `at`, from 0.
    pub fn get<T: Column>(&self, at: usize) -> Result<T> {
        let value = self.0.get(at);
        value
            .and_then(T::of)
            .with_context(|| format!("column {at} of the index is {value:?}"))
    }
}

/// Names that a session has read, and of which network: none is read twice.
#[derive(Default)]
pub struct Known {
    pub network: Option<String>,
    pub names: Arc<Names>,
}

/// A session with a database: one statement at a time.
pub enum Store {
    Embedded(Embedded),
    Server(Server),
}

impl Store {
    pub fn file(path: &Path) -> Result<Self> {
        Ok(Self::Embedded(Embedded::open(path)?))
    }

    pub fn server(address: &Address) -> Self {
        Self::Server(Server::new(address))
    }

    pub fn known(&self) -> &RefCell<Known> {
        match self {
            Self::Embedded(file) => &file.1,
            Self::Server(server) => &server.known,
        }
    }

    /// Others use it too: what is in it is not ours alone to throw away.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// Connects anew where the connection was lost. Never in the middle of a transaction.
    pub fn ready(&self) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Server(server) => server.ready(),
        }
    }

    pub fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        match self {
            Self::Embedded(file) => file.rows(sql, values),
            Self::Server(server) => server.rows(sql, values),
        }
    }

    /// The first of them.
    pub fn row(&self, sql: &str, values: &[Value]) -> Result<Option<Row>> {
        Ok(self.rows(sql, values)?.into_iter().next())
    }

    /// How many rows it changed.
    pub fn execute(&self, sql: &str, values: &[Value]) -> Result<u64> {
        match self {
            Self::Embedded(file) => file.execute(sql, values),
            Self::Server(server) => server.execute(sql, values),
        }
    }

    /// Several statements without values.
    pub fn batch(&self, sql: &str) -> Result<()> {
        match self {
            Self::Embedded(file) => file.batch(sql),
            Self::Server(server) => server.batch(sql),
        }
    }

    /// Makes tables from a text for SQLite: of the names of its types and options, two differ.
    pub fn make(&self, tables: &str) -> Result<()> {
        match self {
            Self::Embedded(file) => file.batch(tables),
            Self::Server(server) => {
                server.batch(Server::SCHEMA)?;
                server.batch(
                    &tables
                        .replace(" INTEGER", " BIGINT")
                        .replace(" WITHOUT ROWID", ""),
                )
            }
        }
    }

    /// Names of the index's tables that are there.
    pub fn tables(&self) -> Result<Vec<String>> {
        let sql = match self {
            Self::Embedded(_) => Embedded::TABLES,
            Self::Server(_) => Server::TABLES,
        };
        self.rows(sql, &[])?.iter().map(|row| row.get(0)).collect()
    }

    /// All that `act` changes, or nothing. Who else wants to change something waits meanwhile.
    pub fn transaction<T>(&self, act: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.batch(match self {
            Self::Embedded(_) => Embedded::BEGIN,
            Self::Server(_) => Server::BEGIN,
        })?;
        let open = Open(self);
        let done = act(self)?;
        self.batch("COMMIT")?;
        std::mem::forget(open);
        Ok(done)
    }
}

/// A transaction that is undone when it is dropped, by an error or a panic.
struct Open<'a>(&'a Store);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.batch("ROLLBACK") {
            // The connection is gone, and the transaction with it.
            tracing::debug!(%error, "a transaction of the index was not undone");
        }
    }
}
