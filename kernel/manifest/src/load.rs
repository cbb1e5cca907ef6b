//! Several files as one tree: `-f` over `-f`, `include`, `extends`.
//!
//! Each file has its variables filled in, then what it includes, then what its services
//! extend; then it is laid over the files before it. Paths stay relative to where they are
//! written: [`crate::reader::Reader::path`] knows by a value's mark.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::dotenv::parse_env_file_with;
use crate::merge::{merge, settle};
use crate::problem::shown;
use crate::reader::{File, Reader, joined};
use crate::tree::{Entry, Node, Value};
use crate::yaml::{self, Mark};
use crate::{Folder, Inputs};

/// Compose files of one project, all told.
const FILES_MAX: usize = 64;
/// `include` in an included file, `extends` of what extends.
const DEPTH_MAX: usize = 16;
/// Bytes that `extends` may copy together.
const COPIED_MAX: u64 = 32 << 20;
/// Sections that `include` brings.
const SECTIONS: [&str; 6] = [
    "services", "networks", "volumes", "configs", "secrets", "models",
];

type Services = Rc<BTreeMap<String, Node>>;

struct Loader<'a> {
    reader: &'a mut Reader,
    folder: &'a dyn Folder,
    /// Files that are being included.
    open: Vec<String>,
    /// Services of files that others extend, by path.
    others: BTreeMap<String, Option<Services>>,
    copied: u64,
}

/// The tree of all of the project's files; `None` if one of them cannot be read at all.
pub(crate) fn load(reader: &mut Reader, inputs: &Inputs<'_>) -> Option<Node> {
    let environment = Rc::new(inputs.environment.clone());
    let mut loader = Loader {
        reader,
        folder: inputs.folder,
        open: Vec::new(),
        others: BTreeMap::new(),
        copied: 0,
    };
    let mut whole = None;
    for source in &inputs.files {
        let file = File {
            name: source.name.to_string(),
            base: String::new(),
            environment: environment.clone(),
        };
        let node = loader.file(file, source.text)?;
        whole = loader.over(whole, node);
    }
    let mut whole = whole?;
    settle(&mut whole);
    Some(whole)
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => "",
    }
}

impl Loader<'_> {
    fn over(&mut self, base: Option<Node>, over: Node) -> Option<Node> {
        let Some(base) = base else { return Some(over) };
        match merge(base, over, &mut Vec::new()) {
            Ok(node) => Some(node),
            Err(clash) => {
                self.clash(clash.at, &clash.path);
                None
            }
        }
    }

    fn clash(&mut self, at: Mark, path: &str) {
        self.reader.wrong(
            at,
            path,
            "this cannot be laid over what an earlier file says",
            "one is a mapping and the other is not",
            "write both the same way, or put !override before the later one",
        );
    }

    fn resolved(&mut self, file: File, text: &str) -> Option<Node> {
        if self.reader.files() >= FILES_MAX {
            let next = "join some of them";
            let what = format!("more than {FILES_MAX} compose files");
            self.reader.wrong(Mark::default(), "", what, "", next);
            return None;
        }
        let number = self.reader.add(file);
        let start = Mark {
            file: number,
            ..Mark::default()
        };
        match yaml::parse(number, text) {
            Ok(Some(raw)) => Some(self.reader.resolve(&raw, &mut String::new())),
            Ok(None) => {
                let why = "a compose file names at least one service";
                self.reader
                    .wrong(start, "", "the file is empty", why, "add one");
                None
            }
            Err(error) => {
                self.reader.wrong(error.at, "", error.what, "", &error.next);
                None
            }
        }
    }

    fn file(&mut self, file: File, text: &str) -> Option<Node> {
        let mut node = self.resolved(file, text)?;
        if let Some(include) = node.take("include") {
            self.include(&mut node, &include);
        }
        if let Some(services) = node.take("services") {
            let known: Services = Rc::new(by_name(&services.value));
            let mut extended = services;
            if let Some(entries) = extended.value.entries_mut() {
                for entry in entries {
                    if entry.value.get("extends").is_some() {
                        let mut stack = Vec::new();
                        let node = self.extended(&known, "", &entry.key, &mut stack);
                        entry.value = node.unwrap_or(Node::new(entry.at, Value::Null));
                    }
                }
            }
            if let Some(entries) = node.entries_mut() {
                entries.push(extended);
            }
        }
        Some(node)
    }

    /// One text, or a list of them, as paths from the project's folder.
    fn paths(&mut self, node: &Node, key: &str) -> Vec<(Mark, String)> {
        let items = match &node.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut paths = Vec::new();
        for item in items {
            match item.text() {
                Some(text) => paths.push((item.at, self.reader.path(item.at, text))),
                None => self.reader.wrong(
                    item.at,
                    key,
                    "a path is needed here",
                    "",
                    "write the path of a file",
                ),
            }
        }
        paths
    }

    fn text(&mut self, at: Mark, key: &str, path: &str) -> Option<String> {
        let (what, why) = match self.folder.text(path) {
            Ok(Some(text)) => return Some(text),
            Ok(None) => ("does not exist", String::new()),
            Err(why) => ("cannot be read", why),
        };
        let what = format!("the file {} {what}", shown(path));
        self.reader.wrong(at, key, what, &why, "correct the path");
        None
    }

    fn include(&mut self, node: &mut Node, include: &Entry) {
        let Value::List(items) = &include.value.value else {
            let next = "write include: [other/compose.yaml]";
            let what = "include needs a list";
            self.reader.wrong(include.at, "include", what, "", next);
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let key = format!("include[{index}]");
            if let Some(included) = self.included(item, &key) {
                for section in SECTIONS {
                    if let Some(found) = included.get(section) {
                        self.import(node, found, &key);
                    }
                }
            }
        }
    }

    fn included(&mut self, item: &Node, key: &str) -> Option<Node> {
        let (mut paths, mut folder, mut env_files) = (Vec::new(), None, None);
        for entry in item.entries() {
            match entry.key.as_str() {
                "path" => paths = self.paths(&entry.value, key),
                "project_directory" => {
                    folder = self.paths(&entry.value, key).pop().map(|(_, path)| path);
                }
                "env_file" => env_files = Some(self.paths(&entry.value, key)),
                other => {
                    let what = format!("the key \"{}\" is not known here", shown(other));
                    let why = "known are path, project_directory, env_file";
                    self.reader
                        .wrong(entry.at, key, what, why, "correct or remove it");
                }
            }
        }
        if item.text().is_some() {
            paths = self.paths(item, key);
        }
        let Some((_, first)) = paths.first().cloned() else {
            self.reader
                .wrong(item.at, key, "no file is named", "", "add its path");
            return None;
        };
        let base = folder.unwrap_or_else(|| parent(&first).to_string());
        if self.open.contains(&first) || self.open.len() >= DEPTH_MAX {
            let what = format!("{} includes itself, or stands too deep", shown(&first));
            self.reader.wrong(item.at, key, what, "", "remove it");
            return None;
        }
        let environment = Rc::new(self.environment(item.at, key, &base, env_files));
        self.open.push(first);
        let mut whole = None;
        for (at, path) in paths {
            let file = File {
                name: path.clone(),
                base: base.clone(),
                environment: environment.clone(),
            };
            let node = self.text(at, key, &path).and_then(|t| self.file(file, &t));
            if let Some(node) = node {
                whole = self.over(whole, node);
            }
        }
        self.open.pop();
        let mut whole = whole?;
        settle(&mut whole);
        Some(whole)
    }

    /// Of an included file: what the including one knows, over its own `.env`.
    fn environment(
        &mut self,
        at: Mark,
        key: &str,
        base: &str,
        files: Option<Vec<(Mark, String)>>,
    ) -> BTreeMap<String, String> {
        let outer = self.reader.environment(at);
        let texts: Vec<(String, String)> = match files {
            Some(files) => files
                .into_iter()
                .filter_map(|(at, path)| Some((path.clone(), self.text(at, key, &path)?)))
                .collect(),
            None => {
                let path = joined(base, ".env");
                let text = self.folder.text(&path).ok().flatten();
                text.map(|t| (path, t)).into_iter().collect()
            }
        };
        let mut own = BTreeMap::new();
        for (path, text) in texts {
            let outside = |name: &str| outer.get(name).or_else(|| own.get(name)).cloned();
            match parse_env_file_with(&path, &text, &outside) {
                Ok(values) => own.extend(values),
                Err(problem) => self.reader.tell(*problem),
            }
        }
        own.extend(outer.iter().map(|(k, v)| (k.clone(), v.clone())));
        own
    }

    /// Adds the entries of a section to the same one here.
    fn import(&mut self, node: &mut Node, section: &Entry, key: &str) {
        let mut own = node.take(&section.key).unwrap_or(Entry {
            key: section.key.clone(),
            at: section.at,
            value: Node::new(section.at, Value::Map(Vec::new())),
        });
        if matches!(own.value.value, Value::Null) {
            own.value.value = Value::Map(Vec::new());
        }
        for entry in section.value.entries() {
            match own.value.get(&entry.key) {
                Some(there) if !there.value.equals(&entry.value) => {
                    let path = format!("{}.{}", section.key, shown(&entry.key));
                    let what = format!("{path} is here and in an included file, differently");
                    let why = format!("{key} brings it too");
                    let next = "rename one, or change it with a further -f";
                    self.reader.wrong(there.at, &path, what, &why, next);
                }
                Some(_) => {}
                None => {
                    if let Some(entries) = own.value.entries_mut() {
                        entries.push(entry.clone());
                    }
                }
            }
        }
        if let Some(entries) = node.entries_mut() {
            entries.push(own);
        }
    }

    /// Service `name` of `services` (those of the file at `path`), laid over what it extends.
    fn extended(
        &mut self,
        services: &Services,
        path: &str,
        name: &str,
        stack: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        let mut own = services.get(name)?.clone();
        self.copied = self.copied.saturating_add(own.weight());
        let key = format!("services.{}.extends", shown(name));
        let Some(extends) = own.take("extends") else {
            return Some(own);
        };
        let here = (path.to_string(), name.to_string());
        if stack.contains(&here) || stack.len() >= DEPTH_MAX || self.copied > COPIED_MAX {
            let what = format!("{} extends itself, or too much", shown(name));
            self.reader.wrong(extends.at, &key, what, "", "remove it");
            return None;
        }
        let (mut service, mut file) = (extends.value.text().map(String::from), None);
        for entry in extends.value.entries() {
            let text = entry.value.text().map(String::from);
            match (entry.key.as_str(), text) {
                ("service", Some(text)) => service = Some(text),
                ("file", Some(text)) => file = Some(self.reader.path(entry.value.at, &text)),
                (other, _) => {
                    let what = format!("\"{}\" cannot be read here", shown(other));
                    let next = "write { service: NAME, file: PATH }";
                    self.reader.wrong(entry.at, &key, what, "", next);
                }
            }
        }
        let Some(base) = service else {
            let next = "write extends: { service: NAME }";
            let what = "no service is named";
            self.reader.wrong(extends.at, &key, what, "", next);
            return None;
        };
        let (services, path) = match file {
            Some(file) => (self.other(extends.at, &key, &file)?, file),
            None => (services.clone(), path.to_string()),
        };
        if !services.contains_key(&base) {
            let what = format!("there is no service {}", shown(&base));
            self.reader
                .wrong(extends.at, &key, what, "", "correct the name");
            return None;
        }
        stack.push(here);
        let base = self.extended(&services, &path, &base, stack);
        stack.pop();
        let mut at = vec!["services".to_string(), name.to_string()];
        match merge(base?, own, &mut at) {
            Ok(node) => Some(node),
            Err(clash) => {
                self.clash(clash.at, &clash.path);
                None
            }
        }
    }

    /// The services of a file that one here extends.
    fn other(&mut self, at: Mark, key: &str, path: &str) -> Option<Services> {
        if let Some(known) = self.others.get(path) {
            return known.clone();
        }
        let environment = self.reader.environment(at);
        let file = File {
            name: path.to_string(),
            base: parent(path).to_string(),
            environment,
        };
        let found = self
            .text(at, key, path)
            .and_then(|text| self.resolved(file, &text))
            .and_then(|node| Some(Rc::new(by_name(&node.get("services")?.value))));
        self.others.insert(path.to_string(), found.clone());
        found
    }
}

fn by_name(services: &Node) -> BTreeMap<String, Node> {
    let entries = services.entries().iter();
    entries.map(|e| (e.key.clone(), e.value.clone())).collect()
}
