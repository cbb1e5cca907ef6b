//! Copies of what is printed here, sealed to its readers, for a second host to keep.
//!
//! The last part grows: it is sent again with what came since, in the place of what it was,
//! until it is full; so a keeper has few files, and is a few seconds behind. What is sent where
//! is asked of the keeper when this process begins. Source: RFD 17.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::{CopySpan, Keeper, LogCopy};
use journal::{Filter, Line};
use types::{AllocationId, HostId, PublicKey};

use super::Stream;
use super::room::AGE_MS;
use crate::machine::now_ms;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(2);
/// A part with more text is full.
const PART_BYTES: usize = 256 << 10;
/// Of all that is sent in one round, before compression.
const ROUND_BYTES: usize = 2 << 20;
/// Lines that wait; more of them are left out, the oldest first.
const BEHIND_MAX: u64 = 50_000;
/// Whether the keeper is still the one is asked so often.
const KEEPER_FOR: Duration = Duration::from_secs(60);
/// One that failed is not asked for so long, and neither is the ledger.
const REST: Duration = Duration::from_secs(10);
/// Allocations that a keeper is looked for in one round.
const LOOKS: usize = 20;
/// Lines read at once.
const PAGE: usize = 2_000;

/// What is known of an allocation's copy.
#[derive(Default)]
struct Sent {
    keeper: Option<(Keeper, Instant)>,
    /// Where the part begins that still grows.
    first: u64,
    /// All before is with the keeper.
    next: u64,
    rests: Option<Instant>,
}

/// Sends what comes, for as long as it is polled.
pub async fn send(shared: Arc<Shared>) -> std::convert::Infallible {
    let mut sent: BTreeMap<AllocationId, Sent> = BTreeMap::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut turn, mut swept) = (0, None::<Instant>);
    loop {
        tick.tick().await;
        if swept.is_none_or(|at| at.elapsed() > KEEPER_FOR) {
            swept = Some(Instant::now());
            shared.copies.expire(now_ms());
        }
        let streams = shared.logs.all();
        sent.retain(|id, _| shared.logs.find(*id).is_some());
        let (mut left, mut looks) = (ROUND_BYTES, LOOKS);
        let count = streams.len();
        // Who had to wait begins the next time.
        for at in 0..count {
            if left == 0 {
                turn += at;
                break;
            }
            let stream = &streams[(turn + at) % count];
            one(&shared, stream, &mut sent, (&mut left, &mut looks)).await;
        }
    }
}

/// Those to whom its copy is sealed; empty if there shall be none.
fn readers(stream: &Stream) -> Vec<PublicKey> {
    let policy = stream.meta().policy;
    match policy.alone {
        true => Vec::new(),
        false => {
            let mut all = policy.readers;
            all.extend(policy.copy_to);
            all.sort_unstable();
            all.dedup();
            all
        }
    }
}

async fn one(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    all: &mut BTreeMap<AllocationId, Sent>,
    (left, looks): (&mut usize, &mut usize),
) {
    let id = stream.meta().allocation;
    let next = stream.journal.lock().next();
    let sent = all.entry(id).or_default();
    let known = sent.keeper.is_some();
    if (known && sent.next >= next) || next == 0 || readers(stream).is_empty() {
        return;
    }
    if sent.rests.is_some_and(|until| until > Instant::now()) {
        return;
    }
    let known = sent.keeper.as_ref();
    if known.is_none_or(|(_, since)| since.elapsed() >= KEEPER_FOR) {
        if *looks == 0 {
            return;
        }
        *looks -= 1;
        if let Err(error) = look(shared, id, sent).await {
            tracing::debug!(allocation = %id, %error, "no host keeps a copy of its log");
            sent.rests = Some(Instant::now() + REST);
            return;
        }
    }
    while *left > 0 && sent.next < next {
        match part(shared, stream, sent).await {
            Ok(bytes) => *left = left.saturating_sub(bytes.max(1)),
            Err(error) => {
                tracing::debug!(allocation = %id, %error, "a copy of its log");
                sent.keeper = None;
                sent.rests = Some(Instant::now() + REST);
                return;
            }
        }
    }
}

/// The first of the hosts that may keep it and answers, and what it has by now.
async fn look(shared: &Shared, id: AllocationId, sent: &mut Sent) -> Result<()> {
    let keepers = shared.link.client().keepers(id).await?;
    let mut why = anyhow::anyhow!("there is no other host");
    for keeper in keepers.into_iter().filter(|k| k.online) {
        let same = sent.keeper.as_ref().map(|(k, _)| k.host) == Some(keeper.host);
        if same {
            sent.keeper = Some((keeper, Instant::now()));
            return Ok(());
        }
        match has(shared, &keeper, id).await {
            Ok(newest) => {
                (sent.first, sent.next) = newest.map_or((0, 0), |s| (s.first, s.next));
                sent.keeper = Some((keeper, Instant::now()));
                return Ok(());
            }
            Err(error) => why = error.context(keeper.name),
        }
    }
    Err(why)
}

async fn has(shared: &Shared, keeper: &Keeper, id: AllocationId) -> Result<Option<CopySpan>> {
    let client = sdk::Client::new([keeper.address.clone()])?;
    match client.copies(&shared.config.key, keeper.host, id).await {
        Ok(spans) => Ok(spans.last().copied()),
        Err(error) if error.kind() == "not_found" => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends the part that grows, with what came since; how many bytes of text were in it.
async fn part(shared: &Arc<Shared>, stream: &Arc<Stream>, sent: &mut Sent) -> Result<usize> {
    let (keeper, _) = sent.keeper.clone().context("nobody keeps it")?;
    let policy = stream.meta().policy;
    let id = stream.meta().allocation;
    let from = (sent.first, sent.next);
    let (key, reading) = (shared.config.key.clone(), stream.clone());
    let made = tokio::task::spawn_blocking(move || make(&key, &reading, from)).await??;
    let age = policy.age_ms_max.unwrap_or(AGE_MS);
    let until_ms = made.span.newest_ms.saturating_add(age);
    // A client of its own for each: they are few, and hosts come and go.
    let client = sdk::Client::new([keeper.address.clone()])?;
    let terms = (&made.span, until_ms);
    client
        .keep_copy(&shared.config.key, keeper.host, id, terms, made.bytes)
        .await?;
    sent.next = made.span.next;
    sent.first = match made.text >= PART_BYTES {
        true => made.span.next,
        false => made.span.first,
    };
    Ok(made.text)
}

struct Made {
    span: CopySpan,
    bytes: Vec<u8>,
    /// Bytes of its lines.
    text: usize,
}

/// The part that begins with the first of `from`, of which all before the second was sent.
fn make(key: &types::SecretKey, stream: &Stream, (first, next): (u64, u64)) -> Result<Made> {
    let meta = stream.meta();
    let (oldest, end) = {
        let journal = stream.journal.lock();
        (journal.first(), journal.next())
    };
    let mut first = first.max(oldest);
    if end.saturating_sub(next) > BEHIND_MAX {
        first = end - BEHIND_MAX;
    }
    let (mut lines, mut text): (Vec<(u64, Line)>, usize) = (Vec::new(), 0);
    let (mut at, everything) = (first, Filter::default());
    'reading: while at < end {
        let page = stream.journal.read(at, &everything, PAGE);
        for (number, line) in page.lines {
            text += line.text.len() + 13;
            at = number + 1;
            lines.push((number, line));
            if text >= PART_BYTES {
                break 'reading;
            }
        }
        at = at.max(page.next);
        if page.end {
            break;
        }
    }
    let newest_ms = lines.iter().map(|(_, l)| l.at_ms).max().unwrap_or_default();
    let span = CopySpan {
        first,
        next: at,
        newest_ms,
    };
    let context = LogCopy::context(meta.allocation, &span);
    let sealed = secrets::seal_to(&readers(stream), &context, &journal::pack(&lines)?)?;
    let bytes = LogCopy::sign(key, meta.allocation, &span, sealed).to_bytes();
    Ok(Made { span, bytes, text })
}

/// On which host the ledger has an allocation.
pub async fn host_of(shared: &Shared, id: AllocationId) -> Result<HostId> {
    if let Some(known) = shared.copies.known(id) {
        return Ok(known);
    }
    let host = shared.link.client().allocation(id).await?.host;
    shared.copies.know(id, host);
    Ok(host)
}
