//! `login`, `logout`: let this machine act for somebody's account, by a code that he types on a
//! portal's page.
//!
//! The key is made here and stays here. What the portal answers is believed only as far as the
//! ledger says the same: the grant, with its role, limit and end, stands there.

use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::{DeviceAnswer, DeviceAsk, DeviceCode, DevicePoll};
use clap::Args;
use ledger::account::{Call, Grant};
use sdk::{Client, SdkError};
use types::{AccountId, SecretKey};

use crate::context::{Context, Home, Overrides, Session};
use crate::failure::{self, Failure, Result};
use crate::{output, units};

/// A validator that answers may be a block behind the one that the portal asked.
const LEDGER_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig login http://localhost:8780\n  runrig login --name laptop"
)]
pub struct Login {
    /// URL of a portal; the context's, if not said
    portal: Option<String>,
    /// What this machine calls itself on the page; user and host name, if not said
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig logout\n  runrig --context dev-ada logout")]
pub struct Logout {
    /// Only forget the key here: it could act until its end, or until its owner takes it back
    #[arg(long)]
    here: bool,
}

/// `ada@rack-7`, as far as the system says.
fn machine() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let user = std::env::var("USER").unwrap_or_default();
    match (user.as_str(), host.trim()) {
        ("", host) => host.to_string(),
        (user, "") => user.to_string(),
        (user, host) => format!("{user}@{host}"),
    }
}

fn portal_of(args: &Login, context: Option<&Context>) -> Result<String> {
    let known = context.and_then(|c| c.portal.clone());
    let url = args.portal.clone().or(known).ok_or_else(|| {
        Failure::usage(
            "which portal",
            "no address is given, and the context knows none",
            "Say it: `runrig login http://localhost:8780` (`runrig dev` names its own).",
        )
    })?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Failure::usage(
            format!("portal {}", output::tame(&url)),
            "an address begins with http:// or https://",
            "Say it as your browser has it.",
        ));
    }
    Ok(url.trim_end_matches('/').to_string())
}

/// On a desk the page opens by itself.
fn show(page: &str) {
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    if screen && std::io::stderr().is_terminal() {
        let mut open = Command::new("xdg-open");
        open.arg(page)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The address is on the screen all the same.
        let _ = open.spawn();
    }
}

pub async fn login(args: &Login, overrides: &Overrides, json: bool) -> Result {
    let home = Home::open()?;
    let config = home.read()?;
    let name = overrides.context.as_ref().or(config.current.as_ref());
    let portal = portal_of(args, name.and_then(|name| config.contexts.get(name)))?;
    if let Some(name) = &overrides.context {
        not_anothers(name, config.contexts.get(name))?;
    }
    let key = SecretKey::random(&mut rand::rng());
    let own = AccountId::of(&key.public());
    let client = Client::new([portal.clone()])?;
    let ask = DeviceAsk {
        key: key.public(),
        machine: args.name.clone().unwrap_or_else(machine),
    };
    let asked: DeviceCode = client
        .post("/device/ask", &ask)
        .await
        .map_err(|error| no_portal(&portal, error))?;
    let page = format!("{portal}{}", asked.page);
    if json {
        output::json_line(&serde_json::json!({
            "code": asked.code, "page": page, "key": own, "good_for_s": asked.good_for_s,
        }));
    } else {
        // Needed to go on, however quiet it is to be.
        output::shout(format!(
            "On {} type the code\n\n    {}\n",
            output::tame(&page),
            output::tame(&asked.code)
        ));
        output::say(format!(
            "It shows that {} asks, by key {}. Type the code nowhere else, and tell it nobody; it is good for {}.",
            output::tame(&ask.machine),
            brief(&own),
            units::age(asked.good_for_s.saturating_mul(1_000)),
        ));
        show(&page);
    }
    let allowed = answered(&client, &asked).await?;
    let urls = match &overrides.url {
        Some(url) => url.split(',').map(|u| u.trim().to_string()).collect(),
        None => vec![allowed.url],
    };
    let network = Client::new(urls.clone())?;
    let grant = granted(&network, allowed.account, own).await?;
    let network_key = network.status().await?.network_key;
    let context = Context {
        urls,
        account: Some(allowed.account),
        network_key: Some(network_key),
        key: Some(own),
        portal: Some(portal),
    };
    let name = match &overrides.context {
        Some(name) => name.clone(),
        None => free_name(&home, &allowed.name, allowed.account)?,
    };
    let before = home.read()?.contexts.get(&name).cloned();
    home.adopt(&name, context, Some(&key))?;
    if let Some(old) = before.and_then(|c| c.key) {
        give_back(&home, &network, allowed.account, old).await;
    }
    if json {
        output::json_line(&serde_json::json!({
            "account": allowed.account, "context": name, "key": own, "grant": grant,
        }));
    } else {
        output::data(allowed.account);
        output::say(format!(
            "this machine acts for it as {}; context {name} is the current one",
            may(&grant, units::now_ms())
        ));
        output::say("`runrig logout` takes that back");
    }
    Ok(())
}

fn no_portal(portal: &str, error: SdkError) -> Failure {
    let mut failure = Failure::from(error);
    if failure.exit != failure::CONFLICT {
        failure.what = format!(
            "{} is no portal that answers: {}",
            output::tame(portal),
            failure.what
        );
        failure.next = "Say the address of the web pages, as your browser has it.".into();
    }
    failure
}

/// A context that was made otherwise has a key that nothing brings back.
fn not_anothers(name: &str, context: Option<&Context>) -> Result {
    match context {
        Some(context) if context.key.is_none() => Err(Failure::new(
            failure::CONFLICT,
            format!("context {name}"),
            "it has a key of its own, not one of a login",
            "Choose another name with --context, or leave it away.",
        )),
        _ => Ok(()),
    }
}

/// `dev-ada`, or `dev-ada-2` if that is taken by something else.
fn free_name(home: &Home, wanted: &str, account: AccountId) -> Result<String> {
    let contexts = home.read()?.contexts;
    let fits = |name: &str| {
        let known = contexts.get(name);
        known.is_none_or(|c| c.key.is_some() && c.account == Some(account))
    };
    let more = (2..).map(|n| format!("{wanted}-{n}"));
    let mut names = std::iter::once(wanted.to_string()).chain(more);
    Ok(names.find(|name| fits(name)).unwrap_or_default())
}

struct Allowed {
    account: AccountId,
    /// For the context.
    name: String,
    url: String,
}

fn plain(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().filter(fits).take(40).collect()
}

/// Waits until somebody has said yes or no.
async fn answered(client: &Client, asked: &DeviceCode) -> Result<Allowed> {
    let started = Instant::now();
    let good_for = Duration::from_secs(asked.good_for_s.min(3_600));
    let poll = DevicePoll {
        secret: asked.secret.clone(),
    };
    while started.elapsed() < good_for {
        tokio::time::sleep(Duration::from_secs(asked.every_s.clamp(1, 30))).await;
        match client.post("/device/poll", &poll).await {
            Ok(DeviceAnswer::Waiting) => {}
            Ok(DeviceAnswer::Gone) => break,
            Ok(DeviceAnswer::Refused) => {
                return Err(Failure::new(
                    failure::LOGIN,
                    "not logged in",
                    "it was refused on the page",
                    "",
                ));
            }
            Ok(DeviceAnswer::Allowed {
                account,
                handle,
                network,
                url,
            }) => {
                let name = format!("{}-{}", plain(&network), plain(&handle));
                return Ok(Allowed { account, name, url });
            }
            // It may come back while the code is good.
            Err(SdkError::Unreachable { .. } | SdkError::Late(_)) => {}
            Err(SdkError::Refused(problem)) if problem.kind == "unavailable" => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(
        failure::TIMED_OUT,
        "not logged in",
        "nobody typed the code in time",
        "Run `runrig login` again.",
    ))
}

/// The grant, as the ledger has it.
async fn granted(network: &Client, account: AccountId, key: AccountId) -> Result<Grant> {
    let started = Instant::now();
    loop {
        let view = network.account(account).await?;
        if let Some(grant) = view.grants.get(&key) {
            return Ok(grant.clone());
        }
        if started.elapsed() > LEDGER_PATIENCE {
            return Err(Failure::new(
                failure::SIGNATURE,
                "not logged in",
                format!(
                    "the portal says that {account} lets this machine act, the ledger does not"
                ),
                "Ask whoever runs the portal.",
            ));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn brief(id: &AccountId) -> String {
    let id = id.to_string();
    format!("{}…{}", &id[..6], &id[id.len() - 4..])
}

/// What a grant allows, in words.
pub fn may(grant: &Grant, now_ms: u64) -> String {
    let limit = match grant.limit {
        None => "without limit".to_string(),
        Some(limit) if limit.every_ms == 0 => {
            format!("{} of {} credits spent", grant.spent, limit.amount)
        }
        Some(limit) => format!(
            "{} of {} credits spent in {}",
            grant.spent,
            limit.amount,
            units::age(limit.every_ms)
        ),
    };
    let ends = match grant.expires_ms {
        None => "without end".to_string(),
        Some(at) => format!("for {} more", units::age(at.saturating_sub(now_ms))),
    };
    format!("{}, {limit}, {ends}", grant.role.name())
}

/// Why whatever was asked failed, if it is that the key of a login acts no more: what comes of that
/// differs from command to command.
pub async fn over(session: &Session) -> Option<Failure> {
    let (account, key) = (session.account().ok()?, session.key().ok()?);
    let key = AccountId::of(&key.public());
    let asked = tokio::time::timeout(LEDGER_PATIENCE, session.client.account(account));
    let view = asked.await.ok()?.ok()?;
    let good = |grant: &Grant| grant.is_good(units::now_ms());
    if view.grants.get(&key).is_some_and(good) {
        return None;
    }
    Some(Failure::new(
        failure::LOGIN,
        "not logged in",
        format!("{key} may not act for {account}: its time is over, or it was taken back"),
        "Log in again with `runrig login`.",
    ))
}

/// A login's former key: nobody needs it any more.
async fn give_back(home: &Home, network: &Client, account: AccountId, old: AccountId) {
    let path = home.key_path(&old);
    if let Ok(Some(key)) = crate::context::read_key(&path) {
        let call = ledger::Call::Account(Call::Revoke { from: old });
        // It may have ended already; its owner sees it in the list of keys.
        let _ = network.submit_for(&key, &[account], call).await;
        let _ = std::fs::remove_file(path);
    }
}

pub async fn logout(args: &Logout, overrides: &Overrides, json: bool) -> Result {
    let home = Home::open()?;
    let mut config = home.read()?;
    let name = overrides.context.clone().or(config.current.clone());
    let context = name.as_ref().and_then(|name| config.contexts.get(name));
    let (Some(name), Some(context)) = (&name, context) else {
        return Err(Failure::new(
            failure::NOT_FOUND,
            "not logged in",
            "there is no context",
            "",
        ));
    };
    let (Some(key), Some(account)) = (context.key, context.account) else {
        return Err(Failure::new(
            failure::CONFLICT,
            format!("context {name}"),
            "it was not made by `runrig login`: its key is the account's own",
            "Choose another with `runrig context use`, or forget it with `runrig context rm`.",
        ));
    };
    let revoked = if args.here {
        false
    } else {
        let one = Overrides {
            context: Some(name.clone()),
            url: overrides.url.clone(),
            ..Overrides::default()
        };
        revoke(&Session::open(&one)?, key).await?
    };
    config.contexts.remove(name);
    if config.current.as_ref() == Some(name) {
        config.current = None;
    }
    home.write(&config)?;
    let path = home.key_path(&key);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        output::shout(format!("{} is still there: {error}", path.display()));
    }
    if json {
        output::json(&serde_json::json!({
            "account": account, "context": name, "key": key, "revoked": revoked,
        }));
    } else {
        match revoked {
            true => output::say(format!("this machine acts no more for {account}")),
            false => output::say(format!(
                "the key is forgotten here; what it may for {account} is as it was"
            )),
        }
        if !config.contexts.is_empty() {
            output::say("choose another context with `runrig context use NAME`");
        }
    }
    Ok(())
}

/// `false`: it was taken back already.
async fn revoke(session: &Session, key: AccountId) -> Result<bool> {
    let call = ledger::Call::Account(Call::Revoke { from: key });
    match session.submit(call).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.lacks_grant() => Ok(false),
        Err(mut failure) => {
            failure.next =
                "Try again; or `runrig logout --here` forgets the key here, and its owner \
                            takes it back in the portal."
                    .into();
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_by_network_and_person_and_takes_nothing_elses_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::at(folder.path());
        let account = |n: u8| AccountId::of(&SecretKey::from_seed([n; 32]).public());
        let name = |of: u8| free_name(&home, "dev-ada", account(of)).expect("read");
        assert_eq!(name(1), "dev-ada");
        let context = |of: u8, key: Option<u8>| Context {
            urls: vec!["http://127.0.0.1:1".into()],
            account: Some(account(of)),
            key: key.map(account),
            ..Context::default()
        };
        home.adopt("dev-ada", context(1, Some(9)), None)
            .expect("written");
        assert_eq!(name(1), "dev-ada", "a login of the same account");
        assert_eq!(name(2), "dev-ada-2");
        home.adopt("dev-ada", context(1, None), None)
            .expect("written");
        assert_eq!(name(1), "dev-ada-2", "a key of its own");
        let refused = not_anothers("dev-ada", Some(&context(1, None))).expect_err("taken");
        assert_eq!(refused.exit, failure::CONFLICT);
        assert_eq!(plain("../\u{1b}[31mAda x"), "..31mAdax");
    }

    #[test]
    fn a_portal_has_an_address() {
        let args = |portal: Option<&str>| Login {
            portal: portal.map(Into::into),
            name: None,
        };
        let knows = Context {
            portal: Some("http://here".into()),
            ..Context::default()
        };
        assert_eq!(
            portal_of(&args(None), Some(&knows)).expect("known"),
            "http://here"
        );
        let said = portal_of(&args(Some("https://there/")), Some(&knows));
        assert_eq!(said.expect("said"), "https://there");
        for wrong in [None, Some("there"), Some("ftp://there")] {
            let failure = portal_of(&args(wrong), None).expect_err("no portal");
            assert_eq!(failure.exit, failure::USAGE);
        }
    }
}
