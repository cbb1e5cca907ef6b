//! What a deployment would cost, found by trying it out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, DeploymentId, DeploymentSpec, HostId, Resource};

use super::Call;
use super::apply::changed_services;
use crate::funds::{counted_max, price};
use crate::lease::Desired;
use crate::state::State;
use crate::{RejectKind, Rejection, Tariff};

const HOUR_MS: u64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Changed,
    Removed,
    Kept,
}

/// One resource of one service for an hour of full use, all replicas together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteLine {
    pub service: String,
    /// As many as there may be.
    pub replicas: u32,
    pub resource: Resource,
    /// Counted units an hour.
    pub counted: u128,
    pub rate: Amount,
    pub amount_hour: Amount,
}

/// A replica where it would be now, for an hour of full use at what that host asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotedPlace {
    pub service: String,
    pub replica: u32,
    pub host: HostId,
    pub amount_hour: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteOutcome {
    /// Transfer is not in it: it has a price per byte, not per hour.
    pub lines: Vec<QuoteLine>,
    pub total_hour: Amount,
    pub transfer_gib: Amount,
    /// Held in escrow afterwards.
    pub escrow: Amount,
    pub changes: BTreeMap<String, Change>,
    /// Of each replica that would be meant to run; none if it is refused.
    pub places: Vec<QuotedPlace>,
    pub refusal: Option<Rejection>,
}

impl QuoteOutcome {
    /// What the hosts that would be chosen ask together.
    pub fn asked_hour(&self) -> Amount {
        let amounts = self.places.iter().map(|p| p.amount_hour.0);
        Amount(amounts.fold(0u128, u128::saturating_add))
    }
}

/// Of each seat the newest lease: an older one runs only until that is good.
fn places(state: &State, deployment: DeploymentId, spec: &DeploymentSpec) -> Vec<QuotedPlace> {
    let mut newest = BTreeMap::new();
    let known = state.deployments.get(&deployment);
    for id in known.into_iter().flat_map(|d| &d.allocations) {
        let Some(lease) = state.allocations.get(id) else {
            continue;
        };
        if lease.desired == Desired::Run && spec.services.contains_key(&lease.service) {
            newest.insert((lease.service.clone(), lease.replica), lease);
        }
    }
    let priced = newest.into_iter().map(|((service, replica), lease)| {
        let amounts = Resource::ALL.into_iter().filter_map(|resource| {
            let counted = counted_max(&lease.reserved, resource, HOUR_MS);
            let rate = lease.rates.rate(resource);
            (resource != Resource::Transfer).then(|| price(counted, rate, resource).0)
        });
        QuotedPlace {
            service,
            replica,
            host: lease.host,
            amount_hour: Amount(amounts.fold(0u128, u128::saturating_add)),
        }
    });
    priced.collect()
}

/// Transfer is not among them: it is paid by the byte.
pub(super) fn quote_lines(spec: &DeploymentSpec, tariff: &Tariff) -> Vec<QuoteLine> {
    let mut lines = Vec::new();
    for (name, service) in &spec.services {
        for resource in Resource::ALL {
            if resource == Resource::Transfer {
                continue;
            }
            let one = counted_max(&service.resources, resource, HOUR_MS);
            let counted = one.saturating_mul(service.replicas_max().into());
            let rate = tariff.rate(resource);
            lines.push(QuoteLine {
                service: name.clone(),
                replicas: service.replicas_max(),
                resource,
                counted,
                rate,
                amount_hour: price(counted, rate, resource),
            });
        }
    }
    lines
}

pub(super) fn total_hour(lines: &[QuoteLine]) -> Amount {
    let amounts = lines.iter().map(|l| l.amount_hour.0);
    Amount(amounts.fold(0u128, u128::saturating_add))
}

impl State {
    /// What deploying `spec` would cost `owner` and change, and whether it would be refused.
    pub fn quote(&self, owner: AccountId, spec: &DeploymentSpec) -> QuoteOutcome {
        let tariff = &self.globals.params.tariff;
        let lines = quote_lines(spec, tariff);
        let total = total_hour(&lines);
        let former = self.project(&owner, &spec.project);
        let old = former
            .and_then(|id| self.deployments.get(&id))
            .map(|d| &d.spec);
        let changed = old.map(|old| changed_services(old, spec));
        let names = old
            .into_iter()
            .flat_map(|o| o.services.keys())
            .chain(spec.services.keys());
        let changes = names
            .map(|name| {
                let before = old.is_some_and(|o| o.services.contains_key(name));
                let change = match (before, spec.services.contains_key(name)) {
                    (false, _) => Change::Added,
                    (true, false) => Change::Removed,
                    (true, true) if changed.as_ref().is_some_and(|c| c.contains(name)) => {
                        Change::Changed
                    }
                    (true, true) => Change::Kept,
                };
                (name.clone(), change)
            })
            .collect();
        let call = Call::Deploy {
            spec: spec.clone(),
            price_max_hour: None,
        };
        let (after, result) = self.try_out(owner, call);
        let deployed = after.state.project(&owner, &spec.project);
        let places = match (&result, deployed) {
            (Ok(()), Some(id)) => places(&after.state, id, spec),
            _ => Vec::new(),
        };
        let escrow = deployed
            .and_then(|id| after.state.deployments.get(&id))
            .map_or(Amount::ZERO, |d| d.escrow);
        QuoteOutcome {
            lines,
            total_hour: total,
            transfer_gib: price(1 << 30, tariff.transfer, Resource::Transfer),
            escrow,
            changes,
            places,
            refusal: result.err().filter(|r| r.kind != RejectKind::Stale),
        }
    }
}
