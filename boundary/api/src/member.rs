//! Validators, and those who would be.

use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest, PublicKey};
use utoipa::ToSchema;

/// Who may be drawn to vote, and what the next one needs to enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MembersView {
    pub height: u64,
    pub epoch: u64,
    pub epoch_blocks: u64,
    /// What an owner bonds for a validator.
    #[schema(value_type = String)]
    pub bond: Amount,
    pub ticket_bits: u32,
    pub ticket_epochs: u64,
    /// What a new ticket is made from; `None` while no beacon is known.
    pub ticket: Option<TicketView>,
    /// In the order of their keys.
    pub members: Vec<MemberView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketView {
    pub epoch: u64,
    #[schema(value_type = String)]
    pub beacon: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Identity key.
    #[schema(value_type = String)]
    pub key: PublicKey,
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// `ip:port` of the peer-to-peer listener.
    pub address: String,
    /// URL of the HTTP API; may be empty.
    pub api: String,
    #[schema(value_type = String)]
    pub bond: Amount,
    /// Last epoch that it may be drawn for by its ticket.
    pub until: u64,
    /// Place in the lineup of the present epoch, from 1; `None`: it does not sit.
    pub place: Option<u64>,
    /// Drawn for the present epoch, but not to vote.
    pub other_duties: bool,
    /// Epochs from the present one on that it is drawn to sit in, as far as decided.
    pub seats: Vec<u64>,
    /// Of the last hundred blocks, how many it led.
    pub led: u64,
    /// Drawn to look at hosts in the present epoch.
    #[serde(default)]
    pub witness: bool,
    /// Rounds of the last 64 epochs in which it said what it saw of hosts.
    #[serde(default)]
    pub witnessed: u64,
    /// Drawn as a screener in the present epoch.
    #[serde(default)]
    pub screener: bool,
    /// Blocks of the last 64 epochs with a transaction that it brought as a screener, and that paid its fee.
    #[serde(default)]
    pub screened: u64,
    /// For the duties of the last 64 epochs.
    #[schema(value_type = String)]
    pub earned: Amount,
    /// It is out, and its bond lost.
    pub convicted: Option<ConvictionView>,
    pub leaving: Option<LeavingView>,
}

/// Two blocks that it made for one view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConvictionView {
    pub epoch: u64,
    pub view: u64,
    /// Height of the block with the proof.
    pub height: u64,
    #[schema(value_type = String)]
    pub lost: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeavingView {
    /// Gets the bond.
    #[schema(value_type = String)]
    pub to: AccountId,
    /// First epoch in which it does not sit, as far as decided.
    pub from: u64,
    /// With the first block of this epoch the bond goes back.
    pub returns: u64,
}
