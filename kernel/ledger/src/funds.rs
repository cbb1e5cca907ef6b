//! Keep deployments funded: escrow is refilled from the owner's purse; an expiry wheel
//! knows when the worst-case burn would have used up both.
//!
//! Worst case: all that is reserved, used without pause, and the reserved bandwidth full in
//! both directions. Real usage is less, so a freeze comes late rather than early, but always
//! before a host works for nothing. Nothing is ever deleted for lack of funds.

use types::{AccountId, Amount, DeploymentId, Resource, Resources};

use crate::deployment::{self, Deployment, Funding};
use crate::execute::Context;
use crate::lease::{Allocation, Desired};
use crate::state::State;
use crate::{Event, Tariff};

/// Deployments looked at in one block.
const TURN_MAX: usize = 1_000;
/// A deployment is looked at this often at least: its owner may have spent elsewhere.
const LOOK_MS: u64 = 60_000;
/// Funds for so long at least, to begin or to thaw.
pub(crate) const START_MS: u64 = 300_000;
const HOUR_MS: u64 = 3_600_000;

/// Counted units of `resource` that a reservation can use up in `ms` at most.
pub(crate) fn counted_max(reserved: &Resources, resource: Resource, ms: u64) -> u128 {
    let ms = u128::from(ms);
    match resource {
        // Millicores × milliseconds are microseconds of a core.
        Resource::Cpu => u128::from(reserved.cpu_millis) * ms * 1_000,
        Resource::Memory => u128::from(reserved.memory_bytes) * ms,
        Resource::Storage => u128::from(reserved.disk_bytes) * ms,
        // Kilobits per second × milliseconds are bits.
        Resource::Bandwidth => u128::from(reserved.bandwidth_kbps) * ms,
        Resource::Transfer => u128::from(reserved.bandwidth_kbps) * ms / 4,
    }
}

/// Price of `counted` units, rounded down.
pub(crate) fn price(counted: u128, rate: Amount, resource: Resource) -> Amount {
    // 2^80 counted units at 2^40 a unit still fit.
    Amount(counted.saturating_mul(rate.0) / resource.counted_per_unit())
}

/// What a reservation costs at most in `ms`; `idle`: only its storage.
pub(crate) fn worst(reserved: &Resources, rates: &Tariff, ms: u64, idle: bool) -> Amount {
    let sum = Resource::ALL
        .into_iter()
        .filter(|r| !idle || *r == Resource::Storage)
        .map(|r| price(counted_max(reserved, r, ms), rates.rate(r), r).0)
        .fold(0u128, u128::saturating_add);
    Amount(sum)
}

impl State {
    /// Worst case of a deployment's leases per hour, as if frozen ones ran.
    pub(crate) fn burn_hour(&self, deployment: &Deployment) -> Amount {
        let sum = deployment
            .allocations
            .iter()
            .filter_map(|id| self.allocations.get(id))
            .map(|a: &Allocation| {
                let idle = matches!(a.desired, Desired::Stop | Desired::Remove);
                worst(&a.reserved, &a.rates, HOUR_MS, idle).0
            })
            .fold(0u128, u128::saturating_add);
        Amount(sum)
    }
}

impl Context {
    /// Looks at the deployments that are due.
    pub(crate) fn turn_wheel(&mut self) {
        let now = self.env.time_ms;
        let due: Vec<DeploymentId> = self
            .state
            .index
            .wheel
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(TURN_MAX)
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.fund(&id);
        }
    }

    /// Money has come to `owner`: what was frozen may thaw.
    pub(crate) fn thaw(&mut self, owner: &AccountId) {
        let frozen: Vec<DeploymentId> = self
            .state
            .deployments_of(owner)
            .filter(|(_, d)| d.funding != Funding::Good && !d.removed)
            .map(|(id, _)| id)
            .take(100)
            .collect();
        for id in frozen {
            self.fund(&id);
        }
    }

    /// Refills the escrow and decides between good, low and frozen.
    pub(crate) fn fund(&mut self, id: &DeploymentId) {
        let Some(deployment) = self.state.deployments.get(id) else {
            return;
        };
        if deployment.allocations.is_empty() {
            self.state.index.clear_due(id);
            return;
        }
        let params = &self.state.globals.params;
        let (alert, reserve) = (params.alert_ms, 2 * params.report_interval_ms);
        let target_ms = params.escrow_target_ms;
        let burn = self.state.burn_hour(deployment);
        let (owner, before, removed) = (deployment.owner, deployment.funding, deployment.removed);
        let target = Amount(burn.0.saturating_mul(target_ms.into()) / u128::from(HOUR_MS));
        let wanted = target.saturating_sub(deployment.escrow);
        let amount = wanted.min(self.state.account(&owner).spendable);
        if !amount.is_zero() && !self.hold(id, amount) {
            return;
        }
        let escrow = self
            .state
            .deployments
            .get(id)
            .map_or(Amount::ZERO, |d| d.escrow);
        let funds = escrow.0 + self.state.account(&owner).spendable.0;
        let left_ms = funds
            .saturating_mul(HOUR_MS.into())
            .checked_div(burn.0)
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(u64::MAX / 4)
            .min(u64::MAX / 4);
        let enough = match before {
            Funding::Frozen => left_ms >= START_MS.max(2 * reserve),
            _ => left_ms > reserve,
        };
        let after = match () {
            () if removed => before,
            () if !enough => Funding::Frozen,
            () if left_ms < alert => Funding::Low,
            () => Funding::Good,
        };
        let now = self.env.time_ms;
        let next = match after {
            Funding::Good => left_ms - alert.min(left_ms),
            _ => left_ms.saturating_sub(reserve),
        };
        let due = now + next.clamp(1_000, LOOK_MS);
        self.state.index.set_due(*id, due);
        let quiet = before == after
            && self
                .state
                .deployments
                .get(id)
                .is_some_and(|d| d.dry_ms == now + left_ms && d.due_ms == due);
        if !quiet && let Some(deployment) = self.state.deployments.get_mut(id) {
            deployment.dry_ms = now + left_ms;
            deployment.due_ms = due;
            deployment.funding = after;
        }
        match (before, after) {
            (Funding::Frozen, Funding::Good | Funding::Low) => {
                self.freeze(id, false);
                self.emit(Event::Deployment(deployment::Event::Thawed {
                    deployment: *id,
                }));
            }
            (Funding::Good | Funding::Low, Funding::Frozen) => {
                self.freeze(id, true);
                self.emit(Event::Deployment(deployment::Event::Frozen {
                    deployment: *id,
                }));
            }
            (Funding::Good, Funding::Low) => {
                self.emit(Event::Deployment(deployment::Event::FundsLow {
                    deployment: *id,
                    until_ms: now + left_ms,
                }));
            }
            _ => {}
        }
    }

    fn freeze(&mut self, id: &DeploymentId, frozen: bool) {
        let (from, to) = if frozen {
            (Desired::Run, Desired::Freeze)
        } else {
            (Desired::Freeze, Desired::Run)
        };
        let allocations = self
            .state
            .deployments
            .get(id)
            .map(|d| d.allocations.clone())
            .unwrap_or_default();
        for allocation in allocations {
            if let Some(allocation) = self.state.allocations.get_mut(&allocation)
                && allocation.desired == from
            {
                allocation.desired = to;
            }
        }
        self.state.bump(id);
    }
}
