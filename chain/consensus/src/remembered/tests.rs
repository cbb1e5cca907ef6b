use commonware_consensus::simplex::types::{Finalization, Finalize, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::sha256;
use commonware_parallel::Sequential;
use light::NAMESPACE;

use super::*;
use crate::deal;

type Vote = Attestation<Remembered>;

fn chance() -> StdRng {
    StdRng::from_seed([0; 32])
}

fn proposal(payload: u8) -> Proposal<sha256::Digest> {
    let round = Round::new(Epoch::zero(), View::new(2));
    Proposal::new(round, View::new(1), sha256::Digest::from([payload; 32]))
}

/// Those who sit in a network that was dealt from `seed`, with one memory.
fn signers(seed: u8, memory: &Memory) -> Vec<Remembered> {
    let (committee, seats) = deal(4, [seed; 32]).expect("dealt");
    let (members, sharing) = (committee.output.players(), committee.output.public());
    let signer = |share| {
        light::Scheme::signer(NAMESPACE, members.clone(), sharing.clone(), share).expect("fits")
    };
    let shares = seats.into_iter().filter_map(|seat| seat.share);
    shares
        .map(|share| Remembered::new(signer(share), true, memory.clone()))
        .collect()
}

/// What the scheme itself and the one that remembers say of a vote: the same.
fn is_good(by: &Remembered, subject: Subject<'_, sha256::Digest>, vote: &Vote) -> bool {
    let plain = inner(vote.clone());
    let truth = (by.inner).verify_attestation(&mut chance(), subject, &plain, &Sequential);
    let said = by.verify_attestation(&mut chance(), subject, vote, &Sequential);
    assert_eq!(said, truth);
    said
}

#[test]
fn a_vote_that_held_lets_no_other_through() {
    let memory = Memory::default();
    let (ours, others) = (signers(1, &memory), signers(2, &memory));
    let (one, two) = (proposal(1), proposal(2));
    let (subject, other) = (
        Subject::Finalize { proposal: &one },
        Subject::Finalize { proposal: &two },
    );
    let vote = ours[0].sign(subject).expect("signs");
    for by in &ours {
        assert!(is_good(by, subject, &vote));
    }
    assert!(!is_good(&ours[1], other, &vote));
    assert!(!is_good(
        &ours[1],
        Subject::Notarize { proposal: &one },
        &vote
    ));
    assert!(!is_good(&others[1], subject, &vote));
    let signature = ours[0].sign(other).expect("signs").signature;
    for (signer, signature) in [
        (ours[1].me().expect("sits").index(), vote.signature.clone()),
        (vote.signer, signature),
    ] {
        let forged = Attestation { signer, signature };
        assert!(!is_good(&ours[2], subject, &forged));
    }
}

#[test]
fn of_votes_the_bad_are_named_whatever_is_remembered() {
    let memory = Memory::default();
    let ours = signers(1, &memory);
    let (one, two) = (proposal(1), proposal(2));
    let subject = Subject::Finalize { proposal: &one };
    let mut votes: Vec<Vote> = ours.iter().filter_map(|s| s.sign(subject)).collect();
    assert!(is_good(&ours[0], subject, &votes[1]));
    let forged = ours[2].sign(Subject::Finalize { proposal: &two });
    votes[2].signature = forged.expect("signs").signature;
    for _ in 0..2 {
        let all = votes.clone();
        let said = ours[3].verify_attestations(&mut chance(), subject, all, &Sequential);
        assert_eq!(said.invalid, [votes[2].signer]);
        let good: Vec<_> = said.verified.iter().map(|vote| vote.signer).collect();
        assert_eq!(good, [0, 1, 3].map(|n| votes[n].signer));
    }
}

#[test]
fn a_certificate_that_held_lets_no_other_through() {
    let memory = Memory::default();
    let (ours, others) = (signers(1, &memory), signers(2, &memory));
    let (one, two) = (proposal(1), proposal(2));
    let votes: Vec<_> = ours
        .iter()
        .filter_map(|signer| Finalize::sign(signer, one.clone()))
        .collect();
    let made = Finalization::from_finalizes(&ours[0], non_empty![@votes.iter()], &Sequential);
    let made = made.expect("a quorum").certificate;
    let subject = Subject::Finalize { proposal: &one };
    let says = |by: &Remembered, subject: Subject<'_, sha256::Digest>| {
        let truth = (by.inner).verify_certificate(&mut chance(), subject, &made, &Sequential);
        let said = by.verify_certificate(&mut chance(), subject, &made, &Sequential);
        let many = non_empty![(subject, &made), (subject, &made)];
        let all = by.verify_certificates(&mut chance(), many, &Sequential);
        assert_eq!((said, all), (truth, truth));
        said
    };
    for by in &ours {
        assert!(says(by, subject));
    }
    assert!(!says(&ours[1], Subject::Finalize { proposal: &two }));
    assert!(!says(&ours[1], Subject::Notarize { proposal: &one }));
    assert!(!says(&others[1], subject));
    // One of many that does not hold: none is taken for good.
    let many = non_empty![
        (subject, &made),
        (Subject::Finalize { proposal: &two }, &made)
    ];
    assert!(!ours[2].verify_certificates(&mut chance(), many, &Sequential));
}

/// Whoever puts it together out of whatever votes: the one certificate, or those who voted badly.
#[test]
fn certificates_are_made_of_good_votes_only_and_of_a_quorum() {
    let memory = Memory::default();
    let ours = signers(1, &memory);
    let (one, two) = (proposal(1), proposal(2));
    let subject = Subject::Finalize { proposal: &one };
    let votes: Vec<Vote> = ours.iter().filter_map(|s| s.sign(subject)).collect();
    let make = |by: usize, pending: &[Vote], held: &[Vote]| {
        let by = &ours[by];
        let plain_held: Vec<_> = held.iter().cloned().map(inner).collect();
        let plain = by.inner.optimistic_assemble::<_, sha256::Digest, _, _>(
            &mut chance(),
            subject,
            pending.iter().cloned().map(inner).collect::<Vec<_>>(),
            &plain_held,
            &Sequential,
        );
        let said = by.optimistic_assemble::<_, sha256::Digest, _, _>(
            &mut chance(),
            subject,
            pending.to_vec(),
            held,
            &Sequential,
        );
        let said = said.map_err(|why| why.invalid);
        assert_eq!(said, plain.map_err(|why| why.invalid));
        said
    };
    let first = make(0, &votes[..3], &[]).expect("a quorum");
    assert_eq!(make(1, &votes[2..], &votes[1..2]), Ok(first.clone()));
    assert!(make(2, &votes[..2], &[]).is_err());
    assert!(make(2, &votes[..1], &votes[..2]).is_err());
    let mut forged = votes.clone();
    let other = ours[1].sign(Subject::Finalize { proposal: &two });
    forged[1].signature = other.expect("signs").signature;
    assert_eq!(make(3, &forged[..3], &[]), Err(vec![votes[1].signer]));
    assert!(ours[3].verify_certificate(&mut chance(), subject, &first, &Sequential));
}

#[test]
fn what_is_remembered_is_bounded() {
    let memory = Memory::default();
    for n in 0..3 * GENERATION as u64 {
        memory.keep(Digest::of(&n.to_le_bytes()));
    }
    let known = memory.0.lock().expect("not poisoned");
    assert!(known.young.good.len() + known.old.good.len() <= 2 * GENERATION);
    drop(known);
    let newest = 3 * GENERATION as u64 - 1;
    assert!(memory.holds(&Digest::of(&newest.to_le_bytes())));
    assert!(!memory.holds(&Digest::of(&0_u64.to_le_bytes())));
}
