//! `volumes` and `tmpfs` of a service.

use types::{MountSource, MountSpec};

use crate::field::{Field, is_name};
use crate::problem::shown;
use crate::reader::Reader;
use crate::value;

impl Reader {
    pub fn mounts(&mut self, field: &Field<'_>) -> Vec<MountSpec> {
        let items = self.list(field);
        items
            .iter()
            .filter_map(|item| match item.is_map() {
                true => self.long_mount(item),
                false => self.short_mount(item),
            })
            .collect()
    }

    fn host_path(&mut self, item: &Field<'_>, source: &str) {
        let next = if source.ends_with("docker.sock") {
            "remove it: there is no Docker engine behind it, and no container may steer its host"
        } else {
            "use a named volume, or put the files into the image"
        };
        self.wrong_at(
            item,
            format!("mounting the path {} is not supported yet", shown(source)),
            "the service runs on a machine that does not have your files",
            next,
        );
    }

    fn target(&mut self, item: &Field<'_>, target: &str) -> Option<String> {
        let mut parts = target
            .split('/')
            .filter(|p| !matches!(*p, "" | "."))
            .peekable();
        let good = target.starts_with('/')
            && target.len() <= 512
            && !target.contains('\0')
            && parts.peek().is_some()
            && parts.all(|p| p != "..");
        if !good {
            self.wrong_at(
                item,
                format!("\"{}\" is no place in the container", shown(target)),
                "a mount needs an absolute path below /, without ..",
                "correct it",
            );
        }
        good.then(|| target.to_string())
    }

    fn short_mount(&mut self, item: &Field<'_>) -> Option<MountSpec> {
        let text = self.text(item)?;
        let mut parts = text.split(':');
        let first = parts.next().unwrap_or_default();
        let Some(target) = parts.next() else {
            return Some(MountSpec {
                source: MountSource::Anonymous,
                target: self.target(item, first)?,
                read_only: false,
            });
        };
        if first.starts_with(['/', '.', '~', '\\'])
            || first.contains('/')
            || target.starts_with('\\')
        {
            self.host_path(item, first);
            return None;
        }
        let mut read_only = false;
        for option in parts.next().unwrap_or_default().split(',') {
            match option {
                "" | "rw" => {}
                "ro" => read_only = true,
                "z" | "Z" | "nocopy" | "cached" | "delegated" | "consistent" => self.warn_at(
                    item,
                    format!("the option {option} has no effect"),
                    "a named volume belongs to its project alone",
                    "remove it",
                ),
                _ => self.wrong_at(
                    item,
                    format!("the option \"{}\" is not known", shown(option)),
                    "known are ro and rw",
                    "correct or remove it",
                ),
            }
        }
        if parts.next().is_some() || !is_name(first) {
            self.wrong_at(
                item,
                format!("\"{}\" is no volume", shown(&text)),
                "",
                "write for example data:/var/lib/data or data:/var/lib/data:ro",
            );
            return None;
        }
        Some(MountSpec {
            source: MountSource::Volume(first.to_string()),
            target: self.target(item, target)?,
            read_only,
        })
    }

    fn long_mount(&mut self, item: &Field<'_>) -> Option<MountSpec> {
        let (mut kind, mut source, mut target) = (None, None, None);
        let (mut read_only, mut size) = (false, 0);
        for (key, inner) in self.map(item) {
            match key {
                "type" => kind = self.text(&inner),
                "source" => source = self.text(&inner),
                "target" => target = self.text(&inner),
                "read_only" => read_only = self.boolean(&inner).unwrap_or_default(),
                "tmpfs" => {
                    for (key, inner) in self.map_or_null(&inner) {
                        match key {
                            "size" => {
                                size = self.parsed(&inner, value::bytes, "64m").unwrap_or_default();
                            }
                            "mode" => self.no_effect(&inner),
                            _ => self.unknown(&inner, key, "size, mode"),
                        }
                    }
                }
                "volume" => {
                    for (key, inner) in self.map_or_null(&inner) {
                        match key {
                            "nocopy" | "labels" => self.no_effect(&inner),
                            "subpath" => self.wrong_at(
                                &inner,
                                "mounting a part of a volume is not supported yet",
                                "",
                                "use a volume of its own",
                            ),
                            _ => self.unknown(&inner, key, "nocopy"),
                        }
                    }
                }
                "consistency" => self.no_effect(&inner),
                "bind" | "image" => {} // told by its type
                _ if key.starts_with("x-") => {}
                _ => self.unknown(
                    &inner,
                    key,
                    "type, source, target, read_only, volume, tmpfs, consistency",
                ),
            }
        }
        let source = match (kind.as_deref(), source) {
            (Some("volume"), Some(name)) => {
                if !is_name(&name) {
                    self.host_path(item, &name);
                    return None;
                }
                MountSource::Volume(name)
            }
            (Some("volume"), None) => MountSource::Anonymous,
            (Some("tmpfs"), None) => MountSource::Tmpfs(size),
            (Some("tmpfs"), Some(_)) => {
                self.wrong_at(item, "a tmpfs has no source", "", "remove source");
                return None;
            }
            (Some("bind"), source) => {
                self.host_path(item, source.as_deref().unwrap_or("(none)"));
                return None;
            }
            (kind, _) => {
                self.wrong_at(
                    item,
                    format!(
                        "the type \"{}\" is not supported",
                        shown(kind.unwrap_or(""))
                    ),
                    "supported are volume and tmpfs",
                    "use a named volume",
                );
                return None;
            }
        };
        let Some(target) = target else {
            self.wrong_at(
                item,
                "target is missing",
                "",
                "add the path in the container",
            );
            return None;
        };
        Some(MountSpec {
            source,
            target: self.target(item, &target)?,
            read_only,
        })
    }

    pub fn no_effect(&mut self, field: &Field<'_>) {
        self.warn_at(field, "this has no effect", "", "remove it");
    }

    /// `tmpfs: /run` or a list; options after a colon.
    pub fn tmpfs(&mut self, field: &Field<'_>) -> Vec<MountSpec> {
        let items = match field.is_list() {
            true => self.list(field),
            false => vec![field.clone()],
        };
        items
            .iter()
            .filter_map(|item| {
                let text = self.text(item)?;
                let (target, options) = text.split_once(':').unwrap_or((&text, ""));
                let (mut size, mut read_only) = (0, false);
                for option in options.split(',') {
                    match option.split_once('=').unwrap_or((option, "")) {
                        ("" | "rw" | "noexec" | "nosuid" | "nodev", _) => {}
                        ("ro", _) => read_only = true,
                        ("size", text) => match value::bytes(text) {
                            Some(bytes) => size = bytes,
                            None => self.wrong_at(
                                item,
                                format!("\"{}\" is no size", shown(text)),
                                "",
                                "write for example size=64m",
                            ),
                        },
                        ("mode" | "uid" | "gid", _) => self.warn_at(
                            item,
                            format!("the option {} has no effect", shown(option)),
                            "everyone in the container may write there",
                            "remove it",
                        ),
                        _ => self.wrong_at(
                            item,
                            format!("the option \"{}\" is not supported", shown(option)),
                            "supported are size, ro and rw",
                            "remove it",
                        ),
                    }
                }
                Some(MountSpec {
                    source: MountSource::Tmpfs(size),
                    target: self.target(item, target)?,
                    read_only,
                })
            })
            .collect()
    }
}
