//! Which images a host keeps, and which it lets go.
//!
//! An image that no allocation uses stays for a later start, while there is room. The policy
//! ([`Room`]): the store may take a fifth of its disk, and a tenth of the disk stays free; when
//! either is passed, the image used longest ago goes first. What nobody used for a week goes
//! anyway. What was in use within the last ten minutes, or is being fetched, never goes.
//!
//! What goes is first moved aside under the lock, then removed: so a start either sees all of
//! a layer or none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use types::{Digest, ImageRef};

use crate::store::{free_bytes, keep_failed};
use crate::tree::Tree;
use crate::{ImageError, Store};

/// An image on a host's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptImage {
    /// As it was asked for last.
    pub reference: String,
    pub digest: Digest,
    /// Index, manifest and config.
    blobs: Vec<Digest>,
    /// Of the uncompressed tars, lowest first.
    pub layers: Vec<Digest>,
    /// When it was started, or seen in use, last.
    pub used_ms: u64,
}

impl KeptImage {
    pub(crate) fn new(image: &ImageRef, blobs: Vec<Digest>, layers: Vec<Digest>) -> Self {
        Self {
            reference: image.reference.clone(),
            digest: image.digest,
            blobs,
            layers,
            used_ms: now_ms(),
        }
    }
}

/// A kept image with what it takes; layers that others share count in each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedImage {
    pub reference: String,
    pub digest: Digest,
    pub layers: usize,
    pub bytes: u64,
    pub used_ms: u64,
}

/// How much room unused images may take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of the disk, for all images.
    pub store_percent_max: u64,
    /// Of the disk, left free.
    pub free_percent_min: u64,
    /// Unused longer: it goes.
    pub age_max: Duration,
    /// Used within: it stays.
    pub age_min: Duration,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            store_percent_max: 20,
            free_percent_min: 10,
            age_max: Duration::from_secs(7 * 86_400),
            age_min: Duration::from_secs(600),
        }
    }
}

/// What was let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub images: Vec<String>,
    pub bytes: u64,
}

pub struct Shelf {
    dir: PathBuf,
    /// Images being fetched or checked now, and how often.
    busy: Arc<Mutex<BTreeMap<Digest, usize>>>,
}

/// While it lives its image is not pruned.
pub struct Shelved {
    busy: Arc<Mutex<BTreeMap<Digest, usize>>>,
    digest: Digest,
}

impl Drop for Shelved {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().expect("not poisoned");
        if let Some(count) = busy.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.digest);
            }
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

impl Shelf {
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            busy: Arc::default(),
        }
    }

    /// Where a layer goes that is not to be used any more.
    pub fn aside(&self, digest: &Digest) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{}.{number}", digest.hex(), now_ms());
        self.dir.join("aside").join(name)
    }

    /// Notes that an image is used now.
    pub fn begin(&self, image: KeptImage) -> Result<Shelved, ImageError> {
        let mut busy = self.busy.lock().expect("not poisoned");
        self.write(&image)
            .map_err(|e| keep_failed(&image.reference, e))?;
        *busy.entry(image.digest).or_default() += 1;
        Ok(Shelved {
            busy: self.busy.clone(),
            digest: image.digest,
        })
    }

    fn path(&self, folder: &str, digest: &Digest) -> PathBuf {
        self.dir.join(folder).join(digest.hex())
    }

    /// Losing it costs a fetch: it is not synced.
    fn write(&self, image: &KeptImage) -> std::io::Result<()> {
        let fresh = self.aside(&image.digest);
        std::fs::write(&fresh, serde_json::to_vec(image)?)?;
        std::fs::rename(fresh, self.path("images", &image.digest))
    }
}

fn files(dir: &Path, folder: &str) -> Vec<PathBuf> {
    std::fs::read_dir(dir.join(folder))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn kept(dir: &Path) -> Vec<KeptImage> {
    files(dir, "images")
        .iter()
        .filter_map(|p| read(p))
        .collect()
}

/// Bytes by layer.
fn sizes(dir: &Path) -> BTreeMap<Digest, u64> {
    let sized = files(dir, "trees").into_iter().filter_map(|path| {
        let digest = path.file_name()?.to_str()?.parse().ok()?;
        Some((digest, read::<Tree>(&path)?.bytes))
    });
    sized.collect()
}

/// The images of a store's folder, those used last first. Needs no running host.
pub fn list(dir: &Path) -> Vec<ListedImage> {
    let sizes = sizes(dir);
    let mut all: Vec<ListedImage> = kept(dir)
        .into_iter()
        .map(|image| ListedImage {
            bytes: image.layers.iter().filter_map(|l| sizes.get(l)).sum(),
            layers: image.layers.len(),
            reference: image.reference,
            digest: image.digest,
            used_ms: image.used_ms,
        })
        .collect();
    all.sort_by_key(|image| (std::cmp::Reverse(image.used_ms), image.digest));
    all
}

impl Store {
    /// Lets go of images by the policy. Blocks while it removes files.
    ///
    /// `in_use`: digests of the images of all allocations of this host.
    pub fn prune(&self, in_use: &BTreeSet<Digest>, room: &Room) -> std::io::Result<Pruned> {
        let dir = &self.shelf.dir;
        let disk = nix::sys::statvfs::statvfs(dir)?;
        let disk_bytes = disk.blocks() * disk.fragment_size();
        let mut pruned = Pruned::default();
        let mut doomed = Vec::new();
        {
            let busy = self.shelf.busy.lock().expect("not poisoned");
            let now = now_ms();
            let age = |image: &KeptImage| Duration::from_millis(now.saturating_sub(image.used_ms));
            let (mut staying, mut idle) = (Vec::new(), Vec::new());
            for mut image in kept(dir) {
                if in_use.contains(&image.digest) {
                    image.used_ms = now;
                    self.shelf.write(&image)?;
                }
                let stays = busy.contains_key(&image.digest) || age(&image) < room.age_min;
                if stays { &mut staying } else { &mut idle }.push(image);
            }
            idle.sort_by_key(|image| image.used_ms);
            let sizes = sizes(dir);
            let layers = |images: &[KeptImage]| -> BTreeSet<Digest> {
                images
                    .iter()
                    .flat_map(|i| i.layers.iter().copied())
                    .collect()
            };
            let total = |layers: &BTreeSet<Digest>| -> u64 {
                layers.iter().filter_map(|l| sizes.get(l)).sum()
            };
            let all: BTreeSet<Digest> = &layers(&staying) | &layers(&idle);
            let before = total(&all);
            let free = free_bytes(dir);
            let mut left = before;
            while let Some(oldest) = idle.first() {
                let crowded = left > disk_bytes / 100 * room.store_percent_max
                    || free + (before - left) < disk_bytes / 100 * room.free_percent_min;
                if !crowded && age(oldest) < room.age_max {
                    break;
                }
                let gone = idle.remove(0);
                std::fs::remove_file(self.shelf.path("images", &gone.digest))?;
                pruned.images.push(gone.reference);
                left = total(&(&layers(&staying) | &layers(&idle)));
            }
            staying.append(&mut idle);
            let needed = layers(&staying);
            let blobs: BTreeSet<Digest> = staying
                .iter()
                .flat_map(|i| i.blobs.iter().copied())
                .collect();
            for (folder, needed) in [("layers", &needed), ("trees", &needed), ("blobs", &blobs)] {
                for path in files(dir, folder) {
                    let digest = path.file_name().and_then(|n| n.to_str()?.parse().ok());
                    let Some(digest) = digest else { continue };
                    // What is being fetched is not named by an image yet.
                    if !needed.contains(&digest) && is_older(&path, room.age_min) {
                        let aside = self.shelf.aside(&digest);
                        std::fs::rename(&path, &aside)?;
                        doomed.push(aside);
                    }
                }
            }
            pruned.bytes = before - left;
            // Layers that had changed: a container may still run on them.
            doomed.extend(files(dir, "aside").into_iter().filter(|path| {
                let name = path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .unwrap_or_default();
                let digest = name.split('.').next().and_then(|hex| hex.parse().ok());
                digest.is_none_or(|digest: Digest| !needed.contains(&digest))
            }));
        }
        for path in doomed {
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(pruned)
    }
}

fn is_older(path: &Path, age: Duration) -> bool {
    // The time of what is in a layer says nothing; that of its rename does.
    let Ok(meta) = path.symlink_metadata() else {
        return false;
    };
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
    SystemTime::now()
        .duration_since(changed)
        .is_ok_and(|d| d >= age)
}
