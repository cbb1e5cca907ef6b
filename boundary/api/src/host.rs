//! A host as anybody may see it.

use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, HostId, Hours, Offer, Resources};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostView {
    #[schema(value_type = String)]
    pub host: HostId,
    pub name: String,
    pub address: String,
    #[schema(value_type = String)]
    pub owner: AccountId,
    #[schema(value_type = Object)]
    pub offer: Offer,
    #[schema(value_type = Object)]
    pub free: Resources,
    /// What its owner lends at the most, if that was said since it came.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub allotment: Option<Resources>,
    pub online: bool,
    pub cordoned: bool,
    /// What runs here moves to other hosts.
    pub draining: bool,
    /// In which it takes work, in UTC, such as `mon-fri 20-8, sat-sun 0-24`; none: always.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub hours: Option<Hours>,
    /// Outside its hours: as with a drain, but for what has volumes there.
    #[serde(default)]
    pub closed: bool,
    /// Gets new work from then on, if it is in the future: it fell silent before.
    pub trusted_ms: u64,
    pub last_seen_ms: u64,
    pub allocations: u32,
    #[schema(value_type = String)]
    pub earned: Amount,
    /// Goes back to its owner when it leaves.
    #[schema(value_type = String)]
    pub bond: Amount,
    /// Number of its last usage report: the next one carries one more.
    pub interval: u64,
    #[serde(default)]
    pub reputation: Reputation,
    /// When witnesses last got no answer from it, and who (RFD 21).
    #[serde(default)]
    #[schema(value_type = Object)]
    pub flag: Option<ledger::witness::Flag>,
    /// The token by which its owner let it join, if it was by one (RFD 28).
    #[serde(default)]
    #[schema(value_type = Object)]
    pub joined: Option<ledger::host::Joined>,
}

impl HostView {
    /// When it opens again, if it is outside its hours.
    pub fn closed_until_ms(&self, now_ms: u64) -> Option<u64> {
        let hours = self.hours.filter(|_| self.closed)?;
        match hours.is_open(now_ms) {
            // A reader's clock may be ahead of the ledger's.
            true => Some(now_ms),
            false => hours.changes_after(now_ms),
        }
    }
}

/// What a host's outcomes come to, as it is now: older ones count less, half in a week. Only
/// what others than its owner paid for is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reputation {
    /// Lower bound of the share of hours that it serves well, in thousandths; a newcomer's is
    /// 200. Below 50 it gets work only where nobody else can take it.
    pub reliability_milli: u32,
    /// Time in which it served, in milliseconds.
    pub served_ms: u64,
    /// Times that it fell silent on what ran there, in thousandths.
    pub silences_milli: u64,
    /// Reports that came late, in thousandths.
    pub late_milli: u64,
    /// Times that a quorum of witnesses got no answer from what it said was running, in
    /// thousandths.
    #[serde(default)]
    pub flags_milli: u64,
}
