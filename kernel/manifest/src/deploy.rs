//! `deploy`: resources, restarts, releases and placement.

use types::{
    HostFeature, PlacementConstraint, PlacementSpec, RestartPolicy, UpdateFailure, UpdateOrder,
    UpdatePolicy,
};

use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;
use crate::sizing::Sizing;
use crate::value;

const PAUSE_MS_MAX: u32 = 3_600_000;
const CONSTRAINTS_MAX: usize = 16;

impl Reader {
    pub fn deploy(&mut self, field: &Field<'_>, sizing: &mut Sizing) {
        for (key, inner) in self.map_or_null(field) {
            match key {
                "replicas" => {
                    let value = self.replica_count(&inner);
                    self.say(&inner, &mut sizing.replicas, value);
                }
                "mode" => {
                    if self.text(&inner).is_some_and(|mode| mode != "replicated") {
                        self.wrong_at(
                            &inner,
                            "only the mode replicated is supported",
                            "no service runs on every host of a public network",
                            "remove it and set replicas",
                        );
                    }
                }
                "resources" => self.deploy_resources(&inner, sizing),
                "restart_policy" => {
                    let value = self.restart_policy(&inner, sizing);
                    self.say(&inner, &mut sizing.restart, value);
                }
                "update_config" => sizing.update = Some(self.update_config(&inner)),
                "rollback_config" => {
                    sizing.rollback = Some(self.update_config(&inner));
                }
                "placement" => sizing.placement = Some(self.placement(&inner)),
                "endpoint_mode" => {
                    let modes = |t: &str| matches!(t, "vip" | "dnsrr").then(|| t.to_string());
                    let mode = self.parsed(&inner, modes, "dnsrr");
                    if mode.as_deref() == Some("vip") {
                        self.warn_at(
                            &inner,
                            "there is no virtual address",
                            "a service's name stands for its ready replicas, as with dnsrr",
                            "write dnsrr, or remove it",
                        );
                    }
                }
                "labels" => self.warn_at(
                    &inner,
                    "labels of the deployment have no effect",
                    "",
                    "put them under the service's labels:",
                ),
                "x-runrig" => self.extension(&inner, sizing),
                _ if key.starts_with("x-") => {}
                _ => self.unknown(
                    &inner,
                    key,
                    "replicas, mode, resources, restart_policy, update_config, rollback_config, placement, endpoint_mode, labels",
                ),
            }
        }
    }

    fn deploy_resources(&mut self, field: &Field<'_>, sizing: &mut Sizing) {
        for (part, inner) in self.map_or_null(field) {
            let is_limit = match part {
                "limits" => true,
                "reservations" => false,
                _ => {
                    self.unknown(&inner, part, "limits, reservations");
                    continue;
                }
            };
            for (key, inner) in self.map_or_null(&inner) {
                match key {
                    "cpus" => {
                        let value = self.cores(&inner);
                        let slot = match is_limit {
                            true => &mut sizing.cpu,
                            false => &mut sizing.cpu_reserved,
                        };
                        self.say(&inner, slot, value);
                    }
                    "memory" => {
                        let value = self.memory(&inner);
                        let slot = match is_limit {
                            true => &mut sizing.memory,
                            false => &mut sizing.memory_reserved,
                        };
                        self.say(&inner, slot, value);
                    }
                    "pids" if is_limit => {
                        let value = self.pids(&inner);
                        self.say(&inner, &mut sizing.pids, value);
                    }
                    "devices" | "generic_resources" => self.wrong_at(
                        &inner,
                        format!("{key} is not supported yet"),
                        "hosts offer cores, memory, disk and bandwidth",
                        "remove it",
                    ),
                    _ => self.unknown(&inner, key, "cpus, memory, pids"),
                }
            }
        }
    }

    fn restart_policy(&mut self, field: &Field<'_>, sizing: &mut Sizing) -> Option<RestartPolicy> {
        let (mut condition, mut attempts) = (Some("any".to_string()), 0);
        for (key, inner) in self.map_or_null(field) {
            match key {
                "condition" => condition = self.text(&inner),
                "max_attempts" => {
                    attempts = self.whole_number(&inner, "3").unwrap_or_default();
                }
                "delay" => {
                    let ms = self.parsed(&inner, value::duration_ms, "5s");
                    let bounds = "the wait between two starts is at most an hour";
                    sizing.restart_delay_ms = self.within(&inner, ms, 0, PAUSE_MS_MAX, bounds);
                }
                "window" => {
                    let ms = self.parsed(&inner, value::duration_ms, "2m");
                    let bounds = "the time that counts as a good start is at most an hour";
                    sizing.restart_window_ms = self.within(&inner, ms, 0, PAUSE_MS_MAX, bounds);
                }
                _ => self.unknown(&inner, key, "condition, max_attempts, delay, window"),
            }
        }
        match condition.as_deref()? {
            "none" => Some(RestartPolicy::No),
            "on-failure" => Some(RestartPolicy::OnFailure(attempts)),
            "any" => {
                if attempts > 0 {
                    self.warn_at(
                        field,
                        "max_attempts has no effect with the condition any",
                        "such a service is started again without end",
                        "use the condition on-failure",
                    );
                }
                Some(RestartPolicy::Always)
            }
            _ => {
                self.wrong_at(
                    field,
                    "the condition is not known",
                    "known are none, on-failure and any",
                    "correct it",
                );
                None
            }
        }
    }

    fn update_config(&mut self, field: &Field<'_>) -> UpdatePolicy {
        let mut update = UpdatePolicy::default();
        for (key, inner) in self.map_or_null(field) {
            match key {
                "parallelism" => {
                    let count = self.whole_number(&inner, "1 (0: all at once)");
                    update.parallelism = count.unwrap_or(update.parallelism);
                }
                "delay" | "monitor" => {
                    let ms = self.parsed(&inner, value::duration_ms, "10s");
                    let bounds = "it is at most an hour";
                    let ms = self.within(&inner, ms, 0, PAUSE_MS_MAX, bounds);
                    match key {
                        "delay" => update.delay_ms = ms.unwrap_or_default(),
                        _ => update.monitor_ms = ms.or(update.monitor_ms),
                    }
                }
                "failure_action" => {
                    let parse = |text: &str| match text {
                        "rollback" => Some(UpdateFailure::Rollback),
                        "pause" => Some(UpdateFailure::Pause),
                        "continue" => Some(UpdateFailure::Continue),
                        _ => None,
                    };
                    let example = "rollback, pause or continue";
                    let action = self.parsed(&inner, parse, example);
                    update.on_failure = action.unwrap_or(update.on_failure);
                }
                "order" => {
                    let parse = |text: &str| match text {
                        "start-first" => Some(UpdateOrder::StartFirst),
                        "stop-first" => Some(UpdateOrder::StopFirst),
                        _ => None,
                    };
                    let order = self.parsed(&inner, parse, "start-first or stop-first");
                    update.order = order.unwrap_or(update.order);
                }
                "max_failure_ratio" => {
                    // A part of one, in thousandths.
                    let ratio = self.parsed(&inner, value::cpu_millis, "0.1");
                    let bounds = "it is 0 to 1: a part of the replicas";
                    let ratio = self.within(&inner, ratio, 0, 1_000, bounds);
                    update.failures_permille = ratio.unwrap_or_default() as u16;
                }
                _ => self.unknown(
                    &inner,
                    key,
                    "parallelism, delay, monitor, failure_action, order, max_failure_ratio",
                ),
            }
        }
        update
    }

    fn placement(&mut self, field: &Field<'_>) -> PlacementSpec {
        let mut placement = PlacementSpec::default();
        for (key, inner) in self.map_or_null(field) {
            match key {
                "constraints" => {
                    for item in self.list(&inner).iter().take(CONSTRAINTS_MAX) {
                        placement.constraints.extend(self.constraint(item));
                    }
                }
                "max_replicas_per_node" => {
                    let count = self.whole_number(&inner, "1");
                    placement.replicas_per_host_max = count.unwrap_or_default();
                }
                "preferences" => {
                    for item in self.list(&inner).iter().take(CONSTRAINTS_MAX) {
                        placement.spread_regions |= self.preference(item);
                    }
                }
                _ => self.unknown(
                    &inner,
                    key,
                    "constraints, max_replicas_per_node, preferences",
                ),
            }
        }
        placement
    }

    /// `spread: node.labels.region`; hosts and their owners are spread over anyway.
    fn preference(&mut self, item: &Field<'_>) -> bool {
        for (key, inner) in self.map(item) {
            if key != "spread" {
                self.unknown(&inner, key, "spread");
                continue;
            }
            match self.text(&inner).as_deref() {
                Some("node.labels.region") => return true,
                Some("node.id" | "node.hostname") | None => {}
                // No host has such a label, so all are alike in it.
                Some(other) => self.warn_at(
                    &inner,
                    format!("{} spreads nothing", shown(other)),
                    "hosts are known by node.labels.region and node.id",
                    "write spread: node.labels.region",
                ),
            }
        }
        false
    }

    /// `node.labels.region == eu`.
    fn constraint(&mut self, item: &Field<'_>) -> Option<PlacementConstraint> {
        let text = self.text(item)?;
        let (equal, pair) = match text.split_once("==") {
            Some(pair) => (true, Some(pair)),
            None => (false, text.split_once("!=")),
        };
        let (name, value) = pair.map_or(("", ""), |(name, value)| (name.trim(), value.trim()));
        let short = !value.is_empty() && value.len() <= 64;
        let of = match name {
            "node.labels.region" => HostFeature::Region,
            "node.platform.arch" => HostFeature::Architecture,
            "node.id" => HostFeature::Host,
            "node.labels.builds" => HostFeature::Builds,
            "node.role" if short => {
                self.warn_at(
                    item,
                    "node.role has no effect",
                    "every host does the same work",
                    "remove it",
                );
                return None;
            }
            "node.platform.os" if equal && value == "linux" => return None,
            _ => {
                self.wrong_at(
                    item,
                    format!("\"{}\" cannot be asked for", shown(&text)),
                    "hosts are known by node.labels.region, node.platform.arch and node.id",
                    "write for example node.labels.region == eu",
                );
                return None;
            }
        };
        if !short {
            let next = "write for example node.labels.region == eu";
            self.wrong_at(item, "a value is missing, or too long", "", next);
            return None;
        }
        let value = match (of, value) {
            (HostFeature::Architecture, "x86_64") => "amd64",
            (HostFeature::Architecture, "aarch64") => "arm64",
            (_, value) => value,
        };
        Some(PlacementConstraint {
            of,
            equal,
            value: value.to_string(),
        })
    }
}
