//! A whole state in one file, with what proves it: the end of an epoch, certified.

use borsh::{BorshDeserialize, BorshSerialize};
use types::Digest;

use crate::{Duty, Header, LightError, snapshot_root, verify_block};

/// What a file begins with; another number when its form changes.
const MAGIC: [u8; 16] = *b"runrig-export-01";

/// The state at the end of an epoch. Whoever has the network key need trust nobody for it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Export {
    magic: [u8; 16],
    /// As whoever made the file says: not to be trusted.
    pub network_key: Vec<u8>,
    /// Of the epoch's last block.
    pub header: Vec<u8>,
    pub certificate: Vec<u8>,
    /// Names the state.
    pub duty: Vec<u8>,
    /// Canonical bytes.
    pub state: Vec<u8>,
}

impl Export {
    pub fn new(
        network_key: Vec<u8>,
        header: Vec<u8>,
        certificate: Vec<u8>,
        duty: Vec<u8>,
        state: Vec<u8>,
    ) -> Self {
        Self {
            magic: MAGIC,
            network_key,
            header,
            certificate,
            duty,
            state,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("writing to memory does not fail")
    }

    /// Errors: it is no export, or is cut or longer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LightError> {
        let read = Self::try_from_slice(bytes).ok();
        let read = read.filter(|export| export.magic == MAGIC);
        read.ok_or(LightError::Export)
    }

    /// The epoch's last block and the name of its state, if the committee behind `network_key`
    /// finalised it and the state is the one after it.
    pub fn check(&self, network_key: &[u8]) -> Result<(Header, Digest), LightError> {
        let header = verify_block(network_key, &self.header, &[], &self.certificate)?;
        let duty = Duty::from_bytes(&header, &self.duty)?;
        let named = duty.snapshot.ok_or(LightError::NoSnapshot(header.height))?;
        if snapshot_root(&self.state) == named {
            Ok((header, named))
        } else {
            Err(LightError::OtherState(header.height))
        }
    }
}
