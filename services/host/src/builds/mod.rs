//! Build images here: an existing rootless builder (buildah) as the first process of a
//! container like any other.
//!
//! ```text
//! builds/root-…     what the builder needs, copied from this machine's packages
//! builds/bases/…    images that builds begin with, by digest, as the builder reads them
//! builds/cache/…    what the builder keeps between builds, per account
//! ```
//!
//! Invariants: nothing of a build runs outside of its container; two accounts never share a
//! cache, and of one account one build runs at a time; what a build left is read as a
//! stranger's; everything here is bounded.

mod command;
mod program;
mod publish;
mod root;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context, Result};
use images::ImageError;
use tokio::sync::{Mutex as Turn, OnceCell, OwnedMutexGuard};
use types::{AccountId, BuildSpec, Digest, ImageRef};

pub use command::wrap;
pub use program::{Builder, builder};
pub use publish::publish;

/// Of one base image, compressed.
const BASE_BYTES_MAX: u64 = 4 << 30;
/// Of all base images kept here; the longest unused go first.
const BASES_BYTES_MAX: u64 = 8 << 30;
/// What an account's builds may leave for its next ones; a larger cache is begun anew.
const CACHE_BYTES_MAX: u64 = 4 << 30;
/// Of all accounts; the longest unused go first.
const CACHES_BYTES_MAX: u64 = 16 << 30;
/// Left free on the disk.
const DISK_KEPT: u64 = 1 << 30;

pub struct Builds {
    folder: PathBuf,
    uid_base: u32,
    pub builder: Builder,
    root: OnceCell<PathBuf>,
    turns: Mutex<BTreeMap<AccountId, Arc<Turn<()>>>>,
    /// Fetched one at a time; those that a build uses are held by it.
    bases: Turn<BTreeMap<Digest, Arc<()>>>,
}

/// A base image for one build.
pub struct Base {
    /// As the recipe names it.
    pub word: String,
    /// Where the container sees it.
    pub target: String,
    pub folder: PathBuf,
    _held: Arc<()>,
}

/// All that a build's container is made of beside its own mounts. While it lives, no other
/// build of the account runs here.
pub struct Ready {
    pub root: PathBuf,
    pub cache: PathBuf,
    pub bases: Vec<Base>,
    _turn: OwnedMutexGuard<()>,
}

impl Builds {
    pub fn open(data: &Path, uid_base: u32, builder: Builder) -> Result<Self> {
        let folder = data.join("builds");
        for name in ["bases", "cache"] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(Self {
            folder,
            uid_base,
            builder,
            root: OnceCell::new(),
            turns: Mutex::default(),
            bases: Turn::default(),
        })
    }

    /// Waits until no other build of the account runs here.
    pub async fn turn(&self, owner: AccountId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().expect("not poisoned");
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(owner).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Where the builder keeps its layers for the account.
    pub fn cache(&self, owner: AccountId) -> PathBuf {
        self.folder.join("cache").join(owner.to_string())
    }

    /// Fetches and makes what is missing.
    ///
    /// Errors: a base image cannot be had; this machine lacks something.
    pub async fn ready(
        &self,
        images: &images::Store,
        owner: AccountId,
        spec: &BuildSpec,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Ready, ImageError> {
        let unready = |why: anyhow::Error| ImageError::Failed {
            operation: "prepare a build for",
            reference: owner.to_string(),
            why: format!("{why:#}"),
        };
        let root = self
            .root
            .get_or_try_init(|| async {
                let (builder, uid_base) = (self.builder.clone(), self.uid_base);
                let folder = self.folder.clone();
                tokio::task::spawn_blocking(move || root::make(&folder, &builder, uid_base))
                    .await
                    .context("make the builder's root")?
            })
            .await
            .map_err(unready)?
            .clone();
        let cache = self.cache(owner);
        root::own_folder(&cache, self.uid_base).map_err(unready)?;
        let mut bases = Vec::new();
        for (word, image) in &spec.bases {
            bases.push(self.base(images, word, image).await?);
        }
        Ok(Ready {
            root,
            cache,
            bases,
            _turn: turn,
        })
    }

    async fn base(
        &self,
        images: &images::Store,
        word: &str,
        image: &ImageRef,
    ) -> Result<Base, ImageError> {
        let mut held = self.bases.lock().await;
        let failed = |why: String| ImageError::Failed {
            operation: "keep",
            reference: image.reference.clone(),
            why,
        };
        let folder = self.folder.join("bases").join(image.digest.hex());
        if folder.is_dir() {
            // When it was used last.
            let used = std::fs::File::open(&folder);
            let _ = used.and_then(|f| f.set_modified(SystemTime::now()));
        } else {
            let in_use = |d: &Digest| held.get(d).is_some_and(|h| Arc::strong_count(h) > 1);
            let left = self
                .room_for_base(&in_use)
                .map_err(|e| failed(e.to_string()))?;
            let fresh = self.folder.join("bases/new");
            let remake = || -> std::io::Result<()> {
                if fresh.exists() {
                    std::fs::remove_dir_all(&fresh)?;
                }
                std::fs::create_dir(&fresh)
            };
            remake().map_err(|e| failed(e.to_string()))?;
            images.fetch_folder(image, &fresh, left).await?;
            std::fs::rename(&fresh, &folder).map_err(|e| failed(e.to_string()))?;
        }
        held.retain(|_, h| Arc::strong_count(h) > 1);
        Ok(Base {
            word: word.into(),
            target: format!("/from/{}", image.reference),
            folder,
            _held: held.entry(image.digest).or_default().clone(),
        })
    }

    /// Bytes that one more may have.
    fn room_for_base(&self, in_use: &dyn Fn(&Digest) -> bool) -> std::io::Result<u64> {
        let spared = |name: &str| name.parse().is_ok_and(|d| in_use(&d));
        let most = BASES_BYTES_MAX - BASE_BYTES_MAX;
        let kept = shrink(&self.folder.join("bases"), most, &spared)?;
        let disk = nix::sys::statvfs::statvfs(&self.folder)?;
        let free = disk.blocks_available() * disk.fragment_size();
        Ok(BASE_BYTES_MAX
            .min(BASES_BYTES_MAX.saturating_sub(kept))
            .min(free.saturating_sub(DISK_KEPT)))
    }

    /// After a build: what it left is bounded. One that was cut off may have left a broken
    /// cache, so that goes.
    pub fn settle(&self, owner: AccountId, cut_off: bool) -> std::io::Result<()> {
        let own = self.cache(owner);
        if cut_off || meter::disk_bytes(std::slice::from_ref(&own)) > CACHE_BYTES_MAX {
            remove(&own)?;
        }
        let building = |name: &str| {
            let turns = self.turns.lock().expect("not poisoned");
            let account = name.parse::<AccountId>();
            account.is_ok_and(|a| turns.get(&a).is_some_and(|t| Arc::strong_count(t) > 1))
        };
        shrink(&self.folder.join("cache"), CACHES_BYTES_MAX, &building)?;
        Ok(())
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the longest unused folders in `folder` but those `spared`, until they take at most
/// `most` bytes together; returns how many they take.
fn shrink(folder: &Path, most: u64, spared: &dyn Fn(&str) -> bool) -> std::io::Result<u64> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let bytes = meter::disk_bytes(&[entry.path()]);
        all.push((entry.metadata()?.modified()?, entry.path(), bytes));
    }
    all.sort();
    let mut total: u64 = all.iter().map(|(_, _, bytes)| bytes).sum();
    for (_, path, bytes) in all {
        if total <= most {
            break;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !spared(&name) {
            remove(&path)?;
            total -= bytes;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_go_first_and_never_those_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        for (age, name) in [(30, "old"), (20, "used"), (10, "new")] {
            let at = folder.path().join(name);
            std::fs::create_dir(&at).expect("made");
            std::fs::write(at.join("file"), vec![1; 1 << 20]).expect("written");
            let time = SystemTime::now() - std::time::Duration::from_secs(age);
            let file = std::fs::File::open(&at).expect("opened");
            file.set_modified(time).expect("set");
        }
        let names = || {
            let entries = std::fs::read_dir(folder.path()).expect("read");
            let mut names: Vec<String> = entries
                .map(|e| e.expect("one").file_name().to_string_lossy().into())
                .collect();
            names.sort();
            names
        };
        let spared = |name: &str| name == "used";
        let left = shrink(folder.path(), 5 << 20, &spared).expect("shrunk");
        assert!(names().len() == 3 && left >= 3 << 20);
        shrink(folder.path(), 5 << 19, &spared).expect("shrunk");
        assert_eq!(names(), ["new", "used"]);
        shrink(folder.path(), 0, &spared).expect("shrunk");
        assert_eq!(names(), ["used"]);
    }
}
