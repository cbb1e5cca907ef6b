//! A leader's word that a block is its own of a view; and two such words for one view, which no
//! honest leader gives.
//!
//! Threshold votes prove nothing against anybody: enough of the others can make a member's. A
//! seal is made by one key alone, so two of them convict it, before anyone who has the key.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Digest, PublicKey, SecretKey, Signature};

/// "In this view I propose this block", by the leader's identity key.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Seal {
    pub epoch: u64,
    pub view: u64,
    /// Digest of the block's header.
    pub block: Digest,
    pub signature: Signature,
}

fn message(network: &Digest, epoch: u64, view: u64, block: &Digest) -> Digest {
    Digest::of_value("runrig-seal", &(network, epoch, view, block))
}

impl Seal {
    /// Whoever calls it sees to it that no other block was ever sealed for that view.
    pub fn put(key: &SecretKey, network: &Digest, epoch: u64, view: u64, block: Digest) -> Self {
        Self {
            epoch,
            view,
            block,
            signature: key.sign(&message(network, epoch, view, &block).0),
        }
    }

    pub fn is_by(&self, key: &PublicKey, network: &Digest) -> bool {
        let said = message(network, self.epoch, self.view, &self.block);
        key.verify(&said.0, &self.signature).is_ok()
    }
}

/// What convicts a leader: two blocks that it sealed for one view.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct DoubleProposal {
    /// Identity key.
    pub leader: PublicKey,
    pub seals: [Seal; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDouble {
    #[error("the two seals are for different views")]
    Views,
    #[error("both seals are on the same block")]
    OneBlock,
    #[error("a seal is not the leader's on this network")]
    Forged,
}

impl DoubleProposal {
    /// Whether it convicts `leader`.
    pub fn check(&self, network: &Digest) -> Result<(), NoDouble> {
        let [one, other] = &self.seals;
        if (one.epoch, one.view) != (other.epoch, other.view) {
            return Err(NoDouble::Views);
        }
        if one.block == other.block {
            return Err(NoDouble::OneBlock);
        }
        match self.seals.iter().all(|s| s.is_by(&self.leader, network)) {
            true => Ok(()),
            false => Err(NoDouble::Forged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_blocks_of_one_view_by_one_key_on_one_network_convict() {
        let (key, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let network = Digest::of(b"net");
        let seal = |key: &SecretKey, view, block: &[u8]| {
            Seal::put(key, &network, 3, view, Digest::of(block))
        };
        let double = |one, two| DoubleProposal {
            leader: key.public(),
            seals: [one, two],
        };
        let (a, b) = (seal(&key, 7, b"a"), seal(&key, 7, b"b"));
        assert_eq!(double(a, b).check(&network), Ok(()));
        assert_eq!(double(a, a).check(&network), Err(NoDouble::OneBlock));
        let later = seal(&key, 8, b"b");
        assert_eq!(double(a, later).check(&network), Err(NoDouble::Views));
        let forged = double(a, seal(&other, 7, b"b"));
        assert_eq!(forged.check(&network), Err(NoDouble::Forged));
        let elsewhere = Digest::of(b"another");
        assert_eq!(double(a, b).check(&elsewhere), Err(NoDouble::Forged));
        let moved = Seal { view: 8, ..b };
        assert_eq!(
            double(later, moved).check(&network),
            Err(NoDouble::OneBlock)
        );
    }
}
