//! A deployment as a compose file: for Compose, and for [`crate::read`], to the same effect.

use std::collections::BTreeMap;
use std::fmt::Write;

use types::{
    DependencyCondition, DeploymentSpec, ExportKind, HealthCheck, HooksSpec, HostFeature, ImageRef,
    LogExport, LogPolicy, MountSource, NamesSpec, PlacementSpec, ProcessSpec, Protocol,
    RestartPolicy, ScaleTarget, SecretMount, ServiceSpec, UpdateFailure, UpdateOrder, UpdatePolicy,
};

/// The compose file of a deployment. Reading it again, with its images pinned to the digests
/// that it names, gives the same deployment.
pub fn to_compose(spec: &DeploymentSpec) -> String {
    let mut out = Text::default();
    out.line(0, "name", &quoted(&spec.project));
    out.open(0, "services");
    for (name, service) in &spec.services {
        out.open(1, name);
        write_service(&mut out, service);
    }
    if !spec.networks.is_empty() {
        out.open(0, "networks");
        for (name, network) in &spec.networks {
            out.open(1, name);
            out.line(2, "internal", &network.internal.to_string());
        }
    }
    if !spec.volumes.is_empty() {
        out.open(0, "volumes");
        for (name, volume) in &spec.volumes {
            match volume.labels.is_empty() {
                true => out.line(1, name, "{}"),
                false => {
                    out.open(1, name);
                    out.pairs(2, "labels", &volume.labels);
                }
            }
        }
    }
    write_logs(&mut out, &spec.logs);
    write_secrets(&mut out, spec);
    out.0
}

fn write_logs(out: &mut Text, logs: &LogPolicy) {
    if *logs == LogPolicy::default() {
        return;
    }
    out.open(0, "x-runrig");
    out.open(1, "logs");
    if let Some(bytes) = logs.bytes_max {
        out.line(2, "size", &format!("{bytes}b"));
    }
    if let Some(ms) = logs.age_ms_max {
        out.line(2, "keep", &format!("{ms}ms"));
    }
    if !logs.readers.is_empty() {
        let keys = logs.readers.iter().map(|k| quoted(&k.to_string()));
        out.list(2, "readers", keys);
    }
    if logs.alone {
        out.line(2, "copy", "false");
    }
    if !logs.exports.is_empty() {
        let one = |export: &LogExport| {
            let kind = match export.kind {
                ExportKind::Loki => "loki",
                ExportKind::Otlp => "otlp",
                ExportKind::Metrics => "metrics",
            };
            format!("{{ {kind}: {} }}", quoted(&export.url))
        };
        out.list(2, "export", logs.exports.iter().map(one));
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn key(&mut self, depth: usize, key: &str) {
        for _ in 0..depth {
            self.0.push_str("  ");
        }
        self.0.push_str(&quoted_key(key));
        self.0.push(':');
    }

    /// The first line of an item of a list.
    fn item(&mut self, depth: usize, key: &str, value: &str) {
        for _ in 0..depth {
            self.0.push_str("  ");
        }
        self.0.push_str("- ");
        self.line(0, key, value);
    }

    fn open(&mut self, depth: usize, key: &str) {
        self.key(depth, key);
        self.0.push('\n');
    }

    fn line(&mut self, depth: usize, key: &str, value: &str) {
        self.key(depth, key);
        self.0.push(' ');
        self.0.push_str(value);
        self.0.push('\n');
    }

    fn text(&mut self, depth: usize, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.line(depth, key, &quoted(value));
        }
    }

    fn list(&mut self, depth: usize, key: &str, values: impl IntoIterator<Item = String>) {
        let values: Vec<String> = values.into_iter().collect();
        self.line(depth, key, &format!("[{}]", values.join(", ")));
    }

    fn pairs(&mut self, depth: usize, key: &str, pairs: &BTreeMap<String, String>) {
        if pairs.is_empty() {
            return;
        }
        self.open(depth, key);
        for (name, value) in pairs {
            self.line(depth + 1, name, &quoted(value));
        }
    }
}

/// Double-quoted YAML that no variable is filled into.
pub(crate) fn quoted(text: &str) -> String {
    escaped(text, true)
}

/// Keys are not filled in, so their dollars stay single.
pub(crate) fn quoted_key(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let is_plain = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(plain);
    match is_plain && !matches!(key, "null" | "Null" | "NULL") {
        true => key.to_string(),
        false => escaped(key, false),
    }
}

fn escaped(text: &str, double_dollars: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '$' if double_dollars => out.push_str("$$"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || (0x7f..=0xa0).contains(&(c as u32)) => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An image as [`to_compose`] names it: with the digest that it has.
pub fn pinned(image: &ImageRef) -> String {
    match image.reference.contains('@') {
        true => image.reference.clone(),
        false => format!("{}@{}", image.reference, image.digest),
    }
}

fn write_service(out: &mut Text, service: &ServiceSpec) {
    out.line(2, "image", &quoted(&pinned(&service.image)));
    for (key, words) in [
        ("entrypoint", &service.entrypoint),
        ("command", &service.command),
    ] {
        if let Some(words) = words {
            out.list(2, key, words.iter().map(|w| quoted(w)));
        }
    }
    out.pairs(2, "environment", &service.environment);
    out.text(2, "user", service.user.as_ref());
    out.text(2, "working_dir", service.working_dir.as_ref());
    out.text(2, "hostname", service.hostname.as_ref());
    out.pairs(2, "labels", &service.labels);
    if !service.ports.is_empty() {
        out.list(
            2,
            "ports",
            service.ports.iter().map(|port| {
                let protocol = match port.protocol {
                    Protocol::Tcp => "",
                    Protocol::Udp => "/udp",
                };
                match port.published {
                    Some(published) => format!("\"{published}:{}{protocol}\"", port.target),
                    None => format!("\"{}{protocol}\"", port.target),
                }
            }),
        );
    }
    if !service.expose.is_empty() {
        out.list(
            2,
            "expose",
            service.expose.iter().map(|p| format!("\"{p}\"")),
        );
    }
    write_mounts(out, service);
    if service.offline {
        out.line(2, "network_mode", "none");
    }
    if !service.networks.is_empty() {
        out.open(2, "networks");
        for (name, aliases) in &service.networks {
            out.open(3, name);
            out.list(4, "aliases", aliases.iter().map(|a| quoted(a)));
        }
    }
    if !service.depends_on.is_empty() {
        out.open(2, "depends_on");
        for (name, condition) in &service.depends_on {
            let condition = match condition {
                DependencyCondition::ServiceStarted => "service_started",
                DependencyCondition::ServiceHealthy => "service_healthy",
                DependencyCondition::ServiceCompletedSuccessfully => {
                    "service_completed_successfully"
                }
            };
            out.open(3, name);
            out.line(4, "condition", condition);
            if service.restart_with.contains(name) {
                out.line(4, "restart", "true");
            }
        }
    }
    if let Some(check) = &service.healthcheck {
        write_healthcheck(out, check);
    }
    write_hooks(out, &service.hooks);
    write_process(out, &service.process);
    write_names(out, &service.names);
    let restart = match service.restart {
        RestartPolicy::No => "\"no\"".to_string(),
        RestartPolicy::Always => "always".into(),
        RestartPolicy::UnlessStopped => "unless-stopped".into(),
        RestartPolicy::OnFailure(0) => "on-failure".into(),
        RestartPolicy::OnFailure(times) => format!("\"on-failure:{times}\""),
    };
    if !has_restart_policy(service) {
        out.line(2, "restart", &restart);
    }
    out.text(2, "stop_signal", service.stop_signal.as_ref());
    out.line(
        2,
        "stop_grace_period",
        &format!("{}ms", service.stop_grace_ms),
    );
    out.line(2, "read_only", &service.read_only.to_string());
    out.line(2, "tty", &service.tty.to_string());
    out.open(2, "deploy");
    out.line(3, "replicas", &service.replicas.to_string());
    out.open(3, "resources");
    out.open(4, "limits");
    let millis = service.resources.cpu_millis;
    out.line(
        5,
        "cpus",
        &format!("\"{}.{:03}\"", millis / 1000, millis % 1000),
    );
    out.line(5, "memory", &format!("{}b", service.resources.memory_bytes));
    out.line(5, "pids", &service.pids.to_string());
    write_deploy(out, service);
    out.open(2, "x-runrig");
    out.line(3, "disk", &format!("{}b", service.resources.disk_bytes));
    out.line(
        3,
        "bandwidth",
        &format!("{}kbit", service.resources.bandwidth_kbps),
    );
    if let Some(autoscale) = &service.autoscale {
        out.open(3, "autoscale");
        out.line(4, "min", &autoscale.min.to_string());
        out.line(4, "max", &autoscale.max.to_string());
        let (key, value) = match autoscale.target {
            ScaleTarget::Cpu(percent) => ("cpu", format!("{percent}%")),
            ScaleTarget::Requests(count) => ("requests", count.to_string()),
            ScaleTarget::RequestsPerSecond(count) => ("requests", format!("{count}/s")),
        };
        out.line(4, key, &value);
        out.line(4, "idle", &format!("{}ms", autoscale.idle_ms));
    }
}

fn write_process(out: &mut Text, process: &ProcessSpec) {
    for (key, names) in [
        ("cap_add", &process.cap_add),
        ("cap_drop", &process.cap_drop),
        ("group_add", &process.groups),
    ] {
        if !names.is_empty() {
            out.list(2, key, names.iter().map(|n| quoted(n)));
        }
    }
    out.pairs(2, "sysctls", &process.sysctls);
    if !process.ulimits.is_empty() {
        out.open(2, "ulimits");
        for (name, limit) in &process.ulimits {
            let number = |n: Option<u64>| n.map_or("-1".to_string(), |n| n.to_string());
            let (soft, hard) = (number(limit.soft), number(limit.hard));
            out.line(3, name, &format!("{{ soft: {soft}, hard: {hard} }}"));
        }
    }
    for (key, on) in [("init", process.init), ("stdin_open", process.stdin_open)] {
        if on {
            out.line(2, key, "true");
        }
    }
    if process.shm_bytes > 0 {
        out.line(2, "shm_size", &format!("{}b", process.shm_bytes));
    }
    if process.cpu_shares > 0 {
        out.line(2, "cpu_shares", &process.cpu_shares.to_string());
    }
    if process.oom_score_adj > 0 {
        out.line(2, "oom_score_adj", &process.oom_score_adj.to_string());
    }
}

fn write_names(out: &mut Text, names: &NamesSpec) {
    out.text(2, "domainname", names.domainname.as_ref());
    if !names.extra_hosts.is_empty() {
        out.open(2, "extra_hosts");
        for (name, addresses) in &names.extra_hosts {
            let addresses = addresses.iter().map(|a| quoted(&a.to_string()));
            out.list(3, name, addresses);
        }
    }
    for (key, words) in [
        ("dns_search", &names.dns_search),
        ("dns_opt", &names.dns_options),
    ] {
        if !words.is_empty() {
            out.list(2, key, words.iter().map(|w| quoted(w)));
        }
    }
}

/// More is said of restarts than `restart` has words for.
fn has_restart_policy(service: &ServiceSpec) -> bool {
    service.restart_delay_ms > 0 || service.restart_window_ms > 0
}

/// What stands under `deploy` beside the resources.
fn write_deploy(out: &mut Text, service: &ServiceSpec) {
    if has_restart_policy(service) {
        out.open(3, "restart_policy");
        let (condition, attempts) = match service.restart {
            RestartPolicy::No => ("none", 0),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => ("any", 0),
            RestartPolicy::OnFailure(attempts) => ("on-failure", attempts),
        };
        out.line(4, "condition", condition);
        if attempts > 0 {
            out.line(4, "max_attempts", &attempts.to_string());
        }
        out.line(4, "delay", &format!("{}ms", service.restart_delay_ms));
        out.line(4, "window", &format!("{}ms", service.restart_window_ms));
    }
    let own = (service.update != UpdatePolicy::default()).then_some(&service.update);
    let policies = [
        ("update_config", own),
        ("rollback_config", service.rollback.as_ref()),
    ];
    for (key, update) in policies {
        let Some(update) = update else { continue };
        out.open(3, key);
        out.line(4, "parallelism", &update.parallelism.to_string());
        out.line(4, "delay", &format!("{}ms", update.delay_ms));
        if let Some(ms) = update.monitor_ms {
            out.line(4, "monitor", &format!("{ms}ms"));
        }
        let action = match update.on_failure {
            UpdateFailure::Rollback => "rollback",
            UpdateFailure::Pause => "pause",
            UpdateFailure::Continue => "continue",
        };
        out.line(4, "failure_action", action);
        let order = match update.order {
            UpdateOrder::StartFirst => "start-first",
            UpdateOrder::StopFirst => "stop-first",
        };
        out.line(4, "order", order);
        if update.failures_permille > 0 {
            let (whole, rest) = (
                update.failures_permille / 1_000,
                update.failures_permille % 1_000,
            );
            out.line(4, "max_failure_ratio", &format!("{whole}.{rest:03}"));
        }
    }
    let placement = &service.placement;
    if *placement != PlacementSpec::default() {
        out.open(3, "placement");
        let constraints = placement.constraints.iter().map(|c| {
            let of = match c.of {
                HostFeature::Region => "node.labels.region",
                HostFeature::Architecture => "node.platform.arch",
                HostFeature::Host => "node.id",
                HostFeature::Builds => "node.labels.builds",
            };
            let sign = if c.equal { "==" } else { "!=" };
            quoted(&format!("{of} {sign} {}", c.value))
        });
        out.list(4, "constraints", constraints);
        let most = placement.replicas_per_host_max;
        out.line(4, "max_replicas_per_node", &most.to_string());
        if placement.spread_regions {
            out.open(4, "preferences");
            out.item(5, "spread", "node.labels.region");
        }
    }
}

/// What each secret of the deployment is, told without its value.
fn write_secrets(out: &mut Text, spec: &DeploymentSpec) {
    let all = spec.services.values().flat_map(ServiceSpec::secrets);
    let by_name: BTreeMap<&str, &SecretMount> = all.map(|s| (s.name.as_str(), s)).collect();
    if by_name.is_empty() {
        return;
    }
    out.open(0, "secrets");
    for (name, secret) in by_name {
        out.open(1, name);
        out.line(2, "external", "true");
        out.open(2, "x-runrig");
        out.line(3, "mark", &quoted(&secret.mark.to_string()));
        let image = format!("{}@{}", secret.image.reference, secret.image.digest);
        out.line(3, "image", &quoted(&image));
    }
}

fn write_hooks(out: &mut Text, hooks: &HooksSpec) {
    for (key, hooks) in [
        ("post_start", &hooks.post_start),
        ("pre_stop", &hooks.pre_stop),
    ] {
        if hooks.is_empty() {
            continue;
        }
        out.open(2, key);
        for hook in hooks {
            let words: Vec<String> = hook.command.iter().map(|w| quoted(w)).collect();
            out.item(3, "command", &format!("[{}]", words.join(", ")));
            out.text(4, "user", hook.user.as_ref());
            out.text(4, "working_dir", hook.working_dir.as_ref());
            out.pairs(4, "environment", &hook.environment);
        }
    }
}

fn write_mounts(out: &mut Text, service: &ServiceSpec) {
    let mut secrets = service.mounts.iter().filter_map(|m| match &m.source {
        MountSource::Secret(secret) => Some((m, secret)),
        _ => None,
    });
    if let Some(first) = secrets.next() {
        out.open(2, "secrets");
        for (mount, secret) in std::iter::once(first).chain(secrets) {
            out.item(3, "source", &quoted(&secret.name));
            out.line(4, "target", &quoted(&mount.target));
            for (key, id) in [("uid", secret.uid), ("gid", secret.gid)] {
                if let Some(id) = id {
                    out.line(4, key, &format!("\"{id}\""));
                }
            }
            out.line(4, "mode", &format!("\"{:04o}\"", secret.mode));
        }
    }
    if service.mounts.len() == service.secrets().count() {
        return;
    }
    out.open(2, "volumes");
    for mount in &service.mounts {
        let kind = match mount.source {
            MountSource::Tmpfs(_) => "tmpfs",
            MountSource::Volume(_) | MountSource::Part(_) | MountSource::Anonymous => "volume",
            MountSource::Image(_) => "image",
            MountSource::Secret(_) => continue,
        };
        out.0.push_str("      - type: ");
        out.0.push_str(kind);
        out.0.push('\n');
        match &mount.source {
            MountSource::Volume(name) => out.line(4, "source", &quoted(name)),
            MountSource::Part(part) => out.line(4, "source", &quoted(&part.volume)),
            MountSource::Tmpfs(tmpfs) => {
                out.open(4, "tmpfs");
                if tmpfs.bytes > 0 {
                    out.line(5, "size", &tmpfs.bytes.to_string());
                }
                out.line(5, "mode", &format!("\"{:04o}\"", tmpfs.mode));
                if (tmpfs.uid, tmpfs.gid) != (0, 0) {
                    let (uid, gid) = (tmpfs.uid, tmpfs.gid);
                    // Compose has them in the short form alone, which is read after all others.
                    out.line(5, "x-runrig", &format!("{{ uid: {uid}, gid: {gid} }}"));
                }
            }
            MountSource::Image(mount) => {
                out.line(4, "source", &quoted(&pinned(&mount.image)));
                if !mount.path.is_empty() {
                    out.open(4, "image");
                    out.line(5, "subpath", &quoted(&mount.path));
                }
            }
            MountSource::Anonymous | MountSource::Secret(_) => {}
        }
        out.line(4, "target", &quoted(&mount.target));
        out.line(4, "read_only", &mount.read_only.to_string());
        let mut options = Vec::new();
        if service.bare.contains(&mount.target) {
            options.push("nocopy: true".to_string());
        }
        if let MountSource::Part(part) = &mount.source {
            options.push(format!("subpath: {}", quoted(&part.path)));
        }
        if !options.is_empty() {
            out.line(4, "volume", &format!("{{ {} }}", options.join(", ")));
        }
    }
}

fn write_healthcheck(out: &mut Text, check: &HealthCheck) {
    out.open(2, "healthcheck");
    if check.is_off() {
        return out.line(3, "disable", "true");
    }
    let test = std::iter::once("CMD".to_string()).chain(check.test.iter().map(|w| quoted(w)));
    out.list(3, "test", test);
    for (key, ms) in [
        ("interval", check.interval_ms),
        ("timeout", check.timeout_ms),
        ("start_period", check.start_period_ms),
        ("start_interval", check.start_interval_ms),
    ] {
        out.line(3, key, &format!("{ms}ms"));
    }
    out.line(3, "retries", &check.retries.to_string());
}
