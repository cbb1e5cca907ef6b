//! The three steps of a drawing, each at its height.

use std::collections::BTreeSet;

use lots::{Candidate, draw};
use types::{Digest, PublicKey};

use super::{Drawing, Event, Founder};
use crate::execute::Context;
use crate::state::State;
use crate::{host, validator};

/// A committee is drawn so many epochs before it sits: one to learn of it, one to be given
/// its shares, and the one of the drawing.
pub const AHEAD: u64 = 3;
/// Drawings of so many past epochs are kept.
const KEPT: u64 = 64;

/// The first epochs are the founders'; the first drawing is from them too.
pub(crate) fn founding(state: &mut State, founders: &[Founder]) {
    validator::founders(state, founders);
    let all = state.validators.iter();
    let candidates: Vec<Candidate> = all.map(|(key, v)| v.candidate(*key)).collect();
    let seats = state.params().seats();
    // Chance has no say: all founders sit.
    let all = lots::Rules {
        seats: candidates.len(),
        ..lots::Rules::of(seats)
    };
    let lineup = draw(0, &candidates, &[], &Digest::default(), all);
    for epoch in 0..AHEAD {
        let drawing = Drawing {
            lineup: Some(lineup.clone()),
            ..Drawing::frozen(candidates.clone(), seats)
        };
        state.drawings.insert(epoch, drawing);
    }
    freeze(state, AHEAD);
}

/// Who may be drawn for `epoch`: those with a fresh ticket who have not been taken off. If that
/// left fewer than two thirds of those who sit before, they stay though their tickets are old: a
/// committee does not melt away because renewals were held up.
fn listed(state: &State, epoch: u64) -> Vec<Candidate> {
    let before = epoch.checked_sub(1).and_then(|e| state.committee(e));
    let sits: BTreeSet<&PublicKey> = before.unwrap_or_default().iter().map(|s| &s.key).collect();
    let there = || state.validators.iter().filter(|(_, v)| v.leaving.is_none());
    let sitting = || there().filter(|(key, _)| sits.contains(key));
    let fresh = sitting().filter(|(_, v)| v.until >= epoch).count();
    let few = fresh * 3 < sitting().count() * 2;
    there()
        .filter(|(key, v)| v.until >= epoch || (few && sits.contains(key)))
        .map(|(key, v)| v.candidate(*key))
        .collect()
}

fn freeze(state: &mut State, epoch: u64) -> Event {
    let drawing = Drawing::frozen(listed(state, epoch), state.params().seats());
    let event = Event::CandidatesFrozen {
        epoch,
        count: drawing.candidates.len() as u32,
        root: drawing.root(),
    };
    state.drawings.insert(epoch, drawing);
    event
}

/// Before the block's transactions.
pub(crate) fn pass_time(context: &mut Context) {
    let blocks = context.state.params().epoch_blocks.max(1);
    let (epoch, at) = (context.env.height / blocks, context.env.height % blocks);
    if at == 0 {
        validator::return_bonds(context, epoch);
        host::follow_committee(context, epoch);
        let event = freeze(&mut context.state, epoch + AHEAD);
        if let Event::CandidatesFrozen { root, .. } = &event {
            context.frozen = Some(*root);
        }
        context.emit(crate::Event::Lots(event));
        if let Some(old) = epoch.checked_sub(KEPT) {
            context.state.drawings.remove(&old);
        }
    }
    let height = context.env.height;
    if let Some(beacon) = context.env.beacon
        && let Some(drawing) = context.state.drawings.get_mut(&(epoch + AHEAD))
    {
        drawing.beacon = Some(beacon);
        drawing.told_at = Some(height);
    }
    if at == blocks / 2 {
        fall(context, epoch + AHEAD);
    }
}

/// The lot falls.
fn fall(context: &mut Context, epoch: u64) {
    let before = context.state.committee(epoch - 1).unwrap_or_default();
    let Some(drawing) = context.state.drawings.get(&epoch) else {
        return;
    };
    let lineup = match &drawing.beacon {
        Some(beacon) => draw(epoch, &drawing.candidates, before, beacon, drawing.rules()),
        None => lots::Lineup {
            committee: before.to_vec(),
            payroll: Vec::new(),
        },
    };
    let beacon = drawing.beacon;
    if let Some(drawing) = context.state.drawings.get_mut(&epoch) {
        drawing.lineup = Some(lineup.clone());
    }
    context.emit(crate::Event::Lots(Event::Drawn {
        epoch,
        beacon,
        lineup,
    }));
}
