//! Where past things are: built from blocks, kept beside them, rebuilt when missing.
//!
//! Answers questions about history only; what an account owns is read from the state. Blocks
//! are durable before they are indexed, so the index is never ahead of them: if it is, or if
//! it cannot be read, it is made anew.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::{Context, Result};
use api::TurnsView;
use borsh::BorshDeserialize;
use consensus::Record;
use consensus::open_database;
use ledger::{Event, Outcome};
use light::Header;
use redb::{Database, Durability, ReadableDatabase, ReadableTable as _, TableDefinition};
use types::{AllocationId, Digest, ReceiptId};

use crate::ledger_machine::LedgerMachine;
use crate::turns;

pub type Handle = consensus::Handle<LedgerMachine>;
pub type Follower = consensus::Follower<LedgerMachine>;
pub type Outbox = consensus::Outbox<LedgerMachine>;

/// Transaction → height and place.
const TRANSACTIONS: TableDefinition<[u8; 32], (u64, u32)> = TableDefinition::new("transactions");
/// Receipt → height and number of its event.
const RECEIPTS: TableDefinition<u64, (u64, u32)> = TableDefinition::new("receipts");
/// Allocation and receipt.
const RECEIPTS_OF: TableDefinition<(u64, u64), ()> = TableDefinition::new("receipts_of");
/// Sequence of a block's first event → height; only blocks with events.
const FIRSTS: TableDefinition<u64, u64> = TableDefinition::new("firsts");
/// `height` reached, `events` counted.
const REACHED: TableDefinition<&str, u64> = TableDefinition::new("reached");
const NETWORK: TableDefinition<&str, [u8; 32]> = TableDefinition::new("network");

const CACHE_BYTES: usize = 16 << 20;
/// Blocks indexed in one step.
const STEP: u64 = 1_000;
/// So many blocks at most are indexed again after a crash.
const DURABLE_EVERY: u64 = 64;
/// What lies in blocks that are gone is taken out once so many more are.
const FORGOTTEN_AT_ONCE: u64 = 256;
/// Leaders counted.
const LEADERS: usize = 100;

/// A thing's place in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub height: u64,
    pub index: u32,
}

#[derive(Clone, Debug, Default)]
struct Reached {
    height: u64,
    events: u64,
    leaders: VecDeque<[u8; 32]>,
    /// Nothing is kept of what is before this height.
    forgotten: u64,
}

pub struct Index {
    database: Database,
    reached: RwLock<Reached>,
}

/// A block, read.
pub struct ReadBlock {
    pub header: Header,
    pub record: Arc<Record>,
    pub outcomes: Vec<Outcome>,
    pub events: Vec<Event>,
}

impl ReadBlock {
    pub fn new(record: Arc<Record>) -> Result<Self> {
        Ok(Self {
            header: Header::from_bytes(&record.header)?,
            outcomes: record
                .outcomes
                .iter()
                .map(|o| Outcome::try_from_slice(o))
                .collect::<Result<_, _>>()?,
            events: record
                .events
                .iter()
                .map(|e| Event::try_from_slice(e))
                .collect::<Result<_, _>>()?,
            record,
        })
    }
}

impl Index {
    /// Opens the index of `network` at `path`. `head`: of the blocks beside it.
    pub fn open(path: &Path, network: Digest, head: u64) -> Result<Self> {
        if path.exists() {
            match Self::open_existing(path, network, head) {
                Ok(Some(index)) => return Ok(index),
                Ok(None) => tracing::warn!("the index belongs to other blocks; it is made anew"),
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the index cannot be read; it is made anew"
                ),
            }
            std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
        }
        let database = open_database(path, CACHE_BYTES)?;
        let write = database.begin_write()?;
        write.open_table(TRANSACTIONS)?;
        write.open_table(RECEIPTS)?;
        write.open_table(RECEIPTS_OF)?;
        write.open_table(FIRSTS)?;
        write.open_table(REACHED)?;
        turns::make(&write)?;
        write.open_table(NETWORK)?.insert("network", network.0)?;
        write.commit()?;
        Ok(Self {
            database,
            reached: RwLock::default(),
        })
    }

    fn open_existing(path: &Path, network: Digest, head: u64) -> Result<Option<Self>> {
        let database = open_database(path, CACHE_BYTES)?;
        let read = database.begin_read()?;
        let same = read.open_table(NETWORK)?.get("network")?;
        let table = read.open_table(REACHED)?;
        let number = |name| -> Result<u64> { Ok(table.get(name)?.map_or(0, |n| n.value())) };
        let reached = Reached {
            height: number("height")?,
            events: number("events")?,
            leaders: VecDeque::new(),
            forgotten: 0,
        };
        let fits = same.is_some_and(|n| n.value() == network.0)
            && reached.height <= head
            && turns::is_made(&read);
        drop((table, read));
        Ok(fits.then(|| Self {
            database,
            reached: RwLock::new(reached),
        }))
    }

    /// Adds blocks up to the head, some at a time; returns the height reached.
    pub fn catch_up(&self, handle: &Handle) -> Result<u64> {
        let head = handle.head();
        let mut reached = self.reached.read().expect("not poisoned").clone();
        // A validator that began with a later state knows nothing of the time before.
        reached.height = reached.height.max(handle.begins());
        if reached.leaders.is_empty() {
            // What is left of before goes with what is forgotten next: a start reads no whole index.
            reached.forgotten = handle.begins();
            for height in reached.height.saturating_sub(LEADERS as u64)..=reached.height {
                if let Some(record) = handle.block(height)? {
                    note_leader(&mut reached, Header::from_bytes(&record.header)?.proposer);
                }
            }
        }
        let from = reached.height + 1;
        let to = head.header.height.min(reached.height + STEP);
        let mut write = self.database.begin_write()?;
        // What a crash loses is indexed again.
        if from == to && !to.is_multiple_of(DURABLE_EVERY) {
            write.set_durability(Durability::None)?;
        }
        // Of others the block before has told it.
        if let Some(record) = (from == handle.begins() + 1).then(|| handle.block(from - 1)) {
            record?.map_or(Ok(()), |record| turns::seat(&write, &record))?;
        }
        for height in from..=to {
            let record = if height == head.header.height {
                head.record.clone()
            } else {
                match handle.block(height)? {
                    Some(record) => Arc::new(record),
                    // Forgotten meanwhile.
                    None if height < handle.begins() => {
                        reached.height = height;
                        continue;
                    }
                    None => anyhow::bail!("block {height} is missing"),
                }
            };
            add(&write, &mut reached, &ReadBlock::new(record)?)?;
        }
        {
            let mut table = write.open_table(REACHED)?;
            table.insert("height", reached.height)?;
            table.insert("events", reached.events)?;
        }
        let begins = handle.begins();
        if begins >= reached.forgotten + FORGOTTEN_AT_ONCE {
            forget(&write, begins)?;
            reached.forgotten = begins;
        }
        write.commit()?;
        *self.reached.write().expect("not poisoned") = reached;
        Ok(to)
    }

    pub fn height(&self) -> u64 {
        self.reached.read().expect("not poisoned").height
    }

    /// How many events there were up to the height reached; they are numbered from 0.
    pub fn events(&self) -> u64 {
        self.reached.read().expect("not poisoned").events
    }

    /// Blocks of the last hundred that `key` led.
    pub fn led(&self, key: &[u8; 32]) -> u64 {
        let reached = self.reached.read().expect("not poisoned");
        reached.leaders.iter().filter(|l| *l == key).count() as u64
    }

    /// Of the last hundred blocks the newest that `key` led.
    pub fn led_last(&self, key: &[u8; 32]) -> Option<u64> {
        let reached = self.reached.read().expect("not poisoned");
        let ago = reached.leaders.iter().rev().position(|l| l == key)?;
        reached.height.checked_sub(ago as u64)
    }

    /// How many lead.
    pub fn leading(&self) -> u64 {
        let reached = self.reached.read().expect("not poisoned");
        reached.leaders.iter().collect::<BTreeSet<_>>().len() as u64
    }

    pub fn transaction(&self, id: &Digest) -> Result<Option<At>> {
        let found = self
            .database
            .begin_read()?
            .open_table(TRANSACTIONS)?
            .get(id.0)?;
        Ok(found.map(|at| place(at.value())))
    }

    pub fn receipt(&self, id: ReceiptId) -> Result<Option<At>> {
        let found = self
            .database
            .begin_read()?
            .open_table(RECEIPTS)?
            .get(id.0)?;
        Ok(found.map(|at| place(at.value())))
    }

    /// The last `most` receipts of an allocation, in order.
    pub fn receipts_of(&self, id: AllocationId, most: usize) -> Result<Vec<ReceiptId>> {
        let table = self.database.begin_read()?.open_table(RECEIPTS_OF)?;
        let mut last = table
            .range((id.0, 0)..=(id.0, u64::MAX))?
            .rev()
            .take(most)
            .map(|row| Ok(ReceiptId(row?.0.value().1)))
            .collect::<Result<Vec<_>>>()?;
        last.reverse();
        Ok(last)
    }

    /// Turns missed and ceremonies, the newest from `since_ms` on in blocks up to `until`.
    pub fn turns(&self, since_ms: u64, until: u64) -> Result<Vec<TurnsView>> {
        turns::rows(
            &self.database.begin_read()?,
            since_ms,
            until,
            TurnsView::MAX,
        )
    }

    /// Number of the first event that is known here.
    pub fn first_event(&self) -> Result<u64> {
        let table = self.database.begin_read()?.open_table(FIRSTS)?;
        let first = table.first()?.map(|(sequence, _)| sequence.value());
        Ok(first.unwrap_or_else(|| self.events()))
    }

    /// The block that holds event number `sequence`, and its first event's number; `None` if
    /// it has not happened.
    pub fn block_of(&self, sequence: u64) -> Result<Option<(u64, u64)>> {
        if sequence >= self.events() {
            return Ok(None);
        }
        let table = self.database.begin_read()?.open_table(FIRSTS)?;
        let row = table.range(..=sequence)?.next_back().transpose()?;
        Ok(row.map(|(first, height)| (height.value(), first.value())))
    }
}

/// Takes out what lies in blocks before `begins`.
fn forget(write: &redb::WriteTransaction, begins: u64) -> Result<()> {
    let mut transactions = write.open_table(TRANSACTIONS)?;
    transactions.retain(|_, (height, _)| height >= begins)?;
    write
        .open_table(FIRSTS)?
        .retain(|_, height| height >= begins)?;
    let mut receipts = write.open_table(RECEIPTS)?;
    receipts.retain(|_, (height, _)| height >= begins)?;
    // They are numbered in the order of blocks.
    let first = receipts.first()?.map_or(u64::MAX, |(id, _)| id.value());
    let mut receipts_of = write.open_table(RECEIPTS_OF)?;
    receipts_of.retain(|(_, receipt), ()| receipt >= first)?;
    turns::forget(write, begins)
}

fn place((height, index): (u64, u32)) -> At {
    At { height, index }
}

fn note_leader(reached: &mut Reached, key: [u8; 32]) {
    reached.leaders.push_back(key);
    if reached.leaders.len() > LEADERS {
        reached.leaders.pop_front();
    }
}

fn add(write: &redb::WriteTransaction, reached: &mut Reached, block: &ReadBlock) -> Result<()> {
    let height = block.header.height;
    let mut transactions = write.open_table(TRANSACTIONS)?;
    let ids = block.outcomes.iter().map(|outcome| outcome.transaction.0);
    let mut ids: Vec<([u8; 32], u32)> = ids.zip(0..).collect();
    // Neighbours lie on one page.
    ids.sort_unstable();
    for (id, index) in ids {
        let before = transactions.insert(id, (height, index))?;
        // The first word stands: a replay is rejected and must not hide it.
        if let Some(before) = before.map(|before| before.value()) {
            transactions.insert(id, before)?;
        }
    }
    let mut receipts = write.open_table(RECEIPTS)?;
    let mut receipts_of = write.open_table(RECEIPTS_OF)?;
    for (index, event) in block.events.iter().enumerate() {
        if let Event::Lease(ledger::lease::Event::Settled(receipt)) = event {
            receipts.insert(receipt.id.0, (height, index as u32))?;
            receipts_of.insert((receipt.allocation.0, receipt.id.0), ())?;
        }
    }
    if !block.events.is_empty() {
        write.open_table(FIRSTS)?.insert(reached.events, height)?;
    }
    reached.events += block.events.len() as u64;
    reached.height = height;
    note_leader(reached, block.header.proposer);
    turns::add(write, &block.header, &block.record)
}
