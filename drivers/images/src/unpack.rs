//! A layer's tar → a directory that overlayfs takes, owners shifted.
//!
//! The folder is the agent's own while it is filled, so checking a path and then using it
//! is no race. No entry is followed through a symbolic link, none leaves the folder.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use tar::EntryType;
use types::Digest;

use crate::tape::{self, Bounds};

const ENTRIES_MAX: u64 = 2_000_000;
/// Names of all folders of a layer together: they are remembered until its end.
const FOLDER_NAMES_MAX: usize = 64 << 20;
/// Overlayfs shows nothing of lower layers in a folder that has it.
pub const OPAQUE: &std::ffi::CStr = c"trusted.overlay.opaque";
const IDS: u64 = 65_536;

/// Unpacks `file` into the empty folder `into`; returns what its uncompressed bytes hash to.
pub fn unpack(
    file: std::fs::File,
    into: &Path,
    uid_base: u32,
    most: u64,
) -> std::io::Result<Digest> {
    let bounds = Bounds {
        bytes_max: most,
        entries_max: ENTRIES_MAX,
    };
    let mut folders = Vec::new();
    // A sparse file may unpack to more than the tar has.
    let mut room = most;
    let mut names = 0;
    let digest = tape::read(file, &bounds, |entry, path| {
        if entry.header().entry_type() == EntryType::Directory {
            names += path.as_os_str().len();
            if names > FOLDER_NAMES_MAX {
                return Err(std::io::Error::other("the layer has too many folders"));
            }
        }
        one(entry, &path, into, uid_base, &mut room, &mut folders)
    })?;
    // Times of folders last: filling them changes them.
    for (path, time) in folders.into_iter().rev() {
        set_time(&path, time)?;
    }
    lchown(into, Some(uid_base), Some(uid_base))?;
    std::fs::set_permissions(into, std::fs::Permissions::from_mode(0o755))?;
    Ok(digest)
}

/// `path` under `into`, its parents made; an error if it leaves it or meets a link.
fn place(into: &Path, path: &Path, uid_base: u32) -> std::io::Result<Option<PathBuf>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(std::io::Error::other("the path leaves the layer"));
            }
        }
    }
    let Some((last, parents)) = parts.split_last() else {
        return Ok(None);
    };
    let mut at = into.to_path_buf();
    for part in parents {
        at.push(part);
        match at.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(std::io::Error::other("its folder is a link or a file")),
            Err(_) => {
                std::fs::create_dir(&at)?;
                lchown(&at, Some(uid_base), Some(uid_base))?;
            }
        }
    }
    at.push(last);
    Ok(Some(at))
}

fn one<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    into: &Path,
    uid_base: u32,
    room: &mut u64,
    folders: &mut Vec<(PathBuf, i64)>,
) -> std::io::Result<()> {
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let Some(at) = place(into, path, uid_base)? else {
        return Ok(());
    };
    let name = at.file_name().map(OsStr::as_bytes).unwrap_or_default();
    if name == b".wh..wh..opq" {
        let parent = at.parent().unwrap_or(into);
        return opaque(parent);
    }
    if let Some(hidden) = name.strip_prefix(b".wh.") {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(std::io::Error::other(
                "it hides its own folder or one above",
            ));
        }
        let hidden = at.with_file_name(OsStr::from_bytes(hidden));
        // Only lower layers are hidden: what this layer itself has stays.
        return match hidden.symlink_metadata() {
            Ok(meta) if meta.is_dir() => opaque(&hidden),
            Ok(_) => Ok(()),
            Err(_) => Ok(mknod(&hidden, SFlag::S_IFCHR, Mode::empty(), 0)?),
        };
    }
    let header = entry.header();
    let (uid, gid) = (header.uid()?, header.gid()?);
    if uid >= IDS || gid >= IDS {
        return Err(std::io::Error::other("its owner is above 65535"));
    }
    let (mode, time) = (header.mode()? & 0o7777, header.mtime()? as i64);
    match kind {
        EntryType::Directory => {
            if !at.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                let hidden = at.symlink_metadata().is_ok_and(|m| is_whiteout(&m));
                clear(&at)?;
                std::fs::create_dir(&at)?;
                if hidden {
                    opaque(&at)?;
                }
            }
            folders.push((at.clone(), time));
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(&at)?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&at)?;
            let written = std::io::copy(&mut entry.take(room.saturating_add(1)), &mut file)?;
            *room = room.checked_sub(written).ok_or_else(|| {
                std::io::Error::new(
                    std::io::ErrorKind::FileTooLarge,
                    "the layer's files are too large",
                )
            })?;
        }
        EntryType::Symlink => {
            clear(&at)?;
            let target = entry
                .link_name()?
                .ok_or_else(|| std::io::Error::other("a link to nothing"))?;
            symlink(target, &at)?;
        }
        EntryType::Link => {
            clear(&at)?;
            let target = entry
                .link_name()?
                .ok_or_else(|| std::io::Error::other("a link to nothing"))?;
            let target = place(into, &target, uid_base)?
                .filter(|t| t.symlink_metadata().is_ok_and(|m| !m.is_dir()))
                .ok_or_else(|| std::io::Error::other("a hard link to what is not in the layer"))?;
            return std::fs::hard_link(target, &at);
        }
        EntryType::Fifo => {
            clear(&at)?;
            nix::unistd::mkfifo(&at, Mode::from_bits_truncate(mode))?;
        }
        // Devices are made by the engine; what else tar knows is no file.
        _ => return Ok(()),
    }
    lchown(
        &at,
        Some(uid_base + uid as u32),
        Some(uid_base + gid as u32),
    )?;
    if kind != EntryType::Symlink {
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode))?;
        set_time(&at, time)?;
    }
    Ok(())
}

fn is_whiteout(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn set_time(path: &Path, seconds: i64) -> std::io::Result<()> {
    let time = TimeSpec::new(seconds, 0);
    Ok(utimensat(
        nix::fcntl::AT_FDCWD,
        path,
        &time,
        &time,
        UtimensatFlags::NoFollowSymlink,
    )?)
}

fn clear(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// Hides what lower layers have in this folder.
fn opaque(folder: &Path) -> std::io::Result<()> {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let value = b"y";
    // SAFETY: both strings end in zero and live through the call; the value is one byte.
    let set =
        unsafe { libc::lsetxattr(path.as_ptr(), OPAQUE.as_ptr(), value.as_ptr().cast(), 1, 0) };
    if set == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, data) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(5);
            header.set_gid(6);
            header.set_mtime(7);
            let body: &[u8] = match kind {
                EntryType::Symlink | EntryType::Link => {
                    header.set_link_name(data).expect("fits");
                    &[]
                }
                _ => data.as_bytes(),
            };
            header.set_size(body.len() as u64);
            // Written raw: the builder itself would refuse a path that leaves.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, body).expect("written");
        }
        tar.into_inner().expect("written")
    }

    fn unpacked(bytes: &[u8], into: &Path) -> std::io::Result<Digest> {
        let file = into.with_extension("tar");
        std::fs::write(&file, bytes)?;
        std::fs::create_dir(into)?;
        unpack(std::fs::File::open(file)?, into, 1000, 1 << 20)
    }

    #[test]
    fn owners_are_shifted_and_whiteouts_hide() {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let dir = tempfile::tempdir().expect("a folder");
        let into = dir.path().join("a");
        let bytes = tar(&[
            ("d/f", EntryType::Regular, "text"),
            ("d/l", EntryType::Symlink, "/etc/passwd"),
            ("d/h", EntryType::Link, "d/f"),
            ("d/.wh.gone", EntryType::Regular, ""),
            ("e/.wh..wh..opq", EntryType::Regular, ""),
        ]);
        assert_eq!(
            unpacked(&bytes, &into).expect("unpacked"),
            Digest::of(&bytes)
        );
        let file = into.join("d/f").symlink_metadata().expect("there");
        assert_eq!(
            (file.uid(), file.gid(), file.mtime(), file.nlink()),
            (1005, 1006, 7, 2)
        );
        let hidden = into.join("d/gone").symlink_metadata().expect("there");
        assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
        // Cut off after the last byte of the last file, as some writers do.
        let short = tar(&[("f", EntryType::Regular, "text")]);
        let short = &short[..512 + 4];
        assert_eq!(
            unpacked(short, &dir.path().join("b")).expect("unpacked"),
            Digest::of(short)
        );
        assert!(
            unpacked(&short[..514], &dir.path().join("c")).is_err()
                || !dir.path().join("c/f").exists()
                || std::fs::read(dir.path().join("c/f")).expect("read") != b"text"
        );
    }

    #[test]
    fn nothing_leaves_the_layer() {
        let dir = tempfile::tempdir().expect("a folder");
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).expect("made");
        let target = outside.display().to_string();
        for (n, entries) in [
            vec![("../escape", EntryType::Regular, "x")],
            vec![
                ("link", EntryType::Symlink, target.as_str()),
                ("link/escape", EntryType::Regular, "x"),
            ],
            vec![("h", EntryType::Link, "../../etc/passwd")],
            // Whiteouts of the folder itself and of the one above.
            vec![(".wh...", EntryType::Regular, "")],
            vec![("d/.wh..", EntryType::Regular, "")],
            vec![("d/.wh.", EntryType::Regular, "")],
            vec![
                ("link", EntryType::Symlink, target.as_str()),
                ("h", EntryType::Link, "link/escape"),
            ],
        ]
        .into_iter()
        .enumerate()
        {
            let into = dir.path().join(n.to_string());
            assert!(unpacked(&tar(&entries), &into).is_err(), "case {n}");
        }
        assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 0);
        assert!(!dir.path().join("escape").exists());
        let bomb = tar(&[("f", EntryType::Regular, &"x".repeat(2 << 20))]);
        assert!(unpacked(&bomb, &dir.path().join("bomb")).is_err());
    }
}
