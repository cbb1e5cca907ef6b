//! What services were asked in each hour and each day, on disk: it outlives the gateway, and the services.
//!
//! Requests are counted where they end ([`crate::tally`]) and written here once in a minute, so a gateway
//! that is killed loses a minute. Nobody's requests are told to others: rows are kept by owner.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::{Access, PastStep, RequestPast, RequestsPast};
use borsh::{BorshDeserialize, BorshSerialize};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition,
};
use types::{AccountId, DeploymentId};

use crate::proxy::Gateway;
use crate::served::{CLASSES, class_of, quantile};
use crate::table::Service;

pub const HOUR_MS: u64 = 3_600_000;
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// So long they are kept.
const HOURS_KEPT_MS: u64 = 35 * DAY_MS;
const DAYS_KEPT_MS: u64 = 400 * DAY_MS;
/// Of each kind, some 300 bytes each; when there are so many, none is begun.
const ROWS_MAX: u64 = 1_000_000;
/// Hours of services that went within one minute.
const GONE_MAX: usize = 10_000;
const EVERY: Duration = Duration::from_secs(60);
/// However many ask, the disk is written no more often for it.
const FRESH_MS: u64 = 2_000;
/// What is too old is looked for this often.
const TIDY_EVERY: u32 = 60;
const CACHE_BYTES: usize = 8 << 20;

/// By [`key`].
const HOURS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("hours");
const DAYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("days");
const BEGUN: TableDefinition<&str, u64> = TableDefinition::new("begun");

/// What one service was asked in a step of time.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Asked {
    /// By the first digit of the status: 1xx to 5xx.
    answers: [u64; 5],
    received: u64,
    sent: u64,
    latency: [u32; CLASSES],
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            answers: [0; 5],
            received: 0,
            sent: 0,
            latency: [0; CLASSES],
        }
    }
}

impl Asked {
    pub fn add(&mut self, access: &Access) {
        self.answers[usize::from(access.status / 100).clamp(1, 5) - 1] += 1;
        self.received = self.received.saturating_add(access.received);
        self.sent = self.sent.saturating_add(access.sent);
        let class = &mut self.latency[class_of(access.duration_us)];
        *class = class.saturating_add(1);
    }

    fn merge(&mut self, more: &Self) {
        for (sum, n) in self.answers.iter_mut().zip(more.answers) {
            *sum = sum.saturating_add(n);
        }
        self.received = self.received.saturating_add(more.received);
        self.sent = self.sent.saturating_add(more.sent);
        for (sum, n) in self.latency.iter_mut().zip(more.latency) {
            *sum = sum.saturating_add(n);
        }
    }
}

/// Whose they are and which service it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    pub owner: AccountId,
    pub deployment: DeploymentId,
    pub service: String,
}

/// Owner, deployment, service, beginning: in this order, and of one length but for the service.
fn key(whose: &Whose, at_ms: u64) -> Vec<u8> {
    let mut key = whose.owner.0.to_vec();
    key.extend(whose.deployment.0.to_be_bytes());
    key.extend(whose.service.as_bytes());
    key.extend(at_ms.to_be_bytes());
    key
}

/// As [`key`] wrote it; `None`: it did not.
fn read_key(owner: &AccountId, key: &[u8]) -> Option<(DeploymentId, String, u64)> {
    let rest = key.strip_prefix(&owner.0[..])?;
    let (deployment, rest) = rest.split_first_chunk()?;
    let (service, at) = rest.split_last_chunk()?;
    let service = String::from_utf8(service.to_vec()).ok()?;
    let deployment = DeploymentId(u64::from_be_bytes(*deployment));
    Some((deployment, service, u64::from_be_bytes(*at)))
}

/// When the row with `key` began.
fn begin_of(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |at| u64::from_be_bytes(*at))
}

/// What a service was asked in an hour, by its number since 1970.
type Hour = (Whose, u64, Asked);

/// The kept steps.
pub struct Past {
    database: Database,
    begun_ms: u64,
    /// Of services that are gone, until it is written down.
    gone: Mutex<Vec<Hour>>,
    /// When it was written down last.
    written_ms: AtomicU64,
}

impl Past {
    /// Opens the file in `folder`, or begins one at `now_ms`.
    ///
    /// Errors: it cannot be written, or is damaged.
    pub fn open(folder: &Path, now_ms: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join("requests.redb");
        let open = || {
            Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(&path)
        };
        // What was cut or overwritten is a panic there.
        let opened = std::panic::catch_unwind(open).ok().and_then(Result::ok);
        let database = opened.with_context(|| {
            let path = path.display();
            format!("{path} cannot be opened: end another gateway that uses it, or move it away; what it knew of the past is lost then")
        })?;
        let write = database.begin_write()?;
        let begun_ms = {
            write.open_table(HOURS)?;
            write.open_table(DAYS)?;
            let mut begun = write.open_table(BEGUN)?;
            let known = begun.get("ms")?.map(|at| at.value());
            match known {
                Some(at) => at,
                None => {
                    begun.insert("ms", now_ms)?;
                    now_ms
                }
            }
        };
        write.commit()?;
        Ok(Self {
            database,
            begun_ms,
            gone: Mutex::default(),
            written_ms: AtomicU64::new(0),
        })
    }

    /// Keeps what `service` has counted, for it is no longer among those that are looked at. What ends
    /// later is not counted.
    pub fn part_from(&self, service: &Service) {
        let mut gone = self.gone.lock().expect("not poisoned");
        let room = GONE_MAX.saturating_sub(gone.len());
        gone.extend(hours_of(service).take(room));
    }

    /// Adds what was asked.
    ///
    /// Errors: the disk is full, or fails.
    pub fn add(&self, asked: &[Hour]) -> Result<()> {
        let write = self.database.begin_write()?;
        for (table, step_ms) in [(HOURS, HOUR_MS), (DAYS, DAY_MS)] {
            let mut table = write.open_table(table)?;
            let mut room = ROWS_MAX.saturating_sub(table.len()?);
            for (whose, hour, more) in asked {
                let at_ms = hour * HOUR_MS / step_ms * step_ms;
                let key = key(whose, at_ms);
                let known = table.get(&key[..])?;
                let known = known.map(|row| Asked::try_from_slice(row.value()));
                let mut row = match known {
                    Some(known) => known.context("a row cannot be read")?,
                    None if room == 0 => continue,
                    None => {
                        room -= 1;
                        Asked::default()
                    }
                };
                row.merge(more);
                table.insert(&key[..], &borsh::to_vec(&row)?[..])?;
            }
            if room == 0 {
                tracing::warn!(
                    "what is asked in each hour and day is not kept for all services: there are {ROWS_MAX} rows"
                );
            }
        }
        write.commit()?;
        Ok(())
    }

    /// Forgets what is too old at `now_ms`.
    pub fn forget(&self, now_ms: u64) -> Result<()> {
        let write = self.database.begin_write()?;
        for (table, kept) in [(HOURS, HOURS_KEPT_MS), (DAYS, DAYS_KEPT_MS)] {
            let oldest = now_ms.saturating_sub(kept);
            let mut table = write.open_table(table)?;
            table.retain(|key, _| begin_of(key) >= oldest)?;
        }
        write.commit()?;
        Ok(())
    }

    /// Steps of services of `owner` that begin from `since_ms` until `until_ms`, in order of deployments
    /// and services; no more than [`RequestsPast::ROWS_MAX`], with word of it.
    pub fn of(
        &self,
        owner: &AccountId,
        by: PastStep,
        (since_ms, until_ms): (u64, u64),
    ) -> Result<RequestsPast> {
        let (table, step_ms) = match by {
            PastStep::Hour => (HOURS, HOUR_MS),
            PastStep::Day => (DAYS, DAY_MS),
        };
        let read = self.database.begin_read()?;
        let table = read.open_table(table)?;
        let mut past = RequestsPast {
            begun_ms: Some(self.begun_ms),
            cut: false,
            rows: Vec::new(),
        };
        for row in table.range(&owner.0[..]..)? {
            let (key, row) = row?;
            let Some((deployment, service, at_ms)) = read_key(owner, key.value()) else {
                break;
            };
            if !(since_ms..until_ms).contains(&at_ms) {
                continue;
            }
            if past.rows.len() == RequestsPast::ROWS_MAX {
                past.cut = true;
                break;
            }
            let asked = Asked::try_from_slice(row.value()).context("a row cannot be read")?;
            past.rows.push(RequestPast {
                deployment,
                service,
                at_ms,
                step_ms,
                answers: asked.answers,
                received: asked.received,
                sent: asked.sent,
                p50_us: quantile(&asked.latency, 50),
                p95_us: quantile(&asked.latency, 95),
            });
        }
        Ok(past)
    }
}

/// Takes what `service` counted since the last time.
fn hours_of(service: &Service) -> impl Iterator<Item = Hour> + use<> {
    let whose = Whose {
        owner: service.owner,
        deployment: service.deployment,
        service: service.name.clone(),
    };
    let hours = service.tally.take_hours().into_iter();
    hours.map(move |(hour, asked)| (whose.clone(), hour, asked))
}

/// Writes down what is counted, until it is dropped. What a disk does not take is said, and lost.
pub async fn keep(gateway: Arc<Gateway>, past: Arc<Past>) {
    let mut turn: u32 = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        turn = turn.wrapping_add(1);
        write_down(&gateway, &past).await;
        if turn.is_multiple_of(TIDY_EVERY) {
            let past = past.clone();
            let tidied = tokio::task::spawn_blocking(move || past.forget(api::now_ms())).await;
            if let Ok(Err(error)) = tidied {
                tracing::warn!("old hours of requests are not forgotten: {error:#}");
            }
        }
    }
}

/// Before somebody reads: what he is told is no older than [`FRESH_MS`].
pub async fn freshen(gateway: &Gateway, past: &Arc<Past>) {
    let now_ms = api::now_ms();
    let due = |at: u64| (at.saturating_add(FRESH_MS) <= now_ms).then_some(now_ms);
    let turn = past
        .written_ms
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, due);
    if turn.is_ok() {
        write_down(gateway, past).await;
    }
}

/// Now.
pub async fn write_down(gateway: &Gateway, past: &Arc<Past>) {
    let mut asked = std::mem::take(&mut *past.gone.lock().expect("not poisoned"));
    let table = gateway.table.load_full();
    asked.extend(table.services.values().flat_map(|s| hours_of(s)));
    if asked.is_empty() {
        return;
    }
    let past = past.clone();
    let written = tokio::task::spawn_blocking(move || past.add(&asked)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!("requests of the last minute are not kept: {error:#}; free the disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 500 * DAY_MS;

    fn whose(owner: u8, deployment: u64, service: &str) -> Whose {
        Whose {
            owner: AccountId([owner; 20]),
            deployment: DeploymentId(deployment),
            service: service.into(),
        }
    }

    fn asked(status: u16, duration_us: u64) -> Asked {
        let mut asked = Asked::default();
        asked.add(&crate::tally::tests::access(status, duration_us));
        asked
    }

    fn all(past: &Past, owner: u8, by: PastStep) -> Vec<(u64, String, u64, [u64; 5])> {
        let told = past
            .of(&AccountId([owner; 20]), by, (0, u64::MAX))
            .expect("told");
        let rows = told.rows.into_iter();
        rows.map(|r| (r.deployment.0, r.service, r.at_ms, r.answers))
            .collect()
    }

    #[test]
    fn hours_add_up_to_days_and_outlive_the_gateway() {
        let folder = tempfile::tempdir().expect("a folder");
        let hour = NOW / HOUR_MS;
        let past = Past::open(folder.path(), NOW).expect("opens");
        let web = whose(1, 7, "web");
        past.add(&[
            (web.clone(), hour, asked(200, 100)),
            (web.clone(), hour + 1, asked(503, 100_000)),
            (whose(1, 7, "we"), hour, asked(200, 1)),
            (whose(2, 8, "web"), hour, asked(200, 1)),
        ])
        .expect("kept");
        drop(past);
        let past = Past::open(folder.path(), NOW + 5).expect("opens");
        past.add(&[(web, hour, asked(404, 100))]).expect("kept");
        let next = NOW + HOUR_MS;
        assert_eq!(
            all(&past, 1, PastStep::Hour),
            [
                (7, "we".into(), NOW, [0, 1, 0, 0, 0]),
                (7, "web".into(), NOW, [0, 1, 0, 1, 0]),
                (7, "web".into(), next, [0, 0, 0, 0, 1]),
            ]
        );
        assert_eq!(
            all(&past, 1, PastStep::Day),
            [
                (7, "we".into(), NOW, [0, 1, 0, 0, 0]),
                (7, "web".into(), NOW, [0, 1, 0, 1, 1]),
            ]
        );
        // Another's are not told, and there is word of when it all began.
        assert_eq!(all(&past, 2, PastStep::Day).len(), 1);
        let none = past.of(&AccountId([3; 20]), PastStep::Day, (0, u64::MAX));
        let none = none.expect("told");
        assert_eq!((none.begun_ms, none.rows), (Some(NOW), vec![]));
        let span = past.of(&AccountId([1; 20]), PastStep::Hour, (next, next + 1));
        let [one] = &span.expect("told").rows[..] else {
            panic!("one hour");
        };
        assert_eq!((one.step_ms, one.sent), (HOUR_MS, 2));
        assert!(one.p50_us >= Some(100_000));
    }

    #[test]
    fn what_is_old_is_forgotten_days_later_than_hours() {
        let folder = tempfile::tempdir().expect("a folder");
        let past = Past::open(folder.path(), NOW).expect("opens");
        let hour = NOW / HOUR_MS;
        past.add(&[(whose(1, 1, "web"), hour, asked(200, 1))])
            .expect("kept");
        past.forget(NOW + HOURS_KEPT_MS).expect("tidied");
        assert_eq!(all(&past, 1, PastStep::Hour).len(), 1);
        past.forget(NOW + HOURS_KEPT_MS + 1).expect("tidied");
        assert_eq!(all(&past, 1, PastStep::Hour).len(), 0);
        assert_eq!(all(&past, 1, PastStep::Day).len(), 1);
        past.forget(NOW + DAYS_KEPT_MS + 1).expect("tidied");
        assert_eq!(all(&past, 1, PastStep::Day).len(), 0);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("requests.redb"), b"nothing of the kind")
            .expect("written");
        let Err(error) = Past::open(folder.path(), NOW) else {
            panic!("opened");
        };
        let error = format!("{error:#}");
        assert!(
            error.contains("requests.redb") && error.contains("move it away"),
            "{error}"
        );
    }
}
