//! What a call asks for and its event says has happened, in the same words.

use ledger::account::SpendingLimit;
use types::{AccountId, Amount, DeploymentId, HostId, Hours, Resources};

use crate::{Names, account, brief, credits, in_hours, percent, resources, sentence, span, utc};

pub fn cordoned(names: &Names, host: &HostId, cordoned: bool) -> String {
    let what = match cordoned {
        true => "no new work",
        false => "work again",
    };
    format!("Host {} takes {what}", names.host(host))
}

pub fn drained(names: &Names, host: &HostId, draining: bool) -> String {
    let how = match draining {
        true => "is being drained: what runs there moves",
        false => "is no longer drained",
    };
    format!("Host {} {how}", names.host(host))
}

pub fn open_in(names: &Names, host: &HostId, hours: Option<&Hours>) -> String {
    format!("Host {} takes work {}", names.host(host), in_hours(hours))
}

pub fn priced(names: &Names, host: &HostId, milli: u32) -> String {
    format!(
        "Host {} asks {} of the network's rates",
        names.host(host),
        percent(milli)
    )
}

pub fn allotted(names: &Names, host: &HostId, allotment: &Resources) -> String {
    format!("Host {} lends {}", names.host(host), resources(allotment))
}

pub fn run(
    names: &Names,
    deployment: &DeploymentId,
    service: &Option<String>,
    running: bool,
) -> String {
    let how = if running { "started" } else { "stopped" };
    format!("{}{} was {how}", names.project(deployment), part(service))
}

pub fn restarted(names: &Names, deployment: &DeploymentId, service: &Option<String>) -> String {
    format!(
        "{}{} was restarted",
        names.project(deployment),
        part(service)
    )
}

/// Of one service, or of all that a deployment has.
fn part(service: &Option<String>) -> String {
    service
        .as_ref()
        .map(|s| format!("'s {s}"))
        .unwrap_or_default()
}

pub fn invited(owner: &AccountId, token: &AccountId, until_ms: u64) -> String {
    let (token, until) = (brief(&token.to_string()), utc(until_ms));
    sentence(format!(
        "{} lets a machine join with token {token} until {until} UTC",
        account(owner)
    ))
}

pub fn uninvited(owner: &AccountId, token: &AccountId) -> String {
    let token = brief(&token.to_string());
    sentence(format!(
        "{} took token {token} back: no machine joins with it",
        account(owner)
    ))
}

/// How far a grant goes: nothing, where it has neither limit nor end.
pub fn reach(limit: Option<&SpendingLimit>, expires_ms: Option<u64>) -> String {
    let limit = limit.map_or_else(String::new, |limit| {
        let every = match limit.every_ms {
            0 => String::new(),
            every => format!(" in {}", span(every)),
        };
        format!(", up to {} credits{every}", credits(limit.amount))
    });
    let end = expires_ms.map_or_else(String::new, |at| format!(", until {} UTC", utc(at)));
    format!("{limit}{end}")
}

pub fn limits(alert: Option<Amount>, limit: Option<Amount>, order: &[String]) -> String {
    let of = |amount: Option<Amount>| match amount {
        Some(amount) => format!("{amount} credits"),
        None => "none".to_string(),
    };
    let first = match order.is_empty() {
        true => String::new(),
        false => format!(", first to stop: {}", order.join(", ")),
    };
    format!("alert {}, limit {} a month{first}", of(alert), of(limit))
}
