//! Where past things are: built from blocks, in memory, rebuilt at start.

use std::collections::HashMap;
use std::sync::RwLock;

use anyhow::Result;
use borsh::BorshDeserialize;
use consensus::Record;
use ledger::{Event, Outcome};
use light::Header;
use types::{AllocationId, Digest, ReceiptId};

use crate::ledger_machine::LedgerMachine;

pub type Handle = consensus::Handle<LedgerMachine>;

/// An event's place.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub height: u64,
    pub index: u32,
}

#[derive(Default)]
struct Places {
    height: u64,
    /// Number of events before each height, from height 0.
    before: Vec<u64>,
    transactions: HashMap<Digest, At>,
    /// By id, from 1 without gap.
    receipts: Vec<At>,
    receipts_of: HashMap<AllocationId, Vec<ReceiptId>>,
    /// Leaders of the last blocks.
    leaders: std::collections::VecDeque<[u8; 32]>,
}

#[derive(Default)]
pub struct Index {
    places: RwLock<Places>,
}

/// A block, read.
pub struct ReadBlock {
    pub header: Header,
    pub record: Record,
    pub outcomes: Vec<Outcome>,
    pub events: Vec<Event>,
}

impl ReadBlock {
    pub fn new(record: Record) -> Result<Self> {
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

    /// The events that transaction `index` caused.
    pub fn caused(&self, index: usize) -> &[Event] {
        let after: usize = self.outcomes[index..]
            .iter()
            .map(|o| o.events as usize)
            .sum();
        let from = self.events.len().saturating_sub(after);
        let own = self.outcomes[index].events as usize;
        &self.events[from..(from + own).min(self.events.len())]
    }
}

impl Index {
    /// Adds blocks up to the head; returns its height.
    pub fn catch_up(&self, handle: &Handle) -> Result<u64> {
        let head = handle.head();
        let mut next = self.height() + 1;
        while next <= head.header.height {
            let record = if next == head.header.height {
                head.record.clone()
            } else {
                match handle.block(next)? {
                    Some(record) => record,
                    None => break,
                }
            };
            self.add(&ReadBlock::new(record)?);
            next += 1;
        }
        Ok(next - 1)
    }

    fn add(&self, block: &ReadBlock) {
        let mut places = self.places.write().expect("not poisoned");
        let height = block.header.height;
        if places.before.is_empty() {
            places.before.extend([0, 0]);
        }
        let before = places.before.last().copied().unwrap_or(0);
        for (index, outcome) in block.outcomes.iter().enumerate() {
            let at = At {
                height,
                index: index as u32,
            };
            // The first word stands: a replay is rejected and must not hide it.
            places.transactions.entry(outcome.transaction).or_insert(at);
        }
        for (index, event) in block.events.iter().enumerate() {
            if let Event::Lease(ledger::lease::Event::Settled(receipt)) = event {
                let index = index as u32;
                places.receipts.push(At { height, index });
                places
                    .receipts_of
                    .entry(receipt.allocation)
                    .or_default()
                    .push(receipt.id);
            }
        }
        places.before.push(before + block.events.len() as u64);
        places.leaders.push_back(block.header.proposer);
        if places.leaders.len() > 100 {
            places.leaders.pop_front();
        }
        places.height = height;
    }

    pub fn height(&self) -> u64 {
        self.places.read().expect("not poisoned").height
    }

    pub fn transaction(&self, id: &Digest) -> Option<At> {
        let places = self.places.read().expect("not poisoned");
        places.transactions.get(id).copied()
    }

    pub fn receipt(&self, id: ReceiptId) -> Option<At> {
        let places = self.places.read().expect("not poisoned");
        places
            .receipts
            .get(usize::try_from(id.0.checked_sub(1)?).ok()?)
            .copied()
    }

    /// The last `most` receipts of an allocation.
    pub fn receipts_of(&self, id: &AllocationId, most: usize) -> Vec<ReceiptId> {
        let places = self.places.read().expect("not poisoned");
        places
            .receipts_of
            .get(id)
            .map(|all| all[all.len().saturating_sub(most)..].to_vec())
            .unwrap_or_default()
    }

    /// How many events there were before block `height`; they are numbered from 0.
    pub fn events_before(&self, height: u64) -> u64 {
        let places = self.places.read().expect("not poisoned");
        let last = places.before.last().copied().unwrap_or(0);
        places.before.get(height as usize).copied().unwrap_or(last)
    }

    /// The block that holds event number `sequence`; `None` if it has not happened.
    pub fn block_of(&self, sequence: u64) -> Option<u64> {
        let places = self.places.read().expect("not poisoned");
        // First height after which there are more events than `sequence`.
        let after = places.before.partition_point(|before| *before <= sequence);
        (after < places.before.len()).then(|| after as u64 - 1)
    }

    pub fn led(&self, key: &[u8; 32]) -> u64 {
        let places = self.places.read().expect("not poisoned");
        places.leaders.iter().filter(|l| *l == key).count() as u64
    }
}

