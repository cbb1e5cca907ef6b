//! The index's tables, and whose they are.

use anyhow::{Result, bail};

use super::store::{Store, values};

/// Changes with the tables: an index of an older number is made anew from the chain.
const VERSION: u64 = 9;

const TABLES: &str = "
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, digest TEXT NOT NULL,
    proposer TEXT NOT NULL, transactions INTEGER NOT NULL, events INTEGER NOT NULL);
CREATE INDEX blocks_digest ON blocks (digest);
CREATE TABLE transactions (
    id TEXT PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, sender TEXT, kind TEXT NOT NULL, words TEXT NOT NULL,
    refused TEXT, routine INTEGER NOT NULL, actor TEXT, signer TEXT) WITHOUT ROWID;
CREATE INDEX transactions_height ON transactions (height, position);
CREATE INDEX transactions_sender ON transactions (sender, height);
CREATE INDEX transactions_actor ON transactions (sender, actor, time_ms);
CREATE INDEX transactions_routine ON transactions (routine, height);
CREATE INDEX transactions_signer ON transactions (signer, height);
CREATE INDEX transactions_done_by ON transactions (actor, height);
CREATE INDEX transactions_kind ON transactions (kind, height);
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, height INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    kind TEXT NOT NULL, words TEXT NOT NULL, deployment INTEGER, host TEXT, receipt INTEGER,
    amount TEXT, failed INTEGER NOT NULL);
CREATE INDEX events_height ON events (height);
CREATE INDEX events_deployment ON events (deployment, sequence);
CREATE INDEX events_host ON events (host, sequence);
CREATE INDEX events_kind ON events (kind, sequence);
CREATE TABLE accounts (
    account TEXT NOT NULL, sequence INTEGER NOT NULL, kind TEXT NOT NULL,
    PRIMARY KEY (account, sequence)) WITHOUT ROWID;
CREATE INDEX accounts_kind ON accounts (account, kind, sequence);
CREATE TABLE charges (
    hour INTEGER NOT NULL, deployment INTEGER NOT NULL, service TEXT NOT NULL, host TEXT NOT NULL,
    payer TEXT NOT NULL, payee TEXT NOT NULL, cpu TEXT NOT NULL, memory TEXT NOT NULL,
    storage TEXT NOT NULL, bandwidth TEXT NOT NULL, transfer TEXT NOT NULL,
    moved INTEGER NOT NULL, receipts INTEGER NOT NULL,
    PRIMARY KEY (hour, deployment, service, host)) WITHOUT ROWID;
CREATE INDEX charges_payer ON charges (payer, hour);
CREATE INDEX charges_payee ON charges (payee, hour);
CREATE TABLE hours (
    account TEXT NOT NULL, side TEXT NOT NULL, hour INTEGER NOT NULL, cpu TEXT NOT NULL,
    memory TEXT NOT NULL, storage TEXT NOT NULL, bandwidth TEXT NOT NULL, transfer TEXT NOT NULL,
    moved INTEGER NOT NULL, receipts INTEGER NOT NULL,
    PRIMARY KEY (account, side, hour)) WITHOUT ROWID;
CREATE TABLE days (
    account TEXT NOT NULL, spent TEXT NOT NULL, day INTEGER NOT NULL, subject TEXT NOT NULL,
    amount TEXT NOT NULL, PRIMARY KEY (account, spent, day, subject)) WITHOUT ROWID;
CREATE TABLE months (
    account TEXT NOT NULL, side TEXT NOT NULL, month INTEGER NOT NULL, subject TEXT NOT NULL,
    cpu TEXT NOT NULL, memory TEXT NOT NULL, storage TEXT NOT NULL, bandwidth TEXT NOT NULL,
    transfer TEXT NOT NULL, PRIMARY KEY (account, side, month, subject)) WITHOUT ROWID;
CREATE TABLE activity (
    owner TEXT NOT NULL, hour INTEGER NOT NULL, changes INTEGER NOT NULL, failures INTEGER NOT NULL,
    PRIMARY KEY (owner, hour)) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE hosts (host TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX hosts_owner ON hosts (owner);
CREATE TABLE deployments (
    deployment INTEGER PRIMARY KEY, owner TEXT NOT NULL, project TEXT NOT NULL, time_ms INTEGER NOT NULL);
CREATE INDEX deployments_owner ON deployments (owner);
CREATE TABLE incidents (
    kind TEXT NOT NULL, subject TEXT NOT NULL, height INTEGER NOT NULL, from_ms INTEGER NOT NULL,
    until_ms INTEGER, times INTEGER NOT NULL, words TEXT NOT NULL,
    PRIMARY KEY (kind, subject, height)) WITHOUT ROWID;
CREATE INDEX incidents_open ON incidents (kind, subject, until_ms);
CREATE INDEX incidents_from ON incidents (from_ms);
CREATE TABLE seats (
    epoch INTEGER NOT NULL, place INTEGER NOT NULL, validator TEXT NOT NULL,
    PRIMARY KEY (epoch, place)) WITHOUT ROWID;
CREATE TABLE waits (
    sequence INTEGER PRIMARY KEY, deployment INTEGER NOT NULL, service TEXT NOT NULL,
    replica INTEGER NOT NULL, from_ms INTEGER NOT NULL, until_ms INTEGER, why TEXT NOT NULL);
CREATE INDEX waits_seat ON waits (deployment, service, replica);
CREATE INDEX waits_until ON waits (until_ms);
CREATE TABLE causes (
    cause TEXT NOT NULL, sequence INTEGER NOT NULL, hosts INTEGER NOT NULL,
    PRIMARY KEY (cause, sequence)) WITHOUT ROWID;
CREATE INDEX causes_sequence ON causes (sequence);
CREATE TABLE payouts (
    payee TEXT NOT NULL, sequence INTEGER NOT NULL, host TEXT NOT NULL,
    PRIMARY KEY (payee, sequence)) WITHOUT ROWID;
CREATE INDEX payouts_host ON payouts (payee, host, sequence);
CREATE TABLE runs (
    allocation INTEGER PRIMARY KEY, deployment INTEGER NOT NULL, service TEXT NOT NULL,
    host TEXT NOT NULL, leaves INTEGER NOT NULL, failed INTEGER NOT NULL, lost INTEGER NOT NULL,
    until_ms INTEGER);
CREATE INDEX runs_host ON runs (host, until_ms);
CREATE INDEX runs_deployment ON runs (deployment);
CREATE TABLE starts (
    allocation INTEGER PRIMARY KEY, owner TEXT NOT NULL, placed_ms INTEGER NOT NULL,
    wait_ms INTEGER NOT NULL, ready_ms INTEGER);
CREATE INDEX starts_owner ON starts (owner, placed_ms);
CREATE TABLE failures (
    sequence INTEGER PRIMARY KEY, owner TEXT NOT NULL, time_ms INTEGER NOT NULL,
    cause TEXT NOT NULL);
CREATE INDEX failures_owner ON failures (owner, time_ms);
";

/// Makes the tables where they are missing, or old.
///
/// Errors: others share this index, and it is of a newer portal.
pub fn prepare(store: &Store) -> Result<()> {
    if version(store)? == Some(VERSION) {
        return Ok(());
    }
    store.transaction(|store| match version(store)? {
        // Another portal was faster.
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION && store.is_shared() => bail!(
            "the index has tables of a newer portal (number {found}, this one knows {VERSION}): \
             upgrade this portal, or give it a database of its own"
        ),
        _ => anew(store),
    })
}

/// Whether [`prepare`] would throw blocks away, which only the chain can bring again.
pub fn is_old(store: &Store) -> Result<bool> {
    let has_blocks = || {
        let row = store.row("SELECT height FROM blocks LIMIT 1", &[]);
        row.map(|row| row.is_some())
    };
    match version(store)? {
        Some(VERSION) => Ok(false),
        Some(found) if found > VERSION && store.is_shared() => Ok(false),
        _ if !store.tables()?.iter().any(|table| table == "blocks") => Ok(false),
        _ => has_blocks(),
    }
}

/// Makes the index one of `network`, empty, if it is of none.
///
/// Errors: others share it, and it is of another network. One of our own is made anew then.
pub fn belong(store: &Store, network: &str) -> Result<()> {
    if fact(store, "network")?.as_deref() == Some(network) {
        return Ok(());
    }
    store.transaction(|store| {
        match fact(store, "network")? {
            Some(of) if of == network => return Ok(()),
            Some(of) if store.is_shared() => bail!(
                "the database has the index of another network ({of}): give this portal a database \
                 of its own, or give that index up with DROP SCHEMA runrig_index CASCADE"
            ),
            Some(_) => anew(store)?,
            None => {}
        }
        store.execute("INSERT INTO facts VALUES ('network', $1)", values![network])?;
        Ok(())
    })
}

/// Of which network the index is.
pub fn network(store: &Store) -> Result<Option<String>> {
    fact(store, "network")
}

fn fact(store: &Store, name: &str) -> Result<Option<String>> {
    let row = store.row("SELECT value FROM facts WHERE name = $1", values![name])?;
    row.map(|row| row.get(0)).transpose()
}

/// None where there are no tables, or such as had no number.
fn version(store: &Store) -> Result<Option<u64>> {
    if !store.tables()?.iter().any(|table| table == "facts") {
        return Ok(None);
    }
    Ok(fact(store, "version")?.and_then(|text| text.parse().ok()))
}

fn anew(store: &Store) -> Result<()> {
    for table in store.tables()? {
        store.batch(&format!("DROP TABLE \"{table}\""))?;
    }
    store.make(TABLES)?;
    store.execute(
        "INSERT INTO facts VALUES ('version', $1)",
        values![VERSION.to_string()],
    )?;
    Ok(())
}
