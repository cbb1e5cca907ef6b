//! Whether a client of HTTP/2 reads its answers.
//!
//! Each stream is given room to be sent by its client. One that gives none and answers pings would
//! hold its streams, and replicas' connections with them, for ever: no write to the connection
//! waits. So the bodies tell when they are asked for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::time::{Duration, Instant, sleep};

use crate::limits::WRITE_PAUSE;

/// The answers of one connection.
pub struct Streams {
    begun: Instant,
    /// Those that wait until their client has room for more.
    waiting: AtomicUsize,
    /// When one of them was last asked for more, in milliseconds since `begun`.
    moved_ms: AtomicU64,
}

impl Streams {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            waiting: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
        }
    }

    fn moves(&self) {
        let now_ms = self.begun.elapsed().as_millis() as u64;
        self.moved_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Returns when there are answers to read, and none has been read on for as long as a client
    /// may pause.
    pub async fn stall(&self) {
        loop {
            sleep(WRITE_PAUSE / 4).await;
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let is_idle = self.begun.elapsed().saturating_sub(moved) > WRITE_PAUSE;
            if is_idle && self.waiting.load(Ordering::Relaxed) > 0 {
                return;
            }
        }
    }
}

/// One answer's part in them.
pub struct Reader {
    streams: Arc<Streams>,
    /// It was given something and has not asked again.
    waits: bool,
}

impl Reader {
    pub fn new(streams: &Arc<Streams>) -> Self {
        Self {
            streams: streams.clone(),
            waits: false,
        }
    }

    /// There is room for more.
    pub fn asks(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.streams.waiting.fetch_sub(1, Ordering::Relaxed);
            self.streams.moves();
        }
    }

    /// It has been given more.
    pub fn has(&mut self) {
        if !std::mem::replace(&mut self.waits, true) {
            self.streams.moves();
            self.streams.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.asks();
    }
}
