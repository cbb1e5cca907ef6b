//! How much a service gets: resources, replicas, and when it is started again.
//!
//! Compose can say each in two places; saying it twice differently is an error.

use types::{Resources, RestartPolicy};

use crate::field::Field;
use crate::project::RESOURCES;
use crate::reader::Reader;
use crate::{refused, value};

const CPU_MILLIS_MAX: u32 = 256_000;
const MEMORY_MIN: u64 = 4 << 20;
const MEMORY_MAX: u64 = 4 << 40;
const DISK_MAX: u64 = 64 << 40;
const BANDWIDTH_MAX: u32 = 100_000_000;
const PIDS_MAX: u32 = 100_000;
const REPLICAS_MAX: u32 = 1_000;

/// What has been said so far.
#[derive(Default)]
pub(crate) struct Sizing {
    cpu: Option<u32>,
    cpu_reserved: Option<u32>,
    memory: Option<u64>,
    memory_reserved: Option<u64>,
    pids: Option<u32>,
    disk: Option<u64>,
    bandwidth: Option<u32>,
    replicas: Option<u32>,
    restart: Option<RestartPolicy>,
}

impl Sizing {
    /// The limit counts, else the reservation: what is reserved is what may be used.
    pub fn resources(&self) -> Resources {
        Resources {
            cpu_millis: self
                .cpu
                .or(self.cpu_reserved)
                .unwrap_or(RESOURCES.cpu_millis),
            memory_bytes: self
                .memory
                .or(self.memory_reserved)
                .unwrap_or(RESOURCES.memory_bytes),
            disk_bytes: self.disk.unwrap_or(RESOURCES.disk_bytes),
            bandwidth_kbps: self.bandwidth.unwrap_or(RESOURCES.bandwidth_kbps),
        }
    }

    pub fn pids(&self) -> Option<u32> {
        self.pids
    }

    pub fn replicas(&self) -> Option<u32> {
        self.replicas
    }

    pub fn restart(&self) -> Option<RestartPolicy> {
        self.restart
    }
}

fn restart(text: &str) -> Option<RestartPolicy> {
    Some(match text {
        "no" | "false" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure(0),
        _ => RestartPolicy::OnFailure(text.strip_prefix("on-failure:")?.parse().ok()?),
    })
}

impl Reader<'_> {
    fn say<T: PartialEq>(&mut self, field: &Field<'_>, slot: &mut Option<T>, value: Option<T>) {
        let Some(value) = value else { return };
        if slot.as_ref().is_some_and(|said| *said != value) {
            self.wrong_at(
                field,
                "this is said in two places, differently",
                "one of them would be ignored",
                "keep one",
            );
        }
        *slot = Some(value);
    }

    fn within<T: PartialOrd + Copy>(
        &mut self,
        field: &Field<'_>,
        value: Option<T>,
        least: T,
        most: T,
        bounds: &str,
    ) -> Option<T> {
        let value = value?;
        if value < least || value > most {
            self.wrong_at(field, "the value is out of bounds", bounds, "change it");
            return None;
        }
        Some(value)
    }

    fn cores(&mut self, field: &Field<'_>) -> Option<u32> {
        let millis = self.parsed(field, value::cpu_millis, "0.5");
        self.within(
            field,
            millis,
            1,
            CPU_MILLIS_MAX,
            "cores are above 0 (there is no \"unlimited\") and at most 256",
        )
    }

    fn memory(&mut self, field: &Field<'_>) -> Option<u64> {
        let bytes = self.parsed(field, value::bytes, "256m");
        self.within(
            field,
            bytes,
            MEMORY_MIN,
            MEMORY_MAX,
            "memory is 4 MiB to 4 TiB (there is no \"unlimited\")",
        )
    }

    fn pids(&mut self, field: &Field<'_>) -> Option<u32> {
        let pids = self.whole_number(field, "512");
        self.within(
            field,
            pids,
            1,
            PIDS_MAX,
            "pids are 1 to 100000 (there is no \"unlimited\")",
        )
    }

    /// Takes `field` if it is one of a service's keys about size.
    pub fn sizing(&mut self, key: &str, field: &Field<'_>, sizing: &mut Sizing) -> bool {
        match key {
            "cpus" => {
                let value = self.cores(field);
                self.say(field, &mut sizing.cpu, value);
            }
            "mem_limit" => {
                let value = self.memory(field);
                self.say(field, &mut sizing.memory, value);
            }
            "mem_reservation" => {
                let value = self.memory(field);
                self.say(field, &mut sizing.memory_reserved, value);
            }
            "pids_limit" => {
                let value = self.pids(field);
                self.say(field, &mut sizing.pids, value);
            }
            "scale" => {
                let value = self.replica_count(field);
                self.say(field, &mut sizing.replicas, value);
            }
            "restart" => {
                let value = self.parsed(field, restart, "always, unless-stopped or on-failure:3");
                self.say(field, &mut sizing.restart, value);
            }
            "deploy" => self.deploy(field, sizing),
            "x-runrig" => self.extension(field, sizing),
            _ => return false,
        }
        true
    }

    /// Says what of two figures counts.
    pub fn sizing_done(&mut self, field: &Field<'_>, sizing: &Sizing) {
        let differ = (sizing.cpu.is_some()
            && sizing.cpu_reserved.is_some_and(|r| Some(r) != sizing.cpu))
            || (sizing.memory.is_some()
                && sizing
                    .memory_reserved
                    .is_some_and(|r| Some(r) != sizing.memory));
        if differ {
            self.warn_at(
                field,
                "limit and reservation differ: the limit is reserved, and paid for",
                "a replica is sure of all that it may use",
                "remove the reservation",
            );
        }
    }

    fn replica_count(&mut self, field: &Field<'_>) -> Option<u32> {
        let count = self.whole_number(field, "2");
        self.within(field, count, 0, REPLICAS_MAX, "replicas are 0 to 1000")
    }

    fn deploy(&mut self, field: &Field<'_>, sizing: &mut Sizing) {
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
                    let value = self.restart_policy(&inner);
                    self.say(&inner, &mut sizing.restart, value);
                }
                "labels" => self.warn_at(
                    &inner,
                    "labels of the deployment have no effect",
                    "",
                    "put them under the service's labels:",
                ),
                _ if key.starts_with("x-") => {}
                _ => match refused::deploy_key(key) {
                    Some((why, next)) => {
                        self.wrong_at(&inner, format!("{key} is not supported"), why, next);
                    }
                    None => self.unknown(
                        &inner,
                        key,
                        "replicas, mode, resources, restart_policy, labels",
                    ),
                },
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

    fn restart_policy(&mut self, field: &Field<'_>) -> Option<RestartPolicy> {
        let (mut condition, mut attempts) = (Some("any".to_string()), 0);
        for (key, inner) in self.map_or_null(field) {
            match key {
                "condition" => condition = self.text(&inner),
                "max_attempts" => {
                    attempts = self.whole_number(&inner, "3").unwrap_or_default();
                }
                "delay" | "window" => self.warn_at(
                    &inner,
                    format!("{key} has no effect"),
                    "the wait between two starts doubles from a tenth of a second to a minute",
                    "remove it",
                ),
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

    fn extension(&mut self, field: &Field<'_>, sizing: &mut Sizing) {
        for (key, inner) in self.map_or_null(field) {
            match key {
                "disk" => {
                    let bytes = self.parsed(&inner, value::bytes, "1GiB");
                    sizing.disk = self.within(
                        &inner,
                        bytes,
                        1,
                        DISK_MAX,
                        "disk is above 0 and at most 64 TiB",
                    );
                }
                "bandwidth" => {
                    let rate = self.parsed(&inner, value::kilobits, "10mbit");
                    sizing.bandwidth = self.within(
                        &inner,
                        rate,
                        1,
                        BANDWIDTH_MAX,
                        "bandwidth is 1 kbit to 100 gbit per second",
                    );
                }
                _ => self.unknown(&inner, key, "disk, bandwidth"),
            }
        }
    }
}
