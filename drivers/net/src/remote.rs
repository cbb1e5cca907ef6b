//! What an agent has been told of replicas on other machines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::{Alias, DirectoryEntry, NetworkKey, Remote};

/// On one network. The rest of its addresses is for containers here.
const ALIASES_MAX: usize = 100;

#[derive(Default)]
pub struct Told {
    /// Nothing has been told before it is.
    tunnel: Option<String>,
    remotes: Vec<Remote>,
    /// Addresses that lead into the tunnel by now.
    pub routed: BTreeSet<Ipv4Addr>,
}

impl Told {
    pub fn set(&mut self, tunnel: String, remotes: Vec<Remote>) {
        if self.tunnel.as_ref() != Some(&tunnel) {
            self.routed.clear();
        }
        self.tunnel = Some(tunnel);
        self.remotes = remotes;
    }

    pub fn tunnel(&self) -> Option<String> {
        self.tunnel.clone()
    }

    /// Those that need an address, on networks that are `here`.
    pub fn wanted(&self, here: impl Fn(&NetworkKey) -> bool) -> BTreeSet<(NetworkKey, u64)> {
        let mut counts: BTreeMap<&NetworkKey, usize> = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        // In the order of numbers: who has a place keeps it.
        let mut all: Vec<&Remote> = self.remotes.iter().collect();
        all.sort_by_key(|r| r.replica);
        for remote in all.into_iter().filter(|r| here(&r.network)) {
            let count = counts.entry(&remote.network).or_default();
            if *count < ALIASES_MAX && wanted.insert((remote.network.clone(), remote.replica)) {
                *count += 1;
            }
        }
        wanted
    }

    pub fn entries(&self, aliases: &[Alias]) -> Vec<DirectoryEntry> {
        let address: BTreeMap<(&NetworkKey, u64), Ipv4Addr> = aliases
            .iter()
            .map(|a| ((&a.network, a.replica), a.address))
            .collect();
        let entry = |remote: &Remote| {
            Some(DirectoryEntry {
                network: remote.network.clone(),
                names: remote.names.clone(),
                address: *address.get(&(&remote.network, remote.replica))?,
                ready: remote.ready,
            })
        };
        self.remotes.iter().filter_map(entry).collect()
    }
}
