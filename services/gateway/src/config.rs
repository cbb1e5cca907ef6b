//! Process settings of a gateway.

use std::net::{IpAddr, SocketAddr};

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
}
