//! gRPC to replicas: HTTP/2 without TLS by prior knowledge, many requests on one connection.

use std::cell::RefCell;
use std::collections::HashMap;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::connect::dial;
use crate::limits::{FRAMES_BYTES_MAX, GRPC_KEPT_MAX, HEADER_BYTES_MAX, PING_EVERY, PING_TIME};
use crate::outgoing::Outgoing;
use crate::pool::Key;
use crate::table::{Replica, Table};

thread_local! {
    /// The worker's connections. One that is not used ends when its replica does.
    static KEPT: RefCell<HashMap<Key, SendRequest<Outgoing>>> = RefCell::default();
}

/// Sends `request` to `port` of `replica`.
///
/// Errors: whether nothing has been sent, and why.
pub async fn request(
    replica: &Replica,
    port: u16,
    request: Request<Outgoing>,
) -> Result<Response<Incoming>, (bool, String)> {
    let key = (replica.allocation, port);
    let kept = KEPT.with(|kept| kept.borrow().get(&key).cloned());
    let mut sender = match kept.filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => {
            let sender = connect(replica, port).await.map_err(|why| (true, why))?;
            KEPT.with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() < GRPC_KEPT_MAX {
                    kept.insert(key, sender.clone());
                }
            });
            sender
        }
    };
    let ready = sender.ready().await;
    ready.map_err(|e| (true, e.to_string()))?;
    sender
        .send_request(request)
        .await
        .map_err(|e| (e.is_canceled(), e.to_string()))
}

async fn connect(replica: &Replica, port: u16) -> Result<SendRequest<Outgoing>, String> {
    let stream = dial(&replica.reach, replica.allocation, port)
        .await
        .map_err(|e| e.to_string())?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_send_buf_size(FRAMES_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Lets go of connections that have ended, or whose replica has: they end with what is under
/// way.
pub fn tidy(table: &Table) {
    KEPT.with(|kept| {
        kept.borrow_mut()
            .retain(|key, sender| table.has(key.0) && !sender.is_closed());
    });
}
