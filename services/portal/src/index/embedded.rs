//! The index in a file of its own: SQLite.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ToSql, params_from_iter};

use super::store::{Known, Row, Value};

/// Statements kept prepared.
const STATEMENTS: usize = 64;

pub struct Embedded(Connection, pub(super) RefCell<Known>);

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(match self {
            Self::None => rusqlite::types::Null.into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
        })
    }
}

impl Embedded {
    /// Waits for who else writes, instead of failing at the first change.
    pub const BEGIN: &str = "BEGIN IMMEDIATE";
    pub const TABLES: &str = "SELECT name FROM sqlite_master WHERE type = 'table'";

    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            Ok(connection)
        };
        let connection = open().with_context(|| format!("open {}", path.display()))?;
        Ok(Self(connection, RefCell::default()))
    }

    pub fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        let mut statement = self.0.prepare_cached(&numbered(sql))?;
        let columns = statement.column_count();
        let mut found = statement.query(params_from_iter(values))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let cells = (0..columns).map(|at| value(row.get_ref(at)?));
            rows.push(Row(cells.collect::<Result<_>>()?));
        }
        Ok(rows)
    }

    pub fn execute(&self, sql: &str, values: &[Value]) -> Result<u64> {
        let mut statement = self.0.prepare_cached(&numbered(sql))?;
        Ok(statement.execute(params_from_iter(values))? as u64)
    }

    pub fn batch(&self, sql: &str) -> Result<()> {
        Ok(self.0.execute_batch(sql)?)
    }
}

/// SQLite takes `$1` for a name; its numbers are `?1`.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn value(column: ValueRef) -> Result<Value> {
    Ok(match column {
        ValueRef::Null => Value::None,
        ValueRef::Integer(number) => Value::Number(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        other => bail!("a column of the index is {}", other.data_type()),
    })
}
