//! A header, its duty and its transactions, as validators pass them around.

use std::sync::Arc;

use ::types::{Digest, PublicKey, Seal, Signature, merkle_root};
use bytes::Bytes;
use commonware_codec::{
    Buf, Copying, Decode as _, Encode as _, EncodeSize, Error as CodecError, RangeCfg, Read, Write,
};
use commonware_consensus::simplex::types::Context;
use commonware_consensus::types::{Epoch, Height, Round, View};
use commonware_consensus::{Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Digestible, ed25519, sha256};
use commonware_glue::dkg::ReshareBlock;
use commonware_glue::dkg::network::Addresses;
use commonware_glue::dkg::types::{self, EpochOutcome};
use commonware_runtime::BufMut;
use commonware_utils::NZU32;
use light::{Duty, Header, LightError};

use crate::committee::{MEMBERS_MAX, MODE_NEWEST, key_bytes, read_key};
use crate::store::Record;

pub const TRANSACTION_BYTES_MAX: usize = 256 * 1024;
pub const TRANSACTIONS_MAX: usize = 10_000;
/// Of all transactions together.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Screeners of an epoch at most: so many words fit into a block.
pub const SCREENERS_MAX: usize = 31;

pub type Directory = Addresses<ed25519::PublicKey>;
/// What a block may carry of the handing over of the key.
pub type Payload = types::Payload<MinSig, ed25519::PublicKey, Directory>;
/// Who holds shares in an epoch, who receives them, who is next, and where all are.
pub type EpochInfo = types::EpochInfo<MinSig, ed25519::PublicKey, Directory>;

fn duty_bytes_max() -> usize {
    // Six options, lengths, a beacon and two digests; of each who sits, a place and a statement.
    let statement = 1 + 2 + 8 + 8 + 64;
    let screened = SCREENERS_MAX * (1 + 4 + 64);
    Payload::max_encode_size(NZU32!(MEMBERS_MAX))
        + 256
        + statement * MEMBERS_MAX as usize
        + screened
}

/// The digest is the header's; the header commits to duty and transactions, which is checked
/// when a block is read, so equal digests mean equal blocks.
#[derive(Clone)]
pub struct Block {
    pub header: Arc<Header>,
    /// Its leader's signature, by which it answers for it ([`Seal`]). All zeros in the genesis,
    /// which everyone makes.
    pub seal: [u8; 64],
    pub duty: Arc<Duty>,
    pub transactions: Arc<Vec<Bytes>>,
    payload: Option<Arc<Payload>>,
    digest: Digest,
}

impl Block {
    /// Errors: the duty is not the header's, or its ceremony cannot be read.
    pub fn new(
        header: Header,
        seal: [u8; 64],
        duty: Duty,
        transactions: Vec<Bytes>,
    ) -> Result<Self, &'static str> {
        if duty.digest() != header.duty {
            return Err("duty");
        }
        let payload = match &duty.ceremony {
            None => None,
            Some(bytes) => Some(Arc::new(read_payload(bytes).ok_or("ceremony")?)),
        };
        Ok(Self {
            digest: header.digest(),
            header: Arc::new(header),
            seal,
            duty: Arc::new(duty),
            transactions: Arc::new(transactions),
            payload,
        })
    }

    pub fn id(&self) -> Digest {
        self.digest
    }
}

/// The leader of the block with `header`, and that it is his of its view; `None`: the genesis.
pub(crate) fn sealed(
    header: &Header,
    block: Digest,
    signature: [u8; 64],
) -> Option<(PublicKey, Seal)> {
    let seal = Seal {
        epoch: header.epoch,
        view: header.view,
        block,
        signature: Signature(signature),
    };
    (header.height > 0).then_some((PublicKey(header.proposer), seal))
}

impl Block {
    /// Its leader, and that it is his of its view; `None`: the genesis.
    pub fn sealed(&self) -> Option<(PublicKey, Seal)> {
        sealed(&self.header, self.digest, self.seal)
    }

    /// Has its leader sealed it?
    pub fn is_sealed(&self) -> bool {
        let network = &self.header.network;
        self.sealed()
            .is_none_or(|(leader, seal)| seal.is_by(&leader, network))
    }

    /// Does it carry the log of its leader's dealing?
    pub(crate) fn dealt(&self) -> bool {
        matches!(self.payload.as_deref(), Some(Payload::DealerLog(_)))
    }

    /// Who votes from the next block on, if this one says so: identity keys in voting order.
    pub(crate) fn seats(&self) -> Option<Vec<[u8; 32]>> {
        seats_of(self.payload.as_deref()?)
    }
}

/// How the key was handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handing {
    /// Else the ceremony failed, and the key stays with those who held it.
    pub done: bool,
    /// Who votes in the epoch that begins, in the order in which they lead.
    pub seats: Vec<[u8; 32]>,
    /// Of those, whose share was shown to all while it was made, as they did not confirm it.
    pub revealed: Vec<[u8; 32]>,
}

/// What an epoch's last block, or the genesis, says of the next; `None` of any other.
///
/// Errors: the record is damaged.
pub fn handing(record: &Record) -> Result<Option<Handing>, LightError> {
    let header = Header::from_bytes(&record.header)?;
    let duty = Duty::from_bytes(&header, &record.duty)?;
    let Some(Payload::EpochInfo(info)) = duty.ceremony.as_deref().and_then(read_payload) else {
        return Ok(None);
    };
    let seats: Vec<[u8; 32]> = info.output.players().iter().map(key_bytes).collect();
    let order = duty
        .lineup
        .and_then(|places| light::lineup(&seats, &places));
    Ok(Some(Handing {
        done: matches!(info.outcome, EpochOutcome::Success),
        seats: order.ok_or(LightError::NoChange(header.height))?,
        revealed: info.output.revealed().iter().map(key_bytes).collect(),
    }))
}

/// Who holds the key, and so votes, in the epoch that `payload` opens.
pub(crate) fn seats_of(payload: &Payload) -> Option<Vec<[u8; 32]>> {
    match payload {
        Payload::EpochInfo(info) => Some(info.output.players().iter().map(key_bytes).collect()),
        Payload::DealerLog(_) => None,
    }
}

pub(crate) fn payload_bytes(payload: &Payload) -> Vec<u8> {
    payload.encode().to_vec()
}

/// `None` also if `bytes` are not in canonical form.
pub(crate) fn read_payload(bytes: &[u8]) -> Option<Payload> {
    let payload = Payload::decode_cfg(Copying(bytes), &(NZU32!(MEMBERS_MAX), MODE_NEWEST)).ok()?;
    (payload_bytes(&payload) == bytes).then_some(payload)
}

pub fn payload_root(transactions: &[Bytes]) -> Digest {
    merkle_root(transactions)
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.header.to_bytes());
        buf.put_slice(&self.seal);
        Bytes::from(self.duty.to_bytes()).write(buf);
        self.transactions.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        Header::BYTES
            + self.seal.len()
            + Bytes::from(self.duty.to_bytes()).encode_size()
            + self.transactions.encode_size()
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let header = <[u8; Header::BYTES]>::read_cfg(buf, &())?;
        let bad = |why| CodecError::Invalid("block", why);
        let header = Header::from_bytes(&header).map_err(|_| bad("header"))?;
        let seal = <[u8; 64]>::read_cfg(buf, &())?;
        let duty = Bytes::read_cfg(buf, &RangeCfg::from(0..=duty_bytes_max()))?;
        let duty = Duty::from_bytes(&header, &duty).map_err(|_| bad("duty"))?;
        read_key(&header.proposer).map_err(|_| bad("proposer"))?;
        let transactions = Vec::<Bytes>::read_cfg(
            buf,
            &(
                RangeCfg::from(0..=TRANSACTIONS_MAX),
                RangeCfg::from(0..=TRANSACTION_BYTES_MAX),
            ),
        )?;
        if transactions.iter().map(Bytes::len).sum::<usize>() > PAYLOAD_BYTES_MAX {
            return Err(bad("payload too large"));
        }
        if payload_root(&transactions) != header.payload_root {
            return Err(bad("payload root"));
        }
        let block = Self::new(header, seal, duty, transactions).map_err(bad)?;
        if !block.is_sealed() {
            return Err(bad("seal"));
        }
        Ok(block)
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &()) -> usize {
        // Each length takes at most five bytes.
        Header::BYTES + 64 + duty_bytes_max() + PAYLOAD_BYTES_MAX + 5 * (TRANSACTIONS_MAX + 2)
    }
}

impl Digestible for Block {
    type Digest = sha256::Digest;

    fn digest(&self) -> sha256::Digest {
        sha256::Digest::from(self.digest.0)
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        Height::new(self.header.height)
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> sha256::Digest {
        sha256::Digest::from(self.header.parent.0)
    }
}

impl CertifiableBlock for Block {
    type Context = Context<sha256::Digest, ed25519::PublicKey>;

    fn context(&self) -> Self::Context {
        let header = &self.header;
        Context {
            round: Round::new(Epoch::new(header.epoch), View::new(header.view)),
            leader: read_key(&header.proposer).expect("checked when the block was read"),
            parent: (View::new(header.parent_view), self.parent()),
        }
    }
}

impl ReshareBlock for Block {
    type Variant = MinSig;
    type PublicKey = ed25519::PublicKey;
    type Directory = Directory;

    fn payload(&self) -> Option<Payload> {
        self.payload.as_deref().cloned()
    }
}
