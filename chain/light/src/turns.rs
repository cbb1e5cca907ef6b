//! Who leads, and whose turn it was.

/// `seats`, ascending, in the order in which they lead. `places`: of each leader in turn, its place
/// among them ([`crate::Duty::lineup`]).
///
/// `None`: it does not name each of them once.
pub fn lineup<K: Copy>(seats: &[K], places: &[u8]) -> Option<Vec<K>> {
    let mut named = vec![false; seats.len()];
    let order = places.iter().map(|place| {
        let place = usize::from(*place);
        let before = named
            .get_mut(place)
            .map(|named| std::mem::replace(named, true));
        (before == Some(false)).then(|| seats[place])
    });
    let order: Option<Vec<K>> = order.collect();
    order.filter(|order| order.len() == seats.len())
}

/// The place in a lineup of `seats` whose turn view `view` of `epoch` is.
pub fn turn_of(epoch: u64, seats: u64, view: u64) -> u64 {
    epoch.wrapping_add(view) % seats.max(1)
}

/// How often each place of a lineup of `seats` has its turn in the views of `epoch` from `first`
/// up to, and without, `end`; those that have none are left out.
pub fn turns(epoch: u64, seats: u64, first: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let count = end.saturating_sub(first);
    let begins = turn_of(epoch, seats, first);
    (0..seats).filter_map(move |place| {
        let after = (place + seats - begins) % seats;
        let times = count.saturating_sub(after).div_ceil(seats);
        (times > 0).then_some((place, times))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_lineup_names_each_once() {
        let seats = ["a", "b", "c"];
        let rows: [(&[u8], Option<Vec<&str>>); 6] = [
            (&[2, 0, 1], Some(vec!["c", "a", "b"])),
            (&[0, 1, 2], Some(vec!["a", "b", "c"])),
            (&[0, 1], None),
            (&[0, 1, 1], None),
            (&[0, 1, 3], None),
            (&[0, 1, 2, 0], None),
        ];
        for (places, expected) in rows {
            assert_eq!(lineup(&seats, places), expected, "{places:?}");
        }
        assert_eq!(lineup::<u8>(&[], &[]), Some(Vec::new()));
    }

    #[test]
    fn turns_are_counted_as_they_would_be_one_by_one() {
        for epoch in [0u64, 1, 7, 100, u64::MAX] {
            for seats in 1..=7u64 {
                for (first, end) in [(1u64, 2u64), (1, 1), (3, 20), (5, 6), (2, 9)] {
                    let mut counted = BTreeMap::new();
                    for view in first..end {
                        *counted.entry(turn_of(epoch, seats, view)).or_insert(0) += 1;
                    }
                    let found: BTreeMap<u64, u64> = turns(epoch, seats, first, end).collect();
                    assert_eq!(found, counted, "{epoch} {seats} {first} {end}");
                }
            }
        }
    }
}
