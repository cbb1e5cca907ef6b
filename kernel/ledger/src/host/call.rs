use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, HostId, Hours, Offer, Resources};

use super::{Invitation, MeshPoint};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The signing key becomes the host's. Registering again updates it.
    Register {
        /// Unique on the network: `[a-z0-9][a-z0-9-]*`, at most 40 characters.
        name: String,
        /// `http://ip:port` of the agent, for logs, exec, stats and routed traffic.
        address: String,
        offer: Offer,
        /// Owns the host and is paid.
        owner: AccountId,
        /// Digest of the machine's boot id: hosts of one machine reach each other's
        /// containers directly.
        machine: types::Digest,
        /// Shows that `owner` asked for this machine. Without one it joins for whomever it names: pay
        /// that is given away harms nobody.
        invitation: Option<Invitation>,
    },
    /// Takes no new work (true) or does again.
    Cordon { cordoned: bool },
    /// Moves everything to other hosts, each replica once its successor is good (true), or
    /// stops doing so. Replicas with named volumes stay: their data is here. Signed by the
    /// host or its owner.
    Drain { host: HostId, draining: bool },
    /// Asks so many thousandths of the network's rates, 500 to 1,000, for leases that begin
    /// from now on. Signed by the host or its owner.
    SetPrice {
        host: HostId,
        price_multiplier_milli: u32,
    },
    /// Gone for good; only when nothing is placed on it.
    Leave,
    /// Still there, though nothing runs.
    Heartbeat,
    /// Where other hosts find it for links.
    Announce(MeshPoint),
    /// Signed by a watcher: hosts that it has ceased to hear, and hosts that it hears again;
    /// at most 1,000 together. Those that are not registered are passed over.
    Observe {
        silent: Vec<HostId>,
        heard: Vec<HostId>,
    },
    /// Lends so much from now on, whatever its agent was started with: less at once, more as
    /// soon as the agent offers it, as far as the machine has it. At least what is reserved
    /// there. Signed by the host or its owner.
    SetAllotment { host: HostId, allotment: Resources },
    /// Takes work in these hours of a week only; none: always. Outside them what runs there
    /// moves as with [`Self::Drain`], which is another matter and stays as it is. Signed by the
    /// host or its owner.
    SetHours { host: HostId, hours: Option<Hours> },
    /// Lets one machine join in the sender's name: the one that has the secret of `token`.
    Invite {
        /// The account of a fresh key; at most [`super::OPEN_MAX`] of one owner are open.
        token: AccountId,
        /// Ledger time from which on it is nothing; at most [`super::OPEN_MS_MAX`] away.
        until_ms: u64,
    },
    /// Takes back what the sender's [`Self::Invite`] said, while no machine has joined by it.
    Uninvite { token: AccountId },
}
