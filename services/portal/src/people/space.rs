//! An organisation's own space: how it looks, what stands there, who sees what of it. Nothing here
//! is money: that is the ledger's.

use anyhow::Result;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use types::AccountId;

use super::{Login, People};
use crate::colour::Colour;

/// Apps of one space.
pub const APPS_MAX: usize = 50;
/// Who is let look into the books by name.
pub const NAMED_MAX: usize = 50;

/// A company of this portal, and how its pages look once it has a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation {
    pub account: AccountId,
    pub handle: String,
    pub title: String,
    pub look: Option<Look>,
}

/// What the frame of a page wears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub handle: String,
    pub name: String,
    pub colour: Colour,
}

/// Who finds an app on the space's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    Members,
    Everyone,
}

impl Audience {
    pub fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Everyone => "everyone",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Members, Self::Everyone]
            .into_iter()
            .find(|one| one.name() == text)
    }
}

/// To whom the itemised books are open; the sums of months are to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Books {
    Members,
    /// And whom the space names.
    Named,
    Everyone,
}

impl Books {
    pub const ALL: [Self; 3] = [Self::Members, Self::Named, Self::Everyone];

    pub fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Named => "named",
            Self::Everyone => "everyone",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text)
    }
}

/// A project of the account under the name that people know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceApp {
    pub project: String,
    /// Empty: the project's own name.
    pub title: String,
    pub audience: Audience,
}

impl SpaceApp {
    pub fn title(&self) -> &str {
        match self.title.as_str() {
            "" => &self.project,
            title => title,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    pub account: AccountId,
    /// Of the company: the space's address, which it does not choose again.
    pub handle: String,
    pub name: String,
    pub colour: Colour,
    /// Source of the home page, see `ui::prose`.
    pub home: String,
    pub books: Books,
    /// Handles and accounts.
    pub named: Vec<String>,
    pub apps: Vec<SpaceApp>,
}

impl Space {
    pub fn look(&self) -> Look {
        Look {
            handle: self.handle.clone(),
            name: self.name.clone(),
            colour: self.colour,
        }
    }

    /// Whether the books name who is logged in, by handle or account.
    pub fn names(&self, login: &Login) -> bool {
        let account = login.person.account.to_string();
        let handle = &login.person.handle;
        let is = |name: &String| *name == account || name.eq_ignore_ascii_case(handle);
        self.named.iter().any(is)
    }
}

const SPACE: &str = "SELECT s.account, p.handle, s.name, s.colour, s.home, s.books, s.named, s.apps
    FROM spaces s JOIN people p ON p.account = s.account AND p.kind = 'company'";

fn space(row: &Row) -> rusqlite::Result<Space> {
    let text = |at: usize| row.get::<_, String>(at);
    Ok(Space {
        account: text(0)?.parse().unwrap_or_default(),
        handle: text(1)?,
        name: text(2)?,
        colour: text(3)?.parse().unwrap_or(Colour::OURS),
        home: text(4)?,
        books: Books::parse(&text(5)?).unwrap_or(Books::Members),
        named: text(6)?.split_whitespace().map(str::to_string).collect(),
        apps: serde_json::from_str(&text(7)?).unwrap_or_default(),
    })
}

/// The company whose account this is, if it is one of this portal's.
pub(super) fn organisation(
    connection: &rusqlite::Connection,
    account: AccountId,
) -> rusqlite::Result<Option<Organisation>> {
    let mut asked = connection.prepare_cached(
        "SELECT p.handle, coalesce(p.company_name, p.handle), s.name, s.colour FROM people p
         LEFT JOIN spaces s ON s.account = p.account WHERE p.account = ?1 AND p.kind = 'company'",
    )?;
    let found = asked.query_row([account.to_string()], |row| {
        let handle: String = row.get(0)?;
        let (name, colour): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        Ok(Organisation {
            account,
            look: name.map(|name| Look {
                handle: handle.clone(),
                name,
                colour: colour.and_then(|c| c.parse().ok()).unwrap_or(Colour::OURS),
            }),
            handle,
            title: row.get(1)?,
        })
    });
    found.optional()
}

impl People {
    /// The space at this address. `None`: nobody has the handle, or has opened none there.
    pub async fn space(&self, handle: &str) -> Result<Option<Space>> {
        let handle = handle.to_string();
        self.with(move |c| {
            c.prepare_cached(&format!("{SPACE} WHERE p.handle = ?1"))?
                .query_row([handle], space)
                .optional()
        })
        .await
    }

    pub async fn space_of(&self, account: AccountId) -> Result<Option<Space>> {
        self.with(move |c| {
            c.prepare_cached(&format!("{SPACE} WHERE s.account = ?1"))?
                .query_row([account.to_string()], space)
                .optional()
        })
        .await
    }

    /// Opens a company's space, or changes it.
    pub async fn set_space(&self, space: Space) -> Result<()> {
        let apps = serde_json::to_string(&space.apps)?;
        self.with(move |c| {
            c.execute(
                "INSERT OR REPLACE INTO spaces VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    space.account.to_string(),
                    space.name,
                    space.colour.to_string(),
                    space.home,
                    space.books.name(),
                    space.named.join("\n"),
                    apps
                ],
            )
        })
        .await?;
        Ok(())
    }

    /// Closes it: its address is nobody's, and nothing of it is kept.
    pub async fn close_space(&self, account: AccountId) -> Result<()> {
        self.with(move |c| {
            c.execute(
                "DELETE FROM spaces WHERE account = ?1",
                [account.to_string()],
            )
        })
        .await?;
        Ok(())
    }
}
