//! `down`, `restart`, `stop`, `start`, `rm`: change what runs.

use std::time::{Duration, Instant};

use api::TransactionView;
use clap::Args;
use ledger::Call;
use ledger::deployment::Call as Deployments;
use serde::Serialize;
use types::{DeploymentId, RunState};

use crate::compose_file::{ComposeFiles, read_project};
use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::job::{Job, Jobs};
use crate::output;
use crate::units;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig restart shop/web\n  runrig stop shop\n  runrig start shop"
)]
pub struct Target {
    /// Service, project, project/service, d-1 or a-1
    #[arg(required = true)]
    jobs: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Restart,
    Stop,
    Start,
}

impl Act {
    fn call(self, deployment: DeploymentId, service: Option<String>) -> Call {
        Call::Deployment(match self {
            Self::Restart => Deployments::Restart {
                deployment,
                service,
            },
            Self::Stop | Self::Start => Deployments::SetRunning {
                deployment,
                service,
                running: self == Self::Start,
            },
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Restart => "restarted",
            Self::Stop => "stopped",
            Self::Start => "started",
        }
    }
}

#[derive(Serialize)]
struct Done<'a> {
    act: &'a str,
    deployment: DeploymentId,
    project: &'a str,
    service: Option<&'a str>,
    transaction: types::Digest,
    height: Option<u64>,
}

/// Only whole services are stopped, started and restarted: of a replica named alone its
/// service is meant if it is the only one, and else nothing is done.
fn service_of(act: Act, job: Job<'_>) -> Result<Option<String>> {
    let replicas = job.deployment.allocations.iter();
    let siblings = replicas.filter(|a| !a.closed && Some(a.service.as_str()) == job.service);
    let count = siblings.count();
    if let Some(one) = job.allocation
        && count > 1
    {
        let whole = format!("{}/{}", one.project, one.service);
        return Err(Failure::usage(
            format!(
                "{} is one of the {count} replicas of {whole}",
                one.allocation
            ),
            "the ledger acts on whole services",
            format!("For all {count} of them: `runrig {} {whole}`.", act.word()),
        ));
    }
    Ok(job.service.map(str::to_string))
}

pub async fn act(session: &Session, act: Act, args: &Target, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    // All of them are looked at before the first is touched.
    let mut calls = Vec::new();
    for job in jobs.select(&args.jobs)? {
        let call = act.call(job.deployment.deployment, service_of(act, job)?);
        calls.push((job, call));
    }
    for (job, call) in calls {
        let applied = session.submit(call).await?;
        report(act.done(), job, &applied, json);
    }
    Ok(())
}

fn report(act: &str, job: Job<'_>, applied: &TransactionView, json: bool) {
    if json {
        output::json_line(&Done {
            act,
            deployment: job.deployment.deployment,
            project: &job.deployment.project,
            service: job.service,
            transaction: applied.id,
            height: applied.height,
        });
    } else {
        output::say(format!("{} {act}", job.name()));
    }
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig down\n  runrig down shop\n  runrig down -v -f shop/compose.yaml"
)]
pub struct Down {
    /// Project; that of the compose file here if not said
    name: Option<String>,
    /// Named volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Compose files whose project is meant
    #[command(flatten)]
    compose: ComposeFiles,
    /// Wait at most so long until all has ended; 0 does not wait
    #[arg(long, default_value = "60s", value_parser = units::duration)]
    timeout: Duration,
}

pub async fn down(session: &Session, args: &Down, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    let name = match args.name.clone().or_else(|| args.compose.project.clone()) {
        Some(name) => name,
        None => read_project(&args.compose)?.name,
    };
    let found = jobs
        .deployments
        .iter()
        .find(|d| d.project == name || d.deployment.to_string() == name);
    let Some(deployment) = found else {
        return Err(Failure::new(
            failure::NOT_FOUND,
            format!("project {name}"),
            "you have no deployment of that name",
            "See `runrig ps`, or name one: `runrig down NAME`.",
        ));
    };
    let job = Job {
        deployment,
        service: None,
        allocation: None,
    };
    remove(session, job, args.volumes, args.timeout, json).await
}

async fn remove(
    session: &Session,
    job: Job<'_>,
    volumes: bool,
    timeout: Duration,
    json: bool,
) -> Result {
    let deployment = job.deployment.deployment;
    let call = Call::Deployment(Deployments::Remove {
        deployment,
        volumes,
    });
    let applied = session.submit(call).await?;
    if !timeout.is_zero() {
        until_gone(session, deployment, timeout).await?;
    }
    report("removed", job, &applied, json);
    Ok(())
}

/// For what was never meant to stay.
pub async fn remove_quietly(session: &Session, deployment: DeploymentId) -> Result {
    let call = Call::Deployment(Deployments::Remove {
        deployment,
        volumes: true,
    });
    session.submit(call).await?;
    Ok(())
}

/// Returns when no container of it is left.
async fn until_gone(session: &Session, id: DeploymentId, timeout: Duration) -> Result {
    let started = Instant::now();
    let progress = crate::progress::Progress::new();
    loop {
        let view = session.client.deployment(id).await?;
        let left: Vec<_> = view.allocations.iter().filter(|a| !a.closed).collect();
        for allocation in &view.allocations {
            progress.step(
                allocation,
                if allocation.closed {
                    "removed"
                } else {
                    "ending"
                },
            );
        }
        if left.is_empty() {
            progress.end();
            return Ok(());
        }
        if started.elapsed() > timeout {
            let names: Vec<String> = left
                .iter()
                .map(|a| format!("{} on {}", a.allocation, a.host_name))
                .collect();
            return Err(Failure::new(
                failure::TIMED_OUT,
                format!("{} is removed, but not all has ended yet", view.project),
                names.join(", "),
                "Its hosts may be offline: see `runrig host ls`. Nothing more needs to be done.",
            ));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig rm shop\n  runrig rm -f -v d-3")]
pub struct Rm {
    /// Projects or deployments
    #[arg(required = true)]
    jobs: Vec<String>,
    /// Also if something runs
    #[arg(short, long)]
    force: bool,
    /// Named volumes too
    #[arg(short, long)]
    volumes: bool,
}

pub async fn rm(session: &Session, args: &Rm, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    let named = args.jobs.iter().map(|job| jobs.find_whole(job));
    let selected = named.collect::<Result<Vec<_>>>()?;
    for job in &selected {
        if let Some(service) = job.service {
            return Err(Failure::usage(
                format!("{} is a service of a project", job.name()),
                "only whole projects are removed",
                format!(
                    "Take {service} out of the compose file and run `runrig up`, or remove all with `runrig rm {}`.",
                    job.deployment.project
                ),
            ));
        }
        let runs = job
            .allocations()
            .any(|a| a.status.state == RunState::Running);
        if runs && !args.force {
            return Err(Failure::new(
                failure::CONFLICT,
                format!("{} runs", job.name()),
                "what runs is not removed without being asked twice",
                format!(
                    "Run `runrig stop {0}` first, or `runrig rm -f {0}`.",
                    job.name()
                ),
            ));
        }
    }
    for job in selected {
        remove(session, job, args.volumes, Duration::from_secs(60), json).await?;
    }
    Ok(())
}
