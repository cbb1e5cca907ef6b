//! What is asked of a lottery.

use types::{AccountId, Amount, LotteryId};

use super::pass::{close, try_draw};
use super::state::{MILLION, Phase, Round, Terms, pot_account};
use super::{Call, Entry, Event};
use crate::execute::Context;
use crate::{RejectKind, Rejection};

const NAME_BYTES_MAX: usize = 64;
const PRICE_MIN: Amount = Amount(1_000_000);
const PRIZES_MAX: usize = 100;
const ENTRIES_MAX: u32 = 10_000;
/// Entries bought by one call.
const BOUGHT_MAX: u32 = 100;
/// Rounds that are not over, of all and of one account.
const LIVE_MAX: usize = 1_000;
const OWN_MAX: usize = 16;
/// A round may close, and be drawn, so many blocks from now at most: half a year or so.
const AHEAD_MAX: u64 = 20_000_000;
/// Of the owner, for as long as the round lasts.
pub(super) const DEPOSIT: Amount = Amount::credits(1);

fn refused(kind: RejectKind, why: impl Into<String>, next: &str) -> Rejection {
    Rejection::new(kind, "lottery", why, next)
}

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Create {
            name,
            price,
            stake,
            prizes,
            entries_min,
            entries_max,
            per_account_max,
            close_height,
            draw_height,
        } => create(
            context,
            Terms {
                owner: sender,
                name,
                price,
                stake,
                prizes,
                entries_min,
                entries_max,
                per_account_max,
                close_height,
                draw_height,
            },
        ),
        Call::Enter { lottery, count } => enter(context, sender, lottery, count),
        Call::Close { lottery } => close_early(context, sender, lottery),
        Call::Draw { lottery } => draw_now(context, lottery),
    }
}

fn check_terms(terms: &Terms, height: u64) -> Result<(), Rejection> {
    let invalid = |why: String| {
        refused(
            RejectKind::Invalid,
            why,
            "See `runrig lottery create --help`.",
        )
    };
    let bytes = terms.name.len();
    if !(1..=NAME_BYTES_MAX).contains(&bytes) || terms.name.chars().any(char::is_control) {
        return Err(invalid(format!(
            "its name has {bytes} bytes; 1 to {NAME_BYTES_MAX}, without control characters, are taken"
        )));
    }
    if terms.price < PRICE_MIN || terms.price.0 > u128::from(u64::MAX) {
        return Err(invalid(format!(
            "an entry costs {} credits; it must be {PRICE_MIN} at least, and less than 18 million",
            terms.price
        )));
    }
    let shares: u64 = terms.prizes.iter().map(|s| u64::from(*s)).sum();
    if !(1..=PRIZES_MAX).contains(&terms.prizes.len())
        || terms.prizes.contains(&0)
        || shares > MILLION.into()
    {
        return Err(invalid(format!(
            "its {} prizes take {shares} millionths of the pot; 1 to {PRIZES_MAX} prizes, none of nothing, may take {MILLION}",
            terms.prizes.len()
        )));
    }
    if !(1..=ENTRIES_MAX).contains(&terms.entries_max)
        || !(1..=terms.entries_max).contains(&terms.entries_min)
        || !(1..=terms.entries_max).contains(&terms.per_account_max)
    {
        return Err(invalid(format!(
            "{} to {} entries, {} of one account, cannot be: at most {ENTRIES_MAX}, and neither the least nor one account's above the most",
            terms.entries_min, terms.entries_max, terms.per_account_max
        )));
    }
    let latest = height.saturating_add(AHEAD_MAX);
    if terms.close_height <= height
        || terms.draw_height < terms.close_height
        || terms.draw_height > latest
    {
        return Err(invalid(format!(
            "it would close at height {} and be drawn from {} on; now is {height}: the close comes first, the draw not after {latest}",
            terms.close_height, terms.draw_height
        )));
    }
    Ok(())
}

fn create(context: &mut Context, terms: Terms) -> Result<(), Rejection> {
    check_terms(&terms, context.env.height)?;
    let owner = terms.owner;
    let live = &context.state.index.lotteries;
    if live.len() >= LIVE_MAX || live.iter().filter(|(_, of)| **of == owner).count() >= OWN_MAX {
        return Err(refused(
            RejectKind::Conflict,
            format!("{LIVE_MAX} rounds, {OWN_MAX} of one account, may go on at a time"),
            "Wait until one is over: see `runrig lottery ls`.",
        ));
    }
    let id = LotteryId(context.state.globals.lotteries + 1);
    let pot = pot_account(&context.state.globals.network, id);
    let whole = Amount(terms.stake.0.saturating_add(DEPOSIT.0));
    if !context.pay(
        owner,
        pot,
        whole,
        format!("lottery {id}: stake and deposit"),
    ) {
        let have = context.state.account(&owner).spendable;
        return Err(refused(
            RejectKind::Funds,
            format!("stake and deposit are {whole} credits, {have} may be spent"),
            "See `runrig wallet balance`.",
        ));
    }
    context.state.globals.lotteries = id.0;
    context.state.index.lotteries.insert(id, owner);
    context.state.index.closes.insert((terms.close_height, id));
    context.emit(crate::Event::Lottery(Event::Created {
        lottery: id,
        terms: terms.clone(),
    }));
    let round = Round {
        terms,
        phase: Phase::Open,
        opened_at: context.env.height,
        entries: 0,
        closed_at: None,
        root: None,
        draw: None,
        over_at: None,
    };
    context.state.lotteries.insert(id, round);
    Ok(())
}

fn open_round(context: &Context, id: LotteryId) -> Result<&Round, Rejection> {
    let round = context.state.lotteries.get(&id).ok_or_else(|| {
        refused(
            RejectKind::NotFound,
            format!("there is no {id}"),
            "See `runrig lottery ls`.",
        )
    })?;
    if round.phase != Phase::Open {
        let why = format!("{id} is closed: it takes no more entries");
        return Err(refused(
            RejectKind::Conflict,
            why,
            "See `runrig lottery show`.",
        ));
    }
    Ok(round)
}

fn enter(
    context: &mut Context,
    sender: AccountId,
    id: LotteryId,
    count: u32,
) -> Result<(), Rejection> {
    let round = open_round(context, id)?;
    let (terms, first) = (&round.terms, round.entries);
    let own = context.state.index.entered.get(&(id, sender)).copied();
    let own = own.unwrap_or(0);
    if !(1..=BOUGHT_MAX).contains(&count) {
        let why = format!("{count} entries at once; 1 to {BOUGHT_MAX} are sold");
        return Err(refused(RejectKind::Invalid, why, "Enter again for more."));
    }
    if own + count > terms.per_account_max || first + count > terms.entries_max {
        let why = format!(
            "of {} entries {first} are sold, and of an account's {} this one has {own}",
            terms.entries_max, terms.per_account_max
        );
        return Err(refused(RejectKind::Conflict, why, "Enter with fewer."));
    }
    let whole = Amount(terms.price.0 * u128::from(count));
    let pot = pot_account(&context.state.globals.network, id);
    if !context.pay(sender, pot, whole, format!("lottery {id}: {count} entries")) {
        let have = context.state.account(&sender).spendable;
        return Err(refused(
            RejectKind::Funds,
            format!("{count} entries cost {whole} credits, {have} may be spent"),
            "See `runrig wallet balance`.",
        ));
    }
    let height = context.env.height;
    for number in first..first + count {
        let entry = Entry {
            account: sender,
            height,
        };
        context.state.entries.insert((id, number), entry);
    }
    context
        .state
        .index
        .entered
        .insert((id, sender), own + count);
    if let Some(round) = context.state.lotteries.get_mut(&id) {
        round.entries = first + count;
    }
    context.emit(crate::Event::Lottery(Event::Entered {
        lottery: id,
        account: sender,
        first,
        count,
    }));
    Ok(())
}

fn close_early(context: &mut Context, sender: AccountId, id: LotteryId) -> Result<(), Rejection> {
    let round = open_round(context, id)?;
    if round.terms.owner != sender {
        return Err(refused(
            RejectKind::Forbidden,
            format!(
                "only its owner closes {id} before height {}",
                round.terms.close_height
            ),
            "Wait: it closes by itself.",
        ));
    }
    close(context, id);
    Ok(())
}

fn draw_now(context: &mut Context, id: LotteryId) -> Result<(), Rejection> {
    let round = context.state.lotteries.get(&id).ok_or_else(|| {
        refused(
            RejectKind::NotFound,
            format!("there is no {id}"),
            "See `runrig lottery ls`.",
        )
    })?;
    let wait = "It is drawn by itself: see `runrig lottery show`.";
    let (phase, closes) = (round.phase, round.terms.close_height);
    match phase {
        Phase::Closed if try_draw(context, id) => Ok(()),
        Phase::Closed => Err(refused(
            RejectKind::Conflict,
            "the beacon that decides is not known yet",
            wait,
        )),
        Phase::Open => Err(refused(
            RejectKind::Conflict,
            format!("{id} is open until height {closes}"),
            wait,
        )),
        Phase::Drawn | Phase::Refunded => Err(refused(
            RejectKind::Conflict,
            format!("{id} is over"),
            "See `runrig lottery show`.",
        )),
    }
}
