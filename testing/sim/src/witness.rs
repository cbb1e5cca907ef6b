//! Watch what validators finalise, and refuse to believe two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use consensus::simulation::beacon;
use consensus::{Committee, Finalized, Handle, Record, Seat};
use ledger::{Outcome, State};
use light::{BEACON_BYTES, Duty, Header};
use types::Digest;
use validator::LedgerMachine;

use crate::trace::Trace;

/// Whole states are compared at each height of so many, where many validators make them dear.
const STATES_EVERY: u64 = 8;

pub struct Witness {
    trace: Trace,
    /// Of all validators, by their numbers.
    keys: Vec<[u8; 32]>,
    committee: Committee,
    network_key: Vec<u8>,
    /// What each epoch's beacon must be: made of the shares of the first deal, whoever holds the
    /// key by then and whatever is withheld.
    beacons: BTreeMap<u64, [u8; BEACON_BYTES]>,
    dealt: Vec<Seat>,
    told: BTreeMap<u64, [u8; BEACON_BYTES]>,
    /// Roots of the candidates that blocks froze, by the epoch they may be drawn for.
    frozen: BTreeMap<u64, Digest>,
    /// Epochs whose drawing was made again here.
    drawn: BTreeSet<u64>,
    /// The one chain, from height 1.
    chain: Vec<Record>,
    /// Digest of the whole state after a height.
    states: BTreeMap<u64, Digest>,
    /// Height read so far, by validator.
    seen: BTreeMap<usize, u64>,
    applied: BTreeMap<Digest, u64>,
    /// How far behind the clocks the newest block was when it was heard of.
    pub late_ms: u64,
    /// Height of the last block that applied something.
    applied_at: u64,
    /// When its leader proposed a block, by the leader's clock.
    made: BTreeMap<u64, u64>,
    /// From when a block's leader proposed it until a validator showed it, for each of both.
    pub finality_ms: Vec<u64>,
    /// States are compared at each height.
    small: bool,
}

impl Witness {
    pub fn new(trace: Trace, committee: &Committee, dealt: &[Seat], keys: Vec<[u8; 32]>) -> Self {
        Self {
            trace,
            keys,
            network_key: committee.network_key(),
            committee: committee.clone(),
            beacons: BTreeMap::new(),
            small: dealt.len() <= 10,
            dealt: dealt.to_vec(),
            told: BTreeMap::new(),
            frozen: BTreeMap::new(),
            drawn: BTreeSet::new(),
            chain: Vec::new(),
            states: BTreeMap::new(),
            seen: BTreeMap::new(),
            applied: BTreeMap::new(),
            late_ms: 0,
            applied_at: 0,
            made: BTreeMap::new(),
            finality_ms: Vec::new(),
        }
    }

    /// Reads what is new with a validator. Panics if it contradicts what any said before.
    ///
    /// `now_ms`: what every clock shows that is right. No block may be dated after it, and one
    /// that is heard of at once not long before. `since`: the start.
    pub fn look(&mut self, at: usize, node: &Handle<LedgerMachine>, now_ms: u64, since: Duration) {
        let head = node.head();
        let height = head.header.height;
        let seen = self.seen.get(&at).copied().unwrap_or(node.begins());
        assert!(
            height >= seen,
            "validator {at} lost finalised blocks: it went back from {seen} to {height}"
        );
        for number in seen + 1..=height {
            if let Some(made) = self.made.get(&number) {
                self.finality_ms.push(now_ms.saturating_sub(*made));
            }
            let record = node.block(number).expect("reads").expect("no gap");
            match self.chain.get(number as usize - 1) {
                Some(known) => {
                    assert_eq!(
                        known.header, record.header,
                        "validator {at} finalised another block {number}"
                    );
                    assert_eq!(known.transactions, record.transactions);
                    assert_eq!(known.outcomes, record.outcomes);
                }
                None => self.first(at, number, record, now_ms, since),
            }
        }
        if height > seen {
            self.compare(at, &head);
        }
        self.seen.insert(at, height);
    }

    /// A block that nobody has shown before.
    fn first(&mut self, at: usize, number: u64, record: Record, now_ms: u64, since: Duration) {
        let header = Header::from_bytes(&record.header).expect("a header");
        let duty = Duty::from_bytes(&header, &record.duty).expect("its duty");
        let time_ms = header.time_ms;
        assert!(time_ms <= now_ms, "block {number} is {time_ms} at {now_ms}");
        self.late_ms = now_ms - time_ms;
        let mut besides = String::new();
        if let Some(said) = duty.beacon {
            besides.push('B');
            self.check_beacon(header.epoch, said);
        }
        if let Some(root) = duty.candidates {
            besides.push('C');
            self.frozen.insert(header.epoch + ledger::lots::AHEAD, root);
        }
        for (has, sign) in [
            (duty.ceremony.is_some(), 'L'),
            (duty.snapshot.is_some(), 'S'),
        ] {
            if has {
                besides.push(sign);
            }
        }
        self.trace.note(
            since,
            format_args!(
                "block {number} by {at}: epoch {} view {} leader {} transactions {} {besides}",
                header.epoch,
                header.view,
                self.keys
                    .iter()
                    .position(|key| *key == header.proposer)
                    .unwrap_or(usize::MAX),
                record.transactions.len(),
            ),
        );
        if let Some(clock) = &duty.clock {
            // The leader states its own time as it proposes: the newest of all, if it is true.
            let times = clock.statements.iter().map(|s| s.time_ms);
            if let Some(newest) = times.filter(|time| *time <= now_ms).max() {
                self.made.insert(number, newest);
                self.finality_ms.push(now_ms - newest);
            }
        }
        if note(&mut self.applied, &record, number) {
            self.applied_at = number;
        }
        self.chain.push(record);
    }

    /// Panics unless it is what the network's key makes of the epoch, and nothing else.
    fn check_beacon(&mut self, epoch: u64, said: [u8; BEACON_BYTES]) {
        let (committee, dealt) = (&self.committee, &self.dealt);
        let due = self
            .beacons
            .entry(epoch)
            .or_insert_with(|| beacon(committee, dealt, epoch).expect("all shares make a beacon"));
        assert_eq!(
            said, *due,
            "the beacon of epoch {epoch} is another than the key makes"
        );
        light::verify_beacon(&self.network_key, epoch, &said).expect("a beacon");
        self.told.insert(epoch, said);
    }

    /// Panics unless the head's state is that of all others at its height, its money is whole and
    /// its drawings are what the frozen candidates and the beacon make.
    fn compare(&mut self, at: usize, head: &Finalized<State>) {
        let (height, state) = (head.header.height, &head.state);
        let supply = state.supply();
        assert_eq!(supply.expected, supply.sum(), "the supply is whole");
        if self.small || height.is_multiple_of(STATES_EVERY) {
            let digest = Digest::of(&state.save());
            let known = *self.states.entry(height).or_insert(digest);
            assert_eq!(
                known, digest,
                "validator {at} has another state after {height}"
            );
        }
        for (epoch, drawing) in state.drawings.iter() {
            let (Some(lineup), Some(frozen)) = (&drawing.lineup, self.frozen.get(epoch)) else {
                continue;
            };
            let Some(beacon) = drawing.beacon.filter(|_| self.drawn.insert(*epoch)) else {
                continue;
            };
            let told = self.told.get(&(epoch - ledger::lots::AHEAD));
            assert_eq!(
                told.map(light::beacon_digest),
                Some(beacon),
                "epoch {epoch}"
            );
            let before = state.committee(epoch - 1).unwrap_or_default();
            let rules = drawing.rules();
            lots::check(
                *epoch,
                &drawing.candidates,
                frozen,
                before,
                &beacon,
                rules,
                lineup,
            )
            .expect("the lot fell as it must");
        }
    }

    pub fn applied(&self) -> &BTreeMap<Digest, u64> {
        &self.applied
    }

    pub fn applied_at(&self) -> u64 {
        self.applied_at
    }

    pub fn height(&self) -> u64 {
        self.chain.len() as u64
    }

    /// Epochs whose beacon was told.
    pub fn beacons(&self) -> usize {
        self.told.len()
    }

    /// How many drawings were made again and found right.
    pub fn drawings(&self) -> usize {
        self.drawn.len()
    }

    /// Epochs into which the key was not handed on, as their certified beginnings say: those who had it
    /// went on. Panics if anyone leads in another's turn.
    pub fn failed_ceremonies(&self) -> usize {
        let mut failed = 0;
        let mut seats: Option<Vec<[u8; 32]>> = None;
        for (at, record) in self.chain.iter().enumerate() {
            let header = Header::from_bytes(&record.header).expect("a header");
            if let Some(seats) = &seats {
                let turn = light::turn_of(header.epoch, seats.len() as u64, header.view);
                let leads = seats.get(turn as usize);
                assert_eq!(leads, Some(&header.proposer), "block {}", header.height);
            }
            let duty = Duty::from_bytes(&header, &record.duty).expect("its duty");
            if duty.snapshot.is_none() {
                continue;
            }
            let after = self.chain[at..].iter();
            let Some(certified) = after.clone().position(|r| r.certificate.is_some()) else {
                break;
            };
            let last = &self.chain[at + certified];
            let descendants = after.skip(1).take(certified).map(|r| r.header.clone());
            let change = light::verify_epoch_change(
                &self.network_key,
                &record.header,
                &descendants.collect::<Vec<_>>(),
                last.certificate.as_deref().unwrap_or_default(),
                &record.duty,
            );
            let change = change.expect("the end of an epoch says who votes next");
            failed += usize::from(!change.handed_on);
            seats = Some(change.seats);
        }
        failed
    }

    /// Views that brought no block.
    pub fn empty_views(&self) -> u64 {
        let (mut empty, mut before) = (0, (0, 0));
        for record in &self.chain {
            let header = Header::from_bytes(&record.header).expect("a header");
            // Views are counted anew in each epoch.
            let view = if before.0 == header.epoch {
                before.1
            } else {
                0
            };
            empty += header.view - view - 1;
            before = (header.epoch, header.view);
        }
        empty
    }

    pub fn tip(&self) -> Digest {
        self.chain.last().map_or(Digest::default(), |last| {
            Header::from_bytes(&last.header).expect("a header").digest()
        })
    }

    /// Panics unless headers chain up and certificates are the network's. Returns how many
    /// certificates were checked.
    pub fn check(&self) -> usize {
        for (parent, child) in self.chain.iter().zip(&self.chain[1..]) {
            let parent = Header::from_bytes(&parent.header).expect("a header");
            let child = Header::from_bytes(&child.header).expect("a header");
            assert_eq!(child.parent, parent.digest());
            assert_eq!(child.height, parent.height + 1);
            assert!(child.time_ms > parent.time_ms);
        }
        let certified = self
            .chain
            .iter()
            .step_by(8)
            .filter_map(|record| Some((record, record.certificate.as_ref()?)));
        certified
            .map(|(record, certificate)| {
                light::verify_block(&self.network_key, &record.header, &[], certificate)
                    .expect("certified");
            })
            .count()
    }
}

/// `true` if anything was applied.
fn note(applied: &mut BTreeMap<Digest, u64>, record: &Record, height: u64) -> bool {
    let before = applied.len();
    for outcome in &record.outcomes {
        let outcome: Outcome = borsh::from_slice(outcome).expect("an outcome");
        if outcome.rejection.is_none() {
            assert!(
                applied.insert(outcome.transaction, height).is_none(),
                "{} is applied twice",
                outcome.transaction
            );
        }
    }
    applied.len() > before
}
