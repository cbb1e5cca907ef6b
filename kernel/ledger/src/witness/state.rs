use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{
    AllocationId, DeploymentId, Digest, HostId, Protocol, PublicKey, ServiceSpec, Signature,
};

use super::Saw;
use crate::lease::{Allocation, Desired};
use crate::state::State;

/// Replicas of a host that a witness looks at in one round, each paid for by another account.
const REPLICAS: usize = 4;

/// What witnesses last saw of a host.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Watched {
    /// Whose witnesses the bits are of.
    pub epoch: u64,
    /// Bit i: witness i, in the order drawn, got no answer when it last looked.
    pub against: u32,
    /// Bit i: it got one.
    pub heard: u32,
    /// Somebody got none at the end of an epoch before.
    pub suspect: bool,
    /// The last one.
    pub flag: Option<Flag>,
}

/// Why a host's reputation fell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Flag {
    pub height: u64,
    pub time_ms: u64,
    pub epoch: u64,
    pub round: u64,
    /// One that the last of them looked at, and what it saw.
    pub allocation: AllocationId,
    pub saw: Saw,
    /// Who got no answer, of how many.
    pub witnesses: Vec<PublicKey>,
    pub drawn: u32,
}

/// A witness's part in the present round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub height: u64,
    pub time_ms: u64,
    pub epoch: u64,
    pub round: u64,
    /// When the next one begins.
    pub ends_ms: u64,
    /// What its lot is a signature of.
    pub message: Digest,
    /// Has it told what it saw?
    pub told: bool,
}

/// What a witness looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub host: HostId,
    /// Of the host's agent.
    pub address: String,
    pub allocation: AllocationId,
    pub deployment: DeploymentId,
    pub service: String,
    pub port: u16,
}

impl State {
    /// The witnesses of `epoch`, in the order drawn; nobody while that is not decided.
    pub fn witnesses(&self, epoch: u64) -> Vec<PublicKey> {
        let drawing = self.drawings.get(&epoch);
        let lineup = drawing.and_then(|d| d.lineup.as_ref());
        lineup.map_or_else(Vec::new, |lineup| {
            lots::witnesses(lineup, &self.witness_beacon(epoch))
        })
    }

    /// Chance of the epoch's drawing; the founders' epochs have none, and all of them sit.
    fn witness_beacon(&self, epoch: u64) -> Digest {
        let drawing = self.drawings.get(&epoch);
        drawing.and_then(|d| d.beacon).unwrap_or_default()
    }

    /// The present round; `None` if witnesses do not look at hosts here.
    pub fn witness_round(&self) -> Option<u64> {
        self.time_ms().checked_div(self.params().witness_ms)
    }

    pub(super) fn look_message(&self, epoch: u64, round: u64) -> Digest {
        let beacon = self.witness_beacon(epoch);
        lots::look_message(&self.globals.network, epoch, &beacon, round)
    }

    /// What is asked of `key` now; `None` if it is no witness of this epoch.
    pub fn look_of(&self, key: &PublicKey) -> Option<Look> {
        let (epoch, round) = (self.epoch(), self.witness_round()?);
        if !self.witnesses(epoch).contains(key) || self.is_convicted(key) {
            return None;
        }
        let ends_ms = (round + 1).saturating_mul(self.params().witness_ms);
        Some(Look {
            height: self.height(),
            time_ms: self.time_ms(),
            epoch,
            round,
            ends_ms,
            message: self.look_message(epoch, round),
            told: self.told_round(key, epoch, round),
        })
    }

    /// Whether `key` has told of `round`, in this epoch or the one before.
    pub(super) fn told_round(&self, key: &PublicKey, epoch: u64, round: u64) -> bool {
        let told = |epoch| Some(self.duties.get(&epoch)?.by.get(key)?.round >= round);
        [Some(epoch), epoch.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|epoch| told(epoch) == Some(true))
    }

    /// Whether a witness with this lot looks at `host`.
    pub(super) fn is_looked_at(&self, lot: &Signature, host: &HostId, drawn: usize) -> bool {
        let watched = self.watched.get(host);
        let suspect = watched.is_some_and(|w| w.suspect || w.against != 0);
        lots::is_drawn(lot, host, self.hosts.len(), drawn, suspect)
    }

    /// Whether what is seen of it in `round` says anything of its host: somebody else pays for it,
    /// and ever since before the round the host has been there and has said that it is running.
    pub fn is_answerable(&self, id: AllocationId, round: u64) -> bool {
        let begun = round.saturating_mul(self.params().witness_ms);
        self.allocations
            .get(&id)
            .is_some_and(|a| self.answerable_since(id, a, begun))
    }

    fn answerable_since(&self, id: AllocationId, a: &Allocation, begun: u64) -> bool {
        let Some(host) = self.hosts.get(&a.host) else {
            return false;
        };
        let payer = self.deployments.get(&a.deployment).map(|d| d.owner);
        let runs = !a.closed && a.desired == Desired::Run && a.status.is_ready();
        // While blocks stood still nobody could say otherwise.
        let steady = a.status_ms.max(host.trusted_ms).max(self.globals.awake_ms) < begun;
        runs && steady
            && host.online
            && !a.status.addresses.is_empty()
            && payer.is_some_and(|payer| payer != host.owner)
            && self.service_of(id).and_then(port).is_some()
    }

    /// What the witness with this lot looks at in `round`, in the order of their allocations.
    pub fn targets(&self, lot: &Signature, epoch: u64, round: u64) -> Vec<Target> {
        let drawn = self.witnesses(epoch).len();
        let begun = round.saturating_mul(self.params().witness_ms);
        let mut targets = Vec::new();
        for (id, host) in self.hosts.iter() {
            if !host.online || !self.is_looked_at(lot, id, drawn) {
                continue;
            }
            let open = self.allocations_on(id);
            let mut open: Vec<_> = open
                .filter(|(n, a)| self.answerable_since(*n, a, begun))
                .collect();
            open.sort_by_cached_key(|(n, _)| Digest::of_value("runrig-look-in", &(lot, n)));
            let mut payers = BTreeSet::new();
            let replicas = open.into_iter().filter_map(|(allocation, a)| {
                let payer = self.deployments.get(&a.deployment)?.owner;
                let port = self.service_of(allocation).and_then(port)?;
                payers.insert(payer).then(|| Target {
                    host: *id,
                    address: host.address.clone(),
                    allocation,
                    deployment: a.deployment,
                    service: a.service.clone(),
                    port,
                })
            });
            let replicas: Vec<Target> = replicas.take(REPLICAS).collect();
            // All of a host or none.
            if targets.len() + replicas.len() <= super::LINES_MAX {
                targets.extend(replicas);
            }
        }
        targets.sort_unstable_by_key(|t| t.allocation);
        targets
    }
}

/// Where a service can be looked at: the first TCP port that it publishes or exposes.
fn port(service: &ServiceSpec) -> Option<u16> {
    let published = service.ports.iter();
    let mut tcp = published.filter(|p| p.protocol == Protocol::Tcp);
    tcp.next()
        .map(|p| p.target)
        .or(service.expose.first().copied())
}
