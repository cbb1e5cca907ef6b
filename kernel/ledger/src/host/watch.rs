//! Who is silent, by the votes of those who listen: RFD 12.
//!
//! Hosts speak to the validators beside the ledger. A validator that ceases to hear a host, or
//! hears it again, says so in a transaction; its bit in the host's record is its standing vote.
//! So while nothing changes nothing is written, however many hosts there are.
//!
//! Of n watchers f = ⌊(n-1)/3⌋ may lie. A host is lost when n-f do not hear it, and back when at
//! most f do not. So no f can lose a host that the others hear, nor keep one that they do not,
//! and who leads a block can but leave votes out of it. Between the two the last verdict stands.
//! What a host signs in a block is a sign of life that all have seen: it clears the votes.

use types::{AccountId, HostId};

use super::Host;
use super::apply::lose;
use crate::execute::Context;
use crate::state::Globals;
use crate::{RejectKind, Rejection};

/// Hosts named in one vote.
const OBSERVED_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Silent,
    Heard,
}

impl Globals {
    /// Of the votes that [`Host::silent`] holds; `None`: as before.
    pub(crate) fn verdict(&self, silent: u128) -> Option<Verdict> {
        let all = self.watchers.len() as u32;
        let faulty = all.saturating_sub(1) / 3;
        match silent.count_ones() {
            0 => Some(Verdict::Heard),
            votes if votes >= all - faulty => Some(Verdict::Silent),
            votes if votes <= faulty => Some(Verdict::Heard),
            _ => None,
        }
    }

    /// The bit of `watcher` in [`Host::silent`].
    pub fn watcher_bit(&self, watcher: &AccountId) -> Option<u128> {
        let at = self.watchers.iter().position(|w| w == watcher)?;
        1u128.checked_shl(u32::try_from(at).ok()?)
    }
}

pub(super) fn observe(
    context: &mut Context,
    sender: AccountId,
    silent: Vec<HostId>,
    heard: Vec<HostId>,
) -> Result<(), Rejection> {
    let reject = |kind, why: String, next| Err(Rejection::new(kind, "observation", why, next));
    let Some(bit) = context.state.globals.watcher_bit(&sender) else {
        let why = "only validators that the genesis names as watchers vote on silence".into();
        return reject(RejectKind::Forbidden, why, "Sign with a validator's key.");
    };
    let named = silent.len().saturating_add(heard.len());
    if named > OBSERVED_MAX {
        let why = format!("it names {named} hosts; at most {OBSERVED_MAX} are taken");
        return reject(RejectKind::Invalid, why, "Name the others in the next one.");
    }
    for host in silent {
        vote(context, host, |votes| votes | bit);
    }
    for host in heard {
        vote(context, host, |votes| votes & !bit);
    }
    Ok(())
}

fn vote(context: &mut Context, host: HostId, change: impl Fn(u128) -> u128) {
    let Some(known) = context.state.hosts.get(&host) else {
        return;
    };
    let (before, after, online) = (known.silent, change(known.silent), known.online);
    if before == after {
        return;
    }
    if let Some(record) = context.state.hosts.get_mut(&host) {
        record.silent = after;
    }
    match context.state.globals.verdict(after) {
        Some(Verdict::Silent) if online => {
            context.state.index.silent.insert(host);
        }
        Some(Verdict::Heard) if !online => context.return_online(host),
        _ => {
            context.state.index.silent.remove(&host);
        }
    }
}

/// A host has spoken for itself: no vote stands against that.
pub(super) fn forget_votes(context: &mut Context, host: HostId) {
    context.state.index.silent.remove(&host);
    let voted = context.state.hosts.get(&host).is_some_and(voted_on);
    if voted && let Some(record) = context.state.hosts.get_mut(&host) {
        record.silent = 0;
    }
}

fn voted_on(host: &Host) -> bool {
    host.silent != 0
}

/// Hosts that a quorum does not hear are lost, as many as one block bears.
pub(crate) fn judge(context: &mut Context) {
    const LEASES_MAX: usize = 2_000;
    const HOSTS_MAX: usize = 1_000;
    let condemned: Vec<HostId> = context
        .state
        .index
        .silent
        .iter()
        .take(HOSTS_MAX)
        .copied()
        .collect();
    let mut leases = 0;
    for host in condemned {
        if leases > LEASES_MAX {
            break;
        }
        context.state.index.silent.remove(&host);
        let (_, timeout_ms) = context.state.liveness();
        let last_ms = context.env.time_ms.saturating_sub(timeout_ms);
        leases += lose(context, host, last_ms);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::Call;
    use crate::world::{World, deploy, id, project, service};
    use crate::{Event, Params};

    const WATCHERS: [u8; 4] = [101, 102, 103, 104];

    fn observe(world: &mut World, who: u8, silent: &[u8], heard: &[u8]) -> Result<(), Rejection> {
        let ids = |hosts: &[u8]| hosts.iter().map(|n| id(*n)).collect();
        let call = Call::Observe {
            silent: ids(silent),
            heard: ids(heard),
        };
        world.ask(who, crate::Call::Host(call))
    }

    fn online(world: &World, host: u8) -> bool {
        world.state.hosts.get(&id(host)).is_some_and(|h| h.online)
    }

    /// Two hosts with a replica each.
    fn world() -> World {
        let mut world = World::watched(Params::dev(), &WATCHERS);
        world.host(10, 1000);
        world.host(11, 2000);
        world
    }

    #[test]
    fn a_quorum_loses_a_host_in_the_block_of_its_last_vote() {
        let mut world = world();
        let deployed = world.ask(1, deploy(project("p", &[("a", service(500, 2))])));
        deployed.expect("placed");
        assert_eq!(world.state.allocations_on(&id(10)).count(), 1);
        world.block(5_000, &[]);
        for who in &WATCHERS[..2] {
            observe(&mut world, *who, &[10], &[]).expect("taken");
            observe(&mut world, *who, &[10], &[]).expect("twice is once");
            assert!(online(&world, 10), "two of four do not suffice");
        }
        observe(&mut world, WATCHERS[2], &[10], &[]).expect("taken");
        assert!(!online(&world, 10) && online(&world, 11));
        let lost = crate::host::Event::HostOffline {
            host: id(10),
            last_seen_ms: world.state.time_ms() - Params::dev().host_timeout_ms,
        };
        assert!(world.events.contains(&Event::Host(lost)));
        // Its replica has got another place in the same block.
        let there = |a: &&Event| matches!(a, Event::Deployment(crate::deployment::Event::AllocationPlaced { host, .. }) if *host == id(11));
        assert!(world.events.iter().any(|e| there(&e)));
    }

    #[test]
    fn it_is_back_when_at_most_the_faulty_do_not_hear_it() {
        let mut world = world();
        for who in WATCHERS {
            observe(&mut world, who, &[10], &[]).expect("taken");
        }
        for who in &WATCHERS[..2] {
            observe(&mut world, *who, &[], &[10]).expect("taken");
            assert!(!online(&world, 10), "the verdict stands");
        }
        observe(&mut world, WATCHERS[2], &[], &[10]).expect("taken");
        assert!(online(&world, 10));
        let host = world.state.hosts.get(&id(10)).expect("there");
        assert!(host.trusted_ms > world.state.time_ms(), "on probation");
    }

    #[test]
    fn its_own_word_in_a_block_clears_the_votes() {
        let mut world = world();
        for who in &WATCHERS[..3] {
            observe(&mut world, *who, &[10, 11], &[]).expect("taken");
        }
        let beat = || crate::Call::Host(Call::Heartbeat);
        world.ask(10, beat()).expect("taken");
        assert!(online(&world, 10) && !online(&world, 11));
        observe(&mut world, WATCHERS[3], &[10], &[]).expect("taken");
        assert!(online(&world, 10), "the votes before do not count any more");
    }

    #[test]
    fn silence_on_the_ledger_says_nothing() {
        let mut world = world();
        for _ in 0..20 {
            world.block(1_000, &[]);
        }
        assert!(online(&world, 10) && online(&world, 11));
    }

    #[test]
    fn only_watchers_vote_and_only_so_much() {
        let mut world = world();
        let refused = observe(&mut world, 1, &[10], &[]).map_err(|r| r.kind);
        assert_eq!(refused, Err(RejectKind::Forbidden));
        let refused = observe(&mut world, 10, &[10], &[]).map_err(|r| r.kind);
        assert_eq!(refused, Err(RejectKind::Forbidden));
        let many = vec![10; OBSERVED_MAX + 1];
        let refused = observe(&mut world, 101, &many, &[]).map_err(|r| r.kind);
        assert_eq!(refused, Err(RejectKind::Invalid));
        observe(&mut world, 101, &[77], &[78]).expect("strangers are passed over");
    }

    #[test]
    fn quorums_of_all_sizes() {
        for count in 1..=128usize {
            let watchers: Vec<_> = (0..count).map(|n| AccountId([n as u8; 20])).collect();
            let mut globals = world().state.globals;
            globals.watchers = watchers;
            let faulty = (count - 1) / 3;
            let votes = |n: usize| u128::MAX.checked_shr(128 - n as u32).unwrap_or(0);
            for silent in 0..=count {
                let verdict = globals.verdict(votes(silent));
                assert_eq!(verdict == Some(Verdict::Silent), silent >= count - faulty);
                assert_eq!(verdict == Some(Verdict::Heard), silent <= faulty);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// One liar among four, whatever he votes and whenever: the others are right.
        #[test]
        fn a_liar_neither_loses_nor_keeps_a_host(
            lies in prop::collection::vec((any::<bool>(), 10u8..12), 1..12),
            liar in 0usize..4,
        ) {
            let mut world = world();
            for (at, (silent, host)) in lies.into_iter().enumerate() {
                // Halfway the second host falls silent, and the honest say so.
                if at == 4 {
                    for who in WATCHERS.iter().filter(|w| **w != WATCHERS[liar]) {
                        observe(&mut world, *who, &[11], &[]).expect("taken");
                    }
                }
                let (gone, there) = if silent { (vec![host], vec![]) } else { (vec![], vec![host]) };
                observe(&mut world, WATCHERS[liar], &gone, &there).expect("taken");
                prop_assert!(online(&world, 10));
                prop_assert_eq!(online(&world, 11), at < 4);
            }
        }
    }
}
