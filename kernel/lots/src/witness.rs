//! Who looks after hosts in an epoch, which hosts each of them looks at in a round; and who screens
//! what clients submit.

use types::{Digest, HostId, PublicKey, Signature};

use crate::Lineup;

/// Drawn for an epoch, if there are so many.
pub const WITNESSES_MAX: usize = 31;
/// Hosts that a witness looks at in a round, about.
const HOSTS: u128 = 16;
/// Witnesses that look at a host in a round, about.
const LOOKS: u128 = 8;

/// The witnesses of an epoch, in the order drawn: from those whose tickets lost if there are
/// enough of them, else from all who were drawn. By another tag than the seats, so that a good
/// place there says nothing here.
pub fn witnesses(lineup: &Lineup, beacon: &Digest) -> Vec<PublicKey> {
    let seated = lineup.committee.iter().map(|seat| seat.key);
    let lost = lineup.payroll.iter().copied();
    let mut pool: Vec<PublicKey> = match lineup.payroll.len() < WITNESSES_MAX {
        true => seated.chain(lost).collect(),
        false => lost.collect(),
    };
    let rank = |key: &PublicKey| (Digest::of_value("runrig-witness", &(beacon, key)), *key);
    pool.sort_by_cached_key(rank);
    pool.dedup();
    pool.truncate(WITNESSES_MAX);
    pool
}

/// Drawn for an epoch at most.
pub const SCREENERS_MAX: usize = 31;

/// The screeners of an epoch, in the order drawn: of those whose tickets lost, by a tag of their own. None
/// while all candidates sit: who sits takes transactions and answers questions anyway.
pub fn screeners(lineup: &Lineup, beacon: &Digest) -> Vec<PublicKey> {
    let mut drawn = lineup.payroll.clone();
    let rank = |key: &PublicKey| (Digest::of_value("runrig-screener", &(beacon, key)), *key);
    drawn.sort_by_cached_key(rank);
    drawn.dedup();
    drawn.truncate(SCREENERS_MAX);
    drawn
}

/// So many of `drawn` must say the same: all but those who may lie, a third less one.
pub fn quorum(drawn: usize) -> usize {
    drawn - drawn.saturating_sub(1) / 3
}

/// What a witness signs for its lot of a round. Its signature is known to it alone until it
/// tells it: no host can tell beforehand who will look at it, and when.
pub fn look_message(network: &Digest, epoch: u64, beacon: &Digest, round: u64) -> Digest {
    Digest::of_value("runrig-look", &(network, epoch, beacon, round))
}

/// Does the witness with this lot look at `host` in its round? Of `hosts` hosts about sixteen
/// are drawn for each, and each host for about eight of `witnesses`; one of whom a witness did not
/// get an answer, by every other.
pub fn is_drawn(
    lot: &Signature,
    host: &HostId,
    hosts: usize,
    witnesses: usize,
    suspect: bool,
) -> bool {
    let chance = Digest::of_value("runrig-look-at", &(lot, host));
    let part = |at: usize| {
        let bytes = chance.0[at..at + 8].try_into().expect("eight of 32");
        u128::from(u64::from_le_bytes(bytes))
    };
    // Which of so many places it falls on.
    let place = |at, places: usize| (part(at) * places as u128) >> 64;
    (place(0, hosts) < HOSTS && place(8, witnesses) < LOOKS) || (suspect && place(16, 2) == 0)
}

#[cfg(test)]
mod tests {
    use types::{AccountId, SecretKey};

    use super::*;
    use crate::Seat;

    fn keys(count: u16, tag: u8) -> Vec<PublicKey> {
        let key = |n: u16| {
            let mut bytes = [tag; 32];
            bytes[..2].copy_from_slice(&n.to_le_bytes());
            PublicKey(bytes)
        };
        (0..count).map(key).collect()
    }

    fn lineup(seats: u16, lost: u16) -> Lineup {
        let seat = |key| Seat {
            key,
            address: String::new(),
            since: 0,
        };
        Lineup {
            committee: keys(seats, 1).into_iter().map(seat).collect(),
            payroll: keys(lost, 2),
        }
    }

    #[test]
    fn losers_witness_if_there_are_enough_of_them() {
        let beacon = Digest::of(b"beacon");
        let few = witnesses(&lineup(4, 0), &beacon);
        assert_eq!(few.len(), 4);
        let mixed = witnesses(&lineup(100, 10), &beacon);
        assert_eq!(mixed.len(), WITNESSES_MAX);
        assert!(mixed.iter().any(|k| k.0[5] == 1));
        let lost = witnesses(&lineup(100, 50), &beacon);
        assert_eq!(lost.len(), WITNESSES_MAX);
        assert!(lost.iter().all(|k| k.0[5] == 2));
        assert_ne!(lost, witnesses(&lineup(100, 50), &Digest::of(b"other")));
        assert!(witnesses(&Lineup::default(), &beacon).is_empty());
    }

    #[test]
    fn screeners_have_lost_and_are_drawn_apart_from_witnesses() {
        let beacon = Digest::of(b"beacon");
        assert!(screeners(&lineup(99, 0), &beacon).is_empty());
        assert_eq!(screeners(&lineup(4, 2), &beacon).len(), 2);
        let many = lineup(100, 200);
        let drawn = screeners(&many, &beacon);
        assert_eq!(drawn.len(), SCREENERS_MAX);
        assert!(drawn.iter().all(|k| k.0[5] == 2));
        assert_ne!(drawn, screeners(&many, &Digest::of(b"other")));
        let both = witnesses(&many, &beacon);
        assert!(drawn.iter().filter(|k| both.contains(k)).count() < SCREENERS_MAX / 2);
    }

    #[test]
    fn a_quorum_has_more_honest_than_liars_can_be() {
        assert_eq!(
            [1, 2, 3, 4, 7, 31].map(quorum),
            [1, 2, 3, 3, 5, 21],
            "five of seven flag, twenty-one of thirty-one"
        );
        for drawn in 1..=WITNESSES_MAX {
            let liars = (drawn - 1) / 3;
            assert!(quorum(drawn) > liars && drawn - liars >= quorum(drawn));
        }
    }

    #[test]
    fn all_look_at_few_hosts_and_some_at_many() {
        let key = SecretKey::from_seed([1; 32]);
        let network = Digest::of(b"net");
        let lot = |round| key.sign(&look_message(&network, 3, &network, round).0);
        let host = |n: u32| {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&n.to_le_bytes());
            AccountId(id)
        };
        assert!((0..16).all(|n| is_drawn(&lot(1), &host(n), 16, 8, false)));
        let mut drawn = 0;
        for round in 0..20 {
            let lot = lot(round);
            let all = (0..1_000).filter(|n| is_drawn(&lot, &host(*n), 1_000, 4, false));
            drawn += all.count();
        }
        assert!((240..400).contains(&drawn), "{drawn} of 320 expected");
        let suspects = (0..1_000).filter(|n| is_drawn(&lot(1), &host(*n), 1_000_000, 31, true));
        let suspects = suspects.count();
        assert!((420..580).contains(&suspects), "{suspects}");
    }
}
