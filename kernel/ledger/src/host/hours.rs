//! Hosts open and close by the hours that their owners set (RFD 27).
//!
//! - Hours are of the agreed time: all nodes turn a host in the same block.
//! - A host that closes takes nothing new, and what runs there moves as with a drain, each replica
//!   once its successor is good; what has volumes there, and what fits nowhere else, stays. The
//!   drain that an owner asks for by hand is another matter, and neither undoes the other.
//! - Nothing is begun on a host that closes soon: it would move at once.
//! - A host that is away outside its hours loses no name by it, if they were said before.

use types::{HostId, Hours};

use super::{Event, Host};
use crate::execute::Context;

/// Nothing new is placed on a host that closes within so long.
pub const LEAD_MS: u64 = 600_000;
/// Hours count for a host's name only so long after they were said: nobody sets them while his
/// machine goes down, and has promised nothing.
const NOTICE_MS: u64 = 3_600_000;
/// Hosts that open or close in one block, and leases on them but for those of the last one.
const TURN_MAX: usize = 1_000;
const LEASES_MAX: usize = 2_000;

impl Host {
    /// As far as it is up to its owner.
    pub(crate) fn wants_work(&self) -> bool {
        !(self.cordoned || self.draining || self.closed || self.closing)
    }

    /// Outside hours that it said in good time.
    pub(crate) fn may_be_away(&self, now_ms: u64) -> bool {
        self.closed && self.hours_ms.saturating_add(NOTICE_MS) <= now_ms
    }

    /// Since when it should have been there; 0 if it always should.
    pub(crate) fn opened_ms(&self, now_ms: u64) -> u64 {
        let said_ms = self.hours_ms.saturating_add(NOTICE_MS);
        let Some(hours) = self.hours.filter(|_| said_ms <= now_ms) else {
            return 0;
        };
        match hours.is_open(now_ms) {
            true => hours.since(now_ms).unwrap_or(0),
            false => now_ms,
        }
    }
}

/// Whether a host is closed, whether it will be soon, and when to look again (0: never).
fn gate(hours: Option<&Hours>, now_ms: u64) -> (bool, bool, u64) {
    let change = hours.and_then(|h| Some((h, h.changes_after(now_ms)?)));
    let Some((hours, change_ms)) = change else {
        return (false, false, 0);
    };
    let closed = !hours.is_open(now_ms);
    let left_ms = change_ms - now_ms;
    match (closed, left_ms <= LEAD_MS) {
        (true, _) => (true, false, change_ms),
        (false, true) => (false, true, change_ms),
        (false, false) => (false, false, change_ms - LEAD_MS),
    }
}

/// The caller has checked who asks.
pub(super) fn set(context: &mut Context, id: HostId, hours: Option<Hours>) {
    let now = context.env.time_ms;
    if let Some(host) = context.state.hosts.get_mut(&id) {
        host.hours = hours;
        host.hours_ms = now;
    }
    context.emit(crate::Event::Host(Event::HostHours { host: id, hours }));
    turn(context, id);
}

/// Hosts whose hours begin or end, as many as one block bears.
pub(super) fn pass_time(context: &mut Context) {
    let now = context.env.time_ms;
    let due = context.state.index.turns.iter();
    let due: Vec<HostId> = due
        .take_while(|(at, _)| *at <= now)
        .take(TURN_MAX)
        .map(|(_, id)| *id)
        .collect();
    let mut leases = 0;
    for id in due {
        if leases > LEASES_MAX {
            break;
        }
        leases += context.state.allocations_on(&id).count();
        turn(context, id);
    }
}

/// The host is as its hours say.
fn turn(context: &mut Context, id: HostId) {
    let now = context.env.time_ms;
    let Some(host) = context.state.hosts.get_mut(&id) else {
        return;
    };
    let (hours, online) = (host.hours, host.online);
    let (closed, closing, turn_ms) = gate(hours.as_ref(), now);
    let (before, was_closed) = (host.turn_ms, host.closed);
    (host.closed, host.closing, host.turn_ms) = (closed, closing, turn_ms);
    context.state.index.turns.remove(&(before, id));
    if turn_ms > 0 {
        context.state.index.turns.insert((turn_ms, id));
    }
    context.state.refresh_host(&id);
    if closed == was_closed {
        return;
    }
    context.touch_all_on(&id);
    let event = match closed {
        true => Event::HostClosed {
            host: id,
            until_ms: turn_ms,
        },
        false => Event::HostOpened {
            host: id,
            until_ms: hours.and_then(|h| h.changes_after(now)),
            missed_ms: (!online).then_some(now),
        },
    };
    context.emit(crate::Event::Host(event));
}

#[cfg(test)]
mod tests;
