//! Lists of the state, a page at a time.
//!
//! A page costs what its rows cost: rows before it are counted past, not looked at.

use std::collections::BTreeSet;

use ledger::State;
use ledger::deployment::Deployment;
use serde::Serialize;
use types::{AccountId, AllocationId, DeploymentId, HostId};

use crate::views;

/// Rows in one answer, and about how many bytes.
pub const ROWS_MAX: usize = 1_000;
const ROWS_BYTES_MAX: usize = 8 << 20;

/// One page.
pub struct Rows {
    /// A JSON list.
    pub json: Vec<u8>,
    /// Number of the row that the next page begins with, if there is one.
    pub next: Option<usize>,
}

/// Whose allocations: the first that is said counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whose {
    pub deployment: Option<DeploymentId>,
    pub owner: Option<AccountId>,
    pub host: Option<HostId>,
}

/// Rows of `ids` from number `from` on, as many as one answer holds.
pub fn rows<K, V: Serialize>(
    ids: impl Iterator<Item = K>,
    from: usize,
    view: impl Fn(K) -> Option<V>,
) -> serde_json::Result<Rows> {
    let mut json = b"[".to_vec();
    let mut next = None;
    for (count, id) in ids.skip(from).enumerate() {
        if count >= ROWS_MAX || json.len() >= ROWS_BYTES_MAX {
            next = Some(from + count);
            break;
        }
        let Some(row) = view(id) else { continue };
        if json.len() > 1 {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &row)?;
    }
    json.push(b']');
    Ok(Rows { json, next })
}

pub fn hosts(state: &State, from: usize) -> serde_json::Result<Rows> {
    let ids = state.hosts.iter().map(|(id, _)| *id);
    rows(ids, from, |id| views::host(state, id))
}

/// Of `owner`, the removed ones too if `all`; without an owner all live ones.
pub fn deployments(
    state: &State,
    owner: Option<AccountId>,
    all: bool,
    from: usize,
) -> serde_json::Result<Rows> {
    let view = |id| views::deployment(state, id);
    match owner {
        Some(owner) => {
            let own = state.deployments_of(&owner);
            let wanted = own.filter(|(_, d)| all || !d.removed);
            rows(wanted.map(|(id, _)| id), from, view)
        }
        None => rows(state.live().map(|(id, _)| id), from, view),
    }
}

/// Names that may be asked for at once.
pub const NAMES_MAX: usize = 64;

/// The live ones of `owner` with these names: found by their names, not looked for.
pub fn named(
    state: &State,
    owner: AccountId,
    names: &BTreeSet<&str>,
    from: usize,
) -> serde_json::Result<Rows> {
    let ids = names.iter().filter_map(|name| state.project(&owner, name));
    rows(ids, from, |id| views::deployment(state, id))
}

/// The ended ones too if `all`.
pub fn allocations(
    state: &State,
    whose: Whose,
    all: bool,
    from: usize,
) -> serde_json::Result<Rows> {
    let of = |d: &Deployment| -> Vec<AllocationId> {
        let ended = d.ended.iter().filter(|_| all);
        d.allocations.iter().chain(ended).copied().collect()
    };
    let view = |id| views::allocation(state, id);
    if let Some(id) = whose.deployment {
        let ids = state.deployments.get(&id).map(of).unwrap_or_default();
        rows(ids.into_iter(), from, view)
    } else if let Some(owner) = whose.owner {
        let own = state.deployments_of(&owner);
        rows(own.flat_map(|(_, d)| of(d)), from, view)
    } else if let Some(host) = whose.host {
        rows(state.allocations_on(&host).map(|(id, _)| id), from, view)
    } else {
        rows(std::iter::empty(), from, view)
    }
}
