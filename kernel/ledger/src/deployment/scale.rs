//! How many replicas an autoscaled service shall have: one rule, no memory but a number, since
//! when it stands, and since when fewer would do.
//!
//! - **More** as soon as what is carried is above the target by more than a twentieth: as many
//!   as the target asks for, at most twice as many at once.
//! - **Fewer** once fewer have been enough, at four fifths of the target, without a break for
//!   as long as the service's `idle` says: as many as were needed at most in that time, at
//!   least half of those that are there. So load around a target moves nothing.
//! - **None** only where `min` is 0 and it is known that nobody asks for anything; the first
//!   request that waits brings one back.
//! - **What is not known changes nothing**: a replica without a figure counts as nothing where
//!   more are asked for, and as needed where fewer are.
//! - While a release rolls out there are no fewer.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, AllocationId, AutoscaleSpec};

/// Between two steps up: figures of the last one have come by then.
const UP_PAUSE_MS: u64 = 2_000;
/// Of the target, in thousandths: above the one there are more, below the other fewer.
const MORE_MILLI: u64 = 1_050;
const FEWER_MILLI: u64 = 800;
/// Of the target of one replica: what cores do for themselves while nobody asks.
const IDLE_MILLI: u64 = 100;

/// Where an autoscaled service stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Scale {
    /// Replicas that it shall have now.
    pub wanted: u32,
    pub changed_ms: u64,
    /// Why there are so many, for people.
    pub why: String,
    /// On request: it stays as it is, whatever is asked.
    pub stopped: bool,
    pub calm: Option<Calm>,
    /// What each gateway said last.
    pub demand: BTreeMap<AccountId, Demand>,
}

/// Fewer replicas would do.
#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Calm {
    pub since_ms: u64,
    /// The most that were needed since.
    pub need: u32,
}

/// What a gateway sees asked of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Demand {
    pub at_ms: u64,
    /// Requests and connections under way, the mean since its word before, in thousandths.
    pub under_way_milli: u64,
    /// Requests answered per second since then, in thousandths.
    pub per_second_milli: u64,
    /// Requests that wait for a first replica.
    pub waiting: u32,
    /// Under way at that moment, per replica that has any.
    pub open: BTreeMap<AllocationId, u32>,
}

impl Demand {
    /// Nobody asks for anything.
    pub(super) fn is_none(&self) -> bool {
        self.under_way_milli == 0
            && self.per_second_milli == 0
            && self.waiting == 0
            && self.open.is_empty()
    }
}

/// What the figures say, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Thousandths of what one replica shall carry, as far as it is known.
    pub carried_milli: u64,
    /// Replicas of which nothing is known; `None`: nobody can say what would be enough.
    pub unknown: Option<u32>,
    /// It is known that nobody asks for anything.
    pub idle: bool,
    /// A request waits for a first replica.
    pub waits: bool,
}

/// How many there shall be, and since when fewer would do.
///
/// `steady`: no release is rolling out. The result is within `spec.min..=spec.max`.
pub(super) fn decide(
    spec: &AutoscaleSpec,
    scale: &Scale,
    load: &Load,
    steady: bool,
    now_ms: u64,
) -> (u32, Option<Calm>) {
    let wanted = scale.wanted.max(spec.min).min(spec.max);
    if wanted == 0 {
        return (u32::from(load.waits), None);
    }
    let all = u64::from(wanted);
    if load.carried_milli > all.saturating_mul(MORE_MILLI) {
        if now_ms < scale.changed_ms.saturating_add(UP_PAUSE_MS) {
            return (wanted, None);
        }
        let need = u32::try_from(load.carried_milli.div_ceil(1_000)).unwrap_or(u32::MAX);
        return (need.min(wanted.saturating_mul(2)).min(spec.max), None);
    }
    let enough = match load.unknown {
        None => wanted,
        Some(0) if load.idle && load.carried_milli <= IDLE_MILLI => 0,
        Some(unknown) => {
            let need = u32::try_from(load.carried_milli.div_ceil(FEWER_MILLI)).unwrap_or(u32::MAX);
            need.saturating_add(unknown).max(1)
        }
    };
    let enough = enough.max(spec.min);
    if enough >= wanted || !steady {
        return (wanted, None);
    }
    let calm = match scale.calm {
        Some(calm) => Calm {
            need: calm.need.max(enough),
            ..calm
        },
        None => Calm {
            since_ms: now_ms,
            need: enough,
        },
    };
    if now_ms < calm.since_ms.saturating_add(spec.idle_ms.into()) {
        return (wanted, Some(calm));
    }
    (calm.need.max(wanted / 2).max(spec.min).min(wanted), None)
}

#[cfg(test)]
mod tests;
