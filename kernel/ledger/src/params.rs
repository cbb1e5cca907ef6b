//! Network parameters: on the ledger, the same for all. Process settings live elsewhere.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Resource};

/// Price of one quoted unit ([`Resource::unit`]) of each resource, in 10⁻¹² credit.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Tariff {
    pub cpu: Amount,
    pub memory: Amount,
    pub storage: Amount,
    pub bandwidth: Amount,
    pub transfer: Amount,
}

impl Tariff {
    /// Fixed-rate mode: about 0.01 credit per core-hour.
    pub const FIXED: Self = Self {
        cpu: Amount(2_800_000),
        memory: Amount(350_000),
        storage: Amount(30),
        bandwidth: Amount(10_000),
        transfer: Amount(10),
    };

    /// What a host asks that asks `milli` thousandths of these rates; rounded down.
    #[must_use]
    pub fn part(&self, milli: u32) -> Self {
        let part = |rate: Amount| Amount(rate.0.saturating_mul(milli.into()) / 1_000);
        Self {
            cpu: part(self.cpu),
            memory: part(self.memory),
            storage: part(self.storage),
            bandwidth: part(self.bandwidth),
            transfer: part(self.transfer),
        }
    }

    pub fn rate(&self, resource: Resource) -> Amount {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
            Resource::Storage => self.storage,
            Resource::Bandwidth => self.bandwidth,
            Resource::Transfer => self.transfer,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Params {
    pub tariff: Tariff,
    /// A host reports usage this often while something runs on it.
    pub report_interval_ms: u64,
    /// A host that reports nothing sends a heartbeat this often; see [`crate::State::liveness`].
    pub heartbeat_ms: u64,
    /// No word for so long: the host counts as offline, gets nothing new, is not routed to,
    /// and its replicas get other places.
    pub host_timeout_ms: u64,
    /// Escrow is kept filled for so much time at the worst-case burn.
    pub escrow_target_ms: u64,
    /// Owner is alerted when funds last less than this.
    pub alert_ms: u64,
    /// Usage may be dated at most this far after block time.
    pub clock_skew_ms: u64,
    /// What `Faucet` gives once per account; zero switches it off.
    pub faucet: Amount,
    pub services_max: u32,
    pub replicas_max: u32,
    /// Whose word counts on what is asked of services: autoscaling goes by it. At most 64.
    #[serde(default)]
    pub gateways: Vec<AccountId>,
    /// What a transaction pays, applied or refused, unless it serves the network
    /// ([`crate::Call::is_free`]).
    #[serde(default)]
    pub fee: Amount,
    /// An idle network makes a block so long after the one before.
    pub block_idle_ms: u64,
    /// When transactions wait, a block comes so long after the one before: they gather.
    pub block_busy_ms: u64,
    /// A vote is open for so many blocks.
    pub vote_blocks: u64,
    /// From when a change is accepted, so many blocks pass at least before it counts.
    pub vote_delay_blocks: u64,
    /// Blocks of an epoch: the run that one committee makes.
    pub epoch_blocks: u64,
    /// All candidates sit while there are no more; above, so many are drawn.
    pub seats_max: u32,
    /// What a host's account bonds when it enters; its owner gets it back when it leaves.
    pub host_bond: Amount,
    /// What a validator's owner bonds for it.
    pub validator_bond: Amount,
    /// Zero bits that a ticket begins with: see [`lots::is_ticket`]. Zero: every nonce is good.
    pub ticket_bits: u32,
    /// A ticket made from the beacon of one epoch is good for drawings of so many after it.
    pub ticket_epochs: u64,
    /// A bond goes back so many epochs after its validator has sat for the last time.
    pub bond_epochs: u64,
    /// Witnesses look at hosts once in so long, by ledger time (RFD 21). Zero: never.
    #[serde(default)]
    pub witness_ms: u64,
}

impl Params {
    /// How many are drawn to sit: [`Self::seats_max`], or as many as an epoch is long enough for. Each
    /// who sits makes known how it hands the key on in a block that it leads, in the second half of
    /// the epoch and before its last block; they lead in turn, and a turn or two may go by without one.
    pub fn seats(&self) -> u32 {
        let turns = self.epoch_blocks.saturating_sub(4) / 2;
        self.seats_max
            .min(turns.try_into().unwrap_or(u32::MAX))
            .max(1)
    }

    /// Blocks of the shortest epoch in which `seats` can hand the key on.
    pub fn epoch_blocks_for(seats: u32) -> u64 {
        2 * u64::from(seats) + 4
    }

    /// `runrig dev`.
    pub fn dev() -> Self {
        Self {
            tariff: Tariff::FIXED,
            report_interval_ms: 5_000,
            heartbeat_ms: 1_000,
            host_timeout_ms: 3_500,
            escrow_target_ms: 3_600_000,
            alert_ms: 3_600_000,
            clock_skew_ms: 2_000,
            faucet: Amount::credits(1_000),
            services_max: 100,
            replicas_max: 1_000,
            gateways: Vec::new(),
            fee: Amount::ZERO,
            block_idle_ms: 900,
            block_busy_ms: 60,
            vote_blocks: 20_000,
            vote_delay_blocks: 512,
            epoch_blocks: 256,
            seats_max: 100,
            host_bond: Amount::ZERO,
            validator_bond: Amount::credits(500),
            ticket_bits: 16,
            ticket_epochs: 32,
            bond_epochs: 8,
            witness_ms: 30_000,
        }
    }
}
