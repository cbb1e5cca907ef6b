//! Fills variables in, merges `<<`, and collects what is wrong on the way instead of stopping
//! at the first.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::problem::{Problem, shown};
use crate::template;
use crate::tree::{Entry, Node, Value};
use crate::yaml::{BYTES_MAX, Mark, Raw, RawValue};

/// Problems, and warnings, that are told; more are not read.
const TOLD_MAX: usize = 100;

/// A file that is read.
pub(crate) struct File {
    /// For messages.
    pub name: String,
    /// What its paths are relative to, itself relative to the project's folder; empty for that.
    pub base: String,
    pub environment: Rc<BTreeMap<String, String>>,
}

#[derive(Default)]
pub(crate) struct Reader {
    files: Vec<File>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    unset: BTreeSet<String>,
    /// Bytes of values after filling in.
    filled: u64,
}

impl Reader {
    /// Its number, for marks.
    pub fn add(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    pub fn files(&self) -> usize {
        self.files.len()
    }

    pub fn environment(&self, at: Mark) -> Rc<BTreeMap<String, String>> {
        let file = self.files.get(at.file);
        file.map(|f| f.environment.clone()).unwrap_or_default()
    }

    /// `path`, which stands at `at`, relative to the project's folder.
    pub fn path(&self, at: Mark, path: &str) -> String {
        let base = self.files.get(at.file).map_or("", |f| f.base.as_str());
        joined(base, path)
    }

    fn problem(&self, at: Mark, key: &str, what: String, why: &str, next: &str) -> Problem {
        let file = self.files.get(at.file);
        Problem {
            file: file.map(|f| f.name.clone()).unwrap_or_default(),
            line: at.line,
            column: at.column,
            key: key.to_string(),
            what,
            why: why.to_string(),
            next: next.to_string(),
        }
    }

    pub fn tell(&mut self, problem: Problem) {
        if !self.is_full() {
            self.problems.push(problem);
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
        Node {
            at: raw.at,
            over: raw.over,
            value,
        }
    }

    fn scalar(&mut self, at: Mark, text: &str, plain: bool, path: &str) -> Value {
        if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Value::Null;
        }
        let environment = self.environment(at);
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

/// `path` as seen from where `base` is seen from: no `.`, and `..` only in front.
pub(crate) fn joined(base: &str, path: &str) -> String {
    if path.starts_with(['/', '~']) {
        return path.to_string();
    }
    let mut parts: Vec<&str> = Vec::new();
    let is_root = base.starts_with('/');
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if is_root => {}
            part => parts.push(part),
        }
    }
    format!("{}{}", if is_root { "/" } else { "" }, parts.join("/"))
}
