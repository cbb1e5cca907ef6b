//! What services say of one another must hold together.

use std::collections::{BTreeMap, BTreeSet};

use types::{PortSpec, Protocol, ServiceSpec};

use crate::field::Field;
use crate::problem::shown;
use crate::project::{Project, ServiceDraft};
use crate::reader::Reader;

/// Points at `key` of a service if the file has it there, else at the service.
pub(crate) fn place<'n>(reader: &mut Reader, service: &Field<'n>, key: &str) -> Field<'n> {
    if reader.is_full() {
        return service.clone();
    }
    reader
        .map(service)
        .into_iter()
        .find(|(name, _)| *name == key)
        .map_or_else(|| service.clone(), |(_, field)| field)
}

pub(crate) fn references(
    reader: &mut Reader,
    field: &Field<'_>,
    draft: &ServiceDraft,
    project: &Project,
) {
    for name in draft.spec.networks.keys() {
        if !project.networks.contains_key(name) {
            let at = place(reader, field, "networks");
            reader.wrong_at(
                &at,
                format!("the network {} is not declared", shown(name)),
                "networks stand under networks: at the top of the file",
                &format!("add \"networks: {{ {}: }}\" there", shown(name)),
            );
        }
    }
    for mount in &draft.spec.mounts {
        if let Some(name) = mount.source.volume()
            && !project.volumes.contains_key(name)
        {
            let at = place(reader, field, "volumes");
            reader.wrong_at(
                &at,
                format!("the volume {} is not declared", shown(name)),
                "named volumes stand under volumes: at the top of the file",
                &format!("add \"volumes: {{ {}: }}\" there", shown(name)),
            );
        }
    }
    let sleeps = |s: &ServiceSpec| s.autoscale.is_some_and(|a| a.min == 0);
    let tcp = |p: &PortSpec| p.protocol == Protocol::Tcp;
    let spec = &draft.spec;
    if sleeps(spec) && spec.expose.is_empty() && !spec.ports.iter().any(tcp) {
        let at = place(reader, field, "x-runrig");
        reader.wrong_at(
            &at,
            "it has no TCP port, and may have no replica",
            "a request to one of its ports is what starts a replica",
            "name its port with expose, or set min: 1",
        );
    }
    for (name, condition) in &draft.spec.depends_on {
        let Some(dependency) = project.services.get(name) else {
            continue; // told already
        };
        if sleeps(&dependency.spec) {
            let at = place(reader, field, "depends_on");
            reader.warn_at(
                &at,
                format!("{} may have no replica when it is needed", shown(name)),
                "only requests from outside start one, not those of other services",
                "give it autoscale with min: 1",
            );
        }
        if *condition == types::DependencyCondition::ServiceHealthy
            && dependency
                .spec
                .healthcheck
                .as_ref()
                .is_some_and(|c| c.is_off())
        {
            let at = place(reader, field, "depends_on");
            reader.wrong_at(
                &at,
                format!(
                    "the healthcheck of {} is off, so it never becomes healthy",
                    shown(name)
                ),
                "disable: true and test: [NONE] take the image's own check away too",
                "give it a healthcheck, or wait for service_started",
            );
        }
    }
}

/// No two mounts at one place.
pub(crate) fn doubled_mounts(reader: &mut Reader, field: &Field<'_>, draft: &ServiceDraft) {
    let mut seen = BTreeSet::new();
    let mounts = draft.spec.mounts.iter().map(|m| &m.target);
    let files = draft.files.iter().map(|f| &f.target);
    let secrets = draft.secrets.iter().map(|s| &s.target);
    for target in mounts.chain(files).chain(secrets) {
        let parts = target.split('/').filter(|p| !matches!(*p, "" | "."));
        if !seen.insert(parts.collect::<Vec<_>>()) {
            let what = format!("two volumes are mounted at {}", shown(target));
            reader.wrong_at(field, what, "", "remove one");
        }
    }
}

pub(crate) fn published_once(
    reader: &mut Reader,
    places: &BTreeMap<&str, Field<'_>>,
    project: &mut Project,
) {
    if let Err((name, (first, last))) = project.choose_ports(|_, _| false, |_, _| None) {
        let at = place(reader, &places[name.as_str()], "ports");
        let what = format!("no port of {first}-{last} is left");
        let why = "other entries of the project publish every one of them";
        reader.wrong_at(&at, what, why, "name a longer range");
    }
    let mut taken = BTreeMap::new();
    for (name, draft) in &project.services {
        for (index, port) in draft.spec.ports.iter().enumerate() {
            if draft.port_choices.iter().any(|c| c.at == index) {
                continue;
            }
            let Some(published) = port.published else {
                continue;
            };
            if let Some(other) = taken.insert((port.protocol, published), name.as_str()) {
                let at = place(reader, &places[name.as_str()], "ports");
                reader.wrong_at(
                    &at,
                    format!("port {published}/{} is published twice", port.protocol),
                    &format!("{} publishes it too", shown(other)),
                    "choose another",
                );
            }
        }
    }
}

pub(crate) fn circles(
    reader: &mut Reader,
    places: &BTreeMap<&str, Field<'_>>,
    services: &BTreeMap<String, ServiceDraft>,
) {
    let needs: BTreeMap<&str, BTreeSet<&str>> = services
        .iter()
        .map(|(name, draft)| {
            let known = draft
                .spec
                .depends_on
                .keys()
                .filter(|d| services.contains_key(*d));
            (name.as_str(), known.map(String::as_str).collect())
        })
        .collect();
    let circle = never_free(needs);
    let Some(first) = circle.first() else {
        return;
    };
    let at = place(reader, &places[first], "depends_on");
    reader.wrong_at(
        &at,
        format!("depends_on goes in a circle: {}", shown(&circle.join(", "))),
        "none of them could start first",
        "remove one of the dependencies",
    );
}

/// Those whose needs are never all met, one after the other, in order of their names.
fn never_free<'n>(mut left: BTreeMap<&'n str, BTreeSet<&'n str>>) -> Vec<&'n str> {
    while let Some(name) = left
        .iter()
        .find(|(_, needs)| needs.is_empty())
        .map(|(name, _)| *name)
    {
        left.remove(name);
        for needs in left.values_mut() {
            needs.remove(name);
        }
    }
    left.into_keys().collect()
}

/// What is built out of another service's image names one that is built, and not in a circle.
pub(crate) fn built_after(
    reader: &mut Reader,
    places: &BTreeMap<&str, Field<'_>>,
    services: &BTreeMap<String, ServiceDraft>,
) {
    let builds = services.iter();
    let builds = builds.filter_map(|(name, draft)| Some((name.as_str(), draft.build.as_ref()?)));
    let all: BTreeMap<&str, BTreeSet<&str>> = builds
        .map(|(name, build)| (name, build.services().collect()))
        .collect();
    let built: BTreeSet<&str> = all.keys().copied().collect();
    for (name, needs) in &all {
        if let Some(missing) = needs.iter().find(|n| !built.contains(*n)) {
            let at = place(reader, &places[name], "build");
            let what = format!("nothing is built for a service {}", shown(missing));
            let why = "additional_contexts names it";
            reader.wrong_at(&at, what, why, "name a service with build:");
            return;
        }
    }
    let circle = never_free(all);
    if let Some(first) = circle.first() {
        let at = place(reader, &places[first], "build");
        let what = format!("builds go in a circle: {}", shown(&circle.join(", ")));
        let why = "none of them could be built first";
        reader.wrong_at(&at, what, why, "remove one of the additional_contexts");
    }
}
