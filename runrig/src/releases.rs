//! `releases`, `diff`, `rollback`: what a project was, and how it becomes that again.

use std::time::Duration;

use api::{Cause, DeploymentView, ReleaseView};
use clap::Args;
use ledger::Call;
use ledger::deployment::Call as Deployments;
use similar::{ChangeTag, TextDiff};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::job::Jobs;
use crate::rollout::{Goal, follow_until};
use crate::verified::{self, OfDeployment};
use crate::{output, scale, units};

/// The project that is meant: the only one, if none is named.
fn project<'a>(jobs: &'a Jobs, name: Option<&str>) -> Result<&'a DeploymentView> {
    match (name, &jobs.deployments[..]) {
        (Some(name), _) => Ok(jobs.find(name)?.deployment),
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::new(
            failure::NOT_FOUND,
            "no project",
            "nothing of yours is deployed",
            "Deploy with `runrig up`.",
        )),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|d| d.project.as_str()).collect();
            Err(Failure::usage(
                "which project?",
                format!("you have {}", names.join(", ")),
                "Name one.",
            ))
        }
    }
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig releases shop\n  runrig releases --json")]
pub struct Releases {
    /// Project; the only one if not said
    project: Option<String>,
}

/// Verified if that is asked for.
async fn releases_of(session: &Session, of: &DeploymentView) -> Result<Vec<ReleaseView>> {
    let fetch = async || Ok(session.client.releases(of.deployment).await?);
    verified::read(session, fetch, async |verifier, all| {
        let key = |one: &ReleaseView| OfDeployment(of.deployment, one.release);
        let rows: Vec<_> = all.iter().map(|one| (key(one), one)).collect();
        verifier.rows("releases", &rows).await
    })
    .await
}

pub async fn list(session: &Session, args: &Releases, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    let deployment = project(&jobs, args.project.as_deref())?;
    let releases = releases_of(session, deployment).await?;
    if json {
        output::json(&releases);
        return Ok(());
    }
    if output::ids_only() {
        for release in &releases {
            output::data(release.release);
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = releases.iter().map(|r| row(deployment, r)).collect();
    output::data(output::table(
        &["RELEASE", "MADE", "STATE", "CAUSE"],
        &rows,
        &[0],
    ));
    for line in scale::words(deployment, |_| true) {
        output::say(line);
    }
    Ok(())
}

fn row(deployment: &DeploymentView, release: &ReleaseView) -> Vec<String> {
    let failed = deployment
        .setback
        .as_ref()
        .filter(|s| s.release == release.release);
    let mut state = Vec::new();
    if release.latest {
        state.push(match &deployment.rollout {
            Some(rollout) if rollout.stuck.is_some() => "stuck".into(),
            Some(_) => "rolling out".into(),
            None => "runs".into(),
        });
    }
    if release.good && !release.latest {
        state.push("last good".into());
    }
    if let Some(setback) = failed {
        state.push(format!("failed: {}", output::printable(&setback.why)));
    }
    vec![
        release.release.to_string(),
        units::time(release.made_ms),
        state.join(", "),
        cause(&release.cause),
    ]
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Deployed => "deployed".into(),
        Cause::RolledBack { to, why } if why.is_empty() => format!("rolled back to {to}"),
        Cause::RolledBack { to, .. } => format!("went back to {to} by itself"),
    }
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig diff shop\n  runrig diff shop 3 5")]
pub struct Diff {
    /// Project
    project: String,
    /// Earlier release; the one before the later if not said
    from: Option<u32>,
    /// Later release; the latest if not said
    to: Option<u32>,
}

/// What changed between two releases, as compose files.
pub async fn diff(session: &Session, args: &Diff, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    let deployment = project(&jobs, Some(&args.project))?;
    let releases = releases_of(session, deployment).await?;
    let to = args.to.unwrap_or(deployment.release);
    let before = releases.iter().map(|r| r.release).filter(|r| *r < to).max();
    let Some(from) = args.from.or(before) else {
        return Err(Failure::new(
            failure::NOT_FOUND,
            format!("{} has no release before {to}", deployment.project),
            "there is nothing to compare with",
            "See `runrig releases`.",
        ));
    };
    let (old, new) = (compose(&releases, from)?, compose(&releases, to)?);
    let diff = TextDiff::from_lines(&old, &new);
    if json {
        let lines: Vec<_> = diff
            .iter_all_changes()
            .filter(|c| c.tag() != ChangeTag::Equal)
            .map(|c| serde_json::json!({"sign": c.tag().to_string(), "line": c.value().trim_end()}))
            .collect();
        output::json(&serde_json::json!({"from": from, "to": to, "changes": lines}));
        return Ok(());
    }
    let (a, b) = (format!("release {from}"), format!("release {to}"));
    let text = diff.unified_diff().header(&a, &b).to_string();
    match text.is_empty() {
        true => output::say(format!("releases {from} and {to} are the same")),
        false => output::data(text.trim_end()),
    }
    Ok(())
}

fn compose(releases: &[ReleaseView], number: u32) -> Result<String> {
    let found = releases.iter().find(|r| r.release == number);
    found.map(|r| manifest::to_compose(&r.spec)).ok_or_else(|| {
        Failure::new(
            failure::NOT_FOUND,
            format!("release {number}"),
            "it is not kept",
            "See `runrig releases`.",
        )
    })
}

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig rollback shop\n  runrig rollback shop --to 3 --wait")]
pub struct Rollback {
    /// Project; the only one if not said
    project: Option<String>,
    /// Release to go back to; the last good one before the latest if not said
    #[arg(long, value_name = "RELEASE")]
    to: Option<u32>,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Args, Debug)]
pub struct Wait {
    /// Return when the release is good
    #[arg(long)]
    wait: bool,
    /// Wait at most so long
    #[arg(long, default_value = "5m", value_parser = units::duration)]
    timeout: Duration,
}

pub async fn rollback(session: &Session, args: &Rollback, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    let deployment = project(&jobs, args.project.as_deref())?;
    let call = Deployments::Rollback {
        deployment: deployment.deployment,
        release: args.to,
    };
    change(session, deployment, call, &args.wait, json).await
}

/// Submits `call`, which makes a release of `deployment`, and says what became of it.
pub async fn change(
    session: &Session,
    deployment: &DeploymentView,
    call: Deployments,
    wait: &Wait,
    json: bool,
) -> Result {
    let call = Call::Deployment(call);
    session.submit(call).await?;
    let id = deployment.deployment;
    let view = match wait.wait {
        true => follow_until(session, id, Goal::Good, wait.timeout).await?,
        false => session.client.deployment(id).await?,
    };
    if json {
        output::json(&view);
    } else {
        output::say(format!("{} is at release {}", view.project, view.release));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_in_words() {
        let back = |why: &str| Cause::RolledBack {
            to: 2,
            why: why.into(),
        };
        assert_eq!(cause(&Cause::Deployed), "deployed");
        assert_eq!(cause(&back("")), "rolled back to 2");
        assert_eq!(cause(&back("it failed")), "went back to 2 by itself");
    }
}
