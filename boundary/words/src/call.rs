//! What was asked of the ledger.

use ledger::{Call, account, deployment, host, lease, limit, lottery, validator, vote, witness};
use types::{AccountId, HostId};

use crate::{Names, account as who, both, brief, bytes, cores, plural, sentence};

/// Every word that [`kind`] says, and the one for what could not be read.
pub const KINDS: [&str; 19] = [
    "transfer",
    "test credits",
    "keys",
    "host registration",
    "heartbeat",
    "host address",
    "host",
    "deploy",
    "rollback",
    "removal",
    "control",
    "status report",
    "usage report",
    "validator",
    "lottery",
    "vote",
    "witness report",
    "limit",
    "unreadable",
];

/// A short word for what is asked, the same for all of its kind.
pub fn kind(call: &Call) -> &'static str {
    match call {
        Call::Account(call) => match call {
            account::Call::Transfer { .. } => "transfer",
            account::Call::Faucet { .. } => "test credits",
            account::Call::Grant { .. } | account::Call::Revoke { .. } => "keys",
        },
        Call::Host(call) => match call {
            host::Call::Register { .. } => "host registration",
            host::Call::Heartbeat => "heartbeat",
            host::Call::Announce(_) => "host address",
            _ => "host",
        },
        Call::Deployment(call) => match call {
            deployment::Call::Deploy { .. } => "deploy",
            deployment::Call::Rollback { .. } => "rollback",
            deployment::Call::Remove { .. } => "removal",
            _ => "control",
        },
        Call::Lease(lease::Call::ReportStatus { .. }) => "status report",
        Call::Lease(lease::Call::ReportUsage { .. }) => "usage report",
        Call::Validator(_) => "validator",
        Call::Lottery(_) => "lottery",
        Call::Vote(_) => "vote",
        Call::Witness(_) => "witness report",
        Call::Limit(_) => "limit",
    }
}

/// What was asked, as a sentence without its full stop. `sender` is who signed it.
pub fn call(call: &Call, sender: &AccountId, names: &Names) -> String {
    sentence(match call {
        Call::Account(call) => accounts(call, sender),
        Call::Limit(limit::Call::Set {
            alert,
            limit,
            order,
            ..
        }) => format!(
            "{} set its limits: {}",
            who(sender),
            both::limits(*alert, *limit, order)
        ),
        Call::Host(call) => hosts(call, sender, names),
        // A project's name is not to be changed by standing first.
        Call::Deployment(call) => return deployments(call, sender, names),
        Call::Lease(call) => reports(call, sender, names),
        Call::Validator(call) => validators(call, sender),
        Call::Vote(vote::Call::Propose { change }) => {
            format!("{} proposed {change}", who(sender))
        }
        Call::Vote(vote::Call::Cast { proposal, yes }) => {
            let said = if *yes { "yes" } else { "no" };
            format!("{} voted {said} on {proposal}", who(sender))
        }
        Call::Lottery(call) => lotteries(call, sender),
        Call::Witness(witness::Call::State(statement)) => format!(
            "{} said as a witness how {} answered",
            who(sender),
            plural(statement.lines.len() as u64, "replica", "replicas")
        ),
    })
}

fn accounts(call: &account::Call, sender: &AccountId) -> String {
    use account::Call as C;
    match call {
        C::Transfer { to, amount, .. } => {
            format!("{} sent {amount} credits to {}", who(sender), who(to))
        }
        C::Faucet { to } => format!("{} asked the faucet for test credits", who(to)),
        C::Grant {
            to,
            role,
            limit,
            expires_ms,
            ..
        } => format!(
            "{} let {} act for it as {}{}",
            who(sender),
            who(to),
            role.name(),
            both::reach(limit.as_ref(), *expires_ms)
        ),
        C::Revoke { from } => format!("{} let {} act for it no more", who(sender), who(from)),
    }
}

fn hosts(call: &host::Call, sender: &AccountId, names: &Names) -> String {
    use host::Call as C;
    let signer: HostId = *sender;
    match call {
        C::Register { name, offer, .. } => format!(
            "host {name} offered {} cores, {} of memory and {} of disk",
            cores(offer.capacity.cpu_millis.into()),
            bytes(offer.capacity.memory_bytes.into()),
            bytes(offer.capacity.disk_bytes.into()),
        ),
        C::Cordon { cordoned } => both::cordoned(names, &signer, *cordoned),
        C::Drain { host, draining } => both::drained(names, host, *draining),
        C::SetPrice {
            host,
            price_multiplier_milli,
        } => both::priced(names, host, *price_multiplier_milli),
        C::SetAllotment { host, allotment } => both::allotted(names, host, allotment),
        C::SetHours { host, hours } => both::open_in(names, host, hours.as_ref()),
        C::Invite { token, until_ms } => both::invited(sender, token, *until_ms),
        C::Uninvite { token } => both::uninvited(sender, token),
        C::Leave => format!("host {} left", names.host(&signer)),
        C::Heartbeat => format!("host {} is there", names.host(&signer)),
        C::Announce(_) => format!("host {} said where others reach it", names.host(&signer)),
        C::Observe { silent, heard } => {
            let hosts = |count: usize| plural(count as u64, "host", "hosts");
            format!(
                "watcher {} ceased to hear {} and heard {} again",
                brief(&sender.to_string()),
                hosts(silent.len()),
                hosts(heard.len())
            )
        }
    }
}

fn deployments(call: &deployment::Call, sender: &AccountId, names: &Names) -> String {
    use deployment::Call as C;
    match call {
        C::Deploy { spec, .. } => sentence(format!(
            "{} deployed {} with {}",
            who(sender),
            spec.project,
            plural(spec.services.len() as u64, "service", "services")
        )),
        C::Rollback { deployment, .. } => format!("{} was rolled back", names.project(deployment)),
        C::Remove { deployment, .. } => {
            format!("{} was removed by its owner", names.project(deployment))
        }
        C::SetRunning {
            deployment,
            service,
            running,
        } => both::run(names, deployment, service, *running),
        C::Restart {
            deployment,
            service,
        } => both::restarted(names, deployment, service),
        C::ReportDemand { lines } => format!(
            "Gateway {} said what is asked of {}",
            brief(&sender.to_string()),
            plural(
                lines.len() as u64,
                "autoscaled service",
                "autoscaled services"
            )
        ),
    }
}

fn reports(call: &lease::Call, sender: &AccountId, names: &Names) -> String {
    let host = names.host(sender);
    let replicas = |count: usize| plural(count as u64, "replica", "replicas");
    match call {
        lease::Call::ReportStatus { statuses, .. } => {
            format!(
                "host {host} reported the state of {}",
                replicas(statuses.len())
            )
        }
        lease::Call::ReportUsage {
            interval, lines, ..
        } => format!(
            "host {host} reported what {} used, report {interval}",
            replicas(lines.len())
        ),
    }
}

fn validators(call: &validator::Call, sender: &AccountId) -> String {
    use validator::Call as C;
    let said = |key| crate::validator(key);
    match call {
        C::Register(registration) => {
            format!("{} entered {}", who(sender), said(&registration.key))
        }
        C::Leave { key, .. } => format!("{} took {} off", who(sender), said(key)),
        C::Accuse(proof) => format!(
            "{} brought proof that {} proposed two blocks for one view",
            who(sender),
            said(&proof.leader)
        ),
    }
}

fn lotteries(call: &lottery::Call, sender: &AccountId) -> String {
    use lottery::Call as C;
    match call {
        C::Create { name, price, .. } => format!(
            "{} opened the lottery {name} at {price} credits an entry",
            who(sender)
        ),
        C::Enter { lottery, count } => format!(
            "{} bought {} in lottery {lottery}",
            who(sender),
            plural((*count).into(), "entry", "entries")
        ),
        C::Close { lottery } => format!("{} closed lottery {lottery}", who(sender)),
        C::Draw { lottery } => {
            format!("{} had the winners of lottery {lottery} drawn", who(sender))
        }
    }
}

#[cfg(test)]
mod tests {
    use types::Amount;

    use super::*;

    #[test]
    fn kinds_are_listed() {
        let limit = Call::Limit(limit::Call::Set {
            alert: None,
            limit: Some(Amount::credits(5)),
            order: vec![],
        });
        let beat = Call::Host(host::Call::Heartbeat);
        let faucet = Call::Account(account::Call::Faucet {
            to: AccountId([1; 20]),
        });
        for call in [beat, faucet, limit] {
            assert!(KINDS.contains(&kind(&call)), "{}", kind(&call));
        }
    }

    #[test]
    fn what_members_and_watchers_sign_is_a_sentence() {
        let said = |c: Call| call(&c, &AccountId([1; 20]), &Names::default());
        let vote = said(Call::Vote(vote::Call::Cast {
            proposal: types::ProposalId(4),
            yes: false,
        }));
        assert_eq!(vote, "Account 010101…0101 voted no on p-4");
        let watched = said(Call::Host(host::Call::Observe {
            silent: vec![AccountId([2; 20])],
            heard: vec![],
        }));
        assert_eq!(
            watched,
            "Watcher 010101…0101 ceased to hear 1 host and heard 0 hosts again"
        );
    }
}
