//! Take transactions to those who make the next blocks, and to nobody else.
//!
//! A transaction goes, unicast, to the leaders of the next [`AHEAD`] terms (views): so many messages,
//! however many validators there are. If all of those terms are over, with a block or without,
//! and it is in none, it goes to the leaders of the next ones, and so on. Whoever it was submitted
//! to sends it on, nobody else. See RFD 22.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use borsh::BorshDeserialize as _;
use bytes::Bytes;
use commonware_cryptography::ed25519;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::Clock;
use tokio::sync::mpsc;
use types::Digest;

use crate::app::Core;
use crate::block::TRANSACTION_BYTES_MAX;
use crate::machine::Machine;
use crate::node::queue;

/// A transaction goes to the leaders of so many coming terms.
pub(crate) const AHEAD: u64 = 3;
/// Transactions travel in batches of at most this many bytes.
pub(crate) const BATCH_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX;
const BATCH_MAX: usize = 2_000;
/// Transactions gather for so long between batches: the network refuses more than its rate.
const BATCH_PAUSE: Duration = Duration::from_millis(10);

/// Epoch and view: in each, one validator leads.
pub(crate) type Term = (u64, u64);

/// What is known here of terms, and what sending on has cost.
#[derive(Default)]
pub(crate) struct Lineup {
    /// The newest term that is over, with a block or without.
    over: Mutex<Term>,
    /// Messages, to one leader each.
    messages: AtomicU64,
}

impl Lineup {
    /// Messages sent since the start.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// `true` if that was not known yet.
    fn note_over(&self, term: Term) -> bool {
        let mut over = self.over.lock().expect("not poisoned");
        let later = term > *over;
        *over = term.max(*over);
        later
    }
}

impl<M: Machine> Core<M> {
    /// A certificate shows that `term` is over.
    pub fn term_over(&self, term: Term) {
        if self.lineup.note_over(term) {
            self.moved.notify_waiters();
        }
    }

    /// The finalised head's term, or, as views are counted anew in each epoch, what comes before
    /// the first of the next one.
    pub fn head_term(&self) -> Term {
        let head = self.head.borrow();
        let (epoch, height) = (head.header.epoch, head.header.height);
        match height == light::epoch_end(epoch, self.epoch_blocks) {
            true => (epoch + 1, 0),
            false => (epoch, head.header.view),
        }
    }

    /// The newest term that is over, as far as is known here.
    pub fn newest_over(&self) -> Term {
        self.head_term()
            .max(*self.lineup.over.lock().expect("not poisoned"))
    }

    /// The terms after `over`, and who leads each.
    pub fn leaders_after(&self, (epoch, view): Term) -> Vec<(Term, ed25519::PublicKey)> {
        let many = self.seated.of(epoch).len() as u64;
        let ahead = (1..=AHEAD.min(many)).map(|n| (epoch, view + n));
        ahead
            .filter_map(|term| Some((term, self.leader_of(term.0, term.1)?)))
            .collect()
    }
}

/// Messages of at most [`BATCH_BYTES_MAX`] bytes.
fn packed(transactions: impl Iterator<Item = Bytes>) -> Vec<Vec<u8>> {
    let encode = |batch: &Vec<Bytes>| {
        let batch: Vec<&[u8]> = batch.iter().map(Bytes::as_ref).collect();
        borsh::to_vec(&batch).expect("writing to memory does not fail")
    };
    let (mut messages, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for transaction in transactions {
        let more = transaction.len() + 4;
        if bytes + more + 4 > BATCH_BYTES_MAX {
            messages.push(encode(&std::mem::take(&mut batch)));
            bytes = 0;
        }
        bytes += more;
        batch.push(transaction);
    }
    if !batch.is_empty() {
        messages.push(encode(&batch));
    }
    messages
}

/// Waits for what is to be sent on next, and to whom: what is new to the leaders of the next terms; and
/// what still waits when all whom it was sent to have had their terms, to those who come after them.
/// `seen`: the newest term that was over the last time. `None`: nobody can submit any more.
pub(crate) async fn gather<M: Machine>(
    core: &Core<M>,
    forwarded: &mut mpsc::Receiver<(Digest, Bytes)>,
    seen: &mut Term,
) -> Option<(Vec<ed25519::PublicKey>, Vec<(Digest, Bytes)>)> {
    let mut batch = Vec::new();
    let over = loop {
        let moved = core.moved.notified();
        let over = core.newest_over();
        if over > *seen {
            let height = core.height();
            batch = core
                .mempool
                .lock()
                .expect("not poisoned")
                .left(height, over);
            *seen = over;
            break over;
        }
        tokio::select! {
            biased;
            count = forwarded.recv_many(&mut batch, BATCH_MAX) => match count {
                0 => return None,
                _ => break over,
            },
            () = moved => {}
        }
    };
    let leaders = core.leaders_after(over);
    if let Some((last, _)) = leaders.last() {
        let mut mempool = core.mempool.lock().expect("not poisoned");
        // Some of what is new may be in a block by now, or have been told of as left over.
        batch.retain(|(id, _)| mempool.tell(id, over, *last));
    }
    let leaders = leaders.into_iter().map(|(_, leader)| leader).collect();
    Some((leaders, batch))
}

/// Sends on what is submitted here, as [`gather`] says. Ends when nobody can submit any more.
pub(crate) async fn send_on<M: Machine>(
    core: &Core<M>,
    clock: &impl Clock,
    mut forwarded: mpsc::Receiver<(Digest, Bytes)>,
    mut sender: impl Sender<PublicKey = ed25519::PublicKey>,
    me: &ed25519::PublicKey,
) {
    let mut seen = core.newest_over();
    while let Some((leaders, batch)) = gather(core, &mut forwarded, &mut seen).await {
        let to: Vec<_> = leaders.into_iter().filter(|leader| leader != me).collect();
        for message in packed(batch.into_iter().map(|(_, bytes)| bytes)) {
            // Whoever is not reached is one term less: those after are told.
            let told = sender.send(Recipients::Some(to.clone()), message, false);
            let messages = &core.lineup.messages;
            messages.fetch_add(told.len() as u64, Ordering::Relaxed);
        }
        clock.sleep(BATCH_PAUSE).await;
    }
}

/// Queues what others send. Ends with the network.
pub(crate) async fn receive<M: Machine>(core: &Core<M>, mut receiver: impl Receiver) {
    while let Ok((_, bytes)) = receiver.recv().await {
        let Ok(batch) = Vec::<Vec<u8>>::try_from_slice(bytes.as_ref()) else {
            continue;
        };
        let batch: Vec<Bytes> = batch.into_iter().take(BATCH_MAX).map(Bytes::from).collect();
        // What is refused here was refused to its sender, or raced with a block.
        let _ = queue(core, &batch, false);
    }
}
