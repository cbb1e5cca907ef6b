//! A host asks for the keys of its secrets; validators release shares; a quorum opens.
//!
//! What a validator releases is sealed (HPKE: X25519, HKDF-SHA-256, AES-256-GCM) to a key that
//! the host made for this one request and never writes down: whoever carries it learns nothing.

use commonware_codec::{Copying, Encode, ReadExt};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::ops::threshold;
use commonware_cryptography::bls12381::primitives::variant::{MinSig, PartialSignature};
use commonware_parallel::Sequential;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use types::AllocationId;
use zeroize::Zeroizing;

use crate::{Label, NAMESPACE, SECRETS_MAX, SecretError, sealing, sharing};

/// Of an X25519 key, and of what HPKE sends along.
const KEY_BYTES: usize = 32;

type Partial = PartialSignature<MinSig>;

/// One validator's shares, for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release(pub Vec<u8>);

fn info(allocation: AllocationId) -> Vec<u8> {
    format!("runrig secrets of {allocation}").into_bytes()
}

/// The shares of the keys of `labels`, in order, sealed to the host's key `to`.
///
/// The caller has seen that the ledger places a replica with these secrets on that host.
///
/// Errors: `Refused` if `to` is no key.
pub fn release(
    share: &Share,
    allocation: AllocationId,
    to: &[u8],
    labels: &[Label],
) -> Result<Release, SecretError> {
    if to.len() != KEY_BYTES {
        return Err(SecretError::Refused);
    }
    let mut shares = Zeroizing::new(Vec::new());
    for label in labels.iter().take(SECRETS_MAX) {
        let partial = threshold::sign_message::<MinSig>(share, NAMESPACE, &label.bytes());
        shares.extend_from_slice(&partial.encode());
    }
    let to = HpkePublicKey(to.to_vec());
    let (sent, sealed) = SUITE
        .seal(&info(allocation), &[], &shares, &to)
        .map_err(|_| SecretError::Refused)?;
    let mut bytes = sent.0;
    bytes.extend_from_slice(&sealed);
    Ok(Release(bytes))
}

/// A host's request, and the only key that opens what comes back.
pub struct Asking {
    allocation: AllocationId,
    to: HpkePublicKey,
    key: HpkePrivateKey,
}

impl Asking {
    pub fn new(allocation: AllocationId) -> Result<Self, SecretError> {
        let (to, key) = SUITE
            .generate_key_pair()
            .map_err(|_| SecretError::Refused)?;
        Ok(Self {
            allocation,
            to,
            key,
        })
    }

    /// The key to seal to.
    pub fn to(&self) -> &[u8] {
        &self.to.0
    }

    /// Opens each secret by what validators released, `network` being the public side of the
    /// network key. Shares that do not fit are left out.
    ///
    /// Errors: `TooFew` good shares; a secret that cannot be read or does not open.
    pub fn open(
        &self,
        network: &[u8],
        releases: &[Release],
        secrets: &[(Label, &[u8])],
    ) -> Result<Vec<Opened>, SecretError> {
        let sharing = sharing(network)?;
        let needed = sharing.required() as usize;
        let readable: Vec<Vec<Partial>> = releases
            .iter()
            .filter_map(|release| self.shares(release, secrets.len()))
            .collect();
        let mut opened = Vec::with_capacity(secrets.len());
        for (at, (label, sealed)) in secrets.iter().enumerate() {
            let message = label.bytes();
            let mut good: Vec<&Partial> = Vec::with_capacity(needed);
            for partial in readable.iter().map(|shares| &shares[at]) {
                let fresh = good.iter().all(|known| known.index != partial.index);
                if fresh
                    && threshold::verify_message(&sharing, NAMESPACE, &message, partial).is_ok()
                {
                    good.push(partial);
                }
                if good.len() == needed {
                    break;
                }
            }
            if good.len() < needed {
                let had = good.len();
                return Err(SecretError::TooFew { had, needed });
            }
            let signature = threshold::recover::<MinSig, _>(&sharing, good, &Sequential)
                .map_err(|_| SecretError::Closed)?;
            opened.push(Opened(sealing::open(&signature, label, sealed)?));
        }
        Ok(opened)
    }

    fn shares(&self, release: &Release, count: usize) -> Option<Vec<Partial>> {
        let (sent, sealed) = release.0.split_at_checked(KEY_BYTES)?;
        let sent = EncapsulatedSecret(sent.to_vec());
        let opened = SUITE.open(&sent, &info(self.allocation), &[], sealed, &self.key);
        let opened = Zeroizing::new(opened.ok()?);
        let mut rest = Copying(&opened[..]);
        let shares: Option<Vec<Partial>> =
            (0..count).map(|_| Partial::read(&mut rest).ok()).collect();
        shares
    }
}

/// A value in the clear. No `Debug`, wiped when it is let go.
pub struct Opened(pub Zeroizing<Vec<u8>>);
