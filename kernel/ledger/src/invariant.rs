//! What must hold after every block, checked on what the block changed.
//!
//! By induction from a state that was checked in full (the genesis, or one read from disk) it
//! then holds for the whole state, at a cost that does not depend on the state's size.

use std::collections::{BTreeMap, BTreeSet};

use types::{AccountId, Amount, HostId, Resources};

use crate::State;

/// An invariant does not hold: a bug. The node stops rather than sign such a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenInvariant {
    #[error("balances, escrow and bonds add up to {sum}, but the supply is {supply}")]
    Supply { sum: Amount, supply: Amount },
    #[error("the records changed by the block held {before} and hold {after}")]
    Conservation { before: Amount, after: Amount },
    #[error("what account {0} holds is not the escrow of its deployments")]
    Escrow(AccountId),
    #[error("what is free on host {0} does not follow from what is placed there")]
    Capacity(HostId),
    #[error("scheduler and ledger do not agree about host {0}")]
    Fleet(HostId),
}

/// Signed sums of resources.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sum([i128; 4]);

impl Sum {
    fn add(&mut self, resources: &Resources, sign: i128) {
        let parts = [
            i128::from(resources.cpu_millis),
            i128::from(resources.memory_bytes),
            i128::from(resources.disk_bytes),
            i128::from(resources.bandwidth_kbps),
        ];
        for (sum, part) in self.0.iter_mut().zip(parts) {
            *sum += sign * part;
        }
    }
}

/// Two sides that must be equal.
#[derive(Default)]
struct Sides(u128, u128);

impl Sides {
    fn add(&mut self, left: Amount, right: Amount) {
        self.0 = self.0.saturating_add(left.0);
        self.1 = self.1.saturating_add(right.0);
    }
}

/// Compares `after` with the state `before` the block.
pub(crate) fn check(before: &State, after: &State) -> Result<(), BrokenInvariant> {
    check_money(before, after)?;
    check_capacity(before, after)
}

fn check_money(before: &State, after: &State) -> Result<(), BrokenInvariant> {
    let index = &after.index;
    let sum = index.spendable.saturating_add(index.escrow);
    let sum = Amount(sum.saturating_add(index.bonded));
    let supply = after.globals.supply;
    if sum != supply {
        return Err(BrokenInvariant::Supply { sum, supply });
    }
    let mut total = Sides::default();
    // Per owner: held now and escrow then, against held then and escrow now.
    let mut held: BTreeMap<AccountId, Sides> = BTreeMap::new();
    for id in after.accounts.changed() {
        let (was, is) = (before.account(id), after.account(id));
        total.add(was.spendable, is.spendable);
        total.add(was.held, is.held);
        if was.held != is.held {
            held.entry(*id).or_default().add(is.held, was.held);
        }
    }
    for key in after.validators.changed() {
        let bond = |state: &State| state.validators.get(key).map_or(Amount::ZERO, |v| v.bond);
        total.add(bond(before), bond(after));
    }
    for id in after.hosts.changed() {
        let bond = |state: &State| state.hosts.get(id).map_or(Amount::ZERO, |h| h.bond);
        total.add(bond(before), bond(after));
    }
    if total.0 != total.1 {
        return Err(BrokenInvariant::Conservation {
            before: Amount(total.0),
            after: Amount(total.1),
        });
    }
    for id in after.deployments.changed() {
        let (was, is) = (before.deployments.get(id), after.deployments.get(id));
        let escrow =
            |d: Option<&crate::deployment::Deployment>| d.map_or(Amount::ZERO, |d| d.escrow);
        if escrow(was) != escrow(is)
            && let Some(record) = is.or(was)
        {
            let sides = held.entry(record.owner).or_default();
            sides.add(escrow(was), escrow(is));
        }
    }
    first_unequal(&held)
}

fn first_unequal(held: &BTreeMap<AccountId, Sides>) -> Result<(), BrokenInvariant> {
    match held.iter().find(|(_, sides)| sides.0 != sides.1) {
        Some((owner, _)) => Err(BrokenInvariant::Escrow(*owner)),
        None => Ok(()),
    }
}

fn check_capacity(before: &State, after: &State) -> Result<(), BrokenInvariant> {
    let mut reserved: BTreeMap<HostId, Sum> = BTreeMap::new();
    for id in after.allocations.changed() {
        for (state, sign) in [(before, -1), (after, 1)] {
            if let Some(a) = state.allocations.get(id).filter(|a| !a.closed) {
                reserved.entry(a.host).or_default().add(&a.reserved, sign);
            }
        }
    }
    let mut hosts: BTreeSet<&HostId> = after.hosts.changed().collect();
    hosts.extend(reserved.keys());
    for id in hosts {
        let mut used = Sum::default();
        for (state, sign) in [(before, -1), (after, 1)] {
            if let Some(host) = state.hosts.get(id) {
                used.add(&host.offer.capacity, sign);
                used.add(&host.free, -sign);
            }
        }
        if used != reserved.get(id).copied().unwrap_or_default() {
            return Err(BrokenInvariant::Capacity(*id));
        }
        check_host(after, id)?;
    }
    Ok(())
}

/// Free is within the capacity, and the scheduler sees the same.
fn check_host(state: &State, id: &HostId) -> Result<(), BrokenInvariant> {
    let (host, entry) = (state.hosts.get(id), state.index.fleet.get(id));
    if host.is_some_and(|h| !h.free.fits_in(&h.offer.capacity)) {
        return Err(BrokenInvariant::Capacity(*id));
    }
    let agree = match (host, entry) {
        (Some(host), Some(entry)) => {
            host.free == entry.free && entry.available == state.index.takes_work(*id, host)
        }
        (None, None) => true,
        _ => false,
    };
    if agree {
        Ok(())
    } else {
        Err(BrokenInvariant::Fleet(*id))
    }
}

/// The same over everything, for a state that was read from disk.
pub(crate) fn check_all(state: &State) -> Result<(), BrokenInvariant> {
    let mut sum = 0u128;
    let mut held: BTreeMap<AccountId, Sides> = BTreeMap::new();
    for (id, account) in state.accounts.iter() {
        sum = sum
            .saturating_add(account.spendable.0)
            .saturating_add(account.held.0);
        if !account.held.is_zero() {
            held.entry(*id).or_default().add(account.held, Amount::ZERO);
        }
    }
    let bonds = state.validators.iter().map(|(_, v)| v.bond.0);
    let bonds = bonds.chain(state.hosts.iter().map(|(_, h)| h.bond.0));
    let sum = bonds.fold(sum, u128::saturating_add);
    let (sum, supply) = (Amount(sum), state.globals.supply);
    if sum != supply {
        return Err(BrokenInvariant::Supply { sum, supply });
    }
    for (_, deployment) in state.deployments.iter() {
        let sides = held.entry(deployment.owner).or_default();
        sides.add(Amount::ZERO, deployment.escrow);
    }
    first_unequal(&held)?;
    for (id, host) in state.hosts.iter() {
        let mut left = Sum::default();
        left.add(&host.offer.capacity, 1);
        left.add(&host.free, -1);
        for (_, a) in state.allocations_on(id) {
            left.add(&a.reserved, -1);
        }
        if left != Sum::default() {
            return Err(BrokenInvariant::Capacity(*id));
        }
        check_host(state, id)?;
    }
    Ok(())
}
