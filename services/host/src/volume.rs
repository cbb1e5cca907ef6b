//! Host-local volumes: directories owned in the containers' uid range.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use images::ReadyImage;

/// Entries copied from an image into a fresh volume, at most.
const SEED_ENTRIES_MAX: usize = 200_000;

/// Makes `path` if it is not there; a fresh volume begins with what the image has at
/// `target`, its owner and its mode, as Docker does it, or empty without one.
pub fn make(path: &Path, image: &ReadyImage, target: Option<&str>, uid_base: u32) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let parent = path.parent().context("a volume has a parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    let fresh = path.with_extension("making");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh)?;
    }
    std::fs::create_dir(&fresh).with_context(|| format!("make {}", fresh.display()))?;
    chown(&fresh, Some(uid_base), Some(uid_base))?;
    let mut left = SEED_ENTRIES_MAX;
    // Bottom layer first, so that upper ones win.
    for layer in image.layers.iter().rev() {
        if let Some(source) = target.and_then(|target| inside(layer, target))
            && source.is_dir()
        {
            copy(&source, &fresh, &mut left)
                .with_context(|| format!("fill volume {}", path.display()))?;
        }
    }
    std::fs::rename(&fresh, path).with_context(|| format!("make {}", path.display()))
}

/// What `image` has at `path`: where it lies, or a copy at `copy`, which is made once.
///
/// `owner`: it may be written to, so it is a copy, and theirs.
/// Errors: the image has nothing there, or only behind a symbolic link.
pub fn content(
    copy: &Path,
    image: &ReadyImage,
    path: &str,
    owner: Option<(u32, u32)>,
    uid_base: u32,
) -> Result<PathBuf> {
    let mut found = image.layers.iter().filter_map(|l| inside(l, path));
    let top = found
        .next()
        .with_context(|| format!("the image has nothing at /{path}"))?;
    if owner.is_none() && (image.layers.len() == 1 || top.is_file()) {
        return Ok(top);
    }
    if copy.exists() {
        return Ok(copy.to_path_buf());
    }
    let fresh = copy.with_extension("copying");
    remove(&fresh)?;
    if top.is_dir() {
        make(&fresh, image, Some(path), uid_base)?;
    } else {
        let parent = copy.parent().context("a copy has a parent")?;
        std::fs::create_dir_all(parent)?;
        std::fs::copy(&top, &fresh)?;
    }
    if let Some(owner) = owner {
        give(&fresh, owner)?;
    }
    std::fs::rename(&fresh, copy).with_context(|| format!("make {}", copy.display()))?;
    Ok(copy.to_path_buf())
}

/// Makes a file, or a folder and all in it, somebody's own to write to.
fn give(path: &Path, owner: (u32, u32)) -> Result<()> {
    let meta = path.symlink_metadata()?;
    lchown(path, Some(owner.0), Some(owner.1))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = std::fs::Permissions::from_mode((meta.mode() & 0o7777) | 0o600);
    std::fs::set_permissions(path, mode)?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

/// `target` under `layer`, if it is there and no symbolic link lies on the way.
fn inside(layer: &Path, target: &str) -> Option<PathBuf> {
    let mut at = layer.to_path_buf();
    for part in target.split('/').filter(|p| !p.is_empty()) {
        if part == ".." {
            return None;
        }
        at.push(part);
        if at.symlink_metadata().ok()?.file_type().is_symlink() {
            return None;
        }
    }
    Some(at)
}

fn copy(from: &Path, to: &Path, left: &mut usize) -> Result<()> {
    let own = from.symlink_metadata()?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(own.mode() & 0o7777))?;
    chown(to, Some(own.uid()), Some(own.gid()))?;
    for entry in std::fs::read_dir(from)? {
        if *left == 0 {
            bail!("the image has more than {SEED_ENTRIES_MAX} files there");
        }
        *left -= 1;
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = source.symlink_metadata()?;
        let kind = meta.file_type();
        if kind.is_dir() {
            if !target.is_dir() {
                remove(&target)?;
                std::fs::create_dir(&target)?;
            }
            copy(&source, &target, left)?;
        } else if kind.is_symlink() {
            remove(&target)?;
            symlink(std::fs::read_link(&source)?, &target)?;
            lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        } else if kind.is_file() {
            remove(&target)?;
            std::fs::copy(&source, &target)?;
            chown(&target, Some(meta.uid()), Some(meta.gid()))?;
            std::fs::set_permissions(
                &target,
                std::fs::Permissions::from_mode(meta.mode() & 0o7777),
            )?;
        } else if meta.rdev() == 0 {
            // A whiteout: an upper layer took it away.
            remove(&target)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// Removes a directory tree if it is there.
pub fn delete(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_volume_begins_with_the_image_and_is_then_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let (low, high) = (dir.path().join("low"), dir.path().join("high"));
        std::fs::create_dir_all(low.join("data/sub")).expect("made");
        std::fs::write(low.join("data/sub/a"), "low").expect("written");
        std::fs::create_dir_all(high.join("data/sub")).expect("made");
        std::fs::write(high.join("data/sub/a"), "high").expect("written");
        let image = ReadyImage {
            manifest: types::Digest::default(),
            config: images::ImageConfig::default(),
            layers: vec![high, low],
        };
        let me = nix::unistd::getuid().as_raw();
        let volume = dir.path().join("v/one");
        make(&volume, &image, Some("/data"), me).expect("made");
        let read = || std::fs::read_to_string(volume.join("sub/a")).expect("there");
        assert_eq!(read(), "high");
        std::fs::write(volume.join("sub/a"), "mine").expect("written");
        make(&volume, &image, Some("/data"), me).expect("already there");
        assert_eq!(read(), "mine");
        assert!(inside(dir.path(), "/../etc").is_none());
    }

    #[test]
    fn content_lies_where_it_is_or_is_copied_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let layer = dir.path().join("layer");
        std::fs::create_dir_all(layer.join("content/sub")).expect("made");
        std::fs::write(layer.join("content/sub/a"), "first").expect("written");
        std::fs::write(layer.join("one"), "file").expect("written");
        symlink("/etc", layer.join("out")).expect("linked");
        let image = ReadyImage {
            manifest: types::Digest::default(),
            config: images::ImageConfig::default(),
            layers: vec![layer.clone()],
        };
        let copy = dir.path().join("upper/copy-0");
        let get = |path: &str, owner| content(&copy, &image, path, owner, 5_000);
        assert_eq!(get("content", None).expect("there"), layer.join("content"));
        assert_eq!(get("one", None).expect("there"), layer.join("one"));
        assert!(get("none", None).is_err() && get("out/passwd", None).is_err());
        assert!(get("out", None).is_err() && get("../layer", None).is_err());
        assert!(!copy.exists());
        let owner = Some((5_007, 5_008));
        assert_eq!(get("content", owner).expect("copied"), copy);
        let meta = copy.join("sub/a").metadata().expect("there");
        assert_eq!((meta.uid(), meta.gid()), (5_007, 5_008));
        std::fs::write(copy.join("sub/a"), "mine").expect("written");
        get("content", owner).expect("still there");
        assert_eq!(
            std::fs::read_to_string(copy.join("sub/a")).expect("read"),
            "mine"
        );
        let file = dir.path().join("upper/copy-1");
        content(&file, &image, "one", owner, 5_000).expect("copied");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "file");
        assert_eq!(
            std::fs::read_to_string(layer.join("one")).expect("read"),
            "file"
        );
    }
}
