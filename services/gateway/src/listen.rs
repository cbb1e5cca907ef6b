//! Accept clients, bounded in all and for each, and give them to the workers.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::client::Shares;
use crate::connect::tune;
use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_SHARE};
use crate::worker::{Accepted, Workers};

/// Accepts from `plain`, and from `secure` with TLS, until `shutdown`; then what is under way
/// is answered.
pub async fn serve(
    plain: TcpListener,
    secure: Option<TcpListener>,
    workers: Workers,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let shares = Shares::new(CONNECTIONS_SHARE);
    let mut shutdown = pin!(shutdown);
    loop {
        let place = tokio::select! {
            () = &mut shutdown => break,
            place = places.clone().acquire_owned() => place.expect("never closed"),
        };
        let (accepted, is_secure) = tokio::select! {
            () = &mut shutdown => break,
            accepted = plain.accept() => (accepted, false),
            accepted = accept(secure.as_ref()) => (accepted, true),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, or the client is gone already: the next may do better.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(share) = shares.take(peer.ip()) else {
            continue;
        };
        tune(&stream);
        let Ok(stream) = stream.into_std() else {
            continue;
        };
        workers.serve(Accepted {
            stream,
            peer: peer.ip().to_canonical(),
            is_secure,
            held: (place, share),
        });
    }
    drop((plain, secure));
    workers.end().await;
}

async fn accept(
    listener: Option<&TcpListener>,
) -> std::io::Result<(tokio::net::TcpStream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
