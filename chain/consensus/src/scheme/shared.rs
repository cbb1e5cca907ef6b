//! Schemes that tell each other what they have found to be good.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use commonware_codec::{Encode as _, Read};
use commonware_consensus::simplex::scheme::bls12381_threshold::vrf::{Certificate, Signature};
use commonware_consensus::simplex::types::Subject;
use commonware_cryptography::bls12381::primitives::sharing::Sharing;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::certificate::{
    self, AssemblyError, Attestation, Membership, Scheme as _, Verification, Verifier,
};
use commonware_cryptography::{Digest, ed25519};
use commonware_parallel::Strategy;
use commonware_utils::N3f1;
use commonware_utils::iter::NonEmpty;
use commonware_utils::ordered::{Quorum as _, Set};
use rand_010::CryptoRng;
use types::Digest as Hash;

use super::{Known, Plain};

impl Known {
    /// Shared by whoever is given a clone.
    pub fn shared() -> Self {
        Self(Some(Arc::default()))
    }

    /// `sharing`: what `plain` checks votes by, if it can.
    pub(crate) fn dress(&self, plain: Plain, sharing: Option<&Sharing<MinSig>>) -> Scheme {
        let digest = |sharing: &Sharing<MinSig>| Hash::of(&sharing.encode());
        Scheme {
            plain,
            sharing: sharing.map(digest).unwrap_or_default(),
            found: self.0.clone(),
        }
    }
}

/// Digests of a sharing and of a vote in it, to what the vote is for; and of that, to the one
/// certificate that the network's key can make of it.
#[derive(Debug, Default)]
pub struct Found {
    votes: Mutex<HashMap<(Hash, Hash), Hash>>,
    certificates: Mutex<HashMap<Hash, Certificate<MinSig>>>,
}

impl Found {
    fn certificate(&self, of: &Hash) -> Option<Certificate<MinSig>> {
        let certificates = self.certificates.lock().expect("not poisoned");
        certificates.get(of).cloned()
    }
}

#[derive(Clone, Debug)]
pub struct Scheme {
    plain: Plain,
    sharing: Hash,
    found: Option<Arc<Found>>,
}

/// What is signed, with its kind.
fn digest<D: Digest>(subject: &Subject<'_, D>) -> Hash {
    let (kind, bytes): (u8, Bytes) = match subject {
        Subject::Notarize { proposal } => (0, proposal.encode()),
        Subject::Nullify { round } => (1, round.encode()),
        Subject::Finalize { proposal } => (2, proposal.encode()),
    };
    Hash::of(&[&[kind], &bytes[..]].concat())
}

fn vote(of: &Attestation<Scheme>) -> Hash {
    Hash::of(&[&of.signer.get().to_le_bytes()[..], &of.signature.encode()].concat())
}

fn plain(of: Attestation<Scheme>) -> Attestation<Plain> {
    let Attestation { signer, signature } = of;
    Attestation { signer, signature }
}

fn dressed(of: Attestation<Plain>) -> Attestation<Scheme> {
    let Attestation { signer, signature } = of;
    Attestation { signer, signature }
}

impl Scheme {
    fn note(&self, vote_of: &Attestation<Self>, subject: Hash) {
        if let Some(found) = &self.found {
            let mut votes = found.votes.lock().expect("not poisoned");
            votes.insert((self.sharing, vote(vote_of)), subject);
        }
    }

    /// What it was found to be a good vote for.
    fn voted(&self, attestation: &Attestation<Self>) -> Option<Hash> {
        let votes = self.found.as_ref()?.votes.lock().expect("not poisoned");
        votes.get(&(self.sharing, vote(attestation))).copied()
    }

    /// Whether somebody has found it to be good.
    fn has<D: Digest>(&self, subject: &Subject<'_, D>, certificate: &Certificate<MinSig>) -> bool {
        let found = self.found.as_ref();
        let known = found.and_then(|found| found.certificate(&digest(subject)));
        known.is_some_and(|known| known.encode() == certificate.encode())
    }

    /// What a quorum of good votes makes, if somebody has made it before.
    fn recall(&self, votes: &[Attestation<Self>]) -> Option<Certificate<MinSig>> {
        let subject = self.voted(votes.first()?)?;
        let signers: BTreeSet<_> = votes.iter().map(|vote| vote.signer).collect();
        let quorum = self.participants().quorum::<N3f1>() as usize;
        let whole = signers.len() == votes.len() && votes.len() >= quorum;
        let good = whole && votes.iter().all(|vote| self.voted(vote) == Some(subject));
        good.then(|| self.found.as_ref()?.certificate(&subject))?
    }
}

impl Verifier for Scheme {
    type Subject<'a, D: Digest> = Subject<'a, D>;
    type Faults = N3f1;
    type PublicKey = ed25519::PublicKey;
    type Certificate = Certificate<MinSig>;

    fn verify_certificate<R: CryptoRng, D: Digest>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        certificate: &Self::Certificate,
        strategy: &impl Strategy,
    ) -> bool {
        let one = NonEmpty::new((subject, certificate), std::iter::empty());
        self.verify_certificates::<R, D, _>(rng, one, strategy)
    }

    fn verify_certificates<'a, R, D, I>(
        &self,
        rng: &mut R,
        certificates: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> bool
    where
        R: CryptoRng,
        D: Digest,
        I: Iterator<Item = (Subject<'a, D>, &'a Self::Certificate)>,
    {
        let mut fresh: Vec<_> = certificates.into_iter().collect();
        fresh.retain(|(subject, certificate)| !self.has(subject, certificate));
        let Some(asked) = NonEmpty::try_new(fresh.iter().copied()) else {
            return true;
        };
        let good = self
            .plain
            .verify_certificates::<R, D, _>(rng, asked, strategy);
        if let Some(found) = self.found.as_ref().filter(|_| good) {
            let mut certificates = found.certificates.lock().expect("not poisoned");
            let fresh = fresh.iter();
            certificates.extend(fresh.map(|(of, made)| (digest(of), (*made).clone())));
        }
        good
    }

    fn is_batchable() -> bool {
        Plain::is_batchable()
    }

    fn max_certificate_size(participants: u32) -> usize {
        Plain::max_certificate_size(participants)
    }

    fn certificate_codec_config(&self) -> <Self::Certificate as Read>::Cfg {
        self.plain.certificate_codec_config()
    }

    fn certificate_codec_config_unbounded() -> <Self::Certificate as Read>::Cfg {
        Plain::certificate_codec_config_unbounded()
    }
}

impl certificate::Scheme for Scheme {
    type Signature = Signature<MinSig>;

    fn me(&self) -> Option<Membership> {
        self.plain.me()
    }

    fn participants(&self) -> &Set<Self::PublicKey> {
        self.plain.participants()
    }

    fn sign<D: Digest>(&self, subject: Subject<'_, D>) -> Option<Attestation<Self>> {
        let signed = dressed(self.plain.sign::<D>(subject)?);
        self.note(&signed, digest(&subject));
        Some(signed)
    }

    fn verify_attestation<R: CryptoRng, D: Digest>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        attestation: &Attestation<Self>,
        strategy: &impl Strategy,
    ) -> bool {
        let one = std::iter::once(attestation.clone());
        let checked = self.verify_attestations::<R, D, _>(rng, subject, one, strategy);
        checked.invalid.is_empty()
    }

    fn verify_attestations<R, D, I>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        attestations: I,
        strategy: &impl Strategy,
    ) -> Verification<Self>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: Send,
    {
        let of = digest(&subject);
        let (mut good, fresh): (Vec<_>, Vec<_>) = attestations
            .into_iter()
            .partition(|vote| self.voted(vote) == Some(of));
        let mut bad = Vec::new();
        if !fresh.is_empty() {
            let fresh = fresh.into_iter().map(plain);
            let checked = self
                .plain
                .verify_attestations::<R, D, _>(rng, subject, fresh, strategy);
            bad = checked.invalid;
            for vote in checked.verified.into_iter().map(dressed) {
                self.note(&vote, of);
                good.push(vote);
            }
        }
        Verification::new(good, bad)
    }

    fn optimistic_assemble<'a, R, D, I, J>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        pending: I,
        verified: J,
        strategy: &impl Strategy,
    ) -> Result<Self::Certificate, Verification<Self>>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: ExactSizeIterator + Send,
        J: IntoIterator<Item = &'a Attestation<Self>>,
        J::IntoIter: Send,
    {
        let pending: Vec<_> = pending.into_iter().collect();
        let verified: Vec<_> = verified.into_iter().cloned().collect();
        let all = [&pending[..], &verified[..]].concat();
        let of_it = all
            .iter()
            .all(|vote| self.voted(vote) == Some(digest(&subject)));
        if let Some(known) = of_it.then(|| self.recall(&all)).flatten() {
            return Ok(known);
        }
        certificate::optimistic_assemble::<Self, R, D, _, _>(
            self,
            rng,
            subject,
            pending,
            verified.iter(),
            strategy,
        )
    }

    fn assemble<I>(
        &self,
        attestations: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> Result<Self::Certificate, AssemblyError>
    where
        I: Iterator<Item = Attestation<Self>> + Send,
    {
        let votes: Vec<_> = attestations.into_iter().collect();
        if let Some(known) = self.recall(&votes) {
            return Ok(known);
        }
        let votes = NonEmpty::try_new(votes.into_iter().map(plain));
        let votes = votes.expect("it was not empty");
        self.plain.assemble(votes, strategy)
    }

    fn is_attributable() -> bool {
        Plain::is_attributable()
    }
}

#[cfg(test)]
mod tests;
