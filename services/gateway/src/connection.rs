//! One client's connection: TLS or not, HTTP/1.1 the short way or by the general server,
//! HTTP/2 from its first bytes or by agreement in TLS.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::client::Patient;
use crate::http1::Forward;
use crate::limits::{
    FRAMES_BYTES_MAX, HANDSHAKE_TIME, HEADER_BYTES_MAX, HEADER_TIME, HEADERS_MAX, PING_EVERY,
    PING_TIME, STREAMS_MAX,
};
use crate::proxy::{self, Gateway};
use crate::relay::{self, Peer};
use crate::streams::Streams;

/// How a client of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

pub async fn serve(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    ip: IpAddr,
    is_secure: bool,
    ending: watch::Receiver<bool>,
) {
    let peer = Peer {
        ip,
        forward: Forward::new(ip, is_secure, &gateway.pseudonym),
    };
    if !is_secure {
        return speak(gateway, stream, peer, false, ending).await;
    }
    let Some(acceptor) = gateway.tls.as_ref().map(|tls| tls.acceptor()) else {
        return;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream));
    let Ok(Ok(stream)) = handshake.await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if is_http2 {
        return general(gateway, stream, Vec::new(), true, ip, true, ending).await;
    }
    speak(gateway, stream, peer, true, ending).await;
}

async fn speak<S>(
    gateway: Arc<Gateway>,
    stream: S,
    peer: Peer,
    is_secure: bool,
    ending: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let left = relay::serve(stream, &peer, &gateway, ending.clone()).await;
    if let Some((stream, read)) = left {
        let is_http2 = read.starts_with(PREFACE);
        general(gateway, stream, read, is_http2, peer.ip, is_secure, ending).await;
    }
}

/// The general server, for all that HTTP may be.
async fn general<S>(
    gateway: Arc<Gateway>,
    stream: S,
    read: Vec<u8>,
    is_http2: bool,
    peer: IpAddr,
    is_secure: bool,
    mut ending: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, is_http) = Patient::of_http(Begun {
        read,
        at: 0,
        stream,
    });
    let stream = TokioIo::new(stream);
    let streams = Arc::new(Streams::new());
    let of_each = streams.clone();
    let service = service_fn(move |request| {
        let (gateway, is_http, streams) = (gateway.clone(), is_http.clone(), of_each.clone());
        async move {
            let response = proxy::answer(gateway, peer, is_secure, request).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                is_http.store(false, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(match is_http2 {
                true => response.map(|reply| reply.read_by(&streams)),
                false => response,
            })
        }
    });
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .max_send_buf_size(FRAMES_BYTES_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIME)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        let served = async {
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = ending.wait_for(|is| *is) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        };
        tokio::select! {
            () = served => {}
            () = streams.stall() => {}
        }
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEADER_BYTES_MAX)
            .max_buf_size(2 * HEADER_BYTES_MAX)
            .half_close(false)
            .serve_connection(stream, service)
            .with_upgrades();
        let mut connection = pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = ending.wait_for(|is| *is) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// A stream of which the first bytes have been read.
struct Begun<S> {
    read: Vec<u8>,
    at: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.at < this.read.len() {
            let part = buffer.remaining().min(this.read.len() - this.at);
            buffer.put_slice(&this.read[this.at..this.at + part]);
            this.at += part;
            if this.at == this.read.len() {
                (this.read, this.at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
