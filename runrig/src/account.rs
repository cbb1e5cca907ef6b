//! `account keys`: further keys of an account, and members of a company's, each within a role, a
//! limit and a time that the ledger holds to.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use ledger::account::{Call, Role, SpendingLimit};
use types::{AccountId, Amount};

use crate::context::{Session, key_file};
use crate::failure::{Failure, Result};
use crate::{output, units};

#[derive(Subcommand, Debug)]
pub enum Account {
    /// Keys and members that may act for the account
    #[command(
        subcommand,
        before_help = "Examples:\n  runrig account keys add --new ci.key --role developer --limit 5 --every 30d --label ci\n  runrig --account ACCOUNT --key ci.key up\n  runrig account keys revoke KEY"
    )]
    Keys(Keys),
}

#[derive(Subcommand, Debug)]
pub enum Keys {
    /// List them
    Ls,
    /// Let another key, or a member, act for the account; or change what it may
    Add(Add),
    /// Take that back, at once; the account's own first key once another owner is there
    Revoke {
        /// The account of the key
        #[arg(value_name = "KEY")]
        whose: AccountId,
    },
}

#[derive(clap::Args, Debug)]
pub struct Add {
    /// The account of the key, or of the member
    #[arg(
        value_name = "KEY",
        required_unless_present = "new",
        conflicts_with = "new"
    )]
    whose: Option<AccountId>,
    /// Use the key in this file; a new one is made if it is missing
    #[arg(long, value_name = "FILE")]
    new: Option<PathBuf>,
    /// owner, admin, developer, billing or viewer
    #[arg(long, default_value = "developer", value_parser = role)]
    role: Role,
    /// Credits that may leave the purse by it, escrow included
    #[arg(long)]
    limit: Option<Amount>,
    /// The limit counts anew after so long, as 30d; never if not said
    #[arg(long, requires = "limit", value_parser = units::duration)]
    every: Option<Duration>,
    /// It ends by itself after so long, as 90d
    #[arg(long, value_parser = units::duration)]
    expires: Option<Duration>,
    /// What it is for, for all to read
    #[arg(long, default_value = "")]
    label: String,
}

fn role(text: &str) -> std::result::Result<Role, String> {
    Role::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.iter().map(|r| r.name()).collect();
        format!("a role is one of {}", names.join(", "))
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub async fn run(session: &Session, command: &Account, json: bool) -> Result {
    let Account::Keys(command) = command;
    match command {
        Keys::Ls => list(session, json).await,
        Keys::Add(args) => add(session, args, json).await,
        Keys::Revoke { whose } => {
            let call = Call::Revoke { from: *whose };
            let applied = session.submit(ledger::Call::Account(call)).await?;
            if json {
                output::json(&serde_json::json!({ "revoked": whose, "transaction": applied.id }));
            } else {
                output::say(format!("{whose} acts no more for {}", session.account()?));
            }
            Ok(())
        }
    }
}

async fn list(session: &Session, json: bool) -> Result {
    let view = crate::money::account(session, session.account()?).await?;
    if json {
        output::json(&serde_json::json!({
            "account": view.account, "retired": view.retired, "grants": view.grants,
        }));
        return Ok(());
    }
    let now = units::now_ms();
    let rows: Vec<Vec<String>> = view
        .grants
        .iter()
        .map(|(key, grant)| {
            let limit = match grant.limit {
                None => "–".to_string(),
                Some(limit) if limit.every_ms == 0 => {
                    format!("{} of {}", grant.spent, limit.amount)
                }
                Some(limit) => format!(
                    "{} of {} in {}",
                    grant.spent,
                    limit.amount,
                    units::age(limit.every_ms)
                ),
            };
            let ends = match grant.expires_ms {
                None => "–".to_string(),
                Some(_) if !grant.is_good(now) => "over".to_string(),
                Some(at) => format!("in {}", units::age(at - now)),
            };
            vec![
                key.to_string(),
                grant.role.name().to_string(),
                limit,
                ends,
                grant.label.clone(),
            ]
        })
        .collect();
    let first = if view.retired { "retired" } else { "owner" };
    output::say(format!("the account's own first key: {first}"));
    if rows.is_empty() {
        output::say("no other key: add one with `runrig account keys add`");
        return Ok(());
    }
    let headers = ["KEY", "ROLE", "SPENT", "ENDS", "LABEL"];
    output::data(output::table(&headers, &rows, &[]));
    Ok(())
}

async fn add(session: &Session, args: &Add, json: bool) -> Result {
    let to = match (&args.whose, &args.new) {
        (Some(whose), _) => *whose,
        (None, Some(path)) => AccountId::of(&key_file(path)?.public()),
        (None, None) => {
            return Err(Failure::usage(
                "whose key",
                "neither an account nor a file is named",
                "Say `--new FILE` to make a key.",
            ));
        }
    };
    let expires_ms = match args.expires {
        Some(after) => {
            let height = session.client.status().await?.height;
            let block = session.client.block(height).await?;
            Some(block.time_ms.saturating_add(millis(after)))
        }
        None => None,
    };
    let call = Call::Grant {
        to,
        role: args.role,
        limit: args.limit.map(|amount| SpendingLimit {
            amount,
            every_ms: args.every.map_or(0, millis),
        }),
        expires_ms,
        label: args.label.clone(),
    };
    let applied = session.submit(ledger::Call::Account(call)).await?;
    let account = session.account()?;
    if json {
        output::json(&serde_json::json!({
            "account": account, "key": to, "role": args.role, "transaction": applied.id,
        }));
        return Ok(());
    }
    output::data(to);
    output::say(format!("it may act for {account} as {}", args.role.name()));
    if let Some(path) = &args.new {
        output::say(format!(
            "use it: runrig --account {account} --key {} …",
            path.display()
        ));
    }
    Ok(())
}
