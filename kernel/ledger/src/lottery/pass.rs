//! What time brings about: rounds close, are drawn or paid back, and are forgotten.

use types::{AccountId, Amount, LotteryId};

use super::Event;
use super::apply::DEPOSIT;
use super::state::{
    Draw, Entry, Phase, draw_epoch, draw_seed, draw_wins, entries_root, pot_account,
};
use crate::execute::Context;
use crate::lots::AHEAD;

/// Entries that one block looks at; the blocks after it go on.
const WORK_MAX: u64 = 20_000;
/// Rounds that one block tries to draw, or forgets.
const ROUNDS_MAX: usize = 64;
/// A round that is over is kept for so many blocks: a week or so.
const KEPT: u64 = 600_000;

/// Before the block's transactions.
pub(crate) fn pass_time(context: &mut Context) {
    let height = context.env.height;
    let mut work = 0;
    while work < WORK_MAX
        && let Some((at, id)) = context.state.index.closes.get_min().copied()
        && at <= height
    {
        let entries = context.state.lotteries.get(&id).map_or(0, |r| r.entries);
        work += 1 + u64::from(entries);
        close(context, id);
    }
    let blocks = context.state.params().epoch_blocks.max(1);
    let waiting = context.state.index.draws.iter();
    let ready: Vec<LotteryId> = waiting
        .take_while(|(epoch, _)| *epoch <= height / blocks)
        .take(ROUNDS_MAX)
        .map(|(_, id)| *id)
        .collect();
    for id in ready {
        try_draw(context, id);
    }
    for _ in 0..ROUNDS_MAX {
        let oldest = context.state.index.over.get_min().copied();
        match oldest {
            Some((over_at, id)) if over_at + KEPT <= height => forget(context, over_at, id),
            _ => break,
        }
    }
}

fn forget(context: &mut Context, over_at: u64, id: LotteryId) {
    context.state.index.over.remove(&(over_at, id));
    let entries = context.state.lotteries.get(&id).map_or(0, |r| r.entries);
    for number in 0..entries {
        context.state.entries.remove(&(id, number));
    }
    context.state.lotteries.remove(&id);
}

/// Out of the round's own account, which holds what it owes.
fn pay_out(context: &mut Context, id: LotteryId, to: AccountId, amount: Amount, why: &str) {
    let pot = pot_account(&context.state.globals.network, id);
    let paid = context.pay(pot, to, amount, format!("lottery {id}: {why}"));
    debug_assert!(paid, "a pot holds what was paid into it");
    context.thaw(&to);
}

fn entries_of(context: &Context, id: LotteryId) -> Vec<Entry> {
    let all = context.state.entries.range((id, 0)..=(id, u32::MAX));
    all.map(|(_, entry)| entry.clone()).collect()
}

/// Fixes the entries; pays back if they are too few.
pub(super) fn close(context: &mut Context, id: LotteryId) {
    let Some(round) = context.state.lotteries.get(&id) else {
        return;
    };
    let (terms, count) = (round.terms.clone(), round.entries);
    let entries = entries_of(context, id);
    let root = entries_root(id, &entries);
    let height = context.env.height;
    let index = &mut context.state.index;
    index.closes.remove(&(terms.close_height, id));
    for entry in &entries {
        index.entered.remove(&(id, entry.account));
    }
    let blocks = context.state.globals.params.epoch_blocks;
    let epoch = draw_epoch(height, terms.draw_height, blocks);
    if let Some(round) = context.state.lotteries.get_mut(&id) {
        round.phase = Phase::Closed;
        round.closed_at = Some(height);
        round.root = Some(root);
    }
    let too_few = count < terms.entries_min;
    let (owner, price, stake) = (terms.owner, terms.price, terms.stake);
    context.emit(crate::Event::Lottery(Event::Closed {
        lottery: id,
        terms,
        entries: count,
        root,
        draw_epoch: epoch,
    }));
    if !too_few {
        context.state.index.draws.insert((epoch, id));
        return;
    }
    for entry in &entries {
        pay_out(context, id, entry.account, price, "too few entered");
    }
    let back = Amount(stake.0 + DEPOSIT.0);
    pay_out(context, id, owner, back, "stake and deposit");
    context.emit(crate::Event::Lottery(Event::Refunded {
        lottery: id,
        entries: count,
    }));
    end(context, id, Phase::Refunded);
}

/// Draws if the beacon of the round's epoch, or of one after it, is known.
pub(super) fn try_draw(context: &mut Context, id: LotteryId) -> bool {
    let blocks = context.state.params().epoch_blocks.max(1);
    let Some(round) = context.state.lotteries.get(&id) else {
        return false;
    };
    let (Some(closed_at), Some(root)) = (round.closed_at, round.root) else {
        return false;
    };
    let first = draw_epoch(closed_at, round.terms.draw_height, blocks);
    // The drawing of committees keeps an epoch's beacon under the epoch that it draws for.
    let drawings = context.state.drawings.range(first.saturating_add(AHEAD)..);
    let told = drawings
        .filter_map(|(of, drawing)| Some((of - AHEAD, drawing.told_at?, drawing.beacon?)))
        .next();
    let Some((epoch, told_at, beacon)) = told else {
        return false;
    };
    let (owner, pot, count) = (round.terms.owner, round.pot(), round.entries);
    let seed = draw_seed(&context.state.globals.network, id, &root, &beacon);
    let entries = &context.state.entries;
    let of = |number| entries.get(&(id, number)).map_or(owner, |e| e.account);
    let (wins, rest) = draw_wins(&round.terms, pot, count, &seed, of);
    for (place, win) in wins.iter().enumerate() {
        let why = format!("prize {}", place + 1);
        pay_out(context, id, win.account, win.amount, &why);
    }
    let back = Amount(rest.0 + DEPOSIT.0);
    pay_out(
        context,
        id,
        owner,
        back,
        "what no prize took, and the deposit",
    );
    let draw = Draw {
        epoch,
        told_at,
        beacon,
        wins,
        rest,
    };
    context.state.index.draws.remove(&(first, id));
    if let Some(round) = context.state.lotteries.get_mut(&id) {
        round.draw = Some(draw.clone());
    }
    context.emit(crate::Event::Lottery(Event::Drawn { lottery: id, draw }));
    end(context, id, Phase::Drawn);
    true
}

fn end(context: &mut Context, id: LotteryId, phase: Phase) {
    let height = context.env.height;
    context.state.index.lotteries.remove(&id);
    context.state.index.over.insert((height, id));
    if let Some(round) = context.state.lotteries.get_mut(&id) {
        round.phase = phase;
        round.over_at = Some(height);
    }
}
