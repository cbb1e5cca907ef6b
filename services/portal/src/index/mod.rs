//! Blocks, transactions, events and charges in SQL, for lists, search and charts.
//!
//! In a file of its own, or on a PostgreSQL server ([`Place`]). Follows the API, believes nothing
//! that is not certified ([`follow`]), and can be made again from the chain at any time. Never the
//! truth for money.

mod charged;
mod embedded;
mod follow;
mod incidents;
pub mod lent;
pub mod operate;
pub mod query;
mod secure;
mod server;
pub mod starts;
mod store;
mod tables;
mod write;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Result, bail};

pub use follow::follow;
pub use query::{BlockRow, EventFilter, EventRow, HourRow, TransactionRow};
pub use server::Address;
pub use store::Store;

/// Where the index lies.
#[derive(Clone)]
pub enum Place {
    File(PathBuf),
    Server(Address),
}

/// How far the index is, and what keeps it from going on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks up to here are in it.
    pub height: u64,
    /// The network's head, as last heard.
    pub head: u64,
    pub trouble: Option<String>,
}

/// One session that writes, one that reads; neither waits for the other.
#[derive(Clone)]
pub struct Index(Arc<Sessions>);

struct Sessions {
    writer: Mutex<Store>,
    reader: Mutex<Store>,
    /// Why pages must not show what is in it.
    closed: Mutex<Option<String>>,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(|e| e.into_inner())
}

impl Index {
    /// Opens the index, or makes it. One with older tables is made anew once the network is known
    /// to have all blocks.
    ///
    /// Errors: the file cannot be opened; the server cannot be reached, refuses, or is too old; its
    /// tables are of a newer portal.
    pub async fn open(place: Place) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || {
            let session = || match &place {
                Place::File(path) => Store::file(path),
                Place::Server(address) => Ok(Store::server(address)),
            };
            let writer = session()?;
            writer.ready()?;
            let closed = match tables::is_old(&writer)? {
                true => Some("the index is of another version of the portal".to_string()),
                false => {
                    tables::prepare(&writer)?;
                    None
                }
            };
            Ok(Self(Arc::new(Sessions {
                writer: Mutex::new(writer),
                reader: Mutex::new(session()?),
                closed: Mutex::new(closed),
            })))
        });
        opened.await?
    }

    /// Asks the index on a thread that may wait for it.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(why) = &*held(&self.0.closed) {
            bail!("{why}");
        }
        let index = self.clone();
        let asked = move || {
            let store = held(&index.0.reader);
            store.ready()?;
            question(&store)
        };
        tokio::task::spawn_blocking(asked).await?
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let index = self.clone();
        let changed = move || {
            let store = held(&index.0.writer);
            store.ready()?;
            change(&store)
        };
        tokio::task::spawn_blocking(changed).await?
    }

    /// Whether [`Index::begin`] makes one anew that has blocks.
    async fn is_old(&self) -> Result<bool> {
        // Seen when it was opened.
        let closed = held(&self.0.closed).is_some();
        Ok(closed && self.change(tables::is_old).await?)
    }

    /// Where the index of `network` is. Pages see nothing of it while it is not one.
    async fn begin(&self, network: String) -> Result<write::Done> {
        let begun = self
            .change(move |store| write::begin(store, &network))
            .await;
        *held(&self.0.closed) = begun.as_ref().err().map(|error| format!("{error:#}"));
        begun
    }
}

#[cfg(test)]
mod tests;
