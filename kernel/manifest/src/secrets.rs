//! Secrets: what the file says of them. Their values are read, sealed and forgotten by who
//! deploys; here only those of variables pass by, veiled.

use std::collections::BTreeMap;

use types::{Digest, ImageRef};

use crate::field::Field;
use crate::files::{ConfigMount, folder_path};
use crate::problem::shown;
use crate::project::{Sealed, SecretDraft, SecretSource, Veiled};
use crate::reader::Reader;
use crate::{Inputs, Kind};

/// Readable by the service's own user and nobody else.
const MODE: u32 = 0o400;
const SECRETS_MAX: usize = 32;

impl Reader {
    /// `secrets` of a service: a name, or a mapping that says where and whose.
    pub fn secret_mounts(&mut self, field: &Field<'_>) -> Vec<ConfigMount> {
        let mounts = self.placed(field, "/run/secrets");
        if mounts.len() > SECRETS_MAX {
            let what = format!("{} secrets", mounts.len());
            let why = format!("a service has at most {SECRETS_MAX}");
            self.wrong_at(field, what, &why, "put several values into one file");
        }
        mounts
    }

    /// `secrets` at the top of the file.
    pub fn secrets(
        &mut self,
        field: &Field<'_>,
        inputs: &Inputs<'_>,
    ) -> BTreeMap<String, SecretSource> {
        let mut secrets = BTreeMap::new();
        for (name, inner) in self.map_or_null(field) {
            self.is_name(&inner, name);
            if let Some(source) = self.secret(name, &inner, inputs) {
                secrets.insert(name.to_string(), source);
            }
        }
        secrets
    }

    fn secret(
        &mut self,
        name: &str,
        field: &Field<'_>,
        inputs: &Inputs<'_>,
    ) -> Option<SecretSource> {
        let (mut found, mut outside, mut called) = (Vec::new(), false, None);
        let before = self.problems.len();
        for (key, inner) in self.map_or_null(field) {
            match key {
                "file" => {
                    let path = folder_path(&self.path_of(&inner)?, inputs);
                    match inputs.folder.kind(&path) {
                        Kind::File => found.push(SecretSource::Path(path)),
                        _ => self.wrong_at(
                            &inner,
                            format!("there is no file {}", shown(&path)),
                            "it has the value of the secret",
                            "make it, or correct the path",
                        ),
                    }
                }
                "environment" => {
                    let variable = self.text(&inner)?;
                    match self.environment(inner.node.at).get(&variable) {
                        Some(value) => found.push(SecretSource::Value(Veiled(value.clone()))),
                        None => self.wrong_at(
                            &inner,
                            format!("the variable {} is not set", shown(&variable)),
                            "it has the value of the secret",
                            "set it in the environment or in .env",
                        ),
                    }
                }
                "external" if inner.is_map() => {
                    outside = true;
                    for (key, inner) in self.map(&inner) {
                        match key {
                            "name" => called = self.text(&inner),
                            _ => self.unknown(&inner, key, "name"),
                        }
                    }
                }
                "external" => outside = self.boolean(&inner).unwrap_or_default(),
                "name" => called = self.text(&inner),
                "labels" => self.no_effect(&inner),
                "x-runrig" => found.extend(self.sealed(&inner)),
                _ if key.starts_with("x-") => {}
                _ => self.unknown(&inner, key, "file, environment, external, name"),
            }
        }
        let sealed = matches!(found[..], [SecretSource::Sealed(_)]);
        if outside && !sealed {
            let called = called.unwrap_or_else(|| name.to_string());
            if self.is_name(field, &called) {
                found.push(SecretSource::External(called));
            }
        }
        if found.len() > 1 {
            let what = "file, environment and external exclude one another";
            self.wrong_at(field, what, "", "keep one");
        }
        if found.is_empty() && self.problems.len() == before && !self.is_full() {
            let what = "nothing is said of what is in it";
            let next = "name a file: or a variable of the environment:";
            self.wrong_at(field, what, "", next);
        }
        found.pop()
    }

    /// As [`crate::to_compose`] writes it: a secret that was sealed before.
    fn sealed(&mut self, field: &Field<'_>) -> Option<SecretSource> {
        let (mut image, mut mark) = (None, None);
        let digest = |text: &str| text.parse::<Digest>().ok();
        for (key, inner) in self.map(field) {
            match key {
                "image" => {
                    let pinned = |text: &str| {
                        let (reference, pin) = text.rsplit_once('@')?;
                        Some(ImageRef {
                            reference: reference.to_string(),
                            digest: digest(pin)?,
                        })
                    };
                    image = self.parsed(&inner, pinned, "reference@sha256:…");
                }
                "mark" => mark = self.parsed(&inner, digest, "sha256:…"),
                _ => self.unknown(&inner, key, "image, mark"),
            }
        }
        Some(SecretSource::Sealed(Sealed {
            image: image?,
            mark: mark?,
        }))
    }
}

/// The secrets that a service mounts, with what the file says of each; the names of those that
/// it does not declare.
pub(crate) fn drafts(
    mounts: Vec<ConfigMount>,
    declared: &BTreeMap<String, SecretSource>,
) -> (Vec<SecretDraft>, Vec<String>) {
    let (mut drafts, mut missing) = (Vec::new(), Vec::new());
    for mount in mounts {
        match declared.get(&mount.config) {
            Some(source) => drafts.push(SecretDraft {
                name: mount.config,
                source: source.clone(),
                target: mount.target,
                uid: mount.uid,
                gid: mount.gid,
                mode: mount.mode.unwrap_or(MODE),
            }),
            None => missing.push(mount.config),
        }
    }
    (drafts, missing)
}
