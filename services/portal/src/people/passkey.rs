//! People whose account key is a passkey: which credentials are whose, and the keys that their
//! browsers' sessions sign with.
//!
//! The first one is the account's own key; each further one acts by a grant without limit and end.
//! Whether one may still is the ledger's to say; here stands only what it is called and when it was used.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};
use types::{AccountId, AccountKey, Digest, PasskeyKey, SecretKey};

use super::{Login, NewPerson, PERSON, People, Person, Token, insert, person};

/// Of one person: each is a button where something is signed.
pub const PASSKEYS_MAX: usize = 8;
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

/// One of a person's passkeys, for his list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPasskey {
    pub passkey: Passkey,
    name: String,
    pub created_ms: u64,
    /// Last login or approval; 0: none yet.
    pub used_ms: u64,
}

impl KeptPasskey {
    pub fn name(&self) -> &str {
        match self.name.as_str() {
            "" => "First passkey",
            name => name,
        }
    }
}

/// Names and times stand beside passkeys since there may be several of one person.
pub(super) fn grow(connection: &Connection) -> Result<()> {
    let known = "SELECT count(*) FROM pragma_table_info('passkeys') WHERE name = 'used_ms'";
    if connection.query_row(known, [], |r| r.get::<_, u32>(0))? == 0 {
        connection.execute_batch(
            "BEGIN;
             ALTER TABLE passkeys ADD COLUMN name TEXT NOT NULL DEFAULT '';
             ALTER TABLE passkeys ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;
             COMMIT;",
        )?;
    }
    Ok(())
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

    /// A new person whose account key is a passkey. `None`: handle or passkey is taken.
    pub async fn sign_up_with(&self, new: NewPerson, passkey: Passkey) -> Result<Option<Person>> {
        self.with(move |c| {
            let act = c.transaction()?;
            let Some(person) = insert(&act, &new, passkey.account(), &[])? else {
                return Ok(None);
            };
            let added = act.execute(
                "INSERT OR IGNORE INTO passkeys (credential, person, public, created_ms, used_ms)
                 VALUES (?1, ?2, ?3, ?4, ?4)",
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

    /// A person's passkeys, the one that he used last first.
    pub async fn passkeys(&self, person: i64) -> Result<Vec<KeptPasskey>> {
        self.with(move |c| {
            let mut kept = Vec::new();
            let mut asked = c.prepare_cached(
                "SELECT credential, public, name, created_ms, used_ms FROM passkeys
                 WHERE person = ?1 ORDER BY used_ms DESC, created_ms",
            )?;
            let mut rows = asked.query([person])?;
            while let Some(row) = rows.next()? {
                let public: String = row.get(1)?;
                let Ok(key) = public.parse() else { continue };
                kept.push(KeptPasskey {
                    passkey: Passkey {
                        credential: row.get(0)?,
                        key,
                    },
                    name: row.get(2)?,
                    created_ms: row.get(3)?,
                    used_ms: row.get(4)?,
                });
            }
            Ok(kept)
        })
        .await
    }

    /// Whether nobody has this credential or this key yet.
    pub async fn is_new(&self, passkey: &Passkey) -> Result<bool> {
        let (credential, public) = (passkey.credential.clone(), passkey.key.to_string());
        self.with(move |c| {
            let sql = "SELECT count(*) = 0 FROM passkeys WHERE credential = ?1 OR public = ?2";
            c.query_row(sql, [credential, public], |r| r.get(0))
        })
        .await
    }

    /// One more of a person's. `false`: somebody has it, or he has [`PASSKEYS_MAX`].
    pub async fn add_passkey(&self, person: i64, passkey: Passkey, name: &str) -> Result<bool> {
        if !self.is_new(&passkey).await? {
            return Ok(false);
        }
        let name = name.to_string();
        self.with(move |c| {
            let added = c.execute(
                "INSERT OR IGNORE INTO passkeys (credential, person, public, created_ms, name)
                 SELECT ?1, ?2, ?3, ?4, ?5
                 WHERE (SELECT count(*) FROM passkeys WHERE person = ?2) < ?6",
                params![
                    passkey.credential,
                    person,
                    passkey.key.to_string(),
                    api::now_ms(),
                    name,
                    PASSKEYS_MAX
                ],
            )?;
            Ok(added == 1)
        })
        .await
    }

    /// It was just used.
    pub async fn note_use(&self, passkey: &Passkey) -> Result<()> {
        let credential = passkey.credential.clone();
        self.with(move |c| {
            let sql = "UPDATE passkeys SET used_ms = ?2 WHERE credential = ?1";
            c.execute(sql, params![credential, api::now_ms()])
        })
        .await?;
        Ok(())
    }

    /// A passkey that is lost opens nothing here any more; nor does any other session, as one of
    /// them may be where it was lost.
    pub async fn drop_passkey(&self, login: &Login, passkey: &Passkey) -> Result<()> {
        let (person, session) = (login.person.id, login.session.clone());
        let credential = passkey.credential.clone();
        self.with(move |c| {
            let act = c.transaction()?;
            act.execute(
                "DELETE FROM passkeys WHERE person = ?1 AND credential = ?2",
                params![person, credential],
            )?;
            act.execute(
                "DELETE FROM sessions WHERE person = ?1 AND id != ?2",
                params![person, session],
            )?;
            act.execute("DELETE FROM browsers WHERE person = ?1", [person])?;
            act.commit()
        })
        .await
    }
}
