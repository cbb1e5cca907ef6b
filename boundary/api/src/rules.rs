//! The bodies of what the network's own rules are about: time, duties, votes, lotteries.

use serde::{Deserialize, Serialize};
use types::{Amount, Digest, LotteryId, ProposalId, PublicKey};
use utoipa::ToSchema;

use crate::{DutyProof, EventProof};

/// A change of the network's parameters that is, or was, voted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProposalView {
    #[schema(value_type = String)]
    pub id: ProposalId,
    pub yes: u64,
    pub no: u64,
    /// How many may vote; more than half of them decide.
    pub members: u64,
    #[schema(value_type = Object)]
    pub proposal: ledger::vote::Proposal,
}

/// A round of the public drawing service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LotteryView {
    #[schema(value_type = String)]
    pub lottery: LotteryId,
    /// All that may be won: what entries paid, and the owner's stake.
    #[schema(value_type = String)]
    pub pot: Amount,
    /// The first epoch whose beacon may decide, if the round closes by height.
    pub draw_epoch: u64,
    /// Height at which that epoch begins.
    pub draw_from: u64,
    #[schema(value_type = Object)]
    pub round: ledger::lottery::Round,
}

/// All that proves a round, to be kept as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LotteryExport {
    #[schema(value_type = String)]
    pub lottery: LotteryId,
    #[schema(value_type = Object)]
    pub round: ledger::lottery::Round,
    /// By their numbers, from 0.
    #[schema(value_type = Vec<Object>)]
    pub entries: Vec<ledger::lottery::Entry>,
    /// Of the event that fixed the entries.
    pub closed: Option<EventProof>,
    /// Of the block that told the beacon.
    pub told: Option<DutyProof>,
    /// Of the event that drew it, or paid it back.
    pub over: Option<EventProof>,
}

/// Between which two times something came about. An honest validator's clock had shown
/// `not_before_ms` before the block was made, and an honest one's no more than `not_after_ms`
/// when the block was final, as long as no more than a third of those who sit lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhenView {
    pub height: u64,
    /// That it is in the block; `None` if a block was asked for.
    pub transaction: Option<TransactionProof>,
    pub not_before_ms: u64,
    /// `None`: no later block tells yet that a quorum had seen it final.
    pub not_after_ms: Option<u64>,
    /// Of the block itself.
    pub made: DutyProof,
    /// Of the later block whose clock says that it was final.
    pub seen: Option<DutyProof>,
}

/// A transaction under its block's payload root, and what came of it under the outcomes root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionProof {
    /// Base64 of canonical bytes.
    pub transaction: String,
    pub index: u64,
    pub count: u64,
    #[schema(value_type = Vec<String>)]
    pub path: Vec<Digest>,
    /// Base64 of canonical bytes of a `ledger::Outcome`; `None`: whoever answered does not show it.
    #[serde(default)]
    pub outcome: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub outcome_path: Vec<Digest>,
}

/// That a screener has checked transactions: RFD 21.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScreenedBy {
    #[schema(value_type = String)]
    pub key: PublicKey,
    pub epoch: u64,
    /// On each in their order: 64 bytes, base64.
    pub words: Vec<String>,
}

impl DutyLine {
    pub fn of(key: PublicKey, done: &ledger::duty::Done) -> Self {
        Self {
            key,
            led: done.led,
            stated: done.stated,
            off: done.off,
            dealt: done.dealt,
            witnessed: done.witnessed,
            screened: done.screened,
            earned: done.earned,
        }
    }
}

/// What validators did in an epoch, as far as blocks show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DutiesView {
    pub epoch: u64,
    /// Else more may come.
    pub ended: bool,
    /// What the epoch's transactions paid.
    #[schema(value_type = String)]
    pub fees: Amount,
    pub validators: Vec<DutyLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DutyLine {
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// Blocks made.
    pub led: u64,
    /// Blocks that its clock went into.
    pub stated: u64,
    /// Blocks that its clock was left out of, as it was too far from the median.
    pub off: u64,
    /// Did it deal shares of the key to those who hold it next?
    pub dealt: bool,
    /// Rounds in which it said, as a witness, what it saw of hosts.
    #[serde(default)]
    pub witnessed: u64,
    /// Blocks with a transaction that it brought as a screener, and that paid its fee.
    #[serde(default)]
    pub screened: u64,
    /// Its part of the epoch's fees, once that has ended.
    #[schema(value_type = String)]
    pub earned: Amount,
}
