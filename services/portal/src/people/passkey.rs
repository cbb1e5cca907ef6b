//! People whose account key is a passkey: which credential is whose, and the keys that their
//! browsers' sessions sign with.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};
use types::{AccountId, AccountKey, Digest, PasskeyKey, SecretKey};

use super::{NewPerson, PERSON, People, Person, Token, insert, person};

/// Longer ones are none of ours.
const CREDENTIAL_CHARS_MAX: usize = 400;

/// What a browser holds for an account, as far as it is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passkey {
    /// Its name among the browser's keys, as base 64 for URLs.
    pub credential: String,
    pub key: PasskeyKey,
}

impl Passkey {
    /// `None`: not what a browser says.
    pub fn new(credential: &str, key: PasskeyKey) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let fits = !credential.is_empty() && credential.len() <= CREDENTIAL_CHARS_MAX;
        (fits && credential.bytes().all(plain)).then(|| Self {
            credential: credential.to_string(),
            key,
        })
    }

    pub fn account(&self) -> AccountId {
        AccountKey::Passkey(self.key).account()
    }
}

/// The one that this portal made when it was new.
pub(super) fn secret(connection: &Connection) -> Result<[u8; 32]> {
    let fresh: [u8; 32] = rand::random();
    connection.execute(
        "INSERT OR IGNORE INTO secrets VALUES ('browsers', ?1)",
        [fresh.as_slice()],
    )?;
    let sql = "SELECT value FROM secrets WHERE name = 'browsers'";
    let kept: Vec<u8> = connection.query_row(sql, [], |r| r.get(0))?;
    kept.try_into()
        .map_err(|_| anyhow::anyhow!("people.sqlite: its own secret cannot be read"))
}

impl People {
    /// The key that sessions of an account sign with in one browser: the same at each login, so
    /// that it is let act once. It takes both the browser's token and this portal's secret.
    pub fn browser_key(&self, browser: &Token, account: AccountId) -> SecretKey {
        let seed = (self.secret, browser.0, account);
        SecretKey::from_seed(Digest::of_value("runrig-portal-browser-key", &seed).0)
    }

    /// Whether a challenge is used for the first time; remembered until `until_ms`.
    pub fn once(&self, challenge: Digest, until_ms: u64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(|e| e.into_inner());
        let now = api::now_ms();
        used.retain(|_, until| *until > now);
        used.insert(challenge, until_ms).is_none()
    }

    /// A new person whose account key is a passkey. `None`: handle, email or passkey is taken.
    pub async fn sign_up_with(&self, new: NewPerson, passkey: Passkey) -> Result<Option<Person>> {
        self.with(move |c| {
            let act = c.transaction()?;
            let Some(person) = insert(&act, &new, passkey.account(), &[])? else {
                return Ok(None);
            };
            let added = act.execute(
                "INSERT OR IGNORE INTO passkeys VALUES (?1, ?2, ?3, ?4)",
                params![
                    passkey.credential,
                    person.id,
                    passkey.key.to_string(),
                    api::now_ms()
                ],
            )?;
            if added == 0 {
                return Ok(None);
            }
            act.commit()?;
            Ok(Some(person))
        })
        .await
    }

    /// Whose credential this is.
    pub async fn of_passkey(&self, credential: &str) -> Result<Option<(Person, Passkey)>> {
        let credential = credential.to_string();
        self.with(move |c| {
            let found: Option<(i64, String)> = c
                .query_row(
                    "SELECT person, public FROM passkeys WHERE credential = ?1",
                    [&credential],
                    |r| Ok((r.get(0)?, r.get(1)?)),
                )
                .optional()?;
            let Some((id, public)) = found else {
                return Ok(None);
            };
            let Ok(key) = public.parse() else {
                return Ok(None);
            };
            let person = c.query_row(&format!("{PERSON} WHERE p.id = ?1"), [id], person)?;
            Ok(Some((person, Passkey { credential, key })))
        })
        .await
    }

    pub async fn passkeys(&self, person: i64) -> Result<Vec<Passkey>> {
        let rows: Vec<(String, String)> = self
            .with(move |c| {
                c.prepare("SELECT credential, public FROM passkeys WHERE person = ?1")?
                    .query_map([person], |r| Ok((r.get(0)?, r.get(1)?)))?
                    .collect()
            })
            .await?;
        let read = |(credential, public): (String, String)| {
            let key = public.parse().ok()?;
            Some(Passkey { credential, key })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}
