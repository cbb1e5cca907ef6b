//! Who is where, as the ledger's plan has it: the one thing that a packet is judged by.
//!
//! Invariants: a packet leaves only between two replicas of one network, the sender on this
//! host; a packet is let in only from the host that its sender is placed on, to a replica of
//! the same network here. What is not in the table does not exist.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use types::{Digest, HostId};

use crate::packet::{self, Ends};

/// A network of a project, the same on all hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(u64);

impl NetworkId {
    /// `deployment` as in `d-12`, `network` by its compose name.
    pub fn of(deployment: &str, network: &str) -> Self {
        let digest = Digest::of_value("runrig-mesh-network", &(deployment, network));
        let [a, b, c, d, e, f, g, h, ..] = digest.0;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// A replica on this host, on one of its networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    pub network: NetworkId,
    /// Number of its allocation.
    pub replica: u64,
    pub address: Ipv4Addr,
}

/// A replica on another host, and the address that stands for it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    pub network: NetworkId,
    pub replica: u64,
    pub host: HostId,
    pub alias: Ipv4Addr,
}

/// What goes before a packet on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    pub network: NetworkId,
    pub from: u64,
    pub to: u64,
}

impl Label {
    pub const LENGTH: usize = 25;
    const VERSION: u8 = 1;

    pub fn write(&self, to: &mut Vec<u8>) {
        to.push(Self::VERSION);
        for number in [self.network.0, self.from, self.to] {
            to.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// And the packet behind it.
    pub fn split(frame: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (label, packet) = frame.split_at_mut_checked(Self::LENGTH)?;
        if label[0] != Self::VERSION {
            return None;
        }
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_be_bytes(label[at..at + 8].try_into().ok()?))
        };
        let label = Self {
            network: NetworkId(number(1)?),
            from: number(9)?,
            to: number(17)?,
        };
        Some((label, packet))
    }
}

#[derive(Debug, Default)]
pub struct Table {
    locals: HashMap<Ipv4Addr, (NetworkId, u64)>,
    addresses: HashMap<(NetworkId, u64), Ipv4Addr>,
    aliases: HashMap<Ipv4Addr, (NetworkId, u64, HostId)>,
    remotes: HashMap<(NetworkId, u64), (HostId, Ipv4Addr)>,
}

impl Table {
    pub fn new(
        locals: impl IntoIterator<Item = Local>,
        remotes: impl IntoIterator<Item = Remote>,
    ) -> Self {
        let mut table = Self::default();
        for l in locals {
            table.locals.insert(l.address, (l.network, l.replica));
            table.addresses.insert((l.network, l.replica), l.address);
        }
        for r in remotes {
            let alias = (r.network, r.replica, r.host);
            table.aliases.insert(r.alias, alias);
            table
                .remotes
                .insert((r.network, r.replica), (r.host, r.alias));
        }
        table
    }

    /// Where a packet from a container here goes, if it may.
    pub fn outward(&self, packet: &[u8]) -> Option<(HostId, Label)> {
        let Ends { from, to } = packet::ends(packet)?;
        let (network, from) = *self.locals.get(&from)?;
        let (same, to, host) = *self.aliases.get(&to)?;
        (network == same).then_some((host, Label { network, from, to }))
    }

    /// The addresses that a packet from `host` has here, if it may come in.
    pub fn inward(&self, host: &HostId, label: &Label) -> Option<Ends> {
        let (placed, from) = self.remotes.get(&(label.network, label.from))?;
        let to = *self.addresses.get(&(label.network, label.to))?;
        (placed == host).then_some(Ends { from: *from, to })
    }
}

#[cfg(test)]
mod tests;
