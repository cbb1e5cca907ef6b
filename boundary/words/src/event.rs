//! What the ledger did.

mod network;

use ledger::{Event, account, deployment, host, lease, limit};
use types::Hours;

use crate::{Names, account as who, both, brief, credits, plural, sentence, span, state, utc};

/// What happened, as a sentence without its full stop.
pub fn event(event: &Event, names: &Names) -> String {
    match event {
        Event::Account(event) => sentence(accounts(event)),
        Event::Limit(event) => sentence(limits(event)),
        Event::Host(event) => hosts(event, names),
        Event::Deployment(event) => deployments(event, names),
        Event::Lease(event) => leases(event, names),
        Event::Validator(event) => sentence(network::validated(event)),
        Event::Vote(event) => sentence(network::voted(event)),
        Event::Lottery(event) => sentence(network::played(event)),
        Event::Duty(event) => sentence(network::paid(event)),
        Event::Lots(event) => sentence(network::drawn(event)),
        Event::Witness(event) => sentence(network::flagged(event, names)),
    }
}

fn accounts(event: &account::Event) -> String {
    use account::Event as E;
    match event {
        E::Transferred {
            from,
            to,
            amount,
            memo,
        } => match memo.as_str() {
            "faucet" => format!("{} got {amount} test credits", who(to)),
            "" => format!("{} sent {amount} credits to {}", who(from), who(to)),
            memo => format!("{} sent {amount} credits to {}: {memo}", who(from), who(to)),
        },
        E::Granted {
            account,
            to,
            role,
            limit,
            expires_ms,
        } => format!(
            "{} may act for {} as {}{}",
            who(to),
            who(account),
            role.name(),
            both::reach(limit.as_ref(), *expires_ms)
        ),
        E::Revoked { account, from } => {
            format!("{} acts no more for {}", who(from), who(account))
        }
    }
}

fn limits(event: &limit::Event) -> String {
    use limit::{Event as E, Notice};
    match event {
        E::Set {
            account,
            alert,
            limit,
            order,
        } => format!(
            "{} set its limits: {}",
            who(account),
            both::limits(*alert, *limit, order)
        ),
        E::Told {
            account,
            notice,
            of,
            spent,
        } => {
            let what = match notice {
                Notice::Alert => format!("its alert of {of} credits"),
                Notice::Percent(percent) => format!("{percent} % of its limit of {of} credits"),
            };
            format!(
                "{} reached {what} with {spent} credits this month",
                who(account)
            )
        }
    }
}

fn hosts(event: &host::Event, names: &Names) -> String {
    use host::Event as E;
    match event {
        E::HostRegistered { name, .. } => format!("Host {name} registered"),
        E::HostOnline { host } => format!("Host {} is back", names.host(host)),
        E::HostOffline { host, excused, .. } => {
            let hours = if *excused { ", outside its hours" } else { "" };
            format!("Host {} fell silent{hours}", names.host(host))
        }
        E::HostCordoned { host, cordoned } => both::cordoned(names, host, *cordoned),
        E::HostDraining { host, draining } => both::drained(names, host, *draining),
        E::HostPriced {
            host,
            price_multiplier_milli,
        } => both::priced(names, host, *price_multiplier_milli),
        E::HostAllotted { host, allotment } => both::allotted(names, host, allotment),
        E::HostHours { host, hours } => both::open_in(names, host, hours.as_ref()),
        E::HostOpened { host, until_ms, .. } => {
            let until = until_ms.map(|ms| format!(" until {}", Hours::moment(ms)));
            let until = until.unwrap_or_default();
            format!("Host {} opened, and takes work{until}", names.host(host))
        }
        E::HostClosed { host, until_ms } => format!(
            "Host {} closed until {}: what ran there moves",
            names.host(host),
            Hours::moment(*until_ms)
        ),
        E::HostInvited {
            owner,
            token,
            until_ms,
        } => both::invited(owner, token, *until_ms),
        E::HostUninvited { owner, token } => both::uninvited(owner, token),
        E::HostJoined {
            host,
            owner,
            token,
            made_ms,
        } => format!(
            "Host {} joined for {} with token {}, made at {} UTC",
            names.host(host),
            who(owner),
            brief(&token.to_string()),
            utc(*made_ms)
        ),
        E::HostLeft { host, bond, .. } => format!(
            "Host {} left; its bond of {bond} went to its owner",
            names.host(host)
        ),
    }
}

fn deployments(event: &deployment::Event, names: &Names) -> String {
    use deployment::Event as E;
    let of = |deployment| names.project(deployment);
    match event {
        E::Deployed {
            project,
            release,
            changed,
            ..
        } => match changed.as_slice() {
            [] => format!("{project} release {release} was deployed"),
            changed => format!(
                "{project} release {release} was deployed: {}",
                changed.join(", ")
            ),
        },
        E::Removed { deployment } => format!("{} was removed", of(deployment)),
        E::Closed { deployment, refund } => format!(
            "{} has ended; {refund} credits of escrow went back",
            of(deployment)
        ),
        E::SetRunning {
            deployment,
            service,
            running,
        } => both::run(names, deployment, service, *running),
        E::Restarted {
            deployment,
            service,
        } => both::restarted(names, deployment, service),
        E::AllocationPlaced {
            deployment,
            service,
            replica,
            host,
            ..
        } => format!(
            "{} {service}.{replica} was placed on {}",
            of(deployment),
            names.host(host)
        ),
        E::AllocationLeaves {
            deployment,
            service,
            replica,
            ..
        } => format!(
            "{} {service}.{replica} is being replaced or removed",
            of(deployment)
        ),
        E::AllocationStays {
            deployment,
            service,
            replica,
            ..
        } => format!("{} {service}.{replica} stays after all", of(deployment)),
        E::TriedAgain {
            deployment,
            service,
            replica,
            host,
            times,
            why,
            ..
        } => format!(
            "{} {service}.{replica} on {} {why}; it is tried again, elsewhere if possible ({})",
            of(deployment),
            names.host(host),
            plural((*times).into(), "failure", "failures")
        ),
        E::Unplaced {
            deployment,
            service,
            replica,
            why,
        } => format!("{} {service}.{replica} has no place: {why}", of(deployment)),
        E::Scaled {
            deployment,
            service,
            from,
            to,
            why,
        } => format!(
            "{} {service} goes from {from} to {}: {why}",
            of(deployment),
            plural((*to).into(), "replica", "replicas")
        ),
        E::ReleaseGood {
            deployment,
            release,
        } => format!("{} release {release} is good", of(deployment)),
        E::ReleaseStuck {
            deployment,
            release,
            why,
        } => format!("{} release {release} is stuck: {why}", of(deployment)),
        E::RolledBack {
            deployment,
            from,
            to,
            release,
            why,
        } => {
            let why = if why.is_empty() {
                "on request"
            } else {
                why.as_str()
            };
            format!(
                "{} went from release {from} back to {to}, as release {release}: {why}",
                of(deployment)
            )
        }
        E::FundsLow {
            deployment,
            until_ms,
        } => format!(
            "Funds of {} run low: they last until {} UTC",
            of(deployment),
            utc(*until_ms)
        ),
        E::Frozen { deployment } => format!(
            "{} is frozen for lack of funds; its data is kept",
            of(deployment)
        ),
        E::Limited { deployment } => format!(
            "{} is stopped by its owner's limit; its data is kept",
            of(deployment)
        ),
        E::Thawed { deployment } => format!("{} runs again", of(deployment)),
    }
}

fn leases(event: &lease::Event, names: &Names) -> String {
    use lease::Event as E;
    match event {
        E::StatusChanged {
            deployment,
            service,
            replica,
            host,
            status,
            ..
        } => {
            let why = match status.message.as_str() {
                "" => String::new(),
                message => format!(": {message}"),
            };
            format!(
                "{} {service}.{replica} on {}: {}{why}",
                names.project(deployment),
                names.host(host),
                state(status)
            )
        }
        E::Settled(receipt) => format!(
            "Host {} was paid {} credits for {} of {} {}",
            names.host(&receipt.host),
            credits(receipt.amount),
            span(receipt.until_ms.saturating_sub(receipt.from_ms)),
            names.project(&receipt.deployment),
            receipt.service,
        ),
        E::LeaseClosed {
            deployment,
            allocation,
            charged,
        } => format!(
            "The lease {allocation} of {} ended; it cost {charged} credits in all",
            names.project(deployment)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use types::{AccountId, Amount, DeploymentId};

    use super::*;

    fn said(event: impl Into<Event>) -> String {
        let names = Names {
            hosts: BTreeMap::from([(AccountId([2; 20]), "barn".into())]),
            projects: BTreeMap::from([(DeploymentId(3), "shop".into())]),
        };
        super::event(&event.into(), &names)
    }

    #[test]
    fn a_sentence_says_what_where_and_why() {
        let deployment = DeploymentId(3);
        let scaled = Event::Deployment(deployment::Event::Scaled {
            deployment,
            service: "web".into(),
            from: 0,
            to: 1,
            why: "a request came".into(),
        });
        assert_eq!(
            said(scaled),
            "shop web goes from 0 to 1 replica: a request came"
        );
        let back = Event::Deployment(deployment::Event::RolledBack {
            deployment,
            from: 2,
            to: 1,
            release: 3,
            why: String::new(),
        });
        assert_eq!(
            said(back),
            "shop went from release 2 back to 1, as release 3: on request"
        );
        let failed = Event::Deployment(deployment::Event::TriedAgain {
            deployment,
            allocation: types::AllocationId(9),
            service: "web".into(),
            replica: 1,
            host: AccountId([2; 20]),
            times: 1,
            why: "could not be started".into(),
        });
        assert_eq!(
            said(failed),
            "shop web.1 on barn could not be started; it is tried again, elsewhere if possible (1 failure)"
        );
    }

    #[test]
    fn a_transfer_carries_its_memo() {
        let sent = |memo: &str| {
            said(Event::Account(account::Event::Transferred {
                from: AccountId([1; 20]),
                to: AccountId([2; 20]),
                amount: Amount::credits(5),
                memo: memo.into(),
            }))
        };
        let words = "Account 010101…0101 sent 5 credits to account 020202…0202";
        assert_eq!(sent(""), words);
        assert_eq!(sent("rent"), format!("{words}: rent"));
        assert_eq!(sent("faucet"), "Account 020202…0202 got 5 test credits");
    }
}
