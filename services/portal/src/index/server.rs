//! The index on a PostgreSQL server, which several portals may share.
//!
//! Its tables are in a schema of their own. Whoever writes holds a lock until the transaction ends,
//! so portals take turns; each checks then that the index still ends where it thought
//! ([`super::write::take`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::pin::pin;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::TryStreamExt;
use tokio::runtime::Handle;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::secure;
use super::store::{Known, Row, Value};

/// Of the versions that PostgreSQL's authors still mend, the oldest.
const OLDEST: u32 = 14;
const CONNECT: Duration = Duration::from_secs(5);
/// For one statement.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a connection failed, nobody tries again for so long.
const RETRY: Duration = Duration::from_secs(2);
/// Statements kept prepared; filters make many.
const STATEMENTS: usize = 256;

/// Which server, database and user.
#[derive(Clone)]
pub struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// Without the password.
    words: String,
}

impl FromStr for Address {
    type Err = anyhow::Error;

    /// Of `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Errors never repeat it: it has a password.
    fn from_str(url: &str) -> Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            bail!(
                "the index is at no URL of PostgreSQL: --index postgres://USER:PASSWORD@HOST/DATABASE, \
                 or leave it out for a file in the data folder"
            );
        }
        let (url, tls) = secure::of(url)?;
        let mut config: Config = url
            .parse()
            .map_err(|e: tokio_postgres::Error| anyhow!("the URL of the index: {}", said(&e)))?;
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => {
                bail!("the URL of the index names no host: --index postgres://USER@HOST/DATABASE")
            }
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let user = config.get_user().unwrap_or("nobody");
        let database = config.get_dbname().unwrap_or(user);
        let words = format!("database {database} of PostgreSQL at {host}:{port} as {user}");
        let given = config.get_options().unwrap_or_default();
        let options = format!(
            "{given} -c search_path=runrig_index -c statement_timeout={}",
            PATIENCE.as_millis()
        );
        config
            .options(options)
            .application_name("runrig portal")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(PATIENCE)
            .keepalives_idle(PATIENCE);
        Ok(Self { config, tls, words })
    }
}

/// A session with it, made when it is needed. Only for threads that may wait.
pub struct Server {
    address: Address,
    runtime: Handle,
    session: RefCell<Option<Session>>,
    pub(super) known: RefCell<Known>,
    /// When a connection failed, and why.
    failed: RefCell<Option<(Instant, String)>>,
}

struct Session {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Server {
    /// Makes the schema. (`IF NOT EXISTS` would ask for a right that who may use it need not have.)
    pub const SCHEMA: &str = "DO $$ BEGIN IF to_regnamespace('runrig_index') IS NULL
        THEN CREATE SCHEMA runrig_index; END IF; END $$";
    /// Any number that others who use this database are unlikely to choose: `runrig` in ASCII.
    pub const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(125823074593127)";
    pub const TABLES: &str =
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'runrig_index'";

    /// Must be called in a runtime.
    pub fn new(address: &Address) -> Self {
        Self {
            address: address.clone(),
            runtime: Handle::current(),
            session: RefCell::default(),
            known: RefCell::default(),
            failed: RefCell::default(),
        }
    }

    pub fn ready(&self) -> Result<()> {
        let mut session = self.session.borrow_mut();
        if session.as_ref().is_some_and(|s| !s.client.is_closed()) {
            return Ok(());
        }
        *session = None;
        let mut failed = self.failed.borrow_mut();
        if let Some((when, why)) = failed.as_ref()
            && when.elapsed() < RETRY
        {
            bail!("{why}");
        }
        match self.connect() {
            Ok(client) => {
                *session = Some(Session {
                    client,
                    statements: HashMap::new(),
                });
                *failed = None;
                Ok(())
            }
            Err(error) => {
                *failed = Some((Instant::now(), format!("{error:#}")));
                Err(error)
            }
        }
    }

    fn connect(&self) -> Result<Client> {
        let words = &self.address.words;
        self.runtime.block_on(async {
            let config = &self.address.config;
            let client = match self.address.tls.clone() {
                Some(tls) => begin(config, tls).await,
                None => begin(config, NoTls).await,
            };
            let client = client.map_err(|e| refused(&e, words))?;
            let row = client
                .query_one("SELECT current_setting('server_version_num')::int", &[])
                .await
                .map_err(|e| refused(&e, words))?;
            enough(row.get::<_, i32>(0).cast_unsigned()).with_context(|| words.clone())?;
            Ok(client)
        })
    }

    pub fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        let (rows, _) = self.ask(sql, Some(values))?;
        rows.iter().map(row).collect()
    }

    pub fn execute(&self, sql: &str, values: &[Value]) -> Result<u64> {
        Ok(self.ask(sql, Some(values))?.1)
    }

    pub fn batch(&self, sql: &str) -> Result<()> {
        self.ask(sql, None).map(drop)
    }

    /// Waits for the server, not for ever. A session that failed at something forgets what it
    /// prepared: the tables may be others by now.
    fn ask(&self, sql: &str, values: Option<&[Value]>) -> Result<Answer> {
        let words = &self.address.words;
        let mut open = self.session.borrow_mut();
        let Some(session) = open.as_mut() else {
            bail!("no connection to the {words}");
        };
        // A timer needs the runtime around it.
        let answer = async { tokio::time::timeout(PATIENCE, session.ask(sql, values)).await };
        match self.runtime.block_on(answer) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                session.statements.clear();
                Err(refused(&error, words))
            }
            Err(_) => {
                *open = None;
                bail!("the {words} did not answer for {} s", PATIENCE.as_secs())
            }
        }
    }
}

async fn begin<T>(config: &Config, tls: T) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    // Ends with the client.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(why = said(&error), "the connection to the index is lost");
        }
    });
    Ok(client)
}

/// Rows, and how many were changed.
type Answer = (Vec<tokio_postgres::Row>, u64);

impl Session {
    /// One statement with values, or several without.
    async fn ask(
        &mut self,
        sql: &str,
        values: Option<&[Value]>,
    ) -> Result<Answer, tokio_postgres::Error> {
        let Some(values) = values else {
            self.client.batch_execute(sql).await?;
            return Ok(Answer::default());
        };
        let statement = match self.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare(sql).await?;
                if self.statements.len() >= STATEMENTS {
                    self.statements.clear();
                }
                self.statements.insert(sql.into(), statement.clone());
                statement
            }
        };
        let mut stream = pin!(self.client.query_raw(&statement, values).await?);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        Ok((rows, stream.rows_affected().unwrap_or(0)))
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::None => Ok(IsNull::Yes),
            Self::Number(number) if *of == Type::INT4 => i32::try_from(*number)?.to_sql(of, out),
            Self::Number(number) if *of == Type::INT8 => number.to_sql(of, out),
            // The one sign that texts of SQLite may have, and those of PostgreSQL may not.
            Self::Text(text) if *of == Type::TEXT => text.replace('\0', "\u{fffd}").to_sql(of, out),
            other => Err(format!("{other:?} where the statement takes {of}").into()),
        }
    }

    /// [`Self::to_sql`] says it better.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn row(row: &tokio_postgres::Row) -> Result<Row> {
    let value = |(at, column): (usize, &tokio_postgres::Column)| {
        let of = column.type_();
        Ok(if *of == Type::INT8 {
            row.try_get::<_, Option<i64>>(at)?
                .map_or(Value::None, Value::Number)
        } else if *of == Type::INT4 {
            let number: Option<i32> = row.try_get(at)?;
            number.map_or(Value::None, |n| Value::Number(n.into()))
        } else if *of == Type::TEXT {
            row.try_get::<_, Option<String>>(at)?.into()
        } else {
            bail!(
                "column {} of the index is {of}: the statement must cast it",
                column.name()
            )
        })
    };
    row.columns()
        .iter()
        .enumerate()
        .map(value)
        .collect::<Result<_>>()
        .map(Row)
}

/// Errors: the server is older than what is tested.
pub(super) fn enough(version: u32) -> Result<()> {
    let major = version / 10_000;
    if major < OLDEST {
        bail!("the server is PostgreSQL {major}: the index needs {OLDEST} or newer");
    }
    Ok(())
}

/// What went wrong, in the server's own words where it said something.
fn said(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(told), _) => told.message().to_string(),
        (None, Some(cause)) => cause.to_string(),
        (None, None) => error.to_string(),
    }
}

fn refused(error: &tokio_postgres::Error, words: &str) -> anyhow::Error {
    let said = said(error);
    let Some(code) = error.code() else {
        if said.contains("certificate") {
            return anyhow!(
                "the {words} is not trusted: {said}; name the file of its authority in --index: \
                 sslmode=verify-full&sslrootcert=FILE"
            );
        }
        return anyhow!(
            "the {words} does not answer: {said}; is the server running, and does it listen there?"
        );
    };
    let next = match code {
        c if *c == SqlState::INVALID_PASSWORD => "; mend the password in --index",
        c if *c == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "; let this user in by pg_hba.conf, or name another in --index"
        }
        c if *c == SqlState::UNDEFINED_DATABASE => "; make it with createdb",
        c if *c == SqlState::INSUFFICIENT_PRIVILEGE => {
            "; make the user its owner: ALTER DATABASE … OWNER TO …"
        }
        _ => "",
    };
    anyhow!("the {words} refuses: {said}{next}")
}
