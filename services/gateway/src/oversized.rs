//! Bodies that a validator would refuse in the middle: refused here, so that no connection
//! to it breaks off and it is not taken for broken.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::outgoing::Reply;
use crate::page;

/// So much of a refused body is read and thrown away: who still sends does not hear.
const HEARD_OUT_BYTES: usize = 32 << 20;
const HEARD_OUT_TIME: Duration = Duration::from_secs(10);

/// The refusal of a body that says no length, or too great a one.
pub async fn refusal(request: &mut Request<Incoming>) -> Option<Response<Reply>> {
    let (status, why, next) = match length(request.headers()) {
        Some(length) if length <= api::BODY_BYTES_MAX as u64 => return None,
        None if request.body().is_end_stream() => return None,
        Some(length) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "its body has {length} bytes; at most {} are read",
                api::BODY_BYTES_MAX
            ),
            "Send less at once.",
        ),
        None => (
            StatusCode::LENGTH_REQUIRED,
            "it does not say how long its body is".to_string(),
            "Send it with Content-Length.",
        ),
    };
    // Late or too much: it is refused all the same.
    let _ = tokio::time::timeout(HEARD_OUT_TIME, hear_out(request.body_mut())).await;
    Some(page::problem(status, "invalid", "the request", why, next))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn hear_out(body: &mut Incoming) {
    let mut bytes = 0;
    while bytes < HEARD_OUT_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
}
