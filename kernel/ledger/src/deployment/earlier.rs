//! What the older allocations of a deployment come to.
//!
//! The [`ENDED_MAX`] that ended last are kept whole. Of those before them only sums are kept,
//! per service, so that a deployment with crashes and releases may live for years: each goes
//! into exactly one sum, with all that it used and was charged, so sums and records together are
//! the same whenever a record is folded. Receipts stay in blocks, and a host's record of
//! outcomes is its own.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{Amount, DeploymentId, Resource};

use crate::lease::Allocation;
use crate::state::State;

/// Ended allocations of a deployment whose records are kept.
pub const ENDED_MAX: usize = 256;
/// Services with sums of their own; what comes after goes to [`OTHERS`].
const SERVICES_MAX: usize = 256;
/// No service has this name.
const OTHERS: &str = "";

/// Ended allocations of one service, taken together.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Earlier {
    pub allocations: u64,
    /// First and last release that they ran.
    pub releases: (u32, u32),
    /// Used, in counted units, and charged: in the order of [`Resource::ALL`].
    pub counted: [u128; 5],
    pub charged: [Amount; 5],
}

impl Earlier {
    fn add(&mut self, allocation: &Allocation) {
        let release = allocation.release;
        self.releases = match self.allocations {
            0 => (release, release),
            _ => (self.releases.0.min(release), self.releases.1.max(release)),
        };
        self.allocations = self.allocations.saturating_add(1);
        for (at, resource) in Resource::ALL.into_iter().enumerate() {
            let counted = allocation.usage.counted(resource);
            self.counted[at] = self.counted[at].saturating_add(counted);
            let charged = allocation.charged[at];
            self.charged[at].0 = self.charged[at].0.saturating_add(charged.0);
        }
    }
}

/// Folds the oldest of a deployment's ended allocations, so that at most `kept` stay.
pub(crate) fn fold(state: &mut State, id: &DeploymentId, kept: usize) {
    let ended = state.deployments.get(id).map_or(0, |d| d.ended.len());
    if ended <= kept {
        return;
    }
    let Some(deployment) = state.deployments.get_mut(id) else {
        return;
    };
    for old in deployment.ended.drain(..ended - kept) {
        if let Some(allocation) = state.allocations.get(&old) {
            sum_of(&mut deployment.earlier, &allocation.service).add(allocation);
        }
        state.allocations.remove(&old);
    }
}

fn sum_of<'a>(sums: &'a mut BTreeMap<String, Earlier>, service: &str) -> &'a mut Earlier {
    let own = sums.contains_key(service) || sums.len() < SERVICES_MAX;
    let name = if own { service } else { OTHERS };
    sums.entry(name.into()).or_default()
}

#[cfg(test)]
mod tests {
    use types::{AllocationId, Resources, RunState, ServiceSpec, Usage};

    use super::*;
    use crate::Params;
    use crate::lease::{Call as Lease, Desired};
    use crate::world::{World, deploy, id, line, project, report, service};
    use crate::{Call, deployment};

    fn small(replicas: u32) -> ServiceSpec {
        ServiceSpec {
            resources: Resources {
                cpu_millis: 10,
                memory_bytes: 4 << 20,
                disk_bytes: 16 << 20,
                bandwidth_kbps: 1,
            },
            ..service(10, replicas)
        }
    }

    /// Two services whose replicas have all ended: more than are kept.
    fn ended() -> World {
        let mut world = World::new(Params::dev());
        world.host(10, 64_000);
        for replicas in [250, 0] {
            let services = [("a", small(20)), ("b", small(replicas))];
            let wanted = services.into_iter().filter(|(_, s)| s.replicas > 0);
            let wanted: Vec<_> = wanted.collect();
            world
                .ask(1, deploy(project("p", &wanted)))
                .expect("deployed");
            let lines = |world: &World| {
                let host = id(10);
                let open = world.state.allocations_on(&host);
                let used = |(a, known): (AllocationId, &Allocation)| {
                    let total = Usage {
                        cpu_ns: 10_000 * (a.0 + 1),
                        ..known.usage
                    };
                    let mut line = line(a.0, known.sequence + 1, world.state.time_ms(), total);
                    line.last = known.desired == Desired::Remove;
                    line
                };
                open.map(used).collect::<Vec<_>>()
            };
            let said = lines(&world);
            let interval = world.state.hosts.get(&id(10)).expect("there").interval + 1;
            world.ask(10, report(interval, said)).expect("settled");
        }
        let remove = deployment::Call::Remove {
            deployment: DeploymentId(1),
            volumes: false,
        };
        world.ask(1, Call::Deployment(remove)).expect("removed");
        let open: Vec<u64> = world
            .state
            .allocations_on(&id(10))
            .map(|(a, _)| a.0)
            .collect();
        open.into_iter().for_each(|a| world.ends(a));
        world
    }

    #[test]
    fn the_last_ones_are_kept_and_the_sum_of_the_others() {
        let world = ended();
        let record = world
            .state
            .deployments
            .get(&DeploymentId(1))
            .expect("there");
        assert_eq!(record.ended.len(), ENDED_MAX);
        assert_eq!(world.state.allocations.len(), ENDED_MAX);
        let folded: u64 = record.earlier.values().map(|e| e.allocations).sum();
        assert_eq!(folded, 270 - ENDED_MAX as u64);
        let kept = world.state.allocations.iter();
        let kept = kept.flat_map(|(_, a)| a.charged.map(|a| a.0)).sum::<u128>();
        let sums = record.earlier.values().flat_map(|e| e.charged.map(|a| a.0));
        assert_eq!(kept + sums.sum::<u128>(), record.charged.0);
    }

    #[test]
    fn a_host_may_still_speak_of_one_that_was_folded() {
        let mut world = ended();
        let mut all = (1..=270).map(AllocationId);
        let gone = all.rfind(|a| world.state.is_folded(*a));
        let gone = gone.expect("some were folded");
        let call = |id: AllocationId| {
            let status = types::AllocationStatus {
                state: RunState::Running,
                ..Default::default()
            };
            Call::Lease(Lease::ReportStatus {
                plan: 0,
                statuses: vec![(id, status)],
            })
        };
        world.ask(10, call(gone)).expect("nobody's news");
        let never = AllocationId(world.state.globals.allocations + 1);
        world.ask(10, call(never)).expect_err("there is none");
    }

    #[test]
    fn sums_are_bounded() {
        let mut sums = BTreeMap::new();
        for n in 0..2 * SERVICES_MAX {
            sum_of(&mut sums, &format!("s{n}")).allocations += 1;
        }
        assert_eq!(sums.len(), SERVICES_MAX + 1);
        assert_eq!(sums[OTHERS].allocations, SERVICES_MAX as u64);
    }
}
