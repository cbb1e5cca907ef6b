//! Images of this host: layers fetched once, verified, unpacked once, shared.
//!
//! | folder | has |
//! |---|---|
//! | `blobs` | manifests and configs, by digest; hashed whenever they are read |
//! | `layers` | unpacked layers, by the digest of their uncompressed tar |
//! | `trees` | what each layer was when it was unpacked ([`crate::tree`]) |
//! | `images` | which images there are, of which layers, used when ([`crate::shelf`]) |
//! | `new` | what is being made; emptied when the store is opened |
//! | `aside` | layers taken out of use, until nothing can use them |
//!
//! A layer is on disk to its last byte before it has its name, and has its name before it has
//! its record; one without a record is fetched again.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use types::{Digest, ImageRef};

use crate::client::Access;
use crate::fetch::Source;
use crate::reference::pinned;
use crate::shelf::{KeptImage, Shelf};
use crate::tree::{self, Tree};
use crate::{ImageConfig, ImageError, ReadyImage, health, platform, unpack};

const CONFIG_MAX: u64 = 8 << 20;
const LAYERS_MAX: usize = 200;
/// Indexes in indexes.
const DEPTH_MAX: usize = 4;
/// Of the disk, never taken by unpacking: what packs small may be large.
const DISK_KEPT: u64 = 1 << 30;
/// Layers fetched and unpacked at once, of all images.
const LAYERS_AT_ONCE: usize = 4;
const CONFIG_KINDS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub dir: PathBuf,
    /// Owners in layers are shifted by this.
    pub uid_base: u32,
    /// URL of a gateway, behind which the network's registry is.
    pub network_registry: Option<String>,
    /// Of one layer, compressed or not.
    pub bytes_max: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            uid_base: 100_000,
            network_registry: None,
            bytes_max: 64 << 30,
        }
    }
}

pub struct Store {
    config: StoreConfig,
    source: Source,
    pub(crate) shelf: Shelf,
    /// One fetch of a layer at a time.
    turns: Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
    places: tokio::sync::Semaphore,
    /// Layers that this process unpacked or read in full.
    proven: Mutex<HashSet<Digest>>,
}

/// A layer as the manifest and the config name it.
struct Layer {
    blob: Digest,
    diff: Digest,
    /// Compressed; at most so many bytes are taken.
    bytes: u64,
}

/// A file or folder that goes when it is dropped, unless it was moved away.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whichever it is; gone is as good.
        if std::fs::remove_file(&self.0).is_err() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Holds a layer's turn; the last one to let go forgets it.
struct Turn {
    turns: Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
    diff: Digest,
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.lock().expect("not poisoned");
        self.held = None;
        // Only the map has it: nobody waits.
        if turns
            .get(&self.diff)
            .is_some_and(|t| Arc::strong_count(t) == 1)
        {
            turns.remove(&self.diff);
        }
    }
}

pub(crate) fn keep_failed(reference: &str, why: impl ToString) -> ImageError {
    crate::client::failed("keep", reference, why)
}

impl Store {
    pub fn open(config: StoreConfig) -> Result<Self, ImageError> {
        let opened = |path: &Path, e: std::io::Error| {
            let why = e.to_string();
            crate::client::failed("open the image store for", &path.display().to_string(), why)
        };
        for folder in ["blobs", "layers", "trees", "images", "new", "aside"] {
            let path = config.dir.join(folder);
            // What a crash left half done.
            if folder == "new" && path.exists() {
                std::fs::remove_dir_all(&path).map_err(|e| opened(&path, e))?;
            }
            std::fs::create_dir_all(&path).map_err(|e| opened(&path, e))?;
        }
        let access = Access {
            network: config.network_registry.clone(),
            ..Access::default()
        };
        Ok(Self {
            source: Source::new(access),
            shelf: Shelf::new(&config.dir),
            config,
            turns: Arc::default(),
            places: tokio::sync::Semaphore::new(LAYERS_AT_ONCE),
            proven: Mutex::default(),
        })
    }

    fn path(&self, folder: &str, digest: &Digest) -> PathBuf {
        self.config.dir.join(folder).join(digest.hex())
    }

    fn fresh(&self) -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Scratch(self.config.dir.join("new").join(number.to_string()))
    }

    /// Fetches what is missing; returns only what was verified to the last byte.
    ///
    /// `progress` hears how many layers are ready, of how many.
    pub async fn ensure(
        &self,
        image: &ImageRef,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<ReadyImage, ImageError> {
        let unusable = |why: String| ImageError::Unusable {
            reference: image.reference.clone(),
            why,
        };
        let mut blobs = vec![image.digest];
        let mut manifest = self.manifest(image, &image.digest).await?;
        while manifest["manifests"].is_array() {
            if blobs.len() > DEPTH_MAX {
                return Err(unusable("its indexes are nested too deeply".into()));
            }
            let digest = platform::choose(&manifest).map_err(unusable)?;
            manifest = self.manifest(image, &digest).await?;
            blobs.push(digest);
        }
        let digest = blobs[blobs.len() - 1];
        let config_digest = config_digest(&manifest).map_err(unusable)?;
        let config = self.config(image, &config_digest).await?;
        platform::fits(&config).map_err(unusable)?;
        blobs.push(config_digest);
        let parts = image_config(&config["config"]).map_err(unusable)?;
        let layers = layers(&manifest, &config, self.config.bytes_max).map_err(unusable)?;
        // From here on nothing of it is pruned.
        let _shelved = self.shelf.begin(KeptImage::new(
            image,
            blobs,
            layers.iter().map(|l| l.diff).collect(),
        ))?;
        let ready = AtomicUsize::new(0);
        progress(0, layers.len());
        // By number: a closure over references would bind the caller's task to one lifetime.
        let (ready, all, progress) = (&ready, &layers, &progress);
        futures::stream::iter(0..layers.len())
            .map(|number| async move {
                self.layer(image, &all[number]).await?;
                let ready = ready.fetch_add(1, Ordering::Relaxed) + 1;
                progress(ready, all.len());
                Ok::<_, ImageError>(())
            })
            .buffer_unordered(LAYERS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(ReadyImage {
            manifest: digest,
            config: parts,
            layers: layers
                .iter()
                .rev()
                .map(|l| self.path("layers", &l.diff))
                .collect(),
        })
    }

    /// Fetches an image as a builder reads it: see [`crate::folder::fetch_folder`].
    pub async fn fetch_folder(
        &self,
        image: &ImageRef,
        into: &Path,
        bytes_max: u64,
    ) -> Result<(), ImageError> {
        crate::folder::fetch_folder(&self.source, image, into, bytes_max).await
    }

    fn kept(&self, digest: &Digest) -> Option<Vec<u8>> {
        std::fs::read(self.path("blobs", digest))
            .ok()
            .filter(|bytes| Digest::of(bytes) == *digest)
    }

    /// A manifest by digest, from disk if it is there.
    async fn manifest(&self, image: &ImageRef, digest: &Digest) -> Result<Value, ImageError> {
        let bytes = match self.kept(digest) {
            Some(bytes) => bytes,
            None => {
                let reference = pinned(image)?.clone_with_digest(digest.to_string());
                let fetch = || async {
                    let (bytes, actual) = self.source.manifest(&reference).await?;
                    same(&image.reference, "the manifest", digest, actual)?;
                    Ok(bytes)
                };
                let bytes = once_more(fetch).await?;
                let fresh = self.fresh();
                std::fs::write(&fresh.0, &bytes)
                    .and_then(|()| std::fs::rename(&fresh.0, self.path("blobs", digest)))
                    .map_err(|e| keep_failed(&image.reference, e))?;
                bytes
            }
        };
        parsed(image, &bytes)
    }

    async fn config(&self, image: &ImageRef, digest: &Digest) -> Result<Value, ImageError> {
        if let Some(bytes) = self.kept(digest) {
            return parsed(image, &bytes);
        }
        let fresh = self.blob(image, "the config", digest, CONFIG_MAX).await?;
        let io = |e: std::io::Error| keep_failed(&image.reference, e);
        let bytes = std::fs::read(&fresh.0).map_err(io)?;
        std::fs::rename(&fresh.0, self.path("blobs", digest)).map_err(io)?;
        parsed(image, &bytes)
    }

    /// A verified blob in a file of its own.
    async fn blob(
        &self,
        image: &ImageRef,
        what: &str,
        digest: &Digest,
        most: u64,
    ) -> Result<Scratch, ImageError> {
        let reference = pinned(image)?;
        let fresh = self.fresh();
        once_more(|| async {
            let actual = self.source.blob(&reference, digest, &fresh.0, most).await?;
            same(&image.reference, what, digest, actual)
        })
        .await?;
        Ok(fresh)
    }

    async fn turn(&self, diff: Digest) -> Turn {
        let turn = {
            let mut turns = self.turns.lock().expect("not poisoned");
            turns.entry(diff).or_default().clone()
        };
        let mut waiting = Turn {
            turns: self.turns.clone(),
            diff,
            held: None,
        };
        waiting.held = Some(turn.lock_owned().await);
        waiting
    }

    /// Whoever comes second waits for the first and finds it done.
    async fn layer(&self, image: &ImageRef, layer: &Layer) -> Result<(), ImageError> {
        let _turn = self.turn(layer.diff).await;
        if self.is_whole(image, &layer.diff).await? {
            return Ok(());
        }
        let _place = self.places.acquire().await;
        self.room(image, layer)?;
        let blob = self
            .blob(image, "a layer", &layer.blob, layer.bytes)
            .await?;
        let folder = self.fresh();
        let uid_base = self.config.uid_base;
        let room = free_bytes(&self.config.dir).saturating_sub(DISK_KEPT);
        let most = self.config.bytes_max.min(room);
        // It may go on after this future is dropped: what it works on goes with it.
        let unpacked = tokio::task::spawn_blocking(move || {
            std::fs::create_dir(&folder.0)?;
            let actual = unpack::unpack(std::fs::File::open(&blob.0)?, &folder.0, uid_base, most)?;
            Ok::<_, std::io::Error>((folder, actual))
        });
        let failed = |why: &dyn ToString| keep_failed(&image.reference, why.to_string());
        let (folder, actual) = match unpacked.await.map_err(|e| failed(&e))? {
            Ok(unpacked) => unpacked,
            // The disk's fault, not the layer's.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded
                ) =>
            {
                return Err(failed(&error));
            }
            Err(error) if error.kind() == ErrorKind::FileTooLarge && most == room => {
                let why = "unpacked, a layer would leave less than 1 GiB of the disk";
                return Err(failed(&why));
            }
            Err(error) => {
                return Err(ImageError::Unusable {
                    reference: image.reference.clone(),
                    why: format!("a layer cannot be unpacked: {error}"),
                });
            }
        };
        same(&image.reference, "an unpacked layer", &layer.diff, actual)?;
        let path = self.path("layers", &layer.diff);
        let record = self.path("trees", &layer.diff);
        let fresh = self.fresh();
        let settled = tokio::task::spawn_blocking(move || {
            let tree = tree::record(&folder.0)?;
            // One call for all of its files, and all that they are written through.
            nix::unistd::syncfs(std::fs::File::open(&folder.0)?)?;
            std::fs::rename(&folder.0, &path)?;
            sync_folder_of(&path)?;
            write_record(fresh, &record, &tree)
        });
        settled
            .await
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        self.proven.lock().expect("not poisoned").insert(layer.diff);
        Ok(())
    }

    /// Errors: the disk has no room for it.
    fn room(&self, image: &ImageRef, layer: &Layer) -> Result<(), ImageError> {
        let free = free_bytes(&self.config.dir);
        // It is on disk twice for a while, and larger once it is unpacked.
        let needed = layer.bytes.saturating_mul(3);
        if layer.bytes == self.config.bytes_max || free >= needed {
            return Ok(());
        }
        let why = format!(
            "a layer of {} MiB needs some {} MiB to unpack, and the disk has {} MiB left",
            layer.bytes >> 20,
            needed >> 20,
            free >> 20
        );
        Err(keep_failed(&image.reference, why))
    }

    /// The layer is there and is what was unpacked. One that is not is taken out of use.
    async fn is_whole(&self, image: &ImageRef, diff: &Digest) -> Result<bool, ImageError> {
        let (path, record) = (self.path("layers", diff), self.path("trees", diff));
        let proven = self.proven.lock().expect("not poisoned").contains(diff);
        let (fresh, aside) = (self.fresh(), self.shelf.aside(diff));
        let name = image.reference.clone();
        let checked = tokio::task::spawn_blocking(move || {
            if path.symlink_metadata().is_err() {
                return Ok(false);
            }
            let known = std::fs::read(&record)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Tree>(&bytes).ok());
            if let Some(known) = &known {
                if proven && tree::seen(&path)? == known.seen {
                    return Ok(true);
                }
                let now = tree::record(&path)?;
                if now.content == known.content {
                    if now.seen != known.seen {
                        write_record(fresh, &record, &now)?;
                    }
                    return Ok(true);
                }
                tracing::error!(
                    image = name, layer = %path.display(), expected = %known.content, actual = %now.content,
                    "a layer has changed on disk: it is not used, and fetched anew"
                );
            }
            std::fs::rename(&path, &aside)?;
            Ok::<_, std::io::Error>(false)
        });
        let whole = checked
            .await
            .map_err(|e| keep_failed(&image.reference, e))?
            .map_err(|e| keep_failed(&image.reference, e))?;
        let mut proven = self.proven.lock().expect("not poisoned");
        match whole {
            true => proven.insert(*diff),
            false => proven.remove(diff),
        };
        Ok(whole)
    }
}

/// Bytes left on the disk of `path`.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    nix::sys::statvfs::statvfs(path).map_or(0, |s| s.blocks_available() * s.fragment_size())
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn write_record(fresh: Scratch, path: &Path, tree: &Tree) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(tree)?;
    let mut file = std::fs::File::create(&fresh.0)?;
    std::io::Write::write_all(&mut file, &bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh.0, path)
}

fn parsed(image: &ImageRef, bytes: &[u8]) -> Result<Value, ImageError> {
    serde_json::from_slice(bytes).map_err(|e| ImageError::Unusable {
        reference: image.reference.clone(),
        why: format!("its description cannot be read: {e}"),
    })
}

fn same(reference: &str, what: &str, expected: &Digest, actual: Digest) -> Result<(), ImageError> {
    if actual == *expected {
        return Ok(());
    }
    Err(ImageError::Corrupt {
        reference: reference.into(),
        what: what.into(),
        expected: *expected,
        actual,
    })
}

/// Wrong bytes get one more chance: a cache on the way may have been at fault.
async fn once_more<T, F: Future<Output = Result<T, ImageError>>>(
    fetch: impl Fn() -> F,
) -> Result<T, ImageError> {
    match fetch().await {
        Err(ImageError::Corrupt { .. }) => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            fetch().await
        }
        done => done,
    }
}

fn config_digest(manifest: &Value) -> Result<Digest, String> {
    if manifest["schemaVersion"] == 1 {
        return Err("it is in Docker's format of before 2016: pull and push it anew".into());
    }
    let config = &manifest["config"];
    let kind = config["mediaType"].as_str().unwrap_or_default();
    if !kind.is_empty() && !CONFIG_KINDS.contains(&kind) {
        let kind: String = kind.chars().take(100).collect();
        return Err(format!("it is no container image but {kind}"));
    }
    let digest = config["digest"].as_str().unwrap_or_default();
    crate::reference::digest(digest)
        .ok_or_else(|| "its manifest names no config by sha256".to_string())
}

/// Layers in order, lowest first.
fn layers(manifest: &Value, config: &Value, bytes_max: u64) -> Result<Vec<Layer>, String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (blobs, diffs) = (
        list(&manifest["layers"]),
        list(&config["rootfs"]["diff_ids"]),
    );
    if blobs.len() != diffs.len() || blobs.is_empty() {
        return Err("its config and its manifest name different layers".into());
    }
    if blobs.len() > LAYERS_MAX {
        return Err(format!("it has more than {LAYERS_MAX} layers"));
    }
    // A digest of a kind not known here must not drop its layer in silence.
    let known = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        let shown: String = text.chars().take(80).collect();
        crate::reference::digest(text)
            .ok_or_else(|| format!("its layer {shown:?} is not named by sha256"))
    };
    blobs
        .iter()
        .zip(&diffs)
        .map(|(blob, diff)| {
            Ok(Layer {
                blob: known(&blob["digest"])?,
                diff: known(diff)?,
                bytes: blob["size"].as_u64().unwrap_or(bytes_max).min(bytes_max),
            })
        })
        .collect()
}

/// Errors: a command, variable or folder that no process can be given.
fn image_config(config: &Value) -> Result<ImageConfig, String> {
    let text = |key: &str, value: &Value| -> Result<String, String> {
        match value {
            Value::Null => Ok(String::new()),
            Value::String(text) if !text.contains('\0') => Ok(text.clone()),
            Value::String(_) => Err(format!("its {key} contains a zero byte")),
            _ => Err(format!("its {key} is not text")),
        }
    };
    let list = |key: &str| -> Result<Vec<String>, String> {
        match &config[key] {
            Value::Null => Ok(Vec::new()),
            Value::Array(all) => all.iter().map(|value| text(key, value)).collect(),
            _ => Err(format!("its {key} is not a list")),
        }
    };
    let keys = |key: &str| -> Vec<String> {
        config[key]
            .as_object()
            .into_iter()
            .flat_map(|o| o.keys().cloned())
            .collect()
    };
    Ok(ImageConfig {
        entrypoint: list("Entrypoint")?,
        command: list("Cmd")?,
        env: list("Env")?,
        working_dir: text("WorkingDir", &config["WorkingDir"])?,
        user: text("User", &config["User"])?,
        stop_signal: config["StopSignal"].as_str().map(str::to_string),
        exposed_ports: keys("ExposedPorts"),
        volumes: keys("Volumes"),
        healthcheck: health::check(config),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        let good = serde_json::json!({ "Cmd": ["a", "b"], "Env": null, "User": "x" });
        let config = image_config(&good).expect("read");
        assert_eq!((config.command.len(), config.user.as_str()), (2, "x"));
        assert!(config.entrypoint.is_empty() && config.env.is_empty());
        for (bad, word) in [
            (serde_json::json!({ "Cmd": { "a": 1 } }), "list"),
            (serde_json::json!({ "Entrypoint": ["a", 7] }), "text"),
            (serde_json::json!({ "Env": ["A=\u{0}"] }), "zero"),
            (serde_json::json!({ "WorkingDir": ["/"] }), "text"),
        ] {
            let why = image_config(&bad).expect_err("refused");
            assert!(why.contains(word), "{why}");
        }
    }
}
