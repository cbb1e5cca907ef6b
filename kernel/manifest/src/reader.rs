//! The tree that keys are read from: aliases followed, `<<` merged, variables filled in.
//!
//! Collects what is wrong on the way instead of stopping at the first.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::problem::{Problem, shown};
use crate::template;
use crate::yaml::{BYTES_MAX, Mark, Raw, RawValue};

/// Problems, and warnings, that are told; more are not read.
const TOLD_MAX: usize = 100;

pub(crate) struct Node {
    pub at: Mark,
    pub value: Value,
}

pub(crate) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

pub(crate) struct Entry {
    pub key: String,
    pub at: Mark,
    pub value: Node,
}

pub(crate) struct Reader<'a> {
    file: &'a str,
    pub environment: &'a BTreeMap<String, String>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    unset: BTreeSet<String>,
    /// Bytes of values after filling in.
    filled: u64,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a str, environment: &'a BTreeMap<String, String>) -> Self {
        Self {
            file,
            environment,
            problems: Vec::new(),
            warnings: Vec::new(),
            unset: BTreeSet::new(),
            filled: 0,
        }
    }

    fn problem(&self, at: Mark, key: &str, what: String, why: &str, next: &str) -> Problem {
        Problem {
            file: self.file.to_string(),
            line: at.line,
            column: at.column,
            key: key.to_string(),
            what,
            why: why.to_string(),
            next: next.to_string(),
        }
    }

    /// No further problem is told.
    pub fn is_full(&self) -> bool {
        self.problems.len() >= TOLD_MAX
    }

    pub fn wrong(&mut self, at: Mark, key: &str, what: impl Into<String>, why: &str, next: &str) {
        if !self.is_full() {
            let problem = self.problem(at, key, what.into(), why, next);
            self.problems.push(problem);
        }
    }

    pub fn warn(&mut self, at: Mark, key: &str, what: impl Into<String>, why: &str, next: &str) {
        if self.warnings.len() < TOLD_MAX {
            let problem = self.problem(at, key, what.into(), why, next);
            self.warnings.push(problem);
        }
    }

    /// The tree of `raw`, whose key path is `path` (left as it was).
    pub fn resolve(&mut self, raw: &Raw, path: &mut String) -> Node {
        let value = match &raw.value {
            RawValue::Scalar { text, plain } => self.scalar(raw.at, text, *plain, path),
            RawValue::List(items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    let length = path.len();
                    path.push_str(&format!("[{i}]"));
                    nodes.push(self.resolve(item, path));
                    path.truncate(length);
                }
                Value::List(nodes)
            }
            RawValue::Map(_) => {
                let mut flat = Vec::new();
                self.flatten(raw, path, &mut BTreeSet::new(), &mut flat);
                let mut entries = Vec::with_capacity(flat.len());
                for (key, at, value) in flat {
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(&shown(&key));
                    let value = self.resolve(&value, path);
                    path.truncate(length);
                    entries.push(Entry { key, at, value });
                }
                Value::Map(entries)
            }
        };
        Node { at: raw.at, value }
    }

    fn scalar(&mut self, at: Mark, text: &str, plain: bool, path: &str) -> Value {
        if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Value::Null;
        }
        let environment = self.environment;
        let mut unset = BTreeSet::new();
        let lookup = |name: &str| environment.get(name).cloned();
        let filled = template::substitute(text, &lookup, &mut unset);
        for name in unset {
            if self.unset.insert(name.clone()) {
                self.warn(
                    at,
                    path,
                    format!("the variable {name} is not set"),
                    "it stands for nothing",
                    &format!("set {name}, or write ${{{name}:-}} to say so"),
                );
            }
        }
        let text = match filled {
            Ok(text) => text,
            Err(error) => {
                self.wrong(at, path, error.what, "", &error.next);
                String::new()
            }
        };
        self.filled = self.filled.saturating_add(text.len() as u64);
        if self.filled > BYTES_MAX {
            self.wrong(
                at,
                path,
                format!(
                    "with variables filled in the file has more than {} MiB",
                    BYTES_MAX >> 20
                ),
                "",
                "shorten their values",
            );
            return Value::Null;
        }
        Value::Text(text)
    }

    /// The entries of a mapping: its own, then what `<<` brings that it does not have.
    fn flatten(
        &mut self,
        raw: &Raw,
        path: &str,
        seen: &mut BTreeSet<String>,
        out: &mut Vec<(String, Mark, Rc<Raw>)>,
    ) {
        let RawValue::Map(pairs) = &raw.value else {
            self.wrong(
                raw.at,
                path,
                "<< needs a mapping, or a list of mappings",
                "",
                "point it at an anchor of a mapping",
            );
            return;
        };
        let mut own = BTreeSet::new();
        let mut merges = Vec::new();
        for (key, value) in pairs {
            let RawValue::Scalar { text, plain } = &key.value else {
                self.wrong(
                    key.at,
                    path,
                    "a list or mapping stands where a key must",
                    "",
                    "write a plain key",
                );
                continue;
            };
            if *plain && text == "<<" {
                merges.push(value);
            } else if !own.insert(text.clone()) {
                self.wrong(
                    key.at,
                    path,
                    format!("the key \"{}\" stands here twice", shown(text)),
                    "",
                    "remove one of them",
                );
            } else if seen.insert(text.clone()) {
                out.push((text.clone(), key.at, value.clone()));
            }
        }
        for merge in merges {
            match &merge.value {
                RawValue::List(items) => {
                    for item in items {
                        self.flatten(item, path, seen, out);
                    }
                }
                _ => self.flatten(merge, path, seen, out),
            }
        }
    }
}
