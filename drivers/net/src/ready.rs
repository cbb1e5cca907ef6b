//! Network namespaces made ahead, so that a container's start does not wait for one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{NetError, link};

/// Kept waiting.
const READY: usize = 3;

pub struct Ready {
    folder: PathBuf,
    inner: Mutex<Inner>,
    /// One fills at a time.
    filling: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<PathBuf>,
    /// Names a namespace that was never there before.
    next: u64,
    closed: bool,
}

impl Ready {
    /// Removes all namespaces in `folder` but those `in_use`.
    pub fn open(folder: &Path, in_use: &BTreeSet<PathBuf>) -> Result<Self, NetError> {
        let failed = |e: std::io::Error| {
            NetError::new(
                "open the network namespaces",
                format!("{}: {e}", folder.display()),
                "See to it that the host agent may write there",
            )
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut next = 1;
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let number = path
                .file_name()
                .and_then(|n| n.to_str()?.parse::<u64>().ok());
            next = next.max(number.unwrap_or(0) + 1);
            if !in_use.contains(&path) {
                link::remove_netns(&path)?;
            }
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            inner: Mutex::new(Inner {
                next,
                ..Inner::default()
            }),
            filling: Mutex::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits, or a new one. Blocks for some milliseconds.
    pub fn take(&self) -> Result<PathBuf, NetError> {
        let waiting = self.inner().waiting.pop();
        waiting.map_or_else(|| self.make(), Ok)
    }

    fn make(&self) -> Result<PathBuf, NetError> {
        let path = {
            let mut inner = self.inner();
            inner.next += 1;
            self.folder.join((inner.next - 1).to_string())
        };
        link::make_netns(&path)?;
        Ok(path)
    }

    /// Blocks until enough are waiting.
    pub fn fill(&self) -> Result<(), NetError> {
        let _one = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            {
                let inner = self.inner();
                if inner.closed || inner.waiting.len() >= READY {
                    return Ok(());
                }
            }
            let path = self.make()?;
            let mut inner = self.inner();
            if inner.closed {
                return link::remove_netns(&path);
            }
            inner.waiting.push(path);
        }
    }

    /// Removes those that wait; makes none any more.
    pub fn close(&self) -> Result<(), NetError> {
        let waiting = {
            let mut inner = self.inner();
            inner.closed = true;
            std::mem::take(&mut inner.waiting)
        };
        waiting.iter().try_for_each(|path| link::remove_netns(path))
    }
}
