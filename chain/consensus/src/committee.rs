//! Who votes: identities, the dealt threshold key, one seat each.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use commonware_codec::{Copying, Decode, DecodeExt, Encode, ReadExt};
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{self, Output};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::sharing::{Mode, ModeVersion};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Signer as _, ed25519};
use commonware_utils::ordered::Set;
use commonware_utils::{N3f1, NZU32};
use rand_010::SeedableRng;
use rand_010::rngs::StdRng;

/// Largest committee.
pub const MEMBERS_MAX: u32 = 128;
pub(crate) const MODE: Mode = Mode::NonZeroCounter;
/// Newest form of a dealt key that is read.
pub(crate) const MODE_NEWEST: ModeVersion = ModeVersion::v0();

/// One who sits, or is about to: where its votes come from, and where they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity key.
    pub key: [u8; 32],
    pub address: SocketAddr,
}

/// The public part of the first deal: same on every validator.
#[derive(Clone, Debug)]
pub struct Committee {
    pub(crate) output: Output<MinSig, ed25519::PublicKey>,
}

/// One validator's secrets: its identity for good, and its share of the first deal until the
/// validator has put that into its vault.
#[derive(Clone)]
pub struct Seat {
    pub(crate) identity: ed25519::PrivateKey,
    pub(crate) share: Option<Share>,
}

/// A trusted deal: whoever runs it can know the network's secret, for good. Handing the key on makes
/// new shares of the same secret, so that old ones are of no use without a quorum of them, and the
/// dealer has had them all. Fit for one founder, or one whom all others trust not to have kept them;
/// several make the key together by [`crate::found`], and nobody ever knows it.
pub fn deal(validators: u32, seed: [u8; 32]) -> Result<(Committee, Vec<Seat>)> {
    ensure!(
        (1..=MEMBERS_MAX).contains(&validators),
        "a committee has 1 to {MEMBERS_MAX} validators; {validators} were asked for"
    );
    let mut rng = StdRng::from_seed(seed);
    let identities: Vec<ed25519::PrivateKey> = (0..validators)
        .map(|_| <ed25519::PrivateKey as commonware_math::algebra::Random>::random(&mut rng))
        .collect();
    let members = Set::from_iter_dedup(identities.iter().map(|i| i.public_key()));
    let (output, shares) = feldman_desmedt::deal::<MinSig, _, N3f1>(&mut rng, MODE, members)
        .context("deal the network key")?;
    let seats = identities
        .into_iter()
        .map(|identity| {
            let share = shares
                .get_value(&identity.public_key())
                .context("every member gets a share")?
                .clone();
            Ok(Seat {
                identity,
                share: Some(share),
            })
        })
        .collect::<Result<_>>()?;
    Ok((Committee { output }, seats))
}

impl Committee {
    /// Members in voting order: identity keys.
    pub fn members(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.output.players().iter().map(key_bytes)
    }

    /// Certifies every block; never changes.
    pub fn network_key(&self) -> Vec<u8> {
        self.output.public().public().encode().to_vec()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.output.encode().to_vec()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let output: Output<MinSig, ed25519::PublicKey> =
            Decode::decode_cfg(Copying(bytes), &(NZU32!(MEMBERS_MAX), MODE_NEWEST))
                .context("the committee cannot be read: the network was made by another version of runrig; make it anew")?;
        ensure!(
            output.public().total().get() as usize == output.players().len(),
            "the committee's key was dealt to another number of members"
        );
        Ok(Self { output })
    }
}

impl Seat {
    /// A new identity, which nobody has dealt anything to.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(secret);
        Self {
            identity: <ed25519::PrivateKey as commonware_math::algebra::Random>::random(&mut rng),
            share: None,
        }
    }

    pub fn key(&self) -> [u8; 32] {
        key_bytes(&self.identity.public_key())
    }

    /// The identity's seed: what an ed25519 key is made from, anywhere.
    pub fn secret(&self) -> [u8; 32] {
        let bytes = self.identity.encode();
        bytes[..]
            .try_into()
            .expect("an ed25519 secret has 32 bytes")
    }

    /// Without the share of the first deal.
    pub fn spent(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            share: None,
        }
    }

    pub fn holds_share(&self) -> bool {
        self.share.is_some()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.identity.encode().to_vec();
        if let Some(share) = &self.share {
            out.extend_from_slice(&share.encode());
        }
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (identity, share) = if bytes.len() == 32 {
            let identity = ed25519::PrivateKey::decode(Copying(bytes));
            (identity.context("the seat cannot be read")?, None)
        } else {
            let (identity, share) = <(ed25519::PrivateKey, Share)>::decode(Copying(bytes))
                .context("the seat cannot be read")?;
            (identity, Some(share))
        };
        Ok(Self { identity, share })
    }
}

pub(crate) fn key_bytes(key: &ed25519::PublicKey) -> [u8; 32] {
    key.as_ref()
        .try_into()
        .expect("an ed25519 key has 32 bytes")
}

/// Can it be anyone's identity key?
pub fn is_identity(key: &[u8; 32]) -> bool {
    read_key(key).is_ok()
}

pub(crate) fn read_key(bytes: &[u8; 32]) -> Result<ed25519::PublicKey> {
    ed25519::PublicKey::read(&mut Copying(&bytes[..])).context("an identity key cannot be read")
}
