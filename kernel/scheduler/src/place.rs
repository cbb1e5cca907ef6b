//! Choose a host for one replica.

use std::collections::BTreeSet;

use types::{AccountId, HostId, Resources};

use crate::fleet::{Fleet, Slot};
use crate::reason::{Candidate, Dropped, Reason};
use crate::score;

/// Feasible hosts that are scored.
const SCORED_MAX: usize = 16;
/// Hosts looked at while at least one fits.
const PROBES: u32 = 2_048;
/// Hosts looked at before nothing fits. Smaller fleets are searched to the end.
const PROBES_MAX: u32 = 65_536;
const KEPT: usize = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub resources: Resources,
    /// `None`: any.
    pub architecture: Option<String>,
    pub avoid_hosts: BTreeSet<HostId>,
    pub avoid_owners: BTreeSet<AccountId>,
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
    Resources,
    Host,
    Owner,
}

const RULES: [&str; 4] = [
    "architecture",
    "resources",
    "distinct hosts",
    "distinct owners",
];

fn broken(slot: &Slot, request: &Request) -> Option<Rule> {
    let entry = &slot.entry;
    if request
        .architecture
        .as_ref()
        .is_some_and(|a| *a != entry.architecture)
    {
        return Some(Rule::Architecture);
    }
    if !request.resources.fits_in(&entry.free) {
        return Some(Rule::Resources);
    }
    if request.avoid_hosts.contains(&slot.id) {
        return Some(Rule::Host);
    }
    if request.avoid_owners.contains(&entry.owner) {
        return Some(Rule::Owner);
    }
    None
}

impl Fleet {
    /// The best of the first feasible hosts. Reserves nothing. `height` is recorded.
    ///
    /// Finds a fit if there is one, as long as the fleet has at most 65,536 hosts whose
    /// free resources come near; beyond that it may say there is none.
    pub fn place(&self, request: &Request, height: u64) -> Result<Placement, NoFit> {
        let mut dropped = [0u32; RULES.len()];
        let mut probed = 0u32;
        let mut feasible: Vec<&Slot> = Vec::with_capacity(SCORED_MAX + 1);
        let preferred = request
            .prefer
            .and_then(|id| self.find(&id))
            .filter(|slot| slot.entry.available && broken(slot, request).is_none());
        if let Some(slot) = preferred {
            feasible.push(slot);
        }
        let mut exhausted = true;
        for slot in self.walk(&request.resources) {
            if feasible.len() >= SCORED_MAX
                || probed >= PROBES_MAX
                || (probed >= PROBES && !feasible.is_empty())
            {
                exhausted = false;
                break;
            }
            probed += 1;
            match broken(slot, request) {
                Some(rule) => dropped[rule as usize] += 1,
                None if preferred.is_some_and(|p| p.id == slot.id) => {}
                None => feasible.push(slot),
            }
        }
        if exhausted {
            // Those whose cells were never walked are too small.
            let available = self.len() as u32 - self.unavailable();
            dropped[Rule::Resources as usize] += available.saturating_sub(probed);
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
