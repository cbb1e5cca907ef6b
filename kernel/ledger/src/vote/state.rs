use std::collections::BTreeMap;
use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Resource};

use crate::{Params, State};

/// The rules that this program knows; a later one is switched to by vote, at a height.
pub const VERSION: u32 = 1;

/// One parameter, and what it is to be.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// What a user's transaction pays.
    Fee(Amount),
    /// Of a quoted unit of a resource; leases that run keep theirs.
    Rate { resource: Resource, rate: Amount },
    /// What newcomers are given.
    Faucet(Amount),
    /// What a validator's owner bonds for it, from its next registration on.
    ValidatorBond(Amount),
    /// What a host bonds that enters from then on.
    HostBond(Amount),
    /// Milliseconds from a block to the next where nothing waits, and where something does.
    BlockMs { idle: u64, busy: u64 },
    /// The version of the rules.
    Version(u32),
    /// How many are drawn to sit, where there are more candidates; for drawings whose candidates
    /// freeze from then on.
    Seats(u32),
    /// Milliseconds between two looks of witnesses at hosts; 0: they do not look.
    WitnessMs(u64),
    /// For so many epochs a ticket may be drawn; tickets that are there keep theirs.
    TicketEpochs(u64),
    /// A bond goes back so many epochs after its validator sat last.
    BondEpochs(u64),
    /// A proposal is open for so many blocks, and an accepted one waits for so many at least; those
    /// under way keep theirs.
    VoteBlocks { open: u64, delay: u64 },
    /// Once, out of the network's fund.
    Pay { to: AccountId, amount: Amount },
    /// Zero bits that a new ticket begins with: each more doubles what finding one takes. Tickets that
    /// are there keep theirs.
    TicketBits(u32),
}

impl Change {
    pub(crate) fn put(&self, params: &mut Params) {
        match *self {
            Self::Fee(fee) => params.fee = fee,
            Self::Rate { resource, rate } => {
                let tariff = &mut params.tariff;
                let place = match resource {
                    Resource::Cpu => &mut tariff.cpu,
                    Resource::Memory => &mut tariff.memory,
                    Resource::Storage => &mut tariff.storage,
                    Resource::Bandwidth => &mut tariff.bandwidth,
                    Resource::Transfer => &mut tariff.transfer,
                };
                *place = rate;
            }
            Self::Faucet(gift) => params.faucet = gift,
            Self::ValidatorBond(bond) => params.validator_bond = bond,
            Self::HostBond(bond) => params.host_bond = bond,
            Self::BlockMs { idle, busy } => {
                (params.block_idle_ms, params.block_busy_ms) = (idle, busy);
            }
            Self::Seats(seats) => params.seats_max = seats,
            Self::WitnessMs(every) => params.witness_ms = every,
            Self::TicketEpochs(epochs) => params.ticket_epochs = epochs,
            Self::TicketBits(bits) => params.ticket_bits = bits,
            Self::BondEpochs(epochs) => params.bond_epochs = epochs,
            Self::VoteBlocks { open, delay } => {
                (params.vote_blocks, params.vote_delay_blocks) = (open, delay);
            }
            Self::Version(_) | Self::Pay { .. } => {}
        }
    }
}

/// As `runrig vote propose` takes it.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fee(fee) => write!(f, "fee={fee}"),
            Self::Rate { resource, rate } => write!(f, "rate.{}={rate}", resource.name()),
            Self::Faucet(gift) => write!(f, "faucet={gift}"),
            Self::ValidatorBond(bond) => write!(f, "validator_bond={bond}"),
            Self::HostBond(bond) => write!(f, "host_bond={bond}"),
            Self::BlockMs { idle, busy } => write!(f, "block_ms={idle}/{busy}"),
            Self::Version(version) => write!(f, "version={version}"),
            Self::Seats(seats) => write!(f, "seats={seats}"),
            Self::WitnessMs(every) => write!(f, "witness_ms={every}"),
            Self::TicketEpochs(epochs) => write!(f, "ticket_epochs={epochs}"),
            Self::TicketBits(bits) => write!(f, "ticket_bits={bits}"),
            Self::BondEpochs(epochs) => write!(f, "bond_epochs={epochs}"),
            Self::VoteBlocks { open, delay } => write!(f, "vote_blocks={open}/{delay}"),
            Self::Pay { to, amount } => write!(f, "pay={amount}/{to}"),
        }
    }
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Open,
    /// Takes effect at this height.
    Accepted {
        from: u64,
    },
    Rejected,
    /// Is in effect since this height.
    Done {
        since: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    pub proposer: AccountId,
    pub change: Change,
    pub phase: Phase,
    /// Votes are taken in blocks below it.
    pub closes: u64,
    /// Who may vote, and what they have said.
    pub votes: BTreeMap<AccountId, Option<bool>>,
}

impl Proposal {
    /// How many have said so.
    pub fn count(&self, said: bool) -> usize {
        self.votes.values().filter(|v| **v == Some(said)).count()
    }
}

/// Seat history of an account.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Member {
    /// Epochs in which it did duties.
    pub epochs: u64,
    /// The last of them.
    pub last: u64,
}

impl State {
    /// A later version of the rules that was voted for, and the height from which it counts.
    pub fn upgrade(&self) -> Option<(u64, u32)> {
        let all = self.proposals.iter();
        let accepted = all.filter_map(|(_, p)| match (p.phase, p.change) {
            (Phase::Accepted { from }, Change::Version(version)) => Some((from, version)),
            _ => None,
        });
        accepted.min()
    }

    /// Why this program must not execute the block at `height`, if it must not.
    pub fn too_old(&self, height: u64) -> Option<String> {
        let now = (self.globals.version > VERSION).then_some((0, self.globals.version));
        let coming = self
            .upgrade()
            .filter(|(from, version)| *version > VERSION && height >= *from);
        let (from, version) = now.or(coming)?;
        Some(format!(
            "from height {from} on this network goes by version {version} of its rules, and this program knows version {VERSION}: install a newer runrig and start it again; nothing is lost meanwhile"
        ))
    }
}
