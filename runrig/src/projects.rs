//! `ls`, `port`, `whoami`: projects at a glance, where a port is, who asks.

use api::DeploymentView;
use clap::Args;
use ledger::lease::Desired;
use serde::Serialize;
use types::{AccountId, Amount, DeploymentId, Protocol, PublicKey, RunState};

use crate::context::Session;
use crate::endpoint::gateway_of;
use crate::failure::{self, Failure, Result};
use crate::job::Jobs;
use crate::{login, output, ps, units};

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig ls\n  runrig ls -a --json")]
pub struct Ls {
    /// Removed ones too
    #[arg(short, long)]
    all: bool,
}

/// A line of `ls --json`.
#[derive(Debug, Serialize)]
struct Row {
    project: String,
    deployment: DeploymentId,
    release: u32,
    /// `running`, `asleep`, `rolling out`, `stuck`, `stopped`, `frozen`, `degraded` or `removed`.
    state: String,
    running: u32,
    wanted: u32,
    charged: Amount,
    escrow: Amount,
    created_ms: u64,
    age: String,
}

impl Row {
    fn of(d: &DeploymentView, now_ms: u64) -> Self {
        let wanted = d.wanted_all();
        let running = d.allocations.iter().filter(|a| {
            let status = &a.status;
            status.state == RunState::Running
                || status.state == RunState::Exited && status.exit_code == Some(0)
        });
        let running = running.count() as u32;
        let stopped = d.allocations.iter().all(|a| a.desired != Desired::Run);
        let state = if d.removed {
            "removed"
        } else if d.limited {
            "limited"
        } else if ps::word(&d.funding) == "frozen" {
            "frozen"
        } else if let Some(rollout) = &d.rollout {
            match rollout.stuck {
                Some(_) => "stuck",
                None => "rolling out",
            }
        } else if wanted == 0 && d.allocations.is_empty() && !d.scales.is_empty() {
            "asleep"
        } else if stopped {
            "stopped"
        } else if running < wanted {
            "degraded"
        } else {
            "running"
        };
        Self {
            project: d.project.clone(),
            deployment: d.deployment,
            release: d.release,
            state: state.into(),
            running,
            wanted,
            charged: d.charged,
            escrow: d.escrow,
            created_ms: d.created_ms,
            age: units::age(now_ms.saturating_sub(d.created_ms)),
        }
    }
}

pub async fn ls(session: &Session, args: &Ls, json: bool) -> Result {
    let own = session
        .client
        .deployments(session.account()?, args.all)
        .await?;
    let now = units::now_ms();
    let rows: Vec<Row> = own.iter().map(|d| Row::of(d, now)).collect();
    if output::ids_only() {
        rows.iter().for_each(|row| output::data(row.deployment));
        return Ok(());
    }
    if json {
        output::json(&rows);
        return Ok(());
    }
    let headers = [
        "PROJECT",
        "DEPLOYMENT",
        "RELEASE",
        "STATE",
        "RUNNING",
        "AGE",
        "CHARGED",
        "ESCROW",
    ];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|r| {
            vec![
                r.project.clone(),
                r.deployment.to_string(),
                r.release.to_string(),
                r.state.clone(),
                format!("{}/{}", r.running, r.wanted),
                r.age.clone(),
                r.charged.to_string(),
                r.escrow.to_string(),
            ]
        })
        .collect();
    output::data(output::table(&headers, &cells, &[2, 4, 6, 7]));
    Ok(())
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig port web\n  runrig port shop/web 8080")]
pub struct Port {
    /// Service, project/service, project or allocation
    job: String,
    /// Port in the container, with /udp if it is one; all if not said
    port: Option<String>,
}

/// A line of `port --json`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Published {
    service: String,
    target: u16,
    protocol: Protocol,
    address: String,
}

/// `8080` or `8080/udp`.
fn target(text: &str) -> std::result::Result<(u16, Protocol), String> {
    let (port, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
        Some((port, "udp")) => (port, Protocol::Udp),
        Some((_, other)) => return Err(format!("\"{other}\" is neither tcp nor udp")),
    };
    let port = port.parse().map_err(|_| format!("\"{port}\" is no port"))?;
    Ok((port, protocol))
}

fn published(d: &DeploymentView, service: Option<&str>, gateway: &str) -> Vec<Published> {
    let (host, _) = gateway_of(gateway);
    let services = d.spec.services.iter();
    let chosen = services.filter(|(name, _)| service.is_none_or(|s| s == name.as_str()));
    let ports = chosen.flat_map(|(name, spec)| spec.ports.iter().map(move |p| (name, p)));
    ports
        .filter_map(|(name, p)| {
            Some(Published {
                service: name.clone(),
                target: p.target,
                protocol: p.protocol,
                address: format!("{host}:{}", p.published?),
            })
        })
        .collect()
}

pub async fn port(session: &Session, args: &Port, json: bool) -> Result {
    let wanted = args.port.as_deref().map(target).transpose();
    let wanted =
        wanted.map_err(|why| Failure::usage("PORT", why, "Write for example 8080 or 53/udp."))?;
    let jobs = Jobs::of(session).await?;
    let job = jobs.find(&args.job)?;
    let mut all = published(job.deployment, job.service, session.client.url());
    all.retain(|p| wanted.is_none_or(|w| w == (p.target, p.protocol)));
    if let (Some((port, protocol)), true) = (wanted, all.is_empty()) {
        return Err(Failure::new(
            failure::NOT_FOUND,
            format!("port {port}/{protocol} of {}", job.name()),
            "it is not published",
            format!("See `runrig port {}`, or `runrig port-forward`.", args.job),
        ));
    }
    if json {
        output::json(&all);
        return Ok(());
    }
    for p in &all {
        match wanted {
            Some(_) => output::data(&p.address),
            None => output::data(format!(
                "{}  {}/{} -> {}",
                p.service, p.target, p.protocol, p.address
            )),
        }
    }
    Ok(())
}

/// Who asks, where, and what his key may.
pub async fn whoami(session: &Session, json: bool) -> Result {
    #[derive(Serialize)]
    struct Who<'a> {
        account: AccountId,
        context: &'a str,
        url: &'a str,
        /// What the key is known by to others, as `readers` of logs names it.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key: Option<PublicKey>,
        /// Of the key, where it is not the account's own, with what the account lets it do.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<AccountId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        grant: Option<ledger::account::Grant>,
    }
    let account = session.account()?;
    let (context, url) = (session.name.as_str(), session.client.url());
    // Without a key one may still ask.
    let public_key = session.key().ok().map(|key| key.public());
    let key = public_key.as_ref().map(AccountId::of);
    let key = key.filter(|key| *key != account);
    let grant = match key {
        None => None,
        Some(key) => {
            let view = session.client.account(account).await?;
            let grant = view.grants.get(&key).cloned();
            let good = grant.filter(|grant| grant.is_good(units::now_ms()));
            Some(good.ok_or_else(|| {
                Failure::new(
                    failure::LOGIN,
                    format!("context {context}"),
                    format!("{key} may not act for {account}"),
                    "Log in again with `runrig login`, or ask the account's owner.",
                )
            })?)
        }
    };
    if json {
        output::json(&Who {
            account,
            context,
            url,
            public_key,
            key,
            grant,
        });
    } else {
        output::data(account);
        output::say(format!("context {context} at {url}"));
        if let (Some(key), Some(grant)) = (key, grant) {
            let may = login::may(&grant, units::now_ms());
            output::say(format!("by key {key}: {may}"));
        }
        if let Some(public_key) = public_key {
            output::say(format!("public key {public_key}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::deployment;

    #[test]
    fn a_project_is_as_its_replicas_are() {
        let mut view = deployment(1, "shop", &["web", "db"], 1);
        let state = |view: &DeploymentView| Row::of(view, 0).state;
        assert_eq!(state(&view), "running");
        view.allocations[0].status.state = RunState::Restarting;
        assert_eq!(state(&view), "degraded");
        for allocation in &mut view.allocations {
            allocation.desired = Desired::Stop;
        }
        assert_eq!(state(&view), "stopped");
        view.removed = true;
        assert_eq!(state(&view), "removed");
    }

    #[test]
    fn ports_are_written_as_docker_does() {
        assert_eq!(target("80"), Ok((80, Protocol::Tcp)));
        assert_eq!(target("80/tcp"), Ok((80, Protocol::Tcp)));
        assert_eq!(target("53/udp"), Ok((53, Protocol::Udp)));
        assert!(target("http").is_err() && target("80/sctp").is_err());
        let view = deployment(1, "shop", &["web"], 1);
        let all = published(&view, Some("web"), "http://10.0.0.5:8700");
        assert_eq!(all[0].address, "10.0.0.5:8080");
        assert!(published(&view, Some("db"), "http://h:1").is_empty());
    }
}
