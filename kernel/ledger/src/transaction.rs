//! What an account signs.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, AccountKey, Amount, Digest, Proof, SecretKey};

use crate::{account, deployment, host, lease, limit, lottery, validator, vote, witness};

/// One thing asked of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Account(account::Call),
    Host(host::Call),
    Deployment(deployment::Call),
    Lease(lease::Call),
    Lottery(lottery::Call),
    Vote(vote::Call),
    Validator(validator::Call),
    Witness(witness::Call),
    Limit(limit::Call),
}

impl Call {
    /// Costs no fee: what hosts, gateways and validators say, and those who hold nothing yet.
    pub fn is_free(&self) -> bool {
        match self {
            // A validator that earned nothing yet renews and votes all the same.
            Self::Host(_)
            | Self::Lease(_)
            | Self::Validator(_)
            | Self::Vote(_)
            | Self::Witness(_) => true,
            Self::Account(call) => matches!(call, account::Call::Faucet { .. }),
            Self::Deployment(call) => matches!(call, deployment::Call::ReportDemand { .. }),
            Self::Limit(_) | Self::Lottery(_) => false,
        }
    }

    /// Does anybody wait for it? Signs of life and usage that is only more of the same are
    /// taken along by any block.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Host(call) => !matches!(call, host::Call::Heartbeat),
            Self::Lease(lease::Call::ReportUsage { lines, .. }) => lines.iter().any(|l| l.last),
            // A gateway's figures, unless a request waits.
            Self::Deployment(deployment::Call::ReportDemand { lines }) => {
                lines.iter().any(|l| l.waiting > 0)
            }
            // A round is longer than any block.
            Self::Witness(_) => false,
            Self::Account(_)
            | Self::Deployment(_)
            | Self::Lease(_)
            | Self::Validator(_)
            | Self::Limit(_)
            | Self::Lottery(_)
            | Self::Vote(_) => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct TransactionBody {
    /// Digest of the genesis: a transaction is good on one network only.
    pub network: Digest,
    /// Signs; nonces are counted for [`AccountKey::account`] of it.
    pub key: AccountKey,
    /// Empty: the key acts for its own account. Else each account here gave a grant to the one
    /// before it, the first one to the key's; the call is the last one's. At most two.
    pub on_behalf: Vec<AccountId>,
    /// Each used once. Accepted out of order within a window of 64 around the highest used.
    pub nonce: u64,
    /// Not included after this height.
    pub expires: u64,
    /// Paid beside the fee, for a place before others that wait.
    pub tip: Amount,
    pub call: Call,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Transaction {
    pub body: TransactionBody,
    pub signature: Proof,
}

impl Transaction {
    /// Canonical bytes of a deployment are bounded by this.
    pub const BYTES_MAX: usize = 256 * 1024;

    pub fn sign(body: TransactionBody, key: &SecretKey) -> Self {
        let signature = Proof::Ed25519(key.sign(&body.signed_digest().0));
        Self { body, signature }
    }

    /// Digest of the canonical bytes, signature included.
    pub fn id(&self) -> Digest {
        Digest::of_value("runrig-transaction", self)
    }

    /// Whose key and nonce it uses.
    pub fn signer(&self) -> AccountId {
        self.body.key.account()
    }

    /// Whose call it is.
    pub fn sender(&self) -> AccountId {
        let last = self.body.on_behalf.last();
        last.copied().unwrap_or_else(|| self.signer())
    }
}

impl TransactionBody {
    /// What the signature covers.
    pub fn signed_digest(&self) -> Digest {
        Digest::of_value("runrig-sign", self)
    }
}
