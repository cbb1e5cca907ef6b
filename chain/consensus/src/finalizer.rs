//! Take finalised blocks in order: keep them, move the head, tell who waits.

use std::sync::Arc;

use commonware_actor::Feedback;
use commonware_consensus::Reporter;
use commonware_consensus::marshal::Update;
use commonware_utils::Acknowledgement as _;
use commonware_utils::acknowledgement::Exact;
use tokio::sync::mpsc;

use crate::app::{Core, Finalized};
use crate::block::Block;
use crate::boundary::pieces;
use crate::machine::Machine;
use crate::store::Record;

/// The state is saved with every block of this many.
const SAVE_EVERY: u64 = 64;

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

/// Runs until the engine ends. `certificate` asks for a height's, if there is one; `prune` has the
/// engine forget what is before a height.
pub(crate) async fn run<M, C, F>(
    core: Arc<Core<M>>,
    mut blocks: mpsc::UnboundedReceiver<(Block, Exact)>,
    certificate: C,
    prune: impl Fn(u64),
) where
    M: Machine,
    C: Fn(u64) -> F,
    F: Future<Output = Option<Vec<u8>>>,
{
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
        let saves = ends || height % SAVE_EVERY == 0;
        let state = saves.then(|| core.machine.save(&node.executed.state));
        let pieces = match &state {
            Some(state) if ends => pieces(state),
            _ => Vec::new(),
        };
        if let Err(error) = core.store.put(height, &record, state, &pieces, keep) {
            tracing::error!(%error, height, "a block cannot be kept; free the disk and start again");
            return;
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
        if let Some(keep) = core.keep
            && saves
        {
            prune(height.saturating_sub(keep));
        }
    }
}
