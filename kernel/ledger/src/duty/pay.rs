//! Fees, and pay for duties out of them: all that an epoch's transactions paid, to the unit, goes
//! to those whose work its blocks show. Nothing else pays validators.

use types::{AccountId, Amount, Digest, PublicKey};

use super::{Done, Event};
use crate::account;
use crate::execute::Context;
use crate::state::State;

/// What each duty weighs: a block made, a clock that went into one, a dealing, a round of looks at
/// hosts. A dealing is once an epoch, and as much work as many blocks.
const LED: u128 = 8;
const STATED: u128 = 1;
const DEALT: u128 = 64;
const WITNESSED: u128 = 4;
/// A block with a transaction that the screener brought: as little as a clock, or whoever screens what he
/// pays himself would be paid for it.
const SCREENED: u128 = 1;

fn points(done: &Done) -> u128 {
    let (led, stated) = (u128::from(done.led), u128::from(done.stated));
    let witnessed = u128::from(done.witnessed);
    let screened = u128::from(done.screened);
    led * LED
        + stated * STATED
        + u128::from(done.dealt) * DEALT
        + witnessed * WITNESSED
        + screened * SCREENED
}

/// Where fees lie until the epoch is over. No key makes this id.
pub fn fees_account(network: &Digest) -> AccountId {
    let digest = Digest::of_value("runrig-fees", network);
    AccountId(digest.0[..20].try_into().expect("20 of 32 bytes"))
}

/// `whole` × `part` / `all`, rounded down; nothing overflows as long as `part` ≤ `all` < 2⁶⁴.
fn fraction(whole: u128, part: u128, all: u128) -> u128 {
    whole / all * part + whole % all * part / all
}

/// `whole` cut into parts that weigh so much: floors of running sums, so that the parts add up
/// to it exactly.
fn parts(whole: u128, weights: &[u128]) -> Vec<u128> {
    let all: u128 = weights.iter().sum();
    let (mut weighed, mut given) = (0, 0);
    let part = |weight: &u128| {
        weighed += weight;
        let until = fraction(whole, weighed, all.max(1));
        let part = until - given;
        given = until;
        part
    };
    weights.iter().map(part).collect()
}

impl Context {
    /// Takes the fee of a transaction; `false`, and no change, if there is not so much.
    #[must_use]
    pub(crate) fn take_fee(&mut self, from: AccountId, fee: Amount) -> bool {
        if fee.is_zero() {
            return true;
        }
        if !self.spend(from, fee) {
            return false;
        }
        let to = fees_account(&self.state.globals.network);
        self.credit(to, fee);
        let epoch = self.state.epoch();
        let duties = self.state.duties.or_default(epoch);
        duties.fees = Amount(duties.fees.0 + fee.0);
        self.emit(crate::Event::Account(account::Event::Transferred {
            from,
            to,
            amount: fee,
            memo: "fee".into(),
        }));
        true
    }
}

/// Who is paid for what `key` did: its owner, or the account of the key itself.
pub(super) fn payee(state: &State, key: &PublicKey) -> AccountId {
    let known = state.validators.get(key);
    known.map_or_else(|| AccountId::of(key), |v| v.owner)
}

/// `epoch` is over.
pub(super) fn pay(context: &mut Context, epoch: u64) {
    let Some(duties) = context.state.duties.get(&epoch) else {
        return;
    };
    let fees = duties.fees;
    // Whoever was convicted in it has done it no service.
    let worked = |key: &PublicKey, done| match context.state.is_convicted(key) {
        true => 0,
        false => points(done),
    };
    let work: Vec<(PublicKey, u128)> = duties.by.iter().map(|(k, d)| (*k, worked(k, d))).collect();
    if fees.is_zero() {
        return;
    }
    if work.iter().all(|(_, points)| *points == 0) {
        // Nobody is seen to have done anything: the next ones have it.
        if let Some(duties) = context.state.duties.get_mut(&epoch) {
            duties.fees = Amount::ZERO;
        }
        let next = context.state.duties.or_default(epoch + 1);
        next.fees = Amount(next.fees.0 + fees.0);
        return;
    }
    let weights: Vec<u128> = work.iter().map(|(_, points)| *points).collect();
    let from = fees_account(&context.state.globals.network);
    for ((key, _), part) in work.iter().zip(parts(fees.0, &weights)) {
        let (to, amount) = (payee(&context.state, key), Amount(part));
        if amount.is_zero() || !context.spend(from, amount) {
            continue;
        }
        context.credit(to, amount);
        if let Some(duties) = context.state.duties.get_mut(&epoch)
            && let Some(done) = duties.by.get_mut(key)
        {
            done.earned = amount;
        }
        context.emit(crate::Event::Account(account::Event::Transferred {
            from,
            to,
            amount,
            memo: format!("duty of epoch {epoch}"),
        }));
        context.thaw(&to);
    }
    context.emit(crate::Event::Duty(Event::Paid { epoch, fees }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_add_up_and_are_fair(
            whole in any::<u64>(),
            weights in prop::collection::vec(0u128..1_000_000, 1..20),
        ) {
            let whole = u128::from(whole) << 20;
            let all: u128 = weights.iter().sum();
            prop_assume!(all > 0);
            let parts = parts(whole, &weights);
            prop_assert_eq!(parts.iter().sum::<u128>(), whole);
            for (part, weight) in parts.iter().zip(&weights) {
                prop_assert!(part.abs_diff(fraction(whole, *weight, all)) <= 1);
            }
        }
    }
}
