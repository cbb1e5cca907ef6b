//! What is sealed to readers by name: to the keys with which they sign.
//!
//! Bytes: version 1; how many readers, one byte; of each its account (20 bytes), what HPKE sends
//! along (32) and the data key, sealed (48); AES-256-GCM of the text under the data key. A key
//! for signatures is one for X25519 too, on the other form of the same curve (RFC 7748, 4.1).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::rand::fill;
use curve25519_dalek::edwards::CompressedEdwardsY;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use types::{AccountId, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::SecretError;

const VERSION: u8 = 1;
const ACCOUNT: usize = 20;
const SENT: usize = 32;
const KEY: usize = 32;
const READER: usize = ACCOUNT + SENT + KEY + 16;
/// Who may be named at once.
pub const ADDRESSED_MAX: usize = 32;
const INFO: &[u8] = b"runrig addressed";

/// Seals `text` so that each of `readers` can open it, and nobody else. `context` is not in it,
/// and must be given again to open it.
///
/// Errors: `Refused` if there are no readers or too many, or a key is none.
pub fn seal_to(readers: &[PublicKey], context: &[u8], text: &[u8]) -> Result<Vec<u8>, SecretError> {
    if readers.is_empty() || readers.len() > ADDRESSED_MAX {
        return Err(SecretError::Refused);
    }
    let mut key = Zeroizing::new([0; KEY]);
    fill(&mut *key).map_err(|_| SecretError::Refused)?;
    let mut out = vec![VERSION, readers.len() as u8];
    for reader in readers {
        let to = HpkePublicKey(on_the_other_form(reader)?);
        let (sent, sealed) = SUITE
            .seal(INFO, context, &*key, &to)
            .map_err(|_| SecretError::Refused)?;
        out.extend_from_slice(&AccountId::of(reader).0);
        out.extend_from_slice(&sent.0);
        out.extend_from_slice(&sealed);
    }
    let mut text = text.to_vec();
    data_key(&key)?
        .seal_in_place_append_tag(nonce(), Aad::from(context), &mut text)
        .map_err(|_| SecretError::Refused)?;
    out.extend_from_slice(&text);
    Ok(out)
}

/// Who can open it. `None` if it is nothing that was sealed so.
pub fn readers_of(sealed: &[u8]) -> Option<Vec<AccountId>> {
    let (readers, _) = parts(sealed)?;
    Some(readers.into_iter().map(|(account, _)| account).collect())
}

/// What was sealed with this `context` to `reader`, among others.
///
/// Errors: `Unreadable`; `Closed` if it was sealed to others, or is not what was sealed.
pub fn open_as(reader: &SecretKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
    let (readers, text) = parts(sealed).ok_or(SecretError::Unreadable)?;
    let account = AccountId::of(&reader.public());
    let ours = readers.into_iter().find(|(of, _)| *of == account);
    let (sent, sealed) = ours.ok_or(SecretError::Closed)?.1.split_at(SENT);
    let sent = EncapsulatedSecret(sent.to_vec());
    let private = HpkePrivateKey::from(private(reader).to_vec());
    let key = SUITE.open(&sent, INFO, context, sealed, &private);
    let key = Zeroizing::new(key.map_err(|_| SecretError::Closed)?);
    let key: Zeroizing<[u8; KEY]> =
        Zeroizing::new(key[..].try_into().map_err(|_| SecretError::Unreadable)?);
    let mut text = text.to_vec();
    let length = data_key(&key)?
        .open_in_place(nonce(), Aad::from(context), &mut text)
        .map_err(|_| SecretError::Closed)?
        .len();
    text.truncate(length);
    Ok(text)
}

type Parts<'a> = (Vec<(AccountId, &'a [u8])>, &'a [u8]);

fn parts(sealed: &[u8]) -> Option<Parts<'_>> {
    let (head, mut rest) = sealed.split_at_checked(2)?;
    let count = usize::from(head[1]);
    if head[0] != VERSION || count == 0 || count > ADDRESSED_MAX {
        return None;
    }
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        let (reader, behind) = rest.split_at_checked(READER)?;
        let (account, key) = reader.split_at(ACCOUNT);
        readers.push((AccountId(account.try_into().ok()?), key));
        rest = behind;
    }
    Some((readers, rest))
}

fn on_the_other_form(key: &PublicKey) -> Result<Vec<u8>, SecretError> {
    let point = CompressedEdwardsY(key.0).decompress();
    let point = point.filter(|point| !point.is_small_order());
    let point = point.ok_or(SecretError::Refused)?;
    Ok(point.to_montgomery().to_bytes().to_vec())
}

/// The number by which a signing key multiplies (RFC 8032, 5.1.5); X25519 clamps it itself.
fn private(key: &SecretKey) -> Zeroizing<[u8; KEY]> {
    let text = Zeroizing::new(key.to_hex());
    let mut seed = Zeroizing::new([0; KEY]);
    let digits = text.as_bytes().chunks_exact(2);
    for (byte, pair) in seed.iter_mut().zip(digits) {
        let digit = |c: u8| (c as char).to_digit(16).unwrap_or_default() as u8;
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    let hashed = digest(&SHA512, &*seed);
    let mut private = Zeroizing::new([0; KEY]);
    private.copy_from_slice(&hashed.as_ref()[..KEY]);
    private
}

/// A data key encrypts one text, ever.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn data_key(key: &[u8; KEY]) -> Result<LessSafeKey, SecretError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SecretError::Refused)?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    #[test]
    fn who_is_named_opens_it_and_nobody_else() {
        let readers = [key(1).public(), key(2).public()];
        let sealed = seal_to(&readers, b"a-1", b"a word of the workload").expect("sealed");
        assert!(!sealed.windows(4).any(|w| w == b"word"));
        for reader in [1, 2] {
            let opened = open_as(&key(reader), b"a-1", &sealed);
            assert_eq!(opened.expect("open"), b"a word of the workload");
        }
        assert_eq!(
            readers_of(&sealed).expect("readers"),
            readers.map(|r| AccountId::of(&r))
        );
        let closed = |opened: Result<Vec<u8>, SecretError>| opened == Err(SecretError::Closed);
        assert!(closed(open_as(&key(3), b"a-1", &sealed)), "a stranger");
        assert!(closed(open_as(&key(1), b"a-2", &sealed)), "of another");
        for at in [2 + ACCOUNT, 2 + ACCOUNT + SENT, sealed.len() - 1] {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open_as(&key(1), b"a-1", &bad).is_err(), "byte {at}");
        }
        assert_ne!(
            seal_to(&readers, b"a-1", b"x"),
            seal_to(&readers, b"a-1", b"x")
        );
    }

    #[test]
    fn what_is_no_key_and_what_was_not_sealed_is_refused() {
        assert_eq!(seal_to(&[], b"", b""), Err(SecretError::Refused));
        // Of order one: everybody knows what it comes to.
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(
            seal_to(&[PublicKey(one)], b"", b""),
            Err(SecretError::Refused)
        );
        let many: Vec<PublicKey> = (0..33).map(|n| key(n).public()).collect();
        assert_eq!(seal_to(&many, b"", b""), Err(SecretError::Refused));
        let sealed = seal_to(&[key(1).public()], b"", b"").expect("sealed");
        assert!(open_as(&key(1), b"", &sealed).is_ok());
        for end in 0..sealed.len() {
            assert!(open_as(&key(1), b"", &sealed[..end]).is_err(), "{end}");
        }
    }
}
