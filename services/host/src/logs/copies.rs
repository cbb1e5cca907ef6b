//! Copies of other hosts' logs, kept for their readers.
//!
//! ```text
//! copies/<allocation>/<first>-<next>-<newest ms>-<until ms>     a part: sealed, signed
//! ```
//!
//! Invariants: a part is taken only from the host on which the ledger has the allocation, and
//! given only to it and to those to whom it is sealed; this host can read none. What is kept is
//! bounded for each allocation, each host and in all; beyond a bound the oldest part goes of
//! whoever has most, so nobody pushes out another's. Source: RFD 17.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use api::{CopySpan, LogCopy};
use types::{AccountId, AllocationId, HostId};

use crate::machine::now_ms;

/// Of one allocation.
const ALLOCATION_BYTES_MAX: u64 = 8 << 20;
/// Of one host.
const HOST_BYTES_MAX: u64 = 256 << 20;
/// In all.
const BYTES_MAX: u64 = 1 << 30;
/// Files are counted too, however small.
const PARTS_MAX: usize = 2_000;
const ALLOCATIONS_MAX: usize = 20_000;
const AGE_MS_MAX: u64 = 45 * 86_400_000;
/// Bytes that a host may send within a second.
const RATE_MAX: u64 = 4 << 20;
/// Allocations whose host is remembered.
const KNOWN_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Part {
    span: CopySpan,
    until_ms: u64,
    bytes: u64,
}

impl Part {
    fn name(&self) -> String {
        let CopySpan {
            first,
            next,
            newest_ms,
        } = self.span;
        format!("{first:016x}-{next:016x}-{newest_ms:x}-{:x}", self.until_ms)
    }

    fn named(name: &str, bytes: u64) -> Option<Self> {
        let mut numbers = name.split('-').map(|n| u64::from_str_radix(n, 16).ok());
        let mut next = || numbers.next().flatten();
        let span = CopySpan {
            first: next()?,
            next: next()?,
            newest_ms: next()?,
        };
        let until_ms = next()?;
        Some(Self {
            span,
            until_ms,
            bytes,
        })
    }
}

#[derive(Debug, Default)]
struct Held {
    /// By the number of the first line.
    parts: BTreeMap<u64, Part>,
    bytes: u64,
    /// Whose it is; `None` if no part can be read.
    host: Option<HostId>,
}

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<AllocationId, Held>,
    /// Of the second that is counted.
    taken: BTreeMap<HostId, u64>,
    second: u64,
    known: BTreeMap<AllocationId, HostId>,
}

/// Why a part is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It is not what its host signed, or names no lines.
    Wrong,
    /// It is another host's.
    NotYours,
    /// More than is taken within a second: later.
    TooFast,
    /// This disk does not take it.
    NoRoom,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Copies {
    root: PathBuf,
    inner: Mutex<Inner>,
}

impl Copies {
    /// Finds what is kept in `root`. What is none of ours there is left alone.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let mut inner = Inner::default();
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|n| n.parse::<AllocationId>().ok()) else {
                continue;
            };
            let mut held = Held::default();
            for part in std::fs::read_dir(entry.path())? {
                let part = part?;
                let bytes = part.metadata()?.len();
                let name = part.file_name();
                if let Some(part) = name.to_str().and_then(|n| Part::named(n, bytes)) {
                    held.bytes += part.bytes;
                    held.parts.insert(part.span.first, part);
                }
            }
            let newest = held.parts.values().next_back().map(Part::name);
            let copy = newest.and_then(|name| std::fs::read(entry.path().join(name)).ok());
            let copy = copy.and_then(|bytes| LogCopy::from_bytes(&bytes));
            held.host = copy.map(|copy| AccountId::of(&copy.key));
            inner.held.insert(id, held);
        }
        Ok(Self {
            root: root.into(),
            inner: Mutex::new(inner),
        })
    }

    fn folder(&self, id: AllocationId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// On which host the ledger has it, if that is remembered.
    pub fn known(&self, id: AllocationId) -> Option<HostId> {
        self.inner
            .lock()
            .expect("not poisoned")
            .known
            .get(&id)
            .copied()
    }

    pub fn know(&self, id: AllocationId, host: HostId) {
        let mut inner = self.inner.lock().expect("not poisoned");
        if inner.known.len() >= KNOWN_MAX {
            inner.known.clear();
        }
        inner.known.insert(id, host);
    }

    /// Takes a part from `host`, on which the ledger has the allocation.
    pub fn take(
        &self,
        host: HostId,
        id: AllocationId,
        span: CopySpan,
        until_ms: u64,
        bytes: &[u8],
    ) -> Result<(), Declined> {
        let copy = LogCopy::from_bytes(bytes).ok_or(Declined::Wrong)?;
        let made = copy.host(id, &span).ok_or(Declined::Wrong)?;
        if made != host {
            return Err(Declined::NotYours);
        }
        let sealed = secrets::readers_of(&copy.sealed).is_some();
        if !sealed || span.next <= span.first || bytes.len() > LogCopy::BYTES_MAX {
            return Err(Declined::Wrong);
        }
        let now = now_ms();
        let part = Part {
            span,
            until_ms: until_ms.min(now.saturating_add(AGE_MS_MAX)),
            bytes: bytes.len() as u64,
        };
        let mut inner = self.inner.lock().expect("not poisoned");
        inner.count(host, part.bytes, now / 1_000)?;
        if !inner.held.contains_key(&id) && inner.held.len() >= ALLOCATIONS_MAX {
            return Err(Declined::NoRoom);
        }
        let folder = self.folder(id);
        let path = folder.join(part.name());
        let fresh = folder.join("new");
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&fresh, bytes))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|error| {
                tracing::warn!(path = %path.display(), %error, "a copy of a log");
                Declined::NoRoom
            })?;
        let held = inner.held.entry(id).or_default();
        held.host = Some(host);
        held.bytes += part.bytes;
        if let Some(old) = held.parts.insert(span.first, part) {
            held.bytes -= old.bytes;
            let old = folder.join(old.name());
            if old != path {
                let _ = std::fs::remove_file(old);
            }
        }
        while held.bytes > ALLOCATION_BYTES_MAX || held.parts.len() > PARTS_MAX {
            if !self.let_oldest_go(id, held) {
                break;
            }
        }
        self.make_room(&mut inner);
        Ok(())
    }

    /// The parts that `asks` may have, in order; `None` if there are none for him.
    pub fn list(&self, id: AllocationId, asks: AccountId) -> Option<Vec<CopySpan>> {
        let (host, parts) = {
            let inner = self.inner.lock().expect("not poisoned");
            let held = inner.held.get(&id)?;
            let spans: Vec<CopySpan> = held.parts.values().map(|p| p.span).collect();
            (held.host, spans)
        };
        if host == Some(asks) {
            return Some(parts);
        }
        let newest = self.read(id, parts.last()?.first)?;
        may_read(&newest, asks).then_some(parts)
    }

    /// A part, if it is sealed to `asks`.
    pub fn give(&self, id: AllocationId, first: u64, asks: AccountId) -> Option<Vec<u8>> {
        self.read(id, first).filter(|bytes| may_read(bytes, asks))
    }

    fn read(&self, id: AllocationId, first: u64) -> Option<Vec<u8>> {
        let name = {
            let inner = self.inner.lock().expect("not poisoned");
            inner.held.get(&id)?.parts.get(&first)?.name()
        };
        std::fs::read(self.folder(id).join(name)).ok()
    }

    /// Lets go what has been kept long enough.
    pub fn expire(&self, now_ms: u64) {
        let mut inner = self.inner.lock().expect("not poisoned");
        for (id, held) in &mut inner.held {
            let old = |p: &&Part| p.until_ms <= now_ms;
            let over: Vec<Part> = held.parts.values().filter(old).copied().collect();
            for part in over {
                held.parts.remove(&part.span.first);
                held.bytes -= part.bytes;
                let _ = std::fs::remove_file(self.folder(*id).join(part.name()));
            }
        }
        let empty = inner.held.iter().filter(|(_, held)| held.parts.is_empty());
        let empty: Vec<AllocationId> = empty.map(|(id, _)| *id).collect();
        for id in empty {
            inner.held.remove(&id);
            let _ = std::fs::remove_dir_all(self.folder(id));
        }
    }

    fn let_oldest_go(&self, id: AllocationId, held: &mut Held) -> bool {
        let Some((_, part)) = held.parts.pop_first() else {
            return false;
        };
        held.bytes -= part.bytes;
        let _ = std::fs::remove_file(self.folder(id).join(part.name()));
        true
    }

    /// Of whoever has most the oldest part goes, until all are within their bounds.
    fn make_room(&self, inner: &mut Inner) {
        loop {
            let mut by_host: BTreeMap<Option<HostId>, u64> = BTreeMap::new();
            for held in inner.held.values() {
                *by_host.entry(held.host).or_default() += held.bytes;
            }
            let all: u64 = by_host.values().sum();
            let most = by_host.into_iter().max_by_key(|(_, bytes)| *bytes);
            let Some((host, _)) = most.filter(|(_, b)| *b > HOST_BYTES_MAX || all > BYTES_MAX)
            else {
                return;
            };
            let of_host = inner.held.iter_mut().filter(|(_, h)| h.host == host);
            let oldest = of_host.min_by_key(|(_, held)| {
                let first = held.parts.values().next();
                first.map_or(u64::MAX, |part| part.span.newest_ms)
            });
            let went = oldest.is_some_and(|(id, held)| self.let_oldest_go(*id, held));
            if !went {
                return;
            }
        }
    }
}

impl Inner {
    fn count(&mut self, host: HostId, bytes: u64, second: u64) -> Result<(), Declined> {
        if second != self.second {
            self.second = second;
            self.taken.clear();
        }
        let taken = self.taken.entry(host).or_default();
        if *taken + bytes > RATE_MAX {
            return Err(Declined::TooFast);
        }
        *taken += bytes;
        Ok(())
    }
}

fn may_read(bytes: &[u8], asks: AccountId) -> bool {
    let copy = LogCopy::from_bytes(bytes);
    let readers = copy.and_then(|copy| secrets::readers_of(&copy.sealed));
    readers.is_some_and(|readers| readers.contains(&asks))
}

#[cfg(test)]
mod tests {
    use types::SecretKey;

    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    fn account(n: u8) -> AccountId {
        AccountId::of(&key(n).public())
    }

    fn span(first: u64, next: u64) -> CopySpan {
        CopySpan {
            first,
            next,
            newest_ms: next,
        }
    }

    /// Of host 1, for reader 2.
    fn part(id: u64, span: &CopySpan, bytes: usize) -> Vec<u8> {
        let id = AllocationId(id);
        let text = vec![b'x'; bytes];
        let context = LogCopy::context(id, span);
        let sealed = secrets::seal_to(&[key(2).public()], &context, &text).expect("sealed");
        LogCopy::sign(&key(1), id, span, sealed).to_bytes()
    }

    fn take(copies: &Copies, id: u64, span: CopySpan, bytes: usize) -> Result<(), Declined> {
        let bytes = part(id, &span, bytes);
        copies.inner.lock().expect("not poisoned").taken.clear();
        copies.take(account(1), AllocationId(id), span, u64::MAX, &bytes)
    }

    #[test]
    fn parts_are_kept_for_their_readers_and_no_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(folder.path()).expect("opened");
        let id = AllocationId(7);
        take(&copies, 7, span(0, 5), 10).expect("taken");
        take(&copies, 7, span(0, 9), 20).expect("it grew");
        take(&copies, 7, span(9, 12), 10).expect("taken");
        for copies in [&copies, &Copies::open(folder.path()).expect("again")] {
            let spans = vec![span(0, 9), span(9, 12)];
            assert_eq!(copies.list(id, account(2)), Some(spans.clone()));
            assert_eq!(copies.list(id, account(1)), Some(spans), "its host");
            assert_eq!(copies.list(id, account(3)), None, "a stranger");
            assert_eq!(copies.list(AllocationId(8), account(2)), None);
            assert_eq!(copies.give(id, 0, account(3)), None, "a stranger");
            assert_eq!(copies.give(id, 0, account(1)), None, "it has its own");
            let bytes = copies.give(id, 0, account(2)).expect("kept");
            let copy = LogCopy::from_bytes(&bytes).expect("read");
            assert_eq!(copy.host(id, &span(0, 9)), Some(account(1)));
            let context = LogCopy::context(id, &span(0, 9));
            let text = secrets::open_as(&key(2), &context, &copy.sealed);
            assert_eq!(text.expect("open"), [b'x'; 20]);
        }
        let files = std::fs::read_dir(folder.path().join("a-7")).expect("read");
        assert_eq!(files.count(), 2);
    }

    #[test]
    fn what_is_not_as_its_host_made_it_is_declined() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(folder.path()).expect("opened");
        let good = part(7, &span(0, 5), 10);
        let try_it = |host, id, span, bytes: &[u8]| {
            copies.take(account(host), AllocationId(id), span, u64::MAX, bytes)
        };
        assert_eq!(try_it(3, 7, span(0, 5), &good), Err(Declined::NotYours));
        assert_eq!(try_it(1, 8, span(0, 5), &good), Err(Declined::Wrong));
        assert_eq!(try_it(1, 7, span(0, 6), &good), Err(Declined::Wrong));
        assert_eq!(try_it(1, 7, span(0, 5), &good[..90]), Err(Declined::Wrong));
        let none = part(7, &span(5, 5), 10);
        assert_eq!(try_it(1, 7, span(5, 5), &none), Err(Declined::Wrong));
        let large = part(7, &span(0, 5), LogCopy::BYTES_MAX);
        assert_eq!(try_it(1, 7, span(0, 5), &large), Err(Declined::Wrong));
        let plain = LogCopy::sign(&key(1), AllocationId(7), &span(0, 5), b"plain".to_vec());
        assert_eq!(
            try_it(1, 7, span(0, 5), &plain.to_bytes()),
            Err(Declined::Wrong)
        );
        assert_eq!(try_it(1, 7, span(0, 5), &good), Ok(()));
    }

    #[test]
    fn the_oldest_go_first_and_nothing_stays_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(folder.path()).expect("opened");
        let id = AllocationId(7);
        for n in 0..20 {
            take(&copies, 7, span(n * 5, n * 5 + 5), 500 << 10).expect("taken");
        }
        let kept = copies.list(id, account(2)).expect("kept");
        assert!(
            kept.len() < 20 && kept.last() == Some(&span(95, 100)),
            "{kept:?}"
        );
        assert!(
            kept.windows(2).all(|w| w[0].next == w[1].first),
            "the newest"
        );
        assert!(copies.inner.lock().expect("not poisoned").held[&id].bytes <= ALLOCATION_BYTES_MAX);
        copies.expire(u64::MAX);
        assert_eq!(copies.list(id, account(2)), None);
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
    }

    #[test]
    fn a_host_that_sends_too_fast_is_told_so() {
        let mut inner = Inner::default();
        assert_eq!(inner.count(account(1), RATE_MAX, 5), Ok(()));
        assert_eq!(inner.count(account(1), 1, 5), Err(Declined::TooFast));
        assert_eq!(inner.count(account(2), 1, 5), Ok(()), "another");
        assert_eq!(inner.count(account(1), 1, 6), Ok(()), "later");
    }
}
