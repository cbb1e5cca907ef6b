//! Invitations: somebody who may say who acts for an account asks somebody else, by handle or by a
//! link; who is asked says yes or no; only then is a grant signed, and by whoever invited.

use anyhow::Result;
use rusqlite::{OptionalExtension, Row, params};
use types::{AccountId, Digest};

use super::{People, Person, Token};

/// An invitation ends so long after it was made.
const GOOD_MS: u64 = 14 * 86_400_000;
/// Of one account.
const OF_ACCOUNT_MAX: u64 = 100;

/// What is offered: as the form said it, to be read again when it is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub role: String,
    pub limit: String,
    pub days: String,
}

#[derive(Clone, Debug)]
pub struct Invitation {
    /// Digest of its token: names it, opens nothing.
    pub id: String,
    pub account: AccountId,
    /// Of the account, for people.
    pub title: String,
    /// For whom alone, if it is not for whoever has the link.
    pub handle: Option<String>,
    pub terms: Terms,
    pub created_ms: u64,
    /// Who said yes: account and handle.
    pub accepted: Option<(AccountId, String)>,
}

fn id_of(token: &Token) -> String {
    Digest::of_value("runrig-portal-invitation", &token.0).hex()
}

const INVITATION: &str = "SELECT i.id, i.account, i.title, i.handle, i.role, i.spend, i.days,
    i.created_ms, p.account, p.handle FROM invitations i LEFT JOIN people p ON p.id = i.accepted";

fn invitation(row: &Row) -> rusqlite::Result<Invitation> {
    let account: String = row.get(1)?;
    let by: Option<String> = row.get(8)?;
    let by = by.and_then(|account| account.parse().ok());
    let name: Option<String> = row.get(9)?;
    Ok(Invitation {
        id: row.get(0)?,
        account: account.parse().unwrap_or_default(),
        title: row.get(2)?,
        handle: row.get(3)?,
        terms: Terms {
            role: row.get(4)?,
            limit: row.get(5)?,
            days: row.get(6)?,
        },
        created_ms: row.get(7)?,
        accepted: by.zip(name),
    })
}

impl People {
    /// The token of a new invitation to act for `account`. `None`: the account has too many.
    pub async fn invite(
        &self,
        account: AccountId,
        title: &str,
        handle: Option<&str>,
        terms: &Terms,
    ) -> Result<Option<Token>> {
        let token = Token::random();
        let (id, account, title) = (id_of(&token), account.to_string(), title.to_string());
        let (handle, terms) = (handle.map(str::to_string), terms.clone());
        let made = self
            .with(move |c| {
                let now = api::now_ms();
                let old = now.saturating_sub(GOOD_MS);
                c.execute("DELETE FROM invitations WHERE created_ms < ?1", [old])?;
                let count: u64 = c.query_row(
                    "SELECT count(*) FROM invitations WHERE account = ?1",
                    [&account],
                    |r| r.get(0),
                )?;
                if count >= OF_ACCOUNT_MAX {
                    return Ok(false);
                }
                c.execute(
                    "INSERT INTO invitations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL)",
                    params![
                        id,
                        account,
                        title,
                        handle,
                        terms.role,
                        terms.limit,
                        terms.days,
                        now
                    ],
                )?;
                Ok(true)
            })
            .await?;
        Ok(made.then_some(token))
    }

    /// Those that an account has out, the latest first.
    pub async fn invitations_of(&self, account: AccountId) -> Result<Vec<Invitation>> {
        let (account, old) = (account.to_string(), api::now_ms().saturating_sub(GOOD_MS));
        self.with(move |c| {
            c.prepare_cached(&format!(
                "{INVITATION} WHERE i.account = ?1 AND i.created_ms >= ?2
                 ORDER BY i.created_ms DESC LIMIT {OF_ACCOUNT_MAX}"
            ))?
            .query_map(params![account, old], invitation)?
            .collect()
        })
        .await
    }

    /// What a link invites `person` to: nothing, if it is old, another's, answered, or none.
    pub async fn invitation(&self, token: &Token, person: &Person) -> Result<Option<Invitation>> {
        let (id, handle) = (id_of(token), person.handle.clone());
        let old = api::now_ms().saturating_sub(GOOD_MS);
        self.with(move |c| {
            c.query_row(
                &format!(
                    "{INVITATION} WHERE i.id = ?1 AND i.created_ms >= ?2 AND i.accepted IS NULL
                     AND (i.handle IS NULL OR i.handle = ?3 COLLATE NOCASE)"
                ),
                params![id, old, handle],
                invitation,
            )
            .optional()
        })
        .await
    }

    /// Counts once. Whether it still stood.
    pub async fn accept(&self, invitation: &Invitation, person: &Person) -> Result<bool> {
        let (id, person) = (invitation.id.clone(), person.id);
        let changed = self
            .with(move |c| {
                c.execute(
                    "UPDATE invitations SET accepted = ?2 WHERE id = ?1 AND accepted IS NULL",
                    params![id, person],
                )
            })
            .await?;
        Ok(changed > 0)
    }

    /// Of `account` only: nobody ends another's by naming it.
    pub async fn drop_invitation(&self, account: AccountId, id: &str) -> Result<()> {
        let (account, id) = (account.to_string(), id.to_string());
        self.with(move |c| {
            c.execute(
                "DELETE FROM invitations WHERE id = ?1 AND account = ?2",
                params![id, account],
            )
        })
        .await?;
        Ok(())
    }
}
