//! Four real validators on loopback, with a machine that counts.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use light::{Duty, Header, Screened};
use types::{Digest, Seal, SecretKey, merkle_root};

use crate::app::{Core, Node};
use crate::block::{TRANSACTION_BYTES_MAX, payload_root};
use crate::node::{open, queue};
use crate::once::{Kept, Sealer};
use crate::store::Store;
use crate::{
    Admitted, Block, Boundary, Committee, Config, Env, Executed, Handle, Machine, Member, Offer,
    Piece, Record, Seat, SubmitError, adopt, deal, follow, may_vote, start,
};

/// What a wrongly signed transaction begins with: never counted.
const FORGED: &[u8] = b"forged";

/// Of a transaction that takes the right to lead from whom it names.
const BARRED: &[u8] = b"barred";

/// Each transaction counts its own bytes. From the third epoch on, the committees of the rota
/// take turns.
#[derive(Clone, Default)]
struct Counter(Vec<Vec<Member>>);

type Counts = BTreeMap<Vec<u8>, u64>;

impl Machine for Counter {
    type State = Counts;

    fn genesis(&self) -> anyhow::Result<Executed<Counts>> {
        Ok(executed(Counts::new(), &[]))
    }

    fn admit(
        &self,
        state: &Counts,
        transactions: &[Bytes],
        verified: &dyn Fn(&Digest) -> bool,
    ) -> Vec<Result<Admitted, String>> {
        let answer = |transaction: &Bytes| {
            let id = Digest::of(transaction);
            if transaction.starts_with(FORGED) && !verified(&id) {
                return Err("its signature does not fit".into());
            }
            if state.contains_key(&transaction[..]) {
                return Err("counted already".into());
            }
            Ok(Admitted {
                id,
                sender: id.0[..20].try_into().expect("twenty"),
                tip: 0,
                urgent: true,
            })
        };
        transactions.iter().map(answer).collect()
    }

    fn execute(
        &self,
        parent: &Counts,
        _: Env,
        transactions: &[Bytes],
        verified: &dyn Fn(&Digest) -> bool,
    ) -> Executed<Counts> {
        let mut state = parent.clone();
        for transaction in transactions {
            if transaction.starts_with(FORGED) && !verified(&Digest::of(transaction)) {
                continue;
            }
            *state.entry(transaction.to_vec()).or_default() += 1;
        }
        executed(state, transactions)
    }

    fn committee(&self, _: &Counts, epoch: u64) -> Option<Vec<Member>> {
        let turn = if epoch < 3 { 0 } else { epoch as usize };
        self.0.get(turn % self.0.len().max(1)).cloned()
    }

    fn wants_beacon(&self, _: &Counts) -> bool {
        false
    }

    fn is_barred(&self, state: &Counts, key: &[u8; 32]) -> bool {
        state.contains_key(&[BARRED, key].concat())
    }

    fn save(&self, state: &Counts) -> Vec<u8> {
        borsh::to_vec(state).expect("encodes")
    }

    fn root(&self, state: &Counts) -> Digest {
        Digest::of_value("counts", state)
    }

    fn load(&self, bytes: &[u8]) -> Result<Counts> {
        Ok(borsh::from_slice(bytes)?)
    }
}

fn executed(state: Counts, transactions: &[Bytes]) -> Executed<Counts> {
    Executed {
        ids: transactions.iter().map(|t| Digest::of(t)).collect(),
        candidates: None,
        events: transactions.iter().map(|t| t.to_vec()).collect(),
        outcomes: transactions.iter().map(|_| vec![1]).collect(),
        state,
    }
}

struct Net {
    committee: Committee,
    seats: Vec<Seat>,
    members: Vec<Member>,
    machine: Counter,
    epoch_blocks: NonZeroU64,
    folder: tempfile::TempDir,
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
}

impl Net {
    /// Four for good.
    fn new() -> Self {
        Self::with(0, 1 << 20)
    }

    /// Four that were dealt the key, and as many as `newcomers`. Committees of four that have
    /// nobody in common take turns.
    fn with(newcomers: u8, epoch_blocks: u64) -> Self {
        let (committee, seats) = deal(4, [7; 32]).expect("dealt");
        let committee = Committee::from_bytes(&committee.to_bytes()).expect("reads back");
        let newcomers = (0..newcomers).map(|n| Seat::from_secret([100 + n; 32]));
        let seats: Vec<Seat> = seats
            .into_iter()
            .chain(newcomers)
            .map(|s| Seat::from_bytes(&s.to_bytes()).expect("reads back"))
            .collect();
        let members: Vec<Member> = seats
            .iter()
            .map(|seat| Member {
                key: seat.key(),
                address: free_address(),
            })
            .collect();
        Self {
            committee,
            seats,
            machine: Counter(members.chunks(4).map(<[_]>::to_vec).collect()),
            members,
            epoch_blocks: NonZeroU64::new(epoch_blocks).expect("not zero"),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn start(&self, at: usize) -> Handle<Counter> {
        start(self.config(at), Arc::new(self.machine.clone())).expect("starts")
    }

    fn config(&self, at: usize) -> Config {
        Config {
            data: Path::join(self.folder.path(), at.to_string()),
            committee: self.committee.clone(),
            seat: self.seats[at].clone(),
            listen: self.members[at].address,
            addresses: Vec::new(),
            epoch_blocks: self.epoch_blocks,
            network: Digest::of(b"test"),
            genesis_ms: 1,
            keep: None,
        }
    }
}

fn wait(what: &str, good: impl Fn() -> bool) {
    let started = Instant::now();
    while !good() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{what}: not within a minute"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stop(handle: &Handle<Counter>) {
    futures::executor::block_on(handle.stop());
}

#[test]
fn agree_restart_and_catch_up() {
    let net = Net::new();
    let mut nodes: Vec<_> = (0..4).map(|n| net.start(n)).collect();
    wait("first blocks", || {
        nodes.iter().all(|n| n.head().header.height >= 2)
    });

    // One transaction, given to any one, is applied once everywhere.
    let mut latencies = Vec::new();
    for n in 0..12u8 {
        let before = Instant::now();
        let bytes = Bytes::from(vec![n; 40]);
        nodes[usize::from(n) % 4].submit(bytes).expect("queued");
        wait("applied", || {
            nodes
                .iter()
                .all(|x| x.head().state.get(&vec![n; 40]) == Some(&1))
        });
        latencies.push(before.elapsed().as_millis());
    }
    latencies.sort_unstable();
    println!("final on all four, milliseconds: {latencies:?}");
    assert!(nodes[0].submit(Bytes::from(vec![0; 40])).is_err());

    // A dead validator costs no agreement; what it missed it gets when it is back.
    stop(&nodes.remove(3));
    let at = nodes[0].head().header.height;
    for n in 20..26u8 {
        nodes[0].submit(Bytes::from(vec![n; 40])).expect("queued");
    }
    wait("three go on", || {
        nodes[..3]
            .iter()
            .all(|x| (20..26u8).all(|n| x.head().state.get(&vec![n; 40]) == Some(&1)))
            && nodes[0].head().header.height >= at + 4
    });
    nodes.push(net.start(3));
    assert_eq!(
        nodes[3].head().state.get(&vec![11; 40]),
        Some(&1),
        "kept over a restart"
    );
    wait("caught up", || {
        nodes[3].head().state.get(&vec![25; 40]) == Some(&1)
    });

    // All stop; all go on where they were. What one took alone when the others were gone comes
    // into a block when they are back.
    nodes[1..].iter().for_each(stop);
    nodes[0].submit(Bytes::from(vec![77; 40])).expect("queued");
    stop(&nodes[0]);
    let heights: Vec<u64> = nodes.iter().map(|n| n.head().header.height).collect();
    drop(nodes);
    let nodes: Vec<_> = (0..4).map(|n| net.start(n)).collect();
    for (node, height) in nodes.iter().zip(heights) {
        assert!(node.head().header.height >= height, "nothing kept is lost");
    }
    nodes[2].submit(Bytes::from(vec![99; 40])).expect("queued");
    wait("all back", || {
        nodes.iter().all(|x| {
            [77, 99]
                .iter()
                .all(|n| x.head().state.get(&vec![*n; 40]) == Some(&1))
        })
    });

    // Same chain everywhere, each block certified under the one network key.
    let key = net.committee.network_key();
    let common = nodes
        .iter()
        .map(|n| n.head().header.height)
        .min()
        .expect("four");
    let mut certified = 0;
    let mut parent = None;
    for height in 1..=common {
        let records: Vec<_> = nodes
            .iter()
            .map(|n| n.block(height).expect("reads").expect("kept"))
            .collect();
        assert!(records.iter().all(|r| r.header == records[0].header));
        let header = light::Header::from_bytes(&records[0].header).expect("reads");
        assert!(parent.is_none_or(|p| p == header.parent));
        parent = Some(header.digest());
        for record in &records {
            assert_eq!(record.events, record.transactions);
            let Some(certificate) = &record.certificate else {
                continue;
            };
            certified += 1;
            let verify = |header: &[u8], certificate: &[u8]| {
                light::verify_block(&key, header, &[], certificate)
            };
            verify(&record.header, certificate).expect("certified");
            if height == 1 {
                assert!(certificate.len() < 150, "{} bytes", certificate.len());
                for at in 0..certificate.len() {
                    let mut bad = certificate.clone();
                    bad[at] ^= 1;
                    assert!(verify(&record.header, &bad).is_err(), "byte {at}");
                }
                for at in (0..record.header.len()).step_by(16) {
                    let mut bad = record.header.clone();
                    bad[at] ^= 1;
                    assert_eq!(
                        verify(&bad, certificate),
                        Err(light::LightError::OtherBlock)
                    );
                }
            }
        }
    }
    println!("{certified} certificates for {common} blocks on four nodes");
    assert!(certified as u64 >= common);
    nodes.iter().for_each(stop);
}

/// Feeds `nodes` until all that run have come to `height`.
fn feed(nodes: &[Option<Handle<Counter>>], height: u64, turn: &mut u64) {
    let started = Instant::now();
    let running = || nodes.iter().flatten();
    while running().any(|n| n.head().header.height < height) {
        let heights: Vec<_> = running().map(|n| n.head().header.height).collect();
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "height {height}: only {heights:?} in time"
        );
        *turn += 1;
        for node in running() {
            // Full or raced: the next one is as good.
            let _ = node.submit(Bytes::from(turn.to_le_bytes().repeat(5)));
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn the_key_goes_from_hand_to_hand() {
    const BLOCKS: u64 = 16;
    let net = Net::with(4, BLOCKS);
    let mut nodes: Vec<_> = (0..8).map(|n| Some(net.start(n))).collect();
    let mut turn = 0;
    let epochs = 7;
    // One of each four dies in the midst of a handing over, and comes back in the next.
    for epoch in 1..=epochs {
        feed(&nodes, epoch * BLOCKS - 5, &mut turn);
        let dies = (epoch as usize * 3) % 8;
        stop(&nodes[dies].take().expect("runs"));
        feed(&nodes, epoch * BLOCKS + 2, &mut turn);
        nodes[dies] = Some(net.start(dies));
    }
    feed(&nodes, epochs * BLOCKS + 4, &mut turn);
    let key = net.committee.network_key();
    let mut led = std::collections::BTreeMap::<u64, std::collections::BTreeSet<usize>>::new();
    let first = nodes[0].as_ref().expect("runs");
    for height in 1..epochs * BLOCKS {
        let record = first.block(height).expect("reads").expect("kept");
        let header = Header::from_bytes(&record.header).expect("reads");
        assert_eq!(header.epoch, height / BLOCKS);
        let duty = Duty::from_bytes(&header, &record.duty).expect("its own");
        assert_eq!(duty.snapshot.is_some(), height % BLOCKS == BLOCKS - 1);
        let leader = net.seats.iter().position(|s| s.key() == header.proposer);
        led.entry(header.epoch)
            .or_default()
            .insert(leader.expect("one of us"));
        if let Some(certificate) = &record.certificate {
            light::verify_block(&key, &record.header, &[], certificate).expect("one key");
        }
    }
    println!("leaders by epoch: {led:?}");
    let handed = (1..epochs).filter(|epoch| {
        let change = says_who_votes(first, &key, epoch * BLOCKS - 1);
        assert_eq!((change.epoch, change.seats.len()), (*epoch, 4));
        for height in epoch * BLOCKS..(epoch + 1) * BLOCKS {
            let record = first.block(height).expect("reads").expect("kept");
            let header = Header::from_bytes(&record.header).expect("reads");
            let turn = light::turn_of(*epoch, 4, header.view);
            assert_eq!(header.proposer, change.seats[turn as usize], "{height}");
        }
        if change.handed_on {
            let drawn = net.machine.committee(&Counts::new(), *epoch);
            let drawn = drawn.expect("said").into_iter().map(|member| member.key);
            assert_eq!(
                change.seats,
                drawn.collect::<Vec<_>>(),
                "in the order drawn"
            );
        }
        change.handed_on
    });
    assert!(handed.count() >= 1);
    // Nobody leads who does not sit, and both fours have sat.
    for (epoch, leaders) in &led {
        assert!(
            leaders.iter().all(|l| *l < 4) || leaders.iter().all(|l| *l >= 4),
            "epoch {epoch}: {leaders:?}"
        );
    }
    assert!(led.values().flatten().any(|l| *l >= 4), "{led:?}");
    nodes.iter().flatten().for_each(stop);
}

/// What the last block of an epoch, at `height`, says to one who has but the network's key; and no
/// changed block says anything.
fn says_who_votes(node: &Handle<Counter>, key: &[u8], height: u64) -> light::EpochChange {
    let record = |height| node.block(height).expect("reads").expect("kept");
    let mut last = record(height);
    let mut descendants = Vec::new();
    while last.certificate.is_none() {
        last = record(height + 1 + descendants.len() as u64);
        descendants.push(last.header.clone());
    }
    let certificate = last.certificate.expect("just looked");
    let named = record(height);
    let read = |key: &[u8], duty: &[u8]| {
        light::verify_epoch_change(key, &named.header, &descendants, &certificate, duty)
    };
    let change = read(key, &named.duty).expect("says it");
    let handing = crate::handing(&named).expect("its own");
    assert_eq!(
        Some(&change.seats),
        handing.as_ref().map(|handing| &handing.seats),
        "as the engine reads it"
    );
    let other = deal(4, [8; 32]).expect("dealt").0.network_key();
    assert!(read(&other, &named.duty).is_err());
    for at in [0, named.duty.len() / 2, named.duty.len() - 1] {
        let mut bent = named.duty.clone();
        bent[at] ^= 1;
        assert_eq!(read(key, &bent), Err(light::LightError::Duty));
    }
    let before = record(height - 1);
    let none = light::verify_epoch_change(key, &before.header, &[], &certificate, &before.duty);
    assert!(none.is_err(), "block {} ends no epoch", height - 1);
    change
}

/// All pieces of what `giver` offers now.
fn fetched(giver: &Handle<Counter>) -> (Offer, Vec<Piece>) {
    let offer = giver.offer().expect("reads").expect("offered");
    let height = Header::from_bytes(&offer.record.header)
        .expect("reads")
        .height;
    let piece = |number| giver.piece(height, number).expect("reads").expect("kept");
    let pieces = (0..offer.pieces).map(|n| borsh::from_slice(&piece(n)).expect("a piece"));
    let pieces = pieces.collect();
    assert!(giver.piece(height, offer.pieces).expect("reads").is_none());
    (offer, pieces)
}

#[test]
fn a_newcomer_starts_from_a_certified_state_and_votes() {
    const BLOCKS: u64 = 16;
    let mut net = Net::with(1, BLOCKS);
    // Five sit in every other epoch from the third on.
    net.machine = Counter(vec![net.members[..4].to_vec(), net.members.clone()]);
    let machine = net.machine.clone();
    let mut nodes: Vec<_> = (0..4).map(|n| Some(net.start(n))).collect();
    let mut turn = 0;
    assert!(
        nodes[0]
            .as_ref()
            .expect("runs")
            .offer()
            .expect("reads")
            .is_none()
    );
    feed(&nodes, BLOCKS + 1, &mut turn);
    let (stale, old_pieces) = fetched(nodes[1].as_ref().expect("runs"));
    let at = |offer: &Offer| {
        let header = Header::from_bytes(&offer.record.header);
        header.expect("reads").height
    };
    let config = net.config(4);
    // Blocks follow each other whether anybody waits or not: the next may not link to it.
    let mut wanted = 3 * BLOCKS + 1;
    let (offer, pieces) = loop {
        feed(&nodes, wanted, &mut turn);
        let found = fetched(nodes[0].as_ref().expect("runs"));
        let boundary = Boundary::check(&config, &machine, found.0.clone()).expect("holds");
        if boundary.links(&net.members[4].key) && at(&found.0) > at(&stale) + BLOCKS {
            break found;
        }
        wanted = at(&found.0) + BLOCKS + 2;
    };
    let begins = at(&offer) + 1;
    let check = |change: &dyn Fn(&mut Offer)| {
        let mut other = offer.clone();
        change(&mut other);
        Boundary::check(&config, &machine, other)
    };
    let boundary = check(&|_| ()).expect("holds");
    assert_eq!(begins % BLOCKS, 0);
    assert!(boundary.links(&net.members[4].key) && !boundary.links(&[0; 32]));
    let lies: [&dyn Fn(&mut Offer); 7] = [
        &|o| o.record.certificate = None,
        &|o| o.record.header[9] ^= 1,
        &|o| o.record.duty[9] ^= 1,
        &|o| o.record.transactions.push(vec![1]),
        &|o| o.record.outcomes.clear(),
        &|o| o.before = None,
        &|o| o.before.clone_from(&stale.before),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        assert!(check(lie).is_err(), "lie {number}");
    }
    let elsewhere = Config {
        network: Digest::of(b"another"),
        ..net.config(4)
    };
    let foreign = Boundary::check(&elsewhere, &machine, offer.clone());
    assert!(
        foreign
            .expect_err("another")
            .to_string()
            .contains("network")
    );

    // A turned bit, another place, another count and an older state are all found out.
    let mut state = Vec::new();
    for (number, piece) in (0..).zip(&pieces) {
        assert!(boundary.holds(piece, number, offer.pieces));
        assert!(!boundary.holds(piece, number + 1, offer.pieces + 1));
        let mut bad = piece.clone();
        bad.bytes[7] ^= 1;
        assert!(!boundary.holds(&bad, number, offer.pieces));
        state.extend(&piece.bytes);
    }
    assert!(!boundary.holds(&old_pieces[0], 0, stale.pieces));
    let old: Vec<u8> = old_pieces.into_iter().flat_map(|p| p.bytes).collect();
    let refused = adopt(&config.data, &machine, &boundary, old).expect_err("stale");
    assert!(refused.to_string().contains("not the state"), "{refused}");
    adopt(&config.data, &machine, &boundary, state.clone()).expect("adopted");
    let twice = adopt(&config.data, &machine, &boundary, state).expect_err("twice");
    assert!(twice.to_string().contains("already"), "{twice}");

    nodes.push(Some(net.start(4)));
    let newcomer = nodes[4].as_ref().expect("runs");
    assert_eq!(newcomer.head().header.height, begins - 1);
    assert!(
        newcomer.block(1).expect("reads").is_none(),
        "nothing is replayed"
    );
    feed(&nodes, begins + 2 * BLOCKS + 1, &mut turn);
    // Five sit now, of whom four must vote: without the newcomer nothing would be final.
    stop(&nodes[2].take().expect("runs"));
    feed(&nodes, begins + 2 * BLOCKS + 8, &mut turn);
    // It goes on where it was, also from a start within the first epochs.
    stop(&nodes[4].take().expect("runs"));
    nodes[2] = Some(net.start(2));
    nodes[4] = Some(net.start(4));
    let end = begins + 5 * BLOCKS - 1;
    feed(&nodes, end, &mut turn);
    let first = nodes[0].as_ref().expect("runs");
    let led = |height| {
        let record = first.block(height).expect("reads").expect("kept");
        let header = Header::from_bytes(&record.header).expect("reads");
        header.proposer == net.members[4].key
    };
    let mut sits = begins + 2 * BLOCKS..end;
    assert!(sits.any(led), "the newcomer leads");
    let (own, others) = (nodes[4].as_ref().expect("runs"), first);
    for height in [begins + BLOCKS, begins + 3 * BLOCKS] {
        let block = |n: &Handle<Counter>| n.block(height).expect("reads").expect("kept").header;
        assert_eq!(block(own), block(others));
    }
    nodes.iter().flatten().for_each(stop);
}

/// Passes on to `follower` what `giver` has, until it is at `height`.
fn follow_to(
    follower: &crate::Follower<Counter>,
    own: &Handle<Counter>,
    giver: &Handle<Counter>,
    height: u64,
) {
    while own.head().header.height < height {
        let from = own.head().header.height + 1;
        let passed = giver.passed(from).expect("reads");
        let checked = follower.check(&passed).expect("holds");
        futures::executor::block_on(follower.take(checked)).expect("taken");
    }
}

#[test]
fn who_has_no_seat_follows_believes_nobody_and_goes_on_to_vote() {
    const BLOCKS: u64 = 16;
    let mut net = Net::with(1, BLOCKS);
    // Five sit in the seventh epoch and after it.
    let (four, five) = (net.members[..4].to_vec(), net.members.clone());
    net.machine = Counter([vec![four; 7], vec![five; 20]].concat());
    let machine = Arc::new(net.machine.clone());
    let mut nodes: Vec<_> = (0..4).map(|n| Some(net.start(n))).collect();
    let mut turn = 0;
    feed(&nodes, BLOCKS + 1, &mut turn);
    let config = net.config(4);
    assert!(may_vote(&config, machine.as_ref()).expect("fresh"));
    let giver = nodes[0].clone().expect("runs");
    let (offer, pieces) = fetched(&giver);
    let boundary = Boundary::check(&config, machine.as_ref(), offer).expect("holds");
    let state = pieces.into_iter().flat_map(|p| p.bytes).collect();
    adopt(&config.data, machine.as_ref(), &boundary, state).expect("adopted");

    assert!(!may_vote(&config, machine.as_ref()).expect("reads"));
    let (own, follower, mut outbox) = follow(&config, machine.clone()).expect("follows");
    // Blocks follow each other whether anybody waits or not: any epoch may have ended by now.
    let from = own.head().header.height + 1;
    assert_eq!(from % BLOCKS, 0);
    feed(&nodes, from + 9, &mut turn);
    let passed = giver.passed(from).expect("reads");
    for at in (0..passed.len()).step_by(257) {
        let mut lie = passed.clone();
        lie[at] ^= 1;
        let taken = follower.check(&lie);
        assert!(taken.is_err() || at < 4, "byte {at}");
    }
    let later = giver.passed(from + 1).expect("reads");
    let why = follower.check(&later).err().expect("a gap").to_string();
    assert!(why.contains("does not follow"), "{why}");
    let mut bare: Vec<(Vec<u8>, Option<Vec<u8>>)> = borsh::from_slice(&passed).expect("blocks");
    bare.iter_mut()
        .for_each(|(_, certificate)| *certificate = None);
    let bare = borsh::to_vec(&bare).expect("bytes");
    let why = follower.check(&bare).err().expect("bare").to_string();
    assert!(why.contains("nothing certifies"), "{why}");
    let many = [&65u32.to_le_bytes()[..], &[0; 5 * 65]].concat();
    let why = follower.check(&many).err().expect("many").to_string();
    assert!(why.contains("too many blocks"), "{why}");
    let longer = [&passed[..], &[0]].concat();
    let why = follower.check(&longer).err().expect("longer").to_string();
    assert!(why.contains("bytes follow"), "{why}");
    assert_eq!(own.head().header.height, from - 1, "nothing was taken");
    let nothing = giver.passed(10_000).expect("reads");
    assert!(follower.check(&nothing).expect("holds").is_empty());
    follow_to(&follower, &own, &giver, from + 9);
    let ended = (own.head().header.height + 1) / BLOCKS * BLOCKS - 1;
    assert_eq!(
        own.linked(&net.members[4].key, None).expect("reads"),
        Some((ended, false))
    );

    // What is submitted to it goes to those who lead next.
    own.submit(Bytes::from_static(b"by the follower"))
        .expect("queued");
    let (leaders, batch) = futures::executor::block_on(outbox.next()).expect("something");
    let batch: Vec<Bytes> = batch.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(batch, [Bytes::from_static(b"by the follower")]);
    assert!(!leaders.is_empty());
    assert!(
        leaders
            .iter()
            .all(|leader| net.members[..4].iter().any(|m| m.key == leader.0))
    );
    giver.submit(batch[0].clone()).expect("queued");

    // It stops and goes on following; then it is drawn, and votes from the end of an epoch on.
    stop(&own);
    drop((own, follower, outbox));
    let (own, follower, outbox) = follow(&config, machine.clone()).expect("follows again");
    assert!(own.head().header.height >= from + 9);
    assert_eq!(own.begins(), from - 1);
    let key = net.members[4].key;
    let drawn = |own: &Handle<Counter>| own.linked(&key, None).expect("reads").expect("an epoch").1;
    while !drawn(&own) {
        let height = own.head().header.height + 4;
        feed(&nodes, height, &mut turn);
        follow_to(&follower, &own, &giver, height);
    }
    let reached = own.head().header.height;
    assert_eq!(own.head().state.get(&b"by the follower"[..]), Some(&1));
    stop(&own);
    drop((own, follower, outbox));
    assert!(may_vote(&config, machine.as_ref()).expect("drawn"));
    nodes.push(Some(net.start(4)));
    let voter = nodes[4].clone().expect("runs");
    assert!(voter.head().header.height >= reached);
    assert_eq!(voter.begins(), from - 1, "what it followed is kept");
    let led = |height| {
        let record = giver.block(height).expect("reads").expect("kept");
        let header = Header::from_bytes(&record.header).expect("reads");
        header.proposer == key
    };
    let mut epochs = (0..6).map(|n| reached + n * BLOCKS);
    let leads = epochs.any(|from| {
        feed(&nodes, from + BLOCKS, &mut turn);
        (from + 1..=from + BLOCKS).any(led)
    });
    assert!(leads, "it leads");
    nodes.iter().flatten().for_each(stop);
}

/// One validator's state, without a network.
fn opened(net: &Net, store: &Arc<Store>) -> Result<Core<Counter>> {
    let config = net.config(0);
    let sealer = Sealer::memory(Kept::default(), &config.seat, config.network);
    open(
        &config,
        Arc::new(net.machine.clone()),
        store.clone(),
        sealer,
    )
}

fn store(net: &Net) -> Arc<Store> {
    Arc::new(Store::open(&net.folder.path().join("blocks.redb")).expect("opens"))
}

fn head(core: &Core<Counter>) -> Arc<Node<Counts>> {
    let digest = core.head.borrow().header.digest();
    core.node(&digest).expect("the head is executed")
}

/// A block as an honest leader would make it, were `transactions` all it had.
fn block_on(parent: &Node<Counts>, transactions: Vec<Bytes>) -> (Block, Executed<Counts>) {
    let height = parent.header.height + 1;
    let state = &parent.executed.state;
    let env = Env {
        height,
        time_ms: height,
        ..Env::default()
    };
    let executed = Counter::default().execute(state, env, &transactions, &|_| false);
    let header = Header {
        network: Digest::of(b"test"),
        epoch: 0,
        height,
        view: height,
        parent_view: height - 1,
        time_ms: parent.header.time_ms + 1,
        parent: parent.header.digest(),
        proposer: [0; 32],
        payload_root: payload_root(&transactions),
        duty: Digest::default(),
        outcomes_root: merkle_root(&executed.outcomes),
        events_root: merkle_root(&executed.events),
        state_root: Counter::default().root(&executed.state),
    };
    let block = Block::new(header, [0; 64], Duty::default(), transactions).expect("no duty");
    (block, executed)
}

#[test]
fn a_wrong_signature_in_a_block_is_wrong_on_replay_too() {
    let net = Net::new();
    let store = store(&net);
    let core = opened(&net, &store).expect("empty");
    let forged = Bytes::from([FORGED, b"!"].concat());
    let (block, executed) = block_on(&head(&core), vec![forged, Bytes::from_static(b"good")]);
    let record = Record {
        header: block.header.to_bytes(),
        seal: block.seal,
        certificate: None,
        duty: block.duty.to_bytes(),
        transactions: block.transactions.iter().map(|t| t.to_vec()).collect(),
        outcomes: executed.outcomes.clone(),
        events: executed.events.clone(),
    };
    store.put(1, &record, None, &[], None).expect("kept");
    let again = opened(&net, &store).expect("its own blocks replay");
    assert_eq!(again.head.borrow().state, executed.state);

    // What does not replay to its header is refused, with a next step.
    let other = Record {
        transactions: vec![b"other".to_vec()],
        ..record
    };
    store.put(1, &other, None, &[], None).expect("kept");
    let refused = opened(&net, &store).err().expect("refused").to_string();
    assert!(refused.contains("executes to another state"), "{refused}");
}

#[test]
fn blocks_that_lie_are_refused() {
    let net = Net::new();
    let core = opened(&net, &store(&net)).expect("empty");
    let parent = head(&core);
    let (good, _) = block_on(&parent, vec![Bytes::from_static(b"a")]);
    let lies: [fn(&mut Header); 9] = [
        |h| h.epoch += 1,
        |h| h.network = Digest::of(b"other"),
        |h| h.height += 1,
        |h| h.parent = Digest::of(b"other"),
        |h| h.time_ms = 1,
        |h| h.view = 0,
        |h| h.outcomes_root = Digest::default(),
        |h| h.events_root = Digest::default(),
        |h| h.state_root = Digest::default(),
    ];
    for (at, lie) in lies.iter().enumerate() {
        let mut header = (*good.header).clone();
        lie(&mut header);
        let block = Block::new(header, [0; 64], Duty::default(), good.transactions.to_vec());
        let block = block.expect("no duty");
        assert!(core.check(&parent, &block).is_none(), "lie {at}");
    }
    assert!(core.check(&parent, &good).is_some());
}

#[test]
fn a_block_names_each_screener_once_by_its_own_word() {
    let network = Digest::of(b"test");
    let keys: Vec<SecretKey> = (1..=3).map(|n| SecretKey::from_seed([n; 32])).collect();
    let screeners: Vec<[u8; 32]> = keys.iter().map(|key| key.public().0).collect();
    let ids = [Digest::of(b"0"), Digest::of(b"1")];
    let word = |screener: u8, transaction: u32| Screened {
        screener,
        transaction,
        signature: light::screen(
            &keys[usize::from(screener)],
            &network,
            7,
            &ids[transaction as usize % 2],
        ),
    };
    let good = |epoch, screened: &[Screened]| {
        crate::app::is_screened(&network, epoch, screened, &screeners, &ids)
    };
    let both = [word(0, 1), word(2, 0)];
    assert!(good(7, &[]) && good(7, &both));
    assert!(!good(8, &both), "another epoch's");
    assert!(!good(7, &[word(0, 0), word(0, 1)]), "twice");
    assert!(!good(7, &[word(2, 1), word(0, 0)]), "out of order");
    assert!(!good(7, &[word(0, 1), word(2, 1)]), "one transaction twice");
    assert!(!good(7, &[word(0, 2)]), "not in the block");
    let other = Screened {
        screener: 1,
        ..word(0, 1)
    };
    assert!(!good(7, &[other]), "another's");
    let nobody = Screened {
        screener: 3,
        ..word(0, 1)
    };
    assert!(!good(7, &[nobody]), "not drawn");
}

#[test]
fn who_is_barred_leads_no_more_while_anyone_else_may() {
    let net = Net::new();
    let core = opened(&net, &store(&net)).expect("empty");
    let bar = |key: &[u8]| Bytes::from([BARRED, key].concat());
    // The leader of all blocks here.
    let (first, _) = block_on(&head(&core), vec![bar(&[0; 32])]);
    let parent = core.check(&head(&core), &first).expect("good");
    let (second, _) = block_on(&parent, Vec::new());
    assert!(core.check(&parent, &second).is_none());
    let rest = parent.seats.iter().map(|seat| bar(seat));
    let all = [bar(&[0; 32])].into_iter().chain(rest).collect();
    let (first, _) = block_on(&head(&core), all);
    let parent = core.check(&head(&core), &first).expect("good");
    let (second, _) = block_on(&parent, Vec::new());
    assert!(core.check(&parent, &second).is_some(), "nobody else may");
}

#[test]
fn whoever_has_seen_two_blocks_of_one_leader_for_one_view_can_prove_it() {
    let net = Net::new();
    let core = opened(&net, &store(&net)).expect("empty");
    let leader = SecretKey::from_seed([7; 32]);
    let sealed = |transaction: &'static [u8]| {
        let (block, _) = block_on(&head(&core), vec![Bytes::from_static(transaction)]);
        let header = Header {
            proposer: leader.public().0,
            ..(*block.header).clone()
        };
        let seal = Seal::put(&leader, &header.network, 0, header.view, header.digest());
        let transactions = block.transactions.to_vec();
        Block::new(header, seal.signature.0, Duty::default(), transactions).expect("no duty")
    };
    let (one, other) = (sealed(b"one"), sealed(b"other"));
    let read = |block: &Block| Block::decode(Copying(&block.encode()[..]));
    core.saw(&read(&one).expect("sealed"));
    core.saw(&one);
    assert!(core.sightings.doubles().is_empty());
    let mut unsealed = other.clone();
    unsealed.seal = one.seal;
    assert!(read(&unsealed).is_err(), "the seal of another block");
    core.saw(&read(&other).expect("sealed"));
    let doubles = core.sightings.doubles();
    assert_eq!(doubles[0].leader, leader.public());
    assert_eq!(doubles[0].check(&one.header.network), Ok(()));

    // What peers tell counts only of who leads that view.
    let network = one.header.network;
    let told = Seal::put(&leader, &network, 0, 2, Digest::of(b"told"));
    core.heard_of(leader.public(), told);
    assert!(!core.sightings.knows(&told));
}

#[test]
fn each_of_a_batch_is_queued_or_refused_by_itself() {
    let net = Net::new();
    let core = opened(&net, &store(&net)).expect("empty");
    let large = Bytes::from(vec![0; TRANSACTION_BYTES_MAX + 1]);
    let forged = Bytes::from([FORGED, b"!"].concat());
    let good = Bytes::from_static(b"good");
    let batch = [
        large.clone(),
        good.clone(),
        forged,
        good.clone(),
        large.slice(1..),
    ];
    let answers = queue(&core, &batch, true);
    let told: Vec<_> = answers
        .iter()
        .map(|a| a.as_ref().map(|queued| (queued.id, queued.fresh)))
        .collect();
    let id = Digest::of(&good);
    assert!(matches!(told[0], Err(SubmitError::Refused(why)) if why.contains("at most")));
    assert_eq!(told[1], Ok((id, true)));
    assert!(matches!(told[2], Err(SubmitError::Refused(why)) if why.contains("signature")));
    assert_eq!(told[3], Ok((id, false)), "the same once more");
    assert!(matches!(told[4], Ok((_, true))));
    assert_eq!(core.mempool.lock().expect("not poisoned").len(), 2);
}

/// Figures, not a check: `cargo test -p consensus -- --ignored --nocapture load`.
#[test]
#[ignore = "measures"]
fn load() {
    let net = Net::new();
    let nodes: Vec<_> = (0..4).map(|n| net.start(n)).collect();
    wait("first blocks", || {
        nodes.iter().all(|n| n.head().header.height >= 2)
    });
    let cpu = || {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("on Linux");
        let fields: Vec<u64> = stat.split(' ').filter_map(|f| f.parse().ok()).collect();
        // utime and stime, in hundredths of a second.
        fields[10] + fields[11]
    };
    let (before, at, height) = (Instant::now(), cpu(), nodes[0].head().header.height);
    std::thread::sleep(Duration::from_secs(10));
    println!(
        "idle: {} blocks and {} ms CPU in {:?} (four validators)",
        nodes[0].head().header.height - height,
        (cpu() - at) * 10,
        before.elapsed()
    );
    let resident = std::fs::read_to_string("/proc/self/status").expect("on Linux");
    let resident = resident.lines().find(|l| l.starts_with("VmRSS"));
    println!("{resident:?} (four validators)");
    let count = 20_000u32;
    let before = Instant::now();
    let height = nodes[0].head().header.height;
    let made = |n: u32| {
        let mut bytes = vec![7; 200];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Bytes::from(bytes)
    };
    for (at, batch) in (0..count).collect::<Vec<_>>().chunks(500).enumerate() {
        let queued = nodes[at % 4].submit_many(batch.iter().copied().map(made).collect());
        assert!(queued.iter().all(Result::is_ok));
    }
    let submitted = before.elapsed();
    wait("all applied", || {
        nodes.iter().all(|n| n.head().state.len() == count as usize)
    });
    println!(
        "{count} transactions: submitted in {submitted:?}, applied on all in {:?}, {} blocks",
        before.elapsed(),
        nodes[0].head().header.height - height
    );
    nodes.iter().for_each(stop);
}
