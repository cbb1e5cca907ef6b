//! The keys of one service.

use std::collections::BTreeMap;

use types::{DependencyCondition, HealthCheck};

use crate::dotenv::parse_env_file_with;
use crate::field::Field;
use crate::problem::shown;
use crate::project::ServiceDraft;
use crate::reader::{Reader, Value};
use crate::sizing::Sizing;
use crate::{Inputs, refused, value};

const GRACE_MS_MAX: u32 = 600_000;
const ENV_FILES_MAX: usize = 32;

impl Reader<'_> {
    pub fn service(&mut self, field: &Field<'_>, inputs: &Inputs<'_>) -> ServiceDraft {
        let mut draft = ServiceDraft::default();
        let mut sizing = Sizing::default();
        let (mut own_environment, mut tmpfs) = (BTreeMap::new(), Vec::new());
        for (key, inner) in self.map(field) {
            if self.sizing(key, &inner, &mut sizing) {
                continue;
            }
            match key {
                "image" => draft.image = self.image(&inner).unwrap_or_default(),
                "entrypoint" => draft.entrypoint = self.command_line(&inner),
                "command" => draft.command = self.command_line(&inner),
                "environment" => own_environment = self.environment(&inner),
                "env_file" => draft.environment = self.env_file(&inner, inputs),
                "ports" => draft.ports = self.ports(&inner),
                "expose" => draft.expose = self.expose(&inner),
                "volumes" => draft.mounts = self.mounts(&inner),
                "tmpfs" => tmpfs = self.tmpfs(&inner),
                "networks" => draft.networks = self.service_networks(&inner),
                "depends_on" => draft.depends_on = self.depends_on(&inner),
                "healthcheck" => draft.healthcheck = self.healthcheck(&inner),
                "user" => draft.user = self.user(&inner),
                "working_dir" => draft.working_dir = self.working_dir(&inner),
                "hostname" => draft.hostname = self.hostname(&inner),
                "labels" => draft.labels = self.labels(&inner),
                "stop_signal" => {
                    draft.stop_signal = self.parsed(&inner, signal, "SIGTERM");
                }
                "stop_grace_period" => {
                    if let Some(ms) = self.parsed(&inner, value::duration_ms, "10s") {
                        draft.stop_grace_ms = ms;
                    }
                    if draft.stop_grace_ms > GRACE_MS_MAX {
                        self.wrong_at(
                            &inner,
                            "the time is too long",
                            "a stop takes at most 10 minutes",
                            "shorten it",
                        );
                    }
                }
                "read_only" => draft.read_only = self.boolean(&inner).unwrap_or_default(),
                "tty" => draft.tty = self.boolean(&inner).unwrap_or_default(),
                "stdin_open" | "init" => {
                    if self.boolean(&inner) == Some(true) {
                        self.warn_at(
                            &inner,
                            format!("{key} has no effect"),
                            match key {
                                "init" => "the image's own process is the first one",
                                _ => "a service has no input; `runrig exec -i` has",
                            },
                            "remove it",
                        );
                    }
                }
                "container_name" => self.warn_at(
                    &inner,
                    "container_name has no effect",
                    "a service may have many replicas, on many machines",
                    "reach it by its service name",
                ),
                "pull_policy" => self.warn_at(
                    &inner,
                    "pull_policy has no effect",
                    "images are pinned by digest and fetched once by each host",
                    "remove it",
                ),
                _ if key.starts_with("x-") => {}
                _ => match refused::service_key(key) {
                    Some((why, next)) => {
                        self.wrong_at(&inner, format!("{key} is not supported"), why, next);
                    }
                    None => self.wrong_at(
                        &inner,
                        format!("{} is not a key of a service", shown(key)),
                        "",
                        "correct its spelling, or begin its name with x-",
                    ),
                },
            }
        }
        draft.environment.extend(own_environment);
        draft.mounts.extend(tmpfs);
        if draft.image.is_empty() && self.lacks(field, "image") {
            self.wrong_at(
                field,
                "image is missing",
                "a service is made of an image",
                "add image: NAME",
            );
        }
        self.sizing_done(field, &sizing);
        draft.resources = sizing.resources();
        draft.pids = sizing.pids().unwrap_or(draft.pids);
        draft.replicas = sizing.replicas().unwrap_or(1);
        draft.restart = sizing.restart().unwrap_or_default();
        self.doubled_mounts(field, &draft);
        draft
    }

    fn lacks(&self, field: &Field<'_>, key: &str) -> bool {
        match &field.node.value {
            Value::Map(entries) => entries.iter().all(|e| e.key != key && e.key != "build"),
            _ => false,
        }
    }

    fn doubled_mounts(&mut self, field: &Field<'_>, draft: &ServiceDraft) {
        let mut seen = std::collections::BTreeSet::new();
        for mount in &draft.mounts {
            let parts: Vec<&str> = mount
                .target
                .split('/')
                .filter(|p| !matches!(*p, "" | "."))
                .collect();
            if !seen.insert(parts) {
                self.wrong_at(
                    field,
                    format!("two volumes are mounted at {}", shown(&mount.target)),
                    "",
                    "remove one",
                );
            }
        }
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
    fn command_line(&mut self, field: &Field<'_>) -> Option<Vec<String>> {
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

    fn environment(&mut self, field: &Field<'_>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for (name, (value, at)) in self.pairs(field) {
            let Some(value) = value.or_else(|| self.environment.get(&name).cloned()) else {
                continue;
            };
            if is_secret(&name, &value) {
                let path = format!("{}.{}", field.path, shown(&name));
                self.warn(
                    at,
                    &path,
                    "this looks like a secret",
                    "the deployment, with this value, is public on the ledger",
                    "use a throw-away value here, and let the program fetch the real one",
                );
            }
            environment.insert(name, value);
        }
        environment
    }

    fn env_file(&mut self, field: &Field<'_>, inputs: &Inputs<'_>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let items = match field.is_list() {
            true => self.list(field),
            false => vec![field.clone()],
        };
        if items.len() > ENV_FILES_MAX {
            self.wrong_at(
                field,
                format!("more than {ENV_FILES_MAX} files"),
                "",
                "join them",
            );
        }
        for item in items.iter().take(ENV_FILES_MAX) {
            let (mut path, mut required) = (None, true);
            if item.is_map() {
                for (key, inner) in self.map(item) {
                    match key {
                        "path" => path = self.text(&inner),
                        "required" => required = self.boolean(&inner).unwrap_or(true),
                        "format" => self.wrong_at(
                            &inner,
                            "format is not supported yet",
                            "files are read by the rules of .env",
                            "remove it, and put values that contain $ in single quotes",
                        ),
                        _ => self.unknown(&inner, key, "path, required"),
                    }
                }
            } else {
                path = self.text(item);
            }
            let Some(path) = path else { continue };
            match (inputs.env_files)(&path) {
                Err(why) => self.wrong_at(
                    item,
                    format!("{} cannot be read", shown(&path)),
                    &why,
                    "correct the path or the file's rights",
                ),
                Ok(None) if required => self.wrong_at(
                    item,
                    format!("the file {} does not exist", shown(&path)),
                    "it is looked for in the project's folder",
                    "make it, or write required: false beside its path",
                ),
                Ok(None) => {}
                Ok(Some(text)) => {
                    let outside = |name: &str| {
                        environment
                            .get(name)
                            .or_else(|| inputs.environment.get(name))
                            .cloned()
                    };
                    match parse_env_file_with(&path, &text, &outside) {
                        Ok(values) => {
                            for (name, value) in &values {
                                if is_secret(name, value) {
                                    self.warn_at(
                                        item,
                                        format!("{} in {} looks like a secret", shown(name), shown(&path)),
                                        "the deployment, with this value, is public on the ledger",
                                        "use a throw-away value here, and let the program fetch the real one",
                                    );
                                }
                            }
                            environment.extend(values);
                        }
                        Err(problem) if !self.is_full() => self.problems.push(*problem),
                        Err(_) => {}
                    }
                }
            }
        }
        environment
    }

    fn service_networks(&mut self, field: &Field<'_>) -> BTreeMap<String, Vec<String>> {
        let mut networks = BTreeMap::new();
        if field.is_list() {
            for name in self.texts(field) {
                networks.insert(name, Vec::new());
            }
            return networks;
        }
        for (name, inner) in self.map_or_null(field) {
            let mut aliases = Vec::new();
            for (key, inner) in self.map_or_null(&inner) {
                match key {
                    "aliases" => aliases = self.texts(&inner),
                    "priority" | "gw_priority" => self.no_effect(&inner),
                    "ipv4_address" | "ipv6_address" | "link_local_ips" | "mac_address"
                    | "driver_opts" | "interface_name" => self.wrong_at(
                        &inner,
                        format!("{key} is not supported"),
                        "addresses are given by the host that a replica runs on",
                        "remove it and use the service's name",
                    ),
                    _ if key.starts_with("x-") => {}
                    _ => self.unknown(&inner, key, "aliases"),
                }
            }
            for alias in &aliases {
                self.is_name(&inner, alias);
            }
            networks.insert(name.to_string(), aliases);
        }
        networks
    }

    fn depends_on(&mut self, field: &Field<'_>) -> BTreeMap<String, DependencyCondition> {
        if field.is_list() {
            return self
                .texts(field)
                .into_iter()
                .map(|name| (name, DependencyCondition::ServiceStarted))
                .collect();
        }
        let mut dependencies = BTreeMap::new();
        for (name, inner) in self.map_or_null(field) {
            let mut condition = DependencyCondition::ServiceStarted;
            for (key, inner) in self.map_or_null(&inner) {
                match key {
                    "condition" => {
                        let parse = |text: &str| match text {
                            "service_started" => Some(DependencyCondition::ServiceStarted),
                            "service_healthy" => Some(DependencyCondition::ServiceHealthy),
                            "service_completed_successfully" => {
                                Some(DependencyCondition::ServiceCompletedSuccessfully)
                            }
                            _ => None,
                        };
                        let example =
                            "service_started, service_healthy or service_completed_successfully";
                        condition = self.parsed(&inner, parse, example).unwrap_or(condition);
                    }
                    "restart" => {
                        if self.boolean(&inner) == Some(true) {
                            self.no_effect(&inner);
                        }
                    }
                    "required" => {
                        if self.boolean(&inner) == Some(false) {
                            self.no_effect(&inner);
                        }
                    }
                    _ => self.unknown(&inner, key, "condition"),
                }
            }
            dependencies.insert(name.to_string(), condition);
        }
        dependencies
    }

    fn healthcheck(&mut self, field: &Field<'_>) -> Option<HealthCheck> {
        let (mut test, mut disabled) = (None, false);
        let mut check = HealthCheck {
            test: Vec::new(),
            interval_ms: 30_000,
            timeout_ms: 30_000,
            retries: 3,
            start_period_ms: 0,
            start_interval_ms: 5_000,
        };
        for (key, inner) in self.map_or_null(field) {
            let duration = match key {
                "test" => {
                    test = Some(self.health_test(&inner));
                    continue;
                }
                "disable" => {
                    disabled = self.boolean(&inner).unwrap_or_default();
                    continue;
                }
                "retries" => {
                    match self.whole_number(&inner, "3") {
                        Some(0) => self.wrong_at(
                            &inner,
                            "retries is 0",
                            "a check needs at least one try",
                            "write 1 or more",
                        ),
                        Some(retries) => check.retries = retries,
                        None => {}
                    }
                    continue;
                }
                "interval" => &mut check.interval_ms,
                "timeout" => &mut check.timeout_ms,
                "start_period" => &mut check.start_period_ms,
                "start_interval" => &mut check.start_interval_ms,
                _ => {
                    if !key.starts_with("x-") {
                        self.unknown(
                            &inner,
                            key,
                            "test, disable, interval, timeout, retries, start_period, start_interval",
                        );
                    }
                    continue;
                }
            };
            if let Some(ms) = self.parsed(&inner, value::duration_ms, "1m30s") {
                if ms < 100 && key != "start_period" {
                    self.wrong_at(
                        &inner,
                        "the time is too short",
                        "a check takes at least 100 ms",
                        "write 100ms or more",
                    );
                } else {
                    *duration = ms;
                }
            }
        }
        match test {
            _ if disabled => None,
            None => {
                self.wrong_at(
                    field,
                    "test is missing",
                    "an image's own check is not used",
                    "add test: [\"CMD\", …]",
                );
                None
            }
            Some(test) => {
                check.test = test?;
                Some(check)
            }
        }
    }

    fn health_test(&mut self, field: &Field<'_>) -> Option<Vec<String>> {
        let shell = |text: String| vec!["/bin/sh".to_string(), "-c".to_string(), text];
        if !field.is_list() {
            return self.text(field).map(shell);
        }
        let mut words = self.texts(field).into_iter();
        let kind = words.next();
        let rest: Vec<String> = words.collect();
        match (kind.as_deref(), rest.len()) {
            (Some("NONE"), 0) => None,
            (Some("CMD"), 1..) => Some(rest),
            (Some("CMD-SHELL"), 1) => rest.into_iter().next().map(shell),
            _ => {
                self.wrong_at(
                    field,
                    "the test cannot be read",
                    "a list begins with CMD, CMD-SHELL or NONE",
                    "write for example [\"CMD\", \"curl\", \"-f\", \"http://localhost\"]",
                );
                None
            }
        }
    }

    pub fn labels(&mut self, field: &Field<'_>) -> BTreeMap<String, String> {
        self.pairs(field)
            .into_iter()
            .map(|(name, (value, _))| (name, value.unwrap_or_default()))
            .collect()
    }

    fn user(&mut self, field: &Field<'_>) -> Option<String> {
        let good = |t: &str| {
            let plain = |c: char| !c.is_whitespace() && !c.is_control();
            (!t.is_empty() && t.len() <= 128 && t.chars().all(plain)).then(|| t.to_string())
        };
        self.parsed(field, good, "1000:1000 or www-data")
    }

    fn working_dir(&mut self, field: &Field<'_>) -> Option<String> {
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
