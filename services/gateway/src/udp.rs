//! Published UDP ports: each client gets a socket to one replica, as behind a NAT.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::limits::{UDP_IDLE, UDP_SESSIONS_MAX};
use crate::load::InFlight;
use crate::proxy::Gateway;
use crate::published::Key;
use crate::table::{Reach, uptime_ms};

const DATAGRAM_MAX: usize = 65_536;
/// Read from one replica before others have their turn.
const BURST_MAX: usize = 64;

struct Session {
    upstream: Arc<UdpSocket>,
    used_ms: Arc<AtomicU64>,
}

/// Forwards between clients of `socket` and the replicas, without end.
///
/// Only replicas on this machine: tunnels carry streams.
pub async fn forward(gateway: Arc<Gateway>, socket: UdpSocket, key: Key) {
    // Sending never waits from here on: a datagram that finds no room is lost.
    if let Err(error) = socket.writable().await {
        tracing::warn!(%error, port = key.1, "the published port cannot be sent from");
        return;
    }
    let socket = Arc::new(socket);
    let mut sessions: HashMap<SocketAddr, Session> = HashMap::new();
    let (ended, mut endings) = mpsc::channel::<SocketAddr>(UDP_SESSIONS_MAX);
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        while answers.try_join_next().is_some() {}
        let (length, client) = tokio::select! {
            Some(client) = endings.recv() => {
                sessions.remove(&client);
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // A client's port that closed is told here; it concerns no other client.
                Err(_) => continue,
            },
        };
        if !sessions.contains_key(&client) {
            if sessions.len() >= UDP_SESSIONS_MAX {
                continue;
            }
            let Some((upstream, held)) = open(&gateway, key).await else {
                continue;
            };
            let session = Session {
                upstream: Arc::new(upstream),
                used_ms: Arc::new(AtomicU64::new(uptime_ms())),
            };
            answers.spawn(back(
                session.upstream.clone(),
                socket.clone(),
                client,
                session.used_ms.clone(),
                held,
                ended.clone(),
            ));
            sessions.insert(client, session);
        }
        let session = &sessions[&client];
        session.used_ms.store(uptime_ms(), Ordering::Relaxed);
        // Lost datagrams are UDP's everyday.
        let _ = session.upstream.try_send(&buffer[..length]);
    }
}

async fn open(gateway: &Gateway, key: Key) -> Option<(UdpSocket, InFlight)> {
    let published = gateway.table.load().published.get(&key).cloned()?;
    let mut tried = Vec::new();
    loop {
        let replica = published.service.choose(&tried)?;
        let Reach::Direct(address) = replica.reach else {
            tried.push(replica.allocation);
            continue;
        };
        let socket = UdpSocket::bind("0.0.0.0:0").await.ok()?;
        socket.connect((address, published.target)).await.ok()?;
        socket.writable().await.ok()?;
        return Some((socket, replica.begin()));
    }
}

/// Answers of the replica to the client, until neither has spoken for a while.
async fn back(
    upstream: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    used_ms: Arc<AtomicU64>,
    _held: InFlight,
    ended: mpsc::Sender<SocketAddr>,
) {
    loop {
        match tokio::time::timeout(UDP_IDLE, upstream.readable()).await {
            Ok(Ok(())) => {
                if drain(&upstream, &socket, client) {
                    used_ms.store(uptime_ms(), Ordering::Relaxed);
                } else {
                    break; // nobody listens there any more
                }
            }
            Ok(Err(_)) => break,
            Err(_) => {
                let quiet = uptime_ms().saturating_sub(used_ms.load(Ordering::Relaxed));
                if quiet >= UDP_IDLE.as_millis() as u64 {
                    break;
                }
            }
        }
    }
    let _ = ended.send(client).await;
}

/// False if the replica's port is closed. The buffer lives on the stack: sessions are many.
fn drain(upstream: &UdpSocket, socket: &UdpSocket, client: SocketAddr) -> bool {
    let mut buffer = [0; DATAGRAM_MAX];
    for _ in 0..BURST_MAX {
        match upstream.try_recv(&mut buffer) {
            Ok(length) => {
                let _ = socket.try_send_to(&buffer[..length], client);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    true
}
