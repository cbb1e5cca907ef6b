//! The whole project: its top-level keys, who takes part, and its name.

use std::collections::{BTreeMap, BTreeSet};

use types::LogPolicy;

use crate::field::Field;
use crate::problem::{Problems, shown};
use crate::project::{Content, FileMount, FileSource, Project, SecretSource};
use crate::reader::Reader;
use crate::sections::{networks, volumes};
use crate::service::Read;
use crate::yaml::Mark;
use crate::{Inputs, check, load, logs, refused, secrets};

const SERVICES_MAX: usize = 100;
const NAME_MAX: usize = 40;

/// Reads the compose files of a project.
///
/// Errors: everything wrong with them, in the order of files and lines; then nothing should be
/// done.
pub fn read(inputs: Inputs<'_>) -> Result<Project, Problems> {
    let mut reader = Reader::default();
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

fn whole(reader: &mut Reader, inputs: &Inputs<'_>) -> Option<Project> {
    let root = load::load(reader, inputs)?;
    let top = Field {
        node: &root,
        at: root.at,
        path: String::new(),
    };
    let mut file_name = None;
    let (mut found, mut places) = (BTreeMap::new(), BTreeMap::new());
    let (mut configs, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    let mut project = Project {
        name: String::new(),
        folder: inputs.directory.to_string(),
        services: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        logs: LogPolicy::default(),
        warnings: Vec::new(),
        file: inputs.files.first().map_or("", |f| f.name).to_string(),
        declared: BTreeMap::new(),
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
            "services" => services(reader, &field, inputs, &mut found, &mut places),
            "networks" => networks(reader, &field, &mut project.networks),
            "volumes" => volumes(reader, &field, &mut project.volumes),
            "configs" => configs = reader.configs(&field, inputs),
            "x-runrig" => logs::extension(reader, &field, &mut project.logs),
            "secrets" => secrets = reader.secrets(&field, inputs),
            _ if key.starts_with("x-") => {}
            _ => match refused::top_key(key) {
                Some((why, next)) => {
                    reader.wrong_at(&field, format!("{key} is not supported"), why, next);
                }
                None => reader.unknown(
                    &field,
                    key,
                    "name, services, networks, volumes, configs, secrets, include",
                ),
            },
        }
    }
    if found.is_empty() {
        let nothing = "a compose file names at least one service";
        reader.wrong_at(&top, "there are no services", nothing, "add one");
    }
    project.name = project_name(reader, inputs, file_name)?;
    for (name, read) in &mut found {
        mount_configs(reader, &places[name.as_str()], read, &configs);
        mount_secrets(reader, &places[name.as_str()], read, &secrets);
    }
    project.declared = secrets;
    choose(reader, inputs, &mut project, found, &places);
    let mut defaulted = false;
    for draft in project.services.values_mut() {
        let networks = &mut draft.spec.networks;
        if networks.is_empty() && !draft.spec.offline {
            networks.insert("default".into(), Vec::new());
        }
        defaulted |= networks.contains_key("default");
    }
    if defaulted {
        project.networks.entry("default".into()).or_default();
    }
    for (name, draft) in &project.services {
        check::references(reader, &places[name.as_str()], draft, &project);
        check::doubled_mounts(reader, &places[name.as_str()], draft);
    }
    check::published_once(reader, &places, &mut project);
    check::circles(reader, &places, &project.services);
    for (name, draft) in &mut project.services {
        let image = &mut draft.spec.image.reference;
        if draft.build.is_some() && image.is_empty() {
            // As Compose calls what it builds.
            *image = format!("{}-{name}", project.name);
        }
    }
    check::built_after(reader, &places, &project.services);
    Some(project)
}

fn mount_configs(
    reader: &mut Reader,
    field: &Field<'_>,
    read: &mut Read,
    configs: &BTreeMap<String, Content>,
) {
    for mount in read.configs.drain(..) {
        let Some(content) = configs.get(&mount.config) else {
            let at = check::place(reader, field, "configs");
            let what = format!("the config {} is not declared", shown(&mount.config));
            let why = "configs stand under configs: at the top of the file";
            reader.wrong_at(&at, what, why, "add it there");
            continue;
        };
        read.draft.files.push(FileMount {
            source: FileSource {
                content: content.clone(),
                owner: Some(mount.owner()),
            },
            target: mount.target,
            read_only: true,
        });
    }
}

fn mount_secrets(
    reader: &mut Reader,
    field: &Field<'_>,
    read: &mut Read,
    declared: &BTreeMap<String, SecretSource>,
) {
    let (drafts, missing) = secrets::drafts(std::mem::take(&mut read.secrets), declared);
    read.draft.secrets = drafts;
    let missing = missing.into_iter().map(|name| ("secrets", name));
    let build = read.draft.build.iter().flat_map(|b| b.secrets.values());
    let unknown = build.filter(|name| !declared.contains_key(*name));
    let unknown = unknown.map(|name| ("build", name.clone()));
    for (key, name) in missing.chain(unknown) {
        let at = check::place(reader, field, key);
        let what = format!("the secret {} is not declared", shown(&name));
        let why = "secrets stand under secrets: at the top of the file";
        reader.wrong_at(&at, what, why, "add it there");
    }
}

/// The services whose profiles are asked for, with what they say of one another.
fn choose(
    reader: &mut Reader,
    inputs: &Inputs<'_>,
    project: &mut Project,
    found: BTreeMap<String, Read>,
    places: &BTreeMap<&str, Field<'_>>,
) {
    let wanted = |read: &Read| {
        read.profiles.is_empty()
            || inputs.profiles.contains("*")
            || read.profiles.iter().any(|p| inputs.profiles.contains(p))
    };
    let all: BTreeSet<String> = found.keys().cloned().collect();
    let chosen: BTreeSet<String> = found
        .iter()
        .filter(|(_, read)| wanted(read))
        .map(|(name, _)| name.clone())
        .collect();
    if chosen.is_empty() && !all.is_empty() {
        reader.wrong(
            Mark::default(),
            "services",
            "no service takes part",
            "each has profiles that were not asked for",
            "ask for one with --profile NAME",
        );
    }
    let (mut aliases, mut log_bytes) = (Vec::new(), Vec::new());
    for (name, read) in found {
        if !chosen.contains(&name) {
            continue;
        }
        let mut draft = read.draft;
        let mut missing = |key: &str, other: &str| {
            let at = check::place(reader, &places[name.as_str()], key);
            let (what, next) = match all.contains(other) {
                true => (
                    format!("the service {} does not take part", shown(other)),
                    "ask for its profile with --profile, or write required: false",
                ),
                false => (
                    format!("there is no service {}", shown(other)),
                    "correct the name, or add the service",
                ),
            };
            reader.wrong_at(&at, what, "", next);
        };
        for (other, dependency) in read.depends_on {
            if chosen.contains(&other) {
                if dependency.restart {
                    draft.spec.restart_with.insert(other.clone());
                }
                draft.spec.depends_on.insert(other, dependency.condition);
            } else if dependency.required {
                missing("depends_on", &other);
            }
        }
        for link in read.links {
            if !chosen.contains(&link.service) {
                missing("links", &link.service);
                continue;
            }
            let started = types::DependencyCondition::ServiceStarted;
            let depends_on = &mut draft.spec.depends_on;
            depends_on.entry(link.service.clone()).or_insert(started);
            if let Some(alias) = link.alias {
                aliases.push((name.clone(), link.service, alias));
            }
        }
        for folder in read.folders {
            project.volumes.entry(folder).or_default();
        }
        // A service of that name is meant by it, rather.
        let alias = read.container_name.filter(|alias| !all.contains(alias));
        if let Some(alias) = alias.filter(|_| !draft.spec.offline) {
            aliases.push((name.clone(), name.clone(), alias));
        }
        log_bytes.push(read.log_bytes);
        project.services.insert(name, draft);
    }
    logs::of_services(&mut project.logs, &log_bytes);
    for (name, service, alias) in aliases {
        link(reader, project, &places[name.as_str()], &service, &alias);
    }
}

/// `alias` is a further name of `service` on every network of its own.
fn link(reader: &mut Reader, project: &mut Project, from: &Field<'_>, service: &str, alias: &str) {
    let at = check::place(reader, from, "links");
    if project.services.contains_key(alias) && alias != service {
        let what = format!("{} is a service itself", shown(alias));
        reader.wrong_at(&at, what, "a link cannot hide it", "choose another alias");
        return;
    }
    let Some(draft) = project.services.get_mut(service) else {
        return;
    };
    if draft.spec.offline {
        let what = format!("{} has no network", shown(service));
        let next = "remove the link, or its network_mode";
        reader.wrong_at(&at, what, "nothing reaches it", next);
        return;
    }
    let networks = &mut draft.spec.networks;
    if networks.is_empty() {
        networks.insert("default".into(), Vec::new());
    }
    for names in networks.values_mut() {
        if !names.iter().any(|n| n == alias) {
            names.push(alias.to_string());
        }
    }
}

fn is_project_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

/// Asked for by name, else the file's own, else the folder's made fit.
pub(crate) fn project_name(
    reader: &mut Reader,
    inputs: &Inputs<'_>,
    file_name: Option<(String, Field<'_>)>,
) -> Option<String> {
    let (name, at, key) = match (&inputs.project, file_name) {
        (Some(name), _) => (name.clone(), Mark::default(), "-p"),
        (None, Some((name, field))) => (name, field.at, "name"),
        (None, None) => {
            let folder = inputs.directory.trim_end_matches('/');
            let folder = folder.rsplit('/').next().unwrap_or(folder);
            let fit: String = folder
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
    reader: &mut Reader,
    field: &Field<'n>,
    inputs: &Inputs<'_>,
    found: &mut BTreeMap<String, Read>,
    places: &mut BTreeMap<&'n str, Field<'n>>,
) {
    let all = reader.map_or_null(field);
    if all.len() > SERVICES_MAX {
        let why = format!("a deployment has at most {SERVICES_MAX}");
        reader.wrong_at(
            field,
            format!("{} services", all.len()),
            &why,
            "split the project",
        );
        return;
    }
    for (name, inner) in all {
        reader.is_name(&inner, name);
        let read = reader.service(&inner, inputs);
        found.insert(name.to_string(), read);
        places.insert(name, inner);
    }
}
