//! Tell the ledger: states at once, usage by the interval, a heartbeat when there is nothing.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use api::NetworkFile;
use ledger::lease::UsageLine;
use rand::Rng as _;
use tokio::time::Instant;
use types::{AllocationId, AllocationStatus, UsageRecord, merkle_path, merkle_root};

use crate::beat::Heart;
use crate::durable;
use crate::shared::Shared;

/// Statuses in one transaction.
const STATUSES_MAX: usize = 200;
/// How often it is looked whether the validators still hear this host.
const HEARD_LOOK: Duration = Duration::from_millis(500);
/// Usage lines in one report.
const LINES_MAX: usize = 500;
const RECORDS_BYTES_MAX: u64 = 16 << 20;

/// Walking disks takes at most one part in so many of the time.
const WALK_SHARE: u32 = 50;
const WALK_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Samples every running container once a second, and what is on disk as often as that is
/// cheap.
pub async fn meter(shared: Arc<Shared>) -> std::convert::Infallible {
    let mut walk_due = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if shared.books.lock().expect("not poisoned").is_empty() {
            continue;
        }
        let shared = shared.clone();
        let began = Instant::now();
        let walk = began >= walk_due;
        let sampled = tokio::task::spawn_blocking(move || sample(&shared, walk)).await;
        if walk {
            let pause = (began.elapsed() * WALK_SHARE).min(WALK_PAUSE_MAX);
            walk_due = Instant::now() + pause;
        }
        if let Err(error) = sampled {
            tracing::error!(%error, "metering");
        }
    }
}

fn sample(shared: &Shared, walk: bool) {
    for book in shared.open_books() {
        let directories = book.lock().expect("not poisoned").directories().to_vec();
        let disk = walk.then(|| meter::disk_bytes(&directories));
        let (allocation, reading, cpu_millis) = {
            let mut book = book.lock().expect("not poisoned");
            book.sample(shared.clock.now_ms(), disk);
            let reading = book.runs().then_some(book.last_reading).flatten();
            (book.allocation, reading, book.cpu_millis_now)
        };
        if let (Some(reading), Some(stream)) = (reading, shared.logs.find(allocation)) {
            stream.count(&reading, cpu_millis);
        }
    }
}

/// Sends what the workers say as soon as it is said.
pub async fn statuses(shared: Arc<Shared>) -> std::convert::Infallible {
    let mut pause = Duration::from_millis(200);
    loop {
        shared.status_changed.notified().await;
        loop {
            let batch: Vec<_> = {
                let mut waiting = shared.statuses.lock().expect("not poisoned");
                let keys: Vec<_> = waiting.keys().take(STATUSES_MAX).copied().collect();
                keys.into_iter()
                    .filter_map(|k| waiting.remove_entry(&k))
                    .collect()
            };
            if batch.is_empty() {
                break;
            }
            let plan = shared.plan().map_or(0, |p| p.plan);
            let call = ledger::lease::Call::ReportStatus {
                plan,
                statuses: batch.clone(),
            };
            match shared.link.submit(ledger::Call::Lease(call)).await {
                Ok(()) => pause = Duration::from_millis(200),
                Err(error) if error.is_rejection() => {
                    tracing::warn!(%error, "the ledger did not take the states");
                }
                Err(error) => {
                    tracing::warn!(%error, "states cannot be reported; trying again");
                    keep_for_later(&shared, batch);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }
}

/// What was said anew meanwhile is newer.
fn keep_for_later(shared: &Shared, batch: Vec<(AllocationId, AllocationStatus)>) {
    let mut waiting = shared.statuses.lock().expect("not poisoned");
    for (allocation, status) in batch {
        waiting.entry(allocation).or_insert(status);
    }
}

/// Signs of life: to the validators if they listen and hear this host, else on the ledger
/// whenever nothing else has been said there for as long as the plan allows.
pub async fn heartbeat(shared: Arc<Shared>) -> std::convert::Infallible {
    let heart = heart(&shared).await;
    let learning = async {
        match &heart {
            Some((heart, file)) => learn(&shared, heart, file).await,
            None => std::future::pending().await,
        }
    };
    let speaking = speak(&shared, heart.as_ref().map(|(heart, _)| heart));
    tokio::select! {
        never = learning => never,
        never = speaking => never,
    }
}

/// Asks who watches, so often that a committee is known before it sits: it is drawn three epochs
/// before. At different times than other hosts.
async fn learn(shared: &Shared, heart: &Heart, file: &NetworkFile) -> std::convert::Infallible {
    let params = &file.genesis.params;
    let epoch_ms = params.epoch_blocks.saturating_mul(params.block_busy_ms);
    let most_ms = epoch_ms.saturating_mul(2).clamp(2_000, 60_000);
    loop {
        let wait_ms = match shared.link.client().members().await {
            Ok(members) => {
                heart.learn(&members, file);
                rand::rng().random_range(most_ms / 2..most_ms)
            }
            Err(error) => {
                tracing::debug!(%error, "who listens for hosts");
                1_000
            }
        };
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// Speaks on the ledger where `heart` is not heard.
async fn speak(shared: &Shared, heart: Option<&Heart>) -> std::convert::Infallible {
    loop {
        if heart.is_some_and(Heart::is_heard) {
            tokio::time::sleep(HEARD_LOOK).await;
            continue;
        }
        let Some(plan) = shared.plan() else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let due = shared.link.heard() + Duration::from_millis(plan.params.heartbeat_ms);
        if Instant::now() < due {
            tokio::time::sleep_until(due).await;
            continue;
        }
        let call = ledger::Call::Host(ledger::host::Call::Heartbeat);
        if let Err(error) = shared.link.submit(call).await {
            tracing::warn!(%error, "heartbeat");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// `None` if no validator listens, or this machine cannot send to them.
async fn heart(shared: &Shared) -> Option<(Heart, NetworkFile)> {
    let file = loop {
        match shared.link.client().network().await {
            Ok(file) => break file,
            Err(error) => tracing::warn!(%error, "the network does not say who its validators are"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let period = Duration::from_millis(file.genesis.params.heartbeat_ms);
    match Heart::start(shared.config.key.clone(), &file, period) {
        Ok(heart) => Some((heart?, file)),
        Err(error) => {
            tracing::warn!(%error, "signs of life go to the ledger");
            None
        }
    }
}

/// Reports usage each interval, at once when a container is gone for good.
pub async fn usage(shared: Arc<Shared>) -> std::convert::Infallible {
    let mut interval = None;
    loop {
        let Some(plan) = shared.plan() else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(plan.params.report_interval_ms)) => {}
            () = shared.usage_due.notified() => {}
        }
        if let Err(error) = report(&shared, &plan, &mut interval).await {
            tracing::warn!(%error, "usage cannot be reported; it is kept and sent later");
        }
    }
}

/// One report, if there is anything to say. `interval` is the number of the last one taken.
async fn report(shared: &Shared, plan: &api::HostPlan, interval: &mut Option<u64>) -> Result<()> {
    let books = shared.open_books();
    let now = shared.clock.ledger_ms();
    let folder = shared.folder("state");
    // Written through to the disk, each of them.
    let made = tokio::task::spawn_blocking(move || -> Result<Vec<Entry>> {
        let mut records = Vec::new();
        for book in books {
            if records.len() >= LINES_MAX {
                break;
            }
            let made = book.lock().expect("not poisoned").record(now)?;
            if let Some((record, last)) = made {
                records.push((book, record, last));
            }
        }
        if !records.is_empty() {
            durable::keep_names(&folder)?;
        }
        Ok(records)
    });
    let records = made.await??;
    if records.is_empty() {
        return Ok(());
    }
    let number = match *interval {
        Some(n) => n + 1,
        None => {
            shared
                .link
                .client()
                .host(&plan.host.to_string())
                .await?
                .interval
                + 1
        }
    };
    match send(shared, number, &records).await {
        Ok(()) => {
            *interval = Some(number);
            return Ok(());
        }
        Err(error) if error.is_rejection() => {
            tracing::warn!(%error, "the ledger refused a usage report; sending line by line");
        }
        Err(error) => {
            *interval = None;
            return Err(error.into());
        }
    }
    let mut number = shared
        .link
        .client()
        .host(&plan.host.to_string())
        .await?
        .interval;
    for one in records.chunks(1) {
        match send(shared, number + 1, one).await {
            Ok(()) => number += 1,
            Err(error) if error.is_rejection() => {
                tracing::error!(allocation = %one[0].1.allocation, %error, "usage line refused");
            }
            Err(error) => {
                *interval = None;
                return Err(error.into());
            }
        }
    }
    *interval = Some(number);
    Ok(())
}

type Entry = (Arc<std::sync::Mutex<crate::book::Book>>, UsageRecord, bool);

async fn send(shared: &Shared, interval: u64, records: &[Entry]) -> Result<(), sdk::SdkError> {
    let leaves: Vec<Vec<u8>> = records
        .iter()
        .map(|(_, record, _)| borsh::to_vec(record).expect("records encode"))
        .collect();
    let root = merkle_root(&leaves);
    let lines = records
        .iter()
        .map(|(_, record, last)| UsageLine {
            allocation: record.allocation,
            sequence: record.sequence,
            until_ms: record.until_ms,
            total: record.total,
            record: record.digest(),
            last: *last,
        })
        .collect();
    let call = ledger::lease::Call::ReportUsage {
        interval,
        root,
        lines,
    };
    shared.link.submit(ledger::Call::Lease(call)).await?;
    for (index, (book, record, last)) in records.iter().enumerate() {
        if let Err(error) = book.lock().expect("not poisoned").settled(record, *last) {
            tracing::error!(%error, "usage book");
        }
        let proof = api::UsageProof {
            record: record.clone(),
            root,
            index: index as u64,
            count: records.len() as u64,
            path: merkle_path(&leaves, index).expect("in range"),
        };
        if let Err(error) = keep(shared, &proof) {
            tracing::warn!(%error, "usage record cannot be kept for receipts");
        }
    }
    Ok(())
}

fn keep(shared: &Shared, proof: &api::UsageProof) -> Result<()> {
    let path = shared.records_path(proof.record.allocation);
    if std::fs::metadata(&path).is_ok_and(|m| m.len() > RECORDS_BYTES_MAX) {
        std::fs::rename(&path, path.with_extension("1.ndjson"))?;
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let mut line = serde_json::to_vec(proof)?;
    line.push(b'\n');
    file.write_all(&line)?;
    Ok(())
}
