//! `logs --access`: the requests that the gateway has served for services.

use std::collections::{BTreeMap, BTreeSet};

use api::Access;
use futures::StreamExt;
use journal::Filter;
use sdk::{LogQuery, SdkError};
use serde::Serialize;
use types::DeploymentId;

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::job::Jobs;
use crate::output;
use crate::units;

/// How long one question waits for a further request.
const WAIT_MS: u64 = 20_000;

pub struct Wanted<'a> {
    pub jobs: &'a [String],
    pub follow: bool,
    pub query: &'a LogQuery,
    pub json: bool,
}

/// A line of `logs --access --json`.
#[derive(Serialize)]
struct Row<'a> {
    project: &'a str,
    service: &'a str,
    #[serde(flatten)]
    access: &'a Access,
}

type Key = (DeploymentId, String);

fn words(service: &str, a: &Access) -> String {
    let by = a.allocation.map(|id| format!(" {id}")).unwrap_or_default();
    format!(
        "{} {service} {} \"{} {} {}\" {} {} {}us{by}",
        units::time(a.at_ms),
        a.client,
        a.method,
        output::tame(&a.path),
        a.protocol,
        a.status,
        a.sent,
        a.duration_us,
    )
}

pub async fn show(session: &Session, wanted: &Wanted<'_>) -> Result {
    let key = session.key()?;
    let filter = Filter::between(wanted.query.since_ms, wanted.query.until_ms);
    let filter = match &wanted.query.grep {
        Some(pattern) => filter.grep(pattern).map_err(|why| {
            let next = "Write a regular expression, without look-around.";
            Failure::usage("--grep", why.to_string(), next)
        })?,
        None => filter,
    };
    let jobs = Jobs::of(session).await?;
    let mut services: BTreeMap<Key, String> = BTreeMap::new();
    for job in jobs.select(wanted.jobs)? {
        let names: BTreeSet<&String> = match job.service {
            Some(service) => job
                .deployment
                .spec
                .services
                .keys()
                .filter(|s| *s == service)
                .collect(),
            None => job.deployment.spec.services.keys().collect(),
        };
        for name in names {
            let key = (job.deployment.deployment, name.clone());
            services.insert(key, job.deployment.project.clone());
        }
    }
    let print = |(_, service): &Key, project: &str, access: &Access| {
        let text = words(service, access);
        if !filter.may_hold(access.at_ms, access.at_ms) || !filter.finds(&text) {
            return;
        }
        match wanted.json {
            true => output::json_line(&Row {
                project,
                service,
                access,
            }),
            false => output::data(text),
        }
    };
    let mut past = Vec::new();
    let mut next: BTreeMap<&Key, u64> = BTreeMap::new();
    let mut last_error = None;
    for (at, project) in &services {
        match session.client.access(&key, at.0, &at.1, None, 0).await {
            Ok(requests) => {
                next.insert(at, requests.last().map_or(0, |a| a.sequence + 1));
                past.extend(requests.into_iter().map(|a| (at, project, a)));
            }
            // Services without a port have no requests.
            Err(error) if error.kind() == "not_found" => last_error = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    if next.is_empty()
        && let Some(error) = last_error
    {
        return Err(error.into());
    }
    past.sort_by_key(|(at, _, a)| (a.at_ms, *at, a.sequence));
    if let Some(count) = wanted.query.tail {
        past.drain(..past.len().saturating_sub(count));
    }
    past.iter()
        .for_each(|(at, project, a)| print(at, project, a));
    if !wanted.follow {
        return Ok(());
    }
    let followed = next.into_iter().map(|(at, from)| {
        let (client, key) = (session.client.clone(), key.clone());
        futures::stream::unfold(from, move |from| {
            let (client, key) = (client.clone(), key.clone());
            async move {
                let asked = client.access(&key, at.0, &at.1, Some(from), WAIT_MS).await;
                let next = match &asked {
                    Ok(requests) => requests.last().map_or(from, |a| a.sequence + 1),
                    // A gateway that was started again counts from nothing.
                    Err(_) => {
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                        0
                    }
                };
                Some(((at, asked), next))
            }
        })
        .boxed()
    });
    let mut followed = futures::stream::select_all(followed);
    while let Some((at, asked)) = followed.next().await {
        match asked {
            Ok(requests) => requests.iter().for_each(|a| print(at, &services[at], a)),
            Err(SdkError::Refused(problem)) if problem.kind != "unavailable" => {
                return Err(SdkError::Refused(problem).into());
            }
            Err(_) => {}
        }
    }
    Ok(())
}
