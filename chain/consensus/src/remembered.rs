//! A signing scheme that checks what holds once in a run, whoever asks: for simulations only.
//!
//! All validators of a simulation check the same votes and certificates, in one process; a check is
//! a function of keys, what was signed and the signature. What held is remembered under all of
//! these, and what one of them signed; what did not hold is checked anew each time. A quorum's good
//! votes make one certificate, whichever they are: it is put together once. All that comes out is
//! what [`light::Scheme`] says, which is asked whenever nothing is remembered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use commonware_codec::{Encode as _, Read};
use commonware_consensus::simplex::types::Subject;
use commonware_cryptography::certificate::{
    AssemblyError, Attestation, Membership, Scheme, Subject as _, Verification, Verifier,
    optimistic_assemble,
};
use commonware_cryptography::{Digest as Hash, ed25519};
use commonware_parallel::Strategy;
use commonware_utils::iter::NonEmpty;
use commonware_utils::non_empty;
use commonware_utils::ordered::Set;
use rand_010::rngs::StdRng;
use rand_010::{CryptoRng, SeedableRng as _};
use types::Digest;

/// What held is remembered in two generations of so many; the older one is forgotten whole.
const GENERATION: usize = 1 << 15;

/// What held in a run; cloned, it is the same.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Generations>>);

#[derive(Default)]
struct Generations {
    young: Known,
    old: Known,
}

#[derive(Default)]
struct Known {
    good: HashSet<Digest>,
    /// By what they certify.
    made: HashMap<Digest, Certificate>,
}

type Certificate = <light::Scheme as Verifier>::Certificate;

impl Generations {
    fn young(&mut self) -> &mut Known {
        if self.young.good.len().max(self.young.made.len()) == GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        &mut self.young
    }
}

impl Memory {
    fn holds(&self, what: &Digest) -> bool {
        let known = self.0.lock().expect("not poisoned");
        known.young.good.contains(what) || known.old.good.contains(what)
    }

    fn keep(&self, what: Digest) {
        let mut known = self.0.lock().expect("not poisoned");
        known.young().good.insert(what);
    }

    fn made(&self, what: &Digest) -> Option<Certificate> {
        let known = self.0.lock().expect("not poisoned");
        let made = known.young.made.get(what);
        made.or_else(|| known.old.made.get(what)).cloned()
    }

    fn keep_made(&self, what: Digest, certificate: Certificate) {
        let mut known = self.0.lock().expect("not poisoned");
        known.young().made.insert(what, certificate);
    }
}

#[derive(Clone)]
pub(crate) struct Remembered {
    inner: light::Scheme,
    /// The key that certificates are checked by, and those that votes are.
    identity: Digest,
    sharing: Option<Digest>,
    memory: Memory,
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(to)
    }
}

impl Remembered {
    /// `inner` checks certificates only if it is not `seated`.
    pub fn new(inner: light::Scheme, seated: bool, memory: Memory) -> Self {
        Self {
            identity: Digest::of(&inner.identity().encode()),
            sharing: seated.then(|| Digest::of(&inner.polynomial().encode())),
            inner,
            memory,
        }
    }

    fn certificate<D: Hash>(&self, subject: &Subject<'_, D>, certificate: &Certificate) -> Digest {
        let signed = (kind(subject), &subject.message()[..]);
        let said = &certificate.encode()[..];
        Digest::of_value("runrig-sim-certificate", &(self.identity, signed, said))
    }

    /// What a certificate certifies, and under which key.
    fn certified<D: Hash>(&self, subject: &Subject<'_, D>) -> Digest {
        let signed = (kind(subject), &subject.message()[..]);
        Digest::of_value("runrig-sim-certified", &(self.identity, signed))
    }

    fn is_known<D: Hash>(&self, subject: &Subject<'_, D>, vote: &Attestation<Self>) -> bool {
        let what = self.vote(subject, vote);
        what.is_some_and(|what| self.memory.holds(&what))
    }

    fn is_quorum<'a>(&self, votes: impl Iterator<Item = &'a Attestation<Self>>) -> bool {
        let all: Vec<_> = votes.map(|vote| vote.signer).collect();
        let signers: BTreeSet<_> = all.iter().collect();
        signers.len() == all.len() && all.len() >= self.inner.polynomial().required() as usize
    }

    /// `None`: this scheme knows nobody's key.
    fn vote<D: Hash>(&self, subject: &Subject<'_, D>, vote: &Attestation<Self>) -> Option<Digest> {
        let signed = (kind(subject), &subject.message()[..]);
        let said = (vote.signer.get(), &vote.signature.encode()[..]);
        let whole = (self.sharing?, signed, said);
        Some(Digest::of_value("runrig-sim-vote", &whole))
    }
}

/// Each kind has its own namespace.
fn kind<D: Hash>(subject: &Subject<'_, D>) -> u8 {
    match subject {
        Subject::Notarize { .. } => 0,
        Subject::Nullify { .. } => 1,
        Subject::Finalize { .. } => 2,
    }
}

fn inner(vote: Attestation<Remembered>) -> Attestation<light::Scheme> {
    Attestation {
        signer: vote.signer,
        signature: vote.signature,
    }
}

fn outer(vote: Attestation<light::Scheme>) -> Attestation<Remembered> {
    Attestation {
        signer: vote.signer,
        signature: vote.signature,
    }
}

impl Verifier for Remembered {
    type Subject<'a, D: Hash> = Subject<'a, D>;
    type Faults = <light::Scheme as Verifier>::Faults;
    type PublicKey = ed25519::PublicKey;
    type Certificate = Certificate;

    // In each: as much chance is drawn from the run whether something is remembered or not.
    fn verify_certificate<R: CryptoRng, D: Hash>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        certificate: &Self::Certificate,
        strategy: &impl Strategy,
    ) -> bool {
        let mut rng = StdRng::from_rng(rng);
        let what = self.certificate(&subject, certificate);
        if self.memory.holds(&what) {
            return true;
        }
        let good = (self.inner).verify_certificate(&mut rng, subject, certificate, strategy);
        if good {
            self.memory.keep(what);
        }
        good
    }

    fn verify_certificates<'a, R, D, I>(
        &self,
        rng: &mut R,
        certificates: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> bool
    where
        R: CryptoRng,
        D: Hash,
        I: Iterator<Item = (Subject<'a, D>, &'a Self::Certificate)>,
    {
        let mut rng = StdRng::from_rng(rng);
        let mut news = Vec::new();
        let mut asked = Vec::new();
        for (subject, certificate) in certificates {
            let what = self.certificate(&subject, certificate);
            if !self.memory.holds(&what) {
                news.push(what);
                asked.push((subject, certificate));
            }
        }
        let Some(asked) = NonEmpty::try_new(asked.into_iter()) else {
            return true;
        };
        let good = self.inner.verify_certificates(&mut rng, asked, strategy);
        if good {
            news.into_iter().for_each(|what| self.memory.keep(what));
        }
        good
    }

    fn is_batchable() -> bool {
        light::Scheme::is_batchable()
    }

    fn max_certificate_size(participants: u32) -> usize {
        light::Scheme::max_certificate_size(participants)
    }

    fn certificate_codec_config(&self) -> <Self::Certificate as Read>::Cfg {
        self.inner.certificate_codec_config()
    }

    fn certificate_codec_config_unbounded() -> <Self::Certificate as Read>::Cfg {
        light::Scheme::certificate_codec_config_unbounded()
    }
}

impl Scheme for Remembered {
    type Signature = <light::Scheme as Scheme>::Signature;

    fn me(&self) -> Option<Membership> {
        self.inner.me()
    }

    fn participants(&self) -> &Set<ed25519::PublicKey> {
        self.inner.participants()
    }

    fn sign<D: Hash>(&self, subject: Subject<'_, D>) -> Option<Attestation<Self>> {
        let vote = outer(self.inner.sign(subject)?);
        // A signer's share is one of the sharing's, or there would be no such scheme.
        if let Some(what) = self.vote(&subject, &vote) {
            self.memory.keep(what);
        }
        Some(vote)
    }

    fn verify_attestation<R: CryptoRng, D: Hash>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        attestation: &Attestation<Self>,
        strategy: &impl Strategy,
    ) -> bool {
        let vote = [attestation.clone()];
        let result = self.verify_attestations(rng, subject, vote, strategy);
        result.invalid.is_empty()
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
        D: Hash,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: Send,
    {
        let mut rng = StdRng::from_rng(rng);
        let mut votes: Vec<_> = attestations.into_iter().collect();
        let news = votes.iter().filter(|vote| !self.is_known(&subject, vote));
        let asked: Vec<_> = news.cloned().collect();
        if asked.is_empty() {
            return Verification::new(votes, Vec::new());
        }
        let result = self.inner.verify_attestations::<_, D, _>(
            &mut rng,
            subject,
            asked.into_iter().map(inner),
            strategy,
        );
        let verified = result.verified.into_iter().map(outer);
        for good in verified.filter_map(|vote| self.vote(&subject, &vote)) {
            self.memory.keep(good);
        }
        votes.retain(|vote| !result.invalid.contains(&vote.signer));
        Verification::new(votes, result.invalid)
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
        D: Hash,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: ExactSizeIterator + Send,
        J: IntoIterator<Item = &'a Attestation<Self>>,
        J::IntoIter: Send,
    {
        let mut rng = StdRng::from_rng(rng);
        let pending: Vec<_> = pending.into_iter().collect();
        let verified: Vec<_> = verified.into_iter().collect();
        let all = || pending.iter().chain(verified.iter().copied());
        let certified = self.certified(&subject);
        let good = pending.iter().all(|vote| self.is_known(&subject, vote));
        if good && self.is_quorum(all()) {
            let made = self.memory.made(&certified);
            let made = made.or_else(|| {
                let votes = NonEmpty::try_new(all().cloned())?;
                self.assemble(votes, strategy).ok()
            });
            if let Some(made) = made {
                self.memory.keep(self.certificate(&subject, &made));
                self.memory.keep_made(certified, made.clone());
                return Ok(made);
            }
        }
        let made = optimistic_assemble::<Self, _, D, _, _>(
            self, &mut rng, subject, pending, verified, strategy,
        )?;
        self.memory.keep_made(certified, made.clone());
        Ok(made)
    }

    fn assemble<I>(
        &self,
        attestations: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> Result<Self::Certificate, AssemblyError>
    where
        I: Iterator<Item = Attestation<Self>> + Send,
    {
        let votes = attestations.into_iter().map(inner);
        self.inner.assemble(non_empty![@votes], strategy)
    }

    fn is_attributable() -> bool {
        light::Scheme::is_attributable()
    }
}

#[cfg(test)]
mod tests;
