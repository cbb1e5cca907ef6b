//! Put images into the network's registry.

use std::path::Path;

use bytes::Bytes;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use types::{Digest, ImageRef};

use crate::client::{Access, Ask, Client, Place, Signer, failed};
use crate::fetch::{Source, names};
use crate::reference::{NETWORK_REGISTRY, parse, pinned};
use crate::{ImageError, LocalImage};

/// A larger blob goes up in pieces of this size: what is lost at a cut, and held in memory.
const PIECE: u64 = 16 << 20;
/// Cuts in a row.
const CUTS_MAX: u32 = 4;
const OCTETS: &str = "application/octet-stream";

/// Where [`push`] and [`copy`] put images.
struct Target {
    client: Client,
    place: Place,
}

impl Target {
    fn new(
        registry: &str,
        repository: &str,
        tag: &str,
        signer: &Signer,
    ) -> Result<Self, ImageError> {
        let client = Client::new(Access {
            network: Some(registry.into()),
            signer: Some(signer.clone()),
            ..Access::default()
        });
        let reference = parse(&format!("{NETWORK_REGISTRY}/{repository}:{tag}"))?;
        let place = client.place(&reference)?;
        Ok(Self { client, place })
    }

    fn failed(&self, why: impl ToString) -> ImageError {
        failed("push", &self.place.name, why)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(&'static str, String)>,
        body: Option<Bytes>,
    ) -> Result<Response, ImageError> {
        let ask = Ask {
            repeatable: method != Method::PATCH && method != Method::POST,
            method,
            path,
            headers,
            body,
        };
        self.client.send(&self.place, ask).await
    }

    async fn blob(&self, digest: &Digest, file: &Path) -> Result<(), ImageError> {
        let path = format!("/v2/{}/blobs/{digest}", self.place.repository);
        match self.send(Method::HEAD, &path, Vec::new(), None).await {
            Ok(_) => return Ok(()),
            Err(ImageError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let io = |e: std::io::Error| self.failed(e);
        let mut file = tokio::fs::File::open(file).await.map_err(io)?;
        let size = file.metadata().await.map_err(io)?.len();
        let kind = || ("content-type", OCTETS.to_string());
        let begin = format!("/v2/{}/blobs/uploads/", self.place.repository);
        if size <= PIECE {
            let piece = piece(&mut file, 0).await.map_err(io)?;
            let path = format!("{begin}?digest={digest}");
            self.send(Method::POST, &path, vec![kind()], Some(piece))
                .await?;
            return Ok(());
        }
        let begun = self
            .send(Method::POST, &begin, Vec::new(), Some(Bytes::new()))
            .await?;
        let upload = location(&begun).ok_or_else(|| self.failed("it was told no place"))?;
        let (mut at, mut cuts) = (0, 0);
        while at < size {
            let piece = piece(&mut file, at).await.map_err(io)?;
            let end = at + piece.len() as u64;
            let range = ("content-range", format!("{at}-{}", end - 1));
            let headers = vec![kind(), range];
            match self
                .send(Method::PATCH, &upload, headers, Some(piece))
                .await
            {
                Ok(_) => (at, cuts) = (end, 0),
                Err(error) => {
                    cuts += 1;
                    if cuts > CUTS_MAX || !error.is_temporary() {
                        return Err(error);
                    }
                    // As far as it came.
                    let status = self.send(Method::GET, &upload, Vec::new(), None).await?;
                    at = kept(&status).filter(|kept| *kept <= size).unwrap_or(0);
                }
            }
        }
        let join = if upload.contains('?') { '&' } else { '?' };
        let path = format!("{upload}{join}digest={digest}");
        self.send(Method::PUT, &path, vec![kind()], Some(Bytes::new()))
            .await?;
        Ok(())
    }

    async fn manifest(&self, name: &str, bytes: Vec<u8>) -> Result<(), ImageError> {
        let kind = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|m| Some(m["mediaType"].as_str()?.to_string()))
            .unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".into());
        let path = format!("/v2/{}/manifests/{name}", self.place.repository);
        let headers = vec![("content-type", kind)];
        self.send(Method::PUT, &path, headers, Some(bytes.into()))
            .await?;
        Ok(())
    }
}

async fn piece(file: &mut tokio::fs::File, at: u64) -> std::io::Result<Bytes> {
    file.seek(std::io::SeekFrom::Start(at)).await?;
    let mut bytes = Vec::new();
    file.take(PIECE).read_to_end(&mut bytes).await?;
    Ok(bytes.into())
}

/// Path and query of where an upload goes on.
fn location(response: &Response) -> Option<String> {
    let text = response.headers().get("location")?.to_str().ok()?;
    let url = response.url().join(text).ok()?;
    Some(match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().into(),
    })
}

/// Bytes that an upload has: `0-<last>`.
fn kept(response: &Response) -> Option<u64> {
    let range = response.headers().get("range")?.to_str().ok()?;
    let last: u64 = range.rsplit_once('-')?.1.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Puts an opened image into the network's registry under `tag`.
///
/// `registry`: URL of a gateway; `repository`: `<account>/<name>`.
pub async fn push(
    image: &LocalImage,
    registry: &str,
    repository: &str,
    tag: &str,
    signer: &Signer,
) -> Result<ImageRef, ImageError> {
    let target = Target::new(registry, repository, tag, signer)?;
    let bytes = std::fs::read(image.blob(&image.manifest)).map_err(|e| target.failed(e))?;
    let mut waiting = vec![(image.manifest, bytes)];
    let mut ready = Vec::new();
    while let Some((digest, bytes)) = waiting.pop() {
        let (blobs, manifests) =
            names(&bytes).ok_or_else(|| target.failed("its manifest cannot be read"))?;
        for blob in blobs {
            target.blob(&blob, &image.blob(&blob)).await?;
        }
        for inner in manifests {
            // An index may name platforms that were not exported.
            if let Ok(bytes) = std::fs::read(image.blob(&inner)) {
                waiting.push((inner, bytes));
            }
        }
        ready.push((digest, bytes));
    }
    // Inner ones first: what a tag names is all there.
    while let Some((digest, bytes)) = ready.pop() {
        let name = if digest == image.manifest {
            tag.to_string()
        } else {
            digest.to_string()
        };
        target.manifest(&name, bytes).await?;
    }
    Ok(ImageRef {
        reference: format!("{NETWORK_REGISTRY}/{repository}:{tag}"),
        digest: image.manifest,
    })
}

/// Copies a (private) image into the network's registry, so that hosts need no credentials.
///
/// Every blob is verified on the way.
pub async fn copy(
    from: &ImageRef,
    access: &Access,
    registry: &str,
    repository: &str,
    tag: &str,
    signer: &Signer,
) -> Result<ImageRef, ImageError> {
    let source = Source::new(access.clone());
    let io = |e: std::io::Error| failed("copy", &from.reference, e);
    let folder = tempfile::tempdir().map_err(io)?;
    let reference = pinned(from)?;
    let image = LocalImage {
        names: Vec::new(),
        manifest: from.digest,
        layout: folder.path().into(),
    };
    std::fs::create_dir_all(folder.path().join("blobs/sha256")).map_err(io)?;
    let same = |what: &str, expected: Digest, actual: Digest| match actual == expected {
        true => Ok(()),
        false => Err(ImageError::Corrupt {
            reference: from.reference.clone(),
            what: what.into(),
            expected,
            actual,
        }),
    };
    let mut waiting = vec![from.digest];
    while let Some(digest) = waiting.pop() {
        let at = reference.clone_with_digest(digest.to_string());
        let (bytes, actual) = source.manifest(&at).await?;
        same("the manifest", digest, actual)?;
        std::fs::write(image.blob(&digest), &bytes).map_err(io)?;
        let (blobs, manifests) = names(&bytes)
            .ok_or_else(|| failed("copy", &from.reference, "its manifest cannot be read"))?;
        for blob in blobs {
            let path = image.blob(&blob);
            if !path.exists() {
                let actual = source.blob(&at, &blob, &path, u64::MAX).await?;
                same("a blob", blob, actual)?;
            }
        }
        waiting.extend(manifests);
    }
    push(&image, registry, repository, tag, signer).await
}
