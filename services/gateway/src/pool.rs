//! What a worker's connections share: buffers, and idle connections to replicas.
//!
//! All of it belongs to one thread, whose tasks never run at once: nothing is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use types::AllocationId;

use crate::connect::Stream;
use crate::limits::{BUFFER_BYTES, BUFFERS_MAX, HEAD_BYTES, IDLE_MAX, IDLE_TIME};
use crate::table::{Table, uptime_ms};

/// A replica's port.
pub type Key = (AllocationId, u16);

struct Idle {
    stream: Stream,
    since_ms: u64,
}

#[derive(Default)]
struct Pool {
    idle: HashMap<Key, Vec<Idle>>,
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Bytes that have come; lent by the pool, and held only while there are some.
pub struct Buffer {
    data: Box<[u8]>,
    length: usize,
}

impl Buffer {
    /// For the head of a message.
    pub fn small() -> Self {
        Self::lent(HEAD_BYTES, |pool| &mut pool.small)
    }

    /// For bodies.
    pub fn large() -> Self {
        Self::lent(BUFFER_BYTES, |pool| &mut pool.large)
    }

    fn lent(size: usize, shelf: impl Fn(&mut Pool) -> &mut Vec<Box<[u8]>>) -> Self {
        let kept = POOL
            .try_with(|pool| shelf(&mut pool.borrow_mut()).pop())
            .ok()
            .flatten();
        Self {
            data: kept.unwrap_or_else(|| vec![0; size].into()),
            length: 0,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.data[..self.length]
    }

    pub fn is_full(&self) -> bool {
        self.length == self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.data.copy_within(count..self.length, 0);
        self.length -= count;
    }

    /// Reads behind what is there; the count is 0 at the end of the stream.
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.data[self.length..]);
        let read = Pin::new(stream).poll_read(context, &mut room);
        let count = room.filled().len();
        self.length += count;
        read.map_ok(|()| count)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            let shelf = match data.len() {
                BUFFER_BYTES => &mut pool.large,
                _ => &mut pool.small,
            };
            if shelf.len() < BUFFERS_MAX {
                shelf.push(data);
            }
        });
    }
}

/// Reads into `slot`; a buffer is lent only while it holds something.
pub fn poll_fill<S: AsyncRead + Unpin>(
    slot: &mut Option<Buffer>,
    lend: fn() -> Buffer,
    stream: &mut S,
    context: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    let mut buffer = slot.take().unwrap_or_else(lend);
    let read = buffer.poll_read(stream, context);
    if !buffer.is_empty() {
        *slot = Some(buffer);
    }
    read
}

/// Nothing has come on it, not even its end.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(stream)
        .poll_read(&mut context, &mut buffer)
        .is_pending()
}

/// An idle connection, the last used one, that the replica has not ended; used less than
/// `within_ms` ago.
pub fn take(key: Key, now_ms: u64, within_ms: u64) -> Option<Stream> {
    POOL.with(|pool| {
        let mut pool = pool.borrow_mut();
        let idle = pool.idle.get_mut(&key)?;
        while let Some(mut kept) =
            idle.pop_if(|kept| now_ms.saturating_sub(kept.since_ms) < within_ms)
        {
            if is_quiet(&mut kept.stream) {
                return Some(kept.stream);
            }
        }
        None
    })
}

/// Keeps `stream` for the next request.
pub fn keep(key: Key, stream: Stream, now_ms: u64) {
    POOL.with(|pool| {
        let mut pool = pool.borrow_mut();
        let idle = pool.idle.entry(key).or_default();
        if idle.len() < IDLE_MAX {
            idle.push(Idle {
                stream,
                since_ms: now_ms,
            });
        }
    });
}

/// Ends connections that were not used for a while, and those to replicas that are gone.
pub fn tidy(table: &Table) {
    let now_ms = uptime_ms();
    let limit_ms = IDLE_TIME.as_millis() as u64;
    let mut gone = Vec::new();
    POOL.with(|pool| {
        pool.borrow_mut().idle.retain(|key, idle| {
            let stays = table.has(key.0);
            let mut all = std::mem::take(idle).into_iter();
            for mut kept in all.by_ref() {
                let fresh = now_ms.saturating_sub(kept.since_ms) < limit_ms;
                if stays && fresh && is_quiet(&mut kept.stream) {
                    idle.push(kept);
                } else {
                    gone.push(kept);
                }
            }
            !idle.is_empty()
        });
    });
    // Outside of the borrow: what a stream does at its end is its own.
    drop(gone);
}
