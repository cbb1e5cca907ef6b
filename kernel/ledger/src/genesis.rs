//! The first state of a network, as a file everyone starts from.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest, PublicKey, Resource};

use crate::{Origin, Params, lots};

const DAY_MS: u64 = 86_400_000;
/// One bit each.
const WATCHERS_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    pub name: String,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub params: Params,
    /// All money there is: the sum is the supply. The faucet's pool is one of them.
    pub balances: Vec<(AccountId, Amount)>,
    /// Pays the faucet's gifts.
    pub faucet: AccountId,
    /// Those whom the network's key is dealt to: they sit first.
    pub validators: Vec<lots::Founder>,
    /// Identity keys of the validators that listen for hosts' signs of life and vote on who is
    /// silent (RFD 12), at most 128. None: hosts give signs of life by transactions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watchers: Vec<PublicKey>,
    /// The network goes on from what another one came to: balances are that state's, and those
    /// named here are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    #[error("the balances add up to more than an amount can hold: give out less")]
    Supply,
    #[error("account {0} is listed twice: add its balances up")]
    Twice(AccountId),
    #[error("{0} watchers are named; there may be 128, each once")]
    Watchers(usize),
    #[error(
        "an epoch of {blocks} blocks is too short for {founders} validators to hand the network's key on: it takes {least}, or fewer validators"
    )]
    Epoch {
        blocks: u64,
        founders: usize,
        least: u64,
    },
    #[error("the rate of {0} is above 18 million credits a unit: lower it")]
    Rate(&'static str),
    #[error("{0} must be from {1} to {2}")]
    Param(&'static str, u64, u64),
}

impl Genesis {
    pub fn digest(&self) -> Digest {
        Digest::of_value("runrig-genesis", self)
    }

    /// Whether a network may start from it: for its founder, before anyone joins.
    pub fn check(&self) -> Result<(), GenesisError> {
        let mut seen = BTreeSet::new();
        let mut supply = Amount::ZERO;
        for (account, amount) in &self.balances {
            if !seen.insert(*account) {
                return Err(GenesisError::Twice(*account));
            }
            supply = supply.checked_add(*amount).ok_or(GenesisError::Supply)?;
        }
        let distinct: BTreeSet<_> = self.watchers.iter().map(AccountId::of).collect();
        if distinct.len() != self.watchers.len() || distinct.len() > WATCHERS_MAX {
            return Err(GenesisError::Watchers(self.watchers.len()));
        }
        check_params(&self.params)?;
        let (blocks, founders) = (self.params.epoch_blocks, self.validators.len());
        let least = Params::epoch_blocks_for(founders as u32);
        if blocks < least {
            return Err(GenesisError::Epoch {
                blocks,
                founders,
                least,
            });
        }
        Ok(())
    }
}

/// Whether a network may go by them: at its start, and after a vote.
pub(crate) fn check_params(p: &Params) -> Result<(), GenesisError> {
    for resource in Resource::ALL {
        if p.tariff.rate(resource).0 > u64::MAX.into() {
            return Err(GenesisError::Rate(resource.name()));
        }
    }
    if p.fee.0 > u64::MAX.into() {
        return Err(GenesisError::Rate("a transaction (fee)"));
    }
    for (name, value, least, most) in [
        ("report_interval_ms", p.report_interval_ms, 100, DAY_MS),
        ("heartbeat_ms", p.heartbeat_ms, 100, DAY_MS),
        ("host_timeout_ms", p.host_timeout_ms, 100, DAY_MS),
        ("escrow_target_ms", p.escrow_target_ms, 1_000, 365 * DAY_MS),
        ("alert_ms", p.alert_ms, 0, 365 * DAY_MS),
        ("clock_skew_ms", p.clock_skew_ms, 0, DAY_MS),
        ("services_max", p.services_max.into(), 1, 10_000),
        ("replicas_max", p.replicas_max.into(), 1, 10_000),
        ("gateways", p.gateways.len() as u64, 0, 64),
        ("epoch_blocks", p.epoch_blocks, 16, 1 << 20),
        ("seats_max", p.seats_max.into(), 1, 128),
        ("block_idle_ms", p.block_idle_ms, 100, 60_000),
        ("block_busy_ms", p.block_busy_ms, 10, p.block_idle_ms),
        ("vote_blocks", p.vote_blocks, 1, 10_000_000),
        ("vote_delay_blocks", p.vote_delay_blocks, 1, 10_000_000),
        ("ticket_bits", p.ticket_bits.into(), 0, 18),
        ("ticket_epochs", p.ticket_epochs, 4, 48),
        ("bond_epochs", p.bond_epochs, 1, 10_000),
        ("witness_ms", p.witness_ms, 0, DAY_MS),
    ] {
        if !(least..=most).contains(&value) {
            return Err(GenesisError::Param(name, least, most));
        }
    }
    Ok(())
}
