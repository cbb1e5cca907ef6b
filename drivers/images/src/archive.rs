//! Images in files: OCI layouts, OCI archives, docker archives; and one made on the spot.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use types::Digest;

use crate::ImageError;

const FILES_MAX: usize = 10_000;

/// One image of an opened file.
#[derive(Clone, Debug)]
pub struct LocalImage {
    /// As the file calls it: `name:tag`.
    pub name: Option<String>,
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
    _unpacked: Option<tempfile::TempDir>,
}

fn unusable(path: &Path, why: impl ToString) -> ImageError {
    ImageError::Unusable {
        reference: path.display().to_string(),
        why: why.to_string(),
    }
}

/// A folder with an OCI layout, or a tar (also gzipped) of one, or `docker save`'s tar. All
/// blobs are verified.
pub fn open_archive(path: &Path) -> Result<LocalImages, ImageError> {
    let meta = std::fs::metadata(path).map_err(|e| unusable(path, e))?;
    let (folder, unpacked) = if meta.is_dir() {
        (path.to_path_buf(), None)
    } else {
        let folder = tempfile::tempdir().map_err(|e| unusable(path, e))?;
        extract(path, folder.path())?;
        (folder.path().to_path_buf(), Some(folder))
    };
    let images = if folder.join("oci-layout").exists() && folder.join("index.json").exists() {
        layout(path, &folder)?
    } else if folder.join("manifest.json").exists() {
        docker(path, &folder)?
    } else {
        return Err(unusable(
            path,
            "it is neither an OCI layout nor a docker archive",
        ));
    };
    for image in &images {
        verify(path, image, &image.manifest)?;
    }
    Ok(LocalImages {
        images,
        _unpacked: unpacked,
    })
}

fn extract(path: &Path, into: &Path) -> Result<(), ImageError> {
    let file = std::fs::File::open(path).map_err(|e| unusable(path, e))?;
    let mut file = std::io::BufReader::new(file);
    let magic = std::io::BufRead::fill_buf(&mut file).map_err(|e| unusable(path, e))?;
    let reader: Box<dyn Read> = if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut archive = tar::Archive::new(reader);
    let mut links = Vec::new();
    let entries = archive.entries().map_err(|e| unusable(path, e))?;
    for entry in entries.take(FILES_MAX) {
        let mut entry = entry.map_err(|e| unusable(path, format!("it is no tar file: {e}")))?;
        let name = entry.path().map_err(|e| unusable(path, e))?.into_owned();
        let plain = name
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain {
            return Err(unusable(
                path,
                format!("{} leaves the archive", name.display()),
            ));
        }
        let at = into.join(&name);
        if entry.header().entry_type().is_file() {
            std::fs::create_dir_all(at.parent().unwrap_or(into)).map_err(|e| unusable(path, e))?;
            let mut out = std::fs::File::create(&at).map_err(|e| unusable(path, e))?;
            std::io::copy(&mut entry, &mut out).map_err(|e| unusable(path, e))?;
        } else if entry.header().entry_type().is_symlink()
            && let Ok(Some(target)) = entry.link_name()
        {
            // `docker save` links equal layers: `../<other>/layer.tar`.
            links.push((
                name.clone(),
                name.parent().unwrap_or(Path::new("")).join(target),
            ));
        }
    }
    for (name, target) in links {
        let mut clean = PathBuf::new();
        for part in target.components() {
            match part {
                Component::Normal(part) => clean.push(part),
                Component::ParentDir if clean.pop() => {}
                Component::CurDir => {}
                _ => {
                    return Err(unusable(
                        path,
                        format!("{} leaves the archive", name.display()),
                    ));
                }
            }
        }
        // A link to nothing matters only if something names it.
        let _ = std::fs::copy(into.join(clean), into.join(name));
    }
    Ok(())
}

fn read_json(path: &Path, file: &Path) -> Result<Value, ImageError> {
    let bytes = std::fs::read(file).map_err(|e| unusable(path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| unusable(path, e))
}

fn layout(path: &Path, folder: &Path) -> Result<Vec<LocalImage>, ImageError> {
    let index = read_json(path, &folder.join("index.json"))?;
    let images: Vec<LocalImage> = index["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|m| {
            let annotations = &m["annotations"];
            let name = annotations["io.containerd.image.name"]
                .as_str()
                .or(annotations["org.opencontainers.image.ref.name"].as_str());
            Some(LocalImage {
                name: name.map(str::to_string),
                manifest: crate::reference::digest(m["digest"].as_str()?)?,
                layout: folder.into(),
            })
        })
        .collect();
    if images.is_empty() {
        return Err(unusable(path, "it contains no image"));
    }
    Ok(images)
}

fn hash_file(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hasher)?;
    Ok((Digest(hasher.finalize().into()), bytes))
}

/// Every blob that a manifest names is there and is what it is named.
fn verify(path: &Path, image: &LocalImage, manifest: &Digest) -> Result<(), ImageError> {
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
    let bytes = std::fs::read(image.blob(manifest)).map_err(|e| unusable(path, e))?;
    let (blobs, manifests) =
        crate::fetch::names(&bytes).ok_or_else(|| unusable(path, "its manifest cannot be read"))?;
    for blob in &blobs {
        check(blob, "a layer or the config")?;
    }
    for inner in manifests.iter().filter(|m| image.blob(m).exists()) {
        verify(path, image, inner)?;
    }
    Ok(())
}

fn put(folder: &Path, bytes: &[u8]) -> std::io::Result<Digest> {
    let digest = Digest::of(bytes);
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    std::fs::write(blobs.join(digest.hex()), bytes)?;
    Ok(digest)
}

fn oci_manifest(folder: &Path, config: &[u8], layers: &[(Digest, u64)]) -> std::io::Result<Digest> {
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

fn docker(path: &Path, folder: &Path) -> Result<Vec<LocalImage>, ImageError> {
    let io = |e: std::io::Error| unusable(path, e);
    let list = read_json(path, &folder.join("manifest.json"))?;
    let inside = |name: &str| -> Result<PathBuf, ImageError> {
        let plain = Path::new(name)
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
        if plain {
            Ok(folder.join(name))
        } else {
            Err(unusable(path, format!("{name} leaves the archive")))
        }
    };
    let mut images = Vec::new();
    for entry in list.as_array().into_iter().flatten() {
        let config_name = entry["Config"]
            .as_str()
            .ok_or_else(|| unusable(path, "an image without config"))?;
        let config = std::fs::read(inside(config_name)?).map_err(io)?;
        let parsed: Value = serde_json::from_slice(&config).map_err(|e| unusable(path, e))?;
        let mut layers = Vec::new();
        let diffs = parsed["rootfs"]["diff_ids"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let files = entry["Layers"].as_array().cloned().unwrap_or_default();
        if diffs.len() != files.len() {
            return Err(unusable(path, "its config and its list of layers differ"));
        }
        for (file, diff) in files.iter().zip(&diffs) {
            let file = inside(file.as_str().unwrap_or_default())?;
            let (actual, bytes) = hash_file(&file).map_err(io)?;
            let expected = diff
                .as_str()
                .and_then(crate::reference::digest)
                .unwrap_or_default();
            if actual != expected {
                return Err(ImageError::Corrupt {
                    reference: path.display().to_string(),
                    what: "a layer".into(),
                    expected,
                    actual,
                });
            }
            let blobs = folder.join("blobs/sha256");
            std::fs::create_dir_all(&blobs).map_err(io)?;
            let at = blobs.join(actual.hex());
            if !at.exists() {
                std::fs::copy(&file, &at).map_err(io)?;
            }
            layers.push((actual, bytes));
        }
        let manifest = oci_manifest(folder, &config, &layers).map_err(io)?;
        let tags = entry["RepoTags"].as_array().cloned().unwrap_or_default();
        let name = tags.first().and_then(|t| t.as_str()).map(str::to_string);
        images.push(LocalImage {
            name,
            manifest,
            layout: folder.into(),
        });
    }
    if images.is_empty() {
        return Err(unusable(path, "it contains no image"));
    }
    Ok(images)
}

/// Makes an image of a program of this machine and the libraries that it needs, without a
/// network: so that a newcomer sees an app run who owns no image.
pub fn demo_image(
    program: &Path,
    command: &[String],
    into: &Path,
) -> Result<LocalImage, ImageError> {
    let io = |e: std::io::Error| unusable(program, e);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, from: &Path, mode: u32| -> std::io::Result<()> {
        let bytes = std::fs::read(from)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        tar.append_data(&mut header, path.trim_start_matches('/'), &bytes[..])
    };
    let name = program
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    add(&format!("bin/{name}"), program, 0o755).map_err(io)?;
    for library in libraries(program).map_err(io)? {
        add(&library.display().to_string(), &library, 0o755).map_err(io)?;
    }
    for folder in ["tmp/", "proc/", "sys/", "dev/", "etc/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(if folder == "tmp/" { 0o1777 } else { 0o755 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        tar.append_data(&mut header, folder, std::io::empty())
            .map_err(io)?;
    }
    let layer = tar.into_inner().map_err(io)?;
    let size = layer.len() as u64;
    let diff = put(into, &layer).map_err(io)?;
    let mut entrypoint = vec![format!("/bin/{name}")];
    entrypoint.extend_from_slice(command);
    let config = json!({
        "architecture": crate::architecture(),
        "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": ["PATH=/bin"], "ExposedPorts": { "8080/tcp": {} } },
        "rootfs": { "type": "layers", "diff_ids": [diff] },
    });
    let config = serde_json::to_vec(&config).map_err(|e| unusable(program, e))?;
    let manifest = oci_manifest(into, &config, &[(diff, size)]).map_err(io)?;
    Ok(LocalImage {
        name: Some(name),
        manifest,
        layout: into.into(),
    })
}

/// The dynamic loader's own word; nothing for a static program.
fn libraries(program: &Path) -> std::io::Result<Vec<PathBuf>> {
    let output = std::process::Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with('/'))
                .map(PathBuf::from)
        })
        .filter(|path| path.is_file())
        .collect())
}
