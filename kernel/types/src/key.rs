//! Ed25519 keys and signatures, by the ZIP-215 rules: a signature that passes alone also
//! passes in a batch, which consensus needs.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra as ed;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PublicKey(pub [u8; 32]);

#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

/// A private key. Not printable, not serialisable: [`SecretKey::to_hex`] is the one way out.
#[derive(Clone)]
pub struct SecretKey(ed::SigningKey);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("a key is 64 hex digits")]
    Malformed,
    #[error("the signature does not fit the key and the message")]
    Wrong,
}

impl fmt::Debug for SecretKey {
    /// Never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret key of {:?}", self.public())
    }
}

impl SecretKey {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed::SigningKey::from(seed))
    }

    /// Chance comes in as an argument, as everywhere in the kernel.
    pub fn random(rng: &mut impl rand::CryptoRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self::from_seed(seed)
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(ed::VerificationKey::from(&self.0).into())
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// For the owner's key file (mode 0600) and nothing else.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0.to_bytes())
    }

    pub fn from_hex(text: &str) -> Result<Self, SignatureError> {
        let bytes = hex::decode(text.trim()).map_err(|_| SignatureError::Malformed)?;
        bytes
            .try_into()
            .map(Self::from_seed)
            .map_err(|_| SignatureError::Malformed)
    }
}

impl PublicKey {
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let key = ed::VerificationKey::try_from(self.0).map_err(|_| SignatureError::Malformed)?;
        key.verify(&ed::Signature::from(signature.0), message)
            .map_err(|_| SignatureError::Wrong)
    }
}

/// Whether every signature holds. Half the price of one by one from about 64 on;
/// `false` does not say which one failed.
pub fn verify_batch<'a>(
    items: impl IntoIterator<Item = (&'a PublicKey, &'a [u8], &'a Signature)>,
    rng: &mut impl rand::CryptoRng,
) -> bool {
    let mut batch = ed::batch::Verifier::new();
    for (key, message, signature) in items {
        let key = ed::VerificationKeyBytes::from(key.0);
        batch.queue((key, ed::Signature::from(signature.0), &message));
    }
    batch.verify(Rng(rng)).is_ok()
}

/// `ed25519-zebra` asks for the traits of a newer `rand_core`.
struct Rng<'a, R>(&'a mut R);

impl<R: rand::RngCore> rand_core_10::TryRng for Rng<'_, R> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: rand::CryptoRng> rand_core_10::TryCryptoRng for Rng<'_, R> {}

macro_rules! as_hex {
    ($name:ident, $len:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}…", hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = SignatureError;

            fn from_str(text: &str) -> Result<Self, SignatureError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| SignatureError::Malformed)?;
                Ok(Self(bytes))
            }
        }

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

pub(crate) use as_hex;

as_hex!(PublicKey, 32);
as_hex!(Signature, 64);

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_signature_holds_only_for_its_message_and_key() {
        let (a, b) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let signature = a.sign(b"pay");
        assert!(a.public().verify(b"pay", &signature).is_ok());
        assert_eq!(
            a.public().verify(b"pay!", &signature),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            b.public().verify(b"pay", &signature),
            Err(SignatureError::Wrong)
        );
        let (ka, kb, sb) = (a.public(), b.public(), b.sign(b"x"));
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let good: [(&PublicKey, &[u8], &Signature); 2] =
            [(&ka, b"pay", &signature), (&kb, b"x", &sb)];
        assert!(verify_batch(good, &mut rng));
        let bad: [(&PublicKey, &[u8], &Signature); 2] =
            [(&ka, b"pay", &signature), (&kb, b"y", &sb)];
        assert!(!verify_batch(bad, &mut rng));
    }
}
