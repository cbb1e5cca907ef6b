//! Who signed up: handles, sealed keys, sessions. The portal's own records, not the ledger's.
//!
//! Keys are on disk only sealed: by the person's password, and, while he is logged in, by a token
//! that only his browser has. Whoever reads this file can spend nothing. Of a passkey there is
//! nothing secret here.

mod device;
mod email;
mod factor;
mod invitation;
mod passkey;
mod password;
mod seal;
mod space;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};
use types::{AccountId, Digest, SecretKey};

pub use device::Device;
pub use factor::Factor;
pub use invitation::{Invitation, Terms};
pub use passkey::{KeptPasskey, PASSKEYS_MAX, Passkey};
pub use password::strength;
pub use seal::{Keys, Sealer, Token};
pub use space::{APPS_MAX, Audience, Books, Look, NAMED_MAX, Organisation, Space, SpaceApp};

/// A session ends so long after it began.
const SESSION_MS: u64 = 14 * 86_400_000;
/// Sessions of one person; the oldest ends first.
const SESSIONS_MAX: usize = 20;
/// Looks at a session are written down this often.
const SEEN_EVERY_MS: u64 = 60_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, person INTEGER NOT NULL REFERENCES people (id), sealed BLOB NOT NULL,
    browser TEXT NOT NULL, address TEXT NOT NULL, created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS people_account ON people (account);
CREATE INDEX IF NOT EXISTS sessions_person ON sessions (person, created_ms);
CREATE TABLE IF NOT EXISTS browsers (
    id TEXT PRIMARY KEY, person INTEGER NOT NULL REFERENCES people (id));
CREATE TABLE IF NOT EXISTS factors (
    person INTEGER PRIMARY KEY REFERENCES people (id), sealed BLOB NOT NULL,
    last_step INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    account TEXT NOT NULL, person INTEGER NOT NULL REFERENCES people (id),
    PRIMARY KEY (account, person));
CREATE TABLE IF NOT EXISTS invitations (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, title TEXT NOT NULL, handle TEXT,
    role TEXT NOT NULL, spend TEXT NOT NULL, days TEXT NOT NULL, created_ms INTEGER NOT NULL,
    accepted INTEGER REFERENCES people (id));
CREATE INDEX IF NOT EXISTS invitations_account ON invitations (account, created_ms);
CREATE TABLE IF NOT EXISTS acting (
    session TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE, account TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS passkeys (
    credential TEXT PRIMARY KEY, person INTEGER NOT NULL REFERENCES people (id),
    public TEXT NOT NULL, created_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS devices (
    code TEXT PRIMARY KEY, secret TEXT NOT NULL UNIQUE, key TEXT NOT NULL, machine TEXT NOT NULL,
    address TEXT NOT NULL, asked_ms INTEGER NOT NULL, answer TEXT);
CREATE TABLE IF NOT EXISTS spaces (
    account TEXT PRIMARY KEY, name TEXT NOT NULL, colour TEXT NOT NULL, home TEXT NOT NULL,
    books TEXT NOT NULL, named TEXT NOT NULL, apps TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Personal,
    Company,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::Company => "company",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Person {
    pub id: i64,
    pub kind: Kind,
    pub handle: String,
    pub email: String,
    pub company_name: Option<String>,
    pub company_address: Option<String>,
    pub account: AccountId,
    pub created_ms: u64,
    sealed: Vec<u8>,
}

impl Person {
    /// His account keys are passkeys, which no portal ever has.
    pub fn has_passkey(&self) -> bool {
        self.sealed.is_empty()
    }

    /// What the person is called on a page: the company, or the handle.
    pub fn title(&self) -> &str {
        self.company_name.as_deref().unwrap_or(&self.handle)
    }
}

/// Of a form that was found good.
#[derive(Clone, Debug)]
pub struct NewPerson {
    pub kind: Kind,
    pub handle: String,
    pub email: String,
    pub company_name: Option<String>,
    pub company_address: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Session {
    /// Digest of its token: names it on pages, opens nothing.
    pub id: String,
    pub browser: String,
    pub address: String,
    pub created_ms: u64,
    pub seen_ms: u64,
}

/// Someone who is logged in, and the key that his session signs with.
pub struct Login {
    pub person: Person,
    /// Not the account's own: it acts for the account by a grant, as far as that reaches.
    pub key: SecretKey,
    pub session: String,
    /// Companies and people that let him act for them, as far as this portal knows.
    pub workspaces: Vec<Workspace>,
    /// The one that he acts for now.
    pub acting: Option<Workspace>,
    /// Whose pages these are, if it is a company of this portal.
    pub organisation: Option<Organisation>,
    /// What he approved with his own key in this request.
    pub approval: std::sync::OnceLock<crate::approve::Approval>,
    /// In which role he acts for another account, once it was asked in this request; see
    /// [`crate::web::Right`].
    pub role: std::sync::OnceLock<Option<ledger::account::Role>>,
}

/// An account that somebody else may act for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    pub account: AccountId,
    pub title: String,
}

impl Login {
    /// Whose pages these are: his own, or those of whom he acts for.
    pub fn account(&self) -> AccountId {
        let acting = self.acting.as_ref();
        acting.map_or(self.person.account, |workspace| workspace.account)
    }

    /// Its name, for people.
    pub fn title(&self) -> &str {
        let acting = self.acting.as_ref();
        acting.map_or(self.person.title(), |workspace| &workspace.title)
    }

    /// A secret of its own for each purpose and seed: a form that is sent again means the same one.
    pub fn secret_for(&self, purpose: &str, seed: &Token) -> SecretKey {
        SecretKey::from_seed(Digest::of_value(purpose, &(self.key.to_hex(), seed.0)).0)
    }

    /// What the pages wear, whose they are.
    pub fn look(&self) -> Option<&Look> {
        self.organisation.as_ref()?.look.as_ref()
    }

    /// A client whose signed requests say for whom the session's key acts.
    pub fn client(&self, app: &crate::app::App) -> sdk::Client {
        app.client.through(self.person.account)
    }
}

#[derive(Clone)]
pub struct People {
    connection: Arc<Mutex<Connection>>,
    sealer: Sealer,
    /// Of this portal: see [`People::browser_key`].
    secret: [u8; 32],
    /// Challenges that somebody logged in with, until they are old.
    used: Arc<Mutex<BTreeMap<Digest, u64>>>,
}

fn person(row: &Row) -> rusqlite::Result<Person> {
    let kind: String = row.get(1)?;
    let account: String = row.get(6)?;
    Ok(Person {
        id: row.get(0)?,
        kind: match kind.as_str() {
            "company" => Kind::Company,
            _ => Kind::Personal,
        },
        handle: row.get(2)?,
        email: row.get(3)?,
        company_name: row.get(4)?,
        company_address: row.get(5)?,
        account: account.parse().unwrap_or_default(),
        sealed: row.get(7)?,
        created_ms: row.get(8)?,
    })
}

const PERSON: &str = "SELECT p.id, p.kind, p.handle, p.email, p.company_name, p.company_address,
    p.account, p.sealed, p.created_ms FROM people p";

fn session_id(token: &Token) -> String {
    Digest::of_value("runrig-portal-session", &token.0).hex()
}

fn browser_id(token: &Token) -> String {
    Digest::of_value("runrig-portal-browser", &token.0).hex()
}

impl People {
    pub fn open(path: &Path) -> Result<Self> {
        let connection =
            Connection::open(path).with_context(|| format!("open {}", path.display()))?;
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        email::prepare(&connection)?;
        connection.execute_batch(SCHEMA)?;
        passkey::grow(&connection)?;
        let secret = passkey::secret(&connection)?;
        Ok(Self {
            secret,
            used: Arc::default(),
            connection: Arc::new(Mutex::new(connection)),
            sealer: Sealer::default(),
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = self.connection.clone();
        let done = tokio::task::spawn_blocking(move || {
            act(&mut connection.lock().unwrap_or_else(|e| e.into_inner()))
        });
        Ok(done.await??)
    }

    /// A new person with new keys. `None`: the handle is taken. Of an email that somebody else
    /// wrote nothing is told, and it takes as long.
    pub async fn sign_up(&self, new: NewPerson, password: &str) -> Result<Option<(Person, Keys)>> {
        let keys = Keys::random();
        let account = keys.own.as_ref().map(|own| AccountId::of(&own.public()));
        let account = account.unwrap_or_default();
        let email = new.email.clone();
        let mut salt = self.with(move |c| email::salt(c, &email)).await?;
        loop {
            let sealed = self.sealer.seal(&keys, password, salt).await?;
            let new = new.clone();
            let made = self.with(move |c| {
                let act = c.transaction()?;
                // Another has signed up with this email since.
                let other = email::salt(&act, &new.email)?;
                if other.is_some_and(|salt| !sealed.starts_with(&salt)) {
                    return Ok(Err(other));
                }
                let made = insert(&act, &new, account, &sealed)?;
                act.commit()?;
                Ok(Ok(made))
            });
            match made.await? {
                Ok(made) => return Ok(made.map(|person| (person, keys))),
                Err(other) => salt = other,
            }
        }
    }

    /// Who has this handle, or wrote this email, and his keys if the password opens them, and the
    /// code is right where he has a second factor. Takes as long for nobody as for somebody.
    pub async fn log_in(
        &self,
        name: &str,
        password: &str,
        code: &str,
    ) -> Result<Option<(Person, Keys)>> {
        let name = name.to_string();
        let mut found = self
            .with(move |c| {
                let sql = format!("{PERSON} WHERE p.handle = ?1 OR p.email = ?1 ORDER BY p.id");
                c.prepare_cached(&sql)?
                    .query_map([name], person)?
                    .collect::<rusqlite::Result<Vec<Person>>>()
            })
            .await?;
        let boxes = found.iter().map(|person| person.sealed.clone()).collect();
        let Some((at, keys)) = self.sealer.open(boxes, password).await? else {
            return Ok(None);
        };
        let person = found.swap_remove(at);
        let passed = self.passes(person.id, &keys, code).await?;
        Ok(passed.then_some((person, keys)))
    }

    /// Keeps the account's own key no more: the owner has it in a file.
    pub async fn forget_own(&self, person: &Person, keys: &Keys, password: &str) -> Result<()> {
        let left = Keys {
            web: keys.web.clone(),
            own: None,
        };
        let salt = person.sealed.first_chunk().copied();
        let sealed = self.sealer.seal(&left, password, salt).await?;
        let person = person.id;
        self.with(move |c| {
            c.execute(
                "UPDATE people SET sealed = ?2 WHERE id = ?1",
                params![person, sealed],
            )
        })
        .await?;
        Ok(())
    }

    /// Whether the code of a person's second factor is right, which counts once; if he has none,
    /// whatever was said is.
    async fn passes(&self, person: i64, keys: &Keys, code: &str) -> Result<bool> {
        let (keys, code) = (keys.clone(), code.to_string());
        self.with(move |c| {
            let known: Option<(Vec<u8>, u64)> = c
                .query_row(
                    "SELECT sealed, last_step FROM factors WHERE person = ?1",
                    [person],
                    |r| Ok((r.get(0)?, r.get(1)?)),
                )
                .optional()?;
            let Some((sealed, last)) = known else {
                return Ok(true);
            };
            let own = || seal::open_factor(&sealed, keys.own.as_ref()?);
            let factor = seal::open_factor(&sealed, &keys.web).or_else(own);
            let Some(step) = factor.and_then(|f| f.check(&code, api::now_ms(), last)) else {
                return Ok(false);
            };
            c.execute(
                "UPDATE factors SET last_step = ?2 WHERE person = ?1",
                params![person, step],
            )?;
            Ok(true)
        })
        .await
    }

    /// Whether he logs in with codes.
    pub async fn has_factor(&self, person: i64) -> Result<bool> {
        self.with(move |c| {
            let sql = "SELECT count(*) > 0 FROM factors WHERE person = ?1";
            c.query_row(sql, [person], |r| r.get(0))
        })
        .await
    }

    /// From now on he logs in with codes of `factor`, if `code` is one; other sessions of his end.
    pub async fn set_factor(&self, login: &Login, factor: &Factor, code: &str) -> Result<bool> {
        let Some(step) = factor.check(code, api::now_ms(), 0) else {
            return Ok(false);
        };
        let sealed = seal::factor(factor, &login.key)?;
        let (person, session) = (login.person.id, login.session.clone());
        self.with(move |c| {
            c.execute(
                "INSERT OR REPLACE INTO factors VALUES (?1, ?2, ?3)",
                params![person, sealed, step],
            )?;
            c.execute(
                "DELETE FROM sessions WHERE person = ?1 AND id != ?2",
                params![person, session],
            )
        })
        .await?;
        Ok(true)
    }

    /// He logs in without codes again; other sessions of his end.
    pub async fn drop_factor(&self, login: &Login) -> Result<()> {
        let (person, session) = (login.person.id, login.session.clone());
        self.with(move |c| {
            c.execute("DELETE FROM factors WHERE person = ?1", [person])?;
            c.execute(
                "DELETE FROM sessions WHERE person = ?1 AND id != ?2",
                params![person, session],
            )
        })
        .await?;
        Ok(())
    }

    /// Remembers that `account` lets the person with the account `member` act for it, or no more,
    /// if he is one of this portal's: his menus name it. What he may is the ledger's to say.
    pub async fn note_member(&self, account: AccountId, member: AccountId, is: bool) -> Result<()> {
        let (account, member) = (account.to_string(), member.to_string());
        let sql = match is {
            true => {
                "INSERT OR IGNORE INTO members
                 SELECT ?1, id FROM people WHERE account = ?2"
            }
            false => {
                "DELETE FROM members WHERE account = ?1
                 AND person IN (SELECT id FROM people WHERE account = ?2)"
            }
        };
        self.with(move |c| c.execute(sql, params![account, member]))
            .await?;
        Ok(())
    }

    /// Handles of those of these accounts that are people's of this portal.
    pub async fn handles(&self, accounts: Vec<AccountId>) -> Result<BTreeMap<AccountId, String>> {
        self.with(move |c| {
            let mut asked = c.prepare_cached("SELECT handle FROM people WHERE account = ?1")?;
            let mut handles = BTreeMap::new();
            for account in accounts {
                let found = asked.query_row([account.to_string()], |r| r.get(0));
                if let Some(handle) = found.optional()? {
                    handles.insert(account, handle);
                }
            }
            Ok(handles)
        })
        .await
    }

    /// Acts for `account` from now on in this session; `None`: for himself.
    pub async fn act_for(&self, session: &str, account: Option<AccountId>) -> Result<()> {
        let session = session.to_string();
        self.with(move |c| match account {
            Some(account) => c.execute(
                "INSERT OR REPLACE INTO acting VALUES (?1, ?2)",
                params![session, account.to_string()],
            ),
            None => c.execute("DELETE FROM acting WHERE session = ?1", [session]),
        })
        .await?;
        Ok(())
    }

    /// The token of a new session: the only thing that opens its copy of the key.
    pub async fn begin(
        &self,
        person: &Person,
        key: &SecretKey,
        browser: &str,
        address: &str,
    ) -> Result<Token> {
        let token = Token::random();
        let (id, sealed) = (session_id(&token), seal::with_token(key, &token)?);
        let (owner, browser, address) = (person.id, cut(browser), cut(address));
        self.with(move |c| {
            let now = api::now_ms();
            c.execute(
                "INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![id, owner, sealed, browser, address, now],
            )?;
            c.execute(
                "DELETE FROM sessions WHERE created_ms < ?1 OR id IN (SELECT id FROM sessions
                 WHERE person = ?2 ORDER BY created_ms DESC LIMIT -1 OFFSET ?3)",
                params![now.saturating_sub(SESSION_MS), owner, SESSIONS_MAX],
            )
        })
        .await?;
        Ok(token)
    }

    /// The token of the same session from now on: the one that it had opens nothing more.
    pub async fn rotate(&self, login: &Login) -> Result<Token> {
        let token = Token::random();
        let (id, sealed) = (session_id(&token), seal::with_token(&login.key, &token)?);
        let old = login.session.clone();
        self.with(move |c| {
            let act = c.transaction()?;
            let found = act.execute(
                "INSERT INTO sessions SELECT ?1, person, ?2, browser, address, created_ms, seen_ms
                 FROM sessions WHERE id = ?3",
                params![id, sealed, old],
            )?;
            if found == 0 {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
            act.execute(
                "UPDATE acting SET session = ?1 WHERE session = ?2",
                params![id, old],
            )?;
            act.execute("DELETE FROM sessions WHERE id = ?1", [old])?;
            act.commit()
        })
        .await?;
        Ok(token)
    }

    /// Seals a person's keys with another password; his other sessions end, and other browsers
    /// are strangers again.
    pub async fn set_password(&self, login: &Login, keys: &Keys, password: &str) -> Result<()> {
        let salt = login.person.sealed.first_chunk().copied();
        let sealed = self.sealer.seal(keys, password, salt).await?;
        let (person, session) = (login.person.id, login.session.clone());
        self.with(move |c| {
            let act = c.transaction()?;
            act.execute(
                "UPDATE people SET sealed = ?2 WHERE id = ?1",
                params![person, sealed],
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

    /// Who is logged in with this token.
    pub async fn login(&self, token: &Token) -> Result<Option<Login>> {
        let id = session_id(token);
        let of = id.clone();
        let found = self
            .with(move |c| {
                let now = api::now_ms();
                let found = c
                    .query_row(
                        &format!(
                            "{PERSON}, sessions s WHERE s.person = p.id AND s.id = ?1
                             AND s.created_ms >= ?2"
                        ),
                        params![of, now.saturating_sub(SESSION_MS)],
                        person,
                    )
                    .optional()?;
                let Some(person) = found else { return Ok(None) };
                let (sealed, seen): (Vec<u8>, u64) = c.query_row(
                    "SELECT sealed, seen_ms FROM sessions WHERE id = ?1",
                    [&of],
                    |r| Ok((r.get(0)?, r.get(1)?)),
                )?;
                if now.saturating_sub(seen) > SEEN_EVERY_MS {
                    c.execute(
                        "UPDATE sessions SET seen_ms = ?2 WHERE id = ?1",
                        params![of, now],
                    )?;
                }
                let workspaces: Vec<Workspace> = c
                    .prepare_cached(
                        "SELECT m.account, coalesce(p.company_name, p.handle) FROM members m
                         LEFT JOIN people p ON p.account = m.account WHERE m.person = ?1
                         ORDER BY 2 LIMIT 50",
                    )?
                    .query_map([person.id], |r| {
                        let account: String = r.get(0)?;
                        let title: Option<String> = r.get(1)?;
                        Ok(Workspace {
                            title: title.unwrap_or_else(|| words::brief(&account)),
                            account: account.parse().unwrap_or_default(),
                        })
                    })?
                    .collect::<rusqlite::Result<_>>()?;
                let acting: Option<String> = c
                    .query_row(
                        "SELECT account FROM acting WHERE session = ?1",
                        [&of],
                        |r| r.get(0),
                    )
                    .optional()?;
                // Only while he is known as a member: what was taken back ends at once.
                let acting = acting.and_then(|account| {
                    let of = |w: &&Workspace| w.account.to_string() == account;
                    workspaces.iter().find(of).cloned()
                });
                let shown = acting.as_ref().map_or(person.account, |w| w.account);
                let organisation = space::organisation(c, shown)?;
                Ok(Some((person, sealed, workspaces, acting, organisation)))
            })
            .await?;
        Ok(
            found.and_then(|(person, sealed, workspaces, acting, organisation)| {
                let key = seal::open_with_token(&sealed, token)?;
                Some(Login {
                    person,
                    key,
                    session: id,
                    workspaces,
                    acting,
                    organisation,
                    approval: std::sync::OnceLock::new(),
                    role: std::sync::OnceLock::new(),
                })
            }),
        )
    }

    /// Latest first.
    pub async fn sessions(&self, person: i64) -> Result<Vec<Session>> {
        self.with(move |c| {
            c.prepare(
                "SELECT id, browser, address, created_ms, seen_ms FROM sessions
                 WHERE person = ?1 ORDER BY seen_ms DESC",
            )?
            .query_map([person], |r| {
                Ok(Session {
                    id: r.get(0)?,
                    browser: r.get(1)?,
                    address: r.get(2)?,
                    created_ms: r.get(3)?,
                    seen_ms: r.get(4)?,
                })
            })?
            .collect()
        })
        .await
    }

    /// Ends one session of a person, or all of them.
    pub async fn end(&self, person: i64, session: Option<String>) -> Result<()> {
        self.with(move |c| match session {
            Some(id) => c.execute(
                "DELETE FROM sessions WHERE person = ?1 AND id = ?2",
                params![person, id],
            ),
            None => c.execute("DELETE FROM sessions WHERE person = ?1", [person]),
        })
        .await?;
        Ok(())
    }

    /// Remembers a browser that a person has logged in with.
    pub async fn remember(&self, person: i64, browser: &Token) -> Result<()> {
        let id = browser_id(browser);
        self.with(move |c| {
            c.execute(
                "INSERT OR REPLACE INTO browsers VALUES (?1, ?2)",
                params![id, person],
            )
        })
        .await?;
        Ok(())
    }

    /// Whether whoever has this handle has logged in with this browser before. By an email nobody is
    /// known: another may have written the same, and would share what is counted for its owner.
    pub async fn knows(&self, name: &str, browser: &Token) -> Result<bool> {
        let (id, name) = (browser_id(browser), name.to_string());
        self.with(move |c| {
            c.query_row(
                "SELECT count(*) > 0 FROM browsers b JOIN people p ON p.id = b.person
                 WHERE b.id = ?1 AND p.handle = ?2",
                params![id, name],
                |r| r.get(0),
            )
        })
        .await
    }
}

/// `None`: the handle is taken.
fn insert(
    connection: &Connection,
    new: &NewPerson,
    account: AccountId,
    sealed: &[u8],
) -> rusqlite::Result<Option<Person>> {
    let added = connection.execute(
        "INSERT OR IGNORE INTO people (kind, handle, email, company_name,
         company_address, account, sealed, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            new.kind.name(),
            new.handle,
            new.email,
            new.company_name,
            new.company_address,
            account.to_string(),
            sealed,
            api::now_ms(),
        ],
    )?;
    if added == 0 {
        return Ok(None);
    }
    let sql = format!("{PERSON} WHERE p.id = ?1");
    connection
        .query_row(&sql, [connection.last_insert_rowid()], person)
        .optional()
}

/// Of a text that a stranger chose, so much is kept.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(160).collect()
}

#[cfg(test)]
mod tests;
