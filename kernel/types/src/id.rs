//! Ids by kind. Numbers are given out by the ledger in order, so they are short and the
//! same on every validator.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, PublicKey};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {kind}")]
pub struct IdError {
    text: String,
    kind: &'static str,
}

impl IdError {
    fn new(text: &str, kind: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            kind,
        }
    }
}

/// An account: the first 20 bytes of the digest of its first key. Shown as 40 hex digits.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct AccountId(pub [u8; 20]);

/// A host is an account: its key signs its reports, its balance receives its pay.
pub type HostId = AccountId;

impl AccountId {
    pub fn of(key: &PublicKey) -> Self {
        let digest = Digest::of_value("runrig-account", key);
        Self(digest.0[..20].try_into().expect("20 of 32 bytes"))
    }

    /// Of a key that a passkey holds.
    pub fn of_passkey(key: &crate::PasskeyKey) -> Self {
        let digest = Digest::of_value("runrig-passkey-account", key);
        Self(digest.0[..20].try_into().expect("20 of 32 bytes"))
    }

    /// The first six digits: enough to tell accounts apart on a screen.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..3])
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}…", self.short())
    }
}

impl FromStr for AccountId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes =
            hex::decode(text).map_err(|_| IdError::new(text, "an account: 40 hex digits"))?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| IdError::new(text, "an account: 40 hex digits"))
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <String as Deserialize>::deserialize(d)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix($prefix).unwrap_or(text);
                digits.parse().map(Self).map_err(|_| IdError::new(text, $kind))
            }
        }

        as_text!($name);
    };
}

as_text!(AccountId);
numbered!(
    /// A compose project on the ledger, over all its releases.
    DeploymentId, "d-", "a deployment: written d-12");
numbered!(
    /// One replica placed on one host, and the lease that pays for it.
    AllocationId, "a-", "an allocation: written a-12");
numbered!(
    /// A round of the public drawing service.
    LotteryId, "l-", "a lottery: written l-12");
numbered!(
    /// A change of the network's parameters that is voted on.
    ProposalId, "p-", "a proposal: written p-12");
numbered!(
    /// What settlement made of one usage report for one allocation.
    ReceiptId, "r-", "a receipt: written r-12");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_show() {
        assert_eq!("a-7".parse(), Ok(AllocationId(7)));
        assert_eq!("7".parse(), Ok(AllocationId(7)));
        assert_eq!(AllocationId(7).to_string(), "a-7");
        assert!("d-7".parse::<AllocationId>().is_err());
        let account = AccountId([7; 20]);
        assert_eq!(account.to_string().parse(), Ok(account));
    }
}
