use std::thread;

use super::*;

/// Founders with folders and free ports of their own.
fn founders(folder: &Path, count: u8) -> Vec<Ceremony> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let listen: Vec<SocketAddr> = held
        .iter()
        .map(|l| l.local_addr().expect("bound"))
        .collect();
    let seats: Vec<Seat> = (1..=count).map(|n| Seat::from_secret([n; 32])).collect();
    let all = seats.iter().zip(&listen).map(|(seat, at)| Member {
        key: seat.key(),
        address: *at,
    });
    let all: Vec<Member> = all.collect();
    let each = seats.into_iter().zip(listen).enumerate();
    each.map(|(n, (seat, listen))| Ceremony {
        data: folder.join(n.to_string()),
        seat,
        listen,
        founders: all.clone(),
        charter: Digest([7; 32]),
        wait: Duration::from_secs(60),
    })
    .collect()
}

type Kept = Option<Vec<u8>>;

/// Each on a thread of its own: what came of it, and the committee that it kept.
fn run(ceremonies: Vec<Ceremony>) -> Vec<(Ceremony, Result<Founded, FoundError>, Kept)> {
    let threads: Vec<_> = ceremonies
        .into_iter()
        .map(|ceremony| {
            thread::spawn(move || {
                let mut kept = None;
                let keep = |committee: &Committee| {
                    let bytes = committee.to_bytes();
                    let digest = Digest::of(&bytes);
                    kept = Some(bytes);
                    Ok(digest)
                };
                let ended = found(&ceremony, keep, |_| {});
                (ceremony, ended, kept)
            })
        })
        .collect();
    let ended = threads.into_iter().map(|thread| thread.join());
    ended.map(|ended| ended.expect("no panic")).collect()
}

#[test]
fn four_make_one_key_and_each_has_its_own_share_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let founders = founders(folder.path(), 4);
    // One has a share of a charter that came to nothing.
    let stale = Seat {
        identity: founders[0].seat.identity.clone(),
        share: crate::deal(4, [1; 32]).expect("dealt").1.remove(0).share,
    };
    Vault::open(founders[0].data.join("vault"), &stale).expect("kept");
    let ended = run(founders);
    let committee = ended[0].2.clone().expect("kept");
    let mut shares = Vec::new();
    for (ceremony, ended, kept) in &ended {
        let founded = ended.as_ref().expect("founded");
        assert_eq!(
            *founded,
            Founded {
                holds_share: true,
                shown: Vec::new(),
                silent: Vec::new()
            }
        );
        assert_eq!(kept.as_ref(), Some(&committee));
        // Nothing else is left: no dealing, no seed.
        let left: Vec<_> = std::fs::read_dir(&ceremony.data).expect("read").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let path = ceremony.data.join("vault");
        let mut vault = Vault::open(path, &ceremony.seat).expect("opens");
        let share = futures::executor::block_on(vault.get_share(Epoch::zero()));
        shares.push(share.expect("its share"));
    }
    let committee = Committee::from_bytes(&committee).expect("a committee");
    let members: Vec<[u8; 32]> = committee.members().collect();
    assert_eq!(members.len(), 4);
    for (at, (ceremony, _, _)) in ended.iter().enumerate() {
        let place = members.iter().position(|key| *key == ceremony.seat.key());
        assert_eq!(place, Some(shares[at].index.get() as usize));
        let others = shares.iter().enumerate().filter(|(n, _)| *n != at);
        for (n, share) in others {
            assert_ne!(shares[at], *share);
            let path = ended[n].0.data.join("vault");
            assert!(Vault::open(path, &ceremony.seat).is_err());
        }
    }
}

#[test]
fn who_has_another_charter_is_not_heard_and_nothing_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut all = founders(folder.path(), 3);
    all.iter_mut().for_each(|c| c.wait = Duration::from_secs(8));
    all[2].charter = Digest([8; 32]);
    let keys: Vec<[u8; 32]> = all.iter().map(|c| c.seat.key()).collect();
    for (n, (ceremony, ended, kept)) in run(all).into_iter().enumerate() {
        let Err(FoundError::Missing(missing)) = ended else {
            panic!("{n}: {ended:?}");
        };
        let lacking = if n == 2 { &keys[..2] } else { &keys[2..] };
        let sorted = |keys: &[[u8; 32]]| std::collections::BTreeSet::from_iter(keys.to_vec());
        assert_eq!(sorted(&missing), sorted(lacking), "{n}");
        assert_eq!(kept, None);
        let left = std::fs::read_dir(&ceremony.data).expect("read").count();
        assert_eq!(left, 0);
    }
}

#[test]
fn who_does_not_belong_is_told_so_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |change: &dyn Fn(&mut Ceremony)| {
        let mut one = founders(folder.path(), 2).remove(0);
        change(&mut one);
        let ended = found(&one, |_| panic!("nothing is made"), |_| {});
        assert!(!one.data.exists());
        ended.expect_err("refused").to_string()
    };
    let other = refused(&|c| c.seat = Seat::from_secret([9; 32]));
    assert!(other.contains("none of the founders'"), "{other}");
    let one = refused(&|c| c.founders.truncate(1));
    assert!(one.contains("2 to 128"), "{one}");
    let twice = refused(&|c| c.founders[1] = c.founders[0].clone());
    assert!(twice.contains("each once"), "{twice}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound");
    let taken = refused(&|c| c.listen = at);
    assert!(taken.contains("listen on"), "{taken}");
}

#[test]
fn who_is_there_ready_and_done() {
    let (a, b, now) = ([1; 32], [2; 32], Instant::now());
    let mut tally = Tally {
        others: vec![a, b],
        heard: BTreeMap::new(),
    };
    tally.hear([3; 32], Stage::Ready, now);
    tally.hear(a, Stage::Here, now);
    assert_eq!(tally.absent(now), [b]);
    assert_eq!(tally.unready(), [a, b]);
    tally.hear(b, Stage::Ready, now);
    let later = now + HEARD_WITHIN;
    assert_eq!((tally.absent(now), tally.unready()), (vec![], vec![a]));
    tally.hear(a, Stage::Done(Digest([1; 32])), later);
    assert_eq!((tally.absent(later), tally.undone()), (vec![b], vec![b]));
    assert_eq!(tally.differs(Digest([1; 32])), None);
    assert_eq!(tally.differs(Digest([2; 32])), Some(a));
}
