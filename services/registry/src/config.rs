//! Process settings of a registry.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Config {
    /// Blobs and tags live here.
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Refuse blobs larger than this.
    pub blob_bytes_max: u64,
    /// Refuse uploads when the disk has less than this left.
    pub disk_bytes_min: u64,
}
