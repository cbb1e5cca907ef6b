//! Listen for hosts' signs of life, and vote on who is silent (RFD 12).
//!
//! A thread receives beats over UDP at the port of the HTTP API and keeps when each host was
//! heard; a task compares that with this validator's standing votes on the ledger and, where
//! they differ, sends a transaction. Nothing is sent while nothing changes. What is kept is
//! bounded by the registered hosts; strangers' datagrams cost a look into the state, and
//! signature checks are limited in number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use api::{Anchor, BEAT_BYTES_MAX, Beat};
use bytes::Bytes;
use ledger::{Call, State, Transaction, TransactionBody, host};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::watch;
use types::{AccountId, Digest, HostId, SecretKey};

use crate::index::Handle;

/// How often votes are compared with what is heard.
const LOOK: Duration = Duration::from_millis(250);
/// Who did not get round to looking for so long did not listen either.
const DEAF: Duration = Duration::from_millis(1_500);
/// Of the socket, if the system allows: some thousand beats that wait.
const BUFFER_BYTES: usize = 4 << 20;
/// A vote that is not on the ledger after so long is sent again.
const RESEND: Duration = Duration::from_secs(2);
/// Hosts named in one vote.
const NAMED_MAX: usize = 1_000;
/// Heights after which a vote is void.
const EXPIRES: u64 = 20;
/// A beat is taken so long before or after its time: an old one, sent again, is no sign of life.
const EARLY_MS: u64 = 10_000;
/// Signature checks a second, and how many may be saved up.
const CHECKS: f64 = 2_000.0;
/// A host may not know yet that this validator sits: before it was heard once, its silence counts
/// only so long after that. Hosts ask who sits more often.
const INTRODUCED: Duration = Duration::from_secs(90);
/// The thread looks that often whether it is to end.
const RECEIVE: Duration = Duration::from_millis(500);

/// What is known of a host.
struct Heard {
    anchor: Anchor,
    number: u32,
    link: Digest,
    at: Instant,
}

/// Who was heard when.
pub struct Ears {
    network: Digest,
    /// Listens without a break since then: silence before says nothing.
    began: Instant,
    /// Hosts that were never heard are expected from then on.
    expects: Instant,
    heard: BTreeMap<HostId, Heard>,
    checks: f64,
    refilled: Instant,
}

impl Ears {
    pub fn new(network: Digest, now: Instant) -> Self {
        Self {
            network,
            began: now,
            expects: now,
            heard: BTreeMap::new(),
            checks: CHECKS,
            refilled: now,
        }
    }

    /// Takes a beat of a host that `is_registered`; `false` if it says nothing new or is not
    /// believed.
    pub fn hear(
        &mut self,
        beat: &Beat,
        now: Instant,
        now_ms: u64,
        is_registered: impl Fn(&HostId) -> bool,
    ) -> bool {
        if beat.anchor.due_ms(beat.number).abs_diff(now_ms) > EARLY_MS {
            return false;
        }
        let host = beat.host();
        if let Some(known) = self.heard.get_mut(&host)
            && known.anchor == beat.anchor
        {
            let good = beat.follows(known.number, &known.link);
            if good {
                (known.number, known.link, known.at) = (beat.number, beat.link, now);
            }
            return good;
        }
        let later = |known: &Heard| beat.anchor.began_ms > known.anchor.began_ms;
        let good = is_registered(&host)
            && self.heard.get(&host).is_none_or(later)
            && beat.follows(0, &beat.anchor.hash)
            && self.may_check(now)
            && beat.is_signed(&self.network);
        if good {
            let heard = Heard {
                anchor: beat.anchor,
                number: beat.number,
                link: beat.link,
                at: now,
            };
            self.heard.insert(host, heard);
        }
        good
    }

    fn may_check(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.checks = (self.checks + passed * CHECKS).min(CHECKS);
        let may = self.checks >= 1.0;
        if may {
            self.checks -= 1.0;
        }
        may
    }

    /// How this validator's votes (`bit`) must change to say what it hears: hosts that are
    /// silent for it, and hosts that are not any more.
    pub fn votes(
        &self,
        state: &State,
        bit: u128,
        now: Instant,
        now_ms: u64,
    ) -> (Vec<HostId>, Vec<HostId>) {
        let timeout = Duration::from_millis(state.params().host_timeout_ms);
        let (mut silent, mut heard) = (Vec::new(), Vec::new());
        for (id, host) in state.hosts.iter() {
            let at = self.heard.get(id).map_or(self.expects, |h| h.at);
            let at = at.max(self.began);
            let quiet = now.saturating_duration_since(at);
            // What it signed in a block counts, too.
            let on_ledger = Duration::from_millis(now_ms.saturating_sub(host.last_seen_ms));
            let is_silent = quiet.min(on_ledger) > timeout;
            if is_silent == (host.silent & bit != 0) {
                continue;
            }
            if is_silent { &mut silent } else { &mut heard }.push(*id);
            if silent.len() + heard.len() >= NAMED_MAX {
                break;
            }
        }
        (silent, heard)
    }

    /// Hosts that have left are forgotten.
    fn forget(&mut self, state: &State) {
        self.heard.retain(|id, _| state.hosts.get(id).is_some());
    }
}

/// Starts to listen at `address`, on a network that is watched; until `stop` votes with `key`
/// whenever that sits.
///
/// Errors: nothing can be received there. A validator that does not listen does not vote.
pub fn start(
    handle: Handle,
    network: Digest,
    key: SecretKey,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    if handle.head().state.globals.watchers.is_empty() {
        return Ok(());
    }
    let socket = UdpSocket::bind(address).with_context(|| format!("listen on UDP {address}"))?;
    socket.set_read_timeout(Some(RECEIVE))?;
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES);
    }
    let ears = Arc::new(Mutex::new(Ears::new(network, Instant::now())));
    let listener = Listener {
        handle: handle.clone(),
        ears: ears.clone(),
        stop: stop.clone(),
    };
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || listener.run(&socket))
        .context("start the thread that listens for hosts")?;
    tokio::spawn(vote(handle, ears, network, key, stop));
    Ok(())
}

struct Listener {
    handle: Handle,
    ears: Arc<Mutex<Ears>>,
    stop: watch::Receiver<bool>,
}

impl Listener {
    fn run(&self, socket: &UdpSocket) {
        let mut bytes = [0; BEAT_BYTES_MAX + 1];
        while !*self.stop.borrow() && self.stop.has_changed().is_ok() {
            let (length, from) = match socket.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if is_pause(&error) => continue,
                Err(error) => {
                    tracing::debug!(%error, "receiving signs of life");
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            let Some(beat) = Beat::read(&bytes[..length]) else {
                continue;
            };
            let good = {
                let head = self.handle.head();
                let registered = |host: &HostId| head.state.hosts.get(host).is_some();
                let mut ears = self.ears.lock().expect("not poisoned");
                ears.hear(&beat, Instant::now(), api::now_ms(), registered)
            };
            if good {
                // A host that is not answered speaks on the ledger.
                let _ = socket.send_to(&beat.answer(), from);
            }
        }
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// The vote that is under way: what it names, and since when.
type Sent = Option<(BTreeSet<HostId>, Instant)>;

async fn vote(
    handle: Handle,
    ears: Arc<Mutex<Ears>>,
    network: Digest,
    key: SecretKey,
    mut stop: watch::Receiver<bool>,
) {
    let own = AccountId::of(&key.public());
    let mut sits = handle.head().state.globals.watcher_bit(&own).is_some();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sent: Sent = None;
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        if looked.elapsed() > DEAF {
            ears.lock().expect("not poisoned").began = Instant::now();
        }
        looked = Instant::now();
        let state = handle.head().state.clone();
        let bit = state.globals.watcher_bit(&own);
        let sat = std::mem::replace(&mut sits, bit.is_some());
        let Some(bit) = bit else {
            sent = None;
            continue;
        };
        if !sat {
            ears.lock().expect("not poisoned").expects = looked + INTRODUCED;
        }
        let (silent, heard) = {
            let mut ears = ears.lock().expect("not poisoned");
            if ears.heard.len() > state.hosts.len() {
                ears.forget(&state);
            }
            ears.votes(&state, bit, Instant::now(), api::now_ms())
        };
        let named: BTreeSet<HostId> = silent.iter().chain(&heard).copied().collect();
        if named.is_empty() {
            sent = None;
            continue;
        }
        let under_way = sent
            .as_ref()
            .is_some_and(|(before, at)| *before == named && at.elapsed() < RESEND);
        if under_way {
            continue;
        }
        let body = TransactionBody {
            network,
            key: key.public().into(),
            on_behalf: Vec::new(),
            nonce: state.account(&own).nonce + 1,
            expires: state.height() + EXPIRES,
            tip: types::Amount::ZERO,
            call: Call::Host(host::Call::Observe { silent, heard }),
        };
        let transaction = Transaction::sign(body, &key);
        let Ok(bytes) = borsh::to_vec(&transaction) else {
            continue;
        };
        match handle.submit(Bytes::from(bytes)) {
            Ok(_) => sent = Some((named, Instant::now())),
            Err(error) => tracing::warn!(%error, "a vote on silent hosts is not taken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Beats;

    use super::*;

    const PERIOD_MS: u32 = 1_000;

    fn beats(host: u8, began_ms: u64) -> Beats {
        let key = SecretKey::from_seed([host; 32]);
        Beats::new(&key, &Digest::of(b"net"), [host; 32], began_ms, PERIOD_MS)
    }

    fn beat(beats: &Beats, number: u32) -> Beat {
        Beat::read(&beats.datagram(number)).expect("readable")
    }

    #[test]
    fn a_host_is_heard_by_its_own_and_newest_words_only() {
        let now = Instant::now();
        let mut ears = Ears::new(Digest::of(b"net"), now);
        let first = beats(1, 1_000_000);
        let at = |number: u64| 1_000_000 + number * u64::from(PERIOD_MS);
        assert!(
            !ears.hear(&beat(&first, 1), now, at(1), |_| false),
            "a stranger"
        );
        assert!(ears.hear(&beat(&first, 1), now, at(1), |_| true));
        assert!(!ears.hear(&beat(&first, 1), now, at(1), |_| true), "again");
        assert!(
            ears.hear(&beat(&first, 4), now, at(4), |_| true),
            "two were lost"
        );
        assert!(!ears.hear(&beat(&first, 3), now, at(4), |_| true), "late");
        assert!(
            !ears.hear(&beat(&first, 40), now, at(5), |_| true),
            "long before its time"
        );
        assert!(
            !ears.hear(&beat(&first, 5), now, at(50), |_| true),
            "long after it"
        );
        let mut forged = beat(&first, 5);
        forged.link = Digest::of(b"x");
        assert!(!ears.hear(&forged, now, at(5), |_| true));
        let next = beats(1, 1_005_000);
        assert!(
            ears.hear(&beat(&next, 1), now, at(6), |_| true),
            "a new anchor"
        );
        assert!(
            !ears.hear(&beat(&first, 6), now, at(6), |_| true),
            "the old one is done"
        );
        let mut ours = beat(&beats(2, 1_005_000), 1);
        ours.signature = beat(&next, 1).signature;
        assert!(!ears.hear(&ours, now, at(6), |_| true), "signed by another");
    }

    #[test]
    fn who_has_just_sat_down_waits_for_hosts_to_learn_of_it() {
        let genesis = ledger::Genesis {
            name: "watch".into(),
            time_ms: 1,
            params: ledger::Params::dev(),
            balances: Vec::new(),
            faucet: AccountId::default(),
            watchers: Vec::new(),
            validators: Vec::new(),
            origin: None,
        };
        let state = State::genesis(&genesis);
        let key = SecretKey::from_seed([1; 32]);
        let host = AccountId::of(&key.public());
        let call = Call::Host(host::Call::Register {
            name: "alpha".into(),
            address: "http://127.0.0.1:1".into(),
            offer: types::Offer {
                capacity: types::Resources {
                    cpu_millis: 1_000,
                    memory_bytes: 1 << 30,
                    disk_bytes: 1 << 30,
                    bandwidth_kbps: 1_000,
                },
                architecture: "amd64".into(),
                region: "eu".into(),
                price_multiplier_milli: 1_000,
                builds: false,
            },
            owner: host,
            machine: Digest::default(),
            invitation: None,
        });
        let body = TransactionBody {
            network: genesis.digest(),
            key: key.public().into(),
            on_behalf: Vec::new(),
            nonce: 1,
            expires: 9,
            tip: types::Amount::ZERO,
            call,
        };
        let transaction = borsh::to_vec(&Transaction::sign(body, &key)).expect("encodes");
        let env = ledger::BlockEnv {
            height: 1,
            time_ms: 2,
            ..ledger::BlockEnv::default()
        };
        let state = state
            .execute(env, &[transaction], &|_| true)
            .expect("executed")
            .state;
        assert!(state.hosts.get(&host).is_some());
        let now = Instant::now();
        let mut ears = Ears::new(Digest::of(b"net"), now);
        let silent = |ears: &Ears, after: Duration| ears.votes(&state, 1, now + after, 1 << 40).0;
        let timeout = Duration::from_millis(state.params().host_timeout_ms);
        assert!(silent(&ears, timeout / 2).is_empty());
        assert_eq!(
            silent(&ears, timeout * 2),
            [host],
            "one that restarts is known"
        );
        ears.expects = now + INTRODUCED;
        assert!(silent(&ears, timeout * 2).is_empty());
        assert_eq!(
            silent(&ears, INTRODUCED + timeout * 2),
            [host],
            "in the end it is silent"
        );
        // Once it has been heard, its silence counts as ever.
        let first = beats(1, 1_000_000);
        assert!(ears.hear(&beat(&first, 1), now, 1_001_000, |_| true));
        assert_eq!(silent(&ears, timeout * 2), [host]);
    }

    #[test]
    fn signature_checks_are_bounded() {
        let now = Instant::now();
        let mut ears = Ears::new(Digest::of(b"net"), now);
        let taken = (0..3_000).filter(|_| ears.may_check(now)).count();
        assert_eq!(taken, CHECKS as usize);
        assert!(ears.may_check(now + Duration::from_millis(10)));
    }
}
