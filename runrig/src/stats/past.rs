//! `stats --by`: what services were asked in each hour or day, as the gateway wrote it down.

use std::collections::BTreeMap;

use api::{PastStep, RequestPast};
use serde::Serialize;
use types::DeploymentId;

use super::latency;
use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;
use crate::units;

/// A line of `stats --by --json`.
#[derive(Serialize)]
struct Row<'a> {
    project: &'a str,
    #[serde(flatten)]
    asked: &'a RequestPast,
}

/// Whether `job` names a service of `project`, as a JOB does.
fn names(job: &str, project: &str, asked: &RequestPast) -> bool {
    match job.split_once('/') {
        Some((of, service)) => of == project && service == asked.service,
        None => job == project || job == asked.service || job == asked.deployment.to_string(),
    }
}

pub async fn requests(
    session: &Session,
    jobs: &[String],
    by: PastStep,
    since_ms: u64,
    json: bool,
) -> Result {
    const WHAT: &str = "stats --by";
    let (account, key) = (session.account()?, session.key()?);
    let client = &session.client;
    let past = client.requests_past(&key, account, by, since_ms).await?;
    let Some(begun_ms) = past.begun_ms else {
        return Err(Failure::new(
            failure::FAILED,
            WHAT,
            "the gateway writes nothing down",
            "Its operator starts it with --data DIR; minutes of the last hour: `runrig stats --since 1h`.",
        ));
    };
    let deployments = client.deployments(account, true).await?;
    let projects: BTreeMap<DeploymentId, String> = deployments
        .into_iter()
        .map(|d| (d.deployment, d.project))
        .collect();
    let project = |asked: &RequestPast| projects.get(&asked.deployment).map_or("", String::as_str);
    let mut rows: Vec<Row> = past
        .rows
        .iter()
        .map(|asked| Row {
            project: project(asked),
            asked,
        })
        .collect();
    if let Some(job) = jobs
        .iter()
        .find(|job| !rows.iter().any(|r| names(job, r.project, r.asked)))
    {
        return Err(Failure::new(
            failure::NOT_FOUND,
            WHAT,
            format!("no request to {job} is known of since then"),
            "All that is known: the same without a name.",
        ));
    }
    rows.retain(|r| jobs.is_empty() || jobs.iter().any(|job| names(job, r.project, r.asked)));
    rows.sort_by_key(|r| r.asked.at_ms);
    if begun_ms > since_ms {
        output::say(format!(
            "The gateway writes down since {}.",
            units::time(begun_ms)
        ));
    }
    if past.cut {
        output::say("There are more rows than are told: ask for a later --since.");
    }
    if json {
        rows.iter().for_each(output::json_line);
        return Ok(());
    }
    let headers = [
        "FROM", "FOR", "PROJECT", "SERVICE", "REQUESTS", "2XX", "3XX", "4XX", "5XX", "P50", "P95",
        "IN", "OUT",
    ];
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let right = [1, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    output::data(output::table(&headers, &cells, &right));
    Ok(())
}

fn cells(row: &Row) -> Vec<String> {
    let asked = row.asked;
    let mut cells = vec![
        units::time(asked.at_ms),
        units::age(asked.step_ms),
        row.project.into(),
        asked.service.clone(),
        asked.answers.iter().sum::<u64>().to_string(),
    ];
    cells.extend(asked.answers[1..].iter().map(u64::to_string));
    cells.extend([latency(asked.p50_us), latency(asked.p95_us)]);
    cells.extend([units::bytes(asked.received), units::bytes(asked.sent)]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_in_each_way() {
        let asked = RequestPast {
            deployment: DeploymentId(7),
            service: "web".into(),
            at_ms: 0,
            step_ms: 1,
            answers: [0; 5],
            received: 0,
            sent: 0,
            p50_us: None,
            p95_us: None,
        };
        for (job, is) in [
            ("shop", true),
            ("web", true),
            ("shop/web", true),
            ("d-7", true),
            ("shop/db", false),
            ("other/web", false),
            ("d-8", false),
            ("", false),
        ] {
            assert_eq!(names(job, "shop", &asked), is, "{job}");
        }
    }
}
