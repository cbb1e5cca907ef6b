//! Wire one validator: network, marshal, engine, finalizer; and the handle to it.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use borsh::BorshDeserialize as _;
use bytes::Bytes;
use commonware_broadcast::buffered;
use commonware_consensus::marshal::core::Actor as MarshalActor;
use commonware_consensus::marshal::resolver::p2p as marshal_resolver;
use commonware_consensus::marshal::standard::{Inline, Standard};
use commonware_consensus::marshal::{self, Start};
use commonware_consensus::simplex::config::{Floor, ForwardPolicy, SkipPolicy};
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::{self, Engine, SkipBudget};
use commonware_consensus::types::{Epoch, FixedEpocher, Height, ViewDelta};
use commonware_cryptography::certificate::ConstantProvider;
use commonware_cryptography::sha256::Sha256;
use commonware_cryptography::{ChaCha20Poly1305, Digested, Signer as _, ed25519, sha256};
use commonware_p2p::authenticated::lookup;
use commonware_p2p::{Address, AddressableManager as _, Receiver as _, Recipients, Sender as _};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Quota, Runner as _, Spawner as _, Supervisor as _};
use commonware_storage::archive::prunable;
use commonware_storage::translator::TwoCap;
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::ordered::Map;
use commonware_utils::{NZDuration, NZU32, NZUsize};
use light::{Header, NAMESPACE, Scheme};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use types::Digest;

use crate::app::{App, Core, Finalized, Node, genesis};
use crate::block::{Block, TRANSACTION_BYTES_MAX};
use crate::committee::{Committee, Seat, read_key};
use crate::finalizer::{self, Inbox};
use crate::machine::Machine;
use crate::mempool::{Mempool, SubmitError};
use crate::store::{Record, Store};

const VOTES: u64 = 0;
const CERTIFICATES: u64 = 1;
const RESOLVER: u64 = 2;
const BACKFILL: u64 = 3;
const BROADCAST: u64 = 4;
const TRANSACTIONS: u64 = 5;

const MAILBOX: NonZeroUsize = NZUsize!(1_024);
/// The network reserves inbound room for this many messages per peer and channel.
const RATE: Quota = Quota::per_second(NZU32!(128));
const PAGE: NonZeroU16 = NonZeroU16::new(4_096).expect("not zero");
const PAGES: NonZeroUsize = NZUsize!(1_024);
const BUFFER: NonZeroUsize = NZUsize!(65_536);
const SECTION: NonZeroU64 = NonZeroU64::new(1_024).expect("not zero");
/// One epoch for ever: the committee is fixed (RFD 1).
const EPOCH_BLOCKS: NonZeroU64 = NonZeroU64::new(u64::MAX / 4).expect("not zero");
/// A transaction goes to the leaders of so many coming views.
const LEADERS: u64 = 3;
const WORKERS: usize = 2;
/// Transactions travel in batches of at most this many bytes.
const BATCH_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX;
const BATCH_MAX: usize = 2_000;

#[derive(Clone, Debug)]
pub struct Peer {
    /// Identity key.
    pub key: [u8; 32],
    pub address: SocketAddr,
}

pub struct Config {
    /// All of the node's state.
    pub data: PathBuf,
    pub committee: Committee,
    pub seat: Seat,
    pub listen: SocketAddr,
    /// The whole committee's addresses; our own is ignored.
    pub peers: Vec<Peer>,
    /// Digest of the genesis.
    pub network: Digest,
    pub genesis_ms: u64,
}

/// A running validator. Cheap to clone; the node ends when [`Handle::stop`] is called or the
/// process does.
pub struct Handle<M: Machine> {
    core: Arc<Core<M>>,
    forward: mpsc::Sender<Bytes>,
    stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    ended: watch::Receiver<bool>,
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
        let id = queue(&self.core, transaction.clone(), true)?;
        if let Some(id) = id.fresh {
            // A full queue delays: what is not included is sent on again.
            let _ = self.forward.try_send(transaction);
            return Ok(id);
        }
        Ok(id.id)
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

    pub fn is_queued(&self, id: &Digest) -> bool {
        self.core.mempool.lock().expect("not poisoned").contains(id)
    }

    pub fn queued(&self) -> usize {
        self.core.mempool.lock().expect("not poisoned").len()
    }

    /// Resolves when the node has ended, wanted or not.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the node's thread is gone: it has ended.
        let _ = ended.wait_for(|e| *e).await;
    }

    /// Ends the node in order.
    pub async fn stop(&self) {
        let stop = self.stop.lock().expect("not poisoned").take();
        if let Some(stop) = stop {
            let _ = stop.send(());
        }
        self.ended().await;
    }
}

struct Queued {
    id: Digest,
    fresh: Option<Digest>,
}

fn queue<M: Machine>(core: &Core<M>, bytes: Bytes, own: bool) -> Result<Queued, SubmitError> {
    let head = core.head.borrow().clone();
    let admitted = core
        .machine
        .admit(&head.state, &bytes)
        .map_err(SubmitError::Refused)?;
    let id = admitted.id;
    let fresh = core.mempool.lock().expect("not poisoned").insert(
        admitted,
        bytes,
        head.header.height,
        own,
    )?;
    if fresh {
        core.wake.notify_waiters();
    }
    Ok(Queued {
        id,
        fresh: fresh.then_some(id),
    })
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

/// Opens the node's state, replays what was not saved, and starts it on a thread of its own.
pub fn start<M: Machine>(config: Config, machine: Arc<M>) -> Result<Handle<M>> {
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("make {}", config.data.display()))?;
    ensure!(
        config.committee.members().any(|m| m == config.seat.key()),
        "this seat does not belong to the network's committee"
    );
    let core = Arc::new(open(&config, machine)?);
    let (forward, forwarded) = mpsc::channel(100_000);
    let (stop, stopped) = oneshot::channel();
    let (ended_sender, ended) = watch::channel(false);
    let handle = Handle {
        core: core.clone(),
        forward,
        stop: Arc::new(Mutex::new(Some(stop))),
        ended,
    };
    let runtime = commonware_runtime::tokio::Config::new()
        .with_worker_threads(WORKERS)
        .with_max_blocking_threads(16)
        .with_catch_panics(false)
        .with_storage_directory(config.data.join("engine"));
    std::thread::Builder::new()
        .name("consensus".into())
        .spawn(move || {
            commonware_runtime::tokio::Runner::new(runtime)
                .start(|context| run(context, config, core, forwarded, stopped));
            ended_sender.send_replace(true);
        })
        .context("start the consensus thread")?;
    Ok(handle)
}

/// The saved state, brought up to the last block kept.
fn open<M: Machine>(config: &Config, machine: Arc<M>) -> Result<Core<M>> {
    let store = Store::open(&config.data.join("blocks.redb"))?;
    let (first, executed) = genesis(machine.as_ref(), config.network, config.genesis_ms);
    let mut node = Node {
        header: first.header.clone(),
        executed,
        included: Vec::new(),
    };
    let mut record = Record {
        header: node.header.to_bytes(),
        certificate: None,
        transactions: Vec::new(),
        outcomes: node.executed.outcomes.clone(),
        events: node.executed.events.clone(),
    };
    if let Some((height, state)) = store.state()? {
        record = store
            .block(height)?
            .with_context(|| format!("block {height} is missing beside its state"))?;
        node.header = Arc::new(Header::from_bytes(&record.header)?);
        node.executed.state = machine
            .load(&state)
            .context("the saved state cannot be read")?;
    }
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
        let executed = machine.execute(
            &node.executed.state,
            height,
            header.time_ms,
            &transactions,
            &|_| true,
        );
        let state_root = light::state_root(&node.header.state_root, &executed.changes);
        if state_root != header.state_root {
            bail!(
                "block {height} on disk executes to another state: this program or its data is broken; restore the data folder or sync anew"
            );
        }
        node = Node {
            header: Arc::new(header),
            executed,
            included: Vec::new(),
        };
    }
    ensure!(
        node.header.network == config.network,
        "{} holds the state of another network",
        config.data.display()
    );
    let id = node.header.digest();
    let head = Arc::new(Finalized {
        header: (*node.header).clone(),
        record,
        state: node.executed.state.clone(),
    });
    Ok(Core {
        machine,
        network: config.network,
        store,
        mempool: Mutex::new(Mempool::default()),
        wake: Notify::new(),
        nodes: Mutex::new([(id, Arc::new(node))].into()),
        head: watch::channel(head).0,
        root: Mutex::new(id),
    })
}

async fn run<M: Machine>(
    context: commonware_runtime::tokio::Context,
    config: Config,
    core: Arc<Core<M>>,
    forwarded: mpsc::Receiver<Bytes>,
    stopped: oneshot::Receiver<()>,
) {
    let me = config.seat.identity.public_key();
    let members = config.committee.members.clone();
    let scheme = Scheme::signer(
        NAMESPACE,
        members.clone(),
        config.committee.sharing.clone(),
        config.seat.share.clone(),
    );
    let Some(scheme) = scheme else {
        tracing::error!("this seat's share does not belong to the committee's key");
        return;
    };
    let largest = commonware_p2p::max_message_size(&[
        simplex::max_payload_size::<Scheme, sha256::Digest>(members.len() as u32),
        marshal::max_payload_size::<Standard<Block>, Scheme>(members.len() as u32, &()),
        BATCH_BYTES_MAX,
    ]);
    let mut p2p = lookup::Config::local(
        Cups::<_, ChaCha20Poly1305>::new(
            Sake {
                signer: config.seat.identity.clone(),
                synchrony_bound: Duration::from_secs(5),
                max_handshake_age: Duration::from_secs(10),
                version: sake::Version::V1,
            },
            cups::Version::V1,
        ),
        &[NAMESPACE, b"_P2P"].concat(),
        config.listen,
        NonZeroUsize::new(members.len()).expect("a committee is not empty"),
        largest,
        MAILBOX,
    );
    // Validators may share an address (`dev`): their number bounds handshakes, not their hosts.
    p2p.allowed_handshake_rate_per_ip = Quota::per_second(NZU32!(256));
    p2p.allowed_handshake_rate_per_subnet = Quota::per_second(NZU32!(256));
    p2p.peer_connection_cooldown = Duration::from_millis(200);
    let (mut network, mut oracle) = lookup::Network::new(context.child("network"), p2p);
    let votes = network.register(VOTES, RATE);
    let certificates = network.register(CERTIFICATES, RATE);
    let resolver = network.register(RESOLVER, RATE);
    let backfill = network.register(BACKFILL, RATE);
    let broadcast = network.register(BROADCAST, RATE);
    let (mut sender, mut receiver) = network.register(TRANSACTIONS, RATE);
    let peers = config.peers.iter().filter_map(|peer| {
        let key = read_key(&peer.key).ok()?;
        Some((key, Address::Symmetric(peer.address)))
    });
    oracle.track(0, Map::from_iter_dedup(peers));
    let network = network.start();

    let resolver_engine = marshal_resolver::init(
        context.child("backfill"),
        marshal_resolver::Config {
            public_key: me.clone(),
            peer_provider: oracle.clone(),
            blocker: oracle.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(100),
            priority_requests: false,
            priority_responses: false,
        },
        backfill,
    );
    let (broadcaster, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: 16,
            priority: false,
            codec_config: (),
            peer_provider: oracle.clone(),
            strategy: Sequential,
        },
    );
    let broadcaster = broadcaster.start(broadcast);

    let cache = CacheRef::new(PAGE, PAGES);
    let archive = |name: &str| prunable::Config {
        translator: TwoCap,
        metadata_partition: format!("{name}-metadata"),
        key_partition: format!("{name}-key"),
        key_page_cache: cache.clone(),
        value_partition: format!("{name}-value"),
        compression: None,
        codec_config: (),
        items_per_section: SECTION,
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    };
    let finalizations =
        prunable::Archive::init(context.child("finalizations"), archive("finalizations"))
            .await
            .expect("the archive of certificates opens");
    let blocks = prunable::Archive::init(context.child("blocks"), archive("blocks"))
        .await
        .expect("the archive of blocks opens");
    let (first, _) = genesis(core.machine.as_ref(), config.network, config.genesis_ms);
    let first = Digested::compute(first, &Sequential).await;
    let first_digest = sha256::Digest::from(first.inner().id().0);
    let epocher = FixedEpocher::new(EPOCH_BLOCKS);
    let (marshal_actor, marshal, _) = MarshalActor::init(
        context.child("marshal"),
        finalizations,
        blocks,
        marshal::Config {
            provider: ConstantProvider::<Scheme, Epoch>::new(scheme.clone()),
            epocher: epocher.clone(),
            start: Start::Genesis(first),
            partition_prefix: "marshal".into(),
            mailbox_size: MAILBOX,
            view_retention: ViewDelta::new(64),
            prunable_items_per_section: SECTION,
            page_cache: cache.clone(),
            replay_buffer: BUFFER,
            key_write_buffer: BUFFER,
            value_write_buffer: BUFFER,
            block_codec_config: (),
            max_repair: NZUsize!(32),
            max_pending_acks: NZUsize!(16),
            strategy: Sequential,
        },
    )
    .await;
    let app = Inline::new(
        context.child("app"),
        App { core: core.clone() },
        marshal.clone(),
        epocher,
    );
    let (inbox, finalised) = mpsc::unbounded_channel();
    let marshal_handle = marshal_actor.start(Inbox(inbox), buffer, resolver_engine);

    let engine = Engine::new(
        context.child("simplex"),
        simplex::config::Config {
            scheme,
            elector: RoundRobin::<Sha256>::default(),
            blocker: oracle.clone(),
            automaton: app.clone(),
            relay: app.clone(),
            reporter: app,
            track_historical_votes: false,
            strategy: Sequential,
            partition: "simplex".into(),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: Floor::Genesis(first_digest),
            replay_buffer: BUFFER,
            write_buffer: BUFFER,
            page_cache: cache,
            leader_timeout: Duration::from_millis(1_600),
            certification_timeout: Duration::from_millis(2_500),
            timeout_retry: Duration::from_millis(500),
            view_retention: ViewDelta::new(64),
            skip: SkipPolicy::Enabled {
                timeout: Duration::from_secs(5),
                budget: SkipBudget::Participants,
            },
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(100),
            forward: ForwardPolicy::Disabled,
        },
    );
    let engine = engine.start(votes, certificates, resolver);

    let finalizer = {
        let core = core.clone();
        context.child("finalizer").spawn(move |_| async move {
            let certificate = |height| {
                let marshal = marshal.clone();
                async move {
                    let found = marshal.get_finalization(Height::new(height)).await?;
                    Some(light::certificate_bytes(&found))
                }
            };
            finalizer::run(core, finalised, certificate).await;
        })
    };
    let receiving = {
        let core = core.clone();
        context.child("transactions").spawn(move |_| async move {
            while let Ok((_, bytes)) = receiver.recv().await {
                let Ok(batch) = Vec::<Vec<u8>>::try_from_slice(bytes.as_ref()) else {
                    continue;
                };
                for bytes in batch {
                    // What is refused here was refused to its sender, or raced with a block.
                    let _ = queue(&core, Bytes::from(bytes), false);
                }
            }
        })
    };
    let sending = {
        let core = core.clone();
        let order: Vec<ed25519::PublicKey> = members.iter().cloned().collect();
        context.child("forward").spawn(move |_| async move {
            let mut forwarded = forwarded;
            let mut heads = core.head.subscribe();
            let mut batch = Vec::new();
            loop {
                tokio::select! {
                    count = forwarded.recv_many(&mut batch, BATCH_MAX) => if count == 0 {
                        return;
                    },
                    changed = heads.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let height = heads.borrow_and_update().header.height;
                        batch = core.mempool.lock().expect("not poisoned").own(height);
                    }
                }
                let view = core.head.borrow().header.view;
                let leaders: Vec<ed25519::PublicKey> = (1..=LEADERS)
                    .map(|ahead| order[((view + ahead) % order.len() as u64) as usize].clone())
                    .filter(|leader| *leader != me)
                    .collect();
                for message in packed(batch.drain(..)) {
                    sender.send(Recipients::Some(leaders.clone()), message, false);
                }
            }
        })
    };
    tokio::select! {
        _ = stopped => {}
        ended = commonware_runtime::Handle::select([
            network, broadcaster, marshal_handle, engine, finalizer, receiving, sending,
        ]) => tracing::error!(?ended, "a part of the validator has stopped"),
    }
}
