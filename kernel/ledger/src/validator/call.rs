use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Digest, DoubleProposal, PublicKey, SecretKey, Signature};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Enters a validator, or changes where it is and renews its ticket. Who enters it pays the
    /// bond and owns it; the account of the identity key may renew.
    Register(Registration),
    /// Draw it no more; the bond goes to `to` when it no longer sits and the delay is over.
    /// Registering again before that undoes it. Signed by the owner.
    Leave { key: PublicKey, to: AccountId },
    /// Convicts a leader of two blocks for one view: it loses its bond, leads no more and is
    /// drawn no more. Anyone may; who is first gets a tenth of the bond. Taken for as long as a
    /// bond is held after its validator's last epoch (`bond_epochs`).
    Accuse(DoubleProposal),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Registration {
    /// Identity key.
    pub key: PublicKey,
    /// `ip:port` where other validators find it.
    pub address: String,
    /// URL of its HTTP API; may be empty.
    pub api: String,
    /// The ticket is made from the beacon of this epoch ...
    pub epoch: u64,
    /// ... and this.
    pub nonce: u64,
    /// By the identity key, over [`Registration::proof_digest`]: nobody enters another's key.
    pub proof: Signature,
}

impl Registration {
    /// What the identity key signs: that `sender` may enter it on `network`.
    pub fn proof_digest(network: &Digest, sender: &AccountId, key: &PublicKey) -> Digest {
        Digest::of_value("runrig-validator", &(network, sender, key))
    }

    /// The identity's consent to be entered by `sender`.
    pub fn prove(network: &Digest, sender: &AccountId, identity: &SecretKey) -> Signature {
        identity.sign(&Self::proof_digest(network, sender, &identity.public()).0)
    }
}
