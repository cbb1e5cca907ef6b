//! Set a limit, count what is spent, stop and let go on.

use std::collections::BTreeSet;

use types::{AccountId, Amount, DeploymentId, Month, Resource};

use super::{Call, Event, Limit, Notice, ORDER_MAX};
use crate::execute::Context;
use crate::funds::{FOREVER_MS, HOUR_MS, LOOK_MS, START_MS, dues, price, worst};
use crate::lease::{BURST_BYTES, BURST_MS};
use crate::state::State;
use crate::{RejectKind, Rejection};

/// Of the limit; at each the account is told.
const PERCENTS: [u8; 3] = [75, 90, 100];
/// Deployments looked at in one block; the other accounts wait for the next.
const LOOKS_MAX: usize = 5_000;

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Set {
            alert,
            limit,
            order,
        } => set(context, sender, alert, limit, order),
    }
}

fn set(
    context: &mut Context,
    account: AccountId,
    alert: Option<Amount>,
    limit: Option<Amount>,
    order: Vec<String>,
) -> Result<(), Rejection> {
    let before = context.state.limits.get(&account).cloned();
    let before = before.unwrap_or_default();
    check(context, &account, alert, limit, &order, &before)?;
    let now = context.env.time_ms;
    let month = Month::of(now);
    let used = context.state.account(&account).spent_in(month).0;
    let used = used.saturating_add(unsettled(&context.state, &account, now));
    let owed = before.most(month).map_or(used, |most| most.0.min(used));
    let new = Limit {
        alert,
        limit,
        order: order.clone(),
        owed: Amount(owed),
        owed_in: month,
        told: Vec::new(),
        told_in: month,
        look_ms: now,
    };
    let index = &mut context.state.index;
    index.limit_looks.remove(&(before.look_ms, account));
    index.limit_looks.insert((now, account));
    context.state.limits.insert(account, new);
    context.emit(crate::Event::Limit(Event::Set {
        account,
        alert,
        limit,
        order: order.clone(),
    }));
    tell(context, &account, false);
    review(context, &account, true);
    if alert.is_none() && limit.is_none() && order.is_empty() {
        forget(context, &account);
    }
    Ok(())
}

fn forget(context: &mut Context, account: &AccountId) {
    if let Some(limit) = context.state.limits.get(account) {
        let key = (limit.look_ms, *account);
        context.state.index.limit_looks.remove(&key);
        context.state.limits.remove(account);
    }
}

fn check(
    context: &Context,
    account: &AccountId,
    alert: Option<Amount>,
    limit: Option<Amount>,
    order: &[String],
    before: &Limit,
) -> Result<(), Rejection> {
    let reject = |kind, why, next| Err(Rejection::new(kind, "limit", why, next));
    if let (Some(alert), Some(limit)) = (alert, limit)
        && alert > limit
    {
        let why = format!("the alert, {alert}, is above the limit, {limit}: it would never come");
        let next = "Set an alert of at most the limit.";
        return reject(RejectKind::Invalid, why, next);
    }
    if order.len() > ORDER_MAX {
        let why = format!(
            "{} projects are named; at most {ORDER_MAX} are",
            order.len()
        );
        let next = "Name those that shall stop first; the others stop after them.";
        return reject(RejectKind::Invalid, why, next);
    }
    let mut seen = BTreeSet::new();
    for name in order {
        if !seen.insert(name) {
            let why = format!("project {name} is named twice in the order");
            return reject(RejectKind::Invalid, why, "Name each project once.");
        }
        // What was named once may be gone meanwhile, and come again.
        let known = context.state.project(account, name).is_some() || before.order.contains(name);
        if !known {
            let shown: String = name.chars().take(64).collect();
            let why = format!("there is no project {shown:?} to stop");
            return reject(RejectKind::NotFound, why, "See `runrig ls`.");
        }
    }
    Ok(())
}

/// What the account's leases owe, and may have used since their last settlement until they have
/// been stopped now.
fn unsettled(state: &State, account: &AccountId, now_ms: u64) -> u128 {
    let params = &state.globals.params;
    let until_ms = now_ms
        .saturating_add(params.clock_skew_ms)
        .saturating_add(params.report_interval_ms.saturating_mul(2))
        .saturating_add(BURST_MS);
    let open = state.weighed_of(account);
    let open = open.flat_map(|(_, deployment)| &deployment.allocations);
    let open = open.filter_map(|id| state.allocations.get(id));
    open.fold(0u128, |sum, a| {
        let due = dues(&a.usage, &a.rates, &a.charged);
        let due = due.iter().fold(0u128, |sum, due| sum.saturating_add(due.0));
        let ms = until_ms.saturating_sub(a.settled_ms);
        let more = worst(&a.reserved, &a.rates, ms, false).0;
        let transfer = Resource::Transfer;
        let burst = price(BURST_BYTES, a.rates.rate(transfer), transfer).0;
        // Each of the six prices is rounded down.
        [due, more, burst, 6]
            .into_iter()
            .fold(sum, u128::saturating_add)
    })
}

/// What may still be taken from the account this month for what runs.
pub(crate) fn room(state: &State, account: &AccountId, now_ms: u64) -> Amount {
    let month = Month::of(now_ms);
    match state.limits.get(account).and_then(|l| l.most(month)) {
        Some(most) => most.saturating_sub(state.account(account).spent_in(month)),
        None => Amount(u128::MAX),
    }
}

/// So much was taken from the account for the deployment.
pub(crate) fn count(context: &mut Context, account: &AccountId, id: &DeploymentId, paid: Amount) {
    if paid.is_zero() {
        return;
    }
    let month = Month::of(context.env.time_ms);
    let kept = context.account_mut(*account);
    kept.spent = Amount(kept.spent_in(month).0.saturating_add(paid.0));
    kept.month = month;
    if context.state.limits.get(account).is_some() {
        tell(context, account, false);
        // Sooner than was to be expected: a host reports late.
        if room(&context.state, account, context.env.time_ms).is_zero() {
            context.state.index.burn_changed.insert(*id);
        }
    }
}

/// Tells what has been reached and was not told this month. `all`: everything that ran is stopped.
fn tell(context: &mut Context, account: &AccountId, all: bool) {
    let month = Month::of(context.env.time_ms);
    let spent = context.state.account(account).spent_in(month);
    let Some(known) = context.state.limits.get(account) else {
        return;
    };
    let told: &[Notice] = match known.told_in == month {
        true => &known.told,
        false => &[],
    };
    let mut news = Vec::new();
    if let Some(alert) = known.alert.filter(|alert| spent >= *alert) {
        news.push((Notice::Alert, alert));
    }
    if let Some(limit) = known.limit {
        // In two parts, so that nothing overflows; rounded up.
        let part = |percent: u8| {
            let percent = u128::from(percent);
            limit.0 / 100 * percent + (limit.0 % 100 * percent).div_ceil(100)
        };
        let reached = |percent: &u8| spent.0 >= part(*percent) || (all && *percent == 100);
        if let Some(most) = PERCENTS.into_iter().rfind(reached) {
            news.push((Notice::Percent(most), limit));
        }
    }
    // Of what lies below, the highest that was told says it all.
    let is_new = |(notice, _): &(Notice, Amount)| match notice {
        Notice::Alert => !told.contains(notice),
        Notice::Percent(_) => !told.iter().any(|t| *t != Notice::Alert && t >= notice),
    };
    news.retain(is_new);
    if news.is_empty() {
        return;
    }
    let mut told = told.to_vec();
    told.extend(news.iter().map(|(notice, _)| *notice));
    told.sort_unstable();
    if let Some(limit) = context.state.limits.get_mut(account) {
        limit.told = told;
        limit.told_in = month;
    }
    for (notice, of) in news {
        context.emit(crate::Event::Limit(Event::Told {
            account: *account,
            notice,
            spent,
            of,
        }));
    }
}

/// What a limit says of an account's projects.
struct Verdict {
    stop: Vec<DeploymentId>,
    go_on: Vec<DeploymentId>,
    /// What was to run is stopped, all of it.
    all: bool,
    /// Something is paid for, or would be if it went on.
    burns: bool,
    /// For so long nothing can change at the worst-case burn.
    calm_ms: u64,
}

/// Goes through the projects from the one that stops last. `begins`: it does not run yet.
fn weigh(
    context: &mut Context,
    account: &AccountId,
    may_go_on: bool,
    begins: Option<&DeploymentId>,
) -> Verdict {
    let now = context.env.time_ms;
    let params = &context.state.globals.params;
    let reserve_ms = params.report_interval_ms.saturating_mul(2);
    let start_ms = START_MS.max(reserve_ms.saturating_mul(2));
    let stops: Vec<_> = context
        .state
        .stops(account)
        .into_iter()
        .map(|stop| (context.state.burn(&stop.deployment), stop))
        .collect();
    let during = |hour: Amount, ms: u64| {
        let whole = hour.0.saturating_mul(ms.into());
        whole.div_ceil(HOUR_MS.into())
    };
    let idle = |sum: u128, hour: Amount| sum.saturating_add(hour.0);
    let idle = Amount(stops.iter().map(|(burn, _)| burn.idle).fold(0, idle));
    let spent = context.state.account(account).spent_in(Month::of(now)).0;
    // What lies there is paid whatever runs.
    let mut needed = spent.saturating_add(during(idle, reserve_ms));
    let mut verdict = Verdict {
        stop: Vec::new(),
        go_on: Vec::new(),
        all: false,
        burns: false,
        calm_ms: FOREVER_MS,
    };
    let mut open = true;
    let (mut burning, mut least) = (idle.0, u128::MAX);
    let (mut runs, mut wants) = (false, false);
    for (burn, stop) in stops.into_iter().rev() {
        let hour = burn.hour.saturating_sub(burn.idle);
        let new = stop.limited || begins == Some(&stop.deployment);
        let ms = if new { start_ms } else { reserve_ms };
        let at = stop.at.map_or(u128::MAX, |at| at.0);
        open &= needed.saturating_add(during(hour, ms)) <= at;
        open &= may_go_on || !stop.limited;
        wants |= !hour.is_zero();
        match (open, stop.limited) {
            (true, true) => verdict.go_on.push(stop.deployment),
            (false, false) => verdict.stop.push(stop.deployment),
            _ => {}
        }
        if open {
            runs |= !hour.is_zero();
            needed = needed.saturating_add(during(hour, reserve_ms));
            burning = burning.saturating_add(hour.0);
            least = least.min(at.saturating_sub(needed));
        }
    }
    verdict.all = wants && !runs;
    verdict.burns = wants || !idle.is_zero();
    verdict.calm_ms = least
        .saturating_mul(HOUR_MS.into())
        .checked_div(burning)
        .and_then(|ms| u64::try_from(ms).ok())
        .unwrap_or(FOREVER_MS);
    verdict.stop.reverse();
    verdict
}

/// Would the limit let a deployment that has just been asked for run for five minutes?
pub(crate) fn bears(context: &mut Context, account: &AccountId, id: &DeploymentId) -> bool {
    let known = context.state.limits.get(account);
    known.is_none_or(|known| known.limit.is_none())
        || !weigh(context, account, true, Some(id)).stop.contains(id)
}

/// Of what would not run for long.
pub(crate) fn refused(state: &State, account: &AccountId, what: String) -> Rejection {
    let spent = state.account(account).spent_in(Month::of(state.time_ms()));
    let limit = state.limits.get(account).and_then(|l| l.limit);
    let limit = limit.unwrap_or(Amount::ZERO);
    Rejection::new(
        RejectKind::Funds,
        what,
        format!(
            "of the account's limit of {limit} credits a month {spent} are spent; the rest does not bear five minutes of it"
        ),
        "See `runrig limit show`; raise it with `runrig limit set --limit CREDITS`.",
    )
}

/// Stops what the limit does not bear, and, if `may_go_on`, lets go on what it does.
fn review(context: &mut Context, account: &AccountId, may_go_on: bool) {
    let Some(known) = context.state.limits.get(account) else {
        return;
    };
    let (bounded, before_ms) = (known.limit.is_some(), known.look_ms);
    let verdict = weigh(context, account, may_go_on, None);
    for id in &verdict.stop {
        context.set_limited(id, true);
    }
    for id in &verdict.go_on {
        context.set_limited(id, false);
    }
    if bounded && verdict.all {
        tell(context, account, true);
    }
    let now = context.env.time_ms;
    let calm_ms = match bounded && verdict.burns {
        true => verdict.calm_ms.clamp(1_000, LOOK_MS),
        false => FOREVER_MS,
    };
    // In a new month all may go on; what begins to burn is looked at when it does.
    let turn_ms = Month::of(now).until_ms().saturating_sub(now);
    let look_ms = now.saturating_add(calm_ms.min(turn_ms.max(1)));
    if look_ms == before_ms {
        return;
    }
    let index = &mut context.state.index;
    index.limit_looks.remove(&(before_ms, *account));
    index.limit_looks.insert((look_ms, *account));
    if let Some(limit) = context.state.limits.get_mut(account) {
        limit.look_ms = look_ms;
    }
}

/// Looks at the limits that are due.
pub(crate) fn pass_time(context: &mut Context) {
    let now = context.env.time_ms;
    let looks = &context.state.index.limit_looks;
    let come = looks.iter().take_while(|(at, _)| *at <= now);
    let mut taken = 0;
    let due: Vec<AccountId> = come
        .map(|(_, account)| *account)
        .take_while(|account| {
            let fits = taken < LOOKS_MAX;
            taken += context.state.weighed_of(account).count().max(1);
            fits
        })
        .collect();
    for account in due {
        review(context, &account, true);
    }
}

/// Looks at the limits of accounts whose deployments now burn more or less than before the block. It
/// only stops: what goes on has its seats looked after, which the block has done already.
pub(crate) fn review_changed(context: &mut Context) {
    let changed = std::mem::take(&mut context.state.index.burn_changed);
    let owners: BTreeSet<AccountId> = changed
        .iter()
        .filter_map(|id| Some(context.state.deployments.get(id)?.owner))
        .collect();
    for owner in owners {
        review(context, &owner, false);
    }
    context.state.index.burn_changed = Default::default();
}
