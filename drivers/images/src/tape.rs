//! Read a tar that a stranger made: bounded in bytes, in entries, and in what its headers say.
//!
//! The tar library reads long names and PAX records into memory before it shows an entry; so
//! while it looks for the next one, the reader below it gives out only so much.

use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::rc::Rc;

use sha2::{Digest as _, Sha256};
use tar::Entry;
use types::Digest;

/// Headers of one entry: long names, PAX records, the map of a sparse file.
const HEADERS_MAX: u64 = 1 << 20;
/// Linux opens 4096, with the folder before it.
const PATH_MAX: usize = 3_000;

/// Decompresses, hashes and counts what it reads.
pub struct Tape {
    inner: Box<dyn Read>,
    hasher: Sha256,
    /// Left of the whole.
    room: u64,
    /// Left of what may be read now.
    allowed: Rc<Cell<u64>>,
    /// Zeros still given after the end: some writers leave the last file's padding and the
    /// end mark away, which other readers forgive.
    padding: usize,
}

impl Read for Tape {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 {
            let zeros = self.padding.min(buffer.len());
            buffer[..zeros].fill(0);
            self.padding -= zeros;
            return Ok(zeros);
        }
        self.hasher.update(&buffer[..read]);
        let less = |left: u64| left.checked_sub(read as u64);
        self.room = less(self.room).ok_or_else(|| {
            std::io::Error::new(ErrorKind::FileTooLarge, "it unpacks to more than it may")
        })?;
        let allowed = less(self.allowed.get())
            .ok_or_else(|| std::io::Error::other("the headers of a file are larger than 1 MiB"))?;
        self.allowed.set(allowed);
        Ok(read)
    }
}

fn decompressed(file: std::fs::File) -> std::io::Result<Box<dyn Read>> {
    let mut file = std::io::BufReader::with_capacity(1 << 17, file);
    let magic = std::io::BufRead::fill_buf(&mut file)?;
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(file)?),
        _ => Box::new(file),
    })
}

/// What may be in a tar.
pub struct Bounds {
    /// Uncompressed.
    pub bytes_max: u64,
    pub entries_max: u64,
}

/// Shows each entry of `file` (also gzipped, or with zstd) with its path; returns what its
/// uncompressed bytes hash to.
///
/// Errors: what `each` says, with the path before it; a tar beyond `bounds` (`FileTooLarge` if
/// in bytes); no tar at all.
pub fn read(
    file: std::fs::File,
    bounds: &Bounds,
    mut each: impl FnMut(&mut Entry<'_, Tape>, PathBuf) -> std::io::Result<()>,
) -> std::io::Result<Digest> {
    let allowed = Rc::new(Cell::new(u64::MAX));
    let tape = Tape {
        inner: decompressed(file)?,
        hasher: Sha256::new(),
        room: bounds.bytes_max,
        allowed: allowed.clone(),
        padding: 3 * 512,
    };
    let mut archive = tar::Archive::new(tape);
    let mut entries = archive.entries()?;
    let mut count = 0;
    loop {
        allowed.set(HEADERS_MAX);
        let Some(entry) = entries.next() else { break };
        allowed.set(u64::MAX);
        let mut entry = entry?;
        count += 1;
        if count > bounds.entries_max {
            let most = bounds.entries_max;
            return Err(std::io::Error::other(format!(
                "it has more than {most} files"
            )));
        }
        let path = entry.path()?.into_owned();
        if path.as_os_str().len() > PATH_MAX
            || entry.link_name_bytes().is_some_and(|l| l.len() > PATH_MAX)
        {
            return Err(std::io::Error::other(
                "a path in it is longer than 3000 bytes",
            ));
        }
        let shown: String = path.display().to_string().chars().take(200).collect();
        each(&mut entry, path)
            .map_err(|e| std::io::Error::new(e.kind(), format!("{shown}: {e}")))?;
        // Else the rest of it would be read as if it were headers.
        std::io::copy(&mut entry, &mut std::io::sink())?;
    }
    allowed.set(u64::MAX);
    let mut tape = archive.into_inner();
    std::io::copy(&mut tape, &mut std::io::sink())?;
    Ok(Digest(tape.hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], bounds: &Bounds) -> std::io::Result<Vec<PathBuf>> {
        let mut file = tempfile::tempfile()?;
        std::io::Write::write_all(&mut file, bytes)?;
        std::io::Seek::rewind(&mut file)?;
        let mut paths = Vec::new();
        read(file, bounds, |_, path| {
            paths.push(path);
            Ok(())
        })?;
        Ok(paths)
    }

    fn header(kind: tar::EntryType, name: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    #[test]
    fn headers_entries_and_bytes_are_bounded() {
        let bounds = Bounds {
            bytes_max: 64 << 20,
            entries_max: 3,
        };
        for kind in [
            tar::EntryType::GNULongName,
            tar::EntryType::GNULongLink,
            tar::EntryType::XHeader,
        ] {
            let mut tar = tar::Builder::new(Vec::new());
            let long = vec![b'a'; 8 << 20];
            tar.append(&header(kind, "long", long.len() as u64), &long[..])
                .expect("written");
            tar.append(&header(tar::EntryType::Regular, "f", 1), &b"x"[..])
                .expect("written");
            let bytes = tar.into_inner().expect("written");
            let error = read_all(&bytes, &bounds).expect_err("refused");
            assert!(error.to_string().contains("1 MiB"), "{kind:?}: {error}");
        }
        let files = |count: usize, size: usize| {
            let mut tar = tar::Builder::new(Vec::new());
            let body = vec![0; size];
            for n in 0..count {
                let header = header(tar::EntryType::Regular, &n.to_string(), size as u64);
                tar.append(&header, &body[..]).expect("written");
            }
            tar.into_inner().expect("written")
        };
        // Bodies are no headers, read or not.
        assert_eq!(
            read_all(&files(3, 4 << 20), &bounds).expect("read").len(),
            3
        );
        let many = read_all(&files(4, 1), &bounds).expect_err("too many");
        assert!(many.to_string().contains("more than 3 files"), "{many}");
        let large = read_all(&files(2, 40 << 20), &bounds).expect_err("too large");
        assert!(large.to_string().contains("more than it may"), "{large}");
    }
}
