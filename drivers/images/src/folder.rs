//! Images in plain folders, as builders read and write them: `manifest.json`, and each blob
//! under the hexadecimal digits of its digest (the `dir:` transport of containers/image).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};
use types::{Digest, ImageRef};

use crate::archive::{hash_file, unusable};
use crate::client::failed;
use crate::fetch::{Source, names};
use crate::reference::pinned;
use crate::{ImageError, LocalImage, LocalImages, platform};

const VERSION: &str = "Directory Transport Version: 1.1\n";
const MANIFEST: &str = "manifest.json";
const MANIFEST_MAX: u64 = 4 << 20;
/// Indexes in indexes.
const DEPTH_MAX: usize = 4;

/// Takes the image that somebody else wrote into `path`; nothing there is believed. Its blobs
/// are moved away from there.
///
/// Nobody may write to the folder any more. Errors: a blob is no plain file or not what it is
/// named; together they are larger than `bytes_max`.
pub fn take_folder(path: &Path, bytes_max: u64) -> Result<LocalImages, ImageError> {
    let own = tempfile::tempdir_in(path.parent().unwrap_or(path)).map_err(|e| unusable(path, e))?;
    let blobs = own.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|e| unusable(path, e))?;
    let mut left = bytes_max;
    let mut take = |name: &str, most: u64| -> Result<Digest, ImageError> {
        let from = path.join(name);
        let meta = from
            .symlink_metadata()
            .map_err(|e| unusable(path, format!("{name}: {e}")))?;
        // A link may lead anywhere, and a second name of a file is not the builder's to give.
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(unusable(path, format!("{name} is no plain file")));
        }
        if meta.len() > most || meta.len() > left {
            return Err(unusable(path, format!("{name} is too large")));
        }
        left -= meta.len();
        let moved = own.path().join("taken");
        let io = |e: std::io::Error| unusable(path, format!("{name}: {e}"));
        std::fs::rename(&from, &moved).map_err(io)?;
        let (digest, _) = hash_file(&moved).map_err(io)?;
        std::fs::rename(&moved, blobs.join(digest.hex())).map_err(io)?;
        Ok(digest)
    };
    let manifest = take(MANIFEST, MANIFEST_MAX)?;
    let image = LocalImage {
        names: Vec::new(),
        manifest,
        layout: own.path().into(),
    };
    let bytes = std::fs::read(image.blob(&manifest)).map_err(|e| unusable(path, e))?;
    let (inner, _) = names(&bytes).ok_or_else(|| unusable(path, "its manifest cannot be read"))?;
    for blob in inner {
        if image.blob(&blob).exists() {
            continue;
        }
        let actual = take(&blob.hex(), u64::MAX)?;
        if actual != blob {
            return Err(ImageError::Corrupt {
                reference: path.display().to_string(),
                what: "a layer or the config".into(),
                expected: blob,
                actual,
            });
        }
    }
    Ok(LocalImages::of(image, own))
}

/// Fetches what of `image` is for this machine into the empty folder `into`; every blob is
/// verified.
///
/// Errors: it is larger than `bytes_max`.
pub async fn fetch_folder(
    source: &Source,
    image: &ImageRef,
    into: &Path,
    bytes_max: u64,
) -> Result<(), ImageError> {
    let io = |e: std::io::Error| failed("keep", &image.reference, e);
    let unfit = |why: String| ImageError::Unusable {
        reference: image.reference.clone(),
        why,
    };
    let same = |what: &str, expected: Digest, actual: Digest| match actual == expected {
        true => Ok(()),
        false => Err(ImageError::Corrupt {
            reference: image.reference.clone(),
            what: what.into(),
            expected,
            actual,
        }),
    };
    let mut at = pinned(image)?;
    let mut digest = image.digest;
    let mut bytes = Vec::new();
    for depth in 0..=DEPTH_MAX {
        let (found, actual) = source.manifest(&at).await?;
        same("the manifest", digest, actual)?;
        bytes = found;
        let parsed: Value = serde_json::from_slice(&bytes).map_err(|e| unfit(e.to_string()))?;
        if !parsed["manifests"].is_array() {
            break;
        }
        if depth == DEPTH_MAX {
            return Err(unfit("its indexes are nested too deeply".into()));
        }
        digest = platform::choose(&parsed).map_err(unfit)?;
        at = at.clone_with_digest(digest.to_string());
    }
    let (blobs, _) = names(&bytes).ok_or_else(|| unfit("its manifest cannot be read".into()))?;
    let mut left = bytes_max;
    for blob in blobs {
        let path = into.join(blob.hex());
        if path.exists() {
            continue;
        }
        let actual = source.blob(&at, &blob, &path, left).await?;
        same("a blob", blob, actual)?;
        left = left.saturating_sub(path.metadata().map_err(io)?.len());
    }
    let bytes = with_history(into, bytes).map_err(io)?;
    std::fs::write(into.join("version"), VERSION).map_err(io)?;
    std::fs::write(into.join(MANIFEST), bytes).map_err(io)
}

/// Builders count on one entry of history for each layer, which not every image has: then the
/// config in the folder gets them. Returns the manifest that names it.
fn with_history(folder: &Path, manifest: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut parsed: Value = serde_json::from_slice(&manifest)?;
    let layers = parsed["layers"].as_array().map_or(0, Vec::len);
    let named = parsed["config"]["digest"].as_str();
    let Some(named) = named.and_then(crate::reference::digest) else {
        return Ok(manifest);
    };
    let path = folder.join(named.hex());
    if path.metadata()?.len() > MANIFEST_MAX {
        return Err(std::io::Error::other("its config is too large"));
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let history = config["history"].as_array().map_or(&[][..], Vec::as_slice);
    let told = history.iter().filter(|h| h["empty_layer"] != true).count();
    if told == layers {
        return Ok(manifest);
    }
    // With a time, or the builder finds nothing again of what it keeps.
    let entry = json!({ "created": "1970-01-01T00:00:00Z", "created_by": "not told" });
    config["history"] = vec![entry; layers].into();
    let bytes = serde_json::to_vec(&config)?;
    let digest = Digest::of(&bytes);
    std::fs::write(folder.join(digest.hex()), &bytes)?;
    parsed["config"]["digest"] = json!(digest);
    parsed["config"]["size"] = json!(bytes.len());
    Ok(serde_json::to_vec(&parsed)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with an image of one layer; its names.
    fn image(path: &Path) -> (String, String) {
        std::fs::create_dir_all(path).expect("made");
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            std::fs::write(path.join(digest.hex()), bytes).expect("written");
            digest
        };
        let (config, layer) = (put(b"{}"), put(b"layer"));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": { "digest": config, "size": 2 },
            "layers": [{ "digest": layer, "size": 5 }],
        });
        std::fs::write(path.join(MANIFEST), manifest.to_string()).expect("written");
        (config.hex(), layer.hex())
    }

    #[test]
    fn a_builders_image_is_taken_and_never_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("out");
        image(&at);
        let taken = take_folder(&at, 1 << 20).expect("taken");
        let one = &taken.images[0];
        assert!(one.blob(&one.manifest).is_file());
        drop(taken);

        let refused = |spoil: &dyn Fn(&Path, &str)| {
            let _ = std::fs::remove_dir_all(&at);
            let (_, layer) = image(&at);
            spoil(&at, &layer);
            take_folder(&at, 1 << 10).map(|_| ()).expect_err("refused")
        };
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "layer").expect("written");
        refused(&|at, layer| {
            std::fs::remove_file(at.join(layer)).expect("removed");
            symlink(&secret, at.join(layer)).expect("linked");
        });
        refused(&|at, layer| {
            std::fs::remove_file(at.join(layer)).expect("removed");
            std::fs::hard_link(&secret, at.join(layer)).expect("linked");
        });
        refused(&|at, layer| std::fs::write(at.join(layer), "other").expect("written"));
        refused(&|at, layer| std::fs::write(at.join(layer), vec![0; 2 << 10]).expect("written"));
        refused(&|at, layer| std::fs::remove_file(at.join(layer)).expect("removed"));
        refused(&|at, _| std::fs::write(at.join(MANIFEST), "no").expect("written"));
        assert_eq!(std::fs::read(&secret).expect("there"), b"layer");
    }

    #[test]
    fn a_config_without_history_gets_one_entry_for_each_layer() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let (config, _) = image(at);
        let manifest = std::fs::read(at.join(MANIFEST)).expect("there");
        let patched = with_history(at, manifest).expect("patched");
        let parsed: Value = serde_json::from_slice(&patched).expect("json");
        let named = parsed["config"]["digest"].as_str().expect("named");
        let named = crate::reference::digest(named).expect("a digest");
        assert_ne!(named.hex(), config);
        let bytes = std::fs::read(at.join(named.hex())).expect("there");
        assert!(Digest::of(&bytes) == named && parsed["config"]["size"] == bytes.len());
        let config: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(config["history"].as_array().map(Vec::len), Some(1));
        assert_eq!(with_history(at, patched.clone()).expect("left"), patched);
    }
}
