use std::cmp::Reverse;
use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, DeploymentId, Month};

use crate::State;

/// Projects that an order names.
pub const ORDER_MAX: usize = 64;

#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Limit {
    /// The account is told when so much is spent in a month.
    pub alert: Option<Amount>,
    /// In a month no more than this is taken for what runs.
    pub limit: Option<Amount>,
    /// Projects, the one that stops first first.
    pub order: Vec<String>,
    /// So much may be taken in the month `owed_in` all the same: it had been used when the limit was
    /// lowered, or may have been.
    pub owed: Amount,
    pub owed_in: Month,
    /// In the month `told_in`, in order.
    pub told: Vec<Notice>,
    pub told_in: Month,
    /// When the ledger looks at it again.
    pub look_ms: u64,
}

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The alert is reached.
    Alert,
    /// So many percent of the limit are: 75, 90 or 100. At 100 all that ran is stopped.
    Percent(u8),
}

/// A project in the order in which they stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub deployment: DeploymentId,
    pub project: String,
    /// It stops when about so much is spent; `None`: there is no limit.
    pub at: Option<Amount>,
    /// It is stopped.
    pub limited: bool,
}

impl Limit {
    /// What may be taken in `month` at most.
    pub fn most(&self, month: Month) -> Option<Amount> {
        let owed = match self.owed_in == month {
            true => self.owed,
            false => Amount::ZERO,
        };
        self.limit.map(|limit| limit.max(owed))
    }

    /// Where the project stops that has `after` others of `count` after it.
    pub(super) fn at(&self, after: usize, count: usize) -> Option<Amount> {
        let limit = self.limit?.0;
        let (after, steps) = (after as u128, count.saturating_sub(1).max(1) as u128);
        // In two parts, so that nothing overflows.
        let tenth = limit / 10;
        let early = tenth / steps * after + tenth % steps * after / steps;
        Some(Amount(limit - early))
    }
}

impl State {
    /// The account's projects that hold a place on a host, in the order in which its limit stops them,
    /// the first one first.
    pub fn stops(&self, owner: &AccountId) -> Vec<Stop> {
        let none = Limit::default();
        let limit = self.limits.get(owner).unwrap_or(&none);
        let ranks: BTreeMap<&str, usize> = limit
            .order
            .iter()
            .enumerate()
            .map(|(rank, name)| (name.as_str(), rank))
            .collect();
        let mut all: Vec<_> = self
            .weighed_of(owner)
            .filter(|(_, deployment)| !deployment.removed)
            .map(|(id, deployment)| {
                let rank = ranks.get(deployment.spec.project.as_str());
                (rank.copied().unwrap_or(usize::MAX), Reverse(id), deployment)
            })
            .collect();
        all.sort_unstable_by_key(|(rank, id, _)| (*rank, *id));
        let count = all.len();
        let stops = all.into_iter().enumerate();
        let stops = stops.map(|(before, (_, Reverse(deployment), record))| Stop {
            deployment,
            project: record.spec.project.clone(),
            at: limit.at(count - 1 - before, count),
            limited: record.limited,
        });
        stops.collect()
    }

    /// How many [`Self::stops`] there are, and how many of them have been.
    pub fn stops_counted(&self, owner: &AccountId) -> (u64, u64) {
        let all = self.weighed_of(owner).filter(|(_, one)| !one.removed);
        all.fold((0, 0), |(all, limited), (_, one)| {
            (all + 1, limited + u64::from(one.limited))
        })
    }
}
