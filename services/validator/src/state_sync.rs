//! Fetch the state at the end of an epoch from other validators, of whom none is trusted.
//!
//! Each is asked what it offers; offers that do not hold are dropped with their givers, and the
//! newest that holds is taken. Its pieces come from all who offer it, a few at a time, each
//! checked as it comes: who sends a wrong one is named and asked no more, who does not answer is
//! asked no more after [`FAILURES_MAX`] times. Nothing is written before all of it holds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use borsh::BorshDeserialize as _;
use consensus::{Boundary, OFFER_BYTES_MAX, Offer, PIECE_BYTES_MAX, PIECES_MAX, Piece};
use futures::stream::{FuturesUnordered, StreamExt as _};

use crate::config::Config;
use crate::http::node_config;
use crate::ledger_machine::LedgerMachine;

/// Validators asked.
const GIVERS_MAX: usize = 32;
/// Pieces under way at once.
const AT_ONCE: usize = 4;
/// A giver that failed to answer so often is asked no more.
const FAILURES_MAX: u32 = 3;
const PIECE_TIMEOUT: Duration = Duration::from_secs(20);
const OFFER_TIMEOUT: Duration = Duration::from_secs(60);
/// Beyond two epochs of idle blocks, a state so old is nobody's newest.
const AGE_MAX_MS: u64 = 86_400_000;
const IDLE_BLOCK_MS: u64 = 1_000;

struct Giver {
    url: String,
    /// As it says; a wrong number proves no piece.
    pieces: u32,
    failures: u32,
}

/// The newest state that anyone offers, not fetched yet.
pub struct Newest {
    boundary: Boundary,
    givers: Mutex<Vec<Giver>>,
    complaints: Mutex<Vec<String>>,
    node: Arc<consensus::Config>,
    machine: Arc<LedgerMachine>,
    http: reqwest::Client,
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub height: u64,
    pub bytes: usize,
    /// Who gave what was wrong, stale or not to be had.
    pub complaints: Vec<String>,
}

/// As [`newest`], for one who takes no part.
pub async fn newest_of(network: &api::NetworkFile, urls: &[String]) -> Result<Newest> {
    let nowhere = (std::net::Ipv4Addr::UNSPECIFIED, 0).into();
    let config = Config {
        data: PathBuf::new(),
        network: network.clone(),
        seat: consensus::Seat::from_secret([0; 32]).to_bytes(),
        p2p: nowhere,
        http: nowhere,
        whereabouts: None,
        keep_blocks: None,
    };
    newest(&config, urls).await
}

/// Asks those at `urls` what they offer.
///
/// Errors: nobody offers what holds and is new.
pub async fn newest(config: &Config, urls: &[String]) -> Result<Newest> {
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(3))
        .no_proxy()
        .build()?;
    let node = Arc::new(node_config(config)?);
    let machine = Arc::new(LedgerMachine::in_folder(
        config.network.genesis.clone(),
        &config.data,
    ));
    let urls: BTreeSet<&str> = urls.iter().map(|u| u.trim_end_matches('/')).collect();
    let mut asked: FuturesUnordered<_> = urls
        .into_iter()
        .filter(|url| !url.is_empty())
        .take(GIVERS_MAX)
        .map(|url| {
            let (http, node, machine) = (http.clone(), node.clone(), machine.clone());
            let url = url.to_string();
            async move {
                let path = format!("{url}/v1/sync");
                let answer = read(&http, &path, OFFER_BYTES_MAX, OFFER_TIMEOUT).await;
                let checked = match answer {
                    Ok(bytes) => tokio::task::spawn_blocking(move || {
                        let offer = Offer::try_from_slice(&bytes)
                            .map_err(|_| "its offer cannot be read".to_string())?;
                        let pieces = offer.pieces;
                        let checked = Boundary::check(&node, machine.as_ref(), offer);
                        Ok((pieces, checked.map_err(|e| format!("{e:#}"))?))
                    })
                    .await
                    .unwrap_or_else(|e| Err(e.to_string())),
                    Err(why) => Err(why),
                };
                (url, checked)
            }
        })
        .collect();
    let (mut offers, mut complaints) = (Vec::new(), Vec::new());
    while let Some((url, checked)) = asked.next().await {
        match checked {
            Ok((pieces, boundary)) => offers.push((url, pieces, boundary)),
            Err(why) => complaints.push(format!("{url}: {why}")),
        }
    }
    drop(asked);
    let newest = offers.iter().map(|(.., b)| b.header.height).max();
    let newest = newest.with_context(|| {
        format!(
            "nobody who was asked offers a state yet: one is made at the end of each epoch. {}",
            complaints.join("; ")
        )
    })?;
    let (mut givers, mut taken) = (Vec::new(), None);
    for (url, pieces, boundary) in offers {
        let height = boundary.header.height;
        if height < newest {
            complaints.push(format!(
                "{url}: offers the state of block {height}, others that of {newest}"
            ));
        } else if (1..=PIECES_MAX).contains(&pieces) {
            taken = Some(boundary);
            givers.push(Giver {
                url,
                pieces,
                failures: 0,
            });
        } else {
            complaints.push(format!("{url}: says that a state has {pieces} pieces"));
        }
    }
    let boundary =
        taken.context("nobody offers the newest state in a number of pieces that can be")?;
    let blocks = config.network.genesis.params.epoch_blocks;
    let old = AGE_MAX_MS.saturating_add(blocks.saturating_mul(2 * IDLE_BLOCK_MS));
    let age = api::now_ms().saturating_sub(boundary.header.time_ms);
    ensure!(
        age <= old,
        "the newest state that anyone offers, of block {newest}, is {} hours old: all who were asked are behind, or the network stands still; ask others with --from URL",
        age / 3_600_000
    );
    Ok(Newest {
        boundary,
        givers: Mutex::new(givers),
        complaints: Mutex::new(complaints),
        node,
        machine,
        http,
    })
}

impl Newest {
    pub fn height(&self) -> u64 {
        self.boundary.header.height
    }

    /// Fetches it, and makes it the beginning of the validator in `config.data`.
    pub async fn adopt(self, config: &Config) -> Result<Fetched> {
        let state = self.fetch().await?;
        let fetched = Fetched {
            height: self.height(),
            bytes: state.len(),
            complaints: self.complaints.into_inner().unwrap_or_default(),
        };
        let (data, machine, boundary) = (config.data.clone(), self.machine, self.boundary);
        tokio::task::spawn_blocking(move || {
            consensus::adopt(&data, machine.as_ref(), &boundary, state)
        })
        .await??;
        Ok(fetched)
    }

    /// Fetches it into a file's contents, which prove themselves.
    pub async fn export(self) -> Result<light::Export> {
        let state = self.fetch().await?;
        let (node, boundary) = (self.node, self.boundary);
        tokio::task::spawn_blocking(move || boundary.export(&node, state)).await?
    }

    async fn fetch(&self) -> Result<Vec<u8>> {
        let (count, first) = self.first().await?;
        let mut state = vec![first];
        let mut rest = futures::stream::iter(1..count)
            .map(|number| self.piece(number, count))
            .buffered(AT_ONCE);
        while let Some(piece) = rest.next().await {
            state.push(piece?);
        }
        drop(rest);
        Ok(state.concat())
    }

    /// The first piece proves how many there are.
    async fn first(&self) -> Result<(u32, Vec<u8>)> {
        loop {
            let (url, count) = self.pick(0)?;
            if let Some(bytes) = self.ask(&url, 0, count).await {
                return Ok((count, bytes));
            }
        }
    }

    async fn piece(&self, number: u32, count: u32) -> Result<Vec<u8>> {
        loop {
            let (url, _) = self.pick(number)?;
            if let Some(bytes) = self.ask(&url, number, count).await {
                return Ok(bytes);
            }
        }
    }

    /// Whose turn it is. Ends: each giver fails so often at most.
    fn pick(&self, number: u32) -> Result<(String, u32)> {
        let givers = self.givers.lock().expect("not poisoned");
        if givers.is_empty() {
            let complaints = self.complaints.lock().expect("not poisoned");
            bail!(
                "nobody is left who gives the state of block {}: {}. Run it again, or ask others with --from URL",
                self.height(),
                complaints.join("; ")
            );
        }
        let giver = &givers[number as usize % givers.len()];
        Ok((giver.url.clone(), giver.pieces))
    }

    async fn ask(&self, url: &str, number: u32, count: u32) -> Option<Vec<u8>> {
        let path = format!("{url}/v1/sync/{}/{number}", self.height());
        let (why, wrong) = match read(&self.http, &path, PIECE_BYTES_MAX, PIECE_TIMEOUT).await {
            Err(why) => (why, false),
            Ok(bytes) => match Piece::try_from_slice(&bytes) {
                Ok(piece) if self.boundary.holds(&piece, number, count) => {
                    return Some(piece.bytes);
                }
                _ => (format!("piece {number} that it gave is wrong"), true),
            },
        };
        let mut givers = self.givers.lock().expect("not poisoned");
        if let Some(at) = givers.iter().position(|g| g.url == url) {
            givers[at].failures += 1;
            if wrong || givers[at].failures >= FAILURES_MAX {
                givers.remove(at);
                tracing::warn!(%url, %why, "it is asked for no more of the state");
                let mut complaints = self.complaints.lock().expect("not poisoned");
                complaints.push(format!("{url}: {why}"));
            }
        }
        None
    }
}

/// Height up to which there are blocks in `data`; `None`: it is fresh.
pub fn reached(data: &Path) -> Result<Option<u64>> {
    consensus::reached(data).with_context(|| consensus::damaged(data))
}

/// Takes what can be fetched anew out of `data`: all but the validator's secrets.
pub fn forget(data: &Path) -> Result<()> {
    let gone = |path: PathBuf| {
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    };
    // The blocks last: while they are there, it is tried again.
    for name in ["engine", "index.redb", "blocks.redb"] {
        gone(data.join(name))?;
    }
    Ok(())
}

/// At most `most` bytes of an answer.
async fn read(
    http: &reqwest::Client,
    url: &str,
    most: usize,
    limit: Duration,
) -> Result<Vec<u8>, String> {
    let asked = async {
        let mut response = http.get(url).send().await.map_err(|e| told(&e))?;
        let code = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|e| told(&e))? {
            if body.len() + part.len() > most {
                return Err("its answer is too long".into());
            }
            body.extend_from_slice(&part);
        }
        if code.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<api::Problem>(&body) {
            Ok(problem) => Err(format!("{}: {}", problem.what, problem.why)),
            Err(_) => Err(format!("HTTP {code}")),
        }
    };
    let answer = tokio::time::timeout(limit, asked).await;
    answer.unwrap_or_else(|_| Err("it does not answer in time".into()))
}

fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
