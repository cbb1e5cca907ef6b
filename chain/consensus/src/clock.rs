//! Hear what the clocks of those who sit show, and put that into blocks.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;

use borsh::{BorshDeserialize, BorshSerialize};
use light::{Clock, STATED_WITHIN, Statement, is_stated, state_time};
use types::{Digest, PublicKey, Seal, SecretKey};

use crate::committee::{MEMBERS_MAX, Seat};
use crate::machine::Stated;

/// Statements of so many are kept: two committees.
const HEARD_MAX: usize = 2 * MEMBERS_MAX as usize;

/// What one validator tells another of its clock. Who says it is known by the link.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Told {
    height: u64,
    time_ms: u64,
    signature: [u8; 64],
    /// The newest proposal that it has seen, and whose: whoever was shown another is told so.
    pub seen: Option<(PublicKey, Seal)>,
}

/// The newest statement of each.
pub(crate) struct Clocks {
    heard: Mutex<BTreeMap<[u8; 32], Told>>,
    key: SecretKey,
    pub me: [u8; 32],
    network: Digest,
    /// By so much it states another time than its clock shows: only in simulations.
    pub off_ms: AtomicI64,
}

impl Clocks {
    pub fn new(seat: &Seat, network: Digest) -> Self {
        let key = SecretKey::from_seed(seat.secret());
        Self {
            heard: Mutex::default(),
            me: key.public().0,
            key,
            network,
            off_ms: AtomicI64::new(0),
        }
    }

    /// This validator's own, to be sent to others.
    pub fn state(&self, height: u64, time_ms: u64) -> Told {
        let told = Told {
            height,
            time_ms,
            signature: state_time(&self.key, &self.network, height, time_ms),
            seen: None,
        };
        self.keep(self.me, told.clone());
        told
    }

    /// What a peer has sent; nonsense is forgotten. Returns the proposal that it tells of.
    pub fn hear(&self, from: [u8; 32], message: &[u8]) -> Option<(PublicKey, Seal)> {
        let told = Told::try_from_slice(message).ok()?;
        let seen = told.seen;
        if is_stated(
            &from,
            &self.network,
            told.height,
            told.time_ms,
            &told.signature,
        ) {
            self.keep(from, told);
        }
        seen
    }

    fn keep(&self, from: [u8; 32], told: Told) {
        let mut heard = self.heard.lock().expect("not poisoned");
        heard.insert(from, told);
        if heard.len() > HEARD_MAX {
            let oldest = heard.iter().min_by_key(|(_, told)| told.height);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.map(|key| heard.remove(&key));
        }
    }

    /// What a block at `height` may carry of those who sit.
    pub fn of(&self, height: u64, seats: &[[u8; 32]]) -> Option<Clock> {
        let heard = self.heard.lock().expect("not poisoned");
        let seen = height.saturating_sub(1 + STATED_WITHIN)..height;
        let statements: Vec<Statement> = seats
            .iter()
            .enumerate()
            .filter_map(|(seat, key)| {
                let told = heard.get(key).filter(|told| seen.contains(&told.height))?;
                Some(Statement {
                    seat: seat as u16,
                    height: told.height,
                    time_ms: told.time_ms,
                    signature: told.signature,
                })
            })
            .collect();
        (!statements.is_empty()).then_some(Clock {
            seats: seats.len() as u16,
            statements,
        })
    }
}

/// A block's time, after a parent of `before_ms`, and whose clocks it was told of. `seats`:
/// who sits.
pub(crate) fn agreed(
    before_ms: u64,
    clock: Option<&Clock>,
    seats: &[[u8; 32]],
) -> (u64, Vec<Stated>) {
    let least = before_ms.saturating_add(1);
    let Some(clock) = clock else {
        return (least, Vec::new());
    };
    let agreed = clock.agreed();
    let stated = clock.statements.iter().zip(agreed.within);
    let stated = stated.filter_map(|(statement, within)| {
        let key = *seats.get(usize::from(statement.seat))?;
        Some(Stated { key, within })
    });
    (
        agreed.time_ms.unwrap_or_default().max(least),
        stated.collect(),
    )
}

/// When the leader of a block made it, by its own clock as it told it.
pub(crate) fn made_ms(
    time_ms: u64,
    clock: Option<&Clock>,
    seats: &[[u8; 32]],
    leader: &[u8; 32],
) -> u64 {
    let own = clock
        .into_iter()
        .flat_map(|clock| &clock.statements)
        .find(|s| seats.get(usize::from(s.seat)) == Some(leader));
    own.map_or(time_ms, |s| s.time_ms)
}
