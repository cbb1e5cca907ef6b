//! Wire the parts of a validator: marshal, engine, finalizer, forwarding.
//!
//! A macro, expanded once per runtime and network with their concrete types: the engine's
//! types, generic over both, take the compiler many minutes.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use commonware_broadcast::buffered;
use commonware_codec::Encode as _;
use commonware_consensus::Reporters;
use commonware_consensus::marshal::core::Actor as MarshalActor;
use commonware_consensus::marshal::resolver::p2p as marshal_resolver;
use commonware_consensus::marshal::standard::{Inline, Standard};
use commonware_consensus::marshal::store::Blocks;
use commonware_consensus::marshal::{self, Start};
use commonware_consensus::simplex::SkipBudget;
use commonware_consensus::simplex::config::{ForwardPolicy, SkipPolicy};
use commonware_consensus::types::{FixedEpocher, Height, ViewDelta};
use commonware_cryptography::bls12381::dkg::feldman_desmedt::Reveal;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{
    ChaCha20Poly1305, Digested, Digestible as _, Signer as _, ed25519, sha256,
};
use commonware_glue::dkg::fence::Fence;
use commonware_glue::dkg::state_sync::{Config as SyncConfig, Plan as SyncPlan, StateSync};
use commonware_glue::dkg::{self, orchestrator, reshare};
use commonware_p2p::authenticated::lookup;
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{
    Clock as _, Handle, Metrics as _, Quota, Spawner as _, Storage as _, Supervisor as _,
};
use commonware_storage::archive::{immutable, prunable};
use commonware_storage::translator::EightCap;
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::{NZDuration, NZU32, NZUsize};
use light::NAMESPACE;
use tokio::sync::mpsc;

use crate::app::{App, Core};
use crate::block::Block;
use crate::committee::{MEMBERS_MAX, MODE, MODE_NEWEST, key_bytes};
use crate::epochs::{Drawn, Ears, Registry, Roads, Schemes};
use crate::finalizer::{self, Inbox};
use crate::kept::Kept;
use crate::leaders::ByLot;
use crate::lineup::{BATCH_BYTES_MAX, receive, send_on};
use crate::machine::Machine;
use crate::node::{Config, Ends};
use crate::scheme::{Known, Scheme};
use crate::vault::Vault;

const VOTES: u64 = 0;
const CERTIFICATES: u64 = 1;
const RESOLVER: u64 = 2;
const BACKFILL: u64 = 3;
const BROADCAST: u64 = 4;
pub(crate) const TRANSACTIONS: u64 = 5;
const CEREMONY: u64 = 6;
const CLOCKS: u64 = 7;
#[cfg(feature = "simulation")]
pub(crate) const CHANNELS: [u64; 8] = [
    VOTES,
    CERTIFICATES,
    RESOLVER,
    BACKFILL,
    BROADCAST,
    TRANSACTIONS,
    CEREMONY,
    CLOCKS,
];

pub(crate) const MAILBOX: NonZeroUsize = NZUsize!(1_024);
/// The network reserves inbound room for this many messages per peer and channel.
pub(crate) const RATE: Quota = Quota::per_second(NZU32!(128));
pub(crate) const PAGE: NonZeroU16 = NonZeroU16::new(4_096).expect("not zero");
pub(crate) const PAGES: NonZeroUsize = NZUsize!(1_024);
pub(crate) const BUFFER: NonZeroUsize = NZUsize!(65_536);
const SECTION: NonZeroU64 = NonZeroU64::new(1_024).expect("not zero");
/// An engine that keeps only the last blocks forgets so many at once.
const FORGOTTEN_AT_ONCE: NonZeroU64 = NonZeroU64::new(64).expect("not zero");
/// Slots that a new archive's index on disk begins with; it grows. (An index in memory would
/// take gigabytes a year.)
const TABLE: u32 = 1 << 14;
/// The simulated disk copies a file with each sync.
#[cfg(feature = "simulation")]
const TABLE_SIMULATED: u32 = 1 << 8;
/// Holders of the key, those who receive it and those who are next: room for so many is held
/// at least, which takes memory for each.
const PEERS_MIN: usize = 16;
const PEERS_MAX: usize = 3 * MEMBERS_MAX as usize;
/// Peers of so many epochs are kept linked: who is behind still reaches who went on.
pub(crate) const PEER_SETS: NonZeroUsize = NZUsize!(3);
/// A validator tells the next leaders what its clock shows this often, and with each new head.
const STATE_EVERY: Duration = Duration::from_millis(250);
/// ... but with so much between at least.
const STATE_PAUSE: Duration = Duration::from_millis(30);

/// How many peers an epoch may have until the next start: three committees as large as any that
/// is known, and some to grow.
fn peers_max<M: Machine>(core: &Core<M>) -> NonZeroUsize {
    let head = core.head.borrow();
    let known = head.header.epoch..=head.header.epoch + 3;
    let largest = known
        .filter_map(|epoch| core.machine.committee(&head.state, epoch))
        .map(|members| members.len())
        .max();
    let peers = largest.unwrap_or_default() * 7 / 2;
    NonZeroUsize::new(peers.clamp(PEERS_MIN, PEERS_MAX)).expect("more than none")
}

/// Where the engine keeps an epoch's votes, each behind this.
fn votes_of(prefix: &str) -> String {
    format!("{prefix}simplex")
}

/// Largest message of any channel.
pub fn message_bytes_max() -> u32 {
    commonware_p2p::max_message_size(&[
        orchestrator::max_payload_size::<Scheme, sha256::Digest>(MEMBERS_MAX),
        marshal::max_payload_size::<Standard<Block>, Scheme>(MEMBERS_MAX, &()),
        dkg::max_payload_size::<MinSig, ed25519::PublicKey>(NZU32!(MEMBERS_MAX)),
        BATCH_BYTES_MAX,
    ])
}

/// Starts all that is above the network; evaluates to the handles of its tasks.
/// `$prefix` keeps nodes apart that share one storage; `$table`: slots of a new archive's index.
macro_rules! start_parts {
    ($context:ident, $config:ident, $core:ident, $vault:ident, $forwarded:expr,
     $blocker:ident, $provider:ident, $prefix:expr, $table:expr, $channels:expr, $known:expr) => {{
        let (context, config, core) = (&$context, &$config, $core);
        let blocks_per_epoch = config.epoch_blocks;
        let schemes = Schemes::new(&config.committee, core.seated.clone(), $known);
        let [
            votes,
            certificates,
            resolver,
            backfill,
            broadcast,
            transactions,
            ceremony,
            clocks,
        ] = $channels;
        let (sender, receiver) = transactions;
        let prefix: &str = $prefix;
        let me = config.seat.identity.public_key();
        let resolver_engine = marshal_resolver::init(
            context.child("backfill"),
            marshal_resolver::Config {
                public_key: me.clone(),
                peer_provider: $provider.clone(),
                blocker: $blocker.clone(),
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
                peer_provider: $provider.clone(),
                strategy: Sequential,
            },
        );
        let broadcaster = broadcaster.start(broadcast);

        let cache = CacheRef::new(PAGE, PAGES);
        let archive = |name: &str| immutable::Config {
            metadata_partition: format!("{prefix}{name}-metadata"),
            freezer_table_partition: format!("{prefix}{name}-table"),
            freezer_table_initial_size: $table,
            freezer_table_resize_frequency: 4,
            freezer_table_resize_chunk_size: $table / 4,
            freezer_key_partition: format!("{prefix}{name}-key"),
            freezer_key_page_cache: cache.clone(),
            freezer_value_partition: format!("{prefix}{name}-value"),
            freezer_value_target_size: 64 << 20,
            freezer_value_compression: None,
            ordinal_partition: format!("{prefix}{name}-ordinal"),
            items_per_section: SECTION,
            freezer_key_write_buffer: BUFFER,
            freezer_value_write_buffer: BUFFER,
            ordinal_write_buffer: BUFFER,
            replay_buffer: BUFFER,
            codec_config: (),
        };
        let part = |name: &str| prunable::Config {
            translator: EightCap,
            metadata_partition: format!("{prefix}last-{name}-metadata"),
            key_partition: format!("{prefix}last-{name}-key"),
            key_page_cache: cache.clone(),
            value_partition: format!("{prefix}last-{name}-value"),
            compression: None,
            codec_config: (),
            items_per_section: FORGOTTEN_AT_ONCE,
            key_write_buffer: BUFFER,
            value_write_buffer: BUFFER,
            replay_buffer: BUFFER,
        };
        let (finalizations, blocks) = if core.store.forgets().expect("the store is read") {
            let finalizations =
                prunable::Archive::init(context.child("finalizations"), part("finalizations"));
            let blocks = prunable::Archive::init(context.child("blocks"), part("blocks"));
            (
                Kept::Part(
                    finalizations
                        .await
                        .expect("the archive of certificates opens"),
                ),
                Kept::Part(blocks.await.expect("the archive of blocks opens")),
            )
        } else {
            let finalizations =
                immutable::Archive::init(context.child("finalizations"), archive("finalizations"));
            let blocks = immutable::Archive::init(context.child("blocks"), archive("blocks"));
            (
                Kept::All(
                    finalizations
                        .await
                        .expect("the archive of certificates opens"),
                ),
                Kept::All(blocks.await.expect("the archive of blocks opens")),
            )
        };
        let (blocks, start, entered) = match &core.floor {
            None => {
                let first = core.genesis.clone();
                let first = first.expect("the genesis was made when the node was opened");
                let first = Digested::compute(first, &Sequential).await;
                (blocks, Start::Genesis(first), None)
            }
            Some(floor) => {
                let anchor = floor
                    .anchor(&core.store)
                    .expect("the block that this validator begins with is kept");
                let digest = anchor.block.digest();
                // Put once, before all others; it may be forgotten by now.
                let blocks = if Blocks::last_index(&blocks).is_none() {
                    let put = Blocks::put(blocks, digest, &Arc::new(anchor.block)).await;
                    let blocks = put.expect("the archive of blocks is written");
                    let synced = Blocks::sync(blocks).await;
                    synced.expect("the archive of blocks is written")
                } else {
                    blocks
                };
                let floor = anchor.certificate;
                let entered = StateSync {
                    info: anchor.info,
                    floor: floor.clone(),
                };
                (blocks, Start::Floor(floor), Some(entered))
            }
        };
        let epocher = FixedEpocher::new(blocks_per_epoch);
        let (marshal_actor, marshal, _) = MarshalActor::init(
            context.child("marshal"),
            finalizations,
            blocks,
            marshal::Config {
                provider: schemes.clone(),
                epocher: epocher.clone(),
                start,
                partition_prefix: format!("{prefix}marshal"),
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
        let synced = SyncPlan::init(
            context.child("synced"),
            SyncConfig {
                partition_prefix: format!("{prefix}epochs"),
                max_participants: NZU32!(MEMBERS_MAX),
                max_supported_mode: MODE_NEWEST,
            },
            entered,
        )
        .await;
        let (fence, gate) = Fence::new();
        let (reshare, reshare_mailbox) = reshare::Actor::new(
            context.child("reshare"),
            reshare::Config {
                signer: config.seat.identity.clone(),
                manager: $provider.clone(),
                blocker: $blocker.clone(),
                participants_provider: Drawn(core.clone()),
                secret_store: $vault,
                strategy: Sequential,
                registrar: Registry {
                    schemes: schemes.clone(),
                    drawn: Drawn(core.clone()),
                },
                marshal: marshal.clone(),
                state_sync: synced.clone(),
                fence,
                namespace: NAMESPACE,
                sharing_mode: MODE,
                reveal: Reveal::V1,
                mailbox_size: MAILBOX,
                partition_prefix: format!("{prefix}reshare"),
                page_cache: cache.clone(),
                write_buffer: BUFFER,
                replay_buffer: BUFFER,
                max_participants: NZU32!(MEMBERS_MAX),
                blocks_per_epoch,
            },
        );
        let reshare = reshare.start(ceremony);
        let app = Inline::new(
            context.child("app"),
            reshare::Application::new(
                App { core: core.clone() },
                reshare_mailbox.clone(),
                blocks_per_epoch,
            ),
            marshal.clone(),
            epocher,
        );
        let (orchestrator, orchestrator_mailbox) = orchestrator::Actor::new(
            context.child("orchestrator"),
            orchestrator::Config {
                oracle: $blocker.clone(),
                manager: $provider.clone(),
                provider: schemes,
                marshal: marshal.clone(),
                application: Ears {
                    inner: app,
                    core: core.clone(),
                    context: Arc::new(context.child("ears")),
                },
                strategy: Sequential,
                simplex: orchestrator::SimplexConfig {
                    elector: ByLot(core.seated.clone()),
                    mailbox_size: MAILBOX,
                    replay_buffer: BUFFER,
                    write_buffer: BUFFER,
                    page_cache: cache,
                    leader_timeout: Duration::from_millis(1_400),
                    certification_timeout: Duration::from_millis(2_500),
                    timeout_retry: Duration::from_millis(500),
                    fetch_timeout: NZDuration!(Duration::from_secs(2)),
                    fetch_retry_delay: Duration::from_millis(100),
                    view_retention: ViewDelta::new(64),
                    skip: SkipPolicy::Enabled {
                        timeout: Duration::from_secs(3),
                        budget: SkipBudget::Participants,
                    },
                    track_historical_votes: false,
                    forward: ForwardPolicy::Disabled,
                },
                gate,
                state_sync: synced,
                blocks_per_epoch,
                mailbox_size: MAILBOX,
                partition_prefix: votes_of(prefix),
            },
        );
        let engine = orchestrator.start(votes, certificates, resolver);
        let (inbox, finalised) = mpsc::unbounded_channel();
        let reporters = Reporters::from((
            Inbox(inbox),
            Reporters::from((orchestrator_mailbox, reshare_mailbox)),
        ));
        let marshal_handle = marshal_actor.start(reporters, buffer, resolver_engine);

        let finalizer = {
            let (core, forgetful) = (core.clone(), marshal.clone());
            let votes = votes_of(prefix);
            context.child("finalizer").spawn(move |context| async move {
                let certificate = |height| {
                    let marshal = marshal.clone();
                    async move {
                        let found = marshal.get_finalization(Height::new(height)).await?;
                        Some(found.encode().to_vec())
                    }
                };
                let prune = |below| forgetful.prune(Height::new(below));
                let disk = context.child("votes");
                let forget = |epoch| {
                    let (disk, partition) = (&disk, format!("{votes}_consensus_{epoch}"));
                    async move { disk.remove(&partition, None).await.is_ok() }
                };
                finalizer::run(context, core, finalised, certificate, prune, forget).await;
            })
        };
        let receiving = {
            let core = core.clone();
            // On a thread of its own: checking a batch takes milliseconds.
            let context = context.child("transactions").dedicated();
            context.spawn(move |_| async move { receive(&core, receiver).await })
        };
        let (mut tell, mut told) = clocks;
        let hearing = {
            let core = core.clone();
            context.child("clocks").spawn(move |_| async move {
                while let Ok((from, bytes)) = told.recv().await {
                    let seen = core.clocks.hear(key_bytes(&from), bytes.as_ref());
                    if let Some((leader, seal)) = seen {
                        core.heard_of(leader, seal);
                    }
                }
            })
        };
        let telling = {
            let core = core.clone();
            let me = me.clone();
            context.child("clock").spawn(move |clock| async move {
                loop {
                    let leaders = core.leaders_after(core.head_term());
                    let height = core.head.borrow().header.height;
                    let epoch = light::epoch_of(height + 1, core.epoch_blocks);
                    if core.seated.of(epoch).contains(&me) {
                        let mut told = core.clocks.state(height, core.now_ms(&clock));
                        told.seen = core.sightings.newest();
                        let message = borsh::to_vec(&told).expect("writing to memory");
                        let others = leaders.into_iter().map(|(_, leader)| leader);
                        let others = others.filter(|leader| *leader != me);
                        tell.send(Recipients::Some(others.collect()), message, false);
                    }
                    // Looked at, not waited for: a watched value wakes those who wait for it in
                    // an order that no seed decides.
                    let mut waited = Duration::ZERO;
                    while waited < STATE_EVERY
                        && (waited.is_zero() || core.head.borrow().header.height == height)
                    {
                        clock.sleep(STATE_PAUSE).await;
                        waited += STATE_PAUSE;
                    }
                }
            })
        };
        let sending = {
            let core = core.clone();
            let forwarded = $forwarded;
            context.child("forward").spawn(move |clock| async move {
                send_on(&core, &clock, forwarded, sender, &me).await;
            })
        };
        [
            broadcaster,
            marshal_handle,
            reshare,
            engine,
            finalizer,
            receiving,
            hearing,
            telling,
            sending,
        ]
    }};
}

/// How validators authenticate each other and link up: only with those of the same `namespace`.
/// `room`: most peers of an epoch.
pub(crate) fn links(
    signer: ed25519::PrivateKey,
    namespace: &[u8],
    listen: SocketAddr,
    room: NonZeroUsize,
    bytes_max: u32,
) -> lookup::Config<Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>> {
    let handshake = Cups::new(
        Sake {
            signer,
            synchrony_bound: Duration::from_secs(5),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let mut p2p = lookup::Config::local(handshake, namespace, listen, room, bytes_max, MAILBOX);
    // Validators may share an address (`dev`): their number bounds handshakes, not their hosts.
    p2p.allowed_handshake_rate_per_ip = Quota::per_second(NZU32!(256));
    p2p.allowed_handshake_rate_per_subnet = Quota::per_second(NZU32!(256));
    p2p.tracked_peer_sets = PEER_SETS;
    p2p.peer_connection_cooldown = Duration::from_millis(200);
    p2p
}

/// Runs until the handle says so or a part fails.
pub async fn on_tokio<M: Machine>(
    context: commonware_runtime::tokio::Context,
    config: Config,
    core: Arc<Core<M>>,
    vault: Vault,
    ends: Ends,
) {
    let room = peers_max(&core);
    let p2p = links(
        config.seat.identity.clone(),
        &[NAMESPACE, b"_P2P"].concat(),
        config.listen,
        room,
        message_bytes_max(),
    );
    let (mut network, oracle) = lookup::Network::new(context.child("network"), p2p);
    let figures = context.child("figures");
    // A node is started once.
    let _ = core.figures.set(Box::new(move || figures.encode()));
    let votes = network.register(VOTES, RATE);
    let certificates = network.register(CERTIFICATES, RATE);
    let resolver = network.register(RESOLVER, RATE);
    let backfill = network.register(BACKFILL, RATE);
    let broadcast = network.register(BROADCAST, RATE);
    let transactions = network.register(TRANSACTIONS, RATE);
    let ceremony = network.register(CEREMONY, RATE);
    let clocks = network.register(CLOCKS, RATE);
    let network = network.start();
    let channels = [
        votes,
        certificates,
        resolver,
        backfill,
        broadcast,
        transactions,
        ceremony,
        clocks,
    ];
    let manager = Roads::new(oracle.clone(), &config.addresses, room.get());
    let parts = start_parts!(
        context,
        config,
        core,
        vault,
        ends.forwarded,
        oracle,
        manager,
        "",
        TABLE,
        channels,
        Known::default()
    );
    tokio::select! {
        _ = ends.stopped => {}
        ended = Handle::select(parts.into_iter().chain([network])) => {
            tracing::error!(?ended, "a part of the validator has stopped");
        }
    }
}

/// What one node of a simulation is started with.
#[cfg(feature = "simulation")]
pub struct Life<M: Machine> {
    /// Of its engine's part of the storage.
    pub prefix: String,
    pub config: Config,
    pub core: Arc<Core<M>>,
    pub vault: Vault,
    pub ends: Ends,
}

/// As [`on_tokio`], on a virtual clock, network and disk. Of `lives` there is one; or two, that
/// have one identity and do not know of each other.
#[cfg(feature = "simulation")]
pub async fn on_simulated<M: Machine>(
    context: commonware_runtime::deterministic::Context,
    lives: Vec<Life<M>>,
    oracle: crate::simulation::Network,
    malice: crate::simulation::Malice,
    known: Known,
) {
    let Some(me) = lives.first().map(|life| &life.config.seat.identity) else {
        return;
    };
    let control = oracle.control(me.public_key());
    let mut first = Vec::new();
    let mut second = Vec::new();
    for channel in CHANNELS {
        let Ok((sender, receiver)) = control.register(channel, RATE).await else {
            tracing::error!("the simulated network is gone");
            return;
        };
        let (mouth, other_mouth) = sender.clone().split_with(malice.mouth(channel, sender));
        if lives.len() == 1 {
            first.push((mouth, receiver));
        } else {
            let (ear, other_ear) = receiver.split_with(context.child("split"), malice.ear());
            first.push((mouth, ear));
            second.push((other_mouth, other_ear));
        }
    }
    let mut parts = Vec::new();
    let mut stops = Vec::new();
    for (life, channels) in lives.into_iter().zip([first, second]) {
        let Life {
            prefix,
            config,
            core,
            vault,
            ends,
        } = life;
        let Ok(channels) = <[_; 8]>::try_from(channels) else {
            return;
        };
        let provider = Roads::new(oracle.socket_manager(), &config.addresses, PEERS_MAX);
        let context = context
            .child("life")
            .with_attribute("of", config.listen.port());
        let control = control.clone();
        parts.extend(start_parts!(
            context,
            config,
            core,
            vault,
            ends.forwarded,
            control,
            provider,
            &prefix,
            TABLE_SIMULATED,
            channels,
            known.clone()
        ));
        stops.push(ends.stopped);
    }
    tokio::select! {
        biased;
        _ = futures::future::select_all(stops) => {}
        ended = Handle::select(parts) => {
            tracing::error!(?ended, "a part of the validator has stopped");
        }
    }
}
