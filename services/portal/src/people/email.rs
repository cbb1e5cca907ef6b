//! Emails: nobody has shown that one is his, as this portal sends no mail. So they name nobody: whoever
//! signs up writes what he likes, and never learns whether somebody else wrote the same.
//!
//! Boxes of people with one email share their salt: a login by email stretches the password once,
//! however many there are, and the password says who it is.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};

use super::seal::Salt;

/// The table of people; `handle` is unique, and public on the ledger.
pub(super) const TABLE: &str = "(
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, handle TEXT NOT NULL UNIQUE COLLATE NOCASE,
    email TEXT NOT NULL COLLATE NOCASE, company_name TEXT, company_address TEXT,
    account TEXT NOT NULL, sealed BLOB NOT NULL, created_ms INTEGER NOT NULL)";

/// Makes the table of people, also where an older one holds each email once.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    let known = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'people'";
    let known: Option<String> = connection.query_row(known, [], |r| r.get(0)).optional()?;
    if known.is_some_and(|sql| sql.contains("email TEXT NOT NULL UNIQUE")) {
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.execute_batch(&format!(
            "BEGIN;
             CREATE TABLE freed {TABLE};
             INSERT INTO freed SELECT id, kind, handle, email, company_name, company_address,
                account, sealed, created_ms FROM people;
             DROP TABLE people;
             ALTER TABLE freed RENAME TO people;
             COMMIT;"
        ))?;
        connection.pragma_update(None, "foreign_keys", true)?;
    }
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS people {TABLE};
         CREATE INDEX IF NOT EXISTS people_email ON people (email);"
    ))?;
    Ok(())
}

/// That of the boxes of those who wrote this email; none while nobody with a password did.
pub(super) fn salt(connection: &Connection, email: &str) -> rusqlite::Result<Option<Salt>> {
    let sql = "SELECT sealed FROM people WHERE email = ?1 AND sealed <> x'' ORDER BY id LIMIT 1";
    let sealed: Option<Vec<u8>> = connection
        .query_row(sql, params![email], |r| r.get(0))
        .optional()?;
    Ok(sealed.and_then(|sealed| sealed.first_chunk().copied()))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, NewPerson, People, Person, Token};
    use super::*;

    const EMAIL: &str = "ada@example.org";

    fn new(handle: &str, email: &str) -> NewPerson {
        NewPerson {
            kind: Kind::Personal,
            handle: handle.into(),
            email: email.into(),
            company_name: None,
            company_address: None,
        }
    }

    async fn sign_up(people: &People, handle: &str, email: &str, password: &str) -> Option<Person> {
        let made = people.sign_up(new(handle, email), password).await;
        made.expect("stored").map(|(person, _)| person)
    }

    /// Who is logged in by it.
    async fn who(people: &People, name: &str, password: &str) -> Option<String> {
        let opened = people.log_in(name, password, "").await.expect("asked");
        opened.map(|(person, _)| person.handle)
    }

    #[tokio::test]
    async fn an_email_is_nobodys_and_the_password_says_whose_login_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("people.sqlite");
        let people = People::open(&path).expect("open");
        let ada = sign_up(&people, "ada", EMAIL, "four plain words here").await;
        let ada = ada.expect("free");
        // At once, as nobody has written it yet; and in whatever case.
        let (bob, cyd) = tokio::join!(
            sign_up(&people, "bob", "Ada@Example.ORG", "other plain words here"),
            sign_up(&people, "cyd", EMAIL, "some plain words here"),
        );
        assert!(bob.is_some() && cyd.is_some());
        assert!(
            sign_up(&people, "ADA", "x@example.org", "four plain words here")
                .await
                .is_none()
        );
        for (password, handle) in [
            ("four plain words here", Some("ada")),
            ("other plain words here", Some("bob")),
            ("some plain words here", Some("cyd")),
            ("nobodys plain words", None),
        ] {
            let handle = handle.map(str::to_string);
            assert_eq!(who(&people, "ADA@example.org", password).await, handle);
        }
        assert_eq!(who(&people, "ada", "other plain words here").await, None);
        // Another password, and the account's own key taken away, leave that as it is.
        let opened = people.log_in("ada", "four plain words here", "").await;
        let (_, keys) = opened.expect("asked").expect("opened");
        let token = people.begin(&ada, &keys.web, "", "").await.expect("begun");
        let login = people.login(&token).await.expect("read").expect("in");
        let changed = people.set_password(&login, &keys, "new plain words here");
        changed.await.expect("changed");
        let login = people.login(&token).await.expect("read").expect("in");
        let away = people.forget_own(&login.person, &keys, "new plain words here");
        away.await.expect("away");
        for (password, handle) in [
            ("new plain words here", "ada"),
            ("other plain words here", "bob"),
        ] {
            let found = who(&people, EMAIL, password).await;
            assert_eq!(found.as_deref(), Some(handle));
        }
        // What is counted for a browser that its owner uses is never shared by an email.
        let browser = Token::random();
        people.remember(ada.id, &browser).await.expect("kept");
        assert!(people.knows("ada", &browser).await.expect("asked"));
        assert!(!people.knows(EMAIL, &browser).await.expect("asked"));
    }

    #[tokio::test]
    async fn those_who_wrote_an_email_at_the_same_time_share_a_salt() {
        let folder = tempfile::tempdir().expect("a folder");
        let people = People::open(&folder.path().join("people.sqlite")).expect("open");
        let (ada, bob) = tokio::join!(
            sign_up(&people, "ada", EMAIL, "four plain words here"),
            sign_up(&people, "bob", EMAIL, "other plain words here"),
        );
        let salt = |person: Option<Person>| person.expect("free").sealed[..16].to_vec();
        assert_eq!(salt(ada), salt(bob));
    }

    #[tokio::test]
    async fn a_table_with_each_email_once_becomes_one_without() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("people.sqlite");
        let people = People::open(&path).expect("open");
        let ada = sign_up(&people, "ada", EMAIL, "four plain words here").await;
        let ada = ada.expect("free");
        people
            .remember(ada.id, &Token::random())
            .await
            .expect("kept");
        drop(people);
        let old = TABLE.replace("email TEXT NOT NULL", "email TEXT NOT NULL UNIQUE");
        let connection = Connection::open(&path).expect("open");
        let older = format!(
            "PRAGMA foreign_keys = OFF; CREATE TABLE old {old};
             INSERT INTO old SELECT * FROM people; DROP TABLE people;
             ALTER TABLE old RENAME TO people;"
        );
        connection.execute_batch(&older).expect("older");
        drop(connection);
        let people = People::open(&path).expect("open");
        assert!(
            sign_up(&people, "bob", EMAIL, "other plain words here")
                .await
                .is_some()
        );
        let found = who(&people, EMAIL, "four plain words here").await;
        assert_eq!(found.as_deref(), Some("ada"));
    }
}
