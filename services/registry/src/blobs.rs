//! Blobs are read whole or in part, and deleted.

use std::io::SeekFrom;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use types::Digest;

use crate::answer::{Answer, Refused, disk, refused};
use crate::http::Registry;

const PIECE_BYTES: usize = 1 << 17;

fn unknown() -> Refused {
    refused(404, "BLOB_UNKNOWN", "the repository has no such blob")
}

pub fn wanted(text: &str) -> Result<Digest, Refused> {
    crate::route::digest(text).ok_or_else(|| {
        let why = "a digest is sha256: and 64 hex digits; other kinds are not kept here";
        refused(400, "DIGEST_INVALID", why)
    })
}

impl Registry {
    pub async fn read_blob(
        &self,
        name: &str,
        digest: &str,
        headers: &HeaderMap,
        head: bool,
    ) -> Answer {
        let digest = wanted(digest)?;
        let mut file = tokio::fs::File::open(self.keep.blob(name, &digest))
            .await
            .map_err(|_| unknown())?;
        let size = file.metadata().await.map_err(disk)?.len();
        let asked = headers.get("range").and_then(|v| v.to_str().ok());
        let (from, to, code) = match asked.and_then(|text| range(text, size)) {
            Some(Some((from, to))) => (from, to, StatusCode::PARTIAL_CONTENT),
            Some(None) => {
                return Err(refused(416, "SIZE_INVALID", "there is no such range")
                    .with("content-range", format!("bytes */{size}")));
            }
            None => (0, size, StatusCode::OK),
        };
        file.seek(SeekFrom::Start(from)).await.map_err(disk)?;
        let mut response = Response::builder()
            .status(code)
            .header("content-type", "application/octet-stream")
            .header("accept-ranges", "bytes")
            .header("docker-content-digest", digest.to_string())
            .header("content-length", to - from);
        if code == StatusCode::PARTIAL_CONTENT {
            response = response.header("content-range", format!("bytes {from}-{}/{size}", to - 1));
        }
        let body = match head {
            true => Body::empty(),
            false => Body::from_stream(ReaderStream::with_capacity(
                file.take(to - from),
                PIECE_BYTES,
            )),
        };
        response.body(body).map_err(|e| refused(500, "UNKNOWN", e))
    }

    pub async fn delete_blob(&self, name: &str, digest: &str) -> Answer {
        let digest = wanted(digest)?;
        let name = name.to_string();
        let removed = self.keep.run(move |keep| keep.remove_blob(&name, &digest));
        match removed.await.map_err(disk)? {
            true => Ok(StatusCode::ACCEPTED.into_response()),
            false => Err(unknown()),
        }
    }
}

/// First byte and the one after the last. `None`: send all, as for what cannot be read or
/// names several. `Some(None)`: a range that is not there.
fn range(text: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (from, to) = match (from.trim(), to.trim()) {
        ("", last) => (size.saturating_sub(number(last)?), size),
        (from, "") => (number(from)?, size),
        (from, to) => (number(from)?, number(to)?.saturating_add(1).min(size)),
    };
    Some((from < to).then_some((from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_the_specification_of_http_has_them() {
        for (text, expected) in [
            ("bytes=0-", Some(Some((0, 10)))),
            ("bytes=0-0", Some(Some((0, 1)))),
            ("bytes=3-5", Some(Some((3, 6)))),
            ("bytes=3-99", Some(Some((3, 10)))),
            ("bytes=-3", Some(Some((7, 10)))),
            ("bytes=-30", Some(Some((0, 10)))),
            ("bytes=-0", Some(None)),
            ("bytes=10-", Some(None)),
            ("bytes=5-3", Some(None)),
            ("bytes=0-18446744073709551615", Some(Some((0, 10)))),
            ("bytes=1-2,4-5", None),
            ("bytes=x-", None),
            ("lines=1-2", None),
            ("", None),
        ] {
            assert_eq!(range(text, 10), expected, "{text}");
        }
    }
}
