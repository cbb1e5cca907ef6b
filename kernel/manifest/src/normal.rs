//! Compose files as one: files laid over one another, variables filled in, every short form
//! written out, every path absolute. What `config` prints.
//!
//! What this network refuses or leaves without effect stays as it was written, so the result is
//! for other programs as well. Reading it again comes to the same project.

use std::collections::BTreeMap;

use crate::field::Field;
use crate::merge::clean;
use crate::plain::Plain;
use crate::port::{PORTS_MAX, range};
use crate::problem::{Problems, shown};
use crate::reader::{Reader, joined};
use crate::tree::{Node, Value};
use crate::{Inputs, load, top, value};

/// Compose files as one.
pub struct Normal {
    pub name: String,
    /// Name, services, networks, volumes, configs, secrets, in this order.
    pub whole: Plain,
}

/// Keys of a service whose single value stands for a list of it.
const LISTS: [&str; 4] = ["dns", "dns_opt", "dns_search", "tmpfs"];
/// Keys whose values are pairs of names and texts.
const PAIRS: [&str; 4] = ["annotations", "labels", "options", "sysctls"];
const DURATIONS: [&str; 9] = [
    "delay",
    "interval",
    "max_delay",
    "monitor",
    "start_interval",
    "start_period",
    "stop_grace_period",
    "timeout",
    "window",
];

/// The files of a project as one.
///
/// Errors: what keeps the files from being read; nothing is said of what is refused later.
pub fn normal(inputs: &Inputs<'_>) -> Result<Normal, Problems> {
    let mut reader = Reader::default();
    let found = whole(&mut reader, inputs);
    let problems = reader.problems;
    match found {
        Some(normal) if problems.is_empty() => Ok(normal),
        _ => Err(Problems(problems)),
    }
}

fn whole(reader: &mut Reader, inputs: &Inputs<'_>) -> Option<Normal> {
    let root = load::load(reader, inputs)?;
    let top = Field {
        node: &root,
        at: root.at,
        path: String::new(),
    };
    let mut sections: BTreeMap<&str, Plain> = BTreeMap::new();
    let (mut name, mut own) = (None, Vec::new());
    let mut defaulted = false;
    for (key, field) in reader.map(&top) {
        match key {
            "name" => name = reader.text(&field).map(|name| (name, field)),
            "version" => {}
            "services" => {
                let services = services(reader, &field, inputs);
                defaulted = services.values().any(on_default);
                sections.insert(key, Plain::Map(services));
            }
            "networks" | "volumes" | "configs" | "secrets" => {
                let mut all = BTreeMap::new();
                for (name, field) in reader.map_or_null(&field) {
                    let entry = declared(reader, &field, inputs);
                    all.insert(name.to_string(), entry);
                }
                sections.insert(key, Plain::Map(all));
            }
            _ => own.push((key.to_string(), plain(&field, key, ""))),
        }
    }
    if defaulted {
        let networks = sections.entry("networks");
        if let Plain::Map(networks) = networks.or_insert(Plain::Map(BTreeMap::new())) {
            networks.entry("default".into()).or_insert(Plain::Null);
        }
    }
    let name = top::project_name(reader, inputs, name)?;
    let mut whole: BTreeMap<String, Plain> = own.into_iter().collect();
    let sections = sections.into_iter();
    whole.extend(sections.map(|(key, section)| (key.to_string(), section)));
    whole.insert("name".into(), Plain::Text(name.clone()));
    Some(Normal {
        name,
        whole: Plain::Map(whole),
    })
}

fn on_default(service: &Plain) -> bool {
    service
        .get("networks")
        .is_some_and(|networks| networks.get("default").is_some())
}

fn absolute(reader: &Reader, field: &Field<'_>, inputs: &Inputs<'_>, path: &str) -> Plain {
    let path = reader.path(field.node.at, path);
    Plain::Text(joined(inputs.directory, &path))
}

/// An entry of a section beside the services.
fn declared(reader: &mut Reader, field: &Field<'_>, inputs: &Inputs<'_>) -> Plain {
    let mut entry = BTreeMap::new();
    for (key, inner) in reader.map_or_null(field) {
        let text = inner.node.text();
        let value = match (key, text) {
            ("file", Some(path)) => absolute(reader, &inner, inputs, path),
            ("labels", _) => pairs(reader, &inner),
            _ => plain(&inner, key, ""),
        };
        entry.insert(key.to_string(), value);
    }
    match entry.is_empty() {
        true => Plain::Null,
        false => Plain::Map(entry),
    }
}

/// Those that take part.
fn services(
    reader: &mut Reader,
    field: &Field<'_>,
    inputs: &Inputs<'_>,
) -> BTreeMap<String, Plain> {
    let mut chosen = BTreeMap::new();
    for (name, inner) in reader.map_or_null(field) {
        let profiles = inner.node.get("profiles").map(|e| &e.value);
        let profiles: Vec<&str> = match profiles.map(|p| &p.value) {
            Some(Value::List(items)) => items.iter().filter_map(Node::text).collect(),
            _ => Vec::new(),
        };
        let wanted = |p: &&str| inputs.profiles.contains(*p);
        if profiles.is_empty() || inputs.profiles.contains("*") || profiles.iter().any(wanted) {
            chosen.insert(name, inner);
        }
    }
    let mut services = BTreeMap::new();
    for (name, field) in &chosen {
        let mut service = service(reader, field, inputs);
        if let Some(Plain::Map(needed)) = service.get_mut("depends_on") {
            let optional = |d: &Plain| matches!(d.get("required"), Some(Plain::Bool(false)));
            needed.retain(|other, d| chosen.contains_key(other.as_str()) || !optional(d));
        }
        services.insert(name.to_string(), Plain::Map(service));
    }
    services
}

fn service(reader: &mut Reader, field: &Field<'_>, inputs: &Inputs<'_>) -> BTreeMap<String, Plain> {
    let mut service = BTreeMap::new();
    let (mut environment, mut labels) = (BTreeMap::new(), BTreeMap::new());
    let (mut own_environment, mut own_labels) = (BTreeMap::new(), BTreeMap::new());
    for (key, inner) in reader.map_or_null(field) {
        let value = match key {
            "env_file" => {
                environment = reader.env_file(&inner, inputs.folder);
                continue;
            }
            "label_file" => {
                labels = reader.label_file(&inner, inputs.folder);
                continue;
            }
            "environment" => {
                own_environment = reader.own_environment(&inner);
                continue;
            }
            "labels" => {
                own_labels = reader.labels(&inner);
                continue;
            }
            // It takes part.
            "profiles" => continue,
            "command" | "entrypoint" => match reader.command_line(&inner) {
                Some(words) => Plain::texts(words),
                None => continue,
            },
            "ports" => ports(reader, &inner),
            "volumes" => Plain::List(
                (reader.list(&inner).iter())
                    .map(|item| volume(reader, item, inputs))
                    .collect(),
            ),
            "networks" => named(reader, &inner),
            "depends_on" => depends_on(reader, &inner),
            "build" => build(reader, &inner, inputs),
            "healthcheck" => healthcheck(reader, &inner),
            "secrets" | "configs" => placed(reader, &inner),
            "extra_hosts" => hosts(reader, &inner),
            "expose" => Plain::texts(reader.texts(&inner)),
            "stop_grace_period" => plain(&inner, key, ""),
            _ if LISTS.contains(&key) => Plain::texts(reader.texts(&inner)),
            _ if PAIRS.contains(&key) => pairs(reader, &inner),
            _ => plain(&inner, key, ""),
        };
        if !matches!(value, Plain::Null) {
            service.insert(key.to_string(), value);
        }
    }
    environment.extend(own_environment);
    labels.extend(own_labels);
    for (key, all) in [("environment", environment), ("labels", labels)] {
        if !all.is_empty() {
            service.insert(key.into(), Plain::pairs(all));
        }
    }
    if !service.contains_key("networks") && !service.contains_key("network_mode") {
        let default = BTreeMap::from([("default".to_string(), Plain::Null)]);
        service.insert("networks".into(), Plain::Map(default));
    }
    service
}

/// As it is written, with its type; `key` is what it stands under, `above` what that does.
fn plain(field: &Field<'_>, key: &str, above: &str) -> Plain {
    of_node(field.node, key, above)
}

fn of_node(node: &Node, key: &str, above: &str) -> Plain {
    match &node.value {
        Value::Null => Plain::Null,
        Value::Text(text) if DURATIONS.contains(&key) => match value::duration_ms(text) {
            Some(ms) => Plain::Text(duration(ms)),
            None => Plain::Text(text.clone()),
        },
        Value::Text(text) => Plain::typed(text, key, above),
        Value::List(items) if PAIRS.contains(&key) => {
            let pair = |item: &Node| {
                let text = item.text().unwrap_or_default();
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                (name.to_string(), Plain::Text(value.into()))
            };
            Plain::Map(items.iter().map(pair).collect())
        }
        Value::List(items) => Plain::List(items.iter().map(|i| of_node(i, "", key)).collect()),
        Value::Map(entries) => Plain::Map(
            entries
                .iter()
                .map(|e| (e.key.clone(), of_node(&e.value, &e.key, key)))
                .collect(),
        ),
    }
}

/// `1h30m`, `1.5s` as `1s500ms`.
fn duration(ms: u32) -> String {
    let mut text = String::new();
    let mut left = ms;
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if left >= size {
            text.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    match text.is_empty() {
        true => "0s".into(),
        false => text,
    }
}

fn pairs(reader: &mut Reader, field: &Field<'_>) -> Plain {
    Plain::pairs(reader.labels(field))
}

/// A list of names, or a mapping of them.
fn named(reader: &mut Reader, field: &Field<'_>) -> Plain {
    if field.is_list() {
        let names = reader.texts(field).into_iter();
        return Plain::Map(names.map(|name| (name, Plain::Null)).collect());
    }
    let mut all = BTreeMap::new();
    for (name, inner) in reader.map_or_null(field) {
        let of = match inner.node.entries().is_empty() {
            true => Plain::Null,
            false => plain(&inner, "", "networks"),
        };
        all.insert(name.to_string(), of);
    }
    Plain::Map(all)
}

fn depends_on(reader: &mut Reader, field: &Field<'_>) -> Plain {
    let said: BTreeMap<String, Node> = match &field.node.value {
        Value::Map(entries) => {
            let entries = entries.iter();
            entries.map(|e| (e.key.clone(), e.value.clone())).collect()
        }
        _ => {
            let names = reader.texts(field).into_iter();
            let nothing = || Node::new(field.at, Value::Null);
            names.map(|name| (name, nothing())).collect()
        }
    };
    let whole = |node: &Node| {
        let started = Plain::text("service_started");
        let mut entry = BTreeMap::from([("condition".to_string(), started)]);
        if let Plain::Map(own) = of_node(node, "", "depends_on") {
            entry.extend(own);
        }
        Plain::Map(entry)
    };
    Plain::Map(
        said.iter()
            .map(|(name, d)| (name.clone(), whole(d)))
            .collect(),
    )
}

fn ports(reader: &mut Reader, field: &Field<'_>) -> Plain {
    let mut ports = Vec::new();
    for item in reader.list(field) {
        let said = |key: &str| {
            let entry = item.node.get(key);
            entry.and_then(|e| e.value.text()).unwrap_or_default()
        };
        let text = item.node.text().unwrap_or_default();
        let (numbers, word) = text.split_once('/').unwrap_or((text, "tcp"));
        let (left, short) = numbers.rsplit_once(':').unwrap_or(("", numbers));
        let (ip, left) = left.rsplit_once(':').unwrap_or(("", left));
        let (ip, published, target, protocol) = match item.is_map() {
            true => (
                said("host_ip"),
                said("published"),
                said("target"),
                match said("protocol") {
                    "" => "tcp",
                    protocol => protocol,
                },
            ),
            false => (ip, left, short, word),
        };
        let (Some(targets), outside) = (range(target), range(published)) else {
            let next = "write for example 8080:80";
            let what = format!("\"{}\" is no port", shown(text));
            reader.wrong_at(&item, what, "", next);
            continue;
        };
        if ports.len() + usize::from(targets.1 - targets.0) >= PORTS_MAX {
            let what = format!("more than {PORTS_MAX} ports");
            reader.wrong_at(&item, what, "", "publish fewer");
            break;
        }
        for (index, port) in (targets.0..=targets.1).enumerate() {
            let mut entry = match of_node(item.node, "", "ports") {
                Plain::Map(entry) => entry,
                _ => BTreeMap::new(),
            };
            entry.insert("target".into(), Plain::Number(port.into()));
            entry.insert("protocol".into(), Plain::text(protocol));
            if !ip.is_empty() {
                entry.insert("host_ip".into(), Plain::text(ip));
            }
            let shift = u16::try_from(index).unwrap_or_default();
            let several = targets.0 < targets.1;
            match outside {
                Some((first, last)) if several || first == last => {
                    let port = first.saturating_add(shift);
                    entry.insert("published".into(), Plain::Number(port.into()));
                }
                _ if published.is_empty() => {}
                _ => drop(entry.insert("published".into(), Plain::text(published))),
            }
            ports.push(Plain::Map(entry));
        }
    }
    Plain::List(ports)
}

fn volume(reader: &mut Reader, item: &Field<'_>, inputs: &Inputs<'_>) -> Plain {
    let mut entry = BTreeMap::new();
    if item.is_map() {
        if let Plain::Map(own) = plain(item, "", "volumes") {
            entry = own;
        }
        let source = item.node.get("source").and_then(|e| e.value.text());
        if let Some(target) = item.node.get("target").and_then(|e| e.value.text()) {
            entry.insert("target".into(), Plain::text(&clean(target)));
        }
        let is =
            |wanted: &str| matches!(entry.get("type"), Some(Plain::Text(kind)) if kind == wanted);
        let (bound, image) = (is("bind"), is("image"));
        // Of an image it says something: a copy is wanted.
        if !image && matches!(entry.get("read_only"), Some(Plain::Bool(false))) {
            entry.remove("read_only");
        }
        if let Some(source) = source.filter(|_| bound) {
            entry.insert("source".into(), absolute(reader, item, inputs, source));
        }
        return Plain::Map(entry);
    }
    let text = reader.text(item).unwrap_or_default();
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let Some(target) = parts.next() else {
        entry.insert("type".into(), Plain::text("volume"));
        entry.insert("target".into(), Plain::text(&clean(first)));
        return Plain::Map(entry);
    };
    let is_path = first.starts_with(['/', '.', '~']) || first.contains('/');
    let source = match is_path {
        true => absolute(reader, item, inputs, first),
        false => Plain::text(first),
    };
    let kind = if is_path { "bind" } else { "volume" };
    entry.insert("type".into(), Plain::text(kind));
    entry.insert("source".into(), source);
    entry.insert("target".into(), Plain::text(&clean(target)));
    let options = parts.next().unwrap_or_default().split(',');
    let is = |wanted: &str| options.clone().any(|option| option == wanted);
    if is("ro") {
        entry.insert("read_only".into(), Plain::Bool(true));
    }
    if is("nocopy") && !is_path {
        let volume = [("nocopy".to_string(), Plain::Bool(true))];
        entry.insert("volume".into(), Plain::Map(volume.into()));
    }
    Plain::Map(entry)
}

fn build(reader: &mut Reader, field: &Field<'_>, inputs: &Inputs<'_>) -> Plain {
    let folder = |reader: &Reader, field: &Field<'_>, text: &str| match text.contains("://")
        || text.starts_with("git@")
    {
        true => Plain::text(text),
        false => absolute(reader, field, inputs, text),
    };
    if let Some(text) = field.node.text() {
        let context = folder(reader, field, text);
        return Plain::Map([("context".to_string(), context)].into());
    }
    let mut build = BTreeMap::new();
    for (key, inner) in reader.map_or_null(field) {
        let value = match (key, inner.node.text()) {
            ("context", Some(text)) => folder(reader, &inner, text),
            ("args", _) => Plain::pairs(reader.own_environment(&inner)),
            ("labels" | "additional_contexts", _) => pairs(reader, &inner),
            ("secrets", _) => placed(reader, &inner),
            ("extra_hosts", _) => hosts(reader, &inner),
            _ => plain(&inner, key, "build"),
        };
        build.insert(key.to_string(), value);
    }
    if !build.contains_key("context") {
        build.insert("context".into(), folder(reader, field, "."));
    }
    Plain::Map(build)
}

fn healthcheck(reader: &mut Reader, field: &Field<'_>) -> Plain {
    let mut check = BTreeMap::new();
    for (key, inner) in reader.map_or_null(field) {
        let value = match (key, inner.node.text()) {
            ("test", Some(text)) => Plain::texts(["CMD-SHELL".to_string(), text.to_string()]),
            _ => plain(&inner, key, "healthcheck"),
        };
        check.insert(key.to_string(), value);
    }
    Plain::Map(check)
}

/// `secrets`, `configs`: a name stands for a source.
fn placed(reader: &mut Reader, field: &Field<'_>) -> Plain {
    let one = |item: &Field<'_>| match item.node.text() {
        Some(name) => Plain::Map([("source".to_string(), Plain::text(name))].into()),
        None => plain(item, "", "placed"),
    };
    Plain::List(reader.list(field).iter().map(one).collect())
}

fn hosts(reader: &mut Reader, field: &Field<'_>) -> Plain {
    let mut all = Vec::new();
    if field.is_list() {
        for text in reader.texts(field) {
            all.push(match text.contains('=') {
                true => text,
                false => text.replacen(':', "=", 1),
            });
        }
    } else {
        for (name, inner) in reader.map_or_null(field) {
            let addresses = reader.texts(&inner).into_iter();
            all.extend(addresses.map(|address| format!("{name}={address}")));
        }
    }
    Plain::texts(all)
}
