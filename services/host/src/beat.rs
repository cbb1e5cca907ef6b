//! Give signs of life to the validators, beside the ledger (RFD 12).
//!
//! On a thread of its own: a host whose agent is busy is not silent. Validators answer each
//! beat; while a quorum of them does, nothing has to be said on the ledger. If they cannot be
//! reached this way (no UDP, a clock far off), [`crate::reporter::heartbeat`] says it there.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{Beats, MemberView, MembersView, NetworkFile, ValidatorAddress};
use rand::RngCore as _;
use types::{Digest, SecretKey};

use crate::machine::now_ms;

/// An answer counts for so many periods.
const ANSWERED: u32 = 5;
/// Spoken to: two committees.
const WATCHERS_MAX: usize = 256;
/// Longest answer that is read.
const ANSWER_BYTES: usize = 16;

/// Dropping it ends the thread.
pub struct Heart {
    shared: Arc<Shared>,
}

struct Shared {
    watchers: Mutex<Watchers>,
    period: Duration,
}

/// Who listens, as far as it is known here.
#[derive(Default)]
struct Watchers {
    /// How many sit in this epoch, also those whose address is not known.
    sit: usize,
    known: Vec<Watcher>,
}

struct Watcher {
    address: SocketAddr,
    /// In this epoch; the others will in one of the next.
    sits: bool,
    answered: Option<Instant>,
}

impl Watchers {
    /// Of `members`, by their addresses on the ledger, or in the network's file for founders.
    fn of(members: &MembersView, file: &NetworkFile) -> Self {
        let sits = |m: &&MemberView| m.seats.contains(&members.epoch);
        let seated = members.members.iter().filter(|m| !m.seats.is_empty());
        let known = seated.filter_map(|member| {
            let named = |v: &&ValidatorAddress| v.key == hex(&member.key.0);
            let founder = file.validators.iter().find(named).map(|v| v.api.as_str());
            let api = Some(member.api.as_str()).filter(|api| !api.is_empty());
            Some(Watcher {
                address: address(api.or(founder)?)?,
                sits: sits(&member),
                answered: None,
            })
        });
        Self {
            sit: members.members.iter().filter(sits).count(),
            known: known.take(WATCHERS_MAX).collect(),
        }
    }

    /// These instead, of which who answered before has answered.
    fn replace(&mut self, now: Self) {
        let before = std::mem::replace(self, now);
        for watcher in &mut self.known {
            let same = before.known.iter().find(|w| w.address == watcher.address);
            watcher.answered = same.and_then(|w| w.answered);
        }
    }

    /// Has a quorum of those who sit answered within `fresh`?
    fn hear(&self, fresh: Duration) -> bool {
        let answered = self
            .known
            .iter()
            .filter(|w| w.sits && w.answered.is_some_and(|at| at.elapsed() < fresh));
        let faulty = self.sit.saturating_sub(1) / 3;
        self.sit > 0 && answered.count() >= self.sit - faulty
    }
}

impl Heart {
    /// Beats every `period` to all who watch, as [`Self::learn`] has last said. `None`: on the
    /// network of `file` nobody does.
    ///
    /// Errors: no datagram can be sent from this machine.
    pub fn start(
        key: SecretKey,
        file: &NetworkFile,
        period: Duration,
    ) -> std::io::Result<Option<Self>> {
        if file.genesis.watchers.is_empty() {
            return Ok(None);
        }
        let shared = Arc::new(Shared {
            watchers: Mutex::default(),
            period,
        });
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_nonblocking(true)?;
        let network = file.genesis.digest();
        let heart = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("heart".into())
            .spawn(move || {
                let mut rhythm = Rhythm::new(key, network, period);
                while let Some(shared) = heart.upgrade() {
                    shared.beat(&socket, &mut rhythm);
                    drop(shared);
                    std::thread::sleep(period);
                }
            })?;
        Ok(Some(Self { shared }))
    }

    /// From now on speaks to those who sit in this epoch or one of the next.
    pub fn learn(&self, members: &MembersView, file: &NetworkFile) {
        let now = Watchers::of(members, file);
        let mut watchers = self.shared.watchers.lock().expect("not poisoned");
        watchers.replace(now);
    }

    /// Does a quorum of validators hear this host?
    pub fn is_heard(&self) -> bool {
        let watchers = self.shared.watchers.lock().expect("not poisoned");
        watchers.hear(self.shared.period * ANSWERED / 2)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Where the validator with that API listens for beats.
fn address(api: &str) -> Option<SocketAddr> {
    let named = api.strip_prefix("http://")?.trim_end_matches('/');
    named.to_socket_addrs().ok()?.find(SocketAddr::is_ipv4)
}

/// Which beat is next.
struct Rhythm {
    key: SecretKey,
    network: Digest,
    period_ms: u32,
    beats: Beats,
    last: u32,
    /// What answers the last beat.
    answer: [u8; 8],
}

impl Rhythm {
    fn new(key: SecretKey, network: Digest, period: Duration) -> Self {
        let period_ms = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
        let beats = anew(&key, &network, period_ms);
        Self {
            key,
            network,
            period_ms,
            beats,
            last: 0,
            answer: [0; 8],
        }
    }

    /// The datagram for now: beats that were missed are passed over.
    fn next(&mut self, now_ms: u64) -> Vec<u8> {
        let anchor = *self.beats.anchor();
        let passed = now_ms.saturating_sub(anchor.began_ms) / u64::from(self.period_ms.max(1));
        let number = u32::try_from(passed)
            .unwrap_or(u32::MAX)
            .max(self.last.saturating_add(1));
        self.last = number;
        if number > api::BEATS {
            self.beats = anew(&self.key, &self.network, self.period_ms);
            self.last = 1;
        }
        self.answer = self.beats.answer(self.last);
        self.beats.datagram(self.last)
    }
}

fn anew(key: &SecretKey, network: &Digest, period_ms: u32) -> Beats {
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let began_ms = now_ms().saturating_sub(period_ms.into());
    Beats::new(key, network, secret, began_ms, period_ms)
}

impl Shared {
    fn beat(&self, socket: &UdpSocket, rhythm: &mut Rhythm) {
        let expected = rhythm.answer;
        let datagram = rhythm.next(now_ms());
        let mut watchers = self.watchers.lock().expect("not poisoned");
        let mut answer = [0; ANSWER_BYTES];
        for _ in 0..2 * watchers.known.len() {
            let Ok((length, from)) = socket.recv_from(&mut answer) else {
                break;
            };
            // Only who received the last beat can know it.
            if answer[..length] != expected {
                continue;
            }
            if let Some(known) = watchers.known.iter_mut().find(|w| w.address == from) {
                known.answered = Some(Instant::now());
            }
        }
        for watcher in &watchers.known {
            if let Err(error) = socket.send_to(&datagram, watcher.address) {
                tracing::debug!(%error, validator = %watcher.address, "a sign of life");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Beat;

    use super::*;

    #[test]
    fn beats_follow_the_clock_and_never_repeat() {
        let key = SecretKey::from_seed([1; 32]);
        let network = Digest::of(b"net");
        let mut rhythm = Rhythm::new(key, network, Duration::from_secs(1));
        let began = rhythm.beats.anchor().began_ms;
        let number = |bytes: Vec<u8>| Beat::read(&bytes).expect("a beat").number;
        assert_eq!(number(rhythm.next(began + 1_000)), 1);
        assert_eq!(number(rhythm.next(began + 1_500)), 2, "a clock that stands");
        assert_eq!(number(rhythm.next(began + 9_000)), 9, "a pause");
        let before = rhythm.beats.anchor().hash;
        assert_eq!(number(rhythm.next(began + 900_000)), 1, "a new anchor");
        assert_ne!(rhythm.beats.anchor().hash, before);
    }

    fn member(n: u8, api: &str, seats: &[u64]) -> MemberView {
        MemberView {
            key: types::PublicKey([n; 32]),
            owner: types::AccountId::default(),
            address: String::new(),
            api: api.into(),
            bond: types::Amount::ZERO,
            until: 9,
            place: None,
            other_duties: false,
            seats: seats.to_vec(),
            led: 0,
            witness: false,
            witnessed: 0,
            screener: false,
            screened: 0,
            earned: types::Amount::ZERO,
            convicted: None,
            leaving: None,
        }
    }

    #[test]
    fn it_speaks_to_who_sits_and_will_sit_and_is_heard_by_a_quorum_of_who_sits() {
        let members = |epoch, members| MembersView {
            height: 1,
            epoch,
            epoch_blocks: 16,
            bond: types::Amount::ZERO,
            ticket_bits: 0,
            ticket_epochs: 9,
            ticket: None,
            members,
        };
        let api = |n: u8| format!("http://127.0.0.1:{n}");
        let mut watchers = Watchers::default();
        let fresh = Duration::from_secs(60);
        assert!(!watchers.hear(fresh), "nobody is known");
        // The founder 1 is in the network's file alone, and 5 sits without an address.
        let file = NetworkFile {
            genesis: genesis(),
            committee: String::new(),
            network_key: String::new(),
            validators: vec![ValidatorAddress {
                key: hex(&[1; 32]),
                p2p: String::new(),
                api: api(1),
            }],
            gateway: None,
        };
        let mut all = vec![member(1, "", &[4, 5]), member(5, "", &[4])];
        all.extend((2..4).map(|n| member(n, &api(n), &[4])));
        all.push(member(6, &api(6), &[6, 7]));
        all.push(member(7, &api(7), &[]));
        watchers.replace(Watchers::of(&members(4, all.clone()), &file));
        let ports = |w: &Watchers| w.known.iter().map(|w| w.address.port()).collect::<Vec<_>>();
        assert_eq!((watchers.sit, ports(&watchers)), (4, vec![1, 2, 3, 6]));
        let answer = |watchers: &mut Watchers, port| {
            let known = watchers.known.iter_mut().find(|w| w.address.port() == port);
            known.expect("known").answered = Some(Instant::now());
        };
        for port in [1, 2, 6] {
            answer(&mut watchers, port);
        }
        assert!(!watchers.hear(fresh), "two of four who sit");
        answer(&mut watchers, 3);
        assert!(watchers.hear(fresh));
        // Two epochs on only one of them is left; the new one was heard before it sat.
        all.truncate(1);
        all.push(member(6, &api(6), &[6, 7]));
        all[0].seats = vec![6];
        watchers.replace(Watchers::of(&members(6, all), &file));
        assert_eq!((watchers.sit, ports(&watchers)), (2, vec![1, 6]));
        assert!(watchers.hear(fresh) && !watchers.hear(Duration::ZERO));
    }

    fn genesis() -> ledger::Genesis {
        ledger::Genesis {
            name: "test".into(),
            time_ms: 1,
            params: ledger::Params::dev(),
            balances: Vec::new(),
            faucet: types::AccountId::default(),
            validators: Vec::new(),
            watchers: Vec::new(),
            origin: None,
        }
    }

    #[test]
    fn addresses_are_those_of_the_api() {
        let known = address("http://127.0.0.1:8720");
        assert_eq!(known, "127.0.0.1:8720".parse().ok());
        assert_eq!(address("127.0.0.1:8720"), None);
    }
}
