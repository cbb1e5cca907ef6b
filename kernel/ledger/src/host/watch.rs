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
//!
//! The watchers of an epoch are its committee. At its turn all of them begin with the verdict that
//! stands: the turn by itself loses no host and brings none back, and whatever does takes as many
//! votes of those who sit. Who hears otherwise says so at once, as it is compared all the time.

use std::collections::BTreeSet;

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

/// The votes of so many watchers on a host of which they agree that the verdict stands.
pub(crate) fn standing(watchers: usize, online: bool) -> u128 {
    let unused = 128u32.saturating_sub(watchers as u32);
    match online {
        true => 0,
        false => u128::MAX.checked_shr(unused).unwrap_or(0),
    }
}

/// Before the transactions of an epoch's first block: who sits in it watches from now on, on a
/// network that is watched.
pub(crate) fn follow_committee(context: &mut Context, epoch: u64) {
    let before: BTreeSet<AccountId> = context.state.globals.watchers.iter().copied().collect();
    let seats = context.state.committee(epoch).unwrap_or_default();
    let now: Vec<AccountId> = seats.iter().map(|seat| AccountId::of(&seat.key)).collect();
    if before.is_empty() || now.is_empty() || before == now.iter().copied().collect() {
        return;
    }
    let hosts = context.state.hosts.iter();
    let anew: Vec<(HostId, u128)> = hosts
        .map(|(id, host)| (*id, host.silent, standing(now.len(), host.online)))
        .filter(|(_, was, is)| was != is)
        .map(|(id, _, is)| (id, is))
        .collect();
    for (id, votes) in anew {
        if let Some(host) = context.state.hosts.get_mut(&id) {
            host.silent = votes;
        }
    }
    context.state.index.silent.clear();
    context.state.globals.watchers = now;
}

pub(super) fn observe(
    context: &mut Context,
    sender: AccountId,
    silent: Vec<HostId>,
    heard: Vec<HostId>,
) -> Result<(), Rejection> {
    let reject = |kind, why: String, next| Err(Rejection::new(kind, "observation", why, next));
    let Some(bit) = context.state.globals.watcher_bit(&sender) else {
        let why = "only validators that sit in this epoch vote on silence".into();
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
    use crate::{Event, Params, State};

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
            excused: false,
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

    const BLOCKS: u64 = 16;

    /// A network whose founders watch: `seated` names who sits from then on.
    fn turning(founders: &[u8]) -> World {
        let params = Params {
            epoch_blocks: BLOCKS,
            ..Params::dev()
        };
        let mut world = World::founded(params, founders, founders);
        world.host(10, 1000);
        world.host(11, 2000);
        world
    }

    /// Goes on into the next epoch, in which `committee` sits.
    fn turn(world: &mut World, committee: &[u8]) {
        let epoch = world.state.epoch() + 1;
        let seats = committee.iter().map(|n| lots::Seat {
            key: crate::world::key(*n).public(),
            address: String::new(),
            since: epoch,
        });
        let lineup = lots::Lineup {
            committee: seats.collect(),
            payroll: Vec::new(),
        };
        let mut drawing = world.state.drawings.get(&epoch).expect("frozen").clone();
        drawing.lineup = Some(lineup);
        world.state.drawings.insert(epoch, drawing);
        world.state = State::load(&world.state.save()).expect("loads");
        while world.state.epoch() < epoch {
            world.block(100, &[]);
        }
    }

    #[test]
    fn who_sits_watches_and_who_left_does_not() {
        let mut world = turning(&WATCHERS);
        for who in WATCHERS {
            observe(&mut world, who, &[10], &[]).expect("taken");
        }
        observe(&mut world, 104, &[11], &[]).expect("taken");
        turn(&mut world, &[104, 105, 106, 107]);
        assert!(!online(&world, 10) && online(&world, 11), "as before");
        let refused = observe(&mut world, 101, &[11], &[]).map_err(|r| r.kind);
        assert_eq!(refused, Err(RejectKind::Forbidden));
        for who in [105, 106] {
            observe(&mut world, who, &[11], &[10]).expect("taken");
        }
        assert!(!online(&world, 10) && online(&world, 11), "two of four");
        observe(&mut world, 107, &[11], &[10]).expect("taken");
        assert!(online(&world, 10) && !online(&world, 11));
        // With the same members votes stay.
        observe(&mut world, 104, &[10], &[11]).expect("taken");
        observe(&mut world, 105, &[10], &[11]).expect("taken");
        turn(&mut world, &[107, 106, 105, 104]);
        observe(&mut world, 106, &[10], &[11]).expect("taken");
        assert!(!online(&world, 10) && online(&world, 11));
    }

    #[derive(Clone, Debug)]
    enum Move {
        /// A watcher of this epoch says what it hears, or lies if it does that.
        Say(usize),
        /// The next epoch, with who is chosen by these numbers.
        Turn(Vec<u8>),
    }

    fn moves() -> impl Strategy<Value = Move> {
        prop_oneof![
            6 => (0usize..7).prop_map(Move::Say),
            1 => prop::collection::btree_set(101u8..111, 1..8)
                .prop_map(|all| Move::Turn(all.into_iter().collect())),
        ]
    }

    /// Of each committee as many lie as may, those with the highest numbers.
    fn lies(committee: &[u8], who: u8) -> bool {
        let faulty = (committee.len() - 1) / 3;
        committee.iter().rev().take(faulty).any(|n| *n == who)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Committees come and go; the honest of each say what is so sooner or later, the others
        /// lie: no turn and no lie loses the host that is there. The dead one does not come back
        /// once it is lost, and the honest of any committee suffice to lose it.
        #[test]
        fn turns_neither_lose_nor_keep_a_host(moves in prop::collection::vec(moves(), 1..40)) {
            let mut committee = WATCHERS.to_vec();
            let mut world = turning(&committee);
            let mut lost = false;
            // 10 is there, 11 is not.
            let say = |world: &mut World, committee: &[u8], who: u8| {
                if (world.state.height() + 1).is_multiple_of(BLOCKS) {
                    turn(world, committee);
                }
                let (silent, heard) = match lies(committee, who) {
                    true => (10, 11),
                    false => (11, 10),
                };
                observe(world, who, &[silent], &[heard]).expect("it watches");
            };
            for one in moves {
                match one {
                    Move::Say(at) => {
                        let who = committee[at % committee.len()];
                        say(&mut world, &committee, who);
                    }
                    Move::Turn(next) => {
                        turn(&mut world, &next);
                        committee = next;
                    }
                }
                prop_assert!(online(&world, 10));
                prop_assert!(!lost || !online(&world, 11));
                lost |= !online(&world, 11);
            }
            // Whatever was before, the honest of one committee suffice.
            for who in committee.clone() {
                if !lies(&committee, who) {
                    say(&mut world, &committee, who);
                }
            }
            prop_assert!(online(&world, 10) && !online(&world, 11));
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
