//! Connect workloads on a host: one bridge per project network, a veth pair per container,
//! names by DNS, isolation by nftables, rates by tbf.

mod network;

mod dns;
mod fabric;
mod firewall;
mod hindrance;
mod link;
mod pool;
mod ready;
mod remote;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use hindrance::hindrances;
pub use network::{Network, NetworkConfig};

#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation}: {why}. {next}")]
pub struct NetError {
    pub operation: String,
    pub why: String,
    pub next: String,
}

/// One network of one deployment, on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkKey {
    /// `d-12`.
    pub deployment: String,
    /// Compose name: `default`, `backend` …
    pub network: String,
}

/// A container's place on its networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub netns: PathBuf,
    pub interfaces: Vec<Interface>,
    /// Answers names for this container; goes into resolv.conf.
    pub dns: Ipv4Addr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub network: NetworkKey,
    /// Host end of the veth pair.
    pub host_name: String,
    /// `eth0` …
    pub container_name: String,
    pub address: Ipv4Addr,
}

/// What to attach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The container's id.
    pub container: String,
    /// Networks with their `internal` flag; the first carries the default route.
    pub networks: Vec<(NetworkKey, bool)>,
    /// Addresses that its predecessor had: it gets them again where they are free, so that
    /// who knows only those still reaches it.
    pub former: Vec<Ipv4Addr>,
    /// Each way, kilobits per second; both together over all networks is not limited.
    pub bandwidth_kbps: u32,
}

/// The names and addresses of a deployment's replicas, on all hosts, as the ledger knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    pub entries: Vec<DirectoryEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    pub network: NetworkKey,
    /// Lower case: service name, aliases, container name.
    pub names: Vec<String>,
    pub address: Ipv4Addr,
    /// Only ready replicas are answered while any is ready.
    pub ready: bool,
}

/// A replica on another machine, reached through an interface that carries packets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub network: NetworkKey,
    /// Number of its allocation.
    pub replica: u64,
    /// As in [`DirectoryEntry`].
    pub names: Vec<String>,
    pub ready: bool,
}

/// The address that stands for a replica on another machine; the same as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub network: NetworkKey,
    pub replica: u64,
    pub address: Ipv4Addr,
}

/// All addresses on this agent's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Networks with the container's id and its address there.
    pub containers: Vec<(NetworkKey, String, Ipv4Addr)>,
    pub aliases: Vec<Alias>,
}

impl NetError {
    pub(crate) fn new(operation: impl Into<String>, why: impl ToString, next: &str) -> Self {
        Self {
            operation: operation.into(),
            why: why.to_string(),
            next: next.into(),
        }
    }
}
