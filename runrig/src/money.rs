//! `bill`, `receipt`, `wallet`: what was used, what it cost, and that it is true.

use std::collections::BTreeMap;

use api::{Bill, BillLine, EarlierLine, EventView};
use clap::{Args, Subcommand};
use futures::StreamExt;
use ledger::{Call, Event};
use sdk::EventFilter;
use serde::Serialize;
use types::{AccountId, Amount, ReceiptId};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::job::Jobs;
use crate::output;
use crate::proof;
use crate::units;
use crate::verified;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig bill\n  runrig bill shop\n  runrig bill --json | jq -r .total"
)]
pub struct BillArgs {
    /// Only this project or deployment (removed ones by id: d-1)
    project: Option<String>,
}

#[derive(Serialize)]
struct BillJson<'a> {
    owner: AccountId,
    height: u64,
    total: Amount,
    lines: &'a [BillLine],
    /// Sums of what ended before.
    earlier: &'a [EarlierLine],
    tariff: ledger::Tariff,
}

pub async fn bill(session: &Session, args: &BillArgs, json: bool) -> Result {
    let account = session.account()?;
    let deployment = match &args.project {
        None => None,
        Some(name) if name.starts_with("d-") && name.parse::<types::DeploymentId>().is_ok() => {
            name.parse().ok()
        }
        Some(name) => {
            let jobs = Jobs::of(session).await?;
            Some(jobs.find(name)?.deployment.deployment)
        }
    };
    let bill = session.client.bill(account, deployment).await?;
    if bill.sum() != bill.total {
        return Err(Failure::new(
            failure::SIGNATURE,
            "the bill does not add up",
            format!(
                "its lines make {}, its total says {}",
                bill.sum(),
                bill.total
            ),
            "Ask another validator: --url.",
        ));
    }
    if json {
        output::json(&BillJson {
            owner: bill.owner,
            height: bill.height,
            total: bill.total,
            lines: &bill.lines,
            earlier: &bill.earlier,
            tariff: bill.tariff,
        });
        return Ok(());
    }
    let headers = [
        "PROJECT",
        "RELEASE",
        "SERVICE",
        "ALLOCATION",
        "RESOURCE",
        "USAGE",
        "UNIT",
        "RATE",
        "AMOUNT",
    ];
    let rows = rows(&bill);
    output::data(output::table(&headers, &rows, &[1, 5, 7, 8]));
    output::data(format!(
        "total {} credits at height {}",
        bill.total, bill.height
    ));
    if let Some(receipt) = bill.lines.iter().rev().find_map(|l| l.receipts.last()) {
        output::say(format!("Check any line: runrig receipt {receipt} --verify"));
    }
    Ok(())
}

/// What ended long ago first: it is the oldest.
fn rows(bill: &Bill) -> Vec<Vec<String>> {
    let earlier = bill.earlier.iter().map(|l| {
        let (first, last) = l.releases;
        vec![
            l.project.clone(),
            match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            },
            l.service.clone(),
            format!("{} earlier", l.allocations),
            l.resource.name().into(),
            shortened(&l.usage),
            l.unit.clone(),
            "-".into(),
            l.amount.to_string(),
        ]
    });
    let lines = bill.lines.iter().map(|l| {
        vec![
            l.project.clone(),
            l.release.to_string(),
            l.service.clone(),
            l.allocation.to_string(),
            l.resource.name().into(),
            shortened(&l.usage),
            l.unit.clone(),
            l.rate.to_string(),
            l.amount.to_string(),
        ]
    });
    earlier.chain(lines).collect()
}

/// Usage has up to 33 exact decimals; people read six (`--json` has them all).
fn shortened(decimal: &str) -> String {
    match decimal.split_once('.') {
        Some((whole, part)) if part.len() > 6 => format!("{whole}.{}…", &part[..6]),
        _ => decimal.to_string(),
    }
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig receipt r-12\n  runrig receipt r-12 --verify")]
pub struct ReceiptArgs {
    /// The receipt, written r-12
    id: ReceiptId,
    /// Network key, hex; that of the context if not said
    #[arg(long, value_name = "HEX")]
    network_key: Option<String>,
}

#[derive(Serialize)]
struct Verified<'a> {
    receipt: Option<&'a ledger::lease::Receipt>,
    verified: bool,
    steps: &'a [sdk::Step],
}

pub async fn receipt(session: &Session, args: &ReceiptArgs, json: bool) -> Result {
    if session.verify.is_none() {
        let receipt = session.client.receipt(args.id).await?;
        if json {
            output::json(&receipt);
        } else {
            output::data(receipt_words(&receipt));
        }
        return Ok(());
    }
    let key = proof::trusted_key(session, args.network_key.as_ref()).await?;
    let proof = session.client.receipt_proof(args.id).await?;
    // The host's own record is a bonus: the host may be gone.
    let usage = match session.client.receipt(args.id).await {
        Ok(receipt) => {
            session
                .client
                .usage(receipt.allocation, receipt.sequence)
                .await
        }
        Err(error) => Err(error),
    };
    let (steps, receipt) = sdk::verify_receipt(&key, args.id, &proof, usage.as_ref().ok());
    let verified = receipt.is_some();
    if json {
        output::json(&Verified {
            receipt: receipt.as_ref(),
            verified,
            steps: &steps,
        });
    } else {
        if let Some(receipt) = &receipt {
            output::data(receipt_words(receipt));
        }
        proof::tell(&steps);
        if let Err(error) = &usage {
            output::say(format!("the host's own record was not checked: {error}"));
        }
    }
    proof::verdict(
        verified,
        &steps,
        format!("receipt {} does not hold", args.id),
        "Do not trust who served it; ask another with --url.",
    )
}

fn receipt_words(receipt: &ledger::lease::Receipt) -> String {
    let mut text = format!(
        "receipt {}: {} of {} ({}, release {}) on host {}\nfrom {} to {}, report {} record {}\n",
        receipt.id,
        receipt.allocation,
        receipt.deployment,
        receipt.service,
        receipt.release,
        receipt.host,
        units::time(receipt.from_ms),
        units::time(receipt.until_ms),
        receipt.interval,
        receipt.sequence,
    );
    let rows: Vec<Vec<String>> = receipt
        .charges
        .iter()
        .map(|c| {
            vec![
                c.resource.name().into(),
                c.resource.quoted(c.counted),
                c.resource.unit().into(),
                c.rate.to_string(),
                c.amount.to_string(),
            ]
        })
        .collect();
    let headers = ["RESOURCE", "USAGE", "UNIT", "RATE", "AMOUNT"];
    text.push_str(&output::table(&headers, &rows, &[1, 3, 4]));
    text.push_str(&format!(
        "\n{} credits from {} to {}",
        receipt.amount, receipt.payer, receipt.payee
    ));
    text
}

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig wallet balance\n  runrig wallet topup\n  runrig wallet send ACCOUNT 2.5 --memo thanks"
)]
pub enum Wallet {
    /// What the account has, and how much of it is held for deployments
    Balance,
    /// Pay an account
    Send {
        to: AccountId,
        /// Credits, for example 2.5
        amount: Amount,
        #[arg(long, default_value = "")]
        memo: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Take the test network's gift, once per account
    #[command(alias = "faucet")]
    Topup,
    /// Payments and charges, oldest first
    History,
}

/// An account as it is, verified if that is asked for.
pub async fn account(session: &Session, id: AccountId) -> Result<api::AccountView> {
    let fetch = async || Ok(session.client.account(id).await?);
    verified::read(session, fetch, async |verifier, view| {
        verifier.rows("accounts", &[(id, view)]).await
    })
    .await
}

pub async fn wallet(session: &Session, command: &Wallet, json: bool) -> Result {
    match command {
        Wallet::Balance => {
            let view = account(session, session.account()?).await?;
            if json {
                output::json(&view);
            } else {
                output::data(format!("{} credits", view.balance));
                output::say(format!(
                    "account {}: {} spendable, {} held for deployments",
                    view.account, view.spendable, view.held
                ));
            }
            Ok(())
        }
        Wallet::Send {
            to,
            amount,
            memo,
            yes,
        } => {
            let from = session.account()?;
            let question = format!(
                "Send {amount} credits from {} to {to} ({})?",
                from.short(),
                session.name
            );
            if !yes {
                output::confirm(&question, "wallet send").await?;
            }
            let call = Call::Account(ledger::account::Call::Transfer {
                to: *to,
                amount: *amount,
                memo: memo.clone(),
            });
            paid(session, call, json).await
        }
        Wallet::Topup => {
            let to = session.account()?;
            let call = Call::Account(ledger::account::Call::Faucet { to });
            match paid(session, call, json).await {
                Err(mut failure) if failure.exit == failure::CONFLICT => {
                    failure.next = next_for_funds(session).await;
                    Err(failure)
                }
                paid => paid,
            }
        }
        Wallet::History => history(session, json).await,
    }
}

/// The next act of an account that lacks credits: one that is known to work, where there is one.
pub async fn next_for_funds(session: &Session) -> String {
    let Ok(account) = session.account() else {
        return "See `runrig wallet balance`.".into();
    };
    let view = session.client.account(account).await;
    let gift = view.map_or(Amount::ZERO, |v| v.gift);
    if !gift.is_zero() {
        return format!("Run `runrig wallet topup`: this network gives it {gift} test credits.");
    }
    let gives = session
        .client
        .params()
        .await
        .map_or(Amount::ZERO, |p| p.faucet);
    let url = session.client.url();
    let send = format!("`runrig wallet send {account} AMOUNT`");
    if gives.is_zero() {
        return format!(
            "Have credits sent to it by {send}, or free what is held: `runrig ls`, then `runrig down PROJECT`."
        );
    }
    format!(
        "It has had its test credits. Another account has its own to give: \
         `runrig context create giver --url {url} && runrig wallet topup && runrig wallet send {account} 500 --yes && runrig context use {}`. \
         Or free what is held: `runrig ls`, then `runrig down PROJECT`.",
        session.name
    )
}

async fn paid(session: &Session, call: Call, json: bool) -> Result {
    let applied = session.submit(call).await?;
    let account = session.client.account(session.account()?).await?;
    if json {
        let value = serde_json::json!({
            "transaction": applied.id, "height": applied.height, "fee": applied.fee,
            "balance": account.balance, "spendable": account.spendable,
        });
        output::json(&value);
    } else {
        output::data(format!("{} credits", account.balance));
        let fee = match applied.fee.is_zero() {
            true => String::new(),
            false => format!(", for a fee of {} credits", applied.fee),
        };
        output::say(format!(
            "transaction {} at height {}{fee}",
            applied.id,
            applied.height.unwrap_or(0)
        ));
    }
    Ok(())
}

/// One line of `wallet history`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Movement {
    at_ms: u64,
    height: u64,
    /// `received`, `sent`, `charged` or `earned`.
    kind: &'static str,
    amount: Amount,
    with: String,
    memo: String,
}

/// What an event moved from or to `account`; a charge of one's own host moves nothing.
fn movement(account: AccountId, view: &EventView) -> Option<Movement> {
    let (kind, amount, with, memo) = match &view.event {
        Event::Account(ledger::account::Event::Transferred {
            from,
            to,
            amount,
            memo,
        }) if from != to => {
            let (kind, with) = if *to == account {
                ("received", from)
            } else {
                ("sent", to)
            };
            (kind, *amount, with.to_string(), memo.clone())
        }
        Event::Lease(ledger::lease::Event::Settled(r)) if r.payer != r.payee => {
            let (kind, with) = if r.payer == account {
                ("charged", r.payee)
            } else if r.payee == account {
                ("earned", r.payer)
            } else {
                return None;
            };
            let memo = format!("{} {} {}", r.id, r.allocation, r.service);
            (kind, r.amount, with.to_string(), memo)
        }
        _ => return None,
    };
    Some(Movement {
        at_ms: view.time_ms,
        height: view.height,
        kind,
        amount,
        with,
        memo,
    })
}

async fn history(session: &Session, json: bool) -> Result {
    let account = session.account()?;
    let past = session.client.past_events(EventFilter::of(account), 0);
    futures::pin_mut!(past);
    let mut charged: BTreeMap<&'static str, u128> = BTreeMap::new();
    while let Some(event) = past.next().await {
        let Some(movement) = movement(account, &event?) else {
            continue;
        };
        *charged.entry(movement.kind).or_default() += movement.amount.0;
        if json {
            output::json_line(&movement);
        } else if !movement.amount.is_zero() {
            output::data(format!(
                "{}  {:<8}  {:>20}  {}  {}",
                units::time(movement.at_ms),
                movement.kind,
                movement.amount.to_string(),
                movement.with,
                output::printable(&movement.memo)
            ));
        }
    }
    for (kind, sum) in charged {
        output::say(format!("{kind} {} in all", Amount(sum)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payments_are_seen_from_ones_own_side() {
        let (me, other) = (AccountId([1; 20]), AccountId([2; 20]));
        let event = |from, to| EventView {
            sequence: 0,
            height: 1,
            index: 0,
            time_ms: 0,
            event: Event::Account(ledger::account::Event::Transferred {
                from,
                to,
                amount: Amount::credits(1),
                memo: String::new(),
            }),
        };
        let kind = |view: &EventView| movement(me, view).map(|m| m.kind);
        assert_eq!(kind(&event(me, other)), Some("sent"));
        assert_eq!(kind(&event(other, me)), Some("received"));
        assert_eq!(kind(&event(me, me)), None);
    }

    #[test]
    fn long_decimals_are_cut_for_people_only() {
        assert_eq!(shortened("1.123456789"), "1.123456…");
        assert_eq!(shortened("12"), "12");
    }
}
