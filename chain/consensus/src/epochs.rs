//! What the ceremonies ask of us: who sits next and where, and the schemes they make.
//!
//! The key is handed on in each epoch (`commonware-glue`): its holders deal in the first
//! half, publish their logs in blocks of the second half, and the last block says who holds
//! it next. Who shall hold it is the ledger's word alone ([`Machine::committee`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::simplex::Plan;
use commonware_consensus::simplex::types::{Activity, Context};
use commonware_consensus::types::Epoch;
use commonware_consensus::{
    Automaton, CertifiableAutomaton, Epochable as _, Handoff, Relay, Reporter, Viewable as _,
};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::certificate::{Provider, Scoped};
use commonware_cryptography::{ed25519, sha256};
use commonware_glue::dkg::network::{AddressableManager, Manager, MissingAddress};
use commonware_glue::dkg::types::{EpochOutcome, SchemeInfo};
use commonware_glue::dkg::{ParticipantsProvider, Registrar};
use commonware_p2p::{Address, PeerSetSubscription, TrackedPeers};
use commonware_runtime::{Clock, Spawner};
use commonware_utils::channel::oneshot;
use commonware_utils::ordered::Set;
use light::{BEACON_BYTES, BEACON_VIEW, NAMESPACE};

use crate::app::Core;
use crate::block::{Directory, EpochInfo};
use crate::committee::{Committee, MEMBERS_MAX, Member, key_bytes, read_key};
use crate::leaders::places;
use crate::machine::Machine;
use crate::scheme::{Known, Plain, Scheme};

/// Schemes of past epochs are kept for messages that come late.
const KEPT: u64 = 2;
/// An epoch's engine has heard of nobody when it begins. Whoever was not among the quorum of the
/// first view it takes for dead, and skips at once if he leads the second, while others vote for
/// what he proposes: neither of both is a quorum, and the view takes until its last timeout. So
/// the first view is left this much later: by then the slower have been heard, too. (Not in a
/// network's first epoch: its validators come one by one.)
const GREETING: Duration = Duration::from_millis(300);

/// Schemes by epoch; whoever needs one that is not there can still check certificates, since
/// the key is the same in all.
#[derive(Clone)]
pub(crate) struct Schemes {
    by_epoch: Arc<Mutex<BTreeMap<u64, Arc<Scheme>>>>,
    any: Arc<Scheme>,
    seated: Arc<Seated>,
    known: Known,
}

/// Who votes in which epoch, in the order in which they lead.
#[derive(Default)]
pub(crate) struct Seated(
    Mutex<BTreeMap<u64, Vec<ed25519::PublicKey>>>,
    Mutex<Option<KeyShare>>,
);

/// A validator's part of the network key in one epoch, for what is not a vote.
#[derive(Clone)]
pub struct KeyShare {
    /// Canonical bytes of the public side: what shares are checked by.
    pub sharing: Vec<u8>,
    /// How many shares make a signature of the network.
    pub quorum: usize,
    pub share: Share,
}

impl Seated {
    /// Of the newest epoch; `None` while this validator has none.
    pub fn key_share(&self) -> Option<KeyShare> {
        self.1.lock().expect("not poisoned").clone()
    }

    /// Told by whoever sees to it that no engine runs.
    pub fn seat(&self, epoch: u64, order: Vec<ed25519::PublicKey>) {
        let mut seated = self.0.lock().expect("not poisoned");
        seated.insert(epoch, order);
        seated.retain(|e, _| e + KEPT >= epoch);
    }

    pub fn of(&self, epoch: u64) -> Vec<ed25519::PublicKey> {
        let seated = self.0.lock().expect("not poisoned");
        seated.get(&epoch).cloned().unwrap_or_default()
    }
}

impl Schemes {
    pub fn new(committee: &Committee, seated: Arc<Seated>, known: Known) -> Self {
        let key = *committee.output.public().public();
        let any = Plain::certificate_verifier(NAMESPACE, key);
        Self {
            by_epoch: Arc::default(),
            any: Arc::new(known.dress(any, None)),
            seated,
            known,
        }
    }
}

impl Provider for Schemes {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        let scheme = self.scheme(epoch).map(Scoped::scheme);
        scheme.or_else(|| Some(Scoped::verifier(self.any.clone())))
    }

    fn scheme(&self, epoch: Epoch) -> Option<Arc<Scheme>> {
        let schemes = self.by_epoch.lock().expect("not poisoned");
        schemes.get(&epoch.get()).cloned()
    }
}

impl Schemes {
    /// `lineup`: those who sit, in the order in which they lead.
    fn note(
        &self,
        epoch: Epoch,
        info: SchemeInfo<MinSig, ed25519::PublicKey>,
        lineup: Vec<ed25519::PublicKey>,
    ) {
        let mut held = None;
        let (sharing, scheme) = match info {
            SchemeInfo::Verifier {
                participants: members,
                sharing,
            } => {
                let scheme = Plain::verifier(NAMESPACE, members, sharing.clone());
                (sharing, Some(scheme))
            }
            SchemeInfo::Member {
                participants: members,
                sharing,
                public_key,
            } => {
                tracing::warn!(
                    epoch = epoch.get(),
                    "this validator sits, but has no share of the key: it will have one after the next ceremony"
                );
                let scheme = Plain::member(NAMESPACE, members, sharing.clone(), &public_key);
                (sharing, scheme)
            }
            SchemeInfo::Signer {
                participants: members,
                sharing,
                share,
            } => {
                held = Some(KeyShare {
                    sharing: sharing.encode().to_vec(),
                    quorum: sharing.required() as usize,
                    share: share.clone(),
                });
                let known = (members.clone(), sharing.clone());
                let signer = Plain::signer(NAMESPACE, known.0, known.1, share);
                let scheme = signer.unwrap_or_else(|| {
                    tracing::error!(epoch = epoch.get(), "this validator's share does not belong to the committee's key: it only follows");
                    Plain::verifier(NAMESPACE, members, sharing.clone())
                });
                (sharing, Some(scheme))
            }
        };
        // What was held before is spent.
        *self.seated.1.lock().expect("not poisoned") = held;
        let Some(scheme) = scheme else { return };
        let first = epoch.get().saturating_sub(KEPT);
        let mut seated = self.seated.0.lock().expect("not poisoned");
        seated.insert(epoch.get(), lineup);
        seated.retain(|e, _| *e >= first);
        let mut schemes = self.by_epoch.lock().expect("not poisoned");
        let scheme = self.known.dress(scheme, Some(&sharing));
        schemes.insert(epoch.get(), Arc::new(scheme));
        schemes.retain(|e, _| *e >= first);
    }
}

/// Takes down the schemes as they are made, each with its epoch's lineup.
#[derive(Clone)]
pub(crate) struct Registry<M: Machine> {
    pub schemes: Schemes,
    pub drawn: Drawn<M>,
}

impl<M: Machine> Registrar for Registry<M> {
    type Variant = MinSig;
    type PublicKey = ed25519::PublicKey;

    async fn register(&self, epoch: Epoch, info: SchemeInfo<MinSig, ed25519::PublicKey>) {
        let (SchemeInfo::Verifier { participants, .. }
        | SchemeInfo::Member { participants, .. }
        | SchemeInfo::Signer { participants, .. }) = &info;
        let seats: Vec<ed25519::PublicKey> = participants.iter().cloned().collect();
        let drawn = self.drawn.committee(epoch.get()).await;
        let drawn: Vec<[u8; 32]> = drawn.iter().map(|member| member.key).collect();
        let keys: Vec<[u8; 32]> = seats.iter().map(key_bytes).collect();
        let lineup = places(&keys, &drawn).into_iter();
        let lineup = lineup.map(|place| seats[usize::from(place)].clone());
        self.schemes.note(epoch, info, lineup.collect());
    }
}

/// Those whom the ledger seats.
pub(crate) struct Drawn<M: Machine>(pub Arc<Core<M>>);

impl<M: Machine> Clone for Drawn<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Machine> Drawn<M> {
    /// Waits until the ledger has said who sits in `epoch`.
    async fn committee(&self, epoch: u64) -> Vec<Member> {
        loop {
            let moved = self.0.moved.notified();
            let said = {
                let head = self.0.head.borrow();
                self.0.machine.committee(&head.state, epoch)
            };
            if let Some(members) = said {
                return members;
            }
            moved.await;
        }
    }
}

fn keys(members: &[Member]) -> Set<ed25519::PublicKey> {
    let keys = members.iter().filter_map(|m| read_key(&m.key).ok());
    Set::from_iter_dedup(keys.take(MEMBERS_MAX as usize))
}

/// Where `peers` are: what the ledger said last, up to those who sit in epoch `until`.
fn directory<M: Machine>(
    machine: &M,
    state: &M::State,
    until: u64,
    peers: &Set<ed25519::PublicKey>,
) -> Directory {
    let mut found: BTreeMap<[u8; 32], SocketAddr> = BTreeMap::new();
    let mut missing = peers.len();
    for epoch in (0..=until).rev() {
        let Some(members) = machine.committee(state, epoch) else {
            break;
        };
        for member in members {
            let wanted = read_key(&member.key).is_ok_and(|key| peers.position(&key).is_some());
            if wanted && !found.contains_key(&member.key) {
                found.insert(member.key, member.address);
                missing -= 1;
            }
        }
        if missing == 0 {
            break;
        }
    }
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    peers
        .iter()
        .map(|key| {
            let at = found.get(&key_bytes(key)).copied().unwrap_or(nowhere);
            (key.clone(), Address::Symmetric(at))
        })
        .collect()
}

impl<M: Machine> ParticipantsProvider for Drawn<M> {
    type PublicKey = ed25519::PublicKey;
    type Directory = Directory;

    /// Who receives shares in `epoch` sits in the next.
    async fn participants(&mut self, epoch: Epoch) -> Set<ed25519::PublicKey> {
        keys(&self.committee(epoch.get() + 1).await)
    }

    async fn directory(&mut self, epoch: Epoch, peers: Set<ed25519::PublicKey>) -> Directory {
        let until = epoch.get() + 2;
        self.committee(until).await;
        let head = self.0.head.borrow().clone();
        directory(self.0.machine.as_ref(), &head.state, until, &peers)
    }
}

/// Links to an epoch's peers: at the addresses that this validator was told itself, else where
/// the ledger says.
#[derive(Clone, Debug)]
pub(crate) struct Roads<M> {
    inner: AddressableManager<M>,
    told: Arc<BTreeMap<[u8; 32], SocketAddr>>,
    /// Most peers of an epoch.
    room: usize,
}

impl<M> Roads<M> {
    pub fn new(manager: M, told: &[Member], room: usize) -> Self {
        Self {
            inner: AddressableManager::new(manager),
            told: Arc::new(told.iter().map(|m| (m.key, m.address)).collect()),
            room,
        }
    }
}

impl<M> commonware_p2p::Provider for Roads<M>
where
    M: commonware_p2p::AddressableManager<PublicKey = ed25519::PublicKey>,
{
    type PublicKey = ed25519::PublicKey;

    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<ed25519::PublicKey>> {
        self.inner.peer_set(id).await
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<ed25519::PublicKey> {
        self.inner.subscribe().await
    }
}

impl<M> Manager for Roads<M>
where
    M: commonware_p2p::AddressableManager<PublicKey = ed25519::PublicKey>,
{
    type Directory = Directory;
    type Error = MissingAddress<ed25519::PublicKey>;

    fn track(
        &mut self,
        epoch: Epoch,
        peers: TrackedPeers<ed25519::PublicKey>,
        directory: &Directory,
    ) -> Result<(), Self::Error> {
        let known = directory.clone().into_inner();
        let known = known.into_iter().map(|(key, said)| {
            let told = self.told.get(&key_bytes(&key));
            (key, told.map_or(said, |at| Address::Symmetric(*at)))
        });
        let all = peers.primary.len() + peers.secondary.len();
        let peers = if all > self.room {
            tracing::warn!(
                "{all} validators are to be linked and there is room for {}: start this validator again, and it makes room",
                self.room
            );
            let left = self.room.saturating_sub(peers.primary.len());
            let primary = peers.primary.iter().take(self.room).cloned();
            let secondary = peers.secondary.iter().take(left).cloned();
            TrackedPeers::new(
                Set::from_iter_dedup(primary),
                Set::from_iter_dedup(secondary),
            )
        } else {
            peers
        };
        self.inner.track(epoch, peers, &known.collect())
    }
}

/// What everyone starts from.
///
/// Errors: the genesis does not say who sits, or says other members than were dealt to.
pub(crate) fn first_info<M: Machine>(
    machine: &M,
    state: &M::State,
    committee: &Committee,
) -> Result<EpochInfo> {
    let seated = |epoch| {
        let members = machine.committee(state, epoch);
        Ok::<_, anyhow::Error>(keys(&members.context("the genesis does not say who sits")?))
    };
    let output = committee.output.clone();
    let (holders, players, next_players) = (seated(0)?, seated(1)?, seated(2)?);
    ensure!(
        holders == *output.players() && !players.is_empty() && !next_players.is_empty(),
        "the genesis names other validators than the key was dealt to"
    );
    let all = [&holders, &players, &next_players];
    let peers = Set::from_iter_dedup(all.into_iter().flat_map(|s| s.iter().cloned()));
    Ok(EpochInfo {
        outcome: EpochOutcome::Success,
        epoch: Epoch::zero(),
        output,
        players,
        next_players,
        directory: directory(machine, state, 2, &peers),
    })
}

/// Listens to what the engine reports for beacons and of terms that are over, beside `inner`.
pub(crate) struct Ears<A, M: Machine, E> {
    pub inner: A,
    pub core: Arc<Core<M>>,
    pub context: Arc<E>,
}

impl<A: Clone, M: Machine, E> Clone for Ears<A, M, E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            core: self.core.clone(),
            context: self.context.clone(),
        }
    }
}

type Consensus = Context<sha256::Digest, ed25519::PublicKey>;

impl<A, M: Machine, E: Spawner + Clock> Automaton for Ears<A, M, E>
where
    A: Automaton<Context = Consensus, Digest = sha256::Digest>,
{
    type Context = Consensus;
    type Digest = sha256::Digest;

    async fn propose(&mut self, context: Consensus) -> oneshot::Receiver<sha256::Digest> {
        self.inner.propose(context).await
    }

    async fn verify(
        &mut self,
        context: Consensus,
        payload: sha256::Digest,
    ) -> oneshot::Receiver<bool> {
        self.inner.verify(context, payload).await
    }
}

impl<A, M: Machine, E: Spawner + Clock> CertifiableAutomaton for Ears<A, M, E>
where
    A: CertifiableAutomaton<Context = Consensus, Digest = sha256::Digest>,
{
    async fn prepare(&mut self, context: Consensus) -> oneshot::Receiver<Handoff<sha256::Digest>> {
        self.inner.prepare(context).await
    }

    async fn certify(
        &mut self,
        round: commonware_consensus::types::Round,
        payload: sha256::Digest,
    ) -> oneshot::Receiver<bool> {
        let certified = self.inner.certify(round, payload).await;
        if round.epoch().get() == 0 || round.view().get() > 1 {
            return certified;
        }
        let (mut tell, told) = oneshot::channel();
        self.context
            .child("greeting")
            .spawn(move |clock| async move {
                let answer = async {
                    clock.sleep(GREETING).await;
                    certified.await
                };
                tokio::select! {
                    biased;
                    () = tell.closed() => {}
                    answer = answer => {
                        if let Ok(good) = answer {
                            let _ = tell.send(good);
                        }
                    }
                }
            });
        told
    }
}

impl<A, M: Machine, E: Send + Sync + 'static> Relay for Ears<A, M, E>
where
    A: Relay<
            Digest = sha256::Digest,
            PublicKey = ed25519::PublicKey,
            Plan = Plan<ed25519::PublicKey>,
        >,
{
    type Digest = sha256::Digest;
    type PublicKey = ed25519::PublicKey;
    type Plan = Plan<ed25519::PublicKey>;

    fn broadcast(&mut self, payload: sha256::Digest, plan: Self::Plan) -> Feedback {
        self.inner.broadcast(payload, plan)
    }
}

impl<A, M: Machine, E: Send + Sync + 'static> Reporter for Ears<A, M, E>
where
    A: Reporter<Activity = Activity<Scheme, sha256::Digest>>,
{
    type Activity = Activity<Scheme, sha256::Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        let certified = matches!(
            activity,
            Activity::Notarization(_)
                | Activity::Certification(_)
                | Activity::Nullification(_)
                | Activity::Finalization(_)
        );
        if certified {
            let term = (activity.epoch().get(), activity.view().get());
            self.core.term_over(term);
        }
        if activity.view().get() == BEACON_VIEW {
            let made = match &activity {
                Activity::Notarization(n) | Activity::Certification(n) => n.certificate.get(),
                Activity::Nullification(n) => n.certificate.get(),
                Activity::Finalization(f) => f.certificate.get(),
                _ => None,
            };
            if let Some(made) = made
                && let Ok(bytes) = <[u8; BEACON_BYTES]>::try_from(&made.seed_signature.encode()[..])
            {
                let mut heard = self.core.beacon.lock().expect("not poisoned");
                *heard = Some((activity.epoch().get(), bytes));
            }
        }
        self.inner.report(activity)
    }
}
