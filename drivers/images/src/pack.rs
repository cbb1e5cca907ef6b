//! Files of a project as an image: one layer, with a file or a folder in it.
//!
//! What is packed is told by its content alone: paths, kinds, rights, bytes, links. Times go
//! along, for programs that serve them, but make no difference: who packs the same content a
//! second time finds the first image by [`Pack::content`].

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use types::Digest;

use crate::archive::{oci_manifest, put, unusable};
use crate::{ImageError, LocalImage};

pub const PACK_BYTES_MAX: u64 = 64 << 20;
pub const PACK_ENTRIES_MAX: usize = 20_000;
/// Of a folder that an image is built from.
pub const CONTEXT_BYTES_MAX: u64 = 256 << 20;
pub const CONTEXT_ENTRIES_MAX: usize = 100_000;

/// What may be packed at once.
#[derive(Clone, Copy)]
struct Bounds {
    bytes: u64,
    entries: usize,
    /// What is packed, and what to do when it is too much.
    what: &'static str,
    next: &'static str,
}

const MOUNTED: Bounds = Bounds {
    bytes: PACK_BYTES_MAX,
    entries: PACK_ENTRIES_MAX,
    what: "what is mounted with it",
    next: "put it into the image or a volume, or mount a smaller folder",
};

const BUILT: Bounds = Bounds {
    bytes: CONTEXT_BYTES_MAX,
    entries: CONTEXT_ENTRIES_MAX,
    what: "the build context",
    next: "name in .dockerignore what the build does not need",
};

/// Owner and rights of a file that is packed; else root's, and readable by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOwner {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// A layer, not written anywhere yet.
pub struct Pack {
    /// Of the content, whatever its times.
    pub content: Digest,
    layer: Vec<u8>,
}

struct Packer {
    bounds: Bounds,
    tar: tar::Builder<Vec<u8>>,
    hasher: Sha256,
    bytes: u64,
    entries: usize,
}

/// Packs the file or folder at `path` under `name`. Symbolic links in it stay links.
///
/// Errors: it is larger than [`PACK_BYTES_MAX`], has more entries than [`PACK_ENTRIES_MAX`],
/// or holds what is neither file, folder nor link.
pub fn pack(path: &Path, name: &str, owner: Option<PackOwner>) -> Result<Pack, ImageError> {
    let mut packer = Packer::new(MOUNTED);
    packer.top(path, name, owner)?;
    packer.end(path)
}

/// What of a build context is left out.
pub trait Ignored {
    /// `path`: below the context, with slashes.
    fn is_ignored(&self, path: &str) -> bool;
    /// Whether something in an ignored folder may be wanted all the same.
    fn may_return(&self) -> bool;
}

/// Packs the folder at `path`, less what is ignored, under `name`. Symbolic links stay links;
/// what is neither file, folder nor link is left out.
///
/// Errors: it is larger than [`CONTEXT_BYTES_MAX`] or has more entries than
/// [`CONTEXT_ENTRIES_MAX`].
pub fn pack_context(path: &Path, name: &str, ignored: &dyn Ignored) -> Result<Pack, ImageError> {
    let path = path.canonicalize().map_err(|e| unusable(path, e))?;
    let mut packer = Packer::new(BUILT);
    let mut left = BUILT.entries;
    packer.entry(&path, name, None)?;
    packer.context(&path, name, "", ignored, false, &mut left)?;
    packer.end(&path)
}

/// Packs a file of these bytes under `name`.
pub fn pack_text(text: &[u8], name: &str, owner: Option<PackOwner>) -> Result<Pack, ImageError> {
    let mut packer = Packer::new(MOUNTED);
    let at = Path::new(name);
    packer.file(at, name, text, owner.unwrap_or(own(0o644)), 0)?;
    packer.end(at)
}

fn own(mode: u32) -> PackOwner {
    PackOwner {
        uid: 0,
        gid: 0,
        mode,
    }
}

impl Packer {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            tar: tar::Builder::new(Vec::new()),
            hasher: Sha256::new(),
            bytes: 0,
            entries: 0,
        }
    }

    /// What is in `folder`, which is `below` the context. In an ignored one folders are made
    /// only when something in them is taken.
    fn context(
        &mut self,
        folder: &Path,
        name: &str,
        below: &str,
        ignored: &dyn Ignored,
        mut absent: bool,
        left: &mut usize,
    ) -> Result<bool, ImageError> {
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|e| unusable(folder, e))? {
            inside.push(entry.map_err(|e| unusable(folder, e))?.path());
            *left = left.checked_sub(1).ok_or_else(|| self.too_many(folder))?;
        }
        inside.sort();
        let mut taken = false;
        for path in inside {
            let Some(last) = path.file_name().and_then(|n| n.to_str()) else {
                return Err(unusable(&path, "its name is not UTF-8; rename it"));
            };
            let below = match below {
                "" => last.to_string(),
                below => format!("{below}/{last}"),
            };
            let meta = path.symlink_metadata().map_err(|e| unusable(&path, e))?;
            let out = ignored.is_ignored(&below);
            let plain = meta.is_dir() || meta.is_file() || meta.is_symlink();
            if !plain || (out && !(meta.is_dir() && ignored.may_return())) {
                continue;
            }
            let at = format!("{name}/{below}");
            if meta.is_dir() && out {
                if self.context(&path, name, &below, ignored, true, left)? {
                    taken = true;
                }
                continue;
            }
            if absent {
                let (parent, _) = at.rsplit_once('/').unwrap_or_default();
                self.entry(folder, parent, None)?;
                absent = false;
            }
            taken = true;
            self.entry(&path, &at, None)?;
            if meta.is_dir() {
                self.context(&path, name, &below, ignored, false, left)?;
            }
        }
        Ok(taken)
    }

    fn too_many(&self, path: &Path) -> ImageError {
        let Bounds {
            entries,
            what,
            next,
            ..
        } = self.bounds;
        unusable(
            path,
            format!("{what} has more than {entries} files; {next}"),
        )
    }

    fn too_large(&self, path: &Path) -> ImageError {
        let Bounds {
            bytes, what, next, ..
        } = self.bounds;
        let most = bytes >> 20;
        unusable(path, format!("{what} is larger than {most} MiB; {next}"))
    }

    fn top(&mut self, path: &Path, name: &str, owner: Option<PackOwner>) -> Result<(), ImageError> {
        let io = |e: std::io::Error| unusable(path, e);
        // The one link that is followed is the path that was named.
        let path = path.canonicalize().map_err(io)?;
        if !path.is_dir() {
            return self.entry(&path, name, owner);
        }
        let mut waiting = vec![(path, PathBuf::from(name))];
        while let Some((folder, at)) = waiting.pop() {
            self.entry(&folder, &at.to_string_lossy(), None)?;
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(&folder).map_err(|e| unusable(&folder, e))? {
                inside.push(entry.map_err(|e| unusable(&folder, e))?.path());
                self.bounded(&folder, inside.len())?;
            }
            inside.sort();
            let mut folders = Vec::new();
            for path in inside {
                let name = path.file_name().unwrap_or_default();
                let Some(name) = name.to_str() else {
                    return Err(unusable(&path, "its name is not UTF-8; rename it"));
                };
                let at = at.join(name);
                let meta = path.symlink_metadata().map_err(|e| unusable(&path, e))?;
                match meta.is_dir() {
                    true => folders.push((path, at)),
                    false => self.entry(&path, &at.to_string_lossy(), None)?,
                }
            }
            waiting.extend(folders.into_iter().rev());
        }
        Ok(())
    }

    fn bounded(&self, path: &Path, more: usize) -> Result<(), ImageError> {
        match self.entries + more > self.bounds.entries {
            true => Err(self.too_many(path)),
            false => Ok(()),
        }
    }

    fn entry(
        &mut self,
        path: &Path,
        name: &str,
        owner: Option<PackOwner>,
    ) -> Result<(), ImageError> {
        let io = |e: std::io::Error| unusable(path, e);
        self.bounded(path, 1)?;
        let meta = path.symlink_metadata().map_err(io)?;
        let time = u64::try_from(meta.mtime()).unwrap_or_default();
        // Everyone may read, and nobody else may write: owners do not go along.
        let mode = (meta.mode() & 0o755) | 0o444;
        if meta.is_dir() {
            let mode = mode | 0o111;
            self.say(b"folder", name, own(mode), &[]);
            let mut header = header(tar::EntryType::Directory, own(mode), time, 0);
            return self
                .tar
                .append_data(&mut header, name, std::io::empty())
                .map_err(io);
        }
        if meta.is_symlink() {
            let target = std::fs::read_link(path).map_err(io)?;
            self.say(
                b"link",
                name,
                own(0o777),
                target.as_os_str().as_encoded_bytes(),
            );
            let mut header = header(tar::EntryType::Symlink, own(0o777), time, 0);
            return self.tar.append_link(&mut header, name, target).map_err(io);
        }
        if !meta.is_file() {
            return Err(unusable(
                path,
                "it is neither a file, a folder nor a link; mount a folder without it",
            ));
        }
        if self.bytes.saturating_add(meta.len()) > self.bounds.bytes {
            return Err(self.too_large(path));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        // It may grow meanwhile.
        let most = self.bounds.bytes - self.bytes + 1;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut bytes).map_err(io)?;
        self.file(path, name, &bytes, owner.unwrap_or(own(mode)), time)
    }

    fn file(
        &mut self,
        path: &Path,
        name: &str,
        bytes: &[u8],
        owner: PackOwner,
        time: u64,
    ) -> Result<(), ImageError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bounds.bytes {
            return Err(self.too_large(path));
        }
        self.say(b"file", name, owner, bytes);
        let mut header = header(tar::EntryType::Regular, owner, time, bytes.len() as u64);
        self.tar
            .append_data(&mut header, name, bytes)
            .map_err(|e| unusable(path, e))
    }

    fn say(&mut self, kind: &[u8], name: &str, owner: PackOwner, bytes: &[u8]) {
        self.entries += 1;
        for part in [kind, name.as_bytes(), bytes] {
            self.hasher.update((part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
        for number in [owner.uid, owner.gid, owner.mode] {
            self.hasher.update(number.to_le_bytes());
        }
    }

    fn end(self, path: &Path) -> Result<Pack, ImageError> {
        Ok(Pack {
            content: Digest(self.hasher.finalize().into()),
            layer: self.tar.into_inner().map_err(|e| unusable(path, e))?,
        })
    }
}

fn header(kind: tar::EntryType, owner: PackOwner, time: u64, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(owner.mode);
    header.set_uid(owner.uid.into());
    header.set_gid(owner.gid.into());
    header.set_mtime(time);
    header.set_size(size);
    header
}

impl Pack {
    /// Writes the image into a folder, as an OCI layout; it runs on every architecture.
    pub fn write(self, into: &Path) -> Result<LocalImage, ImageError> {
        let io = |e: std::io::Error| unusable(into, e);
        let size = self.layer.len() as u64;
        let diff = put(into, &self.layer).map_err(io)?;
        let config = json!({
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [diff] },
        });
        let config = serde_json::to_vec(&config).map_err(|e| unusable(into, e))?;
        let manifest = oci_manifest(into, &config, &[(diff, size)]).map_err(io)?;
        Ok(LocalImage {
            names: Vec::new(),
            manifest,
            layout: into.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn content_tells_what_is_packed_and_times_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("conf");
        std::fs::create_dir_all(at.join("sub/empty")).expect("made");
        std::fs::write(at.join("sub/a"), "text").expect("written");
        symlink("sub/a", at.join("link")).expect("linked");
        let rights = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(at.join("sub/a"), rights(0o600)).expect("set");
        let content = || pack(&at, "content", None).expect("packed").content;
        let first = content();
        let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(7);
        let file = std::fs::File::options().write(true).open(at.join("sub/a"));
        file.expect("there").set_modified(past).expect("set");
        assert_eq!(content(), first);
        let image = pack(&at, "content", None).expect("packed");
        let layout = folder.path().join("layout");
        let image = image.write(&layout).expect("written");
        let manifest = std::fs::read(image.blob(&image.manifest)).expect("there");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("json");
        let layer = manifest["layers"][0]["digest"].as_str().expect("named");
        let layer = crate::reference::digest(layer).expect("a digest");
        let into = folder.path().join("unpacked");
        std::fs::create_dir(&into).expect("made");
        let tar = std::fs::File::open(image.blob(&layer)).expect("there");
        crate::unpack::unpack(tar, &into, 1_000, 1 << 20).expect("unpacked");
        let file = into.join("content/sub/a");
        let meta = file.metadata().expect("there");
        assert_eq!(
            (meta.mode() & 0o777, meta.uid(), meta.mtime()),
            (0o644, 1_000, 7)
        );
        assert!(into.join("content/sub/empty").is_dir());
        assert_eq!(
            std::fs::read_link(into.join("content/link")).expect("a link"),
            Path::new("sub/a")
        );

        std::fs::set_permissions(at.join("sub/a"), rights(0o700)).expect("set");
        assert_ne!(content(), first);
        std::fs::set_permissions(at.join("sub/a"), rights(0o600)).expect("set");
        std::fs::write(at.join("sub/a"), "texT").expect("written");
        assert_ne!(content(), first);
        let owner = |uid| {
            let owner = PackOwner {
                uid,
                gid: 0,
                mode: 0o400,
            };
            pack_text(b"a", "content", Some(owner))
                .expect("packed")
                .content
        };
        assert_ne!(owner(1), owner(2));
    }

    #[test]
    fn what_is_too_large_or_no_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = folder.path().join("large");
        let file = std::fs::File::create(&large).expect("made");
        file.set_len(PACK_BYTES_MAX + 1).expect("set");
        let error = pack(&large, "content", None)
            .map(|_| ())
            .expect_err("too large");
        assert!(error.to_string().contains("64 MiB"), "{error}");
        std::fs::remove_file(&large).expect("removed");
        let _socket = std::os::unix::net::UnixListener::bind(&large).expect("made");
        let error = pack(folder.path(), "content", None)
            .map(|_| ())
            .expect_err("a socket");
        assert!(error.to_string().contains("neither a file"), "{error}");
    }

    struct Patterns(&'static [&'static str], &'static [&'static str]);

    impl Ignored for Patterns {
        fn is_ignored(&self, path: &str) -> bool {
            let begins = |p: &&str| path == *p || path.starts_with(&format!("{p}/"));
            self.0.iter().any(begins) && !self.1.contains(&path)
        }

        fn may_return(&self) -> bool {
            !self.1.is_empty()
        }
    }

    #[test]
    fn a_context_is_without_what_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("app");
        std::fs::create_dir_all(at.join("deps/deep/er")).expect("made");
        std::fs::create_dir_all(at.join("none/at/all")).expect("made");
        std::fs::create_dir_all(at.join("src")).expect("made");
        for file in ["deps/a", "deps/deep/er/keep", "src/main", "none/at/all/x"] {
            std::fs::write(at.join(file), file).expect("written");
        }
        symlink("/etc/passwd", at.join("src/out")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).expect("made");
        let names = |ignored: &Patterns| -> Vec<String> {
            let pack = pack_context(&at, "content", ignored).expect("packed");
            let mut archive = tar::Archive::new(&pack.layer[..]);
            let entries = archive.entries().expect("a tar");
            let name = |e: std::io::Result<tar::Entry<'_, _>>| {
                let entry = e.expect("an entry");
                let path = entry.path().expect("a path");
                path.to_string_lossy().trim_end_matches('/').to_string()
            };
            entries.map(name).collect()
        };
        let all = [
            "content",
            "content/src",
            "content/src/main",
            "content/src/out",
        ];
        assert_eq!(names(&Patterns(&["deps", "none"], &[])), all);
        let kept = names(&Patterns(&["deps", "none"], &["deps/deep/er/keep"]));
        let expected = [
            "content",
            "content/deps/deep/er",
            "content/deps/deep/er/keep",
            "content/src",
            "content/src/main",
            "content/src/out",
        ];
        assert_eq!(kept, expected);
    }
}
