//! Start from the state at the end of an epoch, instead of from the genesis.
//!
//! A newcomer trusts the network key and nobody: the epoch's last block is certified, its duty
//! names the whole state, and each piece of the state has a path to that name. An [`Offer`] is
//! what somebody says; a [`Boundary`] is one that holds; [`adopt`] puts it where [`crate::start`]
//! begins.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::simplex::types::Finalization;
use commonware_cryptography::sha256;
use light::{Duty, Header, SNAPSHOT_CHUNK_BYTES};
use types::{Digest, merkle_paths, merkle_root, merkle_verify};

use crate::app::genesis;
use crate::block::{Block, EpochInfo, Payload, payload_root, read_payload};
use crate::machine::Machine;
use crate::node::Config;
use crate::scheme::Scheme;
use crate::store::{Record, Store};

/// Largest state that is fetched: 8 GiB.
pub const PIECES_MAX: u32 = 1 << 17;
/// Canonical bytes of a [`Piece`] are at most so many.
pub const PIECE_BYTES_MAX: usize = SNAPSHOT_CHUNK_BYTES + 32 * 64 + 64;
/// Canonical bytes of an [`Offer`] are at most so many: blocks with what came of them.
pub const OFFER_BYTES_MAX: usize = 64 << 20;

/// What a validator has to start others from. Nothing of it is believed unchecked.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub struct Offer {
    /// An epoch's last block.
    pub record: Record,
    /// The last block of the epoch before: says who sits in this one. `None` in the first epoch,
    /// where the genesis says it.
    pub before: Option<Named>,
    /// How many [`Piece`]s the state after that block has.
    pub pieces: u32,
}

/// A certified block's duty.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub struct Named {
    pub header: Vec<u8>,
    pub certificate: Vec<u8>,
    pub duty: Vec<u8>,
}

/// A part of a state's canonical bytes, with its way to the name of the whole.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub struct Piece {
    pub bytes: Vec<u8>,
    pub path: Vec<Digest>,
}

/// All pieces of a state, in order.
pub(crate) fn pieces(state: &[u8]) -> Vec<Piece> {
    let chunks: Vec<&[u8]> = state.chunks(SNAPSHOT_CHUNK_BYTES).collect();
    let paths = merkle_paths(&chunks);
    let pieces = chunks.into_iter().zip(paths);
    pieces
        .map(|(chunk, path)| Piece {
            bytes: chunk.to_vec(),
            path,
        })
        .collect()
}

/// An offer that holds: certified, of this network, and naming a state.
#[derive(Clone, Debug)]
pub struct Boundary {
    pub header: Header,
    /// Names the state after it.
    root: Digest,
    record: Record,
    /// Canonical bytes of who sits in its epoch.
    info: Vec<u8>,
}

impl Boundary {
    /// Errors: what about the offer does not hold.
    pub fn check<M: Machine>(config: &Config, machine: &M, offer: Offer) -> Result<Self> {
        let record = offer.record;
        let certificate = record.certificate.as_ref();
        let certificate = certificate.context("it has no certificate")?;
        let (header, duty) = named(config, &record.header, certificate, &record.duty)?;
        let root = duty.snapshot.context("its last block names no state")?;
        ensure!(
            merkle_root(&record.outcomes) == header.outcomes_root
                && merkle_root(&record.events) == header.events_root,
            "its outcomes or events are not those of the block"
        );
        let transactions: Vec<Bytes> = record
            .transactions
            .iter()
            .cloned()
            .map(Bytes::from)
            .collect();
        ensure!(
            payload_root(&transactions) == header.payload_root,
            "its transactions are not those of the block"
        );
        let block = Block::new(header.clone(), record.seal, duty, transactions)
            .map_err(|why| anyhow::anyhow!("its block cannot be read: {why}"))?;
        ensure!(block.is_sealed(), "its leader has not sealed its block");
        let info = match header.epoch.checked_sub(1) {
            None => {
                let first = genesis(
                    machine,
                    &config.committee,
                    config.network,
                    config.genesis_ms,
                )?;
                first.0.duty.ceremony.clone()
            }
            Some(epoch) => {
                let before = offer.before.context("it does not say who sits")?;
                let (last, duty) =
                    named(config, &before.header, &before.certificate, &before.duty)?;
                ensure!(
                    last.epoch == epoch,
                    "it says who sat in epoch {}, not in {}",
                    last.epoch + 1,
                    header.epoch
                );
                duty.ceremony
            }
        };
        let info = info.context("nobody is said to sit")?;
        ensure!(
            read_info(&info)?.epoch.get() == header.epoch,
            "those who sit are of another epoch"
        );
        Ok(Self {
            header,
            root,
            record,
            info,
        })
    }

    /// Whether `piece` is number `index` of the `count` pieces of the state.
    pub fn holds(&self, piece: &Piece, index: u32, count: u32) -> bool {
        merkle_verify(
            &self.root,
            &piece.bytes,
            index.into(),
            count.into(),
            &piece.path,
        )
    }

    /// `state` in a file with what proves it; refused if it is not the state of this block.
    pub fn export(&self, config: &Config, state: Vec<u8>) -> Result<light::Export> {
        let certificate = self.record.certificate.clone();
        let key = config.committee.network_key();
        let export = light::Export::new(
            key.clone(),
            self.record.header.clone(),
            certificate.context("it has no certificate")?,
            self.record.duty.clone(),
            state,
        );
        export.check(&key)?;
        Ok(export)
    }

    /// Whether those who sit next, or are given shares for the epoch after, or are to be linked as
    /// next after those, are told of `key` by this block: it will be spoken to.
    pub fn links(&self, key: &[u8; 32]) -> bool {
        named_in(&self.record.duty, key)
    }
}

/// As [`Boundary::links`], by the block with this duty.
pub(crate) fn named_in(duty: &[u8], key: &[u8; 32]) -> bool {
    let named = Duty::try_from_slice(duty).ok();
    let info = named.and_then(|duty| read_info(&duty.ceremony?).ok());
    info.is_some_and(|info| {
        let sets = [info.output.players(), &info.players, &info.next_players];
        sets.into_iter().flatten().any(|k| k.as_ref() == key)
    })
}

fn read_info(bytes: &[u8]) -> Result<EpochInfo> {
    match read_payload(bytes) {
        Some(Payload::EpochInfo(info)) => Ok(info),
        _ => bail!("who sits cannot be read"),
    }
}

/// The header of an epoch's last block, and its duty, if it is certified.
fn named(
    config: &Config,
    header: &[u8],
    certificate: &[u8],
    duty: &[u8],
) -> Result<(Header, Duty)> {
    let key = config.committee.network_key();
    let header = light::verify_block(&key, header, &[], certificate)?;
    ensure!(header.network == config.network, "it is of another network");
    let end = light::epoch_end(header.epoch, config.epoch_blocks.get());
    ensure!(
        header.height == end,
        "block {} does not end epoch {}",
        header.height,
        header.epoch
    );
    let duty = Duty::from_bytes(&header, duty)?;
    Ok((header, duty))
}

/// Where the engine begins, when that is not the genesis.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Floor {
    pub height: u64,
    /// Canonical bytes of who sits in its epoch.
    pub info: Vec<u8>,
}

/// What the engine asks for to begin there.
pub(crate) struct Anchor {
    pub block: Block,
    pub certificate: Finalization<Scheme, sha256::Digest>,
    pub info: EpochInfo,
}

impl Floor {
    pub fn anchor(&self, store: &Store) -> Result<Anchor> {
        let record = store.block(self.height)?;
        let record = record.with_context(|| format!("block {} is missing", self.height))?;
        let header = Header::from_bytes(&record.header)?;
        let duty = Duty::from_bytes(&header, &record.duty)?;
        let transactions = record.transactions.into_iter().map(Bytes::from).collect();
        let block = Block::new(header, record.seal, duty, transactions)
            .map_err(|why| anyhow::anyhow!("block {} cannot be read: {why}", self.height))?;
        let certificate = record.certificate.context("its certificate is missing")?;
        let certificate = Finalization::decode(Copying(&certificate[..]))
            .context("its certificate cannot be read")?;
        Ok(Anchor {
            block,
            certificate,
            info: read_info(&self.info)?,
        })
    }
}

/// Height of the last block in `data`; `None` if there is none.
pub fn reached(data: &Path) -> Result<Option<u64>> {
    let path = data.join("blocks.redb");
    if !path.exists() {
        return Ok(None);
    }
    Store::open(&path)?.latest()
}

/// Makes `state`, which is that of `boundary`, the beginning of the validator in `data`.
///
/// Errors: it is another state, or there are blocks already.
pub fn adopt<M: Machine>(
    data: &Path,
    machine: &M,
    boundary: &Boundary,
    state: Vec<u8>,
) -> Result<()> {
    std::fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
    let store = Store::open(&data.join("blocks.redb"))?;
    adopt_in(&store, machine, boundary, state)
}

pub(crate) fn adopt_in<M: Machine>(
    store: &Store,
    machine: &M,
    boundary: &Boundary,
    state: Vec<u8>,
) -> Result<()> {
    ensure!(store.latest()?.is_none(), "there are blocks already");
    ensure!(
        light::snapshot_root(&state) == boundary.root,
        "this is not the state that block {} names",
        boundary.header.height
    );
    let read = machine.load(&state).context("the state cannot be read")?;
    ensure!(
        machine.root(&read) == boundary.header.state_root,
        "the state has another root than block {} says",
        boundary.header.height
    );
    let floor = Floor {
        height: boundary.header.height,
        info: boundary.info.clone(),
    };
    store.begin(&boundary.record, state, &floor)
}
