//! Lines of several replicas in one order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Puts what comes by several ways, each in its own order, into one order by time.
///
/// Within a way the order is kept even where its clock went back: a line counts as not older
/// than the one before it. Lines of one time go by the way's key. The next line is known once
/// every way that is still open has one waiting.
pub struct Merge<K, T> {
    /// Next line of each way that has one: time, key, line.
    heap: BinaryHeap<Reverse<Entry<K, T>>>,
    /// Ways that have no line waiting → the newest time that they have said.
    wanting: BTreeMap<K, u64>,
}

struct Entry<K, T> {
    at_ms: u64,
    key: K,
    item: T,
}

impl<K: Ord, T> PartialEq for Entry<K, T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, &self.key) == (other.at_ms, &other.key)
    }
}

impl<K: Ord, T> Eq for Entry<K, T> {}

impl<K: Ord, T> PartialOrd for Entry<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Entry<K, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, &self.key).cmp(&(other.at_ms, &other.key))
    }
}

impl<K: Ord + Clone, T> Merge<K, T> {
    pub fn new(ways: impl IntoIterator<Item = K>) -> Self {
        Self {
            heap: BinaryHeap::new(),
            wanting: ways.into_iter().map(|key| (key, 0)).collect(),
        }
    }

    /// A way whose next line is to be given, or its end told, before there is a next one of all.
    pub fn wants(&self) -> Option<K> {
        self.wanting.keys().next().cloned()
    }

    pub fn give(&mut self, key: K, at_ms: u64, item: T) {
        let Some(newest) = self.wanting.remove(&key) else {
            return;
        };
        self.heap.push(Reverse(Entry {
            at_ms: at_ms.max(newest),
            key,
            item,
        }));
    }

    /// Nothing more will come by this way.
    pub fn end(&mut self, key: &K) {
        self.wanting.remove(key);
    }

    /// The next of all; `None` while one is [wanted](Self::wants), or at the end of all.
    pub fn pop(&mut self) -> Option<T> {
        if !self.wanting.is_empty() {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.wanting.insert(entry.key, entry.at_ms);
        Some(entry.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(ways: &[&[u64]]) -> Vec<(usize, u64)> {
        let mut rest: Vec<_> = ways.iter().map(|w| w.iter()).collect();
        let mut merge = Merge::new(0..ways.len());
        let mut all = Vec::new();
        loop {
            while let Some(key) = merge.wants() {
                match rest[key].next() {
                    Some(at) => merge.give(key, *at, (key, *at)),
                    None => merge.end(&key),
                }
            }
            match merge.pop() {
                Some(item) => all.push(item),
                None => return all,
            }
        }
    }

    #[test]
    fn lines_come_by_time_and_each_way_in_its_order() {
        for (ways, expected) in [
            (&[][..], &[][..]),
            (&[&[][..], &[]], &[]),
            (&[&[1, 4][..], &[2, 3]], &[(0, 1), (1, 2), (1, 3), (0, 4)]),
            // Of one time: the first way first.
            (&[&[5][..], &[5, 5]], &[(0, 5), (1, 5), (1, 5)]),
            // A clock that went back: what was said later is shown later.
            (
                &[&[10, 3, 11][..], &[4, 10, 12]],
                &[(1, 4), (0, 10), (0, 3), (1, 10), (0, 11), (1, 12)],
            ),
        ] {
            assert_eq!(merged(ways), expected, "{ways:?}");
        }
    }
}
