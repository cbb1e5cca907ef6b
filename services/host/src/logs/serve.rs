//! Lines and figures for who asks, oldest first, then as they come.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use journal::{Filter, Line, PatternError, Ring, Source};

use super::{Meta, Stream};
use crate::machine::now_ms;

/// Lines of one chunk of an answer.
const CHUNK: usize = 500;

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Query {
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<usize>,
    /// Only lines of this number and later.
    pub from: Option<u64>,
    pub since_ms: Option<u64>,
    pub until_ms: Option<u64>,
    pub grep: Option<String>,
    /// `stdout`, `stderr` or `runrig`.
    pub stream: Option<String>,
}

impl Query {
    pub fn filter(&self) -> Result<Filter, PatternError> {
        let mut filter = Filter::between(self.since_ms, self.until_ms);
        filter.source = match self.stream.as_deref() {
            None => None,
            Some(name) => Some(Source::named(name).ok_or_else(|| {
                PatternError::Wrong("a stream is stdout, stderr or runrig".into())
            })?),
        };
        match &self.grep {
            Some(pattern) => filter.grep(pattern),
            None => Ok(filter),
        }
    }
}

struct Reading {
    stream: Arc<Stream>,
    news: tokio::sync::watch::Receiver<()>,
    filter: Filter,
    next: Option<u64>,
    follow: bool,
    tail: Option<usize>,
    /// The reader said where to go on: what is not kept from there on is told.
    resumed: bool,
}

/// NDJSON of [`api::LogLine`]. A reader that is slow is waited for; nothing is kept for it.
pub fn stream(
    stream: Arc<Stream>,
    query: &Query,
    filter: Filter,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + use<> {
    let reading = Reading {
        news: stream.news(),
        stream,
        filter,
        next: match query.tail {
            Some(_) => None,
            None => Some(query.from.unwrap_or(0)),
        },
        follow: query.follow,
        tail: query.tail,
        resumed: query.from.is_some(),
    };
    futures::stream::try_unfold(reading, |mut reading| async move {
        loop {
            // What comes while a page is read is heard of afterwards.
            reading.news.mark_unchanged();
            let ended = reading.stream.has_ended();
            let (stream, filter) = (reading.stream.clone(), reading.filter.clone());
            let (next, tail) = (reading.next, reading.tail.unwrap_or(usize::MAX));
            let page = tokio::task::spawn_blocking(move || {
                let gone = || !stream.gone.load(Ordering::Relaxed);
                let from = next.unwrap_or_else(|| stream.journal.tail(&filter, tail, gone));
                stream.journal.read(from, &filter, CHUNK)
            })
            .await
            .map_err(std::io::Error::other)?;
            reading.next = Some(page.next);
            let meta = reading.stream.meta();
            let mut bytes = Vec::new();
            if page.lost > 0 && reading.resumed {
                let at_ms = page.lines.first().map_or_else(now_ms, |(_, l)| l.at_ms);
                write(
                    &mut bytes,
                    &meta,
                    page.next.saturating_sub(1),
                    &lost(page.lost, at_ms),
                );
            }
            for (number, line) in &page.lines {
                write(&mut bytes, &meta, *number, line);
            }
            if !bytes.is_empty() {
                return Ok(Some((Bytes::from(bytes), reading)));
            }
            if !page.end {
                continue;
            }
            let gone = reading.stream.gone.load(Ordering::Relaxed);
            if !reading.follow || ended || gone {
                return Ok(None);
            }
            if reading.news.changed().await.is_err() {
                return Ok(None);
            }
        }
    })
}

fn lost(count: u64, at_ms: u64) -> Line {
    Line {
        at_ms,
        source: Source::Host,
        text: format!("runrig: {count} lines before this are no longer kept"),
    }
}

fn write(bytes: &mut Vec<u8>, meta: &Meta, sequence: u64, line: &Line) {
    let line = api::LogLine {
        allocation: meta.allocation,
        service: meta.service.clone(),
        replica: meta.replica,
        release: meta.release,
        sequence,
        at_ms: line.at_ms,
        stream: line.source.name().into(),
        text: line.text.clone(),
    };
    if serde_json::to_writer(&mut *bytes, &line).is_ok() {
        bytes.push(b'\n');
    }
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct HistoryQuery {
    pub since_ms: Option<u64>,
    pub until_ms: Option<u64>,
}

/// NDJSON of [`api::StatsSample`].
pub fn history(stream: &Stream, query: HistoryQuery) -> Vec<u8> {
    let (meta, now) = (stream.meta(), now_ms());
    let since = query
        .since_ms
        .unwrap_or_else(|| now.saturating_sub(journal::SPAN_MS));
    let until = query.until_ms.unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    for kept in Ring::read(&stream.ring_path(), since, until, now) {
        let sample = kept.sample;
        let view = api::StatsSample {
            allocation: meta.allocation,
            service: meta.service.clone(),
            replica: meta.replica,
            at_ms: kept.at_ms,
            step_ms: kept.step_ms,
            cpu_millis: sample.cpu_millis,
            cpu_millis_max: sample.cpu_millis_max,
            memory_bytes: sample.memory_bytes,
            memory_bytes_max: sample.memory_bytes_max,
            disk_bytes: sample.disk_bytes,
            rx_bytes: sample.rx_bytes,
            tx_bytes: sample.tx_bytes,
            pids: sample.pids,
        };
        if serde_json::to_writer(&mut bytes, &view).is_ok() {
            bytes.push(b'\n');
        }
    }
    bytes
}
