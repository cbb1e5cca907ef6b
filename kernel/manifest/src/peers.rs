//! What a service says of others: `networks`, `depends_on`, `links`, `extra_hosts`, `dns…`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use types::DependencyCondition;

use crate::field::{Field, is_name};
use crate::problem::shown;
use crate::reader::Reader;

/// Names of one service in /etc/hosts.
const HOSTS_MAX: usize = 256;

/// A service that another one waits for.
pub(crate) struct Dependency {
    pub condition: DependencyCondition,
    /// It must be part of the project.
    pub required: bool,
    /// Who depends on it is started again when it is updated or restarted.
    pub restart: bool,
}

/// A name under which one service knows another.
pub(crate) struct Link {
    pub service: String,
    pub alias: Option<String>,
}

fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn condition(text: &str) -> Option<DependencyCondition> {
    Some(match text {
        "service_started" => DependencyCondition::ServiceStarted,
        "service_healthy" => DependencyCondition::ServiceHealthy,
        "service_completed_successfully" => DependencyCondition::ServiceCompletedSuccessfully,
        _ => return None,
    })
}

impl Reader {
    pub fn service_networks(&mut self, field: &Field<'_>) -> BTreeMap<String, Vec<String>> {
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

    pub fn depends_on(&mut self, field: &Field<'_>) -> BTreeMap<String, Dependency> {
        let started = || Dependency {
            condition: DependencyCondition::ServiceStarted,
            required: true,
            restart: false,
        };
        if field.is_list() {
            let names = self.texts(field).into_iter();
            return names.map(|name| (name, started())).collect();
        }
        let mut dependencies = BTreeMap::new();
        for (name, inner) in self.map_or_null(field) {
            let mut dependency = started();
            for (key, inner) in self.map_or_null(&inner) {
                match key {
                    "condition" => {
                        let example =
                            "service_started, service_healthy or service_completed_successfully";
                        if let Some(condition) = self.parsed(&inner, condition, example) {
                            dependency.condition = condition;
                        }
                    }
                    "restart" => dependency.restart = self.boolean(&inner).unwrap_or_default(),
                    "required" => dependency.required = self.boolean(&inner).unwrap_or(true),
                    _ => self.unknown(&inner, key, "condition, restart, required"),
                }
            }
            dependencies.insert(name.to_string(), dependency);
        }
        dependencies
    }

    /// `db`, `db:database`.
    pub fn links(&mut self, field: &Field<'_>) -> Vec<Link> {
        let mut links = Vec::new();
        for item in self.list(field) {
            let Some(text) = self.text(&item) else {
                continue;
            };
            let (service, alias) = match text.split_once(':') {
                Some((service, alias)) => (service, Some(alias)),
                None => (text.as_str(), None),
            };
            if !is_name(service) || !alias.is_none_or(is_name) {
                let what = format!("\"{}\" is no link", shown(&text));
                self.wrong_at(&item, what, "", "write for example db or db:database");
                continue;
            }
            links.push(Link {
                service: service.to_string(),
                alias: alias.map(str::to_string),
            });
        }
        links
    }

    /// `name=address` or `name:address` in a list, or `name: address` (also a list of them).
    pub fn extra_hosts(&mut self, field: &Field<'_>) -> BTreeMap<String, Vec<IpAddr>> {
        let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let mut pairs = Vec::new();
        if field.is_list() {
            for item in self.list(field) {
                let Some(text) = self.text(&item) else {
                    continue;
                };
                let (name, address) = match text.split_once('=') {
                    Some(pair) => pair,
                    None => text.split_once(':').unwrap_or((&text, "")),
                };
                pairs.push((item, name.to_string(), address.to_string()));
            }
        } else {
            for (name, item) in self.map_or_null(field) {
                for address in self.texts(&item) {
                    pairs.push((item.clone(), name.to_string(), address));
                }
            }
        }
        for (item, name, address) in pairs {
            if address == "host-gateway" {
                self.wrong_at(
                    &item,
                    "host-gateway is not supported",
                    "no container reaches the machine that it runs on",
                    "run what it should reach as a service, or name its public address",
                );
                continue;
            }
            let address = address.trim_matches(['[', ']']);
            match address.parse() {
                Ok(address) if is_host(&name) => hosts.entry(name).or_default().push(address),
                _ => self.wrong_at(
                    &item,
                    format!("\"{}\" = \"{}\" is no host", shown(&name), shown(address)),
                    "a name and an IP address are needed",
                    "write for example \"db.example.org=192.0.2.7\"",
                ),
            }
        }
        if hosts.values().map(Vec::len).sum::<usize>() > HOSTS_MAX {
            let what = format!("more than {HOSTS_MAX} hosts");
            self.wrong_at(field, what, "", "name fewer");
        }
        hosts
    }

    /// Domains that short names are looked for in.
    pub fn dns_search(&mut self, field: &Field<'_>) -> Vec<String> {
        let names = self.texts(field);
        self.few_words(field, &names, |n| n == "." || is_host(n), "example.org");
        names
    }

    /// Options of the resolver: `ndots:2`.
    pub fn dns_options(&mut self, field: &Field<'_>) -> Vec<String> {
        let options = self.texts(field);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_:".contains(&b);
        let good = |o: &str| !o.is_empty() && o.len() <= 64 && o.bytes().all(plain);
        self.few_words(field, &options, good, "ndots:2");
        options
    }

    fn few_words(
        &mut self,
        field: &Field<'_>,
        words: &[String],
        good: impl Fn(&str) -> bool,
        example: &str,
    ) {
        if words.len() > 6 || !words.iter().all(|w| good(w)) {
            self.wrong_at(
                field,
                "this cannot be read",
                "at most six plain words are taken",
                &format!("write for example {example}"),
            );
        }
    }
}
