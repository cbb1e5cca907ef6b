//! Count what a block shows; pay when an epoch is over.

use types::{AccountId, PublicKey};

use super::Done;
use super::pay::{pay, payee};
use crate::execute::Context;
use crate::vote;

/// Duties of so many past epochs are kept.
const KEPT: u64 = 64;

/// Who has done duties may vote.
fn note_members(context: &mut Context, epoch: u64) {
    let duties = context.state.duties.get(&epoch);
    let by = duties.into_iter().flat_map(|duties| &duties.by);
    let served: Vec<PublicKey> = by
        .filter(|(key, done)| done.led + done.stated > 0 && !context.state.is_convicted(key))
        .map(|(key, _)| *key)
        .collect();
    for key in served {
        let account = payee(&context.state, &key);
        vote::note_member(context, account, epoch);
    }
}

/// After the block's transactions: of each, who paid its fee, if it was applied and paid one. Nobody is
/// paid for what is free, is refused, or is his own.
pub(crate) fn note_screened(context: &mut Context, payers: &[Option<AccountId>]) {
    let epoch = context.env.height / context.state.params().epoch_blocks.max(1);
    let screened = context.env.seen.screened.clone();
    for (key, at) in screened.iter() {
        let payer = payers.get(*at as usize).copied().flatten();
        if payer.is_none_or(|payer| payer == payee(&context.state, key)) {
            continue;
        }
        let duties = context.state.duties.or_default(epoch);
        let done = duties.by.entry(*key).or_default();
        done.screened = done.screened.saturating_add(1);
    }
}

/// Before the block's transactions.
pub(crate) fn pass_time(context: &mut Context) {
    let blocks = context.state.params().epoch_blocks.max(1);
    let epoch = context.env.height / blocks;
    if context.env.height.is_multiple_of(blocks) {
        if let Some(over) = epoch.checked_sub(1) {
            note_members(context, over);
            pay(context, over);
        }
        if let Some(old) = epoch.checked_sub(KEPT) {
            context.state.duties.remove(&old);
        }
    }
    let seen = context.env.seen.clone();
    let mut note = |key: PublicKey, what: &dyn Fn(&mut Done)| {
        what(
            context
                .state
                .duties
                .or_default(epoch)
                .by
                .entry(key)
                .or_default(),
        );
    };
    for (key, within) in seen.stated.iter() {
        note(*key, &|done| {
            let count = if *within {
                &mut done.stated
            } else {
                &mut done.off
            };
            *count = count.saturating_add(1);
        });
    }
    if let Some(leader) = seen.leader {
        note(leader, &|done| {
            done.led = done.led.saturating_add(1);
            done.dealt |= seen.dealt;
        });
    }
}
