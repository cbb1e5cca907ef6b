//! Connect rigs to rigs: encrypted links that carry a project's packets between hosts.
//!
//! ```text
//! container ─ bridge ─ tun ─► table ─► link ═══ QUIC ═══ link ─► table ─► tun ─ bridge ─ container
//!                             (may it   (by the other    (does that host
//!                              leave?)   host's key)      hold the sender?)
//! ```
//!
//! Invariants: both ends of a link have proven the key of a host that the ledger's plan names
//! as a neighbour; what goes over a link is judged by the plan at both ends ([`Table`]);
//! nobody is contacted but neighbours, at the addresses that the plan tells, and the relays
//! that are configured. Nothing is kept per flow: an agent that starts again carries on with
//! connections as they are. Links, bytes that wait and handshakes at once are bounded
//! ([`limits`]); what is too much is lost, as on any network.
//!
//! Start at [`Mesh`]. Source: RFD 4.

mod limits;
mod link;
mod mesh;
mod mirror;
mod packet;
mod relay;
mod table;
mod tun;

use std::net::SocketAddr;

use types::PublicKey;

pub use link::Link;
pub use mesh::{Config, Mesh};
pub use relay::{Admit, Relay};
pub use table::{Local, NetworkId, Remote, Table};

/// Where another host is, as it told the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub key: PublicKey,
    /// UDP. A host behind a NAT has none that others reach.
    pub addresses: Vec<SocketAddr>,
    /// URL of the relay that knows it.
    pub relay: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{operation}: {why}. {next}")]
pub struct MeshError {
    pub operation: String,
    pub why: String,
    pub next: String,
}

impl MeshError {
    pub(crate) fn new(operation: &str, why: impl ToString, next: &str) -> Self {
        Self {
            operation: operation.into(),
            why: why.to_string(),
            next: next.into(),
        }
    }
}
