//! What the tests stand on: agents with real namespaces, listeners and questions in them,
//! and a piece of the outside. Runs as root.
#![allow(dead_code)]

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use net::{AttachRequest, Attachment, DirectoryEntry, Network, NetworkConfig, NetworkKey};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let file = std::fs::File::open(netns).expect("the namespace is there");
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("entered");
                work()
            })
            .join()
            .expect("no panic inside")
    })
}

/// What has not answered by then is taken not to.
pub const LIMIT: Duration = Duration::from_millis(700);
/// What must answer has longer: a packet that is lost is sent again after a second.
pub const PATIENCE: Duration = Duration::from_secs(10);

fn connects(from: &Attachment, to: SocketAddr, within: Duration) -> bool {
    inside(&from.netns, || {
        TcpStream::connect_timeout(&to, within).is_ok()
    })
}

pub fn reaches(from: &Attachment, to: SocketAddr) -> bool {
    connects(from, to, PATIENCE)
}

pub fn is_cut_off(from: &Attachment, to: SocketAddr) -> bool {
    !connects(from, to, LIMIT)
}

/// A listener inside that takes all it gets. Gives the bytes so far.
pub fn listen(at: &Attachment, port: u16) -> Arc<AtomicU64> {
    swallow(inside(&at.netns, || {
        TcpListener::bind(("0.0.0.0", port)).expect("bound")
    }))
}

pub fn swallow(listener: TcpListener) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    count.fetch_add(read as u64, Ordering::Relaxed);
                }
            });
        }
    });
    taken
}

pub fn key(deployment: &str, network: &str) -> NetworkKey {
    NetworkKey {
        deployment: deployment.into(),
        network: network.into(),
    }
}

pub async fn attach(
    network: &Network,
    container: &str,
    networks: &[(NetworkKey, bool)],
) -> Attachment {
    let request = AttachRequest {
        container: container.into(),
        networks: networks.to_vec(),
        former: Vec::new(),
        bandwidth_kbps: 40_000,
    };
    network.attach(&request).await.expect("attached")
}

/// The code and the addresses that `server` answers; none if it does not answer.
pub fn ask(
    from: &Attachment,
    server: Ipv4Addr,
    name: &str,
    kind: u16,
) -> Option<(u8, Vec<Ipv4Addr>)> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
    inside(&from.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
        socket.set_read_timeout(Some(LIMIT)).expect("set");
        socket.send_to(&question, (server, 53)).ok()?;
        let mut answer = [0; 512];
        let read = socket.recv(&mut answer).ok()?;
        let answers = u16::from_be_bytes([answer[6], answer[7]]);
        let places = (0..usize::from(answers)).map(|n| read - 4 - n * 16);
        let address = |at: usize| <[u8; 4]>::try_from(&answer[at..at + 4]).expect("four bytes");
        let found = places.map(|at| Ipv4Addr::from(address(at))).collect();
        Some((answer[3] & 15, found))
    })
}

/// As its resolv.conf would have it.
pub fn resolve(from: &Attachment, name: &str, kind: u16) -> (u8, Vec<Ipv4Addr>) {
    let tried = (0..10).find_map(|_| ask(from, from.dns, name, kind));
    tried.expect("answered")
}

/// `at` by its address on `network`.
pub fn entry(network: &NetworkKey, name: &str, at: &Attachment, ready: bool) -> DirectoryEntry {
    let interface = at.interfaces.iter().find(|i| i.network == *network);
    DirectoryEntry {
        network: network.clone(),
        names: vec![name.into()],
        address: interface.expect("on that network").address,
        ready,
    }
}

pub fn config(folder: &Path, tag: &str) -> NetworkConfig {
    NetworkConfig {
        state: folder.join(tag),
        tag: tag.into(),
        upstreams: vec![],
    }
}

/// Links of agents `tags` and mounts below `folder` that are still there.
pub fn left_behind(folder: &Path, tags: &[&str]) -> Vec<String> {
    let links = std::fs::read_dir("/sys/class/net").expect("read").flatten();
    let mut left: Vec<String> = links
        .map(|l| l.file_name().to_string_lossy().into_owned())
        .filter(|l| tags.iter().any(|tag| l.starts_with(&format!("r{tag}"))))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read");
    let folder = folder.display().to_string();
    left.extend(
        mounts
            .lines()
            .filter(|m| m.contains(&folder))
            .map(String::from),
    );
    left
}

/// A machine outside, at a public and at a private address, which listens at port 80 and
/// answers nothing else. [`Outside::close`] removes it.
pub struct Outside {
    netns: OwnedFd,
    name: String,
}

pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(192, 168, 213, 2);
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

impl Outside {
    pub async fn new(name: &str) -> Self {
        let netns = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").expect("opened"))
        });
        let netns = netns.join().expect("made");
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        let inner = format!("{name}i");
        let pair = LinkVeth::new(name, &inner).build();
        handle.link().add(pair).execute().await.expect("a pair");
        let at = index(&handle, &inner).await;
        let moved = LinkUnspec::new_with_index(at).setns_by_fd(netns.as_raw_fd());
        let moved = handle.link().set(moved.build()).execute().await;
        moved.expect("moved");
        address(&handle, name, 1).await;
        let fd = netns.try_clone().expect("cloned");
        let inside = std::thread::spawn(move || {
            nix::sched::setns(fd, CloneFlags::CLONE_NEWNET).expect("entered");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
                tokio::spawn(connection);
                address(&handle, &inner, 2).await;
            });
            swallow(TcpListener::bind("0.0.0.0:80").expect("bound"));
        });
        inside.join().expect("configured");
        Self {
            netns,
            name: name.into(),
        }
    }

    /// Can it open a connection to `to`, sending by the machine?
    pub async fn reaches(&self, to: SocketAddr) -> bool {
        let fd = self.netns.try_clone().expect("cloned");
        let tried = std::thread::spawn(move || {
            nix::sched::setns(fd, CloneFlags::CLONE_NEWNET).expect("entered");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
                tokio::spawn(connection);
                let route = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new()
                    .gateway(Ipv4Addr::new(203, 0, 113, 1))
                    .build();
                let added = handle.route().add(route).replace().execute().await;
                added.expect("a route");
            });
            TcpStream::connect_timeout(&to, LIMIT).is_ok()
        });
        tried.join().expect("tried")
    }

    pub async fn close(self) {
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        let at = index(&handle, &self.name).await;
        handle.link().del(at).execute().await.expect("removed");
    }
}

async fn index(handle: &Handle, name: &str) -> u32 {
    let mut links = handle.link().get().match_name(name.to_string()).execute();
    let link = links.try_next().await.expect("asked").expect("there");
    link.header.index
}

async fn address(handle: &Handle, name: &str, last: u8) {
    let at = index(handle, name).await;
    for at_home in [PUBLIC, PRIVATE, METADATA] {
        let [a, b, c, _] = at_home.octets();
        let own = match at_home == METADATA && last == 2 {
            true => METADATA,
            false => Ipv4Addr::new(a, b, c, last),
        };
        let added = handle.address().add(at, own.into(), 24).execute().await;
        added.expect("an address");
    }
    let up = LinkUnspec::new_with_index(at).up().build();
    handle.link().set(up).execute().await.expect("up");
}
