//! `events`: what the ledger did, in words.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::pin::pin;

use api::EventView;
use clap::Args;
use futures::StreamExt;
use ledger::Event;
use sdk::Client;
use types::{HostId, Hours};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::ps::describe;
use crate::{output, units};

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig events\n  runrig events -f --json\n  runrig events --since 1h --all"
)]
pub struct Events {
    /// Go on with what is to come
    #[arg(short, long)]
    follow: bool,
    /// Only from then on: 10m, 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long)]
    since: Option<String>,
    /// Everyone's, not only those of your account
    #[arg(long)]
    all: bool,
}

pub async fn events(session: &Session, args: &Events, json: bool) -> Result {
    let owner = if args.all {
        None
    } else {
        Some(session.account()?)
    };
    let since = units::moment("--since", args.since.as_deref())?;
    let mut names = HostNames::default();
    let mut show = async |event: &EventView| {
        if json {
            output::json_line(event);
        } else {
            names.learn(&session.client, &event.event).await;
            output::data(event_words(event, &names));
        }
    };
    // Following alone starts now; the past is asked for by --since, as `docker events` has it.
    let mut next = None;
    if !args.follow || since.is_some() {
        let mut past = pin!(session.client.past_events(owner, 0));
        while let Some(event) = past.next().await {
            let event = event?;
            next = Some(event.sequence + 1);
            if since.is_none_or(|since| event.time_ms >= since) {
                show(&event).await;
            }
        }
    }
    if !args.follow {
        return Ok(());
    }
    let mut stream = pin!(session.client.events(owner, next));
    while let Some(event) = stream.next().await {
        show(&event?).await;
    }
    Err(Failure::new(
        failure::FAILED,
        "the stream of events has ended",
        "",
        "Try again.",
    ))
}

/// Names of hosts that events speak of, asked for once each.
#[derive(Default)]
struct HostNames(BTreeMap<HostId, String>);

impl HostNames {
    async fn learn(&mut self, client: &Client, event: &Event) {
        if let Event::Host(ledger::host::Event::HostRegistered { host, name, .. }) = event {
            self.0.insert(*host, name.clone());
        }
        let Some(host) = host_of(event) else { return };
        if let Entry::Vacant(unknown) = self.0.entry(host) {
            let known = client.host(&host.to_string()).await;
            // One that has left is known by its id.
            unknown.insert(known.map_or_else(|_| host.short(), |known| known.name));
        }
    }

    fn of(&self, host: &HostId) -> String {
        self.0.get(host).cloned().unwrap_or_else(|| host.short())
    }
}

/// The host that an event's words name.
fn host_of(event: &Event) -> Option<HostId> {
    match event {
        Event::Host(event) => event.host(),
        Event::Witness(ledger::witness::Event::HostFlagged { host, .. })
        | Event::Deployment(ledger::deployment::Event::AllocationPlaced { host, .. }) => {
            Some(*host)
        }
        _ => None,
    }
}

fn limit(event: &ledger::limit::Event) -> String {
    use ledger::limit::{Event, Notice};
    let or_none = |amount: &Option<types::Amount>| match amount {
        Some(amount) => amount.to_string(),
        None => "none".into(),
    };
    match event {
        Event::Set {
            account,
            alert,
            limit,
            order,
        } => {
            let first = match order.is_empty() {
                true => String::new(),
                false => format!(", first to stop: {}", order.join(", ")),
            };
            format!(
                "{} set alert {} and limit {} a month{first}",
                account.short(),
                or_none(alert),
                or_none(limit)
            )
        }
        Event::Told {
            account,
            notice,
            spent,
            of,
        } => {
            let what = match notice {
                Notice::Alert => format!("the alert of {of} is reached"),
                Notice::Percent(percent) => format!("{percent} % of the limit of {of} are reached"),
            };
            format!(
                "{} spent {spent} credits this month: {what}",
                account.short()
            )
        }
    }
}

fn flagged(host: &HostId, flag: &ledger::witness::Flag, hosts: &HostNames) -> String {
    format!(
        "host {} lost reputation: {} of {} witnesses got no answer from what it said was running ({} of {})",
        hosts.of(host),
        flag.witnesses.len(),
        flag.drawn,
        flag.saw,
        flag.allocation
    )
}

fn event_words(view: &EventView, hosts: &HostNames) -> String {
    use ledger::account::Event as A;
    use ledger::deployment::Event as D;
    use ledger::host::Event as H;
    use ledger::lease::Event as L;
    use ledger::lots::Event as O;
    use ledger::validator::Event as V;
    let brief = |key: &types::PublicKey| key.to_string().chars().take(12).collect::<String>();
    let of = |service: &Option<String>| service.clone().unwrap_or_else(|| "all services".into());
    let words = match &view.event {
        Event::Account(A::Transferred {
            from,
            to,
            amount,
            memo,
        }) => format!(
            "{amount} credits from {} to {} {memo}",
            from.short(),
            to.short()
        ),
        Event::Validator(event) => match event {
            V::ValidatorRegistered {
                key, bond, until, ..
            } => format!(
                "validator {} entered with a bond of {bond} credits, good for drawings up to epoch {until}",
                brief(key)
            ),
            V::ValidatorLeaving { key, from, .. } => {
                format!(
                    "validator {} leaves, and sits no more from epoch {from}",
                    brief(key)
                )
            }
            V::BondReturned { key, to, amount } => format!(
                "validator {} is gone: {amount} credits of bond to {}",
                brief(key),
                to.short()
            ),
            V::ValidatorConvicted {
                key,
                epoch,
                view,
                lost,
                finder,
                reward,
                ..
            } => format!(
                "validator {} is convicted of two blocks for view {view} of epoch {epoch}: {lost} credits of bond lost, {reward} of them to {}",
                brief(key),
                finder.short()
            ),
        },
        Event::Vote(event) => vote(event),
        Event::Lottery(event) => lottery(event),
        Event::Account(A::Granted {
            account, to, role, ..
        }) => format!(
            "{} may act for {} as {}",
            to.short(),
            account.short(),
            role.name()
        ),
        Event::Account(A::Revoked { account, from }) => {
            format!("{} acts no more for {}", from.short(), account.short())
        }
        Event::Limit(event) => limit(event),
        Event::Duty(ledger::duty::Event::Paid { epoch, fees }) => {
            format!("{fees} credits of fees went to those who did the duties of epoch {epoch}")
        }
        Event::Witness(ledger::witness::Event::HostFlagged { host, flag }) => {
            flagged(host, flag, hosts)
        }
        Event::Lots(O::CandidatesFrozen { epoch, count, .. }) => {
            format!("{count} candidates for the committee of epoch {epoch}")
        }
        Event::Lots(O::Drawn {
            epoch,
            beacon,
            lineup,
        }) => {
            let seats = lineup.committee.len();
            match beacon {
                Some(_) => format!("{seats} validators drawn to sit in epoch {epoch}"),
                None => format!("{seats} validators go on in epoch {epoch}: no beacon in time"),
            }
        }
        Event::Host(event) => match event {
            H::HostRegistered { name, host, .. } => {
                format!("host {name} ({}) registered", host.short())
            }
            H::HostOnline { host } => format!("host {} online", hosts.of(host)),
            H::HostOffline { host, excused, .. } => {
                let hours = if *excused { ", outside its hours" } else { "" };
                format!("host {} offline{hours}", hosts.of(host))
            }
            H::HostCordoned { host, cordoned } => {
                let words = if *cordoned {
                    "takes no new work"
                } else {
                    "takes work again"
                };
                format!("host {} {words}", hosts.of(host))
            }
            H::HostDraining { host, draining } => {
                let words = if *draining {
                    "is drained: what runs there moves"
                } else {
                    "is drained no more"
                };
                format!("host {} {words}", hosts.of(host))
            }
            H::HostPriced {
                host,
                price_multiplier_milli,
            } => {
                let percent = f64::from(*price_multiplier_milli) / 10.0;
                format!(
                    "host {} asks {percent} % of the network's rates",
                    hosts.of(host)
                )
            }
            H::HostAllotted { host, allotment } => {
                format!(
                    "host {} lends {}",
                    hosts.of(host),
                    crate::host_set::words(allotment)
                )
            }
            H::HostHours { host, hours } => match hours {
                Some(hours) => format!("host {} takes work {hours} (UTC)", hosts.of(host)),
                None => format!("host {} takes work always", hosts.of(host)),
            },
            H::HostOpened { host, until_ms, .. } => {
                let until = until_ms.map(|ms| format!(" until {}", Hours::moment(ms)));
                let until = until.unwrap_or_default();
                format!("host {} opens{until}", hosts.of(host))
            }
            H::HostClosed { host, until_ms } => format!(
                "host {} closes until {}: what runs there moves",
                hosts.of(host),
                Hours::moment(*until_ms)
            ),
            H::HostInvited {
                owner,
                token,
                until_ms,
            } => format!(
                "account {} lets a machine join with token {} until {}",
                owner.short(),
                token.short(),
                units::time(*until_ms)
            ),
            H::HostUninvited { owner, token } => format!(
                "account {} took token {} back: no machine joins with it",
                owner.short(),
                token.short()
            ),
            H::HostJoined {
                host,
                owner,
                token,
                made_ms,
            } => format!(
                "host {} joined for account {} with token {}, made at {}",
                hosts.of(host),
                owner.short(),
                token.short(),
                units::time(*made_ms)
            ),
            H::HostLeft { host, bond, .. } => {
                format!(
                    "host {} left; its bond of {bond} went to its owner",
                    hosts.of(host)
                )
            }
        },
        Event::Deployment(event) => match event {
            D::Deployed {
                deployment,
                project,
                release,
                changed,
                ..
            } => format!(
                "{project} ({deployment}) release {release}: {}",
                changed.join(", ")
            ),
            D::Removed { deployment } => format!("{deployment} removed"),
            D::Closed { deployment, refund } => {
                format!("{deployment} closed, {refund} credits back")
            }
            D::SetRunning {
                deployment,
                service,
                running,
            } => {
                let words = if *running { "to run" } else { "to stop" };
                format!("{deployment} {} {words}", of(service))
            }
            D::Restarted {
                deployment,
                service,
            } => format!("{deployment} {} to restart", of(service)),
            D::AllocationPlaced {
                deployment,
                allocation,
                service,
                replica,
                host,
            } => format!(
                "{deployment} {service}.{replica} placed as {allocation} on {}",
                hosts.of(host)
            ),
            D::AllocationLeaves {
                deployment,
                allocation,
                service,
                replica,
            } => format!("{deployment} {service}.{replica} ({allocation}) leaves"),
            D::Unplaced {
                deployment,
                service,
                replica,
                why,
            } => format!("{deployment} {service}.{replica} has no place yet: {why}"),
            D::TriedAgain {
                deployment,
                allocation,
                service,
                replica,
                host,
                times,
                why,
            } => format!(
                "{deployment} {service}.{replica} ({allocation}) on {} {why}; tried again, failures so far: {times}",
                hosts.of(host)
            ),
            D::AllocationStays {
                deployment,
                allocation,
                service,
                replica,
            } => format!("{deployment} {service}.{replica} ({allocation}) stays after all"),
            D::Scaled {
                deployment,
                service,
                from,
                to,
                why,
            } => format!("{deployment} {service} from {from} to {to} replicas: {why}"),
            D::ReleaseGood {
                deployment,
                release,
            } => format!("{deployment} release {release} is good"),
            D::ReleaseStuck {
                deployment,
                release,
                why,
            } => format!("{deployment} release {release} is stuck: {why}"),
            D::RolledBack {
                deployment,
                from,
                to,
                release,
                why,
            } => {
                let because = if why.is_empty() { "on request" } else { why };
                format!(
                    "{deployment} back from release {from} to {to}, as release {release}: {because}"
                )
            }
            D::FundsLow {
                deployment,
                until_ms,
            } => format!("{deployment} funds last until {}", units::time(*until_ms)),
            D::Frozen { deployment } => {
                format!("{deployment} frozen for lack of funds; all is kept")
            }
            D::Limited { deployment } => {
                format!("{deployment} stopped by its owner's limit; all is kept")
            }
            D::Thawed { deployment } => format!("{deployment} runs again"),
        },
        Event::Lease(event) => match event {
            L::StatusChanged {
                deployment,
                allocation,
                service,
                replica,
                status,
                ..
            } => {
                let state = describe(
                    status.state,
                    status.health,
                    status.exit_code,
                    status.oom_killed,
                );
                let text = format!(
                    "{deployment} {service}.{replica} ({allocation}) {state} {}",
                    status.message
                );
                text.trim_end().to_string()
            }
            L::Settled(r) => format!(
                "{} {} ({}) charged {}",
                r.deployment, r.service, r.allocation, r.amount
            ),
            L::LeaseClosed {
                deployment,
                allocation,
                charged,
            } => format!("{deployment} {allocation} ended, {charged} credits in all"),
        },
    };
    let time = output::dim(&units::time(view.time_ms));
    format!("{time}  {}", output::printable(&words))
}
fn vote(event: &ledger::vote::Event) -> String {
    use ledger::vote::{Event as V, Phase};
    match event {
        V::Proposed {
            proposal, members, ..
        } => format!("{proposal} proposed: {members} members may vote"),
        V::Cast {
            proposal,
            account,
            yes,
        } => {
            let said = if *yes { "yes" } else { "no" };
            format!("account {} says {said} to {proposal}", account.short())
        }
        V::Moved { proposal, phase } => match phase {
            Phase::Open => format!("{proposal} is open"),
            Phase::Accepted { from } => {
                format!("{proposal} accepted: it counts from height {from}")
            }
            Phase::Rejected => format!("{proposal} rejected"),
            Phase::Done { since } => format!("{proposal} counts since height {since}"),
        },
    }
}

fn lottery(event: &ledger::lottery::Event) -> String {
    use ledger::lottery::Event as L;
    match event {
        L::Created { lottery, terms } => {
            let name = output::printable(&terms.name);
            format!(
                "lottery {lottery} ({name}) opened at {} credits an entry",
                terms.price
            )
        }
        L::Entered {
            lottery,
            account,
            count,
            ..
        } => format!(
            "account {} bought {count} entries in {lottery}",
            account.short()
        ),
        L::Closed {
            lottery,
            entries,
            draw_epoch,
            ..
        } => format!("lottery {lottery} closed with {entries} entries: epoch {draw_epoch} decides"),
        L::Drawn { lottery, draw } => {
            format!("lottery {lottery} drawn: {} win", draw.wins.len())
        }
        L::Refunded { lottery, .. } => {
            format!("lottery {lottery} paid back: too few had entered")
        }
    }
}
