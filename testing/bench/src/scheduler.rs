//! Placement decisions per second on synthetic fleets, on one core.
//!
//! The fleet is filled to its load once, untimed, by placements too (the largest ones only in
//! part: most of their load is there from the start); then replicas come and go at that load
//! and each decision is timed: find a host, reserve it. Giving back is not.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ::scheduler::{Fleet, HostEntry, Request};
use types::{AccountId, Digest, HostId, Resources};

use crate::figure::{Bound, Figure, Found, milliseconds};

/// Decisions timed per fleet.
const DECISIONS: usize = 200_000;
/// Share of the fleet's CPU in use, in percent.
const LOAD: u64 = 90;
/// Hosts that are filled by placements alone; of a larger fleet as large a part of the load is
/// placed.
const HOSTS_FILLED: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq)]
struct SchedulerFigure {
    /// Replicas that ran while it was measured.
    running: usize,
    decisions: usize,
    /// How many of them found no host.
    refused: usize,
    /// Per second of one core, reservation included.
    per_second: u64,
    p99: Duration,
}

/// Same sequence on every machine.
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.next() % choices.len() as u64) as usize]
    }
}

fn id(kind: u8, n: u64) -> HostId {
    let mut bytes = [kind; 20];
    bytes[1..9].copy_from_slice(&n.to_be_bytes());
    AccountId(bytes)
}

/// A machine of 4 to 128 cores, one of about three of its owner.
fn host(hosts: usize, lot: &mut Lot) -> HostEntry {
    let cores = lot.of(&[4u32, 8, 8, 16, 16, 32, 64, 128]);
    let gib_per_core = lot.of(&[2u64, 4, 4, 8]);
    let capacity = Resources {
        cpu_millis: cores * 1000,
        memory_bytes: (u64::from(cores) * gib_per_core) << 30,
        disk_bytes: (u64::from(cores) * 50) << 30,
        bandwidth_kbps: lot.of(&[1_000_000, 10_000_000]),
    };
    HostEntry {
        owner: id(2, lot.next() % (hosts as u64 / 3).max(1)),
        machine: Digest::default(),
        architecture: lot.of(&["amd64", "amd64", "amd64", "arm64"]).into(),
        region: String::new(),
        builds: false,
        capacity,
        free: background(capacity, hosts as u64, lot),
        price_multiplier_milli: lot.of(&[800, 1000, 1000, 1200, 1500]),
        available: true,
        good_ms: lot.of(&[0u64, 10, 100]) * 3_600_000,
        bad_ms: lot.of(&[0u64, 0, 1]) * 3_600_000,
    }
}

/// What a host of a large fleet has free before anything is placed.
fn background(capacity: Resources, hosts: u64, lot: &mut Lot) -> Resources {
    if hosts <= HOSTS_FILLED {
        return capacity;
    }
    let used = LOAD * 10 - LOAD * 10 * HOSTS_FILLED / hosts;
    let permille = 1000 - (used - 100 + lot.next() % 201).min(1000);
    Resources {
        cpu_millis: (u64::from(capacity.cpu_millis) * permille / 1000) as u32,
        memory_bytes: capacity.memory_bytes / 1000 * permille,
        ..capacity
    }
}

/// The hosts, the CPU in use and all there is.
fn fleet(hosts: usize, lot: &mut Lot) -> (Fleet, u64, u64) {
    let mut fleet = Fleet::new(lot.next());
    let (mut used, mut all) = (0, 0);
    for n in 0..hosts as u64 {
        let entry = host(hosts, lot);
        all += u64::from(entry.capacity.cpu_millis);
        used += u64::from(entry.capacity.cpu_millis - entry.free.cpu_millis);
        fleet.set(id(1, n), entry);
    }
    (fleet, used, all)
}

fn request(lot: &mut Lot) -> Request {
    let cpu_millis = lot.of(&[100, 250, 500, 500, 1000, 1000, 2000, 4000]);
    Request {
        resources: Resources {
            cpu_millis,
            memory_bytes: (u64::from(cpu_millis) * lot.of(&[1, 2, 2, 4, 4])) << 20,
            disk_bytes: lot.of(&[1u64, 2, 10]) << 30,
            bandwidth_kbps: lot.of(&[1_000, 10_000]),
        },
        architecture: Some(lot.of(&["amd64", "amd64", "amd64", "arm64"]).into()),
        ..Request::default()
    }
}

fn measure(hosts: usize) -> SchedulerFigure {
    let mut lot = Lot(hosts as u64);
    let (mut fleet, mut used, cpu_all) = fleet(hosts, &mut lot);
    let mut running: VecDeque<(HostId, Resources)> = VecDeque::new();
    let mut refused = 0;
    while used * 100 < cpu_all * LOAD && refused < 100 {
        let request = request(&mut lot);
        match fleet.place(&request, 1) {
            Ok(placement) if fleet.reserve(&placement.host, &request.resources) => {
                used += u64::from(request.resources.cpu_millis);
                running.push_back((placement.host, request.resources));
            }
            _ => refused += 1,
        }
    }
    let requests: Vec<Request> = (0..DECISIONS).map(|_| request(&mut lot)).collect();
    let mut times = Vec::with_capacity(DECISIONS);
    let mut refused = 0;
    for request in &requests {
        let started = Instant::now();
        let placed = fleet.place(request, 2);
        let kept = match &placed {
            Ok(placement) => fleet.reserve(&placement.host, &request.resources),
            Err(_) => false,
        };
        times.push(started.elapsed());
        match placed {
            Ok(placement) => {
                if kept {
                    used += u64::from(request.resources.cpu_millis);
                    running.push_back((placement.host, request.resources));
                }
            }
            Err(_) => refused += 1,
        }
        while used * 100 > cpu_all * LOAD {
            // Not the oldest: leases end in no order.
            let at = (lot.next() % running.len() as u64) as usize;
            let Some((host, resources)) = running.swap_remove_back(at) else {
                break;
            };
            fleet.release(&host, &resources);
            used -= u64::from(resources.cpu_millis);
        }
    }
    let spent: Duration = times.iter().sum();
    times.sort_unstable();
    SchedulerFigure {
        running: running.len(),
        decisions: times.len(),
        refused,
        per_second: (times.len() as f64 / spent.as_secs_f64()) as u64,
        p99: times[times.len() * 99 / 100],
    }
}

/// Fleets of 10,000, 100,000 and a million hosts, on the calling thread.
pub fn scheduler(rounds: usize) -> Found {
    let mut figures = Vec::new();
    for hosts in [10_000, 100_000, 1_000_000] {
        // A million hosts take half a minute to fill.
        let rounds = if hosts > 100_000 { 1 } else { rounds };
        let all: Vec<SchedulerFigure> = (0..rounds).map(|_| measure(hosts)).collect();
        let figure = |what: &str, unit, pick: fn(&SchedulerFigure) -> f64| {
            let rounds = all.iter().map(pick).collect();
            Figure::of("scheduler", format!("{what}, {hosts} hosts"), unit, rounds)
        };
        let rate = figure("decisions on one core", "1/s", |f| f.per_second as f64);
        figures.extend(rate.map(|f| match hosts {
            100_000 => f.goal(Bound::AtLeast(200_000.0)),
            _ => f,
        }));
        figures.extend(figure("p99 of a decision", "µs", |f| {
            milliseconds(f.p99) * 1e3
        }));
    }
    Found {
        figures,
        left_out: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_takes_its_load() {
        let figure = measure(200);
        assert_eq!(figure.decisions, DECISIONS);
        assert!(figure.running > 200, "{figure:?}");
        assert!(figure.refused * 10 < figure.decisions, "{figure:?}");
    }
}
