//! The networks of one host agent, as the agent calls them.
//!
//! A call that has begun runs to its end even if the caller stops waiting: half an
//! attachment is never left behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::fabric::Fabric;
use crate::{AttachRequest, Attachment, Directory, NetError, NetworkKey, Places, Remote};

#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    pub state: PathBuf,
    /// 1 to 4 of `[a-z0-9]`, unique per host agent on this machine: part of every name.
    pub tag: String,
    /// Asked for names that are not ours; the machine's own if empty.
    pub upstreams: Vec<SocketAddr>,
}

pub struct Network {
    fabric: Arc<Fabric>,
}

impl Network {
    /// Finds again what a former agent of the same state left, and removes what is nobody's.
    pub async fn open(config: NetworkConfig) -> Result<Self, NetError> {
        let fabric = Arc::new(Fabric::open(config).await?);
        Ok(Self { fabric })
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
            former: Vec::new(),
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

    /// The same request again gives the same attachment.
    ///
    /// Errors: nothing of the container is left; a later call may succeed.
    pub async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetError> {
        let (fabric, request) = (self.fabric.clone(), request.clone());
        to_its_end(tokio::spawn(async move { fabric.attach(&request).await })).await
    }

    /// A container that is not attached is fine.
    pub async fn detach(&self, container: &str) -> Result<(), NetError> {
        let (fabric, container) = (self.fabric.clone(), container.to_string());
        to_its_end(tokio::spawn(async move { fabric.detach(&container).await })).await
    }

    /// Makes namespaces ahead, so that the next containers start faster.
    pub async fn refill(&self) -> Result<(), NetError> {
        let fabric = self.fabric.clone();
        to_its_end(tokio::task::spawn_blocking(move || fabric.fill())).await
    }

    /// Names and peers of all deployments that have containers here.
    pub async fn set_directory(&self, directory: Directory) -> Result<(), NetError> {
        let fabric = self.fabric.clone();
        to_its_end(tokio::spawn(async move {
            fabric.set_directory(directory).await
        }))
        .await
    }

    /// Replicas on other machines, and the interface through which they are reached. Each
    /// has an address on its network here as long as that network is there.
    pub async fn set_remotes(&self, tunnel: &str, remotes: Vec<Remote>) -> Result<(), NetError> {
        let (fabric, tunnel) = (self.fabric.clone(), tunnel.to_string());
        to_its_end(tokio::spawn(async move {
            fabric.set_remotes(tunnel, remotes).await
        }))
        .await
    }

    /// Who has which address, whenever that changes.
    pub fn places(&self) -> watch::Receiver<Arc<Places>> {
        self.fabric.places()
    }

    pub async fn attachments(&self) -> BTreeMap<String, Attachment> {
        self.fabric.attachments().await
    }

    /// `remove`: leaves nothing behind; else everything stays for the next agent.
    pub async fn close(&self, remove: bool) -> Result<(), NetError> {
        let fabric = self.fabric.clone();
        to_its_end(tokio::spawn(async move { fabric.close(remove).await })).await
    }
}

async fn to_its_end<T>(task: tokio::task::JoinHandle<Result<T, NetError>>) -> Result<T, NetError> {
    task.await.unwrap_or_else(|error| {
        Err(NetError::new(
            "change the networks",
            error,
            "Restart the host agent",
        ))
    })
}
