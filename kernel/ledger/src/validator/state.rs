use borsh::{BorshDeserialize, BorshSerialize};
use lots::Candidate;
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest, PublicKey};

use crate::State;
use crate::lots::AHEAD;

/// One who may be drawn, by its identity key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Validator {
    /// Entered it, pays the bond and may take it off. A founder's is the account of its
    /// identity key.
    pub owner: AccountId,
    /// `ip:port` where other validators find it.
    pub address: String,
    /// URL of its HTTP API; empty if it does not say.
    pub api: String,
    pub bond: Amount,
    pub ticket: Digest,
    /// Last epoch that it may be drawn for by this ticket.
    pub until: u64,
    pub leaving: Option<Leaving>,
    /// It is out: it leads no more, and its key may not be entered again while this is kept.
    pub convicted: Option<Conviction>,
}

/// It sealed two blocks for one view.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Conviction {
    pub epoch: u64,
    pub view: u64,
    /// Height of the block with the proof.
    pub height: u64,
    /// The bond that it had.
    pub lost: Amount,
}

/// It is drawn no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Leaving {
    /// Gets the bond.
    pub to: AccountId,
    /// First epoch in which it does not sit, as far as the lots have fallen.
    pub from: u64,
}

impl Validator {
    pub(crate) fn candidate(&self, key: PublicKey) -> Candidate {
        Candidate {
            key,
            address: self.address.clone(),
            ticket: self.ticket,
        }
    }
}

impl State {
    /// The epoch of the latest block.
    pub fn epoch(&self) -> u64 {
        self.height() / self.params().epoch_blocks.max(1)
    }

    /// Was `key` convicted of two blocks for one view?
    pub fn is_convicted(&self, key: &PublicKey) -> bool {
        let known = self.validators.get(key);
        known.is_some_and(|v| v.convicted.is_some())
    }

    /// The newest epoch whose beacon is known: what a new ticket is made from.
    pub fn ticket_epoch(&self) -> Option<(u64, Digest)> {
        let newest = self.epoch() + AHEAD;
        let drawings = self.drawings.range(..=newest).rev();
        drawings
            .filter_map(|(epoch, drawing)| Some((*epoch, drawing.beacon?)))
            .next()
    }

    /// The last epoch, from `epoch` on, that `key` is drawn to sit in.
    pub fn seated_until(&self, key: &PublicKey, epoch: u64) -> Option<u64> {
        (epoch..=epoch + AHEAD).rev().find(|e| {
            let seats = self.committee(*e).unwrap_or_default();
            seats.iter().any(|seat| seat.key == *key)
        })
    }
}
