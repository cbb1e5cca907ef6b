//! Agree on the time: the median of what validators say their clocks show.
//!
//! Each block carries signed statements of those who sit; its time is their median. Of n that
//! sit, at most f = (n − 1) / 3 may lie or be wrong. A time is taken from a quorum of n − f
//! statements only, so it lies between the clocks of two honest validators, as they stood when
//! they made their statements; no choice of the leader (whom it leaves out, how old what it
//! takes is) moves it out of there. Without a quorum, time stands: a block is a millisecond
//! later than the one before.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Digest, PublicKey, SecretKey, Signature};

use crate::LightError;

/// A statement is taken into a block if its maker had seen one of the so many before as final.
pub const STATED_WITHIN: u64 = 8;
/// A clock further than this from the median of all is wrong: left out and counted.
pub const CLOCK_BOUND_MS: u64 = 1_000;

/// What one clock showed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Statement {
    /// Whose: place among those who sit, in voting order.
    pub seat: u16,
    /// The newest block that its maker had seen as final.
    pub height: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub signature: [u8; 64],
}

/// The statements of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Clock {
    /// How many sit.
    pub seats: u16,
    /// In the order of their seats, each once.
    pub statements: Vec<Statement>,
}

/// What a block's statements come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// `None`: too few stated theirs.
    pub time_ms: Option<u64>,
    /// Of each statement: is it within [`CLOCK_BOUND_MS`] of the median of all?
    pub within: Vec<bool>,
}

fn message(network: &Digest, height: u64, time_ms: u64) -> Digest {
    Digest::of_value("runrig-clock", &(network, height, time_ms))
}

/// Signs what a clock shows, by its owner's identity key.
pub fn state_time(key: &SecretKey, network: &Digest, height: u64, time_ms: u64) -> [u8; 64] {
    key.sign(&message(network, height, time_ms).0).0
}

/// Whether `key` said so.
pub fn is_stated(
    key: &[u8; 32],
    network: &Digest,
    height: u64,
    time_ms: u64,
    signature: &[u8; 64],
) -> bool {
    PublicKey(*key)
        .verify(&message(network, height, time_ms).0, &Signature(*signature))
        .is_ok()
}

/// Statements that make a time, where `seats` sit.
pub fn clock_quorum(seats: usize) -> usize {
    seats - seats.saturating_sub(1) / 3
}

/// The lower of the two middle ones.
fn median(mut times: Vec<u64>) -> Option<u64> {
    times.sort_unstable();
    times.get(times.len().checked_sub(1)? / 2).copied()
}

impl Clock {
    /// Whether a block at `height` may carry these: each by its own key, and not old.
    pub fn check(
        &self,
        network: &Digest,
        height: u64,
        seats: &[[u8; 32]],
    ) -> Result<(), LightError> {
        let seen = height.saturating_sub(1 + STATED_WITHIN)..height;
        let good = usize::from(self.seats) == seats.len()
            && self.statements.is_sorted_by(|a, b| a.seat < b.seat)
            && self.statements.iter().all(|s| {
                seen.contains(&s.height)
                    && seats.get(usize::from(s.seat)).is_some_and(|key| {
                        is_stated(key, network, s.height, s.time_ms, &s.signature)
                    })
            });
        if good { Ok(()) } else { Err(LightError::Clock) }
    }

    /// The median of those within the bound, if they are a quorum; else of all, if all are.
    pub fn agreed(&self) -> Agreed {
        let quorum = clock_quorum(self.seats.into());
        let all: Vec<u64> = self.statements.iter().map(|s| s.time_ms).collect();
        let middle = median(all.clone()).unwrap_or_default();
        let within: Vec<bool> = all
            .iter()
            .map(|t| t.abs_diff(middle) <= CLOCK_BOUND_MS)
            .collect();
        let near = all.iter().zip(&within).filter(|(_, near)| **near);
        let near: Vec<u64> = near.map(|(t, _)| *t).collect();
        let time_ms = if near.len() >= quorum {
            median(near)
        } else {
            Some(middle).filter(|_| all.len() >= quorum && quorum > 0)
        };
        Agreed { time_ms, within }
    }

    /// A time at which the block at `height` was final by an honest clock: the median of those
    /// who had seen that, if they are a quorum.
    pub fn seen_final(&self, height: u64) -> Option<u64> {
        let seen = self.statements.iter().filter(|s| s.height >= height);
        let times: Vec<u64> = seen.map(|s| s.time_ms).collect();
        let enough = times.len() >= clock_quorum(self.seats.into());
        median(times).filter(|_| enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(seats: u16, times: &[u64]) -> Clock {
        let statement = |(seat, time_ms): (usize, &u64)| Statement {
            seat: seat as u16,
            height: 9,
            time_ms: *time_ms,
            signature: [0; 64],
        };
        Clock {
            seats,
            statements: times.iter().enumerate().map(statement).collect(),
        }
    }

    #[test]
    fn with_at_most_f_liars_the_time_is_between_honest_clocks() {
        for seats in 1..=13u16 {
            let liars = usize::from((seats - 1) / 3);
            let honest: Vec<u64> = (0..usize::from(seats) - liars)
                .map(|n| 10_000 + 70 * n as u64)
                .collect();
            let (least, most) = (honest[0], honest[honest.len() - 1]);
            for lie in [0, 9_500, 10_001, 10_900, 12_000, u64::MAX] {
                // The leader leaves out as many of the honest as there are liars, or none.
                for left_out in 0..=liars {
                    let mut times = honest[left_out..].to_vec();
                    times.extend(std::iter::repeat_n(lie, liars));
                    let time = clock(seats, &times).agreed().time_ms;
                    let time = time.expect("a quorum");
                    assert!((least..=most).contains(&time), "{seats} {lie} {left_out}");
                }
            }
        }
    }

    #[test]
    fn what_is_off_is_left_out_and_named() {
        let agreed = clock(4, &[5_000, 5_100, 5_300, 9_000]).agreed();
        assert_eq!(agreed.within, [true, true, true, false]);
        assert_eq!(agreed.time_ms, Some(5_100));
        // Without those it were too few: then all count.
        let agreed = clock(4, &[1_000, 5_000, 9_000]).agreed();
        assert_eq!(agreed.within, [false, true, false]);
        assert_eq!(agreed.time_ms, Some(5_000));
        assert_eq!(clock(4, &[1, 2]).agreed().time_ms, None);
        assert_eq!(clock(0, &[]).agreed().time_ms, None);
    }

    #[test]
    fn only_those_who_sit_and_saw_a_late_block_are_heard() {
        let network = Digest::of(b"n");
        let keys: Vec<SecretKey> = (1..=4).map(|n| SecretKey::from_seed([n; 32])).collect();
        let seats: Vec<[u8; 32]> = keys.iter().map(|k| k.public().0).collect();
        let mut clock = clock(4, &[5_000, 5_001, 5_002]);
        for (statement, key) in clock.statements.iter_mut().zip(&keys) {
            statement.signature = state_time(key, &network, 9, statement.time_ms);
        }
        assert_eq!(clock.check(&network, 10, &seats), Ok(()));
        assert_eq!(clock.check(&network, 9 + STATED_WITHIN + 1, &seats), Ok(()));
        let refused = Err(LightError::Clock);
        assert_eq!(
            clock.check(&network, 9 + STATED_WITHIN + 2, &seats),
            refused
        );
        assert_eq!(clock.check(&network, 9, &seats), refused);
        assert_eq!(clock.check(&Digest::of(b"m"), 10, &seats), refused);
        assert_eq!(clock.check(&network, 10, &seats[..3]), refused);
        let mut twice = clock.clone();
        twice.statements[1] = twice.statements[0].clone();
        assert_eq!(twice.check(&network, 10, &seats), refused);
        let mut changed = clock.clone();
        changed.statements[2].time_ms += 1;
        assert_eq!(changed.check(&network, 10, &seats), refused);

        assert_eq!(clock.seen_final(9), Some(5_001));
        assert_eq!(clock.seen_final(10), None);
        clock.statements[0].height = 8;
        assert_eq!(clock.seen_final(9), None);
    }
}
