//! Found a network: its founders make the key together, and nobody ever knows it.
//!
//! Joint-Feldman on a chain of one epoch of their own (`commonware-glue`, `dkg::bootstrap`): each founder
//! deals shares of a secret of his own to all, and the network's secret is the sum of those that the
//! chain took. All must be there before it begins, so that nobody's share has to be shown. Start at
//! [`found`]. Source: RFD 32.
//!
//! Each founder tells the others how far he is, again and again:
//!
//! ```text
//! Here --all are heard--> Ready --all are ready--> the ceremony --> Done(file)
//! ```
//!
//! and stays until all are done, since who lags takes the chain's blocks from the others.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use borsh::{BorshDeserialize, BorshSerialize};
use commonware_consensus::types::Epoch;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::Reveal;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Signer as _, ed25519};
use commonware_glue::dkg::network::Manager;
use commonware_glue::dkg::types::EpochOutcome;
use commonware_glue::dkg::{SecretStore as _, bootstrap};
use commonware_p2p::authenticated::lookup;
use commonware_p2p::{
    Address, AddressableManager, PeerSetSubscription, Provider, Receiver as _, Recipients,
    Sender as _, TrackedPeers,
};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Clock as _, Quota, Runner as _, Spawner as _, Supervisor as _};
use commonware_utils::ordered::{Map, Set};
use commonware_utils::sequence::Unit;
use commonware_utils::{NZDuration, NZU32};
use light::NAMESPACE;
use types::Digest;

use crate::committee::{Committee, MEMBERS_MAX, MODE, MODE_NEWEST, Member, Seat};
use crate::committee::{key_bytes, read_key};
use crate::scheme::Plain;
use crate::vault::Vault;
use crate::wiring::{BUFFER, MAILBOX, PAGE, PAGES, links};

/// In the founder's folder: what a ceremony keeps until all are done, in a folder for each charter.
const FOLDER: &str = "founding";
const WORKERS: usize = 2;
const TELL_EVERY: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Who has not been heard for so long is not there.
const HEARD_WITHIN: Duration = Duration::from_secs(4);
/// Before it is said whom one waits for.
const QUIET: Duration = Duration::from_secs(2);
/// Whoever is the last to be done still hears that the others are, or what they decided.
const LINGER: Duration = Duration::from_secs(3);
/// Blocks follow each other without a pause.
const RATE: Quota = Quota::per_second(NZU32!(1_024));
/// Blocks of the chain: dealings are sent again with each of the first half, and each founder leads some of the
/// second. However close they are to each other, the first half takes some tenths of a second.
const BLOCKS_MIN: u64 = 128;
const BLOCKS_PER_FOUNDER: u64 = 4;
const SECTION: NonZeroU64 = NonZeroU64::new(1_024).expect("not zero");

/// What a founder brings along.
pub struct Ceremony {
    /// The folder of his seat and vault.
    pub data: PathBuf,
    pub seat: Seat,
    pub listen: SocketAddr,
    /// All founders, this one too.
    pub founders: Vec<Member>,
    /// Of what they all agreed on: founders of another one do not hear each other.
    pub charter: Digest,
    /// At most so long.
    pub wait: Duration,
}

/// How far it is, for who watches. Keys are founders'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// These have not been heard, or not lately.
    Waits(&'a [[u8; 32]]),
    /// All are there.
    Begins,
    /// The key is made, and kept; these have not said so yet.
    Made(&'a [[u8; 32]]),
}

/// The key is made. What it is shares of nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founded {
    /// A founder that was away in the middle has none: it votes after the first handing on.
    pub holds_share: bool,
    /// Those whose shares were shown to all founders, as they did not confirm them in time.
    pub shown: Vec<[u8; 32]>,
    /// Those that did not say in time that they are done. Some may need this founder again.
    pub silent: Vec<[u8; 32]>,
}

#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// Nothing was made, and nothing is kept.
    #[error("not all founders were there in time")]
    Missing(Vec<[u8; 32]>),
    /// Begun, not done: it goes on from where it is. These are not heard.
    #[error("the ceremony was not done in time")]
    Stalled(Vec<[u8; 32]>),
    /// Decided for all: there is no key, and with this charter there will be none.
    #[error("too few founders' dealings were taken by the ceremony's chain")]
    Failed,
    /// This founder has another network file than we have.
    #[error("two founders have different network files")]
    Differs([u8; 32]),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// What founders tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Stage {
    Here,
    /// All have been heard.
    Ready,
    /// The digest of what the founder keeps.
    Done(Digest),
}

/// What was heard from the others.
struct Tally {
    others: Vec<[u8; 32]>,
    heard: BTreeMap<[u8; 32], (Stage, Instant)>,
}

impl Tally {
    fn hear(&mut self, from: [u8; 32], stage: Stage, now: Instant) {
        if self.others.contains(&from) {
            self.heard.insert(from, (stage, now));
        }
    }

    fn lacking(&self, good: impl Fn(&(Stage, Instant)) -> bool) -> Vec<[u8; 32]> {
        let others = self.others.iter();
        let lacks = |key: &&[u8; 32]| !self.heard.get(*key).is_some_and(&good);
        others.filter(lacks).copied().collect()
    }

    fn absent(&self, now: Instant) -> Vec<[u8; 32]> {
        self.lacking(|(_, at)| now.saturating_duration_since(*at) < HEARD_WITHIN)
    }

    fn unready(&self) -> Vec<[u8; 32]> {
        self.lacking(|(stage, _)| *stage != Stage::Here)
    }

    fn undone(&self) -> Vec<[u8; 32]> {
        self.lacking(|(stage, _)| matches!(stage, Stage::Done(_)))
    }

    /// A founder that keeps something else than `own`.
    fn differs(&self, own: Digest) -> Option<[u8; 32]> {
        let other =
            |(_, (stage, _)): &(_, &(Stage, _))| matches!(stage, Stage::Done(d) if *d != own);
        self.heard.iter().find(other).map(|(key, _)| *key)
    }
}

/// Links that were made when all were waited for; the engine asks for them once more.
#[derive(Clone, Debug)]
struct Links<M> {
    manager: M,
    addresses: Map<ed25519::PublicKey, Address>,
}

impl<M: AddressableManager<PublicKey = ed25519::PublicKey>> Provider for Links<M> {
    type PublicKey = ed25519::PublicKey;

    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<ed25519::PublicKey>> {
        self.manager.peer_set(id).await
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<ed25519::PublicKey> {
        self.manager.subscribe().await
    }
}

impl<M: AddressableManager<PublicKey = ed25519::PublicKey>> Manager for Links<M> {
    type Directory = Unit;
    type Error = std::convert::Infallible;

    fn track(
        &mut self,
        epoch: Epoch,
        _: TrackedPeers<ed25519::PublicKey>,
        _: &Unit,
    ) -> Result<(), Self::Error> {
        let _ = self.manager.track(epoch.get() + 1, self.addresses.clone());
        Ok(())
    }
}

/// Takes part in the ceremony until all founders are done: this founder's share is in its vault and
/// `keep` has kept the committee, whatever comes after. `keep` says the digest of what it kept: the
/// same with all founders. Run again, it goes on.
///
/// Blocks its thread, which must not belong to a runtime. On an error nothing is kept but what it goes
/// on with.
pub fn found(
    ceremony: &Ceremony,
    keep: impl FnOnce(&Committee) -> anyhow::Result<Digest>,
    mut tell: impl FnMut(Step<'_>),
) -> Result<Founded, FoundError> {
    let me = ceremony.seat.key();
    let count = ceremony.founders.len();
    let all = ceremony.founders.iter();
    let keys = all.map(|f| read_key(&f.key));
    let keys = Set::from_iter_dedup(keys.collect::<anyhow::Result<Vec<_>>>()?);
    let ours = || -> anyhow::Result<()> {
        ensure!(
            (2..=MEMBERS_MAX as usize).contains(&count) && keys.len() == count,
            "2 to {MEMBERS_MAX} founders make a key together, each once; {count} were named"
        );
        ensure!(
            ceremony.founders.iter().any(|f| f.key == me),
            "this seat is none of the founders'"
        );
        // The engine would panic.
        TcpListener::bind(ceremony.listen)
            .map(drop)
            .with_context(|| format!("listen on {}", ceremony.listen))
    };
    ours()?;
    let folder = ceremony.data.join(FOLDER);
    let place = folder.join(ceremony.charter.hex());
    let runtime = commonware_runtime::tokio::Config::new()
        .with_worker_threads(WORKERS)
        .with_max_blocking_threads(16)
        .with_catch_panics(false)
        .with_storage_directory(place.join("engine"));
    let run = || {
        commonware_runtime::tokio::Runner::new(runtime)
            .start(|context| on_tokio(context, ceremony, &keys, &place, keep, &mut tell))
    };
    let ended = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let next = "run it again; if it says so at once, its files are damaged: make a new charter";
        Err(anyhow!("the ceremony broke off: {next}").into())
    });
    match &ended {
        Ok(founded) if founded.silent.is_empty() => erase(&folder, &ceremony.seat)?,
        Err(FoundError::Missing(_)) => {
            let _ = std::fs::remove_dir_all(&place);
            // Only if it is empty.
            let _ = std::fs::remove_dir(&folder);
        }
        _ => {}
    }
    ended
}

fn vault_of(place: &Path) -> PathBuf {
    place.join("vault")
}

/// Of all charters: dealings and seeds are of no use any more, but to who would find the secret.
fn erase(folder: &Path, seat: &Seat) -> anyhow::Result<()> {
    let erase = || -> anyhow::Result<()> {
        for place in std::fs::read_dir(folder)? {
            let vault = vault_of(&place?.path());
            if vault.exists() {
                Vault::open(vault, &seat.spent())?.forget(u64::MAX)?;
            }
        }
        Ok(std::fs::remove_dir_all(folder)?)
    };
    erase().with_context(|| format!("erase {}", folder.display()))
}

async fn on_tokio(
    context: commonware_runtime::tokio::Context,
    ceremony: &Ceremony,
    keys: &Set<ed25519::PublicKey>,
    place: &Path,
    keep: impl FnOnce(&Committee) -> anyhow::Result<Digest>,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Founded, FoundError> {
    let begun = Instant::now();
    let late = || begun.elapsed() >= ceremony.wait;
    let me = ceremony.seat.identity.public_key();
    let count = NonZeroU32::new(keys.len() as u32).expect("checked");
    let bytes_max =
        commonware_p2p::max_message_size(&[bootstrap::max_payload_size::<MinSig, Unit>(
            count,
            MODE_NEWEST,
        )]);
    let room = NonZeroUsize::new(keys.len()).expect("checked");
    let (identity, listen) = (ceremony.seat.identity.clone(), ceremony.listen);
    let p2p = links(identity, &namespace(ceremony), listen, room, bytes_max);
    let (mut network, oracle) = lookup::Network::new(context.child("network"), p2p);
    let channels = [0, 1, 2, 3, 4, 5].map(|channel| network.register(channel, RATE));
    let (mut mouth, mut ear) = network.register(6, RATE);
    let network = network.start();
    let addresses = ceremony.founders.iter().filter_map(|founder| {
        let key = read_key(&founder.key).ok()?;
        Some((key, Address::Symmetric(founder.address)))
    });
    let mut manager = Links {
        manager: oracle.clone(),
        addresses: Map::from_iter_dedup(addresses),
    };
    let _ = manager.manager.track(0, manager.addresses.clone());

    let others = keys.iter().filter(|key| **key != me).map(key_bytes);
    let tally = Arc::new(Mutex::new(Tally {
        others: others.collect(),
        heard: BTreeMap::new(),
    }));
    let said = Arc::new(Mutex::new(Stage::Here));
    let (hearing, telling) = (tally.clone(), said.clone());
    let hearing = context.child("hearing").spawn(move |_| async move {
        while let Ok((from, bytes)) = ear.recv().await {
            if let Ok(stage) = Stage::try_from_slice(bytes.as_ref()) {
                let mut tally = hearing.lock().expect("not poisoned");
                tally.hear(key_bytes(&from), stage, Instant::now());
            }
        }
    });
    let telling = context.child("telling").spawn(move |clock| async move {
        loop {
            let stage = *telling.lock().expect("not poisoned");
            let bytes = borsh::to_vec(&stage).expect("writing to memory");
            mouth.send(Recipients::All, bytes, true);
            clock.sleep(TELL_EVERY).await;
        }
    });
    let parts = commonware_runtime::Handle::select([network, hearing, telling]);
    let say = |stage| *said.lock().expect("not poisoned") = stage;
    let heard = || tally.lock().expect("not poisoned");
    let mut told: Option<Vec<[u8; 32]>> = None;
    let mut waits = |absent: &Vec<[u8; 32]>, tell: &mut dyn FnMut(Step<'_>)| {
        let news = told.as_ref() != Some(absent) && begun.elapsed() > QUIET;
        if news && (told.is_some() || !absent.is_empty()) {
            tell(Step::Waits(absent));
            told = Some(absent.clone());
        }
    };

    // Once begun, all have been there.
    let resumed = vault_of(place).exists();
    let work = async {
        loop {
            let absent = heard().absent(Instant::now());
            let unready = heard().unready();
            if resumed || absent.is_empty() {
                say(Stage::Ready);
                if resumed || unready.is_empty() {
                    break;
                }
            }
            if late() {
                let lacking = if absent.is_empty() { unready } else { absent };
                return Err(FoundError::Missing(lacking));
            }
            waits(&absent, tell);
            context.sleep(LOOK_EVERY).await;
        }
        tell(Step::Begins);
        begin(ceremony, place)?;
        let config = chain(ceremony, keys, place, manager, oracle)?;
        let engine =
            bootstrap::Engine::<_, MinSig, _, _, _, _, _>::new(context.child("ceremony"), config);
        let [votes, certificates, resolver, backfill, broadcast, dealings] = channels;
        let (_engine, mut completed) =
            engine.start(votes, certificates, resolver, backfill, broadcast, dealings);
        let completion = loop {
            tokio::select! {
                biased;
                completion = &mut completed => {
                    break completion.map_err(|_| anyhow!("the ceremony's chain broke off: run it again"))?;
                }
                () = context.sleep(LOOK_EVERY) => {}
            }
            let absent = heard().absent(Instant::now());
            if late() {
                return Err(FoundError::Stalled(absent));
            }
            waits(&absent, tell);
        };
        let made = completion.info;
        let Some(info) = made.filter(|info| info.outcome == EpochOutcome::Success) else {
            context.sleep(LINGER).await;
            return Err(FoundError::Failed);
        };
        let committee = Committee {
            output: info.output,
        };
        let holds_share = take_share(ceremony, place, &committee).await?;
        let own = keep(&committee)?;
        say(Stage::Done(own));
        let mut told = None;
        let silent = loop {
            let undone = heard().undone();
            if let Some(other) = heard().differs(own) {
                return Err(FoundError::Differs(other));
            }
            if told.as_ref() != Some(&undone) {
                tell(Step::Made(&undone));
            }
            if undone.is_empty() {
                context.sleep(LINGER).await;
                break undone;
            }
            if late() {
                break undone;
            }
            told = Some(undone);
            context.sleep(LOOK_EVERY).await;
        };
        let shown = committee.output.revealed().iter().map(key_bytes);
        Ok(Founded {
            holds_share,
            shown: shown.collect(),
            silent,
        })
    };
    tokio::select! {
        ended = work => ended,
        _ = parts => Err(anyhow!("the links to the other founders broke off: run it again").into()),
    }
}

/// Only founders of the same charter have the same.
fn namespace(ceremony: &Ceremony) -> Vec<u8> {
    [NAMESPACE, b"_FOUNDING_", &ceremony.charter.0].concat()
}

/// The ceremony's own chain.
fn chain<M>(
    ceremony: &Ceremony,
    keys: &Set<ed25519::PublicKey>,
    place: &Path,
    manager: Links<M>,
    blocker: M,
) -> anyhow::Result<bootstrap::Config<Links<M>, M, Vault, Sequential, Unit>> {
    let blocks = BLOCKS_MIN.max(BLOCKS_PER_FOUNDER * keys.len() as u64);
    Ok(bootstrap::Config {
        signer: ceremony.seat.identity.clone(),
        manager,
        blocker,
        secret_store: Vault::open(vault_of(place), &ceremony.seat.spent())?,
        strategy: Sequential,
        // A process founds once.
        namespace: namespace(ceremony).leak(),
        sharing_mode: MODE,
        reveal: Reveal::V1,
        max_supported_mode: MODE_NEWEST,
        partition_prefix: "founding".into(),
        page_cache: CacheRef::new(PAGE, PAGES),
        write_buffer: BUFFER,
        replay_buffer: BUFFER,
        mailbox_size: MAILBOX,
        fetch_timeout: NZDuration!(Duration::from_secs(2)),
        fetch_retry_delay: Duration::from_millis(100),
        items_per_section: SECTION,
        participants: keys.clone(),
        directory: Unit,
        blocks_per_epoch: NonZeroU64::new(blocks).context("a chain has blocks")?,
    })
}

/// From here on this charter's ceremony is kept; what was begun by another one is erased.
fn begin(ceremony: &Ceremony, place: &Path) -> anyhow::Result<()> {
    let folder = ceremony.data.join(FOLDER);
    for entry in std::fs::read_dir(&folder)? {
        let other = entry?.path();
        if other == place {
            continue;
        }
        if vault_of(&other).exists() {
            Vault::open(vault_of(&other), &ceremony.seat.spent())?.forget(u64::MAX)?;
        }
        std::fs::remove_dir_all(&other).with_context(|| format!("remove {}", other.display()))?;
    }
    Ok(())
}

/// Puts this founder's share into its vault; whether there is one.
async fn take_share(
    ceremony: &Ceremony,
    place: &Path,
    committee: &Committee,
) -> anyhow::Result<bool> {
    let mut made = Vault::open(vault_of(place), &ceremony.seat.spent())?;
    let Some(share) = made.get_share(Epoch::zero()).await else {
        return Ok(false);
    };
    let output = &committee.output;
    let (players, sharing) = (output.players().clone(), output.public().clone());
    ensure!(
        Plain::signer(NAMESPACE, players, sharing, share.clone()).is_some(),
        "the share that was made does not belong to the key that was made: make a new charter"
    );
    let mut kept = Vault::open(ceremony.data.join("vault"), &ceremony.seat.spent())?;
    // That of a charter that came to nothing may be there.
    if kept.get_share(Epoch::zero()).await.as_ref() != Some(&share) {
        kept.put_share(Epoch::zero(), share).await;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
