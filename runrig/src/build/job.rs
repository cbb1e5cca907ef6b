//! A build while it runs on a host: placed, followed, told, and gone when it is over.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use api::{LogLine, QuoteRequest};
use futures::StreamExt;
use serde_json::json;
use types::{
    AllocationId, DeploymentId, DeploymentSpec, Digest, HostFeature, PlacementConstraint, RunState,
};

use super::recipe::Recipe;
use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::up::{Terms, agree};
use crate::{control, output, run};

const POLL: Duration = Duration::from_millis(200);
/// Of its output, kept to say how it failed.
const LINES_KEPT: usize = 200;
const LINES_SHOWN: usize = 20;
/// To be placed, and to have its images fetched, beyond the time that it may build.
const START_TIME: Duration = Duration::from_secs(600);

/// Where the account's builds go as long as they can: there its layers are kept.
async fn place(session: &Session, spec: &mut DeploymentSpec) -> Result {
    let account = session.account()?;
    let hosts = session.client.hosts().await?;
    let mut fit: Vec<_> = hosts
        .iter()
        .filter(|h| h.offer.builds && h.online && !h.cordoned && !h.draining && !h.closed)
        .collect();
    if fit.is_empty() {
        return Err(Failure::new(
            failure::NO_HOST,
            "no host builds images",
            "none that is online has a builder",
            "On a host: apt install buildah, then start it again (`runrig host ls`). Or build elsewhere: docker compose build && docker save NAME | runrig image load -, then `runrig up --no-build`.",
        ));
    }
    fit.sort_by_key(|h| Digest::of_value("runrig-builder-of", &(account, h.host)));
    for host in fit {
        let usual = PlacementConstraint {
            of: HostFeature::Host,
            equal: true,
            value: host.host.to_string(),
        };
        let mut there = spec.clone();
        for service in there.services.values_mut() {
            service.placement.constraints.push(usual.clone());
        }
        let request = QuoteRequest {
            owner: account,
            spec: there.clone(),
        };
        // Any refusal but that of the place is heard when it is asked for in earnest.
        if session.client.quote(&request).await?.refusal.is_none() {
            *spec = there;
            return Ok(());
        }
    }
    Ok(())
}

/// Builds; returns when the image is in the registry.
///
/// Errors: no host takes it; a step failed, with its line in `recipe`, called `file`.
pub async fn build(
    session: &Session,
    name: &str,
    mut spec: DeploymentSpec,
    terms: &Terms,
    (recipe, file): (&Recipe, &str),
) -> Result {
    place(session, &mut spec).await?;
    let seconds = spec.services.values().find_map(|s| s.build.as_ref());
    let seconds = seconds.map_or(0, |b| u64::from(b.seconds_max));
    let id = agree(session, spec, terms).await?;
    let ended = tokio::select! {
        ended = followed(session, id, name, START_TIME + Duration::from_secs(seconds)) => ended,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    };
    // However it ended, nothing of it is to stay.
    control::remove_quietly(session, id).await?;
    let Ended { code, lines, why } = ended?;
    if code == Some(0) {
        return Ok(());
    }
    let step = lines.iter().rev().find_map(|line| failed_step(line));
    let line = step.and_then(|step| recipe.line_of(step));
    let place = match line {
        Some(line) => format!("{file}:{line}: "),
        None => String::new(),
    };
    let last = lines.back().map(String::as_str).unwrap_or_default();
    let why = match (why.as_str(), step) {
        // What its host ended it for says more than what the builder made of it.
        (why, Some(_)) if !why.is_empty() => format!("{place}{}", output::printable(why)),
        (_, Some(step)) => format!("{place}{} failed", output::printable(step)),
        ("", None) => output::printable(last),
        (why, None) => output::printable(why),
    };
    let told = matches!(output::talk(), output::Talk::Auto | output::Talk::Plain);
    let details = match told {
        true => Vec::new(),
        false => {
            let skipped = lines.len().saturating_sub(LINES_SHOWN);
            lines
                .iter()
                .skip(skipped)
                .map(|l| output::tame(l))
                .collect()
        }
    };
    Err(Failure::new(
        failure::FAILED,
        format!("{name} is not built"),
        why,
        "Nothing was changed: what runs goes on.",
    )
    .detailed(details))
}

/// `building at STEP "RUN false": …`, as the builder says it.
fn failed_step(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("building at STEP \"")?;
    rest.split_once("\": ").map(|(step, _)| step)
}

struct Ended {
    code: Option<i32>,
    /// The last ones.
    lines: VecDeque<String>,
    why: String,
}

struct Teller<'a> {
    name: &'a str,
    shown: usize,
    lines: VecDeque<String>,
}

impl Teller<'_> {
    fn tell(&mut self, line: &LogLine) {
        self.shown += 1;
        if self.lines.len() >= LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line.text.clone());
        if output::talk() == output::Talk::Json {
            let step = json!({ "build": self.name, "at_ms": line.at_ms, "stream": line.stream,
                "text": line.text });
            return output::shout(step);
        }
        output::say(format!("{} | {}", self.name, output::tame(&line.text)));
    }
}

async fn followed(
    session: &Session,
    id: DeploymentId,
    name: &str,
    most: Duration,
) -> Result<Ended> {
    let first = run::placed(session, id, START_TIME).await?;
    let mut teller = Teller {
        name,
        shown: 0,
        lines: VecDeque::new(),
    };
    let ended = {
        let key = session.key()?;
        let mut lines = pin!(
            session
                .client
                .follow_logs(&key, first, sdk::LogQuery::default())
        );
        let mut ended = pin!(tokio::time::timeout(most, ended(session, first)));
        let mut open = true;
        loop {
            tokio::select! {
                ended = &mut ended => break ended,
                line = lines.next(), if open => match line {
                    Some(Ok(line)) => teller.tell(&line),
                    _ => open = false,
                },
            }
        }
    };
    let (code, why) = ended.map_err(|_| {
        Failure::new(
            failure::TIMED_OUT,
            format!("{name} is not built"),
            "its host did not say in time how it ended",
            "See `runrig host ls`, and try again.",
        )
    })??;
    // What it said last may still be on its way.
    let past = crate::logs::all(session, first).await;
    for line in past.iter().skip(teller.shown) {
        teller.tell(line);
    }
    Ok(Ended {
        code,
        lines: teller.lines,
        why,
    })
}

/// Its exit code, or why its host ended it.
async fn ended(session: &Session, id: AllocationId) -> Result<(Option<i32>, String)> {
    loop {
        let view = match session.client.allocation(id).await {
            Ok(view) => view,
            Err(error) if error.is_transient() => {
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let status = view.status;
        match status.state {
            RunState::Exited if status.oom_killed => return Ok((None, status.message)),
            RunState::Exited => return Ok((status.exit_code.or(Some(0)), String::new())),
            RunState::Failed => return Ok((None, status.message)),
            RunState::Frozen | RunState::Removed => {
                return Ok((None, "it was ended before it was done".into()));
            }
            _ if view.closed => return Ok((None, "its host was lost".into())),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_failed_is_read_from_what_the_builder_says() {
        let line = "Error: building at STEP \"RUN echo \"a\" && false\": while running runtime: exit status 1";
        assert_eq!(failed_step(line), Some("RUN echo \"a\" && false"));
        assert_eq!(failed_step("Error: other"), None);
    }
}
