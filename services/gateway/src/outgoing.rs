//! Bodies on their way: a request's, which may be tried on several upstreams until its first
//! byte is read, and a response's, which is counted until its end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::BODY_PAUSE;
use crate::oversized::hear_out;
use crate::record::Record;
use crate::streams::{Reader, Streams};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Source {
    /// Until it is dropped.
    body: Option<Incoming>,
    /// It is one of several on its connection.
    is_stream: bool,
    /// Read so far.
    pieces: u64,
    bytes: u64,
    stalled: bool,
    /// `pause` runs: its time is the client's, not that of an upstream that does not read.
    waits: bool,
    pause: Pin<Box<Sleep>>,
}

impl Drop for Source {
    /// A stream that is not wanted any more ends with a reset, after which some clients (curl 7.88)
    /// do not look at the answer that came before: so it is heard out.
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        if let (true, Some(mut body), Ok(runtime)) = (self.is_stream, rest, Handle::try_current()) {
            runtime.spawn(async move { hear_out(&mut body).await });
        }
    }
}

/// A request's body. Clones are the same body: whoever reads first has it.
#[derive(Clone)]
pub struct Outgoing(Option<Arc<Mutex<Source>>>);

impl Outgoing {
    /// Of a request in `version`.
    pub fn new(body: Incoming, version: Version) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        Self(Some(Arc::new(Mutex::new(Source {
            body: Some(body),
            is_stream: version == Version::HTTP_2,
            pieces: 0,
            bytes: 0,
            stalled: false,
            waits: false,
            pause: Box::pin(sleep(BODY_PAUSE)),
        }))))
    }

    pub fn empty() -> Self {
        Self(None)
    }

    /// Nothing of it has been read: it may be sent again.
    pub fn is_whole(&self) -> bool {
        self.pieces() == 0
    }

    /// The client stopped sending it.
    pub fn is_stalled(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|s| s.lock().expect("not poisoned").stalled)
    }

    /// How many pieces of it have been read.
    pub fn pieces(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |s| s.lock().expect("not poisoned").pieces)
    }
}

impl Outgoing {
    /// Of data, read so far.
    pub fn bytes(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |s| s.lock().expect("not poisoned").bytes)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Some(source) = &self.0 else {
            return Poll::Ready(None);
        };
        let mut guard = source.lock().expect("not poisoned");
        let source = &mut *guard;
        let Some(body) = &mut source.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(frame) => {
                source.pieces += 1;
                if let Some(Ok(frame)) = &frame {
                    source.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                source.waits = false;
                Poll::Ready(frame.map(|f| f.map_err(Into::into)))
            }
            Poll::Pending => {
                if !std::mem::replace(&mut source.waits, true) {
                    source.pause.as_mut().reset(Instant::now() + BODY_PAUSE);
                }
                source.pause.as_mut().poll(context).map(|()| {
                    source.stalled = true;
                    Some(Err("the client stopped sending".into()))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|s| {
            let source = s.lock().expect("not poisoned");
            source.body.as_ref().is_none_or(Incoming::is_end_stream)
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(source) => {
                let source = source.lock().expect("not poisoned");
                source
                    .body
                    .as_ref()
                    .map_or(SizeHint::with_exact(0), Incoming::size_hint)
            }
        }
    }
}

enum Content {
    Passed(Incoming),
    Own(Full<Bytes>),
}

/// A response's body.
pub struct Reply {
    content: Content,
    record: Option<Box<Record>>,
    reader: Option<Reader>,
}

impl Reply {
    pub fn passed(body: Incoming, record: Option<Box<Record>>) -> Self {
        Self {
            content: Content::Passed(body),
            record,
            reader: None,
        }
    }

    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self {
            content: Content::Own(Full::new(bytes.into())),
            record: None,
            reader: None,
        }
    }

    /// It tells `streams` when its client reads on.
    pub fn read_by(mut self, streams: &Arc<Streams>) -> Self {
        self.reader = Some(Reader::new(streams));
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(reader) = &mut this.reader {
            reader.asks();
        }
        let frame = this.poll_content(context);
        if let (Poll::Ready(Some(Ok(_))), Some(reader)) = (&frame, &mut this.reader) {
            reader.has();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Passed(body) => body.is_end_stream(),
            Content::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Passed(body) => body.size_hint(),
            Content::Own(body) => body.size_hint(),
        }
    }
}

impl Reply {
    fn poll_content(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.content {
            Content::Passed(body) => {
                let frame = Pin::new(body).poll_frame(context);
                if let (Poll::Ready(Some(Ok(frame))), Some(record)) = (&frame, &mut self.record) {
                    record.access.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                frame
            }
            Content::Own(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|f| f.map_err(|never: Infallible| match never {}))),
        }
    }
}
