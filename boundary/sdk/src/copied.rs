//! What a host that does not answer had printed on it: from the copy on another host, which
//! could not read it (RFD 17).

use std::collections::BTreeMap;

use api::{AllocationView, CopySpan, LogCopy, LogLine};
use journal::{Filter, Line, Source};
use types::SecretKey;

use crate::{Client, LogQuery, SdkError};

/// Bytes of parts that are read of one replica, from all keepers.
const BYTES_MAX: usize = 64 << 20;

/// What copies have of one replica's log.
#[derive(Clone, Debug)]
pub struct CopiedLog {
    /// That the query asks for, in order.
    pub lines: Vec<LogLine>,
    /// Names of the hosts that had it.
    pub keepers: Vec<String>,
    /// When the newest line was written, whether asked for or not.
    pub newest_ms: u64,
    /// Parts that could not be opened, and why.
    pub closed: Option<String>,
    /// Lines between others of which there is no copy.
    pub missing: u64,
}

impl Client {
    /// From copies, what the host of `a` would answer to `query`; `None` if nobody has a copy for
    /// `key`.
    pub async fn copied_log(
        &self,
        key: &SecretKey,
        a: &AllocationView,
        query: &LogQuery,
    ) -> Option<CopiedLog> {
        of(self, key, a, query).await
    }
}

async fn of(
    client: &Client,
    key: &SecretKey,
    a: &AllocationView,
    query: &LogQuery,
) -> Option<CopiedLog> {
    let keepers = client.keepers(a.allocation).await.ok()?;
    let mut all: BTreeMap<u64, Line> = BTreeMap::new();
    let (mut names, mut newest_ms, mut closed, mut bytes) = (Vec::new(), 0, None, 0);
    for keeper in keepers.into_iter().filter(|k| k.online) {
        let parts = client.copies(key, keeper.host, a.allocation).await;
        let Ok(parts) = parts else { continue };
        let from = query.from.unwrap_or(0);
        for span in parts.into_iter().rev().filter(|span| span.next > from) {
            // Another keeper may have told all of it.
            let known = all.range(span.first..span.next).count() as u64;
            if known == span.next.saturating_sub(span.first) || bytes > BYTES_MAX {
                continue;
            }
            let part = client.copy(key, keeper.host, a.allocation, span.first);
            match part
                .await
                .map_err(|e: SdkError| e.to_string())
                .and_then(|part| {
                    bytes += part.len();
                    open(key, a, &span, &part)
                }) {
                Ok(lines) => {
                    newest_ms = newest_ms.max(span.newest_ms);
                    all.extend(lines);
                    if !names.contains(&keeper.name) {
                        names.push(keeper.name.clone());
                    }
                }
                Err(why) => closed = Some(why),
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let missing = match (all.first_key_value(), all.last_key_value()) {
        (Some((first, _)), Some((last, _))) => (last - first + 1).saturating_sub(all.len() as u64),
        _ => 0,
    };
    Some(CopiedLog {
        lines: wanted(a, all, query)?,
        keepers: names,
        newest_ms,
        closed,
        missing,
    })
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
