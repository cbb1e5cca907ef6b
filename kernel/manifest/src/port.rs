//! `ports` and `expose`.

use std::collections::BTreeSet;

use types::{PortSpec, Protocol};

use crate::Project;
use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;

/// Of one service.
pub(crate) const PORTS_MAX: usize = 256;
const EXAMPLE: &str = "\"8080:80\", \"80\", \"53:53/udp\" or \"3000-3002:3000-3002\"";

/// What `ports` of a service comes to.
#[derive(Default)]
pub(crate) struct Ports {
    pub all: Vec<PortSpec>,
    pub choices: Vec<PortChoice>,
}

/// A port that is published at one of several: the first that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortChoice {
    /// In the service's ports.
    pub at: usize,
    /// The first and the last.
    pub range: (u16, u16),
}

impl Project {
    /// Publishes each port that may be at one of several where it is already (`kept`), else at
    /// the first one that is neither `taken` by others nor used by this project.
    ///
    /// Errors: the service, and the range of which every port is taken.
    pub fn choose_ports(
        &mut self,
        taken: impl Fn(Protocol, u16) -> bool,
        kept: impl Fn(&str, &PortSpec) -> Option<u16>,
    ) -> Result<(), (String, (u16, u16))> {
        let mut used = BTreeSet::new();
        for service in self.services.values() {
            for (at, port) in service.spec.ports.iter().enumerate() {
                if !service.port_choices.iter().any(|c| c.at == at) {
                    used.extend(port.published.map(|p| (port.protocol, p)));
                }
            }
        }
        for (name, service) in &mut self.services {
            for choice in &service.port_choices {
                let port = &mut service.spec.ports[choice.at];
                let (first, last) = choice.range;
                let protocol = port.protocol;
                let own = kept(name, port).filter(|p| (first..=last).contains(p));
                let free = |p: &u16| !used.contains(&(protocol, *p));
                let found = own.filter(free).or_else(|| {
                    let mut all = first..=last;
                    all.find(|p| free(p) && !taken(protocol, *p))
                });
                let Some(found) = found else {
                    return Err((name.clone(), choice.range));
                };
                used.insert((protocol, found));
                port.published = Some(found);
            }
        }
        Ok(())
    }
}

/// First and last port of `80` or `3000-3005`.
pub(crate) fn range(text: &str) -> Option<(u16, u16)> {
    let port = |t: &str| -> Option<u16> {
        (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))
            .then(|| t.parse().ok())
            .flatten()
            .filter(|p| *p > 0)
    };
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then_some((first, last))
        }
        None => port(text).map(|p| (p, p)),
    }
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

impl Reader {
    pub fn ports(&mut self, field: &Field<'_>) -> Ports {
        let mut ports = Ports::default();
        for item in self.list(field) {
            let before = ports.all.len();
            if item.is_map() {
                self.long_port(&item, &mut ports);
            } else {
                self.short_port(&item, &mut ports);
            }
            if ports.all.len() > PORTS_MAX {
                ports.all.truncate(before);
                self.wrong_at(
                    &item,
                    format!("more than {PORTS_MAX} ports"),
                    "",
                    "publish fewer",
                );
                break;
            }
        }
        ports
    }

    fn host_ip(&mut self, item: &Field<'_>, ip: &str) {
        match ip {
            "" | "0.0.0.0" | "::" | "[::]" => {}
            "127.0.0.1" | "::1" | "[::1]" | "localhost" => self.warn_at(
                item,
                format!("the address {ip} has no effect"),
                "a published port is opened on the gateway, at the address that the gateway was given",
                "use expose: for a port that only the project may reach",
            ),
            _ => self.wrong_at(
                item,
                format!("the host address {} cannot be had", shown(ip)),
                "a published port is opened on the gateway, not on a machine of yours",
                "remove the address",
            ),
        }
    }

    fn short_port(&mut self, item: &Field<'_>, ports: &mut Ports) {
        let Some(text) = self.text(item) else { return };
        let (numbers, word) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (published, target) = match numbers.rsplit_once(':') {
            None => (None, numbers),
            Some((left, target)) => match left.rsplit_once(':') {
                None => (Some(left), target),
                Some((ip, published)) => {
                    self.host_ip(item, ip);
                    ((!published.is_empty()).then_some(published), target)
                }
            },
        };
        let parsed = (protocol(word), range(target), published.map(range));
        let (Some(protocol), Some(target), published @ (None | Some(Some(_)))) = parsed else {
            self.wrong_at(
                item,
                format!("\"{}\" is no port", shown(&text)),
                "",
                &format!("write for example {EXAMPLE}"),
            );
            return;
        };
        self.port_range(item, target, published.flatten(), protocol, ports);
    }

    fn port_range(
        &mut self,
        item: &Field<'_>,
        target: (u16, u16),
        published: Option<(u16, u16)>,
        protocol: Protocol,
        ports: &mut Ports,
    ) {
        let count = usize::from(target.1 - target.0) + 1;
        if count > PORTS_MAX {
            self.wrong_at(
                item,
                format!("{count} ports in one range"),
                &format!("a service has at most {PORTS_MAX}"),
                "publish fewer",
            );
            return;
        }
        let same = |p: (u16, u16)| usize::from(p.1 - p.0) + 1 == count;
        if count > 1 && published.is_some_and(|p| !same(p)) {
            self.wrong_at(
                item,
                "the two ranges differ in length",
                "which published port leads where must be told",
                "name as many published ports as container ports",
            );
            return;
        }
        if let Some(range) = published.filter(|p| !same(*p)) {
            let at = ports.all.len();
            ports.choices.push(PortChoice { at, range });
        }
        for i in 0..count as u16 {
            let port = PortSpec {
                target: target.0 + i,
                published: published.map(|p| p.0 + i),
                protocol,
            };
            // The same again says nothing, unless one of several is wanted once more.
            let chosen = ports
                .choices
                .last()
                .is_some_and(|c| c.at == ports.all.len());
            if chosen || ports.all.last() != Some(&port) {
                ports.all.push(port);
            }
        }
    }

    fn long_port(&mut self, item: &Field<'_>, ports: &mut Ports) {
        let (mut target, mut published, mut kind) = (None, None, Protocol::Tcp);
        for (key, value) in self.map(item) {
            match key {
                "target" => target = self.parsed(&value, range, "80"),
                "published" => published = self.parsed(&value, range, "8080"),
                "protocol" => {
                    kind = self.parsed(&value, protocol, "tcp or udp").unwrap_or(kind);
                }
                "host_ip" => {
                    if let Some(ip) = self.text(&value) {
                        self.host_ip(&value, &ip);
                    }
                }
                "name" | "app_protocol" => {}
                "mode" => {
                    if self.text(&value).is_some_and(|mode| mode != "ingress") {
                        self.warn_at(
                            &value,
                            "the mode has no effect",
                            "a published port leads to every ready replica",
                            "remove it",
                        );
                    }
                }
                _ if key.starts_with("x-") => {}
                _ => self.unknown(
                    &value,
                    key,
                    "target, published, protocol, host_ip, mode, name, app_protocol",
                ),
            }
        }
        match target {
            Some(target) => self.port_range(item, target, published, kind, ports),
            None => self.wrong_at(item, "target is missing", "", "add the container's port"),
        }
    }

    pub fn expose(&mut self, field: &Field<'_>) -> Vec<u16> {
        let mut ports = Vec::new();
        for item in self.list(field) {
            let Some(text) = self.text(&item) else {
                continue;
            };
            let (numbers, word) = text.split_once('/').unwrap_or((&text, "tcp"));
            match (range(numbers), protocol(word)) {
                (Some((first, last)), Some(protocol)) if usize::from(last - first) < PORTS_MAX => {
                    if protocol == Protocol::Udp {
                        self.warn_at(
                            &item,
                            "exposing a UDP port has no effect",
                            "services of the project reach each other on every port",
                            "publish it with ports: to reach it from outside",
                        );
                        continue;
                    }
                    ports.extend(first..=last);
                }
                _ => self.wrong_at(
                    &item,
                    format!("\"{}\" is no port", shown(&text)),
                    "",
                    "write for example \"3000\" or \"8000-8010\"",
                ),
            }
        }
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > PORTS_MAX {
            self.wrong_at(
                field,
                format!("more than {PORTS_MAX} ports"),
                "",
                "expose fewer",
            );
        }
        ports
    }
}
