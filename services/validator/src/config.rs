//! Process settings of a validator. What the network must agree on is in the genesis.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use crate::renewal::Whereabouts;

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
    /// Where others find it: its entry on the ledger is kept so. `None`: left as it is.
    pub whereabouts: Option<Whereabouts>,
    /// How many blocks are kept, the newest; `None`: all.
    pub keep_blocks: Option<NonZeroU64>,
}
