//! Blobs, manifests and tags on disk.
//!
//! | path | is |
//! |---|---|
//! | `blobs/<hex>` | content, once |
//! | `repositories/<name>/_blobs/<hex>` | a hard link to content that this repository has |
//! | `repositories/<name>/_manifests/<hex>` | media type, a newline, the manifest |
//! | `repositories/<name>/_tags/<tag>` | a digest |
//! | `repositories/<name>/_referrers/<hex>/<hex>` | what refers to a manifest: its descriptor |
//! | `uploads/<number>` | what is being received or written; emptied at the start |
//!
//! Everything appears under its name by a rename, after its bytes are on disk. Content with no
//! link but its own belongs to nobody and goes. All of this blocks: [`Keep::run`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use types::Digest;

use crate::limits::{
    ACCOUNTS_REMEMBERED_MAX, ENTRIES_PER_REPOSITORY_MAX, REPOSITORIES_PER_ACCOUNT_MAX,
};

pub struct Keep {
    root: PathBuf,
    next: AtomicU64,
    /// Bytes of each account's repositories, once they were counted. Also the lock under which
    /// links come and go.
    used: Mutex<BTreeMap<String, u64>>,
}

/// A manifest as it was pushed.
pub struct Manifest {
    pub kind: String,
    pub bytes: Vec<u8>,
}

/// What a pushed manifest names.
#[derive(Default)]
pub struct Named {
    /// Config and layers.
    pub blobs: Vec<Digest>,
    pub subject: Option<Digest>,
    /// How it is listed under its subject.
    pub descriptor: Value,
}

fn full(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, why)
}

fn account_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Names of what is in a folder; nothing if there is none.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

fn missing_ok(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

impl Keep {
    pub fn open(root: &Path) -> io::Result<Self> {
        // Uploads end with the process that they came to.
        let uploads = root.join("uploads");
        if uploads.exists() {
            std::fs::remove_dir_all(&uploads)?;
        }
        for folder in ["blobs", "uploads", "repositories"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let keep = Self {
            root: root.into(),
            next: AtomicU64::new(0),
            used: Mutex::default(),
        };
        keep.link_older()?;
        Ok(keep)
    }

    /// Runs `work` where blocking is allowed.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let keep = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&keep)).await;
        done.map_err(io::Error::other)?
    }

    /// A path of its own for what is being received.
    pub fn fresh(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.root.join("uploads").join(number.to_string())
    }

    /// `name` was checked: it leads nowhere else.
    fn repository(&self, name: &str) -> PathBuf {
        self.root.join("repositories").join(name)
    }

    fn content(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// Where a repository has a blob, if it has it.
    pub fn blob(&self, name: &str, digest: &Digest) -> PathBuf {
        self.repository(name).join("_blobs").join(digest.hex())
    }

    fn manifest_path(&self, name: &str, digest: &Digest) -> PathBuf {
        self.repository(name).join("_manifests").join(digest.hex())
    }

    fn tag_path(&self, name: &str, tag: &str) -> PathBuf {
        self.repository(name).join("_tags").join(tag)
    }

    fn referrers_path(&self, name: &str, subject: &Digest) -> PathBuf {
        self.repository(name).join("_referrers").join(subject.hex())
    }

    /// Bytes left on the disk.
    pub fn free(&self) -> u64 {
        nix::sys::statvfs::statvfs(&self.root)
            .map_or(0, |s| s.blocks_available() * s.fragment_size())
    }

    /// Bytes of all of an account's repositories.
    pub fn used(&self, account: &str) -> u64 {
        let mut used = self.used.lock().expect("not poisoned");
        if let Some(bytes) = used.get(account) {
            return *bytes;
        }
        let sizes = self.repositories(account).into_iter().map(|name| {
            let repository = self.repository(account).join(name);
            let sized = |folder: &str| -> u64 {
                let folder = repository.join(folder);
                let files = names(&folder).into_iter();
                files
                    .filter_map(|file| Some(std::fs::metadata(folder.join(file)).ok()?.len()))
                    .sum()
            };
            sized("_blobs") + sized("_manifests")
        });
        let bytes = sizes.sum();
        if used.len() >= ACCOUNTS_REMEMBERED_MAX {
            used.clear();
        }
        used.insert(account.into(), bytes);
        bytes
    }

    /// Counts only where counting has begun.
    fn count(&self, name: &str, more: u64, less: u64) {
        let mut used = self.used.lock().expect("not poisoned");
        if let Some(bytes) = used.get_mut(account_of(name)) {
            *bytes = (*bytes + more).saturating_sub(less);
        }
    }

    /// Makes the folder for a new entry. Errors: `QuotaExceeded`.
    fn room(&self, name: &str, entry: &Path) -> io::Result<()> {
        if entry.symlink_metadata().is_ok() {
            return Ok(());
        }
        let folder = entry.parent().unwrap_or(&self.root);
        if names(folder).len() >= ENTRIES_PER_REPOSITORY_MAX {
            return Err(full(format!(
                "a repository keeps at most {ENTRIES_PER_REPOSITORY_MAX} of a kind: delete some"
            )));
        }
        let repository = self.repository(name);
        let known = ["_blobs", "_manifests", "_tags"];
        if !known.iter().any(|part| repository.join(part).exists())
            && self.repositories(account_of(name)).len() >= REPOSITORIES_PER_ACCOUNT_MAX
        {
            return Err(full(format!(
                "an account has at most {REPOSITORIES_PER_ACCOUNT_MAX} repositories"
            )));
        }
        std::fs::create_dir_all(folder)
    }

    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let fresh = self.fresh();
        let mut file = File::create(&fresh)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        std::fs::rename(fresh, path)?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// Takes a received file, which was found to be `digest`, into a repository.
    pub fn publish(&self, name: &str, upload: &Path, digest: &Digest) -> io::Result<()> {
        File::open(upload)?.sync_all()?;
        let (content, link) = (self.content(digest), self.blob(name, digest));
        self.room(name, &link)?;
        let size = std::fs::metadata(upload)?.len();
        {
            let _links = self.used.lock().expect("not poisoned");
            if content.exists() {
                std::fs::remove_file(upload)?;
            } else {
                std::fs::rename(upload, &content)?;
                sync_dir(&self.root.join("blobs"))?;
            }
            if !Self::link(&content, &link)? {
                return Ok(());
            }
        }
        self.count(name, size, 0);
        Ok(())
    }

    /// `false`: it was there already.
    fn link(content: &Path, link: &Path) -> io::Result<bool> {
        match std::fs::hard_link(content, link) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            // A file system has only so many links for one file.
            Err(e) if e.kind() == io::ErrorKind::TooManyLinks => {
                std::fs::copy(content, link)?;
                File::open(link)?.sync_all()?;
            }
            Err(e) => return Err(e),
        }
        link.parent().map_or(Ok(()), sync_dir)?;
        Ok(true)
    }

    /// Gives a repository what another one has; `false` if that has it not.
    pub fn mount(&self, from: &str, name: &str, digest: &Digest) -> io::Result<bool> {
        let (source, link) = (self.blob(from, digest), self.blob(name, digest));
        let Ok(meta) = std::fs::metadata(&source) else {
            return Ok(false);
        };
        self.room(name, &link)?;
        let linked = {
            let _links = self.used.lock().expect("not poisoned");
            Self::link(&source, &link)?
        };
        if linked {
            self.count(name, meta.len(), 0);
        }
        Ok(true)
    }

    /// `false`: the repository has no such blob.
    pub fn remove_blob(&self, name: &str, digest: &Digest) -> io::Result<bool> {
        let link = self.blob(name, digest);
        let Ok(meta) = std::fs::metadata(&link) else {
            return Ok(false);
        };
        {
            let _links = self.used.lock().expect("not poisoned");
            std::fs::remove_file(&link)?;
            let content = self.content(digest);
            if std::fs::metadata(&content).is_ok_and(|m| m.nlink() == 1) {
                std::fs::remove_file(content)?;
            }
        }
        self.count(name, 0, meta.len());
        Ok(true)
    }

    /// Keeps a manifest, and `tag` for it if there is one.
    pub fn put_manifest(
        &self,
        name: &str,
        manifest: &Manifest,
        named: &Named,
        tag: Option<&str>,
    ) -> io::Result<Digest> {
        let digest = Digest::of(&manifest.bytes);
        let path = self.manifest_path(name, &digest);
        self.room(name, &path)?;
        let old = std::fs::metadata(&path).map_or(0, |m| m.len());
        let new = (manifest.kind.len() + 1 + manifest.bytes.len()) as u64;
        self.write(&path, &[manifest.kind.as_bytes(), b"\n", &manifest.bytes])?;
        self.count(name, new, old);
        if let Some(subject) = &named.subject {
            let path = self.referrers_path(name, subject).join(digest.hex());
            self.room(name, &path)?;
            self.write(&path, &[&serde_json::to_vec(&named.descriptor)?])?;
        }
        if let Some(tag) = tag {
            let path = self.tag_path(name, tag);
            self.room(name, &path)?;
            self.write(&path, &[digest.to_string().as_bytes()])?;
        }
        Ok(digest)
    }

    pub fn manifest(&self, name: &str, digest: &Digest) -> Option<Manifest> {
        let bytes = std::fs::read(self.manifest_path(name, digest)).ok()?;
        let end = bytes.iter().position(|b| *b == b'\n')?;
        Some(Manifest {
            kind: String::from_utf8(bytes[..end].to_vec()).ok()?,
            bytes: bytes[end + 1..].to_vec(),
        })
    }

    pub fn tag(&self, name: &str, tag: &str) -> Option<Digest> {
        let text = std::fs::read_to_string(self.tag_path(name, tag)).ok()?;
        text.parse().ok()
    }

    /// In the order of their bytes; `None` if there is no such repository.
    pub fn tags(&self, name: &str) -> Option<Vec<String>> {
        let repository = self.repository(name);
        let known = ["_tags", "_manifests"];
        if !known.iter().any(|part| repository.join(part).exists()) {
            return None;
        }
        let mut tags = names(&repository.join("_tags"));
        tags.sort_unstable();
        Some(tags)
    }

    /// `false`: there is no such tag.
    pub fn remove_tag(&self, name: &str, tag: &str) -> io::Result<bool> {
        missing_ok(std::fs::remove_file(self.tag_path(name, tag)))
    }

    /// With its tags and its place under its subject; `false`: there is no such manifest.
    pub fn remove_manifest(&self, name: &str, digest: &Digest) -> io::Result<bool> {
        let Some(manifest) = self.manifest(name, digest) else {
            return Ok(false);
        };
        for tag in self.tags(name).unwrap_or_default() {
            if self.tag(name, &tag) == Some(*digest) {
                self.remove_tag(name, &tag)?;
            }
        }
        if let Some(subject) = parse(&manifest.bytes).and_then(|n| n.subject) {
            let path = self.referrers_path(name, &subject).join(digest.hex());
            missing_ok(std::fs::remove_file(path))?;
        }
        let size = manifest.kind.len() + 1 + manifest.bytes.len();
        let removed = missing_ok(std::fs::remove_file(self.manifest_path(name, digest)))?;
        if removed {
            self.count(name, 0, size as u64);
        }
        Ok(removed)
    }

    /// Descriptors of what refers to a manifest, with their digests, in order.
    pub fn referrers(&self, name: &str, subject: &Digest) -> Vec<(String, Value)> {
        let folder = self.referrers_path(name, subject);
        let mut files = names(&folder);
        files.sort_unstable();
        let read = |file: String| {
            let bytes = std::fs::read(folder.join(&file)).ok()?;
            Some((file, serde_json::from_slice(&bytes).ok()?))
        };
        files.into_iter().filter_map(read).collect()
    }

    /// Names of an account's repositories, without the account.
    pub fn repositories(&self, account: &str) -> Vec<String> {
        let root = self.repository(account);
        let mut found = Vec::new();
        let mut waiting = vec![root.clone()];
        while let Some(at) = waiting.pop() {
            let inside = names(&at);
            let own = |part: &&String| part.starts_with('_');
            if inside.iter().any(|part| own(&part))
                && let Ok(name) = at.strip_prefix(&root)
            {
                found.push(name.display().to_string());
            }
            waiting.extend(inside.iter().filter(|p| !own(p)).map(|part| at.join(part)));
        }
        found.sort();
        found
    }

    /// Lets go of blobs that no manifest of their repository names, once they are old.
    pub fn sweep(&self, age: Duration) -> io::Result<u64> {
        let mut gone = 0;
        for account in names(&self.root.join("repositories")) {
            for repository in self.repositories(&account) {
                let name = match repository.is_empty() {
                    true => account.clone(),
                    false => format!("{account}/{repository}"),
                };
                let manifests = names(&self.repository(&name).join("_manifests"));
                let needed: BTreeSet<Digest> = manifests
                    .iter()
                    .filter_map(|hex| self.manifest(&name, &hex.parse().ok()?))
                    .filter_map(|manifest| parse(&manifest.bytes))
                    .flat_map(|named| named.blobs)
                    .collect();
                for hex in names(&self.repository(&name).join("_blobs")) {
                    let Ok(digest) = hex.parse::<Digest>() else {
                        continue;
                    };
                    if !needed.contains(&digest) && is_older(&self.blob(&name, &digest), age) {
                        gone += u64::from(self.remove_blob(&name, &digest)?);
                    }
                }
            }
        }
        Ok(gone)
    }

    /// Before repositories had links of their own, content was everyone's.
    fn link_older(&self) -> io::Result<()> {
        let done = self.root.join("linked");
        if done.exists() {
            return Ok(());
        }
        for account in names(&self.root.join("repositories")) {
            for repository in self.repositories(&account) {
                let name = format!("{account}/{repository}");
                for hex in names(&self.repository(&name).join("_manifests")) {
                    let Ok(digest) = hex.parse::<Digest>() else {
                        continue;
                    };
                    let path = self.manifest_path(&name, &digest);
                    let kind = std::fs::read(&path)?;
                    let Ok(bytes) = std::fs::read(self.content(&digest)) else {
                        continue;
                    };
                    for blob in parse(&bytes).map(|n| n.blobs).unwrap_or_default() {
                        let link = self.blob(&name, &blob);
                        std::fs::create_dir_all(link.parent().unwrap_or(&self.root))?;
                        if self.content(&blob).exists() {
                            Self::link(&self.content(&blob), &link)?;
                        }
                    }
                    if !kind.contains(&b'\n') {
                        self.write(&path, &[&kind, b"\n", &bytes])?;
                    }
                }
            }
        }
        self.write(&done, &[])
    }
}

fn is_older(path: &Path, age: Duration) -> bool {
    // Linking it anew counts as use.
    std::fs::metadata(path).is_ok_and(|meta| {
        let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
        SystemTime::now().duration_since(at).is_ok_and(|d| d >= age)
    })
}

/// What a manifest names; `None` if it cannot be read.
pub fn parse(bytes: &[u8]) -> Option<Named> {
    let manifest: Value = serde_json::from_slice(bytes).ok()?;
    let digest = |value: &Value| crate::route::digest(value["digest"].as_str()?);
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let config = Some(&manifest["config"]).filter(|c| c.is_object());
    let blobs: Option<Vec<Digest>> = layers.chain(config).map(digest).collect();
    let subject = match &manifest["subject"] {
        Value::Null => None,
        subject => Some(digest(subject)?),
    };
    let kind = manifest["artifactType"]
        .as_str()
        .or(manifest["config"]["mediaType"].as_str());
    let mut descriptor = serde_json::json!({
        "mediaType": manifest["mediaType"], "digest": Digest::of(bytes), "size": bytes.len(),
    });
    if let Some(kind) = kind {
        descriptor["artifactType"] = kind.into();
    }
    if manifest["annotations"].is_object() {
        descriptor["annotations"] = manifest["annotations"].clone();
    }
    Some(Named {
        blobs: blobs?,
        subject,
        descriptor,
    })
}
