//! Follow the chain without a seat.
//!
//! Who was not drawn to sit is linked to nobody, so somebody else has to bring the blocks, from
//! whomever: nobody is believed. A block is taken when it, or one that follows it, is certified under
//! the network key; then it is executed, compared and kept by the same [`finalizer`] as where votes
//! are cast, and the same [`Handle`] answers. RFD 21.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail, ensure};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use commonware_codec::{Copying, Decode as _, Encode as _};
use commonware_runtime::{Runner as _, Spawner};
use commonware_utils::Acknowledgement as _;
use commonware_utils::acknowledgement::Exact;
use light::{Duty, Header};
use tokio::sync::mpsc;
use types::{Digest, PublicKey};

use crate::app::{Core, genesis};
use crate::block::Block;
use crate::boundary::{Floor, named_in};
use crate::committee::{key_bytes, read_key};
use crate::finalizer;
use crate::leaders;
use crate::lineup::{Term, gather};
use crate::machine::Machine;
use crate::node::{Config, Handle, damaged, handle, open};
use crate::once::Sealer;
use crate::store::{Record, Store};

/// Blocks passed on at once.
const PASSED_MAX: usize = 64;
/// Their bytes: no more are added when there are so many and the last is certified, ...
const PASSED_BYTES: usize = 2 << 20;
/// ... nor when there are so many; but one is passed on whatever it has.
const PASSED_BYTES_LEAST: usize = 16 << 20;
/// What one answer of several blocks may have at most.
pub const PASSED_BYTES_MAX: usize = 32 << 20;
/// Threads that keep blocks.
const WORKERS: usize = 2;

/// A final block on its way to who has no seat. Nothing of it is believed unchecked.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
struct Passed {
    /// As validators send it to each other.
    block: Vec<u8>,
    /// `None`: one that follows is certified.
    certificate: Option<Vec<u8>>,
}

impl Passed {
    fn of(record: Record) -> Result<Self> {
        let header = Header::from_bytes(&record.header)?;
        let duty = Duty::from_bytes(&header, &record.duty)?;
        let transactions = record.transactions.into_iter().map(Bytes::from).collect();
        let block = Block::new(header, record.seal, duty, transactions)
            .map_err(|why| anyhow::anyhow!("a kept block cannot be read: {why}"))?;
        Ok(Self {
            block: block.encode().to_vec(),
            certificate: record.certificate,
        })
    }
}

impl<M: Machine> Handle<M> {
    /// Final blocks from height `from` on, for [`Follower::check`]: canonical bytes. None of them, if
    /// there are none yet or the first is not kept.
    pub fn passed(&self, from: u64) -> Result<Vec<u8>> {
        let (mut passed, mut bytes) = (Vec::new(), 0);
        for height in from..=self.head().header.height {
            let Some(record) = self.block(height)? else {
                break;
            };
            let next = Passed::of(record)?;
            let more = bytes + next.block.len();
            if !passed.is_empty() && more > PASSED_BYTES_LEAST {
                break;
            }
            let ends = next.certificate.is_some() && more > PASSED_BYTES;
            bytes = more;
            passed.push(next);
            if ends || passed.len() == PASSED_MAX {
                break;
            }
        }
        Ok(borsh::to_vec(&passed)?)
    }

    /// Whether those who vote are linked to `key` from the end of the newest epoch on that is over
    /// here, with its height: it sits, or soon will. `None` in the first epoch. `known`: what it was
    /// last; that is read again only when another epoch is over.
    pub fn linked(
        &self,
        key: &[u8; 32],
        known: Option<(u64, bool)>,
    ) -> Result<Option<(u64, bool)>> {
        let blocks = self.core.epoch_blocks;
        let head = self.core.height();
        let Some(ended) = light::epoch_of(head + 1, blocks).checked_sub(1) else {
            return Ok(None);
        };
        let height = light::epoch_end(ended, blocks);
        if known.is_some_and(|(at, _)| at == height) {
            return Ok(known);
        }
        let record = self.block(height)?;
        Ok(record.map(|record| (height, named_in(&record.duty, key))))
    }
}

/// Blocks that were passed on and hold: in order, the last certified.
pub struct Checked(Vec<(Block, Option<Vec<u8>>)>);

impl Checked {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes blocks for a [`Handle`] that does not vote.
pub struct Follower<M: Machine> {
    core: Arc<Core<M>>,
    blocks: mpsc::UnboundedSender<(Block, Exact)>,
    certificates: Arc<Mutex<BTreeMap<u64, Vec<u8>>>>,
}

impl<M: Machine> Clone for Follower<M> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            blocks: self.blocks.clone(),
            certificates: self.certificates.clone(),
        }
    }
}

impl<M: Machine> Follower<M> {
    /// Checks what somebody passed on; takes milliseconds for each block.
    ///
    /// Errors: what is wrong with it. Whoever gave it lies, or is of another network.
    pub fn check(&self, passed: &[u8]) -> Result<Checked> {
        let passed = read(passed)?;
        let mut before = self.core.head.borrow().header.clone();
        let mut blocks: Vec<(Block, Option<Vec<u8>>)> = Vec::new();
        let mut certain = 0;
        for Passed { block, certificate } in passed {
            let block = Block::decode_cfg(Copying(&block[..]), &())
                .map_err(|e| anyhow::anyhow!("a block cannot be read: {e}"))?;
            let header = &block.header;
            ensure!(
                header.network == self.core.network
                    && header.height == before.height + 1
                    && header.parent == before.digest(),
                "block {} does not follow from block {}",
                header.height,
                before.height
            );
            before = (**header).clone();
            if let Some(certificate) = &certificate {
                let bytes = header.to_bytes();
                light::verify_block(&self.core.network_key, &bytes, &[], certificate)
                    .with_context(|| format!("block {}", header.height))?;
                certain = blocks.len() + 1;
            } else if before.height == light::epoch_end(before.epoch, self.core.epoch_blocks) {
                // Voting begins there: it is needed itself.
                break;
            }
            blocks.push((block, certificate));
        }
        let some = !blocks.is_empty();
        blocks.truncate(certain);
        ensure!(
            !some || certain > 0,
            "nothing certifies block {}",
            self.core.height() + 1
        );
        Ok(Checked(blocks))
    }

    /// Executes and keeps them; returns when the head is the last of them.
    ///
    /// Errors: this validator can take no more, as its log says.
    pub async fn take(&self, checked: Checked) -> Result<()> {
        for (block, certificate) in checked.0 {
            let height = block.header.height;
            if let Some(certificate) = certificate {
                let mut certificates = self.certificates.lock().expect("not poisoned");
                certificates.insert(height, certificate);
            }
            let (done, taken) = Exact::handle();
            if self.blocks.send((block, done)).is_err() || taken.await.is_err() {
                bail!("block {height} is not taken");
            }
            self.certificates.lock().expect("not poisoned").clear();
            note_seats(&self.core);
        }
        Ok(())
    }
}

/// Counted before they are read: an empty one takes ten times as much here as on the way.
fn read(passed: &[u8]) -> Result<Vec<Passed>> {
    let mut input = passed;
    let many = u32::deserialize(&mut input).context("blocks cannot be read")?;
    ensure!(many as usize <= PASSED_MAX, "it gives too many blocks");
    let blocks = (0..many).map(|_| Passed::deserialize(&mut input));
    let blocks: std::io::Result<Vec<Passed>> = blocks.collect();
    let blocks = blocks.context("blocks cannot be read")?;
    ensure!(input.is_empty(), "bytes follow its blocks");
    Ok(blocks)
}

/// Who votes on the next block leads next.
fn note_seats<M: Machine>(core: &Core<M>) {
    let head = core.head.borrow().header.digest();
    let Some(node) = core.node(&head) else { return };
    let epoch = light::epoch_of(node.header.height + 1, core.epoch_blocks);
    if core.seated.of(epoch).is_empty() {
        let state = &node.executed.state;
        let places = leaders::lineup(core.machine.as_ref(), state, epoch, &node.seats);
        let order = places.and_then(|places| light::lineup(&node.seats, &places));
        let order = order.unwrap_or_default();
        let order = order.iter().filter_map(|key| read_key(key).ok());
        core.seated.seat(epoch, order.collect());
    }
}

/// What is submitted to one who follows, and has to be brought to those who make blocks.
pub struct Outbox<M: Machine> {
    core: Arc<Core<M>>,
    forwarded: mpsc::Receiver<(Digest, Bytes)>,
    seen: Term,
}

impl<M: Machine> Outbox<M> {
    /// Waits for what is to be brought next, and to whom: the leaders of the next terms. What is in no
    /// block when those are over comes again. `None`: nobody can submit any more.
    pub async fn next(&mut self) -> Option<(Vec<PublicKey>, Vec<(Digest, Bytes)>)> {
        let (leaders, batch) = loop {
            let (leaders, batch) = gather(&self.core, &mut self.forwarded, &mut self.seen).await?;
            if !batch.is_empty() {
                break (leaders, batch);
            }
        };
        let leaders = leaders.iter().map(|leader| PublicKey(key_bytes(leader)));
        Some((leaders.collect(), batch))
    }
}

/// What somebody passed on, on its way into the store.
pub(crate) struct Taken {
    blocks: mpsc::UnboundedReceiver<(Block, Exact)>,
    certificates: Arc<Mutex<BTreeMap<u64, Vec<u8>>>>,
}

/// The ends of one who follows; [`keep`] is to run on the third.
pub(crate) fn follower<M: Machine>(
    core: &Arc<Core<M>>,
    forwarded: mpsc::Receiver<(Digest, Bytes)>,
) -> (Follower<M>, Outbox<M>, Taken) {
    note_seats(core);
    let (sender, blocks) = mpsc::unbounded_channel();
    let certificates: Arc<Mutex<BTreeMap<u64, Vec<u8>>>> = Arc::default();
    let follower = Follower {
        core: core.clone(),
        blocks: sender,
        certificates: certificates.clone(),
    };
    let outbox = Outbox {
        seen: core.newest_over(),
        core: core.clone(),
        forwarded,
    };
    let taken = Taken {
        blocks,
        certificates,
    };
    (follower, outbox, taken)
}

/// Executes and keeps what is taken, until nobody gives any more.
pub(crate) async fn keep<E: Spawner, M: Machine>(context: E, core: Arc<Core<M>>, taken: Taken) {
    let Taken {
        blocks,
        certificates,
    } = taken;
    let certificate = |height| {
        let found = certificates.lock().expect("not poisoned").remove(&height);
        std::future::ready(found)
    };
    // There is no engine that would have to forget anything.
    let forget = |_| std::future::ready(false);
    finalizer::run(context, core, blocks, certificate, |_| (), forget).await;
}

/// Opens the state in `config.data` and follows from there, without voting.
///
/// Errors: as of [`crate::start`].
pub fn follow<M: Machine>(
    config: &Config,
    machine: Arc<M>,
) -> Result<(Handle<M>, Follower<M>, Outbox<M>)> {
    let core = Store::open(&config.data.join("blocks.redb"))
        .and_then(|store| {
            store.set_following()?;
            let sealer = Sealer::open(&config.data.join("vault"), &config.seat, config.network)?;
            open(config, machine, Arc::new(store), sealer)
        })
        .with_context(|| damaged(&config.data))?;
    let core = Arc::new(core);
    let (handle, ends, ended) = handle(core.clone());
    let (follower, outbox, taken) = follower(&core, ends.forwarded);
    let stopped = ends.stopped;
    let runtime = commonware_runtime::tokio::Config::new()
        .with_worker_threads(WORKERS)
        .with_max_blocking_threads(4)
        .with_catch_panics(false)
        .with_storage_directory(config.data.clone());
    std::thread::Builder::new()
        .name("following".into())
        .spawn(move || {
            let run = || {
                commonware_runtime::tokio::Runner::new(runtime).start(|context| async move {
                    tokio::select! {
                        biased;
                        _ = stopped => {}
                        () = keep(context, core, taken) => {}
                    }
                });
            };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                tracing::error!("following the chain broke off");
            }
            drop(ended);
        })
        .context("start the thread that follows")?;
    Ok((handle, follower, outbox))
}

/// Whether the validator in `config.data` goes on as one that votes: those who vote are linked to it by
/// the end of the newest epoch that is over there. If it followed until now, its engine is made to
/// begin there. Else it is to [`follow`].
///
/// What the engine kept before goes then. No vote of it is still of use: as long as it voted, it was
/// linked, so all its votes are of epochs that are over.
///
/// Errors: what is there cannot be read.
pub fn may_vote<M: Machine>(config: &Config, machine: &M) -> Result<bool> {
    let path = config.data.join("blocks.redb");
    if !path.exists() {
        return Ok(true);
    }
    let prepared = Store::open(&path).and_then(|store| {
        prepare(config, machine, &store, || {
            remove(&config.data.join("engine"))
        })
    });
    prepared.with_context(|| damaged(&config.data))
}

/// As [`may_vote`] says; `forget` takes away, for good, what the engine kept before.
pub(crate) fn prepare<M: Machine>(
    config: &Config,
    machine: &M,
    store: &Store,
    forget: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let blocks = config.epoch_blocks.get();
    let Some(latest) = store.latest()? else {
        return Ok(true);
    };
    let Some(ended) = light::epoch_of(latest + 1, blocks).checked_sub(1) else {
        return Ok(true);
    };
    let said = |epoch: u64| -> Result<Record> {
        let height = light::epoch_end(epoch, blocks);
        let record = store.block(height)?;
        record.with_context(|| format!("block {height} is missing, which says who votes"))
    };
    let last = said(ended)?;
    if !named_in(&last.duty, &config.seat.key()) {
        return Ok(false);
    }
    if !store.is_following()? {
        return Ok(true);
    }
    ensure!(
        last.certificate.is_some(),
        "the end of epoch {ended} is not certified here"
    );
    let height = light::epoch_end(ended, blocks);
    let floor = match store.floor()?.filter(|floor| floor.height == height) {
        Some(floor) => floor,
        None => {
            let info = match ended.checked_sub(1) {
                Some(before) => {
                    let record = said(before)?;
                    let header = Header::from_bytes(&record.header)?;
                    Duty::from_bytes(&header, &record.duty)?.ceremony
                }
                None => {
                    let (network, time_ms) = (config.network, config.genesis_ms);
                    let first = genesis(machine, &config.committee, network, time_ms)?;
                    first.0.duty.ceremony.clone()
                }
            };
            let info = info.context("nobody is said to sit")?;
            Floor { height, info }
        }
    };
    // Were the old engine there beside a new floor after the power failed, it could not begin.
    forget()?;
    store.set_voting(&floor)?;
    Ok(true)
}

fn remove(engine: &Path) -> Result<()> {
    match std::fs::remove_dir_all(engine) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("remove {}", engine.display()));
        }
        _ => {}
    }
    sync_folder(engine.parent())
}

fn sync_folder(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let sync = std::fs::File::open(path).and_then(|folder| folder.sync_all());
    sync.with_context(|| format!("sync {}", path.display()))
}

/// Bytes of a block are far fewer than what is read of an answer.
const _: () = assert!(PASSED_BYTES_LEAST < PASSED_BYTES_MAX);
