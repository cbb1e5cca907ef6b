//! What a simulated validator keeps its blocks on: it fills up in the middle of a write, and
//! forgets, when the power fails, what was not synced; of that, it may keep sectors by chance.

use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use types::Digest;

const SECTOR: usize = 512;

/// Cloned, it is the same.
#[derive(Clone, Debug, Default)]
pub struct Medium(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What a power failure leaves for sure.
    durable: Vec<u8>,
    /// What is read: with all that was written since.
    now: Vec<u8>,
    /// Ranges written since.
    unsynced: Vec<(usize, usize)>,
    /// Who opened it last; what an earlier one still writes is refused, as it is dead.
    life: u64,
    /// Writes that still succeed; `None`: all.
    left: Option<u64>,
    failures: u64,
}

/// Of one opening.
#[derive(Debug)]
pub(crate) struct Head {
    medium: Medium,
    life: u64,
}

impl Medium {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("not poisoned")
    }

    /// As a new process does, after the death of the one before.
    pub(crate) fn open(&self) -> Head {
        let mut platter = self.platter();
        platter.life += 1;
        Head {
            medium: self.clone(),
            life: platter.life,
        }
    }

    /// So many more writes succeed, then all fail. `None`: there is room again.
    pub fn fill(&self, left: Option<u64>) {
        self.platter().left = left;
    }

    /// What was not synced is gone, but for sectors that `seed` spares.
    pub fn power_failure(&self, seed: u64) {
        let mut platter = self.platter();
        let platter = &mut *platter;
        platter.failures += 1;
        platter.life += 1;
        for (from, to) in std::mem::take(&mut platter.unsynced) {
            for sector in from / SECTOR..to.div_ceil(SECTOR) {
                let chance = Digest::of_value("sector", &(seed, platter.failures, sector as u64));
                if chance.0[0].is_multiple_of(2) {
                    continue;
                }
                let (from, to) = (from.max(sector * SECTOR), to.min((sector + 1) * SECTOR));
                let to = to.min(platter.now.len());
                if from < to {
                    if platter.durable.len() < to {
                        platter.durable.resize(to, 0);
                    }
                    platter.durable[from..to].copy_from_slice(&platter.now[from..to]);
                }
            }
        }
        platter.now = platter.durable.clone();
    }
}

impl Head {
    fn with<T>(
        &self,
        writes: bool,
        act: impl FnOnce(&mut Platter) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut platter = self.medium.platter();
        if platter.life != self.life {
            return Err(Error::other("its process is dead"));
        }
        if writes && let Some(left) = &mut platter.left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Error::from(ErrorKind::StorageFull))?;
        }
        act(&mut platter)
    }
}

impl StorageBackend for Head {
    fn len(&self) -> Result<u64, Error> {
        self.with(false, |platter| Ok(platter.now.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.with(false, |platter| {
            let from = offset as usize;
            let read = platter.now.get(from..from + out.len());
            out.copy_from_slice(read.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.with(true, |platter| {
            platter.now.resize(len as usize, 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.with(true, |platter| {
            platter.durable.resize(platter.now.len(), 0);
            for (from, to) in std::mem::take(&mut platter.unsynced) {
                let to = to.min(platter.now.len());
                if from < to {
                    platter.durable[from..to].copy_from_slice(&platter.now[from..to]);
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.with(true, |platter| {
            let (from, to) = (offset as usize, offset as usize + data.len());
            if platter.now.len() < to {
                platter.now.resize(to, 0);
            }
            platter.now[from..to].copy_from_slice(data);
            platter.unsynced.push((from, to));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_dead_write_no_more() {
        let medium = Medium::default();
        let head = medium.open();
        head.write(0, &[1; 4 * SECTOR]).expect("written");
        head.sync_data().expect("synced");
        head.write(0, &[2; 4 * SECTOR]).expect("written");
        medium.power_failure(7);
        assert!(head.write(0, &[3]).is_err());
        let mut read = [0; 4 * SECTOR];
        medium.open().read(0, &mut read).expect("read");
        for sector in read.chunks(SECTOR) {
            assert!(sector == [1; SECTOR] || sector == [2; SECTOR]);
        }
        medium.fill(Some(1));
        let head = medium.open();
        head.write(0, &[4]).expect("room");
        assert!(head.write(0, &[4]).is_err() && head.sync_data().is_err());
        medium.fill(None);
        head.sync_data().expect("room again");
    }
}
