//! Draw by lot: candidates, committees, lineups, witnesses, screeners.
//!
//! Invariants: a drawing is a function of the candidates, who sat before, and the beacon;
//! integers and digests only. The order in which candidates are listed does not matter, nobody
//! is drawn twice, and a candidate that none of the inputs names is never drawn.
//!
//! The candidates are frozen before the beacon is known that draws from them: nobody can choose
//! a ticket for its place. Start at [`draw`]; whoever doubts one calls [`check`].

mod shuffle;
mod ticket;
mod witness;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{Digest, PublicKey, merkle_root};

pub use shuffle::shuffled;
pub use ticket::{NONCE_MAX, find_ticket, is_ticket, ticket};
pub use witness::{
    SCREENERS_MAX, WITNESSES_MAX, is_drawn, look_message, quorum, screeners, witnesses,
};

/// One who may be drawn.
#[derive(
    Clone,
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
pub struct Candidate {
    /// Identity key: one bond, one ticket, one place.
    pub key: PublicKey,
    /// `ip:port` where other validators find it.
    pub address: String,
    pub ticket: Digest,
}

/// One who sits.
#[derive(
    Clone,
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
pub struct Seat {
    pub key: PublicKey,
    pub address: String,
    /// First epoch of the term.
    pub since: u64,
}

/// What a drawing yields.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Lineup {
    /// Who votes, in the order drawn.
    pub committee: Vec<Seat>,
    /// Those drawn after them, in order: paid for other duties.
    pub payroll: Vec<PublicKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// All sit while there are no more candidates than that; then so many are drawn.
    pub seats: usize,
    /// Most that are drawn for other duties.
    pub payroll: usize,
}

impl Rules {
    /// So many seats, and as many other duties.
    pub fn of(seats: u32) -> Self {
        Self {
            seats: seats as usize,
            payroll: seats as usize,
        }
    }
}

/// Names a set of candidates and the `rules` they are drawn by; the order of `candidates` does not
/// matter.
pub fn candidates_root(candidates: &[Candidate], rules: Rules) -> Digest {
    let mut leaves: Vec<Vec<u8>> = candidates
        .iter()
        .map(|c| borsh::to_vec(c).expect("writing to memory does not fail"))
        .collect();
    leaves.sort_unstable();
    let drawn = (rules.seats as u64, rules.payroll as u64);
    Digest::of_value("runrig-candidates", &(merkle_root(&leaves), drawn))
}

/// A candidate's place in the drawing: the lowest come first. `beacon` was not known when the
/// ticket was.
pub fn rank(beacon: &Digest, candidate: &Candidate) -> Digest {
    Digest::of_value("runrig-lot", &(beacon, candidate.key, candidate.ticket))
}

/// Who sits in `epoch`, and who does other duties.
///
/// While all fit, all sit. Above, a third of the seats (rounded up) is drawn anew: those whose
/// terms are the longest give way, and may be drawn again; so one bad draw replaces no majority.
/// No candidates: those who sat before go on.
pub fn draw(
    epoch: u64,
    candidates: &[Candidate],
    before: &[Seat],
    beacon: &Digest,
    rules: Rules,
) -> Lineup {
    let sat: BTreeMap<PublicKey, u64> = before.iter().map(|s| (s.key, s.since)).collect();
    let all_sit = distinct_up_to(rules.seats + 1, candidates) <= rules.seats;
    let order = first_ranks(candidates, &sat, beacon, rules);
    if order.is_empty() {
        return Lineup {
            committee: before.to_vec(),
            payroll: Vec::new(),
        };
    }
    let kept = match all_sit {
        true => sat.len(),
        false => rules.seats - rules.seats.div_ceil(3),
    };
    let staying = staying(&order, &sat, kept);
    let free = rules.seats.max(1).saturating_sub(staying.len());
    let mut lineup = Lineup::default();
    let mut drawn = 0;
    for (_, candidate) in &order {
        let since = staying.get(&candidate.key).copied();
        if since.is_none() {
            if drawn == free {
                if lineup.payroll.len() < rules.payroll {
                    lineup.payroll.push(candidate.key);
                }
                continue;
            }
            drawn += 1;
        }
        lineup.committee.push(Seat {
            key: candidate.key,
            address: candidate.address.clone(),
            since: since.unwrap_or(epoch),
        });
    }
    lineup
}

/// How many different keys there are, counted up to `most`.
fn distinct_up_to(most: usize, candidates: &[Candidate]) -> usize {
    let mut seen = BTreeSet::new();
    for candidate in candidates {
        if seen.len() == most {
            break;
        }
        seen.insert(candidate.key);
    }
    seen.len()
}

/// By rank, those whose lot can matter: the first, as many as sit or do other duties, and whoever
/// sat before. Who is there twice counts as he is there first. A million are ranked, and not sorted.
fn first_ranks<'a>(
    candidates: &'a [Candidate],
    sat: &BTreeMap<PublicKey, u64>,
    beacon: &Digest,
    rules: Rules,
) -> Vec<(Digest, &'a Candidate)> {
    let wanted = rules.seats.max(1) + rules.payroll + sat.len();
    let mut ranked: Vec<(Digest, usize)> = (0..)
        .zip(candidates)
        .map(|(at, candidate)| (rank(beacon, candidate), at))
        .collect();
    let mut taken = wanted;
    loop {
        taken = taken.min(ranked.len());
        if taken < ranked.len() {
            ranked.select_nth_unstable(taken);
        }
        let low = ranked[..taken].iter().map(|(_, at)| candidates[*at].key);
        let mut first: BTreeMap<PublicKey, Option<usize>> = low
            .chain(sat.keys().copied())
            .map(|key| (key, None))
            .collect();
        for (at, candidate) in (0..).zip(candidates) {
            if let Some(first) = first.get_mut(&candidate.key) {
                first.get_or_insert(at);
            }
        }
        let found: BTreeSet<usize> = first.into_values().flatten().collect();
        let (low, high) = ranked.split_at(taken);
        let of_low = low.iter().filter(|(_, at)| found.contains(at)).count();
        if of_low < wanted && taken < ranked.len() {
            taken *= 2;
            continue;
        }
        let sat = high
            .iter()
            .filter(|(_, at)| sat.contains_key(&candidates[*at].key));
        let mut order: Vec<_> = low
            .iter()
            .chain(sat)
            .filter(|(_, at)| found.contains(at))
            .map(|(rank, at)| (*rank, &candidates[*at]))
            .collect();
        order.sort_unstable();
        return order;
    }
}

/// Those who keep their seats, and since when: of those who sat, the `kept` who sat down last.
fn staying(
    order: &[(Digest, &Candidate)],
    sat: &BTreeMap<PublicKey, u64>,
    kept: usize,
) -> BTreeMap<PublicKey, u64> {
    let mut sitting: Vec<(Reverse<u64>, &Digest, PublicKey)> = order
        .iter()
        .filter_map(|(rank, candidate)| {
            let since = sat.get(&candidate.key)?;
            Some((Reverse(*since), rank, candidate.key))
        })
        .collect();
    sitting.sort_unstable();
    sitting.truncate(kept);
    sitting
        .into_iter()
        .map(|(since, _, key)| (key, since.0))
        .collect()
}

/// Why a drawing is not what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error(
        "the {count} candidates have the root {have}, but {frozen} was frozen: one was added, left out or changed (a key, an address or a ticket), or the number of seats was"
    )]
    Candidates {
        count: usize,
        have: Digest,
        frozen: Digest,
    },
    #[error(
        "drawn from these candidates with this beacon, {drawn} comes where {said} is said to sit (place {place} of the lineup)"
    )]
    Lineup {
        place: usize,
        drawn: String,
        said: String,
    },
}

/// Recomputes a drawing. `frozen`: the root that a certified header named.
pub fn check(
    epoch: u64,
    candidates: &[Candidate],
    frozen: &Digest,
    before: &[Seat],
    beacon: &Digest,
    rules: Rules,
    said: &Lineup,
) -> Result<(), Doubt> {
    let have = candidates_root(candidates, rules);
    if have != *frozen {
        return Err(Doubt::Candidates {
            count: candidates.len(),
            have,
            frozen: *frozen,
        });
    }
    let drawn = draw(epoch, candidates, before, beacon, rules);
    let names = |lineup: &Lineup| -> Vec<String> {
        let seats = lineup.committee.iter();
        let seats = seats.map(|s| format!("{} at {} since epoch {}", s.key, s.address, s.since));
        let payroll = lineup
            .payroll
            .iter()
            .map(|key| format!("{key}, not seated"));
        seats.chain(payroll).collect()
    };
    let (drawn, said) = (names(&drawn), names(said));
    let differs = (0..drawn.len().max(said.len())).find(|at| drawn.get(*at) != said.get(*at));
    differs.map_or(Ok(()), |at| {
        let name = |all: &[String]| all.get(at).cloned().unwrap_or_else(|| "nobody".into());
        Err(Doubt::Lineup {
            place: at + 1,
            drawn: name(&drawn),
            said: name(&said),
        })
    })
}

#[cfg(test)]
mod tests;
