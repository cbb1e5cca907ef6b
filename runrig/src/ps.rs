//! `ps`, `inspect`, `why`: what runs, in which state, where and why there.

use std::collections::BTreeMap;

use api::{AllocationView, DeploymentView, WhyView};
use clap::{Args, ValueEnum};
use serde::Serialize;
use types::{AllocationId, Health, PortSpec, RunState};

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::job::{Job, Jobs, deployments};
use crate::{output, scale, units};

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig ps\n  runrig ps shop\n  runrig ps -a --filter state=exited\n  runrig ps --json | jq '.[].pid'"
)]
pub struct Ps {
    /// Only these: project, service, project/service, d-1 or a-1
    jobs: Vec<String>,
    /// Ended ones and those of removed projects too
    #[arg(short, long)]
    all: bool,
    /// KEY=VALUE with service, project, host, state, health, deployment or allocation
    #[arg(long, value_parser = filter)]
    filter: Vec<Filter>,
    /// table, json, or a template such as '{{.Service}} {{.State}}'
    #[arg(long, default_value = "table")]
    format: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    key: FilterKey,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FilterKey {
    Service,
    Project,
    Host,
    State,
    Health,
    Deployment,
    Allocation,
}

fn filter(text: &str) -> std::result::Result<Filter, String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "write KEY=VALUE, for example state=running".to_string())?;
    Ok(Filter {
        key: FilterKey::from_str(key, true)?,
        value: value.to_string(),
    })
}

/// A line of `ps --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub service: String,
    pub allocation: AllocationId,
    pub host: String,
    pub state: RunState,
    /// On its host; 0 if nothing runs.
    pub pid: u32,
    pub deployment: types::DeploymentId,
    pub project: String,
    pub release: u32,
    pub replica: u32,
    pub health: Health,
    pub restarts: u32,
    pub exit_code: Option<i32>,
    pub oom_killed: bool,
    pub message: String,
    pub ports: Vec<PortSpec>,
    pub image: String,
    /// Since it was placed, for people; `placed_ms` is exact.
    pub age: String,
    pub placed_ms: u64,
    pub addresses: BTreeMap<String, String>,
    pub desired: ledger::lease::Desired,
    pub closed: bool,
    /// Its host gives signs of life; else all this is what it said last.
    pub heard: bool,
}

impl Row {
    pub fn of(deployment: &DeploymentView, a: &AllocationView, now_ms: u64) -> Self {
        let service = deployment.spec.services.get(&a.service);
        Self {
            service: a.service.clone(),
            allocation: a.allocation,
            host: a.host_name.clone(),
            state: a.status.state,
            pid: a.status.pid,
            deployment: a.deployment,
            project: a.project.clone(),
            release: a.release,
            replica: a.replica,
            health: a.status.health,
            restarts: a.status.restarts,
            exit_code: a.status.exit_code,
            oom_killed: a.status.oom_killed,
            message: a.status.message.clone(),
            ports: service.map(|s| s.ports.clone()).unwrap_or_default(),
            image: a.image.clone(),
            age: units::age(now_ms.saturating_sub(a.placed_ms)),
            placed_ms: a.placed_ms,
            addresses: a
                .status
                .addresses
                .iter()
                .map(|(name, ip)| (name.clone(), std::net::Ipv4Addr::from(*ip).to_string()))
                .collect(),
            desired: a.desired,
            closed: a.closed,
            heard: a.heard,
        }
    }

    fn keeps(&self, filter: &Filter) -> bool {
        let wanted = filter.value.as_str();
        match filter.key {
            FilterKey::Service => self.service == wanted,
            FilterKey::Project => self.project == wanted,
            FilterKey::Host => self.host == wanted,
            FilterKey::State => word(&self.state) == wanted,
            FilterKey::Health => word(&self.health) == wanted,
            FilterKey::Deployment => self.deployment.to_string() == wanted,
            FilterKey::Allocation => self.allocation.to_string() == wanted,
        }
    }

    /// What a person wants to know of it: `running (healthy)`, `exited (137, out of memory)`.
    pub fn state_words(&self) -> String {
        let words = describe(self.state, self.health, self.exit_code, self.oom_killed);
        match self.heard || self.closed {
            true => words,
            false => format!("host silent, was {words}"),
        }
    }

    fn port_words(&self) -> String {
        let one = |p: &PortSpec| match p.published {
            Some(published) => format!("{published}→{}/{}", p.target, p.protocol),
            None => format!("{}/{}", p.target, p.protocol),
        };
        self.ports.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

pub fn describe(state: RunState, health: Health, exit_code: Option<i32>, oom: bool) -> String {
    let name = word(&state);
    if oom && state != RunState::Running {
        let code = exit_code.unwrap_or(137);
        return format!("{name} ({code}, out of memory)");
    }
    match (state, exit_code, health) {
        (RunState::Running, _, Health::None) => name,
        (RunState::Running, _, health) => format!("{name} ({})", word(&health)),
        (RunState::Exited | RunState::Restarting | RunState::Failed, Some(code), _) => {
            format!("{name} ({code})")
        }
        _ => name,
    }
}

/// A unit enum's name as JSON has it.
pub fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// `{{.Service}}` and `{{.exit_code}}` become the fields of the row.
fn render(template: &str, row: &serde_json::Value) -> Result<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let wrong = |why: String| {
            let next = "Write for example --format '{{.Service}} {{.State}}'; see `runrig ps --json` for names.";
            Failure::usage("--format", why, next)
        };
        let end = after
            .find("}}")
            .ok_or_else(|| wrong("\"{{\" without \"}}\"".into()))?;
        let name = after[..end].trim().trim_start_matches('.');
        let snake = name.chars().fold(String::new(), |mut snake, c| {
            if c.is_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.extend(c.to_lowercase());
            snake
        });
        let snake = if snake == "i_d" {
            "allocation".into()
        } else {
            snake
        };
        match row.get(&snake) {
            Some(serde_json::Value::String(text)) => out.push_str(text),
            Some(serde_json::Value::Null) => {}
            Some(value) => out.push_str(&value.to_string()),
            None => return Err(wrong(format!("there is no field \"{name}\""))),
        }
        rest = &after[end + 2..];
    }
    out.push_str(rest);
    Ok(out.replace("\\t", "\t"))
}

pub async fn ps(session: &Session, args: &Ps, json: bool) -> Result {
    let account = session.account()?;
    let mut deployments = deployments(session, account, args.all).await?;
    if args.all {
        let all = session.client.allocations(account, true).await?;
        for deployment in &mut deployments {
            let own = all.iter().filter(|a| a.deployment == deployment.deployment);
            deployment.allocations = own.cloned().collect();
        }
    }
    let jobs = Jobs { deployments };
    let now = units::now_ms();
    let mut rows = Vec::new();
    let mut earlier = 0;
    for job in jobs.select(&args.jobs)? {
        earlier += job.earlier();
        rows.extend(job.allocations().map(|a| Row::of(job.deployment, a, now)));
    }
    rows.sort_by(|a, b| {
        let key = |r: &Row| {
            (
                r.project.clone(),
                r.service.clone(),
                r.replica,
                r.allocation,
            )
        };
        key(a).cmp(&key(b))
    });
    rows.dedup_by_key(|r| r.allocation);
    rows.retain(|row| args.filter.iter().all(|f| row.keeps(f)));
    if output::ids_only() {
        rows.iter().for_each(|row| output::data(row.allocation));
    } else if json || args.format == "json" {
        output::json(&rows);
    } else if args.format != "table" {
        for row in &rows {
            let value = serde_json::to_value(row).unwrap_or_default();
            output::data(render(&args.format, &value)?);
        }
    } else {
        output::data(table(&rows, account));
        if args.all && earlier > 0 {
            output::say(format!(
                "{earlier} that ended before are not listed any more; `runrig bill` has their sums."
            ));
        }
        for row in rows.iter().filter(|r| !r.message.is_empty()) {
            output::say(format!(
                "{}: {}",
                row.allocation,
                output::printable(&row.message)
            ));
        }
        for job in jobs.select(&args.jobs)? {
            missing(&job).iter().for_each(output::say);
        }
    }
    Ok(())
}

/// What has no row: replicas that have no place, and why; services that sleep.
fn missing(job: &Job) -> Vec<String> {
    let view = job.deployment;
    let named = |service: &str| job.service.is_none_or(|s| s == service);
    let unplaced = view.unplaced.iter().filter(|u| named(&u.service));
    let waits = unplaced.map(|u| {
        let since = units::age(units::now_ms().saturating_sub(u.since_ms));
        let why = output::printable(&u.why);
        format!(
            "{}/{}.{} waits for {since}: {why}",
            view.project, u.service, u.replica
        )
    });
    let tried = view.tried.iter().filter(|t| named(&t.service));
    let fails = tried.map(|t| {
        let times = match t.times {
            1 => "once".into(),
            n => format!("{n} times"),
        };
        format!(
            "{}/{}.{} could not be made ready {times}; the ledger tries again, elsewhere if it can",
            view.project, t.service, t.replica
        )
    });
    let scaled = scale::words(view, |name| job.allocation.is_none() && named(name));
    waits.chain(fails).chain(scaled).collect()
}

/// An image as the account itself names it.
fn image_words(image: &str, account: types::AccountId) -> String {
    let own = format!("{}/{account}/", images::NETWORK_REGISTRY);
    let short = [own.as_str(), "docker.io/library/", "docker.io/"];
    let rest = short.iter().find_map(|prefix| image.strip_prefix(prefix));
    rest.unwrap_or(image).to_string()
}

fn table(rows: &[Row], account: types::AccountId) -> String {
    let headers = [
        "ALLOCATION",
        "PROJECT",
        "SERVICE",
        "STATE",
        "HOST",
        "AGE",
        "RESTARTS",
        "PORTS",
        "IMAGE",
    ];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|r| {
            vec![
                r.allocation.to_string(),
                r.project.clone(),
                format!("{}.{}", r.service, r.replica),
                r.state_words(),
                r.host.clone(),
                r.age.clone(),
                r.restarts.to_string(),
                r.port_words(),
                image_words(&r.image, account),
            ]
        })
        .collect();
    output::table(&headers, &cells, &[6])
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig inspect a-1\n  runrig inspect shop/web | jq .status")]
pub struct Inspect {
    /// Allocation, service, project or deployment
    #[arg(required = true)]
    jobs: Vec<String>,
}

/// Always JSON: an array of what the ledger and the host have of each.
pub async fn inspect(session: &Session, args: &Inspect) -> Result {
    let jobs = Jobs::of(session).await?;
    let mut all = Vec::new();
    for job in jobs.select(&args.jobs)? {
        if job.service.is_none() {
            all.push(serde_json::to_value(job.deployment).unwrap_or_default());
            continue;
        }
        for allocation in job.allocations() {
            let path = format!("/v1/allocations/{}/inspect", allocation.allocation);
            let key = session.key()?;
            let host: std::result::Result<serde_json::Value, _> =
                session.client.get_signed(&path, &key).await;
            let mut value = serde_json::to_value(allocation).unwrap_or_default();
            match host {
                Ok(host) => value["on_host"] = host,
                Err(error) => output::say(format!(
                    "{}: its host does not say more: {error}",
                    allocation.allocation
                )),
            }
            all.push(value);
        }
    }
    output::json(&all);
    Ok(())
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig why a-1\n  runrig why shop/web")]
pub struct Why {
    /// Allocation, service or project
    job: String,
}

/// Replicas whose reasons are shown at once.
const REASONS_MAX: usize = 20;

pub async fn why(session: &Session, args: &Why, json: bool) -> Result {
    // An allocation that has ended is in no list, and has its reason still.
    if let (true, Ok(id)) = (args.job.starts_with("a-"), args.job.parse()) {
        let view = session.client.why(id).await?;
        match json {
            true => output::json(&view),
            false => why_there(&view),
        }
        return Ok(());
    }
    let jobs = Jobs::of(session).await?;
    let job = jobs.find(&args.job)?;
    let mut views = Vec::new();
    for allocation in job.allocations().take(REASONS_MAX) {
        views.push(session.client.why(allocation.allocation).await?);
    }
    if json {
        output::json(&views);
        return Ok(());
    }
    missing(&job).iter().for_each(output::data);
    views.iter().for_each(why_there);
    Ok(())
}

fn why_there(view: &WhyView) {
    let name = |host: &types::HostId| {
        let names = view.names.get(&host.to_string());
        names.cloned().unwrap_or_else(|| host.short())
    };
    let reason = &view.reason;
    output::data(format!(
        "{} ({}.{}) is on {}: best of {} that fit, out of {} hosts looked at, at height {}.",
        view.allocation,
        view.service,
        view.replica,
        name(&view.host),
        reason.scored,
        reason.probed,
        reason.height
    ));
    for dropped in &reason.dropped {
        output::data(format!(
            "  {} dropped by rule: {}",
            dropped.hosts, dropped.rule
        ));
    }
    for rule in &reason.relaxed {
        output::data(format!("  relaxed, for too few hosts: {rule}"));
    }
    let features: Vec<&str> = reason
        .candidates
        .first()
        .map(|c| c.terms.iter().map(|t| t.feature.as_str()).collect())
        .unwrap_or_default();
    let mut headers = vec!["HOST", "SCORE"];
    headers.extend(&features);
    let rows: Vec<Vec<String>> = reason
        .candidates
        .iter()
        .map(|candidate| {
            let terms = candidate.terms.iter();
            let terms = terms.map(|t| format!("{}×{}={}", t.value, t.weight, t.value * t.weight));
            let mut row = vec![name(&candidate.host), candidate.score.to_string()];
            row.extend(terms);
            row
        })
        .collect();
    let right: Vec<usize> = (1..headers.len()).collect();
    output::data(output::table(&headers, &rows, &right));
    output::say(format!(
        "Anyone can recompute this from the state at height {} with seed {}.",
        reason.height, reason.seed
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::deployment;

    #[test]
    fn a_row_has_the_names_that_scripts_read() {
        let deployment = deployment(1, "shop", &["web"], 7);
        let row = Row::of(&deployment, &deployment.allocations[0], 60_000);
        let value = serde_json::to_value(&row).expect("json");
        for (name, expected) in [
            ("service", serde_json::json!("web")),
            ("allocation", serde_json::json!("a-7")),
            ("host", serde_json::json!("dev-1")),
            ("state", serde_json::json!("running")),
            ("pid", serde_json::json!(42)),
            ("deployment", serde_json::json!("d-1")),
            ("project", serde_json::json!("shop")),
            ("replica", serde_json::json!(1)),
            ("health", serde_json::json!("none")),
            ("restarts", serde_json::json!(0)),
            ("exit_code", serde_json::json!(null)),
            ("oom_killed", serde_json::json!(false)),
            ("message", serde_json::json!("")),
            ("image", serde_json::json!("docker.io/library/nginx:1")),
            ("age", serde_json::json!("1m")),
        ] {
            assert_eq!(value[name], expected, "{name}");
        }
        assert_eq!(value["ports"][0]["published"], 8080);
        let text = render("{{.Service}}\\t{{.ExitCode}}{{ .State }}", &value);
        assert_eq!(text, Ok("web\trunning".into()));
        assert_eq!(render("{{.Nope}}", &value).map_err(|f| f.exit), Err(2));
        assert_eq!(render("{{.Service", &value).map_err(|f| f.exit), Err(2));
        let text = table(&[row], deployment.owner);
        assert!(text.contains("8080→80/tcp"), "{text}");
        assert!(text.ends_with(" nginx:1"), "{text}");
    }

    #[test]
    fn an_end_is_shown_as_what_it_was() {
        for (state, health, code, oom, words) in [
            (RunState::Running, Health::None, None, false, "running"),
            (
                RunState::Running,
                Health::Healthy,
                None,
                false,
                "running (healthy)",
            ),
            (
                RunState::Exited,
                Health::None,
                Some(137),
                true,
                "exited (137, out of memory)",
            ),
            (RunState::Exited, Health::None, Some(3), false, "exited (3)"),
            (RunState::Pulling, Health::None, None, false, "pulling"),
        ] {
            assert_eq!(describe(state, health, code, oom), words);
        }
    }

    #[test]
    fn filters_are_checked() {
        assert!(filter("state=running").is_ok());
        assert!(filter("state").is_err() && filter("colour=red").is_err());
    }
}
