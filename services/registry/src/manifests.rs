//! Manifests, the tags that name them, and what refers to them.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use types::{AccountId, Digest};

use crate::answer::{Answer, Refused, disk, refused};
use crate::blobs::wanted;
use crate::http::{Query, Registry, created, kept};
use crate::keep::{self, Manifest};
use crate::limits::{KIND_BYTES_MAX, MANIFEST_BYTES_MAX, PAGE_MAX, SMALL_BODY_TIME};
use crate::route::is_tag;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn unknown() -> Refused {
    refused(
        404,
        "MANIFEST_UNKNOWN",
        "the repository has no such manifest",
    )
}

/// A manifest is asked for by digest or by tag.
enum At<'a> {
    Digest(Digest),
    Tag(&'a str),
}

fn at(text: &str) -> Result<At<'_>, Refused> {
    if let Some(digest) = crate::route::digest(text) {
        return Ok(At::Digest(digest));
    }
    if text.contains(':') {
        return wanted(text).map(At::Digest);
    }
    if is_tag(text) {
        return Ok(At::Tag(text));
    }
    let why = "a tag has at most 128 letters, digits, . _ and -";
    Err(refused(400, "MANIFEST_INVALID", why))
}

/// Whole or not at all, in bounded time.
pub async fn small_body(body: Body, most: usize) -> Result<Vec<u8>, Refused> {
    let read = axum::body::to_bytes(body, most);
    let bytes = tokio::time::timeout(SMALL_BODY_TIME, read)
        .await
        .map_err(|_| refused(408, "SIZE_INVALID", "it took too long to arrive"))?
        .map_err(|_| refused(413, "SIZE_INVALID", format!("it has at most {most} bytes")))?;
    Ok(bytes.to_vec())
}

impl Registry {
    pub async fn read_manifest(&self, name: &str, text: &str, head: bool) -> Answer {
        let at = match at(text)? {
            At::Digest(digest) => Ok(digest),
            At::Tag(tag) => Err(tag.to_string()),
        };
        let name = name.to_string();
        let found = self.keep.run(move |keep| {
            let digest = match at {
                Ok(digest) => Some(digest),
                Err(tag) => keep.tag(&name, &tag),
            };
            Ok(digest.and_then(|d| Some((d, keep.manifest(&name, &d)?))))
        });
        let (digest, manifest) = found.await.map_err(disk)?.ok_or_else(unknown)?;
        Response::builder()
            .header("content-type", manifest.kind)
            .header("docker-content-digest", digest.to_string())
            .header("content-length", manifest.bytes.len())
            .body(if head {
                Body::empty()
            } else {
                manifest.bytes.into()
            })
            .map_err(|e| refused(500, "UNKNOWN", e))
    }

    pub async fn put_manifest(
        &self,
        account: AccountId,
        name: &str,
        text: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Answer {
        let at = at(text)?;
        let bytes = small_body(body, MANIFEST_BYTES_MAX).await?;
        let invalid = |why: String| refused(400, "MANIFEST_INVALID", why);
        let parsed: Value = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        if parsed["schemaVersion"] != 2 {
            return Err(invalid("its schemaVersion is not 2".into()));
        }
        let inside = parsed["mediaType"].as_str();
        let told = headers.get("content-type").and_then(|v| v.to_str().ok());
        let kind = match (told, inside) {
            (Some(told), Some(inside)) if told != inside => {
                return Err(invalid(format!(
                    "its mediaType is {inside}, its Content-Type another"
                )));
            }
            (told, inside) => told.or(inside).unwrap_or_default(),
        };
        if kind.is_empty() || kind.len() > KIND_BYTES_MAX || !kind.contains('/') {
            return Err(invalid("say what it is in Content-Type".into()));
        }
        let mut named = keep::parse(&bytes)
            .ok_or_else(|| invalid("it names something other than by sha256".into()))?;
        named.descriptor["mediaType"] = kind.into();
        let tag = match at {
            At::Digest(digest) if digest == Digest::of(&bytes) => None,
            At::Digest(_) => {
                let why = "the manifest is not what its digest says";
                return Err(refused(400, "DIGEST_INVALID", why));
            }
            At::Tag(tag) => Some(tag.to_string()),
        };
        let (repository, owner) = (name.to_string(), account.to_string());
        let manifest = Manifest {
            kind: kind.into(),
            bytes,
        };
        let most = self.config.account_bytes_max;
        let subject = named.subject;
        let put = self.keep.run(move |keep| {
            let missing = named
                .blobs
                .iter()
                .find(|blob| !keep.blob(&repository, blob).exists());
            if let Some(missing) = missing {
                return Ok(Err(*missing));
            }
            if keep.used(&owner) + manifest.bytes.len() as u64 > most {
                let why = format!("the account's repositories may have {most} bytes");
                return Err(std::io::Error::new(std::io::ErrorKind::QuotaExceeded, why));
            }
            keep.put_manifest(&repository, &manifest, &named, tag.as_deref())
                .map(Ok)
        });
        match put.await.map_err(kept)? {
            Ok(digest) => {
                let mut response = created(name, &digest, "manifests");
                if let Some(subject) = subject
                    && let Ok(value) = subject.to_string().parse()
                {
                    response.headers_mut().insert("oci-subject", value);
                }
                Ok(response)
            }
            Err(missing) => {
                let why = format!("push its blobs first: the repository has no {missing}");
                Err(refused(400, "MANIFEST_BLOB_UNKNOWN", why))
            }
        }
    }

    pub async fn delete_manifest(&self, name: &str, text: &str) -> Answer {
        let name = name.to_string();
        let removed = match at(text)? {
            At::Digest(digest) => {
                let removing = move |keep: &keep::Keep| keep.remove_manifest(&name, &digest);
                self.keep.run(removing).await
            }
            At::Tag(tag) => {
                let tag = tag.to_string();
                self.keep
                    .run(move |keep| keep.remove_tag(&name, &tag))
                    .await
            }
        };
        match removed.map_err(disk)? {
            true => Ok(StatusCode::ACCEPTED.into_response()),
            false => Err(unknown()),
        }
    }

    /// All, or with `n` a page of them, after `last`.
    pub async fn tags(&self, name: &str, query: &Query) -> Answer {
        let repository = name.to_string();
        let tags = self.keep.run(move |keep| Ok(keep.tags(&repository)));
        let tags = tags.await.map_err(disk)?;
        let Some(mut tags) = tags else {
            return Err(refused(404, "NAME_UNKNOWN", "there is no such repository"));
        };
        if let Some(last) = query.get("last") {
            tags.retain(|tag| tag.as_str() > last);
        }
        let mut link = None;
        if let Some(n) = query.get("n") {
            let n: usize = n
                .parse()
                .map_err(|_| refused(400, "UNSUPPORTED", "n is how many tags"))?;
            let more = tags.len() > n;
            tags.truncate(n);
            link = tags
                .last()
                .filter(|_| more)
                .map(|last| format!("</v2/{name}/tags/list?n={n}&last={last}>; rel=\"next\""));
        }
        let body = axum::Json(json!({ "name": name, "tags": tags }));
        Ok(linked(body.into_response(), link))
    }

    pub async fn referrers(&self, name: &str, digest: &str, query: &Query) -> Answer {
        let subject = wanted(digest)?;
        let repository = name.to_string();
        let all = self
            .keep
            .run(move |keep| Ok(keep.referrers(&repository, &subject)));
        let mut all = all.await.map_err(disk)?;
        let kind = query.get("artifactType");
        if let Some(kind) = kind {
            all.retain(|(_, descriptor)| descriptor["artifactType"] == kind);
        }
        if let Some(last) = query.get("last") {
            all.retain(|(file, _)| file.as_str() > last);
        }
        let more = all.len() > PAGE_MAX;
        all.truncate(PAGE_MAX);
        let link = all.last().filter(|_| more).map(|(last, _)| {
            let kind = kind.map_or(String::new(), |kind| {
                format!(
                    "&artifactType={}",
                    kind.replace('+', "%2B").replace('&', "%26")
                )
            });
            format!("</v2/{name}/referrers/{subject}?last={last}{kind}>; rel=\"next\"")
        });
        let manifests: Vec<Value> = all.into_iter().map(|(_, descriptor)| descriptor).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let mut response = ([("content-type", INDEX)], index.to_string()).into_response();
        if kind.is_some()
            && let Ok(value) = "artifactType".parse()
        {
            response.headers_mut().insert("oci-filters-applied", value);
        }
        Ok(linked(response, link))
    }
}

fn linked(mut response: Response, link: Option<String>) -> Response {
    if let Some(value) = link.and_then(|l| l.parse().ok()) {
        response.headers_mut().insert("link", value);
    }
    response
}
