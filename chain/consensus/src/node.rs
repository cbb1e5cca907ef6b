//! Start a validator from its folder; and the handle to it.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use commonware_runtime::Runner as _;
use light::{Duty, Header};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use types::{Digest, DoubleProposal, merkle_root};

use crate::app::{Core, Finalized, Node, completed, genesis, surroundings};
use crate::block::{Block, Payload, TRANSACTION_BYTES_MAX, read_payload, seats_of};
use crate::boundary::{Named, Offer};
use crate::clock::Clocks;
use crate::committee::{Committee, Member, Seat};
use crate::epochs::KeyShare;
use crate::lineup::Lineup;
use crate::machine::{Executed, Machine};
use crate::mempool::{Mempool, Queue, SubmitError, Word};
use crate::once::Sealer;
use crate::sightings::Sightings;
use crate::store::{Record, Store};
use crate::vault::{Vault, replace};
use crate::wiring::on_tokio;

const WORKERS: usize = 2;
/// Transactions on their way to the network task.
const FORWARDED_MAX: usize = 8_000;

pub struct Config {
    /// All of the node's state.
    pub data: PathBuf,
    pub committee: Committee,
    pub seat: Seat,
    pub listen: SocketAddr,
    /// Where others are, if not where the ledger says.
    pub addresses: Vec<Member>,
    /// Blocks of an epoch: the same on every validator.
    pub epoch_blocks: NonZeroU64,
    /// Digest of the genesis.
    pub network: Digest,
    pub genesis_ms: u64,
    /// How many blocks are kept, the newest; `None`: all. See [`keep_least`].
    pub keep: Option<NonZeroU64>,
}

/// Fewer blocks than this no validator keeps: what it needs itself after a restart, and what
/// newcomers begin with, are of the last epochs.
pub fn keep_least(epoch_blocks: u64) -> u64 {
    epoch_blocks.saturating_mul(4)
}

/// A running validator. Cheap to clone; the node ends when [`Handle::stop`] is called or the
/// process does.
pub struct Handle<M: Machine> {
    pub(crate) core: Arc<Core<M>>,
    forward: mpsc::Sender<(Digest, Bytes)>,
    stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    ended: watch::Receiver<()>,
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            forward: self.forward.clone(),
            stop: self.stop.clone(),
            ended: self.ended.clone(),
        }
    }
}

impl<M: Machine> Handle<M> {
    /// Queues a transaction here and with the next leaders. `Ok`: its id; it was good against
    /// the latest state, which does not yet mean that it will be applied.
    pub fn submit(&self, transaction: Bytes) -> Result<Digest, SubmitError> {
        let mut answers = self.submit_many(vec![transaction]);
        answers.pop().expect("one answer for each")
    }

    /// As [`Self::submit`] for many, one answer for each, in order. Takes some 15 µs of CPU
    /// for each: for a thread that may block.
    pub fn submit_many(&self, transactions: Vec<Bytes>) -> Vec<Result<Digest, SubmitError>> {
        let queued = queue(&self.core, &transactions, true);
        let answer = |(transaction, queued): (Bytes, Result<Queued, SubmitError>)| {
            let queued = queued?;
            if queued.fresh {
                // A full queue delays: what is not included is sent on again.
                let _ = self.forward.try_send((queued.id, transaction));
            }
            Ok(queued.id)
        };
        transactions.into_iter().zip(queued).map(answer).collect()
    }

    /// As [`Self::submit_many`], with the word of the validator with `key`, screener of `epoch`, on each:
    /// what [`light::screen`] made. Words that do not hold count for nothing; the transactions are judged alike.
    pub fn submit_screened(
        &self,
        transactions: Vec<Bytes>,
        key: [u8; 32],
        epoch: u64,
        words: &[[u8; 64]],
    ) -> Vec<Result<Digest, SubmitError>> {
        let answers = self.submit_many(transactions);
        let core = &self.core;
        let head = self.head();
        let now = light::epoch_of(head.header.height + 1, core.epoch_blocks);
        if epoch != now || !core.machine.screeners(&head.state, epoch).contains(&key) {
            return answers;
        }
        for (id, signature) in answers.iter().zip(words) {
            let Ok(id) = id else { continue };
            if light::is_screened(&key, &core.network, epoch, id, signature) {
                let word = Word {
                    key,
                    epoch,
                    signature: *signature,
                };
                core.mempool.lock().expect("not poisoned").note(id, word);
            }
        }
        answers
    }

    /// The latest finalised block.
    pub fn head(&self) -> Arc<Finalized<M::State>> {
        self.core.head.borrow().clone()
    }

    /// Wakes at each new head. Whoever was too slow reads the rest with [`Self::block`].
    pub fn subscribe(&self) -> watch::Receiver<Arc<Finalized<M::State>>> {
        self.core.head.subscribe()
    }

    /// A past finalised block, from disk.
    pub fn block(&self, height: u64) -> Result<Option<Record>> {
        self.core.store.block(height)
    }

    /// From this height on all blocks are kept here: 0 unless it began with a later state, or
    /// keeps only the last. Of those before, it has what says who sat and what was drawn.
    pub fn begins(&self) -> u64 {
        match self.core.floor {
            Some(_) => self.core.store.begun(),
            None => self.core.store.pruned(),
        }
    }

    /// What newcomers may start from: the newest epoch's end that has all that they need.
    pub fn offer(&self) -> Result<Option<Offer>> {
        let store = &self.core.store;
        for (height, pieces) in store.offered()? {
            let Some(record) = store.block(height)?.filter(|r| r.certificate.is_some()) else {
                continue;
            };
            let before = match height.checked_sub(self.core.epoch_blocks) {
                None => None,
                Some(before) => {
                    let record = store.block(before)?;
                    let named = record.and_then(|r| {
                        Some(Named {
                            certificate: r.certificate?,
                            header: r.header,
                            duty: r.duty,
                        })
                    });
                    let Some(named) = named else { continue };
                    Some(named)
                }
            };
            return Ok(Some(Offer {
                record,
                before,
                pieces,
            }));
        }
        Ok(None)
    }

    /// Canonical bytes of piece `number` of the state offered at `height`.
    pub fn piece(&self, height: u64, number: u32) -> Result<Option<Vec<u8>>> {
        self.core.store.piece(height, number)
    }

    /// This validator's part of the network key now; `None` while it has none.
    pub fn key_share(&self) -> Option<KeyShare> {
        self.core.seated.key_share()
    }

    /// Proofs against leaders of two blocks for one view, as far as this validator saw both since
    /// it started; of its own key, too, if that is in use elsewhere.
    pub fn doubles(&self) -> Vec<DoubleProposal> {
        self.core.sightings.doubles()
    }

    /// From now on it states a time that is so much off.
    #[cfg(feature = "simulation")]
    pub fn lie_about_time(&self, off_ms: i64) {
        let off = &self.core.clocks.off_ms;
        off.store(off_ms, std::sync::atomic::Ordering::Relaxed);
    }

    pub fn is_queued(&self, id: &Digest) -> bool {
        self.core.mempool.lock().expect("not poisoned").contains(id)
    }

    pub fn queued(&self) -> usize {
        self.core.mempool.lock().expect("not poisoned").len()
    }

    /// What waits here, in figures.
    pub fn queue(&self) -> Queue {
        self.core.mempool.lock().expect("not poisoned").figures()
    }

    /// Messages by which transactions that were submitted here were sent on, one leader each.
    pub fn forwarded(&self) -> u64 {
        self.core.lineup.messages()
    }

    /// Validators that this one is connected to.
    pub fn peers(&self) -> usize {
        let figures = self.core.figures.get().map(|figures| figures());
        connected(&figures.unwrap_or_default())
    }

    pub fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }

    /// Resolves when the node has ended, wanted or not.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: an error means that the node has dropped its end.
        while ended.changed().await.is_ok() {}
    }

    /// From now on it leads no more, and says so in its turn, but votes. Resolves when the block
    /// that it made last is decided.
    pub async fn rest(&self) {
        self.core.resting.store(true, Ordering::Relaxed);
        self.core.wake.notify_waiters();
        loop {
            let moved = self.core.moved.notified();
            if self.core.sealer.last_turn() <= Some(self.core.newest_over()) {
                return;
            }
            moved.await;
        }
    }

    /// Keeps on disk what was submitted here and waits: who took it answers for it. Whoever opens
    /// this data next queues it again.
    pub fn lay_by(&self) -> Result<()> {
        let own = self.core.mempool.lock().expect("not poisoned").own();
        self.core.store.put_waiting(&own)
    }

    /// Ends the node in order: what was submitted here and waits comes back with its next start.
    pub async fn stop(&self) {
        let stop = self.stop.lock().expect("not poisoned").take();
        if let Some(stop) = stop {
            let _ = stop.send(());
        }
        self.ended().await;
        if let Err(error) = self.lay_by() {
            tracing::warn!("what waits here is lost: {error:#}");
        }
    }
}

/// Of the engine's figures: one line for each peer, since when it is connected.
fn connected(figures: &str) -> usize {
    let lines = figures.lines().filter(|line| !line.starts_with('#'));
    let since = lines.filter_map(|line| {
        let (name, since) = line.rsplit_once(' ')?;
        let of = name.split_once("_connected{")?.0;
        of.starts_with("network").then_some(since)
    });
    since.filter(|since| *since != "0").count()
}

pub(crate) struct Queued {
    pub id: Digest,
    /// It was not there yet.
    pub fresh: bool,
}

/// Admits and queues each; one answer for each, in order.
pub(crate) fn queue<M: Machine>(
    core: &Core<M>,
    transactions: &[Bytes],
    own: bool,
) -> Vec<Result<Queued, SubmitError>> {
    let head = core.head.borrow().clone();
    let queued = |id: &Digest| core.mempool.lock().expect("not poisoned").contains(id);
    // A block holds no larger one, so the machine need not see it.
    let small: Vec<Bytes> = transactions
        .iter()
        .filter(|t| t.len() <= TRANSACTION_BYTES_MAX)
        .cloned()
        .collect();
    let mut admitted = core.machine.admit(&head.state, &small, &queued).into_iter();
    let mut mempool = core.mempool.lock().expect("not poisoned");
    let mut insert = |bytes: &Bytes| {
        if bytes.len() > TRANSACTION_BYTES_MAX {
            return Err(SubmitError::Refused(format!(
                "a transaction has at most {TRANSACTION_BYTES_MAX} bytes; this one has {}",
                bytes.len()
            )));
        }
        let admitted = admitted.next().expect("one answer for each");
        let admitted = admitted.map_err(SubmitError::Refused)?;
        let id = admitted.id;
        let fresh = mempool.insert(admitted, bytes.clone(), head.header.height, own)?;
        Ok(Queued { id, fresh })
    };
    let answers: Vec<_> = transactions.iter().map(&mut insert).collect();
    drop(mempool);
    if answers.iter().flatten().any(|queued| queued.fresh) {
        core.wake.notify_waiters();
    }
    answers
}

/// What to do when what is kept in `data` cannot be used. Blocks are with the others too; that
/// one validator of four forgets its votes is borne.
pub fn damaged(data: &Path) -> String {
    format!(
        "this validator cannot go on with {}. If it says so again at once, its files are \
         damaged, by a power failure or a full disk: move everything there but `seat` and \
         `vault` away, then start it again; it takes the blocks from the others",
        data.display()
    )
}

/// Puts the share in the seat file at `path` into the vault beside it in `data`, where it is
/// sealed and erased when spent, and takes it out of the file.
pub fn spend_seat(data: &Path, path: &Path) -> Result<()> {
    let seat = Seat::from_bytes(&std::fs::read(path)?)?;
    if !seat.holds_share() {
        return Ok(());
    }
    Vault::open(data.join("vault"), &seat)?;
    replace(path, &seat.spent().to_bytes()).with_context(|| format!("write {}", path.display()))
}

/// Opens the node's state, replays what was not saved, and starts it on a thread of its own.
pub fn start<M: Machine>(config: Config, machine: Arc<M>) -> Result<Handle<M>> {
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("make {}", config.data.display()))?;
    let core = Store::open(&config.data.join("blocks.redb"))
        .and_then(|store| {
            let vault = config.data.join("vault");
            let sealer = Sealer::open(&vault, &config.seat, config.network)?;
            open(&config, machine, Arc::new(store), sealer)
        })
        .with_context(|| damaged(&config.data))?;
    let vault = Vault::open(config.data.join("vault"), &config.seat)?;
    let core = Arc::new(core);
    let (handle, ends, ended) = handle(core.clone());
    let runtime = commonware_runtime::tokio::Config::new()
        .with_worker_threads(WORKERS)
        .with_max_blocking_threads(16)
        .with_catch_panics(false)
        .with_storage_directory(config.data.join("engine"));
    std::thread::Builder::new()
        .name("consensus".into())
        .spawn(move || {
            let run = || {
                commonware_runtime::tokio::Runner::new(runtime)
                    .start(|context| on_tokio(context, config, core, vault, ends));
            };
            // What is damaged on disk ends the engine by a panic. Nothing of it is used after.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                tracing::error!("the consensus engine broke off");
            }
            drop(ended);
        })
        .context("start the consensus thread")?;
    Ok(handle)
}

/// The node's ends of what its handle holds.
pub(crate) struct Ends {
    pub forwarded: mpsc::Receiver<(Digest, Bytes)>,
    pub stopped: oneshot::Receiver<()>,
}

/// What was laid by is queued again. The sender is dropped when nothing of the node runs any more.
pub(crate) fn handle<M: Machine>(core: Arc<Core<M>>) -> (Handle<M>, Ends, watch::Sender<()>) {
    let (forward, forwarded) = mpsc::channel(FORWARDED_MAX);
    let (stop, stopped) = oneshot::channel();
    let (ended_sender, ended) = watch::channel(());
    let handle = Handle {
        core,
        forward,
        stop: Arc::new(Mutex::new(Some(stop))),
        ended,
    };
    match handle.core.store.take_waiting() {
        // What has been applied since, or may be no more, is refused.
        Ok(waiting) => drop(handle.submit_many(waiting)),
        Err(error) => tracing::warn!("what waited here is lost: {error:#}"),
    }
    (handle, Ends { forwarded, stopped }, ended_sender)
}

/// Who votes on the block after `height`, as the last block of an epoch said: identity keys in
/// voting order. `None`: those of the first deal.
fn seats_after(store: &Store, height: u64, epoch_blocks: u64) -> Result<Option<Vec<[u8; 32]>>> {
    let Some(before) = light::epoch_of(height + 1, epoch_blocks).checked_sub(1) else {
        return Ok(None);
    };
    let said_at = light::epoch_end(before, epoch_blocks);
    let record = store
        .block(said_at)?
        .with_context(|| format!("block {said_at} is missing, which says who votes"))?;
    let header = Header::from_bytes(&record.header)?;
    let duty = Duty::from_bytes(&header, &record.duty)?;
    let payload = duty.ceremony.as_deref().and_then(read_payload);
    let seats = payload.as_ref().and_then(seats_of);
    let seats = seats.with_context(|| format!("block {said_at} does not say who votes"))?;
    Ok(Some(seats))
}

/// Where everyone starts.
fn first<M: Machine>(config: &Config, machine: &M) -> Result<(Block, (Node<M::State>, Record))> {
    let (first, executed) = genesis(
        machine,
        &config.committee,
        config.network,
        config.genesis_ms,
    )?;
    let record = Record {
        header: first.header.to_bytes(),
        seal: first.seal,
        certificate: None,
        duty: first.duty.to_bytes(),
        transactions: Vec::new(),
        outcomes: executed.outcomes.clone(),
        events: executed.events.clone(),
    };
    let seats = Arc::new(config.committee.members().collect());
    let node = Node::after(seats, first.header.clone(), &first.duty, None, executed);
    Ok((first, (node, record)))
}

/// The block at `height`, whose `state` was saved.
fn saved<M: Machine>(
    config: &Config,
    machine: &M,
    store: &Store,
    height: u64,
    state: &[u8],
) -> Result<(Node<M::State>, Record)> {
    let record = store
        .block(height)?
        .with_context(|| format!("block {height} is missing beside its state"))?;
    let header = Arc::new(Header::from_bytes(&record.header)?);
    let state = machine
        .load(state)
        .context("the saved state cannot be read")?;
    ensure!(
        machine.root(&state) == header.state_root,
        "the saved state is not the one after block {height}: its data is broken; restore the data folder or sync anew"
    );
    let seats = match seats_after(store, height, config.epoch_blocks.get())? {
        Some(seats) => seats,
        None => config.committee.members().collect(),
    };
    let executed = Executed {
        state,
        ids: Vec::new(),
        candidates: None,
        events: Vec::new(),
        outcomes: Vec::new(),
    };
    let node = Node {
        made_ms: header.time_ms,
        header,
        seats: Arc::new(seats),
        executed,
    };
    Ok((node, record))
}

/// The saved state, brought up to the last block kept.
pub(crate) fn open<M: Machine>(
    config: &Config,
    machine: Arc<M>,
    store: Arc<Store>,
    sealer: Sealer,
) -> Result<Core<M>> {
    let epoch_blocks = config.epoch_blocks.get();
    if let Some(keep) = config.keep {
        let least = keep_least(epoch_blocks);
        ensure!(
            keep.get() >= least,
            "{keep} blocks are too few to keep: this network's epochs have {epoch_blocks}, and a validator needs four of them; keep {least} or more"
        );
        store.may_forget()?;
    }
    let floor = store.floor()?;
    let begun = match floor {
        Some(_) => None,
        None => Some(first(config, machine.as_ref())?),
    };
    let (genesis, begun) = begun.unzip();
    let (mut node, mut record) = match store.state()? {
        Some((height, state)) => saved(config, machine.as_ref(), &store, height, &state)?,
        None => begun.context("the state that this validator begins with is missing")?,
    };
    for height in node.header.height + 1..=store.latest()?.unwrap_or(0) {
        record = store
            .block(height)?
            .with_context(|| format!("block {height} is missing"))?;
        let header = Header::from_bytes(&record.header)?;
        let transactions: Vec<Bytes> = record
            .transactions
            .iter()
            .cloned()
            .map(Bytes::from)
            .collect();
        let told = Duty::from_bytes(&header, &record.duty)?;
        let payload = told.ceremony.as_deref().and_then(read_payload);
        let dealt = matches!(payload, Some(Payload::DealerLog(_)));
        let screeners = machine.screeners(&node.executed.state, header.epoch);
        let env = surroundings(
            height,
            node.header.time_ms,
            &told,
            dealt,
            header.proposer,
            &node.seats,
            &screeners,
        );
        let time_ms = env.time_ms;
        let executed = machine.execute(
            &node.executed.state,
            env,
            &transactions,
            // A leader may have put a wrong signature into a block: it is no more valid now.
            &|_| false,
        );
        let duty = completed(machine.as_ref(), epoch_blocks, height, &told, &executed);
        let same = header.parent == node.header.digest()
            && header.time_ms == time_ms
            && header.duty == duty.digest()
            && header.outcomes_root == merkle_root(&executed.outcomes)
            && header.events_root == merkle_root(&executed.events)
            && header.state_root == machine.root(&executed.state);
        if !same {
            bail!(
                "block {height} on disk executes to another state: this program or its data is broken; restore the data folder or sync anew"
            );
        }
        let next = payload.as_ref().and_then(seats_of);
        node = Node::after(node.seats, Arc::new(header), &duty, next, executed);
    }
    ensure!(
        node.header.network == config.network,
        "{} holds the state of another network",
        config.data.display()
    );
    let id = node.header.digest();
    let head = Arc::new(Finalized {
        header: (*node.header).clone(),
        record: Arc::new(record),
        state: node.executed.state.clone(),
    });
    let sightings = Sightings::of(&store, node.header.height)?;
    Ok(Core {
        machine,
        network: config.network,
        network_key: config.committee.network_key(),
        epoch_blocks,
        keep: config.keep.map(NonZeroU64::get),
        beacon: Mutex::new(None),
        seated: Arc::default(),
        genesis,
        floor,
        clocks: Clocks::new(&config.seat, config.network),
        sealer,
        sightings,
        figures: OnceLock::new(),
        store,
        mempool: Mutex::new(Mempool::default()),
        lineup: Lineup::default(),
        resting: AtomicBool::new(false),
        wake: Notify::new(),
        moved: Notify::new(),
        nodes: Mutex::new([(id, Arc::new(node))].into()),
        head: watch::channel(head).0,
    })
}

#[cfg(test)]
mod tests {
    use super::connected;

    #[test]
    fn peers_are_counted_by_their_lines() {
        let figures = "# HELP network_tracker_connected since when\n\
             network_tracker_connected{peer=\"ab\"} 1700\n\
             network_tracker_connected{peer=\"cd\"} 0\n\
             network_tracker_tracked 4\n\
             other_connected{peer=\"ab\"} 3\n";
        assert_eq!(connected(figures), 1);
        assert_eq!(connected(""), 0);
    }
}
