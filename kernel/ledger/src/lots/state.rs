use borsh::{BorshDeserialize, BorshSerialize};
use lots::{Candidate, Lineup, Rules, candidates_root};
use serde::{Deserialize, Serialize};
use types::{Digest, PublicKey};

use crate::State;

/// A validator of the first hour: sits from the genesis on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Founder {
    pub key: PublicKey,
    /// `ip:port` where other validators find it.
    pub address: String,
}

/// The drawing of one epoch's committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Drawing {
    /// In the order of their keys.
    pub candidates: Vec<Candidate>,
    /// How many are drawn, as the parameters said when the candidates froze.
    pub seats: u32,
    pub beacon: Option<Digest>,
    /// Height of the block that told it.
    pub told_at: Option<u64>,
    /// `None` until the lot has fallen.
    pub lineup: Option<Lineup>,
}

impl Drawing {
    /// Of the `candidates`, and nothing known yet.
    pub(super) fn frozen(candidates: Vec<Candidate>, seats: u32) -> Self {
        Self {
            candidates,
            seats,
            beacon: None,
            told_at: None,
            lineup: None,
        }
    }

    pub fn rules(&self) -> Rules {
        Rules::of(self.seats)
    }

    /// What the block says that froze the candidates.
    pub fn root(&self) -> Digest {
        candidates_root(&self.candidates, self.rules())
    }
}

impl State {
    /// Who sits in `epoch`; `None` while that is not decided, and when it is long past.
    pub fn committee(&self, epoch: u64) -> Option<&[lots::Seat]> {
        let drawing = self.drawings.get(&epoch)?;
        Some(&drawing.lineup.as_ref()?.committee)
    }

    /// The screeners of `epoch`, in the order drawn; nobody while that is not decided, or all sit.
    pub fn screeners(&self, epoch: u64) -> Vec<PublicKey> {
        let drawing = self.drawings.get(&epoch);
        let drawn = drawing.and_then(|d| Some((d.lineup.as_ref()?, d.beacon.unwrap_or_default())));
        drawn.map_or_else(Vec::new, |(lineup, beacon)| {
            lots::screeners(lineup, &beacon)
        })
    }

    /// May the next block tell its epoch's beacon?
    pub fn wants_beacon(&self) -> bool {
        let blocks = self.params().epoch_blocks.max(1);
        let next = self.height() + 1;
        let drawing = self.drawings.get(&(next / blocks + super::apply::AHEAD));
        !next.is_multiple_of(blocks)
            && next % blocks < blocks / 2
            && drawing.is_some_and(|d| d.beacon.is_none() && d.lineup.is_none())
    }
}
