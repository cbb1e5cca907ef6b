//! Remember who proposed what, so that a leader of two blocks for one view is found.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Result;
use light::Header;
use types::{DoubleProposal, PublicKey, Seal};

use crate::app::TOLD_WITHIN;
use crate::block::sealed;
use crate::store::Store;

/// Views remembered: each has one leader.
const VIEWS_MAX: usize = 256;
/// Proofs kept until they are on the ledger; each costs its maker a bond.
const DOUBLES_MAX: usize = 256;

#[derive(Default)]
struct Seen {
    views: BTreeMap<(u64, u64), (PublicKey, Seal)>,
    newest: Option<(PublicKey, Seal)>,
    doubles: BTreeMap<PublicKey, DoubleProposal>,
}

/// Of proposals of the newest views. Callers have checked that a seal is its leader's, and that
/// he leads that view.
#[derive(Default)]
pub(crate) struct Sightings(Mutex<Seen>);

impl Sightings {
    /// Of the blocks in `store` up to `height`, as far back as others are listened to: whoever
    /// restarts still finds a leader's second block.
    pub fn of(store: &Store, height: u64) -> Result<Self> {
        let seen = Self::default();
        for height in height.saturating_sub(TOLD_WITHIN)..=height {
            let Some(record) = store.block(height)? else {
                continue;
            };
            let header = Header::from_bytes(&record.header)?;
            if let Some((leader, seal)) = sealed(&header, header.digest(), record.seal) {
                seen.note(leader, seal);
            }
        }
        Ok(seen)
    }

    /// `false`: a leader's second block for one view.
    pub fn note(&self, leader: PublicKey, seal: Seal) -> bool {
        let mut seen = self.0.lock().expect("not poisoned");
        let view = (seal.epoch, seal.view);
        let Some((_, known)) = seen.views.get(&view) else {
            seen.views.insert(view, (leader, seal));
            if seen.views.len() > VIEWS_MAX {
                seen.views.pop_first();
            }
            return true;
        };
        if known.block == seal.block {
            return true;
        }
        let double = DoubleProposal {
            leader,
            seals: [*known, seal],
        };
        if seen.doubles.len() < DOUBLES_MAX {
            seen.doubles.entry(leader).or_insert(double);
        }
        false
    }

    /// As [`Self::note`], of a block that is here: others are told of it.
    pub fn note_block(&self, leader: PublicKey, seal: Seal) -> bool {
        self.0.lock().expect("not poisoned").newest = Some((leader, seal));
        self.note(leader, seal)
    }

    /// Is `block` what is known of that view already?
    pub fn knows(&self, seal: &Seal) -> bool {
        let seen = self.0.lock().expect("not poisoned");
        let known = seen.views.get(&(seal.epoch, seal.view));
        known.is_some_and(|(_, known)| known.block == seal.block)
    }

    pub fn newest(&self) -> Option<(PublicKey, Seal)> {
        self.0.lock().expect("not poisoned").newest
    }

    pub fn doubles(&self) -> Vec<DoubleProposal> {
        let seen = self.0.lock().expect("not poisoned");
        seen.doubles.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use types::{Digest, SecretKey};

    use super::*;

    #[test]
    fn two_blocks_of_one_view_are_found_and_memory_is_bounded() {
        let (key, network) = (SecretKey::from_seed([1; 32]), Digest::of(b"net"));
        let leader = key.public();
        let seal = |view: u64, block: &[u8]| Seal::put(&key, &network, 0, view, Digest::of(block));
        let seen = Sightings::default();
        assert!(seen.note_block(leader, seal(1, b"a")) && seen.note(leader, seal(1, b"a")));
        assert!(seen.knows(&seal(1, b"a")) && !seen.knows(&seal(1, b"b")));
        assert!(seen.doubles().is_empty());
        assert!(!seen.note(leader, seal(1, b"b")) && !seen.note(leader, seal(1, b"c")));
        let doubles = seen.doubles();
        assert_eq!(doubles.len(), 1, "one is enough");
        assert_eq!(doubles[0].check(&network), Ok(()));
        assert_eq!(seen.newest(), Some((leader, seal(1, b"a"))));
        for view in 2..2 + VIEWS_MAX as u64 {
            assert!(seen.note(leader, seal(view, b"a")));
        }
        assert!(!seen.knows(&seal(1, b"a")), "long ago");
        assert_eq!(seen.0.lock().expect("not poisoned").views.len(), VIEWS_MAX);
    }
}
