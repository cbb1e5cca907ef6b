//! A secret that is sealed to the network at the beginning, and opened by whoever holds the key.

use std::collections::{BTreeMap, BTreeSet};

use consensus::{Handle, KeyShare};
use secrets::{Asking, Label, release, seal};
use types::{AccountId, AllocationId, SecretKey};
use validator::LedgerMachine;

const VALUE: &[u8] = b"sealed before the first block";
const ALLOCATION: AllocationId = AllocationId(1);

pub struct Letter {
    label: Label,
    sealed: Vec<u8>,
    /// Epochs whose holders have opened it.
    opened: BTreeSet<u64>,
    /// What shares were checked by, whenever a quorum held such.
    sharings: BTreeSet<Vec<u8>>,
}

impl Letter {
    pub fn new(network_key: &[u8]) -> Self {
        let owner = SecretKey::from_seed([77; 32]);
        let sealed = seal(network_key, &owner, "sim", "letter", VALUE).expect("sealed");
        Self {
            label: Label {
                owner: AccountId::of(&owner.public()),
                mark: sealed.mark,
            },
            sealed: sealed.bytes,
            opened: BTreeSet::new(),
            sharings: BTreeSet::new(),
        }
    }

    /// Panics if a quorum of those who hold shares of one epoch's key cannot open it.
    pub fn open<'n>(&mut self, nodes: impl Iterator<Item = &'n Handle<LedgerMachine>>) {
        // Some may hold the next epoch's shares already.
        let mut holders: BTreeMap<Vec<u8>, (u64, Vec<KeyShare>)> = BTreeMap::new();
        for node in nodes {
            if let Some(share) = node.key_share() {
                let epoch = node.head().header.epoch;
                let held = holders.entry(share.sharing.clone()).or_default();
                held.0 = held.0.max(epoch);
                held.1.push(share);
            }
        }
        for (sharing, (epoch, shares)) in holders {
            let quorum = shares.first().map_or(usize::MAX, |share| share.quorum);
            if shares.len() < quorum {
                continue;
            }
            let is_handed_on = self.sharings.insert(sharing.clone());
            if !self.opened.insert(epoch) && !is_handed_on {
                continue;
            }
            let asking = Asking::new(ALLOCATION).expect("a key");
            let label = [self.label];
            let given = |share: &KeyShare| release(&share.share, ALLOCATION, asking.to(), &label);
            let given: Result<Vec<_>, _> = shares.iter().map(given).collect();
            let secret = [(self.label, &self.sealed[..])];
            let opened = asking.open(&sharing, &given.expect("released"), &secret);
            let opened = opened.unwrap_or_else(|why| {
                panic!(
                    "a quorum of epoch {epoch} cannot open what was sealed to the network: {why}"
                )
            });
            assert_eq!(&opened[0].0[..], VALUE);
        }
    }

    pub fn opened(&self) -> usize {
        self.opened.len()
    }

    /// How often the key went on to new shares.
    pub fn handed_on(&self) -> usize {
        self.sharings.len().saturating_sub(1)
    }
}
