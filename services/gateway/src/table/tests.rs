//! Whatever is told in whatever steps, the table is the one that is made of all at once.

use std::collections::BTreeMap;

use api::{Gone, Route, Routes, Upstream};
use proptest::prelude::*;

use super::*;

/// One step: a service is as these numbers say, or gone.
#[derive(Clone, Debug)]
struct Step {
    deployment: u64,
    service: u8,
    port: Option<u16>,
    /// Number of the replica, its address, whether it is ready, unheard, and far away.
    replicas: BTreeMap<u64, (u8, bool, bool, bool)>,
    is_gone: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = (0u8..3, any::<bool>(), any::<bool>(), any::<bool>());
    let replicas = proptest::collection::btree_map(0u64..4, replica, 0..4);
    let port = proptest::option::of(1u16..3);
    let step = (0u64..3, 0u8..3, port, replicas, any::<bool>());
    let step = step.prop_map(|(deployment, service, port, replicas, is_gone)| Step {
        deployment,
        service,
        port,
        replicas,
        is_gone,
    });
    proptest::collection::vec(step, 1..40)
}

fn route(step: &Step) -> Route {
    // Replicas are of one service alone; two names of one deployment share a domain.
    let first = (step.deployment * 3 + u64::from(step.service)) * 4;
    let upstream =
        |(n, (address, ready, unheard, far)): (&u64, &(u8, bool, bool, bool))| Upstream {
            allocation: AllocationId(first + n),
            host: AccountId::default(),
            host_address: "http://10.0.0.1:7000".into(),
            machine: Digest::of(&[u8::from(*far)]),
            // One of the three is no container's.
            address: [10, 62 + address, 0, 2],
            ready: *ready,
            unheard: *unheard,
            leaving: false,
        };
    Route {
        deployment: DeploymentId(step.deployment),
        owner: AccountId::default(),
        service: format!("s{}", step.service),
        domain: format!("S{}.app", step.service % 2),
        ports: step
            .port
            .map(|published| PortSpec {
                target: 80 + u16::from(step.service),
                published: Some(published),
                protocol: Protocol::Tcp,
            })
            .into_iter()
            .collect(),
        http_port: Some(80),
        frozen: false,
        scale: None,
        replicas: step.replicas.iter().map(upstream).collect(),
    }
}

/// All that one can look up.
fn shown(table: &Table) -> String {
    let of = |s: &Service| {
        let replicas: Vec<_> = s
            .replicas
            .iter()
            .map(|r| (r.allocation, r.reach.clone()))
            .collect();
        let others: Vec<_> = s.others.iter().map(|(a, _)| *a).collect();
        format!(
            "{} {} {} {replicas:?} {others:?}",
            s.deployment, s.name, s.placed
        )
    };
    let mut text = format!("refused {}\n", table.refused);
    for service in table.services.values() {
        text += &format!("{}\n", of(service));
    }
    for domain in ["s0.app", "s1.app"] {
        text += &format!("{domain} {:?}\n", table.service(domain).map(|s| of(s)));
    }
    for (port, published) in &table.published {
        let Published {
            service,
            target,
            contenders,
        } = published;
        text += &format!("{port:?} {} {target} {contenders}\n", of(service));
    }
    for number in 0..36 {
        let id = AllocationId(number);
        text += &format!("{id} {} {:?}\n", table.has(id), table.agent(id));
    }
    text
}

proptest! {
    #[test]
    fn any_steps_lead_to_the_same_table(steps in steps()) {
        let (machine, name) = (Digest::of(&[0]), Digest::of(b"table"));
        let mut known = KnownRoutes::default();
        let mut table = Table::default();
        let mut all = BTreeMap::new();
        let start = Routes { table: Some(name), ..Routes::default() };
        known.take(start).unwrap();
        for (height, step) in (1..).zip(&steps) {
            let route = route(step);
            let key = (route.deployment, route.service.clone());
            let before: Option<Route> = all.remove(&key);
            let gone = |allocation| Gone {
                deployment: key.0,
                service: key.1.clone(),
                allocation,
            };
            let mut told = Routes {
                height,
                table: Some(name),
                since: Some(height - 1),
                ..Routes::default()
            };
            if step.is_gone {
                told.gone.push(gone(None));
            } else {
                let stays = |u: &Upstream| route.replicas.iter().any(|r| r.allocation == u.allocation);
                let left = before.iter().flat_map(|r| &r.replicas).filter(|u| !stays(u));
                told.gone.extend(left.map(|u| gone(Some(u.allocation))));
                told.routes.push(route.clone());
                all.insert(key.clone(), route);
            }
            let changed = known.take(told).unwrap();
            table = table.next(&known, &changed, height, machine, Trust::Containers);

            let mut whole = KnownRoutes::default();
            let routes = all.values().cloned().collect();
            let changed = whole.take(Routes { routes, ..Routes::default() }).unwrap();
            let fresh = Table::default().next(&whole, &changed, height, machine, Trust::Containers);
            prop_assert_eq!(shown(&table), shown(&fresh));
        }
    }
}
