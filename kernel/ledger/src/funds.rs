//! Keep deployments funded: escrow is refilled from the owner's purse; an expiry wheel
//! knows when the worst-case burn would have used up both.
//!
//! # How money moves
//!
//! 1. **Nothing is made or lost.** All money is in accounts, spendable or held; what an
//!    account holds is the escrow of its deployments. `invariant` checks every block.
//! 2. **A charge is the floor of a cumulative counter × its rate**, per allocation and
//!    resource, less what was charged before. So into however many reports usage is cut, the
//!    total is the same to the last unit, and never above usage × rate.
//! 3. **Rates are locked** when a lease begins.
//! 4. **Escrow pays first, then the owner's purse.** Escrow is kept filled for
//!    `escrow_target_ms` at the worst case; what a smaller release no longer needs goes back. If
//!    both are too little for a settlement, the host is paid what there is. As charges are
//!    cumulative, the rest stays due and a later settlement pays it.
//! 5. **Worst case**: all that is reserved, used without pause, and the reserved bandwidth
//!    full in both directions. Usage beyond it is refused, so funds that cover it cover all
//!    that a host can claim. What is stopped or on its way out burns its storage only.
//! 6. **Low, frozen, thawed.** The owner is alerted when funds last less than `alert_ms` at
//!    the worst case. When they do not cover two more report intervals, the deployment is
//!    frozen: real usage is less, so that comes late rather than early, but before a host
//!    works for nothing. It keeps its places and data, and thaws when dues and
//!    five minutes at the worst case are covered. Nothing is deleted for lack of funds.
//! 7. **Limits** ([`crate::limit`]): an owner may bound what is taken in a month. Charges stop at the
//!    bound as they do at an empty purse: what is not paid stays due.
//! 8. **The end.** When the last lease of a removed deployment closes, what is left of the
//!    escrow goes back; what could not be paid by then is the host's loss. Leases to be
//!    removed on a host that is offline close without a last report.

use types::{AccountId, AllocationId, Amount, DeploymentId, Resource, Resources, Usage};

use crate::deployment::{self, Deployment, Funding};
use crate::execute::Context;
use crate::lease::{Allocation, Desired};
use crate::state::State;
use crate::{Event, Tariff};

/// Deployments looked at when money comes to their owner; the wheel gets to the others.
const SHORT_MAX: usize = 64;
/// A deployment is looked at this often at least: its owner may have spent elsewhere.
pub(crate) const LOOK_MS: u64 = 60_000;
/// Funds for so long at least, to begin or to thaw.
pub(crate) const START_MS: u64 = 300_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;
/// Far beyond any date, and far from overflow.
pub(crate) const FOREVER_MS: u64 = u64::MAX / 4;

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
    // In two parts, so that nothing overflows: a part of a unit is below 2^40, rates are
    // below 2^64, and what a machine can count in a lifetime is below 2^100.
    let unit = resource.counted_per_unit();
    let whole = (counted / unit).saturating_mul(rate.0);
    Amount(whole.saturating_add((counted % unit).saturating_mul(rate.0) / unit))
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

/// What `usage` costs beyond what is `charged`, per resource in the order of [`Resource::ALL`].
pub(crate) fn dues(usage: &Usage, rates: &Tariff, charged: &[Amount; 5]) -> [Amount; 5] {
    let mut dues = *charged;
    for (due, resource) in dues.iter_mut().zip(Resource::ALL) {
        let whole = price(usage.counted(resource), rates.rate(resource), resource);
        *due = whole.saturating_sub(*due);
    }
    dues
}

/// Worst case of a deployment's leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Burn {
    /// In an hour, as they are, but as if frozen ones ran.
    pub hour: Amount,
    /// Of it what goes on while they are frozen: storage.
    pub idle: Amount,
    /// While escrow is to last, as if all of them ran; and how long that is.
    most: Amount,
    target_ms: u64,
}

impl State {
    /// What hosts have reported and not been paid for.
    fn unpaid(&self, deployment: &Deployment) -> u128 {
        deployment
            .allocations
            .iter()
            .filter_map(|id| self.allocations.get(id))
            .flat_map(|a| dues(&a.usage, &a.rates, &a.charged))
            .fold(0u128, |sum, due| sum.saturating_add(due.0))
    }

    /// Worst case of a deployment's leases, counted once after each change of one of them.
    pub(crate) fn burn(&mut self, id: &DeploymentId) -> Burn {
        let target_ms = self.globals.params.escrow_target_ms;
        let known = self.index.burns.get(id).copied();
        if let Some(known) = known.filter(|burn| burn.target_ms == target_ms) {
            debug_assert_eq!(known, self.count_burn(id), "{id}");
            return known;
        }
        let burn = self.count_burn(id);
        self.index.burns.insert(*id, burn);
        burn
    }

    fn count_burn(&self, id: &DeploymentId) -> Burn {
        let allocations = self.deployments.get(id).map(|d| &d.allocations);
        let target_ms = self.globals.params.escrow_target_ms;
        let mut burn = Burn {
            target_ms,
            ..Burn::default()
        };
        for id in allocations.into_iter().flatten() {
            let Some(a) = self.allocations.get(id) else {
                continue;
            };
            let idle = matches!(a.desired, Desired::Stop | Desired::Remove);
            let hour = worst(&a.reserved, &a.rates, HOUR_MS, idle);
            burn.hour.0 = burn.hour.0.saturating_add(hour.0);
            let idle = worst(&a.reserved, &a.rates, HOUR_MS, true);
            burn.idle.0 = burn.idle.0.saturating_add(idle.0);
            // Prices are rounded down.
            let most = worst(&a.reserved, &a.rates, target_ms, false);
            burn.most.0 = burn.most.0.saturating_add(most.0).saturating_add(1);
        }
        burn
    }

    /// A lease of the deployment has begun or ended.
    pub(crate) fn forget_burn(&mut self, id: &DeploymentId) {
        self.index.burns.remove(id);
        self.index.burn_changed.insert(*id);
    }

    /// Decides what shall become of an allocation, which changes what its deployment burns;
    /// the record, if there is one.
    pub(crate) fn set_desired(
        &mut self,
        id: &AllocationId,
        desired: Desired,
    ) -> Option<&mut Allocation> {
        let allocation = self.allocations.get_mut(id)?;
        allocation.desired = desired;
        self.index.burns.remove(&allocation.deployment);
        self.index.burn_changed.insert(allocation.deployment);
        Some(allocation)
    }
}

impl Context {
    /// Looks at the deployments that are due.
    pub(crate) fn turn_wheel(&mut self) {
        for id in self.state.due(&self.state.index.wheel, self.env.time_ms) {
            self.fund(&id);
        }
    }

    /// Money has come to `owner`: what was frozen may thaw.
    pub(crate) fn thaw(&mut self, owner: &AccountId) {
        for id in self.state.index.short_of(*owner, SHORT_MAX) {
            self.fund(&id);
        }
    }

    /// Refills the escrow and decides between good, low and frozen.
    pub(crate) fn fund(&mut self, id: &DeploymentId) {
        let Some(deployment) = self.state.deployments.get(id) else {
            return;
        };
        if deployment.allocations.is_empty() {
            return self.rest(id);
        }
        let params = &self.state.globals.params;
        let alert = params.alert_ms;
        let reserve = params.report_interval_ms.saturating_mul(2);
        let target_ms = params.escrow_target_ms;
        let (owner, before, removed) = (deployment.owner, deployment.funding, deployment.removed);
        let escrow = deployment.escrow;
        let burn = self.state.burn(id).hour;
        let target = Amount(burn.0.saturating_mul(target_ms.into()) / u128::from(HOUR_MS));
        let wanted = target.saturating_sub(escrow);
        let amount = wanted.min(self.state.account(&owner).spendable);
        if !amount.is_zero() && !self.hold(id, amount) {
            return;
        }
        if wanted.is_zero() && !removed {
            self.give_back(id);
        }
        let Some(deployment) = self.state.deployments.get(id) else {
            return;
        };
        let mut funds = deployment.escrow.0 + self.state.account(&owner).spendable.0;
        if before == Funding::Frozen {
            // The next settlement takes it.
            funds = funds.saturating_sub(self.state.unpaid(deployment));
        }
        let left_ms = funds
            .saturating_mul(HOUR_MS.into())
            .checked_div(burn.0)
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(FOREVER_MS)
            .min(FOREVER_MS);
        let enough = match before {
            Funding::Frozen => left_ms >= START_MS.max(reserve.saturating_mul(2)),
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
            Funding::Good => left_ms.saturating_sub(alert),
            Funding::Low => left_ms.saturating_sub(reserve),
            // Money that comes to the owner is noticed at once.
            Funding::Frozen => LOOK_MS,
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
            self.state.index.note_funding(*id, deployment);
        }
        match (before, after) {
            // What its owner's limit stopped goes on being stopped.
            (Funding::Frozen, Funding::Good | Funding::Low) if self.is_limited(id) => {}
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

    /// Nothing is placed (scaled to nothing): nothing is held, nothing runs dry.
    fn rest(&mut self, id: &DeploymentId) {
        self.state.index.clear_due(id);
        if self.state.deployments.get(id).is_none_or(|d| d.removed) {
            return;
        }
        self.give_back(id);
        if let Some(deployment) = self.state.deployments.get_mut(id) {
            deployment.funding = Funding::Good;
            deployment.dry_ms = FOREVER_MS;
            self.state.index.note_funding(*id, deployment);
        }
    }

    /// What the escrow holds beyond its target goes back, as when a release asks for less.
    ///
    /// Here what is stopped or on its way out counts as running: its last usage may not be
    /// settled yet.
    fn give_back(&mut self, id: &DeploymentId) {
        let most = self.state.burn(id).most;
        let Some(deployment) = self.state.deployments.get(id) else {
            return;
        };
        let owner = deployment.owner;
        let over = deployment.escrow.saturating_sub(most);
        if !over.is_zero() {
            let back = self.draw(id, over);
            self.credit(owner, back);
        }
    }

    fn is_limited(&self, id: &DeploymentId) -> bool {
        let deployment = self.state.deployments.get(id);
        deployment.is_some_and(|d| d.limited)
    }

    /// Stops a deployment, or lets it go on, by its owner's limit.
    pub(crate) fn set_limited(&mut self, id: &DeploymentId, limited: bool) {
        let Some(deployment) = self.state.deployments.get_mut(id) else {
            return;
        };
        deployment.limited = limited;
        self.state.index.note_weighed(*id, deployment);
        let event = match (limited, deployment.is_frozen()) {
            (true, _) => deployment::Event::Limited { deployment: *id },
            (false, false) => deployment::Event::Thawed { deployment: *id },
            // Funds are out, too.
            (false, true) => return,
        };
        self.freeze(id, limited);
        self.emit(Event::Deployment(event));
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
            match self.state.allocations.get(&allocation).map(|a| a.desired) {
                Some(desired) if desired == from => {
                    self.state.set_desired(&allocation, to);
                }
                // Its successor stops, too: nobody would come back to it.
                Some(Desired::Drain) if frozen => deployment::retire_one(self, allocation),
                _ => {}
            }
        }
        self.touch(*id);
    }
}

#[cfg(test)]
mod tests;
