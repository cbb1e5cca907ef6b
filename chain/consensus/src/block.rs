//! A header and its transactions, as validators pass them around.

use std::sync::Arc;

use bytes::Bytes;
use commonware_codec::{Buf, EncodeSize, Error as CodecError, RangeCfg, Read, Write};
use commonware_consensus::types::Height;
use commonware_consensus::{Block as ConsensusBlock, BoundedBlock, Heightable};
use commonware_cryptography::{Digestible, sha256};
use commonware_runtime::BufMut;
use light::Header;
use types::{Digest, merkle_root};

pub const TRANSACTION_BYTES_MAX: usize = 256 * 1024;
pub const TRANSACTIONS_MAX: usize = 10_000;
/// Of all transactions together.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// The digest is the header's; the header commits to the transactions, which is checked when
/// a block is read, so equal digests mean equal blocks.
#[derive(Clone, Debug)]
pub struct Block {
    pub header: Arc<Header>,
    pub transactions: Arc<Vec<Bytes>>,
    digest: Digest,
}

impl Block {
    pub fn new(header: Header, transactions: Vec<Bytes>) -> Self {
        Self {
            digest: header.digest(),
            header: Arc::new(header),
            transactions: Arc::new(transactions),
        }
    }

    pub fn id(&self) -> Digest {
        self.digest
    }
}

pub fn payload_root(transactions: &[Bytes]) -> Digest {
    merkle_root(transactions)
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.header.to_bytes());
        self.transactions.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        Header::BYTES + self.transactions.encode_size()
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let header = <[u8; Header::BYTES]>::read_cfg(buf, &())?;
        let bad = |why| CodecError::Invalid("block", why);
        let header = Header::from_bytes(&header).map_err(|_| bad("header"))?;
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
        Ok(Self::new(header, transactions))
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &()) -> usize {
        // Each length takes at most five bytes.
        Header::BYTES + PAYLOAD_BYTES_MAX + 5 * (TRANSACTIONS_MAX + 1)
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
