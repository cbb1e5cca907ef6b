//! Read a key's value as what the key calls for.

use std::collections::BTreeMap;

use crate::problem::shown;
use crate::reader::Reader;
use crate::tree::{Node, Value};
use crate::yaml::{Mark, Over};
use crate::{near, value};

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Field<'n> {
    pub node: &'n Node,
    /// Of its key, or of the value in a list.
    pub at: Mark,
    pub path: String,
}

impl<'n> Field<'n> {
    /// Its place alone, for what is told later.
    pub fn detached(&self) -> Field<'static> {
        static NOTHING: Node = Node {
            at: Mark {
                file: 0,
                line: 0,
                column: 0,
            },
            over: Over::Merge,
            value: Value::Null,
        };
        Field {
            node: &NOTHING,
            at: self.at,
            path: self.path.clone(),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    fn kind(&self) -> &'static str {
        match &self.node.value {
            Value::Null => "nothing",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl Reader {
    pub fn wrong_at(&mut self, field: &Field<'_>, what: impl Into<String>, why: &str, next: &str) {
        self.wrong(field.at, &field.path, what, why, next);
    }

    pub fn warn_at(&mut self, field: &Field<'_>, what: impl Into<String>, why: &str, next: &str) {
        self.warn(field.at, &field.path, what, why, next);
    }

    fn expected(&mut self, field: &Field<'_>, wanted: &str) {
        let kind = field.kind();
        self.wrong_at(
            field,
            format!("{kind} stands here"),
            &format!("{wanted} is needed"),
            "correct the value",
        );
    }

    pub fn text(&mut self, field: &Field<'_>) -> Option<String> {
        match &field.node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.expected(field, "a single value");
                None
            }
        }
    }

    /// A value in its own notation; `example` shows it.
    pub fn parsed<T>(
        &mut self,
        field: &Field<'_>,
        parse: impl Fn(&str) -> Option<T>,
        example: &str,
    ) -> Option<T> {
        let text = self.text(field)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.wrong_at(
                field,
                format!("\"{}\" cannot be read", shown(&text)),
                "",
                &format!("write for example {example}"),
            );
        }
        parsed
    }

    pub fn boolean(&mut self, field: &Field<'_>) -> Option<bool> {
        self.parsed(field, value::boolean, "true or false")
    }

    pub fn whole_number(&mut self, field: &Field<'_>, example: &str) -> Option<u32> {
        let digits = |t: &str| {
            (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))
                .then(|| t.parse().ok())
                .flatten()
        };
        self.parsed(field, digits, example)
    }

    pub fn list<'n>(&mut self, field: &Field<'n>) -> Vec<Field<'n>> {
        match &field.node.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, node)| Field {
                    node,
                    at: node.at,
                    path: format!("{}[{i}]", field.path),
                })
                .collect(),
            _ => {
                self.expected(field, "a list");
                Vec::new()
            }
        }
    }

    pub fn map<'n>(&mut self, field: &Field<'n>) -> Vec<(&'n str, Field<'n>)> {
        match &field.node.value {
            Value::Map(entries) => entries
                .iter()
                .map(|entry| {
                    let path = match field.path.as_str() {
                        "" => shown(&entry.key),
                        path => format!("{path}.{}", shown(&entry.key)),
                    };
                    let inner = Field {
                        node: &entry.value,
                        at: entry.at,
                        path,
                    };
                    (entry.key.as_str(), inner)
                })
                .collect(),
            _ => {
                self.expected(field, "a mapping");
                Vec::new()
            }
        }
    }

    /// A mapping, or nothing.
    pub fn map_or_null<'n>(&mut self, field: &Field<'n>) -> Vec<(&'n str, Field<'n>)> {
        if field.is_null() {
            return Vec::new();
        }
        self.map(field)
    }

    /// A list of single values, or one such value.
    pub fn texts(&mut self, field: &Field<'_>) -> Vec<String> {
        if let Value::Text(text) = &field.node.value {
            return vec![text.clone()];
        }
        let items = self.list(field);
        items.iter().filter_map(|item| self.text(item)).collect()
    }

    /// `NAME: value` or a list of `NAME=value`. A name without value maps to `None`.
    pub fn pairs(&mut self, field: &Field<'_>) -> BTreeMap<String, (Option<String>, Mark)> {
        let mut pairs = BTreeMap::new();
        if field.is_list() {
            for item in self.list(field) {
                let Some(text) = self.text(&item) else {
                    continue;
                };
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (name.to_string(), Some(value.to_string())),
                    None => (text, None),
                };
                if self.is_pair_name(&item, &name) {
                    pairs.insert(name, (value, item.at));
                }
            }
            return pairs;
        }
        for (name, item) in self.map_or_null(field) {
            let value = match item.is_null() {
                true => None,
                false => self.text(&item),
            };
            if self.is_pair_name(&item, name) {
                pairs.insert(name.to_string(), (value, item.at));
            }
        }
        pairs
    }

    fn is_pair_name(&mut self, item: &Field<'_>, name: &str) -> bool {
        let good = !name.is_empty() && !name.contains(['=', '\0']);
        if !good {
            self.wrong_at(
                item,
                format!("\"{}\" is no name", shown(name)),
                "it is empty or contains = or a zero byte",
                "write NAME: value",
            );
        }
        good
    }

    pub fn unknown(&mut self, field: &Field<'_>, name: &str, known: &str) {
        self.wrong_at(
            field,
            format!("the key \"{}\" is not known here", shown(name)),
            &format!("known are {known}"),
            &near::nearest(name, known)
                .map_or("correct or remove it".into(), |key| format!("write {key}")),
        );
    }

    /// A name of a service, network or volume, as the ledger takes it.
    pub fn is_name(&mut self, field: &Field<'_>, name: &str) -> bool {
        let good = is_name(name);
        if !good {
            self.wrong_at(
                field,
                format!("\"{}\" is no name", shown(name)),
                "a name has 1 to 40 letters, digits, '.', '_' and '-', and begins with a letter or digit",
                "choose another",
            );
        }
        good
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}
