//! The first state of a network that goes on from what another one came to.
//!
//! Balances, hosts, deployments, lotteries and proposals stay; heights and epochs are counted
//! anew, and everything that hung on the old network's key or digest is put where the new one
//! looks for it. Validators do not stay: their pay and their bonds go to their owners, and the
//! founders of the new network sit first, with no bond until they renew. Money is conserved.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest};

use crate::duty::{Duties, fees_account};
use crate::execute::Context;
use crate::host::standing;
use crate::lottery::pot_account;
use crate::state::State;
use crate::table::Table;
use crate::validator::fund_account;
use crate::vote::Phase;
use crate::{BlockEnv, Genesis, duty, invariant, lots, lottery};

/// Where a network goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Origin {
    /// Digest of the other network's genesis.
    pub network: Digest,
    /// The last block of one of its epochs.
    pub height: u64,
    pub block: Digest,
    /// Merkle root of the state after it, in canonical bytes cut into chunks, as the block's duty
    /// names it.
    pub state: Digest,
}

/// Why no network can go on from a state.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    #[error("the state cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("the state is of block {0}, which does not end an epoch")]
    Height(u64),
    #[error("the new network's epochs have {new} blocks, the old one's had {old}")]
    Epochs { old: u64, new: u64 },
    #[error("the new network begins at {new} ms, before the state's time, {old} ms")]
    Time { old: u64, new: u64 },
    #[error(transparent)]
    Broken(#[from] invariant::BrokenInvariant),
}

impl State {
    /// The state at height 0 of the network of `genesis`, from `exported`: what [`State::save`]
    /// gave at the end of an epoch of another network.
    pub fn restarted(genesis: &Genesis, exported: &[u8]) -> Result<Self, RestartError> {
        let before = Self::load(exported)?;
        let blocks = before.params().epoch_blocks.max(1);
        let (ended, new) = (before.height() + 1, genesis.params.epoch_blocks);
        if !ended.is_multiple_of(blocks) {
            return Err(RestartError::Height(before.height()));
        }
        if new != blocks {
            return Err(RestartError::Epochs { old: blocks, new });
        }
        let (old, new) = (before.time_ms(), genesis.time_ms);
        if new <= old {
            return Err(RestartError::Time { old, new });
        }
        let mut state = wound_up(before, ended, genesis.time_ms);
        move_pots(&mut state, &genesis.digest());
        count_anew(&mut state, ended, ended / blocks);
        let globals = &mut state.globals;
        globals.network = genesis.digest();
        globals.name = genesis.name.clone();
        globals.params = genesis.params.clone();
        globals.faucet = genesis.faucet;
        globals.watchers = genesis.watchers.iter().map(AccountId::of).collect();
        globals.height = 0;
        globals.routes_height = 0;
        globals.time_ms = genesis.time_ms;
        globals.awake_ms = genesis.time_ms;
        let watchers = globals.watchers.len();
        let hosts: Vec<_> = state.hosts.iter().map(|(id, _)| *id).collect();
        for id in hosts {
            if let Some(host) = state.hosts.get_mut(&id) {
                // Nobody has voted yet, and what stands stands until somebody does.
                host.silent = standing(watchers, host.online);
            }
        }
        lots::founding(&mut state, &genesis.validators);
        state.forget_changed();
        state.reindex();
        invariant::check_all(&state)?;
        Ok(state)
    }
}

/// The epoch that is over is paid, and every bond given back.
fn wound_up(before: State, height: u64, time_ms: u64) -> State {
    let env = BlockEnv {
        height,
        time_ms,
        ..BlockEnv::default()
    };
    let mut context = Context::new(before, env);
    context.state.globals.height = height;
    duty::pass_time(&mut context);
    let validators = context.state.validators.iter();
    let bonds: Vec<(AccountId, Amount)> = validators
        .map(|(_, v)| (v.leaving.as_ref().map_or(v.owner, |l| l.to), v.bond))
        .filter(|(_, bond)| !bond.is_zero())
        .collect();
    for (to, bond) in bonds {
        context.unbond(to, bond);
    }
    let mut state = context.state;
    state.validators = Table::new("validators");
    state.drawings = Table::new("drawings");
    state.watched = Table::new("watched");
    state
}

/// Fees that nobody has earned, bonds that were lost and what is in the lotteries' pots lie in
/// accounts named after the network.
fn move_pots(state: &mut State, network: &Digest) {
    let old = state.globals.network;
    let mut moved = vec![
        (fees_account(&old), fees_account(network)),
        (fund_account(&old), fund_account(network)),
    ];
    let rounds = state.lotteries.iter();
    moved.extend(rounds.map(|(id, _)| (pot_account(&old, *id), pot_account(network, *id))));
    for (from, to) in moved {
        if let Some(account) = state.accounts.get(&from).cloned() {
            state.accounts.remove(&from);
            state.accounts.insert(to, account);
        }
    }
    let left = state.account(&fees_account(network)).spendable;
    state.duties = Table::new("duties");
    if !left.is_zero() {
        let duties = Duties {
            fees: left,
            ..Duties::default()
        };
        state.duties.insert(0, duties);
    }
}

/// What was said of heights and epochs to come stays as far away; what is past was at 0.
fn count_anew(state: &mut State, blocks: u64, epochs: u64) {
    let shift = |height: &mut u64| *height = height.saturating_sub(blocks);
    let rounds: Vec<_> = state.lotteries.iter().map(|(id, _)| *id).collect();
    for id in rounds {
        let Some(round) = state.lotteries.get_mut(&id) else {
            continue;
        };
        shift(&mut round.terms.close_height);
        shift(&mut round.terms.draw_height);
        shift(&mut round.opened_at);
        round.closed_at.as_mut().map(shift);
        round.over_at.as_mut().map(shift);
    }
    // Those of a round that is closed are fixed by its root.
    let open = |id| {
        state
            .lotteries
            .get(id)
            .is_some_and(|r| r.phase == lottery::Phase::Open)
    };
    let entries = state.entries.iter().filter(|((id, _), _)| open(id));
    let entries: Vec<_> = entries.map(|(id, _)| *id).collect();
    for id in entries {
        if let Some(entry) = state.entries.get_mut(&id) {
            shift(&mut entry.height);
        }
    }
    let proposals: Vec<_> = state.proposals.iter().map(|(id, _)| *id).collect();
    for id in proposals {
        let Some(proposal) = state.proposals.get_mut(&id) else {
            continue;
        };
        shift(&mut proposal.closes);
        match &mut proposal.phase {
            Phase::Accepted { from } => shift(from),
            Phase::Done { since } => shift(since),
            Phase::Open | Phase::Rejected => {}
        }
    }
    let members: Vec<_> = state.members.iter().map(|(id, _)| *id).collect();
    for id in members {
        if let Some(member) = state.members.get_mut(&id) {
            member.last = member.last.saturating_sub(epochs);
        }
    }
}

#[cfg(test)]
mod tests;
