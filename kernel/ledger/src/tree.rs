//! The records of a state as a tree with one root, kept up block by block.
//!
//! What the root is stands in [`types::StateProof`]; here is how it is kept: the upper part as
//! nodes with their hashes, each subtree of at most [`BUCKET_MAX`] records as one sorted list, whose
//! hashes are made when they are asked for. So there is a pointer and a hash for every dozen
//! records, not for each, and a changed record costs the hashes of its list and of the nodes above
//! it, which the changes of a block share.
//!
//! Cloning is O(1); clones share what neither changes. The root follows from the set of records
//! alone: whatever was the order, and whether it grew block by block or was read from disk.

use std::sync::Arc;

use types::{Digest, STATE_DEPTH_MAX, StateProof, state_bit, state_leaf, state_node};

/// Records of a list that is not split.
const BUCKET_MAX: usize = 16;

type Record = (Digest, Digest);

/// Key and new value of a record; `None`: it is gone.
pub type Change = (Digest, Option<Digest>);

#[derive(Clone, Debug, Default)]
pub struct Tree(Branch);

#[derive(Clone, Debug, Default)]
enum Branch {
    #[default]
    Empty,
    /// At most [`BUCKET_MAX`] records, sorted, at least one.
    Bucket(Arc<Bucket>),
    /// More than that.
    Node(Arc<Node>),
}

#[derive(Clone, Debug)]
struct Bucket {
    hash: Digest,
    records: Box<[Record]>,
}

#[derive(Clone, Debug)]
struct Node {
    hash: Digest,
    count: usize,
    halves: [Branch; 2],
}

/// Root of a few sorted records that agree in their first `depth` bits.
fn hash_of(records: &[Record], depth: usize) -> Digest {
    match records {
        [] => Digest::default(),
        [(key, value)] => state_leaf(key, value),
        _ => {
            let (left, right) = halves(records, depth);
            state_node(&hash_of(left, depth + 1), &hash_of(right, depth + 1))
        }
    }
}

fn halves<T: Keyed>(sorted: &[T], depth: usize) -> (&[T], &[T]) {
    sorted.split_at(sorted.partition_point(|one| !state_bit(one.key(), depth)))
}

trait Keyed {
    fn key(&self) -> &Digest;
}

impl Keyed for Record {
    fn key(&self) -> &Digest {
        &self.0
    }
}

impl Keyed for Change {
    fn key(&self) -> &Digest {
        &self.0
    }
}

impl Branch {
    fn hash(&self) -> Digest {
        match self {
            Self::Empty => Digest::default(),
            Self::Bucket(bucket) => bucket.hash,
            Self::Node(node) => node.hash,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bucket(bucket) => bucket.records.len(),
            Self::Node(node) => node.count,
        }
    }

    /// Of sorted records that agree in their first `depth` bits.
    fn of(records: &[Record], depth: usize) -> Self {
        match records.len() {
            0 => Self::Empty,
            1..=BUCKET_MAX => Self::Bucket(Arc::new(Bucket {
                hash: hash_of(records, depth),
                records: records.into(),
            })),
            _ => {
                let (left, right) = halves(records, depth);
                Self::join(Self::of(left, depth + 1), Self::of(right, depth + 1), depth)
            }
        }
    }

    fn join(left: Self, right: Self, depth: usize) -> Self {
        let count = left.count() + right.count();
        if count <= BUCKET_MAX {
            let mut records = Vec::with_capacity(count);
            left.list(&mut records);
            right.list(&mut records);
            return Self::of(&records, depth);
        }
        Self::Node(Arc::new(Node {
            hash: state_node(&left.hash(), &right.hash()),
            count,
            halves: [left, right],
        }))
    }

    fn list(&self, out: &mut Vec<Record>) {
        match self {
            Self::Empty => {}
            Self::Bucket(bucket) => out.extend_from_slice(&bucket.records),
            Self::Node(node) => node.halves.iter().for_each(|half| half.list(out)),
        }
    }

    /// With `changes`, which are sorted, each key once, and belong below here.
    fn changed(&self, changes: &[Change], depth: usize) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        match self {
            Self::Empty => Self::of(&merged(&[], changes), depth),
            Self::Bucket(bucket) => Self::of(&merged(&bucket.records, changes), depth),
            Self::Node(node) => {
                let (left, right) = halves(changes, depth);
                let [before_left, before_right] = &node.halves;
                Self::join(
                    before_left.changed(left, depth + 1),
                    before_right.changed(right, depth + 1),
                    depth,
                )
            }
        }
    }
}

fn merged(records: &[Record], changes: &[Change]) -> Vec<Record> {
    let mut all = Vec::with_capacity(records.len() + changes.len());
    let mut old = records.iter().peekable();
    for (key, value) in changes {
        while let Some(record) = old.next_if(|(k, _)| k < key) {
            all.push(*record);
        }
        old.next_if(|(k, _)| k == key);
        all.extend(value.map(|value| (*key, value)));
    }
    all.extend(old);
    all
}

impl Tree {
    /// Of all records, sorted by their keys.
    pub fn of(records: &[Record]) -> Self {
        Self(Branch::of(records, 0))
    }

    pub fn root(&self) -> Digest {
        self.0.hash()
    }

    /// With `changes`, sorted by key, each key once.
    #[must_use]
    pub fn changed(&self, changes: &[Change]) -> Self {
        Self(self.0.changed(changes, 0))
    }

    /// The digest of the value that `key` has, and what proves it, or proves that there is none.
    pub fn prove(&self, key: &Digest) -> (Option<Digest>, StateProof) {
        let mut proof = StateProof::default();
        let mut branch = &self.0;
        while let Branch::Node(node) = branch {
            let side = usize::from(state_bit(key, usize::from(proof.depth)));
            turn(&mut proof, node.halves[1 - side].hash());
            branch = &node.halves[side];
        }
        let mut records: &[Record] = match branch {
            Branch::Bucket(bucket) => &bucket.records,
            _ => &[],
        };
        while records.len() > 1 && usize::from(proof.depth) < STATE_DEPTH_MAX {
            let depth = usize::from(proof.depth);
            let (left, right) = halves(records, depth);
            let (own, beside) = match state_bit(key, depth) {
                true => (right, left),
                false => (left, right),
            };
            turn(&mut proof, hash_of(beside, depth + 1));
            records = own;
        }
        match records {
            [(found, value)] if found == key => (Some(*value), proof),
            [other] => {
                proof.other = Some(*other);
                (None, proof)
            }
            _ => (None, proof),
        }
    }
}

/// One further down, past `neighbour`.
fn turn(proof: &mut StateProof, neighbour: Digest) {
    let at = usize::from(proof.depth);
    if at.is_multiple_of(8) {
        proof.filled.push(0);
    }
    if neighbour != Digest::default() {
        proof.filled[at / 8] |= 1 << (7 - at % 8);
        proof.neighbours.push(neighbour);
    }
    proof.depth += 1;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use borsh::BorshDeserialize as _;
    use proptest::prelude::*;

    use super::*;

    /// The root as it is defined.
    fn plain(records: &[Record]) -> Digest {
        hash_of(records, 0)
    }

    fn sorted(map: &BTreeMap<Digest, Digest>) -> Vec<Record> {
        map.iter().map(|(k, v)| (*k, *v)).collect()
    }

    /// Keys that often share long beginnings.
    fn key() -> impl Strategy<Value = Digest> {
        let near = (0u8..4, 0usize..32, any::<u8>()).prop_map(|(first, at, byte)| {
            let mut key = [first; 32];
            key[at] = byte;
            Digest(key)
        });
        prop_oneof![near, any::<[u8; 32]>().prop_map(Digest)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_root_follows_from_the_records_and_all_is_proved(
            blocks in prop::collection::vec(
                prop::collection::btree_map(key(), prop::option::of(any::<[u8; 32]>()), 0..60),
                1..6,
            ),
            asked in prop::collection::vec(key(), 8),
        ) {
            let (mut tree, mut map) = (Tree::default(), BTreeMap::new());
            for block in blocks {
                let changes: Vec<Change> =
                    block.into_iter().map(|(k, v)| (k, v.map(Digest))).collect();
                for (key, value) in &changes {
                    match value {
                        Some(value) => map.insert(*key, *value),
                        None => map.remove(key),
                    };
                }
                tree = tree.changed(&changes);
                let records = sorted(&map);
                prop_assert_eq!(tree.root(), plain(&records));
                prop_assert_eq!(Tree::of(&records).root(), tree.root());
                prop_assert_eq!(tree.0.count(), records.len());
            }
            let root = tree.root();
            for key in asked.iter().chain(map.keys()) {
                let (value, proof) = tree.prove(key);
                prop_assert_eq!(value.as_ref(), map.get(key));
                prop_assert!(proof.holds(&root, key, value.as_ref()));
                let other = Digest::of(b"another");
                prop_assert!(!proof.holds(&root, key, Some(&other)));
                prop_assert!(value.is_none() || !proof.holds(&root, key, None));
                prop_assert!(!proof.holds(&other, key, value.as_ref()));
            }
        }
    }

    #[test]
    fn no_byte_of_a_proof_may_change() {
        let records: BTreeMap<Digest, Digest> = (0..500u32)
            .map(|n| (Digest::of(&n.to_le_bytes()), Digest::of(b"value")))
            .collect();
        let tree = Tree::of(&sorted(&records));
        let there = *records.keys().nth(77).expect("one");
        for key in [there, Digest::of(b"absent")] {
            let (value, proof) = tree.prove(&key);
            let bytes = borsh::to_vec(&proof).expect("encodes");
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut bad = bytes.clone();
                    bad[at] ^= 1 << bit;
                    let Ok(bad) = StateProof::try_from_slice(&bad) else {
                        continue;
                    };
                    let held = bad.holds(&tree.root(), &key, value.as_ref());
                    assert!(!held, "byte {at}, bit {bit}");
                }
            }
        }
    }
}
