//! `chain`, `host ls`, `host show`, `context`: the network, its machines, and how to reach it.

use clap::Subcommand;
use types::{AccountId, Digest, SecretKey};

use crate::context::{Context, Home, Overrides, Session};
use crate::failure::{self, Failure, Result};
use crate::output;
use crate::units;
use crate::verified;

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig chain status\n  runrig chain block 12\n  runrig chain supply --json"
)]
pub enum Chain {
    /// Height, time, validators
    Status,
    /// A block: its transactions, roots and certificate
    Block { height: u64 },
    /// A transaction: what it asked and what became of it
    Tx { id: Digest },
    /// Between which two times a transaction (its id) or a block (its height) came about
    When {
        what: String,
        /// The key to trust, hex; the context's if not said
        #[arg(long, value_name = "HEX")]
        network_key: Option<String>,
    },
    /// What validators did in an epoch: led, stated the time, dealt, witnessed, screened; this epoch if not said
    Duties { epoch: Option<u64> },
    /// All money there is, by genesis and added up now
    Supply,
    /// What the network has agreed on: rates, intervals, limits
    Params,
    /// The whole state at the end of an epoch, with its certificate, in one file
    Export {
        #[arg(long, value_name = "FILE")]
        out: std::path::PathBuf,
        /// Wait for the end of this one; the newest that is over if not said
        #[arg(long, value_name = "N")]
        epoch: Option<u64>,
        /// The key to trust, hex; the context's if not said
        #[arg(long, value_name = "HEX")]
        network_key: Option<String>,
    },
    /// An account's balance and nonce; your own if not said
    Account { id: Option<AccountId> },
}

async fn params(session: &Session) -> Result<ledger::Params> {
    let fetch = async || Ok(session.client.params().await?);
    verified::read(session, fetch, async |verifier, params| {
        let rows = [(verified::Network, params)];
        verifier.rows("globals", &rows).await
    })
    .await
}

pub async fn chain(session: &Session, command: &Chain, json: bool) -> Result {
    let client = &session.client;
    match command {
        Chain::Status => {
            let status = client.status().await?;
            if json {
                output::json(&status);
                return Ok(());
            }
            let late = units::now_ms().saturating_sub(status.time_ms);
            output::data(format!(
                "{} ({}) at height {}, {} ago, {} transactions wait",
                status.name,
                &status.network.hex()[..12],
                status.height,
                units::age(late),
                status.queued
            ));
            output::data(format!("network key {}", status.network_key));
            let rows: Vec<Vec<String>> = status
                .validators
                .iter()
                .map(|v| {
                    let key: String = v.key.chars().take(12).collect();
                    vec![key, v.address.clone(), v.led.to_string()]
                })
                .collect();
            output::data(output::table(
                &["VALIDATOR", "API", "LED OF 100"],
                &rows,
                &[2],
            ));
        }
        Chain::Block { height } => {
            let block = client.block(*height).await?;
            if session.verify.is_some() {
                crate::when::made(session, &block).await?;
            }
            if json {
                output::json(&block);
                return Ok(());
            }
            output::data(format!("block {} {}", block.height, block.block));
            output::data(format!("time   {}", units::time(block.time_ms)));
            output::data(format!("parent {}", block.parent));
            output::data(format!("state  {}", block.state_root));
            output::data(format!("events {}", block.events_root));
            let rows: Vec<Vec<String>> = block
                .transactions
                .iter()
                .map(|t| {
                    vec![
                        t.id.to_string(),
                        crate::ps::word(&t.status),
                        t.sender.map(|s| s.to_string()).unwrap_or_default(),
                    ]
                })
                .collect();
            if !rows.is_empty() {
                output::data(output::table(
                    &["TRANSACTION", "STATUS", "SENDER"],
                    &rows,
                    &[],
                ));
            }
        }
        // Structured through and through: JSON is what reads best.
        Chain::Tx { id } => {
            let view = client.transaction(id).await?;
            if session.verify.is_some() && view.height.is_some() {
                crate::when::came(session, &view).await?;
            }
            output::json(&view);
            if view.status == api::TransactionStatus::Unknown {
                return Err(Failure::new(
                    failure::NOT_FOUND,
                    format!("transaction {id}"),
                    "no validator asked knows it",
                    "It may have expired: see `runrig wallet history`.",
                ));
            }
        }
        Chain::When { what, network_key } => {
            return crate::when::when(session, what, network_key.as_ref(), json).await;
        }
        Chain::Export {
            out,
            epoch,
            network_key,
        } => {
            let wanted = crate::export::Wanted {
                out,
                epoch: *epoch,
                network_key: network_key.as_ref(),
            };
            return crate::export::export(session, wanted, json).await;
        }
        Chain::Duties { epoch } => return crate::when::duties(session, *epoch, json).await,
        Chain::Params => output::json(&params(session).await?),
        Chain::Supply => {
            let supply = client.supply().await?;
            if json {
                output::json(&supply);
            } else {
                output::data(format!(
                    "{} credits by genesis; {} added up at height {}: {} spendable ({} of it the fund's, which a vote pays out), {} in escrow, {} in bonds",
                    supply.expected,
                    supply.sum,
                    supply.height,
                    supply.spendable,
                    supply.fund,
                    supply.escrow,
                    supply.bonds
                ));
            }
            if supply.expected != supply.sum {
                return Err(Failure::new(
                    failure::FAILED,
                    "the supply is not what genesis made",
                    format!("{} ≠ {}", supply.sum, supply.expected),
                    "Tell the network's founder.",
                ));
            }
        }
        Chain::Account { id } => {
            let id = match id {
                Some(id) => *id,
                None => session.account()?,
            };
            let account = crate::money::account(session, id).await?;
            if json {
                output::json(&account);
            } else {
                output::data(format!(
                    "{}: {} credits ({} spendable, {} held), nonce {}",
                    account.account,
                    account.balance,
                    account.spendable,
                    account.held,
                    account.nonce
                ));
            }
        }
    }
    Ok(())
}

pub async fn host_ls(session: &Session, json: bool) -> Result {
    let fetch = async || Ok(session.client.hosts().await?);
    let hosts = verified::read(session, fetch, async |verifier, hosts| {
        let rows: Vec<_> = hosts.iter().map(|h| (h.host, h)).collect();
        verifier.rows("hosts", &rows).await
    })
    .await?;
    if output::ids_only() {
        hosts.iter().for_each(|h| output::data(h.host));
        return Ok(());
    }
    if json {
        output::json(&hosts);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = hosts
        .iter()
        .map(|h| {
            let closed = crate::host_hours::closed(h);
            let state = match (h.online, h.cordoned) {
                _ if closed.is_some() => closed.unwrap_or_default(),
                (true, _) if h.draining => "online, is being drained".to_string(),
                (true, false) if h.trusted_ms > units::now_ms() => {
                    "online, gets new work later: it was silent".to_string()
                }
                (true, false) => "online".to_string(),
                (true, true) => "online, takes no new work".to_string(),
                (false, _) => {
                    format!(
                        "offline {}",
                        units::age(units::now_ms().saturating_sub(h.last_seen_ms))
                    )
                }
            };
            let (free, all) = (&h.free, &h.offer.capacity);
            vec![
                h.name.clone(),
                h.host.short(),
                state,
                h.allocations.to_string(),
                format!(
                    "{}/{}",
                    words::cores(free.cpu_millis.into()),
                    words::cores(all.cpu_millis.into())
                ),
                format!(
                    "{}/{}",
                    units::bytes(free.memory_bytes),
                    units::bytes(all.memory_bytes)
                ),
                format!(
                    "{}/{}",
                    units::bytes(free.disk_bytes),
                    units::bytes(all.disk_bytes)
                ),
                if h.offer.builds { "yes" } else { "" }.into(),
                h.offer.region.clone(),
                crate::host_price::words(h.offer.price_multiplier_milli),
                reputation(&h.reputation),
                h.earned.to_string(),
            ]
        })
        .collect();
    let headers = [
        "NAME",
        "HOST",
        "STATE",
        "RUNS",
        "FREE CORES",
        "FREE MEMORY",
        "FREE DISK",
        "BUILDS",
        "REGION",
        "PRICE",
        "REPUTATION",
        "EARNED",
    ];
    output::data(output::table(&headers, &rows, &[3, 4, 5, 6, 9, 11]));
    Ok(())
}

/// `0.86: 24h served, 1 silence`: the bound, and what it follows from.
fn reputation(r: &api::Reputation) -> String {
    let mut words = vec![format!("{} served", units::age(r.served_ms))];
    for (milli, one, many) in [
        (r.silences_milli, "silence", "silences"),
        (r.late_milli, "late report", "late reports"),
        (r.flags_milli, "flag of witnesses", "flags of witnesses"),
    ] {
        // What is all but forgotten is not worth a word.
        match (milli + 500) / 1_000 {
            0 => {}
            1 => words.push(format!("1 {one}")),
            count => words.push(format!("{count} {many}")),
        }
    }
    let bound = f64::from(r.reliability_milli) / 1_000.0;
    format!("{bound:.2}: {}", words.join(", "))
}

pub async fn host_show(session: &Session, host: &str) -> Result {
    let fetch = async || Ok(session.client.host(host).await?);
    let host = verified::read(session, fetch, async |verifier, host| {
        verifier.rows("hosts", &[(host.host, host)]).await
    })
    .await?;
    output::json(&host);
    Ok(())
}

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig context ls\n  runrig context create home --url http://10.0.0.5:8700\n  runrig context use dev"
)]
pub enum ContextCommand {
    /// All contexts; the current one has a star
    #[command(alias = "list")]
    Ls,
    /// Make another the current one
    Use { name: String },
    /// One context; the current one if not said
    Show { name: Option<String> },
    /// Forget a context; the key of its account is kept
    Rm { name: String },
    /// A new context with a new account (or the one of --key), made current
    Create {
        name: String,
        /// Of a gateway or validator; several apart by commas
        #[arg(long = "at", value_name = "URL")]
        at: Option<String>,
        /// network.json, as the network's founder published it: pins the key that is trusted
        #[arg(long, value_name = "FILE")]
        network: Option<std::path::PathBuf>,
        /// Replace a context of that name
        #[arg(long)]
        force: bool,
    },
}

pub async fn context(command: &ContextCommand, overrides: &Overrides, json: bool) -> Result {
    let home = Home::open()?;
    let mut config = home.read()?;
    let missing = |name: &str| {
        Failure::new(
            failure::NOT_FOUND,
            format!("context {name}"),
            "there is none",
            "See `runrig context ls`.",
        )
    };
    match command {
        ContextCommand::Ls => {
            let current = overrides.context.clone().or(config.current);
            if output::ids_only() {
                config.contexts.keys().for_each(output::data);
                return Ok(());
            }
            if json {
                let all: Vec<_> = config
                    .contexts
                    .iter()
                    .map(|(name, c)| {
                        serde_json::json!({
                            "name": name, "urls": c.urls, "account": c.account,
                            "current": current.as_ref() == Some(name),
                        })
                    })
                    .collect();
                output::json(&all);
                return Ok(());
            }
            let rows: Vec<Vec<String>> = config
                .contexts
                .iter()
                .map(|(name, c)| {
                    let star = if current.as_ref() == Some(name) {
                        "*"
                    } else {
                        ""
                    };
                    let account = c.account.map(|a| a.to_string()).unwrap_or_default();
                    vec![star.into(), name.clone(), c.urls.join(", "), account]
                })
                .collect();
            output::data(output::table(&["", "NAME", "URL", "ACCOUNT"], &rows, &[]));
        }
        ContextCommand::Use { name } => {
            if !config.contexts.contains_key(name) {
                return Err(missing(name));
            }
            config.current = Some(name.clone());
            home.write(&config)?;
            output::say(format!("context {name} is the current one"));
        }
        ContextCommand::Show { name } => {
            let name = name
                .clone()
                .or(overrides.context.clone())
                .or(config.current);
            let name = name.ok_or_else(|| missing("(none is current)"))?;
            let context = config.contexts.get(&name).ok_or_else(|| missing(&name))?;
            output::json(&serde_json::json!({
                "name": name, "urls": context.urls, "account": context.account,
                "network_key": context.network_key,
                "portal": context.portal,
                "key_file": context.key.or(context.account).map(|a| home.key_path(&a)),
            }));
        }
        ContextCommand::Rm { name } => {
            let Some(context) = config.contexts.remove(name) else {
                return Err(missing(name));
            };
            if config.current.as_ref() == Some(name) {
                config.current = None;
            }
            home.write(&config)?;
            output::say(format!("context {name} is forgotten"));
            if let Some(key) = context.key {
                output::say(format!(
                    "its key {key} may go on to act: its owner takes it back in the portal, or by `runrig account keys revoke`"
                ));
            } else if let Some(account) = context.account {
                output::say(format!(
                    "the key of account {account} is kept in {}; without it its credits are lost",
                    home.key_path(&account).display()
                ));
            }
            if config.current.is_none() && !config.contexts.is_empty() {
                output::say("choose another with `runrig context use NAME`");
            }
        }
        ContextCommand::Create {
            name,
            at,
            network,
            force,
        } => {
            if config.contexts.contains_key(name) && !force {
                return Err(Failure::new(
                    failure::CONFLICT,
                    format!("context {name}"),
                    "there is one of that name",
                    "Choose another name, or say --force.",
                ));
            }
            let file = network
                .as_deref()
                .map(crate::network::read_file)
                .transpose()?;
            let urls: Vec<String> = match (at.as_ref().or(overrides.url.as_ref()), &file) {
                (Some(url), _) => url.split(',').map(|u| u.trim().to_string()).collect(),
                (None, Some(file)) => match &file.gateway {
                    Some(gateway) => vec![gateway.clone()],
                    None => file.validators.iter().map(|v| v.api.clone()).collect(),
                },
                (None, None) => {
                    return Err(Failure::usage(
                        "a context needs a network",
                        "neither --url nor --network was given",
                        format!("Run `runrig context create {name} --url URL`."),
                    ));
                }
            };
            let network_key = match file {
                Some(file) => file.network_key,
                None => {
                    let key = sdk::Client::new(urls.clone())?.status().await?.network_key;
                    output::say(format!(
                        "trusting the network key {key} on first use; compare it with the founder's"
                    ));
                    key
                }
            };
            let key = match &overrides.key {
                Some(path) => crate::context::key_file(path)?,
                None => SecretKey::random(&mut rand::rng()),
            };
            let account = AccountId::of(&key.public());
            let context = Context {
                urls,
                account: Some(account),
                network_key: Some(network_key),
                ..Context::default()
            };
            home.adopt(name, context, Some(&key))?;
            if json {
                output::json(&serde_json::json!({"name": name, "account": account}));
            } else {
                output::data(account);
                output::say(format!(
                    "context {name} is the current one; its key lies in {}",
                    home.key_path(&account).display()
                ));
            }
        }
    }
    Ok(())
}
