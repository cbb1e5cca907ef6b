//! Blobs and tags on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::Digest;

/// An upload that nobody goes on with is forgotten.
const ABANDONED: Duration = Duration::from_secs(3_600);

pub struct Keep {
    root: PathBuf,
}

impl Keep {
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["blobs", "uploads", "repositories"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root: root.into() })
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    pub fn upload(&self, id: u64) -> PathBuf {
        self.root.join("uploads").join(id.to_string())
    }

    /// `name` was checked: it leads nowhere else.
    fn repository(&self, name: &str) -> PathBuf {
        self.root.join("repositories").join(name)
    }

    fn tag_path(&self, name: &str, tag: &str) -> PathBuf {
        self.repository(name).join("_tags").join(tag)
    }

    fn manifest_path(&self, name: &str, digest: &Digest) -> PathBuf {
        self.repository(name).join("_manifests").join(digest.hex())
    }

    /// Bytes left on the disk.
    pub fn free(&self) -> u64 {
        nix::sys::statvfs::statvfs(&self.root)
            .map_or(0, |s| s.blocks_available() * s.fragment_size())
    }

    pub fn forget_abandoned(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.root.join("uploads"))?.flatten() {
            let old = entry.metadata().and_then(|m| m.modified()).is_ok_and(|at| {
                SystemTime::now()
                    .duration_since(at)
                    .is_ok_and(|d| d > ABANDONED)
            });
            if old {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Moves an upload to its place if its bytes are `digest`; else it is gone.
    pub async fn finish(&self, upload: &Path, digest: &Digest) -> io::Result<bool> {
        let mut file = tokio::fs::File::open(upload).await?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        if Digest(hasher.finalize().into()) != *digest {
            tokio::fs::remove_file(upload).await?;
            return Ok(false);
        }
        file.sync_all().await?;
        tokio::fs::rename(upload, self.blob(digest)).await?;
        Ok(true)
    }

    async fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await?;
        }
        let fresh = path.with_extension("writing");
        let mut file = tokio::fs::File::create(&fresh).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(fresh, path).await
    }

    /// Keeps a manifest, and `tag` for it if there is one.
    pub async fn put_manifest(
        &self,
        name: &str,
        kind: &str,
        bytes: &[u8],
        tag: Option<&str>,
    ) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        Self::write(&self.blob(&digest), bytes).await?;
        Self::write(&self.manifest_path(name, &digest), kind.as_bytes()).await?;
        if let Some(tag) = tag {
            Self::write(&self.tag_path(name, tag), digest.to_string().as_bytes()).await?;
        }
        Ok(digest)
    }

    pub async fn tag(&self, name: &str, tag: &str) -> Option<Digest> {
        let text = tokio::fs::read_to_string(self.tag_path(name, tag))
            .await
            .ok()?;
        text.parse().ok()
    }

    /// Media type and bytes.
    pub async fn manifest(&self, name: &str, digest: &Digest) -> Option<(String, Vec<u8>)> {
        let kind = tokio::fs::read_to_string(self.manifest_path(name, digest))
            .await
            .ok()?;
        let bytes = tokio::fs::read(self.blob(digest)).await.ok()?;
        Some((kind, bytes))
    }

    /// In order; `None` if there is no such repository.
    pub fn tags(&self, name: &str) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(self.repository(name).join("_tags")).ok()?;
        let mut tags: Vec<String> = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|t| !t.ends_with(".writing"))
            .collect();
        tags.sort();
        Some(tags)
    }

    /// Names of an account's repositories, without the account.
    pub fn repositories(&self, account: &str) -> Vec<String> {
        let root = self.repository(account);
        let mut found = Vec::new();
        let mut stack = vec![root.clone()];
        while let Some(at) = stack.pop() {
            for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
                let path = entry.path();
                match entry.file_name().to_str() {
                    Some("_tags") => {
                        if let Ok(name) = at.strip_prefix(&root) {
                            found.push(name.display().to_string());
                        }
                    }
                    Some("_manifests") | None => {}
                    Some(_) if path.is_dir() => stack.push(path),
                    Some(_) => {}
                }
            }
        }
        found.sort();
        found
    }

    pub async fn untag(&self, name: &str, tag: &str) -> io::Result<()> {
        tokio::fs::remove_file(self.tag_path(name, tag)).await
    }
}
