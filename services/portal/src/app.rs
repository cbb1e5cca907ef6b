//! What all pages share.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use sdk::{Client, Grants};
use tokio::sync::watch;

use crate::Config;
use crate::index::{Index, Place, Progress};
use crate::limits::Limits;
use crate::people::People;
use crate::shell::Seats;

/// How far the chain is, as the last look at it said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tick {
    pub height: u64,
    pub time_ms: u64,
    /// The network did not answer just now.
    pub stale: bool,
}

pub struct Shared {
    pub client: Client,
    /// Who may act for whom, as the ledger said a moment ago.
    pub grants: Grants,
    /// URL of the gateway that pages name.
    pub gateway: String,
    pub people: People,
    pub index: Index,
    pub limits: Limits,
    pub secure: bool,
    pub trusted_proxies: Vec<crate::Range>,
    pub shells: Seats,
    /// Proofs that were found good.
    pub checked: crate::pages::drawn::Checked,
    /// The network's name and key, once they are known.
    pub network: OnceLock<Network>,
    pub tick: watch::Sender<Tick>,
    pub progress: watch::Sender<Progress>,
}

/// Which network this is.
#[derive(Clone, Debug)]
pub struct Network {
    pub name: String,
    pub digest: types::Digest,
    pub key: Vec<u8>,
}

/// Handed to every page.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Errors: no address of a network, a file of the data folder cannot be opened, or those of
    /// [`Index::open`].
    pub async fn open(config: &Config) -> Result<Self> {
        std::fs::create_dir_all(&config.data)?;
        let client = Client::new(config.network.clone())?;
        let place = match &config.index {
            Some(url) => Place::Server(url.parse()?),
            None => Place::File(config.data.join("index.sqlite")),
        };
        Ok(Self(Arc::new(Shared {
            gateway: client.url().to_string(),
            grants: Grants::new(client.clone()),
            client,
            people: People::open(&config.data.join("people.sqlite"))?,
            index: Index::open(place).await?,
            limits: Limits::default(),
            secure: config.secure,
            trusted_proxies: config.trusted_proxies.clone(),
            shells: Seats::default(),
            checked: Default::default(),
            network: OnceLock::new(),
            tick: watch::channel(Tick::default()).0,
            progress: watch::channel(Progress::default()).0,
        })))
    }

    /// The network's name, for people.
    pub fn network_name(&self) -> &str {
        self.network.get().map_or("network", |n| n.name.as_str())
    }
}
