use proptest::prelude::*;
use types::{AccountId, Digest, HostId, Resources};

use crate::{Fleet, HostEntry, Request};

fn id(n: u16) -> HostId {
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    AccountId(bytes)
}

fn resources(n: u64) -> Resources {
    Resources {
        cpu_millis: (n * 37) as u32,
        memory_bytes: n * (50 << 20),
        disk_bytes: n * (700 << 20),
        bandwidth_kbps: (n * 900) as u32,
    }
}

fn entry(owner: u16, capacity: u64, free: u64, available: bool) -> HostEntry {
    HostEntry {
        owner: id(owner),
        machine: Digest::default(),
        architecture: "amd64".into(),
        region: String::new(),
        builds: false,
        capacity: resources(capacity),
        free: resources(free.min(capacity)),
        price_multiplier_milli: 1000,
        available,
        good_ms: 0,
        bad_ms: 0,
    }
}

prop_compose! {
    fn hosts()(list in prop::collection::vec((0u16..8, 1u64..200, 0u64..200, any::<bool>()), 0..40)) -> Vec<HostEntry> {
        list.into_iter()
            .map(|(o, c, f, a)| HostEntry {
                architecture: ["amd64", "arm64", "riscv64", "s390x"][(f % 4) as usize].into(),
                ..entry(o, c, f, a)
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn finds_a_fit_exactly_when_there_is_one(
        hosts in hosts(), ask in 1u64..150, avoid in prop::collection::btree_set(0u16..40, 0..10),
        owners in prop::collection::btree_set(0u16..8, 0..5), seed in any::<u64>(),
        architecture in prop::option::of(prop::sample::select(vec!["amd64", "arm64", "s390x"])),
    ) {
        let mut fleet = Fleet::new(seed);
        for (n, host) in hosts.iter().enumerate() {
            fleet.set(id(n as u16), host.clone());
        }
        let request = Request {
            resources: resources(ask),
            architecture: architecture.map(String::from),
            avoid_hosts: avoid.into_iter().map(id).collect(),
            avoid_owners: owners.into_iter().map(id).collect(),
            ..Request::default()
        };
        let feasible = |n: usize, host: &HostEntry| {
            host.available
                && architecture.is_none_or(|wanted| wanted == host.architecture)
                && request.resources.fits_in(&host.free)
                && !request.avoid_hosts.contains(&id(n as u16))
                && !request.avoid_owners.contains(&host.owner)
        };
        let exists = hosts.iter().enumerate().any(|(n, h)| feasible(n, h));
        match fleet.place(&request, 1) {
            Ok(placement) => {
                let n = (0..hosts.len()).find(|n| id(*n as u16) == placement.host).expect("known");
                prop_assert!(feasible(n, &hosts[n]));
                prop_assert_eq!(placement.reason.candidates[0].host, placement.host);
                let best = &placement.reason.candidates[0];
                prop_assert_eq!(best.score, best.terms.iter().map(|t| t.value * t.weight).sum::<i64>());
            }
            Err(none) => {
                prop_assert!(!exists);
                let counted: u32 = none.reason.dropped.iter().map(|d| d.hosts).sum();
                prop_assert_eq!(counted as usize, hosts.len());
            }
        }
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(hosts in hosts(), ask in 1u64..50, seed in any::<u64>()) {
        let mut forth = Fleet::new(seed);
        let mut back = Fleet::new(seed);
        for (n, host) in hosts.iter().enumerate() {
            forth.set(id(n as u16), host.clone());
        }
        for (n, host) in hosts.iter().enumerate().rev() {
            back.set(id(n as u16), entry(1, 1, 1, true));
            back.set(id(n as u16), host.clone());
        }
        let request = Request { resources: resources(ask), ..Request::default() };
        for _ in 0..20 {
            let (a, b) = (forth.place(&request, 1), back.place(&request, 1));
            prop_assert_eq!(&a, &b);
            let Ok(placement) = a else { break };
            prop_assert!(forth.reserve(&placement.host, &request.resources));
            let kept = back.clone();
            prop_assert!(back.reserve(&placement.host, &request.resources));
            prop_assert_ne!(kept.get(&placement.host), back.get(&placement.host));
        }
    }

    #[test]
    fn what_is_reserved_comes_back(steps in prop::collection::vec((0u16..6, 0u64..60, any::<bool>()), 1..80)) {
        let mut fleet = Fleet::new(7);
        for n in 0..6 {
            fleet.set(id(n), entry(n, 100, 100, true));
        }
        let mut held: Vec<(u16, u64)> = Vec::new();
        for (host, size, take) in steps {
            if take {
                if fleet.reserve(&id(host), &resources(size)) {
                    held.push((host, size));
                }
            } else if let Some((host, size)) = held.pop() {
                fleet.release(&id(host), &resources(size));
            }
            for n in 0..6 {
                let used: u64 = held.iter().filter(|(h, _)| *h == n).map(|(_, s)| s).sum();
                prop_assert!(used <= 100);
                prop_assert_eq!(fleet.get(&id(n)).expect("there").free, resources(100 - used));
            }
        }
    }
}

#[test]
fn a_volume_keeps_its_replica() {
    let mut fleet = Fleet::new(3);
    for n in 0..50 {
        fleet.set(id(n), entry(n, 100, 100 - u64::from(n), true));
    }
    for n in 0..50 {
        let request = Request {
            resources: resources(10),
            prefer: Some(id(n)),
            ..Request::default()
        };
        assert_eq!(fleet.place(&request, 1).expect("fits").host, id(n));
    }
}

#[test]
fn a_fit_behind_a_crowd_of_near_misses_is_found() {
    let mut fleet = Fleet::new(5);
    // All in the cell of the request, all a little too small but one.
    for n in 0..4_000 {
        let mut host = entry(n, 100, 100, true);
        host.free.cpu_millis -= u32::from(n != 3_210);
        fleet.set(id(n), host);
    }
    let request = Request {
        resources: resources(100),
        ..Request::default()
    };
    assert_eq!(fleet.place(&request, 1).expect("fits").host, id(3_210));
    fleet.remove(&id(3_210));
    let none = fleet.place(&request, 1).expect_err("too small").reason;
    assert_eq!((none.probed, none.dropped[0].hosts), (3_999, 3_999));
}

#[test]
fn constraints_hold_and_full_hosts_are_left_out() {
    use types::{HostFeature, PlacementConstraint};
    let mut fleet = Fleet::new(1);
    for (n, region) in ["eu", "eu", "us"].into_iter().enumerate() {
        let host = HostEntry {
            region: region.into(),
            ..entry(n as u16, 100, 100, true)
        };
        fleet.set(id(n as u16), host);
    }
    let constraint = |of, equal, value: String| PlacementConstraint { of, equal, value };
    let place = |constraints: Vec<PlacementConstraint>, full: &[u16]| {
        let request = Request {
            resources: resources(1),
            constraints,
            full_hosts: full.iter().map(|n| id(*n)).collect(),
            ..Request::default()
        };
        fleet.place(&request, 1)
    };
    let eu = |equal| constraint(HostFeature::Region, equal, "eu".into());
    assert_eq!(place(vec![eu(false)], &[]).expect("fits").host, id(2));
    assert_eq!(place(vec![eu(true)], &[0]).expect("fits").host, id(1));
    let own = constraint(HostFeature::Host, true, id(0).to_string());
    assert_eq!(place(vec![own.clone()], &[]).expect("fits").host, id(0));
    let arm = constraint(HostFeature::Architecture, true, "arm64".into());
    let none = place(vec![arm], &[]).expect_err("none fits");
    let dropped: Vec<_> = none
        .reason
        .dropped
        .iter()
        .map(|d| (d.rule.as_str(), d.hosts))
        .collect();
    assert_eq!(dropped, [("constraints", 3)]);
    assert!(place(vec![own], &[0]).is_err());
    assert!(place(vec![eu(false)], &[2]).is_err());
}
