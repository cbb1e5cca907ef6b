//! What proves that a record is in a state, or is not: the way from its key to the state's root.
//!
//! A state is a set of records: digest of a key, digest of a value. Its root is that of the binary
//! tree in which each key lies where its bits lead, the first bit first:
//!
//! - no records: zeros;
//! - one record: `H(0 ‖ key ‖ value)`, at whatever depth;
//! - more: `H(1 ‖ left ‖ right)`, of those whose next bit is 0 and of those whose next bit is 1.
//!
//! So a set has one root, whatever its history, and the way to a key ends either at that key, or
//! where it would have to be: at nothing, or at another record alone.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::Digest;

/// Bits of a key.
pub const STATE_DEPTH_MAX: usize = 256;

/// Under which a record lies in the state: of its table and its key.
///
/// Tables: `globals` (key `()`), `accounts`, `hosts`, `deployments`, `allocations`, `lotteries` and
/// `proposals`, keyed by their ids; `releases`, keyed by deployment and number; `scales`, by
/// deployment and service; `entries`, by lottery and number; `validators`, by their keys;
/// `drawings` and `duties`, by the epoch; `members`, by account.
pub fn state_key<K: BorshSerialize>(table: &str, key: &K) -> Digest {
    Digest::of_value("runrig-state", &(table, key))
}

/// What the state holds of a record: the digest of its canonical bytes, of that table.
pub fn record_digest(table: &str, record: &[u8]) -> Digest {
    struct Raw<'a>(&'a [u8]);
    impl BorshSerialize for Raw<'_> {
        fn serialize<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
            writer.write_all(self.0)
        }
    }
    Digest::of_value(table, &Raw(record))
}

/// Root of a state of one record.
pub fn state_leaf(key: &Digest, value: &Digest) -> Digest {
    joined(0, key, value)
}

/// Root of a state of more, from those of its halves.
pub fn state_node(left: &Digest, right: &Digest) -> Digest {
    joined(1, left, right)
}

fn joined(kind: u8, left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [kind; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Digest::of(&bytes)
}

/// Does the way to `key` turn right at `depth`?
pub fn state_bit(key: &Digest, depth: usize) -> bool {
    key.0[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// The way from a key to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StateProof {
    /// Another record that is alone where the key would be: the key is absent.
    pub other: Option<(Digest, Digest)>,
    /// Bit i, the first bit first: the neighbour at depth i is not empty.
    pub filled: Vec<u8>,
    /// How many turns the way takes.
    pub depth: u16,
    /// Neighbours that are not empty, from the root down.
    pub neighbours: Vec<Digest>,
}

impl StateProof {
    /// Canonical bytes are at most so many for ways that are not made long on purpose; refused
    /// when they are more than this.
    pub const BYTES_MAX: usize = 66 + 36 + 2 + 4 + 32 * STATE_DEPTH_MAX;

    /// Whether, in the state with `root`, `key` has `value`; with `None`: whether it is absent.
    pub fn holds(&self, root: &Digest, key: &Digest, value: Option<&Digest>) -> bool {
        self.root_of(key, value) == Some(*root)
    }

    /// The root that this is the way to; `None` if it is no way.
    fn root_of(&self, key: &Digest, value: Option<&Digest>) -> Option<Digest> {
        let depth = usize::from(self.depth);
        let spare = self.filled.len().checked_mul(8)?.checked_sub(depth)?;
        let last = self.filled.last().copied().unwrap_or_default();
        if depth > STATE_DEPTH_MAX || spare >= 8 || u16::from(last) & ((1 << spare) - 1) != 0 {
            return None;
        }
        let mut hash = match (value, &self.other) {
            (Some(value), None) => state_leaf(key, value),
            (None, None) => Digest::default(),
            (None, Some((other, value))) => {
                let beside = |at| state_bit(other, at) == state_bit(key, at);
                if other == key || !(0..depth).all(beside) {
                    return None;
                }
                state_leaf(other, value)
            }
            (Some(_), Some(_)) => return None,
        };
        let mut neighbours = self.neighbours.iter().rev();
        for at in (0..depth).rev() {
            let filled = self.filled[at / 8] >> (7 - at % 8) & 1 == 1;
            let neighbour = match filled {
                true => *neighbours.next()?,
                false => Digest::default(),
            };
            hash = match state_bit(key, at) {
                true => state_node(&neighbour, &hash),
                false => state_node(&hash, &neighbour),
            };
        }
        neighbours.next().is_none().then_some(hash)
    }
}
