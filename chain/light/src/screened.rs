//! Say of a transaction that one has checked it and brought it to who makes blocks: RFD 21.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Digest, PublicKey, SecretKey, Signature};

/// That a transaction of the block was brought by a screener.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Screened {
    /// Place among the epoch's screeners, in the order drawn.
    pub screener: u8,
    /// Place in the block.
    pub transaction: u32,
    pub signature: [u8; 64],
}

fn message(network: &Digest, epoch: u64, transaction: &Digest) -> Digest {
    Digest::of_value("runrig-screened", &(network, epoch, transaction))
}

/// Signs that `transaction`, by its id, was screened in `epoch`, by the screener's identity key.
pub fn screen(key: &SecretKey, network: &Digest, epoch: u64, transaction: &Digest) -> [u8; 64] {
    key.sign(&message(network, epoch, transaction).0).0
}

/// Whether `key` said so.
pub fn is_screened(
    key: &[u8; 32],
    network: &Digest,
    epoch: u64,
    transaction: &Digest,
    signature: &[u8; 64],
) -> bool {
    let message = message(network, epoch, transaction);
    PublicKey(*key)
        .verify(&message.0, &Signature(*signature))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_of_one_network_epoch_and_transaction() {
        let key = SecretKey::from_seed([1; 32]);
        let (network, id) = (Digest::of(b"n"), Digest::of(b"t"));
        let word = screen(&key, &network, 3, &id);
        let own = key.public().0;
        assert!(is_screened(&own, &network, 3, &id, &word));
        assert!(!is_screened(&own, &network, 4, &id, &word));
        assert!(!is_screened(&own, &id, 3, &id, &word));
        assert!(!is_screened(&own, &network, 3, &network, &word));
        assert!(!is_screened(&[2; 32], &network, 3, &id, &word));
    }
}
