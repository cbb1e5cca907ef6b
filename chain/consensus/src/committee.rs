//! Who votes: identities, the dealt threshold key, one seat each.

use anyhow::{Context, Result, ensure};
use commonware_codec::{Copying, Decode, DecodeExt, Encode, ReadExt};
use commonware_cryptography::bls12381::dkg::feldman_desmedt;
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::sharing::{Mode, ModeVersion, Sharing};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Signer as _, ed25519};
use commonware_utils::ordered::Set;
use commonware_utils::{N3f1, NZU32};
use rand_010::SeedableRng;
use rand_010::rngs::StdRng;

/// Largest committee whose bytes are read.
const MEMBERS_MAX: u32 = 128;

/// The public part: same on every validator.
#[derive(Clone, Debug)]
pub struct Committee {
    pub(crate) members: Set<ed25519::PublicKey>,
    pub(crate) sharing: Sharing<MinSig>,
}

/// One validator's secrets.
#[derive(Clone)]
pub struct Seat {
    pub(crate) identity: ed25519::PrivateKey,
    pub(crate) share: Share,
}

/// A trusted deal: whoever runs it knows all shares. Fit for a founder's own machines; an
/// open network makes its key by a ceremony.
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
    let (output, shares) =
        feldman_desmedt::deal::<MinSig, _, N3f1>(&mut rng, Mode::NonZeroCounter, members.clone())
            .context("deal the network key")?;
    let seats = identities
        .into_iter()
        .map(|identity| {
            let share = shares
                .get_value(&identity.public_key())
                .context("every member gets a share")?
                .clone();
            Ok(Seat { identity, share })
        })
        .collect::<Result<_>>()?;
    let committee = Committee {
        members,
        sharing: output.public().clone(),
    };
    Ok((committee, seats))
}

impl Committee {
    /// Members in voting order: identity keys.
    pub fn members(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.members.iter().map(key_bytes)
    }

    /// Certifies every block; never changes.
    pub fn network_key(&self) -> Vec<u8> {
        self.sharing.public().encode().to_vec()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.members.encode().to_vec();
        out.extend_from_slice(&self.sharing.encode());
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bound = (0..=MEMBERS_MAX as usize).into();
        let (members, sharing): (Set<ed25519::PublicKey>, Sharing<MinSig>) = Decode::decode_cfg(
            Copying(bytes),
            &((bound, ()), (NZU32!(MEMBERS_MAX), ModeVersion::v0())),
        )
        .context("the committee cannot be read")?;
        ensure!(
            sharing.total().get() as usize == members.len(),
            "the committee's key was dealt to another number of members"
        );
        Ok(Self { members, sharing })
    }
}

impl Seat {
    pub fn key(&self) -> [u8; 32] {
        key_bytes(&self.identity.public_key())
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.identity.encode().to_vec();
        out.extend_from_slice(&self.share.encode());
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (identity, share) = <(ed25519::PrivateKey, Share)>::decode(Copying(bytes))
            .context("the seat cannot be read")?;
        Ok(Self { identity, share })
    }
}

pub(crate) fn key_bytes(key: &ed25519::PublicKey) -> [u8; 32] {
    key.as_ref()
        .try_into()
        .expect("an ed25519 key has 32 bytes")
}

pub(crate) fn read_key(bytes: &[u8; 32]) -> Result<ed25519::PublicKey> {
    ed25519::PublicKey::read(&mut Copying(&bytes[..])).context("an identity key cannot be read")
}
