//! All links of one host, and the interface whose packets they carry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use iroh::endpoint::{
    Connection, Incoming, IncomingAddr, PortmapperConfig, QuicTransportConfig, VarInt, presets,
};
use iroh::{
    Endpoint, EndpointAddr, NetReportConfig, RelayConfig, RelayMap, RelayMode, RelayUrl,
    TransportAddr,
};
use iroh_relay::RelayQuicConfig;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use types::{AccountId, HostId, PublicKey, SecretKey};

use crate::limits::{
    BATCH, BUFFER_BYTES, DIAL_TIME, HANDSHAKES_MAX, IDLE_TIME, KEEPALIVE, LARGE_MAX, LARGE_TIME,
    MSS, MTU, PAUSE_MAX, PAUSE_MIN, PEERS_MAX, YIELD_TIME,
};
use crate::link::{Link, Peer};
use crate::mirror::unproven;
use crate::packet;
use crate::table::{Label, Table};
use crate::tun::Tun;
use crate::{MeshError, Place};

const ALPN: &[u8] = b"runrig-mesh/1";
const REFUSED: VarInt = VarInt::from_u32(1);

pub struct Config {
    /// The host's key on the ledger.
    pub key: SecretKey,
    /// UDP; port 0 takes any.
    pub listen: SocketAddr,
    /// URLs of relays that this host can be found at. Without one, a host that no other
    /// reaches finds only hosts that it reaches.
    pub relays: Vec<String>,
    /// Name of the interface to make, at most 15 letters.
    pub tunnel: String,
}

/// Runs until dropped.
pub struct Mesh {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    own: HostId,
    endpoint: Endpoint,
    tun: Tun,
    table: ArcSwap<Table>,
    peers: ArcSwap<BTreeMap<HostId, Arc<Peer>>>,
    /// One change of `peers` at a time. Relays that are not used yet.
    changing: Mutex<Vec<RelayUrl>>,
    up: watch::Sender<BTreeMap<HostId, bool>>,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for peer in self.shared.peers.load().values() {
            peer.part(b"the agent ends");
        }
    }
}

fn seed(key: &SecretKey) -> Result<[u8; 32], MeshError> {
    let mut seed = [0; 32];
    hex::decode_to_slice(key.to_hex(), &mut seed)
        .map_err(|e| MeshError::new("read the host's key", e, "See DATA/host.key"))?;
    Ok(seed)
}

fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(LARGE_MAX))
        .stream_receive_window(VarInt::from_u32(8 << 10))
        .receive_window(VarInt::from_u32(256 << 10))
        .send_window(256 << 10)
        .datagram_receive_buffer_size(Some(BUFFER_BYTES))
        .datagram_send_buffer_size(BUFFER_BYTES)
        .max_idle_timeout(IDLE_TIME.try_into().ok())
        .keep_alive_interval(KEEPALIVE)
        .default_path_keep_alive_interval(KEEPALIVE)
        .default_path_max_idle_timeout(IDLE_TIME)
        .build()
}

impl Mesh {
    /// Errors: what this machine lacks or who has the port, before anything is sent.
    pub async fn open(config: Config) -> Result<Self, MeshError> {
        let open = |why: String| {
            MeshError::new(
                "open the mesh",
                why,
                "Choose another UDP port with --mesh, or end what uses it",
            )
        };
        let tun = Tun::open(&config.tunnel, MTU).map_err(|e| {
            MeshError::new(
                "make the interface that joins hosts",
                format!("/dev/net/tun: {e}"),
                "The agent runs as root on a kernel with tun: modprobe tun",
            )
        })?;
        let relays: Vec<RelayUrl> = config
            .relays
            .iter()
            .map(|url| url.parse())
            .collect::<Result<_, _>>()
            .map_err(|e| MeshError::new("read a relay's URL", e, "Say --relay http://IP:PORT"))?;
        // Which of our relays is near; nothing else is asked about.
        let mut reports = NetReportConfig::minimal();
        reports.https_probes = true;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let endpoint = Endpoint::builder(presets::Empty)
            .crypto_provider(Arc::new(provider))
            // Of relays, for the question how we are seen: the answer is only ever tried.
            .ca_tls_config(unproven())
            .secret_key(iroh::SecretKey::from_bytes(&seed(&config.key)?))
            .alpns(vec![ALPN.to_vec()])
            .relay_mode(RelayMode::Custom(RelayMap::empty()))
            .clear_address_lookup()
            .portmapper_config(PortmapperConfig::Disabled)
            .net_report_config(reports)
            .transport_config(transport())
            .clear_ip_transports()
            .bind_addr(config.listen)
            .map_err(|e| open(format!("{}: {e}", config.listen)))?
            .bind()
            .await
            .map_err(|e| open(format!("{}: {e}", config.listen)))?;
        let shared = Arc::new(Shared {
            own: AccountId::of(&config.key.public()),
            endpoint,
            tun,
            table: ArcSwap::default(),
            peers: ArcSwap::default(),
            changing: Mutex::new(relays),
            up: watch::Sender::default(),
        });
        let tasks = vec![
            tokio::spawn(accept(shared.clone())),
            tokio::spawn(send(shared.clone())),
        ];
        Ok(Self { shared, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.shared.endpoint.bound_sockets().into_iter().next()
    }

    /// Whom to have links with: the plan's other hosts, and where those are that said so.
    /// Called within a runtime.
    pub fn set_peers(&self, places: BTreeMap<HostId, Option<Place>>) {
        let shared = &self.shared;
        let mut relays = shared
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if places.len() > PEERS_MAX {
            tracing::warn!(hosts = places.len(), "more than links are kept to");
        }
        let old = shared.peers.load_full();
        let mut new = BTreeMap::new();
        let wanted = places.into_iter().filter(|(id, _)| *id != shared.own);
        for (id, place) in wanted.take(PEERS_MAX) {
            let peer = match old.get(&id) {
                Some(known) => {
                    known.set_place(place);
                    known.clone()
                }
                None => {
                    let peer = Arc::new(Peer::new(id, place));
                    let task = keep(Arc::downgrade(shared), peer.clone());
                    peer.keep_by(tokio::spawn(task).abort_handle());
                    peer
                }
            };
            new.insert(id, peer);
        }
        if !new.is_empty() {
            // Nobody else needs to find us.
            for url in std::mem::take(&mut *relays) {
                let endpoint = shared.endpoint.clone();
                tokio::spawn(async move {
                    // It tells us on the same port how we are seen.
                    let port = url.port_or_known_default().map(RelayQuicConfig::new);
                    let relay = RelayConfig::new(url.clone(), port);
                    endpoint.insert_relay(url, Arc::new(relay)).await;
                });
            }
        }
        let new = Arc::new(new);
        shared.peers.store(new.clone());
        for (id, peer) in old.iter() {
            if !new.contains_key(id) {
                peer.part(b"no neighbour any more");
            }
        }
        shared.tell();
    }

    pub fn set_table(&self, table: Table) {
        self.shared.table.store(Arc::new(table));
    }

    /// Which neighbours can be reached, whenever that changes.
    pub fn up(&self) -> watch::Receiver<BTreeMap<HostId, bool>> {
        self.shared.up.subscribe()
    }

    pub fn links(&self) -> BTreeMap<HostId, Link> {
        let peers = self.shared.peers.load();
        peers.iter().map(|(id, p)| (*id, p.link())).collect()
    }

    /// Says goodbye, so that others need not wait for the silence.
    pub async fn close(self) {
        for peer in self.shared.peers.load().values() {
            peer.part(b"the agent ends");
        }
        let closing = self.shared.endpoint.close();
        let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
    }
}

impl Shared {
    fn tell(&self) {
        let peers = self.peers.load();
        let now: BTreeMap<HostId, bool> = peers.iter().map(|(id, p)| (*id, p.is_up())).collect();
        self.up.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    fn join(self: Arc<Self>, peer: Arc<Peer>, connection: Connection) {
        peer.add(connection.clone());
        self.tell();
        tracing::debug!(host = %peer.id, link = ?peer.link(), "linked");
        tokio::spawn(async move { self.attend(&peer, connection).await });
    }

    /// Takes what comes on a connection until it ends.
    async fn attend(&self, peer: &Peer, connection: Connection) {
        let datagrams = async {
            let mut batch = vec![Bytes::new(); BATCH];
            while let Ok(count) = connection.read_many_datagrams(&mut batch).await {
                let table = self.table.load();
                for frame in batch[..count].iter_mut() {
                    self.deliver(&table, &peer.id, std::mem::take(frame));
                }
            }
        };
        let large = async {
            while let Ok(mut stream) = connection.accept_uni().await {
                let read = stream.read_to_end(usize::from(MTU) + Label::LENGTH);
                if let Ok(Ok(frame)) = tokio::time::timeout(LARGE_TIME, read).await {
                    self.deliver(&self.table.load(), &peer.id, frame.into());
                }
            }
        };
        tokio::join!(datagrams, large);
        peer.remove(&connection);
        self.tell();
        tracing::debug!(host = %peer.id, reason = ?connection.close_reason(), "link ended");
    }

    fn deliver(&self, table: &Table, from: &HostId, frame: Bytes) {
        let mut frame = Vec::from(frame);
        let Some((label, packet)) = Label::split(&mut frame) else {
            return;
        };
        let Some(ends) = table.inward(from, &label) else {
            return;
        };
        if packet::rewrite(packet, ends) {
            self.tun.write(packet);
        }
    }
}

/// Carries packets from the interface to links.
async fn send(shared: Arc<Shared>) {
    loop {
        let mut batches: Vec<(HostId, Vec<Bytes>)> = Vec::new();
        let mut lost: Vec<Vec<u8>> = Vec::new();
        let read = shared.tun.read(BATCH, |packet| {
            let Some((host, label)) = shared.table.load().outward(packet) else {
                return;
            };
            let peers = shared.peers.load();
            if !peers.get(&host).is_some_and(|p| p.is_up()) {
                lost.extend(packet::unreachable(packet));
                return;
            }
            packet::clamp(packet, MSS);
            let mut frame = Vec::with_capacity(Label::LENGTH + packet.len());
            label.write(&mut frame);
            frame.extend_from_slice(packet);
            match batches.last_mut() {
                Some((last, frames)) if *last == host => frames.push(frame.into()),
                _ => batches.push((host, vec![frame.into()])),
            }
        });
        if let Err(error) = read.await {
            tracing::error!(%error, "packets to other hosts cannot be read");
            tokio::time::sleep(PAUSE_MAX).await;
            continue;
        }
        let peers = shared.peers.load();
        for (host, frames) in batches {
            if let Some(peer) = peers.get(&host) {
                peer.send(&frames);
            }
        }
        for answer in lost {
            shared.tun.write(&answer);
        }
    }
}

async fn accept(shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = shared.endpoint.accept().await {
        let unproven = matches!(incoming.remote_addr(), IncomingAddr::Ip(_))
            && !incoming.remote_addr_validated();
        if unproven && places.available_permits() < HANDSHAKES_MAX / 2 {
            // Whoever asks with somebody else's address hears nothing more.
            let _ = incoming.retry();
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let welcomed = tokio::time::timeout(DIAL_TIME, welcome(&shared, incoming)).await;
            drop(place);
            if let Ok(Some((peer, connection))) = welcomed {
                shared.join(peer, connection);
            }
        });
    }
}

/// A neighbour's connection; others are told to go.
async fn welcome(shared: &Shared, incoming: Incoming) -> Option<(Arc<Peer>, Connection)> {
    let connection = incoming.accept().ok()?.await.ok()?;
    let id = AccountId::of(&PublicKey(*connection.remote_id().as_bytes()));
    let Some(peer) = shared.peers.load().get(&id).cloned() else {
        tracing::debug!(host = %id, "no neighbour: refused");
        connection.close(REFUSED, b"the plan does not name you as a neighbour");
        return None;
    };
    Some((peer, connection))
}

fn endpoint_address(place: &Place) -> Option<EndpointAddr> {
    let key = iroh::PublicKey::from_bytes(&place.key.0).ok()?;
    let direct = place.addresses.iter().copied().map(TransportAddr::Ip);
    let relay = place.relay.iter().filter_map(|url| url.parse().ok());
    let relay = relay.map(TransportAddr::Relay);
    Some(EndpointAddr::from_parts(key, direct.chain(relay)))
}

/// Sees to it that there is a link to `peer`.
async fn keep(shared: std::sync::Weak<Shared>, peer: Arc<Peer>) {
    let mut pause = PAUSE_MIN;
    let second = shared.upgrade().is_some_and(|s| s.own > peer.id);
    if second {
        let _ = tokio::time::timeout(YIELD_TIME, peer.changed.notified()).await;
    }
    loop {
        if peer.is_up() {
            pause = PAUSE_MIN;
            peer.changed.notified().await;
            continue;
        }
        let place = peer.place();
        let own = |place: &Place| AccountId::of(&place.key) == peer.id;
        let Some(address) = place.filter(own).as_ref().and_then(endpoint_address) else {
            peer.changed.notified().await;
            continue;
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let dialled = tokio::time::timeout(DIAL_TIME, shared.endpoint.connect(address, ALPN)).await;
        match dialled {
            Ok(Ok(connection)) => shared.join(peer.clone(), connection),
            failed => {
                drop(shared);
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "it does not answer".into(),
                };
                tracing::debug!(host = %peer.id, why, "not linked");
                let _ = tokio::time::timeout(pause, peer.changed.notified()).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
