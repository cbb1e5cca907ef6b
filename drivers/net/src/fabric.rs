//! What an agent's networks are made of: kept on disk, made in the kernel, found again.
//!
//! Invariants: an attachment is known only when it is complete and its rules hold; two
//! containers never have one address; what is in the kernel under this agent's tag and not
//! known is removed when the agent starts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::ready::Ready;
use crate::{
    Alias, AttachRequest, Attachment, Directory, Interface, NetError, NetworkConfig, NetworkKey,
    Places, Remote, dns, firewall, link, pool, remote,
};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Serialised as a list: JSON has no keys like ours.
    networks: Vec<(NetworkKey, Net)>,
    attachments: BTreeMap<String, Attachment>,
    /// Of interfaces; never used again, not even for one that failed.
    serial: u32,
    #[serde(default)]
    aliases: Vec<Alias>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Net {
    number: u8,
    internal: bool,
}

struct Inner {
    known: Known,
    servers: BTreeMap<NetworkKey, JoinHandle<()>>,
    /// Replicas of this machine, as told.
    directory: Directory,
    remote: remote::Told,
    /// What the rules in the kernel were made of, if they are known to hold.
    rules: Option<Vec<firewall::Zone>>,
}

pub struct Fabric {
    config: NetworkConfig,
    range: Ipv4Addr,
    handle: rtnetlink::Handle,
    inner: Mutex<Inner>,
    names: Arc<dns::Names>,
    ready: Arc<Ready>,
    netlink: JoinHandle<()>,
    places: watch::Sender<Arc<Places>>,
}

impl Drop for Fabric {
    fn drop(&mut self) {
        for server in self.inner.get_mut().servers.values() {
            server.abort();
        }
        self.netlink.abort();
        if let Err(error) = self.ready.close() {
            tracing::warn!(%error, "spare network namespaces stay until the next start");
        }
    }
}

impl Fabric {
    pub async fn open(mut config: NetworkConfig) -> Result<Self, NetError> {
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
        std::fs::create_dir_all(&config.state).map_err(|e| failed(e.to_string()))?;
        // Kept in claims and attachments, which are read from elsewhere.
        config.state = std::fs::canonicalize(&config.state).map_err(|e| failed(e.to_string()))?;
        let (state, tag) = (config.state.clone(), config.tag.clone());
        let range = blocking(move || pool::claim(&state, &tag)).await?;
        let mut known = match std::fs::read(config.state.join("networks.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(failed(error.to_string())),
        };
        // After a reboot the namespaces are gone, and so are the containers.
        known
            .attachments
            .retain(|_, a| std::fs::File::open(&a.netns).is_ok_and(|f| is_namespace(&f)));
        // Another range than before: those containers cannot be reached any more.
        known.attachments.retain(|_, a| {
            let mut addresses = a.interfaces.iter().map(|i| i.address.octets());
            addresses.all(|o| o[..2] == range.octets()[..2])
        });
        let in_use = known.attachments.values().map(|a| a.netns.clone());
        let ready = Ready::open(&config.state.join("netns"), &in_use.collect())?;
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| failed(e.to_string()))?;
        let fabric = Self {
            config,
            range,
            handle,
            inner: Mutex::new(Inner {
                known,
                servers: BTreeMap::new(),
                directory: Directory::default(),
                remote: remote::Told::default(),
                rules: None,
            }),
            names: Arc::default(),
            ready: Arc::new(ready),
            netlink: tokio::spawn(connection),
            places: watch::Sender::default(),
        };
        link::close_off(&fabric.handle, range).await?;
        fabric.open_up_for_the_gone().await?;
        fabric.restore().await?;
        Ok(fabric)
    }

    /// An agent that was killed, and whose data was removed, opens nothing up itself.
    async fn open_up_for_the_gone(&self) -> Result<(), NetError> {
        let closed = link::closed_off(&self.handle).await?;
        if closed.iter().all(|range| *range == self.range) {
            return Ok(());
        }
        let claims = blocking(pool::Claims::open).await?;
        for range in closed {
            if claims.is_free(range) {
                link::open_up(&self.handle, range).await?;
                pool::release(range);
            }
        }
        Ok(())
    }

    async fn restore(&self) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        inner.known.drop_unused();
        self.sweep(&inner.known).await?;
        self.apply_rules(&mut inner).await?;
        for (key, net) in inner.known.networks.clone() {
            self.serve(&mut inner, &key, net).await?;
        }
        self.tell(&inner.known);
        self.save(&inner.known)
    }

    /// Removes interfaces that carry our tag and belong to nothing we know.
    async fn sweep(&self, known: &Known) -> Result<(), NetError> {
        let ends = known.attachments.values().flat_map(|a| &a.interfaces);
        let mut wanted: BTreeSet<String> = ends.map(|i| i.host_name.clone()).collect();
        let bridges = known.networks.iter().map(|(_, n)| n.number);
        wanted.extend(bridges.map(|number| self.bridge_name(number)));
        for name in link::names(&self.handle).await? {
            if self.is_ours(&name) && !wanted.contains(&name) {
                link::remove(&self.handle, &name).await?;
            }
        }
        Ok(())
    }

    /// `r<tag>`, then `b` (bridge) or `v` (host end of a pair), then a number.
    fn is_ours(&self, name: &str) -> bool {
        name.strip_prefix('r')
            .and_then(|rest| rest.strip_prefix(self.config.tag.as_str()))
            .and_then(|rest| rest.strip_prefix(['b', 'v']))
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    }

    fn bridge_name(&self, number: u8) -> String {
        format!("r{}b{number}", self.config.tag)
    }

    fn address(&self, number: u8, host: u8) -> Ipv4Addr {
        let [a, b, _, _] = self.range.octets();
        Ipv4Addr::new(a, b, number, host)
    }

    /// The bridge, and names on it.
    async fn serve(&self, inner: &mut Inner, key: &NetworkKey, net: Net) -> Result<(), NetError> {
        if inner.servers.contains_key(key) {
            return Ok(());
        }
        let at = self.address(net.number, 1);
        link::bridge(&self.handle, &self.bridge_name(net.number), at, 24).await?;
        let upstreams = match self.config.upstreams.is_empty() {
            true => dns::system_upstreams(),
            false => self.config.upstreams.clone(),
        };
        let zone = dns::Zone::new(key.clone(), net.internal, self.names.clone(), upstreams);
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

    pub async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetError> {
        let mut inner = self.inner.lock().await;
        if let Some(attachment) = inner.known.attachments.get(&request.container) {
            return Ok(attachment.clone());
        }
        let ready = self.ready.clone();
        let netns = blocking(move || ready.take()).await?;
        match self.make(&mut inner, request, &netns).await {
            Ok(attachment) => {
                let ready = self.ready.clone();
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = ready.fill() {
                        tracing::warn!(%error, "no network namespace was made ahead");
                    }
                });
                Ok(attachment)
            }
            Err(error) => {
                inner.known.attachments.remove(&request.container);
                // Both may fail for the same reason; the first one is what to tell.
                let _ = link::remove_netns(&netns);
                let _ = self.clear(&mut inner).await;
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        inner: &mut Inner,
        request: &AttachRequest,
        netns: &Path,
    ) -> Result<Attachment, NetError> {
        let fd = open(netns)?;
        let mut nets: Vec<(NetworkKey, Net)> = Vec::new();
        let mut fresh = false;
        for (key, internal) in &request.networks {
            if nets.iter().any(|(k, _)| k == key) {
                continue;
            }
            let net = match inner.known.network(key) {
                Some(net) => net,
                None => {
                    fresh = true;
                    let former = request.former.iter().map(Ipv4Addr::octets);
                    let mut ours = former.filter(|o| o[..2] == self.range.octets()[..2]);
                    inner
                        .known
                        .add_network(key, *internal, ours.next().map(|o| o[2]))?
                }
            };
            nets.push((key.clone(), net));
        }
        // Before anything can speak.
        if fresh {
            self.apply_rules(inner).await?;
        }
        let outward = nets.iter().position(|(_, n)| !n.internal).unwrap_or(0);
        let mut interfaces = Vec::new();
        let mut inners = Vec::new();
        for (at, (key, net)) in nets.iter().enumerate() {
            self.serve(inner, key, *net).await?;
            let address = self.free_address(&inner.known, net.number, &request.former)?;
            inner.known.serial += 1;
            let serial = inner.known.serial;
            let host_name = format!("r{}v{serial}", self.config.tag);
            let bridge = self.bridge_name(net.number);
            let container_name = format!("eth{at}");
            let kbps = request.bandwidth_kbps;
            link::veth(
                &self.handle,
                &host_name,
                &container_name,
                &bridge,
                &fd,
                address,
                kbps,
            )
            .await?;
            inners.push(link::Inner {
                name: container_name.clone(),
                address,
                prefix: 24,
                // An internal network's leads to peers on other agents, no further.
                gateway: (at == outward).then(|| self.address(net.number, 1)),
                kbps,
            });
            interfaces.push(Interface {
                network: key.clone(),
                host_name,
                container_name,
                address,
            });
        }
        blocking(move || link::configure(fd, inners)).await?;
        let dns = nets
            .get(outward)
            .map_or(Ipv4Addr::LOCALHOST, |(_, n)| self.address(n.number, 1));
        let attachment = Attachment {
            netns: netns.to_path_buf(),
            interfaces,
            dns,
        };
        self.route_peers(&inner.known, &attachment).await?;
        let known = &mut inner.known.attachments;
        known.insert(request.container.clone(), attachment.clone());
        if fresh {
            // Those of its peers that are on other machines are known already.
            self.publish(inner).await?;
        }
        self.save(&inner.known)?;
        self.tell(&inner.known);
        Ok(attachment)
    }

    /// A former one, else not the one that was free last: others may still remember it.
    fn free_address(
        &self,
        known: &Known,
        number: u8,
        former: &[Ipv4Addr],
    ) -> Result<Ipv4Addr, NetError> {
        let interfaces = known.attachments.values().flat_map(|a| &a.interfaces);
        let mut taken: BTreeSet<Ipv4Addr> = interfaces.map(|i| i.address).collect();
        taken.extend(known.aliases.iter().map(|a| a.address));
        let here = |a: &Ipv4Addr| *a == self.address(number, a.octets()[3].clamp(2, 254));
        // 2 to 254.
        let others = (0..253).map(|n| self.address(number, ((known.serial + n) % 253) as u8 + 2));
        let all = former.iter().copied().filter(here).chain(others);
        all.into_iter().find(|a| !taken.contains(a)).ok_or_else(|| {
            NetError::new(
                "attach a container",
                "its network has 253 here already",
                "Use more hosts",
            )
        })
    }

    /// Blocks for some milliseconds.
    pub fn fill(&self) -> Result<(), NetError> {
        self.ready.fill()
    }

    pub async fn detach(&self, container: &str) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        let Some(attachment) = inner.known.attachments.get(container).cloned() else {
            return Ok(());
        };
        for interface in &attachment.interfaces {
            link::remove(&self.handle, &interface.host_name).await?;
        }
        link::remove_netns(&attachment.netns)?;
        inner.known.attachments.remove(container);
        self.clear(&mut inner).await
    }

    /// Removes networks and interfaces that no container uses any more.
    async fn clear(&self, inner: &mut Inner) -> Result<(), NetError> {
        let gone = inner.known.drop_unused();
        for (key, _) in &gone {
            if let Some(server) = inner.servers.remove(key) {
                server.abort();
            }
        }
        self.realias(inner).await?;
        self.tell(&inner.known);
        self.save(&inner.known)?;
        self.sweep(&inner.known).await?;
        match gone.is_empty() {
            true => Ok(()),
            false => self.apply_rules(inner).await,
        }
    }

    pub async fn set_directory(&self, directory: Directory) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        inner.directory = directory;
        self.publish(&mut inner).await
    }

    pub async fn set_remotes(&self, tunnel: String, remotes: Vec<Remote>) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        inner.remote.set(tunnel, remotes);
        self.publish(&mut inner).await
    }

    pub fn places(&self) -> watch::Receiver<Arc<Places>> {
        self.places.subscribe()
    }

    /// Names and rules by what has been told of this machine's replicas and of others'.
    async fn publish(&self, inner: &mut Inner) -> Result<(), NetError> {
        if self.realias(inner).await? {
            self.save(&inner.known)?;
            self.tell(&inner.known);
        }
        let mut directory = inner.directory.clone();
        let remotes = inner.remote.entries(&inner.known.aliases);
        directory.entries.extend(remotes);
        let places = |d: &Directory| -> BTreeSet<(NetworkKey, Ipv4Addr)> {
            let entries = d.entries.iter();
            entries.map(|e| (e.network.clone(), e.address)).collect()
        };
        if !self.names.replace(directory, places) {
            return Ok(());
        }
        self.apply_rules(inner).await?;
        for attachment in inner.known.attachments.values() {
            self.route_peers(&inner.known, attachment).await?;
        }
        Ok(())
    }

    /// Gives each replica on another machine an address on its network here, and takes back
    /// those of replicas that are gone. Tells whether anything is another way than before.
    async fn realias(&self, inner: &mut Inner) -> Result<bool, NetError> {
        let Inner { known, remote, .. } = inner;
        let Some(tunnel) = remote.tunnel() else {
            // Not told yet: those of a former agent stay.
            return Ok(false);
        };
        let wanted = remote.wanted(|network| known.network(network).is_some());
        let (kept, gone): (Vec<Alias>, Vec<Alias>) = std::mem::take(&mut known.aliases)
            .into_iter()
            .partition(|a| wanted.contains(&(a.network.clone(), a.replica)));
        known.aliases = kept;
        let mut changed = !gone.is_empty();
        for alias in gone {
            link::unroute(&self.handle, alias.address, &tunnel).await?;
            remote.routed.remove(&alias.address);
        }
        let has: BTreeSet<(NetworkKey, u64)> = known
            .aliases
            .iter()
            .map(|a| (a.network.clone(), a.replica))
            .collect();
        for (network, replica) in wanted.difference(&has) {
            let Some(net) = known.network(network) else {
                continue;
            };
            known.serial += 1;
            match self.free_address(known, net.number, &[]) {
                Ok(address) => known.aliases.push(Alias {
                    network: network.clone(),
                    replica: *replica,
                    address,
                }),
                Err(error) => tracing::warn!(%error, replica, "a far replica has no name here"),
            }
            changed = true;
        }
        for alias in &known.aliases {
            if remote.routed.contains(&alias.address) {
                continue;
            }
            if let Some(net) = known.network(&alias.network) {
                link::answer_for_others(&self.bridge_name(net.number))?;
            }
            link::route_through(&self.handle, alias.address, &tunnel).await?;
            remote.routed.insert(alias.address);
        }
        Ok(changed)
    }

    pub async fn attachments(&self) -> BTreeMap<String, Attachment> {
        self.inner.lock().await.known.attachments.clone()
    }

    pub async fn close(&self, remove: bool) -> Result<(), NetError> {
        self.ready.close()?;
        if !remove {
            return Ok(());
        }
        let containers: Vec<String> = {
            let inner = self.inner.lock().await;
            inner.known.attachments.keys().cloned().collect()
        };
        for container in containers {
            self.detach(&container).await?;
        }
        let mut inner = self.inner.lock().await;
        self.clear(&mut inner).await?;
        link::open_up(&self.handle, self.range).await?;
        pool::release(self.range);
        firewall::remove(&self.config.tag).await
    }

    /// Whom the directory places on `network` of other agents of this machine.
    ///
    /// Only addresses that agents give to containers, and none of our own: whatever a
    /// stranger writes into the directory opens no way to the outside's private networks
    /// nor from one of our networks to another.
    fn peers(&self, directory: &Directory, network: &NetworkKey) -> BTreeSet<Ipv4Addr> {
        let entries = directory.entries.iter().filter(|e| e.network == *network);
        entries
            .map(|e| e.address)
            .filter(|a| pool::contains(*a) && a.octets()[..2] != self.range.octets()[..2])
            .collect()
    }

    /// Replaces the table only if networks came or went: for a peer its address suffices, and
    /// with many agents on a machine there are many of those.
    async fn apply_rules(&self, inner: &mut Inner) -> Result<(), NetError> {
        let directory = self.names.directory();
        let zone = |(key, net): &(NetworkKey, Net)| firewall::Zone {
            bridge: self.bridge_name(net.number),
            number: net.number,
            subnet: self.address(net.number, 0),
            gateway: self.address(net.number, 1),
            internal: net.internal,
            peers: self
                .peers(&directory, key)
                .into_iter()
                .chain(inner.known.aliases(key))
                .collect(),
        };
        let zones: Vec<firewall::Zone> = inner.known.networks.iter().map(zone).collect();
        let tag = &self.config.tag;
        let before = inner.rules.take();
        let change = before.and_then(|before| firewall::change(tag, &before, &zones));
        let done = match change {
            Some(change) if change.is_empty() => true,
            // It fails if somebody has removed the table.
            Some(change) => firewall::apply(&change).await.is_ok(),
            None => false,
        };
        if !done {
            firewall::apply(&firewall::script(tag, &zones)).await?;
        }
        inner.rules = Some(zones);
        Ok(())
    }

    /// A container's peers on other agents are reached by the network they share with it,
    /// not by the one that leads out.
    async fn route_peers(&self, known: &Known, attachment: &Attachment) -> Result<(), NetError> {
        if attachment.interfaces.len() < 2 {
            return Ok(());
        }
        let directory = self.names.directory();
        let mut routes = BTreeMap::new();
        for interface in &attachment.interfaces {
            let Some(net) = known.network(&interface.network) else {
                continue;
            };
            let gateway = self.address(net.number, 1);
            for peer in self.peers(&directory, &interface.network) {
                routes.insert(peer, gateway);
            }
        }
        let fd = open(&attachment.netns)?;
        blocking(move || link::route(fd, routes)).await
    }

    /// Whose questions are answered with which networks' names.
    fn tell(&self, known: &Known) {
        let mut members = BTreeMap::new();
        for attachment in known.attachments.values() {
            let networks = attachment.interfaces.iter().map(|i| {
                let internal = known.network(&i.network).is_none_or(|n| n.internal);
                (i.network.clone(), internal)
            });
            let networks: Arc<[(NetworkKey, bool)]> = networks.collect();
            for interface in &attachment.interfaces {
                members.insert(interface.address, networks.clone());
            }
        }
        self.names.set_members(members);
        let containers = known.attachments.iter().flat_map(|(id, attachment)| {
            let interfaces = attachment.interfaces.iter();
            interfaces.map(|i| (i.network.clone(), id.clone(), i.address))
        });
        self.places.send_replace(Arc::new(Places {
            containers: containers.collect(),
            aliases: known.aliases.clone(),
        }));
    }

    fn save(&self, known: &Known) -> Result<(), NetError> {
        let path = self.config.state.join("networks.json");
        let fresh = path.with_extension("new");
        serde_json::to_vec(known)
            .map_err(std::io::Error::from)
            .and_then(|bytes| std::fs::write(&fresh, bytes))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|e| NetError::new("keep the networks", e, "Free the host's disk"))
    }
}

impl Known {
    fn network(&self, key: &NetworkKey) -> Option<Net> {
        let found = self.networks.iter().find(|(k, _)| k == key);
        found.map(|(_, net)| *net)
    }

    fn aliases(&self, network: &NetworkKey) -> impl Iterator<Item = Ipv4Addr> {
        let of = self.aliases.iter().filter(move |a| a.network == *network);
        of.map(|a| a.address)
    }

    /// Takes not the number that was free last: others may still remember its addresses.
    /// With the number `wish`, if it is free.
    fn add_network(
        &mut self,
        key: &NetworkKey,
        internal: bool,
        wish: Option<u8>,
    ) -> Result<Net, NetError> {
        let taken: BTreeSet<u8> = self.networks.iter().map(|(_, n)| n.number).collect();
        let start = self.serial as u8;
        let all = (0..=u8::MAX).map(|n| start.wrapping_add(n));
        let number = wish
            .into_iter()
            .chain(all)
            .find(|n| !taken.contains(n))
            .ok_or_else(|| {
                NetError::new(
                    "make a network",
                    "this host has 256 already",
                    "Use another host",
                )
            })?;
        let net = Net { number, internal };
        self.networks.push((key.clone(), net));
        Ok(net)
    }

    /// Forgets networks without containers.
    fn drop_unused(&mut self) -> Vec<(NetworkKey, Net)> {
        let interfaces = self.attachments.values().flat_map(|a| &a.interfaces);
        let used: BTreeSet<&NetworkKey> = interfaces.map(|i| &i.network).collect();
        let (kept, gone) = std::mem::take(&mut self.networks)
            .into_iter()
            .partition(|(key, _)| used.contains(key));
        self.networks = kept;
        gone
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| NetError::new("change the networks", e, "Try again"))?
}

fn open(netns: &Path) -> Result<OwnedFd, NetError> {
    std::fs::File::open(netns)
        .map(OwnedFd::from)
        .map_err(|e| NetError::new("open a network namespace", e, "Restart the host agent"))
}

/// A bind-mounted namespace, not the empty file beneath it.
fn is_namespace(file: &std::fs::File) -> bool {
    nix::sys::statfs::fstatfs(file)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}
