//! Take statements; flag a host when a quorum got no answer.

use std::collections::{BTreeMap, BTreeSet};

use types::{AccountId, HostId, PublicKey};

use super::{Call, Event, Flag, LINES_MAX, Line, Saw, Statement, Watched};
use crate::execute::Context;
use crate::{RejectKind, Rejection};

/// A host is flagged once in so long, however often it is looked at: a drawing in which liars
/// have a quorum by chance costs it no more.
const PAUSE_MS: u64 = 3_600_000;

/// A witness of the present epoch.
struct Witness {
    key: PublicKey,
    bit: u32,
    drawn: usize,
}

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    let Call::State(statement) = call;
    let witness = check(context, sender, &statement)?;
    let mut seen: BTreeMap<HostId, Vec<Line>> = BTreeMap::new();
    for line in &statement.lines {
        let state = &context.state;
        let host = state.allocations.get(&line.allocation).map(|a| a.host);
        let counts = |host: &HostId| {
            state.is_answerable(line.allocation, statement.round)
                && state.is_looked_at(&statement.lot, host, witness.drawn)
        };
        if let Some(host) = host.filter(counts) {
            seen.entry(host).or_default().push(*line);
        }
    }
    let duties = context.state.duties.or_default(statement.epoch);
    let done = duties.by.entry(witness.key).or_default();
    done.round = statement.round;
    if !seen.is_empty() {
        done.witnessed = done.witnessed.saturating_add(1);
    }
    for (host, lines) in seen {
        note(context, &witness, &statement, host, &lines);
    }
    Ok(())
}

fn check(
    context: &Context,
    sender: AccountId,
    statement: &Statement,
) -> Result<Witness, Rejection> {
    let reject = |kind, why: String, next| Err(Rejection::new(kind, "statement", why, next));
    let state = &context.state;
    let (epoch, round) = (state.epoch(), statement.round);
    let now = state.witness_round();
    if statement.epoch != epoch || !now.is_some_and(|now| now == round || now == round + 1) {
        let why = format!("it is of round {round} of epoch {}", statement.epoch);
        let next = "Say what is seen in the round in which it is seen.";
        return reject(RejectKind::Stale, why, next);
    }
    let witnesses = state.witnesses(epoch);
    let place = witnesses.iter().position(|k| AccountId::of(k) == sender);
    let Some(place) = place.filter(|at| !state.is_convicted(&witnesses[*at])) else {
        let why = format!("only those drawn as witnesses of epoch {epoch} are asked");
        return reject(RejectKind::Forbidden, why, "See `runrig lots show`.");
    };
    let key = witnesses[place];
    if state.told_round(&key, epoch, round) {
        let why = format!("this witness has told of round {round}");
        return reject(RejectKind::Conflict, why, "Nothing is left to do.");
    }
    let lines = &statement.lines;
    let in_order = lines.is_sorted_by(|a, b| a.allocation < b.allocation);
    if lines.len() > LINES_MAX || !in_order {
        let why = format!("at most {LINES_MAX} lines are taken, in order, each once");
        return reject(RejectKind::Invalid, why, "Leave the others out.");
    }
    let message = state.look_message(epoch, round);
    if key.verify(&message.0, &statement.lot).is_err() {
        let why = "its lot is not this witness's of this round".into();
        return reject(RejectKind::Signature, why, "Sign the round's own message.");
    }
    Ok(Witness {
        key,
        bit: 1 << place,
        drawn: witnesses.len(),
    })
}

/// What one look at a host says of it; `None`: nothing.
///
/// One answer is enough: what runs there is its owner's affair, that it can be reached the host's.
/// Silence of a replica that takes connections may be its own: it counts if all that was looked
/// at was silent, and more than one account's.
fn word(context: &Context, lines: &[Line]) -> Option<bool> {
    if lines.iter().any(|line| line.saw.is_answer()) {
        return Some(true);
    }
    if lines.iter().any(|line| line.saw != Saw::Silent) {
        return Some(false);
    }
    let payer = |line: &Line| {
        let allocation = context.state.allocations.get(&line.allocation)?;
        let deployment = context.state.deployments.get(&allocation.deployment)?;
        Some(deployment.owner)
    };
    let payers: BTreeSet<AccountId> = lines.iter().filter_map(payer).collect();
    (payers.len() > 1).then_some(false)
}

fn note(
    context: &mut Context,
    witness: &Witness,
    statement: &Statement,
    host: HostId,
    lines: &[Line],
) {
    let Some(answered) = word(context, lines) else {
        return;
    };
    let before = context.state.watched.get(&host).cloned();
    let before = before.unwrap_or_default();
    let mut watched = before.clone();
    if watched.epoch != statement.epoch {
        watched = Watched {
            epoch: statement.epoch,
            suspect: watched.against != 0,
            flag: watched.flag,
            ..Watched::default()
        };
    }
    watched.against &= !witness.bit;
    watched.heard &= !witness.bit;
    if answered {
        watched.heard |= witness.bit;
    } else {
        watched.against |= witness.bit;
    }
    let quorum = lots::quorum(witness.drawn);
    let count = |bits: u32| bits.count_ones() as usize;
    if count(watched.heard) >= quorum {
        watched.suspect = false;
    }
    let now = context.env.time_ms;
    let lately = |flag: &Flag| now.saturating_sub(flag.time_ms) < PAUSE_MS;
    let flagged = count(watched.against) >= quorum && !watched.flag.as_ref().is_some_and(lately);
    if flagged {
        let flag = flag(context, witness, statement, lines, watched.against);
        watched.flag = Some(flag.clone());
        if let Some(record) = context.state.hosts.get_mut(&host) {
            record.record.was_flagged(now);
        }
        context.state.refresh_host(&host);
        context.emit(crate::Event::Witness(Event::HostFlagged { host, flag }));
    }
    if watched != before {
        context.state.watched.insert(host, watched);
    }
}

fn flag(
    context: &Context,
    witness: &Witness,
    statement: &Statement,
    lines: &[Line],
    against: u32,
) -> Flag {
    let all = context.state.witnesses(statement.epoch);
    let said = all.iter().enumerate();
    let said = said.filter(|(at, _)| against & (1 << at) != 0);
    let worst = lines.iter().max_by_key(|line| line.saw);
    Flag {
        height: context.env.height,
        time_ms: context.env.time_ms,
        epoch: statement.epoch,
        round: statement.round,
        allocation: worst.map_or(types::AllocationId(0), |line| line.allocation),
        saw: worst.map_or(Saw::Silent, |line| line.saw),
        witnesses: said.map(|(_, key)| *key).collect(),
        drawn: witness.drawn as u32,
    }
}
