//! Propose, verify and remember: what the engine asks of us for each block.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use commonware_consensus::Application;
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_consensus::simplex::types::Context;
use commonware_cryptography::{Digested, ed25519, sha256};
use commonware_parallel::Sequential;
use commonware_runtime::Clock;
use futures::StreamExt;
use light::{Header, Scheme};
use tokio::sync::{Notify, watch};
use types::{Digest, merkle_root};

use crate::block::{Block, payload_root};
use crate::committee::key_bytes;
use crate::machine::{Executed, Machine};
use crate::mempool::Mempool;
use crate::store::{Record, Store};

/// An idle network makes a block this long after the one before.
const IDLE_MS: u64 = 900;
/// When transactions wait, a block comes this long after the one before: they gather.
const BUSY_MS: u64 = 60;
/// A block dated so far ahead of our clock is waited for.
const AHEAD_MS: u64 = 300;
/// A node further behind than so many blocks lets the finalizer catch up before it executes
/// what is proposed, rather than hold all blocks between.
const BEHIND_MAX: u64 = 32;
/// ... unless the finalised head has not moved for so long.
const BEHIND_WAIT: Duration = Duration::from_secs(2);
const BEHIND_LOOK: Duration = Duration::from_millis(50);

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
}

/// Shared by the engine's calls, the finalizer and the handle.
pub(crate) struct Core<M: Machine> {
    pub machine: Arc<M>,
    pub network: Digest,
    pub store: Arc<Store>,
    pub mempool: Mutex<Mempool>,
    /// A transaction has come.
    pub wake: Notify,
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

fn now_ms(clock: &impl Clock) -> u64 {
    clock
        .current()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// The block at height 0: made by everyone alike from the genesis.
pub(crate) fn genesis<M: Machine>(
    machine: &M,
    network: Digest,
    time_ms: u64,
) -> (Block, Executed<M::State>) {
    let executed = machine.genesis();
    let header = Header {
        network,
        height: 0,
        view: 0,
        time_ms,
        parent: Digest::default(),
        proposer: [0; 32],
        payload_root: payload_root(&[]),
        outcomes_root: merkle_root(&executed.outcomes),
        events_root: merkle_root(&executed.events),
        state_root: light::state_root(&Digest::default(), &executed.changes),
    };
    (Block::new(header, Vec::new()), executed)
}

impl<M: Machine> Core<M> {
    pub fn node(&self, id: &Digest) -> Option<Arc<Node<M::State>>> {
        self.nodes.lock().expect("not poisoned").get(id).cloned()
    }

    pub fn height(&self) -> u64 {
        self.head.borrow().header.height
    }

    /// Executes `transactions` on `parent`; the header's roots are what came out.
    fn execute(
        &self,
        parent: &Node<M::State>,
        height: u64,
        time_ms: u64,
        transactions: &[Bytes],
    ) -> Executed<M::State> {
        let known = |id: &Digest| self.mempool.lock().expect("not poisoned").contains(id);
        self.machine.execute(
            &parent.executed.state,
            height,
            time_ms,
            transactions,
            &known,
        )
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
            && header.time_ms > before.time_ms
            && header.view > before.view;
        if !follows {
            tracing::warn!(
                height = header.height,
                "a block does not follow from its parent"
            );
            return None;
        }
        let executed = self.execute(parent, header.height, header.time_ms, &block.transactions);
        let truth = header.outcomes_root == merkle_root(&executed.outcomes)
            && header.events_root == merkle_root(&executed.events)
            && header.state_root == light::state_root(&before.state_root, &executed.changes);
        if !truth {
            tracing::error!(
                height = header.height,
                "a block's roots are not what it executes to"
            );
            return None;
        }
        Some(self.keep(block, executed))
    }

    fn keep(&self, block: &Block, executed: Executed<M::State>) -> Arc<Node<M::State>> {
        let node = Arc::new(Node {
            header: block.header.clone(),
            executed,
        });
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

    /// Waits for its turn: soon if there is something to put into a block.
    async fn pace(&self, clock: &impl Clock, parent: &Node<M::State>, pending: &HashSet<Digest>) {
        loop {
            let woken = self.wake.notified();
            let busy = self.mempool.lock().expect("not poisoned").presses(pending);
            let due = parent.header.time_ms + if busy { BUSY_MS } else { IDLE_MS };
            let Some(left) = due.checked_sub(now_ms(clock)).filter(|ms| *ms > 0) else {
                return;
            };
            let sleep = clock.sleep(Duration::from_millis(left.min(IDLE_MS)));
            if busy {
                return sleep.await;
            }
            tokio::select! {
                biased;
                () = sleep => {}
                () = woken => {}
            }
        }
    }
}

type Consensus = Context<sha256::Digest, ed25519::PublicKey>;

impl<M: Machine, E: Clock> Application<E> for App<M> {
    type SigningScheme = Scheme;
    type Context = Consensus;
    type Block = Block;
    type Input = ();

    async fn propose(
        &mut self,
        context: (E, Consensus),
        ancestry: impl Ancestry<Block>,
        (): (),
    ) -> Option<Digested<Block>> {
        let core = &self.core;
        let (clock, context) = context;
        let parent = core.parent(&clock, ancestry).await?;
        let pending = core.pending(&parent);
        core.pace(&clock, &parent, &pending).await;
        let selected = core.mempool.lock().expect("not poisoned").select(&pending);
        let transactions: Vec<Bytes> = selected.into_iter().map(|(_, bytes)| bytes).collect();
        let before = &parent.header;
        let time_ms = now_ms(&clock).max(before.time_ms + 1);
        let height = before.height + 1;
        let executed = core.execute(&parent, height, time_ms, &transactions);
        let header = Header {
            network: core.network,
            height,
            view: context.round.view().get(),
            time_ms,
            parent: before.digest(),
            proposer: key_bytes(&context.leader),
            payload_root: payload_root(&transactions),
            outcomes_root: merkle_root(&executed.outcomes),
            events_root: merkle_root(&executed.events),
            state_root: light::state_root(&before.state_root, &executed.changes),
        };
        let block = Block::new(header, transactions);
        core.keep(&block, executed);
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
        if header.view != context.round.view().get()
            || header.proposer != key_bytes(&context.leader)
        {
            return false;
        }
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
