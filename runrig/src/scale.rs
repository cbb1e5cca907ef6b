//! `scale`: how many replicas services have, as a number or as bounds with a target.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{DeploymentView, ScaleView};
use clap::Args;
use ledger::deployment::Call as Deployments;
use types::{AutoscaleSpec, ScaleTarget, ServiceSpec};

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::job::Jobs;
use crate::releases::{Wait, change};
use crate::{output, units};

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig scale web=3\n  runrig scale shop/web=5 shop/worker=0 --wait\n  runrig scale web --min 0 --max 5 --requests 20\n  runrig scale web --min 1 --max 8 --cpu 70 --idle 5m"
)]
pub struct Scale {
    /// SERVICE=REPLICAS, or SERVICE with bounds
    #[arg(required = true, value_parser = wish, value_name = "SERVICE[=REPLICAS]")]
    services: Vec<(String, Option<u32>)>,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Args, Clone, Debug, Default)]
struct Bounds {
    /// At least so many replicas; 0: none while nobody asks for anything
    #[arg(long)]
    min: Option<u32>,
    /// At most so many
    #[arg(long)]
    max: Option<u32>,
    /// More replicas when one uses more of its cores than so many percent
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "requests")]
    cpu: Option<ScaleTarget>,
    /// More replicas when one has more requests at once, or, as 100/s, per second
    #[arg(long, value_name = "COUNT", value_parser = requests)]
    requests: Option<ScaleTarget>,
    /// Fewer replicas once fewer have been enough for so long
    #[arg(long, value_parser = units::duration)]
    idle: Option<Duration>,
}

fn wish(text: &str) -> std::result::Result<(String, Option<u32>), String> {
    let Some((service, count)) = text.split_once('=') else {
        return Ok((text.into(), None));
    };
    let count = count
        .parse()
        .map_err(|_| format!("{count} is not a number of replicas"))?;
    Ok((service.into(), Some(count)))
}

fn percent(text: &str) -> std::result::Result<ScaleTarget, String> {
    manifest::cpu_target(text).ok_or_else(|| "write for example 70".into())
}

fn requests(text: &str) -> std::result::Result<ScaleTarget, String> {
    manifest::request_target(text).ok_or_else(|| "write for example 20, or 100/s".into())
}

impl Bounds {
    fn is_said(&self) -> bool {
        let target = self.cpu.or(self.requests);
        target.is_some() || self.min.is_some() || self.max.is_some() || self.idle.is_some()
    }

    /// What is said, over what `service` has.
    fn over(&self, service: &ServiceSpec) -> std::result::Result<AutoscaleSpec, String> {
        let before = service.autoscale;
        let max = self.max.or(before.map(|a| a.max));
        let idle_ms = self.idle.map(|idle| u32::try_from(idle.as_millis()));
        let spec = AutoscaleSpec {
            min: self.min.or(before.map(|a| a.min)).unwrap_or(1),
            max: max.ok_or("--max is missing: without it, it could cost any amount")?,
            target: self
                .cpu
                .or(self.requests)
                .or(before.map(|a| a.target))
                .unwrap_or_default(),
            idle_ms: match idle_ms {
                Some(ms) => ms.unwrap_or(u32::MAX),
                None => before.map_or(AutoscaleSpec::IDLE_MS, |a| a.idle_ms),
            },
        };
        spec.fault().map_or(Ok(spec), |fault| Err(fault.into()))
    }
}

pub async fn scale(session: &Session, args: &Scale, json: bool) -> Result {
    let jobs = Jobs::of(session).await?;
    let mut specs = BTreeMap::new();
    for (name, count) in &args.services {
        let job = jobs.find(name)?;
        let usage = |what: String, why: &str, next: &str| Err(Failure::usage(what, why, next));
        let Some(service) = job.service.filter(|_| job.allocation.is_none()) else {
            return usage(
                format!("{name} is not a service"),
                "only services have replicas",
                "Name one: `runrig scale SERVICE=REPLICAS`.",
            );
        };
        let (_, spec) = specs
            .entry(job.deployment.deployment)
            .or_insert_with(|| (job.deployment, job.deployment.spec.clone()));
        let Some(service) = spec.services.get_mut(service) else {
            continue;
        };
        match (count, args.bounds.is_said()) {
            (Some(count), false) => {
                if let Some(before) = service.autoscale.take() {
                    output::say(format!("{name} is no longer autoscaled ({before})"));
                }
                service.replicas = *count;
            }
            (None, true) => {
                let bounds = args.bounds.over(service).map_err(|why| {
                    let next = "See `runrig scale --help`.";
                    Failure::usage(format!("bounds of {name}"), why, next)
                })?;
                service.autoscale = Some(bounds);
            }
            (Some(_), true) => {
                return usage(
                    format!("{name}: a number and bounds"),
                    "it has a fixed number of replicas, or one that follows the load",
                    "Say SERVICE=REPLICAS, or SERVICE --min --max.",
                );
            }
            (None, false) => {
                return usage(
                    format!("how many replicas of {name}?"),
                    "no number and no bounds were given",
                    "Say SERVICE=REPLICAS, or SERVICE --min 0 --max 5 --requests 20.",
                );
            }
        }
    }
    for (deployment, spec) in specs.into_values() {
        let call = Deployments::Deploy {
            spec,
            price_max_hour: None,
        };
        change(session, deployment, call, &args.wait, json).await?;
    }
    Ok(())
}

/// One line for each autoscaled service that `chosen` names.
pub fn words(view: &DeploymentView, chosen: impl Fn(&str) -> bool) -> Vec<String> {
    let scales = view.scales.iter().filter(|(name, _)| chosen(name));
    scales
        .filter_map(|(name, scale)| {
            let spec = view.spec.services.get(name)?.autoscale?;
            Some(format!("{}/{name}: {}", view.project, stands(scale, &spec)))
        })
        .collect()
}

fn stands(scale: &ScaleView, spec: &AutoscaleSpec) -> String {
    let since = units::age(units::now_ms().saturating_sub(scale.changed_ms));
    let count = match scale.wanted {
        _ if scale.stopped => "stopped on request".to_string(),
        0 => "asleep: the next request starts a replica".into(),
        1 => "1 replica".into(),
        count => format!("{count} replicas"),
    };
    let why = output::printable(&scale.why);
    format!("{count} for {since} ({why}); {spec}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read() {
        assert_eq!(wish("shop/web=3"), Ok(("shop/web".into(), Some(3))));
        assert_eq!(wish("web"), Ok(("web".into(), None)));
        for wrong in ["web=", "web=-1", "web=many"] {
            assert!(wish(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_go_over_what_is_there() {
        let bounds = |min, max, requests| Bounds {
            min,
            max,
            requests,
            ..Bounds::default()
        };
        let mut service = ServiceSpec::default();
        let new = bounds(Some(0), None, None).over(&service);
        assert!(new.is_err_and(|why| why.contains("--max")));
        let target = Some(ScaleTarget::Requests(20));
        let new = bounds(Some(0), Some(4), target).over(&service);
        let new = new.expect("bounds");
        assert_eq!(new.to_string(), "0 to 4 replicas, 20 requests at once each");
        service.autoscale = Some(new);
        let more = bounds(None, Some(9), None).over(&service).expect("bounds");
        assert_eq!(more, AutoscaleSpec { max: 9, ..new });
        assert!(bounds(Some(5), None, None).over(&service).is_err());
    }
}
