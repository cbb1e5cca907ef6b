//! A typed part of the state that knows which of its records a block has changed.

use std::collections::BTreeSet;
use std::ops::RangeBounds;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use types::{Digest, state_key};

use crate::tree::Change;

/// Cloning is O(1); the clones share what neither changes.
#[derive(Clone, Debug)]
pub struct Table<K: Ord + Clone, V> {
    name: &'static str,
    records: OrdMap<K, Shared<V>>,
    changed: BTreeSet<K>,
}

/// A record that clones of a table share. Equal is what is the same one, so that what a block
/// wrote is found without reading it.
#[derive(Clone, Debug)]
struct Shared<V>(Arc<V>);

impl<V> PartialEq for Shared<V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<V: Default> Default for Shared<V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Table<K, V>
where
    K: Ord + Clone + BorshSerialize + BorshDeserialize,
    V: Clone + BorshSerialize + BorshDeserialize,
{
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            records: OrdMap::new(),
            changed: BTreeSet::new(),
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.records.get(key).map(|value| value.0.as_ref())
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.records.iter().map(|(k, v)| (k, v.0.as_ref()))
    }

    pub fn range(&self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.records.range(keys).map(|(k, v)| (k, v.0.as_ref()))
    }

    /// Records that one of the two has and the other has not or was written since (it may say
    /// the same), with what `before` and this table say. Costs what was written, not what is there.
    pub fn differences<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
        let of = |shared: &'a Shared<V>| Some(shared.0.as_ref());
        let items = before.records.diff(&self.records);
        items.map(move |item| match item {
            DiffItem::Add(key, now) => (key, None, of(now)),
            DiffItem::Update { old, new } => (new.0, of(old.1), of(new.1)),
            DiffItem::Remove(key, old) => (key, of(old), None),
        })
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.changed.insert(key.clone());
        self.records.insert(key, Shared(Arc::new(value)));
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.records.get_mut(key)?;
        self.changed.insert(key.clone());
        Some(Arc::make_mut(&mut value.0))
    }

    pub(crate) fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.changed.insert(key.clone());
        Arc::make_mut(&mut self.records.entry(key).or_default().0)
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if self.records.remove(key).is_some() {
            self.changed.insert(key.clone());
        }
    }

    /// Keys written since [`Self::forget_changed`], in order.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &K> {
        self.changed.iter()
    }

    /// Key and value digest of every record.
    pub(crate) fn records(&self, all: &mut Vec<(Digest, Digest)>) {
        for (key, value) in self.iter() {
            let digest = Digest::of_value(self.name, value);
            all.push((state_key(self.name, key), digest));
        }
    }

    pub(crate) fn forget_changed(&mut self) {
        self.changed.clear();
    }

    /// Key and value digests of what changed since [`Self::forget_changed`].
    pub(crate) fn changes(&self, all: &mut Vec<Change>) {
        for key in &self.changed {
            let value = self.get(key).map(|v| Digest::of_value(self.name, v));
            all.push((state_key(self.name, key), value));
        }
    }

    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        let written: std::io::Result<()> = (|| {
            (self.records.len() as u64).serialize(out)?;
            for (key, value) in self.iter() {
                key.serialize(out)?;
                value.serialize(out)?;
            }
            Ok(())
        })();
        written.expect("writing to memory does not fail");
    }

    pub(crate) fn load(name: &'static str, input: &mut &[u8]) -> std::io::Result<Self> {
        let count = u64::deserialize(input)?;
        let mut table = Self::new(name);
        for _ in 0..count {
            let key = K::deserialize(input)?;
            if table
                .records
                .get_max()
                .is_some_and(|(last, _)| *last >= key)
            {
                return Err(std::io::Error::other("records are out of order"));
            }
            let value = Shared(Arc::new(V::deserialize(input)?));
            table.records.insert(key, value);
        }
        Ok(table)
    }
}
