//! Take finalised blocks in order: keep them, move the head, tell who waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use commonware_actor::Feedback;
use commonware_consensus::Reporter;
use commonware_consensus::marshal::Update;
use commonware_runtime::Spawner;
use commonware_utils::Acknowledgement as _;
use commonware_utils::acknowledgement::Exact;
use tokio::sync::mpsc;

use crate::app::{Core, Finalized};
use crate::block::Block;
use crate::boundary::pieces;
use crate::machine::Machine;
use crate::store::Record;

/// Blocks from a saved state to the next, at least: so many are executed again at a start.
const SAVE_EVERY: u64 = 64;
/// And one for so many bytes of it, lest a large state be all that the disk writes.
const SAVED_A_BLOCK: usize = 256 << 10;
/// Votes of so many epochs are kept: who crashed at an epoch's end is asked again for the one
/// before.
const VOTES_KEPT: u64 = 2;
/// So many epochs in a row have no votes before those of older ones are no longer looked for.
const GAP_MAX: u32 = 64;

fn save_every(state_bytes: usize) -> u64 {
    SAVE_EVERY.max((state_bytes / SAVED_A_BLOCK) as u64)
}

/// Writes states down beside the blocks, one at a time: a large one takes longer than blocks may.
struct Saver<E> {
    context: E,
    under_way: Arc<AtomicBool>,
    /// Of the last one.
    bytes: Arc<AtomicUsize>,
    /// Height of the last one, written here or with the block that ends its epoch.
    last: u64,
}

impl<E: Spawner> Saver<E> {
    fn is_due(&self, height: u64) -> bool {
        let every = save_every(self.bytes.load(Ordering::Relaxed));
        height >= self.last + every && !self.under_way.load(Ordering::Relaxed)
    }

    fn written(&mut self, height: u64, bytes: usize) {
        self.last = height;
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn save<M: Machine>(&mut self, core: &Arc<Core<M>>, height: u64, state: &M::State) {
        self.last = height;
        self.under_way.store(true, Ordering::Relaxed);
        let (core, state) = (core.clone(), state.clone());
        let (under_way, bytes) = (self.under_way.clone(), self.bytes.clone());
        let context = self.context.child("save").shared(true);
        context.spawn(move |_| async move {
            let saved = core.machine.save(&state);
            bytes.store(saved.len(), Ordering::Relaxed);
            if let Err(error) = core.store.save(height, &saved) {
                tracing::warn!(%error, height, "the state cannot be saved: the next start takes longer; free the disk");
            }
            under_way.store(false, Ordering::Relaxed);
        });
    }
}

/// Hands blocks to the [`run`] task; the engine bounds how many are under way.
#[derive(Clone)]
pub struct Inbox(pub mpsc::UnboundedSender<(Block, Exact)>);

impl Reporter for Inbox {
    type Activity = Update<Block>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        if let Update::Block(block, ack) = activity {
            // Nobody listens only while the node ends.
            let _ = self.0.send((block.inner().clone(), ack));
        }
        Feedback::Ok
    }
}

/// The engine keeps the votes of each epoch apart, and never forgets them by itself.
async fn forget_votes<F: Future<Output = bool>>(ended: u64, forget: &impl Fn(u64) -> F) {
    let mut gap = 0;
    for epoch in (0..(ended + 1).saturating_sub(VOTES_KEPT)).rev() {
        gap = if forget(epoch).await { 0 } else { gap + 1 };
        if gap == GAP_MAX {
            return;
        }
    }
}

/// Runs until the engine ends, and saves states on tasks of `context`. `certificate` asks for a
/// height's, if there is one; `prune` has the engine forget what is before a height; `forget` takes
/// away an epoch's votes, `false`: there are none.
pub(crate) async fn run<E, M, C, F, V>(
    context: E,
    core: Arc<Core<M>>,
    mut blocks: mpsc::UnboundedReceiver<(Block, Exact)>,
    certificate: C,
    prune: impl Fn(u64),
    forget: impl Fn(u64) -> V,
) where
    E: Spawner,
    M: Machine,
    C: Fn(u64) -> F,
    F: Future<Output = Option<Vec<u8>>>,
    V: Future<Output = bool>,
{
    let mut saver = Saver {
        context,
        under_way: Arc::default(),
        bytes: Arc::default(),
        last: core.store.saved(),
    };
    while let Some((block, ack)) = blocks.recv().await {
        let height = block.header.height;
        core.saw(&block);
        if height <= core.height() {
            ack.acknowledge();
            continue;
        }
        let parent = core.node(&block.header.parent);
        let Some(node) = parent.and_then(|parent| core.check(&parent, &block)) else {
            tracing::error!(
                height,
                "a finalised block does not execute here: this node's state differs from the network's; stop it, move its data away and let it sync anew"
            );
            return;
        };
        let record = Record {
            header: block.header.to_bytes(),
            seal: block.seal,
            certificate: certificate(height).await,
            duty: block.duty.to_bytes(),
            transactions: block.transactions.iter().map(|t| t.to_vec()).collect(),
            outcomes: node.executed.outcomes.clone(),
            events: node.executed.events.clone(),
        };
        let keep = core.keep.map(|keep| (keep, core.epoch_blocks));
        let ends = height == light::epoch_end(block.header.epoch, core.epoch_blocks);
        let state = ends.then(|| core.machine.save(&node.executed.state));
        let pieces = state.as_deref().map(pieces).unwrap_or_default();
        if let Err(error) = core
            .store
            .put(height, &record, state.as_deref(), &pieces, keep)
        {
            tracing::error!(%error, height, "a block cannot be kept; free the disk and start again");
            return;
        }
        if let Some(state) = &state {
            saver.written(height, state.len());
        } else if saver.is_due(height) {
            saver.save(&core, height, &node.executed.state);
        }
        {
            let mut mempool = core.mempool.lock().expect("not poisoned");
            for id in &node.executed.ids {
                mempool.done(id);
            }
        }
        core.head.send_replace(Arc::new(Finalized {
            header: (*block.header).clone(),
            record: Arc::new(record),
            state: node.executed.state.clone(),
        }));
        core.moved.notify_waiters();
        core.nodes
            .lock()
            .expect("not poisoned")
            .retain(|id, n| n.header.height > height || *id == block.id());
        ack.acknowledge();
        if ends {
            forget_votes(block.header.epoch, &forget).await;
        }
        if let Some(keep) = core.keep
            && (ends || height % SAVE_EVERY == 0)
        {
            prune(height.saturating_sub(keep).min(core.store.saved()));
        }
    }
}
