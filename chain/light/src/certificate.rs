//! What a committee signs together, and how it is checked: by the network key alone.
//!
//! The engine's own checks (`commonware-consensus`) would bring its runtime along, and half of what a
//! validator is made of; its form is fixed by certificates that lie in networks' blocks, and the
//! tests here are of certificates that the engine made. Signatures: BLS12-381, 48 bytes each, in the
//! smaller group.

use blst::BLST_ERROR::BLST_SUCCESS;
use blst::min_sig::{PublicKey, Signature};
use types::Digest;

use crate::{BEACON_BYTES, LightError, NAMESPACE};

/// As the engine hashes into the group.
const SUITE: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
const SEED: &[u8] = b"_SEED";
const FINALIZE: &[u8] = b"_FINALIZE";

/// The network's key: the committee's, in all epochs.
pub struct NetworkKey(PublicKey);

impl NetworkKey {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LightError> {
        let key = PublicKey::key_validate(bytes);
        key.map(Self).map_err(|_| LightError::Key)
    }

    /// Whether the committee signed `message` as one of the kind that `suffix` names.
    fn has_signed(&self, suffix: &[u8], message: &[u8], signature: &[u8; BEACON_BYTES]) -> bool {
        let kind = [NAMESPACE, suffix].concat();
        let length = numbers(&[kind.len() as u64]);
        let signed = [&length[..], &kind, message].concat();
        Signature::sig_validate(signature, true).is_ok_and(|signature| {
            // Both are known to be in their groups.
            signature.verify(false, &signed, SUITE, &[], &self.0, false) == BLST_SUCCESS
        })
    }

    /// Whether `seed` is the threshold signature of one view.
    pub fn has_seeded(&self, epoch: u64, view: u64, seed: &[u8; BEACON_BYTES]) -> bool {
        self.has_signed(SEED, &numbers(&[epoch, view]), seed)
    }
}

/// That a block is final.
pub struct Certificate {
    epoch: u64,
    view: u64,
    parent: u64,
    pub block: Digest,
    vote: [u8; BEACON_BYTES],
    seed: [u8; BEACON_BYTES],
}

impl Certificate {
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, LightError> {
        let rest = &mut bytes;
        let read = (|| {
            let (epoch, view, parent) = (number(rest)?, number(rest)?, number(rest)?);
            Some(Self {
                epoch,
                view,
                parent,
                block: Digest(take(rest)?),
                vote: take(rest)?,
                seed: take(rest)?,
            })
        })();
        read.filter(|_| bytes.is_empty())
            .ok_or(LightError::Certificate)
    }

    /// Whether the network's committee made it.
    pub fn is_good(&self, key: &NetworkKey) -> bool {
        let proposal = numbers(&[self.epoch, self.view, self.parent]);
        let proposal = [&proposal[..], &self.block.0].concat();
        key.has_signed(FINALIZE, &proposal, &self.vote)
            && key.has_seeded(self.epoch, self.view, &self.seed)
    }
}

pub fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn numbers(all: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in all {
        let mut left = *number;
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }
    bytes
}

/// A number in its shortest form.
pub fn number(rest: &mut &[u8]) -> Option<u64> {
    let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
    let (bytes, after) = rest.split_at_checked(end + 1)?;
    let mut number = 0u64;
    for (at, byte) in (0..).zip(bytes) {
        let part = u64::from(byte & 0x7f);
        let shifted = part.checked_shl(7 * at).filter(|s| s >> (7 * at) == part)?;
        number |= shifted;
    }
    *rest = after;
    (numbers(&[number]) == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let bytes = numbers(&[n, 5]);
            let mut rest = &bytes[..];
            assert_eq!((number(&mut rest), number(&mut rest)), (Some(n), Some(5)));
            assert!(rest.is_empty());
        }
        for bad in [
            &[][..],
            &[0x80],
            &[0x80, 0],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[0x80; 12],
        ] {
            assert_eq!(number(&mut &bad[..]), None, "{bad:?}");
        }
    }
}
