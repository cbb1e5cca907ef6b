//! One file over another, by the rules of Compose.
//!
//! Mappings join key by key, lists grow, single values are replaced; and:
//!
//! | where | rule |
//! |---|---|
//! | `command`, `entrypoint`, `healthcheck.test` | replaced whole |
//! | `environment`, `labels`, `annotations`, `sysctls`, `args`, `extra_hosts` … | joined by name, in either syntax |
//! | `ports` | one per address, port and protocol |
//! | `volumes`, `secrets`, `configs`, `devices` | one per place in the container |
//! | `depends_on`, `networks` | joined by name, in either syntax |
//! | `build` | a text is its `context` |
//! | `logging` | `options` are joined only under the same `driver` |
//! | `!reset`, `!override` | removed, replaced whole |

use std::collections::BTreeMap;

use crate::tree::{Entry, Node, Value};
use crate::yaml::{Mark, Over};

/// Two values that do not go together.
pub(crate) struct Clash {
    pub at: Mark,
    pub path: String,
}

#[derive(Clone, Copy)]
enum Rule {
    Replace,
    /// `NAME=value` or `NAME: value`, apart by one of these.
    Pairs(&'static [char]),
    /// A name or a mapping of it.
    Names,
    /// A text stands for a list of one; what is there already is not added.
    Distinct,
    /// Entries with the same key replace one another.
    Keyed(fn(&Node) -> String),
    Build,
    Logging,
    Plain,
}

fn rule(path: &[String]) -> Rule {
    const EQUALS: &[char] = &['='];
    const HOSTS: &[char] = &['=', ':'];
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["networks" | "volumes" | "configs" | "secrets", _, "labels"] => Rule::Pairs(EQUALS),
        ["services", _, ref inner @ ..] => match inner {
            ["command" | "entrypoint"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
            ["environment" | "labels" | "annotations" | "sysctls"]
            | ["build", "args" | "labels" | "additional_contexts"]
            | ["deploy", "labels"] => Rule::Pairs(EQUALS),
            ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Pairs(HOSTS),
            ["depends_on" | "networks" | "models"] => Rule::Names,
            ["build"] => Rule::Build,
            ["logging"] => Rule::Logging,
            ["ports"] => Rule::Keyed(port_key),
            ["volumes" | "devices"] => Rule::Keyed(mount_key),
            ["secrets" | "configs"] | ["build", "secrets"] => Rule::Keyed(file_key),
            ["env_file"] => Rule::Keyed(path_key),
            _ => Rule::Distinct,
        },
        _ => Rule::Plain,
    }
}

/// `over` laid over `base`; `path` is where both stand.
pub(crate) fn merge(base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Clash> {
    if over.over == Over::Replace {
        return Ok(over);
    }
    // Nothing said adds nothing.
    if matches!(over.value, Value::Null) {
        return Ok(base);
    }
    if matches!(base.value, Value::Null) {
        return Ok(over);
    }
    let clash = |at| Clash {
        at,
        path: path.join("."),
    };
    match rule(path) {
        Rule::Replace => Ok(over),
        Rule::Pairs(signs) => join(by_pairs(base, signs), by_pairs(over, signs), path),
        Rule::Names => join(by_names(base), by_names(over), path),
        Rule::Build => join(context(base), context(over), path),
        Rule::Logging => {
            let driver = |n: &Node| {
                n.get("driver")
                    .and_then(|e| e.value.text())
                    .map(String::from)
            };
            let (old, new) = (driver(&base), driver(&over));
            let mut base = base;
            if old.is_some() && new.is_some() && old != new {
                base.take("options");
            }
            join(base, over, path)
        }
        Rule::Keyed(key) => Ok(keyed(listed(base), listed(over), key)),
        Rule::Distinct | Rule::Plain => match (&base.value, &over.value) {
            (Value::Map(_), Value::Map(_)) => join(base, over, path),
            (Value::Text(_), Value::Text(_)) => {
                // Texts that may be lists of one grow; all others are replaced.
                match path.last().map(String::as_str) {
                    Some("dns" | "dns_search" | "dns_opt" | "tmpfs" | "label_file") => {
                        Ok(keyed(listed(base), listed(over), text_key))
                    }
                    _ => Ok(over),
                }
            }
            (Value::Map(_), _) | (_, Value::Map(_)) => Err(clash(over.at)),
            _ => Ok(keyed(listed(base), listed(over), text_key)),
        },
    }
}

fn join(base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Clash> {
    let clash = |at, path: &[String]| Clash {
        at,
        path: path.join("."),
    };
    let (at, over_at) = (base.at, over.at);
    let (Value::Map(old), Value::Map(new)) = (base.value, over.value) else {
        return Err(clash(over_at, path));
    };
    let places: BTreeMap<String, usize> = old
        .iter()
        .enumerate()
        .map(|(i, e)| (e.key.clone(), i))
        .collect();
    let mut entries: Vec<Option<Entry>> = old.into_iter().map(Some).collect();
    for entry in new {
        let place = places.get(&entry.key).copied();
        match place.and_then(|i| entries[i].take().map(|old| (i, old))) {
            Some(_) | None if entry.value.over == Over::Remove => {}
            None => entries.push(Some(entry)),
            Some((index, old)) => {
                path.push(entry.key.clone());
                let value = merge(old.value, entry.value, path)?;
                path.pop();
                entries[index] = Some(Entry {
                    key: entry.key,
                    at: entry.at,
                    value,
                });
            }
        }
    }
    let entries = entries.into_iter().flatten().collect();
    Ok(Node::new(at, Value::Map(entries)))
}

/// What no earlier file stands below: `!reset` takes the key away, other tags say nothing.
pub(crate) fn settle(node: &mut Node) {
    node.over = Over::Merge;
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|e| e.value.over != Over::Remove);
            entries.iter_mut().for_each(|e| settle(&mut e.value));
        }
        Value::List(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

fn listed(node: Node) -> Node {
    match node.value {
        Value::List(_) => node,
        _ => Node::new(node.at, Value::List(vec![node])),
    }
}

/// The later of two with the same key stands in the earlier's place; an empty key is nobody's.
fn keyed(base: Node, over: Node, key: fn(&Node) -> String) -> Node {
    let (Value::List(mut items), Value::List(new)) = (base.value, over.value) else {
        return Node::new(base.at, Value::Null);
    };
    let mut places: BTreeMap<String, usize> = items
        .iter()
        .enumerate()
        .map(|(i, item)| (key(item), i))
        .collect();
    for item in new {
        let name = key(&item);
        match places.get(&name) {
            Some(index) if !name.is_empty() => items[*index] = item,
            _ => {
                places.insert(name, items.len());
                items.push(item);
            }
        }
    }
    Node::new(over.at, Value::List(items))
}

fn by_pairs(node: Node, signs: &[char]) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let mut entries: Vec<Entry> = Vec::with_capacity(items.len());
    let mut places = BTreeMap::new();
    for item in items {
        let at = item.at;
        let text = item.text().map(String::from);
        let (key, value) = match text.as_deref().map(|t| (t, t.split_once(signs))) {
            Some((_, Some((key, value)))) => (key.to_string(), Value::Text(value.to_string())),
            Some((key, None)) => (key.to_string(), Value::Null),
            // Told as wrong when it is read.
            None => (String::new(), item.value),
        };
        let entry = Entry {
            key: key.clone(),
            at,
            value: Node::new(at, value),
        };
        match places.get(&key) {
            Some(index) => entries[*index] = entry,
            None => {
                places.insert(key, entries.len());
                entries.push(entry);
            }
        }
    }
    Node::new(node.at, Value::Map(entries))
}

fn by_names(node: Node) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let entries = items
        .into_iter()
        .map(|item| Entry {
            key: item.text().unwrap_or_default().to_string(),
            at: item.at,
            value: Node::new(item.at, Value::Null),
        })
        .collect();
    Node::new(node.at, Value::Map(entries))
}

fn context(node: Node) -> Node {
    if node.text().is_none() {
        return node;
    }
    let at = node.at;
    let entry = Entry {
        key: "context".into(),
        at,
        value: node,
    };
    Node::new(at, Value::Map(vec![entry]))
}

fn field<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key)
        .and_then(|e| e.value.text())
        .unwrap_or_default()
}

fn text_key(node: &Node) -> String {
    node.text().unwrap_or_default().to_string()
}

fn path_key(node: &Node) -> String {
    match node.text() {
        Some(text) => text.to_string(),
        None => field(node, "path").to_string(),
    }
}

fn file_key(node: &Node) -> String {
    match node.text() {
        Some(text) => text.to_string(),
        None => match field(node, "target") {
            "" => field(node, "source").to_string(),
            target => target.trim_start_matches("/run/secrets/").to_string(),
        },
    }
}

/// A path in a container without what says nothing in it.
pub(crate) fn clean(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts = parts.collect::<Vec<_>>().join("/");
    match path.starts_with('/') {
        true => format!("/{parts}"),
        false => parts,
    }
}

/// The target of a volume in either syntax.
fn mount_key(node: &Node) -> String {
    let Some(text) = node.text() else {
        return clean(field(node, "target"));
    };
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    clean(parts.next().unwrap_or(first))
}

fn port_key(node: &Node) -> String {
    if let Some(text) = node.text() {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (left, target) = numbers.rsplit_once(':').unwrap_or(("", numbers));
        let (ip, published) = left.rsplit_once(':').unwrap_or(("", left));
        return format!("{ip}:{published}:{target}/{protocol}");
    }
    let protocol = match field(node, "protocol") {
        "" => "tcp",
        other => other,
    };
    format!(
        "{}:{}:{}/{protocol}",
        field(node, "host_ip"),
        field(node, "published"),
        field(node, "target"),
    )
}
