//! Published ports: a listener each, spliced to a ready replica.
//!
//! Listeners come and go with the routes. A port that cannot be opened is tried again, and the
//! status says why; connections of a port end with it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};
use types::{AllocationId, Protocol};

use crate::client::{Counted, Patient};
use crate::connect::{dial, tune};
use crate::limits::{ATTEMPTS_MAX, REOPEN, STARTING_PAUSE};
use crate::load::Outcome;
use crate::proxy::Gateway;
use crate::table::uptime_ms;
use crate::{udp, wake};

pub type Key = (Protocol, u16);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum PortState {
    Open,
    /// Could not be opened; is tried again.
    Failed(String),
}

struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a listener at `publish` for every published port of the table.
pub async fn keep(gateway: Arc<Gateway>, publish: IpAddr) {
    let mut tasks = JoinSet::new();
    let mut open: BTreeMap<Key, Listening> = BTreeMap::new();
    let mut failed: BTreeMap<Key, String> = BTreeMap::new();
    let mut changes = gateway.changes.subscribe();
    loop {
        changes.mark_unchanged();
        let table = gateway.table.load_full();
        open.retain(|key, _| {
            let stays = table.published.contains_key(key);
            if !stays {
                tracing::info!(port = key.1, protocol = %key.0, "published port closed");
            }
            stays
        });
        failed.retain(|key, _| table.published.contains_key(key));
        for (key, published) in &table.published {
            if open.contains_key(key) {
                continue;
            }
            match listen(&gateway, publish, *key, &mut tasks).await {
                Ok(listening) => {
                    let service = &published.service.domain;
                    tracing::info!(port = key.1, protocol = %key.0, %service, "published port opened");
                    failed.remove(key);
                    open.insert(*key, listening);
                }
                Err(error) => {
                    let why = match error.kind() {
                        std::io::ErrorKind::AddrInUse => {
                            "another program of this machine uses the port".to_string()
                        }
                        _ => error.to_string(),
                    };
                    if failed.insert(*key, why.clone()).is_none() {
                        let service = &published.service.domain;
                        tracing::warn!(
                            port = key.1, protocol = %key.0, %service, why,
                            "published port cannot be opened; it is tried again"
                        );
                    }
                }
            }
        }
        while tasks.try_join_next().is_some() {}
        let states = open
            .keys()
            .map(|key| (*key, PortState::Open))
            .chain(
                failed
                    .iter()
                    .map(|(key, why)| (*key, PortState::Failed(why.clone()))),
            )
            .collect();
        *gateway.ports.lock().expect("not poisoned") = states;
        let retry = async {
            match failed.is_empty() {
                true => std::future::pending().await,
                false => tokio::time::sleep(REOPEN).await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = retry => {}
        }
    }
}

async fn listen(
    gateway: &Arc<Gateway>,
    publish: IpAddr,
    key: Key,
    tasks: &mut JoinSet<()>,
) -> std::io::Result<Listening> {
    let task = match key.0 {
        Protocol::Tcp => {
            let listener = TcpListener::bind((publish, key.1)).await?;
            tasks.spawn(accept(gateway.clone(), listener, key))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind((publish, key.1)).await?;
            tasks.spawn(udp::forward(gateway.clone(), socket, key))
        }
    };
    Ok(Listening(task))
}

async fn accept(gateway: Arc<Gateway>, listener: TcpListener, key: Key) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (client, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, port = key.1, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(share) = gateway.shares.take(peer.ip()) else {
            continue;
        };
        let Ok(place) = gateway.spliced.clone().try_acquire_owned() else {
            tracing::warn!(
                port = key.1,
                "too many connections to published ports: one is refused"
            );
            continue;
        };
        tune(&client);
        let gateway = gateway.clone();
        connections.spawn(async move {
            let _held = (place, share);
            splice(&gateway, key, Patient::new(client)).await;
        });
    }
}

async fn splice(gateway: &Gateway, key: Key, client: Patient<TcpStream>) {
    let mut client = Counted::new(client);
    let mut tried: Vec<AllocationId> = Vec::new();
    while tried.len() < ATTEMPTS_MAX {
        let Some(mut published) = gateway.table.load().published.get(&key).cloned() else {
            return;
        };
        let service = &mut published.service;
        if service.scale.is_some() && service.replicas.is_empty() && !service.frozen {
            match wake::wait(gateway, service).await {
                Ok(awake) => *service = awake,
                Err(why) => {
                    tracing::debug!(why, service = %service.domain, "nobody to connect to");
                    return;
                }
            }
        }
        let Some(replica) = published.service.choose(&tried) else {
            return;
        };
        let held = replica.begin();
        match dial(&replica.reach, replica.allocation, published.target).await {
            Ok(mut upstream) => {
                let _held = held;
                sdk::splice(&mut client, &mut upstream).await;
                published.service.tally.spliced(client.read, client.written);
                return;
            }
            Err(_) if replica.load.is_starting(uptime_ms()) => {
                drop(held);
                tokio::time::sleep(STARTING_PAUSE).await;
            }
            Err(error) => {
                tracing::debug!(%error, allocation = %replica.allocation, "a replica cannot be reached");
                replica.load.tell(Outcome::Failed);
                tried.push(replica.allocation);
            }
        }
    }
}
