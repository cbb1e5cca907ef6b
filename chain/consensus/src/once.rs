//! Seal one block for each view, and never another: not after a crash either.
//!
//! Two seals for one view convict their maker, so what is sealed is on disk before the seal is
//! given out. It lies with the vault, which stays when all else of a damaged folder goes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use borsh::{BorshDeserialize, BorshSerialize};
use light::Header;
use types::{Digest, PublicKey, Seal, SecretKey};

use crate::committee::Seat;

/// In the vault's folder.
pub(crate) const FILE: &str = "led";
/// Written in turn, so that a torn write leaves the other.
const SLOTS: [u64; 2] = [0, 4_096];
const SLOT_BYTES: usize = 80 + 32;

/// The newest view that a block was sealed for, and that block. A seat may outlive its network:
/// what was sealed on another says nothing of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(crate) struct Mark {
    network: Digest,
    epoch: u64,
    view: u64,
    block: Digest,
}

/// Outlives a node in a simulation.
pub(crate) type Kept = Arc<Mutex<Option<Mark>>>;

enum Place {
    File {
        file: File,
        /// Where the next mark goes.
        next: usize,
    },
    #[cfg_attr(not(any(test, feature = "simulation")), allow(dead_code))]
    Memory(Kept),
}

struct Last {
    place: Place,
    mark: Option<Mark>,
}

pub(crate) struct Sealer {
    key: SecretKey,
    network: Digest,
    last: Mutex<Last>,
}

fn slot(mark: &Mark) -> Vec<u8> {
    let bytes = borsh::to_vec(mark).expect("writing to memory does not fail");
    let check = Digest::of_value("runrig-led", mark);
    [&bytes[..], &check.0].concat()
}

fn read_slot(file: &File, at: u64) -> Option<Mark> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, at).ok()?;
    let mark = Mark::try_from_slice(&bytes[..SLOT_BYTES - 32]).ok()?;
    (slot(&mark) == bytes).then_some(mark)
}

impl Sealer {
    /// Errors: what was sealed last cannot be known. Leading on could convict this validator.
    pub fn open(vault: &Path, seat: &Seat, network: Digest) -> Result<Self> {
        let path = vault.join(FILE);
        let open = || -> Result<(File, u64)> {
            std::fs::create_dir_all(vault)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = options.mode(0o600).open(&path)?;
            File::open(vault)?.sync_all()?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = open().with_context(|| format!("open {}", path.display()))?;
        let marks = SLOTS.map(|at| read_slot(&file, at));
        // A first mark that a crash tore was never followed by a seal.
        ensure!(
            marks.iter().any(Option::is_some) || length <= SLOTS[1],
            "{} is damaged: which block this validator proposed last is not known. Stop it for ten minutes, so that no view of then is still open, remove that file and start again",
            path.display()
        );
        let own = marks.map(|mark| mark.filter(|m| m.network == network));
        let next = usize::from(own[0] > own[1]);
        let place = Place::File { file, next };
        Ok(Self::with(
            place,
            own.into_iter().flatten().max(),
            seat,
            network,
        ))
    }

    #[cfg(any(test, feature = "simulation"))]
    pub fn memory(kept: Kept, seat: &Seat, network: Digest) -> Self {
        let mark = *kept.lock().expect("not poisoned");
        let mark = mark.filter(|m| m.network == network);
        Self::with(Place::Memory(kept), mark, seat, network)
    }

    fn with(place: Place, mark: Option<Mark>, seat: &Seat, network: Digest) -> Self {
        Self {
            key: SecretKey::from_seed(seat.secret()),
            network,
            last: Mutex::new(Last { place, mark }),
        }
    }

    pub fn me(&self) -> PublicKey {
        self.key.public()
    }

    /// Epoch and view of the newest block that was sealed here.
    pub fn last_turn(&self) -> Option<(u64, u64)> {
        let mark = self.last.lock().expect("not poisoned").mark;
        mark.map(|mark| (mark.epoch, mark.view))
    }

    /// `None`: another block was sealed for that view or a later one, or the disk fails.
    pub fn seal(&self, header: &Header) -> Option<Seal> {
        let mark = Mark {
            network: self.network,
            epoch: header.epoch,
            view: header.view,
            block: header.digest(),
        };
        let mut last = self.last.lock().expect("not poisoned");
        if last.mark != Some(mark) {
            let before = last.mark.map(|m| (m.epoch, m.view));
            if before >= Some((mark.epoch, mark.view)) {
                return None;
            }
            if let Err(error) = last.place.keep(&mark) {
                tracing::error!(%error, "what this validator proposes cannot be kept; it leads no block until it can: free the disk");
                return None;
            }
            last.mark = Some(mark);
        }
        Some(Seal::put(
            &self.key,
            &self.network,
            mark.epoch,
            mark.view,
            mark.block,
        ))
    }
}

impl Place {
    fn keep(&mut self, mark: &Mark) -> std::io::Result<()> {
        match self {
            Self::Memory(kept) => *kept.lock().expect("not poisoned") = Some(*mark),
            Self::File { file, next } => {
                file.write_all_at(&slot(mark), SLOTS[*next])?;
                file.sync_data()?;
                *next = 1 - *next;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: u64, view: u64, time_ms: u64) -> Header {
        Header {
            network: Digest::default(),
            epoch,
            height: 1,
            view,
            parent_view: 0,
            time_ms,
            parent: Digest::default(),
            proposer: [0; 32],
            payload_root: Digest::default(),
            duty: Digest::default(),
            outcomes_root: Digest::default(),
            events_root: Digest::default(),
            state_root: Digest::default(),
        }
    }

    #[test]
    fn a_view_has_one_block_whatever_crashes() {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = folder.path().join("vault");
        let seat = Seat::from_secret([3; 32]);
        let open = || Sealer::open(&vault, &seat, Digest::of(b"net"));
        let sealed = |sealer: &Sealer, e, v, t| sealer.seal(&header(e, v, t)).is_some();
        let first = open().expect("empty");
        assert!(
            sealed(&first, 0, 5, 1) && sealed(&first, 0, 5, 1),
            "the same"
        );
        assert!(!sealed(&first, 0, 5, 2), "another");
        assert!(!sealed(&first, 0, 4, 1), "an older view");
        assert!(sealed(&first, 0, 6, 1) && sealed(&first, 1, 1, 1));
        let seal = first.seal(&header(1, 1, 1)).expect("the same");
        assert!(seal.is_by(&first.me(), &Digest::of(b"net")));
        drop(first);
        let again = open().expect("reads");
        assert!(!sealed(&again, 1, 1, 2) && sealed(&again, 1, 1, 1));
        drop(again);
        // The newest is torn, and so was never given out: the one before it counts.
        let path = vault.join(FILE);
        let file = OpenOptions::new().write(true).open(&path).expect("there");
        file.write_all_at(&[7; 10], SLOTS[0]).expect("torn");
        let torn = open().expect("reads");
        assert!(!sealed(&torn, 0, 6, 2) && sealed(&torn, 1, 1, 2));
        drop(torn);
        for at in SLOTS {
            file.write_all_at(&[7; 10], at).expect("torn");
        }
        let refused = open().err().expect("refused").to_string();
        assert!(refused.contains("remove that file"), "{refused}");
        file.set_len(40).expect("cut");
        let anew = open().expect("a first write that was torn");
        assert!(sealed(&anew, 9, 9, 1));
        drop(anew);
        let elsewhere = Sealer::open(&vault, &seat, Digest::of(b"another"));
        assert!(sealed(&elsewhere.expect("reads"), 0, 1, 1));
    }
}
