//! Give signs of life to the validators, beside the ledger (RFD 12).
//!
//! On a thread of its own: a host whose agent is busy is not silent. Validators answer each
//! beat; while a quorum of them does, nothing has to be said on the ledger. If they cannot be
//! reached this way (no UDP, a clock far off), [`crate::reporter::heartbeat`] says it there.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::Beats;
use rand::RngCore as _;
use types::{Digest, SecretKey};

use crate::machine::now_ms;

/// An answer counts for so many periods.
const ANSWERED: u32 = 5;
/// Longest answer that is read.
const ANSWER_BYTES: usize = 16;

/// Dropping it ends the thread.
pub struct Heart {
    shared: Arc<Shared>,
}

struct Shared {
    /// Validators' addresses, and when each answered last.
    validators: Mutex<Vec<(SocketAddr, Option<Instant>)>>,
    period: Duration,
}

impl Heart {
    /// Beats every `period` to all validators of `file` that watch. `None`: nobody does.
    ///
    /// Errors: no datagram can be sent from this machine.
    pub fn start(
        key: SecretKey,
        file: &api::NetworkFile,
        period: Duration,
    ) -> std::io::Result<Option<Self>> {
        let watchers = &file.genesis.watchers;
        let watches = |v: &&api::ValidatorAddress| watchers.iter().any(|w| hex(&w.0) == v.key);
        let addresses = file.validators.iter().filter(watches);
        let addresses: Vec<_> = addresses.filter_map(|v| address(&v.api)).collect();
        if addresses.is_empty() {
            return Ok(None);
        }
        let shared = Arc::new(Shared {
            validators: Mutex::new(addresses.into_iter().map(|a| (a, None)).collect()),
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

    /// Does a quorum of validators hear this host?
    pub fn is_heard(&self) -> bool {
        let validators = self.shared.validators.lock().expect("not poisoned");
        let fresh = self.shared.period * ANSWERED / 2;
        let answered = validators
            .iter()
            .filter(|(_, at)| at.is_some_and(|at| at.elapsed() < fresh));
        let all = validators.len();
        answered.count() >= all - all.saturating_sub(1) / 3
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
        let mut validators = self.validators.lock().expect("not poisoned");
        let mut answer = [0; ANSWER_BYTES];
        for _ in 0..2 * validators.len() {
            let Ok((length, from)) = socket.recv_from(&mut answer) else {
                break;
            };
            // Only who received the last beat can know it.
            if answer[..length] != expected {
                continue;
            }
            if let Some(known) = validators.iter_mut().find(|(at, _)| *at == from) {
                known.1 = Some(Instant::now());
            }
        }
        for (validator, _) in validators.iter() {
            if let Err(error) = socket.send_to(&datagram, validator) {
                tracing::debug!(%error, %validator, "a sign of life");
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

    #[test]
    fn addresses_are_those_of_the_api() {
        let known = address("http://127.0.0.1:8720");
        assert_eq!(known, "127.0.0.1:8720".parse().ok());
        assert_eq!(address("127.0.0.1:8720"), None);
    }
}
