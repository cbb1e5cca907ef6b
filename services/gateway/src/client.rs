//! What one client may hold: a share of the connections, and none that it does not read.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::limits::{LINGER_BYTES, LINGER_TIME, WRITE_PAUSE};

/// Counts connections by client. Locked when a connection opens or closes, never for requests.
#[derive(Clone)]
pub struct Shares {
    most: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Counted until dropped.
pub struct Share {
    shares: Shares,
    client: IpAddr,
}

impl Shares {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            held: Arc::default(),
        }
    }

    /// `None` if the client has its share already.
    pub fn take(&self, client: IpAddr) -> Option<Share> {
        let mut held = self.held.lock().expect("not poisoned");
        let count = held.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share {
            shares: self.clone(),
            client,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().expect("not poisoned");
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

/// A client's connection that ends when the client does not read what it is sent.
pub struct Patient<S> {
    stream: S,
    /// Armed while a write waits.
    waits: Option<Pin<Box<Sleep>>>,
    /// While this holds, it does not end before a client that is still sending has had the time to
    /// read its answer.
    is_http: Arc<AtomicBool>,
    /// Set once nothing more is written: what the client says yet is thrown away.
    lingers: Option<Lingering>,
}

struct Lingering {
    bytes: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            waits: None,
            is_http: Arc::default(),
            lingers: None,
        }
    }

    /// Of a client that speaks HTTP for as long as what comes with it holds.
    pub fn of_http(stream: S) -> (Self, Arc<AtomicBool>) {
        let patient = Self {
            is_http: Arc::new(AtomicBool::new(true)),
            ..Self::new(stream)
        };
        let is_http = patient.is_http.clone();
        (patient, is_http)
    }

    fn within<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let waits = self
            .waits
            .get_or_insert_with(|| Box::pin(sleep(WRITE_PAUSE)));
        waits.as_mut().poll(context).map(|()| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read",
            ))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.within(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.within(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingers.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.is_http.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let lingers = this.lingers.get_or_insert_with(|| Lingering {
            bytes: 0,
            until: Box::pin(sleep(LINGER_TIME)),
        });
        let mut thrown = [MaybeUninit::uninit(); 8 << 10];
        while lingers.bytes < LINGER_BYTES && lingers.until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::uninit(&mut thrown);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => lingers.bytes += buffer.filled().len(),
                // It has heard the end, or is gone.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A stream that counts what passes, also when it ends with an error.
pub struct Counted<S> {
    stream: S,
    pub read: u64,
    pub written: u64,
}

impl<S> Counted<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            read: 0,
            written: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.read += (buffer.filled().len() - before) as u64;
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            this.written += count as u64;
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
