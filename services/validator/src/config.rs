//! Process settings of a validator. What the network must agree on is in the genesis.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Config {
    /// All state lives here.
    pub data: PathBuf,
    /// `network.json`.
    pub network: api::NetworkFile,
    /// Canonical bytes of `consensus::Seat`: this validator's keys.
    pub seat: Vec<u8>,
    pub p2p: SocketAddr,
    pub http: SocketAddr,
}
