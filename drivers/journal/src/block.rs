//! Bytes of a block: a head with a checksum over all that follows, then lines.
//!
//! ```text
//! length u32 │ crc u32 │ first u64 │ count u32 │ oldest u64 │ newest u64 │ flags u8 │
//! instance u32 │ file u64 │ offset u64 │ number u64 │ raw u32 │ body
//! ```
//!
//! All numbers little-endian; `length` counts what follows the checksum. The body is the lines,
//! in zstd if the flag says so: `at u64 │ source u8 │ length u32 │ text` each.

use crate::{LINE_MAX, Line};

/// Bytes before the body.
pub const HEAD: usize = 4 + 4 + 8 + 4 + 8 + 8 + 1 + 4 + 8 + 8 + 8 + 4;
/// Lines of a block, before compression. A block may exceed it by one line.
pub const BODY_MAX: usize = 64 << 10;
/// No block is longer.
const LENGTH_MAX: usize = HEAD + BODY_MAX + LINE_MAX + 1024;
const COMPRESSED: u8 = 1;
/// The last of those that were appended together: what it says of its source holds.
const WHOLE: u8 = 2;
const LEVEL: i32 = 1;

/// Which of its streams a line came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
    /// Not the workload's: what its host has to say about its log.
    Host,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Host => "runrig",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Host]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// Where in its source the last line of an append ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Which container, counted from 1; 0 before the first.
    pub instance: u32,
    /// What tells the file that it was read from, and how far.
    pub file: u64,
    pub offset: u64,
    /// Lines of that container so far.
    pub number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of its first line.
    pub first: u64,
    pub count: u32,
    pub oldest_ms: u64,
    pub newest_ms: u64,
    pub whole: bool,
    pub position: Position,
    compressed: bool,
    raw: u32,
}

fn body(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.iter().map(|l| l.text.len() + 13).sum());
    for line in lines {
        let mut end = line.text.len().min(LINE_MAX);
        while !line.text.is_char_boundary(end) {
            end -= 1;
        }
        bytes.extend(line.at_ms.to_le_bytes());
        bytes.push(line.source as u8);
        bytes.extend((end as u32).to_le_bytes());
        bytes.extend(&line.text.as_bytes()[..end]);
    }
    bytes
}

/// Appends one block to `out`.
pub fn write(
    out: &mut Vec<u8>,
    first: u64,
    lines: &[Line],
    position: Position,
    whole: bool,
    compress: bool,
) -> std::io::Result<Head> {
    let plain = body(lines);
    let raw = plain.len() as u32;
    let body = match compress {
        true => zstd::bulk::compress(&plain, LEVEL)?,
        false => plain,
    };
    let head = Head {
        first,
        count: lines.len() as u32,
        oldest_ms: lines.iter().map(|l| l.at_ms).min().unwrap_or_default(),
        newest_ms: lines.iter().map(|l| l.at_ms).max().unwrap_or_default(),
        whole,
        position,
        compressed: compress,
        raw,
    };
    let flags = (u8::from(compress) * COMPRESSED) | (u8::from(whole) * WHOLE);
    let start = out.len();
    out.extend(((HEAD - 8 + body.len()) as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(head.first.to_le_bytes());
    out.extend(head.count.to_le_bytes());
    out.extend(head.oldest_ms.to_le_bytes());
    out.extend(head.newest_ms.to_le_bytes());
    out.push(flags);
    out.extend(position.instance.to_le_bytes());
    out.extend(position.file.to_le_bytes());
    out.extend(position.offset.to_le_bytes());
    out.extend(position.number.to_le_bytes());
    out.extend(raw.to_le_bytes());
    out.extend(body);
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(head)
}

/// Takes numbers off the front of bytes; `None` at their end.
pub struct Numbers<'a>(pub &'a [u8]);

impl<'a> Numbers<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// The block at the front of `bytes`: its head, its body and its whole length. `None` if there
/// is no whole one, or its checksum does not hold.
pub fn read(bytes: &[u8]) -> Option<(Head, &[u8], usize)> {
    let mut numbers = Numbers(bytes);
    let length = numbers.u32()? as usize;
    if !(HEAD - 8..=LENGTH_MAX).contains(&length) {
        return None;
    }
    let crc = numbers.u32()?;
    let mut numbers = Numbers(numbers.take(length)?);
    if crc32fast::hash(numbers.0) != crc {
        return None;
    }
    let (first, count) = (numbers.u64()?, numbers.u32()?);
    let (oldest_ms, newest_ms) = (numbers.u64()?, numbers.u64()?);
    let flags = numbers.u8()?;
    let position = Position {
        instance: numbers.u32()?,
        file: numbers.u64()?,
        offset: numbers.u64()?,
        number: numbers.u64()?,
    };
    let head = Head {
        first,
        count,
        oldest_ms,
        newest_ms,
        whole: flags & WHOLE != 0,
        position,
        compressed: flags & COMPRESSED != 0,
        raw: numbers.u32()?,
    };
    Some((head, numbers.0, length + 8))
}

/// The lines of a body, or `None` if it is not what its head says.
pub fn lines(head: &Head, body: &[u8]) -> Option<Vec<Line>> {
    let unpacked;
    let mut numbers = if head.compressed {
        if head.raw as usize > LENGTH_MAX {
            return None;
        }
        unpacked = zstd::bulk::decompress(body, head.raw as usize).ok()?;
        Numbers(&unpacked)
    } else {
        Numbers(body)
    };
    let mut all = Vec::with_capacity((head.count as usize).min(LENGTH_MAX / 13));
    for _ in 0..head.count {
        let at_ms = numbers.u64()?;
        let source = match numbers.u8()? {
            0 => Source::Stdout,
            1 => Source::Stderr,
            _ => Source::Host,
        };
        let length = numbers.u32()? as usize;
        let text = String::from_utf8(numbers.take(length)?.to_vec()).ok()?;
        all.push(Line {
            at_ms,
            source,
            text,
        });
    }
    Some(all)
}
