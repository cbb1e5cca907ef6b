//! Certificates made as validators make them; then every byte of everything flipped.

use commonware_codec::Encode as _;
use commonware_consensus::simplex::scheme::bls12381_threshold::vrf;
use commonware_consensus::simplex::types::{Finalization, Finalize, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::bls12381::dkg::feldman_desmedt;
use commonware_cryptography::bls12381::primitives::sharing::Mode;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Signer as _, ed25519, sha256};
use commonware_math::algebra::Random as _;
use commonware_parallel::Sequential;
use commonware_utils::ordered::Set;
use commonware_utils::{N3f1, non_empty};
use rand_010::SeedableRng as _;
use rand_010::rngs::StdRng;
use types::merkle_path;

use super::*;

type Scheme = vrf::Scheme<ed25519::PublicKey, MinSig>;
type Certificate = Finalization<Scheme, sha256::Digest>;

/// The network key, and what its whole committee signs.
struct Network {
    key: Vec<u8>,
    signers: Vec<Scheme>,
}

impl Network {
    fn new(seed: u64, members: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys: Vec<_> = (0..members)
            .map(|_| ed25519::PrivateKey::random(&mut rng).public_key())
            .collect();
        let members = Set::from_iter_dedup(keys);
        let (output, shares) = feldman_desmedt::deal::<MinSig, _, N3f1>(
            &mut rng,
            Mode::NonZeroCounter,
            members.clone(),
        )
        .expect("dealt");
        let sharing = output.public().clone();
        let signers = members
            .iter()
            .map(|member| {
                let share = shares.get_value(member).expect("a share").clone();
                Scheme::signer(NAMESPACE, members.clone(), sharing.clone(), share).expect("fits")
            })
            .collect();
        Self {
            key: sharing.public().encode().to_vec(),
            signers,
        }
    }

    fn certify(&self, header: &Header) -> Vec<u8> {
        let proposal = Proposal::new(
            Round::new(Epoch::zero(), View::new(header.view)),
            View::new(header.view - 1),
            sha256::Digest::from(header.digest().0),
        );
        let votes: Vec<_> = self
            .signers
            .iter()
            .map(|s| Finalize::sign(s, proposal.clone()).expect("signs"))
            .collect();
        let certificate =
            Certificate::from_finalizes(&self.signers[0], non_empty![@votes.iter()], &Sequential)
                .expect("a quorum");
        certificate.encode().to_vec()
    }
}

fn header(height: u64, parent: Digest, events: &[Vec<u8>]) -> Header {
    Header {
        network: Digest::of(b"network"),
        epoch: 0,
        height,
        view: height + 3,
        parent_view: height + 2,
        time_ms: height * 1_000,
        parent,
        proposer: [7; 32],
        payload_root: Digest::of(b"payload"),
        duty: Digest::default(),
        outcomes_root: Digest::of(b"outcomes"),
        events_root: types::merkle_root(events),
        state_root: Digest::of(b"state"),
    }
}

fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len()).map(|at| {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1;
        bad
    })
}

#[test]
fn a_certified_block_and_every_forgery_of_it() {
    let network = Network::new(1, 4);
    let header = header(5, Digest::of(b"parent"), &[]);
    let (bytes, certificate) = (header.to_bytes(), network.certify(&header));
    let verify =
        |key: &[u8], header: &[u8], certificate: &[u8]| verify_block(key, header, &[], certificate);
    assert_eq!(verify(&network.key, &bytes, &certificate), Ok(header));
    println!(
        "key {} + header {} + certificate {} bytes",
        network.key.len(),
        bytes.len(),
        certificate.len()
    );
    assert_eq!(bytes.len(), Header::BYTES);

    for bad in flips(&bytes) {
        let refused = verify(&network.key, &bad, &certificate);
        assert_eq!(refused, Err(LightError::OtherBlock));
    }
    for (at, bad) in flips(&certificate).enumerate() {
        let refused = verify(&network.key, &bytes, &bad).expect_err("forged");
        let good = matches!(
            refused,
            LightError::Forged | LightError::Certificate | LightError::OtherBlock
        );
        assert!(good, "byte {at}: {refused}");
    }
    for bad in flips(&network.key) {
        let refused = verify(&bad, &bytes, &certificate).expect_err("another key");
        assert!(matches!(refused, LightError::Key | LightError::Forged));
    }
    let other = Network::new(2, 4);
    let refused = verify(&other.key, &bytes, &certificate);
    assert_eq!(refused, Err(LightError::Forged));
    for end in [0, 1, certificate.len() - 1] {
        let refused = verify(&network.key, &bytes, &certificate[..end]);
        assert_eq!(refused, Err(LightError::Certificate));
    }
    let longer = [&bytes[..], &[0]].concat();
    let refused = verify(&network.key, &longer, &certificate);
    assert_eq!(refused, Err(LightError::Header));
}

#[test]
fn a_certificate_has_one_size_whatever_the_committee() {
    let sizes: Vec<usize> = [4, 7, 16]
        .iter()
        .map(|n| {
            let network = Network::new(3, *n);
            let header = header(5, Digest::of(b"parent"), &[]);
            let certificate = network.certify(&header);
            verify_block(&network.key, &header.to_bytes(), &[], &certificate).expect("certified");
            certificate.len()
        })
        .collect();
    assert_eq!(sizes[0], sizes[1]);
    assert_eq!(sizes[0], sizes[2]);
}

#[test]
fn a_descendants_certificate_counts_if_the_chain_holds() {
    let network = Network::new(4, 4);
    let mut chain = vec![header(5, Digest::of(b"parent"), &[])];
    for height in 6..9 {
        let parent = chain[chain.len() - 1].digest();
        chain.push(header(height, parent, &[]));
    }
    let certificate = network.certify(&chain[3]);
    let bytes: Vec<Vec<u8>> = chain.iter().map(Header::to_bytes).collect();
    let verify =
        |following: &[Vec<u8>]| verify_block(&network.key, &bytes[0], following, &certificate);
    assert_eq!(verify(&bytes[1..]), Ok(chain[0].clone()));
    assert_eq!(verify(&bytes[1..3]), Err(LightError::OtherBlock));
    assert_eq!(verify(&bytes[2..]), Err(LightError::Chain(7)));
    let swapped = [bytes[1].clone(), bytes[3].clone(), bytes[2].clone()];
    assert_eq!(verify(&swapped), Err(LightError::Chain(8)));
}

#[test]
fn an_event_of_a_block_and_every_forgery_of_it() {
    for count in [1, 2, 3, 7, 100] {
        let events: Vec<Vec<u8>> = (0..count).map(|n| vec![n as u8; 60]).collect();
        let header = header(5, Digest::default(), &events);
        for index in [0, count / 2, count - 1] {
            let path = merkle_path(&events, index).expect("inside");
            let (event, at, of) = (&events[index], index as u64, count as u64);
            let refused = Err(LightError::Event);
            assert_eq!(verify_event(&header, event, at, of, &path), Ok(()));
            for bad in flips(event) {
                assert_eq!(verify_event(&header, &bad, at, of, &path), refused);
            }
            assert_eq!(verify_event(&header, event, at + 1, of, &path), refused);
            assert_eq!(verify_event(&header, event, at, of + 1, &path), refused);
            for step in 0..path.len() {
                let mut bad = path.clone();
                bad[step].0[9] ^= 1;
                assert_eq!(verify_event(&header, event, at, of, &bad), refused);
            }
            let longer = [&path[..], &[Digest::default()]].concat();
            assert_eq!(verify_event(&header, event, at, of, &longer), refused);
            if index == 0 {
                println!("path to one of {count} events: {} bytes", path.len() * 32);
            }
        }
    }
}

/// A state of two records whose keys part at the first bit that differs.
fn two_records(table: &str) -> (Digest, StateProof) {
    let leaf = |key: u64, record: &[u8]| {
        let key = state_key(table, &key);
        (key, types::state_leaf(&key, &record_digest(table, record)))
    };
    let ((one, first), (other, second)) = (leaf(1, b"one"), leaf(2, b"two"));
    let bit = |key, at| types::state_bit(key, at);
    let parts = (0..256).find(|at| bit(&one, *at) != bit(&other, *at));
    let parts = parts.expect("they differ");
    let mut root = match bit(&one, parts) {
        true => types::state_node(&second, &first),
        false => types::state_node(&first, &second),
    };
    for at in (0..parts).rev() {
        root = match bit(&one, at) {
            true => types::state_node(&Digest::default(), &root),
            false => types::state_node(&root, &Digest::default()),
        };
    }
    let mut filled = vec![0; (parts + 1).div_ceil(8)];
    filled[parts / 8] |= 1 << (7 - parts % 8);
    let proof = StateProof {
        other: None,
        filled,
        depth: (parts + 1) as u16,
        neighbours: vec![second],
    };
    (root, proof)
}

#[test]
fn a_record_is_proved_and_no_other() {
    let (root, proof) = two_records("accounts");
    let mut header = header(5, Digest::of(b"parent"), &[]);
    header.state_root = root;
    let bytes = borsh::to_vec(&proof).expect("encodes");
    let verify = |table: &str, key: u64, record: Option<&[u8]>, proof: &[u8]| {
        verify_record(&header, table, &key, record, proof)
    };
    assert_eq!(verify("accounts", 1, Some(b"one"), &bytes), Ok(()));
    let refused = Err(LightError::Record);
    assert_eq!(verify("accounts", 1, Some(b"two"), &bytes), refused);
    assert_eq!(verify("accounts", 2, Some(b"one"), &bytes), refused);
    assert_eq!(verify("hosts", 1, Some(b"one"), &bytes), refused);
    assert_eq!(verify("accounts", 1, None, &bytes), refused);
    for bad in flips(&bytes) {
        assert_eq!(verify("accounts", 1, Some(b"one"), &bad), refused);
    }
    // Where an absent key would be: nothing, or another record alone.
    let absent = (3..).find(|n| {
        let (one, key) = (state_key("accounts", &1u64), state_key("accounts", n));
        (0..usize::from(proof.depth))
            .all(|at| types::state_bit(&one, at) == types::state_bit(&key, at))
    });
    let absent: u64 = absent.expect("one of them");
    let other = Some((
        state_key("accounts", &1u64),
        record_digest("accounts", b"one"),
    ));
    let without = borsh::to_vec(&StateProof { other, ..proof }).expect("encodes");
    assert_eq!(verify("accounts", absent, None, &without), Ok(()));
    assert_eq!(verify("accounts", 1, None, &without), refused);
    assert_eq!(verify("accounts", absent, Some(b"one"), &without), refused);
}

#[test]
fn a_duty_is_the_one_that_the_header_names() {
    let mut header = header(5, Digest::of(b"parent"), &[]);
    let none = Duty::default();
    assert_eq!(Duty::from_bytes(&header, &none.to_bytes()), Ok(none));
    let duty = Duty {
        clock: None,
        ceremony: Some(vec![1, 2, 3]),
        beacon: Some([4; BEACON_BYTES]),
        lineup: Some(vec![1, 0]),
        candidates: None,
        snapshot: Some(snapshot_root(b"state")),
        screened: vec![crate::Screened {
            screener: 3,
            transaction: 1,
            signature: [5; 64],
        }],
    };
    let bytes = duty.to_bytes();
    assert_eq!(Duty::from_bytes(&header, &bytes), Err(LightError::Duty));
    header.duty = duty.digest();
    assert_eq!(Duty::from_bytes(&header, &bytes), Ok(duty));
    for bad in flips(&bytes) {
        assert_eq!(Duty::from_bytes(&header, &bad), Err(LightError::Duty));
    }
}

#[test]
fn a_beacon_is_of_one_epoch_and_one_network() {
    use vrf::Seedable as _;
    let (network, other) = (Network::new(1, 4), Network::new(2, 4));
    let round = Round::new(Epoch::new(7), View::new(BEACON_VIEW));
    let proposal = Proposal::new(round, View::new(1), sha256::Digest::from([1; 32]));
    let votes: Vec<_> = network
        .signers
        .iter()
        .map(|s| Finalize::sign(s, proposal.clone()).expect("signs"))
        .collect();
    let certificate =
        Certificate::from_finalizes(&network.signers[0], non_empty![@votes.iter()], &Sequential)
            .expect("a quorum");
    let seed = certificate.seed().signature.encode();
    let seed: [u8; BEACON_BYTES] = seed[..].try_into().expect("its size");
    assert_eq!(verify_beacon(&network.key, 7, &seed), Ok(()));
    assert_eq!(
        verify_beacon(&network.key, 8, &seed),
        Err(LightError::Beacon(8))
    );
    assert_eq!(
        verify_beacon(&other.key, 7, &seed),
        Err(LightError::Beacon(7))
    );
    for bad in flips(&seed).step_by(7) {
        assert!(verify_beacon(&network.key, 7, &bad.try_into().expect("its size")).is_err());
    }
}

/// `cargo test --release -p light -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn how_long_a_check_takes() {
    const ROUNDS: usize = 500;
    let network = Network::new(1, 100);
    let header = header(5, Digest::of(b"parent"), &[]);
    let (bytes, certificate) = (header.to_bytes(), network.certify(&header));
    let mut took: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = std::time::Instant::now();
            verify_block(&network.key, &bytes, &[], &certificate).expect("good");
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!(
        "a certificate of 100: {:?} (1 of 20 under {:?}, 19 under {:?})",
        took[ROUNDS / 2],
        took[ROUNDS / 20],
        took[ROUNDS * 19 / 20]
    );
}
