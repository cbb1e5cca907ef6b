//! Draw numbers: without bias, without repetition, the same everywhere.

use std::collections::BTreeMap;

use types::Digest;

/// A word is refused at most every other time; so often in a row only if digests are broken.
const TRIES_MAX: u32 = 128;

/// Chance without end that follows from a seed.
struct Chance<'a> {
    seed: &'a Digest,
    words: u64,
}

impl Chance<'_> {
    fn word(&mut self) -> u64 {
        let digest = Digest::of_value("runrig-chance", &(self.seed, self.words));
        self.words += 1;
        u64::from_le_bytes(digest.0[..8].try_into().expect("eight of 32 bytes"))
    }

    /// Each number below `n` as likely as the others: words that would favour the small ones
    /// are refused.
    fn below(&mut self, n: u64) -> u64 {
        let fair = u64::MAX - (u64::MAX % n + 1) % n;
        let mut word = self.word();
        for _ in 0..TRIES_MAX {
            if word <= fair {
                break;
            }
            word = self.word();
        }
        word % n
    }
}

/// The first `count` of 0..`n` in an order that `seed` decides; all of them if there are no
/// more.
///
/// Costs as much as what is drawn, however large `n` is: the places of a shuffle that are
/// not looked at stay as they are.
pub fn shuffled(seed: &Digest, n: u64, count: usize) -> Vec<u64> {
    let mut chance = Chance { seed, words: 0 };
    let mut moved: BTreeMap<u64, u64> = BTreeMap::new();
    let count = u64::try_from(count).unwrap_or(u64::MAX).min(n);
    (0..count)
        .map(|place| {
            let from = place + chance.below(n - place);
            let at =
                |moved: &BTreeMap<u64, u64>, place| moved.get(&place).copied().unwrap_or(place);
            let (drawn, other) = (at(&moved, from), at(&moved, place));
            moved.insert(from, other);
            drawn
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_is_drawn_twice_and_all_are_drawn_in_the_end() {
        for n in [0u64, 1, 2, 7, 100] {
            let all = shuffled(&Digest::of(&n.to_le_bytes()), n, 1_000);
            assert_eq!(all.len() as u64, n);
            assert_eq!(
                all.iter().copied().collect::<BTreeSet<_>>(),
                (0..n).collect()
            );
            let seed = Digest::of(&n.to_le_bytes());
            assert_eq!(
                shuffled(&seed, n, 3),
                all[..all.len().min(3)],
                "a part is the beginning"
            );
        }
        assert_eq!(shuffled(&Digest::of(b"far"), u64::MAX, 2).len(), 2);
    }

    #[test]
    fn each_wins_about_as_often_as_the_others() {
        let mut won = [0u32; 6];
        for round in 0..6_000u64 {
            won[shuffled(&Digest::of(&round.to_le_bytes()), 6, 1)[0] as usize] += 1;
        }
        // 1,000 each; five standard deviations are 145.
        assert!(won.iter().all(|w| w.abs_diff(1_000) < 145), "{won:?}");
    }

    #[test]
    fn the_order_never_changes() {
        assert_eq!(shuffled(&Digest::of(b"golden"), 10, 4), GOLDEN);
    }

    const GOLDEN: [u64; 4] = [6, 2, 5, 0];
}
