//! Process settings of a registry.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Config {
    /// Blobs and tags live here.
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// URLs of gateways or validators, asked whether an account exists before it may write.
    /// Empty: whoever has a key may write.
    pub network: Vec<String>,
    /// Refuse blobs larger than this.
    pub blob_bytes_max: u64,
    /// Refuse more from an account whose repositories take this together; what two of them
    /// share counts in both.
    pub account_bytes_max: u64,
    /// Refuse uploads when the disk has less than this left.
    pub disk_bytes_min: u64,
}
