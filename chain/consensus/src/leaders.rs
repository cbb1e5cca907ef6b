//! Who leads: those who sit, in the order in which the lot fell.
//!
//! The order of an epoch is the ledger's ([`Machine::committee`]) and known an epoch ahead; its last
//! block before says it to those without a ledger ([`light::Duty::lineup`]).

use std::sync::{Arc, OnceLock};

use commonware_consensus::simplex::elector::{Config, Elector, Scheduled, Terms};
use commonware_consensus::types::{Participant, Round};
use commonware_cryptography::certificate::Scheme;
use commonware_cryptography::ed25519::PublicKey;
use commonware_utils::ordered::Set;

use crate::epochs::Seated;
use crate::machine::Machine;

/// The places among `seats` (ascending) of those who lead, in turn: first those in `drawn`, in that
/// order; then the others, who sit because the key could not be handed on, by their keys.
pub(crate) fn places(seats: &[[u8; 32]], drawn: &[[u8; 32]]) -> Vec<u8> {
    let mut left: Vec<bool> = vec![true; seats.len()];
    let mut places: Vec<usize> = Vec::with_capacity(seats.len());
    for key in drawn {
        if let Ok(place) = seats.binary_search(key)
            && std::mem::take(&mut left[place])
        {
            places.push(place);
        }
    }
    places.extend((0..seats.len()).filter(|place| left[*place]));
    let places = places.into_iter().map(u8::try_from);
    places.collect::<Result<_, _>>().expect("128 seats at most")
}

/// As [`places`], of those who sit in `epoch`; `None`: `state` does not say whom the lot fell on.
pub(crate) fn lineup<M: Machine>(
    machine: &M,
    state: &M::State,
    epoch: u64,
    seats: &[[u8; 32]],
) -> Option<Vec<u8>> {
    let drawn = machine.committee(state, epoch)?;
    let drawn: Vec<[u8; 32]> = drawn.iter().map(|member| member.key).collect();
    Some(places(seats, &drawn))
}

/// The engine's word for it: each view of an epoch is led by the next of its lineup.
#[derive(Clone)]
pub(crate) struct ByLot(pub Arc<Seated>);

impl<S: Scheme<PublicKey = PublicKey>> Config<S> for ByLot {
    type Elector = Leads;

    fn build(self, participants: &Set<PublicKey>) -> Leads {
        assert!(!participants.is_empty(), "an epoch in which nobody sits");
        Leads {
            seated: self.0,
            seats: participants.clone(),
            order: Arc::default(),
        }
    }
}

/// Of one epoch: an engine votes in no other.
#[derive(Clone)]
pub(crate) struct Leads {
    seated: Arc<Seated>,
    seats: Set<PublicKey>,
    order: Arc<OnceLock<Vec<Participant>>>,
}

impl Leads {
    fn order(&self, epoch: u64) -> Vec<Participant> {
        let places = self.seated.of(epoch).into_iter().map(|key| {
            let place = self.seats.position(&key);
            Participant::from_usize(place.expect("who leads sits"))
        });
        let order: Vec<Participant> = places.collect();
        assert_eq!(order.len(), self.seats.len(), "all who sit lead");
        order
    }
}

impl<S: Scheme<PublicKey = PublicKey>> Elector<S> for Leads {
    type Mode = Scheduled;

    fn terms(&self) -> Terms {
        Terms::rotating()
    }

    /// Panics if the epoch's lineup is not known: it is before its engine begins.
    fn elect(&self, round: Round, (): ()) -> Participant {
        let epoch = round.epoch().get();
        let order = self.order.get_or_init(|| self.order(epoch));
        let turn = light::turn_of(epoch, order.len() as u64, round.view().get());
        order[turn as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_drawn_lead_in_that_order_and_others_after_them() {
        let key = |n: u8| [n; 32];
        let seats = [1, 3, 5, 7].map(key);
        let rows: [(&[u8], [u8; 4]); 5] = [
            (&[7, 1, 5, 3], [3, 0, 2, 1]),
            (&[5], [2, 0, 1, 3]),
            (&[2, 4, 9], [0, 1, 2, 3]),
            (&[], [0, 1, 2, 3]),
            (&[3, 3, 2, 1], [1, 0, 2, 3]),
        ];
        for (drawn, expected) in rows {
            let drawn: Vec<[u8; 32]> = drawn.iter().map(|n| key(*n)).collect();
            assert_eq!(places(&seats, &drawn), expected, "{drawn:?}");
            assert!(light::lineup(&seats, &places(&seats, &drawn)).is_some());
        }
    }
}
