use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest, Hours, Offer, Resources};

use super::{Joined, MeshPoint, Record};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Host {
    pub name: String,
    pub address: String,
    pub owner: AccountId,
    pub machine: Digest,
    pub offer: Offer,
    /// What its owner lends at the most, if that was said since it came.
    pub allotment: Option<Resources>,
    /// Capacity less what is reserved on it.
    pub free: Resources,
    pub online: bool,
    pub cordoned: bool,
    /// What runs here moves to other hosts, and nothing new comes.
    pub draining: bool,
    /// In which it takes work; none: always.
    pub hours: Option<Hours>,
    /// When they were said.
    pub hours_ms: u64,
    /// Outside its hours: what runs here moves to other hosts, and nothing new comes.
    pub closed: bool,
    /// Soon outside them: nothing new comes.
    pub closing: bool,
    /// When these two are looked at again; 0: never.
    pub turn_ms: u64,
    pub registered_ms: u64,
    pub last_seen_ms: u64,
    /// Bit i: watcher i does not hear it.
    pub silent: u128,
    /// Times it fell silent lately, each soon after the one before.
    pub flaps: u32,
    /// Gets new work from then on: a host that has come back must stay for a while.
    pub trusted_ms: u64,
    /// Grows by one with every change of what should run here: plans are numbered by it. Begins
    /// with the time of registration in µs, so that a host that left and joins anew goes on above.
    pub plan: u64,
    /// Number of its last usage report.
    pub interval: u64,
    /// Lies on the ledger until it leaves.
    pub bond: Amount,
    /// Paid to the owner for this host so far.
    pub earned: Amount,
    /// What its outcomes come to: placement goes by it.
    pub record: Record,
    /// Where it said that its links end.
    pub mesh: Option<MeshPoint>,
    /// The token by which its owner let it join, if it was by one.
    pub joined: Option<Joined>,
}
