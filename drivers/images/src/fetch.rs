//! Get manifests and blobs from registries.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use oci_spec::distribution::Reference;
use reqwest::header::CONTENT_RANGE;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use types::{Digest, ImageRef};

use crate::ImageError;
use crate::client::{Access, Ask, Client, bounded, failed};
use crate::reference::parse;

const MANIFEST_MAX: usize = 4 << 20;
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Cut connections in one blob.
const CUTS_MAX: u32 = 50;
/// In a row without a byte in between.
const IDLE_CUTS_MAX: u32 = 4;

pub struct Source {
    client: Client,
}

impl Source {
    pub fn new(access: Access) -> Self {
        Self {
            client: Client::new(access),
        }
    }

    /// Bytes of the manifest and what they hash to; by tag or by digest, unchecked.
    pub async fn manifest(&self, reference: &Reference) -> Result<(Vec<u8>, Digest), ImageError> {
        let place = self.client.place(reference)?;
        let at = reference.digest().or(reference.tag()).unwrap_or("latest");
        let path = format!("/v2/{}/manifests/{at}", place.repository);
        let ask = Ask {
            headers: vec![("accept", MANIFESTS.join(", "))],
            ..Ask::get(&path)
        };
        let response = self.client.send(&place, ask).await?;
        let bytes = bounded(response, MANIFEST_MAX)
            .await
            .map_err(|why| failed("fetch", &place.name, why))?;
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }

    /// Streams a blob into `file`; returns what its bytes hash to. At most `most` bytes.
    ///
    /// After a cut connection it goes on where it was, if the registry can.
    pub async fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        file: &Path,
        most: u64,
    ) -> Result<Digest, ImageError> {
        let place = self.client.place(reference)?;
        let path = format!("/v2/{}/blobs/{digest}", place.repository);
        let io = |e: std::io::Error| failed("keep", &place.name, e);
        let mut out = tokio::fs::File::create(file).await.map_err(io)?;
        let mut hasher = Sha256::new();
        let mut bytes = 0u64;
        let (mut cuts, mut idle_cuts) = (0, 0);
        loop {
            let mut ask = Ask::get(&path);
            if bytes > 0 {
                ask.headers.push(("range", format!("bytes={bytes}-")));
            }
            let response = self.client.send(&place, ask).await?;
            if bytes > 0 && !goes_on(&response, bytes) {
                out.set_len(0).await.map_err(io)?;
                out.rewind().await.map_err(io)?;
                hasher = Sha256::new();
                bytes = 0;
            }
            let before = bytes;
            let mut stream = response.bytes_stream();
            let cut = loop {
                match stream.next().await {
                    None => break None,
                    Some(Err(error)) => break Some(error),
                    Some(Ok(chunk)) => {
                        bytes += chunk.len() as u64;
                        if bytes > most {
                            return Err(ImageError::Unusable {
                                reference: place.name,
                                why: format!("a blob has more than the {most} bytes that it may"),
                            });
                        }
                        hasher.update(&chunk);
                        out.write_all(&chunk).await.map_err(io)?;
                    }
                }
            };
            let Some(error) = cut else { break };
            cuts += 1;
            idle_cuts = if bytes > before { 1 } else { idle_cuts + 1 };
            if cuts > CUTS_MAX || idle_cuts > IDLE_CUTS_MAX {
                let why = format!("the connection was cut {cuts} times, at last by: {error}");
                return Err(failed("fetch", &place.name, why));
            }
            tracing::info!(image = place.name, bytes, %error, "a download was cut off; it goes on");
            tokio::time::sleep(Duration::from_millis(200) * idle_cuts * idle_cuts).await;
        }
        out.flush().await.map_err(io)?;
        Ok(Digest(hasher.finalize().into()))
    }
}

/// The answer begins at byte `from`, not at the first one.
fn goes_on(response: &reqwest::Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    response.status().as_u16() == 206
        && range
            .and_then(|r| r.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
            .is_some_and(|(first, _)| first.parse() == Ok(from))
}

/// Pins a reference: tag → digest of the manifest or index it names now.
pub async fn resolve(reference: &str, access: &Access) -> Result<ImageRef, ImageError> {
    let parsed = parse(reference)?;
    let (_, digest) = Source::new(access.clone()).manifest(&parsed).await?;
    if let Some(wanted) = parsed.digest()
        && wanted != digest.to_string()
    {
        return Err(ImageError::Corrupt {
            reference: parsed.whole(),
            what: "the manifest".into(),
            expected: wanted.parse().unwrap_or_default(),
            actual: digest,
        });
    }
    Ok(ImageRef {
        reference: parsed.whole(),
        digest,
    })
}

/// Digests that a manifest names: (config and layers, manifests of an index). `None` if it
/// cannot be read or names one of a kind that is not known here.
pub fn names(manifest: &[u8]) -> Option<(Vec<Digest>, Vec<Digest>)> {
    let manifest: Value = serde_json::from_slice(manifest).ok()?;
    let digest = |value: &Value| crate::reference::digest(value["digest"].as_str()?);
    let list = |key: &str| -> Option<Vec<Digest>> {
        match manifest[key].as_array() {
            Some(all) => all.iter().map(digest).collect(),
            None => Some(Vec::new()),
        }
    };
    let mut blobs = list("layers")?;
    if manifest["config"].is_object() {
        blobs.push(digest(&manifest["config"])?);
    }
    Some((blobs, list("manifests")?))
}
