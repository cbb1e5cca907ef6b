//! Bounds on what may be asked: everything is on the ledger for good, so everything is finite.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    BuildSpec, CAPABILITIES, DeploymentSpec, HooksSpec, LogPolicy, MountSource, NamesSpec,
    PortSpec, ProcessSpec, Protocol, RestartPolicy, ServiceSpec, ULIMITS, VolumePart, is_sysctl,
    is_sysctl_value,
};

use crate::host::is_name;
use crate::{Params, RejectKind, Rejection};

const NAME_MAX: usize = 40;
const TEXT_MAX: usize = 32 * 1024;
const ITEMS_MAX: usize = 256;
const CPU_MILLIS_MAX: u32 = 256_000;
const MEMORY_MIN: u64 = 4 << 20;
const MEMORY_MAX: u64 = 4 << 40;
const DISK_MAX: u64 = 64 << 40;
const BANDWIDTH_MAX: u32 = 100_000_000;
const PIDS_MAX: u32 = 100_000;
const GRACE_MS_MAX: u32 = 600_000;
const PAUSE_MS_MAX: u32 = 3_600_000;
const SECRETS_MAX: usize = 32;
const HOOKS_MAX: usize = 8;
/// Numbers of users and groups that a container has.
const ID_MAX: u32 = 65_535;

struct Check {
    what: String,
}

impl Check {
    fn that(&self, good: bool, why: impl FnOnce() -> String) -> Result<(), Rejection> {
        if good {
            return Ok(());
        }
        Err(Rejection::new(
            RejectKind::Invalid,
            self.what.clone(),
            why(),
            "Correct the compose file and run `runrig up` again.",
        ))
    }

    fn items(&self, key: &str, count: usize) -> Result<(), Rejection> {
        self.that(count <= ITEMS_MAX, || {
            format!("{key} has {count} entries; at most {ITEMS_MAX} are taken")
        })
    }

    fn texts<'a>(
        &self,
        key: &str,
        texts: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), Rejection> {
        let (mut bytes, mut count) = (0usize, 0);
        for text in texts {
            self.that(!text.contains('\0'), || {
                format!("{key} contains a zero byte")
            })?;
            bytes += text.len();
            count += 1;
        }
        self.items(key, count)?;
        self.that(bytes <= TEXT_MAX, || {
            format!("{key} has {bytes} bytes; at most {TEXT_MAX} are taken")
        })
    }
}

fn is_compose_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

fn is_user(user: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    !user.is_empty() && user.len() <= 128 && user.chars().all(plain)
}

/// Labels of letters, digits, - and _ with dots between them.
fn is_hostname(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_signal(signal: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-".contains(&b);
    let named = signal.starts_with("SIG") && signal.len() <= 16 && signal.bytes().all(plain);
    named || signal.parse().is_ok_and(|n| (1..=64u8).contains(&n))
}

fn is_reference(image: &str) -> bool {
    !image.is_empty() && image.len() <= 512 && image.bytes().all(|b| b.is_ascii_graphic())
}

pub(super) fn check(spec: &DeploymentSpec, params: &Params) -> Result<(), Rejection> {
    let project = Check {
        what: format!(
            "project {}",
            spec.project.chars().take(NAME_MAX).collect::<String>()
        ),
    };
    project.that(is_name(&spec.project.replace('_', "-"), NAME_MAX), || {
        format!("a project name has 1 to {NAME_MAX} lower-case letters, digits, - and _")
    })?;
    let count = spec.services.len();
    project.that(count > 0, || "it has no services".into())?;
    project.that(count <= params.services_max as usize, || {
        format!(
            "{count} services; at most {} are taken",
            params.services_max
        )
    })?;
    project.items("networks", spec.networks.len())?;
    project.items("volumes", spec.volumes.len())?;
    for name in spec
        .networks
        .keys()
        .chain(spec.volumes.keys())
        .chain(spec.services.keys())
    {
        project.that(is_compose_name(name), || {
            let shown: String = name.chars().take(NAME_MAX).collect();
            format!("\"{shown}\" is no name: 1 to {NAME_MAX} letters, digits, . _ and -")
        })?;
    }
    logs_bounds(&project, &spec.logs)?;
    for volume in spec.volumes.values() {
        project.texts(
            "volume labels",
            volume.labels.iter().flat_map(|(k, v)| [k, v]),
        )?;
    }
    let replicas: u64 = spec
        .services
        .values()
        .map(|s| u64::from(s.replicas_max()))
        .sum();
    project.that(replicas <= u64::from(params.replicas_max), || {
        format!(
            "{replicas} replicas; at most {} are taken",
            params.replicas_max
        )
    })?;
    let mut ports = BTreeSet::new();
    for (name, service) in &spec.services {
        let check = Check {
            what: format!("service {name}"),
        };
        service_bounds(&check, spec, service)?;
        for port in &service.ports {
            if let Some(published) = port.published {
                check.that(published > 0, || "it publishes port 0".into())?;
                check.that(ports.insert((port.protocol, published)), || {
                    format!("port {published}/{} is published twice", port.protocol)
                })?;
            }
        }
    }
    acyclic(spec)
}

fn logs_bounds(project: &Check, logs: &LogPolicy) -> Result<(), Rejection> {
    let (readers, exports) = (logs.readers.len(), logs.exports.len());
    project.that(readers <= LogPolicy::READERS_MAX, || {
        let most = LogPolicy::READERS_MAX;
        format!("{readers} may read its logs; at most {most} keys are taken")
    })?;
    project.that(logs.copy_to.len() <= LogPolicy::COPY_TO_MAX, || {
        let most = LogPolicy::COPY_TO_MAX;
        format!("copies of its logs are sealed to more than {most} keys besides")
    })?;
    project.that(exports <= LogPolicy::EXPORTS_MAX, || {
        let most = LogPolicy::EXPORTS_MAX;
        format!("its logs go to {exports} receivers; at most {most} are taken")
    })?;
    match logs.exports.iter().find_map(|e| e.fault()) {
        Some(why) => project.that(false, || why.into()),
        None => Ok(()),
    }
}

fn hooks(check: &Check, hooks: &HooksSpec) -> Result<(), Rejection> {
    for (key, hooks) in [
        ("post_start", &hooks.post_start),
        ("pre_stop", &hooks.pre_stop),
    ] {
        check.that(hooks.len() <= HOOKS_MAX, || {
            format!("{key} has more than {HOOKS_MAX} commands")
        })?;
        for hook in hooks {
            check.that(!hook.command.is_empty(), || {
                format!("a command of {key} is empty")
            })?;
            check.texts(key, &hook.command)?;
            check.texts(key, hook.environment.iter().flat_map(|(k, v)| [k, v]))?;
            check.texts(key, hook.user.iter().chain(&hook.working_dir))?;
            check.that(hook.user.as_deref().is_none_or(is_user), || {
                format!("a user of {key} is not user[:group]")
            })?;
            let folder = hook.working_dir.as_deref();
            check.that(folder.is_none_or(|d| d.starts_with('/')), || {
                format!("a working_dir of {key} is no absolute path")
            })?;
        }
    }
    Ok(())
}

fn service_bounds(
    check: &Check,
    spec: &DeploymentSpec,
    service: &ServiceSpec,
) -> Result<(), Rejection> {
    let image = &service.image.reference;
    check.that(is_reference(image), || {
        "its image reference is empty, too long or not plain text".into()
    })?;
    check.texts("entrypoint", service.entrypoint.iter().flatten())?;
    check.texts("command", service.command.iter().flatten())?;
    check.texts(
        "environment",
        service.environment.iter().flat_map(|(k, v)| [k, v]),
    )?;
    check.that(
        service
            .environment
            .keys()
            .all(|k| !k.is_empty() && !k.contains('=')),
        || "an environment name is empty or contains =".into(),
    )?;
    check.texts("labels", service.labels.iter().flat_map(|(k, v)| [k, v]))?;
    check.texts(
        "user, working_dir",
        service.user.iter().chain(&service.working_dir),
    )?;
    check.that(service.user.as_deref().is_none_or(is_user), || {
        "its user is not user[:group]".into()
    })?;
    check.that(
        service
            .working_dir
            .as_deref()
            .is_none_or(|d| d.starts_with('/')),
        || "its working_dir is no absolute path".into(),
    )?;
    check.that(service.hostname.as_deref().is_none_or(is_hostname), || {
        "its hostname has characters that a host name cannot have".into()
    })?;
    check.that(service.stop_signal.as_deref().is_none_or(is_signal), || {
        "its stop_signal is neither a number from 1 to 64 nor a name as SIGTERM".into()
    })?;
    check.items("ports", service.ports.len())?;
    check.items("expose", service.expose.len())?;
    check.that(service.ports.iter().all(|p| p.target > 0), || {
        "a port is 0".into()
    })?;
    check.items("volumes", service.mounts.len())?;
    let mut targets = BTreeSet::<Vec<&str>>::new();
    for mount in &service.mounts {
        let target = &mount.target;
        let parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
        let parts: Vec<&str> = parts.collect();
        check.that(
            target.starts_with('/')
                && !parts.is_empty()
                && target.len() <= 512
                && !target.contains('\0'),
            || "a mount's target is no absolute path below /".into(),
        )?;
        check.that(target.split('/').all(|part| part != ".."), || {
            format!("mount target {target} contains ..")
        })?;
        check.that(targets.insert(parts), || format!("two mounts at {target}"))?;
        if let Some(name) = mount.source.volume() {
            check.that(spec.volumes.contains_key(name), || {
                let shown: String = name.chars().take(NAME_MAX).collect();
                format!("volume {shown} is not declared at the top level")
            })?;
        }
        match &mount.source {
            MountSource::Volume(_) => {}
            MountSource::Part(part) => check.that(VolumePart::is_path(&part.path), || {
                format!("the part of a volume at {target} is no path inside of it")
            })?,
            MountSource::Tmpfs(tmpfs) => {
                check.that(tmpfs.bytes <= MEMORY_MAX, || {
                    format!("the tmpfs at {target} is larger than any memory")
                })?;
                check.that(tmpfs.uid <= ID_MAX && tmpfs.gid <= ID_MAX, || {
                    format!("the owner of the tmpfs at {target} is above {ID_MAX}")
                })?;
                check.that(tmpfs.mode <= 0o7777, || {
                    format!("the mode of the tmpfs at {target} is more than permission bits")
                })?;
            }
            MountSource::Image(mount) => {
                check.that(is_reference(&mount.image.reference), || {
                    format!("the image mounted at {target} has no plain reference")
                })?;
                let inside = mount.path.split('/').all(|part| part != "..");
                let plain = mount.path.len() <= 512 && !mount.path.contains('\0');
                check.that(inside && plain, || {
                    format!("the path in the image mounted at {target} leaves it")
                })?;
            }
            MountSource::Secret(secret) => {
                check.that(is_reference(&secret.image.reference), || {
                    format!("the secret at {target} has no plain reference")
                })?;
                check.that(is_compose_name(&secret.name), || {
                    format!("the secret at {target} has no plain name")
                })?;
                check.that(mount.read_only, || {
                    format!("the secret at {target} is not read-only")
                })?;
                let ids = secret.uid.into_iter().chain(secret.gid);
                check.that(ids.into_iter().all(|id| id <= ID_MAX), || {
                    format!("the owner of the secret at {target} is above {ID_MAX}")
                })?;
                check.that(secret.mode <= 0o777, || {
                    format!("the mode of the secret at {target} is more than permission bits")
                })?;
            }
            MountSource::Anonymous => {}
        }
    }
    check.that(service.secrets().count() <= SECRETS_MAX, || {
        format!("it has more than {SECRETS_MAX} secrets")
    })?;
    hooks(check, &service.hooks)?;
    check.that(
        service
            .bare
            .iter()
            .all(|target| service.mounts.iter().any(|m| m.target == *target)),
        || "a volume that begins empty is none of its volumes".into(),
    )?;
    check.items("networks", service.networks.len())?;
    for (network, aliases) in &service.networks {
        check.that(
            network == "default" || spec.networks.contains_key(network),
            || {
                let shown: String = network.chars().take(NAME_MAX).collect();
                format!("network {shown} is not declared at the top level")
            },
        )?;
        check.texts("aliases", aliases)?;
        check.that(aliases.iter().all(|a| is_compose_name(a)), || {
            "an alias is no name".into()
        })?;
    }
    for dependency in service.depends_on.keys() {
        check.that(spec.services.contains_key(dependency), || {
            let shown: String = dependency.chars().take(NAME_MAX).collect();
            format!("it depends on {shown}, which is not a service here")
        })?;
    }
    check.that(
        service
            .restart_with
            .iter()
            .all(|name| service.depends_on.contains_key(name)),
        || "it is restarted with a service that it does not depend on".into(),
    )?;
    let met = service.networks.is_empty() && service.ports.is_empty() && service.expose.is_empty();
    check.that(!service.offline || met, || {
        "it has no network, so it can have no networks, ports or expose".into()
    })?;
    if let Some(health) = &service.healthcheck {
        check.texts("healthcheck", &health.test)?;
        check.that(
            health.interval_ms >= 100
                && health.timeout_ms >= 100
                && health.retries >= 1,
            || {
                "its healthcheck needs an interval and a timeout of at least 100 ms, and at least one try"
                    .into()
            },
        )?;
    }
    let r = &service.resources;
    check.that((1..=CPU_MILLIS_MAX).contains(&r.cpu_millis), || {
        format!("cpus must be above 0 and at most {}", CPU_MILLIS_MAX / 1000)
    })?;
    check.that((MEMORY_MIN..=MEMORY_MAX).contains(&r.memory_bytes), || {
        "memory must be 4 MiB to 4 TiB".into()
    })?;
    check.that((1..=DISK_MAX).contains(&r.disk_bytes), || {
        "disk must be 1 byte to 64 TiB".into()
    })?;
    check.that((1..=BANDWIDTH_MAX).contains(&r.bandwidth_kbps), || {
        "bandwidth must be 1 kbit/s to 100 Gbit/s".into()
    })?;
    check.that((1..=PIDS_MAX).contains(&service.pids), || {
        format!("pids must be 1 to {PIDS_MAX}")
    })?;
    check.that(service.stop_grace_ms <= GRACE_MS_MAX, || {
        "stop_grace_period is at most 10 minutes".into()
    })?;
    let policies = std::iter::once(&service.update).chain(&service.rollback);
    let pauses = policies.flat_map(|p| [p.delay_ms, p.monitor_ms.unwrap_or_default()]);
    let permille = [Some(&service.update), service.rollback.as_ref()];
    let mut permille = permille.into_iter().flatten().map(|p| p.failures_permille);
    check.that(permille.all(|n| n <= 1_000), || {
        "a ratio of failures is at most 1".into()
    })?;
    let mut pauses = pauses.chain([service.restart_delay_ms, service.restart_window_ms]);
    check.that(pauses.all(|ms| ms <= PAUSE_MS_MAX), || {
        "a pause between two starts is at most an hour".into()
    })?;
    let constraints = &service.placement.constraints;
    check.items("placement", constraints.len())?;
    check.texts("placement", constraints.iter().map(|c| &c.value))?;
    autoscale_bounds(check, service)?;
    process_bounds(check, &service.process)?;
    if let Some(build) = &service.build {
        check.that(
            service.replicas == 1 && service.restart == RestartPolicy::No,
            || "what builds an image has one replica, and is not started again".into(),
        )?;
        build_bounds(check, build)?;
    }
    names_bounds(check, &service.names)
}

fn autoscale_bounds(check: &Check, service: &ServiceSpec) -> Result<(), Rejection> {
    let Some(autoscale) = service.autoscale else {
        return Ok(());
    };
    if let Some(fault) = autoscale.fault() {
        return check.that(false, || format!("its autoscaling makes no sense: {fault}"));
    }
    let tcp = |p: &PortSpec| p.protocol == Protocol::Tcp;
    let asked = service.ports.iter().any(tcp) || !service.expose.is_empty();
    check.that(autoscale.min > 0 || asked, || {
        "with no replicas nobody could wake it: it has no TCP port that requests come to, so autoscale.min must be at least 1".into()
    })
}

fn build_bounds(check: &Check, build: &BuildSpec) -> Result<(), Rejection> {
    check.texts("outputs", &build.outputs)?;
    check.that(
        !build.outputs.is_empty() && build.outputs.iter().all(|o| is_output(o)),
        || "an image that it makes is not named name:tag in lower case".into(),
    )?;
    check.texts("bases", build.bases.keys())?;
    check.that(
        build.bases.values().all(|b| is_reference(&b.reference)),
        || "an image that it begins with has no plain reference".into(),
    )?;
    check.texts("contexts", &build.contexts)?;
    check.texts("secrets", &build.secrets)?;
    let names = build.contexts.iter().chain(&build.secrets);
    check.that(names.into_iter().all(|n| is_compose_name(n)), || {
        "a context or a secret of its build is no name".into()
    })?;
    check.texts("target", &build.target)?;
    let pairs = build.args.iter().chain(&build.labels);
    check.texts("args and labels", pairs.flat_map(|(k, v)| [k, v]))?;
    let named = |k: &String| !k.is_empty() && !k.contains('=');
    check.that(
        build.args.keys().chain(build.labels.keys()).all(named),
        || "a name among its args or labels is empty or contains =".into(),
    )?;
    check.that(
        (1..=BuildSpec::SECONDS_MAX).contains(&build.seconds_max),
        || {
            let hours = BuildSpec::SECONDS_MAX / 3600;
            format!("a build takes 1 second to {hours} hours")
        },
    )
}

/// `acme/web:1.2`: parts in lower case between slashes, and a tag.
fn is_output(output: &str) -> bool {
    let Some((name, tag)) = output.split_once(':') else {
        return false;
    };
    let part = |part: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|b| plain(*b))
            && bytes.iter().all(|b| plain(*b) || b"._-".contains(b))
    };
    let tagged = (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    name.len() <= 200 && name.split('/').all(part) && tagged
}

fn process_bounds(check: &Check, process: &ProcessSpec) -> Result<(), Rejection> {
    check.texts("group_add", &process.groups)?;
    check.that(process.groups.iter().all(|g| is_user(g)), || {
        "a group is neither a name nor a number".into()
    })?;
    let known = |name: &String| CAPABILITIES.contains(&name.as_str());
    check.that(process.cap_add.iter().all(known), || {
        format!(
            "a capability is not given; given are {}",
            CAPABILITIES.join(", ")
        )
    })?;
    let dropped = |name: &String| name == "ALL" || known(name);
    check.that(process.cap_drop.iter().all(dropped), || {
        "a capability that is dropped is not known".into()
    })?;
    check.that(process.cpu_shares <= 1_024, || {
        "cpu_shares is at most 1024: all that it reserves".into()
    })?;
    for (name, value) in &process.sysctls {
        check.that(is_sysctl(name) && is_sysctl_value(value), || {
            let shown: String = name.chars().take(NAME_MAX).collect();
            format!("the kernel setting {shown} is not given")
        })?;
    }
    for (name, limit) in &process.ulimits {
        check.that(ULIMITS.contains(&name.as_str()), || {
            "a limit of its processes is not known".into()
        })?;
        let hard = limit.hard.unwrap_or(u64::MAX);
        check.that(limit.soft.unwrap_or(u64::MAX) <= hard, || {
            format!("its soft limit {name} is above the hard one")
        })?;
    }
    check.that(process.shm_bytes <= MEMORY_MAX, || {
        "its shm_size is larger than any memory".into()
    })?;
    check.that(process.oom_score_adj <= 1_000, || {
        "oom_score_adj is 0 to 1000".into()
    })
}

fn names_bounds(check: &Check, names: &NamesSpec) -> Result<(), Rejection> {
    let hosts = names.extra_hosts.keys().chain(&names.domainname);
    check.that(hosts.into_iter().all(|name| is_hostname(name)), || {
        "a host or domain has characters that such a name cannot have".into()
    })?;
    let addresses = names.extra_hosts.values().map(Vec::len).sum();
    check.items("extra_hosts", addresses)?;
    check.items("extra_hosts", names.extra_hosts.len())?;
    let search = |name: &String| name == "." || is_hostname(name);
    check.that(
        names.dns_search.len() <= 6 && names.dns_search.iter().all(search),
        || "dns_search has at most six domains".into(),
    )?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_:".contains(&b);
    let option = |o: &String| !o.is_empty() && o.len() <= 64 && o.bytes().all(plain);
    check.that(
        names.dns_options.len() <= 6 && names.dns_options.iter().all(option),
        || "dns_opt has at most six plain words".into(),
    )
}

fn acyclic(spec: &DeploymentSpec) -> Result<(), Rejection> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = spec
        .services
        .iter()
        .map(|(name, s)| {
            (
                name.as_str(),
                s.depends_on.keys().map(String::as_str).collect(),
            )
        })
        .collect();
    while !left.is_empty() {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, needs)| needs.is_empty())
            .map(|(name, _)| *name)
            .collect();
        let check = Check {
            what: format!("project {}", spec.project),
        };
        check.that(!free.is_empty(), || {
            let names: Vec<_> = left.keys().copied().collect();
            format!("depends_on goes in a circle: {}", names.join(", "))
        })?;
        for name in free {
            left.remove(name);
            for needs in left.values_mut() {
                needs.remove(name);
            }
        }
    }
    Ok(())
}
