use commonware_consensus::simplex::types::Proposal;
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::sha256;
use commonware_parallel::Sequential;
use commonware_utils::non_empty;
use light::NAMESPACE;
use rand_010::SeedableRng as _;
use rand_010::rngs::StdRng;

use super::*;

type Is = sha256::Digest;

/// All four of a committee.
fn seats(known: &Known, seed: u8) -> Vec<Scheme> {
    let (committee, seats) = crate::deal(4, [seed; 32]).expect("dealt");
    let members = committee.output.players();
    let sharing = committee.output.public();
    let seat = |seat: &crate::Seat| {
        let share = seat.share.clone()?;
        let plain = Plain::signer(NAMESPACE, members.clone(), sharing.clone(), share)?;
        Some(known.dress(plain, Some(sharing)))
    };
    let all: Vec<_> = seats.iter().filter_map(seat).collect();
    assert_eq!(all.len(), 4);
    all
}

fn proposal(payload: u8) -> Proposal<Is> {
    let round = Round::new(Epoch::new(1), View::new(7));
    Proposal::new(round, View::new(6), Is::from([payload; 32]))
}

#[test]
fn what_one_found_good_the_next_believes_and_nothing_else() {
    let (one, other) = (proposal(1), proposal(2));
    let (first, second) = (
        Subject::Notarize { proposal: &one },
        Subject::Notarize { proposal: &other },
    );
    let finally = Subject::Finalize { proposal: &one };
    // Whoever shares with nobody says the same.
    for known in [Known::shared(), Known::default()] {
        let all = seats(&known, 9);
        let mut rng = StdRng::seed_from_u64(1);
        let vote = |at: usize, subject| all[at].sign::<Is>(subject).expect("a vote");
        let mut good = |by: &Scheme, subject, vote: &Attestation<Scheme>| {
            by.verify_attestation::<_, Is>(&mut rng, subject, vote, &Sequential)
        };
        let said = vote(0, first);
        assert!(good(&all[1], first, &said));
        assert!(!good(&all[1], second, &said), "for something else");
        assert!(!good(&all[1], finally, &said), "of another kind");
        let in_name = Attestation {
            signer: vote(1, first).signer,
            ..said.clone()
        };
        assert!(!good(&all[2], first, &in_name), "in another's name");
        assert!(
            !good(&seats(&known, 8)[1], first, &said),
            "under another key"
        );

        let made = |by: &Scheme, votes: [Attestation<Scheme>; 3]| {
            let votes = non_empty![@votes.into_iter()];
            by.assemble(votes, &Sequential).expect("a quorum")
        };
        let mut holds = |by: &Scheme, subject, certificate: &Certificate<MinSig>| {
            by.verify_certificate::<_, Is>(&mut rng, subject, certificate, &Sequential)
        };
        let certificate = made(&all[0], [0, 1, 2].map(|at| vote(at, first)));
        assert!(holds(&all[0], first, &certificate));
        assert_eq!(
            made(&all[3], [1, 2, 3].map(|at| vote(at, first))),
            certificate
        );
        assert!(holds(&all[3], first, &certificate));
        assert!(!holds(&all[3], second, &certificate), "for something else");
        let mixed = made(&all[3], [vote(0, first), vote(1, first), vote(2, second)]);
        assert!(!holds(&all[3], first, &mixed), "of two minds");
    }
}
