//! From what the ledger placed and the image says to what the engine starts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use api::PlannedAllocation;
use engine::{ContainerSpec, Hidden, Mount, MountFrom};
use images::ReadyImage;
use net::{Attachment, NetworkKey};
use types::{Digest, HealthCheck, MountSource, NamesSpec, TmpfsSpec};

use crate::builds::{self, Ready};
use crate::shared::Shared;
use crate::volume;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub fn network_key(planned: &PlannedAllocation, network: &str) -> NetworkKey {
    NetworkKey {
        deployment: planned.deployment.to_string(),
        network: network.to_string(),
    }
}

/// The service's networks: at least one, unless it shall have none.
pub fn networks(planned: &PlannedAllocation) -> Vec<(NetworkKey, bool)> {
    let internal = |name: &str| planned.networks.get(name).copied().unwrap_or(false);
    if planned.spec.offline {
        return Vec::new();
    }
    if planned.spec.networks.is_empty() {
        return vec![(network_key(planned, "default"), internal("default"))];
    }
    let mut all: Vec<_> = planned
        .spec
        .networks
        .keys()
        .map(|name| (network_key(planned, name), internal(name)))
        .collect();
    all.sort_by_key(|(_, internal)| *internal);
    all
}

/// Entrypoint and command as Compose combines them with the image's.
fn args(planned: &PlannedAllocation, image: &ReadyImage) -> Result<Vec<String>> {
    let spec = &planned.spec;
    let entrypoint = spec.entrypoint.as_ref();
    let command = match (&spec.command, entrypoint) {
        (Some(command), _) => command.clone(),
        // A new entrypoint drops the image's command.
        (None, Some(_)) => Vec::new(),
        (None, None) => image.config.command.clone(),
    };
    let args: Vec<String> = entrypoint
        .unwrap_or(&image.config.entrypoint)
        .iter()
        .chain(&command)
        .cloned()
        .collect();
    if args.is_empty() {
        bail!(
            "neither the image nor the compose file says what to run; add `command:` to service {}",
            planned.service
        );
    }
    Ok(args)
}

fn environment(planned: &PlannedAllocation, image: &ReadyImage, hostname: &str) -> Vec<String> {
    let mut all = BTreeMap::new();
    for pair in std::iter::once(PATH).chain(image.config.env.iter().map(String::as_str)) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.insert(name.to_string(), value.to_string());
    }
    all.insert("HOSTNAME".into(), hostname.into());
    all.extend(planned.spec.environment.clone());
    if planned.spec.tty {
        all.entry("TERM".into()).or_insert_with(|| "xterm".into());
    }
    all.into_iter().map(|(k, v)| format!("{k}={v}")).collect()
}

pub fn hostname(planned: &PlannedAllocation) -> String {
    planned
        .spec
        .hostname
        .clone()
        .unwrap_or_else(|| planned.allocation.to_string())
}

/// Directories that are billed as this allocation's storage.
pub fn storage(shared: &Shared, planned: &PlannedAllocation) -> Vec<PathBuf> {
    let mut all = vec![shared.upper(planned.allocation)];
    if planned.spec.build.is_some()
        && let Some(builds) = &shared.builds
    {
        all.push(builds.cache(planned.owner));
    }
    for mount in &planned.spec.mounts {
        if let Some(name) = mount.source.volume() {
            let path = shared.volume(planned.deployment, name);
            // Two parts of one volume are one volume.
            if !all.contains(&path) {
                all.push(path);
            }
        }
    }
    all
}

/// Blocking: may copy image content into a fresh volume. `secrets`: in the order of
/// their mounts.
/// `build`: it builds, with this.
pub fn container(
    shared: &Shared,
    planned: &PlannedAllocation,
    id: String,
    image: &ReadyImage,
    (mounted, secrets): (&BTreeMap<Digest, ReadyImage>, &[Hidden]),
    attachment: &Attachment,
    build: Option<&Ready>,
) -> Result<ContainerSpec> {
    let spec = &planned.spec;
    let hostname = hostname(planned);
    let user = spec.user.as_deref().unwrap_or(&image.config.user);
    let mut user = engine::resolve_user(&image.layers, user)
        .map_err(|why| anyhow::anyhow!("user \"{user}\" of service {}: {why}", planned.service))?;
    let groups = engine::resolve_groups(&image.layers, &spec.process.groups)
        .map_err(|why| anyhow::anyhow!("group_add of service {}: {why}", planned.service))?;
    user.additional.extend(groups);
    let upper = shared.upper(planned.allocation);
    std::fs::create_dir_all(&upper)
        .with_context(|| format!("make the writable layer {}", upper.display()))?;
    let mut mounts = Vec::new();
    let mut secrets = secrets.iter();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let seed = (!spec.bare.contains(&mount.target)).then_some(mount.target.as_str());
        let source = match &mount.source {
            MountSource::Tmpfs(tmpfs) => MountFrom::Tmpfs(TmpfsSpec {
                bytes: match tmpfs.bytes {
                    0 => spec.resources.memory_bytes / 2,
                    bytes => bytes,
                },
                ..*tmpfs
            }),
            MountSource::Volume(name) => {
                let path = shared.volume(planned.deployment, name);
                volume::make(&path, image, seed, shared.config.uid_base)?;
                MountFrom::Directory(path)
            }
            MountSource::Part(part) => {
                let path = shared.volume(planned.deployment, &part.volume);
                volume::make(&path, image, None, shared.config.uid_base)?;
                MountFrom::Part {
                    directory: path,
                    path: part.path.clone(),
                }
            }
            MountSource::Image(wanted) => {
                let content = mounted
                    .get(&wanted.image.digest)
                    .with_context(|| format!("{} was not fetched", wanted.image.reference))?;
                let copy = upper.join(format!("copy-{index}"));
                let base = shared.config.uid_base;
                let owner = (!mount.read_only).then(|| (base + user.uid, base + user.gid));
                let path = volume::content(&copy, content, &wanted.path, owner, base)
                    .with_context(|| format!("what is mounted at {}", mount.target))?;
                MountFrom::Directory(path)
            }
            MountSource::Secret(secret) => MountFrom::Memory {
                content: secrets.next().context("a secret is not opened")?.clone(),
                uid: secret.uid.unwrap_or(user.uid),
                gid: secret.gid.unwrap_or(user.gid),
                mode: secret.mode,
            },
            MountSource::Anonymous => {
                let path = upper.join(format!("volume-{index}"));
                volume::make(&path, image, seed, shared.config.uid_base)?;
                MountFrom::Directory(path)
            }
        };
        mounts.push(Mount {
            target: mount.target.clone(),
            source,
            read_only: mount.read_only,
        });
    }
    // What is mounted inside of another mount comes after it.
    mounts.sort_by_key(|m| m.target.split('/').filter(|p| !p.is_empty()).count());
    let address = attachment.interfaces.first().map(|i| i.address);
    let hosts = hosts(&spec.names, address, &hostname);
    let container = ContainerSpec {
        id,
        args: match build {
            Some(_) => Vec::new(),
            None => args(planned, image)?,
        },
        env: environment(planned, image, &hostname),
        cwd: spec
            .working_dir
            .clone()
            .filter(|d| !d.is_empty())
            .or_else(|| Some(image.config.working_dir.clone()))
            .filter(|d| !d.is_empty())
            .unwrap_or_else(|| "/".into()),
        user,
        hostname,
        terminal: spec.tty,
        stdin_open: spec.process.stdin_open,
        init: spec.process.init,
        read_only: spec.read_only,
        lower: image.layers.clone(),
        upper,
        mounts,
        netns: attachment.netns.clone(),
        hosts,
        resolv_conf: resolv_conf(&spec.names, attachment.dns),
        uid_base: shared.config.uid_base,
        limits: spec.resources,
        pids: spec.pids,
        stop_signal: stop_signal(planned, image),
        labels: [
            (
                "runrig.allocation".to_string(),
                planned.allocation.to_string(),
            ),
            ("runrig.service".to_string(), planned.service.clone()),
        ]
        .into(),
        process: spec.process.clone(),
        nests: false,
    };
    match build {
        Some(ready) => builds::wrap(container, spec, ready),
        None => Ok(container),
    }
}

/// /etc/hosts: the container itself, then what its service names.
fn hosts(names: &NamesSpec, address: Option<Ipv4Addr>, hostname: &str) -> String {
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n");
    if let Some(address) = address {
        let own = match &names.domainname {
            Some(domain) => format!("{hostname}.{domain} {hostname}"),
            None => hostname.to_string(),
        };
        hosts.push_str(&format!("{address}\t{own}\n"));
    }
    for (name, addresses) in &names.extra_hosts {
        for address in addresses {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
    }
    hosts
}

/// /etc/resolv.conf: names are the project's own unless they have a dot.
fn resolv_conf(names: &NamesSpec, server: Ipv4Addr) -> String {
    let mut text = format!("nameserver {server}\n");
    let domain = names.domainname.iter();
    let search: Vec<&str> = match names.dns_search.is_empty() {
        true => domain.map(String::as_str).collect(),
        false => names.dns_search.iter().map(String::as_str).collect(),
    };
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let said = names.dns_options.join(" ");
    let ndots = match said.contains("ndots:") || !search.is_empty() {
        true => "",
        false => "ndots:0",
    };
    let options = format!("{ndots} {said}");
    if !options.trim().is_empty() {
        text.push_str(&format!("options {}\n", options.trim()));
    }
    text
}

/// The compose file's, else the image's own; `None` if there is none or it is off.
pub fn health_check(planned: &PlannedAllocation, image: &ReadyImage) -> Option<HealthCheck> {
    let said = planned.spec.healthcheck.as_ref();
    let check = said.or(image.config.healthcheck.as_ref())?;
    (!check.is_off()).then(|| check.clone())
}

/// SIGTERM unless the compose file or the image says otherwise.
pub fn stop_signal(planned: &PlannedAllocation, image: &ReadyImage) -> i32 {
    planned
        .spec
        .stop_signal
        .as_deref()
        .or(image.config.stop_signal.as_deref())
        .and_then(signal_number)
        .unwrap_or(libc::SIGTERM)
}

fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") {
        name
    } else {
        format!("SIG{name}")
    };
    name.parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_service_are_written_down() {
        let own = Ipv4Addr::new(10, 0, 0, 2);
        let mut names = NamesSpec::default();
        assert!(hosts(&names, Some(own), "a1").ends_with("10.0.0.2\ta1\n"));
        let dns = Ipv4Addr::new(10, 0, 0, 1);
        let plain = "nameserver 10.0.0.1\noptions ndots:0\n";
        assert_eq!(resolv_conf(&names, dns), plain);
        names.domainname = Some("d.org".into());
        names.extra_hosts = [("db".to_string(), vec![[1, 2, 3, 4].into()])].into();
        let text = hosts(&names, Some(own), "a1");
        assert!(
            text.ends_with("10.0.0.2\ta1.d.org a1\n1.2.3.4\tdb\n"),
            "{text}"
        );
        assert_eq!(
            resolv_conf(&names, dns),
            "nameserver 10.0.0.1\nsearch d.org\n"
        );
        names.dns_search = vec!["a.org".into(), "b.org".into()];
        names.dns_options = vec!["ndots:2".into()];
        let text = "nameserver 10.0.0.1\nsearch a.org b.org\noptions ndots:2\n";
        assert_eq!(resolv_conf(&names, dns), text);
    }

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGQUIT", Some(3)),
            ("0", None),
            ("SIGNONE", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }
}
