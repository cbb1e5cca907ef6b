use commonware_codec::Encode;
use commonware_cryptography::Signer as _;
use commonware_cryptography::bls12381::dkg::feldman_desmedt;
use commonware_cryptography::bls12381::primitives::sharing::Mode;
use commonware_cryptography::ed25519;
use commonware_math::algebra::Random;
use commonware_utils::N3f1;
use commonware_utils::ordered::Set;
use rand_010::SeedableRng;
use rand_010::rngs::StdRng;
use types::{AllocationId, SecretKey};

use super::*;

struct Network {
    key: Vec<u8>,
    sharing: Vec<u8>,
    shares: Vec<Share>,
}

fn network(validators: u64, seed: u8) -> Network {
    let mut rng = StdRng::from_seed([seed; 32]);
    let keys = (0..validators).map(|_| ed25519::PrivateKey::random(&mut rng).public_key());
    let members = Set::from_iter_dedup(keys.collect::<Vec<_>>());
    let (output, shares) =
        feldman_desmedt::deal::<MinSig, _, N3f1>(&mut rng, Mode::NonZeroCounter, members.clone())
            .expect("dealt");
    Network {
        key: output.public().public().encode().to_vec(),
        sharing: output.public().encode().to_vec(),
        shares: members
            .iter()
            .map(|m| shares.get_value(m).expect("a share").clone())
            .collect(),
    }
}

fn owner(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn label(owner: &SecretKey, sealed: &Sealed) -> Label {
    Label {
        owner: AccountId::of(&owner.public()),
        mark: sealed.mark,
    }
}

const A1: AllocationId = AllocationId(1);

fn releases(network: &Network, asking: &Asking, labels: &[Label], of: &[usize]) -> Vec<Release> {
    let one = |i: &usize| release(&network.shares[*i], A1, asking.to(), labels).expect("released");
    of.iter().map(one).collect()
}

#[test]
fn a_quorum_opens_it_and_fewer_do_not() {
    let network = network(4, 1);
    let me = owner(1);
    let password = seal(&network.key, &me, "shop", "db", b"hunter2").expect("sealed");
    let long = vec![7; VALUE_BYTES_MAX];
    let certificate = seal(&network.key, &me, "shop", "tls", &long).expect("sealed");
    let labels = [label(&me, &password), label(&me, &certificate)];
    let secrets = [
        (labels[0], &password.bytes[..]),
        (labels[1], &certificate.bytes[..]),
    ];
    let asking = Asking::new(A1).expect("a key");
    for three in [[0, 1, 2], [3, 1, 0]] {
        let given = releases(&network, &asking, &labels, &three);
        let opened = asking.open(&network.sharing, &given, &secrets);
        let opened = opened.expect("opened");
        assert_eq!(&opened[0].0[..], b"hunter2");
        assert_eq!(&opened[1].0[..], &long[..]);
    }
    // One validator that says the same twice is one validator.
    let given = releases(&network, &asking, &labels, &[0, 1, 1]);
    let refused = asking.open(&network.sharing, &given, &secrets).err();
    assert_eq!(refused, Some(SecretError::TooFew { had: 2, needed: 3 }));
}

#[test]
fn wrong_shares_are_left_out() {
    let (network, other) = (network(4, 1), network(4, 2));
    let me = owner(1);
    let sealed = seal(&network.key, &me, "shop", "db", b"hunter2").expect("sealed");
    let label = label(&me, &sealed);
    let asking = Asking::new(A1).expect("a key");
    let stranger = Asking::new(A1).expect("a key");
    let mut given = releases(&other, &asking, &[label], &[0, 1, 2]);
    given.push(Release(vec![9; 200]));
    given.push(Release(Vec::new()));
    given.extend(releases(&network, &stranger, &[label], &[0]));
    given.extend(releases(&network, &asking, &[label], &[1, 2]));
    let secrets = [(label, &sealed.bytes[..])];
    let few = asking.open(&network.sharing, &given, &secrets).err();
    assert_eq!(few, Some(SecretError::TooFew { had: 2, needed: 3 }));
    given.extend(releases(&network, &asking, &[label], &[3]));
    let opened = asking.open(&network.sharing, &given, &secrets);
    assert_eq!(&opened.expect("opened")[0].0[..], b"hunter2");
}

#[test]
fn who_copies_it_has_shares_of_another_key() {
    let network = network(4, 1);
    let (me, thief) = (owner(1), owner(2));
    let sealed = seal(&network.key, &me, "shop", "db", b"hunter2").expect("sealed");
    let stolen = label(&thief, &sealed);
    let asking = Asking::new(A1).expect("a key");
    let given = releases(&network, &asking, &[stolen], &[0, 1, 2]);
    let secrets = [(stolen, &sealed.bytes[..])];
    let refused = asking.open(&network.sharing, &given, &secrets).err();
    assert_eq!(refused, Some(SecretError::Closed));
}

#[test]
fn equal_values_are_known_again_by_their_owner_alone() {
    let network = network(4, 1);
    let sealed = |who: u8, project: &str, name: &str, value: &[u8]| {
        seal(&network.key, &owner(who), project, name, value).expect("sealed")
    };
    let one = sealed(1, "shop", "db", b"hunter2");
    assert_eq!(one, sealed(1, "shop", "db", b"hunter2"));
    for other in [
        sealed(1, "shop", "db", b"hunter3"),
        sealed(1, "shop", "dbh", b"unter2"),
        sealed(1, "shopd", "b", b"hunter2"),
        sealed(2, "shop", "db", b"hunter2"),
    ] {
        assert_ne!(one.mark, other.mark);
        assert_ne!(one.bytes, other.bytes);
    }
    assert_eq!(one.bytes.len(), sealed(1, "a", "b", b"").bytes.len());
}

#[test]
fn what_is_damaged_or_too_large_is_refused() {
    let network = network(4, 1);
    let me = owner(1);
    let large = vec![0; VALUE_BYTES_MAX + 1];
    let refused = seal(&network.key, &me, "a", "b", &large).err();
    assert_eq!(refused, Some(SecretError::TooLarge(large.len())));
    let refused = seal(b"no key", &me, "a", "b", b"c").err();
    assert_eq!(refused, Some(SecretError::NetworkKey));
    let sealed = seal(&network.key, &me, "a", "b", b"c").expect("sealed");
    let label = label(&me, &sealed);
    let asking = Asking::new(A1).expect("a key");
    let given = releases(&network, &asking, &[label], &[0, 1, 2]);
    for at in [0, 1, 100, 170, sealed.bytes.len() - 1] {
        let mut bytes = sealed.bytes.clone();
        bytes[at] ^= 1;
        let opened = asking.open(&network.sharing, &given, &[(label, &bytes[..])]);
        assert!(opened.is_err(), "byte {at}");
    }
    for end in [0, 1, 160, 170] {
        let cut = &sealed.bytes[..end];
        assert!(
            asking
                .open(&network.sharing, &given, &[(label, cut)])
                .is_err()
        );
    }
    assert!(release(&network.shares[0], A1, &[1; 31], &[label]).is_err());
    // A key of small order would give the same secret to everybody.
    assert!(release(&network.shares[0], A1, &[0; 32], &[label]).is_err());
}
