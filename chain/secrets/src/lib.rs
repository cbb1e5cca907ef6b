//! Seal a secret to the network; open it where the ledger placed it.
//!
//! ```text
//! owner                          validators                      host
//! seal: value ─► data key        hold no secret                  asks, with a key of its own
//!       data key ─► network key  each: does the ledger place  ◄─ that lives for one request
//!       both are public          a replica with it there?
//!                                a share of the secret's key  ─► a quorum of shares opens it
//! ```
//!
//! The network key is dealt to the validators. What is encrypted to it under a *label* opens by
//! the threshold signature of that label, which a quorum makes and fewer cannot. So nobody
//! keeps a secret for its owner, and nothing need be moved when a replica is: whichever host the
//! ledger chooses next is given shares for as long as a replica with the secret is its own.
//!
//! Invariants: a label names its owner, so whoever copies a secret's mark or bytes into a
//! deployment of their own is given shares of another key; the same value of the same owner,
//! project and name gives the same mark and bytes, which tell nobody else what it is; values
//! and keys are wiped when they are let go, and have no `Debug`.
//!
//! Beside that: what is sealed to readers by name, to the keys that they sign with ([`seal_to`]).
//!
//! Knows no network and no ledger. Start at [`seal`], [`release`], [`Asking`].
//! Source: RFD 10; Boneh and Franklin, *Identity-Based Encryption from the Weil Pairing*, 2001.

mod addressed;
mod asking;
mod sealing;

use commonware_codec::{Copying, Decode};
use commonware_cryptography::bls12381::primitives::sharing::{ModeVersion, Sharing};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_utils::NZU32;
use types::{AccountId, Digest};

pub use addressed::{ADDRESSED_MAX, open_as, readers_of, seal_to};
pub use asking::{Asking, Opened, Release, release};
pub use commonware_cryptography::bls12381::primitives::group::Share;
pub use sealing::{Sealed, seal};
pub use zeroize::Zeroizing;

/// Bytes of a value: as many as Docker takes.
pub const VALUE_BYTES_MAX: usize = 500 << 10;
/// Secrets of one service.
pub const SECRETS_MAX: usize = 32;

/// Tells these signatures from votes under the same key.
const NAMESPACE: &[u8] = b"RUNRIG_SECRET";
/// Largest committee whose bytes are read.
const MEMBERS_MAX: u32 = 128;

/// What a secret's key is bound to: whose it is, and its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    pub owner: AccountId,
    /// A keyed digest of project, name and value: equal marks, equal values.
    pub mark: Digest,
}

impl Label {
    fn bytes(&self) -> [u8; 32] {
        Digest::of_value("runrig-secret-label", &(self.owner, self.mark)).0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("it has {0} bytes; a secret has at most {VALUE_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the network key cannot be read")]
    NetworkKey,
    #[error("what is sealed cannot be read: it is damaged, or of a newer program")]
    Unreadable,
    #[error("{had} of {needed} validators gave their share of its key")]
    TooFew { had: usize, needed: usize },
    #[error("the shares do not open it: it was sealed for another owner or network")]
    Closed,
    #[error("this machine's cryptography refused")]
    Refused,
}

/// The public side of the dealt network key, from its canonical bytes.
fn sharing(bytes: &[u8]) -> Result<Sharing<MinSig>, SecretError> {
    let bounds = (NZU32!(MEMBERS_MAX), ModeVersion::v0());
    Sharing::decode_cfg(Copying(bytes), &bounds).map_err(|_| SecretError::NetworkKey)
}

#[cfg(test)]
mod tests;
