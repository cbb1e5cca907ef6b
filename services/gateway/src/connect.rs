//! Reach a replica, an agent, a registry or a validator: a stream of bytes either way.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use types::AllocationId;

use crate::hearing::Hearing;
use crate::limits::{CONNECT_TIME, KEEPALIVE, TUNNEL_TIME};
use crate::table::{Reach, TUNNEL_SUFFIX, Table};

pub enum Stream {
    Direct(TcpStream),
    Tunnel(TokioIo<Upgraded>),
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not answer"))
}

/// Small packets at once, and dead peers noticed.
pub fn tune(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    let socket = socket2::SockRef::from(stream);
    // A connection that cannot be tuned still works.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIME, TcpStream::connect(address))
        .await
        .map_err(|_| late(address))??;
    tune(&stream);
    Ok(stream)
}

/// To `port` of a replica.
pub async fn dial(reach: &Reach, allocation: AllocationId, port: u16) -> io::Result<Stream> {
    match reach {
        Reach::Direct(address) => {
            let address = SocketAddr::from((*address, port));
            let stream = timeout(CONNECT_TIME, TcpStream::connect(address))
                .await
                .map_err(|_| late("the container"))??;
            tune(&stream);
            Ok(Stream::Direct(stream))
        }
        Reach::Tunnel(agent) => timeout(TUNNEL_TIME, tunnel(agent, allocation, port))
            .await
            .map_err(|_| late("the host"))?,
    }
}

async fn tunnel(agent: &str, allocation: AllocationId, port: u16) -> io::Result<Stream> {
    let stream = tcp(agent).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(format!("/v1/allocations/{allocation}/tunnel/{port}"))
        .header(header::HOST, agent)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "runrig-tunnel")
        .body(Empty::new())
        .map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("the host answered {}", response.status()),
        ));
    }
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(io::Error::other)?;
    Ok(Stream::Tunnel(TokioIo::new(upgraded)))
}

/// What the HTTP client connects with: names that end in [`TUNNEL_SUFFIX`] stand for tunnels.
#[derive(Clone)]
pub struct Connector {
    pub table: Arc<ArcSwap<Table>>,
}

impl Connector {
    async fn connect(self, uri: Uri) -> io::Result<Stream> {
        let authority = uri
            .authority()
            .ok_or_else(|| io::Error::other("no address"))?;
        let Some(name) = authority.host().strip_suffix(TUNNEL_SUFFIX) else {
            return Ok(Stream::Direct(tcp(authority.as_str()).await?));
        };
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "the replica is gone");
        let allocation: AllocationId = name.parse().map_err(|_| unknown())?;
        let agent = self
            .table
            .load()
            .agent(allocation)
            .cloned()
            .ok_or_else(unknown)?;
        let port = authority.port_u16().unwrap_or(80);
        dial(&Reach::Tunnel(agent), allocation, port).await
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Hearing<Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async { Ok(TokioIo::new(Hearing::new(connecting.await?))) })
    }
}

impl<S> Connection for Hearing<S> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tunnel(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tunnel(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_flush(context),
            Self::Tunnel(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tunnel(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
