//! `up`: a compose file becomes a deployment.
//!
//! Read the file, pin its images, show the price, ask, deploy, follow until it runs. A file
//! that is wrong, an image that is missing or a "no" changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::{AllocationView, DeploymentView, Quote, QuoteRequest};
use clap::Args;
use ledger::deployment::{Call as Deployments, Change, Funding};
use ledger::lease::Desired;
use ledger::{Call, Event};
use sdk::SdkError;
use serde::Serialize;
use types::{Amount, DeploymentId, DeploymentSpec, Health, ImageRef, Protocol, RunState};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::progress::Progress;
use crate::{follow, image, money, output, ps, units};

/// In the order that Compose looks for them.
const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];
const FILE_BYTES_MAX: u64 = 4 << 20;
const POLL: Duration = Duration::from_millis(200);
/// A replica that was started again so often is failing, whatever its restart policy hopes.
const RESTARTS_MAX: u32 = 3;
/// Without a health check, what has run for so long is taken to run: most of what fails does
/// so at once.
const SETTLED_MS: u64 = 1_000;
const LAST_LINES: usize = 10;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig up\n  runrig up -f shop/compose.yaml --yes --wait\n  runrig up --yes --wait --json | jq -r '.endpoints[].url'"
)]
pub struct Up {
    /// Compose file; compose.yaml here or above if not said, - is stdin
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Project name; that of the file or its folder if not said
    #[arg(short, long, env = "COMPOSE_PROJECT_NAME")]
    project: Option<String>,
    /// Return once it is on the ledger
    #[arg(short, long, conflicts_with = "wait")]
    detach: bool,
    /// Return when all services are healthy, or have done their work; fail when one fails
    #[arg(long)]
    wait: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Refuse above so many credits per hour; the quoted price if not said
    #[arg(long, value_name = "CREDITS")]
    max_price: Option<Amount>,
    /// Wait at most so long
    #[arg(long, default_value = "5m", value_parser = units::duration)]
    timeout: Duration,
}

/// The compose file that is meant when none is named: here or in a folder above.
fn find_file() -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(anyhow::Error::from)?;
    here.ancestors()
        .flat_map(|folder| FILES.map(|name| folder.join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::usage(
                "no compose file",
                format!("none of {} is here or above", FILES.join(", ")),
                "Name one with -f.",
            )
        })
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?
    } else {
        let file = std::fs::File::open(path)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?
    };
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}

/// The process's environment over that of `.env` beside the file, as Compose has it.
fn environment(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let path = folder.join(".env");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(unreadable(&path, &error)),
    };
    let outside = |name: &str| all.get(name).cloned();
    let file = manifest::parse_env_file_with(&path.to_string_lossy(), &text, &outside)
        .map_err(|problem| wrong_file(&path, &[*problem]))?;
    for (name, value) in file {
        all.entry(name).or_insert(value);
    }
    Ok(all)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(
        format!("{} cannot be read", path.display()),
        error.to_string(),
        "Name another file with -f.",
    )
}

/// Tells every problem with its line, then fails as wrong usage.
fn wrong_file(path: &Path, problems: &[manifest::Problem]) -> Failure {
    for problem in problems {
        output::say(output::printable(&problem.to_string()));
    }
    let count = match problems.len() {
        1 => "1 problem".to_string(),
        n => format!("{n} problems"),
    };
    Failure::usage(
        format!("{}: {count}", path.display()),
        "nothing was changed",
        "Correct the lines above and run `runrig up` again.",
    )
}

/// The project's folder on this machine.
struct Folder<'a>(&'a Path);

impl manifest::Folder for Folder<'_> {
    fn text(&self, path: &str) -> std::result::Result<Option<String>, String> {
        match read_text(&self.0.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

pub fn read_project(file: Option<&Path>, project: Option<String>) -> Result<manifest::Project> {
    let path = match file {
        Some(path) => path.to_path_buf(),
        None => find_file()?,
    };
    let text = read_text(&path).map_err(|e| unreadable(&path, &e))?;
    let folder = match path.parent() {
        Some(parent) if path != Path::new("-") && parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let folder = folder.canonicalize().map_err(|e| unreadable(&folder, &e))?;
    let environment = environment(&folder)?;
    let directory = folder.to_string_lossy();
    let project = project.or_else(|| environment.get("COMPOSE_PROJECT_NAME").cloned());
    let name = path.to_string_lossy();
    let read = manifest::read(manifest::Inputs {
        files: vec![manifest::Source {
            name: &name,
            text: &text,
        }],
        environment,
        project: project.filter(|p| !p.is_empty()),
        profiles: Default::default(),
        directory: &directory,
        folder: &Folder(&folder),
    });
    let project = read.map_err(|problems| wrong_file(&path, &problems.0))?;
    for warning in &project.warnings {
        output::say(format!(
            "warning: {}",
            output::printable(&warning.to_string())
        ));
    }
    Ok(project)
}

/// Of the compose file that is meant: for `down` without a name.
pub fn project_name(file: Option<&Path>) -> Result<String> {
    let named = std::env::var("COMPOSE_PROJECT_NAME")
        .ok()
        .filter(|n| !n.is_empty());
    Ok(read_project(file, named)?.name)
}

/// Every image's digest as it is now.
pub async fn pin(session: &Session, project: manifest::Project) -> Result<DeploymentSpec> {
    let mut images: BTreeMap<String, ImageRef> = BTreeMap::new();
    for reference in project.images() {
        let pinned = image::resolve(session, &reference).await?;
        images.insert(reference, pinned);
    }
    project
        .pin(&images)
        .map_err(|problems| wrong_file(Path::new("compose file"), &problems.0))
}

pub async fn up(session: &Session, args: &Up, json: bool) -> Result {
    let project = read_project(args.file.as_deref(), args.project.clone())?;
    let account = session.account()?;
    let spec = pin(session, project).await?;
    let request = QuoteRequest {
        owner: account,
        spec,
    };
    let quote = session.client.quote(&request).await?;
    let spec = request.spec;
    output::say(quote_words(&spec, &quote));
    if let Some(refusal) = quote.refusal {
        return Err(SdkError::rejected(refusal).into());
    }
    if let Some(max) = args.max_price
        && quote.total_hour > max
    {
        return Err(Failure::new(
            failure::FUNDS,
            format!("{} credits per hour", quote.total_hour),
            format!("--max-price is {max}"),
            "Ask for less under deploy.resources, or raise --max-price.",
        ));
    }
    let project = spec.project.clone();
    let unchanged = !quote.changes.is_empty() && quote.changes.values().all(|c| *c == Change::Kept);
    let before = session.client.deployments(account, false).await?;
    let before = before.into_iter().find(|d| d.project == project);
    let id = match before {
        Some(known) if unchanged => {
            output::say(format!(
                "{project} is up to date (release {})",
                known.release
            ));
            known.deployment
        }
        _ => {
            ask(session, args, &quote, &project)?;
            let max = args.max_price.unwrap_or(quote.total_hour);
            deploy(session, spec, max).await?
        }
    };
    start_stopped(session, id).await?;
    let view = if args.detach {
        session.client.deployment(id).await?
    } else {
        let goal = if args.wait {
            Goal::Healthy
        } else {
            Goal::Started
        };
        follow_until(session, id, goal, args.timeout).await?
    };
    report(session, &view, json);
    Ok(())
}

fn ask(session: &Session, args: &Up, quote: &Quote, project: &str) -> Result {
    if args.yes {
        return Ok(());
    }
    let question = format!(
        "Deploy {project} for {} credits per hour ({})?",
        quote.total_hour, session.name
    );
    match output::confirm(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(
            failure::FAILED,
            "nothing was deployed",
            "the answer was no",
            "",
        )),
        None => Err(money::needs_yes("up")),
    }
}

pub async fn deploy(session: &Session, spec: DeploymentSpec, max: Amount) -> Result<DeploymentId> {
    let call = Call::Deployment(Deployments::Deploy {
        spec,
        price_max_hour: Some(max),
    });
    let applied = session
        .client
        .submit_and_wait(&session.key()?, call)
        .await?;
    let deployed = applied.events.iter().find_map(|event| match event {
        Event::Deployment(ledger::deployment::Event::Deployed {
            deployment,
            release,
            ..
        }) => Some((*deployment, *release)),
        _ => None,
    });
    let (id, release) = deployed.ok_or_else(|| {
        Failure::new(
            failure::FAILED,
            "the ledger applied it, but does not say as what",
            format!("transaction {}", applied.id),
            "See `runrig ps`.",
        )
    })?;
    let height = applied.height.unwrap_or(0);
    output::say(format!(
        "{id} release {release} is on the ledger at height {height}"
    ));
    Ok(id)
}

/// `up` starts what `stop` had stopped.
async fn start_stopped(session: &Session, id: DeploymentId) -> Result {
    let view = session.client.deployment(id).await?;
    if view.allocations.iter().any(|a| a.desired == Desired::Stop) {
        let call = Call::Deployment(Deployments::SetRunning {
            deployment: id,
            service: None,
            running: true,
        });
        session
            .client
            .submit_and_wait(&session.key()?, call)
            .await?;
    }
    Ok(())
}

fn quote_words(spec: &DeploymentSpec, quote: &Quote) -> String {
    let rows: Vec<Vec<String>> = quote
        .lines
        .iter()
        .map(|l| {
            let change = quote
                .changes
                .get(&l.service)
                .map(ps::word)
                .unwrap_or_default();
            vec![
                l.service.clone(),
                change,
                l.replicas.to_string(),
                l.resource.name().into(),
                l.usage.clone(),
                l.unit.clone(),
                l.rate.to_string(),
                l.amount_hour.to_string(),
            ]
        })
        .collect();
    let headers = [
        "SERVICE",
        "CHANGE",
        "REPLICAS",
        "RESOURCE",
        "USE PER HOUR",
        "UNIT",
        "RATE",
        "CREDITS/H",
    ];
    let mut text = format!("project {}\n", spec.project);
    text.push_str(&output::table(&headers, &rows, &[2, 4, 6, 7]));
    for (service, _) in quote.changes.iter().filter(|(_, c)| **c == Change::Removed) {
        text.push_str(&format!("\n{service} is removed"));
    }
    text.push_str(&format!(
        "\nat most {} credits per hour when fully used, transfer {} per GiB; {} held in escrow of {} you have",
        quote.total_hour, quote.transfer_gib, quote.escrow, quote.balance
    ));
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Every container has been started once.
    Started,
    /// Every service is healthy, runs without a health check, or has ended well.
    Healthy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Reached,
    OnTheWay,
    Failed(String),
}

fn standing(a: &AllocationView, goal: Goal, ledger_ms: u64) -> Standing {
    let status = &a.status;
    // The host was there: its words are better than ours.
    let failed = |why: String| {
        let message = status.message.trim();
        Standing::Failed(match message.is_empty() {
            true => why,
            false => message.to_string(),
        })
    };
    let code = status.exit_code.unwrap_or(0);
    let ended = || match status.oom_killed {
        true => format!(
            "it ran out of memory ({} reserved)",
            units::bytes(a.reserved.memory_bytes)
        ),
        false => format!("it ended with exit code {code}"),
    };
    match status.state {
        RunState::Failed => failed("it could not be started".into()),
        RunState::Frozen => failed("it is frozen for lack of funds".into()),
        RunState::Exited if code == 0 && !status.oom_killed => Standing::Reached,
        RunState::Exited => failed(ended()),
        RunState::Restarting if status.restarts >= RESTARTS_MAX => failed(format!(
            "it was started {} times; {}",
            status.restarts + 1,
            ended()
        )),
        RunState::Running if goal == Goal::Started => Standing::Reached,
        RunState::Running => match status.health {
            Health::Healthy => Standing::Reached,
            Health::None if ledger_ms.saturating_sub(a.status_ms) >= SETTLED_MS => {
                Standing::Reached
            }
            Health::None => Standing::OnTheWay,
            Health::Unhealthy => failed("its health check fails".into()),
            Health::Starting => Standing::OnTheWay,
        },
        _ => Standing::OnTheWay,
    }
}

/// Shows each step until all replicas have reached `goal`, one fails, or time is up.
pub async fn follow_until(
    session: &Session,
    id: DeploymentId,
    goal: Goal,
    timeout: Duration,
) -> Result<DeploymentView> {
    let started = Instant::now();
    let progress = Progress::new();
    loop {
        let view = match session.client.deployment(id).await {
            Ok(view) => view,
            // The network may miss a beat; the deployment does not mind.
            Err(error) if error.is_transient() && started.elapsed() < timeout => {
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if view.funding == Funding::Frozen {
            progress.end();
            return Err(Failure::new(
                failure::FUNDS,
                format!("{} is frozen", view.project),
                "its funds have run out; its data is kept",
                "Run `runrig wallet topup`, or have credits sent to your account.",
            ));
        }
        let wanted: u32 = view.spec.services.values().map(|s| s.replicas).sum();
        let current: Vec<&AllocationView> = view
            .allocations
            .iter()
            .filter(|a| a.desired == Desired::Run)
            .collect();
        let ledger_ms = match goal {
            Goal::Started => 0,
            Goal::Healthy => session.client.status().await?.time_ms,
        };
        let mut waiting = Vec::new();
        for allocation in &current {
            let status = &allocation.status;
            let words = ps::describe(
                status.state,
                status.health,
                status.exit_code,
                status.oom_killed,
            );
            let words = format!("{words} {}", status.message);
            progress.step(allocation, words.trim_end());
            match standing(allocation, goal, ledger_ms) {
                Standing::Reached => {}
                Standing::OnTheWay => waiting.push(allocation.allocation.to_string()),
                Standing::Failed(why) => {
                    progress.end();
                    return Err(failed_replica(session, allocation, why).await);
                }
            }
        }
        if waiting.is_empty() && current.len() as u32 >= wanted {
            progress.end();
            return Ok(view);
        }
        if started.elapsed() > timeout {
            progress.end();
            return Err(Failure::new(
                failure::TIMED_OUT,
                format!(
                    "{} is deployed, but not ready within {} s",
                    view.project,
                    timeout.as_secs()
                ),
                format!("{} on the way", waiting.join(", ")),
                "It goes on: see `runrig ps` and `runrig logs`; give it longer with --timeout.",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn failed_replica(session: &Session, a: &AllocationView, why: String) -> Failure {
    for line in follow::last_lines(session, a.allocation, LAST_LINES).await {
        output::say(format!("{}.{} | {line}", a.service, a.replica));
    }
    Failure::new(
        failure::FAILED,
        format!(
            "{}.{} ({}) on {} fails",
            a.service, a.replica, a.allocation, a.host_name
        ),
        output::printable(&why),
        format!(
            "See `runrig logs {}`; correct it and run `runrig up` again.",
            a.allocation
        ),
    )
}

/// Where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    pub service: String,
    pub url: String,
    pub port: u16,
    /// In the container.
    pub target: u16,
}

/// Published ports first, then names.
pub fn endpoints(view: &DeploymentView, gateway: &str) -> Vec<Endpoint> {
    let rest = gateway.split_once("://").map_or(gateway, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let gateway_port: u16 = port.parse().unwrap_or(80);
    let services = view.spec.services.iter();
    let published = services.clone().flat_map(|(name, service)| {
        service.ports.iter().filter_map(move |p| {
            let port = p.published?;
            let scheme = if p.protocol == Protocol::Udp {
                "udp"
            } else {
                "http"
            };
            Some(Endpoint {
                service: name.clone(),
                url: format!("{scheme}://{host}:{port}"),
                port,
                target: p.target,
            })
        })
    });
    let named = services.filter_map(|(name, service)| {
        let tcp = service.ports.iter().find(|p| p.protocol == Protocol::Tcp);
        let target = tcp.map(|p| p.target).or(service.expose.first().copied())?;
        let part = name.replace(['_', '.'], "-").to_lowercase();
        Some(Endpoint {
            service: name.clone(),
            url: format!("http://{part}.{}.localhost:{gateway_port}", view.label),
            port: gateway_port,
            target,
        })
    });
    published.chain(named).collect()
}

fn report(session: &Session, view: &DeploymentView, json: bool) {
    let endpoints = endpoints(view, session.client.url());
    if json {
        let mut value = serde_json::to_value(view).unwrap_or_default();
        value["endpoints"] = serde_json::to_value(&endpoints).unwrap_or_default();
        output::json(&value);
        return;
    }
    for endpoint in endpoints {
        output::data(format!("{}  {}", endpoint.service, endpoint.url));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::deployment;

    #[test]
    fn endpoints_have_a_url_and_a_port() {
        let view = deployment(1, "shop", &["web_front"], 1);
        let all = endpoints(&view, "http://127.0.0.1:8700");
        let urls: Vec<&str> = all.iter().map(|e| e.url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "http://127.0.0.1:8080",
                "http://web-front.shop.localhost:8700"
            ]
        );
        let value = serde_json::to_value(&all[0]).expect("json");
        assert_eq!(value["service"], "web_front");
        assert_eq!(value["port"], 8080);
    }

    #[test]
    fn a_replica_stands_where_its_host_says() {
        let mut view = deployment(1, "shop", &["web"], 1);
        let a = &mut view.allocations[0];
        let mut see = |state, health, code, oom, restarts, goal| {
            a.status.state = state;
            a.status.health = health;
            a.status.exit_code = code;
            a.status.oom_killed = oom;
            a.status.restarts = restarts;
            match standing(a, goal, SETTLED_MS) {
                Standing::Reached => "reached",
                Standing::OnTheWay => "on the way",
                Standing::Failed(_) => "failed",
            }
        };
        use Goal::{Healthy as W, Started as S};
        use RunState as R;
        for (state, health, code, oom, restarts, goal, expected) in [
            (R::Running, Health::None, None, false, 0, W, "reached"),
            (
                R::Running,
                Health::Starting,
                None,
                false,
                0,
                W,
                "on the way",
            ),
            (R::Running, Health::Starting, None, false, 0, S, "reached"),
            (R::Running, Health::Unhealthy, None, false, 0, W, "failed"),
            (R::Exited, Health::None, Some(0), false, 0, W, "reached"),
            (R::Exited, Health::None, Some(1), false, 0, S, "failed"),
            (R::Exited, Health::None, Some(137), true, 0, W, "failed"),
            (
                R::Restarting,
                Health::None,
                Some(1),
                false,
                1,
                W,
                "on the way",
            ),
            (R::Restarting, Health::None, Some(1), false, 3, W, "failed"),
            (R::Failed, Health::None, None, false, 0, W, "failed"),
            (R::Pulling, Health::None, None, false, 0, W, "on the way"),
        ] {
            assert_eq!(
                see(state, health, code, oom, restarts, goal),
                expected,
                "{state:?}"
            );
        }
    }

    #[test]
    fn what_has_just_started_is_given_a_moment_to_fail() {
        let view = deployment(1, "shop", &["web"], 1);
        let a = &view.allocations[0];
        assert_eq!(
            standing(a, Goal::Healthy, SETTLED_MS - 1),
            Standing::OnTheWay
        );
        assert_eq!(standing(a, Goal::Healthy, SETTLED_MS), Standing::Reached);
        assert_eq!(standing(a, Goal::Started, 0), Standing::Reached);
    }

    #[test]
    fn a_project_is_read_with_its_env_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("compose.yaml");
        let text = "services:\n  web:\n    image: nginx:${TAG}\n    env_file: web.env\n";
        std::fs::write(&path, text).expect("written");
        std::fs::write(folder.path().join(".env"), "TAG=1.27\n").expect("written");
        std::fs::write(folder.path().join("web.env"), "A=b\n").expect("written");
        let project = read_project(Some(&path), Some("shop".into())).expect("read");
        assert_eq!(project.name, "shop");
        assert_eq!(project.services["web"].spec.image.reference, "nginx:1.27");
        assert_eq!(project.services["web"].spec.environment["A"], "b");
        std::fs::write(&path, "services:\n  web:\n    imagee: x\n").expect("written");
        assert_eq!(
            read_project(Some(&path), None)
                .map(|_| ())
                .map_err(|f| f.exit),
            Err(2)
        );
        let none = folder.path().join("none.yaml");
        assert_eq!(
            read_project(Some(&none), None)
                .map(|_| ())
                .map_err(|f| f.exit),
            Err(2)
        );
    }
}
