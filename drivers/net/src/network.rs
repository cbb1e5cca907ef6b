//! All networks of one host agent: attach, detach, find again after a restart, clean up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::{
    AttachRequest, Attachment, Directory, Interface, NetError, NetworkKey, dns, firewall, link,
    pool,
};

/// Namespaces made ahead.
const READY: usize = 3;

#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    pub state: PathBuf,
    /// 1 to 4 of `[a-z0-9]`, unique per host agent on this machine: part of every name.
    pub tag: String,
    /// Asked for names that are not ours; the machine's own if empty.
    pub upstreams: Vec<SocketAddr>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Serialised as a list: JSON has no keys like ours.
    networks: Vec<(NetworkKey, Net)>,
    attachments: BTreeMap<String, Attachment>,
    serial: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Net {
    number: u8,
    internal: bool,
}

struct Inner {
    known: Known,
    ready: Vec<PathBuf>,
    servers: BTreeMap<NetworkKey, JoinHandle<()>>,
}

pub struct Network {
    config: NetworkConfig,
    range: Ipv4Addr,
    handle: rtnetlink::Handle,
    inner: Mutex<Inner>,
    directory: Arc<RwLock<Directory>>,
    rules: Arc<tokio::sync::Notify>,
}

impl Network {
    /// Finds again what a former agent of the same state left.
    pub async fn open(config: NetworkConfig) -> Result<Self, NetError> {
        let good = (1..=4).contains(&config.tag.len())
            && config
                .tag
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let failed =
            |why: String| NetError::new("open the networks", why, "See the host's data folder");
        if !good {
            return Err(failed("a tag has 1 to 4 letters and digits".into()));
        }
        std::fs::create_dir_all(config.state.join("netns")).map_err(|e| failed(e.to_string()))?;
        let range = pool::claim(&config.state, &config.tag)?;
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| failed(e.to_string()))?;
        tokio::spawn(connection);
        let known = match std::fs::read(config.state.join("networks.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?,
            Err(_) => Known::default(),
        };
        let network = Self {
            config,
            range,
            handle,
            inner: Mutex::new(Inner {
                known,
                ready: Vec::new(),
                servers: BTreeMap::new(),
            }),
            directory: Arc::default(),
            rules: Arc::default(),
        };
        network.restore().await?;
        Ok(network)
    }

    /// Tries everything once; says what this machine lacks.
    pub async fn probe(&self) -> Result<(), NetError> {
        let key = NetworkKey {
            deployment: "probe".into(),
            network: "probe".into(),
        };
        let request = AttachRequest {
            container: "probe".into(),
            networks: vec![(key, false)],
            bandwidth_kbps: 10_000,
        };
        let forward = "/proc/sys/net/ipv4/ip_forward";
        if std::fs::read_to_string(forward).is_ok_and(|v| v.trim() == "0") {
            tracing::info!("switching IPv4 forwarding on: containers reach the outside through it");
            std::fs::write(forward, "1").map_err(|e| {
                NetError::new(
                    "switch IPv4 forwarding on",
                    e,
                    "Run: sysctl -w net.ipv4.ip_forward=1",
                )
            })?;
        }
        let tried = self.attach(&request).await.map(|_| ());
        self.detach("probe").await?;
        tried
    }

    async fn restore(&self) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        // After a reboot the namespaces are gone, and so are the containers.
        inner
            .known
            .attachments
            .retain(|_, a| std::fs::File::open(&a.netns).is_ok_and(|f| is_namespace(&f)));
        let attached: BTreeSet<PathBuf> = inner
            .known
            .attachments
            .values()
            .map(|a| a.netns.clone())
            .collect();
        let entries = std::fs::read_dir(self.config.state.join("netns"))
            .into_iter()
            .flatten();
        for path in entries.flatten().map(|e| e.path()) {
            if !attached.contains(&path) {
                link::remove_netns(&path)?;
            }
        }
        let used: BTreeSet<NetworkKey> = inner
            .known
            .attachments
            .values()
            .flat_map(|a| a.interfaces.iter().map(|i| i.network.clone()))
            .collect();
        inner.known.networks.retain(|(key, _)| used.contains(key));
        for (key, net) in inner.known.networks.clone() {
            self.serve(&mut inner, &key, &net).await?;
        }
        self.save(&inner)?;
        self.apply_rules(&inner).await
    }

    fn bridge_name(&self, number: u8) -> String {
        format!("r{}b{number}", self.config.tag)
    }

    fn subnet(&self, number: u8) -> Ipv4Addr {
        let [a, b, _, _] = self.range.octets();
        Ipv4Addr::new(a, b, number, 0)
    }

    fn address(&self, number: u8, host: u8) -> Ipv4Addr {
        let [a, b, _, _] = self.range.octets();
        Ipv4Addr::new(a, b, number, host)
    }

    /// The bridge, and names on it.
    async fn serve(&self, inner: &mut Inner, key: &NetworkKey, net: &Net) -> Result<(), NetError> {
        let at = self.address(net.number, 1);
        link::bridge(&self.handle, &self.bridge_name(net.number), at, 24).await?;
        if inner.servers.contains_key(key) {
            return Ok(());
        }
        let upstreams = match self.config.upstreams.is_empty() {
            true => dns::system_upstreams(),
            false => self.config.upstreams.clone(),
        };
        let zone = dns::Zone::new(key.clone(), net.internal, self.directory.clone(), upstreams);
        let zone = Arc::new(zone);
        let server = tokio::spawn(async move {
            loop {
                let Err(error) = dns::serve(zone.clone(), at).await;
                tracing::warn!(%error, %at, "names are not served; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        });
        inner.servers.insert(key.clone(), server);
        Ok(())
    }

    /// The same request again gives the same attachment.
    pub async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetError> {
        let mut inner = self.inner.lock().await;
        if let Some(attachment) = inner.known.attachments.get(&request.container) {
            return Ok(attachment.clone());
        }
        let mut interfaces = Vec::new();
        let mut inners = Vec::new();
        let mut fresh = false;
        let netns = match inner.ready.pop() {
            Some(path) => path,
            None => self.fresh_netns(&mut inner).await?,
        };
        let open = || -> Result<OwnedFd, NetError> {
            std::fs::File::open(&netns)
                .map(OwnedFd::from)
                .map_err(|e| NetError::new("open a network namespace", e, "Restart the host agent"))
        };
        let fd = open()?;
        let mut routed = false;
        for (at, (key, internal)) in request.networks.iter().enumerate() {
            let known = inner
                .known
                .networks
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, n)| n.clone());
            let net = match known {
                Some(net) => net,
                None => {
                    fresh = true;
                    let taken: BTreeSet<u8> =
                        inner.known.networks.iter().map(|(_, n)| n.number).collect();
                    let number = (0..=u8::MAX).find(|n| !taken.contains(n)).ok_or_else(|| {
                        NetError::new(
                            "make a network",
                            "this host has 256 already",
                            "Use another host",
                        )
                    })?;
                    let net = Net {
                        number,
                        internal: *internal,
                    };
                    inner.known.networks.push((key.clone(), net.clone()));
                    net
                }
            };
            self.serve(&mut inner, key, &net).await?;
            let taken: BTreeSet<Ipv4Addr> = inner
                .known
                .attachments
                .values()
                .flat_map(|a| a.interfaces.iter().map(|i| i.address))
                .collect();
            let address = (2..=254)
                .map(|host| self.address(net.number, host))
                .find(|a| !taken.contains(a))
                .ok_or_else(|| {
                    NetError::new(
                        "attach a container",
                        "its network has 253 here already",
                        "Use more hosts",
                    )
                })?;
            inner.known.serial += 1;
            let host_name = format!("r{}v{}", self.config.tag, inner.known.serial);
            let from = format!("r{}p{}", self.config.tag, inner.known.serial);
            let bridge = self.bridge_name(net.number);
            link::veth(
                &self.handle,
                &host_name,
                &from,
                &bridge,
                &fd,
                request.bandwidth_kbps,
            )
            .await?;
            let gateway = (!routed && !internal).then(|| self.address(net.number, 1));
            routed |= gateway.is_some();
            let container_name = format!("eth{at}");
            inners.push(link::Inner {
                from,
                name: container_name.clone(),
                address,
                prefix: 24,
                gateway,
                kbps: request.bandwidth_kbps,
            });
            // An internal network has no way out, but peers on other agents are routed.
            interfaces.push(Interface {
                network: key.clone(),
                host_name,
                container_name,
                address,
            });
        }
        if !routed && let (Some(first), Some(interface)) = (inners.first_mut(), interfaces.first())
        {
            let [a, b, c, _] = interface.address.octets();
            first.gateway = Some(Ipv4Addr::new(a, b, c, 1));
        }
        let configured = tokio::task::spawn_blocking(move || link::configure(fd, inners)).await;
        configured.map_err(|e| NetError::new("attach a container", e, "Try again"))??;
        let dns = interfaces.first().map_or(Ipv4Addr::LOCALHOST, |i| {
            let [a, b, c, _] = i.address.octets();
            Ipv4Addr::new(a, b, c, 1)
        });
        let attachment = Attachment {
            netns,
            interfaces,
            dns,
        };
        inner
            .known
            .attachments
            .insert(request.container.clone(), attachment.clone());
        self.save(&inner)?;
        if fresh {
            self.apply_rules(&inner).await?;
        }
        Ok(attachment)
    }

    async fn fresh_netns(&self, inner: &mut Inner) -> Result<PathBuf, NetError> {
        inner.known.serial += 1;
        let path = self
            .config
            .state
            .join("netns")
            .join(inner.known.serial.to_string());
        let at = path.clone();
        let made = tokio::task::spawn_blocking(move || link::make_netns(&at)).await;
        made.map_err(|e| NetError::new("make a network namespace", e, "Try again"))??;
        Ok(path)
    }

    /// Makes namespaces ahead, so that the next containers start faster.
    pub async fn refill(&self) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        while inner.ready.len() < READY {
            let path = self.fresh_netns(&mut inner).await?;
            inner.ready.push(path);
        }
        Ok(())
    }

    /// A container that is not attached is fine.
    pub async fn detach(&self, container: &str) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        let Some(attachment) = inner.known.attachments.remove(container) else {
            return Ok(());
        };
        for interface in &attachment.interfaces {
            link::remove(&self.handle, &interface.host_name).await?;
        }
        link::remove_netns(&attachment.netns)?;
        let used: BTreeSet<NetworkKey> = inner
            .known
            .attachments
            .values()
            .flat_map(|a| a.interfaces.iter().map(|i| i.network.clone()))
            .collect();
        let gone: Vec<(NetworkKey, Net)> = inner
            .known
            .networks
            .iter()
            .filter(|(key, _)| !used.contains(key))
            .cloned()
            .collect();
        for (key, net) in &gone {
            if let Some(server) = inner.servers.remove(key) {
                server.abort();
            }
            link::remove(&self.handle, &self.bridge_name(net.number)).await?;
        }
        inner.known.networks.retain(|(key, _)| used.contains(key));
        self.save(&inner)?;
        if !gone.is_empty() {
            self.apply_rules(&inner).await?;
        }
        Ok(())
    }

    /// Names and peers of all deployments that have containers here.
    pub async fn set_directory(&self, directory: Directory) -> Result<(), NetError> {
        let changed = {
            let mut known = self.directory.write().expect("not poisoned");
            let addresses = |d: &Directory| -> BTreeSet<(NetworkKey, Ipv4Addr)> {
                d.entries
                    .iter()
                    .map(|e| (e.network.clone(), e.address))
                    .collect()
            };
            let changed = addresses(&known) != addresses(&directory);
            *known = directory;
            changed
        };
        if changed {
            let inner = self.inner.lock().await;
            self.apply_rules(&inner).await?;
        }
        self.rules.notify_waiters();
        Ok(())
    }

    pub async fn attachments(&self) -> BTreeMap<String, Attachment> {
        self.inner.lock().await.known.attachments.clone()
    }

    /// `remove`: leaves nothing behind; else everything stays for the next agent.
    pub async fn close(&self, remove: bool) -> Result<(), NetError> {
        let containers: Vec<String> = {
            let mut inner = self.inner.lock().await;
            for path in std::mem::take(&mut inner.ready) {
                link::remove_netns(&path)?;
            }
            inner.known.attachments.keys().cloned().collect()
        };
        if !remove {
            return Ok(());
        }
        for container in containers {
            self.detach(&container).await?;
        }
        let inner = self.inner.lock().await;
        for server in inner.servers.values() {
            server.abort();
        }
        pool::release(self.range);
        firewall::remove(&self.config.tag).await
    }

    async fn apply_rules(&self, inner: &Inner) -> Result<(), NetError> {
        let zones: Vec<firewall::Zone> = {
            let directory = self.directory.read().expect("not poisoned");
            inner
                .known
                .networks
                .iter()
                .map(|(key, net)| {
                    let subnet = self.subnet(net.number);
                    firewall::Zone {
                        bridge: self.bridge_name(net.number),
                        number: net.number,
                        subnet,
                        internal: net.internal,
                        peers: directory
                            .entries
                            .iter()
                            .filter(|e| e.network == *key)
                            .map(|e| e.address)
                            .filter(|a| a.octets()[..3] != subnet.octets()[..3])
                            .collect(),
                    }
                })
                .collect()
        };
        firewall::apply(&firewall::script(&self.config.tag, &zones)).await
    }

    fn save(&self, inner: &Inner) -> Result<(), NetError> {
        let path = self.config.state.join("networks.json");
        let fresh = path.with_extension("new");
        serde_json::to_vec(&inner.known)
            .map_err(std::io::Error::from)
            .and_then(|bytes| std::fs::write(&fresh, bytes))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|e| NetError::new("keep the networks", e, "Free the host's disk"))
    }
}

/// A bind-mounted namespace, not the empty file beneath it.
fn is_namespace(file: &std::fs::File) -> bool {
    nix::sys::statfs::fstatfs(file)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}
