//! Bridges, veth pairs and rate limits, by netlink.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use nix::mount::{MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::{NetError, pool};

fn failed(operation: &str, why: impl ToString) -> NetError {
    let why = why.to_string();
    let next = if why.contains("not permitted") || why.contains("EPERM") {
        "Run the host agent as root: it needs CAP_NET_ADMIN and CAP_SYS_ADMIN"
    } else if why.contains("not supported") || why.contains("EOPNOTSUPP") {
        "Load the kernel's modules: modprobe -a bridge veth sch_tbf"
    } else {
        "Look at the kernel's log; restart the host agent to make its networks anew"
    };
    NetError::new(operation, why, next)
}

pub async fn index(handle: &Handle, name: &str) -> Result<Option<u32>, NetError> {
    let mut links = handle.link().get().match_name(name.to_string()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
        Err(error) => Err(failed("find an interface", error)),
    }
}

/// Of all interfaces.
pub async fn names(handle: &Handle) -> Result<Vec<String>, NetError> {
    let mut names = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links
        .try_next()
        .await
        .map_err(|e| failed("list interfaces", e))?
    {
        let name = link.attributes.into_iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        names.extend(name);
    }
    Ok(names)
}

async fn need(handle: &Handle, name: &str) -> Result<u32, NetError> {
    index(handle, name)
        .await?
        .ok_or_else(|| failed("find an interface", format!("{name} is not there")))
}

/// An existing bridge is left as it is.
pub async fn bridge(
    handle: &Handle,
    name: &str,
    address: Ipv4Addr,
    prefix: u8,
) -> Result<(), NetError> {
    if index(handle, name).await?.is_some() {
        return Ok(());
    }
    let made = handle
        .link()
        .add(LinkBridge::new(name).up().build())
        .execute()
        .await;
    made.map_err(|e| failed("make a bridge", e))?;
    let at = need(handle, name).await?;
    let addressed = handle
        .address()
        .add(at, address.into(), prefix)
        .execute()
        .await;
    addressed.map_err(|e| failed("give a bridge its address", e))
}

/// Whoever asks on `bridge` for an address that lies elsewhere is told to send to us.
pub fn answer_for_others(bridge: &str) -> Result<(), NetError> {
    for (setting, value) in [
        (format!("conf/{bridge}/proxy_arp"), "1"),
        // At once, not after a random pause.
        (format!("neigh/{bridge}/proxy_delay"), "0"),
    ] {
        let path = format!("/proc/sys/net/ipv4/{setting}");
        std::fs::write(&path, value).map_err(|e| failed(&format!("write {path}"), e))?;
    }
    Ok(())
}

/// Packets to addresses of `range` (a /16) that no bridge has end here: they never leave by the
/// machine's default route, to whoever is there.
pub async fn close_off(handle: &Handle, range: Ipv4Addr) -> Result<(), NetError> {
    let added = handle.route().add(closed(range)).replace().execute().await;
    added.map_err(|e| failed("close off the range of addresses", e))
}

/// A range that is not closed off is fine.
pub async fn open_up(handle: &Handle, range: Ipv4Addr) -> Result<(), NetError> {
    match handle.route().del(closed(range)).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ESRCH => Ok(()),
        removed => removed.map_err(|e| failed("open up the range of addresses", e)),
    }
}

/// The ranges that agents have closed off on this machine.
pub async fn closed_off(handle: &Handle) -> Result<Vec<Ipv4Addr>, NetError> {
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = handle.route().get(all).execute();
    let mut ranges = Vec::new();
    while let Some(route) = routes
        .try_next()
        .await
        .map_err(|e| failed("list routes", e))?
    {
        let header = &route.header;
        let ours = header.kind == RouteType::Unreachable
            && header.protocol == RouteProtocol::Static
            && header.destination_prefix_length == 16;
        let range = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(range)) => Some(*range),
            _ => None,
        });
        ranges.extend(range.filter(|r| ours && pool::contains(*r)));
    }
    Ok(ranges)
}

fn closed(range: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range, 16)
        .kind(RouteType::Unreachable)
        .build()
}

/// Packets to `address` leave by the interface `through`.
pub async fn route_through(
    handle: &Handle,
    address: Ipv4Addr,
    through: &str,
) -> Result<(), NetError> {
    let at = need(handle, through).await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(at)
        .scope(RouteScope::Link)
        .build();
    let added = handle.route().add(route).replace().execute().await;
    added.map_err(|e| failed("route to a far replica", e))
}

/// A route that is not there is fine.
pub async fn unroute(handle: &Handle, address: Ipv4Addr, through: &str) -> Result<(), NetError> {
    let Some(at) = index(handle, through).await? else {
        return Ok(());
    };
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(at)
        .scope(RouteScope::Link)
        .build();
    match handle.route().del(route).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ESRCH => Ok(()),
        removed => removed.map_err(|e| failed("remove the route to a far replica", e)),
    }
}

pub async fn remove(handle: &Handle, name: &str) -> Result<(), NetError> {
    match index(handle, name).await? {
        Some(at) => match handle.link().del(at).execute().await {
            // Its other end went, and it with it.
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => {
                Ok(())
            }
            removed => removed.map_err(|e| failed("remove an interface", e)),
        },
        None => Ok(()),
    }
}

/// The hardware address of a container at `address`: the same after a restart, so that whoever
/// on the bridge still knows it from before reaches the new one at once.
fn hardware(address: Ipv4Addr) -> Vec<u8> {
    // Locally administered.
    [&[0x02, 0x72][..], &address.octets()].concat()
}

/// A pair with one end on `bridge`, the other, which is to have `address`, in the network
/// namespace `netns`, by one request: each further one costs some milliseconds.
pub async fn veth(
    handle: &Handle,
    host: &str,
    inner: &str,
    bridge: &str,
    netns: &OwnedFd,
    address: Ipv4Addr,
    kbps: u32,
) -> Result<(), NetError> {
    let bridge = need(handle, bridge).await?;
    let peer = LinkUnspec::new_with_name(inner)
        .setns_by_fd(netns.as_raw_fd())
        .address(hardware(address))
        .build();
    let pair = LinkVeth::new(host, inner)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .controller(bridge)
        .up()
        .build();
    let made = handle.link().add(pair).execute().await;
    made.map_err(|e| failed("make a veth pair", e))?;
    shape(handle, need(handle, host).await?, kbps).await
}

/// Limits what leaves through an interface: a token bucket, kilobits (1000 bits) per second.
pub async fn shape(handle: &Handle, at: u32, kbps: u32) -> Result<(), NetError> {
    // At no rate at all nothing would ever arrive, not even a name.
    let rate = u64::from(kbps.max(64)) * 125;
    // A few milliseconds of rate, never less than some full frames.
    let burst = u32::try_from((rate / 100).clamp(32 << 10, 4 << 20)).unwrap_or(u32::MAX);
    let limit = burst.saturating_mul(4).max(256 << 10);
    let mut parameters = Vec::with_capacity(36);
    // struct tc_ratespec: cell_log, linklayer (ethernet), overhead, cell_align, mpu, rate.
    parameters.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    parameters.extend_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    parameters.extend_from_slice(&[0; 12]);
    for number in [limit, 0, 0] {
        parameters.extend_from_slice(&number.to_ne_bytes());
    }
    let (parms, rate64, burst_nla) = (1, 4, 6);
    let mut options = vec![TcOption::Other(DefaultNla::new(parms, parameters))];
    if rate > u64::from(u32::MAX) {
        options.push(TcOption::Other(DefaultNla::new(
            rate64,
            rate.to_ne_bytes().into(),
        )));
    }
    options.push(TcOption::Other(DefaultNla::new(
        burst_nla,
        burst.to_ne_bytes().into(),
    )));
    let mut message = TcMessage::with_index(at as i32);
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message.attributes = vec![
        TcAttribute::Kind("tbf".into()),
        TcAttribute::Options(options),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut handle = handle.clone();
    let mut answers = handle
        .request(request)
        .map_err(|e| failed("limit bandwidth", e))?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(failed("limit bandwidth", error.to_io()));
        }
    }
    Ok(())
}

/// Of a fresh namespace: a payload has no rights over it, and yet listens at port 80 and
/// pings, as it would where it is alone on a machine.
const OPEN_TO_ALL: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// A fresh network namespace, kept by a bind mount at `path`.
pub fn make_netns(path: &Path) -> Result<(), NetError> {
    let path = path.to_path_buf();
    let made = std::thread::spawn(move || -> std::io::Result<()> {
        std::fs::write(&path, "")?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        for (setting, value) in OPEN_TO_ALL {
            std::fs::write(setting, value)?;
        }
        mount(
            Some("/proc/thread-self/ns/net"),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
        Ok(())
    })
    .join();
    match made {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed("make a network namespace", error)),
        Err(_) => Err(failed("make a network namespace", "its thread ended")),
    }
}

pub fn remove_netns(path: &Path) -> Result<(), NetError> {
    // Not mounted, or not there, is what is wanted.
    let _ = umount2(path, nix::mount::MntFlags::MNT_DETACH);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove a network namespace", error))
        }
        _ => Ok(()),
    }
}

/// One interface inside a namespace.
pub struct Inner {
    /// `eth0` …
    pub name: String,
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// Carries the default route.
    pub gateway: Option<Ipv4Addr>,
    pub kbps: u32,
}

/// Runs `work` in a thread of its own inside `netns`.
fn within<F>(netns: OwnedFd, work: impl FnOnce(Handle) -> F + Send) -> Result<(), NetError>
where
    F: Future<Output = Result<(), NetError>>,
{
    let enter = |why: String| failed("enter a network namespace", why);
    let inside = move || -> Result<(), NetError> {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(|e| enter(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| enter(e.to_string()))?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(|e| failed("open netlink", e))?;
            tokio::spawn(connection);
            work(handle).await
        })
    };
    std::thread::scope(|scope| scope.spawn(inside).join())
        .unwrap_or_else(|_| Err(failed("enter a network namespace", "its thread ended")))
}

/// Addresses and starts interfaces inside `netns`.
pub fn configure(netns: OwnedFd, interfaces: Vec<Inner>) -> Result<(), NetError> {
    within(netns, async move |handle| {
        let lo = need(&handle, "lo").await?;
        up(&handle, lo).await?;
        for inner in interfaces {
            let at = need(&handle, &inner.name).await?;
            handle
                .address()
                .add(at, inner.address.into(), inner.prefix)
                .execute()
                .await
                .map_err(|e| failed("give an interface its address", e))?;
            up(&handle, at).await?;
            shape(&handle, at, inner.kbps).await?;
            if let Some(gateway) = inner.gateway {
                let route = RouteMessageBuilder::<Ipv4Addr>::new()
                    .gateway(gateway)
                    .build();
                let added = handle.route().add(route).execute().await;
                added.map_err(|e| failed("set the default route", e))?;
            }
        }
        Ok(())
    })
}

/// Inside `netns`: each of `wanted` by its gateway, and no other single address.
pub fn route(netns: OwnedFd, wanted: BTreeMap<Ipv4Addr, Ipv4Addr>) -> Result<(), NetError> {
    within(netns, async move |handle| {
        let mut old = Vec::new();
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = handle.route().get(all).execute();
        while let Some(route) = routes
            .try_next()
            .await
            .map_err(|e| failed("list routes", e))?
        {
            // Others with 32 bits are the kernel's own, in its local table.
            if route.header.destination_prefix_length == 32
                && route.header.protocol == RouteProtocol::Static
            {
                old.push(route);
            }
        }
        for (peer, gateway) in &wanted {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(*peer, 32)
                .gateway(*gateway)
                .build();
            let added = handle.route().add(route).replace().execute().await;
            added.map_err(|e| failed("set the route to a peer", e))?;
        }
        for route in old {
            let peer = route.attributes.iter().find_map(|a| match a {
                RouteAttribute::Destination(RouteAddress::Inet(peer)) => Some(*peer),
                _ => None,
            });
            if peer.is_some_and(|peer| !wanted.contains_key(&peer)) {
                let removed = handle.route().del(route).execute().await;
                removed.map_err(|e| failed("remove the route to a peer", e))?;
            }
        }
        Ok(())
    })
}

async fn up(handle: &Handle, at: u32) -> Result<(), NetError> {
    let message = LinkUnspec::new_with_index(at).up().build();
    handle
        .link()
        .set(message)
        .execute()
        .await
        .map_err(|e| failed("start an interface", e))
}
