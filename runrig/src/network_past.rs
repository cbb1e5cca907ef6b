//! `network placements` and `audit`: what had no place, and who signed what.

use std::collections::BTreeMap;
use std::pin::pin;

use api::{BlockView, EventView, TransactionStatus};
use clap::Args;
use futures::StreamExt;
use ledger::Event;
use sdk::{Client, EventFilter};
use serde::Serialize;
use types::AccountId;

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::{output, units};

/// Blocks that are asked for at once.
const AT_ONCE: usize = 8;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig network incidents\n  runrig network placements --since 7d"
)]
pub struct Since {
    /// Only from then on: 10m, 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long, default_value = "24h")]
    since: String,
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig network audit\n  runrig network audit --blocks 10000 --refused\n  runrig network audit --routine --json"
)]
pub struct Audit {
    /// Of so many blocks, the newest
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    blocks: u64,
    /// Only what this account signed, or what was signed on its behalf
    #[arg(long, value_name = "ID")]
    of: Option<AccountId>,
    /// Only what was not accepted
    #[arg(long)]
    refused: bool,
    /// Signs of life and reports of hosts too
    #[arg(long)]
    routine: bool,
}

impl Since {
    pub fn ms(&self) -> Result<u64> {
        let since = units::moment("--since", Some(&self.since))?;
        Ok(since.unwrap_or_default())
    }
}

/// A number from which all events of `since_ms` and later come, in some twenty questions.
async fn first_since(client: &Client, since_ms: u64) -> Result<u64> {
    if is_since(client, 0, since_ms).await? {
        return Ok(0);
    }
    let (mut early, mut step) = (0u64, 1_024u64);
    while !is_since(client, early + step, since_ms).await? {
        early += step;
        step = step.saturating_mul(2);
    }
    let mut end = early + step;
    while end - early > 1_000 {
        let middle = early + (end - early) / 2;
        match is_since(client, middle, since_ms).await? {
            true => end = middle,
            false => early = middle,
        }
    }
    Ok(early)
}

/// Is event number `at` of `since_ms` or later, or not there yet?
async fn is_since(client: &Client, at: u64, since_ms: u64) -> Result<bool> {
    let (events, _) = client.events_page(EventFilter::ALL, at).await?;
    Ok(events.first().is_none_or(|e| e.time_ms >= since_ms))
}

/// Of these and later times, what went wrong.
pub async fn events_since(client: &Client, since_ms: u64) -> Result<Vec<EventView>> {
    let from = first_since(client, since_ms).await?;
    let mut kept = Vec::new();
    let mut past = pin!(client.past_events(EventFilter::ALL, from));
    while let Some(event) = past.next().await {
        let event = event?;
        let wanted = !sdk::incidents(&event.event).is_empty()
            || matches!(
                event.event,
                Event::Deployment(ledger::deployment::Event::Unplaced { .. })
            );
        if wanted && event.time_ms >= since_ms {
            kept.push(event);
        }
    }
    Ok(kept)
}

pub async fn placements(session: &Session, since: &Since, json: bool) -> Result {
    let events = events_since(&session.client, since.ms()?).await?;
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    let mut rows = Vec::new();
    for view in &events {
        let Event::Deployment(ledger::deployment::Event::Unplaced {
            deployment,
            service,
            replica,
            why,
        }) = &view.event
        else {
            continue;
        };
        let found: Vec<String> = ledger::deployment::causes(why)
            .into_iter()
            .map(|(cause, _)| cause)
            .collect();
        for cause in &found {
            *causes.entry(cause.clone()).or_default() += 1;
        }
        rows.push((view.time_ms, deployment, service, replica, found, why));
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(time_ms, deployment, service, replica, causes, why)| {
                serde_json::json!({
                    "time_ms": time_ms, "deployment": deployment, "service": service,
                    "replica": replica, "causes": causes, "why": why,
                })
            })
            .collect();
        output::json(&serde_json::json!({ "causes": causes, "placements": rows }));
        return Ok(());
    }
    let counted: Vec<Vec<String>> = causes
        .iter()
        .map(|(cause, count)| vec![cause.clone(), count.to_string()])
        .collect();
    output::data(output::table(&["CAUSE", "REPLICAS"], &counted, &[1]));
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(time_ms, deployment, service, replica, _, why)| {
            vec![
                units::time(*time_ms),
                deployment.to_string(),
                format!("{service}.{replica}"),
                (*why).clone(),
            ]
        })
        .collect();
    output::data(output::table(
        &["WHEN", "DEPLOYMENT", "REPLICA", "WHY"],
        &rows,
        &[],
    ));
    Ok(())
}

#[derive(Serialize)]
struct Signed {
    height: u64,
    time_ms: u64,
    id: types::Digest,
    kind: String,
    account: Option<AccountId>,
    key: Option<AccountId>,
    /// From the key's account to the one that the call is of.
    on_behalf: Vec<AccountId>,
    accepted: bool,
    why: String,
}

/// `deployment deploy`: the names of a call's variants, as JSON has them.
fn kind(call: &ledger::Call) -> String {
    let mut words = Vec::new();
    let mut value = serde_json::to_value(call).unwrap_or_default();
    for _ in 0..2 {
        match value {
            serde_json::Value::String(name) => {
                words.push(name);
                break;
            }
            serde_json::Value::Object(map) => match map.into_iter().next() {
                Some((name, inner)) => {
                    words.push(name);
                    value = inner;
                }
                None => break,
            },
            _ => break,
        }
    }
    words.join(" ").replace('_', " ")
}

fn is_routine(call: &ledger::Call) -> bool {
    use ledger::{Call, host};
    matches!(
        call,
        Call::Host(host::Call::Heartbeat | host::Call::Announce(_))
            | Call::Lease(_)
            | Call::Witness(_)
    )
}

fn signed(block: &BlockView, args: &Audit) -> Vec<Signed> {
    let wanted = |t: &&api::TransactionView| {
        let routine = t.call.as_ref().is_some_and(is_routine);
        let refused = t.status == TransactionStatus::Rejected;
        let of = |id: AccountId| {
            t.sender == Some(id) || t.signer == Some(id) || t.on_behalf.contains(&id)
        };
        (args.routine || !routine) && (refused || !args.refused) && args.of.is_none_or(of)
    };
    let all = block.transactions.iter().rev().filter(wanted);
    all.map(|t| Signed {
        height: block.height,
        time_ms: block.time_ms,
        id: t.id,
        kind: t.call.as_ref().map(kind).unwrap_or_default(),
        account: t.sender,
        key: t.signer,
        on_behalf: t.on_behalf.clone(),
        accepted: t.status == TransactionStatus::Applied,
        why: t
            .rejection
            .as_ref()
            .map_or_else(String::new, |r| r.why.clone()),
    })
    .collect()
}

pub async fn audit(session: &Session, args: &Audit, json: bool) -> Result {
    let client = session.client.clone();
    let head = client.status().await?.height;
    let from = head.saturating_sub(args.blocks - 1).max(1);
    let mut blocks = futures::stream::iter((from..=head).rev())
        .map(|height| {
            let client = client.clone();
            async move { client.block(height).await }
        })
        .buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(block) = blocks.next().await {
        match block {
            Ok(block) => all.extend(signed(&block, args)),
            // Validators may keep only the newest blocks.
            Err(error) if error.kind() == "not_found" => {
                output::say(format!("older blocks are kept no more: {error}"));
                break;
            }
            Err(error) => return Err(Failure::from(error)),
        }
    }
    if json {
        output::json(&all);
        return Ok(());
    }
    let short = |id: &Option<AccountId>| id.map(|id| id.short()).unwrap_or_default();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|s| {
            vec![
                units::time(s.time_ms),
                s.kind.clone(),
                short(&s.account),
                short(&s.key),
                match s.accepted {
                    true => "accepted".into(),
                    false => s.why.clone(),
                },
            ]
        })
        .collect();
    output::data(output::table(
        &["WHEN", "WHAT", "FOR", "BY THE KEY OF", "RESULT"],
        &rows,
        &[],
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_by_its_variants() {
        let call = ledger::Call::Host(ledger::host::Call::Heartbeat);
        assert_eq!(kind(&call), "host heartbeat");
    }
}
