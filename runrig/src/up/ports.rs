//! Ports that are published at one of several: where they are already, else at the first that is
//! free.

use std::collections::BTreeSet;

use manifest::Project;
use types::PortSpec;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;

/// Errors: `FAILED` if every port of a range is another project's.
pub async fn choose(session: &Session, project: &mut Project) -> Result {
    let services = project.services.values();
    let ranges: BTreeSet<(u16, u16)> = services
        .flat_map(|s| s.port_choices.iter().map(|c| c.range))
        .collect();
    if ranges.is_empty() {
        return Ok(());
    }
    let own = session
        .client
        .deployments(session.account()?, false)
        .await?;
    let running = own.into_iter().find(|d| d.project == project.name);
    let mut taken = BTreeSet::new();
    for (first, last) in ranges {
        let published = session.client.ports(first, last).await?.into_iter();
        let others =
            published.filter(|p| Some(p.deployment) != running.as_ref().map(|d| d.deployment));
        taken.extend(others.map(|p| (p.protocol, p.port)));
    }
    let kept = |service: &str, port: &PortSpec| {
        let service = running.as_ref()?.spec.services.get(service)?;
        let mut ports = service.ports.iter();
        let same = ports.find(|p| (p.target, p.protocol) == (port.target, port.protocol));
        same.and_then(|p| p.published)
    };
    let chosen = project.choose_ports(|protocol, port| taken.contains(&(protocol, port)), kept);
    if let Err((service, (first, last))) = chosen {
        return Err(Failure::new(
            failure::FAILED,
            format!("service {service} is published at none of {first}-{last}"),
            "every one of these ports is published by other projects",
            "Name a longer range, or one that is free.",
        ));
    }
    for (name, service) in &project.services {
        for choice in &service.port_choices {
            let port = service.spec.ports[choice.at];
            output::say(format!(
                "port {} of {name} is published at {}, of {}-{}",
                port.target,
                port.published.unwrap_or_default(),
                choice.range.0,
                choice.range.1
            ));
        }
    }
    Ok(())
}
