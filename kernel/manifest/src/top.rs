//! The whole file: its top-level keys, and what services say of one another.

use std::collections::{BTreeMap, BTreeSet};

use types::{MountSource, NetworkSpec, VolumeSpec};

use crate::field::Field;
use crate::problem::{Problem, Problems, shown};
use crate::project::{Project, ServiceDraft};
use crate::reader::Reader;
use crate::yaml::{self, Mark};
use crate::{Inputs, refused};

const SERVICES_MAX: usize = 100;
const ENTRIES_MAX: usize = 256;
const NAME_MAX: usize = 40;

/// Reads a compose file.
///
/// Errors: everything wrong with it, in the order of its lines; then nothing should be done.
pub fn read(inputs: Inputs<'_>) -> Result<Project, Problems> {
    let mut reader = Reader::new(inputs.compose.name, &inputs.environment);
    let project = whole(&mut reader, &inputs);
    let mut problems = reader.problems;
    match project {
        Some(mut project) if problems.is_empty() => {
            reader.warnings.sort_by_key(|w| (w.line, w.column));
            project.warnings = reader.warnings;
            Ok(project)
        }
        _ => {
            problems.sort_by_key(|p| (p.line, p.column));
            problems.dedup();
            Err(Problems(problems))
        }
    }
}

fn whole(reader: &mut Reader<'_>, inputs: &Inputs<'_>) -> Option<Project> {
    let nothing = "a compose file names at least one service";
    let raw = match yaml::parse(inputs.compose.text) {
        Ok(Some(raw)) => raw,
        Ok(None) => {
            reader.wrong(Mark::default(), "", "the file is empty", nothing, "add one");
            return None;
        }
        Err(error) => {
            reader.wrong(error.at, "", error.what, "", &error.next);
            return None;
        }
    };
    let root = reader.resolve(&raw, &mut String::new());
    let top = Field {
        node: &root,
        at: root.at,
        path: String::new(),
    };
    let mut file_name = None;
    let mut places = BTreeMap::new();
    let mut project = Project {
        name: String::new(),
        services: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        warnings: Vec::new(),
        file: inputs.compose.name.to_string(),
    };
    for (key, field) in reader.map(&top) {
        match key {
            "name" => file_name = reader.text(&field).map(|name| (name, field)),
            "version" => reader.warn_at(
                &field,
                "version has no effect",
                "Compose has no versions any more",
                "remove it",
            ),
            "services" => services(reader, &field, inputs, &mut project, &mut places),
            "networks" => networks(reader, &field, &mut project.networks),
            "volumes" => volumes(reader, &field, &mut project.volumes),
            _ if key.starts_with("x-") => {}
            _ => match refused::top_key(key) {
                Some((why, next)) => {
                    reader.wrong_at(&field, format!("{key} is not supported"), why, next);
                }
                None => reader.unknown(&field, key, "name, services, networks, volumes"),
            },
        }
    }
    if project.services.is_empty() {
        reader.wrong_at(&top, "there are no services", nothing, "add one");
    }
    let name = project_name(reader, inputs, file_name)?;
    project.name = name;
    let mut defaulted = false;
    for service in project.services.values_mut() {
        if service.networks.is_empty() {
            service.networks.insert("default".into(), Vec::new());
        }
        defaulted |= service.networks.contains_key("default");
    }
    if defaulted {
        project.networks.entry("default".into()).or_default();
    }
    for (service, field) in &places {
        references(reader, field, &project.services[*service], &project);
    }
    published_once(reader, &places, &project.services);
    circles(reader, &places, &project.services);
    Some(project)
}

fn is_project_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

/// Asked for by name, else the file's own, else the folder's made fit.
fn project_name(
    reader: &mut Reader<'_>,
    inputs: &Inputs<'_>,
    file_name: Option<(String, Field<'_>)>,
) -> Option<String> {
    let (name, at, key) = match (&inputs.project, file_name) {
        (Some(name), _) => (name.clone(), Mark::default(), "-p"),
        (None, Some((name, field))) => (name, field.at, "name"),
        (None, None) => {
            let fit: String = inputs
                .directory
                .to_lowercase()
                .chars()
                .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(*c))
                .skip_while(|c| "-_".contains(*c))
                .take(NAME_MAX)
                .collect();
            (fit, Mark::default(), "name")
        }
    };
    if is_project_name(&name) {
        return Some(name);
    }
    reader.wrong(
        at,
        key,
        format!("\"{}\" cannot name a project", shown(&name)),
        "a name has 1 to 40 lower-case letters, digits, - and _, and begins with a letter or digit",
        "give one with -p NAME, or with name: in the file",
    );
    None
}

fn services<'n>(
    reader: &mut Reader<'_>,
    field: &Field<'n>,
    inputs: &Inputs<'_>,
    project: &mut Project,
    places: &mut BTreeMap<&'n str, Field<'n>>,
) {
    let found = reader.map_or_null(field);
    if found.len() > SERVICES_MAX {
        reader.wrong_at(
            field,
            format!("{} services", found.len()),
            &format!("a deployment has at most {SERVICES_MAX}"),
            "split the project",
        );
        return;
    }
    for (name, inner) in found {
        reader.is_name(&inner, name);
        let draft = reader.service(&inner, inputs);
        project.services.insert(name.to_string(), draft);
        places.insert(name, inner);
    }
}

fn networks(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    networks: &mut BTreeMap<String, NetworkSpec>,
) {
    let found = reader.map_or_null(field);
    too_many(reader, field, found.len());
    for (name, inner) in found {
        reader.is_name(&inner, name);
        let mut spec = NetworkSpec::default();
        for (key, inner) in reader.map_or_null(&inner) {
            match key {
                "internal" => spec.internal = reader.boolean(&inner).unwrap_or_default(),
                "driver" => {
                    let driver = reader.text(&inner);
                    if driver
                        .is_some_and(|d| !matches!(d.as_str(), "bridge" | "default" | "overlay"))
                    {
                        reader.wrong_at(
                            &inner,
                            "this network driver is not supported",
                            "the network gives each project its own",
                            "remove it",
                        );
                    }
                }
                "name" | "labels" | "attachable" | "enable_ipv4" => reader.warn_at(
                    &inner,
                    format!("{key} has no effect on a network"),
                    "networks are private to their project",
                    "remove it",
                ),
                "external" => {
                    if inner.is_map() || reader.boolean(&inner) == Some(true) {
                        reader.wrong_at(
                            &inner,
                            "a network from outside the project is not supported",
                            "two projects cannot reach each other, except by published ports",
                            "put the services into one project",
                        );
                    }
                }
                "ipam" | "driver_opts" | "enable_ipv6" => reader.wrong_at(
                    &inner,
                    format!("{key} is not supported"),
                    "addresses are given by the hosts",
                    "remove it",
                ),
                _ if key.starts_with("x-") => {}
                _ => reader.unknown(&inner, key, "internal, driver"),
            }
        }
        networks.insert(name.to_string(), spec);
    }
}

fn volumes(reader: &mut Reader<'_>, field: &Field<'_>, volumes: &mut BTreeMap<String, VolumeSpec>) {
    let found = reader.map_or_null(field);
    too_many(reader, field, found.len());
    for (name, inner) in found {
        reader.is_name(&inner, name);
        let mut spec = VolumeSpec::default();
        for (key, inner) in reader.map_or_null(&inner) {
            match key {
                "labels" => spec.labels = reader.labels(&inner),
                "driver" => {
                    if reader.text(&inner).is_some_and(|d| d != "local") {
                        reader.wrong_at(
                            &inner,
                            "this volume driver is not supported",
                            "volumes lie on the host of their replica",
                            "remove it",
                        );
                    }
                }
                "name" => reader.warn_at(
                    &inner,
                    "name has no effect on a volume",
                    "volumes are private to their project",
                    "remove it",
                ),
                "external" => {
                    if inner.is_map() || reader.boolean(&inner) == Some(true) {
                        reader.wrong_at(
                            &inner,
                            "a volume from outside the project is not supported",
                            "volumes belong to one project",
                            "remove external: and fill the volume from a service",
                        );
                    }
                }
                "driver_opts" => {
                    if !inner.is_null() {
                        reader.wrong_at(
                            &inner,
                            "driver_opts is not supported",
                            "volumes lie on the host of their replica",
                            "remove it",
                        );
                    }
                }
                _ if key.starts_with("x-") => {}
                _ => reader.unknown(&inner, key, "labels, driver"),
            }
        }
        volumes.insert(name.to_string(), spec);
    }
}

fn too_many(reader: &mut Reader<'_>, field: &Field<'_>, count: usize) {
    if count > ENTRIES_MAX {
        reader.wrong_at(
            field,
            format!("{count} entries"),
            &format!("at most {ENTRIES_MAX} are taken"),
            "split the project",
        );
    }
}

/// Points at `key` of a service if the file has it there, else at the service.
fn place<'n>(reader: &mut Reader<'_>, service: &Field<'n>, key: &str) -> Field<'n> {
    if reader.is_full() {
        return service.clone();
    }
    reader
        .map(service)
        .into_iter()
        .find(|(name, _)| *name == key)
        .map_or_else(|| service.clone(), |(_, field)| field)
}

fn references(reader: &mut Reader<'_>, field: &Field<'_>, draft: &ServiceDraft, project: &Project) {
    for name in draft.networks.keys() {
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
    for mount in &draft.mounts {
        if let MountSource::Volume(name) = &mount.source
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
    for (name, condition) in &draft.depends_on {
        let Some(dependency) = project.services.get(name) else {
            let at = place(reader, field, "depends_on");
            reader.wrong_at(
                &at,
                format!("there is no service {}", shown(name)),
                "",
                "correct the name, or add the service",
            );
            continue;
        };
        if *condition == types::DependencyCondition::ServiceHealthy
            && dependency.healthcheck.is_none()
        {
            let at = place(reader, field, "depends_on");
            reader.wrong_at(
                &at,
                format!(
                    "{} has no healthcheck, so it never becomes healthy",
                    shown(name)
                ),
                "an image's own check is not used",
                "add a healthcheck to it, or wait for service_started",
            );
        }
    }
}

fn published_once(
    reader: &mut Reader<'_>,
    places: &BTreeMap<&str, Field<'_>>,
    services: &BTreeMap<String, ServiceDraft>,
) {
    let mut taken = BTreeMap::new();
    for (name, draft) in services {
        for port in &draft.ports {
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

fn circles(
    reader: &mut Reader<'_>,
    places: &BTreeMap<&str, Field<'_>>,
    services: &BTreeMap<String, ServiceDraft>,
) {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = services
        .iter()
        .map(|(name, draft)| {
            let known = draft
                .depends_on
                .keys()
                .filter(|d| services.contains_key(*d));
            (name.as_str(), known.map(String::as_str).collect())
        })
        .collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, needs)| needs.is_empty())
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
            for needs in left.values_mut() {
                needs.remove(name);
            }
        }
    }
    let Some(first) = left.keys().next() else {
        return;
    };
    let names: Vec<&str> = left.keys().copied().collect();
    let at = place(reader, &places[first], "depends_on");
    reader.wrong_at(
        &at,
        format!("depends_on goes in a circle: {}", shown(&names.join(", "))),
        "none of them could start first",
        "remove one of the dependencies",
    );
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
