//! SHA-256 digests and the binary Merkle tree that opens one line of many.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A SHA-256 digest. Shown as `sha256:<64 hex digits>`, as OCI does.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Digest of a value's canonical bytes under a domain word, so that digests of
    /// different kinds of value never coincide.
    pub fn of_value<T: BorshSerialize>(domain: &str, value: &T) -> Self {
        let mut hasher = sha2::Sha256::new();
        hasher.update(domain.as_bytes());
        hasher.update([0]);
        borsh::to_writer(Writer(&mut hasher), value).expect("hashing does not fail");
        Self(hasher.finalize().into())
    }

    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

struct Writer<'a>(&'a mut sha2::Sha256);

impl std::io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", hex::encode(&self.0[..4]))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a digest: it is written sha256: and 64 hex digits")]
pub struct DigestError(String);

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let bad = || DigestError(text.chars().take(80).collect());
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let bytes = hex::decode(digits).map_err(|_| bad())?;
        bytes.try_into().map(Self).map_err(|_| bad())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

fn leaf(data: &[u8]) -> Digest {
    let mut bytes = Vec::with_capacity(data.len() + 1);
    bytes.push(0);
    bytes.extend_from_slice(data);
    Digest::of(&bytes)
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [1u8; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Digest::of(&bytes)
}

/// An odd node rises unchanged. The root also commits to the number of leaves.
fn seal(count: usize, top: Digest) -> Digest {
    Digest::of_value("runrig-merkle", &(count as u64, top))
}

fn levels<T: AsRef<[u8]>>(leaves: &[T]) -> Vec<Vec<Digest>> {
    let mut levels = vec![leaves.iter().map(|l| leaf(l.as_ref())).collect::<Vec<_>>()];
    while levels.last().is_some_and(|l| l.len() > 1) {
        let below = levels.last().expect("just seen");
        let above = below
            .chunks(2)
            .map(|pair| match pair {
                [l, r] => node(l, r),
                [one] => *one,
                _ => unreachable!("chunks of two"),
            })
            .collect();
        levels.push(above);
    }
    levels
}

/// Root over `leaves` in order; leaf and inner hashes are apart (no second preimage).
pub fn merkle_root<T: AsRef<[u8]>>(leaves: &[T]) -> Digest {
    let top = levels(leaves)
        .pop()
        .and_then(|l| l.first().copied())
        .unwrap_or_default();
    seal(leaves.len(), top)
}

/// The sibling digests from leaf `index` up; `None` past the end.
pub fn merkle_path<T: AsRef<[u8]>>(leaves: &[T], index: usize) -> Option<Vec<Digest>> {
    (index < leaves.len()).then(|| path(&levels(leaves), index))
}

/// The [`merkle_path`] of every leaf, in order, with each leaf hashed once.
pub fn merkle_paths<T: AsRef<[u8]>>(leaves: &[T]) -> Vec<Vec<Digest>> {
    let levels = levels(leaves);
    (0..leaves.len()).map(|at| path(&levels, at)).collect()
}

fn path(levels: &[Vec<Digest>], index: usize) -> Vec<Digest> {
    let mut at = index;
    let mut path = Vec::new();
    for level in levels {
        if level.len() > 1
            && let Some(sibling) = level.get(at ^ 1)
        {
            path.push(*sibling);
        }
        at /= 2;
    }
    path
}

/// Whether `data` is leaf `index` of `count` under `root`.
pub fn merkle_verify(root: &Digest, data: &[u8], index: u64, count: u64, path: &[Digest]) -> bool {
    if index >= count {
        return false;
    }
    let (mut at, mut width, mut hash) = (index, count, leaf(data));
    let mut path = path.iter();
    while width > 1 {
        if at ^ 1 < width {
            let Some(sibling) = path.next() else {
                return false;
            };
            hash = if at & 1 == 0 {
                node(&hash, sibling)
            } else {
                node(sibling, &hash)
            };
        }
        at /= 2;
        width = width.div_ceil(2);
    }
    path.next().is_none() && seal(count as usize, hash) == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_opens_and_nothing_else_does() {
        for count in 0..20u64 {
            let leaves: Vec<Vec<u8>> = (0..count).map(|i| i.to_le_bytes().to_vec()).collect();
            let root = merkle_root(&leaves);
            assert!(merkle_path(&leaves, count as usize).is_none());
            for (i, data) in leaves.iter().enumerate() {
                let path = merkle_path(&leaves, i).expect("in range");
                assert!(merkle_verify(&root, data, i as u64, count, &path));
                assert!(!merkle_verify(&root, b"other", i as u64, count, &path));
                assert!(!merkle_verify(&root, data, i as u64, count + 1, &path));
                assert!(!merkle_verify(&root, data, i as u64 + 1, count, &path));
                let mut longer = path.clone();
                longer.push(Digest::default());
                assert!(!merkle_verify(&root, data, i as u64, count, &longer));
            }
        }
    }

    #[test]
    fn digest_reads_what_it_shows() {
        let d = Digest::of(b"x");
        assert_eq!(d.to_string().parse(), Ok(d));
        assert!("sha256:12".parse::<Digest>().is_err());
        assert!("zz".parse::<Digest>().is_err());
    }
}
