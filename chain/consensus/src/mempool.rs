//! Transactions that wait for a block: bounded, by fee, with a quota per sender.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use types::Digest;

use crate::block::{PAYLOAD_BYTES_MAX, TRANSACTIONS_MAX};
use crate::machine::Admitted;

const WAITING_MAX: usize = 50_000;
const BYTES_MAX: usize = 128 << 20;
const PER_SENDER_MAX: usize = 64;
/// Own transactions sent on again with each block.
const RESENT_MAX: usize = 1_000;
/// Blocks after which a transaction that was never included is forgotten.
const AGE_MAX: u64 = 200;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As [`crate::Machine::admit`] said.
    #[error("{0}")]
    Refused(String),
    #[error("too many transactions wait; try again in a moment")]
    Full,
    #[error("{PER_SENDER_MAX} transactions of this account wait already; let them pass first")]
    Quota,
}

struct Waiting {
    bytes: Bytes,
    sender: [u8; 20],
    order: (Reverse<u128>, u64),
    since: u64,
    urgent: bool,
}

#[derive(Default)]
pub struct Mempool {
    waiting: HashMap<Digest, Waiting>,
    order: BTreeMap<(Reverse<u128>, u64), Digest>,
    /// Those submitted here, in the order of blocks.
    own: BTreeMap<(Reverse<u128>, u64), Digest>,
    /// In the order they came.
    arrivals: BTreeMap<u64, Digest>,
    senders: HashMap<[u8; 20], usize>,
    bytes: usize,
    next: u64,
}

impl Mempool {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn contains(&self, id: &Digest) -> bool {
        self.waiting.contains_key(id)
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
        if self.senders.get(&admitted.sender) >= Some(&PER_SENDER_MAX) {
            return Err(SubmitError::Quota);
        }
        while self.waiting.len() >= WAITING_MAX || self.bytes + bytes.len() > BYTES_MAX {
            // The cheapest, of these the last to come, makes room for a dearer one.
            match self.order.last_key_value() {
                Some(((Reverse(fee), _), id)) if *fee < admitted.fee => self.remove(&id.clone()),
                _ => return Err(SubmitError::Full),
            }
        }
        *self.senders.entry(admitted.sender).or_default() += 1;
        self.bytes += bytes.len();
        self.next += 1;
        let order = (Reverse(admitted.fee), self.next);
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
        };
        self.waiting.insert(admitted.id, waiting);
        Ok(true)
    }

    pub fn remove(&mut self, id: &Digest) {
        let Some(gone) = self.waiting.remove(id) else {
            return;
        };
        self.order.remove(&gone.order);
        self.own.remove(&gone.order);
        self.arrivals.remove(&gone.order.1);
        self.bytes -= gone.bytes.len();
        if let Some(count) = self.senders.get_mut(&gone.sender) {
            *count -= 1;
            if *count == 0 {
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

    /// Forgets what waited too long; returns what was submitted here and waits still, in
    /// the order of blocks.
    pub fn own(&mut self, height: u64) -> Vec<Bytes> {
        while let Some(oldest) = self.arrivals.values().next().copied()
            && self.since(&oldest).is_some_and(|at| at + AGE_MAX < height)
        {
            self.remove(&oldest);
        }
        self.own
            .values()
            .filter_map(|id| self.waiting.get(id))
            .filter(|w| w.since + 1 < height)
            .map(|w| w.bytes.clone())
            .take(RESENT_MAX)
            .collect()
    }

    fn since(&self, id: &Digest) -> Option<u64> {
        Some(self.waiting.get(id)?.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(n: u8, sender: u8, fee: u128) -> Admitted {
        Admitted {
            id: Digest::of(&[n]),
            sender: [sender; 20],
            fee,
            urgent: true,
        }
    }

    #[test]
    fn a_full_pool_makes_room_for_dearer_ones_only() {
        let mut pool = Mempool::default();
        let half = Bytes::from(vec![0; BYTES_MAX / 2]);
        for (n, fee) in [(1, 3), (2, 2)] {
            pool.insert(admitted(n, n, fee), half.clone(), 1, false)
                .expect("room");
        }
        let one = Bytes::from(vec![0]);
        let cheap = pool.insert(admitted(3, 3, 2), one.clone(), 1, false);
        assert_eq!(cheap, Err(SubmitError::Full));
        assert_eq!(pool.insert(admitted(4, 4, 9), one, 1, false), Ok(true));
        assert!(pool.contains(&Digest::of(&[1])) && !pool.contains(&Digest::of(&[2])));
        assert_eq!(pool.bytes, BYTES_MAX / 2 + 1);
    }

    #[test]
    fn dearer_first_and_quota_per_sender() {
        let mut pool = Mempool::default();
        for (n, fee) in [(1, 0), (2, 5), (3, 0)] {
            let fresh = pool.insert(admitted(n, 1, fee), Bytes::from(vec![n]), 1, true);
            assert_eq!(fresh, Ok(true));
        }
        assert_eq!(
            pool.insert(admitted(1, 1, 0), Bytes::new(), 1, true),
            Ok(false)
        );
        let none = HashSet::new();
        let order: Vec<u8> = pool.select(&none).iter().map(|(_, b)| b[0]).collect();
        assert_eq!(order, [2, 1, 3]);
        let included = [Digest::of(&[2])].into();
        assert_eq!(pool.select(&included).len(), 2);
        for n in 10..71 {
            assert_eq!(
                pool.insert(admitted(n, 1, 0), Bytes::new(), 1, false),
                Ok(true)
            );
        }
        let over = pool.insert(admitted(99, 1, 0), Bytes::new(), 1, false);
        assert_eq!(over, Err(SubmitError::Quota));
        assert_eq!(
            pool.insert(admitted(99, 2, 0), Bytes::new(), 1, false),
            Ok(true)
        );
        assert!(pool.own(AGE_MAX + 2).is_empty());
        assert_eq!((pool.len(), pool.bytes), (0, 0));
        assert!(pool.own.is_empty() && pool.arrivals.is_empty());
    }

    #[test]
    fn only_what_was_submitted_here_and_waits_is_sent_on() {
        let mut pool = Mempool::default();
        for (n, own, height) in [(1, true, 1), (2, false, 1), (3, true, 2), (4, true, 1)] {
            let bytes = Bytes::from(vec![n]);
            pool.insert(admitted(n, n, u128::from(n)), bytes, height, own)
                .expect("room");
        }
        let sent_on = |pool: &mut Mempool, height| -> Vec<u8> {
            pool.own(height).iter().map(|bytes| bytes[0]).collect()
        };
        assert_eq!(
            sent_on(&mut pool, 2),
            [0u8; 0],
            "their leader may have them still"
        );
        assert_eq!(sent_on(&mut pool, 3), [4, 1]);
        pool.remove(&Digest::of(&[4]));
        assert_eq!(sent_on(&mut pool, 4), [3, 1]);
    }

    #[test]
    fn what_is_not_urgent_waits_for_a_block_that_is_made_anyway() {
        let mut pool = Mempool::default();
        let patient = Admitted {
            urgent: false,
            ..admitted(1, 1, 0)
        };
        pool.insert(patient, Bytes::from_static(b"a"), 1, true)
            .expect("taken");
        assert!(!pool.presses(&HashSet::new()));
        pool.insert(admitted(2, 1, 0), Bytes::from_static(b"b"), 1, true)
            .expect("taken");
        assert!(pool.presses(&HashSet::new()));
        assert!(!pool.presses(&HashSet::from([Digest::of(&[2])])));
        assert_eq!(pool.select(&HashSet::new()).len(), 2);
    }
}
