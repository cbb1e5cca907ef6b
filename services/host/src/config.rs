//! Process settings of a host agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use types::{AccountId, SecretKey};

use crate::shelf::Shelf;

#[derive(Clone, Debug)]
pub struct Config {
    /// All state lives here.
    pub data: PathBuf,
    /// Images, where several agents of one process keep them together; an own store under
    /// `data` if not said.
    pub images: Option<Arc<Shelf>>,
    /// URL of a gateway or validator of the network.
    pub network: String,
    pub name: String,
    pub key: SecretKey,
    /// Is paid; whoever the token is of, or owns the host already, or the host itself, if not said.
    pub owner: Option<AccountId>,
    /// By which its owner lets it join.
    pub token: Option<SecretKey>,
    pub listen: SocketAddr,
    /// What others reach the agent by; `listen` if not said.
    pub advertise: Option<String>,
    /// Links to other hosts end here (UDP); address and port of `listen` if not said.
    pub mesh: Option<SocketAddr>,
    /// What other hosts reach that by, if it is not what they reach the agent by.
    pub mesh_advertise: Option<SocketAddr>,
    /// URLs of relays that pass on to this host what cannot reach it.
    pub relays: Vec<String>,
    /// What to offer; all of the machine if not said.
    pub cpus_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub bandwidth_kbps: Option<u32>,
    pub region: String,
    /// `libcontainer`, `runc` or `crun`.
    pub engine: String,
    /// Program and first arguments of the shim (`runrig shim`).
    pub shim: Vec<String>,
    /// First uid of the 65536 that containers here are mapped to.
    pub uid_base: u32,
    /// Logs may be sent to receivers on this machine's and private networks too.
    pub private_receivers: bool,
    /// Stop containers when the agent ends (`dev`), instead of leaving them to be found again.
    pub stop_on_exit: bool,
    /// Offer building, if a builder is installed.
    pub builds: bool,
}
