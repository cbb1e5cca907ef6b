//! Answer names on a bridge: services of that network ourselves, everything else upstream.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;

use crate::{Directory, NetworkKey};

/// Replicas come and go.
const TTL_S: u32 = 1;
const UPSTREAM: Duration = Duration::from_secs(3);
/// Questions to upstream at once, per network.
const UPSTREAM_MAX: usize = 128;
const TCP_MAX: usize = 64;
/// Fit into 512 bytes, which every client takes.
const ANSWERS_MAX: usize = 20;
/// After a socket failed; else it could fail in a circle.
const PAUSE: Duration = Duration::from_millis(50);

/// A container's networks, each with its `internal` flag.
type Membership = Arc<[(NetworkKey, bool)]>;

/// What all servers of an agent answer from.
#[derive(Default)]
pub struct Names {
    directory: RwLock<Arc<Directory>>,
    members: RwLock<BTreeMap<Ipv4Addr, Membership>>,
}

impl Names {
    pub fn directory(&self) -> Arc<Directory> {
        let directory = self.directory.read();
        directory.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether `aspect` of the directory is another one now.
    pub fn replace<T: PartialEq>(
        &self,
        directory: Directory,
        aspect: impl Fn(&Directory) -> T,
    ) -> bool {
        let mut known = self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = aspect(&known) != aspect(&directory);
        *known = Arc::new(directory);
        changed
    }

    /// Containers by each of their addresses.
    pub fn set_members(&self, members: BTreeMap<Ipv4Addr, Membership>) {
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members;
    }

    fn networks(&self, of: IpAddr) -> Option<Membership> {
        let IpAddr::V4(of) = of else { return None };
        let members = self.members.read();
        let members = members.unwrap_or_else(PoisonError::into_inner);
        members.get(&of).cloned()
    }
}

/// One bridge's server.
pub struct Zone {
    /// For a source that no container has.
    own: Membership,
    names: Arc<Names>,
    upstreams: Vec<SocketAddr>,
    turn: AtomicUsize,
    asking: Semaphore,
}

enum Answer {
    Ours(Message),
    /// Not a name of this network.
    Elsewhere,
    /// Not worth an answer.
    None,
}

impl Zone {
    pub fn new(
        network: NetworkKey,
        internal: bool,
        names: Arc<Names>,
        upstreams: Vec<SocketAddr>,
    ) -> Self {
        Self {
            own: Arc::new([(network, internal)]),
            names,
            upstreams,
            turn: AtomicUsize::new(0),
            asking: Semaphore::new(UPSTREAM_MAX),
        }
    }

    /// Addresses of `name` on `networks`: those that are ready, or all if none is. `None` if
    /// the networks do not know the name.
    fn find(&self, name: &str, networks: &[(NetworkKey, bool)]) -> Option<Vec<Ipv4Addr>> {
        let directory = self.names.directory();
        let known: Vec<_> = directory
            .entries
            .iter()
            .filter(|e| e.names.iter().any(|n| n == name))
            .filter(|e| networks.iter().any(|(network, _)| *network == e.network))
            .collect();
        if known.is_empty() {
            return None;
        }
        let any_ready = known.iter().any(|e| e.ready);
        let ready = known.iter().filter(|e| e.ready || !any_ready);
        let addresses: BTreeSet<Ipv4Addr> = ready.map(|e| e.address).collect();
        Some(addresses.into_iter().collect())
    }

    fn answer(&self, question: &Message, from: IpAddr) -> Answer {
        if question.metadata.message_type != MessageType::Query
            || question.metadata.op_code != OpCode::Query
        {
            return Answer::None;
        }
        let [query]: &[Query] = &question.queries else {
            return Answer::None;
        };
        let name = query.name().to_ascii().to_lowercase();
        let name = name.trim_end_matches('.');
        let mut response = Message::response(question.metadata.id, OpCode::Query);
        response.metadata.recursion_desired = question.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_query(query.clone());
        let networks = self.names.networks(from);
        let networks = networks.as_ref().unwrap_or(&self.own);
        match self.find(name, networks) {
            Some(mut addresses) => {
                response.metadata.authoritative = true;
                if query.query_type() == RecordType::A {
                    // Another one first each time; clients ask for AAAA as often, that is
                    // no turn.
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
                    addresses.rotate_left(turn);
                    for address in addresses.into_iter().take(ANSWERS_MAX) {
                        let data = RData::A(A(address));
                        response.add_answer(Record::from_rdata(query.name().clone(), TTL_S, data));
                    }
                }
                // Known, but no such record: no error, or C libraries give up on the name.
                Answer::Ours(response)
            }
            None if !name.contains('.') || networks.iter().all(|(_, internal)| *internal) => {
                response.metadata.response_code = ResponseCode::NXDomain;
                Answer::Ours(response)
            }
            None => Answer::Elsewhere,
        }
    }

    /// The bytes to send back, if any.
    async fn respond(&self, question: &[u8], from: IpAddr, tcp: bool) -> Option<Vec<u8>> {
        let message = Message::from_vec(question).ok()?;
        match self.answer(&message, from) {
            Answer::Ours(response) => response.to_vec().ok(),
            Answer::None => None,
            Answer::Elsewhere => {
                let _asking = self.asking.try_acquire().ok()?;
                let asked = async {
                    for upstream in &self.upstreams {
                        let answer =
                            tokio::time::timeout(UPSTREAM, ask(*upstream, question, tcp)).await;
                        if let Ok(Ok(answer)) = answer {
                            return Some(answer);
                        }
                    }
                    None
                };
                match asked.await {
                    Some(answer) => Some(answer),
                    None => {
                        let id = message.metadata.id;
                        Message::error_msg(id, OpCode::Query, ResponseCode::ServFail)
                            .to_vec()
                            .ok()
                    }
                }
            }
        }
    }
}

async fn ask(upstream: SocketAddr, question: &[u8], tcp: bool) -> std::io::Result<Vec<u8>> {
    if tcp {
        let mut stream = tokio::net::TcpStream::connect(upstream).await?;
        stream
            .write_all(&(question.len() as u16).to_be_bytes())
            .await?;
        stream.write_all(question).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        return Ok(answer);
    }
    let any: IpAddr = if upstream.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut answer = vec![0; 4_096];
    loop {
        let read = socket.recv(&mut answer).await?;
        // Somebody else's answer does not carry our number.
        if read >= 2 && answer[..2] == question[..2] {
            answer.truncate(read);
            return Ok(answer);
        }
    }
}

/// Serves until dropped.
pub async fn serve(zone: Arc<Zone>, at: Ipv4Addr) -> std::io::Result<std::convert::Infallible> {
    let udp = Arc::new(UdpSocket::bind((at, 53)).await?);
    let tcp = TcpListener::bind((at, 53)).await?;
    let places = Arc::new(Semaphore::new(TCP_MAX));
    let mut buffer = vec![0; 4_096];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                let Ok((read, from)) = received else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let (zone, udp, question) = (zone.clone(), udp.clone(), buffer[..read].to_vec());
                tokio::spawn(async move {
                    if let Some(answer) = zone.respond(&question, from.ip(), false).await {
                        // A client that is gone asks no more.
                        let _ = udp.send_to(&answer, from).await;
                    }
                });
            }
            accepted = tcp.accept() => {
                let Ok((mut stream, from)) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let zone = zone.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let talk = async {
                        loop {
                            let length = stream.read_u16().await?;
                            let mut question = vec![0; length.into()];
                            stream.read_exact(&mut question).await?;
                            let Some(answer) = zone.respond(&question, from.ip(), true).await else { break };
                            stream.write_all(&(answer.len() as u16).to_be_bytes()).await?;
                            stream.write_all(&answer).await?;
                        }
                        Ok::<_, std::io::Error>(())
                    };
                    let _ = tokio::time::timeout(Duration::from_secs(10), talk).await;
                });
            }
        }
    }
}

/// As the machine itself asks; loopback ones too, since we ask from outside of containers.
pub fn system_upstreams() -> Vec<SocketAddr> {
    std::fs::read_to_string("/etc/resolv.conf")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("nameserver")?
                .trim()
                .parse::<IpAddr>()
                .ok()
        })
        .map(|ip| SocketAddr::new(ip, 53))
        .take(3)
        .collect()
}

#[cfg(test)]
mod tests;
