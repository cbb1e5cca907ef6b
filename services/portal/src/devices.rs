//! Machines that ask to act for somebody, until somebody says yes or no: in memory only, for
//! minutes.
//!
//! A code is short, because people type it; it opens nothing by itself: who is logged in reads
//! with it which machine asks, and signs a grant. The machine hears what became of it by a secret.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use api::{DeviceAnswer, DeviceCode};
use types::{AccountId, Digest, PublicKey};

use crate::people::Token;

pub const GOOD_MS: u64 = 10 * 60_000;
/// The machine asks this often what became of it.
const EVERY_S: u64 = 2;
/// Of all machines, and of one address.
const WAITING_MAX: usize = 2_000;
const OF_ADDRESS_MAX: usize = 100;
/// No vowels: no words; nothing that looks like something else.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const CODE_LETTERS: usize = 8;
const MACHINE_CHARS_MAX: usize = 60;

/// A machine that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub key: PublicKey,
    /// What it calls itself: one line.
    pub machine: String,
    pub address: IpAddr,
    pub asked_ms: u64,
}

impl Device {
    pub fn account(&self) -> AccountId {
        AccountId::of(&self.key)
    }
}

struct Waiting {
    device: Device,
    secret: Digest,
    answer: DeviceAnswer,
}

/// By code.
#[derive(Default)]
pub struct Devices(Mutex<BTreeMap<String, Waiting>>);

/// What somebody typed, as codes are kept: letters only, all of them great.
fn code_of(typed: &str) -> String {
    let letters = typed.chars().filter(char::is_ascii_alphabetic);
    letters
        .take(CODE_LETTERS + 1)
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

fn digest(secret: &Token) -> Digest {
    Digest::of_value("runrig-portal-device", &secret.0)
}

impl Devices {
    /// `None`: too many wait, in all or of this address.
    pub fn ask(
        &self,
        key: PublicKey,
        machine: &str,
        address: IpAddr,
        now_ms: u64,
    ) -> Option<DeviceCode> {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.retain(|_, waiting| now_ms.saturating_sub(waiting.device.asked_ms) < GOOD_MS);
        let of_address = all.values().filter(|w| w.device.address == address);
        if all.len() >= WAITING_MAX || of_address.count() >= OF_ADDRESS_MAX {
            return None;
        }
        let mut code = random_code();
        while all.contains_key(&code) {
            code = random_code();
        }
        let secret = Token::random();
        let machine: String = machine
            .chars()
            .filter(|c| !c.is_control())
            .take(MACHINE_CHARS_MAX)
            .collect();
        let device = Device {
            key,
            machine,
            address,
            asked_ms: now_ms,
        };
        let shown = format!("{}-{}", &code[..4], &code[4..]);
        let waiting = Waiting {
            device,
            secret: digest(&secret),
            answer: DeviceAnswer::Waiting,
        };
        all.insert(code, waiting);
        Some(DeviceCode {
            code: shown,
            secret: secret.hex(),
            page: "/device".into(),
            good_for_s: GOOD_MS / 1_000,
            every_s: EVERY_S,
        })
    }

    /// Who waits under a code that somebody typed.
    pub fn waiting(&self, typed: &str, now_ms: u64) -> Option<Device> {
        let all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let waiting = all.get(&code_of(typed))?;
        let good = now_ms.saturating_sub(waiting.device.asked_ms) < GOOD_MS
            && waiting.answer == DeviceAnswer::Waiting;
        good.then(|| waiting.device.clone())
    }

    /// Counts once: whoever waits hears it, and the code opens nothing more.
    pub fn answer(&self, typed: &str, answer: DeviceAnswer) {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(waiting) = all.get_mut(&code_of(typed))
            && waiting.answer == DeviceAnswer::Waiting
        {
            waiting.answer = answer;
        }
    }

    /// What became of the machine that has this secret.
    pub fn poll(&self, secret: &str, now_ms: u64) -> DeviceAnswer {
        let Some(secret) = Token::parse(secret).map(|s| digest(&s)) else {
            return DeviceAnswer::Gone;
        };
        let all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let found = all.values().find(|waiting| waiting.secret == secret);
        match found {
            Some(waiting) if now_ms.saturating_sub(waiting.device.asked_ms) < GOOD_MS => {
                waiting.answer.clone()
            }
            _ => DeviceAnswer::Gone,
        }
    }
}

fn random_code() -> String {
    use rand::seq::IndexedRandom;
    let letter = || LETTERS.choose(&mut rand::rng()).copied().unwrap_or(b'B');
    (0..CODE_LETTERS).map(|_| char::from(letter())).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use types::SecretKey;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn key() -> PublicKey {
        SecretKey::from_seed([1; 32]).public()
    }

    fn allowed() -> DeviceAnswer {
        DeviceAnswer::Allowed {
            account: AccountId::of(&key()),
            handle: "ada".into(),
            network: "dev".into(),
            url: "http://127.0.0.1:8700".into(),
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_minutes() {
        let devices = Devices::default();
        let asked = devices
            .ask(key(), "box\n\u{1b}[31m", HOME, 1_000)
            .expect("room");
        assert_eq!(asked.code.len(), CODE_LETTERS + 1);
        let typed = asked.code.to_lowercase().replace('-', " ");
        let device = devices.waiting(&typed, 2_000).expect("it waits");
        assert_eq!(device.machine, "box[31m");
        assert_eq!(devices.poll(&asked.secret, 2_000), DeviceAnswer::Waiting);
        assert_eq!(devices.waiting(&typed, 1_000 + GOOD_MS), None);
        assert_eq!(
            devices.poll(&asked.secret, 1_000 + GOOD_MS),
            DeviceAnswer::Gone
        );
        devices.answer(&typed, allowed());
        devices.answer(&typed, DeviceAnswer::Refused);
        assert_eq!(devices.poll(&asked.secret, 3_000), allowed());
        assert_eq!(devices.waiting(&typed, 3_000), None, "used");
        // Neither a code nor another's secret is told what became of it.
        for other in [asked.code.as_str(), "", "00", &Token::random().hex()] {
            assert_eq!(devices.poll(other, 3_000), DeviceAnswer::Gone);
        }
    }

    #[test]
    fn strangers_in_any_number_do_not_fill_memory() {
        let devices = Devices::default();
        for _ in 0..OF_ADDRESS_MAX {
            assert!(devices.ask(key(), "", HOME, 0).is_some());
        }
        assert!(devices.ask(key(), "", HOME, 0).is_none());
        for n in 0..WAITING_MAX as u32 {
            devices.ask(key(), "", IpAddr::V4(Ipv4Addr::from(n + 1)), 0);
        }
        let far = IpAddr::V4(Ipv4Addr::BROADCAST);
        assert!(devices.ask(key(), "", far, 1).is_none());
        assert!(devices.ask(key(), "", far, GOOD_MS).is_some());
        assert_eq!(devices.0.lock().expect("unpoisoned").len(), 1);
    }
}
