//! Images of this host: layers fetched once, verified, unpacked once, shared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use types::{Digest, ImageRef};

use crate::fetch::{Access, Source};
use crate::reference::pinned;
use crate::{ImageConfig, ImageError, ReadyImage, unpack};

const CONFIG_MAX: u64 = 8 << 20;
const LAYERS_MAX: usize = 200;
const TRIES: u32 = 3;

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
    /// One fetch of a layer at a time.
    busy: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// A layer as the manifest and the config name it.
struct Layer {
    blob: Digest,
    diff: Digest,
}

impl Store {
    pub fn open(config: StoreConfig) -> Result<Self, ImageError> {
        for folder in ["blobs", "layers", "new"] {
            let path = config.dir.join(folder);
            // What a crash left half done.
            if folder == "new" {
                let _ = std::fs::remove_dir_all(&path);
            }
            std::fs::create_dir_all(&path).map_err(|e| ImageError::Failed {
                operation: "open the image store for",
                reference: path.display().to_string(),
                why: e.to_string(),
            })?;
        }
        let access = Access {
            network: config.network_registry.clone(),
            ..Access::default()
        };
        Ok(Self {
            source: Source::new(access),
            config,
            busy: Mutex::default(),
        })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.config.dir.join("blobs").join(digest.hex())
    }

    fn layer_path(&self, diff: &Digest) -> PathBuf {
        self.config.dir.join("layers").join(diff.hex())
    }

    /// Fetches what is missing; returns only what was verified to the last byte.
    ///
    /// `progress` hears of each layer: how many are ready, of how many.
    pub async fn ensure(
        &self,
        image: &ImageRef,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<ReadyImage, ImageError> {
        let name = image.reference.as_str();
        let unusable = |why: &str| ImageError::Unusable {
            reference: name.into(),
            why: why.into(),
        };
        let mut digest = image.digest;
        let mut manifest = self.manifest(image, &digest).await?;
        if manifest["manifests"].is_array() {
            digest = for_this_machine(&manifest)
                .ok_or_else(|| unusable(&format!("it is not made for linux/{}", architecture())))?;
            manifest = self.manifest(image, &digest).await?;
        }
        let named = |value: &Value| crate::reference::digest(value["digest"].as_str()?);
        let config_digest =
            named(&manifest["config"]).ok_or_else(|| unusable("its manifest names no config"))?;
        let config = self.config(image, &config_digest).await?;
        let blobs: Option<Vec<Digest>> = manifest["layers"]
            .as_array()
            .map(|l| l.iter().filter_map(named).collect());
        let blobs = blobs.unwrap_or_default();
        let diffs: Vec<Digest> = config["rootfs"]["diff_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|d| crate::reference::digest(d.as_str()?))
            .collect();
        // A digest of a kind not known here must not drop its layer in silence.
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        let all = count(&manifest["layers"]) == blobs.len()
            && count(&config["rootfs"]["diff_ids"]) == diffs.len();
        if !all || blobs.len() != diffs.len() || blobs.is_empty() || blobs.len() > LAYERS_MAX {
            return Err(unusable(
                "its config and its manifest name different layers",
            ));
        }
        let layers: Vec<Layer> = blobs
            .into_iter()
            .zip(diffs)
            .map(|(blob, diff)| Layer { blob, diff })
            .collect();
        for (ready, layer) in layers.iter().enumerate() {
            progress(ready, layers.len());
            self.layer(image, layer).await?;
        }
        progress(layers.len(), layers.len());
        Ok(ReadyImage {
            manifest: digest,
            config: image_config(&config["config"]),
            layers: layers
                .iter()
                .rev()
                .map(|l| self.layer_path(&l.diff))
                .collect(),
        })
    }

    /// A manifest by digest, from disk if it is there.
    async fn manifest(&self, image: &ImageRef, digest: &Digest) -> Result<Value, ImageError> {
        let path = self.blob_path(digest);
        let kept = std::fs::read(&path)
            .ok()
            .filter(|b| Digest::of(b) == *digest);
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let reference = pinned(image)?.clone_with_digest(digest.to_string());
                let fetch = || async {
                    let (bytes, actual) = self.source.manifest(&reference).await?;
                    same(&image.reference, "the manifest", digest, actual)?;
                    Ok(bytes)
                };
                let bytes = again(fetch).await?;
                self.keep(image, &path, &bytes)?;
                bytes
            }
        };
        self.parsed(image, &bytes)
    }

    async fn config(&self, image: &ImageRef, digest: &Digest) -> Result<Value, ImageError> {
        let path = self.blob_path(digest);
        let kept = std::fs::read(&path)
            .ok()
            .filter(|b| Digest::of(b) == *digest);
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let reference = pinned(image)?;
                let fresh = self.fresh();
                let fetch = || async {
                    let actual = self
                        .source
                        .blob(&reference, digest, &fresh, CONFIG_MAX)
                        .await?;
                    same(&image.reference, "the config", digest, actual)
                };
                if let Err(error) = again(fetch).await {
                    let _ = std::fs::remove_file(&fresh);
                    return Err(error);
                }
                let bytes = std::fs::read(&fresh).map_err(|e| self.failed(image, &e))?;
                std::fs::rename(&fresh, &path).map_err(|e| self.failed(image, &e))?;
                bytes
            }
        };
        self.parsed(image, &bytes)
    }

    fn parsed(&self, image: &ImageRef, bytes: &[u8]) -> Result<Value, ImageError> {
        serde_json::from_slice(bytes).map_err(|e| ImageError::Unusable {
            reference: image.reference.clone(),
            why: format!("its description cannot be read: {e}"),
        })
    }

    fn failed(&self, image: &ImageRef, why: &dyn ToString) -> ImageError {
        ImageError::Failed {
            operation: "keep",
            reference: image.reference.clone(),
            why: why.to_string(),
        }
    }

    fn fresh(&self) -> PathBuf {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.config.dir.join("new").join(number.to_string())
    }

    fn keep(&self, image: &ImageRef, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let fresh = self.fresh();
        std::fs::write(&fresh, bytes)
            .and_then(|()| std::fs::rename(&fresh, path))
            .map_err(|e| self.failed(image, &e))
    }

    /// Whoever comes second waits for the first and finds it done.
    async fn layer(&self, image: &ImageRef, layer: &Layer) -> Result<(), ImageError> {
        let path = self.layer_path(&layer.diff);
        if path.exists() {
            return Ok(());
        }
        let turn = self
            .busy
            .lock()
            .expect("not poisoned")
            .entry(layer.diff)
            .or_default()
            .clone();
        let _turn = turn.lock().await;
        if path.exists() {
            return Ok(());
        }
        let reference = pinned(image)?;
        let (blob, folder) = (self.fresh(), self.fresh());
        let fetch = || async {
            let actual = self
                .source
                .blob(&reference, &layer.blob, &blob, self.config.bytes_max)
                .await?;
            same(&image.reference, "a layer", &layer.blob, actual)
        };
        if let Err(error) = again(fetch).await {
            let _ = std::fs::remove_file(&blob);
            return Err(error);
        }
        let unpacked = {
            let (blob, folder) = (blob.clone(), folder.clone());
            let (uid_base, most) = (self.config.uid_base, self.config.bytes_max);
            tokio::task::spawn_blocking(move || {
                std::fs::create_dir(&folder)?;
                unpack::unpack(std::fs::File::open(&blob)?, &folder, uid_base, most)
            })
            .await
        };
        let _ = std::fs::remove_file(&blob);
        let actual = match unpacked {
            Ok(Ok(actual)) => actual,
            Ok(Err(error)) => {
                let _ = std::fs::remove_dir_all(&folder);
                return Err(ImageError::Unusable {
                    reference: image.reference.clone(),
                    why: format!("a layer cannot be unpacked: {error}"),
                });
            }
            Err(error) => return Err(self.failed(image, &error)),
        };
        if let Err(corrupt) = same(&image.reference, "an unpacked layer", &layer.diff, actual) {
            let _ = std::fs::remove_dir_all(&folder);
            return Err(corrupt);
        }
        std::fs::rename(&folder, &path).map_err(|e| self.failed(image, &e))?;
        self.busy.lock().expect("not poisoned").remove(&layer.diff);
        Ok(())
    }
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

/// Networks fail; wrong bytes get one more chance too.
async fn again<T, F: Future<Output = Result<T, ImageError>>>(
    fetch: impl Fn() -> F,
) -> Result<T, ImageError> {
    let mut pause = Duration::from_millis(200);
    let mut tries = 0;
    loop {
        tries += 1;
        match fetch().await {
            Err(ImageError::Failed { .. }) if tries < TRIES => {}
            Err(ImageError::Corrupt { .. }) if tries < 2 => {}
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause *= 4;
    }
}

/// This machine's, as an OCI image index and an offer name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn for_this_machine(index: &Value) -> Option<Digest> {
    index["manifests"].as_array()?.iter().find_map(|m| {
        let platform = &m["platform"];
        let fits = platform["os"] == "linux" && platform["architecture"] == architecture();
        fits.then(|| crate::reference::digest(m["digest"].as_str()?))
            .flatten()
    })
}

fn image_config(config: &Value) -> ImageConfig {
    let list = |key: &str| -> Vec<String> {
        config[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_string))
            .collect()
    };
    let keys = |key: &str| -> Vec<String> {
        config[key]
            .as_object()
            .into_iter()
            .flat_map(|o| o.keys().cloned())
            .collect()
    };
    let text = |key: &str| config[key].as_str().unwrap_or_default().to_string();
    ImageConfig {
        entrypoint: list("Entrypoint"),
        command: list("Cmd"),
        env: list("Env"),
        working_dir: text("WorkingDir"),
        user: text("User"),
        stop_signal: config["StopSignal"].as_str().map(str::to_string),
        exposed_ports: keys("ExposedPorts"),
        volumes: keys("Volumes"),
    }
}
