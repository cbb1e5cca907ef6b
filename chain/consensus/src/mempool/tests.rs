use super::*;

const NONE: Term = (0, 0);

fn admitted(n: u32, sender: u8, tip: u128) -> Admitted {
    Admitted {
        id: Digest::of(&n.to_be_bytes()),
        sender: [sender; 20],
        tip,
        urgent: true,
    }
}

fn id(n: u32) -> Digest {
    Digest::of(&n.to_be_bytes())
}

/// Its bytes are its number.
fn insert(pool: &mut Mempool, n: u32, sender: u8, tip: u128) -> Result<bool, SubmitError> {
    let bytes = Bytes::copy_from_slice(&n.to_be_bytes());
    pool.insert(admitted(n, sender, tip), bytes, 1, true)
}

fn numbers<'a>(transactions: impl IntoIterator<Item = &'a (Digest, Bytes)>) -> Vec<u32> {
    let number = |bytes: &Bytes| u32::from_be_bytes(bytes[..].try_into().expect("four"));
    transactions.into_iter().map(|(_, b)| number(b)).collect()
}

fn selected(pool: &Mempool) -> Vec<u32> {
    numbers(&pool.select(&HashSet::new()))
}

#[test]
fn a_full_pool_makes_room_for_dearer_ones_only() {
    let mut pool = Mempool::default();
    let half = Bytes::from(vec![0; BYTES_MAX / 2]);
    for (n, tip) in [(1, 3), (2, 2)] {
        pool.insert(admitted(n, n as u8, tip), half.clone(), 1, false)
            .expect("room");
    }
    let one = Bytes::from(vec![0]);
    let cheap = pool.insert(admitted(3, 3, 2), one.clone(), 1, false);
    assert_eq!(cheap, Err(SubmitError::Full));
    assert_eq!(pool.insert(admitted(4, 4, 9), one, 1, false), Ok(true));
    assert!(pool.contains(&id(1)) && !pool.contains(&id(2)));
    assert_eq!(pool.bytes, BYTES_MAX / 2 + 1);
}

#[test]
fn figures_follow_what_comes_and_goes() {
    let mut pool = Mempool::default();
    assert_eq!(pool.figures(), Queue::default());
    for (n, sender, tip) in [(1, 1, 0), (2, 1, 7), (3, 2, 7)] {
        insert(&mut pool, n, sender, tip).expect("room");
    }
    let all = Queue {
        waiting: 3,
        bytes: 12,
        own: 3,
        senders: 2,
        oldest: Some(1),
        tips: vec![(7, 2, 8), (0, 1, 4)],
    };
    assert_eq!(pool.figures(), all);
    pool.done(&id(2));
    pool.done(&id(3));
    assert_eq!(pool.figures().tips, [(0, 1, 4)]);
    pool.done(&id(1));
    assert_eq!(pool.figures(), Queue::default());
    for tip in 0..100 {
        insert(&mut pool, 10 + tip, tip as u8, tip.into()).expect("room");
    }
    let figures = pool.figures();
    assert_eq!(figures.tips.len(), Queue::TIPS_MAX);
    assert_eq!(figures.tips[0], (99, 1, 4), "the dearest");
}

#[test]
fn a_full_pool_makes_room_for_who_has_less_in_it() {
    let mut pool = Mempool::default();
    let fill = Bytes::from(vec![0; BYTES_MAX / 4]);
    for n in 0..4 {
        pool.insert(admitted(n, 1, 0), fill.clone(), 1, true)
            .expect("room");
    }
    assert_eq!(insert(&mut pool, 10, 2, 0), Ok(true));
    assert!(!pool.contains(&id(3)), "the last of who has most");
    for n in 0..3 {
        assert!(pool.contains(&id(n)));
    }
    // None of a lower rank is left: who has one is not driven out by another who has none.
    let mut even = Mempool::default();
    for (n, sender) in (0..4).zip(1..) {
        even.insert(admitted(n, sender, 0), fill.clone(), 1, true)
            .expect("room");
    }
    assert_eq!(insert(&mut even, 10, 9, 0), Err(SubmitError::Full));
    assert_eq!(even.len(), 4);
}

#[test]
fn dearer_first_and_quota_per_sender() {
    let mut pool = Mempool::default();
    for (n, tip) in [(1, 0), (2, 5), (3, 0)] {
        assert_eq!(insert(&mut pool, n, 1, tip), Ok(true));
    }
    assert_eq!(insert(&mut pool, 1, 1, 0), Ok(false), "it is there");
    assert_eq!(selected(&pool), [2, 1, 3]);
    let included = [id(2)].into();
    assert_eq!(pool.select(&included).len(), 2);
    for n in 10..71 {
        assert_eq!(insert(&mut pool, n, 1, 0), Ok(true));
    }
    assert_eq!(insert(&mut pool, 99, 1, 0), Err(SubmitError::Quota));
    assert_eq!(insert(&mut pool, 99, 2, 0), Ok(true));
    assert!(pool.left(AGE_MAX + 2, NONE).is_empty());
    assert_eq!((pool.len(), pool.bytes), (0, 0));
    assert!(pool.own.is_empty() && pool.arrivals.is_empty() && pool.senders.is_empty());
}

#[test]
fn senders_of_one_fee_take_turns() {
    let mut pool = Mempool::default();
    for n in 0..PER_SENDER_MAX as u32 {
        insert(&mut pool, n, 1, 0).expect("room");
    }
    for (n, sender) in [(100, 2), (101, 3), (102, 2)] {
        insert(&mut pool, n, sender, 0).expect("room");
    }
    assert_eq!(selected(&pool)[..6], [0, 100, 101, 1, 102, 2]);
    // A lone transaction waits behind one of a flood, not behind all of it; also later.
    for n in 0..10 {
        pool.done(&id(n));
    }
    insert(&mut pool, 200, 4, 0).expect("room");
    assert!(selected(&pool)[..5].contains(&200), "{:?}", selected(&pool));
    // Those of one sender keep their order, also when it goes on after a part of them.
    insert(&mut pool, 300, 1, 0).expect("room");
    let own: Vec<u32> = selected(&pool);
    let of_first = |n: &u32| *n < 100 || *n == 300;
    let own: Vec<u32> = own.into_iter().filter(of_first).collect();
    assert!(own.is_sorted(), "{own:?}");
    // Who has sent much before and has nothing waiting is in no worse place than who is new.
    let mut pool = Mempool::default();
    for n in 0..500 {
        insert(&mut pool, n, 1, 0).expect("room");
        pool.done(&id(n));
    }
    insert(&mut pool, 600, 1, 0).expect("room");
    insert(&mut pool, 601, 2, 0).expect("room");
    assert_eq!(selected(&pool), [600, 601]);
}

#[test]
fn a_transaction_is_told_of_until_it_is_in_a_block() {
    let mut pool = Mempool::default();
    for n in 1..=3 {
        insert(&mut pool, n, n as u8, 0).expect("room");
    }
    let other = Bytes::from_static(&[0, 0, 0, 9]);
    let fresh = pool.insert(admitted(9, 9, 0), other, 1, false);
    assert_eq!(fresh, Ok(true), "of which another validator tells");
    assert!(pool.tell(&id(1), (0, 5), (0, 8)));
    assert!(!pool.tell(&id(1), (0, 6), (0, 9)), "three know of it still");
    assert!(!pool.tell(&id(77), (0, 5), (0, 8)), "it is not here");
    assert!(pool.tell(&id(3), (0, 6), (0, 9)));
    // (height, over) and who is left over then; the second was never told of.
    for (height, over, left) in [
        (2, (0, 7), vec![]),
        (2, (0, 8), vec![1]),
        (3, (0, 8), vec![1, 2]),
        (3, (0, 9), vec![1, 2, 3]),
        (3, (1, 0), vec![1, 2, 3]),
    ] {
        assert_eq!(numbers(&pool.left(height, over)), left, "{height} {over:?}");
    }
    assert!(pool.tell(&id(1), (0, 8), (0, 11)));
    assert_eq!(numbers(&pool.left(3, (0, 8))), [2]);
    pool.done(&id(2));
    assert_eq!(numbers(&pool.left(3, (0, 8))), [0u32; 0]);
}

#[test]
fn what_is_not_urgent_waits_for_a_block_that_is_made_anyway() {
    let mut pool = Mempool::default();
    let patient = Admitted {
        urgent: false,
        ..admitted(1, 1, 0)
    };
    pool.insert(patient, Bytes::from_static(b"a"), 1, true)
        .expect("taken");
    assert!(!pool.presses(&HashSet::new()));
    insert(&mut pool, 2, 1, 0).expect("taken");
    assert!(pool.presses(&HashSet::new()));
    assert!(!pool.presses(&HashSet::from([id(2)])));
    assert_eq!(pool.select(&HashSet::new()).len(), 2);
}

#[test]
fn refusals_say_how_many() {
    let said = SubmitError::Quota.to_string();
    assert!(said.contains("64"), "{said}");
    let said = SubmitError::Full.to_string();
    assert!(said.contains("50000") && said.contains("128 MiB"), "{said}");
}
