//! The keys of one service.

use std::collections::{BTreeMap, BTreeSet};

use types::{HostFeature, PlacementConstraint};

use crate::field::Field;
use crate::files::ConfigMount;
use crate::mount::Mounts;
use crate::peers::{Dependency, Link};
use crate::problem::shown;
use crate::project::{PullPolicy, ServiceDraft};
use crate::reader::Reader;
use crate::sizing::Sizing;
use crate::{Inputs, check, near, refused, value};

const GRACE_MS_MAX: u32 = 600_000;
const PROFILES_MAX: usize = 64;

/// A service as its file has it; what it says of others is not looked at yet.
#[derive(Default)]
pub(crate) struct Read {
    pub draft: ServiceDraft,
    pub profiles: BTreeSet<String>,
    pub depends_on: BTreeMap<String, Dependency>,
    pub links: Vec<Link>,
    pub configs: Vec<ConfigMount>,
    pub secrets: Vec<ConfigMount>,
    /// A further name on its networks.
    pub container_name: Option<String>,
    /// Bytes of its logs that it wants kept.
    pub log_bytes: Option<u64>,
    /// Volumes for folders of the project that are still empty.
    pub folders: BTreeSet<String>,
}

impl Reader {
    pub fn service(&mut self, field: &Field<'_>, inputs: &Inputs<'_>) -> Read {
        let folder = inputs.folder;
        let mut read = Read::default();
        let spec = &mut read.draft.spec;
        let mut sizing = Sizing::default();
        let (mut environment, mut labels) = (BTreeMap::new(), BTreeMap::new());
        let mut annotations = BTreeMap::new();
        let (mut mounts, mut tmpfs, mut platform) = (Mounts::default(), Vec::new(), None);
        for (key, inner) in self.map(field) {
            if self.sizing(key, &inner, &mut sizing)
                || self.process(key, &inner, &mut spec.process)
                || self.fixed(key, &inner)
            {
                continue;
            }
            match key {
                "image" => spec.image.reference = self.image(&inner).unwrap_or_default(),
                "build" => read.draft.build = Some(self.build(&inner)),
                "entrypoint" => spec.entrypoint = self.command_line(&inner),
                "command" => spec.command = self.command_line(&inner),
                "environment" => environment = self.own_environment(&inner),
                "env_file" => spec.environment = self.env_file(&inner, folder),
                "ports" => {
                    let ports = self.ports(&inner);
                    (spec.ports, read.draft.port_choices) = (ports.all, ports.choices);
                }
                "expose" => spec.expose = self.expose(&inner),
                "volumes" => mounts = self.mounts(&inner, inputs),
                "configs" => read.configs = self.config_mounts(&inner),
                "secrets" => read.secrets = self.secret_mounts(&inner),
                "post_start" => spec.hooks.post_start = self.hooks(&inner),
                "pre_stop" => spec.hooks.pre_stop = self.hooks(&inner),
                "tmpfs" => tmpfs = self.tmpfs(&inner),
                "network_mode" => spec.offline = self.network_mode(&inner),
                "networks" => spec.networks = self.service_networks(&inner),
                "depends_on" => read.depends_on = self.depends_on(&inner),
                "links" => read.links = self.links(&inner),
                "profiles" => read.profiles = self.profiles(&inner),
                "healthcheck" => spec.healthcheck = self.healthcheck(&inner),
                "user" => spec.user = self.user(&inner),
                "working_dir" => spec.working_dir = self.working_dir(&inner),
                "hostname" => spec.hostname = self.hostname(&inner),
                "domainname" => spec.names.domainname = self.hostname(&inner),
                "extra_hosts" => spec.names.extra_hosts = self.extra_hosts(&inner),
                "dns_search" => spec.names.dns_search = self.dns_search(&inner),
                "dns_opt" => spec.names.dns_options = self.dns_options(&inner),
                "labels" => labels = self.labels(&inner),
                "annotations" => annotations = self.labels(&inner),
                "container_name" => read.container_name = self.container_name(&inner),
                "logging" => read.log_bytes = self.logging(&inner),
                "pull_policy" => read.draft.pull = self.pull_policy(&inner),
                "label_file" => spec.labels = self.label_file(&inner, folder),
                "stop_signal" => spec.stop_signal = self.parsed(&inner, signal, "SIGTERM"),
                "stop_grace_period" => {
                    if let Some(ms) = self.parsed(&inner, value::duration_ms, "10s") {
                        spec.stop_grace_ms = ms;
                    }
                    if spec.stop_grace_ms > GRACE_MS_MAX {
                        let why = "a stop takes at most 10 minutes";
                        self.wrong_at(&inner, "the time is too long", why, "shorten it");
                    }
                }
                "read_only" => spec.read_only = self.boolean(&inner).unwrap_or_default(),
                "tty" => spec.tty = self.boolean(&inner).unwrap_or_default(),
                "platform" => platform = self.platform(&inner),
                _ if key.starts_with("x-") => {}
                _ => self.refused(&inner, key),
            }
        }
        spec.environment.extend(environment);
        spec.labels.extend(labels);
        for (name, value) in annotations {
            spec.labels.entry(name).or_insert(value);
        }
        spec.mounts = mounts.mounts;
        spec.bare = mounts.bare;
        spec.mounts.extend(tmpfs);
        read.draft.files = mounts.files;
        read.folders = mounts.folders;
        if spec.image.reference.is_empty() && self.lacks(field, "image") {
            let why = "a service is made of an image";
            self.wrong_at(field, "image is missing", why, "add image: NAME");
        }
        if spec.offline {
            for key in ["networks", "ports", "expose", "links"] {
                let at = check::place(self, field, key);
                if at.path != field.path && !at.is_null() {
                    let what = format!("{key} and network_mode: none cannot be combined");
                    let why = "without a network it reaches nothing and nothing reaches it";
                    self.wrong_at(&at, what, why, "keep one of them");
                }
            }
        }
        self.sizing_done(field, &mut sizing);
        sizing.give(spec);
        spec.placement.constraints.extend(platform);
        read
    }

    fn container_name(&mut self, field: &Field<'_>) -> Option<String> {
        let name = self.text(field)?;
        self.is_name(field, &name).then_some(name)
    }

    /// When its image is looked for; at each `up` if not said.
    fn pull_policy(&mut self, field: &Field<'_>) -> PullPolicy {
        let parse = |text: &str| {
            Some(match text {
                "always" => PullPolicy::Usual,
                "build" => PullPolicy::Build,
                "missing" | "if_not_present" => PullPolicy::Missing,
                "never" => PullPolicy::Never,
                "daily" => PullPolicy::Every { ms: 86_400_000 },
                "weekly" => PullPolicy::Every { ms: 604_800_000 },
                _ => PullPolicy::Every {
                    ms: value::duration_ms(text.strip_prefix("every_")?)?.into(),
                },
            })
        };
        let example = "always, missing, never, build, daily, weekly or every_12h";
        self.parsed(field, parse, example).unwrap_or_default()
    }

    fn refused(&mut self, field: &Field<'_>, key: &str) {
        match refused::service_key(key) {
            Some((why, next)) => {
                self.wrong_at(field, format!("{key} is not supported"), why, next);
            }
            None => self.wrong_at(
                field,
                format!("{} is not a key of a service", shown(key)),
                "",
                &near::service_key(key),
            ),
        }
    }

    fn lacks(&self, field: &Field<'_>, key: &str) -> bool {
        let entries = field.node.entries();
        !entries.is_empty() && entries.iter().all(|e| e.key != key && e.key != "build")
            || field.is_map() && entries.is_empty()
    }

    /// `linux/amd64`.
    pub fn platform(&mut self, field: &Field<'_>) -> Option<PlacementConstraint> {
        let parse = |text: &str| {
            let mut parts = text.split('/');
            let architecture = match (parts.next(), parts.next()) {
                (Some("linux"), Some("amd64" | "x86_64")) => "amd64",
                (Some("linux"), Some("arm64" | "aarch64")) => "arm64",
                _ => return None,
            };
            Some(PlacementConstraint {
                of: HostFeature::Architecture,
                equal: true,
                value: architecture.to_string(),
            })
        };
        self.parsed(field, parse, "linux/amd64 or linux/arm64")
    }

    fn profiles(&mut self, field: &Field<'_>) -> BTreeSet<String> {
        let mut profiles = BTreeSet::new();
        for item in self.list(field).iter().take(PROFILES_MAX) {
            if let Some(name) = self.text(item)
                && self.is_name(item, &name)
            {
                profiles.insert(name);
            }
        }
        profiles
    }

    fn image(&mut self, field: &Field<'_>) -> Option<String> {
        let image = self.text(field)?;
        let good =
            !image.is_empty() && image.len() <= 512 && image.bytes().all(|b| b.is_ascii_graphic());
        if !good {
            self.wrong_at(
                field,
                format!("\"{}\" is no image", shown(&image)),
                "",
                "write for example nginx:1.27 or registry.example.org/team/app@sha256:…",
            );
        }
        good.then_some(image)
    }

    /// A list is taken as it is, a text is split into words; nothing at all leaves the image's.
    pub fn command_line(&mut self, field: &Field<'_>) -> Option<Vec<String>> {
        if field.is_null() {
            return None;
        }
        if field.is_list() {
            return Some(self.texts(field));
        }
        let text = self.text(field)?;
        let Some(split) = value::words(&text) else {
            self.wrong_at(
                field,
                "a quote or backslash is left open",
                "the text is split into words as a shell does",
                "close it, or write a list",
            );
            return None;
        };
        if let Some(operator) = split.shell_operator {
            self.warn_at(
                field,
                format!("\"{operator}\" is passed on as it stands"),
                "no shell reads this text",
                "write [\"sh\", \"-c\", \"…\"] if one should",
            );
        }
        Some(split.words)
    }

    pub fn user(&mut self, field: &Field<'_>) -> Option<String> {
        let good = |t: &str| {
            let plain = |c: char| !c.is_whitespace() && !c.is_control();
            (!t.is_empty() && t.len() <= 128 && t.chars().all(plain)).then(|| t.to_string())
        };
        self.parsed(field, good, "1000:1000 or www-data")
    }

    pub fn working_dir(&mut self, field: &Field<'_>) -> Option<String> {
        let good = |t: &str| t.starts_with('/').then(|| t.to_string());
        self.parsed(field, good, "/app (an absolute path)")
    }

    fn hostname(&mut self, field: &Field<'_>) -> Option<String> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let good = |t: &str| (t.len() <= 253 && t.split('.').all(is_label)).then(|| t.to_string());
        self.parsed(field, good, "web-1")
    }
}

/// `SIGTERM`, `term` or `15`, in one of the forms that the ledger takes.
fn signal(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number).then(|| number.to_string());
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-".contains(&b);
    ((2..=13).contains(&name.len()) && name.bytes().all(plain)).then(|| format!("SIG{name}"))
}
