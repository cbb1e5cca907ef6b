//! `volumes` and `tmpfs` of a service.

use std::collections::BTreeSet;

use types::{ImageMount, ImageRef, MountSource, MountSpec, TmpfsSpec, VolumePart};

use crate::Inputs;
use crate::field::{Field, is_name};
use crate::files::Bind;
use crate::problem::shown;
use crate::project::FileMount;
use crate::reader::Reader;
use crate::value;

/// What `volumes` of a service comes to.
#[derive(Default)]
pub(crate) struct Mounts {
    pub mounts: Vec<MountSpec>,
    pub files: Vec<FileMount>,
    /// Volumes for folders of the project that are still empty.
    pub folders: BTreeSet<String>,
    /// Targets of volumes that are not filled from the image.
    pub bare: BTreeSet<String>,
}

impl Reader {
    pub fn mounts(&mut self, field: &Field<'_>, inputs: &Inputs<'_>) -> Mounts {
        let mut mounts = Mounts::default();
        for item in self.list(field) {
            let mount = match item.is_map() {
                true => self.long_mount(&item, inputs, &mut mounts),
                false => self.short_mount(&item, inputs, &mut mounts),
            };
            mounts.mounts.extend(mount);
        }
        mounts
    }

    pub fn target(&mut self, item: &Field<'_>, target: &str) -> Option<String> {
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

    fn short_mount(
        &mut self,
        item: &Field<'_>,
        inputs: &Inputs<'_>,
        mounts: &mut Mounts,
    ) -> Option<MountSpec> {
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
        // C:\\folder is a path too.
        let is_path = first.starts_with(['/', '.', '~', '\\'])
            || first.contains('/')
            || target.starts_with('\\');
        let mut read_only = false;
        for option in parts.next().unwrap_or_default().split(',') {
            match option {
                "" | "rw" => {}
                "ro" => read_only = true,
                // Of files shared with other programs of a machine; nobody shares these.
                "z" | "Z" | "cached" | "delegated" | "consistent" if is_path => {}
                // Files of the project are there in any case.
                "nocopy" if is_path => {}
                "nocopy" => {
                    mounts.bare.insert(target.to_string());
                }
                "z" | "Z" | "cached" | "delegated" | "consistent" => self.warn_at(
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
        if is_path {
            let (source, target) = match target.starts_with('\\') {
                true => (text.as_str(), "/"),
                false => (first, target),
            };
            let bind = Bind {
                source,
                target: match source == text {
                    true => target.to_string(),
                    false => self.target(item, target)?,
                },
                read_only,
                create: true,
            };
            self.bind(item, bind, inputs, mounts);
            return None;
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

    fn long_mount(
        &mut self,
        item: &Field<'_>,
        inputs: &Inputs<'_>,
        mounts: &mut Mounts,
    ) -> Option<MountSpec> {
        let (mut kind, mut source, mut target, mut bare) = (None, None, None, false);
        let (mut read_only, mut said, mut create) = (false, None, true);
        let mut tmpfs = TmpfsSpec::default();
        let (mut part, mut within) = (String::new(), None);
        for (key, inner) in self.map(item) {
            match key {
                "type" => kind = self.text(&inner),
                "source" => source = self.text(&inner),
                "target" => target = self.text(&inner),
                "read_only" => {
                    said = self.boolean(&inner);
                    read_only = said.unwrap_or_default();
                }
                "tmpfs" => {
                    for (key, inner) in self.map_or_null(&inner) {
                        match key {
                            "size" => {
                                let bytes = self.parsed(&inner, value::bytes, "64m");
                                tmpfs.bytes = bytes.unwrap_or_default();
                            }
                            "mode" => {
                                let mode = self.parsed(&inner, value::mode, "\"1770\"");
                                tmpfs.mode = mode.unwrap_or(tmpfs.mode);
                            }
                            "x-runrig" => {
                                for (key, inner) in self.map_or_null(&inner) {
                                    match key {
                                        "uid" => tmpfs.uid = self.id(&inner),
                                        "gid" => tmpfs.gid = self.id(&inner),
                                        _ => self.unknown(&inner, key, "uid, gid"),
                                    }
                                }
                            }
                            _ => self.unknown(&inner, key, "size, mode"),
                        }
                    }
                }
                "volume" => {
                    for (key, inner) in self.map_or_null(&inner) {
                        match key {
                            "nocopy" => bare = self.boolean(&inner) == Some(true),
                            "labels" => self.no_effect(&inner),
                            "subpath" => within = self.part_of_volume(&inner),
                            _ => self.unknown(&inner, key, "nocopy, subpath"),
                        }
                    }
                }
                "consistency" => self.no_effect(&inner),
                "bind" => {
                    for (key, inner) in self.map_or_null(&inner) {
                        match key {
                            "create_host_path" => {
                                create = self.boolean(&inner).unwrap_or(true);
                            }
                            "propagation" | "recursive" | "selinux" => self.no_effect(&inner),
                            _ => self.unknown(&inner, key, "create_host_path"),
                        }
                    }
                }
                "image" => {
                    for (key, inner) in self.map_or_null(&inner) {
                        match key {
                            "subpath" => {
                                let inside = |t: &str| {
                                    let parts = t.split('/').all(|p| p != "..");
                                    (parts && t.len() <= 512).then(|| t.trim_matches('/').into())
                                };
                                part = self.parsed(&inner, inside, "etc/app").unwrap_or_default();
                            }
                            _ => self.unknown(&inner, key, "subpath"),
                        }
                    }
                }
                _ if key.starts_with("x-") => {}
                _ => self.unknown(
                    &inner,
                    key,
                    "type, source, target, read_only, bind, volume, tmpfs, image, consistency",
                ),
            }
        }
        let source = match (kind.as_deref(), source) {
            (Some("volume"), Some(name)) => {
                if !is_name(&name) {
                    self.wrong_at(
                        item,
                        format!("\"{}\" is no name of a volume", shown(&name)),
                        "",
                        "write type: bind for a path",
                    );
                    return None;
                }
                match within {
                    Some(path) => MountSource::Part(VolumePart { volume: name, path }),
                    None => MountSource::Volume(name),
                }
            }
            (Some("volume"), None) if within.is_some() => {
                self.wrong_at(
                    item,
                    "a part of a volume that has no name",
                    "subpath says where in a named volume; what has no name is new for each replica",
                    "add source: NAME, and the name under volumes: at the top of the file",
                );
                return None;
            }
            (Some("volume"), None) => MountSource::Anonymous,
            (Some("tmpfs"), None) => MountSource::Tmpfs(tmpfs),
            (Some("tmpfs"), Some(_)) => {
                self.wrong_at(item, "a tmpfs has no source", "", "remove source");
                return None;
            }
            (Some("bind"), Some(source)) => {
                let Some(target) = target else {
                    let next = "add the path in the container";
                    self.wrong_at(item, "target is missing", "", next);
                    return None;
                };
                let bind = Bind {
                    source: &source,
                    target: self.target(item, &target)?,
                    read_only,
                    create,
                };
                self.bind(item, bind, inputs, mounts);
                return None;
            }
            (Some("image"), Some(reference)) => {
                let image = ImageRef {
                    reference,
                    ..ImageRef::default()
                };
                // Its content is the image's own, unless a copy is asked for.
                read_only = said.unwrap_or(true);
                MountSource::Image(ImageMount { image, path: part })
            }
            (kind, _) => {
                self.wrong_at(
                    item,
                    format!(
                        "the type \"{}\" is not supported",
                        shown(kind.unwrap_or(""))
                    ),
                    "supported are volume, bind, tmpfs and image, and bind and image need a source",
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
        let target = self.target(item, &target)?;
        if bare {
            mounts.bare.insert(target.clone());
        }
        Some(MountSpec {
            source,
            target,
            read_only,
        })
    }

    /// `subpath` of a named volume.
    fn part_of_volume(&mut self, field: &Field<'_>) -> Option<String> {
        let path = |text: &str| {
            let names = text.split('/').filter(|part| !matches!(*part, "" | "."));
            let path = names.collect::<Vec<_>>().join("/");
            (!text.starts_with('/') && VolumePart::is_path(&path)).then_some(path)
        };
        self.parsed(field, path, "uploads/2024, a path in the volume without ..")
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
                let (mut tmpfs, mut read_only) = (TmpfsSpec::default(), false);
                let number = |text: &str| text.parse().ok().filter(|id| *id <= 65_535);
                for option in options.split(',') {
                    match option.split_once('=').unwrap_or((option, "")) {
                        ("" | "rw" | "noexec" | "nosuid" | "nodev", _) => {}
                        ("ro", _) => read_only = true,
                        ("size", text) => match value::bytes(text) {
                            Some(bytes) => tmpfs.bytes = bytes,
                            None => self.wrong_at(
                                item,
                                format!("\"{}\" is no size", shown(text)),
                                "",
                                "write for example size=64m",
                            ),
                        },
                        (key @ ("mode" | "uid" | "gid"), text) => {
                            let (slot, said) = match key {
                                "mode" => (&mut tmpfs.mode, value::mode(text)),
                                "uid" => (&mut tmpfs.uid, number(text)),
                                _ => (&mut tmpfs.gid, number(text)),
                            };
                            match said {
                                Some(said) => *slot = said,
                                None => self.wrong_at(
                                    item,
                                    format!("the option {} cannot be read", shown(option)),
                                    "",
                                    "write for example mode=1770,uid=1000",
                                ),
                            }
                        }
                        _ => self.wrong_at(
                            item,
                            format!("the option \"{}\" is not supported", shown(option)),
                            "supported are size, mode, uid, gid, ro and rw",
                            "remove it",
                        ),
                    }
                }
                Some(MountSpec {
                    source: MountSource::Tmpfs(tmpfs),
                    target: self.target(item, target)?,
                    read_only,
                })
            })
            .collect()
    }
}
