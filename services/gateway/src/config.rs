//! Process settings of a gateway.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use types::SecretKey;

#[derive(Clone, Debug)]
pub struct Config {
    /// URLs of validators, asked in order of health.
    pub validators: Vec<String>,
    /// URL of the registry role, which `/v2/` goes to.
    pub registry: Option<String>,
    pub listen: SocketAddr,
    /// Where published ports of deployments are opened.
    pub publish: IpAddr,
    /// What follows `<service>.<label>` in names: `localhost`.
    pub domain: String,
    pub tls: Option<Secure>,
    /// Where it writes down what services are asked in each hour and day. Without one it remembers
    /// an hour, until it ends.
    pub data: Option<PathBuf>,
    /// Signs what it tells the ledger of the demand for services. Without one it cannot have
    /// services started that sleep.
    pub key: Option<SecretKey>,
}

/// Listen for TLS, too.
#[derive(Clone, Debug)]
pub struct Secure {
    pub listen: SocketAddr,
    pub certificates: Certificates,
}

/// Where certificates come from.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// An authority in this folder, made there if there is none.
    Authority(PathBuf),
    /// Chains and keys in PEM; the first is for clients that name nobody, or nobody known.
    Files(Vec<(PathBuf, PathBuf)>),
}
