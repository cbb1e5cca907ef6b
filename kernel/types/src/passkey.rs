//! Keys that sign for accounts: Ed25519 keys of programs, and P-256 keys that a passkey holds.
//!
//! A passkey signs what its browser shows it, not what it is asked to sign: the digest travels as
//! the challenge of a WebAuthn assertion ([`Assertion`]). Of the assertion the ledger checks what
//! binds the signature to the digest and that somebody was there; which site asked is the
//! passkey's own business, which keeps a key for each.

use borsh::{BorshDeserialize, BorshSerialize};
use p256::ecdsa::signature::Verifier as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

use crate::{AccountId, Digest, PublicKey, Signature, SignatureError};

/// A point of P-256, compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PasskeyKey(pub [u8; 33]);

crate::key::as_hex!(PasskeyKey, 33);

/// What a transaction names as its signer.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AccountKey {
    Ed25519(PublicKey),
    Passkey(PasskeyKey),
}

/// That the holder of an [`AccountKey`] signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    Ed25519(Signature),
    Passkey(Assertion),
}

/// What an authenticator answers (`navigator.credentials.get`): bytes as the browser hands them
/// over, the signature as r ‖ s with the lower of both possible s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Assertion {
    pub authenticator: Vec<u8>,
    pub client: Vec<u8>,
    pub signature: Signature,
}

impl From<PublicKey> for AccountKey {
    fn from(key: PublicKey) -> Self {
        Self::Ed25519(key)
    }
}

impl AccountKey {
    /// The account that is this key's own.
    pub fn account(&self) -> AccountId {
        match self {
            Self::Ed25519(key) => AccountId::of(key),
            Self::Passkey(key) => AccountId::of_passkey(key),
        }
    }

    pub fn verify(&self, digest: &Digest, proof: &Proof) -> Result<(), SignatureError> {
        match (self, proof) {
            (Self::Ed25519(key), Proof::Ed25519(signature)) => key.verify(&digest.0, signature),
            (Self::Passkey(key), Proof::Passkey(assertion)) => key.verify(digest, assertion),
            _ => Err(SignatureError::Wrong),
        }
    }
}

impl PasskeyKey {
    /// Of an uncompressed or compressed point, as browsers tell it.
    pub fn from_point(point: &[u8]) -> Result<Self, SignatureError> {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .map_err(|_| SignatureError::Malformed)?;
        let point = key.to_sec1_point(true);
        let bytes = point.as_bytes().try_into();
        bytes.map(Self).map_err(|_| SignatureError::Malformed)
    }

    pub fn verify(&self, digest: &Digest, assertion: &Assertion) -> Result<(), SignatureError> {
        if !assertion.is_of(digest) {
            return Err(SignatureError::Wrong);
        }
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&self.0)
            .map_err(|_| SignatureError::Malformed)?;
        let signature = p256::ecdsa::Signature::from_slice(&assertion.signature.0)
            .map_err(|_| SignatureError::Malformed)?;
        // Of the two forms of a signature only one counts, so that nobody on the way can make
        // another transaction of the same.
        if signature.normalize_s() != signature {
            return Err(SignatureError::Malformed);
        }
        let client = sha2::Sha256::digest(&assertion.client);
        let signed = [assertion.authenticator.as_slice(), &client].concat();
        key.verify(&signed, &signature)
            .map_err(|_| SignatureError::Wrong)
    }
}

impl Assertion {
    /// Of each part; real ones have a few hundred bytes.
    pub const BYTES_MAX: usize = 1_024;
    /// In the authenticator's flags: somebody was there and agreed.
    const PRESENT: u8 = 1;

    /// From what a browser hands over: the signature there is DER.
    pub fn from_browser(
        authenticator: Vec<u8>,
        client: Vec<u8>,
        der: &[u8],
    ) -> Result<Self, SignatureError> {
        let signature =
            p256::ecdsa::Signature::from_der(der).map_err(|_| SignatureError::Malformed)?;
        let bytes = signature.normalize_s().to_bytes();
        Ok(Self {
            authenticator,
            client,
            signature: Signature(bytes.into()),
        })
    }

    /// Whether it was made for `digest`, by somebody who was there. How a browser writes the
    /// client's data is fixed up to the origin (WebAuthn level 2, 5.8.1.1), so no parser is needed.
    fn is_of(&self, digest: &Digest) -> bool {
        let begin = format!(
            "{{\"type\":\"webauthn.get\",\"challenge\":\"{}\",\"origin\":\"",
            base64url(&digest.0)
        );
        let present = self
            .authenticator
            .get(32)
            .is_some_and(|flags| flags & Self::PRESENT != 0);
        self.authenticator.len() <= Self::BYTES_MAX
            && self.client.len() <= Self::BYTES_MAX
            && present
            && self.client.starts_with(begin.as_bytes())
    }
}

/// Without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::signature::Signer as _;

    fn passkey() -> (p256::ecdsa::SigningKey, PasskeyKey) {
        let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a scalar");
        let point = secret.verifying_key().to_sec1_point(false);
        (
            secret,
            PasskeyKey::from_point(point.as_bytes()).expect("a point"),
        )
    }

    fn assertion(digest: &Digest, flags: u8) -> Assertion {
        let mut authenticator = vec![9; 32];
        authenticator.extend([flags, 0, 0, 0, 1]);
        let client = format!(
            "{{\"type\":\"webauthn.get\",\"challenge\":\"{}\",\"origin\":\"http://localhost\"}}",
            base64url(&digest.0)
        )
        .into_bytes();
        let hash = sha2::Sha256::digest(&client);
        let signed = [authenticator.as_slice(), &hash].concat();
        let signature: p256::ecdsa::Signature = passkey().0.sign(&signed);
        let der = signature.to_der();
        Assertion::from_browser(authenticator, client, der.as_bytes()).expect("read")
    }

    #[test]
    fn an_assertion_holds_for_its_digest_and_key_and_somebody_there() {
        let (_, key) = passkey();
        let digest = Digest::of(b"pay");
        let good = assertion(&digest, 5);
        assert_eq!(key.verify(&digest, &good), Ok(()));
        assert!(key.verify(&Digest::of(b"more"), &good).is_err());
        assert!(key.verify(&digest, &assertion(&digest, 4)).is_err());
        for byte in [0, 33, 36] {
            let mut bent = good.clone();
            bent.authenticator[byte] ^= 1;
            assert!(key.verify(&digest, &bent).is_err(), "{byte}");
        }
        let mut bent = good.clone();
        bent.client.push(b' ');
        assert!(key.verify(&digest, &bent).is_err());
        let mut long = good.clone();
        long.client.resize(Assertion::BYTES_MAX + 1, b' ');
        assert!(key.verify(&digest, &long).is_err());
        let mut empty = good.clone();
        empty.authenticator.clear();
        assert!(key.verify(&digest, &empty).is_err());
        assert!(PasskeyKey([0; 33]).verify(&digest, &good).is_err());
    }

    #[test]
    fn one_form_of_a_signature_counts() {
        let (_, key) = passkey();
        let digest = Digest::of(b"pay");
        let mut other = assertion(&digest, 1);
        let read = p256::ecdsa::Signature::from_slice(&other.signature.0).expect("read");
        let (r, s) = read.split_scalars();
        let high = p256::ecdsa::Signature::from_scalars(r, -s).expect("the other form");
        other.signature = Signature(high.to_bytes().into());
        assert!(key.verify(&digest, &other).is_err());
    }

    #[test]
    fn text_as_urls_have_it() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"\xff\xef\xfe", "_-_-"),
        ] {
            assert_eq!(base64url(bytes), text);
        }
    }
}
