//! The sealed form: a data key to the network key, the value under the data key.
//!
//! Bytes: version 1; the data key's encryption, 160 bytes; AES-256-GCM of the value's length
//! (4 bytes, big-endian), the value, and zeros up to a multiple of 256.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use commonware_codec::{Copying, Decode, DecodeExt, Encode, FixedSize};
use commonware_cryptography::bls12381::primitives::variant::{MinSig, Variant};
use commonware_cryptography::bls12381::tle;
use rand_chacha_10::ChaCha20Rng;
use rand_chacha_10::rand_core::SeedableRng;
use types::{AccountId, Digest, SecretKey};
use zeroize::Zeroizing;

use crate::{Label, NAMESPACE, SecretError, VALUE_BYTES_MAX};

const VERSION: u8 = 1;
/// A length says too much of a password.
const PADDING: usize = 256;

type Signature = <MinSig as Variant>::Signature;

/// A secret that may be shown to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub mark: Digest,
    pub bytes: Vec<u8>,
}

/// Seals `value` so that only a quorum of the network with `network_key` can have it opened,
/// for hosts of `owner`'s replicas.
///
/// The same arguments give the same bytes: data key and chance are drawn from the value by the
/// owner's key, as a synthetic initialisation vector is.
///
/// Errors: the value is too large, the network key cannot be read.
pub fn seal(
    network_key: &[u8],
    owner: &SecretKey,
    project: &str,
    name: &str,
    value: &[u8],
) -> Result<Sealed, SecretError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(SecretError::TooLarge(value.len()));
    }
    let public = <MinSig as Variant>::Public::decode(Copying(network_key))
        .map_err(|_| SecretError::NetworkKey)?;
    let drawn = Drawn::from(owner, project, name, value);
    let mark = Digest(*drawn.of("mark"));
    let label = Label {
        owner: AccountId::of(&owner.public()),
        mark,
    };
    let key = drawn.of("data key");
    // Chance of the one value that the scheme needs; bound to the network as well.
    let seed = hmac_of(&*drawn.of("chance"), &[network_key]);
    let encrypted = tle::encrypt::<_, MinSig>(
        &mut ChaCha20Rng::from_seed(*seed),
        public,
        (NAMESPACE, &label.bytes()),
        &tle::Block::new(*key),
    )
    .map_err(|_| SecretError::NetworkKey)?;
    let mut text = Zeroizing::new(Vec::with_capacity(padded(value.len()) + 16));
    text.extend_from_slice(&(value.len() as u32).to_be_bytes());
    text.extend_from_slice(value);
    text.resize(padded(value.len()), 0);
    data_key(&key)?
        .seal_in_place_append_tag(nonce(), Aad::from(label.bytes()), &mut *text)
        .map_err(|_| SecretError::Refused)?;
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&encrypted.encode());
    bytes.extend_from_slice(&text);
    Ok(Sealed { mark, bytes })
}

/// `signature` is the network's of `label`.
pub(crate) fn open(
    signature: &Signature,
    label: &Label,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (encrypted, rest) = parse(sealed)?;
    let key = tle::decrypt::<MinSig>(signature, &encrypted).ok_or(SecretError::Closed)?;
    let key: Zeroizing<[u8; 32]> = Zeroizing::new(key.as_ref().try_into().unwrap_or([0; 32]));
    let mut text = Zeroizing::new(rest.to_vec());
    let opened = data_key(&key)?
        .open_in_place(nonce(), Aad::from(label.bytes()), &mut text)
        .map_err(|_| SecretError::Closed)?;
    let (length, value) = opened.split_at_checked(4).ok_or(SecretError::Unreadable)?;
    let length = u32::from_be_bytes(length.try_into().unwrap_or_default()) as usize;
    let value = value.get(..length).ok_or(SecretError::Unreadable)?;
    Ok(Zeroizing::new(value.to_vec()))
}

fn parse(sealed: &[u8]) -> Result<(tle::Ciphertext<MinSig>, &[u8]), SecretError> {
    let unreadable = || SecretError::Unreadable;
    let (version, rest) = sealed.split_first().ok_or_else(unreadable)?;
    let size = <MinSig as Variant>::Public::SIZE + 2 * tle::Block::SIZE;
    let (encrypted, rest) = rest.split_at_checked(size).ok_or_else(unreadable)?;
    if *version != VERSION || rest.len() > padded(VALUE_BYTES_MAX) + AES_256_GCM.tag_len() {
        return Err(unreadable());
    }
    let encrypted =
        tle::Ciphertext::decode_cfg(Copying(encrypted), &()).map_err(|_| unreadable())?;
    Ok((encrypted, rest))
}

fn padded(value: usize) -> usize {
    (value + 4).next_multiple_of(PADDING)
}

/// A data key encrypts one text, ever: another text has another key.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn data_key(key: &[u8; 32]) -> Result<LessSafeKey, SecretError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SecretError::Refused)?;
    Ok(LessSafeKey::new(key))
}

/// What only the owner can draw from a value.
struct Drawn(Zeroizing<[u8; 32]>);

impl Drawn {
    fn from(owner: &SecretKey, project: &str, name: &str, value: &[u8]) -> Self {
        let seed = Zeroizing::new(owner.to_hex());
        let key = hmac_of(seed.as_bytes(), &[b"runrig secrets"]);
        let length = |bytes: &[u8]| (bytes.len() as u64).to_be_bytes();
        Self(hmac_of(
            &*key,
            &[
                &length(project.as_bytes()),
                project.as_bytes(),
                &length(name.as_bytes()),
                name.as_bytes(),
                value,
            ],
        ))
    }

    fn of(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        hmac_of(&*self.0, &[purpose.as_bytes()])
    }
}

fn hmac_of(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(context.sign().as_ref());
    out
}
