//! Copies of logs on second hosts: who keeps them, and what travels.

use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use types::{AccountId, AllocationId, Digest, HostId, PublicKey, SecretKey, Signature};
use utoipa::ToSchema;

/// A host that keeps, or would keep, copies of an allocation's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keeper {
    #[schema(value_type = String)]
    pub host: HostId,
    pub name: String,
    pub address: String,
    pub online: bool,
}

/// Which lines are in a part of a copy.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, ToSchema,
)]
pub struct CopySpan {
    /// Number of the first line.
    pub first: u64,
    /// Number behind the last one.
    pub next: u64,
    /// When the newest was written, by its host's clock.
    pub newest_ms: u64,
}

/// A part of a copy: lines of an allocation, sealed to who may read them, signed by the host
/// that it ran on, so that who keeps it can neither read nor change it.
///
/// Bytes: the host's key (32), its signature (64), what is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCopy {
    pub key: PublicKey,
    signature: Signature,
    pub sealed: Vec<u8>,
}

impl LogCopy {
    /// Of one part, with all around it.
    pub const BYTES_MAX: usize = 512 << 10;
    /// Hosts that are named as keepers of one allocation's.
    pub const KEEPERS: usize = 4;

    pub fn sign(key: &SecretKey, id: AllocationId, span: &CopySpan, sealed: Vec<u8>) -> Self {
        Self {
            key: key.public(),
            signature: key.sign(&digest(id, span, &sealed).0),
            sealed,
        }
    }

    /// The host that made it of these lines; `None` if none did.
    pub fn host(&self, id: AllocationId, span: &CopySpan) -> Option<HostId> {
        let signed = digest(id, span, &self.sealed);
        self.key.verify(&signed.0, &self.signature).ok()?;
        Some(AccountId::of(&self.key))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.key.0[..], &self.signature.0, &self.sealed].concat()
    }

    /// `None` if it is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_at_checked(32)?;
        let (signature, sealed) = rest.split_at_checked(64)?;
        Some(Self {
            key: PublicKey(key.try_into().ok()?),
            signature: Signature(signature.try_into().ok()?),
            sealed: sealed.to_vec(),
        })
    }

    /// What its lines are sealed with.
    pub fn context(id: AllocationId, span: &CopySpan) -> Vec<u8> {
        digest(id, span, &[]).0.to_vec()
    }
}

fn digest(id: AllocationId, span: &CopySpan, sealed: &[u8]) -> Digest {
    Digest::of_value("runrig-log-copy", &(id, span, Digest::of(sealed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_of_its_host_and_its_lines() {
        let key = SecretKey::from_seed([1; 32]);
        let span = CopySpan {
            first: 3,
            next: 9,
            newest_ms: 77,
        };
        let copy = LogCopy::sign(&key, AllocationId(5), &span, b"sealed".to_vec());
        let copy = LogCopy::from_bytes(&copy.to_bytes()).expect("read");
        let host = Some(AccountId::of(&key.public()));
        assert_eq!(copy.host(AllocationId(5), &span), host);
        assert_eq!(copy.host(AllocationId(6), &span), None);
        let later = CopySpan { next: 10, ..span };
        assert_eq!(copy.host(AllocationId(5), &later), None);
        let mut changed = copy.clone();
        changed.sealed[0] ^= 1;
        assert_eq!(changed.host(AllocationId(5), &span), None);
        assert_eq!(LogCopy::from_bytes(&copy.to_bytes()[..95]), None);
    }
}
