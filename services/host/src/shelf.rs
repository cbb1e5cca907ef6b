//! The images of one agent, or of several that live in one process and share them.
//!
//! Sharing saves fetching, unpacking and keeping an image once per agent. It needs that all of
//! them map containers to the same uids, as the owners in unpacked layers are shifted by those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use images::{ImageError, Store, StoreConfig};
use types::{Digest, HostId};

/// A store of images and who uses what of it.
pub struct Shelf {
    pub(crate) store: Arc<Store>,
    uid_base: u32,
    agents: usize,
    in_use: Mutex<BTreeMap<HostId, BTreeSet<Digest>>>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf")
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

impl Shelf {
    /// For so many `agents`, all of the network whose gateway is `network`.
    pub fn open(
        dir: PathBuf,
        uid_base: u32,
        network: &str,
        agents: usize,
    ) -> Result<Self, ImageError> {
        let store = Store::open(StoreConfig {
            dir,
            uid_base,
            network_registry: Some(network.into()),
            ..Default::default()
        })?;
        Ok(Self {
            store: Arc::new(store),
            uid_base,
            agents,
            in_use: Mutex::default(),
        })
    }

    /// Whether containers that are mapped from `uid_base` on may run on its layers.
    pub(crate) fn fits(&self, uid_base: u32) -> bool {
        self.uid_base == uid_base
    }

    /// Notes what `host` uses; what all agents use together. `None` while one of them has not
    /// said it yet: nothing may go then.
    pub(crate) fn in_use(&self, host: HostId, own: BTreeSet<Digest>) -> Option<BTreeSet<Digest>> {
        let mut in_use = self.in_use.lock().expect("not poisoned");
        in_use.insert(host, own);
        let all = || in_use.values().flatten().copied().collect();
        (in_use.len() >= self.agents).then(all)
    }
}

#[cfg(test)]
mod tests {
    use types::AccountId;

    use super::*;

    #[test]
    fn nothing_goes_before_every_agent_has_said_what_it_uses() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::open(folder.path().into(), 100_000, "http://127.0.0.1:1", 2);
        let shelf = shelf.expect("opens");
        let [a, b] = [b"a", b"b"].map(|n| BTreeSet::from([Digest::of(n)]));
        assert_eq!(shelf.in_use(AccountId([1; 20]), a.clone()), None);
        assert_eq!(shelf.in_use(AccountId([2; 20]), b.clone()), Some(&a | &b));
        let less = shelf.in_use(AccountId([1; 20]), BTreeSet::new());
        assert_eq!(less, Some(b), "its last word counts");
        assert!(shelf.fits(100_000) && !shelf.fits(165_536));
    }
}
