//! What a deployment was at each release, kept to run by, to compare and to go back to.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{DeploymentId, DeploymentSpec};

use crate::execute::Context;
use crate::state::State;

/// Releases kept besides those that replicas still run by and the last that came good.
const KEPT: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Release {
    pub spec: DeploymentSpec,
    pub made_ms: u64,
    pub cause: Cause,
}

/// Why there is a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Deployed,
    /// The same as release `to`, again.
    RolledBack {
        to: u32,
        /// What failed; empty if the owner asked for it.
        why: String,
    },
}

impl State {
    /// Releases of a deployment that are kept, in order.
    pub fn releases_of(
        &self,
        id: DeploymentId,
    ) -> impl DoubleEndedIterator<Item = (u32, &Release)> {
        self.releases
            .range((id, 0)..=(id, u32::MAX))
            .map(|((_, number), release)| (*number, release))
    }
}

/// Forgets old releases that nothing refers to.
pub(super) fn prune(context: &mut Context, id: &DeploymentId) {
    let Some(deployment) = context.state.deployments.get(id) else {
        return;
    };
    let mut needed: BTreeSet<u32> = deployment
        .allocations
        .iter()
        .filter_map(|a| Some(context.state.allocations.get(a)?.release))
        .collect();
    needed.extend([deployment.good, deployment.release]);
    let all: Vec<u32> = context.state.releases_of(*id).map(|(n, _)| n).collect();
    let old = all.len().saturating_sub(KEPT);
    for number in all.into_iter().take(old).filter(|n| !needed.contains(n)) {
        context.state.releases.remove(&(*id, number));
    }
}
