//! Figures, times and ledger calls as people say them.

mod network;

use std::collections::BTreeMap;

use ledger::{Call, Event, account, deployment, host, lease, validator};
use types::{AccountId, Amount, CREDIT, HostId, Hours, Month, Resources, RunState, civil};

/// Digits in groups of three.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Credits to read at a glance: two decimals above one, four below, and of a very small amount
/// its first two digits. Rounded down; the exact amount is its `Display`.
pub fn credits(amount: Amount) -> String {
    let (whole, part) = (amount.0 / CREDIT, amount.0 % CREDIT);
    if part == 0 {
        return grouped(whole);
    }
    let digits = format!("{part:012}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let kept = match whole {
        0 if zeros >= 3 => (zeros + 2).min(12),
        0 => 4,
        _ => 2,
    };
    format!("{}.{}", grouped(whole), &digits[..kept])
}

/// Bytes in powers of 1024, three digits.
pub fn bytes(count: u128) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scaled = count as f64;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if scaled < 9.95 => format!("{scaled:.1} {}", UNITS[unit]),
        _ => format!("{scaled:.0} {}", UNITS[unit]),
    }
}

/// Thousandths of a core as cores.
pub fn cores(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_string()
}

pub fn plural(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        n => format!("{} {many}", grouped(n.into())),
    }
}

/// A span of time by its greatest unit: `12 d`.
pub fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

pub const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Year and month (0 to 11) of a time.
pub fn month_of(ms: u64) -> (i64, usize) {
    let month = Month::of(ms);
    (month.year(), month.number() as usize - 1)
}

/// `2026-11-21 11:20:24` UTC.
pub fn utc(ms: u64) -> String {
    let (year, month, day) = civil((ms / 86_400_000) as i64);
    format!("{year:04}-{month:02}-{day:02} {}", clock(ms))
}

/// How far a grant goes: nothing, where it has neither limit nor end.
fn bounds(limit: Option<&account::SpendingLimit>, expires_ms: Option<u64>) -> String {
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

/// `21 Nov` UTC.
pub fn day(ms: u64) -> String {
    let (_, month, day) = civil((ms / 86_400_000) as i64);
    format!("{day} {}", MONTHS[month as usize - 1])
}

/// `11:20:24` UTC.
pub fn clock(ms: u64) -> String {
    let s = ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// The first and last characters of a long id.
pub fn brief(id: &str) -> String {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    if id.len() <= 14 || !id.is_ascii() {
        return id.to_string();
    }
    format!("{}…{}", &id[..6], &id[id.len() - 4..])
}

/// An image as it was asked for, without the parts that are always the same.
pub fn image(reference: &str) -> String {
    let text = reference
        .strip_prefix("docker.io/library/")
        .or_else(|| reference.strip_prefix("docker.io/"))
        .unwrap_or(reference);
    let text = match text.strip_prefix("registry.runrig/") {
        Some(own) => own.split_once('/').map_or(own, |(_, name)| name),
        None => text,
    };
    match text.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", brief(digest)),
        None => text.to_string(),
    }
}

/// What hosts and deployments are called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub hosts: BTreeMap<HostId, String>,
    pub projects: BTreeMap<types::DeploymentId, String>,
}

impl Names {
    pub fn host(&self, id: &HostId) -> String {
        match self.hosts.get(id) {
            Some(name) => name.clone(),
            None => brief(&id.to_string()),
        }
    }

    pub fn project(&self, id: &types::DeploymentId) -> String {
        match self.projects.get(id) {
            Some(name) => name.clone(),
            None => id.to_string(),
        }
    }
}

/// Every word that [`kind`] says.
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
    "unreadable",
    "other",
];

/// A short word for what is asked, the same for all of its kind.
pub fn kind(call: &Call) -> &'static str {
    match call {
        Call::Account(account::Call::Transfer { .. }) => "transfer",
        Call::Account(account::Call::Faucet { .. }) => "test credits",
        Call::Account(account::Call::Grant { .. } | account::Call::Revoke { .. }) => "keys",
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
        #[allow(
            unreachable_patterns,
            reason = "calls are added by domains of their own"
        )]
        _ => "other",
    }
}

/// What was asked, as a sentence without its full stop. `sender` is who signed it.
pub fn call(call: &Call, sender: &AccountId, names: &Names) -> String {
    let who = |id: &AccountId| format!("account {}", brief(&id.to_string()));
    let signer: HostId = *sender;
    match call {
        Call::Account(account::Call::Transfer { to, amount, .. }) => {
            let (from, to) = (who(sender), who(to));
            sentence(format!("{from} sent {amount} credits to {to}"))
        }
        Call::Account(account::Call::Faucet { to }) => {
            sentence(format!("{} asked the faucet for test credits", who(to)))
        }
        Call::Account(account::Call::Grant {
            to,
            role,
            limit,
            expires_ms,
            ..
        }) => sentence(format!(
            "{} let {} act for it as {}{}",
            who(sender),
            who(to),
            role.name(),
            bounds(limit.as_ref(), *expires_ms)
        )),
        Call::Account(account::Call::Revoke { from }) => sentence(format!(
            "{} let {} act for it no more",
            who(sender),
            who(from)
        )),
        Call::Limit(ledger::limit::Call::Set { alert, limit, .. }) => sentence(format!(
            "{} set its limits: {}",
            who(sender),
            network::bounds(*alert, *limit)
        )),
        Call::Host(call) => match call {
            host::Call::Register { name, offer, .. } => format!(
                "Host {name} offered {} cores, {} of memory and {} of disk",
                cores(offer.capacity.cpu_millis.into()),
                bytes(offer.capacity.memory_bytes.into()),
                bytes(offer.capacity.disk_bytes.into()),
            ),
            host::Call::Cordon { cordoned: true } => {
                format!("Host {} takes no new work", names.host(&signer))
            }
            host::Call::Cordon { cordoned: false } => {
                format!("Host {} takes work again", names.host(&signer))
            }
            host::Call::Drain { host, draining } => drained(names, host, *draining),
            host::Call::SetPrice {
                host,
                price_multiplier_milli,
            } => priced(names, host, *price_multiplier_milli),
            host::Call::SetAllotment { host, allotment } => allotted(names, host, allotment),
            host::Call::SetHours { host, hours } => open_in(names, host, hours.as_ref()),
            host::Call::Invite { token, until_ms } => invited(&who(sender), token, *until_ms),
            host::Call::Uninvite { token } => uninvited(&who(sender), token),
            host::Call::Leave => format!("Host {} left", names.host(&signer)),
            host::Call::Heartbeat => format!("Host {} is there", names.host(&signer)),
            host::Call::Announce(_) => {
                format!("Host {} said where others reach it", names.host(&signer))
            }
            #[allow(unreachable_patterns, reason = "calls are added")]
            _ => format!("Host {} changed what it offers", names.host(&signer)),
        },
        Call::Deployment(call) => match call {
            deployment::Call::Deploy { spec, .. } => sentence(format!(
                "{} deployed {} with {}",
                who(sender),
                spec.project,
                plural(spec.services.len() as u64, "service", "services")
            )),
            deployment::Call::Rollback { deployment, .. } => {
                format!("{} was rolled back", names.project(deployment))
            }
            deployment::Call::Remove { deployment, .. } => {
                format!("{} was removed by its owner", names.project(deployment))
            }
            deployment::Call::SetRunning {
                deployment,
                service,
                running,
            } => format!(
                "{}{} was {}",
                names.project(deployment),
                part(service),
                if *running { "started" } else { "stopped" }
            ),
            deployment::Call::Restart {
                deployment,
                service,
            } => format!(
                "{}{} was restarted",
                names.project(deployment),
                part(service)
            ),
            #[allow(unreachable_patterns, reason = "calls are added")]
            _ => sentence(format!("{} changed a deployment", who(sender))),
        },
        Call::Lease(lease::Call::ReportStatus { statuses, .. }) => format!(
            "Host {} reported the state of {}",
            names.host(&signer),
            plural(statuses.len() as u64, "replica", "replicas")
        ),
        Call::Lease(lease::Call::ReportUsage {
            interval, lines, ..
        }) => format!(
            "Host {} reported what {} used, report {interval}",
            names.host(&signer),
            plural(lines.len() as u64, "replica", "replicas")
        ),
        Call::Validator(validator::Call::Register(registration)) => sentence(format!(
            "{} entered validator {}",
            who(sender),
            brief(&registration.key.to_string())
        )),
        Call::Validator(validator::Call::Leave { key, .. }) => sentence(format!(
            "{} took validator {} off",
            who(sender),
            brief(&key.to_string())
        )),
        #[allow(
            unreachable_patterns,
            reason = "calls are added by domains of their own"
        )]
        _ => sentence(format!("{} signed a call", who(sender))),
    }
}

fn drained(names: &Names, host: &HostId, draining: bool) -> String {
    let how = match draining {
        true => "is being",
        false => "is no longer",
    };
    format!("Host {} {how} drained", names.host(host))
}

fn open_in(names: &Names, host: &HostId, hours: Option<&Hours>) -> String {
    format!("Host {} takes work {}", names.host(host), in_hours(hours))
}

/// `mon-fri 20-8 (UTC)`, or `always`.
pub fn in_hours(hours: Option<&Hours>) -> String {
    hours.map_or("always".into(), |hours| format!("{hours} (UTC)"))
}

fn priced(names: &Names, host: &HostId, milli: u32) -> String {
    let percent = f64::from(milli) / 10.0;
    format!(
        "Host {} asks {percent} % of the network's rates",
        names.host(host)
    )
}

/// Thousandths as percent.
pub fn percent(milli: u32) -> String {
    format!("{} %", f64::from(milli) / 10.0)
}

fn allotted(names: &Names, host: &HostId, allotment: &Resources) -> String {
    format!(
        "Host {} lends {} cores, {} of memory, {} of disk and {} Mbit/s",
        names.host(host),
        cores(allotment.cpu_millis.into()),
        bytes(allotment.memory_bytes.into()),
        bytes(allotment.disk_bytes.into()),
        f64::from(allotment.bandwidth_kbps) / 1_000.0
    )
}

fn invited(owner: &str, token: &AccountId, until_ms: u64) -> String {
    let (token, until) = (brief(&token.to_string()), utc(until_ms));
    sentence(format!(
        "{owner} lets a machine join with token {token} until {until} UTC"
    ))
}

fn uninvited(owner: &str, token: &AccountId) -> String {
    let token = brief(&token.to_string());
    sentence(format!(
        "{owner} took token {token} back: no machine joins with it"
    ))
}

fn part(service: &Option<String>) -> String {
    service
        .as_ref()
        .map(|s| format!("'s {s}"))
        .unwrap_or_default()
}

fn sentence(text: String) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => text,
    }
}

/// What happened, as a sentence without its full stop.
pub fn event(event: &Event, names: &Names) -> String {
    let who = |id: &AccountId| format!("account {}", brief(&id.to_string()));
    match event {
        Event::Account(account::Event::Transferred {
            from,
            to,
            amount,
            memo,
        }) => match memo.as_str() {
            "faucet" => sentence(format!("{} got {amount} test credits", who(to))),
            _ => sentence(format!(
                "{} sent {amount} credits to {}",
                who(from),
                who(to)
            )),
        },
        Event::Account(account::Event::Granted {
            account,
            to,
            role,
            limit,
            expires_ms,
        }) => sentence(format!(
            "{} may act for {} as {}{}",
            who(to),
            who(account),
            role.name(),
            bounds(limit.as_ref(), *expires_ms)
        )),
        Event::Account(account::Event::Revoked { account, from }) => {
            sentence(format!("{} acts no more for {}", who(from), who(account)))
        }
        Event::Host(event) => match event {
            host::Event::HostRegistered { name, .. } => format!("Host {name} registered"),
            host::Event::HostOnline { host } => format!("Host {} is back", names.host(host)),
            host::Event::HostOffline { host, excused, .. } => {
                let hours = if *excused { ", outside its hours" } else { "" };
                format!("Host {} fell silent{hours}", names.host(host))
            }
            host::Event::HostCordoned { host, cordoned } => format!(
                "Host {} takes {}",
                names.host(host),
                if *cordoned {
                    "no new work"
                } else {
                    "work again"
                }
            ),
            host::Event::HostDraining { host, draining } => drained(names, host, *draining),
            host::Event::HostPriced {
                host,
                price_multiplier_milli,
            } => priced(names, host, *price_multiplier_milli),
            host::Event::HostAllotted { host, allotment } => allotted(names, host, allotment),
            host::Event::HostHours { host, hours } => open_in(names, host, hours.as_ref()),
            host::Event::HostOpened { host, until_ms, .. } => {
                let until = until_ms.map(|ms| format!(" until {}", Hours::moment(ms)));
                let until = until.unwrap_or_default();
                format!("Host {} opened, and takes work{until}", names.host(host))
            }
            host::Event::HostClosed { host, until_ms } => format!(
                "Host {} closed until {}: what ran there moves",
                names.host(host),
                Hours::moment(*until_ms)
            ),
            host::Event::HostInvited {
                owner,
                token,
                until_ms,
            } => invited(&who(owner), token, *until_ms),
            host::Event::HostUninvited { owner, token } => uninvited(&who(owner), token),
            host::Event::HostJoined {
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
            host::Event::HostLeft { host, bond, .. } => format!(
                "Host {} left; its bond of {bond} went to its owner",
                names.host(host)
            ),
            #[allow(unreachable_patterns, reason = "events are added")]
            _ => "A host changed".into(),
        },
        Event::Validator(validator::Event::ValidatorConvicted { key, lost, .. }) => format!(
            "Validator {} made two blocks for one view, and lost its bond of {lost} credits",
            brief(&key.to_string())
        ),
        Event::Deployment(event) => deployed(event, names),
        Event::Lease(event) => match event {
            lease::Event::StatusChanged {
                service,
                replica,
                host,
                status,
                deployment,
                ..
            } => format!(
                "{} {service}.{replica} on {}: {}",
                names.project(deployment),
                names.host(host),
                state(status)
            ),
            lease::Event::Settled(receipt) => format!(
                "Host {} was paid for {} of {} {}",
                names.host(&receipt.host),
                span(receipt.until_ms.saturating_sub(receipt.from_ms)),
                names.project(&receipt.deployment),
                receipt.service,
            ),
            lease::Event::LeaseClosed {
                allocation,
                charged,
                ..
            } => format!("The lease of {allocation} ended; it cost {charged} in all"),
        },
        Event::Validator(event) => sentence(network::validated(event)),
        Event::Vote(event) => sentence(network::voted(event)),
        Event::Lottery(event) => sentence(network::played(event)),
        Event::Duty(event) => sentence(network::paid(event)),
        Event::Lots(event) => sentence(network::drawn(event)),
        Event::Witness(event) => sentence(network::flagged(event, names)),
        Event::Limit(event) => sentence(network::limited(event, &who)),
    }
}

fn deployed(event: &deployment::Event, names: &Names) -> String {
    use deployment::Event as E;
    match event {
        E::Deployed {
            project, release, ..
        } => format!("{project} release {release} was deployed"),
        E::Removed { deployment } => format!("{} was removed", names.project(deployment)),
        E::Closed { deployment, refund } => format!(
            "{} has ended; {refund} credits of escrow went back",
            names.project(deployment)
        ),
        E::SetRunning {
            deployment,
            service,
            running,
        } => format!(
            "{}{} was {}",
            names.project(deployment),
            part(service),
            if *running { "started" } else { "stopped" }
        ),
        E::Restarted {
            deployment,
            service,
        } => format!(
            "{}{} was restarted",
            names.project(deployment),
            part(service)
        ),
        E::AllocationPlaced {
            deployment,
            service,
            replica,
            host,
            ..
        } => format!(
            "{} {service}.{replica} was placed on {}",
            names.project(deployment),
            names.host(host)
        ),
        E::AllocationLeaves {
            deployment,
            service,
            replica,
            ..
        } => format!(
            "{} {service}.{replica} is being replaced or removed",
            names.project(deployment)
        ),
        E::TriedAgain {
            deployment,
            service,
            replica,
            host,
            why,
            ..
        } => format!(
            "{} {service}.{replica} on {} {why}; it is tried again, elsewhere if possible",
            names.project(deployment),
            names.host(host)
        ),
        E::Unplaced {
            deployment,
            service,
            replica,
            why,
        } => format!(
            "{} {service}.{replica} has no place: {why}",
            names.project(deployment)
        ),
        E::ReleaseGood {
            deployment,
            release,
        } => format!("{} release {release} is good", names.project(deployment)),
        E::ReleaseStuck {
            deployment,
            release,
            why,
        } => format!(
            "{} release {release} is stuck: {why}",
            names.project(deployment)
        ),
        E::RolledBack {
            deployment,
            from,
            to,
            ..
        } => format!(
            "{} went from release {from} back to {to}",
            names.project(deployment)
        ),
        E::FundsLow { deployment, .. } => {
            format!("Funds of {} run low", names.project(deployment))
        }
        E::Frozen { deployment } => format!(
            "{} is frozen for lack of funds; its data is kept",
            names.project(deployment)
        ),
        E::Limited { deployment } => format!(
            "{} is stopped by its owner's limit; its data is kept",
            names.project(deployment)
        ),
        E::Thawed { deployment } => format!("{} runs again", names.project(deployment)),
        #[allow(unreachable_patterns, reason = "events are added")]
        _ => "A deployment changed".into(),
    }
}

pub fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Placed => "placed",
        RunState::Pulling => "pulling",
        RunState::Waiting => "waiting",
        RunState::Creating => "creating",
        RunState::Running => "running",
        RunState::Restarting => "restarting",
        RunState::Exited => "exited",
        RunState::Failed => "failed",
        RunState::Frozen => "frozen",
        RunState::Removed => "removed",
    }
}

/// One replica's state in a few words.
pub fn state(status: &types::AllocationStatus) -> String {
    let mut text = state_word(status.state).to_string();
    match status.health {
        types::Health::None => {}
        types::Health::Starting if status.state == RunState::Running => {
            text.push_str(", health not known yet")
        }
        types::Health::Healthy if status.state == RunState::Running => text.push_str(", healthy"),
        types::Health::Unhealthy if status.state == RunState::Running => {
            text.push_str(", unhealthy")
        }
        _ => {}
    }
    if status.oom_killed {
        text.push_str(", out of memory");
    } else if let Some(code) = status.exit_code {
        text.push_str(&format!(", exit code {code}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed() {
        let beat = Call::Host(host::Call::Heartbeat);
        let faucet = Call::Account(account::Call::Faucet {
            to: AccountId([1; 20]),
        });
        for call in [beat, faucet] {
            assert!(KINDS.contains(&kind(&call)), "{}", kind(&call));
        }
    }

    #[test]
    fn money_at_a_glance() {
        for (amount, text) in [
            (Amount::ZERO, "0"),
            (Amount::credits(1000), "1\u{202f}000"),
            (Amount(1_283_990_000_000_000), "1\u{202f}283.99"),
            (Amount(41_200_000_000), "0.0412"),
            (Amount(5_237_112), "0.0000052"),
            (Amount(1), "0.000000000001"),
        ] {
            assert_eq!(credits(amount), text);
        }
    }

    #[test]
    fn sizes_times_and_ids() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(cores(250), "0.25");
        assert_eq!(cores(2000), "2");
        assert_eq!(span(59_999), "59 s");
        assert_eq!(span(3 * 86_400_000), "3 d");
        assert_eq!(utc(1_795_260_024_092), "2026-11-21 11:20:24");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(month_of(1_795_260_024_092), (2026, 10));
        assert_eq!(
            brief("885fb15b4438c28ea154d9e1cd81eb9cc0605a83"),
            "885fb1…5a83"
        );
        assert_eq!(image("docker.io/library/nginx:1.27"), "nginx:1.27");
        assert_eq!(image("registry.runrig/abc/hello:latest"), "hello:latest");
    }
}
