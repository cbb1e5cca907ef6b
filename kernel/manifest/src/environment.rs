//! `environment`, `env_file`, `labels`, `label_file`.

use std::collections::BTreeMap;

use crate::Folder;
use crate::dotenv::{parse_env_file_with, parse_raw_env_file};
use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;

const ENV_FILES_MAX: usize = 32;
const PUBLIC: &str = "the deployment, with this value, is public on the ledger";
const THROW_AWAY: &str =
    "put it under secrets: and name its file, as NAME_FILE: /run/secrets/NAME does for many images";

impl Reader {
    pub fn own_environment(&mut self, field: &Field<'_>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for (name, (value, at)) in self.pairs(field) {
            let outside = || self.environment(at).get(&name).cloned();
            let Some(value) = value.or_else(outside) else {
                continue;
            };
            if is_secret(&name, &value) {
                let path = format!("{}.{}", field.path, shown(&name));
                self.warn(at, &path, "this looks like a secret", PUBLIC, THROW_AWAY);
            }
            environment.insert(name, value);
        }
        environment
    }

    /// The files of `env_file`, later ones over earlier.
    pub fn env_file(&mut self, field: &Field<'_>, folder: &dyn Folder) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let items = match field.is_list() {
            true => self.list(field),
            false => vec![field.clone()],
        };
        if items.len() > ENV_FILES_MAX {
            let what = format!("more than {ENV_FILES_MAX} files");
            self.wrong_at(field, what, "", "join them");
        }
        for item in items.iter().take(ENV_FILES_MAX) {
            let (mut path, mut required, mut raw) = (None, true, false);
            if item.is_map() {
                for (key, inner) in self.map(item) {
                    match key {
                        "path" => path = self.path_of(&inner),
                        "required" => required = self.boolean(&inner).unwrap_or(true),
                        "format" => {
                            let parse = |text: &str| (text == "raw").then_some(true);
                            raw = self.parsed(&inner, parse, "raw").unwrap_or_default();
                        }
                        _ => self.unknown(&inner, key, "path, required, format"),
                    }
                }
            } else {
                path = self.path_of(item);
            }
            let Some(path) = path else { continue };
            let Some(text) = self.file_text(item, folder, &path, required) else {
                continue;
            };
            let environment_here = self.environment(item.node.at);
            let outside = |name: &str| {
                let known = environment.get(name).or_else(|| environment_here.get(name));
                known.cloned()
            };
            let parsed = match raw {
                true => parse_raw_env_file(&path, &text, &outside),
                false => parse_env_file_with(&path, &text, &outside),
            };
            match parsed {
                Ok(values) => {
                    for (name, _) in values.iter().filter(|(name, value)| is_secret(name, value)) {
                        self.warn_at(
                            item,
                            format!("{} in {} looks like a secret", shown(name), shown(&path)),
                            PUBLIC,
                            THROW_AWAY,
                        );
                    }
                    environment.extend(values);
                }
                Err(problem) => self.tell(*problem),
            }
        }
        environment
    }

    /// A path as seen from the project's folder.
    pub fn path_of(&mut self, field: &Field<'_>) -> Option<String> {
        let text = self.text(field)?;
        Some(self.path(field.node.at, &text))
    }

    /// The text of a file; tells if it cannot be had, unless it need not be there.
    pub fn file_text(
        &mut self,
        field: &Field<'_>,
        folder: &dyn Folder,
        path: &str,
        required: bool,
    ) -> Option<String> {
        match folder.text(path) {
            Ok(Some(text)) => return Some(text),
            Ok(None) if !required => {}
            Ok(None) => self.wrong_at(
                field,
                format!("the file {} does not exist", shown(path)),
                "it is looked for in the project's folder",
                "make it, or correct the path",
            ),
            Err(why) => self.wrong_at(
                field,
                format!("{} cannot be read", shown(path)),
                &why,
                "correct the path or the file's rights",
            ),
        }
        None
    }

    /// Files of labels, written as those of `env_file` are.
    pub fn label_file(
        &mut self,
        field: &Field<'_>,
        folder: &dyn Folder,
    ) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let items = match field.is_list() {
            true => self.list(field),
            false => vec![field.clone()],
        };
        for item in items.iter().take(ENV_FILES_MAX) {
            let Some(path) = self.path_of(item) else {
                continue;
            };
            let Some(text) = self.file_text(item, folder, &path, true) else {
                continue;
            };
            match parse_env_file_with(&path, &text, &|_| None) {
                Ok(values) => labels.extend(values),
                Err(problem) => self.tell(*problem),
            }
        }
        labels
    }

    pub fn labels(&mut self, field: &Field<'_>) -> BTreeMap<String, String> {
        self.pairs(field)
            .into_iter()
            .map(|(name, (value, _))| (name, value.unwrap_or_default()))
            .collect()
    }
}

/// By its name; what points at a file, or is empty, tells nothing.
fn is_secret(name: &str, value: &str) -> bool {
    const WORDS: [&str; 9] = [
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "SECRET",
        "TOKEN",
        "API_KEY",
        "APIKEY",
        "PRIVATE_KEY",
        "CREDENTIAL",
    ];
    let name = name.to_ascii_uppercase();
    !value.is_empty()
        && !name.ends_with("_FILE")
        && !name.starts_with("ALLOW_EMPTY")
        && WORDS.iter().any(|word| name.contains(word))
}
