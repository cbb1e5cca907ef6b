//! `host invite`: a token by which one machine joins in the account's name, once; `host invitations`
//! and `host uninvite`: those that are open, taken back.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use api::TokenView;
use clap::Args;
use ledger::Call;
use types::{AccountId, SecretKey};

use crate::context::{self, Session};
use crate::failure::{self, Failure, Result};
use crate::{output, units};

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig host invite\n  runrig host invite --for 10m --name rack-7\n\nWhoever has the line joins with one machine and nothing else; once used, it is worth nothing."
)]
pub struct Invite {
    /// The token is good for so long, at most 24h
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = units::duration)]
    period: Duration,
    /// What the machine will be called; unique on the network
    #[arg(long, default_value = "my-machine")]
    name: String,
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig host invitations\n  runrig host uninvite 3f9c\n\nWhoever has the line joins with it no more. A machine that has joined stays: see `runrig host drain`."
)]
pub struct Uninvite {
    /// The token's id, of `runrig host invitations`, or how it begins
    #[arg(value_name = "TOKEN")]
    token: String,
}

/// How `host join` is told a token.
#[derive(Args, Debug)]
pub struct Told {
    /// Of `runrig host invite`, or of the portal's page: whose machine this becomes
    #[arg(
        long,
        value_name = "TEXT",
        env = "RUNRIG_HOST_TOKEN",
        hide_env_values = true,
        conflicts_with_all = ["owner", "token_file"]
    )]
    token: Option<Text>,
    /// A file that has it and that only its owner may read: what stands in a command, `ps` shows
    #[arg(long, value_name = "FILE", conflicts_with = "owner")]
    token_file: Option<PathBuf>,
}

/// In no log and no message.
#[derive(Clone)]
struct Text(String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Told {
    /// Errors: it is no token; the file is missing, or others may read it.
    pub fn key(&self) -> Result<Option<SecretKey>> {
        if let Some(path) = &self.token_file {
            let missing = || {
                Failure::new(
                    failure::NOT_FOUND,
                    format!("token file {}", path.display()),
                    "there is no such file",
                    "Make a token with `runrig host invite`.",
                )
            };
            return context::read_key(path)?.ok_or_else(missing).map(Some);
        }
        let Some(Text(text)) = &self.token else {
            return Ok(None);
        };
        let wrong = |_| {
            Failure::usage(
                "the token",
                "it is not one: a token is 64 hex digits",
                "Copy the whole line of `runrig host invite`, or of the portal's page.",
            )
        };
        SecretKey::from_hex(text).map(Some).map_err(wrong)
    }
}

pub async fn invite(session: &Session, args: &Invite, json: bool) -> Result {
    let secret = SecretKey::random(&mut rand::rng());
    let token = AccountId::of(&secret.public());
    let period_ms = u64::try_from(args.period.as_millis()).unwrap_or(u64::MAX);
    let until_ms = session.client.status().await?.time_ms;
    let until_ms = until_ms.saturating_add(period_ms);
    let call = ledger::host::Call::Invite { token, until_ms };
    session.submit(Call::Host(call)).await?;
    let line = api::join_line(session.client.url(), &args.name, &secret);
    if json {
        output::json(&serde_json::json!({
            "token": secret.to_hex(), "id": token, "until_ms": until_ms, "command": line,
        }));
        return Ok(());
    }
    output::data(line);
    output::say(format!(
        "Run it on the machine within {}, until {}; the first one that does is yours, and `runrig events -f` says so (token {}).",
        units::age(period_ms),
        units::time(until_ms),
        token.short()
    ));
    Ok(())
}

/// The open ones of the account, as the network has them.
async fn open(session: &Session) -> Result<Vec<TokenView>> {
    let owner = session.account()?;
    let now = session.client.status().await?.time_ms;
    let mut open = session.client.tokens_of(owner).await?;
    open.retain(|one| now < one.until_ms);
    Ok(open)
}

pub async fn list(session: &Session, json: bool) -> Result {
    let open = open(session).await?;
    if json {
        output::json(&open);
        return Ok(());
    }
    if open.is_empty() {
        output::say("No line waits for its machine. Make one: runrig host invite");
        return Ok(());
    }
    let row = |one: &TokenView| {
        vec![
            one.token.to_string(),
            units::time(one.made_ms),
            units::time(one.until_ms),
        ]
    };
    let rows: Vec<_> = open.iter().map(row).collect();
    output::data(output::table(&["TOKEN", "MADE", "GOOD UNTIL"], &rows, &[]));
    Ok(())
}

pub async fn uninvite(session: &Session, args: &Uninvite, json: bool) -> Result {
    let open = open(session).await?;
    let begins = args.token.to_lowercase();
    let mut found = open
        .iter()
        .filter(|one| one.token.to_string().starts_with(&begins));
    let one = match (found.next(), found.next()) {
        (Some(one), None) => one,
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                format!("token {}", args.token),
                "more than one begins so",
                "Write more of it: `runrig host invitations`.",
            ));
        }
        (None, _) => {
            return Err(Failure::new(
                failure::NOT_FOUND,
                format!("token {}", args.token),
                "none of this account's that is open begins so",
                "Look at those that are: `runrig host invitations`.",
            ));
        }
    };
    let token = one.token;
    let call = ledger::host::Call::Uninvite { token };
    session.submit(Call::Host(call)).await?;
    if json {
        output::json(&serde_json::json!({ "id": token }));
        return Ok(());
    }
    output::say(format!(
        "Token {} is taken back: no machine joins with it",
        token.short()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn told(token: Option<&str>, file: Option<PathBuf>) -> Told {
        Told {
            token: token.map(|t| Text(t.into())),
            token_file: file,
        }
    }

    #[test]
    fn a_token_is_read_and_never_said() {
        let secret = SecretKey::from_seed([7; 32]).to_hex();
        let read = told(Some(&secret), None).key().expect("read");
        assert_eq!(read.map(|key| key.to_hex()), Some(secret.clone()));
        assert!(!format!("{:?}", told(Some(&secret), None)).contains(&secret));
        let wrong = &secret[..63];
        let failure = told(Some(wrong), None).key().expect_err("too short");
        assert_eq!(failure.exit, failure::USAGE);
        assert!(!failure.to_string().contains(wrong), "{failure}");
        assert!(told(None, None).key().expect("none").is_none());

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let missing = told(None, Some(path.clone())).key();
        assert_eq!(missing.map_err(|f| f.exit).err(), Some(failure::NOT_FOUND));
        std::fs::write(&path, format!("{secret}\n")).expect("written");
        let rights = |mode| {
            let rights = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, rights).expect("set");
            told(None, Some(path.clone())).key()
        };
        assert_eq!(
            rights(0o644).map_err(|f| f.exit).err(),
            Some(failure::SIGNATURE)
        );
        let read = rights(0o600).expect("read");
        assert_eq!(read.map(|key| key.to_hex()), Some(secret));
    }
}
