//! What a validator of bad will does with what it sends: for simulations only.
//!
//! The validator itself is the product's; its messages are held back, repeated late or garbled on
//! their way out. Two lives of one identity, each heard by a part of the others, say and sign
//! contradicting things by themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use commonware_p2p::simulated::{Sender, SplitForwarder, SplitOrigin, SplitRouter, SplitTarget};
use commonware_p2p::{Message, Recipients, Sender as _};
use commonware_runtime::IoBuf;
use commonware_runtime::deterministic::Context;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::simulation::Key;

/// Old messages kept for each channel, to be said again.
const KEPT: usize = 64;

/// What a validator speaks about, each by a channel of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Votes,
    Certificates,
    /// Certificates that are asked for and given.
    Resolver,
    /// Blocks that are asked for and given.
    Backfill,
    Blocks,
    Transactions,
    /// Dealings and what acknowledges them.
    Ceremony,
    Clocks,
}

/// What the others know of a validator's bad will; cloned, it is the same. Without any, all that
/// is said is sent.
#[derive(Clone)]
pub struct Malice(Arc<Mutex<Will>>);

struct Will {
    rng: StdRng,
    withheld: BTreeSet<u64>,
    stale_one_in: u32,
    garbled_one_in: u32,
    said: BTreeMap<u64, VecDeque<IoBuf>>,
    /// Who hears, and is heard by, the first of two lives; and the second. All, if both are empty.
    hear: [BTreeSet<Key>; 2],
}

impl Malice {
    /// Good, until something else is said. `seed`: of the chance by which it acts.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Will {
            rng: StdRng::seed_from_u64(seed),
            withheld: BTreeSet::new(),
            stale_one_in: 0,
            garbled_one_in: 0,
            said: BTreeMap::new(),
            hear: [BTreeSet::new(), BTreeSet::new()],
        })))
    }

    fn will<T>(&self, act: impl FnOnce(&mut Will) -> T) -> T {
        act(&mut self.0.lock().expect("not poisoned"))
    }

    /// From now on nothing is said of these, and all else is.
    pub fn withhold(&self, channels: &[Channel]) {
        self.will(|w| w.withheld = channels.iter().map(|c| *c as u64).collect());
    }

    /// With one message of `one_in` goes an old one too; 0: with none.
    pub fn repeat(&self, one_in: u32) {
        self.will(|w| w.stale_one_in = one_in);
    }

    /// One message of `one_in` has a bit turned; 0: none.
    pub fn garble(&self, one_in: u32) {
        self.will(|w| w.garbled_one_in = one_in);
    }

    /// Who is linked to the first of two lives, and who to the second; someone may be to both.
    pub fn part(&self, first: &[Key], second: &[Key]) {
        self.will(|w| w.hear = [first, second].map(|keys| keys.iter().cloned().collect()));
    }

    pub(crate) fn mouth(
        &self,
        channel: u64,
        raw: Sender<Key, Context>,
    ) -> impl SplitForwarder<Key> + use<> {
        let malice = self.clone();
        let raw = Arc::new(Mutex::new(raw));
        move |life: SplitOrigin, to: &Recipients<Key>, message: &IoBuf| {
            let (to, instead) = malice.will(|w| w.say(channel, life, to, message))?;
            let mut raw = raw.lock().expect("not poisoned");
            for other in instead.also {
                raw.send(to.clone(), other, false);
            }
            instead.itself.then_some(to)
        }
    }

    pub(crate) fn ear(&self) -> impl SplitRouter<Key> + use<> {
        let malice = self.clone();
        move |(from, _): &Message<Key>| {
            malice.will(|w| {
                if w.hear.iter().all(BTreeSet::is_empty) {
                    return SplitTarget::Both;
                }
                match w.hear.each_ref().map(|keys| keys.contains(from)) {
                    [true, true] => SplitTarget::Both,
                    [true, false] => SplitTarget::Primary,
                    [false, true] => SplitTarget::Secondary,
                    [false, false] => SplitTarget::None,
                }
            })
        }
    }
}

/// What goes out for one message.
struct Said {
    also: Vec<IoBuf>,
    itself: bool,
}

impl Will {
    /// `None`: nothing, to nobody.
    fn say(
        &mut self,
        channel: u64,
        life: SplitOrigin,
        to: &Recipients<Key>,
        message: &IoBuf,
    ) -> Option<(Recipients<Key>, Said)> {
        if self.withheld.contains(&channel) {
            return None;
        }
        let mut said = Said {
            also: Vec::new(),
            itself: true,
        };
        let to = self.audience(life, to)?;
        if self.stale_one_in > 0 {
            let kept = self.said.entry(channel).or_default();
            if !kept.is_empty() && self.rng.random_range(0..self.stale_one_in) == 0 {
                let at = self.rng.random_range(0..kept.len());
                said.also.push(kept[at].clone());
            }
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(message.clone());
        }
        if self.garbled_one_in > 0 && self.rng.random_range(0..self.garbled_one_in) == 0 {
            let mut bytes = message.as_ref().to_vec();
            if !bytes.is_empty() {
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.rng.random_range(0..8);
                said.also.push(IoBuf::from(bytes));
                said.itself = false;
            }
        }
        Some((to, said))
    }

    fn audience(&self, life: SplitOrigin, to: &Recipients<Key>) -> Option<Recipients<Key>> {
        if self.hear.iter().all(BTreeSet::is_empty) {
            return Some(to.clone());
        }
        let hear = match life {
            SplitOrigin::Primary => &self.hear[0],
            SplitOrigin::Secondary => &self.hear[1],
        };
        match to {
            Recipients::All => Some(Recipients::Some(hear.iter().cloned().collect())),
            Recipients::Some(keys) => {
                let keys = keys.iter().filter(|key| hear.contains(key));
                Some(Recipients::Some(keys.cloned().collect()))
            }
            Recipients::One(key) => hear.contains(key).then(|| to.clone()),
        }
    }
}
