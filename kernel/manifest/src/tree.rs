//! The tree that keys are read from: files merged, aliases followed, variables filled in.

use std::collections::BTreeMap;

use crate::yaml::{Mark, Over};

#[derive(Clone)]
pub(crate) struct Node {
    pub at: Mark,
    pub over: Over,
    pub value: Value,
}

#[derive(Clone)]
pub(crate) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub at: Mark,
    pub value: Node,
}

impl Node {
    pub fn new(at: Mark, value: Value) -> Self {
        Self {
            at,
            over: Over::Merge,
            value,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        match &mut self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// Takes an entry out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let entries = self.entries_mut()?;
        let index = entries.iter().position(|e| e.key == key)?;
        Some(entries.remove(index))
    }

    /// Bytes of texts and keys, and how many values.
    pub fn weight(&self) -> u64 {
        match &self.value {
            Value::Null => 1,
            Value::Text(text) => 1 + text.len() as u64,
            Value::List(items) => 1 + items.iter().map(Self::weight).sum::<u64>(),
            Value::Map(entries) => {
                let inner = entries
                    .iter()
                    .map(|e| e.key.len() as u64 + e.value.weight());
                1 + inner.sum::<u64>()
            }
        }
    }

    /// The same, wherever it stands.
    pub fn equals(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Value::Map(a), Value::Map(b)) => {
                let known: BTreeMap<&str, &Self> =
                    b.iter().map(|e| (e.key.as_str(), &e.value)).collect();
                let same = |e: &Entry| known.get(e.key.as_str()).is_some_and(|b| e.value.equals(b));
                a.len() == b.len() && a.iter().all(same)
            }
            _ => false,
        }
    }
}
