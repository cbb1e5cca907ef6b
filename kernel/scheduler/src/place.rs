//! Choose a host for one replica.

use std::collections::BTreeSet;

use types::{AccountId, HostFeature, HostId, PlacementConstraint, Resources};

use crate::fleet::{Fleet, HostEntry, Slot};
use crate::reason::{Candidate, Dropped, Reason};
use crate::score;

/// Feasible hosts that are scored.
const SCORED_MAX: usize = 16;
/// The first search: hosts looked at in all, and how many may be a little too small before
/// only cells are walked whose hosts all have the resources. (A full fleet has cells crowded
/// with near misses.)
const FIRST: Limits = Limits {
    probes: 2_048,
    misses: 48,
};
/// The second one, if the first found nothing and left something out.
const SECOND: Limits = Limits {
    probes: 16_384,
    misses: u32::MAX,
};
const KEPT: usize = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub resources: Resources,
    /// `None`: any.
    pub architecture: Option<String>,
    /// All must hold.
    pub constraints: Vec<PlacementConstraint>,
    /// They have as many replicas as one host may have.
    pub full_hosts: BTreeSet<HostId>,
    /// Could not make it ready before.
    pub tried_hosts: BTreeSet<HostId>,
    pub avoid_hosts: BTreeSet<HostId>,
    pub avoid_owners: BTreeSet<AccountId>,
    pub avoid_regions: BTreeSet<String>,
    /// Only where outcomes do not speak too much against it.
    pub reliable: bool,
    /// Where its volume is: taken if feasible.
    pub prefer: Option<HostId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub host: HostId,
    pub reason: Reason,
}

/// No host fits; the reason counts which rule dropped how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFit {
    pub reason: Reason,
}

#[derive(Clone, Copy)]
enum Rule {
    Architecture,
    Constraint,
    Resources,
    Full,
    Tried,
    Host,
    Owner,
    Reliability,
    Region,
}

const RULES: [&str; 9] = [
    "architecture",
    "constraints",
    "resources",
    "replicas per host",
    "tried in vain",
    "distinct hosts",
    "distinct owners",
    "reliability",
    "spread over regions",
];

/// Does a host fulfil all of `constraints`?
pub fn fulfils(id: &HostId, entry: &HostEntry, constraints: &[PlacementConstraint]) -> bool {
    constraints.iter().all(|constraint| {
        let same = match constraint.of {
            HostFeature::Region => entry.region == constraint.value,
            HostFeature::Architecture => entry.architecture == constraint.value,
            HostFeature::Host => id.to_string() == constraint.value,
            HostFeature::Builds => entry.builds.to_string() == constraint.value,
        };
        same == constraint.equal
    })
}

impl Fleet {
    /// Does `host` keep all rules of `request`, whether it is available or not?
    pub fn keeps(&self, host: &HostId, request: &Request) -> bool {
        self.find(host)
            .is_some_and(|slot| broken(slot, request).is_none())
    }
}

fn broken(slot: &Slot, request: &Request) -> Option<Rule> {
    let entry = &slot.entry;
    if request
        .architecture
        .as_ref()
        .is_some_and(|a| *a != entry.architecture)
    {
        return Some(Rule::Architecture);
    }
    if !fulfils(&slot.id, entry, &request.constraints) {
        return Some(Rule::Constraint);
    }
    if !request.resources.fits_in(&entry.free) {
        return Some(Rule::Resources);
    }
    if request.full_hosts.contains(&slot.id) {
        return Some(Rule::Full);
    }
    if request.tried_hosts.contains(&slot.id) {
        return Some(Rule::Tried);
    }
    if request.avoid_hosts.contains(&slot.id) {
        return Some(Rule::Host);
    }
    if request.avoid_owners.contains(&entry.owner) {
        return Some(Rule::Owner);
    }
    // Its volume is nowhere else.
    let free_choice = request.prefer != Some(slot.id);
    let reliability = || score::reliability(entry.good_ms, entry.bad_ms);
    if request.reliable && free_choice && reliability() < score::FLOOR {
        return Some(Rule::Reliability);
    }
    if request.avoid_regions.contains(&entry.region) {
        return Some(Rule::Region);
    }
    None
}

#[derive(Clone, Copy)]
struct Limits {
    probes: u32,
    misses: u32,
}

#[derive(Default)]
struct Found<'a> {
    feasible: Vec<&'a Slot>,
    dropped: [u32; RULES.len()],
    probed: u32,
    /// Nobody was left out.
    complete: bool,
}

impl Fleet {
    /// The first feasible hosts in canonical order, after `preferred`.
    fn search<'a>(
        &'a self,
        request: &'a Request,
        preferred: Option<&Slot>,
        limits: Limits,
    ) -> Found<'a> {
        let mut found = Found {
            feasible: Vec::with_capacity(SCORED_MAX),
            complete: true,
            ..Found::default()
        };
        let mut misses = 0;
        for (sure, cell) in self.cells(request) {
            for slot in cell {
                if found.feasible.len() >= SCORED_MAX || found.probed >= limits.probes {
                    found.complete = false;
                    return found;
                }
                if !sure && misses >= limits.misses {
                    found.complete = false;
                    break;
                }
                found.probed += 1;
                match broken(slot, request) {
                    Some(rule) => {
                        found.dropped[rule as usize] += 1;
                        misses += u32::from(!sure);
                    }
                    None if preferred.is_some_and(|p| p.id == slot.id) => {}
                    None => found.feasible.push(slot),
                }
            }
        }
        found
    }

    /// The best of the first feasible hosts. Reserves nothing. `height` is recorded.
    ///
    /// Finds a fit if there is one, as long as at most 16,384 hosts have free resources that
    /// come near; beyond that it may say there is none.
    pub fn place(&self, request: &Request, height: u64) -> Result<Placement, NoFit> {
        let preferred = request
            .prefer
            .and_then(|id| self.find(&id))
            .filter(|slot| slot.entry.available && broken(slot, request).is_none());
        let mut found = self.search(request, preferred, FIRST);
        if found.feasible.is_empty() && preferred.is_none() && !found.complete {
            found = self.search(request, preferred, SECOND);
        }
        let Found {
            mut feasible,
            mut dropped,
            probed,
            complete,
        } = found;
        feasible.extend(preferred);
        if complete {
            // Those that were never walked are of another architecture or too small.
            let others = self.of_other_classes(request);
            let walkable = self.len() as u32 - self.unavailable() - others;
            dropped[Rule::Architecture as usize] += others;
            dropped[Rule::Resources as usize] += walkable.saturating_sub(probed);
        }
        let mut candidates: Vec<(i64, u64, HostId)> = feasible
            .iter()
            .map(|slot| {
                let own = preferred.is_some_and(|p| p.id == slot.id);
                (
                    score::score(&slot.entry, &request.resources, own),
                    slot.rank,
                    slot.id,
                )
            })
            .collect();
        candidates.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let reason = Reason {
            height,
            seed: self.seed(),
            probed,
            dropped: std::iter::once(("online", self.unavailable()))
                .chain(RULES.into_iter().zip(dropped))
                .filter(|(_, hosts)| *hosts > 0)
                .map(|(rule, hosts)| Dropped {
                    rule: rule.into(),
                    hosts,
                })
                .collect(),
            candidates: candidates
                .iter()
                .take(KEPT)
                .filter_map(|(score, _, id)| {
                    let slot = self.find(id)?;
                    let own = preferred.is_some_and(|p| p.id == *id);
                    Some(Candidate {
                        host: *id,
                        score: *score,
                        terms: score::terms(&slot.entry, &request.resources, own),
                    })
                })
                .collect(),
            scored: candidates.len() as u32,
            relaxed: Vec::new(),
        };
        match candidates.first() {
            Some((_, _, host)) => Ok(Placement {
                host: *host,
                reason,
            }),
            None => Err(NoFit { reason }),
        }
    }
}
