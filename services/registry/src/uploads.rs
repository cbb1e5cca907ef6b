//! Blobs on their way in: all at once, or piece by piece.
//!
//! ```text
//! POST → begun → PATCH* → PUT ?digest= → kept, or gone if its bytes are not the digest's
//! ```
//! An upload belongs to the account and the repository that it was begun for, and is known by
//! a number that cannot be guessed. It is hashed as it comes; what came before a cut counts,
//! and the client may ask how much that was. Nothing of it survives the process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;
use types::{AccountId, Digest};

use crate::answer::{Answer, Refused, busy, disk, refused};
use crate::blobs::wanted;
use crate::http::{Query, Registry, kept};
use crate::limits::{
    PIECE_TIME, STREAMS_MAX, STREAMS_PER_ACCOUNT_MAX, UPLOADS_MAX, UPLOADS_PER_ACCOUNT_MAX,
};

/// The disk is looked at whenever so much more has come.
const DISK_CHECKED_EVERY: u64 = 64 << 20;

pub struct Upload {
    name: String,
    path: PathBuf,
    hasher: Sha256,
    bytes: u64,
    touched: Instant,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Gone already if it was published.
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Entry {
    account: AccountId,
    upload: Arc<tokio::sync::Mutex<Upload>>,
}

#[derive(Default)]
pub struct Uploads {
    all: Mutex<HashMap<String, Entry>>,
    /// Bodies being received, by account.
    streams: Mutex<HashMap<AccountId, usize>>,
}

/// A body that is being received.
struct Stream<'a> {
    uploads: &'a Uploads,
    account: AccountId,
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let mut streams = self.uploads.streams.lock().expect("not poisoned");
        if let Some(count) = streams.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.account);
            }
        }
    }
}

impl Uploads {
    pub fn streams(&self) -> usize {
        self.streams.lock().expect("not poisoned").values().sum()
    }

    fn stream(&self, account: AccountId) -> Result<Stream<'_>, Refused> {
        let mut streams = self.streams.lock().expect("not poisoned");
        let own = streams.get(&account).copied().unwrap_or(0);
        if own >= STREAMS_PER_ACCOUNT_MAX || streams.values().sum::<usize>() >= STREAMS_MAX {
            return Err(busy("too many uploads at once"));
        }
        *streams.entry(account).or_default() += 1;
        Ok(Stream {
            uploads: self,
            account,
        })
    }

    fn begin(&self, account: AccountId, upload: Upload) -> Result<String, Refused> {
        let mut all = self.all.lock().expect("not poisoned");
        let own = all.values().filter(|e| e.account == account).count();
        if own >= UPLOADS_PER_ACCOUNT_MAX || all.len() >= UPLOADS_MAX {
            return Err(busy("too many uploads are begun and not finished"));
        }
        let id = hex::encode(rand::random::<[u8; 16]>());
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        all.insert(id.clone(), Entry { account, upload });
        Ok(id)
    }

    fn find(
        &self,
        account: AccountId,
        name: &str,
        id: &str,
    ) -> Result<tokio::sync::OwnedMutexGuard<Upload>, Refused> {
        let unknown = || refused(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload");
        let all = self.all.lock().expect("not poisoned");
        let entry = all.get(id).filter(|e| e.account == account);
        let upload = entry.ok_or_else(unknown)?.upload.clone().try_lock_owned();
        let upload =
            upload.map_err(|_| refused(409, "BLOB_UPLOAD_INVALID", "it is being written to"))?;
        if upload.name == name {
            Ok(upload)
        } else {
            Err(unknown())
        }
    }

    fn forget(&self, id: &str) {
        self.all.lock().expect("not poisoned").remove(id);
    }

    /// Lets go of what nobody went on with.
    pub fn sweep(&self, idle: Duration) {
        let mut all = self.all.lock().expect("not poisoned");
        all.retain(|_, entry| match entry.upload.try_lock() {
            Ok(upload) => upload.touched.elapsed() < idle,
            Err(_) => true,
        });
    }
}

fn under_way(code: StatusCode, name: &str, id: &str, bytes: u64) -> Response {
    let headers = [
        ("location", format!("/v2/{name}/blobs/uploads/{id}")),
        ("docker-upload-uuid", id.to_string()),
        ("range", format!("0-{}", bytes.saturating_sub(1))),
    ];
    (code, headers).into_response()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.parse().ok()
}

impl Registry {
    /// All at once if the digest is told, else step by step; or another repository's blob.
    pub async fn begin_upload(
        &self,
        account: AccountId,
        name: &str,
        query: &Query,
        headers: &HeaderMap,
        body: Body,
    ) -> Answer {
        if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from"))
            && crate::route::is_name(from)
            && let Some(digest) = crate::route::digest(digest)
        {
            let (from, to) = (from.to_string(), name.to_string());
            let mounted = self
                .keep
                .run(move |keep| keep.mount(&from, &to, &digest))
                .await
                .map_err(kept)?;
            if mounted {
                return Ok(crate::http::created(name, &digest, "blobs"));
            }
        }
        let digest = query.get("digest").map(wanted).transpose()?;
        let mut upload = Upload {
            name: name.into(),
            path: self.keep.fresh(),
            hasher: Sha256::new(),
            bytes: 0,
            touched: Instant::now(),
        };
        tokio::fs::File::create(&upload.path).await.map_err(disk)?;
        match digest {
            Some(digest) => {
                self.receive(account, &mut upload, headers, body).await?;
                self.publish(upload, &digest).await
            }
            None => {
                let id = self.uploads.begin(account, upload)?;
                Ok(under_way(StatusCode::ACCEPTED, name, &id, 0))
            }
        }
    }

    pub async fn upload_status(&self, account: AccountId, name: &str, id: &str) -> Answer {
        let upload = self.uploads.find(account, name, id)?;
        Ok(under_way(StatusCode::NO_CONTENT, name, id, upload.bytes))
    }

    pub async fn go_on(
        &self,
        account: AccountId,
        name: &str,
        id: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Answer {
        let mut upload = self.uploads.find(account, name, id)?;
        in_order(&upload, id, headers)?;
        let done = self.receive(account, &mut upload, headers, body).await;
        self.forget_if_hopeless(id, &done);
        done?;
        Ok(under_way(StatusCode::ACCEPTED, name, id, upload.bytes))
    }

    pub async fn complete(
        &self,
        account: AccountId,
        name: &str,
        id: &str,
        query: &Query,
        headers: &HeaderMap,
        body: Body,
    ) -> Answer {
        let digest = query.get("digest").unwrap_or_default();
        let digest = wanted(digest)?;
        let mut upload = self.uploads.find(account, name, id)?;
        in_order(&upload, id, headers)?;
        let done = self.receive(account, &mut upload, headers, body).await;
        self.forget_if_hopeless(id, &done);
        done?;
        // Whatever becomes of it, it is no upload any more.
        self.uploads.forget(id);
        let fresh = Upload {
            name: String::new(),
            path: PathBuf::new(),
            hasher: Sha256::new(),
            bytes: 0,
            touched: Instant::now(),
        };
        let upload = std::mem::replace(&mut *upload, fresh);
        self.publish(upload, &digest).await
    }

    pub fn cancel(&self, account: AccountId, name: &str, id: &str) -> Answer {
        drop(self.uploads.find(account, name, id)?);
        self.uploads.forget(id);
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// What was refused for its size will not get smaller.
    fn forget_if_hopeless(&self, id: &str, done: &Result<(), Refused>) {
        if done
            .as_ref()
            .is_err_and(|e| matches!(e.status.as_u16(), 403 | 413 | 500 | 507))
        {
            self.uploads.forget(id);
        }
    }

    async fn receive(
        &self,
        account: AccountId,
        upload: &mut Upload,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(), Refused> {
        let _stream = self.uploads.stream(account)?;
        let owner = account.to_string();
        let used = self.keep.run(move |keep| Ok(keep.used(&owner)));
        let used = used.await.map_err(disk)?;
        let fits = |bytes: u64| -> Result<(), Refused> {
            let most = self.config.blob_bytes_max;
            if bytes > most {
                let why = format!("a blob has at most {most} bytes");
                return Err(refused(413, "SIZE_INVALID", why));
            }
            let most = self.config.account_bytes_max;
            if used.saturating_add(bytes) > most {
                let why = format!(
                    "the account's repositories have {used} bytes and may have {most}: delete what is not needed"
                );
                return Err(refused(403, "DENIED", why));
            }
            Ok(())
        };
        let coming = content_length(headers).unwrap_or(0);
        fits(upload.bytes.saturating_add(coming))?;
        let mut file = tokio::fs::OpenOptions::new()
            .append(true)
            .open(&upload.path)
            .await
            .map_err(disk)?;
        let mut checked = 0;
        let mut stream = body.into_data_stream();
        let done = loop {
            let chunk = match tokio::time::timeout(PIECE_TIME, stream.next()).await {
                Ok(None) => break Ok(()),
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(e))) => break Err(refused(400, "BLOB_UPLOAD_INVALID", e)),
                Err(_) => {
                    break Err(refused(
                        408,
                        "BLOB_UPLOAD_INVALID",
                        "nothing came for a minute",
                    ));
                }
            };
            let bytes = upload.bytes + chunk.len() as u64;
            if let Err(refused) = fits(bytes) {
                break Err(refused);
            }
            if bytes / DISK_CHECKED_EVERY >= checked {
                checked = bytes / DISK_CHECKED_EVERY + 1;
                if self.keep.free() < self.config.disk_bytes_min {
                    let why = "the registry's disk is nearly full";
                    break Err(refused(507, "DENIED", why));
                }
            }
            if let Err(error) = file.write_all(&chunk).await {
                break Err(disk(error));
            }
            upload.hasher.update(&chunk);
            upload.bytes = bytes;
        };
        upload.touched = Instant::now();
        // Hashed is written: else the next piece would follow a hole.
        file.flush().await.map_err(disk)?;
        done
    }

    async fn publish(&self, upload: Upload, digest: &Digest) -> Answer {
        let actual = Digest(upload.hasher.clone().finalize().into());
        if actual != *digest {
            let why = format!("the bytes are {actual}, not what the digest says");
            return Err(refused(400, "DIGEST_INVALID", why));
        }
        let (name, digest) = (upload.name.clone(), *digest);
        self.keep
            .run(move |keep| keep.publish(&upload.name, &upload.path, &digest))
            .await
            .map_err(kept)?;
        Ok(crate::http::created(&name, &digest, "blobs"))
    }
}

/// A piece that says where it belongs must belong there.
fn in_order(upload: &Upload, id: &str, headers: &HeaderMap) -> Result<(), Refused> {
    let Some(text) = headers.get("content-range").and_then(|v| v.to_str().ok()) else {
        return Ok(());
    };
    let text = text.trim().trim_start_matches("bytes ");
    let text = text.split('/').next().unwrap_or(text);
    let numbers = text
        .split_once('-')
        .and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?)));
    let Some((from, to)) = numbers else {
        return Err(refused(
            400,
            "BLOB_UPLOAD_INVALID",
            "Content-Range is <first>-<last>",
        ));
    };
    if from != upload.bytes {
        let why = format!("the next piece begins at byte {}", upload.bytes);
        let range = format!("0-{}", upload.bytes.saturating_sub(1));
        let location = format!("/v2/{}/blobs/uploads/{id}", upload.name);
        return Err(refused(416, "BLOB_UPLOAD_INVALID", why)
            .with("range", range)
            .with("location", location));
    }
    let length = to.checked_sub(from).and_then(|l| l.checked_add(1));
    if content_length(headers).is_some_and(|coming| Some(coming) != length) {
        let why = "Content-Length and Content-Range differ";
        return Err(refused(400, "SIZE_INVALID", why));
    }
    Ok(())
}
