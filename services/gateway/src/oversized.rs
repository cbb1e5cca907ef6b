//! Bodies that a validator would refuse in the middle: refused here, so that no connection
//! to it breaks off and it is not taken for broken.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::limits::{LINGER_BYTES, LINGER_TIME};
use crate::outgoing::Reply;
use crate::page;

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
    hear_out(request.body_mut()).await;
    Some(page::problem(status, "invalid", "the request", why, next))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads what there is yet of a body and throws it away, within bounds: who still sends does not
/// hear.
pub async fn hear_out(body: &mut Incoming) {
    let reading = async {
        let mut bytes = 0;
        while bytes < LINGER_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
        }
    };
    // Late or too much: it has been refused all the same.
    let _ = tokio::time::timeout(LINGER_TIME, reading).await;
}
