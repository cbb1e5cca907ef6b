//! Know an unpacked layer again, and notice if it has changed.
//!
//! Two digests are recorded when a layer is unpacked. `content` covers every byte, name, owner
//! and mode; `seen` covers what one `lstat` per file tells, with inode and change time, which
//! no writer can set back. Before each start `seen` is compared (some 5 µs a file); if it
//! differs, and once in each run of the agent, `content` is read in full (some 0.7 GB/s, or as
//! fast as the disk). So a write to a layer is noticed at the next start, a byte that the disk
//! lost by itself at the first start after the agent's; a layer that was copied with its folder
//! is not fetched again.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use types::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub content: Digest,
    pub seen: Digest,
    pub bytes: u64,
    pub files: u64,
}

struct Survey {
    seen: Sha256,
    content: Option<Sha256>,
    bytes: u64,
    files: u64,
}

/// Reads the whole of a layer.
pub fn record(folder: &Path) -> std::io::Result<Tree> {
    let survey = survey(folder, true)?;
    Ok(Tree {
        content: survey.content.map(finished).unwrap_or_default(),
        seen: finished(survey.seen),
        bytes: survey.bytes,
        files: survey.files,
    })
}

/// Looks at each file of a layer without reading it.
pub fn seen(folder: &Path) -> std::io::Result<Digest> {
    Ok(finished(survey(folder, false)?.seen))
}

fn finished(hasher: Sha256) -> Digest {
    Digest(hasher.finalize().into())
}

fn survey(folder: &Path, content: bool) -> std::io::Result<Survey> {
    let mut survey = Survey {
        seen: Sha256::new(),
        content: content.then(Sha256::new),
        bytes: 0,
        files: 0,
    };
    let mut waiting = vec![PathBuf::new()];
    while let Some(at) = waiting.pop() {
        let path = folder.join(&at);
        let meta = path.symlink_metadata()?;
        survey.add(&path, &at, &meta)?;
        if meta.is_dir() {
            let mut names = std::fs::read_dir(&path)?
                .map(|entry| entry.map(|e| e.file_name()))
                .collect::<std::io::Result<Vec<_>>>()?;
            names.sort_unstable();
            // The last is looked at first; the order is the same each time.
            waiting.extend(names.into_iter().map(|name| at.join(name)));
        }
    }
    Ok(survey)
}

impl Survey {
    fn add(&mut self, path: &Path, at: &Path, meta: &Metadata) -> std::io::Result<()> {
        let kind = meta.file_type();
        let name = at.as_os_str().as_bytes();
        // A folder's size and links depend on the file system's mood.
        let size = if kind.is_dir() { 0 } else { meta.size() };
        let lasting = [
            name.len() as u64,
            u64::from(meta.mode()),
            u64::from(meta.uid()),
            u64::from(meta.gid()),
            meta.rdev(),
            size,
            meta.mtime() as u64,
        ];
        // A rename changes the change time of what is renamed, and of nothing in it.
        let changed = match name.is_empty() {
            true => [0; 3],
            false => [meta.ino(), meta.ctime() as u64, meta.ctime_nsec() as u64],
        };
        for number in lasting.iter().chain(&changed) {
            self.seen.update(number.to_le_bytes());
        }
        self.seen.update(name);
        self.files += 1;
        self.bytes += size;
        let Some(content) = &mut self.content else {
            return Ok(());
        };
        for number in lasting {
            content.update(number.to_le_bytes());
        }
        content.update(name);
        if kind.is_symlink() {
            content.update(std::fs::read_link(path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            let mut file = File::open(path)?.take(size);
            let read = std::io::copy(&mut file, content)?;
            content.update(read.to_le_bytes());
        } else if kind.is_dir() {
            content.update([u8::from(is_opaque(path)?)]);
        } else if kind.is_char_device() || kind.is_fifo() {
            // Their mode and number are all there is to them.
        }
        Ok(())
    }
}

fn is_opaque(path: &Path) -> std::io::Result<bool> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut value = [0u8; 4];
    // SAFETY: both strings end in zero and live through the call; the buffer is as long as said.
    let length = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            crate::unpack::OPAQUE.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    Ok(length == 1 && value[0] == b'y')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_noticed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let layer = dir.path().join("layer");
        std::fs::create_dir_all(layer.join("d")).expect("made");
        std::fs::write(layer.join("d/f"), b"content").expect("written");
        std::os::unix::fs::symlink("f", layer.join("d/l")).expect("linked");
        let before = record(&layer).expect("read");
        assert_eq!((before.files, before.bytes), (4, 7 + 1));
        assert_eq!(record(&layer).expect("read"), before);
        // Under another name it is the same.
        let moved = dir.path().join("moved");
        std::fs::rename(&layer, &moved).expect("moved");
        assert_eq!(record(&moved).expect("read"), before);
        std::fs::rename(&moved, &layer).expect("moved");
        let time = std::fs::metadata(layer.join("d/f"))
            .and_then(|m| m.modified())
            .expect("a time");

        // A byte flipped with its time set back: one look is enough.
        std::fs::write(layer.join("d/f"), b"cOntent").expect("written");
        let file = File::options()
            .write(true)
            .open(layer.join("d/f"))
            .expect("open");
        file.set_modified(time).expect("set");
        assert_ne!(seen(&layer).expect("looked"), before.seen);
        assert_ne!(record(&layer).expect("read").content, before.content);
        // Written back: looks different, is the same.
        std::fs::write(layer.join("d/f"), b"content").expect("written");
        file.set_modified(time).expect("set");
        let back = record(&layer).expect("read");
        assert_eq!(back.content, before.content);
        assert_ne!(back.seen, before.seen);

        let changes: [(&str, fn(&Path)); 4] = [
            ("mode", |layer| {
                let mode = std::fs::Permissions::from_mode(0o4755);
                std::fs::set_permissions(layer.join("d/f"), mode).expect("set");
            }),
            ("link", |layer| {
                std::fs::remove_file(layer.join("d/l")).expect("gone");
                std::os::unix::fs::symlink("/", layer.join("d/l")).expect("linked");
            }),
            ("more", |layer| {
                std::fs::write(layer.join("d/g"), b"").expect("written");
            }),
            ("less", |layer| {
                std::fs::remove_file(layer.join("d/f")).expect("gone");
            }),
        ];
        let mut last = back;
        for (what, change) in changes {
            change(&layer);
            let now = record(&layer).expect("read");
            assert_ne!(now.content, last.content, "{what}");
            assert_ne!(now.seen, last.seen, "{what}");
            last = now;
        }
    }
}
