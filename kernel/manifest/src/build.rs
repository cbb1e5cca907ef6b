//! `build`: what an image is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use types::{BuildSpec, Digest, PlacementConstraint, ProcessSpec, Resources};

use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;
use crate::value;

const ITEMS_MAX: usize = 64;
const KNOWN: &str = "context, dockerfile, dockerfile_inline, args, target, labels, no_cache, no_cache_filter, tags, \
                     secrets, additional_contexts, platforms, extra_hosts, network, shm_size, \
                     ulimits, x-runrig";

/// An image to be made, before anything is packed. Paths are seen from the project's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildDraft {
    /// Folder.
    pub context: String,
    pub recipe: Recipe,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub no_cache: bool,
    /// Stages whose steps are done anew.
    pub anew: BTreeSet<String>,
    /// Further names of the image.
    pub tags: BTreeSet<String>,
    /// As `RUN --mount=type=secret` knows it → as the project calls it.
    pub secrets: BTreeMap<String, String>,
    pub contexts: BTreeMap<String, BuildContext>,
    pub extra_hosts: BTreeMap<String, Vec<IpAddr>>,
    pub platform: Option<PlacementConstraint>,
    /// Its steps reach nothing outside.
    pub offline: bool,
    /// Limits of its steps, and their /dev/shm.
    pub process: ProcessSpec,
    /// Reserved for the build, paid for, and its limit.
    pub resources: Resources,
    pub seconds_max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// In the context unless it is absolute; `Dockerfile`, else `Containerfile`, if not said.
    File(Option<String>),
    Inline(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildContext {
    Folder(String),
    Image(String),
    /// The image that another service builds.
    Service(String),
}

/// One core, 1 GiB of memory, 6 GiB of disk, 50 Mbit/s, half an hour.
impl Default for BuildDraft {
    fn default() -> Self {
        Self {
            context: String::new(),
            recipe: Recipe::File(None),
            args: BTreeMap::new(),
            target: None,
            labels: BTreeMap::new(),
            no_cache: false,
            anew: BTreeSet::new(),
            tags: BTreeSet::new(),
            secrets: BTreeMap::new(),
            contexts: BTreeMap::new(),
            extra_hosts: BTreeMap::new(),
            platform: None,
            offline: false,
            process: ProcessSpec::default(),
            resources: Resources {
                cpu_millis: 1_000,
                memory_bytes: 1 << 30,
                disk_bytes: 6 << 30,
                bandwidth_kbps: 50_000,
            },
            seconds_max: BuildSpec::default().seconds_max,
        }
    }
}

impl BuildDraft {
    /// Services whose images it needs first.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.contexts.values().filter_map(|c| match c {
            BuildContext::Service(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Of all that it says itself: with the content of its files, what the image depends on.
    /// Of secrets their names, not their values: they open doors, and what lies behind them is
    /// meant to be the same. So a token that is renewed builds nothing anew.
    pub fn digest(&self) -> Digest {
        let said = (&self.args, &self.target, &self.labels, &self.secrets);
        let hosts: Vec<String> = (self.extra_hosts.iter())
            .map(|(name, all)| format!("{name} {all:?}"))
            .collect();
        let platform = self.platform.as_ref().map(|p| &p.value);
        let steps = (self.offline, &self.process);
        Digest::of_value("runrig-build", &(said, hosts, platform, steps))
    }
}

impl Reader {
    /// A folder, or a mapping that says how.
    pub fn build(&mut self, field: &Field<'_>) -> BuildDraft {
        let mut draft = BuildDraft::default();
        let here = self.path(field.node.at, ".");
        draft.context = here.clone();
        if !field.is_map() {
            draft.context = self.build_folder(field).unwrap_or(here);
            return draft;
        }
        for (key, inner) in self.map(field) {
            match key {
                "context" => {
                    if let Some(folder) = self.build_folder(&inner) {
                        draft.context = folder;
                    }
                }
                "dockerfile" => {
                    if let Some(path) = self.text(&inner) {
                        draft.recipe = Recipe::File(Some(path));
                    }
                }
                "dockerfile_inline" => {
                    if let Some(text) = self.text(&inner) {
                        draft.recipe = Recipe::Inline(text);
                    }
                }
                "target" => draft.target = self.text(&inner).filter(|t| !t.is_empty()),
                "args" => draft.args = self.own_environment(&inner),
                "labels" => draft.labels = self.labels(&inner),
                "no_cache" => draft.no_cache = self.boolean(&inner).unwrap_or_default(),
                "no_cache_filter" => {
                    draft.anew = self.texts(&inner).into_iter().take(ITEMS_MAX).collect();
                }
                "tags" => draft.tags = self.texts(&inner).into_iter().take(ITEMS_MAX).collect(),
                "secrets" => draft.secrets = self.build_secrets(&inner),
                "additional_contexts" => draft.contexts = self.build_contexts(&inner),
                "extra_hosts" => draft.extra_hosts = self.extra_hosts(&inner),
                "platforms" => draft.platform = self.build_platform(&inner),
                // Bases are looked up anew each time.
                "pull" => {
                    self.boolean(&inner);
                }
                "x-runrig" => self.build_sizing(&inner, &mut draft),
                "shm_size" | "ulimits" => {
                    self.process(key, &inner, &mut draft.process);
                }
                "network" => draft.offline = self.build_network(&inner),
                "cache_from" | "cache_to" | "isolation" | "provenance" | "sbom" => {
                    self.no_effect(&inner);
                }
                "ssh" | "entitlements" => {
                    let why = "a build has what its context and its secrets give it, and no more";
                    let next = "fetch what it needs into the context first";
                    self.wrong_at(&inner, format!("{key} is not supported"), why, next);
                }
                "privileged" => {
                    if self.boolean(&inner) == Some(true) {
                        let why = "every build runs under one restricted profile";
                        self.wrong_at(&inner, "privileged is not supported", why, "leave it out");
                    }
                }
                _ if key.starts_with("x-") => {}
                _ => self.unknown(&inner, key, KNOWN),
            }
        }
        draft
    }

    /// Whether its steps reach nothing outside.
    fn build_network(&mut self, field: &Field<'_>) -> bool {
        match self.text(field).as_deref() {
            Some("none") => true,
            Some("default" | "bridge") | None => false,
            Some(_) => {
                let why = "steps reach what the host's containers reach";
                self.warn_at(field, "this network has no effect", why, "remove it");
                false
            }
        }
    }

    fn build_folder(&mut self, field: &Field<'_>) -> Option<String> {
        let text = self.text(field)?;
        let remote = text.contains("://") || text.starts_with("git@");
        if remote {
            let why = "the context is packed on this machine";
            let next = "clone it, and name its folder";
            self.wrong_at(field, format!("{} is no folder", shown(&text)), why, next);
            return None;
        }
        Some(self.path(field.node.at, &text))
    }

    fn build_secrets(&mut self, field: &Field<'_>) -> BTreeMap<String, String> {
        let mut secrets = BTreeMap::new();
        for item in self.list(field).iter().take(ITEMS_MAX) {
            let (mut source, mut target) = (None, None);
            if item.is_map() {
                for (key, inner) in self.map(item) {
                    match key {
                        "source" => source = self.text(&inner),
                        "target" => target = self.text(&inner),
                        // The build is root.
                        "uid" | "gid" | "mode" => {}
                        _ => self.unknown(&inner, key, "source, target, uid, gid, mode"),
                    }
                }
            } else {
                source = self.text(item);
            }
            let Some(source) = source else { continue };
            let id = target.unwrap_or_else(|| source.clone());
            if self.is_name(item, &id) && self.is_name(item, &source) {
                secrets.insert(id, source);
            }
        }
        secrets
    }

    fn build_contexts(&mut self, field: &Field<'_>) -> BTreeMap<String, BuildContext> {
        let mut contexts = BTreeMap::new();
        for (name, (value, at)) in self.pairs(field).into_iter().take(ITEMS_MAX) {
            if !self.is_name(field, &name) {
                continue;
            }
            let value = value.unwrap_or_default();
            let image = ["docker-image://", "container-image://"]
                .iter()
                .find_map(|kind| value.strip_prefix(kind));
            let context = match (image, value.strip_prefix("service:")) {
                (Some(image), _) => BuildContext::Image(image.into()),
                (None, Some(service)) => BuildContext::Service(service.into()),
                (None, None) if value.contains("://") => {
                    let key = format!("{}.{}", field.path, shown(&name));
                    let what = format!("{} is no folder", shown(&value));
                    let why = "contexts are folders, docker-image://NAME or service:NAME";
                    self.wrong(at, &key, what, why, "clone it, and name its folder");
                    continue;
                }
                (None, None) => BuildContext::Folder(self.path(at, &value)),
            };
            contexts.insert(name, context);
        }
        contexts
    }

    fn build_platform(&mut self, field: &Field<'_>) -> Option<PlacementConstraint> {
        let mut found: Vec<PlacementConstraint> = Vec::new();
        for item in self.list(field).iter().take(ITEMS_MAX) {
            found.extend(self.platform(item));
        }
        found.dedup();
        if found.len() > 1 {
            let why = "an image is built on one host, for hosts of that kind";
            let what = "more than one platform";
            self.wrong_at(field, what, why, "keep one");
        }
        found.pop()
    }

    fn build_sizing(&mut self, field: &Field<'_>, draft: &mut BuildDraft) {
        for (key, inner) in self.map(field) {
            let resources = &mut draft.resources;
            match key {
                "cpus" => {
                    if let Some(millis) = self.cores(&inner) {
                        resources.cpu_millis = millis;
                    }
                }
                "memory" => {
                    if let Some(bytes) = self.memory(&inner) {
                        resources.memory_bytes = bytes;
                    }
                }
                "disk" => {
                    if let Some(bytes) = self.parsed(&inner, value::bytes, "10g") {
                        resources.disk_bytes = bytes;
                    }
                }
                "timeout" => {
                    let seconds = self.parsed(&inner, value::duration_ms, "30m");
                    let seconds = seconds.map(|ms| ms / 1_000);
                    let hours = "a build takes 1 s to 4 h";
                    let most = BuildSpec::SECONDS_MAX;
                    if let Some(seconds) = self.within(&inner, seconds, 1, most, hours) {
                        draft.seconds_max = seconds;
                    }
                }
                _ => self.unknown(&inner, key, "cpus, memory, disk, timeout"),
            }
        }
    }
}
