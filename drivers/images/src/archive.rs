//! Images in files: OCI layouts, OCI archives, docker archives.

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use types::Digest;

use crate::ImageError;
use crate::tape::{self, Bounds};

const BOUNDS: Bounds = Bounds {
    bytes_max: 64 << 30,
    entries_max: 10_000,
};
/// Of a file that describes: an index, a manifest, a config.
const JSON_MAX: u64 = 8 << 20;
/// Indexes in indexes.
const DEPTH_MAX: usize = 4;

/// One image of an opened file.
#[derive(Clone, Debug)]
pub struct LocalImage {
    /// As the file calls it, each `name:tag`; one image may have several, or none.
    pub names: Vec<String>,
    pub manifest: Digest,
    pub layout: PathBuf,
}

impl LocalImage {
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.layout.join("blobs/sha256").join(digest.hex())
    }
}

/// An opened file; what was unpacked for it goes with it.
pub struct LocalImages {
    pub images: Vec<LocalImage>,
    _unpacked: tempfile::TempDir,
}

impl LocalImages {
    pub(crate) fn of(image: LocalImage, unpacked: tempfile::TempDir) -> Self {
        Self {
            images: vec![image],
            _unpacked: unpacked,
        }
    }
}

pub fn unusable(path: &Path, why: impl ToString) -> ImageError {
    ImageError::Unusable {
        reference: path.display().to_string(),
        why: why.to_string(),
    }
}

/// A folder with an OCI layout, or a tar (also compressed) of one, or `docker save`'s tar. All
/// blobs are verified; nothing is written into the folder.
pub fn open_archive(path: &Path) -> Result<LocalImages, ImageError> {
    let meta = std::fs::metadata(path).map_err(|e| unusable(path, e))?;
    let own = tempfile::tempdir().map_err(|e| unusable(path, e))?;
    let folder = if meta.is_dir() {
        path.to_path_buf()
    } else {
        extract(path, own.path())?;
        own.path().to_path_buf()
    };
    let images = if folder.join("oci-layout").exists() && folder.join("index.json").exists() {
        layout(path, &folder)?
    } else if folder.join("manifest.json").exists() {
        docker(path, &folder, own.path())?
    } else {
        return Err(unusable(
            path,
            "it is neither an OCI layout nor a docker archive",
        ));
    };
    if images.is_empty() {
        return Err(unusable(path, "it contains no image"));
    }
    for image in &images {
        verify(path, image, &image.manifest, 0)?;
    }
    Ok(LocalImages {
        images,
        _unpacked: own,
    })
}

fn extract(path: &Path, into: &Path) -> Result<(), ImageError> {
    let file = std::fs::File::open(path).map_err(|e| unusable(path, e))?;
    let mut links = Vec::new();
    let leaves = || std::io::Error::other("it leaves the archive");
    let read = tape::read(file, &BOUNDS, |entry, name| {
        let plain = name
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain {
            return Err(leaves());
        }
        let at = into.join(&name);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            std::fs::create_dir_all(at.parent().unwrap_or(into))?;
            std::io::copy(entry, &mut std::fs::File::create(&at)?)?;
        } else if kind.is_symlink()
            && let Some(target) = entry.link_name()?
        {
            // `docker save` links equal layers: `../<other>/layer.tar`.
            let parent = name.parent().unwrap_or(Path::new(""));
            let target = inside(&parent.join(target)).ok_or_else(leaves)?;
            links.push((name, target));
        }
        Ok(())
    });
    read.map_err(|e| unusable(path, format!("it cannot be read as a tar file: {e}")))?;
    for (name, target) in links {
        // A link to nothing matters only if something names it.
        let at = into.join(name);
        let _ = std::fs::create_dir_all(at.parent().unwrap_or(into));
        let _ = std::fs::hard_link(into.join(target), at);
    }
    Ok(())
}

/// `a/../b` → `b`; `None` if it leads out.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir if clean.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(clean)
}

fn read_small(path: &Path, file: &Path) -> Result<Vec<u8>, ImageError> {
    let size = std::fs::metadata(file)
        .map_err(|e| unusable(path, format!("{}: {e}", file.display())))?
        .len();
    if size > JSON_MAX {
        return Err(unusable(
            path,
            format!("{} is larger than {JSON_MAX} bytes", file.display()),
        ));
    }
    std::fs::read(file).map_err(|e| unusable(path, e))
}

fn read_json(path: &Path, file: &Path) -> Result<Value, ImageError> {
    serde_json::from_slice(&read_small(path, file)?)
        .map_err(|e| unusable(path, format!("{}: {e}", file.display())))
}

/// An annotation may be a whole name or, as `umoci` and `skopeo` write it, only a tag: then the
/// file's own name goes before it.
fn name_of(annotation: &str, path: &Path) -> Option<String> {
    if annotation.contains([':', '/']) {
        return Some(annotation.into());
    }
    let file = path.canonicalize().ok()?;
    let file = file.file_name()?.to_str()?.to_ascii_lowercase();
    let stem = [".gz", ".zst", ".tgz", ".tar", ".oci"]
        .iter()
        .fold(file.as_str(), |name, end| {
            name.strip_suffix(end).unwrap_or(name)
        });
    (!stem.starts_with('.')).then(|| format!("{stem}:{annotation}"))
}

fn layout(path: &Path, folder: &Path) -> Result<Vec<LocalImage>, ImageError> {
    let index = read_json(path, &folder.join("index.json"))?;
    let mut images: Vec<LocalImage> = Vec::new();
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let text = entry["digest"].as_str().unwrap_or_default();
        let manifest = crate::reference::digest(text)
            .ok_or_else(|| unusable(path, format!("{text:?} is no sha256 digest")))?;
        let annotations = &entry["annotations"];
        let name = annotations["io.containerd.image.name"]
            .as_str()
            .or(annotations["org.opencontainers.image.ref.name"].as_str())
            .and_then(|annotation| name_of(annotation, path));
        match images.iter_mut().find(|i| i.manifest == manifest) {
            Some(same) => same.names.extend(name),
            None => images.push(LocalImage {
                names: name.into_iter().collect(),
                manifest,
                layout: folder.into(),
            }),
        }
    }
    Ok(images)
}

pub fn hash_file(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hasher)?;
    Ok((Digest(hasher.finalize().into()), bytes))
}

/// Every blob that a manifest names is there and is what it is named.
fn verify(
    path: &Path,
    image: &LocalImage,
    manifest: &Digest,
    depth: usize,
) -> Result<(), ImageError> {
    if depth > DEPTH_MAX {
        return Err(unusable(path, "its indexes are nested too deeply"));
    }
    let check = |digest: &Digest, what: &str| -> Result<(), ImageError> {
        let (actual, _) = hash_file(&image.blob(digest))
            .map_err(|e| unusable(path, format!("{what} {digest}: {e}")))?;
        if actual == *digest {
            return Ok(());
        }
        Err(ImageError::Corrupt {
            reference: path.display().to_string(),
            what: what.into(),
            expected: *digest,
            actual,
        })
    };
    check(manifest, "the manifest")?;
    let bytes = read_small(path, &image.blob(manifest))?;
    let (blobs, manifests) = crate::fetch::names(&bytes).ok_or_else(|| {
        unusable(
            path,
            "its manifest cannot be read, or names something other than by sha256",
        )
    })?;
    for blob in &blobs {
        check(blob, "a layer or the config")?;
    }
    for inner in manifests.iter().filter(|m| image.blob(m).exists()) {
        verify(path, image, inner, depth + 1)?;
    }
    Ok(())
}

pub fn put(folder: &Path, bytes: &[u8]) -> std::io::Result<Digest> {
    let digest = Digest::of(bytes);
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    std::fs::write(blobs.join(digest.hex()), bytes)?;
    Ok(digest)
}

pub fn oci_manifest(
    folder: &Path,
    config: &[u8],
    layers: &[(Digest, u64)],
) -> std::io::Result<Digest> {
    let config_digest = put(folder, config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest, "size": config.len() },
        "layers": layers.iter().map(|(digest, size)| json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size,
        })).collect::<Vec<_>>(),
    });
    put(folder, &serde_json::to_vec(&manifest)?)
}

/// What `docker save` wrote, as images with OCI manifests, their blobs in `into`.
fn docker(path: &Path, folder: &Path, into: &Path) -> Result<Vec<LocalImage>, ImageError> {
    let io = |e: std::io::Error| unusable(path, e);
    let list = read_json(path, &folder.join("manifest.json"))?;
    let file = |name: &str| -> Result<PathBuf, ImageError> {
        let plain = Path::new(name)
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
        let at = folder.join(name);
        // A folder that was given may hold a link to anywhere.
        let real = at
            .canonicalize()
            .map_err(|e| unusable(path, format!("{name}: {e}")))?;
        if plain && real.starts_with(folder.canonicalize().map_err(io)?) {
            Ok(real)
        } else {
            Err(unusable(path, format!("{name} leaves the archive")))
        }
    };
    let mut images: Vec<LocalImage> = Vec::new();
    for entry in list.as_array().into_iter().flatten() {
        let config_name = entry["Config"]
            .as_str()
            .ok_or_else(|| unusable(path, "an image without config"))?;
        let config = read_small(path, &file(config_name)?)?;
        let parsed: Value = serde_json::from_slice(&config).map_err(|e| unusable(path, e))?;
        let mut layers = Vec::new();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (diffs, files) = (list(&parsed["rootfs"]["diff_ids"]), list(&entry["Layers"]));
        if diffs.len() != files.len() {
            return Err(unusable(path, "its config and its list of layers differ"));
        }
        for (name, diff) in files.iter().zip(&diffs) {
            let file = file(name.as_str().unwrap_or_default())?;
            let (actual, bytes) = hash_file(&file).map_err(io)?;
            let expected = diff
                .as_str()
                .and_then(crate::reference::digest)
                .ok_or_else(|| unusable(path, format!("layer {diff} is not named by sha256")))?;
            if actual != expected {
                return Err(ImageError::Corrupt {
                    reference: path.display().to_string(),
                    what: "a layer".into(),
                    expected,
                    actual,
                });
            }
            let blobs = into.join("blobs/sha256");
            std::fs::create_dir_all(&blobs).map_err(io)?;
            let at = blobs.join(actual.hex());
            if !at.exists() && std::fs::hard_link(&file, &at).is_err() {
                std::fs::copy(&file, &at).map_err(io)?;
            }
            layers.push((actual, bytes));
        }
        let manifest = oci_manifest(into, &config, &layers).map_err(io)?;
        let tags = list(&entry["RepoTags"]);
        images.push(LocalImage {
            names: tags
                .iter()
                .filter_map(|t| t.as_str().map(str::to_string))
                .collect(),
            manifest,
            layout: into.into(),
        });
    }
    Ok(images)
}
