//! `ports` and `expose`.

use types::{PortSpec, Protocol};

use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;

/// Of one service.
pub(crate) const PORTS_MAX: usize = 256;
const EXAMPLE: &str = "\"8080:80\", \"80\", \"53:53/udp\" or \"3000-3002:3000-3002\"";

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
    pub fn ports(&mut self, field: &Field<'_>) -> Vec<PortSpec> {
        let mut ports = Vec::new();
        for item in self.list(field) {
            let before = ports.len();
            if item.is_map() {
                self.long_port(&item, &mut ports);
            } else {
                self.short_port(&item, &mut ports);
            }
            if ports.len() > PORTS_MAX {
                ports.truncate(before);
                self.wrong_at(
                    &item,
                    format!("more than {PORTS_MAX} ports"),
                    "",
                    "publish fewer",
                );
                break;
            }
        }
        ports.dedup();
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

    fn short_port(&mut self, item: &Field<'_>, ports: &mut Vec<PortSpec>) {
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
        ports: &mut Vec<PortSpec>,
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
        if published.is_some_and(|p| usize::from(p.1 - p.0) + 1 != count) {
            self.wrong_at(
                item,
                "the two ranges differ in length",
                "which published port leads where must be told",
                "name as many published ports as container ports",
            );
            return;
        }
        ports.extend((0..count as u16).map(|i| PortSpec {
            target: target.0 + i,
            published: published.map(|p| p.0 + i),
            protocol,
        }));
    }

    fn long_port(&mut self, item: &Field<'_>, ports: &mut Vec<PortSpec>) {
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
