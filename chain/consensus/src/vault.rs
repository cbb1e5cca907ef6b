//! Shares and what belongs to them, encrypted at rest and erased when spent.
//!
//! A file per epoch, sealed with ChaCha20-Poly1305 under a key made of the validator's
//! identity: a copy of the vault is worth nothing without the seat. A file is replaced as a
//! whole (written aside, synced, renamed), so a crash leaves the old or the new one. What is
//! replaced or spent is overwritten before its name goes; whether the disk keeps other copies
//! is not ours to say.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use borsh::{BorshDeserialize, BorshSerialize};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use commonware_codec::{Copying, DecodeExt as _, Encode};
use commonware_consensus::types::Epoch;
use commonware_cryptography::PublicKey;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::DealerPrivMsg;
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::transcript::Summary;
use commonware_glue::dkg::SecretStore;
use rand::RngCore as _;
use types::Digest;

use crate::committee::Seat;

const NONCE_BYTES: usize = 12;

/// What one epoch's ceremony needs to be kept secret.
#[derive(Clone, Default, BorshSerialize, BorshDeserialize)]
struct Secrets {
    share: Option<Vec<u8>>,
    seed: Option<Vec<u8>>,
    /// By dealer's key.
    dealings: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Sealed files by epoch.
pub type Sealed = Arc<Mutex<BTreeMap<u64, Vec<u8>>>>;

enum Place {
    Folder(PathBuf),
    /// For simulation.
    #[cfg_attr(not(any(test, feature = "simulation")), allow(dead_code))]
    Memory(Sealed),
}

pub struct Vault {
    place: Place,
    cipher: ChaCha20Poly1305,
    epochs: BTreeMap<u64, Secrets>,
}

impl Vault {
    /// Opens what `seat` sealed in `folder`.
    pub fn open(folder: PathBuf, seat: &Seat) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut sealed = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name() == crate::once::FILE {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.parse() {
                Ok(epoch) => {
                    sealed.insert(epoch, std::fs::read(entry.path())?);
                }
                // Left by a crash while it was written.
                Err(_) => erase(&entry.path())?,
            }
        }
        Self::with(Place::Folder(folder), seat, &sealed)
    }

    #[cfg(any(test, feature = "simulation"))]
    pub fn memory(sealed: Sealed, seat: &Seat) -> Result<Self> {
        let now = sealed.lock().expect("not poisoned").clone();
        Self::with(Place::Memory(sealed), seat, &now)
    }

    fn with(place: Place, seat: &Seat, sealed: &BTreeMap<u64, Vec<u8>>) -> Result<Self> {
        let key = Digest::of_value("runrig-vault", &seat.secret());
        let mut vault = Self {
            place,
            cipher: ChaCha20Poly1305::new(&key.0.into()),
            epochs: BTreeMap::new(),
        };
        for (epoch, bytes) in sealed {
            let secrets = vault.unseal(*epoch, bytes).with_context(|| {
                format!("the vault's file of epoch {epoch} was not sealed by this seat, or is damaged: restore the seat that belongs to it, or move the vault away and get a share in the next ceremony")
            })?;
            vault.epochs.insert(*epoch, secrets);
        }
        if let (true, Some(share)) = (vault.epochs.is_empty(), &seat.share) {
            vault.change(0, |secrets| secrets.share = Some(share.encode().to_vec()))?;
        }
        Ok(vault)
    }

    fn unseal(&self, epoch: u64, bytes: &[u8]) -> Result<Secrets> {
        let (nonce, body) = bytes
            .split_at_checked(NONCE_BYTES)
            .context("it is too short")?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().expect("just split");
        let payload = Payload {
            msg: body,
            aad: &epoch.to_le_bytes(),
        };
        let plain = self
            .cipher
            .decrypt(&Nonce::from(nonce), payload)
            .map_err(|_| anyhow!("its seal does not fit"))?;
        Ok(Secrets::try_from_slice(&plain)?)
    }

    fn seal(&self, epoch: u64, secrets: &Secrets) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let plain = borsh::to_vec(secrets)?;
        let payload = Payload {
            msg: &plain,
            aad: &epoch.to_le_bytes(),
        };
        let body = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| anyhow!("sealing failed"))?;
        Ok([&nonce[..], &body].concat())
    }

    /// Durable when it returns.
    fn change(&mut self, epoch: u64, change: impl FnOnce(&mut Secrets)) -> Result<()> {
        let mut secrets = self.epochs.get(&epoch).cloned().unwrap_or_default();
        change(&mut secrets);
        let sealed = self.seal(epoch, &secrets)?;
        match &self.place {
            Place::Memory(files) => {
                files.lock().expect("not poisoned").insert(epoch, sealed);
            }
            Place::Folder(folder) => {
                replace(&folder.join(epoch.to_string()), &sealed)?;
            }
        }
        self.epochs.insert(epoch, secrets);
        Ok(())
    }

    /// Erases what belongs to epochs before this.
    pub(crate) fn forget(&mut self, before: u64) -> Result<()> {
        let spent: Vec<u64> = self.epochs.range(..before).map(|(e, _)| *e).collect();
        for epoch in spent {
            match &self.place {
                Place::Memory(files) => {
                    files.lock().expect("not poisoned").remove(&epoch);
                }
                Place::Folder(folder) => erase(&folder.join(epoch.to_string()))?,
            }
            self.epochs.remove(&epoch);
        }
        Ok(())
    }

    /// A share that is not durable must not be used, nor a dealing acknowledged.
    fn keep(&mut self, epoch: Epoch, change: impl FnOnce(&mut Secrets)) {
        if let Err(error) = self.change(epoch.get(), change) {
            panic!("the vault cannot be written ({error:#}): free the disk and start again");
        }
    }

    fn of(&self, epoch: Epoch) -> Option<&Secrets> {
        self.epochs.get(&epoch.get())
    }
}

fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

/// Puts `bytes` in the place of what is at `path`, as a whole and durably, and overwrites that.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = private(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let old = OpenOptions::new().write(true).open(path).ok();
    std::fs::rename(&aside, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    old.map_or(Ok(()), |old| overwrite(&old))
}

fn overwrite(mut file: &File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(&vec![0; usize::try_from(length).unwrap_or(0)])?;
    file.sync_all()
}

fn erase(path: &Path) -> std::io::Result<()> {
    overwrite(&OpenOptions::new().write(true).open(path)?)?;
    std::fs::remove_file(path)
}

fn read<T: commonware_codec::DecodeExt<()>>(bytes: &[u8]) -> Option<T> {
    T::decode(Copying(bytes)).ok()
}

impl SecretStore for Vault {
    async fn put_share(&mut self, epoch: Epoch, share: Share) {
        self.keep(epoch, |s| s.share = Some(share.encode().to_vec()));
    }

    async fn get_share(&mut self, epoch: Epoch) -> Option<Share> {
        Share::decode(Copying(self.of(epoch)?.share.as_deref()?)).ok()
    }

    async fn put_seed(&mut self, epoch: Epoch, seed: Summary) {
        self.keep(epoch, |s| s.seed = Some(seed.encode().to_vec()));
    }

    async fn get_seed(&mut self, epoch: Epoch) -> Option<Summary> {
        read(self.of(epoch)?.seed.as_deref()?)
    }

    async fn put_dealing<P: PublicKey>(&mut self, epoch: Epoch, dealer: P, private: DealerPrivMsg) {
        let dealer = dealer.encode().to_vec();
        let private = private.encode().to_vec();
        self.keep(epoch, |s| {
            s.dealings.insert(dealer, private);
        });
    }

    async fn get_dealing<P: PublicKey>(
        &mut self,
        epoch: Epoch,
        dealer: &P,
    ) -> Option<DealerPrivMsg> {
        let dealings = &self.of(epoch)?.dealings;
        read(dealings.get(&dealer.encode().to_vec())?)
    }

    async fn prune(&mut self, min: Epoch) {
        if let Err(error) = self.forget(min.get()) {
            // It is tried again in the next epoch.
            tracing::error!(%error, "spent shares cannot be erased");
        }
    }
}

#[cfg(test)]
mod tests;
