//! What a host that does not answer had printed on it: from the copy on another host, which
//! could not read it (RFD 17).

use std::collections::BTreeMap;

use api::{AllocationView, CopySpan, LogCopy, LogLine};
use journal::{Filter, Line, Source};
use types::SecretKey;

use crate::{Client, LogQuery, SdkError};

/// Text of one replica that is held at once, with what its lines take besides.
const TEXT_MAX: usize = 16 << 20;
const LINE_BYTES: usize = 64;
/// Parts of one replica that are asked for, from all keepers.
const PARTS_MAX: usize = 4_096;

/// What copies have of one replica's log.
#[derive(Clone, Debug)]
pub struct CopiedLog {
    /// That the query asks for, in order.
    pub lines: Vec<LogLine>,
    /// Names of the hosts that had it.
    pub keepers: Vec<String>,
    /// When the newest line was written, whether asked for or not.
    pub newest_ms: u64,
    /// Why not all was read.
    pub closed: Option<String>,
    /// Lines of which there is no copy, between those that there are and, from where the query
    /// begins, before them.
    pub missing: u64,
}

impl Client {
    /// From copies, what the host of `a` would answer to `query`; `None` if nobody has a copy for
    /// `key`. Errors: those that may have one do not answer just now.
    pub async fn copied_log(
        &self,
        key: &SecretKey,
        a: &AllocationView,
        query: &LogQuery,
    ) -> Result<Option<CopiedLog>, SdkError> {
        of(self, key, a, query).await
    }
}

async fn of(
    client: &Client,
    key: &SecretKey,
    a: &AllocationView,
    query: &LogQuery,
) -> Result<Option<CopiedLog>, SdkError> {
    let (mut parts, mut silent) = (Vec::new(), None);
    let keepers = client.keepers(a.allocation).await?;
    for keeper in keepers.iter().filter(|k| k.online) {
        match client.copies(key, keeper.host, a.allocation).await {
            Ok(spans) => parts.extend(spans.into_iter().map(|span| (span, keeper))),
            Err(error) if error.is_transient() => silent = Some(error),
            Err(_) => {}
        }
    }
    // What a keeper says may be anything: a span that ends before it begins is none.
    parts.retain(|(span, _)| span.first < span.next);
    // Newest first: who wants the end reads no more than that.
    parts.sort_by_key(|(span, _)| std::cmp::Reverse((span.next, span.first)));
    parts.truncate(PARTS_MAX);
    let from = query.from.unwrap_or(0);
    let mut read = Read::default();
    let (mut names, mut newest_ms, mut closed) = (Vec::new(), 0, None);
    for (span, keeper) in parts {
        // One is opened in any case: it says that there is a copy, and how far it goes.
        if !names.is_empty() && (span.next <= from || read.knows(&span)) {
            continue;
        }
        if read.full || read.has_tail(query) {
            break;
        }
        let part = client.copy(key, keeper.host, a.allocation, span.first);
        let lines = match part.await {
            Ok(part) => open(key, a, &span, &part),
            Err(error) => {
                if error.is_transient() {
                    silent = Some(error);
                }
                Err(format!("{} does not give a part of it", keeper.name))
            }
        };
        match lines {
            Ok(lines) => {
                newest_ms = newest_ms.max(span.newest_ms);
                read.add(lines);
                if !names.contains(&keeper.name) {
                    names.push(keeper.name.clone());
                }
            }
            Err(why) => closed = Some(why),
        }
    }
    if names.is_empty() {
        return silent.map_or(Ok(None), Err);
    }
    if read.full {
        closed = Some("it is more than is read at once".into());
    }
    let missing = read.missing(query);
    let lines = wanted(a, read.lines, query);
    Ok(lines.map(|lines| CopiedLog {
        lines,
        keepers: names,
        newest_ms,
        closed,
        missing,
    }))
}

/// Lines by number, as many as are held at once; the newest come first.
#[derive(Default)]
struct Read {
    lines: BTreeMap<u64, Line>,
    bytes: usize,
    /// There was no room for older ones.
    full: bool,
}

impl Read {
    fn add(&mut self, lines: Vec<(u64, Line)>) {
        for (number, line) in lines.into_iter().rev() {
            let size = line.text.len() + LINE_BYTES;
            if self.bytes + size > TEXT_MAX {
                self.full = true;
                return;
            }
            if self.lines.insert(number, line).is_none() {
                self.bytes += size;
            }
        }
    }

    /// Another keeper may have told all of it.
    fn knows(&self, span: &CopySpan) -> bool {
        let known = self.lines.range(span.first..span.next).count() as u64;
        known == span.next - span.first
    }

    /// Whether what is here ends as the answer will: nothing has to pass but by its number.
    fn has_tail(&self, query: &LogQuery) -> bool {
        let plain = query.grep.is_none() && query.stream.is_none();
        let always = query.since_ms.is_none() && query.until_ms.is_none();
        let here = || self.lines.range(query.from.unwrap_or(0)..).count();
        plain && always && query.tail.is_some_and(|tail| here() >= tail)
    }

    fn missing(&self, query: &LogQuery) -> u64 {
        let first = self.lines.first_key_value().map_or(0, |(first, _)| *first);
        // What was left out may well be there.
        let from = match query.from {
            Some(from) if !self.full && !self.has_tail(query) => from,
            Some(from) => from.max(first),
            None => first,
        };
        let last = self.lines.last_key_value().map_or(0, |(last, _)| last + 1);
        let here = self.lines.range(from..).count() as u64;
        last.saturating_sub(from).saturating_sub(here)
    }
}

/// The lines of a part, if it is of the replica's own host and for us.
fn open(
    key: &SecretKey,
    a: &AllocationView,
    span: &CopySpan,
    part: &[u8],
) -> Result<Vec<(u64, Line)>, String> {
    let copy = LogCopy::from_bytes(part).ok_or("it is none")?;
    if copy.host(a.allocation, span) != Some(a.host) {
        return Err("it is not as its host made it".into());
    }
    let context = LogCopy::context(a.allocation, span);
    let opened = secrets::open_as(key, &context, &copy.sealed).map_err(|e| match e {
        secrets::SecretError::Closed => "it is sealed to other keys".into(),
        other => other.to_string(),
    })?;
    journal::unpack(&opened).ok_or_else(|| "it is damaged".into())
}

/// As a host answers the query; `None` where it is none.
fn wanted(
    a: &AllocationView,
    lines: BTreeMap<u64, Line>,
    query: &LogQuery,
) -> Option<Vec<LogLine>> {
    let mut filter = Filter::between(query.since_ms, query.until_ms);
    filter.source = match &query.stream {
        Some(name) => Some(Source::named(name)?),
        None => None,
    };
    if let Some(pattern) = &query.grep {
        filter = filter.grep(pattern).ok()?;
    }
    let from = query.from.unwrap_or(0);
    let passing = lines
        .into_iter()
        .filter(|(n, l)| *n >= from && filter.passes(l));
    let mut lines: Vec<LogLine> = passing
        .map(|(sequence, line)| LogLine {
            allocation: a.allocation,
            service: a.service.clone(),
            replica: a.replica,
            release: a.release,
            sequence,
            at_ms: line.at_ms,
            stream: line.source.name().into(),
            text: line.text,
        })
        .collect();
    let many = lines.len().saturating_sub(query.tail.unwrap_or(usize::MAX));
    lines.drain(..many);
    Some(lines)
}

#[cfg(test)]
mod tests;
