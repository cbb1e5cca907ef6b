//! Waiting, writing and the time of day, each at next to no cost per request.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use api::now_ms;
use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

use crate::limits::{HEADER_TIME, WRITE_PAUSE};

/// A time limit that costs next to nothing to move: its timer runs at least as often as the
/// shortest limit, and looks then.
pub struct Deadline {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub fn new() -> Self {
        Self {
            at: Instant::now() + HEADER_TIME,
            timer: Box::pin(sleep(HEADER_TIME)),
        }
    }

    pub fn set(&mut self, now: Instant, limit: Duration) {
        self.at = now + limit;
    }

    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if now >= self.at {
                return Poll::Ready(());
            }
            let next = self.at.min(now + HEADER_TIME);
            self.timer.as_mut().reset(next.into());
        }
        Poll::Pending
    }
}

/// Writes all of `bytes`; each part within `pause`.
pub async fn write_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    deadline: &mut Deadline,
    pause: Duration,
    bytes: &[u8],
) -> io::Result<()> {
    write_both_within(stream, deadline, pause, bytes, &[]).await
}

/// Writes `first` and `second`, each part within [`WRITE_PAUSE`].
pub async fn write_both<S: AsyncWrite + Unpin>(
    stream: &mut S,
    deadline: &mut Deadline,
    first: &[u8],
    second: &[u8],
) -> io::Result<()> {
    write_both_within(stream, deadline, WRITE_PAUSE, first, second).await
}

async fn write_both_within<S: AsyncWrite + Unpin>(
    stream: &mut S,
    deadline: &mut Deadline,
    pause: Duration,
    mut first: &[u8],
    mut second: &[u8],
) -> io::Result<()> {
    let mut waits = false;
    poll_fn(|context| {
        loop {
            let written = match (first.is_empty(), second.is_empty()) {
                (true, true) => match Pin::new(&mut *stream).poll_flush(context) {
                    Poll::Ready(flushed) => return Poll::Ready(flushed),
                    Poll::Pending => Poll::Pending,
                },
                (false, true) => Pin::new(&mut *stream).poll_write(context, first),
                (true, false) => Pin::new(&mut *stream).poll_write(context, second),
                (false, false) => {
                    let pieces = [IoSlice::new(first), IoSlice::new(second)];
                    Pin::new(&mut *stream).poll_write_vectored(context, &pieces)
                }
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    let of_first = count.min(first.len());
                    first = &first[of_first..];
                    second = &second[count - of_first..];
                    waits = false;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if !std::mem::replace(&mut waits, true) {
                        deadline.set(Instant::now(), pause);
                    }
                    return deadline
                        .poll(context)
                        .map(|()| Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    })
    .await
}

/// The time for a `date` header, made once per second and thread.
pub fn date() -> [u8; 29] {
    use std::cell::Cell;
    thread_local! {
        static NOW: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [b' '; 29])) };
    }
    let second = now_ms() / 1_000;
    let (at, text) = NOW.get();
    if at == second {
        return text;
    }
    let written = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(second));
    let mut text = [b' '; 29];
    for (to, from) in text.iter_mut().zip(written.bytes()) {
        *to = from;
    }
    NOW.set((second, text));
    text
}
