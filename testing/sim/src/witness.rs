//! Watch what validators finalise, and refuse to believe two of them.

use std::collections::{BTreeMap, BTreeSet};

use consensus::{Handle, Record};
use ledger::Outcome;
use light::Header;
use types::Digest;
use validator::LedgerMachine;

#[derive(Default)]
pub struct Witness {
    /// The one chain, from height 1.
    chain: Vec<Record>,
    /// Height read so far, by validator.
    seen: BTreeMap<usize, u64>,
    applied: BTreeSet<Digest>,
    /// How far behind the clocks the newest block was when it was heard of.
    pub late_ms: u64,
    /// Height of the last block that applied something.
    applied_at: u64,
}

impl Witness {
    /// Reads what is new with a validator. Panics if it contradicts what any said before.
    ///
    /// `now_ms`: what every clock shows that is right. No block may be dated after it, and one
    /// that is heard of at once not long before.
    pub fn look(&mut self, at: usize, node: &Handle<LedgerMachine>, now_ms: u64) {
        assert!(!node.has_ended(), "validator {at} ended by itself");
        let height = node.head().header.height;
        let seen = self.seen.entry(at).or_insert_with(|| node.begins());
        assert!(height >= *seen, "validator {at} went back to {height}");
        while *seen < height {
            *seen += 1;
            let record = node.block(*seen).expect("reads").expect("no gap");
            match self.chain.get(*seen as usize - 1) {
                Some(known) => {
                    assert_eq!(known.header, record.header, "height {seen} of {at}");
                    assert_eq!(known.transactions, record.transactions);
                    assert_eq!(known.outcomes, record.outcomes);
                }
                None => {
                    let header = Header::from_bytes(&record.header).expect("a header");
                    let time_ms = header.time_ms;
                    assert!(time_ms <= now_ms, "block {seen} is {time_ms} at {now_ms}");
                    self.late_ms = now_ms - time_ms;
                    if note(&mut self.applied, &record) {
                        self.applied_at = *seen;
                    }
                    self.chain.push(record);
                }
            }
        }
    }

    pub fn applied(&self) -> &BTreeSet<Digest> {
        &self.applied
    }

    pub fn applied_at(&self) -> u64 {
        self.applied_at
    }

    pub fn height(&self) -> u64 {
        self.chain.len() as u64
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
    pub fn check(&self, network_key: &[u8]) -> usize {
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
                light::verify_block(network_key, &record.header, &[], certificate)
                    .expect("certified");
            })
            .count()
    }
}

/// `true` if anything was applied.
fn note(applied: &mut BTreeSet<Digest>, record: &Record) -> bool {
    let before = applied.len();
    for outcome in &record.outcomes {
        let outcome: Outcome = borsh::from_slice(outcome).expect("an outcome");
        if outcome.rejection.is_none() {
            assert!(
                applied.insert(outcome.transaction),
                "{} is applied twice",
                outcome.transaction
            );
        }
    }
    applied.len() > before
}
