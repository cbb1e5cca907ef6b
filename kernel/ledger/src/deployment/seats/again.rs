//! A replica that its host could not make ready is tried again, elsewhere while there is somewhere
//! else, after pauses that grow.
//!
//! A host tries again by itself as long as it believes in it. What is left here is what it gave up,
//! or what it cannot see to be its own fault: a registry that only it does not reach, a full disk,
//! an engine that is broken. Who ended by himself, was ready once, or was stopped for using more
//! than he may, rests as his policy says; what keeps data stays where the data is.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{HostId, RunState, ServiceSpec};

use super::{Member, PROGRESS_MS, RESTARTS_MAX, Tending, Verdict};
use crate::deployment::Event;
use crate::deployment::place::volumes;
use crate::execute::Context;

/// From the first failure to the next try.
const PAUSE_MS: u64 = 30_000;
/// Pauses double up to this.
const PAUSE_MAX_MS: u64 = 3_600_000;
/// Hosts remembered, the last: who has failed on so many fails everywhere.
const HOSTS_MAX: usize = 8;

/// What was tried for a seat since a replica was good there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Tried {
    pub service: String,
    pub replica: u32,
    /// Of this release; another one begins anew.
    pub release: u32,
    pub times: u32,
    /// Where it failed, the last in the end: it goes there again only if it fits nowhere else.
    pub hosts: Vec<HostId>,
}

impl Tried {
    pub(super) fn is_of(&self, seat: (&str, u32), release: u32) -> bool {
        self.service == seat.0 && self.replica == seat.1 && self.release == release
    }
}

fn pause_ms(times: u32) -> u64 {
    let doubled = 1u64.checked_shl(times).unwrap_or(u64::MAX);
    PAUSE_MS.saturating_mul(doubled).min(PAUSE_MAX_MS)
}

impl Tending {
    /// One is good: what was tried before counts no more.
    pub(super) fn forget_tried(&mut self, seat: (&str, u32)) {
        let release = self.deployment.release;
        self.tried.retain(|t| !t.is_of(seat, release));
    }

    /// Nobody in the seat is good, and `members` are where they should be: if all have failed for
    /// good, and long enough ago, they end, and the seat is empty: `true`.
    pub(super) fn try_again(
        &mut self,
        context: &mut Context,
        seat: (&str, u32),
        service: &ServiceSpec,
        members: &[Member],
    ) -> bool {
        // A release that fails is its policy's matter while there is another to go back to.
        let replaces = self.deployment.rollout.is_some() && self.deployment.good > 0;
        if replaces || service.build.is_some() || volumes(service).next().is_some() {
            return false;
        }
        let mut last = None;
        for member in members {
            let Verdict::Failed(why) = &member.verdict else {
                return false;
            };
            let Some(since_ms) = given_up(context, member) else {
                return false;
            };
            if last.is_none_or(|(ms, _, _)| ms <= since_ms) {
                last = Some((since_ms, member, why));
            }
        }
        let Some((since_ms, member, why)) = last else {
            return false;
        };
        let release = self.deployment.release;
        let before = self.tried.iter().position(|t| t.is_of(seat, release));
        let times = before.map_or(0, |at| self.tried[at].times);
        let due_ms = since_ms.saturating_add(pause_ms(times));
        if due_ms > context.env.time_ms {
            self.look(due_ms);
            return false;
        }
        let mut tried = match before {
            Some(at) => self.tried.remove(at),
            None => Tried {
                service: seat.0.into(),
                replica: seat.1,
                release,
                times: 0,
                hosts: Vec::new(),
            },
        };
        tried.times = tried.times.saturating_add(1);
        tried.hosts.retain(|host| *host != member.host);
        tried.hosts.push(member.host);
        let many = tried.hosts.len();
        tried.hosts.drain(..many.saturating_sub(HOSTS_MAX));
        context.emit(crate::Event::Deployment(Event::TriedAgain {
            deployment: self.id,
            allocation: member.id,
            service: seat.0.into(),
            replica: seat.1,
            host: member.host,
            times: tried.times,
            why: why.clone(),
        }));
        self.tried.push(tried);
        for member in members {
            self.end(context, member.id);
        }
        true
    }
}

/// Since when a failed replica waits for nothing more: it was never ready, and did not end by
/// itself.
fn given_up(context: &Context, member: &Member) -> Option<u64> {
    let allocation = context.state.allocations.get(&member.id)?;
    let status = &allocation.status;
    if allocation.was_ready || status.state == RunState::Exited {
        return None;
    }
    // A host that goes on trying has the time from when it last said something new.
    let tries = status.state != RunState::Failed && status.restarts < RESTARTS_MAX;
    let longer_ms = if tries { PROGRESS_MS } else { 0 };
    Some(allocation.status_ms.saturating_add(longer_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let all: Vec<u64> = (0..9).map(|n| pause_ms(n) / 1_000).collect();
        assert_eq!(all, [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        assert_eq!(pause_ms(u32::MAX), PAUSE_MAX_MS);
    }
}
