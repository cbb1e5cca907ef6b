//! Propose, vote, and what comes of it.

use types::{AccountId, Amount, ProposalId};

use super::{Call, Change, Event, Phase, Proposal};
use crate::execute::Context;
use crate::genesis::check_params;
use crate::validator::fund_account;
use crate::{RejectKind, Rejection};

/// A seat counts for so many epochs after it was left.
const MEMBER_EPOCHS: u64 = 64;
/// Proposals that are not decided or not in effect yet, of all and of one account.
const LIVE_MAX: usize = 64;
const OWN_MAX: usize = 4;
/// Proposals kept, decided ones too: the oldest decided ones are forgotten.
const KEPT: usize = 1_000;

fn refused(kind: RejectKind, why: impl Into<String>, next: &str) -> Rejection {
    Rejection::new(kind, "vote", why, next)
}

/// In the block after an epoch: `account` did duties in it.
pub(crate) fn note_member(context: &mut Context, account: AccountId, epoch: u64) {
    let member = context.state.members.or_default(account);
    // An account with several validators is noted once.
    if member.epochs == 0 || member.last < epoch {
        member.epochs += 1;
        member.last = epoch;
    }
}

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Propose { change } => propose(context, sender, change),
        Call::Cast { proposal, yes } => cast(context, sender, proposal, yes),
    }
}

fn check_change(context: &Context, change: &Change) -> Result<(), Rejection> {
    let mut params = context.state.params().clone();
    change.put(&mut params);
    let mut why = check_params(&params).err().map(|e| e.to_string());
    if let Change::Version(version) = change
        && *version != context.state.globals.version + 1
    {
        why = Some(format!(
            "the network goes by version {}: only the next one can be voted for",
            context.state.globals.version
        ));
    }
    if let Change::Seats(seats) = change
        && *seats > params.seats()
    {
        why = why.or_else(|| {
            Some(format!(
                "an epoch of {} blocks is long enough for {} seats to hand the key on, not for {seats}",
                params.epoch_blocks,
                params.seats()
            ))
        });
    }
    if let Some(why) = why {
        return Err(refused(
            RejectKind::Invalid,
            why,
            "See `runrig chain params`.",
        ));
    }
    match *change {
        Change::Pay { to, amount } => check_pay(context, to, amount),
        _ => Ok(()),
    }
}

/// What the fund has now is what can be voted on.
fn check_pay(context: &Context, to: AccountId, amount: Amount) -> Result<(), Rejection> {
    let fund = fund_account(&context.state.globals.network);
    let there = context.state.account(&fund).spendable;
    let (kind, why) = if amount.is_zero() || to == fund {
        (RejectKind::Invalid, "that pays nobody anything".into())
    } else if amount > there {
        let why = format!("the network's fund has {there} credits, not {amount}");
        (RejectKind::Funds, why)
    } else {
        return Ok(());
    };
    Err(refused(
        kind,
        why,
        "See `runrig chain supply` for what the fund has.",
    ))
}

fn propose(context: &mut Context, sender: AccountId, change: Change) -> Result<(), Rejection> {
    let epoch = context.state.epoch();
    let members = context.state.members.iter();
    let mut votes: std::collections::BTreeMap<AccountId, Option<bool>> = members
        .filter(|(_, m)| m.last + MEMBER_EPOCHS >= epoch)
        .map(|(account, _)| (*account, None))
        .collect();
    let Some(own) = votes.get_mut(&sender) else {
        return Err(refused(
            RejectKind::Forbidden,
            format!("account {sender} has no seat history: it has done no duties through an epoch"),
            "Sign as a validator's owner (founders: with --seat); see `runrig chain duties`.",
        ));
    };
    *own = Some(true);
    check_change(context, &change)?;
    let live = context.state.proposals.iter();
    let live = live.filter(|(_, p)| matches!(p.phase, Phase::Open | Phase::Accepted { .. }));
    let live: Vec<AccountId> = live.map(|(_, p)| p.proposer).collect();
    if live.len() >= LIVE_MAX || live.iter().filter(|p| **p == sender).count() >= OWN_MAX {
        return Err(refused(
            RejectKind::Conflict,
            format!("{LIVE_MAX} proposals, {OWN_MAX} of one account, may be under way at a time"),
            "Wait until one is decided: see `runrig vote ls`.",
        ));
    }
    let id = ProposalId(context.state.globals.proposals + 1);
    context.state.globals.proposals = id.0;
    let members = u32::try_from(votes.len()).unwrap_or(u32::MAX);
    let proposal = Proposal {
        proposer: sender,
        change,
        phase: Phase::Open,
        closes: context.env.height + context.state.params().vote_blocks,
        votes,
    };
    context.state.proposals.insert(id, proposal);
    context.emit(crate::Event::Vote(Event::Proposed {
        proposal: id,
        proposer: sender,
        change,
        members,
    }));
    decide(context, id);
    forget(context);
    Ok(())
}

fn forget(context: &mut Context) {
    if context.state.proposals.len() <= KEPT {
        return;
    }
    let is_over = |p: &Proposal| matches!(p.phase, Phase::Rejected | Phase::Done { .. });
    let mut all = context.state.proposals.iter();
    let oldest = all.find(|(_, p)| is_over(p)).map(|(id, _)| *id);
    drop(all);
    if let Some(oldest) = oldest {
        context.state.proposals.remove(&oldest);
    }
}

fn cast(
    context: &mut Context,
    sender: AccountId,
    id: ProposalId,
    yes: bool,
) -> Result<(), Rejection> {
    let Some(proposal) = context.state.proposals.get_mut(&id) else {
        let why = format!("there is no {id}");
        return Err(refused(RejectKind::NotFound, why, "See `runrig vote ls`."));
    };
    if proposal.phase != Phase::Open {
        let why = format!("{id} is decided");
        return Err(refused(
            RejectKind::Conflict,
            why,
            "See `runrig vote show`.",
        ));
    }
    let Some(vote) = proposal.votes.get_mut(&sender) else {
        return Err(refused(
            RejectKind::Forbidden,
            format!("account {sender} was no member when {id} was proposed"),
            "Sign as a validator's owner (founders: with --seat).",
        ));
    };
    *vote = Some(yes);
    context.emit(crate::Event::Vote(Event::Cast {
        proposal: id,
        account: sender,
        yes,
    }));
    decide(context, id);
    Ok(())
}

/// More than half of all say yes, or can no longer.
fn decide(context: &mut Context, id: ProposalId) {
    let height = context.env.height;
    let params = context.state.params();
    let blocks = params.epoch_blocks.max(1);
    let from = (height + params.vote_delay_blocks.max(1)).div_ceil(blocks) * blocks;
    let Some(proposal) = context.state.proposals.get(&id) else {
        return;
    };
    let all = proposal.votes.len();
    let phase = if proposal.count(true) * 2 > all {
        Phase::Accepted { from }
    } else if proposal.count(false) * 2 >= all || height >= proposal.closes {
        Phase::Rejected
    } else {
        return;
    };
    turn(context, id, phase);
}

fn turn(context: &mut Context, id: ProposalId, phase: Phase) {
    if let Some(proposal) = context.state.proposals.get_mut(&id) {
        proposal.phase = phase;
    }
    context.emit(crate::Event::Vote(Event::Moved {
        proposal: id,
        phase,
    }));
}

/// Before the block's transactions.
pub(crate) fn pass_time(context: &mut Context) {
    let height = context.env.height;
    let all = context.state.proposals.iter();
    let due: Vec<(ProposalId, Phase, Change)> = all
        .filter(|(_, p)| match p.phase {
            Phase::Open => p.closes <= height,
            Phase::Accepted { from } => from <= height,
            Phase::Rejected | Phase::Done { .. } => false,
        })
        .map(|(id, p)| (*id, p.phase, p.change))
        .collect();
    for (id, phase, change) in due {
        if phase == Phase::Open {
            decide(context, id);
            continue;
        }
        // What was decided since may have made it impossible.
        if check_change(context, &change).is_err() {
            turn(context, id, Phase::Rejected);
            continue;
        }
        change.put(&mut context.state.globals.params);
        match change {
            Change::Version(version) => context.state.globals.version = version,
            Change::Pay { to, amount } => {
                let fund = fund_account(&context.state.globals.network);
                let paid = context.pay(fund, to, amount, format!("voted for: {id}"));
                debug_assert!(paid, "it was checked");
                context.thaw(&to);
            }
            _ => {}
        }
        turn(context, id, Phase::Done { since: height });
    }
}
