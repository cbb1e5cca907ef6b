//! How much a service gets: resources, replicas, and when it is started again.
//!
//! Compose can say each in two places; saying it twice differently is an error.

use types::{AutoscaleSpec, PlacementSpec, RestartPolicy, ScaleTarget, ServiceSpec, UpdatePolicy};

use crate::field::Field;
use crate::reader::Reader;
use crate::value;

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
    pub cpu: Option<u32>,
    pub cpu_reserved: Option<u32>,
    pub memory: Option<u64>,
    pub memory_reserved: Option<u64>,
    pub pids: Option<u32>,
    disk: Option<u64>,
    bandwidth: Option<u32>,
    pub replicas: Option<u32>,
    autoscale: Option<AutoscaleSpec>,
    pub restart: Option<RestartPolicy>,
    pub restart_delay_ms: Option<u32>,
    pub restart_window_ms: Option<u32>,
    pub update: Option<UpdatePolicy>,
    pub rollback: Option<UpdatePolicy>,
    pub placement: Option<PlacementSpec>,
    /// `cpu_quota` and `cpu_period`, in microseconds.
    quota: (Option<u32>, Option<u32>),
}

impl Sizing {
    /// What was said replaces what `spec` has. The limit counts, else the reservation: what is
    /// reserved is what may be used.
    pub fn give(self, spec: &mut ServiceSpec) {
        fn set<T>(slot: &mut T, said: Option<T>) {
            if let Some(said) = said {
                *slot = said;
            }
        }
        let resources = &mut spec.resources;
        set(&mut resources.cpu_millis, self.cpu.or(self.cpu_reserved));
        set(
            &mut resources.memory_bytes,
            self.memory.or(self.memory_reserved),
        );
        set(&mut resources.disk_bytes, self.disk);
        set(&mut resources.bandwidth_kbps, self.bandwidth);
        set(&mut spec.pids, self.pids);
        // Where nobody says how many to begin with, it begins with the fewest that can serve.
        let least = self.autoscale.map(|a| a.min.max(1));
        set(&mut spec.replicas, self.replicas.or(least));
        spec.autoscale = self.autoscale.or(spec.autoscale);
        set(&mut spec.restart, self.restart);
        set(&mut spec.restart_delay_ms, self.restart_delay_ms);
        set(&mut spec.restart_window_ms, self.restart_window_ms);
        set(&mut spec.update, self.update);
        spec.rollback = self.rollback;
        set(&mut spec.placement, self.placement);
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

impl Reader {
    pub fn say<T: PartialEq>(&mut self, field: &Field<'_>, slot: &mut Option<T>, value: Option<T>) {
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

    pub fn within<T: PartialOrd + Copy>(
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

    pub fn cores(&mut self, field: &Field<'_>) -> Option<u32> {
        let millis = self.parsed(field, value::cpu_millis, "0.5");
        self.within(
            field,
            millis,
            1,
            CPU_MILLIS_MAX,
            "cores are above 0 (there is no \"unlimited\") and at most 256",
        )
    }

    pub fn memory(&mut self, field: &Field<'_>) -> Option<u64> {
        let bytes = self.parsed(field, value::bytes, "256m");
        self.within(
            field,
            bytes,
            MEMORY_MIN,
            MEMORY_MAX,
            "memory is 4 MiB to 4 TiB (there is no \"unlimited\")",
        )
    }

    pub fn pids(&mut self, field: &Field<'_>) -> Option<u32> {
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
            "cpu_quota" => sizing.quota.0 = self.whole_number(field, "50000"),
            "cpu_period" => sizing.quota.1 = self.whole_number(field, "100000"),
            "storage_opt" => {
                for (key, inner) in self.map_or_null(field) {
                    match key {
                        "size" => {
                            let value = self.disk(&inner);
                            self.say(&inner, &mut sizing.disk, value);
                        }
                        _ => self.unknown(&inner, key, "size"),
                    }
                }
            }
            "x-runrig" => self.extension(field, sizing),
            _ => return false,
        }
        true
    }

    /// Says what of two figures counts.
    pub fn sizing_done(&mut self, field: &Field<'_>, sizing: &mut Sizing) {
        if let (Some(quota), period) = sizing.quota {
            let period = u64::from(period.unwrap_or(100_000).max(1));
            let millis = (u64::from(quota) * 1_000).div_ceil(period);
            let millis = u32::try_from(millis).ok();
            let bounds = "cpu_quota is above 0 and at most 256 times cpu_period";
            let millis = self.within(field, millis.or(Some(u32::MAX)), 1, CPU_MILLIS_MAX, bounds);
            self.say(field, &mut sizing.cpu, millis);
        }
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

    pub fn replica_count(&mut self, field: &Field<'_>) -> Option<u32> {
        let count = self.whole_number(field, "2");
        self.within(field, count, 0, REPLICAS_MAX, "replicas are 0 to 1000")
    }

    fn disk(&mut self, field: &Field<'_>) -> Option<u64> {
        let bytes = self.parsed(field, value::bytes, "1GiB");
        let bounds = "disk is above 0 and at most 64 TiB";
        self.within(field, bytes, 1, DISK_MAX, bounds)
    }

    pub fn extension(&mut self, field: &Field<'_>, sizing: &mut Sizing) {
        for (key, inner) in self.map_or_null(field) {
            match key {
                "disk" => {
                    let value = self.disk(&inner);
                    self.say(&inner, &mut sizing.disk, value);
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
                "autoscale" => {
                    let value = self.autoscale(&inner);
                    self.say(&inner, &mut sizing.autoscale, value);
                }
                _ => self.unknown(&inner, key, "disk, bandwidth, autoscale"),
            }
        }
    }

    /// `{ min: 0, max: 5, requests: 20 }`.
    fn autoscale(&mut self, field: &Field<'_>) -> Option<AutoscaleSpec> {
        let (mut min, mut max, mut target) = (None, None, None);
        let mut idle_ms = AutoscaleSpec::IDLE_MS;
        for (key, inner) in self.map(field) {
            match key {
                "min" => min = self.replica_count(&inner),
                "max" => max = self.replica_count(&inner),
                "cpu" | "requests" if target.is_some() => self.wrong_at(
                    &inner,
                    "two targets are given",
                    "the number of replicas follows from one",
                    "keep cpu or requests",
                ),
                "cpu" => target = self.parsed(&inner, cpu_target, "70%"),
                "requests" => target = self.parsed(&inner, request_target, "20, or 100/s"),
                "idle" => {
                    let ms = self.parsed(&inner, value::duration_ms, "60s");
                    idle_ms = ms.unwrap_or(idle_ms);
                }
                _ => self.unknown(&inner, key, "min, max, cpu, requests, idle"),
            }
        }
        let Some(max) = max else {
            let why = "without a bound it could cost any amount";
            self.wrong_at(field, "max is missing", why, "write for example max: 5");
            return None;
        };
        let spec = AutoscaleSpec {
            min: min.unwrap_or(1),
            max,
            target: target.unwrap_or_default(),
            idle_ms,
        };
        if let Some(fault) = spec.fault() {
            self.wrong_at(field, fault, "", "change it");
            return None;
        }
        Some(spec)
    }
}

/// `70`, `70%`.
pub fn cpu_target(text: &str) -> Option<ScaleTarget> {
    let number = text.strip_suffix('%').unwrap_or(text);
    Some(ScaleTarget::Cpu(number.trim().parse().ok()?))
}

/// `20` at once, `100/s`.
pub fn request_target(text: &str) -> Option<ScaleTarget> {
    Some(match text.strip_suffix("/s") {
        Some(rate) => ScaleTarget::RequestsPerSecond(rate.trim().parse().ok()?),
        None => ScaleTarget::Requests(text.parse().ok()?),
    })
}
