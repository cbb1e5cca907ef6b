//! Propose, verify and remember: what the engine asks of us for each block.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use commonware_consensus::Application;
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_consensus::simplex::types::Context;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Digested, ed25519, sha256};
use commonware_glue::dkg::reshare;
use commonware_glue::dkg::types::Payload as PayloadOf;
use commonware_parallel::Sequential;
use commonware_runtime::Clock;
use futures::StreamExt;
use light::{BEACON_BYTES, Duty, Header, Screened};
use tokio::sync::{Notify, watch};
use types::{Digest, PublicKey, Seal, merkle_root};

use crate::block::{
    Block, Directory, Payload, SCREENERS_MAX, payload_bytes, payload_root, read_payload, seats_of,
};
use crate::boundary::Floor;
use crate::clock::{Clocks, agreed, made_ms};
use crate::committee::{Committee, key_bytes};
use crate::epochs::{Seated, first_info};
use crate::leaders;
use crate::lineup::Lineup;
use crate::machine::{Env, Executed, Machine};
use crate::mempool::Mempool;
use crate::once::Sealer;
use crate::scheme::Scheme;
use crate::sightings::Sightings;
use crate::store::{Record, Store};

/// A block dated so far ahead of our clock is waited for.
const AHEAD_MS: u64 = 300;
/// A node further behind than so many blocks lets the finalizer catch up before it executes
/// what is proposed, rather than hold all blocks between.
const BEHIND_MAX: u64 = 32;
/// ... unless the finalised head has not moved for so long.
const BEHIND_WAIT: Duration = Duration::from_secs(2);
const BEHIND_LOOK: Duration = Duration::from_millis(50);

/// Peers' word on proposals is taken for so many views around the newest finalised one.
pub(crate) const TOLD_WITHIN: u64 = 64;

/// A finalised block with the state after it.
pub struct Finalized<S> {
    pub header: Header,
    pub record: Arc<Record>,
    pub state: S,
}

/// An executed block: the parent of those to come.
pub(crate) struct Node<S> {
    pub header: Arc<Header>,
    pub executed: Executed<S>,
    /// Who votes on the next block: identity keys in voting order.
    pub seats: Arc<Vec<[u8; 32]>>,
    /// When its leader made it, by the leader's own clock.
    pub made_ms: u64,
}

impl<S> Node<S> {
    /// Of a block on which `seats` voted; `next` vote from now on, if that changes with it.
    pub fn after(
        seats: Arc<Vec<[u8; 32]>>,
        header: Arc<Header>,
        duty: &Duty,
        next: Option<Vec<[u8; 32]>>,
        executed: Executed<S>,
    ) -> Self {
        let made_ms = made_ms(
            header.time_ms,
            duty.clock.as_ref(),
            &seats,
            &header.proposer,
        );
        Self {
            header,
            executed,
            seats: next.map_or(seats, Arc::new),
            made_ms,
        }
    }
}

/// Shared by the engine's calls, the finalizer and the handle.
pub(crate) struct Core<M: Machine> {
    pub machine: Arc<M>,
    pub network: Digest,
    /// Group key, encoded: checks beacons.
    pub network_key: Vec<u8>,
    pub epoch_blocks: u64,
    /// How many blocks are kept.
    pub keep: Option<u64>,
    /// The newest beacon heard, with its epoch.
    pub beacon: Mutex<Option<(u64, [u8; BEACON_BYTES])>>,
    pub seated: Arc<Seated>,
    pub clocks: Clocks,
    pub sealer: Sealer,
    pub sightings: Sightings,
    /// Figures of the engine as text; empty until it runs, and in simulation.
    pub figures: OnceLock<Box<dyn Fn() -> String + Send + Sync>>,
    pub store: Arc<Store>,
    /// The block at height 0, where the engine begins unless there is a floor.
    pub genesis: Option<Block>,
    /// Where the engine begins; `None`: with the genesis.
    pub floor: Option<Floor>,
    pub mempool: Mutex<Mempool>,
    pub lineup: Lineup,
    /// This validator ends soon: it leads no more.
    pub resting: AtomicBool,
    /// A transaction has come, or it ends.
    pub wake: Notify,
    /// The head has moved, or a term is over: wakes those who wait in the order in which they began to. (A watched
    /// value wakes them in an order that no seed decides.)
    pub moved: Notify,
    /// Executed blocks from the finalised one up, by digest.
    pub nodes: Mutex<BTreeMap<Digest, Arc<Node<M::State>>>>,
    pub head: watch::Sender<Arc<Finalized<M::State>>>,
}

pub(crate) struct App<M: Machine> {
    pub core: Arc<Core<M>>,
}

impl<M: Machine> Clone for App<M> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }
}

pub(crate) fn now_ms(clock: &impl Clock) -> u64 {
    clock
        .current()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// The block at height 0: made by everyone alike from the genesis and the first deal.
pub(crate) fn genesis<M: Machine>(
    machine: &M,
    committee: &Committee,
    network: Digest,
    time_ms: u64,
) -> anyhow::Result<(Block, Executed<M::State>)> {
    let executed = machine.genesis()?;
    let info = first_info(machine, &executed.state, committee)?;
    let seats: Vec<[u8; 32]> = committee.members().collect();
    let duty = Duty {
        ceremony: Some(payload_bytes(&PayloadOf::EpochInfo(info))),
        lineup: leaders::lineup(machine, &executed.state, 0, &seats),
        candidates: executed.candidates,
        ..Duty::default()
    };
    let header = Header {
        network,
        epoch: 0,
        height: 0,
        view: 0,
        parent_view: 0,
        time_ms,
        parent: Digest::default(),
        proposer: committee.members().next().unwrap_or_default(),
        payload_root: payload_root(&[]),
        duty: duty.digest(),
        outcomes_root: merkle_root(&executed.outcomes),
        events_root: merkle_root(&executed.events),
        state_root: machine.root(&executed.state),
    };
    let block =
        Block::new(header, [0; 64], duty, Vec::new()).map_err(|why| anyhow::anyhow!(why))?;
    Ok((block, executed))
}

/// What every validator adds to a block's duty by itself: the candidates it freezes, and at an
/// epoch's end the name of the whole state and the order in which those who sit next lead.
pub(crate) fn completed<M: Machine>(
    machine: &M,
    epoch_blocks: u64,
    height: u64,
    told: &Duty,
    executed: &Executed<M::State>,
) -> Duty {
    let epoch = light::epoch_of(height, epoch_blocks);
    let ends = height == light::epoch_end(epoch, epoch_blocks);
    let seats = told.ceremony.as_deref().filter(|_| ends);
    let seats = seats.and_then(read_payload).and_then(|p| seats_of(&p));
    Duty {
        clock: told.clock.clone(),
        ceremony: told.ceremony.clone(),
        beacon: told.beacon,
        lineup: seats
            .and_then(|seats| leaders::lineup(machine, &executed.state, epoch + 1, &seats)),
        candidates: executed.candidates,
        snapshot: ends.then(|| light::snapshot_root(&machine.save(&executed.state))),
        screened: told.screened.clone(),
    }
}

/// What surrounds the transactions of a block after one of `before_ms`, as its duty tells it.
/// `seats`: who votes on it; `screeners`: those of its epoch.
pub(crate) fn surroundings(
    height: u64,
    before_ms: u64,
    told: &Duty,
    dealt: bool,
    leader: [u8; 32],
    seats: &[[u8; 32]],
    screeners: &[[u8; 32]],
) -> Env {
    let by = |screened: &Screened| {
        let key = screeners.get(usize::from(screened.screener))?;
        Some((*key, screened.transaction))
    };
    let (time_ms, stated) = agreed(before_ms, told.clock.as_ref(), seats);
    Env {
        height,
        time_ms,
        beacon: chance(told.beacon.as_ref()),
        leader,
        dealt,
        stated: stated.into(),
        screened: told.screened.iter().filter_map(by).collect(),
    }
}

/// Whether a block of `epoch` may say of its transactions, which have these `ids`, who brought them: each
/// of the `screeners` at most once, in order, each by its own word and of another transaction: one that pays
/// rewards one who brought it.
pub(crate) fn is_screened(
    network: &Digest,
    epoch: u64,
    screened: &[Screened],
    screeners: &[[u8; 32]],
    ids: &[Digest],
) -> bool {
    let good = |s: &Screened| {
        let key = screeners.get(usize::from(s.screener));
        let id = ids.get(s.transaction as usize);
        key.zip(id)
            .is_some_and(|(key, id)| light::is_screened(key, network, epoch, id, &s.signature))
    };
    let mut named = BTreeSet::new();
    screened.is_sorted_by(|a, b| a.screener < b.screener)
        && screened
            .iter()
            .all(|s| named.insert(s.transaction) && good(s))
}

/// What a beacon's signature comes to.
pub(crate) fn chance(beacon: Option<&[u8; BEACON_BYTES]>) -> Option<Digest> {
    beacon.map(light::beacon_digest)
}

impl<M: Machine> Core<M> {
    pub fn node(&self, id: &Digest) -> Option<Arc<Node<M::State>>> {
        self.nodes.lock().expect("not poisoned").get(id).cloned()
    }

    pub fn height(&self) -> u64 {
        self.head.borrow().header.height
    }

    /// Who leads a view. `None`: who sits then is not known here.
    pub fn leader_of(&self, epoch: u64, view: u64) -> Option<ed25519::PublicKey> {
        let order = self.seated.of(epoch);
        let turn = light::turn_of(epoch, order.len() as u64, view);
        order.get(turn as usize).cloned()
    }

    /// A block that is here, read and so sealed by its leader.
    pub fn saw(&self, block: &Block) {
        if let Some((leader, seal)) = block.sealed()
            && !self.sightings.note_block(leader, seal)
        {
            self.caught(&leader, &seal);
        }
    }

    /// A peer tells of a proposal; nonsense is forgotten.
    pub fn heard_of(&self, leader: PublicKey, seal: Seal) {
        let (epoch, view) = {
            let head = self.head.borrow();
            (head.header.epoch, head.header.view)
        };
        let ahead = match seal.epoch.checked_sub(epoch) {
            Some(0) => seal.view.abs_diff(view),
            Some(1) => seal.view,
            _ => return,
        };
        let led = self.leader_of(seal.epoch, seal.view);
        let led = led.is_some_and(|key| key_bytes(&key) == leader.0);
        if ahead > TOLD_WITHIN || !led || self.sightings.knows(&seal) {
            return;
        }
        if seal.is_by(&leader, &self.network) && !self.sightings.note(leader, seal) {
            self.caught(&leader, &seal);
        }
    }

    fn caught(&self, leader: &PublicKey, seal: &Seal) {
        if *leader == self.sealer.me() {
            tracing::error!(
                epoch = seal.epoch,
                view = seal.view,
                "this validator's seat is in use in another place, too: stop one of them at once; both lead the same views, and that costs the bond"
            );
        } else {
            tracing::warn!(
                %leader,
                epoch = seal.epoch,
                view = seal.view,
                "a leader has sealed two blocks for one view"
            );
        }
    }

    /// May `leader` make a block on `parent`?
    fn may_lead(&self, parent: &Node<M::State>, leader: &[u8; 32]) -> bool {
        let barred = |key: &[u8; 32]| self.machine.is_barred(&parent.executed.state, key);
        !barred(leader) || parent.seats.iter().all(barred)
    }

    /// What this validator's clock shows.
    pub fn now_ms(&self, clock: &impl Clock) -> u64 {
        now_ms(clock).saturating_add_signed(self.clocks.off_ms.load(Ordering::Relaxed))
    }

    /// Executes `transactions` on `parent`; the header's roots are what came out.
    fn execute(
        &self,
        parent: &Node<M::State>,
        env: Env,
        transactions: &[Bytes],
    ) -> Executed<M::State> {
        let known = |id: &Digest| self.mempool.lock().expect("not poisoned").contains(id);
        self.machine
            .execute(&parent.executed.state, env, transactions, &known)
    }

    /// Whether a block on `parent` may say what `duty` says of the beacon.
    fn is_beacon(&self, parent: &Node<M::State>, epoch: u64, duty: &Duty) -> bool {
        duty.beacon.is_none_or(|signature| {
            self.machine.wants_beacon(&parent.executed.state)
                && light::verify_beacon(&self.network_key, epoch, &signature).is_ok()
        })
    }

    /// Executes `block` on `parent` and keeps the result, if its header says the truth.
    pub fn check(&self, parent: &Node<M::State>, block: &Block) -> Option<Arc<Node<M::State>>> {
        if let Some(node) = self.node(&block.id()) {
            return Some(node);
        }
        let header = &block.header;
        let before = &parent.header;
        let follows = header.network == self.network
            && header.height == before.height + 1
            && header.parent == before.digest()
            && header.epoch == light::epoch_of(header.height, self.epoch_blocks)
            && (header.epoch, header.view) > (before.epoch, before.view)
            && self.is_beacon(parent, header.epoch, &block.duty)
            && self.may_lead(parent, &header.proposer)
            && block.duty.clock.as_ref().is_none_or(|clock| {
                let good = clock.check(&self.network, header.height, &parent.seats);
                good.is_ok()
            });
        if !follows {
            tracing::warn!(
                height = header.height,
                "a block does not follow from its parent"
            );
            return None;
        }
        let screeners = self.screeners(parent, header.epoch);
        let env = surroundings(
            header.height,
            before.time_ms,
            &block.duty,
            block.dealt(),
            header.proposer,
            &parent.seats,
            &screeners,
        );
        let time_ms = env.time_ms;
        let executed = self.execute(parent, env, &block.transactions);
        let duty = self.completed(header.height, &block.duty, &executed);
        let (screened, ids) = (&block.duty.screened, &executed.ids);
        let truth = header.duty == duty.digest()
            && is_screened(&self.network, header.epoch, screened, &screeners, ids)
            && header.time_ms == time_ms
            && header.outcomes_root == merkle_root(&executed.outcomes)
            && header.events_root == merkle_root(&executed.events)
            && header.state_root == self.machine.root(&executed.state);
        if !truth {
            tracing::error!(
                height = header.height,
                "a block's roots are not what it executes to"
            );
            return None;
        }
        Some(self.keep(parent, block, executed))
    }

    fn screeners(&self, parent: &Node<M::State>, epoch: u64) -> Vec<[u8; 32]> {
        let mut drawn = self.machine.screeners(&parent.executed.state, epoch);
        drawn.truncate(SCREENERS_MAX);
        drawn
    }

    /// Of each of the `screeners` of `epoch` the first of `ids` that it brought here.
    fn brought(&self, epoch: u64, screeners: &[[u8; 32]], ids: &[Digest]) -> Vec<Screened> {
        let mempool = self.mempool.lock().expect("not poisoned");
        let mut first: BTreeMap<u8, Screened> = BTreeMap::new();
        for (transaction, id) in (0..).zip(ids) {
            let Some(word) = mempool.word(id).filter(|word| word.epoch == epoch) else {
                continue;
            };
            if let Some(screener) = screeners.iter().position(|key| *key == word.key) {
                let screener = screener as u8;
                first.entry(screener).or_insert(Screened {
                    screener,
                    transaction,
                    signature: word.signature,
                });
            }
        }
        first.into_values().collect()
    }

    fn completed(&self, height: u64, told: &Duty, executed: &Executed<M::State>) -> Duty {
        completed(
            self.machine.as_ref(),
            self.epoch_blocks,
            height,
            told,
            executed,
        )
    }

    fn keep(
        &self,
        parent: &Node<M::State>,
        block: &Block,
        executed: Executed<M::State>,
    ) -> Arc<Node<M::State>> {
        let node = Arc::new(Node::after(
            parent.seats.clone(),
            block.header.clone(),
            &block.duty,
            block.seats(),
            executed,
        ));
        self.nodes
            .lock()
            .expect("not poisoned")
            .insert(block.id(), node.clone());
        node
    }

    /// The executed parent of what comes next: executes ancestors that were not yet. `None`:
    /// they are beside the finalised chain, or it has gone past them.
    async fn parent(
        &self,
        clock: &impl Clock,
        mut ancestry: impl Ancestry<Block>,
    ) -> Option<Arc<Node<M::State>>> {
        let mut missing: Vec<Block> = Vec::new();
        let mut node = loop {
            let Some(block) = ancestry.next().await else {
                // Not to be had now says nothing about the block: no vote.
                return std::future::pending().await;
            };
            let block = block.inner().clone();
            let height = block.header.height;
            if missing.is_empty() {
                self.near(clock, height).await;
            }
            let finalised = self.height();
            missing.push(block);
            if let Some(node) = self.resume(&mut missing) {
                break node;
            }
            if height <= finalised {
                return None;
            }
        };
        while let Some(block) = missing.pop() {
            node = self.check(&node, &block)?;
        }
        Some(node)
    }

    /// Returns once the finalised head is near `height`, or stands still.
    async fn near(&self, clock: &impl Clock, height: u64) {
        let (mut finalised, mut still) = (self.height(), Duration::ZERO);
        while finalised + BEHIND_MAX < height && still < BEHIND_WAIT {
            clock.sleep(BEHIND_LOOK).await;
            let now = self.height();
            still = if now == finalised {
                still + BEHIND_LOOK
            } else {
                Duration::ZERO
            };
            finalised = now;
        }
    }

    /// The newest executed block of `missing` (newest first), which then holds only those
    /// after it. Under one lock: the finalised head is always among the executed.
    fn resume(&self, missing: &mut Vec<Block>) -> Option<Arc<Node<M::State>>> {
        let nodes = self.nodes.lock().expect("not poisoned");
        let at = missing.iter().position(|b| nodes.contains_key(&b.id()))?;
        let node = nodes.get(&missing[at].id()).cloned();
        missing.truncate(at);
        node
    }

    /// Whether `block` is on the finalised chain.
    fn is_finalised(&self, block: &Block) -> bool {
        let height = block.header.height;
        height <= self.height()
            && self
                .store
                .block(height)
                .ok()
                .flatten()
                .is_some_and(|kept| kept.header == block.header.to_bytes())
    }

    /// Transactions in blocks between the finalised head and `node`.
    fn pending(&self, node: &Arc<Node<M::State>>) -> HashSet<Digest> {
        let nodes = self.nodes.lock().expect("not poisoned");
        let finalised = self.height();
        let mut all = HashSet::new();
        let mut at = Some(node.clone());
        while let Some(node) = at.filter(|n| n.header.height > finalised) {
            all.extend(node.executed.ids.iter().copied());
            at = nodes.get(&node.header.parent).cloned();
        }
        all
    }

    pub fn rests(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Waits for its turn: soon if there is something to put into a block.
    async fn pace(&self, clock: &impl Clock, parent: &Node<M::State>, pending: &HashSet<Digest>) {
        // Who says that his block is of the future is not waited for longer than others.
        let made_ms = parent.made_ms.min(now_ms(clock));
        let pace = self.machine.pace(&parent.executed.state);
        loop {
            let woken = self.wake.notified();
            let busy = self.mempool.lock().expect("not poisoned").presses(pending);
            let due = made_ms + if busy { pace.busy_ms } else { pace.idle_ms };
            let Some(left) = due.checked_sub(now_ms(clock)).filter(|ms| *ms > 0) else {
                return;
            };
            let sleep = clock.sleep(Duration::from_millis(left.min(pace.idle_ms)));
            if busy {
                return sleep.await;
            }
            tokio::select! {
                biased;
                () = sleep => {}
                () = woken => {}
            }
            if self.rests() {
                return;
            }
        }
    }
}

type Consensus = Context<sha256::Digest, ed25519::PublicKey>;

impl<M: Machine, E: Clock> Application<E> for App<M> {
    type SigningScheme = Scheme;
    type Context = Consensus;
    type Block = Block;
    type Input = reshare::Input<(), MinSig, ed25519::PrivateKey, Directory>;

    async fn propose(
        &mut self,
        context: (E, Consensus),
        ancestry: impl Ancestry<Block>,
        input: Self::Input,
    ) -> Option<Digested<Block>> {
        let core = &self.core;
        let (clock, context) = context;
        let parent = core.parent(&clock, ancestry).await?;
        let pending = core.pending(&parent);
        core.pace(&clock, &parent, &pending).await;
        if core.rests() {
            // The others hear so and go on with the next leader at once.
            return None;
        }
        let selected = core.mempool.lock().expect("not poisoned").select(&pending);
        let (ids, transactions): (Vec<Digest>, Vec<Bytes>) = selected.into_iter().unzip();
        let before = &parent.header;
        let height = before.height + 1;
        let epoch = context.round.epoch().get();
        let heard = *core.beacon.lock().expect("not poisoned");
        core.clocks.state(core.height(), core.now_ms(&clock));
        let screeners = core.screeners(&parent, epoch);
        let told = Duty {
            clock: core.clocks.of(height, &parent.seats),
            ceremony: input.payload.as_ref().map(|p: &Payload| payload_bytes(p)),
            beacon: heard
                .filter(|(of, _)| *of == epoch && core.machine.wants_beacon(&parent.executed.state))
                .map(|(_, signature)| signature),
            screened: core.brought(epoch, &screeners, &ids),
            ..Duty::default()
        };
        let dealt = matches!(input.payload, Some(Payload::DealerLog(_)));
        let leader = key_bytes(&context.leader);
        let env = surroundings(
            height,
            before.time_ms,
            &told,
            dealt,
            leader,
            &parent.seats,
            &screeners,
        );
        let time_ms = env.time_ms;
        let executed = core.execute(&parent, env, &transactions);
        let duty = core.completed(height, &told, &executed);
        let header = Header {
            network: core.network,
            epoch,
            height,
            view: context.round.view().get(),
            parent_view: context.parent.0.get(),
            time_ms,
            parent: before.digest(),
            proposer: leader,
            payload_root: payload_root(&transactions),
            duty: duty.digest(),
            outcomes_root: merkle_root(&executed.outcomes),
            events_root: merkle_root(&executed.events),
            state_root: core.machine.root(&executed.state),
        };
        let Some(seal) = core.sealer.seal(&header) else {
            tracing::warn!(
                height,
                "this turn is left out: another block was proposed in it"
            );
            return None;
        };
        let block = Block::new(header, seal.signature.0, duty, transactions).ok()?;
        core.saw(&block);
        core.keep(&parent, &block, executed);
        Some(Digested::compute(block, &Sequential).await)
    }

    async fn verify(
        &mut self,
        context: (E, Consensus),
        mut ancestry: impl Ancestry<Block>,
    ) -> bool {
        let core = &self.core;
        let (clock, context) = context;
        let Some(block) = ancestry.next().await.map(|b| b.inner().clone()) else {
            return std::future::pending().await;
        };
        let header = &block.header;
        if header.epoch != context.round.epoch().get()
            || header.view != context.round.view().get()
            || header.parent_view != context.parent.0.get()
            || header.proposer != key_bytes(&context.leader)
        {
            return false;
        }
        core.saw(&block);
        // Not wrong, only early: its vote waits until our clock agrees.
        loop {
            let ahead = header.time_ms.saturating_sub(now_ms(&clock) + AHEAD_MS);
            if ahead == 0 {
                break;
            }
            clock.sleep(Duration::from_millis(ahead.min(10_000))).await;
        }
        match core.parent(&clock, ancestry).await {
            Some(parent) => core.check(&parent, &block).is_some(),
            None => core.is_finalised(&block),
        }
    }
}
