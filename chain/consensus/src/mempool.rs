//! Transactions that wait for a block: bounded, by tip, with a quota per sender.
//!
//! Those of one tip are in fair order: senders take turns, so that one who sends much waits behind
//! his own transactions and not before others'. What is last in that order makes room when there is
//! none.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use types::Digest;

use crate::block::{PAYLOAD_BYTES_MAX, TRANSACTIONS_MAX};
use crate::lineup::Term;
use crate::machine::Admitted;

const WAITING_MAX: usize = 50_000;
const BYTES_MAX: usize = 128 << 20;
const PER_SENDER_MAX: usize = 64;
/// Own transactions sent on again with each term.
const RESENT_MAX: usize = 1_000;
/// Blocks after which a transaction that was never included is forgotten.
const AGE_MAX: u64 = 200;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As [`crate::Machine::admit`] said.
    #[error("{0}")]
    Refused(String),
    #[error("as many transactions wait as there is room for ({WAITING_MAX}, or {} MiB), and none of a lower tip, or of a sender with more of them", BYTES_MAX >> 20)]
    Full,
    #[error("{PER_SENDER_MAX} transactions of this account wait already, the most of one account")]
    Quota,
}

/// Dearest first; of one tip by turns; of one turn as they came.
type Order = (Reverse<u128>, u64, u64);

/// A screener's on a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub key: [u8; 32],
    pub epoch: u64,
    pub signature: [u8; 64],
}

struct Waiting {
    bytes: Bytes,
    sender: [u8; 20],
    order: Order,
    since: u64,
    urgent: bool,
    /// The last term whose leader was told; before all terms if none was.
    told: Term,
    /// Of who brought it first.
    word: Option<Word>,
}

#[derive(Default)]
struct Sender {
    waiting: usize,
    /// Of its last transaction.
    turn: u64,
}

/// What waits, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub waiting: usize,
    pub bytes: usize,
    /// Submitted to this validator itself.
    pub own: usize,
    pub senders: usize,
    /// Height of the head when what waits longest came.
    pub oldest: Option<u64>,
    /// The dearest tips, at most [`Queue::TIPS_MAX`]: each with how many wait for it, and their bytes.
    pub tips: Vec<(u128, usize, usize)>,
}

impl Queue {
    pub const TIPS_MAX: usize = 20;
    /// What there is room for.
    pub const WAITING_MAX: usize = WAITING_MAX;
    pub const BYTES_MAX: usize = BYTES_MAX;
    pub const AGE_MAX: u64 = AGE_MAX;
}

#[derive(Default)]
pub struct Mempool {
    waiting: HashMap<Digest, Waiting>,
    order: BTreeMap<Order, Digest>,
    /// Those submitted here, in the order of blocks.
    own: BTreeMap<Order, Digest>,
    /// In the order they came.
    arrivals: BTreeMap<u64, Digest>,
    senders: HashMap<[u8; 20], Sender>,
    bytes: usize,
    /// How many wait for each tip, and their bytes.
    tips: BTreeMap<Reverse<u128>, (usize, usize)>,
    next: u64,
    /// The latest turn of what came into a block: who had nothing waiting begins there.
    turn: u64,
}

impl Mempool {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// In a time that does not grow with what waits.
    pub fn figures(&self) -> Queue {
        let oldest = self.arrivals.values().next();
        let tips = self.tips.iter().take(Queue::TIPS_MAX);
        Queue {
            waiting: self.waiting.len(),
            bytes: self.bytes,
            own: self.own.len(),
            senders: self.senders.len(),
            oldest: oldest.and_then(|id| self.since(id)),
            tips: tips
                .map(|(Reverse(tip), (count, bytes))| (*tip, *count, *bytes))
                .collect(),
        }
    }

    pub fn contains(&self, id: &Digest) -> bool {
        self.waiting.contains_key(id)
    }

    /// What was submitted here, in the order of blocks.
    pub fn own(&self) -> Vec<Bytes> {
        let waiting = self.own.values().filter_map(|id| self.waiting.get(id));
        waiting.map(|waiting| waiting.bytes.clone()).collect()
    }

    /// `true` if it was not there yet.
    pub fn insert(
        &mut self,
        admitted: Admitted,
        bytes: Bytes,
        height: u64,
        own: bool,
    ) -> Result<bool, SubmitError> {
        if self.contains(&admitted.id) {
            return Ok(false);
        }
        let sender = self.senders.get(&admitted.sender);
        if sender.is_some_and(|s| s.waiting >= PER_SENDER_MAX) {
            return Err(SubmitError::Quota);
        }
        let turn = sender.map_or(self.turn, |s| self.turn.max(s.turn + 1));
        let order = (Reverse(admitted.tip), turn, self.next + 1);
        while self.waiting.len() >= WAITING_MAX || self.bytes + bytes.len() > BYTES_MAX {
            match self.order.last_key_value() {
                Some((last, id)) if (order.0, order.1) < (last.0, last.1) => {
                    self.remove(&id.clone());
                }
                _ => return Err(SubmitError::Full),
            }
        }
        let sender = self.senders.entry(admitted.sender).or_default();
        sender.waiting += 1;
        sender.turn = turn;
        self.bytes += bytes.len();
        let tip = self.tips.entry(order.0).or_default();
        *tip = (tip.0 + 1, tip.1 + bytes.len());
        self.next += 1;
        self.order.insert(order, admitted.id);
        self.arrivals.insert(self.next, admitted.id);
        if own {
            self.own.insert(order, admitted.id);
        }
        let waiting = Waiting {
            bytes,
            sender: admitted.sender,
            order,
            since: height,
            urgent: admitted.urgent,
            told: (0, 0),
            word: None,
        };
        self.waiting.insert(admitted.id, waiting);
        Ok(true)
    }

    /// Keeps a checked word on what waits, unless there is one of that epoch.
    pub fn note(&mut self, id: &Digest, word: Word) {
        if let Some(waiting) = self.waiting.get_mut(id)
            && waiting.word.is_none_or(|known| known.epoch < word.epoch)
        {
            waiting.word = Some(word);
        }
    }

    pub fn word(&self, id: &Digest) -> Option<Word> {
        self.waiting.get(id)?.word
    }

    /// It is in a final block.
    pub fn done(&mut self, id: &Digest) {
        if let Some(done) = self.waiting.get(id) {
            self.turn = self.turn.max(done.order.1);
        }
        self.remove(id);
    }

    fn remove(&mut self, id: &Digest) {
        let Some(gone) = self.waiting.remove(id) else {
            return;
        };
        self.order.remove(&gone.order);
        self.own.remove(&gone.order);
        self.arrivals.remove(&gone.order.2);
        self.bytes -= gone.bytes.len();
        if let Some(tip) = self.tips.get_mut(&gone.order.0) {
            *tip = (tip.0 - 1, tip.1 - gone.bytes.len());
            if tip.0 == 0 {
                self.tips.remove(&gone.order.0);
            }
        }
        if let Some(sender) = self.senders.get_mut(&gone.sender) {
            sender.waiting -= 1;
            if sender.waiting == 0 {
                self.senders.remove(&gone.sender);
            }
        }
    }

    /// What fits into a block, without those in `included`.
    pub fn select(&self, included: &HashSet<Digest>) -> Vec<(Digest, Bytes)> {
        let mut bytes = 0;
        self.order
            .values()
            .filter(|id| !included.contains(id))
            .filter_map(|id| Some((*id, self.waiting.get(id)?.bytes.clone())))
            .take(TRANSACTIONS_MAX)
            .take_while(|(_, transaction)| {
                bytes += transaction.len();
                bytes <= PAYLOAD_BYTES_MAX
            })
            .collect()
    }

    /// Does anything urgent wait that is not in `included`?
    pub fn presses(&self, included: &HashSet<Digest>) -> bool {
        let waiting = self.waiting.iter();
        waiting
            .filter(|(_, w)| w.urgent)
            .any(|(id, _)| !included.contains(id))
    }

    /// Forgets what waited too long; returns what was submitted here and is left over, in the
    /// order of blocks: all whom it was told have led, or nobody was told in two blocks.
    pub fn left(&mut self, height: u64, over: Term) -> Vec<(Digest, Bytes)> {
        while let Some(oldest) = self.arrivals.values().next().copied()
            && self.since(&oldest).is_some_and(|at| at + AGE_MAX < height)
        {
            self.remove(&oldest);
        }
        self.own
            .values()
            .filter_map(|id| Some((id, self.waiting.get(id)?)))
            .filter(|(_, w)| match w.told {
                (0, 0) => w.since + 1 < height,
                told => told <= over,
            })
            .map(|(id, w)| (*id, w.bytes.clone()))
            .take(RESENT_MAX)
            .collect()
    }

    /// The leaders of the terms after `over`, up to `last`, are about to be told of it. `false`:
    /// it does not wait, or some of them know of it.
    pub fn tell(&mut self, id: &Digest, over: Term, last: Term) -> bool {
        let waiting = self.waiting.get_mut(id).filter(|w| w.told <= over);
        waiting.is_some_and(|w| {
            w.told = last;
            true
        })
    }

    fn since(&self, id: &Digest) -> Option<u64> {
        Some(self.waiting.get(id)?.since)
    }
}

#[cfg(test)]
mod tests;
