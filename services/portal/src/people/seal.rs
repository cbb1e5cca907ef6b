//! Seal keys: by a password, or by a session's token.
//!
//! Argon2id makes the key of the seal (32 MiB, three passes, so that guesses are dear);
//! XChaCha20-Poly1305 seals. A box is `salt ‖ nonce ‖ ciphertext`.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use tokio::sync::Semaphore;
use types::{Digest, SecretKey};

use super::Factor;

/// What a box begins with.
pub(super) type Salt = [u8; 16];
const NONCE: usize = 24;
/// Passwords that are stretched at once: each takes memory and a core.
const AT_ONCE: usize = 2;

/// 32 random bytes that a browser keeps in a cookie.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub [u8; 32]);

impl Token {
    pub fn random() -> Self {
        Self(rand::random())
    }

    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self)
    }

    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// What a password opens.
#[derive(Clone)]
pub struct Keys {
    /// Acts for the account within a limit and a time, by a grant on the ledger: what sessions
    /// hold.
    pub web: SecretKey,
    /// The account's own; `None` once it is in its owner's recovery file only.
    pub own: Option<SecretKey>,
}

impl Keys {
    pub fn random() -> Self {
        Self {
            web: SecretKey::from_seed(rand::random()),
            own: Some(SecretKey::from_seed(rand::random())),
        }
    }

    fn write(&self) -> String {
        let own = self.own.as_ref().map_or(String::new(), SecretKey::to_hex);
        format!("{}:{own}", self.web.to_hex())
    }

    /// One key alone is of a time when sessions held the account's own.
    fn read(text: &str) -> Option<Self> {
        let key = |text: &str| SecretKey::from_hex(text).ok();
        match text.split_once(':') {
            Some((web, "")) => Some(Self {
                web: key(web)?,
                own: None,
            }),
            Some((web, own)) => Some(Self {
                web: key(web)?,
                own: Some(key(own)?),
            }),
            None => Some(Self {
                web: SecretKey::from_seed(Digest::of_value("runrig-portal-web", &text).0),
                own: Some(key(text)?),
            }),
        }
    }
}

#[derive(Clone)]
pub struct Sealer(Arc<Semaphore>);

impl Default for Sealer {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

fn stretch(password: &str, salt: &[u8]) -> Result<[u8; 32]> {
    let params = Params::new(32 * 1024, 3, 1, Some(32)).map_err(|e| anyhow!("{e}"))?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut out = [0; 32];
    argon
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .map_err(|e| anyhow!("{e}"))?;
    Ok(out)
}

fn encrypt(key: [u8; 32], plain: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE] = rand::random();
    let sealed = XChaCha20Poly1305::new(&key.into())
        .encrypt(&XNonce::from(nonce), plain)
        .map_err(|_| anyhow!("seal a key"))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn decrypt(key: [u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
    let nonce: [u8; NONCE] = nonce.try_into().ok()?;
    XChaCha20Poly1305::new(&key.into())
        .decrypt(&XNonce::from(nonce), sealed)
        .ok()
}

fn decrypt_key(key: [u8; 32], sealed: &[u8]) -> Option<SecretKey> {
    let plain = decrypt(key, sealed)?;
    SecretKey::from_hex(std::str::from_utf8(&plain).ok()?).ok()
}

impl Sealer {
    /// With a salt of its own, or with that of another box, which then opens at the same cost.
    pub async fn seal(&self, keys: &Keys, password: &str, salt: Option<Salt>) -> Result<Vec<u8>> {
        let _turn = self.0.acquire().await?;
        let (plain, password) = (keys.write(), password.to_string());
        tokio::task::spawn_blocking(move || {
            let salt = salt.unwrap_or_else(rand::random);
            let sealed = encrypt(stretch(&password, &salt)?, plain.as_bytes())?;
            Ok([salt.as_slice(), &sealed].concat())
        })
        .await?
    }

    /// The first of these boxes that the password opens, and what is in it. They share their salt.
    /// `None`: it opens none of them, or there is nothing to open; all of it takes as long.
    pub async fn open(&self, boxes: Vec<Vec<u8>>, password: &str) -> Result<Option<(usize, Keys)>> {
        let _turn = self.0.acquire().await?;
        let password = password.to_string();
        tokio::task::spawn_blocking(move || {
            let salts = boxes.iter().filter_map(|sealed| sealed.first_chunk());
            let salt: Salt = salts.copied().next().unwrap_or_default();
            let key = stretch(&password, &salt)?;
            let opened = |sealed: &Vec<u8>| {
                let plain = decrypt(key, sealed.strip_prefix(&salt)?)?;
                Keys::read(&String::from_utf8(plain).ok()?)
            };
            let mut opened = boxes.iter().map(opened).enumerate();
            Ok(opened.find_map(|(at, keys)| Some((at, keys?))))
        })
        .await?
    }
}

fn token_key(token: &Token) -> [u8; 32] {
    Digest::of_value("runrig-portal-seal", &token.0).0
}

pub fn with_token(key: &SecretKey, token: &Token) -> Result<Vec<u8>> {
    encrypt(token_key(token), key.to_hex().as_bytes())
}

pub fn open_with_token(sealed: &[u8], token: &Token) -> Option<SecretKey> {
    decrypt_key(token_key(token), sealed)
}

fn factor_key(key: &SecretKey) -> [u8; 32] {
    Digest::of_value("runrig-portal-factor", &key.to_hex()).0
}

/// By the key of the sessions, which the password opens first.
pub fn factor(factor: &Factor, key: &SecretKey) -> Result<Vec<u8>> {
    encrypt(factor_key(key), &factor.0)
}

pub fn open_factor(sealed: &[u8], key: &SecretKey) -> Option<Factor> {
    let plain = decrypt(factor_key(key), sealed)?;
    plain.try_into().ok().map(Factor)
}
