//! Files of the project in a service: bind mounts and configs. They travel with the release,
//! as an image of their own.

use std::collections::BTreeMap;

use types::{Digest, MountSource, MountSpec};

use crate::field::Field;
use crate::mount::Mounts;
use crate::problem::shown;
use crate::project::{Content, FileMount, FileOwner, FileSource};
use crate::reader::Reader;
use crate::value;
use crate::{Inputs, Kind};

/// Text of all configs together.
const TEXT_MAX: usize = 1 << 20;

/// A config or secret that a service mounts, before the top of the file is looked at.
pub(crate) struct ConfigMount {
    pub config: String,
    pub target: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u32>,
}

impl ConfigMount {
    /// Of a config: root's, and readable by all.
    pub fn owner(&self) -> FileOwner {
        FileOwner {
            uid: self.uid.unwrap_or_default(),
            gid: self.gid.unwrap_or_default(),
            mode: self.mode.unwrap_or(0o444),
        }
    }
}

/// A path as the project's folder has it.
pub(crate) fn folder_path(path: &str, inputs: &Inputs<'_>) -> String {
    let own = format!("{}/", inputs.directory.trim_end_matches('/'));
    path.strip_prefix(&own).unwrap_or(path).to_string()
}

/// What a path is when it is mounted.
pub(crate) struct Bind<'a> {
    pub source: &'a str,
    pub target: String,
    pub read_only: bool,
    /// A folder that is missing is made.
    pub create: bool,
}

impl Reader {
    /// A path of the project's folder, mounted.
    pub fn bind(
        &mut self,
        item: &Field<'_>,
        bind: Bind<'_>,
        inputs: &Inputs<'_>,
        mounts: &mut Mounts,
    ) {
        let whole = self.path(item.node.at, bind.source);
        let own = inputs.directory.trim_end_matches('/');
        let path = match whole.strip_prefix(own).map(|rest| rest.strip_prefix('/')) {
            Some(Some(rest)) if !own.is_empty() => rest,
            Some(None) if whole == own && !own.is_empty() => "",
            _ => whole.as_str(),
        };
        if path.starts_with(['/', '~', '\\']) || path.contains('\\') {
            return self.machine_path(item, bind.source, &bind);
        }
        match inputs.folder.kind(path) {
            Kind::File | Kind::Folder => self.carried(item, path, bind, mounts),
            Kind::Empty if bind.read_only => self.carried(item, path, bind, mounts),
            Kind::Missing | Kind::Empty if !bind.read_only && bind.create => {
                let name = volume_name(path);
                self.warn_at(
                    item,
                    format!("{} becomes the volume {name}", shown(bind.source)),
                    "there is nothing in it yet, and what is written there must stay",
                    "declare a named volume to say so",
                );
                mounts.folders.insert(name.clone());
                mounts.mounts.push(MountSpec {
                    source: MountSource::Volume(name),
                    target: bind.target,
                    read_only: false,
                });
            }
            Kind::Missing | Kind::Empty => self.wrong_at(
                item,
                format!("{} does not exist", shown(bind.source)),
                "it is looked for in the project's folder",
                "make it, or correct the path",
            ),
            Kind::Other => self.wrong_at(
                item,
                format!("{} is neither a file nor a folder", shown(bind.source)),
                "",
                "mount a file or a folder",
            ),
        }
    }

    fn carried(&mut self, item: &Field<'_>, path: &str, bind: Bind<'_>, mounts: &mut Mounts) {
        if !bind.read_only {
            self.warn_at(
                item,
                format!("{} is copied for each replica", shown(bind.source)),
                "what is written there stays with that replica and goes with it",
                "add :ro if nothing is written there; use a named volume for data",
            );
        }
        let last = path.rsplit('/').next().unwrap_or(path);
        let secret = [".env", ".pem", ".key", "secret", "password", "id_rsa"];
        if secret.iter().any(|end| last.ends_with(end)) {
            self.warn_at(
                item,
                format!("{} looks like a secret", shown(bind.source)),
                "files of a release can be read by whoever reads the ledger",
                "mount it under secrets:, which are sealed",
            );
        }
        mounts.files.push(FileMount {
            source: FileSource {
                content: Content::Path(path.to_string()),
                owner: None,
            },
            target: bind.target,
            read_only: bind.read_only,
        });
    }

    /// Paths of the machine: two are common and harmless, the others cannot be had.
    fn machine_path(&mut self, item: &Field<'_>, source: &str, bind: &Bind<'_>) {
        if bind.read_only && matches!(source, "/etc/localtime" | "/etc/timezone") {
            return self.warn_at(
                item,
                format!("{source} is not mounted"),
                "the service runs on machines whose time zone is not yours",
                "set the variable TZ under environment:",
            );
        }
        let next = if source.ends_with("docker.sock") {
            "remove it: there is no Docker engine behind it, and no container may steer its host"
        } else {
            "use a named volume, or a path of the project's folder (./files:/files:ro)"
        };
        self.wrong_at(
            item,
            format!("the path {} cannot be mounted", shown(source)),
            "the service runs on a machine that belongs to somebody else",
            next,
        );
    }

    /// `configs` of a service: a name, or a mapping that says where and whose.
    pub fn config_mounts(&mut self, field: &Field<'_>) -> Vec<ConfigMount> {
        self.placed(field, "")
    }

    /// What is declared at the top, put into the container: below `folder`, unless a path says
    /// where.
    pub fn placed(&mut self, field: &Field<'_>, folder: &str) -> Vec<ConfigMount> {
        let mut mounts = Vec::new();
        for item in self.list(field) {
            let (mut source, mut target) = (None, None);
            let (mut uid, mut gid, mut mode) = (None, None, None);
            if item.is_map() {
                for (key, inner) in self.map(&item) {
                    match key {
                        "source" => source = self.text(&inner),
                        "target" => target = self.text(&inner),
                        "uid" => uid = Some(self.id(&inner)),
                        "gid" => gid = Some(self.id(&inner)),
                        "mode" => {
                            let plain = |t: &str| value::mode(t).filter(|m| *m <= 0o777);
                            mode = self.parsed(&inner, plain, "0440");
                        }
                        _ => self.unknown(&inner, key, "source, target, uid, gid, mode"),
                    }
                }
            } else {
                source = self.text(&item);
            }
            let Some(config) = source else { continue };
            let target = target.unwrap_or_else(|| config.clone());
            let target = match target.starts_with('/') {
                true => target,
                false => format!("{folder}/{target}"),
            };
            if let Some(target) = self.target(&item, &target) {
                mounts.push(ConfigMount {
                    config,
                    target,
                    uid,
                    gid,
                    mode,
                });
            }
        }
        mounts
    }

    pub fn id(&mut self, field: &Field<'_>) -> u32 {
        let id = self.whole_number(field, "1000");
        if id.is_some_and(|id| id > 65_535) {
            let why = "a container has the numbers up to 65535";
            self.wrong_at(
                field,
                "the number is too large",
                why,
                "choose a smaller one",
            );
        }
        id.unwrap_or_default()
    }

    /// `configs` at the top of the file.
    pub fn configs(&mut self, field: &Field<'_>, inputs: &Inputs<'_>) -> BTreeMap<String, Content> {
        let mut configs = BTreeMap::new();
        let mut bytes = 0;
        for (name, inner) in self.map_or_null(field) {
            self.is_name(&inner, name);
            if let Some(content) = self.config(&inner, inputs) {
                if let Content::Text(text) = &content {
                    bytes += text.len();
                }
                configs.insert(name.to_string(), content);
            }
        }
        if bytes > TEXT_MAX {
            let what = format!("the texts of all configs have {bytes} bytes");
            let why = format!("at most {TEXT_MAX} are taken");
            self.wrong_at(field, what, &why, "put them into files");
        }
        configs
    }

    fn config(&mut self, field: &Field<'_>, inputs: &Inputs<'_>) -> Option<Content> {
        let mut found = Vec::new();
        for (key, inner) in self.map_or_null(field) {
            match key {
                "file" => {
                    let path = folder_path(&self.path_of(&inner)?, inputs);
                    match inputs.folder.kind(&path) {
                        Kind::File => found.push(Content::Path(path)),
                        _ => self.wrong_at(
                            &inner,
                            format!("there is no file {}", shown(&path)),
                            "it is looked for in the project's folder",
                            "make it, or correct the path",
                        ),
                    }
                }
                "content" => found.extend(self.text(&inner).map(Content::Text)),
                "environment" => {
                    let name = self.text(&inner)?;
                    match self.environment(inner.node.at).get(&name) {
                        Some(value) => found.push(Content::Text(value.clone())),
                        None => self.wrong_at(
                            &inner,
                            format!("the variable {} is not set", shown(&name)),
                            "",
                            "set it in the environment or in .env",
                        ),
                    }
                }
                "external" => {
                    if inner.is_map() || self.boolean(&inner) == Some(true) {
                        let why = "a project has only what its files say";
                        let next = "name a file: or its content:";
                        let what = "a config from outside the project is not supported";
                        self.wrong_at(&inner, what, why, next);
                        return None;
                    }
                }
                "name" | "labels" | "template_driver" => self.no_effect(&inner),
                _ if key.starts_with("x-") => {}
                _ => self.unknown(&inner, key, "file, content, environment"),
            }
        }
        if found.len() > 1 {
            let what = "file, content and environment exclude one another";
            self.wrong_at(field, what, "", "keep one");
        }
        let content = found.pop();
        if content.is_none() && !self.is_full() && self.problems.is_empty() {
            let what = "nothing is said of what is in it";
            self.wrong_at(field, what, "", "name a file: or its content:");
        }
        content
    }
}

/// A volume's name for a folder: its path, and where that says too little, a bit of its digest.
fn volume_name(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let short: String = path
        .chars()
        .map(|c| if plain(c) { c } else { '.' })
        .take(24)
        .collect();
    let clear = path.len() <= 24 && path.chars().all(|c| plain(c) || c == '/');
    match clear {
        true => format!("path.{short}"),
        false => format!("path.{short}.{}", &Digest::of(path.as_bytes()).hex()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_two_folders_are_two() {
        let paths = ["a/b", "a.b", "a-b", "a/b/c", "../a/b", "data", "dätä"];
        let long = format!("{}/x", "l".repeat(40));
        let names: std::collections::BTreeSet<String> = paths
            .iter()
            .map(|p| volume_name(p))
            .chain([volume_name(&long)])
            .collect();
        assert_eq!(names.len(), paths.len() + 1, "{names:?}");
        assert!(names.iter().all(|n| crate::field::is_name(n)), "{names:?}");
        assert!(names.contains("path.data"));
    }
}
