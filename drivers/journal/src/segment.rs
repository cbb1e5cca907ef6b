//! A file of blocks: where each is, found by reading their heads or from the index at its end.
//!
//! ```text
//! block … block │ entry … entry │ count u32 │ crc u32 │ "rrseg1\n\0"
//! ```
//!
//! An entry is a block's offset and length and what its head says of lines and time. A segment
//! without an index that holds is read block by block: what is whole of it is shown.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Line;
use crate::block::{self, Head, Numbers, Position};

const MARK: &[u8; 8] = b"rrseg1\n\0";
const ENTRY: usize = 8 + 4 + 8 + 4 + 8 + 8;
const FOOT: u64 = 4 + 4 + 8;
/// Longer files are none of ours.
pub const FILE_MAX: u64 = 64 << 20;

/// Where a block is and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub length: u32,
    pub first: u64,
    pub count: u32,
    pub oldest_ms: u64,
    pub newest_ms: u64,
}

impl Place {
    pub fn of(offset: u64, length: usize, head: &Head) -> Self {
        Self {
            offset,
            length: length as u32,
            first: head.first,
            count: head.count,
            oldest_ms: head.oldest_ms,
            newest_ms: head.newest_ms,
        }
    }

    pub fn next(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// A file that will not change.
#[derive(Clone, Debug)]
pub struct Segment {
    pub path: PathBuf,
    pub bytes: u64,
    pub places: Vec<Place>,
    /// Where the writer stood at its end.
    pub position: Position,
}

/// The blocks at the front of `bytes`, up to the first that does not hold.
pub fn scan(bytes: &[u8]) -> Vec<(Place, Head)> {
    let mut all = Vec::new();
    let mut offset = 0;
    while let Some((head, _, length)) = block::read(&bytes[offset..]) {
        all.push((Place::of(offset as u64, length, &head), head));
        offset += length;
    }
    all
}

pub fn read_whole(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines at `place`; `None` if the file is gone or the block does not hold.
pub fn lines_at(path: &Path, place: &Place) -> Option<Vec<Line>> {
    let file = File::open(path).ok()?;
    let mut bytes = vec![0; place.length as usize];
    file.read_exact_at(&mut bytes, place.offset).ok()?;
    let (head, body, _) = block::read(&bytes)?;
    (head.first == place.first && head.count == place.count).then_some(())?;
    block::lines(&head, body)
}

impl Segment {
    pub fn first(&self) -> u64 {
        self.places.first().map_or(0, |p| p.first)
    }

    pub fn next(&self) -> u64 {
        self.places.last().map_or(0, Place::next)
    }

    pub fn newest_ms(&self) -> u64 {
        self.places.iter().map(|p| p.newest_ms).max().unwrap_or(0)
    }

    /// Writes `lines`, numbered from `first`, compressed. The file is there whole or not at all.
    pub fn write(
        path: &Path,
        first: u64,
        lines: &[Line],
        position: Position,
    ) -> std::io::Result<Self> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let (mut from, mut size) = (0, 0);
        for at in 0..lines.len() {
            size += lines[at].text.len() + 13;
            let last = at + 1 == lines.len();
            if size >= block::BODY_MAX || last {
                let offset = bytes.len();
                let part = &lines[from..=at];
                let number = first + from as u64;
                let head = block::write(&mut bytes, number, part, position, last, true)?;
                places.push(Place::of(offset as u64, bytes.len() - offset, &head));
                (from, size) = (at + 1, 0);
            }
        }
        let start = bytes.len();
        for place in &places {
            bytes.extend(place.offset.to_le_bytes());
            bytes.extend(place.length.to_le_bytes());
            bytes.extend(place.first.to_le_bytes());
            bytes.extend(place.count.to_le_bytes());
            bytes.extend(place.oldest_ms.to_le_bytes());
            bytes.extend(place.newest_ms.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[start..]);
        bytes.extend((places.len() as u32).to_le_bytes());
        bytes.extend(crc.to_le_bytes());
        bytes.extend(MARK);
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        Ok(Self {
            path: path.into(),
            bytes: bytes.len() as u64,
            places,
            position,
        })
    }

    /// `None` if nothing of it can be read.
    pub fn open(path: &Path) -> std::io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if let Some(places) = indexed(&mut file, bytes)? {
            let position = places.last().and_then(|last| {
                let mut head = vec![0; last.length as usize];
                file.read_exact_at(&mut head, last.offset).ok()?;
                Some(block::read(&head)?.0.position)
            });
            if let Some(position) = position {
                return Ok(Some(Self {
                    path: path.into(),
                    bytes,
                    places,
                    position,
                }));
            }
        }
        let found = scan(&read_whole(path)?);
        let Some((_, last)) = found.last() else {
            return Ok(None);
        };
        Ok(Some(Self {
            path: path.into(),
            bytes,
            position: last.position,
            places: found.into_iter().map(|(place, _)| place).collect(),
        }))
    }
}

fn indexed(file: &mut File, bytes: u64) -> std::io::Result<Option<Vec<Place>>> {
    let Some(foot_at) = bytes.checked_sub(FOOT) else {
        return Ok(None);
    };
    let mut foot = [0; FOOT as usize];
    file.read_exact_at(&mut foot, foot_at)?;
    let mut numbers = Numbers(&foot);
    let (count, crc) = (numbers.u32().unwrap_or(0), numbers.u32().unwrap_or(0));
    let size = u64::from(count) * ENTRY as u64;
    if numbers.0 != MARK || size > foot_at || count == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(foot_at - size))?;
    let mut entries = vec![0; size as usize];
    file.read_exact(&mut entries)?;
    if crc32fast::hash(&entries) != crc {
        return Ok(None);
    }
    let mut numbers = Numbers(&entries);
    let places = std::iter::from_fn(|| {
        Some(Place {
            offset: numbers.u64()?,
            length: numbers.u32()?,
            first: numbers.u64()?,
            count: numbers.u32()?,
            oldest_ms: numbers.u64()?,
            newest_ms: numbers.u64()?,
        })
    });
    Ok(Some(places.collect()))
}
