//! What surrounds transactions: the block's circumstances in, outcomes and events out.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{Amount, DeploymentId, Digest, HostId};

use crate::{
    Rejection, account, deployment, duty, host, lease, limit, lots, lottery, validator, vote,
    witness,
};

/// Circumstances of a block, agreed by consensus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockEnv {
    pub height: u64,
    /// Ledger time, milliseconds since 1970: what validators agreed on. Strictly greater than
    /// the parent's.
    pub time_ms: u64,
    /// Chance: the epoch's beacon, in the block that tells it.
    pub beacon: Option<Digest>,
    /// What it shows of the duties of validators.
    pub seen: duty::Seen,
}

/// What became of one transaction of a block, in block order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Outcome {
    pub transaction: Digest,
    /// `None`: applied.
    pub rejection: Option<Rejection>,
    /// Fee taken: [`crate::Params::fee`], or nothing for what is free.
    pub fee: Amount,
    /// How many of the block's events came before those that it caused. The block's own come
    /// before those of all transactions, and after them.
    pub before: u32,
    /// How many it caused.
    pub events: u32,
}

impl Outcome {
    /// Of all `events` of its block those that it caused.
    pub fn caused<'a>(&self, events: &'a [Event]) -> &'a [Event] {
        let (before, own) = (self.before as usize, self.events as usize);
        events
            .get(before..before.saturating_add(own))
            .unwrap_or_default()
    }
}

/// Something that happened, in order. Its canonical bytes are a leaf of the block's events root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Account(account::Event),
    Host(host::Event),
    Deployment(deployment::Event),
    Lease(lease::Event),
    Lots(lots::Event),
    Lottery(lottery::Event),
    Duty(duty::Event),
    Vote(vote::Event),
    Validator(validator::Event),
    Witness(witness::Event),
    Limit(limit::Event),
}

impl Event {
    /// The deployment that it is about.
    pub fn deployment(&self) -> Option<DeploymentId> {
        use crate::deployment::Event as D;
        use crate::lease::Event as L;
        match self {
            Self::Deployment(event) => Some(match event {
                D::Deployed { deployment, .. }
                | D::Removed { deployment }
                | D::Closed { deployment, .. }
                | D::SetRunning { deployment, .. }
                | D::Restarted { deployment, .. }
                | D::AllocationPlaced { deployment, .. }
                | D::AllocationLeaves { deployment, .. }
                | D::AllocationStays { deployment, .. }
                | D::Scaled { deployment, .. }
                | D::TriedAgain { deployment, .. }
                | D::Unplaced { deployment, .. }
                | D::ReleaseGood { deployment, .. }
                | D::ReleaseStuck { deployment, .. }
                | D::RolledBack { deployment, .. }
                | D::FundsLow { deployment, .. }
                | D::Frozen { deployment }
                | D::Limited { deployment }
                | D::Thawed { deployment } => *deployment,
            }),
            Self::Lease(event) => Some(match event {
                L::StatusChanged { deployment, .. } | L::LeaseClosed { deployment, .. } => {
                    *deployment
                }
                L::Settled(receipt) => receipt.deployment,
            }),
            Self::Account(_)
            | Self::Host(_)
            | Self::Lots(_)
            | Self::Lottery(_)
            | Self::Duty(_)
            | Self::Vote(_)
            | Self::Validator(_)
            | Self::Witness(_)
            | Self::Limit(_) => None,
        }
    }

    /// The host that it is about, or on which it happened.
    pub fn host(&self) -> Option<HostId> {
        use crate::deployment::Event as D;
        use crate::lease::Event as L;
        use crate::witness::Event as W;
        match self {
            Self::Host(event) => event.host(),
            Self::Deployment(D::AllocationPlaced { host, .. } | D::TriedAgain { host, .. })
            | Self::Lease(L::StatusChanged { host, .. })
            | Self::Witness(W::HostFlagged { host, .. }) => Some(*host),
            Self::Lease(L::Settled(receipt)) => Some(receipt.host),
            _ => None,
        }
    }
}
