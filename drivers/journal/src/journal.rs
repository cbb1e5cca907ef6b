//! The lines of one allocation: a tail that grows, segments that do not change.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::block::{self, BODY_MAX, Position};
use crate::segment::{self, Place, Segment};
use crate::{Filter, Line};

/// A tail is compressed into a segment when it is longer.
const TAIL_MAX: u64 = 1 << 20;
/// Blocks read for one page.
const PAGE_BLOCKS: usize = 16;

/// Lines with their numbers, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub lines: Vec<(u64, Line)>,
    /// Number to read on from.
    pub next: u64,
    /// Lines before it that were wanted and are no longer there.
    pub lost: u64,
    /// Nothing is behind `next` yet.
    pub end: bool,
}

#[derive(Debug)]
struct Tail {
    path: PathBuf,
    file: File,
    bytes: u64,
    places: Vec<Place>,
}

/// See the crate's documentation. One writer; readers go by [`Shared`].
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    segments: Vec<Segment>,
    tail: Tail,
    /// Number of the next line.
    next: u64,
    position: Position,
}

fn numbered(path: &Path, prefix: &str) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    u64::from_str_radix(name.strip_prefix(prefix)?, 16).ok()
}

impl Tail {
    /// The tail that begins with `first`, an empty one if there is none; what is torn at its end
    /// is cut off. Also the number of the next line, and where its writer stood if it says so.
    fn open(folder: &Path, first: u64) -> std::io::Result<(Self, u64, Option<Position>)> {
        let path = folder.join(format!("tail-{first:016x}"));
        let file = File::options().create(true).append(true).open(&path)?;
        let mut found = segment::scan(&segment::read_whole(&path)?);
        // A block that is not the last of its append was followed by one that is not there.
        while found.last().is_some_and(|(_, head)| !head.whole) {
            found.pop();
        }
        let bytes = found
            .last()
            .map_or(0, |(place, _)| place.offset + u64::from(place.length));
        if file.metadata()?.len() != bytes {
            file.set_len(bytes)?;
        }
        let position = found.last().map(|(_, head)| head.position);
        let places: Vec<Place> = found.into_iter().map(|(place, _)| place).collect();
        let next = places.last().map_or(first, Place::next);
        let tail = Self {
            path,
            file,
            bytes,
            places,
        };
        Ok((tail, next, position))
    }
}

impl Journal {
    /// Opens what is in `folder`, or begins there. Cut-off writes of a process that was killed
    /// are put right.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (mut segments, mut tails) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "new") && numbered_new(&path) {
                std::fs::remove_file(&path)?;
            } else if numbered(&path, "seg-").is_some() {
                segments.extend(Segment::open(&path)?);
            } else if let Some(first) = numbered(&path, "tail-") {
                tails.push(first);
            }
        }
        segments.sort_by_key(Segment::first);
        tails.sort_unstable();
        let behind = segments.last().map_or(0, Segment::next);
        let position = segments.last().map(|s| s.position);
        let first = match tails.pop() {
            Some(first) if first >= behind => first,
            // It became the last segment, and was about to go.
            Some(first) => {
                tails.push(first);
                behind
            }
            None => behind,
        };
        for old in tails {
            std::fs::remove_file(folder.join(format!("tail-{old:016x}")))?;
        }
        let (tail, next, stood) = Tail::open(folder, first)?;
        let mut journal = Self {
            folder: folder.into(),
            segments,
            tail,
            next,
            position: stood.or(position).unwrap_or_default(),
        };
        if journal.tail.places.is_empty() {
            journal.anchor()?;
        }
        Ok(journal)
    }

    /// Number of the next line.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Number of the oldest line that is kept.
    pub fn first(&self) -> u64 {
        let segment = self.segments.first().map(Segment::first);
        let tail = self.tail.places.first().map(|p| p.first);
        segment.or(tail).unwrap_or(self.next)
    }

    /// Where the writer stood at the last line.
    pub fn position(&self) -> Position {
        self.position
    }

    /// On disk.
    pub fn bytes(&self) -> u64 {
        self.tail.bytes + self.segments.iter().map(|s| s.bytes).sum::<u64>()
    }

    /// When the first of the oldest lines that go together was written; 0 if there are none.
    pub fn oldest_ms(&self) -> u64 {
        let places = self.segments.iter().flat_map(|s| &s.places);
        let mut places = places.chain(&self.tail.places);
        places
            .find(|p| p.count > 0)
            .map_or(0, |place| place.oldest_ms)
    }

    /// Keeps `lines`, which end at `position` of their source, all or none. An error leaves all
    /// as it was: the same lines may be given again.
    pub fn append(&mut self, lines: &[Line], position: Position) -> std::io::Result<()> {
        if lines.is_empty() && position == self.position {
            return Ok(());
        }
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let (mut from, mut size) = (0, 0);
        let mut put = |from: usize, to: usize| -> std::io::Result<()> {
            let offset = bytes.len();
            let (part, number) = (&lines[from..to], self.next + from as u64);
            let whole = to == lines.len();
            let head = block::write(&mut bytes, number, part, position, whole, false)?;
            let at = self.tail.bytes + offset as u64;
            places.push(Place::of(at, bytes.len() - offset, &head));
            Ok(())
        };
        for (at, line) in lines.iter().enumerate() {
            size += line.text.len() + 13;
            if size >= BODY_MAX && at + 1 < lines.len() {
                put(from, at + 1)?;
                (from, size) = (at + 1, 0);
            }
        }
        put(from, lines.len())?;
        if let Err(error) = self.tail.file.write_all(&bytes) {
            let _ = self.tail.file.set_len(self.tail.bytes);
            return Err(error);
        }
        self.tail.bytes += bytes.len() as u64;
        self.tail.places.extend(places);
        self.next += lines.len() as u64;
        self.position = position;
        if self.tail.bytes >= TAIL_MAX {
            self.close()?;
        }
        Ok(())
    }

    /// Compresses the tail into a segment. Nothing happens while it is empty.
    pub fn close(&mut self) -> std::io::Result<()> {
        let mut lines = Vec::new();
        for place in &self.tail.places {
            // What cannot be read back is not carried on, and its numbers are left out.
            let read = segment::lines_at(&self.tail.path, place);
            lines.extend(read.ok_or_else(|| {
                std::io::Error::other(format!(
                    "{}: a block does not hold",
                    self.tail.path.display()
                ))
            })?);
        }
        if lines.is_empty() {
            return Ok(());
        }
        let first = self.tail.places.first().map_or(self.next, |p| p.first);
        let path = self.folder.join(format!("seg-{first:016x}"));
        let segment = Segment::write(&path, first, &lines, self.position)?;
        let (tail, ..) = Tail::open(&self.folder, self.next)?;
        let old = std::mem::replace(&mut self.tail, tail);
        self.segments.push(segment);
        self.anchor()?;
        std::fs::remove_file(&old.path)
    }

    /// Lets the oldest lines go until at most `bytes_max` are on disk and all that were written
    /// before `since_ms` are gone, a segment at a time. The numbers of those that follow stay.
    pub fn prune(&mut self, bytes_max: u64, since_ms: u64) -> std::io::Result<()> {
        while self.bytes() > bytes_max
            || self
                .segments
                .first()
                .is_some_and(|s| s.newest_ms() < since_ms)
        {
            if self.segments.is_empty() {
                break;
            }
            let oldest = self.segments.remove(0);
            std::fs::remove_file(&oldest.path)?;
        }
        let newest = self.tail.places.iter().map(|p| p.newest_ms).max();
        let old = newest.is_some_and(|at| at > 0 && at < since_ms);
        if self.segments.is_empty() && (old || self.tail.bytes > bytes_max) {
            self.clear()?;
        }
        Ok(())
    }

    /// Lets all lines go; numbers and position go on.
    fn clear(&mut self) -> std::io::Result<()> {
        if self.tail.places.iter().all(|p| p.count == 0) {
            return Ok(());
        }
        let (tail, ..) = Tail::open(&self.folder, self.next)?;
        let old = std::mem::replace(&mut self.tail, tail);
        self.anchor()?;
        std::fs::remove_file(&old.path)
    }

    /// Begins the tail with an empty block that says where the writer stands, for when all
    /// other blocks are let go, or torn.
    fn anchor(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let head = block::write(&mut bytes, self.next, &[], self.position, true, false)?;
        self.tail.file.write_all(&bytes)?;
        self.tail.file.sync_all()?;
        self.tail.bytes = bytes.len() as u64;
        self.tail.places.push(Place::of(0, bytes.len(), &head));
        Ok(())
    }

    /// Files and blocks from the one with line `from` on, oldest first.
    fn places(&self, from: u64) -> Vec<(PathBuf, Place)> {
        let mut all = Vec::new();
        for segment in self.segments.iter().filter(|s| s.next() > from) {
            let places = segment.places.iter().filter(|p| p.next() > from);
            all.extend(places.map(|p| (segment.path.clone(), *p)));
        }
        let places = self.tail.places.iter().filter(|p| p.next() > from);
        all.extend(places.map(|p| (self.tail.path.clone(), *p)));
        all
    }
}

fn numbered_new(path: &Path) -> bool {
    numbered(&path.with_extension(""), "seg-").is_some()
}

/// A journal that is read while it is written.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Journal>>);

impl Shared {
    pub fn new(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(journal)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().expect("not poisoned")
    }

    /// Lines from number `from` on that pass, at most `count`, of a bounded number of blocks.
    pub fn read(&self, from: u64, filter: &Filter, count: usize) -> Page {
        let (mut places, first, next) = {
            let journal = self.lock();
            (journal.places(from), journal.first(), journal.next())
        };
        let mut page = Page {
            next: from.max(first),
            lost: first.saturating_sub(from),
            ..Page::default()
        };
        // Of an earlier life of the journal: there is nothing behind.
        if from > next {
            page.end = true;
            return page;
        }
        // Blocks outside of the time are passed over without being read.
        let mut read = 0;
        for (path, place) in places.drain(..) {
            if read >= PAGE_BLOCKS || page.lines.len() >= count {
                return page;
            }
            page.lost += place.first.saturating_sub(page.next);
            page.next = page.next.max(place.first);
            if filter.may_hold(place.oldest_ms, place.newest_ms) {
                read += 1;
                let Some(lines) = segment::lines_at(&path, &place) else {
                    if !path.exists() {
                        // Compressed or let go meanwhile: it is looked for anew.
                        return page;
                    }
                    page.lost += place.next() - page.next;
                    page.next = place.next();
                    continue;
                };
                for (number, line) in (place.first..).zip(lines) {
                    if number < page.next {
                        continue;
                    }
                    if page.lines.len() >= count {
                        return page;
                    }
                    page.next = number + 1;
                    if filter.passes(&line) {
                        page.lines.push((number, line));
                    }
                }
            }
            page.next = place.next();
        }
        page.lost += next.saturating_sub(page.next);
        page.next = page.next.max(next);
        page.end = true;
        page
    }

    /// Number from which on there are `count` lines that pass, or all that there are. `going`
    /// is asked between blocks: looking ends where it says no.
    pub fn tail(&self, filter: &Filter, count: usize, going: impl Fn() -> bool) -> u64 {
        let (places, first, next) = {
            let journal = self.lock();
            (journal.places(0), journal.first(), journal.next())
        };
        let mut wanted = count;
        if wanted == 0 {
            return next;
        }
        for (path, place) in places.iter().rev() {
            if !going() {
                return place.first;
            }
            if !filter.may_hold(place.oldest_ms, place.newest_ms) {
                continue;
            }
            let lines = segment::lines_at(path, place).unwrap_or_default();
            for (index, line) in lines.iter().enumerate().rev() {
                if filter.passes(line) {
                    wanted -= 1;
                    if wanted == 0 {
                        return place.first + index as u64;
                    }
                }
            }
        }
        first
    }
}

#[cfg(test)]
mod tests;
